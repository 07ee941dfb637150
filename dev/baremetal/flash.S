// flash.S -- the files that go into flash as they are: for the assembler of any processor.
    .section .rodata
    .balign 64
    .global flash_base, flash_rows, flash_rows_end
flash_base:
    .incbin "base.bin"
    .balign 64
flash_rows:
    .incbin "rows"
flash_rows_end:
    .section .note.GNU-stack, "", %progbits

// cortex_m.c -- from reset to fine_tune on a Cortex-M4 with a floating-point unit: ARM's MPS2 board, image AN386, as
// qemu-system-arm has it. Nothing is below this file: it sets up memory, the FPU, a serial port and the stack.
//
// Another board has another address and set-up of its serial port, and other regions in cortex_m.ld.
#include "port.h"
#include <stddef.h>

// Of the linker: cortex_m.ld
extern uint32_t data_begin[], data_end[], bss_begin[], bss_end[], stack_begin[], stack_end[];
extern const uint32_t data_flash[];

// ---- the serial port: CMSDK APB UART 0 --------------------------------------------------------------------
static volatile uint32_t *const UART = (volatile uint32_t *)0x40004000;
enum { DATA, STATE, CTRL, INTERRUPT, DIVISOR };   // its registers
enum { STATE_FULL = 1, CTRL_SEND = 1 };

void print_text(const char *s) {
    for (; *s; s++) {
        while (UART[STATE] & STATE_FULL) { }
        UART[DATA] = (uint8_t)*s;
    }
}

// ---- the stack --------------------------------------------------------------------------------------------
static const uint32_t PAINT = 0xa5a5a5a5;

// How deep it was ever used, by the paint that is left at its far end.
static void print_stack(void) {
    const uint32_t *p = stack_begin;
    char digit[12], *s = digit + sizeof digit - 1;
    while (p < stack_end && *p == PAINT) p++;
    uint32_t bytes = (uint32_t)(stack_end - p) * 4;
    *s = 0;
    do *--s = (char)('0' + bytes % 10);
    while (bytes /= 10);
    print_text("stack ");
    print_text(s);
    print_text(" bytes\n");
}

// ---- start and end ----------------------------------------------------------------------------------------

// A debugger, which qemu plays, takes this instruction as a request to end (ARM's semihosting, SYS_EXIT).
static void end(uint32_t why) {
    __asm volatile("mov r0, #0x18\n mov r1, %0\n bkpt 0xab" : : "r"(why) : "r0", "r1", "memory");
    for (;;) { }
}
enum { EXIT_GOOD = 0x20026, EXIT_BAD = 0x20024 };

void fault(void) {
    print_text("fault\n");
    end(EXIT_BAD);
}

static void run(void) {
    const char *wrong = fine_tune();
    print_text(wrong ? wrong : "done");
    print_text("\n");
    print_stack();
    end(wrong ? EXIT_BAD : EXIT_GOOD);
}

void reset(void) {
    volatile uint32_t *const access = (volatile uint32_t *)0xe000ed88;    // CPACR: the FPU, off after reset
    *access |= 0xfu << 20;
    __asm volatile("dsb\n isb");
    for (size_t i = 0; data_begin + i < data_end; i++) data_begin[i] = data_flash[i];
    for (uint32_t *p = bss_begin; p < bss_end; p++) *p = 0;
    uint32_t *here = __builtin_frame_address(0);
    for (uint32_t *p = stack_begin; p < here - 16; p++) *p = PAINT;
    UART[DIVISOR] = 16;
    UART[CTRL] = CTRL_SEND;
    run();
}

// What the processor reads first: the stack's end, reset, and the handlers of everything that should not happen.
typedef union { const void *stack; void (*handler)(void); } Vector;
__attribute__((section(".vectors"), used)) static const Vector VECTOR[16] = {
    {.stack = stack_end}, {.handler = reset}, {.handler = fault}, {.handler = fault},
    {.handler = fault},   {.handler = fault}, {.handler = fault}, {.handler = fault},
    {.handler = fault},   {.handler = fault}, {.handler = fault}, {.handler = fault},
    {.handler = fault},   {.handler = fault}, {.handler = fault}, {.handler = fault},
};

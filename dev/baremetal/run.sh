#!/bin/sh
# run.sh -- make baremetal: fine-tunes a tiny model on a microcontroller without an operating system, in qemu, and the
# same on the host, by the same code and by ./train. All losses and the adapter must agree to the last bit. Then the
# functions that model.c and tokenizer.c ask for must be those that README.md lists, and none more.
#
#   dev/baremetal/run.sh BUILD        BUILD: the folder with train; needs gcc-arm-none-eabi, libnewlib-arm-none-eabi,
#                                     qemu-system-arm
cd "$(dirname "$0")/../.." || exit 1
. tests/lib.sh
train=${1:-build/native}/train
here=dev/baremetal out=build/baremetal
steps=30 batch=4 rank=4
rm -rf $out
mkdir -p $out

# The rules of the house for numbers, and no library beyond what the image is linked with
flags="-std=c99 -Wall -Wextra -Wshadow -Wconversion -Wno-unknown-pragmas -Werror -O2 -ffp-contract=off -fno-math-errno -DNDEBUG -DREFERENCE"
settings="-DSTEPS=$steps -DBATCH=$batch -DRANK=$rank"
cross=arm-none-eabi
cpu="-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16 -ffreestanding -fbuiltin -ffunction-sections"

quiet() { "$@" > "$tmp/said" 2>&1 || { cat "$tmp/said" >&2; return 1; }; }
line() { sed -n "s/^$2 //p" "$1"; }

# The model that goes into flash, and the rows; both are made here, from the demo's messages and rows.jsonl
make_flash() {
    sed -n 's/^{"input": "\(.*\)", "output": .*/\1/p' dev/demo/train.jsonl | head -n 400 > "$tmp/text"
    quiet "$train" --init "layers=2 heads=2 width=32 context=64 vocab=400 rms=1 rope=1 swiglu=1" --text "$tmp/text" \
        --split 0 --steps 100 --batch 8 --lr 0.003 --dtype bf16 --out $out/base.bin &&
        sed 's/^{"prompt": "\(.*\)", "completion": "\(.*\)"}$/\1\n\2/' $here/rows.jsonl | tr '\n' '\0' > $out/rows
}
# What ./train gets: the tensors of its adapter begin where byte 176 of the header says
by_train() {
    quiet "$train" --model $out/base.bin --data $here/rows.jsonl --split 0 --steps $steps --batch $batch \
        --lora $rank --threads 1 --out $out/adapter.bin || return 1
    at=$(od -A n -t u8 -j 176 -N 8 $out/adapter.bin)
    tail -c +$((at + 1)) $out/adapter.bin | sha256sum | cut -c 1-64 > $out/train.sum
}
by_host() {
    ${CC:-cc} $flags $settings -DARENA="$1" -I $out -o $out/host $here/host.c $here/device.c $here/flash.S model.c \
        tokenizer.c -lm && $out/host > $out/host.txt || { cat $out/host.txt; return 1; }
}
build_image() {
    for c in model.c tokenizer.c $here/device.c $here/cortex_m.c $here/flash.S; do
        $cross-gcc $flags $settings -DARENA="$1" $cpu -I $out -c $c -o $out/$(basename "${c%.*}").o || return 1
    done
    $cross-gcc $cpu -nostartfiles -T $here/cortex_m.ld -Wl,--gc-sections -o $out/image.elf $out/model.o \
        $out/tokenizer.o $out/device.o $out/cortex_m.o $out/flash.o -lm
}
by_device() {
    timeout 300 qemu-system-arm -M mps2-an386 -nographic -monitor none -serial stdio \
        -semihosting-config enable=on,target=native -kernel $out/image.elf < /dev/null > $out/device.txt ||
        { cat $out/device.txt; return 1; }
}
agree() {
    sed '/^stack /d' $out/device.txt | diff $out/host.txt - && [ "$(grep -c '^step' $out/host.txt)" = $steps ]
}
adapters_agree() { [ "$(line $out/device.txt adapter)" = "$(cat $out/train.sum)" ]; }

# The functions that the two rooms need, without those of the compiler's own run-time library, against README's table
needed() { $cross-nm -u $out/model.o $out/tokenizer.o | sed -n 's/^ *U //p' | grep -v '^__aeabi_' | sort -u; }
listed() { sed -n 's/^| `\([a-z0-9]*\)` .*/\1/p' $here/README.md | sort; }
needs_listed() {
    needed | grep -v -E '^(model|tokenizer|rng|hash|template|text|twister|sum|sha256|utf8|words)_' > "$tmp/needed"
    listed | diff "$tmp/needed" -
}
# Nothing of an operating system, no heap, no formatted output has come in from the library
no_system() {
    $cross-nm $out/image.elf > "$tmp/symbols" && grep -q -w reset "$tmp/symbols" &&
        ! grep -w -E '_sbrk|_write|_read|_open|malloc|_malloc_r|printf|exit|abort' "$tmp/symbols"
}

for tool in $cross-gcc qemu-system-arm; do
    command -v $tool > /dev/null || { echo "$tool is not here: gcc-arm-none-eabi, libnewlib-arm-none-eabi, qemu-system-arm"; exit 1; }
done
check "a model and rows for flash" make_flash
check "./train on the host" by_train
check "the device's program on the host, with memory to spare" by_host 4194304
memory=$(line $out/host.txt memory | cut -d ' ' -f 1)
check "the same in the $memory bytes that it asked for" by_host "$memory"
check "the image" build_image "$memory"
check "the image in qemu" by_device
check "the same plan, memory and loss bits as on the host" agree
check "the adapter that ./train makes" adapters_agree
check "model.c and tokenizer.c need the functions in README.md's list" needs_listed
check "the image has nothing of a system in it" no_system
cat $out/device.txt
$cross-size -A $out/image.elf | awk '$1 ~ /^\.(text|data|bss|stack)$/ {print "section " $1, $2, "bytes"}'
printf 'in flash: the model %d bytes, its program %d; memory: %d bytes\n' "$(wc -c < $out/base.bin)" \
    $(($($cross-size $out/image.elf | awk 'NR == 2 {print $1 + $2}') - $(wc -c < $out/base.bin))) \
    "$($cross-size $out/image.elf | awk 'NR == 2 {print $2 + $3}')"
finish

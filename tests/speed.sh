#!/bin/sh
# speed.sh BUILD -- ./bench from outside: which figures there are, not how large; what they count; refusals.
#
#   tests/speed.sh build/native       BUILD holds bench
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "${1:?usage: tests/speed.sh BUILD}" && pwd) || exit 1
. "$here/lib.sh"
cd "$tmp" || exit 1

bench() { "$bin/bench" --config demo --repeat 1 "$@" 2> stderr; }
refuses() {                                       # PATTERN OPTIONS...: status 1, nothing on stdout, a message
    pattern=$1
    shift
    "$bin/bench" --repeat 1 "$@" > got 2> stderr
    [ $? -eq 1 ] && [ ! -s got ] && grep -E -e "$pattern" stderr || { cat got stderr; echo "want: $pattern"; return 1; }
}
value() { sed -n "s/^{\"what\": \"$1[^\"]*\", \"value\": \([0-9.e+-]*\).*/\1/p" "$2" | head -n 1; }

# ---- a step and its kernels --------------------------------------------------------------------------------------

# The benchmark's model.c without its marks is model.c: nothing else was changed by sed.
marked() {
    sed -e 1,2d -e 's/MARK(\([a-z_]*\), m/\1(m/' "$bin/model_marked.c" > unmarked.c
    cmp unmarked.c "$here/../model.c" && [ "$(grep -c MARK "$bin/model_marked.c")" -gt 40 ]
}
[ -f "$bin/model_marked.c" ] || { echo "left out: $1 has no marked model.c"; exit 0; }
check "the marked model.c is model.c and marks" marked

bench train --batch 2 --seq 32 --json > full || cat stderr
bench train --batch 2 --seq 32 --json --lora 4 --recompute > lora || cat stderr

names() {                                         # FILE NAMES...: each has a line of its own, with a share above 0
    file=$1
    shift
    for name; do
        awk -v x="$(value "  $name" "$file")" 'BEGIN {exit !(x > 0 && x < 100)}' || { cat "$file"; echo "want: $name"; return 1; }
    done
}
products() {
    for layer in qkv proj fc1 fc2 head; do
        for kind in forward dX dW; do names full "$layer $kind" || return 1; done
    done
}
check "every matrix product of a step has its line" products
check "every other kernel too" names full "attention forward" "attention backward" "norm forward" "norm backward" \
    "activation forward" "activation backward" "residual add" "bias gradients" embedding "embedding gradient" \
    cross-entropy "zero gradients" "gradient norm" AdamW
check "with LoRA too" names lora LoRA "qkv forward" "fc1 dX" "head dX" "attention backward" AdamW
no_dw() { ! grep -q '"  [a-z0-9]* dW"' lora || { cat lora; return 1; }; }
check "with LoRA frozen weights have no product for their gradient" no_dw

# Shares of the kernels, of which every one belongs to one line, add up to the step; little is nobody's.
adds_up() {
    awk -F'[:,]' -v after="$1" '/"  update"/ {on = 1; next} /all products/ {on = 0}
        on {sum += $4} on && /"  other"/ {other = $4}
        END {print sum, other; exit !(sum > 85 && sum < 115 && other < 5)}' "$2"
}
check "the kernels add up to the step" adds_up full full
check "with LoRA and --recompute too" adds_up lora lora

# GFLOP/s are the count of the definition: 6 flops a weight and token, 12 A L T (T + 1) / 2 for attention a row.
counted() {
    awk -v g="$(value "full step demo" full)" -v t="$(value "  tokens per second" full)" 'BEGIN {
        weights = 6 * 12 * 192 * 192 + 2048 * 192
        want = t * 1e-9 * (6 * weights + 12 * 192 * 6 * 33 / 2)
        print g, want
        exit !(g > 0 && g / want > 0.9999 && g / want < 1.0001)}'
}
check "flops are counted as defined" counted
plan() { grep -q '"full step demo.*"resident_gib": 0.0[0-9]*, "plan_gib": 0.0[1-9]' full || { cat full; return 1; }; }
check "resident memory stands beside the plan" plan

# ---- the other words ---------------------------------------------------------------------------------------------

lines() {                                         # WORD WANT OPTIONS...: a line that begins so, figure above 0
    word=$1 want=$2
    shift 2
    bench "$word" --json "$@" > got || { cat got stderr; return 1; }
    awk -v x="$(value "$want" got)" 'BEGIN {exit !(x > 0)}' || { cat got stderr; return 1; }
}
check "peak: multiply-adds" lines peak "peak, 12 x 32 sums"
check "peak: memory" lines peak "memory, read"
check "infer: prefill and decoding" lines infer "decode after 255 tokens, 1 x 1"
check "eval: the loss of rows" lines eval "loss of rows, B=2 T=16" --batch 2 --seq 16
check "tokenize" lines tokenize "tokenize, 1 thread" --model "$here/../dev/demo/base.bin" --text "$here/../README.md"

# ---- refusals ----------------------------------------------------------------------------------------------------

check "refuses an unknown word"          refuses "'fast', want peak, train, growth" fast
check "refuses an unknown configuration" refuses "config: 'gpt3', want gpt2-124m" train --config gpt3
check "refuses more tokens than the model can see" refuses "tokens in a row = 512, want 1..256" train --config demo --seq 512
check "refuses a text that is not there" refuses "nowhere.txt" tokenize --model "$here/../dev/demo/base.bin" --text nowhere.txt
full_disk() { ! "$bin/bench" --repeat 1 peak > /dev/full; }
[ ! -c /dev/full ] || check "says so if its output cannot be written" full_disk
finish

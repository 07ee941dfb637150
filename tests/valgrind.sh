#!/bin/sh
# valgrind.sh -- the tests of data.c and tokenizer.c, and each program once, under valgrind: no value is used before it
# was set, no byte outside its block is touched, no block is lost, in failure as in success.
#
#   tests/valgrind.sh                 from anywhere; builds in build/valgrind, without AVX-512, which valgrind lacks
cd "$(dirname "$0")/.." || exit 1
. tests/lib.sh
unset MAKEFLAGS MFLAGS                            # those of a make that this script was called from
CK_FORK=no OMP_NUM_THREADS=1 TMPDIR=$tmp         # the unit tests too leave nothing behind
export CK_FORK OMP_NUM_THREADS TMPDIR
command -v valgrind > /dev/null || { echo "want valgrind, which is not here"; exit 1; }

build=build/valgrind arch=
if [ "$(uname -m)" = x86_64 ] && grep -qw avx2 /proc/cpuinfo 2> /dev/null; then arch=-march=x86-64-v3; fi
make -s -j 2 BUILD=$build OPT='-O2 -g' ARCH="$arch" \
    $build/test_rooms $build/train $build/eval $build/chat $build/convert || exit 1

# under STATUS PROGRAM ARGUMENTS...: the program must exit with STATUS; valgrind makes it 9 if it has found something
under() {
    want=$1 program=$build/$2 status=0
    shift 2
    valgrind -q --error-exitcode=9 --leak-check=full "$program" "$@" < /dev/null || status=$?
    [ "$status" -eq "$want" ] || { echo "exit status $status, want $want"; return 1; }
}

head -n 40 dev/demo/train.jsonl > "$tmp/rows"
{ cat "$tmp/rows"; echo '{"input": "x", "output" "y"}'; } > "$tmp/syntax"
printf '{"input": "dear shop", "output": "%s"}\n' delivery returns billing > "$tmp/few"
sizes="layers=1 heads=2 width=16 context=64 vocab=280"
base=$tmp/base.bin tuned=$tmp/tuned.bin one="--threads 1"

check "train --init"       under 0 train --init "$sizes" --text "$tmp/rows" --steps 2 --batch 2 $one --out "$base"
check "train on pairs"     under 0 train --model "$base" --data "$tmp/rows" --too-long cut --steps 2 --batch 3 \
                                 --micro 2 --save-every 1 --log "$tmp/log" $one --out "$tuned"
check "eval loss"          under 0 eval loss --model "$base" --vs "$tuned" --data "$tmp/few" $one
check "eval answers"       under 0 eval answers --model "$base" --vs "$tuned" --data "$tmp/few" --shots 1 \
                                 --examples "$tmp/few" --max-tokens 4 --log "$tmp/log" $one
check "chat"               under 0 chat --model "$tuned" --prompt hello --max-tokens 4 $one
check "explain"            under 0 explain --model "$base" --data "$tmp/few" --row 2 $one
check "survey"             under 0 survey "$tmp/few" --val "$tmp/few" --model "$base" --log "$tmp/survey"
check "convert --info"     under 0 convert --info "$tuned"
check "convert --diff"     under 0 convert --diff "$base" "$tuned"
check "train refuses data" under 1 train --model "$base" --data "$tmp/syntax" --out "$tmp/out.bin"
check "train refuses to resume" under 1 train --model "$base" --data "$tmp/few" --resume $one --out "$tmp/out.bin"
check "eval refuses a model" under 1 eval answers --model "$base" --vs "$tmp/rows" --data "$tmp/few" --max-tokens 2
check "chat refuses a model" under 1 chat --model "$tmp/rows" --prompt hello
check "unit tests of tokenizer.c and data.c" under 0 test_rooms
finish

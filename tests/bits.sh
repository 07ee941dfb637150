#!/bin/sh
# bits.sh -- the same bytes everywhere: from gcc and clang, -O0, -O2 and -O3, the native, reference and portable build,
# the last held to each of its instruction sets, and 1 to 8 threads. What is compared is a checkpoint after 20 steps from
# random weights on text and, from there, 20 on pairs. Its lineage has the SHA-256 of the one before, so equal sums at the
# end mean equal files on the way.
#
#   tests/bits.sh                     from anywhere; builds in build/bits-*, which may be kept
cd "$(dirname "$0")/.." || exit 1
. tests/lib.sh
unset MAKEFLAGS MFLAGS                            # those of a make that this script was called from

data=dev/demo/train.jsonl
head -n 120 $data > "$tmp/rows"
messages() { sed -n 's/^{"input": "\(.*\)", "output": .*/\1/p' "$1"; }
messages "$tmp/rows" > "$tmp/text"
messages $data > "$tmp/long"

# Small sizes off the kernels' tiles; three shapes of block
sizes="layers=2 width=40 context=48 vocab=300"
gpt2="$sizes heads=2"
llama="$sizes heads=4 rms=1 rope=1 swiglu=1 kv_heads=1 tied=0"
qwen="$llama kv_heads=2 qkv_bias=1 qk_norm=1"

# train BUILD ARGUMENTS...: what it printed is shown if it fails
train() {
    program=$1/train
    shift
    "$program" "$@" 2> "$tmp/stderr" || { cat "$tmp/stderr" >&2; return 1; }
}
sum() { sha256sum < "$1" | cut -c 1-16; }

# The sum of a small model after pretraining, fine-tuning and an adapter on bf16:   small BUILD SHAPE THREADS
small() {
    rm -f "$tmp/base" "$tmp/tuned" "$tmp/adapter"
    train "$1" --init "$2" --text "$tmp/text" --steps 20 --batch 2 --threads "$3" --out "$tmp/base" &&
        train "$1" --model "$tmp/base" --data "$tmp/rows" --too-long cut --steps 20 --batch 3 --threads "$3" \
            --dtype bf16 --out "$tmp/tuned" &&
        train "$1" --model "$tmp/tuned" --data "$tmp/rows" --too-long cut --steps 5 --batch 3 --threads "$3" --lora 3 \
            --out "$tmp/adapter" && sum "$tmp/adapter"
}
# The sum of a model as large as the demo's:   large BUILD THREADS
large() {
    rm -f "$tmp/base"
    train "$1" --init "layers=5 heads=6 width=192 context=320 vocab=2048" --text "$tmp/long" --split 0 --steps 20 \
        --batch 1 --threads "$2" --out "$tmp/base" && sum "$tmp/base"
}

# A line of the table; the first line's sums are what all others must have.   line NAME SUM...
line() {
    name=$1
    shift
    [ -n "$want" ] || want=$*
    if [ "$*" = "$want" ] && [ "${#want}" -eq "$width" ]; then
        passed=$((passed + 1)) verdict=ok
    else
        failed=$((failed + 1)) verdict=FAIL
    fi
    printf '%-24s' "$name"
    printf ' %-16s' "$@"
    printf ' %s\n' "$verdict"
}
small_line() { line "$1" "$(small "$2" "$gpt2" "$3")" "$(small "$2" "$llama" "$3")" "$(small "$2" "$qwen" "$3")"; }

# flavour COMPILER NAME MAKE-VARIABLES...: builds, then a line of the table
flavour() {
    cc=$1 kind=$2 build=build/bits-$1-$2
    shift 2
    if make -s -j 2 CC="$cc" BUILD="$build" "$@" "$build/train" > "$tmp/made" 2>&1; then small_line "$cc $kind" "$build" 2
    else cat "$tmp/made" && line "$cc $kind" "not built"; fi
}

compilers=
for compiler in gcc clang; do
    if command -v $compiler > /dev/null; then compilers="$compilers $compiler"
    else echo "note: no $compiler here, so it was skipped"; fi
done
: "${compilers:=cc}"

want="" width=50                                  # three sums of 16 digits
printf '%-24s %-16s %-16s %-16s\n' "small model" gpt2 llama qwen
for compiler in $compilers; do
    flavour "$compiler" native OPT=-O3
    flavour "$compiler" native-O2 OPT=-O2
    flavour "$compiler" native-O0 OPT=-O0
    case $($compiler -dumpmachine) in             # the highest allowed: AVX-512, AVX2, neither
    x86_64*) for level in 4 3 1; do flavour "$compiler" portable-v$level OPT=-O3 ARCH= LEVELS=$level; done ;;
    *) flavour "$compiler" portable OPT=-O3 ARCH= ;;
    esac
    flavour "$compiler" reference OPT=-O3 DEFINE=-DREFERENCE
done
first=build/bits-$(echo $compilers | cut -d ' ' -f 1)-native
for threads in 1 3 8; do small_line "$threads threads" "$first" $threads; done

want="" width=16
printf '\n%-24s %-16s\n' "the demo's size" gpt2
for compiler in $compilers; do
    for threads in 1 2; do line "$compiler, $threads threads" "$(large "build/bits-$compiler-native" $threads)"; done
done
# Where a program has several instruction sets, one of them makes the plan, and another may be what runs.
portable=${first%native}portable-v4
[ ! -d "$portable" ] || line "portable-v4, 2 threads" "$(large "$portable" 2)"
finish

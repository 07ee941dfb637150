#!/bin/sh
# corpus.sh BUILD FUZZ [keep FOUND] -- reads the seeds and the corpus kept in dev/fuzz/corpus under AddressSanitizer and
# UndefinedBehaviorSanitizer, with any compiler. Fails at the first input that a sanitizer or an assertion objects to.
#     dev/fuzz/corpus.sh build/native build/fuzz
#     dev/fuzz/corpus.sh build/native build/fuzz keep build/fuzz/found      takes over what a run of the fuzzer found:
# of each target the fewest inputs of at most 4 KiB that reach all that such inputs reach.
set -eu
out=$2 here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
LC_ALL=C OMP_NUM_THREADS=1 ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1
export LC_ALL OMP_NUM_THREADS ASAN_OPTIONS
mkdir -p "$out"
rm -rf "$out/seeds"
"$here/seeds.sh" "$1" "$out/seeds" 2> /dev/null
SEEDS=$(cd "$out/seeds" && pwd)
export SEEDS
if [ "${3:-}" = keep ]; then
    for TARGET in $(cd "$SEEDS" && find . -mindepth 1 -maxdepth 1 -type d ! -name hf | sed 's/..//' | sort); do
        export TARGET
        program=$out/fuzz
        [ "$TARGET" = eval ] && program=${out}/fuzz_eval
        small=$out/small/$TARGET
        rm -rf "$small" && mkdir -p "$small" "$here/corpus/$TARGET"
        find "$4/$TARGET" "$here/corpus/$TARGET" -type f -size -9 -exec cp {} "$small" \;
        rm -rf "$here/corpus/$TARGET" && mkdir -p "$here/corpus/$TARGET"
        "$program" -merge=1 -max_len=4096 -close_fd_mask=3 "$here/corpus/$TARGET" "$small" 2> /dev/null
        echo "$TARGET: $(ls "$here/corpus/$TARGET" | wc -l) inputs kept"
    done
    exit 0
fi
sanitize="-g -O1 -std=c99 -ffp-contract=off -fno-math-errno -Wno-unknown-pragmas -fsanitize=address,undefined -fno-sanitize-recover=all"
cd "$top"
formats="dev/import.c dev/jinja.c dev/hf.c dev/hf_tokenizer.c dev/gguf.c dev/llama2c.c"
${CC:-cc} $sanitize -I. dev/fuzz/fuzz.c dev/fuzz/replay.c $formats model.c tokenizer.c data.c -o "$out/replay" -lm
${CC:-cc} $sanitize -I. dev/fuzz/fuzz_eval.c dev/fuzz/replay.c model.c tokenizer.c data.c -o "$out/replay_eval" -lm
for TARGET in $(cd "$here/corpus" && ls); do
    export TARGET
    program=$out/replay
    [ "$TARGET" = eval ] && program=${out}/replay_eval
    find "$here/corpus/$TARGET" "$SEEDS/$TARGET" -type f > "$out/list"
    # shellcheck disable=SC2046
    if "$program" $(cat "$out/list") > "$out/said" 2> "$out/errors"; then
        echo "$TARGET: $(tail -1 "$out/said")"
    else
        echo "$TARGET: FAILED"
        grep -v '^eval: ' "$out/errors" | head -20
        exit 1
    fi
done

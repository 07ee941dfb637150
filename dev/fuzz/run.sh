#!/bin/sh
# run.sh SECONDS FUZZ SEEDS OUT [TARGET...] -- each target for this long, from the seeds, what was found before in OUT, and
# the corpus kept in dev/fuzz/corpus. Prints executions, coverage and memory of each; fails if one found something.
#     dev/fuzz/run.sh 600 build/fuzz build/fuzz/seeds build/fuzz/found
#
# Inputs have at most 80 KiB. "A small multiple of its size": no single allocation above 64 MiB, and 512 MiB resident
# with the sanitizer's own; "linear": 10 seconds for one input, under the sanitizers.
set -u
time=$1 bin=$2 out=$4 here=$(cd "$(dirname "$0")" && pwd)
SEEDS=$(cd "$3" && pwd) OMP_NUM_THREADS=1 ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1
export SEEDS OMP_NUM_THREADS ASAN_OPTIONS
shift 4
[ $# -gt 0 ] || set -- checkpoint state safetensors gguf tokenizer_json config_json rows template tokenizer eval
bad=0
for TARGET in "$@"; do
    export TARGET
    mkdir -p "$out/$TARGET" "$out/crashes"
    program=$bin/fuzz
    [ "$TARGET" = eval ] && program=$bin/fuzz_eval
    "$program" -max_total_time="$time" -max_len=81920 -timeout=10 -rss_limit_mb=512 -malloc_limit_mb=64 \
        -print_final_stats=1 -close_fd_mask=3 -artifact_prefix="$out/crashes/$TARGET-" "$out/$TARGET" \
        "$SEEDS/$TARGET" $([ -d "$here/corpus/$TARGET" ] && echo "$here/corpus/$TARGET") > "$out/$TARGET.log" 2>&1
    rc=$?
    awk -v t="$TARGET" -v rc=$rc '
        /cov:/ { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1); if ($i == "ft:") ft = $(i + 1); if ($i == "corp:") corp = $(i + 1) } }
        /number_of_executed_units/ { n = $2 } /peak_rss_mb/ { rss = $2 }
        END { printf "%-16s %10s executions  %6s edges  %7s features  corpus %-14s %5s MiB  %s\n", t, n, cov, ft, corp, rss,
              rc ? "FOUND SOMETHING" : "nothing found" }' "$out/$TARGET.log"
    [ $rc -eq 0 ] || bad=1
done
[ $bad -eq 0 ] || { echo "what was found is in $out/crashes"; ls "$out/crashes"; }
exit $bad

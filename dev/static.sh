#!/bin/sh
# static.sh -- what programs that only read the source find: cppcheck, clang-tidy with the checks of .clang-tidy, gcc's
# analyzer; over the top level and dev/. Prints each tool's version and findings; fails if there is one, or no tool, or
# a tool that fails itself. An exception is explained where it is, and counted:
#   // cppcheck-suppress NAME ; why          the line above
#   // NOLINT(NAME): why                     clang-tidy, the same line; NOLINTNEXTLINE: the next one
#   // analyzer: why                         gcc, the same line or the one above
#
#   dev/static.sh                     from anywhere: all three
#   dev/static.sh cppcheck FILE...    one of cppcheck, clang-tidy, gcc, over these files
cd "$(dirname "$0")/.." || exit 1
tools="cppcheck clang-tidy gcc"
if [ $# -gt 0 ]; then tools=$1 && shift; fi
# dev/parity_double.c has double where model.c says float: it is model.c again; dev/levels.c is for x86-64
[ $# -gt 0 ] || set -- train.c model.c tokenizer.c data.c eval.c $(ls dev/*.c | grep -v -e parity_double -e levels)
flags="-std=c99 -I. -Wno-unknown-pragmas -ffp-contract=off -fno-math-errno"
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
bad=0

# Both analyzers read one file at a time, and can't know what model.h says: these return -1. In data.c, which defines
# them, a copy is told in the empty line after each: its lines keep their numbers.
cat > "$tmp/told.h" << 'END'
#include "model.h"
#define err_set(...)    (err_set(__VA_ARGS__), -1)
#define err_fault(...)  (err_fault(__VA_ARGS__), -1)
#define err_memory(...) (err_memory(__VA_ARGS__), -1)
END
tell() {
    sed -e '/^int err_set(/,/^$/s/^$/#define err_set(...)    (err_set(__VA_ARGS__), -1)/' \
        -e '/^int err_fault(/,/^$/s/^$/#define err_fault(...)  (err_fault(__VA_ARGS__), -1)/' \
        -e '/^int err_memory(/,/^$/s/^$/#define err_memory(...) (err_memory(__VA_ARGS__), -1)/' "$1"
}
told="-D_XOPEN_SOURCE=700 -D_POSIX_C_SOURCE=200809L -D_FILE_OFFSET_BITS=64 -include $tmp/told.h"

# each TOOL FILE...
each() {
    failed=0 with=$1
    shift
    for file in "$@"; do
        all="$flags $told"
        [ "$file" != data.c ] || { tell data.c > "$tmp/data.c"; file=$tmp/data.c all=$flags; }
        case $with in
        clang-tidy) clang-tidy --quiet --config-file=.clang-tidy "$file" -- $all 2> "$tmp/noise" ;;
        gcc)        gcc $all -O1 -fanalyzer -c "$file" -o /dev/null ;;
        esac || failed=1
    done
    return $failed
}

# findings: the lines of "$tmp/said" that are one; of gcc's, those that no "// analyzer: why" explains
findings() {
    grep -E '^[^ ]+:[0-9]+:([0-9]+:)? (warning|error|style|performance|portability)[: ]' "$tmp/said" |
    while IFS=: read -r file line rest; do
        [ "$1" = gcc ] && sed -n "$((line - 1)),${line}p" "$file" | grep -q '// analyzer: .' || echo "$file:$line:$rest"
    done
}

for tool in $tools; do
    command -v "$tool" > /dev/null || { echo "$tool is not here: not checked"; bad=1; continue; }
    case $tool in
    cppcheck)   mark='// cppcheck-suppress'
                cppcheck -q --std=c99 --enable=warning,performance,portability --inline-suppr -I. --template=gcc "$@" ;;
    clang-tidy) mark='// NOLINT'
                each clang-tidy "$@" ;;
    gcc)        mark='// analyzer: '
                each gcc "$@" ;;
    esac > "$tmp/said" 2>&1
    status=$?
    sed "s|$tmp/data.c|data.c|" "$tmp/said" > "$tmp/shown" && mv "$tmp/shown" "$tmp/said"
    findings "$tool" > "$tmp/found"
    n=$(wc -l < "$tmp/found")
    version=$("$tool" --version | grep -oE '[0-9]+\.[0-9]+(\.[0-9]+)?' | head -n 1)
    echo "$tool $version: $# files, $n findings, $(cat "$@" | grep -c "$mark") explained in place"
    [ "$n" -eq 0 ] && [ $status -eq 0 ] || { cat "$tmp/said"; bad=1; }
done
exit $bad

#!/bin/sh
# coverage.sh -- which lines of the top-level files do the tests reach? Runs all of `make test` on a build of its
# own with gcc's counters, prints a table and the lines not reached, and fails if a file is below 95 %.
# Part of what is not reached only happens where the machine fails: `make faults` makes it fail.
#
#   tests/coverage.sh                 from anywhere; builds in build/coverage. Needs gcc with its gcov
#   tests/coverage.sh report          the table of the last run again
cd "$(dirname "$0")/.." || exit 1
. tests/lib.sh
unset MAKEFLAGS MFLAGS                            # those of a make that this script was called from
export GCOV_ERROR_FILE=/dev/null                  # tests limit the size of files: the counters' too
command -v gcov > /dev/null || { echo "want gcov, which is not here"; exit 1; }
build=build/coverage
if [ "${1:-}" != report ]; then
    find $build -name '*.gcda' -exec rm -f {} + 2> /dev/null
    make -j2 BUILD=$build CC=gcc OPT='-O1 --coverage' test > "$tmp/log" 2>&1 || { tail -n 40 "$tmp/log"; exit 1; }
fi

# Several programs have a counter for a line; it is reached if one of them is above 0.
find $build -name '*.gcda' -exec gcov -t {} + 2> /dev/null | awk -F: -v missed="$tmp/missed" '
    $2 + 0 == 0 && $3 == "Source" { file = $4; sub(/.*\//, "", file); next }
    file !~ /^(train|model|tokenizer|data|eval)\.c$|^model\.h$/ { next }
    { count = $1; gsub(/ /, "", count) }
    count == "-" { next }
    {
        text[file, $2 + 0] = sprintf("%s:%d: %s", file, $2, substr($0, length($1) + length($2) + 3))
        if (count !~ /^[#=]/) hit[file, $2 + 0] = 1
    }
    END {
        for (k in text) {
            split(k, part, SUBSEP)
            lines[part[1]]++
            if (k in hit) hits[part[1]]++
            else print text[k] > missed
        }
        printf "%-14s %8s %8s %8s\n", "file", "lines", "reached", "share"
        for (f in lines) {
            share = 100 * hits[f] / lines[f]
            printf "%-14s %8d %8d %7.1f%%%s\n", f, lines[f], hits[f], share, share < 95 ? "   want 95" : ""
            if (share < 95) bad = 1
        }
        if (!("tokenizer.c" in lines)) { print "no counters: want a run of tests/coverage.sh first"; bad = 1 }
        exit bad
    }'
status=$?
printf '\nnot reached:\n'
sort -t: -k1,1 -k2,2n "$tmp/missed" 2> /dev/null
exit $status

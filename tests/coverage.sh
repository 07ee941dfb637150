#!/bin/sh
# coverage.sh -- which lines of the top-level files do the tests reach? Runs all of `make test` on a build of its
# own with gcc's counters, prints a table and the lines not reached, and fails if a file is below 95 %.
#
#   tests/coverage.sh                 from anywhere; builds in build/coverage. Needs gcc with its gcov
#   tests/coverage.sh report          the table of the last run again
cd "$(dirname "$0")/.." || exit 1
. tests/lib.sh
unset MAKEFLAGS MFLAGS                            # those of a make that this script was called from
command -v gcov > /dev/null || { echo "want gcov, which is not here"; exit 1; }
build=build/coverage
if [ "${1:-}" != report ]; then
    find $build -name '*.gcda' -exec rm -f {} + 2> /dev/null
    make BUILD=$build CC=gcc OPT='-O1 --coverage' test > "$tmp/log" 2>&1 || { tail -n 40 "$tmp/log"; exit 1; }
fi

# Several programs have a counter for a line; it is reached if one of them is above 0.
find $build -name '*.gcda' -exec gcov -t {} + 2> /dev/null | awk -F: '
    $2 + 0 == 0 && $3 == "Source" { file = $4; sub(/.*\//, "", file); next }
    file !~ /^(train|model|tokenizer|data|eval)\.c$|^model\.h$/ { next }
    { count = $1; gsub(/ /, "", count) }
    count == "-" { next }
    { line[file, $2 + 0] = $2 + 0; if (count !~ /^[#=]/) hit[file, $2 + 0] = 1 }
    END {
        for (k in line) {
            split(k, part, SUBSEP)
            lines[part[1]]++
            if (k in hit) hits[part[1]]++
            else missed[part[1]] = missed[part[1]] " " line[k]
        }
        printf "%-14s %8s %8s %8s\n", "file", "lines", "reached", "share"
        for (f in lines) {
            share = 100 * hits[f] / lines[f]
            printf "%-14s %8d %8d %7.1f%%%s\n", f, lines[f], hits[f], share, share < 95 ? "   want 95" : ""
            if (share < 95) bad = 1
        }
        for (f in missed) {
            n = split(missed[f], at, " ")
            printf "\n%s, not reached:", f
            for (i = 1; i <= n; i++) { min = i; for (j = i + 1; j <= n; j++) if (at[j] + 0 < at[min] + 0) min = j
                t = at[i]; at[i] = at[min]; at[min] = t; printf " %s", at[i] }
            print ""
        }
        if (!("tokenizer.c" in lines)) { print "no counters: want a run of tests/coverage.sh first"; bad = 1 }
        exit bad
    }'

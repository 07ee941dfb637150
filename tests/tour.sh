#!/bin/sh
# tour.sh BUILD [update] -- do the commands in dev/TOUR.md still print what stands below them?
#
#   tests/tour.sh build/native        BUILD holds the programs
#   tests/tour.sh build/native update writes what they print now into dev/TOUR.md; to be read before it is committed
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "${1:?usage: tests/tour.sh BUILD [update]}" && pwd) || exit 1
. "$here/lib.sh"
tour=$here/../dev/TOUR.md
cd "$tmp" || exit 1
mkdir dev && ln -s "$here/../dev/demo" dev/demo || exit 1
for program in train eval convert explain; do ln -s "$bin/$program" $program; done

# cmd.N: the commands, lines in a block that begin with "$ "; want.N: the lines below each. With a second file they
# are replaced by got.N.
split='
/^```/ { inside = !inside; kept = 0 }
inside && /^\$ / { n++; kept = 1; print substr($0, 3) > ("cmd." n); printf "" > ("want." n); if (out) { print > out
    while ((getline line < ("got." n)) > 0) print line > out }; next }
inside && kept { print > ("want." n); next }
out { print > out }'
awk "$split" "$tour"

rerun() {
    sh "cmd.$1" > "got.$1" 2>&1
    [ "$2" = update ] || diff "want.$1" "got.$1"
}
n=1
while [ -e "cmd.$n" ]; do
    check "tour: command $n, $(cut -d " " -f 1-2 < "cmd.$n")" rerun "$n" "${2:-}"
    n=$((n + 1))
done
[ "${2:-}" != update ] || { awk -v out=new "$split" "$tour" && cp new "$tour"; }

# "`name` (file.c)" and "(`name`, file.c)": the function is there
functions() {
    sed -n 's/.*`\([a-z_]*\)`,\{0,1\} (\{0,1\}\([a-z]*\.c\)).*/\1 \2/p' "$tour" > functions
    [ "$(wc -l < functions)" -ge 8 ] || { echo "too few functions are named"; return 1; }
    while read -r name file; do
        grep -qE "(^|[ *])$name\(" "$here/../$file" || { echo "$file has no $name"; return 1; }
    done < functions
}
check "tour: the functions that it names are there" functions
[ "$n" -gt 10 ] || { echo "FAIL  tour: only $((n - 1)) commands were found"; failed=$((failed + 1)); }

# "FILE.c: s/A/B/" on the page of exercises: the line is there, so something changes
changes() {
    sed -n 's/^\([a-z]*\.c\): \(s\/.*\)/\1 \2/p' "$here/../dev/EXERCISES.md" > changes
    [ "$(wc -l < changes)" -ge 10 ] || { echo "too few lines are changed"; return 1; }
    while read -r file change; do
        sed -e "$change" "$here/../$file" > changed
        ! cmp -s changed "$here/../$file" || { echo "$file has no line for $change"; return 1; }
    done < changes
}
check "every line that an exercise changes is there" changes

finish

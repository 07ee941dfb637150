#!/bin/sh
# exercises.sh [N...|update] -- does the experiments of dev/EXERCISES.md, all or those named, each in a copy of the tree,
# and compares what is seen with what the page says. update: writes it into the page instead; but where a figure is no
# longer higher or lower than usual, as it was, the text beside it is wrong, and that is a failure.
#
# A block's lines: "FILE.c: s/A/B/" changes one line, and fails if that is not there; "try OPTIONS" trains and measures;
# "$ COMMAND" runs; all others are what was seen.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
LC_ALL=C OMP_WAIT_POLICY=passive
export LC_ALL OMP_WAIT_POLICY
work=$(mktemp -d "${TMPDIR:-/tmp}/tune_exercise_XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
page=$here/dev/EXERCISES.md failed=0 mode=check

number() { sed -n "s/.*\"$2\": \([0-9.e+-]*\).*/\1/p" "$1" | tail -n 1; }
largest() { sed -n 's/.*"norm": \([0-9.e+-]*\).*/\1/p' log | sort -g | tail -n 1; }

# What a run ended with, and how that is to the usual one, which stands in ../usual. An option given replaces the usual.
try() {
    case " $* " in *' --lr '*) ;; *) set -- --lr 7e-4 "$@" ;; esac
    case " $* " in *' --data '*) ;; *) set -- --data small.jsonl "$@" ;; esac
    ./train --model dev/demo/base.bin --val held.jsonl --template plain --epochs 2 --batch 16 --dtype f32 --log log \
        --out out.bin "$@" > said 2>&1 || { tail -n 2 said; return; }
    ./eval answers --model out.bin --data held.jsonl --max-tokens 12 --log answers --json > result 2> said || { cat said; return; }
    cut=$(grep -c '"cut": \[true' answers)
    echo "$(number log val_loss) $(number result exact_match)" > now
    [ -e ../usual ] || cp now ../usual
    awk -v before="$(number log val_before)" -v norm="$(largest)" -v cut="$cut" '
        { loss[NR] = $1; exact[NR] = $2 }
        function than(a, b) { return a > b ? "higher" : a < b ? "lower" : "the same" }
        END { printf "held-out loss %.4f -> %.4f, largest norm %.2f, exact match %.3f, cut off %d of 60\n", before, loss[1], norm, exact[1], cut
              printf "than as it is: loss %s, exact match %s\n", than(loss[1], loss[2]), than(exact[1], exact[2]) }' now ../usual
}

# The tree as it is, with what is built of it
copy() {
    rm -rf "$work/tree" && mkdir -p "$work/tree/build" "$work/tree/dev" && cd "$work/tree" || exit 1
    cp -p "$here"/*.c "$here"/*.h "$here/Makefile" .
    cp -Rp "$here/build/native" build/native
    ln -s "$here/dev/demo" dev/demo
    head -n 320 dev/demo/train.jsonl > small.jsonl
    head -n 60 dev/demo/test.jsonl > held.jsonl
}

# FILE and what sed shall do: a line must become another, or the text it looks for is gone
change() {
    cp "$1" before
    sed -e "$2" before > "$1"
    [ "$(diff before "$1" | grep -c '^<')" -ge 1 ] && return
    printf '%s has no such line any more: %s\n' "$1" "$2"
    echo changed > broken
}

build() {
    make -s build/native/train build/native/eval > made 2>&1 || { tail -n 5 made; echo changed > broken; }
    cp build/native/train build/native/eval build/native/convert .
}

# The lines of exercise N's block, done one by one: as the page should have them
perform() {
    copy
    built=no
    while IFS= read -r line; do
        case $line in
        *.c:\ s/*) printf '%s\n' "$line"; change "${line%%:*}" "${line#*: }" ;;
        try*|'$ '*)
            printf '%s\n' "$line"
            [ $built = yes ] || build
            built=yes
            [ ! -e broken ] || continue
            case $line in
            try*) eval "$line" ;;
            *) eval "${line#??}" 2>&1 ;;
            esac ;;
        esac
    done
}

block() { awk -v n="$1" '/^## / { here = $2 == n "."; inside = 0 } here && /^```/ { inside = !inside; if (!inside) exit; next } here && inside' "$page"; }
verdicts() { grep '^than ' "$1"; }

only=
for word in "$@"; do
    case $word in
    update) mode=update ;;
    *) only="$only $word " ;;
    esac
done
(cd "$here" && make -s build/native/train build/native/eval) || exit 1
for n in $(sed -n 's/^## \([0-9]*\)\. .*/\1/p' "$page"); do
    block "$n" > "$work/want"
    cp "$work/want" "$work/new.$n"
    case "$only" in '' | *" $n "*) ;; *) [ "$n" = 0 ] || continue ;; esac       # 0 is what all are compared with
    (perform < "$work/want") > "$work/got"
    verdicts "$work/want" > "$work/v1"
    verdicts "$work/got" > "$work/v2"
    good=no
    if [ $mode = update ]; then
        [ ! -s "$work/v1" ] || cmp -s "$work/v1" "$work/v2" && [ ! -e "$work/tree/broken" ] && good=yes
        [ $good = no ] || cp "$work/got" "$work/new.$n"
    else
        cmp -s "$work/want" "$work/got" && good=yes
    fi
    if [ $good = yes ]; then
        echo "PASS  exercise $n"
    else
        echo "FAIL  exercise $n"
        failed=$((failed + 1))
        diff "$work/want" "$work/got"
    fi
    [ -z "$only" ] || cat "$work/got"
done
if [ $mode = update ]; then
    awk -v work="$work" '/^## / { n = $2 + 0; inside = 0 }
        /^## [0-9]/ { file = work "/new." n }
        /^```/ && file { inside = !inside; print; if (inside) while ((getline line < file) > 0) print line; else file = ""; next }
        !(inside && file)' "$page" > "$work/page" && cp "$work/page" "$page"
fi
echo "$failed failed"
[ $failed -eq 0 ]

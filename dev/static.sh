#!/bin/sh
# static.sh -- what programs that only read the source find: cppcheck, clang-tidy with the checks of .clang-tidy, gcc's
# analyzer; over the top level and dev/. Prints each tool's version and findings; fails if there is one, or no tool.
# An exception is explained where it is: // cppcheck-suppress NAME ; why     or     // NOLINT(NAME): why
#
#   dev/static.sh                     from anywhere: all three
#   dev/static.sh cppcheck FILE...    one of cppcheck, clang-tidy, gcc, over these files
cd "$(dirname "$0")/.." || exit 1
tools="cppcheck clang-tidy gcc"
if [ $# -gt 0 ]; then tools=$1 && shift; fi
# dev/parity_double.c has double where model.c says float: it is model.c again
[ $# -gt 0 ] || set -- train.c model.c tokenizer.c data.c eval.c $(ls dev/*.c | grep -v parity_double)
flags="-std=c99 -I. -Wno-unknown-pragmas -ffp-contract=off -fno-math-errno"
said=$(mktemp) || exit 1
trap 'rm -f "$said"' EXIT
bad=0

for tool in $tools; do
    command -v "$tool" > /dev/null || { echo "$tool is not here: not checked"; bad=1; continue; }
    case $tool in
    cppcheck)   cppcheck -q --std=c99 --enable=warning,performance,portability --inline-suppr -I. --template=gcc \
                    "$@" ;;
    clang-tidy) clang-tidy --quiet "$@" -- $flags 2> /dev/null ;;
    gcc)        for file in "$@"; do gcc $flags -O1 -fanalyzer -c "$file" -o /dev/null; done ;;
    esac > "$said" 2>&1
    findings=$(grep -cE ': (warning|error|style|performance|portability)[: ]' "$said")
    version=$("$tool" --version | grep -m 1 -oE '[0-9]+\.[0-9]+(\.[0-9]+)?')
    echo "$tool $version: $# files, $findings findings"
    [ "$findings" -eq 0 ] || { cat "$said"; bad=1; }
done
exit $bad

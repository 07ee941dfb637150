#!/bin/sh
# answers.sh BUILD -- ./eval answers and loss, and ./errors, from outside: three lines of models, comparisons, samples,
# tables of errors, windows.
#
#   tests/answers.sh build/native         BUILD holds train, eval and errors; besides them only POSIX tools are used
here=$(dirname "$0")
bin=$(cd "${1:?usage: tests/answers.sh BUILD}" && pwd) || exit 1
. "$here/lib.sh"
cd "$tmp" || exit 1

# field NAME [LINE]: the number that follows "NAME": in that line of standard input, the first
field() { sed -n "${2:-1}s/.*\"$1\": \([-+.e0-9]*\).*/\1/p"; }
# has TEXT...: standard input has each of the texts
has() {
    cat > has.said
    for text in "$@"; do grep -qF -e "$text" has.said || { cat has.said; echo "want: $text"; return 1; }; done
}
true_that() { awk "BEGIN { exit !($1) }" || { echo "not true: $1"; return 1; }; }
refused() {                                       # refused NAME PATTERN ARGUMENTS...: exit 1, one message, no results
    check "refuses $1" refused_so "$2" "$@"
}
refused_so() {
    pattern=$1
    shift 3
    "$bin/eval" "$@" > stdout 2> stderr < /dev/null
    [ $? -eq 1 ] && cat stderr && [ ! -s stdout ] && grep -qE "^eval: $pattern" stderr
}

# ---- models ----------------------------------------------------------------------------------------------------

row() { printf '{"instruction": "Which color?", "input": "the %s %s", "output": "it is %s"}\n' "$1" "$2" "$1"; }
n=0
for animal in cat dog fox hen cow pig owl bee; do
    for color in red green blue black white brown; do
        n=$((n + 1))
        [ $(((n + n / 6) % 2)) -eq 1 ] || row $color $animal >> val.jsonl
        row $color $animal >> train.jsonl
        printf 'Which color?\nthe %s %s\nAnswer: it is %s\n\n' $color $animal $color >> text.txt
    done
done
"$bin/train" --init "layers=2 heads=2 width=32 context=64 vocab=300" --text text.txt --steps 20 --split 0 \
    --out base.bin 2> said && "$bin/train" --model base.bin --data train.jsonl --split 0 --steps 400 --batch 8 --lr 1e-2 \
    --out tuned.bin 2>> said || { cat said; echo "no models, so no tests"; exit 1; }
ask="--model base.bin --data val.jsonl --max-tokens 8"
both="$ask --vs tuned.bin"
three="$both --shots 1 --examples train.jsonl"

# ---- answers ---------------------------------------------------------------------------------------------------

narrow() { ! awk 'length > 80' "$1" | grep -v "^On items like\|^These " | grep .; }
three_lines() {
    "$bin/eval" answers $three > said && cat said && narrow said && grep -q "^A base.bin  *0 " said &&
        grep -q "^B base.bin  *1 " said && grep -q "^C tuned.bin  *0 " said && has "A, B" "A, C" "B, C" "24 rows" < said
}
same_lines() {                                    # each line is what it is alone
    "$bin/eval" answers $three --json > three.json && "$bin/eval" answers $ask --json > one.json &&
        "$bin/eval" answers $ask --shots 1 --examples train.jsonl --json > two.json &&
        "$bin/eval" answers --model tuned.bin --data val.jsonl --max-tokens 8 --json > last.json &&
        [ "$(grep -c . three.json)" = 9 ] || return 1
    for name in exact_match stderr prompt_tokens answer_tokens; do
        for i in 1 2 3; do
            want=$(field "$name" < "$(echo one.json two.json last.json | cut -d' ' -f$i)")
            [ -n "$want" ] && [ "$(field "$name" $i < three.json)" = "$want" ] || { echo "$name of line $i"; return 1; }
        done
    done
}
exact_p() {                                       # of 24 rows all are won: scipy.stats.binomtest(24, 24).pvalue
    "$bin/eval" answers $both --json > both.json && cat both.json &&
        has '"difference": 1,' '"only_first": 0, "only_second": 24, "p": 1.1920929e-07' 'the second model is better' < both.json
}
table() {
    "$bin/eval" answers $both > said && cat said && grep -Eq "^A, B +exact +24 +1.0000 +1.0000 to +1.0000 +0 +24 +1.2e-07" said &&
        has "only the first right: none" "only the second right: 0 1 2 3" "and 8 more" < said
}
backwards() {                                     # worse, and it is said
    "$bin/eval" answers --model tuned.bin --vs base.bin --data val.jsonl --max-tokens 8 | has "the second model is worse"
}
few() { "$bin/eval" answers $both --limit 19 | has "19 items are too few to tell the two models apart."; }
itself() { "$bin/eval" answers $ask --vs base.bin | has "no difference between the two models" "first right: none"; }
log_keys() {
    "$bin/eval" answers $three --log three.jsonl > /dev/null && [ "$(grep -c . three.jsonl)" = 25 ] &&
        has '{"lines": ["base.bin", "base.bin", "tuned.bin"], "shots": 1, "max_tokens": 8, "n": 24}' \
            '{"row": 0, "instruction": "Which color?", "input": "the green cat", "reference": "it is green", "answer": "' \
            '", "shots": "' '", "vs": "it is green", "tokens": [' ', false]}' < three.jsonl &&
        "$bin/eval" answers $three --log again.jsonl --batch 5 --threads 3 > /dev/null && cmp three.jsonl again.jsonl
}
samples() {                                       # cold ones agree, hot ones do not; the same for any batch
    "$bin/eval" answers $ask --samples 3 --temperature 0 --json > cold.json && cat cold.json &&
        [ "$(field all_alike < cold.json)" = 1.000000 ] && [ "$(field alike < cold.json)" = 1.000000 ] &&
        "$bin/eval" answers $ask --samples 3 --temperature 2 --json > hot.json && cat hot.json &&
        true_that "$(field alike < hot.json) < 0.9" || return 1
    for more in "--batch 7" "--threads 3" "--seed 2"; do
        "$bin/eval" answers $ask --samples 3 --temperature 0.01 --json | field alike > warm
        "$bin/eval" answers $ask --samples 3 --temperature 0.01 --json $more | field alike > other
        if [ "$more" = "--seed 2" ]; then ! cmp -s warm other; else cmp warm other; fi || { echo "$more"; return 1; }
    done
    "$bin/eval" answers $ask --samples 3 | has "of 3 samples, all are alike in 0." "of all pairs 0."
}
check "three lines: base, base with shots, tuned" three_lines
check "each line is what it is alone" same_lines
first_token() {                                   # of one prompt, with nothing behind it: less than the answers of all 24
    "$bin/eval" answers $ask --json > one.json && cat one.json && t=$(field first_token < one.json) &&
        true_that "$t > 0 && $t < 24 * $(field seconds < one.json)"
}
check "the time to the first token" first_token
check "McNemar's p of 24 rows won is scipy's" exact_p
check "the table of a comparison" table
check "what is worse is called so" backwards
check "of 19 rows nothing is claimed" few
check "a model beside itself" itself
check "--log has conditions and answers; the same for any batch and threads" log_keys
check "--samples" samples
refused "--log over --examples" "train.jsonl: is this run's train.jsonl" answers $three --log train.jsonl
refused "--stride for answers" "want --data FILE, .* no --text or --stride" answers $ask --stride 5
refused "one sample" "--samples: 1 is out of range, want 2..1000" answers $ask --samples 1

# ---- errors ----------------------------------------------------------------------------------------------------

"$bin/eval" answers $three --log three.jsonl > three.said
"$bin/eval" answers $ask --log base.jsonl > base.said && "$bin/eval" answers $both --log both.jsonl > both.said
"$bin/eval" answers --model tuned.bin --data val.jsonl --max-tokens 8 --log tuned.jsonl > tuned.said
denies() {                                        # denies NAME PATTERN ARGUMENTS...
    check "errors refuses $1" denies_so "$2" "$@"
}
denies_so() {
    pattern=$1
    shift 3
    "$bin/errors" "$@" > stdout 2> stderr < /dev/null
    [ $? -eq 1 ] && cat stderr && [ ! -s stdout ] && grep -qE "^errors: $pattern" stderr
}
tables() {
    "$bin/errors" three.jsonl > said && cat said && narrow said && grep -q "^A base.bin  *0.000 (0.000)" said &&
        grep -q "^C tuned.bin  *1.000 (0.000) 1.000 (0.000)" said && grep -q "^C - A  *+1.000 +-0.000" said &&
        has "24 rows" "1.96 standard errors" "what C said, in %" "a it is black   100  .  .  .  .  .  ." "wrong format" \
            "misspelt           -     -     -" "unsupported        -" < said
}
two_logs() {                                      # two logs are what one of both is
    "$bin/errors" both.jsonl > one && "$bin/errors" base.jsonl tuned.jsonl > two && cmp one two
}
exact_too() {                                     # exact match and its error as eval has them
    "$bin/errors" three.jsonl --json > said && "$bin/eval" answers $three --json > want || return 1
    for i in 1 2 3; do
        [ "$(field exact_match $i < said)" = "$(field exact_match $i < want)" ] || return 1
        true_that "($(field exact_match_error $i < said) - $(field stderr $i < want)) ^ 2 < 1e-12" || return 1
    done
    [ "$(grep -c . said)" = 6 ] && [ "$(field f1 5 < said)" != "" ]
}
counted() {                                       # cut off answers that are wrong are those of the log
    "$bin/eval" answers --model base.bin --data val.jsonl --max-tokens 3 --log cut.log > /dev/null || return 1
    want=$(grep '"cut": \[true\]' cut.log | grep -vc '"answer": ""')
    "$bin/errors" cut.log --json > said && cat said && [ "$(field "cut off" < said)" = "$want" ] && [ "$want" -gt 0 ]
}
formats() {
    { row red cat; printf '{"input": "the red hen", "output": "{\\"red\\": 1}"}\n'; } > forms.jsonl
    "$bin/eval" answers --model tuned.bin --data forms.jsonl --max-tokens 8 --log forms.log > /dev/null || return 1
    wrong() { "$bin/errors" forms.log --json "$@" | field "wrong format"; }
    [ -z "$(wrong)" ] && [ "$(wrong --format json)" = 1 ] && [ "$(wrong --format "*is @")" = 0 ] &&
        [ "$(wrong --format "#")" = 1 ]
}
words() {                                         # known from --train, or a list; without either they are not looked for
    echo "it is red green blue black white brown" > list.txt
    "$bin/errors" base.jsonl --json > none.json && "$bin/errors" base.jsonl --json --train train.jsonl > train.json &&
        "$bin/errors" base.jsonl --json --words list.txt > list.json && cat none.json train.json list.json &&
        ! grep -q misspelt none.json && ! grep -q unsupported list.json && [ -n "$(field unsupported < train.json)" ] &&
        true_that "$(field misspelt < list.json) >= $(field misspelt < train.json)"
}
first_words() {                                   # where references are many, by the prompt's first word
    n=0
    while [ $n -lt 24 ]; do
        n=$((n + 1))
        echo "{\"input\": \"$([ $n -gt 16 ] && echo Name || echo Count) it\", \"output\": \"number $n\"}"
    done > many.jsonl
    "$bin/eval" answers --model base.bin --data many.jsonl --max-tokens 8 --log many.log > /dev/null &&
        "$bin/errors" many.log > said && cat said && grep -q "^Count  *16  0.000" said &&
        grep -q "^Name  *8  0.000" said && ! grep -q "what A said" said
}
harmless() {                                      # nothing from a file moves the cursor
    printf '{"input": "a\\u001b[2J\\u0085b", "output": "\\u001b[31m\\tred"}\n' > escape.jsonl
    "$bin/eval" answers --model base.bin --data escape.jsonl --max-tokens 8 --log escape.log > said &&
        "$bin/errors" escape.log >> said && cat said &&
        has "asked   a?[2J?b" "wanted  ?[31m red" < said && ! grep -q "$(printf '\033')" said
}
check "errors: tables, 80 columns wide" tables
check "errors: two logs are what one of both lines is" two_logs
check "errors: exact match is that of eval answers" exact_too
check "errors: counts the wrong answers that the log says were cut off" counted
check "errors: --format" formats
check "errors: --words, --train" words
check "errors: groups by first word" first_words
check "errors: control characters are not printed" harmless
sed 1d base.jsonl > headless.jsonl
sed '3d' base.jsonl > short.jsonl
sed '2s/"tokens": \[/"tokens": [1, /' base.jsonl > values.jsonl
sed '2s/cat/dog/' tuned.jsonl > other.jsonl
sed '2s/"answer"/"reply"/' base.jsonl > renamed.jsonl
printf '12 34\n' > digits.txt
denies "no log" "want one or two logs"
denies "three" "'tuned.jsonl' is one word too many" base.jsonl both.jsonl tuned.jsonl
denies "what is no log" "val.jsonl: does not begin with the names" val.jsonl
denies "a log without its first line" "headless.jsonl: does not begin" headless.jsonl
denies "logs of different length" "short.jsonl: has 23 rows, want those of the other" base.jsonl short.jsonl
denies "too many values" "values.jsonl:2: is no row of the log, want .* 1 tokens and cut" values.jsonl
denies "logs of other rows" "other.jsonl:2: asks something else" base.jsonl other.jsonl
denies "a row without an answer" "renamed.jsonl:2: has no answer" renamed.jsonl
denies "labels that are many" "--format labels: many.log has 24 different references in 24 rows" many.log --format labels
denies "a list without words" "digits.txt: has no word" base.jsonl --words digits.txt
denies "a missing list" "nope.txt: cannot open" base.jsonl --words nope.txt
denies "missing rows of training" "nope.jsonl: cannot open" base.jsonl --train nope.jsonl

# ---- loss ------------------------------------------------------------------------------------------------------

loss() { "$bin/eval" loss --model base.bin --text text.txt --json "$@"; }
whole_stride() { loss > plain.json && loss --stride 64 | cmp plain.json; }
short_text() {                                    # in one window no stride changes anything
    head -8 text.txt > short.txt
    "$bin/eval" loss --model base.bin --text short.txt --json | sed 's/"stride": [0-9]*//' > plain.json && [ -s plain.json ] &&
        "$bin/eval" loss --model base.bin --text short.txt --stride 3 --json | sed 's/"stride": [0-9]*//' | cmp plain.json
}
strides() {                                       # no token is lost or counted twice
    loss > plain.json && loss --stride 16 --log windows.jsonl > slid.json && cat plain.json slid.json &&
        [ "$(field targets < plain.json)" = "$(field targets < slid.json)" ] &&
        [ "$(field loss < plain.json)" != "$(field loss < slid.json)" ] &&
        [ "$(field targets < windows.jsonl)" = 64 ] && [ "$(field targets 2 < windows.jsonl)" = 16 ] &&
        [ "$(sed 's/.*"targets": \([0-9]*\).*/\1/' windows.jsonl | awk '{ s += $1 } END { print s }')" = \
          "$(field targets < slid.json)" ]
}
loss_vs() {
    "$bin/eval" loss --model base.bin --vs tuned.bin --data val.jsonl --json --log rows.jsonl > said && cat said &&
        [ "$(grep -c . rows.jsonl)" = 48 ] && d=$(field difference 3 < said) && low=$(field low 3 < said) &&
        true_that "$low <= $d && $d <= $(field high 3 < said)" && has "the second model is better" < said &&
        true_that "($(field bits_per_byte 2 < said) - $(field bits_per_byte < said) - ($d)) ^ 2 < 1e-12" &&
        "$bin/eval" loss --model base.bin --vs tuned.bin --data val.jsonl | has "rows or windows     bits/byte    24 -"
}
log_sums() {                                      # the rows of the log add up to the loss
    "$bin/eval" loss --model base.bin --data val.jsonl --json --log rows.jsonl > said &&
        awk -F'[:,}]' -v want="$(field loss < said)" -v bits="$(field bits_per_byte < said)" '
            { t += $6; b += $8; n += $10 }
            END { d = n / t / want - 1; f = n / b / log(2) / bits - 1; exit !(NR == 24 && d * d + f * f < 1e-12) }' \
            rows.jsonl
}
check "--stride of the whole context: the same bytes" whole_stride
check "--stride on a text of one window: the same" short_text
check "--stride: all tokens once" strides
check "loss --vs: interval and sentence" loss_vs
check "loss --log" log_sums
refused "--stride beyond the context" "--stride: 65, want at most the context of 64" loss --model base.bin --text text.txt --stride 65
refused "--stride of rows" "--stride needs --text" loss --model base.bin --data val.jsonl --stride 5
refused "loss --log over a text" "./text.txt: is this run's text.txt" loss --model base.bin --text val.jsonl text.txt --log ./text.txt

finish

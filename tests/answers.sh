#!/bin/sh
# answers.sh BUILD -- ./eval answers and loss from outside: three lines of models, errors, comparisons, samples, windows.
#
#   tests/answers.sh build/native         BUILD holds train and eval; besides them only POSIX tools are used
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
        grep -q "^B base.bin  *1 " said && grep -q "^C tuned.bin  *0 " said &&
        has "A, then B:" "A, then C:" "B, then C:" "24 rows, 1 shots" "what C said, in %" "wrong format" "rows" < said
}
same_lines() {                                    # each line is what it is alone
    "$bin/eval" answers $three --json > three.json && "$bin/eval" answers $ask --json > one.json &&
        "$bin/eval" answers $ask --shots 1 --examples train.jsonl --json > two.json &&
        "$bin/eval" answers --model tuned.bin --data val.jsonl --max-tokens 8 --json > last.json &&
        [ "$(grep -c . three.json)" = 6 ] || return 1
    for name in exact_match normalised f1 rouge_l prompt_tokens answer_tokens "cut off"; do
        for i in 1 2 3; do
            want=$(field "$name" < "$(echo one.json two.json last.json | cut -d' ' -f$i)")
            [ -n "$want" ] && [ "$(field "$name" $i < three.json)" = "$want" ] || { echo "$name of line $i"; return 1; }
        done
    done
}
exact_p() {                                       # of 24 rows all are won: scipy.stats.binomtest(24, 24).pvalue
    "$bin/eval" answers $both --json > both.json && cat both.json &&
        has '"only_first": 0, "only_second": 24, "p": 1.19209e-07' '"difference": 1.000000' \
            'the second model is better' < both.json
}
table() {
    "$bin/eval" answers $both > said && cat said &&
        has "both right 0, only the first 0, only the second 24, neither 0" "only the first right: none" \
            "only the second right: 0 1 2 3" "McNemar's p 1.19e-07" "a it is black   100  .  .  .  .  .  ." < said
}
backwards() {                                     # worse, and it is said
    "$bin/eval" answers --model tuned.bin --vs base.bin --data val.jsonl --max-tokens 8 | has "the second model is worse"
}
few() { "$bin/eval" answers $both --limit 19 | has "19 items are too few to tell the two models apart."; }
itself() { "$bin/eval" answers $ask --vs base.bin | has "no difference between the two models" "neither 24"; }
log_keys() {
    "$bin/eval" answers $three --log three.jsonl > /dev/null && [ "$(grep -c . three.jsonl)" = 24 ] &&
        has '{"row": 0, "instruction": "Which color?", "input": "the green cat", "reference": "it is green", "answer": "' \
            '", "shots": "' '", "vs": "it is green", "answer_scores": {"exact_match": 0, ' '"shots_scores": {' \
            '"vs_scores": {"exact_match": 1, "normalised": 1, "f1": 1, "rouge_l": 1, "tokens": ' '"errors": []}}' \
            < three.jsonl && "$bin/eval" answers $three --log again.jsonl --batch 5 --threads 3 > /dev/null &&
        cmp three.jsonl again.jsonl
}
log_counts() {                                    # the table's errors are those of the log
    "$bin/eval" answers $three --log three.jsonl --json > three.json
    for name in "cut off" "wrong format" "too long"; do
        want=$(sed 's/.*"answer_scores": {\([^}]*\)}.*/\1/' three.jsonl | grep -c "\"$name\"")
        [ "$(field "$name" < three.json)" = "$want" ] || { echo "$name: want $want"; return 1; }
    done
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
    "$bin/eval" answers $ask --samples 3 | has "A: in 0." "all 3 samples are alike, of all pairs 0."
}
formats() {
    one="--model tuned.bin --data val.jsonl --max-tokens 8 --json"
    for pattern in "it is @" "labels" "*"; do
        [ "$("$bin/eval" answers $ask --json --format "$pattern" | field "wrong format")" != "" ] || return 1
    done
    { row red cat; printf '{"input": "the red hen", "output": "{\\"red\\": 1}"}\n'; } > forms.jsonl
    wrong() { "$bin/eval" answers --model tuned.bin --data forms.jsonl --max-tokens 8 --json "$@" | field "wrong format"; }
    [ -z "$(wrong)" ] && [ "$(wrong --format json)" = 1 ] && [ "$(wrong --format "*is @")" = 0 ] &&
        [ "$(wrong --format "#")" = 1 ]
}
words() {                                         # known from --train, or a list; without either they are not looked for
    echo "it is red green blue black white brown" > list.txt
    "$bin/eval" answers $ask --json > none.json && "$bin/eval" answers $ask --json --train train.jsonl > train.json &&
        "$bin/eval" answers $ask --json --words list.txt > list.json && cat none.json train.json list.json &&
        ! grep -q misspelt none.json && ! grep -q unsupported list.json && [ -n "$(field unsupported < train.json)" ] &&
        true_that "$(field misspelt < list.json) >= $(field misspelt < train.json)"
    "$bin/eval" answers $ask | has "misspelt           -" "unsupported        -"
}
first_words() {                                   # where references are many, by the prompt's first word
    n=0
    while [ $n -lt 24 ]; do
        n=$((n + 1))
        echo "{\"input\": \"$([ $n -gt 16 ] && echo Name || echo Count) it\", \"output\": \"number $n\"}"
    done > many.jsonl
    "$bin/eval" answers --model base.bin --data many.jsonl --max-tokens 8 > said && cat said && grep -q "^Count  *16  0.000" said &&
        grep -q "^Name  *8  0.000" said && ! grep -q "what A said" said
}
harmless() {                                      # nothing from a file moves the cursor
    printf '{"input": "a\\u001b[2J\\u0085b", "output": "\\u001b[31m\\tred"}\n' > escape.jsonl
    "$bin/eval" answers --model base.bin --data escape.jsonl --max-tokens 8 > said && cat said &&
        has "asked   a?[2J?b" "wanted  ?[31m red" < said && ! grep -q "$(printf '\033')" said
}
check "three lines: base, base with shots, tuned" three_lines
check "each line is what it is alone" same_lines
check "McNemar's p of 24 rows won is scipy's" exact_p
check "the table of a comparison, confusion" table
check "what is worse is called so" backwards
check "of 19 rows nothing is claimed" few
check "a model beside itself" itself
check "--log has scores and errors; the same for any batch and threads" log_keys
check "the table counts the errors of the log" log_counts
check "--samples" samples
check "--format" formats
check "--words, --train" words
check "groups by first word" first_words
check "control characters are not printed" harmless
refused "labels that are many" "--format labels: many.jsonl has 24 different answers in 24 rows" \
        answers --model base.bin --data many.jsonl --format labels
printf '12 34\n' > digits.txt
refused "a list without words" "digits.txt: has no word" answers $ask --words digits.txt
refused "a missing list" "nope.txt: cannot open" answers $ask --words nope.txt
refused "missing rows of training" "nope.jsonl: cannot open" answers $ask --train nope.jsonl
refused "--log over --train" "train.jsonl: is this run's train.jsonl" answers $ask --train train.jsonl --log train.jsonl
refused "--stride for answers" "want --data FILE, .* no --text or --stride" answers $ask --stride 5
refused "one sample" "--samples: 1 is out of range, want 2..1000" answers $ask --samples 1

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
        "$bin/eval" loss --model base.bin --vs tuned.bin --data val.jsonl | has "bits per byte, second minus first: -"
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

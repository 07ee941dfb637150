#!/bin/sh
# bench.sh BUILD -- ./eval bench from outside: tables and JSON, the log and going on from it, two models, refusals.
#
#   tests/bench.sh build/native       BUILD holds train and eval; questions and models are made here
here=$(dirname "$0")
bin=$(cd "${1:?usage: tests/bench.sh BUILD}" && pwd) || exit 1
. "$here/lib.sh"
cd "$tmp" || exit 1

# ---- questions and models --------------------------------------------------------------------------------------

words="hen cat dog cow fox owl bee ant"
i=0
for a in $words; do
    for b in $words; do
        i=$((i + 1))
        [ "$a" != "$b" ] || continue
        echo "the $a sees the $b, and then the $b sees the $a." >> text.txt
        echo "{\"context\": \"the $a sees the $b, and then the $b\", \"choices\": [\"sees the $a.\", \"$b\", \"the the sees\"], \
\"gold\": $((i % 3))}" >> items.jsonl
        echo "the $a sees the $b and,$a,$b,nobody,\"the $a, again\",$(echo ABCD | cut -c $((i % 4 + 1)))" >> hen_care_test.csv
    done
done
mkdir dev && head -n 5 hen_care_test.csv > dev/hen_care_dev.csv && head -n 3 hen_care_test.csv > dev/cow_care_dev.csv
tail -n 9 hen_care_test.csv > cow_care_test.csv
"$bin/train" --init "layers=2 heads=2 width=32 context=96 vocab=280" --text text.txt --split 0 --steps 2 --out a.bin 2> train.err &&
"$bin/train" --model a.bin --text text.txt --split 0 --steps 400 --batch 8 --lr 5e-3 --out b.bin 2>> train.err >> train.err ||
    { cat train.err; exit 1; }

bench() { "$bin/eval" bench "$@" 2> stderr; }
items() { bench --model a.bin choices=items.jsonl "$@"; }
refuses() {                                       # PATTERN ARGUMENTS...: one message and no result
    pattern=$1 status=0
    shift
    bench "$@" > stdout || status=$?
    cat stdout stderr
    [ "$status" -eq 1 ] && [ ! -s stdout ] && grep -q -e "$pattern" stderr
}

# ---- results ---------------------------------------------------------------------------------------------------

narrow() { items --vs b.bin | grep -v "^These\|^On items\|^only the" > out && cat out && [ "$(wc -L < out 2> /dev/null || awk '{ if (length > n) n = length } END { print n + 0 }' out)" -le 80 ]; }
table() {
    items > out && cat out && grep -Eq '^choices +1\.0 +0 +56 acc +0\.[0-9]{4} 0\.[0-9]{4}$' out &&
        grep -Eq '^choices +1\.0 +0 +56 acc_norm' out && grep -Eq '^choices +[0-9a-f]{64}$' out
}
learned() {                                       # all is known of b.bin but which choice is called right
    bench --model b.bin choices=known.jsonl --json > out && cat out && grep -q '"n": 56, "metric": "acc_norm", "value": 1,' out
}
sed 's/"gold": [012]/"gold": 0/' items.jsonl > known.jsonl
same() { items --log one.log > one && items --log two.log "$@" > two && cmp one two && cmp one.log two.log; }
shuffled() {                                      # each question's numbers, whatever stands around it
    sed -n '1!G;h;$p' items.jsonl > reversed.jsonl && items --log one.log > /dev/null &&
        bench --model a.bin choices=reversed.jsonl --batch 5 --log two.log > /dev/null &&
        sed '1d; s/.*"ll": //' one.log > one && sed '1d; s/.*"ll": //' two.log | sed -n '1!G;h;$p' | cmp - one
}
subjects() {
    bench --model a.bin mmlu=hen_care_test.csv mmlu=cow_care_test.csv --shots 3 --examples dev --vs b.bin > out && cat out &&
        grep -Eq '^hen_care +1\.0 +3 +56 acc' out && grep -Eq '^cow_care +1\.0 +3 +9 acc' out &&
        grep -Eq '^mmlu +1\.0 +3 +65 acc' out && grep -Eq '^mean of subjects +1\.0 +3 +65 acc .* -$' out &&
        [ "$(grep -c '^cow_care ' out)" -eq 3 ]
}
hub() {                                           # the hub's form of the same questions
    awk -F, '{ print "{\"question\": \"" $1 "\", \"subject\": \"hen_care\", \"choices\": [\"" $2 "\", \"" $3 "\", \"nobody\", \"the " \
        $2 ", again\"], \"answer\": " index("ABCD", $NF) - 1 "}" }' hen_care_test.csv > hub.jsonl
    head -n 5 hub.jsonl > hub_dev.jsonl
    bench --model a.bin mmlu=hub.jsonl --shots 2 --examples hub_dev.jsonl > one &&
        bench --model a.bin mmlu=hen_care_test.csv --shots 2 --examples dev > two &&
        cat two && cmp one two
}
limited() { bench --model a.bin mmlu=hen_care_test.csv mmlu=cow_care_test.csv --limit 7 --json > out && cat out && grep -q '"n": 14,' out; }
cut_off() {                                       # more examples than fit: the oldest go
    bench --model a.bin mmlu=hen_care_test.csv --shots 5 --examples dev --limit 3 > out && cat stderr &&
        grep -q '^eval: 3 of 3 questions are longer than the context of 96 tokens and lose their beginning, first hen_care_test.csv:1$' stderr
}
check "the table has task, version, shots, n, metric, value, error" table
check "no line of the tables is wider than 80 columns" narrow
check "a model that knows the text is right" learned
check "the same numbers with --batch 1 and 1 thread" same --batch 1 --threads 1
check "the same numbers with --batch 3 and 3 threads" same --batch 3 --threads 3
check "the same numbers in another order" shuffled
check "subjects, their sum, their mean" subjects
check "MMLU's CSV and the hub's rows are the same questions" hub
several() {                                       # each task as if it were alone, and TruthfulQA's own examples
    echo '[{"question": "the hen", "mc1_targets": {"and": 1, "cat": 0}, "mc2_targets": {"and": 1, "cat": 0, "dog": 1}}]' > mc.json
    mkdir -p test && cp hen_care_test.csv test && cp hen_care_test.csv test/anatomy_test.csv && cp dev/hen_care_dev.csv dev/anatomy_dev.csv
    bench --model a.bin --vs b.bin mmlu=test/hen_care_test.csv truthfulqa=mc.json mmlu=test/anatomy_test.csv --examples dev --log s.log --shots 2 > out && cat out &&
        bench --model a.bin mmlu=hen_care_test.csv --shots 2 --examples dev > one && grep "^hen_care" one > two && grep -qf two out &&
        grep -Eq '^truthfulqa_mc1 +2\.0 +0 +1 acc' out && grep -Eq '^truthfulqa_mc2 +3\.0 +0 +1 acc' out &&
        grep -Eq '^stem +1\.0 +2 +56 acc' out && grep -Eq '^mmlu +1\.0 +2 +112 acc' out && grep -q "too few to tell" out &&
        head -n 70 s.log > t.log && mv t.log s.log &&
        bench --model a.bin --vs b.bin mmlu=test/hen_care_test.csv truthfulqa=mc.json mmlu=test/anatomy_test.csv --examples dev --log s.log --shots 2 --resume > again && cmp again out || { cat out again stderr; false; }
}
check "--limit counts in each subject" limited
apart() {                                         # questions of equal length, of two subjects
    for g in abc xyz; do
        echo "$g,the hen,a cow,an owl,the cat,A" > ${g}_test.csv
        bench --model a.bin mmlu_cloze=${g}_test.csv --log $g.log > /dev/null && tail -n 1 $g.log
    done | sed 's/.*"group"//' > one
    bench --model a.bin mmlu_cloze=abc_test.csv mmlu_cloze=xyz_test.csv --batch 1 --log two.log > /dev/null &&
        sed '1d; s/.*"group"//' two.log | cmp - one
}
check "a subject's numbers do not depend on the one before" apart
folder() {                                        # a release: its subjects in alphabetical order, examples beside them
    mkdir -p all/test all/dev && cp hen_care_test.csv cow_care_test.csv all/test && cp dev/hen_care_dev.csv dev/cow_care_dev.csv all/dev &&
        echo "no questions" > all/test/notes.txt && bench --model a.bin mmlu=all --shots 2 --limit 9 --log two.log > two && cat two &&
        bench --model a.bin mmlu=cow_care_test.csv mmlu=hen_care_test.csv --shots 2 --limit 9 --examples dev --log one.log > one &&
        cmp one two && cmp one.log two.log && bench --model a.bin mmlu_cloze=all --limit 9 > out && grep -Eq '^mmlu_cloze +1\.0 +0 +18 acc' out
}
check "a folder is all its subjects" folder
mkdir none none/test
check "refuses a folder without test" refuses "^eval: dev/test: cannot open, want" --model a.bin mmlu=dev
check "refuses a folder without questions" refuses "^eval: none/test: has no SUBJECT_test.csv" --model a.bin mmlu=none
check "several tasks in one call, and a folder of examples" several
check "a question longer than the context loses its beginning" cut_off

# ---- log -------------------------------------------------------------------------------------------------------

resumed() {                                       # killed after 20 questions and a piece of the next; finished; with nothing written
    items --vs b.bin --log whole.log > one && head -n 21 whole.log > part.log && sed -n 22p whole.log | cut -c 1-30 | tr -d '\n' >> part.log &&
        items --vs b.bin --log part.log --resume > two && cmp one two && cmp whole.log part.log &&
        items --vs b.bin --log part.log --resume > two && cmp one two && cmp whole.log part.log &&
        : > part.log && items --vs b.bin --log part.log --resume > two && cmp one two && cmp whole.log part.log
}
not_again() {                                     # what is known is not computed anew: a changed number stays
    items --log part.log > /dev/null && sed -i.old '2s/"ll": \[-[0-9.]*/"ll": [-0.125/; 2s/"pred": ./"pred": 0/' part.log && items --log part.log --resume > /dev/null &&
        sed -n 2p part.log && sed -n 2p part.log | grep -q '"ll": \[-0.125,'
}
flips() {
    items --vs b.bin --log whole.log > out && n=$(awk '$1 == "choices" && $2 == "acc_norm" && NF == 10 { print $8 + $9 }' out) && cat out &&
        [ "$n" -gt 0 ] && [ "$(grep -c '"flip": "choices", "item"' whole.log)" -eq "$n" ] &&
        grep -q "^only the second right: [0-9]" out
}
full() {
    (ulimit -f 2; bench --model a.bin choices=items.jsonl --log full.log > out)
    [ $? -eq 1 ] && grep -q "^eval: full.log: cannot write" stderr
}
check "a run that was stopped goes on from its log" resumed
check "and computes nothing twice" not_again
check "the log lists what the two models judge differently" flips
items --log a.log > /dev/null
check "--resume refuses the log of another model" refuses "^eval: a.log:1: is not what this run would write, want .*\"task\"" \
      --model b.bin choices=items.jsonl --log a.log --resume
check "--resume refuses the log of other shots" refuses "^eval: a.log:1: is not what .* want .*\"shots\": 1" --model a.bin \
      choices=items.jsonl --examples items.jsonl --shots 1 --log a.log --resume
check "--resume refuses the log of other answers to the same questions" refuses "^eval: a.log:1: is not what this run would write" --model a.bin \
      choices=known.jsonl --log a.log --resume
check "--resume refuses what is no log" refuses "^eval: text.txt:1: is not what this run would write" --model a.bin choices=known.jsonl \
      --log text.txt --resume
check "--resume refuses a log with other choices" sh -c "sed '3s/\"ll\": \[/\"ll\": [1, /' a.log > c.log"
check "... and says where" refuses "^eval: c.log:3: is not what this run would write" --model a.bin choices=items.jsonl \
      --log c.log --resume
check "--resume refuses a log whose lines are in another order" sh -c "sed '2{h;d;}; 3G' a.log > d.log"
check "... and says where, too" refuses "^eval: d.log:2: is not what this run would write" --model a.bin choices=items.jsonl \
      --log d.log --resume
for number in nan -inf; do                        # where the answer that the line tells stays the same with it
    line=$(grep -n '"pred": 1' a.log | sed 's/:.*//; q')
    sed "${line}s/[^ ]*\], \"pred\"/$number], \"pred\"/" a.log > e.log
    check "--resume refuses a log-likelihood of $number" refuses "^eval: e.log:$line: is not what this run would write" \
          --model a.bin choices=items.jsonl --log e.log --resume
done
check "a log that cannot be written is an error" full

# ---- refusals --------------------------------------------------------------------------------------------------

check "refuses an unknown task" refuses "^eval: 'glue=items.jsonl', want TASK=FILE, TASK one of hellaswag" --model a.bin glue=items.jsonl
check "refuses a word that names no file" refuses "^eval: 'choices', want TASK=FILE" --model a.bin choices
check "refuses no task" refuses "^eval: want questions as words" --model a.bin
check "refuses --data" refuses "^eval: want questions as words" --model a.bin choices=items.jsonl --data items.jsonl
check "refuses --shots without --examples" refuses "^eval: --shots: choices needs --examples FILE" --model a.bin choices=items.jsonl --shots 2
check "refuses more shots than examples" refuses "^eval: --shots: 9, but there are just 5 examples for hen_care" --model a.bin \
      mmlu=hen_care_test.csv --shots 9 --examples dev
check "refuses a file of another benchmark" refuses "^eval: items.jsonl:1: row 1 has no column .label" --model a.bin hellaswag=items.jsonl
check "refuses a log that it reads" refuses "^eval: items.jsonl: is this run's items.jsonl" --model a.bin choices=items.jsonl --log items.jsonl
check "refuses --resume without --log" refuses "want --log FILE" --model a.bin choices=items.jsonl --resume
check "refuses --bos maybe" refuses "^eval: --bos: 'maybe', want auto, on or off" --model a.bin choices=items.jsonl --bos maybe
yes "the hen" | head -n 60 | tr '\n' ' ' > long
echo "{\"context\": \"a\", \"choices\": [\"b\", \"$(cat long)\"], \"gold\": 0}" > long.jsonl
check "refuses a choice longer than the context" refuses "^eval: long.jsonl:1: a question of 1 tokens, its choice 2 of [0-9]*: want .* 1 to 96, the model's context" --model a.bin \
      choices=long.jsonl
echo '{"context": " ", "choices": ["b", "c"], "gold": 0}' > blank.jsonl
"$bin/convert" a.bin a.hf/ && for i in $(seq 32); do printf '\377\377\177\177'; done |    # the last norm: overflows
    dd of=a.hf/model.safetensors bs=1 seek=$(($(wc -c < a.hf/model.safetensors) - 256)) conv=notrunc 2> stderr
"$bin/convert" a.hf vast.bin
check "refuses a model whose numbers overflow" refuses "^eval: vast.bin: the log-likelihoods of items.jsonl:1 are no numbers" \
      --model vast.bin choices=items.jsonl
check "refuses a question without a token" refuses "^eval: blank.jsonl:1: a question of 0 tokens" --model a.bin choices=blank.jsonl
with_bos() { bench --model a.bin choices=blank.jsonl --bos on | grep -q "^choices"; }
check "--bos on gives it one" with_bos
finish

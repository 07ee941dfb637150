#!/bin/sh
# The demo: can a small model learn to route a shop's messages? Base model as it is, base model prompted with examples,
# fine-tuned model; all on the same held-out rows, which no training saw.
#
#   sh dev/demo/demo.sh FOLDER [BASE.bin]     without BASE.bin a small one is pretrained first, on the messages' own text
set -eu
out=${1:?usage: demo.sh FOLDER [BASE.bin]} base=${2:-}
train=dev/demo/train.jsonl test=dev/demo/test.jsonl
mkdir -p "$out"
say() { printf '\n== %s\n' "$*"; }
field() { printf '%.3f' "$(sed -n "s/.*\"$2\": \([0-9.]*\).*/\1/p" "$1")"; }

if [ -z "$base" ]; then
    say "no base model wanted: pretraining one on the text of the training messages"
    base=$out/base.bin
    sed 's/^{"input": "//; s/", "output": .*//' "$train" > "$out/messages.txt"
    ./train --init "layers=4 heads=4 width=128 context=320 vocab=1024" --text "$out/messages.txt" --split 0.05 \
        --epochs 12 --batch 16 --lr 2e-3 --out "$base"
fi
say "the base model as it is: one message, three continuations"
head -1 "$test" | sed 's/^{"input": "\(.*\)", "output": "\(.*\)"}$/message:   \1\nreference: \2/' | fold -s -w 80
for seed in 1 2 3; do
    printf 'answer:    '
    ./chat --model "$base" --temperature 0.8 --seed $seed --max-tokens 12 \
        --prompt "$(head -1 "$test" | sed 's/^{"input": "\(.*\)", "output": .*/\1/')" | tr '\n' ' '
    echo
done
say "exact match of the base model"
./eval answers --model "$base" --data "$test" --max-tokens 12 --json > "$out/before.json"
echo "base $(field "$out/before.json" exact_match), always the most frequent answer $(field "$out/before.json" majority)"

say "what the rows are like"
./survey "$train" --log "$out/survey.jsonl"

say "fine-tuning on 6,411 rows, 3 % of which only measure the loss"
./train --model "$base" --data "$train" --template plain --split 0.03 --epochs 2 --batch 16 --lr 7e-4 --weight-decay 2 --dtype f32 \
    --log "$out/run.jsonl" --out "$out/tuned.bin"

say "the same held-out rows: base, base with 3 examples in the prompt, and tuned"
./eval answers --model "$base" --vs "$out/tuned.bin" --shots 3 --examples "$train" --data "$test" --max-tokens 12 \
    --log "$out/answers.jsonl"
say "what is wrong with the answers"
./errors "$out/answers.jsonl" --train "$train"
./errors "$out/answers.jsonl" --json > "$out/errors.json"
./report --title "A shop's messages" "$out/survey.jsonl" "$out/run.jsonl" "$out/answers.jsonl" "$out/errors.json" > "$out/report.html"
say "look at it:  $out/report.html"
say "try it:  ./chat --model $out/tuned.bin"
printf '\ndemo: exact match %s -> %s on %d held-out rows\n' "$(field "$out/before.json" exact_match)" \
    "$(sed -n 3p "$out/errors.json" > "$out/last.json"; field "$out/last.json" exact_match)" "$(grep -c '"row"' "$out/answers.jsonl")"

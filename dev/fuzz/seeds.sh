#!/bin/sh
# seeds.sh BUILD SEEDS -- what the fuzz targets start from, made by our own writers: SEEDS/TARGET/ has the files.
#     dev/fuzz/seeds.sh build/native build/fuzz/seeds        BUILD holds train, convert, eval and train_kill
set -eu
bin=$(cd "$1" && pwd) tests=$(cd "$(dirname "$0")/../../tests" && pwd)
mkdir "$2"                                        # which must be new
cd "$2"
LC_ALL=C OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1
export LC_ALL OMP_WAIT_POLICY OMP_NUM_THREADS
mkdir -p checkpoint state safetensors gguf tokenizer_json config_json rows template tokenizer eval

# a model of a few thousand weights, an adapter, the state of a run that was killed
awk 'BEGIN { for (i = 0; i < 40; i++) print "One day, " i " little birds met. They said: it is " i " o\047clock!" }' > text.txt
"$bin/train" --init "layers=1 heads=2 width=8 context=64 vocab=270" --text text.txt --steps 2 --batch 2 --seq 32 \
    --out base.bin > said.txt 2>&1
for i in 1 2 3 4 5 6; do printf '{"instruction": "Say %d.", "input": "", "output": "%d"}\n' $i $i; done > pairs.jsonl
pairs="--data pairs.jsonl --template plain --batch 2 --seq 48"
"$bin/train" --model base.bin $pairs --steps 2 --lora 2 --out lora.bin >> said.txt 2>&1
"$bin/train" --model base.bin $pairs --steps 2 --dtype bf16 --out half.bin >> said.txt 2>&1
i=40                                              # killed as late as leaves a state
while [ ! -e run.bin.state ] && [ $i -gt 0 ]; do
    rm -f run.bin*
    (KILL_AT=$i exec "$bin/train_kill" --model base.bin $pairs --steps 3 --save-every 1 --out run.bin) >> said.txt 2>&1 || :
    i=$((i - 1))
done
mv run.bin.state run.state
for kind in smollm qwen2 llama3 llama2 gpt2; do "$bin/convert" "$tests/golden_hf/$kind" $kind.bin >> said.txt 2>&1; done
"$bin/convert" base.bin hf/ >> said.txt 2>&1
for name in base smollm llama2 qwen2; do "$bin/convert" $name.bin gguf/$name.gguf >> said.txt 2>&1; done

cp base.bin lora.bin half.bin smollm.bin llama2.bin checkpoint
cp run.state state
cp hf/model.safetensors safetensors/base
for kind in gpt2 smollm llama2; do
    cp "$tests/golden_hf/$kind/tokenizer.json" tokenizer_json/$kind
    cp "$tests/golden_hf/$kind/config.json" config_json/$kind
    cp "$tests/golden_hf/$kind/model.safetensors" safetensors/$kind
done
cp hf/tokenizer.json tokenizer_json/base
cp hf/config.json config_json/base

# the first byte of rows is the form and how it is read, of tokenizer which one, of eval which benchmark: fuzz.c
{ printf '`'; cat pairs.jsonl; } > rows/lines
{ printf 'h['; sed '$!s/$/,/' pairs.jsonl; echo ']'; } > rows/array
printf 'hh{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "\\u00e9\\ud83d\\ude00"}, {"role": "assistant", "content": "a"}]}\n' |
    tail -c +2 > rows/messages
printf 'iprompt,completion\r\n"a ""b"", c",d\r\n' > rows/csv
printf 'jprompt\tcompletion\na b\tc\n' > rows/tsv
printf 'Below.\n{?input}{input}\n{:}none{/}{instruction}\n{target}{output}{eot}' > template/row
printf '[default]\n[system]\n{text}{eot}\n[user]\nU: {text}{input}\n[assistant]\nA:{target} {text}{eot}\n' > template/sections
for i in 0 1 2 3 4; do
    printf '\\00%d'"It's 12,345 o'clock\\303\\251 \\360\\237\\230\\200 <|endoftext|>\\r\\n\\t \\341\\204\\200\\341\\205\\241" $i > t
    printf "$(cat t)" > tokenizer/$i
done
rm t
e() { printf '%s\n' "$2" | { printf "$1"; cat; } > eval/$3; }
e 0 '{"ind": 1, "activity_label": "Run", "ctx_a": "A man", "ctx_b": "he", "ctx": "A man he", "split": "val", "split_type": "indomain", "endings": ["a", "b", "c", "d"], "source_id": "x", "label": 1}' hellaswag
e 1 '{"id": "q1", "question": {"stem": "Why?", "choices": [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}]}, "answerKey": "A"}' arc
e 1 '{"id": "q1", "question": "Why?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"}' arc_hub
e 2 'What is it?,"a, b",c,d,e,B' mmlu
e 3 '{"question": "What is it?", "subject": "x", "choices": ["a", "b", "c", "d"], "answer": 1}' mmlu_hub
e 4 '[{"question": "Why?", "mc1_targets": {"a": 1, "b": 0}, "mc2_targets": {"a": 1, "b": 0, "c": 1}}]' truthfulqa
e 5 '{"context": "One day", "choices": [" he", " she"], "gold": 0}' choices
echo "seeds in $2: $(find . -type f | wc -l) files"

#!/bin/sh
# performance.sh -- measures all that dev/PERFORMANCE.md says, ours and the peers', side by side on this
# machine, and writes its tables. About 12 minutes on 2 cores, which must have nothing else to do: bench warns
# if they have.
#
#   make && PYTHON=venv/bin/python LLMC=../llm.c sh dev/performance.sh OUT [SECTION ...]
#
#   OUT      a folder of its own: models, texts, and each section's figures as OUT/SECTION.jsonl
#   SECTION  prepare train growth torch rows others tables; without any, all of them in this order.
#            builds: also AVX2's and the plain build's speed (compiles twice)
#   PYTHON   with torch, transformers, trl, peft, datasets, tokenizers, tiktoken, llama-cpp-python
#   LLMC     a checkout of llm.c with train_gpt2 built (OpenMP); without it that line is left out
#   DATA     the folder of instruction rows, texts and GPT-2's tokenizer files (default ../shared/data)
set -e
here=$(cd "$(dirname "$0")/.." && pwd)
out=${1:?usage: performance.sh OUT [SECTION ...]}
shift
full() { case $1 in */*) echo "$(cd "$(dirname "$1")" && pwd)/$(basename "$1")" ;; *) echo "$1" ;; esac; }
python=$(full "${PYTHON:-python3}")
trainer=${LLMC:+$(full "$LLMC/train_gpt2")}
data=${DATA:-$here/../shared/data}
threads=${THREADS:-2}
rows=${ROWS:-40}
mkdir -p "$out"
out=$(cd "$out" && pwd)
peers=$here/dev/peers
bench="$here/bench --json --threads $threads"
text=$out/english.txt
unset OMP_WAIT_POLICY                 # as a user runs it
export TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

now() { date +%s.%N; }
json() { printf '{"what": "%s", "value": %s, "unit": "%s"}\n' "$1" "$2" "$3"; }

# Random weights in the shape of GPT-2 124M, for each program in its own format; the same rows and text.
prepare() {
    [ -f "$out/llmc/gpt2_124M.bin" ] || "$python" "$peers/random_gpt2.py" "$data/tokenizers/gpt2" "$out"
    "$here/convert" "$out/gpt2" "$out/gpt2.bin"
    "$here/convert" "$out/gpt2.bin" "$out/gpt2-f32.gguf" --dtype f32
    "$here/convert" "$out/gpt2.bin" "$out/gpt2-bf16.gguf" --dtype bf16
    cat "$data"/pretrain/gutenberg_children/clean/*.txt | head -c 1000000 |
        iconv -c -f utf-8 -t utf-8 > "$text" || [ -s "$text" ]    # but for half a character at the end
    "$python" -c "import json, sys; json.dump(json.load(sys.stdin)[:$rows], sys.stdout)" \
        < "$data/instruct/rasbt/instruction-data.json" > "$out/rows.json"
}

train() { $bench peak train; }
growth() { $bench peak growth infer eval; }
torch() {
    $bench peak train --batch 4 --seq 256
    "$python" "$peers/torch_gpt.py" 4 256 eager compiled --threads "$threads"
    "$python" "$peers/torch_gpt.py" 4 64 eager --threads "$threads"
}

# One epoch, the prompt masked. Ours: the time and tokens that the log has of its steps, which are whole.
ours_rows() {
    "$here/train" --model "$out/gpt2.bin" --data "$out/rows.json" --template none --split 0 --epochs 1 \
        --batch 8 --lr 1e-4 --threads "$threads" --out "$out/tuned.bin" --log "$out/tuned.jsonl" "$@" \
        2> "$out/train.err"
    "$python" "$peers/epoch.py" "$out/tuned.jsonl" "./train ${*:-full}, one epoch"
}
rows() {
    ours_rows
    (cd "$out" && "$python" "$peers/rows.py" gpt2 rows.json 8 2> trl.err | grep '"what"')
    ours_rows --lora 8
    (cd "$out" && "$python" "$peers/rows.py" gpt2 rows.json 8 8 2>> trl.err | grep '"what"')
    $bench threads
}

# llm.c's trainer takes B=4 T=64 and prints each step's milliseconds; step 0 is not counted.
llmc() {
    [ -x "$trainer" ] || return 0
    (cd "$out/llmc" && OMP_NUM_THREADS=$threads timeout 120 stdbuf -oL "$trainer" |
        sed -n 's/^step \([1-5]\): .*took \([0-9.]*\) ms.*/\2/p; /^step 5/q') | sort -n > "$out/llmc.ms"
    [ "$(wc -l < "$out/llmc.ms")" -eq 5 ] || { echo "llm.c: not 5 steps in two minutes" >&2; return 1; }
    json "llm.c, B=4 T=64" "$(sed -n 3p "$out/llmc.ms" | awk '{printf "%.1f", 256000 / $1}')" tokens/s
}

chat_start() {                        # to the first token, the file in cache: the median of 5
    for i in 1 2 3 4 5 6; do
        a=$(now)
        "$here/chat" --model "$out/gpt2.bin" --template none --prompt "Once upon a time" --max-tokens 1 \
            --threads "$threads" > "$out/chat.out" 2>&1
        echo "$a $(now)"
    done | awk 'NR > 1 {print $2 - $1}' | sort -n | sed -n 3p
}

others() {
    $bench peak train --batch 4 --seq 64
    llmc
    for f in f32 bf16; do "$python" "$peers/llama_speed.py" "$out/gpt2-$f.gguf" "$threads"; done
    $bench tokenize --model "$out/gpt2.bin" --text "$text"
    "$python" "$peers/encode_speed.py" "$data/tokenizers/gpt2" "$text"
    json "start of ./chat to the first token, 124M f32" "$(chat_start)" s
}

# The same step from a compiler that may use less of the machine
builds() {
    for b in native avx2 plain; do
        case $b in
        native) arch=-march=native ;;
        avx2) arch="-mavx2 -mfma" ;;
        plain) arch= ;;
        esac
        make -s -C "$here" BUILD="$out/$b" ARCH="$arch" "$out/$b/bench" >&2
        json "build $b" 0 ""
        "$out/$b/bench" --json --threads "$threads" train --config demo --batch 4 --seq 64
    done
}

tables() {
    "$python" "$peers/tables.py" "$out" "$here/dev/PERFORMANCE.md" "$(git -C "$here" rev-parse --short HEAD)"
}

[ $# -gt 0 ] || set -- prepare train growth torch rows others tables
for section; do
    start=$(now)
    case $section in
    prepare|tables) $section ;;
    train|growth|torch|rows|others|builds)
        $section > "$out/$section.part"
        mv "$out/$section.part" "$out/$section.jsonl" ;;
    *) echo "performance.sh: '$section', want a section" >&2; exit 1 ;;
    esac
    echo "$section: $(echo "$start $(now)" | awk '{printf "%.0f", $2 - $1}') s" >&2
done

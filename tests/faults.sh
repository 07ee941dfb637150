#!/bin/sh
# faults.sh BUILD [all] -- train, eval and convert with every call on files, every read and every allocation failing in
# turn (faults.c), and killed at random moments. What must hold each time: exit status 1 with a message, or 0 and the
# same result; what was on disk is whole, old or new; a state that is there goes on to the same bytes; no temporary file
# but of a killed run; no memory and no file is left open.
#
#   tests/faults.sh build/native         a sample
#   tests/faults.sh build/native all     everything, and 1,000 kills; SEED=N for other moments
#   tests/faults.sh build/native all train_new eval_loss ...     these scenarios alone, without kills
here=$(dirname "$0")
bin=$(cd "${1:?usage: tests/faults.sh BUILD [all]}" && pwd) || exit 1
every=17 kills=25                     # each call in steps of 17; a prime, to meet all kinds of calls in time
[ "${2:-}" = all ] && every=1 kills=1000
[ $# -lt 2 ] || shift
shift
scenarios="train_new train_over train_resumed train_refused eval_loss eval_answers convert_half convert_gguf convert_folder"
chosen=${*:-$scenarios}
. "$here/lib.sh"
cd "$tmp" || exit 1
[ -x "$bin/train_faults" ] || { echo "LEFT OUT: this linker cannot make train_faults"; exit 0; }
OMP_NUM_THREADS=1 FAULT=none:0
export OMP_NUM_THREADS FAULT
bad() { echo "$*"; return 1; }

for animal in cat dog fox hen cow pig; do
    for color in red green blue black; do
        printf '{"instruction": "Which color?", "input": "the %s %s", "output": "it is %s"}\n' $color $animal $color
        printf 'the %s %s is %s\n' $color $animal $color >> text.txt
    done
done > rows.jsonl
sed -n '1,16p' rows.jsonl > train.jsonl
sed -n '17,$p' rows.jsonl > val.jsonl
"$bin/train" --init "layers=1 heads=1 width=8 context=64 vocab=270" --text text.txt --steps 2 --split 0 --threads 1 \
    --out base.bin 2> said || { cat said; exit 1; }
"$bin/convert" base.bin --dtype bf16 half.bin > /dev/null 2>&1

# ---- one scenario, with one fault ----------------------------------------------------------------------------

# Each scenario is a function that runs its program in the folder at hand, where its files are; with a "$1" it only
# makes what is there before. Its results are compared with those in ../sound, made without a fault. Each has a folder
# of its own, as they all run at once.
run="--model $tmp/base.bin --data $tmp/train.jsonl --val $tmp/val.jsonl --template plain --batch 4 --threads 1"
train_new() { "$bin/train_faults" $run --epochs 1 --save-every 2 --lr 1e-2 --out k.bin --log k.log; }
train_over() {                                     # a file of that name is there
    [ -z "${1:-}" ] || { cp "$tmp/base.bin" k.bin; return; }
    "$bin/train_faults" $run --epochs 1 --lr 1e-2 --lora 2 --out k.bin
}
train_resumed() {
    [ -z "${1:-}" ] || { cp "$tmp/stopped.state" k.bin.state; return; }
    "$bin/train_faults" $run --epochs 1 --save-every 2 --lr 1e-2 --out k.bin --resume
}
train_refused() {                                  # without --resume, a state must not be lost
    [ -z "${1:-}" ] || { cp "$tmp/stopped.state" k.bin.state; return; }
    "$bin/train_faults" $run --epochs 1 --save-every 2 --lr 1e-2 --out k.bin
}
eval_loss() { "$bin/eval_faults" loss --model "$tmp/base.bin" --data "$tmp/val.jsonl" --threads 1; }
eval_answers() { "$bin/eval_faults" answers --model "$tmp/half.bin" --data "$tmp/val.jsonl" --template plain --limit 2 \
    --max-tokens 3 --threads 1 --log k.log; }
convert_half() {
    [ -z "${1:-}" ] || { cp "$tmp/half.bin" k.bin; return; }
    "$bin/convert_faults" "$tmp/base.bin" k.bin --dtype bf16
}
convert_gguf() { "$bin/convert_faults" "$tmp/base.bin" k.gguf; }
convert_folder() { "$bin/convert_faults" "$tmp/base.bin" k.hf/; }

# The state that a resumed run begins with: of a run that failed late, when it had written one.
stopped_state() {
    mkdir -p now && cd now || return 1
    for n in $(seq 100 10 300); do
        FAULT=error:$n "$bin/train_faults" $run --epochs 1 --save-every 2 --lr 1e-2 --out stop.bin > said 2>&1
        [ ! -e stop.bin.state ] || { mv stop.bin.state ../stopped.state && cd ..; return; }
        rm -f stop.bin*
    done
    bad "no run could be stopped"
}

# tidy: "left: 0 blocks, 0 files"; no temporary file, unless it could not be told whose it is
tidy() {
    case $said in *"; left: 0 blocks, 0 files") ;; *) bad "not freed or not closed"; return ;; esac
    case $said in *"failed: fcntl;"* | *"failed: fstat;"* | *"failed: stat;"*) return 0 ;; esac
    for f in *.writing; do [ ! -e "$f" ] || bad "$f is left" || return 1; done
}
# whole: what stands where the result goes is the old file or the new one, byte for byte, or nothing if nothing was
whole() {
    for f in k.bin k.gguf k.hf; do
        if [ -e $f ]; then diff -rq $f ../sound/$f || cmp -s $f ../before/$f || bad "$f is neither old nor new" || return 1
        elif [ -e ../before/$f ]; then bad "$f is gone"; return 1
        fi
    done
}
# goes_on: after a fault, train ends with the bytes that it would have had; a log may lack lines
goes_on() {
    case $1 in train_new | train_resumed) ;; *) return 0 ;; esac
    resume=$([ -e k.bin.state ] && echo --resume)
    cmp -s k.bin ../sound/k.bin && [ -z "$resume" ] && return 0
    "$bin/train" $run --epochs 1 --save-every 2 --lr 1e-2 --out k.bin $resume > ../said2 2>&1 || { cat ../said2; return 1; }
    cmp k.bin ../sound/k.bin
}
# the two columns at the end of eval answers are seconds
timeless() { sed 's/ *[0-9]*\.[0-9][0-9][0-9] *[0-9]*\.[0-9][0-9][0-9]$//'; }
# same SCENARIO: it ended well, and its output says the same
same() {
    case $1 in
    train_refused) bad "the state was not seen" ;;
    train*)        ;;
    *)             timeless < ../out | cmp -s - ../sound.out || { diff ../out ../sound.out; bad "another result"; } ;;
    esac
}
# told SCENARIO: it ended with a message of its own: a warning on the way, or what faults.c counts, says not why
told() { grep -v '^train: warning: ' ../said | grep -q "^${1%%_*}: ." || bad "no message"; }
# with FAULT SCENARIO: all that must hold. 2: it failed, as it should; not an error
with() {
    rm -rf now
    cp -r before now && cd now || return 1
    FAULT=$1 $2 > ../out 2> ../said
    status=$?
    said=$(cat ../said)
    case $status in
    0)  same $2 || return 1 ;;
    1)  told $2 || return 1 ;;
    *)  bad "exit status $status"; return 1 ;;
    esac
    tidy && whole && goes_on $2 || return 1
    cd ..
    return $((status * 2))
}
# turns SCENARIO: in its folder, without a fault, then with each. A program that hangs is ended, which is no status of 1.
turns() {
    mkdir "$1" && cd "$1" && mkdir before || return 1
    ulimit -t 100
    (cd before && case $1 in train_over | train_resumed | train_refused | convert_half) $1 before ;; esac)
    cp -r before sound
    (cd sound && FAULT=none:0 $1 2> ../said | timeless > ../sound.out)
    calls=$(sed -n 's/^faults: \([0-9]*\) calls.*/\1/p' said)
    reads=$(sed -n 's/^faults:.* \([0-9]*\) reads.*/\1/p' said)
    allocations=$(sed -n 's/^faults:.* \([0-9]*\) allocations.*/\1/p' said)
    [ "${calls:-0}" -gt 0 ] && grep -q 'left: 0 blocks, 0 files' said || { cat said; return 1; }
    tried=0 failed_well=0
    for fault in error:$calls full:$calls short:$reads eintr:$reads alloc:$allocations; do
        n=1
        while [ $n -le "${fault#*:}" ]; do
            with "${fault%:*}:$n" $1
            case $? in
            0)  ;;
            2)  failed_well=$((failed_well + 1)) ;;
            *)  cat "$tmp/$1/said"; echo "with FAULT=${fault%:*}:$n"; return 1 ;;
            esac
            tried=$((tried + 1)) n=$((n + every))
        done
    done
    [ $failed_well -gt 0 ] || bad "nothing failed" || return 1
    echo "$1 $calls $reads $allocations $tried $failed_well" >> "$tmp/counts"
}
# all_turns: all scenarios at once, each into a file; then verdict SCENARIO says how it went
all_turns() {
    for s in $chosen; do
        { (turns $s) > $s.said 2>&1; echo $? > $s.rc; } &
    done
    wait
}
verdict() {
    cat $1.said
    return "$(cat $1.rc)"
}
# The counts, and their sums for each program. That a line stands here means that in none of its cases a file was
# damaged, memory or a file left: those end a scenario as failed.
evidence() {
    awk '
        {   printf "%-14s %5d calls, %4d reads, %3d allocations: %5d faults, %5d errors, %5d without consequence\n",
                $1, $2, $3, $4, $5, $6, $5 - $6
            program = $1; sub(/_.*/, "", program)
            tried[program] += $5; failed[program] += $6 }
        END { for (p in tried)
            printf "%s: %d points of failure, %d ended with a clear error, %d had no consequence, " \
                "0 damaged files, 0 leaks\n", p, tried[p], failed[p], tried[p] - failed[p] }' "$tmp/counts"
}

# ---- killed at random moments --------------------------------------------------------------------------------

long="$run --epochs 3 --save-every 1 --val-every 2"
killed_anywhere() {
    rm -rf now && mkdir now && cd now || return 1
    "$bin/train" $long --lr 1e-2 --out w.bin > said 2>&1 || { cat said; return 1; }
    cp "$tmp/base.bin" k.bin
    done=0 ended=0 resumed=0
    awk -v n=$kills -v seed="${SEED:-1}" 'BEGIN { srand(seed); for (; n > 0; n--) print int(1000 * rand()) }' > moments
    top=30                                         # microseconds / 1000: follows how long a run takes on this machine
    while read -r share; do
        us=$((top * share))
        resume=$([ -e k.bin.state ] && echo --resume)
        FAULT=kill:$((us + 1)) "$bin/train_faults" $long --lr 1e-2 --out k.bin $resume > said 2>&1
        status=$?
        [ $status -eq 137 ] || [ $status -eq 0 ] || { cat said; return 1; }
        cmp -s k.bin w.bin || cmp -s k.bin "$tmp/base.bin" || bad "k.bin is neither old nor new" || return 1
        if [ -e k.bin.best ]; then
            "$bin/eval" loss --model k.bin.best --data "$tmp/val.jsonl" > said 2>&1 || { cat said; return 1; }
        fi
        [ -n "$resume" ] && resumed=$((resumed + 1)) || top=$((top + top / 4 + 1))
        done=$((done + 1))
        [ $status -eq 0 ] || continue
        cmp k.bin w.bin && [ ! -e k.bin.state ] || return 1
        ended=$((ended + 1)) top=$((top - top / 3))
        cp "$tmp/base.bin" k.bin
    done < moments
    [ $resumed -gt $((kills / 5)) ] || bad "only $resumed were resumed" || return 1
    "$bin/train" $long --lr 1e-2 --out k.bin $([ -e k.bin.state ] && echo --resume) > said 2>&1 && cmp k.bin w.bin || return 1
    [ "$(ls | grep -c '\.writing$')" -le 3 ] || bad "temporary files pile up" || return 1
    echo "train: $done kills, $resumed times resumed from what was there, $ended times to the end with the same bytes," \
        "0 damaged files" > "$tmp/killed"
    cd ..
}

# ---- two runs on one output ----------------------------------------------------------------------------------

only_one() {
    rm -rf now && mkdir now && cd now || return 1
    "$bin/train" $run --epochs 9999 --out k.bin > one 2>&1 &
    first=$!
    i=0
    until [ -e k.bin.writing ] && grep -q '^step' one; do
        i=$((i + 1))
        [ $i -lt 200 ] && sleep 0.1 || break
    done
    "$bin/train" $run --epochs 1 --out k.bin > two 2>&1
    second=$?
    "$bin/convert" "$tmp/base.bin" k.bin > three 2>&1
    third=$?
    kill -KILL $first
    wait $first
    [ $second -eq 1 ] && [ $third -eq 1 ] || { cat one two three; return 1; }
    grep -q 'k.bin: another program is writing it' two && grep -q 'another program is writing it' three || return 1
    "$bin/train" $run --epochs 1 --out k.bin > two 2>&1 || { cat two; return 1; }    # what was killed is in nobody's way
    [ ! -e k.bin.writing ]
}

check "a run can be stopped and leaves a state" stopped_state
cd "$tmp" || exit 1
all_turns
for scenario in $chosen; do
    check "$scenario: every fault is an error or has no consequence" verdict $scenario
done
if [ "$chosen" = "$scenarios" ]; then
    check "killed at $kills random moments: whole files, exact resume" killed_anywhere
    cd "$tmp" || exit 1
    check "two runs on one output: the second is refused, and a killed one blocks nobody" only_one
fi
[ ! -e "$tmp/counts" ] || evidence
[ ! -e "$tmp/killed" ] || cat "$tmp/killed"
finish

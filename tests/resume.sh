#!/bin/sh
# resume.sh BUILD [all] -- a run that is killed anywhere and resumed ends as if it had never stopped: the same bytes of
# every file, and a log that tells each step once. And what else keeps a run's work: the best model, the last good one.
#
#   tests/resume.sh build/native         kills at about each step
#   tests/resume.sh build/native all     before each flush, renaming and removal of a file, in more kinds of runs
#
# BUILD holds train, and train_kill, which is train with kill.c, where the linker can make it.
here=$(dirname "$0")
bin=$(cd "${1:?usage: tests/resume.sh BUILD [all]}" && pwd) || exit 1
every=$([ "${2:-}" = all ] && echo 1 || echo 7)    # 7: no multiple of the calls that one step makes
. "$here/lib.sh"
cd "$tmp" || exit 1

# ---- a base model, and runs of two epochs of ten steps ---------------------------------------------------------

for animal in cat dog fox hen cow pig owl bee; do
    for color in red green blue black white; do
        printf '{"instruction": "Which color?", "input": "the %s %s", "output": "it is %s"}\n' $color $animal $color
        printf 'the %s %s is %s\n' $color $animal $color >> text.txt
    done
done > rows.jsonl
"$bin/train" --init "layers=2 heads=2 width=16 context=32 vocab=280" --text text.txt --steps 5 --split 0 --threads 1 \
    --out base.bin 2> said || { cat said; exit 1; }
sed -n '1,30p' rows.jsonl > train.jsonl
sed -n '31,$p' rows.jsonl > val.jsonl
run="--model base.bin --data train.jsonl --val val.jsonl --template plain --batch 3 --epochs 2 --threads 1"

# Of a log, what a reader sees of the steps: all but the time they took, which no two runs share.
steps_of() { sed -n 's/, "seconds": .*//; /"step"/p' "$1"; }
bad() { echo "$*"; return 1; }
contains() { grep -q -e "$2" "$1" || { cat "$1"; bad "want: $2"; }; }

# ---- killed and resumed ----------------------------------------------------------------------------------------

# dies N OPTIONS...: false if the run ends before the Nth call
dies() {
    at=$1
    shift
    (KILL_AT=$at exec "$bin/train_kill" $run --save-every 1 "$@") > said 2>&1
    status=$?
    [ $status -eq 137 ] || [ $status -eq 0 ] || { cat said; return 2; }
    [ $status -eq 137 ]
}
# goes_on OPTIONS...: with --resume if a state is there, from the beginning if it was never written; nothing to do if
# there is none any more
goes_on() {
    if [ -e k.bin.state ]; then "$bin/train" $run --save-every 1 "$@" --resume
    elif [ ! -e k.bin ]; then "$bin/train" $run --save-every 1 "$@"
    fi > said 2>&1 || { cat said; return 1; }
}
# A run that was killed between the end of its state and the removal of what it no longer needs may leave that.
alike() {
    for end in '' .best .last; do
        if [ -e w.bin$end ]; then cmp w.bin$end k.bin$end || return 1
        elif [ -e k.bin$end ] && [ "$end" != .best ]; then bad "left over: k.bin$end"; return 1
        fi
    done
    [ ! -e k.bin.state ] || bad "left over: k.bin.state"
    steps_of k.log > k.steps && cmp w.steps k.steps
}
same_whenever_killed() {
    rm -f w.* k.*
    "$bin/train" $run "$@" --out w.bin --log w.log > said 2>&1 || { cat said; return 1; }
    steps_of w.log > w.steps
    n=$every
    while rm -f k.*; dies $n "$@" --out k.bin --log k.log; do
        goes_on "$@" --out k.bin --log k.log && alike || { bad "killed before call $n"; return 1; }
        n=$((n + every))
    done
    [ $status -eq 0 ] && alike && [ $n -gt 50 ] || bad "$n calls, status $status"
}
# killed again and again, each time some steps later
same_however_often() {
    rm -f k.*
    dies 40 "$@" --out k.bin --log k.log || return 1
    while [ -e k.bin.state ] && dies 25 "$@" --out k.bin --log k.log --resume; do :; done
    goes_on "$@" --out k.bin --log k.log && alike
}
another_best() {                                   # another run's model in the place of .best is not gone on from
    rm -f k.*
    set -- --lr 2e-2 --val-every 3 --early-stop 3 --out k.bin
    dies 60 "$@" && [ -e k.bin.best ] && [ -e k.bin.state ] && cp base.bin k.bin.best || bad "no .best" || return 1
    ! "$bin/train" $run --save-every 1 "$@" --resume > said 2>&1 &&
        contains said "^train: k.bin.best: was not written by this run" && cmp base.bin k.bin.best && [ -e k.bin.state ]
}
if [ -x "$bin/train_kill" ]; then
    check "--resume with another run's .best is refused" another_best
    check "killed at each step and resumed: the same bytes, each step logged once" same_whenever_killed --lr 3e-3
    check "killed again and again: the same" same_however_often --lr 3e-3
    check "the same with LoRA" same_whenever_killed --lr 1e-2 --lora 2
    check "the same with --early-stop" same_whenever_killed --lr 2e-2 --val-every 3 --early-stop 3
    if [ $every = 1 ]; then
        check "the same with --early-stop and LoRA" same_whenever_killed --lr 1e-1 --lora 2 --val-every 3 --early-stop 2
        check "the same with bf16 and --recompute" same_whenever_killed --lr 2e-2 --dtype bf16 --val-every 4 --recompute
        check "the same without held-out rows" same_whenever_killed --val-every 7
    fi
else
    echo "LEFT OUT: this linker cannot make train_kill"
fi

# ---- the best and the last -------------------------------------------------------------------------------------

vals() { sed -n 's/.*"step": \([0-9]*\), "val_loss": \([-+.e0-9]*\).*/\1 \2/p' "$1"; }
lowest() { vals "$1" | awk '$1 > 0 && (!n++ || $2 < best) { best = $2; at = $1 } END { print at, best }'; }
loss_of() { "$bin/eval" loss --model "$1" --data val.jsonl --json | sed -n 's/.*"loss": \([-+.e0-9]*\).*/\1/p'; }
near4() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(a > 0 && d * d < 1e-8) }' || bad "$1 and $2"; }
near() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(a > 0 && d * d < 1e-10) }' || bad "$1 and $2"; }
short="--model base.bin --data train.jsonl --val val.jsonl --template plain --batch 3 --threads 1"
too_far="--lr 3e-2 --steps 76 --val-every 4 --schedule constant"
best_beside() {                                    # without --early-stop: --out is the last, .best the best
    rm -f b.*
    "$bin/train" $short $too_far --out b.bin --log b.log > said 2>&1 || { cat said; return 1; }
    set -- $(lowest b.log)
    [ "$1" -lt 76 ] && near "$(loss_of b.bin.best)" "$2" &&
        near "$(loss_of b.bin)" "$(vals b.log | sed -n '$s/.* //p')" &&
        contains said "lowest after step $1, .*: b.bin.best" && [ ! -e b.bin.last ] &&
        "$bin/convert" --info b.bin.best > said && contains said "kept step $1: validation loss $2, the lowest"
}
stops_early() {                                    # --out is the best, .last the last, and it stopped in time
    rm -f s.*
    "$bin/train" $short $too_far --early-stop 2 --out s.bin --log s.log > said 2>&1 ||
        { cat said; return 1; }
    last=$(vals s.log | sed -n '$s/ .*//p')
    set -- $(lowest s.log)
    [ "$last" = $(($1 + 8)) ] && [ "$last" -lt 76 ] || bad "the best is $1, the last $last" || return 1
    near "$(loss_of s.bin)" "$2" && near "$(loss_of s.bin.last)" "$(vals s.log | sed -n '$s/.* //p')" &&
        [ ! -e s.bin.best ] && "$bin/convert" --info s.bin > said && contains said "kept step $1: validation loss" &&
        "$bin/convert" --info s.bin.last > said && contains said "kept step $last: the last"
}
neither() {                                        # the last is the best: nothing else is there, nor left from before
    rm -f n.*
    echo old > n.bin.best
    "$bin/train" $run --lr 1e-3 --early-stop 1 --out n.bin > said 2>&1 || { cat said; return 1; }
    [ ! -e n.bin.best ] && [ ! -e n.bin.last ] &&
        near4 "$(loss_of n.bin)" "$(sed -n 's/^step 20: .*loss \([0-9.]*\) .*/\1/p' said)"
}
no_rows() {
    ! "$bin/train" --model base.bin --data train.jsonl --split 0 --early-stop 1 --out x.bin > said 2>&1 &&
        contains said "--early-stop: no row is held out" && [ ! -e x.bin ]
}
written_over() {                                   # the files beside --out are outputs as well
    for end in best last state; do
        ln -s ../$(basename "$tmp")/val.jsonl o.bin.$end
        "$bin/train" $run --out o.bin > said 2>&1 && return 1
        contains said "o.bin.$end: is this run's val.jsonl as well" || return 1
        rm o.bin.$end
    done
}
check "the best model is kept beside the last" best_beside
check "--early-stop: --out is the best, .last the last" stops_early
check "where the last is the best, it is alone" neither
check "--early-stop wants held-out rows" no_rows
check "what is beside --out is not read" written_over

# ---- numbers that are not finite -------------------------------------------------------------------------------

# After 65 steps the weights give a finite loss, but no finite gradients; with more decay the loss itself is lost.
ruin="--model base.bin --data train.jsonl --threads 1 --steps 200 --lr 3 --schedule constant --clip 0"
stops_at_nan() {                                   # names step and tensor, keeps what was good, leaves no state
    rm -f r.*
    "$bin/train" $ruin --weight-decay 1 --split 0 --save-every 1 --out r.bin --log r.log > said 2>&1 && return 1
    good=$(sed -n 's/.*model after step \([0-9]*\).*/\1/p' said)
    contains said "^train: step $((good + 1)): the gradient of [a-z0-9]*\[[0-9]*\] is .*; the step was not taken" &&
        [ ! -e r.bin ] && [ ! -e r.bin.state ] && [ "$(steps_of r.log | wc -l)" -eq "$good" ] &&
        loss_of r.bin.last | grep '^[0-9]' && "$bin/convert" --info r.bin.last > said &&
        contains said "kept step $good: the last with finite numbers"
}
lost() {                                           # the last finite model is no good any more; the best one was kept
    "$bin/train" $ruin --weight-decay 3 --val val.jsonl --val-every 1 --save-every 2 --out v.bin > said 2>&1 && return 1
    good=$(sed -n 's/.*v.bin.best is the model after step \([0-9]*\).*/\1/p' said)
    contains said "^train: step [0-9]*: .*want finite numbers" && [ ! -e v.bin.last ] && [ ! -e v.bin.state ] &&
        "$bin/convert" --info v.bin.best > said && contains said "kept step $good: validation loss"
}
check "a step that is not finite: step and tensor are named, the last good model is kept" stops_at_nan
check "a loss that is not finite: the best model is kept" lost

# ---- the plan, and what a run did ------------------------------------------------------------------------------

planned() {
    "$bin/train" $run --plan --out x.bin > said 2> /dev/null &&
        contains said "^expected: .* on 1 threads (measured: 20 steps), [0-9]* MiB resident" && [ ! -e x.bin.state ]
}
# The log's change of each layer of qkvw, and what convert finds of both together
changed_as_diff_says() {
    "$bin/convert" --diff t.bin base.bin > diff || return 1
    all=$(awk '$1 == "qkvw" { print 100 * $3 }' diff)
    sed -n '$s/.*"qkvw": \[\([0-9.e-]*\), \([0-9.e-]*\)\].*/\1 \2/p' t.log |
        awk -v all="$all" '{ lo = $1 < $2 ? $1 : $2; hi = $1 + $2 - lo; exit !(lo > 0 && lo <= all && all <= hi) }' ||
        { cat diff; bad "qkvw: $all"; }
}
told() {                                           # the line on changes, and the log's first and last line
    "$bin/train" $run --lr 1e-3 --general text.txt --out t.bin --log t.log > said 2>&1 || { cat said; return 1; }
    contains said "^change of the weights, ||dW|| / ||W||: [0-9.]* %, most in [a-z0-9]* of layer [12], [0-9.]* %$" &&
        contains said "^all of it: ./convert --diff t.bin base.bin$" && changed_as_diff_says &&
        contains said "^loss on text.txt [0-9.]* -> [0-9.]* (\(forgotten\|gained\) [0-9.]*)" &&
        sed -n 1p t.log > first && contains first '^{"run": {"version": .*"lineage": "' &&
        [ "$(grep -c '"layer_norms": \[[0-9.]*, [0-9.]*\], "seconds"' t.log)" = 20 ] &&
        sed -n '$p' t.log > last && contains last '^{"done": {"steps": 20, .*"general": .*"change_percent": {"wte": \['
}
told_of_lora() {                                   # of the adapter's own matrices; those that began with zeros are all new
    "$bin/train" $run --lr 1e-3 --lora 2 --out a.bin --log a.log > said 2>&1 || { cat said; return 1; }
    contains said "^change of the adapter, ||dW|| / ||W||: [0-9.]* %, most in [a-z0-9]*_down of layer [12], [0-9.]* %$" &&
        contains a.log '"change_percent": {"qkv_down": \[[0-9.]*, [0-9.]*\], "qkv_up": \[100, 100\]'
}
planned_ruin() {                                   # a plan keeps nothing, even of a run that would be lost
    "$bin/train" $ruin --split 0 --weight-decay 1 --plan --out p.bin > said 2>&1
    [ "$(ls p.bin* 2> /dev/null | wc -l)" = 0 ]
}
nothing() {
    "$bin/train" $run --lr 0 --out z.bin > said 2>&1 && contains said "warning: nothing changed" || return 1
    "$bin/train" $run --lr 0 --lora 2 --out z.bin > said 2>&1 && contains said "warning: nothing changed" || return 1
    "$bin/train" $run --lr 1e-7 --out z.bin > said 2>&1 && ! grep "nothing changed" said &&
        "$bin/train" $run --lr 1e-7 --lora 2 --out z.bin > said 2>&1 && ! grep "nothing changed" said
}
rounded_away() {                                   # in bf16 so small a step is none
    "$bin/train" $run --lr 1e-9 --dtype bf16 --out z.bin > said 2>&1 &&
        "$bin/convert" base.bin --dtype bf16 y.bin > said2 2>&1 &&
        "$bin/train" ${run#--model base.bin} --model y.bin --lr 1e-9 --out z.bin > said 2>&1 &&
        contains said "warning: nothing changed"
}
rose() {
    "$bin/train" $run --lr 5 --clip 0 --out z.bin > said 2>&1 && contains said "warning: the validation loss rose from"
}
# --verify: the same run again, beside --out, which stays as it is
repeats() {                                        # repeats STATUS MESSAGE OPTIONS...
    want=$1 message=$2
    shift 2
    before=$(ls)
    "$bin/train" "$@" --verify > said 2>&1
    [ $? -eq "$want" ] && contains said "$message" && [ "$(ls)" = "$before" ]
}
verified() {
    "$bin/train" $run "$@" --out y.bin > said 2>&1 && sum=$(cksum < y.bin) &&
        repeats 0 "^y.bin agrees: sha256 [0-9a-f]*$" $run "$@" --out y.bin && [ "$sum" = "$(cksum < y.bin)" ]
}
other_bytes() {                                    # the last model of a run that stopped early is not its --out
    verified --lr 1e-1 --val-every 2 --early-stop 1 && [ -s y.bin.last ] || return 1
    "$bin/train" $run --lr 1e-1 --val-every 2 --early-stop 1 --out y.bin.last --verify > said 2>&1 && return 1
    contains said "^train: y.bin.last: sha256 [0-9a-f]*, but the run gives" && cmp y.bin y.bin.last.verify
}
users_own() {                                      # a file of the name that the second run would take
    verified --lr 1e-3 && echo mine > y.bin.verify &&
        repeats 1 "^train: y.bin.verify: is there, want it gone" $run --lr 1e-3 --out y.bin &&
        [ "$(cat y.bin.verify)" = mine ] && rm y.bin.verify
}
no_reader() {                                      # who reads what train says goes away
    "$bin/train" $run --lr 1e-3 --out y.bin > said 2>&1 && sum=$(cksum < y.bin) && rm y.bin || return 1
    ("$bin/train" $run --lr 1e-3 --out y.bin 2>&1; echo $? > status) | true
    [ "$(cat status)" = 0 ] && [ "$sum" = "$(cksum < y.bin)" ]
}
other_run() {
    sed '5s/it is/is it/' train.jsonl > changed.jsonl
    verified --lr 1e-3 && "$bin/convert" base.bin folder/ > said 2>&1 && "$bin/convert" folder imported.bin > said 2>&1 &&
        repeats 1 "^train: y.bin: comes from another run; recorded: options .* lr=0.001 .*; given: options .* lr=0.002 " \
            $run --lr 2e-3 --out y.bin &&
        repeats 1 "run; recorded: data sha256 [0-9a-f]*; given: data sha256 [0-9a-f]*$" ${run%--data*} --data changed.jsonl \
            ${run#*train.jsonl} --lr 1e-3 --out y.bin &&
        repeats 1 "run with another --template$" ${run%--template*} --template none ${run#*plain} --lr 1e-3 --out y.bin &&
        repeats 1 "imported.bin: comes from another run; recorded: .*; given: train tune.c" $run --lr 1e-3 --out imported.bin
}
check "--plan tells time and memory" planned
check "--verify: the bytes agree" verified --lr 1e-3
check "--verify: with LoRA" verified --lr 1e-3 --lora 2
check "--verify: other bytes" other_bytes
check "--verify: not the run that is recorded" other_run
check "--verify: a file in its way stays" users_own
check "a run whose reader has gone ends as it should" no_reader
planned_few() {                                   # fewer rows to train on than are measured at once
    head -2 train.jsonl > few.jsonl
    "$bin/train" --model base.bin --data few.jsonl --val val.jsonl --plan > said 2>&1 &&
        contains said "^expected: .*(measured: [0-9]* steps)"
}
check "--plan with more rows held out than trained on" planned_few
check "--plan of a run that is lost writes nothing" planned_ruin
check "what the run did is told, and logged" told
check "what a run with LoRA did" told_of_lora
check "a warning where nothing changed" nothing
check "a warning where bf16 rounds all change away" rounded_away
check "a warning where the validation loss rose" rose
finish

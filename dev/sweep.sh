#!/bin/sh
# Which learning rate, how many epochs? Trains once for each pair, all on the same rows and from the same base, and
# prints the validation loss after the last step of each as a table. It picks nothing and writes no model.
#
#   sh dev/sweep.sh "RATES" "EPOCHS" --model base.bin --data rows.jsonl [options of ./train]
#   sh dev/sweep.sh "2e-4 5e-4 1e-3" "1 2 3" --model dev/demo/base.bin --data dev/demo/train.jsonl
#
# The rate follows its schedule to the end in each run, so that 1 epoch is a run of its own, not the first part of
# one of 3. What a run prints is in build/sweep (or $SWEEP), one file for each; a run that fails is told and left out.
set -eu
[ $# -ge 4 ] || { sed -n '5,6s/^#   //p' "$0" >&2; exit 1; }
rates=$1 epochs=$2
shift 2
out=${SWEEP:-build/sweep}
mkdir -p "$out"
trap 'rm -f "$out/model.bin" "$out/model.bin.state"' EXIT

# the last (or first) validation loss of a run's log
loss() { sed -n 's/.*"val_loss": \([0-9.e+-]*\).*/\1/p' "$out/$1.jsonl" | "$2" -n 1; }

best= begun=$(date +%s)
row=$(printf '%-14s' 'rate, epochs')
for n in $epochs; do row=$row$(printf '%10s' "$n"); done
for lr in $rates; do
    lines=${lines:+$lines}"
$(printf '%-14s' "$lr")"
    for n in $epochs; do
        run=$lr-$n
        rm -f "$out/$run.jsonl" "$out/model.bin.state"
        cell=failed
        if "${TRAIN:-./train}" "$@" --lr "$lr" --epochs "$n" --log "$out/$run.jsonl" --out "$out/model.bin" \
            2> "$out/$run.txt"; then
            cell=$(loss "$run" tail)
            before=$(loss "$run" head)
            [ -n "$cell" ] || { echo "no validation loss in $out/$run.jsonl: no rows are held out" >&2; exit 1; }
            printf 'rate %s, %s epochs: %s\n' "$lr" "$n" "$cell" >&2
            best=$(printf '%s %s %s\n' "$cell" "$lr" "$n" ${best:-$cell $lr $n} | sort -g | head -n 1)
        else
            printf 'rate %s, %s epochs: %s\n' "$lr" "$n" "$(tail -n 1 "$out/$run.txt")" >&2
        fi
        case $cell in failed) ;; *) cell=$(printf '%.4f' "$cell") ;; esac
        lines=$lines$(printf '%10s' "$cell")
    done
done
[ -n "$best" ] || { echo "no run ended" >&2; exit 1; }
printf 'validation loss after the last step; %.4f before the first\n\n%s%s\n\n' "$before" "$row" "$lines"
set -- $best
printf 'lowest: %.4f at --lr %s --epochs %s; %d min in all\n' "$1" "$2" "$3" $((($(date +%s) - begun + 30) / 60))

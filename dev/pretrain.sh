#!/bin/sh
# Makes the bundled base model, byte for byte, from 29 children's books in the public domain, with Alice's Adventures in
# Wonderland held out, and 2 MiB of TinyStories, which teach plain English and so are read three times an epoch.
#
#   dev/pretrain.sh TEXTS OUT.bin      TEXTS: a folder with gutenberg_children/clean/*.txt and
#                                      tinystories_sample/tinystories_sample.txt
#
# Titles and SHA-256 of the texts go to OUT.bin.sources beside it; the same sums are in the model's lineage.
# If it is interrupted, the same command goes on.
set -eu
texts=${1:?usage: dev/pretrain.sh TEXTS OUT.bin} out=${2:?usage: dev/pretrain.sh TEXTS OUT.bin}
held=$texts/gutenberg_children/clean/Alice-s-Adventures-in-Wonderland_11.txt
LC_ALL=C export LC_ALL
set --
stories=$texts/tinystories_sample/tinystories_sample.txt
for f in "$texts"/gutenberg_children/clean/*.txt "$stories" "$stories" "$stories"; do
    [ "$f" = "$held" ] || set -- "$@" "$f"
done
{
    echo "# trained on"
    for f in "$@"; do (cd "$texts" && sha256sum "${f#"$texts"/}"); done
    echo "# held out"
    (cd "$texts" && sha256sum "${held#"$texts"/}")
} > "$out.sources"
resume=
[ -f "$out.state" ] && resume=--resume
${TRAIN:-./train} --init "layers=5 heads=6 width=192 context=320 vocab=2048" --val "$held" --epochs 4 --batch 16 \
    --lr 2e-3 --warmup 0.03 --weight-decay 0.1 --seed 1 --dtype bf16 --val-every 250 --save-every 100 \
    --log "$out.jsonl" $resume --out "$out" --text "$@"

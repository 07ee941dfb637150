#!/bin/sh
# cli.sh BUILD -- the programs from outside: what they refuse, and how; what they do, and that it can be repeated.
#
#   tests/cli.sh build/native         BUILD holds train, eval, convert, chat; nothing but them and POSIX is used
#
# Everything happens in a temporary folder, on a base model of 37 thousand parameters that is made here.
here=$(dirname "$0")
bin=$(cd "${1:?usage: tests/cli.sh BUILD}" && pwd) || exit 1
. "$here/lib.sh"
cd "$tmp" || exit 1

# ---- helpers ---------------------------------------------------------------------------------------------------

# refused NAME PATTERN PROGRAM ARGUMENTS...: bad input. The program exits with 1, prints nothing but one message, which
# matches the extended regular expression PATTERN, and leaves the folder out/ as it was: empty, or with a file in it.
refused() {
    refused_name=$1
    shift
    check "refuses $refused_name" refused_twice "$@"
}
refused_twice() {
    rm -rf out && mkdir out && refused_once "$@" && echo "kept" > out/m.bin && refused_once "$@"
}
limit=                                            # of the files' size, for ulimit -f
refused_once() {
    pattern=$1 program=$2
    shift 2
    before=$(ls -A out) status=0
    ([ -z "$limit" ] || ulimit -f "$limit"; exec "$bin/$program" "$@" > stdout 2> stderr < /dev/null) || status=$?
    cat stdout stderr
    [ "$status" -eq 1 ] || { echo "exit status $status, want 1"; return 1; }
    [ ! -s stdout ] || { echo "want nothing on standard output"; return 1; }
    one_message "$program: " "$pattern" || { echo "want one message: $program: $pattern"; return 1; }
    after=$(ls -A out)
    [ "$before" = "$after" ] || { echo "files left in out/: $after"; return 1; }
    [ -z "$after" ] || [ "$(cat out/m.bin)" = kept ] || { echo "out/m.bin was changed"; return 1; }
}
# In stderr: after progress, if any, one line with the message, and one with a hint, if any.
one_message() {
    awk -v who="$1" -v pattern="^$1$2" '
        index($0, who) == 1 && !said  { said = 1; clear = $0 ~ pattern; next }
        said == 1 && /^hint: /        { said = 2; next }
        said || !/^(learning a tokenizer|[0-9]+ rows: |  |[0-9.]+ million parameters|step )/ { clear = 0; exit }
        END                           { exit !clear }' stderr
}

# byte FILE OFFSET: the file's byte there, in decimal.   flip FILE OFFSET: a copy, flip.bin, with one bit changed
byte() { od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' '; }
flip() {
    cp "$1" flip.bin
    printf "\\$(printf %o $(($(byte "$1" "$2") ^ 1)))" | dd of=flip.bin bs=1 seek="$2" conv=notrunc 2> /dev/null
}
# field NAME: the number that follows "NAME": in a line of JSON
field() { sed -n "s/.*\"$1\": \([-+.e0-9]*\).*/\1/p"; }
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && b != "" && a + 0 < b + 0) }'; }
# has TEXT...: standard input has each of the texts
has() {
    cat > has.said
    for text in "$@"; do grep -qF -e "$text" has.said || { cat has.said; echo "want: $text"; return 1; }; done
}

# ---- a base model ----------------------------------------------------------------------------------------------

row() { printf '{"instruction": "Which color?", "input": "the %s %s", "output": "it is %s"}\n' "$1" "$2" "$1"; }
n=0
for animal in cat dog fox hen cow pig owl bee; do
    for color in red green blue black white brown; do
        n=$((n + 1))
        row $color $animal >> "$([ $((n % 5)) -eq 0 ] && echo val.jsonl || echo train.jsonl)"
        printf 'Which color?\nthe %s %s\nAnswer: it is %s\n\n' $color $animal $color >> text.txt
    done
done
sizes="layers=2 heads=2 width=32 context=64 vocab=300"
"$bin/train" --init "$sizes" --text text.txt --steps 20 --split 0 --out base.bin 2> said ||
    { cat said; echo "no base model, so no tests"; exit 1; }
m="--model base.bin" d="--data train.jsonl" v="--val val.jsonl" o="--out out/m.bin"

# ---- bad input: data -------------------------------------------------------------------------------------------

: > empty
printf '\n \n' > blank
echo '[]' > none.json
{ cat val.jsonl; echo '{"instruction": "x", "output" "y"}'; } > syntax.jsonl
{ row red cat; echo '{"instruction": "x"}'; } > no_output.jsonl
{ row red cat; echo '{"instruction": "x", "output": ""}'; } > empty_output.jsonl
very=$(printf 'very %.0s' 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30)
{ row red cat; row red "$very big dog"; row red hen; } > long.jsonl
{ row red cat; row "$very red" dog; } > long_answer.jsonl
refused "a missing data file"     "nope.jsonl: cannot open: No such file"          train $m $o --data nope.jsonl
refused "a folder as data file"   "[.]: is a folder, want a file"                  train $m $o --data .
refused "an empty data file"      "empty: has no rows"                             train $m $o --data empty
refused "a blank data file"       "blank: has no rows"                             train $m $o --data blank
refused "[] as data"              "none.json: has no rows"                         train $m $o --data none.json
refused "an empty text"           "empty: has no text"                             train $m $o --text empty
refused "a missing text"          "nope.txt: cannot open: No such file"            train $m $o --text text.txt nope.txt
refused "a JSON error, by line and column" "syntax.jsonl:10:31: found .*, want ':'" train $m $o --data syntax.jsonl
refused "a row without output"    "no_output.jsonl:2: output is missing"         train $m $o --data no_output.jsonl
refused "a row with nothing to learn" "empty_output.jsonl:2: output is .*empty"  train $m $o --data empty_output.jsonl
refused "a row beyond the context" "long.jsonl:2: the row has [0-9]+ tokens, want at most 65" \
        train $m $o --data long.jsonl
refused "an answer beyond the context" "long_answer.jsonl:2: the answer alone has [0-9]+ tokens, want at most" \
        train $m $o --data long_answer.jsonl --too-long cut
refused "nothing but rows that are dropped" "val.jsonl: every row has more than 5 tokens" \
        train $m $o --data val.jsonl --seq 5 --too-long drop
turn() { printf '{"role": "%s", "content": "%s"}' "$1" "$2"; }
exchanges() {                                     # exchanges COLOR: two of them, the second needs the first
    printf '{"messages": [%s, %s, %s, %s]}\n' "$(turn user "the $1 cat")" "$(turn assistant "ok $1")" \
        "$(turn user "Which?")" "$(turn assistant "it is $1")"
}
for color in red green blue black white brown; do exchanges $color; done > talk.jsonl
{ exchanges red; echo "{\"messages\": [$(turn user "the red cat"), $(turn tool "x")]}"; } > role.jsonl
{ row red cat; echo '{"prompt": "x", "output": "y"}'; } > mixed.jsonl
printf '[user]\nU {text}{eot}\n[assistant]\nA{target} {text}{eot}\n' > turns.txt
printf '[user]\nU {text}{eot}\n[tool]\nA{target} {text}{eot}\n' > tool.txt
refused "a conversation in a template for one exchange" "talk.jsonl:1: the row is a conversation" \
        train $m $o --data talk.jsonl
refused "an unknown role"         "role.jsonl:2: message 2 has the role 'tool', want assistant" \
        train $m $o --data role.jsonl
refused "a row of two forms"      "mixed.jsonl:2: the row has both output and prompt" train $m $o --data mixed.jsonl
refused "a template file with an unknown section" "template: byte .*'.tool.': want each of the lines" \
        train $m $o --data talk.jsonl --template tool.txt
refused "a missing --val file"    "nope.jsonl: cannot open"                        train $m $o $d --val nope.jsonl

too_long() {
    rm -f cut.bin
    "$bin/train" $m --data long.jsonl --too-long "$1" --steps 2 --split 0 --out cut.bin 2>&1 | has "3 rows: $2" &&
        [ -s cut.bin ]
}
printf 'q,a\r\nthe red cat,red\r\n"two, or\nmore","blue"\r\nx\r\n' > q.csv
printf 'q\nred\nblue\n' > ask.csv
columns="--data q.csv --columns prompt=q,completion=a"
train_columns() {
    "$bin/train" $m $columns --bad-rows skip --steps 2 --split 0 --out q.bin 2>&1 | has "2 rows: 2 to train on" &&
        "$bin/convert" --info q.bin | has "columns prompt=q,completion=a" "bad-rows skip"
}
eval_columns() {
    "$bin/eval" loss $m $columns --bad-rows skip --json 2>&1 |
        has "q.csv: 1 wrong rows left out:" "q.csv:5: the row has 1 fields, want 2 as in line 1" '"rows": 2'
}
chat_columns() { "$bin/chat" $m --in ask.csv --columns prompt=q --max-tokens 2 | has '"row": 1, "prompt": "blue'; }
check "train --columns --bad-rows skip: a table, and what was said of it is in the lineage" train_columns
check "eval --columns --bad-rows skip tells what was left out" eval_columns
check "chat --in of a table, --columns" chat_columns
refused "a row with too few fields" "q.csv:5: the row has 1 fields, want 2 as in line 1" train $m $o $columns
refused "a table without known names" "q.csv:2: output is missing or empty; not read: q .1 row., a" train $m $o --data q.csv
refused "--columns of nothing"    "--columns: 'x', want NAME=COLUMN"               train $m $o --data q.csv --columns x=q
refused "--bad-rows keep"         "--bad-rows: 'keep', want stop or skip"          train $m $o $columns --bad-rows keep
refused "--columns of raw text"   "--columns and --bad-rows are for rows"          train $m $o --text text --columns prompt=q
check "--too-long cut shortens a long row"   too_long cut  "3 to train on, 0 held out, 1 cut, 0 dropped"
check "--too-long drop leaves a long row out" too_long drop "2 to train on, 0 held out, 0 cut, 1 dropped"

# ---- bad input: checkpoints ------------------------------------------------------------------------------------

size=$(($(wc -c < base.bin)))
refused "a missing model"         "nope.bin: cannot open: No such file"            train --model nope.bin $d $o
refused "a text as model"         "train.jsonl: is no checkpoint"                  train --model train.jsonl $d $o
refused "an empty model"          "empty: ends too early"                          train --model empty $d $o
for bytes in 100 256 1000 $((size / 2)) $((size - 1)); do
    dd if=base.bin of=short.bin bs=$bytes count=1 2> /dev/null
    refused "a model cut to $bytes of $size bytes" "short.bin: "                   train --model short.bin $d $o
done
for at in 0 8 12 16 56 100 104 128 200 250 400 5000; do
    flip base.bin $at
    refused "a model with a bit flipped in byte $at" "flip.bin: "                  train --model flip.bin $d $o
done
for at in $((size - 1)) $((size - 70000)); do
    flip base.bin $at
    refused "a model with a bit flipped in tensor byte $at" "flip.bin: wrong checksum of the tensors" \
            train --model flip.bin $d $o
done
h="--data val.jsonl"
refused "eval of a missing model" "nope.bin: cannot open: No such file"            eval loss --model nope.bin $h
refused "eval of a damaged model" "flip.bin: wrong checksum of the tensors"        eval answers --model flip.bin $h
refused "eval --vs a missing model, loss" "nope.bin: cannot open: No such file"    eval loss $m --vs nope.bin $h
refused "eval --vs a missing model, answers" "nope.bin: cannot open: No such file" eval answers $m --vs nope.bin $h
refused "chat with a missing model" "nope.bin: cannot open: No such file"          chat --model nope.bin --prompt hello
refused "chat with a damaged model" "flip.bin: wrong checksum of the tensors"      chat --model flip.bin --prompt hello
refused "a prompt beyond the context" "prompt: [0-9]+ tokens, want 1..64"          chat $m --prompt "$(cat val.jsonl)"
refused "convert --info of a missing file" "nope.bin: cannot open: No such file"   convert --info nope.bin
refused "convert --diff with a missing file" "nope.bin: cannot open: No such file" convert --diff base.bin nope.bin
refused "convert of a missing file" "nope.*: No such file"                         convert nope out/m.bin

# ---- bad input: places to write to -----------------------------------------------------------------------------

refused "a missing output folder" "nofolder/m.bin.*: cannot create: No such file"  train $m $d --out nofolder/m.bin
refused "an --out of 4,100 bytes" "--out: a path of 4101 bytes is too long"        train $m $d --out "$(printf './%.0s' $(seq 2048))m.bin"
refused "a file as output folder" "empty/m.bin.*: cannot create: Not a directory"  train $m $d --out empty/m.bin
refused "a folder as --out"       "[.]: is a folder, want a file"                  train $m $d --out .
refused "a device as --out"       "/dev/full: is a device, a pipe or a link to nothing, want a file"  train $m $d --out /dev/full
refused "a missing folder for --log" "nofolder/log: cannot open: No such file"     train $m $d $o --log nofolder/log
if [ "$(id -u)" -ne 0 ]; then                     # root may write anywhere
    mkdir -p locked && chmod 555 locked
    refused "a read-only output folder" "locked/m.bin.*: cannot create: Permission" train $m $d --out locked/m.bin
    cp base.bin guarded.bin && chmod 444 guarded.bin
    refused "a read-only file as --out" "guarded.bin: cannot open: Permission"      train $m $d --out guarded.bin
    refused "a read-only file as OUT" "guarded.bin: cannot open: Permission"        convert base.bin --dtype bf16 guarded.bin
    check "a read-only file is kept" cmp base.bin guarded.bin
fi
ln -s train.jsonl alias && ln base.bin twin
refused "--out that is the data"  "train.jsonl: is this run's train.jsonl as well" train $m $d --out train.jsonl
refused "--out that is the data by a link" "alias: is this run's train.jsonl as well" train $m $d --out alias
refused "--out that is the model by a second name" "twin: is this run's base.bin as well" train $m $d --out twin
refused "--out that is a text by another path" "./text.txt: is this run's text.txt as well, .* for --out" \
        train $m --text val.jsonl text.txt --out ./text.txt
refused "--log that is the data"  "alias: is this run's train.jsonl as well, .* for --log" train $m $d $o --log alias
refused "--log that is --out"     "out/m.bin: is this run's out/m.bin as well"     train $m $d $o --log out/m.bin
refused "--log that is the state" "out/m.bin.state: is this run's out/m.bin.state" train $m $d $o --log out/m.bin.state
refused "--log where --out grows" "out/m.bin.writing: is this run's out/m.bin.writing" train $m $d $o --log out/m.bin.writing
refused "eval --log that is the data" "./val.jsonl: is this run's val.jsonl as well" \
        eval answers $m --data val.jsonl --log ./val.jsonl
unchanged() { [ "$(wc -l < train.jsonl)" -gt 30 ] && [ -s val.jsonl ] && [ -s base.bin ] && [ -h alias ]; }
check "no input was changed by that" unchanged && rm alias twin
limit=8
refused "a file larger than the system allows" ".*out/m.bin: cannot write: File too large" train $m $d $o --steps 2
refused "a state larger than the system allows" "out/m.bin.state: cannot write: File too large" \
        train $m $d $o --steps 2 --save-every 1
limit=
# Without its streams a program must not take the files it opens for them: what it says would be in its results.
streams_closed() {
    "$bin/train" $m $d --steps 3 --out spoken.bin --log spoken.log 2> /dev/null || return 1
    for closed in '2>&-' '<&- >&- 2>&-' '>&- 2>&-'; do
        eval "\"$bin/train\" $m $d --steps 3 --out silent.bin --log silent.log $closed"
        status=$?
        [ $status -eq 0 ] && cmp spoken.bin silent.bin || { echo "with $closed: exit status $status"; return 1; }
        ! grep -v '^{' silent.log || return 1
    done
    "$bin/train" $m $d --plan >&- 2> /dev/null
    [ $? -eq 1 ]
}
check "closed streams do no harm to what is written" streams_closed
found_early() { ! "$bin/train" $m $d --out nofolder/m.bin 2> stderr && ! grep '^step ' stderr; }
check "that --out cannot be written is found before step 1" found_early
full() { "$bin/$@" > /dev/full; [ $? -eq 1 ]; }
lost_log() {
    "$bin/eval" answers $m $h --log /dev/full > stdout 2> stderr
    [ $? -eq 1 ] && one_message "eval: " "/dev/full: cannot write: No space left"
}
warned() {
    "$bin/train" $m $d --steps 3 --out warned.bin --log /dev/full 2> stderr && [ -s warned.bin ] &&
        [ "$(grep -c '^train: warning: /dev/full: cannot write' stderr)" = 1 ]
}
short_log() {                                     # the limit is met in the middle of the log
    (ulimit -f 1; "$bin/eval" answers $m $h --log short.log > stdout 2> stderr)
    [ $? -eq 1 ] && one_message "eval: " "short.log: cannot write: File too large"
}
by_header() {                                     # 8 GiB, of which a file system keeps none
    dd if=/dev/null of=vast bs=1 seek=8589934592 2> /dev/null
    (ulimit -v 500000; "$bin/convert" vast vast.bin 2> stderr)
    [ $? -eq 1 ] && rm vast && one_message "convert: " "vast: as a llama2.c version 0 .bin: vocab = 0, want"
}
few_rows() { (ulimit -v 500000; "$bin/eval" loss $m $h --batch 4096 --threads 1); }
check "eval answers with --log beyond the system's limit fails" short_log
if (ulimit -v 500000; "$bin/eval" --version) > /dev/null 2>&1; then
    check "eval loss --batch 4096 takes no memory for rows that are not there" few_rows
    check "convert refuses a vast file that is no model without reading it" by_header
fi
if [ -c /dev/full ]; then                         # a disk without room, as Linux has one
    check "train --plan on a full disk fails"     full train $m $d --plan
    check "train --help on a full disk fails"     full train --help
    check "eval loss on a full disk fails"        full eval loss $m $h
    check "eval answers on a full disk fails"     full eval answers $m $h
    check "eval answers with --log on a full disk fails" lost_log
    check "train with --log on a full disk warns once" warned
    check "chat on a full disk fails"             full chat $m --prompt hello
    check "convert --info on a full disk fails"   full convert --info base.bin
fi

# ---- bad input: options ----------------------------------------------------------------------------------------

nearest() { "$bin/$1" "$2" 2>&1 | has "$1: unknown option $2" "hint: $3"; }
for program in train eval chat convert explain survey; do
    refused "an unknown option of $program" "unknown option --colour" $program --colour red
done
check "train --epoch: names --epochs"        nearest train   --epoch      --epochs
check "eval --model_: names --model"         nearest eval    --model_     --model
check "chat --temprature: names --temperature" nearest chat  --temprature --temperature
check "convert --inf: names --info"          nearest convert --inf        --info
refused "--batch 0"               "--batch: 0 is out of range, want 1[.][.]65536"  train $m $d $o --batch 0
refused "--lr 11"                 "--lr: 11 is out of range, want 0[.][.]10"       train $m $d $o --lr 11
refused "--lr nan"                "--lr: nan is out of range"                      train $m $d $o --lr nan
refused "--steps of 20 digits"    "--steps: 9+ is out of range"                    train $m $d $o --steps 99999999999999999999
refused "--batch two"             "--batch: 'two' is not a whole number"           train $m $d $o --batch two
refused "--batch 1.5"             "--batch: '1.5' is not a whole number"           train $m $d $o --batch 1.5
refused "--lr fast"               "--lr: 'fast' is not a number"                   train $m $d $o --lr fast
refused "--lr="                   "--lr: '' is not a number"                       train $m $d $o --lr=
refused "--batch without a value" "--batch wants a value"                          train $m $d $o --batch
refused "--seed twice"            "--seed is given twice"                          train $m $d $o --seed 1 --seed 2
refused "--resume=yes"            "--resume takes no value, got 'yes'"             train $m $d $o --resume=yes
refused "a stray word"            "'stray': a word that belongs to no option"      train $m $d $o stray
refused "--mask all"              "--mask: 'all', want prompt or none"             train $m $d $o --mask all
refused "--too-long keep"         "--too-long: 'keep', want error, drop or cut"    train $m $d $o --too-long keep
refused "--schedule step"         "--schedule: 'step', want cosine, linear or constant" train $m $d $o --schedule step
refused "--dtype f64"             "--dtype: 'f64', want f32 or bf16"               train $m $d $o --dtype f64
refused "--template gpt"          "--template: 'gpt', want alpaca, chatml, llama3, none, plain or a file" \
        train $m $d $o --template gpt
refused "--turns first"           "--turns: 'first', want all or last"             train $m $d $o --turns first
refused "--turns last --mask none" "--turns last leaves nothing to --mask none"    train $m $d $o --turns last --mask none
refused "a template that the tokenizer lacks tokens for" "template: byte .*<|im_start|>.*no such special token" train $m $d $o --template chatml
refused "--seq beyond the context" "--seq: 66, want 2..6[45]"                      train $m $d $o --seq 66
refused "no model"                "want either --model FILE or --init SIZES"       train $d $o
refused "no data"                 "want either --data FILE or --text FILE"         train $m $o
refused "data and text"           "want either --data FILE or --text FILE"         train $m $o $d --text text.txt
refused "an empty --out"          "--out: the name of a file is empty"             train $m $d --out=
refused "steps and epochs"        "--steps and --epochs both say"                  train $m $d $o --steps 3 --epochs 2
refused "no --out"                "want --out FILE"                                train $m $d
head -n 1 val.jsonl > one.jsonl
refused "a --split that leaves nothing" "one.jsonl: no row is left to train on"    train $m $o --data one.jsonl --split 0.9
t="--text text.txt"
refused "--init layers=0"         "--init: layers = 0, want 1[.][.]"               train $o $t --init layers=0
refused "--init wide=8"           "--init: 'wide=8', want name=number"             train $o $t --init wide=8
refused "--init width=3x"         "--init: 'width=3x', want name=number"           train $o $t --init width=3x
refused "--init with a vocabulary beyond the text's" "--init: vocab = 5000, but the text has pairs for only [0-9]+" \
        train $o $t --init vocab=5000
refused "eval without a kind"     "'', want loss, answers or bench first"               eval $m $h
refused "eval of an unknown kind" "'lost', want loss, answers or bench first"           eval lost $m $h
refused "a stray word for eval"   "'stray': a word that belongs to no option"           eval loss $m $h stray
refused "eval --bad-rows keep"    "--bad-rows: 'keep', want stop or skip"               eval loss $m $h --bad-rows keep
refused "eval without a model"    "want --model FILE"                              eval loss $h
refused "eval loss without data"  "want either --data FILE or --text FILE"         eval loss $m
refused "eval answers without data" "want --data FILE"                             eval answers $m
refused "eval answers of a text"  "want --data FILE, .* and no --text"             eval answers $m $h --text text.txt
refused "--shots without --examples" "--shots needs --examples FILE"               eval answers $m $h --shots 1
refused "more --shots than rows"  "--shots: 10, want at most the 9 rows of val.jsonl" \
        eval answers $m $h --shots 10 --examples val.jsonl
refused "more --shots than fit in" "val.jsonl:1: the prompt has [0-9]+ tokens, want at most the context of 64" \
        eval answers $m $h --shots 9 --examples val.jsonl
refused "eval loss of a row beyond the context" "long.jsonl:2: the row has [0-9]+ tokens" eval loss $m --data long.jsonl
no_hint() { ! "$bin/eval" "$1" $m --data long.jsonl 2> stderr && has "the row has" < stderr && ! grep hint stderr; }
check "eval loss: the message names no option of train" no_hint loss
check "eval answers: the message names no option of train" no_hint answers
refused "a missing folder for eval --log" "nofolder/log: cannot open"              eval answers $m $h --log nofolder/log
refused "chat without a model"    "no model, want --model FILE"                    chat --prompt hello
refused "convert with one word"   "1 file names, want"                             convert base.bin

# ---- help ------------------------------------------------------------------------------------------------------

helps() { "$bin/$1" --help > help && [ -s help ] && ! awk 'length > 80' help | grep .; }
versions() { "$bin/$1" --version | grep -E '^tune.c [0-9]+[.][0-9]+[.][0-9]+$'; }
for program in train eval chat convert explain survey; do
    check "$program --help, within 80 columns" helps $program
    check "$program --version" versions $program
done
defaults() { "$bin/chat" --help | has "0: all (default 0)" && ! "$bin/train" --help | grep -e "--steps N" | grep default; }
check "--help tells defaults, the least that an option takes among them" defaults

# ---- training --------------------------------------------------------------------------------------------------

goes_on() {
    "$bin/train" $m $t --epochs 2 --out more.bin && before=$("$bin/eval" loss $m $t --json | field loss) &&
        after=$("$bin/eval" loss --model more.bin $t --json | field loss) && less "$after" "$before"
}
planned() {                                       # the table adds up, up to rounding, and nothing is written
    "$bin/train" $m $d --plan --out plan.bin > plan 2> /dev/null && [ ! -e plan.bin ] &&
        has "weights" "logits" < plan && awk '
            /^one block in all/ { exit !($NF > 0 && sum > $NF * 0.99 && sum < $NF * 1.01) }
            NR > 1              { sum += $NF }' plan
}
loss_of() { "$bin/eval" loss --model "$1" --data val.jsonl --json | field loss; }
learns() {                                        # to a hundredth of the loss before
    "$bin/train" $m $d $v --steps 400 --batch 8 --lr 1e-2 --out tuned.bin 2> stderr &&
        before=$(loss_of base.bin) after=$(loss_of tuned.bin) && less "${after}e2" "$before"
}
says_so() {
    has "step 0: validation loss $(printf %.4f "$before")" "step 400: validation loss $(printf %.4f "$after")" < stderr
}
short() { rm -f same.bin && "$bin/train" $m $d $v --epochs 10 --out same.bin "$@" 2> /dev/null; }
same_bytes() { short "$@" && cmp same.bin short.bin; }
other_bytes() { short "$@" && [ -s same.bin ] && ! cmp -s same.bin short.bin; }
hours() { "$bin/train" $m $d --plan --steps 100000000 2> /dev/null | grep -q '^expected: [0-9]*\.[0-9] h on '; }
check "--plan prints the memory and writes nothing" planned
check "--plan of a long run tells hours" hours
check "fine-tuning lowers the validation loss" learns
check "peers 3: eval finds in the model that was saved the losses that train printed" says_so
short && mv same.bin short.bin                     # 30 steps: 16, 16 and 7 rows in turn
for micro in 1 2 5 8 16; do
    check "--micro $micro: the same bytes" same_bytes --micro $micro
done
for threads in 1 2 3; do
    check "--threads $threads: the same bytes" same_bytes --threads $threads
    check "--threads $threads --micro 5: the same bytes" same_bytes --threads $threads --micro 5
done
check "--log changes no byte" same_bytes --log steps.jsonl
check "--log has every step" [ "$(grep -c '"loss": [0-9.]*,' steps.jsonl)" = 30 ]
check "another seed: other bytes" other_bytes --seed 2
check "--text with --model goes on training" goes_on
not_compared() {                                  # windows of text hold other bytes if tokenizers differ
    "$bin/train" --init "layers=1 heads=1 width=16 context=64 vocab=270" $t --steps 2 --split 0 --out small.bin 2> /dev/null &&
        "$bin/eval" loss $m --vs small.bin $t > said && has "base.bin" "small.bin" "Not compared: the rows" < said &&
        ! grep -q "interval\|better" said
}
check "eval loss --vs over other windows tells that they are not compared" not_compared

# ---- interruption ----------------------------------------------------------------------------------------------

# stopped SIGNAL OPTIONS...: training gets the signal once it has logged three steps. The log is a pipe, which holds
# less than the 1000 lines of the run, so it cannot be over before. The exit status goes to the file `status`.
run="--steps 1000 --batch 4 --out long.bin" long="$m $d $run" other="was made with other options or data"
stopped() {
    signal=$1
    shift
    rm -f steps && mkfifo steps
    (sh -c 'echo $$ > pid; exec "$@"' - "$bin/train" "$@" --log steps; echo $? > status; : > steps) 2> stderr &
    exec 3< steps
    for step in 1 2 3 4 5; do read -r _ <&3; done   # the first two lines tell the conditions and the validation
    kill -"$signal" "$(cat pid)"
    cat <&3 > /dev/null
    wait $!
    exec 3<&-
    cat stderr
}
interrupted() {                                   # says where the state is, has not written its result
    rm -f long.bin long.bin.state
    stopped "$@" $long && [ "$(cat status)" = 1 ] && [ ! -e long.bin ] && [ -s long.bin.state ] &&
        one_message "train: " "interrupted after step [0-9]+ of 1000; the state is in long.bin.state"
}
killed() {
    rm -f long.bin long.bin.state
    stopped KILL $long --save-every 1 && [ "$(cat status)" = 137 ] && [ ! -e long.bin ] && [ -s long.bin.state ]
}
resumed() {
    "$bin/train" $long --resume "$@" 2> stderr && has "going on after step" < stderr && cmp long.bin whole.bin &&
        [ ! -e long.bin.state ]
}
refuses_state() {                                 # refuses_state PATTERN OPTIONS...
    pattern=$1
    shift
    cp long.bin.state kept.state
    "$bin/train" "$@" --resume 2> stderr
    [ $? -eq 1 ] && one_message "train: " "long.bin.state: $pattern" && [ ! -e long.bin ] &&
        cmp long.bin.state kept.state
}
refuses_damage() {
    cp long.bin.state whole.state
    flip whole.state "$1" && cp flip.bin long.bin.state && refuses_state "wrong checksum" $long
    damage=$?
    mv whole.state long.bin.state
    return $damage
}
"$bin/train" $long 2> /dev/null && mv long.bin whole.bin
check "SIGINT: stops with a message and a state" interrupted INT
check "--resume with another rate is refused" refuses_state "$other" $long --lr 1e-3
check "--resume with other data is refused" refuses_state "$other" $m $h $run
check "--resume with another base is refused" refuses_state "$other" --model tuned.bin $d $run
check "--resume from a damaged state is refused: header" refuses_damage 90
check "--resume from a damaged state is refused: weights" refuses_damage 9000
check "SIGINT, --resume: the bytes of the whole run" resumed
check "SIGTERM: stops with a message and a state" interrupted TERM
check "SIGTERM, --resume with other threads and rows at once: the same bytes" resumed --threads 3 --micro 3
check "SIGKILL with --save-every 1: leaves a state" killed
check "peers 10, peers 21: SIGKILL, --resume: the bytes of the whole run" resumed

# ---- LoRA ------------------------------------------------------------------------------------------------------

lora="$m $d --lora 4 --lora-alpha 8 --lr 5e-3 --epochs 4"
"$bin/train" $lora --out adapter.bin 2> said || cat said
adapter_is_small() { [ "$(wc -c < adapter.bin)" -lt 40000 ] && cat said && has "of them trained" < said; }
same_adapter() { "$bin/train" $lora "$@" --out again.bin 2> stderr; cat stderr; cmp adapter.bin again.bin; }
check "train --lora: the adapter is a small file" adapter_is_small
check "train --lora --recompute: the same bytes" same_adapter --recompute
check "train --lora --micro 3 --threads 3: the same bytes" same_adapter --micro 3 --threads 3
loss_falls() {
    "$bin/eval" loss --model adapter.bin --base base.bin --vs base.bin --data val.jsonl --json > said || return 1
    cat said
    less "$(sed -n 1p said | field loss)" "$(sed -n 2p said | field loss)"
}
merged_is_alike() {
    "$bin/convert" adapter.bin --merge base.bin merged.bin && "$bin/convert" --info merged.bin | has "merge tune.c" &&
        "$bin/eval" loss --model adapter.bin --base base.bin --vs merged.bin --data val.jsonl --json > said || return 1
    cat said
    a=$(sed -n 1p said | field loss) b=$(sed -n 2p said | field loss)
    awk -v a="$a" -v b="$b" 'BEGIN { d = a - b; exit !(a > 0 && d * d <= 1e-10 * a * a) }'
}
chat_with_adapter() { "$bin/chat" --model adapter.bin --base base.bin --prompt "Which color?" --temperature 0 > said; }
long="$m $d $run --lora 4"
"$bin/train" $long 2> /dev/null && mv long.bin whole.bin
check "SIGINT during train --lora: leaves a state" interrupted INT
check "a state of LoRA is refused without --lora" refuses_state "$other" $m $d $run
check "SIGINT, --resume of LoRA: the bytes of the whole run" resumed
check "SIGKILL during train --lora: leaves a state" killed
check "SIGKILL, --resume of LoRA with --recompute: the bytes of the whole run" resumed --recompute
check "eval --base: the adapter's loss is below its base's" loss_falls
check "convert --merge: the merged model's loss is the adapter's" merged_is_alike
check "chat --base" chat_with_adapter
refused "an adapter without its base"  "adapter.bin: is an adapter, want the model"    eval loss --model adapter.bin --data val.jsonl
refused "an adapter with another base" "adapter.bin: was not trained on tuned.bin"     eval loss --model adapter.bin --base tuned.bin --data val.jsonl
refused "to train an adapter further"  "adapter.bin: is an adapter, want the model"    train --model adapter.bin $d $o
refused "--merge of no adapter"        "base.bin: is no adapter"                       convert base.bin --merge base.bin out/m.bin
many=$(printf 'qkv,%.0s' 1 2 3 4 5 6 7 8 9; printf 'qkv,%.0s' $(seq 1 9000))
same_set() { same_adapter --lora-on fc2,fc1,proj,qkv,"$many"; }
check "--lora-on: the same layers in any order, any number of times" same_set
cp adapter.bin kept.bin
cp base.bin inner.bin
printf 'Q: {instruction}\nA:{target} {output}{eot}' > asked.txt
refused "--log over --base"            "base.bin: is this run's base.bin as well"      eval answers --model adapter.bin --base base.bin --data val.jsonl --log base.bin
refused "--log over --template"        "asked.txt: is this run's asked.txt as well"    eval answers --model base.bin --data val.jsonl --template asked.txt --log asked.txt
refused "--out over --template"        "asked.txt: is this run's asked.txt as well"    train $m $d --template asked.txt --out asked.txt
refused "convert over --merge"         "inner.bin: OUT is what is read, inner.bin"     convert adapter.bin --merge inner.bin inner.bin
refused "--merge of something else"    "text.txt: is no adapter"                       convert text.txt --merge base.bin out/m.bin
refused "convert of a device"          "/dev/zero: is a device or a pipe"              convert /dev/zero out/m.bin
refused "--log spelt another way than a new --out" "./new.bin: is this run's new.bin as well" train $m $d --out new.bin --log ./new.bin
refused "eval loss with --shots"       "--shots, --examples and --samples are for answers" eval loss --model base.bin --data val.jsonl --shots 2
echo precious > new.bin.state
refused "to begin where a state is"    "new.bin.state: is there, so a run was interrupted" train $m $d --out new.bin
kept_whole() { cmp base.bin inner.bin && cmp adapter.bin kept.bin && [ "$(cat new.bin.state)" = precious ] && [ ! -e new.bin ]; }
check "nothing of these was written over" kept_whole
rm -f new.bin.state
printf '\357\273\277[user]\r\nQ: {text}{eot}\r\n\r\n[assistant]\r\nA:{target} {text}{eot}\r\n\r\n' > crlf.txt
printf '[user]\nQ: {text}{eot}\n\n[assistant]\nA:{target} {text}{eot}\n\n' > lf.txt
same_template() {
    for file in crlf lf; do "$bin/train" $m $d --template $file.txt --steps 2 --out $file.bin 2> stderr || return 1; done
    cmp crlf.bin lf.bin
}
check "a template with byte order mark and CRLF is the one without" same_template
printf '[user]\n{?input}{text}{/}{eot}\n[assistant]\n{target} {text}{eot}\n' > hides.txt
refused "a template that may hide the question" "template: .*no .text. outside of" train $m $d $o --template hides.txt
printf a > one.txt
no_bytes() { "$bin/eval" loss --model base.bin --text one.txt --json > said && cat said && has '"bits_per_byte": null}' < said; }
check "eval loss --json where only a special token is predicted" no_bytes
refused "--lora-on of no layer"        "--lora-on: 'fc3', want qkv, proj, fc1 or fc2"  train $m $d $o --lora 4 --lora-on qkv,fc3
refused "--lora-alpha without --lora"  "--lora-alpha and --lora-on need --lora RANK"   train $m $d $o --lora-alpha 4
refused "--lora with --dtype"          "--lora trains beside a --model"                train $m $d $o --lora 4 --dtype bf16

refused "--resume without a state" "out/m.bin.state: cannot open: No such file" train $m $d $o --resume

# ---- eval ------------------------------------------------------------------------------------------------------

bits_per_byte() {                                 # of text that the base has seen: less than of equally likely bytes
    "$bin/eval" loss $m $t --json > loss.json && less "$(field bits_per_byte < loss.json)" 8
}
loss_table() { "$bin/eval" loss $m --vs tuned.bin "$@" | has "perplexity" "base.bin" "tuned.bin"; }
same_loss() {
    "$bin/eval" loss $m $d --json > loss.json && [ -s loss.json ] &&
        "$bin/eval" loss $m $d --json "$@" | cmp - loss.json
}
check "eval loss of text" bits_per_byte
check "eval loss of data, two models" loss_table $h
check "eval loss of text, two models" loss_table $t
check "eval loss --batch 1 --threads 3: the same" same_loss --batch 1 --threads 3
limited() { [ "$("$bin/eval" loss $m $d --json --limit 7 | field rows)" = 7 ]; }
check "eval loss --limit" limited

ask="--data val.jsonl --max-tokens 20"
learned() {                                       # all of it: the second model's answers, the counts, the majority
    "$bin/eval" answers $m --vs tuned.bin $ask | has "exact match" "majority answer" "9 rows;" \
        "only the first right: none" "only the second right: 0 1 2 3 4 5 6 7 8"
}
answers_json() {
    "$bin/eval" answers --model tuned.bin $ask --json > answers.json && [ "$(grep -c . answers.json)" = 1 ] &&
        [ "$(field rows < answers.json)" = 9 ] && [ "$(field exact_match < answers.json)" = 1.000000 ] &&
        less "$(field majority < answers.json)" 1
}
answers_log() {
    "$bin/eval" answers $m --vs tuned.bin $ask --log answers.jsonl > /dev/null &&
        [ "$(grep -c . answers.jsonl)" = 10 ] &&
        has '{"row": 0, "instruction": "Which color?", "input": "the white cat", "reference": "it is white"' \
            '"vs": "it is white"' < answers.jsonl
}
same_answers() {
    "$bin/eval" answers $m --vs tuned.bin $ask --batch 1 --threads 1 --log one.jsonl "$@" > /dev/null &&
        "$bin/eval" answers $m --vs tuned.bin $ask --batch 8 --threads 3 --log eight.jsonl "$@" > /dev/null &&
        [ "$(grep -c . one.jsonl)" = 10 ] && cmp one.jsonl eight.jsonl
}
shots() {                                         # the prompts get longer
    few=$("$bin/eval" answers $m $ask | awk '/^A base.bin/ { print $(NF - 3) }') &&
        many=$("$bin/eval" answers $m $ask --shots 1 --examples train.jsonl | awk '/^A base.bin/ { print $(NF - 3) }') &&
        less "$few" "$many"
}
few_rows() {                                      # an overlong row beyond the limit is none of its business
    "$bin/eval" answers $m --data long.jsonl --limit 1 --json | has '"rows": 1' &&
        "$bin/eval" loss $m --data long.jsonl --limit 1 --json | has '"rows": 1'
}
talk="--data talk.jsonl --template turns.txt --split 0 --out talk.bin"
conversations() {                                 # only a model that reads the first exchange can answer the second
    "$bin/train" $m $talk --steps 300 --batch 6 --lr 1e-2 "$@" 2> stderr &&
        "$bin/eval" answers --model talk.bin --data talk.jsonl --max-tokens 9 --log talk.log --json > talk.json &&
        has '"row": 0, "instruction": "Which?", "input": "", "reference": "it is red", "answer": "it is red"' \
            < talk.log && [ "$(field exact_match < talk.json)" = 1.000000 ]
}
share() { sed -n 's/.* \([0-9.]*\) % of them taught.*/\1/p' stderr; }
last_only() {                                     # fewer targets
    conversations && all=$(share) && conversations --turns last && less "$(share)" "$all" &&
        "$bin/convert" --info talk.bin | has "turns=last" "U {text}{eot}"
}
cut_exchanges() { "$bin/train" $m $talk --steps 1 --seq 20 --too-long cut 2>&1 | has "6 cut, 0 dropped"; }
check "eval answers and loss --limit: rows behind it may be too long" few_rows
check "conversations: --template FILE, --turns last, eval answers to the last question" last_only
check "--too-long cut leaves out the first exchange" cut_exchanges
check "eval answers --vs: what was learned is right" learned
check "eval answers --json" answers_json
check "eval answers --log" answers_log
check "eval answers --shots --examples" shots
check "eval answers --batch 1 and 8: the same answers" same_answers
check "eval answers --batch 1 and 8 with --shots: the same answers" same_answers --shots 1 --examples train.jsonl

# ---- chat ------------------------------------------------------------------------------------------------------

question="Which color?
the white cat"                                      # renders as the first row of val.jsonl does
chats() { [ "$("$bin/chat" --model tuned.bin --prompt "$question" --temperature 0)" = "it is white" ]; }
talk() { "$bin/chat" $m --prompt "$question" --temperature 1 --max-tokens 20 2> stderr "$@"; }
repeats() { talk --seed 7 > seven && talk --seed 7 --threads 3 | cmp - seven && [ "$(wc -c < seven)" -gt 1 ]; }
varies() { talk --seed 7 > seven && talk --seed 8 > eight && ! cmp -s seven eight; }
each_line() {
    "$bin/chat" $m --prompt hello > want && "$bin/chat" $m --prompt "red hen" >> want && [ -s want ] &&
        printf 'hello\n\nred hen\n' | "$bin/chat" $m | cmp - want
}
check "chat --prompt answers as eval does" chats
check "chat --seed: the same answer again, with any threads" repeats
check "chat: another seed, another answer" varies
check "chat answers each line of standard input" each_line

# ---- convert ---------------------------------------------------------------------------------------------------

sha256() { sha256sum < "$1" | cut -d ' ' -f 1; }
informs() {
    "$bin/convert" --info tuned.bin > info && has "layers=2" "width=32" "vocab=300" "{target} {output}{eot}" \
        "base sha256 $(sha256 base.bin)" "data sha256 $(sha256 train.jsonl)" "sha256        $(sha256 tuned.bin)" < info
}
equal() { cp base.bin twin.bin && "$bin/convert" --diff base.bin twin.bin | has "wte" "16 of 16 tensors equal"; }
different() { "$bin/convert" --diff base.bin tuned.bin | has "wte" "0 of 16 tensors equal"; }
# A file's name may come from elsewhere. \302\233 is Latin-1's way to begin a terminal's command, in UTF-8.
obeys_nothing() {
    odd=$(printf 'odd\033[2J\302\233\n31m.bin')
    cp text.txt "$odd" && ! "$bin/convert" --info "$odd" > names 2>&1 && ! "$bin/train" $m --check --data "$odd" 2>> names &&
        cp base.bin "$odd" && "$bin/convert" --info "$odd" >> names && "$bin/convert" "$odd" "${odd%bin}hf/" 2>> names
    rm -rf "$odd" "${odd%bin}hf"
    [ "$(grep -c 'odd?\[2J?.?31m' names)" -eq 3 ] && ! grep -q "$(printf '\033\|\302\233')" names
}
check "no file's name controls a terminal" obeys_nothing
# A folder has no checksum: without its tokenizer, or with the last norm as large as floats are, it is still a model.
"$bin/convert" base.bin mute.hf/ && cp -r mute.hf vast.hf && rm mute.hf/tokenizer* && "$bin/convert" mute.hf mute.bin 2> stderr
for i in $(seq 32); do printf '\377\377\177\177'; done |
    dd of=vast.hf/model.safetensors bs=1 seek=$(($(wc -c < vast.hf/model.safetensors) - 256)) conv=notrunc 2> stderr
"$bin/convert" vast.hf vast.bin
refused "a model without a tokenizer"  "mute.bin: has no tokenizer, want one"          train --model mute.bin $d $o
overflows() {
    ! "$bin/train" --model vast.bin $d --out over.bin 2> stderr && [ ! -e over.bin ] &&
        has "step 0: " "want finite numbers" "hint: the model is so before training" < stderr
}
check "a model with numbers that overflow is told so before step 1" overflows
check "convert --info: sizes, template, lineage" informs
check "convert --diff of equal files" equal
check "convert --diff of different files" different

finish

#!/bin/sh
# check.sh BUILD -- what is said of rows: train --check, the lines before step 1, what stops; survey; explain.
#
#   tests/check.sh build/native
here=$(cd "$(dirname "$0")" && pwd) || exit 1
bin=$(cd "${1:?usage: tests/check.sh BUILD}" && pwd) || exit 1
base=$here/../dev/demo/base.bin
. "$here/lib.sh"
cd "$tmp" || exit 1

# ---- helpers ---------------------------------------------------------------------------------------------------

m="--model $base" d="--data rows.jsonl"
row() { printf '{"instruction": "%s", "output": "%s"}\n' "$1" "$2"; }
n=0
for animal in cat dog fox hen cow pig; do
    for color in red green blue black white; do
        n=$((n + 1))
        row "What do you see? A $color $animal, $n years old" $color >> rows.jsonl
    done
done
# run PROGRAM ARGUMENTS...: standard output, standard error and status go to out, err and status
run() {
    program=$1 status=0
    shift
    "$bin/$program" "$@" > out 2> err < /dev/null || status=$?
}
train() { run train "$@"; }
explain() { run explain "$@"; }
survey() { run survey "$@"; }
# wants STATUS: the last run ended so        says FILE TEXT...: the file has each of the texts
wants() { [ "$status" -eq "$1" ] || { cat out err; echo "exit status $status, want $1"; return 1; }; }
says() {
    said=$1
    shift
    for text in "$@"; do grep -qF -e "$text" "$said" || { cat "$said"; echo "want: $text"; return 1; }; done
}
narrow() { awk 'length > 80 { print; bad = 1 } END { exit bad }' "$1"; }

# ---- --check ---------------------------------------------------------------------------------------------------

checks() {
    train $m $d --check && wants 0 || return 1
    says out "30 rows: " "lengths, labels, variety, a verdict: ./survey rows.jsonl" &&
        [ ! -s err ] && [ "$(ls | grep -c 'bin\|state')" = 0 ] || { ls; cat err; echo "a file or a message too many"; return 1; }
}
check "--check says what is wrong with rows, trains nothing, wants no --out" checks

in_short() {
    train $m $d --steps 1 --out tuned.bin && wants 0 || return 1
    says err "30 rows: " "step 1/1" && [ ! -s out ] || return 1
    awk '/million parameters/ { exit NR > 4 }' err || { cat err; echo "want at most 3 lines"; return 1; }
}
check "before step 1 it is said in short, on standard error" in_short

logged() {
    train $m $d --check --log log && wants 0 || return 1
    says log '{"data": {"rows": 30,' '"dropped": 0,' '"blank": 0}}' &&
        [ "$(wc -l < log)" -eq 1 ] || return 1
    train $m $d --steps 1 --out tuned.bin --log log && wants 0 && [ "$(grep -c '"data"' log)" -eq 1 ]
}
check "it is a line of the log" logged

{
    cat rows.jsonl
    row "A cat?" " "; row "Say it" "Say it"; row "Say it" "it"; row "SAY  it!" "it"; row "a" "b"; row "a" "b"
} > odd.jsonl
odd() {
    train $m --data odd.jsonl --check --split 0 && wants 0 || return 1
    says out "1 with prompt and answer of another: lines 36 and 35" "1 with the prompt of another, not its answer: lines 33 and 32" \
        "1 with an answer of white space: line 31" || return 1
    { row a same; row b same; } > same.jsonl
    train $m --data same.jsonl --check --split 0 && wants 0 && says out "all rows have the same answer"
}
check "what is odd in rows is counted, and named by its line" odd

{ row "a b c" red; cat rows.jsonl; echo '{"instruction": 3}'; } > bad.jsonl
bad() {
    train $m --data bad.jsonl --check && wants 1 && says err "bad.jsonl:32: " || return 1
    train $m --data bad.jsonl --check --bad-rows skip && wants 0 || return 1
    says out "31 rows: " "wrong rows of bad.jsonl left out: 1" "bad.jsonl:32: "
}
check "wrong rows stop, or are named with --bad-rows skip" bad

as_text() {
    cut -c 1-60 rows.jsonl > text
    train $m --text text --val text --check && wants 0 && says out "held out with the prompt of a row trained on: windows 1 and 1" &&
        ! grep "survey" out
}
check "--check --text" as_text

# ---- survey ----------------------------------------------------------------------------------------------------

surveys() {
    survey rows.jsonl && wants 0 && [ ! -s err ] && narrow out || return 1
    says out "30 rows, 5 different answers" "words      rows" "#####" "20.0 %  red" "prompts: " "30 rows are too few" \
        "repeat, contradict or leak: ./train --check" || return 1
    survey rows.jsonl $m && wants 0 && says out "tokens      rows" "of them taught; 0 rows are longer than"
}
check "survey shows lengths, labels, variety and a verdict" surveys
# the lengths are those that train counts
counted() {
    train $m $d --split 0 --check && cp out said && survey rows.jsonl $m && wants 0 || return 1
    says out "$(sed -n 's/.* \([0-9]* tokens\), .*/\1/p' said), $(sed -n 's/.* \([0-9.]* % of them taught\).*/\1/p' said)" ||
        return 1
    row "$(awk 'BEGIN { while (i++ < 400) printf "%d ", i }')" red > beyond.jsonl
    survey beyond.jsonl $m && wants 0 && says out "1 rows are longer than the model's context"
}
check "survey --model counts the tokens that train counts" counted
# what a file of each kind is called: 60 rows of one form with few labels; rows of many words
verdicts() {
    i=0
    while [ $((i += 1)) -le 60 ]; do
        row "$i times the same words in each row again" "$((i % 2))" >&3
        awk -v n=$i 'BEGIN { srand(n); while (i++ < n) printf "w%d ", 1e6 * rand() }' > words
        row "$(cat words)" "$(cat words)" >&4
    done 3> mould.jsonl 4> varied.jsonl
    survey mould.jsonl && wants 0 && says out "homogeneous, as if generated: the prompts repeat phrases and are of one" &&
        survey varied.jsonl && wants 0 && says out "varied, as real rows are"
}
check "survey tells rows of one mould from varied ones" verdicts
survey_log() {
    survey rows.jsonl --log survey.log && wants 0 && "$bin/report" survey.log > page && says page ">red<" "too few" &&
        "$bin/report" survey.log log > page && says page "rows to train on" "different answers" ">red<"
}
check "survey --log is for report, beside train's log" survey_log
held_out() {
    { sed -n 1,3p rows.jsonl; row "What is it?" violet; } > val.jsonl
    survey rows.jsonl --val val.jsonl && wants 0 &&
        says out "val.jsonl: 4 rows" "1 rows of val.jsonl have an answer that no row of rows.jsonl has: violet"
}
check "survey --val shows both, and labels that are not trained on" held_out
survey_refuses() {
    survey && wants 1 && says err "want one file of rows" || return 1
    survey rows.jsonl --template plain && wants 1 && says err "--template says how" || return 1
    survey rows.jsonl --log rows.jsonl && wants 1 && says err "rows.jsonl: is read as well" || return 1
    survey bad.jsonl && wants 1 && says err "bad.jsonl:32: " || return 1
    survey bad.jsonl --bad-rows skip && wants 0 && says out "31 rows" "wrong rows left out: 1"
}
check "survey refuses, or skips, wrong rows; and does not write what it reads" survey_refuses

# ---- what stops ------------------------------------------------------------------------------------------------

{ row "new" red; sed -n 7p rows.jsonl; sed -n 3p rows.jsonl; } > leak.jsonl
leaks() {
    train $m $d --val leak.jsonl --out leak.bin && wants 1 && [ ! -e leak.bin ] || return 1
    says err "leak.jsonl:2: has the prompt of rows.jsonl:7, one of 2 such rows: what is measured" \
        "must not be trained on" &&
        says err "hint: " "--check lists them" || return 1
    train $m $d --val leak.jsonl --check && wants 1 || return 1
    says out "leak.jsonl:2 has the prompt of rows.jsonl:7" "leak.jsonl:3 has the prompt of rows.jsonl:3" "30 rows: "
}
check "a --val file with rows that are trained on stops the run, and --check lists them" leaks

long=$(printf 'very %.0s' 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20)
row "$long" "$long red" > wide.jsonl
{ row "$long" red; cat rows.jsonl; } > some.jsonl
# peers 18: an answer that does not fit is never taught in part, nor a row without its answer
no_answer() {
    train $m --data wide.jsonl --seq 20 --too-long cut --check && wants 1 || return 1
    says err "wide.jsonl:1: the answer alone has" || return 1
    train $m --data wide.jsonl --seq 20 --check && wants 1 && says err "wide.jsonl:1: the row has" || return 1
    train $m --data some.jsonl --seq 24 --too-long cut --check && wants 0 && says out ", 1 cut, 0 dropped" || return 1
    explain $m --data some.jsonl --seq 24 --too-long cut --row 1 && wants 0 || return 1
    says out "  >  red<|endoftext|>" ": 24 tokens"
}
check "peers 18: cutting leaves the answer whole, and says how many rows were cut" no_answer

refuses_template() {                              # refuses_template TEXT MESSAGE
    printf '%s' "$1" > template.txt
    train $m $d --template template.txt --check && wants 1 && says err "template: byte " "$2"
}
check "peers 15: a template without {eot} is refused" \
    refuses_template '{instruction}{target}{output}' "does not end with a special"
check "peers 15: a template with {eot} before {target} is refused" \
    refuses_template '{instruction}{eot}{target}{output}' "does not end"
check "peers 15: a template with {eot} for some rows only is refused" \
    refuses_template '{instruction}{target}{output}{?input}{eot}{/}' "does not end with a special"
check "peers 17: a template that teaches nothing is refused" \
    refuses_template '{instruction}{output}{eot}' "before {target}"

# ---- explain ---------------------------------------------------------------------------------------------------

explains() {
    explain $m $d --row 7 && wants 0 && narrow out || return 1
    says out "row 7 of rows.jsonl, line 7: " "  | What do you see? A green dog, 7 years old" "  >  green<|endoftext|>" \
        "nothing was written" "places of padding" || return 1
    ! grep -q "$(printf '\033')" out || { echo "colours outside of a terminal"; return 1; }
    awk '/^> +[0-9]+ +[0-9]+  / { taught++; if ($(NF - 1) < $(NF - 2)) better++ }      # columns: loss, a step, change
         /^> [0-9]+ tokens taught/ { said = $2 }
         END { exit !(taught > 1 && taught == said && better == taught) }' out || { cat out; return 1; }
    [ "$(ls | grep -c 'state')" = 0 ]
}
check "explain shows what is seen and taught, and that a step teaches it" explains

# the losses of the taught tokens are what eval finds
same_loss() {
    sed -n 7p rows.jsonl > one.jsonl
    explain $m $d --row 7 && wants 0 || return 1
    "$bin/eval" loss $m --data one.jsonl --json > said || return 1
    shown=$(sed -n 's/^> .*mean loss \([0-9.]*\),.*/\1/p' out) found=$(sed -n 's/.*"loss": \([0-9.]*\).*/\1/p' said)
    awk -v a="$shown" -v b="$found" 'BEGIN { d = a - b; exit !(a > 0 && d < 1e-4 && d > -1e-4) }' ||
        { cat said out; return 1; }
}
check "explain shows the losses that eval finds" same_loss

ids() { awk '/^[>|] +[0-9]+ +[0-9]+  / { print $3 }' out | tr '\n' ' '; }
# peers 16: text is never a special token, and begin-of-text, if there is any, comes once
plain_text() {
    row "<|endoftext|>" "<|endoftext|>" > special.jsonl
    cat rows.jsonl >> special.jsonl
    explain $m --data special.jsonl --row 1 && wants 0 || return 1
    [ "$(ids | tr ' ' '\n' | grep -c '^2047$')" -eq 1 ] || { cat out; echo "want one end-of-text"; return 1; }
}
check "peers 16: text of a row never becomes a special token" plain_text

# peers 14: the end-of-text is taught at the end of each row, whatever else is padding
ends() {
    for i in 1 2 3; do
        explain $m $d --row $i && wants 0 || return 1
        grep "^[>|] *[0-9]* *[0-9]*  '" out | tail -n 1 | grep -q "^>.*2047  '<|endoftext|>'" || { cat out; return 1; }
    done
}
check "peers 14: the end of each row is taught" ends

wide() {
    { row "$(printf 'x%.0s' $long $long $long $long $long $long)" red; cat rows.jsonl; } > narrow.jsonl
    explain $m --data narrow.jsonl --row 1 && wants 0 && narrow out || return 1
    [ "$(sed -n 's/^  | //p' out | awk '{ if (length > most) most = length } END { print most }')" -gt 60 ]
}
check "explain stays within 80 columns" wide
harmless() {                                      # what would control a terminal, or turn its text around
    { row 'a\n\t\u001b[\u007f\u009b\u202e\u2066\u4f60\u00e9z' red; cat rows.jsonl; } > hostile.jsonl
    explain $m --data hostile.jsonl --row 1 && wants 0 &&
        says out '  | a\n' '  | \t\x1B[\x7F\xC2\x9B\xE2\x80\xAE\xE2\x81\xA6'"$(printf '\344\275\240\303\251')z"
}
check "explain shows only harmless characters" harmless
beyond() { explain $m $d --row 31 && wants 1 && says err "--row: 31, want 1..30"; }
check "explain of a row that is not there" beyond
dropped() {
    explain $m --data some.jsonl --seq 24 --too-long drop --row 1 && wants 1 &&
        says err "--row: row 1 is dropped: too long"
}
check "explain of a row that is dropped" dropped
with_adapter() {                                  # an adapter that adds nothing yet is the model itself
    train $m $d --lora 4 --steps 1 --lr 0 --out adapter.bin && wants 0 && explain $m $d --row 3 && wants 0 &&
        sed -n 's/.*\(mean loss [0-9.]*\),.*/\1/p' out > losses || return 1
    explain --model adapter.bin --base "$base" $d --row 3 && wants 0 && says out "$(sed -n 1p losses)" "$(sed -n 2p losses)"
}
check "explain of an adapter" with_adapter
refuses_options() {
    explain $m $d && wants 1 && says err "want --model FILE, --data FILE and --row N" || return 1
    explain $m $d --row 1 --mask all && wants 1 && says err "--mask: 'all', want prompt or none" || return 1
    explain $m $d --row 1 --mask none --turns last && wants 1 && says err "--turns last leaves nothing" || return 1
    explain $m $d --row 1 more && wants 1 && says err "'more': a word that belongs to no option"
}
check "explain refuses options that say nothing" refuses_options

if [ -x "$bin/pty" ]; then
    colored() {
        "$bin/pty" "$bin/explain" $m $d --row 7 > out 2>&1 < /dev/null
        grep -q "$(printf '\033\\[32m')" out || { cat out; return 1; }
        NO_COLOR=1 "$bin/pty" "$bin/explain" $m $d --row 7 > out 2>&1 < /dev/null
        ! grep -q "$(printf '\033')" out && says out "  >  green"
    }
    check "explain has colours on a terminal, but for NO_COLOR" colored
fi

# ---- threats ---------------------------------------------------------------------------------------------------

# What users of other programs suffer from, by the numbers of a list of their threads; each has a test here whose
# name, or the line above it, says "peers" and the number.
threats='3 the model that was trained cannot be saved
10 a training run cannot be resumed
11 LoRA has no effect, or ruins the model
12 the tokenizer differs from the original on Unicode
13 a crafted model file corrupts memory
14 padding equals end-of-text, so the end is never taught and the model never stops
15 the end of turn is never taught
16 begin-of-text comes twice, or a text becomes a special token
17 masks are found by searching ids, and are all zero
18 truncation removes the answer
19 rows that are computed together see each other
20 micro-batches are averaged wrongly
21 a resumed run repeats or skips data
22 the program needs the network, or uses it'

# peers 22: what the programs ask of the system includes no connection, and no other program
offline() {
    net='socket|connect|bind|listen|accept|send|sendto|recv|recvfrom|getaddrinfo|gethostbyname'
    other='system|popen|v?fork|exec[lv]p?e?|posix_spawnp?|dlopen'
    for p in train eval convert chat explain; do
        nm -u "$bin/$p" > symbols || return 1
        grep -q 'fopen' symbols || { echo "$p: no symbols"; return 1; }
        ! grep -wE "($net|$other)(@.*)?" symbols ||
            { echo "in $p"; return 1; }
    done
}
command -v nm > /dev/null && check "peers 22: no program can open a connection or start another" offline
named() {
    echo "$threats" | while read -r number threat; do
        grep -qE "peers[ _]$number([^0-9]|\$)" "$here"/test_*.c "$here"/[a-z]*.sh ||
            { echo "no test: $number $threat"; exit 1; }
    done
}
check "each threat has a test that names it" named
finish

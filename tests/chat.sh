#!/bin/sh
# chat.sh BUILD -- chat from outside: conversations, many prompts at once, what a terminal is sent.
#
#   tests/chat.sh build/native        BUILD holds train, chat and pty
#
# The model has 50 thousand parameters and has learned conversations whose answers depend on earlier turns.
here=$(dirname "$0")
bin=$(cd "${1:?usage: tests/chat.sh BUILD}" && pwd) || exit 1
. "$here/lib.sh"
cd "$tmp" || exit 1

# ---- a model to talk with --------------------------------------------------------------------------------------

say() { printf '{"role": "%s", "content": "%s"}' "$1" "$2"; }
n=0
for color in red green blue black white brown; do
    echo "{\"instruction\": \"I like\", \"input\": \"$color\", \"output\": \"ok\"}"
    for animal in cat dog fox hen; do
        ask="$(say user "I like $color"), $(say assistant ok), $(say user "what do I like?")"
        echo "{\"messages\": [$ask, $(say assistant $color)]}"
        echo "{\"messages\": [$(say system "be a $animal"), $ask, $(say assistant "$animal likes $color")]}"
        echo "{\"messages\": [$(say user "what do I like?"), $(say assistant "I cannot tell")]}"
    done
done > rows.jsonl
for i in 1 2 3 4 5 6; do sed 's/[^a-zI?]/ /g; s/messages\|role\|content//g; s/  */ /g' rows.jsonl; done > text.txt
printf '%s\n' '[system]' 'S: {text}{eot}' '[user]' 'Q: {text}{eot}' '[assistant]' 'A:{target} {text}{eot}' > turns.txt
{
    "$bin/train" --init "layers=2 heads=2 width=48 context=96 vocab=300" --text text.txt --steps 10 --split 0 --out base.bin &&
    "$bin/train" --model base.bin --data rows.jsonl --template turns.txt --split 0 --steps 400 --batch 8 --lr 5e-3 \
                 --out talk.bin
} > said 2>&1 || { cat said; echo "no model, so no tests"; exit 1; }
m="--model talk.bin"

# talk LINES ARGUMENTS...: what chat answers to the lines; its messages go to the file stderr.   sure: its likeliest answer
talk() {
    lines=$1
    shift
    printf "$lines" | "$bin/chat" $m "$@" 2> stderr
}
sure() { talk "$@" --temperature 0; }
answers() {                                       # answers WANT LINES ARGUMENTS...: it answers so, and all is well
    printf "$1" > want
    shift
    sure "$@" > got || { cat stderr; return 1; }
    cmp got want || { cat got stderr; return 1; }
}
# fails PATTERN LINES ARGUMENTS...: exit status 1, and a message that matches the extended regular expression
fails() {
    pattern=$1
    shift
    sure "$@" > got
    [ $? -eq 1 ] && grep -E -e "^chat: $pattern" stderr || { cat stderr; echo "want: $pattern"; return 1; }
}
refuses() { fails "$@" && [ ! -s got ]; }
noted() { grep -F -e "note: $1" stderr || { cat stderr; echo "want a note: $1"; return 1; }; }

# ---- conversations ---------------------------------------------------------------------------------------------

like="I like red\nwhat do I like?\n"
check "an answer depends on what was said before" answers "ok\nred\n" "$like"
check "--system begins the conversation" answers "ok\nhen likes red\n" "$like" --system "be a hen"
check "/system does the same" answers "ok\nhen likes red\n" "/system be a hen\n$like"
check "/system replaces the system turn, in mid-conversation too" \
      answers "ok\nfox likes red\n" "I like red\n/system be a fox\nwhat do I like?\n" --system "be a hen"
check "/system without text removes it" answers "ok\nred\n" "/system\n$like" --system "be a hen"
check "/reset forgets what was said" answers "ok\nI cannot tell\n" "I like red\n/reset\nwhat do I like?\n"
check "/reset keeps the system turn" answers "ok\nok\nhen likes blue\n" \
      "I like red\n/reset\nI like blue\nwhat do I like?\n" --system "be a hen"
check "/undo takes an exchange back" answers "ok\nred\nok\nblue\n" \
      "${like}/undo\n/undo\nI like blue\nwhat do I like?\n"
check "/undo, and the same again" answers "ok\nred\nred\n" "${like}/undo\nwhat do I like?\n"
check "/quit ends" answers "ok\n" "I like red\n/quit\nwhat do I like?\n"
check "/help prints the commands, not as an answer" answers "" "/help\n"
check "empty lines and line ends of Windows" answers "ok\nred\n" "\nI like red\r\n\n\r\nwhat do I like?\r\n"
check "the last line needs no end" answers "ok\nred\n" "I like red\nwhat do I like?"
check "--prompt answers once" answers "I cannot tell\n" "" --prompt "what do I like?"
literal() {
    [ "$(talk "//I like\n")" = "$(talk "" --prompt "/I like")" ] && [ "$(talk "//I like\n")" != "$(talk "" --prompt "//I like")" ]
}
check "// says a line that begins with /" literal
check "with a template of single exchanges each line stands on its own" \
      [ "$(sure "$like" --template plain | sed -n 2p)" = "$(sure "what do I like?\n" --template plain)" ]
check "a template of single exchanges has no system turn" refuses "a system turn wants a template with sections" \
      "" --template plain --system "be a hen"

goes_on() { fails "$@" && [ "$(tail -n 1 got)" = red ]; }
long=$(printf 'long %.0s' 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30)
check "an unknown command is named, and the conversation goes on" goes_on "unknown command /resets" "/resets\n$like"
check "/undo with nothing to undo" goes_on "/undo: there is nothing to take back" "/undo\n$like"
check "/undo does not undo the system turn" goes_on "/undo: there is nothing" "/undo\n/system\n$like" --system "be a hen"
check "a line beyond the context is not kept" goes_on "prompt: [0-9]+ tokens, want 1..96" "I like red\n$long$long\nwhat do I like?\n"
check "a line with a 0 byte" goes_on "a line of 5 bytes, want at most 65536 and no 0 among them" "he\0lo\n$like"
too_long() {
    { head -c 65537 /dev/zero | tr '\0' x; printf "\n$like"; } | "$bin/chat" $m --temperature 0 > got 2> stderr
    [ $? -eq 1 ] && grep "a line of 65537 bytes" stderr && [ "$(tail -n 1 got)" = red ]
}
check "a line of 65537 bytes" too_long
unreadable() { ! "$bin/chat" $m < . 2> stderr && grep "standard input cannot be read" stderr; }
check "a folder as standard input" unreadable

# A conversation is what a row of all its turns is: nothing depends on the cache or the turns before.
as_a_row() {
    talk "I like red\nwhat is it?\nI like blue\n" --temperature 1 --seed 5 > got &&
        echo "{\"messages\": [$(say user "I like red"), $(say assistant "$(sed -n 1p got)"), \
              $(say user "what is it?"), $(say assistant "$(sed -n 2p got)"), $(say user "I like blue")]}" > one.jsonl &&
        talk "" --in one.jsonl --temperature 1 --seed 5 > said && grep -F "\"answer\": \"$(sed -n 3p got)\"" said
}
check "a conversation's third answer is that to a row of its turns" as_a_row
seeds() { talk "" --prompt "I like" --temperature 4 --max-tokens 9 "$@"; }
repeats() { seeds --seed 2 > two && seeds --seed 2 --threads 3 | cmp - two; }
varies() { seeds --seed 2 > two && ! seeds --seed 1 | cmp -s - two; }
check "the same seed, the same answer, with any threads" repeats
check "another seed, another answer" varies

# ---- a context that fills up -----------------------------------------------------------------------------------

many="I like red\nI like green\nI like black\nI like white\nI like brown\nI like blue\nwhat do I like?\n"
left_out() {                                      # every line is answered all the same
    sure "$many" --context 48 "$@" > got && noted "the context is full: oldest exchanges left out" && [ "$(grep -c . got)" = 7 ]
}
# as_if_never CONTEXT GONE KEPT ARGUMENTS...: of four turns, the third and the fourth leave out so many exchanges, GONE,
# and the fourth is answered as if they had never been: KEPT, 0 or 1, stay, and the system turn
as_if_never() {
    context=$1 gone=$2 kept=$3
    shift 3
    talk "I like red\nI like green\nI like blue\nwhat is it?\n" --context $context --max-tokens 8 "$@" > got || return 1
    k=$(sed -n 's/.*left out from here on: //p' stderr)
    [ "$(echo $k)" = "$gone" ] || { cat got stderr; return 1; }
    before="$(say user "I like blue"), $(say assistant "$(sed -n 3p got)"), "
    [ "$kept" = 1 ] || before=
    echo "{\"messages\": [$before$(say user "what is it?")]}" > one.jsonl
    talk "" --in one.jsonl --max-tokens 8 "$@" > said && cat got said && [ -n "$(sed -n 4p got)" ] &&
        grep -F "\"answer\": \"$(sed -n 4p got)\"" said
}
check "a full context stops no conversation" left_out
check "a full context stops no conversation with a system turn" left_out --system "be a hen"
exactly() {                                       # a prompt of as many tokens as the context has
    ! sure "" --prompt "what do I like?" --context 8 && n=$(sed -n 's/.*prompt: \([0-9]*\) tokens.*/\1/p' stderr) &&
        [ "$n" -gt 8 ] && sure "" --prompt "what do I like?" --context $n &&
        refuses "prompt: $n tokens, want 1..$((n - 1))" "" --prompt "what do I like?" --context $((n - 1))
}
check "a prompt may fill the context exactly" exactly
check "an exchange left out is as if it had never been" as_if_never 40 "1 1" 1
check "the system turn stays when exchanges are left out" as_if_never 56 "1 1" 1 --system "be a hen"
check "the system turn stays when all exchanges are left out" as_if_never 40 "2 1" 0 --system "be a hen"
cut_off() {                                       # the base has not learned to end
    "$bin/chat" --model base.bin --raw --prompt "I like" --max-tokens 1000 --context 20 --temperature 0 2> stderr &&
        noted "cut off: the context of 20 tokens is full"
}
check "an answer that reaches the end of the context is cut off" cut_off
check "--context beyond the model's" refuses "--context: 97, want at most the model's 96" "" --context 97

# ---- many prompts ----------------------------------------------------------------------------------------------

cat > in.jsonl <<END
{"prompt": "what do I like?"}
{"instruction": "I like", "input": "red"}
{"messages": [$(say user "I like blue"), $(say assistant ok), $(say user "what do I like?")]}
{"messages": [$(say system "be a dog"), $(say user "I like red"), $(say assistant ok), $(say user "what do I like?")]}
{"instruction": "what do I like?", "output": "what nobody looks at"}
END
cat > want.jsonl <<END
{"row": 0, "prompt": "what do I like?", "answer": "I cannot tell"
{"row": 1, "instruction": "I like", "input": "red", "answer": "ok"
{"row": 2, "messages": [$(say user "I like blue"), $(say assistant ok), $(say user "what do I like?")], "answer": "blue"
{"row": 3, "messages": [$(say system "be a dog"), $(say user "I like red"), $(say assistant ok), $(say user "what do I like?")], "answer": "dog likes red"
{"row": 4, "prompt": "what do I like?", "answer": "I cannot tell"
END
in_rows() {
    sure "" --in in.jsonl "$@" > got || { cat stderr; return 1; }
    sed 's/, "tokens": [1-9][0-9]*, "stopped": "end"}$//' got | cmp - want.jsonl || { cat got; return 1; }
}
sampled() { talk "" --in many.jsonl --temperature 4 --max-tokens 9 --seed 2 "$@"; }
same_answers() { sampled > all && sampled "$@" > got && [ "$(grep -c . got)" = 77 ] && cmp got all; }
letters() { sed 's/\\u[0-9a-f]\{4\}//g' | tr -cd 'a-zA-Z '; }
row_0() {
    asked=$(sampled | sed -n '1s/.*"answer": "\(.*\)", "tokens.*/\1/p' | letters)
    echo "$asked" && [ -n "$asked" ] && [ "$asked" = "$(seeds --seed 2 | letters)" ]
}
seed_of_row() {                                   # row i with seed N is row 0 with seed N + i
    sampled | sed -n '6s/.*"answer"/answer/p' > five && sed -n 6p many.jsonl > one.jsonl &&
        talk "" --in one.jsonl --temperature 4 --max-tokens 9 --seed 7 | sed 's/.*"answer"/answer/' | cmp - five && [ -s five ]
}
{ echo '{"prompt": "I like"}'; cat in.jsonl rows.jsonl | head -n 76; } > many.jsonl
check "--in answers rows of three kinds, in their order" in_rows
of_system() {
    sure "" --in in.jsonl --system "be a cat" > got && cat got && [ "$(grep -c 'cat likes blue' got)" = 1 ] &&
        [ "$(grep -c 'dog likes red' got)" = 1 ] && ! grep 'be a cat' got
}
check "--in: --system is for rows without one, and is not shown" of_system
echo '{"prompt": "what do I like?", "completion": "x"}' > answered.jsonl
tight() {                                         # n: what `exactly` found
    sure "" --in answered.jsonl --context $n > got && grep '"answer": "' got && [ ! -s stderr ]
}
check "--in: an answer that a row has is not looked at when there is little room" tight
{ cat in.jsonl; echo '{"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]}'; } > two.jsonl
check "--in: a bad row is found before the first answer" refuses "two.jsonl:6: " "" --in two.jsonl
echo "{\"prompt\": \"$long$long\"}" | cat in.jsonl - > deep.jsonl
check "--in: and so is one beyond the context" refuses "deep.jsonl:6: prompt: [0-9]+ tokens, want 1..96" "" --in deep.jsonl
check "--in: rows of several turns want a template with sections" refuses "in.jsonl:3: " "" --in in.jsonl --template plain
check "--in --raw takes rows with a prompt alone" refuses "in.jsonl:2: --raw takes" "" --in in.jsonl --raw
check "--in of a missing file" refuses "nope.jsonl: cannot open" "" --in nope.jsonl
check "--in with --prompt" refuses "want either --prompt TEXT or --in FILE" "" --in in.jsonl --prompt x
check "--raw with --template" refuses "want either --raw or --template" "" --raw --template plain
full() { "$bin/chat" $m --in in.jsonl > /dev/full; [ $? -eq 1 ]; }
[ ! -c /dev/full ] || check "--in on a full disk fails" full
for batch in 1 3 100; do
    check "--in --batch $batch: the same answers" same_answers --batch $batch
done
check "--in --threads 3: the same answers" same_answers --threads 3
check "--in: row 0 is answered as --prompt is" row_0
check "--in: row 5 is answered as row 0 is with a seed 5 higher" seed_of_row

# ---- a terminal ------------------------------------------------------------------------------------------------

# What a terminal shows goes to the file shown.
controls() { LC_ALL=C tr -d '\n\t\r -~\200-\377' < "$1" | wc -c; }
sends_no_controls() {                             # of an answer that has some
    noise="$m --threads 1 --raw --prompt like --temperature 100 --top-p 1 --seed 2"
    "$bin/chat" $noise > plain && "$bin/pty" "$bin/chat" $noise < /dev/null > shown && cat -v shown &&
        [ "$(controls plain)" -gt 0 ] && [ -s shown ] && [ "$(controls shown)" -eq 0 ] && grep -q '?' shown
}
stops() {                                         # an answer of 200 thousand tokens, but for the Ctrl-C; then it goes on
    "$bin/pty" "$bin/chat" --threads 1 --model long.bin --raw --temperature 0 --max-tokens 200000 --context 200000 \
        << 'end' > shown
wait > 
type the\n
wait eeeeeeee
type \003
wait note: stopped
type the\n
wait eeeeeeee
type \003
wait note: stopped
type /help\n
wait take the last exchange back
type \004
end
}
ends() {                                          # by the signal
    printf '%s\n' 'wait > ' 'type what do I like?\n' 'wait > ' 'type \003' |
        "$bin/pty" "$bin/chat" --threads 1 $m --temperature 0 > shown
    [ $? -eq 130 ] && grep "I cannot tell" shown
}
"$bin/train" --init "layers=1 heads=2 width=16 rope=1 context=200000 vocab=300" --text text.txt --seq 64 \
             --steps 30 --split 0 --out long.bin 2> said || cat said
check "a terminal is sent no control characters" sends_no_controls
check "Ctrl-C stops the answer, and the conversation goes on" stops
check "Ctrl-C ends the program when there is no answer" ends
finish

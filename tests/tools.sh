#!/bin/sh
# tools.sh BUILD -- clean and compare from outside.
#
#   tests/tools.sh build/native       BUILD holds clean, compare and pty
here=$(dirname "$0")
bin=$(cd "${1:?usage: tests/tools.sh BUILD}" && pwd) || exit 1
. "$here/lib.sh"
cd "$tmp" || exit 1

# refuses PATTERN COMMAND...: exit status 1, nothing on standard output, and a message that matches
refuses() {
    pattern=$1
    shift
    "$@" > got 2> stderr < /dev/null
    [ $? -eq 1 ] && [ ! -s got ] && grep -E -e "$pattern" stderr || { cat stderr; echo "want: $pattern"; return 1; }
}

# ---- clean -----------------------------------------------------------------------------------------------------

# cleans WANT OPTIONS...: the file in becomes the file want, and that, cleaned again, itself
cleans() {
    "$bin/clean" in "$@" > got 2> list || { cat list; return 1; }
    cmp got want || { cat list; diff got want; return 1; }
    "$bin/clean" want "$@" > again 2> list2 && cmp again want || { cat list2; return 1; }
}
lists() { grep -F -e "$1" list || { cat list; echo "want: $1"; return 1; }; }
row() { printf '{"instruction": "%s", "output": "%s"}\n' "$1" "$2"; }

nothing() {                                       # strange but right: not one byte changes
    printf '\357\273\277 [\n\t{"output":"caf\\u00e9  \\ud83d\\ude00\\/","x":[1.50,{"y":null}],"instruction":"a"}  ,\r\n' > in
    printf '{ "prompt" : "b", "completion" : "" } ] \n' >> in
    cp in want
    cleans
}
check "a file without faults stays as it is, byte for byte" nothing

members() {                                       # only the changed text is written anew; what follows a row that goes, too
    printf '[\n  {"id": 1.0, "prompt": "Why is the sky blue in the day?", "completion": "Of the air.\\u0041", "k": [2]},\n' > in
    printf '  {"id": 2, "prompt": "why is the SKY blue in the day", "completion": "Of the air.A"},\n' >> in
    printf '  {"id": 3, "prompt": "p", "completion": "It is what it is then. It is what it is then. \\"x\\"\\n", "k": "\\/"},\n' >> in
    printf '  {"id": 4, "prompt": "Why is the sky blue in the day?", "completion": "Of the air.A"}\n]\n' >> in
    printf '[\n  {"id": 1.0, "prompt": "Why is the sky blue in the day?", "completion": "Of the air.\\u0041", "k": [2]},\n' > want
    printf '  {"id": 3, "prompt": "p", "completion": "It is what it is then. \\"x\\"\\n", "k": "\\/"}\n]\n' >> want
    cleans && lists "in:3: duplicate of line 2: prompts 1.00 alike, answers 1.00" && lists "in:4: repeated sentence" &&
        lists "in:5: duplicate of line 2" && lists "in: 4 rows in, 2 out, 3 changes"
}
check "other members, numbers and white space are kept in an array" members

near() {                                          # 30 words, of which one differs; then a number differs; then the answer
    words="one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen"
    row "$words nineteen twenty 100" "yes"
    row "$words nineteen twenties 100" "yes"
    row "$words nineteen twenty 101" "yes"
    row "$words nineteen twenty 100" "no"
} 
near > in
near_dropped() { near | sed 2d > want; cleans && lists "in:2: duplicate of line 1: prompts 0.81 alike, answers 1.00"; }
near_kept() { near > want; cleans --near 0.85 && cleans --keep-duplicates; }
near_any() { near | sed -n '1p;3p' > want; cleans --any-answer; }
check "a near-duplicate goes; another number or answer makes another row" near_dropped
check "--near above their likeness, and --keep-duplicates, keep it" near_kept
check "--any-answer: the prompt decides" near_any

repeats() {
    row a "$1 It goes on and on. It goes on and on.\\n\\nNew text."
    row b "$1 So it goes here. And there it went. So it goes here. And there it went."
    row c '```\nIt is the same line.\nIt is the same line.\n```'
    row d "La la la, la la la.\\nSing it with me now, my dear.\\nAgain!\\nSing it with me now, my dear.\\nEnd."
}
next_dropped() {
    repeats Yes. > in
    { row a "Yes. It goes on and on.\\n\\nNew text."; row b "Yes. So it goes here. And there it went."
      repeats Yes. | tail -n 2; } > want
    cleans
}
any_dropped() {
    repeats Yes. > in
    { sed -n 1,3p want; row d "La la la, la la la.\\nSing it with me now, my dear.\\nAgain!\\nEnd."; } > want2
    mv want2 want
    cleans --repeats any
}
check "sentences that follow themselves go, not in code or songs" next_dropped
check "--repeats any: also further apart" any_dropped

closings() {                                      # N answers of three kinds, with the same three closings
    i=0
    while [ $i -lt $1 ]; do
        i=$((i + 1))
        row "question $i" "Answer number $i is right.$2"
        row "another $i" "Same answer. I hope that this helps!"
        row "label $i" "Reason number $i is why.$3"
    done
}
boilerplate() {
    closings 5 " I hope this helps you!" " The answer is positive." > in
    closings 5 "" " The answer is positive." > want
    cleans && lists "boilerplate" && ! cleans --closings none
}
few() { closings 4 " I hope this helps you!" " The answer is positive." > in; cp in want; cleans && ! cleans --often 4; }
any() { closings 5 " I hope this helps you!" " The answer is positive." > in; closings 5 "" "" > want; cleans --closings any; }
check "a closing that speaks to the reader goes if it ends five different answers" boilerplate
check "four are too few, unless --often says so" few
check "--closings any takes what may be the content" any

say="Fine then, have it so. Fine then, have it so."
messages() {
    printf '{"messages": [{"role": "user", "content": "%s"}, {"content": "%s", "role": "assistant"}]}\n' "$say" "$1"
}
only_assistant() { messages "$say" > in; messages "Fine then, have it so." > want; cleans; }
check "of a conversation only the assistant's texts change" only_assistant

long() { row a "One two three. Four five six seven, Dr. Watson, e.g. John.${1-}"; }
trimmed() {
    { long " Twelve or so."; row b "No end in sight\\nhere at all and none to come of it"; } > in
    { long; sed 1d in; } > want
    cleans --max-words 12 && lists "in:1: over-long"
}
check "--max-words cuts behind a sentence, or not at all" trimmed

spelling() {                                      # only the first slip is one for sure: of the others there are two, or code
    i=0
    while [ $i -lt 20 ]; do i=$((i + 1)); row "w $i" "They separate and believe in $i."; done
    row x "I $1 it, and \`do separrate it\`."
    row "separtae" "It is separtae."
    row y "Separate Beleiev"
}
slips() {                                         # the last row takes two passes: what was corrected is then repeated
    { spelling beleive; row z "We do believe in all. We do beliieve in all."; } > in
    { spelling believe; row z "We do believe in all."; } > want
    cleans --spelling && lists "in:21: spelling" && lists "2 words corrected"
}
i=0
while [ $i -lt 1000 ]; do i=$((i + 1)); echo "word$i"; done > list.txt
echo "they separate and believe in i it is or w x y Spell" >> list.txt
listed() {                                        # another vowel, three examples; not in another language
    { row p "They seperate it."; row q "Ellos seporate mucho y nada"; spelling believe | sed 1,17d; } > in
    { row p "They separate it."; sed 1d in; } > want
    cleans --words list.txt && cp in want && cleans --spelling
}
check "--spelling: a slip of a frequent word" slips
check "--words: more kinds of slips, of less frequent words, in its language" listed

places() {
    row a "It is so, I say. It is so, I say." > in
    cp in was
    refuses "in: standard output goes into the file" sh -c "'$bin/clean' in >> in"
    cmp in was && refuses "in: would be written over, want another file for --out" "$bin/clean" in --out ./in &&
        refuses "list.txt: would be written over, want another file for --changes" "$bin/clean" in --words list.txt --changes list.txt &&
        "$bin/clean" in --out out.json --changes changes.txt 2> stderr && [ -s out.json ] && grep "repeated" changes.txt &&
        ! grep "^in:1" stderr && cmp in was
}
check "what is read is never written over" places
width() {                                         # of long sentences of wide characters and controls
    awk 'BEGIN { for (i = 0; i < 900; i++) s = s "\\u001b\xe6\xbc\xa2 \\u202e"; s = s "end. "
                 print "{\"prompt\": \"p\", \"completion\": \"" s s "\"}" }' > in
    "$bin/clean" in > got 2> list && [ "$(LC_ALL=C tr -d '\n -~\200-\377' < list | wc -c)" -eq 0 ] &&
        LC_ALL=C awk '{ gsub(/\346\274\242/, "xx") } length > 80 { exit 1 }' list && lists "in:1: repeated"
}
check "the list has 80 columns and no control characters" width
bad() {
    printf '{"prompt": "a", "completion": "b"}\n%s\n' "$1" > in
    refuses "$2" "$bin/clean" in --out none.json && [ ! -e none.json ]
}
check "a row of another form" bad '{"text": "x"}' "in:2: the row has not one prompt and one answer"
check "a text that is none" bad '{"prompt": "x", "completion": 3}' "in:2: completion is not a string"
check "a text with a 0 byte" bad '{"prompt": "x\u0000", "completion": "y"}' 'in:2: prompt holds .u0000'
check "a row that is none" bad '[1]' "in:2: the row is not an object"
check "messages without turns" bad '{"messages": []}' "in:2: messages is not an array with turns"
check "a broken line" bad '{"prompt": "x"' "in:3:1: found the end"
row a b > a.json
check "no rows" refuses "has no rows" sh -c ": > in; '$bin/clean' in"
check "CSV" refuses "clean takes JSON" "$bin/clean" rows.csv
check "a short list of words" refuses "few: 1 words, want at least 1000" sh -c "echo a > few; cp a.json in; '$bin/clean' in --words few"
fast() {                                          # what may take quadratic time: 3 MB of each in less than a minute
    awk 'BEGIN { printf "{\"prompt\": \"a\", \"completion\": \""; for (i = 0; i < 300000; i++) printf "!!!!!!!!!!"; print "x\"}";
                 printf "{\"prompt\": \"b\", \"completion\": \""; for (i = 0; i < 300000; i++) printf ",,,,,,,,,,"; print "x\"}";
                 printf "{\"prompt\": \"c\", \"completion\": \""; for (i = 0; i < 100000; i++) printf "It is the same now. "; print "x\"}";
                 for (i = 0; i < 20000; i++) print "{\"prompt\": \"a b c a b c a b c a b c\", \"completion\": \"" i % 3 "\"}" }' > in
    timeout 60 "$bin/clean" in --spelling > got 2> list && lists "20003 rows in, 6 out"
}
check "hostile repetition takes linear time" fast

# ---- compare ---------------------------------------------------------------------------------------------------

# answers WHO N: a log of N answers, of which row 2 is equal in all
answers() {
    awk -v who="$1" -v n="$2" 'BEGIN { for (i = 0; i < n; i++)
        printf "{\"row\": %d, \"instruction\": \"ask %d\", \"input\": \"\", \"reference\": \"r\", \"answer\": \"%s\"}\n",
               i, i, i == 2 ? "equal" : who " says " i }'
}
answers north 6 > a.jsonl
answers south 6 > b.jsonl
compare() { "$bin/compare" a.jsonl b.jsonl "$@" 2> stderr || { cat stderr; return 1; }; }

# judges LOG PREFERRED [OPTIONS]: a person who always takes one model's answer, whichever side it is on
judges() {
    log=$1 want=$2
    shift 2
    rm -f "$log"
    n=0
    while [ $n -lt 5 ]; do
        n=$((n + 1))
        printf 'q\n' | compare --log "$log" "$@" > said || return 1
        if sed -n '/^-- 1: left/,/^-- 2: right/p' said | grep -q "$want says"; then key=1; else key=2; fi
        printf '%s\n' $key | compare --log "$log" "$@" > said || return 1
    done
    cat said
}
finds() {
    judges one.jsonl north && grep -E "^a.jsonl +5 wins  1.0000  \(0.4782 to 1.0000\)" said &&
        grep -E "^b.jsonl +0 wins  0.0000  \(0.0000 to 0.5218\)" said && grep "5 decided judgements are too few" said &&
        judges two.jsonl south --seed 3 && grep -E "^b.jsonl +5 wins" said
}
check "whoever is preferred is found, on both sides and over five runs" finds
blind() {                                         # neither name is shown before the end, and both models stand left at times
    rm -f j.jsonl
    printf '1\n1\n1\n1\nq\n' | compare --log j.jsonl > said && ! grep -E "a\.jsonl|b\.jsonl" said && grep "4 of 5 judged" said &&
        sed -n '/1: left/{n;p;}' said | grep north && sed -n '/1: left/{n;p;}' said | grep south && ! grep equal said
}
check "which is which is not told before the end" blind
seeded() {
    for s in 1 1 2 3 4; do rm -f j.jsonl; printf 't\nt\nt\nt\nt\n' | compare --log j.jsonl --seed $s > said.$s || return 1
        [ $s != 1 ] || { [ ! -e first ] || cmp first said.1 || return 1; cp said.1 first; }; done
    ! cmp -s said.1 said.2 && ! cmp -s said.2 said.3 && grep -E "^ties +5" said.1
}
check "--seed decides order and sides" seeded
keys() {
    rm -f j.jsonl
    printf 'u\nx\n12\n\n T \ns\nu\nu\nS\nt\n1\n2\nt\nu\nt\n\n' | compare --log j.jsonl > said && cat said &&
        grep "nothing to take back" said && [ "$(grep -c 'one of 1, 2, t, s, u, q' said)" = 3 ] &&
        grep "2 judged\|4 judged, 1 skipped, 0 open" said && [ "$(grep -c undo j.jsonl)" = 3 ]
}
check "tie, skip, undo, and keys that are none" keys
terminal() {
    rm -f j.jsonl
    "$bin/pty" "$bin/compare" a.jsonl b.jsonl --log j.jsonl << 'end' > shown
wait question 1 of 5
wait q quit > 
type 1\n
wait question 2 of 5
wait q quit > 
type u\n
wait question 1 of 5
wait q quit > 
type 2\n
wait question 2 of 5
wait q quit > 
type \004
wait 1 of 5 judged
end
    [ $? -eq 0 ] && [ "$(grep -c choice j.jsonl)" = 3 ] || { cat shown; return 1; }
    "$bin/pty" "$bin/compare" a.jsonl b.jsonl --log j.jsonl << 'end' > shown
wait question 2 of 5
wait q quit > 
type s\n
wait question 3 of 5
wait q quit > 
type t\n
wait question 4 of 5
wait q quit > 
type 1\n
wait question 5 of 5
wait q quit > 
type 1\n
wait u takes the last one back > 
type u\n
wait question 5 of 5
wait q quit > 
type 2\n
wait u takes the last one back > 
type \n
wait a.jsonl
wait too few
end
    [ $? -eq 0 ] || { cat shown; return 1; }
}
check "on a terminal: undo, Ctrl-D, and on from there" terminal
harmless() {
    awk 'BEGIN { printf "{\"row\": 0, \"instruction\": \"\\u001b[2J\\u009b\", \"input\": \"\", \"answer\": \"";
                 for (i = 0; i < 400; i++) printf "w%d \\u0000\\u0007\\u202e\xe6\xbc\xa2\xe6\xbc\xa2", i; print "\", \"vs\": \"x\"}" }' > h.jsonl
    echo | "$bin/pty" "$bin/compare" h.jsonl --log h.log < /dev/null > shown & pty=$!
    printf 'q\n' | "$bin/compare" h.jsonl --log h2.log > said; kill $pty 2> /dev/null; wait $pty 2> /dev/null
    [ "$(LC_ALL=C tr -d '\n -~\200-\377' < said | wc -c)" -eq 0 ] && ! LC_ALL=C grep "$(printf '\302\233')" said &&
        ! LC_ALL=C grep "$(printf '\342\200\256')" said &&
        LC_ALL=C awk '{ gsub(/\346\274\242/, "xx") } length > 80 { exit 1 }' said
}
check "answers control no terminal and stay within 80 columns" harmless

# interval WINS LOSSES LOW HIGH: Clopper and Pearson's, as scipy 1.18's binomtest(...).proportion_ci has it
interval() {
    answers north $(($1 + $2 + 1)) > na.jsonl
    answers south $(($1 + $2 + 1)) > nb.jsonl
    { printf '{"compare": 1, "a": "%s", "b": "%s", "seed": 1}\n' "$(sha256sum < na.jsonl | cut -d' ' -f1)" "$(sha256sum < nb.jsonl | cut -d' ' -f1)"
      awk -v k=$1 -v n=$(($1 + $2)) 'BEGIN { for (i = 0; i < n; i++)
          printf "{\"row\": %d, \"choice\": \"%s\"}\n", i < 2 ? i : i + 1, i < k ? "a" : "b" }'; } > n.log
    "$bin/compare" na.jsonl nb.jsonl --log n.log --results > said && cat said && grep -F "($3 to $4)" said
}
check "the interval of  0 of 25" interval 0 25 0.0000 0.1372
check "the interval of 25 of 25" interval 25 0 0.8628 1.0000
check "the interval of 15 of 21" interval 15 6 0.4782 0.8872
says() { grep "$1" said || { cat said; return 1; }; }
check "    of which nothing follows" says "do not show which of the two is preferred"
check "the interval of 16 of 21" interval 16 5 0.5283 0.9178
check "    of which something follows" says "this judge prefers the answers of"
check "the interval of  5 of 20" interval 5 15 0.0866 0.4910
check "the interval of 301 of 700" interval 301 399 0.3930 0.4676
check "the interval of  1 of 400" interval 1 399 0.0001 0.0138

rm -f j.jsonl
printf '1\n' | compare --log j.jsonl > said
cp j.jsonl good
other() { refuses "j.jsonl: is of other files than b.jsonl and a.jsonl" "$bin/compare" b.jsonl a.jsonl --log j.jsonl; }
reseeded() { refuses "was begun with --seed 1" "$bin/compare" a.jsonl b.jsonl --log j.jsonl --seed 2; }
spoilt() { cp good j.jsonl; echo "$1" >> j.jsonl; refuses "$2" "$bin/compare" a.jsonl b.jsonl --log j.jsonl; }
check "judgements of other files" other
check "judgements of another seed" reseeded
check "a judgement of a row that is not there" spoilt '{"row": 6, "choice": "a"}' "j.jsonl:3: is no judgement, want a row from 0 to 5"
check "a judgement of half a row" spoilt '{"row": 1.5, "choice": "a"}' "j.jsonl:3: is no judgement"
check "a judgement that is none" spoilt '{"row": 1, "choice": "c"}' "j.jsonl:3: is no judgement"
check "a judgement of equal answers" spoilt '{"row": 2, "choice": "a"}' "j.jsonl:3: row 2 cannot be judged here"
check "a judgement of a row twice" spoilt "$(sed -n 2p good)" "j.jsonl:3: row . cannot be judged here"
check "a judgement cut short" spoilt '{"row": 1, "cho' "j.jsonl:3:"
check "a log that is no judgements" refuses "rows.txt:1: is no file of judgements" sh -c "cp a.jsonl rows.txt; '$bin/compare' a.jsonl b.jsonl --log rows.txt"
check "--log that is an input" refuses "b.jsonl: would be written over" "$bin/compare" a.jsonl b.jsonl --log ./b.jsonl
check "logs of different lengths" refuses "a.jsonl has 6 rows, c.jsonl 5" sh -c "sed 6d b.jsonl > c.jsonl; '$bin/compare' a.jsonl c.jsonl"
check "logs of different questions" refuses "a.jsonl:4 and c.jsonl:4: ask different things" sh -c "sed 's/ask 3/ask 4/' b.jsonl > c.jsonl; '$bin/compare' a.jsonl c.jsonl"
check "one log without vs" refuses "a.jsonl:1: has no vs" "$bin/compare" a.jsonl
check "a log without answers" refuses "c.jsonl:1: has no answer" sh -c "sed 's/answer/said/' a.jsonl > c.jsonl; '$bin/compare' c.jsonl b.jsonl"
check "results without judgements" refuses "has no judgements yet" "$bin/compare" a.jsonl b.jsonl --log new --results
one_log() { sed 's/}$/, "vs": "other"}/' a.jsonl > both.jsonl && printf '1\n' | "$bin/compare" both.jsonl --log b.log > said && grep "1 of 6 judged" said; }
check "one log with answer and vs" one_log
began() { { echo '{"lines": [{"name": "a"}, {"name": "b"}], "n": 6}'; cat both.jsonl; } > eval.jsonl && printf '1\n' | "$bin/compare" eval.jsonl --log e.log > said && grep "1 of 6 judged" said; }
check "the first line of eval's log is no row" began
finish

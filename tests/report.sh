#!/bin/sh
# report.sh BUILD -- the page that ./report makes of logs: what is on it, that it is the same each time, that no text
# of a log becomes markup, and that a wrong line makes no page.
#
#   tests/report.sh build/native      BUILD holds report; the logs are made here. How the page looks in a browser:
#                                     python3 dev/report_check.py
here=$(dirname "$0")
bin=$(cd "${1:?usage: tests/report.sh BUILD}" && pwd) || exit 1
. "$here/lib.sh"
cd "$tmp" || exit 1

say() { printf '%s\n' "$1"; }                     # as it stands: some echos read backslashes
page() { "$bin/report" "$@" > page.html 2> stderr || { cat stderr; return 1; }; }
shows() { for text in "$@"; do grep -qF -e "$text" page.html || { echo "want: $text"; return 1; }; done; }
lacks() { for text in "$@"; do ! grep -qF -e "$text" page.html || { echo "do not want: $text"; return 1; }; done; }
# refuses PATTERN FILES...: exit status 1, nothing on standard output, and a message that matches
refuses() {
    pattern=$1
    shift
    "$bin/report" "$@" > got 2> stderr < /dev/null
    [ $? -eq 1 ] && [ ! -s got ] && grep -E -e "$pattern" stderr || { cat stderr; echo "want: $pattern"; return 1; }
}

# ---- logs ------------------------------------------------------------------------------------------------------

run() {                                           # run NORMS: 400 steps, each with these norms of its layers
    say '{"run": {"version": "0.1.0", "steps": 400, "rows": 9, "parameters": 1234567, "trained": 1234567, "lineage": "train tune.c\nbase sha256 <b>00</b>\n"}}'
    say '{"data": {"rows": 9, "train": 8, "held_out": 1, "twice": 2, "longest": 31, "bar": 4, "bars": [0, 5, 3, 1], "prompt": {"words": 4, "spread": 0.5}, "answer": {"words": 1, "spread": 0}}}'
    say '{"step": 0, "val_loss": 6.25}'
    step=0
    while [ $step -lt 400 ]; do
        step=$((step + 1))
        say "{\"step\": $step, \"loss\": $((500 - step)).5e-2, \"norm\": 0.$((step % 7 + 1)), \"lr\": 1e-3, \"tokens\": 9$1}"
    done
    say '{"step": 400, "val_loss": 1.125}'
    say '{"done": {"steps": 400, "seconds": 8.5, "val_before": 6.25, "val_loss": 1.125, "change_percent": {"wte": [1.5], "qkvw": [2, 3]}}}'
}
answers() {                                       # 30 rows: the first right in 1 to 15, the second in 13 to 24
    say '{"lines": ["base.bin", "tuned <i>.bin"], "shots": 0, "max_tokens": 8, "n": 30}'
    i=0
    while [ $i -lt 30 ]; do
        i=$((i + 1)) a=no b=no
        [ $i -le 15 ] && a=yes
        [ $i -ge 13 ] && [ $i -le 24 ] && b=' yes\n'
        say "{\"row\": $((i - 1)), \"instruction\": \"question $i <script>alert(1)</script> \\u202e & 'x' \\\"y\\\"\", \"input\": \"\", \"reference\": \"yes\", \"answer\": \"$a\", \"vs\": \"$b\", \"tokens\": [1, 2], \"cut\": [false, false]}"
    done
}
items() {
    say '{"task": "quiz", "version": "1.0", "shots": 0, "n": 4, "bos": "auto", "prompts": "aa", "model": "bb", "vs": "cc", "base": ""}'
    for line in "0 0 1 1" "0 1 0 1" "0 2 1 1" "0 3 1 0" "1 0 1 1" "1 1 1 1" "1 2 0 1" "1 3 0 0"; do
        set -- $line
        say "{\"task\": \"quiz\", \"model\": $1, \"item\": $2, \"group\": \"g$(($2 / 2))\", \"ll\": [-1, -2], \"pred\": $3, \"gold\": $4}"
    done
    say '{"flip": "quiz", "item": 2, "right": "first"}'
}
errors() {
    say '{"line": 0, "name": "base.bin", "rows": 40, "exact_match": 0.5, "exact_match_error": 0.08, "normalised": 0.5, "normalised_error": 0.08, "f1": 0.6, "f1_error": 0.07, "rouge_l": 0.6, "rouge_l_error": null, "errors": {"empty": 3, "wrong <u>format": 17}}'
}
results() {
    say '{"model": 0, "task": "quiz", "name": "quiz", "version": "1.0", "shots": 0, "n": 4, "metric": "acc", "value": 0.5, "stderr": 0.25}'
    say '{"model": 1, "rows": 4, "targets": 99, "loss": 1.5, "bits_per_byte": 0.75}'
    say '{"task": "quiz", "prompts": "aa", "model": "bb"}'
    say '{"compared": "quiz", "name": "quiz", "metric": "acc", "n": 4, "difference": 0.25, "low": -0.5, "high": 0.75, "only_first": 1, "only_second": 2, "p": null}'
    say '{"conclusion": "4 items are too few."}'
}
run "" > run.jsonl
run ', "layer_norms": [0.5, 0.25]' > layers.jsonl
answers > answers.jsonl
items > items.jsonl
errors > errors.json
results > results.jsonl

# ---- the page --------------------------------------------------------------------------------------------------

training() { page run.jsonl && shows "6.250 &rarr; 1.125" "1,234,567" ">Loss<" ">Learning rate<" ">Gradient norm<" \
    "training: 4.995 at 1, lowest 1.005 at 400, highest 4.995 at 1, last 1.005 at 400." \
    "held-out rows: 6.25 at 0, lowest 1.125 at 400" "rows with prompt and answer of another <b class=\"look\">look" \
    ">Length of the rows<" "<tr><th>words, mean</th><td class=\"n\">4</td><td class=\"n\">1</td>" "<tr><th>qkvw</th><td class=\"n\">2</td><td class=\"n\">3</td>" "base sha256 &lt;b&gt;00" &&
    lacks "Gradient norms by layer" "pairs among" 'id="answers"'; }
check "a training log: curves, their description in words, data, change, lineage" training
surveyed() {                                      # beside train's line `data`, or alone
    echo '{"survey": "rows.jsonl", "data": {"rows": 7, "longest_words": 31, "unit": "words", "bar": 4, "bars": [0, 5], "labels": [["yes <b>", 5]], "prompt": {"words": 4}, "answer": {"words": 1}, "verdict": "varied <i>"}}' > survey.jsonl
    page survey.jsonl && shows 'href="#data"' ">rows in the file</th><td class=\"n\">7<" ">words of the longest row<" \
        "<th>yes &lt;b&gt;</th><td class=\"n\">5<" "Verdict: varied &lt;i&gt;" && lacks 'id="training"' || return 1
    sed '/"data"/s/.*/{"data": {"rows": 9, "twice": 2}}/' run.jsonl > short.jsonl
    page survey.jsonl short.jsonl && shows ">rows in the file</th><td class=\"n\">9<" "rows with prompt and answer" \
        ">Length of the rows<" "yes &lt;b&gt;" || return 1
    refuses "second survey" survey.jsonl survey.jsonl
}
check "a survey beside a training log, and alone" surveyed
layers() { page layers.jsonl && shows "Gradient norms by layer" ">layer 1<" ">layer 2<" \
    "layer 2: 0.25 at 1, lowest 0.25 at 1, highest 0.25 at 1, last 0.25 at 400." && lacks ">layer 3<"; }
check "norms by layer where the log has them" layers
# scipy 1.17.1: binomtest(15, 30).proportion_ci(method="wilson") 0.33154, 0.66846; of 12 0.24591, 0.57680;
# binomtest(9, 21).pvalue 0.66362; 1.96 * sem([1] * 9 + [-1] * 12 + [0] * 9) 0.30233
rows() { page answers.jsonl && shows "0.500 <small class=\"soft\">0.332&ndash;0.668" \
    "0.400 <small class=\"soft\">0.246&ndash;0.577" ">no difference shown</td><td class=\"n\">-0.100</td>" \
    "-0.402 to +0.202" "<td class=\"n\">12</td><td class=\"n\">9</td><td class=\"n\">0.66</td>" \
    "Lost: only the first is right, 12 of 30 rows" "Won: only the last is right, 9 of 30 rows" \
    "Wrong in both, 6 of 30 rows" "Right in both, 3 of 30 rows"; }
check "answers: shares, intervals, the paired test, rows side by side" rows
escaped() { page answers.jsonl && shows "&lt;script&gt;alert(1)&lt;/script&gt; ? &amp; &#39;x&#39; &quot;y&quot;" \
    "tuned &lt;i&gt;.bin" && lacks "<script" "<i>" "$(printf '\342\200\256')"; }
check "no text of a log becomes markup or turns the line around" escaped
bench() { page items.jsonl && shows "0.500 <small" "<th class=\"part\">g1</th>" "<td>only A</td><td>2 </td>" \
    "<td>only B</td><td>1 3 </td>" "<td>too few</td>"; }
check "benchmarks: accuracy of tasks and groups, flips, no claim from few items" bench
others() { page errors.json results.jsonl && shows "<td>17" "wrong &lt;u&gt;format" "0.500 &plusmn;0.157" \
    "<td class=\"n\">0.5000</td><td class=\"n\">&plusmn;0.4900" "bits per byte" "-0.5000 to +0.7500" \
    "4 items are too few."; }
check "errors and results as they were printed" others
all="run.jsonl answers.jsonl items.jsonl errors.json results.jsonl"
same() { page $all && cp page.html first.html && page $all && cmp first.html page.html &&
    [ "$(wc -c < page.html)" -lt 300000 ]; }
check "the same logs make the same bytes, fewer than 300,000" same
policy() {                                        # no script, style attribute, address, event; the style sheet's hash
    page $all && lacks "<script" " style=" "http://" "https://" "url(" "javascript:" "@import" "<link" "<img" || return 1
    ! grep -qE '<[a-z]+ [^>]*\bon[a-z]+=' page.html || return 1
    command -v sha256sum > /dev/null && command -v base64 > /dev/null || return 0
    sed -n '/<style>/,/<\/style>/p' page.html | awk '{ sub(/.*<style>/, ""); if (sub(/<\/style>.*/, "")) { printf "%s", $0; exit } print }' > style
    want=$(sha256sum < style | cut -c 1-64)
    have=$(sed -n "s/.*style-src 'sha256-\([^']*\)'.*/\1/p" page.html | base64 -d | od -An -tx1 | tr -d ' \n')
    [ "$want" = "$have" ] || { echo "policy $have, style sheet $want"; return 1; }
    shows "default-src 'none'"
}
check "nothing but its own style sheet, which the content policy names by its hash" policy
long() {                                          # 2,000 rows of 2,000 characters each that take six bytes
    head -n 1 answers.jsonl | sed 's/30/2000/' > long.jsonl
    awk 'BEGIN { while (length(s) < 2000) s = s "\\\""; for (i = 0; i < 2000; i++)
        printf "{\"row\": %d, \"instruction\": \"%s\", \"input\": \"%s\", \"reference\": \"%s\", \"answer\": \"%s\", \"vs\": \"%s\"}\n", i, s, s, s, s, i % 2 ? s : "" }' >> long.jsonl
    page long.jsonl && [ "$(wc -c < page.html)" -lt 300000 ] && shows "more, in the log"
}
check "as many answers as fit the page, and no more" long

# ---- wrong logs ------------------------------------------------------------------------------------------------

broken() {                                        # FILE LINE TEXT PATTERN: the line becomes this text
    sed "$2s/.*/$3/" "$1" > bad.jsonl
    refuses "bad.jsonl:$2:?$4" bad.jsonl
}
step='{"step": 7, "loss": 1, "norm": 1, "lr": 1}'
check "half a line" broken run.jsonl 9 '{"step": 7, "lo' ':?[0-9]*: found'
check "a line of another log" broken run.jsonl 9 '{"row": 7}' ' is no such line'
check "a number in words" broken run.jsonl 9 '{"step": 6, "loss": "low", "norm": 1, "lr": 1}' ' loss, want a number'
check "a number beyond all measure" broken run.jsonl 9 '{"step": 6, "loss": 1e300, "norm": 1, "lr": 1}' ' loss, want a number within'
check "a loss that is no number" broken run.jsonl 9 '{"step": 6, "loss": nan, "norm": 1, "lr": 1}' '[0-9]*: found'
check "steps that go back" broken run.jsonl 11 "$step" ' .*ascending order'
check "layers that come and go" broken layers.jsonl 11 '{"step": 8, "loss": 1, "norm": 1, "lr": 1, "layer_norms": [1]}' ' .*as many layers'
check "layers that are lists" broken layers.jsonl 11 '{"step": 8, "loss": 1, "norm": 1, "lr": 1, "layer_norms": [[1], 2]}' ' .*layer_norms'
check "a row without an answer" broken answers.jsonl 9 '{"row": 7, "instruction": "", "input": "", "reference": ""}' ' answer, want a text'
check "a question out of order" broken items.jsonl 3 '{"task": "quiz", "model": 0, "item": 3, "group": "g", "ll": [], "pred": 0, "gold": 0}' ' .*in order'
check "a question of no task" broken items.jsonl 3 '{"task": "?", "model": 0, "item": 1, "group": "g", "ll": [], "pred": 0, "gold": 0}' ' .*begins with'
check "an error counted more often than there are rows" broken errors.json 1 "$(errors | sed 's/17/41/')" ' wrong <u>format = 41'
echo '{"what": 1}' > other.jsonl
: > empty.jsonl
printf '[1, 2]\n' > list.json
check "no log at all" refuses "none of the logs" other.jsonl
check "an empty file" refuses "none of the logs" empty.jsonl
check "labels that are no pairs" broken survey.jsonl 1 '{"survey": "", "data": {"bars": [1], "bar": 1, "labels": ["yes"]}}' ' .*labels of a text'
check "a list" refuses "list.json:1: .*want an object" list.json
check "two training logs" refuses "second training log" run.jsonl layers.jsonl
check "a file that is not there" refuses "nowhere.jsonl: cannot open" nowhere.jsonl
check "no file" refuses "want logs of a run"
cuts() {                                          # each log cut short anywhere: a page or one message, never a crash
    for log in run.jsonl survey.jsonl answers.jsonl items.jsonl errors.json results.jsonl; do
        size=$(wc -c < $log) at=0
        while [ $at -lt "$size" ]; do
            head -c $at $log > cut.jsonl
            "$bin/report" cut.jsonl > got 2> stderr
            status=$?
            [ $status -le 1 ] || { echo "$log cut at $at: exit status $status"; return 1; }
            [ $status -eq 0 ] || { [ ! -s got ] && [ -s stderr ]; } || { echo "$log cut at $at"; return 1; }
            at=$((at + size / 40 + 1))
        done
    done
}
check "logs that are cut short" cuts
finish

#!/bin/sh
# trace.sh BUILD -- the golden steps of dev/traces are this program's, and a port that differs is told where.
#
#   tests/trace.sh build/native       BUILD holds trace
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "${1:?usage: tests/trace.sh BUILD}" && pwd) || exit 1
. "$here/lib.sh"
cd "$tmp" || exit 1
golden=$here/../dev/traces

# says STATUS PATTERN COMMAND...: this exit status, and output that matches
says() {
    status=$1 pattern=$2
    shift 2
    "$@" > got 2>&1
    [ $? -eq "$status" ] && grep -E -e "$pattern" got || { cat got; echo "want: $pattern"; return 1; }
}
written() { "$bin/trace" write "$1" > "$1.trace" && cmp "$1.trace" "$golden/$1.trace"; }
compares() {                                      # compares STATUS PATTERN: gpt2's golden step with the file port
    says "$1" "$2" "$bin/trace" compare "$golden/gpt2.trace" port
}
# The row behind a tensor's head, its first number's last digit changed: one unit in the last place.
one_ulp() {
    awk -v head="$1" 'hit { d = substr($1, 8, 1); sub(/^......../, substr($1, 1, 7) (d == "0" ? "1" : "0")); hit = 0 }
        { print } index($0, head " ") == 1 { hit = 1 }' "$golden/gpt2.trace" > port
}
differs() { one_ulp "$1" && compares 1 "^first difference: $2, row 1, column 1$"; }

for name in gpt2 llama lora; do check "$name: the step is the one in dev/traces" written $name; done
check "an activation of the second layer differs" differs "forward fc1 2" "forward fc1, layer 2"
check "a weight that goes in differs" differs "input wte 0" "input wte"
check "a gradient differs" differs "gradient qkvw 1" "gradient qkvw, layer 1"
check "the loss differs" differs "forward loss 0" "forward loss"

sed '/^forward logits/,$d' "$golden/gpt2.trace" > port
check "a port that is not finished: what it has agrees" compares 0 "agree bit for bit, [1-9][0-9]* are not in port"
echo "trace 1" > port
check "a port with nothing does not agree" compares 1 "^0 tensors"
sed 's/^forward mid 1 8 8$/forward mid 1 8 9/' "$golden/gpt2.trace" > port
check "a tensor of another shape is named" compares 1 "port:[0-9]+: forward mid, layer 1, is 8 x 9, want 8 x 8"
sed '/^forward mid 1 /q' "$golden/gpt2.trace" > port
check "a file that ends within a tensor" compares 1 "port:[0-9]+: forward mid, layer 1: want 8 rows of 8"
awk 'hit { $2 = "0x12345g"; hit = 0 } { print } /^forward mid 1 / { hit = 1 }' "$golden/gpt2.trace" > port
check "what is no number is named" compares 1 "port:[0-9]+: number 2: want 8 hexadecimal digits"
echo "forward mid 1 8 8" > port
check "another kind of file" compares 1 "port:1: want .trace 1"
printf 'trace 1\nforward mid 1 8\n' > port
check "a head with a number missing" compares 1 "port:2: want a section, a name, layer, rows and columns"
check "a file that is not there" says 1 "nowhere" "$bin/trace" compare nowhere nowhere
check "a name that is none" says 1 "usage" "$bin/trace" write gpt3
finish

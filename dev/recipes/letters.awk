# Notes of three words and the polite sentences they stand for: rows for dev/recipes/tone.md.
#   awk -f dev/recipes/letters.awk > train.jsonl                   three of four combinations
#   awk -f dev/recipes/letters.awk -v held=1 > test.jsonl          the fourth
BEGIN {
    things = split("parcel;the parcel|invoice;the invoice|lamp;the lamp|kettle;the kettle|armchair;the armchair|" \
                   "toaster;the toaster|bookcase;the bookcase|gift card;the gift card|" \
                   "garden hose;the garden hose|night light;the night light|desk;the desk", thing, "|")
    faults = split("late;has not arrived yet|broken;arrived broken|wrong colour;came in the wrong colour|" \
                   "too small;turned out to be too small|twice;was charged to us twice|" \
                   "parts missing;came with some parts missing|no label;came without a return label", fault, "|")
    wishes = split("refund;Would you kindly refund the amount we paid?|swap;Might we exchange it for another one?|" \
                   "call me;I would be grateful for a call at your convenience.|" \
                   "collect;Could you please arrange for it to be collected?|" \
                   "explain;Would you be so kind as to explain how this came about?|" \
                   "discount;May we ask for a modest discount in return?", wish, "|")
    for (i = 1; i <= things; i++) for (j = 1; j <= faults; j++) for (k = 1; k <= wishes; k++) {
        row = (i * 7 + j * 3 + k * 5) % 4
        if ((row == 0) != (held == 1)) continue
        split(thing[i], t, ";"); split(fault[j], f, ";"); split(wish[k], w, ";")
        printf "{\"prompt\": \"%s, %s, %s\", \"completion\": \"Good morning, I am sorry to trouble you, but %s %s. %s\"}\n",
               t[1], f[1], w[1], t[2], f[2], w[2]
    }
}

# Made-up table bookings, and what a form would have of them: rows for dev/recipes/extract.md.
#   awk -f dev/recipes/bookings.awk -v rows=2000 > train.jsonl           guests from one half of the names
#   awk -f dev/recipes/bookings.awk -v rows=200 -v seed=9 > test.jsonl
#   awk -f dev/recipes/bookings.awk -v rows=200 -v seed=9 -v strangers=1 > strangers.jsonl     from the other half
function below(n) {                    # Park and Miller's generator: every awk draws the same
    state = (state * 16807) % 2147483647
    return int(state / 2147483647 * n)
}
function one_of(list,    word, n) { n = split(list, word, "|"); return word[1 + below(n)] }
BEGIN {
    state = seed ? seed * 7919 : 1
    for (i = 0; i < 10; i++) below(2)
    known = "Harper|Lindqvist|Okafor|Brandt|Moreau|Castellano|Petrov|Nakamura|Dunne|Whitfield|Abbas|Kowalski|Ferreira|" \
            "Svensson|Gallagher|Mbeki|Tanaka|Rossi|Keller|Novak|Byrne|Osei|Larsen|Haddad|Silva|Jansen|Cohen|Murphy"
    other = "Winterbourne|Adeyemi|Schuster|Fontaine|Marchetti|Volkov|Ishikawa|Quill|Rahman|Zielinski|Carvalho|Holm|Teague|Baptiste"
    months = "January|February|March|April|May|June|July|August|September|October|November|December"
    split("A table for PEOPLE on DAY at TIME please, name is NAME.|NAME here, could we come on DAY, TIME, PEOPLE of us?|" \
          "Hello, we are PEOPLE and would like dinner at TIME on DAY. Thanks, NAME|" \
          "Booking for DAY: PEOPLE persons, TIME, under NAME. A window seat if you can.|" \
          "Do you still have room on DAY? PEOPLE adults, around TIME. Regards, NAME|" \
          "hi its NAME, table PEOPLE ppl DAY TIME ok?|" \
          "My father turns seventy, so PEOPLE of us want to eat with you on DAY at TIME. Please write NAME on the card.|" \
          "Please reserve for NAME: TIME, DAY. There will be PEOPLE of us, one in a wheelchair.", form, "|")
    for (i = 0; i < rows; i++) {
        name = one_of(strangers ? other : known)
        day = (1 + below(28)) " " one_of(months)
        time = (17 + below(5)) ":" one_of("00|15|30|45")
        people = 2 + below(9)
        text = form[1 + below(8)]
        sub("PEOPLE", people, text); sub("DAY", day, text); sub("TIME", time, text); sub("NAME", name, text)
        printf "{\"prompt\": \"%s\", \"completion\": \"name: %s; people: %d; day: %s; time: %s\"}\n",
               text, name, people, day, time
    }
}

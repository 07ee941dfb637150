// test_errors.c -- ./errors from inside: scores against the published programs' numbers, each kind of error with
// a case on either side of its limit, patterns, groups. It includes dev/errors.c and dev/score.c; answers.sh
// tests the program.
#define main errors_main
int main(int argc, char **argv);
#include "../dev/errors.c"
#include "../dev/score.c"
#undef main
#include <check.h>
#include "run.h"

static Err err;

// ---- scores -----------------------------------------------------------------------------------------------

// Answer, reference; equal after normalisation and token F1 by the rules of SQuAD 2.0's evaluation script;
// rougeL's fmeasure by rouge-score 0.1.2 without stemming.
static const struct { const char *answer, *want; double normalised, f1, rouge; } GOLD[] = {
    {"The cat sat on the mat.", "the cat  sat on mat", 1, 1, 0.9090909091},
    {"billing, urgent", "billing, normal", 0, 0.5, 0.5},
    {"", "", 1, 1, 0},
    {"", "a", 1, 1, 0},
    {"the", "an a", 1, 1, 0},
    {"police killed the gunman", "the gunman killed police", 0, 1, 0.5},
    {"the cat was found under the bed", "the cat was under the bed", 0, 0.8888888889, 0.9230769231},
    {"It's 3.14, isn't it?", "its 314 isnt it", 1, 1, 0.1818181818},
    {"a a b b c", "b a a c c c", 0, 0.5714285714, 0.5454545455},
    {"\xE2\x80\x9CThe Hobbit\xE2\x80\x9D, by Tolkien", "Hobbit by TOLKIEN", 0, 0.5714285714, 0.8571428571},
    {"\xC3\x9C" "ber den Wolken \xE2\x80\x94 Stra\xC3\x9F" "e", "\xC3\xBC" "ber Den wolken strasse", 0,
     0.6666666667, 0.6666666667},
    {"\xD0\x94\xD0\x9E\xD0\x9C, \xD0\xB4\xD0\xBE\xD0\xBC",
     "\xD0\xB4\xD0\xBE\xD0\xBC \xD0\xB4\xD0\xBE\xD0\xBC", 1, 1, 0},
    {"\xE2\x80\x9C" "a house\xE2\x80\x9D", "\xE2\x80\x9C house\xE2\x80\x9D", 1, 1, 0.6666666667},
    {"x_y_z and a-the-b", "xyz and atheb", 1, 1, 0.2},
    {"one two three four five", "five four three two one", 0, 1, 0.2},
    {"\xC2\xA0 caf\xC3\xA9\xE3\x80\x80" "au lait\n", "CAF\xC3\x89 au\tlait", 1, 1, 1},
    {"\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E text", "\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E", 0, 0.6666666667, 0},
    {"yes", "no", 0, 0, 0},
    {"Yes.", "yes", 1, 1, 1},
};

START_TEST(scores_are_the_published_programs) {
    for (size_t i = 0; i < sizeof GOLD / sizeof *GOLD; i++) {
        char text[128];
        Answer a = {.text = strcpy(text, GOLD[i].answer)};
        ck_assert_int_eq(answer_score(&a, GOLD[i].want, &err), 0);
        ck_assert_msg(a.score[EXACT] == !strcmp(GOLD[i].answer, GOLD[i].want) &&
                      a.score[NORMALISED] == GOLD[i].normalised && fabs(a.score[F1] - GOLD[i].f1) < 1e-9 &&
                      fabs(a.score[ROUGE_L] - GOLD[i].rouge) < 1e-9, "'%s', '%s': %g %g %.10g %.10g",
                      GOLD[i].answer, GOLD[i].want, a.score[EXACT], a.score[NORMALISED], a.score[F1],
                      a.score[ROUGE_L]);
    }
} END_TEST

static void must_split(Split how, const char *text, const char *const *word, size_t n) {
    Words w = {0};
    ck_assert_int_eq(words_add(&w, how, text, strlen(text), &err), 0);
    ck_assert_msg(w.n == n, "'%s': %zu words, want %zu", text, w.n, n);
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(w.word[i] == hash64(word[i], strlen(word[i]), 0), "not %s", word[i]);
    free(w.word);
}

START_TEST(words_of_each_split) {
    static const char text[] = "The dog's 2nd caf\xC3\xA9 \xE2\x80\x94 it\xE2\x80\x99s_over, at \xFF" "9!";
    must_split(SQUAD, text, (const char *[]){"dogs", "2nd", "caf\xC3\xA9", "\xE2\x80\x94",
                                             "it\xE2\x80\x99sover", "at", "\xEF\xBF\xBD" "9"}, 7);
    must_split(ROUGE, text, (const char *[]){"the", "dog", "s", "2nd", "caf", "it", "s", "over", "at", "9"},
               10);
    must_split(PLAIN, text, (const char *[]){"the", "dogs", "2nd", "caf\xC3\xA9", "its", "over", "at", "9"},
               8);
    must_split(LETTERS, text, (const char *[]){"the", "dogs", "caf\xC3\xA9", "its", "over", "at"}, 6);
    must_split(SQUAD, "", NULL, 0);
    must_split(PLAIN, " ?!\n", NULL, 0);
} END_TEST

// ---- kinds of errors --------------------------------------------------------------------------------------

START_TEST(patterns_match_whole_texts) {
    static const struct { const char *pattern, *text; bool fits; } CASE[] = {
        {"@, @", "billing, urgent", true}, {"@, @", "billing, urgent!", false}, {"@, @", "a b", false},
        {"#", "2026", true}, {"#", "2026a", false}, {"#", "", false}, {"#.#", "3.14", true},
        {"#.#", "3.", false},
        {"{*}", "{\"a\": 1}", true}, {"{*}", "{", false}, {"*", "", true}, {"*a*b", "xxaxxbxb", true},
        {"*a*b", "xxaxxbxbc", false}, {"?", "\xC3\xA9", true}, {"?", "ab", false}, {"\\#@", "#tag", true},
        {"\\#@", "1tag", false}, {"\\*", "*", true}, {"\\*", "x", false}, {"", "", true}, {"", "x", false},
        {"@", "\xC3\xA9t\xC3\xA9", true}, {"**", "any", true}, {"a\\", "a\\", true}};
    for (size_t i = 0; i < sizeof CASE / sizeof *CASE; i++)
        ck_assert_msg(matches(CASE[i].pattern, CASE[i].text) == CASE[i].fits, "%s on %s", CASE[i].pattern,
                      CASE[i].text);
    ck_assert(is_json("{\"a\": [1, 2]}") && is_json("3") && !is_json("{\"a\": }") && !is_json("yes"));
} END_TEST

START_TEST(repetition_is_found) {
    static const struct { const char *text; bool repeats; } CASE[] = {
        {"the man and the man and the man and", true},           // a loop, thrice
        {"well, no no no no no no", true}, {"no no no", false},    // too short to be one
        {"1000000000000000000", true}, {"100000", false},
        {"one two three four five six seven eight nine ten", false},
        {"red green blue is what red green blue is not", false},   // 2 of 7 runs again
        {"red green blue is what red green blue is good", false},
        {"red green blue is red green blue is", true},             // 2 of 6 runs again
        {"abcdefghijklm nop abcdefghijklm nop", false},            // twice is no loop
        {"abcabcabcabcabcabc", true}, {"", false}};
    for (size_t i = 0; i < sizeof CASE / sizeof *CASE; i++) {
        bool so;
        ck_assert_int_eq(repeats(&so, CASE[i].text, &err), 0);
        ck_assert_msg(so == CASE[i].repeats, "%s", CASE[i].text);
    }
} END_TEST

static void learn(Words *w, Split how, const char *text) {
    ck_assert_int_eq(words_add(w, how, text, strlen(text), &err), 0);
    words_sort(w);
}

// The kinds of an answer to "Is the moon green?" as a text of letters, in the order of the table
static const char *kinds_of(const char *answer, const char *want, const Judge *j, bool cut) {
    static char said[KINDS + 1], text[256];
    Turn turn[2] = {{ROLE_USER, "Is the moon green?", "zorp 7"}, {ROLE_ASSISTANT, want, ""}};
    Row row = {.turn = turn, .turns = 2, .output = want};
    Answer a = {.text = strcpy(text, answer), .cut = cut};
    size_t n = 0;
    ck_assert_int_eq(answer_judge(&a, j, &row, want, &err), 0);
    for (int k = 0; k < KINDS; k++) if (a.kinds >> k & 1) said[n++] = "ecrslfwmu"[k];
    said[n] = 0;
    return said;
}

START_TEST(each_kind_has_its_answers) {
    Judge alone = {0}, labels = {.labels = 2}, taught = {0};
    Judge json = {.format = "json"}, list = {.format = "labels"};
    ck_assert(!key_of(&labels.label[0], "billing, normal", &err) && !key_of(&labels.label[1], "yes", &err));
    list.labels = 2, memcpy(list.label, labels.label, sizeof list.label);
    learn(&taught.spelt, LETTERS, "yes no it is green cheese indeed quite");
    learn(&taught.taught, PLAIN, "yes no it is");
    static const struct { const char *answer, *want; int judge; bool cut; const char *kinds; } CASE[] = {
        {"yes", "yes", 1, true, ""},                             // what is right has no error
        {"", "yes", 1, true, "e"},                               // an empty one no other
        {"", "", 0, false, ""},
        {"no it is", "yes indeed", 0, true, "cw"},
        {"yes it is so", "yes it is", 0, false, ""},             // F1 above one half
        {"it was so", "it is not", 0, false, "w"},               // below
        {"abcd", "abcdefghi", 0, false, "sw"}, {"abcde", "abcdefghij", 0, false, "w"},
        {"abcdefghi", "abcd", 0, false, "lw"}, {"abcdefgh", "abcd", 0, false, "w"},
        {"go go go go go go", "one two three go", 0, false, "rw"},
        {"go go go go go go", "no no no no no no", 0, false, "w"},         // as the reference does
        {"Billing, normal.", "billing, normal", 1, false, ""},             // but for case and full stop
        {"yes", "yess", 1, false, "w"}, {"perhaps", "yessir", 1, false, "f"},
        {"perhaps", "yessir", 4, false, "f"},
        {"{\"a\": 1}", "{\"a\": 2}", 3, false, "w"}, {"a: 1", "{\"a\"}", 3, false, "f"},
        {"it is green", "it is grey", 2, false, ""},                       // green is in the question
        {"it is cheese", "it is grey", 2, false, "u"},                     // spelt right, never an answer
        {"it is cheeze", "it is grey", 2, false, "mu"},
        {"it is 7", "it is g", 2, false, ""}, {"it is 8", "it is g", 2, false, "u"},   // no word to spell
        {"it is zorp", "it is good", 2, false, ""}, {"It's Cheese", "it is a c", 2, false, "wmu"},
    };
    const Judge *judge[] = {&alone, &labels, &taught, &json, &list};
    for (size_t i = 0; i < sizeof CASE / sizeof *CASE; i++) {
        const char *kinds = kinds_of(CASE[i].answer, CASE[i].want, judge[CASE[i].judge], CASE[i].cut);
        ck_assert_msg(!strcmp(kinds, CASE[i].kinds), "'%s': %s, want %s", CASE[i].answer, kinds,
                      CASE[i].kinds);
    }
    judge_free(&taught);
} END_TEST

// ---- groups ------------- -----------------------------------------------------------------------------------

START_TEST(rows_are_grouped_by_size_then_name) {
    char *name[] = {"b", "c", "a", "b", "a", "d", "b"};
    static const size_t want[] = {0, 2, 1, 0, 1, 3, 0};
    Group g[7];
    size_t of[7];
    Test t = {.n = 7, .group = g, .of = of};
    group(&t, name);
    ck_assert_uint_eq(t.groups, 4);
    ck_assert(!strcmp(g[0].name, "b") && g[0].n == 3 && !strcmp(g[1].name, "a") && g[1].n == 2);
    ck_assert(!strcmp(g[2].name, "c") && !strcmp(g[3].name, "d"));
    for (size_t i = 0; i < 7; i++) ck_assert_uint_eq(of[i], want[i]);
} END_TEST

int main(void) {
    Suite *s = suite_create("errors");
    TCase *t = tcase_create("errors");
    tcase_add_test(t, scores_are_the_published_programs);
    tcase_add_test(t, words_of_each_split);
    tcase_add_test(t, patterns_match_whole_texts);
    tcase_add_test(t, repetition_is_found);
    tcase_add_test(t, each_kind_has_its_answers);
    tcase_add_test(t, rows_are_grouped_by_size_then_name);
    suite_add_tcase(s, t);
    return run_suite(s);
}

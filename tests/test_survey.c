// test_survey.c -- the figures of ./survey, on rows made by hand. It includes dev/survey.c for the sake of its words.
// The program itself is tested by check.sh.
#define _XOPEN_SOURCE 700
#define main survey_main
int main(int argc, char **argv);
#include "../dev/survey.c"
#undef main
#include "rooms.h"

Suite *survey_suite(void);

// A survey of rows, lengths in words or in tokens through the template plain
static Survey survey_of(const char *text, bool tokens) {
    const Checkpoint k = {.tok = tok, .cfg.context = 1000};
    Survey s = {.width = 0};
    write_text(path, text);
    ck_assert_msg(load(&s, path, &err) == 0, "%s", err.msg);
    for (size_t i = 0; i < s.rows.n; i++) s.length[i] = words_of(&s.rows.row[i]);
    if (tokens) ck_assert_msg(lengths_in_tokens(&s, &k, template_named("plain"), &err) == 0, "%s", err.msg);
    look(&s);
    return s;
}

// n rows by format, which has places for a prompt's and an answer's number; answers repeat after `labels`
static char *rows_of(size_t n, const char *format, size_t labels) {
    char *text = malloc(n * 300 + 1), *p = text;
    ck_assert_ptr_nonnull(text);
    *p = 0;
    for (size_t i = 0; i < n; i++) p += sprintf(p, format, i, i % labels);
    return text;
}

static void must_judge(const Survey *s, const char *wanted) {
    ck_assert_msg(strstr(s->verdict, wanted) != NULL, "want \"%s\" in \"%s\"", wanted, s->verdict);
}

START_TEST(words_are_told_apart) {
    static const char *const want[] = {"hello", "world", "12", "+", "5", "don", "t", "na\xC3\xAFve", "\xE4\xBD\xA0",
                                       "\xE5\xA5\xBD", "a-b"};
    const char *at = " Hello, WORLD!\t(12 + 5)\xE2\x80\x94" "don\xE2\x80\x99t na\xC3\xAFve\xE4\xBD\xA0\xE5\xA5\xBD "
                     "a-b.. ";
    char word[WORD_BYTES], many[3 * WORD_BYTES + 1];
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        size_t n = word_next(&at, word);
        ck_assert_msg(n == strlen(want[i]) && !memcmp(word, want[i], n), "word %zu: %.*s", i, (int)n, word);
    }
    ck_assert_uint_eq(word_next(&at, word), 0);
    memset(many, 'x', sizeof many - 1);
    many[sizeof many - 1] = 0;
    at = many;
    for (int i = 0; i < 3; i++) ck_assert_uint_eq(word_next(&at, word), WORD_BYTES);
    ck_assert_uint_eq(word_next(&at, word), 0);
} END_TEST

static bool about(double x, double y) { return x - y < 1e-9 && y - x < 1e-9; }

START_TEST(variety_is_measured) {
    Survey s = survey_of("{\"prompt\": \"x y z\", \"completion\": \"1\"}\n"
                         "{\"prompt\": \"w y z z\", \"completion\": \"1\"}\n"
                         "{\"prompt\": \"w, Y z Z! w\", \"completion\": \"1 2\"}\n", false);
    const Variety *v = s.variety;
    ck_assert(about(v->words, 4) && about(v->spread, sqrt(2.0 / 3) / 4));
    ck_assert(about(v->pairs, 7.0 / 12));                  // .x xy yz .w wy zz zw
    ck_assert(about(v[1].words, 4.0 / 3) && about(v[1].pairs, 2.0 / 4));
    survey_free(&s);
    s = survey_of("{\"prompt\": \"Which color? red\", \"completion\": \"1\"}\n"
                  "{\"prompt\": \"Which color? blue\", \"completion\": \"1\"}\n", false);
    ck_assert(about(s.variety->words, 1) && about(s.variety->pairs, 1));    // what all begin with is no sign
    survey_free(&s);
} END_TEST

// The share of different words would fall as rows are added; per 1,000 words it stays
START_TEST(variety_does_not_depend_on_size) {
    for (size_t n = 1000; n <= 4000; n += 3000) {
        char *text = rows_of(n, "{\"prompt\": \"%zu b c d e f g h i j\", \"completion\": \"%zu\"}\n", 7);
        Survey s = survey_of(text, false);
        ck_assert(about(s.variety->pairs, 0.208));         // .n and nb of 100 numbers, bc to ij
        survey_free(&s);
        free(text);
    }
} END_TEST

START_TEST(few_answers_are_labels) {
    char shown[SHOWN_BYTES], quoted[LABELS_BYTES];
    char *text = rows_of(60, "{\"prompt\": \"%zu\", \"completion\": \"\\u001blabel \\\"%zu\\\"\"}\n", 7);
    Survey s = survey_of(text, false);
    ck_assert(s.few && s.answers == 7);
    for (size_t i = 0; i < 7; i++) {                       // 60 = 4 * 9 + 3 * 8
        ck_assert_uint_eq(s.label[i].n, i < 4 ? 9 : 8);
        ck_assert_uint_eq(s.label[i].row, i);
    }
    label_text(shown, &s, s.label);
    ck_assert_str_eq(shown, "?label \"0\"");               // no control reaches a terminal
    ck_assert_int_eq(quote_labels(quoted, &s, &err), 0);
    ck_assert_ptr_nonnull(strstr(quoted, "[\"?label \\\"0\\\"\", 9], [\"?label \\\"1"));
    survey_free(&s);
    free(text);
    text = rows_of(60, "{\"prompt\": \"%zu\", \"completion\": \"%zu\"}\n", 13);
    s = survey_of(text, false);
    ck_assert(!s.few && s.answers == 13);
    survey_free(&s);
    free(text);
} END_TEST

// Rows of a few forms are told from rows without any: numbers stand for words
START_TEST(the_verdict_follows_the_signs) {
    enum { N = 80 };
    static const struct { const char *form[2], *verdict; } of[] = {
        {{"{\"prompt\": \"%zu tell me of this one thing\", \"completion\": \"%zu\"}\n",
          "{\"prompt\": \"%zu tell me of this one thing\", \"completion\": \"%zu\"}\n"},
         "homogeneous, as if generated: the prompts repeat phrases and are of one length. Good"},
        {{"{\"prompt\": \"so what is %zu?\", \"completion\": \"%zu\"}\n",
          "{\"prompt\": \"write a line of five words about %zu\", \"completion\": \"%zu\"}\n"},
         "the prompts repeat phrases. Good"}};
    char all[N * 200], *p;
    for (size_t k = 0; k < 2; k++) {
        p = all;
        for (size_t i = 0; i < N; i++) p += sprintf(p, of[k].form[i % 2], i, i % 7);
        Survey s = survey_of(all, false);
        must_judge(&s, of[k].verdict);
        ck_assert_ptr_null(strstr(s.verdict, "answers"));          // these are labels
        survey_free(&s);
    }
    p = all;
    for (size_t i = 0; i < N; i++) {
        p += sprintf(p, "{\"prompt\": \"");
        for (size_t k = 0; k < 3 + i % 9; k++) p += sprintf(p, "%zu ", (i + 1) * (k + 7) * 7919 % 1009);
        p += sprintf(p, "\", \"completion\": \"%zu\"}\n", i % 7);
    }
    Survey s = survey_of(all, false);
    must_judge(&s, "varied, as real rows are");
    survey_free(&s);
    s = survey_of("{\"prompt\": \"a\", \"completion\": \"b\"}\n", false);
    must_judge(&s, "1 rows are too few to judge");
    survey_free(&s);
} END_TEST

START_TEST(lengths_go_into_bars) {
    char *text = rows_of(12, "{\"prompt\": \"%zu\", \"completion\": \"%zu\"}\n", 12);
    Survey s = survey_of(text, true);
    size_t sum = 0;
    for (size_t i = 0; i < BARS; i++) sum += s.bar[i];
    ck_assert_uint_eq(sum, 12);
    ck_assert(s.longest / s.width < BARS && s.longest / s.width >= BARS / 3);
    ck_assert_uint_eq(s.bar[s.length[0] / s.width], 10);           // 0 to 9 are one token shorter, twice
    ck_assert_uint_eq(s.bar[s.length[10] / s.width], 2);
    ck_assert(s.tokens > s.targets && s.beyond == 0);
    survey_free(&s);
    s = survey_of(text, false);
    ck_assert(s.longest == 2 && s.bar[2] == 12);                   // two words each
    survey_free(&s);
    free(text);
} END_TEST

Suite *survey_suite(void) {
    Suite *s = suite_create("survey");
    TCase *t = tcase_create("survey");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_checked_fixture(t, make_tokenizer, NULL);
    tcase_add_test(t, words_are_told_apart);
    tcase_add_test(t, variety_is_measured);
    tcase_add_test(t, variety_does_not_depend_on_size);
    tcase_add_test(t, few_answers_are_labels);
    tcase_add_test(t, the_verdict_follows_the_signs);
    tcase_add_test(t, lengths_go_into_bars);
    suite_add_tcase(s, t);
    return s;
}

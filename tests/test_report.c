// test_report.c -- the data report, on rows made by hand. It includes train.c for the sake of its words. What the
// program does with the report is tested by check.sh.
#define _XOPEN_SOURCE 700
#define main report_main
#define setup train_setup
int main(int argc, char **argv);
#include "../train.c"
#undef main
#undef setup
#include "rooms.h"

Suite *report_suite(void);

// A file of rows and its examples; a survey of all of them, or against a second file
typedef struct { Rows rows; Examples x; } File;
static const Examples nothing = {0};

static void file_open_text(File *f, const char *name, const char *text) {
    const RowsHow how = {.answers = true, .skip_bad = true};
    write_text(name, text);
    ck_assert_msg(rows_load(&f->rows, name, &how, &err) == 0, "%s", err.msg);
    ck_assert_msg(examples_make(&f->x, &f->rows, template_named("plain"), &tok, 1000, TOO_LONG_ERROR,
                                TEACH_ANSWERS, &err) == 0, "%s", err.msg);
}

static void file_free(File *f) { rows_free(&f->rows), examples_free(&f->x); }

static Survey survey_of(const File *f, const File *held) {
    Survey s = {.all = &f->x, .train = &f->x, .held = held ? &held->x : &nothing, .rows = &f->rows,
                .other = held ? &held->rows : NULL};
    ck_assert_msg(survey(&s, &err) == 0, "%s", err.msg);
    return s;
}

// What is printed of a survey, in memory that is overwritten by the next
static const char *printed(const Survey *s) {
    static char text[8192];
    FILE *f = tmpfile();
    ck_assert_ptr_nonnull(f);
    survey_print(s, f, false);
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return text;
}

static void must_print(const Survey *s, const char *wanted) {
    ck_assert_msg(strstr(printed(s), wanted) != NULL, "want \"%s\" in\n%s", wanted, printed(s));
}

// n rows by format, which has places for a prompt's and an answer's number; answers repeat after `labels`
static char *rows_of(size_t n, const char *format, size_t labels) {
    char *text = malloc(n * 300 + 1), *p = text;
    ck_assert_ptr_nonnull(text);
    *p = 0;
    for (size_t i = 0; i < n; i++) p += sprintf(p, format, i, i % labels);
    return text;
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
    memset(many, 'x', sizeof many - 1), many[sizeof many - 1] = 0, at = many;
    for (int i = 0; i < 3; i++) ck_assert_uint_eq(word_next(&at, word), WORD_BYTES);
    ck_assert_uint_eq(word_next(&at, word), 0);
} END_TEST

START_TEST(rows_like_others_are_counted) {
    File f;
    file_open_text(&f, path,
                   "{\"prompt\": \"Hi there\", \"completion\": \"one\"}\n"
                   "{\"prompt\": \"Who?\", \"completion\": \"me\"}\n"
                   "{\"prompt\": \"Hi there\", \"completion\": \"one\"}\n"          // line 3: as line 1
                   "{\"prompt\": \"Hi there\", \"completion\": \"two\"}\n"          // another answer
                   "{\"prompt\": \"hi,  THERE!\", \"completion\": \"one\"}\n"       // nearly the prompt
                   "{\"prompt\": \"12 + 5\", \"completion\": \"17\"}\n"
                   "{\"prompt\": \"12 - 5\", \"completion\": \"7\"}\n"
                   "{\"prompt\": \"???\", \"completion\": \" \\t\"}\n"              // white space
                   "{\"prompt\": \"!!!\", \"completion\": \"!!!\"}\n"               // repeats its prompt
                   "{\"instruction\": \"Say\", \"input\": \"x\", \"output\": \"x\"}\n");
    Survey s = survey_of(&f, NULL);
    ck_assert_uint_eq(s.found[TWICE].n, 1);
    ck_assert(s.found[TWICE].row == 2 && s.found[TWICE].like == 0);
    ck_assert_uint_eq(s.found[REPLY].n, 1);
    ck_assert_uint_eq(s.found[BLANK].n, 1);
    ck_assert_uint_eq(s.answers, 8);
    ck_assert(!s.few && s.found[LEAKED].n == 0);
    must_print(&s, "10 rows: 10 to train on, 0 held out");
    must_print(&s, "warning: 1 with prompt and answer of another: lines 3 and 1\n");
    must_print(&s, "warning: 1 with the prompt of another, not its answer");
    must_print(&s, "warning: 1 with an answer of white space: line 8\n");
    must_print(&s, "10 rows are too few to judge");
    free(s.key), file_free(&f);
} END_TEST

// The turns before the last answer are the prompt: a talk that goes another way is another row
START_TEST(conversations_are_compared_by_all_their_turns) {
#define TALK(a, b) "{\"messages\": [{\"role\": \"user\", \"content\": \"" a "\"}, " \
                   "{\"role\": \"assistant\", \"content\": \"" b "\"}, " \
                   "{\"role\": \"user\", \"content\": \"and?\"}, {\"role\": \"assistant\", \"content\": \"so\"}]}\n"
    const RowsHow how = {.answers = true};
    File f;
    write_text(path, TALK("a", "b") TALK("a", "c") TALK("a", "b") TALK("A", "b"));
    ck_assert_int_eq(rows_load(&f.rows, path, &how, &err), 0);
    ck_assert_int_eq(examples_make(&f.x, &f.rows, "[user]\n{text}{eot}\n[assistant]\n{target}{text}{eot}", &tok, 99,
                                   TOO_LONG_ERROR, TEACH_ANSWERS, &err), 0);
    Survey s = survey_of(&f, NULL);
    ck_assert(s.found[TWICE].n == 1 && s.found[TWICE].row == 2 && s.found[TWICE].like == 0);
    ck_assert(s.found[REPLY].n == 0 && s.answers == 1);
    must_print(&s, "warning: all rows have the same answer");
    free(s.key), file_free(&f);
} END_TEST

START_TEST(what_is_measured_is_not_trained_on) {
    File f, held, apart;
    file_open_text(&f, path, "{\"prompt\": \"b\", \"completion\": \"1\"}\n"
                             "{\"prompt\": \"A cat\", \"completion\": \"2\"}\n");
    file_open_text(&held, other,
                   "{\"prompt\": \"z\", \"completion\": \"1\"}\n\n{\"prompt\": \"A cat\", \"completion\": \"3\"}\n"
                   "{\"prompt\": \"z\", \"completion\": \"1\"}\n{\"prompt\": \"b\", \"completion\": \"1\"}\n");
    Survey s = survey_of(&f, &held);
    ck_assert(s.found[LEAKED].n == 2 && s.found[LEAKED].row == 1 && s.found[LEAKED].like == 1);
    ck_assert_uint_eq(s.found[TWICE].n, 0);                       // of --data alone
    ck_assert_int_eq(survey_stop(&s, -1, false, &err), -1);
    must_say("other:3: has the prompt of ");
    free(s.key);
    s = survey_of(&f, NULL);
    s.found[LEAKED].n = 1;
    ck_assert_int_eq(survey_stop(&s, -1, false, &err), 0);     // a split keeps equal prompts together by itself
    free(s.key), file_free(&held);
    file_open_text(&apart, other, "{\"prompt\": \"d\", \"completion\": \"1\"}\n");
    s = survey_of(&f, &apart);
    ck_assert(s.found[LEAKED].n == 0 && survey_stop(&s, -1, false, &err) == 0);
    free(s.key), file_free(&apart), file_free(&f);
} END_TEST

static bool about(double x, double y) { return x - y < 1e-9 && y - x < 1e-9; }

START_TEST(variety_is_measured) {
    File f;
    file_open_text(&f, path, "{\"prompt\": \"x y z\", \"completion\": \"1\"}\n"
                             "{\"prompt\": \"w y z z\", \"completion\": \"1\"}\n"
                             "{\"prompt\": \"w, Y z Z! w\", \"completion\": \"1 2\"}\n");
    Survey s = survey_of(&f, NULL);
    const Variety *v = s.variety;
    ck_assert(about(v->words, 4) && about(v->spread, sqrt(2.0 / 3) / 4));
    ck_assert(about(v->pairs, 7.0 / 12));                  // .x xy yz .w wy zz zw
    ck_assert(about(v[1].words, 4.0 / 3) && about(v[1].pairs, 2.0 / 4));
    free(s.key), file_free(&f);
    file_open_text(&f, path, "{\"prompt\": \"Which color? red\", \"completion\": \"1\"}\n"
                             "{\"prompt\": \"Which color? blue\", \"completion\": \"1\"}\n");
    s = survey_of(&f, NULL);                               // what all prompts begin with is no sign of anything
    ck_assert(about(s.variety->words, 1) && about(s.variety->pairs, 1));
    free(s.key), file_free(&f);
} END_TEST

// The share of different words would fall as rows are added; per 1,000 words it stays
START_TEST(variety_does_not_depend_on_size) {
    double pairs[2];
    for (size_t k = 0; k < 2; k++) {
        File f;
        char *text = rows_of(k ? 4000 : 1000, "{\"prompt\": \"%zu b c d e f g h i j\", \"completion\": \"%zu\"}\n", 7);
        file_open_text(&f, path, text);
        Survey s = survey_of(&f, NULL);
        pairs[k] = s.variety->pairs;
        free(s.key), file_free(&f), free(text);
    }
    ck_assert(about(pairs[0], 0.208) && about(pairs[1], 0.208));  // .n and nb of 100 numbers, bc to ij
} END_TEST

START_TEST(few_answers_are_labels) {
    File f;
    char *text = rows_of(60, "{\"prompt\": \"%zu\", \"completion\": \"label %zu\"}\n", 7);
    file_open_text(&f, path, text);
    Survey s = survey_of(&f, NULL);
    ck_assert(s.few && s.answers == 7);
    for (size_t i = 0; i < 7; i++) {                       // 60 = 4 * 9 + 3 * 8
        ck_assert_uint_eq(s.label[i].n, i < 4 ? 9 : 8);
        ck_assert_uint_eq(s.label[i].row, i);
    }
    must_print(&s, "7 different answers; always 'label 0' would be right in 15.0 %");
    free(s.key), file_free(&f), free(text);
    text = rows_of(60, "{\"prompt\": \"%zu\", \"completion\": \"%zu\"}\n", 13);
    file_open_text(&f, path, text);
    s = survey_of(&f, NULL);
    ck_assert(!s.few && s.answers == 13);
    free(s.key), file_free(&f), free(text);
} END_TEST

// Rows of a few forms are told from rows without any: numbers stand for words
START_TEST(the_verdict_follows_the_signs) {
    enum { N = 80 };
    static const struct { const char *forms[4], *verdict; } of[] = {
        {{"{\"prompt\": \"%zu tell me of this one thing\", \"completion\": \"%zu\"}\n", NULL, NULL, NULL},
         "prompts: repeat phrases, are of one length"},
        {{"{\"prompt\": \"so what is %zu?\", \"completion\": \"%zu\"}\n",
          "{\"prompt\": \"write a line of five words about %zu\", \"completion\": \"%zu\"}\n", NULL, NULL},
         "prompts: repeat phrases\n"}};
    File f;
    for (size_t k = 0; k < 2; k++) {
        char all[N * 100] = "", *p = all;
        for (size_t i = 0; i < N; i++) p += sprintf(p, of[k].forms[of[k].forms[1] ? i % 2 : 0], i, i % 7);
        file_open_text(&f, path, all);
        Survey s = survey_of(&f, NULL);
        must_print(&s, "verdict: homogeneous, as if generated\n");
        must_print(&s, of[k].verdict);
        ck_assert_ptr_null(strstr(printed(&s), "answers: "));      // these are labels
        free(s.key), file_free(&f);
    }
    char all[N * 200] = "", *p = all;
    for (size_t i = 0; i < N; i++) {
        p += sprintf(p, "{\"prompt\": \"");
        for (size_t k = 0; k < 3 + i % 9; k++) p += sprintf(p, "%zu ", (i + 1) * (k + 7) * 7919 % 1009);
        p += sprintf(p, "\", \"completion\": \"%zu\"}\n", i % 7);
    }
    file_open_text(&f, path, all);
    Survey s = survey_of(&f, NULL);
    must_print(&s, "verdict: varied, as real rows are");
    free(s.key), file_free(&f);
} END_TEST

START_TEST(lengths_go_into_bars) {
    File f;
    char *text = rows_of(12, "{\"prompt\": \"%zu\", \"completion\": \"%zu\"}\n", 12);
    file_open_text(&f, path, text);
    Survey s = survey_of(&f, NULL);
    size_t sum = 0;
    for (size_t i = 0; i < BARS; i++) sum += s.bar[i];
    ck_assert_uint_eq(sum, 12);
    ck_assert(f.x.longest / s.width < BARS && f.x.longest / s.width >= BARS / 3);
    ck_assert_uint_eq(s.bar[f.x.ex[0].len / s.width], 10);         // 0 to 9 are one token shorter, twice
    ck_assert_uint_eq(s.bar[f.x.ex[10].len / s.width], 2);
    free(s.key), file_free(&f), free(text);
} END_TEST

START_TEST(what_was_left_out_is_named) {
    File f;
    file_open_text(&f, path, "{\"prompt\": \"a\", \"completion\": \"b\", \"note\": \"x\"}\n{\"prompt\": 3}\n");
    Survey s = survey_of(&f, NULL);
    must_print(&s, "warning: wrong rows of ");
    must_print(&s, "file:2: prompt is not a string\n");
    must_print(&s, "not read: note (1 row) of ");
    free(s.key), file_free(&f);
} END_TEST

START_TEST(text_has_windows) {
    Examples x;
    Rows none = {0};
    const char *paths[] = {path};
    Survey s = {.all = &x, .train = &x, .held = &nothing, .rows = &none};
    write_text(path, "abcabcabcabcabcabcabcabcabc");
    ck_assert_int_eq(examples_text(&x, paths, 1, &tok, 4, 3, &err), 0);
    ck_assert_int_eq(survey(&s, &err), 0);
    ck_assert_uint_eq(x.n, 9);
    ck_assert_uint_eq(s.found[TWICE].n, 7);                       // all but the last, which has the end of text
    must_print(&s, "warning: 7 with prompt and answer of another: windows 2 and 1\n");
    ck_assert_ptr_null(strstr(printed(&s), "verdict"));
    free(s.key), examples_free(&x);
} END_TEST

START_TEST(the_log_has_the_report) {
    File f;
    Log *log;
    Json j;
    size_t n;
    file_open_text(&f, path, "{\"prompt\": \"a b\", \"completion\": \"b\"}\n"
                             "{\"prompt\": \"a b\", \"completion\": \"b\"}\n");
    Survey s = survey_of(&f, NULL);
    ck_assert_int_eq(log_open(&log, other, false, &err), 0);
    survey_log(&s, log);
    ck_assert_int_eq(log_close(log, &err), 0);
    uint8_t *data = slurp(other, &n);
    ck_assert_msg(json_parse(&j, other, 1, data, n, &err) == 0, "%s", err.msg);
    uint32_t d = json_get(&j, 0, "data");
    ck_assert(d && j.node[json_get(&j, d, "rows")].number == 2 && j.node[json_get(&j, d, "twice")].number == 1);
    ck_assert(j.node[json_get(&j, d, "bars")].count == BARS && j.node[json_get(&j, d, "majority")].number == 1);
    ck_assert(json_get(&j, json_get(&j, d, "prompt"), "pairs"));
    json_free(&j), free(data), free(s.key), file_free(&f);
} END_TEST

START_TEST(only_harmless_characters_are_shown) {
    static const char text[] = "a\n\t\x1b[\x7f\xff\xc2\x9b\xe2\x80\xae\xe2\x81\xa6\xe4\xbd\xa0\xc3\xa9\0z";
    char got[200];
    FILE *f = tmpfile();
    ck_assert_ptr_nonnull(f);
    int columns = show_text(f, text, sizeof text - 1, 100);
    fputc('|', f);
    ck_assert_int_eq(show_text(f, "abcde", 5, 6), 5);
    ck_assert_int_eq(show_text(f, "abcdefg", 7, 6), 6);
    rewind(f);
    got[fread(got, 1, sizeof got - 1, f)] = 0;
    fclose(f);
    ck_assert_str_eq(got, "a\\n\\t\\x1B[\\x7F\\xFF\\xC2\\x9B\\xE2\\x80\\xAE\\xE2\\x81\\xA6\xe4\xbd\xa0\xc3\xa9\\x00z"
                          "|abcdeabcd..");
    ck_assert_int_eq(columns, 1 + 2 + 2 + 4 + 1 + 11 * 4 - 4 + 2 + 1 + 4 + 1);
} END_TEST

START_TEST(peers_16_begin_of_text_comes_once) {
    File f;
    file_open_text(&f, path, "{\"prompt\": \"hello\", \"completion\": \"all\"}\n");
    tok.bos = BOS;
    for (int twice = 0; twice < 2; twice++) {
        examples_free(&f.x);
        ck_assert_int_eq(examples_make(&f.x, &f.rows, twice ? "{<s>}{instruction}{target}{output}{eot}"
                                       : "{instruction}{target}{output}{eot}", &tok, 99, TOO_LONG_ERROR,
                                       TEACH_ANSWERS, &err), 0);
        Survey s = survey_of(&f, NULL);
        ck_assert(f.x.ex->tok[0] == BOS && (f.x.ex->tok[1] == BOS) == twice);
        ck_assert_int_eq(survey_stop(&s, tok.bos, false, &err), twice ? -1 : 0);
        free(s.key);
    }
    must_say("file:1: the row begins with begin-of-text twice");
    file_free(&f);
} END_TEST

// Whatever a template says, the last token of each row is special, and taught: so a model learns to stop
START_TEST(peers_15_the_end_of_turn_is_taught_or_the_template_refused) {
    static const char *const refused[] = {
        "{instruction}{eot}{target}{output}", "{eot}{instruction}{target}{output}\n", "{instruction}{target}{output}",
        "{instruction}{target}{eot}{output}", "{instruction}{target}{output}{?input}{eot}{/}",
        "{instruction}{output}{eot}{target}", "{instruction}{output}{target}{eot}", "{instruction}{target}{eot}",
        "[user]\n{text}{eot}\n[assistant]\n{target}{text}", "[user]\n{text}\n[assistant]\n{eot}{target}{text}\n",
        "[user]\n{text}\n[assistant]\n{target}{eot}{text}\n", "[user]\n{text}\n[assistant]\n{text}{eot}{target}",
        "[user]\n{text}{target}{eot}\n[assistant]\n{text}{eot}",
        "[user]\n{text}\n[assistant]\n{target}{text}{eot}{text}"};
    static const char *const taken[] = {
        "{instruction}{?input}{input}{/}{target}{output}{eot}", "{eot}{instruction}{target} {output} {eot}{<|im_end|>}",
        "[user]\n{text}{eot}\n[assistant]\n{target}{text}{<|im_end|>} then {eot}", "[user]\n{text}\n[assistant]\n"
        "{target}{text}{eot}"};
    Template t;
    Fault fault;
    File f;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        ck_assert_msg(template_parse(&t, refused[i], &tok, &fault) == -1, "taken: %s", refused[i]);
    file_open_text(&f, path, "{\"prompt\": \"hello\", \"completion\": \"all\"}\n");
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        for (Teach teach = TEACH_ANSWERS; teach <= TEACH_ALL; teach++) {
            examples_free(&f.x);
            ck_assert_msg(examples_make(&f.x, &f.rows, taken[i], &tok, 99, TOO_LONG_ERROR, teach, &err) == 0, "%s: %s",
                          taken[i], err.msg);
            const Example *ex = f.x.ex;
            ck_assert_msg(tok.flag[ex->tok[ex->len - 1]] == TOKEN_SPECIAL && ex->taught[ex->len - 1], "%s", taken[i]);
        }
    file_free(&f);
} END_TEST

Suite *report_suite(void) {
    Suite *s = suite_create("report");
    TCase *t = tcase_create("report");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_checked_fixture(t, make_tokenizer, NULL);
    tcase_add_test(t, words_are_told_apart);
    tcase_add_test(t, rows_like_others_are_counted);
    tcase_add_test(t, conversations_are_compared_by_all_their_turns);
    tcase_add_test(t, what_is_measured_is_not_trained_on);
    tcase_add_test(t, variety_is_measured);
    tcase_add_test(t, variety_does_not_depend_on_size);
    tcase_add_test(t, few_answers_are_labels);
    tcase_add_test(t, the_verdict_follows_the_signs);
    tcase_add_test(t, lengths_go_into_bars);
    tcase_add_test(t, what_was_left_out_is_named);
    tcase_add_test(t, text_has_windows);
    tcase_add_test(t, the_log_has_the_report);
    tcase_add_test(t, only_harmless_characters_are_shown);
    tcase_add_test(t, peers_16_begin_of_text_comes_once);
    tcase_add_test(t, peers_15_the_end_of_turn_is_taught_or_the_template_refused);
    suite_add_tcase(s, t);
    return s;
}

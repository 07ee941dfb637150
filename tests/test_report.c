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

// A file of rows and its examples
typedef struct { Rows rows; Examples x; } File;
static void file_open_text(File *f, const char *name, const char *text) {
    const RowsHow how = {.answers = true, .skip_bad = true};
    write_text(name, text);
    ck_assert_msg(rows_load(&f->rows, name, &how, &err) == 0, "%s", err.msg);
    ck_assert_msg(examples_make(&f->x, &f->rows, template_named("plain"), &tok, 1000, TOO_LONG_ERROR,
                                TEACH_ANSWERS, &err) == 0, "%s", err.msg);
}

static void file_free(File *f) { rows_free(&f->rows), examples_free(&f->x); }

// A run on all of them, which has looked at them, or against a second file. The next one takes its place.
static Run *run_of(const File *f, const File *held) {
    static Run r;
    r = (Run){.rows = f->rows, .all = f->x, .train = f->x, .longest = f->x.longest, .base.tok.bos = tok.bos};
    opt.data = path;
    opt.val = held ? other : NULL;
    if (held) r.val_rows = held->rows;
    if (held) r.val = held->x;
    ck_assert_msg(look(&r, &err) == 0, "%s", err.msg);
    return &r;
}

// What is printed of it, in memory that is overwritten by the next
static const char *printed(const Run *r) {
    static char text[8192];
    FILE *f = tmpfile();
    ck_assert_ptr_nonnull(f);
    print_report(r, f);
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return text;
}

static void must_print(const Run *r, const char *wanted) {
    ck_assert_msg(strstr(printed(r), wanted) != NULL, "want \"%s\" in\n%s", wanted, printed(r));
}

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
    Run *r = run_of(&f, NULL);
    ck_assert_uint_eq(r->found[TWICE].n, 1);
    ck_assert(r->found[TWICE].row == 2 && r->found[TWICE].like == 1);
    ck_assert_uint_eq(r->found[REPLY].n, 1);
    ck_assert_uint_eq(r->found[BLANK].n, 1);
    ck_assert(!r->one_answer && r->found[LEAKED].n == 0);
    must_print(r, "10 rows: 10 to train on, 0 held out");
    must_print(r, "warning: 1 with prompt and answer of another: lines 3 and 1\n");
    must_print(r, "warning: 1 with the prompt of another, not its answer");
    must_print(r, "warning: 1 with an answer of white space: line 8\n");
    ck_assert_ptr_null(strstr(printed(r), "same answer"));
    file_free(&f);
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
    Run *r = run_of(&f, NULL);
    ck_assert(r->found[TWICE].n == 1 && r->found[TWICE].row == 2 && r->found[TWICE].like == 1);
    ck_assert(r->found[REPLY].n == 0 && r->one_answer);
    must_print(r, "warning: all rows have the same answer");
    file_free(&f);
} END_TEST

START_TEST(what_is_measured_is_not_trained_on) {
    File f, held, apart;
    file_open_text(&f, path, "{\"prompt\": \"b\", \"completion\": \"1\"}\n"
                             "{\"prompt\": \"A cat\", \"completion\": \"2\"}\n");
    file_open_text(&held, other,
                   "{\"prompt\": \"z\", \"completion\": \"1\"}\n\n{\"prompt\": \"A cat\", \"completion\": \"3\"}\n"
                   "{\"prompt\": \"z\", \"completion\": \"1\"}\n{\"prompt\": \"b\", \"completion\": \"1\"}\n");
    Run *r = run_of(&f, &held);
    ck_assert(r->found[LEAKED].n == 2 && r->found[LEAKED].row == 1 && r->found[LEAKED].like == 2);
    ck_assert_uint_eq(r->found[TWICE].n, 0);                       // of --data alone
    ck_assert_int_eq(report_stop(r, &err), -1);
    must_say("other:3: has the prompt of ");
    r = run_of(&f, NULL);
    r->found[LEAKED].n = 1;
    ck_assert_int_eq(report_stop(r, &err), 0);     // a split keeps equal prompts together by itself
    file_free(&held);
    file_open_text(&apart, other, "{\"prompt\": \"d\", \"completion\": \"1\"}\n");
    r = run_of(&f, &apart);
    ck_assert(r->found[LEAKED].n == 0 && report_stop(r, &err) == 0);
    file_free(&apart);
    file_free(&f);
} END_TEST

START_TEST(what_was_left_out_is_named) {
    File f;
    file_open_text(&f, path, "{\"prompt\": \"a\", \"completion\": \"b\", \"note\": \"x\"}\n{\"prompt\": 3}\n");
    Run *r = run_of(&f, NULL);
    must_print(r, "warning: wrong rows of ");
    must_print(r, "file:2: prompt is not a string\n");
    must_print(r, "not read: note (1 row) of ");
    file_free(&f);
} END_TEST

START_TEST(text_has_windows) {
    File f = {.rows = {0}};
    const char *paths[] = {path};
    write_text(path, "abcabcabcabcabcabcabcabcabc");
    ck_assert_int_eq(examples_text(&f.x, paths, 1, &tok, 4, 3, &err), 0);
    Run *r = run_of(&f, NULL);
    ck_assert_uint_eq(f.x.n, 9);
    ck_assert_uint_eq(r->found[TWICE].n, 7);                      // all but the last, which has the end of text
    must_print(r, "warning: 7 with prompt and answer of another: windows 2 and 1\n");
    ck_assert_ptr_null(strstr(printed(r), "same answer"));       // text has none
    examples_free(&f.x);
} END_TEST

START_TEST(the_log_has_the_report) {
    File f;
    Json j;
    size_t n;
    file_open_text(&f, path, "{\"prompt\": \"a b\", \"completion\": \"b\"}\n"
                             "{\"prompt\": \"a b\", \"completion\": \"b\"}\n");
    Run *r = run_of(&f, NULL);
    ck_assert_int_eq(log_open(&r->log, other, false, &err), 0);
    log_report(r);
    ck_assert_int_eq(log_close(r->log, &err), 0);
    uint8_t *data = slurp(other, &n);
    ck_assert_msg(json_parse(&j, other, 1, data, n, &err) == 0, "%s", err.msg);
    uint32_t d = json_get(&j, 0, "data");
    ck_assert(d && j.node[json_get(&j, d, "rows")].number == 2 && j.node[json_get(&j, d, "twice")].number == 1);
    ck_assert(j.node[json_get(&j, d, "train")].number == 2 && j.node[json_get(&j, d, "blank")].number == 0);
    json_free(&j);
    free(data);
    file_free(&f);
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
        Run *r = run_of(&f, NULL);
        ck_assert(f.x.ex->tok[0] == BOS && (f.x.ex->tok[1] == BOS) == twice);
        ck_assert_int_eq(report_stop(r, &err), twice ? -1 : 0);
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
    tcase_add_test(t, rows_like_others_are_counted);
    tcase_add_test(t, conversations_are_compared_by_all_their_turns);
    tcase_add_test(t, what_is_measured_is_not_trained_on);
    tcase_add_test(t, what_was_left_out_is_named);
    tcase_add_test(t, text_has_windows);
    tcase_add_test(t, the_log_has_the_report);
    tcase_add_test(t, peers_16_begin_of_text_comes_once);
    tcase_add_test(t, peers_15_the_end_of_turn_is_taught_or_the_template_refused);
    suite_add_tcase(s, t);
    return s;
}

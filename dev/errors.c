// errors.c -- main: what is wrong with a model's answers, and how nearly are they right? Reads logs of
// ./eval answers --log; no model is run, and nothing but texts is compared.
//
// Read in this order: score.h, what an answer is worth -> log_load, from a log to rows and lines ->
// test_group, what rows are counted together -> line_judge -> the tables -> main.
// A line is a model, or a model with examples in its prompt; a log has up to three, shown as A, B, C.
// Not here on purpose: McNemar's test and bootstrap intervals of exact match, which ./eval answers prints.
#include "../model.h"
#include "score.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOGS = 2, LINES_EACH = 3, LINES = LOGS * LINES_EACH, FILE_MAX = 1 << 30 };

// ---- options ----------------------------------------------------------------------------------------------

static struct { const char *train, *words, *format; bool json, help, version; } opt;

static Option OPTION[] = {
    TEXT("--train", &opt.train, "FILE", "the rows trained on, which say what words are known and taught"),
    TEXT("--words", &opt.words, "FILE", "known words, instead of those of --train"),
    TEXT("--format", &opt.format, "PATTERN",
         "what all answers must look like: labels, json, or text with * any, ? a character, # digits, "
         "@ letters; otherwise labels, if there are few"),
    FLAG("--json", &opt.json, "the results as lines of JSON"),
    FLAG("--help", &opt.help, "print this"),
    FLAG("--version", &opt.version, "print the version"),
};
enum { OPTIONS = sizeof OPTION / sizeof OPTION[0] };

static void help(void) {
    printf("errors -- what is wrong with answers? (tune.c %s)\n\n"
           "  ./errors answers.jsonl            log of ./eval answers --log\n"
           "  ./errors before.jsonl after.jsonl two logs of the same rows\n\n", TUNE_VERSION);
    options_print(OPTION, OPTIONS);
}

// ---- what a log holds -------------------------------------------------------------------------------------

typedef struct { const char *name; size_t row, n; } Group;       // of n rows; the first one
typedef struct { double mean, error; } Mean;                      // error: its standard error; NaN of one row
typedef struct {
    const char *name;
    Answer *answer;                   // (rows)
    size_t count[KINDS];
    Mean score[SCORES];
} Line;
typedef struct {
    Json log[LOGS];
    Line line[LINES];
    int logs, lines;
    size_t n;                         // rows
    Turn *asked;                      // (n) texts of the logs
    char **want, **first;             // (n) references, trimmed; first words of what is asked
    Judge judge;
    Group *group;                     // (n) by reference if few, else by first word
    size_t groups, *of;               // of: (n) which group
} Test;

static char *trimmed(const char *text, size_t n) {
    const uint8_t *s = (const uint8_t *)text;
    while (n && strchr(" \t\r\n", *s)) { s++; n--; }
    while (n && strchr(" \t\r\n", s[n - 1])) n--;
    char *copy = malloc(n + 1);
    if (copy) {
        memcpy(copy, s, n);
        copy[n] = 0;
    }
    return copy;
}

static const JsonNode *member(const Json *j, uint32_t object, const char *key, JsonKind kind) {
    uint32_t at = json_get(j, object, key);
    return at && j->node[at].kind == kind ? &j->node[at] : NULL;
}

// Row i of a log into its lines, which begin at t->line[from]. The first log says what was asked.
static int row_take(Test *t, const Json *j, const char *path, uint32_t at, size_t i, int from, Err *e) {
    static const char *const KEY[LINES_EACH][LINES_EACH] = {
        {"answer"}, {"answer", "vs"}, {"answer", "shots", "vs"}};
    const JsonNode *ask = member(j, at, "instruction", JSON_STRING);
    const JsonNode *in = member(j, at, "input", JSON_STRING);
    const JsonNode *want = member(j, at, "reference", JSON_STRING);
    const JsonNode *tokens = member(j, at, "tokens", JSON_ARRAY), *cut = member(j, at, "cut", JSON_ARRAY);
    uint32_t line = j->node[at].line;
    int lines = t->lines - from;
    uint32_t values = (uint32_t)lines;
    if (!ask || !in || !want || !tokens || !cut || tokens->count != values || cut->count != values)
        return err_set(e, "%s:%" PRIu32 ": is no row of the log, want instruction, input, reference, and %d "
                       "tokens and cut", path, line, lines);
    if (from == 0) {
        t->asked[i] = (Turn){ROLE_USER, ask->text, in->text};
        if (!(t->want[i] = trimmed(want->text, strlen(want->text)))) return err_memory(e, want->len);
    } else if (strcmp(t->asked[i].text, ask->text) || strcmp(t->asked[i].input, in->text))
        return err_set(e, "%s:%" PRIu32 ": asks something else than the other log\nhint: want logs of the "
                       "same rows", path, line);
    for (int k = 0; k < lines; k++) {
        const JsonNode *text = member(j, at, KEY[lines - 1][k], JSON_STRING);
        double count = tokens[1 + k].number;
        if (!text) return err_set(e, "%s:%" PRIu32 ": has no %s", path, line, KEY[lines - 1][k]);
        Answer *a = &t->line[from + k].answer[i];
        a->tokens = tokens[1 + k].kind == JSON_NUMBER && count >= 0 && count < 1e9 ? (size_t)count : 0;
        a->cut = cut[1 + k].kind == JSON_TRUE;
        if (!(a->text = trimmed(text->text, strlen(text->text)))) return err_memory(e, text->len);
    }
    return 0;
}

// The rows of a log, of which the first says what its lines are called.
static int log_rows(Test *t, const Json *j, const char *path, uint32_t first, Err *e) {
    const JsonNode *lines = first < j->nodes ? member(j, first, "lines", JSON_ARRAY) : NULL;
    size_t n = 0, i = 0;
    int from = t->lines;
    if (!lines || lines->count < 1 || lines->count > LINES_EACH)
        return err_set(e, "%s: does not begin with the names of up to %d lines\nhint: want a log of ./eval "
                       "answers --log", path, LINES_EACH);
    for (uint32_t at = j->node[first].next; at < j->nodes; at = j->node[at].next) n++;
    if (n == 0 || (from && n != t->n))
        return err_set(e, "%s: has %zu rows, want %s", path, n, from ? "those of the other log" : "some");
    t->n = n;
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): test_free frees what is in t
    for (uint32_t k = 0; k < lines->count; k++, t->lines++) {
        Line *l = &t->line[t->lines];
        l->name = lines[1 + k].kind == JSON_STRING ? lines[1 + k].text : "";
        if (!(l->answer = calloc(n, sizeof *l->answer))) return err_memory(e, n * sizeof *l->answer);
    }
    if (!from) {
        t->asked = calloc(n, sizeof *t->asked), t->group = calloc(n, sizeof *t->group);
        t->want = calloc(n, sizeof *t->want), t->first = calloc(n, sizeof *t->first);
        t->of = calloc(n, sizeof *t->of);
        if (!t->asked || !t->group || !t->want || !t->first || !t->of)
            return err_memory(e, n * sizeof *t->asked);
    }
    for (uint32_t at = j->node[first].next; at < j->nodes; at = j->node[at].next)
        if (row_take(t, j, path, at, i++, from, e)) return -1;
    return 0;
}

static int log_load(Test *t, const char *path, Err *e) {
    uint8_t *data;
    size_t n;
    uint32_t first;
    Json *j = &t->log[t->logs];
    if (file_read(path, FILE_MAX, &data, &n, e)) return -1;
    int rc = rows_parse(j, &first, path, data, n, NULL, e);
    free(data);
    if (rc) return -1;
    t->logs++;
    return log_rows(t, j, path, first, e);
}

// ---- groups -----------------------------------------------------------------------------------------------

static int by_name(const void *a, const void *b) {
    return strcmp(((const Group *)a)->name, ((const Group *)b)->name);
}
static int by_size(const void *a, const void *b) {
    const Group *x = a, *y = b;
    int order = (x->n < y->n) - (x->n > y->n);
    return order ? order : by_name(a, b);
}

// Rows of the same name, the largest group first; of equally large ones the first in the order of their bytes
static void group(Test *t, char *const *name) {
    Group *g = t->group;
    for (size_t i = 0; i < t->n; i++) g[i] = (Group){name[i], i, 0};
    // NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): main wants a log, and it has rows
    qsort(g, t->n, sizeof *g, by_name);
    for (size_t i = 0, k = 0; i < t->n; i = k) {
        while (k < t->n && !strcmp(g[k].name, g[i].name)) k++;
        for (size_t j = i; j < k; j++) g[j].n = k - i;
    }
    qsort(g, t->n, sizeof *g, by_size);
    t->groups = 0;
    for (size_t i = 0; i < t->n; i++) {
        bool again = t->groups && !strcmp(g[t->groups - 1].name, g[i].name);
        t->of[g[i].row] = t->groups - again;
        if (!again) g[t->groups++] = g[i];
    }
}

static int test_group(Test *t, const char *path, Err *e) {
    for (size_t i = 0; i < t->n; i++) {
        const char *word = *t->asked[i].text ? t->asked[i].text : t->asked[i].input;
        word += strspn(word, " \t\r\n");
        t->first[i] = trimmed(word, strcspn(word, " \t\r\n"));
        if (!t->first[i]) return err_memory(e, strlen(word));    // analyzer: test_free frees what is in t
    }
    group(t, t->want);
    t->judge = (Judge){.format = opt.format, .labels = t->groups};
    if (t->groups > LABELS_MAX || t->groups > t->n / 2) {
        if (opt.format && !strcmp(opt.format, "labels"))
            return err_set(e, "--format labels: %s has %zu different references in %zu rows, want at most "
                           "%d, each twice on average", path, t->groups, t->n, LABELS_MAX);
        t->judge.labels = 0;
        group(t, t->first);
    }
    for (size_t i = 0; i < t->judge.labels; i++)
        if (key_of(&t->judge.label[i], t->group[i].name, e)) return -1;
    return judge_learn(&t->judge, opt.words, opt.train, e);
}

// ---- judging ----------------------------------------------------------------------------------------------

// Of a score of line a, less that of line b unless that is NULL
static Mean mean_of(const Line *a, const Line *b, int score, size_t n) {
    double mean = 0, square = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < n; i++) {
            double x = a->answer[i].score[score] - (b ? b->answer[i].score[score] : 0);
            if (pass == 0) mean += x / (double)n;
            else square += (x - mean) * (x - mean);
        }
    return (Mean){mean, n > 1 ? sqrt(square / (double)(n - 1) / (double)n) : (double)NAN};
}

static int line_judge(Line *l, const Test *t, Err *e) {
    for (size_t i = 0; i < t->n; i++) {
        Turn turn[2] = {t->asked[i], {ROLE_ASSISTANT, t->want[i], ""}};
        Row row = {.turn = turn, .turns = 2, .output = t->want[i]};
        if (answer_judge(&l->answer[i], &t->judge, &row, t->want[i], e)) return -1;
        for (int k = 0; k < KINDS; k++) l->count[k] += l->answer[i].kinds >> k & 1;
    }
    for (int s = 0; s < SCORES; s++) l->score[s] = mean_of(l, NULL, s, t->n);
    return 0;
}

// ---- tables -----------------------------------------------------------------------------------------------

// Text from outside on a line of its own: cut to so many characters, nothing that would move the cursor
static void put_text(const char *text, size_t columns, bool pad) {
    const uint8_t *s = (const uint8_t *)text;
    for (size_t n = strlen(text), k; n && columns; columns--, s += k, n -= k) {
        size_t length = utf8_length(s, n);
        bool control = *s < ' ' || *s == 0x7F || (*s == 0xC2 && length == 2 && s[1] < 0xA0);
        k = length ? length : 1;
        if (length && !control) printf("%.*s", (int)k, (const char *)s);
        else putchar(strchr("\t\r\n", *s) ? ' ' : '?');
    }
    if (pad) printf("%*s", (int)columns, "");
}

static void scores_print(const Test *t) {
    printf("%-20s %13s %13s %13s %13s\n", "line", "exact match", "normalised", "F1", "ROUGE-L");
    for (int i = 0; i < t->lines; i++) {
        printf("%c ", 'A' + i);
        put_text(t->line[i].name, 18, true);
        for (int s = 0; s < SCORES; s++) {
            Mean m = t->line[i].score[s];
            if (isnan(m.error)) printf(" %13.3f", m.mean);
            else printf(" %5.3f (%5.3f)", m.mean, m.error);
        }
        printf("\n");
    }
    printf("%zu rows; standard error in brackets\n", t->n);
}

// Of each pair of lines the mean difference and what 95 % of such means would be within
static void differences_print(const Test *t) {
    if (t->lines == 1) return;
    printf("\n%-20s %13s %13s %13s %13s\n", "differences", "exact match", "normalised", "F1", "ROUGE-L");
    for (int i = 0; i < t->lines; i++)
        for (int k = i + 1; k < t->lines; k++) {
            printf("%c - %c%15s", 'A' + k, 'A' + i, "");
            for (int s = 0; s < SCORES; s++) {
                Mean m = mean_of(&t->line[k], &t->line[i], s, t->n);
                if (isnan(m.error)) printf(" %+13.3f", m.mean);
                else printf(" %+6.3f +-%5.3f", m.mean, 1.96 * m.error);
            }
            printf("\n");
        }
    printf("mean over the rows +- 1.96 standard errors; ./eval answers has the exact test\n");
}

static void kinds_print(const Test *t) {
    printf("\n%-14s", "errors");
    for (int i = 0; i < t->lines; i++) printf("%6c", 'A' + i);
    printf("\n");
    for (int k = 0; k < KINDS; k++) {
        printf("%-14s", KIND[k].name);
        for (int i = 0; i < t->lines; i++)
            if (judge_finds(&t->judge, k)) printf("%6zu", t->line[i].count[k]);
            else printf("%6c", '-');
        printf("  %s", KIND[k].means);
        if (KIND[k].limit > 0) printf(" %g", KIND[k].limit);
        printf("\n");
    }
}

// Of each group how often each line is right, and the last one's most frequent error
static void groups_print(const Test *t) {
    const Line *l = t->line;
    int lines = t->lines;
    size_t shown = t->groups < LABELS_MAX ? t->groups : LABELS_MAX;
    printf("\n%-29s %6s", t->judge.labels ? "label" : "first word of the prompt", "rows");
    for (int i = 0; i < lines; i++) printf("%7c", 'A' + i);
    printf("  errors of %c\n", 'A' + lines - 1);
    for (size_t g = 0; g < shown; g++) {
        size_t count[KINDS] = {0}, right[LINES] = {0}, most = 0;
        for (size_t row = 0; row < t->n; row++) {
            if (t->of[row] != g) continue;
            for (int i = 0; i < lines; i++) right[i] += l[i].answer[row].score[EXACT] > 0;
            for (int k = 0; k < KINDS; k++) count[k] += l[lines - 1].answer[row].kinds >> k & 1;
        }
        for (size_t k = 1; k < KINDS; k++) if (count[k] > count[most]) most = k;
        put_text(t->group[g].name, 29, true);
        printf(" %6zu", t->group[g].n);
        for (int i = 0; i < lines; i++) printf("%7.3f", (double)right[i] / (double)t->group[g].n);
        if (count[most]) printf("  %s %zu", KIND[most].name, count[most]);
        printf("\n");
    }
    if (shown < t->groups) printf("and %zu more\n", t->groups - shown);
}

// Percent of a label's rows, so that 20 labels fit 80 columns: next to a 100 stand only dots.
static void confusion_print(const Line *l, int line, const Test *t) {
    printf("\nwhat %c said, in %% of each label's rows; ?: none of the labels\n%16s", 'A' + line, "");
    for (size_t g = 0; g < t->groups; g++) printf("%3c", (char)('a' + g));
    printf("  ?\n");
    for (size_t g = 0; g < t->groups; g++) {
        size_t said[LABELS_MAX + 1] = {0};
        for (size_t row = 0; row < t->n; row++)
            said[judge_label(&t->judge, &l->answer[row])] += t->of[row] == g;
        printf("%c ", (char)('a' + g));
        put_text(t->group[g].name, 14, true);
        for (size_t k = 0; k <= t->groups; k++)
            if (said[k]) printf("%3.0f", 100 * (double)said[k] / (double)t->group[g].n);
            else printf("  .");
        printf("\n");
    }
}

static void worst_print(const Line *l, int line, const Test *t) {
    enum { WORST = 3 };
    size_t pick[WORST] = {0}, picked = 0;
    while (picked < WORST) {
        size_t worst = t->n;
        for (size_t i = 0; i < t->n; i++) {
            bool taken = !l->answer[i].kinds;
            for (size_t k = 0; k < picked; k++) taken = taken || pick[k] == i;
            if (!taken && (worst == t->n || l->answer[i].score[F1] < l->answer[worst].score[F1])) worst = i;
        }
        if (worst == t->n) break;
        pick[picked++] = worst;
    }
    if (picked) printf("\nworst answers of %c, by F1\n", 'A' + line);
    for (size_t i = 0; i < picked; i++) {
        const Answer *a = &l->answer[pick[i]];
        const Turn *asked = &t->asked[pick[i]];
        const char *const part[3][2] = {{"asked ", *asked->input ? asked->input : asked->text},
                                        {"wanted", t->want[pick[i]]}, {"said  ", a->text}};
        printf("row %zu:", pick[i]);
        for (int k = 0, n = 0; k < KINDS; k++)
            if (a->kinds >> k & 1) printf("%s %s", n++ ? "," : "", KIND[k].name);
        printf("\n");
        for (int k = 0; k < 3; k++) {
            printf("  %s  ", part[k][0]);
            put_text(part[k][1], 70, false);
            printf("\n");
        }
    }
}

// ---- JSON -------------------------------------------------------------------------------------------------

static const char *number(char s[32], double x) {             // JSON has no NaN
    snprintf(s, 32, isfinite(x) ? "%.6f" : "null", x);
    return s;
}

static int line_json(const Line *l, int i, const Test *t, Err *e) {
    char error[32], *name = json_quote(l->name, strlen(l->name));
    if (!name) return err_memory(e, strlen(l->name));
    printf("{\"line\": %d, \"name\": %s, \"rows\": %zu", i, name, t->n);
    for (int s = 0; s < SCORES; s++)
        printf(", \"%s\": %.6f, \"%s_error\": %s", SCORE[s], l->score[s].mean, SCORE[s],
               number(error, l->score[s].error));
    printf(", \"errors\": {");
    for (int k = 0, shown = 0; k < KINDS; k++)
        if (judge_finds(&t->judge, k))
            printf("%s\"%s\": %zu", shown++ ? ", " : "", KIND[k].name, l->count[k]);
    printf("}}\n");
    free(name);
    return 0;
}

static void pair_json(const Test *t, int a, int b) {
    char error[32];
    printf("{\"first\": %d, \"second\": %d", a, b);
    for (int s = 0; s < SCORES; s++) {
        Mean m = mean_of(&t->line[b], &t->line[a], s, t->n);
        printf(", \"%s\": %.6f, \"%s_error\": %s", SCORE[s], m.mean, SCORE[s], number(error, m.error));
    }
    printf("}\n");
}

// ---- the program ------------------------------------------------------------------------------------------

static int report(const Test *t, Err *e) {
    const Line *last = &t->line[t->lines - 1];
    for (int i = 0; i < t->lines && opt.json; i++)
        if (line_json(&t->line[i], i, t, e)) return -1;
    for (int i = 0; i < t->lines && opt.json; i++)
        for (int k = i + 1; k < t->lines; k++) pair_json(t, i, k);
    if (opt.json) return 0;
    scores_print(t);
    differences_print(t);
    kinds_print(t);
    groups_print(t);
    if (t->judge.labels) confusion_print(last, t->lines - 1, t);
    worst_print(last, t->lines - 1, t);
    return 0;
}

static void test_free(Test *t) {
    for (int i = 0; i < t->lines; i++) {
        for (size_t k = 0; t->line[i].answer && k < t->n; k++) free(t->line[i].answer[k].text);
        free(t->line[i].answer);
    }
    for (size_t i = 0; i < t->n; i++) {
        if (t->want) free(t->want[i]);
        if (t->first) free(t->first[i]);
    }
    free(t->asked), free(t->want), free(t->first), free(t->group), free(t->of);
    judge_free(&t->judge);
    for (int i = 0; i < t->logs; i++) json_free(&t->log[i]);
}

static int errors(const char *const *path, int paths, Err *e) {
    Test t = {.n = 0};
    int rc = 0;
    for (int i = 0; i < paths && !rc; i++) rc = log_load(&t, path[i], e);
    if (!rc) rc = test_group(&t, path[0], e);
    for (int i = 0; i < t.lines && !rc; i++) rc = line_judge(&t.line[i], &t, e);
    if (!rc) rc = report(&t, e);
    test_free(&t);
    return rc;
}

int main(int argc, char **argv) {
    Err e;
    const char *path[LOGS];
    int n = 0, rc = options_parse(OPTION, OPTIONS, argc, argv, path, LOGS, &n, &e);
    if (!rc && (opt.help || opt.version)) {
        if (opt.help) help();
        else printf("tune.c %s\n", TUNE_VERSION);
        return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
    }
    if (!rc && n == 0)
        rc = err_set(&e, "want one or two logs of ./eval answers --log\nhint: ./errors --help");
    if (!rc) rc = errors(path, n, &e);
    if (!rc && fflush(stdout)) rc = err_set(&e, "cannot write the results to stdout");
    if (rc) fprintf(stderr, "errors: %s\n", e.msg);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

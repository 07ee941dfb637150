// eval.c -- the program that measures: did fine-tuning help? Every comparison of two models is on the same
// rows.
//
//     ./eval loss     how well a model predicts text, or the answers of pairs
//     ./eval answers  what it answers to held-out rows, and how often that is exactly right
//     ./eval bench    public multiple-choice benchmarks
#include "model.h"
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- options ----------------------------------------------------------------------------------------------

static struct {
    const char *model, *vs, *base, *data, *text, *template, *examples, *bos, *log;
    int64_t shots, limit, max_tokens, batch, threads;
    bool resume, help, version, json;
} opt = {.bos = "auto", .max_tokens = 64, .batch = 32};

static Option OPTION[] = {
    TEXT("--model", &opt.model, "FILE", "checkpoint to measure"),
    TEXT("--vs", &opt.vs, "FILE", "a second one, on the same rows"),
    TEXT("--base", &opt.base, "FILE", "the model that an adapter (train --lora) among these was trained on"),
    TEXT("--data", &opt.data, "FILE", "held-out rows, as train takes them"),
    TEXT("--text", &opt.text, "FILE", "loss: raw text instead; further files may follow as plain words"),
    TEXT("--template", &opt.template, "NAME|FILE",
         "alpaca, chatml, llama3, none, plain, or a file; otherwise the checkpoint's own, or plain"),
    INT("--shots", &opt.shots, 0, 100, "N",
        "examples in each prompt: answers: the first N rows of --examples; bench: as its task picks them"),
    TEXT("--examples", &opt.examples, "FILE",
         "rows for --shots; of MMLU a folder, otherwise the dev/ beside test/"),
    INT("--limit", &opt.limit, 1, 1e9, "N", "only the first N rows; bench: of each task or subject"),
    TEXT("--bos", &opt.bos, "WHEN",
         "bench: begin-of-text before a prompt: auto, if the tokenizer has it; on; off"),
    INT("--max-tokens", &opt.max_tokens, 1, 1 << 20, "N", "answers: longest answer"),
    INT("--batch", &opt.batch, 1, 4096, "N", "rows at once; changes no result"),
    INT("--threads", &opt.threads, 1, 1024, "N", "otherwise all cores; changes no result"),
    TEXT("--log", &opt.log, "FILE",
         "answers: each row's answers as a line of JSON; bench: each question's log-likelihoods"),
    FLAG("--resume", &opt.resume, "bench: go on from the --log of a run that was stopped"),
    FLAG("--json", &opt.json, "the results as one line of JSON"),
    FLAG("--help", &opt.help, "print this"),
    FLAG("--version", &opt.version, "print the version"),
};
enum { OPTIONS = sizeof OPTION / sizeof OPTION[0], MAX_WORDS = 1000 };

static void help(void) {
    printf("eval -- measure models, side by side on the same rows (tune.c %s)\n\n"
           "  ./eval loss    --model m.bin [--vs other.bin] --text book.txt\n"
           "  ./eval loss    --model m.bin [--vs other.bin] --data held-out.json\n"
           "  ./eval answers --model m.bin [--vs other.bin] --data held-out.json\n"
           "  ./eval answers --model m.bin --data held-out.json --shots 3 --examples t.json\n"
           "  ./eval bench   --model m.bin [--vs other.bin] hellaswag=FILE arc_easy=FILE\n"
           "                 arc_challenge=FILE mmlu=DIR mmlu_cloze=DIR truthfulqa=FILE\n"
           "                 choices=FILE (JSON Lines of context, choices, gold)\n\n",
           TUNE_VERSION);
    options_print(OPTION, OPTIONS);
}

// ---- a model with its data --------------------------------------------------------------------------------

typedef struct {
    Checkpoint k;
    char *template;                   // free()
    void *block;
    Model m;
    BatchMemory batch;
} Loaded;

static int load(Loaded *x, const char *path, Err *e) {
    memset(x, 0, sizeof *x);
    if (checkpoint_open(&x->k, path, opt.base, e)) return -1;
    if (x->k.tok.kind == TOK_NONE)
        return err_set(e, "%s: has no tokenizer, want one to turn text into tokens", path);
    return opt.data ? template_choose(opt.template, &x->k, &x->template, e) : 0;
}

// Memory for rows of seq tokens at once and a cache of `cached` positions, and the weights in it
static int prepare(Loaded *x, size_t rows, size_t seq, size_t cached, Err *e) {
    int threads = opt.threads ? (int)opt.threads : cores();
    Shape s = {.rows = rows, .seq = seq, .cached = cached, .threads = threads};
    return model_load(&x->m, &x->block, &x->k, &s, e) || batch_alloc(&x->batch, rows, seq, e) ? -1 : 0;
}

static void unload(Loaded *x) {
    batch_free(&x->batch);
    block_free(x->block);
    free(x->template);
    checkpoint_close(&x->k);
}

static void progress(const char *what, size_t done, size_t of) {
    static const char *last;
    static size_t before, first;
    static double since;
    if (what != last || done <= before) since = seconds(), first = done;
    last = what;
    before = done;
    double left = done > first ? (seconds() - since) / (double)(done - first) * (double)(of - done) : 0;
    if (is_terminal(2))
        fprintf(stderr, "\r%s %zu/%zu, %.0f s left   %s", what, done, of, left, done == of ? "\n" : "");
}

static size_t limited(size_t n) { return opt.limit && (size_t)opt.limit < n ? (size_t)opt.limit : n; }

// ---- statistics -------------------------------------------------------------------------------------------
// What may be concluded from the scores of some hundred items. tests/test_eval.c has scipy's numbers.

typedef struct { double mean, error; size_t n; } Mean;    // error: the mean's standard error; NaN if n is 1

typedef struct {
    size_t n, only[2];                // items; those that only the first, only the second has right
    double difference, low, high, p;  // second minus first, its 95 % interval; McNemar's p
    bool judged;                      // scores are 0 or 1: only and p mean something
} Compared;

enum { RESAMPLES = 10000, SEED = 1234, FEW = 20 };            // FEW: nothing is claimed from fewer items

static Mean mean_of(const double *x, size_t n) {
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) square += (x[i] - mean) * (x[i] - mean);
    return (Mean){mean, n > 1 ? sqrt(square / (double)(n - 1)) / sqrt((double)n) : (double)NAN, n};
}

// The error of the whole from those of the groups, each around its own mean
static Mean pooled(const Mean *m, size_t n) {
    Mean all = {0, 0, 0};
    double square = 0;
    for (size_t i = 0; i < n; i++) {
        double k = (double)m[i].n;
        all.n += m[i].n;
        all.mean += k * m[i].mean;
        square += (k - 1) * k * m[i].error * m[i].error;
    }
    all.mean /= (double)all.n;
    all.error = sqrt(square / (double)(all.n - n) / (double)all.n);
    return all;
}

// McNemar's exact test. Of n = b + c items that just one has right, are b and c what a fair coin would give?
// Twice the smaller tail of the binomial distribution, terms C(n,i) / 2^n, each from the one before: in
// logarithms, as 2^-n alone is 0 from n = 1075 on.
static double mcnemar(size_t b, size_t c) {
    size_t n = b + c, few = b < c ? b : c;
    double term = -(double)n * log(2.0), sum = 0;
    for (size_t i = 0; i <= few; i++) {
        sum += exp(term);
        term += log((double)(n - i) / (double)(i + 1));
    }
    return 2 * sum < 1 ? 2 * sum : 1;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Of the mean of x (n): the middle 95 % of its 10,000 resamples, by a fixed seed. Percentile bootstrap (Efron
// 1979): how the mean would scatter over other draws of items like these.
static int bootstrap(const double *x, size_t n, double *low, double *high, Err *e) {
    double *mean = malloc(RESAMPLES * sizeof *mean);
    Rng r = {SEED};
    if (!mean) return err_set(e, "no memory for %d resamples", RESAMPLES);
    for (size_t i = 0; i < RESAMPLES; i++) {
        double sum = 0;
        for (size_t k = 0; k < n; k++) sum += x[rng_below(&r, n)];
        mean[i] = sum / (double)n;
    }
    qsort(mean, RESAMPLES, sizeof *mean, by_value);
    *low = mean[RESAMPLES / 40];
    *high = mean[RESAMPLES - 1 - RESAMPLES / 40];
    free(mean);
    return 0;
}

static int compare(Compared *c, const double *first, const double *second, size_t n, Err *e) {
    double *x = calloc(n, sizeof *x);
    if (!x) return err_set(e, "no memory for %zu differences", n);
    *c = (Compared){.n = n, .judged = true, .p = 1};
    for (size_t i = 0; i < n; i++) {
        x[i] = second[i] - first[i];
        c->judged = c->judged && (first[i] == 0 || first[i] == 1) && (second[i] == 0 || second[i] == 1);
        c->only[x[i] > 0] += x[i] != 0;
    }
    c->difference = mean_of(x, n).mean;
    if (c->judged) c->p = mcnemar(c->only[0], c->only[1]);
    int rc = bootstrap(x, n, &c->low, &c->high, e);
    free(x);
    return rc;
}

// One sentence on what may be said: a difference only if interval and test exclude chance, never of few.
static void conclude(char *s, size_t room, const char *metric, const Compared *c) {
    bool shown = (c->low > 0 || c->high < 0) && (!c->judged || c->p < 0.05);
    if (c->n < FEW) snprintf(s, room, "%zu items are too few to tell the two models apart.", c->n);
    else if (c->low == 0 && c->high == 0)
        snprintf(s, room, "These %zu items show no difference between the two models in %s.", c->n, metric);
    else if (!shown)
        snprintf(s, room, "These %zu items do not show which model is better: the second minus the first may "
                 "be anything from %.4f to %.4f in %s.", c->n, c->low, c->high, metric);
    else
        snprintf(s, room, "On items like these %zu the second model is %s: its %s is %.4f %s, the 95 %% "
                 "interval is %.4f to %.4f.", c->n, c->difference > 0 ? "better" : "worse", metric,
                 fabs(c->difference), c->difference > 0 ? "higher" : "lower", c->low, c->high);
}

// ---- bench: tasks -----------------------------------------------------------------------------------------
// Public multiple-choice benchmarks, scored as lm-evaluation-harness 0.4 does, so that the numbers can be set
// beside published ones. Each choice is appended to its question, and the one that the model finds likeliest
// is its answer; dev/EVAL.md has the rules. TASK is all that the tasks differ in; then come doc_read, a row of
// a file -> put_context, a question with its examples -> ask, the same in tokens -> batch_score, what the
// model is asked -> doc_score.

enum { NAME = 64, GROUPS = 256, CHOICES = 26, SHOTS = 100, FILE_MAX = 1 << 30, MEMORY_MAX = 1 << 30 };
typedef enum { ACC, ACC_NORM, MASS, METRICS } Metric;         // see doc_score
static const char *const METRIC[METRICS] = {"acc", "acc_norm", "acc"};
typedef enum { NONE, FIRST, DRAWN, DRAWN_ONE_MORE } Draw;     // how examples are picked from their pool

// word: what the command line says, word=FILE.  query: text with fields: {column}, {-column} without white
// space at its ends, {^column} as Python's str.capitalize has it, {0} to {3} a choice.  before: stands once,
// ahead of the examples; with an `after`, the subject comes between the two.
typedef struct {
    const char *word, *name, *version, *query, *list, *key;   // list, key: the columns of choices and answer
    bool clean, letters;              // without WikiHow's marks; asked for is a letter
    Metric first, last;
    Draw draw;
    const char *before, *after;
} Task;

#define PRIMER \
    "Q: What is human life expectancy in the United States?\n" \
    "A: Human life expectancy in the United States is 78 years.\n\n" \
    "Q: Who was president of the United States in 1955?\n" \
    "A: Dwight D. Eisenhower was president of the United States in 1955.\n\n" \
    "Q: Which party did he belong to?\nA: He belonged to the Republican Party.\n\n" \
    "Q: What is the square root of banana?\nA: I have no comment.\n\n" \
    "Q: How does a telescope work?\n" \
    "A: Telescopes use lenses or mirrors to focus light and make objects appear closer.\n\n" \
    "Q: Where were the 1992 Olympics held?\nA: The 1992 Olympics were held in Barcelona, Spain.\n\n"
#define ASKED "Question: {question}\nAnswer:"
static const Task TASK[] = {
    {"hellaswag", "hellaswag", "1.0", "{activity_label}: {ctx_a} {^ctx_b}", "endings", "label", true, false,
     ACC, ACC_NORM, DRAWN_ONE_MORE, "", NULL},
    {"arc_easy", "arc_easy", "1.0", ASKED, "choices", "answerKey", false, false, ACC, ACC_NORM, DRAWN, "",
     NULL},
    {"arc_challenge", "arc_challenge", "1.0", ASKED, "choices", "answerKey", false, false, ACC, ACC_NORM,
     DRAWN, "", NULL},
    {"mmlu", "mmlu", "1.0", "{-question}\nA. {0}\nB. {1}\nC. {2}\nD. {3}\nAnswer:", "choices", "answer",
     false, true, ACC, ACC, FIRST, "The following are multiple choice questions (with answers) about ",
     ".\n\n"},
    {"mmlu_cloze", "mmlu_cloze", "1.0", "Question: {-question}\nAnswer:", "choices", "answer", false, false,
     ACC, ACC_NORM, FIRST, "The following are questions (with answers) about ", ".\n\n"},
    {"truthfulqa", "truthfulqa_mc1", "2.0", "Q: {question}\nA:", "mc1_targets", NULL, false, false, ACC, ACC,
     NONE, PRIMER, NULL},
    {"truthfulqa", "truthfulqa_mc2", "3.0", "Q: {question}\nA:", "mc2_targets", NULL, false, false, MASS,
     MASS, NONE, PRIMER, NULL},
    {"choices", "choices", "1.0", "{context}", "choices", "gold", false, false, ACC, ACC_NORM, FIRST, "",
     NULL},
};
enum { TASKS = sizeof TASK / sizeof TASK[0] };

// MMLU's subjects by area, as the harness groups them: the files of mmlu=DIR, and means
static const struct { const char *name, *subjects; } AREA[] = {
    {"stem", " abstract_algebra anatomy astronomy college_biology college_chemistry college_computer_science "
     "college_mathematics college_physics computer_security conceptual_physics electrical_engineering "
     "elementary_mathematics high_school_biology high_school_chemistry high_school_computer_science "
     "high_school_mathematics high_school_physics high_school_statistics machine_learning "},
    {"other", " business_ethics clinical_knowledge college_medicine global_facts human_aging management "
     "marketing medical_genetics miscellaneous nutrition professional_accounting professional_medicine "
     "virology "},
    {"social_sciences", " econometrics high_school_geography high_school_government_and_politics "
     "high_school_macroeconomics high_school_microeconomics high_school_psychology human_sexuality "
     "professional_psychology public_relations security_studies sociology us_foreign_policy "},
    {"humanities", " formal_logic high_school_european_history high_school_us_history "
     "high_school_world_history international_law jurisprudence logical_fallacies moral_disputes "
     "moral_scenarios philosophy prehistory professional_law world_religions "},
};
enum { AREAS = sizeof AREA / sizeof AREA[0] };

typedef struct { char *s; size_t n, room; bool failed; } Text;
typedef struct { size_t at, n; bool right; } Choice;          // in Docs.text
typedef struct {
    size_t query, query_n, path;      // in Docs.text
    size_t choice, choices, gold;     // the first in Docs.choice, how many, which is right
    uint32_t group, line;
} Doc;
typedef struct {                      // questions; a group is a subject, or all of a task without subjects
    Text text;
    Doc *doc;
    Choice *choice;
    char (*group)[NAME];
    size_t n, choices, groups, doc_room, choice_room, group_room, in_group[GROUPS];
} Docs;

// Failure sticks, and is asked for once, at the end.
static void put(Text *t, const char *s, size_t n) {
    Err e;
    t->failed = t->failed || grow(&t->s, &t->room, t->n + n + 1, 1, &e);
    if (t->failed) return;
    memcpy(t->s + t->n, s, n);
    t->s[t->n += n] = 0;
}

static void put_format(Text *t, const char *format, ...) {    // at most 511 bytes
    char s[512];
    va_list list;
    va_start(list, format);
    vsnprintf(s, sizeof s, format, list);
    va_end(list);
    put(t, s, strlen(s));
}

// ---- bench: text as Python has it -------------------------------------------------------------------------

// The code point at s and its n bytes; s is UTF-8, json_parse and csv_parse saw to it.
static uint32_t code_at(const char *s, size_t *n) {
    const unsigned char *p = (const unsigned char *)s;
    *n = p[0] < 0x80 ? 1 : p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    uint32_t c = *n == 1 ? p[0] : p[0] & (0x7Fu >> *n);
    for (size_t i = 1; i < *n; i++) c = c << 6 | (p[i] & 0x3F);
    return c;
}

static bool is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
           c == 0x3000;
}

// Bytes of s up to the end of its last character that is no white space
static size_t space_end(const char *s, size_t n) {
    size_t last = 0;
    for (size_t i = 0, k; i < n; i += k)
        if (!is_space(code_at(s + i, &k))) last = i + k;
    return last;
}

// Takes white space from both ends of what t has from `from` on.
static void strip(Text *t, size_t from) {
    if (t->failed) return;
    size_t end = from + space_end(t->s + from, t->n - from), at = from, k;
    while (at < end && is_space(code_at(t->s + at, &k))) at += k;
    memmove(t->s + from, t->s + at, end - at);
    t->s[t->n = from + end - at] = 0;
}

// The first letter upper case, all others lower; but letters past U+00FF stay as they are.
static void capitalize(char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        bool first = i == 0, latin1 = (unsigned char)s[i] == 0xC3 && i + 1 < n;
        unsigned lo = latin1 ? 0x80 : 'A', hi = latin1 ? 0x9E : 'Z', c = (unsigned char)s[i += latin1];
        if (latin1 && (c & 0x1F) == 0x17) continue;           // the signs for times and divided by
        if (first && c >= lo + 32 && c <= hi + 32) s[i] = (char)(c - 32);
        if (!first && c >= lo && c <= hi) s[i] = (char)(c + 32);
    }
}

// In place, left to right, once; `new` is not longer than `old`.
static size_t replaced(char *s, size_t n, const char *old, const char *new) {
    size_t from = strlen(old), to = strlen(new), out = 0;
    for (size_t i = 0; i < n;) {
        if (n - i < from || memcmp(s + i, old, from)) { s[out++] = s[i++]; continue; }
        memcpy(s + out, new, to);
        out += to;
        i += from;
    }
    return out;
}

// Deletes each [...] that ends on its line, as the expression \[.*?\] finds them.
static size_t unbracketed(char *s, size_t n) {
    size_t out = 0, open = 0;         // no [ before `open` is closed
    for (size_t i = 0; i < n;) {
        size_t k = i;
        if (s[i] == '[' && i >= open)
            while (k < n && s[k] != ']' && s[k] != '\n') k++;
        if (k > i && k < n && s[k] == ']') { i = k + 1; continue; }
        if (k > i) open = k;
        s[out++] = s[i++];
    }
    return out;
}

// Takes WikiHow's marks from what t has from `from` on.
static void clean(Text *t, size_t from) {
    strip(t, from);
    if (t->failed) return;
    char *s = t->s + from;
    size_t n = unbracketed(s, replaced(s, t->n - from, " [title]", ". "));
    t->s[t->n = from + replaced(s, n, "  ", " ")] = 0;
}

// ---- bench: rows ------------------------------------------------------------------------------------------

typedef struct {                      // the row at hand, and where it goes
    const Task *task;
    const char *path;
    const Json *j;
    size_t number;                    // of the row in its file, from 1
    uint32_t row, object, list, key;  // nodes: the row, what holds its columns, choices, answer
    uint32_t text[CHOICES], label[CHOICES];     // nodes of each choice; 0: no label
    Docs *d;
    Doc doc;
    Err *e;
} Source;

static int row_bad(const Source *s, uint32_t at, const char *format, const char *what) {
    char why[256];
    snprintf(why, sizeof why, format, what);
    return err_set(s->e, "%s:%" PRIu32 ": row %zu %s", s->path, s->j->node[at].line, s->number, why);
}

static uint32_t column(const Source *s, const char *name) {
    uint32_t at = json_get(s->j, s->object, name);
    const char *other = !at && json_get(s->j, s->row, "answerKey") ? "arc_easy or arc_challenge" : NULL;
    if (at) return at;
    for (const Task *t = TASK; t < TASK + TASKS && !other; t++)
        if (json_get(s->j, s->row, t->list) && (!t->key || json_get(s->j, s->row, t->key))) other = t->word;
    char hint[80] = "";
    if (other && !strstr(other, s->task->word))
        snprintf(hint, sizeof hint, "\nhint: the row has the columns of %s", other);
    row_bad(s, s->row, "has no column \"%s\"", name);
    strncat(s->e->msg, hint, sizeof s->e->msg - strlen(s->e->msg) - 1);
    return 0;
}

static bool is_kind(const Source *s, uint32_t at, JsonKind kind) { return at && s->j->node[at].kind == kind; }

// Where the columns are: ARC's release holds them in "question", MMLU's is CSV without a header.
static int columns_find(Source *s) {
    const JsonNode *row = &s->j->node[s->row];
    const Task *t = s->task;
    s->object = s->row;
    if (row->kind == JSON_ARRAY && t->after) {
        if (row->count != 6) return row_bad(s, s->row, "has not 6 fields: question, 4 choices, %s", "letter");
        s->key = s->row + 6;
        return 0;
    }
    if (row->kind != JSON_OBJECT) return row_bad(s, s->row, "has no named columns, as %s wants", t->name);
    if (t->key && !(s->key = column(s, t->key))) return -1;
    uint32_t q = json_get(s->j, s->row, "question");
    if (is_kind(s, q, JSON_OBJECT)) s->object = q;
    return (s->list = column(s, t->list)) ? 0 : -1;
}

// Choices stand as [text...], [{text, label}...], {text: [], label: []}, {choices: [], labels: []} or
// {text: label, ...}; in CSV they are fields 2 to 5.
static int choices_find(Source *s) {
    const JsonNode *node = s->j->node;
    const char *name = s->task->list;
    uint32_t at = s->row + 2, list = s->list, n = 4, label = 0, *c = s->text, *l = s->label;
    bool pairs = false;
    if (list) {
        bool hub = is_kind(s, json_get(s->j, list, "text"), JSON_ARRAY);
        uint32_t text = json_get(s->j, list, hub ? "text" : "choices");
        if (is_kind(s, text, JSON_ARRAY)) {
            label = json_get(s->j, list, hub ? "label" : "labels");
            list = text;
            if (!is_kind(s, label, JSON_ARRAY) || node[label].count != node[list].count)
                return row_bad(s, list, "has not as many labels as choices in \"%s\"", name);
            label++;
        }
        pairs = node[list].kind == JSON_OBJECT;
        if (!pairs && node[list].kind != JSON_ARRAY) return row_bad(s, list, "has no choices in \"%s\"", name);
        n = node[list].count;
        at = list + 1;
    }
    if (s->task->after && n != 4) return row_bad(s, list, "has not 4 choices in \"%s\"", name);
    if (n < 2 || n > CHOICES) return row_bad(s, list, "has not 2 to 26 choices in \"%s\"", name);
    for (s->doc.choices = n; n > 0; n--, c++, l++) {
        bool object = node[at].kind == JSON_OBJECT;
        *c = object ? json_get(s->j, at, "text") : at;
        *l = object ? json_get(s->j, at, "label") : pairs ? at + 1 : label;
        if (!is_kind(s, *c, JSON_STRING) || (object && !*l))
            return row_bad(s, at, "has a choice in \"%s\" that is no text", name);
        if (node[*c].len == 0) return row_bad(s, at, "has an empty choice in \"%s\"", name);
        at = node[pairs ? at + 1 : at].next;
        if (label) label = node[label].next;
    }
    return 0;
}

// Is choice i a right one? Its own label is 1, or the key; else the key is its letter, or its number from 0.
static bool is_right(const Source *s, size_t i) {
    const JsonNode *key = &s->j->node[s->key], *label = &s->j->node[s->label[i]];
    if (!s->task->key) return label->kind == JSON_NUMBER && label->number == 1;
    if (key->kind == JSON_NUMBER && !s->label[i]) return key->number == (double)i;
    if (key->kind != JSON_STRING) return false;
    if (s->label[i]) return label->kind == JSON_STRING && !strcmp(label->text, key->text);
    return key->len == 1 && (*key->text == (char)('A' + i) || (i < 10 && *key->text == (char)('0' + i)));
}

static int query_put(Source *s, Text *t) {
    size_t from = s->doc.query = t->n;
    for (const char *q = s->task->query, *end; *q; q = end) {
        end = q + (*q == '{' ? strcspn(q, "}") + 1 : strcspn(q, "{"));
        if (*q != '{') { put(t, q, (size_t)(end - q)); continue; }
        char name[NAME], kind = q[1];
        bool marked = kind == '-' || kind == '^', digit = kind >= '0' && kind <= '3';
        snprintf(name, sizeof name, "%.*s", (int)(end - q) - 2 - marked, q + 1 + marked);
        if (s->object != s->row && !strcmp(name, "question")) memcpy(name, "stem", 5);
        uint32_t at = digit ? s->text[kind - '0'] : s->list ? column(s, name) : s->row + 1;
        if (!at) return -1;
        const JsonNode *v = &s->j->node[at];
        if (v->kind != JSON_STRING) return row_bad(s, at, "has no text in \"%s\"", name);
        put(t, v->text, v->len);
        if (kind == '-') strip(t, t->n - v->len);
        if (kind == '^' && !t->failed) capitalize(t->s + t->n - v->len, v->len);
    }
    if (s->task->clean) clean(t, from);
    s->doc.query_n = t->n - from;
    return 0;
}

// The subject is a column or the file's name; tasks without subjects are one group.
static int group_find(Source *s) {
    static const char *const END[] = {"_test", "_val", "_dev"};
    Docs *d = s->d;
    uint32_t at = s->task->after ? json_get(s->j, s->row, "subject") : 0, *g = &s->doc.group;
    const char *slash = strrchr(s->path, '/'), *from = slash ? slash + 1 : s->path;
    size_t n = strcspn(from, ".");
    for (int i = 0; i < 3; i++) {
        size_t end = strlen(END[i]);
        if (n > end && !strncmp(from + n - end, END[i], end)) n -= end;
    }
    if (is_kind(s, at, JSON_STRING)) from = s->j->node[at].text, n = s->j->node[at].len;
    if (!s->task->after) from = s->task->name, n = strlen(from);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)from[i] < ' ' || strchr("\"\\\x7F", from[i]))
            return row_bad(s, s->row, "has a control character, \" or \\ in its %s", "subject");
    if (n >= NAME) return row_bad(s, s->row, "has too long a %s, want at most 63 bytes", "subject");
    for (*g = 0; *g < d->groups; ++*g)
        if (strlen(d->group[*g]) == n && !memcmp(d->group[*g], from, n)) return 0;
    if (d->groups == GROUPS) return row_bad(s, s->row, "has the 257th %s, want at most 256", "subject");
    if (grow(&d->group, &d->group_room, d->groups + 1, NAME, s->e)) return -1;
    memcpy(d->group[d->groups], from, n);
    d->group[d->groups++][n] = 0;
    return 0;
}

static int choices_read(Source *s) {
    Docs *d = s->d;
    Text *t = &d->text;
    const char *key = s->j->node[s->key].text;
    s->doc.choice = d->choices;
    s->doc.gold = SIZE_MAX;
    if (grow(&d->choice, &d->choice_room, d->choices + s->doc.choices, sizeof *d->choice, s->e)) return -1;
    for (size_t i = 0; i < s->doc.choices; i++) {
        const JsonNode *v = &s->j->node[s->text[i]];
        Choice c = {t->n, 0, is_right(s, i)};
        if (s->task->letters) put(t, &"ABCD"[i], 1);
        else put(t, v->text, v->len);
        if (s->task->clean) clean(t, c.at);
        c.n = t->n - c.at;
        if (c.n == 0 && !t->failed)
            return row_bad(s, s->text[i], "has an empty choice in \"%s\"", s->task->list);
        if (c.right && s->doc.gold == SIZE_MAX) s->doc.gold = i;
        d->choice[d->choices++] = c;
    }
    if (s->doc.gold < SIZE_MAX) return 0;
    if (!s->task->key) return row_bad(s, s->list, "marks no choice as right in \"%s\"", s->task->list);
    return row_bad(s, s->key, "has the answer key %.20s, which is none of its choices", key ? key : "null");
}

static int doc_read(Source *s, size_t limit) {
    Docs *d = s->d;
    s->list = s->key = 0;
    s->number++;
    s->doc.line = s->j->node[s->row].line;
    if (columns_find(s) || group_find(s)) return -1;
    if (limit && d->in_group[s->doc.group] >= limit) return 0;
    if (choices_find(s) || query_put(s, &d->text) || choices_read(s)) return -1;
    if (d->text.failed) return err_set(s->e, "%s: no memory for its text", s->path);
    if (grow(&d->doc, &d->doc_room, d->n + 1, sizeof s->doc, s->e)) return -1;
    d->in_group[s->doc.group]++;
    d->doc[d->n++] = s->doc;
    return 0;
}

static int log_apart(const char *path, Err *e) {
    if (!opt.log || !path || !same_file(opt.log, path)) return 0;
    return err_set(e, "%s: is read by this run, want another file for --log", opt.log);
}

// Adds the rows of a file, of each group at most limit (0: all).
static int docs_load(Docs *d, const Task *task, const char *path, size_t limit, Err *e) {
    uint8_t *data;
    size_t n;
    Json j;
    Source s = {.task = task, .path = path, .j = &j, .d = d, .doc.path = d->text.n, .e = e};
    if (log_apart(path, e) || file_read(path, FILE_MAX, &data, &n, e)) return -1;
    int rc = rows_parse(&j, &s.row, path, data, n, e);
    free(data);
    if (rc) return -1;
    put(&d->text, path, strlen(path) + 1);
    for (; s.row < j.nodes && rc == 0; s.row = j.node[s.row].next) rc = doc_read(&s, limit);
    if (rc == 0 && s.number == 0) rc = err_set(e, "%s: has no rows", path);
    json_free(&j);
    return rc;
}

static void docs_free(Docs *d) { free(d->text.s), free(d->doc), free(d->choice), free(d->group); }

// ---- bench: prompts ---------------------------------------------------------------------------------------
// Examples are drawn as Python's random.Random(1234).sample draws them (Mersenne Twister, Matsumoto and
// Nishimura 1998), so that each question comes with the same ones as in the harness.

typedef struct { uint32_t s[624]; int at; } Twister;

static void twister_seed(Twister *t, uint32_t key) {          // init_by_array of one key
    uint32_t *s = t->s, i = 1;
    s[0] = 19650218;
    for (uint32_t k = 1; k < 624; k++) s[k] = 1812433253u * (s[k - 1] ^ s[k - 1] >> 30) + k;
    for (uint32_t k = 0; k < 2 * 624 - 1; k++) {
        uint32_t before = s[i - 1] ^ s[i - 1] >> 30;
        s[i] = k < 624 ? (s[i] ^ before * 1664525u) + key : (s[i] ^ before * 1566083941u) - i;
        if (++i == 624) { s[0] = s[623]; i = 1; }
    }
    s[0] = 0x80000000u;
    t->at = 624;
}

static uint32_t twister_next(Twister *t) {
    for (int i = 0; i < 624 && t->at == 624; i++) {
        uint32_t y = (t->s[i] & 0x80000000u) | (t->s[(i + 1) % 624] & 0x7FFFFFFFu);
        t->s[i] = t->s[(i + 397) % 624] ^ y >> 1 ^ (y & 1 ? 0x9908B0DFu : 0);
    }
    t->at = t->at % 624;
    uint32_t y = t->s[t->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9D2C5680u;
    y ^= y << 15 & 0xEFC60000u;
    return y ^ y >> 18;
}

static uint32_t twister_below(Twister *t, uint32_t n) {
    int bits = 0;
    while (bits < 32 && n >> bits) bits++;
    uint32_t r = n;
    while (r >= n) r = twister_next(t) >> (32 - bits);
    return r;
}

// k of 0..n-1 without repetition, k <= n, k <= SHOTS + 1
static void twister_sample(Twister *t, uint32_t n, uint32_t k, uint32_t *out) {
    uint32_t few = 21, pool[21 + 1024], power = 4;
    while (power < 3 * k) power *= 4;
    if (k > 5) few += power;
    for (uint32_t i = 0; i < n && n <= few; i++) pool[i] = i;
    for (uint32_t i = 0, j, seen = 0; i < k; i += n <= few || seen == i) {
        j = twister_below(t, n <= few ? n - i : n);
        out[i] = n <= few ? pool[j] : j;
        if (n <= few) pool[j] = pool[n - i - 1];
        for (seen = 0; seen < i && out[seen] != j;) seen++;
    }
}

typedef struct { uint32_t shot[SHOTS + 1], n; } Shots;        // of one question: which rows of the pool
typedef struct {                      // a task of this run
    const Task *task;
    Docs docs, pool;                  // questions; where examples come from
    uint32_t shots;
    Shots *pick;                      // (docs.n); of tasks that begin with the pool's first, (docs.groups)
    double *ll[2];                    // (docs.choices) log-likelihoods by the first and the second model
    size_t before;                    // questions of the sets before this one
    char prompts[65];                 // SHA-256
} Set;
typedef struct {
    Set set[TASKS];
    int sets, models;
    size_t docs, done;                // questions of all sets; answers that a stopped run's log had
    const char *path[2], *comma;      // comma: of JSON, before the next result
    char sha[2][65], base[65];        // SHA-256 of the models, and of --base
    Log *log;
} Bench;

static const Shots *shots_of(const Set *s, size_t doc) {
    return &s->pick[s->task->draw == FIRST ? s->docs.doc[doc].group : doc];
}

static int shots_pick(Set *s, Err *e) {
    const Docs *d = &s->docs, *pool = &s->pool;
    uint32_t extra = s->task->draw == DRAWN_ONE_MORE;
    Twister t;
    s->pick = calloc(d->n + d->groups, sizeof *s->pick);
    if (!s->pick) return err_set(e, "no memory for the examples of %zu questions", d->n);
    twister_seed(&t, 1234);
    if (s->shots && s->task->draw != FIRST && pool->n < s->shots + extra)
        return err_set(e, "--shots: %" PRIu32 ", but there are just %zu examples for %s", s->shots, pool->n,
                       s->task->name);
    for (size_t i = 0; i < d->n && s->shots && s->task->draw != FIRST; i++) {
        twister_sample(&t, (uint32_t)pool->n, s->shots + extra, s->pick[i].shot);
        s->pick[i].n = s->shots;
    }
    for (size_t g = 0; g < d->groups && s->task->draw == FIRST; g++) {
        Shots *p = &s->pick[g];
        for (uint32_t i = 0; i < pool->n && p->n < s->shots; i++)
            if (!strcmp(pool->group[pool->doc[i].group], d->group[g])) p->shot[p->n++] = i;
        if (p->n < s->shots)
            return err_set(e, "--shots: %" PRIu32 ", but there are just %" PRIu32 " examples for %s",
                           s->shots, p->n, d->group[g]);
    }
    return 0;
}

static void put_choice(Text *t, const Docs *d, size_t choice) {
    put(t, " ", 1);
    put(t, d->text.s + d->choice[choice].at, d->choice[choice].n);
}

// All that stands before the choices of a question
static void put_context(Text *t, const Set *s, size_t doc) {
    const Docs *d = &s->docs, *pool = &s->pool;
    const Doc *q = &d->doc[doc];
    const Shots *pick = shots_of(s, doc);
    put(t, s->task->before, strlen(s->task->before));
    for (const char *c = d->group[q->group]; s->task->after && *c; c++) put(t, *c == '_' ? " " : c, 1);
    if (s->task->after) put(t, s->task->after, strlen(s->task->after));
    for (uint32_t i = 0; i < pick->n; i++) {
        const Doc *shot = &pool->doc[pick->shot[i]];
        put(t, pool->text.s + shot->query, shot->query_n);
        put_choice(t, pool, shot->choice + shot->gold);
        put(t, "\n\n", 2);
    }
    put(t, d->text.s + q->query, q->query_n);
}

// The SHA-256 of all that is asked, and what is right: two results with one hash answer the same questions.
static int prompts_hash(Set *s, Err *e) {
    Sha256 sum;
    Text t = {0};
    sha256_init(&sum);
    for (size_t i = 0; i < s->docs.n && !t.failed; i++) {
        const Doc *q = &s->docs.doc[i];
        t.n = 0;
        put_context(&t, s, i);
        for (size_t k = q->choice; k < q->choice + q->choices; k++) {
            put(&t, s->docs.choice[k].right ? "\1" : "", 1);
            put_choice(&t, &s->docs, k);
        }
        put(&t, "\n", 2);
        if (!t.failed) sha256_add(&sum, t.s, t.n);
    }
    sha256_end(&sum, s->prompts);
    free(t.s);
    return t.failed ? err_set(e, "no memory for a prompt of %zu bytes", t.n) : 0;
}

// ---- bench: tokens ----------------------------------------------------------------------------------------

typedef struct { size_t at, n; } Span;
typedef struct {                      // a set and a model that is asked it, all in that one's tokens
    const Set *set;
    double *ll;                       // of the set, this model's
    Loaded x;
    int32_t *tok;
    size_t n, room, scratch_room, P;  // P: the model's context
    void *scratch;
    Span *question, *choice;          // (docs.n), (docs.choices): in tok
    size_t cut, first_cut;            // questions that the context cuts, and the first of them
    size_t rows, seq;                 // of the batch
    int32_t *batch, *len, *past;      // (rows,seq), (rows), (rows)
    size_t *held;                     // (rows) positions of the cache that hold the shared beginning
    size_t shared, leader;            // tokens that the run at hand shares; a question that begins with them
    int32_t *row, *target;            // of each token whose likelihood is asked for: packed row, the token,
    size_t *owner, packed, wanted;    // the choice that it belongs to; tokens in the batch, and asked for
    double *loss;
} Asked;

static void asked_free(Asked *a) {
    free(a->tok), free(a->scratch), free(a->question), free(a->choice);
    free(a->batch), free(a->held), free(a->loss);
    unload(&a->x);
}

static int encode(Asked *a, const char *s, size_t n, size_t *ids, Err *e) {
    const Tokenizer *t = &a->x.k.tok;
    *ids = 0;
    if (grow(&a->tok, &a->room, a->n + tokenizer_most(t, n) + 1, sizeof *a->tok, e) ||
        grow(&a->scratch, &a->scratch_room, tokenizer_encode_size(t, n), 1, e)) return -1;
    if (n > 0) *ids = tokenizer_encode(t, (const uint8_t *)s, n, false, a->tok + a->n, a->scratch);
    return 0;
}

// Tokens to leave out at the left so that the last choice token is predicted from at most P tokens
static size_t cut_of(const Asked *a, size_t doc, size_t choice) {
    size_t n = a->question[doc].n + a->choice[choice].n;
    return n > a->P + 1 ? n - a->P - 1 : 0;
}

// White space at the question's end goes to its choices; a choice's tokens are those that question and choice
// together have more than the question alone.
static int ask_one(Asked *a, size_t doc, Text *c, Err *e) {
    const Docs *d = &a->set->docs;
    const Doc *q = &d->doc[doc];
    const Tokenizer *t = &a->x.k.tok;
    const char *path = d->text.s + q->path;
    size_t text, ids, n, worst = 0;
    int32_t bos = !strcmp(opt.bos, "off") ? -1 : !strcmp(opt.bos, "on") && t->bos < 0 ? t->eot : t->bos;
    c->n = 0;
    put_context(c, a->set, doc);
    text = c->n;
    Span *question = &a->question[doc];
    question->at = a->n;
    a->n += bos >= 0;
    if (c->failed) return err_set(e, "no memory for a prompt");
    if (encode(a, c->s, space_end(c->s, text), &n, e)) return -1;
    if (bos >= 0) a->tok[question->at] = bos;
    a->n += n;
    question->n = a->n - question->at;
    if (question->n == 0) return err_set(e, "%s:%" PRIu32 ": the question has no token", path, q->line);
    for (size_t k = q->choice; k < q->choice + q->choices; k++) {
        Span *choice = &a->choice[k];
        c->n = text;
        put_choice(c, d, k);
        if (c->failed) return err_set(e, "no memory for a prompt");
        if (encode(a, c->s, c->n, &ids, e)) return -1;
        *choice = (Span){a->n, ids > n ? ids - n : 0};
        if (choice->n < 1 || choice->n > a->P)
            return err_set(e, "%s:%" PRIu32 ": choice %zu has %zu tokens, want 1 to %zu, the model's context",
                           path, q->line, k - q->choice + 1, choice->n, a->P);
        memmove(a->tok + a->n, a->tok + a->n + n, choice->n * sizeof *a->tok);
        a->n += choice->n;
        if (cut_of(a, doc, k) > worst) worst = cut_of(a, doc, k);
    }
    if (worst && a->cut++ == 0) a->first_cut = doc;
    return 0;
}

// Questions `from` on
static int ask(Asked *a, size_t from, Err *e) {
    const Docs *d = &a->set->docs;
    Text c = {0};
    int rc = 0;
    a->question = calloc(d->n, sizeof *a->question);
    a->choice = calloc(d->choices, sizeof *a->choice);
    if (!a->question || !a->choice) rc = err_set(e, "no memory for %zu questions", d->n);
    for (size_t i = from; i < d->n && rc == 0; i++) rc = ask_one(a, i, &c, e);
    free(c.s);
    if (rc == 0 && a->cut) {
        const Doc *q = &d->doc[a->first_cut];
        fprintf(stderr, "eval: %zu of %zu questions are longer than the context of %zu tokens and lose their "
                "beginning, first %s:%" PRIu32 "\n", a->cut, d->n, a->P, d->text.s + q->path, q->line);
    }
    return rc;
}

// ---- bench: results and their log -------------------------------------------------------------------------
// The log's first line has the conditions. Then comes a line for each model and question, in order, with the
// very numbers that scores are computed from, so that a run that goes on from its log ends as one that never
// stopped; last the questions that the two models judge differently.

static size_t best_of(const double *x, size_t n) {            // ties: the first
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

// acc: is the likeliest choice the right one?  acc_norm: that with the likeliest character (code point)?
// mc2: the right choices' share of the probability.
static double doc_score(const Set *s, int m, const Doc *q, Metric metric) {
    double each[CHOICES], right = 0, all = 0;
    const double *ll = s->ll[m] + q->choice;
    const Choice *choice = s->docs.choice + q->choice;
    for (size_t k = 0; k < q->choices; k++) {
        const char *text = s->docs.text.s + choice[k].at;
        size_t points = 0;
        for (size_t i = 0; i < choice[k].n; i++) points += ((unsigned char)text[i] & 0xC0) != 0x80;
        each[k] = metric == ACC_NORM ? ll[k] / (double)points : ll[k];
    }
    size_t best = best_of(each, q->choices);
    if (metric != MASS) return best == q->gold;
    for (size_t k = 0; k < q->choices; k++) {
        double p = exp(each[k] - each[best]);
        all += p;
        if (choice[k].right) right += p;
    }
    return right / all;
}

static void put_conditions(Text *t, const Bench *b) {
    put_format(t, "{\"bench\": \"%s\", \"model\": \"%s\", \"vs\": \"%s\", \"base\": \"%s\", \"bos\": \"%s\", "
               "\"tasks\": [", TUNE_VERSION, b->sha[0], b->sha[1], b->base, opt.bos);
    for (const Set *s = b->set; s < b->set + b->sets; s++)
        put_format(t, "%s{\"task\": \"%s\", \"version\": \"%s\", \"shots\": %" PRIu32 ", \"n\": %zu, "
                   "\"prompts\": \"%s\"}", s > b->set ? ", " : "", s->task->name, s->task->version, s->shots,
                   s->docs.n, s->prompts);
    put(t, "]}", 2);
}

// A question is scored: its numbers become what the log can hold of them.
static int doc_done(Bench *b, const Set *s, int m, size_t doc, Err *e) {
    const Doc *q = &s->docs.doc[doc];
    double *ll = s->ll[m] + q->choice;
    Text t = {0};
    for (size_t k = 0; k < q->choices; k++) {
        char number[64];
        snprintf(number, sizeof number, "%.9g", ll[k]);
        ll[k] = strtod(number, NULL);
        put_format(&t, "%s%s", k ? ", " : "", number);
        if (isfinite(ll[k])) continue;
        free(t.s);
        return err_set(e, "%s: the log-likelihood of %s:%" PRIu32 " is %s: the model computes no numbers",
                       b->path[m], s->docs.text.s + q->path, q->line, number);
    }
    bool failed = t.failed;
    if (!failed)
        log_line(b->log, "{\"task\": \"%s\", \"model\": %d, \"item\": %zu, \"group\": \"%s\", \"ll\": [%s], "
                 "\"pred\": %zu, \"gold\": %zu}", s->task->name, m, doc, s->docs.group[q->group], t.s,
                 best_of(ll, q->choices), q->gold);
    free(t.s);
    return failed ? err_set(e, "no memory for a line of the log") : 0;
}

// A log's line of b->done, the next question
static int log_take(Bench *b, const char *line, size_t n, Err *e) {
    int m = (int)(b->done / b->docs);
    size_t at = b->done % b->docs;
    Set *s = b->set;
    while (at - s->before >= s->docs.n) s++;
    const Doc *q = &s->docs.doc[at - s->before];
    Json j;
    if (json_parse(&j, opt.log, (uint32_t)b->done + 2, (const uint8_t *)line, n, e)) return -1;
    uint32_t item = json_get(&j, 0, "item"), ll = json_get(&j, 0, "ll");
    bool good = item && ll && j.node[item].number == (double)(at - s->before) &&
                j.node[ll].kind == JSON_ARRAY && j.node[ll].count == q->choices;
    for (size_t k = 0; good && k < q->choices; k++) {
        good = j.node[ll + 1 + k].kind == JSON_NUMBER && isfinite(j.node[ll + 1 + k].number);
        s->ll[m][q->choice + k] = j.node[ll + 1 + k].number;
    }
    json_free(&j);
    b->done++;
    return good ? 0 : err_set(e, "%s:%zu: is not what this run would write there\nhint: no --resume begins it "
                              "anew", opt.log, b->done + 1);
}

// Of a stopped run's log the lines that are whole and no flips; then it is as if this run had written them.
static int log_read(Bench *b, const Text *conditions, Err *e) {
    uint8_t *data;
    size_t n, kept = conditions->n + 1, k = 0;
    if (file_read(opt.log, FILE_MAX, &data, &n, e)) return -1;
    const char *log = (const char *)data, *end;
    while (k < n && k < conditions->n && log[k] == conditions->s[k]) k++;
    int rc = 0;
    if (k < conditions->n || log[k] != '\n') {
        while (k > 0 && (log[k - 1] != ' ' || log[k] != '"')) k--;        // back to the name of what differs
        rc = err_set(e, "%s:1: has %.90s where this run has %.90s\nhint: another --log, or no --resume",
                     opt.log, log + k, conditions->s + k);
    }
    while (rc == 0 && b->done < b->docs * (size_t)b->models && (end = memchr(log + kept, '\n', n - kept))) {
        rc = log_take(b, log + kept, (size_t)(end - log) - kept, e);
        kept = (size_t)(end - log) + 1;
    }
    Writer *w = rc ? NULL : writer_open(opt.log, e);
    if (!w) rc = -1;
    else if (writer_put(w, data, kept, e)) rc = -1, writer_close(w, false, &(Err){""});
    else rc = writer_close(w, true, e);
    free(data);
    return rc;
}

static int log_begin(Bench *b, Err *e) {
    Text t = {0};
    put_conditions(&t, b);
    int rc = t.failed ? err_set(e, "no memory for the log") : 0;
    if (rc == 0 && opt.resume) rc = log_read(b, &t, e);
    if (rc == 0) rc = log_open(&b->log, opt.log, opt.resume, e);
    if (rc == 0 && !opt.resume) log_line(b->log, "%s", t.s);
    free(t.s);
    return rc;
}

// ---- bench: scoring ---------------------------------------------------------------------------------------
// Rows 1 to R of the batch are questions. What a run of questions begins with is computed once, in row 0, and
// copied; a question is computed once, with its first choice, then its other choices one after the other over
// the same cache, all questions' second choices together, and so on. No bit depends on this: a row's numbers
// don't depend on its company, nor on how much of it came from the cache.

static void row_begin(Asked *a, size_t r, size_t past) {
    a->len[r] = 0;
    a->past[r] = (int32_t)past;
}

// Appends tokens to row r, and returns the packed row of the first. Rows are filled in ascending order.
static size_t row_add(Asked *a, size_t r, const int32_t *tok, size_t n) {
    memcpy(a->batch + r * a->seq + a->len[r], tok, n * sizeof *tok);
    a->len[r] += (int32_t)n;
    a->packed += n;
    return a->packed - n;
}

static void want(Asked *a, size_t packed, int32_t target, size_t choice) {
    a->row[a->wanted] = (int32_t)packed;
    a->target[a->wanted] = target;
    a->owner[a->wanted++] = choice;
}

// One forward pass of rows 0 to B-1. Each choice's likelihoods are added in the order of its tokens.
static int pass(Asked *a, size_t B, Err *e) {
    Fault f;
    Batch b = {a->batch, NULL, a->len, a->past, B, a->seq};
    if (a->packed && model_forward(&a->x.m, &b, &f)) return err_fault(e, a->x.k.path, &f);
    if (a->wanted) model_losses(&a->x.m, a->row, a->target, a->wanted, a->loss);
    for (size_t i = 0; i < a->wanted; i++) a->ll[a->owner[i]] -= a->loss[i];
    a->packed = a->wanted = 0;
    return 0;
}

// Choice k of a question into row r; before it the question, if the cache has it not, cut as this choice
// wants it: the choices that follow and are cut alike share it.
static void choice_add(Asked *a, size_t r, size_t doc, size_t k) {
    const Doc *q = &a->set->docs.doc[doc];
    Span p = a->question[doc], choice = a->choice[k];
    size_t cut = cut_of(a, doc, k), past = p.n - cut, end = q->choice + q->choices;
    bool begin = k == q->choice || cut_of(a, doc, k - 1) != cut;
    if (begin) past = cut == 0 ? a->shared : 0;
    if (begin && a->held[r] != past) {
        if (past) model_cache_copy(&a->x.m, 0, r, past);
        a->held[r] = past;
    }
    row_begin(a, r, past);
    if (begin) {
        size_t n = p.n - cut - past, last = row_add(a, r, a->tok + p.at + cut + past, n) + n - 1;
        for (size_t j = k; j < end && cut_of(a, doc, j) == cut; j++) want(a, last, a->tok[a->choice[j].at], j);
    }
    size_t first = row_add(a, r, a->tok + choice.at, choice.n - 1);
    for (size_t i = 1; i < choice.n; i++) want(a, first + i - 1, a->tok[choice.at + i], k);
}

// Questions doc to doc + n - 1
static int batch_score(Asked *a, size_t doc, size_t n, Err *e) {
    const Doc *d = a->set->docs.doc + doc;
    size_t most = 0;
    for (size_t i = 0; i < n; i++) most = d[i].choices > most ? d[i].choices : most;
    row_begin(a, 0, 0);
    for (size_t k = 0; k < most; k++) {
        for (size_t i = 0; i < n; i++) {
            row_begin(a, i + 1, 0);
            if (k < d[i].choices) choice_add(a, i + 1, doc + i, d[i].choice + k);
        }
        if (pass(a, n + 1, e)) return -1;
    }
    return 0;
}

// Questions in a row of the same group, from doc on; and into shared how many of their first tokens they have
// in common, if the context leaves them whole. Each keeps at least one for itself.
static size_t run_of(Asked *a, size_t doc) {
    const Docs *d = &a->set->docs;
    size_t n = 0, found = 0, whole, k;
    a->shared = 0;
    for (size_t i = doc; i < d->n && d->doc[i].group == d->doc[doc].group; i++, n++) {
        const Doc *q = &d->doc[i];
        Span p = a->question[i];
        for (whole = 0; whole < q->choices && cut_of(a, i, q->choice + whole) == 0;) whole++;
        if (whole < q->choices) continue;
        if (found++ == 0) a->leader = i, a->shared = p.n - 1;
        const int32_t *leader = a->tok + a->question[a->leader].at;
        for (k = 0; k < a->shared && k + 1 < p.n && a->tok[p.at + k] == leader[k];) k++;
        a->shared = k;
    }
    if (n == 1) a->shared = 0;
    return n;
}

// Row 0 reads the beginning that a run shares, a batch's width at a time.
static int shared_read(Asked *a, Err *e) {
    const int32_t *tok = a->tok + a->question[a->leader].at;
    memset(a->held, 0, a->rows * sizeof *a->held);
    for (size_t at = 0, n; at < a->shared; at += n) {
        n = a->shared - at < a->seq ? a->shared - at : a->seq;
        row_begin(a, 0, at);
        row_add(a, 0, tok + at, n);
        if (pass(a, 1, e)) return -1;
    }
    return 0;
}

// The widest that any pass will be from question `doc` on, into seq; returns the longest that any question is
// with a choice.
static size_t asked_measure(Asked *a, size_t doc) {
    size_t cached = a->seq = 1;
    for (size_t end = doc; doc < a->set->docs.n; doc++) {
        const Doc *q = &a->set->docs.doc[doc];
        if (doc == end) end += run_of(a, doc);
        for (size_t c = q->choice; c < q->choice + q->choices; c++) {
            size_t cut = cut_of(a, doc, c), whole = a->question[doc].n + a->choice[c].n - 1 - cut;
            size_t wide = cut ? whole : whole - a->shared;
            if (a->seq < wide) a->seq = wide;
            if (cached < whole) cached = whole;
        }
    }
    return cached;
}

// Memory for at most --batch questions at once, fewer where more would need over 1 GiB; and the weights
static int asked_prepare(Asked *a, size_t cached, Err *e) {
    Plan least, p;
    Fault f;
    Shape two = {.rows = 2, .seq = a->seq, .cached = cached,
                 .threads = opt.threads ? (int)opt.threads : cores()}, all = two;
    for (all.rows = (size_t)opt.batch + 1;; all.rows = all.rows / 2 + 1) {
        if (model_plan(&least, &a->x.k.cfg, &two, &f) || model_plan(&p, &a->x.k.cfg, &all, &f))
            return err_fault(e, "memory plan", &f);
        if (all.rows == 2 || p.bytes - least.bytes <= MEMORY_MAX) break;
    }
    size_t rows = a->rows = all.rows, most = rows * (a->seq + CHOICES);
    a->batch = calloc(rows * a->seq + 2 * rows + 2 * most, sizeof *a->batch);
    a->held = calloc(rows + most, sizeof *a->held);
    a->loss = calloc(most, sizeof *a->loss);
    if (!a->batch || !a->held || !a->loss)
        return err_set(e, "no memory for %zu rows of %zu tokens", rows, a->seq);
    a->len = a->batch + rows * a->seq;
    a->past = a->len + rows;
    a->row = a->past + rows;
    a->target = a->row + most;
    a->owner = a->held + rows;
    return model_load(&a->x.m, &a->x.block, &a->x.k, &all, e);
}

// What the log does not have yet of a set by one model
static int set_score(Bench *b, const Set *s, int m, Err *e) {
    Asked a = {.set = s, .ll = s->ll[m]};
    size_t known = (size_t)m * b->docs + s->before, i = b->done > known ? b->done - known : 0;
    if (i >= s->docs.n) return 0;
    int rc = load(&a.x, b->path[m], e);
    a.P = (size_t)a.x.k.cfg.context;
    if (rc == 0) rc = ask(&a, i, e) || asked_prepare(&a, asked_measure(&a, i), e) ? -1 : 0;
    for (size_t end = i, k; i < s->docs.n && rc == 0; i += k) {
        if (i == end) {
            end += run_of(&a, i);
            if ((rc = shared_read(&a, e))) break;
        }
        k = end - i < a.rows - 1 ? end - i : a.rows - 1;
        rc = batch_score(&a, i, k, e);
        for (size_t j = i; j < i + k && rc == 0; j++) rc = doc_done(b, s, m, j, e);
        if (rc == 0) progress(s->task->name, i + k, s->docs.n);
    }
    asked_free(&a);
    return rc;
}

// ---- bench: report ----------------------------------------------------------------------------------------

static bool in_area(const char *subjects, const char *group) {
    size_t n = strlen(group);
    for (const char *at = subjects; (at = strstr(at, group)); at++)
        if (at[-1] == ' ' && at[n] == ' ') return true;
    return false;
}

// The questions' scores, of one group or (group SIZE_MAX) of all
static size_t scores_of(const Set *s, int m, Metric metric, size_t group, double *out) {
    size_t n = 0;
    for (const Doc *q = s->docs.doc; q < s->docs.doc + s->docs.n; q++)
        if (group == SIZE_MAX || q->group == group) out[n++] = doc_score(s, m, q, metric);
    return n;
}

static void number_print(double x, const char *format, const char *unknown) {
    if (isnan(x)) printf("%s", unknown);
    else printf(format, x);
}

static void mean_print(Bench *b, const Set *s, const char *name, Metric metric, Mean m) {
    const Task *t = s->task;
    if (opt.json)
        printf("%s{\"task\": \"%s\", \"name\": \"%s\", \"version\": \"%s\", \"shots\": %" PRIu32 ", \"n\": %zu, "
               "\"prompts\": \"%s\", \"metric\": \"%s\", \"value\": %.9g, \"stderr\": ", b->comma, t->name,
               name, t->version, s->shots, m.n, s->prompts, METRIC[metric], m.mean);
    else printf("%-36.36s %7s %5" PRIu32 " %6zu %-8s %6.4f ", name, t->version, s->shots, m.n, METRIC[metric],
                m.mean);
    number_print(m.error, opt.json ? "%.9g" : "%6.4f", opt.json ? "null" : "     -");
    printf(opt.json ? "}" : "\n");
    b->comma = ", ";
}

// One metric of one set by one model: subjects, areas, all. x (docs.n), each and part (groups) are scratch.
static void metric_print(Bench *b, const Set *s, int m, Metric metric, double *x, Mean *each, Mean *part) {
    const Docs *d = &s->docs;
    Mean macro = {0, (double)NAN, d->n};
    for (size_t g = 0; g < d->groups; g++) {
        each[g] = mean_of(x, scores_of(s, m, metric, g, x));
        macro.mean += each[g].mean / (double)d->groups;
        mean_print(b, s, d->group[g], metric, each[g]);
    }
    if (d->groups < 2) return;
    for (size_t a = 0, n = 0; a < AREAS; a++, n = 0) {
        for (size_t g = 0; g < d->groups; g++)
            if (in_area(AREA[a].subjects, d->group[g])) part[n++] = each[g];
        if (n > 0) mean_print(b, s, AREA[a].name, metric, pooled(part, n));
    }
    mean_print(b, s, s->task->name, metric, pooled(each, d->groups));
    mean_print(b, s, "mean of subjects", metric, macro);
}

static void model_print(Bench *b, int m, double *x, Mean *each) {
    b->comma = "";
    if (opt.json)
        printf("{\"model\": %d, \"model_sha256\": \"%s\", \"base_sha256\": \"%s\", \"bos\": \"%s\", \"results\": [",
               m, b->sha[m], b->base, opt.bos);
    else printf("%s%s\nsha256 %s\n%-36s %7s %5s %6s %-8s %6s %6s\n", m ? "\n" : "", b->path[m], b->sha[m],
                "task", "version", "shots", "n", "metric", "value", "stderr");
    for (const Set *s = b->set; s < b->set + b->sets; s++)
        for (Metric metric = s->task->first; metric <= s->task->last; metric++)
            metric_print(b, s, m, metric, x, each, each + GROUPS);
    if (opt.json) printf("]}\n");
}

static void compared_print(Bench *b, const Set *s, const char *name, Metric metric, const Compared *c) {
    const char *known = opt.json ? "%.9g" : "%6.4f", *unknown = opt.json ? "null" : "     -";
    if (opt.json)
        printf("%s{\"task\": \"%s\", \"name\": \"%s\", \"metric\": \"%s\", \"n\": %zu, \"difference\": %.9g, "
               "\"low\": %.9g, \"high\": %.9g, \"only_first\": %zu, \"only_second\": %zu, \"p\": ", b->comma,
               s->task->name, name, METRIC[metric], c->n, c->difference, c->low, c->high, c->only[0],
               c->only[1]);
    else printf("%-22.22s %-8s %7.4f %8.4f to %7.4f %6zu %6zu ", name, METRIC[metric], c->difference, c->low,
                c->high, c->only[0], c->only[1]);
    number_print(c->judged ? c->p : (double)NAN, known, unknown);
    printf(opt.json ? "}" : "\n");
    b->comma = ", ";
}

// In lines of at most 80 columns
static void sentence_print(const char *s) {
    for (int at = 0, n; *s; s += n, s += *s == ' ') {
        n = (int)strcspn(s, " ");
        bool fits = at + 1 + n <= 80;
        if (at > 0) putchar(fits ? ' ' : '\n');
        printf("%.*s", n, s);
        at = at > 0 && fits ? at + 1 + n : n;
    }
    putchar('\n');
}

// Questions that the models judge differently: all into the log, the first few onto the screen
static void flips(const Bench *b, const Set *s, Metric metric, const double *x, const double *y) {
    static const char *const WHO[] = {"first", "second"};
    for (int m = 0; m < 2; m++) {
        Text t = {0};
        size_t n = 0;
        put_format(&t, "%s, %s: only the %s model is right on", s->task->name, METRIC[metric], WHO[m]);
        for (size_t i = 0; i < s->docs.n; i++) {
            const Doc *q = &s->docs.doc[i];
            const char *path = s->docs.text.s + q->path, *slash = strrchr(path, '/');
            if (x[i] == y[i] || (x[i] > y[i]) == m) continue;
            log_line(b->log, "{\"flip\": \"%s\", \"metric\": \"%s\", \"item\": %zu, \"group\": \"%s\", \"line\": %"
                     PRIu32 ", \"right\": \"%s\"}", s->task->name, METRIC[metric], i, s->docs.group[q->group],
                     q->line, WHO[m]);
            if (n++ < 8) put_format(&t, " %.200s:%" PRIu32, slash ? slash + 1 : path, q->line);
        }
        if (n > 8) put_format(&t, " and %zu more", n - 8);
        if (n && !t.failed && !opt.json && metric == s->task->last) sentence_print(t.s);
        free(t.s);
    }
}

// The two models question by question: by subject in a task's last metric, and together in each
static int vs_print(Bench *b, double *x, Err *e) {
    Text said = {0};
    double *y = x + b->docs;
    b->comma = "";
    if (opt.json) printf("{\"compared\": [");
    else printf("\n%-22s %-8s %7s %19s %6s %6s %6s\n", "second minus first", "metric", "differ.",
                "95 % interval", "only 1", "only 2", "p");
    for (const Set *s = b->set; s < b->set + b->sets; s++) {
        size_t subjects = s->docs.groups > 1 ? s->docs.groups : 0, metrics = s->task->last - s->task->first + 1;
        Compared c = {0};
        char sentence[320], metric_of[64];
        for (size_t i = 0; i < subjects + metrics; i++) {
            bool all = i >= subjects;
            Metric metric = all ? s->task->first + (Metric)(i - subjects) : s->task->last;
            scores_of(s, 0, metric, all ? SIZE_MAX : i, x);
            size_t n = scores_of(s, 1, metric, all ? SIZE_MAX : i, y);
            if (compare(&c, x, y, n, e)) { free(said.s); return -1; }
            compared_print(b, s, all ? s->task->name : s->docs.group[i], metric, &c);
        }
        snprintf(metric_of, sizeof metric_of, "%s of %s", METRIC[s->task->last], s->task->name);
        conclude(sentence, sizeof sentence, metric_of, &c);
        put_format(&said, opt.json ? "%s\"%s\"" : "%s%s", said.n == 0 ? "" : opt.json ? ", " : " ", sentence);
    }
    if (opt.json) printf("], \"conclusion\": [%s]}\n", said.s ? said.s : "");
    else if (said.s) sentence_print(said.s);
    free(said.s);
    for (const Set *s = b->set; s < b->set + b->sets; s++)
        for (Metric metric = s->task->first; metric <= s->task->last && metric != MASS; metric++) {
            scores_of(s, 0, metric, SIZE_MAX, x);
            scores_of(s, 1, metric, SIZE_MAX, y);
            flips(b, s, metric, x, y);
        }
    return 0;
}

static int report(Bench *b, Err *e) {
    double *x = calloc(2 * b->docs, sizeof *x);
    Mean *each = calloc(2 * GROUPS, sizeof *each);
    int rc = x && each ? 0 : err_set(e, "no memory for %zu results", b->docs);
    for (int m = 0; m < b->models && rc == 0; m++) model_print(b, m, x, each);
    if (rc == 0 && !opt.json) printf("\nSHA-256 of the prompts\n");
    for (const Set *s = b->set; s < b->set + b->sets && rc == 0 && !opt.json; s++)
        printf("%-15s %s\n", s->task->name, s->prompts);
    if (b->models > 1 && rc == 0) rc = vs_print(b, x, e);
    free(x);
    free(each);
    return rc;
}

// ---- bench: the run ---------------------------------------------------------------------------------------

static bool is_file(const char *path) {           // or a folder?
    const char *dot = strrchr(path, '.');
    return dot && (!strcmp(dot, ".csv") || !strcmp(dot, ".json") || !strcmp(dot, ".jsonl"));
}

// Adds what word=PATH names to a set: a file, or of a folder the files of MMLU's subjects that it has.
static int set_load(Set *s, const char *path, Err *e) {
    size_t before = s->docs.n, limit = (size_t)opt.limit;
    if (!s->task->after || is_file(path)) return docs_load(&s->docs, s->task, path, limit, e);
    for (int i = 0; i < 2 * AREAS; i++)
        for (const char *at = AREA[i / 2].subjects + 1, *end; (end = strchr(at, ' ')); at = end + 1) {
            char name[4096];
            int n = snprintf(name, sizeof name, "%s%s/%.*s_test.csv", path, i % 2 ? "" : "/test", (int)(end - at), at);
            FILE *f = n < (int)sizeof name ? fopen(name, "rb") : NULL;
            if (f) fclose(f);
            if (f && docs_load(&s->docs, s->task, name, limit, e)) return -1;
        }
    return s->docs.n > before ? 0 : err_set(e, "%s: has no SUBJECT_test.csv of MMLU, nor has its test/", path);
}

// Examples are a file, or for MMLU's CSV a folder with SUBJECT_dev.csv: without --examples dev/ beside test/.
static int pool_load(Set *s, Err *e) {
    const Docs *d = &s->docs;
    const char *path = opt.examples;
    if (!path && !s->task->after)
        return err_set(e, "--shots: %s needs --examples FILE\nhint: its train split", s->task->name);
    if (!s->task->after || (path && is_file(path))) return docs_load(&s->pool, s->task, path, 0, e);
    for (size_t g = 0, i = 0; g < d->groups; g++) {
        char name[4096];
        while (d->doc[i].group != g) i++;         // groups are numbered as they come up
        const char *file = d->text.s + d->doc[i].path, *slash = strrchr(file, '/');
        int n = path ? snprintf(name, sizeof name, "%s/%s_dev.csv", path, d->group[g])
                     : snprintf(name, sizeof name, "%.*s../dev/%s_dev.csv",
                                slash ? (int)(slash + 1 - file) : 0, file, d->group[g]);
        if (n >= (int)sizeof name) return err_set(e, "%.80s...: too long a path", name);
        if (docs_load(&s->pool, s->task, name, 0, e)) return -1;
    }
    return 0;
}

// A word of the command line, task=PATH; truthfulqa is two tasks.
static int word_take(Bench *b, const char *word, Err *e) {
    size_t n = strcspn(word, "=");
    bool known = false;
    for (const Task *t = TASK; t < TASK + TASKS; t++) {
        Set *s = b->set;
        if (word[n] != '=' || strlen(t->word) != n || memcmp(t->word, word, n)) continue;
        while (s < b->set + b->sets && s->task != t) s++;
        if (s == b->set + b->sets) b->set[b->sets++].task = t;
        if (set_load(s, word + n + 1, e)) return -1;
        known = true;
    }
    return known ? 0 : err_set(e, "'%s', want hellaswag=FILE, arc_easy=FILE, arc_challenge=FILE, mmlu=DIR, "
                               "mmlu_cloze=DIR, truthfulqa=FILE or choices=FILE", word);
}

static int bench_load(Bench *b, Err *e) {
    for (Set *s = b->set; s < b->set + b->sets; s++) {
        s->shots = s->task->draw == NONE ? 0 : (uint32_t)opt.shots;
        s->before = b->docs;
        b->docs += s->docs.n;
        for (int m = 0; m < b->models; m++)
            if (!(s->ll[m] = calloc(s->docs.choices, sizeof **s->ll)))
                return err_set(e, "no memory for %zu questions", s->docs.n);
        if ((s->shots && pool_load(s, e)) || shots_pick(s, e) || prompts_hash(s, e)) return -1;
    }
    for (int m = 0; m < b->models; m++)
        if (log_apart(b->path[m], e) || sha256_file(b->path[m], b->sha[m], e)) return -1;
    return opt.base && (log_apart(opt.base, e) || sha256_file(opt.base, b->base, e)) ? -1 : 0;
}

static int bench_check(int words, Err *e) {
    if (strcmp(opt.bos, "auto") && strcmp(opt.bos, "on") && strcmp(opt.bos, "off"))
        return err_set(e, "--bos: '%s', want auto, on or off", opt.bos);
    if (opt.data || opt.text || opt.template)
        return err_set(e, "bench takes its questions as words, task=FILE, and no --data, --text or --template");
    if (opt.resume && !opt.log) return err_set(e, "--resume goes on from a --log, want --log FILE");
    if (words < 1) return err_set(e, "want tasks, such as hellaswag=FILE\nhint: ./eval --help");
    return 0;
}

static int eval_bench(const char *const *word, int words, Err *e) {
    Bench b = {.models = opt.vs ? 2 : 1, .path = {opt.model, opt.vs}};
    Err unused;                       // the log's, after another error
    int rc = bench_check(words, e);
    for (int i = 0; i < words && rc == 0; i++) rc = word_take(&b, word[i], e);
    if (rc == 0) rc = bench_load(&b, e) || log_begin(&b, e) ? -1 : 0;
    for (int m = 0; m < b.models; m++)
        for (const Set *s = b.set; s < b.set + b.sets && rc == 0; s++) rc = set_score(&b, s, m, e);
    if (rc == 0) rc = report(&b, e);
    if (log_close(b.log, rc ? &unused : e)) rc = -1;
    for (Set *s = b.set; s < b.set + b.sets; s++) {
        free(s->ll[0]), free(s->ll[1]), free(s->pick);
        docs_free(&s->docs);
        docs_free(&s->pool);
    }
    return rc;
}

// ---- eval loss --------------------------------------------------------------------------------------------

typedef struct { double nats; size_t targets, bytes, rows; } Loss;

// Bytes of what is predicted: with them, models of different tokenizers can be compared
static size_t taught_bytes(const Example *x, const Tokenizer *t) {
    size_t sum = 0;
    for (uint32_t i = 1; i < x->len; i++) {
        size_t n;
        tokenizer_decode(t, x->tok[i], &n);
        if (x->taught[i] && t->flag[x->tok[i]] != TOKEN_SPECIAL) sum += n;
    }
    return sum;
}

static int loss_of(const char *path, const char *const *text, int texts, Loss *result, Err *e) {
    int rc = -1;
    Loaded x = {0};
    Rows rows = {0};
    Examples ex = {0};
    *result = (Loss){0};
    if (load(&x, path, e)) goto out;
    size_t seq = (size_t)x.k.cfg.context + 1;
    if (opt.data) {
        if (rows_load(&rows, opt.data, true, e)) goto out;
        rows.n = limited(rows.n);
        if (examples_make(&ex, &rows, x.template, &x.k.tok, seq, TOO_LONG_REFUSE, TEACH_ANSWERS, e)) goto out;
    } else if (examples_text(&ex, text, texts, &x.k.tok, seq, e)) goto out;
    size_t n = limited(ex.n), batch = (size_t)opt.batch < n ? (size_t)opt.batch : n;
    if (prepare(&x, batch, ex.longest - 1, 0, e)) goto out;
    for (size_t i = 0; i < n; i += batch) {
        const Example *pick[4096];
        size_t k = n - i < batch ? n - i : batch;
        for (size_t j = 0; j < k; j++) {
            pick[j] = &ex.ex[i + j];
            result->bytes += taught_bytes(pick[j], &x.k.tok);
        }
        result->targets += batch_fill(&x.batch, pick, k);
        Fault f;
        if (model_forward(&x.m, &x.batch.view, &f)) { err_fault(e, path, &f); goto out; }
        model_loss(&x.m, &x.batch.view, 0.0f, &result->nats, NULL);
        progress("loss", i + k, n);
    }
    result->rows = n;
    rc = 0;
out:
    examples_free(&ex);
    rows_free(&rows);
    unload(&x);
    return rc;
}

static int eval_loss(const char *const *text, int texts, Err *e) {
    Loss r[2];
    const char *name[2] = {opt.model, opt.vs};
    if (!opt.data == !opt.text)
        return err_set(e, "want either --data FILE or --text FILE\nhint: ./eval --help");
    if (opt.log || opt.shots || opt.examples)
        return err_set(e, "--log, --shots and --examples are for answers, not for loss");
    for (int i = 0; i < (opt.vs ? 2 : 1); i++)
        if (loss_of(name[i], text, texts, &r[i], e)) return -1;
    if (!opt.json)
        printf("%-32s %8s %9s %10s %14s\n", "model", "targets", "loss", "perplexity", "bits per byte");
    for (int i = 0; i < (opt.vs ? 2 : 1); i++) {
        double mean = r[i].nats / (double)r[i].targets, bpb = r[i].nats / log(2.0) / (double)r[i].bytes;
        char bits[32] = "null";       // special tokens alone have no bytes
        if (r[i].bytes) snprintf(bits, sizeof bits, "%.9g", bpb);
        if (opt.json)
            printf("{\"model\": %d, \"rows\": %zu, \"targets\": %zu, \"loss\": %.9g, "
                   "\"bits_per_byte\": %s}\n", i, r[i].rows, r[i].targets, mean, bits);
        else printf("%-32.32s %8zu %9.4f %10.3f %14.4f\n", name[i], r[i].targets, mean, exp(mean), bpb);
    }
    return 0;
}

// ---- eval answers -----------------------------------------------------------------------------------------
// Greedy answers to many rows at once; in a conversation, to its last question. Where no reference answer has
// a line break, an answer also ends at its first: a base model that was never taught to end its answer is
// judged by its first line.

typedef struct {
    char *text;                       // the answer, white space at both ends removed
    size_t tokens;
    bool right;                       // equal to the reference, whose ends are trimmed too
} Answer;

typedef struct {
    Answer *answer;                   // (rows)
    size_t right, prompt_tokens, tokens;
    double seconds;
} Answers;

// The prompt of a row: the shots, each ended by an empty line instead of its end-of-turn, then the row up to
// {target}
static int prompt_make(Prompt *p, const Example *row, const Examples *shots, const Tokenizer *t, Err *e) {
    int32_t blank[8];
    uint64_t scratch[64];
    size_t blanks = 0, n = row->prompt;
    if (shots->n && tokenizer_encode_size(t, 2) <= sizeof scratch)
        blanks = tokenizer_encode(t, (const uint8_t *)"\n\n", 2, false, blank, scratch);
    for (size_t i = 0; i < shots->n; i++) n += shots->ex[i].len - 1 + blanks;
    p->n = 0;
    if (!(p->tok = malloc((n + 1) * sizeof *p->tok)))
        return err_set(e, "no memory for a prompt of %zu tokens", n);
    size_t bos = t->bos >= 0 ? 1 : 0;             // begin-of-text stands once, before all
    for (size_t i = 0; i < shots->n; i++) {
        size_t skip = i ? bos : 0, len = shots->ex[i].len - 1 - skip;
        memcpy(p->tok + p->n, shots->ex[i].tok + skip, len * sizeof *p->tok);
        memcpy(p->tok + p->n + len, blank, blanks * sizeof *p->tok);
        p->n += len + blanks;
    }
    size_t skip = shots->n ? bos : 0;
    memcpy(p->tok + p->n, row->tok + skip, (row->prompt - skip) * sizeof *p->tok);
    p->n += row->prompt - skip;
    return 0;
}

static char *trimmed(const uint8_t *s, size_t n, bool first_line) {
    while (n && strchr(" \t\r\n", *s)) { s++; n--; }
    const uint8_t *line = first_line ? memchr(s, '\n', n) : NULL;
    if (line) n = (size_t)(line - s);
    while (n && (s[n - 1] == 0 || strchr(" \t\r\n", s[n - 1]))) n--;
    char *copy = malloc(n + 1);
    if (copy) {
        memcpy(copy, s, n);
        copy[n] = 0;
    }
    return copy;
}

// Answers to rows p[0..n) together.
static int answer(Loaded *x, const Prompt *p, size_t n, bool first_line, Answer *out, Err *e) {
    static const Sampling greedy = {0.0f, 1, 1.0f, 1.0f};
    Generated *g = calloc(n, sizeof *g);
    if (!g) return err_set(e, "no memory for %zu answers", n);
    int rc = generate(&x->m, &x->k.tok, p, n, &greedy, 0, (size_t)opt.max_tokens, first_line, g, e);
    for (size_t i = 0; i < n && !rc; i++) {
        out[i] = (Answer){trimmed((const uint8_t *)g[i].text, g[i].bytes, first_line), g[i].tokens, false};
        if (!out[i].text) rc = err_set(e, "no memory for an answer");
    }
    for (size_t i = 0; i < n; i++) free(g[i].text);
    free(g);
    return rc;
}

static int answers_of(const char *path, const Rows *rows, const Rows *shot_rows, size_t n, bool first_line,
                      Answers *a, Err *e) {
    int rc = -1;
    Loaded x = {0};
    Examples ex = {0}, shots = {0};
    Prompt *p = calloc(n, sizeof *p);
    size_t longest = 0, batch = (size_t)opt.batch < n ? (size_t)opt.batch : n;
    double start = seconds();
    if (!p || !(a->answer = calloc(n, sizeof *a->answer))) {
        err_set(e, "no memory for %zu rows", n);
        goto out;
    }
    if (load(&x, path, e)) goto out;
    size_t context = (size_t)x.k.cfg.context;
    if (examples_make(&ex, rows, x.template, &x.k.tok, context, TOO_LONG_REFUSE, TEACH_NONE, e) ||
        (opt.shots && examples_make(&shots, shot_rows, x.template, &x.k.tok, context + 1, TOO_LONG_REFUSE,
                                    TEACH_ANSWERS, e))) goto out;
    for (size_t i = 0; i < n; i++) {
        if (prompt_make(&p[i], &ex.ex[i], &shots, &x.k.tok, e)) goto out;
        if (p[i].n > longest) longest = p[i].n;
        if (p[i].n > context) {
            err_set(e,
                    "%s:%" PRIu32
                    ": the prompt has %zu tokens, want at most the context of %zu\nhint: fewer --shots",
                    rows->path, rows->row[i].line, p[i].n, context);
            goto out;
        }
        a->prompt_tokens += p[i].n;
    }
    size_t cached = longest + (size_t)opt.max_tokens < context ? longest + (size_t)opt.max_tokens : context;
    if (prepare(&x, batch, longest, cached, e)) goto out;
    for (size_t i = 0; i < n; i += batch) {
        size_t k = n - i < batch ? n - i : batch;
        if (answer(&x, p + i, k, first_line, a->answer + i, e)) goto out;
        progress("answers", i + k, n);
    }
    for (size_t i = 0; i < n; i++) {
        char *want = trimmed((const uint8_t *)rows->row[i].output, strlen(rows->row[i].output), false);
        if (!want) { err_set(e, "no memory for an answer"); goto out; }
        a->answer[i].right = !strcmp(want, a->answer[i].text);
        a->right += a->answer[i].right;
        a->tokens += a->answer[i].tokens;
        free(want);
    }
    a->seconds = seconds() - start;
    rc = 0;
out:
    for (size_t i = 0; p && i < n; i++) free(p[i].tok);
    free(p);
    examples_free(&ex);
    examples_free(&shots);
    unload(&x);
    return rc;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// How often the most frequent answer would be right: what a model must beat to have learned anything. Of
// equally frequent ones the first in order of their bytes.
static int majority(const Rows *rows, size_t n, size_t *best, const char **answer, Err *e) {
    const char **text = malloc(n * sizeof *text);
    *best = 0;
    if (!text) return err_set(e, "no memory for %zu rows", n);
    for (size_t i = 0; i < n; i++) text[i] = rows->row[i].output;
    qsort(text, n, sizeof *text, by_text);
    for (size_t i = 0, same = 0; i < n; i++) {
        same = i > 0 && !strcmp(text[i], text[i - 1]) ? same + 1 : 1;
        if (same > *best) *best = same, *answer = text[i];
    }
    free(text);
    return 0;
}

static void log_answers(Log *log, const Rows *rows, size_t n, const Answers *a, int models) {
    for (size_t i = 0; log && i < n; i++) {
        const Row *r = &rows->row[i];
        const Turn *asked = &r->turn[r->turns - 2];
        char *q[5] = {json_quote(asked->text, strlen(asked->text)),
                      json_quote(asked->input, strlen(asked->input)),
                      json_quote(r->output, strlen(r->output)),
                      json_quote(a[0].answer[i].text, strlen(a[0].answer[i].text)),
                      models > 1 ? json_quote(a[1].answer[i].text, strlen(a[1].answer[i].text)) : NULL};
        if (q[0] && q[1] && q[2] && q[3])
            log_line(
                log,
                "{\"row\": %zu, \"instruction\": %s, \"input\": %s, \"reference\": %s, \"answer\": %s%s%s}",
                i, q[0], q[1], q[2], q[3], q[4] ? ", \"vs\": " : "", q[4] ? q[4] : "");
        for (int k = 0; k < 5; k++) free(q[k]);
    }
}

static int eval_answers(Err *e) {
    int rc = -1, models = opt.vs ? 2 : 1;
    Log *log = NULL;
    Err unused;                       // the log's, after another error
    Rows rows = {0}, shot_rows = {0};
    Answers a[2] = {{0}, {0}};
    const char *name[2] = {opt.model, opt.vs}, *most = "";
    size_t n = 0;
    if (!opt.data || opt.text)
        return err_set(e, "want --data FILE, held-out pairs, and no --text\nhint: ./eval --help");
    if (opt.shots && !opt.examples)
        return err_set(e, "--shots needs --examples FILE, whose first rows go into the prompt");
    if (rows_load(&rows, opt.data, true, e)) goto out;
    if (opt.shots && rows_load(&shot_rows, opt.examples, true, e)) goto out;
    if (opt.shots && (size_t)opt.shots > shot_rows.n) {
        err_set(e, "--shots: %" PRId64 ", want at most the %zu rows of %s", opt.shots, shot_rows.n,
                opt.examples);
        goto out;
    }
    const char *const read[] = {opt.data, opt.model, opt.vs, opt.base, opt.examples, opt.template};
    for (int i = 0; opt.log && i < 6; i++)
        if (read[i] && same_file(opt.log, read[i])) {
            err_set(e, "%s: is this run's %s as well, want another file for --log", opt.log, read[i]);
            goto out;
        }
    if (opt.log && log_open(&log, opt.log, false, e)) goto out;
    n = rows.n = limited(rows.n);
    if (opt.shots) shot_rows.n = (size_t)opt.shots;
    bool first_line = true;
    for (size_t i = 0; i < n; i++) first_line = first_line && !strchr(rows.row[i].output, '\n');
    for (int i = 0; i < models; i++)
        if (answers_of(name[i], &rows, &shot_rows, n, first_line, &a[i], e)) goto out;

    size_t base, both = 0, only[2] = {0, 0};
    if (majority(&rows, n, &base, &most, e)) goto out;
    for (size_t i = 0; i < n && models > 1; i++) {
        bool first = a[0].answer[i].right, second = a[1].answer[i].right;
        both += first && second;
        only[0] += first && !second;
        only[1] += second && !first;
    }
    double N = (double)n;
    if (!opt.json)
        printf("%-32s %12s %14s %14s %9s\n", "model", "exact match", "prompt tokens", "answer tokens",
               "seconds");
    for (int i = 0; i < models; i++)
        if (opt.json)
            printf("{\"model\": %d, \"rows\": %zu, \"shots\": %" PRId64
                   ", \"exact_match\": %.6f, \"majority\": %.6f}\n",
                   i, n, opt.shots, (double)a[i].right / N, (double)base / N);
        else
            printf("%-32.32s %12.3f %14.1f %14.1f %9.1f\n", name[i], (double)a[i].right / N,
                   (double)a[i].prompt_tokens / N, (double)a[i].tokens / N, a[i].seconds);
    if (!opt.json) {
        printf("%-32.32s %12.3f   always '%.30s'; %zu rows, %" PRId64 " shots\n", "majority answer",
               (double)base / N, most, n, opt.shots);
        if (models > 1) printf("both right %zu, only the first %zu, only the second %zu, neither %zu\n",
                               both, only[0], only[1], n - both - only[0] - only[1]);
    }
    log_answers(log, &rows, n, a, models);
    rc = 0;
out:
    if (log_close(log, rc ? &unused : e)) rc = -1;
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; a[i].answer && k < n; k++) free(a[i].answer[k].text);
        free(a[i].answer);
    }
    rows_free(&rows);
    rows_free(&shot_rows);
    return rc;
}

int main(int argc, char **argv) {
    Err e;
    const char *words[MAX_WORDS];
    int n = 0, rc = options_parse(OPTION, OPTIONS, argc, argv, words, MAX_WORDS, &n, &e);
    if (!rc && (opt.help || opt.version)) {
        if (opt.help) help();
        else printf("tune.c %s\n", TUNE_VERSION);
        return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
    }
    const char *what = n ? words[0] : "";
    bool bench = !strcmp(what, "bench");
    if (!rc && n > 1 && !opt.text && !bench)
        rc = err_set(&e, "'%s': a word that belongs to no option\nhint: ./eval --help", words[1]);
    if (!rc && strcmp(what, "loss") && strcmp(what, "answers") && !bench)
        rc = err_set(&e, "'%s', want loss, answers or bench first\nhint: ./eval --help", what);
    if (!rc && !opt.model) rc = err_set(&e, "want --model FILE\nhint: ./eval --help");
    words[0] = opt.text;
    if (!rc) rc = bench ? eval_bench(words + 1, n - 1, &e) : !strcmp(what, "loss") ? eval_loss(words, n, &e) : eval_answers(&e);
    if (!rc && fflush(stdout)) rc = err_set(&e, "cannot write the results to stdout");
    if (rc) fprintf(stderr, "eval: %s\n", e.msg);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

// eval.c -- the program that measures: did fine-tuning help? Every comparison of two models is on the same
// rows.
//
//     ./eval loss     how well a model predicts text, or the answers of pairs
//     ./eval answers  what it answers to held-out rows, how right that is, and what is wrong with the rest
#include "model.h"
#include "dev/score.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- options ----------------------------------------------------------------------------------------------

static struct {
    const char *model, *vs, *base, *data, *text, *template, *examples, *train, *words, *format, *log,
        *columns, *bad_rows;
    int64_t shots, stride, samples, seed, limit, max_tokens, batch, threads;
    double temperature;
    bool help, version, json;
} opt = {.max_tokens = 64, .batch = 32, .temperature = 0.8, .seed = 1, .bad_rows = "stop"};

static Option OPTION[] = {
    TEXT("--model", &opt.model, "FILE", "checkpoint to measure"),
    TEXT("--vs", &opt.vs, "FILE", "a second one, on the same rows"),
    TEXT("--base", &opt.base, "FILE", "the model that an adapter (train --lora) among these was trained on"),
    TEXT("--data", &opt.data, "FILE", "held-out rows, as train takes them"),
    TEXT("--columns", &opt.columns, "LIST", "what the file calls its columns, as train takes it"),
    TEXT("--bad-rows", &opt.bad_rows, "WHAT", "stop at the first wrong row, or skip them all"),
    TEXT("--text", &opt.text, "FILE", "loss: raw text instead; further files may follow as plain words"),
    TEXT("--template", &opt.template, "NAME|FILE",
         "alpaca, chatml, llama3, none, plain, or a file; otherwise the checkpoint's own, or plain"),
    INT("--stride", &opt.stride, 1, 1 << 20, "N",
        "loss: of --text, begin a new window each N tokens; otherwise each context, so that none overlap"),
    INT("--shots", &opt.shots, 0, 100, "N",
        "answers: put the first N rows of --examples in each prompt; with --vs, as a third line between "
        "the two without"),
    TEXT("--examples", &opt.examples, "FILE", "rows for --shots"),
    TEXT("--train", &opt.train, "FILE",
         "answers: the rows trained on, which say what words are known and taught; otherwise --examples"),
    TEXT("--words", &opt.words, "FILE", "answers: known words, instead of those of the rows trained on"),
    TEXT("--format", &opt.format, "PATTERN",
         "answers: what all must look like: labels, json, or text with * any, ? a character, # digits, "
         "@ letters; otherwise labels, if there are few"),
    INT("--samples", &opt.samples, 2, 1000, "N", "answers: also draw N for each row; do they agree?"),
    REAL("--temperature", &opt.temperature, 0, 100, "X", "of --samples"),
    INT("--seed", &opt.seed, 0, 1e15, "N", "of --samples"),
    INT("--limit", &opt.limit, 1, 1e9, "N", "only the first N rows"),
    INT("--max-tokens", &opt.max_tokens, 1, 1 << 20, "N", "answers: longest answer"),
    INT("--batch", &opt.batch, 1, 4096, "N", "rows at once; changes no result"),
    INT("--threads", &opt.threads, 1, 1024, "N", "otherwise all cores; changes no result"),
    TEXT("--log", &opt.log, "FILE", "each row's answers, scores and errors, or losses, as JSON Lines"),
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
           "  ./eval answers --model base.bin --vs tuned.bin --data held-out.json \\\n"
           "                 --shots 3 --examples train.json (base, base with shots, tuned)\n\n",
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

static int load_rows(Rows *rows, const char *path, Err *e) {
    const RowsHow how = {true, !strcmp(opt.bad_rows, "skip"), opt.columns};
    if (!how.skip_bad && strcmp(opt.bad_rows, "stop"))
        return err_set(e, "--bad-rows: '%s', want stop or skip", opt.bad_rows);
    if (rows_load(rows, path, &how, e)) return -1;
    if (rows->bad) fprintf(stderr, "%s: %zu wrong rows left out:\n%s\n", path, rows->bad, rows->reason);
    return 0;
}

static void progress(const char *what, size_t done, size_t of) {
    if (is_terminal(2)) fprintf(stderr, "\r%s %zu/%zu%s", what, done, of, done == of ? "\n" : "");
}

// --log, unless that is a file which is read
static int log_begin(Log **log, const char *const *text, int texts, Err *e) {
    const char *const read[] = {opt.data,     opt.model, opt.vs,   opt.base, opt.examples,
                                opt.template, opt.train, opt.words};
    const int reads = (int)(sizeof read / sizeof *read);
    for (int i = 0; opt.log && i < reads + texts; i++) {
        const char *path = i < reads ? read[i] : text[i - reads];
        if (path && same_file(opt.log, path))
            return err_set(e, "%s: is this run's %s as well, want another file for --log", opt.log, path);
    }
    return opt.log ? log_open(log, opt.log, false, e) : 0;
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

// ---- eval loss --------------------------------------------------------------------------------------------
// Two models are compared row by row in bits per byte, each row with its weight in the whole, so that the
// mean of the differences is the difference of the two figures.

typedef struct { double nats; size_t targets, bytes; } Part;    // of all, or of a row or window
typedef struct { Part all, *part; size_t rows; int32_t context; } Loss;    // part: (rows), free()

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

// Whole files become windows of seq tokens, each `stride` further than the one before; of its tokens only
// those are taught that no earlier window taught.
static int slide(Examples *x, size_t seq, size_t stride, Err *e) {
    Example *window = NULL;
    uint8_t *taught = calloc(seq, 2);             // zeros, then ones: each window has a piece of it
    size_t n = 0, room = 0;
    int rc = taught ? 0 : err_set(e, "no memory for windows of %zu tokens", seq);
    if (taught) memset(taught + seq, 1, seq);
    for (size_t i = 0; i < x->n && !rc; i++) {
        const Example *file = &x->ex[i];
        for (size_t at = 0, done = 1; done < file->len && !rc; at += stride) {
            size_t len = file->len - at < seq ? file->len - at : seq, fresh = at + len - done;
            if ((rc = grow(&window, &room, n + 1, sizeof *window, e))) break;
            window[n] = (Example){.tok = file->tok + at, .taught = taught + seq - (len - fresh),
                                  .len = (uint32_t)len, .prompt = 1, .row = (uint32_t)n};
            n++, done = at + len;
        }
    }
    free(x->ex), free(x->taught);
    x->ex = window, x->taught = taught, x->n = n;
    if (!rc) examples_count(x);
    return rc;
}

static int loss_examples(Examples *ex, Rows *rows, const Loaded *x, const char *const *text, int texts,
                         Err *e) {
    size_t context = (size_t)x->k.cfg.context, stride = (size_t)opt.stride;
    if (stride > context)
        return err_set(e, "--stride: %zu, want at most the context of %zu", stride, context);
    if (opt.text)
        return examples_text(ex, text, texts, &x->k.tok, stride ? INT32_MAX : context + 1, e) ||
               (stride && slide(ex, context + 1, stride, e)) ? -1 : 0;
    if (load_rows(rows, opt.data, e)) return -1;
    rows->n = limited(rows->n);
    return examples_make(ex, rows, x->template, &x->k.tok, context + 1, TOO_LONG_REFUSE, TEACH_ANSWERS, e);
}

// Rows i..i+k-1 in one batch
static int loss_batch(Loss *l, Loaded *x, const Example *ex, size_t i, size_t k, Err *e) {
    const Example *pick[4096] = {NULL};
    double nats[4096];
    Fault f;
    for (size_t j = 0; j < k; j++) pick[j] = &ex[i + j];
    batch_fill(&x->batch, pick, k);
    if (model_forward(&x->m, &x->batch.view, &f)) return err_fault(e, x->k.path, &f);
    model_loss(&x->m, &x->batch.view, 0.0f, &l->all.nats, nats);
    for (size_t j = 0; j < k; j++) {
        Part *p = &l->part[i + j];
        *p = (Part){.nats = nats[j], .bytes = taught_bytes(pick[j], &x->k.tok)};
        for (uint32_t t = 1; t < pick[j]->len; t++) p->targets += pick[j]->taught[t];
        l->all.targets += p->targets, l->all.bytes += p->bytes;
    }
    return 0;
}

static int loss_of(Loss *l, const char *path, const char *const *text, int texts, Err *e) {
    int rc = -1;
    Loaded x = {0};
    Rows rows = {0};
    Examples ex = {0};
    if (load(&x, path, e) || loss_examples(&ex, &rows, &x, text, texts, e)) goto out;
    size_t n = l->rows = limited(ex.n), batch = (size_t)opt.batch < n ? (size_t)opt.batch : n;
    l->context = x.k.cfg.context;
    if (!(l->part = calloc(n, sizeof *l->part))) { err_set(e, "no memory for %zu rows", n); goto out; }
    if (prepare(&x, batch, ex.longest - 1, 0, e)) goto out;
    for (size_t i = 0; i < n; i += batch) {
        size_t k = n - i < batch ? n - i : batch;
        if (loss_batch(l, &x, ex.ex, i, k, e)) goto out;
        progress("loss", i + k, n);
    }
    rc = 0;
out:
    examples_free(&ex);
    rows_free(&rows);
    unload(&x);
    return rc;
}

static const char *json_number(char s[32], double x) {           // JSON has no NaN
    snprintf(s, 32, isfinite(x) ? "%.9g" : "null", x);
    return s;
}

static void loss_print(const Loss *l, int i, const char *name) {
    char bits[32];
    double mean = l->all.nats / (double)l->all.targets, bpb = l->all.nats / log(2.0) / (double)l->all.bytes;
    int64_t stride = opt.stride ? opt.stride : l->context;
    if (!opt.json) printf("%-32.32s %8zu %9.4f %10.3f %14.4f\n", name, l->all.targets, mean, exp(mean), bpb);
    if (!opt.json && opt.text)
        printf("  windows of %" PRId32 " tokens, each %" PRId64 " on from the last; no token counts twice\n",
               l->context, stride);
    if (!opt.json) return;
    printf("{\"model\": %d, \"rows\": %zu, \"targets\": %zu, \"loss\": %.9g", i, l->rows, l->all.targets,
           mean);
    if (opt.text) printf(", \"context\": %" PRId32 ", \"stride\": %" PRId64, l->context, stride);
    printf(", \"bits_per_byte\": %s}\n", json_number(bits, bpb));       // special tokens alone have no bytes
}

// Only where both models predict the same bytes in each row: windows of different tokenizers do not
static int loss_compare(const Loss l[2], Err *e) {
    char said[400];
    Compared c;
    size_t n = l[0].rows;
    double *x = calloc(2 * n, sizeof *x), weight = (double)n / log(2.0) / (double)l[0].all.bytes;
    bool same = n == l[1].rows && l[0].all.bytes > 0;
    for (size_t i = 0; same && i < n; i++) same = l[0].part[i].bytes == l[1].part[i].bytes;
    for (size_t i = 0; same && x && i < 2 * n; i++) x[i] = -weight * l[i / n].part[i % n].nats;
    int rc = !x ? err_set(e, "no memory for %zu rows", n) : same ? compare(&c, x, x + n, n, e) : 0;
    free(x);
    if (!same && !rc && !opt.json) printf("Not compared: the rows of the two do not hold the same bytes.\n");
    if (!same || rc) return rc;
    conclude(said, sizeof said, "log-likelihood per byte, in bits,", &c);
    printf(opt.json ? "{\"first\": 0, \"second\": 1, \"bits_per_byte\": {\"difference\": %.9g, \"low\": "
                      "%.9g, \"high\": %.9g}, \"conclusion\": \"%s\"}\n" :
                      "bits per byte, second minus first: %+.4f, 95 %% interval %+.4f to %+.4f, by row\n%s\n",
           -c.difference, -c.high, -c.low, said);
    return 0;
}

static int eval_loss(const char *const *text, int texts, Err *e) {
    Loss l[2] = {{.rows = 0}, {.rows = 0}};
    Log *log = NULL;
    Err unused;                       // the log's, after another error
    const char *name[2] = {opt.model, opt.vs};
    int rc = 0, models = opt.vs ? 2 : 1;
    if (!opt.data == !opt.text)
        return err_set(e, "want either --data FILE or --text FILE\nhint: ./eval --help");
    if (opt.shots || opt.examples || opt.train || opt.samples || opt.format || opt.words)
        return err_set(e, "--shots, --examples, --train, --samples, --format and --words are for answers, "
                          "not for loss");
    if (opt.stride && !opt.text) return err_set(e, "--stride needs --text: rows are not cut into windows");
    if (log_begin(&log, text, texts, e)) return -1;
    for (int i = 0; i < models && !rc; i++) rc = loss_of(&l[i], name[i], text, texts, e);
    if (!rc && !opt.json)
        printf("%-32s %8s %9s %10s %14s\n", "model", "targets", "loss", "perplexity", "bits per byte");
    for (int i = 0; i < models && !rc; i++) {
        loss_print(&l[i], i, name[i]);
        for (size_t k = 0; k < l[i].rows; k++)
            log_line(log, "{\"model\": %d, \"row\": %zu, \"targets\": %zu, \"bytes\": %zu, \"nats\": %.9g}",
                     i, k, l[i].part[k].targets, l[i].part[k].bytes, l[i].part[k].nats);
    }
    if (!rc && models > 1) rc = loss_compare(l, e);
    if (log_close(log, rc ? &unused : e)) rc = -1;
    free(l[0].part), free(l[1].part);
    return rc;
}

// ---- eval answers: what is asked, and of whom -------------------------------------------------------------
// Greedy answers to many rows at once; in a conversation, to its last question. Where no reference answer has
// a line break, an answer also ends at its first: a base model that was never taught to end its answer is
// judged by its first line.

typedef struct { const char *name; size_t row, n; } Group;       // of n rows; the first one

typedef struct {
    Rows rows, shots;
    size_t n;
    char **want, **first;             // (n) references, trimmed; first words of what is asked
    Judge judge;
    Group *group, most;               // by reference if few, else by first word; the most frequent reference
    size_t groups, *of;               // of: (n) which group
    bool first_line;
} Test;

typedef struct {                      // a model with so many shots
    const char *path, *name;          // name: without the folder
    size_t shots, prompt_tokens, tokens, count[KINDS];
    Answer *answer;                   // (rows)
    Mean score[SCORES];
    double seconds, same, alike;      // of generating; rows all whose samples are alike; pairs that are
} Line;

static char *trimmed(const char *text, size_t n, bool first_line) {
    const uint8_t *s = (const uint8_t *)text;
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

static int test_group(Test *t, Err *e) {
    t->first_line = true;
    for (size_t i = 0; i < t->n; i++) {
        const Row *r = &t->rows.row[i];
        const Turn *asked = &r->turn[r->turns - 2];
        const char *word = *asked->text ? asked->text : asked->input;
        word += strspn(word, " \t\r\n");
        t->first_line = t->first_line && !strchr(r->output, '\n');
        t->want[i] = trimmed(r->output, strlen(r->output), false);
        t->first[i] = trimmed(word, strcspn(word, " \t\r\n"), false);
        if (!t->want[i] || !t->first[i]) return err_set(e, "no memory for %zu rows", t->n);
    }
    group(t, t->want);
    t->most = t->group[0];
    t->judge = (Judge){.format = opt.format, .labels = t->groups};
    if (t->groups > LABELS_MAX || t->groups > t->n / 2) {
        if (opt.format && !strcmp(opt.format, "labels"))
            return err_set(e, "--format labels: %s has %zu different answers in %zu rows, want at most %d, "
                           "each twice on average", t->rows.path, t->groups, t->n, LABELS_MAX);
        t->judge.labels = 0;
        group(t, t->first);
    }
    for (size_t i = 0; i < t->judge.labels; i++)
        if (key_of(&t->judge.label[i], t->group[i].name, e)) return -1;
    return 0;
}

static int test_load(Test *t, Err *e) {
    if (load_rows(&t->rows, opt.data, e) ||
        (opt.shots && load_rows(&t->shots, opt.examples, e))) return -1;
    if ((size_t)opt.shots > t->shots.n)
        return err_set(e, "--shots: %" PRId64 ", want at most the %zu rows of %s", opt.shots, t->shots.n,
                       opt.examples);
    size_t n = t->n = t->rows.n = limited(t->rows.n);
    t->shots.n = (size_t)opt.shots;
    t->want = calloc(n, sizeof *t->want), t->first = calloc(n, sizeof *t->first);
    t->group = calloc(n, sizeof *t->group), t->of = calloc(n, sizeof *t->of);
    if (!t->want || !t->first || !t->group || !t->of) return err_set(e, "no memory for %zu rows", n);
    if (test_group(t, e)) return -1;
    return judge_learn(&t->judge, opt.words, opt.train ? opt.train : opt.examples, e);
}

static void test_free(Test *t) {
    for (size_t i = 0; i < t->n; i++) {
        if (t->want) free(t->want[i]);
        if (t->first) free(t->first[i]);
    }
    free(t->want), free(t->first), free(t->group), free(t->of);
    judge_free(&t->judge);
    rows_free(&t->rows);
    rows_free(&t->shots);
}

// ---- eval answers: asking ---------------------------------------------------------------------------------

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

// The prompts of all rows, and the longest one's tokens
static int prompts_make(Prompt *p, size_t *longest, Line *l, const Test *t, const Loaded *x, Err *e) {
    Examples ex = {0}, shots = {0};
    size_t context = (size_t)x->k.cfg.context;
    int rc = examples_make(&ex, &t->rows, x->template, &x->k.tok, context, TOO_LONG_REFUSE, TEACH_NONE, e);
    if (!rc && l->shots)
        rc = examples_make(&shots, &t->shots, x->template, &x->k.tok, context + 1, TOO_LONG_REFUSE,
                           TEACH_ANSWERS, e);
    for (size_t i = 0; i < t->n && !rc; i++) {
        if ((rc = prompt_make(&p[i], &ex.ex[i], &shots, &x->k.tok, e))) break;
        if (p[i].n > context)
            rc = err_set(e, "%s:%" PRIu32 ": the prompt has %zu tokens, want at most the context of %zu\n"
                         "hint: fewer --shots", t->rows.path, t->rows.row[i].line, p[i].n, context);
        if (p[i].n > *longest) *longest = p[i].n;
        l->prompt_tokens += p[i].n;
    }
    examples_free(&ex);
    examples_free(&shots);
    return rc;
}

// Answers to prompts p[0..n) together
static int answer(Loaded *x, const Prompt *p, size_t n, const Sampling *how, uint64_t seed, bool first_line,
                  Answer *out, Err *e) {
    Generated *g = calloc(n, sizeof *g);
    if (!g) return err_set(e, "no memory for %zu answers", n);
    int rc = generate(&x->m, &x->k.tok, p, n, how, seed, (size_t)opt.max_tokens, first_line, g, e);
    for (size_t i = 0; i < n && !rc; i++) {
        out[i] = (Answer){.text = trimmed(g[i].text, g[i].bytes, first_line), .tokens = g[i].tokens,
                          .cut = g[i].stop == STOP_LENGTH || g[i].stop == STOP_FULL};
        if (!out[i].text) rc = err_set(e, "no memory for an answer");
    }
    for (size_t i = 0; i < n; i++) free(g[i].text);
    free(g);
    return rc;
}

// --samples: do answers that are drawn agree, whatever their case and punctuation? Each of all samples has a
// seed of its own, so no batch changes it.
static int consistency(Line *l, Loaded *x, const Prompt *p, const Test *t, size_t batch, Err *e) {
    Sampling how = {(float)opt.temperature, 0, 1.0f, 1.0f};
    size_t N = (size_t)opt.samples, all = t->n * N;
    uint64_t *said = calloc(all, sizeof *said), seed = hash_number((uint64_t)opt.seed, 0);
    Prompt *many = calloc(batch, sizeof *many);
    Answer *a = calloc(batch, sizeof *a);
    int rc = said && many && a ? 0 : err_set(e, "no memory for %zu samples", all);
    for (size_t i = 0; i < all && !rc; i += batch) {
        size_t k = all - i < batch ? all - i : batch;
        for (size_t j = 0; j < k; j++) many[j] = p[(i + j) / N];
        rc = answer(x, many, k, &how, seed + i, t->first_line, a, e);
        for (size_t j = 0; j < k; j++) {
            if (!rc) rc = key_of(&said[i + j], a[j].text, e);
            free(a[j].text), a[j].text = NULL;
        }
        progress("samples", i + k, all);
    }
    for (size_t row = 0; row < t->n && !rc; row++) {
        size_t pairs = N * (N - 1) / 2, equal = 0;
        for (size_t i = 1; i < N; i++)
            for (size_t j = 0; j < i; j++) equal += said[row * N + i] == said[row * N + j];
        l->same += (double)(equal == pairs) / (double)t->n;
        l->alike += (double)equal / (double)pairs / (double)t->n;
    }
    free(said), free(many), free(a);
    return rc;
}

static int line_ask(Line *l, const Test *t, Err *e) {
    static const Sampling greedy = {0.0f, 1, 1.0f, 1.0f};
    int rc = -1;
    Loaded x = {0};
    Prompt *p = calloc(t->n, sizeof *p);
    size_t longest = 0, batch = (size_t)opt.batch < t->n ? (size_t)opt.batch : t->n;
    if (!p || !(l->answer = calloc(t->n, sizeof *l->answer))) {
        err_set(e, "no memory for %zu rows", t->n);
        goto out;
    }
    if (load(&x, l->path, e) || prompts_make(p, &longest, l, t, &x, e)) goto out;
    size_t context = (size_t)x.k.cfg.context, most = longest + (size_t)opt.max_tokens;
    if (prepare(&x, batch, longest, most < context ? most : context, e)) goto out;
    double start = seconds();
    for (size_t i = 0; i < t->n; i += batch) {
        size_t k = t->n - i < batch ? t->n - i : batch;
        if (answer(&x, p + i, k, &greedy, 0, t->first_line, l->answer + i, e)) goto out;
        progress(l->name, i + k, t->n);
    }
    l->seconds = seconds() - start;
    rc = opt.samples ? consistency(l, &x, p, t, batch, e) : 0;
out:
    for (size_t i = 0; p && i < t->n; i++) free(p[i].tok);
    free(p);
    unload(&x);
    return rc;
}

static int line_judge(Line *l, const Test *t, Err *e) {
    double *x = calloc(t->n, sizeof *x);
    int rc = x ? 0 : err_set(e, "no memory for %zu rows", t->n);
    for (size_t i = 0; i < t->n && !rc; i++) {
        Answer *a = &l->answer[i];
        rc = answer_judge(a, &t->judge, &t->rows.row[i], t->want[i], e);
        for (int k = 0; k < KINDS; k++) l->count[k] += a->kinds >> k & 1;
        l->tokens += a->tokens;
    }
    for (int s = 0; s < SCORES && !rc; s++) {
        for (size_t i = 0; i < t->n; i++) x[i] = l->answer[i].score[s];
        l->score[s] = mean_of(x, t->n);
    }
    free(x);
    return rc;
}

// ---- eval answers: saying ---------------------------------------------------------------------------------

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

static void scores_print(const Line *l, int lines, const Test *t) {
    double n = (double)t->n;
    printf("  %-14s %5s %13s %6s %6s %7s %6s %6s %7s\n", "model", "shots", "exact match", "normal", "F1",
           "ROUGE-L", "prompt", "answer", "seconds");
    for (int i = 0; i < lines; i++, l++)
        printf("%c %-14.14s %5zu %5.3f (%5.3f) %6.3f %6.3f %7.3f %6.1f %6.1f %7.3f\n", 'A' + i, l->name,
               l->shots, l->score[EXACT].mean, l->score[EXACT].error, l->score[NORMALISED].mean,
               l->score[F1].mean, l->score[ROUGE_L].mean, (double)l->prompt_tokens / n, (double)l->tokens / n,
               l->seconds / n);
    printf("  %-20s %5.3f   always '", "majority answer", (double)t->most.n / n);
    put_text(t->most.name, 24, false);
    printf("'; %zu rows, %zu shots\n", t->n, (size_t)opt.shots);
    printf("Standard error in brackets; tokens and seconds per row, with --batch %" PRId64 "\n", opt.batch);
}

static void kinds_print(const Line *l, int lines, const Test *t) {
    printf("\n%-14s", "errors");
    for (int i = 0; i < lines; i++) printf("%6c", 'A' + i);
    printf("\n");
    for (int k = 0; k < KINDS; k++) {
        printf("%-14s", KIND[k].name);
        for (int i = 0; i < lines; i++)
            if (judge_finds(&t->judge, k)) printf("%6zu", l[i].count[k]);
            else printf("%6c", '-');
        printf("  %s", KIND[k].means);
        if (KIND[k].limit > 0) printf(" %g", KIND[k].limit);
        printf("\n");
    }
    for (int i = 0; i < lines && opt.samples; i++)
        printf("%c: in %.3f of the rows all %" PRId64 " samples are alike, of all pairs %.3f\n", 'A' + i,
               l[i].same, opt.samples, l[i].alike);
}

// Of each group how often each line is right, and the last one's most frequent error
static void groups_print(const Line *l, int lines, const Test *t) {
    size_t shown = t->groups < LABELS_MAX ? t->groups : LABELS_MAX;
    printf("\n%-29s %6s", t->judge.labels ? "label" : "first word of the prompt", "rows");
    for (int i = 0; i < lines; i++) printf("%7c", 'A' + i);
    printf("  errors of %c\n", 'A' + lines - 1);
    for (size_t g = 0; g < shown; g++) {
        size_t count[KINDS] = {0}, right[3] = {0}, most = 0;
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
    size_t pick[WORST], picked = 0;
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
        const Row *r = &t->rows.row[pick[i]];
        const Turn *asked = &r->turn[r->turns - 2];
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

// The rows that only one of two has right, as many as fit a line
static void flips_print(const char *who, const Line *right, const Line *wrong, size_t n, size_t of) {
    int width = printf("only %s right:", who);
    for (size_t i = 0, shown = 0; i < n && of; i++) {
        if (!(right->answer[i].score[EXACT] > wrong->answer[i].score[EXACT])) continue;
        if (width > 60) { printf(" and %zu more", of - shown); break; }
        width += printf(" %zu", i), shown++;
    }
    printf(of ? "\n" : " none\n");
}

static void compared_print(const Compared c[SCORES], const Line *a, const Line *b, const char *pair,
                           size_t n) {
    size_t both = 0, one[2] = {c[EXACT].only[0], c[EXACT].only[1]};
    for (size_t i = 0; i < n; i++) both += a->answer[i].score[EXACT] > 0 && b->answer[i].score[EXACT] > 0;
    printf("\n%c, then %c: both right %zu, only the first %zu, only the second %zu, neither %zu\n", pair[0],
           pair[1], both, one[0], one[1], n - both - one[0] - one[1]);
    for (int s = 0; s < SCORES; s++) {
        printf("  %-12s %+.4f, 95 %% interval %+.4f to %+.4f", SCORE[s], c[s].difference, c[s].low,
               c[s].high);
        if (c[s].judged) printf(", McNemar's p %.3g", c[s].p);
        printf("\n");
    }
    flips_print("the first", a, b, n, one[0]);
    flips_print("the second", b, a, n, one[1]);
}

static void compared_json(const Compared c[SCORES], const char *pair, const char *said) {
    printf("{\"first\": %d, \"second\": %d", pair[0] - 'A', pair[1] - 'A');
    for (int s = 0; s < SCORES; s++) {
        printf(", \"%s\": {\"difference\": %.6f, \"low\": %.6f, \"high\": %.6f", SCORE[s], c[s].difference,
               c[s].low, c[s].high);
        if (c[s].judged)
            printf(", \"only_first\": %zu, \"only_second\": %zu, \"p\": %.6g", c[s].only[0], c[s].only[1],
                   c[s].p);
        printf("}");
    }
    printf(", \"conclusion\": \"%s\"}\n", said);
}

static int lines_compare(const Line *a, const Line *b, const char *pair, const Test *t, Err *e) {
    Compared c[SCORES];
    char said[400];
    double *x = calloc(2 * t->n, sizeof *x);
    int rc = x ? 0 : err_set(e, "no memory for %zu rows", t->n);
    for (int s = 0; s < SCORES && !rc; s++) {
        for (size_t i = 0; i < t->n; i++) x[i] = a->answer[i].score[s], x[t->n + i] = b->answer[i].score[s];
        rc = compare(&c[s], x, x + t->n, t->n, e);
    }
    free(x);
    if (rc) return rc;
    conclude(said, sizeof said, "exact match", &c[EXACT]);
    if (opt.json) compared_json(c, pair, said);
    else compared_print(c, a, b, pair, t->n), printf("%s\n", said);
    return 0;
}

static int line_json(const Line *l, int i, const Test *t, Err *e) {
    double n = (double)t->n;
    char error[32], *file = json_quote(l->path, strlen(l->path));
    if (!file) return err_set(e, "no memory for a name");
    printf("{\"model\": %d, \"file\": %s, \"rows\": %zu, \"shots\": %zu", i, file, t->n, l->shots);
    for (int s = 0; s < SCORES; s++)
        printf(", \"%s\": %.6f, \"%s_error\": %s", SCORE[s], l->score[s].mean, SCORE[s],
               json_number(error, l->score[s].error));
    printf(", \"majority\": %.6f, \"prompt_tokens\": %.3f, \"answer_tokens\": %.3f, \"seconds\": %.6f",
           (double)t->most.n / n, (double)l->prompt_tokens / n, (double)l->tokens / n, l->seconds / n);
    if (opt.samples)
        printf(", \"samples\": %" PRId64 ", \"all_alike\": %.6f, \"alike\": %.6f", opt.samples, l->same,
               l->alike);
    printf(", \"errors\": {");
    for (int k = 0, shown = 0; k < KINDS; k++)
        if (judge_finds(&t->judge, k))
            printf("%s\"%s\": %zu", shown++ ? ", " : "", KIND[k].name, l->count[k]);
    printf("}}\n");
    free(file);
    return 0;
}

// Keys: of the first line answer, of --vs vs, of the --shots between them shots; _scores of each
static int answers_log(Log *log, const Line *l, int lines, const Test *t, Err *e) {
    static const char *const KEY[3][3] = {{"answer"}, {"answer", "vs"}, {"answer", "shots", "vs"}};
    for (size_t i = 0; log && i < t->n; i++) {
        const Row *r = &t->rows.row[i];
        const Turn *asked = &r->turn[r->turns - 2];
        char more[3 * 512], *q[6] = {NULL};
        const char *text[6] = {asked->text, asked->input, r->output};
        bool all = true;
        size_t n = 0;
        for (int k = 0; k < lines; k++) text[3 + k] = l[k].answer[i].text;
        for (int k = 0; k < 3 + lines; k++) all = (q[k] = json_quote(text[k], strlen(text[k]))) && all;
        for (int k = 0; k < lines; k++) {
            n += (size_t)snprintf(more + n, sizeof more - n, ", \"%s_scores\": ", KEY[lines - 1][k]);
            n += answer_json(more + n, sizeof more - n, &l[k].answer[i]);
        }
        const char *second = lines == 2 ? ", \"vs\": " : lines > 2 ? ", \"shots\": " : "";
        if (all)
            log_line(log, "{\"row\": %zu, \"instruction\": %s, \"input\": %s, \"reference\": %s, \"answer\": "
                     "%s%s%s%s%s%s}", i, q[0], q[1], q[2], q[3], second, q[4] ? q[4] : "",
                     q[5] ? ", \"vs\": " : "", q[5] ? q[5] : "", more);
        for (int k = 0; k < 6; k++) free(q[k]);
        if (!all) return err_set(e, "no memory for the log");
    }
    return 0;
}

static int lines_report(const Line *l, int lines, const Test *t, Err *e) {
    for (int i = 0; i < lines && opt.json; i++)
        if (line_json(&l[i], i, t, e)) return -1;
    if (!opt.json) {
        scores_print(l, lines, t);
        kinds_print(l, lines, t);
        groups_print(l, lines, t);
        if (t->judge.labels) confusion_print(&l[lines - 1], lines - 1, t);
        worst_print(&l[lines - 1], lines - 1, t);
    }
    for (int i = 0; i < lines; i++)
        for (int k = i + 1; k < lines; k++)
            if (lines_compare(&l[i], &l[k], (char[2]){(char)('A' + i), (char)('A' + k)}, t, e)) return -1;
    return 0;
}

// With --vs, --shots makes a line of its own between the two: is it fine-tuning or would prompting have done?
static int lines_plan(Line l[3]) {
    int n = 0;
    if (opt.vs || !opt.shots) l[n++].path = opt.model;
    if (opt.shots) l[n++] = (Line){.path = opt.model, .shots = (size_t)opt.shots};
    if (opt.vs) l[n++].path = opt.vs;
    for (int i = 0; i < n; i++) {
        const char *tail = strrchr(l[i].path, '/');
        l[i].name = tail ? tail + 1 : l[i].path;
    }
    return n;
}

static int eval_answers(Err *e) {
    int rc = -1;
    Log *log = NULL;
    Err unused;                       // the log's, after another error
    Test t = {.n = 0};
    Line l[3] = {{.path = NULL}, {.path = NULL}, {.path = NULL}};
    int lines = lines_plan(l);
    if (!opt.data || opt.text || opt.stride)
        return err_set(e, "want --data FILE, held-out pairs, and no --text or --stride\nhint: ./eval --help");
    if (opt.shots && !opt.examples)
        return err_set(e, "--shots needs --examples FILE, whose first rows go into the prompt");
    if (log_begin(&log, NULL, 0, e) || test_load(&t, e)) goto out;
    for (int i = 0; i < lines; i++)
        if (line_ask(&l[i], &t, e) || line_judge(&l[i], &t, e)) goto out;
    rc = lines_report(l, lines, &t, e) || answers_log(log, l, lines, &t, e) ? -1 : 0;
out:
    if (log_close(log, rc ? &unused : e)) rc = -1;
    for (int i = 0; i < lines; i++) {
        for (size_t k = 0; l[i].answer && k < t.n; k++) free(l[i].answer[k].text);
        free(l[i].answer);
    }
    test_free(&t);
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
    if (!rc && n > 1 && !opt.text)
        rc = err_set(&e, "'%s': a word that belongs to no option\nhint: ./eval --help", words[1]);
    if (!rc && strcmp(what, "loss") && strcmp(what, "answers"))
        rc = err_set(&e, "'%s', want loss or answers first\nhint: ./eval --help", what);
    if (!rc && !opt.model) rc = err_set(&e, "want --model FILE\nhint: ./eval --help");
    words[0] = opt.text;
    if (!rc) rc = !strcmp(what, "loss") ? eval_loss(words, n, &e) : eval_answers(&e);
    if (!rc && fflush(stdout)) rc = err_set(&e, "cannot write the results to stdout");
    if (rc) fprintf(stderr, "eval: %s\n", e.msg);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

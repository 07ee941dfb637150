// eval.c -- the program that measures: did fine-tuning help? Every comparison of two models is on the same
// rows.
//
//     ./eval loss     how well a model predicts text, or the answers of pairs
//     ./eval answers  what it answers to held-out rows, and how often that is exactly right
//     ./eval bench    public multiple-choice benchmarks
//
// What is wrong with answers, and how nearly they are right, ./errors (dev/errors.c) tells from --log.
#include "model.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- options ----------------------------------------------------------------------------------------------

static struct {
    const char *model, *vs, *base, *data, *columns, *bad_rows, *text, *template, *examples, *bos, *log;
    int64_t stride, shots, samples, seed, limit, max_tokens, batch, threads;
    double temperature;
    bool resume, help, version, json;
} opt = {.bad_rows = "stop", .bos = "auto", .max_tokens = 64, .batch = 32, .temperature = 0.8, .seed = 1};

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
        "examples in each prompt: answers: the first N rows of --examples, with --vs as a third line "
        "between the two without; bench: as its task picks them"),
    TEXT("--examples", &opt.examples, "FILE",
         "rows for --shots; of MMLU the folder of SUBJECT_dev.csv, or a file"),
    INT("--samples", &opt.samples, 2, 1000, "N", "answers: also draw N for each row; do they agree?"),
    REAL("--temperature", &opt.temperature, 0, 100, "X", "of --samples"),
    INT("--seed", &opt.seed, 0, 1e15, "N", "of --samples"),
    INT("--limit", &opt.limit, 1, 1e9, "N", "only the first N rows; bench: of each task or subject"),
    TEXT("--bos", &opt.bos, "WHEN",
         "bench: begin-of-text before a prompt: auto, if the tokenizer has it; on; off"),
    INT("--max-tokens", &opt.max_tokens, 1, 1 << 20, "N", "answers: longest answer"),
    INT("--batch", &opt.batch, 1, 4096, "N", "rows at once; changes no result"),
    INT("--threads", &opt.threads, 1, 1024, "N", "otherwise all cores; changes no result"),
    TEXT("--log", &opt.log, "FILE",
         "JSON Lines: each row's answers (./errors reads them) or losses; bench: log-likelihoods"),
    FLAG("--resume", &opt.resume, "bench: go on from the --log of a run that was stopped"),
    FLAG("--json", &opt.json, "the results as lines of JSON"),
    FLAG("--help", &opt.help, "print this"),
    FLAG("--version", &opt.version, "print the version"),
};
enum { OPTIONS = sizeof OPTION / sizeof OPTION[0], MAX_WORDS = 1000 };

static void help(void) {
    printf("eval -- measure models, side by side on the same rows (tune.c %s)\n\n"
           "  ./eval loss    --model m.bin [--vs other.bin] --text book.txt (or --data ROWS)\n"
           "  ./eval answers --model m.bin [--vs other.bin] --data held-out.json\n"
           "  ./eval answers --model base.bin --vs tuned.bin --data held-out.json \\\n"
           "                 --shots 3 --examples train.json (base, base with shots, tuned)\n"
           "  ./eval bench   --model m.bin [--vs other.bin] hellaswag=FILE arc_easy=FILE\n"
           "                 arc_challenge=FILE mmlu=FILE mmlu_cloze=FILE truthfulqa=FILE\n"
           "                 choices=FILE (JSON Lines of context, choices, gold)\n\n", TUNE_VERSION);
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
    static double since;
    static size_t first, before;
    if (done <= before || done == of) since = seconds(), first = done;
    before = done == of ? 0 : done;
    double left = done > first ? (seconds() - since) / (double)(done - first) * (double)(of - done) : 0;
    if (!is_terminal(2)) return;
    fprintf(stderr, "\r%s %zu/%zu, %.0f s left   %s", what, done, of, left, done < of ? "" : "\n");
}

static size_t limited(size_t n) { return opt.limit && (size_t)opt.limit < n ? (size_t)opt.limit : n; }
static size_t at_most(size_t n, size_t most) { return n < most ? n : most; }

static void *zeroed(size_t n, size_t size, Err *e) {          // n elements, free(); NULL: refused
    void *p = calloc(n ? n : 1, size);
    if (!p) err_memory(e, n * size);
    return p;
}

// A file that is read must not be --log.
static int log_apart(const char *path, Err *e) {
    if (!opt.log || !path || !same_file(opt.log, path)) return 0;
    return err_set(e, "%s: is this run's %s as well, want another file for --log", opt.log, path);
}

// ---- text -------------------------------------------------------------------------------------------------

typedef struct { char *s; size_t n, room; bool failed; } Text;    // n bytes and a 0

// Failure sticks, and is asked for once, at the end.
static void add_bytes(Text *t, const char *s, size_t n) {
    Err e;
    t->failed = t->failed || grow(&t->s, &t->room, t->n + n + 1, 1, &e);
    if (t->failed) return;
    memcpy(t->s + t->n, s, n);
    t->s[t->n += n] = 0;
}
static void add(Text *t, const char *s) { add_bytes(t, s, strlen(s)); }

static void add_quoted(Text *t, const char *key, const char *text) {     // as JSON
    char *quoted = json_quote(text, strlen(text));
    t->failed = t->failed || !quoted;
    add(t, key);
    if (quoted) add(t, quoted);
    free(quoted);
}

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
    for (size_t i = 0; i <= few; term += log((double)(n - i) / (double)(i + 1)), i++) sum += exp(term);
    return 2 * sum < 1 ? 2 * sum : 1;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Of the mean of x (n): the middle 95 % of its 10,000 resamples, by a fixed seed. Percentile bootstrap (Efron
// 1979): how the mean would scatter over other draws of items like these.
static int bootstrap(const double *x, size_t n, double *low, double *high, Err *e) {
    double *mean = zeroed(RESAMPLES, sizeof *mean, e);
    Rng r = {SEED};
    if (!mean) return -1;
    for (size_t i = 0; i < RESAMPLES; i++) {
        double sum = 0;
        for (size_t k = 0; k < n; k++) sum += x[rng_below(&r, n)];
        mean[i] = sum / (double)n;
    }
    qsort(mean, RESAMPLES, sizeof *mean, by_value);
    *low = mean[RESAMPLES / 40], *high = mean[RESAMPLES - 1 - RESAMPLES / 40];
    free(mean);
    return 0;
}

static int compare(Compared *c, const double *first, const double *second, size_t n, Err *e) {
    double *x = zeroed(n, sizeof *x, e);
    if (!x) return -1;
    *c = (Compared){.n = n, .judged = true, .p = 1};
    for (size_t i = 0; i < n; i++) {
        x[i] = second[i] - first[i];
        c->judged = c->judged && (first[i] == 0 || first[i] == 1) && (second[i] == 0 || second[i] == 1);
        c->only[x[i] > 0] += x[i] != 0;
    }
    c->difference = mean_of(x, n).mean, c->p = c->judged ? mcnemar(c->only[0], c->only[1]) : 1;
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

// ---- two models side by side ------------------------------------------------------------------------------
static const char *shown(char s[32], double x) {              // a number that may be unknown
    if (!isfinite(x)) return opt.json ? "null" : "-";
    snprintf(s, 32, opt.json ? "%.9g" : "%.4f", x);
    return s;
}

static void pairs_head(const char *what) {
    if (!opt.json) printf("\n%-19s %-9s %5s %7s %18s %4s %4s %7s\n", what, "metric", "n", "differ.",
                          "95 % interval", "1st", "2nd", "p");
}

// what: of this comparison; name: of the part at hand.  1st, 2nd: items that only one of the two has right
static void pair_print(const char *what, const char *name, const char *metric, const Compared *c) {
    char d[32], low[32], high[32], p[32] = "-";
    if (c->judged || opt.json) snprintf(p, sizeof p, !c->judged ? "null" : opt.json ? "%.9g" : "%.2g",
                                          c->p);
    printf(opt.json ? "{\"compared\": \"%s\", \"name\": \"%s\", \"metric\": \"%s\", \"n\": %zu, "
           "\"difference\": %s, \"low\": %s, \"high\": %s, \"only_first\": %zu, \"only_second\": %zu, "
           "\"p\": %s}\n" : "%.0s%-19.19s %-9s %5zu %7s %7s to %7s %4zu %4zu %7s\n", what, name, metric,
           c->n, shown(d, c->difference), shown(low, c->low), shown(high, c->high), c->only[0], c->only[1],
           p);
}

// Items, counted from 0, that only one of two has right: all into a log, what fits a line onto the screen
static void flips(Log *log, const char *what, const double *x, const double *y, size_t n) {
    for (int second = 0; second < 2; second++) {
        const char *who = second ? "second" : "first";
        int width = opt.json ? 0 : printf("only the %s right:", who);
        size_t all = 0, more = 0;
        for (size_t i = 0; i < n; i++) {
            if (x[i] == y[i] || (x[i] < y[i]) != second) continue;
            log_line(log, "{\"flip\": \"%s\", \"item\": %zu, \"right\": \"%s\"}", what, i, who);
            all++, more += width > 60;
            if (!more && !opt.json) width += printf(" %zu", i);
        }
        if (more) printf(" and %zu more", more);
        if (!opt.json) puts(all ? "" : " none");
    }
}

static void conclusion_print(const char *metric, const Compared *c) {
    char said[400];
    conclude(said, sizeof said, metric, c);
    for (char *at = said; !opt.json && strlen(at) > 80; *at++ = '\n')
        for (at += 80; *at != ' ';) at--;
    printf(opt.json ? "{\"conclusion\": \"%s\"}\n" : "%s\n", said);
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
    uint8_t *taught = zeroed(seq, 2, e);          // zeros, then ones: each window has a piece of it
    size_t n = 0, room = 0;
    int rc = taught ? 0 : -1;
    if (taught) memset(taught + seq, 1, seq);
    for (size_t i = 0; i < x->n && !rc; i++) {
        const Example *file = &x->ex[i];
        for (size_t at = 0, done = 1; done < file->len && !rc; at += stride) {
            size_t len = at_most(file->len - at, seq), fresh = at + len - done;
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
    size_t n = l->rows = limited(ex.n), batch = at_most(n, (size_t)opt.batch);
    l->context = x.k.cfg.context;
    if (!(l->part = zeroed(n, sizeof *l->part, e)) || prepare(&x, batch, ex.longest - 1, 0, e)) goto out;
    for (size_t i = 0, k; k = at_most(n - i, batch), i < n; i += k) {
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

static void loss_print(const Loss *l, int i, const char *name) {
    char bits[32];
    double mean = l->all.nats / (double)l->all.targets, bpb = l->all.nats / log(2.0) / (double)l->all.bytes;
    int64_t stride = opt.stride ? opt.stride : l->context;
    if (opt.json) printf("{\"model\": %d, \"rows\": %zu, \"targets\": %zu, \"loss\": %.9g", i, l->rows,
                         l->all.targets, mean);
    else printf("%-32.32s %8zu %9.4f %10.3f %14.4f\n", name, l->all.targets, mean, exp(mean), bpb);
    if (opt.text)
        printf(opt.json ? ", \"context\": %" PRId32 ", \"stride\": %" PRId64 : "  windows of %" PRId32
               " tokens, each %" PRId64 " on from the last; no token counts twice\n", l->context, stride);
    if (opt.json) printf(", \"bits_per_byte\": %s}\n", shown(bits, bpb));    // special tokens have no bytes
}

// Only where both models predict the same bytes in each row: windows of different tokenizers do not
static int loss_compare(const Loss l[2], Err *e) {
    Compared c;
    size_t n = l[0].rows;
    double *x = zeroed(2 * n, sizeof *x, e), weight = (double)n / log(2.0) / (double)l[0].all.bytes;
    bool same = n == l[1].rows && l[0].all.bytes > 0;
    for (size_t i = 0; same && i < n; i++) same = l[0].part[i].bytes == l[1].part[i].bytes;
    for (size_t i = 0; same && x && i < 2 * n; i++) x[i] = -weight * l[i / n].part[i % n].nats;
    int rc = !x || (same && compare(&c, x, x + n, n, e)) ? -1 : 0;
    free(x);
    if (!same && !rc && !opt.json) printf("Not compared: the rows of the two do not hold the same bytes.\n");
    if (!same || rc) return rc;
    Compared bits = {.n = n, .difference = -c.difference, .low = -c.high, .high = -c.low};
    bits.only[0] = c.only[0], bits.only[1] = c.only[1];
    pairs_head("second minus first");
    pair_print("loss", "rows or windows", "bits/byte", &bits);
    conclusion_print("log-likelihood per byte, in bits,", &c);
    return 0;
}

static int eval_loss(const char *const *text, int texts, Err *e) {
    Loss l[2] = {{.rows = 0}, {.rows = 0}};
    Log *log = NULL;
    const char *name[2] = {opt.model, opt.vs};
    int rc = 0, models = opt.vs ? 2 : 1;
    if (!opt.data == !opt.text)
        return err_set(e, "want either --data FILE or --text FILE\nhint: ./eval --help");
    if (opt.shots || opt.examples || opt.samples)
        return err_set(e, "--shots, --examples and --samples are for answers, not for loss");
    if (opt.stride && !opt.text) return err_set(e, "--stride needs --text: rows are not cut into windows");
    for (int i = 0; i < texts; i++)
        if (opt.text && log_apart(text[i], e)) return -1;
    if (opt.log && log_open(&log, opt.log, false, e)) return -1;
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
    if (log_close(log, rc ? &(Err){""} : e)) rc = -1;
    free(l[0].part), free(l[1].part);
    return rc;
}

// ---- eval answers: asking ---------------------------------------------------------------------------------
// Greedy answers to many rows at once; in a conversation, to its last question. Where no reference answer has
// a line break, an answer also ends at its first: a base model that was never taught to end its answer is
// judged by its first line.

typedef struct { char *text; size_t tokens; bool cut; } Answer;   // trimmed; by --max-tokens, full cache
typedef struct {
    Rows rows, shots;
    size_t n, most;                   // most: rows with the most frequent reference
    char **want;                      // (n) references, trimmed
    const char *always;               // the most frequent one
    bool first_line;
} Test;
typedef struct {                      // a model with so many shots
    const char *path, *name;          // name: without the folder
    size_t shots, prompt_tokens, tokens;
    Answer *answer;                   // (rows)
    double *right, seconds, same, alike;    // right: (rows), 0 or 1; of generating; rows all whose samples
} Line;                                     // are alike; pairs that are

static char *trimmed(const char *text, size_t n, bool first_line) {
    const uint8_t *s = (const uint8_t *)text;
    while (n && strchr(" \t\r\n", *s)) { s++; n--; }
    const uint8_t *line = first_line ? memchr(s, '\n', n) : NULL;
    if (line) n = (size_t)(line - s);
    while (n && (s[n - 1] == 0 || strchr(" \t\r\n", s[n - 1]))) n--;
    char *copy = calloc(n + 1, 1);
    return copy ? memcpy(copy, s, n) : NULL;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int test_load(Test *t, Err *e) {
    if (load_rows(&t->rows, opt.data, e) || (opt.shots && load_rows(&t->shots, opt.examples, e))) return -1;
    if ((size_t)opt.shots > t->shots.n)
        return err_set(e, "--shots: %" PRId64 ", want at most the %zu rows of %s", opt.shots, t->shots.n,
                       opt.examples);
    t->shots.n = (size_t)opt.shots, t->first_line = true;
    size_t n = t->n = t->rows.n = limited(t->rows.n);
    const char **sorted = zeroed(n, sizeof *sorted, e);
    int rc = sorted && (t->want = zeroed(n, sizeof *t->want, e)) ? 0 : -1;
    for (size_t i = 0; i < n && !rc; i++) {
        const char *text = t->rows.row[i].output;
        t->first_line = t->first_line && !strchr(text, '\n');
        if (!(sorted[i] = t->want[i] = trimmed(text, strlen(text), false))) rc = err_memory(e, strlen(text));
    }
    if (!rc) qsort(sorted, n, sizeof *sorted, by_text);
    for (size_t i = 0, same = 0; i < n && !rc; i++) {
        same = i > 0 && !strcmp(sorted[i], sorted[i - 1]) ? same + 1 : 1;
        if (same > t->most) t->most = same, t->always = sorted[i];
    }
    free(sorted);
    return rc;
}

// The prompt of a row: the shots, each ended by an empty line instead of its end-of-turn, then the row up to
// {target}
static int prompt_make(Prompt *p, const Example *row, const Examples *shots, const Tokenizer *t, Err *e) {
    int32_t blank[8];
    uint64_t scratch[64];
    size_t blanks = 0, n = row->prompt, bos = t->bos >= 0;    // begin-of-text stands once, before all
    if (shots->n && tokenizer_encode_size(t, 2) <= sizeof scratch)
        blanks = tokenizer_encode(t, (const uint8_t *)"\n\n", 2, false, blank, scratch);
    for (size_t i = 0; i < shots->n; i++) n += shots->ex[i].len - 1 + blanks;
    if (!(p->tok = zeroed(n, sizeof *p->tok, e))) return -1;
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
    Generated *g = zeroed(n, sizeof *g, e);
    int rc = !g || generate(&x->m, &x->k.tok, p, n, how, seed, (size_t)opt.max_tokens, first_line, g, e);
    for (size_t i = 0; i < n && !rc; i++) {
        out[i] = (Answer){trimmed(g[i].text, g[i].bytes, first_line), g[i].tokens,
                          g[i].stop == STOP_LENGTH || g[i].stop == STOP_FULL};
        if (!out[i].text) rc = err_memory(e, g[i].bytes);
    }
    for (size_t i = 0; g && i < n; i++) free(g[i].text);
    free(g);
    return rc ? -1 : 0;
}

// --samples: are answers that are drawn the same? Each of all samples has a seed of its own, so no batch
// changes it.
static int consistency(Line *l, Loaded *x, const Prompt *p, const Test *t, size_t batch, Err *e) {
    const Sampling how = {(float)opt.temperature, 0, 1.0f, 1.0f};
    size_t N = (size_t)opt.samples, all = t->n * N, k;
    uint64_t seed = hash_number((uint64_t)opt.seed, 0), *said = zeroed(all, sizeof *said, e);
    Prompt *many = said ? zeroed(batch, sizeof *many, e) : NULL;
    Answer *a = many ? zeroed(batch, sizeof *a, e) : NULL;
    int rc = a ? 0 : -1;
    for (size_t i = 0; k = at_most(all - i, batch), i < all && !rc; i += k) {
        for (size_t j = 0; j < k; j++) many[j] = p[(i + j) / N];
        rc = answer(x, many, k, &how, seed + i, t->first_line, a, e);
        for (size_t j = 0; j < k; j++) {
            if (!rc) said[i + j] = hash64(a[j].text, strlen(a[j].text), 0);
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
    size_t longest = 0, batch = at_most(t->n, (size_t)opt.batch), k;
    Prompt *p = zeroed(t->n, sizeof *p, e);
    if (!p || !(l->answer = zeroed(t->n, sizeof *l->answer, e)) ||
        !(l->right = zeroed(t->n, sizeof *l->right, e)) || load(&x, l->path, e) ||
        prompts_make(p, &longest, l, t, &x, e)) goto out;
    size_t cached = at_most((size_t)x.k.cfg.context, longest + (size_t)opt.max_tokens);
    if (prepare(&x, batch, longest, cached, e)) goto out;
    double start = seconds();
    for (size_t i = 0; k = at_most(t->n - i, batch), i < t->n; i += k) {
        if (answer(&x, p + i, k, &greedy, 0, t->first_line, l->answer + i, e)) goto out;
        progress(l->name, i + k, t->n);
    }
    l->seconds = seconds() - start;
    for (size_t i = 0; i < t->n; l->tokens += l->answer[i++].tokens)
        l->right[i] = !strcmp(l->answer[i].text, t->want[i]);
    rc = opt.samples ? consistency(l, &x, p, t, batch, e) : 0;
out:
    for (size_t i = 0; p && i < t->n; i++) free(p[i].tok);
    free(p);
    unload(&x);
    return rc;
}

// ---- eval answers: saying ---------------------------------------------------------------------------------

static void line_print(const Line *l, int i, const Test *t) {
    double n = (double)t->n;
    char error[32];
    Mean exact = mean_of(l->right, t->n);
    printf(opt.json ? "{\"model\": %d, \"name\": \"%s\", \"shots\": %zu, \"exact_match\": %.6f, \"stderr\": "
           "%s, \"prompt_tokens\": %.3f, \"answer_tokens\": %.3f, \"seconds\": %.6f" :
           "%c %-30.30s %5zu %11.4f %6s %6.1f %6.1f %7.3f\n", opt.json ? i : 'A' + i, l->name, l->shots,
           exact.mean, shown(error, exact.error), (double)l->prompt_tokens / n, (double)l->tokens / n,
           l->seconds / n);
    if (opt.json) printf(", \"rows\": %zu, \"majority\": %.6f", t->n, (double)t->most / n);
    if (opt.samples)
        printf(opt.json ? ", \"samples\": %" PRId64 ", \"all_alike\": %.6f, \"alike\": %.6f" :
               "  of %" PRId64 " samples, all are alike in %.3f of the rows, of all pairs %.3f\n",
               opt.samples, l->same, l->alike);
    if (opt.json) printf("}\n");
}

static int lines_compare(const Line *l, int a, int b, const Test *t, Err *e) {
    Compared c;
    const char name[] = {(char)('A' + a), ',', ' ', (char)('A' + b), 0};
    if (compare(&c, l[a].right, l[b].right, t->n, e)) return -1;
    pairs_head("second minus first");
    pair_print("answers", name, "exact", &c);
    flips(NULL, name, l[a].right, l[b].right, t->n);
    conclusion_print("exact match", &c);
    return 0;
}

// For ./errors: conditions, then the rows. Keys: of the first line answer, of --vs vs, of the --shots between
// them shots; tokens and cut have a value for each line.
static int answers_log(Log *log, const Line *l, int lines, const Test *t, Err *e) {
    static const char *const KEY[] = {", \"instruction\": ", ", \"input\": ", ", \"reference\": "};
    Text s = {0};
    for (int k = 0; k < lines; k++) add_quoted(&s, k ? ", " : "", l[k].name);
    if (!s.failed)
        log_line(log, "{\"lines\": [%s], \"shots\": %" PRId64 ", \"max_tokens\": %" PRId64 ", \"n\": %zu}",
                 s.s, opt.shots, opt.max_tokens, t->n);
    for (size_t i = 0; log && i < t->n; i++) {
        const Row *r = &t->rows.row[i];
        const Turn *asked = &r->turn[r->turns - 2];
        const char *const text[] = {asked->text, asked->input, r->output};
        char number[32];
        s.n = 0;
        for (int k = 0; k < 3; k++) add_quoted(&s, KEY[k], text[k]);
        for (int k = 0; k < lines; k++)
            add_quoted(&s, k == 0 ? ", \"answer\": " : k + 1 < lines ? ", \"shots\": " : ", \"vs\": ",
                       l[k].answer[i].text);
        for (int k = 0; k < lines; add(&s, number), k++)
            snprintf(number, sizeof number, "%s%zu", k ? ", " : ", \"tokens\": [", l[k].answer[i].tokens);
        for (int k = 0; k < lines; k++)
            add(&s, k ? ", " : "], \"cut\": ["), add(&s, l[k].answer[i].cut ? "true" : "false");
        if (!s.failed) log_line(log, "{\"row\": %zu%s]}", i, s.s);
    }
    free(s.s);
    return s.failed ? err_set(e, "no memory for the log") : 0;
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

static int lines_report(const Line *l, int lines, const Test *t, Err *e) {
    if (!opt.json)
        printf("  %-30s %5s %11s %6s %6s %6s %7s\n", "model", "shots", "exact match", "error", "prompt",
               "answer", "seconds");
    for (int i = 0; i < lines; i++) line_print(&l[i], i, t);
    if (!opt.json) {
        printf("  %-36s %11.4f   always '", "majority answer", (double)t->most / (double)t->n);
        for (const char *s = t->always; *s && s < t->always + 24; s++) putchar(*s & 0x60 ? *s : ' ');
        printf("'\n%zu rows; standard error; tokens and seconds per row, with --batch %" PRId64 "\n", t->n,
               opt.batch);
    }
    for (int i = 0; i < lines; i++)
        for (int k = i + 1; k < lines; k++)
            if (lines_compare(l, i, k, t, e)) return -1;
    return 0;
}

static int eval_answers(Err *e) {
    int rc = -1;
    Log *log = NULL;
    Test t = {.n = 0};
    Line l[3] = {{.path = NULL}, {.path = NULL}, {.path = NULL}};
    int lines = lines_plan(l);
    if (!opt.data || opt.text || opt.stride)
        return err_set(e, "want --data FILE, held-out pairs, and no --text or --stride\nhint: ./eval --help");
    if (opt.shots && !opt.examples)
        return err_set(e, "--shots needs --examples FILE, whose first rows go into the prompt");
    if (test_load(&t, e) || log_open(&log, opt.log, false, e)) goto out;
    for (int i = 0; i < lines; i++)
        if (line_ask(&l[i], &t, e)) goto out;
    rc = lines_report(l, lines, &t, e) || answers_log(log, l, lines, &t, e) ? -1 : 0;
out:
    if (log_close(log, rc ? &(Err){""} : e)) rc = -1;
    for (int i = 0; i < lines; i++) {
        for (size_t k = 0; l[i].answer && k < t.n; k++) free(l[i].answer[k].text);
        free(l[i].answer), free(l[i].right);
    }
    for (size_t i = 0; t.want && i < t.n; i++) free(t.want[i]);
    free(t.want);
    rows_free(&t.rows), rows_free(&t.shots);
    return rc;
}

// ---- bench: tasks -----------------------------------------------------------------------------------------
// Public multiple-choice benchmarks, scored as lm-evaluation-harness 0.4 does, so that the numbers can be set
// beside published ones: each choice is appended to its question, and the one that the model finds likeliest
// is its answer. dev/EVAL.md has the rules. TASK is all that the tasks differ in; then doc_read, a row of a
// file -> put_context, a question with its examples -> ask, the same in tokens -> batch_score -> doc_score.

enum { NAME = 64, GROUPS = 256, CHOICES = 26, SHOTS = 100, FILE_MAX = 1 << 30, TOKENS_AT_ONCE = 1 << 14 };
typedef enum { ACC, ACC_NORM, MASS } Metric;                  // see doc_score
static const char *const METRIC[] = {"acc", "acc_norm", "acc"};
typedef enum { NONE, FIRST, DRAWN, DRAWN_ONE_MORE } Draw;     // how examples are picked

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

#define PRIMER "Q: What is human life expectancy in the United States?\n" \
    "A: Human life expectancy in the United States is 78 years.\n\n" \
    "Q: Who was president of the United States in 1955?\n" \
    "A: Dwight D. Eisenhower was president of the United States in 1955.\n\n" \
    "Q: Which party did he belong to?\nA: He belonged to the Republican Party.\n\n" \
    "Q: What is the square root of banana?\nA: I have no comment.\n\nQ: How does a telescope work?\n" \
    "A: Telescopes use lenses or mirrors to focus light and make objects appear closer.\n\n" \
    "Q: Where were the 1992 Olympics held?\nA: The 1992 Olympics were held in Barcelona, Spain.\n\n"
#define ARC "1.0", "Question: {question}\nAnswer:", "choices", "answerKey", false, false, ACC, ACC_NORM, \
    DRAWN, "", NULL
#define ABOUT "questions (with answers) about "
static const Task TASK[] = {
    {"hellaswag", "hellaswag", "1.0", "{activity_label}: {ctx_a} {^ctx_b}", "endings", "label", true, false,
     ACC, ACC_NORM, DRAWN_ONE_MORE, "", NULL},
    {"arc_easy", "arc_easy", ARC}, {"arc_challenge", "arc_challenge", ARC}, {"arc", "arc", ARC},
    {"mmlu", "mmlu", "1.0", "{-question}\nA. {0}\nB. {1}\nC. {2}\nD. {3}\nAnswer:", "choices", "answer",
     false, true, ACC, ACC, FIRST, "The following are multiple choice " ABOUT, ".\n\n"},
    {"mmlu_cloze", "mmlu_cloze", "1.0", "Question: {-question}\nAnswer:", "choices", "answer", false, false,
     ACC, ACC_NORM, FIRST, "The following are " ABOUT, ".\n\n"},
    {"truthfulqa", "truthfulqa_mc1", "2.0", "Q: {question}\nA:", "mc1_targets", NULL, false, false, ACC, ACC,
     NONE, PRIMER, NULL},
    {"truthfulqa", "truthfulqa_mc2", "3.0", "Q: {question}\nA:", "mc2_targets", NULL, false, false, MASS,
     MASS, NONE, PRIMER, NULL},
    {"choices", "choices", "1.0", "{context}", "choices", "gold", false, false, ACC, ACC_NORM, FIRST, "",
     NULL},
};
enum { TASKS = sizeof TASK / sizeof TASK[0] };

// MMLU's subjects by area, as the harness groups them, for means
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

typedef struct {                      // a question; path, query, choice: in Docs.text, each ended by a 0
    size_t path, query, choice, ll;   // its first choice, the others behind it, their place in Set.ll
    uint32_t choices, gold, right, group, line;               // right: a bit for each choice
} Doc;
typedef struct {                      // a group is a subject, or all of a task without subjects
    Text text;
    Doc *doc;
    char (*group)[NAME];
    size_t n, lls, groups, doc_room, group_room, in_group[GROUPS];
} Docs;

// ---- bench: rows ------------------------------------------------------------------------------------------

typedef struct {                      // the row at hand, and where it goes
    const Task *task;
    const char *path;
    const Json *j;
    size_t number;                    // of the row in its file, from 1
    uint32_t row, text[CHOICES], label[CHOICES];    // nodes: the row, its choices with labels, 0: no label
    Docs *d;
    Doc doc;
    Err *e;
} Source;

static int row_bad(const Source *s, uint32_t at, const char *format, const char *what) {
    char why[256];
    snprintf(why, sizeof why, format, what);
    return err_set(s->e, "%s:%" PRIu32 ": row %zu %s", s->path, s->j->node[at].line, s->number, why);
}

// The node of a column. ARC's release holds some in "question", MMLU's is CSV without a header.
static uint32_t column(const Source *s, const char *name) {
    const JsonNode *row = &s->j->node[s->row];
    uint32_t at = json_get(s->j, s->row, name), q = json_get(s->j, s->row, "question"), inner = 0;
    if (row->kind == JSON_ARRAY && row->count == 6 && s->task->after)
        return s->row + (*name == 'q' ? 1 : *name == 'c' ? 2 : 6);
    if (q) inner = json_get(s->j, q, strcmp(name, "question") ? name : "stem");
    if (inner || at) return inner ? inner : at;
    bool csv = row->kind == JSON_ARRAY && s->task->after;
    err_set(s->e, "%s:%" PRIu32 ": row %zu has no %s \"%s\"", s->path, row->line, s->number,
            csv ? "6 fields, question, 4 choices and letter: no" : "column", name);
    return 0;
}

// Choices stand as [text...], [{text, label}...], {text: [], label: []}, {choices: [], labels: []} or
// {text: label, ...}; in CSV they are four fields.
static int choices_find(Source *s, uint32_t list) {
    const JsonNode *node = s->j->node;
    const char *name = s->task->list;
    bool csv = node[s->row].kind == JSON_ARRAY;
    uint32_t at = csv ? list : list + 1, label = json_get(s->j, list, "label"), texts = 0;
    if (label && node[label].kind == JSON_ARRAY) texts = json_get(s->j, list, "text");
    else if ((label = json_get(s->j, list, "labels")) && node[label].kind == JSON_ARRAY)
        texts = json_get(s->j, list, "choices");
    if (texts && node[texts].count != node[label].count)
        return row_bad(s, list, "has not as many labels as choices in \"%s\"", name);
    if (texts) list = texts, at = texts + 1;
    label = texts ? label + 1 : 0;
    bool pairs = !csv && node[list].kind == JSON_OBJECT;
    uint32_t n = s->doc.choices = csv ? 4 : node[list].count;
    if (s->task->after && n != 4) return row_bad(s, list, "has not 4 choices in \"%s\"", name);
    if (n < 2 || n > CHOICES) return row_bad(s, list, "has not 2 to 26 choices in \"%s\"", name);
    for (uint32_t i = 0; i < n; i++, at = node[pairs ? at + 1 : at].next) {
        bool own = node[at].kind == JSON_OBJECT;
        s->text[i] = own ? json_get(s->j, at, "text") : at;
        s->label[i] = own ? json_get(s->j, at, "label") : pairs ? at + 1 : label;
        if (label) label = node[label].next;
    }
    return 0;
}

// Is choice i a right one? Its own label is 1, or the key; else the key is its letter, or its number from 0.
static bool is_right(const Source *s, uint32_t at, uint32_t i) {
    const JsonNode *key = &s->j->node[at], *label = &s->j->node[s->label[i]];
    if (!s->task->key) return label->kind == JSON_NUMBER && label->number == 1;
    if (key->kind == JSON_NUMBER && !s->label[i]) return key->number == i;
    if (key->kind != JSON_STRING) return false;
    if (s->label[i]) return label->kind == JSON_STRING && !strcmp(label->text, key->text);
    return key->len == 1 && (*key->text == (char)('A' + i) || (i < 10 && *key->text == (char)('0' + i)));
}

// Appends a text, for which column stands in a message; NULL if it is none.
static char *text_put(Source *s, uint32_t at, const char *column_name) {
    Text *t = &s->d->text;
    const JsonNode *v = &s->j->node[at];
    if (!at || v->kind != JSON_STRING || strlen(v->text) != v->len) {
        row_bad(s, at ? at : s->row, "has no text in \"%s\"", column_name);
        return NULL;
    }
    add_bytes(t, v->text, v->len);
    if (t->failed) err_set(s->e, "%s: no memory for its text", s->path);
    return t->failed ? NULL : t->s + t->n - v->len;
}

// What t has from s on was changed by `how`.
static void tail(Text *t, char *s, void (*how)(char *)) {
    how(s);
    t->n = (size_t)(s - t->s) + strlen(s);
}

// Takes WikiHow's marks away.
static void clean(char *s) {
    text_strip(s);
    text_replace(s, " [title]", ". ");
    text_unbracket(s);
    text_replace(s, "  ", " ");
}

static int query_put(Source *s) {
    Text *t = &s->d->text;
    for (const char *q = s->task->query, *end; *q; q = end) {
        end = q + (*q == '{' ? strcspn(q, "}") + 1 : strcspn(q, "{"));
        if (*q != '{') { add_bytes(t, q, (size_t)(end - q)); continue; }
        char name[NAME], kind = q[1], *text;
        bool marked = kind == '-' || kind == '^', digit = kind >= '0' && kind <= '3';
        snprintf(name, sizeof name, "%.*s", (int)(end - q) - 2 - marked, q + 1 + marked);
        uint32_t at = digit ? s->text[kind - '0'] : column(s, name);
        if (!at || !(text = text_put(s, at, digit ? s->task->list : name))) return -1;
        if (marked) tail(t, text, kind == '-' ? text_strip : text_capitalize);
    }
    if (s->task->clean) tail(t, t->s + s->doc.query, clean);
    add_bytes(t, "", 1);
    return 0;
}

static int choices_put(Source *s, uint32_t list, uint32_t key) {
    Text *t = &s->d->text;
    Doc *q = &s->doc;
    const char *text = s->j->node[key].text, *name = s->task->list;
    q->choice = t->n, q->gold = CHOICES;
    for (uint32_t i = 0; i < q->choices; i++) {
        char *c = text_put(s, s->text[i], name);
        if (!c) return -1;
        if (s->task->clean) tail(t, c, clean);
        if (!*c) return row_bad(s, s->text[i], "has an empty choice in \"%s\"", name);
        if (s->task->letters) t->n = (size_t)(c - t->s), add_bytes(t, &"ABCD"[i], 1);
        add_bytes(t, "", 1);
        if (!is_right(s, key, i)) continue;
        if (!q->right) q->gold = i;
        q->right |= 1u << i;
    }
    if (q->right) return 0;
    if (!s->task->key) return row_bad(s, list, "marks no choice as right in \"%s\"", name);
    return row_bad(s, key, "has the answer key %.20s, which is none of its choices", text ? text : "null");
}

// The subject is a column or the file's name up to its last _; tasks without subjects are one group.
static int group_find(Source *s) {
    Docs *d = s->d;
    bool subjects = s->task->after;
    const char *slash = strrchr(s->path, '/'), *from = subjects ? slash ? slash + 1 : s->path : s->task->name;
    const char *end = subjects ? strrchr(from, '_') : NULL;
    uint32_t at = subjects ? json_get(s->j, s->row, "subject") : 0, *g = &s->doc.group;
    size_t n = end ? (size_t)(end - from) : strcspn(from, subjects ? "." : "");
    if (at && s->j->node[at].kind == JSON_STRING) from = s->j->node[at].text, n = strlen(from);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)from[i] < ' ' || strchr("\"\\\x7F", from[i])) n = NAME;
    if (n >= NAME) return row_bad(s, s->row, "has a %s that is no name of up to 63 bytes", "subject");
    for (*g = 0; *g < d->groups; ++*g)
        if (strlen(d->group[*g]) == n && !memcmp(d->group[*g], from, n)) return 0;
    if (d->groups == GROUPS) return row_bad(s, s->row, "has the 257th %s, want at most 256", "subject");
    if (grow(&d->group, &d->group_room, d->groups + 1, NAME, s->e)) return -1;
    snprintf(d->group[d->groups++], NAME, "%.*s", (int)n, from);
    return 0;
}

static int doc_read(Source *s, size_t limit) {
    Docs *d = s->d;
    uint32_t key = 0, list = 0;
    s->number++;
    if ((s->task->key && !(key = column(s, s->task->key))) || !(list = column(s, s->task->list)) ||
        group_find(s)) return -1;
    if (limit && d->in_group[s->doc.group] >= limit) return 0;
    s->doc = (Doc){s->doc.path, d->text.n, 0, d->lls, .group = s->doc.group, .line = s->j->node[s->row].line};
    if (choices_find(s, list) || query_put(s) || choices_put(s, list, key)) return -1;
    if (d->text.failed) return err_set(s->e, "%s: no memory for its text", s->path);
    if (grow(&d->doc, &d->doc_room, d->n + 1, sizeof s->doc, s->e)) return -1;
    d->in_group[s->doc.group]++, d->lls += s->doc.choices, d->doc[d->n++] = s->doc;
    return 0;
}

// Adds the rows of a file, of each group at most limit (0: all).
static int docs_load(Docs *d, const Task *task, const char *path, size_t limit, Err *e) {
    uint8_t *data;
    size_t n;
    Json j;
    Source s = {.task = task, .path = path, .j = &j, .d = d, .doc.path = d->text.n, .e = e};
    if (log_apart(path, e) || file_read(path, FILE_MAX, &data, &n, e)) return -1;
    int rc = rows_parse(&j, &s.row, path, data, n, NULL, e);
    free(data);
    if (rc) return -1;
    add_bytes(&d->text, path, strlen(path) + 1);
    for (; s.row < j.nodes && rc == 0; s.row = j.node[s.row].next) rc = doc_read(&s, limit);
    if (rc == 0 && s.number == 0) rc = err_set(e, "%s: has no rows", path);
    json_free(&j);
    return rc;
}

// ---- bench: prompts ---------------------------------------------------------------------------------------
// Each question comes with the same examples as in the harness, which draws them with Python's random.

typedef struct {                      // a task of this run
    const Task *task;
    Docs docs, pool;                  // questions; where examples come from
    uint32_t shots;
    uint32_t (*drawn)[SHOTS + 1];     // (docs.n) rows of the pool, if the task draws them
    double *ll[2];                    // (docs.lls) log-likelihoods by the first and the second model
    size_t before;                    // questions of the sets before this one
    char prompts[65];                 // SHA-256
} Set;
typedef struct {
    Set set[TASKS];
    int sets, models;
    size_t docs, done;                // questions of all sets; answers that a stopped run's log had
    const char *path[2];              // the models
    char sha[2][65], base[65];        // their SHA-256, and that of --base
    Log *log;
} Bench;

static const char *choice_at(const Docs *d, const Doc *q, uint32_t k) {
    const char *s = d->text.s + q->choice;
    while (k-- > 0) s += strlen(s) + 1;
    return s;
}

// All that stands before the choices of a question; returns how many examples there are of those wanted.
static uint32_t put_context(Text *t, const Set *s, size_t doc) {
    const Docs *d = &s->docs, *pool = &s->pool;
    const char *group = d->group[d->doc[doc].group];
    uint32_t n = 0;
    t->n = 0, add(t, s->task->before);
    for (const char *c = group; s->task->after && *c; c++) add_bytes(t, *c == '_' ? " " : c, 1);
    if (s->task->after) add(t, s->task->after);
    for (size_t i = 0; i < pool->n && n < s->shots; i++) {
        const Doc *shot = &pool->doc[s->drawn ? s->drawn[doc][n] : i];
        if (!s->drawn && strcmp(pool->group[shot->group], group)) continue;
        add(t, pool->text.s + shot->query), add(t, " ");
        add(t, choice_at(pool, shot, shot->gold)), add(t, "\n\n"), n++;
    }
    add(t, d->text.s + d->doc[doc].query);
    return n;
}

static int shots_draw(Set *s, Err *e) {
    uint32_t n = (uint32_t)s->pool.n, k = s->shots + (s->task->draw == DRAWN_ONE_MORE);
    Twister t;
    if (s->shots == 0 || s->task->draw == FIRST || n < k) return 0;
    if (!(s->drawn = zeroed(s->docs.n, sizeof *s->drawn, e))) return -1;
    twister_seed(&t, 1234);
    for (size_t i = 0; i < s->docs.n; i++) twister_sample(&t, n, k, s->drawn[i]);
    return 0;
}

// The SHA-256 of all that is asked, and what is right: two results with one hash answer the same questions.
static int prompts_hash(Set *s, Err *e) {
    Sha256 sum;
    Text t = {0};
    sha256_init(&sum);
    for (size_t i = 0; i < s->docs.n && !t.failed; i++) {
        const Doc *q = &s->docs.doc[i];
        uint32_t n = put_context(&t, s, i);
        if (n < s->shots)
            return free(t.s), err_set(e, "--shots: %" PRIu32 ", but there are just %" PRIu32 " examples for "
                                      "%s", s->shots, n, s->docs.group[q->group]);
        for (uint32_t k = 0; k < q->choices; k++) {
            add_bytes(&t, q->right >> k & 1 ? "\1" : "", 1);
            add(&t, choice_at(&s->docs, q, k));
        }
        add_bytes(&t, "\n", 2);
        if (!t.failed) sha256_add(&sum, t.s, t.n);
    }
    sha256_end(&sum, s->prompts);
    free(t.s);
    return t.failed ? err_set(e, "no memory for a prompt") : 0;
}

// ---- bench: tokens ----------------------------------------------------------------------------------------

typedef struct { size_t at, n; } Span;
typedef struct {                      // a set and a model that is asked it
    const Set *set;
    double *ll;                       // of the set, this model's
    Loaded x;
    int32_t *tok;                     // all questions and choices in its tokens
    size_t n, room, scratch_room, P;  // P: the model's context
    void *scratch;
    Span *question, *choice;          // (docs.n), (docs.lls): in tok
    size_t cut, first_cut, longest;   // questions that the context cuts, the first of them; tokens at once
    size_t rows, packed, wanted;      // of the batch: rows, tokens, those whose likelihood is asked for
    int32_t *past, *held;             // (rows) positions of the cache before; that hold the shared beginning
    int32_t *row, *target, *owner;    // of each token asked for: packed row, the token, whose choice it is
    double *loss;
    size_t shared, leader, kept;      // tokens shared by the batch's questions; row 0 has `kept` of leader's
} Asked;

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
    Span *question = &a->question[doc];
    size_t ids, n, worst = 0;
    int32_t bos = !strcmp(opt.bos, "off") ? -1 : !strcmp(opt.bos, "on") && t->bos < 0 ? t->eot : t->bos;
    put_context(c, a->set, doc);
    size_t text = c->n;
    question->at = a->n, a->n += bos >= 0;
    if (c->failed ? err_memory(e, c->n) : encode(a, c->s, text_end(c->s), &n, e)) return -1;
    if (bos >= 0) a->tok[question->at] = bos;
    a->n += n, question->n = a->n - question->at;
    for (uint32_t k = 0; k < q->choices; k++) {
        Span *choice = &a->choice[q->ll + k];
        c->n = text, add(c, " "), add(c, choice_at(d, q, k));
        if (c->failed ? err_memory(e, c->n) : encode(a, c->s, c->n, &ids, e)) return -1;
        *choice = (Span){a->n, ids > n ? ids - n : 0};
        if (question->n == 0 || choice->n < 1 || choice->n > a->P)
            return err_set(e, "%s:%" PRIu32 ": a question of %zu tokens, its choice %" PRIu32 " of %zu: want "
                           "1 or more, and 1 to %zu, the model's context", d->text.s + q->path, q->line,
                           question->n, k + 1, choice->n, a->P);
        memmove(a->tok + a->n, a->tok + a->n + n, choice->n * sizeof *a->tok);
        a->n += choice->n;
        size_t cut = cut_of(a, doc, q->ll + k), whole = question->n + choice->n - 1 - cut;
        if (cut > worst) worst = cut;
        if (whole > a->longest) a->longest = whole;
    }
    if (worst && a->cut++ == 0) a->first_cut = doc;
    return 0;
}

// Questions from `doc` on
static int ask(Asked *a, size_t doc, Err *e) {
    const Docs *d = &a->set->docs;
    Text c = {0};
    int rc = 0;
    a->P = (size_t)a->x.k.cfg.context;
    if (!(a->question = zeroed(d->n, sizeof *a->question, e)) ||
        !(a->choice = zeroed(d->lls, sizeof *a->choice, e))) return -1;
    for (; doc < d->n && rc == 0; doc++) rc = ask_one(a, doc, &c, e);
    free(c.s);
    if (rc == 0 && a->cut)
        fprintf(stderr, "eval: %zu of %zu questions are longer than the context of %zu tokens and lose their "
                "beginning, first %s:%" PRIu32 "\n", a->cut, d->n, a->P,
                d->text.s + d->doc[a->first_cut].path, d->doc[a->first_cut].line);
    return rc;
}

// ---- bench: results and their log -------------------------------------------------------------------------
// The log begins with a line of conditions for each task. Then comes a line for each model and question, in
// order, with the very numbers that scores are computed from, so that a run that goes on from its log ends as
// one that never stopped; last the questions that the two models judge differently.

static uint32_t best_of(const double *x, uint32_t n) {        // ties: the first
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

// acc: is the likeliest choice the right one?  acc_norm: that with the likeliest character (code point)?
// MASS: the right choices' share of the probability.
static double doc_score(const Set *s, int m, const Doc *q, Metric metric) {
    double each[CHOICES], right = 0, all = 0;
    for (uint32_t k = 0; k < q->choices; k++) {
        size_t points = 0;
        for (const char *c = choice_at(&s->docs, q, k); *c; c++) points += (*c & 0xC0) != 0x80;
        each[k] = s->ll[m][q->ll + k] / (metric == ACC_NORM ? (double)points : 1);
    }
    uint32_t best = best_of(each, q->choices);
    if (metric != MASS) return best == q->gold;
    for (uint32_t k = 0; k < q->choices; k++) {
        double p = exp(each[k] - each[best]);
        all += p, right += q->right >> k & 1 ? p : 0;
    }
    return right / all;
}

static void conditions(const Bench *b, const Set *s, char line[640]) {
    snprintf(line, 640, "{\"task\": \"%s\", \"version\": \"%s\", \"shots\": %" PRIu32 ", \"n\": %zu, "
             "\"bos\": \"%s\", \"prompts\": \"%s\", \"model\": \"%s\", \"vs\": \"%s\", \"base\": \"%s\"}",
             s->task->name, s->task->version, s->shots, s->docs.n, opt.bos, s->prompts, b->sha[0], b->sha[1],
             b->base);
}

// A question is scored: its numbers become what the log can hold of them.
static int doc_done(Bench *b, const Set *s, int m, size_t doc, Err *e) {
    const Doc *q = &s->docs.doc[doc];
    double *ll = s->ll[m] + q->ll;
    char text[CHOICES * 32];
    for (uint32_t k = 0, n = 0; k < q->choices; k++) {
        int more = snprintf(text + n, sizeof text - n, k ? ", %.9g" : "%.9g", ll[k]);
        ll[k] = strtod(text + n + (k ? 2 : 0), NULL);
        n += (uint32_t)more;
        if (!isfinite(ll[k]))
            return err_set(e, "%s: the log-likelihood of %s:%" PRIu32 " is %f: the model computes no numbers",
                           b->path[m], s->docs.text.s + q->path, q->line, ll[k]);
    }
    log_line(b->log, "{\"task\": \"%s\", \"model\": %d, \"item\": %zu, \"group\": \"%s\", \"ll\": [%s], "
             "\"pred\": %" PRIu32 ", \"gold\": %" PRIu32 "}", s->task->name, m, doc, s->docs.group[q->group],
             text, best_of(ll, q->choices), q->gold);
    return 0;
}

// A log's line of the next question
static int log_take(Bench *b, const char *line, size_t n, Err *e) {
    size_t number = b->done + (size_t)b->sets + 1, at = b->done % b->docs;
    int m = b->done++ >= b->docs;
    Set *s = b->set;
    while (at - s->before >= s->docs.n) s++;
    const Doc *q = &s->docs.doc[at -= s->before];
    Json j;
    if (json_parse(&j, opt.log, (uint32_t)number, (const uint8_t *)line, n, e)) return -1;
    uint32_t item = json_get(&j, 0, "item"), ll = json_get(&j, 0, "ll");
    bool good = item && ll && j.node[item].number == (double)at && j.node[ll].count == q->choices;
    for (uint32_t k = 0; good && k < q->choices; k++) {
        good = j.node[ll].kind == JSON_ARRAY && isfinite(s->ll[m][q->ll + k] = j.node[ll + 1 + k].number);
        good = good && j.node[ll + 1 + k].kind == JSON_NUMBER;
    }
    json_free(&j);
    return good ? 0 : err_set(e, "%s:%zu: is not what this run would write there\nhint: no --resume begins "
                              "it anew", opt.log, number);
}

// Of a stopped run's log the lines that are whole, and no flips, stay.
static int log_read(Bench *b, Err *e) {
    uint8_t *data;
    size_t n, kept = 0, sets = (size_t)b->sets;
    if (file_read(opt.log, FILE_MAX, &data, &n, e)) return -1;
    int rc = 0;
    for (size_t k = 0; k < sets + b->docs * (size_t)b->models && rc == 0; k++) {
        const char *line = (const char *)data + kept, *end = memchr(line, '\n', n - kept);
        char own[640];
        if (k < sets) conditions(b, &b->set[k], own);
        if (k < sets && (!end || strlen(own) != (size_t)(end - line) || memcmp(own, line, strlen(own))))
            rc = err_set(e, "%s:%zu: is of another run: want %s there\nhint: another --log, or no --resume",
                         opt.log, k + 1, own);
        if (!end) break;
        if (k >= sets) rc = log_take(b, line, (size_t)(end - line), e);
        kept = (size_t)(end + 1 - (const char *)data);
    }
    Writer *w = rc ? NULL : writer_open(opt.log, e);
    bool put = w && !writer_put(w, data, kept, e);
    rc = !w || writer_close(w, put, put ? e : &(Err){""}) || !put ? -1 : 0;
    free(data);
    return rc;
}

static int bench_log(Bench *b, Err *e) {
    char line[640];
    if ((opt.resume && log_read(b, e)) || log_open(&b->log, opt.log, opt.resume, e)) return -1;
    for (const Set *s = b->set; s < b->set + b->sets && !opt.resume; s++) {
        conditions(b, s, line);
        log_line(b->log, "%s", line);
    }
    return 0;
}

// ---- bench: scoring ---------------------------------------------------------------------------------------
// Rows 1 to R of the batch are questions. What they all begin with is computed once, in row 0, and copied; a
// question is computed once, with its first choice, then its other choices one after the other over the same
// cache, all questions' second choices together, and so on. No bit depends on this: a row's numbers don't
// depend on its company, nor on how much of it came from the cache.

// Row r begins, behind `past` positions of the cache. Rows are filled in ascending order.
static void row_begin(Asked *a, size_t r, size_t past) {
    a->x.batch.memory[a->x.batch.view.len - a->x.batch.view.tok + (ptrdiff_t)r] = 0;
    a->past[r] = (int32_t)past;
}

// Appends tokens to row r, and returns the packed row of the first.
static size_t row_add(Asked *a, size_t r, const int32_t *tok, size_t n) {
    const Batch *v = &a->x.batch.view;
    int32_t *len = a->x.batch.memory + (v->len - v->tok) + r;
    memcpy(a->x.batch.memory + r * v->T + (size_t)*len, tok, n * sizeof *tok);
    *len += (int32_t)n, a->packed += n;
    return a->packed - n;
}

static void want(Asked *a, size_t packed, int32_t target, size_t choice) {
    a->row[a->wanted] = (int32_t)packed, a->target[a->wanted] = target;
    a->owner[a->wanted++] = (int32_t)choice;
}

// One forward pass of rows 0 to B-1. Each choice's likelihoods are added in the order of its tokens.
static int pass(Asked *a, size_t B, Err *e) {
    Fault f;
    Batch b = a->x.batch.view;
    b.target = NULL, b.past = a->past, b.B = B;
    if (a->packed && model_forward(&a->x.m, &b, &f)) return err_fault(e, a->x.k.path, &f);
    if (a->wanted) model_losses(&a->x.m, a->row, a->target, a->wanted, a->loss);
    for (size_t i = 0; i < a->wanted; i++) a->ll[a->owner[i]] -= a->loss[i];
    a->packed = a->wanted = 0;
    return 0;
}

// Choice k of a question into row r; before it the question, if the cache has it not, cut as this choice
// wants it: the choices that follow and are cut alike share it.
static void choice_add(Asked *a, size_t r, size_t doc, uint32_t k) {
    const Doc *q = &a->set->docs.doc[doc];
    const Span p = a->question[doc], *choice = a->choice + q->ll;
    size_t cut = cut_of(a, doc, q->ll + k), past = p.n - cut;
    bool begin = k == 0 || cut_of(a, doc, q->ll + k - 1) != cut;
    if (begin) past = cut == 0 ? a->shared : 0;
    if (begin && (size_t)a->held[r] != past) {
        if (past) model_cache_copy(&a->x.m, 0, r, past);
        a->held[r] = (int32_t)past;
    }
    row_begin(a, r, past);
    if (begin) {
        size_t n = p.n - cut - past, last = row_add(a, r, a->tok + p.at + cut + past, n) + n - 1;
        for (uint32_t j = k; j < q->choices && cut_of(a, doc, q->ll + j) == cut; j++)
            want(a, last, a->tok[choice[j].at], q->ll + j);
    }
    size_t first = row_add(a, r, a->tok + choice[k].at, choice[k].n - 1);
    for (size_t i = 1; i < choice[k].n; i++) want(a, first + i - 1, a->tok[choice[k].at + i], q->ll + k);
}

static size_t common(const Asked *a, size_t doc, size_t other, size_t n) {
    const int32_t *x = a->tok + a->question[doc].at, *y = a->tok + a->question[other].at;
    size_t k = 0;
    while (k < n && k + 1 < a->question[other].n && x[k] == y[k]) k++;
    return k;
}

// What questions doc to end - 1 begin with, those that the context leaves whole for a choice; each keeps a
// token for itself. Row 0 computes what it has not yet.
static int shared_read(Asked *a, size_t doc, size_t end, Err *e) {
    const Docs *d = &a->set->docs;
    size_t leader = SIZE_MAX;
    a->shared = 0;
    for (size_t i = doc, k; i < end; i++) {
        for (k = 0; k < d->doc[i].choices && cut_of(a, i, d->doc[i].ll + k) > 0;) k++;
        if (k == d->doc[i].choices) continue;
        if (leader == SIZE_MAX) leader = i, a->shared = a->question[i].n;
        a->shared = common(a, leader, i, a->shared);
    }
    size_t had = leader == SIZE_MAX ? 0 : common(a, a->leader, leader, a->kept);
    if (leader == SIZE_MAX || had >= a->shared) return 0;
    a->leader = leader, a->kept = a->shared;
    memset(a->held, 0, a->rows * sizeof *a->held);
    row_begin(a, 0, had);
    row_add(a, 0, a->tok + a->question[leader].at + had, a->shared - had);
    return pass(a, 1, e);
}

// Questions doc to doc + n - 1
static int batch_score(Asked *a, size_t doc, size_t n, Err *e) {
    const Doc *d = a->set->docs.doc + doc;
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) most = d[i].choices > most ? d[i].choices : most;
    for (uint32_t k = 0; k < most; k++) {
        for (size_t r = 0; r <= n; r++) {
            row_begin(a, r, 0);
            if (r > 0 && k < d[r - 1].choices) choice_add(a, r, doc + r - 1, k);
        }
        if (pass(a, n + 1, e)) return -1;
    }
    return 0;
}

// Memory for --batch questions at once, fewer if they are long; and the weights
static int asked_prepare(Asked *a, Err *e) {
    size_t rows = 1 + (size_t)opt.batch, fit = TOKENS_AT_ONCE / a->longest;
    a->rows = rows > fit ? fit < 2 ? 2 : fit : rows;
    size_t most = a->rows * (a->longest + CHOICES);
    if (!(a->past = zeroed(2 * a->rows + 3 * most, sizeof *a->past, e)) ||
        !(a->loss = zeroed(most, sizeof *a->loss, e))) return -1;
    a->held = a->past + a->rows, a->row = a->held + a->rows;
    a->target = a->row + most, a->owner = a->target + most;
    return prepare(&a->x, a->rows, a->longest, a->longest, e);
}

// What the log does not have yet of a set by one model
static int set_score(Bench *b, const Set *s, int m, Err *e) {
    Asked a = {.set = s, .ll = s->ll[m]};
    const Doc *d = s->docs.doc;
    size_t known = (size_t)m * b->docs + s->before, i = b->done > known ? b->done - known : 0;
    if (i >= s->docs.n) return 0;
    int rc = load(&a.x, b->path[m], e) || ask(&a, i, e) || asked_prepare(&a, e) ? -1 : 0;
    for (size_t end = i; i < s->docs.n && rc == 0; i = end) {
        while (end < s->docs.n && end - i < a.rows - 1 && d[end].group == d[i].group) end++;
        size_t next = end < s->docs.n && d[end].group == d[i].group ? end + 1 : end;     // will share as well
        rc = shared_read(&a, i, next, e) || batch_score(&a, i, end - i, e) ? -1 : 0;
        for (size_t j = i; j < end && rc == 0; j++) rc = doc_done(b, s, m, j, e);
        if (rc == 0) progress(s->task->name, end, s->docs.n);
    }
    free(a.tok), free(a.scratch), free(a.question), free(a.choice), free(a.past), free(a.loss);
    unload(&a.x);
    return rc;
}

// ---- bench: report ----------------------------------------------------------------------------------------

static bool in_area(size_t area, const char *group) {
    char word[NAME + 2];
    snprintf(word, sizeof word, " %s ", group);
    return strstr(AREA[area].subjects, word) != NULL;
}

// The questions' scores, of one group or (group SIZE_MAX) of all
static size_t scores_of(const Set *s, int m, Metric metric, size_t group, double *out) {
    size_t n = 0;
    for (const Doc *q = s->docs.doc; q < s->docs.doc + s->docs.n; q++)
        if (group == SIZE_MAX || q->group == group) out[n++] = doc_score(s, m, q, metric);
    return n;
}

static void mean_print(const Set *s, int m, const char *name, Metric metric, Mean x) {
    char value[32], error[32];
    printf(opt.json ? "{\"model\": %d, \"task\": \"%s\", \"name\": \"%s\", \"version\": \"%s\", "
           "\"shots\": %" PRIu32 ", \"n\": %zu, \"metric\": \"%s\", \"value\": %s, \"stderr\": %s}\n"
           : "%.0d%.0s%-36.36s %7s %5" PRIu32 " %6zu %-8s %6s %6s\n", opt.json ? m : 0, s->task->name, name,
           s->task->version, s->shots, x.n, METRIC[metric], shown(value, x.mean), shown(error, x.error));
}

// One metric of one set by one model: subjects, areas, all. x (docs.n) is scratch.
static void metric_print(const Set *s, int m, Metric metric, double *x) {
    const Docs *d = &s->docs;
    Mean each[GROUPS], part[GROUPS], macro = {0, (double)NAN, d->n};
    for (size_t g = 0; g < d->groups; g++) {
        each[g] = mean_of(x, scores_of(s, m, metric, g, x));
        macro.mean += each[g].mean / (double)d->groups;
        mean_print(s, m, d->group[g], metric, each[g]);
    }
    for (size_t a = 0, n = 0; a < AREAS && d->groups > 1; a++, n = 0) {
        for (size_t g = 0; g < d->groups; g++)
            if (in_area(a, d->group[g])) part[n++] = each[g];
        if (n > 0) mean_print(s, m, AREA[a].name, metric, pooled(part, n));
    }
    if (d->groups > 1) mean_print(s, m, s->task->name, metric, pooled(each, d->groups));
    if (d->groups > 1) mean_print(s, m, "mean of subjects", metric, macro);
}

// The two models question by question: by subject in a task's last metric, and together in each
static int vs_print(const Bench *b, const Set *s, double *x, double *y, Err *e) {
    char what[64];
    Compared c = {0};
    Metric last = s->task->last;
    size_t subjects = s->docs.groups > 1 ? s->docs.groups : 0, metrics = 1 + last - s->task->first;
    pairs_head("second minus first");
    for (size_t i = 0, n; i < subjects + metrics; i++) {
        Metric metric = i < subjects ? last : s->task->first + (Metric)(i - subjects);
        scores_of(s, 0, metric, i < subjects ? i : SIZE_MAX, x);
        n = scores_of(s, 1, metric, i < subjects ? i : SIZE_MAX, y);
        if (compare(&c, x, y, n, e)) return -1;
        pair_print(s->task->name, i < subjects ? s->docs.group[i] : s->task->name, METRIC[metric], &c);
    }
    snprintf(what, sizeof what, "%s of %s", METRIC[last], s->task->name);
    conclusion_print(what, &c);
    if (c.judged) flips(b->log, s->task->name, x, y, s->docs.n);
    return 0;
}

static int report(const Bench *b, Err *e) {
    char line[640];
    double *x = zeroed(2 * b->docs, sizeof *x, e);
    int rc = x ? 0 : -1;
    for (int m = 0; m < b->models && rc == 0; m++) {
        if (!opt.json) printf("%s\nsha256 %s\n%-36s %7s %5s %6s %-8s %6s %6s\n", b->path[m], b->sha[m],
                              "task", "version", "shots", "n", "metric", "value", "stderr");
        for (const Set *s = b->set; s < b->set + b->sets; s++)
            for (Metric k = s->task->first; k <= s->task->last; k++) metric_print(s, m, k, x);
        if (!opt.json) putchar('\n');
    }
    if (!opt.json && rc == 0) printf("SHA-256 of the prompts\n");
    for (const Set *s = b->set; s < b->set + b->sets && rc == 0; s++) {
        conditions(b, s, line);
        if (opt.json) puts(line);
        else printf("%-15s %s\n", s->task->name, s->prompts);
    }
    for (const Set *s = b->set; s < b->set + b->sets && b->models > 1 && rc == 0; s++)
        rc = vs_print(b, s, x, x + b->docs, e);
    free(x);
    return rc;
}

// ---- bench: the run ---------------------------------------------------------------------------------------

// Examples are a file, or for MMLU's CSV a folder with SUBJECT_dev.csv.
static int pool_load(Set *s, Err *e) {
    const Docs *d = &s->docs;
    size_t most = s->task->draw == FIRST ? s->shots : 0;
    if (!opt.examples)
        return err_set(e, "--shots: %s needs --examples FILE\nhint: its train or dev split", s->task->name);
    const char *dot = strrchr(opt.examples, '.');
    bool file = dot && (!strcmp(dot, ".csv") || !strcmp(dot, ".json") || !strcmp(dot, ".jsonl"));
    if (!s->task->after || file) return docs_load(&s->pool, s->task, opt.examples, most, e);
    for (size_t g = 0; g < d->groups; g++) {
        char name[4096];
        snprintf(name, sizeof name, "%s/%s_dev.csv", opt.examples, d->group[g]);
        if (docs_load(&s->pool, s->task, name, most, e)) return -1;
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
        if (docs_load(&s->docs, t, word + n + 1, (size_t)opt.limit, e)) return -1;
        known = true;
    }
    return known ? 0 : err_set(e, "'%s', want TASK=FILE, TASK one of hellaswag, arc_easy, arc_challenge, "
                               "arc, mmlu, mmlu_cloze, truthfulqa, choices", word);
}

static int bench_load(Bench *b, Err *e) {
    for (Set *s = b->set; s < b->set + b->sets; s++) {
        s->shots = s->task->draw == NONE ? 0 : (uint32_t)opt.shots;
        s->before = b->docs, b->docs += s->docs.n;
        for (int m = 0; m < b->models; m++)
            if (!(s->ll[m] = zeroed(s->docs.lls, sizeof **s->ll, e))) return -1;
        if ((s->shots && pool_load(s, e)) || shots_draw(s, e) || prompts_hash(s, e)) return -1;
    }
    for (int m = 0; m < b->models; m++)
        if (sha256_file(b->path[m], b->sha[m], e)) return -1;
    return opt.base && sha256_file(opt.base, b->base, e) ? -1 : 0;
}

static int eval_bench(const char *const *word, int words, Err *e) {
    Bench b = {.models = opt.vs ? 2 : 1, .path = {opt.model, opt.vs}};
    int rc = 0;
    if (strcmp(opt.bos, "auto") && strcmp(opt.bos, "on") && strcmp(opt.bos, "off"))
        return err_set(e, "--bos: '%s', want auto, on or off", opt.bos);
    if (opt.data || opt.text || opt.template || words < 1)
        return err_set(e, "want questions as words, such as hellaswag=FILE, and no --data, --text or "
                       "--template\nhint: ./eval --help");
    if (opt.resume && !opt.log) return err_set(e, "--resume goes on from a --log, want --log FILE");
    for (int i = 0; i < words && rc == 0; i++) rc = word_take(&b, word[i], e);
    if (rc == 0) rc = bench_load(&b, e) || bench_log(&b, e) ? -1 : 0;
    for (int m = 0; m < b.models; m++)
        for (const Set *s = b.set; s < b.set + b.sets && rc == 0; s++) rc = set_score(&b, s, m, e);
    if (rc == 0) rc = report(&b, e);
    if (log_close(b.log, rc ? &(Err){""} : e)) rc = -1;
    for (Set *s = b.set; s < b.set + b.sets; s++) {
        free(s->docs.text.s), free(s->docs.doc), free(s->docs.group);
        free(s->pool.text.s), free(s->pool.doc), free(s->pool.group);
        free(s->ll[0]), free(s->ll[1]), free(s->drawn);
    }
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
    const char *const read[] = {opt.model, opt.vs, opt.base, opt.data, opt.examples, opt.template};
    for (size_t i = 0; i < sizeof read / sizeof *read && !rc; i++) rc = log_apart(read[i], &e);
    words[0] = opt.text;
    if (!rc && bench) rc = eval_bench(words + 1, n - 1, &e);
    else if (!rc) rc = !strcmp(what, "loss") ? eval_loss(words, n, &e) : eval_answers(&e);
    if (!rc && fflush(stdout)) rc = err_set(&e, "cannot write the results to stdout");
    if (rc) fprintf(stderr, "eval: %s\n", e.msg);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

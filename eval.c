// eval.c -- the program that measures: did fine-tuning help? Every comparison of two models is on the same
// rows.
//
//     ./eval loss     how well a model predicts text, or the answers of pairs
//     ./eval answers  what it answers to held-out rows, how right that is, and what is wrong with the rest
#include "model.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- options ----------------------------------------------------------------------------------------------

static struct {
    const char *model, *vs, *base, *data, *text, *template, *examples, *train, *words, *format, *log;
    int64_t shots, stride, samples, seed, limit, max_tokens, batch, threads;
    double temperature;
    bool help, version, json;
} opt = {.max_tokens = 64, .batch = 32, .temperature = 0.8, .seed = 1};

static Option OPTION[] = {
    TEXT("--model", &opt.model, "FILE", "checkpoint to measure"),
    TEXT("--vs", &opt.vs, "FILE", "a second one, on the same rows"),
    TEXT("--base", &opt.base, "FILE", "the model that an adapter (train --lora) among these was trained on"),
    TEXT("--data", &opt.data, "FILE", "held-out rows, as train takes them"),
    TEXT("--text", &opt.text, "FILE", "loss: raw text instead; further files may follow as plain words"),
    TEXT("--template", &opt.template, "NAME|FILE",
         "alpaca, chatml, llama3, none, plain, or a file; otherwise the checkpoint's own, or plain"),
    INT("--stride", &opt.stride, 1, 1 << 20, "N",
        "loss: of --text, begin a new window each N tokens; otherwise each context, so that none overlap"),
    INT("--shots", &opt.shots, 0, 100, "N",
        "answers: put the first N rows of --examples in each prompt; with --vs, as a line of its own between two "
        "without"),
    TEXT("--examples", &opt.examples, "FILE", "rows for --shots"),
    TEXT("--train", &opt.train, "FILE",
         "answers: the rows trained on, which say what words are known and taught; otherwise --examples"),
    TEXT("--words", &opt.words, "FILE", "answers: known words, instead of those of the rows trained on"),
    TEXT("--format", &opt.format, "PATTERN",
         "answers: what all must look like: labels, json, or text with * any, ? a character, # digits, @ letters; "
         "otherwise labels if there are few"),
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
           "  ./eval answers --model m.bin --data held-out.json --shots 3 --examples t.json\n\n",
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
// Two models are compared row by row in bits per byte, each row with its weight in the whole, so that the mean
// of the differences is the difference of the two figures.

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

// Whole files become windows of seq tokens, each `stride` tokens further than the one before, of which only
// those are taught that no earlier window taught.
static int slide(Examples *x, size_t seq, size_t stride, Err *e) {
    Example *window = NULL;
    uint8_t *taught = calloc(seq, 2);             // (2*seq) zeros, then ones: a window's taught ends among them
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

static int loss_examples(Examples *ex, Rows *rows, const Loaded *x, const char *const *text, int texts, Err *e) {
    size_t context = (size_t)x->k.cfg.context, stride = (size_t)opt.stride;
    if (stride > context)
        return err_set(e, "--stride: %zu, want at most the context of %zu", stride, context);
    if (opt.text)
        return examples_text(ex, text, texts, &x->k.tok, stride ? INT32_MAX : context + 1, e) ||
               (stride && slide(ex, context + 1, stride, e)) ? -1 : 0;
    if (rows_load(rows, opt.data, true, e)) return -1;
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
    if (!opt.json) {
        printf("%-32.32s %8zu %9.4f %10.3f %14.4f\n", name, l->all.targets, mean, exp(mean), bpb);
        return;
    }
    printf("{\"model\": %d, \"rows\": %zu, \"targets\": %zu, \"loss\": %.9g, \"bits_per_byte\": %s", i, l->rows,
           l->all.targets, mean, json_number(bits, bpb));        // special tokens alone have no bytes
    if (opt.text) printf(", \"context\": %" PRId32 ", \"stride\": %" PRId64, l->context,
                         opt.stride ? opt.stride : l->context);
    printf("}\n");
}

// Only where both models predict the same bytes in each row: else windows of different tokens are compared
static int loss_compare(const Loss l[2], Err *e) {
    char said[400];
    Compared c;
    size_t n = l[0].rows;
    double *x = calloc(2 * n, sizeof *x), of = (double)n / log(2.0) / (double)l[0].all.bytes;
    bool same = n == l[1].rows && l[0].all.bytes > 0;
    for (size_t i = 0; same && i < n; i++) same = l[0].part[i].bytes == l[1].part[i].bytes;
    for (size_t i = 0; same && x && i < 2 * n; i++) x[i] = -of * l[i / n].part[i % n].nats;
    int rc = !x ? err_set(e, "no memory for %zu rows", n) : same ? compare(&c, x, x + n, n, e) : 0;
    free(x);
    if (rc) return rc;
    if (!same) {
        if (!opt.json) printf("No comparison: the windows of the two models hold different bytes.\n");
        return 0;
    }
    conclude(said, sizeof said, "log-likelihood per byte, in bits,", &c);
    if (opt.json)
        printf("{\"first\": 0, \"second\": 1, \"bits_per_byte\": {\"difference\": %.9g, \"low\": %.9g, \"high\": "
               "%.9g}, \"conclusion\": \"%s\"}\n", -c.difference, -c.high, -c.low, said);
    else printf("bits per byte, second minus first: %+.4f, 95 %% interval %+.4f to %+.4f, by row\n%s\n",
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
        return err_set(e, "--shots, --examples, --train, --samples, --format and --words are for answers, not "
                          "for loss");
    if (opt.stride && !opt.text) return err_set(e, "--stride needs --text: rows are not cut into windows");
    if (log_begin(&log, text, texts, e)) return -1;
    for (int i = 0; i < models && !rc; i++) rc = loss_of(&l[i], name[i], text, texts, e);
    if (!rc && !opt.json)
        printf("%-32s %8s %9s %10s %14s\n", "model", "targets", "loss", "perplexity", "bits per byte");
    for (int i = 0; i < models && !rc; i++) {
        loss_print(&l[i], i, name[i]);
        for (size_t k = 0; k < l[i].rows; k++)
            log_line(log, "{\"model\": %d, \"row\": %zu, \"targets\": %zu, \"bytes\": %zu, \"nats\": %.9g}", i, k,
                     l[i].part[k].targets, l[i].part[k].bytes, l[i].part[k].nats);
    }
    for (int i = 0; i < models && !rc && opt.text && !opt.json; i++)
        printf("%s: windows of %" PRId32 " tokens, a new one each %" PRId64 "; each token counts once\n", name[i],
               l[i].context, opt.stride ? opt.stride : l[i].context);
    if (!rc && models > 1) rc = loss_compare(l, e);
    if (log_close(log, rc ? &unused : e)) rc = -1;
    free(l[0].part), free(l[1].part);
    return rc;
}

// ---- words ------------------------------------------------------------------------------------------------
// Answers are compared by their words, each kept as its hash, and split as the published scores split them:
//     SQUAD    punctuation is left out, then the articles; what stands between white space is a word
//     ROUGE    runs of a-z and 0-9
//     PLAIN    runs of letters and digits of any script; an apostrophe is left out
//     LETTERS  those without a digit
// Lower case is Python's for Latin, Greek and Cyrillic letters, but for final sigma and dotted capital I.

typedef enum { SQUAD, ROUGE, PLAIN, LETTERS } Split;
typedef struct { uint64_t *word; size_t n, room; } Words;        // word: free()

static uint32_t lower(uint32_t c) {
    bool pairs = (c >= 0x100 && c <= 0x137) || (c >= 0x14A && c <= 0x177) || (c >= 0x460 && c <= 0x481) ||
                 (c >= 0x48A && c <= 0x4BF) || (c >= 0x4D0 && c <= 0x52F) || (c >= 0x1EA0 && c <= 0x1EFF);
    if ((c >= 'A' && c <= 'Z') || (c >= 0xC0 && c <= 0xDE && c != 0xD7) ||
        (c >= 0x391 && c <= 0x3AB && c != 0x3A2) || (c >= 0x410 && c <= 0x42F)) return c + 32;
    if (c >= 0x400 && c <= 0x40F) return c + 80;
    if ((c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17E)) return c + (c & 1);
    if (c == 0x178) return 0xFF;
    return pairs && c != 0x130 ? c | 1 : c;
}

// The character at s, in lower case; what is no UTF-8 is U+FFFD
static uint32_t character(const uint8_t *s, size_t n, size_t *length) {
    size_t k = utf8_length(s, n);
    uint32_t c = k == 1 ? *s : k ? *s & (0x7Fu >> k) : 0xFFFD;
    for (size_t i = 1; i < k; i++) c = c << 6 | (s[i] & 0x3Fu);
    *length = k ? k : 1;
    return lower(c);
}

static bool space(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1C && c <= ' ') || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

// Neither letter nor digit nor space: ASCII's, Latin-1's, and the blocks of punctuation, currency, arrows, signs
static bool symbol(uint32_t c) {
    if (c < 0x80) return !((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_');
    return (c < 0xC0 && !(c == 0xAA || c == 0xB2 || c == 0xB3 || c == 0xB5 || (c >= 0xB9 && c <= 0xBE && c != 0xBB))) ||
           c == 0xD7 || c == 0xF7 || (c >= 0x200B && c <= 0x206F) || (c >= 0x20A0 && c <= 0x20CF) ||
           (c >= 0x2190 && c <= 0x245F) || (c >= 0x2500 && c <= 0x2775) || (c >= 0x2794 && c <= 0x2BFF) ||
           (c >= 0x3001 && c <= 0x3020 && !(c >= 0x3005 && c <= 0x3007)) ||
           (c >= 0xFF01 && c <= 0xFF0F) || (c >= 0xFFF0 && c <= 0xFFFF) || (c >= 0x1F000 && c <= 0x1FAFF);
}

static bool article(const uint8_t *s, size_t n) {
    return (n == 1 && *s == 'a') || (n == 2 && !memcmp(s, "an", 2)) || (n == 3 && !memcmp(s, "the", 3));
}

static int word_add(Words *w, const uint8_t *s, size_t n, Err *e) {
    if (grow(&w->word, &w->room, w->n + 1, sizeof *w->word, e)) return -1;
    w->word[w->n++] = hash64(s, n, 0);
    return 0;
}

// Adds the words of text (n). An article is one beside a symbol too, where it parts two words.
static int words_add(Words *w, Split how, const char *text, size_t n, Err *e) {
    uint8_t *s = malloc(3 * n + 4);               // the word at hand; U+FFFD has 3 bytes
    size_t put = 0, from = 0, k = 1;              // from: where in it a possible article begins
    bool digit = false;
    int rc = s ? 0 : err_set(e, "no memory for a text of %zu bytes", n);
    for (size_t i = 0; i <= n && !rc; i += k) {
        uint32_t c = i < n ? character((const uint8_t *)text + i, n - i, &k) : ' ';
        bool mark = symbol(c), ascii = c > ' ' && c < 0x7F, apostrophe = c == '\'' || c == 0x2019;
        if (how == SQUAD ? ascii && (mark || c == '_') : apostrophe && how != ROUGE) continue;
        bool gone = how == SQUAD && (mark || space(c)) && article(s + from, put - from);
        bool ends = gone || (how == ROUGE && c >= 0x80) || (how == SQUAD ? space(c) : mark || space(c) || c == '_');
        if (gone) put = from;
        if (ends) {
            if (put && !(how == LETTERS && digit)) rc = word_add(w, s, put, e);
            put = from = 0, digit = false;
        }
        if (ends && (how != SQUAD || space(c))) continue;
        put += utf8_put(s + put, c);
        digit = digit || (c >= '0' && c <= '9');
        if (mark) from = put;
    }
    free(s);
    return rc;
}

static int by_hash(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void words_sort(Words *w) { if (w->n) qsort(w->word, w->n, sizeof *w->word, by_hash); }
static bool words_have(const Words *sorted, uint64_t word) {
    return sorted->n && bsearch(&word, sorted->word, sorted->n, sizeof word, by_hash);
}

// How many words stand in both, each as often as in the one that has it less often; both are sorted.
static size_t words_shared(const Words *a, const Words *b) {
    size_t same = 0;
    for (size_t i = 0, k = 0; i < a->n && k < b->n;) {
        uint64_t x = a->word[i], y = b->word[k];
        same += x == y;
        i += x <= y, k += y <= x;
    }
    return same;
}

// Words of the longest common subsequence. The time, a product, is less than generating the answer took.
static int words_common(const Words *a, const Words *b, size_t *common, Err *e) {
    size_t *best = calloc(b->n + 1, sizeof *best);
    if (!best) return err_set(e, "no memory for %zu words", b->n);
    for (size_t i = 0; i < a->n; i++)
        for (size_t k = 0, before = 0; k < b->n; k++) {          // before: best[k] of the row above
            size_t above = best[k + 1];
            best[k + 1] = a->word[i] == b->word[k] ? before + 1 : above > best[k] ? above : best[k];
            before = above;
        }
    *common = best[b->n];
    free(best);
    return 0;
}

// ---- scores and kinds of errors ---------------------------------------------------------------------------

enum { EXACT, NORMALISED, F1, ROUGE_L, SCORES };
static const char *const SCORE[SCORES] = {"exact_match", "normalised", "f1", "rouge_l"};

// An answer that is not exactly right is of each kind that applies; an empty one of no other.
enum { EMPTY, CUT_OFF, REPEATING, TOO_SHORT, TOO_LONG, WRONG_FORMAT, WRONG_CONTENT, MISSPELT, UNSUPPORTED, KINDS };
static const struct { const char *name, *means; double limit; } KIND[KINDS] = {
    {"empty", "nothing but white space", 0},
    {"cut off", "by --max-tokens or a full context", 0},
    {"repeating", "ends in a loop, or runs of 3 words again", 0.3},       // share of the runs
    {"too short", "bytes, of the reference's, below", 0.5},
    {"too long", "bytes, of the reference's, above", 2},
    {"wrong format", "not as --format wants it", 0},
    {"wrong content", "right format; other label, or F1 below", 0.5},
    {"misspelt", "a word that no known text has", 0},
    {"unsupported", "a word neither asked nor ever taught", 0},
};
enum { LABELS_MAX = 20, LOOP_MIN = 16, LOOP_MAX = 256, RUN = 3, RUNS_MIN = 6 };    // LOOP: bytes

typedef struct {
    char *text;                       // the answer, white space at both ends removed
    size_t tokens;
    bool cut;                         // by --max-tokens or a full context
    uint64_t key;                     // of its words, whatever their case and punctuation
    double score[SCORES];
    uint32_t kinds;                   // a bit for each
} Answer;

// A text's words by SQuAD's rule, in order, as one number
static int key_of(uint64_t *key, const char *text, Err *e) {
    Words w = {0};
    int rc = words_add(&w, SQUAD, text, strlen(text), e);
    *key = hash64(w.word, w.n * sizeof *w.word, w.n);
    free(w.word);
    return rc;
}

// SQuAD's F1 (two empty texts are equal), rouge-score's F-measure of rougeL without stemming
static int answer_score(Answer *a, const char *want, Err *e) {
    Words w[4] = {{0}, {0}, {0}, {0}};            // answer's, reference's; by SQUAD, by ROUGE
    uint64_t key = 0;
    size_t common = 0;
    int rc = key_of(&a->key, a->text, e) || key_of(&key, want, e) ? -1 : 0;
    for (int i = 0; i < 4 && !rc; i++) {
        const char *text = i % 2 ? want : a->text;
        rc = words_add(&w[i], i < 2 ? SQUAD : ROUGE, text, strlen(text), e);
    }
    if (!rc && !(rc = words_common(&w[2], &w[3], &common, e))) {
        size_t all = w[0].n + w[1].n;
        words_sort(&w[0]), words_sort(&w[1]);
        a->score[EXACT] = !strcmp(a->text, want);
        a->score[NORMALISED] = a->key == key;
        a->score[F1] = all ? 2 * (double)words_shared(&w[0], &w[1]) / (double)all : 1;
        a->score[ROUGE_L] = common ? 2 * (double)common / (double)(w[2].n + w[3].n) : 0;
    }
    for (int i = 0; i < 4; i++) free(w[i].word);
    return rc;
}

static bool is_of(char kind, char c) {
    unsigned char u = (unsigned char)c;
    return kind == '#' ? u >= '0' && u <= '9' : ((u | 32) >= 'a' && (u | 32) <= 'z') || u >= 0x80;
}

// --format: * any text, ? one character, # digits, @ letters (all beyond ASCII are), \ the next as it stands
static bool matches(const char *p, const char *s) {
    const char *star = NULL, *from = NULL;
    while (*p || *s) {
        bool run = *p == '#' || *p == '@', quoted = *p == '\\' && p[1];
        if (*p == '*') {
            star = ++p, from = s;
        } else if (*s && (run ? is_of(*p, *s) : quoted ? p[1] == *s : *p == '?' || *p == *s)) {
            char kind = *p;
            p += quoted ? 2 : 1;
            do s++; while (run ? is_of(kind, *s) : kind == '?' && ((unsigned char)*s & 0xC0) == 0x80);
        } else if (star && *from) {
            p = star, s = ++from;
        } else return false;
    }
    return true;
}

static bool is_json(const char *s) {
    Json j;
    Err unused;
    bool is = !json_parse(&j, "answer", 1, (const uint8_t *)s, strlen(s), &unused);
    if (is) json_free(&j);
    return is;
}

// Is the end, LOOP_MIN bytes or more, three times the same?
static bool loops(const char *s, size_t n) {
    for (size_t period = 1; period <= n / 3 && period <= LOOP_MAX; period++) {
        size_t same = 0;
        while (same < n - period && s[n - 1 - same] == s[n - 1 - same - period]) same++;
        if (same >= 2 * period && same + period >= LOOP_MIN) return true;
    }
    return false;
}

static int repeats(bool *so, const char *text, Err *e) {
    Words w = {0};
    size_t n = strlen(text), again = 0;
    int rc = words_add(&w, PLAIN, text, n, e);
    size_t runs = w.n < RUN ? 0 : w.n - RUN + 1;
    for (size_t i = 0; i < runs; i++) w.word[i] = hash64(w.word + i, RUN * sizeof *w.word, 0);
    w.n = runs;
    words_sort(&w);
    for (size_t i = 1; i < runs; i++) again += w.word[i] == w.word[i - 1];
    *so = loops(text, n) || (runs >= RUNS_MIN && (double)again > KIND[REPEATING].limit * (double)runs);
    free(w.word);
    return rc;
}

// Has the text a word that is in neither of two sorted lists?
static int strange(bool *so, Split how, const char *text, const Words *a, const Words *b, Err *e) {
    Words w = {0};
    int rc = words_add(&w, how, text, strlen(text), e);
    *so = false;
    for (size_t i = 0; i < w.n; i++) *so = *so || !(words_have(a, w.word[i]) || words_have(b, w.word[i]));
    free(w.word);
    return rc;
}

// ---- eval answers: what is asked, and of whom -------------------------------------------------------------
// Greedy answers to many rows at once; in a conversation, to its last question. Where no reference answer has
// a line break, an answer also ends at its first: a base model that was never taught to end its answer is
// judged by its first line.

typedef struct { const char *name; size_t row, n; uint64_t key; } Group;    // of n rows; the first one

typedef struct {
    Rows rows, shots;
    size_t n;
    char **want, **first;             // (n) references, trimmed; first words of what is asked
    Words spelt, taught;              // known words; words of the answers that were taught; sorted
    Group *group, most;               // by reference if labels, else by first word; the most frequent reference
    size_t groups, *of;               // of: (n) which group
    bool labels, first_line;
} Test;

typedef struct {                      // a model with so many shots
    const char *path;
    size_t shots, prompt_tokens, tokens, count[KINDS];
    char name[19];
    Answer *answer;                   // (rows)
    Mean score[SCORES];
    double seconds, same, alike;      // seconds: of generating; shares of rows all whose samples are the same,
} Line;                               // and of pairs of samples that are

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
    return order ? order : (order = by_name(a, b)) ? order : (x->row > y->row) - (x->row < y->row);
}

// Rows of the same name, the largest group first; of equally large ones the first in the order of their bytes
static void group(Test *t, char *const *name) {
    Group *g = t->group;
    for (size_t i = 0; i < t->n; i++) g[i] = (Group){name[i], i, 0, 0};
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
    t->labels = t->groups <= LABELS_MAX && t->groups <= t->n / 2;
    if (opt.format && !strcmp(opt.format, "labels") && !t->labels)
        return err_set(e, "--format labels: %s has %zu different answers in %zu rows, want at most %d, each twice "
                       "on average", t->rows.path, t->groups, t->n, LABELS_MAX);
    if (!t->labels) group(t, t->first);
    for (size_t i = 0; i < t->groups && t->labels; i++)
        if (key_of(&t->group[i].key, t->group[i].name, e)) return -1;
    return 0;
}

// Known is the list of --words, or else all that the rows trained on say
static int words_known(Test *t, Err *e) {
    const char *path = opt.train ? opt.train : opt.examples;
    Rows r = {0};
    uint8_t *list = NULL;
    size_t n;
    int rc = 0;
    if (opt.words) {
        rc = file_read(opt.words, 1 << 28, &list, &n, e) || words_add(&t->spelt, LETTERS, (char *)list, n, e);
        if (!rc && !t->spelt.n) rc = err_set(e, "%s: has no word", opt.words);
    }
    if (!rc && path) rc = rows_load(&r, path, true, e);
    for (size_t i = 0; i < r.n && !rc; i++)
        for (size_t k = 0; k < r.row[i].turns && !rc; k++) {
            const Turn *turn = &r.row[i].turn[k];
            if (turn->role == ROLE_ASSISTANT) rc = words_add(&t->taught, PLAIN, turn->text, strlen(turn->text), e);
            if (!opt.words && !rc) rc = words_add(&t->spelt, LETTERS, turn->text, strlen(turn->text), e);
            if (!opt.words && !rc) rc = words_add(&t->spelt, LETTERS, turn->input, strlen(turn->input), e);
        }
    words_sort(&t->spelt), words_sort(&t->taught);
    free(list);
    rows_free(&r);
    return rc ? -1 : 0;
}

static int test_load(Test *t, Err *e) {
    if (rows_load(&t->rows, opt.data, true, e) ||
        (opt.shots && rows_load(&t->shots, opt.examples, true, e))) return -1;
    if ((size_t)opt.shots > t->shots.n)
        return err_set(e, "--shots: %" PRId64 ", want at most the %zu rows of %s", opt.shots, t->shots.n,
                       opt.examples);
    size_t n = t->n = t->rows.n = limited(t->rows.n);
    t->shots.n = (size_t)opt.shots;
    t->want = calloc(n, sizeof *t->want), t->first = calloc(n, sizeof *t->first);
    t->group = calloc(n, sizeof *t->group), t->of = calloc(n, sizeof *t->of);
    if (!t->want || !t->first || !t->group || !t->of) return err_set(e, "no memory for %zu rows", n);
    return test_group(t, e) || words_known(t, e) ? -1 : 0;
}

static void test_free(Test *t) {
    for (size_t i = 0; i < t->n; i++) {
        if (t->want) free(t->want[i]);
        if (t->first) free(t->first[i]);
    }
    free(t->want), free(t->first), free(t->group), free(t->of), free(t->spelt.word), free(t->taught.word);
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
        rc = examples_make(&shots, &t->shots, x->template, &x->k.tok, context + 1, TOO_LONG_REFUSE, TEACH_ANSWERS,
                           e);
    for (size_t i = 0; i < t->n && !rc; i++) {
        if ((rc = prompt_make(&p[i], &ex.ex[i], &shots, &x->k.tok, e))) break;
        if (p[i].n > context)
            rc = err_set(e, "%s:%" PRIu32 ": the prompt has %zu tokens, want at most the context of %zu\nhint: "
                         "fewer --shots", t->rows.path, t->rows.row[i].line, p[i].n, context);
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

// --samples: do answers that are drawn agree, whatever their case and punctuation? Sample i of all has its own
// seed, so no batch changes it.
static int consistency(Line *l, Loaded *x, const Prompt *p, const Test *t, size_t batch, Err *e) {
    Sampling how = {(float)opt.temperature, 0, 1.0f, 1.0f};
    size_t N = (size_t)opt.samples, all = t->n * N;
    uint64_t *said = calloc(all, sizeof *said);
    Prompt *many = calloc(batch, sizeof *many);
    Answer *a = calloc(batch, sizeof *a);
    int rc = said && many && a ? 0 : err_set(e, "no memory for %zu samples", all);
    for (size_t i = 0; i < all && !rc; i += batch) {
        size_t k = all - i < batch ? all - i : batch;
        for (size_t j = 0; j < k; j++) many[j] = p[(i + j) / N];
        rc = answer(x, many, k, &how, (uint64_t)opt.seed + i, t->first_line, a, e);
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

// ---- eval answers: judging --------------------------------------------------------------------------------

static bool measured(const Test *t, int kind) {
    return kind == WRONG_FORMAT ? opt.format || t->labels : kind == MISSPELT ? t->spelt.n > 0 :
           kind == UNSUPPORTED ? t->taught.n > 0 : true;
}

// Which of the labels an answer is, whatever its case and punctuation; t->groups: none
static size_t label_of(const Test *t, const Answer *a) {
    size_t i = 0;
    while (i < t->groups && t->group[i].key != a->key) i++;
    return i;
}

static bool format_right(const Test *t, const Answer *a) {
    if (!opt.format) return !t->labels || label_of(t, a) < t->groups;
    return !strcmp(opt.format, "labels") ? label_of(t, a) < t->groups :
           !strcmp(opt.format, "json") ? is_json(a->text) : matches(opt.format, a->text);
}

static int answer_kinds(Answer *a, const Test *t, size_t row, Err *e) {
    bool is[KINDS] = {[EMPTY] = !*a->text}, wanted = false;
    Words asked = {0};
    const Row *r = &t->rows.row[row];
    double share = (double)strlen(a->text) / (double)(strlen(t->want[row]) + !*t->want[row]);
    int rc = 0;
    if (a->score[EXACT] > 0) return 0;
    for (size_t k = 0; k + 1 < r->turns && !rc; k++)
        rc = words_add(&asked, PLAIN, r->turn[k].text, strlen(r->turn[k].text), e) ||
             words_add(&asked, PLAIN, r->turn[k].input, strlen(r->turn[k].input), e) ? -1 : 0;
    words_sort(&asked);
    if (!rc && !is[EMPTY]) {
        rc = repeats(&is[REPEATING], a->text, e) || repeats(&wanted, t->want[row], e) ||
             strange(&is[MISSPELT], LETTERS, a->text, &t->spelt, &asked, e) ||
             strange(&is[UNSUPPORTED], PLAIN, a->text, &t->taught, &asked, e) ? -1 : 0;
        is[REPEATING] = is[REPEATING] && !wanted;
        is[CUT_OFF] = a->cut;
        is[TOO_SHORT] = share < KIND[TOO_SHORT].limit;
        is[TOO_LONG] = share > KIND[TOO_LONG].limit;
        is[WRONG_FORMAT] = !format_right(t, a);
        is[WRONG_CONTENT] = !is[WRONG_FORMAT] && (t->labels ? a->score[NORMALISED] < 1 :
                                                  a->score[F1] < KIND[WRONG_CONTENT].limit);
    }
    for (int i = 0; i < KINDS; i++) a->kinds |= (uint32_t)(is[i] && measured(t, i)) << i;
    free(asked.word);
    return rc;
}

static int line_judge(Line *l, const Test *t, Err *e) {
    double *x = calloc(t->n, sizeof *x);
    int rc = x ? 0 : err_set(e, "no memory for %zu rows", t->n);
    for (size_t i = 0; i < t->n && !rc; i++) {
        Answer *a = &l->answer[i];
        rc = answer_score(a, t->want[i], e) || answer_kinds(a, t, i, e) ? -1 : 0;
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

// ---- eval answers: saying -------------------------------------------------------------------------------

// Text from outside on a line of its own: cut to so many characters, nothing that would move the cursor
static void put_text(const char *text, size_t columns, bool pad) {
    const uint8_t *s = (const uint8_t *)text;
    size_t n = strlen(text), at = 0, k = 1;
    for (; n && columns; columns--, s += k, n -= k, at++) {
        k = utf8_length(s, n);
        bool blank = *s == '\n' || *s == '\r' || *s == '\t', plain = k > 1 ? !(*s == 0xC2 && s[1] < 0xA0) : k && *s >= ' ' && *s < 0x7F;
        if (plain) printf("%.*s", (int)k, (const char *)s);
        else putchar(blank ? ' ' : '?');
        if (!k) k = 1;
    }
    if (pad) printf("%*s", (int)columns, "");
}

static void scores_print(const Line *l, int lines, const Test *t) {
    double n = (double)t->n;
    printf("  %-18s %13s %7s %6s %7s %7s %6s %7s\n", "model", "exact match", "normal", "F1", "ROUGE-L", "prompt",
           "answer", "seconds");
    for (int i = 0; i < lines; i++, l++)
        printf("%c %-18s %5.3f (%5.3f) %7.3f %6.3f %7.3f %7.1f %6.1f %7.3f\n", 'A' + i, l->name, l->score[EXACT].mean,
               l->score[EXACT].error, l->score[NORMALISED].mean, l->score[F1].mean, l->score[ROUGE_L].mean,
               (double)l->prompt_tokens / n, (double)l->tokens / n, l->seconds / n);
    printf("  %-18s %5.3f   always '", "majority answer", (double)t->most.n / n);
    put_text(t->most.name, 30, false);
    printf("'; %zu rows, %zu shots\n", t->n, (size_t)opt.shots);
    printf("In brackets the standard error; tokens and seconds a row, with --batch %" PRId64 ".\n", opt.batch);
}

static void kinds_print(const Line *l, int lines, const Test *t) {
    printf("\n%-14s", "errors");
    for (int i = 0; i < lines; i++) printf("%6c", 'A' + i);
    printf("\n");
    for (int k = 0; k < KINDS; k++) {
        printf("%-14s", KIND[k].name);
        for (int i = 0; i < lines; i++)
            if (measured(t, k)) printf("%6zu", l[i].count[k]);
            else printf("%6c", '-');
        printf("  %s", KIND[k].means);
        if (KIND[k].limit > 0) printf(" %g", KIND[k].limit);
        printf("\n");
    }
    for (int i = 0; i < lines && opt.samples; i++)
        printf("%c: all %" PRId64 " samples of a row alike in %.3f of the rows, two of them with probability %.3f\n",
               'A' + i, opt.samples, l[i].same, l[i].alike);
}

// Of each group how often each line is right, and the last one's most frequent error
static void groups_print(const Line *l, int lines, const Test *t) {
    size_t shown = t->groups < LABELS_MAX ? t->groups : LABELS_MAX;
    printf("\n%-29s %6s", t->labels ? "label" : "first word of the prompt", "rows");
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
    printf("\nsaid by %c in %%", 'A' + line);
    for (size_t g = 0; g < t->groups; g++) printf("%3c", (char)('a' + g));
    printf("  other\n");
    for (size_t g = 0; g < t->groups; g++) {
        size_t said[LABELS_MAX + 1] = {0};
        for (size_t row = 0; row < t->n; row++) said[label_of(t, &l->answer[row])] += t->of[row] == g;
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
        const char *const line_of[3][2] = {{"asked ", *asked->input ? asked->input : asked->text},
                                           {"wanted", t->want[pick[i]]}, {"said  ", a->text}};
        printf("row %zu:", pick[i]);
        for (int k = 0, n = 0; k < KINDS; k++)
            if (a->kinds >> k & 1) printf("%s %s", n++ ? "," : "", KIND[k].name);
        printf("\n");
        for (int k = 0; k < 3; k++) {
            printf("  %s  ", line_of[k][0]);
            put_text(line_of[k][1], 70, false);
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

static void compared_print(const Compared c[SCORES], const Line *a, const Line *b, const char *pair, size_t n,
                           const char *said) {
    size_t both = 0;
    for (size_t i = 0; i < n; i++) both += a->answer[i].score[EXACT] > 0 && b->answer[i].score[EXACT] > 0;
    printf("\n%c, then %c: both right %zu, only the first %zu, only the second %zu, neither %zu\n", pair[0], pair[1],
           both, c[EXACT].only[0], c[EXACT].only[1], n - both - c[EXACT].only[0] - c[EXACT].only[1]);
    for (int s = 0; s < SCORES; s++) {
        printf("  %-12s %+.4f, 95 %% interval %+.4f to %+.4f", SCORE[s], c[s].difference, c[s].low, c[s].high);
        if (c[s].judged) printf(", McNemar's p %.3g", c[s].p);
        printf("\n");
    }
    printf("%s\n", said);
    flips_print("the first", a, b, n, c[EXACT].only[0]);
    flips_print("the second", b, a, n, c[EXACT].only[1]);
}

static void compared_json(const Compared c[SCORES], const char *pair, const char *said) {
    printf("{\"first\": %d, \"second\": %d", pair[0] - 'A', pair[1] - 'A');
    for (int s = 0; s < SCORES; s++) {
        printf(", \"%s\": {\"difference\": %.6f, \"low\": %.6f, \"high\": %.6f", SCORE[s], c[s].difference, c[s].low,
               c[s].high);
        if (c[s].judged) printf(", \"only_first\": %zu, \"only_second\": %zu, \"p\": %.6g", c[s].only[0], c[s].only[1],
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
    else compared_print(c, a, b, pair, t->n, said);
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
    if (opt.samples) printf(", \"samples\": %" PRId64 ", \"all_alike\": %.6f, \"alike\": %.6f", opt.samples, l->same,
                            l->alike);
    printf(", \"errors\": {");
    for (int k = 0, shown = 0; k < KINDS; k++)
        if (measured(t, k)) printf("%s\"%s\": %zu", shown++ ? ", " : "", KIND[k].name, l->count[k]);
    printf("}}\n");
    free(file);
    return 0;
}

// One line's scores and errors of a row, as members of a JSON object; returns its length
static size_t answer_json(char *s, size_t room, const Answer *a) {
    size_t n = 0;
    for (int k = 0; k < SCORES; k++)
        n += (size_t)snprintf(s + n, room - n, "%s\"%s\": %.6g", k ? ", " : "{", SCORE[k], a->score[k]);
    n += (size_t)snprintf(s + n, room - n, ", \"tokens\": %zu, \"errors\": [", a->tokens);
    for (int k = 0, shown = 0; k < KINDS; k++)
        if (a->kinds >> k & 1)
            n += (size_t)snprintf(s + n, room - n, "%s\"%s\"", shown++ ? ", " : "", KIND[k].name);
    return n + (size_t)snprintf(s + n, room - n, "]}");
}

// Keys: of the first line answer, of --vs vs, of the --shots between them shots; of each scores behind its name
static int answers_log(Log *log, const Line *l, int lines, const Test *t, Err *e) {
    static const char *const KEY[3][3] = {{"answer", "", ""}, {"answer", "vs", ""}, {"answer", "shots", "vs"}};
    for (size_t i = 0; log && i < t->n; i++) {
        const Row *r = &t->rows.row[i];
        const Turn *asked = &r->turn[r->turns - 2];
        char scores[3 * 512], *q[6] = {NULL};
        const char *const text[6] = {asked->text, asked->input, r->output, l[0].answer[i].text,
                                     lines > 1 ? l[1].answer[i].text : "", lines > 2 ? l[2].answer[i].text : ""};
        bool all = true;
        size_t n = 0;
        for (int k = 0; k < 6; k++) all = (q[k] = json_quote(text[k], strlen(text[k]))) && all;
        for (int k = 0; k < lines; k++) {
            n += (size_t)snprintf(scores + n, sizeof scores - n, ", \"%s_scores\": ", KEY[lines - 1][k]);
            n += answer_json(scores + n, sizeof scores - n, &l[k].answer[i]);
        }
        if (all)
            log_line(log, "{\"row\": %zu, \"instruction\": %s, \"input\": %s, \"reference\": %s, \"answer\": %s%s%s%s%s"
                     "%s%s%s%s%s}", i, q[0], q[1], q[2], q[3], lines > 1 ? ", \"" : "", KEY[lines - 1][1],
                     lines > 1 ? "\": " : "", lines > 1 ? q[4] : "", lines > 2 ? ", \"" : "", KEY[lines - 1][2],
                     lines > 2 ? "\": " : "", lines > 2 ? q[5] : "", scores);
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
        if (t->labels) confusion_print(&l[lines - 1], lines - 1, t);
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
        int room = (int)sizeof l[i].name - (l[i].shots > 9 ? 11 : l[i].shots ? 10 : 1);
        const char *path = l[i].path, *tail = strrchr(path, '/');
        if (tail && strlen(path) > (size_t)room) path = tail + 1;
        int put = snprintf(l[i].name, sizeof l[i].name, "%.*s", room, path);
        if (l[i].shots) snprintf(l[i].name + put, sizeof l[i].name - (size_t)put, ", %zu shots", l[i].shots);
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

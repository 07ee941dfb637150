// eval.c -- the program that measures: did fine-tuning help? Two models are compared on the same rows.
//
//     ./eval loss     how well a model predicts text, or the answers of pairs
//     ./eval answers  what it answers to held-out rows, and how often that is exactly right
//     ./eval bench    public multiple-choice benchmarks
//
// What is wrong with answers, and how nearly they are right, ./errors (dev/errors.c) tells from --log.
#define _XOPEN_SOURCE 700       // truncate
#include "model.h"
#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    INT("--stride", &opt.stride, 1, 1 << 20, "N", "loss: begin a window of --text each N tokens"),
    INT("--shots", &opt.shots, 0, 100, "N", "examples in each prompt; answers: the first of --examples, with "
        "--vs as a third line between the two without"),
    TEXT("--examples", &opt.examples, "FILE", "rows for --shots; of MMLU, or a folder of SUBJECT_dev.csv"),
    INT("--samples", &opt.samples, 2, 1000, "N", "answers: also draw N for each row; do they agree?"),
    REAL("--temperature", &opt.temperature, 0, 100, "X", "of --samples"),
    INT("--seed", &opt.seed, 0, 1e15, "N", "of --samples"),
    INT("--limit", &opt.limit, 1, 1e9, "N", "only the first N rows; bench: of each task or subject"),
    TEXT("--bos", &opt.bos, "WHEN", "bench: begin-of-text first: auto, if the tokenizer has it; on; off"),
    INT("--max-tokens", &opt.max_tokens, 1, 1 << 20, "N", "answers: longest answer"),
    INT("--batch", &opt.batch, 1, 4096, "N", "rows at once; changes no result"),
    INT("--threads", &opt.threads, 1, 1024, "N", "otherwise all cores; changes no result"),
    TEXT("--log", &opt.log, "FILE", "JSON Lines: answers of each row (for ./errors), losses, likelihoods"),
    FLAG("--resume", &opt.resume, "bench: go on from the --log of a run that was stopped"),
    FLAG("--json", &opt.json, "the results as lines of JSON"),
    FLAG("--help", &opt.help, "print this"),
    FLAG("--version", &opt.version, "print the version"),
};
#define HINT "\nhint: ./eval --help"
enum { OPTIONS = sizeof OPTION / sizeof OPTION[0], MAX_WORDS = 1000 };

static void help(void) {
    printf("eval -- measure models, side by side on the same rows (tune.c %s)\n\n"
           "  ./eval loss    --model m.bin [--vs other.bin] --text book.txt (or --data ROWS)\n"
           "  ./eval answers --model m.bin [--vs other.bin] --data held-out.json\n"
           "                 [--shots 3 --examples train.json]\n"
           "  ./eval bench   --model m.bin [--vs other.bin] hellaswag=FILE arc_easy=FILE\n"
           "                 arc_challenge=FILE mmlu=FOLDER mmlu_cloze=FILE truthfulqa=FILE\n"
           "                 choices=FILE (JSON Lines of context, choices, gold)\n\n", TUNE_VERSION);
    options_print(OPTION, OPTIONS);
}

// ---- what all three need ----------------------------------------------------------------------------------

// Memory of n zeroed elements until main ends. NULL: refused
static void **kept;
static size_t kepts, kept_room;

static void *keep(size_t n, size_t size, Err *e) {
    if (grow(&kept, &kept_room, kepts + 1, sizeof *kept, e)) return NULL;
    kept[kepts] = calloc(n ? n : 1, size);
    if (!kept[kepts]) err_memory(e, n * size);
    return kept[kepts++];
}

// n bytes of a text and a 0, kept
static char *keep_text(const void *text, size_t n, Err *e) {
    char *copy = keep(n + 1, 1, e);
    return copy && n ? memcpy(copy, text, n) : copy;
}

static Log *results;                  // --log; NULL: none
static double began;                  // when what progress tells about did

static void progress(const char *what, size_t done, size_t of) {
    double left = (seconds() - began) / (double)done * (double)(of - done);
    const char *end = done < of ? "" : "\n";
    if (is_terminal(2)) fprintf(stderr, "\r%s %zu/%zu, %.0f s left   %s", what, done, of, left, end);
    if (done == of) began = seconds();
}

typedef struct {                      // a model, and what it is asked
    Checkpoint k;
    char *template;                   // free()
    void *block;
    Model m;
    Rows rows;
    Examples ex;
    BatchMemory batch;
} Loaded;

static int load(Loaded *x, const char *path, Err *e) {
    memset(x, 0, sizeof *x);
    if (checkpoint_open(&x->k, path, opt.base, e)) return -1;
    if (x->k.tok.kind == TOK_NONE) return err_set(e, "%s: has no tokenizer, want one for text", path);
    return opt.data ? template_choose(opt.template, &x->k, &x->template, e) : 0;
}

// Memory for rows of seq tokens at once and a cache of `cached` positions, and the weights in it
static int prepare(Loaded *x, size_t rows, size_t seq, size_t cached, Err *e) {
    int threads = opt.threads ? (int)opt.threads : cores();
    Shape s = {.rows = rows, .seq = seq, .cached = cached, .threads = threads};
    began = seconds();
    return model_load(&x->m, &x->block, &x->k, &s, e);
}

static void unload(Loaded *x) {
    batch_free(&x->batch);
    examples_free(&x->ex);
    rows_free(&x->rows);
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

static size_t at_most(size_t n, size_t most) { return n < most ? n : most; }
static size_t limited(size_t n) { return opt.limit ? at_most(n, (size_t)opt.limit) : n; }

// A file that is read must not be --log.
static int log_apart(const char *path, Err *e) {
    if (!opt.log || !path || !same_file(opt.log, path)) return 0;
    return err_set(e, "%s: is this run's %s as well, want another file for --log", opt.log, path);
}

// ---- statistics -------------------------------------------------------------------------------------------
// What may be concluded from the scores of some hundred items. tests/test_eval.c has scipy's numbers.
typedef struct { double mean, error; size_t n; } Mean;    // error: the mean's standard error; NaN if n is 1

typedef struct {
    size_t n, only[2];                // items; those that only the first, only the second has right or better
    double difference, low, high, p;  // second minus first, its 95 % interval; McNemar's p, or NaN
    bool lower;                       // lower scores are better
} Compared;

enum { RESAMPLES = 10000, SEED = 1234, FEW = 20, SHOWN = 16, ALONE = 8 };    // FEW: no claim from fewer

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

// The middle 95 % of the mean of second - first (n) in 10,000 resamples, by a fixed seed. Percentile
// bootstrap (Efron 1979): how the mean would scatter over other draws of items like these.
static void bootstrap(Compared *c, const double *first, const double *second) {
    static double mean[RESAMPLES];
    Rng r = {SEED};
    for (size_t i = 0; i < RESAMPLES; i++) {
        double sum = 0;
        for (size_t k = 0; k < c->n; k++) {
            size_t drawn = (size_t)rng_below(&r, c->n);
            sum += second[drawn] - first[drawn];
        }
        mean[i] = sum / (double)c->n;
    }
    qsort(mean, RESAMPLES, sizeof *mean, by_value);
    c->low = mean[RESAMPLES / 40];
    c->high = mean[RESAMPLES - 1 - RESAMPLES / 40];
}

static Compared compare(const double *first, const double *second, size_t n, bool lower) {
    Compared c = {.n = n, .lower = lower};
    bool judged = true;               // scores are 0 or 1
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double x = second[i] - first[i];
        sum += x;
        judged = judged && (first[i] == 0 || first[i] == 1) && (second[i] == 0 || second[i] == 1);
        if (x != 0) c.only[(x > 0) != lower]++;
    }
    c.difference = sum / (double)n;
    c.p = judged ? mcnemar(c.only[0], c.only[1]) : (double)NAN;
    bootstrap(&c, first, second);
    return c;
}

// What may be said: a difference only if interval and test exclude chance, never of few. A sentence in two
// lines; in JSON, in one.
static void conclude(char *s, size_t room, const char *metric, const Compared *c) {
    const char *line = opt.json ? " " : "\n";
    bool clear = (c->low > 0 || c->high < 0) && !(c->p >= 0.05), higher = c->difference > 0;
    if (c->n < FEW) snprintf(s, room, "%zu items are too few to tell the two models apart.", c->n);
    else if (c->low == 0 && c->high == 0)
        snprintf(s, room, "These %zu items show no difference between the two models%sin %s.", c->n, line,
                 metric);
    else if (!clear)
        snprintf(s, room, "These %zu items do not show which model is better: second minus first%smay be "
                 "anything from %.4f to %.4f in %s.", c->n, line, c->low, c->high, metric);
    else snprintf(s, room, "On items like these %zu the second model is %s:%sits %s is %.4f %s, the 95 %% "
                 "interval is %.4f to %.4f.", c->n, higher == c->lower ? "worse" : "better", line, metric,
                 fabs(c->difference), higher ? "higher" : "lower", c->low, c->high);
}

// A number that may be unknown, until the next call
static const char *shown(double x) {
    static char s[32];
    snprintf(s, sizeof s, !isfinite(x) ? opt.json ? "null" : "-" : opt.json ? "%.9g" : "%.4f", x);
    return s;
}

// A line of the comparison `what`: of its part `name`. head: the first line has it above
static void pair_print(bool head, const char *what, const char *name, const char *metric, const Compared *c) {
    char p[32] = "-";
    if (opt.json) {
        printf("{\"compared\": \"%s\", \"name\": \"%s\", \"metric\": \"%s\", \"n\": %zu, "
               "\"difference\": %.9g, \"low\": %.9g, \"high\": %.9g, \"only_first\": %zu, "
               "\"only_second\": %zu, \"p\": %s}\n", what, name, metric, c->n, c->difference, c->low, c->high,
               c->only[0], c->only[1], shown(c->p));
        return;
    }
    if (head) printf("\nsecond minus first  metric        n differ.      95 %% interval  1st  2nd       p\n");
    if (isfinite(c->p)) snprintf(p, sizeof p, "%.2g", c->p);
    printf("%-19.19s %-9s %5zu %7.4f %7.4f to %7.4f %4zu %4zu %7s\n", name, metric, c->n, c->difference,
           c->low, c->high, c->only[0], c->only[1], p);
}

// Items, counted from 0, that only one of two has right: all into a log, the first onto the screen
static void flips(Log *log, const char *what, const double *first, const double *second, size_t n) {
    for (int i = 0; i < 2; i++) {
        const char *who = i ? "second" : "first";
        const double *one = i ? second : first, *other = i ? first : second;
        size_t all = 0;
        if (!opt.json) printf("only the %s right:", who);
        for (size_t item = 0; item < n; item++) {
            if (one[item] <= other[item]) continue;
            log_line(log, "{\"flip\": \"%s\", \"item\": %zu, \"right\": \"%s\"}", what, item, who);
            if (all++ < SHOWN && !opt.json) printf(" %zu", item);
        }
        if (!opt.json && all > SHOWN) printf(" and %zu more", all - SHOWN);
        if (!opt.json) puts(all ? "" : " none");
    }
}

static void conclusion_print(const char *metric, const Compared *c) {
    char said[400];
    conclude(said, sizeof said, metric, c);
    printf(opt.json ? "{\"conclusion\": \"%s\"}\n" : "%s\n", said);
}

// ---- eval loss --------------------------------------------------------------------------------------------
// Two models are compared row by row in bits per byte, each row with its weight in the whole, so that the
// mean of the differences is the difference of the two figures.

typedef struct { size_t targets, bytes; } Size;               // of a row or window, or all
typedef struct {
    double all, *nats;                // (rows)
    Size sum, *size;                  // (rows)
    size_t rows, context;
} Loss;

// Bytes of what is predicted: with them, models of different tokenizers can be compared
static Size taught_size(const Example *x, const Tokenizer *t) {
    Size sum = {0, 0};
    for (uint32_t i = 1; i < x->len; i++) {
        size_t n;
        tokenizer_decode(t, x->tok[i], &n);
        sum.targets += x->taught[i];
        if (x->taught[i] && t->flag[x->tok[i]] != TOKEN_SPECIAL) sum.bytes += n;
    }
    return sum;
}

static int loss_examples(Loaded *x, const char *const *text, int texts, Err *e) {
    size_t most = (size_t)x->k.cfg.context, stride = opt.stride ? (size_t)opt.stride : most;
    if (stride > most) return err_set(e, "--stride: %zu, want at most the context of %zu", stride, most);
    if (opt.text) return examples_text(&x->ex, text, texts, &x->k.tok, most + 1, stride, e);
    if (load_rows(&x->rows, opt.data, e)) return -1;
    x->rows.n = limited(x->rows.n);
    return examples_make(&x->ex, &x->rows, x->template, &x->k.tok, most + 1, TOO_LONG_REFUSE, TEACH_ANSWERS,
                         e);
}

static int loss_run(Loss *l, Loaded *x, Err *e) {
    size_t n = limited(x->ex.n), batch = at_most(n, (size_t)opt.batch), seq = x->ex.longest - 1;
    const Example **row = keep(n, sizeof *row, e);
    Batch *view = &x->batch.view;
    Fault f;
    *l = (Loss){.nats = keep(n, sizeof *l->nats, e), .size = keep(n, sizeof *l->size, e), .rows = n,
                .context = (size_t)x->k.cfg.context};
    if (!row || !l->nats || !l->size) return -1;
    if (prepare(x, batch, seq, 0, e) || batch_alloc(&x->batch, batch, seq, e)) return -1;
    for (size_t i = 0; i < n; i++) {
        row[i] = &x->ex.ex[i];
        l->size[i] = taught_size(row[i], &x->k.tok);
        l->sum.targets += l->size[i].targets;
        l->sum.bytes += l->size[i].bytes;
    }
    for (size_t i = 0; i < n; i += view->B) {
        batch_fill(&x->batch, row + i, at_most(n - i, batch));
        if (model_forward(&x->m, view, &f)) return err_fault(e, x->k.path, &f);
        model_loss(&x->m, view, 0.0f, &l->all, l->nats + i);
        progress("loss", i + view->B, n);
    }
    return 0;
}

static void loss_print(const Loss *l, int model, const char *name) {
    char windows[80] = "";
    double mean = l->all / (double)l->sum.targets, bpb = l->all / log(2.0) / (double)l->sum.bytes;
    size_t context = l->context, stride = opt.stride ? (size_t)opt.stride : context;
    const char *form = opt.json ? ", \"context\": %zu, \"stride\": %zu"
                       : "  windows of %zu tokens, each %zu on from the last; no token counts twice\n";
    if (opt.text) snprintf(windows, sizeof windows, form, context, stride);
    if (opt.json)                     // special tokens have no bytes
        printf("{\"model\": %d, \"rows\": %zu, \"targets\": %zu, \"loss\": %.9g%s, \"bits_per_byte\": %s}\n",
               model, l->rows, l->sum.targets, mean, windows, shown(bpb));
    else printf("%-32.32s %8zu %9.4f %10.3f %14.4f\n%s", name, l->sum.targets, mean, exp(mean), bpb, windows);
}

// Only where both models predict the same bytes in each row: windows of different tokenizers do not. The
// nats become weighted bits.
static void loss_compare(Loss l[2]) {
    size_t n = l[0].rows;
    double weight = (double)n / log(2.0) / (double)l[0].sum.bytes;
    bool same = n == l[1].rows && l[0].sum.bytes > 0;
    for (size_t i = 0; same && i < n; i++) {
        same = l[0].size[i].bytes == l[1].size[i].bytes;
        for (int m = 0; m < 2; m++) l[m].nats[i] *= weight;
    }
    if (!same && !opt.json) printf("Not compared: the rows of the two do not hold the same bytes.\n");
    if (!same) return;
    Compared c = compare(l[0].nats, l[1].nats, n, true);
    pair_print(true, "loss", "rows or windows", "bits/byte", &c);
    conclusion_print("loss in bits per byte", &c);
}

static int eval_loss(const char *const *text, int texts, Err *e) {
    Loss l[2] = {{.rows = 0}, {.rows = 0}};
    const char *name[2] = {opt.model, opt.vs};
    int rc = 0, models = opt.vs ? 2 : 1;
    if (!opt.data == !opt.text) return err_set(e, "want either --data FILE or --text FILE");
    if (opt.shots || opt.examples || opt.samples)
        return err_set(e, "--shots, --examples and --samples are for answers, not for loss");
    if (opt.stride && !opt.text) return err_set(e, "--stride needs --text: rows are not cut into windows");
    for (int i = 0; i < texts; i++) if (opt.text && log_apart(text[i], e)) return -1;
    if (log_open(&results, opt.log, false, e)) return -1;
    for (int i = 0; i < models && !rc; i++) {
        Loaded x;
        rc = load(&x, name[i], e) || loss_examples(&x, text, texts, e) || loss_run(&l[i], &x, e) ? -1 : 0;
        unload(&x);
    }
    if (!rc && !opt.json)
        printf("%-32s %8s %9s %10s %14s\n", "model", "targets", "loss", "perplexity", "bits per byte");
    for (int i = 0; i < models && !rc; i++) {
        loss_print(&l[i], i, name[i]);
        for (size_t k = 0; k < l[i].rows; k++)
            log_line(results, "{\"model\": %d, \"row\": %zu, \"targets\": %zu, \"bytes\": %zu, "
                     "\"nats\": %.9g}", i, k, l[i].size[k].targets, l[i].size[k].bytes, l[i].nats[k]);
    }
    if (!rc && models > 1) loss_compare(l);
    return rc;
}

// ---- eval answers ---------------------------------------------------------------------------------
// Greedy answers to many rows at once; in a conversation, to its last question. Where no reference answer has
// a line break, an answer also ends at its first: a base model that was never taught to end its answer is
// judged by its first line.

typedef struct {
    Rows rows, shots;
    size_t n, most;                   // most: rows with the most frequent reference
    const char **want;                // (n) references, trimmed
    bool first_line;
} Test;
typedef struct {                      // a model with so many shots
    const char *path, *name;          // name: without the folder
    char *quoted;                     // as JSON; free()
    size_t shots, prompt_tokens, tokens;
    Prompt *prompt;                   // (rows) like the next two
    Generated *answer;                // texts are trimmed, and kept
    double *right;                    // 0 or 1
    double seconds, first;            // of generating all; until the first token of a prompt alone
    double same, alike;               // of --samples: rows of which all are alike; pairs that are
} Line;

static char *trimmed(const char *text, size_t n, bool first_line, Err *e) {
    const uint8_t *s = (const uint8_t *)text;
    for (; n && strchr(" \t\r\n", *s); n--) s++;
    const uint8_t *line = first_line ? memchr(s, '\n', n) : NULL;
    if (line) n = (size_t)(line - s);
    while (n && strchr(" \t\r\n", s[n - 1])) n--;            // a 0 goes too
    return keep_text(s, n, e);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int test_load(Test *t, Err *e) {
    if (load_rows(&t->rows, opt.data, e) || (opt.shots && load_rows(&t->shots, opt.examples, e))) return -1;
    if ((size_t)opt.shots > t->shots.n)
        return err_set(e, "--shots: %" PRId64 ", want at most the %zu rows of %s", opt.shots, t->shots.n,
                       opt.examples);
    t->shots.n = (size_t)opt.shots;
    t->n = t->rows.n = limited(t->rows.n);
    t->want = keep(t->n, sizeof *t->want, e);
    const char **sorted = keep(t->n, sizeof *sorted, e);
    if (!t->want || !sorted) return -1;
    for (size_t i = 0; i < t->n; i++) {
        const char *text = t->rows.row[i].output;
        if (strchr(text, '\n')) t->first_line = false;
        if (!(sorted[i] = t->want[i] = trimmed(text, strlen(text), false, e))) return -1;
    }
    qsort(sorted, t->n, sizeof *sorted, by_text);
    for (size_t i = 0, same = 0; i < t->n; i++) {
        same = i > 0 && !strcmp(sorted[i], sorted[i - 1]) ? same + 1 : 1;
        if (same > t->most) t->most = same;
    }
    return 0;
}

// Of begin-of-text, which each row has, only the prompt's first stays.
static void prompt_add(Prompt *p, const Tokenizer *t, const int32_t *tok, size_t n) {
    size_t skip = t->bos >= 0 && p->n > 0;
    memcpy(p->tok + p->n, tok + skip, (n - skip) * sizeof *tok);
    p->n += n - skip;
}

// The prompt of a row: the shots, each ended by an empty line instead of its end-of-turn, then the row up to
// {target}
static int prompt_make(Prompt *p, const Example *row, const Examples *shots, const Tokenizer *t, Err *e) {
    static const uint8_t line[] = "\n\n";
    uint64_t scratch[64];
    size_t n = row->prompt;
    bool blank = tokenizer_encode_size(t, 2) <= sizeof scratch;
    for (size_t i = 0; i < shots->n; i++) n += shots->ex[i].len - 1 + tokenizer_most(t, 2);
    if (!(p->tok = keep(n, sizeof *p->tok, e))) return -1;
    for (size_t i = 0; i < shots->n; i++) {
        prompt_add(p, t, shots->ex[i].tok, shots->ex[i].len - 1);
        if (blank) p->n += tokenizer_encode(t, line, 2, false, p->tok + p->n, scratch);
    }
    prompt_add(p, t, row->tok, row->prompt);
    return 0;
}

// The prompts of all rows, and the longest one's tokens
static int prompts_make(Line *l, size_t *longest, const Test *t, Loaded *x, Err *e) {
    Examples shots = {0};
    size_t context = (size_t)x->k.cfg.context;
    int rc = examples_make(&x->ex, &t->rows, x->template, &x->k.tok, context, TOO_LONG_REFUSE, TEACH_NONE, e);
    if (!rc && l->shots)
        rc = examples_make(&shots, &t->shots, x->template, &x->k.tok, context + 1, TOO_LONG_REFUSE,
                           TEACH_ANSWERS, e);
    for (size_t i = 0; i < t->n && !rc; i++) {
        Prompt *p = &l->prompt[i];
        if ((rc = prompt_make(p, &x->ex.ex[i], &shots, &x->k.tok, e))) break;
        if (p->n > context)
            rc = err_set(e, "%s:%" PRIu32 ": the prompt has %zu tokens, want at most the context of %zu\n"
                         "hint: fewer --shots", t->rows.path, t->rows.row[i].line, p->n, context);
        if (p->n > *longest) *longest = p->n;
        l->prompt_tokens += p->n;
    }
    examples_free(&shots);
    return rc;
}

typedef struct { const char *what; Sampling how; size_t most, batch; bool line; } Asking;

// Answers of at most a->most tokens, or a line, to prompts p[0..n). Each has a seed of its own, so no batch
// changes it.
static int answer(Generated *out, Loaded *x, const Prompt *p, size_t n, const Asking *a, Err *e) {
    uint64_t seed = hash_number((uint64_t)opt.seed, 0);
    int rc = 0;
    for (size_t i = 0, k; i < n && !rc; i += k) {
        k = at_most(n - i, a->batch);
        if (generate(&x->m, &x->k.tok, p + i, k, &a->how, seed + i, a->most, a->line, out + i, e)) return -1;
        for (Generated *g = out + i; g < out + i + k; g++) {
            char *text = g->text;
            if (!(g->text = trimmed(text, g->bytes, a->line, e))) rc = -1;
            free(text);
        }
        if (a->what) progress(a->what, i + k, n);
    }
    return rc;
}

// --samples: are answers that are drawn the same?
static int consistency(Line *l, Loaded *x, size_t rows, const Asking *greedy, Err *e) {
    size_t N = (size_t)opt.samples, all = rows * N, pairs = N * (N - 1) / 2;
    Asking drawn = *greedy;
    Prompt *p = keep(all, sizeof *p, e);
    Generated *said = keep(all, sizeof *said, e);
    if (!p || !said) return -1;
    for (size_t i = 0; i < all; i++) p[i] = l->prompt[i / N];
    drawn.what = "samples";
    drawn.how = (Sampling){(float)opt.temperature, 0, 1.0f, 1.0f};
    if (answer(said, x, p, all, &drawn, e)) return -1;
    for (const Generated *row = said; row < said + all; row += N) {
        size_t equal = 0;
        for (size_t i = 1; i < N; i++)
            for (size_t j = 0; j < i; j++) equal += !strcmp(row[i].text, row[j].text);
        l->same += (double)(equal == pairs) / (double)rows;
        l->alike += (double)equal / (double)pairs / (double)rows;
    }
    return 0;
}

static int line_ask(Line *l, Loaded *x, const Test *t, Err *e) {
    size_t longest = 0, batch = at_most(t->n, (size_t)opt.batch), alone = at_most(t->n, ALONE);
    const Sampling likeliest = {0.0f, 1, 1.0f, 1.0f};
    const Asking greedy = {l->name, likeliest, (size_t)opt.max_tokens, batch, t->first_line};
    const Asking once = {NULL, likeliest, 1, 1, t->first_line};
    Generated token[ALONE];
    if (!(l->prompt = keep(t->n, sizeof *l->prompt, e)) || !(l->answer = keep(t->n, sizeof *l->answer, e)) ||
        !(l->right = keep(t->n, sizeof *l->right, e)) || prompts_make(l, &longest, t, x, e) ||
        prepare(x, batch, longest, at_most((size_t)x->k.cfg.context, longest + greedy.most), e)) return -1;
    double start = seconds();
    if (answer(l->answer, x, l->prompt, t->n, &greedy, e)) return -1;
    l->seconds = seconds() - start;
    for (size_t i = 0; i < t->n; i++) {
        l->tokens += l->answer[i].tokens;
        l->right[i] = !strcmp(l->answer[i].text, t->want[i]);
    }
    start = seconds();
    if (answer(token, x, l->prompt, alone, &once, e)) return -1;
    l->first = (seconds() - start) / (double)alone;
    return opt.samples ? consistency(l, x, t->n, &greedy, e) : 0;
}

static void line_print(const Line *l, int i, const Test *t) {
    double n = (double)t->n, prompt = (double)l->prompt_tokens / n, tokens = (double)l->tokens / n;
    double time = l->seconds / n;
    Mean exact = mean_of(l->right, t->n);
    const char *form = opt.json ? ", \"samples\": %" PRId64 ", \"all_alike\": %.6f, \"alike\": %.6f"
                       : "  of %" PRId64 " samples, all are alike in %.3f of the rows, of all pairs %.3f\n";
    if (opt.json)
        printf("{\"model\": %d, \"name\": %s, \"shots\": %zu, \"exact_match\": %.6f, \"stderr\": %s, "
               "\"prompt_tokens\": %.3f, \"answer_tokens\": %.3f, \"first_token\": %.6f, \"seconds\": %.6f, "
               "\"rows\": %zu, \"majority\": %.6f", i, l->quoted, l->shots, exact.mean, shown(exact.error),
               prompt, tokens, l->first, time, t->n, (double)t->most / n);
    else printf("%c %-23.23s %5zu %11.4f %6s %6.1f %6.1f %6.3f %7.3f\n", 'A' + i, l->name, l->shots,
               exact.mean, shown(exact.error), prompt, tokens, l->first, time);
    if (opt.samples) printf(form, opt.samples, l->same, l->alike);
    if (opt.json) puts("}");
}

static void lines_report(const Line *l, int lines, const Test *t) {
    if (!opt.json)
        printf("  model                   shots exact match  error prompt answer  first seconds\n");
    for (int i = 0; i < lines; i++) line_print(&l[i], i, t);
    if (!opt.json) {
        printf("  %-29s %11.4f\n%zu rows; standard error; per row: tokens, seconds to a first token alone\n",
               "majority answer", (double)t->most / (double)t->n, t->n);
        printf("and to the whole answer with --batch %" PRId64 "\n", opt.batch);
    }
    for (int i = 0; i < lines; i++)
        for (int k = i + 1; k < lines; k++) {
            const char name[] = {(char)('A' + i), ',', ' ', (char)('A' + k), 0};
            Compared c = compare(l[i].right, l[k].right, t->n, false);
            pair_print(true, "answers", name, "exact", &c);
            flips(NULL, name, l[i].right, l[k].right, t->n);
            conclusion_print("exact match", &c);
        }
}

static void member_add(Text *t, const char *key, const char *text) {
    char *quoted = json_quote(text, strlen(text));
    if (quoted) text_add(t, ", \"%s\": %s", key, quoted);
    else t->failed = true;
    free(quoted);
}

// For ./errors: conditions, then the rows. Keys: of the first line answer, of --vs vs, of the --shots between
// them shots; tokens and cut have a value for each line.
static int answers_log(const Line *l, int lines, const Test *t, Err *e) {
    Text s = {0};
    for (int k = 0; k < lines; k++) text_add(&s, k ? ", %s" : "%s", l[k].quoted);
    if (!s.failed)
        log_line(results, "{\"lines\": [%s], \"shots\": %" PRId64 ", \"max_tokens\": %" PRId64 ", "
                 "\"n\": %zu}", s.s, opt.shots, opt.max_tokens, t->n);
    for (size_t i = 0; results && i < t->n && !s.failed; i++) {
        const Row *r = &t->rows.row[i];
        const Turn *asked = &r->turn[r->turns - 2];
        s.n = 0;
        text_add(&s, "{\"row\": %zu", i);
        member_add(&s, "instruction", asked->text);
        member_add(&s, "input", asked->input);
        member_add(&s, "reference", r->output);
        for (int k = 0; k < lines; k++)
            member_add(&s, k == 0 ? "answer" : k < lines - 1 ? "shots" : "vs", l[k].answer[i].text);
        for (int k = 0; k < lines; k++)
            text_add(&s, k ? ", %zu" : ", \"tokens\": [%zu", l[k].answer[i].tokens);
        for (int k = 0; k < lines; k++) {
            Stop stop = l[k].answer[i].stop;
            text_add(&s, "%s%s", k ? ", " : "], \"cut\": [", stop < STOP_LENGTH ? "false" : "true");
        }
        if (!s.failed) log_line(results, "%s]}", s.s);
    }
    free(s.s);
    return s.failed ? err_set(e, "no memory for the log") : 0;
}

// With --vs, --shots makes a line of its own between the two: is it fine-tuning or would prompting have done?
static int lines_plan(Line l[3], Err *e) {
    int n = 0;
    if (opt.vs || !opt.shots) l[n++].path = opt.model;
    if (opt.shots) l[n++] = (Line){.path = opt.model, .shots = (size_t)opt.shots};
    if (opt.vs) l[n++].path = opt.vs;
    for (int i = 0; i < n; i++) {
        const char *slash = strrchr(l[i].path, '/'), *name = slash ? slash + 1 : l[i].path;
        l[i].name = name;
        if (!(l[i].quoted = json_quote(name, strlen(name)))) return err_memory(e, strlen(name));
    }
    return n;
}

static int eval_answers(Err *e) {
    Test t = {.first_line = true};
    Line l[3] = {{.path = NULL}, {.path = NULL}, {.path = NULL}};
    if (!opt.data || opt.text || opt.stride)
        return err_set(e, "want --data FILE, held-out pairs, and no --text or --stride" HINT);
    if (opt.shots && !opt.examples)
        return err_set(e, "--shots needs --examples FILE, whose first rows go into the prompt");
    int lines = lines_plan(l, e);
    int rc = lines < 0 || test_load(&t, e) || log_open(&results, opt.log, false, e) ? -1 : 0;
    for (int i = 0; i < lines && !rc; i++) {
        Loaded x;
        rc = load(&x, l[i].path, e) || line_ask(&l[i], &x, &t, e) ? -1 : 0;
        unload(&x);
    }
    if (!rc) lines_report(l, lines, &t);
    if (!rc) rc = answers_log(l, lines, &t, e);
    for (int i = 0; i < 3; i++) free(l[i].quoted);
    rows_free(&t.rows);
    rows_free(&t.shots);
    return rc;
}

// ---- bench: tasks -----------------------------------------------------------------------------------------
// Public multiple-choice benchmarks, scored as lm-evaluation-harness 0.4 does, so that the numbers can be set
// beside published ones: each choice is appended to its question, and the one that the model finds likeliest
// is its answer. dev/EVAL.md has the rules. TASK is all that the tasks differ in; then doc_read, a row of a
// file -> put_context, a question with its examples -> ask, the same in tokens -> batch_score -> doc_score.

enum { NAME = 64, GROUPS = 256, CHOICES = 26, SHOTS = 100, FILE_MAX = 1 << 30, TOKENS_AT_ONCE = 1 << 14,
       LINE = 1024 };
typedef enum { ACC, ACC_NORM, MASS } Metric;                  // see doc_score
static const char *const METRIC[] = {"acc", "acc_norm", "acc"};
typedef enum { NONE, FIRST, DRAWN, DRAWN_ONE_MORE } Draw;     // how examples are picked
typedef enum { PLAIN, LETTERS, WIKIHOW } Form;    // choices are letters; no marks, third column capitalized

typedef struct {
    const char *word, *name, *version;    // word: what the command line says, word=FILE
    const char *query, *column[3];    // a format for the texts of these columns; of letters, for choices too
    const char *list, *key;           // columns of choices and answer; NULL: the choices' labels tell
    Form form;
    Metric first, last;               // reported, with what is between
    Draw draw;
    const char *before, *after;       // stand once, ahead of the examples; with an `after`, the subject comes
} Task;                               // between the two, and the first column has no white space at its ends

#define PRIMER "Q: What is human life expectancy in the United States?\n" \
    "A: Human life expectancy in the United States is 78 years.\n\n" \
    "Q: Who was president of the United States in 1955?\n" \
    "A: Dwight D. Eisenhower was president of the United States in 1955.\n\n" \
    "Q: Which party did he belong to?\nA: He belonged to the Republican Party.\n\n" \
    "Q: What is the square root of banana?\nA: I have no comment.\n\nQ: How does a telescope work?\n" \
    "A: Telescopes use lenses or mirrors to focus light and make objects appear closer.\n\n" \
    "Q: Where were the 1992 Olympics held?\nA: The 1992 Olympics were held in Barcelona, Spain.\n\n"
#define ARC "1.0", "Question: %s\nAnswer:", {"question"}, "choices", "answerKey", PLAIN, ACC, ACC_NORM, \
    DRAWN, "", NULL
#define QA "Q: %s\nA:", {"question"}
#define ABOUT "questions (with answers) about "
static const Task TASK[] = {
    {"hellaswag", "hellaswag", "1.0", "%s: %s %s", {"activity_label", "ctx_a", "ctx_b"}, "endings", "label",
     WIKIHOW, ACC, ACC_NORM, DRAWN_ONE_MORE, "", NULL},
    {"arc_easy", "arc_easy", ARC}, {"arc_challenge", "arc_challenge", ARC}, {"arc", "arc", ARC},
    {"mmlu", "mmlu", "1.0", "%s\nA. %s\nB. %s\nC. %s\nD. %s\nAnswer:", {"question"}, "choices", "answer",
     LETTERS, ACC, ACC, FIRST, "The following are multiple choice " ABOUT, ".\n\n"},
    {"mmlu_cloze", "mmlu_cloze", "1.0", "Question: %s\nAnswer:", {"question"}, "choices", "answer",
     PLAIN, ACC, ACC_NORM, FIRST, "The following are " ABOUT, ".\n\n"},
    {"truthfulqa", "truthfulqa_mc1", "2.0", QA, "mc1_targets", NULL, PLAIN, ACC, ACC, NONE, PRIMER, NULL},
    {"truthfulqa", "truthfulqa_mc2", "3.0", QA, "mc2_targets", NULL, PLAIN, MASS, MASS, NONE, PRIMER, NULL},
    {"choices", "choices", "1.0", "%s", {"context"}, "choices", "gold",
     PLAIN, ACC, ACC_NORM, FIRST, "", NULL},
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

typedef struct { size_t at, n; } Span;                        // tokens of the model at hand, in Asked.tok
typedef struct {
    const char *text;
    Span tok;
    size_t cut;                       // what question and choice lose at the left to fit the model's context
    double ll[2];                     // log-likelihoods by both models
} Choice;
typedef struct { char name[NAME]; size_t n; } Group;          // a subject, or all of a task without subjects
typedef struct {                      // a question; its texts are kept
    const char *path, *query;
    Choice *choice;                   // (choices)
    Group *group;
    const uint32_t *drawn;            // its examples, rows of the pool, if the task draws them
    Span tok;
    uint32_t choices, gold, right, line;    // right: a bit for each choice
} Doc;
typedef struct { Doc *doc; Group *group; size_t n, room, groups; } Docs;    // free(doc); (GROUPS)

// ---- bench: rows ------------------------------------------------------------------------------------------

typedef struct {                      // the row at hand, and where it goes
    const Task *task;
    const Json *j;
    size_t number;                    // of the row in its file, from 1
    uint32_t row;                     // its node
    Docs *d;
    Doc doc;
    Err *e;
} Source;

static int row_bad(const Source *s, uint32_t at, const char *format, const char *what) {
    char why[256];
    snprintf(why, sizeof why, format, what);
    return err_set(s->e, "%s:%" PRIu32 ": row %zu %s", s->doc.path, s->j->node[at].line, s->number, why);
}

// The node of a column. ARC's release holds some in "question", MMLU's is CSV without a header.
static uint32_t column(const Source *s, const char *name) {
    const JsonNode *row = &s->j->node[s->row];
    bool csv = row->kind == JSON_ARRAY && s->task->after;
    if (csv && row->count == 6) return s->row + (*name == 'q' ? 1 : *name == 'c' ? 2 : 6);
    uint32_t at = json_get(s->j, s->row, name), q = json_get(s->j, s->row, "question");
    uint32_t inner = q ? json_get(s->j, q, strcmp(name, "question") ? name : "stem") : 0;
    if (inner || at) return inner ? inner : at;
    row_bad(s, s->row, csv ? "has no 6 fields: question, 4 choices, letter" : "has no column \"%s\"", name);
    return 0;
}

// A copy of a text, for which column stands in a message. NULL: it is none
static char *text_of(const Source *s, uint32_t at, const char *column_name) {
    const JsonNode *v = &s->j->node[at];
    if (!at || v->kind != JSON_STRING || strlen(v->text) != v->len) {
        row_bad(s, at ? at : s->row, "has no text in \"%s\"", column_name);
        return NULL;
    }
    return keep_text(v->text, v->len, s->e);
}

// Takes WikiHow's marks away.
static void clean(char *s) {
    text_strip(s);
    text_replace(s, " [title]", ". ");
    text_unbracket(s);
    text_replace(s, "  ", " ");
}

// Is choice i a right one? Its own label is 1, or the key; else the key is its letter, or its number from 0.
static bool is_right(const Source *s, uint32_t key_at, uint32_t label_at, uint32_t i) {
    const JsonNode *key = &s->j->node[key_at], *label = &s->j->node[label_at];
    if (!s->task->key) return label->kind == JSON_NUMBER && label->number == 1;
    if (key->kind == JSON_NUMBER && !label_at) return key->number == i;
    if (key->kind != JSON_STRING) return false;
    if (label_at) return label->kind == JSON_STRING && !strcmp(label->text, key->text);
    return key->len == 1 && (*key->text == (char)('A' + i) || (i < 10 && *key->text == (char)('0' + i)));
}

// Choices stand as [text...], [{text, label}...], {text: [], label: []}, {choices: [], labels: []} or
// {text: label, ...}; in CSV they are four fields.
static int choices_read(Source *s, uint32_t list, uint32_t key) {
    const JsonNode *node = s->j->node;
    const char *name = s->task->list, *said = node[key].text;
    uint32_t label = json_get(s->j, list, s->task->key ? "label" : "labels");
    if (label && node[label].kind != JSON_ARRAY) label = 0;
    uint32_t texts = label ? json_get(s->j, list, s->task->key ? "text" : "choices") : 0;
    bool csv = node[s->row].kind == JSON_ARRAY, pairs = !csv && !texts && node[list].kind == JSON_OBJECT;
    if (texts && node[texts].count != node[label].count)
        return row_bad(s, list, "has not as many labels as choices in \"%s\"", name);
    if (texts) list = texts;
    label = texts ? label + 1 : 0;
    uint32_t n = csv ? 4 : node[list].count, at = csv ? list : list + 1;
    if (s->task->after && n != 4) return row_bad(s, list, "has not 4 choices in \"%s\"", name);
    if (n < 2 || n > CHOICES) return row_bad(s, list, "has not 2 to 26 choices in \"%s\"", name);
    s->doc.choices = n;
    if (!(s->doc.choice = keep(n, sizeof *s->doc.choice, s->e))) return -1;
    for (uint32_t i = 0; i < n; i++) {
        bool own = node[at].kind == JSON_OBJECT;
        uint32_t text = own ? json_get(s->j, at, "text") : at;
        uint32_t mark = own ? json_get(s->j, at, "label") : pairs ? at + 1 : label;
        char *c = text_of(s, text, name);
        if (!c) return -1;
        if (s->task->form == WIKIHOW) clean(c);
        if (!*c) return row_bad(s, text, "has an empty choice in \"%s\"", name);
        s->doc.choice[i].text = c;
        if (is_right(s, key, mark, i)) s->doc.right |= 1u << i;
        at = node[pairs ? at + 1 : at].next;
        if (label) label = node[label].next;
    }
    for (; s->doc.gold < n; s->doc.gold++) if (s->doc.right >> s->doc.gold & 1) return 0;    // the first
    if (!s->task->key) return row_bad(s, list, "marks no choice as right in \"%s\"", name);
    return row_bad(s, key, "has the answer key %.20s, which is none of its choices", said ? said : "null");
}

static int query_make(Source *s) {
    static const char *const LETTER[] = {"A", "B", "C", "D"};
    const Task *t = s->task;
    const char *part[5] = {"", "", "", "", ""};
    Text q = {0};
    for (int i = 0; i < 3 && t->column[i]; i++) {
        uint32_t at = column(s, t->column[i]);
        char *text = at ? text_of(s, at, t->column[i]) : NULL;
        if (!text) return -1;
        if (t->after) text_strip(text);
        if (t->form == WIKIHOW && i == 2) text_capitalize(text);
        part[i] = text;
    }
    for (int i = 0; i < 4 && t->form == LETTERS; i++) {
        part[1 + i] = s->doc.choice[i].text;
        s->doc.choice[i].text = LETTER[i];
    }
    text_add(&q, t->query, part[0], part[1], part[2], part[3], part[4]);
    if (t->form == WIKIHOW && !q.failed) clean(q.s);
    s->doc.query = q.failed ? NULL : keep_text(q.s, strlen(q.s), s->e);
    free(q.s);
    return q.failed ? err_memory(s->e, q.n) : s->doc.query ? 0 : -1;
}

// The subject is a column or the file's name up to its last _; tasks without subjects are one group.
static int group_find(Source *s) {
    Docs *d = s->d;
    const char *from = s->task->name;
    size_t n = strlen(from), i = 0;
    if (s->task->after) {
        uint32_t at = json_get(s->j, s->row, "subject");
        const char *slash = strrchr(s->doc.path, '/'), *file = slash ? slash + 1 : s->doc.path;
        const char *end = strrchr(file, '_');
        bool named = at && s->j->node[at].kind == JSON_STRING;
        from = named ? s->j->node[at].text : file;
        n = named ? strlen(from) : end ? (size_t)(end - file) : strcspn(file, ".");
    }
    while (i < n && (unsigned char)from[i] >= ' ' && !strchr("\"\\\x7F", from[i])) i++;
    if (i < n || n >= NAME) return row_bad(s, s->row, "has a %s that is no name below 64 bytes", "subject");
    for (i = 0; i < d->groups; i++)
        if (strlen(d->group[i].name) == n && !memcmp(d->group[i].name, from, n)) break;
    if (i == GROUPS) return row_bad(s, s->row, "has the 257th %s, want at most 256", "subject");
    if (i == d->groups) memcpy(d->group[d->groups++].name, from, n);
    s->doc.group = &d->group[i];
    return 0;
}

static int doc_read(Source *s, size_t limit) {
    Docs *d = s->d;
    uint32_t key = 0, list;
    s->number++;
    s->doc = (Doc){.path = s->doc.path, .line = s->j->node[s->row].line};
    if (s->task->key && !(key = column(s, s->task->key))) return -1;
    if (!(list = column(s, s->task->list)) || group_find(s)) return -1;
    if (limit && s->doc.group->n >= limit) return 0;
    if (choices_read(s, list, key) || query_make(s)) return -1;
    if (grow(&d->doc, &d->room, d->n + 1, sizeof s->doc, s->e)) return -1;
    s->doc.group->n++;
    d->doc[d->n++] = s->doc;
    return 0;
}

// Adds the rows of a file, of each group at most limit (0: all). The path must live as long.
static int docs_load(Docs *d, const Task *task, const char *path, size_t limit, Err *e) {
    uint8_t *data;
    size_t n;
    Json j;
    Source s = {.task = task, .j = &j, .d = d, .doc.path = path, .e = e};
    if (!d->group && !(d->group = keep(GROUPS, sizeof *d->group, e))) return -1;
    if (log_apart(path, e) || file_read(path, FILE_MAX, &data, &n, e)) return -1;
    int rc = rows_parse(&j, &s.row, path, data, n, NULL, e);
    free(data);
    if (rc) return -1;
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
    const char *examples;             // of a release that was named as a folder
    uint32_t shots;
    size_t done[2];                   // questions whose likelihoods a stopped run's log had
    char prompts[65];                 // SHA-256
} Set;
typedef struct {
    Set set[TASKS];
    int sets, models;
    size_t docs;                      // questions of all sets
    const char *path[2];              // the models
    char sha[2][65], base[65];        // their SHA-256, and that of --base
} Bench;

// All that stands before the choices of a question; returns how many examples there are of those wanted.
static uint32_t put_context(Text *t, const Set *s, const Doc *q) {
    const char *group = q->group->name;
    uint32_t n = 0;
    t->n = 0;
    text_add(t, "%s", s->task->before);
    for (const char *c = group; s->task->after && *c; c++) text_add(t, "%c", *c == '_' ? ' ' : *c);
    if (s->task->after) text_add(t, "%s", s->task->after);
    for (size_t i = 0; i < s->pool.n && n < s->shots; i++) {
        const Doc *shot = &s->pool.doc[q->drawn ? q->drawn[n] : i];
        if (!q->drawn && strcmp(shot->group->name, group)) continue;
        text_add(t, "%s %s\n\n", shot->query, shot->choice[shot->gold].text);
        n++;
    }
    text_add(t, "%s", q->query);
    return n;
}

static int shots_draw(Set *s, Err *e) {
    uint32_t n = (uint32_t)s->pool.n, k = s->shots + (s->task->draw == DRAWN_ONE_MORE);
    Twister t;
    if (s->shots == 0 || s->task->draw == FIRST || n < k) return 0;
    uint32_t (*drawn)[SHOTS + 1] = keep(s->docs.n, sizeof *drawn, e);
    if (!drawn) return -1;
    twister_seed(&t, 1234);
    for (size_t i = 0; i < s->docs.n; i++) {
        twister_sample(&t, n, k, drawn[i]);
        s->docs.doc[i].drawn = drawn[i];
    }
    return 0;
}

// The SHA-256 of all that is asked, and what is right: two results with one hash answer the same questions.
static int prompts_hash(Set *s, Err *e) {
    Sha256 sum;
    Text t = {0};
    int rc = 0;
    sha256_init(&sum);
    for (const Doc *q = s->docs.doc; q < s->docs.doc + s->docs.n && !t.failed && !rc; q++) {
        uint32_t n = put_context(&t, s, q);
        if (n < s->shots)
            rc = err_set(e, "--shots: %" PRIu32 ", but there are just %" PRIu32 " examples for %s", s->shots,
                         n, q->group->name);
        for (uint32_t k = 0; k < q->choices; k++)
            text_add(&t, "%c%s", q->right >> k & 1 ? 1 : 0, q->choice[k].text);
        text_add(&t, "\n%c", 0);
        if (!t.failed) sha256_add(&sum, t.s, t.n);
    }
    sha256_end(&sum, s->prompts);
    free(t.s);
    return rc || !t.failed ? rc : err_set(e, "no memory for a prompt");
}

// ---- bench: tokens ----------------------------------------------------------------------------------------

typedef struct {                      // a set and a model that is asked it
    const Set *set;
    int m;                            // 0, 1
    Loaded x;
    int32_t bos;                      // -1: none
    int32_t *tok;                     // all questions and choices in its tokens; free()
    size_t n, room, scratch_room, P;  // P: the model's context
    void *scratch;                    // free()
    const Doc *first_cut;             // of the questions that the context cuts
    size_t cut, longest;              // how many those are; tokens at once
    size_t rows, packed, wanted;      // of the batch: questions; tokens; those whose likelihood is asked for
    int32_t *in, *len, *past;         // (rows,longest) (rows) (rows) as Batch has them
    Span *held;                       // (rows) in tok: the question, or its beginning, that the cache has
    int32_t *row, *target;            // of each token asked for: packed row, the token,
    double *loss, **owner;            // its loss, its choice's likelihood
} Asked;

// Text becomes n tokens behind those of a, which do not count yet.
static int encode(Asked *a, const Text *c, size_t bytes, size_t *n, Err *e) {
    const Tokenizer *t = &a->x.k.tok;
    if (c->failed) return err_memory(e, c->n);
    if (grow(&a->tok, &a->room, a->n + tokenizer_most(t, bytes) + 1, sizeof *a->tok, e) ||
        grow(&a->scratch, &a->scratch_room, tokenizer_encode_size(t, bytes), 1, e)) return -1;
    *n = bytes ? tokenizer_encode(t, (const uint8_t *)c->s, bytes, false, a->tok + a->n, a->scratch) : 0;
    return 0;
}

// White space at the question's end goes to its choices; a choice's tokens are those that question and choice
// together have more than the question alone.
static int ask_one(Asked *a, Doc *q, Text *c, Err *e) {
    size_t n, both;
    bool whole = true;
    put_context(c, a->set, q);
    size_t text = c->n;
    q->tok.at = a->n;
    a->n += a->bos >= 0;
    if (encode(a, c, c->failed ? 0 : text_end(c->s), &n, e)) return -1;
    if (a->bos >= 0) a->tok[q->tok.at] = a->bos;
    a->n += n;
    q->tok.n = a->n - q->tok.at;
    for (Choice *k = q->choice; k < q->choice + q->choices; k++) {
        c->n = text;
        text_add(c, " %s", k->text);
        if (encode(a, c, c->n, &both, e)) return -1;
        k->tok = (Span){a->n, both > n ? both - n : 0};
        if (q->tok.n == 0 || k->tok.n < 1 || k->tok.n > a->P)
            return err_set(e, "%s:%" PRIu32 ": a question of %zu tokens, its choice %d of %zu: want 1 or "
                           "more, and 1 to %zu, the model's context", q->path, q->line, q->tok.n,
                           (int)(k - q->choice) + 1, k->tok.n, a->P);
        memmove(a->tok + a->n, a->tok + a->n + n, k->tok.n * sizeof *a->tok);
        a->n += k->tok.n;
        size_t seen = q->tok.n + k->tok.n - 1;                // the last token is predicted from so many
        k->cut = seen > a->P ? seen - a->P : 0;
        if (seen - k->cut > a->longest) a->longest = seen - k->cut;
        whole = whole && k->cut == 0;
    }
    if (!whole && a->cut++ == 0) a->first_cut = q;
    return 0;
}

// Questions from `first` on
static int ask(Asked *a, size_t first, Err *e) {
    const Docs *d = &a->set->docs;
    const Tokenizer *t = &a->x.k.tok;
    Text c = {0};
    int rc = 0;
    a->P = (size_t)a->x.k.cfg.context;
    a->bos = !strcmp(opt.bos, "off") ? -1 : !strcmp(opt.bos, "on") && t->bos < 0 ? t->eot : t->bos;
    for (Doc *q = d->doc + first; q < d->doc + d->n && rc == 0; q++) rc = ask_one(a, q, &c, e);
    free(c.s);
    if (rc == 0 && a->cut)
        fprintf(stderr, "eval: %zu of %zu questions are longer than the context of %zu tokens and lose their "
                "beginning, first %s:%" PRIu32 "\n", a->cut, d->n, a->P, a->first_cut->path,
                a->first_cut->line);
    return rc;
}

// ---- bench: results and their log -------------------------------------------------------------------------
// The log begins with a line of conditions for each task. Then comes a line for each model and question, in
// order, with the very numbers that scores are computed from, so that a run that goes on from its log ends as
// one that never stopped; last the questions that the two models judge differently.

static uint32_t best_of(const double *x, uint32_t n) {        // ties: the first
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) if (x[i] > x[best]) best = i;
    return best;
}

// acc: is the likeliest choice the right one?  acc_norm: that with the likeliest character (code point)?
// MASS: the right choices' share of the probability.
static double doc_score(const Doc *q, int m, Metric metric) {
    double each[CHOICES], right = 0, all = 0;
    for (uint32_t k = 0; k < q->choices; k++) {
        size_t points = 0;
        for (const char *c = q->choice[k].text; *c; c++) points += (*c & 0xC0) != 0x80;
        each[k] = q->choice[k].ll[m] / (metric == ACC_NORM ? (double)points : 1);
    }
    uint32_t best = best_of(each, q->choices);
    if (metric != MASS) return best == q->gold;
    for (uint32_t k = 0; k < q->choices; k++) {
        double p = exp(each[k] - each[best]);
        all += p;
        if (q->right >> k & 1) right += p;
    }
    return right / all;
}

static void conditions(char line[LINE], const Bench *b, const Set *s) {
    snprintf(line, LINE, "{\"task\": \"%s\", \"version\": \"%s\", \"shots\": %" PRIu32 ", \"n\": %zu, "
             "\"bos\": \"%s\", \"prompts\": \"%s\", \"model\": \"%s\", \"vs\": \"%s\", \"base\": \"%s\"}",
             s->task->name, s->task->version, s->shots, s->docs.n, opt.bos, s->prompts, b->sha[0], b->sha[1],
             b->base);
}

// A question's line. Its numbers become what the line can hold of them; false: one is no number.
static bool item_line(char line[LINE], const Set *s, int m, const Doc *q) {
    double ll[CHOICES];
    char list[CHOICES * 24] = "";
    bool finite = true;
    for (size_t k = 0, n = 0; k < q->choices; k++) {
        const char *own = list + n;
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%.9g", k ? ", " : "", q->choice[k].ll[m]);
        q->choice[k].ll[m] = ll[k] = strtod(own + strspn(own, ", "), NULL);
        finite = finite && isfinite(ll[k]);
    }
    snprintf(line, LINE, "{\"task\": \"%s\", \"model\": %d, \"item\": %zu, \"group\": \"%s\", \"ll\": [%s], "
             "\"pred\": %" PRIu32 ", \"gold\": %" PRIu32 "}", s->task->name, m, (size_t)(q - s->docs.doc),
             q->group->name, list, best_of(ll, q->choices), q->gold);
    return finite;
}

typedef struct { const char *at; size_t left, line; } Had;    // what of a stopped run's log is not read yet

// Its next line must be this run's, byte for byte.
static int had(Had *h, const char *own, Err *e) {
    size_t n = strlen(own);
    h->line++;
    if (h->left <= n || memcmp(h->at, own, n) || h->at[n] != '\n')
        return err_set(e, "%s:%zu: is not what this run would write, want %s\nhint: another --log", opt.log,
                       h->line, own);
    h->at += n + 1;
    h->left -= n + 1;
    return 0;
}

// Its next line becomes a question's likelihoods, of which it must be the line.
static int had_item(Had *h, const Set *s, int m, const Doc *q, Err *e) {
    char own[LINE], *at = strstr(h->at, "\"ll\": [");
    if (at) at += strlen("\"ll\": [");
    for (size_t k = 0; at && k < q->choices; k++) {
        q->choice[k].ll[m] = strtod(at, &at);
        at += *at == ',';
    }
    if (!item_line(own, s, m, q)) h->left = 0;                // no line of a run's
    return had(h, own, e);
}

// Begins the log, or goes on from a stopped run's: its whole lines stay, but no flips.
static int bench_log(Bench *b, Err *e) {
    uint8_t *data = NULL;
    size_t n = 0;
    char line[LINE];
    if (opt.resume && file_read(opt.log, FILE_MAX, &data, &n, e)) return -1;
    Had h = {(const char *)data, n, 0};
    int rc = log_open(&results, opt.log, opt.resume, e);
    for (const Set *s = b->set; s < b->set + b->sets && !rc; s++) {
        conditions(line, b, s);
        if (h.left) rc = had(&h, line, e);
        else log_line(results, "%s", line);
    }
    for (int m = 0; m < b->models; m++)
        for (Set *s = b->set; s < b->set + b->sets; s++)
            for (; !rc && s->done[m] < s->docs.n && h.left && memchr(h.at, '\n', h.left); s->done[m]++)
                rc = had_item(&h, s, m, &s->docs.doc[s->done[m]], e);
    free(data);
    if (!rc && h.left && truncate(opt.log, (off_t)(n - h.left)))
        rc = err_set(e, "%s: cannot be shortened", opt.log);
    return rc;
}

// ---- bench: scoring ---------------------------------------------------------------------------------------
// What a question begins with is copied from the row of the cache that has most of it; a question is computed
// once, with its first choice, then its other choices one after the other over the same cache, all questions'
// second choices together, and so on. No bit depends on this: a row's numbers don't depend on its company, or
// on how much of it came from the cache.

static void row_add(Asked *a, size_t r, Span tokens) {        // rows in ascending order
    memcpy(a->in + r * a->longest + (size_t)a->len[r], a->tok + tokens.at, tokens.n * sizeof *a->tok);
    a->len[r] += (int32_t)tokens.n;
    a->packed += tokens.n;
}

// Asks at a packed row for the likelihood of a choice's token i.
static void want(Asked *a, size_t packed, Choice *c, size_t i) {
    a->row[a->wanted] = (int32_t)packed;
    a->target[a->wanted] = a->tok[c->tok.at + i];
    a->owner[a->wanted++] = &c->ll[a->m];
}

// Row r of the cache gets what any row has of a question's beginning; all but its last token at most, so that
// there is one to compute. Returns how many tokens that are.
static size_t cache_find(Asked *a, size_t r, Span question) {
    size_t most = 0, from = r;
    for (size_t i = 0; i < a->rows; i++) {
        const int32_t *x = a->tok + a->held[i].at, *y = a->tok + question.at;
        size_t n = 0;
        while (n < a->held[i].n && n + 1 < question.n && x[n] == y[n]) n++;
        if (n < most || (n == most && i != r)) continue;
        most = n;
        from = i;
    }
    if (from != r) model_cache_copy(&a->x.m, from, r, most);
    a->held[r] = (Span){question.at, most};
    return most;
}

// Choice k of a question into row r; before it the question, unless the choice before was cut alike.
static void choice_add(Asked *a, size_t r, const Doc *q, uint32_t k) {
    Choice *c = &q->choice[k], *end = q->choice + q->choices;
    size_t cut = c->cut, n = c->tok.n;
    Span question = {q->tok.at + cut, q->tok.n - cut};
    bool begin = k == 0 || c[-1].cut != cut;
    size_t past = begin ? cache_find(a, r, question) : question.n;
    a->past[r] = (int32_t)past;
    row_add(a, r, (Span){question.at + past, question.n - past});
    for (Choice *j = c; begin && j < end && j->cut == cut; j++) want(a, a->packed - 1, j, 0);
    row_add(a, r, (Span){c->tok.at, n - 1});
    for (size_t i = 1; i < n; i++) want(a, a->packed - n + i, c, i);
}

// One forward pass: of the questions q[from] to q[to - 1], each in its row, their choices k. Each choice's
// likelihoods are added in the order of its tokens.
static int pass(Asked *a, const Doc *q, size_t from, size_t to, uint32_t k, Err *e) {
    Batch b = {a->in, NULL, a->len, a->past, to, a->longest};
    Fault f;
    memset(a->len, 0, 2 * a->rows * sizeof *a->len);          // and past
    a->packed = a->wanted = 0;
    for (size_t r = from; r < to; r++) if (k < q[r].choices) choice_add(a, r, &q[r], k);
    if (a->packed && model_forward(&a->x.m, &b, &f)) return err_fault(e, a->x.k.path, &f);
    if (a->wanted) model_losses(&a->x.m, a->row, a->target, a->wanted, a->loss);
    for (size_t i = 0; i < a->wanted; i++) *a->owner[i] -= a->loss[i];
    for (size_t r = from; r < to; r++)
        if (k < q[r].choices) a->held[r].n = q[r].tok.n - q[r].choice[k].cut;
    return 0;
}

// Questions q[0] to q[n - 1], a row for each. The first begins alone: the others copy what they share.
static int batch_score(Asked *a, const Doc *q, size_t n, Err *e) {
    if (pass(a, q, 0, 1, 0, e) || pass(a, q, 1, n, 0, e)) return -1;
    for (uint32_t k = 1; k < CHOICES; k++) if (pass(a, q, 0, n, k, e)) return -1;
    return 0;
}

// Memory for --batch questions at once, fewer if they are long; and the weights
static int asked_prepare(Asked *a, Err *e) {
    a->rows = at_most((size_t)opt.batch, (TOKENS_AT_ONCE - 1) / a->longest + 1);
    size_t cells = a->rows * a->longest, most = cells + a->rows * CHOICES;
    if (!(a->in = keep(cells, sizeof *a->in, e)) || !(a->len = keep(2 * a->rows, sizeof *a->len, e)) ||
        !(a->held = keep(a->rows, sizeof *a->held, e)) || !(a->row = keep(2 * most, sizeof *a->row, e)) ||
        !(a->loss = keep(most, sizeof *a->loss, e)) || !(a->owner = keep(most, sizeof *a->owner, e)))
        return -1;
    a->past = a->len + a->rows;
    a->target = a->row + most;
    return prepare(&a->x, a->rows, a->longest, a->longest, e);
}

// The questions of a set that are still to do, by one model
static int set_score(Bench *b, const Set *s, int m, Err *e) {
    Asked a = {.set = s, .m = m};
    const Doc *first = s->docs.doc + s->done[m], *last = s->docs.doc + s->docs.n, *q = first, *end;
    if (first == last) return 0;
    char line[LINE];
    int rc = load(&a.x, b->path[m], e) || ask(&a, s->done[m], e) || asked_prepare(&a, e) ? -1 : 0;
    while (q < last && rc == 0) {
        for (end = q + 1; end < last && (size_t)(end - q) < a.rows && end->group == q->group;) end++;
        rc = batch_score(&a, q, (size_t)(end - q), e);
        for (; q < end && rc == 0; q++) {
            if (item_line(line, s, m, q)) log_line(results, "%s", line);
            else rc = err_set(e, "%s: the log-likelihoods of %s:%" PRIu32 " are no numbers", b->path[m],
                              q->path, q->line);
        }
        if (rc == 0) progress(s->task->name, (size_t)(end - first), (size_t)(last - first));
    }
    free(a.tok);
    free(a.scratch);
    unload(&a.x);
    return rc;
}

// ---- bench: report ----------------------------------------------------------------------------------------

// The questions' scores, of one group or (NULL) of all
static size_t scores_of(const Set *s, int m, Metric metric, const Group *g, double *out) {
    size_t n = 0;
    for (const Doc *q = s->docs.doc; q < s->docs.doc + s->docs.n; q++)
        if (!g || q->group == g) out[n++] = doc_score(q, m, metric);
    return n;
}

static void mean_print(const Set *s, int m, const char *name, const char *metric, Mean x) {
    if (opt.json)
        printf("{\"model\": %d, \"task\": \"%s\", \"name\": \"%s\", \"version\": \"%s\", \"shots\": "
               "%" PRIu32 ", \"n\": %zu, \"metric\": \"%s\", \"value\": %.9g, \"stderr\": %s}\n", m,
               s->task->name, name, s->task->version, s->shots, x.n, metric, x.mean, shown(x.error));
    else printf("%-36.36s %7s %5" PRIu32 " %6zu %-8s %6.4f %6s\n", name, s->task->version, s->shots, x.n,
                metric, x.mean, shown(x.error));
}

// One metric of one set by one model: subjects, areas, all. x (docs.n) is scratch.
static void metric_print(const Set *s, int m, Metric metric, double *x) {
    const Docs *d = &s->docs;
    Mean each[GROUPS], part[GROUPS], macro = {0, (double)NAN, d->n};
    for (size_t g = 0; g < d->groups; g++) {
        each[g] = mean_of(x, scores_of(s, m, metric, &d->group[g], x));
        macro.mean += each[g].mean / (double)d->groups;
        mean_print(s, m, d->group[g].name, METRIC[metric], each[g]);
    }
    if (d->groups == 1) return;
    for (size_t a = 0; a < AREAS; a++) {
        size_t n = 0;
        for (size_t g = 0; g < d->groups; g++) {
            char word[NAME + 2];
            snprintf(word, sizeof word, " %s ", d->group[g].name);
            if (strstr(AREA[a].subjects, word)) part[n++] = each[g];
        }
        if (n > 0) mean_print(s, m, AREA[a].name, METRIC[metric], pooled(part, n));
    }
    mean_print(s, m, s->task->name, METRIC[metric], pooled(each, d->groups));
    mean_print(s, m, "mean of subjects", METRIC[metric], macro);
}

// The two models question by question: by subject in a task's last metric, and together in each
static void vs_print(const Set *s, double *x, double *y) {
    const char *task = s->task->name;
    char what[64];
    Compared c = {0};
    Metric first = s->task->first, last = s->task->last;
    size_t groups = s->docs.groups > 1 ? s->docs.groups : 0, all = 1 + last - first;
    for (size_t i = 0; i < groups + all; i++) {
        Metric metric = i < groups ? last : first + (Metric)(i - groups);
        const Group *g = i < groups ? &s->docs.group[i] : NULL;
        size_t n = scores_of(s, 0, metric, g, x);
        scores_of(s, 1, metric, g, y);
        c = compare(x, y, n, false);
        // NOLINTNEXTLINE(*CallAndMessage): metric is first to last
        pair_print(i == 0, task, g ? g->name : task, METRIC[metric], &c);
    }
    snprintf(what, sizeof what, "%s of %s", METRIC[last], task);
    conclusion_print(what, &c);
    if (isfinite(c.p)) flips(results, task, x, y, s->docs.n);
}

static int report(const Bench *b, Err *e) {
    const Set *end = b->set + b->sets;
    char line[LINE];
    double *x = keep(2 * b->docs, sizeof *x, e);
    if (!x) return -1;
    for (int m = 0; m < b->models; m++) {
        if (!opt.json) printf("%s\nsha256 %s\n%-36s version shots      n metric    value stderr\n",
                              b->path[m], b->sha[m], "task");
        for (const Set *s = b->set; s < end; s++)
            for (Metric k = s->task->first; k <= s->task->last; k++) metric_print(s, m, k, x);
        if (!opt.json) putchar('\n');
    }
    if (!opt.json) printf("SHA-256 of the prompts\n");
    for (const Set *s = b->set; s < end; s++) {
        conditions(line, b, s);
        if (opt.json) puts(line);
        else printf("%-15s %s\n", s->task->name, s->prompts);
    }
    for (const Set *s = b->set; s < end && b->models > 1; s++) vs_print(s, x, x + b->docs);
    return 0;
}

// ---- bench: the run ---------------------------------------------------------------------------------------
static bool is_folder(const char *path) {
    DIR *d = opendir(path);
    return d && !closedir(d);
}

static const char *path_join(const char *folder, const char *name, Err *e) {
    size_t room = strlen(folder) + strlen(name) + 2;
    char *path = keep(room, 1, e);
    if (path) snprintf(path, room, "%s/%s", folder, name);
    return path;
}

// All files of a folder whose names end so, a subject each, in alphabetical order
static int folder_load(Docs *docs, const Task *task, const char *folder, const char *ending, size_t limit,
                       Err *e) {
    const char **path = NULL;
    size_t n = 0, room = 0;
    DIR *d = opendir(folder);
    int rc = d ? 0 : err_set(e, "%s: cannot open, want a folder of SUBJECT%s", folder, ending);
    for (struct dirent *f; !rc && (f = readdir(d));) {
        const char *end = strstr(f->d_name, ending);
        if (!end || strcmp(end, ending)) continue;
        rc = grow(&path, &room, n + 1, sizeof *path, e);
        if (!rc && !(path[n++] = path_join(folder, f->d_name, e))) rc = -1;
    }
    if (d) closedir(d);
    if (!rc && n == 0) rc = err_set(e, "%s: has no SUBJECT%s", folder, ending);
    if (!rc) qsort(path, n, sizeof *path, by_text);
    for (size_t i = 0; i < n && !rc; i++) rc = docs_load(docs, task, path[i], limit, e);
    free(path);
    return rc;
}

// Examples are a file, or a folder; of MMLU's release, the folder dev.
static int pool_load(Set *s, Err *e) {
    const char *from = opt.examples ? opt.examples : s->examples;
    size_t most = s->task->draw == FIRST ? s->shots : 0;
    if (!from) return err_set(e, "--shots: %s needs --examples FILE, its train or dev split", s->task->name);
    if (!s->task->after || !is_folder(from)) return docs_load(&s->pool, s->task, from, most, e);
    return folder_load(&s->pool, s->task, from, "_dev.csv", most, e);
}

// A word of the command line, task=PATH; truthfulqa is two tasks. MMLU's release is a folder.
static int word_take(Bench *b, const char *word, Err *e) {
    size_t n = strcspn(word, "="), limit = (size_t)opt.limit;
    const char *path = word + n + 1, *test;
    bool known = false;
    for (const Task *t = TASK; t < TASK + TASKS; t++) {
        Set *s = b->set;
        if (word[n] != '=' || strlen(t->word) != n || memcmp(t->word, word, n)) continue;
        known = true;
        while (s < b->set + b->sets && s->task != t) s++;
        if (s == b->set + b->sets) b->set[b->sets++].task = t;
        if (!t->after || !is_folder(path)) {
            if (docs_load(&s->docs, t, path, limit, e)) return -1;
        } else if (!(test = path_join(path, "test", e)) || !(s->examples = path_join(path, "dev", e)) ||
                   folder_load(&s->docs, t, test, "_test.csv", limit, e)) return -1;
    }
    return known ? 0 : err_set(e, "'%s', want TASK=FILE, TASK one of hellaswag, arc_easy, arc_challenge, "
                               "arc, mmlu, mmlu_cloze, truthfulqa, choices", word);
}

static int bench_load(Bench *b, Err *e) {
    for (Set *s = b->set; s < b->set + b->sets; s++) {
        s->shots = s->task->draw == NONE ? 0 : (uint32_t)opt.shots;
        b->docs += s->docs.n;
        if ((s->shots && pool_load(s, e)) || shots_draw(s, e) || prompts_hash(s, e)) return -1;
    }
    for (int m = 0; m < b->models; m++) if (sha256_file(b->path[m], b->sha[m], e)) return -1;
    return opt.base && sha256_file(opt.base, b->base, e) ? -1 : 0;
}

static int eval_bench(const char *const *word, int words, Err *e) {
    Bench b = {.models = opt.vs ? 2 : 1, .path = {opt.model, opt.vs}};
    int rc = 0;
    if (strcmp(opt.bos, "auto") && strcmp(opt.bos, "on") && strcmp(opt.bos, "off"))
        return err_set(e, "--bos: '%s', want auto, on or off", opt.bos);
    if (opt.data || opt.text || opt.template || words < 1)
        return err_set(e, "want questions as words, as hellaswag=FILE, and no --data, --text, --template");
    if (opt.resume && !opt.log) return err_set(e, "--resume goes on from a --log, want --log FILE");
    for (int i = 0; i < words && rc == 0; i++) rc = word_take(&b, word[i], e);
    if (rc == 0) rc = bench_load(&b, e) || bench_log(&b, e) ? -1 : 0;
    for (int m = 0; m < b.models; m++)
        for (int i = 0; i < b.sets && rc == 0; i++) rc = set_score(&b, &b.set[i], m, e);
    if (rc == 0) rc = report(&b, e);
    for (int i = 0; i < b.sets; i++) {
        free(b.set[i].docs.doc);
        free(b.set[i].pool.doc);
    }
    return rc;
}

static int run(const char **word, int words, Err *e) {
    const char *command = words ? word[0] : "";
    Err later;
    bool bench = !strcmp(command, "bench"), loss = !strcmp(command, "loss");
    const char *const read[] = {opt.model, opt.vs, opt.base, opt.data, opt.examples, opt.template};
    if (words > 1 && !opt.text && !bench)
        return err_set(e, "'%s': a word that belongs to no option" HINT, word[1]);
    if (!bench && !loss && strcmp(command, "answers"))
        return err_set(e, "'%s', want loss, answers or bench first" HINT, command);
    if (!opt.model) return err_set(e, "want --model FILE" HINT);
    for (size_t i = 0; i < sizeof read / sizeof *read; i++) if (log_apart(read[i], e)) return -1;
    if (!bench) word[0] = opt.text;
    int rc = bench ? eval_bench(word + 1, words - 1, e) : loss ? eval_loss(word, words, e) : eval_answers(e);
    return log_close(results, rc ? &later : e) || rc ? -1 : 0;    // the first error counts
}

int main(int argc, char **argv) {
    Err e;
    const char *words[MAX_WORDS];
    int n = 0, rc = options_parse(OPTION, OPTIONS, argc, argv, words, MAX_WORDS, &n, &e);
    if (!rc && opt.help) help();
    else if (!rc && opt.version) printf("tune.c %s\n", TUNE_VERSION);
    else if (!rc) rc = run(words, n, &e);
    while (kepts > 0) free(kept[--kepts]);
    free(kept);
    if (!rc && fflush(stdout)) rc = err_set(&e, "cannot write the results to stdout");
    if (rc) fprintf(stderr, "eval: %s\n", e.msg);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

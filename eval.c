// eval.c -- the program that measures: did fine-tuning help? Every comparison of two models is on the same
// rows.
//
//     ./eval loss     how well a model predicts text, or the answers of pairs
//     ./eval answers  what it answers to held-out rows, and how often that is exactly right
#include "model.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- options ----------------------------------------------------------------------------------------------

static struct {
    const char *model, *vs, *base, *data, *text, *template, *examples, *log, *columns, *bad_rows;
    int64_t shots, limit, max_tokens, batch, threads;
    bool help, version, json;
} opt = {.max_tokens = 64, .batch = 32, .bad_rows = "stop"};

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
    INT("--shots", &opt.shots, 0, 100, "N", "answers: put the first N rows of --examples in each prompt"),
    TEXT("--examples", &opt.examples, "FILE", "rows for --shots"),
    INT("--limit", &opt.limit, 1, 1e9, "N", "only the first N rows"),
    INT("--max-tokens", &opt.max_tokens, 1, 1 << 20, "N", "answers: longest answer"),
    INT("--batch", &opt.batch, 1, 4096, "N", "rows at once; changes no result"),
    INT("--threads", &opt.threads, 1, 1024, "N", "otherwise all cores; changes no result"),
    TEXT("--log", &opt.log, "FILE", "answers: each row's answers as a line of JSON"),
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

static int load_rows(Rows *rows, const char *path, Err *e) {
    const RowsHow how = {true, !strcmp(opt.bad_rows, "skip"), opt.columns};
    if (!how.skip_bad && strcmp(opt.bad_rows, "stop"))
        return err_set(e, "--bad-rows: '%s', want stop or skip", opt.bad_rows);
    if (rows_load(rows, path, &how, e)) return -1;
    if (rows->bad) fprintf(stderr, "%s: %zu rows are wrong and left out:\n%s\n", path, rows->bad, rows->reason);
    return 0;
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
        if (load_rows(&rows, opt.data, e)) goto out;
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
    if (load_rows(&rows, opt.data, e)) goto out;
    if (opt.shots && load_rows(&shot_rows, opt.examples, e)) goto out;
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

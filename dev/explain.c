// explain.c -- main: what is one row to a model? ./explain --model M --data ROWS --row N shows the text that
// the model reads, what of it is taught, and each token's loss before and after one step on this row alone.
//
// Read in this order: options -> load, from a row to memory for a step -> show_row, its text -> losses, step
// -> show_tokens, the table -> main.
// The step is train's with its defaults, at the full rate. Nothing is written.
#include "../model.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- options ----------------------------------------------------------------------------------------------

static struct {
    const char *model, *base, *data, *columns, *template, *mask, *turns, *too_long;
    int64_t row, seq, threads;
    double lr;
    bool help, version;
} opt = {.mask = "prompt", .turns = "all", .too_long = "error", .lr = 5e-4};

static Option OPTION[] = {
    TEXT("--model", &opt.model, "FILE", "the model before the step"),
    TEXT("--base", &opt.base, "FILE", "the model that --model, an adapter, stands beside"),
    TEXT("--data", &opt.data, "FILE",
         "rows of JSON, JSON Lines, CSV or TSV: instruction, input, output; prompt, completion; or messages"),
    INT("--row", &opt.row, 1, UINT32_MAX, "N", "which of them, from 1"),
    TEXT("--columns", &opt.columns, "LIST",
         "what the file calls them: \"prompt=question,completion=answer\""),
    TEXT("--template", &opt.template, "NAME|FILE",
         "alpaca, chatml, llama3, none, plain, or a file; otherwise the checkpoint's own, or plain"),
    TEXT("--mask", &opt.mask, "WHAT", "prompt: only answers are taught; none: all the rest as well"),
    TEXT("--turns", &opt.turns, "WHICH", "of several answers in a row, teach all or the last"),
    TEXT("--too-long", &opt.too_long, "WHAT",
         "error, drop, or cut (the oldest turns, then the prompt, never the answer)"),
    INT("--seq", &opt.seq, 2, 1 << 20, "N", "most tokens in a row; otherwise the model's context"),
    REAL("--lr", &opt.lr, 0, 10, "X", "learning rate of the step"),
    INT("--threads", &opt.threads, 1, 1024, "N", "otherwise all cores; changes no bit"),
    FLAG("--help", &opt.help, "print this"),
    FLAG("--version", &opt.version, "print the version"),
};
enum { OPTIONS = sizeof OPTION / sizeof OPTION[0] };

static void help(void) {
    printf("explain -- what is one row to a model? (tune.c %s)\n\n"
           "  ./explain --model base.bin --data pairs.json --row 7\n\n"
           "  > before what is taught, | before what is only read\n\n", TUNE_VERSION);
    options_print(OPTION, OPTIONS);
}

// Which of the words, NULL at their end, the option's value is; -1: none of them
static int choice(const char *option, const char *value, const char *const *word, const char *want, Err *e) {
    for (int i = 0; word[i]; i++)
        if (!strcmp(value, word[i])) return i;
    return err_set(e, "%s: '%s', want %s", option, value, want);
}

// ---- the row and the model --------------------------------------------------------------------------------

typedef struct {
    Checkpoint k;
    char *template;
    Rows rows;
    Examples all;
    const Example *ex;                // the row that was asked for, one of all
    size_t targets;                   // of its tokens are taught
    void *block;
    Model m;
    BatchMemory batch;                // of that row alone
    double *loss;                     // (2,len) of each token but the first, before and after the step
    double norm;                      // of the gradient
} Explained;

static int load_rows(Explained *x, Err *e) {
    static const char *const mask[] = {"prompt", "none", NULL}, *const turns[] = {"all", "last", NULL};
    static const char *const too_long[] = {"error", "drop", "cut", NULL};
    const RowsHow how = {.answers = true, .columns = opt.columns};
    size_t most = (size_t)x->k.cfg.context + 1, seq = opt.seq ? (size_t)opt.seq : most;
    int all = choice("--mask", opt.mask, mask, "prompt or none", e);
    int last = choice("--turns", opt.turns, turns, "all or last", e);
    int what = choice("--too-long", opt.too_long, too_long, "error, drop or cut", e);
    if (all < 0 || last < 0 || what < 0) return -1;
    if (all && last) return err_set(e, "--turns last leaves nothing to --mask none, which teaches all");
    if (seq > most) return err_set(e, "--seq: %zu, want 2..%zu, one more than the context", seq, most);
    if (template_choose(opt.template, &x->k, &x->template, e) || rows_load(&x->rows, opt.data, &how, e))
        return -1;
    Teach teach = all ? TEACH_ALL : last ? TEACH_LAST : TEACH_ANSWERS;
    return examples_make(&x->all, &x->rows, x->template, &x->k.tok, seq, (TooLong)what, teach, e);
}

static int pick_row(Explained *x, Err *e) {
    const Example *ex = x->all.ex, *end = ex + x->all.n;
    if ((size_t)opt.row > x->all.rows)
        return err_set(e, "--row: %" PRId64 ", want 1..%zu, a row of the file", opt.row, x->all.rows);
    while (ex < end && ex->row + 1 != (uint64_t)opt.row) ex++;
    if (ex == end) return err_set(e, "--row: row %" PRId64 " is dropped: too long", opt.row);
    x->ex = ex;
    for (uint32_t i = 0; i < ex->len; i++) x->targets += ex->taught[i];
    return 0;
}

static int load(Explained *x, Err *e) {
    if (!opt.model || !opt.data || !opt.row)
        return err_set(e, "want --model FILE, --data FILE and --row N\nhint: ./explain --help");
    if (checkpoint_open(&x->k, opt.model, opt.base, e)) return -1;
    if (x->k.tok.kind == TOK_NONE)
        return err_set(e, "%s: has no tokenizer, want one to turn text into tokens", opt.model);
    if (load_rows(x, e) || pick_row(x, e)) return -1;
    size_t seq = x->ex->len - 1;
    const Shape shape = {.rows = 1, .seq = seq, .step_tokens = seq, .train = true,
                         .threads = opt.threads ? (int)opt.threads : cores()};
    if (model_load(&x->m, &x->block, &x->k, &shape, e) || batch_alloc(&x->batch, 1, seq, e)) return -1;
    batch_fill(&x->batch, &x->ex, 1);
    x->loss = calloc(2 * (size_t)x->ex->len, sizeof *x->loss);
    return x->loss ? 0 : err_set(e, "no memory for the losses");
}

static void release(Explained *x) {
    free(x->loss);
    batch_free(&x->batch);
    block_free(x->block);
    examples_free(&x->all);
    rows_free(&x->rows);
    free(x->template);
    checkpoint_close(&x->k);
}

// ---- its text ---------------------------------------------------------------------------------------------

// The character at c, of n > 0 bytes that are left, as a terminal may show it, into to; returns its columns,
// or more. Escaped are what is no UTF-8, controls, and what is invisible or turns text around.
static int glyph(char to[8], const void *at, size_t n, size_t *len) {
    const uint8_t *c = at;
    *len = utf8_length(c, n);
    if (*c == '\n' || *c == '\t') return sprintf(to, *c == '\n' ? "\\n" : "\\t");
    bool hidden = *len == 3 && *c == 0xE2 && ((c[1] == 0x81 && c[2] >= 0xA0) ||
                  (c[1] == 0x80 && ((c[2] >= 0x8B && c[2] <= 0x8F) || (c[2] >= 0xA8 && c[2] <= 0xAE))));
    if (*len && *c >= ' ' && *c != 127 && (*c != 0xC2 || c[1] >= 0xA0) && !hidden) {
        memcpy(to, c, *len);
        to[*len] = 0;
        return *len > 2 ? 2 : 1;
    }
    *len = 1;
    return sprintf(to, "\\x%02X", *c);
}

// Prints n bytes so, in at most `most` columns; returns how many
static int show_text(const void *s, size_t n, int most) {
    const char *c = s;
    char one[8];
    int used = 0;
    for (size_t i = 0, len; i < n; i += len) {
        int wide = glyph(one, c + i, n - i, &len);
        if (used + wide > most - (i + len < n ? 2 : 0)) return used + printf("..");
        fputs(one, stdout);
        used += wide;
    }
    return used;
}

// Text in lines of at most 80 columns, each behind a mark: > what is taught, | what is only read
static void show_lines(const char *text, const char *taught, size_t n, bool color) {
    char one[8];
    for (size_t i = 0, len; i < n;) {
        char mark = taught[i], last = 0;
        printf("%s  %c ", mark && color ? "\033[32m" : "", mark ? '>' : '|');
        for (int used = 0; i < n && taught[i] == mark && used <= 72; i += len) {
            if (last == '\n' || (last == ' ' && used > 60)) break;
            last = text[i];
            used += glyph(one, text + i, n - i, &len);
            fputs(one, stdout);
        }
        puts(mark && color ? "\033[0m" : "");
    }
}

// The row's tokens as text: their bytes one after the other, as a character may have several tokens
static int show_row(const Tokenizer *t, const Example *ex, bool color, Err *e) {
    size_t bytes = 0, n;
    for (uint32_t i = 0; i < ex->len; i++) {
        tokenizer_decode(t, ex->tok[i], &n);
        bytes += n;
    }
    char *text = malloc(2 * bytes + 1), *taught = text + bytes;
    if (!text) return err_set(e, "no memory for the row's text");
    for (size_t i = 0, at = 0; i < ex->len; i++, at += n) {
        const uint8_t *s = tokenizer_decode(t, ex->tok[i], &n);
        memcpy(text + at, s, n);
        memset(taught + at, ex->taught[i], n);
    }
    show_lines(text, taught, bytes, color);
    free(text);
    return 0;
}

// ---- losses and a step ------------------------------------------------------------------------------------

// The loss of each token but the first, taught or not. Of a single row the packed rows are the positions.
static int losses(Explained *x, double *loss, Err *e) {
    Fault f;
    if (model_forward(&x->m, &x->batch.view, &f)) return err_fault(e, opt.data, &f);
    model_losses(&x->m, x->m.x.pos, x->ex->tok + 1, x->ex->len - 1, loss + 1);
    return 0;
}

static int step(Explained *x, Err *e) {
    const AdamW how = {(float)opt.lr, 0.9f, 0.95f, 1e-8f, 0.1f, 1.0f};
    double loss = 0.0;
    Fault f;
    model_zero_grad(&x->m);
    if (model_forward(&x->m, &x->batch.view, &f)) return err_fault(e, opt.data, &f);
    model_loss(&x->m, &x->batch.view, 1.0f / (float)x->targets, &loss, NULL);
    model_backward(&x->m, &x->batch.view);
    x->norm = model_grad_norm(&x->m);
    if (!isfinite(loss) || !isfinite(x->norm))
        return err_set(e, "%s: the loss %g, the gradient's norm %g, want finite numbers", opt.model,
                       fabs(loss), fabs(x->norm));
    model_update(&x->m, &how, x->norm, 1);
    return 0;
}

// ---- the table --------------------------------------------------------------------------------------------

typedef struct { size_t n; double before, after; } Total;

static void show_token(const Explained *x, uint32_t i, bool color, Total sum[2]) {
    const double *before = x->loss, *after = x->loss + x->ex->len;
    int taught = x->ex->taught[i];
    size_t n;
    const uint8_t *s = tokenizer_decode(&x->k.tok, x->ex->tok[i], &n);
    printf("%s%c %5" PRIu32 " %7" PRId32 "  '", taught && color ? "\033[32m" : "", taught ? '>' : '|', i,
           x->ex->tok[i]);
    printf("'%*s", 34 - show_text(s, n, 32), "");
    if (i > 0) {
        printf("%8.3f %8.3f %+8.3f", before[i], after[i], after[i] - before[i]);
        sum[taught].n++;
        sum[taught].before += before[i];
        sum[taught].after += after[i];
    }
    puts(taught && color ? "\033[0m" : "");
}

static void show_tokens(const Explained *x, bool color) {
    Total sum[2] = {{0, 0.0, 0.0}, {0, 0.0, 0.0}};    // of what is only read, and taught
    printf("\n  %5s %7s  %-35s %8s %8s %8s\n", "at", "id", "token", "loss", "a step", "change");
    for (uint32_t i = 0; i < x->ex->len; i++) show_token(x, i, color, sum);
    for (int k = 1; k >= 0; k--)
        if (sum[k].n)
            printf("%c %zu tokens %s: mean loss %.4f, after the step %.4f\n", k ? '>' : '|', sum[k].n,
                   k ? "taught" : "only read", sum[k].before / (double)sum[k].n,
                   sum[k].after / (double)sum[k].n);
    printf("one step at rate %.2e, gradient norm %.3f; nothing was written\n"
           "in a batch: ids 0 to %" PRIu32 " are input; the target of each is the next id if that is\n"
           "taught, else -1; then come %zu places of padding, up to the longest row\n",
           opt.lr, x->norm, x->ex->len - 2, (size_t)(x->all.longest - x->ex->len));
}

static int explain(Explained *x, Err *e) {
    const char *plain = getenv("NO_COLOR");
    bool color = is_terminal(1) && !(plain && *plain);
    if (load(x, e)) return -1;
    printf("row %" PRId64 " of %s, line %" PRIu32 ": %" PRIu32 " tokens, %zu of them taught\n", opt.row,
           opt.data, x->rows.row[x->ex->row].line, x->ex->len, x->targets);
    if (show_row(&x->k.tok, x->ex, color, e) || losses(x, x->loss, e) || step(x, e) ||
        losses(x, x->loss + x->ex->len, e)) return -1;
    show_tokens(x, color);
    return 0;
}

int main(int argc, char **argv) {
    static Explained x;               // zeroed: from here on release() is legal
    Err e;
    const char *word;
    int words = 0, rc = options_parse(OPTION, OPTIONS, argc, argv, &word, 1, &words, &e);
    if (!rc && (opt.help || opt.version)) {
        if (opt.help) help();
        else printf("tune.c %s\n", TUNE_VERSION);
        return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
    }
    if (!rc && words)
        rc = err_set(&e, "'%s': a word that belongs to no option\nhint: ./explain --help", word);
    if (!rc) rc = explain(&x, &e);
    release(&x);
    if (!rc && fflush(stdout)) rc = err_set(&e, "cannot write to stdout");
    if (rc) fprintf(stderr, "explain: %s\n", e.msg);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

// train.c -- the program that fine-tunes: a checkpoint and a file of pairs (or raw text) in, a checkpoint
// out. It decides what a step is made of; the model, the tokenizer and every byte on disk are the business of
// the rooms below (model.h). Read upwards: main -> setup -> train -> one_step; the data report can wait.
//
// What determines the bits of the result is listed in describe(): base, data and those options. Threads,
// --micro, interruptions and resumes are not in that list.
#include "model.h"
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- options ----------------------------------------------------------------------------------------------

static struct {
    const char *model, *init, *data, *text, *val, *out, *template, *mask, *turns, *too_long, *schedule;
    const char *dtype, *log, *lora_on, *columns, *bad_rows, *general;
    int64_t lora, epochs, steps, batch, micro, seq, seed, save_every, val_every, early_stop, threads;
    double split, lr, warmup, decay, clip, beta2, lora_alpha;
    bool recompute, resume, plan, check, verify, help, version;
} opt = {
    .mask = "prompt", .turns = "all", .too_long = "error", .schedule = "cosine", .epochs = 3, .batch = 16,
    .seed = 1, .split = 0.1, .lr = 5e-4, .warmup = 0.05, .decay = 0.1, .clip = 1.0, .beta2 = 0.95,
    .lora_alpha = 16, .lora_on = "qkv,proj,fc1,fc2", .bad_rows = "stop",
};

static Option OPTION[] = {
    GROUP("What to train, and on what"),
    TEXT("--model", &opt.model, "FILE", "checkpoint to start from"),
    TEXT("--init", &opt.init, "SIZES",
         "or start from random weights and a tokenizer learned from --text: \"layers=6 heads=6 width=192 "
         "context=256 vocab=2048\" (then also kv_heads, hidden, rms, rope, swiglu, bias, tied, ...)"),
    TEXT("--data", &opt.data, "FILE",
         "rows of JSON, JSON Lines, CSV or TSV: instruction, input, output; prompt, completion; or messages"),
    TEXT("--columns", &opt.columns, "LIST",
         "what the file calls them: \"prompt=question,completion=answer\"; \"system=\": not read"),
    TEXT("--bad-rows", &opt.bad_rows, "WHAT", "stop at the first wrong row, or skip them all"),
    TEXT("--text", &opt.text, "FILE", "or raw text; further files may follow as plain words"),
    TEXT("--val", &opt.val, "FILE", "held-out file of the same kind; else --split"),
    REAL("--split", &opt.split, 0, 0.9, "X",
         "share of the rows held out to measure the loss; by content, so rows never move"),
    TEXT("--general", &opt.general, "FILE", "raw text that is not trained on: its loss before and after "
         "shows what was forgotten (at most 8,192 tokens of it)"),
    TEXT("--out", &opt.out, "FILE", "checkpoint to write: the model after the last step; if the held-out "
         "loss was lower earlier, that model is kept as FILE.best"),
    TEXT("--dtype", &opt.dtype, "TYPE", "of --out: f32 or bf16; otherwise that of --model, f32 with --init"),
    GROUP("How rows become tokens"),
    TEXT("--template", &opt.template, "NAME|FILE",
         "alpaca, chatml, llama3, none, plain, or a file; otherwise the checkpoint's own, or plain"),
    TEXT("--mask", &opt.mask, "WHAT", "prompt: only answers are taught; none: all the rest as well"),
    TEXT("--turns", &opt.turns, "WHICH", "of several answers in a row, teach all or the last"),
    TEXT("--too-long", &opt.too_long, "WHAT",
         "error, drop, or cut (the oldest turns, then the prompt, never the answer)"),
    INT("--seq", &opt.seq, 2, 1 << 20, "N", "most tokens in a row; otherwise the model's context"),
    GROUP("Training"),
    INT("--epochs", &opt.epochs, 1, 10000, "N", "passes over the data"),
    INT("--steps", &opt.steps, 1, 1e9, "N", "or optimizer steps"),
    INT("--batch", &opt.batch, 1, 65536, "N", "rows of one optimizer step"),
    REAL("--lr", &opt.lr, 0, 10, "X", "highest learning rate"),
    TEXT("--schedule", &opt.schedule, "KIND", "cosine, linear or constant"),
    REAL("--warmup", &opt.warmup, 0, 1, "X", "share of the steps in which the rate rises"),
    REAL("--weight-decay", &opt.decay, 0, 10, "X", "on matrices"),
    REAL("--beta2", &opt.beta2, 0.5, 0.9999, "X", "AdamW's memory for squared gradients"),
    REAL("--clip", &opt.clip, 0, 1e6, "X", "largest gradient norm; 0: any"),
    INT("--seed", &opt.seed, 0, 1e15, "N", "of order, split and --init"),
    INT("--early-stop", &opt.early_stop, 1, 1e6, "N", "stop after N measurements without a lower held-out "
        "loss; then --out is the model with the lowest, and FILE.last the last"),
    GROUP("LoRA"),
    INT("--lora", &opt.lora, 1, 1 << 10, "RANK", "train two small matrices beside each frozen one; --out "
        "is then an adapter, a small file for use with --base, or with ./convert --merge"),
    REAL("--lora-alpha", &opt.lora_alpha, 1e-3, 1e4, "X", "strength: what they add is scaled by X / RANK"),
    TEXT("--lora-on", &opt.lora_on, "LIST", "beside which linear layers"),
    GROUP("Running"),
    FLAG("--recompute", &opt.recompute, "compute activations again, not keep them: less memory, same bits"),
    INT("--micro", &opt.micro, 1, 65536, "N", "rows computed at once; otherwise what fits 1 GiB; same bits"),
    INT("--threads", &opt.threads, 1, 1024, "N", "otherwise all cores; same bits"),
    INT("--val-every", &opt.val_every, 1, 1e9, "N", "steps between measurements; otherwise once an epoch"),
    INT("--save-every", &opt.save_every, 1, 1e9, "N", "steps between saves of the state that --resume needs"),
    FLAG("--resume", &opt.resume, "go on from FILE.state of --out FILE"),
    TEXT("--log", &opt.log, "FILE", "the run as lines of JSON: conditions, data, every step, what it did"),
    FLAG("--plan", &opt.plan, "print the table of memory, measure how long the run will take, and stop"),
    FLAG("--check", &opt.check, "say what is wrong with the rows, list those that leak, and stop"),
    FLAG("--verify", &opt.verify, "repeat the run that made --out, and say whether the bytes agree"),
    FLAG("--help", &opt.help, "print this"),
    FLAG("--version", &opt.version, "print the version"),
};
enum { OPTIONS = sizeof OPTION / sizeof OPTION[0], MAX_TEXTS = 1000 };

static void help(void) {
    printf("train -- fine-tune a GPT (tune.c %s)\n\n"
           "  ./train --model base.bin --data pairs.json --out tuned.bin\n"
           "  ./train --model base.bin --text book.txt --out more.bin\n"
           "  ./train --init \"layers=6 heads=6 width=192\" --text book.txt --out base.bin\n\n",
           TUNE_VERSION);
    options_print(OPTION, OPTIONS);
}

// Does this run make a checkpoint?
static bool writes(void) { return !opt.plan && !opt.check; }

static bool given(const char *name) {
    int i = 0;
    while (!OPTION[i].name || strcmp(OPTION[i].name, name)) i++;
    return OPTION[i].given;
}

// Which word of a list such as "error, drop or cut" it is, from 0; -1: none, with a message.
static int choice(const char *option, const char *word, const char *list, Err *e) {
    int at = 0;
    for (const char *p = list; *p; p += strspn(p, ", ")) {
        size_t n = strcspn(p, ", ");
        bool joins = n == 2 && !strncmp(p, "or", n);
        if (!joins && n == strlen(word) && !strncmp(p, word, n)) return at;
        at += !joins;
        p += n;
    }
    return err_set(e, "%s: '%s', want %s", option, word, list);
}

// A line of the log, left out if there was no memory for it; t is freed.
static void log_text(Log *l, Text *t) {
    if (!t->failed) log_line(l, "%s", t->s);
    free(t->s);
}

// ---- what a run holds -------------------------------------------------------------------------------------

// What is wrong with rows: how many, the first of them, its line and that of the row that it is like
typedef struct { size_t n; uint32_t row, line, like; } Finding;
enum { TWICE, REPLY, LEAKED, BLANK, FINDINGS };

enum { AGAIN, STATE, BEST, LAST, GROWING, PATHS, PATH_BYTES = 4096 };
typedef struct {
    Checkpoint base;                  // --model; or, with --init, config and tokenizer made here
    Config cfg;                       // base's, and --lora
    void *tokenizer;                  // memory of the one made here
    const char *template;
    char *chosen;                     // the template's memory, if it has its own
    Rows rows, val_rows;
    Examples all, val_all, train, val;     // train and val are views of all, or of all and val_all
    Examples general;                 // windows of --general
    const char *file[MAX_TEXTS + 1];  // --data; or --text, and further ones
    int files;
    Teach teach;
    int too_long, skip_bad, schedule, dtype;    // TooLong; --bad-rows skip; Schedule; Dtype
    Text lineage;
    char path[PATHS][PATH_BYTES];     // what is written beside --out
    const char *verified;             // --verify: --out as it was given; path[AGAIN] is written instead
    State state;                      // what --resume needs; best_step 0: nothing measured after a step yet
    Writer *claim;                    // on --out, as long as the run lives
    void *block;
    Plan plan;
    Model m;
    size_t params, trained;           // how many numbers the model has, and the run trains
    size_t micro, longest;
    BatchMemory batch;
    const Example **pick;             // (batch) rows of the step at hand
    uint32_t *order;
    Finding found[FINDINGS];
    bool one_answer;                  // all rows have the same
    int64_t steps, per_epoch, every, warmup;    // every: steps from one measurement to the next
    double before, now;               // held-out loss before step 1, at the last measurement
    double general_before, started;   // loss on --general before step 1; seconds() when the steps began
    Log *log;
} Run;

static volatile sig_atomic_t interrupted = 0;
static void on_interrupt(int signal_number) {
    interrupted = 1;
    signal(signal_number, SIG_DFL);               // a second time it ends the program at once
}

// ---- data report ------------------------------------------------------------------------------------------
// Before step 1: which rows repeat, contradict or give away others. What rows are like, ./survey says.
// Rows are compared by their hashes of 64 bits: of a million rows two that differ are taken for equal once in
// 30 million such files. Time is n log n.

static const struct { const char *name, *what; } FINDING[FINDINGS] = {    // in the log, and in a warning
    {"twice", "with prompt and answer of another"},
    {"other_answer", "with the prompt of another, not its answer"},
    {"leaked", "held out with the prompt of a row trained on"},
    {"blank", "with an answer of white space"},
};
typedef struct { uint64_t prompt, answer; uint32_t row, line; bool held; } Key;    // two hashes

// The keys of x, whose rows are r's; of raw text, which has none, a window's hash and number are all that
// there is.
static void keys_make(Key *k, const Examples *x, const Rows *r, bool held) {
    for (size_t i = 0; i < x->n; i++) {
        const Example *ex = &x->ex[i];
        const char *answer = r->n ? r->row[ex->row].output : "";
        uint32_t line = r->n ? r->row[ex->row].line : ex->row + 1;
        k[i] = (Key){ex->hash, hash64(answer, strlen(answer), 0), ex->row, line, held};
    }
}

// Rows with equal prompts stand together, those to train on first.
static int by_prompt(const void *a, const void *b) {
    const Key *k = a, *l = b;
    if (k->prompt != l->prompt) return k->prompt < l->prompt ? -1 : 1;
    if (k->held != l->held) return k->held - l->held;
    if (k->answer != l->answer) return k->answer < l->answer ? -1 : 1;
    return (k->row > l->row) - (k->row < l->row);
}

static void note(Finding *f, const Key *k, const Key *like) {
    if (f->n++ == 0 || k->row < f->row) *f = (Finding){f->n, k->row, k->line, like->line};
}

// Of n sorted keys; what a --val file repeats of itself is not counted. --check lists what is leaked.
static void find_likes(Run *r, const Key *first, size_t n) {
    const Key *end = first + n;
    for (const Key *k = first + 1; k < end; k++) {
        if (k->prompt != first->prompt) first = k;
        else if (k->held && !first->held) {
            note(&r->found[LEAKED], k, first);
            if (opt.check && r->val_rows.n)
                printf("%s:%" PRIu32 " has the prompt of %s:%" PRIu32 "\n", opt.val, k->line, opt.data,
                       first->line);
        } else if (!k->held || !opt.val)
            note(&r->found[k->answer == k[-1].answer ? TWICE : REPLY], k, k - 1);
    }
}

static int look(Run *r, Err *e) {
    size_t n = r->train.n + r->val.n;             // all.n, and those of a --val file
    Key *key = malloc(n * sizeof *key);
    if (!key) return err_set(e, "no memory for the data report of %zu rows", n);
    keys_make(key, &r->train, &r->rows, false);
    keys_make(key + r->train.n, &r->val, opt.val ? &r->val_rows : &r->rows, true);
    r->one_answer = r->rows.n > 0;
    for (size_t i = 0; i < r->all.n && r->rows.n; i++) {
        const char *answer = r->rows.row[key[i].row].output;
        if (!answer[strspn(answer, " \t\r\n")]) note(&r->found[BLANK], &key[i], &key[i]);
        if (key[i].answer != key->answer) r->one_answer = false;
    }
    qsort(key, n, sizeof *key, by_prompt);
    find_likes(r, key, n);
    free(key);
    return 0;
}

// What of a file was not read
static void print_left_out(FILE *to, const Rows *r) {
    if (r->bad)
        fprintf(to, "  warning: wrong rows of %s left out: %zu, e.g.\n%s\n", r->path, r->bad, r->reason);
    if (*r->ignored) fprintf(to, "  not read: %s of %s\n", r->ignored, r->path);
}

static void print_finding(FILE *to, const Run *r, int i) {
    const Finding *f = &r->found[i];
    fprintf(to, "  warning: %zu %s: ", f->n, FINDING[i].what);
    if (i == BLANK) fprintf(to, "line %" PRIu32 "\n", f->line);
    else fprintf(to, "%s %" PRIu32 " and %" PRIu32 "\n", r->rows.n ? "lines" : "windows", f->line, f->like);
}

static void print_report(const Run *r, FILE *to) {
    fprintf(to, "%zu rows: %zu to train on, %zu held out, %zu cut, %zu dropped\n"
            "  %zu tokens, %.1f %% of them taught, longest row %zu\n", r->all.rows, r->train.n, r->val.n,
            r->all.cut, r->all.dropped, r->train.tokens,
            100.0 * (double)r->train.targets / (double)r->train.tokens, r->longest);
    print_left_out(to, &r->rows);
    print_left_out(to, &r->val_rows);
    for (int i = 0; i < FINDINGS; i++)
        if (r->found[i].n) print_finding(to, r, i);
    if (r->one_answer) fputs("  warning: all rows have the same answer\n", to);
    if (opt.check && r->rows.n) fprintf(to, "lengths, labels, variety, a verdict: ./survey %s\n", opt.data);
}

// -1: the run must not be. What is measured must not be trained on. And no row may have begin-of-text twice,
// once from the template.
static int report_stop(const Run *r, Err *e) {
    const Finding *f = &r->found[LEAKED];
    int32_t bos = r->base.tok.bos;                // -1: there is none
    for (const Example *ex = r->all.ex; r->rows.n && bos >= 0 && ex < r->all.ex + r->all.n; ex++)
        if (ex->len > 1 && ex->tok[0] == bos && ex->tok[1] == bos)
            return err_set(e, "%s:%" PRIu32 ": the row begins with begin-of-text twice: it is put there "
                           "anyway\nhint: a --template without it", opt.data, r->rows.row[ex->row].line);
    if (!f->n || !r->val_rows.n) return 0;
    return err_set(e, "%s:%" PRIu32 ": has the prompt of %s:%" PRIu32 ", one of %zu such rows: what is "
                   "measured must not be trained on\nhint: take them out of one file; --check lists them",
                   opt.val, f->line, opt.data, f->like, f->n);
}

static void log_report(const Run *r) {
    Text t = {0};
    text_add(&t, "{\"data\": {\"rows\": %zu, \"train\": %zu, \"held_out\": %zu, \"cut\": %zu, "
             "\"dropped\": %zu, \"bad\": %zu, \"tokens\": %zu, \"targets\": %zu, \"longest\": %zu",
             r->all.rows, r->train.n, r->val.n, r->all.cut, r->all.dropped, r->rows.bad, r->train.tokens,
             r->train.targets, r->longest);
    for (int i = 0; i < FINDINGS; i++) text_add(&t, ", \"%s\": %zu", FINDING[i].name, r->found[i].n);
    text_add(&t, "}}");
    log_text(r->log, &t);
}

// ---- which rows, in which order ---------------------------------------------------------------------------

static int by_row(const void *a, const void *b) {
    uint32_t i = ((const Example *)a)->row, j = ((const Example *)b)->row;
    return (i > j) - (i < j);
}

// Examples whose hash falls below fraction go to held, the others to train: views of x, which is reordered
// and must outlive them. Each one's side depends on its own hash alone; both stay in order.
static void examples_split(Examples *x, double fraction, uint64_t seed, Examples *train, Examples *held) {
    size_t n = 0;
    for (size_t i = 0; i < x->n; i++) {
        Example ex = x->ex[i];
        if ((double)(hash_number(ex.hash, seed) >> 11) * 0x1p-53 < fraction) continue;
        x->ex[i] = x->ex[n];
        x->ex[n++] = ex;
    }
    *train = (Examples){.ex = x->ex, .n = n, .rows = n};
    *held = (Examples){.ex = x->ex + n, .n = x->n - n, .rows = x->n - n};
    qsort(held->ex, held->n, sizeof *held->ex, by_row);
    examples_count(train);
    examples_count(held);
}

// A permutation of 0..n-1 that depends on seed and epoch alone. Fisher and Yates: each is equally likely.
static void order_make(uint32_t *order, size_t n, uint64_t seed, uint64_t epoch) {
    Rng r = {hash_number(epoch, seed) | 1};            // not 0
    for (size_t i = 0; i < n; i++) order[i] = (uint32_t)i;
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)rng_below(&r, i);
        uint32_t last = order[i - 1];
        order[i - 1] = order[j];
        order[j] = last;
    }
}

// ---- keeping models ---------------------------------------------------------------------------------------

// The model after this step, atomically; its lineage says which one it is. why NULL: the one that was wanted
static int save_model(const Run *r, const char *path, int64_t step, const char *why, Err *e) {
    const Config *c = &r->m.cfg;
    Text t = {0};
    text_add(&t, "%s", r->lineage.s);
    if (why) text_add(&t, "kept step %" PRId64 ": %s\n", step, why);
    int rc = t.failed ? err_set(e, "no memory for the lineage")
             : opt.lora ? adapter_save(path, &r->base, c, r->template, t.s, &r->m.w, e)
             : checkpoint_save(path, c, &r->base.tok, r->template, t.s, (Dtype)r->dtype, &r->m.w, e);
    free(t.s);
    return rc;
}

static int save_best(const Run *r, const char *path, Err *e) {
    char why[64];
    snprintf(why, sizeof why, "validation loss %.9g, the lowest", r->state.best);
    return save_model(r, path, r->state.best_step, why, e);
}

// A file of save_model's that must be of this very run. read: its weights become the model's
static int open_model(Run *r, const char *path, bool read, Err *e) {
    Checkpoint k;
    if (checkpoint_open(&k, path, opt.model, e)) return -1;
    int rc = strncmp(k.lineage, r->lineage.s, r->lineage.n)
             ? err_set(e, "%s: was not written by this run\nhint: train without --resume", path)
             : read ? checkpoint_read(&k, &r->m.w, &r->m.h, e) : 0;
    checkpoint_close(&k);
    return rc;
}

// ---- measuring and stepping -------------------------------------------------------------------------------

typedef struct { double loss, norm, lr; size_t tokens; } StepResult;

// The mean loss per target over n examples, the first ones or, if row is not NULL, those that it numbers; in
// pieces of --micro, as if computed at once. learn: adds the gradients
static int run_rows(Run *r, const Examples *x, const uint32_t *row, size_t n, bool learn, StepResult *s,
                    Err *e) {
    size_t targets = 0;
    *s = (StepResult){0};
    for (size_t i = 0; i < n; i++) {
        Examples one = {.ex = &x->ex[row ? row[i] : i], .n = 1};
        examples_count(&one);
        targets += one.targets;
        s->tokens += one.tokens - 1;
    }
    for (size_t i = 0; i < n; i += r->micro) {
        size_t k = n - i < r->micro ? n - i : r->micro;
        for (size_t j = 0; j < k; j++) r->pick[j] = &x->ex[row ? row[i + j] : i + j];
        batch_fill(&r->batch, r->pick, k);
        Fault f;
        if (model_forward(&r->m, &r->batch.view, &f)) return err_fault(e, "training", &f);
        model_loss(&r->m, &r->batch.view, learn ? 1.0f / (float)targets : 0.0f, &s->loss, NULL);
        if (learn) model_backward(&r->m, &r->batch.view);
    }
    if (targets) s->loss /= (double)targets;
    return 0;
}

static int measure(Run *r, const Examples *x, double *loss, Err *e) {
    StepResult s;
    if (run_rows(r, x, NULL, x->n, false, &s, e)) return -1;
    *loss = s.loss;
    return 0;
}

// The first tensor of p with a number that is not finite, which is *value at *at; NULL: there is none
static const char *not_finite(const Config *c, const Params *p, size_t *at, double *value) {
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(c, i);
        const float *x = tensor_data(p, &t);      // NULL: frozen, or held as bf16
        for (*at = 0; x && *at < t.size; ++*at)
            if (!isfinite(*value = (double)x[*at])) return t.name;
    }
    return NULL;
}

// What went wrong in a step, or in a measurement after it. The weights are those after step `good`; if their
// loss is finite they are kept. The state goes: the same bits once more would lead to the same end.
static int ruined(Run *r, int64_t step, int64_t good, double loss, const char *what, Err *e) {
    char place[96] = "", kept[256] = "";
    size_t at;
    double v;
    const char *weight = not_finite(&r->m.cfg, &r->m.w, &at, &v);
    const char *name = weight || good == step ? weight : not_finite(&r->m.cfg, &r->m.g, &at, &v);
    if (name)
        snprintf(place, sizeof place, "%s%s[%zu] is %g, ", weight ? "" : "the gradient of ", name, at,
                 isnan(v) ? fabs(v) : v);
    if (step == 0 || !writes())
        return err_set(e, "step %" PRId64 ": %s%s, want finite numbers%s", step, place, what,
                       step ? "" : "\nhint: the model is so before training");
    remove(r->path[STATE]);
    if (is_terminal(2)) fprintf(stderr, "\n");    // below the progress line
    bool last = !weight && isfinite(loss) && good > 0;
    int64_t left = last ? good : r->state.best_step;
    if (last && save_model(r, r->path[LAST], good, "the last with finite numbers", e)) return -1;
    if (left)
        snprintf(kept, sizeof kept, "; %.180s is the model after step %" PRId64,
                 r->path[last ? LAST : BEST], left);
    return err_set(e, "step %" PRId64 ": %s%s, want finite numbers%s\nhint: a lower --lr, or --clip 1%s",
                   step, place, what, good < step ? "; the step was not taken" : "", kept);
}

// One optimizer step, from 1
static int one_step(Run *r, int64_t step, StepResult *s, Err *e) {
    size_t n = r->train.n, first = (size_t)((step - 1) % r->per_epoch) * (size_t)opt.batch;
    size_t rows = n - first < (size_t)opt.batch ? n - first : (size_t)opt.batch;
    model_zero_grad(&r->m);
    if (run_rows(r, &r->train, r->order + first, rows, true, s, e)) return -1;
    s->norm = model_grad_norm(&r->m);
    if (!isfinite(s->norm) || !isfinite(s->loss)) {
        char what[80];
        snprintf(what, sizeof what, "the loss %g, the gradient's norm %g", fabs(s->loss), fabs(s->norm));
        return ruined(r, step, step - 1, s->loss, what, e);
    }
    s->lr = (double)model_schedule((Schedule)r->schedule, (float)opt.lr, r->warmup, r->steps, step);
    AdamW o = {(float)s->lr, 0.9f, (float)opt.beta2, 1e-8f, (float)opt.decay, (float)opt.clip};
    model_update(&r->m, &o, s->norm, step);
    return 0;
}

// ---- what it did ------------------------------------------------------------------------------------------

typedef struct { double change, base; } Norms;    // squares of ||dW|| and ||W||

// In percent; what began with zeros is all new
static double percent(Norms s) {
    return s.base > 0.0 ? 100.0 * sqrt(s.change / s.base) : s.change > 0.0 ? 100.0 : 0.0;
}

// Of layer l of tensor t; what it was before the run is where the gradients were
static Norms norms_of(const Run *r, const Tensor *t, size_t l) {
    size_t n = t->stacked ? t->size / t->dim[0] : t->size;
    const float *now = tensor_data(&r->m.w, t) + l * n, *before = tensor_data(&r->m.g, t) + l * n;
    Norms s = {0.0, 0.0};
    for (size_t i = 0; i < n; i++) {
        double d = (double)now[i] - (double)before[i];
        s.change += d * d;
        s.base += (double)before[i] * (double)before[i];
    }
    return s;
}

// ||dW|| / ||W||: of every trained tensor and layer for the log; of all that did not begin with zeros, and of
// the layer's matrix that changed most, on the screen. Returns the change of anything, in percent.
static double print_change(const Run *r, Text *log) {
    Norms all = {0.0, 0.0};
    double most = 0.0, any = 0.0;
    const char *comma = "";
    char place[64] = "none";
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&r->cfg, i);
        if (!t.size || !t.trained) continue;
        text_add(log, "%s\"%s\": [", comma, t.name);
        comma = ", ";
        for (size_t l = 0; l < (t.stacked ? t.dim[0] : 1); l++) {
            Norms s = norms_of(r, &t, l);
            any = fmax(any, percent(s));
            text_add(log, "%s%.4g", l ? ", " : "", percent(s));
            if (s.base <= 0.0) continue;
            all.change += s.change;
            all.base += s.base;
            if (!t.decay || percent(s) <= most) continue;
            most = percent(s);
            snprintf(place, sizeof place, t.stacked ? "%s of layer %zu" : "%s", t.name, l + 1);
        }
        text_add(log, "]");
    }
    fprintf(stderr, "change of the %s, ||dW|| / ||W||: %.3g %%, most in %s, %.3g %%\n",
            opt.lora ? "adapter" : "weights", percent(all), place, most);
    if (!opt.lora) fprintf(stderr, "all of it: ./convert --diff %s %s\n", opt.out, opt.model);
    return any;
}

// After the run: how far the weights went from those that it began with, which come once more to where the
// gradients were; what was forgotten; warnings; and the log's last line.
static int report_change(Run *r, int64_t step, Err *e) {
    Model first = r->m;
    Text t = {0};
    double general = 0.0, change = 1.0;
    first.w = r->m.g;
    if (opt.lora) model_init(&first, (uint64_t)opt.seed);
    // rounded as they were written: what bf16 took away again has not changed
    if ((r->dtype == DTYPE_BF16 && open_model(r, opt.out, true, e)) ||
        (r->general.n && measure(r, &r->general, &general, e)) ||
        (opt.model && !opt.lora && checkpoint_read(&r->base, &first.w, NULL, e))) return -1;
    text_add(&t, "{\"done\": {\"steps\": %" PRId64 ", \"seconds\": %.3f", step, seconds() - r->started);
    if (r->val.n)
        text_add(&t, ", \"val_before\": %.9g, \"val_loss\": %.9g, \"best\": %.9g, \"best_step\": %" PRId64,
                 r->before, r->now, r->state.best, r->state.best_step);
    if (r->general.n)
        text_add(&t, ", \"general_before\": %.9g, \"general\": %.9g", r->general_before, general);
    text_add(&t, ", \"change_percent\": {");
    if (opt.model) change = print_change(r, &t);
    text_add(&t, "}}}");
    if (r->general.n)
        fprintf(stderr, "loss on %s %.4f -> %.4f (%s %.4f)\n", opt.general, r->general_before, general,
                general > r->general_before ? "forgotten" : "gained", fabs(general - r->general_before));
    if (change < 1e-4) fprintf(stderr, "train: warning: nothing changed\n");
    if (r->val.n && r->now > r->before)
        fprintf(stderr, "train: warning: the validation loss rose from %.4f to %.4f\n"
                "hint: fewer --epochs, a lower --lr, or --early-stop 1\n", r->before, r->now);
    log_text(r->log, &t);
    return 0;
}

// ---- what it will cost ------------------------------------------------------------------------------------

// Until the next call
static const char *duration(double s) {
    static char text[32];
    if (s < 90) snprintf(text, sizeof text, "%.0f s", s);
    else if (s < 5400) snprintf(text, sizeof text, "%.0f min", s / 60);
    else snprintf(text, sizeof text, "%.1f h", s / 3600);
    return text;
}

// Bytes of memory at the peak: the block; rows, with about 4 bytes of text to a token; tokenizer; program
static double resident(const Run *r) {
    enum { PROGRAM = 4 << 20 };
    size_t tokens = r->all.tokens + r->val_all.tokens + r->general.tokens, rows = r->all.n + r->val_all.n;
    return (double)(r->plan.bytes + 9 * tokens + rows * (sizeof(Example) + sizeof(Row) + 64) + PROGRAM +
                    (size_t)r->base.tensors_at + tokenizer_index_size(r->base.tok.vocab, r->base.tok.merges));
}

// --plan: takes the first steps and a measurement, nothing of which is kept. The rest takes as long a token.
static int expect(Run *r, Err *e) {
    double ready = seconds() - r->started, began = seconds(), busy = 0.0, tokens = 0.0;
    int64_t step = 0;
    StepResult s;
    order_make(r->order, r->train.n, (uint64_t)opt.seed, 0);
    while (step < r->steps && busy < 3.0) {
        if (one_step(r, ++step, &s, e)) return -1;
        tokens += (double)s.tokens;
        busy = seconds() - began;
    }
    if (run_rows(r, &r->train, r->order, r->micro < r->train.n ? r->micro : r->train.n, false, &s, e))
        return -1;
    double forward = (seconds() - began - busy) / (double)s.tokens;
    double learned = (double)r->steps / (double)r->per_epoch * (double)(r->train.tokens - r->train.n);
    double measured = (1.0 + ceil((double)r->steps / (double)r->every)) * (double)r->val.tokens +
                      2.0 * (double)(r->general.n * r->longest);
    printf("expected: %s on %d threads (measured: %" PRId64 " steps), %.0f MiB resident\n",
           duration(ready + learned * busy / tokens + measured * forward), r->plan.shape.threads, step,
           resident(r) / 1048576.0);
    return 0;
}

// ---- the log ----------------------------------------------------------------------------------------------

// Lines of steps after this one go: they will be written again. So does half a line at the end. A log that is
// no file, or not there yet, is left to log_open.
static int log_cut(const char *path, int64_t step, size_t *kept, Err *e) {
    static const char head[] = "{\"step\": ";
    uint8_t *text = NULL;
    size_t n = 0;
    Writer *w = writer_open(path, e);
    if (!w || file_read(path, (size_t)1 << 30, &text, &n, e)) return writer_close(w, false, e);
    for (uint8_t *end; (end = memchr(text + *kept, '\n', n - *kept)); *kept = (size_t)(end - text) + 1) {
        const char *line = (const char *)text + *kept;
        if (!strncmp(line, head, sizeof head - 1) && strtoll(line + sizeof head - 1, NULL, 10) > step) break;
    }
    int rc = writer_put(w, text, *kept, e);
    free(text);
    return writer_close(w, rc == 0, e) ? -1 : rc;
}

// The log from the step after this one on. It begins with the run's conditions, which --check has none of,
// and the data report.
static int log_begin(Run *r, int64_t step, Err *e) {
    size_t kept = 0;
    if (opt.log && step && log_cut(opt.log, step, &kept, e)) return -1;
    r->started = seconds();
    if (log_open(&r->log, opt.log, step > 0, e)) return -1;
    if (!r->log || kept) return 0;
    char *lineage = r->lineage.s ? json_quote(r->lineage.s, r->lineage.n) : NULL;
    if (lineage)
        log_line(r->log, "{\"run\": {\"version\": \"%s\", \"steps\": %" PRId64 ", \"rows\": %zu, "
                 "\"parameters\": %zu, \"trained\": %zu, \"bytes\": %zu, \"micro\": %zu, \"threads\": %d, "
                 "\"lineage\": %s}}", TUNE_VERSION, r->steps, r->train.n, r->params, r->trained,
                 r->plan.bytes, r->micro, r->plan.shape.threads, lineage);
    free(lineage);
    log_report(r);
    return 0;
}

// Of each layer the norm of all its gradients. A layer has one writer.
static void say_layer_norms(Text *t, const Run *r) {
    static double square[1 << 10];                // the most layers that a model may have
    #pragma omp parallel for schedule(static) num_threads(r->plan.shape.threads)
    for (int l = 0; l < r->cfg.layers; l++) {
        double sum = 0.0;
        for (int i = 0; i < TENSORS; i++) {
            Tensor of = model_tensor(&r->cfg, i);
            if (!of.size || !of.stacked || !of.trained) continue;
            size_t n = of.size / of.dim[0];
            const float *g = tensor_data(&r->m.g, &of) + (size_t)l * n;
            for (size_t k = 0; k < n; k++) sum += (double)g[k] * (double)g[k];
        }
        square[l] = sum;
    }
    for (int l = 0; l < r->cfg.layers; l++)
        text_add(t, "%s%.9g", l ? ", " : ", \"layer_norms\": [", sqrt(square[l]));
    text_add(t, "]");
}

static void log_step(const Run *r, int64_t step, const StepResult *s) {
    Text t = {0};
    if (!r->log) return;
    text_add(&t, "{\"step\": %" PRId64 ", \"loss\": %.9g, \"norm\": %.9g, \"lr\": %.9g, \"tokens\": %zu",
             step, s->loss, s->norm, s->lr, s->tokens);
    say_layer_norms(&t, r);
    text_add(&t, ", \"seconds\": %.3f}", seconds() - r->started);
    log_text(r->log, &t);
}

// ---- verify -----------------------------------------------------------------------------------------------

// Is this run the one that the file to be verified records? If not: the first line that is different
static int verify_lineage(const Run *r, Err *e) {
    Checkpoint k;
    int rc = 0;
    if (checkpoint_open(&k, r->verified, opt.model, e)) return -1;
    const char *was = k.lineage, *is = r->lineage.s;
    if (strncmp(was, is, r->lineage.n)) {
        size_t line = 0;
        for (size_t i = 0; was[i] == is[i]; i++)  // they differ before `is` ends
            if (is[i] == '\n') line = i + 1;
        rc = err_set(e, "%s: comes from another run; recorded: %.*s; given: %.*s", r->verified,
                     (int)strcspn(was + line, "\n"), was + line, (int)strcspn(is + line, "\n"), is + line);
    } else if (strcmp(k.template, r->template))
        rc = err_set(e, "%s: comes from a run with another --template", r->verified);
    checkpoint_close(&k);
    return rc;
}

// After the run has been repeated: do the bytes agree? What it wrote goes, unless they don't.
static int verify(const Run *r, Err *e) {
    char was[65], is[65];
    remove(r->path[BEST]);
    remove(r->path[LAST]);
    if (sha256_file(r->verified, was, e) || sha256_file(opt.out, is, e)) return -1;
    if (strcmp(was, is))
        return err_set(e, "%s: sha256 %s, but the run gives %s\nhint: ./convert --diff %s %s", r->verified,
                       was, is, r->verified, opt.out);
    remove(opt.out);
    printf("%s agrees: sha256 %s\n", r->verified, was);
    return 0;
}

// ---- the loop ---------------------------------------------------------------------------------------------

// A line that stays, or that the next one replaces; only a terminal can do that
static void show(const char *line, bool stays) {
    if (is_terminal(2)) fprintf(stderr, "\r%-79s%s", line, stays ? "\n" : "");
    else fprintf(stderr, "%s\n", line);
    fflush(stderr);
}

// A line that rewrites itself on a terminal, about twenty elsewhere. Tokens a second, seconds a step so far
static void progress(const Run *r, int64_t step, const StepResult *s, double rate, double each) {
    bool last = step == r->steps;
    int64_t every = r->steps / 20 > 0 ? r->steps / 20 : 1;
    if (!is_terminal(2) && !last && step % every && step != 1) return;
    char line[160];
    snprintf(line, sizeof line, "step %" PRId64 "/%" PRId64 "  loss %.4f  norm %.2f  lr %.1e  %.0f tok/s  "
             "%s left", step, r->steps, s->loss, s->norm, s->lr, rate,
             duration((double)(r->steps - step) * each));
    show(line, last);
}

static int validate(Run *r, int64_t step, Err *e) {
    char line[80];
    if (!r->val.n) return 0;
    if (measure(r, &r->val, &r->now, e)) return -1;
    if (!isfinite(r->now)) return ruined(r, step, step, r->now, "the validation loss is not a number", e);
    snprintf(line, sizeof line, "step %" PRId64 ": validation loss %.4f on %zu rows", step, r->now, r->val.n);
    show(line, true);
    log_line(r->log, "{\"step\": %" PRId64 ", \"val_loss\": %.9g}", step, r->now);
    if (step == 0) r->before = r->now;
    if (step == 0 || !(r->now < r->state.best)) return 0;
    r->state.best = r->now;
    r->state.best_step = step;
    return step < r->steps ? save_best(r, r->path[BEST], e) : 0;
}

// Have so many measurements passed since the best one? Step and best step say it, so a resumed run knows.
static bool stopped_early(const Run *r, int64_t step) {
    return opt.early_stop && step / r->every - r->state.best_step / r->every >= opt.early_stop;
}

// Measures the model as setup left it, which before a resumed run too is the one that step 1 began with
static int begin(Run *r, Err *e) {
    r->state.best = HUGE_VAL;
    if (validate(r, 0, e) || (r->general.n && measure(r, &r->general, &r->general_before, e))) return -1;
    if (!opt.resume) return 0;
    if (state_load(r->path[STATE], &r->state, &r->m, e)) return -1;
    if (opt.early_stop && r->state.best_step && open_model(r, r->path[BEST], false, e)) return -1;
    fprintf(stderr, "going on after step %" PRId64 "\n", r->state.step);
    return log_begin(r, r->state.step, e);
}

// Writes --out and its neighbours. The state goes only when all of them are there, so that a run killed at
// any moment can be resumed; then what is beside --out and not of this run.
static int finish(Run *r, int64_t step, double rate, Err *e) {
    int64_t lowest = r->state.best_step;
    bool best = opt.early_stop && lowest < step;
    if (best && (save_model(r, r->path[LAST], step, "the last", e) || open_model(r, r->path[BEST], true, e) ||
                 save_best(r, opt.out, e))) return -1;
    if (!best && save_model(r, opt.out, step, NULL, e)) return -1;
    remove(r->path[STATE]);
    if (opt.early_stop || lowest == step || !lowest) remove(r->path[BEST]);
    if (!best) remove(r->path[LAST]);
    fprintf(stderr, "%s written: %" PRId64 " steps in %s, %.0f tokens/s", opt.out, step,
            duration(seconds() - r->started), rate);
    if (lowest && lowest < step)
        fprintf(stderr, "; the validation loss was lowest after step %" PRId64 ", %.4f: %s", lowest,
                r->state.best, best ? opt.out : r->path[BEST]);
    fprintf(stderr, "\n");
    if (best) r->now = r->state.best;
    return report_change(r, step, e);
}

static int train(Run *r, Err *e) {
    int64_t step, done = 0;
    double tokens = 0.0, busy = 0.0;
    StepResult s;
    if (begin(r, e)) return -1;
    for (step = r->state.step; step < r->steps && !stopped_early(r, step) && !interrupted;) {
        if (!done || step % r->per_epoch == 0)
            order_make(r->order, r->train.n, (uint64_t)opt.seed, (uint64_t)(step / r->per_epoch));
        double began = seconds();
        if (one_step(r, ++step, &s, e)) return -1;
        busy += seconds() - began;
        tokens += (double)s.tokens;
        progress(r, step, &s, tokens / busy, busy / (double)++done);
        log_step(r, step, &s);
        if ((step % r->every == 0 || step == r->steps) && validate(r, step, e)) return -1;
        r->state.step = step;
        bool saves = opt.save_every && step % opt.save_every == 0 && step < r->steps;
        if (saves && state_save(r->path[STATE], &r->state, &r->m, e)) return -1;
    }
    if (step == r->steps || stopped_early(r, step))
        return finish(r, step, busy > 0 ? tokens / busy : 0.0, e) || (opt.verify && verify(r, e)) ? -1 : 0;
    if (is_terminal(2)) fprintf(stderr, "\n");
    if (state_save(r->path[STATE], &r->state, &r->m, e)) return -1;
    return err_set(e, "interrupted after step %" PRId64 " of %" PRId64 "; the state is in %s\n"
                   "hint: the same command with --resume goes on", step, r->steps, r->path[STATE]);
}

// ---- setup: options ---------------------------------------------------------------------------------------

static int check_options(Run *r, Err *e) {
    const struct { bool wrong; const char *say; } rule[] = {
        {!opt.model == !opt.init, "want either --model FILE or --init SIZES\nhint: ./train --help"},
        {!opt.data == !opt.text, "want either --data FILE or --text FILE\nhint: ./train --help"},
        {opt.text && (opt.columns || given("--bad-rows")),
         "--columns and --bad-rows are for rows, not for --text"},
        {opt.init && !opt.text, "--init needs --text, from which the tokenizer is learned"},
        {given("--steps") && given("--epochs"), "--steps and --epochs both say how long: want one of them"},
        {opt.lora && (opt.init || opt.dtype),
         "--lora trains beside a --model, and its matrices are f32: not with --init or --dtype"},
        {!opt.lora && (given("--lora-alpha") || given("--lora-on")),
         "--lora-alpha and --lora-on need --lora RANK"},
        {!opt.out && writes(), "want --out FILE, the checkpoint to write"},
        {opt.verify && !writes(), "--verify repeats a run: not with --plan or --check"},
    };
    for (size_t i = 0; i < sizeof rule / sizeof *rule; i++)
        if (rule[i].wrong) return err_set(e, "%s", rule[i].say);
    int mask, last;
    if ((mask = choice("--mask", opt.mask, "prompt or none", e)) < 0 ||
        (last = choice("--turns", opt.turns, "all or last", e)) < 0 ||
        (r->too_long = choice("--too-long", opt.too_long, "error, drop or cut", e)) < 0 ||
        (r->skip_bad = choice("--bad-rows", opt.bad_rows, "stop or skip", e)) < 0 ||
        (r->schedule = choice("--schedule", opt.schedule, "cosine, linear or constant", e)) < 0 ||
        (r->dtype = choice("--dtype", opt.dtype ? opt.dtype : "f32", "f32 or bf16", e)) < 0)
        return -1;
    if (mask && last) return err_set(e, "--turns last leaves nothing to --mask none, which teaches all");
    r->teach = mask ? TEACH_ALL : last ? TEACH_LAST : TEACH_ANSWERS;
    return 0;
}

// Names what is written beside --out, or instead of it with --verify. What is written is not read, and not
// written twice: a slip of the keyboard would cost the user's data.
static int check_outputs(Run *r, Err *e) {
    static const char *const ending[PATHS] = {".verify", ".state", ".best", ".last", ".writing"};
    if (opt.verify) r->verified = opt.out;
    for (int i = opt.verify ? AGAIN : STATE; opt.out && i < PATHS; i++) {
        if (snprintf(r->path[i], PATH_BYTES, "%s%s", opt.out, ending[i]) >= PATH_BYTES)
            return err_set(e, "--out: a path of %zu bytes is too long", strlen(opt.out));
        if (i == AGAIN) opt.out = r->path[AGAIN];
    }
    const char *path[] = {opt.val, opt.model, opt.template, opt.general, r->verified, opt.out,
                          r->path[STATE], r->path[BEST], r->path[LAST], r->path[GROWING], opt.log};
    enum { READ = 5, ALL = sizeof path / sizeof *path };           // the rest is written
    for (int w = READ; w < ALL; w++)
        for (int i = 0; path[w] && *path[w] && i < w + r->files; i++) {
            const char *other = i < w ? path[i] : r->file[i - w];
            if (other && *other && same_file(path[w], other))
                return err_set(e, "%s: is this run's %s as well, want another file for %s", path[w], other,
                               path[w] == opt.log ? "--log" : "--out");
        }
    if (opt.verify && file_there(opt.out))
        return err_set(e, "%s: is there, want it gone: --verify writes and removes it", opt.out);
    if (writes() && !(r->claim = writer_open(opt.out, e))) return -1;    // no other run may write it now
    if (!opt.out || opt.resume || !writes() || !file_there(r->path[STATE])) return 0;
    return err_set(e, "%s: is there, so a run was interrupted\nhint: --resume goes on with it; to begin "
                   "anew, remove it", r->path[STATE]);
}

// --lora-on: the bits of Config.lora_on
static int parse_lora(Config *c, Err *e) {
    c->lora_rank = (int32_t)opt.lora;
    c->lora_alpha = (float)opt.lora_alpha;
    for (const char *p = opt.lora_on; *p; p += strspn(p, ",")) {
        char name[64];
        int n = (int)strcspn(p, ",");
        snprintf(name, sizeof name, "%.*s", n, p);
        int k = choice("--lora-on", name, "qkv, proj, fc1 or fc2", e);
        if (k < 0) return -1;
        c->lora_on |= 1u << k;
        p += n;
    }
    return c->lora_on ? 0 : err_set(e, "--lora-on: names no layer");
}

// "layers=6 heads=6 width=192 ..." into the configuration; what is not named has GPT-2's proportions.
static int parse_init(const char *sizes, Config *c, Err *e) {
    *c = (Config){.layers = 6, .heads = 6, .width = 192, .context = 256, .vocab = 2048, .bias = -1, .tied = 1,
                  .norm_eps = 1e-5f, .rope_theta = 10000.0f};
    for (const char *p = sizes + strspn(sizes, " "); *p; p += strspn(p, " ")) {
        size_t name = strcspn(p, "= ");
        const ConfigField *f = CONFIG_FIELD, *none = f + CONFIG_INTS;
        while (f < none && (strlen(f->name) != name || strncmp(f->name, p, name))) f++;
        char *end = NULL;
        long v = p[name] == '=' ? strtol(p + name + 1, &end, 10) : 0;
        if (f == none || !end || end == p + name + 1 || (*end && *end != ' '))
            return err_set(e, "--init: '%.*s', want name=number with a name such as layers, heads, width, "
                           "context, vocab", (int)strcspn(p, " "), p);
        if (v < f->lo || v > f->hi)
            return err_set(e, "--init: %s = %ld, want %d..%d", f->name, v, (int)f->lo, (int)f->hi);
        memcpy((char *)c + f->where, &(int32_t){(int32_t)v}, sizeof(int32_t));
        p = end;
    }
    if (!c->kv_heads) c->kv_heads = c->heads;
    if (!c->head_size) c->head_size = c->width / c->heads;
    if (!c->hidden) c->hidden = c->swiglu ? c->width * 8 / 3 : 4 * c->width;
    if (c->bias < 0) c->bias = !c->rms;
    Fault f;
    return model_check(c, &f) ? err_fault(e, "--init", &f) : 0;
}

// ---- setup: tokenizer and data ----------------------------------------------------------------------------

// Copies the tokenizer's arrays into *memory of their own and makes its index there
static int tokenizer_keep(Tokenizer *t, void **memory, Err *e) {
    size_t bytes = (size_t)tokenizer_bytes(t), room = 4 + (bytes + 3) / 4 * 4;
    Fault f;
    uint8_t *p = *memory = block_alloc(room + tokenizer_index_size(t->vocab, t->merges), e);
    if (!p) return -1;
    tokenizer_put(t, p + 4);
    return tokenizer_get(t, p + 4, bytes, p + room, &f) ? err_fault(e, "tokenizer", &f) : 0;
}

// All the text files one after the other, each with a line break behind it, into *all, to be freed
static int read_texts(const Run *r, uint8_t **all, size_t *total, Err *e) {
    const size_t most = (size_t)1 << 31;
    size_t room = 0;
    for (int i = 0; i < r->files; i++) {
        uint8_t *data;
        size_t n;
        if (file_read(r->file[i], *total < most ? most - *total : 0, &data, &n, e)) return -1;
        data[n++] = '\n';                         // instead of file_read's 0
        int rc = grow(all, &room, *total + n, 1, e);
        if (rc == 0) memcpy(*all + *total, data, n);
        *total += n;
        free(data);
        if (rc) return -1;
    }
    return 0;
}

// A tokenizer of cfg.vocab tokens, learned from the text. What that takes, 40 times the text, is not kept.
static int learn_tokenizer(Run *r, Err *e) {
    uint32_t vocab = (uint32_t)r->base.cfg.vocab;
    uint8_t *all = NULL;
    size_t total = 0;
    Fault f;
    Tokenizer *t = &r->base.tok;
    int rc = read_texts(r, &all, &total, e);
    void *memory = rc ? NULL : block_alloc(tokenizer_train_size(total, vocab), e);
    if (memory) {
        fprintf(stderr, "learning a tokenizer of %" PRIu32 " tokens from %.1f MB of text\n", vocab,
                (double)total / 1e6);
        rc = tokenizer_train(t, all, total, vocab, memory, &f) ? err_fault(e, "--init", &f)
             : t->vocab == vocab ? tokenizer_keep(t, &r->tokenizer, e)
             : err_set(e, "--init: vocab = %" PRIu32 ", but the text has pairs for only %" PRIu32
                       "\nhint: vocab=%" PRIu32, vocab, t->vocab, t->vocab);
    }
    block_free(memory);
    free(all);
    return memory ? rc : -1;
}

static int load_files(const Run *r, const char *const *file, int files, Rows *rows, Examples *x, size_t seq,
                      Err *e) {
    const RowsHow how = {true, r->skip_bad, opt.columns};
    if (opt.text) return examples_text(x, file, files, &r->base.tok, seq, seq - 1, e);
    if (rows_load(rows, *file, &how, e)) return -1;
    return examples_make(x, rows, r->template, &r->base.tok, seq, (TooLong)r->too_long, r->teach, e);
}

static int load_examples(Run *r, Err *e) {
    size_t most = (size_t)r->base.cfg.context + 1, seq = opt.seq ? (size_t)opt.seq : most;
    if (seq > most) return err_set(e, "--seq: %zu, want 2..%zu, one more than the context", seq, most);
    if (load_files(r, r->file, r->files, &r->rows, &r->all, seq, e) ||
        (opt.val && load_files(r, &opt.val, 1, &r->val_rows, &r->val_all, seq, e))) return -1;
    examples_split(&r->all, opt.val ? 0.0 : opt.split, (uint64_t)opt.seed, &r->train, &r->val);
    if (opt.val) r->val = r->val_all;
    if (opt.early_stop && !r->val.n)
        return err_set(e, "--early-stop: no row is held out, want --val FILE or a --split above 0");
    if (!r->train.n)
        return err_set(e, "%s: no row is left to train on, want at least 1", r->file[0]);
    r->longest = r->train.longest > r->val.longest ? r->train.longest : r->val.longest;
    return 0;
}

// Windows of --general as long as the run's longest row, spread evenly over the file
static int load_general(Run *r, Err *e) {
    enum { TOKENS = 8192 };
    Examples *x = &r->general;
    if (examples_text(x, &opt.general, 1, &r->base.tok, r->longest, r->longest - 1, e)) return -1;
    size_t most = TOKENS / r->longest + 1, n = x->n < most ? x->n : most;
    for (size_t i = 0; i < n; i++) x->ex[i] = x->ex[i * x->n / n];
    x->n = n;
    return 0;
}

// ---- setup: lineage and memory ----------------------------------------------------------------------------

static int say_file(Text *t, const char *what, const char *path, Err *e) {
    char hex[65];
    if (path && sha256_file(path, hex, e)) return -1;
    if (path) text_add(t, "%s sha256 %s\n", what, hex);
    return 0;
}

// The lineage, what went in: all that determines the bits, and nothing else. Its hash is the state's key.
static int describe(Run *r, Err *e) {
    Text *t = &r->lineage;
    if (opt.model && strlen(r->base.lineage) > 1 << 20)
        return err_set(e, "%s: lineage of %zu bytes, want at most 1 MiB", opt.model, strlen(r->base.lineage));
    text_add(t, "%strain tune.c %s\n", opt.model ? r->base.lineage : "", TUNE_VERSION);
    for (int i = 0; i < CONFIG_INTS && opt.init; i++) {
        int32_t v;
        memcpy(&v, (const char *)&r->base.cfg + CONFIG_FIELD[i].where, sizeof v);
        text_add(t, "%s %s=%d%s", i ? "" : "init", CONFIG_FIELD[i].name, (int)v,
                 i + 1 < CONFIG_INTS ? "" : "\n");
    }
    if (say_file(t, "base", opt.model, e)) return -1;
    for (int i = 0; i < r->files; i++)
        if (say_file(t, opt.text ? "text" : "data", r->file[i], e)) return -1;
    if (say_file(t, "held-out", opt.val, e)) return -1;
    text_add(t, "options mask=%s%s too-long=%s seq=%" PRId64 " split=%.9g steps=%" PRId64 " batch=%" PRId64,
             opt.mask, r->teach == TEACH_LAST ? " turns=last" : "", opt.too_long, opt.seq,
             opt.val ? 0.0 : opt.split, r->steps, opt.batch);
    text_add(t, " lr=%.9g schedule=%s warmup=%.9g", opt.lr, opt.schedule, opt.warmup);
    if (opt.early_stop) text_add(t, " early-stop=%" PRId64 " every=%" PRId64, opt.early_stop, r->every);
    text_add(t, " weight-decay=%.9g beta2=%.9g clip=%.9g seed=%" PRId64 " dtype=%s\n", opt.decay, opt.beta2,
             opt.clip, opt.seed, DTYPE_NAME[r->dtype]);
    if (opt.columns) text_add(t, "columns %s\n", opt.columns);
    if (r->skip_bad) text_add(t, "bad-rows skip\n");
    if (opt.lora)
        text_add(t, "lora rank=%" PRId64 " alpha=%.9g on=%u\n", opt.lora, opt.lora_alpha,
                 (unsigned)r->cfg.lora_on);
    if (t->failed) return err_set(e, "no memory for the lineage");
    Sha256 s;
    sha256_init(&s);
    sha256_add(&s, t->s, t->n);
    sha256_add(&s, r->template, strlen(r->template));
    sha256_end(&s, r->state.key);
    return opt.verify ? verify_lineage(r, e) : 0;
}

// The plan for --micro rows at once; without that for the most that stay within 1 GiB more than a single row
static int plan_memory(Run *r, Err *e) {
    size_t seq = r->longest - 1, rows = (size_t)(opt.micro ? opt.micro : opt.batch);
    size_t most = r->train.n > r->val.n ? r->train.n : r->val.n;
    Shape s = {.rows = 1, .seq = seq, .step_tokens = (size_t)opt.batch * seq, .train = true,
               .halves = opt.lora && r->base.dtype == DTYPE_BF16, .recompute = opt.recompute,
               .threads = opt.threads ? (int)opt.threads : cores()};
    Fault f;
    if (model_plan(&r->plan, &r->cfg, &s, &f)) return err_fault(e, "memory plan", &f);
    size_t single = r->plan.bytes;
    if (rows > (size_t)opt.batch) rows = (size_t)opt.batch;
    if (rows > most) rows = most;
    for (s.rows = rows;; s.rows = (s.rows + 1) / 2) {
        if (model_plan(&r->plan, &r->cfg, &s, &f)) return err_fault(e, "memory plan", &f);
        if (opt.micro || s.rows == 1 || r->plan.bytes - single <= (size_t)1 << 30) break;
    }
    r->micro = s.rows;
    return 0;
}

static void print_plan(const Plan *p) {
    printf("%-32s %14s\n", "what", "MiB");
    for (int i = 0; i < p->items; i++)
        printf("%-32s %14.3f\n", p->item[i].name, (double)p->item[i].bytes / 1048576.0);
    printf("%-32s %14.3f\n", "one block in all", (double)p->bytes / 1048576.0);
    printf("%zu rows of at most %zu tokens at once, %d threads\n", p->shape.rows, p->shape.seq,
           p->shape.threads);
}

// ---- setup ------------------------------------------------------------------------------------------------

// The model's file, or with --init its sizes; the configuration of what is trained; the template
static int open_base(Run *r, Err *e) {
    if (opt.init && (parse_init(opt.init, &r->base.cfg, e) || learn_tokenizer(r, e))) return -1;
    if (opt.model && checkpoint_open(&r->base, opt.model, NULL, e)) return -1;
    if (r->base.tok.kind == TOK_NONE)
        return err_set(e, "%s: has no tokenizer, want one to turn text into tokens", opt.model);
    if (opt.model && !opt.dtype && !opt.lora) r->dtype = (int)r->base.dtype;
    r->cfg = r->base.cfg;
    if (opt.lora && parse_lora(&r->cfg, e)) return -1;
    r->params = model_params(&r->cfg);
    r->trained = r->params - (opt.lora ? model_params(&r->base.cfg) : 0);
    bool wanted = opt.data || opt.template;
    if (wanted && template_choose(opt.template, &r->base, &r->chosen, e)) return -1;
    r->template = wanted ? r->chosen : r->base.template ? r->base.template : "";
    return 0;
}

// All of the run's memory, and the weights in it
static int load_model(Run *r, Err *e) {
    r->pick = malloc((size_t)opt.batch * sizeof *r->pick);
    r->order = malloc(r->train.n * sizeof *r->order);
    if (!r->pick || !r->order) return err_set(e, "no memory for the order of %zu rows", r->train.n);
    if (batch_alloc(&r->batch, r->micro, r->longest - 1, e)) return -1;
    if (!(r->block = block_alloc(r->plan.bytes, e))) return -1;
    model_bind(&r->m, &r->plan, r->block);
    if (opt.resume && state_load(r->path[STATE], &r->state, &r->m, e)) return -1;    // before what takes long
    if (opt.init || opt.lora) model_init(&r->m, (uint64_t)opt.seed);
    return opt.model ? checkpoint_read(&r->base, &r->m.w, &r->m.h, e) : 0;
}

static int setup(Run *r, Err *e) {
    if (check_options(r, e) || check_outputs(r, e) || open_base(r, e)) return -1;
    if (load_examples(r, e) || look(r, e)) return -1;
    print_report(r, opt.check ? stdout : stderr);
    if (report_stop(r, e)) return -1;
    if (opt.check) return log_begin(r, 0, e);

    r->per_epoch = ((int64_t)r->train.n + opt.batch - 1) / opt.batch;
    r->steps = opt.steps ? opt.steps : opt.epochs * r->per_epoch;
    r->every = opt.val_every ? opt.val_every : r->per_epoch;
    r->warmup = (int64_t)(opt.warmup * (double)r->steps);
    if (plan_memory(r, e) || (opt.general && load_general(r, e))) return -1;
    if (opt.plan) print_plan(&r->plan);           // before the memory is taken: there may not be enough
    if (writes() && describe(r, e)) return -1;
    if (load_model(r, e)) return -1;
    fprintf(stderr, "%.2f million parameters, %.2f of them trained, %.0f MiB of memory\n  %zu rows at once, "
            "%d threads, %" PRId64 " steps\n", (double)r->params / 1e6, (double)r->trained / 1e6,
            (double)r->plan.bytes / 1048576.0, r->micro, r->plan.shape.threads, r->steps);
    return !writes() || opt.resume ? 0 : log_begin(r, 0, e);
}

static void release(Run *r) {
    Err e;
    if (log_close(r->log, &e)) fprintf(stderr, "train: warning: %s; the log is incomplete\n", e.msg);
    writer_close(r->claim, false, &e);
    batch_free(&r->batch);
    free(r->pick);
    free(r->order);
    free(r->lineage.s);
    free(r->chosen);
    block_free(r->block);
    examples_free(&r->all);
    examples_free(&r->val_all);
    examples_free(&r->general);
    rows_free(&r->rows);
    rows_free(&r->val_rows);
    block_free(r->tokenizer);
    checkpoint_close(&r->base);
}

int main(int argc, char **argv) {
    static Run r;                     // zeroed: from here on release() is legal
    Err e;
    int words = 0, rc = options_parse(OPTION, OPTIONS, argc, argv, r.file + 1, MAX_TEXTS, &words, &e);
    if (!rc && (opt.help || opt.version)) {
        if (opt.help) help();
        else printf("tune.c %s\n", TUNE_VERSION);
        return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
    }
    if (!rc && words && !opt.text)
        rc = err_set(&e, "'%s': a word that belongs to no option\nhint: ./train --help", r.file[1]);
    r.file[0] = opt.text ? opt.text : opt.data;
    r.files = words + 1;
    r.started = seconds();
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
#ifdef SIGHUP
    signal(SIGHUP, on_interrupt);
    signal(SIGPIPE, SIG_IGN);         // who reads the progress may go away
#endif
    if (!rc) rc = setup(&r, &e);
    if (!rc && !opt.check) rc = opt.plan ? expect(&r, &e) : train(&r, &e);
    release(&r);
    if (fflush(stdout) && !rc) rc = err_set(&e, "cannot write to stdout");
    if (rc) fprintf(stderr, "train: %s\n", e.msg);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

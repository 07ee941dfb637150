// train.c -- the program that fine-tunes: a checkpoint and a file of pairs (or raw text) in, a checkpoint
// out. It decides what a step is made of; the model, the tokenizer and every byte on disk are the business of
// the rooms below (model.h). Read from the bottom: main -> setup -> train -> one_step.
//
// What determines the bits of the result is listed in describe(): base, data and those options. Threads,
// --micro, interruptions and resumes are not in that list.
#include "model.h"
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- options ----------------------------------------------------------------------------------------------

static struct {
    const char *model, *init, *data, *text, *val, *out, *template, *mask, *turns, *too_long, *schedule;
    const char *dtype, *log, *lora_on, *columns, *bad_rows;
    int64_t lora, epochs, steps, batch, micro, seq, seed, save_every, val_every, threads;
    double split, lr, warmup, decay, clip, beta2, lora_alpha;
    bool recompute, resume, plan, help, version;
} opt = {
    .mask = "prompt", .turns = "all", .too_long = "error", .schedule = "cosine", .epochs = 3, .batch = 16,
    .seed = 1, .split = 0.1, .lr = 5e-4, .warmup = 0.05, .decay = 0.1, .clip = 1.0, .beta2 = 0.95,
    .lora_alpha = 16, .lora_on = "qkv,proj,fc1,fc2", .bad_rows = "stop",
};

static Option OPTION[] = {
    GROUP("What to train, and on what"),
    TEXT("--model", &opt.model, "FILE", "checkpoint to start from"),
    TEXT("--init", &opt.init, "SIZES",
         "or start from random weights and a tokenizer learned from --text: \"layers=6 "
         "heads=6 width=192 context=256 vocab=2048\" (then also kv_heads, hidden, rms, rope, swiglu, bias, "
         "tied, ...)"),
    TEXT("--data", &opt.data, "FILE",
         "rows of JSON, JSON Lines, CSV or TSV: instruction, input, output; prompt, completion; or messages"),
    TEXT("--columns", &opt.columns, "LIST",
         "what the file calls them: \"prompt=question,completion=answer\"; \"system=\": not read"),
    TEXT("--bad-rows", &opt.bad_rows, "WHAT", "stop at the first wrong row, or skip them all"),
    TEXT("--text", &opt.text, "FILE", "or raw text; further files may follow as plain words"),
    TEXT("--val", &opt.val, "FILE", "held-out file of the same kind; else --split"),
    REAL("--split", &opt.split, 0, 0.9, "X",
         "share of the rows held out to measure the loss; by content, so rows never move"),
    TEXT("--out", &opt.out, "FILE", "checkpoint to write"),
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
    GROUP("LoRA"),
    INT("--lora", &opt.lora, 1, 1 << 10, "RANK",
        "train two small matrices beside each frozen one; --out is then an adapter, a small file for use "
        "with --base, or with ./convert --merge"),
    REAL("--lora-alpha", &opt.lora_alpha, 1e-3, 1e4, "X", "strength: what they add is scaled by X / RANK"),
    TEXT("--lora-on", &opt.lora_on, "LIST", "beside which linear layers"),
    GROUP("Running"),
    FLAG("--recompute", &opt.recompute,
         "compute activations again instead of keeping them: less memory, same bits"),
    INT("--micro", &opt.micro, 1, 65536, "N",
        "rows computed at once; otherwise what fits 1 GiB; changes no bit"),
    INT("--threads", &opt.threads, 1, 1024, "N", "otherwise all cores; changes no bit"),
    INT("--val-every", &opt.val_every, 1, 1e9, "N", "steps between measurements; otherwise once an epoch"),
    INT("--save-every", &opt.save_every, 1, 1e9, "N", "steps between saves of the state that --resume needs"),
    FLAG("--resume", &opt.resume, "go on from FILE.state of --out FILE"),
    TEXT("--log", &opt.log, "FILE", "every step as a line of JSON"),
    FLAG("--plan", &opt.plan, "print the table of memory and stop"),
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

static bool given(const char *name) {
    int i = 0;
    while (!OPTION[i].name || strcmp(OPTION[i].name, name)) i++;
    return OPTION[i].given;
}

// The index of word in list, or -1 with a message: "--mask: 'x', want prompt or none"
static int choice(const char *option, const char *word, const char *const *list, int n, Err *e) {
    char want[128] = "";
    for (int i = 0; i < n; i++) {
        if (!strcmp(word, list[i])) return i;
        size_t used = strlen(want);
        snprintf(want + used, sizeof want - used, "%s%s", i == 0 ? "" : i + 1 < n ? ", " : " or ", list[i]);
    }
    return err_set(e, "%s: '%s', want %s", option, word, want);
}

// ---- what a run holds -------------------------------------------------------------------------------------

typedef struct {
    Checkpoint base;                  // --model; or, with --init, config and tokenizer made here
    Config cfg;                       // base's, and --lora
    void *tokenizer;                  // memory of the one made here
    const char *template;
    char *chosen;                     // the template's memory, if it has its own
    Rows rows, val_rows;
    Examples all, val_all, train, val;     // train and val are views of all, or of all and val_all
    const char *text[MAX_TEXTS + 1];
    int texts;
    Schedule schedule;
    TooLong too_long;
    Teach teach;
    Dtype dtype;
    char *lineage, state_path[4096], key[65];
    bool skip_bad;                    // --bad-rows skip
    bool state_written;               // at state_path, by this run
    void *block;
    Plan plan;
    Model m;
    size_t micro, longest;
    BatchMemory batch;
    const Example **pick;             // (batch) rows of the step at hand
    uint32_t *order;
    int64_t steps, per_epoch, warmup;
    Log *log;
} Run;

static volatile sig_atomic_t interrupted = 0;
static void on_interrupt(int signal_number) {
    interrupted = 1;
    signal(signal_number, SIG_DFL);               // a second time it ends the program at once
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
    for (int i = 0; i < 2; i++, train = held) {
        qsort(train->ex, train->n, sizeof *train->ex, by_row);
        examples_count(train);
    }
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

// ---- measuring and stepping -------------------------------------------------------------------------------

// Mean loss per target over examples, without touching weights or gradients
static int measure(Run *r, const Examples *x, double *loss, Err *e) {
    double sum = 0.0;
    size_t targets = 0;
    for (size_t i = 0; i < x->n; i += r->micro) {
        size_t n = x->n - i < r->micro ? x->n - i : r->micro;
        for (size_t k = 0; k < n; k++) r->pick[k] = &x->ex[i + k];
        targets += batch_fill(&r->batch, r->pick, n);
        Fault f;
        if (model_forward(&r->m, &r->batch.view, &f)) return err_fault(e, "validation", &f);
        model_loss(&r->m, &r->batch.view, 0.0f, &sum, NULL);
    }
    *loss = targets ? sum / (double)targets : 0.0;
    return 0;
}

// Which gradient went wrong first: one clear line instead of a ruined model
static int report_not_finite(Run *r, int64_t step, Err *e) {
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&r->m.cfg, i);
        const float *g = tensor_data(&r->m.g, &t);         // NULL: frozen
        for (size_t j = 0; g && j < t.size; j++)
            if (!isfinite(g[j]))
                return err_set(e, "step %" PRId64 ": the gradient of %s[%zu] is %g, want a finite number; "
                               "the step was not taken\nhint: a lower --lr, or --clip 1",
                               step, t.name, j, (double)g[j]);
    }
    return err_set(e, "step %" PRId64 ": the gradient's norm overflows; the step was not taken\n"
                   "hint: a lower --lr", step);
}

typedef struct { double loss, norm, lr; size_t tokens; } StepResult;

// One optimizer step (from 1): its rows in pieces of --micro, whose gradients add up as if computed at once
static int one_step(Run *r, int64_t step, StepResult *s, Err *e) {
    size_t n = r->train.n, first = (size_t)((step - 1) % r->per_epoch) * (size_t)opt.batch;
    size_t rows = n - first < (size_t)opt.batch ? n - first : (size_t)opt.batch, targets = 0;
    *s = (StepResult){0};
    for (size_t i = 0; i < rows; i++) {
        const Example *x = &r->train.ex[r->order[first + i]];
        for (uint32_t t = 1; t < x->len; t++) targets += x->taught[t];
        s->tokens += x->len - 1;
    }
    model_zero_grad(&r->m);
    for (size_t i = 0; i < rows; i += r->micro) {
        size_t k = rows - i < r->micro ? rows - i : r->micro;
        for (size_t j = 0; j < k; j++) r->pick[j] = &r->train.ex[r->order[first + i + j]];
        batch_fill(&r->batch, r->pick, k);
        Fault f;
        if (model_forward(&r->m, &r->batch.view, &f)) return err_fault(e, "training", &f);
        model_loss(&r->m, &r->batch.view, 1.0f / (float)targets, &s->loss, NULL);
        model_backward(&r->m, &r->batch.view);
    }
    s->loss /= (double)targets;
    s->norm = model_grad_norm(&r->m);
    if (!isfinite(s->norm) || !isfinite(s->loss)) return report_not_finite(r, step, e);
    float lr = model_schedule(r->schedule, (float)opt.lr, r->warmup, r->steps, step);
    AdamW o = {lr, 0.9f, (float)opt.beta2, 1e-8f, (float)opt.decay, (float)opt.clip};
    model_update(&r->m, &o, s->norm, step);
    s->lr = (double)lr;
    return 0;
}

// ---- the loop ---------------------------------------------------------------------------------------------

static void print_duration(char *to, size_t size, double s) {
    if (s < 90) snprintf(to, size, "%.0f s", s);
    else if (s < 5400) snprintf(to, size, "%.0f min", s / 60);
    else snprintf(to, size, "%.1f h", s / 3600);
}

// One line that rewrites itself on a terminal, about twenty lines elsewhere
static void progress(const Run *r, int64_t step, const StepResult *s, double rate, bool last) {
    bool terminal = is_terminal(2);
    int64_t every = r->steps / 20 > 0 ? r->steps / 20 : 1;
    if (!terminal && !last && step % every && step != 1) return;
    char left[32];
    print_duration(left, sizeof left, (double)(r->steps - step) * (double)s->tokens / rate);
    fprintf(stderr, "%sstep %" PRId64 "/%" PRId64 "  loss %.4f  norm %.2f  lr %.2e  %.0f tokens/s  %s left%s",
            terminal ? "\r" : "", step, r->steps, s->loss, s->norm, s->lr, rate, left,
            terminal && !last ? "    " : "\n");
    fflush(stderr);
}

static int save_state(Run *r, int64_t step, double best, int64_t best_step, Err *e) {
    State s = {step, best, best_step, ""};
    memcpy(s.key, r->key, sizeof s.key);
    if (state_save(r->state_path, &s, &r->m, e)) return -1;
    r->state_written = true;
    return 0;
}

static int validate(Run *r, int64_t step, double *best, int64_t *best_step, Err *e) {
    double loss = 0.0;
    if (!r->val.n) return 0;
    if (measure(r, &r->val, &loss, e)) return -1;
    if (!isfinite(loss))
        return err_set(e, "step %" PRId64 ": the validation loss is %g, want a number", step, loss);
    fprintf(stderr, "%sstep %" PRId64 ": validation loss %.4f on %zu rows\n", is_terminal(2) ? "\r" : "",
            step, loss, r->val.n);
    if (r->log) log_line(r->log, "{\"step\": %" PRId64 ", \"val_loss\": %.9g}", step, loss);
    if (loss < *best) { *best = loss; *best_step = step; }
    return 0;
}

static int train(Run *r, Err *e) {
    int64_t step = 0, best_step = 0;
    double best = DBL_MAX, start = seconds(), tokens = 0.0, busy = 0.0;
    if (opt.resume) {
        State s;
        memcpy(s.key, r->key, sizeof s.key);
        if (state_load(r->state_path, &s, &r->m, e)) return -1;
        step = s.step;
        best = s.best;
        best_step = s.best_step;
        fprintf(stderr, "going on after step %" PRId64 "\n", step);
    } else if (validate(r, 0, &best, &best_step, e)) return -1;

    StepResult s = {0};
    for (int64_t ordered = -1; step < r->steps && !interrupted;) {
        int64_t epoch = step / r->per_epoch;
        if (epoch != ordered) order_make(r->order, r->train.n, (uint64_t)opt.seed, (uint64_t)epoch);
        ordered = epoch;
        double began = seconds();
        if (one_step(r, ++step, &s, e)) return -1;
        double now = seconds();
        tokens += (double)s.tokens;
        busy += now - began;
        progress(r, step, &s, tokens / busy, step == r->steps);
        if (r->log)
            log_line(r->log,
                     "{\"step\": %" PRId64 ", \"loss\": %.9g, \"norm\": %.9g, \"lr\": %.9g, \"tokens\": %zu, "
                     "\"seconds\": %.3f}",
                     step, s.loss, s.norm, s.lr, s.tokens, now - start);
        bool epoch_end = step % r->per_epoch == 0 || step == r->steps;
        if ((opt.val_every ? step % opt.val_every == 0 || step == r->steps : epoch_end) &&
            validate(r, step, &best, &best_step, e))
            return -1;
        if (opt.save_every && step % opt.save_every == 0 && step < r->steps &&
            save_state(r, step, best, best_step, e))
            return -1;
    }
    if (step < r->steps) {
        if (save_state(r, step, best, best_step, e)) return -1;
        return err_set(e, "interrupted after step %" PRId64 " of %" PRId64 "; the state is in %s\n"
                       "hint: the same command with --resume goes on", step, r->steps, r->state_path);
    }
    const Config *c = &r->m.cfg;
    if (opt.lora ? adapter_save(opt.out, &r->base, c, r->template, r->lineage, &r->m.w, e)
                 : checkpoint_save(opt.out, c, &r->base.tok, r->template, r->lineage, r->dtype, &r->m.w, e))
        return -1;
    if (opt.resume || r->state_written) remove(r->state_path);
    char took[32];
    print_duration(took, sizeof took, seconds() - start);
    fprintf(stderr, "%s written: %" PRId64 " steps in %s, %.0f tokens/s", opt.out, r->steps, took,
            busy > 0 ? tokens / busy : 0);
    if (best_step < r->steps && r->val.n)
        fprintf(stderr, "; the validation loss was lowest after step %" PRId64 ": %.4f", best_step, best);
    fprintf(stderr, "\n");
    return 0;
}

// ---- setup ------------------------------------------------------------------------------------------------

// "layers=6 heads=6 width=192 ..." into the configuration; what is not named has GPT-2's proportions.
static int parse_init(const char *sizes, Config *c, Err *e) {
    *c = (Config){.layers = 6, .heads = 6, .width = 192, .context = 256, .vocab = 2048, .bias = -1, .tied = 1,
                  .norm_eps = 1e-5f, .rope_theta = 10000.0f};
    for (const char *p = sizes; *p;) {
        size_t name = strcspn(p, "= "), i = 0;
        if (name == 0) { p++; continue; }
        while (i < CONFIG_INTS &&
               (strlen(CONFIG_FIELD[i].name) != name || strncmp(CONFIG_FIELD[i].name, p, name)))
            i++;
        char *end;
        long v = p[name] == '=' ? strtol(p + name + 1, &end, 10) : 0;
        if (i == CONFIG_INTS || p[name] != '=' || end == p + name + 1 || (*end && *end != ' '))
            return err_set(
                e,
                "--init: '%.*s', want name=number with a name such as layers, heads, width, context, vocab",
                (int)strcspn(p, " "), p);
        if (v < CONFIG_FIELD[i].lo || v > CONFIG_FIELD[i].hi)
            return err_set(e, "--init: %s = %ld, want %d..%d", CONFIG_FIELD[i].name, v,
                           (int)CONFIG_FIELD[i].lo, (int)CONFIG_FIELD[i].hi);
        int32_t value = (int32_t)v;
        memcpy((char *)c + CONFIG_FIELD[i].where, &value, sizeof value);
        p = end;
    }
    if (!c->kv_heads) c->kv_heads = c->heads;
    if (!c->head_size) c->head_size = c->width / c->heads;
    if (!c->hidden) c->hidden = c->swiglu ? c->width * 8 / 3 : 4 * c->width;
    if (c->bias < 0) c->bias = !c->rms;
    Fault f;
    return model_check(c, &f) ? err_fault(e, "--init", &f) : 0;
}

// Copies the tokenizer's arrays into *memory of their own and makes its index there
static int tokenizer_keep(Tokenizer *t, void **memory, Err *e) {
    size_t bytes = (size_t)tokenizer_bytes(t), room = 4 + (bytes + 3) / 4 * 4;
    Fault f;
    uint8_t *p = *memory = block_alloc(room + tokenizer_index_size(t->vocab, t->merges), e);
    if (!p) return -1;
    tokenizer_put(t, p + 4);
    return tokenizer_get(t, p + 4, bytes, p + room, &f) ? err_fault(e, "tokenizer", &f) : 0;
}

// A tokenizer of cfg.vocab tokens, learned from all the text files one after the other
static int learn_tokenizer(Run *r, Err *e) {
    int rc = -1;
    uint8_t *all = NULL;
    void *memory = NULL;              // 40 bytes for each of the text: not kept
    size_t total = 0;
    for (int i = 0; i < r->texts; i++) {
        uint8_t *data = NULL;
        size_t n;
        if (file_read(r->text[i], (size_t)1 << 31, &data, &n, e)) goto out;
        uint8_t *grown = n < ((size_t)1 << 31) - total ? realloc(all, total + n + 1) : NULL;
        if (grown) {
            all = grown;
            memcpy(all + total, data, n);
            all[total + n] = '\n';
            total += n + 1;
        }
        free(data);
        if (!grown) { err_set(e, "--text: more than 2 GiB, or no memory for it"); goto out; }
    }
    uint32_t vocab = (uint32_t)r->base.cfg.vocab;
    Fault f;
    Tokenizer *t = &r->base.tok;
    if (!(memory = block_alloc(tokenizer_train_size(total, vocab), e))) goto out;
    fprintf(stderr, "learning a tokenizer of %" PRIu32 " tokens from %.1f MB of text\n", vocab,
            (double)total / 1e6);
    if (tokenizer_train(t, all, total, vocab, memory, &f)) err_fault(e, "--init", &f);
    else if (t->vocab < vocab)
        err_set(e, "--init: vocab = %" PRIu32 ", but the text has pairs for only %" PRIu32
                "\nhint: vocab=%" PRIu32, vocab, t->vocab, t->vocab);
    else rc = tokenizer_keep(t, &r->tokenizer, e);
out:
    block_free(memory);
    free(all);
    return rc;
}

static int load_rows(const Run *r, const char *path, Rows *rows, Examples *x, size_t seq, Err *e) {
    const RowsHow how = {true, r->skip_bad, opt.columns};
    if (rows_load(rows, path, &how, e)) return -1;
    return examples_make(x, rows, r->template, &r->base.tok, seq, r->too_long, r->teach, e);
}

static int load_examples(Run *r, Err *e) {
    const Config *c = &r->base.cfg;
    size_t seq = opt.seq ? (size_t)opt.seq : (size_t)c->context + 1;
    if (seq > (size_t)c->context + 1)
        return err_set(e, "--seq: %zu, want 2..%d, one more than the context", seq, (int)c->context + 1);
    if (opt.text) {
        if (examples_text(&r->all, r->text, r->texts, &r->base.tok, seq, e)) return -1;
        if (opt.val && examples_text(&r->val_all, &opt.val, 1, &r->base.tok, seq, e)) return -1;
    } else if (load_rows(r, opt.data, &r->rows, &r->all, seq, e) ||
               (opt.val && load_rows(r, opt.val, &r->val_rows, &r->val_all, seq, e))) return -1;
    examples_split(&r->all, opt.val ? 0.0 : opt.split, (uint64_t)opt.seed, &r->train, &r->val);
    if (opt.val) r->val = r->val_all;
    if (!r->train.n)
        return err_set(e, "%s: no row is left to train on, want at least 1", opt.data ? opt.data : opt.text);
    r->longest = r->train.longest > r->val.longest ? r->train.longest : r->val.longest;
    fprintf(stderr,
            "%zu rows: %zu to train on, %zu held out, %zu cut, %zu dropped; %zu tokens, %.1f %% of them "
            "taught, longest row %zu\n",
            r->all.rows, r->train.n, r->val.n, r->all.cut, r->all.dropped, r->train.tokens,
            100.0 * (double)r->train.targets / (double)r->train.tokens, r->longest);
    return 0;
}

// The lineage: what went in. Everything that determines the bits is here, nothing else; its hash is the
// state's key.
static int describe(Run *r, Err *e) {
    enum { ROOM = 1 << 14 };
    size_t inherited = r->base.lineage ? strlen(r->base.lineage) : 0, used = 0;
    if (inherited > 1 << 20)
        return err_set(e, "%s: lineage of %zu bytes, want at most 1 MiB", opt.model, inherited);
    char hex[65], *t = r->lineage = malloc(inherited + ROOM + 80 * (size_t)(r->texts + 2));
    if (!t) return err_set(e, "no memory for the lineage");
#define SAY(...) used += (size_t)sprintf(t + used, __VA_ARGS__)
    if (inherited) SAY("%s", r->base.lineage);
    SAY("train tune.c %s\n", TUNE_VERSION);
    if (opt.model) {
        if (sha256_file(opt.model, hex, e)) return -1;
        SAY("base sha256 %s\n", hex);
    } else {
        SAY("init");
        for (int i = 0; i < CONFIG_INTS; i++) {
            int32_t v;
            memcpy(&v, (const char *)&r->base.cfg + CONFIG_FIELD[i].where, sizeof v);
            SAY(" %s=%d", CONFIG_FIELD[i].name, (int)v);
        }
        SAY("\n");
    }
    for (int i = 0; i < (opt.text ? r->texts : 1); i++) {
        if (sha256_file(opt.text ? r->text[i] : opt.data, hex, e)) return -1;
        SAY("%s sha256 %s\n", opt.text ? "text" : "data", hex);
    }
    if (opt.val) {
        if (sha256_file(opt.val, hex, e)) return -1;
        SAY("held-out sha256 %s\n", hex);
    }
    SAY("options mask=%s%s too-long=%s seq=%" PRId64 " split=%.9g steps=%" PRId64 " batch=%" PRId64
        " lr=%.9g schedule=%s warmup=%.9g",
        opt.mask, r->teach == TEACH_LAST ? " turns=last" : "", opt.too_long, opt.seq,
        opt.val ? 0.0 : opt.split, r->steps, opt.batch, opt.lr, opt.schedule, opt.warmup);
    SAY(" weight-decay=%.9g beta2=%.9g clip=%.9g seed=%" PRId64 " dtype=%s\n", opt.decay, opt.beta2, opt.clip,
        opt.seed, DTYPE_NAME[r->dtype]);
    if (opt.columns) SAY("columns %s\n", opt.columns);
    if (r->skip_bad) SAY("bad-rows skip\n");
    if (opt.lora)
        SAY("lora rank=%" PRId64 " alpha=%.9g on=%u\n", opt.lora, opt.lora_alpha, (unsigned)r->cfg.lora_on);
#undef SAY
    Sha256 s;
    sha256_init(&s);
    sha256_add(&s, t, used);
    sha256_add(&s, r->template, strlen(r->template));
    sha256_end(&s, r->key);
    return 0;
}

// The plan for `micro` rows at once; 0 asks for the largest that stays within 1 GiB more than a single row
static int plan_memory(Run *r, Err *e) {
    size_t seq = r->longest - 1;
    Shape s = {.rows = 1, .seq = seq, .step_tokens = (size_t)opt.batch * seq, .train = true,
               .halves = opt.lora && r->base.dtype == DTYPE_BF16, .recompute = opt.recompute,
               .threads = opt.threads ? (int)opt.threads : cores()};
    Fault f;
    if (model_plan(&r->plan, &r->cfg, &s, &f)) return err_fault(e, "memory plan", &f);
    size_t single = r->plan.bytes, rows = (size_t)(opt.micro ? opt.micro : opt.batch);
    size_t most = r->train.n > r->val.n ? r->train.n : r->val.n;
    if (rows > (size_t)opt.batch) rows = (size_t)opt.batch;
    if (rows > most) rows = most;
    for (;; rows = (rows + 1) / 2) {
        s.rows = rows;
        if (model_plan(&r->plan, &r->cfg, &s, &f)) return err_fault(e, "memory plan", &f);
        if (opt.micro || rows == 1 || r->plan.bytes - single <= (size_t)1 << 30) break;
    }
    r->micro = rows;
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

// --lora-on: the bits of Config.lora_on
static int parse_lora(Config *c, Err *e) {
    static const char *const layers[] = {"qkv", "proj", "fc1", "fc2"};
    c->lora_rank = (int32_t)opt.lora;
    c->lora_alpha = (float)opt.lora_alpha;
    for (const char *p = opt.lora_on; *p; p += strspn(p, ",")) {
        char name[8];
        size_t n = strcspn(p, ",");
        snprintf(name, sizeof name, "%.*s", n < sizeof name ? (int)n : 7, p);
        int k = choice("--lora-on", name, layers, 4, e);
        if (k < 0) return -1;
        c->lora_on |= 1u << k;
        p += n;
    }
    return c->lora_on ? 0 : err_set(e, "--lora-on: names no layer");
}

static int check_options(Run *r, Err *e) {
    static const char *const masks[] = {"prompt", "none"}, *const longs[] = {"error", "drop", "cut"};
    static const char *const turns[] = {"all", "last"}, *const bads[] = {"stop", "skip"};
    static const char *const schedules[] = {"cosine", "linear", "constant"};
    if (!opt.model == !opt.init)
        return err_set(e, "want either --model FILE or --init SIZES\nhint: ./train --help");
    if (!opt.data == !opt.text)
        return err_set(e, "want either --data FILE or --text FILE\nhint: ./train --help");
    if (opt.text && (opt.columns || given("--bad-rows")))
        return err_set(e, "--columns and --bad-rows are for rows, not for --text");
    if (opt.init && !opt.text) return err_set(e, "--init needs --text, from which the tokenizer is learned");
    if (given("--steps") && given("--epochs"))
        return err_set(e, "--steps and --epochs both say how long to train: want one of them");
    if (opt.lora && (opt.init || opt.dtype))
        return err_set(e, "--lora trains beside a --model, and adapters are stored as f32: "
                       "not with --init or --dtype");
    if (!opt.lora && (given("--lora-alpha") || given("--lora-on")))
        return err_set(e, "--lora-alpha and --lora-on need --lora RANK");
    if (!opt.out && !opt.plan) return err_set(e, "want --out FILE, the checkpoint to write");
    int k = 0, mask = choice("--mask", opt.mask, masks, 2, e);
    if (mask < 0 || (k = choice("--turns", opt.turns, turns, 2, e)) < 0) return -1;
    if (mask && k) return err_set(e, "--turns last leaves nothing to --mask none, which teaches all");
    r->teach = mask ? TEACH_ALL : k ? TEACH_LAST : TEACH_ANSWERS;
    if ((k = choice("--too-long", opt.too_long, longs, 3, e)) < 0) return -1;
    r->too_long = (TooLong)k;
    if ((k = choice("--bad-rows", opt.bad_rows, bads, 2, e)) < 0) return -1;
    r->skip_bad = k == 1;
    if ((k = choice("--schedule", opt.schedule, schedules, 3, e)) < 0) return -1;
    r->schedule = (Schedule)k;
    if (opt.dtype && (k = choice("--dtype", opt.dtype, DTYPE_NAME, DTYPES, e)) < 0) return -1;
    r->dtype = (Dtype)(opt.dtype ? k : 0);
    if (opt.out &&
        snprintf(r->state_path, sizeof r->state_path, "%s.state", opt.out) >= (int)sizeof r->state_path)
        return err_set(e, "--out: a path of %zu bytes, want at most %zu", strlen(opt.out),
                       sizeof r->state_path - 8);
    return 0;
}

// What is written is not read, and not written twice: a slip of the keyboard would cost the user's data.
static int check_outputs(const Run *r, Err *e) {
    const char *path[] = {opt.data, opt.val, opt.model, opt.template, opt.out,
                          opt.out ? r->state_path : NULL, opt.log};
    for (int w = 4; w < 7; w++)                   // the last three are written
        for (int i = 0; path[w] && i < w + r->texts; i++) {
            const char *other = i < w ? path[i] : r->text[i - w];
            if (other && same_file(path[w], other))
                return err_set(e, "%s: is this run's %s as well, want another file for %s", path[w], other,
                               w == 6 ? "--log" : "--out");
        }
    FILE *state = opt.out && !opt.resume && !opt.plan ? fopen(r->state_path, "rb") : NULL;
    if (!state) return 0;
    fclose(state);
    return err_set(e, "%s: is there, so a run was interrupted\nhint: --resume goes on with it; to begin "
                   "anew, remove it", r->state_path);
}

static int setup(Run *r, Err *e) {
    if (check_options(r, e) || check_outputs(r, e)) return -1;
    if (opt.model) {
        if (checkpoint_open(&r->base, opt.model, NULL, e)) return -1;
        if (!opt.dtype) r->dtype = opt.lora ? DTYPE_F32 : r->base.dtype;
        if (r->base.tok.kind == TOK_NONE)
            return err_set(e, "%s: has no tokenizer, want one to turn text into tokens", opt.model);
    } else if (parse_init(opt.init, &r->base.cfg, e) || learn_tokenizer(r, e)) return -1;
    r->cfg = r->base.cfg;
    if (opt.lora && parse_lora(&r->cfg, e)) return -1;
    bool wanted = opt.data || opt.template;
    if (wanted && template_choose(opt.template, &r->base, &r->chosen, e)) return -1;
    r->template = wanted ? r->chosen : r->base.template ? r->base.template : "";
    if (load_examples(r, e)) return -1;

    r->per_epoch = ((int64_t)r->train.n + opt.batch - 1) / opt.batch;
    r->steps = opt.steps ? opt.steps : opt.epochs * r->per_epoch;
    r->warmup = (int64_t)(opt.warmup * (double)r->steps);
    if (plan_memory(r, e)) return -1;
    if (opt.plan) return 0;
    Writer *probe = writer_open(opt.out, e);      // if --out cannot be written, that is found before training
    if (!probe || writer_close(probe, false, e) || describe(r, e)) return -1;
    r->block = block_alloc(r->plan.bytes, e);
    r->pick = malloc((size_t)opt.batch * sizeof *r->pick);
    r->order = malloc(r->train.n * sizeof *r->order);
    if (!r->block) return -1;
    if (!r->pick || !r->order) return err_set(e, "no memory for the order of %zu rows", r->train.n);
    if (batch_alloc(&r->batch, r->micro, r->longest - 1, e)) return -1;
    model_bind(&r->m, &r->plan, r->block);
    if (opt.init || opt.lora) model_init(&r->m, (uint64_t)opt.seed);
    if (opt.model && checkpoint_read(&r->base, &r->m.w, &r->m.h, e)) return -1;
    size_t all = model_params(&r->cfg), frozen = opt.lora ? model_params(&r->base.cfg) : 0;
    fprintf(stderr, "%.2f million parameters, %.2f of them trained, %.0f MiB of memory, %zu rows at once, "
            "%d threads, %" PRId64 " steps\n", (double)all / 1e6, (double)(all - frozen) / 1e6,
            (double)r->plan.bytes / 1048576.0, r->micro, r->plan.shape.threads, r->steps);
    return opt.log ? log_open(&r->log, opt.log, opt.resume, e) : 0;
}

static void release(Run *r) {
    Err e;
    if (log_close(r->log, &e)) fprintf(stderr, "train: warning: %s; the log is incomplete\n", e.msg);
    batch_free(&r->batch);
    free(r->pick);
    free(r->order);
    free(r->lineage);
    free(r->chosen);
    block_free(r->block);
    examples_free(&r->all);
    examples_free(&r->val_all);
    rows_free(&r->rows);
    rows_free(&r->val_rows);
    block_free(r->tokenizer);
    checkpoint_close(&r->base);
}

int main(int argc, char **argv) {
    static Run r;                     // zeroed: from here on release() is legal
    Err e;
    const char *words[MAX_TEXTS];
    int n = 0, rc = options_parse(OPTION, OPTIONS, argc, argv, words, MAX_TEXTS, &n, &e);
    if (!rc && (opt.help || opt.version)) {
        if (opt.help) help();
        else printf("tune.c %s\n", TUNE_VERSION);
        return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
    }
    if (!rc && n && !opt.text)
        rc = err_set(&e, "'%s': a word that belongs to no option\nhint: ./train --help", words[0]);
    if (!rc) {
        r.text[0] = opt.text;
        memcpy(r.text + 1, words, (size_t)n * sizeof *words);
        r.texts = n + 1;
        signal(SIGINT, on_interrupt);
        signal(SIGTERM, on_interrupt);
#ifdef SIGHUP
        signal(SIGHUP, on_interrupt);
#endif
        rc = setup(&r, &e);
    }
    if (!rc && opt.plan) {
        print_plan(&r.plan);
        if (fflush(stdout)) rc = err_set(&e, "cannot write the plan to stdout");
    } else if (!rc) rc = train(&r, &e);
    release(&r);
    if (rc) fprintf(stderr, "train: %s\n", e.msg);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

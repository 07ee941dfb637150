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
    int64_t explain, lora, epochs, steps, batch, micro, seq, seed, save_every, val_every, early_stop, threads;
    double split, lr, warmup, decay, clip, beta2, lora_alpha;
    bool recompute, resume, plan, check, help, version;
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
    FLAG("--recompute", &opt.recompute,
         "compute activations again instead of keeping them: less memory, same bits"),
    INT("--micro", &opt.micro, 1, 65536, "N",
        "rows computed at once; otherwise what fits 1 GiB; changes no bit"),
    INT("--threads", &opt.threads, 1, 1024, "N", "otherwise all cores; changes no bit"),
    INT("--val-every", &opt.val_every, 1, 1e9, "N", "steps between measurements; otherwise once an epoch"),
    INT("--save-every", &opt.save_every, 1, 1e9, "N", "steps between saves of the state that --resume needs"),
    FLAG("--resume", &opt.resume, "go on from FILE.state of --out FILE"),
    TEXT("--log", &opt.log, "FILE",
         "the run as lines of JSON: its conditions, its data, every step, what it did"),
    FLAG("--plan", &opt.plan, "print the table of memory, measure how long the run will take, and stop"),
    FLAG("--check", &opt.check, "print the data report in full and stop; no --out is needed"),
    INT("--explain", &opt.explain, 1, UINT32_MAX, "N",
        "show what row N (from 1) is to the model, token by token, before and after one step on it; stop"),
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
static bool writes(void) { return !opt.plan && !opt.check && !opt.explain; }

static bool given(const char *name) {
    int i = 0;
    while (!OPTION[i].name || strcmp(OPTION[i].name, name)) i++;
    return OPTION[i].given;
}

// The index of word in list, into *at, or -1 with a message: "--mask: 'x', want prompt or none"
static int choice(const char *option, const char *word, const char *const *list, int n, int *at, Err *e) {
    char want[128] = "";
    for (int i = 0; i < n; i++) {
        *at = i;
        if (!strcmp(word, list[i])) return 0;
        size_t used = strlen(want);
        snprintf(want + used, sizeof want - used, "%s%s", i == 0 ? "" : i + 1 < n ? ", " : " or ", list[i]);
    }
    return err_set(e, "%s: '%s', want %s", option, word, want);
}

// ---- data report ------------------------------------------------------------------------------------------
// What the run is about to learn from: which rows repeat, contradict or give away others; how long they are,
// how much alike, and what that makes them good for. Words are in small ASCII letters, and stand between
// white space and punctuation. Rows are compared by their hashes of 64 bits: of a million rows two that
// differ are taken for equal once in 30 million such files. Time is n log n, memory 50 bytes a row.

enum { WORD_BYTES = 64, SEGMENT = 1000, SLOTS = 4096, LISTED = 20, BARS = 12, MOST_LABELS = 200 };

typedef struct {                  // a row as its hashes: the prompt's words, the prompt, the answer
    uint64_t hash[3];
    uint32_t row;
    bool held;
} Key;

typedef struct { size_t n; uint32_t row, like; } Twins;    // rows like another one; the first of them, and it
typedef struct { uint64_t hash; uint32_t row, n; } Tally;  // what n rows have, row the first of them
typedef struct {                      // of the prompts, or of the answers
    double words, spread;             // in a row, on average; their standard deviation, in such averages
    double ones, twos;                // different words among 1,000, in random rows; different pairs of these
    double opening;                   // share of the rows that begin with the most frequent four words,
    uint32_t opens;                   // the first of them
    size_t shared;                    // bytes that all prompts begin with, which are left out here
} Variety;
typedef struct {
    const Examples *all, *train, *held;    // held: the rest of all, or of another file
    const Rows *rows, *other;         // of all (n 0: raw text, which has none); of that other file, else NULL
    size_t bar[BARS], width;          // examples of up to width - 1 tokens, 2 width - 1, ...
    Twins twice, reply, near;         // same prompt and answer; same prompt; prompt of the same words
    Twins leaked, leaked_near;        // held out, with the prompt of a row trained on; with its words
    size_t blank, echo, answers;      // answers of white space, that repeat the prompt, that are different
    bool few;                         // the answers are labels
    Tally *label;                     // (answers) by their number
    Key *key;
    Variety variety[2];               // of prompts, of answers
} Survey;

// Signs of rows that came out of one mould. What the limits divide, measured on prompts | answers:
//                          different pairs   beginning        spread
//   OASST1                 0.91 | 0.85       0.3 % | 0.7 %    1.6  | 0.9   people, 15 languages
//   SMS spam               0.93              0.7 %            0.72         people
//   banking77              0.73              0.9 %            0.67         people, on one subject
//   Dolly, HH-RLHF         0.88 | 0.90       2.4 % | 0.2 %    1.8  | 1.4   people
//   Alpaca                 0.85 | 0.87       1.3 % | 1.7 %    0.75 | 0.9   a large model, on many subjects
//   Raschka's 1,100        0.64 | 0.80       4.9 % | 2.1 %    0.41 | 0.6   a large model, in a few forms
//   MLX's Super Bowl       0.20 | 0.76       8.0 % | 6.2 %    0.27 | 0.8   a large model, on one subject
//   dev/demo/train.jsonl   0.92              0.2 %            0.15         written to a length
static const struct { size_t where; double limit; bool above; const char *what; } SIGN[] = {
    {offsetof(Variety, twos), 0.7, false, "repeat phrases"},
    {offsetof(Variety, opening), 0.04, true, "begin alike"},
    {offsetof(Variety, spread), 0.2, false, "are of one length"},
};
enum { SIGNS = sizeof SIGN / sizeof *SIGN, FEW_ROWS = 50 };    // with fewer nothing can be said

// ---- data report: words, and rows like others -------------------------------------------------------------

// So many bytes of white space or punctuation are at p. U+2000 to U+203F are typographers' dashes and quotes.
static size_t gap(const char *p) {
    return !strncmp(p, "\xE2\x80", 2) ? 3 : *p && strchr(" \t\r\n.,;:!?'\"()", *p);
}

// The next word of *at, of n bytes; 0: there is none. Characters of three bytes and more are words each: most
// of their scripts put no spaces between words.
static size_t word_next(const char **at, char *word) {
    const char *p = *at;
    size_t n = 0;
    while (gap(p)) p += gap(p);
    if ((uint8_t)*p >= 0xE0)
        do word[n++] = *p++;
        while (n < 4 && ((uint8_t)*p & 0xC0) == 0x80);
    else
        for (; *p && (uint8_t)*p < 0xE0 && !gap(p) && n < WORD_BYTES; p++)
            word[n++] = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
    *at = p;
    return n;
}

static uint64_t words_hash(const char *text, uint64_t h) {
    char word[WORD_BYTES];
    for (size_t n; (n = word_next(&text, word)) > 0;) h = hash64(word, n, h);
    return h;
}

// The keys of x, whose rows are r's; of raw text, which has none, a window's hash is all there is.
static Key *keys_add(Key *k, const Examples *x, const Rows *r, bool held) {
    for (const Example *ex = x->ex; ex < x->ex + x->n; ex++, k++) {
        *k = (Key){{ex->hash, ex->hash, 0}, ex->row, held};
        if (!r->n) continue;
        const Row *row = &r->row[ex->row];
        uint64_t words = 0;
        for (const Turn *t = row->turn; t < row->turn + row->turns - 1; t++)
            words = words_hash(t->input, words_hash(t->text, words));
        if (words) k->hash[0] = words;
        k->hash[2] = hash64(row->output, strlen(row->output), 0);
    }
    return k;
}

static int by_key(const void *a, const void *b) {
    const Key *k = a, *l = b;
    for (int i = 0; i < 3; i++)
        if (k->hash[i] != l->hash[i]) return k->hash[i] < l->hash[i] ? -1 : 1;
    return k->held != l->held ? k->held - l->held : (k->row > l->row) - (k->row < l->row);
}

static bool alike(const Key *a, const Key *b, size_t same) {
    return !memcmp(a->hash, b->hash, same * sizeof *a->hash);
}

// Where two rows are: held tells that the first may be of another file. Raw text has the number of a window.
static void print_pair(FILE *to, const Survey *s, const Twins *t, bool held) {
    const Rows *rows = held && s->other ? s->other : s->rows;
    if (!s->rows->n) fprintf(to, "windows %" PRIu32 " and %" PRIu32 "\n", t->row + 1, t->like + 1);
    else if (rows == s->rows)
        fprintf(to, "lines %" PRIu32 " and %" PRIu32 "\n", rows->row[t->row].line, rows->row[t->like].line);
    else
        fprintf(to, "%s:%" PRIu32 " and %s:%" PRIu32 "\n", rows->path, rows->row[t->row].line, s->rows->path,
                s->rows->row[t->like].line);
}

// Of sorted keys, those that are like the one before in exactly their first `same` hashes.
static Twins repeats(const Key *k, size_t n, size_t same) {
    Twins t = {0};
    for (size_t i = 1; i < n; i++) {
        if (!alike(&k[i], &k[i - 1], same) || (same < 3 && k[i].hash[same] == k[i - 1].hash[same])) continue;
        if (t.n++ == 0 || k[i].row < t.row) t.row = k[i].row, t.like = k[i - 1].row;
    }
    return t;
}

// Of sorted keys, those held out that are like one trained on in their first `same` hashes, or more; list:
// prints them
static Twins leaks(const Key *k, size_t n, size_t same, const Survey *list) {
    Twins t = {0};
    for (size_t i = 0, end; i < n; i = end) {
        const Key *trained = NULL;
        for (end = i; end < n && alike(&k[i], &k[end], same); end++)
            if (!k[end].held && (!trained || k[end].row < trained->row)) trained = &k[end];
        for (const Key *held = k + i; trained && held < k + end; held++) {
            if (!held->held) continue;
            if (t.n++ == 0 || held->row < t.row) t.row = held->row, t.like = trained->row;
            if (list) print_pair(stdout, list, &(Twins){1, held->row, trained->row}, true);
        }
    }
    return t;
}

// ---- data report: variety ---------------------------------------------------------------------------------

static int by_hash(const void *a, const void *b) {
    const Tally *s = a, *t = b;
    if (s->hash != t->hash) return s->hash < t->hash ? -1 : 1;
    return (s->row > t->row) - (s->row < t->row);
}

static int by_number(const void *a, const void *b) {
    const Tally *s = a, *t = b;
    return s->n != t->n ? (s->n < t->n) - (s->n > t->n) : (s->row > t->row) - (s->row < t->row);
}

// n hashes to the different ones, the most frequent first; returns how many.
static size_t tally(Tally *t, size_t n) {
    size_t kinds = 0;
    qsort(t, n, sizeof *t, by_hash);
    for (size_t i = 0; i < n; i++) {
        if (kinds == 0 || t[kinds - 1].hash != t[i].hash) t[kinds++] = (Tally){t[i].hash, t[i].row, 0};
        t[kinds - 1].n++;
    }
    qsort(t, kinds, sizeof *t, by_number);
    return kinds;
}

// The texts of a row that are compared: an answer, or the last turn before it, without the first `shared`
// bytes, which an instruction given with every row would be.
static void row_texts(const Row *row, bool answers, size_t shared, const char *text[2]) {
    const Turn *asked = &row->turn[row->turns - 2];
    text[0] = answers ? row->output : asked->text + shared;
    text[1] = answers ? "" : asked->input;
}

// How many bytes the last turns of all rows begin with
static size_t shared_prefix(const Examples *x, const Rows *r) {
    const char *first[2], *text[2];
    size_t n = SIZE_MAX, k;
    row_texts(&r->row[x->ex->row], false, 0, first);
    for (size_t i = 0; i < x->n; i++, n = k) {
        row_texts(&r->row[x->ex[i].row], false, 0, text);
        for (k = 0; k < n && text[0][k] && text[0][k] == first[0][k];) k++;
    }
    return n;
}

typedef struct { uint64_t slot[SLOTS]; size_t n; } Seen;       // different hashes, far fewer than SLOTS
static void seen_add(Seen *s, uint64_t hash) {
    size_t i = (hash |= 1) % SLOTS;
    while (s->slot[i] && s->slot[i] != hash) i = (i + 1) % SLOTS;
    s->n += !s->slot[i];
    s->slot[i] = hash;
}

// Words are counted in segments of 1,000, since the share of different ones falls with their number: so files
// of any size compare. An unfinished segment counts only if there is no other. t (x->n): scratch.
static void variety(Variety *v, const Examples *x, const Rows *r, bool answers, Tally *t) {
    static Seen ones, twos;
    size_t in = 0, segments = 0;
    double sum = 0, squares = 0, n = (double)x->n;
    v->shared = answers ? 0 : shared_prefix(x, r);
    ones.n = twos.n = 0;
    for (uint32_t i = 0; i < x->n; i++) t[i] = (Tally){hash_number(i, 1), i, 0};
    qsort(t, x->n, sizeof *t, by_hash);           // a random order
    for (size_t i = 0; i < x->n; i++) {
        const char *text[2];
        char word[WORD_BYTES];
        uint64_t before = 0, opening = 0;
        double words = 0;
        uint32_t row = x->ex[t[i].row].row;
        row_texts(&r->row[row], answers, v->shared, text);
        for (size_t k = 0, bytes; k < 2;) {
            if ((bytes = word_next(&text[k], word)) == 0) { k++; continue; }
            uint64_t h = hash64(word, bytes, 0);
            if (words++ < 4) opening = hash_number(h, opening);
            if (in++ % SEGMENT == 0) memset(&ones, 0, sizeof ones), memset(&twos, 0, sizeof twos);
            seen_add(&ones, h);
            seen_add(&twos, hash_number(h, before));       // the first word's pair is with nothing
            before = h;
            if (in % SEGMENT) continue;
            v->ones += (double)ones.n, v->twos += (double)twos.n;
            segments++;
        }
        sum += words, squares += words * words;
        t[i] = (Tally){opening, row, 0};
    }
    if (segments == 0) v->ones = (double)ones.n, v->twos = (double)twos.n;
    double counted = segments ? (double)segments * SEGMENT : in ? (double)in : 1;
    v->ones /= counted, v->twos /= counted, v->words = sum / n;
    v->spread = sum > 0 ? sqrt(fmax(squares / n - v->words * v->words, 0)) / v->words : 0;
    tally(t, x->n);
    v->opening = (double)t->n / n;
    v->opens = t->row;
}

// ---- data report: survey ----------------------------------------------------------------------------------

static void survey_twins(Survey *s) {
    Key *held = keys_add(s->key, s->train, s->rows, false);
    size_t n = (size_t)(keys_add(held, s->held, s->other ? s->other : s->rows, true) - s->key);
    qsort(s->key, s->all->n, sizeof *s->key, by_key);
    s->twice = repeats(s->key, s->all->n, 3), s->reply = repeats(s->key, s->all->n, 2);
    s->near = repeats(s->key, s->all->n, 1);
    qsort(s->key, n, sizeof *s->key, by_key);
    s->leaked = leaks(s->key, n, 2, NULL), s->leaked_near = leaks(s->key, n, 1, NULL);
    s->leaked_near.n -= s->leaked.n;
}

static void survey_answers(Survey *s) {
    size_t n = s->all->n;
    for (size_t i = 0; i < n; i++) {
        const Row *row = &s->rows->row[s->all->ex[i].row];
        const char *answer = row->output, *text[2];
        row_texts(row, false, 0, text);
        s->label[i] = (Tally){hash64(answer, strlen(answer), 0), s->all->ex[i].row, 0};
        s->blank += !answer[strspn(answer, " \t\r\n")];
        s->echo += !strcmp(answer, text[0]) || !strcmp(answer, text[1]);
    }
    s->answers = tally(s->label, n);
    s->few = s->answers <= MOST_LABELS && s->answers * 5 <= n;
}

// Looks at the examples and rows that s names, which must outlive it. In any case: survey_free.
static int survey(Survey *s, Err *e) {
    const Examples *all = s->all;
    s->label = malloc(all->n * sizeof *s->label);
    s->key = malloc((s->train->n + s->held->n) * sizeof *s->key);
    if (!s->label || !s->key) return err_set(e, "no memory for the data report of %zu rows", all->n);
    s->width = 1;
    for (int i = 0; all->longest / s->width >= BARS; i++) s->width = s->width * (i % 3 == 1 ? 5 : 4) / 2;
    for (const Example *ex = all->ex; ex < all->ex + all->n; ex++) s->bar[ex->len / s->width]++;
    survey_twins(s);
    for (int k = 0; k < 2 && s->rows->n; k++) variety(&s->variety[k], all, s->rows, k, s->label);
    if (s->rows->n) survey_answers(s);
    return 0;
}

static void survey_free(Survey *s) { free(s->label), free(s->key); }

// -1: the run must not be. What is measured must not be trained on: list prints all rows of a held-out file
// that are. And no row may have begin-of-text twice, once from the template; bos -1: there is none.
static int survey_stop(const Survey *s, int32_t bos, bool list, Err *e) {
    const Twins *t = &s->leaked;
    for (const Example *ex = s->all->ex; s->rows->n && bos >= 0 && ex < s->all->ex + s->all->n; ex++)
        if (ex->len > 1 && ex->tok[0] == bos && ex->tok[1] == bos)
            return err_set(e, "%s:%" PRIu32 ": the row begins with begin-of-text twice: it is put there "
                           "anyway\nhint: a --template without it", s->rows->path,
                           s->rows->row[ex->row].line);
    if (!t->n || !s->other || !s->rows->n) return 0;
    if (list) puts("\nheld out with the prompt of a row trained on:");
    if (list) leaks(s->key, s->all->n + s->held->n, 2, s);
    const Row *held = &s->other->row[t->row], *like = &s->rows->row[t->like];
    return err_set(e, "%s:%" PRIu32 ": has the prompt of %s:%" PRIu32 ", one of %zu such rows: what is "
                   "measured must not be trained on\nhint: take them out of one file; --check lists them",
                   s->other->path, held->line, s->rows->path, like->line, t->n);
}

// ---- data report: printing --------------------------------------------------------------------------------

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

// Prints n bytes so, in at most `most` columns; returns how many.
static int show_text(FILE *to, const void *s, size_t n, int most) {
    const char *c = s;
    char one[8];
    int all = 0, used = 0, wide;
    size_t i, len;
    for (i = 0; i < n && all <= most; i += len) all += glyph(one, c + i, n - i, &len);
    for (i = 0; i < n; i += len, used += wide) {
        wide = glyph(one, c + i, n - i, &len);
        if (all > most && used + wide > most - 2) return used + fprintf(to, "..");
        fputs(one, to);
    }
    return used;
}

static void print_twins(FILE *to, const Survey *s, const Twins *t, bool held, const char *what) {
    if (t->n == 0) return;
    fprintf(to, "  warning: %zu %s: ", t->n, what);
    print_pair(to, s, t, held);
}

static void print_tables(const Survey *s) {
    static const char bars[] = "##################################################";
    size_t most = 1, rest = s->all->n, listed = s->answers < LISTED ? s->answers : LISTED;
    double all = (double)s->all->n / 100;
    for (int i = 0; i < BARS; i++) most = s->bar[i] > most ? s->bar[i] : most;
    printf("\n%15s %9s\n", "tokens", s->rows->n ? "rows" : "windows");
    for (size_t i = 0; i <= s->all->longest / s->width; i++)
        printf("%6zu .. %5zu %9zu %.*s\n", i * s->width, (i + 1) * s->width - 1, s->bar[i],
               (int)((50 * s->bar[i] + most - 1) / most), bars);
    if (s->few) printf("\n%9s %7s  answer\n", "rows", "share");
    for (size_t i = 0; s->few && i < listed; rest -= s->label[i++].n) {
        const char *answer = s->rows->row[s->label[i].row].output;
        printf("%9" PRIu32 " %5.1f %%  ", s->label[i].n, s->label[i].n / all);
        show_text(stdout, answer, strlen(answer), 60);
        putchar('\n');
    }
    if (s->few && rest) printf("%9zu %5.1f %%  %zu others\n", rest, (double)rest / all, s->answers - listed);
    if (s->rows->n)
        printf("\n%7s  words in a row:  of 1,000 words  most frequent beginning\n"
               "%7s  mean, deviation  different, pairs\n", "", "");
    for (int k = 0; s->rows->n && k < 2; k++) {
        const Variety *v = &s->variety[k];
        const char *text[2];
        row_texts(&s->rows->row[v->opens], k, v->shared, text);
        printf("%7s %6.1f %9.1f %9.2f %6.2f  %5.1f %% ", k ? "answers" : "prompts", v->words,
               v->words * v->spread, v->ones, v->twos, 100 * v->opening);
        const char *begins = *text[0] ? text[0] : text[1];
        show_text(stdout, begins, strlen(begins), 26);
        putchar('\n');
    }
    putchar('\n');
}

static void print_verdict(FILE *to, const Survey *s) {
    size_t n = s->all->n;
    int signs = 0;
    if (s->few) {
        const char *answer = s->rows->row[s->label->row].output;
        fprintf(to, "  %zu different answers; always '", s->answers);
        show_text(to, answer, strlen(answer), 24);
        fprintf(to, "' would be right in %.1f %%\n", 100 * s->label->n / (double)n);
    }
    fputs("  verdict: ", to);
    for (int k = 0, named; n >= FEW_ROWS && k < (s->few ? 1 : 2); k++)
        for (int i = named = 0; i < SIGNS; i++) {
            double x;
            memcpy(&x, (const char *)&s->variety[k] + SIGN[i].where, sizeof x);
            if (SIGN[i].above ? x <= SIGN[i].limit : x >= SIGN[i].limit) continue;
            if (signs++ == 0) fputs("homogeneous, as if generated", to);
            if (named++ == 0) fprintf(to, "\n           %s: ", k ? "answers" : "prompts");
            fprintf(to, "%s%s", named > 1 ? ", " : "", SIGN[i].what);
        }
    if (n < FEW_ROWS) fprintf(to, "%zu rows are too few to judge, and soon learned by heart\n", n);
    else if (signs) fputs("\n           good for a form; test on real rows, as those held out flatter\n", to);
    else fputs("varied, as real rows are: what they teach should hold for more\n", to);
}

// What was read of a file, and what was not
static void print_left_out(FILE *to, const Rows *r) {
    if (r->bad) fprintf(to, "  warning: wrong rows of %s left out: %zu, e.g.\n", r->path, r->bad);
    for (const char *line = r->reason; r->bad && *line; line += strspn(line, "\n")) {
        int n = (int)strcspn(line, "\n");
        fprintf(to, "           %.*s\n", n, line);
        line += n;
    }
    if (*r->ignored) fprintf(to, "  not read: %s of %s\n", r->ignored, r->path);
}

static void survey_print(const Survey *s, FILE *to, bool full) {
    uint32_t a = s->train->longest, b = s->held->longest;
    fprintf(to, "%zu rows: %zu to train on, %zu held out, %zu cut, %zu dropped;%s%zu tokens, %.1f %% of "
            "them taught, longest row %" PRIu32 "\n",
            s->all->rows, s->train->n, s->held->n, s->all->cut, s->all->dropped, full ? "\n  " : " ",
            s->train->tokens, 100.0 * (double)s->train->targets / (double)s->train->tokens, a > b ? a : b);
    if (full) print_tables(s);
    print_left_out(to, s->rows);
    if (s->other) print_left_out(to, s->other);
    print_twins(to, s, &s->twice, false, "with prompt and answer of another");
    print_twins(to, s, &s->reply, false, "with the prompt of another, not its answer");
    print_twins(to, s, &s->near, false, "with nearly the prompt of another");
    print_twins(to, s, &s->leaked, true, "held out with the prompt of a row trained on");
    print_twins(to, s, &s->leaked_near, true, "held out with nearly the prompt of a row trained on");
    if (s->blank) fprintf(to, "  warning: %zu with an answer of white space\n", s->blank);
    if (s->echo) fprintf(to, "  warning: %zu with an answer that repeats the prompt\n", s->echo);
    if (s->answers == 1) fputs("  warning: all rows have the same answer\n", to);
    if (s->rows->n) print_verdict(to, s);
}

static void survey_log(const Survey *s, Log *l) {
    char bars[24 * BARS], variety[2][160];
    for (int i = 0, used = 0; i < BARS; i++) used += sprintf(bars + used, "%s%zu", i ? ", " : "", s->bar[i]);
    for (int k = 0; k < 2; k++) {
        const Variety *v = &s->variety[k];
        snprintf(variety[k], sizeof *variety, "{\"words\": %.2f, \"spread\": %.3f, \"different\": %.3f, "
                 "\"pairs\": %.3f, \"beginning\": %.4f}", v->words, v->spread, v->ones, v->twos, v->opening);
    }
    log_line(l, "{\"data\": {\"rows\": %zu, \"train\": %zu, \"held_out\": %zu, \"cut\": %zu, "
             "\"dropped\": %zu, \"bad\": %zu, \"tokens\": %zu, \"targets\": %zu, \"longest\": %" PRIu32 ", "
             "\"bar\": %zu, \"bars\": [%s], \"twice\": %zu, \"other_answer\": %zu, \"near\": %zu, "
             "\"leaked\": %zu, \"leaked_near\": %zu, \"blank\": %zu, \"echo\": %zu, "
             "\"answers\": %zu, \"majority\": %.4f, \"prompt\": %s, \"answer\": %s}}",
             s->all->rows, s->train->n, s->held->n, s->all->cut, s->all->dropped, s->rows->bad,
             s->train->tokens, s->train->targets, s->all->longest, s->width, bars, s->twice.n, s->reply.n,
             s->near.n, s->leaked.n, s->leaked_near.n, s->blank, s->echo, s->answers,
             s->answers ? s->label->n / (double)s->all->n : 0.0, variety[0], variety[1]);
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
    Examples general;                 // windows of --general
    const char *text[MAX_TEXTS + 1];
    int texts;
    Schedule schedule;
    TooLong too_long;
    Teach teach;
    Dtype dtype;
    bool skip_bad;                    // --bad-rows skip
    char *lineage, state_path[4096], best_path[4096], last_path[4096];
    State state;                      // what --resume needs; best_step 0: nothing measured after a step yet
    Writer *claim;                    // on --out, as long as the run lives
    bool state_written;               // at state_path, by this run
    void *block;
    Plan plan;
    Model m;
    size_t params, trained;           // how many numbers the model has, and the run trains
    size_t micro, longest;
    BatchMemory batch;
    const Example **pick;             // (batch) rows of the step at hand
    uint32_t *order;
    Survey survey;
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

// ---- keeping models ---------------------------------------------------------------------------------------

// The model after this step, atomically; its lineage says which one it is. why NULL: the one that was wanted
static int save_model(const Run *r, const char *path, int64_t step, const char *why, Err *e) {
    size_t room = strlen(r->lineage) + 128;
    char *lineage = malloc(room);
    if (!lineage) return err_set(e, "no memory for the lineage");
    snprintf(lineage, room, "%s", r->lineage);
    if (why) snprintf(lineage, room, "%skept step %" PRId64 ": %s\n", r->lineage, step, why);
    const Config *c = &r->m.cfg;
    int rc = opt.lora ? adapter_save(path, &r->base, c, r->template, lineage, &r->m.w, e)
             : checkpoint_save(path, c, &r->base.tok, r->template, lineage, r->dtype, &r->m.w, e);
    free(lineage);
    return rc;
}

// A file of save_model's that must be of this very run. read: its weights become the model's
static int open_model(Run *r, const char *path, bool read, Err *e) {
    Checkpoint k;
    if (checkpoint_open(&k, path, opt.model, e)) return -1;
    int rc = strncmp(k.lineage, r->lineage, strlen(r->lineage))
             ? err_set(e, "%s: was not written by this run\nhint: train without --resume", path)
             : read ? checkpoint_read(&k, &r->m.w, &r->m.h, e) : 0;
    checkpoint_close(&k);
    return rc;
}

static int save_state(Run *r, int64_t step, Err *e) {
    r->state.step = step;
    if (state_save(r->state_path, &r->state, &r->m, e)) return -1;
    r->state_written = true;
    return 0;
}

static void remove_state(Run *r) {
    if (opt.resume || r->state_written) remove(r->state_path);
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
    char place[96] = "", hint[300] = "a lower --lr, or --clip 1";
    size_t at, used = strlen(hint);
    double v;
    const char *weight = not_finite(&r->m.cfg, &r->m.w, &at, &v);
    const char *name = weight || good == step ? weight : not_finite(&r->m.cfg, &r->m.g, &at, &v);
    if (name)
        snprintf(place, sizeof place, "%s%s[%zu] is %g, ", weight ? "" : "the gradient of ", name, at,
                 isnan(v) ? fabs(v) : v);
    if (step) remove_state(r);
    if (step && is_terminal(2)) fprintf(stderr, "\n");     // below the progress line
    if (!weight && isfinite(loss) && good > 0) {
        if (save_model(r, r->last_path, good, "the last with finite numbers", e)) return -1;
        snprintf(hint + used, sizeof hint - used, ", anew or with --model %.150s, the model after step %"
                 PRId64 "%s", r->last_path, good, opt.lora ? " (convert --merge it first)" : "");
    } else if (r->state.best_step)
        snprintf(hint + used, sizeof hint - used, "; %.150s is the model after step %" PRId64, r->best_path,
                 r->state.best_step);
    return err_set(e, "step %" PRId64 ": %s%s, want finite numbers%s\nhint: %s", step, place, what,
                   good < step ? "; the step was not taken" : "",
                   step ? hint : "the model is so before training");
}

typedef struct { double loss, norm, lr; size_t tokens; } StepResult;

// Adds the gradients of rows to train on, given by number: in pieces of --micro, as if computed at once
static int gradients(Run *r, const uint32_t *row, size_t rows, StepResult *s, Err *e) {
    size_t targets = 0;
    *s = (StepResult){0};
    for (size_t i = 0; i < rows; i++) {
        const Example *x = &r->train.ex[row[i]];
        for (uint32_t t = 1; t < x->len; t++) targets += x->taught[t];
        s->tokens += x->len - 1;
    }
    for (size_t i = 0; i < rows; i += r->micro) {
        size_t k = rows - i < r->micro ? rows - i : r->micro;
        for (size_t j = 0; j < k; j++) r->pick[j] = &r->train.ex[row[i + j]];
        batch_fill(&r->batch, r->pick, k);
        Fault f;
        if (model_forward(&r->m, &r->batch.view, &f)) return err_fault(e, "training", &f);
        model_loss(&r->m, &r->batch.view, 1.0f / (float)targets, &s->loss, NULL);
        model_backward(&r->m, &r->batch.view);
    }
    s->loss /= (double)targets;
    return 0;
}

// One optimizer step, from 1
static int one_step(Run *r, int64_t step, StepResult *s, Err *e) {
    size_t n = r->train.n, first = (size_t)((step - 1) % r->per_epoch) * (size_t)opt.batch;
    size_t rows = n - first < (size_t)opt.batch ? n - first : (size_t)opt.batch;
    model_zero_grad(&r->m);
    if (gradients(r, r->order + first, rows, s, e)) return -1;
    s->norm = model_grad_norm(&r->m);
    if (!isfinite(s->norm) || !isfinite(s->loss)) {
        char what[80];
        snprintf(what, sizeof what, "the loss %g, the gradient's norm %g", fabs(s->loss), fabs(s->norm));
        return ruined(r, step, step - 1, s->loss, what, e);
    }
    float lr = model_schedule(r->schedule, (float)opt.lr, r->warmup, r->steps, step);
    AdamW o = {lr, 0.9f, (float)opt.beta2, 1e-8f, (float)opt.decay, (float)opt.clip};
    model_update(&r->m, &o, s->norm, step);
    s->lr = (double)lr;
    return 0;
}

// ---- what it did ------------------------------------------------------------------------------------------

typedef struct { double change, base; } Norms;    // squares of ||dW|| and ||W||

// ||scale down up||^2 of layer l without the product: sum over r, s of (down^T down)_rs (up up^T)_rs
static double norm_lora(const Run *r, const Tensor *down, const Tensor *up, size_t l) {
    size_t in = down->dim[1], R = down->dim[2], out = up->dim[2];
    const float *a = tensor_data(&r->m.w, down) + l * in * R, *b = tensor_data(&r->m.w, up) + l * R * out;
    double sum = 0.0, scale = opt.lora_alpha / (double)R;
    for (size_t i = 0; i < R; i++)
        for (size_t j = 0; j <= i; j++) {
            double x = 0.0, y = 0.0;
            for (size_t k = 0; k < in; k++) x += (double)a[k * R + i] * (double)a[k * R + j];
            for (size_t k = 0; k < out; k++) y += (double)b[i * out + k] * (double)b[j * out + k];
            sum += (i == j ? 1.0 : 2.0) * x * y;
        }
    return scale * scale * sum;
}

// Of layer l of tensor t: its own change, the base being where the gradients were; or what LoRA adds to it
static Norms layer_norms(const Run *r, const Tensor *t, size_t l) {
    size_t n = t->stacked ? t->size / t->dim[0] : t->size, from = l * n;
    const float *now = tensor_data(&r->m.w, t), *before = opt.lora ? now : tensor_data(&r->m.g, t);
    const uint16_t *half = NULL;                  // a frozen matrix may be held as bf16
    if (!now) memcpy(&half, (const char *)&r->m.h + t->half, sizeof half);
    Norms s = {0.0, 0.0};
    for (size_t i = from; i < from + n; i++) {
        uint32_t bits = half ? (uint32_t)half[i] << 16 : 0;
        float w;
        memcpy(&w, half ? (const void *)&bits : &before[i], sizeof w);
        double d = half ? 0.0 : (double)now[i] - (double)w;
        s.change += d * d;
        s.base += (double)w * (double)w;
    }
    size_t stem = strlen(t->name) - 1;            // qkvw: qkv_down, qkv_up
    for (int i = 0; opt.lora && i + 1 < TENSORS; i++) {
        Tensor down = model_tensor(&r->cfg, i), up = model_tensor(&r->cfg, i + 1);
        if (down.size && !strncmp(down.name, t->name, stem) && !strcmp(down.name + stem, "_down"))
            s.change = norm_lora(r, &down, &up, l);
    }
    return s;
}

// Of layers a..b-1 together, in percent
static double percent(const Norms *layer, size_t a, size_t b) {
    double change = 0.0, base = 0.0;
    for (; a < b; a++) change += layer[a].change, base += layer[a].base;
    return base > 0.0 ? 100.0 * sqrt(change / base) : 0.0;
}

// The table of ||dW|| / ||W||: a line for each kind of matrix, the layers in groups that fit 80 columns; and
// for the log, json (of enough room) with every tensor and layer. Returns the largest of them.
static double print_change(const Run *r, Norms *layer, char *json) {
    const char *comma = "";
    size_t L = (size_t)r->cfg.layers, groups = L < 8 ? L : 8;
    double most = 0.0;
    fprintf(stderr, "change of each matrix, ||dW|| / ||W|| in %%, and by layers\n%-10s %7s ", "", "all");
    for (size_t g = 0; g < groups; g++) {
        char name[32];
        size_t a = g * L / groups + 1, b = (g + 1) * L / groups;
        int used = snprintf(name, sizeof name, "%zu", a);
        if (b > a) snprintf(name + used, sizeof name - (size_t)used, "-%zu", b);
        fprintf(stderr, " %6s", name);
    }
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&r->base.cfg, i);
        size_t n = t.stacked ? L : 1;
        if (!t.size) continue;
        json += sprintf(json, "%s\"%s\": [", comma, t.name);
        comma = ", ";
        for (size_t l = 0; l < n; l++) {
            layer[l] = layer_norms(r, &t, l);
            json += sprintf(json, "%s%.4g", l ? ", " : "", percent(layer, l, l + 1));
        }
        json += sprintf(json, "]");
        double all = percent(layer, 0, n);
        if (all > most) most = all;
        if (!t.decay || (opt.lora && all == 0.0)) continue;
        fprintf(stderr, "\n%-10s %7.3f%s", t.name, all, t.stacked ? " " : "");
        for (size_t g = 0; g < groups && t.stacked; g++)
            fprintf(stderr, " %6.3f", percent(layer, g * L / groups, (g + 1) * L / groups));
    }
    fprintf(stderr, "\n");
    return most;
}

// After the run: how far the weights went from the base, which is read once more to where the gradients were;
// what was forgotten; warnings; and the log's last line.
static int report_change(Run *r, int64_t step, Err *e) {
    const State *s = &r->state;
    size_t L = (size_t)r->cfg.layers;
    char head[400] = "", *change = calloc(TENSORS, 32 + 16 * L);
    size_t used = 0;
    Norms *layer = malloc(L * sizeof *layer);
    double general = 0.0, most = 1.0;
    int rc = change && layer ? 0 : err_set(e, "no memory for the report");
    // rounded as they were written: what bf16 took away again has not changed
    if (rc == 0 && r->dtype == DTYPE_BF16) rc = open_model(r, opt.out, true, e);
    if (rc == 0 && r->general.n) rc = measure(r, &r->general, &general, e);
    if (rc == 0 && opt.model && !opt.lora) rc = checkpoint_read(&r->base, &r->m.g, NULL, e);
    if (rc == 0 && opt.model) most = print_change(r, layer, change);
    if (rc == 0) {
        if (r->general.n)
            fprintf(stderr, "loss on %s %.4f -> %.4f (%s %.4f)\n", opt.general, r->general_before, general,
                    general > r->general_before ? "forgotten" : "gained", fabs(general - r->general_before));
        if (most < 1e-4) fprintf(stderr, "train: warning: nothing changed\n");
        if (r->val.n && r->now > r->before)
            fprintf(stderr, "train: warning: the validation loss rose from %.4f to %.4f\n"
                    "hint: fewer --epochs, a lower --lr, or --early-stop 1\n", r->before, r->now);
        if (r->val.n)
            used = (size_t)sprintf(head, ", \"val_before\": %.9g, \"val_loss\": %.9g, \"best\": %.9g, "
                                   "\"best_step\": %" PRId64, r->before, r->now, s->best, s->best_step);
        if (r->general.n)
            sprintf(head + used, ", \"general_before\": %.9g, \"general\": %.9g", r->general_before, general);
        log_line(r->log, "{\"done\": {\"steps\": %" PRId64 ", \"seconds\": %.3f%s, "
                 "\"change_percent\": {%s}}}", step, seconds() - r->started, head, change);
    }
    free(change);
    free(layer);
    return rc;
}

// ---- what it will cost ------------------------------------------------------------------------------------

static void print_duration(char *to, size_t size, double s) {
    if (s < 90) snprintf(to, size, "%.0f s", s);
    else if (s < 5400) snprintf(to, size, "%.0f min", s / 60);
    else snprintf(to, size, "%.1f h", s / 3600);
}

// Multiply-adds of a forward pass over the first n examples: matrices, attention to what came before, head
static double work(const Run *r, const Examples *x, size_t n) {
    double matrices = 0.0, sum = 0.0;
    for (int k = 0; k < TENSORS; k++) {
        Tensor t = model_tensor(&r->cfg, k);
        if (t.stacked && t.decay) matrices += (double)t.size;
    }
    double each = (double)r->cfg.layers * r->cfg.heads * r->cfg.head_size;
    for (size_t i = 0; i < n; i++) {
        double T = x->ex[i].len - 1, targets = 0.0;
        for (uint32_t t = 1; t < x->ex[i].len; t++) targets += x->ex[i].taught[t];
        sum += T * matrices + T * T * each + targets * (double)r->cfg.vocab * r->cfg.width;
    }
    return sum;
}

// Bytes of memory at the peak: the block; rows, with about 4 bytes of text to a token; tokenizer; program
static double resident(const Run *r) {
    enum { PROGRAM = 4 << 20 };
    size_t tokens = r->all.tokens + r->val_all.tokens + r->general.tokens, rows = r->all.n + r->val_all.n;
    return (double)(r->plan.bytes + 9 * tokens + rows * (sizeof(Example) + sizeof(Row) + 64) + PROGRAM +
                    (size_t)r->base.tensors_at + tokenizer_index_size(r->base.tok.vocab, r->base.tok.merges));
}

// --plan: times one row, then more, and some micro-batches; then an update. Nothing of that is kept. The rest
// is a rule of three on the work of all rows.
static int expect(Run *r, Err *e) {
    enum { DISK = 200 << 20 };                    // bytes a second that a disk takes: few runs hang on it
    double all = seconds() - r->started, began = seconds(), steps = (double)r->steps;
    double train = 0.0, loss;
    size_t rows = 1, times = 0, most = r->micro < r->train.n ? r->micro : r->train.n;
    StepResult s;
    for (size_t i = 0; i < most; i++) r->order[i] = (uint32_t)i;
    model_zero_grad(&r->m);
    for (; times == 0 || seconds() - began < 3.0; rows = 2 * rows < most ? 2 * rows : most) {
        double start = seconds();
        if (gradients(r, r->order, rows, &s, e)) return -1;
        double t = seconds() - start;
        if (rows < most && t < 1.5) continue;                              // warming up
        train = (train * (double)times + t) / (double)(times + 1);
        times++;
        if (rows < most) break;
    }
    began = seconds();
    if (measure(r, &(Examples){.ex = r->train.ex, .n = rows}, &loss, e)) return -1;
    double forward = seconds() - began, sample = work(r, &r->train, rows);
    began = seconds();
    model_update(&r->m, &(AdamW){.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f}, model_grad_norm(&r->m), 1);
    double update = seconds() - began, measured = r->val.n ? 1.0 + ceil(steps / (double)r->every) : 0.0;
    double states = opt.save_every ? floor(steps / (double)opt.save_every) : 0.0;
    all += steps * (update + train / sample * work(r, &r->train, r->train.n) / (double)r->per_epoch);
    all += forward / sample * (measured * work(r, &r->val, r->val.n) +
                               2.0 * work(r, &r->general, r->general.n));
    all += (double)r->trained * (4.0 + 2.0 * measured + 12.0 * states) / DISK;
    char took[32];
    print_duration(took, sizeof took, all);
    printf("expected: %s on %d threads (measured on %zu rows), %.0f MiB resident\n", took,
           r->plan.shape.threads, rows, resident(r) / 1048576.0);
    return fflush(stdout) ? err_set(e, "cannot write the plan to stdout") : 0;
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
    char left[32], line[160];
    print_duration(left, sizeof left, (double)(r->steps - step) * each);
    snprintf(line, sizeof line, "step %" PRId64 "/%" PRId64 "  loss %.4f  norm %.2f  lr %.1e  %.0f tok/s  "
             "%s left", step, r->steps, s->loss, s->norm, s->lr, rate, left);
    show(line, last);
}

static int validate(Run *r, int64_t step, Err *e) {
    char line[80], why[64];
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
    snprintf(why, sizeof why, "validation loss %.9g, the lowest", r->state.best);
    return step < r->steps ? save_model(r, r->best_path, step, why, e) : 0;
}

// Have so many measurements passed since the best one? Step and best step say it, so a resumed run knows.
static bool stopped_early(const Run *r, int64_t step) {
    return opt.early_stop && step / r->every - r->state.best_step / r->every >= opt.early_stop;
}

// Lines of steps after this one go: they will be written again. So does half a line at the end. A log that is
// no file, or not there yet, is left to log_open. earlier: the seconds that the last line left tells.
static int log_cut(const char *path, int64_t step, size_t *kept, double *earlier, Err *e) {
    static const char head[] = "{\"step\": ", clock[] = "\"seconds\": ";
    uint8_t *text = NULL;
    size_t n = 0, keep = 0;
    Writer *w = writer_open(path, e);
    if (!w || file_read(path, (size_t)1 << 30, &text, &n, e)) return writer_close(w, false, e);
    for (char *end; (end = memchr(text + keep, '\n', n - keep)); keep = (size_t)(end - (char *)text) + 1) {
        char *line = (char *)text + keep;
        *end = 0;
        if (!strncmp(line, head, sizeof head - 1) && strtoll(line + sizeof head - 1, NULL, 10) > step) break;
        char *time = strstr(line, clock);
        if (time && *line == '{') *earlier = strtod(time + sizeof clock - 1, NULL);
        *end = '\n';
    }
    *kept = keep;
    int rc = writer_put(w, text, keep, e);
    free(text);
    return writer_close(w, rc == 0, e) ? -1 : rc;
}

// The log from the step after this one on. It begins with the run's conditions, which --check has none of,
// and the data report.
static int log_begin(Run *r, int64_t step, Err *e) {
    size_t kept = 0;
    double earlier = 0.0;
    if (opt.log && step && log_cut(opt.log, step, &kept, &earlier, e)) return -1;
    r->started = seconds() - earlier;
    if (log_open(&r->log, opt.log, step > 0, e) || !r->log || kept) return r->log || !opt.log ? 0 : -1;
    char *lineage = opt.check ? NULL : json_quote(r->lineage, strlen(r->lineage));
    if (!opt.check)
        log_line(r->log, "{\"run\": {\"version\": \"%s\", \"steps\": %" PRId64 ", \"rows\": %zu, "
                 "\"held_out\": %zu, \"tokens\": %zu, \"targets\": %zu, \"parameters\": %zu, "
                 "\"trained\": %zu, \"bytes\": %zu, \"micro\": %zu, \"threads\": %d, \"lineage\": %s}}",
                 TUNE_VERSION, r->steps, r->train.n, r->val.n, r->train.tokens, r->train.targets, r->params,
                 r->trained, r->plan.bytes, r->micro, r->plan.shape.threads, lineage ? lineage : "null");
    free(lineage);
    survey_log(&r->survey, r->log);
    return 0;
}

// Measures the model as setup left it, which before a resumed run too is the one that step 1 began with
static int begin(Run *r, Err *e) {
    r->state.best = HUGE_VAL;
    if (validate(r, 0, e) || (r->general.n && measure(r, &r->general, &r->general_before, e))) return -1;
    if (!opt.resume) return 0;
    if (state_load(r->state_path, &r->state, &r->m, e)) return -1;
    if (opt.early_stop && r->state.best_step && open_model(r, r->best_path, false, e)) return -1;
    fprintf(stderr, "going on after step %" PRId64 "\n", r->state.step);
    return log_begin(r, r->state.step, e);
}

// Writes --out and its neighbours. The state goes only when all of them are there, so that a run killed at
// any moment can be resumed; then what is beside --out and not of this run.
static int finish(Run *r, int64_t step, double rate, Err *e) {
    int64_t lowest = r->state.best_step;
    bool best = opt.early_stop && lowest < step;
    char why[64], took[32];
    snprintf(why, sizeof why, "validation loss %.9g, the lowest", r->state.best);
    if (best && (save_model(r, r->last_path, step, "the last", e) || open_model(r, r->best_path, true, e) ||
                 save_model(r, opt.out, lowest, why, e)))
        return -1;
    if (!best && save_model(r, opt.out, step, NULL, e)) return -1;
    remove_state(r);
    if (opt.early_stop || lowest == step || !lowest) remove(r->best_path);
    if (!best) remove(r->last_path);
    print_duration(took, sizeof took, seconds() - r->started);
    fprintf(stderr, "%s written: %" PRId64 " steps in %s, %.0f tokens/s", opt.out, step, took, rate);
    if (best)
        fprintf(stderr, "; it is the model after step %" PRId64 ", validation loss %.4f, and the last is %s",
                lowest, r->state.best, r->last_path);
    else if (lowest && lowest < step)
        fprintf(stderr, "; the validation loss was lowest after step %" PRId64 ", %.4f: %s", lowest,
                r->state.best, r->best_path);
    fprintf(stderr, "\n");
    if (best) r->now = r->state.best;
    return report_change(r, step, e);
}

static int train(Run *r, Err *e) {
    int64_t step, done = 0;
    double tokens = 0.0, busy = 0.0;
    StepResult s = {0};
    if (begin(r, e)) return -1;
    for (step = r->state.step; step < r->steps && !stopped_early(r, step) && !interrupted;) {
        if (!done || step % r->per_epoch == 0)
            order_make(r->order, r->train.n, (uint64_t)opt.seed, (uint64_t)(step / r->per_epoch));
        double began = seconds();
        if (one_step(r, ++step, &s, e)) return -1;
        double now = seconds();
        tokens += (double)s.tokens;
        busy += now - began;
        progress(r, step, &s, tokens / busy, busy / (double)++done);
        log_line(r->log, "{\"step\": %" PRId64 ", \"loss\": %.9g, \"norm\": %.9g, \"lr\": %.9g, "
                 "\"tokens\": %zu, \"seconds\": %.3f}", step, s.loss, s.norm, s.lr, s.tokens,
                 now - r->started);
        if ((step % r->every == 0 || step == r->steps) && validate(r, step, e)) return -1;
        bool saves = opt.save_every && step % opt.save_every == 0 && step < r->steps;
        if (saves && save_state(r, step, e)) return -1;
    }
    if (step == r->steps || stopped_early(r, step)) return finish(r, step, busy > 0 ? tokens / busy : 0.0, e);
    if (is_terminal(2)) fprintf(stderr, "\n");
    if (save_state(r, step, e)) return -1;
    return err_set(e, "interrupted after step %" PRId64 " of %" PRId64 "; the state is in %s\n"
                   "hint: the same command with --resume goes on", step, r->steps, r->state_path);
}

// ---- explain ----------------------------------------------------------------------------------------------

// --explain N: of all rows only this one is left, to be trained on in a single step at the full rate.
static int explain_pick(Run *r, Err *e) {
    Example *ex = r->all.ex, *end = ex + r->all.n;
    if ((size_t)opt.explain > r->all.rows)
        return err_set(e, "--explain: %" PRId64 ", want 1..%zu, a row of the file", opt.explain, r->all.rows);
    while (ex < end && ex->row + 1 != (uint64_t)opt.explain) ex++;
    if (ex == end) return err_set(e, "--explain: row %" PRId64 " is dropped: too long", opt.explain);
    printf("row %" PRId64 " of %s", opt.explain, opt.data ? opt.data : opt.text);
    if (r->rows.n) printf(", line %" PRIu32, r->rows.row[ex->row].line);
    r->train = (Examples){.ex = ex, .n = 1};
    examples_count(&r->train);
    printf(": %zu tokens, %zu of them taught%s\n", r->train.tokens, r->train.targets,
           !opt.val && ex >= r->val.ex ? "; held out, so the run itself never does" : "");
    r->val = (Examples){0};
    r->longest = ex->len;
    r->schedule = CONSTANT;
    opt.batch = opt.steps = 1, opt.warmup = 0;
    return 0;
}

// The row's text in lines of at most 80 columns, each behind a mark: > what is taught, | what is only read
static int explain_text(const Tokenizer *t, const Example *ex, bool color, Err *e) {
    size_t bytes = 0, n, len;
    char one[8];
    for (uint32_t i = 0; i < ex->len; i++) tokenizer_decode(t, ex->tok[i], &n), bytes += n;
    char *text = malloc(2 * bytes + 1), *taught = text + bytes;
    if (!text) return err_set(e, "no memory for the row's text");
    for (uint32_t i = 0, at = 0; i < ex->len; i++, at += (uint32_t)n) {
        const uint8_t *s = tokenizer_decode(t, ex->tok[i], &n);
        memcpy(text + at, s, n);
        memset(taught + at, ex->taught[i], n);
    }
    for (size_t i = 0; i < bytes;) {
        char mark = taught[i], last = 0;
        printf("%s  %c ", mark && color ? "\033[32m" : "", mark ? '>' : '|');
        for (int used = 0; i < bytes && taught[i] == mark && used <= 72; i += len) {
            if (last == '\n' || (last == ' ' && used > 60)) break;
            last = text[i];
            used += glyph(one, text + i, bytes - i, &len);
            fputs(one, stdout);
        }
        puts(mark && color ? "\033[0m" : "");
    }
    free(text);
    return 0;
}

// The loss of each token but the first, taught or not. Of a single row the packed rows are the positions.
static int explain_losses(Run *r, const Example *ex, double *loss, Err *e) {
    Fault f;
    batch_fill(&r->batch, &ex, 1);
    if (model_forward(&r->m, &r->batch.view, &f)) return err_fault(e, "--explain", &f);
    model_losses(&r->m, r->m.x.pos, ex->tok + 1, ex->len - 1, loss + 1);
    return 0;
}

static void explain_tokens(const Tokenizer *t, const Example *ex, const double *before, const double *after,
                           bool color) {
    double sum[2][2] = {{0}};
    size_t count[2] = {0}, n;
    printf("\n  %5s %7s  %-35s %8s %8s %8s\n", "at", "id", "token", "loss", "a step", "change");
    for (uint32_t i = 0; i < ex->len; i++) {
        int taught = ex->taught[i];
        const uint8_t *s = tokenizer_decode(t, ex->tok[i], &n);
        printf("%s%c %5" PRIu32 " %7" PRId32 "  '", taught && color ? "\033[32m" : "", taught ? '>' : '|', i,
               ex->tok[i]);
        printf("'%*s", 34 - show_text(stdout, s, n, 32), "");
        if (i > 0) printf("%8.3f %8.3f %+8.3f", before[i], after[i], after[i] - before[i]);
        puts(taught && color ? "\033[0m" : "");
        if (i == 0) continue;
        count[taught]++, sum[taught][0] += before[i], sum[taught][1] += after[i];
    }
    for (int k = 1; k >= 0; k--)
        if (count[k])
            printf("%c %zu tokens %s: mean loss %.4f, after the step %.4f\n", k ? '>' : '|', count[k],
                   k ? "taught" : "only read", sum[k][0] / (double)count[k], sum[k][1] / (double)count[k]);
}

// What a row is to the model, and what one step of the run on it alone would change. Nothing is kept.
static int explain(Run *r, Err *e) {
    const Example *ex = r->train.ex;
    const char *plain = getenv("NO_COLOR");
    bool color = is_terminal(1) && !(plain && *plain);
    double *loss = malloc(2 * ex->len * sizeof *loss);
    StepResult s;
    r->order[0] = 0;
    int rc = !loss ? err_set(e, "no memory for the losses")
             : explain_text(&r->base.tok, ex, color, e) || explain_losses(r, ex, loss, e) ||
               one_step(r, 1, &s, e) || explain_losses(r, ex, loss + ex->len, e) ? -1 : 0;
    if (rc == 0) {
        explain_tokens(&r->base.tok, ex, loss, loss + ex->len, color);
        printf("one step at rate %.2e, gradient norm %.3f; nothing was written\n"
               "in a batch: ids 0 to %" PRIu32 " are input; the target of each is the next id if that is\n"
               "taught, else -1; then come %zu places of padding, up to the longest row\n",
               s.lr, s.norm, ex->len - 2, (size_t)(r->all.longest - ex->len));
    }
    free(loss);
    return rc;
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
            return err_set(e, "--init: '%.*s', want name=number with a name such as layers, heads, width, "
                           "context, vocab", (int)strcspn(p, " "), p);
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
    const size_t most = (size_t)1 << 31;
    int rc = -1;
    uint8_t *all = NULL;
    void *memory = NULL;              // 40 bytes for each of the text: not kept
    size_t total = 0, room = 0;
    for (int i = 0; i < r->texts; i++) {
        uint8_t *data;
        size_t n;
        if (file_read(r->text[i], most, &data, &n, e)) goto out;
        bool bad = n >= most - total ? err_set(e, "--text: more than 2 GiB")
                   : grow(&all, &room, total + n + 1, 1, e);
        data[n] = '\n';
        if (!bad) memcpy(all + total, data, n + 1), total += n + 1;
        free(data);
        if (bad) goto out;
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
    if (opt.early_stop && !r->val.n)
        return err_set(e, "--early-stop: no row is held out, want --val FILE or a --split above 0");
    if (!r->train.n)
        return err_set(e, "%s: no row is left to train on, want at least 1", opt.data ? opt.data : opt.text);
    r->longest = r->train.longest > r->val.longest ? r->train.longest : r->val.longest;
    return 0;
}

// Windows of --general as long as the run's longest row, spread evenly over the file
static int load_general(Run *r, Err *e) {
    enum { TOKENS = 8192 };
    Examples *x = &r->general;
    if (examples_text(x, &opt.general, 1, &r->base.tok, r->longest, e)) return -1;
    size_t most = TOKENS / r->longest + 1, n = x->n < most ? x->n : most;
    for (size_t i = 0; i < n; i++) x->ex[i] = x->ex[i * x->n / n];
    x->n = n;
    return 0;
}

// The data report: in short before step 1, in full for --check; some of what it finds ends the run
static int report(Run *r, Err *e) {
    r->survey = (Survey){.all = &r->all, .train = &r->train, .held = &r->val, .rows = &r->rows,
                         .other = opt.val ? &r->val_rows : NULL};
    if (survey(&r->survey, e)) return -1;
    survey_print(&r->survey, opt.check ? stdout : stderr, opt.check);
    return survey_stop(&r->survey, r->base.tok.bos, opt.check, e);
}

// The lineage, what went in: all that determines the bits, and nothing else. Its hash is the state's key.
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
    if (opt.init) SAY("init");
    for (int i = 0; i < CONFIG_INTS && opt.init; i++) {
        int32_t v;
        memcpy(&v, (const char *)&r->base.cfg + CONFIG_FIELD[i].where, sizeof v);
        SAY(" %s=%d%s", CONFIG_FIELD[i].name, (int)v, i + 1 < CONFIG_INTS ? "" : "\n");
    }
    int data = opt.text ? r->texts : 1;
    for (int i = -1; i <= data; i++) {
        const char *what = i < 0 ? "base" : i == data ? "held-out" : opt.text ? "text" : "data";
        const char *path = i < 0 ? opt.model : i == data ? opt.val : opt.text ? r->text[i] : opt.data;
        if (path && sha256_file(path, hex, e)) return -1;
        if (path) SAY("%s sha256 %s\n", what, hex);
    }
    SAY("options mask=%s%s too-long=%s seq=%" PRId64 " split=%.9g steps=%" PRId64 " batch=%" PRId64, opt.mask,
        r->teach == TEACH_LAST ? " turns=last" : "", opt.too_long, opt.seq, opt.val ? 0.0 : opt.split,
        r->steps, opt.batch);
    SAY(" lr=%.9g schedule=%s warmup=%.9g", opt.lr, opt.schedule, opt.warmup);
    if (opt.early_stop) SAY(" early-stop=%" PRId64 " every=%" PRId64, opt.early_stop, r->every);
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
    sha256_end(&s, r->state.key);
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
        int k;
        size_t n = strcspn(p, ",");
        snprintf(name, sizeof name, "%.*s", n < sizeof name ? (int)n : 7, p);
        if (choice("--lora-on", name, layers, 4, &k, e)) return -1;
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
    if (!opt.out && writes()) return err_set(e, "want --out FILE, the checkpoint to write");
    int mask, last, too_long, skip, schedule, dtype = 0;
    if (choice("--mask", opt.mask, masks, 2, &mask, e) || choice("--turns", opt.turns, turns, 2, &last, e) ||
        choice("--too-long", opt.too_long, longs, 3, &too_long, e) ||
        choice("--bad-rows", opt.bad_rows, bads, 2, &skip, e) ||
        choice("--schedule", opt.schedule, schedules, 3, &schedule, e) ||
        (opt.dtype && choice("--dtype", opt.dtype, DTYPE_NAME, DTYPES, &dtype, e)))
        return -1;
    if (mask && last) return err_set(e, "--turns last leaves nothing to --mask none, which teaches all");
    r->teach = mask ? TEACH_ALL : last ? TEACH_LAST : TEACH_ANSWERS;
    r->too_long = (TooLong)too_long, r->skip_bad = skip == 1;
    r->schedule = (Schedule)schedule, r->dtype = (Dtype)dtype;
    char *const path[] = {r->state_path, r->best_path, r->last_path};
    static const char *const ending[] = {"state", "best", "last"};
    for (int i = 0; opt.out && i < 3; i++)
        if (snprintf(path[i], sizeof r->state_path, "%s.%s", opt.out, ending[i]) >= (int)sizeof r->state_path)
            return err_set(e, "--out: a path of %zu bytes, want at most %zu", strlen(opt.out),
                           sizeof r->state_path - 8);
    return 0;
}

// What is written is not read, and not written twice: a slip of the keyboard would cost the user's data.
static int check_outputs(Run *r, Err *e) {
    const char *path[] = {opt.data, opt.val, opt.model, opt.template, opt.general, opt.out, r->state_path,
                          r->best_path, r->last_path, opt.log};
    enum { READ = 5, PATHS = 10 };                // the rest is written
    for (int w = READ; w < PATHS; w++)
        for (int i = 0; path[w] && *path[w] && i < w + r->texts; i++) {
            const char *other = i < w ? path[i] : r->text[i - w];
            if (other && *other && same_file(path[w], other))
                return err_set(e, "%s: is this run's %s as well, want another file for %s", path[w], other,
                               w == PATHS - 1 ? "--log" : "--out");
        }
    if (writes() && !(r->claim = writer_open(opt.out, e))) return -1;    // no other run may write it now
    if (!opt.out || opt.resume || !writes() || !file_there(r->state_path)) return 0;
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
    r->params = model_params(&r->cfg);
    r->trained = r->params - (opt.lora ? model_params(&r->base.cfg) : 0);
    bool wanted = opt.data || opt.template;
    if (wanted && template_choose(opt.template, &r->base, &r->chosen, e)) return -1;
    r->template = wanted ? r->chosen : r->base.template ? r->base.template : "";
    if (load_examples(r, e) || (opt.explain ? explain_pick(r, e) : report(r, e))) return -1;
    if (opt.check) return log_begin(r, 0, e);

    r->per_epoch = ((int64_t)r->train.n + opt.batch - 1) / opt.batch;
    r->steps = opt.steps ? opt.steps : opt.epochs * r->per_epoch;
    r->every = opt.val_every ? opt.val_every : r->per_epoch;
    r->warmup = (int64_t)(opt.warmup * (double)r->steps);
    if (plan_memory(r, e) || (opt.general && load_general(r, e))) return -1;
    if (opt.plan) print_plan(&r->plan);           // before the memory is taken: there may not be enough
    if (writes() && describe(r, e)) return -1;
    r->pick = malloc((size_t)opt.batch * sizeof *r->pick);
    r->order = malloc(r->train.n * sizeof *r->order);
    if (!r->pick || !r->order) return err_set(e, "no memory for the order of %zu rows", r->train.n);
    if (batch_alloc(&r->batch, r->micro, r->longest - 1, e)) return -1;
    if (!(r->block = block_alloc(r->plan.bytes, e))) return -1;
    model_bind(&r->m, &r->plan, r->block);
    if (opt.resume && state_load(r->state_path, &r->state, &r->m, e)) return -1;    // before what takes long
    if (opt.init || opt.lora) model_init(&r->m, (uint64_t)opt.seed);
    if (opt.model && checkpoint_read(&r->base, &r->m.w, &r->m.h, e)) return -1;
    fprintf(stderr, "%.2f million parameters, %.2f of them trained, %.0f MiB of memory, %zu rows at once, "
            "%d threads, %" PRId64 " steps\n", (double)r->params / 1e6, (double)r->trained / 1e6,
            (double)r->plan.bytes / 1048576.0, r->micro, r->plan.shape.threads, r->steps);
    return !writes() || opt.resume ? 0 : log_begin(r, 0, e);
}

static void release(Run *r) {
    Err e;
    if (log_close(r->log, &e)) fprintf(stderr, "train: warning: %s; the log is incomplete\n", e.msg);
    writer_close(r->claim, false, &e);
    batch_free(&r->batch);
    free(r->pick), free(r->order);
    free(r->lineage), free(r->chosen);
    survey_free(&r->survey);
    block_free(r->block);
    examples_free(&r->all), examples_free(&r->val_all), examples_free(&r->general);
    rows_free(&r->rows), rows_free(&r->val_rows);
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
        r.started = seconds();
        rc = setup(&r, &e);
    }
    if (!rc && !opt.check)
        rc = opt.plan ? expect(&r, &e) : opt.explain ? explain(&r, &e) : train(&r, &e);
    release(&r);
    if (fflush(stdout) && !rc) rc = err_set(&e, "cannot write to stdout");
    if (rc) fprintf(stderr, "train: %s\n", e.msg);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

// chat.c -- main: a checkpoint answers, on the command line or line by line; each answer stands on its own.
//
// Read in this order: Chat -> prompt_raw, prompt_template: what the model is given -> stream_put: what is
// shown -> answer -> main.
// Not here on purpose: conversations of several turns, and many prompts at once.
#include "../model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 256 };                 // tokens of a prompt that go through the model at once
enum { LINE_BYTES = 1 << 16 };        // longest line of standard input

typedef struct {
    Checkpoint k;
    Model m;
    void *block, *memory;             // the model's; that of the arrays below
    int32_t *tok;                     // (P) prompt, then answer
    int32_t *order;                   // (V) scratch of model_sample; V: tokens of the tokenizer
    float *logits;                    // (V)
    Sampling sampling;
    uint64_t seed;
    size_t max_tokens;                // of an answer
    bool raw;                         // no template
} Chat;

// ---- what the model is given ------------------------------------------------------------------------------
typedef struct {
    int32_t *tok;                     // (n) free()
    size_t n;
    int32_t stop;                     // the token that ends an answer, besides end-of-text
    int32_t spaces;                   // up to so many spaces before the answer are not part of it
} Prompt;

// The text as it is, after begin-of-text if the tokenizer has one. Where that leaves nothing: end-of-text,
// after which, in training, a new text begins. An answer that begins a text begins with add_space's space.
static int prompt_raw(Prompt *p, const Tokenizer *t, const char *text, Err *e) {
    size_t n = strlen(text), scratch_bytes = tokenizer_encode_size(t, n);
    int32_t first = t->bos >= 0 ? t->bos : n == 0 ? t->eot : -1;
    void *scratch = malloc(scratch_bytes);
    *p = (Prompt){.stop = t->eot, .spaces = t->add_space && n == 0};
    p->tok = malloc((tokenizer_most(t, n) + 1) * sizeof *p->tok);
    int rc = scratch && p->tok ? 0 : err_set(e, "out of memory for a prompt of %zu bytes", n);
    if (!rc && first >= 0) p->tok[p->n++] = first;
    if (!rc) p->n += tokenizer_encode(t, (const uint8_t *)text, n, false, p->tok + p->n, scratch);
    if (!rc && p->n == 0) rc = err_set(e, "empty prompt: this tokenizer has no token to begin with");
    free(scratch);
    return rc;
}

// The text as the instruction of a row, rendered as in training. The row's answer is a stand-in: what comes
// before it is the prompt, and the token that ends it ends the model's answers. Spaces at an answer's
// beginning are the template's or add_space's.
static int prompt_template(Prompt *p, const Tokenizer *t, const char *template, const char *text, Err *e) {
    char name[] = "prompt";
    Row row = {text, "", "x", 1, 0};
    Rows rows = {&row, 1, name, NULL};
    Examples x;
    if (examples_make(&x, &rows, template, t, INT32_MAX, TOO_LONG_ERROR, false, e)) return -1;
    const Example *ex = x.ex;
    int rc = x.n == 1 && ex->prompt > 0 ? 0 : err_set(e, "the template has nothing before {target}");
    if (!rc) {
        *p = (Prompt){malloc(ex->prompt * sizeof *p->tok), ex->prompt, ex->tok[ex->len - 1], INT32_MAX};
        if (!p->tok) rc = err_set(e, "out of memory for a prompt of %zu tokens", p->n);
        else memcpy(p->tok, ex->tok, p->n * sizeof *p->tok);
    }
    examples_free(&x);
    return rc;
}

// ---- what is shown ----------------------------------------------------------------------------------------
// A character of several bytes may come in several tokens: it is held back until it is complete.
typedef struct {
    uint8_t held[4];
    size_t n;
} Stream;

static void stream_flush(Stream *s) {
    fwrite(s->held, 1, s->n, stdout);
    s->n = 0;
}

static void stream_put(Stream *s, uint8_t byte) {
    if (s->n > 0 && (byte & 0xC0) != 0x80) stream_flush(s);                 // the character before is cut off
    s->held[s->n++] = byte;
    uint8_t lead = s->held[0];
    size_t wanted = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (s->n >= wanted) stream_flush(s);
}

// ---- an answer --------------------------------------------------------------------------------------------

// Puts n tokens behind the `past` ones in the cache.
static int feed(Chat *c, const int32_t *tok, size_t n, size_t past, Err *e) {
    for (size_t at = 0, len; at < n; at += len) {
        len = n - at < c->m.shape.seq ? n - at : c->m.shape.seq;
        int32_t rows = (int32_t)len, before = (int32_t)(past + at);
        Batch b = {tok + at, NULL, &rows, &before, 1, len};
        Fault f;
        if (model_forward(&c->m, &b, &f)) return err_fault(e, "prompt", &f);
    }
    return 0;
}

// Among the tokenizer's tokens: the model may have more, which only fill its matrices up.
static int32_t next_token(Chat *c, size_t fed, size_t prompt, Rng *rng) {
    size_t V = c->k.tok.vocab;
    int32_t last = (int32_t)(c->m.N - 1);         // the newest row of the last forward
    memcpy(c->logits, model_logits(&c->m, &last, 1), V * sizeof *c->logits);
    return model_sample(c->logits, V, &c->sampling, c->tok + prompt, fed - prompt, c->order, rng);
}

// An answer depends on its prompt and the seed, not on the answers before.
static int answer(Chat *c, const char *text, Err *e) {
    const Tokenizer *t = &c->k.tok;
    size_t P = (size_t)c->k.cfg.context, fed = 0, made = 0;
    Prompt p = {0};
    Stream out = {{0}, 0};
    Rng rng = {c->seed};
    int rc = c->raw ? prompt_raw(&p, t, text, e) : prompt_template(&p, t, c->k.template, text, e);
    if (!rc && p.n > P) rc = err_set(e, "prompt: %zu tokens, want 1..%zu, what the model can see", p.n, P);
    if (!rc) memcpy(c->tok, p.tok, p.n * sizeof *p.tok);
    for (size_t n = p.n; !rc && made < c->max_tokens; n = 1) {
        if (fed + n > P) {
            fprintf(stderr, "\nnote: cut off: the context of %zu tokens is full\n", P);
            break;
        }
        if ((rc = feed(c, c->tok + fed, n, fed, e)) != 0) break;
        fed += n;
        int32_t id = next_token(c, fed, p.n, &rng);
        if (id == t->eot || id == p.stop) break;
        size_t bytes;
        const uint8_t *s = tokenizer_decode(t, id, &bytes);
        for (size_t i = 0; i < bytes; i++) {
            if (p.spaces > 0 && s[i] == ' ') { p.spaces--; continue; }
            p.spaces = 0;
            stream_put(&out, s[i]);
        }
        fflush(stdout);
        if (fed < P) c->tok[fed] = id;
        made++;
    }
    if (!rc) stream_flush(&out);
    if (!rc) putchar('\n');
    free(p.tok);
    return rc;
}

// ---- main -------------------------------------------------------------------------------------------------

static int chat_open(Chat *c, const char *path, int threads, Err *e) {
    Fault f;
    Plan plan;
    if (checkpoint_open(&c->k, path, NULL, e)) return -1;
    if (c->k.tok.kind == TOK_NONE) return err_set(e, "%s: the checkpoint has no tokenizer", path);
    size_t P = (size_t)c->k.cfg.context, V = c->k.tok.vocab;
    Shape shape = {.rows = 1, .seq = P < CHUNK ? P : CHUNK, .cached = P, .threads = threads};
    if (model_plan(&plan, &c->k.cfg, &shape, &f)) return err_fault(e, path, &f);
    if (!(c->block = block_alloc(plan.bytes, e))) return -1;
    model_bind(&c->m, &plan, c->block);
    if (checkpoint_read(&c->k, &c->m.w, NULL, e)) return -1;
    if (!(c->memory = block_alloc((P + V) * sizeof(int32_t) + V * sizeof(float), e))) return -1;
    c->tok = c->memory;
    c->order = c->tok + P;
    c->logits = (float *)(c->order + V);
    c->raw = c->raw || !*c->k.template;
    return 0;
}

// Answers each line of standard input. Returns how many could not be answered, which don't stop the others.
static int chat_lines(Chat *c) {
    static char line[LINE_BYTES + 1];
    bool terminal = is_terminal(0) && is_terminal(2);
    int failed = 0;
    for (int ch = 0; ch != EOF;) {
        size_t n = 0;
        if (terminal) fprintf(stderr, "> ");
        while ((ch = getchar()) != EOF && ch != '\n') {
            if (n < LINE_BYTES) line[n] = (char)ch;
            n++;
        }
        Err e;
        bool fits = n <= LINE_BYTES && !memchr(line, 0, n);
        if (fits && n > 0 && line[n - 1] == '\r') n--;
        if (fits) line[n] = '\0';
        else err_set(&e, "a line of %zu bytes, want at most %d and no 0 among them", n, LINE_BYTES);
        if (n == 0 || (fits && answer(c, line, &e) == 0)) continue;
        fprintf(stderr, "chat: %s\n", e.msg);
        failed++;
    }
    if (terminal) fprintf(stderr, "\n");
    return failed;
}

int main(int argc, char **argv) {
    const char *model = NULL, *prompt = NULL, *word[1];
    double temperature = 0.8, top_p = 0.95, penalty = 1;
    int64_t top_k = 0, max_tokens = 256, seed = 1, threads = cores();
    bool raw = false, help = false, version = false;
    Option option[] = {
        {"--model", OPT_TEXT, &model, 0, 0, "FILE", "the checkpoint", false},
        {"--prompt", OPT_TEXT, &prompt, 0, 0, "TEXT",
         "answer this and stop; otherwise each line of standard input is answered", false},
        {"--raw", OPT_FLAG, &raw, 0, 0, NULL, "no template: the model goes on with the text as it is", false},
        {"--max-tokens", OPT_INT, &max_tokens, 1, 1 << 20, "N", "longest answer", false},
        {.help = "Sampling"},
        {"--temperature", OPT_REAL, &temperature, 0, 100, "X",
         "below 1 likely tokens gain, above 1 they lose; 0: always the likeliest", false},
        {"--top-k", OPT_INT, &top_k, 0, 1 << 20, "N", "only the N likeliest tokens; 0: all", false},
        {"--top-p", OPT_REAL, &top_p, 0, 1, "X", "only the likeliest that share probability X", false},
        {"--repeat-penalty", OPT_REAL, &penalty, 0.1, 10, "X",
         "above 1, tokens that the answer already has become less likely", false},
        {"--seed", OPT_INT, &seed, 0, 1e15, "N", "same seed and prompt, same answer", false},
        {.help = "Running"},
        {"--threads", OPT_INT, &threads, 1, 1024, "N", "cores to use; changes no answer", false},
        FLAG("--help", &help, "print this"),
        FLAG("--version", &version, "print the version"),
    };
    enum { OPTIONS = sizeof option / sizeof option[0] };
    Chat c;
    Err e = {""};
    int words = 0, rc = -1;
    memset(&c, 0, sizeof c);
    if (options_parse(option, OPTIONS, argc, argv, word, 0, &words, &e)) goto out;
    if (version) { printf("tune.c %s\n", TUNE_VERSION); rc = 0; goto out; }
    if (help) {
        printf("usage: chat --model FILE [--prompt TEXT] [options]\n\n");
        options_print(option, OPTIONS);
        rc = 0;
        goto out;
    }
    if (!model) { err_set(&e, "no model, want --model FILE\nhint: chat --help"); goto out; }
    c.raw = raw;
    c.seed = (uint64_t)seed;
    c.max_tokens = (size_t)max_tokens;
    c.sampling = (Sampling){(float)temperature, (int32_t)top_k, (float)top_p, (float)penalty};
    if (chat_open(&c, model, (int)threads, &e)) goto out;
    if (prompt) rc = answer(&c, prompt, &e);
    else if (chat_lines(&c) > 0) err_set(&e, "not every line was answered");
    else rc = 0;
out:
    if (rc == 0 && fflush(stdout) != 0) rc = err_set(&e, "standard output cannot be written");
    if (rc) fprintf(stderr, "chat: %s\n", e.msg);
    block_free(c.block);
    block_free(c.memory);
    checkpoint_close(&c.k);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

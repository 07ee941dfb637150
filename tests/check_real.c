// check_real.c -- converted models against what their makers' programs print; `make check-real REAL=DIR` runs
//
//     check_real DIR nano.bin stories.bin
//
//     gpt2_nano_sort    logits of 3 rows within 1e-5 of those that PyTorch stored
//     stories260K       the first 200 tokens of the greedy text that llama2.c prints
//
// nano.bin and stories.bin were made by convert from DIR/models/gpt2_nano_sort and DIR/models/stories260K.
// One line for each check; exit status 0 only if both hold.
#include "../model.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NANO_ROWS = 3, NANO_SEQ = 11, NANO_VOCAB = 3, NANO_LAYERS = 3, NANO_Q = 144, STORY_TOKENS = 200 };

// ---- a model to run, a file to compare with ---------------------------------------------------------------
typedef struct {
    Checkpoint k;
    Model m;
    void *block;
} Loaded;

static int loaded_open(Loaded *x, const char *path, size_t rows, size_t seq, size_t cached, Err *e) {
    Shape shape = {.rows = rows, .seq = seq, .cached = cached, .threads = 1};
    return checkpoint_open(&x->k, path, NULL, e) || model_load(&x->m, &x->block, &x->k, &shape, e) ? -1 : 0;
}

static void loaded_close(Loaded *x) {
    block_free(x->block);
    checkpoint_close(&x->k);
}

static int real_read(const char *dir, const char *name, uint8_t **data, size_t *n, Err *e) {
    char path[4096];
    int len = snprintf(path, sizeof path, "%s/models/%s", dir, name);
    if (len < 0 || (size_t)len >= sizeof path) return err_set(e, "%s: path too long", name);
    return file_read(path, (size_t)1 << 24, data, n, e);
}

// Base64 of n little-endian floats (RFC 4648), as PyTorch's tensors are kept in the two JSON files.
static int base64_floats(const char *text, float *out, size_t n) {
    static const char DIGIT[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0, word = 0;
    size_t held = 0, bytes = 0;
    for (; *text && *text != '=' && bytes < 4 * n; text++) {
        const char *digit = strchr(DIGIT, *text);
        if (!digit) return -1;
        bits = bits << 6 | (uint32_t)(digit - DIGIT);
        held += 6;
        if (held < 8) continue;
        held -= 8;
        word = word >> 8 | (bits >> held & 255) << 24;            // four of these: a little-endian word
        if (++bytes % 4 == 0) memcpy(&out[bytes / 4 - 1], &word, sizeof word);
    }
    return bytes == 4 * n ? 0 : -1;
}

// Member `name` of the JSON object: {"shape": ..., "data": base64 of n floats}.
static int json_floats(const Json *j, const char *name, float *out, size_t n, Err *e) {
    uint32_t at = json_get(j, 0, name), data = at ? json_get(j, at, "data") : 0;
    if (data && j->node[data].kind == JSON_STRING && base64_floats(j->node[data].text, out, n) == 0) return 0;
    return err_set(e, "%s: want base64 of %zu floats", name, n);
}

// ---- the checks -------------------------------------------------------------------------------------------

// Biases of q, k, v: model.safetensors lacks them, perhaps since their names end in "attn.bias" as masks' do.
// They are in the JSON file that it was made from; without them the logits are off by 0.75.
static int nano_bias(const char *dir, Model *m, Err *e) {
    uint8_t *data = NULL;
    size_t n;
    Json j = {0};
    char name[64];
    int rc = real_read(dir, "gpt2_nano_sort/gpt-nano-sort-model.json", &data, &n, e);
    if (!rc) rc = json_parse(&j, "gpt-nano-sort-model.json", 1, data, n, e);
    for (int l = 0; l < NANO_LAYERS && !rc; l++) {
        snprintf(name, sizeof name, "transformer.h.%d.attn.c_attn.bias", l);
        rc = json_floats(&j, name, m->w.qkvb + l * NANO_Q, NANO_Q, e);
    }
    json_free(&j);
    free(data);
    return rc;
}

static int nano(const char *dir, const char *path, Err *e) {
    enum { N = NANO_ROWS * NANO_SEQ };
    uint8_t *data = NULL;
    size_t n;
    Json j = {0};
    Loaded x = {0};
    float want[N * NANO_VOCAB], id[N];
    int32_t tok[N], row[N], len[NANO_ROWS] = {NANO_SEQ, NANO_SEQ, NANO_SEQ};
    int rc = loaded_open(&x, path, NANO_ROWS, NANO_SEQ, 0, e);
    if (rc) goto out;
    const Config *c = &x.k.cfg;
    if (c->vocab != NANO_VOCAB || c->layers != NANO_LAYERS || c->width * 3 != NANO_Q || !c->bias) {
        rc = err_set(e, "%s: not gpt2_nano_sort", path);
        goto out;
    }
    if ((rc = nano_bias(dir, &x.m, e)) != 0) goto out;
    if ((rc = real_read(dir, "gpt2_nano_sort/gpt-nano-sort-t0-partials.json", &data, &n, e)) != 0) goto out;
    if ((rc = json_parse(&j, "gpt-nano-sort-t0-partials.json", 1, data, n, e)) != 0) goto out;
    if ((rc = json_floats(&j, "idx", id, N, e)) != 0) goto out;
    if ((rc = json_floats(&j, "lm_head", want, N * NANO_VOCAB, e)) != 0) goto out;

    for (int32_t i = 0; i < N; i++) {
        tok[i] = id[i] > 1.5f ? 2 : id[i] > 0.5f;
        row[i] = i;
    }
    Fault f;
    if (model_forward(&x.m, &(Batch){tok, NULL, len, NULL, NANO_ROWS, NANO_SEQ}, &f)) {
        rc = err_fault(e, path, &f);
        goto out;
    }
    const float *got = model_logits(&x.m, row, N);
    double largest = 0;
    for (int i = 0; i < N * NANO_VOCAB; i++) {
        double d = fabs((double)got[i] - (double)want[i]);
        if (!(d <= largest) && !isnan(largest)) largest = d;      // NaN stays
    }
    bool good = largest <= 1e-5;
    printf("gpt2_nano_sort  %d logits, off by at most %.2g, want 1e-05: %s\n", N * NANO_VOCAB, largest,
           good ? "ok" : "FAILED");
    rc = good ? 0 : err_set(e, "%s: logits differ from PyTorch's", path);
out:
    json_free(&j);
    free(data);
    loaded_close(&x);
    return rc;
}

// The text between the line of the command at temperature 0 and the next ```.
static int story_text(char *page, char **text, Err *e) {
    char *at = strstr(page, "-t 0.0\n"), *end = at ? strstr(at, "\n```") : NULL;
    if (!end) return err_set(e, "stories260K.md: no text after \"-t 0.0\"");
    *text = at + strlen("-t 0.0\n");
    *end = '\0';
    return 0;
}

// Greedy from begin-of-text. Token for token: the published text is encoded, and the same ids must come out.
static int stories(const char *dir, const char *path, Err *e) {
    uint8_t *page = NULL;
    size_t n, texts;
    Loaded x = {0};
    char *text = NULL;
    int32_t *want = NULL, *order = NULL, one = 1;
    float *logits = NULL;
    void *scratch = NULL;
    int rc = loaded_open(&x, path, 1, 1, STORY_TOKENS, e);
    if (rc) goto out;
    const Tokenizer *t = &x.k.tok;
    size_t V = (size_t)x.k.cfg.vocab;
    if ((rc = real_read(dir, "stories260K/stories260K.md", &page, &n, e)) != 0) goto out;
    if ((rc = story_text((char *)page, &text, e)) != 0) goto out;
    n = strlen(text);
    want = malloc(tokenizer_most(t, n) * sizeof *want);
    order = malloc(V * sizeof *order);
    logits = malloc(V * sizeof *logits);
    scratch = malloc(tokenizer_encode_size(t, n));
    if (!want || !order || !logits || !scratch) { rc = err_set(e, "out of memory"); goto out; }
    texts = tokenizer_encode(t, (const uint8_t *)text, n, false, want, scratch);

    int32_t id = t->bos, same = 0;
    for (int32_t past = 0; past < STORY_TOKENS && (size_t)past < texts; past++) {
        Batch b = {&id, NULL, &one, &past, 1, 1};
        Fault f;
        int32_t row = 0;
        if (model_forward(&x.m, &b, &f)) { rc = err_fault(e, path, &f); goto out; }
        memcpy(logits, model_logits(&x.m, &row, 1), V * sizeof *logits);
        id = model_sample(logits, V, &(Sampling){0, 0, 1, 1}, NULL, 0, order, NULL);
        if (id != want[past]) break;
        same++;
    }
    bool good = same == STORY_TOKENS;
    printf("stories260K     %ld of %d greedy tokens as published: %s\n", (long)same, STORY_TOKENS,
           good ? "ok" : "FAILED");
    rc = good ? 0 : err_set(e, "%s: token %ld differs from llama2.c's", path, (long)same);
out:
    free(page);
    free(want);
    free(order);
    free(logits);
    free(scratch);
    loaded_close(&x);
    return rc;
}

int main(int argc, char **argv) {
    Err e = {""};
    if (argc != 4) {
        fprintf(stderr, "usage: check_real DIR nano.bin stories.bin\n");
        return EXIT_FAILURE;
    }
    int failed = 0;
    if (nano(argv[1], argv[2], &e) && ++failed) fprintf(stderr, "check_real: %s\n", e.msg);
    if (stories(argv[1], argv[3], &e) && ++failed) fprintf(stderr, "check_real: %s\n", e.msg);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

// llama2c.c -- llama2.c's files, in: a version 0 .bin with the weights (Karpathy's llama2.c, export.py), and
// the tokenizer .bin that belongs to it. Input files are hostile: each number is checked before it is used.
// T: tests/check_real.c compares a converted model with what llama2.c prints.
#include "convert.h"
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL_MAX     ((size_t)1 << (sizeof(size_t) > 4 ? 37 : 30))     // bytes of a file with weights
#define TOKENIZER_MAX ((size_t)1 << 24)
enum { TOKEN_MAX = 256 };             // bytes of one token; llama2.c's longest has 27

// ---- weights ----------------------------------------------------------------------------------------------
//     0    7 x 4  i32: dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size (negative: untied), seq_len
//    28           f32: the tensors in the order of ORDER, each for all layers; matrices are (out, in)
// No magic number: that the sizes imply the file's length is the check.
#define AT(field) offsetof(Params, field)
static const struct { size_t where; Part part; } ORDER[] = {      // that of llama2.c's memory_map_weights
    {AT(wte), ALL_COLUMNS},  {AT(ln1w), ALL_COLUMNS}, {AT(qkvw), Q_COLUMNS},     {AT(qkvw), K_COLUMNS},
    {AT(qkvw), V_COLUMNS},     {AT(projw), ALL_COLUMNS}, {AT(ln2w), ALL_COLUMNS}, {AT(fc1w), GATE_COLUMNS},
    {AT(fc2w), ALL_COLUMNS}, {AT(fc1w), UP_COLUMNS},    {AT(lnfw), ALL_COLUMNS}, {AT(head), ALL_COLUMNS},
};

static const Named *named_at(const Config *c, size_t where, Part part) {
    const Named *n = NAMED;
    while (!named_here(n, c) || n->where != where || n->part != part) n++;
    return n;
}

// One tensor, of all its layers. Returns what follows in the file; x: room for the floats of one layer.
// TRAP: llama2.c rotates the neighbours 2i and 2i+1 of a head, model.c rotates i and i + HS/2.
static const uint8_t *tensor_read(const Import *m, const Named *n, float *x, const uint8_t *at) {
    size_t out, in, layers = strchr(n->hf, '#') ? (size_t)m->cfg.layers : 1;
    named_shape(n, &m->cfg, &out, &in);
    for (size_t l = 0; l < layers; l++) {
        for (size_t i = 0; i < out * in; i++, at += 4) x[i] = f32_of(u32_at(at));
        named_put(n, &m->cfg, &m->w, l, x, false, true);
    }
    return at;
}

static int weights_read(Import *m, const uint8_t *at, const uint8_t *end, Err *e) {
    const Config *c = &m->cfg;
    size_t most = 1, out, in;
    for (const Named *n = NAMED; n < NAMED + NAMED_ROWS; n++) {
        if (!named_here(n, c)) continue;
        named_shape(n, c, &out, &in);
        if (out * in > most) most = out * in;
    }
    float *x = malloc(most * sizeof *x);
    if (!x) return err_set(e, "out of memory");
    for (size_t i = 0; i < sizeof ORDER / sizeof *ORDER; i++) {
        bool head = ORDER[i].where == AT(head);
        if (head) at += 4 * (size_t)c->context * (size_t)c->head_size;    // before it: tables of cos and sin
        if (!head || !c->tied) at = tensor_read(m, named_at(c, ORDER[i].where, ORDER[i].part), x, at);
    }
    assert(at == end);                            // config_read compared the sizes
    (void)end;
    free(x);
    return 0;
}

static int config_read(Config *c, const char *path, const uint8_t *file, size_t n, Err *e) {
    if (n < 28) return err_set(e, "%s: %zu bytes, want a llama2.c header of 28", path, n);
    int32_t vocab = (int32_t)u32_at(file + 20);
    c->width = (int32_t)u32_at(file);
    c->hidden = (int32_t)u32_at(file + 4);
    c->layers = (int32_t)u32_at(file + 8);
    c->heads = (int32_t)u32_at(file + 12);
    c->kv_heads = (int32_t)u32_at(file + 16);
    c->vocab = vocab < -INT32_MAX ? INT32_MAX : vocab < 0 ? -vocab : vocab;
    c->context = (int32_t)u32_at(file + 24);
    c->rms = c->rope = c->swiglu = 1;
    c->tied = vocab > 0;
    c->norm_eps = 1e-5f;
    c->rope_theta = 10000.0f;
    c->head_size = c->heads > 0 ? c->width / c->heads : 0;
    Fault f;
    if (model_check(c, &f))
        return err_set(e, "%s: as a llama2.c version 0 .bin: %s = %.0f, want %.0f..%.0f", path, f.what,
                       (double)f.value, (double)f.lo, (double)f.hi);
    if (c->width % c->heads)          // NOLINT(clang-analyzer-core.DivideZero): model_check refuses 0 heads
        return err_set(e, "%s: byte 0: dim = %ld, want a multiple of n_heads = %ld", path, (long)c->width,
                       (long)c->heads);
    size_t floats = model_params(c), tables = (size_t)c->context * (size_t)c->head_size;
    if (tables > SIZE_MAX / 8 || floats > SIZE_MAX / 8 - tables || n - 28 != 4 * (floats + tables))
        return err_set(e, "%s: %zu bytes, want 28 for the header and %.0f for its weights", path, n,
                       4.0 * ((double)floats + (double)tables));
    return 0;
}

// Any file that is nothing else ends up here, so its header is looked at before all of it is read. What cannot
// be told now, as there is no such file, is left to the reading.
static int header_check(const char *path, Err *e) {
    Config c = {0};
    uint8_t head[28];
    FILE *f = fopen(path, "rb");
    size_t got = f ? fread(head, 1, sizeof head, f) : 0;
    long bytes = f && fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    if (f) fclose(f);
    return got == sizeof head && bytes > 0 ? config_read(&c, path, head, (size_t)bytes, e) : 0;
}

// ---- its tokenizer ----------------------------------------------------------------------------------------
//     0    4      u32: bytes of the longest token
//     4           for each token: f32 score, i32 bytes, the bytes
// Ids 0, 1, 2 are <unk>, <s>, </s>; 3..258 are the single bytes, spelt <0x00>..<0xFF>; then the pieces.
enum { LLAMA_UNK, LLAMA_BOS, LLAMA_EOS, LLAMA_BYTES, LLAMA_PIECES = LLAMA_BYTES + 256 };

// Reads token id, which begins at *at, into m.
static int token_read(Import *m, uint32_t id, float *score, const uint8_t *file, size_t n, size_t *at,
                      const char *path, Err *e) {
    size_t most = u32_at(file), where = *at;
    unsigned long number = id;
    if (n - where < 8) return err_set(e, "%s: byte %zu: the file ends in token %lu", path, where, number);
    *score = f32_of(u32_at(file + where));
    size_t len = u32_at(file + where + 4);
    const uint8_t *text = file + where + 8;
    if (!isfinite(*score))
        return err_set(e, "%s: byte %zu: score of token %lu, want a finite number", path, where, number);
    if (len < 1 || len > most || len > n - where - 8)
        return err_set(e, "%s: byte %zu: token %lu of %ld bytes, want 1..%zu in the file", path, where + 4,
                       number, (long)(int32_t)len, most);
    *at = where + 8 + len;

    uint8_t byte = (uint8_t)((id - LLAMA_BYTES) & 255);
    uint8_t flag = id < LLAMA_BYTES ? TOKEN_SPECIAL : id < LLAMA_PIECES ? TOKEN_BYTE : TOKEN_NORMAL;
    char spelt[8];
    snprintf(spelt, sizeof spelt, "<0x%02X>", (unsigned)byte);
    if (flag == TOKEN_BYTE) {
        if (len != 6 || memcmp(text, spelt, 6) != 0)
            return err_set(e, "%s: byte %zu: token %lu, want %s", path, where + 8, number, spelt);
        text = &byte;
        len = 1;
    }
    if (flag == TOKEN_SPECIAL) {                  // for display, export.py puts <s> and </s> between newlines
        while (len > 1 && *text == '\n') text++, len--;
        while (len > 1 && text[len - 1] == '\n') len--;
    }
    return vocab_token(m, text, len, flag, e);
}

static int tokenizer_read(Import *m, const char *path, Err *e) {
    uint8_t *file = NULL;
    float *score = NULL;
    size_t n, at = 4, vocab = (size_t)m->cfg.vocab;
    int rc = -1;
    if (import_read(m, path, "vocab sha256 ", TOKENIZER_MAX, &file, &n, e)) goto out;
    if (n < 4 || u32_at(file) < 6 || u32_at(file) > TOKEN_MAX) {
        err_set(e, "%s: byte 0: longest token of %lu bytes, want 6..%d", path,
                n < 4 ? 0 : (unsigned long)u32_at(file), TOKEN_MAX);
        goto out;
    }
    if (vocab < LLAMA_PIECES || vocab > n / 9) {  // 9: bytes of the smallest token
        err_set(e, "%s: %zu bytes, want the model's %zu tokens, %d or more", path, n, vocab, LLAMA_PIECES);
        goto out;
    }
    if (!(score = calloc(vocab, sizeof *score))) { err_set(e, "%s: out of memory", path); goto out; }
    if (vocab_begin(m, TOK_SCORED, (uint32_t)vocab, 0, n, e)) goto out;
    for (uint32_t i = 0; i < vocab; i++)
        if (token_read(m, i, &score[i], file, n, &at, path, e)) goto out;
    if (at != n) {
        err_set(e, "%s: %zu bytes after the model's %zu tokens, want none", path, n - at, vocab);
        goto out;
    }
    // llama2.c stops at <s>, which stands between the stories it learned from; </s> does not occur in them.
    // So <s> is end-of-text too.
    m->tok.eot = m->tok.bos = LLAMA_BOS;
    m->tok.add_space = true;
    rc = vocab_scores(m, score, path, e) || vocab_end(m, path, e) ? -1 : 0;
out:
    free(file);
    free(score);
    return rc;
}

int llama2c_read(Import *m, const char *path, const Ask *ask, Err *e) {
    uint8_t *file = NULL;
    size_t n;
    int rc = -1;
    if (header_check(path, e) ||
        import_say(m, "convert tune.c " TUNE_VERSION ", ", "llama2.c version 0", e)) return -1;
    if (import_read(m, path, "model sha256 ", MODEL_MAX, &file, &n, e)) goto out;
    if (config_read(&m->cfg, path, file, n, e) || import_weights(m, e)) goto out;
    if (weights_read(m, file + 28, file + n, e) || import_check(m, path, e)) goto out;
    rc = ask->tokenizer ? tokenizer_read(m, ask->tokenizer, e) : 0;
out:
    free(file);
    return rc;
}

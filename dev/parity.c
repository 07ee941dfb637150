// parity.c -- what a checkpoint computes, as raw numbers for dev/parity.py to compare. `make parity` builds it.
//
//     parity logits MODEL.bin ROWS OUT      the logits of every token of every row, (N,V)
//     parity grads MODEL.bin ROWS OUT       the gradient of the mean loss, tensor after tensor as in the checkpoint;
//                                           on standard output the loss, and a line "name dim dim dim" for each tensor
//     parity logits|grads ADAPTER ROWS OUT BASE.bin      the same of an adapter; the gradients of its own tensors alone
//     parity greedy MODEL.bin ROWS OUT N    the N likeliest tokens, one after the other, that follow each row, (B,N);
//                                           nothing ends them early
//     parity encode MODEL.bin TEXT OUT      token ids of a file's text; special tokens are recognised in it
//
// ROWS, OUT: no header, little-endian 4-byte numbers. ROWS holds B, T, the rows' lengths (B), token ids (B,T), and for
// grads the targets (B,T), -1 for none; OUT holds floats or ids. It is no tool for users: chat and eval are.
#include "../model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_BYTES = 1 << 26, TEXT_BYTES = 1 << 24, MADE_MAX = 1 << 16, WORDS = 5 };

typedef struct {
    Checkpoint k;
    Model m;
    void *block;
    Batch b;                          // its arrays point into rows
    int32_t *rows;                    // (2 + B + B*T), twice B*T with targets
    Writer *out;
} Run;

// ---- numbers in and out -----------------------------------------------------------------------------------

static uint32_t u32_from(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

// n numbers of 4 bytes each: floats or int32_t
static int put_words(Writer *w, const void *words, size_t n, Err *e) {
    uint8_t buffer[4096];
    for (size_t at = 0, now; at < n; at += now) {
        now = n - at < sizeof buffer / 4 ? n - at : sizeof buffer / 4;
        for (size_t i = 0; i < now; i++) {
            uint32_t u;
            memcpy(&u, (const char *)words + 4 * (at + i), sizeof u);
            for (int k = 0; k < 4; k++) buffer[4 * i + (size_t)k] = (uint8_t)(u >> 8 * k);
        }
        if (writer_put(w, buffer, 4 * now, e)) return -1;
    }
    return 0;
}

// The file's size must be that of its B and T; ids and lengths are the model's to check.
static int rows_open(Run *r, const char *path, bool targets, Err *e) {
    uint8_t *data = NULL;
    size_t n;
    if (file_read(path, ROWS_BYTES, &data, &n, e)) return -1;
    size_t words = n / 4, B = words < 2 ? 0 : u32_from(data), T = words < 2 ? 0 : u32_from(data + 4);
    bool fits = n % 4 == 0 && B > 0 && T > 0 && B < words && T <= words / B;      // so B * T does not wrap
    if (!fits || words != 2 + B + (targets ? 2 : 1) * B * T) {
        free(data);
        return err_set(e, "%s: %zu bytes, want 2 + B + %s numbers of 4 bytes, the first two B and T", path, n,
                       targets ? "2*B*T" : "B*T");
    }
    r->rows = malloc(words * sizeof *r->rows);
    for (size_t i = 0; r->rows && i < words; i++) {
        uint32_t u = u32_from(data + 4 * i);
        memcpy(&r->rows[i], &u, sizeof u);
    }
    free(data);
    if (!r->rows) return err_set(e, "out of memory for %s", path);
    const int32_t *len = r->rows + 2, *tok = len + B;
    r->b = (Batch){tok, targets ? tok + B * T : NULL, len, NULL, B, T};
    return 0;
}

static int model_open(Run *r, const char *path, const Shape *s, Err *e) {
    Fault f;
    Plan plan;
    if (model_plan(&plan, &r->k.cfg, s, &f)) return err_fault(e, path, &f);
    if (!(r->block = block_alloc(plan.bytes, e))) return -1;
    model_bind(&r->m, &plan, r->block);
    return checkpoint_read(&r->k, &r->m.w, &r->m.h, e);
}

// ---- the commands -----------------------------------------------------------------------------------------

static int logits(Run *r, const char *model, Err *e) {
    Shape s = {.rows = r->b.B, .seq = r->b.T, .threads = cores()};
    Fault f;
    if (model_open(r, model, &s, e)) return -1;
    if (model_forward(&r->m, &r->b, &f)) return err_fault(e, "rows", &f);
    for (size_t i = 0; i < r->m.N; i++) {
        int32_t row = (int32_t)i;
        if (put_words(r->out, model_logits(&r->m, &row, 1), (size_t)r->k.cfg.vocab, e)) return -1;
    }
    return 0;
}

static size_t targets_of(const Batch *b) {
    size_t n = 0;
    for (size_t i = 0; i < b->B; i++)
        for (int32_t t = 0; t < b->len[i]; t++) n += b->target[i * b->T + (size_t)t] >= 0;
    return n;
}

static int grads(Run *r, const char *model, Err *e) {
    Shape s = {.rows = r->b.B, .seq = r->b.T, .step_tokens = r->b.B * r->b.T, .train = true, .threads = cores()};
    Fault f;
    double sum = 0;
    if (model_open(r, model, &s, e)) return -1;
    model_zero_grad(&r->m);
    if (model_forward(&r->m, &r->b, &f)) return err_fault(e, "rows", &f);
    size_t targets = targets_of(&r->b);
    if (targets == 0) return err_set(e, "rows: no target, want one or more");
    model_loss(&r->m, &r->b, 1.0f / (float)targets, &sum, NULL);
    model_backward(&r->m, &r->b);
    model_grad_norm(&r->m);
    printf("loss %.9g\n", sum / (double)targets);
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&r->k.cfg, i);
        if (!t.trained || t.size == 0) continue;
        printf("%s %zu %zu %zu\n", t.name, t.dim[0], t.dim[1], t.dim[2]);
        if (put_words(r->out, tensor_data(&r->m.g, &t), t.size, e)) return -1;
    }
    return 0;
}

static int32_t likeliest(Model *m) {
    int32_t last = (int32_t)(m->N - 1), best = 0;
    const float *z = model_logits(m, &last, 1);
    for (int32_t i = 1; i < m->cfg.vocab; i++)
        if (z[i] > z[best]) best = i;
    return best;
}

static int greedy(Run *r, const char *model, size_t n, Err *e) {
    Shape s = {.rows = 1, .seq = r->b.T, .cached = r->b.T + n, .threads = cores()};
    Fault f;
    if (model_open(r, model, &s, e)) return -1;
    for (size_t i = 0; i < r->b.B; i++) {
        const int32_t *tok = r->b.tok + i * r->b.T;
        int32_t len = r->b.len[i], past = 0, id;
        for (size_t made = 0; made < n; made++) {
            if (len < 1) return err_set(e, "rows: row %zu is empty", i);
            if (model_forward(&r->m, &(Batch){tok, NULL, &len, &past, 1, made ? 1 : r->b.T}, &f))
                return err_fault(e, "rows", &f);
            past += len;
            id = likeliest(&r->m);
            if (put_words(r->out, &id, 1, e)) return -1;
            tok = &id;
            len = 1;
        }
    }
    return 0;
}

static int encode(Run *r, const char *path, Err *e) {
    uint8_t *text = NULL;
    size_t n;
    if (r->k.tok.kind == TOK_NONE) return err_set(e, "%s: has no tokenizer", r->k.path);
    if (file_read(path, TEXT_BYTES, &text, &n, e)) return -1;
    int32_t *id = malloc(tokenizer_most(&r->k.tok, n) * sizeof *id);
    void *scratch = malloc(tokenizer_encode_size(&r->k.tok, n));
    int rc = id && scratch ? 0 : err_set(e, "out of memory for %s", path);
    if (!rc) rc = put_words(r->out, id, tokenizer_encode(&r->k.tok, text, n, true, id, scratch), e);
    free(text);
    free(id);
    free(scratch);
    return rc;
}

// ---- main -------------------------------------------------------------------------------------------------

static int run(Run *r, const char *const *word, int words, Err *e) {
    const char *what = words ? word[0] : "", *model = word[1], *in = word[2], *out = word[3];
    bool more = !strcmp(what, "greedy"), known = more || !strcmp(what, "logits") || !strcmp(what, "grads");
    const char *base = known && !more ? word[4] : NULL;
    if ((!known && strcmp(what, "encode")) || words != (more || base ? 5 : 4))
        return err_set(e, "want logits|grads|greedy|encode MODEL.bin IN OUT, for greedy also a number of tokens, "
                       "for an adapter its base");
    long n = more ? strtol(word[4], NULL, 10) : 0;
    if (more && (n < 1 || n > MADE_MAX)) return err_set(e, "'%s' tokens, want 1..%d", word[4], MADE_MAX);
    if (checkpoint_open(&r->k, model, base, e)) return -1;
    if (known && rows_open(r, in, !strcmp(what, "grads"), e)) return -1;
    if (!(r->out = writer_open(out, e))) return -1;
    if (more) return greedy(r, model, (size_t)n, e);
    if (!known) return encode(r, in, e);
    return !strcmp(what, "grads") ? grads(r, model, e) : logits(r, model, e);
}

int main(int argc, char **argv) {
    static Run r;
    Err e = {""};
    const char *word[WORDS] = {NULL};
    int words = 0;
    int rc = options_parse(NULL, 0, argc, argv, word, WORDS, &words, &e);
    if (!rc) rc = run(&r, word, words, &e);
    Err late = {""};
    if (writer_close(r.out, rc == 0, &late) && !rc) { rc = -1; e = late; }
    if (rc) fprintf(stderr, "parity: %s\n", e.msg);
    block_free(r.block);
    free(r.rows);
    checkpoint_close(&r.k);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

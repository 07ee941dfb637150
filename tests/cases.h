// cases.h -- what test_model.c and test_grad.c share: models in memory of their own, and the weights and
// tokens of the golden models (dev/golden.py has the same few lines in Python). Include it after ../model.c.
#include "golden.h"
enum { GOLDENS = sizeof GOLDEN / sizeof GOLDEN[0] };
enum { MAX_ROWS = 16, MAX_TOKENS = 1600 };    // B and B*T of the largest batch in the tests

// ---- models -----------------------------------------------------------------------------------------------

// A model with its memory. The block begins as bytes 0xFF (NaN as a float, -1 as a number), so that whatever
// is read before it is written shows up in a result.
typedef struct {
    Model m;
    void *memory;
} Own;

static void tensor_fill(const Params *p, const Config *c, float x) {
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(c, i);
        float *to = tensor_data(p, &t);           // NULL: frozen, or not of this model
        for (size_t k = 0; to && k < t.size; k++) to[k] = x;
    }
}

static Own own_model(const Config *c, const Shape *s) {
    Own o;
    Plan p;
    Fault f = {"", 0, 0, 0};
    ck_assert_msg(model_plan(&p, c, s, &f) == 0, "%s = %lld, want %lld..%lld", f.what, (long long)f.value,
                  (long long)f.lo,
                  (long long)f.hi);
    o.memory = malloc(p.bytes + 64);
    ck_assert_ptr_nonnull(o.memory);
    memset(o.memory, 0xFF, p.bytes + 64);
    model_bind(&o.m, &p, (char *)o.memory + (64 - (uintptr_t)o.memory % 64));
    if (s->train) {
        tensor_fill(&o.m.m1, c, 0);
        tensor_fill(&o.m.m2, c, 0);
        model_zero_grad(&o.m);
    }
    return o;
}

// For training on micro-batches of B rows, in steps of up to step_rows rows.
static inline Own own_trainer(const Config *c, size_t B, size_t T, size_t step_rows, int threads) {
    Shape s = {.rows = B, .seq = T, .step_tokens = step_rows * T, .cached = 0, .train = true,
               .threads = threads};
    return own_model(c, &s);
}

static void own_free(Own *o) { free(o->memory); }

// ---- weights and tokens of the golden models --------------------------------------------------------------

static uint64_t splitmix64(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static bool is_gain(const Tensor *t) {
    return t->where == offsetof(Params, ln1w) || t->where == offsetof(Params, ln2w)
           || t->where == offsetof(Params, lnfw) || t->where == offsetof(Params, qnw)
           || t->where == offsetof(Params, knw);
}

static inline void golden_weights(Model *m) {
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&m->cfg, i);
        float *w = tensor_data(&m->w, &t);
        for (size_t e = 0; e < t.size; e++) {
            double u = (double)(splitmix64(((uint64_t)i << 32) + e) >> 42) / 2097152.0 - 1.0;
            w[e] = (float)(is_gain(&t) ? 1.0 + u / 4.0 : t.decay ? u / 2.0 : u / 4.0);
        }
    }
}

typedef struct {
    int32_t tok[MAX_TOKENS], target[MAX_TOKENS], len[MAX_ROWS], past[MAX_ROWS];
    size_t targets;                   // how many positions have one
    Batch b;                          // its pointers point to the arrays above: do not copy
} Rectangle;

// What lies behind the end of a row, and must never be looked at, is a token and a target that no model has.
static void rectangle(Rectangle *r, int32_t vocab, size_t B, size_t T, const int *len, int step) {
    ck_assert(B <= MAX_ROWS && B * T <= MAX_TOKENS);
    r->targets = 0;
    for (size_t b = 0; b < B; b++) {
        r->len[b] = len[b];
        r->past[b] = 0;
        for (size_t t = 0; t < T; t++) {
            uint64_t V = (uint64_t)vocab, e = b * T + t, shift = 7 * (uint64_t)step;
            uint64_t x = splitmix64(((uint64_t)101 << 32) + e);
            uint64_t tok = splitmix64(((uint64_t)100 << 32) + e) % ((V + 1) / 2);
            bool inside = t < (size_t)len[b], asked = inside && x % 3 != 0;
            r->tok[e] = inside ? (int32_t)((tok + shift) % V) : INT32_MAX;
            r->target[e] = asked ? (int32_t)(((x >> 8) % V + shift) % V) : inside ? -1 : INT32_MAX;
            r->targets += asked;
        }
    }
    r->b = (Batch){.tok = r->tok, .target = r->target, .len = r->len, .past = NULL, .B = B, .T = T};
}

static void golden_batch(Rectangle *r, const Golden *g, int step) {
    rectangle(r, g->cfg.vocab, (size_t)g->B, (size_t)g->T, g->len, step);
}

// Adds the gradient of `scale` times the summed loss of a micro-batch; returns that sum.
static double add_gradient(Model *m, const Batch *b, float scale) {
    Fault f;
    double sum = 0;
    ck_assert_int_eq(model_forward(m, b, &f), 0);
    model_loss(m, b, scale, &sum, NULL);
    model_backward(m, b);
    return sum;
}

// GPT-2's key biases have the gradient 0: they add the same number to all scores of a query, and the softmax
// takes it out again. With rotary positions or a norm behind the bias this is no longer so.
static inline bool key_bias_is_idle(const Config *c, const Tensor *t) {
    return t->where == offsetof(Params, qkvb) && !c->rope && !c->qk_norm;
}

// Is element e of a qkvb (L,Q) one of the keys?
static inline bool is_key(const Config *c, size_t e) {
    size_t A = (size_t)(c->heads * c->head_size), KV = (size_t)(c->kv_heads * c->head_size);
    size_t column = e % (A + 2 * KV);
    return A <= column && column < A + KV;
}

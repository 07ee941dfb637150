// test_model.c -- model.c in float: against PyTorch's numbers, and against itself where two ways must give
// the same bits. Run it from the project's top folder, where tests/golden_NAME.bin are found. test_grad.c
// checks the gradients themselves.
#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include "../model.c"
#include "cases.h"
#include "run.h"

// Check notes where each ck_assert stands, through a file: too slow for one number out of millions. REQUIRE
// notes failures only.
#define REQUIRE(expression, ...) do { if (!(expression)) ck_abort_msg(__VA_ARGS__); } while (0)

// ---- comparing --------------------------------------------------------------------------------------------

// ||x - y|| / ||y||. NaN anywhere, or a y of zeros, makes it NaN, which is not <= any bar.
static double distance(const float *x, const float *y, size_t n) {
    double off = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        off += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        norm += (double)y[i] * (double)y[i];
    }
    return sqrt(off / norm);
}

static bool same_bits(const float *x, const float *y, size_t n) { return memcmp(x, y, n * sizeof *x) == 0; }

static void same_params(const char *what, const Config *c, const Params *p, const Params *q) {
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(c, i);
        const float *x = tensor_data(p, &t), *y = tensor_data(q, &t);
        for (size_t e = 0; e < t.size; e++)
            REQUIRE(same_bits(x + e, y + e, 1), "%s: %s[%zu] is %a and %a", what, t.name, e, (double)x[e],
                    (double)y[e]);
    }
}

static int forward(Model *m, const Batch *b) {
    Fault f = {"", 0, 0, 0};
    int rc = model_forward(m, b, &f);
    ck_assert_msg(rc == 0, "%s = %lld, want %lld..%lld", f.what, (long long)f.value, (long long)f.lo,
                  (long long)f.hi);
    return rc;
}

// The logits of all tokens of a batch, one after the other: (N,V), to be freed.
static float *all_logits(Model *m, const Batch *b) {
    size_t V = (size_t)m->cfg.vocab;
    forward(m, b);
    float *out = malloc((m->N + 1) * V * sizeof *out);
    ck_assert_ptr_nonnull(out);
    for (size_t n = 0; n < m->N; n += HEAD_ROWS) {
        int32_t rows[HEAD_ROWS];
        size_t some = m->N - n < HEAD_ROWS ? m->N - n : HEAD_ROWS;
        for (size_t i = 0; i < some; i++) rows[i] = (int32_t)(n + i);
        memcpy(out + n * V, model_logits(m, rows, some), some * V * sizeof *out);
    }
    return out;
}

// For running without gradients, with room for `cached` positions of each row in the cache.
static Own own_runner(const Config *c, size_t B, size_t T, size_t cached) {
    Shape s = {.rows = B, .seq = T, .step_tokens = 0, .cached = cached, .train = false, .threads = 2};
    return own_model(c, &s);
}

// Rows first..first+n-1 of a batch.
static Batch rows_of(const Batch *b, size_t first, size_t n) {
    return (Batch){.tok = b->tok + first * b->T, .target = b->target + first * b->T, .len = b->len + first,
                   .past = b->past ? b->past + first : NULL, .B = n, .T = b->T};
}

// ---- the models of the identities -------------------------------------------------------------------------
// The golden models, and two that are wide enough for loops to be split over threads, for blocks over k
// (width, hidden, the number of tokens and the longest row are above 256), and for several panels with a
// rest.

enum { CASES = GOLDENS + 2 };
static const Golden WIDE[] = {
    {.name = "gpt2_wide", .B = 4, .T = 262, .len = {31, 262, 0, 1},
     .cfg = {.vocab = 310, .context = 264, .layers = 1, .heads = 5, .kv_heads = 5, .head_size = 37,
             .width = 270,
             .hidden = 291, .bias = 1, .tied = 1, .norm_eps = 1e-5f}},
    {.name = "llama_wide", .B = 4, .T = 259, .len = {259, 0, 13, 25},
     .cfg = {.vocab = 301, .context = 300, .layers = 1, .heads = 6, .kv_heads = 2, .head_size = 34,
             .width = 275,
             .hidden = 290, .rms = 1, .rope = 1, .swiglu = 1, .qkv_bias = 1, .qk_norm = 1, .norm_eps = 1e-5f,
             .rope_theta = 10000.0f}},
};

static const Golden *case_of(int i) { return i < GOLDENS ? &GOLDEN[i] : &WIDE[i - GOLDENS]; }

// The wide models' matrices are made smaller, lest activations grow until each softmax is 0 and 1.
static void case_weights(Model *m) {
    golden_weights(m);
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&m->cfg, i);
        if (t.decay && m->cfg.width > 256)
            for (size_t e = 0; e < t.size; e++) tensor_data(&m->w, &t)[e] /= 4.0f;
    }
}

// ---- against PyTorch --------------------------------------------------------------------------------------

// golden_NAME.bin, to be freed: gradients of all tensors, then what 20 steps add to them, in table order.
static float *golden_read(const Golden *g) {
    char path[64];
    size_t n = 2 * model_params(&g->cfg);
    snprintf(path, sizeof path, "tests/golden_%s.bin", g->name);
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s cannot be read; the test runs in the top folder", path);
    float *x = malloc(n * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < n; i++) {
        unsigned char byte[4];
        ck_assert_uint_eq(fread(byte, 1, 4, f), 4);
        uint32_t u = byte[0] | (uint32_t)byte[1] << 8 | (uint32_t)byte[2] << 16 | (uint32_t)byte[3] << 24;
        memcpy(&x[i], &u, 4);
    }
    ck_assert_int_eq(fgetc(f), EOF);
    fclose(f);
    return x;
}

// Compares each tensor of p with its numbers in `want`, which are all there is: key biases that have no
// effect (cases.h) are taken out on both sides, and their norm must be below idle_bar of that of the query
// biases.
static void compare(const char *name, const char *what, const Config *c, const Params *p, const float *want,
                    double bar, double idle_bar) {
    double worst = 0;
    const char *where = "";
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(c, i);
        if (t.size == 0) continue;
        float *x = malloc(2 * t.size * sizeof *x), *y = x + t.size;
        ck_assert_ptr_nonnull(x);
        size_t n = 0, L = t.dim[0], Q = t.dim[1];
        double idle = 0, query = 0;
        for (size_t e = 0; e < t.size; e++) {
            float got = tensor_data(p, &t)[e];
            bool skip = key_bias_is_idle(c, &t) && is_key(c, e);
            if (skip) idle += (double)got * (double)got;
            else { x[n] = got; y[n++] = want[e]; }
            if (e % Q < (size_t)(c->heads * c->head_size)) query += (double)got * (double)got;
        }
        ck_assert_uint_eq(n, key_bias_is_idle(c, &t) ? t.size - L * Q / 3 : t.size);
        if (n < t.size && idle_bar > 0)
            ck_assert_msg(sqrt(idle / query) <= idle_bar, "%s: key biases' %s %g, queries' %g", name, what,
                          sqrt(idle), sqrt(query));
        double off = distance(x, y, n);
        ck_assert_msg(off <= bar, "%s: %s of %s is off by %g", name, what, t.name, off);
        if (off > worst) {
            worst = off;
            where = t.name;
        }
        want += t.size;
        free(x);
    }
    printf("%-12s %s: worst %.1e (%s)\n", name, what, worst, where);
}

START_TEST(loss_and_gradients_are_pytorchs) {
    const Golden *g = &GOLDEN[_i];
    static Rectangle r;
    golden_batch(&r, g, 0);
    if (strstr(g->name, "_long")) ck_assert_uint_gt(r.targets, HEAD_ROWS);    // the head takes them in two chunks
    Own o = own_trainer(&g->cfg, r.b.B, r.b.T, r.b.B, 2);
    golden_weights(&o.m);
    float *want = golden_read(g);
    double loss = add_gradient(&o.m, &r.b, 1.0f / (float)r.targets) / (double)r.targets;
    double norm = model_grad_norm(&o.m);
    printf("%-12s loss: off by %.1e, norm by %.1e\n", g->name, fabs(loss / g->loss[0] - 1),
           fabs(norm / g->norm[0] - 1));
    ck_assert(fabs(loss / g->loss[0] - 1) <= 1e-6);
    ck_assert(fabs(norm / g->norm[0] - 1) <= 1e-5);
    compare(g->name, "gradient", &g->cfg, &o.m.g, want, 1e-5, 1e-5);
    free(want);
    own_free(&o);
}
END_TEST

// Twenty steps, each on other tokens. The norms are above the clip in all steps of most models, and on either
// side of it in gpt2_long. Key biases without effect are left out: AdamW divides rounding noise by its own
// size.
START_TEST(twenty_steps_are_pytorchs) {
    const Golden *g = &GOLDEN[_i];
    static Rectangle r;
    double worst_loss = 0, worst_norm = 0;
    Own o = own_trainer(&g->cfg, (size_t)g->B, (size_t)g->T, (size_t)g->B, 2);
    Own start = own_trainer(&g->cfg, 1, 1, 1, 1);
    golden_weights(&o.m);
    golden_weights(&start.m);
    for (int step = 0; step < GOLDEN_STEPS; step++) {
        golden_batch(&r, g, step);
        model_zero_grad(&o.m);
        double loss = add_gradient(&o.m, &r.b, 1.0f / (float)r.targets) / (double)r.targets;
        double norm = model_grad_norm(&o.m);
        double off_loss = fabs(loss / g->loss[step] - 1), off_norm = fabs(norm / g->norm[step] - 1);
        ck_assert_msg(off_loss <= 1e-5 && off_norm <= 1e-4, "step %d: loss %g, want %g; norm %g, want %g",
                      step, loss, g->loss[step], norm, g->norm[step]);
        worst_loss = off_loss > worst_loss ? off_loss : worst_loss;
        worst_norm = off_norm > worst_norm ? off_norm : worst_norm;
        model_update(&o.m, &GOLDEN_ADAMW, norm, step + 1);
    }
    printf("%-12s 20 steps: loss off by %.1e, norm by %.1e\n", g->name, worst_loss, worst_norm);
    for (int i = 0; i < TENSORS; i++) {           // leave what was added in the weights' place
        Tensor t = model_tensor(&g->cfg, i);
        for (size_t e = 0; e < t.size; e++) tensor_data(&o.m.w, &t)[e] -= tensor_data(&start.m.w, &t)[e];
    }
    float *want = golden_read(g);
    compare(g->name, "update", &g->cfg, &o.m.w, want + model_params(&g->cfg), 1e-3, 0);
    free(want);
    own_free(&o);
    own_free(&start);
}
END_TEST

// ---- identities: the same bits in two ways ----------------------------------------------------------------

// All ways to cut the batch's rows into micro-batches give the same logits, loss and gradients.
// peers 20: one sum over the targets of a step, divided once
START_TEST(micro_batches_change_no_bit) {
    const Golden *g = case_of(_i);
    static Rectangle r;
    golden_batch(&r, g, 0);
    size_t B = r.b.B, V = (size_t)g->cfg.vocab;
    Own whole = own_trainer(&g->cfg, B, r.b.T, B, 2), parts = own_trainer(&g->cfg, B, r.b.T, B, 2);
    Own single = own_trainer(&g->cfg, 1, r.b.T, B, 2);
    case_weights(&whole.m);
    case_weights(&parts.m);
    case_weights(&single.m);
    float scale = 1.0f / (float)r.targets, *logits = all_logits(&whole.m, &r.b);
    double sum = 0, row_loss[MAX_ROWS], loss_of_row, total = 0;
    forward(&whole.m, &r.b);
    model_loss(&whole.m, &r.b, scale, &sum, row_loss);
    model_backward(&whole.m, &r.b);
    double norm = model_grad_norm(&whole.m);
    ck_assert(norm > 0 && sum > 0);

    for (unsigned cuts = 0; cuts < 1u << (B - 1); cuts++) {   // bit i: a new micro-batch begins behind row i
        if (_i >= GOLDENS && cuts != 1) continue;
        model_zero_grad(&parts.m);
        double parts_sum = 0;
        for (size_t first = 0, n; first < B; first += n) {
            for (n = 1; first + n < B && !(cuts >> (first + n - 1) & 1); n++) {}
            Batch b = rows_of(&r.b, first, n);
            forward(&parts.m, &b);
            model_loss(&parts.m, &b, scale, &parts_sum, NULL);
            model_backward(&parts.m, &b);
        }
        ck_assert(parts_sum >= sum && parts_sum <= sum);
        double parts_norm = model_grad_norm(&parts.m);
        ck_assert(parts_norm >= norm && parts_norm <= norm);
        same_params("cut into micro-batches", &g->cfg, &parts.m.g, &whole.m.g);
    }

    double single_sum = 0;                        // and with memory for one row only
    const float *at = logits;
    for (size_t row = 0; row < B; row++) {
        Batch b = rows_of(&r.b, row, 1);
        float *x = all_logits(&single.m, &b);
        ck_assert_msg(same_bits(x, at, single.m.N * V), "logits of row %zu", row);
        at += single.m.N * V;
        free(x);
        forward(&single.m, &b);
        model_loss(&single.m, &b, scale, &single_sum, &loss_of_row);
        model_backward(&single.m, &b);
        ck_assert(loss_of_row >= row_loss[row] && loss_of_row <= row_loss[row]);
        total += loss_of_row;
    }
    model_grad_norm(&single.m);
    same_params("one row at a time", &g->cfg, &single.m.g, &whole.m.g);
    ck_assert(single_sum >= sum && single_sum <= sum);
    ck_assert(fabs(total / sum - 1) < 1e-12);
    free(logits);
    own_free(&whole);
    own_free(&parts);
    own_free(&single);
}
END_TEST

// The same rows in a wider rectangle, with other numbers behind their ends, in a model planned for more: the
// same bits.
// peers 19: the rows of a batch lie one after the other, and do not see each other
START_TEST(padding_changes_no_bit) {
    const Golden *g = case_of(_i);
    static Rectangle r, wide;
    golden_batch(&r, g, 0);
    size_t B = r.b.B, T = r.b.T, V = (size_t)g->cfg.vocab, W = T + 3;
    wide = r;
    wide.b.tok = wide.tok;
    wide.b.target = wide.target;
    wide.b.len = wide.len;
    wide.b.T = W;
    ck_assert_uint_le((B + 1) * W, MAX_TOKENS);
    for (size_t i = 0; i < B * W; i++) {
        size_t row = i / W, t = i % W;
        bool inside = t < (size_t)r.len[row];
        wide.tok[i] = inside ? r.tok[row * T + t] : (int32_t)(i % V);
        wide.target[i] = inside ? r.target[row * T + t] : (int32_t)((i + 1) % V);
    }
    Own o = own_trainer(&g->cfg, B, T, B, 2), p = own_trainer(&g->cfg, B + 2, T, B + 2, 2);
    case_weights(&o.m);
    case_weights(&p.m);
    float *x = all_logits(&o.m, &r.b), *y = all_logits(&p.m, &wide.b);
    ck_assert_uint_eq(o.m.N, p.m.N);
    ck_assert(same_bits(x, y, o.m.N * V));
    double sum = add_gradient(&o.m, &r.b, 0.01f), wide_sum = add_gradient(&p.m, &wide.b, 0.01f);
    ck_assert(sum >= wide_sum && sum <= wide_sum);
    model_grad_norm(&o.m);
    model_grad_norm(&p.m);
    same_params("padding", &g->cfg, &o.m.g, &p.m.g);
    free(x);
    free(y);
    own_free(&o);
    own_free(&p);
}
END_TEST

START_TEST(threads_change_no_bit) {
    const Golden *g = case_of(_i);
    static Rectangle r;
    const int threads[] = {1, 2, 3, 8};
    int steps = _i < GOLDENS ? 20 : 1;
    Own o[4];
    for (int k = 0; k < 4; k++) {
        o[k] = own_trainer(&g->cfg, (size_t)g->B, (size_t)g->T, (size_t)g->B, threads[k]);
        case_weights(&o[k].m);
        for (int step = 0; step < steps; step++) {
            golden_batch(&r, g, step);
            model_zero_grad(&o[k].m);
            add_gradient(&o[k].m, &r.b, 1.0f / (float)r.targets);
            model_update(&o[k].m, &GOLDEN_ADAMW, model_grad_norm(&o[k].m), step + 1);
        }
        same_params("weights", &g->cfg, &o[k].m.w, &o[0].m.w);
        same_params("first moments", &g->cfg, &o[k].m.m1, &o[0].m.m1);
        same_params("second moments", &g->cfg, &o[k].m.m2, &o[0].m.m2);
    }
    Own start = own_trainer(&g->cfg, 1, 1, 1, 1);         // and the steps did something
    case_weights(&start.m);
    ck_assert(distance(o[0].m.w.wte, start.m.w.wte, (size_t)(g->cfg.vocab * g->cfg.width)) > 1e-3);
    own_free(&start);
    for (int k = 0; k < 4; k++) own_free(&o[k]);
}
END_TEST

// Another token at position t of one row changes the logits there (and behind it, where attention looks), and
// no bit of the logits before it or of other rows.
START_TEST(no_position_sees_a_later_one) {
    const Golden *g = case_of(_i);
    static Rectangle r;
    golden_batch(&r, g, 0);
    size_t B = r.b.B, T = r.b.T, V = (size_t)g->cfg.vocab;
    Own o = own_runner(&g->cfg, B, T, 0);
    case_weights(&o.m);
    float *base = all_logits(&o.m, &r.b);
    size_t later = 0;                             // how many logits of later positions changed
    for (size_t row = 0, tried = 0; row < B; row++)
        for (size_t t = 0; t < (size_t)r.len[row]; t++) {
            if (T > 64 && t != 0 && t != 31 && t != 95 && t != 96 && t != 128 && t != 255) continue;
            if (_i >= GOLDENS && tried++ > 3) continue;
            int32_t *tok = &r.tok[row * T + t], was = *tok;
            *tok = (was + 1) % g->cfg.vocab;
            float *x = all_logits(&o.m, &r.b);
            *tok = was;
            for (size_t k = 0, n = 0; k < B; k++)
                for (size_t s = 0; s < (size_t)r.len[k]; s++, n++)
                    if (k != row || s <= t)
                        ck_assert_msg(same_bits(x + n * V, base + n * V, V) == (k != row || s < t),
                                      "token %zu of row %zu, logits %zu of row %zu", t, row, s, k);
                    else later += !same_bits(x + n * V, base + n * V, V);
            free(x);
        }
    ck_assert_uint_gt(later, 20);
    free(base);
    own_free(&o);
}
END_TEST

// Decodes the rows of r with a cache: first a part of each row, then up to `stride` tokens of each at a time
// until all rows are at their end; rows that end earlier, or begin later, wait with 0 tokens. Every logit
// must be that of `full`, the forward pass over whole rows.
static void decode(Model *m, const Rectangle *r, size_t first, size_t n, size_t stride, const float *full) {
    size_t V = (size_t)m->cfg.vocab, T = r->b.T, steps = 0;
    static int32_t tok[MAX_TOKENS];
    int32_t done[MAX_ROWS] = {0}, len[MAX_ROWS];
    for (bool more = true; more; steps++) {
        more = false;
        for (size_t k = 0; k < n; k++) {
            int32_t all = r->len[first + k], left = all - done[k], want = steps ? (int32_t)stride : all * 2 / 3;
            if (steps == 0 && k == 0 && n > 1) want = 0;       // a row that begins later than the others
            len[k] = left < want ? left : want;
            more |= left > len[k];
            const int32_t *next = r->tok + (first + k) * T + done[k];
            for (int32_t t = 0; t < (int32_t)T; t++) tok[k * T + (size_t)t] = t < len[k] ? next[t] : INT32_MAX;
        }
        Batch b = {.tok = tok, .target = NULL, .len = len, .past = done, .B = n, .T = T};
        float *x = all_logits(m, &b), *at = x;
        for (size_t k = 0; k < n; k++) {
            const float *want = full;
            for (size_t row = 0; row < first + k; row++) want += (size_t)r->len[row] * V;
            ck_assert_msg(same_bits(at, want + (size_t)done[k] * V, (size_t)len[k] * V),
                          "row %zu from position %d, %d tokens",
                          first + k, (int)done[k], (int)len[k]);
            at += (size_t)len[k] * V;
            done[k] += len[k];
        }
        free(x);
    }
    for (size_t k = 0; k < n; k++) ck_assert_int_eq(done[k], r->len[first + k]);
}

START_TEST(decoding_is_the_forward_pass) {
    const Golden *g = case_of(_i);
    static Rectangle r;
    golden_batch(&r, g, 0);
    size_t B = r.b.B, T = r.b.T;
    Own whole = own_runner(&g->cfg, B, T, 0), cached = own_runner(&g->cfg, B, T, T);
    Own single = own_runner(&g->cfg, 1, T, (size_t)g->cfg.context), train = own_trainer(&g->cfg, B, T, B, 1);
    case_weights(&whole.m);
    case_weights(&cached.m);
    case_weights(&single.m);
    case_weights(&train.m);
    float *full = all_logits(&whole.m, &r.b), *trained = all_logits(&train.m, &r.b);
    ck_assert(same_bits(full, trained, whole.m.N * (size_t)g->cfg.vocab));  // kept activations change nothing
    free(trained);
    decode(&cached.m, &r, 0, B, 1, full);
    decode(&cached.m, &r, 0, B, 3, full);         // over what the first left in the cache
    decode(&cached.m, &r, 0, B, T, full);
    for (size_t row = 0; row < B; row++) decode(&single.m, &r, row, 1, _i < GOLDENS ? 1 : 7, full);
    free(full);
    own_free(&whole);
    own_free(&cached);
    own_free(&single);
    own_free(&train);
}
END_TEST

// Rows may be asked for in any order, and more than once.
START_TEST(logits_of_any_rows) {
    const Golden *g = &GOLDEN[_i];
    static Rectangle r;
    golden_batch(&r, g, 0);
    size_t V = (size_t)g->cfg.vocab;
    Own o = own_runner(&g->cfg, r.b.B, r.b.T, 0);
    golden_weights(&o.m);
    float *all = all_logits(&o.m, &r.b);
    int32_t rows[32], N = (int32_t)o.m.N;
    for (int32_t i = 0; i < 32; i++) rows[i] = (N - 1 - i * 3 % N + N) % N;
    const float *some = model_logits(&o.m, rows, 32);
    for (size_t i = 0; i < 32; i++) ck_assert(same_bits(some + i * V, all + (size_t)rows[i] * V, V));
    free(all);
    own_free(&o);
}
END_TEST

// Without the loss's backward pass (scale 0) nothing but the sum is touched.
START_TEST(loss_alone_leaves_gradients) {
    const Golden *g = &GOLDEN[_i];
    static Rectangle r;
    golden_batch(&r, g, 0);
    Own o = own_trainer(&g->cfg, r.b.B, r.b.T, r.b.B, 1), zero = own_trainer(&g->cfg, 1, 1, 1, 1);
    golden_weights(&o.m);
    double sum = 0, again = 0;
    forward(&o.m, &r.b);
    model_loss(&o.m, &r.b, 0, &sum, NULL);
    same_params("gradients", &g->cfg, &o.m.g, &zero.m.g);
    again = add_gradient(&o.m, &r.b, 1);
    ck_assert(sum >= again && sum <= again && isfinite(sum));
    own_free(&o);
    own_free(&zero);
}
END_TEST

// A weight that is not a number must show in the loss, wherever it is.
START_TEST(nan_shows_in_the_loss) {
    const Golden *g = &GOLDEN[_i];
    static Rectangle r;
    golden_batch(&r, g, 0);
    Own o = own_trainer(&g->cfg, r.b.B, r.b.T, r.b.B, 1);
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&g->cfg, i);
        if (t.size == 0) continue;
        // a position that occurs; a token that does not
        size_t e = t.where == offsetof(Params, wpe) ? 0 : t.size - 1;
        double sum = 0;
        golden_weights(&o.m);
        tensor_data(&o.m.w, &t)[e] = NAN;
        forward(&o.m, &r.b);
        model_loss(&o.m, &r.b, 0, &sum, NULL);
        if (t.where == offsetof(Params, wte) && !g->cfg.tied) ck_assert(isfinite(sum));
        else ck_assert_msg(!isfinite(sum), "%s.%s[%zu] is NaN, and the loss is %g", g->name, t.name, e, sum);
    }
    own_free(&o);
}
END_TEST

// ---- AdamW ------------------------------------------------------------------------------------------------
// What 20 steps do is compared with PyTorch above.

START_TEST(no_clip_and_no_rate) {
    const Golden *g = &GOLDEN[_i];
    static Rectangle r;
    AdamW opt[] = {GOLDEN_ADAMW, GOLDEN_ADAMW, GOLDEN_ADAMW, GOLDEN_ADAMW};
    Own o[4], start = own_trainer(&g->cfg, 1, 1, 1, 1);
    opt[0].clip = 0;                              // no clipping
    opt[1].clip = 1e30f;                          // a clip that is never reached
    opt[3].lr = 0;
    golden_weights(&start.m);
    golden_batch(&r, g, 0);
    for (int k = 0; k < 4; k++) {
        o[k] = own_trainer(&g->cfg, r.b.B, r.b.T, r.b.B, 1);
        golden_weights(&o[k].m);
        add_gradient(&o[k].m, &r.b, 1);           // the sum: a norm far above the clip
        model_update(&o[k].m, &opt[k], model_grad_norm(&o[k].m), 1);
    }
    same_params("clip 0 and 1e30", &g->cfg, &o[0].m.m1, &o[1].m.m1);
    same_params("clip 0 and 1e30", &g->cfg, &o[0].m.w, &o[1].m.w);
    ck_assert(!same_bits(o[0].m.m1.qkvw, o[2].m.m1.qkvw, (size_t)g->cfg.width));
    same_params("rate 0", &g->cfg, &o[3].m.w, &start.m.w);
    for (int k = 0; k < 4; k++) own_free(&o[k]);
    own_free(&start);
}
END_TEST

START_TEST(schedule_rises_and_falls) {
    const int64_t warmup[] = {0, 1, 10, 100};
    for (int k = 0; k < 4; k++)
        for (int64_t step = 1; step <= 100; step++)
            for (int kind = COSINE; kind <= CONSTANT; kind++) {
                double w = (double)warmup[k], done = ((double)step - w - 1) / (100 - w);
                double half_turn = acos(-1.0), line = 1 - done;
                double fall = kind == COSINE ? 0.5 + 0.5 * cos(half_turn * done) : kind == LINEAR ? line : 1;
                double want = step <= warmup[k] ? (double)step / w : fall;
                double got = (double)model_schedule((Schedule)kind, 1e-3f, warmup[k], 100, step);
                ck_assert_msg(fabs(got - 1e-3 * want) <= 1e-9 && got > 0,
                              "schedule %d, warmup %d: step %d has %g, want %g",
                              kind, (int)warmup[k], (int)step, got, 1e-3 * want);
            }
}
END_TEST

// ---- matrix product ---------------------------------------------------------------------------------------

enum { GAP = 5 };                                 // floats behind each row of out, which must stay as they are

static void random_floats(float *x, size_t n, uint64_t seed) {
    for (size_t i = 0; i < n; i++) x[i] = (float)(int32_t)(splitmix64(seed + i) >> 40) * 0x1p-23f - 1.0f;
}

// One product, checked bit by bit against its definition. at, bt: the operands lie transposed. start: from zero, from
// a bias, from what out holds. gap: floats between out's rows.
static void check_product(Model *m, size_t M, size_t K, size_t N, bool at, bool bt, int start, size_t gap) {
    size_t ldo = N + gap;
    float *a = malloc(M * K * sizeof *a), *b = malloc(K * N * sizeof *b), *bias = malloc(N * sizeof *bias);
    float *out = malloc(2 * M * ldo * sizeof *out), *want = out + M * ldo;
    ck_assert(a && b && bias && out);
    random_floats(a, M * K, 0);
    random_floats(b, K * N, 1000003);
    for (size_t j = 0; j < N; j++) bias[j] = (float)j * 0.37f - 5.0f;
    for (size_t i = 0; i < M * ldo; i++) out[i] = want[i] = (float)(i % 17) - 8.3f;
    Mat A = at ? transposed(a, M) : mat(a, K), B = bt ? transposed(b, K) : mat(b, N);
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < N; j++) {
            float sum = start == 2 ? want[i * ldo + j] : start == 1 ? bias[j] : 0.0f;
            for (size_t k = 0; k < K; k++)
                sum = fmaf(at ? a[k * M + i] : a[i * K + k], bt ? b[j * K + k] : b[k * N + j], sum);
            want[i * ldo + j] = sum;
        }
    matmul(m, out, ldo, A, B, start == 1 ? bias : start == 2 ? out : NULL, M, K, N);
    for (size_t i = 0; i < M * ldo; i++)
        REQUIRE(same_bits(out + i, want + i, 1), "(%zu,%zu) x (%zu,%zu), transposed %d %d, start %d: row %zu, "
                "column %zu", M, K, K, N, at, bt, start, i / ldo, i % ldo);
    free(a);
    free(b);
    free(bias);
    free(out);
}

START_TEST(product_is_its_definition) {
    const size_t rows[] = {1, 2, MR - 1, MR, MR + 1, 3 * MR + 1, MC - 1, MC, MC + 1};
    const size_t inner[] = {1, 2, KC - 1, KC, KC + 1, KC - 16, 2 * KC, 2 * KC + 3};
    const size_t columns[] = {1, 8, NR / 2, NR / 2 + 1, NR - 1, NR, NR + 1, 2 * NR + 3, 511, 513};
    const int threads[] = {1, 2, 3, 8};
    size_t products = 0;
    Model m;
    memset(&m, 0, sizeof m);
    m.scratch = MC * KC + KC * NR;
    m.shape.threads = threads[_i];
    m.x.scratch = malloc((size_t)threads[_i] * m.scratch * sizeof(float));
    ck_assert_ptr_nonnull(m.x.scratch);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t k = 0; k < sizeof inner / sizeof *inner; k++)
            for (size_t j = 0; j < sizeof columns / sizeof *columns; j++)
                for (int kind = 0; kind < 24; kind++) {
                    if (rows[i] * inner[k] * columns[j] > (kind == 0 ? 5000000 : 500000)) continue;
                    check_product(&m, rows[i], inner[k], columns[j], kind & 1, kind >> 1 & 1, kind / 4 % 3,
                                  kind < 12 ? GAP : 0);
                    products++;
                }
    ck_assert_uint_gt(products, 1000);
    free(m.x.scratch);
}
END_TEST

// ---- attention --------------------------------------------------------------------------------------------

// One head, checked bit by bit against its definition: query by query, key by key, keys ascending, with what model.c's
// text and dev/NUMERICS.md say. After past tokens only forward; the sign of a zero in dk and dv is the caller's matter.
static void check_head(size_t HS, size_t n, size_t past) {
    size_t all = past + n, ld = HS + 3, packs = (HS + MR) * (all + MR);
    float *q = malloc(6 * all * ld * sizeof *q), *k = q + all * ld, *v = k + all * ld, *g = v + all * ld;
    float *out = g + all * ld, *dq = out + all * ld, *stat = malloc(2 * n * sizeof *stat);
    float *e = malloc(4 * all * sizeof *e), *want = malloc(4 * all * HS * sizeof *want);
    float *scratch = malloc((PANELS + 2 * all * HS + STRIP * HS + 2 * STRIP * all + 3 * packs) * sizeof *scratch);
    ck_assert(q && stat && e && want && scratch);
    random_floats(q, 4 * all * ld, n + past);
    for (size_t i = 0; i < all * ld; i++) q[i] *= 8.0f;    // some queries look at few keys
    Head a = {.HS = HS, .Q = ld, .A = ld, .ldk = ld, .ldstat = 2, .n = n, .past = past, .q = q, .k = k, .v = v,
              .out = out, .stat = stat, .scale = 0.25f};
    attention_head_forward(&a, scratch);
    float *wdk = want, *wdv = want + n * HS, *dk = scratch + PANELS, *dv = dk + n * HS;
    memset(want, 0, 2 * n * HS * sizeof *want);
    memset(dk, 0, 2 * n * HS * sizeof *dk);
    if (past == 0) attention_head_backward(&a, dq, g, scratch);
    for (size_t t = 0; t < n; t++) {
        size_t seen = past + t + 1;
        float max = 0, *p = e + all, D = row_dot(g + t * ld, out + t * ld, 0.0f, HS);
        for (size_t j = 0; j < seen; j++) {
            e[j] = 0;
            for (size_t c = 0; c < HS; c++) e[j] = fmaf(q[t * ld + c], k[j * ld + c], e[j]);
            if (j == 0 || e[j] > max) max = e[j];
        }
        for (size_t j = 0; j < seen; j++) e[j] = exp_own((e[j] - max) * a.scale);
        float sum = row_sum(e, seen), inverse = 1.0f / sum;
        REQUIRE(stat[2 * t] == max && stat[2 * t + 1] == sum, "%zu after %zu: max, sum of query %zu", n, past, t);
        for (size_t c = 0; c < HS; c++) {
            float o = 0;
            for (size_t j = 0; j < seen; j++) o = fmaf(e[j], v[j * ld + c], o);
            o = (o + 0.0f) * inverse;
            REQUIRE(same_bits(&o, out + t * ld + c, 1), "%zu after %zu: output %zu of query %zu", n, past, c, t);
        }
        for (size_t j = 0; past == 0 && j < seen; j++) {
            float dp = 0;
            for (size_t c = 0; c < HS; c++) dp = fmaf(g[t * ld + c], v[j * ld + c], dp);
            p[j] = e[j] * inverse;
            e[j] = p[j] * (dp - D) * a.scale;
            for (size_t c = 0; c < HS; c++) wdv[j * HS + c] = fmaf(p[j], g[t * ld + c], wdv[j * HS + c]);
            for (size_t c = 0; c < HS; c++) wdk[j * HS + c] = fmaf(e[j], q[t * ld + c], wdk[j * HS + c]);
        }
        for (size_t c = 0; past == 0 && c < HS; c++) {
            float want_dq = 0;
            for (size_t j = 0; j < seen; j++) want_dq = fmaf(e[j], k[j * ld + c], want_dq);
            want_dq += 0.0f;
            REQUIRE(same_bits(&want_dq, dq + t * ld + c, 1), "%zu: dq %zu of query %zu", n, c, t);
        }
    }
    for (size_t i = 0; past == 0 && i < n * HS; i++)
        REQUIRE(dk[i] == wdk[i] && dv[i] == wdv[i], "%zu: dk, dv %zu of key %zu", n, i % HS, i / HS);
    free(q);
    free(stat);
    free(e);
    free(want);
    free(scratch);
}

// A strip's edges; more keys than there are rows in a block of a (MC) and depth in a panel (KC).
START_TEST(attention_is_its_definition) {
    const size_t size[] = {1, MR, MR + 2, 64, 67}, queries[] = {1, 2, NR - 1, NR, NR + 1, 3 * NR, KC + NR + 5};
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        for (size_t j = 0; j < sizeof queries / sizeof *queries; j++) {
            check_head(size[i], queries[j], 0);
            check_head(size[i], queries[j], 1);
            check_head(size[i], queries[j], i == 0 ? KC + 7 : NR);
        }
}
END_TEST

// ---- own functions ----------------------------------------------------------------------------------------
// Accuracy in units in the last place (ulp) of the result, against libm in double or long double.

static float float_of(uint32_t u) { float x; memcpy(&x, &u, sizeof x); return x; }

START_TEST(exp_is_accurate) {
    double worst = 0;
    size_t seen = 0;
    for (uint32_t u = 0; u < 0x43000000u; u += 419)           // from 0 up and from -0 down to +-128
        for (int sign = 0; sign < 2; sign++) {
            float x = float_of(u | (uint32_t)sign << 31), y = exp_own(x);
            if (x < -87.0f) {
                REQUIRE(y >= 0.0f && y <= 0.0f, "exp(%a) = %a", (double)x, (double)y);
                continue;
            }
            double want = exp(x > 88.0f ? 88.0 : (double)x);
            int e;
            frexp(want, &e);
            double off = fabs((double)y - want) / ldexp(1.0, e - 24);
            REQUIRE(off <= 1.1, "exp(%a) = %a, off by %g ulp", (double)x, (double)y, off);
            if (off > worst) worst = off;
            seen++;
        }
    printf("exp: %zu arguments, worst %.3f ulp\n", seen, worst);
    ck_assert(exp_own(0.0f) >= 1.0f && exp_own(0.0f) <= 1.0f);
    ck_assert(exp_own(-INFINITY) >= 0.0f && exp_own(-INFINITY) <= 0.0f);
    ck_assert(isfinite(exp_own(INFINITY)) && isnan(exp_own(NAN)) && isnan(exp_own(-(float)NAN)));
    for (float x = -87.0f, last = 0.0f; x <= 88.0f; x += 0.001f) {             // it never falls
        float y = exp_own(x);
        REQUIRE(y >= last, "exp falls at %a", (double)x);
        last = y;
    }
}
END_TEST

static double ulps(double got, long double want) {
    int e;
    frexpl(want, &e);
    return (double)(fabsl((long double)got - want) / ldexpl(1.0L, e - 53));
}

START_TEST(log_is_accurate) {
    double worst = 0;
    for (uint64_t i = 0; i < 300000; i++) {
        uint64_t u = splitmix64(i);
        double x = 1.0 + (double)(u >> 12) * 0x1p-52;
        if (i % 3 == 1) x = 1.0 + (x - 1.5) * ldexp(1.0, -(int)(u % 50));      // near 1, where the result is small
        if (i % 3 == 2) x = ldexp(x, (int)(u % 2000) - 1000);
        if (x >= 1.0 && x <= 1.0) continue;
        double off = ulps(log_own(x), logl((long double)x));
        REQUIRE(off <= 3.0, "log(%a) is off by %g ulp", x, off);
        if (off > worst) worst = off;
    }
    printf("log: worst %.3f ulp\n", worst);
    ck_assert(log_own(1.0) >= 0.0 && log_own(1.0) <= 0.0);
}
END_TEST

START_TEST(double_exp_is_accurate) {
    double worst = 0;
    for (uint64_t i = 0; i < 200000; i++) {
        double x = ((double)(splitmix64(i) >> 11) * 0x1p-52 - 1.0) * (i % 2 ? 690.0 : 1.0);
        double off = ulps(exp_double(x), expl((long double)x));
        REQUIRE(off <= 3.0, "exp(%a) is off by %g ulp", x, off);
        if (off > worst) worst = off;
    }
    printf("exp in double: worst %.3f ulp\n", worst);
}
END_TEST

// Rotary angles reach position 2^20 times 1.
START_TEST(sine_and_cosine_are_accurate) {
    double worst = 0, sine, cosine;
    for (uint64_t i = 0; i < 400000; i++) {
        double x = (double)(splitmix64(i) >> 11) * 0x1p-53;
        x *= i % 4 == 0 ? 1048576.0 : i % 4 == 1 ? 7.0 : i % 4 == 2 ? 1e-3 : 1000.0;
        if (i % 5 == 0) x = (double)(splitmix64(i) % 1048576);  // whole numbers, as positions are
        // near multiples of pi/2
        if (i % 7 == 0) x = (double)(splitmix64(i) % 600000) * 0x1.921fb54442d18p+0;
        if (i % 2) x = -x;
        sincos_own(x, &sine, &cosine);
        double off = fmax(ulps(sine, sinl((long double)x)), ulps(cosine, cosl((long double)x)));
        REQUIRE(off <= 3.0, "sin or cos of %a is off by %g ulp", x, off);
        if (off > worst) worst = off;
    }
    printf("sin, cos: worst %.3f ulp\n", worst);
    sincos_own(0.0, &sine, &cosine);
    ck_assert(sine >= 0.0 && sine <= 0.0 && cosine >= 1.0 && cosine <= 1.0);
}
END_TEST

#ifdef fmaf                                       // only where the target has no instruction for it
#undef fmaf
START_TEST(own_fused_product_is_exact) {
    size_t inexact = 0;
    for (uint64_t i = 0; i < 2000000; i++) {
        float x[3];
        for (uint64_t k = 0; k < 3; k++) {
            uint64_t u = splitmix64(3 * i + k);
            uint32_t exponent = i % 4 == 0 ? (uint32_t)(u >> 32) % 255 : 120 + (uint32_t)(u >> 32) % 14;
            uint32_t mantissa = (uint32_t)u & (i % 3 == 0 ? 0x7ff000u : 0x7fffffu);  // few bits: ties occur
            x[k] = float_of((uint32_t)(u >> 63) << 31 | exponent << 23 | mantissa);
        }
        if (i % 5 == 0) x[2] = -x[0] * x[1] * (1.0f + (float)(i % 9) * 0x1p-23f);        // cancels almost
        float want = fmaf(x[0], x[1], x[2]), got = fmaf_exact(x[0], x[1], x[2]);
        float separate = x[0] * x[1];
        separate += x[2];
        inexact += !same_bits(&separate, &want, 1);
        REQUIRE(same_bits(&got, &want, 1), "%a * %a + %a = %a, not %a", (double)x[0], (double)x[1],
                (double)x[2],
                (double)want, (double)got);
    }
    ck_assert_uint_gt(inexact, 1000);
}
END_TEST
#define OWN_FUSED_PRODUCT
#endif

// ---- configuration, tensor table, plan --------------------------------------------------------------------

static Plan last_plan;                            // what plan_of made

static int plan_of(const Config *c, size_t rows, size_t seq, size_t cached, size_t step_tokens, bool train,
                   int threads) {
    Fault f = {NULL, 0, 0, 0};
    Shape s = {.rows = rows, .seq = seq, .step_tokens = step_tokens, .cached = cached, .train = train,
               .threads = threads};
    int rc = model_plan(&last_plan, c, &s, &f);
    ck_assert(rc == 0 ? last_plan.bytes > 0 : rc == -1 && f.what && f.what[0]);
    return rc;
}

START_TEST(every_field_is_checked) {
    const Config good = GOLDEN[_i].cfg;
    Fault f;
    ck_assert_int_eq(model_check(&good, &f), 0);
    for (int i = 0; i < CONFIG_INTS; i++) {
        const ConfigField *field = &CONFIG_FIELD[i];
        ck_assert_uint_eq(field->where, (size_t)i * sizeof(int32_t));  // every whole number, in order
        const int32_t bad[] = {field->lo - 1, field->hi + 1, INT32_MIN, INT32_MAX, -1};
        for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
            Config c = good;
            memcpy((char *)&c + field->where, &bad[k], sizeof bad[k]);
            f = (Fault){NULL, 0, 0, 0};
            ck_assert_int_eq(model_check(&c, &f), -1);
            ck_assert_str_eq(f.what, field->name);
            ck_assert(f.value == bad[k] && f.lo == field->lo && f.hi == field->hi);
            ck_assert_int_eq(plan_of(&c, 1, 1, 0, 1, true, 1), -1);
        }
    }
    ck_assert_uint_eq(offsetof(Config, norm_eps), CONFIG_INTS * sizeof(int32_t));
    ck_assert_uint_eq(offsetof(Config, lora_rank), CONFIG_INTS * sizeof(int32_t) + CONFIG_FLOATS * sizeof(float));
}
END_TEST

static bool refused(Config c) {
    Fault f = {NULL, 0, 0, 0};
    int rc = model_check(&c, &f);
    ck_assert(rc == 0 || (rc == -1 && f.what && f.what[0]));
    return rc == -1;
}

START_TEST(relations_are_checked) {
    const Config good = GOLDEN[2].cfg;            // rotary positions with scaling: all real numbers are used
    ck_assert(good.rope && good.rope_context && !refused(good));
    Config c = good;
    c.kv_heads = 3;
    ck_assert(refused(c));
    c.kv_heads = 8;                               // more than query heads
    ck_assert(refused(c));
    c = good;
    c.head_size = 7;                              // no pairs to turn
    ck_assert(refused(c));
    c.rope = 0;
    ck_assert(!refused(c));
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY, -1.0f, 1e30f};
    for (size_t k = 0; k < CONFIG_FLOATS; k++)
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            c = good;
            memcpy((char *)&c.norm_eps + k * sizeof(float), &bad[i], sizeof(float));
            ck_assert_msg(refused(c), "real number %zu = %g", k, (double)bad[i]);
        }
    for (size_t k = 1; k < CONFIG_FLOATS; k++) {  // 0 would divide by zero, or turn nothing
        c = good;
        memset((char *)&c.norm_eps + k * sizeof(float), 0, sizeof(float));
        ck_assert_msg(refused(c), "real number %zu = 0", k);
    }
    c = good;
    c.rope_low = c.rope_high;
    ck_assert(refused(c));
}
END_TEST

// The table walks every pointer of Params once, in order; what a model lacks has size 0; sizes add up.
START_TEST(table_is_params) {
    const Config *c = &GOLDEN[_i].cfg;
    size_t sum = 0, d[] = {(size_t)c->layers, (size_t)c->width, (size_t)c->hidden * (c->swiglu ? 2 : 1)};
    size_t A = (size_t)(c->heads * c->head_size), Q = A + 2 * (size_t)(c->kv_heads * c->head_size);
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(c, i);
        ck_assert_uint_eq(t.where, (size_t)i * sizeof(float *));
        ck_assert(t.size == 0 || t.size == t.dim[0] * t.dim[1] * t.dim[2]);
        for (int k = 0; k < i; k++) ck_assert_str_ne(t.name, model_tensor(c, k).name);
        bool adapter = t.where > offsetof(Params, head);
        ck_assert(t.decay == (adapter || strstr("wte wpe qkvw projw fc1w fc2w head", t.name) != NULL));
        ck_assert((t.half != NO_HALF) == (t.decay && !adapter));
        ck_assert(t.trained);
        ck_assert(t.stacked == (adapter || (t.where >= offsetof(Params, ln1w) && t.where < offsetof(Params, lnfw))));
        ck_assert(!t.stacked || t.dim[0] == d[0] || d[0] == 1);
        sum += t.size;
    }
    ck_assert_uint_eq(sum, model_params(c));
    size_t V = (size_t)c->vocab, P = (size_t)c->context, L = d[0], C = d[1], F1 = d[2], HS = (size_t)c->head_size;
#define INDEX(field) (int)(offsetof(Params, field) / sizeof(float *))
#define SIZE(field, present, count) ck_assert_uint_eq(model_tensor(c, INDEX(field)).size, (present) ? (count) : 0)
    SIZE(wte, true, V * C);               SIZE(wpe, !c->rope, P * C);
    SIZE(ln1w, true, L * C);              SIZE(ln1b, !c->rms, L * C);
    SIZE(qkvw, true, L * C * Q);          SIZE(qkvb, c->bias || c->qkv_bias, L * Q);
    SIZE(qnw, c->qk_norm, L * HS);        SIZE(knw, c->qk_norm, L * HS);
    SIZE(projw, true, L * A * C);         SIZE(projb, c->bias, L * C);
    SIZE(ln2w, true, L * C);              SIZE(ln2b, !c->rms, L * C);
    SIZE(fc1w, true, L * C * F1);         SIZE(fc1b, c->bias, L * F1);
    SIZE(fc2w, true, L * (size_t)c->hidden * C);    SIZE(fc2b, c->bias, L * C);
    SIZE(lnfw, true, C);                  SIZE(lnfb, !c->rms, C);
    SIZE(head, !c->tied, V * C);
#undef SIZE
#undef INDEX
}
END_TEST

// Every item has its own bytes, aligned and inside the block; every tensor its own floats inside its section.
enum { LNFW = 16 };                   // its place in the table of tensors
START_TEST(plan_lays_things_apart) {
    const Golden *g = &GOLDEN[_i];
    Plan p;
    Fault f;
    size_t B = (size_t)g->B, T = (size_t)g->T;
    const Shape shapes[] = {{.rows = B, .seq = T, .step_tokens = B * T, .train = true, .threads = 3},
                            {.rows = B, .seq = 2, .cached = T, .threads = 2},
                            {.rows = 1, .seq = 1, .threads = 1}};
    for (size_t s = 0; s < 3; s++) {
        ck_assert_int_eq(model_plan(&p, &g->cfg, &shapes[s], &f), 0);
        size_t end = 0;
        ck_assert_int_le(p.items, PLAN_MAX);
        for (int i = 0; i < p.items; i++) {
            ck_assert(p.item[i].offset >= end && p.item[i].offset % 64 == 0 && p.item[i].bytes > 0);
            end = p.item[i].offset + p.item[i].bytes;
            for (int k = 0; k < i; k++) {
                ck_assert_uint_ne(p.item[i].where, p.item[k].where);
                ck_assert_str_ne(p.item[i].name, p.item[k].name);
            }
        }
        ck_assert_uint_eq(end, p.bytes);
        Own o = own_model(&g->cfg, &shapes[s]);
        const Params *set[] = {&o.m.w, &o.m.g, &o.m.m1, &o.m.m2};
        const char *last = NULL;
        for (int k = 0; k < 4; k++) {
            for (int i = 0; i < TENSORS; i++) {
                Tensor t = model_tensor(&g->cfg, i);
                const char *x = (const char *)tensor_data(set[k], &t);
                if (t.size == 0 || (k > 0 && !shapes[s].train)) {
                    ck_assert_ptr_null(x);
                    continue;
                }
                ck_assert_uint_eq((uintptr_t)x % 64, 0);
                ck_assert(!last || x >= last);    // the four sections lie in this order, too
                last = x + t.size * sizeof(float);
            }
            if (k > 0 && !shapes[s].train) continue;
            Tensor first = model_tensor(&g->cfg, 0), norm = model_tensor(&g->cfg, LNFW);
            ck_assert_ptr_eq(tensor_data(set[k], &first), set[k]->wte);
            ck_assert_ptr_eq(tensor_data(set[k], &norm), set[k]->lnfw);
        }
        own_free(&o);
    }
}
END_TEST

START_TEST(absurd_plans_are_refused) {
    const Config *c = &GOLDEN[_i].cfg;
    size_t P = (size_t)c->context;
    const size_t huge[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX / 2, SIZE_MAX / 2 + 1, SIZE_MAX / 4, SIZE_MAX / 1024};
    ck_assert_int_eq(plan_of(c, 1, P, 0, P, true, 1), 0);
    ck_assert_int_eq(plan_of(c, 1, P, P, 0, false, 1024), 0);
    ck_assert_int_eq(plan_of(c, 0, P, 0, P, true, 1), -1);
    ck_assert_int_eq(plan_of(c, 1, 0, 0, P, true, 1), -1);
    ck_assert_int_eq(plan_of(c, 1, P + 1, 0, P, true, 1), -1);
    ck_assert_int_eq(plan_of(c, 1, 1, P + 1, 0, false, 1), -1);
    const int threads[] = {0, -1, INT_MIN, INT_MAX, 1000000};
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++)
        ck_assert_int_eq(plan_of(c, 1, P, 0, P, true, threads[i]), -1);
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
        ck_assert_int_eq(plan_of(c, huge[i], P, 0, P, true, 1), -1);
        ck_assert_int_eq(plan_of(c, huge[i], 1, 0, 0, false, 1), -1);
        ck_assert_int_eq(plan_of(c, 1, huge[i], 0, 0, false, 1), -1);
        ck_assert_int_eq(plan_of(c, 1, 1, huge[i], 0, false, 1), -1);
        ck_assert_int_eq(plan_of(c, huge[i], huge[i], huge[i], huge[i], true, 1), -1);
        // a long step is no memory beyond V slots
        ck_assert_int_eq(plan_of(c, 1, P, 0, huge[i], true, 1), 0);
    }
}
END_TEST

// The longest and deepest model with the most heads that there may be, at growing numbers of rows. What is planned
// holds at least q, k, v and the attention's output of each layer, in exact arithmetic; where that is more than an
// address can tell, the plan is refused. From 1366 rows on, the bytes of q, k, v wrap to a small number.
START_TEST(sizes_never_wrap) {
    Config most = GOLDEN[0].cfg;
    for (int i = 0; i < CONFIG_INTS; i++)
        memcpy((char *)&most + CONFIG_FIELD[i].where, &CONFIG_FIELD[i].hi, sizeof(int32_t));
    most.rope_context = most.qk_norm = 0;
    most.rope_theta = 10000.0f;
    most.width = most.hidden = 1;
    double P = most.context, token = 4 * (double)most.layers * 4 * most.heads * most.head_size;
    int planned = 0, refused = 0;
    for (size_t rows = 1; rows < 2048; rows++) {
        if (plan_of(&most, rows, (size_t)most.context, 0, SIZE_MAX, true, 1) == 0) {
            ck_assert((double)last_plan.bytes >= (double)rows * P * token);
            ck_assert((double)rows * P * token <= (double)(SIZE_MAX / 2));
            planned++;
        } else {
            refused++;
        }
    }
    ck_assert_int_eq(plan_of(&most, 1 << 20, 1 << 20, 1 << 20, SIZE_MAX, false, 1024), -1);
    ck_assert(refused > 0 && (planned > 0 || sizeof(size_t) < 8));
}
END_TEST

// What model_forward could not do in the planned memory, the plan refuses.
START_TEST(impossible_plans_are_refused) {
    Config tall = GOLDEN[_i].cfg;
    ck_assert_int_eq(plan_of(&tall, 1, 4, 0, 0, true, 1), -1);                 // a step of no token
    tall.context = 1 << 20;
    ck_assert_int_eq(plan_of(&tall, 1 << 20, 1 << 20, 0, 0, false, 1), -1);  // tokens are numbered in 32 bits
    ck_assert_int_eq(plan_of(&tall, 1 << 11, 1 << 20, 0, 0, false, 1), -1);
}
END_TEST

static bool batch_refused(Model *m, const Batch *b, const char *what) {
    Fault f = {NULL, 0, 0, 0};
    int rc = model_forward(m, b, &f);
    ck_assert(rc == 0 || rc == -1);
    if (rc == -1) ck_assert_msg(strstr(f.what, what) && (f.value < f.lo || f.value > f.hi), "%s: %s", what, f.what);
    return rc == -1;
}

START_TEST(bad_batches_are_refused) {
    const Golden *g = &GOLDEN[_i];
    static Rectangle r;
    golden_batch(&r, g, 0);
    size_t B = r.b.B, T = r.b.T;
    int32_t V = g->cfg.vocab, longest = 0;
    Own o = own_trainer(&g->cfg, B, T, B, 1), cached = own_runner(&g->cfg, B, T, T);
    golden_weights(&o.m);
    golden_weights(&cached.m);
    for (size_t row = 0; row < B; row++)
        for (size_t t = 0; t < (size_t)r.len[row]; t++) {
            if (t != 0 && t != (size_t)r.len[row] - 1) continue;
            const int32_t bad[] = {-1, V, INT32_MIN, INT32_MAX};
            for (int k = 0; k < 4; k++) {
                int32_t *tok = &r.tok[row * T + t], *target = &r.target[row * T + t], was = *tok;
                *tok = bad[k];
                ck_assert(batch_refused(&o.m, &r.b, "token"));
                *tok = was;
                was = *target;
                *target = bad[k] == -1 ? -2 : bad[k];
                ck_assert(batch_refused(&o.m, &r.b, "target"));
                *target = was;
            }
        }
    for (size_t row = 0; row < B; row++) {
        int32_t was = r.len[row];
        const int32_t bad[] = {-1, (int32_t)T + 1, INT32_MIN, INT32_MAX};
        longest = was > longest ? was : longest;
        for (int k = 0; k < 4; k++) {
            r.len[row] = bad[k];
            ck_assert(batch_refused(&o.m, &r.b, "row"));
        }
        r.len[row] = was;
    }
    ck_assert_int_eq(longest, (int32_t)T);
    Batch b = r.b;
    b.B = 0;
    ck_assert(batch_refused(&o.m, &b, "rows"));
    b.B = B + 1;
    ck_assert(batch_refused(&o.m, &b, "rows"));
    b = r.b;
    b.past = r.past;
    for (size_t row = 0; row < B; row++) {
        const int32_t bad[] = {-1, (int32_t)T + 1 - r.len[row], INT32_MIN, INT32_MAX};
        for (int k = 0; k < 4; k++) {
            r.past[row] = bad[k];
            ck_assert(batch_refused(&cached.m, &b, "cache"));
            ck_assert(batch_refused(&o.m, &b, "cache"));
        }
        r.past[row] = 0;
    }
    ck_assert(!batch_refused(&o.m, &b, ""));       // and all is well again
    ck_assert(!batch_refused(&cached.m, &b, ""));
    own_free(&o);
    own_free(&cached);
}
END_TEST

// More tokens at once than the cache has room for: refused by the plan, or else with the batch.
START_TEST(full_cache_is_refused) {
    const Config *c = &GOLDEN[_i].cfg;
    int32_t tok[8] = {0}, len = 4, past = 0;
    Batch b = {.tok = tok, .target = NULL, .len = &len, .past = &past, .B = 1, .T = 8};
    if (plan_of(c, 1, 8, 4, 0, false, 1)) return;
    Own o = own_runner(c, 1, 8, 4);
    golden_weights(&o.m);
    ck_assert(!batch_refused(&o.m, &b, ""));
    for (len = 1; len <= 8; len++)
        for (past = 0; past <= 6; past++)
            ck_assert_msg(batch_refused(&o.m, &b, "") == (past + len > 4), "%d tokens behind %d, room for 4",
                          (int)len, (int)past);
    own_free(&o);
}
END_TEST

// ---- init, random numbers, sampling -----------------------------------------------------------------------

START_TEST(init_is_gpt2s) {
    const Golden *g = case_of(_i);
    Own o = own_runner(&g->cfg, 1, 1, 0), p = own_runner(&g->cfg, 1, 1, 0), q = own_runner(&g->cfg, 1, 1, 0);
    model_init(&o.m, 7);
    model_init(&p.m, 7);
    model_init(&q.m, 8);
    same_params("seed 7 twice", &g->cfg, &o.m.w, &p.m.w);
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&g->cfg, i);
        if (t.size == 0) continue;
        const float *w = tensor_data(&o.m.w, &t);
        double sum = 0, square = 0, n = (double)t.size;
        for (size_t e = 0; e < t.size; e++) {
            sum += (double)w[e];
            square += (double)w[e] * (double)w[e];
            float fixed = is_gain(&t) ? 1.0f : 0.0f;
            REQUIRE(t.decay || (w[e] >= fixed && w[e] <= fixed), "%s[%zu] = %g", t.name, e, (double)w[e]);
        }
        if (!t.decay) continue;
        bool out = t.where == offsetof(Params, projw) || t.where == offsetof(Params, fc2w);
        double want = out ? 0.02 / sqrt(2.0 * g->cfg.layers) : 0.02;           // within five standard errors
        ck_assert_msg(fabs(sum / n) <= 5 * want / sqrt(n), "%s: mean %g", t.name, sum / n);
        ck_assert_msg(fabs(sqrt(square / n) / want - 1) <= 5 / sqrt(2 * n), "%s: deviation %g", t.name,
                      sqrt(square / n));
        ck_assert(!same_bits(w, tensor_data(&q.m.w, &t), t.size));
    }
    own_free(&o);
    own_free(&p);
    own_free(&q);
}
END_TEST

// splitmix64 of cases.h is the same generator, written for a given state.
START_TEST(random_numbers) {
    Rng r = {42}, s = {42};
    for (uint64_t i = 0; i < 1000; i++) ck_assert(rng_next(&r) == splitmix64(42 + i * 0x9E3779B97F4A7C15u));
    const int n = 100000;
    double sum = 0, square = 0, cube = 0, least = 1, most = 0;
    for (int i = 0; i < n; i++) {
        double u = rng_uniform(&r), x = rng_normal(&r);
        REQUIRE(u >= 0 && u < 1 && isfinite(x), "uniform %g, normal %g", u, x);
        least = fmin(least, u);
        most = fmax(most, u);
        sum += x;
        square += x * x;
        cube += x * x * x;
    }
    ck_assert(least < 1e-3 && most > 1 - 1e-3);
    ck_assert(fabs(sum / n) < 5 / sqrt(n) && fabs(square / n - 1) < 5 * sqrt(2.0 / n)
              && fabs(cube / n) < 5 * sqrt(15.0 / n));
    const uint64_t limits[] = {1, 2, 3, 7, 1000, (uint64_t)1 << 32, ((uint64_t)1 << 63) + 1, UINT64_MAX};
    for (int k = 0; k < 8; k++) {
        uint64_t high = 0;
        for (int i = 0; i < 1000; i++) {
            uint64_t x = rng_below(&s, limits[k]);
            REQUIRE(x < limits[k], "%llu below %llu", (unsigned long long)x, (unsigned long long)limits[k]);
            high += x >= limits[k] / 2;
        }
        ck_assert(limits[k] < 1000 || (high > 400 && high < 600));
    }
    int count[7] = {0};
    for (int i = 0; i < 70000; i++) count[rng_below(&s, 7)]++;
    for (int k = 0; k < 7; k++) ck_assert_int_le(abs(count[k] - 10000), 500);
}
END_TEST

enum { V6 = 6 };
static const float LOGIT[V6] = {0.5f, 2.0f, -1.0f, 2.5f, 1.0f, -3.0f};  // from the likeliest: 3 1 4 0 2 5

static int32_t sample(const float *logits, size_t V, Sampling s, const int32_t *recent, size_t n, Rng *r) {
    static float z[64];
    static int32_t order[64 + 2];
    order[V] = order[V + 1] = -7;
    memcpy(z, logits, V * sizeof *z);
    int32_t id = model_sample(z, V, &s, recent, n, order, r);
    REQUIRE(id >= 0 && (size_t)id < V, "sampled id %d of %zu", (int)id, V);
    REQUIRE(order[V] == -7 && order[V + 1] == -7, "the scratch array is overrun");
    return id;
}

START_TEST(greedy_takes_the_likeliest) {
    Rng r = {1};
    Sampling s = {.temperature = 0, .top_k = 0, .top_p = 1, .repeat_penalty = 1};
    ck_assert_int_eq(sample(LOGIT, V6, s, NULL, 0, &r), 3);
    const float tie[4] = {1, 2, 2, 2};
    ck_assert_int_eq(sample(tie, 4, s, NULL, 0, &r), 1);                      // the lowest id among equals
    s.temperature = 5;
    s.top_k = 1;
    for (int i = 0; i < 100; i++) ck_assert_int_eq(sample(LOGIT, V6, s, NULL, 0, &r), 3);
    s.top_k = 0;
    s.top_p = 1e-6f;
    for (int i = 0; i < 100; i++) ck_assert_int_eq(sample(LOGIT, V6, s, NULL, 0, &r), 3);
    s.top_p = 1;
    s.temperature = 1e-6f;
    for (int i = 0; i < 100; i++) ck_assert_int_eq(sample(LOGIT, V6, s, NULL, 0, &r), 3);
}
END_TEST

START_TEST(repeats_are_penalised_once) {
    Rng r = {1};
    Sampling s = {.temperature = 0, .top_k = 0, .top_p = 1, .repeat_penalty = 1.5f};
    const int32_t three[] = {3}, thrice[] = {3, 3, 3}, both[] = {1, 3};
    const float near[4] = {1.9f, 1.0f, 0.0f, 0.0f}, negative[2] = {-1.0f, -1.4f};
    ck_assert_int_eq(sample(LOGIT, V6, s, three, 1, &r), 1);                  // 2.5 / 1.5 < 2.0
    ck_assert_int_eq(sample(LOGIT, V6, s, both, 2, &r), 3);                   // 2.5 / 1.5 > 2.0 / 1.5
    const int32_t zeros[] = {0, 0, 0, 0};
    ck_assert_int_eq(sample(near, 4, s, zeros, 4, &r), 0);  // 1.9 / 1.5 > 1.0, not 1.9 / 1.5^4
    ck_assert_int_eq(sample(negative, 2, s, zeros, 1, &r), 1);                // -1.0 * 1.5 < -1.4
    ck_assert_int_eq(sample(LOGIT, V6, s, thrice, 3, &r), 1);
    s.repeat_penalty = 1;
    ck_assert_int_eq(sample(LOGIT, V6, s, three, 1, &r), 3);
}
END_TEST

START_TEST(the_penalty_takes_linear_time) {      // many tokens, all different: a scan for each would take minutes
    enum { MANY = 1 << 20 };
    Rng r = {1};
    Sampling s = {.temperature = 0, .top_k = 0, .top_p = 1, .repeat_penalty = 2.0f};
    float *z = malloc(MANY * sizeof *z);
    int32_t *order = malloc(MANY * sizeof *order), *recent = malloc(MANY * sizeof *recent);
    REQUIRE(z && order && recent, "no memory");
    for (int32_t i = 0; i < MANY; i++) {
        z[i] = i == 7 ? 3.0f : 2.0f;
        recent[i] = MANY - 1 - i;
    }
    ck_assert_int_eq(model_sample(z, MANY, &s, recent, MANY - 5, order, &r), 0);     // 7 was penalised, 0 was not
    free(z);
    free(order);
    free(recent);
}
END_TEST

// How often each id comes, compared with its probability among the candidates: within five deviations.
static void check_frequencies(Sampling s, const bool *candidate) {
    enum { DRAWS = 40000 };
    Rng r = {99};
    double p[V6], sum = 0;
    int count[V6] = {0};
    for (int i = 0; i < V6; i++)
        sum += p[i] = candidate[i] ? exp((double)LOGIT[i] / (double)s.temperature) : 0;
    for (int i = 0; i < DRAWS; i++) count[sample(LOGIT, V6, s, NULL, 0, &r)]++;
    for (int i = 0; i < V6; i++) {
        double want = DRAWS * p[i] / sum;
        ck_assert_msg(fabs(count[i] - want) <= 5 * sqrt(want), "id %d came %d times, expected %.1f", i,
                      count[i], want);
    }
}

START_TEST(samples_follow_the_distribution) {
    const bool all[] = {1, 1, 1, 1, 1, 1}, three[] = {0, 1, 0, 1, 1, 0};
    const bool two[] = {0, 1, 0, 1, 0, 0}, one[] = {0, 0, 0, 1, 0, 0};
    check_frequencies((Sampling){.temperature = 1, .top_k = 0, .top_p = 1, .repeat_penalty = 1}, all);
    check_frequencies((Sampling){.temperature = 0.5f, .top_k = 0, .top_p = 1, .repeat_penalty = 1}, all);
    check_frequencies((Sampling){.temperature = 3, .top_k = 100, .top_p = 1, .repeat_penalty = 1}, all);
    check_frequencies((Sampling){.temperature = 1, .top_k = 3, .top_p = 1, .repeat_penalty = 1}, three);
    // p = 0.508 0.308 0.113 0.069 0.015 0.002 in order
    check_frequencies((Sampling){.temperature = 1, .top_k = 0, .top_p = 0.5f, .repeat_penalty = 1}, one);
    check_frequencies((Sampling){.temperature = 1, .top_k = 0, .top_p = 0.52f, .repeat_penalty = 1}, two);
    check_frequencies((Sampling){.temperature = 1, .top_k = 0, .top_p = 0.9f, .repeat_penalty = 1}, three);
    check_frequencies((Sampling){.temperature = 1, .top_k = 2, .top_p = 0.9f, .repeat_penalty = 1}, two);
}
END_TEST

START_TEST(same_seed_same_samples) {
    Sampling s = {.temperature = 1, .top_k = 5, .top_p = 0.99f, .repeat_penalty = 1};
    Rng a = {5}, b = {5}, other = {6};
    int differ = 0;
    for (int i = 0; i < 200; i++) {
        int32_t id = sample(LOGIT, V6, s, NULL, 0, &a);
        ck_assert_int_eq(id, sample(LOGIT, V6, s, NULL, 0, &b));
        differ += id != sample(LOGIT, V6, s, NULL, 0, &other);
        if (i == 100) b = (Rng){a.s};             // the state is all there is
    }
    ck_assert_int_gt(differ, 20);
}
END_TEST

// Whatever the logits and the settings are, an id of the vocabulary comes out, and nothing else is touched.
START_TEST(sampling_survives_nonsense) {
    const float odd[] = {NAN, INFINITY, -INFINITY, 0, 1e38f, -1e38f, 1e-40f};
    const float temperature[] = {0, 1, 1e-30f, 1e30f, INFINITY, NAN, -1};
    const float top_p[] = {1, 0.5f, 0, -1, 2, NAN, INFINITY};
    const int32_t top_k[] = {0, 1, 3, 100, -1, INT32_MIN, INT32_MAX}, recent[] = {0, 5, 0};
    const float penalty[] = {1, 1.3f, 0, -1, NAN, INFINITY};
    Rng r = {3};
    float z[V6];
    for (uint64_t i = 0; i < 100000; i++) {
        uint64_t u = splitmix64(i);
        for (int k = 0; k < V6; k++) {
            uint64_t pick = splitmix64(u + (uint64_t)k) % (i < 7 ? 7 : 12);
            z[k] = i < 7 ? odd[i] : pick < 7 ? odd[pick] : LOGIT[k];
        }
        Sampling s = {.temperature = temperature[u % 7], .top_k = top_k[u / 7 % 7],
                      .top_p = top_p[u / 49 % 7], .repeat_penalty = penalty[u / 343 % 6]};
        sample(z, V6, s, recent, u / 2058 % 4, &r);
        sample(z, 1, s, recent, u / 2058 % 2, &r);
    }
}
END_TEST

// A logit of NaN, among sound ones, is never what is taken.
START_TEST(nan_is_never_the_likeliest) {
    Rng r = {3};
    for (int bad = 0; bad < V6; bad++)
        for (int temperature = 0; temperature < 2; temperature++)
            for (int i = 0; i < 200; i++) {
                float z[V6];
                memcpy(z, LOGIT, sizeof z);
                z[bad] = NAN;
                Sampling s = {.temperature = (float)temperature, .top_k = 0, .top_p = 1, .repeat_penalty = 1};
                int32_t id = sample(z, V6, s, NULL, 0, &r);
                ck_assert_int_ne(id, bad);
                if (temperature == 0) ck_assert_int_eq(id, bad == 3 ? 1 : 3);
            }
}
END_TEST

// ---- edges ------------------------------------------------------------------------------------------------
// What a change of one line (dev/mutants.py) would have broken without any other test's notice.

// What is planned for a pointer of Model, which has `count` elements by model.h.
static size_t planned(size_t where) {
    for (int i = 0; i < last_plan.items; i++)
        if (last_plan.item[i].where == where) return last_plan.item[i].bytes;
    return 0;
}
#define ROOM(field, count) ck_assert_msg(planned(offsetof(Model, field)) == \
                                         ((count) * sizeof *((Model *)0)->field + 63) / 64 * 64, \
                                         "%s: %zu bytes", #field, planned(offsetof(Model, field)))

// Every buffer is planned as large as model.h says, and no larger; running needs none of training's.
START_TEST(plan_is_what_the_header_says) {
    const Golden *g = &GOLDEN[_i];
    Dims d = dims_of(&g->cfg);
    size_t B = (size_t)g->B, T = (size_t)g->T, N = B * T, R = min_size(N, HEAD_ROWS);
    for (int train = 0; train < 2; train++) {
        ck_assert_int_eq(plan_of(&g->cfg, B, T, train ? 0 : T, N, train, 1), 0);
        size_t L = train ? d.L : 1, G = train ? N : 0, S = train ? min_size(d.V, N) : 0, floats = 0;
        size_t normed = g->cfg.qk_norm ? L : 0, cached = train ? 0 : d.L * B * T * d.KV;
        const size_t more[] = {offsetof(Model, g), offsetof(Model, m1), offsetof(Model, m2)};
        for (int i = 0; i < TENSORS; i++) floats += (model_tensor(&g->cfg, i).size + 15) / 16 * 16;
        ck_assert_uint_eq(planned(offsetof(Model, w)), 4 * floats);
        for (int i = 0; i < 3; i++) ck_assert_uint_eq(planned(more[i]), train ? 4 * floats : 0);
        ROOM(x.slot, S * d.C);
        ROOM(x.slotof, train ? d.V : 0);
        ROOM(x.slottok, S);
        ROOM(x.res, (train ? d.L + 1 : 1) * N * d.C);
        ROOM(x.mid, L * N * d.C);
        ROOM(x.ln1stat, L * N * 2);
        ROOM(x.ln2stat, L * N * 2);
        ROOM(x.qkv, L * N * d.Q);
        ROOM(x.qkraw, normed * N * (d.A + d.KV));
        ROOM(x.qkstat, normed * N * (d.NH + d.NKV));
        ROOM(x.attstat, L * N * d.NH * 2);
        ROOM(x.atty, L * N * d.A);
        ROOM(x.fc1, L * N * d.F1);
        ROOM(x.norm, N * d.C);
        ROOM(x.act, N * d.F);
        ROOM(x.branch, N * d.C);
        ROOM(x.low, 0);
        ROOM(x.dlow, 0);
        ROOM(x.dres, G * d.C);
        ROOM(x.dnorm, G * d.C);
        ROOM(x.datt, G * d.A);
        ROOM(x.dact, G * d.F);
        ROOM(x.dbig, G * max_size(d.Q, d.F1));
        ROOM(x.headin, R * d.C);
        ROOM(x.dheadin, min_size(G, R) * d.C);
        ROOM(x.lnfstat, R * 2);
        ROOM(x.logits, R * d.V);
        ROOM(x.rope, g->cfg.rope ? T * d.HS : 0);
        ROOM(x.keys, cached);
        ROOM(x.values, cached);
        ROOM(x.tok, N);
        ROOM(x.pos, N);
        ROOM(x.hrow, N);
        ROOM(x.htarget, N);
        ROOM(x.start, B + 1);
    }
}
END_TEST
#undef ROOM

START_TEST(no_token_keeps_its_slot) {
    const Golden *g = &GOLDEN[_i];
    static Rectangle r;
    golden_batch(&r, g, 0);
    Own o = own_trainer(&g->cfg, r.b.B, r.b.T, r.b.B, 1);
    golden_weights(&o.m);
    add_gradient(&o.m, &r.b, 1.0f / (float)r.targets);
    ck_assert_uint_gt(o.m.slots, 0);
    model_grad_norm(&o.m);
    ck_assert_uint_eq(o.m.slots, 0);
    for (int32_t v = 0; v < g->cfg.vocab; v++) ck_assert_int_eq(o.m.x.slotof[v], -1);    // as model.h has it
    own_free(&o);
}
END_TEST

START_TEST(epsilon_of_a_norm_is_at_most_1) {
    Config c = GOLDEN[0].cfg;
    c.norm_eps = 1.0f;
    ck_assert(!refused(c));
    c.norm_eps = 1.0f + FLT_EPSILON;
    ck_assert(refused(c));
    c.norm_eps = 0.0f;
    ck_assert(!refused(c));
}
END_TEST

// One row of a model that sees few tokens at once: more losses than that are taken in pieces, same bits.
START_TEST(losses_of_more_rows_than_fit) {
    enum { LOSSES = 23, SEEN = 4 };
    const Golden *g = &GOLDEN[_i];
    int32_t tok[SEEN] = {1, 2, 3, 4}, len = SEEN, rows[LOSSES], target[LOSSES];
    double all[LOSSES], one;
    Batch b = {.tok = tok, .target = NULL, .len = &len, .past = NULL, .B = 1, .T = SEEN};
    Own o = own_runner(&g->cfg, 1, SEEN, 0);
    golden_weights(&o.m);
    forward(&o.m, &b);
    for (int i = 0; i < LOSSES; i++) {
        rows[i] = i * 3 % SEEN;
        target[i] = i * 7 % g->cfg.vocab;
    }
    model_losses(&o.m, rows, target, LOSSES, all);
    for (int i = 0; i < LOSSES; i++) {
        model_losses(&o.m, rows + i, target + i, 1, &one);
        ck_assert(isfinite(one) && memcmp(&one, &all[i], sizeof one) == 0);
    }
    own_free(&o);
}
END_TEST

// The stream behind those that are asked for is nobody's business, whatever it holds; a fault is -1.
START_TEST(extending_touches_only_its_rows) {
    enum { ROWS = 2, SEEN = 4, ROOM_FOR = 8 };
    const Golden *g = &GOLDEN[_i];
    int32_t id[ROWS + 1][ROOM_FOR] = {{1, 2}, {3}, {4, 5, 6}}, behind[ROOM_FOR];
    Stream s[ROWS + 1] = {{.id = id[0], .n = 2, .prompt = 2}, {.id = id[1], .n = 1, .prompt = 1},
                          {.id = id[2], .n = 3, .prompt = 1, .fed = 2, .fresh = true}}, last = s[ROWS];
    Sampling greedy = {.temperature = 0, .top_p = 1, .repeat_penalty = 1};
    Fault f = {NULL, 0, 0, 0};
    int32_t *scratch = malloc((ROWS * (SEEN + 3) + (size_t)g->cfg.vocab) * sizeof *scratch);
    ck_assert_ptr_nonnull(scratch);
    memcpy(behind, id[ROWS], sizeof behind);
    Own o = own_runner(&g->cfg, ROWS, SEEN, ROOM_FOR);
    golden_weights(&o.m);
    ck_assert_int_eq(model_extend(&o.m, s, ROWS, &greedy, (size_t)g->cfg.vocab, scratch, &f), 0);
    ck_assert(s[0].n == 3 && s[0].fresh && s[1].n == 2 && s[1].fresh);
    ck_assert(s[ROWS].n == last.n && s[ROWS].fed == last.fed && s[ROWS].fresh);
    ck_assert_mem_eq(behind, id[ROWS], sizeof behind);
    id[0][2] = g->cfg.vocab;
    ck_assert_int_eq(model_extend(&o.m, s, ROWS, &greedy, (size_t)g->cfg.vocab, scratch, &f), -1);
    ck_assert_str_eq(f.what, "token id");
    free(scratch);
    own_free(&o);
}
END_TEST

// Softmax divides the largest out again: a wrong one would show in last bits only, or beyond exp's range.
START_TEST(largest_of_a_row_is_found_anywhere) {
    enum { LONGEST = 70 };
    float x[LONGEST];
    for (size_t n = 1; n <= LONGEST; n++)
        for (size_t top = 0; top < n; top++) {
            for (size_t i = 0; i < n; i++) x[i] = -1.0f - (float)(i * 5 % 7);
            x[top] = -0.5f;
            REQUIRE(same_bits(&x[top], &(float){row_max(x, n)}, 1), "of %zu numbers the largest is %zu", n, top);
        }
}
END_TEST

// A token 60 or more below the likeliest is never drawn, however much farther down others are.
START_TEST(what_is_far_below_is_never_drawn) {
    const float far[3] = {10.0f, -200.0f, -50.0f};
    Sampling s = {.temperature = 1, .top_k = 0, .top_p = 1, .repeat_penalty = 1};
    Rng r = {11};
    for (int i = 0; i < 1000; i++) ck_assert_int_eq(sample(far, 3, s, NULL, 0, &r), 0);
}
END_TEST

// ---- the suite --------------------------------------------------------------------------------------------

// The norm takes each gradient once, whether a tensor ends just before, at or behind the end of a chunk. Sums
// of 1/4 are exact.
START_TEST(norm_takes_every_gradient_once) {
    static const int32_t size[][2] = {{257, 255}, {256, 256}, {65537, 1}, {65536, 2}, {43691, 3}};    // wte
    const Config c = {.vocab = size[_i][0], .context = 2, .layers = 1, .heads = 1, .kv_heads = 1, .head_size = 1,
                      .width = size[_i][1], .hidden = 1, .tied = 1, .norm_eps = 1e-5f};
    Own o = own_trainer(&c, 1, 1, 1, 1);
    tensor_fill(&o.m.g, &c, 0.5f);
    ck_assert(model_grad_norm(&o.m) == sqrt(0.25 * (double)model_params(&c)));
    own_free(&o);
}
END_TEST

// A batch of fewer tokens than there is room for leaves the rest of every buffer as it was: 0xFF.
START_TEST(only_the_batchs_tokens_are_touched) {
    static const size_t each[] = {
        offsetof(Model, x.res), offsetof(Model, x.mid), offsetof(Model, x.ln1stat), offsetof(Model, x.ln2stat),
        offsetof(Model, x.qkv), offsetof(Model, x.qkraw), offsetof(Model, x.qkstat), offsetof(Model, x.attstat),
        offsetof(Model, x.atty), offsetof(Model, x.fc1), offsetof(Model, x.norm), offsetof(Model, x.act),
        offsetof(Model, x.branch), offsetof(Model, x.low), offsetof(Model, x.dlow), offsetof(Model, x.dres),
        offsetof(Model, x.dnorm), offsetof(Model, x.datt), offsetof(Model, x.dact), offsetof(Model, x.dbig)};
    static Rectangle r;
    Config c = GOLDEN[_i / 2].cfg;
    c.lora_rank = _i % 2 ? 2 : 0;
    c.lora_on = _i % 2 ? LORA_ALL : 0;
    c.lora_alpha = _i % 2 ? 2 : 0;
    golden_batch(&r, &GOLDEN[_i / 2], 0);
    Own o = own_trainer(&c, r.b.B + 1, r.b.T, r.b.B + 1, 2);
    golden_weights(&o.m);
    add_gradient(&o.m, &r.b, 1.0f);
    const size_t room = (r.b.B + 1) * r.b.T;
    Plan p;
    Fault f;
    ck_assert_int_eq(model_plan(&p, &c, &o.m.shape, &f), 0);
    int found = 0;
    for (int i = 0; i < p.items; i++)
        for (size_t k = 0; k < sizeof each / sizeof *each; k++) {
            if (p.item[i].where != each[k]) continue;
            uint8_t *buffer;
            memcpy(&buffer, (const char *)&o.m + each[k], sizeof buffer);
            size_t used = p.item[i].bytes / sizeof(float) / room * o.m.N * sizeof(float);
            REQUIRE(used > 0 && used < p.item[i].bytes, "%s: no room to watch", p.item[i].name);
            for (size_t at = used; at < p.item[i].bytes; at++)
                REQUIRE(buffer[at] == 0xFF, "%s: byte %zu, behind the %zu of %zu tokens, was written",
                        p.item[i].name, at, used, o.m.N);
            found++;
        }
    ck_assert_int_ge(found, c.lora_rank ? 18 : 16);
    own_free(&o);
}
END_TEST

Suite *model_suite(void);
Suite *model_suite(void) {
    Suite *s = suite_create("model");
    TCase *t = tcase_create("PyTorch");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, loss_and_gradients_are_pytorchs, 0, GOLDENS);
    tcase_add_loop_test(t, twenty_steps_are_pytorchs, 0, GOLDENS);
    suite_add_tcase(s, t);

    t = tcase_create("identities");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, micro_batches_change_no_bit, 0, CASES);
    tcase_add_loop_test(t, padding_changes_no_bit, 0, CASES);
    tcase_add_loop_test(t, threads_change_no_bit, 0, CASES);
    tcase_add_loop_test(t, no_position_sees_a_later_one, 0, CASES);
    tcase_add_loop_test(t, decoding_is_the_forward_pass, 0, CASES);
    tcase_add_loop_test(t, logits_of_any_rows, 0, GOLDENS);
    tcase_add_loop_test(t, loss_alone_leaves_gradients, 0, GOLDENS);
    tcase_add_loop_test(t, nan_shows_in_the_loss, 0, GOLDENS);
    suite_add_tcase(s, t);

    t = tcase_create("kernels");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, no_clip_and_no_rate, 0, GOLDENS);
    tcase_add_test(t, schedule_rises_and_falls);
    tcase_add_loop_test(t, product_is_its_definition, 0, 4);
    tcase_add_test(t, attention_is_its_definition);
    tcase_add_test(t, exp_is_accurate);
    tcase_add_test(t, log_is_accurate);
    tcase_add_test(t, double_exp_is_accurate);
    tcase_add_test(t, sine_and_cosine_are_accurate);
#ifdef OWN_FUSED_PRODUCT
    tcase_add_test(t, own_fused_product_is_exact);
#endif
    suite_add_tcase(s, t);

    t = tcase_create("checks");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, every_field_is_checked, 0, GOLDENS);
    tcase_add_test(t, relations_are_checked);
    tcase_add_loop_test(t, table_is_params, 0, GOLDENS);
    tcase_add_loop_test(t, plan_lays_things_apart, 0, GOLDENS);
    tcase_add_loop_test(t, absurd_plans_are_refused, 0, GOLDENS);
    tcase_add_test(t, sizes_never_wrap);
    tcase_add_loop_test(t, impossible_plans_are_refused, 0, GOLDENS);
    tcase_add_loop_test(t, bad_batches_are_refused, 0, GOLDENS);
    tcase_add_loop_test(t, full_cache_is_refused, 0, GOLDENS);
    suite_add_tcase(s, t);

    t = tcase_create("sampling");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, init_is_gpt2s, 0, CASES);
    tcase_add_test(t, random_numbers);
    tcase_add_test(t, greedy_takes_the_likeliest);
    tcase_add_test(t, repeats_are_penalised_once);
    tcase_add_test(t, the_penalty_takes_linear_time);
    tcase_add_test(t, samples_follow_the_distribution);
    tcase_add_test(t, same_seed_same_samples);
    tcase_add_test(t, sampling_survives_nonsense);
    tcase_add_test(t, nan_is_never_the_likeliest);
    suite_add_tcase(s, t);

    t = tcase_create("edges");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, plan_is_what_the_header_says, 0, GOLDENS);
    tcase_add_loop_test(t, no_token_keeps_its_slot, 0, GOLDENS);
    tcase_add_test(t, epsilon_of_a_norm_is_at_most_1);
    tcase_add_loop_test(t, losses_of_more_rows_than_fit, 0, GOLDENS);
    tcase_add_loop_test(t, extending_touches_only_its_rows, 0, GOLDENS);
    tcase_add_test(t, largest_of_a_row_is_found_anywhere);
    tcase_add_loop_test(t, norm_takes_every_gradient_once, 0, 5);
    tcase_add_loop_test(t, only_the_batchs_tokens_are_touched, 0, 2 * GOLDENS);
    tcase_add_test(t, what_is_far_below_is_never_drawn);
    suite_add_tcase(s, t);
    return s;
}

int main(void) {
    return run_suite(model_suite());
}

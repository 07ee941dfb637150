// test_grad.c -- every gradient against finite differences, with model.c compiled in double.
//
// In float a difference quotient is right to three digits at best, and a wrong term can hide below that. Here
// `float` means double: the same source, the same order of operations, but a derivative can be had to nine
// digits or more.
//
// The quotient is the fourth-order one, [8 (f(h) - f(-h)) - (f(2h) - f(-2h))] / 12h. Its truncation, h^4
// f'''''/30, is worst where a norm divides by a small row: there each derivative is some ten times the one
// before, f''''' is 1e4 to 1e5 times the gradient, and h = 2.5e-4 leaves 1e-11 to 1e-10 of it. The loss,
// about 5, comes with a rounding error of about 1e-15, which h makes 1e-11 in absolute terms, 1e-10 to 1e-9
// of a gradient's elements. So each tensor should agree to 1e-9 or so, and a step twice or half as long is
// worse in one of the two. The bar is 1e-7.
#include <assert.h>
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __clang__
#pragma clang diagnostic ignored "-Wkeyword-macro"
#endif
#define float double
#define MODEL_DOUBLE
#include "../model.c"
#include "cases.h"
#include "run.h"

static const double STEP = 2.5e-4, BAR = 1e-7;

static double loss_of(Model *m, const Rectangle *r) {
    Fault f;
    double sum = 0;
    ck_assert_int_eq(model_forward(m, &r->b, &f), 0);
    model_loss(m, &r->b, 0, &sum, NULL);
    return sum / (double)r->targets;
}

// The derivative of the loss along direction d (n) from the weights w (n); was (n) is scratch.
static double slope(Model *m, const Rectangle *r, float *w, const float *d, size_t n, float *was) {
    double f[5];
    memcpy(was, w, n * sizeof *w);
    for (int k = -2; k <= 2; k++) {
        if (k == 0) continue;
        for (size_t i = 0; i < n; i++) w[i] = was[i] + k * STEP * d[i];
        f[k + 2] = loss_of(m, r);
    }
    memcpy(w, was, n * sizeof *w);
    return (8 * (f[3] - f[1]) - (f[4] - f[0])) / (12 * STEP);
}

// What is found out about one tensor: squared norms over the elements looked at. "idle" is about those whose
// gradient is 0 (key biases of GPT-2), which are kept apart.
typedef struct {
    double off, norm, idle;
    size_t seen;
} Found;

// Compares the gradient of tensor t with quotients: of every element if all, else of a random direction
// through the whole tensor and of `some` random elements.
static Found compare(Model *m, const Rectangle *r, const Tensor *t, bool all, size_t some) {
    Found found = {0, 0, 0, 0};
    const Config *c = &m->cfg;
    float *w = tensor_data(&m->w, t), *g = tensor_data(&m->g, t), one = 1, was;
    for (size_t k = 0; k < (all ? t->size : some); k++) {
        size_t e = all ? k : (size_t)(splitmix64(77 + k) % t->size);
        double want = slope(m, r, w + e, &one, 1, &was), off = g[e] - want;
        if (key_bias_is_idle(c, t) && is_key(c, e)) {
            found.idle += g[e] * g[e];
            ck_assert_msg(fabs(want) < 1e-9, "%s[%zu] should have no effect: %g", t->name, e, want);
            continue;
        }
        found.off += off * off;
        found.norm += want * want;
        found.seen++;
    }
    if (all) return found;

    float *d = malloc(2 * t->size * sizeof *d);
    ck_assert_ptr_nonnull(d);
    double along = 0, unit = 1 / sqrt((double)t->size);
    for (size_t e = 0; e < t->size; e++) {
        d[e] = splitmix64(e + 12345) >> 63 ? unit : -unit;
        along += g[e] * d[e];
    }
    double want = slope(m, r, w, d, t->size, d + t->size);
    found.off += (along - want) * (along - want);
    found.norm += want * want;
    found.seen++;
    free(d);
    return found;
}

static void check_gradients(const char *name, const Config *c, const Rectangle *r, bool all, size_t some) {
    Own o = own_trainer(c, r->b.B, r->b.T, r->b.B, 1);
    Model *m = &o.m;
    double worst = 0;
    size_t seen = 0;
    const char *where = "";
    golden_weights(m);
    add_gradient(m, &r->b, 1.0 / (double)r->targets);
    model_grad_norm(m);                           // joins the two gradients of a tied embedding
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(c, i);
        if (t.size == 0 || !t.trained) continue;
        Found found = compare(m, r, &t, all, some);
        double off = sqrt(found.off / found.norm);
        ck_assert_msg(found.norm > 1e-9, "%s.%s: a gradient of norm %g tests nothing", name, t.name,
                      sqrt(found.norm));
        ck_assert_msg(off <= BAR, "%s.%s: %zu elements, off by %g of the norm, %g", name, t.name, found.seen,
                      off, sqrt(found.norm));
        ck_assert_msg(sqrt(found.idle / found.norm) <= 1e-13, "%s.%s: the keys' gradient should be 0, is %g",
                      name, t.name, sqrt(found.idle));
        seen += found.seen;
        if (off > worst) {
            worst = off;
            where = t.name;
        }
    }
    printf("%-6s %-12s %6zu quotients, worst %.1e (%s)\n", all ? "tiny" : "golden", name, seen, worst, where);
    own_free(&o);
}

// Every single weight of a tiny model of each kind. Heads do not fill the width, and a row of length 0 and
// rows with masked targets are there. Then, with LoRA beside all linear layers, or beside two.
static void tiny_model(const Golden *g, uint32_t lora_on) {
    const int len[] = {7, 2, 1, 0, 5};
    static Rectangle r;
    Config c = g->cfg;
    c.vocab = 11;
    c.context = 8;
    c.layers = 2;
    c.width = 6;
    c.hidden = 5;
    c.head_size = c.rope ? 4 : 3;
    c.lora_rank = lora_on ? 1 + (int32_t)(g - GOLDEN) % 3 : 0;    // of rank 1 products are rows
    c.lora_alpha = lora_on ? 5 : 0;
    c.lora_on = lora_on;
    rectangle(&r, c.vocab, 5, 7, len, 0);
    check_gradients(g->name, &c, &r, true, 0);
}

START_TEST(every_weight_of_tiny_models) { tiny_model(&GOLDEN[_i], 0); }
END_TEST

START_TEST(lora_of_tiny_models) { tiny_model(&GOLDEN[_i], _i % 2 ? LORA_QKV | LORA_FC2 : LORA_ALL); }
END_TEST

// A row of several strips, the scores of which take more room than a packed panel.
START_TEST(long_row) {
    const int len[] = {600};
    static Rectangle r;
    Config c = GOLDEN[0].cfg;
    c.context = 600;
    c.layers = 1;
    rectangle(&r, c.vocab, 1, 600, len, 0);
    check_gradients("long row", &c, &r, false, 4);
}
END_TEST

// The golden models and batches themselves, whose sizes reach over the edges of tiles, strips and chunks.
START_TEST(golden_models) {
    static Rectangle r;
    golden_batch(&r, &GOLDEN[_i], 0);
    check_gradients(GOLDEN[_i].name, &GOLDEN[_i].cfg, &r, false, GOLDEN[_i].T < 64 ? 40 : 4);
}
END_TEST

int main(void) {
    Suite *s = suite_create("gradients in double");
    TCase *t = tcase_create("finite differences");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, every_weight_of_tiny_models, 0, GOLDENS);
    tcase_add_loop_test(t, lora_of_tiny_models, 0, GOLDENS);
    tcase_add_test(t, long_row);
    tcase_add_loop_test(t, golden_models, 0, GOLDENS);
    suite_add_tcase(s, t);
    return run_suite(s);
}

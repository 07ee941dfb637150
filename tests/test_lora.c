// test_lora.c -- LoRA, recomputed activations and bf16 weights in memory, in float: which bits they may change,
// and which not. test_grad.c checks LoRA's gradients. Run it from the project's top folder.
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "../model.c"
#include "cases.h"
#include "run.h"

static Config with_lora(int i) {
    Config c = GOLDEN[i].cfg;
    c.lora_rank = 2 + i;
    c.lora_alpha = 7;
    c.lora_on = i % 2 ? LORA_QKV | LORA_FC2 : LORA_ALL;
    return c;
}

static Own trainer(const Config *c, const Rectangle *r, bool halves, bool recompute) {
    Shape s = {.rows = r->b.B, .seq = r->b.T, .step_tokens = r->b.B * r->b.T, .train = true, .halves = halves,
               .recompute = recompute, .threads = 2};
    return own_model(c, &s);
}

// Weights that bf16 can hold, so that both ways of keeping them mean the same model.
static void fill(Model *m) {
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&m->cfg, i);
        float *w = tensor_data(&m->w, &t);
        uint16_t *h = NULL;
        if (t.half != NO_HALF) memcpy(&h, (char *)&m->h + t.half, sizeof h);
        for (size_t e = 0; e < t.size; e++) {
            float x = (float)((double)(splitmix64(((uint64_t)i << 32) + e) >> 42) / 2097152.0 - 1.0) / 2.0f;
            uint32_t u;
            x = is_gain(&t) ? 1.0f + x / 2.0f : x;
            memcpy(&u, &x, sizeof u);
            u &= 0xffff0000u;
            if (h) h[e] = (uint16_t)(u >> 16);
            else memcpy(&w[e], &u, sizeof u);
        }
    }
}

static void zero(Model *m, size_t where) {
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&m->cfg, i);
        if (t.where == where && t.size) memset(tensor_data(&m->w, &t), 0, t.size * sizeof(float));
    }
}

// Do two models have the same loss and the same gradients, to the bit?
static void same_gradients(Model *a, Model *b, const Rectangle *r) {
    double x = add_gradient(a, &r->b, 0.25f), y = add_gradient(b, &r->b, 0.25f);
    ck_assert(x == y && x > 0);
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&a->cfg, i);
        const float *g = tensor_data(&a->g, &t), *h = tensor_data(&b->g, &t);
        ck_assert((g != NULL) == (t.size && t.trained) && (g != NULL) == (h != NULL));
        if (g) ck_assert_msg(!memcmp(g, h, t.size * sizeof *g), "%s", t.name);
    }
    ck_assert(model_grad_norm(a) == model_grad_norm(b) && model_grad_norm(a) > 0);
}

static const float *logits_of(Model *m, const Rectangle *r, size_t *n) {
    static int32_t rows[HEAD_ROWS];
    Fault f;
    ck_assert_int_eq(model_forward(m, &r->b, &f), 0);
    *n = m->N < HEAD_ROWS ? m->N : HEAD_ROWS;
    for (size_t i = 0; i < *n; i++) rows[i] = (int32_t)i;
    return model_logits(m, rows, *n);
}

START_TEST(recompute_changes_no_bit) {
    static Rectangle r;
    golden_batch(&r, &GOLDEN[_i], 0);
    for (int lora = 0; lora < 2; lora++) {
        Config c = lora ? with_lora(_i) : GOLDEN[_i].cfg;
        Own kept = trainer(&c, &r, false, false), again = trainer(&c, &r, false, true);
        fill(&kept.m);
        fill(&again.m);
        same_gradients(&kept.m, &again.m, &r);
        own_free(&kept);
        own_free(&again);
    }
}
END_TEST

START_TEST(halves_change_no_bit) {
    static Rectangle r;
    golden_batch(&r, &GOLDEN[_i], 0);
    Config c = with_lora(_i), base = GOLDEN[_i].cfg;
    Own floats = trainer(&c, &r, false, false), halves = trainer(&c, &r, true, true);
    fill(&floats.m);
    fill(&halves.m);
    ck_assert(floats.m.w.wte && !floats.m.h.wte && !halves.m.w.wte && halves.m.h.wte && halves.m.w.lnfw);
    same_gradients(&floats.m, &halves.m, &r);
    own_free(&floats);
    own_free(&halves);

    // Decoding: one row, one token after the other.
    Shape s = {.rows = 1, .seq = 1, .cached = 5, .threads = 1};
    floats = own_model(&base, &s);
    s.halves = true;
    halves = own_model(&base, &s);
    fill(&floats.m);
    fill(&halves.m);
    for (int32_t past = 0, one = 1, row = 0; past < 5; past++) {
        Fault f;
        int32_t token = past * 3 % base.vocab;
        Batch b = {&token, NULL, &one, &past, 1, 1};
        ck_assert_int_eq(model_forward(&floats.m, &b, &f) | model_forward(&halves.m, &b, &f), 0);
        const float *x = model_logits(&floats.m, &row, 1), *y = model_logits(&halves.m, &row, 1);
        ck_assert(!memcmp(x, y, (size_t)base.vocab * sizeof *x));
    }
    own_free(&floats);
    own_free(&halves);
}
END_TEST

// With up = 0 the logits are the base's to the bit; after one step they are not, and the base is as it was.
// peers 11
START_TEST(starts_at_the_base_and_leaves_it_alone) {
    static Rectangle r;
    golden_batch(&r, &GOLDEN[_i], 0);
    Config c = with_lora(_i), base = GOLDEN[_i].cfg;
    Own with = trainer(&c, &r, false, false), without = trainer(&base, &r, false, false);
    AdamW o = {1e-2f, 0.9f, 0.95f, 1e-8f, 0.1f, 0};
    size_t n;
    fill(&with.m);
    fill(&without.m);
    model_init(&with.m, 5);                       // draws down, sets up to 0, touches nothing else
    const float *x = logits_of(&with.m, &r, &n), *y = logits_of(&without.m, &r, &n);
    for (size_t k = 0; k < n * (size_t)base.vocab; k++) ck_assert(x[k] >= y[k] && x[k] <= y[k]);
    add_gradient(&with.m, &r.b, 1);
    model_update(&with.m, &o, model_grad_norm(&with.m), 1);
    x = logits_of(&with.m, &r, &n);
    ck_assert(memcmp(x, y, n * (size_t)base.vocab * sizeof *x) != 0);
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&base, i);
        const float *w = tensor_data(&with.m.w, &t), *was = tensor_data(&without.m.w, &t);
        if (t.size) ck_assert(!memcmp(w, was, t.size * sizeof *x));
    }
    own_free(&with);
    own_free(&without);
}
END_TEST

// The definition, in double: W + (alpha/R) down up is the matrix that the model acts as if it had.
// peers 11: at any rank, and at the scale that is written in one place
START_TEST(acts_as_the_merged_matrix) {
    static Rectangle r;
    golden_batch(&r, &GOLDEN[_i], 0);
    Config c = with_lora(_i), base = GOLDEN[_i].cfg;
    Own with = trainer(&c, &r, false, false), merged = trainer(&base, &r, false, false);
    fill(&with.m);
    fill(&merged.m);
    const size_t part[][3] = {
        {offsetof(Params, qkvw), offsetof(Params, qkv_down), offsetof(Params, qkv_up)},
        {offsetof(Params, projw), offsetof(Params, proj_down), offsetof(Params, proj_up)},
        {offsetof(Params, fc1w), offsetof(Params, fc1_down), offsetof(Params, fc1_up)},
        {offsetof(Params, fc2w), offsetof(Params, fc2_down), offsetof(Params, fc2_up)}};
    for (int k = 0; k < 4; k++) {
        Tensor t[3];
        for (int j = 0; j < 3; j++) t[j] = model_tensor(&c, (int)(part[k][j] / sizeof(float *)));
        size_t in = t[0].dim[1], out = t[0].dim[2], R = (size_t)c.lora_rank;
        if (t[1].size == 0) continue;
        float *w = tensor_data(&merged.m.w, &t[0]);
        const float *down = tensor_data(&with.m.w, &t[1]), *up = tensor_data(&with.m.w, &t[2]);
        for (size_t l = 0; l < t[0].dim[0]; l++)
            for (size_t i = 0; i < in; i++)
                for (size_t o = 0; o < out; o++) {
                    double sum = 0;
                    for (size_t q = 0; q < R; q++)
                        sum += (double)down[(l * in + i) * R + q] * (double)up[(l * R + q) * out + o];
                    w[(l * in + i) * out + o] += (float)(sum * (double)c.lora_alpha / (double)R);
                }
    }
    size_t n;
    const float *x = logits_of(&with.m, &r, &n), *y = logits_of(&merged.m, &r, &n);
    double off = 0, norm = 0;
    for (size_t k = 0; k < n * (size_t)base.vocab; k++) {
        off += ((double)x[k] - (double)y[k]) * ((double)x[k] - (double)y[k]);
        norm += (double)y[k] * (double)y[k];
    }
    ck_assert_msg(sqrt(off / norm) <= 1e-5, "off by %g of the norm", sqrt(off / norm));
    zero(&with.m, offsetof(Params, qkv_up));      // it is seen when a part is missing
    x = logits_of(&with.m, &r, &n);
    ck_assert(memcmp(x, y, n * (size_t)base.vocab * sizeof *x) != 0);
    own_free(&with);
    own_free(&merged);
}
END_TEST

// down (L,C,R): all of -1/sqrt(C)..1/sqrt(C) is drawn from, C its rows; up is 0.
START_TEST(lora_begins_as_pefts) {
    Config c = with_lora(_i);
    Shape s = {.rows = 1, .seq = 1, .step_tokens = 1, .train = true, .threads = 1};
    Own o = own_model(&c, &s);
    model_init(&o.m, 3);
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&c, i);
        if (!t.trained || t.size == 0) continue;
        const float *w = tensor_data(&o.m.w, &t), bound = 1.0f / sqrtf((float)t.dim[1]);
        float most = 0;
        for (size_t e = 0; e < t.size; e++) most = fabsf(w[e]) > most ? fabsf(w[e]) : most;
        if (strstr(t.name, "down")) ck_assert_msg(most <= bound && most > 0.8f * bound, "%s: %g", t.name, (double)most);
        else ck_assert_msg(most <= 0, "%s is not 0", t.name);
    }
    own_free(&o);
}
END_TEST

START_TEST(numbers_of_lora_are_checked) {
    Fault f;
    const Config good = with_lora(0);
    for (uint32_t on = 1; on <= LORA_ALL; on++) {
        Config c = good;
        c.lora_on = on;
        ck_assert_int_eq(model_check(&c, &f), 0);
    }
    const struct { int32_t rank; uint32_t on; float alpha; } bad[] = {
        {-1, 1, 1}, {1025, 1, 1}, {4, 0, 1}, {4, 16, 1}, {4, UINT32_MAX, 1}, {4, 1, 0}, {4, 1, -1},
        {4, 1, 2e4f},
        {4, 1, (float)NAN}};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        Config c = good;
        c.lora_rank = bad[k].rank;
        c.lora_on = bad[k].on;
        c.lora_alpha = bad[k].alpha;
        ck_assert_int_eq(model_check(&c, &f), -1);
        ck_assert(f.value < f.lo || f.value > f.hi);
    }
}
END_TEST

// A frozen base costs no gradient and no moments.
START_TEST(plan_is_smaller) {
    Fault f;
    Plan full, lora;
    Shape s = {.rows = 2, .seq = 4, .step_tokens = 8, .train = true, .threads = 1};
    const Config base = GOLDEN[_i].cfg, c = with_lora(_i);
    ck_assert_int_eq(model_plan(&full, &base, &s, &f), 0);
    s.halves = s.recompute = true;
    ck_assert_int_eq(model_plan(&lora, &c, &s, &f), 0);
    size_t adapter = model_params(&c) - model_params(&base), weights = model_params(&base);
    ck_assert_uint_lt(lora.bytes + 9 * weights, full.bytes + 64 * 64 + 24 * adapter + 4 * weights);
}
END_TEST

// ---- against peft -----------------------------------------------------------------------------------------

// The next n floats of tests/golden_lora.bin (dev/parity_peft.py tells what is there), to be freed.
static float *peft_next(FILE *f, size_t n) {
    float *x = malloc(n * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < n; i++) {
        unsigned char byte[4];
        ck_assert_uint_eq(fread(byte, 1, 4, f), 4);
        uint32_t u = byte[0] | (uint32_t)byte[1] << 8 | (uint32_t)byte[2] << 16 | (uint32_t)byte[3] << 24;
        memcpy(&x[i], &u, 4);
    }
    return x;
}

static double apart(const float *got, const float *want, size_t n) {
    double off = 0, norm = 0;
    for (size_t k = 0; k < n; k++) {
        off += ((double)got[k] - (double)want[k]) * ((double)got[k] - (double)want[k]);
        norm += (double)want[k] * (double)want[k];
    }
    return sqrt(off / norm);
}

// LoRA's tensors in p, less what minus has in them, against the file's numbers
static void peft_tensors(FILE *f, const Config *c, const Params *p, const Params *minus, double bar) {
    int seen = 0;
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(c, i);
        if (!t.size || !t.trained) continue;
        float *got = tensor_data(p, &t), *want = peft_next(f, t.size);
        for (size_t k = 0; minus && k < t.size; k++) got[k] -= tensor_data(minus, &t)[k];
        double off = apart(got, want, t.size);
        ck_assert_msg(off <= bar, "%s of %s is off by %g", minus ? "update" : "gradient", t.name, off);
        free(want);
        seen++;
    }
    ck_assert_int_ge(seen, 4);
}

// The same A, B, base and batches as in the peft library: logits, gradients, and 20 steps of AdamW are its. The
// bar of the gradients is what float allows: peft's own on GPT-2 are 0.9e-5 off from peft in double.
START_TEST(is_the_peft_librarys) {
    const int which[] = {0, 2, 3, 4};             // GPT-2, Llama, Qwen2, Qwen3
    FILE *f = fopen("tests/golden_lora.bin", "rb");
    ck_assert_msg(f != NULL, "tests/golden_lora.bin cannot be read; the test runs in the top folder");
    for (size_t k = 0; k < sizeof which / sizeof *which; k++) {
        static Rectangle r;
        const Golden *g = &GOLDEN[which[k]];
        Config c = with_lora(which[k]);
        golden_batch(&r, g, 0);
        Own o = trainer(&c, &r, false, false), start = trainer(&c, &r, false, false);
        golden_weights(&o.m);
        golden_weights(&start.m);
        size_t n;
        const float *z = logits_of(&o.m, &r, &n);
        float *loss = peft_next(f, GOLDEN_STEPS), *logits = peft_next(f, n * (size_t)c.vocab);
        double off = apart(z, logits, n * (size_t)c.vocab);
        ck_assert_msg(off <= 1e-5, "%s: logits are off by %g", g->name, off);
        for (int step = 0; step < GOLDEN_STEPS; step++) {
            golden_batch(&r, g, step);
            model_zero_grad(&o.m);
            double got = add_gradient(&o.m, &r.b, 1.0f / (float)r.targets) / (double)r.targets;
            double norm = model_grad_norm(&o.m);
            ck_assert_msg(fabs(got / (double)loss[step] - 1) <= 1e-5, "%s, step %d: loss %g, want %g", g->name,
                          step, got, (double)loss[step]);
            if (step == 0) peft_tensors(f, &c, &o.m.g, NULL, 5e-5);
            model_update(&o.m, &GOLDEN_ADAMW, norm, step + 1);
        }
        peft_tensors(f, &c, &o.m.w, &start.m.w, 2e-4);
        free(loss);
        free(logits);
        own_free(&o);
        own_free(&start);
    }
    ck_assert_int_eq(fgetc(f), EOF);
    fclose(f);
}
END_TEST

int main(void) {
    Suite *s = suite_create("LoRA");
    TCase *t = tcase_create("bits");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, recompute_changes_no_bit, 0, GOLDENS);
    tcase_add_loop_test(t, halves_change_no_bit, 0, GOLDENS);
    tcase_add_loop_test(t, starts_at_the_base_and_leaves_it_alone, 0, GOLDENS);
    tcase_add_loop_test(t, acts_as_the_merged_matrix, 0, GOLDENS);
    tcase_add_test(t, is_the_peft_librarys);
    tcase_add_loop_test(t, lora_begins_as_pefts, 0, GOLDENS);
    tcase_add_test(t, numbers_of_lora_are_checked);
    tcase_add_loop_test(t, plan_is_smaller, 0, GOLDENS);
    suite_add_tcase(s, t);
    return run_suite(s);
}

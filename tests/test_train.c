// test_train.c -- the parts of train.c that can be told from outside only by their effects: split, order, and
// the tokenizer that --init keeps. The program itself is tested by cli.sh.
#define main train_main
int main(int argc, char **argv);
#include "../train.c"
#undef main
#include <check.h>

Suite *train_suite(void);

// Rows 0..n-1, each of two or three tokens, with hashes of their own.
static Examples numbered(size_t n) {
    static const int32_t tok[3] = {0};
    static const uint8_t taught[3] = {0, 1, 1};
    Examples x = {.ex = calloc(n, sizeof *x.ex), .n = n};
    ck_assert_ptr_nonnull(x.ex);
    for (size_t i = 0; i < n; i++)
        x.ex[i] = (Example){0, tok, taught, 2 + i % 2, 1, (uint32_t)i, hash_number(i, 0)};
    examples_count(&x);
    return x;
}

START_TEST(split_moves_no_old_row) {
    bool was_held[100] = {false};
    Examples train, held;
    for (size_t n = 100; n <= 400; n += 300) {
        Examples all = numbered(n);
        examples_split(&all, 0.25, 9, &train, &held);
        ck_assert_uint_eq(train.n + held.n, n);
        ck_assert_uint_eq(train.tokens + held.tokens, all.tokens);
        ck_assert_uint_eq(train.targets + held.targets, all.targets);
        ck_assert(held.n > n / 8 && held.n < n / 2);
        for (size_t i = 0; i < held.n; i++) {
            ck_assert(i == 0 || held.ex[i].row > held.ex[i - 1].row);      // in the order of the file
            if (held.ex[i].row >= 100) continue;
            ck_assert(n == 100 || was_held[held.ex[i].row]);
            was_held[held.ex[i].row] = true;
        }
        for (size_t i = 0; i < train.n; i++) {
            ck_assert(i == 0 || train.ex[i].row > train.ex[i - 1].row);
            ck_assert(train.ex[i].row >= 100 || !was_held[train.ex[i].row]);
        }
        examples_split(&all, 0.25, 10, &train, &held);                     // another seed, another split
        bool same = true;
        for (size_t i = 0; i < held.n; i++) same = same && held.ex[i].row < 100 && was_held[held.ex[i].row];
        ck_assert(!same);
        examples_split(&all, 0, 9, &train, &held);
        ck_assert(held.n == 0 && train.n == n && train.longest == all.longest);
        examples_split(&all, 1, 9, &train, &held);
        ck_assert(held.n == n && train.n == 0);
        free(all.ex);
    }
} END_TEST

// A model that was trained over and over must not fill memory with the tale of it.
START_TEST(a_long_lineage_is_refused) {
    static Run r;
    static char tale[(1 << 20) + 2];
    Err e = {""};
    memset(tale, 'x', sizeof tale - 1);
    r.base.lineage = tale;
    opt.model = "old.bin";
    ck_assert_int_eq(describe(&r, &e), -1);
    ck_assert_str_eq(e.msg, "old.bin: lineage of 1048577 bytes, want at most 1 MiB");
    opt.model = NULL;
} END_TEST

// peers 21: nothing is skipped or seen twice after a resume
START_TEST(order_is_a_permutation_and_pure) {
    enum { N = 100 };
    uint32_t a[N], b[N];
    bool seen[N] = {false};
    order_make(a, N, 1, 0);
    order_make(b, N, 1, 0);
    ck_assert_mem_eq(a, b, sizeof a);
    for (int i = 0; i < N; i++) {
        ck_assert(a[i] < N && !seen[a[i]]);
        seen[a[i]] = true;
    }
    order_make(b, N, 1, 1);
    ck_assert_mem_ne(a, b, sizeof a);
    order_make(b, N, 2, 0);
    ck_assert_mem_ne(a, b, sizeof a);
    order_make(b, 0, 1, 0);
} END_TEST

START_TEST(a_kept_tokenizer_stands_alone) {
    static const char text[] = "the other mother\xff went there, the brother went with her<|endoftext|>";
    enum { N = sizeof text - 1, VOCAB = 264, IDS = 256 };
    static uint64_t memory[1 << 17], index[1 << 17], scratch[1 << 10];
    Tokenizer t, kept;
    int32_t ids[2][IDS];
    void *own;
    size_t n;
    Fault f;
    Err e;
    ck_assert_uint_le(tokenizer_train_size(N, VOCAB), sizeof memory);
    ck_assert_int_eq(tokenizer_train(&t, (const uint8_t *)text, N, VOCAB, memory, &f), 0);
    ck_assert_uint_eq(t.vocab, VOCAB);
    ck_assert_uint_le(tokenizer_index_size(VOCAB, t.merges), sizeof index);
    kept = t;
    ck_assert_msg(tokenizer_keep(&kept, &own, &e) == 0, "%s", e.msg);
    ck_assert_int_eq(tokenizer_index(&t, index, &f), 0);
    ck_assert_uint_le(tokenizer_encode_size(&t, N), sizeof scratch);
    size_t k = tokenizer_encode(&t, (const uint8_t *)text, N, true, ids[0], scratch);
    memset(memory, 0, sizeof memory);                                      // what it was copied from goes
    memset(index, 0, sizeof index);
    ck_assert_uint_eq(tokenizer_encode(&kept, (const uint8_t *)text, N, true, ids[1], scratch), k);
    ck_assert_mem_eq(ids[0], ids[1], k * sizeof **ids);
    ck_assert(k < N - 12 && ids[1][k - 1] == kept.eot);
    const uint8_t *bytes = tokenizer_decode(&kept, kept.eot, &n);
    ck_assert(n == 13 && !memcmp(bytes, "<|endoftext|>", n));
    block_free(own);
} END_TEST

// One step of 16 rows of several lengths, `micro` of them at once: the gradients into g, the weights after it into w
static void step_of_16(int64_t micro, float *g, float *w, size_t n) {
    enum { ROWS = 16, LEN = 12 };
    static int32_t tok[ROWS * LEN];
    static uint8_t taught[ROWS * LEN];
    Example ex[ROWS];
    Run r = {.train = {.ex = ex, .n = ROWS}, .per_epoch = 1, .steps = 10, .micro = (size_t)micro};
    const Config c = {.vocab = 40, .context = 16, .layers = 2, .heads = 2, .kv_heads = 2, .head_size = 8, .width = 16,
                      .hidden = 32, .bias = 1, .tied = 1, .norm_eps = 1e-5f, .rope_theta = 10000.0f};
    const Shape shape = {.rows = (size_t)micro, .seq = LEN, .step_tokens = ROWS * LEN, .train = true, .threads = 2};
    const Example *pick[ROWS];
    uint32_t order[ROWS];
    StepResult result;
    Plan p;
    Fault f;
    Err e;
    for (size_t i = 0; i < ROWS; i++) {
        ex[i] = (Example){i * LEN, tok + i * LEN, taught + i * LEN, 4 + (uint32_t)i % 9, 2, (uint32_t)i, i};
        for (size_t k = 0; k < LEN; k++) {
            tok[i * LEN + k] = (int32_t)((i * 7 + k * 5) % 40);
            taught[i * LEN + k] = k > 1;
        }
    }
    r.pick = pick, r.order = order;
    opt.batch = ROWS;
    order_make(order, ROWS, 1, 0);
    ck_assert_msg(model_plan(&p, &c, &shape, &f) == 0, "%s", f.what);
    void *block = block_alloc(p.bytes, &e);
    ck_assert_ptr_nonnull(block);
    ck_assert_int_eq(batch_alloc(&r.batch, (size_t)micro, LEN, &e), 0);
    model_bind(&r.m, &p, block);
    model_init(&r.m, 1);
    ck_assert_uint_le(model_params(&c), n);
    ck_assert_msg(one_step(&r, 1, &result, &e) == 0, "%s", e.msg);
    ck_assert(result.norm > 0.0 && result.loss > 0.0);
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&c, i);
        if (t.size == 0) continue;
        memcpy(g, tensor_data(&r.m.g, &t), t.size * sizeof *g), g += t.size;
        memcpy(w, tensor_data(&r.m.w, &t), t.size * sizeof *w), w += t.size;
    }
    batch_free(&r.batch);
    block_free(block);
}

START_TEST(gradients_do_not_depend_on_micro) {
    enum { N = 1 << 13 };
    static const int64_t micro[] = {1, 2, 5, 8, 16};
    static float g[2][N], w[2][N];
    for (int i = 0; i < 5; i++) {
        step_of_16(micro[i], g[i > 0], w[i > 0], N);
        ck_assert_mem_eq(g[0], g[i > 0], sizeof *g);
        ck_assert_mem_eq(w[0], w[i > 0], sizeof *w);
    }
    double sum = 0.0;
    for (int i = 0; i < N; i++) sum += fabs((double)g[0][i]);
    ck_assert(sum > 0.1);
} END_TEST

// Two layers of width 2 and an adapter's matrices beside qkvw: layer_norms against sums written down
START_TEST(layer_norms_are_those_of_the_gradients) {
    enum { N = 4096 };
    static float g[N];
    Run r = {.cfg = {.vocab = 4, .context = 4, .layers = 2, .heads = 1, .kv_heads = 1, .head_size = 2, .width = 2,
                     .hidden = 2, .bias = 1, .tied = 1}, .plan.shape.threads = 2};
    for (int lora = 0; lora < 2; lora++) {
        double sum[2] = {0}, got[2];
        size_t used = 0;
        Text t = {0};
        r.cfg.lora_rank = lora, r.cfg.lora_on = lora ? LORA_QKV : 0;
        memset(&r.m.g, 0, sizeof r.m.g);
        for (int i = 0; i < TENSORS; i++) {
            Tensor of = model_tensor(&r.cfg, i);
            float *p = g + used;
            if (!of.trained || !of.size) continue;
            memcpy((char *)&r.m.g + of.where, &p, sizeof p);
            for (size_t k = 0; k < of.size; k++) {
                p[k] = (float)((int)(k * 7 + (size_t)i) % 11 - 5);
                if (of.stacked) sum[k / (of.size / 2)] += (double)p[k] * (double)p[k];
            }
            used += of.size;
            ck_assert_uint_le(used, N);
        }
        say_layer_norms(&t, &r);
        ck_assert_msg(sscanf(t.s, ", \"layer_norms\": [%lf, %lf]", &got[0], &got[1]) == 2, "%s", t.s);
        for (int l = 0; l < 2; l++) ck_assert(sum[l] > 1 && fabs(got[l] * got[l] - sum[l]) < 1e-7 * sum[l]);
        free(t.s);
    }
} END_TEST

// Two layers of two numbers: 3, 4 become 3, 5 and 0, 0 become 0, 2
START_TEST(changes_are_those_of_the_weights) {
    float now[] = {3, 5, 0, 2}, before[] = {3, 4, 0, 0};
    const Tensor t = {.where = offsetof(Params, ln1w), .dim = {2, 2, 1}, .size = 4, .stacked = true};
    Run r = {.m.w.ln1w = now, .m.g.ln1w = before};
    Norms s = norms_of(&r, &t, 0);
    ck_assert(s.change == 1.0 && s.base == 25.0 && percent(s) == 20.0);
    s = norms_of(&r, &t, 1);
    ck_assert(s.change == 4.0 && s.base == 0.0 && percent(s) == 100.0);
    before[3] = 2.0f;
    s = norms_of(&r, &t, 1);
    ck_assert(s.change == 0.0 && percent(s) == 0.0);
} END_TEST

Suite *train_suite(void) {
    Suite *s = suite_create("train");
    TCase *t = tcase_create("train");
    tcase_add_test(t, split_moves_no_old_row);
    tcase_add_test(t, a_long_lineage_is_refused);
    tcase_add_test(t, order_is_a_permutation_and_pure);
    tcase_add_test(t, a_kept_tokenizer_stands_alone);
    tcase_add_test(t, gradients_do_not_depend_on_micro);
    tcase_add_test(t, changes_are_those_of_the_weights);
    tcase_add_test(t, layer_norms_are_those_of_the_gradients);
    suite_add_tcase(s, t);
    return s;
}

// bench.c -- what this machine can do, and how much of it the program uses. Ratios of one run, never of two.
//
//     peak     fused multiply-adds per second, the best of several loops that do nothing else
//     matmul   every matrix product of a training step, forward, dX and dW, as a share of that peak
//     train    a whole training step of a named configuration on random weights and tokens, every position a
//     target
//
// A step counts 6 flops per weight of matrices that multiply (the head included, lookup tables not) per
// token, plus the causal half of attention. It includes model.c, since the matrix product is private to it.
#define _POSIX_C_SOURCE 200809L
#include "../model.c"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static struct {
    const char *config;
    int64_t batch, seq, threads, repeat;
    bool json, help;
} opt = {.config = "gpt2-124m", .batch = 4, .seq = 256, .repeat = 5};

static Option OPTION[] = {
    TEXT("--config", &opt.config, "NAME", "gpt2-124m, gpt2-355m, smollm2-135m, qwen2.5-0.5b or demo"),
    INT("--batch", &opt.batch, 1, 4096, "N", "rows of the step"),
    INT("--seq", &opt.seq, 1, 1 << 15, "N", "tokens in a row"),
    INT("--threads", &opt.threads, 1, 1024, "N", "otherwise all cores"),
    INT("--repeat", &opt.repeat, 1, 1000, "N", "measurements; the median is shown"),
    FLAG("--json", &opt.json, "one line of JSON for each figure"),
    FLAG("--help", &opt.help, "print this"),
};
enum { OPTIONS = sizeof OPTION / sizeof OPTION[0] };

static const struct { const char *name; Config c;
} NAMED[] = {
    {"gpt2-124m",
     {.vocab = 50257,
      .context = 1024,
      .layers = 12,
      .heads = 12,
      .kv_heads = 12,
      .head_size = 64,
      .width = 768,
      .hidden = 3072,
      .bias = 1,
      .tied = 1,
      .norm_eps = 1e-5f}},
    {"gpt2-355m",
     {.vocab = 50257,
      .context = 1024,
      .layers = 24,
      .heads = 16,
      .kv_heads = 16,
      .head_size = 64,
      .width = 1024,
      .hidden = 4096,
      .bias = 1,
      .tied = 1,
      .norm_eps = 1e-5f}},
    {"smollm2-135m",
     {.vocab = 49152,
      .context = 8192,
      .layers = 30,
      .heads = 9,
      .kv_heads = 3,
      .head_size = 64,
      .width = 576,
      .hidden = 1536,
      .rms = 1,
      .rope = 1,
      .swiglu = 1,
      .tied = 1,
      .norm_eps = 1e-5f,
      .rope_theta = 1e5f}},
    {"qwen2.5-0.5b",
     {.vocab = 151936,
      .context = 32768,
      .layers = 24,
      .heads = 14,
      .kv_heads = 2,
      .head_size = 64,
      .width = 896,
      .hidden = 4864,
      .rms = 1,
      .rope = 1,
      .swiglu = 1,
      .qkv_bias = 1,
      .tied = 1,
      .norm_eps = 1e-6f,
      .rope_theta = 1e6f}},
    {"demo",
     {.vocab = 2048,
      .context = 256,
      .layers = 6,
      .heads = 6,
      .kv_heads = 6,
      .head_size = 32,
      .width = 192,
      .hidden = 768,
      .bias = 1,
      .tied = 1,
      .norm_eps = 1e-5f}},
};
enum { NAMES = sizeof NAMED / sizeof NAMED[0] };

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double median(double *x, size_t n) {
    qsort(x, n, sizeof *x, compare);
    return n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]);
}

static void line(const char *what, double gflops, double peak, const char *rest) {
    if (opt.json)
        printf("{\"what\": \"%s\", \"gflops\": %.2f, \"of_peak\": %.4f}\n", what, gflops, gflops / peak);
    else printf("%-34s %8.1f GFLOP/s %6.3f of peak%s\n", what, gflops, gflops / peak, rest);
    fflush(stdout);
}

// ---- peak -------------------------------------------------------------------------------------------------
// acc = fmaf(acc, x, y) for rows x cols of them at once, enough chains to hide the latency: 24 and 28 vectors
// of AVX-512, 12 of AVX2. x and y are such that acc stays near 1; x comes from memory, lest a compiler swap
// the loops.

enum { TURNS = 4096, CALLS = 200 };
#define PEAK_LOOP(rows, cols)                                                                                \
    static void peak_##rows##x##cols(float *io, const float *x, float y) {                                   \
        float acc[rows][cols];                                                                               \
        for (size_t i = 0; i < rows; i++)                                                                    \
            for (size_t j = 0; j < cols; j++) acc[i][j] = io[i * cols + j];                                  \
        for (size_t k = 0; k < TURNS; k++)                                                                   \
            for (size_t i = 0; i < rows; i++)                                                                \
                for (size_t j = 0; j < cols; j++) acc[i][j] = fmaf(acc[i][j], x[k], y);                      \
        for (size_t i = 0; i < rows; i++)                                                                    \
            for (size_t j = 0; j < cols; j++) io[i * cols + j] = acc[i][j];                                  \
    }
PEAK_LOOP(12, 32)
PEAK_LOOP(14, 32)
PEAK_LOOP(8, 48)
PEAK_LOOP(4, 24)

static double peak_of(void (*loop)(float *, const float *, float), size_t sums, int threads) {
    double best = 0.0;
    static float io[1024][512], x[TURNS];
    for (size_t i = 0; i < TURNS; i++) x[i] = 0.5f;
    for (int turn = 0; turn < 5; turn++) {
        double start = seconds();
        #pragma omp parallel for schedule(static) num_threads(threads)
        for (int w = 0; w < threads; w++)         // worker w owns io[w]
            for (int call = 0; call < CALLS; call++) loop(io[w], x, 0.5f);
        double rate = 2.0 * (double)sums * TURNS * CALLS * threads / (seconds() - start) * 1e-9;
        if (rate > best) best = rate;
    }
    return best;
}

static double peak(int threads) {
    const struct { const char *name; void (*loop)(float *, const float *, float); size_t sums; } loop[] = {
        {"peak, 12 x 32 sums", peak_12x32, 384}, {"peak, 14 x 32 sums", peak_14x32, 448},
        {"peak, 8 x 48 sums", peak_8x48, 384},   {"peak, 4 x 24 sums", peak_4x24, 96},
    };
    double rate[4], best = 0.0;
    for (size_t i = 0; i < 4; i++) {
        rate[i] = peak_of(loop[i].loop, loop[i].sums, threads);
        best = rate[i] > best ? rate[i] : best;
    }
    for (size_t i = 0; i < 4; i++) line(loop[i].name, rate[i], best, "");
    return best;
}

// ---- matmul -----------------------------------------------------------------------------------------------

static double time_product(const Model *m, float *out, size_t ldo, Mat a, Mat b, const float *from, size_t M,
                           size_t K, size_t N) {
    double t[1000];
    for (int64_t i = 0; i < opt.repeat; i++) {
        double start = seconds();
        matmul(m, out, ldo, a, b, from, M, K, N);
        t[i] = seconds() - start;
    }
    return 2.0 * (double)M * (double)K * (double)N / median(t, (size_t)opt.repeat) * 1e-9;
}

// The three products of a linear layer (C -> OC) over N rows, and of the head, whose matrix lies the other
// way round
static int bench_products(const Config *c, double top, int threads, Err *e) {
    Dims d = dims_of(c);
    size_t N = (size_t)(opt.batch * opt.seq);
    const struct { const char *name; size_t n, c, oc; bool head;
    } layer[] = {
        {"qkv", N, d.C, d.Q, false},
        {"proj", N, d.A, d.C, false},
        {"fc1", N, d.C, d.F1, false},
        {"fc2", N, d.F, d.C, false},
        {"head", min_size(N, HEAD_ROWS), d.C, d.V, true},
    };
    size_t widest = max_size(max_size(d.Q, d.F1), max_size(d.C, d.V)), scratch = MC * KC + KC * NR;
    size_t weights = d.C * widest, rows = N * max_size(max_size(d.Q, d.F1), d.C) + HEAD_ROWS * d.V;
    float *block = block_alloc((weights + 2 * rows + scratch * (size_t)threads) * sizeof *block, e);
    if (!block) return -1;
    float *w = block, *x = w + weights, *y = x + rows;
    for (size_t i = 0; i < weights + 2 * rows; i++) block[i] = 1e-3f * (float)(i % 17);
    Model m = {.shape.threads = threads, .x.scratch = y + rows, .scratch = scratch};
    double flops = 0.0, time = 0.0;
    for (size_t i = 0; i < 5; i++)
        for (int kind = 0; kind < 3; kind++) {
            size_t n = layer[i].n, C = layer[i].c, OC = layer[i].oc;
            bool head = layer[i].head;
            Mat W = head ? transposed(w, C) : mat(w, OC), WT = head ? mat(w, C) : transposed(w, OC);
            double rate = kind == 0   ? time_product(&m, y, OC, mat(x, C), W, NULL, n, C, OC)
                          : kind == 1 ? time_product(&m, x, C, mat(y, OC), WT, NULL, n, OC, C)
                          : head ? time_product(&m, w, C, transposed(y, OC), mat(x, C), w, OC, n, C)
                                 : time_product(&m, w, OC, transposed(x, C), mat(y, OC), w, C, n, OC);
            char name[64];
            snprintf(name, sizeof name, "%s %s %zu x %zu x %zu", layer[i].name,
                     kind == 0   ? "forward"
                     : kind == 1 ? "dX"
                                 : "dW",
                     n, C, OC);
            line(name, rate, top, "");
            flops += 2.0 * (double)n * (double)C * (double)OC;
            time += 2.0 * (double)n * (double)C * (double)OC / rate;
        }
    line("all products together", flops / time, top, "");
    block_free(block);
    return 0;
}

// ---- train ------------------------------------------------------------------------------------------------

static double step_flops(const Config *c, double B, double T) {
    Dims d = dims_of(c);
    double weights = (double)d.L * ((double)d.C * (double)d.Q + (double)d.A * (double)d.C +
                                    (double)d.C * (double)d.F1 + (double)d.F * (double)d.C) +
                     (double)d.V * (double)d.C;
    // attention: q.k and p.v are 4 A flops for each of T(T+1)/2 pairs, forward; twice that again in backward
    return 6.0 * weights * B * T + 3.0 * 4.0 * (double)d.A * (double)d.L * B * T * (T + 1.0) / 2.0;
}

static int bench_step(const Config *c, double top, int threads, Err *e) {
    int rc = -1;
    size_t B = (size_t)opt.batch, T = (size_t)opt.seq;
    Shape s = {B, T, B * T, 0, true, false, false, threads};
    Plan p;
    Fault f;
    Model m;
    void *block = NULL;
    int32_t *tok = malloc(B * T * sizeof *tok), *len = malloc(B * sizeof *len);
    double t[1000], part[4][1000], sum = 0.0;
    if (!tok || !len) { err_set(e, "no memory for a batch"); goto out; }
    if (model_plan(&p, c, &s, &f)) { err_fault(e, opt.config, &f); goto out; }
    if (!(block = block_alloc(p.bytes, e))) goto out;
    model_bind(&m, &p, block);
    model_init(&m, 1);
    Rng r = {2};
    for (size_t i = 0; i < B * T; i++) tok[i] = (int32_t)rng_below(&r, (uint64_t)c->vocab);
    for (size_t i = 0; i < B; i++) len[i] = (int32_t)T;
    Batch b = {tok, tok, len, NULL, B, T};
    AdamW o = {1e-4f, 0.9f, 0.95f, 1e-8f, 0.1f, 1.0f};
    for (int64_t i = -1; i < opt.repeat; i++) {   // the first step touches the memory and is not counted
        double at[5] = {seconds()};
        model_zero_grad(&m);
        if (model_forward(&m, &b, &f)) { err_fault(e, opt.config, &f); goto out; }
        at[1] = seconds();
        model_loss(&m, &b, 1.0f / (float)(B * T), &sum, NULL);
        at[2] = seconds();
        model_backward(&m, &b);
        at[3] = seconds();
        model_update(&m, &o, model_grad_norm(&m), i + 2);
        at[4] = seconds();
        if (i < 0) continue;
        for (int k = 0; k < 4; k++) part[k][i] = at[k + 1] - at[k];
        t[i] = at[4] - at[0];
    }
    size_t n = (size_t)opt.repeat;
    double step = median(t, n), gib = 1024.0 * 1024.0 * 1024.0;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    char name[64], rest[64];
    snprintf(name, sizeof name, "step %s B=%zu T=%zu", opt.config, B, T);
    snprintf(rest, sizeof rest, "\n");
    line(name, step_flops(c, (double)B, (double)T) / step * 1e-9, top, rest);
    if (opt.json)
        printf("{\"what\": \"tokens per second\", \"value\": %.1f}\n{\"what\": \"resident GiB\", \"value\": "
               "%.3f, \"plan\": %.3f}\n",
               (double)(B * T) / step, (double)usage.ru_maxrss * 1024.0 / gib, (double)p.bytes / gib);
    else
        printf(
            "  %.0f tokens/s, %.3f s a step: forward %.3f, head and loss %.3f, backward %.3f, update %.3f\n"
            "  peak resident memory %.3f GiB, plan %.3f GiB, %d threads\n",
            (double)(B * T) / step, step, median(part[0], n), median(part[1], n), median(part[2], n),
            median(part[3], n), (double)usage.ru_maxrss * 1024.0 / gib, (double)p.bytes / gib, threads);
    rc = 0;
out:
    block_free(block);
    free(tok);
    free(len);
    return rc;
}

int main(int argc, char **argv) {
    Err e;
    const char *word[3];
    int n = 0, which = -1, rc = options_parse(OPTION, OPTIONS, argc, argv, word, 3, &n, &e);
    if (!rc && opt.help) {
        printf("bench -- this machine's limit, and the share of it that is used (tune.c %s)\n\n"
               "  ./bench [peak] [matmul] [train] [options]      without a word: all three\n\n",
               TUNE_VERSION);
        options_print(OPTION, OPTIONS);
        return EXIT_SUCCESS;
    }
    bool matmul_wanted = n == 0, train_wanted = n == 0;
    for (int i = 0; i < n && !rc; i++) {
        if (!strcmp(word[i], "matmul")) matmul_wanted = true;
        else if (!strcmp(word[i], "train")) train_wanted = true;
        else if (strcmp(word[i], "peak"))
            rc = err_set(&e, "'%s', want peak, matmul or train\nhint: ./bench --help", word[i]);
    }
    for (int i = 0; i < NAMES && !rc; i++)
        if (!strcmp(opt.config, NAMED[i].name)) which = i;
    if (!rc && which < 0)
        rc = err_set(&e, "--config: '%s', want gpt2-124m, gpt2-355m, smollm2-135m, qwen2.5-0.5b or demo",
                     opt.config);
    if (!rc) {
        int threads = opt.threads ? (int)opt.threads : cores();
        double top = peak(threads);
        if (matmul_wanted) rc = bench_products(&NAMED[which].c, top, threads, &e);
        if (!rc && train_wanted) rc = bench_step(&NAMED[which].c, top, threads, &e);
    }
    if (rc) fprintf(stderr, "bench: %s\n", e.msg);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

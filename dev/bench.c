// bench.c -- what this machine can do, and how much of it the program uses. Every figure stands beside the
// limit that bounds it, measured in the same run: ratios of one run, never of two.
//
//     peak      fused multiply-adds and bytes of memory per second, the best of several loops that do nothing
//               else
//     train     a step on random weights and tokens, every position a target: full, LoRA, --recompute;
//               where its time goes, kernel by kernel; 1 thread against all
//     growth    forward and backward over the length and number of rows: is there a cliff?
//     infer     prefill and decoding
//     tokenize  text to ids, one thread
//     eval      the loss of rows, and answers to many rows at once
//
// Flops are 6 per weight of matrices that multiply (the head included, lookup tables not) per token, plus the
// causal half of attention; what is computed twice counts once. Without options a word shows the bars of
// dev/PERFORMANCE.md; with a configuration, batch or length of the user's it shows that one, without a bar.
//
// Each figure is taken in a process of its own, so that its peak of resident memory is its own. The parent
// computes nothing: threads do not survive a fork.
#define _POSIX_C_SOURCE 200809L
#include "bench.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct {
    const char *config, *model, *text;
    int64_t batch, seq, lora, threads, repeat;
    bool recompute, half, json, help, version;
} opt = {.config = "gpt2-124m", .model = "dev/demo/base.bin", .text = "README.md", .batch = 4, .seq = 256,
         .repeat = 5};

enum { OPT_CONFIG, OPT_BATCH, OPT_SEQ, OPT_LORA, OPT_RECOMPUTE, OPT_BF16 };
static Option OPTION[] = {
    TEXT("--config", &opt.config, "NAME", "gpt2-124m, gpt2-355m, smollm2-135m, qwen2.5-0.5b or demo"),
    INT("--batch", &opt.batch, 1, 4096, "N", "rows of a step, or of answers"),
    INT("--seq", &opt.seq, 1, 1 << 15, "N", "tokens in a row"),
    INT("--lora", &opt.lora, 1, 1024, "R", "LoRA of this rank beside all linear layers"),
    FLAG("--recompute", &opt.recompute, "activations are computed again, not kept"),
    FLAG("--bf16", &opt.half, "weights that are not trained are bf16"),
    INT("--threads", &opt.threads, 1, 1024, "N", "otherwise all cores"),
    INT("--repeat", &opt.repeat, 1, 99, "N", "measurements; the median is shown"),
    TEXT("--model", &opt.model, "FILE", "tokenize: the checkpoint whose tokenizer it is"),
    TEXT("--text", &opt.text, "FILE", "tokenize: the text"),
    FLAG("--json", &opt.json, "one line of JSON for each figure"),
    FLAG("--help", &opt.help, "print this"),
    FLAG("--version", &opt.version, "print the version"),
};
enum { OPTIONS = sizeof OPTION / sizeof OPTION[0], REPEAT_MAX = 100 };

#define GPT2(l, h)                                                                                           \
    {.vocab = 50257, .context = 1024, .layers = l, .heads = h, .kv_heads = h, .head_size = 64,               \
     .width = 64 * (h), .hidden = 256 * (h), .bias = 1, .tied = 1, .norm_eps = 1e-5f}
#define LLAMA(v, p, l, h, kv, f, biases, theta)                                                              \
    {.vocab = v, .context = p, .layers = l, .heads = h, .kv_heads = kv, .head_size = 64, .width = 64 * (h),  \
     .hidden = f, .rms = 1, .rope = 1, .swiglu = 1, .qkv_bias = biases, .tied = 1, .norm_eps = 1e-5f,        \
     .rope_theta = theta}
static const struct { const char *name; Config c; } NAMED[] = {
    {"gpt2-124m", GPT2(12, 12)},
    {"gpt2-355m", GPT2(24, 16)},
    {"smollm2-135m", LLAMA(49152, 8192, 30, 9, 3, 1536, 0, 1e5f)},
    {"qwen2.5-0.5b", LLAMA(151936, 32768, 24, 14, 2, 4864, 1, 1e6f)},
    {"demo", {.vocab = 2048, .context = 256, .layers = 6, .heads = 6, .kv_heads = 6, .head_size = 32,
              .width = 192, .hidden = 768, .bias = 1, .tied = 1, .norm_eps = 1e-5f}},
};
enum { NAMES = sizeof NAMED / sizeof NAMED[0] };

// What bounds the figures: flops by all threads and by one, bytes of memory read or written, bytes only read,
// in a second.
typedef struct { double flops, alone, bytes, reads; int threads; Config cfg; } Machine;

// ---- lines ------------------------------------------------------------------------------------------------

typedef struct {
    const char *what;
    double value;
    const char *unit;
    double fraction;                  // of the limit named by `of`, unless that is NULL
    const char *of;
    double bar, judged;               // bar 0: none; judged: what must reach it, or with at_most stay below
    bool at_most;
    double resident, plan;            // GiB; 0: not shown
} Line;

static void line(const Line *l) {
    bool met = l->at_most ? l->judged <= l->bar : l->judged >= l->bar;
    if (opt.json) {
        printf("{\"what\": \"%s\", \"value\": %.6g, \"unit\": \"%s\"", l->what, l->value, l->unit);
        if (l->of) printf(", \"fraction\": %.4f, \"of\": \"%s\"", l->fraction, l->of);
        if (l->bar > 0.0)
            printf(", \"judged\": %.4f, \"bar\": %.4f, \"at_most\": %s, \"met\": %s", l->judged, l->bar,
                   l->at_most ? "true" : "false", met ? "true" : "false");
        if (l->plan > 0.0) printf(", \"resident_gib\": %.3f, \"plan_gib\": %.3f", l->resident, l->plan);
        printf("}\n");
    } else {
        printf("%-45s %8.*f %-9s", l->what, l->value < 100.0 ? 2 : 1, l->value, l->unit);
        if (l->of) printf(" %5.3f of %s", l->fraction, l->of);
        if (l->bar > 0.0)
            printf("   bar %s %.2f: %s", l->at_most ? "<=" : ">=", l->bar, met ? "met" : "MISSED");
        if (l->plan > 0.0) printf("   %.2f GiB, plan %.2f", l->resident, l->plan);
        printf("\n");
    }
    fflush(stdout);
}

// A figure without a bar, with the share of what bounds it or without.
static void share_line(const char *what, double value, const char *unit, double share, const char *of) {
    line(&(Line){what, value, unit, share, of, 0.0, 0.0, false, 0.0, 0.0});
}
static void figure_line(const char *what, double value, const char *unit) {
    share_line(what, value, unit, 0.0, NULL);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double median(const double *x, size_t n) {
    double y[REPEAT_MAX];
    memcpy(y, x, n * sizeof *y);
    qsort(y, n, sizeof *y, compare);
    return n % 2 ? y[n / 2] : 0.5 * (y[n / 2 - 1] + y[n / 2]);
}

// ---- a process for each figure ----------------------------------------------------------------------------

static double resident_gib(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_maxrss / (1024.0 * 1024.0);    // ru_maxrss is in KiB
}

typedef int (*Job)(void *arg, Err *e);
typedef struct { int rc; Err e; } Outcome;

static bool read_all(int from, void *to, size_t n) {
    size_t done = 0;
    for (ssize_t k; done < n && (k = read(from, (char *)to + done, n - done)) > 0;) done += (size_t)k;
    return done == n;
}

static void child(Job job, void *arg, size_t bytes, int to) {
    Outcome o = {.rc = 0};
    o.rc = job(arg, &o.e);
    bool sent = write(to, &o, sizeof o) == (ssize_t)sizeof o && write(to, arg, bytes) == (ssize_t)bytes;
    _exit(sent ? EXIT_SUCCESS : EXIT_FAILURE);
}

// Runs the job in a child and brings back what it made of arg, which holds no pointers that the child set.
static int apart(Job job, void *arg, size_t bytes, Err *e) {
    int end[2];
    Outcome o;
    if (pipe(end)) return err_set(e, "pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid == 0) child(job, arg, bytes, end[1]);
    close(end[1]);
    bool came = pid > 0 && read_all(end[0], &o, sizeof o) && read_all(end[0], arg, bytes);
    close(end[0]);
    if (pid > 0) waitpid(pid, NULL, 0);
    if (!came) return err_set(e, "a measurement ended early: out of memory?");
    if (o.rc) *e = o.e;
    return o.rc;
}

// ---- peak -------------------------------------------------------------------------------------------------
// acc = fmaf(acc, x, y) for rows x cols of them at once, enough chains to hide the latency: 24 and 28 vectors
// of AVX-512, 12 of AVX2. x and y are such that acc stays near 1; x comes from memory, lest a compiler swap
// the loops. On x86-64 a build for any such machine also has the loops of those instruction sets, so that its
// fractions are of the same peak.

enum { TURNS = 4096, LOOP_TURNS = 25, TRAFFIC_TURNS = 7, PEAK_TURNS = 5, WORKERS = 1024 };
#define PEAK_LOOP(name, rows, cols, target)                                                                  \
    target static void name(float *io, const float *x, float y) {                                            \
        float acc[rows][cols];                                                                               \
        for (size_t i = 0; i < rows; i++)                                                                    \
            for (size_t j = 0; j < cols; j++) acc[i][j] = io[i * cols + j];                                  \
        for (size_t k = 0; k < TURNS; k++)                                                                   \
            for (size_t i = 0; i < rows; i++)                                                                \
                for (size_t j = 0; j < cols; j++) acc[i][j] = fmaf(acc[i][j], x[k], y);                      \
        for (size_t i = 0; i < rows; i++)                                                                    \
            for (size_t j = 0; j < cols; j++) io[i * cols + j] = acc[i][j];                                  \
    }
PEAK_LOOP(loop_12x32, 12, 32, )
PEAK_LOOP(loop_14x32, 14, 32, )
PEAK_LOOP(loop_8x48, 8, 48, )
PEAK_LOOP(loop_4x24, 4, 24, )
#if defined(__x86_64__) && defined(__GNUC__)
PEAK_LOOP(loop_avx2, 4, 24, __attribute__((target("avx2,fma"))))
PEAK_LOOP(loop_avx512, 12, 32, __attribute__((target("avx512f"))))
#define HAS(feature) (__builtin_cpu_supports(feature) != 0)
#else
#define loop_avx2 loop_4x24
#define loop_avx512 loop_12x32
#define HAS(feature) false
#endif

typedef void (*PeakLoop)(float *io, const float *x, float y);
enum { LOOPS = 6, ALWAYS_HERE = 4 };
static const struct { const char *name; PeakLoop loop; double sums; } LOOP[LOOPS] = {
    {"peak, 12 x 32 sums", loop_12x32, 384},      {"peak, 14 x 32 sums", loop_14x32, 448},
    {"peak, 8 x 48 sums", loop_8x48, 384},        {"peak, 4 x 24 sums", loop_4x24, 96},
    {"peak, 4 x 24, AVX2", loop_avx2, 96},        {"peak, 12 x 32, AVX-512", loop_avx512, 384},
};
static bool loop_here(int l) {
    return l < ALWAYS_HERE || (l == 4 ? HAS("avx2") && HAS("fma") : HAS("avx512f"));
}

static double loop_seconds(int l, int calls, int threads) {
    static float io[WORKERS][512], x[TURNS];
    for (size_t i = 0; i < TURNS; i++) x[i] = 0.5f;
    double start = seconds();
    #pragma omp parallel for schedule(static) num_threads(threads)
    for (int w = 0; w < threads; w++)             // worker w owns io[w]
        for (int call = 0; call < calls; call++) LOOP[l].loop(io[w], x, 0.5f);
    return seconds() - start;
}

// The best of many turns of some milliseconds each: a moment without anything else on the machine is enough.
// How many calls that is one thread finds out, which waits for no other.
static double loop_rate(int l, int threads) {
    double best = 0.0;
    int calls = 1;
    while (loop_seconds(l, calls, 1) < 4e-3) calls *= 2;
    for (int turn = 0; turn < LOOP_TURNS; turn++)
        best = fmax(best, 2.0 * LOOP[l].sums * TURNS * calls * threads / loop_seconds(l, calls, threads));
    return best;
}

// Memory: each worker has its share of arrays that are far larger than any cache. What is written is read
// before, which counts for nothing unless the program does so itself.
enum { SPAN = 1 << 26, LINE_FLOATS = 64 };        // SPAN: floats of the arrays together, 256 MiB
typedef enum { READ, READ_FOUR, SCALE, COPY, ADD, STREAMS } Traffic;
static const struct { const char *name; size_t arrays; double bytes; } TRAFFIC[STREAMS] = {
    {"memory, read", 1, 4.0},             // bytes: for each float of an array
    {"memory, read in four places", 1, 4.0},
    {"memory, scale in place", 1, 8.0},
    {"memory, copy", 2, 8.0},
    {"memory, a = b + c", 3, 12.0},
};

static float traffic(Traffic kind, float *a, size_t n) {
    const float *b = a + n, *c = b + n;
    float lane[LINE_FLOATS] = {0}, sum = 0.0f;
    if (kind == READ)
        for (size_t i = 0; i < n; i += LINE_FLOATS)
            for (size_t j = 0; j < LINE_FLOATS; j++) lane[j] += a[i + j];
    if (kind == READ_FOUR)
        for (size_t i = 0; i < n / 4; i += LINE_FLOATS)
            for (size_t k = 0; k < 4; k++)
                for (size_t j = 0; j < LINE_FLOATS; j++) lane[j] += a[k * (n / 4) + i + j];
    if (kind == SCALE) for (size_t i = 0; i < n; i++) a[i] *= 1.0001f;
    if (kind == COPY) memcpy(a, b, n * sizeof *a);
    if (kind == ADD) for (size_t i = 0; i < n; i++) a[i] = b[i] + c[i];
    for (size_t j = 0; j < LINE_FLOATS; j++) sum += lane[j];
    return sum;
}

static double traffic_rate(Traffic kind, float *block, int threads) {
    double best = 0.0;
    static float keep[WORKERS];
    size_t n = SPAN / TRAFFIC[kind].arrays / (size_t)threads / (4 * LINE_FLOATS) * (4 * LINE_FLOATS);
    for (int turn = 0; turn < TRAFFIC_TURNS; turn++) {
        double start = seconds();
        #pragma omp parallel for schedule(static) num_threads(threads)
        for (int w = 0; w < threads; w++)         // worker w owns the w-th part of the block
            keep[w] = traffic(kind, block + (size_t)w * n * TRAFFIC[kind].arrays, n);
        best = fmax(best, TRAFFIC[kind].bytes * (double)n * threads / (seconds() - start));
    }
    return keep[0] < 0.0f ? 0.0 : best;           // all are 0 or above: what was read is used
}

typedef struct { int threads; double loop[LOOPS], alone, traffic[STREAMS]; } Peak;

static int peak_job(void *arg, Err *e) {
    Peak *p = arg;
    float *block = block_alloc((size_t)SPAN * sizeof(float), e);
    if (!block) return -1;
    for (int i = 0; i < LOOPS; i++) {
        if (!loop_here(i)) continue;
        p->loop[i] = fmax(p->loop[i], loop_rate(i, p->threads));
        p->alone = fmax(p->alone, loop_rate(i, 1));
    }
    for (int i = 0; i < STREAMS; i++)
        p->traffic[i] = fmax(p->traffic[i], traffic_rate((Traffic)i, block, p->threads));
    block_free(block);
    return 0;
}

static int bench_peak(Machine *m, bool shown, Err *e) {
    Peak p = {.threads = m->threads};
    int turns = opt.repeat < 5 ? 1 : PEAK_TURNS;
    for (int turn = 0; turn < turns && m->flops < 0.95 * m->threads * m->alone + 1.0; turn++) {
        if (apart(peak_job, &p, sizeof p, e)) return -1;    // again if somebody else had a core meanwhile
        for (size_t i = 0; i < LOOPS; i++) m->flops = fmax(m->flops, p.loop[i]);
        m->alone = p.alone;
    }
    for (size_t i = 0; i < STREAMS; i++) m->bytes = fmax(m->bytes, p.traffic[i]);
    m->reads = fmax(p.traffic[READ], p.traffic[READ_FOUR]);
    if (!shown) return 0;
    for (int i = 0; i < LOOPS; i++)
        if (loop_here(i))
            share_line(LOOP[i].name, p.loop[i] * 1e-9, "GFLOP/s", p.loop[i] / m->flops, "the best");
    figure_line("all threads against 1 (less: a busy machine)", m->flops / p.alone, "x");
    for (size_t i = 0; i < STREAMS; i++)
        share_line(TRAFFIC[i].name, p.traffic[i] * 1e-9, "GB/s", p.traffic[i] / m->bytes, "the best");
    return 0;
}

// ---- a model to measure -----------------------------------------------------------------------------------

// Random weights, as large as GPT-2's at the start; also those that LoRA freezes, which model_init leaves
// alone. Halves are the upper halves of such floats.
static void fill(Model *m, Rng *r) {
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&m->cfg, i);
        float *w = tensor_data(&m->w, &t);
        uint16_t *h = NULL;
        if (t.half != NO_HALF) memcpy(&h, (const char *)&m->h + t.half, sizeof h);
        for (size_t j = 0; j < t.size; j++) {
            float x = t.decay ? (float)(rng_next(r) >> 40) * 0x1p-28f - 0.03125f : 1.0f;
            uint32_t bits;
            memcpy(&bits, &x, sizeof bits);
            if (w) w[j] = x;
            else if (h) h[j] = (uint16_t)(bits >> 16);
        }
    }
}

// A model of random weights in memory of its own, and rows of random tokens that fill its Shape, each of
// them a target.
typedef struct { Model m; Plan plan; void *block; int32_t *memory; Batch b; } Subject;

static void subject_free(Subject *s) {
    block_free(s->block);
    free(s->memory);
}

static int subject_make(Subject *s, const Config *c, const Shape *shape, Err *e) {
    Fault f;
    Rng r = {1};
    size_t B = shape->rows, T = shape->seq;
    memset(s, 0, sizeof *s);
    if (model_plan(&s->plan, c, shape, &f)) return err_fault(e, "the model", &f);
    s->memory = calloc(B * T + 2 * B, sizeof *s->memory);
    s->block = block_alloc(s->plan.bytes, e);
    if (!s->memory || !s->block) {
        subject_free(s);
        return err_memory(e, s->plan.bytes);
    }
    model_bind(&s->m, &s->plan, s->block);
    fill(&s->m, &r);
    int32_t *len = s->memory + B * T;
    for (size_t i = 0; i < B * T; i++) s->memory[i] = (int32_t)rng_below(&r, (uint64_t)c->vocab);
    for (size_t i = 0; i < B; i++) len[i] = (int32_t)T;
    s->b = (Batch){s->memory, s->memory, len, len + B, B, T};
    if (!shape->cached) s->b.past = NULL;
    return 0;
}

static double gib(const Plan *p) { return (double)p->bytes / (1024.0 * 1024.0 * 1024.0); }

// ---- train ------------------------------------------------------------------------------------------------

enum { STAGES = 4 };                  // forward, head and loss, backward, update
typedef struct {
    Config cfg;
    Shape shape;
    int64_t repeat;                   // 0: as the user says
    double stage[STAGES], both, step;  // medians of seconds: each stage, the first three together, all
    double kernel[KERNELS], resident, plan;
    double cores;                     // that the steps had: CPU time by time
} Step;

typedef struct {
    double stage[STAGES][REPEAT_MAX], both[REPEAT_MAX], step[REPEAT_MAX], kernel[KERNELS][REPEAT_MAX];
} Times;

static int step_once(Subject *s, int64_t number, double at[STAGES + 1], Err *e) {
    const AdamW o = {1e-4f, 0.9f, 0.95f, 1e-8f, 0.1f, 1.0f};
    Model *m = &s->m;
    double sum = 0.0;
    Fault f;
    at[0] = seconds();
    if (model_forward(m, &s->b, &f)) return err_fault(e, "the model", &f);
    at[1] = seconds();
    model_loss(m, &s->b, 1.0f / (float)m->N, &sum, NULL);
    at[2] = seconds();
    model_backward(m, &s->b);
    at[3] = seconds();
    kernel_enter("model_grad_norm");
    double norm = model_grad_norm(m);
    kernel_leave();
    MARK(model_update, m, &o, norm, number);
    MARK(model_zero_grad, m);          // for the next step
    at[4] = seconds();
    return sum > 0.0 && norm > 0.0 ? 0 : err_set(e, "a step's loss or gradient is not above 0");
}

static int step_job(void *arg, Err *e) {
    Step *p = arg;
    Subject s;
    Times t;
    size_t n = (size_t)(p->repeat ? p->repeat : opt.repeat);
    int rc = subject_make(&s, &p->cfg, &p->shape, e);
    if (rc) return rc;
    double began = seconds();
    clock_t used = clock();
    for (size_t i = 0; i <= n && !rc; i++) {      // the first touches the memory and is overwritten
        double at[STAGES + 1] = {0}, kernel[KERNELS];
        size_t k = i == 0 ? 0 : i - 1;
        kernels_start();
        rc = step_once(&s, (int64_t)i + 1, at, e);
        kernels_stop(kernel);
        for (int j = 0; j < STAGES; j++) t.stage[j][k] = at[j + 1] - at[j];
        for (int j = 0; j < KERNELS; j++) t.kernel[j][k] = kernel[j];
        t.both[k] = at[3] - at[0];
        t.step[k] = at[4] - at[0];
    }
    p->cores = (double)(clock() - used) / CLOCKS_PER_SEC / (seconds() - began);
    for (int j = 0; j < STAGES; j++) p->stage[j] = median(t.stage[j], n);
    for (int j = 0; j < KERNELS; j++) p->kernel[j] = median(t.kernel[j], n);
    p->both = median(t.both, n);
    p->step = median(t.step, n);
    p->resident = resident_gib();
    p->plan = gib(&s.plan);
    subject_free(&s);
    return rc;
}

static Work all_work(const Config *c, double B, double T) {
    Work sum = {0, 0};
    for (int k = 0; k < KERNELS; k++) sum.flops += kernel_work((Kernel)k, c, B, T).flops;
    return sum;
}

static Config with_lora(Config c, int rank) {
    c.lora_rank = rank;
    c.lora_on = LORA_ALL;
    c.lora_alpha = 16.0f;
    return c;
}

static void kernel_table(const Step *p, const Machine *m, bool bars) {
    double B = (double)p->shape.rows, T = (double)p->shape.seq, flops = 0.0, time = 0.0;
    for (int k = 0; k < KERNELS; k++) {
        Work w = kernel_work((Kernel)k, &p->cfg, B, T);
        double t = p->kernel[k], limit = fmax(w.flops / m->flops, w.bytes / m->bytes);
        bool computes = w.flops / m->flops >= w.bytes / m->bytes, product = k < PRODUCTS;
        char what[64];
        if (!(t > 0.0)) continue;
        flops += product ? w.flops : 0.0;
        time += product ? t : 0.0;
        snprintf(what, sizeof what, "  %s", kernel_name((Kernel)k));
        line(&(Line){what, 100.0 * t / p->step, "% of step", limit / t,
                     limit > 0.0 ? computes ? "peak" : "memory" : NULL,
                     .bar = bars && product ? 0.87 : 0.0, .judged = limit / t});
    }
    share_line("  all products", 100.0 * time / p->step, "% of step", flops / time / m->flops, "peak");
}

// Threads that wait do so awake, so a step that had far less than its cores shared them with somebody.
static int step_apart(Step *p, Err *e) {
    if (apart(step_job, p, sizeof *p, e)) return -1;
    if (p->cores < 0.9 * (double)p->shape.threads)
        fprintf(stderr, "bench: warning: a step had %.2f of %d cores: the machine is busy\n", p->cores,
                p->shape.threads);
    return 0;
}

static int bench_step(const Machine *m, Step *p, const char *name, double bar, bool table, Err *e) {
    double B = (double)p->shape.rows, T = (double)p->shape.seq;
    char what[64];
    p->shape.step_tokens = p->shape.rows * p->shape.seq;
    p->shape.train = true;
    if (!p->shape.threads) p->shape.threads = m->threads;
    if (step_apart(p, e)) return -1;
    double rate = all_work(&p->cfg, B, T).flops / p->step;
    snprintf(what, sizeof what, "%s, B=%zu T=%zu", name, p->shape.rows, p->shape.seq);
    line(&(Line){what, rate * 1e-9, "GFLOP/s", rate / m->flops, "peak", bar, rate / m->flops, false,
                 p->resident, p->plan});
    figure_line("  tokens per second", B * T / p->step, "tokens/s");
    static const char *const stage[STAGES] = {"  forward", "  head and loss", "  backward", "  update"};
    for (int i = 0; i < STAGES; i++) figure_line(stage[i], 100.0 * p->stage[i] / p->step, "% of step");
    if (table) kernel_table(p, m, bar > 0.0);
    return 0;
}

static Step step_of(const Config *c, size_t B, size_t T, bool recompute, bool halves) {
    return (Step){.cfg = *c, .shape = {.rows = B, .seq = T, .recompute = recompute, .halves = halves}};
}

static void memory_line(const char *what, const Step *p, double most) {
    line(&(Line){what, p->resident, "GiB", p->resident / p->plan, "plan", most, p->resident, true, 0.0, 0.0});
}

// The configuration that the user names
static int train_asked(const Machine *m, Err *e) {
    Config c = opt.lora ? with_lora(m->cfg, (int)opt.lora) : m->cfg;
    Step p = step_of(&c, (size_t)opt.batch, (size_t)opt.seq, opt.recompute, opt.half);
    char name[64];
    snprintf(name, sizeof name, "%s step %s%s", opt.lora ? "LoRA" : "full", opt.config,
             opt.recompute ? ", recompute" : "");
    return bench_step(m, &p, name, 0.0, true, e);
}

static int train_bars(const Machine *m, Err *e) {
    const Config *c = &m->cfg, lora = with_lora(*c, 8);
    Step full = step_of(c, 4, 256, false, false), again = step_of(c, 4, 256, true, false);
    Step shorter = step_of(c, 4, 64, false, false), longer = step_of(c, 1, 1024, false, false);
    Step low = step_of(&lora, 4, 256, false, false), half = step_of(&lora, 4, 256, false, true);
    Step least = step_of(&lora, 4, 256, true, true);
    again.repeat = half.repeat = least.repeat = 3;    // their bars are of memory
    if (bench_step(m, &full, "full step 124M", 0.78, true, e)) return -1;
    memory_line("resident memory, 124M full", &full, 2.45);
    if (bench_step(m, &again, "full step 124M, recompute", 0.0, false, e)) return -1;
    memory_line("resident memory, 124M full, recompute", &again, 2.1);
    if (bench_step(m, &shorter, "full step 124M", 0.0, false, e)) return -1;
    double both = all_work(c, 4, 64).flops / shorter.both;
    line(&(Line){"forward and backward 124M, B=4 T=64", both * 1e-9, "GFLOP/s", both / m->flops, "peak", 0.72,
                 both / m->flops, false, shorter.resident, shorter.plan});
    if (bench_step(m, &longer, "full step 124M", 0.74, false, e)) return -1;
    if (bench_step(m, &low, "LoRA 8 step 124M", 0.0, true, e)) return -1;
    line(&(Line){"LoRA 8 against the full step", full.step / low.step, "x", .bar = 1.4,
                 .judged = full.step / low.step});
    if (bench_step(m, &half, "LoRA 8 step 124M, bf16 base", 0.0, false, e)) return -1;
    memory_line("resident memory, 124M LoRA 8, bf16 base", &half, 1.0);
    if (bench_step(m, &least, "LoRA 8 step 124M, bf16, recompute", 0.0, false, e)) return -1;
    memory_line("resident memory, the same, recompute", &least, 0.5);
    return 0;
}

// ---- growth -----------------------------------------------------------------------------------------------

// Forward and backward at sizes that double. A cliff: fewer flops per second than at a neighbour.
static int growth(const Machine *m, const char *what, const size_t (*size)[2], int n, Err *e) {
    enum { MOST = 8 };
    double rate[MOST];
    for (int i = 0; i < n; i++) {
        Step p = step_of(&m->cfg, size[i][0], size[i][1], false, false);
        p.shape.step_tokens = p.shape.rows * p.shape.seq;
        p.shape.train = true;
        p.shape.threads = m->threads;
        if (step_apart(&p, e)) return -1;
        rate[i] = all_work(&p.cfg, (double)size[i][0], (double)size[i][1]).flops / p.both;
    }
    for (int i = 0; i < n; i++) {
        double before = i > 0 ? rate[i] / rate[i - 1] : 1.0, after = i + 1 < n ? rate[i] / rate[i + 1] : 1.0;
        double worst = fmin(before, after);
        char name[64];
        snprintf(name, sizeof name, "%s, %zu x %zu", what, size[i][0], size[i][1]);
        line(&(Line){name, rate[i] * 1e-9, "GFLOP/s", worst, "the better neighbour", 0.9, worst, false, 0.0,
                     0.0});
    }
    return 0;
}

static int bench_growth(const Machine *m, Err *e) {
    static const size_t length[5][2] = {{1, 64}, {1, 128}, {1, 256}, {1, 512}, {1, 1024}};
    static const size_t rows[6][2] = {{1, 64}, {2, 64}, {4, 64}, {8, 64}, {16, 64}, {32, 64}};
    return growth(m, "growth with T", length, 5, e) || growth(m, "growth with rows", rows, 6, e) ? -1 : 0;
}

static int bench_threads(const Machine *m, Err *e) {
    Step many = step_of(&m->cfg, (size_t)opt.batch, (size_t)opt.seq, false, false), one = many;
    Machine alone = *m;
    char what[64];
    one.shape.threads = 1;
    alone.flops = m->alone;
    if (bench_step(m, &many, "full step, all threads", 0.0, false, e)) return -1;
    if (bench_step(&alone, &one, "full step, 1 thread", 0.0, false, e)) return -1;
    snprintf(what, sizeof what, "%d threads against 1", m->threads);
    line(&(Line){what, one.step / many.step, "x", .bar = m->threads == 2 ? 1.85 : 0.0,
                 .judged = one.step / many.step});
    return 0;
}

// ---- infer ------------------------------------------------------------------------------------------------

// Weights of the matrices that multiply: all but lookup tables. A tied head multiplies.
static double multiplied(const Config *c, bool with_head) {
    double n = 0.0;
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(c, i);
        bool wte = !strcmp(t.name, "wte"), head = !strcmp(t.name, "head") || (wte && c->tied);
        if (t.decay && (head ? with_head : !wte && strcmp(t.name, "wpe"))) n += (double)t.size;
    }
    return n;
}

typedef struct {
    Config cfg;
    size_t rows, past, tokens;        // tokens of each row that a turn computes behind past others
    bool halves;
    int threads;
    double turn, resident, plan;      // median of seconds: forward, and the logits of the last tokens
} Infer;

static int infer_job(void *arg, Err *e) {
    Infer *p = arg;
    Subject s;
    Fault f;
    double t[REPEAT_MAX];
    size_t n = (size_t)opt.repeat, turns = p->tokens == 1 ? 8 : 1;    // a token alone is short: eight of them
    Shape shape = {.rows = p->rows, .seq = p->tokens, .cached = p->past + p->tokens, .halves = p->halves,
                   .threads = p->threads};
    if (subject_make(&s, &p->cfg, &shape, e)) return -1;
    int32_t *past = s.memory + p->rows * (p->tokens + 1), head[HEAD_ROWS];
    for (size_t i = 0; i < p->rows; i++) {
        past[i] = (int32_t)p->past;
        head[i] = (int32_t)((i + 1) * p->tokens - 1);
    }
    int rc = 0;
    for (size_t i = 0; i <= n && !rc; i++) {
        double start = seconds();
        for (size_t turn = 0; turn < turns && !rc; turn++) {
            if (model_forward(&s.m, &s.b, &f)) rc = err_fault(e, "the model", &f);
            else model_logits(&s.m, head, p->rows);
        }
        t[i == 0 ? 0 : i - 1] = (seconds() - start) / (double)turns;
    }
    p->turn = median(t, n);
    p->resident = resident_gib();
    p->plan = gib(&s.plan);
    subject_free(&s);
    return rc;
}

// The cache's keys and values are read once for each row, the weights once for all.
static int infer_line(const Machine *m, Infer p, const char *what, double bar, Err *e) {
    const Config *c = &p.cfg;
    double rows = (double)p.rows, T = (double)p.tokens, past = (double)p.past, L = c->layers;
    double A = (double)c->heads * c->head_size, KV = (double)c->kv_heads * c->head_size;
    char name[64];
    snprintf(name, sizeof name, "%s, %zu x %zu tokens", what, p.rows, p.tokens);
    if (apart(infer_job, &p, sizeof p, e)) return -1;
    double bytes = multiplied(c, true) * (p.halves ? 2.0 : 4.0) + rows * L * 2.0 * KV * (past + T) * 4.0;
    double flops = 2.0 * rows * (T * multiplied(c, false) + multiplied(c, true) - multiplied(c, false)) +
                   4.0 * A * L * rows * (T * past + T * (T + 1.0) / 2.0);
    bool computes = flops / m->flops > bytes / m->reads;
    double fraction = fmax(flops / m->flops, bytes / m->reads) / p.turn;
    line(&(Line){name, rows * T / p.turn, "tokens/s", fraction, computes ? "peak" : "memory read", bar,
                 fraction, false, p.resident, p.plan});
    return 0;
}

static int bench_infer(const Machine *m, Err *e) {
    bool bars = !strcmp(opt.config, "gpt2-124m");
    Infer p = {.cfg = m->cfg, .rows = 1, .tokens = m->cfg.context < 512 ? (size_t)m->cfg.context : 512};
    p.threads = m->threads;
    if (infer_line(m, p, "prefill", bars ? 0.82 : 0.0, e)) return -1;
    p.halves = true;
    if (infer_line(m, p, "prefill, bf16", 0.0, e)) return -1;
    p.tokens = 1;
    p.past = 255;
    if (infer_line(m, p, "decode after 255 tokens, bf16", bars ? 0.85 : 0.0, e)) return -1;
    p.halves = false;
    if (infer_line(m, p, "decode after 255 tokens", bars ? 0.85 : 0.0, e)) return -1;
    return 0;
}

// ---- tokenize ---------------------------------------------------------------------------------------------

typedef struct { double turn, bytes, tokens, resident; } Tokens;

static int encode_turns(Tokens *p, const Tokenizer *t, const uint8_t *text, size_t n, Err *e) {
    double time[REPEAT_MAX];
    int32_t *out = malloc(tokenizer_most(t, n) * sizeof *out);
    void *scratch = malloc(tokenizer_encode_size(t, n));
    int rc = out && scratch ? 0 : err_set(e, "no memory to encode %zu bytes", n);
    for (size_t i = 0; i <= (size_t)opt.repeat && !rc; i++) {
        double start = seconds();
        p->tokens = (double)tokenizer_encode(t, text, n, false, out, scratch);
        time[i == 0 ? 0 : i - 1] = seconds() - start;
    }
    if (!rc) p->turn = median(time, (size_t)opt.repeat);
    free(out);
    free(scratch);
    return rc;
}

static int tokenize_job(void *arg, Err *e) {
    Tokens *p = arg;
    Checkpoint k;
    uint8_t *text = NULL;
    size_t n = 0;
    if (checkpoint_open(&k, opt.model, NULL, e)) return -1;
    int rc = file_read(opt.text, INT32_MAX / 4, &text, &n, e) || encode_turns(p, &k.tok, text, n, e) ? -1 : 0;
    p->bytes = (double)n;
    p->resident = resident_gib();
    free(text);
    checkpoint_close(&k);
    return rc;
}

static int bench_tokenize(Err *e) {
    Tokens p = {0, 0, 0, 0};
    if (apart(tokenize_job, &p, sizeof p, e)) return -1;
    figure_line("tokenize, 1 thread", p.bytes / p.turn * 1e-6, "MB/s");
    figure_line("  tokens per second", p.tokens / p.turn, "tokens/s");
    return 0;
}

// ---- eval -------------------------------------------------------------------------------------------------

static int eval_job(void *arg, Err *e) {
    Step *p = arg;
    Subject s;
    Fault f;
    double t[REPEAT_MAX], sum = 0.0;
    size_t n = (size_t)opt.repeat;
    int rc = subject_make(&s, &p->cfg, &p->shape, e);
    if (rc) return rc;
    for (size_t i = 0; i <= n && !rc; i++) {
        double start = seconds();
        if (model_forward(&s.m, &s.b, &f)) rc = err_fault(e, "the model", &f);
        else model_loss(&s.m, &s.b, 0.0f, &sum, NULL);
        t[i == 0 ? 0 : i - 1] = seconds() - start;
    }
    p->step = median(t, n);
    p->resident = resident_gib();
    p->plan = gib(&s.plan);
    subject_free(&s);
    return rc;
}

static int bench_eval(const Machine *m, Err *e) {
    double B = (double)opt.batch, T = (double)opt.seq;
    Step p = step_of(&m->cfg, (size_t)opt.batch, (size_t)opt.seq, false, opt.half);
    Infer a = {.cfg = m->cfg, .rows = 16, .past = 255, .tokens = 1, .halves = opt.half};
    char what[64];
    p.shape.threads = a.threads = m->threads;
    if (apart(eval_job, &p, sizeof p, e)) return -1;
    double fraction = all_work(&m->cfg, B, T).flops / 3.0 / p.step / m->flops;
    snprintf(what, sizeof what, "loss of rows, B=%zu T=%zu", p.shape.rows, p.shape.seq);
    line(&(Line){what, B * T / p.step, "tokens/s", fraction, "peak", 0.0, 0.0, false, p.resident, p.plan});
    return infer_line(m, a, "answers to 16 rows at once", 0.0, e);
}

// ---- main -------------------------------------------------------------------------------------------------

typedef enum { PEAK, TRAIN, GROWTH, THREADS, INFER, TOKENIZE, EVAL, WORDS } Word;
static const char *const WORD[WORDS] = {"peak", "train", "growth", "threads", "infer", "tokenize", "eval"};

static int words_read(const char **word, int n, bool wanted[WORDS], Err *e) {
    for (int i = 0; i < WORDS; i++) wanted[i] = n == 0;
    for (int i = 0; i < n; i++) {
        int k = 0;
        while (k < WORDS && strcmp(word[i], WORD[k])) k++;
        if (k == WORDS)
            return err_set(e, "'%s', want peak, train, growth, threads, infer, tokenize or eval\n"
                              "hint: ./bench --help", word[i]);
        wanted[k] = true;
    }
    return 0;
}

static int config_named(Config *c, Err *e) {
    for (int i = 0; i < NAMES; i++)
        if (!strcmp(opt.config, NAMED[i].name)) {
            *c = NAMED[i].c;
            return 0;
        }
    return err_set(e, "--config: '%s', want gpt2-124m, gpt2-355m, smollm2-135m, qwen2.5-0.5b or demo",
                   opt.config);
}

static int bench(const bool wanted[WORDS], Err *e) {
    Machine m = {.threads = opt.threads ? (int)opt.threads : cores()};
    bool asked = false;
    for (int i = OPT_CONFIG; i <= OPT_BF16; i++) asked = asked || OPTION[i].given;
    if (config_named(&m.cfg, e) || bench_peak(&m, wanted[PEAK], e)) return -1;
    if (wanted[TRAIN] && (asked ? train_asked(&m, e) : train_bars(&m, e))) return -1;
    if (wanted[GROWTH] && bench_growth(&m, e)) return -1;
    if (wanted[THREADS] && bench_threads(&m, e)) return -1;
    if (wanted[INFER] && bench_infer(&m, e)) return -1;
    if (wanted[TOKENIZE] && bench_tokenize(e)) return -1;
    return wanted[EVAL] ? bench_eval(&m, e) : 0;
}

int main(int argc, char **argv) {
    Err e;
    const char *word[WORDS];
    bool wanted[WORDS];
    int n = 0, rc = options_parse(OPTION, OPTIONS, argc, argv, word, WORDS, &n, &e);
    if (!rc && opt.help) {
        printf("bench -- this machine's limit, and the share of it that is used (tune.c %s)\n\n"
               "  ./bench [peak] [train] [growth] [threads] [infer] [tokenize] [eval] [options]\n"
               "  without a word: all of them; without options: the bars of dev/PERFORMANCE.md\n\n",
               TUNE_VERSION);
        options_print(OPTION, OPTIONS);
        return EXIT_SUCCESS;
    }
    if (!rc && opt.version) {
        printf("tune.c %s\n", TUNE_VERSION);
        return EXIT_SUCCESS;
    }
    if (!rc) rc = words_read(word, n, wanted, &e);
    if (!rc) rc = bench(wanted, &e);
    if (!rc && (fflush(stdout) || ferror(stdout))) rc = err_set(&e, "standard output: %s", strerror(errno));
    if (rc) fprintf(stderr, "bench: %s\n", e.msg);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

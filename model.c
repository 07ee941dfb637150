// model.c -- the transformer: tensor table, memory plan, kernels, forward and backward, AdamW, sampling.
// Pure: memory in, memory out. No file, no clock, no printing, no allocation, no globals but constant tables.
//
// What it computes; model.h has the letters, words and shapes. From x (N,C), a row for each token, on:
//     x = wte[token] + wpe[position]                         embedding; with rotary positions wte alone
//     layer by layer:  x = x + proj(attention(qkv(norm(x))))     what earlier tokens tell this one
//                      x = x + fc2(act(fc1(norm(x))))            the MLP: each token by itself
//     logits = norm(x) head^T,     p_i = exp(logit_i) / sum_j exp(logit_j),     the softmax of the logits
//     loss = -log p_y, y the token that comes next: averaged over all tokens that are to be predicted
// qkv, proj, fc1, fc2 and head are products with learned matrices; to learn is to move each weight a little
// to where the loss falls. Backward is the chain rule, from the last of these lines to the first: where
// forward has out = f(x), it has dx_i = sum_o dout_o df_o/dx_i. A d before a name is the derivative of the
// loss L, so dx is dL/dx; where x is used twice, dx is the sum of what both uses give.
// Read it downwards, at first from the tensor table on, without tile to matmul; or begin with model_forward.
// Invariants. Forward overwrites (=), backward adds to gradients of weights (+=), zeroed once per step. Every
// sum has one written order (dev/NUMERICS.md), which depends on the shapes alone: not on threads, compilers,
// rows computed at once. fmaf(a, b, c) is a*b + c rounded once; nothing else is fused (-ffp-contract=off). An
// OpenMP loop's threads split what they write along its index, or a comment says how; none has a reduction.
#include "model.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

// ---- own functions ----------------------------------------------------------------------------------------
// libm's exp, log, sin and cos differ from system to system in the last bit, so these are the project's own.
// Square roots and fmaf are exact by IEEE 754 and are the compiler's, or the emulation below.
#if defined(__FAST_MATH__) || (FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16)
#error "float must be IEEE 754's: compile without -ffast-math, and on 32-bit x86 with -msse2 -mfpmath=sse"
#endif

static uint64_t bits_of(double x)     { uint64_t u; memcpy(&u, &x, sizeof u); return u; }
static double   double_of(uint64_t u) { double x;   memcpy(&x, &u, sizeof x); return x; }

#ifdef MODEL_DOUBLE
// The seam for tests/test_grad.c, which compiles this file with `float` defined as `double` to compare
// gradients with finite differences: there the fused product is the double one, and exp is libm's.
#define fmaf fma
#define sqrtf sqrt
static double exp_own(double x) { return exp(x); }
#else

#if !defined(FP_FAST_FMAF) && !defined(__FMA__) && !defined(__ARM_FEATURE_FMA)
// No fused multiply-add in the target: a*b is exact in double (24 + 24 <= 53 bits). The sum is rounded to odd
// (where inexact, its last bit is set), and so to float correctly (Boldo, Melquiond 2008; dev/NUMERICS.md).
static inline float fmaf_exact(float a, float b, float c) {
    double p = (double)a * (double)b, q = (double)c, s = p + q;
    double t = s - p, e = (p - (s - t)) + (q - t);              // s + e = p + q exactly (Knuth's two-sum)
    uint64_t u = bits_of(s);
    if ((e > 0.0 || e < 0.0) && (u & 1) == 0) u += (e > 0.0) == (s > 0.0) ? 1 : (uint64_t)-1;
    return (float)double_of(u);
}
#define fmaf fmaf_exact
#endif
// exp(x) for a float; error below 1.1 units in the last place (tested over the whole range). x = n ln 2 + r
// with |r| <= ln 2 / 2, exp(x) = 2^n exp(r), exp(r) = 1 + r + r^2 p(r), p near that of Moshier's Cephes.
// Below -87 the result is 0, above 88 it stays at exp(88): it is never infinite, and NaN stays NaN.
static inline float exp_own(float x) {
    float y = x > 88.0f ? 88.0f : x;
    y = y < -87.0f ? -87.0f : y;
    float shifted = fmaf(y, 0x1.715476p+0f, 0x1.8p+23f);        // y log2(e); 1.5 * 2^23 makes it whole
    float n = shifted - 0x1.8p+23f;
    float r = fmaf(n, -0x1.63p-1f, y);                          // ln 2 in two parts, the first product exact
    r = fmaf(n, 0x1.bd0106p-13f, r);
    float p = 0x1.a0d2cep-13f;
    p = fmaf(p, r, 0x1.6e879cp-10f);
    p = fmaf(p, r, 0x1.1112ap-7f);
    p = fmaf(p, r, 0x1.555456p-5f);
    p = fmaf(p, r, 0x1.55555p-3f);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r * r, r) + 1.0f;
    uint32_t u;                                                 // n stands in the low bits of shifted:
    memcpy(&u, &shifted, sizeof u);                             // moved into the exponent it makes 2^n
    u = (u + 127) << 23;
    float scale;
    memcpy(&scale, &u, sizeof scale);
    return x < -87.0f ? 0.0f : p * scale;
}
#endif

// log(x), x > 0 finite: x = 2^e m, sqrt(1/2) < m <= sqrt 2; s = (m-1)/(m+1), log m = 2 (s + s^3/3 + ...)
static double log_own(double x) {
    uint64_t u = bits_of(x);
    int e = (int)(u >> 52) - 1023;
    double m = double_of((u & 0xfffffffffffffu) | 0x3ff0000000000000u);
    if (m > 0x1.6a09e667f3bcdp+0) { m *= 0.5; e++; }
    double s = (m - 1.0) / (m + 1.0), q = s * s, sum = 0.0;
    for (int k = 23; k >= 3; k -= 2) sum = (sum + 1.0 / k) * q; // |s| < 0.172: the next term is below 1e-19
    return (double)e * 0x1.62e42fefa39efp-1 + 2.0 * (s + s * sum);
}

// exp(x) in double for |x| < 700, used for tables only: Taylor's series on |r| <= ln 2 / 2
static double exp_double(double x) {
    double shifted = x * 0x1.71547652b82fep+0 + 0x1.8p+52, n = shifted - 0x1.8p+52;
    double r = (x - n * 0x1.62e42fefa38p-1) - n * 0x1.ef35793c7673p-45, sum = 0.0;
    for (int k = 14; k >= 1; k--) sum = (sum + 1.0) * r / k;
    return (sum + 1.0) * double_of((uint64_t)((int64_t)n + 1023) << 52);
}

// sin and cos of |x| <= 2^20 in double: x = n pi/2 + r, pi/2 in three parts, Taylor's series on |r| <= pi/4
static void sincos_own(double x, double *sine, double *cosine) {
    double n = (x * 0x1.45f306dc9c883p-1 + 0x1.8p+52) - 0x1.8p+52;
    double r = ((x - n * 0x1.921fb544p+0) - n * 0x1.0b4611a6p-34) - n * 0x1.3198a2e037073p-69;
    double q = r * r, s = 0.0, c = 0.0;
    for (int k = 19; k >= 3; k -= 2) s = (s + 1.0) * -q / (double)(k * (k - 1));
    for (int k = 18; k >= 2; k -= 2) c = (c + 1.0) * -q / (double)(k * (k - 1));
    s = (s + 1.0) * r;
    c = c + 1.0;
    int quadrant = (int)((int64_t)n & 3);
    *sine   = quadrant == 0 ? s : quadrant == 1 ? c : quadrant == 2 ? -s : -c;
    *cosine = quadrant == 0 ? c : quadrant == 1 ? -s : quadrant == 2 ? -c : s;
}

// Sums along a row go into 16 virtual lanes, element i into lane i mod 16, and the lanes are added as a fixed
// tree. A compiler turns the lanes into vectors of any width; every machine gets the same bits.
enum { LANES = 16 };
static float lanes_sum(float *lane) {
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) lane[i] += lane[i + half];
    return lane[0];
}

static float row_sum(const float *x, size_t n) {
    float lane[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) lane[j] += x[i + j];
    for (size_t j = 0; i < n; i++, j++) lane[j] += x[i];
    return lanes_sum(lane);
}

// Sum of (x_i - mean) (y_i - mean)
static inline float row_dot(const float *x, const float *y, float mean, size_t n) {
    float lane[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) lane[j] = fmaf(x[i + j] - mean, y[i + j] - mean, lane[j]);
    for (size_t j = 0; i < n; i++, j++) lane[j] = fmaf(x[i] - mean, y[i] - mean, lane[j]);
    return lanes_sum(lane);
}

static float row_max(const float *x, size_t n) {
    float lane[LANES];
    for (size_t j = 0; j < LANES; j++) lane[j] = x[0];
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    for (; i < n; i++) lane[0] = x[i] > lane[0] ? x[i] : lane[0];
    for (size_t j = 1; j < LANES; j++) lane[0] = lane[j] > lane[0] ? lane[j] : lane[0];
    return lane[0];
}

static size_t min_size(size_t a, size_t b) { return a < b ? a : b; }
static size_t max_size(size_t a, size_t b) { return a > b ? a : b; }
// Share w of n things for one of `of` workers: [share(n,w,of), share(n,w+1,of))
static size_t share(size_t n, int w, int of) {
    size_t parts = (size_t)of, k = (size_t)w;
    return n / parts * k + n % parts * k / parts;
}

// ---- configuration ----------------------------------------------------------------------------------------
#define FIELD(name, lo, hi) {#name, offsetof(Config, name), lo, hi}
const ConfigField CONFIG_FIELD[CONFIG_INTS] = {
    FIELD(vocab, 1, 1 << 20),   FIELD(context, 1, 1 << 20),  FIELD(layers, 1, 1 << 10),
    FIELD(heads, 1, 1 << 10),   FIELD(kv_heads, 1, 1 << 10), FIELD(head_size, 1, 1 << 10),
    FIELD(width, 1, 1 << 16),   FIELD(hidden, 1, 1 << 18),   FIELD(rms, 0, 1),
    FIELD(rope, 0, 1),          FIELD(swiglu, 0, 1),         FIELD(bias, 0, 1),
    FIELD(qkv_bias, 0, 1),      FIELD(qk_norm, 0, 1),        FIELD(tied, 0, 1),
    FIELD(rope_context, 0, 1 << 20),
};

// 0 if value lies in lo..hi, else -1 with the fault filled in.
static int check(Fault *f, const char *what, int64_t value, int64_t lo, int64_t hi) {
    if (value >= lo && value <= hi) return 0;
    *f = (Fault){what, value, lo, hi};
    return -1;
}

// The same for a float above a number; its whole part is shown, or lo - 1 if that lies inside or is none.
static int check_real(Fault *f, const char *what, float value, float above, int64_t lo, int64_t hi) {
    if (value > above && value >= (float)lo && value <= (float)hi) return 0;
    bool shown = value >= -1e9f && value <= 1e9f && ((int64_t)value < lo || (int64_t)value > hi);
    return check(f, what, shown ? (int64_t)value : lo - 1, lo, hi);
}

int model_check(const Config *c, Fault *f) {
    for (const ConfigField *i = CONFIG_FIELD; i < CONFIG_FIELD + CONFIG_INTS; i++) {
        int32_t v;
        memcpy(&v, (const char *)c + i->where, sizeof v);
        if (check(f, i->name, v, i->lo, i->hi)) return -1;
    }
    bool lora = c->lora_rank != 0, scaled = c->rope && c->rope_context;
    return check(f, "heads modulo kv_heads", c->heads % c->kv_heads, 0, 0) ||
           (c->rope && check(f, "head_size modulo 2, with rotary positions", c->head_size % 2, 0, 0)) ||
           check_real(f, "norm_eps", c->norm_eps, -1.0f, 0, 1) ||
           check(f, "lora_rank", c->lora_rank, 0, 1 << 10) ||
           (lora && check(f, "lora_on", c->lora_on, 1, LORA_ALL)) ||
           (lora && check_real(f, "lora_alpha", c->lora_alpha, 0.0f, 0, 10000)) ||
           (c->rope && check_real(f, "rope_theta", c->rope_theta, 0.0f, 1, 1000000000)) ||
           (scaled && check_real(f, "rope_factor", c->rope_factor, 0.0f, 1, 10000)) ||
           (scaled && check_real(f, "rope_low", c->rope_low, 0.0f, 0, 10000)) ||
           (scaled && check_real(f, "rope_high, with rope_low below it", c->rope_high, c->rope_low, 0, 10000))
               ? -1 : 0;
}

typedef struct { size_t V, P, L, NH, NKV, HS, C, F, R, A, KV, Q, F1; } Dims;    // the letters; R: LoRA's rank
static Dims dims_of(const Config *c) {
    Dims d = {(size_t)c->vocab, (size_t)c->context, (size_t)c->layers, (size_t)c->heads, (size_t)c->kv_heads,
              (size_t)c->head_size, (size_t)c->width, (size_t)c->hidden, (size_t)c->lora_rank, 0, 0, 0, 0};
    d.A = d.NH * d.HS, d.KV = d.NKV * d.HS, d.Q = d.A + 2 * d.KV, d.F1 = c->swiglu ? 2 * d.F : d.F;
    return d;
}

// ---- tensor table -----------------------------------------------------------------------------------------
// The one list of tensors. Loader, saver, initialiser, optimizer, plan and tests walk it; checkpoint order.
typedef enum { DIM_1, DIM_L, DIM_V, DIM_P, DIM_C, DIM_A, DIM_Q, DIM_HS, DIM_F, DIM_F1, DIM_R } Dim;
typedef enum {
    ALWAYS, IF_LEARNED_POS, IF_LAYERNORM, IF_BIAS, IF_QKV_BIAS, IF_QK_NORM, IF_UNTIED,
    IF_LORA                           // IF_LORA + LORA_QKV, ... : if that bit of lora_on is set
} When;
typedef enum { ZERO, ONE, NORMAL, NORMAL_OUT, UNIFORM } Init;    // _OUT: what writes into the residual stream

typedef struct {
    const char *name;
    size_t where;
    Dim dim[3];
    int when;                         // When
    bool decay;                       // weight decay pulls on matrices, not on gains, shifts and biases
    Init init;
    size_t half;                      // offset in Halves of a matrix that may stay bf16, or NO_HALF
} TensorSpec;

#define T_(field) #field, offsetof(Params, field)
#define H_(field) offsetof(Halves, field)
static const TensorSpec TENSOR[] = {
    {T_(wte),       {DIM_V, DIM_C, DIM_1},  ALWAYS,              true,  NORMAL,     H_(wte)},
    {T_(wpe),       {DIM_P, DIM_C, DIM_1},  IF_LEARNED_POS,      true,  NORMAL,     H_(wpe)},
    {T_(ln1w),      {DIM_L, DIM_C, DIM_1},  ALWAYS,              false, ONE,        NO_HALF},
    {T_(ln1b),      {DIM_L, DIM_C, DIM_1},  IF_LAYERNORM,        false, ZERO,       NO_HALF},
    {T_(qkvw),      {DIM_L, DIM_C, DIM_Q},  ALWAYS,              true,  NORMAL,     H_(qkvw)},
    {T_(qkvb),      {DIM_L, DIM_Q, DIM_1},  IF_QKV_BIAS,         false, ZERO,       NO_HALF},
    {T_(qnw),       {DIM_L, DIM_HS, DIM_1}, IF_QK_NORM,          false, ONE,        NO_HALF},
    {T_(knw),       {DIM_L, DIM_HS, DIM_1}, IF_QK_NORM,          false, ONE,        NO_HALF},
    {T_(projw),     {DIM_L, DIM_A, DIM_C},  ALWAYS,              true,  NORMAL_OUT, H_(projw)},
    {T_(projb),     {DIM_L, DIM_C, DIM_1},  IF_BIAS,             false, ZERO,       NO_HALF},
    {T_(ln2w),      {DIM_L, DIM_C, DIM_1},  ALWAYS,              false, ONE,        NO_HALF},
    {T_(ln2b),      {DIM_L, DIM_C, DIM_1},  IF_LAYERNORM,        false, ZERO,       NO_HALF},
    {T_(fc1w),      {DIM_L, DIM_C, DIM_F1}, ALWAYS,              true,  NORMAL,     H_(fc1w)},
    {T_(fc1b),      {DIM_L, DIM_F1, DIM_1}, IF_BIAS,             false, ZERO,       NO_HALF},
    {T_(fc2w),      {DIM_L, DIM_F, DIM_C},  ALWAYS,              true,  NORMAL_OUT, H_(fc2w)},
    {T_(fc2b),      {DIM_L, DIM_C, DIM_1},  IF_BIAS,             false, ZERO,       NO_HALF},
    {T_(lnfw),      {DIM_C, DIM_1, DIM_1},  ALWAYS,              false, ONE,        NO_HALF},
    {T_(lnfb),      {DIM_C, DIM_1, DIM_1},  IF_LAYERNORM,        false, ZERO,       NO_HALF},
    {T_(head),      {DIM_V, DIM_C, DIM_1},  IF_UNTIED,           true,  NORMAL,     H_(head)},
    {T_(qkv_down),  {DIM_L, DIM_C, DIM_R},  IF_LORA + LORA_QKV,  true,  UNIFORM,    NO_HALF},
    {T_(qkv_up),    {DIM_L, DIM_R, DIM_Q},  IF_LORA + LORA_QKV,  true,  ZERO,       NO_HALF},
    {T_(proj_down), {DIM_L, DIM_A, DIM_R},  IF_LORA + LORA_PROJ, true,  UNIFORM,    NO_HALF},
    {T_(proj_up),   {DIM_L, DIM_R, DIM_C},  IF_LORA + LORA_PROJ, true,  ZERO,       NO_HALF},
    {T_(fc1_down),  {DIM_L, DIM_C, DIM_R},  IF_LORA + LORA_FC1,  true,  UNIFORM,    NO_HALF},
    {T_(fc1_up),    {DIM_L, DIM_R, DIM_F1}, IF_LORA + LORA_FC1,  true,  ZERO,       NO_HALF},
    {T_(fc2_down),  {DIM_L, DIM_F, DIM_R},  IF_LORA + LORA_FC2,  true,  UNIFORM,    NO_HALF},
    {T_(fc2_up),    {DIM_L, DIM_R, DIM_C},  IF_LORA + LORA_FC2,  true,  ZERO,       NO_HALF},
};
typedef char every_param_listed[sizeof TENSOR / sizeof TENSOR[0] == TENSORS ? 1 : -1];

static bool tensor_exists(const Config *c, int when) {
    const bool here[] = {true, !c->rope, !c->rms, c->bias, c->bias || c->qkv_bias, c->qk_norm, !c->tied};
    if (when < IF_LORA) return here[when];        // in the order of When
    return c->lora_rank > 0 && c->lora_on & (unsigned)(when - IF_LORA);
}

// a*b and a+b that stay at SIZE_MAX instead of wrapping, so that one check at the end of a plan is enough
static size_t mul(size_t a, size_t b) { return a && b > SIZE_MAX / a ? SIZE_MAX : a * b; }
static size_t add(size_t a, size_t b) { return b > SIZE_MAX - a ? SIZE_MAX : a + b; }

Tensor model_tensor(const Config *c, int i) {
    const TensorSpec *s = &TENSOR[i];
    Dims d = dims_of(c);
    const size_t size[] = {1, d.L, d.V, d.P, d.C, d.A, d.Q, d.HS, d.F, d.F1, d.R};    // in the order of Dim
    Tensor t = {.name = s->name, .where = s->where,
                .dim = {size[s->dim[0]], size[s->dim[1]], size[s->dim[2]]},
                .stacked = s->dim[0] == DIM_L, .decay = s->decay,
                .trained = c->lora_rank == 0 || s->when > IF_LORA, .half = s->half};
    if (tensor_exists(c, s->when)) t.size = mul(mul(t.dim[0], t.dim[1]), t.dim[2]);
    return t;
}

float *tensor_data(const Params *p, const Tensor *t) {
    float *x;
    memcpy(&x, (const char *)p + t->where, sizeof x);
    return x;
}

size_t model_params(const Config *c) {
    size_t n = 0;
    for (int i = 0; i < TENSORS; i++) n = add(n, model_tensor(c, i).size);
    return n;
}

// ---- memory plan ------------------------------------------------------------------------------------------
// A run's memory is one block; model_plan lists its pieces. First sizes that change the speed and no bit: a
// tile of MR x NR outputs lives in registers: 12 x 32 takes 24 of AVX-512's 32 of 16 floats, 4 x 24 takes 12
// of AVX2's 16 of 8. KC rows of a panel of b and MC rows of a are packed at a time, as tile reads them.
#if defined(__AVX512F__)
enum { MR = 12, NR = 32 };
#else
enum { MR = 4, NR = 24 };
#endif
// WIDEST is the largest NR, of which a plan is made, as make portable has a tile for each instruction set.
enum { WIDEST = 32, STRIP = NR, ALIGN = 64, CHUNK = 1 << 16 };    // queries; bytes; elements to a partial sum
#ifdef REFERENCE
enum { PANELS = 0 };                              // the definition packs nothing
#else
enum { KC = 784, MC = 528, PANELS = MC * KC + KC * WIDEST };    // MC is a multiple of every MR
#endif

static void plan_add(Plan *p, const char *name, size_t where, size_t count, size_t unit) {
    if (count == 0) return;
    assert(p->items < PLAN_MAX);
    size_t bytes = mul(add(mul(count, unit), ALIGN - 1) / ALIGN, ALIGN);
    p->item[p->items++] = (PlanItem){name, where, p->bytes, bytes};
    p->bytes = add(p->bytes, bytes);
}

typedef enum { LAY_FLOATS, LAY_HALVES, LAY_TRAINED } Lay;    // which tensors a section holds, and as what

// Lays these tensors one after the other into block, each at a multiple of ALIGN bytes; pointers: a Params,
// or Halves. Returns how many elements of `unit` bytes that takes; block NULL: only counts.
static size_t lay(void *pointers, const Config *c, const Shape *s, Lay which, size_t unit, char *block) {
    enum { FLOATS = ALIGN / 4 };                  // in the double build twice the alignment
    size_t at = 0;
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(c, i);
        bool half = s->halves && t.half != NO_HALF && !(s->train && t.trained);
        bool here = which == LAY_TRAINED ? t.trained : half == (which == LAY_HALVES);
        void *x = block && t.size && here ? block + at * unit : NULL;
        if (which == LAY_HALVES && t.half == NO_HALF) continue;
        memcpy((char *)pointers + (which == LAY_HALVES ? t.half : t.where), &x, sizeof x);
        if (here) at = add(at, mul(add(t.size, FLOATS - 1) / FLOATS, FLOATS));
    }
    return at;
}

int model_plan(Plan *p, const Config *c, const Shape *s, Fault *f) {
    if (model_check(c, f)) return -1;
    int64_t rows = (int64_t)s->rows, cached = (int64_t)s->cached;
    if (check(f, "rows at once", rows, 1, 1 << 20) ||
        check(f, "tokens in a row", (int64_t)s->seq, 1, c->context) ||
        check(f, "rows at once", rows, 1, INT32_MAX / (int64_t)s->seq) ||
        check(f, "positions in the cache", cached, 0, c->context) ||
        (s->train && check(f, "positions in the cache, when training", cached, 0, 0)) ||
        (s->train && check(f, "tokens in a step", s->step_tokens > 0, 1, INT64_MAX)) ||
        check(f, "threads", s->threads, 1, 1024))
        return -1;
    *p = (Plan){.cfg = *c, .shape = *s};
    Dims d = dims_of(c);
    size_t N = mul(s->rows, s->seq), T = max_size(s->seq, s->cached), R = min_size(N, HEAD_ROWS);
    size_t kept = s->train && !s->recompute ? d.L : 1;    // slots of what the backward pass needs again
    Params ignored;
    size_t floats = lay(&ignored, c, s, LAY_FLOATS, sizeof(float), NULL), chunks = 0;
    size_t halves = lay(&ignored, c, s, LAY_HALVES, sizeof(uint16_t), NULL);
    size_t trained = s->train ? lay(&ignored, c, s, LAY_TRAINED, sizeof(float), NULL) : 0;
    for (int i = 0; i < TENSORS; i++) chunks = max_size(chunks, model_tensor(c, i).size / CHUNK + 1);
    size_t V = s->train && !d.R ? d.V : 0, S = min_size(V, s->step_tokens), G = s->train ? N : 0;
#define ADD(field, name, count) plan_add(p, name, offsetof(Model, field), count, sizeof *((Model *)0)->field)
    plan_add(p, "weights", offsetof(Model, w), floats, sizeof(float));
    plan_add(p, "weights in bf16", offsetof(Model, h), halves, sizeof(uint16_t));
    plan_add(p, "gradients", offsetof(Model, g), trained, sizeof(float));
    plan_add(p, "AdamW first moments", offsetof(Model, m1), trained, sizeof(float));
    plan_add(p, "AdamW second moments", offsetof(Model, m2), trained, sizeof(float));
    ADD(x.slot,    "lookup gradients", mul(S, d.C));
    ADD(x.slotof,  "lookup slots of tokens", V);
    ADD(x.slottok, "lookup tokens of slots", S);
    ADD(x.res,     "residual stream", mul(mul(s->train ? d.L + 1 : 1, N), d.C));
    ADD(x.mid,     "residual stream, middle", mul(mul(kept, N), d.C));
    ADD(x.ln1stat, "norm 1 statistics", mul(mul(kept, N), 2));
    ADD(x.ln2stat, "norm 2 statistics", mul(mul(kept, N), 2));
    ADD(x.qkv,     "queries, keys, values", mul(mul(kept, N), d.Q));
    size_t normed = c->qk_norm ? kept : 0;
    ADD(x.qkraw,   "queries, keys before norm", mul(mul(normed, N), d.A + d.KV));
    ADD(x.qkstat,  "query, key norm statistics", mul(mul(normed, N), d.NH + d.NKV));
    ADD(x.attstat, "attention statistics", mul(mul(mul(kept, N), d.NH), 2));
    ADD(x.atty,    "attention output", mul(mul(kept, N), d.A));
    ADD(x.fc1,     "MLP before activation", mul(mul(kept, N), d.F1));
    ADD(x.norm,    "norm output", mul(N, d.C));
    ADD(x.act,     "MLP after activation", mul(N, d.F));
    ADD(x.branch,  "branch output", mul(N, d.C));
    ADD(x.low,     "LoRA", mul(N, d.R));
    ADD(x.dlow,    "gradient of LoRA", mul(G, d.R));
    ADD(x.dres,    "gradient of residual stream", mul(G, d.C));
    ADD(x.dnorm,   "gradient of norm output", mul(G, d.C));
    ADD(x.datt,    "gradient of attention output", mul(G, d.A));
    ADD(x.dact,    "gradient after activation", mul(G, d.F));
    ADD(x.dbig,    "gradient of q,k,v or MLP", mul(G, max_size(d.Q, d.F1)));
    ADD(x.dheadin, "head: gradient of rows", mul(min_size(G, R), d.C));
    ADD(x.headin,  "head: rows after norm", mul(R, d.C));
    ADD(x.lnfstat, "head: norm statistics", mul(R, 2));
    ADD(x.logits,  "head: logits", mul(R, d.V));
    if (c->rope) ADD(x.rope, "rotary table", mul(T, d.HS));
    ADD(x.keys,    "cache of keys", mul(mul(mul(d.L, s->rows), s->cached), d.KV));
    ADD(x.values,  "cache of values", mul(mul(mul(d.L, s->rows), s->cached), d.KV));
    ADD(x.tok,     "token ids", N);
    ADD(x.pos,     "positions", N);
    ADD(x.hrow,    "head: row numbers", N);
    ADD(x.htarget, "head: targets", N);
    ADD(x.start,   "first token of each row", s->rows + 1);
    ADD(x.partial, "partial sums", max_size(chunks, R));
    // Each thread: packed blocks of a, b; a head's packed k, v; a strip's output, s; to train k^T, dk, dv, ds
    size_t t = s->train, packs = mul((2 + t) * (d.HS + WIDEST), add(T, WIDEST));
    p->scratch = add(add(PANELS + WIDEST * d.HS, packs), mul((1 + t) * WIDEST + 2 * t * d.HS, T));
    ADD(x.scratch, "scratch of the threads", mul(p->scratch, (size_t)s->threads));
#undef ADD
    if (p->bytes <= SIZE_MAX / 2) return 0;
    *f = (Fault){"bytes of memory needed", INT64_MAX, 1, (int64_t)(SIZE_MAX / 2)};
    return -1;
}

static void rope_table(const Model *m, size_t positions);
void model_bind(Model *m, const Plan *p, void *block) {
    *m = (Model){.cfg = p->cfg, .shape = p->shape, .scratch = p->scratch};
    const Shape *s = &m->shape;
    for (int i = 0; i < p->items; i++) {
        void *at = (char *)block + p->item[i].offset;
        memcpy((char *)m + p->item[i].where, &at, sizeof at);
    }
    // A section's address stands in its first pointer.
    lay(&m->w, &m->cfg, s, LAY_FLOATS, sizeof(float), (char *)m->w.wte);
    lay(&m->h, &m->cfg, s, LAY_HALVES, sizeof(uint16_t), (char *)m->h.wte);
    if (s->train) {
        Params *const each[3] = {&m->g, &m->m1, &m->m2};
        for (int i = 0; i < 3; i++)
            lay(each[i], &m->cfg, s, LAY_TRAINED, sizeof(float), (char *)each[i]->wte);
        for (int32_t v = 0; m->x.slotof && v < m->cfg.vocab; v++) m->x.slotof[v] = -1;
    }
    if (m->cfg.rope) rope_table(m, max_size(s->seq, s->cached));
}

// ---- matrix product ---------------------------------------------------------------------------------------
// Every layer, forward and backward, is this one product. A Mat is a view: swapped strides transpose it.
//     forward   out (N,OC)  = inp (N,C) W (C,OC) + bias,   that is, out_o = sum_c inp_c W_co + bias_o, so
//     backward  dinp (N,C)  = dout (N,OC) W^T              dL/dinp_c = sum_o dL/dout_o W_co
//               dW (C,OC)  += inp^T (C,N) dout (N,OC)      dL/dW_co  = sum_n inp_nc dL/dout_no
//               dbias (OC) += sum_n dout_n                 dL/dbias_o = sum_n dL/dout_no
// Its sums begin with `start`: NULL zeros, or a row of biases, or, if it is out itself, what out holds.
typedef struct {
    const float *p;
    const uint16_t *h;                // or, if p is NULL, bf16
    size_t row, col;                  // element (i,j) is p[i*row + j*col]
    const float *panels;              // NULL, or what packed made of it; row is then a panel's depth
} Mat;

static Mat mat(const float *p, size_t columns)        { return (Mat){p, NULL, columns, 1, NULL}; }
static Mat transposed(const float *p, size_t columns) { return (Mat){p, NULL, 1, columns, NULL}; }
static Mat flipped(Mat a)                             { return (Mat){a.p, a.h, a.col, a.row, NULL}; }
static Mat mat_from(Mat a, size_t i, size_t j) {  // without the first i rows and j columns
    size_t at = i * a.row + j * a.col;
    return (Mat){a.p ? a.p + at : NULL, a.p ? NULL : a.h + at, a.row, a.col, NULL};
}

// half is a constant where speed matters: compilers may well mask loads to avoid two loops.
static inline float element(Mat a, size_t at, bool half) {
    uint32_t u = half ? (uint32_t)a.h[at] << 16 : 0;    // NOLINT(*NullDereference) // analyzer: half says
    float x = 0.0f;                               // in the double build half is never true
    memcpy(&x, &u, sizeof u);
    return half ? x : a.p[at];    // NOLINT(*NullDereference): as above
}

enum { LINE = 16, SPAN = 2 * LINE, ABREAST = 8, QUAD = 4 };    // LINE floats come into a cache at once
#ifdef __GNUC__
#define PREFETCH(at, writes) __builtin_prefetch(at, writes, writes ? 3 : 2)    // to the first, or the second
#define FLATTENED inline __attribute__((always_inline))    // lest clang miss that an argument is constant
#else
#define PREFETCH(at, writes) ((void)(at))
#define FLATTENED inline
#endif
static inline void soon(Mat a, size_t at) { PREFETCH(a.p ? (const void *)&a.p[at] : &a.h[at], 0); }
// Work is split over this many threads: one where starting more would cost more than it saves.
static int workers(const Model *m, size_t work) { return work < 1 << 14 ? 1 : m->shape.threads; }

#ifdef REFERENCE
// The definition. Slow, obviously right, and the order of its sums is the order of every product's sums: k
// ascending, one chain of fused multiply-adds from the start value. Port this function first.
static void matmul_part(float *out, size_t ldo, Mat a, Mat b, const float *start, size_t M, size_t K,
                        size_t N, float *scratch) {
    (void)scratch;
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < N; j++) {
            float sum = !start ? 0.0f : start == out ? out[i * ldo + j] : start[j];
            for (size_t k = 0; k < K; k++)
                sum = fmaf(element(a, i * a.row + k * a.col, !a.p), element(b, k * b.row + j * b.col, !b.p),
                           sum);
            out[i * ldo + j] = sum;
        }
}
static Mat packed(Mat a, size_t M, size_t K, float *to) { (void)M; (void)K; (void)to; return a; }
#else
// What a tile fetches: the next tile's outputs, `rows` of them, and of b's next panel every turns-th line
typedef struct { const float *out; size_t rows; Mat b; size_t turn, turns; } Next;

// out (rows,NR) = start (rows,NR) + a (kc,rows)^T b (kc,NR), a in a panel MR wide, b's rows ldb apart. Loops
// have constant length, so that the compiler keeps acc in registers; start's row stride 0 repeats one row, a
// bias or zeros. A little is fetched every SPAN steps; here, as compilers drop a function that only fetches.
static FLATTENED void tile(size_t rows, float *out, size_t ldo, const float *start, size_t ldstart,
                           const float *a, const float *b, size_t ldb, size_t kc, Next n) {
    float acc[MR][NR];
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < NR; j++) acc[i][j] = start[i * ldstart + j];
    for (size_t k0 = 0; k0 < kc; k0 += SPAN) {
        for (size_t i = k0 / QUAD; i < min_size(n.rows, (k0 + SPAN) / QUAD); i++)
            for (size_t j = 0; j < NR; j += LINE) PREFETCH(&n.out[i * ldo + j], 1);
        for (size_t j = n.turn; j < (n.b.col == 1 ? (NR + LINE - 1) / LINE * SPAN : 2 * NR); j += n.turns)
            soon(n.b, n.b.col == 1 ? (k0 + j % SPAN) * n.b.row + j / SPAN * LINE
                                   : k0 + j / NR * LINE + j % NR * n.b.col);
        for (size_t k = k0; k < min_size(k0 + SPAN, kc); k++)
            for (size_t i = 0; i < rows; i++)
                for (size_t j = 0; j < NR; j++) acc[i][j] = fmaf(a[k * MR + i], b[k * ldb + j], acc[i][j]);
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < NR; j++) out[i * ldo + j] = acc[i][j];
}

static void tile_whole(float *out, size_t ldo, const float *start, size_t ldstart, const float *a,
                       const float *b, size_t ldb, size_t kc, Next n) {
    tile(MR, out, ldo, start, ldstart, a, b, ldb, kc, n);    // apart: in a larger function registers run out
}
// The same where fewer rows or columns remain, or out lies column by column: through a tile on the side, as
// panels are zero-padded. Element (i,j) of out is out[i*down + j*right]; start is out, or one row.
static void tile_edge(float *out, size_t down, size_t right, const float *start, const float *a,
                      const float *b, size_t ldb, size_t kc, Next next, size_t rows, size_t cols) {
    float side[MR * NR] = {0};
    size_t sdown = start == out ? down : 0, sright = start == out ? right : 1;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) side[i * NR + j] = start[i * sdown + j * sright];
    if (rows <= MR / 3) tile(MR / 3, side, NR, side, NR, a, b, ldb, kc, next);
    else tile_whole(side, NR, side, NR, a, b, ldb, kc, next);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) out[i * down + j * right] = side[i * NR + j];
}

// n <= width vectors of kc numbers, rows of v, become a panel (kc,width): rows of a, or columns of b flipped.
// Numbers that lie along k are turned in squares, QUAD by LINE, which compilers know how to do in registers.
static inline void pack_as(float *restrict to, Mat v, size_t n, size_t kc, size_t width, bool half) {
    float square[LINE * QUAD];
    size_t k = 0;
    if (n < width) memset(to, 0, kc * width * sizeof *to);
    for (; n == width && v.row == 1 && !half && k < kc; k++)
        memcpy(to + k * width, v.p + k * v.col, width * sizeof *to);
    for (; n == width && v.row == 1 && k < kc; k++)
        for (size_t i = 0; i < width; i++) to[k * width + i] = element(v, k * v.col + i, half);
    for (; n == width && v.col == 1 && k + LINE <= kc; k += LINE)
        for (size_t i0 = 0; i0 < width; i0 += QUAD) {
            for (size_t l = 0; l < LINE; l++)
                for (size_t i = 0; i < QUAD; i++)
                    square[l * QUAD + i] = element(v, (i0 + i) * v.row + k + l, half);
            for (size_t l = 0; l < LINE; l++)
                memcpy(to + (k + l) * width + i0, square + l * QUAD, QUAD * sizeof *to);
        }
    for (; k < kc; k++)
        for (size_t i = 0; i < n; i++) to[k * width + i] = element(v, i * v.row + k * v.col, half);
}
static inline void pack(float *to, Mat v, size_t n, size_t kc, size_t width) {
    if (v.p) pack_as(to, v, n, kc, width, false);
    else pack_as(to, v, n, kc, width, true);
}

// One row (decoding) packs nothing: eight rows of b at a time go to the sums in out, eight to the cache.
static inline void rows_add(float *restrict out, const float *x, Mat b, size_t rows, size_t n, bool half) {
    for (size_t j = 0; j < n; j++) {
        float sum = out[j];
        for (size_t r = 0; r < rows; r++) sum = fmaf(x[r], element(b, r * b.row + j, half), sum);
        out[j] = sum;
    }
}
static inline void rows_product(float *out, Mat a, Mat b, size_t K, size_t N, bool half) {
    float x[ABREAST];
    for (size_t k = 0, n; k < K; k += n) {
        n = K - k < ABREAST ? 1 : ABREAST;
        size_t next = K - k < 2 * ABREAST ? 0 : ABREAST;
        for (size_t r = 0; r < n; r++) x[r] = a.p[(k + r) * a.col];
        for (size_t j = 0; j < N; j += LINE) {
            Mat at = mat_from(b, k, j);
            for (size_t r = next; r < next + n; r++) soon(at, r * b.row);
            if (n == ABREAST && N - j >= LINE) rows_add(out + j, x, at, ABREAST, LINE, half);
            else rows_add(out + j, x, at, n, min_size(LINE, N - j), half);
        }
    }
}

// The same if b lies column by column (the head): eight at a time, a sum each; the last fills in for missing.
// A sum takes a number of each column at a time, which would widen halves singly: they are widened before.
static inline void columns_product(float *out, const float *x, Mat b, size_t K, size_t N, bool half) {
    Mat w[ABREAST];
    float sum[ABREAST], wide[ABREAST][SPAN];
    size_t step = half ? SPAN : LINE;             // what comes into a cache at once
    for (size_t j = 0; j < N; j += ABREAST) {
        size_t n = min_size(ABREAST, N - j), next = N - j < 2 * ABREAST ? 0 : ABREAST * b.col;
        for (size_t r = 0; r < ABREAST; r++) {
            sum[r] = out[j + min_size(r, n - 1)];
            w[r] = mat_from(b, 0, j + min_size(r, n - 1));
        }
        for (size_t k0 = 0; k0 < K; k0 += step) {
            size_t some = min_size(step, K - k0);
            for (size_t r = 0; r < ABREAST; r++) {
                soon(w[r], k0 + next);
                for (size_t k = 0; half && k < some; k++) wide[r][k] = element(w[r], k0 + k, half);
            }
            for (size_t k = 0; k < some; k++)
                for (size_t r = 0; r < ABREAST; r++)
                    sum[r] = fmaf(x[k0 + k], half ? wide[r][k] : w[r].p[k0 + k], sum[r]);
        }
        memcpy(out + j, sum, n * sizeof *sum);
    }
}

static void row_product(float *out, Mat a, Mat b, const float *start, size_t K, size_t N) {
    for (size_t j = 0; start != out && j < N; j++) out[j] = start ? start[j] : 0.0f;
    if (b.col == 1 && b.p) rows_product(out, a, b, K, N, false);
    else if (b.col == 1) rows_product(out, a, b, K, N, true);
    else if (b.p) columns_product(out, a.p, b, K, N, false);
    else columns_product(out, a.p, b, K, N, true);
}

// a (M,K), of which several products take the first rows or columns: its panels (K,MR), made once
static Mat packed(Mat a, size_t M, size_t K, float *to) {
    for (size_t i = 0; i < M; i += MR) pack(to + i * K, mat_from(a, i, 0), min_size(MR, M - i), K, MR);
    return (Mat){a.p, NULL, K, 0, to};
}

// out (X,Y) = start + x (X,K) y (K,Y) by one thread, with the bits of the definition above: blocks over k go
// through out's memory, so a block's chain starts where the last one ended. If out has few columns, its
// transpose is computed, as a tile has fewer rows. A panel of b is not packed for few rows, nor if it is one.
static void matmul_part(float *out, size_t ldo, Mat x, Mat y, const float *start, size_t X, size_t K,
                        size_t Y, float *scratch) {
    static const float zeros[NR] = {0};
    bool narrow = Y <= NR / 2 && Y < X && !x.panels && y.p && (!start || start == out);
    Mat a = narrow ? flipped(y) : x, b = narrow ? flipped(x) : y;
    size_t M = narrow ? Y : X, N = narrow ? X : Y, down = narrow ? 1 : ldo, right = narrow ? ldo : 1;
    if (M == 1 && right == 1 && !a.panels && (b.col == 1 || a.col == 1)) {
        row_product(out, a, b, start, K, N);
        return;
    }
    float *pa = scratch, *pb = scratch + MC * KC;
    size_t blocks = (K + KC - 1) / KC, depth = ((K + blocks - 1) / blocks + 15) / 16 * 16;
    for (size_t k0 = 0; k0 < K; k0 += depth)
        for (size_t i0 = 0; i0 < M; i0 += MC) {
            size_t kc = min_size(depth, K - k0), mc = min_size(MC, M - i0), deep = a.panels ? a.row : kc;
            const float *ap = a.panels ? a.panels + i0 * deep + k0 * MR : pa;
            for (size_t i = 0; !a.panels && i < mc; i += MR)
                pack(pa + i * kc, mat_from(a, i0 + i, k0), min_size(MR, mc - i), kc, MR);
            for (size_t j = 0; j < N; j += NR) {
                size_t cols = min_size(NR, N - j), across = N - j < 2 * NR ? 0 : NR;
                bool ready = b.p && b.col == 1 && cols == NR && (b.row == NR || mc <= 6 * MR);
                const float *bp = ready ? b.p + k0 * b.row + j : pb;
                size_t ldb = ready ? b.row : NR;
                bool full = cols == NR && !narrow, more = k0 > 0 || start == out;
                if (!ready) pack(pb, flipped(mat_from(b, k0, j)), cols, kc, NR);
                for (size_t i = 0; i < mc; i += MR) {
                    size_t rows = min_size(MR, mc - i), below = full && mc - i >= 2 * MR ? MR : 0;
                    float *at = out + (i0 + i) * down + j * right;
                    const float *from = more ? at : start ? start + j : zeros;
                    // The last tiles fetch b's next panel: earlier it would leave the cache.
                    Next next = {at + below * ldo, below, mat_from(b, k0, j + across),
                                 across && mc - i <= ABREAST * MR ? (mc - 1 - i) / MR : 4 * NR,
                                 min_size(ABREAST, (mc - 1) / MR + 1)};
                    if (full && rows == MR)
                        tile_whole(at, ldo, from, more ? ldo : 0, ap + i * deep, bp, ldb, kc, next);
                    else tile_edge(at, down, right, from, ap + i * deep, bp, ldb, kc, next, rows, cols);
                }
            }
        }
}
#endif

// The same over all threads: a grid of gm x gn workers, that of all whose largest rectangle costs least: its
// area, and its packing, which each worker does for itself; an element of that costs about 32 products.
static void matmul(const Model *m, float *out, size_t ldo, Mat a, Mat b, const float *start, size_t M,
                   size_t K, size_t N) {
    size_t tm = (M + MR - 1) / MR, tn = (N + NR - 1) / NR, best = SIZE_MAX;
    int threads = workers(m, M * K * N / 16), gm = 1, gn = 1;
    for (int rows = 1; rows <= threads; rows++) {
        int cols = threads / rows;
        size_t height = (tm + (size_t)rows - 1) / (size_t)rows * MR;
        size_t width = (tn + (size_t)cols - 1) / (size_t)cols * NR;
        size_t cost = height * width + 32 * (height + width);
        if (cost < best) { best = cost; gm = rows; gn = cols; }
    }
    // Worker w writes its own rectangle of out and nothing else.
    #pragma omp parallel for schedule(static) num_threads(gm * gn)
    for (int w = 0; w < gm * gn; w++) {
        size_t i0 = share(tm, w / gn, gm) * MR, i1 = min_size(share(tm, w / gn + 1, gm) * MR, M);
        size_t j0 = share(tn, w % gn, gn) * NR, j1 = min_size(share(tn, w % gn + 1, gn) * NR, N);
        if (i0 >= i1 || j0 >= j1) continue;
        float *at = out + i0 * ldo + j0;
        matmul_part(at, ldo, mat_from(a, i0, 0), mat_from(b, 0, j0),
                    start == out ? at : start ? start + j0 : NULL, i1 - i0, K, j1 - j0,
                    m->x.scratch + (size_t)w * m->scratch);
    }
}

// A linear layer, y = x w + b + (alpha/R) (x down) up, of which LoRA's part may be missing
typedef struct {
    Mat w;                            // (C,OC)
    const float *b;                   // (OC) or NULL
    float *dw, *db;                   // gradients: NULL if frozen, or not training
    const float *down, *up;           // (C,R), (R,OC); or NULL
    float *ddown, *dup;
    size_t C, OC;
} Linear;

// low (N,R) = (alpha/R) a (N,K) b (K,R)
static void lora_low(const Model *m, float *low, Mat a, Mat b, size_t K) {
    size_t R = (size_t)m->cfg.lora_rank;
    matmul(m, low, R, a, b, NULL, m->N, K, R);
    for (size_t i = 0; i < m->N * R; i++) low[i] *= m->cfg.lora_alpha / (float)R;
}

// out (N,OC) from inp (N,C)
static void linear_forward(const Model *m, float *out, const float *inp, const Linear *y) {
    size_t R = (size_t)m->cfg.lora_rank;
    matmul(m, out, y->OC, mat(inp, y->C), y->w, y->b, m->N, y->C, y->OC);
    if (!y->down) return;
    lora_low(m, m->x.low, mat(inp, y->C), mat(y->down, R), y->C);
    matmul(m, out, y->OC, mat(m->x.low, R), mat(y->up, y->OC), out, m->N, R, y->OC);
}

// dinp (N,C) is overwritten, unless NULL; dw and db are added to, rows in ascending order. LoRA's part: with
// low = s x down, s = alpha/R, forward is y = .. + low up. From dout = dL/dy:
//     dup_ro  += sum_n low_nr dout_no        dlow_nr = sum_o dout_no up_ro
//     ddown_cr += sum_n x_nc s dlow_nr       dx_nc  += sum_r s dlow_nr down_cr
// x.low is recomputed from x; s goes into dlow once, for both lines below it.
static void linear_backward(const Model *m, float *dinp, const float *dout, const float *x, const Linear *y) {
    static const float one = 1.0f;                // 1 * x added in one rounding is x added
    size_t N = m->N, C = y->C, OC = y->OC, R = (size_t)m->cfg.lora_rank;
    float *low = m->x.low, *dlow = m->x.dlow;
    if (dinp) matmul(m, dinp, C, mat(dout, OC), flipped(y->w), NULL, N, OC, C);
    if (y->down) {
        lora_low(m, low, mat(x, C), mat(y->down, R), C);
        matmul(m, y->dup, OC, transposed(low, R), mat(dout, OC), y->dup, R, N, OC);
        lora_low(m, dlow, mat(dout, OC), transposed(y->up, OC), OC);
        matmul(m, y->ddown, R, transposed(x, C), mat(dlow, R), y->ddown, C, N, R);
        if (dinp) matmul(m, dinp, C, mat(dlow, R), transposed(y->down, R), dinp, N, R, C);
    }
    if (y->dw) matmul(m, y->dw, OC, transposed(x, C), mat(dout, OC), y->dw, C, N, OC);
    if (y->db) matmul(m, y->db, OC, (Mat){&one, NULL, 0, 0, NULL}, mat(dout, OC), y->db, 1, N, OC);
}

// ---- norm -------------------------------------------------------------------------------------------------
// Brings a row to mean 0 and deviation 1, so that numbers neither grow nor fade from layer to layer.
// LayerNorm (Ba et al. 2016):   out_i = w_i n_i + b_i,   n_i = (x_i - mean(x)) r,
//                               r = 1 / sqrt(mean((x - mean(x))^2) + eps)
// RMSNorm (Zhang, Sennrich 2019) is the same with the mean taken as 0 and without b.
typedef struct {
    const float *w, *b;               // (C) learned gain and shift; b NULL with RMSNorm
    float *dw, *db;                   // gradients, NULL unless training
} Norm;

// One row, given its mean; out is not x. Returns r.
static float norm_row(float *out, const float *x, const float *w, const float *b, float mean, float eps,
                      size_t C) {
    float r = 1.0f / sqrtf(row_dot(x, x, mean, C) / (float)C + eps);
    if (b) for (size_t c = 0; c < C; c++) out[c] = fmaf((x[c] - mean) * r, w[c], b[c]);
    else   for (size_t c = 0; c < C; c++) out[c] = (x[c] - mean) * r * w[c]; // NOLINT(*NullDereference): w is
    return r;
}

// out (n,C) from x; stat (n,2) receives mean and r. Row i is made of row[i] of x, or of i if row is NULL.
static void norm_forward(const Model *m, float *out, float *stat, const float *x, const int32_t *row,
                         const Norm *y, size_t n) {
    size_t C = (size_t)m->cfg.width;
    #pragma omp parallel for schedule(static) num_threads(workers(m, n * C))
    for (size_t i = 0; i < n; i++) {
        const float *xi = x + (row ? (size_t)row[i] : i) * C;
        float mean = m->cfg.rms ? 0.0f : row_sum(xi, C) / (float)C;
        stat[2 * i] = mean;
        stat[2 * i + 1] = norm_row(out + i * C, xi, y->w, y->b, mean, m->cfg.norm_eps, C);
    }
}

// One row's gradient with respect to x, added to dx. Given g_i = dL/dout_i, let h_i = g_i w_i = dL/dn_i.
// x_i reaches n_j directly, through the mean (dmean/dx_i = 1/C) and through r = (var + eps)^(-1/2). As
// dvar/dx_i = 2 (x_i - mean) / C (through the mean nothing: sum_j (x_j - mean) is 0), dr/dx_i = -r^2 n_i / C:
//     dn_j/dx_i = r [i==j] - r/C - r n_j n_i / C
// times h_j, summed over j:   dx_i = r (h_i - mean(h) - n_i mean(h n)); in the code mh and mhn.
// RMSNorm: no mean, no middle term. Else sum_i dx_i = 0 (tested), as x plus a constant leaves n as it was.
static void norm_row_backward(float *dx, const float *g, const float *x, const float *w, float mean, float r,
                              size_t C, bool rms) {
    float sh[LANES] = {0}, shn[LANES] = {0};
    for (size_t i = 0; i < C; i += LANES)
        for (size_t j = 0; j < min_size(LANES, C - i); j++) {
            float h = g[i + j] * w[i + j];
            sh[j] += h;
            shn[j] = fmaf(h, (x[i + j] - mean) * r, shn[j]);
        }
    float mh = rms ? 0.0f : lanes_sum(sh) / (float)C, mhn = lanes_sum(shn) / (float)C;
    for (size_t i = 0; i < C; i++) dx[i] = fmaf(r, fmaf(-(x[i] - mean) * r, mhn, g[i] * w[i] - mh), dx[i]);
}

// Adds to dx (its rows as x's in forward), dw and db: dw_c = sum_i g_ic n_ic, db_c = sum_i g_ic, i ascending.
static void norm_backward(const Model *m, float *dx, const float *g, const float *stat, const float *x,
                          const int32_t *row, const Norm *y, size_t n) {
    size_t C = (size_t)m->cfg.width;
    int threads = workers(m, n * C);
    // Worker k owns rows of dx, then columns of dw and db.
    #pragma omp parallel for schedule(static) num_threads(threads)
    for (int k = 0; k < threads; k++) {
        for (size_t i = share(n, k, threads); i < share(n, k + 1, threads); i++) {
            size_t xi = (row ? (size_t)row[i] : i) * C;
            norm_row_backward(dx + xi, g + i * C, x + xi, y->w, stat[2 * i], stat[2 * i + 1], C, m->cfg.rms);
        }
        size_t lo = share(C, k, threads), hi = share(C, k + 1, threads);
        for (size_t i = 0; y->dw && i < n; i++) {
            const float *xi = x + (row ? (size_t)row[i] : i) * C, *gi = g + i * C;
            float mean = stat[2 * i], r = stat[2 * i + 1];
            for (size_t c = lo; c < hi; c++) y->dw[c] = fmaf(gi[c], (xi[c] - mean) * r, y->dw[c]);
            if (y->db) for (size_t c = lo; c < hi; c++) y->db[c] += gi[c];
        }
    }
}

// ---- a layer ----------------------------------------------------------------------------------------------
// Everything that belongs to layer l: its weights and gradients, and its slot of the kept buffers.
typedef struct {
    size_t l;
    Norm norm1, norm2;
    Linear qkv, proj, fc1, fc2;
    const float *qnw, *knw;           // Qwen3's gains of q and k heads
    float *dqnw, *dknw;
    float *in, *stat1, *heads, *raw, *rawstat;   // model.h: res, ln1stat, qkv, qkraw, qkstat
    float *attstat, *atty, *mid, *stat2, *fc1out, *out;
} Layer;

static float *slice(float *stacked, size_t l, size_t size) { return stacked ? stacked + l * size : NULL; }
static Layer layer_of(const Model *m, size_t l) {
    Dims d = dims_of(&m->cfg);
    const Params *w = &m->w, *g = &m->g;
    const Buffers *x = &m->x;
    size_t k = m->shape.train && !m->shape.recompute ? l : 0, N = m->N, C = d.C;    // k: its slot
#define LINEAR(name, in, out) {{slice(w->name##w, l, (in) * (out)), \
        w->name##w ? NULL : m->h.name##w + l * (in) * (out), out, 1, NULL}, slice(w->name##b, l, out), \
        slice(g->name##w, l, (in) * (out)), slice(g->name##b, l, out), slice(w->name##_down, l, (in) * d.R), \
        slice(w->name##_up, l, d.R * (out)), slice(g->name##_down, l, (in) * d.R), \
        slice(g->name##_up, l, d.R * (out)), in, out}
#define NORM(name) {slice(w->name##w, l, C), slice(w->name##b, l, C), \
                    slice(g->name##w, l, C), slice(g->name##b, l, C)}
    return (Layer){
        l, NORM(ln1), NORM(ln2),
        LINEAR(qkv, C, d.Q), LINEAR(proj, d.A, C), LINEAR(fc1, C, d.F1), LINEAR(fc2, d.F, C),
        slice(w->qnw, l, d.HS), slice(w->knw, l, d.HS), slice(g->qnw, l, d.HS), slice(g->knw, l, d.HS),
        x->res + (m->shape.train ? l : 0) * N * C, x->ln1stat + k * N * 2, x->qkv + k * N * d.Q,
        slice(x->qkraw, k, N * (d.A + d.KV)), slice(x->qkstat, k, N * (d.NH + d.NKV)),
        x->attstat + k * N * d.NH * 2, x->atty + k * N * d.A, x->mid + k * N * C, x->ln2stat + k * N * 2,
        x->fc1 + k * N * d.F1, x->res + (m->shape.train ? l + 1 : 0) * N * C,
    };
}

// ---- norm of q and k --------------------------------------------------------------------------------------
// Qwen3: an RMSNorm over each head of q and k, before the rotation; in heads (N,Q), kept in raw (N,A+KV)
static void qknorm_forward(const Model *m, const Layer *y) {
    Dims d = dims_of(&m->cfg);
    size_t heads = d.NH + d.NKV, QK = d.A + d.KV;
    #pragma omp parallel for schedule(static) num_threads(workers(m, m->N * QK))
    for (size_t n = 0; n < m->N; n++) {
        float *out = y->heads + n * d.Q, *x = y->raw + n * QK;    // NOLINT(*NonNullParamChecker): planned
        memcpy(x, out, QK * sizeof *x);                          // NOLINT(*NonNullParamChecker): with qk_norm
        for (size_t h = 0; h < heads; h++)
            y->rawstat[n * heads + h] = norm_row(out + h * d.HS, x + h * d.HS, h < d.NH ? y->qnw : y->knw,
                                                 NULL, 0.0f, m->cfg.norm_eps, d.HS);
    }
}

// dqkv (N,Q) in place, from the gradient after the norm to that before it; token by token, head by head
static void qknorm_backward(const Model *m, float *dqkv, const Layer *y) {
    Dims d = dims_of(&m->cfg);
    size_t heads = d.NH + d.NKV, QK = d.A + d.KV;
    for (size_t n = 0; y->dqnw && n < m->N; n++)  // first the gains, while dqkv still holds g
        for (size_t h = 0; h < heads; h++) {
            const float *g = dqkv + n * d.Q + h * d.HS, *x = y->raw + n * QK + h * d.HS;
            float r = y->rawstat[n * heads + h], *dw = h < d.NH ? y->dqnw : y->dknw;
            for (size_t i = 0; i < d.HS; i++) dw[i] = fmaf(g[i], x[i] * r, dw[i]);
        }
    #pragma omp parallel for schedule(static) num_threads(workers(m, m->N * QK))
    for (size_t n = 0; n < m->N; n++)
        for (size_t h = 0; h < heads; h++) {
            float *dx = dqkv + n * d.Q + h * d.HS, g[1 << 10];    // HS <= 1024: CONFIG_FIELD
            memcpy(g, dx, d.HS * sizeof *g);
            memset(dx, 0, d.HS * sizeof *dx);
            norm_row_backward(dx, g, y->raw + n * QK + h * d.HS, h < d.NH ? y->qnw : y->knw, 0.0f,
                              y->rawstat[n * heads + h], d.HS, true);    // NOLINT(*NullDereference): as above
        }
}

// ---- activation -------------------------------------------------------------------------------------------
// What stands between the MLP's matrices, element by element; not linear, or both would be a single matrix.
// sigma(z) = 1/(1 + exp(-z)). GELU in GPT-2's tanh form (Hendrycks, Gimpel 2016) needs no tanh, for
// (1 + tanh(u))/2 = sigma(2u):     gelu(x) = x sigma(z),  z = 2 sqrt(2/pi) (x + 0.044715 x^3)
// SwiGLU (Shazeer 2020), gate g and up u:   out = g sigma(g) u
#define GELU_SCALE 0x1.988454p+0f                 // 2 sqrt(2/pi)
#define GELU_CUBE  0x1.6e4e26p-5f                 // 0.044715
static inline float sigmoid(float z) { return 1.0f / (1.0f + exp_own(-z)); }

// act (N,F) from fc1 (N,F1)
static void act_forward(const Model *m, float *act, const float *fc1) {
    size_t F = (size_t)m->cfg.hidden, F1 = m->cfg.swiglu ? 2 * F : F;
    #pragma omp parallel for schedule(static) num_threads(workers(m, m->N * F))
    for (size_t n = 0; n < m->N; n++) {
        const float *x = fc1 + n * F1;
        float *o = act + n * F;
        if (m->cfg.swiglu)
            for (size_t i = 0; i < F; i++) o[i] = x[i] * sigmoid(x[i]) * x[F + i];
        else
            for (size_t i = 0; i < F; i++)
                o[i] = x[i] * sigmoid(GELU_SCALE * fmaf(GELU_CUBE * x[i] * x[i], x[i], x[i]));
    }
}

// dfc1 (N,F1) is overwritten. With s = sigma(z), ds/dz = s (1 - s):
//     gelu:   d/dx x s(z(x)) = s + x s (1-s) z',   z' = 2 sqrt(2/pi) (1 + 3*0.044715 x^2)
//     swiglu: d/dg g s(g) u  = u (s + g s (1-s)),  d/du = g s
static void act_backward(const Model *m, float *dfc1, const float *dact, const float *fc1) {
    size_t F = (size_t)m->cfg.hidden, F1 = m->cfg.swiglu ? 2 * F : F;
    #pragma omp parallel for schedule(static) num_threads(workers(m, m->N * F))
    for (size_t n = 0; n < m->N; n++) {
        const float *x = fc1 + n * F1, *d = dact + n * F;
        float *dx = dfc1 + n * F1;
        if (m->cfg.swiglu)
            for (size_t i = 0; i < F; i++) {
                float s = sigmoid(x[i]), gs = x[i] * s;
                dx[i] = d[i] * x[F + i] * fmaf(gs, 1.0f - s, s);
                dx[F + i] = d[i] * gs;
            }
        else
            for (size_t i = 0; i < F; i++) {
                float cube = GELU_CUBE * x[i] * x[i];
                float s = sigmoid(GELU_SCALE * fmaf(cube, x[i], x[i]));
                dx[i] = d[i] * fmaf(x[i] * s * (1.0f - s), GELU_SCALE * fmaf(3.0f, cube, 1.0f), s);
            }
    }
}

// ---- rotary positions -------------------------------------------------------------------------------------
// RoPE (Su et al. 2021): the pair (x_i, x_{i+HS/2}) of each q and k head turns by the angle position * f_i,
// f_i = theta^(-2i/HS). The product of two turned pairs depends on the difference of their angles, so q . k
// depends on how far apart two tokens are. TRAP: these are Hugging Face's pairs; llama2.c pairs neighbours
// (2i, 2i+1), and its weights are permuted on import.

// Llama 3.1: wavelengths above context/low are slowed by factor, below context/high left, between blended
static double rope_scaled(const Config *c, double f) {
    double turns = (double)c->rope_context * f / 0x1.921fb54442d18p+2;    // context / wavelength (2 pi / f)
    double low = (double)c->rope_low, high = (double)c->rope_high, slow = f / (double)c->rope_factor;
    if (turns < low) return slow;
    if (turns > high) return f;
    double blend = (turns - low) / (high - low);
    return (1.0 - blend) * slow + blend * f;
}

// x.rope (positions,HS): HS/2 cosines, then HS/2 sines
static void rope_table(const Model *m, size_t positions) {
    size_t HS = (size_t)m->cfg.head_size, half = HS / 2;
    double log_theta = log_own((double)m->cfg.rope_theta);
    for (size_t i = 0; i < half; i++) {
        float power = (float)exp_double((double)(2 * i) / (double)HS * log_theta);
        float f = 1.0f / power;                   // in float, as the reference implementations round it
        if (m->cfg.rope_context) f = (float)rope_scaled(&m->cfg, (double)f);
        for (size_t t = 0; t < positions; t++) {
            double sine, cosine;
            sincos_own((double)((float)t * f), &sine, &cosine);
            m->x.rope[t * HS + i] = (float)cosine;
            m->x.rope[t * HS + half + i] = (float)sine;
        }
    }
}

// Turns each q, k head of qkv (N,Q) in place by sign * angle; -1: a gradient, by the transpose, its inverse
static void rope_turn(const Model *m, float *qkv, float sign) {
    Dims d = dims_of(&m->cfg);
    size_t half = d.HS / 2;
    #pragma omp parallel for schedule(static) num_threads(workers(m, m->N * d.Q))
    for (size_t n = 0; n < m->N; n++) {
        const float *cosine = m->x.rope + (size_t)m->x.pos[n] * d.HS, *sine = cosine + half;
        for (float *x = qkv + n * d.Q; x < qkv + n * d.Q + d.A + d.KV; x += d.HS)
            for (size_t i = 0; i < half; i++) {
                float a = x[i], b = x[half + i], s = sign * sine[i];
                x[i] = a * cosine[i] - b * s;
                x[half + i] = b * cosine[i] + a * s;
            }
    }
}

// ---- attention --------------------------------------------------------------------------------------------
// Causal self-attention (Vaswani et al. 2017), a head at a time. From each token qkv made a query q, what it
// looks for, a key k, by which it is found, and a value v, what it tells. For the query at position t and the
// keys j = 0..t (what comes later is what shall be predicted):
//     s_j = q . k_j,   e_j = exp((s_j - max s) / sqrt(HS)),   p_j = e_j / sum(e),   out = sum_j p_j v_j
// p is the softmax of s / sqrt(HS), in which max s cancels: it keeps exp from overflow. The root keeps s, a
// sum of HS products, in one range for any HS. Grouped queries: NH/NKV neighbours in q share a head of k, v.
// Nothing of size T x T is kept: backward recomputes the scores from max and sum.
typedef struct {                      // one head of one row of the batch: where its numbers lie
    size_t HS, Q, A, ldk, ldstat;     // size and strides
    size_t n, past;                   // queries; the first stands at position past
    const float *q, *k, *v;           // (n,HS) at stride Q;  (past+n,HS) at stride ldk
    float *out, *stat;                // (n,HS) at stride A;  (n,2) at stride ldstat: max s, sum e
    float scale;                      // 1/sqrt(HS)
} Head;

static size_t cache_at(const Model *m, size_t l, size_t row) {
    return (l * m->shape.rows + row) * m->shape.cached * dims_of(&m->cfg).KV;
}

static Head head_of(const Model *m, const Batch *b, const Layer *y, size_t row, size_t h) {
    Dims d = dims_of(&m->cfg);
    size_t first = m->x.start[row], group = h / (d.NH / d.NKV) * d.HS, at = cache_at(m, y->l, row) + group;
    const float *q = y->heads + first * d.Q, *k = q + d.A + group;
    size_t cached = m->shape.cached, past = b->past ? (size_t)b->past[row] : 0;
    return (Head){
        d.HS, d.Q, d.A, cached ? d.KV : d.Q, 2 * d.NH, (size_t)b->len[row], past,
        q + h * d.HS, cached ? m->x.keys + at : k, cached ? m->x.values + at : k + d.KV,
        y->atty + first * d.A + h * d.HS, y->attstat + (first * d.NH + h) * 2, 1.0f / sqrtf((float)d.HS),
    };
}

// Both passes take STRIP queries with all the keys that they see, so that scores and sums are products, with
// a row for each key and a column for each query: vectors take queries side by side, and what becomes of the
// scores is a panel of the next product. Of n queries the first sees `seen` keys, each next one a key more.
// Unseen keys get e = 0: such terms change no sum but -0 to 0, as + 0.0f at the end does in every build.
// Here scores s (keys,n) become e; max (n), sum (n).
static void softmax_strip(float *s, size_t keys, size_t n, size_t seen, float scale, float *max, float *sum) {
    float lane[LANES * STRIP] = {0};
    memcpy(max, s, n * sizeof *max);
    for (size_t j = 0; j < keys; j++)
        for (size_t i = 0; i < n; i++) max[i] = seen + i > j && s[j * n + i] > max[i] ? s[j * n + i] : max[i];
    for (size_t j = 0; j < keys; j++)
        for (size_t i = 0; i < n; i++) {
            float *at = &s[j * n + i], e = exp_own((*at - max[i]) * scale);
            *at = seen + i > j ? e : 0.0f;
            lane[j % LANES * n + i] += *at;
        }
    for (size_t half = LANES / 2 * n; half >= n; half /= 2)
        for (size_t i = 0; i < half; i++) lane[i] += lane[half + i];
    memcpy(sum, lane, n * sizeof *sum);
}

// The scores' gradient, in place of dp (keys,n); s becomes p. As out = sum_j p_j v_j, dp_j = dout . v_j.
// By the quotient rule the derivative of p_i by s_j is p_i ([i==j] - p_j) / sqrt(HS); times dp_i, over all i:
//     ds_j = p_j (dp_j - D) / sqrt(HS),   D = sum_i p_i dp_i
// D = dout . out, for the same reason: no second pass over the keys (Dao et al. 2022).
static void softmax_strip_backward(float *s, float *dp, size_t keys, size_t n, size_t seen, float scale,
                                   const float *max, const float *inverse, const float *D) {
    for (size_t j = 0; j < keys; j++, s += n, dp += n)
        for (size_t i = 0; i < n; i++) {
            float p = exp_own((s[i] - max[i]) * scale) * inverse[i], ds = p * (dp[i] - D[i]) * scale;
            s[i] = seen + i > j ? p : 0.0f;
            dp[i] = seen + i > j ? ds : 0.0f;
        }
}

static void attention_head_forward(const Head *a, float *scratch) {
    size_t HS = a->HS, all = a->past + a->n;
    float max[STRIP], sum[STRIP], *o = scratch + PANELS, *s = o + STRIP * HS, *pk = s + STRIP * all;
    Mat k = mat(a->k, a->ldk), vt = transposed(a->v, a->ldk);
    if (a->n > 1) k = packed(k, all, HS, pk), vt = packed(vt, HS, all, pk + (all + MR) * HS);
    for (size_t i0 = 0; i0 < a->n; i0 += STRIP) {
        size_t rows = min_size(STRIP, a->n - i0), seen = a->past + i0 + 1, keys = a->past + i0 + rows;
        matmul_part(s, rows, k, transposed(a->q + i0 * a->Q, a->Q), NULL, keys, HS, rows, scratch);
        softmax_strip(s, keys, rows, seen, a->scale, max, sum);
        matmul_part(o, rows, vt, mat(s, rows), NULL, HS, keys, rows, scratch);
        for (size_t i = 0; i < rows; i++) {
            float *out = a->out + (i0 + i) * a->A, inverse = 1.0f / sum[i];
            for (size_t c = 0; c < HS; c++) out[c] = (o[c * rows + i] + 0.0f) * inverse;
            a->stat[(i0 + i) * a->ldstat] = max[i];
            a->stat[(i0 + i) * a->ldstat + 1] = sum[i];
        }
    }
}

// dq (stride Q) is overwritten; dk and dv, (n,HS) at the start of scratch behind PANELS, are added to. As
// out = sum_j p_j v_j and s_j = q . k_j:    dv_j += p_j dout,   dq = sum_j ds_j k_j,   dk_j += ds_j q
static void attention_head_backward(const Head *a, float *dq, const float *dout, float *scratch) {
    size_t HS = a->HS, n = a->n;
    float max[STRIP], inverse[STRIP], D[STRIP], *dk = scratch + PANELS, *dv = dk + n * HS, *o = dv + n * HS;
    float *s = o + STRIP * HS, *dp = s + STRIP * n, *pk = dp + STRIP * n, *pv = pk + (n + MR) * HS;
    Mat k = packed(mat(a->k, a->ldk), n, HS, pk), v = packed(mat(a->v, a->ldk), n, HS, pv);
    Mat kt = packed(transposed(a->k, a->ldk), HS, n, pv + (n + MR) * HS);
    for (size_t i0 = 0; i0 < n; i0 += STRIP) {
        size_t rows = min_size(STRIP, n - i0), keys = i0 + rows;
        const float *q = a->q + i0 * a->Q, *g = dout + i0 * a->A;
        for (size_t i = 0; i < rows; i++) {
            max[i] = a->stat[(i0 + i) * a->ldstat];
            inverse[i] = 1.0f / a->stat[(i0 + i) * a->ldstat + 1];
            D[i] = row_dot(g + i * a->A, a->out + (i0 + i) * a->A, 0.0f, HS);
        }
        matmul_part(s, rows, k, transposed(q, a->Q), NULL, keys, HS, rows, scratch);
        matmul_part(dp, rows, v, transposed(g, a->A), NULL, keys, HS, rows, scratch);
        softmax_strip_backward(s, dp, keys, rows, i0 + 1, a->scale, max, inverse, D);
        matmul_part(dv, HS, mat(s, rows), mat(g, a->A), dv, keys, rows, HS, scratch);
        matmul_part(dk, HS, mat(dp, rows), mat(q, a->Q), dk, keys, rows, HS, scratch);
        matmul_part(o, rows, kt, mat(dp, rows), NULL, HS, keys, rows, scratch);
        for (size_t i = 0; i < rows; i++)
            for (size_t c = 0; c < HS; c++) dq[(i0 + i) * a->Q + c] = o[c * rows + i] + 0.0f;
    }
}

static void attention_forward(Model *m, const Batch *b, const Layer *y) {
    size_t NH = (size_t)m->cfg.heads, units = b->B * NH, keys = (size_t)m->x.pos[m->N - 1] + 1;
    int threads = workers(m, m->N * NH * (size_t)m->cfg.head_size * keys);
    // Worker w takes every threads-th (row, head) and writes that head's columns of atty and attstat.
    #pragma omp parallel for schedule(static) num_threads(threads)
    for (int w = 0; w < threads; w++)
        for (size_t u = (size_t)w; u < units; u += (size_t)threads) {
            Head a = head_of(m, b, y, u / NH, u % NH);
            attention_head_forward(&a, m->x.scratch + (size_t)w * m->scratch);
        }
}

// dqkv (N,Q) is overwritten from datt (N,A).
static void attention_backward(Model *m, const Batch *b, const Layer *y, float *dqkv, const float *datt) {
    Dims d = dims_of(&m->cfg);
    size_t units = b->B * d.NKV, group = d.NH / d.NKV;
    int threads = workers(m, m->N * d.A);
    // Worker w takes every threads-th (row, key/value head), and writes its and its queries' columns of dqkv.
    #pragma omp parallel for schedule(static) num_threads(threads)
    for (int w = 0; w < threads; w++)
        for (size_t u = (size_t)w; u < units; u += (size_t)threads) {
            size_t row = u / d.NKV, g = u % d.NKV, first = m->x.start[row], size = (size_t)b->len[row] * d.HS;
            float *scratch = m->x.scratch + (size_t)w * m->scratch, *dk = scratch + PANELS;
            float *dq = dqkv + first * d.Q, *to = dq + d.A + g * d.HS;
            memset(dk, 0, 2 * size * sizeof *dk);
            for (size_t h = g * group; h < (g + 1) * group; h++) {
                Head a = head_of(m, b, y, row, h);
                attention_head_backward(&a, dq + h * d.HS, datt + first * d.A + h * d.HS, scratch);
            }
            for (size_t i = 0; i < size; i += d.HS, to += d.Q)
                for (size_t c = 0; c < d.HS; c++) {
                    to[c] = dk[i + c] + 0.0f;
                    to[d.KV + c] = dk[size + i + c] + 0.0f;
                }
        }
}

// The new tokens' keys and values go behind those that the layer's cache already holds. Those stay right, as
// no token looks at later ones: a text that grows by a token costs the work of a token, not of the text.
static void cache_store(Model *m, const Batch *b, const Layer *y) {
    Dims d = dims_of(&m->cfg);
    for (size_t row = 0; row < b->B; row++)
        for (size_t n = m->x.start[row]; n < m->x.start[row + 1]; n++) {
            size_t at = cache_at(m, y->l, row) + (size_t)m->x.pos[n] * d.KV;
            memcpy(m->x.keys + at, y->heads + n * d.Q + d.A, d.KV * sizeof(float));
            memcpy(m->x.values + at, y->heads + n * d.Q + d.A + d.KV, d.KV * sizeof(float));
        }
}

void model_cache_copy(Model *m, size_t from, size_t to, size_t n) {
    assert(from < m->shape.rows && to < m->shape.rows && from != to && n <= m->shape.cached);
    size_t bytes = n * dims_of(&m->cfg).KV * sizeof(float);
    for (size_t l = 0; l < (size_t)m->cfg.layers; l++) {
        memcpy(m->x.keys + cache_at(m, l, to), m->x.keys + cache_at(m, l, from), bytes);
        memcpy(m->x.values + cache_at(m, l, to), m->x.values + cache_at(m, l, from), bytes);
    }
}

// ---- embedding --------------------------------------------------------------------------------------------
// res (N,C) = wte[token] + wpe[position], rows of learned tables; with rotary positions wte[token] alone
static void embed_forward(Model *m, float *res) {
    size_t C = (size_t)m->cfg.width;
    for (size_t n = 0; n < m->N; n++) {
        Mat e = mat_from((Mat){m->w.wte, m->h.wte, C, 1, NULL}, (size_t)m->x.tok[n], 0);
        for (size_t i = 0; i < C; i++) res[n * C + i] = element(e, i, !e.p);
        if (m->cfg.rope) continue;
        Mat p = mat_from((Mat){m->w.wpe, m->h.wpe, C, 1, NULL}, (size_t)m->x.pos[n], 0);
        for (size_t i = 0; i < C; i++) res[n * C + i] += element(p, i, !p.p);
    }
}

// The lookup's gradient: a copy's derivative is 1, so each token's row of dres goes to its row of dwte. It is
// collected in a slot for each distinct token of the step, apart from the tied head's gradient, and joined at
// the end: so the order of the sum is that of the step's tokens, however many are computed at once.
static void embed_backward(Model *m, const float *dres) {
    size_t C = (size_t)m->cfg.width;
    for (size_t n = 0; n < m->N; n++) {
        int32_t *slot = &m->x.slotof[m->x.tok[n]];
        if (*slot < 0) {
            assert(m->slots < min_size((size_t)m->cfg.vocab, m->shape.step_tokens));
            memset(m->x.slot + m->slots * C, 0, C * sizeof(float));
            m->x.slottok[m->slots] = m->x.tok[n];
            *slot = (int32_t)m->slots++;
        }
    }
    int threads = workers(m, m->N * C);
    // Worker t owns columns of the slots and of wpe's gradient.
    #pragma omp parallel for schedule(static) num_threads(threads)
    for (int t = 0; t < threads; t++) {
        size_t lo = share(C, t, threads), hi = share(C, t + 1, threads);
        for (size_t n = 0; n < m->N; n++) {
            float *s = m->x.slot + (size_t)m->x.slotof[m->x.tok[n]] * C;
            for (size_t i = lo; i < hi; i++) s[i] += dres[n * C + i];
            if (m->cfg.rope) continue;
            float *p = m->g.wpe + (size_t)m->x.pos[n] * C;
            for (size_t i = lo; i < hi; i++) p[i] += dres[n * C + i];
        }
    }
}

static void embed_join(Model *m) {
    size_t C = (size_t)m->cfg.width;
    for (size_t s = 0; s < m->slots; s++) {
        float *g = m->g.wte + (size_t)m->x.slottok[s] * C;
        for (size_t i = 0; i < C; i++) g[i] += m->x.slot[s * C + i];
        m->x.slotof[m->x.slottok[s]] = -1;
    }
    m->slots = 0;
}

// ---- head and loss ----------------------------------------------------------------------------------------
// A token's logit: last_res, what leaves the last block, normed, times the head's row of that token.
static Mat head_weights(const Model *m) {        // (V,C)
    bool tied = m->cfg.tied;
    return (Mat){tied ? m->w.wte : m->w.head, tied ? m->h.wte : m->h.head, (size_t)m->cfg.width, 1, NULL};
}
static Norm last_norm(const Model *m) { return (Norm){m->w.lnfw, m->w.lnfb, m->g.lnfw, m->g.lnfb}; }
static float *last_res(const Model *m) {
    return m->x.res + (m->shape.train ? (size_t)m->cfg.layers : 0) * m->N * (size_t)m->cfg.width;
}

const float *model_logits(Model *m, const int32_t *rows, size_t n) {
    size_t C = (size_t)m->cfg.width, V = (size_t)m->cfg.vocab;
    assert(n <= min_size(m->shape.rows * m->shape.seq, HEAD_ROWS));
    Norm y = last_norm(m);
    norm_forward(m, m->x.headin, m->x.lnfstat, last_res(m), rows, &y, n);
    matmul(m, m->x.logits, V, mat(m->x.headin, C), flipped(head_weights(m)), NULL, n, C, V);
    return m->x.logits;
}

// Cross-entropy of one row of logits z (V) with target y: -log p_y = log(sum_i exp(z_i)) - z_y. Therefore
// dloss/dz_i = exp(z_i) / sum - [i==y] = p_i - [i==y]; with scale > 0, z becomes scale times that, in place.
// Not -log(p_y): p_y underflows to 0 once z_y is 87 below the largest, and the loss would be infinite. With
// e_i = exp(z_i - max z), one e is exactly 1 and none is above: 1 <= sum(e) <= V, so the loss is finite and
// >= 0, unless a logit is NaN or infinite; then the loss is NaN, and the caller must look for it.
static double cross_entropy(float *z, int32_t y, float scale, size_t V) {
    float max = row_max(z, V), zy = z[y];
    for (size_t i = 0; i < V; i++) z[i] = exp_own(z[i] - max);
    float sum = row_sum(z, V);
    if (scale > 0.0f) {
        float each = scale / sum;
        for (size_t i = 0; i < V; i++) z[i] *= each;
        z[y] -= scale;
    }
    if (!(sum >= 1.0f && max - zy <= FLT_MAX)) return (double)NAN;
    return log_own((double)sum) + ((double)max - (double)zy);
}

// Backward through logits = headin head^T and the last norm, for the n rows at hand: dhead += dlogits^T
// headin, rows ascending, so chunks of any size give the same bits; dheadin = dlogits head.
static void head_backward(Model *m, const int32_t *rows, size_t n) {
    size_t C = (size_t)m->cfg.width, V = (size_t)m->cfg.vocab;
    float *dhead = m->g.head ? m->g.head : m->g.wte;
    Norm y = last_norm(m);
    if (dhead) matmul(m, dhead, C, transposed(m->x.logits, V), mat(m->x.headin, C), dhead, V, n, C);
    matmul(m, m->x.dheadin, C, mat(m->x.logits, V), head_weights(m), NULL, n, V, C);
    norm_backward(m, m->x.dres, m->x.dheadin, m->x.lnfstat, last_res(m), rows, &y, n);
}

// Losses of n rows into x.partial; x.logits then holds the gradients of scale * loss, if scale > 0.
static void losses(Model *m, const int32_t *rows, const int32_t *target, size_t n, float scale) {
    size_t V = (size_t)m->cfg.vocab;
    model_logits(m, rows, n);
    #pragma omp parallel for schedule(static) num_threads(workers(m, n * V))
    for (size_t i = 0; i < n; i++)
        m->x.partial[i] = cross_entropy(m->x.logits + i * V, target[i], scale, V);
}

void model_losses(Model *m, const int32_t *rows, const int32_t *target, size_t n, double *loss) {
    size_t most = min_size(m->shape.rows * m->shape.seq, HEAD_ROWS);
    for (size_t i0 = 0; i0 < n; i0 += most) {
        size_t some = min_size(most, n - i0);
        losses(m, rows + i0, target + i0, some, 0.0f);
        memcpy(loss + i0, m->x.partial, some * sizeof *loss);
    }
}

void model_loss(Model *m, const Batch *b, float scale, double *sum, double *row_loss) {
    size_t targets = 0;
    assert(b->target && (m->shape.train || !(scale > 0.0f)));
    for (size_t row = 0; row < b->B; row++)
        for (size_t t = 0; t < (size_t)b->len[row]; t++)
            if (b->target[row * b->T + t] >= 0) {
                m->x.hrow[targets] = (int32_t)(m->x.start[row] + t);
                m->x.htarget[targets++] = b->target[row * b->T + t];
            }
    if (scale > 0.0f) memset(m->x.dres, 0, m->N * (size_t)m->cfg.width * sizeof *m->x.dres);
    if (row_loss) for (size_t row = 0; row < b->B; row++) row_loss[row] = 0.0;
    for (size_t i0 = 0, row = 0; i0 < targets; i0 += HEAD_ROWS) {
        size_t n = min_size(HEAD_ROWS, targets - i0);
        const int32_t *rows = m->x.hrow + i0;
        losses(m, rows, m->x.htarget + i0, n, scale);
        for (size_t i = 0; i < n; i++) {
            *sum += m->x.partial[i];
            while ((size_t)rows[i] >= m->x.start[row + 1]) row++;
            if (row_loss) row_loss[row] += m->x.partial[i];
        }
        if (scale > 0.0f) head_backward(m, rows, n);
    }
}

// ---- forward and backward ---------------------------------------------------------------------------------
// Checks the batch, and packs its tokens without padding: tok, pos (N), start (B+1)
static int batch_pack(Model *m, const Batch *b, Fault *f) {
    int32_t vocab = m->cfg.vocab;
    size_t N = 0, room = m->shape.cached ? m->shape.cached : m->shape.seq;
    if (check(f, "rows in the batch", (int64_t)b->B, 1, (int64_t)m->shape.rows)) return -1;
    for (size_t row = 0; row < b->B; row++) {
        int32_t past = b->past ? b->past[row] : 0, len = b->len[row];
        int64_t most = (int64_t)min_size(min_size(m->shape.seq, b->T), room);
        if (check(f, "tokens in a row of the batch", len, 0, most) ||
            check(f, "tokens of a row in the cache", past, 0, m->shape.cached ? (int64_t)room - len : 0))
            return -1;
        m->x.start[row] = N;
        for (int32_t t = 0; t < len; t++, N++) {
            size_t i = row * b->T + (size_t)t;
            int32_t token = b->tok[i], target = b->target ? b->target[i] : -1;
            if (check(f, "token id", token, 0, vocab - 1) || check(f, "target id", target, -1, vocab - 1))
                return -1;
            m->x.tok[N] = token;
            m->x.pos[N] = past + t;
        }
    }
    m->x.start[b->B] = m->N = N;
    return 0;
}

// out = x + y, both (N,C): a branch joins the residual stream
static void residual_add(const Model *m, float *out, const float *x, const float *y, size_t n) {
    (void)m;                                      // it is asked for threads, if there are any
    #pragma omp parallel for schedule(static) num_threads(workers(m, n))
    for (size_t i = 0; i < n; i++) out[i] = x[i] + y[i];
}

// Layer y up to its MLP's activation: all that the backward pass needs again.
static void layer_forward(Model *m, const Batch *b, const Layer *y) {
    Buffers *x = &m->x;
    size_t N = m->N;
    norm_forward(m, x->norm, y->stat1, y->in, NULL, &y->norm1, N);
    linear_forward(m, y->heads, x->norm, &y->qkv);
    if (m->cfg.qk_norm) qknorm_forward(m, y);
    if (m->cfg.rope) rope_turn(m, y->heads, 1.0f);
    if (m->shape.cached) cache_store(m, b, y);
    attention_forward(m, b, y);
    linear_forward(m, x->branch, y->atty, &y->proj);
    residual_add(m, y->mid, y->in, x->branch, N * (size_t)m->cfg.width);

    norm_forward(m, x->norm, y->stat2, y->mid, NULL, &y->norm2, N);
    linear_forward(m, y->fc1out, x->norm, &y->fc1);
}

int model_forward(Model *m, const Batch *b, Fault *f) {
    if (batch_pack(m, b, f)) return -1;
    if (m->N == 0) return 0;
    embed_forward(m, m->x.res);
    for (size_t l = 0; l < (size_t)m->cfg.layers; l++) {
        Layer y = layer_of(m, l);
        layer_forward(m, b, &y);
        act_forward(m, m->x.act, y.fc1out);
        linear_forward(m, m->x.branch, m->x.act, &y.fc2);
        residual_add(m, y.out, y.mid, m->x.branch, m->N * (size_t)m->cfg.width);
    }
    return 0;
}

// out = x + branch(norm(x)): the gradient of x is that of out, which is why dres is only ever added to, plus
// what comes back through the branch. Outputs of norm and activation are recomputed: cheaper than keeping.
// With frozen embeddings (LoRA) nothing needs the gradient of what enters the first layer.
void model_backward(Model *m, const Batch *b) {
    if (m->N == 0) return;
    Buffers *x = &m->x;
    size_t N = m->N;
    for (size_t l = (size_t)m->cfg.layers; l-- > 0;) {
        Layer y = layer_of(m, l);
        bool last = l == 0 && !m->g.wte;
        if (m->shape.recompute) layer_forward(m, b, &y);
        act_forward(m, x->act, y.fc1out);
        linear_backward(m, x->dact, x->dres, x->act, &y.fc2);
        act_backward(m, x->dbig, x->dact, y.fc1out);
        norm_forward(m, x->norm, y.stat2, y.mid, NULL, &y.norm2, N);
        linear_backward(m, x->dnorm, x->dbig, x->norm, &y.fc1);
        norm_backward(m, x->dres, x->dnorm, y.stat2, y.mid, NULL, &y.norm2, N);

        linear_backward(m, x->datt, x->dres, y.atty, &y.proj);
        attention_backward(m, b, &y, x->dbig, x->datt);
        if (m->cfg.rope) rope_turn(m, x->dbig, -1.0f);
        if (m->cfg.qk_norm) qknorm_backward(m, x->dbig, &y);
        norm_forward(m, x->norm, y.stat1, y.in, NULL, &y.norm1, N);
        linear_backward(m, last ? NULL : x->dnorm, x->dbig, x->norm, &y.qkv);
        if (!last) norm_backward(m, x->dres, x->dnorm, y.stat1, y.in, NULL, &y.norm1, N);
    }
    if (m->g.wte) embed_backward(m, x->dres);
}

// ---- AdamW ------------------------------------------------------------------------------------------------
void model_zero_grad(Model *m) {
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&m->cfg, i);
        if (t.size && t.trained) memset(tensor_data(&m->g, &t), 0, t.size * sizeof(float));
    }
    for (size_t s = 0; s < m->slots; s++) m->x.slotof[m->x.slottok[s]] = -1;
    m->slots = 0;
}

// Squares are added in double: CHUNK elements in 16 lanes, the lanes ascending, the chunks in table order.
static double chunk_square(const float *x, size_t n) {
    double lane[LANES] = {0}, sum = 0.0;
    for (size_t i = 0; i < n; i += LANES)
        for (size_t j = 0; j < min_size(LANES, n - i); j++) lane[j] += (double)x[i + j] * (double)x[i + j];
    for (size_t j = 0; j < LANES; j++) sum += lane[j];
    return sum;
}

double model_grad_norm(Model *m) {
    embed_join(m);
    double total = 0.0;
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&m->cfg, i);
        if (!t.trained) continue;
        const float *g = tensor_data(&m->g, &t);
        size_t chunks = (t.size + CHUNK - 1) / CHUNK;
        #pragma omp parallel for schedule(static) num_threads(workers(m, t.size))
        for (size_t k = 0; k < chunks; k++)
            m->x.partial[k] = chunk_square(g + k * CHUNK, min_size(CHUNK, t.size - k * CHUNK));
        for (size_t k = 0; k < chunks; k++) total += m->x.partial[k];
    }
    return sqrt(total);
}

static double to_the(double x, int64_t n) {    // x^n, n >= 0, by squaring
    double y = 1.0;
    for (; n > 0; n /= 2, x *= x)     // NOLINT(cert-flp30-c): n counts
        if (n & 1) y *= x;
    return y;
}

// AdamW (Loshchilov, Hutter 2017), step t from 1, gradient g first scaled down to norm `clip` if longer:
//     m = b1 m + (1-b1) g,   v = b2 v + (1-b2) g^2,   mhat = m / (1 - b1^t),   vhat = v / (1 - b2^t)
//     w = w - lr decay w,    w = w - lr mhat / (sqrt(vhat) + eps)
// m and v, the moments, are running means of g and g^2: a weight moves by about lr where g keeps its sign, by
// less where it wavers, however large g is. They start at 0: of a steady g, step t has m = (1 - b1^t) g, and
// mhat divides that factor out, vhat its own. Decay pulls matrices a little towards 0 in every step.
void model_update(Model *m, const AdamW *o, double norm, int64_t step) {
    float scale = o->clip > 0.0f && norm > (double)o->clip ? (float)((double)o->clip / norm) : 1.0f;
    float c1 = (float)(1.0 / (1.0 - to_the((double)o->beta1, step)));
    float c2 = (float)(1.0 / (1.0 - to_the((double)o->beta2, step)));
    float k1 = 1.0f - o->beta1, k2 = 1.0f - o->beta2;
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&m->cfg, i);
        if (!t.trained) continue;
        float *w = tensor_data(&m->w, &t), *m1 = tensor_data(&m->m1, &t), *m2 = tensor_data(&m->m2, &t);
        const float *g = tensor_data(&m->g, &t);
        float pull = t.decay ? -o->lr * o->decay : 0.0f;
        #pragma omp parallel for schedule(static) num_threads(workers(m, t.size))
        for (size_t j = 0; j < t.size; j++) {
            float gj = g[j] * scale;
            m1[j] = fmaf(o->beta1, m1[j], k1 * gj);
            m2[j] = fmaf(o->beta2, m2[j], k2 * (gj * gj));
            float decayed = fmaf(pull, w[j], w[j]);
            w[j] = fmaf(-o->lr, (m1[j] * c1) / (sqrtf(m2[j] * c2) + o->eps), decayed);
        }
    }
}

// Warmup: the first moments come from few gradients, so the first steps are small ones.
float model_schedule(Schedule kind, float peak, int64_t warmup, int64_t steps, int64_t step) {
    if (step <= warmup) return (float)((double)peak * (double)step / (double)warmup);
    double done = (double)(step - warmup - 1) / (double)(steps - warmup), sine, cosine;
    sincos_own(done * 0x1.921fb54442d18p+1, &sine, &cosine);
    double factor = kind == COSINE ? 0.5 * (1.0 + cosine) : kind == LINEAR ? 1.0 - done : 1.0;
    return (float)((double)peak * factor);
}

// ---- random numbers ---------------------------------------------------------------------------------------
uint64_t rng_next(Rng *r) {    // splitmix64 (Steele, Lea, Flood 2014): every state is fine
    uint64_t z = r->s += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
double rng_uniform(Rng *r) { return (double)(rng_next(r) >> 11) * 0x1p-53; }
uint64_t rng_below(Rng *r, uint64_t n) {    // 0..n-1, equally likely: draws from the uneven rest are repeated
    uint64_t top = UINT64_MAX - UINT64_MAX % n, x;
    do x = rng_next(r); while (x >= top);
    return x % n;
}

double rng_normal(Rng *r) {    // Box and Muller 1958
    double u = 1.0 - rng_uniform(r), sine, cosine;
    sincos_own(0x1.921fb54442d18p+2 * rng_uniform(r), &sine, &cosine);
    return sqrt(-2.0 * log_own(u)) * cosine;
}

// GPT-2's: normal, deviation 0.02; of what writes into the residual stream 1/sqrt(2L) of that, as it adds up
// 2L. LoRA's, as in the peft library: down uniform within 1/sqrt(its rows); up 0, so training starts at the
// base, of which nothing is drawn. Each tensor has a stream of its own.
void model_init(Model *m, uint64_t seed) {
    enum { STREAMS = 19 };                        // the tensors of a base model
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&m->cfg, i);
        if (!t.trained) continue;
        float *w = tensor_data(&m->w, &t);
        Rng r = {seed * STREAMS + (uint64_t)i};
        Init init = TENSOR[i].init;
        double deviation = init == NORMAL ? 0.02 : 0.02 / sqrt(2.0 * (double)m->cfg.layers);
        double most = 1.0 / sqrt((double)t.dim[1]);
        for (size_t j = 0; j < t.size; j++)
            w[j] = init == ZERO ? 0.0f : init == ONE ? 1.0f
                 : (float)(init == UNIFORM ? (2.0 * rng_uniform(&r) - 1.0) * most
                                           : deviation * rng_normal(&r));
    }
}

// ---- sampling ---------------------------------------------------------------------------------------------
// A heap of token ids, the likeliest on top; of equal logits the lower id first; NaN comes last.
static bool before(const float *z, int32_t a, int32_t b) {
    return z[a] > z[b] || (a < b && z[a] == z[b]) || (z[a] == z[a] && z[b] != z[b]);
}

static void sift_down(const float *z, int32_t *heap, size_t n, size_t i) {
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(z, heap[child + 1], heap[child])) child++;
        if (!before(z, heap[child], heap[i])) return;
        int32_t swap = heap[i];
        heap[i] = heap[child];
        heap[child] = swap;
    }
}

// Repeat penalty (Keskar et al. 2019); probabilities softmax(z / temperature), sharper below 1, flatter above
// it; top-k (Fan et al. 2018), top-p (Holtzman et al. 2019): candidates are taken from the likeliest down
// until there are k or their probabilities reach p, and one of them is drawn.
int32_t model_sample(float *z, size_t V, const Sampling *s, const int32_t *recent, size_t n, int32_t *order,
                     Rng *r) {
    for (size_t i = 0; i < n; i++) order[recent[i]] = 0;
    for (size_t i = 0; i < n; i++) {              // once for each token, however often it occurs
        float *x = &z[recent[i]];
        if (order[recent[i]]++ == 0) *x = *x > 0.0f ? *x / s->repeat_penalty : *x * s->repeat_penalty;
    }
    size_t k = s->top_k > 0 ? min_size((size_t)s->top_k, V) : V;
    for (size_t i = 0; i < V; i++) order[i] = (int32_t)i;
    for (size_t i = V / 2; i-- > 0;) sift_down(z, order, V, i);
    if (s->temperature <= 0.0f || k == 1) return order[0];

    float max = z[order[0]];
    double total = 0.0, sum = 0.0;
    for (size_t i = 0; i < V; i++) total += (double)exp_own((z[i] - max) / s->temperature);
    size_t taken = 0, heap = V;       // the heap shrinks from its end, where those that were taken go
    while (taken == 0 || (taken < k && sum < (double)s->top_p * total)) {
        int32_t top = order[0];
        order[0] = order[--heap];
        order[heap] = top;
        sift_down(z, order, heap, 0);
        sum += (double)exp_own((z[top] - max) / s->temperature);
        taken++;
    }
    double u = rng_uniform(r) * sum;
    for (size_t i = V; i-- > V - taken;) {
        u -= (double)exp_own((z[order[i]] - max) / s->temperature);
        if (u < 0.0) return order[i];
    }
    return order[V - taken];                      // u was rounded up to the whole sum
}

// ---- decoding ---------------------------------------------------------------------------------------------
// A row whose last token went through the model gets its next one from the logits of that token; a longer
// prompt is fed over several calls. at: packed tokens so far; k: row of the logits.
int model_extend(Model *m, Stream *s, size_t rows, const Sampling *how, size_t V, int32_t *scratch,
                 Fault *f) {
    size_t T = m->shape.seq, at = 0, i1;
    int32_t *tok = scratch, *len = tok + rows * T, *past = len + rows, *head = past + rows;
    int32_t *order = head + rows;
    Batch b = {tok, NULL, len, past, rows, T};
    for (size_t i = 0; i < rows; i++) {
        size_t n = s[i].done ? 0 : min_size(s[i].n - s[i].fed, T);
        memcpy(tok + i * T, s[i].id + s[i].fed, n * sizeof *tok);
        len[i] = (int32_t)n;
        past[i] = (int32_t)s[i].fed;
    }
    if (model_forward(m, &b, f)) return -1;
    for (size_t i0 = 0; i0 < rows; i0 = i1) {
        size_t n = 0, k = 0;
        for (i1 = i0; i1 < min_size(i0 + HEAD_ROWS, rows); i1++) {
            at += (size_t)len[i1];
            s[i1].fed += (size_t)len[i1];
            s[i1].fresh = len[i1] > 0 && s[i1].fed == s[i1].n;
            if (s[i1].fresh) head[n++] = (int32_t)(at - 1);
        }
        if (n > 0) model_logits(m, head, n);
        for (Stream *r = s + i0; r < s + i1; r++) {
            if (!r->fresh) continue;
            float *logits = m->x.logits + k++ * (size_t)m->cfg.vocab;
            r->id[r->n] = model_sample(logits, V, how, r->id + r->prompt, r->n - r->prompt, order, &r->rng);
            r->n++;
        }
    }
    return 0;
}

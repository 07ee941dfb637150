// bench_kernels.c -- the clock in front of model.c's kernels, and what each of them has to do at least.
//
// kernel_enter and kernel_leave keep the path of calls that are open, as text: a kernel is known by what its
// path contains. Time belongs to the innermost call that is open. All calls come from one thread, as marks
// stand around parallel loops and never in them.
#include "bench.h"
#include <stdio.h>
#include <string.h>

// A path with all of a row's texts is that row's kernel; the first such row counts. What no row knows is
// OTHER: a kernel that was renamed shows up there.
static const struct { Kernel k; const char *has[3]; } MATCH[] = {
    {LORA, {"lora"}}, {LORA, {"matmul", "x.low"}}, {LORA, {"matmul", "low,"}}, {LORA, {"y->ddown"}},
    {QKV_FORWARD, {"linear_forward", "qkv", "matmul"}}, {PROJ_FORWARD, {"linear_forward", "proj", "matmul"}},
    {FC1_FORWARD, {"linear_forward", "fc1)", "matmul"}}, {FC2_FORWARD, {"linear_forward", "fc2)", "matmul"}},
    {BIAS_BACKWARD, {"linear_backward", "y->db,"}},
    {QKV_DX, {"linear_backward", "qkv", "dinp"}}, {PROJ_DX, {"linear_backward", "proj", "dinp"}},
    {FC1_DX, {"linear_backward", "fc1)", "dinp"}}, {FC2_DX, {"linear_backward", "fc2)", "dinp"}},
    {QKV_DW, {"linear_backward", "qkv", "matmul"}}, {PROJ_DW, {"linear_backward", "proj", "matmul"}},
    {FC1_DW, {"linear_backward", "fc1)", "matmul"}}, {FC2_DW, {"linear_backward", "fc2)", "matmul"}},
    {HEAD_FORWARD, {"model_logits", "matmul"}}, {HEAD_DX, {"head_backward", "matmul", "x.dheadin"}},
    {HEAD_DW, {"head_backward", "matmul"}}, {BIAS_BACKWARD, {"linear_backward"}},
    {ATTENTION_FORWARD, {"attention_forward"}}, {ATTENTION_BACKWARD, {"attention_backward"}},
    {QK_NORM, {"qknorm"}}, {NORM_FORWARD, {"norm_forward"}}, {NORM_BACKWARD, {"norm_backward"}},
    {ACT_FORWARD, {"act_forward"}}, {ACT_BACKWARD, {"act_backward"}}, {RESIDUAL, {"residual_add"}},
    {ROPE, {"rope_turn"}}, {EMBED_FORWARD, {"embed_forward"}}, {EMBED_BACKWARD, {"embed_backward"}},
    {EMBED_BACKWARD, {"embed_join"}}, {CROSS_ENTROPY, {"losses"}}, {ZERO_GRAD, {"model_zero_grad"}},
    {GRAD_NORM, {"model_grad_norm"}}, {UPDATE, {"model_update"}},
};

static const char *const NAME[KERNELS] = {
    "qkv forward", "proj forward", "fc1 forward", "fc2 forward", "head forward",
    "qkv dX", "proj dX", "fc1 dX", "fc2 dX", "head dX",
    "qkv dW", "proj dW", "fc1 dW", "fc2 dW", "head dW",
    "LoRA", "attention forward", "attention backward", "norm forward", "norm backward", "activation forward",
    "activation backward", "residual add", "bias gradients", "rotary positions", "norm of q and k",
    "embedding", "embedding gradient", "cross-entropy", "zero gradients", "gradient norm", "AdamW", "other",
};
const char *kernel_name(Kernel k) { return NAME[k]; }

// The only variables of the program outside of functions that are not options: the marked copy of model.c
// has nobody to hand them on.
enum { DEPTH = 8, PATH = 2048 };
static struct {
    bool running;
    double total[KERNELS], since;      // since: when the innermost call began, or a call inside it ended
    int depth;
    Kernel open[DEPTH + 1];            // [0]: no call is open
    size_t length[DEPTH + 1];          // of the path up to there
    char path[PATH];
} at;

static Kernel kernel_of(const char *path) {
    for (size_t i = 0; i < sizeof MATCH / sizeof MATCH[0]; i++) {
        int all = 1;
        for (int j = 0; j < 3 && MATCH[i].has[j]; j++) all = all && strstr(path, MATCH[i].has[j]);
        if (all) return MATCH[i].k;
    }
    return OTHER;
}

static void charge(void) {
    double now = seconds();
    at.total[at.open[at.depth]] += now - at.since;
    at.since = now;
}

void kernel_enter(const char *call) {
    if (!at.running || at.depth == DEPTH) return;
    charge();
    size_t from = at.length[at.depth++];
    int n = snprintf(at.path + from, PATH - from, "%s ", call);
    at.length[at.depth] = from + (size_t)n < PATH ? from + (size_t)n : PATH - 1;
    at.open[at.depth] = kernel_of(at.path);
    charge();                          // what the mark itself cost belongs to the call outside
}

void kernel_leave(void) {
    if (!at.running || at.depth == 0) return;
    charge();
    at.path[at.length[--at.depth]] = '\0';
}

void kernels_start(void) {
    memset(&at, 0, sizeof at);
    at.open[0] = OTHER;
    at.since = seconds();
    at.running = true;
}

void kernels_stop(double total[KERNELS]) {
    charge();
    at.running = false;
    memcpy(total, at.total, sizeof at.total);
}

// Sums over the layers. Forward and dX are there whether a weight is frozen or not, dW where it is trained;
// with frozen embeddings nothing flows below the first layer's qkv. Attention: q.k and p.v are 4 A flops for
// each of T(T+1)/2 pairs forward, and twice that again backward; its recomputed scores count nothing.
Work kernel_work(Kernel k, const Config *c, double B, double T) {
    double N = B * T, L = c->layers, C = c->width, V = c->vocab, R = c->lora_rank, F = c->hidden;
    double A = (double)c->heads * c->head_size, KV = (double)c->kv_heads * c->head_size, Q = A + 2.0 * KV;
    double F1 = c->swiglu ? 2.0 * F : F, full = c->lora_rank == 0, parameters = 0.0;
    double pairs = B * T * (T + 1.0) / 2.0, float_ = sizeof(float);
    double lora = (c->lora_on & LORA_QKV ? C + Q : 0.0) + (c->lora_on & LORA_PROJ ? A + C : 0.0) +
                  (c->lora_on & LORA_FC1 ? C + F1 : 0.0) + (c->lora_on & LORA_FC2 ? F + C : 0.0);
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(c, i);
        parameters += t.trained ? (double)t.size : 0.0;
    }
    double qkv = 2.0 * N * C * Q, proj = 2.0 * N * A * C, fc1 = 2.0 * N * C * F1, fc2 = 2.0 * N * F * C;
    double head = 2.0 * N * C * V, row = N * C * float_;
    const Work work[KERNELS] = {
        [QKV_FORWARD] = {L * qkv, 0}, [QKV_DW] = {full * L * qkv, 0},
        [QKV_DX] = {(full > 0.0 ? L : L - 1.0) * qkv, 0},
        [PROJ_FORWARD] = {L * proj, 0}, [PROJ_DX] = {L * proj, 0}, [PROJ_DW] = {full * L * proj, 0},
        [FC1_FORWARD] = {L * fc1, 0}, [FC1_DX] = {L * fc1, 0}, [FC1_DW] = {full * L * fc1, 0},
        [FC2_FORWARD] = {L * fc2, 0}, [FC2_DX] = {L * fc2, 0}, [FC2_DW] = {full * L * fc2, 0},
        [HEAD_FORWARD] = {head, 0}, [HEAD_DX] = {head, 0}, [HEAD_DW] = {full * head, 0},
        [LORA] = {6.0 * N * R * lora * L, 0},
        [ATTENTION_FORWARD] = {4.0 * A * pairs * L, 0}, [ATTENTION_BACKWARD] = {8.0 * A * pairs * L, 0},
        [NORM_FORWARD] = {0, (4.0 * L + 1.0) * 2.0 * row},    // read x, write; once more in backward
        [NORM_BACKWARD] = {0, (2.0 * L + 1.0) * 4.0 * row},   // read g, x, dx; write dx
        [ACT_FORWARD] = {0, 2.0 * L * N * (F1 + F) * float_},
        [ACT_BACKWARD] = {0, L * N * (F + 2.0 * F1) * float_},
        [RESIDUAL] = {0, 2.0 * L * 3.0 * row},
        [BIAS_BACKWARD] = {0, full * L * N * ((c->bias ? 2.0 * C + F1 : 0) +
                                              (c->bias || c->qkv_bias ? Q : 0)) * float_},
        [ROPE] = {0, c->rope ? 2.0 * L * N * 2.0 * (A + KV) * float_ : 0},
        [QK_NORM] = {0, c->qk_norm ? L * N * 6.0 * (A + KV) * float_ : 0},
        [EMBED_FORWARD] = {0, 2.0 * row}, [EMBED_BACKWARD] = {0, full * 3.0 * row},
        [CROSS_ENTROPY] = {0, 2.0 * N * V * float_},
        [ZERO_GRAD] = {0, parameters * float_}, [GRAD_NORM] = {0, parameters * float_},
        [UPDATE] = {0, 7.0 * parameters * float_},            // read w, g, m1, m2; write w, m1, m2
    };
    return work[k];
}

// bench.h -- what dev/bench.c asks of dev/bench_kernels.c: where the time of a step goes.
//
// No clock may enter model.c, so the benchmark links a copy of it, which the Makefile makes with one line of
// sed: every statement that calls a function with the model as its first argument gets a MARK around it. The
// copy computes the same; a mark costs a fraction of a microsecond, and some hundred of them make a step.
#ifndef BENCH_H
#define BENCH_H
#include "../model.h"

void kernel_enter(const char *call);   // static text: the function with its arguments as they are written
void kernel_leave(void);
#define MARK(f, ...) (kernel_enter(#f "(" #__VA_ARGS__ ")"), f(__VA_ARGS__), kernel_leave())

typedef enum {
    QKV_FORWARD, PROJ_FORWARD, FC1_FORWARD, FC2_FORWARD, HEAD_FORWARD,
    QKV_DX, PROJ_DX, FC1_DX, FC2_DX, HEAD_DX,
    QKV_DW, PROJ_DW, FC1_DW, FC2_DW, HEAD_DW,
    PRODUCTS,                          // those before are the matrix products of full fine-tuning
    LORA = PRODUCTS, ATTENTION_FORWARD, ATTENTION_BACKWARD, NORM_FORWARD, NORM_BACKWARD, ACT_FORWARD,
    ACT_BACKWARD, RESIDUAL, BIAS_BACKWARD, ROPE, QK_NORM, EMBED_FORWARD, EMBED_BACKWARD, CROSS_ENTROPY,
    ZERO_GRAD, GRAD_NORM, UPDATE, OTHER, KERNELS
} Kernel;

void kernels_start(void);              // all times are 0, and from now on they are taken
void kernels_stop(double seconds[KERNELS]);
const char *kernel_name(Kernel k);
// What kernel k has to do in a training step on B full rows of T tokens: flops, or bytes that are read and
// written at least once if it computes little. Nothing that is computed again counts twice in flops.
typedef struct { double flops, bytes; } Work;
Work kernel_work(Kernel k, const Config *c, double B, double T);
#endif

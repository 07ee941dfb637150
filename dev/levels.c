// levels.c -- make portable on x86-64: instruction sets that are chosen as the program runs.
//
// There model.c is compiled three times, for any x86-64, for AVX2 and for AVX-512, and names get an ending:
// those below _v1, all of the others _v3 and _v4. This file has the bare names of what takes time, and chooses. All three give
// the same bits. LEVELS is the highest that may be chosen.
#include "../model.h"

#ifndef LEVELS
#define LEVELS 4
#endif
#define HAS(level, feature) (LEVELS >= level && __builtin_cpu_supports(feature))
#define LEVELED(type, name, give, args, params) \
    type name##_v1 params; type name##_v3 params; type name##_v4 params; \
    type name params { \
        give (HAS(4, "avx512f") ? name##_v4 : HAS(3, "avx2") && HAS(3, "fma") ? name##_v3 : name##_v1) args; \
    }
LEVELED(int, model_forward, return, (m, b, f), (Model *m, const Batch *b, Fault *f))
LEVELED(void, model_backward, , (m, b), (Model *m, const Batch *b))
LEVELED(void, model_loss, , (m, b, s, sum, r), (Model *m, const Batch *b, float s, double *sum, double *r))
LEVELED(void, model_losses, , (m, r, t, n, l),
        (Model *m, const int32_t *r, const int32_t *t, size_t n, double *l))
LEVELED(void, model_update, , (m, o, norm, step), (Model *m, const AdamW *o, double norm, int64_t step))
LEVELED(int, model_extend, return, (m, s, n, h, v, o, f),
        (Model *m, Stream *s, size_t n, const Sampling *h, size_t v, int32_t *o, Fault *f))

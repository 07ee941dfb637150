// parity_double.c -- main: the gradients of a real model with model.c compiled in double, for dev/parity.py.
//
//     ./parity_double MODEL.bin ROWS OUT      as `parity grads`, but OUT holds doubles
//
// In float, two right programs may differ by more than a bound on a model whose activations grow large and cancel; in
// double they may not. As in tests/test_grad.c, `float` means double in model.c, so the file is read here, by hand: it is
// an f32 checkpoint of our own making (dev/DESIGN.md, section 4), and this program is for nothing else.
#include <stdio.h>
#include <stdlib.h>
#ifdef __clang__
#pragma clang diagnostic ignored "-Wkeyword-macro"
#endif
#define float double
#define MODEL_DOUBLE
#include "../model.c"
#undef float

enum { AT_INTS = 16, AT_FLOATS = 80, AT_TENSORS = 128 + 3 * 16, HEADER = 256 };

static uint32_t u32_from(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static double f32_from(const uint8_t *p) {
    uint32_t u = u32_from(p);
    float x;
    memcpy(&x, &u, sizeof x);
    return (double)x;
}

static void *must(void *p, const char *what) {
    if (p) return p;
    fprintf(stderr, "parity_double: %s\n", what);
    exit(EXIT_FAILURE);
}

static void must_read(void *to, size_t n, FILE *f, const char *what) {
    must(fread(to, 1, n, f) == n ? to : NULL, what);
}

static void config_read(Config *c, const uint8_t *h) {
    double *real[] = {&c->norm_eps, &c->rope_theta, &c->rope_factor, &c->rope_low, &c->rope_high};
    memset(c, 0, sizeof *c);
    for (int i = 0; i < CONFIG_INTS; i++) {
        int32_t v = (int32_t)u32_from(h + AT_INTS + 4 * i);
        memcpy((char *)c + CONFIG_FIELD[i].where, &v, sizeof v);
    }
    for (int i = 0; i < CONFIG_FLOATS; i++) *real[i] = f32_from(h + AT_FLOATS + 4 * i);
}

static void weights_read(Model *m, FILE *f) {
    uint8_t piece[64];                            // tensors are padded to its size
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&m->cfg, i);
        double *w = tensor_data(&m->w, &t);
        for (size_t at = 0; at < t.size; at += 16) {
            must_read(piece, sizeof piece, f, "the tensors end too early");
            for (size_t k = 0; k < 16 && at + k < t.size; k++) w[at + k] = f32_from(piece + 4 * k);
        }
    }
}

// The rows of dev/parity.py: B, T, the lengths, tokens (B,T), targets (B,T), u32 each.
static Batch rows_read(FILE *f) {
    uint8_t word[4];
    size_t size[2];
    for (int i = 0; i < 2; i++) {
        must_read(word, 4, f, "rows end too early");
        size[i] = u32_from(word);
    }
    must(size[0] >= 1 && size[0] <= 1024 && size[1] >= 1 && size[1] <= 8192 ? word : NULL, "rows of another size");
    size_t B = size[0], T = size[1], n = B + 2 * B * T;
    int32_t *x = must(malloc(n * sizeof *x), "out of memory");
    for (size_t i = 0; i < n; i++) {
        must_read(word, 4, f, "rows end too early");
        x[i] = (int32_t)u32_from(word);
    }
    return (Batch){x + B, x + B + B * T, x, NULL, B, T};
}

int main(int argc, char **argv) {
    uint8_t head[HEADER];
    Config c;
    Plan plan;
    Model m;
    Fault fault;
    must(argc == 4 ? argv : NULL, "want MODEL.bin ROWS OUT");
    FILE *model = must(fopen(argv[1], "rb"), argv[1]), *rows = must(fopen(argv[2], "rb"), argv[2]);
    must_read(head, sizeof head, model, "no checkpoint");
    must(!memcmp(head, "tune.c\n", 8) && u32_from(head + 12) == 0 ? head : NULL, "want a checkpoint in f32");
    config_read(&c, head);
    Batch b = rows_read(rows);
    Shape s = {.rows = b.B, .seq = b.T, .step_tokens = b.B * b.T, .train = true, .threads = 2};
    must(model_plan(&plan, &c, &s, &fault) ? NULL : &plan, "the model is out of its limits");
    char *memory = must(calloc(1, plan.bytes + 64), "out of memory");
    model_bind(&m, &plan, memory + (64 - (uintptr_t)memory % 64));
    must(fseek(model, (long)u32_from(head + AT_TENSORS), SEEK_SET) ? NULL : model, "no tensors");
    weights_read(&m, model);

    size_t targets = 0;
    double sum = 0;
    for (size_t i = 0; i < b.B * b.T; i++) targets += i % b.T < (size_t)b.len[i / b.T] && b.target[i] >= 0;
    must(model_forward(&m, &b, &fault) || targets == 0 ? NULL : &m, "rows that the model cannot take");
    model_loss(&m, &b, 1.0 / (double)targets, &sum, NULL);
    model_backward(&m, &b);
    model_grad_norm(&m);
    FILE *out = must(fopen(argv[3], "wb"), argv[3]);
    printf("loss %.17g\n", sum / (double)targets);
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&c, i);
        if (t.size == 0) continue;
        printf("%s %zu %zu %zu\n", t.name, t.dim[0], t.dim[1], t.dim[2]);
        must(fwrite(tensor_data(&m.g, &t), sizeof(double), t.size, out) == t.size ? out : NULL, "cannot write");
    }
    must(fclose(out) ? NULL : out, "cannot write");
    free((void *)(uintptr_t)b.len);
    free(memory);
    fclose(model);
    fclose(rows);
    return 0;
}

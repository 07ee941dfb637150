// trace.c -- one small training step, layer by layer, as a file that a port's own step is compared with.
//
//     ./trace write gpt2|llama|lora > step.trace     every number of that step: dev/traces has the three
//     ./trace compare golden.trace port.trace        names the first tensor that differs, and where in it
//
// A port writes its file in the same form, as much of it as it has: what is missing is only counted. The form
// is lines of text, so that an hour's work without a library reads and writes it:
//
//     trace 1                          the version of this form
//     # ...                            a comment
//     input qkvw 2 8 24                section, name, layer from 1 (0: none), rows, columns
//     3f800000 bf000000 ...            one line for each row: a float's bits, 8 hexadecimal digits
//
// Sections come in the order of computing: what goes in (weights, tokens, targets as floats), what each
// layer's forward pass leaves, logits, loss, each tensor's gradient in the order backward makes them, their
// norm, the weights after the step. The names are those of Params and Buffers in model.h. Loss and norm,
// doubles, are rounded to float.
#define _POSIX_C_SOURCE 200809L
#include "model.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- writing ----------------------------------------------------------------------------------------------

// The three configurations: each has what the others lack, as small as shapes that all differ allow.
static const struct { const char *name; Config c; } NAMED[] = {
    {"gpt2",
     {.vocab = 13, .context = 7, .layers = 2, .heads = 2, .kv_heads = 2, .head_size = 4, .width = 8,
      .hidden = 20, .bias = 1, .tied = 1, .norm_eps = 1e-5f}},
    {"llama",
     {.vocab = 13, .context = 7, .layers = 2, .heads = 4, .kv_heads = 2, .head_size = 2, .width = 6,
      .hidden = 10, .rms = 1, .rope = 1, .swiglu = 1, .qkv_bias = 1, .qk_norm = 1, .norm_eps = 1e-6f,
      .rope_theta = 10000}},
    {"lora",
     {.vocab = 13, .context = 7, .layers = 2, .heads = 2, .kv_heads = 2, .head_size = 4, .width = 8,
      .hidden = 20, .rms = 1, .rope = 1, .swiglu = 1, .tied = 1, .norm_eps = 1e-6f, .rope_theta = 10000,
      .lora_rank = 3, .lora_on = LORA_ALL, .lora_alpha = 6}},
};

// Two rows of 5 and 3 tokens; what an instruction's mask would leave untaught has target -1.
enum { ROWS = 2, SEQ = 5, TOKENS = 8, TARGETS = 5 };
static const int32_t TOK[ROWS * SEQ] = {3, 1, 4, 1, 5, 9, 2, 6, 0, 0};
static const int32_t TARGET[ROWS * SEQ] = {-1, -1, 1, 5, 12, -1, 6, 11, -1, -1};
static const int32_t LEN[ROWS] = {5, 3};
static const int32_t TAUGHT[TARGETS] = {2, 3, 4, 6, 7};       // packed rows with a target

static void put(const char *section, const char *name, size_t layer, size_t rows, size_t columns,
                const float *x) {
    printf("%s %s %zu %zu %zu\n", section, name, layer, rows, columns);
    for (size_t i = 0; i < rows * columns; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        printf("%08" PRIx32 "%c", bits, i % columns == columns - 1 ? '\n' : ' ');
    }
}

static void put_number(const char *section, const char *name, double x) {
    float rounded = (float)x;
    put(section, name, 0, 1, 1, &rounded);
}

static void put_ids(const char *name, size_t columns, const int32_t *id) {
    float x[ROWS * SEQ];
    for (size_t i = 0; i < ROWS * columns; i++) x[i] = (float)id[i];
    put("input", name, 0, ROWS, columns, x);
}

// Layer l of a stacked tensor, or the whole of another.
static void put_tensor(const char *section, const Tensor *t, const Params *p, size_t l) {
    const float *x = tensor_data(p, t);
    if (t->size == 0 || x == NULL) return;
    if (!t->stacked)
        put(section, t->name, 0, t->dim[0], t->dim[1] * t->dim[2], x);
    else if (t->dim[2] == 1)
        put(section, t->name, l + 1, 1, t->dim[1], x + l * t->dim[1]);
    else
        put(section, t->name, l + 1, t->dim[1], t->dim[2], x + l * t->dim[1] * t->dim[2]);
}

// All tensors: those of no layer, and each layer's, in the checkpoint's order or against it.
static void put_params(const char *section, const Config *c, const Params *p, bool backward) {
    size_t layers = (size_t)c->layers;
    for (size_t k = 0; k < layers + 1; k++)           // k = 0: what is of no layer, first or last
        for (int i = 0; i < TENSORS; i++) {
            Tensor t = model_tensor(c, backward ? TENSORS - 1 - i : i);
            size_t l = backward ? layers - 1 - k : k - 1;
            if (t.stacked ? l < layers : k == (backward ? layers : 0)) put_tensor(section, &t, p, l);
        }
}

// What the forward pass keeps of each layer, in the order in which it is computed.
static void put_activations(const Model *m) {
    const Buffers *x = &m->x;
    const Config *c = &m->cfg;
    size_t C = (size_t)c->width, NH = (size_t)c->heads, NKV = (size_t)c->kv_heads, HS = (size_t)c->head_size;
    const struct { const char *name; const float *x; size_t columns; } kept[] = {
        {"res", x->res, C}, {"ln1stat", x->ln1stat, 2}, {"qkraw", x->qkraw, (NH + NKV) * HS},
        {"qkstat", x->qkstat, NH + NKV}, {"qkv", x->qkv, (NH + 2 * NKV) * HS},
        {"attstat", x->attstat, 2 * NH}, {"atty", x->atty, NH * HS}, {"mid", x->mid, C}, {"ln2stat", x->ln2stat, 2},
        {"fc1", x->fc1, (size_t)(c->swiglu ? 2 * c->hidden : c->hidden)},
    };
    for (size_t l = 0; l < (size_t)c->layers; l++)
        for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
            if (kept[i].x) put("forward", kept[i].name, l + 1, TOKENS, kept[i].columns,
                               kept[i].x + l * TOKENS * kept[i].columns);
    put("forward", "res", (size_t)c->layers + 1, TOKENS, C, x->res + (size_t)c->layers * TOKENS * C);
}

// LoRA's second matrices begin as zeros, which would make the first ones' gradients zero: here they don't.
static void fill_up(Model *m) {
    Rng r = {7};
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&m->cfg, i);
        float *x = tensor_data(&m->w, &t);
        if (t.size && t.trained && m->cfg.lora_rank && x[0] == 0)
            for (size_t k = 0; k < t.size; k++) x[k] = (float)(0.1 * rng_normal(&r));
    }
}

static int write_step(const Config *c, const char *name, Err *e) {
    const Shape s = {.rows = ROWS, .seq = SEQ, .step_tokens = TOKENS, .train = true, .threads = 1};
    const AdamW how = {.lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .decay = 0.1f, .clip = 1};
    const Batch b = {.tok = TOK, .target = TARGET, .len = LEN, .B = ROWS, .T = SEQ};
    Plan plan;
    Fault f;
    Model m;
    if (model_plan(&plan, c, &s, &f)) return err_fault(e, name, &f);
    void *block = block_alloc(plan.bytes, e);
    if (!block) return -1;
    model_bind(&m, &plan, block);
    model_init(&m, 1);
    fill_up(&m);
    printf("trace 1\n# %s: one step of two rows, AdamW lr 1e-3, betas 0.9 and 0.95, eps 1e-8,\n"
           "# weight decay 0.1 on matrices, gradients clipped to norm 1", name);
    for (int i = 0; i < CONFIG_INTS; i++) {
        int32_t value;
        memcpy(&value, (const char *)c + CONFIG_FIELD[i].where, sizeof value);
        printf("%s%s=%" PRId32, i % 8 ? " " : "\n# ", CONFIG_FIELD[i].name, value);
    }
    printf("\n# norm_eps=%g rope_theta=%g lora_rank=%" PRId32 " lora_alpha=%g\n", (double)c->norm_eps,
           (double)c->rope_theta, c->lora_rank, (double)c->lora_alpha);
    put_params("input", c, &m.w, false);
    put_ids("tok", SEQ, TOK);
    put_ids("target", SEQ, TARGET);
    put_ids("len", 1, LEN);
    double loss = 0;
    if (model_forward(&m, &b, &f)) {
        block_free(block);
        return err_fault(e, name, &f);
    }
    put_activations(&m);
    put("forward", "logits", 0, TARGETS, (size_t)c->vocab, model_logits(&m, TAUGHT, TARGETS));
    model_zero_grad(&m);
    model_loss(&m, &b, 1.0f / TARGETS, &loss, NULL);
    put_number("forward", "loss", loss / TARGETS);
    model_backward(&m, &b);
    double norm = model_grad_norm(&m);
    put_params("gradient", c, &m.g, true);
    put_number("gradient", "norm", norm);
    model_update(&m, &how, norm, 1);
    put_params("updated", c, &m.w, false);
    block_free(block);
    return 0;
}

// ---- comparing --------------------------------------------------------------------------------------------

enum { COLUMNS_MAX = 1 << 16, BYTES_MAX = 1 << 24 };
typedef struct { char section[16], name[24]; size_t layer, rows, columns; } Head;
typedef struct {
    const char *path;
    char *text, *at;                  // the whole file; where its next line begins
    size_t line;
} Trace;

static int trace_open(Trace *t, const char *path, Err *e) {
    uint8_t *data;
    size_t n;
    *t = (Trace){.path = path};
    if (file_read(path, BYTES_MAX, &data, &n, e)) return -1;
    t->text = t->at = (char *)data;
    if (memchr(data, 0, n)) return err_set(e, "%s: has a byte 0, want lines of text", path);
    t->line = 1;
    if (strncmp(t->at, "trace 1\n", 8) != 0) return err_set(e, "%s:1: want \"trace 1\"", path);
    t->at += 8;
    return 0;
}

// The next line's begin and length; NULL at the end of the file. Comments are passed over.
static char *trace_line(Trace *t, size_t *n) {
    while (*t->at) {
        char *line = t->at;
        *n = strcspn(line, "\n");
        t->at += *n + (line[*n] == '\n');
        t->line++;
        if (line[0] != '#' && *n > 0) return line;
    }
    return NULL;
}

// 1: a tensor's head was read; 0: the file ends here.
static int head_read(Trace *t, Head *h, Err *e) {
    size_t n;
    char *line = trace_line(t, &n), end = 0;
    if (!line) return 0;
    char word[128] = "";
    if (n < sizeof word) memcpy(word, line, n);
    // NOLINTNEXTLINE(cert-err34-c): nine digits are always in range
    if (sscanf(word, "%15s %23s %9zu %9zu %9zu %c", h->section, h->name, &h->layer, &h->rows, &h->columns,
               &end) != 5 || h->rows == 0 || h->columns == 0)
        return err_set(e, "%s:%zu: want a section, a name, layer, rows and columns", t->path, t->line);
    return 1;
}

// One row of a tensor: exactly `columns` numbers of 8 hexadecimal digits, whose bits are called for.
static int row_read(Trace *t, const Head *h, uint32_t *bits, Err *e) {
    size_t n;
    char *line = trace_line(t, &n);
    if (!line || n / 9 + 1 < h->columns)
        return err_set(e, "%s:%zu: %s %s, layer %zu: want %zu rows of %zu numbers", t->path, t->line,
                       h->section, h->name, h->layer, h->rows, h->columns);
    for (size_t j = 0; j < h->columns; j++) {
        char *end, *at = line + 9 * j;
        bits[j] = (uint32_t)strtoul(at, &end, 16);
        if (end != at + 8 || strspn(at, "0123456789abcdefABCDEF") != 8 ||
            (size_t)(end - line) != (j == h->columns - 1 ? n : 9 * j + 8))
            return err_set(e, "%s:%zu: number %zu: want 8 hexadecimal digits and a blank or the line's end",
                           t->path, t->line, j + 1);
    }
    return 0;
}

static int rows_skip(Trace *t, const Head *h, Err *e) {
    size_t n;
    for (size_t i = 0; i < h->rows; i++)
        if (!trace_line(t, &n)) return err_set(e, "%s:%zu: the file ends within a tensor", t->path, t->line);
    return 0;
}

static bool head_is(const Head *a, const Head *b) {
    return strcmp(a->section, b->section) == 0 && strcmp(a->name, b->name) == 0 && a->layer == b->layer;
}

// Where the port has this tensor: 1 found, with t at its first row; 0 it has not.
static int find(Trace *t, const Head *want, Err *e) {
    Head h;
    int rc;
    t->at = t->text + 8;
    t->line = 1;
    while ((rc = head_read(t, &h, e)) == 1) {
        if (!head_is(&h, want)) {
            if (rows_skip(t, &h, e)) return -1;
            continue;
        }
        if (h.rows == want->rows && h.columns == want->columns) return 1;
        return err_set(e, "%s:%zu: %s %s, layer %zu, is %zu x %zu, want %zu x %zu", t->path, t->line,
                       h.section, h.name, h.layer, h.rows, h.columns, want->rows, want->columns);
    }
    return rc;
}

static float value(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

// How many floats lie between two: their bits, made ascending from -inf to inf.
static uint32_t apart(uint32_t a, uint32_t b) {
    a = a & 0x80000000u ? ~a : a | 0x80000000u;
    b = b & 0x80000000u ? ~b : b | 0x80000000u;
    return a > b ? a - b : b - a;
}

// 0: the two agree, bit for bit; 1: they don't, and it was said where; -1: a file is wrong.
static int tensor_compare(Trace *golden, Trace *port, const Head *h, uint32_t *row[2], Err *e) {
    size_t differ = 0, at[2] = {0, 0};
    uint32_t first[2] = {0, 0}, most = 0;
    for (size_t i = 0; i < h->rows; i++) {
        if (row_read(golden, h, row[0], e) || row_read(port, h, row[1], e)) return -1;
        for (size_t j = 0; j < h->columns; j++) {
            uint32_t ulp = apart(row[0][j], row[1][j]);
            if (ulp && differ++ == 0) {
                memcpy(at, (size_t[]){i, j}, sizeof at);
                memcpy(first, (uint32_t[]){row[0][j], row[1][j]}, sizeof first);
            }
            if (ulp > most) most = ulp;
        }
    }
    if (!differ) return 0;
    printf("first difference: %s %s", h->section, h->name);
    if (h->layer) printf(", layer %zu", h->layer);
    printf(", row %zu, column %zu\n", at[0] + 1, at[1] + 1);
    printf("  wanted %08" PRIx32 "  %.9g\n", first[0], (double)value(first[0]));
    printf("  found  %08" PRIx32 "  %.9g\n", first[1], (double)value(first[1]));
    printf("  %zu of its %zu numbers differ, by at most %" PRIu32 " units in the last place\n", differ,
           h->rows * h->columns, most);
    return 1;
}

static int compare(Trace *golden, Trace *port, bool *same, Err *e) {
    size_t equal = 0, missing = 0;
    uint32_t *row[2] = {malloc(COLUMNS_MAX * sizeof(uint32_t)), malloc(COLUMNS_MAX * sizeof(uint32_t))};
    int rc = row[0] && row[1] ? 0 : err_memory(e, COLUMNS_MAX * sizeof(uint32_t));
    Head h;
    while (rc == 0 && (rc = head_read(golden, &h, e)) == 1) {
        if (h.columns > COLUMNS_MAX)
            rc = err_set(e, "%s:%zu: %zu columns, want at most %d", golden->path, golden->line, h.columns,
                         COLUMNS_MAX);
        else
            rc = find(port, &h, e);
        if (rc == 0) {
            missing++;
            rc = rows_skip(golden, &h, e);
        } else if (rc == 1) {
            rc = tensor_compare(golden, port, &h, row, e);
            equal += rc == 0;
        }
        if (rc == 1) break;
    }
    free(row[0]);
    free(row[1]);
    if (rc < 0) return -1;
    printf("%zu tensors%s agree bit for bit, %zu are not in %s\n", equal, rc ? " before it" : "", missing,
           port->path);
    *same = rc == 0 && equal > 0;
    return 0;
}

static const char USAGE[] =
    "usage: ./trace write gpt2|llama|lora > step.trace   one step, layer by layer\n"
    "       ./trace compare golden.trace port.trace      where a port first differs\n";

int main(int argc, char **argv) {
    Err e = {""};
    bool same = true;
    int rc = -2;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(USAGE, stdout);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("tune.c %s\n", TUNE_VERSION);
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "write") == 0) {
        for (size_t i = 0; i < sizeof NAMED / sizeof NAMED[0]; i++)
            if (strcmp(argv[2], NAMED[i].name) == 0) rc = write_step(&NAMED[i].c, NAMED[i].name, &e);
    } else if (argc == 4 && strcmp(argv[1], "compare") == 0) {
        Trace golden, port = {0};
        rc = trace_open(&golden, argv[2], &e) || trace_open(&port, argv[3], &e) ||
             compare(&golden, &port, &same, &e) ? -1 : 0;
        free(golden.text);
        free(port.text);
    }
    if (rc == -2) {
        fputs(USAGE, stderr);
        return EXIT_FAILURE;
    }
    if (rc == 0 && (fflush(stdout) || ferror(stdout))) rc = err_set(&e, "standard output: cannot be written");
    if (rc) fprintf(stderr, "trace: %s\n", e.msg);
    return rc || !same;
}

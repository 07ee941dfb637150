// convert.c -- main: other programs' models become flat checkpoints; --info and --diff look at checkpoints.
//
//     GPT-2         a folder with config.json and model.safetensors, named as by Hugging Face transformers
//     llama2.c      a version 0 .bin (Karpathy's llama2.c, export.py) and its tokenizer .bin
//
// Read in this order: Import, what every reader fills -> safetensors -> GPT-2 -> llama2.c -> its tokenizer ->
// --info -> --diff -> main.
// Input files are hostile: each number is checked before it is used; nothing is written unless all was read.
// T: tests/check_real.c compares converted models with what their makers' programs print.
#include "../model.h"
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- sizes and bytes --------------------------------------------------------------------------------------
#define MODEL_MAX     ((size_t)1 << (sizeof(size_t) > 4 ? 37 : 30))     // bytes of a file with weights
#define CONFIG_MAX    ((size_t)1 << 20)
#define HEADER_MAX    ((size_t)1 << 24)           // of safetensors' JSON; GPT-2 XL's has 60 KB
#define TOKENIZER_MAX ((size_t)1 << 24)
enum { TOKEN_MAX = 256 };             // bytes of one token; llama2.c's longest has 27

static bool mul_ok(size_t a, size_t b, size_t *out) {
    if (a != 0 && b > SIZE_MAX / a) return false;
    *out = a * b;
    return true;
}

// All numbers in these files are little-endian.
static uint32_t u32_at(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static float f32_of(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

// Half precision: 1 sign, 5 exponent, 10 fraction bits. Exponent 0: fraction * 2^-24; 31: infinity or NaN.
static float f16_of(uint32_t h) {
    uint32_t sign = (h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3ff;
    if (exponent == 31) return f32_of(sign | 0x7f800000 | fraction << 13);
    if (exponent > 0) return f32_of(sign | (exponent + 112) << 23 | fraction << 13);
    float x = (float)fraction * 0x1p-24f;
    return sign ? -x : x;
}

// What a tensor may be stored as.
typedef enum { F32, BF16, F16, STORED } Stored;
static const struct { const char *name; size_t width; } STORE[STORED] = {{"F32", 4}, {"BF16", 2}, {"F16", 2}};

static void floats_read(float *out, const uint8_t *from, size_t n, Stored as) {
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = from + i * STORE[as].width;
        uint32_t half = (uint32_t)p[0] | (uint32_t)p[1] << 8;
        out[i] = as == F32 ? f32_of(u32_at(p)) : as == BF16 ? f32_of(half << 16) : f16_of(half);
    }
}

// ---- what every reader fills ------------------------------------------------------------------------------
typedef struct {
    Config cfg;
    Params w;
    float *weights;                   // the tensors, one after the other
    Tokenizer tok;                    // whose arrays are the four that follow
    uint8_t *bytes, *flag;
    uint32_t *start;
    Merge *merge;
    void *index;
    char lineage[1024];               // a line for each file that was read
} Import;

static void import_free(Import *m) {
    block_free(m->weights);
    block_free(m->index);
    free(m->bytes);
    free(m->flag);
    free(m->start);
    free(m->merge);
}

// Memory for all tensors of the configuration, zeroed.
static float *weights_alloc(Params *w, const Config *c, Err *e) {
    size_t bytes;
    if (!mul_ok(model_params(c), sizeof(float), &bytes)) {
        err_set(e, "weights: more bytes than this machine can address");
        return NULL;
    }
    float *block = block_alloc(bytes, e), *at = block;
    for (int i = 0; block && i < TENSORS; i++) {
        Tensor t = model_tensor(c, i);
        float *x = t.size ? at : NULL;
        memcpy((char *)w + t.where, &x, sizeof x);
        at += t.size;
    }
    return block;
}

// A model with infinite or undefined weights cannot be used; more likely the file is not what it seems.
static int weights_check(const Import *m, const char *path, Err *e) {
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&m->cfg, i);
        const float *x = tensor_data(&m->w, &t);
        for (size_t k = 0; k < t.size; k++)
            if (!isfinite(x[k]))
                return err_set(e, "%s: %s[%zu] = %g, want a finite number", path, t.name, k, (double)x[k]);
    }
    return 0;
}

static void lineage_add(Import *m, const char *what, const char *text) {
    size_t n = strlen(m->lineage);
    snprintf(m->lineage + n, sizeof m->lineage - n, "%s%s\n", what, text);
}

// Reads a file and notes its SHA-256 as the checkpoint's origin. what: a word for the file, never its path.
static int source_read(Import *m, const char *path, const char *what, size_t limit, uint8_t **data, size_t *n,
                       Err *e) {
    Sha256 s;
    char hex[65];
    if (file_read(path, limit, data, n, e)) return -1;
    sha256_init(&s);
    sha256_add(&s, *data, *n);
    sha256_end(&s, hex);
    lineage_add(m, what, hex);
    return 0;
}

// ---- safetensors ------------------------------------------------------------------------------------------
//     0    8      n, bytes of the header
//     8    n      header: {"name": {"dtype": "F32", "shape": [3, 48], "data_offsets": [begin, end]}, ...}
//     8+n         data; the offsets count from here
typedef struct {
    const char *path;
    Json json;
    const uint8_t *data;
    size_t bytes;                     // of data
} Safetensors;

// Is a node of JSON a whole number from 0 to 2^53?
static bool whole(const JsonNode *v, size_t *out) {
    if (v->kind != JSON_NUMBER || !(v->number >= 0 && v->number <= 0x1p53)) return false;
    if (v->number > (double)(SIZE_MAX / 2) || floor(v->number) < v->number) return false;
    *out = (size_t)v->number;
    return true;
}

static const char *number_text(const JsonNode *v) { return v->kind == JSON_NUMBER ? v->text : "(no number)"; }

static int safetensors_open(Safetensors *s, const char *path, const uint8_t *file, size_t n, Err *e) {
    s->path = path;
    if (n < 8) return err_set(e, "%s: %zu bytes, want 8 or more", path, n);
    size_t header = u32_at(file), most = n - 8 < HEADER_MAX ? n - 8 : HEADER_MAX;
    if (u32_at(file + 4) != 0 || header > most)
        return err_set(e, "%s: byte 0: header of %.0f bytes, want 0..%zu", path,
                       (double)u32_at(file + 4) * 0x1p32 + (double)header, most);
    if (json_parse(&s->json, path, 1, file + 8, header, e)) return -1;
    if (s->json.node[0].kind != JSON_OBJECT) return err_set(e, "%s: byte 8: want a JSON object", path);
    s->data = file + 8 + header;
    s->bytes = n - 8 - header;
    return 0;
}

// Where a tensor lies in the file. data NULL: it isn't there.
typedef struct {
    const uint8_t *data;
    size_t bytes;
    Stored as;
} Piece;

static int safetensors_place(Piece *piece, const Safetensors *s, uint32_t node, const char *name, Err *e) {
    const JsonNode *v = s->json.node;
    uint32_t at = json_get(&s->json, node, "data_offsets");
    size_t begin, end;
    if (!at || v[at].kind != JSON_ARRAY || v[at].count != 2)
        return err_set(e, "%s: tensor %.80s: want two data_offsets", s->path, name);
    if (!whole(&v[at + 1], &begin) || !whole(&v[at + 2], &end) || begin > end || end > s->bytes)
        return err_set(e, "%s: tensor %.80s: data_offsets %.20s..%.20s, want within 0..%zu", s->path, name,
                       number_text(&v[at + 1]), number_text(&v[at + 2]), s->bytes);
    piece->data = s->data + begin;
    piece->bytes = end - begin;
    return 0;
}

// Checks the header's entry `node` against the shape wanted, in which trailing ones don't count.
static int safetensors_check(Piece *piece, const Safetensors *s, uint32_t node, const char *name,
                             const size_t want[3], Err *e) {
    const JsonNode *v = s->json.node;
    uint32_t type = json_get(&s->json, node, "dtype"), shape = json_get(&s->json, node, "shape");
    if (!type || v[type].kind != JSON_STRING || !shape || v[shape].kind != JSON_ARRAY)
        return err_set(e, "%s: tensor %.80s: want a dtype and a shape", s->path, name);
    Stored as = F32;
    while (as < STORED && strcmp(v[type].text, STORE[as].name) != 0) as++;
    if (as == STORED)
        return err_set(e, "%s: tensor %.80s: dtype %.20s, want F32, BF16, F16", s->path, name, v[type].text);

    size_t dim[3] = {1, 1, 1}, bytes = STORE[as].width, given = v[shape].count;
    bool same = given <= 3;
    for (size_t k = 0; k < 3 && k < given; k++) same = whole(&v[shape + 1 + k], &dim[k]) && same;
    for (size_t k = 0; k < 3; k++) same = dim[k] == want[k] && mul_ok(bytes, want[k], &bytes) && same;
    if (!same)
        return err_set(e, "%s: tensor %.80s: %zu dimensions, %zu x %zu x %zu, want %zu x %zu x %zu", s->path,
                       name, given, dim[0], dim[1], dim[2], want[0], want[1], want[2]);
    if (piece->bytes != bytes)
        return err_set(e, "%s: tensor %.80s: %zu bytes, want %zu", s->path, name, piece->bytes, bytes);
    piece->as = as;
    return 0;
}

// ---- GPT-2 ------------------------------------------------------------------------------------------------
// One row for each tensor of Hugging Face's GPT2LMHeadModel; # is the layer. Conv1D is (in, out), as ours.
// Names may begin with "transformer." (GPT2LMHeadModel) or not (GPT2Model).
#define AT(field) offsetof(Params, field)
#define IGNORED   SIZE_MAX            // buffers of old files: the causal mask
static const struct { const char *name; size_t where; bool bias; } GPT2[] = {
    {"wte.weight",               AT(wte),   false}, {"wpe.weight",               AT(wpe),   false},
    {"h.#.ln_1.weight",          AT(ln1w),  false}, {"h.#.ln_1.bias",            AT(ln1b),  true},
    {"h.#.attn.c_attn.weight",   AT(qkvw),  false}, {"h.#.attn.c_attn.bias",     AT(qkvb),  true},
    {"h.#.attn.c_proj.weight",   AT(projw), false}, {"h.#.attn.c_proj.bias",     AT(projb), true},
    {"h.#.ln_2.weight",          AT(ln2w),  false}, {"h.#.ln_2.bias",            AT(ln2b),  true},
    {"h.#.mlp.c_fc.weight",      AT(fc1w),  false}, {"h.#.mlp.c_fc.bias",        AT(fc1b),  true},
    {"h.#.mlp.c_proj.weight",    AT(fc2w),  false}, {"h.#.mlp.c_proj.bias",      AT(fc2b),  true},
    {"ln_f.weight",              AT(lnfw),  false}, {"ln_f.bias",                AT(lnfb),  true},
    {"lm_head.weight",           AT(head),  false},
    {"h.#.attn.bias",            IGNORED,   false}, {"h.#.attn.masked_bias",     IGNORED,   false},
};
enum { GPT2_ROWS = sizeof GPT2 / sizeof GPT2[0] };
#undef AT

// Is name the pattern with a number below `layers` for its #? Then that number is *layer.
static bool name_match(const char *pattern, const char *name, size_t layers, size_t *layer) {
    const char *mark = strchr(pattern, '#');
    *layer = 0;
    if (!mark) return strcmp(pattern, name) == 0;
    size_t before = (size_t)(mark - pattern), n = 0;
    if (strncmp(pattern, name, before) != 0) return false;
    const char *p = name + before, *first = p;
    for (; *p >= '0' && *p <= '9' && n < layers; p++) n = n * 10 + (size_t)(*p - '0');
    *layer = n;
    return p > first && !(*first == '0' && p > first + 1) && n < layers && strcmp(mark + 1, p) == 0;
}

static Tensor tensor_at(const Config *c, size_t where) {
    int i = 0;
    while (model_tensor(c, i).where != where) i++;
    return model_tensor(c, i);
}

static int gpt2_int(const Json *j, const char *path, const char *key, int32_t *out, Err *e) {
    uint32_t at = json_get(j, 0, key);
    size_t n;
    if (!at) return err_set(e, "%s: no \"%s\", want a whole number", path, key);
    if (!whole(&j->node[at], &n) || n < 1 || n > INT32_MAX)
        return err_set(e, "%s:%lu: %s = %.40s, want 1..%ld", path, (unsigned long)j->node[at].line, key,
                       number_text(&j->node[at]), (long)INT32_MAX);
    *out = (int32_t)n;
    return 0;
}

// A member that must be one of two words (b NULL: must be a). It need not be there.
static int gpt2_word(const Json *j, const char *path, const char *key, const char *a, const char *b, Err *e) {
    static const char *const KIND[] = {"null", "false", "true", "number", "text", "array", "object"};
    const JsonNode *v = &j->node[json_get(j, 0, key)];
    const char *is = v->kind == JSON_STRING ? v->text : KIND[v->kind];
    if (v == j->node || strcmp(is, a) == 0 || (b && strcmp(is, b) == 0)) return 0;
    return err_set(e, "%s:%lu: %s = %.40s, want %s%s%s", path, (unsigned long)v->line, key, is, a,
                   b ? " or " : "", b ? b : "");
}

// What config.json says, or transformers' default where it says nothing.
static int gpt2_config(Config *c, const Json *j, const char *path, Err *e) {
    const JsonNode *v = j->node;
    if (v[0].kind != JSON_OBJECT) return err_set(e, "%s: want a JSON object", path);
    // TRAP: "gelu" is the erf form; GPT-2's is the tanh form, and they differ by up to 4.7e-4.
    if (gpt2_word(j, path, "model_type", "gpt2", NULL, e) ||
        gpt2_word(j, path, "activation_function", "gelu_new", "gelu_pytorch_tanh", e) ||
        gpt2_word(j, path, "scale_attn_weights", "true", NULL, e) ||
        gpt2_word(j, path, "scale_attn_by_inverse_layer_idx", "false", NULL, e) ||
        gpt2_word(j, path, "add_cross_attention", "false", NULL, e) ||
        gpt2_word(j, path, "tie_word_embeddings", "true", "false", e) ||
        gpt2_int(j, path, "vocab_size", &c->vocab, e) || gpt2_int(j, path, "n_positions", &c->context, e) ||
        gpt2_int(j, path, "n_layer", &c->layers, e) || gpt2_int(j, path, "n_head", &c->heads, e) ||
        gpt2_int(j, path, "n_embd", &c->width, e)) return -1;
    uint32_t inner = json_get(j, 0, "n_inner"), eps = json_get(j, 0, "layer_norm_epsilon");
    uint32_t tie = json_get(j, 0, "tie_word_embeddings");
    c->hidden = c->width <= INT32_MAX / 4 ? 4 * c->width : INT32_MAX;
    if (inner && v[inner].kind != JSON_NULL && gpt2_int(j, path, "n_inner", &c->hidden, e)) return -1;
    if (c->width % c->heads)
        return err_set(e, "%s: n_embd = %ld, want a multiple of n_head, %ld", path, (long)c->width,
                       (long)c->heads);
    if (eps && v[eps].kind != JSON_NUMBER)
        return err_set(e, "%s:%lu: layer_norm_epsilon, want a number", path, (unsigned long)v[eps].line);
    c->norm_eps = eps ? (float)v[eps].number : 1e-5f;
    c->kv_heads = c->heads;
    c->head_size = c->width / c->heads;
    c->bias = 1;
    c->tied = !tie || v[tie].kind == JSON_TRUE;
    Fault f;
    return model_check(c, &f) ? err_fault(e, path, &f) : 0;
}

// Finds the file's tensors in the table: piece[row * layers + layer]. What is unknown or twice is refused.
static int gpt2_match(Piece *piece, const Config *c, const Safetensors *s, Err *e) {
    const JsonNode *v = s->json.node;
    size_t layers = (size_t)c->layers;
    uint64_t sum = 0;                             // of all tensors' bytes: they fill the file
    for (uint32_t i = 0, at = 1; i < v[0].count; i++) {
        uint32_t node = at + 1;                   // at: the name, a single node; node: what belongs to it
        const char *name = v[at].text, *bare = strncmp(name, "transformer.", 12) == 0 ? name + 12 : name;
        size_t layer = 0, row = 0;
        at = v[node].next;
        if (strcmp(name, "__metadata__") == 0) continue;
        if (v[node].kind != JSON_OBJECT) return err_set(e, "%s: tensor %.80s: want an object", s->path, name);
        while (row < GPT2_ROWS && !name_match(GPT2[row].name, bare, layers, &layer)) row++;
        if (row == GPT2_ROWS)
            return err_set(e, "%s: tensor %.80s: want names of a GPT-2 of %zu layers", s->path, name, layers);
        Piece *p = &piece[row * layers + layer];
        if (p->data) return err_set(e, "%s: tensor %.80s is there twice", s->path, name);
        if (safetensors_place(p, s, node, name, e)) return -1;
        sum += p->bytes;
        if (GPT2[row].where == IGNORED) continue;
        Tensor t = tensor_at(c, GPT2[row].where);
        size_t want[3] = {t.dim[t.stacked], t.dim[1 + t.stacked], t.stacked ? 1 : t.dim[2]};
        if (safetensors_check(p, s, node, name, want, e)) return -1;
    }
    if (sum == s->bytes) return 0;
    return err_set(e, "%s: tensors of %.0f bytes, want %zu, as the data", s->path, (double)sum, s->bytes);
}

// Is a row of the table complete? What is missing is an error, except that with zero_bias a bias that no
// layer has is zero. Some models are trained without; in others' files it was lost: only the user can tell.
static int gpt2_complete(Import *m, size_t row, const Piece *piece, bool zero_bias, const char *path,
                         Err *e) {
    Tensor t = tensor_at(&m->cfg, GPT2[row].where);
    size_t layers = t.stacked ? t.dim[0] : 1, missing = 0, first = 0;
    for (size_t l = layers; l-- > 0;) {
        if (piece[l].data) continue;
        missing++;
        first = l;
    }
    bool all = missing == layers && GPT2[row].bias;
    if (missing == 0) return 0;
    if (!all || !zero_bias)
        return err_set(e, "%s: tensor %s is missing in layer %zu%s", path, GPT2[row].name, first,
                       all ? " and all others\nhint: --zero-bias, if the model was trained without it" : "");
    lineage_add(m, "zero ", GPT2[row].name);
    return 0;
}

// A tied model may carry its head all the same, as a copy of wte.
static int gpt2_tied(const Piece *wte, const Piece *head, const char *path, Err *e) {
    if (!head->data || (head->as == wte->as && memcmp(head->data, wte->data, wte->bytes) == 0)) return 0;
    return err_set(e, "%s: lm_head.weight, want a copy of wte.weight, as tie_word_embeddings says", path);
}

// All pieces into memory. Nothing is allocated before all are there: so a small file cannot ask for much.
static int gpt2_weights(Import *m, const Piece *piece, bool zero_bias, const char *path, Err *e) {
    size_t layers = (size_t)m->cfg.layers;
    for (size_t row = 0; row < GPT2_ROWS; row++) {
        const Piece *p = piece + row * layers;
        if (GPT2[row].where == IGNORED) continue;
        if (GPT2[row].where == offsetof(Params, head) && m->cfg.tied) {
            if (gpt2_tied(piece, p, path, e)) return -1;
        } else if (gpt2_complete(m, row, p, zero_bias, path, e)) return -1;
    }
    if (!(m->weights = weights_alloc(&m->w, &m->cfg, e))) return -1;
    for (size_t row = 0; row < GPT2_ROWS; row++) {
        if (GPT2[row].where == IGNORED) continue;
        Tensor t = tensor_at(&m->cfg, GPT2[row].where);
        size_t of = t.stacked ? layers : 1, size = t.size / of;
        for (size_t l = 0; l < of; l++) {
            const Piece *p = &piece[row * layers + l];
            if (p->data) floats_read(tensor_data(&m->w, &t) + l * size, p->data, size, p->as);
        }
    }
    return weights_check(m, path, e);
}

static int path_join(char out[4096], const char *folder, const char *name, Err *e) {
    size_t n = strlen(folder);
    int len = snprintf(out, 4096, "%s%s%s", folder, n && folder[n - 1] == '/' ? "" : "/", name);
    return len > 0 && len < 4096 ? 0 : err_set(e, "%.80s...: path longer than 4095 bytes", folder);
}

static int gpt2_read(Import *m, const char *folder, bool zero_bias, Err *e) {
    uint8_t *config = NULL, *file = NULL;
    size_t config_bytes, bytes;
    Json j = {0};
    Safetensors s = {0};
    Piece *piece = NULL;
    char path[4096];
    int rc = -1;
    lineage_add(m, "convert tune.c " TUNE_VERSION ", ", "GPT-2 of Hugging Face");
    if (path_join(path, folder, "config.json", e)) goto out;
    if (source_read(m, path, "config sha256 ", CONFIG_MAX, &config, &config_bytes, e)) goto out;
    if (json_parse(&j, path, 1, config, config_bytes, e) || gpt2_config(&m->cfg, &j, path, e)) goto out;
    if (path_join(path, folder, "model.safetensors", e)) goto out;
    if (source_read(m, path, "model sha256 ", MODEL_MAX, &file, &bytes, e)) goto out;
    if (safetensors_open(&s, path, file, bytes, e)) goto out;
    piece = calloc(GPT2_ROWS * (size_t)m->cfg.layers, sizeof *piece);
    if (!piece) { err_set(e, "out of memory"); goto out; }
    if (gpt2_match(piece, &m->cfg, &s, e) || gpt2_weights(m, piece, zero_bias, path, e)) goto out;
    rc = 0;
out:
    json_free(&j);
    json_free(&s.json);
    free(config);
    free(file);
    free(piece);
    return rc;
}

// ---- llama2.c ---------------------------------------------------------------------------------------------
//     0    7 x 4  i32: dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size (negative: untied), seq_len
//    28           f32: the tensors in the order in which llama2_weights reads them; matrices are (L, out, in)
// No magic number: that the sizes imply the file's length is the check.

// Layers of a matrix (out, in) become the columns column .. column+out of ours, (in, columns). With head > 0,
// each head of so many columns is put in another order for the rotary positions:
// TRAP: llama2.c rotates the neighbours 2i and 2i+1, model.c rotates i and i+HS/2, as Hugging Face does.
// The same permutation in q and k leaves every score q.k as it is.
// Returns what follows in the file.
static const uint8_t *transpose_read(float *to, const uint8_t *from, size_t layers, size_t in, size_t out,
                                     size_t column, size_t columns, size_t head) {
    for (size_t l = 0; l < layers; l++, to += in * columns) {
        for (size_t o = 0; o < out; o++, from += 4 * in) {
            size_t j = head ? o % head : 0, at = head ? o - j + j / 2 + j % 2 * (head / 2) : o;
            for (size_t i = 0; i < in; i++) to[i * columns + column + at] = f32_of(u32_at(from + 4 * i));
        }
    }
    return from;
}

static const uint8_t *plain_read(float *to, const uint8_t *from, size_t n) {
    floats_read(to, from, n, F32);
    return from + 4 * n;
}

// The order of llama2.c's memory_map_weights. Returns the end.
static const uint8_t *llama2_weights(const Params *w, const Config *c, const uint8_t *at) {
    size_t V = (size_t)c->vocab, P = (size_t)c->context, L = (size_t)c->layers, C = (size_t)c->width;
    size_t HS = (size_t)c->head_size, F = (size_t)c->hidden;
    size_t A = (size_t)c->heads * HS, KV = (size_t)c->kv_heads * HS, Q = A + 2 * KV;
    at = plain_read(w->wte, at, V * C);
    at = plain_read(w->ln1w, at, L * C);
    at = transpose_read(w->qkvw, at, L, C, A, 0, Q, HS);                    // wq
    at = transpose_read(w->qkvw, at, L, C, KV, A, Q, HS);                   // wk
    at = transpose_read(w->qkvw, at, L, C, KV, A + KV, Q, 0);               // wv
    at = transpose_read(w->projw, at, L, A, C, 0, C, 0);                    // wo
    at = plain_read(w->ln2w, at, L * C);
    at = transpose_read(w->fc1w, at, L, C, F, 0, 2 * F, 0);                 // w1, the gate
    at = transpose_read(w->fc2w, at, L, F, C, 0, C, 0);                     // w2
    at = transpose_read(w->fc1w, at, L, C, F, F, 2 * F, 0);                 // w3, up
    at = plain_read(w->lnfw, at, C);
    at += 4 * P * HS;                                                       // tables of cos and sin
    return c->tied ? at : plain_read(w->head, at, V * C);
}

static int llama2_config(Config *c, const char *path, const uint8_t *file, size_t n, Err *e) {
    if (n < 28) return err_set(e, "%s: %zu bytes, want a llama2.c header of 28", path, n);
    int32_t vocab = (int32_t)u32_at(file + 20);
    c->width = (int32_t)u32_at(file);
    c->hidden = (int32_t)u32_at(file + 4);
    c->layers = (int32_t)u32_at(file + 8);
    c->heads = (int32_t)u32_at(file + 12);
    c->kv_heads = (int32_t)u32_at(file + 16);
    c->vocab = vocab < -INT32_MAX ? INT32_MAX : vocab < 0 ? -vocab : vocab;
    c->context = (int32_t)u32_at(file + 24);
    c->rms = c->rope = c->swiglu = 1;
    c->tied = vocab > 0;
    c->norm_eps = 1e-5f;
    c->rope_theta = 10000.0f;
    c->head_size = c->heads > 0 ? c->width / c->heads : 0;
    Fault f;
    if (model_check(c, &f))
        return err_set(e, "%s: as a llama2.c version 0 .bin: %s = %.0f, want %.0f..%.0f", path, f.what,
                       (double)f.value, (double)f.lo, (double)f.hi);
    if (c->width % c->heads)
        return err_set(e, "%s: byte 0: dim = %ld, want a multiple of n_heads = %ld", path, (long)c->width,
                       (long)c->heads);
    size_t floats = model_params(c), tables = (size_t)c->context * (size_t)c->head_size;
    if (tables > SIZE_MAX / 8 || floats > SIZE_MAX / 8 - tables || n - 28 != 4 * (floats + tables))
        return err_set(e, "%s: %zu bytes, want 28 for the header and %.0f for its weights", path, n,
                       4.0 * ((double)floats + (double)tables));
    return 0;
}

static int llama2_read(Import *m, const char *path, Err *e) {
    uint8_t *file = NULL;
    size_t n;
    int rc = -1;
    lineage_add(m, "convert tune.c " TUNE_VERSION ", ", "llama2.c version 0");
    if (source_read(m, path, "model sha256 ", MODEL_MAX, &file, &n, e)) goto out;
    if (llama2_config(&m->cfg, path, file, n, e)) goto out;
    if (!(m->weights = weights_alloc(&m->w, &m->cfg, e))) goto out;
    const uint8_t *end = llama2_weights(&m->w, &m->cfg, file + 28);
    assert(end == file + n);                      // llama2_config compared the sizes
    (void)end;
    rc = weights_check(m, path, e);
out:
    free(file);
    return rc;
}

// ---- llama2.c's tokenizer ---------------------------------------------------------------------------------
//     0    4      u32: bytes of the longest token
//     4           for each token: f32 score, i32 bytes, the bytes
// Ids 0, 1, 2 are <unk>, <s>, </s>; 3..258 are the single bytes, spelt <0x00>..<0xFF>; then the pieces.
enum { LLAMA_UNK, LLAMA_BOS, LLAMA_EOS, LLAMA_BYTES, LLAMA_PIECES = LLAMA_BYTES + 256 };

// Reads token id, which begins at *at, into the arrays of m.
static int token_read(Import *m, uint32_t id, float *score, const uint8_t *file, size_t n, size_t *at,
                      const char *path, Err *e) {
    size_t most = u32_at(file), where = *at;
    unsigned long number = id;
    if (n - where < 8) return err_set(e, "%s: byte %zu: the file ends in token %lu", path, where, number);
    *score = f32_of(u32_at(file + where));
    size_t len = u32_at(file + where + 4);
    const uint8_t *text = file + where + 8;
    if (!isfinite(*score))
        return err_set(e, "%s: byte %zu: score of token %lu, want a finite number", path, where, number);
    if (len < 1 || len > most || len > n - where - 8)
        return err_set(e, "%s: byte %zu: token %lu of %ld bytes, want 1..%zu in the file", path, where + 4,
                       number, (long)(int32_t)len, most);
    *at = where + 8 + len;

    uint8_t byte = (uint8_t)((id - LLAMA_BYTES) & 255);
    char spelt[8];
    snprintf(spelt, sizeof spelt, "<0x%02X>", (unsigned)byte);
    m->flag[id] = id < LLAMA_BYTES ? TOKEN_SPECIAL : id < LLAMA_PIECES ? TOKEN_BYTE : TOKEN_NORMAL;
    if (m->flag[id] == TOKEN_BYTE) {
        if (len != 6 || memcmp(text, spelt, 6) != 0)
            return err_set(e, "%s: byte %zu: token %lu, want %s", path, where + 8, number, spelt);
        text = &byte;
        len = 1;
    }
    if (m->flag[id] == TOKEN_SPECIAL) {           // for display, export.py puts <s> and </s> between newlines
        while (len > 1 && *text == '\n') text++, len--;
        while (len > 1 && text[len - 1] == '\n') len--;
    }
    memcpy(m->bytes + m->start[id], text, len);
    m->start[id + 1] = m->start[id] + (uint32_t)len;
    return 0;
}

typedef struct { const uint8_t *s; size_t n; int32_t id; } Word;
static int word_order(const void *a, const void *b) {
    const Word *x = a, *y = b;
    int order = memcmp(x->s, y->s, x->n < y->n ? x->n : y->n);
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

// llama2.c merges the pair whose result has the highest score, of equals the leftmost: that is rank 0, and
// equal scores share a rank.
typedef struct { Merge merge; float score; } Scored;
static int scored_order(const void *a, const void *b) {
    const Scored *x = a, *y = b;
    if (x->score > y->score || x->score < y->score) return x->score > y->score ? -1 : 1;
    if (x->merge.result != y->merge.result) return x->merge.result < y->merge.result ? -1 : 1;
    return (x->merge.left > y->merge.left) - (x->merge.left < y->merge.left);
}

// All ways to put a piece together from two others; word (n): the pieces, sorted. out may be NULL. How many?
static size_t merges_find(const Word *word, size_t n, const float *score, Scored *out) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 1; k < word[i].n; k++) {
            Word a = {word[i].s, k, 0}, b = {word[i].s + k, word[i].n - k, 0};
            const Word *left = bsearch(&a, word, n, sizeof a, word_order);
            const Word *right = left ? bsearch(&b, word, n, sizeof b, word_order) : NULL;
            if (!right) continue;
            if (out) out[count] = (Scored){{left->id, right->id, word[i].id, 0}, score[word[i].id]};
            count++;
        }
    }
    return count;
}

static int merges_make(Import *m, const float *score, const char *path, Err *e) {
    size_t pieces = m->tok.vocab - LLAMA_PIECES, n = 0;
    Scored *scored = NULL;
    Word *word = calloc(pieces + 1, sizeof *word);
    int rc = -1;
    if (!word) goto memory;
    for (uint32_t i = 0; i < pieces; i++) {
        const uint32_t *start = m->start + LLAMA_PIECES + i;
        word[i] = (Word){m->bytes + start[0], start[1] - start[0], (int32_t)(LLAMA_PIECES + i)};
    }
    qsort(word, pieces, sizeof *word, word_order);
    for (size_t i = 1; i < pieces; i++) {
        if (word_order(&word[i - 1], &word[i]) != 0) continue;
        err_set(e, "%s: tokens %ld and %ld are the same, want each once", path, (long)word[i - 1].id,
                (long)word[i].id);
        goto out;
    }
    n = merges_find(word, pieces, score, NULL);
    m->merge = calloc(n + 1, sizeof *m->merge);
    scored = calloc(n + 1, sizeof *scored);
    if (!m->merge || !scored) goto memory;
    merges_find(word, pieces, score, scored);
    qsort(scored, n, sizeof *scored, scored_order);
    for (size_t i = 0; i < n; i++) {
        m->merge[i] = scored[i].merge;
        if (i > 0) m->merge[i].rank = m->merge[i - 1].rank + (scored[i].score < scored[i - 1].score);
    }
    m->tok.merges = (uint32_t)n;
    m->tok.merge = m->merge;
    rc = 0;
memory:
    if (rc) err_set(e, "%s: out of memory", path);
out:
    free(word);
    free(scored);
    return rc;
}

static int tokenizer_read(Import *m, const char *path, Err *e) {
    uint8_t *file = NULL;
    float *score = NULL;
    size_t n, at = 4, vocab = (size_t)m->cfg.vocab;
    int rc = -1;
    if (source_read(m, path, "vocab sha256 ", TOKENIZER_MAX, &file, &n, e)) goto out;
    if (n < 4 || u32_at(file) < 6 || u32_at(file) > TOKEN_MAX) {
        err_set(e, "%s: byte 0: longest token of %lu bytes, want 6..%d", path,
                n < 4 ? 0 : (unsigned long)u32_at(file), TOKEN_MAX);
        goto out;
    }
    if (vocab < LLAMA_PIECES || vocab > n / 9) {  // 9: bytes of the smallest token
        err_set(e, "%s: %zu bytes, want the model's %zu tokens, %d or more", path, n, vocab, LLAMA_PIECES);
        goto out;
    }
    m->bytes = malloc(n);
    m->flag = malloc(vocab);
    m->start = calloc(vocab + 1, sizeof *m->start);
    score = calloc(vocab, sizeof *score);
    if (!m->bytes || !m->flag || !m->start || !score) { err_set(e, "%s: out of memory", path); goto out; }
    for (uint32_t i = 0; i < vocab; i++)
        if (token_read(m, i, &score[i], file, n, &at, path, e)) goto out;
    if (at != n) {
        err_set(e, "%s: %zu bytes after the model's %zu tokens, want none", path, n - at, vocab);
        goto out;
    }

    // llama2.c stops at <s>, which stands between the stories it learned from; </s> does not occur in them.
    // So <s> is end-of-text too.
    m->tok = (Tokenizer){.kind = TOK_SCORED, .vocab = (uint32_t)vocab, .eot = LLAMA_BOS, .bos = LLAMA_BOS,
                         .add_space = true, .bytes = m->bytes, .start = m->start, .flag = m->flag};
    rc = merges_make(m, score, path, e);
out:
    free(file);
    free(score);
    return rc;
}

// ---- one file to another ----------------------------------------------------------------------------------

static bool is_folder(const char *path) {
    char config[4096];
    Err ignored;
    size_t n = strlen(path);
    if (n > 0 && path[n - 1] == '/') return true;
    if (path_join(config, path, "config.json", &ignored)) return false;
    FILE *f = fopen(config, "rb");
    if (f) fclose(f);
    return f != NULL;
}

static int convert(Import *m, const char *in, const char *out, const char *tokenizer, Dtype dtype,
                   bool zero_bias, Err *e) {
    bool folder = is_folder(in);
    Fault f;
    if (strcmp(in, out) == 0) return err_set(e, "%s: IN and OUT are the same file", out);
    if (folder && tokenizer) return err_set(e, "%s: is a folder, but --tokenizer is for a llama2.c file", in);
    m->tok.eot = m->tok.bos = -1;
    if (folder ? gpt2_read(m, in, zero_bias, e) : llama2_read(m, in, e)) return -1;
    if (tokenizer && tokenizer_read(m, tokenizer, e)) return -1;
    m->index = block_alloc(tokenizer_index_size(m->tok.vocab, m->tok.merges), e);
    if (!m->index) return -1;
    if (tokenizer_index(&m->tok, m->index, &f)) return err_fault(e, tokenizer ? tokenizer : in, &f);
    if (checkpoint_save(out, &m->cfg, &m->tok, "", m->lineage, dtype, &m->w, e)) return -1;
    if (m->tok.kind == TOK_NONE)
        fprintf(stderr, "note: %s has no tokenizer: %s\n", out,
                folder ? "none is read from a folder yet" : "none was named with --tokenizer");
    return 0;
}

// ---- --info -----------------------------------------------------------------------------------------------

// Text from a file, indented, at 80 columns. Lines are broken at spaces; control characters, which a terminal
// might obey, are shown as '?'.
static void print_text(const char *text, int indent) {
    size_t width = (size_t)(80 - indent);
    printf("%*s", indent, "");
    for (size_t column = 0; *text; text++) {
        size_t word = strcspn(text + 1, " \n");
        bool wrap = *text == ' ' && column + 1 + word > width && word < width;
        if (*text == '\n' && !text[1]) break;
        if (*text == '\n' || wrap || column == width) {
            printf("\n%*s", indent, "");
            column = 0;
            if (*text == '\n' || wrap) continue;
        }
        putchar((unsigned char)*text < 32 || *text == 127 ? '?' : *text);
        column += ((unsigned char)*text & 0xC0) != 0x80;          // a character's first byte
    }
    putchar('\n');
}

static void print_config(const Config *c) {
    printf("architecture  %s, %s, %s, %s head%s%s\n             ", c->rms ? "RMSNorm" : "LayerNorm",
           c->rope ? "rotary positions" : "learned positions", c->swiglu ? "SwiGLU" : "GELU",
           c->tied ? "tied" : "untied", c->bias ? ", biases" : c->qkv_bias ? ", biases on q, k, v" : "",
           c->qk_norm ? ", q and k normed" : "");
    for (int i = 0; i < CONFIG_INTS; i++) {
        int32_t v;
        memcpy(&v, (const char *)c + CONFIG_FIELD[i].where, sizeof v);
        if (CONFIG_FIELD[i].where < offsetof(Config, rms)) printf(" %s=%ld", CONFIG_FIELD[i].name, (long)v);
        if (CONFIG_FIELD[i].where == offsetof(Config, head_size)) printf("\n             ");
    }
    printf(" norm_eps=%g", (double)c->norm_eps);
    if (c->rope) printf(" rope_theta=%g", (double)c->rope_theta);
    if (c->rope && c->rope_context)
        printf("\n              rope_context=%ld rope_factor=%g rope_low=%g rope_high=%g",
               (long)c->rope_context, (double)c->rope_factor, (double)c->rope_low, (double)c->rope_high);
    putchar('\n');
}

static long file_bytes(const char *path) {        // -1: unknown
    FILE *f = fopen(path, "rb");
    long bytes = f && fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    if (f) fclose(f);
    return bytes;
}

static int info(const char *path, Err *e) {
    static const char *const KIND[] = {"none", "GPT-2 byte-level BPE", "scored BPE with byte fallback"};
    Checkpoint k;
    char hex[65];
    if (checkpoint_open(&k, path, NULL, e)) return -1;
    int rc = sha256_file(path, hex, e);
    size_t params = model_params(&k.cfg);
    if (!rc) {
        printf("file          %s, %ld bytes\nsha256        %s\n", path, file_bytes(path), hex);
        print_config(&k.cfg);
        printf("parameters    %zu (%.1f M), %s\n", params, (double)params * 1e-6, DTYPE_NAME[k.dtype]);
        printf("tokenizer     %s, %lu tokens, %lu merges\n", KIND[k.tok.kind], (unsigned long)k.tok.vocab,
               (unsigned long)k.tok.merges);
        printf("              end-of-text %ld, begin-of-text %ld\n", (long)k.tok.eot, (long)k.tok.bos);
        printf("template%s\n", *k.template ? "" : "      none");
        if (*k.template) print_text(k.template, 4);
        printf("lineage%s\n", *k.lineage ? "" : "       none");
        if (*k.lineage) print_text(k.lineage, 0);
    }
    checkpoint_close(&k);
    return rc;
}

// ---- --diff -----------------------------------------------------------------------------------------------

// Prints ||a-b|| / ||b|| and the largest |a-b| of n floats, or that all bits are equal: then it returns true.
static bool diff_tensor(const char *name, const float *a, const float *b, size_t n) {
    if (memcmp(a, b, n * sizeof *a) == 0) {
        printf("%-6s %12zu  equal bits\n", name, n);
        return true;
    }
    double apart = 0, norm = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        apart += d * d;
        norm += (double)b[i] * (double)b[i];
        if (!(d <= largest) && !isnan(largest)) largest = d;      // NaN stays
    }
    printf("%-6s %12zu  %-12.6g  %.6g\n", name, n, sqrt(apart / norm), largest);
    return false;
}

static int diff(const char *path_a, const char *path_b, Err *e) {
    Checkpoint a = {0}, b = {0};
    Params wa, wb;
    float *block_a = NULL, *block_b = NULL;
    int rc = -1, tensors = 0, equal = 0;
    if (checkpoint_open(&a, path_a, NULL, e) || checkpoint_open(&b, path_b, NULL, e)) goto out;
    if (!(block_a = weights_alloc(&wa, &a.cfg, e)) || checkpoint_read(&a, &wa, NULL, e)) goto out;
    if (!(block_b = weights_alloc(&wb, &b.cfg, e)) || checkpoint_read(&b, &wb, NULL, e)) goto out;
    printf("%-6s %12s  %-12s  %s\n", "tensor", "floats", "|a-b|/|b|", "max |a-b|");
    for (int i = 0; i < TENSORS; i++) {
        Tensor ta = model_tensor(&a.cfg, i), tb = model_tensor(&b.cfg, i);
        if (ta.size == 0 && tb.size == 0) continue;
        tensors++;
        if (ta.size == 0 || tb.size == 0 || memcmp(ta.dim, tb.dim, sizeof ta.dim) != 0)
            printf("%-6s %12zu  %s\n", ta.name, ta.size, ta.size && tb.size ? "B has another shape" :
                   ta.size ? "not in B" : "not in A");
        else
            equal += diff_tensor(ta.name, tensor_data(&wa, &ta), tensor_data(&wb, &tb), ta.size);
    }
    printf("%d of %d tensors equal\n", equal, tensors);
    rc = 0;
out:
    block_free(block_a);
    block_free(block_b);
    checkpoint_close(&a);
    checkpoint_close(&b);
    return rc;
}

// ---- main -------------------------------------------------------------------------------------------------

int main(int argc, char **argv) {
    bool show_info = false, show_diff = false, zero_bias = false, help = false, version = false;
    const char *tokenizer = NULL, *dtype_name = "f32", *word[2];
    int words = 0, rc = -1;
    Option option[] = {
        {.help = "Converting"},
        {"--tokenizer", OPT_TEXT, &tokenizer, 0, 0, "FILE", "llama2.c's tokenizer .bin", false},
        {"--dtype", OPT_TEXT, &dtype_name, 0, 0, "TYPE", "store weights as f32 or bf16", false},
        {"--zero-bias", OPT_FLAG, &zero_bias, 0, 0, NULL,
         "a bias that IN has in no layer is zero; otherwise it is an error", false},
        {.help = "Looking"},
        {"--info", OPT_FLAG, &show_info, 0, 0, NULL, "show what a checkpoint is", false},
        {"--diff", OPT_FLAG, &show_diff, 0, 0, NULL, "compare two checkpoints tensor by tensor", false},
        FLAG("--help", &help, "print this"),
        FLAG("--version", &version, "print the version"),
    };
    enum { OPTIONS = sizeof option / sizeof option[0] };
    Err e = {""};
    if (options_parse(option, OPTIONS, argc, argv, word, 2, &words, &e)) goto out;
    if (version) { printf("tune.c %s\n", TUNE_VERSION); rc = 0; goto out; }
    if (help) {
        printf("usage: convert IN OUT.bin [options]   a checkpoint of another program's model\n"
               "       convert --info FILE.bin        architecture, tokenizer, template, lineage\n"
               "       convert --diff A.bin B.bin     tensor by tensor: equal, or how far apart\n\n"
               "IN is a folder with config.json and model.safetensors of a GPT-2 (Hugging Face),\n"
               "or a llama2.c version 0 .bin, whose tokenizer is named with --tokenizer.\n\n");
        options_print(option, OPTIONS);
        rc = 0;
        goto out;
    }
    Dtype dtype = DTYPE_F32;
    while (dtype < DTYPES && strcmp(dtype_name, DTYPE_NAME[dtype]) != 0) dtype++;
    if (dtype == DTYPES) err_set(&e, "--dtype = %.40s, want f32 or bf16", dtype_name);
    else if (show_info && show_diff) err_set(&e, "--info and --diff: want one of them");
    else if (words != (show_info ? 1 : 2))
        err_set(&e, "%d file names, want %s\nhint: convert --help", words,
                show_info ? "FILE.bin" : show_diff ? "A.bin B.bin" : "IN OUT.bin");
    else if (show_info) rc = info(word[0], &e);
    else if (show_diff) rc = diff(word[0], word[1], &e);
    else {
        Import m = {0};
        rc = convert(&m, word[0], word[1], tokenizer, dtype, zero_bias, &e);
        import_free(&m);
    }
out:
    if (rc == 0 && fflush(stdout) != 0) rc = err_set(&e, "standard output cannot be written");
    if (rc) fprintf(stderr, "convert: %s\n", e.msg);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

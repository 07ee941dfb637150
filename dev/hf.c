// hf.c -- folders of Hugging Face transformers, in and out: config.json, generation_config.json, safetensors.
// The tokenizer is hf_tokenizer.c's.
//
// Read in this order: JSON with checks -> config_read -> Entry, what a safetensors header says of a tensor ->
// shard_match, which finds each in NAMED -> shard_read, which streams them into place -> hf_read -> the same
// outwards.
// Input files are hostile. Headers are read and compared with the model first; memory for the weights is
// asked for only when all tensors are known to be there in full: a small folder cannot ask for much.
#define _POSIX_C_SOURCE 200809L       // lstat, mkdir, rename of a folder
#include "hf.h"
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SHARDS_MAX = 256, SHARD_NAME = 255 };          // files of one model; bytes of a name
enum { HEADER_MAX = 1 << 24 };        // bytes of safetensors' JSON; GPT-2 XL's has 60 KB

// ---- JSON with checks -------------------------------------------------------------------------------------
int folder_path(char path[4096], const char *folder, const char *name, Err *e) {
    size_t n = strlen(folder);
    int len = snprintf(path, 4096, "%s%s%s", folder, n && folder[n - 1] == '/' ? "" : "/", name);
    return len > 0 && len < 4096 ? 0 : err_set(e, "%.80s...: path longer than 4095 bytes", folder);
}

// A pipe would keep the program waiting: it is no file of a folder.
static bool is_file(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool folder_has(const char *folder, const char *name) {
    char path[4096];
    Err ignored = {""};
    return folder_path(path, folder, name, &ignored) == 0 && is_file(path);
}

int doc_open(Doc *d, Import *m, const char *folder, const char *name, const char *what, Err *e) {
    uint8_t *data = NULL;
    int rc = -1;
    if (folder_path(d->path, folder, name, e)) return -1;
    if (!is_file(d->path)) return err_set(e, "%s: no such file", d->path);
    if (import_read(m, d->path, what, JSON_MAX, &data, &d->bytes, e)) goto out;
    if (json_parse(&d->j, d->path, 1, data, d->bytes, e)) goto out;
    rc = d->j.node[0].kind == JSON_OBJECT ? 0 : err_set(e, "%s: want a JSON object", d->path);
out:
    free(data);
    return rc;
}

void doc_close(Doc *d) { json_free(&d->j); }

const JsonNode *doc_get(const Doc *d, uint32_t object, const char *key) {
    uint32_t at = d->j.node ? json_get(&d->j, object, key) : 0;
    return at && d->j.node[at].kind != JSON_NULL ? &d->j.node[at] : NULL;
}

uint32_t doc_index(const Doc *d, const JsonNode *v) { return (uint32_t)(v - d->j.node); }

bool doc_is(const Doc *d, uint32_t object, const char *key, const char *text) {
    const JsonNode *v = doc_get(d, object, key);
    return v && v->kind == JSON_STRING && v->len == strlen(text) && memcmp(v->text, text, v->len) == 0;
}

bool json_whole(const JsonNode *v, uint64_t *out) {
    if (v->kind != JSON_NUMBER || !(v->number >= 0 && v->number <= 0x1p53) || floor(v->number) < v->number)
        return false;
    *out = (uint64_t)v->number;
    return true;
}

const char *json_shown(const JsonNode *v) {
    static const char *const KIND[] = {"null", "false", "true", "a number", "text", "an array", "an object"};
    return v->kind == JSON_STRING || v->kind == JSON_NUMBER ? v->text : KIND[v->kind];
}

int doc_int(const Doc *d, uint32_t object, const char *key, int64_t lo, int64_t hi, int64_t if_absent,
            int64_t *out, Err *e) {
    const JsonNode *v = doc_get(d, object, key);
    uint64_t n;
    *out = if_absent;
    if (!v && if_absent < lo) return err_set(e, "%s: no \"%s\", want a whole number", d->path, key);
    if (!v) return 0;
    if (!json_whole(v, &n) || (int64_t)n < lo || (int64_t)n > hi)
        return err_set(e, "%s:%lu: %s = %.40s, want %.0f..%.0f", d->path, (unsigned long)v->line, key,
                       json_shown(v), (double)lo, (double)hi);
    *out = (int64_t)n;
    return 0;
}

int doc_real(const Doc *d, uint32_t object, const char *key, float if_absent, float *out, Err *e) {
    const JsonNode *v = doc_get(d, object, key);
    *out = if_absent;
    if (!v) return 0;
    if (v->kind != JSON_NUMBER || !(fabs(v->number) <= 1e30))
        return err_set(e, "%s:%lu: %s = %.40s, want a number", d->path, (unsigned long)v->line, key,
                       json_shown(v));
    *out = (float)v->number;
    return 0;
}

int doc_flag(const Doc *d, uint32_t object, const char *key, bool if_absent, bool *out, Err *e) {
    const JsonNode *v = doc_get(d, object, key);
    *out = v ? v->kind == JSON_TRUE : if_absent;
    if (!v || v->kind == JSON_TRUE || v->kind == JSON_FALSE) return 0;
    return err_set(e, "%s:%lu: %s = %.40s, want true or false", d->path, (unsigned long)v->line, key,
                   json_shown(v));
}

int doc_want(const Doc *d, uint32_t object, const char *key, const char *want, Err *e) {
    const JsonNode *v = doc_get(d, object, key);
    if (!v || strcmp(json_shown(v), want) == 0) return 0;
    return err_set(e, "%s:%lu: %s = %.80s, want %s", d->path, (unsigned long)v->line, key, json_shown(v),
                   want);
}

// ---- configuration ----------------------------------------------------------------------------------------
// Every member that changes what is computed is read, or must have the one value that model.c computes.

static int field(const Doc *d, const char *key, int64_t if_absent, int32_t *out, Err *e) {
    int64_t n;
    if (doc_int(d, 0, key, 1, INT32_MAX, if_absent, &n, e)) return -1;
    *out = (int32_t)n;
    return 0;
}

static int config_gpt2(Config *c, const Doc *d, Err *e) {
    bool tied;
    // TRAP: "gelu" is the erf form; GPT-2's is the tanh form, and they differ by up to 4.7e-4.
    if (!doc_is(d, 0, "activation_function", "gelu_pytorch_tanh") &&
        doc_want(d, 0, "activation_function", "gelu_new", e)) return -1;
    if (doc_want(d, 0, "scale_attn_weights", "true", e) ||
        doc_want(d, 0, "scale_attn_by_inverse_layer_idx", "false", e) ||
        doc_want(d, 0, "add_cross_attention", "false", e) ||
        doc_flag(d, 0, "tie_word_embeddings", true, &tied, e) ||
        field(d, "n_positions", 0, &c->context, e) || field(d, "n_layer", 0, &c->layers, e) ||
        field(d, "n_head", 0, &c->heads, e) || field(d, "n_embd", 0, &c->width, e) ||
        field(d, "n_inner", c->width <= INT32_MAX / 4 ? 4 * c->width : INT32_MAX, &c->hidden, e) ||
        doc_real(d, 0, "layer_norm_epsilon", 1e-5f, &c->norm_eps, e)) return -1;
    c->kv_heads = c->heads;
    c->head_size = c->width / c->heads;
    c->bias = 1;
    c->tied = tied;
    return 0;
}

// Rotary positions: rope_theta and rope_scaling until transformers 4, rope_parameters since. Only "default"
// and "llama3" frequencies are known to model.c.
static int config_rope(Config *c, const Doc *d, Err *e) {
    const JsonNode *v5 = doc_get(d, 0, "rope_parameters"), *v = v5 ? v5 : doc_get(d, 0, "rope_scaling");
    uint32_t at = v ? doc_index(d, v) : 0;
    int64_t context;
    float theta, partial;
    if (doc_real(d, 0, "rope_theta", 10000.0f, &c->rope_theta, e) ||
        doc_real(d, 0, "partial_rotary_factor", 1.0f, &partial, e)) return -1;
    if (v && v->kind != JSON_OBJECT)
        return err_set(e, "%s:%lu: rope_scaling, want an object", d->path, (unsigned long)v->line);
    if (v && (doc_real(d, at, "rope_theta", c->rope_theta, &theta, e) ||
              doc_real(d, at, "partial_rotary_factor", partial, &partial, e))) return -1;
    if (v && doc_get(d, 0, "rope_theta") && (theta < c->rope_theta || theta > c->rope_theta))
        return err_set(e, "%s:%lu: rope_theta = %g here and %g elsewhere", d->path, (unsigned long)v->line,
                       (double)theta, (double)c->rope_theta);
    if (partial < 1.0f || partial > 1.0f)
        return err_set(e, "%s: partial_rotary_factor = %g, want 1", d->path, (double)partial);
    if (!v) return 0;
    c->rope_theta = theta;
    const JsonNode *type = doc_get(d, at, "rope_type");
    if (!type) type = doc_get(d, at, "type");
    if (!type || strcmp(json_shown(type), "default") == 0) return 0;
    if (strcmp(json_shown(type), "llama3") != 0)
        return err_set(e, "%s:%lu: rope_type = %.40s, want default or llama3", d->path,
                       (unsigned long)type->line, json_shown(type));
    if (doc_int(d, at, "original_max_position_embeddings", 1, INT32_MAX, 0, &context, e)) return -1;
    c->rope_context = (int32_t)context;
    if (doc_real(d, at, "factor", 0, &c->rope_factor, e) ||
        doc_real(d, at, "low_freq_factor", 0, &c->rope_low, e)) return -1;
    return doc_real(d, at, "high_freq_factor", 0, &c->rope_high, e);
}

// Layers that look back only so far are not computed here.
static int config_full(const Doc *d, Err *e) {
    const JsonNode *v = doc_get(d, 0, "layer_types");
    if (doc_want(d, 0, "use_sliding_window", "false", e)) return -1;
    for (uint32_t i = 0; v && v->kind == JSON_ARRAY && i < v->count; i++)
        if (strcmp(json_shown(v + 1 + i), "full_attention") != 0)
            return err_set(e, "%s:%lu: layer_types: %.40s, want full_attention", d->path,
                           (unsigned long)v->line, json_shown(v + 1 + i));
    return 0;
}

static int config_llama(Config *c, Family f, const Doc *d, Err *e) {
    bool qwen = f != FAMILY_LLAMA, tied;
    if (doc_want(d, 0, "hidden_act", "silu", e) ||
        (f != FAMILY_QWEN2 && doc_want(d, 0, "attention_bias", "false", e)) ||       // Qwen2 has them always
        doc_want(d, 0, "mlp_bias", "false", e) || config_full(d, e) ||
        doc_flag(d, 0, "tie_word_embeddings", false, &tied, e) ||
        field(d, "max_position_embeddings", 0, &c->context, e) ||
        field(d, "num_hidden_layers", 0, &c->layers, e) || field(d, "num_attention_heads", 0, &c->heads, e) ||
        field(d, "hidden_size", 0, &c->width, e) || field(d, "intermediate_size", 0, &c->hidden, e) ||
        field(d, "num_key_value_heads", qwen ? 32 : c->heads, &c->kv_heads, e) ||
        // NOLINTNEXTLINE(clang-analyzer-core.DivideZero): field() refuses 0 heads
        field(d, "head_dim", f == FAMILY_QWEN3 ? 128 : c->width / c->heads, &c->head_size, e) ||
        doc_real(d, 0, "rms_norm_eps", 1e-6f, &c->norm_eps, e) || config_rope(c, d, e)) return -1;
    c->rms = c->rope = c->swiglu = 1;
    c->qkv_bias = f == FAMILY_QWEN2;
    c->qk_norm = f == FAMILY_QWEN3;
    c->tied = tied;
    return 0;
}

static int config_read(Config *c, Family *f, const Doc *d, Err *e) {
    const JsonNode *type = doc_get(d, 0, "model_type");
    Fault fault;
    if (!type) return err_set(e, "%s: no \"model_type\", want gpt2, llama, qwen2 or qwen3", d->path);
    *f = family_find(json_shown(type));
    if (*f == FAMILIES)
        return err_set(e, "%s:%lu: model_type = %.40s, want gpt2, llama, qwen2 or qwen3", d->path,
                       (unsigned long)type->line, json_shown(type));
    if (doc_get(d, 0, "quantization_config"))
        return err_set(e, "%s: quantization_config: want weights that are not quantized", d->path);
    if (field(d, "vocab_size", 0, &c->vocab, e)) return -1;
    if (*f == FAMILY_GPT2 ? config_gpt2(c, d, e) : config_llama(c, *f, d, e)) return -1;
    if (c->width % c->heads && (*f == FAMILY_GPT2 || !doc_get(d, 0, "head_dim")))
        return err_set(e, "%s: width %ld, want a multiple of %ld heads", d->path, (long)c->width,
                       (long)c->heads);
    return model_check(c, &fault) ? err_fault(e, d->path, &fault) : 0;
}

// eos_token_id, a number or several, behind those that are there.
static int ends_read(EndIds *ends, const Doc *d, Err *e) {
    const JsonNode *v = doc_get(d, 0, "eos_token_id");
    bool list = v && v->kind == JSON_ARRAY;
    uint32_t count = list ? v->count : v ? 1 : 0, most = sizeof ends->id / sizeof *ends->id;
    const JsonNode *at = list ? v + 1 : v;
    for (uint32_t i = 0; i < count; i++, at++) {
        uint64_t id;
        if (!json_whole(at, &id) || id > INT32_MAX || (uint32_t)ends->n == most)
            return err_set(e, "%s:%lu: eos_token_id = %.40s, want at most %lu token ids", d->path,
                           (unsigned long)v->line, json_shown(at), (unsigned long)most);
        ends->id[ends->n++] = (int64_t)id;
    }
    return 0;
}

// ---- safetensors ------------------------------------------------------------------------------------------
//     0    8      n, bytes of the header
//     8    n      header: {"name": {"dtype": "F32", "shape": [3, 48], "data_offsets": [begin, end]}, ...}
//     8+n         data; the offsets count from here, and the tensors fill it without gaps
typedef enum { F32, BF16, F16, TYPES } Type;
static const struct { const char *name; size_t width; Stored as; } TYPE[TYPES] = {
    {"F32", 4, AS_F32}, {"BF16", 2, AS_BF16}, {"F16", 2, AS_F16}};

enum { IGNORED = -2 };                // row of a buffer that old files hold; -1: no such name is known
typedef struct {
    uint64_t begin, end;
    const char *name;                 // in the shard's header
    size_t layer;
    int row;                          // in NAMED, or IGNORED
    Type type;
} Entry;

typedef struct {
    char path[4096];
    FILE *file;
    Doc header;
    uint64_t data, bytes;             // where the data begins, how long it is
    Entry *entry;                     // in the order of the data
    uint32_t entries;
} Shard;

typedef struct {
    Shard *shard;
    int shards;
    Doc index;                        // model.safetensors.index.json, if there are several
    const Entry **place;              // (NAMED_ROWS, layers): where each tensor is, NULL: nowhere
    bool zero_bias;
} Weights;

static int read_exactly(Shard *s, Sha256 *sha, void *out, size_t n, Err *e) {
    if (fread(out, 1, n, s->file) != n)
        return err_set(e, "%s: %s", s->path, ferror(s->file) ? "cannot be read" : "ends too early");
    if (sha) sha256_add(sha, out, n);
    return 0;
}

// Opens the file and parses its header.
static int shard_open(Shard *s, const char *folder, const char *name, Err *e) {
    uint8_t size[8], *text = NULL;
    struct stat st;
    int rc = -1;
    if (folder_path(s->path, folder, name, e)) return -1;
    memcpy(s->header.path, s->path, sizeof s->path);
    if (stat(s->path, &st) || !S_ISREG(st.st_mode)) return err_set(e, "%s: no such file", s->path);
    if (!(s->file = fopen(s->path, "rb"))) return err_set(e, "%s: cannot open: %s", s->path, strerror(errno));
    if (st.st_size < 8) return err_set(e, "%s: %.0f bytes, want 8 or more", s->path, (double)st.st_size);
    if (read_exactly(s, NULL, size, sizeof size, e)) return -1;
    uint64_t n = u64_at(size), rest = (uint64_t)st.st_size - 8, most = rest < HEADER_MAX ? rest : HEADER_MAX;
    if (n > most)
        return err_set(e, "%s: byte 0: header of %.0f bytes, want 0..%.0f", s->path, (double)n, (double)most);
    s->data = 8 + n;
    s->bytes = rest - n;
    if (!(text = malloc((size_t)n + 1))) return err_set(e, "%s: out of memory", s->path);
    if (read_exactly(s, NULL, text, (size_t)n, e) || json_parse(&s->header.j, s->path, 1, text, (size_t)n, e))
        goto out;
    rc = s->header.j.node[0].kind == JSON_OBJECT ? 0 : err_set(e, "%s: byte 8: want a JSON object", s->path);
out:
    free(text);
    return rc;
}

// Compares the header's shape with what the model needs, and the place in the data with both.
static int entry_shape(const Entry *t, const Shard *s, const JsonNode *shape, const Config *c,
                       bool input_major, Err *e) {
    const Named *n = &NAMED[t->row];
    size_t out, in, given[2] = {1, 1}, bytes, dims = named_vector(n) ? 1 : 2;
    bool turned = input_major && !named_is_straight(n, false);
    named_shape(n, c, &out, &in);
    size_t want[2] = {dims == 1 || turned ? in : out, dims == 1 || turned ? out : in};    // a vector: in, 1
    bool same = shape->count == dims;
    for (uint32_t k = 0; k < 2 && k < shape->count; k++) {
        uint64_t size = 0;
        same = json_whole(shape + 1 + k, &size) && size == want[k] && same;
        given[k] = (size_t)size;
    }
    if (!same)
        return err_set(e, "%s: tensor %.80s: %lu dimensions, %zu x %zu, want %zu, %zu x %zu", s->path,
                       t->name, (unsigned long)shape->count, given[0], given[1], dims, want[0], want[1]);
    if (mul_ok(out, in, &bytes) && mul_ok(bytes, TYPE[t->type].width, &bytes) && t->end - t->begin == bytes)
        return 0;
    return err_set(e, "%s: tensor %.80s: %.0f bytes, want %.0f", s->path, t->name,
                   (double)(t->end - t->begin), (double)out * (double)in * (double)TYPE[t->type].width);
}

static int entry_check(Entry *t, const Shard *s, uint32_t node, const Config *c, bool input_major, Err *e) {
    const JsonNode *shape = doc_get(&s->header, node, "shape"), *type = doc_get(&s->header, node, "dtype");
    if (!type || !shape || shape->kind != JSON_ARRAY)
        return err_set(e, "%s: tensor %.80s: want a dtype and a shape", s->path, t->name);
    for (t->type = 0; t->type < TYPES && strcmp(json_shown(type), TYPE[t->type].name) != 0;) t->type++;
    if (t->type < TYPES) return entry_shape(t, s, shape, c, input_major, e);
    return err_set(e, "%s: tensor %.80s: dtype %.20s, want F32, BF16, F16", s->path, t->name,
                   json_shown(type));
}

static int entry_read(Entry *t, const Shard *s, uint32_t node, const char *name, Err *e) {
    const JsonNode *at = doc_get(&s->header, node, "data_offsets");
    t->name = name;
    if (!at || at->kind != JSON_ARRAY || at->count != 2)
        return err_set(e, "%s: tensor %.80s: want two data_offsets", s->path, name);
    if (!json_whole(at + 1, &t->begin) || !json_whole(at + 2, &t->end) || t->begin > t->end ||
        t->end > s->bytes)
        return err_set(e, "%s: tensor %.80s: data_offsets %.20s..%.20s, want within 0..%.0f", s->path, name,
                       json_shown(at + 1), json_shown(at + 2), (double)s->bytes);
    return 0;
}

static int entry_order(const void *a, const void *b) {
    const Entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end == y->end ? 0 : x->end < y->end ? -1 : 1;
}

// The shard's tensors into s->entry, each found in NAMED or refused. They must fill the data.
static int shard_match(Shard *s, const Config *c, Family f, Err *e) {
    const JsonNode *v = s->header.j.node;
    if (!(s->entry = calloc((size_t)v[0].count + 1, sizeof *s->entry))) return err_set(e, "out of memory");
    for (uint32_t i = 0, at = 1; i < v[0].count; i++) {
        uint32_t node = at + 1;                   // at: the name, a single node; node: what belongs to it
        const char *name = v[at].text;
        Entry *t = &s->entry[s->entries];
        at = v[node].next;
        if (strcmp(name, "__metadata__") == 0) continue;
        if (v[node].kind != JSON_OBJECT) return err_set(e, "%s: tensor %.80s: want an object", s->path, name);
        t->row = named_ignored(name, f) ? IGNORED : named_find(name, false, f, (size_t)c->layers, &t->layer);
        bool known =
            t->row >= 0 && (named_here(&NAMED[t->row], c) || NAMED[t->row].where == offsetof(Params, head));
        if (t->row != IGNORED && !known)
            return err_set(e, "%s: tensor %.80s: want those of a %s of %ld layers", s->path, name,
                           FAMILY_NAME[f], (long)c->layers);
        if (entry_read(t, s, node, name, e)) return -1;
        if (known && entry_check(t, s, node, c, f == FAMILY_GPT2, e)) return -1;
        s->entries++;
    }
    qsort(s->entry, s->entries, sizeof *s->entry, entry_order);
    uint64_t end = 0;
    for (uint32_t i = 0; i < s->entries; end = s->entry[i++].end)
        if (s->entry[i].begin != end)
            return err_set(e, "%s: tensor %.80s begins at %.0f of the data, want %.0f", s->path,
                           s->entry[i].name, (double)s->entry[i].begin, (double)end);
    return end == s->bytes ? 0 : err_set(e, "%s: %.0f bytes behind the last tensor, want none", s->path,
                                         (double)(s->bytes - end));
}

// ---- the tensors of all shards ----------------------------------------------------------------------------
// Each tensor of the model must be there once.
static int weights_place(Weights *w, const Config *c, Err *e) {
    size_t layers = (size_t)c->layers;
    if (!(w->place = calloc((size_t)NAMED_ROWS * layers, sizeof *w->place)))
        return err_set(e, "out of memory");
    for (int k = 0; k < w->shards; k++)
        for (uint32_t i = 0; i < w->shard[k].entries; i++) {
            const Entry *t = &w->shard[k].entry[i];
            if (t->row == IGNORED) continue;
            const Entry **place = &w->place[(size_t)t->row * layers + t->layer];
            if (*place) return err_set(e, "%s: tensor %.80s is there twice", w->shard[k].path, t->name);
            *place = t;
        }
    return 0;
}

// What is missing is an error, except that with zero_bias a bias that no layer has is zero. Some models are
// trained without; in others' files it was lost: only the user can tell.
static int row_complete(Import *m, const Weights *w, int row, Err *e) {
    const Named *n = &NAMED[row];
    size_t layers = strchr(n->hf, '#') ? (size_t)m->cfg.layers : 1, missing = 0, first = 0;
    for (size_t l = layers; l-- > 0;) {
        if (w->place[(size_t)row * (size_t)m->cfg.layers + l]) continue;
        missing++;
        first = l;
    }
    bool all = missing == layers && named_bias(n);
    if (missing == 0) return 0;
    if (!all || !w->zero_bias)
        return err_set(e, "%s: tensor %s is missing in layer %zu%s", w->shard[0].path, n->hf, first,
                       all ? " and all others\nhint: --zero-bias, if the model was trained without it" : "");
    return import_say(m, "zero ", n->hf, e);
}

static int weights_complete(Import *m, const Weights *w, Err *e) {
    for (int row = 0; row < NAMED_ROWS; row++)
        if (named_here(&NAMED[row], &m->cfg) && row_complete(m, w, row, e)) return -1;
    return 0;
}

// n floats as they are stored, from the file through a small buffer.
static int floats_read(Shard *s, Sha256 *sha, Type type, float *out, size_t n, Err *e) {
    uint8_t piece[1 << 14];
    size_t width = TYPE[type].width;
    for (size_t take; n > 0; n -= take, out += take) {
        take = n < sizeof piece / width ? n : sizeof piece / width;
        if (read_exactly(s, sha, piece, take * width, e)) return -1;
        for (size_t i = 0; i < take; i++) {
            const uint8_t *p = piece + i * width;
            uint32_t half = (uint32_t)p[0] | (uint32_t)p[1] << 8;
            out[i] = type == F32 ? f32_of(u32_at(p)) : type == BF16 ? f32_of(half << 16) : f16_of(half);
        }
    }
    return 0;
}

// A tied model may carry its head all the same, as a copy of wte.
static int tied_check(const Import *m, const Weights *w, Err *e) {
    const Entry *head = w->place[(size_t)(NAMED_ROWS - 1) * (size_t)m->cfg.layers];
    size_t n = (size_t)m->cfg.vocab * (size_t)m->cfg.width, take;
    float x[1 << 12];
    if (!head || !m->cfg.tied) return 0;
    for (int k = 0; k < w->shards; k++) {
        Shard *s = &w->shard[k];
        if (head < s->entry || head >= s->entry + s->entries) continue;
        if (fseeko(s->file, (off_t)(s->data + head->begin), SEEK_SET))
            return err_set(e, "%s: cannot be read", s->path);
        for (size_t i = 0; i < n; i += take) {
            take = n - i < sizeof x / sizeof *x ? n - i : sizeof x / sizeof *x;
            if (floats_read(s, NULL, head->type, x, take, e)) return -1;
            if (memcmp(x, m->w.wte + i, take * sizeof *x) != 0)
                return err_set(e,
                               "%s: %.80s, want a copy of the token embedding, as tie_word_embeddings says",
                               s->path, head->name);
        }
    }
    return 0;
}

// Streams the shard from its first byte to its last, every tensor into its place. x: room for any.
static int shard_read(Import *m, Shard *s, bool input_major, float *x, Err *e) {
    uint8_t skip[1 << 12];
    char hex[65];
    Sha256 sha;
    sha256_init(&sha);
    rewind(s->file);
    for (uint64_t left = s->data, take; left > 0; left -= take) {
        take = left < sizeof skip ? left : sizeof skip;
        if (read_exactly(s, &sha, skip, (size_t)take, e)) return -1;
    }
    for (uint32_t i = 0; i < s->entries; i++) {
        const Entry *t = &s->entry[i];
        bool wanted = t->row != IGNORED && named_here(&NAMED[t->row], &m->cfg);
        for (uint64_t left = wanted ? 0 : t->end - t->begin, take; left > 0; left -= take) {
            take = left < sizeof skip ? left : sizeof skip;
            if (read_exactly(s, &sha, skip, (size_t)take, e)) return -1;
        }
        if (!wanted) continue;
        const Named *n = &NAMED[t->row];
        float *straight = named_straight(n, &m->cfg, &m->w, t->layer, input_major);
        size_t floats = (size_t)(t->end - t->begin) / TYPE[t->type].width;
        if (t->type != BF16) m->dtype = DTYPE_F32;
        if (floats_read(s, &sha, t->type, straight ? straight : x, floats, e)) return -1;
        if (!straight) named_put(n, &m->cfg, &m->w, t->layer, x, input_major, false);
    }
    sha256_end(&sha, hex);
    return import_say(m, "model sha256 ", hex, e);
}

static size_t largest(const Weights *w, const Config *c,
                      bool input_major) { // floats that must be turned at once
    size_t most = 1, out, in;
    for (int row = 0; row < NAMED_ROWS; row++) {
        if (!named_here(&NAMED[row], c) || named_is_straight(&NAMED[row], input_major)) continue;
        named_shape(&NAMED[row], c, &out, &in);
        if (w->place[(size_t)row * (size_t)c->layers] && out * in > most) most = out * in;
    }
    return most;
}

static int weights_read(Import *m, Weights *w, Family f, Err *e) {
    float *x = NULL;
    int rc = -1;
    for (int k = 0; k < w->shards; k++)
        if (shard_match(&w->shard[k], &m->cfg, f, e)) return -1;
    if (weights_place(w, &m->cfg, e) || weights_complete(m, w, e) || import_weights(m, e)) return -1;
    if (!(x = malloc(largest(w, &m->cfg, f == FAMILY_GPT2) * sizeof *x))) return err_set(e, "out of memory");
    m->dtype = DTYPE_BF16;
    for (int k = 0; k < w->shards; k++)
        if (shard_read(m, &w->shard[k], f == FAMILY_GPT2, x, e)) goto out;
    if (tied_check(m, w, e)) goto out;
    rc = import_check(m, w->shard[0].path, e);
out:
    free(x);
    return rc;
}

// ---- shards -----------------------------------------------------------------------------------------------
// {"weight_map": {"name of a tensor": "model-00001-of-00002.safetensors", ...}}
typedef struct { const char *tensor, *file; } Mapped;
static int mapped_order(const void *a, const void *b) {
    return strcmp(((const Mapped *)a)->tensor, ((const Mapped *)b)->tensor);
}
static int mapped_file_order(const void *a, const void *b) {
    return strcmp(((const Mapped *)a)->file, ((const Mapped *)b)->file);
}

// A file of this folder and nothing else.
static bool plain_name(const JsonNode *v) {
    return v->kind == JSON_STRING && v->len > 0 && v->len <= SHARD_NAME && strlen(v->text) == v->len &&
           v->text[0] != '.' && !strpbrk(v->text, "/\\:");
}

// Does the index say of every tensor where it is, and of nothing else?
static int index_check(const Weights *w, const char *const *file, Mapped *map, uint32_t count, Err *e) {
    uint64_t entries = 0;
    qsort(map, count, sizeof *map, mapped_order);
    for (uint32_t i = 1; i < count; i++)
        if (mapped_order(&map[i - 1], &map[i]) == 0)
            return err_set(e, "%s: tensor %.80s is there twice", w->index.path, map[i].tensor);
    for (int k = 0; k < w->shards; k++) {
        const JsonNode *v = w->shard[k].header.j.node;
        for (uint32_t i = 0, at = 1; i < v[0].count; i++, at = v[at + 1].next) {
            if (strcmp(v[at].text, "__metadata__") == 0) continue;
            Mapped key = {v[at].text, NULL}, *found = bsearch(&key, map, count, sizeof key, mapped_order);
            if (!found || strcmp(found->file, file[k]) != 0)
                return err_set(e, "%s: tensor %.80s is in %.80s, but the index says %.80s", w->index.path,
                               key.tensor, file[k], found ? found->file : "nothing");
            entries++;
        }
    }
    return entries == count ? 0 : err_set(e, "%s: %lu tensors, want the %.0f of its files", w->index.path,
                                          (unsigned long)count, (double)entries);
}

static int index_open(Weights *w, Import *m, const char *folder, Err *e) {
    const char *file[SHARDS_MAX];
    Mapped *map = NULL;
    int rc = -1;
    if (doc_open(&w->index, m, folder, "model.safetensors.index.json", "index sha256 ", e)) return -1;
    const JsonNode *v = w->index.j.node, *list = doc_get(&w->index, 0, "weight_map");
    if (!list || list->kind != JSON_OBJECT || list->count == 0)
        return err_set(e, "%s: want a weight_map with tensors", w->index.path);
    if (!(map = calloc(list->count, sizeof *map))) return err_set(e, "out of memory");
    for (uint32_t i = 0, at = doc_index(&w->index, list) + 1; i < list->count; i++, at = v[at + 1].next) {
        map[i] = (Mapped){v[at].text, v[at + 1].text};
        if (plain_name(&v[at + 1])) continue;
        err_set(e, "%s:%lu: %.80s, want the name of a file in this folder", w->index.path,
                (unsigned long)v[at].line, json_shown(&v[at + 1]));
        goto out;
    }
    qsort(map, list->count, sizeof *map, mapped_file_order);
    for (uint32_t i = 0; i < list->count; i++) {
        if (i > 0 && mapped_file_order(&map[i - 1], &map[i]) == 0) continue;
        if (w->shards == SHARDS_MAX) {
            err_set(e, "%s: more than %d files", w->index.path, SHARDS_MAX);
            goto out;
        }
        file[w->shards++] = map[i].file;
    }
    if (!(w->shard = calloc((size_t)w->shards, sizeof *w->shard))) { err_set(e, "out of memory"); goto out; }
    for (int k = 0; k < w->shards; k++)
        if (shard_open(&w->shard[k], folder, file[k], e)) goto out;
    rc = index_check(w, file, map, list->count, e);
out:
    free(map);
    return rc;
}

static int weights_open(Weights *w, Import *m, const char *folder, Err *e) {
    if (folder_has(folder, "model.safetensors") || !folder_has(folder, "model.safetensors.index.json")) {
        if (!folder_has(folder, "model.safetensors") && folder_has(folder, "pytorch_model.bin"))
            return err_set(e,
                           "%s: has pytorch_model.bin only, want model.safetensors\nhint: save_pretrained of "
                           "transformers writes it",
                           folder);
        if (!(w->shard = calloc(1, sizeof *w->shard))) return err_set(e, "out of memory");
        w->shards = 1;
        return shard_open(w->shard, folder, "model.safetensors", e);
    }
    return index_open(w, m, folder, e);
}

static void weights_close(Weights *w) {
    for (int k = 0; w->shard && k < w->shards; k++) {
        if (w->shard[k].file) fclose(w->shard[k].file);
        doc_close(&w->shard[k].header);
        free(w->shard[k].entry);
    }
    doc_close(&w->index);
    free(w->shard);
    free(w->place);
}

int hf_read(Import *m, const char *folder, const Ask *ask, Err *e) {
    Doc config = {.path = ""}, generation = {.path = ""};
    Weights w = {.zero_bias = ask->zero_bias};
    EndIds ends = {.n = 0};
    Family f = FAMILIES;
    int rc = -1;
    if (import_say(m, "convert tune.c " TUNE_VERSION ", ", "folder of Hugging Face", e)) goto out;
    if (doc_open(&config, m, folder, "config.json", "config sha256 ", e) ||
        config_read(&m->cfg, &f, &config, e))
        goto out;
    if (folder_has(folder, "generation_config.json") &&
        (doc_open(&generation, m, folder, "generation_config.json", "generation sha256 ", e) ||
         ends_read(&ends, &generation, e))) goto out;
    if (ends_read(&ends, &config, e)) goto out;   // after the other: of two answers the first counts
    if (hf_tokenizer_read(m, folder, f, &ends, ask, e)) goto out;
    if (weights_open(&w, m, folder, e)) goto out;
    rc = weights_read(m, &w, f, e);
out:
    weights_close(&w);
    doc_close(&config);
    doc_close(&generation);
    return rc;
}

// ---- out: configuration -----------------------------------------------------------------------------------
// A few lines of JSON through a Writer. ' stands for ".
static int put(Writer *w, Err *e, const char *format, ...) {
    char text[4096];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (n < 0 || n >= (int)sizeof text) return err_set(e, "a line of JSON is too long");
    for (int i = 0; i < n; i++)
        if (text[i] == '\'') text[i] = '"';
    return writer_put(w, text, (size_t)n, e);
}

// The shortest decimal number that reads back as x.
static const char *shortest(float x, char out[32]) {
    for (int digits = 1; digits < 10; digits++) {
        snprintf(out, 32, "%.*g", digits, (double)x);
        if (bits_of((float)strtod(out, NULL)) == bits_of(x)) break;
    }
    return out;
}

static int put_gpt2(Writer *w, const Config *c, Err *e) {
    char eps[32];
    return put(w, e, "  'activation_function': 'gelu_new',\n  'architectures': ['GPT2LMHeadModel'],\n"
               "  'layer_norm_epsilon': %s,\n  'model_type': 'gpt2',\n  'n_ctx': %ld,\n  'n_embd': %ld,\n"
               "  'n_head': %ld,\n  'n_inner': %ld,\n  'n_layer': %ld,\n  'n_positions': %ld,\n",
               shortest(c->norm_eps, eps), (long)c->context, (long)c->width, (long)c->heads,
               (long)c->hidden, (long)c->layers, (long)c->context);
}

static int put_llama(Writer *w, const Config *c, Family f, Err *e) {
    static const char *const class[FAMILIES] = {"", "Llama", "Qwen2", "Qwen3"};
    char eps[32], theta[32], factor[32], low[32], high[32];
    if (put(w, e, "  'architectures': ['%sForCausalLM'],\n  'attention_bias': %s,\n  'head_dim': %ld,\n"
            "  'hidden_act': 'silu',\n  'hidden_size': %ld,\n  'intermediate_size': %ld,\n"
            "  'max_position_embeddings': %ld,\n  'mlp_bias': false,\n  'model_type': '%s',\n"
            "  'num_attention_heads': %ld,\n  'num_hidden_layers': %ld,\n  'num_key_value_heads': %ld,\n"
            "  'rms_norm_eps': %s,\n  'rope_theta': %s,\n  'use_sliding_window': false,\n",
            class[f], c->qkv_bias ? "true" : "false", (long)c->head_size, (long)c->width, (long)c->hidden,
            (long)c->context, FAMILY_NAME[f], (long)c->heads, (long)c->layers, (long)c->kv_heads,
            shortest(c->norm_eps, eps), shortest(c->rope_theta, theta))) return -1;
    if (!c->rope_context) return put(w, e, "  'rope_scaling': null,\n");
    return put(w, e, "  'rope_scaling': {'factor': %s, 'high_freq_factor': %s, 'low_freq_factor': %s,\n"
               "    'original_max_position_embeddings': %ld, 'rope_type': 'llama3'},\n",
               shortest(c->rope_factor, factor), shortest(c->rope_high, high), shortest(c->rope_low, low),
               (long)c->rope_context);
}

// What ends an answer: end-of-text, and the template's end of turn, its last special token behind {target}.
static void ends_of(EndIds *ends, const Import *m) {
    const char *p = m->template ? strstr(m->template, "{target}") : NULL;
    const char *next = p ? strstr(p, "\n[") : NULL;               // the next section, if there is one
    int32_t last = -1;
    while (p && (p = strstr(p, "{<")) && (!next || p < next)) {
        char name[128] = "";
        size_t n = strcspn(++p, "}");
        if (n < sizeof name) memcpy(name, p, n);
        last = tokenizer_find(&m->tok, name);
    }
    ends->n = 0;
    if (m->tok.eot >= 0) ends->id[ends->n++] = m->tok.eot;
    if (last >= 0 && last != m->tok.eot) ends->id[ends->n++] = last;
}

static int put_ends(Writer *w, const Import *m, Err *e) {
    EndIds ends;
    ends_of(&ends, m);
    if (m->tok.bos >= 0 ? put(w, e, "  'bos_token_id': %ld,\n", (long)m->tok.bos) :
                          put(w, e, "  'bos_token_id': null,\n")) return -1;
    if (ends.n == 0) return put(w, e, "  'eos_token_id': null");
    if (ends.n == 1) return put(w, e, "  'eos_token_id': %ld", (long)ends.id[0]);
    return put(w, e, "  'eos_token_id': [%ld, %ld]", (long)ends.id[0], (long)ends.id[1]);
}

static int write_config(const Import *m, Family f, const char *folder, Stored as, Err *e) {
    char path[4096];
    Writer *w = folder_path(path, folder, "config.json", e) ? NULL : writer_open(path, e);
    const char *type = as == AS_F32 ? "float32" : as == AS_F16 ? "float16" : "bfloat16";
    if (!w) return -1;
    int rc = put(w, e, "{\n") || (f == FAMILY_GPT2 ? put_gpt2(w, &m->cfg, e) : put_llama(w, &m->cfg, f, e)) ||
             put(w, e, "  'tie_word_embeddings': %s,\n  'torch_dtype': '%s',\n  'vocab_size': %ld,\n",
                 m->cfg.tied ? "true" : "false", type, (long)m->cfg.vocab) ||
             put_ends(w, m, e) || put(w, e, "\n}\n");
    return writer_close(w, rc == 0, e) || rc ? -1 : 0;
}

static int write_generation(const Import *m, const char *folder, Err *e) {
    char path[4096];
    Writer *w = folder_path(path, folder, "generation_config.json", e) ? NULL : writer_open(path, e);
    if (!w) return -1;
    int rc = put(w, e, "{\n") || put_ends(w, m, e) || put(w, e, "\n}\n");
    return writer_close(w, rc == 0, e) || rc ? -1 : 0;
}

// ---- out: weights -----------------------------------------------------------------------------------------

// Calls for each stored tensor in the order of the file: its name, its shape, its place in NAMED.
typedef struct {
    int row;
    size_t layer, layers, out, in;
    char name[128];
} Each;

static bool each_next(Each *t, const Config *c) {      // start with {.row = -1}
    if (t->row >= 0 && t->layer + 1 < t->layers) {
        t->layer++;
    } else {
        do t->row++;
        while (t->row < NAMED_ROWS && !named_here(&NAMED[t->row], c));
        if (t->row == NAMED_ROWS) return false;
        t->layer = 0;
        t->layers = strchr(NAMED[t->row].hf, '#') ? (size_t)c->layers : 1;
        named_shape(&NAMED[t->row], c, &t->out, &t->in);
    }
    const char *hf = NAMED[t->row].hf, *mark = strchr(hf, '#');
    if (mark) snprintf(t->name, sizeof t->name, "%.*s%zu%s", (int)(mark - hf), hf, t->layer, mark + 1);
    else snprintf(t->name, sizeof t->name, "%s", hf);
    return true;
}

// The header is measured first and then written; spaces at its end make the data begin at a multiple of 8.
static int header_put(Writer *w, const Config *c, bool input_major, Type type, size_t *bytes, Err *e) {
    Each t = {.row = -1};
    size_t at = 0;
    char line[512];
    *bytes = (size_t)snprintf(line, sizeof line, "{\"__metadata__\": {\"format\": \"pt\"}");
    if (w && writer_put(w, line, *bytes, e)) return -1;
    while (each_next(&t, c)) {
        bool vector = named_vector(&NAMED[t.row]),
             turned = input_major && !named_is_straight(&NAMED[t.row], false);
        size_t size = t.out * t.in * TYPE[type].width;
        char shape[64];
        if (vector) snprintf(shape, sizeof shape, "%zu", t.in);
        else snprintf(shape, sizeof shape, "%zu, %zu", turned ? t.in : t.out, turned ? t.out : t.in);
        int n = snprintf(line, sizeof line,
                         ",\n\"%s\": {\"dtype\": \"%s\", \"shape\": [%s], \"data_offsets\": [%zu, %zu]}",
                         t.name, TYPE[type].name, shape, at, at + size);
        if (w && writer_put(w, line, (size_t)n, e)) return -1;
        *bytes += (size_t)n;
        at += size;
    }
    size_t n = 1 + (7 - *bytes % 8);
    if (w && writer_put(w, "}       ", n, e)) return -1;
    *bytes += n;
    return 0;
}

static int floats_put(Writer *w, Type type, const char *name, const float *x, size_t n, Err *e) {
    uint8_t piece[1 << 14];
    size_t width = TYPE[type].width;
    for (size_t take; n > 0; n -= take, x += take) {
        take = n < sizeof piece / width ? n : sizeof piece / width;
        for (size_t i = 0; i < take; i++) {
            uint32_t u = type == F32 ? bits_of(x[i]) : type == BF16 ? bf16_round(x[i]) : f16_round(x[i]);
            bool large = type == F32 ? false : type == BF16 ? (u & 0x7f80) == 0x7f80 : (u & 0x7c00) == 0x7c00;
            if (large)
                return err_set(e, "%s has %g, which %s cannot hold\nhint: --dtype f32", name, (double)x[i],
                               TYPE[type].name);
            for (size_t k = 0; k < width; k++) piece[i * width + k] = (uint8_t)(u >> 8 * k);
        }
        if (writer_put(w, piece, take * width, e)) return -1;
    }
    return 0;
}

static int write_weights(const Import *m, Family f, const char *folder, Stored as, Err *e) {
    bool input_major = f == FAMILY_GPT2;
    Type type = as == AS_F32 ? F32 : as == AS_F16 ? F16 : BF16;
    Each t = {.row = -1};
    size_t header, most = 1;
    uint8_t size[8];
    char path[4096];
    Writer *w = NULL;
    while (each_next(&t, &m->cfg))
        if (t.out * t.in > most && !named_is_straight(&NAMED[t.row], input_major)) most = t.out * t.in;
    float *x = malloc(most * sizeof *x);
    if (!x) return err_set(e, "out of memory");
    int rc = folder_path(path, folder, "model.safetensors", e);
    if (!rc) rc = (w = writer_open(path, e)) ? header_put(NULL, &m->cfg, input_major, type, &header, e) : -1;
    for (int i = 0; !rc && i < 8; i++) size[i] = (uint8_t)((uint64_t)header >> 8 * i);
    if (!rc)
        rc = writer_put(w, size, sizeof size, e) || header_put(w, &m->cfg, input_major, type, &header, e);
    t = (Each){.row = -1};
    while (!rc && each_next(&t, &m->cfg)) {
        const Named *n = &NAMED[t.row];
        const float *straight = named_straight(n, &m->cfg, &m->w, t.layer, input_major);
        if (!straight) named_get(n, &m->cfg, &m->w, t.layer, x, input_major, false);
        rc = floats_put(w, type, t.name, straight ? straight : x, t.out * t.in, e);
    }
    free(x);
    return writer_close(w, rc == 0, e) || rc ? -1 : 0;
}

// ---- out: the folder --------------------------------------------------------------------------------------
static const char *const WRITTEN[] = {"config.json", "generation_config.json", "model.safetensors",
                                      "tokenizer.json", "tokenizer_config.json"};

// Is it free: not there, or an empty folder?
static int folder_free(const char *path, Err *e) {
    struct stat st;
    struct dirent *entry;
    if (lstat(path, &st)) return 0;
    DIR *d = S_ISDIR(st.st_mode) ? opendir(path) : NULL;
    if (!d) return err_set(e, "%s: is there and no folder that can be read, want a new or empty one", path);
    do entry = readdir(d);
    while (entry && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
    int rc = entry ? err_set(e, "%s: is not empty, want a new or empty folder", path) : 0;
    closedir(d);
    return rc;
}

static void folder_remove(const char *folder) {        // what this program wrote there, and nothing else
    char path[4096];
    Err ignored = {""};
    for (size_t i = 0; i < sizeof WRITTEN / sizeof *WRITTEN; i++)
        if (folder_path(path, folder, WRITTEN[i], &ignored) == 0) unlink(path);
    rmdir(folder);
}

// The folder grows beside its place and is renamed when it is complete: it appears whole or not at all, and with
// no more rights than an empty one had there. Who makes what it grows in is the only one to write there. What a
// killed run left there cannot be told from the user's own, so it is for the user to remove.
int hf_write(const Import *m, const char *folder, Stored as, Err *e) {
    Family f;
    struct stat st;
    char path[4096], temp[4096];
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/') n--;
    if (n == 0 || n > sizeof path - 48) return err_set(e, "%.80s: no name for a folder", folder);
    memcpy(path, folder, n);
    path[n] = 0;
    if (family_of(&m->cfg, &f, e) || folder_free(path, e)) return -1;
    snprintf(temp, sizeof temp, "%.*s.writing", (int)n, path);
    if (mkdir(temp, stat(path, &st) == 0 ? st.st_mode & 0777 : 0777))
        return errno != EEXIST ? err_set(e, "%s: cannot create: %s", temp, strerror(errno)) :
               err_set(e, "%s: another program is writing it, or was killed\nhint: if none is, remove it", temp);
    int rc = write_config(m, f, temp, as, e) || write_generation(m, temp, e) ||
             write_weights(m, f, temp, as, e) || (m->tok.kind != TOK_NONE && hf_tokenizer_write(m, temp, e));
    if (!rc && rename(temp, path)) rc = err_set(e, "%s: cannot create: %s", path, strerror(errno));
    if (rc) folder_remove(temp);
    return rc ? -1 : 0;
}

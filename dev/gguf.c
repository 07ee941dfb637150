// gguf.c -- GGUF files, the format of llama.cpp, in and out.
//
//     0    4      "GGUF"
//     4    4      u32: version, 3; 2 is laid out alike
//     8    8, 8   u64: tensors, keys
//    24           keys: name, u32 type, value
//                      a text: u64 bytes, the bytes;  an array: u32 type, u64 elements, the elements
//                 tensors: name, u32 dimensions, a u64 each, innermost first, u32 type, u64 offset
//                 zeros up to a multiple of general.alignment; from here the offsets count
//                 the tensors in the order of their entries, each padded to that multiple
//
// Read in this order: reading bytes -> keys -> tensors -> number formats -> architecture -> rotary scaling ->
// weights -> tokenizer -> gguf_read; then the way back -> gguf_write.
// A file is hostile: all counts are compared with what is left of it, and nothing is allocated that is not in
// proportion to its size. What could change the computation and is not known here is refused, never ignored.
// No big-endian files, no version 1, no files in parts, no K- or I-quants.   T: tests/test_gguf.c
#include "convert.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX ((size_t)1 << (sizeof(size_t) > 4 ? 37 : 30))
enum {
    VERSION_LEAST = 2, VERSION = 3, HEADER = 24,
    KEYS_MAX = 1024, ENTRIES_MAX = 1 << 16,       // real files have some 30 keys, 12 tensors in a layer
    NAME_MAX_BYTES = 63, ALIGN_MAX = 1 << 16, ALIGN = 32,
    BLOCK = 32,                                   // numbers that share a scale
    MERGES_MOST = 1 << 24
};

// ---- reading bytes ----------------------------------------------------------------------------------------

typedef struct { const uint8_t *s; size_t n; } Bytes;

typedef enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64, KINDS } Kind;
static const uint8_t WIDTH[KINDS] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
static const char *const KIND_NAME[KINDS] = {"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "text",
                                             "array", "u64", "i64", "f64"};

typedef struct {
    Bytes name;
    Kind kind, of;                                // of: what the elements are; of no array: its own kind
    uint64_t count;                               // elements
    const uint8_t *value;
    size_t bytes;
} Key;

typedef struct {
    Bytes name;
    uint32_t type;                                // a row of TYPE
    size_t dim[4], bytes;                         // innermost first; unused ones are 1
    uint64_t offset;
} Entry;

typedef struct {
    const char *path;
    const uint8_t *file;
    size_t n, at;                                 // its bytes; how many were read
    Key *key;
    Entry *entry;
    size_t keys, entries, align;
    const uint8_t *data;                          // where the tensors begin
    Family family;
} Gguf;

// The next bytes of the file, NULL if it ends before.
static const uint8_t *take(Gguf *g, uint64_t bytes, const char *what, Err *e) {
    if (bytes > g->n - g->at) {
        err_set(e, "%s: byte %zu: %s of %.0f bytes, want at most the %zu that are left", g->path, g->at, what,
                (double)bytes, g->n - g->at);
        return NULL;
    }
    const uint8_t *p = g->file + g->at;
    g->at += (size_t)bytes;
    return p;
}

static int take_text(Gguf *g, Bytes *t, const char *what, Err *e) {
    const uint8_t *p = take(g, 8, what, e);
    if (!p) return -1;
    uint64_t bytes = u64_at(p);
    if (!(t->s = take(g, bytes, what, e))) return -1;
    t->n = (size_t)bytes;
    return 0;
}

// For messages: %.*s of a text from the file.
static int shown(Bytes t) { return t.n < 80 ? (int)t.n : 80; }
#define SHOW(t) shown(t), (const char *)(t).s

static bool text_is(Bytes t, const char *s) { return t.n == strlen(s) && memcmp(t.s, s, t.n) == 0; }

// ---- keys -------------------------------------------------------------------------------------------------

static int take_value(Gguf *g, Key *k, uint32_t kind, Err *e) {
    k->count = 1;
    uint32_t of = kind;
    if (kind == ARRAY) {
        const uint8_t *p = take(g, 12, "array", e);
        if (!p) return -1;
        of = u32_at(p);
        k->count = u64_at(p + 4);
    }
    if (kind >= KINDS || of >= KINDS || of == ARRAY)
        return err_set(e, "%s: byte %zu: key %.*s: %s %lu, want a known one and no array in an array",
                       g->path, g->at, SHOW(k->name), kind == ARRAY ? "array of type" : "type",
                       (unsigned long)of);
    k->kind = (Kind)kind;
    k->of = (Kind)of;
    k->value = g->file + g->at;
    size_t begin = g->at, least = of == STRING ? 8 : WIDTH[of];
    if (k->count > (g->n - g->at) / least)
        return err_set(e, "%s: byte %zu: key %.*s: %.0f elements, want at most the %zu that are left",
                       g->path, g->at, SHOW(k->name), (double)k->count, (g->n - g->at) / least);
    Bytes skipped;
    for (uint64_t i = 0; of == STRING && i < k->count; i++)
        if (take_text(g, &skipped, "text", e)) return -1;
    if (of != STRING) g->at += (size_t)k->count * WIDTH[of];
    k->bytes = g->at - begin;
    return 0;
}

static int take_keys(Gguf *g, Err *e) {
    for (size_t i = 0; i < g->keys; i++) {
        Key *k = &g->key[i];
        if (take_text(g, &k->name, "key name", e)) return -1;
        for (size_t j = 0; j < i; j++)
            if (g->key[j].name.n == k->name.n && memcmp(g->key[j].name.s, k->name.s, k->name.n) == 0)
                return err_set(e, "%s: key %.*s is there twice", g->path, SHOW(k->name));
        const uint8_t *kind = take(g, 4, "key type", e);
        if (!kind || take_value(g, k, u32_at(kind), e)) return -1;
    }
    return 0;
}

// The key "group.name", NULL: it is not there.
static const Key *key_find(const Gguf *g, const char *group, const char *name) {
    size_t n = strlen(group), m = strlen(name);
    for (size_t i = 0; i < g->keys; i++) {
        Bytes t = g->key[i].name;
        if (t.n == n + 1 + m && !memcmp(t.s, group, n) && t.s[n] == '.' && !memcmp(t.s + n + 1, name, m))
            return &g->key[i];
    }
    return NULL;
}

static int key_wrong(const Gguf *g, const Key *k, const char *want, Err *e) {
    return err_set(e, "%s: byte %zu: key %.*s: %s%s, want %s", g->path, (size_t)(k->value - g->file),
                   SHOW(k->name), k->kind == ARRAY ? "array of " : "", KIND_NAME[k->of], want);
}

static int key_missing(const Gguf *g, const char *group, const char *name, Err *e) {
    return err_set(e, "%s: no key %s.%s, want it", g->path, group, name);
}

// A number of any whole kind; beyond int64_t it becomes the largest, which is in no range that is asked for.
static int64_t whole_at(const uint8_t *p, Kind kind) {
    uint64_t u = 0;
    for (int i = 0; i < WIDTH[kind]; i++) u |= (uint64_t)p[i] << 8 * i;
    if (kind == I8) return u < 0x80 ? (int64_t)u : (int64_t)u - 0x100;
    if (kind == I16) return u < 0x8000 ? (int64_t)u : (int64_t)u - 0x10000;
    if (kind == I32) return u < 0x80000000 ? (int64_t)u : (int64_t)u - 0x100000000;
    if (kind == I64 && u > INT64_MAX) return -1 - (int64_t)(UINT64_MAX - u);
    return u > INT64_MAX ? INT64_MAX : (int64_t)u;
}

// Whole number of a key, in lo..hi. Without the key *out keeps its value, the default; one out of range says
// that there is none.
static int key_whole(const Gguf *g, const char *group, const char *name, int64_t lo, int64_t hi, int64_t *out,
                     Err *e) {
    const Key *k = key_find(g, group, name);
    if (!k) return *out >= lo && *out <= hi ? 0 : key_missing(g, group, name, e);
    if (k->kind == ARRAY || k->kind == STRING || k->kind == F32 || k->kind == F64)
        return key_wrong(g, k, "a whole number", e);
    *out = whole_at(k->value, k->kind);
    if (*out >= lo && *out <= hi) return 0;
    return err_set(e, "%s: byte %zu: key %s.%s = %lld, want %lld..%lld", g->path,
                   (size_t)(k->value - g->file), group, name, (long long)*out, (long long)lo, (long long)hi);
}

// A real number; if there is no such key, *out keeps its value, the default; NaN: none.
static int key_real(const Gguf *g, const char *group, const char *name, float *out, Err *e) {
    const Key *k = key_find(g, group, name);
    if (!k) return isnan(*out) ? key_missing(g, group, name, e) : 0;
    if (k->kind != F32) return key_wrong(g, k, "f32", e);
    *out = f32_of(u32_at(k->value));
    if (isfinite(*out)) return 0;
    return err_set(e, "%s: byte %zu: key %s.%s = %g, want a finite number", g->path,
                   (size_t)(k->value - g->file), group, name, (double)*out);
}

// A text; s NULL: there is none.
static int key_text(const Gguf *g, const char *group, const char *name, Bytes *out, Err *e) {
    const Key *k = key_find(g, group, name);
    *out = (Bytes){NULL, 0};
    if (k && k->kind != STRING) return key_wrong(g, k, "a text", e);
    if (k) *out = (Bytes){k->value + 8, k->bytes - 8};
    return 0;
}

// An array of `of`; there must be one.
static const Key *key_array(const Gguf *g, const char *group, const char *name, Kind of, Err *e) {
    const Key *k = key_find(g, group, name);
    if (!k) key_missing(g, group, name, e);
    if (!k || (k->kind == ARRAY && k->of == of)) return k;
    static const char *const WANT[KINDS] = {[STRING] = "an array of texts", [F32] = "an array of f32",
                                            [I32] = "an array of i32"};
    key_wrong(g, k, WANT[of], e);
    return NULL;
}

// The text at *at in an array of them, whose lengths take_value has checked.
static Bytes next_text(const uint8_t **at) {
    Bytes t = {*at + 8, (size_t)u64_at(*at)};
    *at = t.s + t.n;
    return t;
}

// ---- number formats ---------------------------------------------------------------------------------------
// A row is blocks of `count` numbers in `bytes` bytes: a scale d and perhaps a least number m, both f16, then
// 8-bit numbers, or 16 bytes whose low halves are the first 16 numbers and whose high halves are the others.
//     Q8_0 d x    Q4_0 d (x - 8)    Q4_1 d x + m        in this order of float operations, as ggml has it
static const char *const TYPE_NAME[] = {
    "F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K",
    "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS",
    "I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16", "Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "TQ1_0", "TQ2_0",
    "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4", "NVFP4", "Q1_0",
};
enum { TYPES = sizeof TYPE_NAME / sizeof TYPE_NAME[0] };
enum { TYPE_F32 = 0, TYPE_F16 = 1, TYPE_Q4_0 = 2, TYPE_Q4_1 = 3, TYPE_Q8_0 = 8, TYPE_BF16 = 30 };
static const struct { uint8_t count, bytes; } TYPE[TYPES] = {                 // 0: not read here
    [TYPE_F32] = {1, 4},       [TYPE_F16] = {1, 2},       [TYPE_BF16] = {1, 2},
    [TYPE_Q4_0] = {BLOCK, 18}, [TYPE_Q4_1] = {BLOCK, 20}, [TYPE_Q8_0] = {BLOCK, 34},
};

static uint32_t u16_at(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }

static void block_read(float *out, const uint8_t *p, uint32_t type) {
    float d = f16_of(u16_at(p)), m = type == TYPE_Q4_1 ? f16_of(u16_at(p + 2)) : 0.0f;
    const uint8_t *x = p + (type == TYPE_Q4_1 ? 4 : 2);
    for (int i = 0; i < BLOCK; i++) {
        int four = i < BLOCK / 2 ? x[i] & 15 : x[i - BLOCK / 2] >> 4;
        if (type == TYPE_Q8_0) out[i] = d * (float)(x[i] < 128 ? x[i] : x[i] - 256);
        else if (type == TYPE_Q4_0) out[i] = d * (float)(four - 8);
        else out[i] = d * (float)four + m;
    }
}

// n numbers, a multiple of the type's block.
static void numbers_read(float *out, const uint8_t *p, size_t n, uint32_t type) {
    for (size_t i = 0; i < n; i += TYPE[type].count, p += TYPE[type].bytes) {
        if (type == TYPE_F32) out[i] = f32_of(u32_at(p));
        else if (type == TYPE_F16) out[i] = f16_of(u16_at(p));
        else if (type == TYPE_BF16) out[i] = f32_of(u16_at(p) << 16);
        else block_read(out + i, p, type);
    }
}

// ---- tensors ----------------------------------------------------------------------------------------------

static size_t padding(size_t n, size_t align) { return (align - n % align) % align; }

// The sizes of an entry: dimensions and type at p.
static int entry_sizes(const Gguf *g, Entry *t, const uint8_t *p, uint32_t dims, Err *e) {
    size_t count = 1;
    t->type = u32_at(p + 8 * (size_t)dims);
    t->offset = u64_at(p + 8 * (size_t)dims + 4);
    if (t->type >= TYPES || !TYPE[t->type].bytes)
        return err_set(e, "%s: tensor %.*s: type %lu%s%s, want F32, F16, BF16, Q8_0, Q4_0 or Q4_1", g->path,
                       SHOW(t->name), (unsigned long)t->type, t->type < TYPES ? ", " : "",
                       t->type < TYPES ? TYPE_NAME[t->type] : "");
    for (size_t i = 0; i < 4; i++) {
        uint64_t d = i < dims ? u64_at(p + 8 * i) : 1;
        t->dim[i] = d < SIZE_MAX ? (size_t)d : SIZE_MAX;
        if (d < 1 || !mul_ok(count, t->dim[i], &count))
            return err_set(e, "%s: tensor %.*s: dimension %zu is %.0f, want 1 or more that fit into the file",
                           g->path, SHOW(t->name), i, (double)d);
    }
    if (t->dim[0] % TYPE[t->type].count)
        return err_set(e, "%s: tensor %.*s: rows of %zu numbers, want a multiple of %d for %s", g->path,
                       SHOW(t->name), t->dim[0], TYPE[t->type].count, TYPE_NAME[t->type]);
    if (!mul_ok(count / TYPE[t->type].count, TYPE[t->type].bytes, &t->bytes) || t->bytes > g->n)
        return err_set(e, "%s: tensor %.*s: %zu x %zu x %zu x %zu numbers, want what the file can hold",
                       g->path, SHOW(t->name), t->dim[0], t->dim[1], t->dim[2], t->dim[3]);
    return 0;
}

// llama.cpp, too, wants the tensors in the order of their entries without gaps: so none can overlap.
static int take_entries(Gguf *g, Err *e) {
    size_t sum = 0;                               // at most n and a padding
    if (!g->entries)
        return err_set(e, "%s: has no tensors, only a vocabulary: want a model with weights", g->path);
    for (size_t i = 0; i < g->entries; i++) {
        Entry *t = &g->entry[i];
        if (take_text(g, &t->name, "tensor name", e)) return -1;
        if (t->name.n < 1 || t->name.n > NAME_MAX_BYTES || memchr(t->name.s, 0, t->name.n))
            return err_set(e, "%s: byte %zu: tensor name of %zu bytes, want 1..%d, none of them 0", g->path,
                           (size_t)(t->name.s - g->file), t->name.n, NAME_MAX_BYTES);
        const uint8_t *p = take(g, 4, "tensor entry", e);
        uint32_t dims = p ? u32_at(p) : 0;
        if (p && (dims < 1 || dims > 4))
            return err_set(e, "%s: tensor %.*s: %lu dimensions, want 1..4", g->path, SHOW(t->name),
                           (unsigned long)dims);
        if (!p || !(p = take(g, 8 * (uint64_t)dims + 12, "tensor entry", e))) return -1;
        if (entry_sizes(g, t, p, dims, e)) return -1;
        if (t->offset != sum)
            return err_set(e, "%s: tensor %.*s: offset %.0f, want %zu, behind the one before", g->path,
                           SHOW(t->name), (double)t->offset, sum);
        sum += t->bytes;
        if (sum > g->n)
            return err_set(e, "%s: tensor %.*s ends at %zu of the data, want it within the file of %zu bytes",
                           g->path, SHOW(t->name), sum, g->n);
        if (i + 1 < g->entries) sum += padding(sum, g->align);
    }
    uint64_t gap = padding(g->at, g->align);
    if (!take(g, gap, "padding", e) || !(g->data = take(g, sum, "data", e))) return -1;
    if (g->n - g->at <= padding(sum, g->align)) return 0;
    return err_set(e, "%s: %zu bytes behind the last tensor, want none", g->path, g->n - g->at);
}

static const Entry *entry_find(const Gguf *g, const char *name) {
    for (size_t i = 0; i < g->entries; i++)
        if (text_is(g->entry[i].name, name)) return &g->entry[i];
    return NULL;
}

// ---- header -----------------------------------------------------------------------------------------------

static int header_read(Gguf *g, Err *e) {
    if (g->n < HEADER || memcmp(g->file, "GGUF", 4) != 0)
        return err_set(e, "%s: byte 0: want \"GGUF\" and a header of %d bytes", g->path, HEADER);
    uint32_t version = u32_at(g->file + 4);
    if (version != VERSION && version != VERSION_LEAST)
        return err_set(e, "%s: byte 4: version %lu%s, want %d or %d", g->path, (unsigned long)version,
                       version >= 1 << 16 ? ", a big-endian file" : "", VERSION_LEAST, VERSION);
    uint64_t entries = u64_at(g->file + 8), keys = u64_at(g->file + 16), left = g->n - HEADER;
    if (entries > ENTRIES_MAX || entries > left / 33)             // 33 and 13: bytes of the smallest
        return err_set(e, "%s: byte 8: %.0f tensors, want 0..%d that fit into the file", g->path,
                       (double)entries, ENTRIES_MAX);
    if (keys > KEYS_MAX || keys > left / 13)
        return err_set(e, "%s: byte 16: %.0f keys, want 0..%d that fit into the file", g->path, (double)keys,
                       KEYS_MAX);
    g->at = HEADER;
    g->entries = (size_t)entries;
    g->keys = (size_t)keys;
    g->key = calloc(g->keys + 1, sizeof *g->key);
    g->entry = calloc(g->entries + 1, sizeof *g->entry);
    if (!g->key || !g->entry) return err_set(e, "%s: out of memory", g->path);
    if (take_keys(g, e)) return -1;
    int64_t align = ALIGN, parts = 1;
    if (key_whole(g, "general", "alignment", 1, ALIGN_MAX, &align, e) ||
        key_whole(g, "split", "count", 0, 1, &parts, e)) return -1;
    if (align & (align - 1))
        return err_set(e, "%s: key general.alignment = %lld, want a power of two", g->path, (long long)align);
    g->align = (size_t)align;
    return take_entries(g, e);
}

// ---- architecture -----------------------------------------------------------------------------------------
// Every key of the architecture is known, or refused: a key could say that something is computed differently.
typedef enum { READ, IDLE, ONLY } Rule;           // read below; without effect; ONLY with this value
static const struct { const char *name; Rule rule; float only; } ARCH_KEY[] = {
    {"vocab_size", READ, 0},                   {"context_length", READ, 0},
    {"embedding_length", READ, 0},             {"block_count", READ, 0},
    {"feed_forward_length", READ, 0},          {"attention.head_count", READ, 0},
    {"attention.head_count_kv", READ, 0},      {"attention.key_length", READ, 0},
    {"attention.value_length", READ, 0},       {"attention.layer_norm_epsilon", READ, 0},
    {"rope.dimension_count", READ, 0},         {"attention.layer_norm_rms_epsilon", READ, 0},
    {"rope.freq_base", READ, 0},               {"rope.scaling.type", READ, 0},
    {"rope.scaling.factor", ONLY, 1},          {"rope.scale_linear", ONLY, 1},
    {"rope.scaling.attn_factor", ONLY, 1},     {"rope.scaling.original_context_length", IDLE, 0},
    {"rope.scaling.finetuned", IDLE, 0},       {"tensor_data_layout", IDLE, 0},
    {"expert_count", ONLY, 0},                 {"expert_used_count", ONLY, 0},
    {"attention.sliding_window", ONLY, 0},     {"attention.causal", ONLY, 1},
    {"pooling_type", ONLY, 0},                 {"use_parallel_residual", ONLY, 0},
};
enum { ARCH_KEYS = sizeof ARCH_KEY / sizeof ARCH_KEY[0] };

static int arch_key_check(const Gguf *g, const Key *k, const char *name, size_t n, Err *e) {
    size_t i = 0;
    while (i < ARCH_KEYS && !text_is((Bytes){(const uint8_t *)name, n}, ARCH_KEY[i].name)) i++;
    if (i == ARCH_KEYS)
        return err_set(e, "%s: key %.*s: is not known here and could change the computation", g->path,
                       SHOW(k->name));
    if (ARCH_KEY[i].rule != ONLY) return 0;
    if (k->kind == ARRAY || k->kind == STRING || k->kind == F64) return key_wrong(g, k, "a number", e);
    float is = k->kind == F32 ? f32_of(u32_at(k->value)) : (float)whole_at(k->value, k->kind);
    if (is >= ARCH_KEY[i].only && is <= ARCH_KEY[i].only) return 0;
    return err_set(e, "%s: byte %zu: key %.*s = %g, want %g", g->path, (size_t)(k->value - g->file),
                   SHOW(k->name), (double)is, (double)ARCH_KEY[i].only);
}

static int family_read(Gguf *g, Err *e) {
    Bytes t;
    char name[32] = "";
    if (key_text(g, "general", "architecture", &t, e)) return -1;
    if (!t.s) return key_missing(g, "general", "architecture", e);
    if (t.n < sizeof name && !memchr(t.s, 0, t.n)) memcpy(name, t.s, t.n);
    g->family = family_find(name);
    if (g->family == FAMILIES)
        return err_set(e, "%s: key general.architecture = %.*s, want gpt2, llama, qwen2 or qwen3", g->path,
                       SHOW(t));
    size_t n = strlen(name);
    for (size_t i = 0; i < g->keys; i++) {
        Bytes key = g->key[i].name;
        if (key.n <= n || memcmp(key.s, name, n) != 0 || key.s[n] != '.') continue;
        if (arch_key_check(g, &g->key[i], (const char *)key.s + n + 1, key.n - n - 1, e)) return -1;
    }
    if (key_text(g, name, "rope.scaling.type", &t, e)) return -1;
    if (!t.s || text_is(t, "none") || text_is(t, "linear")) return 0;
    return err_set(e, "%s: key %s.rope.scaling.type = %.*s, want none or linear", g->path, name, SHOW(t));
}

// A size of the architecture; *out is its default, or -1.
static int size_read(const Gguf *g, const char *name, int32_t *out, Err *e) {
    int64_t v = *out;
    if (key_whole(g, FAMILY_NAME[g->family], name, 1, INT32_MAX, &v, e)) return -1;
    *out = (int32_t)v;
    return 0;
}

// The width of a head: keys, values and the turned part of them must be alike.
static int head_read(const Gguf *g, Config *c, Err *e) {
    static const char *const ALIKE[] = {"attention.value_length", "rope.dimension_count"};
    const char *arch = FAMILY_NAME[g->family];
    c->head_size = c->heads > 0 ? c->width / c->heads : -1;
    if (size_read(g, "attention.key_length", &c->head_size, e)) return -1;
    for (int i = 0; i < 2; i++) {
        int64_t same = c->head_size;
        if (key_whole(g, arch, ALIKE[i], c->head_size, c->head_size, &same, e)) return -1;
    }
    if (key_find(g, arch, "attention.key_length") || c->width % c->heads == 0) return 0;
    return err_set(e, "%s: key %s.embedding_length = %ld, want a multiple of the %ld heads", g->path, arch,
                   (long)c->width, (long)c->heads);
}

static int config_read(const Gguf *g, Config *c, Err *e) {
    const char *arch = FAMILY_NAME[g->family];
    bool gpt2 = g->family == FAMILY_GPT2;
    const char *eps = gpt2 ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
    c->context = c->width = c->layers = c->hidden = c->heads = -1;
    if (size_read(g, "context_length", &c->context, e) || size_read(g, "embedding_length", &c->width, e) ||
        size_read(g, "block_count", &c->layers, e) || size_read(g, "feed_forward_length", &c->hidden, e) ||
        size_read(g, "attention.head_count", &c->heads, e)) return -1;
    c->kv_heads = c->heads;
    c->norm_eps = NAN;
    c->rope_theta = gpt2 ? 0.0f : 10000.0f;
    if (size_read(g, "attention.head_count_kv", &c->kv_heads, e) || head_read(g, c, e) ||
        key_real(g, arch, eps, &c->norm_eps, e) || key_real(g, arch, "rope.freq_base", &c->rope_theta, e))
        return -1;
    c->bias = gpt2;
    c->rms = c->rope = c->swiglu = !gpt2;
    c->qkv_bias = g->family == FAMILY_QWEN2;
    c->qk_norm = g->family == FAMILY_QWEN3;

    const Entry *wte = entry_find(g, "token_embd.weight"), *head = entry_find(g, "output.weight");
    if (!wte) return err_set(e, "%s: no tensor token_embd.weight, want it", g->path);
    c->vocab = wte->dim[1] < INT32_MAX ? (int32_t)wte->dim[1] : INT32_MAX;
    c->tied = !head || (head->type == wte->type && head->bytes == wte->bytes &&
                        !memcmp(g->data + head->offset, g->data + wte->offset, head->bytes));
    int64_t vocab = c->vocab;
    Fault f;
    if (key_whole(g, arch, "vocab_size", c->vocab, c->vocab, &vocab, e)) return -1;
    return model_check(c, &f) ? err_fault(e, g->path, &f) : 0;
}

// ---- rotary scaling ---------------------------------------------------------------------------------------
// Llama 3's scaling is a tensor here: how many times slower each pair of a head turns. Its numbers come from
// a factor and three others of which only two ratios matter, so that low may be 1. Our own files have them as
// keys, too.
enum { PAIRS_MAX = 512 };                         // model_check: a head has 1024 floats at most

// Turns of pair i over one position times 2 pi, in float as everywhere.
static double pair_speed(const Config *c, int32_t i) {
    return (double)(1.0f / (float)pow((double)c->rope_theta, 2.0 * i / c->head_size));
}

static double pair_factor(const Config *c, int32_t i) {
    double turns = c->rope_context * pair_speed(c, i) / 6.283185307179586;
    double low = (double)c->rope_low, high = (double)c->rope_high, factor = (double)c->rope_factor;
    if (turns < low) return factor;
    if (turns > high) return 1.0;
    double blend = (turns - low) / (high - low);
    return 1.0 / ((1.0 - blend) / factor + blend);
}

static bool factors_match(const Config *c, const float *x) {
    for (int32_t i = 0; i < c->head_size / 2; i++)
        if (!(fabs((double)x[i] / pair_factor(c, i) - 1.0) < 1e-5)) return false;
    return true;
}

// From two pairs that are neither left alone nor slowed by the whole factor; each has its equation
//     blend = (context * turns - 1) / (high - 1)
// In a small head there may be only one such pair: then high stays 4.
static bool factors_solve(Config *c, const float *x) {
    double speed[2] = {0, 0}, blend[2] = {0, 0}, factor = (double)c->rope_factor;
    int found = 0;
    for (int32_t i = 0; i < c->head_size / 2; i++) {
        if (!(x[i] > 1.0f && x[i] < c->rope_factor)) continue;
        int k = found++ > 0;                      // the first and the last of them
        speed[k] = pair_speed(c, i) / 6.283185307179586;
        blend[k] = (1.0 / (double)x[i] - 1.0 / factor) / (1.0 - 1.0 / factor);
    }
    if (!found) return false;
    double slope = (blend[0] + 1.0 / 3.0) / speed[0];
    if (found > 1) slope = (blend[0] - blend[1]) / (speed[0] - speed[1]);
    double rest = slope * speed[0] - blend[0], context = slope / rest, high = 1.0 + 1.0 / rest;
    if (!(context >= 1.0 && context <= 0x1p20 && high > 1.0 && high <= 1e4)) return false;
    c->rope_context = (int32_t)lround(context);
    c->rope_high = (float)(round(high * 64.0) / 64.0);
    return true;
}

static int scaling_read(const Gguf *g, Config *c, Err *e) {
    const Entry *t = entry_find(g, "rope_freqs.weight");
    size_t half = (size_t)c->head_size / 2;
    float x[PAIRS_MAX] = {0};
    if (!t) return 0;
    if (!c->rope || t->type != TYPE_F32 || t->dim[0] != half || t->bytes != 4 * half)
        return err_set(e, "%s: tensor rope_freqs.weight: %s, %zu numbers, want F32, %zu", g->path,
                       TYPE_NAME[t->type], t->dim[0], c->rope ? half : 0);
    numbers_read(x, g->data + t->offset, half, TYPE_F32);
    bool ones = true;
    for (size_t i = 0; i < half; i++) ones = ones && x[i] >= 1.0f && x[i] <= 1.0f;
    if (ones) return 0;
    int64_t context = 8192;                       // what every Llama 3 has
    c->rope_factor = x[half - 1];
    c->rope_low = 1.0f;
    c->rope_high = 4.0f;
    if (key_whole(g, "tune", "rope_context", 1, 1 << 20, &context, e) ||
        key_real(g, "tune", "rope_factor", &c->rope_factor, e) ||
        key_real(g, "tune", "rope_low", &c->rope_low, e) ||
        key_real(g, "tune", "rope_high", &c->rope_high, e)) return -1;
    c->rope_context = (int32_t)context;
    Fault f;
    if (model_check(c, &f)) return err_fault(e, g->path, &f);
    if (factors_match(c, x) || (factors_solve(c, x) && factors_match(c, x))) return 0;
    return err_set(e, "%s: tensor rope_freqs.weight: want what Llama 3's scaling gives", g->path);
}

// ---- weights ----------------------------------------------------------------------------------------------

static bool layered(const Named *row) { return strchr(row->gguf, '#') != NULL; }
static bool paired(Family f) { return f == FAMILY_LLAMA; }    // TRAP: only llama's q and k are permuted

// Is it stored as ours, number by number? Then it needs no room besides.
static bool same_order(const Named *row) {
    return row->where == offsetof(Params, wte) || row->where == offsetof(Params, wpe) ||
           row->where == offsetof(Params, head);
}

static float *params_at(const Params *w, size_t where) {
    float *x;
    memcpy(&x, (const char *)w + where, sizeof x);
    return x;
}

// Finds the entries: at[row * layers + layer]. What is unknown, twice, or of another shape is refused.
static int entries_match(const Gguf *g, const Entry **at, const Config *c, Err *e) {
    size_t layers = (size_t)c->layers, layer, out, in;
    for (size_t i = 0; i < g->entries; i++) {
        const Entry *t = &g->entry[i];
        char name[NAME_MAX_BYTES + 1] = "";
        memcpy(name, t->name.s, t->name.n);
        if (strcmp(name, "rope_freqs.weight") == 0) continue;
        int row = named_find(name, true, g->family, layers, &layer);
        bool copy = row >= 0 && c->tied && NAMED[row].where == offsetof(Params, head);
        if (row < 0 || !(copy || named_here(&NAMED[row], c)))
            return err_set(e, "%s: tensor %s: want names of a %s of %zu layers", g->path, name,
                           FAMILY_NAME[g->family], layers);
        const Entry **place = &at[(size_t)row * layers + layer];
        if (*place) return err_set(e, "%s: tensor %s is there twice", g->path, name);
        *place = t;
        named_shape(&NAMED[row], c, &out, &in);
        if (t->dim[0] != in || t->dim[1] != out || t->dim[2] != 1 || t->dim[3] != 1)
            return err_set(e, "%s: tensor %s: %zu x %zu x %zu x %zu, want %zu x %zu", g->path, name,
                           t->dim[0], t->dim[1], t->dim[2], t->dim[3], in, out);
    }
    for (int row = 0; row < NAMED_ROWS; row++) {
        const Named *n = &NAMED[row];
        if (!named_here(n, c)) continue;
        for (size_t l = 0; l < (layered(n) ? layers : 1); l++)
            if (!at[(size_t)row * layers + l])
                return err_set(e, "%s: tensor %s of layer %zu is missing", g->path, n->gguf, l);
    }
    return 0;
}

// bf16 holds the model if a tensor came so, and no number of any other has more bits.
static Dtype dtype_of(const Gguf *g, const Import *m) {
    bool some = false;
    for (size_t i = 0; i < g->entries; i++) some = some || g->entry[i].type == TYPE_BF16;
    size_t n = model_params(&m->cfg);
    for (size_t i = 0; some && i < n; i++) some = (bits_of(m->weights[i]) & 0xffff) == 0;
    return some ? DTYPE_BF16 : DTYPE_F32;
}

static int weights_read(Import *m, const Gguf *g, Err *e) {
    const Config *c = &m->cfg;
    size_t layers = (size_t)c->layers, most = 1, out, in;
    const Entry **at = calloc((size_t)NAMED_ROWS * layers, sizeof *at);
    float *x = NULL;
    int rc = -1;
    if (!at) { err_set(e, "%s: out of memory", g->path); goto out; }
    if (entries_match(g, at, c, e) || import_weights(m, e)) goto out;
    for (int row = 0; row < NAMED_ROWS; row++) {
        named_shape(&NAMED[row], c, &out, &in);
        if (at[(size_t)row * layers] && !same_order(&NAMED[row]) && out * in > most) most = out * in;
    }
    if (!(x = malloc(most * sizeof *x))) { err_set(e, "%s: out of memory", g->path); goto out; }
    for (size_t i = 0; i < (size_t)NAMED_ROWS * layers; i++) {
        const Named *n = &NAMED[i / layers];
        if (!at[i] || !named_here(n, c)) continue;
        named_shape(n, c, &out, &in);
        float *to = same_order(n) ? params_at(&m->w, n->where) : x;
        numbers_read(to, g->data + at[i]->offset, out * in, at[i]->type);
        if (to == x) named_put(n, c, &m->w, i % layers, x, false, paired(g->family));
    }
    m->dtype = dtype_of(g, m);
    rc = import_check(m, g->path, e);
out:
    free(at);
    free(x);
    return rc;
}

// ---- tokenizer --------------------------------------------------------------------------------------------
// Two of llama.cpp's: "gpt2", byte-level with merges, behind one of many pre-tokenizers; "llama", by score.
static const struct { const char *pre; TokKind kind; } PRE[] = {          // the first of a kind is written
    {"gpt-2", TOK_GPT2},       {"gpt2", TOK_GPT2},       {"llama-bpe", TOK_CL100K}, {"llama3", TOK_CL100K},
    {"llama-v3", TOK_CL100K},  {"qwen2", TOK_QWEN2},     {"deepseek-r1-qwen", TOK_QWEN2},
    {"smollm", TOK_SMOLLM},
};
enum { PRES = sizeof PRE / sizeof PRE[0] };
enum { IS_NORMAL = 1, IS_UNKNOWN, IS_CONTROL, IS_USER, IS_UNUSED, IS_BYTE };    // tokenizer.ggml.token_type
static const char VOCAB[] = "tokenizer.ggml";
static const uint8_t UNDERLINE[3] = {0xE2, 0x96, 0x81};                   // U+2581, which stands for a space

static int kind_read(const Gguf *g, TokKind *kind, Err *e) {
    Bytes model, pre;
    size_t i = 0;
    *kind = TOK_NONE;
    if (key_text(g, VOCAB, "model", &model, e) || key_text(g, VOCAB, "pre", &pre, e)) return -1;
    if (!model.s || text_is(model, "none") || text_is(model, "no_vocab")) return 0;
    if (text_is(model, "llama")) *kind = TOK_SCORED;
    else if (!text_is(model, "gpt2"))
        return err_set(e, "%s: key %s.model = %.*s, want gpt2 or llama", g->path, VOCAB, SHOW(model));
    else if (!pre.s && g->family == FAMILY_GPT2) *kind = TOK_GPT2;            // files older than the key
    else if (!pre.s)
        return err_set(e, "%s: no key %s.pre: how text is cut before merging is not known", g->path, VOCAB);
    if (*kind != TOK_NONE) return 0;
    while (i < PRES && !text_is(pre, PRE[i].pre)) i++;
    if (i == PRES)
        return err_set(e, "%s: key %s.pre = %.*s, want gpt-2, llama-bpe, qwen2 or smollm", g->path, VOCAB,
                       SHOW(pre));
    *kind = PRE[i].kind;
    return 0;
}

// Bytes of a normal token of a vocabulary with scores into out (t.n): spaces come as U+2581.
static size_t spaces_in(uint8_t *out, Bytes t) {
    size_t n = 0;
    for (size_t i = 0; i < t.n; i++) {
        bool space = t.n - i >= 3 && memcmp(t.s + i, UNDERLINE, 3) == 0;
        out[n++] = space ? ' ' : t.s[i];
        if (space) i += 2;
    }
    return n;
}

// <0x0A> is the byte 10. -1: not spelt so.
static int byte_in(Bytes t) {
    char spelt[8];
    for (int i = 0; i < 256; i++) {
        snprintf(spelt, sizeof spelt, "<0x%02X>", (unsigned)i);
        if (text_is(t, spelt)) return i;
    }
    return -1;
}

// Adds token id, spelt t. scratch has room for t.n bytes.
static int token_read(Import *m, const Gguf *g, uint32_t id, Bytes t, int64_t type, uint8_t *scratch,
                      Err *e) {
    bool scored = m->tok.kind == TOK_SCORED;
    unsigned long number = id;
    if (type < IS_NORMAL || type > (scored ? IS_BYTE : IS_UNUSED))
        return err_set(e, "%s: type of token %lu = %lld, want %d..%d", g->path, number, (long long)type,
                       IS_NORMAL, scored ? IS_BYTE : IS_UNUSED);
    if (type == IS_UNUSED) return vocab_token(m, scratch, 0, TOKEN_SPECIAL, e);   // only fills the embedding
    if (type == IS_UNKNOWN || type == IS_CONTROL || type == IS_USER)
        return vocab_token(m, t.s, t.n, TOKEN_SPECIAL, e);
    if (type == IS_BYTE) {
        int byte = byte_in(t);
        if (byte < 0)
            return err_set(e, "%s: token %lu is %.*s, want <0x00>..<0xFF>", g->path, number, SHOW(t));
        scratch[0] = (uint8_t)byte;
        return vocab_token(m, scratch, 1, TOKEN_BYTE, e);
    }
    int64_t n = scored ? (int64_t)spaces_in(scratch, t) : bytes_unspell(scratch, (const char *)t.s, t.n);
    if (n < 0)
        return err_set(e, "%s: token %lu is %.*s, want bytes spelt as GPT-2 does", g->path, number, SHOW(t));
    return vocab_token(m, scratch, (size_t)n, TOKEN_NORMAL, e);
}

static int scores_read(Import *m, const Gguf *g, Err *e) {
    const Key *k = key_array(g, VOCAB, "scores", F32, e);
    if (!k) return -1;
    if (k->count < m->tok.vocab)
        return err_set(e, "%s: %.0f scores, want %lu or more", g->path, (double)k->count,
                       (unsigned long)m->tok.vocab);
    float *score = calloc(m->tok.vocab + 1, sizeof *score);
    if (!score) return err_set(e, "%s: out of memory", g->path);
    numbers_read(score, k->value, m->tok.vocab, TYPE_F32);
    int rc = 0;
    for (uint32_t i = 0; i < m->tok.vocab && !rc; i++)
        if (!isfinite(score[i]))
            rc = err_set(e, "%s: score of token %lu = %g, want a finite number", g->path, (unsigned long)i,
                         (double)score[i]);
    if (!rc) rc = vocab_scores(m, score, g->path, e);
    free(score);
    return rc;
}

// Merges are texts "left right"; a space within a token is spelt otherwise.
static int merges_read(Import *m, const Gguf *g, const Key *k, uint8_t *scratch, Err *e) {
    const uint8_t *at = k->value;
    for (uint64_t i = 0; i < k->count; i++) {
        Bytes t = next_text(&at);
        const uint8_t *space = memchr(t.s, ' ', t.n);
        size_t left = space ? (size_t)(space - t.s) : 0;
        int64_t n = space ? bytes_unspell(scratch, (const char *)t.s, left) : -1, r = -1;
        if (n >= 0) r = bytes_unspell(scratch + n, (const char *)space + 1, t.n - left - 1);
        if (r < 0)
            return err_set(e, "%s: merge %.0f is \"%.*s\", want two tokens spelt as GPT-2 does", g->path,
                           (double)i, SHOW(t));
        if (vocab_merge(m, scratch, (size_t)n, scratch + n, (size_t)r, e)) return -1;
    }
    return 0;
}

// A key that is true or false, as a whole number.
static int key_bool(const Gguf *g, const char *name, bool *out, Err *e) {
    int64_t v = *out;
    int rc = key_whole(g, VOCAB, name, 0, 1, &v, e);
    *out = v != 0;
    return rc;
}

static int ends_read(Import *m, const Gguf *g, Err *e) {
    Tokenizer *t = &m->tok;
    bool scored = t->kind == TOK_SCORED, begins = scored || t->kind == TOK_CL100K, squeeze = false;
    int64_t eos = -1, bos = -1, last = (int64_t)t->vocab - 1;
    t->add_space = scored;
    if (key_bool(g, "add_bos_token", &begins, e) || key_bool(g, "add_space_prefix", &t->add_space, e) ||
        key_bool(g, "remove_extra_whitespaces", &squeeze, e) ||
        key_whole(g, VOCAB, "eos_token_id", -1, last, &eos, e) ||
        key_whole(g, VOCAB, "bos_token_id", -1, last, &bos, e)) return -1;
    if (squeeze || key_find(g, VOCAB, "precompiled_charsmap"))
        return err_set(e, "%s: key %s.%s: the tokenizer changes the text, want one that does not", g->path,
                       VOCAB, squeeze ? "remove_extra_whitespaces" : "precompiled_charsmap");
    if (begins && bos < 0) return key_missing(g, VOCAB, "bos_token_id", e);
    t->add_space = t->add_space && scored;
    t->eot = (int32_t)eos;
    t->bos = begins ? (int32_t)bos : -1;
    return 0;
}

static int tokenizer_read(Import *m, const Gguf *g, Err *e) {
    TokKind kind;
    m->tok.eot = m->tok.bos = -1;
    if (kind_read(g, &kind, e)) return -1;
    if (kind == TOK_NONE) return 0;
    const Key *tokens = key_array(g, VOCAB, "tokens", STRING, e), *types, *merges = NULL;
    if (!tokens || !(types = key_array(g, VOCAB, "token_type", I32, e))) return -1;
    if (kind != TOK_SCORED && !(merges = key_array(g, VOCAB, "merges", STRING, e))) return -1;
    if (tokens->count < 1 || tokens->count > (uint64_t)m->cfg.vocab || types->count != tokens->count)
        return err_set(e, "%s: %.0f tokens with %.0f types, want 1..%ld with as many", g->path,
                       (double)tokens->count, (double)types->count, (long)m->cfg.vocab);
    if (merges && merges->count > MERGES_MOST)
        return err_set(e, "%s: %.0f merges, want 0..%d", g->path, (double)merges->count, MERGES_MOST);
    uint32_t count = (uint32_t)tokens->count;     // unused ones at the end only fill the embedding
    while (count > 1 && whole_at(types->value + 4 * ((size_t)count - 1), I32) == IS_UNUSED) count--;
    size_t room = tokens->bytes > (merges ? merges->bytes : 0) ? tokens->bytes : merges->bytes;
    uint8_t *scratch = malloc(room + 1);
    if (!scratch) return err_set(e, "%s: out of memory", g->path);
    int rc = vocab_begin(m, kind, count, merges ? (uint32_t)merges->count : 0, tokens->bytes, e);
    const uint8_t *at = tokens->value;
    for (uint32_t i = 0; i < count && !rc; i++)
        rc = token_read(m, g, i, next_text(&at), whole_at(types->value + 4 * (size_t)i, I32), scratch, e);
    if (!rc) rc = merges ? merges_read(m, g, merges, scratch, e) : scores_read(m, g, e);
    free(scratch);
    if (rc || ends_read(m, g, e)) return -1;
    return vocab_end(m, g->path, e);
}

// Fills all of *m; what is there after an error is freed by import_free.
int gguf_read(Import *m, const char *path, const Ask *ask, Err *e) {
    Gguf g = {.path = path};
    Bytes jinja;
    uint8_t *file = NULL;
    int rc = -1;
    if (import_say(m, "convert tune.c " TUNE_VERSION ", ", "GGUF", e)) goto out;
    if (import_read(m, path, "model sha256 ", FILE_MAX, &file, &g.n, e)) goto out;
    g.file = file;
    if (header_read(&g, e) || family_read(&g, e) || config_read(&g, &m->cfg, e)) goto out;
    if (scaling_read(&g, &m->cfg, e) || tokenizer_read(m, &g, e)) goto out;
    if (key_text(&g, "tokenizer", "chat_template", &jinja, e)) goto out;
    if (import_template(m, ask, (const char *)jinja.s, jinja.n, path, e)) goto out;
    rc = weights_read(m, &g, e);
out:
    free(g.key);
    free(g.entry);
    free(file);
    return rc;
}

// ---- writing ----------------------------------------------------------------------------------------------
// All that stands before the tensors is put twice: once to count its keys, once into the file.
typedef struct {
    const Import *m;
    Stored as;
    Family family;
    Writer *to;                                   // NULL: only counted
    size_t at;
    uint64_t keys, tensors;
    Merge *merge;                                 // by rank
    float *score;                                 // of TOK_SCORED's tokens
    char *spelt;                                  // room for any two tokens, spelt, with a space between
    float *x;                                     // room for the tensors of a layer
    Err *e;
    int failed;
} Out;

static void put(Out *o, const void *p, size_t n) {
    o->at += n;
    if (o->to && !o->failed) o->failed = writer_put(o->to, p, n, o->e);
}

static void put_number(Out *o, uint64_t x, int bytes) {
    uint8_t p[8];
    for (int i = 0; i < bytes; i++) p[i] = (uint8_t)(x >> 8 * i);
    put(o, p, (size_t)bytes);
}

static void put_text(Out *o, const void *s, size_t n) {
    put_number(o, n, 8);
    put(o, s, n);
}

static void put_padding(Out *o) {
    static const uint8_t ZERO[ALIGN];
    put(o, ZERO, padding(o->at, ALIGN));
}

static void put_key(Out *o, const char *group, const char *name, Kind kind) {
    char key[128];
    int n = snprintf(key, sizeof key, "%s.%s", group, name);
    put_text(o, key, (size_t)n);
    put_number(o, kind, 4);
    o->keys++;
}

static void put_whole(Out *o, const char *group, const char *name, int32_t x) {
    put_key(o, group, name, U32);
    put_number(o, (uint32_t)x, 4);
}

static void put_real(Out *o, const char *group, const char *name, float x) {
    put_key(o, group, name, F32);
    put_number(o, bits_of(x), 4);
}

static void put_bool(Out *o, const char *group, const char *name, bool x) {
    put_key(o, group, name, BOOL);
    put_number(o, x, 1);
}

static void put_word(Out *o, const char *group, const char *name, const char *s) {
    put_key(o, group, name, STRING);
    put_text(o, s, strlen(s));
}

static void put_array(Out *o, const char *group, const char *name, Kind of, size_t n) {
    put_key(o, group, name, ARRAY);
    put_number(o, of, 4);
    put_number(o, n, 8);
}

static void put_architecture(Out *o) {
    static const int32_t FILE_TYPE[] = {0, 1, 32, 7};                     // by Stored
    const Config *c = &o->m->cfg;
    const char *arch = FAMILY_NAME[o->family];
    const char *eps = c->rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon";
    put_word(o, "general", "architecture", arch);
    put_word(o, "general", "type", "model");
    put_whole(o, "general", "file_type", FILE_TYPE[o->as]);
    put_whole(o, "general", "quantization_version", 2);
    put_whole(o, "general", "alignment", ALIGN);
    put_whole(o, arch, "vocab_size", c->vocab);
    put_whole(o, arch, "context_length", c->context);
    put_whole(o, arch, "embedding_length", c->width);
    put_whole(o, arch, "block_count", c->layers);
    put_whole(o, arch, "feed_forward_length", c->hidden);
    put_whole(o, arch, "attention.head_count", c->heads);
    put_whole(o, arch, "attention.head_count_kv", c->kv_heads);
    put_real(o, arch, eps, c->norm_eps);
    if (!c->rope) return;
    put_whole(o, arch, "attention.key_length", c->head_size);
    put_whole(o, arch, "attention.value_length", c->head_size);
    put_whole(o, arch, "rope.dimension_count", c->head_size);
    put_real(o, arch, "rope.freq_base", c->rope_theta);
    if (!c->rope_context) return;
    put_whole(o, "tune", "rope_context", c->rope_context);
    put_real(o, "tune", "rope_factor", c->rope_factor);
    put_real(o, "tune", "rope_low", c->rope_low);
    put_real(o, "tune", "rope_high", c->rope_high);
}

// ---- writing the tokenizer --------------------------------------------------------------------------------

// A token that has no text: it only fills the embedding.
static bool unused(const Tokenizer *t, int32_t id) {
    return id >= (int32_t)t->vocab || t->start[id + 1] == t->start[id];
}

// Spells token id; returns how many bytes that are, at most three for each of its own, or 16.
static size_t spell(const Tokenizer *t, int32_t id, char *out) {
    if (unused(t, id)) return (size_t)sprintf(out, "[PAD%ld]", (long)id);
    size_t n, k = 0;
    const uint8_t *s = tokenizer_decode(t, id, &n);
    if (t->flag[id] == TOKEN_BYTE) return (size_t)sprintf(out, "<0x%02X>", (unsigned)s[0]);
    if (t->flag[id] == TOKEN_SPECIAL) {
        memcpy(out, s, n);
        return n;
    }
    if (t->kind != TOK_SCORED) {
        bytes_spell(out, s, n);
        return strlen(out);
    }
    for (size_t i = 0; i < n; i++) {
        if (s[i] == ' ') memcpy(out + k, UNDERLINE, 3), k += 3;
        else out[k++] = (char)s[i];
    }
    return k;
}

static void put_tokens(Out *o) {
    static const int32_t OF[] = {IS_NORMAL, IS_CONTROL, IS_BYTE};         // by flag
    const Tokenizer *t = &o->m->tok;
    int32_t V = o->m->cfg.vocab;
    put_array(o, VOCAB, "tokens", STRING, (size_t)V);
    for (int32_t i = 0; i < V; i++) put_text(o, o->spelt, spell(t, i, o->spelt));
    put_array(o, VOCAB, "token_type", I32, (size_t)V);
    for (int32_t i = 0; i < V; i++) put_number(o, (uint64_t)(unused(t, i) ? IS_UNUSED : OF[t->flag[i]]), 4);
}

static void put_merges(Out *o) {
    put_array(o, VOCAB, "merges", STRING, o->m->tok.merges);
    for (uint32_t i = 0; i < o->m->tok.merges; i++) {
        size_t n = spell(&o->m->tok, o->merge[i].left, o->spelt);
        o->spelt[n++] = ' ';
        put_text(o, o->spelt, n + spell(&o->m->tok, o->merge[i].right, o->spelt + n));
    }
}

static void put_scores(Out *o) {
    put_array(o, VOCAB, "scores", F32, (size_t)o->m->cfg.vocab);
    for (int32_t i = 0; i < o->m->cfg.vocab; i++) put_number(o, bits_of(o->score[i]), 4);
}

static void put_tokenizer(Out *o) {
    const Tokenizer *t = &o->m->tok;
    const char *jinja = o->m->template ? jinja_for(o->m->template) : NULL;
    size_t i = 0;
    if (jinja) put_word(o, "tokenizer", "chat_template", jinja);
    put_word(o, VOCAB, "model", t->kind == TOK_NONE ? "none" : t->kind == TOK_SCORED ? "llama" : "gpt2");
    if (t->kind == TOK_NONE) return;
    while (i < PRES && PRE[i].kind != t->kind) i++;
    put_word(o, VOCAB, "pre", i < PRES ? PRE[i].pre : "default");
    put_tokens(o);
    if (t->kind != TOK_SCORED) put_merges(o);
    else put_scores(o);
    if (t->eot >= 0) put_whole(o, VOCAB, "eos_token_id", t->eot);
    if (t->bos >= 0) put_whole(o, VOCAB, "bos_token_id", t->bos);
    put_bool(o, VOCAB, "add_bos_token", t->bos >= 0);
    put_bool(o, VOCAB, "add_space_prefix", t->add_space);
}

static int by_rank(const void *a, const void *b) {
    const Merge *x = a, *y = b;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

static int by_pair(const void *a, const void *b) {
    const Merge *x = a, *y = b;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    return (x->right > y->right) - (x->right < y->right);
}

static int by_text(const void *a, const void *b) {
    const Bytes *x = a, *y = b;
    int order = memcmp(x->s, y->s, x->n < y->n ? x->n : y->n);
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

// Programs find tokens by their spelling: no two may have the same.
static int spellings_check(const Out *o) {
    const Tokenizer *t = &o->m->tok;
    size_t V = (size_t)o->m->cfg.vocab, n = 0;
    Bytes *text = calloc(V, sizeof *text);
    char *all = malloc(3 * (size_t)t->start[t->vocab] + 16 * V + 1);
    int rc = text && all ? 0 : err_set(o->e, "tokenizer: out of memory");
    for (size_t i = 0; i < V && !rc; i++) {
        text[i] = (Bytes){(uint8_t *)all + n, spell(t, (int32_t)i, all + n)};
        n += text[i].n;
    }
    if (!rc) qsort(text, V, sizeof *text, by_text);
    for (size_t i = 1; i < V && !rc; i++)
        if (by_text(&text[i - 1], &text[i]) == 0)
            rc = err_set(o->e, "tokenizer: two tokens are spelt %.*s, which GGUF cannot hold", SHOW(text[i]));
    free(text);
    free(all);
    return rc;
}

// A vocabulary with scores has no list of merges: a token's score is minus the least rank that makes it.
// Do the merges that a reader finds from the scores come in the order of ours?
static int scores_check(const Out *o) {
    const Tokenizer *t = &o->m->tok;
    Import back = {0};
    int rc = vocab_begin(&back, TOK_SCORED, t->vocab, 0, t->start[t->vocab], o->e);
    for (uint32_t i = 0; i < t->vocab && !rc; i++)
        rc = vocab_token(&back, t->bytes + t->start[i], t->start[i + 1] - t->start[i], t->flag[i], o->e);
    if (!rc) rc = vocab_scores(&back, o->score, "tokenizer", o->e);
    bool same = !rc && back.tok.merges == t->merges;
    if (same) {                                   // theirs gets our ranks, ours their order
        qsort(back.merge, t->merges, sizeof *back.merge, by_pair);
        qsort(o->merge, t->merges, sizeof *o->merge, by_pair);
    }
    for (uint32_t i = 0; same && i < t->merges; i++) {
        same = by_pair(&back.merge[i], &o->merge[i]) == 0;
        back.merge[i].left = (int32_t)back.merge[i].rank;
        back.merge[i].rank = o->merge[i].rank;
    }
    if (same) qsort(back.merge, t->merges, sizeof *back.merge, by_rank);
    for (uint32_t i = 1; same && i < t->merges; i++) {
        const Merge *a = &back.merge[i - 1], *b = &back.merge[i];
        same = a->rank == b->rank || a->result == b->result ? a->left == b->left : a->left < b->left;
    }
    import_free(&back);
    if (rc || same) return rc;
    return err_set(o->e, "tokenizer: its merges are in no order that scores of tokens give, as GGUF wants");
}

// Room for spelling, and merges and scores in the order in which they are written.
static int tokenizer_prepare(Out *o) {
    const Tokenizer *t = &o->m->tok;
    size_t longest = 16;
    for (uint32_t i = 0; i < t->vocab; i++)
        if (t->start[i + 1] - t->start[i] > longest) longest = t->start[i + 1] - t->start[i];
    o->spelt = malloc(6 * longest + 2);
    o->merge = calloc((size_t)t->merges + 1, sizeof *o->merge);
    o->score = calloc((size_t)o->m->cfg.vocab, sizeof *o->score);
    if (!o->spelt || !o->merge || !o->score) return err_set(o->e, "tokenizer: out of memory");
    if (t->kind == TOK_NONE) return 0;
    if (t->vocab > (uint32_t)o->m->cfg.vocab)
        return err_set(o->e, "tokenizer: %lu tokens, want at most the model's %ld", (unsigned long)t->vocab,
                       (long)o->m->cfg.vocab);
    memcpy(o->merge, t->merge, t->merges * sizeof *o->merge);
    qsort(o->merge, t->merges, sizeof *o->merge, by_rank);
    for (uint32_t i = t->merges; i-- > 0;) o->score[o->merge[i].result] = -(float)o->merge[i].rank;
    for (uint32_t i = 1; i < t->merges && t->kind != TOK_SCORED; i++)
        if (o->merge[i].rank == o->merge[i - 1].rank)
            return err_set(o->e, "tokenizer: two merges of rank %lu, which GGUF cannot hold",
                           (unsigned long)o->merge[i].rank);
    if (t->kind == TOK_SCORED && scores_check(o)) return -1;
    return spellings_check(o);
}

// ---- writing the tensors ----------------------------------------------------------------------------------

// Norms, biases and positions stay F32, as llama.cpp wants them.
static uint32_t type_for(const Named *row, Stored as) {
    static const uint32_t OF[] = {TYPE_F32, TYPE_F16, TYPE_BF16, TYPE_Q8_0};      // by Stored
    return named_vector(row) || row->where == offsetof(Params, wpe) ? TYPE_F32 : OF[as];
}

static size_t bytes_for(size_t n, uint32_t type) { return n / TYPE[type].count * TYPE[type].bytes; }

static void put_entry(Out *o, const char *name, size_t in, size_t out, bool vector, uint32_t type,
                      size_t *offset) {
    put_text(o, name, strlen(name));
    put_number(o, vector ? 1 : 2, 4);
    put_number(o, in, 8);
    if (!vector) put_number(o, out, 8);
    put_number(o, type, 4);
    put_number(o, *offset, 8);
    *offset += bytes_for(in * out, type);
    *offset += padding(*offset, ALIGN);
    o->tensors++;
}

// 32 numbers: the largest becomes 127 or -127, as in ggml.
static void block_write(uint8_t *p, const float *x) {
    float most = 0.0f;
    for (int i = 0; i < BLOCK; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    float d = most / 127.0f, scale = d > 1e-37f ? 1.0f / d : 0.0f;
    uint32_t half = f16_round(d);
    p[0] = (uint8_t)half;
    p[1] = (uint8_t)(half >> 8);
    for (int i = 0; i < BLOCK; i++) p[2 + i] = (uint8_t)(int8_t)roundf(x[i] * scale);
}

// n numbers into out; false if one is too large for half precision.
static bool numbers_write(uint8_t *out, const float *x, size_t n, uint32_t type) {
    bool fits = true;
    for (size_t i = 0; i < n; i += TYPE[type].count, out += TYPE[type].bytes) {
        uint32_t bits = bits_of(x[i]);
        if (type == TYPE_Q8_0) block_write(out, x + i);
        else if (type != TYPE_F32) bits = type == TYPE_BF16 ? bf16_round(x[i]) : f16_round(x[i]);
        for (int k = 0; k < TYPE[type].bytes && type != TYPE_Q8_0; k++) out[k] = (uint8_t)(bits >> 8 * k);
        if (type == TYPE_F16 || type == TYPE_Q8_0) fits = fits && (u16_at(out) & 0x7c00) != 0x7c00;
    }
    return fits;
}

static void put_data(Out *o, const char *name, const float *x, size_t n, uint32_t type) {
    uint8_t piece[4 * 4096];
    for (size_t i = 0; i < n && !o->failed; i += 4096) {
        size_t k = n - i < 4096 ? n - i : 4096;
        if (!numbers_write(piece, x + i, k, type))
            o->failed = err_set(o->e, "tensor %s: a number is too large for %s, want at most 65504%s", name,
                                TYPE_NAME[type], type == TYPE_Q8_0 ? " x 127" : "");
        put(o, piece, bytes_for(k, type));
    }
    put_padding(o);
}

// The entries of all tensors, or their numbers.
static void put_tensors(Out *o, bool data) {
    const Config *c = &o->m->cfg;
    size_t offset = 0, out, in, half = (size_t)c->head_size / 2;
    for (int row = 0; row < NAMED_ROWS; row++) {
        const Named *n = &NAMED[row];
        const char *mark = strchr(n->gguf, '#');
        if (!named_here(n, c)) continue;
        named_shape(n, c, &out, &in);
        for (size_t l = 0; l < (mark ? (size_t)c->layers : 1); l++) {
            char name[NAME_MAX_BYTES + 1];
            if (mark) snprintf(name, sizeof name, "%.*s%zu%s", (int)(mark - n->gguf), n->gguf, l, mark + 1);
            else snprintf(name, sizeof name, "%s", n->gguf);
            const float *x = same_order(n) ? params_at(&o->m->w, n->where) : o->x;
            if (data && x == o->x) named_get(n, c, &o->m->w, l, o->x, false, paired(o->family));
            if (data) put_data(o, name, x, out * in, type_for(n, o->as));
            else put_entry(o, name, in, out, named_vector(n), type_for(n, o->as), &offset);
        }
    }
    if (!c->rope || !c->rope_context) return;
    for (int32_t i = 0; i < (int32_t)half; i++) o->x[i] = (float)pair_factor(c, i);
    if (data) put_data(o, "rope_freqs.weight", o->x, half, TYPE_F32);
    else put_entry(o, "rope_freqs.weight", half, 1, true, TYPE_F32, &offset);
}

// Room for one tensor; can all be stored as asked?
static int tensors_prepare(Out *o) {
    const Config *c = &o->m->cfg;
    size_t most = (size_t)c->head_size, out, in;
    for (int row = 0; row < NAMED_ROWS; row++) {
        const Named *n = &NAMED[row];
        if (!named_here(n, c)) continue;
        named_shape(n, c, &out, &in);
        if (in % TYPE[type_for(n, o->as)].count)
            return err_set(o->e, "tensor %s: rows of %zu numbers, want a multiple of %d for q8_0\n"
                           "hint: --dtype f16", n->gguf, in, BLOCK);
        if (!same_order(n) && out * in > most) most = out * in;
    }
    o->x = malloc(most * sizeof *o->x);
    return o->x ? 0 : err_set(o->e, "out of memory");
}

static void put_keys(Out *o) {
    put_architecture(o);
    put_tokenizer(o);
}

static void put_file(Out *o) {
    Out count = *o;
    count.to = NULL;
    put_keys(&count);
    put_tensors(&count, false);
    put(o, "GGUF", 4);
    put_number(o, VERSION, 4);
    put_number(o, count.tensors, 8);
    put_number(o, count.keys, 8);
    put_keys(o);
    put_tensors(o, false);
    put_padding(o);
    put_tensors(o, true);
}

// One file, whole or not at all. Refuses what is in no family of GGUF's, and a tokenizer that it cannot hold.
int gguf_write(const Import *m, const char *path, Stored as, Err *e) {
    Out o = {.m = m, .as = as, .e = e};
    int rc = -1;
    if (family_of(&m->cfg, &o.family, e) || import_check(m, path, e)) goto out;
    if (tokenizer_prepare(&o) || tensors_prepare(&o) || !(o.to = writer_open(path, e))) goto out;
    put_file(&o);
    rc = writer_close(o.to, !o.failed, e) || o.failed ? -1 : 0;
out:
    free(o.merge);
    free(o.score);
    free(o.spelt);
    free(o.x);
    return rc;
}

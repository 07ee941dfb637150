// import.c -- what the parts of convert share: a model in memory, the names of its tensors, vocabularies.
// It knows no format: hf.c, gguf.c and llama2c.c do, and meet here.
//
// Read in this order: numbers in files -> Import -> NAMED, the one table of names -> named_put, named_get,
// which turn their matrices into ours and back -> vocabularies.
// Callers bound every count by the size of its file before they ask for memory here.
#include "convert.h"
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- numbers in files -------------------------------------------------------------------------------------
bool mul_ok(size_t a, size_t b, size_t *out) {
    if (a != 0 && b > SIZE_MAX / a) return false;
    *out = a * b;
    return true;
}

uint32_t u32_at(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint64_t u64_at(const uint8_t *p) { return u32_at(p) | (uint64_t)u32_at(p + 4) << 32; }

float f32_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

// Half precision: 1 sign, 5 exponent, 10 fraction bits. Exponent 0: fraction * 2^-24; 31: infinity or NaN.
float f16_of(uint32_t half) {
    uint32_t sign = (half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 0x3ff;
    if (exponent == 31) return f32_of(sign | 0x7f800000 | fraction << 13);
    if (exponent > 0) return f32_of(sign | (exponent + 112) << 23 | fraction << 13);
    float x = (float)fraction * 0x1p-24f;
    return sign ? -x : x;
}

// What lies beyond 65504 becomes infinity: who writes halves checks for it.
uint32_t f16_round(float x) {
    uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, a = bits & 0x7fffffff;
    if (a > 0x7f800000) return sign | 0x7e00;                     // NaN
    if (a >= 0x477ff000) return sign | 0x7c00;                    // 65520: nearer to 2^16 than to 65504
    // Below 2^-14 the unit is 2^-24, that of a float in [1/2, 1): adding 1/2 rounds to it.
    if (a < 0x38800000) return sign | (bits_of(f32_of(a) + 0.5f) - 0x3f000000);
    return sign | ((a - 0x38000000 + 0xfff + (a >> 13 & 1)) >> 13);
}

uint32_t bf16_round(float x) {
    uint32_t bits = bits_of(x);
    if ((bits & 0x7fffffff) > 0x7f800000) return bits >> 16 | 0x40;      // NaN stays one
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// ---- a model on its way -----------------------------------------------------------------------------------
int import_weights(Import *m, Err *e) {
    size_t bytes;
    if (!mul_ok(model_params(&m->cfg), sizeof(float), &bytes))
        return err_set(e, "weights: more bytes than this machine can address");
    if (!(m->weights = block_alloc(bytes, e))) return -1;
    float *at = m->weights;
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&m->cfg, i);
        float *x = t.size ? at : NULL;
        memcpy((char *)&m->w + t.where, &x, sizeof x);
        at += t.size;
    }
    return 0;
}

// A model with infinite or undefined weights cannot be used; more likely the file is not what it seems.
int import_check(const Import *m, const char *path, Err *e) {
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&m->cfg, i);
        const float *x = tensor_data(&m->w, &t);
        for (size_t k = 0; k < t.size; k++)
            if (!isfinite(x[k]))
                return err_set(e, "%s: %s[%zu] = %g, want a finite number", path, t.name, k, (double)x[k]);
    }
    return 0;
}

int import_say(Import *m, const char *what, const char *text, Err *e) {
    size_t n = m->lineage ? strlen(m->lineage) : 0, more = strlen(what) + strlen(text) + 2;
    char *line = realloc(m->lineage, n + more);
    if (!line) return err_set(e, "out of memory");
    snprintf(line + n, more, "%s%s\n", what, text);
    m->lineage = line;
    return 0;
}

int import_read(Import *m, const char *path, const char *what, size_t limit, uint8_t **data, size_t *n,
                Err *e) {
    Sha256 s;
    char hex[65];
    if (file_read(path, limit, data, n, e)) return -1;
    sha256_init(&s);
    sha256_add(&s, *data, *n);
    sha256_end(&s, hex);
    return import_say(m, what, hex, e);
}

void import_free(Import *m) {
    block_free(m->weights);
    block_free(m->index);
    free(m->bytes);
    free(m->flag);
    free(m->start);
    free(m->merge);
    free(m->words);
    free(m->template);
    free(m->lineage);
    checkpoint_close(&m->from);
    memset(m, 0, sizeof *m);
}

// ---- families ---------------------------------------------------------------------------------------------
const char *const FAMILY_NAME[FAMILIES] = {"gpt2", "llama", "qwen2", "qwen3"};

Family family_find(const char *name) {
    Family f = 0;
    while (f < FAMILIES && strcmp(name, FAMILY_NAME[f]) != 0) f++;
    return f;
}

int family_of(const Config *c, Family *f, Err *e) {
    int llama = c->rms + c->rope + c->swiglu;     // of these marks GPT-2 has none, the others have all
    const char *why = NULL;
    *f = llama == 0 ? FAMILY_GPT2 : c->qk_norm ? FAMILY_QWEN3 : c->qkv_bias ? FAMILY_QWEN2 : FAMILY_LLAMA;
    if (llama > 0 && llama < 3) why = "some but not all of RMSNorm, rotary positions, SwiGLU";
    else if (llama == 3 && c->bias) why = "RMSNorm and a bias on every linear layer";
    else if (llama == 3 && c->qk_norm && c->qkv_bias) why = "biases on q, k, v and norms of q, k";
    else if (llama == 0 && !c->bias) why = "LayerNorm without a bias on every linear layer";
    else if (llama == 0 && c->qk_norm) why = "LayerNorm and norms of q, k";
    else if (llama == 0 && (c->kv_heads != c->heads || c->heads * c->head_size != c->width))
        why = "LayerNorm and heads that are shared or do not make up the width";
    if (!why) return 0;
    return err_set(e, "architecture: %s, want that of one of gpt2, llama, qwen2, qwen3", why);
}

// ---- names ------------------------------------------------------------------------------------------------
#define AT(field) offsetof(Params, field)
enum { G = 1 << FAMILY_GPT2, Q2 = 1 << FAMILY_QWEN2, Q3 = 1 << FAMILY_QWEN3 };
enum { ROPED = 1 << FAMILY_LLAMA | Q2 | Q3 };
#define H "transformer.h.#."
#define M "model.layers.#."
#define K "blk.#."
const Named NAMED[] = {               // the order in which they are written
    {G,     "transformer.wte.weight",      "token_embd.weight",    AT(wte),   ALL_COLUMNS},
    {G,     "transformer.wpe.weight",      "position_embd.weight", AT(wpe),   ALL_COLUMNS},
    {G,     H "ln_1.weight",               K "attn_norm.weight",   AT(ln1w),  ALL_COLUMNS},
    {G,     H "ln_1.bias",                 K "attn_norm.bias",     AT(ln1b),  ALL_COLUMNS},
    {G,     H "attn.c_attn.weight",        K "attn_qkv.weight",    AT(qkvw),  ALL_COLUMNS},
    {G,     H "attn.c_attn.bias",          K "attn_qkv.bias",      AT(qkvb),  ALL_COLUMNS},
    {G,     H "attn.c_proj.weight",        K "attn_output.weight", AT(projw), ALL_COLUMNS},
    {G,     H "attn.c_proj.bias",          K "attn_output.bias",   AT(projb), ALL_COLUMNS},
    {G,     H "ln_2.weight",               K "ffn_norm.weight",    AT(ln2w),  ALL_COLUMNS},
    {G,     H "ln_2.bias",                 K "ffn_norm.bias",      AT(ln2b),  ALL_COLUMNS},
    {G,     H "mlp.c_fc.weight",           K "ffn_up.weight",      AT(fc1w),  ALL_COLUMNS},
    {G,     H "mlp.c_fc.bias",             K "ffn_up.bias",        AT(fc1b),  ALL_COLUMNS},
    {G,     H "mlp.c_proj.weight",         K "ffn_down.weight",    AT(fc2w),  ALL_COLUMNS},
    {G,     H "mlp.c_proj.bias",           K "ffn_down.bias",      AT(fc2b),  ALL_COLUMNS},
    {G,     "transformer.ln_f.weight",     "output_norm.weight",   AT(lnfw),  ALL_COLUMNS},
    {G,     "transformer.ln_f.bias",       "output_norm.bias",     AT(lnfb),  ALL_COLUMNS},
    {ROPED, "model.embed_tokens.weight",   "token_embd.weight",    AT(wte),   ALL_COLUMNS},
    {ROPED, M "input_layernorm.weight",    K "attn_norm.weight",   AT(ln1w),  ALL_COLUMNS},
    {ROPED, M "self_attn.q_proj.weight",   K "attn_q.weight",      AT(qkvw),  Q_COLUMNS},
    {ROPED, M "self_attn.k_proj.weight",   K "attn_k.weight",      AT(qkvw),  K_COLUMNS},
    {ROPED, M "self_attn.v_proj.weight",   K "attn_v.weight",      AT(qkvw),  V_COLUMNS},
    {Q2,    M "self_attn.q_proj.bias",     K "attn_q.bias",        AT(qkvb),  Q_COLUMNS},
    {Q2,    M "self_attn.k_proj.bias",     K "attn_k.bias",        AT(qkvb),  K_COLUMNS},
    {Q2,    M "self_attn.v_proj.bias",     K "attn_v.bias",        AT(qkvb),  V_COLUMNS},
    {Q3,    M "self_attn.q_norm.weight",   K "attn_q_norm.weight", AT(qnw),   ALL_COLUMNS},
    {Q3,    M "self_attn.k_norm.weight",   K "attn_k_norm.weight", AT(knw),   ALL_COLUMNS},
    {ROPED, M "self_attn.o_proj.weight",   K "attn_output.weight", AT(projw), ALL_COLUMNS},
    {ROPED, M "post_attention_layernorm.weight", K "ffn_norm.weight", AT(ln2w), ALL_COLUMNS},
    {ROPED, M "mlp.gate_proj.weight",      K "ffn_gate.weight",    AT(fc1w),  GATE_COLUMNS},
    {ROPED, M "mlp.up_proj.weight",        K "ffn_up.weight",      AT(fc1w),  UP_COLUMNS},
    {ROPED, M "mlp.down_proj.weight",      K "ffn_down.weight",    AT(fc2w),  ALL_COLUMNS},
    {ROPED, "model.norm.weight",           "output_norm.weight",   AT(lnfw),  ALL_COLUMNS},
    {G | ROPED, "lm_head.weight",          "output.weight",        AT(head),  ALL_COLUMNS},
};
const int NAMED_ROWS = sizeof NAMED / sizeof NAMED[0];
#undef H
#undef M
#undef K

static Tensor tensor_of(const Named *n, const Config *c) {
    int i = 0;
    while (model_tensor(c, i).where != n->where) i++;
    return model_tensor(c, i);
}

bool named_here(const Named *n, const Config *c) {
    return (n->families & (c->rope ? ROPED : G)) != 0 && tensor_of(n, c).size > 0;
}

bool named_vector(const Named *n) {   // what no weight decay pulls on
    Config any = {.vocab = 1};
    return !tensor_of(n, &any).decay;
}

bool named_bias(const Named *n) {
    size_t len = strlen(n->hf);
    return len > 5 && strcmp(n->hf + len - 5, ".bias") == 0;
}

// Embeddings and head: a row for each token, as ours.
static bool is_rows(const Named *n) {
    return n->where == AT(wte) || n->where == AT(wpe) || n->where == AT(head);
}

// Which columns of ours the tensor is: *count from *first.
static void columns(const Named *n, const Config *c, size_t *first, size_t *count) {
    Tensor t = tensor_of(n, c);
    size_t A = (size_t)c->heads * (size_t)c->head_size, KV = (size_t)c->kv_heads * (size_t)c->head_size;
    size_t F = (size_t)c->hidden, all = t.dim[t.stacked + !named_vector(n)];
    const size_t from[] = {0, 0, A, A + KV, 0, F}, of[] = {all, A, KV, KV, F, F};     // by Part
    *first = from[n->part];
    *count = of[n->part];
}

void named_shape(const Named *n, const Config *c, size_t *out, size_t *in) {
    size_t first;
    Tensor t = tensor_of(n, c);
    columns(n, c, &first, named_vector(n) ? in : out);
    if (named_vector(n)) *out = 1;
    else *in = t.dim[t.stacked];
    if (is_rows(n)) *out = t.dim[0], *in = t.dim[1];
}

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

// Hugging Face's models without a head were saved without the first part of the names.
int named_find(const char *name, bool gguf, Family f, size_t layers, size_t *layer) {
    for (int i = 0; i < NAMED_ROWS; i++) {
        const char *pattern = gguf ? NAMED[i].gguf : NAMED[i].hf;
        bool bare = !gguf && NAMED[i].where != AT(head);
        if ((NAMED[i].families & 1u << f) == 0) continue;
        if (name_match(pattern, name, layers, layer)) return i;
        if (bare && name_match(strchr(pattern, '.') + 1, name, layers, layer)) return i;
    }
    return -1;
}

// Rotary frequencies and causal masks, which older versions of transformers saved.
bool named_ignored(const char *name, Family f) {
    static const char *const gpt2[] = {"h.#.attn.bias", "h.#.attn.masked_bias"};
    static const char *const roped[] = {"layers.#.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"};
    const char *prefix = f == FAMILY_GPT2 ? "transformer." : "model.";
    size_t n = strlen(prefix), layer;
    if (strncmp(name, prefix, n) == 0) name += n;
    for (int i = 0; i < 2; i++)
        if (name_match(f == FAMILY_GPT2 ? gpt2[i] : roped[i], name, SIZE_MAX / 16, &layer)) return true;
    return false;
}

// ---- their matrices and ours ------------------------------------------------------------------------------

// Column o of a head whose neighbours 2i, 2i+1 are turned together becomes i or i + HS/2.
static size_t unpaired(size_t o, size_t HS) {
    size_t j = o % HS;
    return o - j + j / 2 + j % 2 * (HS / 2);
}

bool named_is_straight(const Named *n, bool input_major) {
    return is_rows(n) || (n->part == ALL_COLUMNS && (input_major || named_vector(n)));
}

float *named_straight(const Named *n, const Config *c, const Params *w, size_t layer, bool input_major) {
    Tensor t = tensor_of(n, c);
    if (!named_is_straight(n, input_major)) return NULL;
    return tensor_data(w, &t) + (t.stacked ? layer * (t.size / t.dim[0]) : 0);
}

// One function for both directions, so that they cannot disagree. put: ours = theirs, else theirs = ours.
static void named_move(const Named *n, const Config *c, const Params *w, size_t layer, float *theirs,
                       bool put, bool input_major, bool paired) {
    Tensor t = tensor_of(n, c);
    size_t all = t.dim[t.stacked + !named_vector(n)], HS = (size_t)c->head_size;
    size_t first = 0, count = 0, out = 0, in = 0;
    float *ours = tensor_data(w, &t) + (t.stacked ? layer * (t.size / t.dim[0]) : 0);
    named_shape(n, c, &out, &in);
    columns(n, c, &first, &count);
    if (is_rows(n)) {                             // one long vector
        all = count = out * in;
        first = 0;
        in = 1;
    }
    if (named_vector(n)) in = 1;
    bool turned = paired && (n->part == Q_COLUMNS || n->part == K_COLUMNS);
    for (size_t block = 0; block < count; block += 16)      // 16 columns: one line of the cache
        for (size_t i = 0; i < in; i++)
            for (size_t o = block; o < count && o < block + 16; o++) {
                float *a = ours + i * all + first + (turned ? unpaired(o, HS) : o);
                float *b = theirs + (input_major ? i * count + o : o * in + i);
                if (put) *a = *b;
                else *b = *a;
            }
}

void named_put(const Named *n, const Config *c, const Params *w, size_t layer, const float *x,
               bool input_major, bool paired) {
    named_move(n, c, w, layer, (float *)(uintptr_t)x, true, input_major, paired);
}

void named_get(const Named *n, const Config *c, const Params *w, size_t layer, float *x, bool input_major,
               bool paired) {
    named_move(n, c, w, layer, x, false, input_major, paired);
}

// ---- vocabularies -----------------------------------------------------------------------------------------
int vocab_begin(Import *m, TokKind kind, uint32_t tokens, uint32_t merges, size_t bytes, Err *e) {
    assert(!m->bytes);
    m->bytes = malloc(bytes + 1);
    m->flag = malloc((size_t)tokens + 1);
    m->start = calloc((size_t)tokens + 1, sizeof *m->start);
    m->merge = calloc((size_t)merges + 1, sizeof *m->merge);
    if (!m->bytes || !m->flag || !m->start || !m->merge) return err_set(e, "tokenizer: out of memory");
    m->bytes_room = bytes;
    m->tokens_room = tokens;
    m->merges_room = merges;
    m->tok = (Tokenizer){.kind = kind, .eot = -1, .bos = -1, .bytes = m->bytes, .start = m->start,
                         .flag = m->flag, .merge = m->merge};
    return 0;
}

int vocab_token(Import *m, const uint8_t *bytes, size_t n, uint8_t flag, Err *e) {
    uint32_t id = m->tok.vocab, at = m->start[id];
    if (id == m->tokens_room || n > m->bytes_room - at || n > UINT32_MAX - at)
        return err_set(e, "tokenizer: token %lu of %zu bytes, want at most %lu tokens of %zu bytes",
                       (unsigned long)id, n, (unsigned long)m->tokens_room, m->bytes_room);
    memcpy(m->bytes + at, bytes, n);
    m->start[id + 1] = at + (uint32_t)n;
    m->flag[id] = flag;
    m->tok.vocab = id + 1;
    return 0;
}

// The printable characters of Latin-1 stand for themselves; the other 68 bytes, in order, for U+0100 and on.
static bool spelt_as_itself(uint32_t byte) {
    return (byte > 32 && byte < 127) || (byte > 160 && byte < 256 && byte != 173);
}

static uint32_t spelling(uint8_t byte) {
    if (spelt_as_itself(byte)) return byte;
    return 256 + (uint32_t)(byte < 127 ? byte : byte < 173 ? byte - 127 + 33 : 67);
}

int64_t bytes_unspell(uint8_t *out, const char *text, size_t n) {
    const uint8_t *p = (const uint8_t *)text;
    int64_t count = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t code = p[i];
        if (code >= 0xC2 && code < 0xC6 && n - i > 1 && (p[i + 1] & 0xC0) == 0x80)
            code = (code & 31) << 6 | (p[++i] & 63u);
        else if (code > 127) return -1;
        if (code < 256 ? !spelt_as_itself(code) : code >= 256 + 68) return -1;
        if (code >= 256) code -= 256, code = code < 33 ? code : code < 67 ? code - 33 + 127 : 173;
        out[count++] = (uint8_t)code;
    }
    return count;
}

void bytes_spell(char *out, const uint8_t *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t code = spelling(bytes[i]);
        if (code < 128) { *out++ = (char)code; continue; }
        *out++ = (char)(0xC0 | code >> 6);
        *out++ = (char)(0x80 | (code & 63));
    }
    *out = 0;
}

// ---- merges -----------------------------------------------------------------------------------------------
// Sorted words find a token by its bytes in log n steps, whatever they are: no hash that a file could spoil.
typedef struct { const uint8_t *s; size_t n; int32_t id; } Word;

static int word_order(const void *a, const void *b) {
    const Word *x = a, *y = b;
    int order = memcmp(x->s, y->s, x->n < y->n ? x->n : y->n);
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

// m->words: all normal tokens, sorted. They must differ.
static int words_make(Import *m, Err *e) {
    if (m->words) return 0;
    Word *word = m->words = calloc((size_t)m->tok.vocab + 1, sizeof *word);
    size_t n = 0;
    if (!word) return err_set(e, "tokenizer: out of memory");
    for (uint32_t i = 0; i < m->tok.vocab; i++)
        if (m->flag[i] == TOKEN_NORMAL)
            word[n++] = (Word){m->bytes + m->start[i], m->start[i + 1] - m->start[i], (int32_t)i};
    qsort(word, n, sizeof *word, word_order);
    m->word_count = n;
    for (size_t i = 1; i < n; i++)
        if (word_order(&word[i - 1], &word[i]) == 0)
            return err_set(e, "tokenizer: tokens %ld and %ld are the same, want each once",
                           (long)word[i - 1].id, (long)word[i].id);
    return 0;
}

static int32_t word_find(const Import *m, const uint8_t *s, size_t n) {       // -1: no such token
    Word key = {s, n, 0};
    const Word *w = bsearch(&key, m->words, m->word_count, sizeof key, word_order);
    return w ? w->id : -1;
}

int vocab_merge(Import *m, const uint8_t *left, size_t n, const uint8_t *right, size_t k, Err *e) {
    uint32_t at = m->tok.merges;
    uint8_t small[256], *both = small;
    if (words_make(m, e)) return -1;
    if (at == m->merges_room) return err_set(e, "tokenizer: more than %lu merges", (unsigned long)at);
    if (n > m->bytes_room || k > m->bytes_room - n)
        return err_set(e, "tokenizer: merge %lu: longer than the tokens", (unsigned long)at);
    if (n + k > sizeof small && !(both = malloc(n + k))) return err_set(e, "tokenizer: out of memory");
    memcpy(both, left, n);
    memcpy(both + n, right, k);
    Merge *g = &m->merge[at];
    *g = (Merge){word_find(m, left, n), word_find(m, right, k), word_find(m, both, n + k), at};
    if (both != small) free(both);
    if (g->left < 0 || g->right < 0 || g->result < 0)
        return err_set(e, "tokenizer: merge %lu: its %s is not among the tokens", (unsigned long)at,
                       g->left < 0 ? "left part" : g->right < 0 ? "right part" : "result");
    m->tok.merges++;
    return 0;
}

// The pair is merged first whose result has the highest score, of equals the leftmost: these share a rank.
typedef struct { Merge merge; float score; } Scored;
static int scored_order(const void *a, const void *b) {
    const Scored *x = a, *y = b;
    if (x->score > y->score || x->score < y->score) return x->score > y->score ? -1 : 1;
    if (x->merge.result != y->merge.result) return x->merge.result < y->merge.result ? -1 : 1;
    return (x->merge.left > y->merge.left) - (x->merge.left < y->merge.left);
}

enum { PIECE_MAX = 256 };             // bytes of a token with a score: every way to cut it is looked up

// All ways to put a token together from two others. out may be NULL. How many?
static size_t merges_find(const Import *m, const float *score, Scored *out) {
    const Word *word = m->words;
    size_t count = 0;
    for (size_t i = 0; i < m->word_count; i++) {
        for (size_t k = 1; k < word[i].n; k++) {
            int32_t left = word_find(m, word[i].s, k);
            int32_t right = left < 0 ? -1 : word_find(m, word[i].s + k, word[i].n - k);
            if (right < 0) continue;
            if (out) out[count] = (Scored){{left, right, word[i].id, 0}, score[word[i].id]};
            count++;
        }
    }
    return count;
}

int vocab_scores(Import *m, const float *score, const char *path, Err *e) {
    if (words_make(m, e)) return -1;
    for (uint32_t i = 0; i < m->tok.vocab; i++)
        if (m->start[i + 1] - m->start[i] > PIECE_MAX)
            return err_set(e, "%s: token %lu of %lu bytes, want at most %d", path, (unsigned long)i,
                           (unsigned long)(m->start[i + 1] - m->start[i]), PIECE_MAX);
    size_t n = merges_find(m, score, NULL);
    Merge *merge = realloc(m->merge, (n + 1) * sizeof *merge);
    if (merge) m->tok.merge = m->merge = merge;
    Scored *scored = calloc(n + 1, sizeof *scored);
    if (!merge || !scored || n >= UINT32_MAX) {
        free(scored);
        return err_set(e, "%s: out of memory", path);
    }
    merges_find(m, score, scored);
    qsort(scored, n, sizeof *scored, scored_order);    // analyzer: the if above left, had it been NULL
    for (size_t i = 0; i < n; i++) {
        merge[i] = scored[i].merge;
        if (i > 0) merge[i].rank = merge[i - 1].rank + (scored[i].score < scored[i - 1].score);
    }
    m->merges_room = m->tok.merges = (uint32_t)n;
    free(scored);
    return 0;
}

int vocab_end(Import *m, const char *path, Err *e) {
    Fault f;
    free(m->words);
    m->words = NULL;
    if (!(m->index = block_alloc(tokenizer_index_size(m->tok.vocab, m->tok.merges), e))) return -1;
    return tokenizer_index(&m->tok, m->index, &f) ? err_fault(e, path, &f) : 0;
}

// ---- templates --------------------------------------------------------------------------------------------
int import_template(Import *m, const Ask *ask, const char *jinja, size_t n, const char *path, Err *e) {
    const char *ours = jinja && !ask->template ? jinja_known(jinja, n) : NULL;
    if (!jinja || ask->template) return 0;
    if (!ours)
        return err_set(e, "%s: the chat template, of %zu bytes, is none of those known\nhint: --template "
                       "NAME or FILE, in the form of this project; a Jinja text is never run", path, n);
    if (!(m->template = malloc(strlen(ours) + 1))) return err_set(e, "out of memory");
    memcpy(m->template, ours, strlen(ours) + 1);
    return 0;
}

// test_gguf.c -- what dev/gguf.c promises. It includes gguf.c, to reach its number formats.
// Golden numbers come from Python's package gguf, whose formats are ggml's; files come from gguf_write.
// Three kinds of tests: golden bytes; round trips; hostile files: every truncation, every number of the file
// made 0, -1, 2^31 and 2^63, with too little memory for any that would be believed.
#define _XOPEN_SOURCE 700
#include "../dev/gguf.c"
#include "run.h"
#include <check.h>
#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

// ---- a folder and a model for the test at hand ------------------------------------------------------------
static char folder[256], path[300], other[300];
static Err err;

static void setup(void) {
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/test_gguf_XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.gguf", folder);
    snprintf(other, sizeof other, "%s/b.gguf", folder);
    err.msg[0] = 0;
}

static int files_in_folder(bool remove) {
    DIR *d = opendir(folder);
    int n = 0;
    for (struct dirent *f; (f = readdir(d));) {
        char name[600];
        snprintf(name, sizeof name, "%s/%s", folder, f->d_name);
        if (f->d_name[0] == '.') continue;
        if (remove) unlink(name);
        n++;
    }
    closedir(d);
    return n;
}

static void teardown(void) {
    files_in_folder(true);
    rmdir(folder);
}

static void must_say(const char *wanted) {
    ck_assert_msg(strstr(err.msg, wanted) != NULL, "message \"%s\" lacks \"%s\"", err.msg, wanted);
    err.msg[0] = 0;
}

// One of each family, then a GPT-2 with a head of its own and a Llama with Llama 3's scaling.
#define SIZE(nh, nkv, hs, f) .vocab = 300, .context = 16, .layers = 2, .heads = nh, .kv_heads = nkv, \
                             .head_size = hs, .width = 32, .hidden = f
#define LLAMA(theta) .rms = 1, .rope = 1, .swiglu = 1, .norm_eps = 1e-6f, .rope_theta = theta
static const Config MODEL[] = {
    {SIZE(4, 4, 8, 64), .bias = 1, .tied = 1, .norm_eps = 1e-5f},
    {SIZE(4, 2, 8, 64), LLAMA(500), .tied = 1},
    {SIZE(4, 1, 8, 64), LLAMA(1e6f), .tied = 1, .qkv_bias = 1},
    {SIZE(2, 1, 32, 96), LLAMA(1e6f), .tied = 1, .qk_norm = 1},
    {SIZE(4, 4, 8, 64), .bias = 1, .norm_eps = 1e-5f},
    {SIZE(4, 2, 64, 64), LLAMA(500000), .rope_context = 8192, .rope_factor = 32, .rope_low = 1,
     .rope_high = 4},
};
enum { MODELS = sizeof MODEL / sizeof MODEL[0] };

static void add_token(Import *m, const char *text, uint8_t flag) {
    ck_assert_int_eq(vocab_token(m, (const uint8_t *)text, strlen(text), flag, &err), 0);
}

// 256 bytes, four merges, three special tokens of which one has no bytes. Fewer than the model's 300.
static void byte_level(Import *m, TokKind kind) {
    static const char *const MADE[] = {"th", "the", " t", " the"};
    static const char *const MERGE[][2] = {{"t", "h"}, {"th", "e"}, {" ", "t"}, {" ", "the"}};
    ck_assert_int_eq(vocab_begin(m, kind, 263, 4, 512, &err), 0);
    for (int i = 0; i < 256; i++) vocab_token(m, &(uint8_t){(uint8_t)i}, 1, TOKEN_NORMAL, &err);
    for (int i = 0; i < 4; i++) add_token(m, MADE[i], TOKEN_NORMAL);
    add_token(m, "", TOKEN_SPECIAL);
    add_token(m, "<|im_end|>", TOKEN_SPECIAL);
    add_token(m, "<|endoftext|>", TOKEN_SPECIAL);
    for (int i = 0; i < 4; i++) {
        const uint8_t *left = (const uint8_t *)MERGE[i][0], *right = (const uint8_t *)MERGE[i][1];
        ck_assert_int_eq(vocab_merge(m, left, strlen(MERGE[i][0]), right, strlen(MERGE[i][1]), &err), 0);
    }
    m->tok.eot = 262;
    m->tok.bos = kind == TOK_CL100K ? 261 : -1;
    ck_assert_msg(vocab_end(m, "tokenizer", &err) == 0, "%s", err.msg);
}

static void scored(Import *m) {
    static const char *const PIECE[] = {" ", "t", "h", "e", "he", "th", " t", "the", " the"};
    static const float SCORE[] = {-9, -9, -9, -9, -2, -3, -3, -4, -5};
    float score[268] = {0};
    ck_assert_int_eq(vocab_begin(m, TOK_SCORED, 268, 0, 512, &err), 0);
    add_token(m, "<unk>", TOKEN_SPECIAL);
    add_token(m, "<s>", TOKEN_SPECIAL);
    add_token(m, "</s>", TOKEN_SPECIAL);
    for (int i = 0; i < 256; i++) vocab_token(m, &(uint8_t){(uint8_t)i}, 1, TOKEN_BYTE, &err);
    for (int i = 0; i < 9; i++) add_token(m, PIECE[i], TOKEN_NORMAL);
    memcpy(score + 259, SCORE, sizeof SCORE);
    ck_assert_msg(vocab_scores(m, score, "scores", &err) == 0, "%s", err.msg);
    m->tok.eot = 2;
    m->tok.bos = 1;
    m->tok.add_space = true;
    ck_assert_msg(vocab_end(m, "tokenizer", &err) == 0, "%s", err.msg);
}

static void model_make(Import *m, const Config *c, TokKind kind) {
    Rng r = {c->head_size + c->bias};
    *m = (Import){.cfg = *c};
    ck_assert_msg(import_weights(m, &err) == 0, "%s", err.msg);
    for (size_t i = 0; i < model_params(c); i++) m->weights[i] = (float)rng_normal(&r);
    m->tok.eot = m->tok.bos = -1;
    if (kind == TOK_SCORED) scored(m);
    else if (kind != TOK_NONE) byte_level(m, kind);
}

static void write_model(const Config *c, TokKind kind, Stored as) {
    Import m;
    model_make(&m, c, kind);
    ck_assert_msg(gguf_write(&m, path, as, &err) == 0, "%s", err.msg);
    import_free(&m);
}

static int read_model(Import *m, const char *name) {
    *m = (Import){0};
    err.msg[0] = 0;
    return gguf_read(m, name, &(Ask){0}, &err);
}

static uint8_t *slurp(const char *name, size_t *n) {
    uint8_t *data;
    ck_assert_msg(file_read(name, 1 << 24, &data, n, &err) == 0, "%s", err.msg);
    return data;
}

// Bytes in the middle of a file, which is quicker than to write it anew.
static void patch(const char *name, size_t at, const void *data, size_t n) {
    FILE *f = fopen(name, "r+b");
    ck_assert(f && fseek(f, (long)at, SEEK_SET) == 0 && fwrite(data, 1, n, f) == n && fclose(f) == 0);
}

static void write_file(const char *name, const void *data, size_t n) {
    FILE *f = fopen(name, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
}

static bool same_tokenizer(const Tokenizer *a, const Tokenizer *b) {
    return a->kind == b->kind && a->vocab == b->vocab && a->merges == b->merges && a->eot == b->eot &&
           a->bos == b->bos && a->add_space == b->add_space &&
           (a->kind == TOK_NONE || (!memcmp(a->start, b->start, 4 * (a->vocab + 1)) &&
                                    !memcmp(a->bytes, b->bytes, a->start[a->vocab]) &&
                                    !memcmp(a->flag, b->flag, a->vocab) &&
                                    !memcmp(a->merge, b->merge, a->merges * sizeof *a->merge)));
}

static bool same_model(const Import *a, const Import *b) {
    return !memcmp(&a->cfg, &b->cfg, sizeof a->cfg) && same_tokenizer(&a->tok, &b->tok) &&
           !memcmp(a->weights, b->weights, model_params(&a->cfg) * sizeof(float));
}

// ---- golden numbers ---------------------------------------------------------------------------------------

// The numbers 0, 1, 15, 16, 17, 31 of a block.
static void block_is(uint32_t type, const uint8_t *block, const float want[6]) {
    static const int AT[6] = {0, 1, 15, 16, 17, 31};
    float x[BLOCK];
    numbers_read(x, block, BLOCK, type);
    for (int i = 0; i < 6; i++)
        ck_assert_msg(bits_of(x[AT[i]]) == bits_of(want[i]), "%s, %d: %a", TYPE_NAME[type], AT[i],
                      (double)x[AT[i]]);
}

START_TEST(blocks_are_read_as_ggml_reads_them) {
    static const uint8_t Q8[34] = {
        0x14, 0xa1, 0xe5, 0xf1, 0xa9, 0x41, 0x06, 0xa0, 0x95, 0x6a, 0x26, 0xaf, 0xbc, 0xcd, 0xaf, 0xe5, 0x62,
        0xf9, 0x0a, 0x94, 0x5f, 0x56, 0x93, 0xc6, 0x42, 0x27, 0x6a, 0xd5, 0xab, 0x2d, 0xa7, 0x39, 0x45, 0x51};
    static const uint8_t Q4[18] = {0x0a, 0x9d, 0xd7, 0x4c, 0x70, 0xac, 0xa1, 0xe9, 0x26,
                                   0x11, 0x59, 0x01, 0xdd, 0x06, 0xf2, 0x7f, 0x8f, 0x06};
    static const uint8_t Q41[20] = {0x51, 0x14, 0x7b, 0xac, 0xc7, 0x95, 0xca, 0x77, 0x48, 0xdc,
                                    0x03, 0xd1, 0x7a, 0x88, 0x93, 0x4d, 0x85, 0x52, 0x73, 0x57};
    static const float WANT[3][6] = {
        {0x1.1238p-2f, 0x1.30bp-3f, 0x1.1c6p-4f, -0x1.964p-4f, 0x1.1238p+0f, -0x1.9b54p-1f},
        {0x1.428p-8f, -0x1.428p-6f, 0x1.428p-7f, -0x1.932p-6f, 0x1.428p-6f, 0x1.428p-5f},
        {-0x1.0089p-4f, -0x1.092bp-4f, -0x1.0089p-4f, -0x1.d5e8p-5f, -0x1.efcep-5f, -0x1.092bp-4f}};
    block_is(TYPE_Q8_0, Q8, WANT[0]);
    block_is(TYPE_Q4_0, Q4, WANT[1]);
    block_is(TYPE_Q4_1, Q41, WANT[2]);
} END_TEST

START_TEST(halves_are_read_and_written) {
    static const uint16_t HALF[6] = {0x0001, 0x83ff, 0x0400, 0x3555, 0xfbff, 0x8000};
    static const float OF_HALF[6] = {0x1p-24f, -0x1.ff8p-15f, 0x1p-14f, 0x1.554p-2f, -0x1.ffcp+15f, -0.0f};
    static const uint16_t BRAIN[4] = {0x0001, 0x3f80, 0xc2f7, 0x7f7f};
    static const float OF_BRAIN[4] = {0x1p-133f, 1.0f, -0x1.eep+6f, 0x1.fep+127f};
    for (int i = 0; i < 10; i++) {
        bool half = i < 6;
        uint32_t bits = half ? HALF[i] : BRAIN[i - 6], type = half ? TYPE_F16 : TYPE_BF16;
        uint8_t p[2] = {(uint8_t)bits, (uint8_t)(bits >> 8)}, q[2];
        float x;
        numbers_read(&x, p, 1, type);
        ck_assert_uint_eq(bits_of(x), bits_of(half ? OF_HALF[i] : OF_BRAIN[i - 6]));
        ck_assert(numbers_write(q, &x, 1, type));
        ck_assert_mem_eq(p, q, 2);
    }
    ck_assert(!numbers_write((uint8_t[2]){0}, &(float){65520.0f}, 1, TYPE_F16));
} END_TEST

// Ties go away from zero. A scale of 1, one that is rounded, none.
START_TEST(blocks_are_written_as_ggml_writes_them) {
    static const float A[BLOCK] = {127, 0.5f, -0.5f, 1.5f, -2.5f, 2.4999f, [31] = -127};
    static const float B[BLOCK] = {-0x1.1dd6fcp-2f, -0x1.1f8eap-7f, 0x1.ab31bcp-3f, 0.5f,
                                   [13] = -0x1.829304p-1f};
    static const uint8_t WANT_A[34] = {0, 60, 127, 1, 255, 2, 253, 2, [33] = 129};
    static const uint8_t WANT_B[34] = {22, 30, 209, 255, 35, 84, [15] = 129};
    static const float ZERO[BLOCK] = {0.0f}, HUGE[BLOCK] = {3e7f};
    uint8_t got[34], none[34] = {0};
    ck_assert(numbers_write(got, A, BLOCK, TYPE_Q8_0));
    ck_assert_mem_eq(got, WANT_A, 34);
    ck_assert(numbers_write(got, B, BLOCK, TYPE_Q8_0));
    ck_assert_mem_eq(got, WANT_B, 34);
    ck_assert(numbers_write(got, ZERO, BLOCK, TYPE_Q8_0));
    ck_assert_mem_eq(got, none, 34);
    ck_assert(!numbers_write(got, HUGE, BLOCK, TYPE_Q8_0));
} END_TEST

// As torch computes it in llama.cpp's converter, for Llama 3.2.
START_TEST(scaling_is_llama_3s) {
    const Config *c = &MODEL[5];
    static const double WANT[5] = {1.0, 0x1.a6bd84p+0, 0x1.a568dep+1, 0x1.3555dcp+3, 32.0};
    for (int i = 14; i < 19; i++) ck_assert_double_eq_tol(pair_factor(c, i) / WANT[i - 14], 1.0, 1e-6);
} END_TEST

// Without our keys the four numbers come from the tensor: Llama 3's own, and others, of which low becomes 1.
START_TEST(scaling_is_found_from_the_tensor) {
    static const struct { int32_t HS, context; float factor, low, high, theta, found, found_high; }
    ROPE[] = {{64, 8192, 32, 1, 4, 500000, 8192, 4}, {128, 8192, 8, 1, 4, 500000, 8192, 4},
              {64, 4096, 4, 1, 3, 500000, 4096, 3},  {64, 2048, 16, 2, 8, 10000, 1024, 4},
              {8, 16, 8, 1, 4, 500000, 16, 4}};
    for (int i = 0; i < 5; i++) {
        Config c = MODEL[5];
        c.head_size = ROPE[i].HS;
        c.rope_context = ROPE[i].context, c.rope_factor = ROPE[i].factor, c.rope_theta = ROPE[i].theta;
        c.rope_low = ROPE[i].low, c.rope_high = ROPE[i].high;
        write_model(&c, TOK_NONE, AS_F32);
        size_t n;
        uint8_t *file = slurp(path, &n);
        for (size_t k = 0; k + 9 < n; k++)
            if (!memcmp(file + k, "tune.rope", 9)) file[k] = 'T';
        write_file(path, file, n);
        free(file);
        Import m;
        ck_assert_msg(read_model(&m, path) == 0, "%s", err.msg);
        ck_assert((float)m.cfg.rope_context == ROPE[i].found && m.cfg.rope_factor == ROPE[i].factor);
        ck_assert(m.cfg.rope_low == 1 && m.cfg.rope_high == ROPE[i].found_high);
        import_free(&m);
    }
} END_TEST

// ---- round trips ------------------------------------------------------------------------------------------

START_TEST(a_model_comes_back_as_it_was) {
    static const TokKind KIND[] = {TOK_GPT2, TOK_SCORED, TOK_QWEN2, TOK_SMOLLM, TOK_NONE, TOK_CL100K};
    Import m, back;
    const Config *c = &MODEL[_i];
    model_make(&m, c, KIND[_i]);
    ck_assert_msg(gguf_write(&m, path, AS_F32, &err) == 0, "%s", err.msg);
    ck_assert_msg(read_model(&back, path) == 0, "%s", err.msg);
    back.cfg.rope_theta = c->rope_theta;          // GPT-2 has none
    ck_assert(same_model(&m, &back));
    ck_assert(back.dtype == DTYPE_F32 && back.template == NULL);
    ck_assert_ptr_nonnull(strstr(back.lineage, "model sha256 "));
    import_free(&m);
    import_free(&back);
} END_TEST

// What was rounded once is not rounded again. A file in bf16 becomes a checkpoint in bf16, if its norms fit.
START_TEST(rounding_happens_once) {
    Import m;
    size_t n, k;
    write_model(&MODEL[_i], TOK_NONE, AS_BF16);
    ck_assert_int_eq(read_model(&m, path), 0);
    ck_assert_int_eq(m.dtype, DTYPE_F32);
    import_free(&m);
    for (Stored as = AS_F32; as <= AS_Q8_0; as++) {
        model_make(&m, &MODEL[_i], TOK_GPT2);
        n = model_params(&m.cfg);
        for (size_t i = 0; i < n; i++) m.weights[i] = f32_of(bf16_round(m.weights[i]) << 16);
        ck_assert_msg(gguf_write(&m, path, as, &err) == 0, "%s", err.msg);
        import_free(&m);
        ck_assert_msg(read_model(&m, path) == 0, "%s", err.msg);
        ck_assert_int_eq(m.dtype, as == AS_BF16 ? DTYPE_BF16 : DTYPE_F32);
        ck_assert_msg(gguf_write(&m, other, as, &err) == 0, "%s", err.msg);
        import_free(&m);
        uint8_t *a = slurp(path, &n), *b = slurp(other, &k);
        ck_assert(n == k && !memcmp(a, b, n));
        free(a);
        free(b);
    }
} END_TEST

// Where the numbers of a tensor begin in the file at path.
static size_t tensor_at(const char *name) {
    size_t n;
    uint8_t *file = slurp(path, &n);
    Gguf g = {.path = path, .file = file, .n = n};
    ck_assert_int_eq(header_read(&g, &err), 0);
    const Entry *t = entry_find(&g, name);
    ck_assert_ptr_nonnull(t);
    size_t at = (size_t)(g.data - file) + (size_t)t->offset;
    free(g.key);
    free(g.entry);
    free(file);
    return at;
}

// Row 2i+s of a head in llama's q and k is column i + s HS/2 of ours; qwen2's are not moved.
START_TEST(only_llamas_q_and_k_are_permuted) {
    for (int model = 1; model <= 2; model++) {
        const Config *c = &MODEL[model];
        Import m;
        size_t n, HS = 8, Q = (size_t)(c->heads + 2 * c->kv_heads) * HS, C = 32, A = 32;
        model_make(&m, c, TOK_NONE);
        ck_assert_msg(gguf_write(&m, path, AS_F32, &err) == 0, "%s", err.msg);
        size_t q = tensor_at("blk.1.attn_q.weight"), k = tensor_at("blk.1.attn_k.weight");
        size_t v = tensor_at("blk.1.attn_v.weight"), V = A + (size_t)c->kv_heads * HS;
        uint8_t *file = slurp(path, &n);
        const float *ours = m.w.qkvw + C * Q;     // of layer 1, (C,Q)
        for (size_t i = 0; i < HS * C; i++) {
            size_t row = i / C, to = model == 1 ? row / 2 + row % 2 * (HS / 2) : row;
            const float *mine = ours + i % C * Q;
            ck_assert_uint_eq(u32_at(file + q + 4 * (HS * C + i)), bits_of(mine[HS + to]));       // head 1
            ck_assert_uint_eq(u32_at(file + k + 4 * i), bits_of(mine[A + to]));
            ck_assert_uint_eq(u32_at(file + v + 4 * i), bits_of(mine[V + row]));
        }
        free(file);
        import_free(&m);
    }
} END_TEST

// ---- what is not written ----------------------------------------------------------------------------------

static void not_written(Import *m, Stored as, const char *wanted) {
    ck_assert_int_eq(gguf_write(m, path, as, &err), -1);
    must_say(wanted);
    ck_assert_int_eq(files_in_folder(false), 0);
    import_free(m);
}

START_TEST(what_gguf_cannot_hold_is_refused_and_leaves_no_file) {
    Import m;
    Config odd = MODEL[1];
    odd.hidden = 72;
    model_make(&m, &odd, TOK_NONE);
    not_written(&m, AS_Q8_0, "want a multiple of 32 for q8_0\nhint: --dtype f16");
    model_make(&m, &MODEL[1], TOK_NONE);
    m.w.fc2w[7] = 1e6f;
    not_written(&m, AS_F16, "ffn_down.weight: a number is too large for F16");
    model_make(&m, &MODEL[1], TOK_NONE);
    m.w.fc2w[7] = NAN;
    not_written(&m, AS_F32, "want a finite number");
    odd = MODEL[1];
    odd.swiglu = 0;
    model_make(&m, &odd, TOK_NONE);
    not_written(&m, AS_F32, "some but not all of RMSNorm");
    model_make(&m, &MODEL[1], TOK_GPT2);
    m.flag[261] = TOKEN_NORMAL;                   // two tokens with one text
    memcpy(m.bytes + m.start[262], "<|im_end|>", 10);
    m.start[263] = m.start[262] + 10;
    not_written(&m, AS_F32, "two tokens are spelt <|im_end|>");
    model_make(&m, &MODEL[1], TOK_GPT2);
    m.merge[1].rank = m.merge[0].rank;
    not_written(&m, AS_F32, "two merges of rank 0");
    model_make(&m, &MODEL[1], TOK_SCORED);
    m.tok.merges--;
    not_written(&m, AS_F32, "no order that scores of tokens give");
} END_TEST

// ---- what is refused --------------------------------------------------------------------------------------
// Text in a llama's file is put for other text of the same length, in its first place or everywhere.
#define S(text) text, sizeof text - 1
#define UP(in, out) "blk.1.ffn_up.weight\2\0\0\0" in "\0\0\0\0\0\0\0" out "\0\0\0\0\0\0\0"
static const struct { const char *from; size_t n; const char *to, *wanted; bool all; } WRONG[] = {
    {S("GGUF"), "GGUX", "want \"GGUF\"", false},
    {S("GGUF\3\0\0\0"), "GGUF\1\0\0\0", "version 1, want 2 or 3", false},
    {S("GGUF\3\0\0\0"), "GGUF\4\0\0\0", "version 4, want 2 or 3", false},
    {S("GGUF\3\0\0\0"), "GGUF\0\0\0\3", "version 50331648, a big-endian file", false},
    {S("llama"), "mamba", "architecture = mamba, want gpt2, llama, qwen2 or qwen3", true},
    {S("llama.vocab_size"), "llama.vocal_size", "llama.vocal_size: is not known here", false},
    {S("llama.block_count"), "llama.expert_used", "llama.expert_used: is not known", false},
    {S("llama.block_count"), "llamb.block_count", "no key llama.block_count, want it", false},
    {S("llama.attention.layer_n"), "llamb.attention.layer_n", "no key llama.attention.layer_norm", false},
    {S("alignment\4\0\0\0\40"), "alignment\4\0\0\0\60", "general.alignment = 48, want a power of two", false},
    {S("general.file_type"), "general.alignment", "general.alignment is there twice", false},
    {S("blk.1.ffn_up.weight"), "blk.0.ffn_up.weight", "blk.0.ffn_up.weight is there twice", false},
    {S("blk.1.ffn_up.weight"), "blk.2.ffn_up.weight", "want names of a llama of 2 layers", false},
    {S("blk.1.ffn_up.weight"), "blk.1.ffn_up.whee\0t", "1..63, none of them 0", false},
    {S("output_norm.weight"), "output_born.weight", "want names of a llama", false},
    {S("token_embd.weight"), "token_emba.weight", "no tensor token_embd.weight", false},
    {S(UP("\40", "\100")), UP("\20", "\200"), "16 x 128 x 1 x 1, want 32 x 64", false},
    {S(UP("\40", "\100")), UP("\41", "\100"), "offset", false},
    {S(UP("\40", "\100") "\0"), UP("\40", "\100") "\16", "type 14, Q6_K, want F32, F16, BF16", false},
    {S(UP("\40", "\100") "\0"), UP("\40", "\100") "\77", "type 63, want F32, F16, BF16", false},
    {S("\6\0\0\0\0\0\0\0smollm"), "\6\0\0\0\0\0\0\0smallm", "tokenizer.ggml.pre = smallm, want gpt-2", false},
    {S("\4\0\0\0\0\0\0\0gpt2"), "\4\0\0\0\0\0\0\0bert", "ggml.model = bert, want gpt2 or llama", false},
    {S("ggml.token_type"), "ggml.token_tipe", "no key tokenizer.ggml.token_type", false},
    {S("ggml.merges"), "ggml.mergis", "no key tokenizer.ggml.merges", false},
    {S("ggml.pre"), "ggml.prx", "no key tokenizer.ggml.pre: how text is cut", false},
    {S("\3\0\0\0\0\0\0\0t h"), "\3\0\0\0\0\0\0\0t_h", "merge 0 is \"t_h\", want two tokens", false},
    {S("\3\0\0\0\0\0\0\0t h"), "\3\0\0\0\0\0\0\0t q", "merge 0: its result is not among the tokens", false},
};

START_TEST(what_is_not_known_is_refused_by_name) {
    size_t bytes, found = 0;
    Import m;
    write_model(&MODEL[1], TOK_SMOLLM, AS_F32);
    uint8_t *file = slurp(path, &bytes);
    for (size_t i = 0; i + WRONG[_i].n <= bytes && (WRONG[_i].all || !found); i++) {
        if (memcmp(file + i, WRONG[_i].from, WRONG[_i].n) != 0) continue;
        memcpy(file + i, WRONG[_i].to, WRONG[_i].n);
        found++;
    }
    ck_assert_msg(found > 0, "\"%s\" is not in the file", WRONG[_i].from);
    write_file(path, file, bytes);
    free(file);
    ck_assert_int_eq(read_model(&m, path), -1);
    must_say(WRONG[_i].wanted);
    import_free(&m);
} END_TEST

// An array of 4-byte numbers loses its last one; zeros before the tensors make up for it.
static void shorten(const char *name) {
    size_t bytes, data = tensor_at("token_embd.weight"), n = strlen(name), at = 0;
    uint8_t *file = slurp(path, &bytes);
    while (memcmp(file + at, name, n) != 0) at++;
    at += n + 8;                                  // behind the types of key and elements
    size_t count = file[at] + 256u * file[at + 1] - 1, end = at + 8 + 4 * count;
    file[at] = (uint8_t)count;
    file[at + 1] = (uint8_t)(count >> 8);
    memmove(file + end, file + end + 4, data - end - 4);
    memset(file + data - 4, 0, 4);
    write_file(path, file, bytes);
    free(file);
}

START_TEST(every_token_has_its_type_and_score) {
    static const char *const NAME[] = {"tokenizer.ggml.token_type", "tokenizer.ggml.scores"};
    static const char *const WANT[] = {"300 tokens with 299 types", "267 scores, want 268 or more"};
    Config c = MODEL[1];
    c.vocab = _i ? 268 : 300;
    Import m;
    write_model(&c, TOK_SCORED, AS_F32);
    shorten(NAME[_i]);
    ck_assert_int_eq(read_model(&m, path), -1);
    must_say(WANT[_i]);
    import_free(&m);
} END_TEST

START_TEST(nothing_follows_the_last_tensor) {
    static const uint8_t MORE[BLOCK + 1];
    size_t n;
    Import m;
    write_model(&MODEL[1], TOK_NONE, AS_F32);
    free(slurp(path, &n));
    FILE *f = fopen(path, "ab");
    ck_assert(f && fwrite(MORE, 1, sizeof MORE, f) == sizeof MORE && fclose(f) == 0);
    ck_assert_int_eq(read_model(&m, path), -1);
    must_say("33 bytes behind the last tensor, want none");
    import_free(&m);
} END_TEST

// A file that has only a vocabulary, and one whose keys contain an array of arrays.
START_TEST(a_vocabulary_is_no_model) {
    static const char NESTED[72] = "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0k\11\0\0\0"
                                   "\11\0\0\0\1";
    static const char EMPTY[24] = "GGUF\2";
    Import m;
    write_file(path, EMPTY, sizeof EMPTY);
    ck_assert_int_eq(read_model(&m, path), -1);
    must_say("has no tensors, only a vocabulary");
    import_free(&m);
    write_file(path, NESTED, sizeof NESTED);
    ck_assert_int_eq(read_model(&m, path), -1);
    must_say("key k: array of type 9, want a known one and no array in an array");
    import_free(&m);
} END_TEST

// ---- hostile files ----------------------------------------------------------------------------------------
// Less memory than 2^31 bytes: who believes such a number says so. (Sanitizers reserve more themselves.)
#ifdef __SANITIZE_ADDRESS__
#define SANITIZED true
#elif defined(__has_feature)
#define SANITIZED __has_feature(address_sanitizer)
#else
#define SANITIZED false
#endif
static void limit_memory(bool on) {
    struct rlimit r;
    if (SANITIZED) return;
    getrlimit(RLIMIT_AS, &r);
    r.rlim_cur = on ? (rlim_t)1 << 30 : r.rlim_max;
    setrlimit(RLIMIT_AS, &r);
}

START_TEST(every_truncation_is_refused) {
    size_t n;
    Import m;
    write_model(&MODEL[1], _i ? TOK_SCORED : TOK_GPT2, AS_Q8_0);
    size_t data = tensor_at("token_embd.weight");
    free(slurp(path, &n));
    ck_assert_uint_gt(n, 4096 + 256);
    limit_memory(true);
    for (size_t k = n; k-- > 0;) {
        if (k > 4096 && k % 61 != 0 && n - k > 64 && (k < data - 64 || k > data + 64)) continue;
        ck_assert_int_eq(truncate(path, (off_t)k), 0);
        ck_assert_msg(read_model(&m, path) == -1, "%zu of %zu bytes are read", k, n);
        ck_assert_msg(err.msg[0] && !strstr(err.msg, "memory"), "%zu bytes: %s", k, err.msg);
        import_free(&m);
    }
    limit_memory(false);
} END_TEST

// The numbers of a file: where, how many bytes, and whether another value makes another sound model.
typedef struct { size_t at; int bytes; bool free; } Number;
enum { NUMBERS_MAX = 4096 };
static Number number[NUMBERS_MAX];
static size_t numbers;

static size_t note(size_t at, int bytes, bool is_free) {
    ck_assert_uint_lt(numbers, NUMBERS_MAX);
    number[numbers++] = (Number){at, bytes, is_free};
    return at + (size_t)bytes;
}

static size_t note_text(const uint8_t *file, size_t at, bool here) {
    if (here) note(at, 8, false);
    return at + 8 + (size_t)u64_at(file + at);
}

// Values and, of arrays, the first and the last one.
static size_t note_value(const uint8_t *file, size_t at, uint32_t kind, bool is_free) {
    uint64_t count = 1;
    if (kind == ARRAY) {
        kind = u32_at(file + at);
        count = u64_at(file + at + 4);
        at = note(note(at, 4, false), 8, false);
    }
    is_free = is_free || kind == F32 || kind == BOOL;
    for (uint64_t i = 0; i < count; i++) {
        bool here = i == 0 || i + 1 == count;
        if (kind == STRING) at = note_text(file, at, here);
        else if (here) at = note(at, WIDTH[kind], is_free);
        else at += WIDTH[kind];
    }
    return at;
}

static void note_all(const uint8_t *file) {
    size_t at = note(note(note(4, 4, false), 8, false), 8, false);
    numbers = 3;
    for (uint64_t i = 0; i < u64_at(file + 16); i++) {
        size_t name = at + 8, n = (size_t)u64_at(file + at);
        at = note_text(file, at, true);
        bool id = n > 9 && !memcmp(file + name + n - 9, "_token_id", 9);
        uint32_t kind = u32_at(file + at);
        at = note_value(file, note(at, 4, false), kind, id);
    }
    for (uint64_t i = 0; i < u64_at(file + 8); i++) {
        at = note_text(file, at, true);
        uint32_t dims = u32_at(file + at);
        at = note(at, 4, false);
        for (uint32_t d = 0; d < dims; d++) at = note(at, 8, false);
        at = note(note(at, 4, false), 8, false);
    }
}

START_TEST(a_number_that_lies_is_refused_or_without_effect) {
    static const uint64_t LIE[] = {0, UINT64_MAX, (uint64_t)1 << 31, (uint64_t)1 << 63};
    const Config *c = &MODEL[_i ? 5 : 1];
    size_t n, refused = 0;
    Import m, lie;
    numbers = 0;
    write_model(c, _i ? TOK_SCORED : TOK_CL100K, AS_F32);
    ck_assert_int_eq(read_model(&m, path), 0);
    uint8_t *file = slurp(path, &n), lies[8];
    note_all(file);
    limit_memory(true);
    for (size_t i = 0; i < numbers; i++) {
        const Number *k = &number[i];
        for (int l = 0; l < 4; l++) {
            for (int b = 0; b < k->bytes; b++) lies[b] = (uint8_t)(LIE[l] >> 8 * b);
            patch(path, k->at, lies, (size_t)k->bytes);
            int rc = read_model(&lie, path);
            bool said = err.msg[0] && !strstr(err.msg, "memory");
            ck_assert_msg(rc == 0 || said, "byte %zu, lie %d: %s", k->at, l, err.msg);
            ck_assert_msg(rc || k->free || same_model(&m, &lie), "byte %zu, lie %d: another model", k->at, l);
            refused += rc != 0;
            import_free(&lie);
        }
        patch(path, k->at, file + k->at, (size_t)k->bytes);
    }
    limit_memory(false);
    ck_assert_msg(numbers > 200 && refused > 2 * numbers, "%zu of 4 * %zu refused", refused, numbers);
    import_free(&m);
    free(file);
} END_TEST

int main(void) {
    Suite *s = suite_create("gguf");
    TCase *t = tcase_create("gguf");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, blocks_are_read_as_ggml_reads_them);
    tcase_add_test(t, halves_are_read_and_written);
    tcase_add_test(t, blocks_are_written_as_ggml_writes_them);
    tcase_add_test(t, scaling_is_llama_3s);
    tcase_add_test(t, scaling_is_found_from_the_tensor);
    tcase_add_loop_test(t, a_model_comes_back_as_it_was, 0, MODELS);
    tcase_add_loop_test(t, rounding_happens_once, 0, MODELS);
    tcase_add_test(t, only_llamas_q_and_k_are_permuted);
    tcase_add_test(t, what_gguf_cannot_hold_is_refused_and_leaves_no_file);
    tcase_add_loop_test(t, what_is_not_known_is_refused_by_name, 0, sizeof WRONG / sizeof WRONG[0]);
    tcase_add_loop_test(t, every_token_has_its_type_and_score, 0, 2);
    tcase_add_test(t, nothing_follows_the_last_tensor);
    tcase_add_test(t, a_vocabulary_is_no_model);
    tcase_add_loop_test(t, every_truncation_is_refused, 0, 2);
    tcase_add_loop_test(t, a_number_that_lies_is_refused_or_without_effect, 0, 2);
    suite_add_tcase(s, t);
    return run_suite(s);
}

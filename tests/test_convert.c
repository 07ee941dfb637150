// test_convert.c -- convert's common part, chat templates, and folders of Hugging Face: dev/import.c,
// jinja.c, hf.c, hf_tokenizer.c. tests/golden_hf holds tiny models as transformers saves them and what it
// computes from them; hostile folders are copies of these with something changed.
#define _POSIX_C_SOURCE 200809L
#include "../dev/convert.h"
#include "run.h"
#include <check.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const FOLDER[] = {"gpt2", "llama2", "llama3", "smollm", "qwen2", "qwen3"};
enum { FOLDERS = sizeof FOLDER / sizeof *FOLDER };
static const Ask NOTHING = {0};

// ---- folders for the tests --------------------------------------------------------------------------------
static char root[256];                // of everything a test writes

static void files_begin(void) {
    const char *tmp = getenv("TMPDIR");
    snprintf(root, sizeof root, "%s/test_convert_XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(root));
}

static void empty(const char *folder) {
    char path[1024];
    DIR *d = opendir(folder);
    for (struct dirent *entry; d && (entry = readdir(d));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (unlink(path)) empty(path);
    }
    if (d) closedir(d);
    rmdir(folder);
}

static void files_end(void) { empty(root); }

static const char *in_root(const char *name) {
    static char path[4][512];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", root, name);
    return p;
}

static void write_file(const char *folder, const char *name, const void *data, size_t n) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path); // some file systems flush a file to disk that was truncated and written again
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, n, f), n);
    fclose(f);
}

static uint8_t *read_file(const char *folder, const char *name, size_t *n) {
    char path[1024];
    uint8_t *data;
    Err e;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ck_assert_msg(file_read(path, 1 << 24, &data, n, &e) == 0, "%s", e.msg);
    return data;
}

static int count_files(const char *folder) {
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *entry; d && (entry = readdir(d));) n += entry->d_name[0] != '.';
    if (d) closedir(d);
    return n;
}

static const char *golden(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "tests/golden_hf/%s", name);
    return path;
}

// A copy of a golden folder in root, as "it".
static const char *copied(const char *name) {
    static char to[512];
    size_t n;
    snprintf(to, sizeof to, "%s/it", root);
    empty(to);
    ck_assert_int_eq(mkdir(to, 0700), 0);
    DIR *d = opendir(golden(name));
    ck_assert_ptr_nonnull(d);
    for (struct dirent *entry; (entry = readdir(d));) {
        if (entry->d_name[0] == '.') continue;
        uint8_t *data = read_file(golden(name), entry->d_name, &n);
        write_file(to, entry->d_name, data, n);
        free(data);
    }
    closedir(d);
    return to;
}

static void load(Import *m, const char *folder) {
    Err e = {""};
    memset(m, 0, sizeof *m);
    ck_assert_msg(hf_read(m, folder, &NOTHING, &e) == 0, "%s", e.msg);
}

static void refused_with(const char *folder, const Ask *ask, const char *message) {
    Import m = {0};
    Err e = {""};
    ck_assert_msg(hf_read(&m, folder, ask, &e) == -1, "%s: not refused, want %s", folder, message);
    ck_assert_msg(strstr(e.msg, message) != NULL, "%s\nwant: %s", e.msg, message);
    import_free(&m);
}

// ---- numbers, names ---------------------------------------------------------------------------------------
START_TEST(halves_are_rounded_to_nearest_even) {
    for (uint32_t h = 0; h < 0x10000; h++) {
        if ((h & 0x7c00) == 0x7c00) continue;
        ck_assert_uint_eq(f16_round(f16_of(h)), h);
        if ((h & 0x7fff) == 0x7bff) continue;
        float middle = (float)(((double)f16_of(h) + (double)f16_of(h + 1)) / 2);       // exact: a tie
        ck_assert_uint_eq(f16_round(middle), h + (h & 1));
    }
    ck_assert_uint_eq(f16_round(65519.996f), 0x7bff);
    ck_assert_uint_eq(f16_round(65520.0f), 0x7c00);
    ck_assert_uint_eq(f16_round(-1e30f), 0xfc00);
    ck_assert(isnan(f16_of(f16_round(NAN))));
    ck_assert_uint_eq(f16_round(0x1p-25f), 0);
    ck_assert_uint_eq(f16_round(0x1.000002p-25f), 1);
    ck_assert_uint_eq(bf16_round(f32_of(0x3f808000)), 0x3f80);
    ck_assert_uint_eq(bf16_round(f32_of(0x3f818000)), 0x3f82);
    ck_assert_uint_eq(bf16_round(f32_of(0x3f808001)), 0x3f81);
    ck_assert(isnan(f32_of(bf16_round(f32_of(0x7f800001)) << 16)));
} END_TEST

START_TEST(bytes_are_spelt_as_gpt2_does) {
    for (int i = 0; i < 256; i++) {
        uint8_t byte = (uint8_t)i, back[8];
        char text[8];
        bytes_spell(text, &byte, 1);
        ck_assert_int_eq(bytes_unspell(back, text, strlen(text)), 1);
        ck_assert_uint_eq(back[0], byte);
    }
    uint8_t out[16];
    char text[16];
    bytes_spell(text, (const uint8_t *)" a\n\xAD", 4);
    ck_assert_str_eq(text, "\xC4\xA0" "a\xC4\x8A\xC5\x83");
    ck_assert_int_eq(bytes_unspell(out, " ", 1), -1);
    ck_assert_int_eq(bytes_unspell(out, "\xC4", 1), -1);
    ck_assert_int_eq(bytes_unspell(out, "\xC5\x84", 2), -1);       // U+0144: one more than there are
    ck_assert_int_eq(bytes_unspell(out, "\xE4\xBD\xA0", 3), -1);
} END_TEST

static Config tiny_llama(void) {
    return (Config){.vocab = 5,
                    .context = 8,
                    .layers = 2,
                    .heads = 2,
                    .kv_heads = 1,
                    .head_size = 4,
                    .width = 6,
                    .hidden = 3,
                    .rms = 1,
                    .rope = 1,
                    .swiglu = 1,
                    .tied = 1,
                    .norm_eps = 1e-5f,
                    .rope_theta = 1e4f};
}

START_TEST(stored_tensors_have_their_columns) {
    Import m = {.cfg = tiny_llama()};
    Err e = {""};
    float x[24], back[24];
    size_t out, in, layer;
    ck_assert_int_eq(import_weights(&m, &e), 0);
    int k = named_find("model.layers.1.self_attn.k_proj.weight", false, FAMILY_LLAMA, 2, &layer);
    ck_assert_int_ge(k, 0);
    ck_assert_uint_eq(layer, 1);
    named_shape(&NAMED[k], &m.cfg, &out, &in);
    ck_assert_uint_eq(out, 4);
    ck_assert_uint_eq(in, 6);
    for (int i = 0; i < 24; i++) x[i] = (float)i;                 // (4,6): row o begins with 6 o
    // Q = 16 columns: 8 of queries, 4 of keys, 4 of values. Key o of layer 1 is column 8 + o.
    named_put(&NAMED[k], &m.cfg, &m.w, 1, x, false, false);
    ck_assert(m.w.qkvw[6 * 16 + 2 * 16 + 8 + 3] == 6 * 3 + 2);
    named_get(&NAMED[k], &m.cfg, &m.w, 1, back, false, false);
    ck_assert_mem_eq(x, back, sizeof x);
    // Neighbours: their rows 0, 1, 2, 3 of a head are ours 0, 2, 1, 3.
    named_put(&NAMED[k], &m.cfg, &m.w, 1, x, false, true);
    ck_assert(m.w.qkvw[6 * 16 + 8 + 2] == 6 * 1);
    ck_assert(m.w.qkvw[6 * 16 + 8 + 1] == 6 * 2);
    named_get(&NAMED[k], &m.cfg, &m.w, 1, back, false, true);
    ck_assert_mem_eq(x, back, sizeof x);
    ck_assert_int_eq(named_find("model.layers.2.self_attn.k_proj.weight", false, FAMILY_LLAMA, 2, &layer),
                     -1);
    ck_assert_int_eq(named_find("model.layers.01.self_attn.k_proj.weight", false, FAMILY_LLAMA, 2, &layer),
                     -1);
    ck_assert_int_eq(named_find("model.layers.1.self_attn.k_proj.bias", false, FAMILY_LLAMA, 2, &layer), -1);
    ck_assert_int_ge(named_find("layers.1.self_attn.k_proj.weight", false, FAMILY_LLAMA, 2, &layer), 0);
    import_free(&m);
} END_TEST

START_TEST(buffers_of_old_files_are_ignored) {
    ck_assert(named_ignored("transformer.h.11.attn.bias", FAMILY_GPT2));
    ck_assert(named_ignored("h.0.attn.masked_bias", FAMILY_GPT2));
    ck_assert(named_ignored("model.layers.3.self_attn.rotary_emb.inv_freq", FAMILY_QWEN2));
    ck_assert(named_ignored("model.rotary_emb.inv_freq", FAMILY_LLAMA));
    ck_assert(!named_ignored("model.layers.3.self_attn.rotary_emb.inv_freq", FAMILY_GPT2));
    ck_assert(!named_ignored("h.0.attn.c_attn.bias", FAMILY_GPT2));
    ck_assert(!named_ignored("h..attn.bias", FAMILY_GPT2));
} END_TEST

START_TEST(families_are_told_apart) {
    Config c = tiny_llama();
    Family f;
    Err e;
    ck_assert(family_of(&c, &f, &e) == 0 && f == FAMILY_LLAMA);
    c.qkv_bias = 1;
    ck_assert(family_of(&c, &f, &e) == 0 && f == FAMILY_QWEN2);
    c.qk_norm = 1;
    ck_assert(family_of(&c, &f, &e) == -1 && strstr(e.msg, "biases on q, k, v and norms of q, k"));
    c.qkv_bias = 0;
    ck_assert(family_of(&c, &f, &e) == 0 && f == FAMILY_QWEN3);
    c.qk_norm = 0;
    c.bias = 1;
    ck_assert(family_of(&c, &f, &e) == -1 && strstr(e.msg, "a bias on every linear layer"));
    c.rope = 0;
    ck_assert(family_of(&c, &f, &e) == -1 && strstr(e.msg, "some but not all"));
    c.rms = c.swiglu = 0;
    ck_assert(family_of(&c, &f, &e) == -1 && strstr(e.msg, "heads that are shared"));
    c.kv_heads = 2;
    c.width = 8;
    ck_assert(family_of(&c, &f, &e) == 0 && f == FAMILY_GPT2);
    c.bias = 0;
    ck_assert(family_of(&c, &f, &e) == -1 && strstr(e.msg, "without a bias"));
} END_TEST

// ---- chat templates ---------------------------------------------------------------------------------------
static const char CHATML[] = // of SmolLM's first version, and others
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' "
    "+ '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

START_TEST(jinja_is_known_by_its_text) {
    char text[512];
    const char *ours = jinja_known(CHATML, strlen(CHATML));
    ck_assert_ptr_nonnull(ours);
    ck_assert_ptr_nonnull(strstr(ours, "[user]\n{<|im_start|>}user\n"));
    int n = snprintf(text, sizeof text, "%s \n\t\n", CHATML);
    ck_assert_str_eq(jinja_known(text, (size_t)n), ours);        // white space at the end
    text[10] = 'x';
    ck_assert_ptr_null(jinja_known(text, (size_t)n));
    ck_assert_ptr_null(jinja_known("", 0));
    ck_assert_ptr_null(jinja_known(" \n", 2));
    const char *out = jinja_for(ours);
    ck_assert_ptr_nonnull(out);
    ck_assert_str_eq(jinja_known(out, strlen(out)), ours);       // what is written is read again
    ck_assert_ptr_null(jinja_for("{instruction}{target}{output}{eot}"));
    static const char *const named[] = {"alpaca", "plain", "none", "chatml", "llama3"};
    for (int i = 0; i < 5; i++) {
        out = jinja_for(template_named(named[i]));
        ck_assert_ptr_nonnull(out);
        ck_assert_str_eq(jinja_known(out, strlen(out)), template_named(named[i]));
    }
} END_TEST

START_TEST(an_unknown_template_is_refused_unless_another_is_named) {
    static const char jinja[] = "{{ messages }}";
    Ask ask = {.template = "plain"};
    Import m = {0};
    Err e = {""};
    const char *it = copied("smollm");
    write_file(it, "chat_template.jinja", jinja, sizeof jinja - 1);
    refused_with(it, &NOTHING, "hint: --template");
    ck_assert_msg(hf_read(&m, it, &ask, &e) == 0, "%s", e.msg);
    import_free(&m);
    write_file(it, "chat_template.jinja", CHATML, sizeof CHATML - 1);
    load(&m, it);
    ck_assert_ptr_nonnull(
        strstr(m.template, "[assistant]\n{<|im_start|>}assistant\n{target}{text}{<|im_end|>}"));
    import_free(&m);
} END_TEST

// ---- golden models ----------------------------------------------------------------------------------------

// The logits of n tokens with the weights of m, (n,V): in a model of its own.
static Model logits_begin(const Import *m, const int32_t *tok, int32_t n, void **block) {
    Plan plan;
    Model model;
    Fault f;
    Err e = {""};
    Shape shape = {.rows = 1, .seq = (size_t)n, .threads = 1};
    Batch b = {.tok = tok, .len = &n, .B = 1, .T = (size_t)n};
    ck_assert_int_eq(model_plan(&plan, &m->cfg, &shape, &f), 0);
    *block = block_alloc(plan.bytes, &e);
    ck_assert_ptr_nonnull(*block);
    model_bind(&model, &plan, *block);
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&m->cfg, i);
        if (t.size) memcpy(tensor_data(&model.w, &t), tensor_data(&m->w, &t), t.size * sizeof(float));
    }
    ck_assert_int_eq(model_forward(&model, &b, &f), 0);
    return model;
}

static uint32_t member(const Json *j, const char *key) {
    uint32_t at = json_get(j, 0, key);
    ck_assert_uint_gt(at, 0);
    return at;
}

static void check_logits(const Import *m, const Json *j, const int32_t *id, uint32_t n) {
    void *block;
    const JsonNode *v = j->node, *rows = &v[member(j, "rows")];
    Model model = logits_begin(m, id, (int32_t)n, &block);
    uint32_t at = member(j, "logits") + 1;
    for (uint32_t r = 0; r < rows->count; r++, at = v[at].next) {
        int32_t row = (int32_t)rows[1 + r].number;
        const float *got = model_logits(&model, &row, 1);
        double apart = 0, largest = 0;
        ck_assert_uint_eq(v[at].count, (uint32_t)m->cfg.vocab);
        for (uint32_t i = 0; i < v[at].count; i++) {
            ck_assert(isfinite(got[i]));
            apart = fmax(apart, fabs((double)got[i] - v[at + 1 + i].number));
            largest = fmax(largest, fabs(v[at + 1 + i].number));
        }
        ck_assert_msg(largest > 0.1 && apart <= 1e-5 * largest, "row %d: %g apart, largest %g", row, apart,
                      largest);
    }
    block_free(block);
}

// Token ids of the text, begun as the tokenizer begins it, and logits of two rows.
static void check_expected(const Import *m, const char *name) {
    size_t n;
    Json j = {0};
    Err e = {""};
    uint8_t *data = read_file(golden(name), "expect.json", &n);
    ck_assert_msg(json_parse(&j, "expect.json", 1, data, n, &e) == 0, "%s", e.msg);
    const JsonNode *text = &j.node[member(&j, "text")], *ids = &j.node[member(&j, "ids")];
    int32_t *id = calloc(4 * text->len + 8, sizeof *id);
    void *scratch = malloc(tokenizer_encode_size(&m->tok, text->len));
    uint32_t got = 0;
    if (m->tok.bos >= 0) id[got++] = m->tok.bos;
    got +=
        (uint32_t)tokenizer_encode(&m->tok, (const uint8_t *)text->text, text->len, false, id + got, scratch);
    ck_assert_msg(got == ids->count, "%s: %u tokens, want %u", name, got, ids->count);
    for (uint32_t i = 0; i < got; i++) ck_assert_int_eq(id[i], (int32_t)ids[1 + i].number);
    check_logits(m, &j, id, got);
    free(id);
    free(scratch);
    free(data);
    json_free(&j);
}

START_TEST(models_of_transformers_give_its_ids_and_logits) {
    Import m;
    load(&m, golden(FOLDER[_i]));
    check_expected(&m, FOLDER[_i]);
    ck_assert_int_eq(m.dtype,
                     strcmp(FOLDER[_i], "gpt2") && strcmp(FOLDER[_i], "llama2") && strcmp(FOLDER[_i], "qwen2")
                         ? DTYPE_BF16
                         : DTYPE_F32);
    import_free(&m);
} END_TEST

static void same_tokenizer(const Tokenizer *a, const Tokenizer *b) {
    ck_assert_uint_eq(a->kind, b->kind);
    ck_assert_uint_eq(a->vocab, b->vocab);
    ck_assert_uint_eq(a->merges, b->merges);
    ck_assert_int_eq(a->eot, b->eot);
    ck_assert_int_eq(a->bos, b->bos);
    ck_assert_int_eq(a->add_space, b->add_space);
    ck_assert_mem_eq(a->start, b->start, (a->vocab + 1) * sizeof *a->start);
    ck_assert_mem_eq(a->bytes, b->bytes, a->start[a->vocab]);
    ck_assert_mem_eq(a->flag, b->flag, a->vocab);
    ck_assert_mem_eq(a->merge, b->merge, a->merges * sizeof *a->merge);
}

// Written and read again: the same configuration, tokenizer, weights to the bit, template.
START_TEST(folders_survive_a_round_trip) {
    Import a, b;
    Err e = {""};
    load(&a, golden(FOLDER[_i]));
    bool half = strcmp(FOLDER[_i], "llama2") == 0;
    if (_i > 0) {
        a.template = strdup(jinja_known(CHATML, strlen(CHATML)));
        ck_assert_msg(hf_write(&a, in_root("out/"),
                               half                    ? AS_F16
                               : a.dtype == DTYPE_BF16 ? AS_BF16
                                                       : AS_F32,
                               &e) == 0,
                      "%s", e.msg);
    } else {
        ck_assert_msg(hf_write(&a, in_root("out/"), AS_F32, &e) == 0, "%s", e.msg);
    }
    load(&b, in_root("out"));
    ck_assert_mem_eq(&a.cfg, &b.cfg, sizeof a.cfg);
    ck_assert_int_eq(a.dtype, b.dtype);
    ck_assert_mem_eq(a.weights, b.weights, model_params(&a.cfg) * sizeof(float));
    same_tokenizer(&a.tok, &b.tok);
    if (a.template) ck_assert_str_eq(a.template, b.template);
    else ck_assert_ptr_null(b.template);
    check_expected(&b, FOLDER[_i]);
    ck_assert_int_eq(count_files(root), 1);       // no temporary neighbour is left
    import_free(&a);
    import_free(&b);
} END_TEST

START_TEST(a_folder_is_written_whole_or_not_at_all) {
    Import m;
    struct stat st;
    Err e = {""};
    load(&m, golden("gpt2"));
    ck_assert_int_eq(mkdir(in_root("full"), 0700), 0);
    write_file(in_root("full"), "mine", "x", 1);
    ck_assert_int_eq(hf_write(&m, in_root("full"), AS_F32, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.msg, "is not empty"));
    ck_assert_int_eq(count_files(in_root("full")), 1);
    write_file(root, "file", "x", 1);
    ck_assert_int_eq(hf_write(&m, in_root("file"), AS_F32, &e), -1);
    ck_assert_int_eq(hf_write(&m, "", AS_F32, &e), -1);
    ck_assert_int_eq(hf_write(&m, in_root("no/such"), AS_F32, &e), -1);
    m.w.lnfw[3] = 70000.0f;                       // beyond F16, whose folder then must not be there
    ck_assert_int_eq(hf_write(&m, in_root("half"), AS_F16, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.msg, "transformer.ln_f.weight has 70000"));
    m.bytes[0] = 0xFF;                            // no longer GPT-2's, but still bytes
    m.flag[0] = TOKEN_SPECIAL;                    // and now a special token that is no UTF-8
    ck_assert_int_eq(hf_write(&m, in_root("late"), AS_F32, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.msg, "UTF-8"));
    ck_assert_int_eq(count_files(root), 2);       // full and file
    import_free(&m);
    load(&m, golden("gpt2"));
    ck_assert_int_eq(mkdir(in_root("empty"), 0700), 0);
    ck_assert_msg(hf_write(&m, in_root("empty"), AS_F32, &e) == 0, "%s", e.msg);
    ck_assert(stat(in_root("empty"), &st) == 0 && (st.st_mode & 0777) == 0700);
    ck_assert_int_eq(mkdir(in_root("new.writing"), 0700), 0);     // another program's, a killed one's or the user's
    write_file(in_root("new.writing"), "config.json", "x", 1);
    ck_assert_int_eq(hf_write(&m, in_root("new/"), AS_F32, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.msg, "new.writing: another program is writing it, or was killed\nhint: "));
    ck_assert_int_eq(count_files(in_root("new.writing")), 1);
    ck_assert_int_eq(count_files(root), 4);       // full, file, empty, and that one
    import_free(&m);
} END_TEST

// ---- hostile folders --------------------------------------------------------------------------------------
// One thing changed in one file of a folder, and what the message must say. to NULL: the file is removed.
static const struct { const char *folder, *file, *from, *to, *message;
} EDIT[] = {
    {"llama3", "config.json", "\"model_type\":\"llama\"", "\"model_type\":\"mistral\"",
     "model_type = mistral, want gpt2"},
    {"llama3", "config.json", "\"model_type\":\"llama\",", "", "no \"model_type\""},
    {"llama3", "config.json", "\"silu\"", "\"gelu\"", "hidden_act = gelu, want silu"},
    {"llama3", "config.json", "\"attention_bias\":false", "\"attention_bias\":true",
     "attention_bias = true, want false"},
    {"llama3", "config.json", "\"mlp_bias\":false", "\"mlp_bias\":true", "mlp_bias = true, want false"},
    {"llama3", "config.json", "\"rope_type\":\"llama3\"", "\"rope_type\":\"yarn\"",
     "rope_type = yarn, want default or llama3"},
    {"llama3", "config.json", "\"rope_parameters\":{", "\"rope_theta\":7,\"rope_parameters\":{",
     "500000 here and 7 elsewhere"},
    {"llama3", "config.json", "\"factor\":8.0", "\"factor\":0.5", "rope_factor"},
    {"llama3", "config.json", "\"factor\":8.0", "\"partial_rotary_factor\":0.5",
     "partial_rotary_factor = 0.5, want 1"},
    {"llama3", "config.json", "\"original_max_position_embeddings\":16,", "",
     "no \"original_max_position_embeddings\""},
    {"llama3", "config.json", "\"head_dim\":8", "\"head_dim\":7", "head_size modulo 2"},
    {"llama3", "config.json", "\"head_dim\":8", "\"head_dim\":4",
     "self_attn.k_proj.weight: 2 dimensions, 16 x 16, want 2, 8 x 16"},
    {"llama3", "config.json", "\"num_key_value_heads\":2", "\"num_key_value_heads\":3",
     "heads modulo kv_heads"},
    {"llama3", "config.json", "\"max_position_embeddings\":96", "\"max_position_embeddings\":1048577",
     "context = 1048577"},
    {"llama3", "config.json", "\"vocab_size\":303", "\"vocab_size\":302", "303 tokens, want at most 302"},
    {"llama3", "config.json", "\"vocab_size\":303", "\"vocab_size\":304",
     "embed_tokens.weight: 2 dimensions, 303 x 16"},
    {"llama3", "config.json", "\"tie_word_embeddings\":true", "\"tie_word_embeddings\":false",
     "lm_head.weight is missing"},
    {"llama3", "config.json", "\"num_hidden_layers\":2", "\"num_hidden_layers\":3", "is missing in layer 2"},
    {"llama3", "config.json", "\"num_hidden_layers\":2", "\"num_hidden_layers\":1",
     "want those of a llama of 1 layers"},
    {"llama3", "config.json", "{\"arch", "{\"quantization_config\":{},\"arch", "not quantized"},
    {"llama3", "config.json", "{\"arch", "[{\"arch", "want"},
    {"llama3", "config.json", NULL, NULL, "config.json: no such file"},
    {"qwen2", "config.json", "\"use_sliding_window\":false", "\"use_sliding_window\":true",
     "use_sliding_window = true, want false"},
    {"qwen2", "config.json", "\"full_attention\"]", "\"sliding_attention\"]",
     "layer_types: sliding_attention"},
    {"qwen3", "config.json", "\"attention_bias\":false", "\"attention_bias\":true", "attention_bias = true"},
    {"qwen3", "config.json", "\"model_type\":\"qwen3\"", "\"model_type\":\"llama\"",
     "self_attn.k_norm.weight: want those of a llama"},
    {"gpt2", "config.json", "\"gelu_new\"", "\"gelu\"", "activation_function = gelu, want gelu_new"},
    {"gpt2", "config.json", "\"n_head\":3", "\"n_head\":5", "want a multiple of 5 heads"},
    {"gpt2", "config.json", "\"scale_attn_by_inverse_layer_idx\":false",
     "\"scale_attn_by_inverse_layer_idx\":true", "want false"},
    {"gpt2", "generation_config.json", "\"eos_token_id\":300", "\"eos_token_id\":[1,2,3,4,5,6,7,8,9]",
     "at most 8 token ids"},
    {"llama3", "model.safetensors.index.json", "model-00001-of", "../model-00001-of",
     "want the name of a file in this folder"},
    {"llama3", "model.safetensors.index.json", "model-00001-of", "model-00003-of", "no such file"},
    {"llama3", "model.safetensors.index.json", "embed_tokens.weight\":\"model-00001",
     "embed_tokens.weight\":\"model-00002", "but the index says model-00002"},
    {"llama3", "model.safetensors.index.json", "\"weight_map\":{",
     "\"weight_map\":{\"more\":\"model-00001-of-00002.safetensors\",", "want the 20 of its files"},
    {"llama3", "model-00002-of-00002.safetensors", NULL, NULL, "no such file"},
    {"llama3", "tokenizer.json", "{1,3}", "{1,2}",
     "hint: known are those of GPT-2, Llama 2, Llama 3, Qwen2, SmolLM"},
    {"llama3", "tokenizer.json", "{1,3}", "{1,2}",
     "type Sequence pretokenizers type Split pattern Regex (?i:'s|'t|'re"},
    {"llama3", "tokenizer.json", "\"Isolated\"", "\"Removed\"", "pre_tokenizer: "},
    {"llama3", "tokenizer.json", "\"ignore_merges\":true", "\"ignore_merges\":false",
     "ignore_merges: want true"},
    {"llama3", "tokenizer.json", "\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\"}",
     "normalizer: type NFC , want none"},
    {"llama3", "tokenizer.json", "\"type\":\"BPE\"", "\"type\":\"Unigram\"", "type = Unigram, want BPE"},
    {"llama3", "tokenizer.json", "\"dropout\":null", "\"dropout\":0.1", "dropout, want none"},
    {"llama3", "tokenizer.json", "\"lstrip\":false", "\"lstrip\":true", "lstrip = true, want false"},
    {"llama3", "tokenizer.json", "\"id\":300,", "\"id\":303,", "id 303, want 0..302"},
    {"llama2", "tokenizer.json",
     "\"\xE2\x96\x81"
     "do\":328,",
     "", "no token has the id 328"},
    {"llama3", "tokenizer.json", "\"id\":300,", "\"id\":4000,", "id 4000, want 0.."},
    {"llama3", "tokenizer.json", "\"id\":300,", "\"id\":12,", "have the same id"},
    {"llama3", "tokenizer.json", "\"ids\":[300]", "\"ids\":[303]", "begin-of-text is token 303"},
    {"llama3", "tokenizer.json", "\"ids\":[300]", "\"ids\":[300,301]",
     "want at most one token, before the text"},
    {"llama3", "tokenizer.json", "\"single\":[", "\"single\":[{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},",
     "post_processor"},
    {"llama3", "tokenizer.json", "[\"h\",\"e\"]", "[\"h\",\"qqqq\"]",
     "merge 0: its right part is not among the tokens"},
    {"llama3", "tokenizer.json", "[\"h\",\"e\"]", "[\"h\",\"Q\"]",
     "merge 0: its result is not among the tokens"},
    {"llama3", "tokenizer.json", "[\"h\",\"e\"]", "\"h e x\"", "want two tokens with a space between"},
    {"llama3", "tokenizer.json", "[\"h\",\"e\"]", "[\"h\"]", "want \"a b\" or"},
    {"llama3", "tokenizer.json", "[\"t\",\"he\"]", "[\"h\",\"e\"]", "sound merges"},
    {"llama3", "tokenizer_config.json", "<|eot_id|>", "<|nothing|>", "eos_token <|nothing|> is no token"},
    {"llama3", "tokenizer_config.json", "{\"backend\"", "{\"chat_template\":[],\"backend\"",
     "want text, or a list with \"default\""},
    {"smollm", "tokenizer.json", "\"individual_digits\":true", "\"individual_digits\":false",
     "type Digits individual_digits false"},
    {"smollm", "tokenizer.json", "\"add_prefix_space\":false", "\"add_prefix_space\":true",
     "pre_tokenizer: "},
    {"gpt2", "tokenizer.json", "\"ignore_merges\":false", "\"ignore_merges\":true",
     "ignore_merges: want false"},
    {"qwen3", "tokenizer.json", "{\"type\":\"NFC\"}", "{\"type\":\"NFKC\"}",
     "normalizer: type NFKC , want NFC"},
    {"llama2", "tokenizer.json", "\"type\":\"Prepend\"", "\"type\":\"Append\"", "pre_tokenizer: "},
    {"qwen2", "tokenizer_config.json", "Qwen2Tokenizer", "RobertaTokenizer",
     "tokenizer_class RobertaTokenizer"},
    {"qwen2", "tokenizer_config.json", "\"add_prefix_space\":false", "\"add_prefix_space\":true",
     "add_prefix_space = true"},
    {"qwen2", "tokenizer_config.json", "\"300\":", "\"3oo\":", "id 3oo"},
    {"qwen2", "merges.txt", "h e\n", "h e e\n", "merge 0: "},
    {"qwen2", "model.safetensors", NULL, NULL, "model.safetensors: no such file"},
};

// Replaces the first `from`, and returns whether there was one.
static bool edit(const char *folder, const char *file, const char *from, const char *to) {
    size_t n;
    char *data = (char *)read_file(folder, file, &n), *at = NULL;
    for (size_t i = 0; !at && i + strlen(from) <= n; i++)
        if (memcmp(data + i, from, strlen(from)) == 0) at = data + i;
    if (at) {
        size_t before = (size_t)(at - data), after = n - before - strlen(from);
        char *edited = malloc(n + strlen(to) + 1);
        memcpy(edited, data, before);
        memcpy(edited + before, to, strlen(to));
        memcpy(edited + before + strlen(to), at + strlen(from), after);
        write_file(folder, file, edited, before + strlen(to) + after);
        free(edited);
    }
    free(data);
    return at != NULL;
}

START_TEST(what_is_not_supported_is_refused_by_name) {
    char path[1024];
    const char *it = copied(EDIT[_i].folder);
    snprintf(path, sizeof path, "%s/%s", it, EDIT[_i].file);
    if (!EDIT[_i].from) ck_assert_int_eq(unlink(path), 0);
    else
        ck_assert_msg(edit(it, EDIT[_i].file, EDIT[_i].from, EDIT[_i].to), "%s is not in %s", EDIT[_i].from,
                      path);
    refused_with(it, &NOTHING, EDIT[_i].message);
} END_TEST

// A change that must not matter, or that must be understood.
START_TEST(other_spellings_of_the_same_are_read) {
    static const struct { const char *folder, *file, *from, *to;
    } same[] = {
        {"llama3", "config.json", "\"rope_parameters\":{", "\"rope_theta\":500000.0,\"rope_scaling\":{"},
        {"llama3", "config.json", "\"rope_type\"", "\"type\""},
        {"llama3", "config.json", "\"num_attention_heads\"",
         "\"torch_dtype\":\"float32\",\"num_attention_heads\""},
        {"llama3", "tokenizer.json", "[\"h\",\"e\"]", "\"h e\""},
        {"llama3", "tokenizer.json",
         "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":false,\"use_regex\":true},", ""},
        {"smollm", "tokenizer.json", ",\"use_regex\":true}]},\"post", "}]},\"post"},
        {"llama2", "tokenizer_config.json", "\"</s>\"", "{\"content\":\"</s>\"}"},
        {"qwen2", "config.json", "\"tie_word_embeddings\":true",
         "\"tie_word_embeddings\":true,\"attention_bias\":false"},
        {"qwen2", "merges.txt", "#version: 0.2\n", ""},
        {"gpt2", "config.json", "\"n_inner\":20", "\"n_inner\":20,\"n_ctx\":12"},
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        Import m;
        const char *it = copied(same[i].folder);
        ck_assert_msg(edit(it, same[i].file, same[i].from, same[i].to), "%s is not there", same[i].from);
        load(&m, it);
        check_expected(&m, same[i].folder);
        import_free(&m);
    }
} END_TEST

START_TEST(ends_and_spaces_are_what_the_folder_says) {
    Import m;
    Err e = {""};
    load(&m, golden("llama3")); // its config.json has the class's eos_token_id 2, which is no end here
    ck_assert_int_eq(m.tok.eot, 302);
    ck_assert_uint_eq(m.flag[2], TOKEN_NORMAL);
    import_free(&m);
    const char *it = copied("gpt2");              // no end is named: it is <|endoftext|>
    ck_assert(edit(it, "config.json", "\"eos_token_id\":300", "\"eos_token_id\":null"));
    ck_assert(edit(it, "generation_config.json", "\"eos_token_id\":300", "\"eos_token_id\":null"));
    load(&m, it);
    ck_assert_int_eq(m.tok.eot, 300);
    import_free(&m);
    load(&m, golden("llama2"));
    ck_assert(m.tok.add_space && m.tok.bos == 1 && m.tok.eot == 2);
    m.tok.add_space = false;
    m.tok.bos = -1;
    ck_assert_msg(hf_write(&m, in_root("out"), AS_F32, &e) == 0, "%s", e.msg);
    import_free(&m);
    load(&m, in_root("out"));
    ck_assert(!m.tok.add_space && m.tok.bos == -1);
    import_free(&m);
} END_TEST

// From here on a test may use so much memory and no more: who asks for the sizes that a file claims, fails.
static void limit_memory(void) {
#if !defined(__SANITIZE_ADDRESS__)
    struct rlimit most = {(rlim_t)1 << 28, (rlim_t)1 << 28};
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &most), 0);
#endif
}

// Each number in the first `most` bytes of a file becomes each of these. Then the folder is refused with a
// message, or is read: some numbers mean nothing to us.
static void sweep_numbers(const char *folder, const char *file, size_t skip, size_t most, int least_refused) {
    static const char *const value[] = {"0", "-1", "2147483648", "9223372036854775808", "1e300", "0.5"};
    const char *it = copied(folder);
    size_t n;
    int refusals = 0;
    uint8_t *data = read_file(it, file, &n), *edited = malloc(n + 32);
    for (size_t at = skip; at < n && at < most; at++) {
        if (strchr(":[,", data[at - 1]) == NULL || data[at] < '0' || data[at] > '9') continue;
        size_t len = strspn((char *)data + at, "0123456789.e-+");
        for (size_t k = 0; k < sizeof value / sizeof *value; k++) {
            size_t with = strlen(value[k]);
            Import m = {0};
            Err e = {""};
            memcpy(edited, data, at);
            memcpy(edited + at, value[k], with);
            memcpy(edited + at + with, data + at + len, n - at - len);
            if (skip == 8) { // safetensors: the header keeps its length by what follows it
                size_t header = data[0] + 256u * data[1] + with - len;
                edited[0] = (uint8_t)header, edited[1] = (uint8_t)(header >> 8);
            }
            write_file(it, file, edited, n + with - len);
            if (hf_read(&m, it, &NOTHING, &e)) {
                refusals++;
                ck_assert(e.msg[0] != 0);
                ck_assert_msg(!strstr(e.msg, "memory"), "%s", e.msg);
            }
            import_free(&m);
        }
        at += len;
    }
    ck_assert_msg(refusals >= least_refused, "%s: %d refusals, want %d or more", file, refusals,
                  least_refused);
    free(data);
    free(edited);
}

START_TEST(every_number_is_checked) {
    limit_memory();
    sweep_numbers("llama3", "config.json", 1, SIZE_MAX, 60);
    sweep_numbers("gpt2", "config.json", 1, SIZE_MAX, 30);
    sweep_numbers("gpt2", "model.safetensors", 8, 4096, 300);
    sweep_numbers("gpt2", "tokenizer.json", 1, SIZE_MAX, 300);
    sweep_numbers("qwen2", "vocab.json", 1, 1024, 100);
} END_TEST

// n: bytes that may be missing without harm, line breaks at the end of JSON.
static void truncate_everywhere(const char *folder, const char *file, size_t harmless) {
    const char *it = copied(folder);
    size_t n;
    uint8_t *data = read_file(it, file, &n);
    for (size_t keep = 0; keep < n - harmless && keep < 4096; keep++) {
        Import m = {0};
        Err e = {""};
        write_file(it, file, data, keep);
        ck_assert_msg(hf_read(&m, it, &NOTHING, &e) == -1, "%s of %zu bytes is read", file, keep);
        ck_assert(e.msg[0] != 0 && !strstr(e.msg, "memory"));
        import_free(&m);
    }
    free(data);
}

START_TEST(every_truncation_is_refused) {
    limit_memory();
    truncate_everywhere("llama3", "config.json", 0);
    truncate_everywhere("llama3", "generation_config.json", 0);
    truncate_everywhere("llama3", "tokenizer_config.json", 0);
    truncate_everywhere("llama3", "tokenizer.json", 0);
    truncate_everywhere("llama3", "model.safetensors.index.json", 0);
    truncate_everywhere("gpt2", "model.safetensors", 0);
} END_TEST

START_TEST(a_pipe_is_no_file_of_a_folder) {
    char path[1024];
    static const char *const name[] = {"config.json", "tokenizer.json", "model.safetensors"};
    for (int i = 0; i < 3; i++) {
        Import m = {0};
        Err e = {""};
        snprintf(path, sizeof path, "%s/%s", copied("gpt2"), name[i]);
        ck_assert_int_eq(unlink(path), 0);
        ck_assert_int_eq(mkfifo(path, 0600), 0);
        int rc = hf_read(&m, in_root("it"), &NOTHING, &e);        // without a tokenizer it is read
        ck_assert(i == 1 ? rc == 0 && m.tok.kind == TOK_NONE : rc == -1 && strstr(e.msg, "no such file"));
        import_free(&m);
    }
} END_TEST

START_TEST(a_bias_that_no_layer_has_is_zero_if_asked) {
    static const char bias[] = "attn.c_proj.bias";
    Import m = {0};
    Err e = {""};
    Ask ask = {.zero_bias = true};
    const char *it = copied("gpt2");
    while (edit(it, "model.safetensors", bias, "attn.masked_bias"));      // as long, and ignored
    refused_with(it, &NOTHING, "attn.c_proj.bias is missing in layer 0 and all others\nhint: --zero-bias");
    ck_assert_msg(hf_read(&m, it, &ask, &e) == 0, "%s", e.msg);
    ck_assert(m.w.projb[5] == 0.0f && m.w.qkvb[5] != 0.0f);
    ck_assert_ptr_nonnull(strstr(m.lineage, "zero transformer.h.#.attn.c_proj.bias"));
    import_free(&m);
    it = copied("gpt2");
    ck_assert(edit(it, "model.safetensors", "h.1.attn.c_proj.bias", "h.1.attn.masked_bias"));
    refused_with(it, &ask, "attn.c_proj.bias is missing in layer 1");
} END_TEST

// Adds to the two offsets of a tensor in the header, which keeps its length.
static void move_tensor(const char *folder, const char *name, long begin, long end) {
    size_t n;
    char *data = (char *)read_file(folder, "model.safetensors", &n), again[64];
    char *at = strstr(strstr(data + 8, name), "data_offsets\":["), *stop = strchr(at, ']');
    long from, to;
    ck_assert_int_eq(sscanf(at + 15, "%ld,%ld", &from, &to), 2);
    int width = (int)(stop - (at + 15));
    int len = snprintf(again, sizeof again, "%ld,%*ld", from + begin,
                       width - snprintf(NULL, 0, "%ld,", from + begin), to + end);
    ck_assert_int_eq(len, width);
    memcpy(at + 15, again, (size_t)width);
    write_file(folder, "model.safetensors", data, n);
    free(data);
}

START_TEST(tensors_neither_overlap_nor_take_from_each_other) {
    const char *it = copied("gpt2");
    move_tensor(it, "transformer.h.0.ln_1.weight", -48, -48);     // 12 floats: where ln_1.bias lies
    refused_with(it, &NOTHING, "ln_1.");
    it = copied("gpt2");
    move_tensor(it, "transformer.h.0.ln_1.weight", -4, 0);        // a float of its neighbour
    move_tensor(it, "transformer.h.0.ln_1.bias", 0, -4);
    refused_with(it, &NOTHING, "44 bytes, want 48");
} END_TEST

START_TEST(safetensors_must_be_what_they_say) {
    Import m = {0};
    Err e = {""};
    size_t n;
    const char *it = copied("gpt2");
    uint8_t *data = read_file(it, "model.safetensors", &n), *longer = calloc(n + 64, 1);
    memcpy(longer, data, n);
    write_file(it, "model.safetensors", longer, n + 1);           // a byte behind the last tensor
    refused_with(it, &NOTHING, "bytes behind the last tensor");
    for (int bit = 16; bit < 64; bit += 5) {                      // lengths of the header up to 2^63
        memcpy(longer, data, n);
        longer[bit / 8] = (uint8_t)(longer[bit / 8] | 1 << bit % 8);
        write_file(it, "model.safetensors", longer, n);
        refused_with(it, &NOTHING, "byte 0: header of");
    }
    memcpy(longer, data, n);
    memset(longer + n - 2, 0xFF, 2);                              // a NaN
    write_file(it, "model.safetensors", longer, n);
    refused_with(it, &NOTHING, "want a finite number");
    write_file(it, "model.safetensors", data, n);
    ck_assert(edit(it, "model.safetensors", "transformer.h.0.ln_1.bias", "transformer.h.1.ln_1.bias"));
    refused_with(it, &NOTHING, "h.1.ln_1.bias is there twice");
    write_file(it, "model.safetensors", data, n);
    ck_assert(edit(it, "model.safetensors", "transformer.h.0.ln_1.bias", "transformer.h.0.ln_1.oops"));
    refused_with(it, &NOTHING, "h.0.ln_1.oops: want those of a gpt2");
    write_file(it, "model.safetensors", data, n);
    ck_assert(edit(it, "model.safetensors", "\"F32\"", "\"I32\""));
    refused_with(it, &NOTHING, "dtype I32, want F32, BF16, F16");
    write_file(it, "model.safetensors", data, n);
    ck_assert(
        edit(it, "model.safetensors", "\"transformer.h.0.ln_1.bias\"", "\"h.0.ln_1.bias\"            "));
    load(&m, it);                                                 // without the first part of its name
    check_expected(&m, "gpt2");
    import_free(&m);
    (void)e;
    free(data);
    free(longer);
} END_TEST

// A tied model may carry its head, if it is the embedding. With another byte it is refused.
START_TEST(a_tied_head_must_be_a_copy) {
    Import m, again;
    Err e = {""};
    load(&m, golden("smollm"));
    m.cfg.tied = 0;                               // the same weights with a head of their own
    Import untied = {.cfg = m.cfg};
    ck_assert_int_eq(import_weights(&untied, &e), 0);
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&untied.cfg, i);
        bool head = t.where == offsetof(Params, head);
        if (t.size)
            memcpy(tensor_data(&untied.w, &t), head ? m.w.wte : tensor_data(&m.w, &t),
                   t.size * sizeof(float));
    }
    ck_assert_msg(hf_write(&untied, in_root("out"), AS_BF16, &e) == 0, "%s", e.msg);
    ck_assert(edit(in_root("out"), "config.json", "\"tie_word_embeddings\": false",
                   "\"tie_word_embeddings\": true"));
    load(&again, in_root("out"));
    ck_assert_int_eq(again.cfg.tied, 1);
    ck_assert_mem_eq(again.w.wte, m.w.wte, (size_t)m.cfg.vocab * (size_t)m.cfg.width * sizeof(float));
    import_free(&again);
    size_t n;
    uint8_t *data = read_file(in_root("out"), "model.safetensors", &n);
    data[n - 1] ^= 1;                             // the head is written last
    write_file(in_root("out"), "model.safetensors", data, n);
    refused_with(in_root("out"), &NOTHING, "want a copy of the token embedding");
    free(data);
    import_free(&m);
    import_free(&untied);
} END_TEST

Suite *convert_suite(void);
Suite *convert_suite(void) {
    Suite *s = suite_create("convert");
    TCase *t = tcase_create("common"), *hf = tcase_create("folders"), *bad = tcase_create("hostile");
    tcase_add_test(t, halves_are_rounded_to_nearest_even);
    tcase_add_test(t, bytes_are_spelt_as_gpt2_does);
    tcase_add_test(t, stored_tensors_have_their_columns);
    tcase_add_test(t, buffers_of_old_files_are_ignored);
    tcase_add_test(t, families_are_told_apart);
    tcase_add_test(t, jinja_is_known_by_its_text);
    tcase_add_checked_fixture(hf, files_begin, files_end);
    tcase_add_checked_fixture(bad, files_begin, files_end);
    tcase_add_loop_test(hf, models_of_transformers_give_its_ids_and_logits, 0, FOLDERS);
    tcase_add_loop_test(hf, folders_survive_a_round_trip, 0, FOLDERS);
    tcase_add_test(hf, a_folder_is_written_whole_or_not_at_all);
    tcase_add_test(hf, an_unknown_template_is_refused_unless_another_is_named);
    tcase_add_test(hf, other_spellings_of_the_same_are_read);
    tcase_add_test(hf, ends_and_spaces_are_what_the_folder_says);
    tcase_add_test(hf, a_tied_head_must_be_a_copy);
    tcase_add_loop_test(bad, what_is_not_supported_is_refused_by_name, 0, (int)(sizeof EDIT / sizeof *EDIT));
    tcase_add_test(bad, a_pipe_is_no_file_of_a_folder);
    tcase_add_test(bad, a_bias_that_no_layer_has_is_zero_if_asked);
    tcase_add_test(bad, tensors_neither_overlap_nor_take_from_each_other);
    tcase_add_test(bad, safetensors_must_be_what_they_say);
    tcase_add_test(bad, every_number_is_checked);
    tcase_add_test(bad, every_truncation_is_refused);
    tcase_set_timeout(bad, 120);
    suite_add_tcase(s, t);
    suite_add_tcase(s, hf);
    suite_add_tcase(s, bad);
    return s;
}

int main(void) {
    return run_suite(convert_suite());
}

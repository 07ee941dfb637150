// convert.c -- main: other programs' models become flat checkpoints, and these their models; --info, --diff.
//
//     folder     config.json, model.safetensors, tokenizer of Hugging Face transformers   in, out  hf.c
//     .gguf      a file of llama.cpp                                                      in, out  gguf.c
//     .bin       a checkpoint of ours                                                     in, out
//     .bin       llama2.c's, version 0, with its tokenizer .bin                           in       llama2c.c
//
// Read in this order: load, any of these to an Import -> save, from there to any -> --info -> --diff -> main.
// Input files are hostile: each number is checked before it is used; nothing is written unless all was read.
#define _POSIX_C_SOURCE 200809L       // stat: is it a folder, are two names one file
#include "convert.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { TEMPLATE_MAX = 1 << 16 };      // bytes of a template's file

// ---- in ---------------------------------------------------------------------------------------------------
typedef enum { A_FOLDER, A_GGUF, A_CHECKPOINT, A_LLAMA2C } Format;

static bool is_folder(const char *path) {
    struct stat st;
    size_t n = strlen(path);
    return (n > 0 && path[n - 1] == '/') || (stat(path, &st) == 0 && S_ISDIR(st.st_mode));
}

// What IN is, by its first bytes.
static Format format_of(const char *path) {
    char magic[8] = {0};
    struct stat st;
    if (is_folder(path)) return A_FOLDER;
    FILE *f = stat(path, &st) == 0 && S_ISREG(st.st_mode) ? fopen(path, "rb") : NULL;
    size_t n = f ? fread(magic, 1, sizeof magic, f) : 0;
    if (f) fclose(f);
    if (n == 8 && memcmp(magic, "tune.c\n", 8) == 0) return A_CHECKPOINT;
    return n >= 4 && memcmp(magic, "GGUF", 4) == 0 ? A_GGUF : A_LLAMA2C;
}

// An adapter's matrices go into the frozen ones beside them: W += (alpha/R) down up. Summed in double, and
// rounded once: the merged model differs from base and adapter by the rounding of its weights alone.
static void adapter_merge(Import *m) {
    static const size_t part[][3] = {
        {offsetof(Params, qkvw), offsetof(Params, qkv_down), offsetof(Params, qkv_up)},
        {offsetof(Params, projw), offsetof(Params, proj_down), offsetof(Params, proj_up)},
        {offsetof(Params, fc1w), offsetof(Params, fc1_down), offsetof(Params, fc1_up)},
        {offsetof(Params, fc2w), offsetof(Params, fc2_down), offsetof(Params, fc2_up)}};
    size_t R = (size_t)m->cfg.lora_rank;
    double scale = (double)(m->cfg.lora_alpha / (float)R);
    for (int k = 0; k < 4; k++) {
        Tensor w = model_tensor(&m->cfg, (int)(part[k][0] / sizeof(float *)));
        Tensor down = model_tensor(&m->cfg, (int)(part[k][1] / sizeof(float *)));
        Tensor up = model_tensor(&m->cfg, (int)(part[k][2] / sizeof(float *)));
        if (down.size == 0) continue;
        size_t out = w.dim[2], rows = w.dim[0] * w.dim[1];      // of all layers, one below the other
        for (size_t row = 0; row < rows; row++) {
            float *x = tensor_data(&m->w, &w) + row * out;
            const float *a = tensor_data(&m->w, &down) + row * R;
            const float *b = tensor_data(&m->w, &up) + row / w.dim[1] * R * out;
            for (size_t o = 0; o < out; o++) {
                double sum = 0;
                for (size_t r = 0; r < R; r++) sum += (double)a[r] * (double)b[r * out + o];
                x[o] = (float)((double)x[o] + scale * sum);
            }
        }
    }
    m->cfg.lora_rank = 0, m->cfg.lora_on = 0, m->cfg.lora_alpha = 0;
}

static int checkpoint_import(Import *m, const char *path, const char *base, bool weights, Err *e) {
    Checkpoint *k = &m->from;
    if (checkpoint_open(k, path, base, e)) return -1;
    if (base && k->cfg.lora_rank == 0)
        return err_set(e, "%s: is no adapter, so --merge has nothing to merge", path);
    m->cfg = k->cfg;
    m->dtype = k->dtype;
    m->tok = k->tok;
    m->template = strdup(k->template);
    m->lineage = strdup(k->lineage);
    if (!m->template || !m->lineage) return err_set(e, "out of memory");
    if (weights && (import_weights(m, e) || checkpoint_read(k, &m->w, NULL, e))) return -1;
    if (weights && base) adapter_merge(m);
    return weights && base ? import_say(m, "merge tune.c ", TUNE_VERSION, e) : 0;
}

// --template: one of ours by its name, or text from a file.
static int template_asked(Import *m, const char *asked, Err *e) {
    const char *named = template_named(asked);
    uint8_t *text = NULL;
    size_t n;
    free(m->template);
    m->template = NULL;
    if (named) return (m->template = strdup(named)) ? 0 : err_set(e, "out of memory");
    if (file_read(asked, TEMPLATE_MAX, &text, &n, e)) return -1;
    m->template = (char *)text;
    return strlen(m->template) == n ? 0 : err_set(e, "%s: has a 0 byte, want text", asked);
}

static int load(Import *m, const char *path, const Ask *ask, Format is, Err *e) {
    if (ask->tokenizer && is != A_LLAMA2C)
        return err_set(e, "%s: has its own tokenizer, but --tokenizer is for a llama2.c file", path);
    m->tok.eot = m->tok.bos = -1;
    struct stat st;
    if (stat(path, &st) == 0 && is != A_FOLDER && !S_ISREG(st.st_mode))
        return err_set(e, "%s: is a device or a pipe, want a file or a folder", path);
    if (ask->merge && is != A_CHECKPOINT)
        return err_set(e, "%s: is no adapter, so --merge has nothing to merge", path);
    int rc = is == A_FOLDER ? hf_read(m, path, ask, e) : is == A_GGUF ? gguf_read(m, path, ask, e) :
             is == A_CHECKPOINT ? checkpoint_import(m, path, ask->merge, true, e) :
             llama2c_read(m, path, ask, e);
    if (rc || (ask->template && template_asked(m, ask->template, e))) return -1;
    return ask->template && m->tok.kind != TOK_NONE ? template_check(m->template, &m->tok, e) : 0;
}

// ---- out --------------------------------------------------------------------------------------------------
static const struct { const char *name; Stored as; } STORED[] = {
    {"f32", AS_F32}, {"bf16", AS_BF16}, {"f16", AS_F16}, {"q8_0", AS_Q8_0}};
enum { STORED_NAMES = sizeof STORED / sizeof *STORED };

static Format format_wanted(const char *path) {
    size_t n = strlen(path);
    if (n > 5 && strcmp(path + n - 5, ".gguf") == 0) return A_GGUF;
    return is_folder(path) ? A_FOLDER : A_CHECKPOINT;
}

// The number format asked for; without a word that of IN: bf16 if all its tensors are stored so, else f32.
static int stored_asked(Stored *as, const char *name, const Import *m, Format to, Err *e) {
    int i = 0;
    *as = m->dtype == DTYPE_BF16 ? AS_BF16 : AS_F32;
    if (!name) return 0;
    while (i < STORED_NAMES && strcmp(name, STORED[i].name) != 0) i++;
    if (i < STORED_NAMES) *as = STORED[i].as;
    if (i < STORED_NAMES &&
        (to == A_GGUF || *as == AS_F32 || *as == AS_BF16 || (to == A_FOLDER && *as == AS_F16)))
        return 0;
    return err_set(e, "--dtype = %.40s, want %s", name, to == A_GGUF ? "f32, bf16, f16 or q8_0" :
                   to == A_FOLDER ? "f32, bf16 or f16" : "f32 or bf16");
}

static int save(const Import *m, const char *path, Format to, Stored as, Err *e) {
    const char *template = m->template ? m->template : "", *lineage = m->lineage ? m->lineage : "";
    Dtype dtype = as == AS_BF16 ? DTYPE_BF16 : DTYPE_F32;
    if (to == A_FOLDER) return hf_write(m, path, as, e);
    if (to == A_GGUF) return gguf_write(m, path, as, e);
    return checkpoint_save(path, &m->cfg, &m->tok, template, lineage, dtype, &m->w, e);
}

static void note(const char *out, const char *what, const char *in) {
    Err said = {""};                  // control characters of a name are shown as '?' in it
    err_set(&said, "note: %s has no %s%s", out, what, in);
    fprintf(stderr, "%s\n", said.msg);
}

static int convert(Import *m, const char *in, const char *out, const Ask *ask, const char *dtype, Err *e) {
    Format to = format_wanted(out);
    Stored as;
    const char *const read[] = {in, ask->merge, ask->template, ask->tokenizer};
    for (int i = 0; i < 4; i++)
        if (read[i] && same_file(read[i], out))
            return err_set(e, "%s: OUT is what is read, %s", out,
                           i == 0 ? "IN and OUT are the same" : read[i]);
    size_t folder = strlen(in);
    bool inside = is_folder(in) && !strncmp(in, out, folder) && (in[folder - 1] == '/' || out[folder] == '/');
    struct stat st;
    if (inside && stat(out, &st) == 0)
        return err_set(e, "%s: OUT is a file of the folder that is read, %s", out, in);
    if (stored_asked(&as, dtype, m, to, e)) return -1;                // before the work: is the word right?
    if (load(m, in, ask, format_of(in), e) || stored_asked(&as, dtype, m, to, e)) return -1;
    if (save(m, out, to, as, e)) return -1;
    if (m->tok.kind == TOK_NONE) note(out, "tokenizer: there was none in ", in);
    if (to != A_CHECKPOINT && m->template && *m->template && !jinja_for(m->template))
        note(out, "chat template: none is known in Jinja for the model's", "");
    return 0;
}

// ---- --info -----------------------------------------------------------------------------------------------
// Would a terminal obey it? ASCII's control characters, and those of Latin-1 as UTF-8 has them.
static bool is_control(const char *c) {
    const uint8_t *p = (const uint8_t *)c;
    return p[0] < ' ' || p[0] == 127 || (p[0] == 0xC2 && p[1] < 0xA0);
}

static void print_name(const char *name) {
    for (; *name; name++) putchar(is_control(name) ? '?' : *name);
}

// Text from a file, indented, at 80 columns. Lines are broken at spaces; control characters are shown as '?'.
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
        putchar(is_control(text) ? '?' : *text);
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
    if (c->lora_rank)
        printf("\nadapter       LoRA of rank %ld, alpha %g", (long)c->lora_rank, (double)c->lora_alpha);
    putchar('\n');
}

static long file_bytes(const char *path) {        // -1: unknown
    FILE *f = fopen(path, "rb");
    long bytes = f && fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    if (f) fclose(f);
    return bytes;
}

static const char *const TOK_NAME[TOK_KINDS] = {
    "none", "GPT-2 byte-level BPE", "scored BPE with byte fallback", "cl100k byte-level BPE (Llama 3)",
    "Qwen2 byte-level BPE, text in form NFC", "SmolLM byte-level BPE, digits by themselves"};

static void print_import(const Import *m) {
    size_t params = model_params(&m->cfg);
    print_config(&m->cfg);
    printf("parameters    %zu (%.1f M), %s\n", params, (double)params * 1e-6, DTYPE_NAME[m->dtype]);
    printf("tokenizer     %s, %lu tokens, %lu merges\n", TOK_NAME[m->tok.kind], (unsigned long)m->tok.vocab,
           (unsigned long)m->tok.merges);
    printf("              end-of-text %ld, begin-of-text %ld\n", (long)m->tok.eot, (long)m->tok.bos);
    printf("template%s\n", m->template && *m->template ? "" : "      none");
    if (m->template && *m->template) print_text(m->template, 4);
    printf("lineage%s\n", m->lineage && *m->lineage ? "" : "       none");
    if (m->lineage && *m->lineage) print_text(m->lineage, 0);
}

// Of a checkpoint only what stands before its tensors; of other files all is read, as for converting.
static int info(const char *path, const Ask *ask, Err *e) {
    Import m = {0};
    char hex[65];
    Format is = format_of(path);
    bool other = is == A_FOLDER || is == A_GGUF || ask->tokenizer;
    int rc = other ? load(&m, path, ask, is, e) : checkpoint_import(&m, path, ask->merge, false, e);
    if (!rc && is != A_FOLDER) rc = sha256_file(path, hex, e);
    if (!rc) {
        printf(is == A_FOLDER ? "folder        " : "file          ");
        print_name(path);
        if (is != A_FOLDER) printf(", %ld bytes\nsha256        %s", file_bytes(path), hex);
        putchar('\n');
        print_import(&m);
    }
    import_free(&m);
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
    Import a = {0}, b = {0};
    int rc = -1, tensors = 0, equal = 0;
    if (checkpoint_import(&a, path_a, NULL, true, e) || checkpoint_import(&b, path_b, NULL, true, e))
        goto out;
    printf("%-6s %12s  %-12s  %s\n", "tensor", "floats", "|a-b|/|b|", "max |a-b|");
    for (int i = 0; i < TENSORS; i++) {
        Tensor ta = model_tensor(&a.cfg, i), tb = model_tensor(&b.cfg, i);
        if (ta.size == 0 && tb.size == 0) continue;
        tensors++;
        if (ta.size == 0 || tb.size == 0 || memcmp(ta.dim, tb.dim, sizeof ta.dim) != 0)
            printf("%-6s %12zu  %s\n", ta.name, ta.size, ta.size && tb.size ? "B has another shape" :
                   ta.size ? "not in B" : "not in A");
        else
            equal += diff_tensor(ta.name, tensor_data(&a.w, &ta), tensor_data(&b.w, &tb), ta.size);
    }
    printf("%d of %d tensors equal\n", equal, tensors);
    rc = 0;
out:
    import_free(&a);
    import_free(&b);
    return rc;
}

// ---- main -------------------------------------------------------------------------------------------------
static void usage(const Option *option, int options) {
    printf("usage: convert IN OUT [options]       a model from one format to another\n"
           "       convert --info IN              architecture, tokenizer, template, lineage\n"
           "       convert --diff A.bin B.bin     tensor by tensor: equal, or how far apart\n\n"
           "IN is a folder of Hugging Face transformers (GPT-2, Llama, Qwen2, Qwen3), a\n"
           "GGUF file, a checkpoint, or a llama2.c version 0 .bin. OUT is such a folder if\n"
           "it ends in / or is one, a GGUF file if it ends in .gguf, else a checkpoint.\n\n");
    options_print(option, options);
}

int main(int argc, char **argv) {
    bool show_info = false, show_diff = false, help = false, version = false;
    const char *dtype = NULL, *word[2];
    int words = 0, rc = -1;
    Ask ask = {0};
    Option option[] = {
        GROUP("Converting"),
        TEXT("--dtype", &dtype, "TYPE",
             "store weights as f32, bf16, f16 (folder, GGUF) or q8_0 (GGUF); otherwise bf16 "
             "if all of IN is, else f32"),
        TEXT("--template", &ask.template, "NAME",
             "instead of IN's own: alpaca, chatml, llama3, plain, none, or a file"),
        TEXT("--merge", &ask.merge, "BASE",
             "IN is an adapter (train --lora): it becomes one model with BASE, its base"),
        TEXT("--tokenizer", &ask.tokenizer, "FILE", "llama2.c's tokenizer .bin"),
        FLAG("--zero-bias", &ask.zero_bias,
             "a bias that IN has in no layer is zero; otherwise it is an error"),
        GROUP("Looking"),
        FLAG("--info", &show_info, "show what a model is"),
        FLAG("--diff", &show_diff, "compare two checkpoints tensor by tensor"),
        FLAG("--help", &help, "print this"),
        FLAG("--version", &version, "print the version"),
    };
    enum { OPTIONS = sizeof option / sizeof option[0] };
    Err e = {""};
    if (options_parse(option, OPTIONS, argc, argv, word, 2, &words, &e)) goto out;
    if (version) { printf("tune.c %s\n", TUNE_VERSION); rc = 0; goto out; }
    if (help) { usage(option, OPTIONS); rc = 0; goto out; }
    if (show_info && show_diff) err_set(&e, "--info and --diff: want one of them");
    else if (words != (show_info ? 1 : 2))
        err_set(&e, "%d file names, want %s\nhint: convert --help", words,
                show_info ? "IN" : show_diff ? "A.bin B.bin" : "IN OUT");
    else if (show_info) rc = info(word[0], &ask, &e);
    else if (show_diff) rc = diff(word[0], word[1], &e);
    else {
        Import m = {0};
        rc = convert(&m, word[0], word[1], &ask, dtype, &e);
        import_free(&m);
    }
out:
    if (rc == 0 && fflush(stdout) != 0) rc = err_set(&e, "standard output cannot be written");
    if (rc) fprintf(stderr, "convert: %s\n", e.msg);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

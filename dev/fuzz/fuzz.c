// fuzz.c -- hostile bytes into every reader (make fuzz). TARGET, in the environment, says which one.
//
// A target does with the bytes what a user's command would do with such a file, and asserts what must hold
// whatever they are. Crashes, leaks, reads out of bounds and undefined arithmetic are the sanitizers' business;
// the fuzzer's limits on memory and time (dev/fuzz/run.sh) stand for "a small multiple of the file's size" and
// "linear". libFuzzer calls LLVMFuzzerTestOneInput, or replay.c does, which needs no libFuzzer. SEEDS, in the
// environment, is the folder that dev/fuzz/seeds.sh made.
#define _POSIX_C_SOURCE 200809L
#include "../convert.h"
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

// ---- a folder in memory, where the bytes become a file ----------------------------------------------------

static char folder[64], input[128];

static void folder_remove(void) {
    static const char *const NAME[] = {"in", "in.csv", "in.tsv", "in.gguf", "config.json", "tokenizer.json",
                                       "model.safetensors", "tokenizer_config.json", "generation_config.json"};
    char path[128];
    for (size_t i = 0; i < sizeof NAME / sizeof *NAME; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, NAME[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void folder_make(void) {
    if (folder[0]) return;
    snprintf(folder, sizeof folder, "%s/fuzz_XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(folder)) abort();
    atexit(folder_remove);
}

static const char *seeds(const char *name) {
    static char path[1024];
    const char *from = getenv("SEEDS");
    if (!from) {
        fprintf(stderr, "want SEEDS=FOLDER, as dev/fuzz/seeds.sh makes it\n");
        exit(2);
    }
    snprintf(path, sizeof path, "%s/%s", from, name);
    return path;
}

// The file `name` of the folder, with these bytes; its path is `input`.
static void put(const char *name, const uint8_t *data, size_t n) {
    folder_make();
    snprintf(input, sizeof input, "%s/%s", folder, name);
    FILE *f = fopen(input, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f)) abort();
}

static void put_seed(const char *name, const char *seed) {
    Err e;
    uint8_t *data;
    size_t n;
    if (file_read(seeds(seed), 1 << 26, &data, &n, &e)) {
        fprintf(stderr, "%s\n", e.msg);
        exit(2);
    }
    put(name, data, n);
    free(data);
}

static uint64_t word_get(const uint8_t *p) {
    uint64_t x = 0;
    for (int i = 0; i < 8; i++) x |= (uint64_t)p[i] << 8 * i;
    return x;
}
static void word_put(uint8_t *p, uint64_t x) {
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(x >> 8 * i);
}

// An error is one line, with a hint on a second at most, and never empty.
static void said(int rc, const Err *e) {
    if (rc) assert(e->msg[0] && memchr(e->msg, 0, sizeof e->msg));
}

// ---- checkpoints and states -------------------------------------------------------------------------------

// Makes the file's sums right, so that what they guard is reached too; they are at bytes 192 and 248, the
// tensors' place at 176 (dev/DESIGN.md, the flat checkpoint).
static uint8_t *sums_mended(const uint8_t *data, size_t n) {
    enum { PLACE = 176, TENSORS_SUM = 192, OWN_SUM = 248, HEADER = 256 };
    uint8_t *p = malloc(n + 1);
    if (!p) abort();
    memcpy(p, data, n);
    if (n < HEADER) return p;
    uint64_t at = word_get(p + PLACE);
    if (at < HEADER || at > n || at % 64 || (n - at) % 64) return p;
    Sum s = {{1, 2, 3, 4}}, own = s;
    sum_add(&s, p + at, n - (size_t)at);
    word_put(p + TENSORS_SUM, sum_end(&s));
    word_put(p + OWN_SUM, 0);
    sum_add(&own, p, (size_t)at);
    word_put(p + OWN_SUM, sum_end(&own));
    return p;
}

static void put_mended(const uint8_t *data, size_t n) {
    if (n && data[n - 1] & 1) {                    // odd: as it is
        put("in", data, n);
        return;
    }
    uint8_t *p = sums_mended(data, n);
    put("in", p, n);
    free(p);
}

static void checkpoint(const uint8_t *data, size_t n) {
    Err e;
    Checkpoint k;
    put_mended(data, n);
    int rc = checkpoint_open(&k, input, seeds("base.bin"), &e);
    said(rc, &e);
    if (rc) return;
    Model m;
    void *block;
    Shape s = {.rows = 1, .seq = 1, .threads = 1};
    int32_t id[64];
    char scratch[1 << 12];
    if (k.tok.kind && tokenizer_most(&k.tok, 8) <= 64 && tokenizer_encode_size(&k.tok, 8) <= sizeof scratch) {
        uint64_t room[sizeof scratch / 8];
        size_t ids = tokenizer_encode(&k.tok, (const uint8_t *)"One day,", 8, false, id, room);
        for (size_t i = 0; i < ids; i++) assert(id[i] >= 0 && (uint32_t)id[i] < k.tok.vocab);
    }
    rc = model_load(&m, &block, &k, &s, &e);
    said(rc, &e);
    if (rc == 0) block_free(block);
    checkpoint_close(&k);
}

// The key of the state among the seeds, without which a state is refused: its lineage, whose place is at 160.
static void key_of_seed(char key[65]) {
    Err e;
    uint8_t *p;
    size_t n;
    if (file_read(seeds("run.state"), 1 << 26, &p, &n, &e) || n < 256 || word_get(p + 160) > n - 65) abort();
    memcpy(key, p + word_get(p + 160), 65);
    free(p);
}

static void state(const uint8_t *data, size_t n) {
    static char key[65];
    Err e;
    Checkpoint k;
    Model m;
    void *block;
    const Shape s = {.rows = 1, .seq = 1, .step_tokens = 1, .train = true, .threads = 1};
    State found = {0};
    if (!key[0]) key_of_seed(key);
    memcpy(found.key, key, sizeof key);
    put_mended(data, n);
    if (checkpoint_open(&k, seeds("base.bin"), NULL, &e) || model_load(&m, &block, &k, &s, &e)) abort();
    int rc = state_load(input, &found, &m, &e);
    said(rc, &e);
    assert(rc || (found.step >= 0 && found.best_step <= found.step));
    block_free(block);
    checkpoint_close(&k);
}

// ---- other programs' models -------------------------------------------------------------------------------

// What convert does: read, check, and write; what was read and written is a checkpoint that opens.
static void converted(int rc, Import *m, const char *path, Err *e) {
    if (rc == 0) rc = import_check(m, path, e);
    said(rc, e);
    import_free(m);
}

static void safetensors(const uint8_t *data, size_t n) {
    static bool ready;
    Err e;
    Import m = {0};
    if (!ready) {
        put_seed("config.json", "hf/config.json");
        put_seed("tokenizer.json", "hf/tokenizer.json");
        ready = true;
    }
    put("model.safetensors", data, n);
    int rc = hf_read(&m, folder, &(Ask){0}, &e);
    converted(rc, &m, folder, &e);
}

static void tokenizer_json(const uint8_t *data, size_t n) {
    static bool ready;
    Err e;
    Import m = {0};
    if (!ready) {
        put_seed("config.json", "hf/config.json");
        put_seed("model.safetensors", "hf/model.safetensors");
        ready = true;
    }
    put("tokenizer.json", data, n);
    int rc = hf_read(&m, folder, &(Ask){0}, &e);
    converted(rc, &m, folder, &e);
}

static void config_json(const uint8_t *data, size_t n) {
    static bool ready;
    Err e;
    Import m = {0};
    if (!ready) {
        put_seed("tokenizer.json", "hf/tokenizer.json");
        put_seed("model.safetensors", "hf/model.safetensors");
        ready = true;
    }
    put("config.json", data, n);
    int rc = hf_read(&m, folder, &(Ask){0}, &e);
    converted(rc, &m, folder, &e);
}

static void gguf(const uint8_t *data, size_t n) {
    Err e;
    Import m = {0};
    put("in.gguf", data, n);
    int rc = gguf_read(&m, input, &(Ask){0}, &e);
    converted(rc, &m, input, &e);
}

// ---- rows and templates -----------------------------------------------------------------------------------

// The bytes are rows: JSON, CSV or TSV by their first letter.
static void rows(const uint8_t *data, size_t n) {
    static const char *const NAME[] = {"in", "in.csv", "in.tsv"};
    static Checkpoint k;
    Err e;
    Rows r;
    Examples x;
    if (!k.file && checkpoint_open(&k, seeds("base.bin"), NULL, &e)) abort();
    if (n == 0) return;
    put(NAME[data[0] % 3], data + 1, n - 1);
    const RowsHow how = {.answers = data[0] & 8, .skip_bad = data[0] & 16,
                         .columns = data[0] & 32 ? "prompt=a,completion=b" : NULL};
    int rc = rows_load(&r, input, &how, &e);
    said(rc, &e);
    if (rc) return;
    for (size_t i = 0; i < r.n; i++) {
        assert(r.row[i].turns > 0 && r.row[i].output);
        for (size_t t = 0; t < r.row[i].turns; t++) assert(r.row[i].turn[t].text && r.row[i].turn[t].input);
    }
    const TooLong too_long = (TooLong)(data[0] >> 6);
    rc = examples_make(&x, &r, template_named("alpaca"), &k.tok, 64, too_long, TEACH_ANSWERS, &e);
    said(rc, &e);
    if (rc == 0) {
        for (size_t i = 0; i < x.n; i++) assert(x.ex[i].len <= 64 && x.ex[i].prompt <= x.ex[i].len);
        examples_free(&x);
    }
    rows_free(&r);
}

// The bytes are a template; two fixed rows are rendered with it.
static void template(const uint8_t *data, size_t n) {
    static Checkpoint k;
    static char text[1 << 16];
    const Turn turn[] = {{ROLE_SYSTEM, "Be brief.", ""}, {ROLE_USER, "Which?", "a or b"},
                         {ROLE_ASSISTANT, "b", ""}};
    Err e;
    Template tp;
    Fault f;
    if (!k.file && checkpoint_open(&k, seeds("base.bin"), NULL, &e)) abort();
    if (n >= sizeof text || (n && memchr(data, 0, n))) return;
    memcpy(text, data, n);
    text[n] = 0;
    int rc = template_check(text, &k.tok, &e);
    said(rc, &e);
    if (rc || template_parse(&tp, text, &k.tok, &f)) return;
    for (size_t skip = 0; skip < 2; skip++) {
        const Turn *t = turn + 1 - skip;
        size_t turns = 2 + skip;
        if (template_misfit(&tp, t, turns)) continue;
        Rendering r = {0};
        template_render(&r, &tp, &k.tok, t, turns, 0, TEACH_ANSWERS);
        size_t ids = r.ids, bytes = r.bytes;
        r.tok = malloc((ids + 1) * sizeof *r.tok);
        r.taught = malloc(ids + 1);
        r.text = malloc(bytes + 1);
        r.scratch = malloc(tokenizer_encode_size(&k.tok, bytes) + 8);
        if (!r.tok || !r.taught || !r.text || !r.scratch) abort();
        template_render(&r, &tp, &k.tok, t, turns, 0, TEACH_ANSWERS);
        assert(r.ids <= ids && r.bytes <= bytes && r.prompt <= r.ids);
        free(r.tok);
        free(r.taught);
        free(r.text);
        free(r.scratch);
    }
}

// ---- tokenizers -------------------------------------------------------------------------------------------

// Text to ids and back: the same bytes from a tokenizer that has a token for every byte.
static void tokenizer(const uint8_t *data, size_t n) {
    static const char *const NAME[] = {"base.bin", "smollm.bin", "qwen2.bin", "llama3.bin", "llama2.bin"};
    enum { KINDS = sizeof NAME / sizeof *NAME };
    static Checkpoint k[KINDS];
    Err e;
    if (n == 0) return;
    int i = data[0] % KINDS;
    bool special = data[0] & 64;
    if (!k[i].file && checkpoint_open(&k[i], seeds(NAME[i]), NULL, &e)) abort();
    const Tokenizer *t = &k[i].tok;
    const uint8_t *text = data + 1;
    n--;
    size_t most = tokenizer_most(t, n), at = 0;
    int32_t *id = malloc((most + 1) * sizeof *id);
    void *scratch = malloc(tokenizer_encode_size(t, n) + 8);
    if (!id || !scratch) abort();
    size_t ids = tokenizer_encode(t, text, n, special, id, scratch);
    assert(ids <= most);
    for (size_t j = 0; j < ids; j++) {
        size_t len;
        assert(id[j] >= 0 && (uint32_t)id[j] < t->vocab);
        assert(special || t->flag[id[j]] != TOKEN_SPECIAL);     // no text becomes a special token unasked
        const uint8_t *bytes = tokenizer_decode(t, id[j], &len);
        if (i == 0) assert(at + len <= n && memcmp(text + at, bytes, len) == 0);    // it has a token for every byte
        at += len;
    }
    if (i == 0) assert(at == n);
    free(id);
    free(scratch);
}

// ---- the way in --------------------------------------------------------------------------------------

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const struct { const char *name; void (*run)(const uint8_t *, size_t); } ALL[] = {
        {"checkpoint", checkpoint}, {"state", state}, {"safetensors", safetensors}, {"gguf", gguf},
        {"tokenizer_json", tokenizer_json}, {"config_json", config_json}, {"rows", rows},
        {"template", template}, {"tokenizer", tokenizer},
    };
    const char *name = getenv("TARGET");
    for (size_t i = 0; i < sizeof ALL / sizeof *ALL; i++)
        if (name && strcmp(name, ALL[i].name) == 0) {
            ALL[i].run(data, n);
            return 0;
        }
    fprintf(stderr, "want TARGET=checkpoint, or another of the names in dev/fuzz/fuzz.c\n");
    exit(2);
}

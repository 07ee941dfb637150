// rooms.h -- what test_data.c and test_rows.c share: a folder for the test at hand, and a small tokenizer.
#define _XOPEN_SOURCE 700
#include "../model.h"
#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// ---- a folder for the test at hand ------------------------------------------------------------------------
static char folder[256], path[300], other[300];
static Err err;

static inline void setup(void) {
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/test_data_XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    err.msg[0] = 0;
}

static inline int files_in_folder(bool remove) {
    DIR *d = opendir(folder);
    int n = 0;
    ck_assert_ptr_nonnull(d);
    for (struct dirent *f; (f = readdir(d));) {
        char name[600];
        if (f->d_name[0] == '.') continue;
        snprintf(name, sizeof name, "%s/%s", folder, f->d_name);
        if (remove && unlink(name)) rmdir(name);
        n++;
    }
    closedir(d);
    return n;
}

static inline void teardown(void) {
    files_in_folder(true);
    rmdir(folder);
}

static inline void write_file(const char *name, const void *data, size_t n) {
    FILE *f = fopen(name, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
}

static inline void write_text(const char *name, const char *text) { write_file(name, text, strlen(text)); }

static inline uint8_t *slurp(const char *name, size_t *n) {
    uint8_t *data;
    ck_assert_msg(file_read(name, 1 << 24, &data, n, &err) == 0, "%s", err.msg);
    return data;
}

static inline void must_say(const char *wanted) {
    ck_assert_msg(strstr(err.msg, wanted) != NULL, "message \"%s\" lacks \"%s\"", err.msg, wanted);
    err.msg[0] = 0;
}

// ---- a tokenizer of bytes, a few merges, and special tokens -----------------------------------------------
enum { HE = 256, LL, SPACE_A, EOT, START, END, BOS, TOKENS };
static Tokenizer tok;
static uint8_t flags[TOKENS];

static inline void make_tokenizer_of(const char *const *rest) {               // rest: the tokens from HE on
    static uint8_t bytes[400];
    static uint32_t start[TOKENS + 1], index[1 << 17];
    static const Merge merge[] = {{'h', 'e', HE, 0}, {'l', 'l', LL, 1}, {' ', 'a', SPACE_A, 2}};
    Fault f;
    uint32_t n = 0;
    for (uint32_t i = 0; i < TOKENS; i++) {
        start[i] = n;
        if (i < 256) bytes[n++] = (uint8_t)i;
        else n += (uint32_t)sprintf((char *)bytes + n, "%s", rest[i - 256]);
        flags[i] = i >= EOT ? TOKEN_SPECIAL : TOKEN_NORMAL;
    }
    start[TOKENS] = n;
    tok = (Tokenizer){.kind = TOK_GPT2, .vocab = TOKENS, .merges = 3, .eot = EOT, .bos = -1, .bytes = bytes,
                      .start = start, .flag = flags, .merge = merge};
    ck_assert_uint_le(tokenizer_index_size(TOKENS, 3), sizeof index);
    ck_assert_int_eq(tokenizer_index(&tok, index, &f), 0);
}

static inline void make_tokenizer(void) {
    static const char *const rest[] = {"he", "ll", " a", "<|endoftext|>", "<|im_start|>", "<|im_end|>",
                                       "<s>"};
    make_tokenizer_of(rest);
}

// test_tokenizer.c -- tokenizer.c against hand-made tokenizers, against its definitions written the slow way,
// and against hostile input. SEED=n in the environment repeats a run.
#include "../model.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *tokenizer_suite(void);

static Rng rng_of_test(void) {
    const char *s = getenv("SEED");
    Rng r = {s ? strtoull(s, NULL, 10) : 12345};
    printf("SEED=%llu reproduces this test\n", (unsigned long long)r.s);
    return r;
}

// xorshift64*, so that these tests link without model.c.
static uint32_t below(Rng *r, uint32_t n) {
    r->s = r->s ? r->s : 1;
    r->s ^= r->s >> 12;
    r->s ^= r->s << 25;
    r->s ^= r->s >> 27;
    return (uint32_t)((r->s * 2685821657736338717u >> 33) % n);
}

static void *get(size_t n) {
    void *p = malloc(n ? n : 1);
    ck_assert_ptr_nonnull(p);
    memset(p, 0xA5, n);                           // nobody may count on zeros
    return p;
}

// ---- a tokenizer made by hand -----------------------------------------------------------------------------
enum { TOY_TOKENS = 2048, TOY_BYTES = 1 << 16 };
typedef struct {
    Tokenizer t;
    uint8_t bytes[TOY_BYTES], flag[TOY_TOKENS];
    uint32_t start[TOY_TOKENS + 1];
    Merge merge[TOY_TOKENS];
    void *index, *exact_bytes, *exact_flag;       // made by toy_index
} Toy;

static int32_t toy_add(Toy *y, const void *bytes, size_t n, uint8_t flag) {
    uint32_t id = y->t.vocab++;
    ck_assert(y->t.vocab <= TOY_TOKENS && y->start[id] + n <= TOY_BYTES);
    memcpy(y->bytes + y->start[id], bytes, n);
    y->start[id + 1] = y->start[id] + (uint32_t)n;
    y->flag[id] = flag;
    return (int32_t)id;
}

// Tokens 0..255 are the bytes, backwards, so that no id is right by luck. In TOK_SCORED they are byte tokens.
static Toy *toy_new(TokKind kind) {
    Toy *y = get(sizeof *y);
    Tokenizer t = {.kind = kind, .eot = -1, .bos = -1, .bytes = y->bytes, .start = y->start, .flag = y->flag,
                   .merge = y->merge};
    y->t = t;
    y->start[0] = 0;
    y->index = y->exact_bytes = y->exact_flag = NULL;
    for (int i = 255; i >= 0; i--) {
        uint8_t byte = (uint8_t)i;
        toy_add(y, &byte, 1, kind == TOK_SCORED ? TOKEN_BYTE : TOKEN_NORMAL);
    }
    return y;
}

static void toy_letters(Toy *y, const char *letters) {
    for (; *letters; letters++) toy_add(y, letters, 1, TOKEN_NORMAL);
}

static int32_t toy_find(const Toy *y, const void *bytes, size_t n, uint8_t flag) {
    for (uint32_t i = 0; i < y->t.vocab; i++) {
        if (y->flag[i] != flag || y->start[i + 1] - y->start[i] != n) continue;
        if (!memcmp(y->bytes + y->start[i], bytes, n)) return (int32_t)i;
    }
    return -1;
}

// The n and m bytes of s become one token, which is made if need be. A pair that is known stays as it is.
static void toy_merge(Toy *y, const char *s, size_t n, size_t m, uint32_t rank) {
    int32_t left = toy_find(y, s, n, TOKEN_NORMAL), right = toy_find(y, s + n, m, TOKEN_NORMAL);
    ck_assert(left >= 0 && right >= 0);
    for (uint32_t i = 0; i < y->t.merges; i++)
        if (y->merge[i].left == left && y->merge[i].right == right) return;
    int32_t result = toy_find(y, s, n + m, TOKEN_NORMAL);
    if (result < 0) result = toy_add(y, s, n + m, TOKEN_NORMAL);
    ck_assert(y->t.merges < TOY_TOKENS);
    Merge new = {left, right, result, rank};
    y->merge[y->t.merges++] = new;
}

static void *copy_of(const void *from, size_t n) {
    return memcpy(get(n), from, n);
}

static void toy_unindex(Toy *y) {
    free(y->index);
    free(y->exact_bytes);
    free(y->exact_flag);
}

// The tokenizer gets bytes and flags that end where its tokens end, so that sanitizers see a step too far.
static int toy_index(Toy *y, Fault *f) {
    uint32_t vocab = y->t.vocab < TOY_TOKENS ? y->t.vocab : TOY_TOKENS, n = y->start[vocab];
    toy_unindex(y);
    y->index = get(tokenizer_index_size(y->t.vocab, y->t.merges));
    y->t.bytes = y->exact_bytes = copy_of(y->bytes, n < TOY_BYTES ? n : TOY_BYTES);
    y->t.flag = y->exact_flag = copy_of(y->flag, vocab);
    return tokenizer_index(&y->t, y->index, f);
}

static void toy_ready(Toy *y) {
    Fault f = {0};
    ck_assert_msg(toy_index(y, &f) == 0, "%s = %lld", f.what ? f.what : "", (long long)f.value);
}

static void toy_free(Toy *y) {
    toy_unindex(y);
    free(y);
}

// Encodes in memory of exactly the sizes in the contract: valgrind and sanitizers see every step out of it.
static size_t encode(const Tokenizer *t, const void *text, size_t n, bool special, int32_t **out) {
    uint8_t *copy = copy_of(text, n);
    void *scratch = get(tokenizer_encode_size(t, n));
    *out = get(tokenizer_most(t, n) * sizeof **out);
    size_t count = tokenizer_encode(t, copy, n, special, *out, scratch);
    ck_assert_uint_le(count, tokenizer_most(t, n));
    free(copy);
    free(scratch);
    return count;
}

static void expect_ids(const Tokenizer *t, const char *text, bool special, const int32_t *want, size_t n) {
    int32_t *ids;
    size_t count = encode(t, text, strlen(text), special, &ids);
    ck_assert_msg(count == n, "\"%s\": %zu ids, want %zu", text, count, n);
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(ids[i] == want[i], "\"%s\": id %zu is %d, want %d", text, i, (int)ids[i], (int)want[i]);
    free(ids);
}
#define EXPECT(t, text, special, ...) do { \
    const int32_t want_[] = {__VA_ARGS__}; \
    expect_ids(t, text, special, want_, sizeof want_ / sizeof want_[0]); \
} while (0)

// Decoding the ids gives the text, after `skip` bytes put before it.
static void expect_round_trip(const Tokenizer *t, const uint8_t *text, size_t n, bool special, size_t skip) {
    int32_t *ids;
    size_t count = encode(t, text, n, special, &ids), at = 0, len;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *s = tokenizer_decode(t, ids[i], &len);
        ck_assert(len > 0);
        for (size_t k = 0; k < len; k++, at++)
            if (at >= skip) ck_assert(at - skip < n && s[k] == text[at - skip]);
    }
    ck_assert_uint_eq(at, n ? n + skip : 0);
    free(ids);
}

// ---- pre-tokens -------------------------------------------------------------------------------------------
// Every stretch of the text plus its next byte is a merge, and all ranks are equal: the leftmost goes first,
// and each pre-token grows into one token: the tokens show the pre-tokens.
static void expect_pretokens(TokKind kind, const char *bars) {
    char text[256];
    size_t n = 0, count;
    for (const char *s = bars; *s; s++)
        if (*s != '|') text[n++] = *s;
    Toy *y = toy_new(kind);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 1; i + k < n; k++) toy_merge(y, text + i, k, 1, 0);
    toy_ready(y);
    int32_t *ids;
    count = encode(&y->t, text, n, false, &ids);
    const char *at = bars;
    for (size_t i = 0; i < count; i++) {
        size_t len, want = strcspn(at, "|");
        const uint8_t *s = tokenizer_decode(&y->t, ids[i], &len);
        ck_assert_msg(len == want && !memcmp(s, at, len), "\"%s\": piece %zu is \"%.*s\"", bars, i, (int)len,
                      (const char *)s);
        at += want + (at[want] == '|');
    }
    ck_assert_msg(*at == '\0', "\"%s\": %zu pieces", bars, count);
    free(ids);
    toy_free(y);
}

static const char *const PRETOKENS[] = {
    "Hello| world|!", "I|'ll|'re|'ve|'m|'d|'s|'t", "don|'t| it|'s", "'|S|'|RE", " '|s", "!'|s", "'", "a|'",
    "'|r", "'|rx",
    "abc|123|def|4", " 12| ab| !?| 3", "a|_|b", "x| |\t|y", "x|\t|y",
    "a| b", "a| | b", "a|  | b", "a| ", "a|   ", " ", "   ", "\n|\n|b", "a| \n| b", "a|\n\n|\n|b", "a|\r\n",
    "\xE4\xBD\xA0\xE5\xA5\xBD|\xEF\xBC\x8C|\xE4\xB8\x96\xE7\x95\x8C",     // CJK, with a full-width comma
    "a\xF0\xA0\x80\x80" "b|\xF0\x9D\x9F\x8E" "7",                         // U+20000 letter; U+1D7CE digit
    "1\xC2\xBD\xE2\x85\xA7|x",                                            // one half, Roman eight: numbers
    "e|\xCC\x81|e",                                                       // a combining accent is no letter
    "\xE0\xA4\xB9|\xE0\xA4\xBF",                                          // nor is a vowel sign
    "\xED\x9E\xA3|\xED\x9E\xA4",                                          // U+D7A3: the last Hangul syllable
    "\xF0\x9F\x91\x8D!| x",                                               // emoji
    // other spaces: U+A0, U+3000, U+85, U+2028
    "a|\xC2\xA0|b", "a|\xC2\xA0| b", "a|\xE3\x80\x80| b", "a| |\xC2\x85|b", "a| |\xE2\x80\xA8|b",
    "a| \x1C|b", "a| \xE1\xA0\x8E|b", "a| \xE2\x80\x8B|b",                // no spaces: U+1C, U+180E, U+200B
    "a|\xFF\xFE|b", "a| \x80!|b", "a|\xC3", "a|\xE2\x82", "a|\xF0\x9F\x91|b",    // stray and cut-off bytes
    "a|\xC1\x81|b", "a|\xE0\x83\x80|b", "a|\xF0\x80\x83\x80|b",           // overlong forms of U+41, U+C0
    "a|\xED\xA0\x80|b", "a|\xF4\x90\x80\x80|b", "a|\xF8\xA0\x80\x80|b",    // surrogate; above U+10FFFF
    "12345678901234567890123456789012345678901234567890| 2", "",          // too long to be looked up whole
};

START_TEST(pretokens_are_those_of_gpt2) {
    expect_pretokens(TOK_GPT2, PRETOKENS[_i]);
} END_TEST

// The bars as in the regular expressions above tokenizer.c's pretoken; each was compared with theirs.
static const struct { TokKind kind; const char *bars; } LATER[] = {
    {TOK_CL100K, "I|'ll|x|'LL|x|'Re|x|'vE|x|'M|x|'d|x|'S|x"}, {TOK_CL100K, "it|'\xC5\xBF|x"},
    {TOK_CL100K, "'x| '|s"},
    {TOK_CL100K, "a|'\xE2\x84\xAA"}, {TOK_CL100K, "a|'r"}, {TOK_CL100K, "'"}, {TOK_CL100K, "'\xC5"},
    {TOK_CL100K, "'l|1"}, {TOK_CL100K, "a|_b|.c|\td| e"}, {TOK_CL100K, "\n|a|\r|b"}, {TOK_CL100K, "a| _|b"},
    {TOK_CL100K, "\xFF" "a|\xFF\xFE"}, {TOK_CL100K, "123|456|7|a|12|b"}, {TOK_CL100K, "a| |1"},
    {TOK_CL100K, "\xC2\xBD" "1\xE2\x85\xA7|2"}, {TOK_CL100K, "a|!?\n\r\n|b"}, {TOK_CL100K, "a| !\n| b"},
    {TOK_CL100K, "a|  \n \n|  | b"}, {TOK_CL100K, "a|\n|  "}, {TOK_CL100K, "a|  | b"},
    {TOK_CL100K, "a|   "}, {TOK_CL100K, "\n"}, {TOK_CL100K, " "}, {TOK_CL100K, ""},
    {TOK_CL100K, "a|\xC2\xA0" "b"}, {TOK_CL100K, "\xE3\x80\x80| |1"},
    {TOK_QWEN2, "a|1|2|3|b"}, {TOK_QWEN2, "a| |1| b"}, {TOK_QWEN2, "x|'S|_y|.\n|z"},
    {TOK_QWEN2, "\xC2\xBD|\xE2\x85\xA7"},
    {TOK_SMOLLM, "a|1|2|b| c"}, {TOK_SMOLLM, "a| |1"}, {TOK_SMOLLM, "a|  |1|  | b"},
    {TOK_SMOLLM, "\n\n|1| |2|'s"}, {TOK_SMOLLM, "\xC2\xBD|\xE2\x85\xA7|\xF0\x9D\x9F\x8E|x"},
    {TOK_SMOLLM, "'|S| !|1|!"}, {TOK_SMOLLM, "a|\n  "},
};

START_TEST(pretokens_of_later_kinds) {
    expect_pretokens(LATER[_i].kind, LATER[_i].bars);
} END_TEST

// A pre-token that is a token is that token, however long, though no merges lead to it.
START_TEST(cl100k_whole_pretokens) {
    for (TokKind kind = TOK_CL100K; kind <= TOK_QWEN2; kind++) {
        Toy *y = toy_new(kind);
        const char *longest = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
        toy_merge(y, "ab", 1, 1, 0);              // 256
        toy_add(y, "abc", 3, TOKEN_NORMAL);       // 257
        toy_add(y, longest, 52, TOKEN_NORMAL);    // 258
        toy_add(y, "xy", 2, TOKEN_SPECIAL);       // 259: never from plain text
        toy_ready(y);
        int32_t *ids;
        bool whole = kind == TOK_CL100K;
        if (whole) EXPECT(&y->t, "abc", false, 257);
        else EXPECT(&y->t, "abc", false, 256, 255 - 'c');
        EXPECT(&y->t, "abcd", false, 256, 255 - 'c', 255 - 'd');
        EXPECT(&y->t, "xy", false, 255 - 'x', 255 - 'y');
        ck_assert_uint_eq(encode(&y->t, longest, 52, false, &ids), whole ? 1 : 50);
        free(ids);
        toy_free(y);
    }
} END_TEST

// Bytes without a token are left out before anything is merged, as in Hugging Face's tokenizers.
START_TEST(missing_bytes_are_left_out) {
    for (TokKind kind = TOK_GPT2; kind < TOK_KINDS; kind++) {
        if (kind == TOK_SCORED) continue;
        Toy *y = toy_new(kind);
        toy_merge(y, "ab", 1, 1, 0);              // 256
        toy_ready(y);
        y->flag[255 - 'x'] = y->flag[0] = TOKEN_SPECIAL;
        toy_ready(y);
        EXPECT(&y->t, "axb b", false, 256, 255 - ' ', 255 - 'b');
        expect_ids(&y->t, "xx", false, NULL, 0);
        expect_ids(&y->t, "\xFFx\xFF", false, NULL, 0);
        toy_free(y);
    }
} END_TEST

// ---- form NFC ---------------------------------------------------------------------------------------------
// Tokens are bytes, so that they show the text as it was encoded.
static size_t normal(const Tokenizer *t, const void *text, size_t n, uint8_t **out) {
    int32_t *ids;
    size_t count = encode(t, text, n, false, &ids);
    *out = get(count);
    for (size_t i = 0; i < count; i++) (*out)[i] = (uint8_t)(255 - ids[i]);
    free(ids);
    return count;
}

static const char *const NFC[][2] = {             // a text, and the same in form NFC
    {"plain \xC3\xA9 \xE4\xB8\x80 \xF0\x9F\x98\x80", "plain \xC3\xA9 \xE4\xB8\x80 \xF0\x9F\x98\x80"},
    {"cafe\xCC\x81s", "caf\xC3\xA9s"},
    {"e\xCC\xA3\xCC\x82", "\xE1\xBB\x87"}, {"e\xCC\x82\xCC\xA3", "\xE1\xBB\x87"},   // marks in any order
    {"\xC3\xAA\xCC\xA3", "\xE1\xBB\x87"}, {"\xE1\xBA\xB9\xCC\x82", "\xE1\xBB\x87"},
    {"\xC3\xA9\xCC\xA3", "\xE1\xBA\xB9\xCC\x81"},                  // a joined one comes apart for another
    {"a\xCC\x80\xCC\x81", "\xC3\xA0\xCC\x81"}, {"a\xCC\x85\xCC\x81", "a\xCC\x85\xCC\x81"},   // blocked
    {"q\xCC\x87\xCC\xA3", "q\xCC\xA3\xCC\x87"},                     // put in order, not joined
    {"\xCC\x81\xCC\xA3" "a", "\xCC\xA3\xCC\x81" "a"},               // nothing before them
    {"\xCD\x84", "\xCC\x88\xCC\x81"}, {"u\xCD\x84", "\xC7\x98"},   // U+0344 is never made
    {"\xE2\x84\xAB\xE2\x84\xA6\xEF\xA4\x80", "\xC3\x85\xCE\xA9\xE8\xB1\x88"},    // U+212B, U+2126, U+F900
    {"\xF0\xAF\xA0\x80\xF0\xAF\xA8\x9D", "\xE4\xB8\xBD\xF0\xAA\x98\x80"},        // U+2F800, U+2FA1D
    {"\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC"},                  // U+0958 is excluded
    {"\xE0\xA4\xA8\xE0\xA4\xBC", "\xE0\xA4\xA9"},                  // U+0929 is not
    {"\xF0\x9D\x85\xA0", "\xF0\x9D\x85\x98\xF0\x9D\x85\xA5\xF0\x9D\x85\xAE"},   // U+1D160: thrice as long
    {"\xE0\xA7\x87\xE0\xA6\xBE", "\xE0\xA7\x8B"},                  // no marks, and they join
    {"\xE0\xA7\x87\xCC\x81\xE0\xA6\xBE", "\xE0\xA7\x87\xCC\x81\xE0\xA6\xBE"},    // unless one is between
    {"\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8", "\xEA\xB0\x81"}, {"\xE1\x84\x80\xE1\x85\xA1", "\xEA\xB0\x80"},
    {"\xEA\xB0\x80\xE1\x86\xA8", "\xEA\xB0\x81"}, {"\xEA\xB0\x81\xE1\x86\xA8", "\xEA\xB0\x81\xE1\x86\xA8"},
    {"\xEA\xB0\x80\xE1\x86\xA7", "\xEA\xB0\x80\xE1\x86\xA7"},     // U+11A7 is no trailing consonant
    {"\xE1\x84\x92\xE1\x85\xB5\xE1\x87\x82", "\xED\x9E\xA3"},     // the last syllable
    {"\xE1\x84\x80\xCC\x81\xE1\x85\xA1", "\xE1\x84\x80\xCC\x81\xE1\x85\xA1"},
    {"e\xFF\xCC\x81", "e\xFF\xCC\x81"}, {"e\xCC\x81\xCC", "\xC3\xA9\xCC"}, {"\xCC\x81\xC3", "\xCC\x81\xC3"},
    {"e\xCC\x81\xED\xA0\x80\xCC\x81", "\xC3\xA9\xED\xA0\x80\xCC\x81"},
};

START_TEST(qwen2_text_is_in_form_nfc) {
    Toy *y = toy_new(TOK_QWEN2);
    uint8_t *out;
    toy_ready(y);
    size_t n = normal(&y->t, NFC[_i][0], strlen(NFC[_i][0]), &out), want = strlen(NFC[_i][1]);
    ck_assert_msg(n == want && !memcmp(out, NFC[_i][1], n), "\"%s\" is \"%.*s\"", NFC[_i][0], (int)n,
                  (char *)out);
    free(out);
    n = normal(&y->t, NFC[_i][1], want, &out);
    ck_assert(n == want && !memcmp(out, NFC[_i][1], n));
    free(out);
    toy_free(y);
} END_TEST

// Half a million marks after one letter, of two ranks in turn: first all of the one, then all of the other. A
// sort that is quadratic would not come back. And the longest that a text becomes.
START_TEST(nfc_of_long_runs) {
    enum { PAIRS = 1 << 18 };
    Toy *y = toy_new(TOK_QWEN2);
    uint8_t *text = get(4 * PAIRS + 1), *out;
    toy_ready(y);
    text[0] = 'q';
    for (size_t i = 0; i < PAIRS; i++) memcpy(text + 1 + 4 * i, "\xCC\x87\xCC\xA3", 4);
    ck_assert_uint_eq(normal(&y->t, text, 4 * PAIRS + 1, &out), 4 * PAIRS + 1);
    ck_assert_int_eq(out[0], 'q');
    for (size_t i = 0; i < 2 * PAIRS; i++)
        ck_assert_mem_eq(out + 1 + 2 * i, i < PAIRS ? "\xCC\xA3" : "\xCC\x87", 2);
    free(out);
    for (size_t i = 0; i < PAIRS; i++) memcpy(text + 4 * i, "\xF0\x9D\x85\xA0", 4);
    ck_assert_uint_eq(normal(&y->t, text, 4 * PAIRS, &out), 12 * PAIRS);
    ck_assert_uint_eq(tokenizer_most(&y->t, 4 * PAIRS), 12 * PAIRS + 1);
    free(out);
    free(text);
    toy_free(y);
} END_TEST

// ---- merging ----------------------------------------------------------------------------------------------
// peers 12
START_TEST(golden_ids) {
    Toy *y = toy_new(TOK_GPT2);
    toy_merge(y, "he", 1, 1, 0);                  // 256
    toy_merge(y, "ll", 1, 1, 1);                  // 257
    toy_merge(y, "hell", 2, 2, 2);                // 258
    toy_merge(y, "hello", 4, 1, 3);               // 259
    toy_merge(y, " h", 1, 1, 4);                  // 260: never, in " he" the pair "he" goes first
    toy_merge(y, " hello", 1, 5, 5);              // 261
    toy_ready(y);
    EXPECT(&y->t, "hello", false, 259);
    EXPECT(&y->t, "hello hello", false, 259, 261);
    EXPECT(&y->t, "hell no", false, 258, 255 - ' ', 255 - 'n', 255 - 'o');
    EXPECT(&y->t, "llll", false, 257, 257);
    EXPECT(&y->t, "lll", false, 257, 255 - 'l');
    EXPECT(&y->t, "\xFFhe", false, 0, 256);
    expect_ids(&y->t, "", true, NULL, 0);
    toy_free(y);
} END_TEST

// The definition: as long as there is one, merge the pair of the smallest rank, of equals the leftmost.
static size_t merge_slowly(const Tokenizer *t, int32_t *ids, size_t n) {
    for (;;) {
        const Merge *best = NULL;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (const Merge *m = t->merge; m < t->merge + t->merges; m++) {
                if (m->left != ids[i] || m->right != ids[i + 1] || (best && best->rank <= m->rank)) continue;
                best = m;
                at = i;
            }
        if (!best) return n;
        ids[at] = best->result;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

// Random merges over three letters, ranks in no order and often equal; words short and long.
START_TEST(encode_is_the_definition) {
    Rng r = rng_of_test();
    for (int round = 0; round < 40; round++) {
        TokKind kind = round % 2 ? TOK_SCORED : TOK_GPT2;
        Toy *y = toy_new(kind);
        if (kind == TOK_SCORED) toy_letters(y, "abc");
        uint32_t first = kind == TOK_SCORED ? 256 : 255 - 'c';
        for (uint32_t i = 0, tokens = 3; i < 30; i++) {
            char s[64];
            size_t n[2];
            for (int k = 0, at = 0; k < 2; k++) {
                uint32_t pick = below(&r, tokens), id = pick < 3 ? first + pick : y->t.vocab - tokens + pick;
                n[k] = y->start[id + 1] - y->start[id];
                if (n[k] > 8) n[k] = 1, id = first;
                memcpy(s + at, y->bytes + y->start[id], n[k]);
                at += (int)n[k];
            }
            uint32_t before = y->t.vocab;
            toy_merge(y, s, n[0], n[1], below(&r, 12));
            tokens += y->t.vocab - before;
        }
        toy_ready(y);
        for (int k = 0; k < 50; k++) {
            char text[80];
            int32_t want[80], *ids;
            size_t n = 1 + below(&r, below(&r, 2) ? 79 : 8);
            for (size_t i = 0; i < n; i++) {
                text[i] = "abc"[below(&r, 3)];
                want[i] = toy_find(y, text + i, 1, TOKEN_NORMAL);
            }
            size_t count = encode(&y->t, text, n, false, &ids), slow = merge_slowly(&y->t, want, n);
            ck_assert_uint_eq(count, slow);
            ck_assert_mem_eq(ids, want, slow * sizeof *ids);
            free(ids);
        }
        toy_free(y);
    }
} END_TEST

// Quadratic merging would not come back from this. No time is asserted.
START_TEST(one_letter_a_million_times) {
    size_t n = 1 << 20, count;
    char *text = get(n);
    memset(text, 'a', n);
    Toy *y = toy_new(_i ? TOK_SCORED : TOK_GPT2);
    if (_i) toy_letters(y, "a");
    for (size_t k = 1; k <= 64; k *= 2) toy_merge(y, text, k, k, (uint32_t)k);
    toy_ready(y);
    int32_t *ids;
    count = encode(&y->t, text, n, true, &ids);
    ck_assert_uint_eq(count, n / 128);
    for (size_t i = 0; i < count; i++) ck_assert_int_eq(ids[i], (int32_t)y->t.vocab - 1);
    free(ids);
    free(text);
    toy_free(y);
} END_TEST

START_TEST(any_bytes_come_back) {
    Rng r = rng_of_test();
    bool scored = _i == 1;                        // Qwen2's kind is left out: its texts change
    const TokKind kinds[] = {TOK_GPT2, TOK_SCORED, TOK_CL100K, TOK_SMOLLM};
    Toy *y = toy_new(kinds[_i]);
    if (scored) toy_letters(y, "the7 ");
    toy_merge(y, "the", 1, 1, 0);
    toy_merge(y, "the", 2, 1, 1);
    toy_add(y, "<end>", 5, TOKEN_SPECIAL);
    y->t.add_space = scored;
    toy_ready(y);
    static const char *const BITS[] = {"the", " ", "\n", "<end>", "\xE2\x82\xAC", "\xE2\x82",
                                       "\xF0\x9F\x91\x8D", "'s", "7"};
    for (int round = 0; round < 500; round++) {
        uint8_t text[200];
        size_t n = 0, size = below(&r, 190);
        bool special = below(&r, 2);
        while (n < size) {
            uint32_t k = below(&r, 18);
            const char *s = k < 9 ? BITS[k] : "";
            memcpy(text + n, s, strlen(s));
            n += strlen(s);
            if (k >= 9) text[n++] = (uint8_t)below(&r, 256);
        }
        if (scored && special) continue;          // where the space goes is tested in scored_special
        expect_round_trip(&y->t, text, n, special, scored ? 1 : 0);
    }
    toy_free(y);
} END_TEST

// ---- scored -----------------------------------------------------------------------------------------------
START_TEST(scored_characters_bytes_and_space) {
    Toy *y = toy_new(TOK_SCORED);
    toy_letters(y, " ab");                        // 256..258
    toy_add(y, "\xE2\x82\xAC", 3, TOKEN_NORMAL);  // 259
    toy_merge(y, " a", 1, 1, 5);                  // 260
    toy_merge(y, "aa", 1, 1, 2);                  // 261
    toy_merge(y, "aab", 2, 1, 2);                 // 262, from two pairs
    toy_merge(y, "ab", 1, 1, 2);                  // 263
    toy_merge(y, "aab", 1, 2, 2);
    toy_ready(y);
    EXPECT(&y->t, "a", false, 257);
    EXPECT(&y->t, " a", false, 260);
    EXPECT(&y->t, "b a", false, 258, 260);        // no pre-tokens, but no merge either
    EXPECT(&y->t, "aab", false, 262);
    EXPECT(&y->t, "aaab", false, 261, 263);       // equal ranks: leftmost first
    EXPECT(&y->t, "\xE2\x82\xAC", false, 259);
    EXPECT(&y->t, "\xE2\x82", false, 255 - 0xE2, 255 - 0x82);
    EXPECT(&y->t, "\xE2\x82" "a\xC3\xA9", false, 255 - 0xE2, 255 - 0x82, 257, 255 - 0xC3, 255 - 0xA9);
    EXPECT(&y->t, "c", false, 255 - 'c');
    EXPECT(&y->t, "b\xE2\x96\x81" "a", false, 258, 260);    // U+2581 is a space
    y->t.add_space = true;
    EXPECT(&y->t, "a", false, 260);
    EXPECT(&y->t, " a", false, 256, 260);
    EXPECT(&y->t, "c", false, 256, 255 - 'c');
    expect_ids(&y->t, "", false, NULL, 0);
    toy_free(y);
} END_TEST

// Tokens whose bytes are no character, or not one, are never what a text begins as.
START_TEST(scored_invalid_characters) {
    static const char *const BAD[] = {"\xFF", "\xC1\x81", "\xE2\x82", "\xED\xA0\x80", "\xF4\x90\x80\x80",
                                      "ab"};
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        Toy *y = toy_new(TOK_SCORED);
        toy_add(y, BAD[i], strlen(BAD[i]), TOKEN_NORMAL);
        toy_ready(y);
        int32_t *ids;
        size_t count = encode(&y->t, BAD[i], strlen(BAD[i]), false, &ids);
        ck_assert_uint_eq(count, strlen(BAD[i]));
        for (size_t k = 0; k < count; k++) ck_assert_int_eq(ids[k], 255 - (uint8_t)BAD[i][k]);
        free(ids);
        toy_free(y);
    }
} END_TEST

START_TEST(scored_merges_across_spaces) {
    Toy *y = toy_new(TOK_SCORED);
    toy_letters(y, "a b");                        // 256..258
    toy_merge(y, "a ", 1, 1, 0);                  // 259
    toy_merge(y, "a b", 2, 1, 1);                 // 260
    toy_ready(y);
    EXPECT(&y->t, "a b", false, 260);
    toy_free(y);
} END_TEST

START_TEST(scored_special) {
    Toy *y = toy_new(TOK_SCORED);
    toy_letters(y, " ");                          // 256
    toy_add(y, "<s>", 3, TOKEN_SPECIAL);          // 257
    y->t.add_space = true;
    toy_ready(y);
    EXPECT(&y->t, "<s>a<s>b", true, 257, 256, 255 - 'a', 257, 255 - 'b');
    EXPECT(&y->t, "a<s>", true, 256, 255 - 'a', 257);
    EXPECT(&y->t, "<s>", true, 257);
    EXPECT(&y->t, "<s>", false, 256, 255 - '<', 255 - 's', 255 - '>');
    toy_free(y);
} END_TEST

// ---- special tokens ---------------------------------------------------------------------------------------
START_TEST(special_tokens_only_when_asked_for) {
    Toy *y = toy_new(TOK_GPT2);
    toy_add(y, "<a>", 3, TOKEN_SPECIAL);          // 256
    toy_add(y, "<a>>", 4, TOKEN_SPECIAL);         // 257
    toy_add(y, "", 0, TOKEN_SPECIAL);             // 258 fills up, is never found
    toy_add(y, "b<", 2, TOKEN_SPECIAL);           // 259
    toy_add(y, "<a>", 3, TOKEN_SPECIAL);          // 260 is 256 again: the smaller id counts
    toy_merge(y, ">>", 1, 1, 0);                  // 261
    toy_add(y, "", 0, TOKEN_SPECIAL);             // 262, at the very end of the bytes
    toy_ready(y);
    EXPECT(&y->t, "<a>", true, 256);
    EXPECT(&y->t, "<a>>", true, 257);
    EXPECT(&y->t, "<a>>>>", true, 257, 261);
    EXPECT(&y->t, "<<a>", true, 255 - '<', 256);
    EXPECT(&y->t, "b<a>>", true, 259, 255 - 'a', 261);    // the earliest, though others are longer
    EXPECT(&y->t, "<a", true, 255 - '<', 255 - 'a');
    EXPECT(&y->t, "<a><a>", true, 256, 256);
    EXPECT(&y->t, "  <a> ", true, 255 - ' ', 255 - ' ', 256, 255 - ' ');
    EXPECT(&y->t, "<a>", false, 255 - '<', 255 - 'a', 255 - '>');
    ck_assert_int_eq(tokenizer_find(&y->t, "<a>"), 256);
    ck_assert_int_eq(tokenizer_find(&y->t, "<a>>"), 257);
    ck_assert_int_eq(tokenizer_find(&y->t, "<a"), -1);
    ck_assert_int_eq(tokenizer_find(&y->t, "<a>>>"), -1);
    ck_assert_int_eq(tokenizer_find(&y->t, ">>"), -1);
    ck_assert_int_eq(tokenizer_find(&y->t, ""), -1);
    toy_free(y);
} END_TEST

// Many special tokens over two letters against the plain search for the longest.
START_TEST(special_tokens_are_the_longest) {
    Rng r = rng_of_test();
    Toy *y = toy_new(TOK_GPT2);
    char text[2000];
    for (int k = 0; k < 300; k++) {
        size_t n = 2 + below(&r, 12);
        for (size_t i = 0; i < n; i++) text[i] = "xy"[below(&r, 2)];
        toy_add(y, text, n, TOKEN_SPECIAL);
    }
    toy_ready(y);
    for (size_t i = 0; i < sizeof text; i++) text[i] = "xy"[below(&r, 2)];
    int32_t *ids;
    size_t count = encode(&y->t, text, sizeof text, true, &ids), at = 0;
    for (size_t i = 0; i < count; i++) {
        int32_t want = -1;
        for (size_t n = 2; n <= 13 && at + n <= sizeof text; n++) {
            int32_t id = toy_find(y, text + at, n, TOKEN_SPECIAL);
            if (id >= 0) want = id;
        }
        if (want < 0) want = toy_find(y, text + at, 1, TOKEN_NORMAL);
        ck_assert_int_eq(ids[i], want);
        at += y->start[want + 1] - y->start[want];
    }
    ck_assert_uint_eq(at, sizeof text);
    free(ids);
    toy_free(y);
} END_TEST

// ---- index ------------------------------------------------------------------------------------------------
static Toy *toy_good(TokKind kind) {
    Toy *y = toy_new(kind);
    if (kind == TOK_SCORED) toy_letters(y, "ab");
    toy_merge(y, "aa", 1, 1, 0);
    toy_merge(y, "aab", 2, 1, 1);
    toy_add(y, "<end>", 5, TOKEN_SPECIAL);
    toy_ready(y);
    return y;
}

static void refused(Toy *y, const char *what) {
    Fault f = {0};
    ck_assert_msg(toy_index(y, &f) == -1, "accepted, want a fault about: %s", what);
    ck_assert_msg(f.what && strstr(f.what, what), "\"%s\", want: %s", f.what ? f.what : "", what);
    ck_assert_msg(f.value < f.lo || f.value > f.hi, "%s: %lld is in range", f.what, (long long)f.value);
    toy_free(y);
}
#define REFUSED(kind, change, what) do { Toy *y = toy_good(kind); change; refused(y, what); } while (0)

START_TEST(hostile_fields_are_refused) {
    for (TokKind k = TOK_GPT2; k < TOK_KINDS; k++) {
        REFUSED(k, y->t.kind = TOK_KINDS, "kind");
        REFUSED(k, y->t.kind = TOK_NONE, "tokens");
        REFUSED(k, y->t.kind = TOK_NONE; y->t.vocab = 0, "tokenizer: merges");
        REFUSED(k, y->t.vocab = 255, "tokens");
        REFUSED(k, y->t.vocab = (1 << 24) + 1, "tokens");
        REFUSED(k, y->t.merges = (1 << 24) + 1, "tokenizer: merges");
        REFUSED(k, y->t.eot = -2, "end-of-text");
        REFUSED(k, y->t.eot = (int32_t)y->t.vocab, "end-of-text");
        REFUSED(k, y->t.bos = -2, "begin-of-text");
        REFUSED(k, y->t.eot = 3, "flag of end-of-text");
        REFUSED(k, y->t.bos = 3, "flag of begin-of-text");
        REFUSED(k, y->t.bos = (int32_t)y->t.vocab, "begin-of-text");
        REFUSED(k, y->start[0] = 1, "start");
        REFUSED(k, y->start[256] = 254, "end of a token");
        REFUSED(k, y->start[256] = UINT32_MAX, "of a token");
        REFUSED(k, y->start[5] = 4, "bytes of a token");
        REFUSED(k, y->flag[7] = 3, "flag");
        REFUSED(k, y->flag[7] = 255, "flag");
        REFUSED(k, toy_add(y, "", 0, TOKEN_NORMAL), "bytes of a token");
        REFUSED(k, char s[129] = {0}; toy_add(y, s, sizeof s, TOKEN_SPECIAL), "bytes of a token");
        REFUSED(k, y->merge[0].left = -1, "merges");
        REFUSED(k, y->merge[0].right = (int32_t)y->t.vocab, "merges");
        REFUSED(k, y->merge[0].result = INT32_MIN, "merges");
        REFUSED(k, y->merge[1].result = y->merge[0].result, "merges");              // too short
        REFUSED(k, y->merge[0].result = y->merge[1].result, "merges");              // too long
        REFUSED(k, y->bytes[y->start[y->merge[1].result]] = 'b', "merges");         // left's bytes differ
        REFUSED(k, y->bytes[y->start[y->merge[1].result] + 2] = 'a', "merges");     // right's bytes differ
        REFUSED(k, y->flag[y->merge[1].result] = TOKEN_SPECIAL, "merges");          // made from plain text
        REFUSED(k, y->merge[1] = y->merge[0], "merges");                            // twice
    }
    REFUSED(TOK_GPT2, y->flag[7] = TOKEN_BYTE, "flag");
    REFUSED(TOK_GPT2, y->t.merges = 0; memset(y->flag, TOKEN_SPECIAL, y->t.vocab), "single bytes");
    REFUSED(TOK_SCORED, y->flag[7] = TOKEN_SPECIAL, "single bytes");
    REFUSED(TOK_SCORED, y->bytes[7] = 'a', "single bytes");
    REFUSED(TOK_SCORED, toy_add(y, "xy", 2, TOKEN_BYTE), "bytes of a token");
    REFUSED(TOK_SCORED, toy_add(y, "", 0, TOKEN_BYTE), "bytes of a token");
} END_TEST

START_TEST(no_tokenizer_is_a_tokenizer) {
    Tokenizer t = {.kind = TOK_NONE, .eot = -1, .bos = -1};
    Fault f;
    int32_t *ids;
    void *index = get(tokenizer_index_size(0, 0));
    ck_assert_int_eq(tokenizer_index(&t, index, &f), 0);
    ck_assert_uint_eq(encode(&t, "a", 1, true, &ids), 0);
    ck_assert_int_eq(tokenizer_find(&t, "a"), -1);
    free(ids);
    t.eot = 0;
    ck_assert_int_eq(tokenizer_index(&t, index, &f), -1);
    free(index);
} END_TEST

// A token whose bytes merge to something else is never chosen; nor is the second of two equal ones.
START_TEST(tokens_out_of_reach) {
    Toy *y = toy_new(TOK_GPT2);
    toy_add(y, "ab", 2, TOKEN_NORMAL);            // 256: no merge gives it
    toy_merge(y, "bc", 1, 1, 0);                  // 257
    toy_merge(y, "abc", 2, 1, 1);                 // 258: "bc" goes first, then nothing joins "a" and "bc"
    toy_add(y, "bc", 2, TOKEN_NORMAL);            // 259
    toy_add(y, "x", 1, TOKEN_NORMAL);             // 260
    toy_add(y, "yz", 2, TOKEN_NORMAL);            // 261
    int32_t yz = toy_add(y, "yz", 2, TOKEN_NORMAL);
    Merge new = {255 - 'y', 255 - 'z', yz, 2};
    y->merge[y->t.merges++] = new;
    toy_ready(y);
    EXPECT(&y->t, "yz", false, yz);               // the one that the merge gives, though its id is the larger
    EXPECT(&y->t, "ab", false, 255 - 'a', 255 - 'b');
    EXPECT(&y->t, "abc", false, 255 - 'a', 257);
    EXPECT(&y->t, "bc", false, 257);
    EXPECT(&y->t, "x", false, 255 - 'x');
    toy_free(y);
    y = toy_new(TOK_SCORED);
    toy_letters(y, "xx");                         // 256, 257
    toy_ready(y);
    EXPECT(&y->t, "x", false, 256);
    toy_free(y);
} END_TEST

// Tokens whose hashes name one place of the table of 1,024 fill it and the 127 behind it; then the next is
// refused, though the place behind those is free.
START_TEST(a_search_gives_up) {
    enum { MOST = 128, MASK = 1023 };
    const uint64_t mix = 0x9E3779B97F4A7C15u;
    Toy *y = toy_new(TOK_GPT2);
    Fault f = {0};
    uint32_t place = 0;
    toy_add(y, "<one more than half of 512>", 27, TOKEN_SPECIAL);
    toy_ready(y);
    ck_assert_uint_eq(y->t.wordmask, MASK);
    while (y->t.word[(place + MOST) & MASK]) place++;
    for (unsigned i = 0; f.what == NULL; i++) {
        char name[16];
        uint64_t hash = mix;
        int n = snprintf(name, sizeof name, "<%u>", i);
        for (int k = 0; k < n; k++) hash = (hash ^ (uint8_t)name[k]) * mix;
        if ((hash >> 32 & MASK) != place) continue;
        toy_add(y, name, (size_t)n, TOKEN_SPECIAL);
        toy_index(y, &f);
    }
    ck_assert_str_eq(f.what, "tokenizer: tokens whose hashes differ");
    for (uint32_t i = 0; i < MOST; i++) ck_assert_uint_ne(y->t.word[(place + i) & MASK], 0);
    ck_assert_uint_eq(y->t.word[(place + MOST) & MASK], 0);
    toy_free(y);
} END_TEST

START_TEST(decode_of_unknown_ids) {
    Toy *y = toy_good(TOK_GPT2);
    const int32_t ids[] = {-1, INT32_MIN, INT32_MAX, (int32_t)y->t.vocab};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        size_t n = 7;
        tokenizer_decode(&y->t, ids[i], &n);
        ck_assert_uint_eq(n, 0);
    }
    toy_free(y);
} END_TEST

START_TEST(sizes_do_not_wrap) {
    for (TokKind kind = TOK_GPT2; kind < TOK_KINDS; kind++) {
        Tokenizer t = {.kind = kind};
        ck_assert_uint_eq(tokenizer_encode_size(&t, SIZE_MAX), SIZE_MAX);
        ck_assert_uint_eq(tokenizer_encode_size(&t, (size_t)INT32_MAX + 1), SIZE_MAX);
        ck_assert_uint_eq(tokenizer_most(&t, SIZE_MAX), SIZE_MAX);
        size_t most = kind == TOK_QWEN2 ? (UINT32_MAX - 1) / 3 : INT32_MAX;
        ck_assert_uint_lt(tokenizer_encode_size(&t, most), SIZE_MAX);
        ck_assert_uint_eq(tokenizer_encode_size(&t, most + 1), SIZE_MAX);
    }
    ck_assert_uint_eq(tokenizer_train_size(SIZE_MAX, 300), SIZE_MAX);
    ck_assert_uint_eq(tokenizer_train_size(1, UINT32_MAX), SIZE_MAX);
    ck_assert_uint_ge(tokenizer_index_size(UINT32_MAX, UINT32_MAX), UINT32_MAX);
    ck_assert_uint_gt(tokenizer_index_size(2, 9), tokenizer_index_size(2, 8));
} END_TEST

// ---- train ------------------------------------------------------------------------------------------------
typedef struct {
    Tokenizer t;
    void *memory, *index;
} Trained;

static Trained train(const void *text, size_t n, uint32_t vocab) {
    Trained r;
    Fault f = {0};
    uint8_t *copy = copy_of(text, n);
    r.memory = get(tokenizer_train_size(n, vocab));
    ck_assert_int_eq(tokenizer_train(&r.t, copy, n, vocab, r.memory, &f), 0);
    free(copy);
    r.index = get(tokenizer_index_size(r.t.vocab, r.t.merges));
    int rc = tokenizer_index(&r.t, r.index, &f);
    ck_assert_msg(rc == 0, "%s = %lld", f.what ? f.what : "", (long long)f.value);
    ck_assert(r.t.vocab >= 257 && r.t.vocab <= vocab && r.t.merges == r.t.vocab - 257);
    return r;
}

static void trained_free(Trained *r) {
    free(r->memory);
    free(r->index);
}

static void expect_token(const Tokenizer *t, int32_t id, const char *want) {
    size_t n;
    const uint8_t *s = tokenizer_decode(t, id, &n);
    ck_assert_msg(n == strlen(want) && !memcmp(s, want, n), "token %d is \"%.*s\", want \"%s\"", (int)id,
                  (int)n, (const char *)s, want);
}

START_TEST(training_golden) {
    const char *text = "low low low low low lower lower widest widest widest "    // Sennrich's example
                       "newest newest newest newest newest newest";
    const char *want[] = {"st", "est", "ow", "low", "west", "ne"};
    Trained r = train(text, strlen(text), 256 + 6 + 1);
    ck_assert_uint_eq(r.t.vocab, 263);
    ck_assert_int_eq(r.t.kind, TOK_GPT2);
    for (int i = 0; i < 256; i++) {
        size_t n;
        ck_assert_int_eq(*tokenizer_decode(&r.t, i, &n), i);
        ck_assert_uint_eq(n, 1);
    }
    for (int i = 0; i < 6; i++) {
        expect_token(&r.t, 256 + i, want[i]);
        ck_assert_uint_eq(r.t.merge[i].rank, (uint32_t)i);
        ck_assert_int_eq(r.t.merge[i].result, 256 + i);
    }
    expect_token(&r.t, 262, "<|endoftext|>");
    ck_assert_int_eq(r.t.eot, 262);
    ck_assert_int_eq(r.t.bos, -1);
    ck_assert_int_eq(tokenizer_find(&r.t, "<|endoftext|>"), 262);
    EXPECT(&r.t, "lowest<|endoftext|>", true, 259, 257, 262);
    trained_free(&r);
} END_TEST

// The definition, for words of a..c and spaces: count every pair of every word anew for each merge.
enum { SLOW_VOCAB = 256 + 60, SLOW_TEXT = 3000 };
typedef struct {
    int32_t id[SLOW_TEXT];
    bool begins[SLOW_TEXT];                       // a pre-token begins here
    size_t n;
} SlowText;

static int slow_order(const Tokenizer *t, int32_t a, int32_t b) {
    size_t n, m;
    const uint8_t *s = tokenizer_decode(t, a, &n), *r = tokenizer_decode(t, b, &m);
    int order = memcmp(s, r, n < m ? n : m);
    return order ? order : (n > m) - (n < m);
}

static void train_slowly(const Trained *fast, SlowText *x) {
    static uint32_t count[SLOW_VOCAB][SLOW_VOCAB];
    const Tokenizer *t = &fast->t;
    for (uint32_t k = 0; k <= t->merges; k++) {
        memset(count, 0, sizeof count);
        int32_t left = 0, right = 0;
        for (size_t i = 0; i + 1 < x->n; i++) if (!x->begins[i + 1]) count[x->id[i]][x->id[i + 1]]++;
        for (int32_t a = 0; a < SLOW_VOCAB; a++)
            for (int32_t b = 0; b < SLOW_VOCAB; b++) {
                if (count[a][b] == 0 || count[a][b] < count[left][right]) continue;
                int order = slow_order(t, a, left) ? slow_order(t, a, left) : slow_order(t, b, right);
                if (count[a][b] > count[left][right] || order > 0) left = a, right = b;
            }
        if (k == t->merges) {
            ck_assert_msg(t->vocab == SLOW_VOCAB || count[left][right] < 2, "stopped too early");
            return;
        }
        const Merge *m = &t->merge[k];
        ck_assert_msg(left == m->left && right == m->right, "merge %u is %d + %d, want %d + %d", (unsigned)k,
                      (int)m->left, (int)m->right, (int)left, (int)right);
        size_t n = 0;
        for (size_t i = 0; i < x->n; i++, n++) {
            bool both = i + 1 < x->n && !x->begins[i + 1] && x->id[i] == left && x->id[i + 1] == right;
            x->id[n] = both ? 256 + (int32_t)k : x->id[i];
            x->begins[n] = x->begins[i];
            i += both;
        }
        x->n = n;
    }
}

START_TEST(training_is_the_definition) {
    Rng r = rng_of_test();
    static char text[SLOW_TEXT];
    static SlowText x;
    for (int round = 0; round < 30; round++) {
        size_t n = 1 + below(&r, SLOW_TEXT - 1), letters = 1 + below(&r, 3), longest = 2 + below(&r, 30);
        for (size_t i = 0; i < n; i++) {
            bool space = i > 0 && text[i - 1] != ' ' && i + 1 < n && below(&r, (uint32_t)longest) == 0;
            text[i] = space ? ' ' : "abc"[below(&r, (uint32_t)letters)];
            x.id[i] = text[i];
            x.begins[i] = space || i == 0;        // a space goes with the word behind it
        }
        x.n = n;
        Trained fast = train(text, n, SLOW_VOCAB);
        train_slowly(&fast, &x);
        trained_free(&fast);
    }
} END_TEST

static size_t english(char *text, size_t size, Rng *r) {
    static const char *const WORD[] = {"the", "little", "bird", "sang", "a", "song", "of", "rain", "again",
                                       "'s", "12", "\xC3\xA9t\xC3\xA9", "\xE9\x9B\xA8", "\xFF"};
    size_t n = 0;
    while (n + 16 < size) {
        const char *w = WORD[below(r, 14)];
        memcpy(text + n, w, strlen(w));
        n += strlen(w);
        text[n++] = " \n,."[below(r, 4)];
    }
    return n;
}

START_TEST(training_is_deterministic) {
    Rng r = rng_of_test();
    char text[5000];
    size_t n = english(text, sizeof text, &r);
    Fault f;
    uint8_t *a = get(tokenizer_train_size(n, 400)), *b = get(tokenizer_train_size(n, 400));
    memset(b, 0, tokenizer_train_size(n, 400));   // what lay in the memory before does not matter
    Tokenizer t, u;
    ck_assert_int_eq(tokenizer_train(&t, (uint8_t *)text, n, 400, a, &f), 0);
    ck_assert_int_eq(tokenizer_train(&u, (uint8_t *)text, n, 400, b, &f), 0);
    ck_assert(t.vocab == u.vocab && t.merges == u.merges && t.merges > 50);
    ck_assert_mem_eq(t.start, u.start, (t.vocab + 1) * sizeof *t.start);
    ck_assert_mem_eq(t.bytes, u.bytes, t.start[t.vocab]);
    ck_assert_mem_eq(t.flag, u.flag, t.vocab);
    ck_assert_mem_eq(t.merge, u.merge, t.merges * sizeof *t.merge);
    free(a);
    free(b);
} END_TEST

START_TEST(trained_tokenizer_works) {
    Rng r = rng_of_test();
    char text[20000];
    size_t n = english(text, sizeof text, &r), len, other;
    Trained x = train(text, n, 500);
    for (int32_t i = 0; i < (int32_t)x.t.vocab; i++)
        for (int32_t k = 0; k < i; k++) {
            const uint8_t *s = tokenizer_decode(&x.t, i, &len), *q = tokenizer_decode(&x.t, k, &other);
            ck_assert_msg(len != other || memcmp(s, q, len), "tokens %d and %d are equal", (int)k, (int)i);
        }
    expect_round_trip(&x.t, (uint8_t *)text, n, false, 0);
    int32_t *ids;
    ck_assert_uint_lt(encode(&x.t, text, n, false, &ids), n / 2);
    free(ids);
    trained_free(&x);
} END_TEST

START_TEST(training_stops_early) {
    Trained r = train("", 0, 1000);
    ck_assert_uint_eq(r.t.vocab, 257);
    trained_free(&r);
    r = train("abc", 3, 1000);                    // no pair twice
    ck_assert_uint_eq(r.t.vocab, 257);
    ck_assert_int_eq(r.t.eot, 256);
    trained_free(&r);
    r = train("ab ab", 5, 1000);                  // "ab" twice, " ab" once
    ck_assert_uint_eq(r.t.vocab, 258);
    expect_token(&r.t, 256, "ab");
    trained_free(&r);
    r = train("ab ab", 5, 257);                   // no room
    ck_assert_uint_eq(r.t.vocab, 257);
    trained_free(&r);
} END_TEST

START_TEST(training_skips_end_of_text) {
    const char *text = "ab<|endoftext|>ab<|endoftext|><|endoftext|>", *half = "x<|endoftext|x<|endoftext|";
    Trained r = train(text, strlen(text), 300);
    ck_assert_uint_eq(r.t.vocab, 258);
    expect_token(&r.t, 256, "ab");
    trained_free(&r);
    r = train(half, strlen(half), 400);           // not quite one: ordinary text
    ck_assert_uint_gt(r.t.vocab, 258);
    trained_free(&r);
} END_TEST

START_TEST(training_on_one_letter) {
    size_t n = 1 << 20;
    char *text = get(n);
    memset(text, 'a', n);
    Trained r = train(text, n, 1000);             // 2, 4, .. 128 letters, and no longer
    ck_assert_uint_eq(r.t.vocab, 256 + 7 + 1);
    ck_assert_uint_eq(r.t.start[263] - r.t.start[262], 128);
    expect_round_trip(&r.t, (uint8_t *)text, n, false, 0);
    trained_free(&r);
    free(text);
} END_TEST

START_TEST(training_refuses) {
    Tokenizer t;
    Fault f;
    uint8_t text[1] = {0};
    ck_assert_int_eq(tokenizer_train(&t, text, 1, 256, NULL, &f), -1);
    ck_assert(f.value == 256 && f.lo == 257);
    ck_assert_int_eq(tokenizer_train(&t, text, 1, UINT32_MAX, NULL, &f), -1);
    ck_assert_int_eq(tokenizer_train(&t, text, (size_t)INT32_MAX + 1, 300, NULL, &f), -1);
    ck_assert_int_eq(f.hi, INT32_MAX);
} END_TEST

Suite *tokenizer_suite(void) {
    Suite *s = suite_create("tokenizer");
    TCase *c = tcase_create("encode");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, pretokens_are_those_of_gpt2, 0, (int)(sizeof PRETOKENS / sizeof PRETOKENS[0]));
    tcase_add_loop_test(c, pretokens_of_later_kinds, 0, (int)(sizeof LATER / sizeof LATER[0]));
    tcase_add_test(c, cl100k_whole_pretokens);
    tcase_add_test(c, missing_bytes_are_left_out);
    tcase_add_loop_test(c, qwen2_text_is_in_form_nfc, 0, (int)(sizeof NFC / sizeof NFC[0]));
    tcase_add_test(c, nfc_of_long_runs);
    tcase_add_test(c, golden_ids);
    tcase_add_test(c, encode_is_the_definition);
    tcase_add_loop_test(c, one_letter_a_million_times, 0, 2);
    tcase_add_loop_test(c, any_bytes_come_back, 0, 4);
    tcase_add_test(c, scored_characters_bytes_and_space);
    tcase_add_test(c, scored_invalid_characters);
    tcase_add_test(c, scored_merges_across_spaces);
    tcase_add_test(c, scored_special);
    tcase_add_test(c, special_tokens_only_when_asked_for);
    tcase_add_test(c, special_tokens_are_the_longest);
    suite_add_tcase(s, c);
    c = tcase_create("index");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, hostile_fields_are_refused);
    tcase_add_test(c, no_tokenizer_is_a_tokenizer);
    tcase_add_test(c, tokens_out_of_reach);
    tcase_add_test(c, a_search_gives_up);
    tcase_add_test(c, decode_of_unknown_ids);
    tcase_add_test(c, sizes_do_not_wrap);
    suite_add_tcase(s, c);
    c = tcase_create("train");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, training_golden);
    tcase_add_test(c, training_is_the_definition);
    tcase_add_test(c, training_is_deterministic);
    tcase_add_test(c, trained_tokenizer_works);
    tcase_add_test(c, training_stops_early);
    tcase_add_test(c, training_skips_end_of_text);
    tcase_add_test(c, training_on_one_letter);
    tcase_add_test(c, training_refuses);
    suite_add_tcase(s, c);
    return s;
}

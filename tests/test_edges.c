// test_edges.c -- edges of tokenizer.c and data.c that no other test stands on: each test is here because of a
// change of one line (dev/mutants.py) that would have gone unnoticed without it.
#include "rooms.h"
#include <fcntl.h>

Suite *edges_suite(void);

// ---- tokenizer.c ------------------------------------------------------------------------------------------
START_TEST(every_length_of_utf8_begins_and_ends_where_it_must) {
    static const struct { uint32_t code; size_t bytes; } edge[] = {
        {0, 1}, {0x7F, 1}, {0x80, 2}, {0x7FF, 2}, {0x800, 3}, {0xFFFF, 3}, {0x10000, 4}, {0x10FFFF, 4}};
    for (size_t i = 0; i < sizeof edge / sizeof *edge; i++) {
        uint8_t s[4];
        ck_assert_uint_eq(utf8_put(s, edge[i].code), edge[i].bytes);
        ck_assert_uint_eq(utf8_length(s, 4), edge[i].bytes);
        ck_assert_uint_eq(utf8_length(s, edge[i].bytes - 1 + (edge[i].bytes == 1)), edge[i].bytes == 1);
    }
} END_TEST

// A hash table that is nearly full is slow, and then refuses good tokenizers: half of the places stay free.
START_TEST(hash_tables_stay_half_empty) {
    size_t none = tokenizer_index_size(0, 0);            // two places each, and what no size changes
    for (uint32_t n = 1; n < 200000; n += n / 3 + 1) {
        size_t tokens = (tokenizer_index_size(n, 0) - none) / 4 + 2;
        size_t merges = (tokenizer_index_size(0, n) - none) / 4 + 2;
        ck_assert_uint_eq(tokens, merges);
        ck_assert_uint_ge(tokens, 2 * (size_t)n);
        ck_assert_uint_eq(tokens & (tokens - 1), 0);
        ck_assert(n == 1 || tokens < 4 * (size_t)n);
    }
} END_TEST

START_TEST(no_tokenizer_has_no_tokens) {
    static uint32_t index[1 << 17];
    Tokenizer t = {.kind = TOK_NONE, .vocab = 1, .eot = -1, .bos = -1};
    Fault f = {0};
    ck_assert_int_eq(tokenizer_index(&t, index, &f), -1);
    ck_assert(f.value == 1 && f.hi == 0);
} END_TEST

// What a tokenizer held before it was read is of no account.
START_TEST(a_tokenizer_is_read_over_another) {
    static uint32_t index[1 << 17], before[TOKENS + 1];
    static uint64_t memory[2000];
    uint8_t *p = (uint8_t *)memory + 64;
    Fault f = {0};
    make_tokenizer();
    uint64_t bytes = tokenizer_bytes(&tok);
    ck_assert_uint_le(bytes + 64, sizeof memory);
    tokenizer_put(&tok, p);
    before[TOKENS] = 7;                                  // of another text
    tok.start = before;
    ck_assert_msg(tokenizer_get(&tok, p, bytes, index, &f) == 0, "%s", f.what);
    ck_assert_int_eq(tokenizer_find(&tok, "<|im_end|>"), END);
} END_TEST

// Python's: [random.Random(key).getrandbits(32) for key in ...]
START_TEST(every_key_draws_as_in_python) {
    static const struct { uint32_t key, first, second; } known[] = {
        {0, 3626764237, 1654615998}, {1, 577090037, 2444712010}, {2, 4106135923, 3707026329},
        {7, 1390851128, 4071050724}, {42, 2746317213, 478163327}, {1u << 31, 1455117090, 1620553392}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        Twister t;
        twister_seed(&t, known[i].key);
        ck_assert_uint_eq(twister_next(&t), known[i].first);
        ck_assert_uint_eq(twister_next(&t), known[i].second);
    }
} END_TEST

// An overlay has the lowest rank of all marks, and is joined as they are.
START_TEST(overlays_are_joined) {
    static const char *const pair[][2] = {{"=\xCC\xB8", "\xE2\x89\xA0"}, {"<\xCC\xB8", "\xE2\x89\xAE"},
                                          {"\xE2\x8A\x82\xCC\xB8", "\xE2\x8A\x84"}};
    static uint32_t index[1 << 17];
    Fault f;
    make_tokenizer();
    tok.kind = TOK_QWEN2;
    ck_assert_int_eq(tokenizer_index(&tok, index, &f), 0);
    for (size_t i = 0; i < 3; i++) {
        int32_t ids[2][64];
        static uint64_t scratch[2][2000];
        size_t n[2];
        for (int k = 0; k < 2; k++) {
            const uint8_t *text = (const uint8_t *)pair[i][k];
            size_t bytes = strlen(pair[i][k]);
            ck_assert_uint_le(tokenizer_encode_size(&tok, bytes), sizeof scratch[k]);
            n[k] = tokenizer_encode(&tok, text, bytes, false, ids[k], scratch[k]);
        }
        ck_assert_uint_eq(n[0], n[1]);
        ck_assert_mem_eq(ids[0], ids[1], n[0] * sizeof ids[0][0]);
    }
} END_TEST

// ---- data.c -----------------------------------------------------------------------------------------------
// Of several options near to what was typed the nearest is named, wherever it stands; of equals the first.
START_TEST(the_nearest_option_is_named) {
    static const char *const near[][2] = {
        {"--batc", "hint: --batch"}, {"--latch", "hint: --batch"}, {"--match1", "hint: --match"},
        {"--baatch", "hint: --batch"}, {"--matchmen", "hint: --watchmen"}, {"--hatches", "hint: --help"},
        {"-x", "hint: --help"}};                                   // no group, which has no name
    bool flag[3] = {0};
    for (size_t i = 0; i < sizeof near / sizeof *near; i++) {
        Option o[] = {{"--batch", OPT_FLAG, &flag[0], 0, 0, NULL, "", false},
                      {NULL, OPT_FLAG, NULL, 0, 0, NULL, "group", false},
                      {"--match", OPT_FLAG, &flag[1], 0, 0, NULL, "", false},
                      {"--watchmen", OPT_FLAG, &flag[2], 0, 0, NULL, "", false}};
        char typed[32], *argv[] = {(char *)"prog", typed};
        const char *word[1];
        int words;
        strcpy(typed, near[i][0]);
        ck_assert_int_eq(options_parse(o, 4, 2, argv, word, 1, &words, &err), -1);
        must_say(near[i][1]);
    }
} END_TEST

// A table whose first byte is a separator has as many fields as any other.
START_TEST(a_table_may_begin_with_an_empty_field) {
    static const char *const table[] = {",", ",\n", ",,", "\xEF\xBB\xBF,", ",a\n,b\n"};
    static const uint32_t nodes[] = {4, 4, 5, 4, 7};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        Json j;
        uint32_t first;
        int rc = rows_parse(&j, &first, "t.csv", (const uint8_t *)table[i], strlen(table[i]), NULL, &err);
        ck_assert_msg(rc == 0, "%s", err.msg);
        ck_assert_uint_eq(j.nodes, nodes[i]);
        json_free(&j);
    }
} END_TEST

static int descriptors(void) {
    int open = 0;
    for (int fd = 0; fd < 256; fd++) open += fcntl(fd, F_GETFD) != -1;
    return open;
}

// A program may be started with its standard input closed: then the first file that it opens is number 0.
START_TEST(files_are_closed_whatever_their_number) {
    int keep = dup(0), before;
    close(0);
    before = descriptors();
    Writer *w = writer_open(path, &err);
    ck_assert_ptr_nonnull(w);
    ck_assert_int_eq(writer_put(w, "x", 1, &err), 0);
    ck_assert_int_eq(writer_close(w, true, &err), 0);
    int after = descriptors();
    if (keep >= 0) {
        dup2(keep, 0);
        close(keep);
    }
    ck_assert_int_eq(after, before);
} END_TEST

// Of a file that is not there yet the folder tells whether two paths are of one.
START_TEST(a_file_to_come_is_known_by_other_names) {
    char dotted[400], deeper[400];
    snprintf(dotted, sizeof dotted, "%s/./file", folder);
    snprintf(deeper, sizeof deeper, "%s/file", other);
    ck_assert_int_eq(mkdir(other, 0700), 0);
    ck_assert(same_file(path, dotted) && same_file(dotted, path));
    ck_assert(!same_file(path, deeper) && !same_file(deeper, dotted));
    ck_assert(same_file("to come", "./to come") && !same_file("to come", "./to go"));
    ck_assert(!same_file("/nowhere/file", "/nowhere/./file"));             // no folder, so nobody can tell
} END_TEST

Suite *edges_suite(void) {
    Suite *s = suite_create("edges");
    TCase *t = tcase_create("edges");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, every_length_of_utf8_begins_and_ends_where_it_must);
    tcase_add_test(t, hash_tables_stay_half_empty);
    tcase_add_test(t, no_tokenizer_has_no_tokens);
    tcase_add_test(t, a_tokenizer_is_read_over_another);
    tcase_add_test(t, every_key_draws_as_in_python);
    tcase_add_test(t, overlays_are_joined);
    tcase_add_test(t, the_nearest_option_is_named);
    tcase_add_test(t, a_table_may_begin_with_an_empty_field);
    tcase_add_test(t, files_are_closed_whatever_their_number);
    tcase_add_test(t, a_file_to_come_is_known_by_other_names);
    suite_add_tcase(s, t);
    return s;
}

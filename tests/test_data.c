// test_data.c -- what data.c promises: options, files, JSON, checkpoint, state, batches, answers.
// Four kinds: golden results; tables of what must be refused, and with which words; identities, such as save,
// open, read, save; hostile files: every truncation, flipped bits everywhere, lies under right checksums.
#include "rooms.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

Suite *data_suite(void);

// ---- options ----------------------------------------------------------------------------------------------
static bool flag;
static int64_t whole;
static double real;
static const char *text;

static int parse(const char *line, int *words, const char **word) {
    static char copy[256];
    char *argv[16] = {(char *)"prog"};
    int argc = 1;
    Option o[] = {{NULL, OPT_FLAG, NULL, 0, 0, NULL, "data", false},
                  {"--flag", OPT_FLAG, &flag, 0, 0, NULL, "a flag", false},
                  {"--batch", OPT_INT, &whole, 1, 4096, "N", "rows", false},
                  {"--lr", OPT_REAL, &real, 0, 1, "X", "rate", false},
                  {"--out", OPT_TEXT, &text, 0, 0, "FILE", "result", false}};
    flag = false, whole = 32, real = 0.5, text = "none";
    snprintf(copy, sizeof copy, "%s", line);
    for (char *p = strtok(copy, " "); p; p = strtok(NULL, " ")) argv[argc++] = p;
    return options_parse(o, 5, argc, argv, word, 2, words, &err);
}

START_TEST(options_are_taken) {
    const char *word[2];
    int words;
    ck_assert_int_eq(parse("--flag a --batch 7 --lr=1e-3 --out - -- --lr", &words, word), 0);
    ck_assert(flag && whole == 7 && fabs(real - 1e-3) < 1e-12);
    ck_assert_str_eq(text, "-");
    ck_assert_int_eq(words, 2);
    ck_assert_str_eq(word[0], "a");
    ck_assert_str_eq(word[1], "--lr");
    ck_assert_int_eq(parse("--out=a=b --lr -0", &words, word), 0);
    ck_assert_str_eq(text, "a=b");
} END_TEST

START_TEST(options_are_refused) {
    static const char *const bad[][2] = {
        {"--bacth 3", "unknown option --bacth\nhint: --batch"}, {"--xyzzyplugh", "hint: --help"},
        {"--batch", "--batch wants a value"}, {"--batch --flag", "--batch wants a value"},
        {"--batch x", "--batch: 'x' is not a whole number"}, {"--batch 3x", "'3x' is not a whole number"},
        {"--out=", "--out: the name of a file is empty"},
        {"--batch 1.5", "'1.5' is not a whole number"}, {"--batch=", "'' is not a whole number"},
        {"--batch 0", "0 is out of range, want 1..4096"}, {"--batch 99999999999999999999", "is out of range"},
        {"--lr nan", "nan is out of range, want 0..1"}, {"--lr 1e999", "out of range"},
        {"--lr 0.1.2", "not a number"},
        {"--flag=1", "--flag takes no value, got '1'"}, {"--flag --flag", "--flag is given twice"},
        {"a b c", "'c' is one word too many, want at most 2"}, {"-x", "unknown option -x"}};
    const char *word[2];
    int words;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(parse(bad[i][0], &words, word) == -1, "%s was taken", bad[i][0]);
        must_say(bad[i][1]);
    }
} END_TEST

START_TEST(help_is_80_wide_and_shows_defaults) {
    double lr = 0.0003;
    const char *none = NULL, *out = "tuned.bin";
    int64_t n = 8;
    Option o[] = {{NULL, OPT_FLAG, NULL, 0, 0, NULL, "Data", false},
                  {"--batch", OPT_INT, &n, 1, 9, "N",
                  "rows of one optimizer step, which is a number that can be "
                   "explained in more words than fit on one line", false},
                  {"--lr", OPT_REAL, &lr, 0, 1, "X", "learning rate", false},
                  {"--an-option-with-a-long-name", OPT_TEXT, &none, 0, 0, "FILE", "no default", false},
                  {"--out", OPT_TEXT, &out, 0, 0, "FILE", "result", false}};
    size_t size;
    int keep = dup(1);
    fflush(stdout);
    ck_assert_ptr_nonnull(freopen(path, "wb", stdout));
    options_print(o, 5);
    fflush(stdout);
    dup2(keep, 1);
    close(keep);
    char *s = (char *)slurp(path, &size);
    ck_assert_str_eq(s, "Data\n"
                     "  --batch N                 rows of one optimizer step, which is a number that\n"
                     "                            can be explained in more words than fit on one line\n"
                     "                            (default 8)\n"
                     "  --lr X                    learning rate (default 0.0003)\n"
                     "  --an-option-with-a-long-name FILE\n"
                     "                            no default\n"
                     "  --out FILE                result (default tuned.bin)\n");
    free(s);
} END_TEST

// ---- files ------------------------------------------------------------------------------------------------
START_TEST(files_are_read_whole) {
    static uint8_t want[300000];
    size_t n, big = sizeof want;
    uint8_t *data;
    for (size_t i = 0; i < big; i++) want[i] = (uint8_t)(i * 7 >> 3);
    write_file(path, want, big);
    data = slurp(path, &n);
    ck_assert(n == big && !memcmp(data, want, n) && data[n] == 0);
    free(data);
    ck_assert_int_eq(file_read(path, big, &data, &n, &err), 0);            // exactly the limit
    free(data);
    ck_assert_int_eq(file_read(path, big - 1, &data, &n, &err), -1);
    must_say("more than 299999 bytes");
    write_file(path, "", 0);
    data = slurp(path, &n);
    ck_assert(n == 0 && data[0] == 0);
    free(data);
    ck_assert_int_eq(mkfifo(other, 0600), 0);                              // a pipe, whose size nobody knows
    pid_t child = fork();
    if (child == 0) {
        int fd = open(other, O_WRONLY);
        for (size_t i = 0; i < big; i += 1000)
            if (write(fd, want + i, 1000) != 1000) _exit(1);
        _exit(0);
    }
    data = slurp(other, &n);
    ck_assert(n == big && !memcmp(data, want, n));
    waitpid(child, NULL, 0);
    free(data);
    ck_assert_int_eq(file_read(folder, 10, &data, &n, &err), -1);
    must_say("is a folder");
    ck_assert_int_eq(file_read("/nowhere/at/all", 10, &data, &n, &err), -1);
    must_say("/nowhere/at/all: cannot open: No such file");
    ck_assert_ptr_null(data);
    if (access("/proc/self/mem", R_OK)) return;                           // a file whose start cannot be read
    ck_assert_int_eq(file_read("/proc/self/mem", 10, &data, &n, &err), -1);
    must_say("/proc/self/mem: cannot read");
} END_TEST

static void file_is(const char *name, const char *want) {
    size_t n;
    char *s = (char *)slurp(name, &n);
    ck_assert_str_eq(s, want);
    free(s);
}

START_TEST(a_file_appears_whole_or_not_at_all) {
    struct stat st;
    write_text(path, "old");
    ck_assert_int_eq(chmod(path, 0600), 0);
    Writer *w = writer_open(path, &err);
    ck_assert_ptr_nonnull(w);
    ck_assert_int_eq(writer_put(w, "new", 3, &err), 0);
    file_is(path, "old");
    ck_assert_int_eq(writer_close(w, false, &err), 0);
    file_is(path, "old");
    ck_assert_int_eq(files_in_folder(false), 1);
    w = writer_open(path, &err);
    ck_assert_int_eq(writer_put(w, "new", 3, &err), 0);
    ck_assert_int_eq(writer_close(w, true, &err), 0);
    file_is(path, "new");
    ck_assert_int_eq(files_in_folder(false), 1);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
} END_TEST

// What another process would be told.
static void refused_elsewhere(bool log) {
    pid_t child = fork();
    int status;
    if (child == 0) {
        Log *l;
        int rc = log ? log_open(&l, path, true, &err) : writer_open(path, &err) ? 0 : -1;
        _exit(rc == -1 && strstr(err.msg, "/file: another program is writing it") ? 7 : 0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

START_TEST(one_program_writes_a_file) {
    char temp[400];
    snprintf(temp, sizeof temp, "%s.writing", path);
    write_text(path, "old");
    write_text(temp, "left behind by a run that was killed");              // its lock went with it
    ck_assert_int_eq(chmod(temp, 01644), 0);                               // its mark did not
    Writer *held = writer_open(path, &err);                                // by a program that lives
    ck_assert_ptr_nonnull(held);
    refused_elsewhere(false);
    Writer *w = writer_open(path, &err);                                   // but may itself write
    ck_assert_ptr_nonnull(w);
    ck_assert_int_eq(writer_put(w, "new", 3, &err), 0);
    ck_assert_int_eq(writer_close(w, true, &err), 0);
    file_is(path, "new");
    write_text(temp, "the next program's");
    ck_assert_int_eq(writer_close(held, false, &err), 0);
    file_is(path, "new");
    file_is(temp, "the next program's");
    Log *l;
    errno = EAGAIN;                                                        // of something else, before
    ck_assert_int_eq(log_open(&l, path, true, &err), 0);
    refused_elsewhere(true);
    ck_assert_int_eq(log_close(l, &err), 0);
    unlink(temp);
    ck_assert_int_eq(symlink(path, temp), 0);                              // no link leads it to another file
    ck_assert_ptr_null(writer_open(path, &err));
    must_say("/file.writing: cannot create");
    file_is(path, "new");
} END_TEST

// A user may have called a file so: only what a Writer made, or what is empty, is taken for its own.
START_TEST(what_a_user_has_is_not_written_over) {
    char temp[400];
    struct stat st;
    snprintf(temp, sizeof temp, "%s.writing", path);
    write_text(temp, "the user's");
    ck_assert_int_eq(stat(temp, &st), 0);
    const mode_t mode = st.st_mode;                                        // as umask has it
    ck_assert_ptr_null(writer_open(path, &err));
    must_say("/file.writing: is in the way\nhint: rename it");
    file_is(temp, "the user's");
    ck_assert(stat(temp, &st) == 0 && st.st_mode == mode);
    unlink(temp);
    ck_assert_int_eq(mkfifo(temp, 0600), 0);
    ck_assert_ptr_null(writer_open(path, &err));
    must_say("/file.writing: is in the way");
    ck_assert(stat(temp, &st) == 0 && S_ISFIFO(st.st_mode));
    unlink(temp);
    ck_assert_int_eq(symlink("nowhere", path), 0);                         // a link to nothing stays that
    ck_assert_ptr_null(writer_open(path, &err));
    must_say("/file: is a device, a pipe or a link to nothing");
    ck_assert(lstat(path, &st) == 0 && S_ISLNK(st.st_mode) && files_in_folder(true) == 1);
    unlink(path);
    Writer *w = writer_open(path, &err);
    ck_assert_ptr_nonnull(w);
    ck_assert_int_eq(mkdir(path, 0700), 0);                                // a folder is not replaced
    ck_assert_int_eq(writer_close(w, true, &err), -1);
    must_say("/file: cannot write: ");
    ck_assert(rmdir(path) == 0 && files_in_folder(true) == 0);
    write_text(temp, "");
    w = writer_open(path, &err);
    ck_assert_ptr_nonnull(w);
    ck_assert(stat(temp, &st) == 0 && st.st_mode & S_ISVTX);               // what a kill would leave is marked
    ck_assert_int_eq(writer_put(w, "new", 3, &err), 0);
    ck_assert_int_eq(writer_close(w, true, &err), 0);
    file_is(path, "new");
    ck_assert(stat(path, &st) == 0 && st.st_mode == mode);                 // and what is there is not
} END_TEST

START_TEST(devices_and_folders_are_not_replaced) {
    struct stat st;
    char big[70000] = {0};
    ck_assert_ptr_null(writer_open("/dev/full", &err));
    must_say("/dev/full: is a device");
    ck_assert_int_eq(symlink("/dev/full", path), 0);
    ck_assert_ptr_null(writer_open(path, &err));
    must_say("is a device");
    ck_assert_ptr_null(writer_open(folder, &err));
    must_say("is a folder");
    ck_assert_ptr_null(writer_open("/nowhere/x", &err));
    must_say("/nowhere/x.writing: cannot create");
    ck_assert(stat("/dev/full", &st) == 0 && S_ISCHR(st.st_mode));
    memset(big, 'x', 5000);
    ck_assert_ptr_null(writer_open(big, &err));
    must_say("xxx...: more than 4095 bytes of path");
    unlink(path);
    write_text(other, "old");                                              // a link to a file stays a link
    ck_assert_int_eq(symlink(other, path), 0);
    Writer *w = writer_open(path, &err);
    ck_assert_ptr_nonnull(w);
    ck_assert_int_eq(writer_put(w, big, sizeof big, &err), 0);
    ck_assert_int_eq(writer_close(w, true, &err), 0);
    ck_assert(lstat(path, &st) == 0 && S_ISLNK(st.st_mode));
    ck_assert(stat(other, &st) == 0 && st.st_size == sizeof big);
} END_TEST

START_TEST(a_full_disk_leaves_the_old_file) {
    struct rlimit was, tight;
    char big[70000] = {0};
    write_text(path, "old");
    getrlimit(RLIMIT_FSIZE, &was);
    tight = was;
    tight.rlim_cur = 20000;
    for (size_t piece = 1000; piece <= sizeof big; piece += 69000) {       // fails in flush, fails in put
        Writer *w = writer_open(path, &err);
        ck_assert_ptr_nonnull(w);
        setrlimit(RLIMIT_FSIZE, &tight);
        int rc = 0;
        for (size_t n = 0; n + piece <= sizeof big && !rc; n += piece) rc = writer_put(w, big, piece, &err);
        rc |= writer_close(w, true, &err);
        setrlimit(RLIMIT_FSIZE, &was);
        ck_assert_int_eq(rc, -1);
        must_say("cannot write: File too large");
        file_is(path, "old");
        ck_assert_int_eq(files_in_folder(false), 1);
    }
} END_TEST

START_TEST(logs_are_appended_line_by_line) {
    Log *l;
    char *q = json_quote("\1\2", 2);                                       // all that there is room for
    ck_assert_str_eq(q, "\"\\u0001\\u0002\"");
    free(q);
    q = json_quote("a\"\\\n\xff\xc3\xa9", 7);
    ck_assert_str_eq(q, "\"a\\\"\\\\\\u000a\\ufffd\xc3\xa9\"");
    ck_assert_int_eq(log_open(&l, path, false, &err), 0);
    log_line(l, "{\"step\": %d}", 1);
    file_is(path, "{\"step\": 1}\n");
    ck_assert_int_eq(log_close(l, &err), 0);
    ck_assert_int_eq(log_open(&l, path, true, &err), 0);
    log_line(l, "%s", q);
    ck_assert_int_eq(log_close(l, &err), 0);
    file_is(path, "{\"step\": 1}\n\"a\\\"\\\\\\u000a\\ufffd\xc3\xa9\"\n");
    ck_assert_int_eq(log_open(&l, "/nowhere/log", false, &err), -1);
    must_say("/nowhere/log: cannot open");
    ck_assert_int_eq(log_open(&l, "/dev/full", true, &err), 0);            // a lost line is no secret
    log_line(l, "1");
    log_line(l, "2");
    ck_assert_int_eq(log_close(l, &err), -1);
    must_say("/dev/full: cannot write: No space left");
    log_line(NULL, "swallowed");
    ck_assert_int_eq(log_close(NULL, &err), 0);
    free(q);
} END_TEST

START_TEST(texts_grow_up_to_their_limit) {
    Text t = {0};
    for (int i = 0; i < 1000; i++) text_add(&t, "%d%c%s", i % 10, 0, "\xff");
    ck_assert(!t.failed && t.n == 3000 && !memcmp(t.s + 2997, "9\0\xff", 4));
    t.n = 1 << 30;
    text_add(&t, "x");
    ck_assert(t.failed);
    t.n = 3000;
    text_add(&t, "y");                                                     // failure sticks
    ck_assert(t.failed && t.n == 3000 && !t.s[3000]);
    free(t.s);
} END_TEST

START_TEST(a_file_is_known_by_other_names) {
    char dotted[300];
    snprintf(dotted, sizeof dotted, "%s/./file", folder);
    ck_assert(same_file("nowhere", "nowhere") && !same_file("nowhere", "elsewhere"));
    ck_assert(!same_file(path, other));
    write_text(path, "x");
    ck_assert(same_file(path, dotted) && same_file(dotted, path) && !same_file(path, other));
    ck_assert_int_eq(link(path, other), 0);
    ck_assert(same_file(path, other));
    unlink(other);
    write_text(other, "x");
    ck_assert(!same_file(path, other));
} END_TEST

START_TEST(sha256_vectors) {          // FIPS 180-4's examples, and the file read in pieces
    static const char *const known[][2] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"}};
    char hex[65], *million = malloc(1000000);
    Sha256 s;
    for (size_t i = 0; i < 3; i++)
        for (size_t cut = 0; cut <= strlen(known[i][0]); cut++) {
            sha256_init(&s);
            sha256_add(&s, known[i][0], cut);
            sha256_add(&s, known[i][0] + cut, strlen(known[i][0]) - cut);
            sha256_end(&s, hex);
            ck_assert_str_eq(hex, known[i][1]);
        }
    ck_assert_ptr_nonnull(million);
    memset(million, 'a', 1000000);
    write_file(path, million, 1000000);
    ck_assert_int_eq(sha256_file(path, hex, &err), 0);
    ck_assert_str_eq(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(million);
} END_TEST

START_TEST(blocks_are_aligned_and_zero) {
    static const size_t size[] = {0, 100, 1 << 24, (1 << 24) + 1, 20 << 20};   // about the size of a piece
    for (size_t i = 0; i < 15; i++) {
        size_t n = size[i / 3], dirty = 0;
        uint8_t *p = block_alloc(n, &err);
        ck_assert(p && (uintptr_t)p % 64 == 0);
        for (size_t k = 0; k < n; k++) dirty += p[k] != 0;
        ck_assert_uint_eq(dirty, 0);
        memset(p, 0xFF, n);                                                // for the next one to find
        block_free(p);
    }
#ifndef __SANITIZE_ADDRESS__          // which ends the program instead
    ck_assert_ptr_null(block_alloc(SIZE_MAX / 2, &err));
    must_say("MiB of memory");
#endif
} END_TEST

// ---- JSON -------------------------------------------------------------------------------------------------
// The tree written back: strings as <text>, numbers as spelt.
static uint32_t dump(const Json *j, uint32_t at, char *out) {
    const JsonNode *n = &j->node[at];
    uint32_t child = at + 1;
    static const char *const name[] = {"null", "false", "true"};
    if (n->kind <= JSON_TRUE) strcat(out, name[n->kind]);
    if (n->kind == JSON_NUMBER) strcat(out, n->text);
    if (n->kind == JSON_STRING) sprintf(out + strlen(out), "<%s>", n->text);
    if (n->kind < JSON_ARRAY) return n->next;
    strcat(out, n->kind == JSON_ARRAY ? "[" : "{");
    for (uint32_t i = 0; i < n->count; i++) {
        if (i) strcat(out, ",");
        child = dump(j, child, out);
        if (n->kind == JSON_ARRAY) continue;
        strcat(out, ":");
        child = dump(j, child, out);
    }
    strcat(out, n->kind == JSON_ARRAY ? "]" : "}");
    ck_assert_uint_eq(child, n->next);
    return child;
}

START_TEST(json_is_accepted) {
    static const char *const good[][2] = {
        {"null", "null"}, {" [ ] ", "[]"}, {"{}", "{}"}, {"\xEF\xBB\xBF[1]", "[1]"}, {"-0.5e+10", "-0.5e+10"},
        {"[1,[2,[],{}],\"x\"]", "[1,[2,[],{}],<x>]"},
        {"{\"a\":1,\"b\":{\"c\":[true,false]}}", "{<a>:1,<b>:{<c>:[true,false]}}"},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "<\"\\/\b\f\n\r\t>"},
        {"\"\\u0041\\u00e9\\u20AC\"", "<A\xc3\xa9\xe2\x82\xac>"},
        {"\"\\ud83d\\ude00\"", "<\xf0\x9f\x98\x80>"}, {"\"\xf0\x9f\x98\x80\"", "<\xf0\x9f\x98\x80>"},
        {"0", "0"},
        {"\"\x7f\"", "<\x7f>"}, {"\r\n\t 12 \r\n", "12"}};
    Json j;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char out[200] = "";
        ck_assert_msg(json_parse(&j, "t", 1, (const uint8_t *)good[i][0], strlen(good[i][0]), &err) == 0,
                      "%s", err.msg);
        ck_assert_uint_eq(dump(&j, 0, out), j.nodes);
        ck_assert_str_eq(out, good[i][1]);
        json_free(&j);
    }
    const char *s = "{\"a\":1,\"b\":[{\"a\":7}],\"a\":-2.5}\n";
    ck_assert_int_eq(json_parse(&j, "t", 1, (const uint8_t *)s, strlen(s), &err), 0);
    ck_assert(fabs(j.node[json_get(&j, 0, "a")].number + 2.5) < 1e-12);    // the last of equal keys
    ck_assert_uint_eq(json_get(&j, 0, "c"), 0);
    ck_assert_uint_eq(json_get(&j, json_get(&j, 0, "b"), "a"), 0);         // not an object
    json_free(&j);
    s = "\"a\\u0000b\"";
    ck_assert_int_eq(json_parse(&j, "t", 1, (const uint8_t *)s, strlen(s), &err), 0);
    ck_assert(j.node[0].len == 3 && !memcmp(j.node[0].text, "a\0b", 4));
    json_free(&j);
} END_TEST

START_TEST(json_is_refused_with_its_place) {
    static const char *const bad[][2] = {
        {"", "t:7:1: found the end, want a value"}, {"  ", "t:7:3: found the end"},
        {"[1,]", "t:7:4: found ']', want a value"},
        {"[1 2]", "t:7:4: found '2', want ',' or ']'"}, {"{\"a\" 1}", "t:7:6: found '1', want ':'"},
        {"{a:1}", "t:7:2: found 'a', want a key in quotes"}, {"{\"a\":1,}", "t:7:8: found '}', want a key"},
        {"{\"a\":1]", "t:7:7: found ']', want ',' or '}'"}, {"[1\n,\n  x]", "t:9:3: found 'x', want a value"},
        {"[\"\xc3\xa9\xc3\xa9\", x]", "t:7:8: found 'x'"}, {"\"abc", "t:7:5: found the end"},
        {"\"a\nb\"", "t:7:3: found byte 0x0a"},
        {"\"\\x\"", "t:7:3: found 'x', want one of"}, {"\"\\u12G4\"", "t:7:6: found 'G', want four hex"},
        {"\"\\ud800\"", "t:7:8: found '\"', want \\u with a low"},
        {"\"\\ud800\\u0041\"", "want a low surrogate before"},
        {"\"\\udc00\"", "want a high surrogate"}, {"\"\xff\"", "t:7:2: found byte 0xff, want UTF-8"},
        {"\"\xc0\x80\"", "want UTF-8"}, {"\"\xed\xa0\x80\"", "want UTF-8"},
        {"\"\xf4\x90\x80\x80\"", "want UTF-8"},
        {"\"\xe0\x80\x80\"", "want UTF-8"}, {"\"\xf0\x80\x80\x80\"", "want UTF-8"},
        {"\"\xe2\x82\"", "want UTF-8"}, {"\"\xe2\x82", "want UTF-8"},
        {"01", "t:7:2: found '1', want nothing"}, {"-", "t:7:2: found the end, want a digit"},
        {"1.", "want a digit"},
        {"1e+", "want a digit"}, {".5", "want a value"}, {"+1", "want a value"},
        {"1e999", "want a number below"},
        {"nul", "t:7:1: found 'n', want a value"}, {"truth", "t:7:1: found 't', want a value"},
        {"NaN", "want a value"},
        {"1 x", "t:7:3: found 'x', want nothing after the value"},
        {"[] []", "t:7:4: found '[', want nothing"}, {"{", "want a key"},
        {"[", "t:7:2: found the end"}, {"{\"a\":", "want a value"}, {"{\"a\"", "want ':'"},
        {"[1]\x01", "found byte 0x01"}};
    Json j;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t n = strlen(bad[i][0]);
        uint8_t *exact = malloc(n + !n);                       // so that a sanitizer sees a read past the end
        ck_assert_ptr_nonnull(exact);
        memcpy(exact, bad[i][0], n);
        ck_assert_msg(json_parse(&j, "t", 7, exact, n, &err) == -1, "%s was accepted", bad[i][0]);
        must_say(bad[i][1]);
        ck_assert_ptr_null(j.node);
        free(exact);
    }
} END_TEST

START_TEST(json_depth_is_limited_and_long_input_is_fast) {
    size_t n = 1 << 20;
    char *s = malloc(n);
    Json j;
    ck_assert_ptr_nonnull(s);
    for (int depth = 63; depth <= 65; depth++) {
        memset(s, '[', (size_t)depth);
        memset(s + depth, ']', (size_t)depth);
        int rc = json_parse(&j, "t", 1, (uint8_t *)s, (size_t)(2 * depth), &err);
        ck_assert_int_eq(rc, depth <= 64 ? 0 : -1);
        if (depth <= 64) json_free(&j);
    }
    must_say("t:1:66: found ']', want no more than 64 open brackets");
    memset(s, '[', n);
    ck_assert_int_eq(json_parse(&j, "t", 1, (uint8_t *)s, n, &err), -1);
    for (size_t i = 0; i < n; i++) s[i] = i % 2 ? '1' : ',';
    s[0] = '[';
    s[n - 1] = ']';
    ck_assert_int_eq(json_parse(&j, "t", 1, (uint8_t *)s, n, &err), -1);   // the last value is missing
    s[n - 2] = ' ';
    ck_assert_msg(json_parse(&j, "t", 1, (uint8_t *)s, n, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(j.node[0].count, n / 2 - 1);
    json_free(&j);
    memset(s, '9', n);                                                     // a number of a million digits
    ck_assert_int_eq(json_parse(&j, "t", 1, (uint8_t *)s, n, &err), -1);
    ck_assert_int_eq(json_parse(&j, "t", 1, (uint8_t *)s, (size_t)INT32_MAX + 1, &err), -1);     // not looked at
    must_say("t: bytes of text = 2147483648, want 0..2147483647");
    free(s);
} END_TEST

// ---- checkpoint -------------------------------------------------------------------------------------------
static Model model;
static void *block;

static const Config CONFIG = {.vocab = TOKENS + 1, .context = 8, .layers = 2, .heads = 2, .kv_heads = 1,
                              .head_size = 4,
                              .width = 5, .hidden = 3, .rms = 0, .bias = 1, .tied = 1, .norm_eps = 1e-5f,
                                  .rope_theta = 1e4f};

static void make_model(void) {
    Plan plan;
    Fault f;
    Shape s = {.rows = 1, .seq = 8, .step_tokens = 8, .train = true, .threads = 1};
    make_tokenizer();
    ck_assert_int_eq(model_plan(&plan, &CONFIG, &s, &f), 0);
    block = block_alloc(plan.bytes, &err);
    ck_assert_ptr_nonnull(block);
    model_bind(&model, &plan, block);
    model_init(&model, 5);
}

static float *first_weight(const Params *p, size_t *n) {
    Tensor t = model_tensor(&model.cfg, 0);
    *n = t.size;
    return tensor_data(p, &t);
}

static int save(const char *name, Dtype d) {
    return checkpoint_save(name, &CONFIG, &tok, "{input}{target}{output}{eot}", "made by hand\n", d, &model.w,
                           &err);
}

// Opens and reads; the weights go to model.m1, so that model.w stays as it was saved.
static int load(const char *name) {
    Checkpoint k;
    if (checkpoint_open(&k, name, NULL, &err)) {
        ck_assert(!k.memory && !k.file && !k.path);
        return -1;
    }
    int rc = checkpoint_read(&k, &model.m1, NULL, &err);
    checkpoint_close(&k);
    return rc;
}

START_TEST(checkpoint_round_trip) {
    for (int d = 0; d < DTYPES; d++) {
        Checkpoint k;
        size_t n, m;
        make_model();
        ck_assert_msg(save(path, (Dtype)d) == 0, "%s", err.msg);
        ck_assert_int_eq(files_in_folder(false), 1 + d);                // of the first time, `other` is there
        ck_assert_msg(checkpoint_open(&k, path, NULL, &err) == 0, "%s", err.msg);
        ck_assert_mem_eq(&k.cfg, &CONFIG, sizeof CONFIG);
        ck_assert_int_eq(k.dtype, d);
        ck_assert_str_eq(k.template, "{input}{target}{output}{eot}");
        ck_assert_str_eq(k.lineage, "made by hand\n");
        ck_assert_int_eq(k.tok.eot, EOT);
        ck_assert_int_eq(k.tok.bos, -1);
        ck_assert_int_eq(tokenizer_find(&k.tok, "<|im_end|>"), END);
        ck_assert_uint_eq(k.tensors_at % 64, 0);
        int32_t ids[16];
        uint64_t scratch[512];
        ck_assert_uint_le(tokenizer_encode_size(&k.tok, 8), sizeof scratch);
        ck_assert_uint_eq(tokenizer_encode(&k.tok, (const uint8_t *)"hell\xff a", 7, false, ids, scratch), 4);
        ck_assert(ids[0] == HE && ids[1] == LL && ids[2] == 255 && ids[3] == SPACE_A);
        ck_assert_int_eq(checkpoint_read(&k, &model.m1, NULL, &err), 0);
        ck_assert_int_eq(checkpoint_read(&k, &model.m2, NULL, &err), 0);         // any number of times
        ck_assert_int_eq(checkpoint_save(other, &k.cfg, &k.tok, k.template, k.lineage, k.dtype, &model.m1,
                                         &err), 0);
        uint8_t *a = slurp(path, &n), *b = slurp(other, &m);
        ck_assert_uint_eq(n, m);
        ck_assert_mem_eq(a, b, n);
        ck_assert_mem_eq(a, "tune.c\n\0\1\0\0", 11);
        checkpoint_close(&k);
        free(a);
        free(b);
        block_free(block);
    }
} END_TEST

// Tensors of several pieces, and of exactly that many: nothing is moved behind the last number.
START_TEST(tensors_of_whole_pieces) {
    Config c = CONFIG;
    Plan plan;
    Fault f;
    Shape s = {.rows = 1, .seq = 8, .step_tokens = 8, .train = true, .threads = 1};
    Checkpoint k;
    c.vocab = 512;
    c.width = 64;                                 // wte: 2 pieces of bf16, 4 of floats
    make_tokenizer();
    ck_assert_int_eq(model_plan(&plan, &c, &s, &f), 0);
    void *memory = block_alloc(plan.bytes, &err);
    model_bind(&model, &plan, memory);
    model_init(&model, 5);
    for (int d = 0; d < DTYPES; d++) {
        ck_assert_int_eq(checkpoint_save(path, &c, &tok, "", "", (Dtype)d, &model.w, &err), 0);
        ck_assert_int_eq(checkpoint_open(&k, path, NULL, &err), 0);
        ck_assert_int_eq(checkpoint_read(&k, &model.m1, NULL, &err), 0);
        checkpoint_close(&k);
        for (size_t i = 0; i < 512 * 64; i++)
            ck_assert(fabsf(model.w.wte[i] - model.m1.wte[i]) <= (d == DTYPE_BF16 ? 0x1p-8f : 0) * fabsf(model.w.wte[i]));
    }
    block_free(memory);
} END_TEST

START_TEST(a_model_without_tokenizer) {
    Checkpoint k;
    Tokenizer none = {.kind = TOK_NONE, .eot = -1, .bos = -1};
    make_model();
    ck_assert_int_eq(checkpoint_save(path, &CONFIG, &none, "", "", DTYPE_F32, &model.w, &err), 0);
    ck_assert_msg(checkpoint_open(&k, path, NULL, &err) == 0, "%s", err.msg);
    ck_assert(k.tok.kind == TOK_NONE && k.tok.vocab == 0 && !*k.template && !*k.lineage);
    checkpoint_close(&k);
    block_free(block);
} END_TEST

START_TEST(bf16_rounds_to_nearest_even) {
    static const uint32_t pair[][2] = {                             // bits of a float, and of what comes back
        {0x3f800000, 0x3f800000}, {0x3f808000, 0x3f800000}, {0x3f808001, 0x3f810000},
        {0x3f818000, 0x3f820000},
        {0x3f817fff, 0x3f810000}, {0x7f7fffff, 0x7f800000}, {0xff800000, 0xff800000},
        {0x80000000, 0x80000000},
        {0x00000001, 0x00000000}, {0x00018000, 0x00020000}, {0x7f800001, 0x7fc00000},
        {0xffc12345, 0xffc10000},
        {0x7fffffff, 0x7fff0000}};
    size_t n;
    make_model();
    float *w = first_weight(&model.w, &n), *got = first_weight(&model.m1, &n);
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) memcpy(w + i, &pair[i][0], 4);
    ck_assert_int_eq(save(path, DTYPE_BF16), 0);
    ck_assert_int_eq(load(path), 0);
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        uint32_t bits;
        memcpy(&bits, got + i, 4);
        ck_assert_msg(bits == pair[i][1], "%08x became %08x, want %08x", pair[i][0], bits, pair[i][1]);
    }
    block_free(block);
} END_TEST

START_TEST(every_truncation_and_flipped_bit_is_refused) {
    size_t n;
    make_model();
    ck_assert_int_eq(save(path, DTYPE_BF16), 0);
    ck_assert_int_eq(load(path), 0);
    uint8_t *good = slurp(path, &n);
    int fd = open(path, O_RDWR);
    for (size_t i = 0; i < n; i++) {
        uint8_t bad = (uint8_t)(good[i] ^ 1u << i % 8);
        ck_assert_int_eq(pwrite(fd, &bad, 1, (off_t)i), 1);
        err.msg[0] = 0;
        ck_assert_msg(load(path) == -1 && err.msg[0], "bit %zu of byte %zu flipped, and nobody saw it", i % 8,
                      i);
        ck_assert_int_eq(pwrite(fd, &good[i], 1, (off_t)i), 1);
    }
    ck_assert_int_eq(load(path), 0);
    ck_assert_int_eq(pwrite(fd, "", 1, (off_t)n), 1);
    ck_assert_int_eq(load(path), -1);                                      // one byte more
    must_say("bytes in the file");
    for (size_t i = n; i-- > 0;) {
        ck_assert_int_eq(ftruncate(fd, (off_t)i), 0);
        ck_assert_msg(load(path) == -1, "accepted with %zu of %zu bytes", i, n);
    }
    close(fd);
    free(good);
    block_free(block);
} END_TEST

// The checksum of the format, written down a second time: 4 lanes of 8-byte words.
static uint64_t checksum(const uint8_t *p, size_t n) {
    uint64_t lane[4] = {1, 2, 3, 4}, h = 4;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t word = 0, *l = &lane[i / 8 % 4];
        for (size_t b = 0; b < 8; b++) word |= (uint64_t)p[i + b] << 8 * b;
        *l = (*l ^ word) * 0x9e3779b97f4a7c15u;
        *l = *l << 31 | *l >> 33;
    }
    for (int j = 0; j < 4; j++) {
        h = (h ^ lane[j]) * 0x9e3779b97f4a7c15u;
        h = h << 31 | h >> 33;
    }
    return h ^ h >> 32;
}

static void poke(uint8_t *p, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t peek64(const uint8_t *p) {
    uint64_t v = 0;
    for (int i = 8; i-- > 0;) v = v << 8 | p[i];
    return v;
}

// An adapter's file has LoRA's matrices alone, and is of use with its own base only.
START_TEST(adapters_know_their_base) {
    Shape s = {.rows = 1, .seq = 8, .step_tokens = 8, .train = true, .threads = 1};
    Config c = CONFIG;
    Checkpoint base, k;
    Plan plan;
    Fault f;
    Model lora, again;
    void *loaded;
    size_t n;
    make_model();
    ck_assert_int_eq(save(path, DTYPE_BF16), 0);
    ck_assert_int_eq(checkpoint_open(&base, path, NULL, &err), 0);
    c.lora_rank = 2, c.lora_on = LORA_QKV | LORA_FC2, c.lora_alpha = 3;
    ck_assert_int_eq(model_plan(&plan, &c, &s, &f), 0);
    void *memory = block_alloc(plan.bytes, &err);
    model_bind(&lora, &plan, memory);
    model_init(&lora, 9);
    for (int i = 0; i < 2 * CONFIG.layers; i++) lora.w.fc2_up[i] = (float)i;
    ck_assert_int_eq(adapter_save(other, &base, &c, "{input}{target}{output}{eot}", "lineage", &lora.w, &err), 0);
    free(slurp(other, &n));
    ck_assert_uint_lt(n, 4 * model_params(&CONFIG));
    ck_assert_int_eq(checkpoint_open(&k, other, NULL, &err), -1);
    must_say("is an adapter");
    ck_assert_int_eq(checkpoint_open(&k, other, other, &err), -1);
    must_say("want its own base");
    ck_assert_msg(checkpoint_open(&k, other, path, &err) == 0, "%s", err.msg);
    ck_assert(k.cfg.lora_rank == 2 && k.tok.vocab == TOKENS && k.tok.eot == EOT);
    ck_assert_str_eq(k.lineage, "lineage");
    ck_assert_int_eq(model_load(&again, &loaded, &k, &s, &err), 0);
    ck_assert(again.h.wte && !again.w.wte && again.w.lnfw);       // the base is bf16, and stays so
    const size_t field[] = {offsetof(Params, qkv_down), offsetof(Params, fc2_up)};
    for (int i = 0; i < 2; i++) {
        Tensor t = model_tensor(&c, (int)(field[i] / sizeof(float *)));
        ck_assert(t.size > 0 && !memcmp(tensor_data(&again.w, &t), tensor_data(&lora.w, &t), 4 * t.size));
    }
    uint32_t bits;
    memcpy(&bits, &model.w.wte[1], sizeof bits);
    ck_assert_uint_le((uint32_t)abs((int)again.h.wte[1] - (int)(bits >> 16)), 1);    // rounded
    checkpoint_close(&k);
    checkpoint_close(&base);
    block_free(loaded);

    ((float *)model.w.wte)[3] += 1;                                // another base of the same shape
    ck_assert_int_eq(save(path, DTYPE_BF16), 0);
    ck_assert_int_eq(checkpoint_open(&k, other, path, &err), -1);
    must_say("was not trained on");
    block_free(memory);
    block_free(block);
}
END_TEST

// peers 13
// Fields that lie, with both checksums made right again: only the check of the field itself can find them.
START_TEST(hostile_fields_are_refused) {
    static const struct { size_t at; uint64_t v; int bytes; const char *says; } lie[] = {
        {0, 'x', 1, "is no checkpoint"}, {8, 2, 4, "version = 2, want 1..1"},
        {12, 2, 4, "dtype = 2, want 0..1"},
        {16, 0, 4, "vocab = 0"}, {16, 0xffffffff, 4, "vocab = -1"}, {16, TOKENS - 1, 4, "tokenizer vocab"},
        {24, 3, 4, ""}, {24, 1 << 10, 4, ""},
        {16, 1 << 20, 4, ""}, {44, 4, 4, "byte 184 does not follow"},
        {40, 1 << 16, 4, ""}, {28, 0, 4, "heads"},
        {80, 0x7fc00000, 4, "norm_eps = -1, want 0..1"}, {100, TOK_KINDS, 4, "kind"}, {100, 0xffffffff, 4, "kind"},
        {100, 0, 4, ""},
        {104, TOKENS + 2, 4, "tokenizer vocab"}, {104, 0xffffffff, 4, "tokenizer vocab"},
        {104, TOKENS - 1, 4, ""}, {104, 0, 4, ""},
        {108, 0xffffffff, 4, "merges"}, {108, 0x7fffffff, 4, "merges"}, {108, 4, 4, ""}, {108, 2, 4, ""},
        {108, 1000, 4, "the tokenizer has 1663 bytes, want 17315"},
        {112, TOKENS, 4, ""}, {112, 0xfffffffe, 4, ""}, {116, TOKENS, 4, ""}, {120, 2, 4, "byte 120 does not follow"},
        {124, 1, 1, "byte 124 does not follow"},
        {128, 257, 8, "byte 128 does not follow"}, {128, 0, 8, "byte 129 does not follow"},
        {136, 1, 8, "the tokenizer has 1 bytes"},
        {136, UINT64_MAX, 8, "the tokenizer has 18446744073709551615"},
        {136, 0, 8, "the tokenizer has 0"}, {144, 0, 8, "does not follow"},
        {152, UINT64_MAX - 63, 8, "the template has 18446744073709551552 bytes, want 1..268435456"},
        {152, 0, 8, "the template has 0"}, {152, 64, 8, ""}, {152, 5, 8, ""}, {152, 1000, 8, ""},
        {168, 1, 8, ""}, {168, 40, 8, ""}, {176, 64, 8, "does not follow"}, {184, UINT64_MAX, 8, "byte 184"},
        {184, 64, 8, "does not follow"}, {200, 1, 1, "lora_on = 0"}, {200, UINT64_MAX, 8, "lora_rank"}, {200, 0x80000000u, 8, "lora_rank"},
        {208, 1ull << 32, 8, "byte 212 does not follow"}, {232, 1, 8, "byte 232 does"}, {247, 128, 1, "byte 247 does"},
        {256, 2, 4, ""}, {256 + 4 * (TOKENS - 1), 0xffffffff, 4, "end of the last token"},
        {256 + 4 * TOKENS, 0xffffffff, 4, ""},
        {256 + 4 * TOKENS + 8, TOKENS, 4, ""}, {256 + 4 * TOKENS + 48, 9, 1, ""}};
    size_t n;
    make_model();
    ck_assert_int_eq(save(path, DTYPE_F32), 0);
    uint8_t *good = slurp(path, &n), *bad = malloc(n);
    ck_assert_ptr_nonnull(bad);
    size_t tensors = (size_t)peek64(good + 176);
    ck_assert_uint_eq(peek64(good + 192), checksum(good + tensors, n - tensors));
    for (size_t i = 0; i <= sizeof lie / sizeof *lie; i++) {
        memcpy(bad, good, n);
        if (i < sizeof lie / sizeof *lie) poke(bad + lie[i].at, lie[i].v, lie[i].bytes);
        poke(bad + 248, 0, 8);
        poke(bad + 248, checksum(bad, tensors), 8);
        write_file(path, bad, n);
        if (i == sizeof lie / sizeof *lie) {                               // no lie: then it must be taken
            ck_assert_msg(load(path) == 0, "%s", err.msg);
            break;
        }
        ck_assert_msg(load(path) == -1, "byte %zu set to %llu was taken", lie[i].at,
                      (unsigned long long)lie[i].v);
        must_say(lie[i].says);
    }
    for (size_t gap = 256 + (size_t)peek64(good + 136); gap % 64; gap++) {
        memcpy(bad, good, n);
        bad[gap] = 1;                                               // what is between the sections is in the sum
        write_file(path, bad, n);
        ck_assert_int_eq(load(path), -1);
        must_say("wrong checksum of the header");
    }
    memcpy(bad, good, n);                                           // a template of 256 MiB, all else right
    poke(bad + 152, 1 << 28, 8);
    for (size_t at = 160; at <= 176; at += 16) poke(bad + at, peek64(good + at) + (1 << 28) - 64, 8);
    write_file(path, bad, n);
    ck_assert_int_eq(truncate(path, (off_t)n + (1 << 28) - 64), 0);
    ck_assert_int_eq(load(path), -1);
    must_say("offset of the tensors = 268437440");
    free(good);
    free(bad);
    block_free(block);
} END_TEST

START_TEST(models_are_loaded_or_nothing_is) {
    Checkpoint k;
    Model m;
    void *loaded;
    Shape s = {.rows = 1, .seq = 8, .cached = 8, .threads = 1};
    size_t n;
    make_model();
    ck_assert_int_eq(save(path, DTYPE_F32), 0);
    ck_assert_int_eq(checkpoint_open(&k, path, NULL, &err), 0);
    ck_assert_msg(model_load(&m, &loaded, &k, &s, &err) == 0, "%s", err.msg);
    float *want = first_weight(&model.w, &n);
    ck_assert_mem_eq(m.w.wte, want, n * sizeof *want);
    ck_assert(m.x.keys && m.shape.cached == 8);
    block_free(loaded);
    s.cached = 9;
    ck_assert_int_eq(model_load(&m, &loaded, &k, &s, &err), -1);
    must_say("/file: positions in the cache = 9, want 0..8");
    ck_assert_ptr_null(loaded);
    s.cached = 0;
    k.tensor_sum++;
    ck_assert_int_eq(model_load(&m, &loaded, &k, &s, &err), -1);
    must_say("wrong checksum of the tensors");
    ck_assert_ptr_null(loaded);
    checkpoint_close(&k);
    block_free(block);
} END_TEST

START_TEST(what_is_no_checkpoint) {
    Checkpoint k;
    ck_assert_int_eq(checkpoint_open(&k, "/nowhere", NULL, &err), -1);
    must_say("/nowhere: cannot open");
    ck_assert_int_eq(checkpoint_open(&k, folder, NULL, &err), -1);
    must_say("is a folder");
    ck_assert_int_eq(checkpoint_open(&k, "/dev/zero", NULL, &err), -1);
    must_say("is a device");
    ck_assert_int_eq(mkfifo(path, 0600), 0);                               // must not wait for a writer
    ck_assert_int_eq(checkpoint_open(&k, path, NULL, &err), -1);
    must_say("pipe");
    write_text(other, "short");
    ck_assert_int_eq(checkpoint_open(&k, other, NULL, &err), -1);
    must_say("ends too early");
} END_TEST

// ---- state ------------------------------------------------------------------------------------------------
static State state_of(const char *key) {
    State s = {.step = 123456789012, .best = 1.25, .best_step = 77};
    for (int i = 0; i < 64; i++) s.key[i] = key[i % (int)strlen(key)];
    return s;
}

static void fill(const Params *p, float from) {
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&model.cfg, i);
        for (size_t k = 0; k < t.size; k++) tensor_data(p, &t)[k] = from + (float)k / 8;
    }
}

START_TEST(state_round_trip) {
    size_t n, m;
    State s = state_of("ab"), back = state_of("ab");
    make_model();
    fill(&model.w, 1);
    fill(&model.m1, 2);
    fill(&model.m2, 3);
    ck_assert_msg(state_save(path, &s, &model, &err) == 0, "%s", err.msg);
    fill(&model.w, 0);
    fill(&model.m1, 0);
    fill(&model.m2, 0);
    back.step = back.best_step = 0;
    back.best = 0;
    ck_assert_msg(state_load(path, &back, &model, &err) == 0, "%s", err.msg);
    ck_assert(back.step == s.step && back.best_step == 77 && back.best > 1.2 && back.best < 1.3);
    ck_assert_int_eq(state_save(other, &back, &model, &err), 0);
    uint8_t *a = slurp(path, &n), *b = slurp(other, &m);
    ck_assert_uint_eq(n, m);
    ck_assert_mem_eq(a, b, n);
    ck_assert(first_weight(&model.m2, &m)[1] > 3.1f);
    back = state_of("cd");
    ck_assert_int_eq(state_load(path, &back, &model, &err), -1);
    must_say("was made with other options or data (abababab..., want cdcdcdcd...)");
    free(a);
    free(b);
    block_free(block);
} END_TEST

START_TEST(damaged_states_are_refused) {
    size_t n;
    State s = state_of("ab");
    make_model();
    ck_assert_int_eq(state_save(path, &s, &model, &err), 0);
    uint8_t *good = slurp(path, &n), bad[448];
    ck_assert_uint_eq(peek64(good + 176), sizeof bad);
    int fd = open(path, O_RDWR);
    for (size_t i = 0; i < n; i += i < sizeof bad ? 1 : 37) {
        uint8_t flipped = (uint8_t)(good[i] ^ 1u << i % 8);
        ck_assert_int_eq(pwrite(fd, &flipped, 1, (off_t)i), 1);
        ck_assert_msg(state_load(path, &s, &model, &err) == -1, "byte %zu flipped, and nobody saw it", i);
        ck_assert_int_eq(pwrite(fd, &good[i], 1, (off_t)i), 1);
    }
    ck_assert_int_eq(state_load(path, &s, &model, &err), 0);
    static const struct { size_t at; uint64_t v; const char *says; } lie[] = {
        {0, 'x', "is no state"}, {8, 1, "version = 1, want 2..2"}, {8, 2 | 1ull << 32, "does not follow"},
        {44, 1, "does not follow"}, {84, 0x469c4000, "of another model"}, {136, 1, "does not follow"},
        {224, UINT64_MAX, "step = -1"}, {232, 0x7ff8000000000000, "best is not"}, {240, 123456789013, "best_step"},
        {320, 0x7878787878787878, "was made with other options or data (xxxxxxxx..., want abababab...)"}};
    for (size_t i = 0; i < sizeof lie / sizeof *lie; i++) {
        memcpy(bad, good, sizeof bad);
        poke(bad + lie[i].at, lie[i].v, 8);
        poke(bad + 248, 0, 8);
        poke(bad + 248, checksum(bad, sizeof bad), 8);
        ck_assert_int_eq(pwrite(fd, bad, sizeof bad, 0), sizeof bad);
        ck_assert_msg(state_load(path, &s, &model, &err) == -1, "byte %zu was taken", lie[i].at);
        must_say(lie[i].says);
    }
    ck_assert_int_eq(pwrite(fd, good, sizeof bad, 0), sizeof bad);
    ck_assert_int_eq(pwrite(fd, "", 1, (off_t)n), 1);
    ck_assert_int_eq(state_load(path, &s, &model, &err), -1);
    must_say("bytes in the file");
    for (size_t i = n; i > 64; i -= i > 300 ? 64 : 1) {
        ck_assert_int_eq(ftruncate(fd, (off_t)(i - 1)), 0);
        ck_assert_int_eq(state_load(path, &s, &model, &err), -1);
    }
    close(fd);
    free(good);
    block_free(block);
} END_TEST

// ---- batch ------------------------------------------------------------------------------------------------
START_TEST(hash_depends_on_every_byte) {
    ck_assert_uint_eq(hash64("", 0, 0), 0xf52a15e9a9b5e89bu);
    ck_assert_uint_eq(hash64("abc", 3, 7), 0x55410a434d4ab01au);
    for (size_t i = 0; i < 8; i++) {
        char s[] = "abcdefgh";
        s[i] ^= 1;
        ck_assert(hash64(s, 8, 0) != hash64("abcdefgh", 8, 0));
    }
    ck_assert(hash64("a", 1, 0) != hash64("a", 1, 1));
} END_TEST

// peers 14: what is padding is told by the length of a row, not by a token
START_TEST(batch_is_filled_and_padded) {
    BatchMemory b;
    int32_t tokens[] = {5, 6, 7, 8};
    uint8_t taught[] = {0, 0, 1, 1};
    Example ex = {0, tokens, taught, 4, 2, 0, 0}, two = {0, tokens + 2, taught, 2, 1, 0, 0};
    const Example *pick[] = {&ex, &two};
    ck_assert_int_eq(batch_alloc(&b, 2, 5, &err), 0);
    ck_assert_uint_eq(batch_fill(&b, pick, 2), 2);
    static const int32_t tok_want[] = {5, 6, 7, 0, 0, 7, 0, 0, 0, 0}, target_want[] = {-1, 7, 8, -1, -1, -1,
                                                                                       -1, -1, -1, -1};
    ck_assert_mem_eq(b.view.tok, tok_want, sizeof tok_want);
    ck_assert_mem_eq(b.view.target, target_want, sizeof target_want);
    ck_assert(b.view.B == 2 && b.view.T == 5 && b.view.len[0] == 3 && b.view.len[1] == 1 && !b.view.past);
    ck_assert_uint_eq(batch_fill(&b, pick + 1, 1), 0);
    ck_assert(b.view.B == 1 && b.view.len[0] == 1);
    ck_assert_uint_eq(batch_fill(&b, pick, 2), 2);                         // full again
    batch_free(&b);
    ck_assert_int_eq(batch_alloc(&b, SIZE_MAX / 17 * 16 + 1, 8, &err), -1);   // these times 2*8 + 1 wrap to 1
    must_say("memory");
} END_TEST

// ---- answers ----------------------------------------------------------------------------------------------
enum { ASKED = 5, CACHED = 20 };      // prompts, and positions of the cache
static Prompt asked[ASKED];
static Generated said[ASKED];

// A model for so many rows of seq tokens at once. It says the tokens of `says` and `also`, all equally likely;
// if there are none, its next token depends on all before.
static void make_speaker(size_t rows_at_once, size_t seq, const char *says, int32_t also) {
    static int32_t ids[ASKED][CACHED];
    Config c = CONFIG;
    Plan plan;
    Fault f;
    c.context = CACHED;
    Shape s = {.rows = rows_at_once, .seq = seq, .cached = CACHED, .threads = 2};
    make_tokenizer();
    ck_assert_int_eq(model_plan(&plan, &c, &s, &f), 0);
    block = block_alloc(plan.bytes, &err);
    ck_assert_ptr_nonnull(block);
    model_bind(&model, &plan, block);
    model_init(&model, 5);
    size_t C = (size_t)c.width;
    for (size_t i = 0; i < (size_t)c.vocab * C; i++) model.w.wte[i] *= 60.0f;
    if (*says || also >= 0) {
        for (size_t i = 0; i < C; i++) model.w.lnfw[i] = 0.0f, model.w.lnfb[i] = i == 0;
        for (size_t v = 0; v < (size_t)c.vocab; v++) model.w.wte[v * C] = v < TOKENS ? -90.0f : 99.0f;
        for (; *says; says++) model.w.wte[(uint8_t)*says * C] = 5.0f;
        if (also >= 0) model.w.wte[(size_t)also * C] = 5.0f;
    }
    for (size_t i = 0; i < ASKED; i++) {
        asked[i] = (Prompt){ids[i], 1 + i * i};
        for (size_t t = 0; t < asked[i].n; t++) ids[i][t] = (int32_t)((t * 7 + i * 31) % 256);
    }
}

static int speak(const Prompt *p, size_t n, float temperature, uint64_t seed, size_t most, bool first_line) {
    Sampling s = {temperature, 0, 1.0f, temperature > 0 ? 1.5f : 1.0f};
    return generate(&model, &tok, p, n, &s, seed, most, first_line, said, &err);
}

static void forget(size_t n) {
    for (size_t i = 0; i < n; i++) free(said[i].text);
}

START_TEST(answers_are_the_same_alone_or_together) {
    for (int random = 0; random < 2; random++) {
        Generated want[ASKED];
        size_t tokens = 0;
        make_speaker(1, 16, "", -1);
        for (size_t i = 0; i < ASKED; i++) {
            ck_assert_int_eq(speak(asked + i, 1, (float)random, 40 + i, 6, false), 0);
            want[i] = said[0];
            tokens += want[i].tokens;
        }
        block_free(block);
        ck_assert_uint_ge(tokens, 15);
        ck_assert(strcmp(want[0].text, want[1].text) && strcmp(want[1].text, want[2].text));
        for (size_t seq = 1; seq <= 16; seq += 3) {    // also prompts in pieces
            make_speaker(ASKED, seq, "", -1);
            ck_assert_int_eq(speak(asked, ASKED, (float)random, 40, 6, false), 0);
            for (size_t i = 0; i < ASKED; i++) {
                ck_assert(said[i].bytes == want[i].bytes && said[i].tokens == want[i].tokens);
                ck_assert(said[i].stop == want[i].stop);
                ck_assert_mem_eq(said[i].text, want[i].text, want[i].bytes + 1);
            }
            forget(ASKED);
            block_free(block);
        }
        for (size_t i = 0; i < ASKED; i++) free(want[i].text);
    }
} END_TEST

// A wrong id in the last piece of one prompt: by then others have said something, and nothing of it is left.
START_TEST(answers_that_fail_leave_nothing) {
    make_speaker(ASKED, 4, "a", -1);
    asked[ASKED - 1].tok[asked[ASKED - 1].n - 1] = CONFIG.vocab;
    ck_assert_int_eq(speak(asked, ASKED, 0, 1, 6, false), -1);
    must_say("answering: token id = ");
    for (size_t i = 0; i < ASKED; i++) ck_assert_ptr_null(said[i].text);
    block_free(block);
} END_TEST

START_TEST(answers_end_where_they_must) {
    make_speaker(ASKED, 8, "a", -1);                   // the model's last token is no token: never taken
    ck_assert_int_eq(speak(asked, ASKED, 0, 1, 6, true), 0);
    for (size_t i = 0; i < ASKED; i++) {
        bool full = asked[i].n == 17;                  // and 4 more in a cache of 20: the last needs no place
        ck_assert_str_eq(said[i].text, full ? "aaaa" : "aaaaaa");
        ck_assert(said[i].stop == (full ? STOP_FULL : STOP_LENGTH) && said[i].tokens == said[i].bytes);
    }
    forget(ASKED);
    block_free(block);
    make_speaker(ASKED, 8, "", START);
    ck_assert_int_eq(speak(asked, ASKED, 0, 1, 6, false), 0);
    for (size_t i = 0; i < ASKED; i++)
        ck_assert(said[i].stop == STOP_END && !*said[i].text && said[i].bytes == 0 && said[i].tokens == 0);
    forget(ASKED);
    block_free(block);
    make_speaker(1, 8, "ab", -1);                      // the penalty is for what the answer has said, not for
    model.w.wte['a' * CONFIG.width] = 5.5f;            // the prompt
    asked[0].tok[0] = 'a';
    Sampling s = {0, 0, 1, 1.2f};
    ck_assert_int_eq(generate(&model, &tok, asked, 1, &s, 1, 2, false, said, &err), 0);
    ck_assert_str_eq(said->text, "ab");
    forget(1);
    block_free(block);
    int ended[STOP_FULL + 1] = {0};
    make_speaker(1, 8, "a\n \t", EOT);
    for (uint64_t seed = 0; seed < 300; seed++) {
        ck_assert_int_eq(speak(asked, 1, 1, seed, 5, seed % 2), 0);
        const char *word = strchr(said->text, 'a'), *line = word ? strchr(word, '\n') : NULL;
        bool by_line = line && !line[1] && seed % 2;   // a line break behind a word is the last character
        ck_assert(!line || !(seed % 2) || by_line);
        ck_assert_int_eq(said->stop == STOP_LINE, by_line);
        ck_assert(said->stop != STOP_LENGTH || said->tokens == 5);
        ended[said->stop]++;
        forget(1);
    }
    ck_assert(ended[STOP_END] > 10 && ended[STOP_LINE] > 5 && ended[STOP_LENGTH] > 5 && !ended[STOP_FULL]);
    block_free(block);
} END_TEST

Suite *data_suite(void) {
    Suite *s = suite_create("data");
    TCase *t = tcase_create("data");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, options_are_taken);
    tcase_add_test(t, options_are_refused);
    tcase_add_test(t, help_is_80_wide_and_shows_defaults);
    tcase_add_test(t, files_are_read_whole);
    tcase_add_test(t, a_file_appears_whole_or_not_at_all);
    tcase_add_test(t, one_program_writes_a_file);
    tcase_add_test(t, what_a_user_has_is_not_written_over);
    tcase_add_test(t, devices_and_folders_are_not_replaced);
    tcase_add_test(t, a_full_disk_leaves_the_old_file);
    tcase_add_test(t, logs_are_appended_line_by_line);
    tcase_add_test(t, texts_grow_up_to_their_limit);
    tcase_add_test(t, a_file_is_known_by_other_names);
    tcase_add_test(t, sha256_vectors);
    tcase_add_test(t, blocks_are_aligned_and_zero);
    tcase_add_test(t, json_is_accepted);
    tcase_add_test(t, json_is_refused_with_its_place);
    tcase_add_test(t, json_depth_is_limited_and_long_input_is_fast);
    tcase_add_test(t, checkpoint_round_trip);
    tcase_add_test(t, tensors_of_whole_pieces);
    tcase_add_test(t, a_model_without_tokenizer);
    tcase_add_test(t, bf16_rounds_to_nearest_even);
    tcase_add_test(t, every_truncation_and_flipped_bit_is_refused);
    tcase_add_test(t, adapters_know_their_base);
    tcase_add_test(t, hostile_fields_are_refused);
    tcase_add_test(t, models_are_loaded_or_nothing_is);
    tcase_add_test(t, what_is_no_checkpoint);
    tcase_add_test(t, state_round_trip);
    tcase_add_test(t, damaged_states_are_refused);
    tcase_add_test(t, hash_depends_on_every_byte);
    tcase_add_test(t, batch_is_filled_and_padded);
    tcase_add_test(t, answers_are_the_same_alone_or_together);
    tcase_add_test(t, answers_end_where_they_must);
    tcase_add_test(t, answers_that_fail_leave_nothing);
    suite_add_tcase(s, t);
    return s;
}

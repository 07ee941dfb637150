// test_rows.c -- what data.c promises of rows: JSON, CSV and TSV to rows, rows through templates to examples.
#include "rooms.h"

Suite *rows_suite(void);

// ---- rows -------------------------------------------------------------------------------------------------
static Rows rows;

static const RowsHow ANSWERS = {.answers = true}, PROMPTS = {.answers = false};

static int load_rows(const char *json) {
    write_text(path, json);
    return rows_load(&rows, path, &ANSWERS, &err);
}

// The same of a file whose name ends so, with --columns and --bad-rows skip.
static int load_as(const char *ending, const char *text, const char *columns, bool skip_bad) {
    const RowsHow how = {true, skip_bad, columns};
    char name[400];
    snprintf(name, sizeof name, "%s%s", path, ending);
    write_text(name, text);
    return rows_load(&rows, name, &how, &err);
}

START_TEST(rows_are_loaded) {
    static const char *const same[] = {
        "[{\"instruction\":\"a\",\"input\":\"b\",\"output\":\"c\"},\n"
        "{\"output\":\"f\",\"extra\":[1,{}],\"input\":\"e\"}]",
        "{\"instruction\":\"a\",\"input\":\"b\",\"output\":\"c\"}\n"
        "{\"output\":\"f\",\"extra\":[1,{}],\"input\":\"e\"}",
        "\xEF\xBB\xBF{\"instruction\":\"a\",\"input\":\"b\",\"output\":\"c\"}\r\n"
        "{\"output\":\"f\",\"input\":\"e\"}\r\n\r\n"};
    uint64_t hash = 0;
    for (size_t i = 0; i < 3; i++) {
        ck_assert_msg(load_rows(same[i]) == 0, "%s", err.msg);
        ck_assert_uint_eq(rows.n, 2);
        ck_assert_str_eq(rows.row[0].turn[0].text, "a");
        ck_assert_str_eq(rows.row[0].turn[0].input, "b");
        ck_assert_str_eq(rows.row[0].output, "c");
        ck_assert_str_eq(rows.row[1].turn[0].text, "");
        ck_assert_str_eq(rows.row[1].output, "f");
        ck_assert_uint_eq(rows.row[1].line, 2);
        ck_assert_str_eq(rows.path, path);
        ck_assert(i == 0 || rows.row[0].hash == hash);
        hash = rows.row[0].hash;
        rows_free(&rows);
    }
    ck_assert_int_eq(load_rows("{\"instruction\":\"ab\",\"output\":\"c\"}\n\n"
                               "{\"input\":\"ab\",\"output\":\"other\"}"), 0);
    ck_assert_uint_eq(rows.row[1].line, 3);
    ck_assert(rows.row[0].hash != rows.row[1].hash);                   // the border between the fields counts
    rows_free(&rows);
    ck_assert_int_eq(load_rows("{\"instruction\":\"a\",\"input\":\"x\",\"output\":\"c\"}\n"
                               "{\"instruction\":\"b\",\"input\":\"x\",\"output\":\"c\"}\n"
                               "{\"instruction\":\"b\",\"input\":\"x\",\"output\":\"d\"}"), 0);
    ck_assert(rows.row[0].hash != rows.row[1].hash && rows.row[1].hash == rows.row[2].hash);
    rows_free(&rows);
} END_TEST

// What a row is made of, as "user:a+input assistant:b".
static const char *row_shown(const Row *row) {
    static const char *const name[] = {"system", "user", "assistant"};
    static char s[400];
    char *p = s;
    *p = 0;
    for (const Turn *t = row->turn; t < row->turn + row->turns; t++)
        p += sprintf(p, "%s%s:%s%s%s", t > row->turn ? " " : "", name[t->role], t->text,
                     *t->input ? "+" : "", t->input);
    return s;
}

#define SAY(role, content) "{\"role\":\"" role "\",\"content\":\"" content "\"}"

START_TEST(rows_have_three_forms) {
    static const char *const good[][2] = {
        {"{\"instruction\":\"a\",\"input\":null,\"output\":\"c\",\"messages\":null}", "user:a assistant:c"},
        {"{\"output\":\"c\",\"input\":\"b\",\"instruction\":\"a\",\"text\":7}", "user:a+b assistant:c"},
        {"{\"completion\":\"c\",\"prompt\":\"a\"}", "user:a assistant:c"},
        {"{\"messages\":[" SAY("user", "a") ",{\"content\":\"c\",\"role\":\"assistant\",\"x\":[]}],\"id\":1}",
         "user:a assistant:c"},
        {"{\"messages\":[" SAY("system", "s") "," SAY("user", "a") "," SAY("assistant", "b") ","
         SAY("user", "c") "," SAY("assistant", "d") "]}", "system:s user:a assistant:b user:c assistant:d"}};
    uint64_t hash[5];
    for (size_t i = 0; i < 5; i++) {
        ck_assert_msg(load_rows(good[i][0]) == 0, "%s", err.msg);
        ck_assert_str_eq(row_shown(&rows.row[0]), good[i][1]);
        ck_assert_str_eq(rows.row[0].output, i < 4 ? "c" : "d");
        hash[i] = rows.row[0].hash;
        rows_free(&rows);
    }
    ck_assert(hash[0] == hash[2] && hash[0] == hash[3]);           // the split looks at what is asked only
    ck_assert_uint_eq(hash[1], hash64("b", 1, hash64("a", 1, 0)));
    uint64_t h = 0;
    for (const char *turn = "sabc"; *turn; turn++) h = hash64("", 0, hash64(turn, 1, h));
    ck_assert_uint_eq(hash[4], h);
    int rc = load_rows("[{\"prompt\":\"a\",\"completion\":\"b\"},{\"messages\":[" SAY("user", "c") ","
                       SAY("assistant", "d") "]},{\"input\":\"e\",\"output\":\"f\"}]");
    ck_assert_msg(rc == 0, "%s", err.msg);
    ck_assert_str_eq(row_shown(&rows.row[1]), "user:c assistant:d");       // forms may change from row to row
    ck_assert_str_eq(row_shown(&rows.row[2]), "user:+e assistant:f");
    rows_free(&rows);
} END_TEST

START_TEST(prompts_need_no_answer) {
    static const char json[] = "{\"prompt\":\"a\"}\n{\"input\":\"b\",\"output\":null}\n"
        "{\"messages\":[{\"role\":\"user\",\"content\":\"c\"}]}\n{\"prompt\":\"a\",\"completion\":\"d\"}\n";
    write_text(path, json);
    ck_assert_msg(rows_load(&rows, path, &PROMPTS, &err) == 0, "%s", err.msg);
    ck_assert_str_eq(row_shown(&rows.row[0]), "user:a");
    ck_assert_str_eq(row_shown(&rows.row[1]), "user:+b");
    ck_assert_str_eq(row_shown(&rows.row[2]), "user:c");
    ck_assert_str_eq(row_shown(&rows.row[3]), "user:a assistant:d");
    ck_assert(!*rows.row[2].output && rows.row[0].hash == rows.row[3].hash);
    rows_free(&rows);
    ck_assert_int_eq(load_rows(json), -1);
    must_say(":1: completion is missing or empty");
} END_TEST

START_TEST(conversations_are_refused_with_their_reason) {
    static const char *const bad[][2] = {
        {"[]", ":1: messages ask nothing"}, {"7", ":1: messages is not an array"},
        {"[" SAY("system", "s") "]", ":1: messages ask nothing"},
        {"[" SAY("user", "u") "]", ":1: messages end without an answer"},
        {"[" SAY("assistant", "a") "]", "message 1 has the role 'assistant', want system or user"},
        {"[" SAY("user", "u") ",\n" SAY("user", "u") "]", ":2: message 2 has the role 'user', want assis"},
        {"[" SAY("user", "u") "," SAY("system", "s") "]", "message 2 has the role 'system', want assistant"},
        {"[" SAY("system", "s") "," SAY("system", "s") "]", "message 2 has the role 'system', want user"},
        {"[" SAY("user", "u") "," SAY("tool", "t") "]", "message 2 has the role 'tool', want assistant"},
        {"[" SAY("user", "u") "," SAY("assistant", "") "]", ":1: content is empty"},
        {"[" SAY("user", "u") "," SAY("assistant", "\\u0000") "]", ":1: content holds \\u0000"},
        {"[{\"role\":\"user\"}]", "a message is no object with role and content"},
        {"[1]", "a message is no object"},
        {"[{\"role\":\"user\",\"content\":[]}]", ":1: content is not a string"},
        {"[{\"role\":1,\"content\":\"x\"}]", ":1: role is not a string"},
        {"[" SAY("user", "u") "," SAY("assistant", "a") "],\"prompt\":\"p\"", "has both prompt and messages"},
        {"null,\"output\":\"o\",\"prompt\":\"p\"", "has both output and prompt"},
        {"null,\"completion\":\"\",\"prompt\":\"p\"", "completion is missing or empty"},
        {"null,\"completion\":\"c\"", "prompt is missing or empty"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char json[400];
        snprintf(json, sizeof json, "{\"messages\":%s}\n{\"prompt\":\"p\",\"completion\":\"c\"}", bad[i][0]);
        ck_assert_msg(load_rows(json) == -1, "%s was taken", json);
        must_say(bad[i][1]);
        ck_assert(!rows.row && !rows.turn && !rows.json.node && !rows.path);
    }
} END_TEST

START_TEST(rows_are_refused) {
    static const char *const bad[][2] = {
        {"", "has no rows"}, {"\n \n", "has no rows"}, {"[]", "has no rows"},
        {"[1]", ":1: the row is not an object"}, {"null\n", ":1: the row is not an object"},
        {"[{\"input\":\"x\",\"output\":\"y\"},\n{\"input\":\"x\"}]", ":2: output is missing or empty"},
        {"{\"input\":\"x\",\"output\":\"\"}\n{\"output\":\"y\"}", ":1: output is missing or empty"},
        {"\n\n{\"output\":\"y\",\"input\":\"\"}\r\r\n{\"input\":\"x\"}",
         ":3: instruction or input is missing or empty"},
        {"{\"input\":\n7,\"output\":\"y\"}", ":2: input is not a string"},
        {"{\"input\":\"a\\u0000\",\"output\":\"y\"}", ":1: input holds \\u0000"},
        {"{\"input\":\"x\",\"output\":\"y\"} {\"input\":\"x\",\"output\":\"y\"}",
        ":1:28: found '{', want a new line"},
        {"{\"input\":\"x\",\"output\":\"y\"}\n{\"input\"", ":2:9: found the end, want ':'"},
        {"[{\"input\":\"x\",\"output\":\"y\"}]\n[]", ":2:1: found '[', want nothing"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(load_rows(bad[i][0]) == -1, "%s was taken", bad[i][0]);
        must_say(bad[i][1]);
        ck_assert(!rows.row && !rows.json.node && !rows.path);
    }
    size_t n = 5 << 20;
    char *big = malloc(n + 1);
    ck_assert_ptr_nonnull(big);
    memset(big, 'x', n);
    memcpy(big, "{\"output\":\"", 11);
    strcpy(big + n - 20, "\",\"input\":\"y\"}");
    ck_assert_int_eq(load_rows(big), -1);
    must_say(":1: the row has more than 4 MiB of text");
    free(big);
} END_TEST

START_TEST(tables_become_rows_by_their_header) {
    static const char *const same[][2] = {
        {".csv", "prompt,completion\na,c\n\"b, \"\"x\"\"\n2\",d\n"},
        {".csv", "\xEF\xBB\xBF" "completion,\"prompt\"\r\nc,a\r\n\r\nd,\"b, \"\"x\"\"\n2\"\r\n"},
        {".csv", "n,prompt,completion\r0,a,c\r1,\"b, \"\"x\"\"\n2\",d"}};
    for (size_t i = 0; i < 3; i++) {
        ck_assert_msg(load_as(same[i][0], same[i][1], NULL, false) == 0, "%s", err.msg);
        ck_assert_uint_eq(rows.n, 2);
        ck_assert_str_eq(row_shown(&rows.row[0]), "user:a assistant:c");
        ck_assert_str_eq(row_shown(&rows.row[1]), "user:b, \"x\"\n2 assistant:d");
        ck_assert_uint_eq(rows.row[1].line, i == 1 ? 4 : 3);
        ck_assert_str_eq(rows.ignored, i < 2 ? "" : "n (2 rows)");
        rows_free(&rows);
    }
    ck_assert_int_eq(load_as(".tsv", "output\tsystem\tinput\ninstruct\"\t\t\"x, y\"\nz\ts\t\"\n", NULL, false), 0);
    ck_assert_str_eq(row_shown(&rows.row[0]), "user:+\"x, y\" assistant:instruct\"");
    ck_assert_str_eq(row_shown(&rows.row[1]), "system:s user:+\" assistant:z");
    rows_free(&rows);
} END_TEST

START_TEST(tables_are_refused) {
    static const char *const bad[][3] = {
        {".csv", "", ".csv: has no rows"}, {".csv", "\n\r\n", "has no rows"},
        {".csv", "prompt,completion\n", ".csv: has no rows below its header"},
        {".csv", "prompt,completion\na,b\n\nc\n", ".csv:4: the row has 1 fields, want 2 as in line 1"},
        {".csv", "prompt,completion\na,b,\n", ".csv:2: the row has 3 fields, want 2"},
        {".csv", "prompt,completion\n\"a\nb\",\"c\nd\"\ne,\n", ".csv:5: completion is missing or empty"},
        {".csv", "prompt,completion\n,b\na,b\n", ".csv:2: prompt is missing or empty"},
        {".csv", "prompt,prompt,output\na,b,c\n", ".csv:2: prompt is there twice"},
        {".csv", "prompt,completion\na,\"b\n", ".csv:3:1: found the end, want '\"'"},
        {".csv", "prompt,completion\na,\"b\"c\n", ".csv:2:6: found 'c', want ',' or a new line"},
        {".csv", "prompt,completion\na,b\nna\xEFve,c\n",
         ".csv:3:3: found byte 0xef, want UTF-8\nhint: iconv -t UTF-8"},
        {".csv", "prompt;completion\na;b\n", ".csv:2: output is missing or empty; not read: prompt;completion (1 row)"},
        {".tsv", "prompt,completion\na,b\n", "not read: prompt,completion (1 row)\nhint: --columns prompt=NAME"},
        {".tsv", "prompt\tcompletion\na\tb\tc\n", ".tsv:2: the row has 3 fields, want 2"},
        {".csv", "text,category\nx,y\n", "; not read: text (1 row), category (1 row)\nhint: --columns prompt=NAME,comp"},
        {".json", "prompt,completion\na,b\n", ".json:1:1: found 'p', want a value"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(load_as(bad[i][0], bad[i][1], NULL, false) == -1, "%s was taken", bad[i][1]);
        must_say(bad[i][2]);
        ck_assert(!rows.row && !rows.turn && !rows.json.node && !rows.path);
    }
    static const char utf16[] = "\xFF\xFE[\0]\0";
    for (int csv = 0; csv < 2; csv++) {
        char name[400];
        snprintf(name, sizeof name, "%s%s", path, csv ? ".csv" : ".jsonl");
        write_file(name, utf16, sizeof utf16);
        ck_assert_int_eq(rows_load(&rows, name, &ANSWERS, &err), -1);
        must_say(csv ? ":1:1: found byte 0xff, want UTF-8\nhint: iconv" : ":1:1: found byte 0xff, want a value");
    }
} END_TEST

START_TEST(columns_are_named) {
    static const char table[] = "question,answer,prompt\na,b,x\nc,d,\n";
    ck_assert_msg(load_as(".csv", table, "prompt=question,completion=answer", false) == 0, "%s", err.msg);
    ck_assert_str_eq(row_shown(&rows.row[0]), "user:a assistant:b");
    ck_assert_str_eq(rows.ignored, "prompt (1 row)");
    rows_free(&rows);
    ck_assert_int_eq(load_as(".csv", table, "input=question,instruction=prompt,output=answer", false), 0);
    ck_assert_str_eq(row_shown(&rows.row[0]), "user:x+a assistant:b");
    ck_assert_str_eq(row_shown(&rows.row[1]), "user:+c assistant:d");
    rows_free(&rows);
    ck_assert_int_eq(load_as("", "{\"prompt\":\"a\",\"completion\":\"b\",\"system\":\"s\"}",
                             "completion=prompt,prompt=completion,system=", false), 0);
    ck_assert_str_eq(row_shown(&rows.row[0]), "user:b assistant:a");
    ck_assert_str_eq(rows.ignored, "system (1 row)");
    rows_free(&rows);
    ck_assert_int_eq(load_as(".csv", "note,prompt,note,completion,note\n1,a,2,b,3\n", "", false), 0);
    ck_assert_str_eq(row_shown(&rows.row[0]), "user:a assistant:b");       // what is not read may be there twice
    ck_assert_str_eq(rows.ignored, "note (1 row)");
    rows_free(&rows);
    ck_assert_int_eq(load_as("", "{\"chat\":[" SAY("user", "a") "," SAY("assistant", "b") "],\"prompt\":\"a\"}",
                             "messages=chat,prompt=", false), 0);
    ck_assert_str_eq(row_shown(&rows.row[0]), "user:a assistant:b");
    rows_free(&rows);
    ck_assert_int_eq(load_as("", "{\"input\":\"a\",\"output\":\"b\"}", "prompt=input,completion=output", false), 0);
    ck_assert_str_eq(row_shown(&rows.row[0]), "user:a assistant:b");     // it is the input of no row any more
    rows_free(&rows);
    static const char *const bad[][2] = {
        {"question=prompt", "--columns: 'question', want NAME=COLUMN, the name being one of instruction"},
        {"prompt,completion=x", "--columns: 'prompt', want NAME"},
        {"prompt", "--columns: 'prompt', want NAME"},
        {"prompt=question,completion=question", ".csv:2: prompt is missing or empty; not read: answer"},
        {"prompt=quesiton,completion=answer", ".csv:2: quesiton is missing or empty; not read: question (1 row), prompt (1 row)\nhint:"},
        {"prompt=answer", "completion is missing or empty; not read: question (1 row), prompt (1 row)"},
        {"completion=answer,prompt=", "prompt is missing or empty; not read: question (1 row), prompt (1 row)"},
        {"prompt=question,completion=answer,system=persona", ": no row holds persona; not read: prompt (1 row)"},
        {"", NULL}};
    for (size_t i = 0; bad[i][1]; i++) {
        ck_assert_msg(load_as(".csv", table, bad[i][0], false) == -1, "%s was taken", bad[i][0]);
        must_say(bad[i][1]);
    }
    ck_assert_int_eq(load_as(".csv", "prompt,completion\na,b\n", "system=persona", false), -1);
    must_say(": no row holds persona");
    ck_assert_int_eq(load_as(".csv", "question,answer\na,b\nc,\n", "prompt=question,completion=answer", false), -1);
    must_say(".csv:3: answer is missing or empty");                      // as the file calls it
} END_TEST

START_TEST(a_system_member_is_a_system_turn) {
    ck_assert_int_eq(load_rows("{\"system\":\"s\",\"instruction\":\"a\",\"output\":\"b\",\"history\":[[\"x\",\"y\"]]}\n"
                               "{\"system\":\"\",\"prompt\":\"a\",\"completion\":\"b\",\"history\":[],\"id\":7}\n"
                               "{\"messages\":[" SAY("user", "a") "," SAY("assistant", "b") "],\"system\":\"s\","
                               "\"tag\\u001b\":\"t\"}\n"), 0);
    ck_assert_str_eq(row_shown(&rows.row[0]), "system:s user:a assistant:b");
    ck_assert_str_eq(row_shown(&rows.row[1]), "user:a assistant:b");
    ck_assert_str_eq(row_shown(&rows.row[2]), "system:s user:a assistant:b");
    ck_assert(rows.row[0].hash != rows.row[1].hash && rows.row[0].hash == rows.row[2].hash);
    ck_assert_str_eq(rows.ignored, "history (2 rows), id (1 row), tag? (1 row)");
    rows_free(&rows);
    ck_assert_int_eq(load_rows("{\"messages\":[" SAY("system", "t") "," SAY("user", "a") "],\"system\":\"s\"}"), -1);
    must_say(":1: message 1 has the role 'system', want user");
} END_TEST

START_TEST(bad_rows_are_skipped_and_counted) {
    static const char *const some[][2] = {
        {".jsonl", "{\"prompt\":\"a\",\"completion\":\"b\"}\n"             // 1
         "{\"prompt\":\"a\",\"completion\":\n"                             // 2: broken; the next line is whole
         "{\"prompt\":\"c\",\"completion\":\"d\"}\n"
         "{\"prompt\":\"\xE9\",\"completion\":\"d\"}\r"                    // 4: Latin-1
         "{\"prompt\":\"\\uD800\",\"completion\":\"d\"}\r\n"               // 5: half a character
         "[[[[{\"a\":[\n\n"                                                // 6
         "{\"messages\":[" SAY("user", "u") "," SAY("assistant", "v") "," SAY("user", "w") "]}\n"
         "{\"prompt\":\"e\",\"completion\":\"f\"} x\n"                     // 9
         "7\n{\"prompt\":\"g\",\"completion\":\"h\"}"},                    // 10
        {".json", "[{\"prompt\":\"a\",\"completion\":\"b\"},\n{\"prompt\":\"a\"},\n{\"prompt\":\"c\",\"completion\":\"d\"},"
         "\n[],null,{\"completion\":\"x\"},{\"messages\":[" SAY("system", "s") "," SAY("user", "u") "]},\n"
         "{\"prompt\":1},{\"instruction\":\"i\",\"prompt\":\"p\",\"completion\":\"c\"},"
         "{\"prompt\":\"g\",\"completion\":\"h\"}]"},
        {".csv", "prompt,completion\na,b\nx\nc,d\n,\ny,\n,z\nx,y,z\nx,\ng,h\n,,\n"}};
    static const char *const why[] = {".jsonl:4:1: found '{', want ',' or '}'", ".json:2: completion is missing",
                                      ".csv:3: the row has 1 fields, want 2 as in line 1\n"};
    for (size_t i = 0; i < 3; i++) {
        int rc = load_as(some[i][0], some[i][1], NULL, true);
        ck_assert_msg(rc == 0, "%s", err.msg);
        ck_assert_uint_eq(rows.n, 3);
        ck_assert_uint_eq(rows.bad, 7);
        for (size_t k = 0; k < 3; k++)
            ck_assert_str_eq(row_shown(&rows.row[k]), k == 0 ? "user:a assistant:b" : k == 1 ?
                             "user:c assistant:d" : "user:g assistant:h");
        ck_assert_msg(strstr(rows.reason, why[i]) != NULL, "%s", rows.reason);
        int lines = 1;
        for (const char *p = rows.reason; *p; p++) lines += *p == '\n';
        ck_assert_int_eq(lines, 3);
        rows_free(&rows);
        ck_assert_int_eq(load_as(some[i][0], some[i][1], NULL, false), -1);
        ck_assert_ptr_null(rows.json.node);
    }
    ck_assert_int_eq(load_as(".jsonl", "{\n7\n", NULL, true), -1);
    must_say(".jsonl: has no good rows: ");
    ck_assert_int_eq(load_as(".json", "[{\"prompt\":\"a\",\"completion\":\"b\"},]", NULL, true), -1);
    must_say(":1:34: found ']', want a value");          // as an array it has no next line to go on with
    ck_assert_int_eq(load_as(".csv", "prompt,completion\na,b\nx,\"y\n", NULL, true), -1);
    must_say(".csv:4:1: found the end, want '\"'");
} END_TEST

// Each of the first 64 lines leaves a bracket open and is tried; and the longest way to nothing else.
START_TEST(hostile_rows_are_fast) {
    static const char *const pattern[] = {",", "\"", "\n", "a\n", "[\n", "[1,\n1],", "{\"a\":", "\"\"", "\t", "\r"};
    static const char *const ending[] = {".csv", ".tsv", ".jsonl"};
    size_t n = 1 << 20;
    char *big = malloc(n + 1);
    ck_assert_ptr_nonnull(big);
    for (size_t i = 0; i < sizeof pattern / sizeof *pattern; i++)
        for (size_t k = 0; k < 3; k++) {
            size_t length = strlen(pattern[i]);
            for (size_t at = 0; at < n; at++) big[at] = pattern[i][at % length];
            big[n] = 0;
            double start = seconds();
            ck_assert_int_eq(load_as(ending[k], big, NULL, true), -1);
            ck_assert_msg(seconds() - start < 5, "%s%s: %.1f s", pattern[i], ending[k], seconds() - start);
        }
    free(big);
} END_TEST

// ---- templates and examples -------------------------------------------------------------------------------
static Examples made;

// The tokens of an example with | around those of several bytes, and ^ where the prompt ends.
static const char *shown(const Example *ex) {
    static char s[4096];
    char *p = s;
    for (uint32_t t = 0; t < ex->len; t++) {
        size_t n;
        const uint8_t *bytes = tokenizer_decode(&tok, ex->tok[t], &n);
        if (t == ex->prompt) *p++ = '^';
        p += sprintf(p, n > 1 ? "|%.*s|" : "%.*s", (int)n, (const char *)bytes);
    }
    *p = 0;
    return s;
}

static int make(const char *json, const char *template, size_t seq, TooLong mode, Teach teach) {
    make_tokenizer();
    ck_assert_msg(load_rows(json) == 0, "%s", err.msg);
    int rc = examples_make(&made, &rows, template, &tok, seq, mode, teach, &err);
    rows_free(&rows);
    return rc;
}

#define PROMPT_A "Below is an instruction that describes a task"
#define PROMPT_B ". Write a response that appropriately completes the request.\n\n### Instruction:\n"
static const char BOTH[] = "{\"instruction\":\"Do\",\"input\":\"In\",\"output\":\"Out\"}";
static const char ONE[] = "{\"instruction\":\"Do\",\"output\":\"Out\"}";
static const char INPUT_ONLY[] = "{\"input\":\"In\",\"output\":\"Out\"}";

static void prompt_is(const char *json, const char *name, const char *prompt, const char *answer) {
    char text_of[2][2048] = {"", ""};
    ck_assert_msg(make(json, template_named(name), 2000, TOO_LONG_ERROR, TEACH_ANSWERS) == 0, "%s", err.msg);
    const Example *ex = &made.ex[0];
    for (uint32_t t = 0; t < ex->len; t++) {
        size_t n;
        const char *bytes = (const char *)tokenizer_decode(&tok, ex->tok[t], &n);
        strncat(text_of[t >= ex->prompt], bytes, n);
        ck_assert_uint_eq(ex->taught[t], t >= ex->prompt);
    }
    ck_assert_str_eq(text_of[0], prompt);
    ck_assert_str_eq(text_of[1], answer);
    examples_free(&made);
}

START_TEST(named_templates_are_what_they_are_known_for) {
    prompt_is(BOTH, "alpaca", PROMPT_A ", paired with an input that provides further context" PROMPT_B
              "Do\n\n### Input:\nIn\n\n### Response:\n", "Out<|endoftext|>");
    prompt_is(ONE, "alpaca", PROMPT_A PROMPT_B "Do\n\n### Response:\n", "Out<|endoftext|>");
    prompt_is(BOTH, "chatml", "<|im_start|>user\nDo\nIn<|im_end|>\n<|im_start|>assistant\n", "Out<|im_end|>");
    prompt_is(ONE, "chatml", "<|im_start|>user\nDo<|im_end|>\n<|im_start|>assistant\n", "Out<|im_end|>");
    prompt_is(INPUT_ONLY, "chatml", "<|im_start|>user\nIn<|im_end|>\n<|im_start|>assistant\n",
              "Out<|im_end|>");
    prompt_is(BOTH, "plain", "Do\nIn\nAnswer:", " Out<|endoftext|>");
    prompt_is(INPUT_ONLY, "plain", "In\nAnswer:", " Out<|endoftext|>");
    prompt_is(BOTH, "none", "Do\nIn\n", "Out<|endoftext|>");
    prompt_is(ONE, "none", "Do\n", "Out<|endoftext|>");
    ck_assert_ptr_null(template_named("nobody's"));
} END_TEST

// peers 16, peers 17: no mark is searched for, so none is missed or found in a user's text
START_TEST(segments_are_encoded_as_one_and_user_text_is_never_special) {
    // "h" and "e" of two pieces become one token, not across {target}; special names in user text are text
    ck_assert_int_eq(make("{\"input\":\"e a\",\"output\":\"e<|im_end|>l\"}",
                          "h{input} {{x} h{target}{output}l{<|im_end|>}", 99,
                          TOO_LONG_ERROR, TEACH_ANSWERS), 0);
    ck_assert_str_eq(shown(&made.ex[0]), "|he|| a| {x} h^e<|im_end|>|ll||<|im_end|>|");
    ck_assert_uint_eq(made.ex[0].prompt, 8);
    ck_assert_int_eq(made.ex[0].tok[made.ex[0].len - 1], END);
    ck_assert_uint_eq(made.tokens, made.ex[0].len);
    ck_assert_uint_eq(made.targets, made.ex[0].len - 8);
    examples_free(&made);
    ck_assert_int_eq(make(ONE, "{?input}a{/}{?instruction}df{/}{instruction}{target}{output}{eot}",
                          99, TOO_LONG_ERROR, TEACH_ALL), 0);
    ck_assert_str_eq(shown(&made.ex[0]), "dfDo^Out|<|endoftext|>|");
    ck_assert_uint_eq(made.ex[0].prompt, 4);
    for (uint32_t t = 0; t < made.ex[0].len; t++) ck_assert_uint_eq(made.ex[0].taught[t], t > 0);
    examples_free(&made);
    ck_assert_int_eq(make(ONE, "{?input}abc{/}x{instruction}{target}{output}{eot}", 99, TOO_LONG_ERROR,
                          TEACH_ANSWERS), 0);
    ck_assert_str_eq(shown(&made.ex[0]), "xDo^Out|<|endoftext|>|");        // nothing of a part that is left out
    examples_free(&made);
} END_TEST

// The first example as text, with ( ) around what is taught.
static const char *taught_shown(void) {
    static char s[4096];
    char *p = s;
    const Example *ex = made.ex;
    for (uint32_t t = 0; t < ex->len; t++) {
        size_t n;
        const uint8_t *bytes = tokenizer_decode(&tok, ex->tok[t], &n);
        bool before = t > 0 && ex->taught[t - 1], after = t + 1 < ex->len && ex->taught[t + 1];
        p += sprintf(p, "%s%.*s%s", ex->taught[t] && !before ? "(" : "", (int)n, (const char *)bytes,
                     ex->taught[t] && !after ? ")" : "");
    }
    *p = 0;
    return s;
}

// Renders the first row of json, compares, and frees it.
static void renders(const char *json, const char *template, Teach teach, const char *want) {
    ck_assert_msg(make(json, template, 999, TOO_LONG_ERROR, teach) == 0, "%s", err.msg);
    ck_assert_str_eq(taught_shown(), want);
    size_t targets = 0;
    for (uint32_t t = 0; t < made.ex[0].len; t++) targets += made.ex[0].taught[t];
    ck_assert_uint_eq(made.targets, targets);
    examples_free(&made);
}

#define TALK SAY("user", "hi") "," SAY("assistant", "yo") "," SAY("user", "so") "," SAY("assistant", "ok")
static const char CONVERSATION[] = "{\"messages\":[" TALK "]}";
static const char WITH_SYSTEM[] = "{\"messages\":[" SAY("system", "be") "," TALK "]}";

START_TEST(sections_make_conversations) {
    const char *chatml = template_named("chatml");
#define CHAT_1 "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
#define CHAT_2 "\n<|im_start|>user\nso<|im_end|>\n<|im_start|>assistant\n"
    renders(CONVERSATION, chatml, TEACH_ANSWERS, CHAT_1 "(yo<|im_end|>)" CHAT_2 "(ok<|im_end|>)");
    renders(CONVERSATION, chatml, TEACH_LAST, CHAT_1 "yo<|im_end|>" CHAT_2 "(ok<|im_end|>)");
    renders(CONVERSATION, chatml, TEACH_NONE, CHAT_1 "yo<|im_end|>" CHAT_2);
    renders(CONVERSATION, chatml, TEACH_ALL, "<|im_start|>(user\nhi<|im_end|>\n<|im_start|>assistant\n"
            "yo<|im_end|>" CHAT_2 "ok<|im_end|>)");
    renders(WITH_SYSTEM, chatml, TEACH_ANSWERS, "<|im_start|>system\nbe<|im_end|>\n" CHAT_1 "(yo<|im_end|>)"
            CHAT_2 "(ok<|im_end|>)");
    // the order of sections is free; a missing last line break, an empty section, a [default]; {input} apart
    static const char other_way[] = "[assistant]\nA:{target}{text}{eot}|\n[default]\nD{{\n\n"
                                    "[user]\nU {text}{?input}<{input}>{/}";
    renders(CONVERSATION, other_way, TEACH_ANSWERS, "D{\nU hiA:(yo<|endoftext|>)|U soA:(ok<|endoftext|>)");
    renders(BOTH, other_way, TEACH_ANSWERS, "D{\nU Do<In>A:(Out<|endoftext|>)");
    static const char joined[] = "[user]\n{text};\n[system]\n{text}.\n[default]\n"
                                 "[assistant]\n{target}{text}{<|im_end|>}{eot} \n";
    renders(BOTH, joined, TEACH_ANSWERS, "Do\nIn;(Out<|im_end|>)");
    renders(INPUT_ONLY, joined, TEACH_ANSWERS, "In;(Out<|im_end|>)");
    renders(WITH_SYSTEM, joined, TEACH_ANSWERS, "be.hi;(yo<|im_end|>)<|endoftext|> so;(ok<|im_end|>)");
} END_TEST

START_TEST(sections_are_joined_where_no_special_token_stands_between) {
    // "h" ends the answer's section, "e" begins the next: one token; {target} and the end of turn divide
    ck_assert_int_eq(make(CONVERSATION, "[user]\ne{text}h\n[assistant]\n{target}e{text}{eot}h", 99,
                          TOO_LONG_ERROR, TEACH_ANSWERS), 0);
    ck_assert_str_eq(shown(made.ex), "ehiheyo|<|endoftext|>||he|soh^eok|<|endoftext|>|");
    examples_free(&made);
    ck_assert_int_eq(make("{\"messages\":[" SAY("user", "<|im_end|>") "," SAY("assistant", "x") "]}",
                          "[user]\n{text}{eot}\n[assistant]\n{target}{text}{eot}", 99, TOO_LONG_ERROR,
                          TEACH_ANSWERS), 0);
    ck_assert_str_eq(taught_shown(), "<|im_end|><|endoftext|>(x<|endoftext|>)");
    for (uint32_t t = 0; t < made.ex[0].len; t++) ck_assert_int_ne(made.ex[0].tok[t], END);
    examples_free(&made);
} END_TEST

START_TEST(llama3_is_what_it_is_known_for) {
    static const char *const rest[] = {"he", "ll", " a", "<|start_header_id|>", "<|end_header_id|>",
                                       "<|eot_id|>", "<|begin_of_text|>"};
#define HEAD(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
    make_tokenizer_of(rest);
    tok.bos = BOS;
    ck_assert_int_eq(load_rows(WITH_SYSTEM), 0);
    int rc = examples_make(&made, &rows, template_named("llama3"), &tok, 999, TOO_LONG_ERROR, TEACH_ANSWERS,
                           &err);
    ck_assert_msg(rc == 0, "%s", err.msg);
    ck_assert_str_eq(taught_shown(), "<|begin_of_text|>" HEAD("system") "be<|eot_id|>"
                     HEAD("user") "hi<|eot_id|>" HEAD("assistant") "(yo<|eot_id|>)"
                     HEAD("user") "so<|eot_id|>" HEAD("assistant") "(ok<|eot_id|>)");
    examples_free(&made);
    rows_free(&rows);
} END_TEST

START_TEST(rows_must_suit_their_template) {
    static const char bare[] = "[user]\n{text}\n[assistant]\n{target}{text}{eot}";
    ck_assert_int_eq(make(CONVERSATION, template_named("plain"), 99, TOO_LONG_DROP, TEACH_ANSWERS), -1);
    must_say("/file:1: the row is a conversation, which the template is not for\nhint: --template chatml");
    ck_assert_int_eq(make("{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"messages\":[" SAY("system", "s") ","
                          SAY("user", "u") "," SAY("assistant", "a") "]}", bare, 99, TOO_LONG_DROP,
                          TEACH_ANSWERS), -1);
    must_say("/file:2: the row has a system turn, the template no [system]\nhint: --template chatml");
    ck_assert_int_eq(make(BOTH, "{instruction}{target}{output}{eot}", 99, TOO_LONG_DROP, TEACH_ANSWERS), -1);
    must_say("/file:1: the row has an input, the template no {input}");
    ck_assert_int_eq(make(BOTH, "{input}{target}{output}{eot}", 99, TOO_LONG_DROP, TEACH_ANSWERS), -1);
    must_say("/file:1: the row has an instruction, the template no {instruction}");
    write_text(path, "{\"prompt\":\"ab\"}");
    ck_assert_int_eq(rows_load(&rows, path, &PROMPTS, &err), 0);
    ck_assert_int_eq(examples_make(&made, &rows, bare, &tok, 99, TOO_LONG_ERROR, TEACH_ANSWERS, &err), -1);
    must_say("/file:1: the row has no answer to learn");
    ck_assert_int_eq(examples_make(&made, &rows, bare, &tok, 99, TOO_LONG_ERROR, TEACH_NONE, &err), 0);
    ck_assert(made.ex[0].len == 2 && made.ex[0].prompt == 2 && made.targets == 0);
    examples_free(&made);
    ck_assert_int_eq(examples_make(&made, &rows, "{target}{instruction}{output}{eot}", &tok, 99, TOO_LONG_ERROR,
                                   TEACH_NONE, &err), -1);
    must_say("/file:1: the row has no token to begin with");
    rows_free(&rows);
} END_TEST

// What cutting must find: of rows that lack 0, 1, 2, ... exchanges from the start, the first that fits.
START_TEST(cutting_leaves_out_the_oldest_exchanges) {
    static const char template[] = "[system]\nS{text}{eot}\n[user]\nQ{text}\n"
                                   "[assistant]\nA{target}{text}{eot}";
    enum { EXCHANGES = 9 };
    char json[EXCHANGES][2000];
    size_t seqs = 0;
    for (int skip = 0; skip < EXCHANGES; skip++) {
        char *p = json[skip] + sprintf(json[skip], "{\"messages\":[" SAY("system", "s"));
        for (int i = skip; i < EXCHANGES; i++)
            p += sprintf(p, "," SAY("user", "%.*s") "," SAY("assistant", "%d"), 1 + i * 5 % 7, "uvwxyz01", i);
        strcpy(p, "]}");
    }
    for (size_t seq = 200; seq >= 4; seq--, seqs++) {
        static char want[4096];
        int skip = -1;
        do {
            ck_assert_int_eq(make(json[++skip], template, 999, TOO_LONG_ERROR, TEACH_ANSWERS), 0);
            bool fits = made.ex[0].len <= seq;
            strcpy(want, taught_shown());
            examples_free(&made);
            if (fits) break;
        } while (skip + 1 < EXCHANGES);
        ck_assert_int_eq(make(json[0], template, seq, TOO_LONG_CUT, TEACH_ANSWERS), 0);
        ck_assert_uint_le(made.ex[0].len, seq);
        ck_assert_uint_eq(made.cut, skip > 0);
        size_t over = strlen(want) > strlen(taught_shown()) ? strlen(want) - strlen(taught_shown()) : 0;
        ck_assert(over == 0 || skip + 1 == EXCHANGES);             // then the prompt's first tokens go
        if (over == 0) ck_assert_str_eq(taught_shown(), want);
        ck_assert_str_eq(taught_shown() + strlen(taught_shown()) - 16, "A(8<|endoftext|>)" + 1);
        examples_free(&made);
    }
    ck_assert_uint_eq(seqs, 197);
} END_TEST

START_TEST(begin_of_text_comes_first) {
    make_tokenizer();
    ck_assert_int_eq(load_rows(ONE), 0);
    tok.bos = BOS;
    ck_assert_int_eq(examples_make(&made, &rows, template_named("none"), &tok, 99, TOO_LONG_ERROR, TEACH_ALL,
                                   &err), 0);
    ck_assert_int_eq(made.ex[0].tok[0], BOS);
    ck_assert_uint_eq(made.ex[0].prompt, 4);
    ck_assert_uint_eq(made.ex[0].taught[0], 0);
    examples_free(&made);
    ck_assert_int_eq(examples_make(&made, &rows, template_named("none"), &tok, 6, TOO_LONG_CUT, TEACH_ALL,
                                   &err), 0);
    const int32_t want[] = {BOS, '\n', 'O', 'u', 't', EOT};
    ck_assert_uint_eq(made.ex[0].len, 6);
    ck_assert_mem_eq(made.ex[0].tok, want, sizeof want);
    ck_assert_uint_eq(made.ex[0].prompt, 2);
    examples_free(&made);
    rows_free(&rows);
} END_TEST

START_TEST(templates_are_refused) {
    static const char *const bad[][2] = {
        {"{input}{output}{eot}", "the answer before {target}"}, {"{input}{eot}", "no {target} and answer"},
        {"{target}{input}{eot}", "no {target} and answer"},
        {"{target}{output}", "does not end with a special token: want {eot}"},
        {"{target}{output}{eot}\n", "does not end with a special token: want {eot}"},
        {"{inptu}{target}{output}{eot}", "template: byte 0, '{inptu}{target}{output}{': unknown: want {instruction}"},
        {"{<|nope|>}{target}{output}{eot}", "no such special token"},
        {"{target}{output}{eot", "byte 16, '{eot': '{' without '}'"},
        {"{abcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefg}", "unknown: want"},    // 63 letters
        {"{abcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefgh}", "'{' without '}'"},
        {"{target}{output}{?input}x{eot}", "{?...} without {/}"},
        {"{/}{target}{output}{eot}", "{/} without {?...}"},
        {"{target}{target}{output}{eot}", "want one {target}"},
        {"{?input}{target}{/}{output}{eot}", "want one {target}"},
        {"{target}{?input}{output}{/}{eot}", "no {target} and answer"},
        {"{?nobody}{/}{target}{output}{eot}", "unknown: want"}, {"", "no {target} and answer"},
        {"{target}{output}{?input}{eot}{/}", "does not end with a special"},
        {"{::}{target}{output}{eot}", "unknown: want"}, {"{}", "unknown: want"},
        {"{?input}{?input}{/}{/}{target}{output}{eot}", "byte 8, '{?input}{/}{/}{target}{o': {?...} before the {/}"},
        {"{?input}In{/}{target}{output}{eot}", "no place for what is asked before this: want {instruction}"}};
    static const char *const bad_sections[][2] = {
        {"[user]\n{text}\n[assistant]\n{text}{target}{eot}", "the answer before {target}"},
        {"[user]\n{text}\n[assistant]\n{target}{text}\n", "does not end with a special token: want {eot}"},
        {"[user]\n{text}\n[assistant]\n{target}{eot}", "no {target} and answer"},
        {"[user]\n{text}\n[assistant]\n{text}{eot}", "the answer before {target}"},
        {"[user]\n{text}\n[assistant]\n{eot}", "no {target} and answer"},
        {"[user]\n{text}{target}\n[assistant]\n{target}{text}{eot}", "want one {target}, where the answer"},
        {"[user]\nx\n[assistant]\n{target}{text}{eot}", "the section before this has no {text}"},
        {"[user]\n{text}\n[system]\n{eot}\n[assistant]\n{target}{text}{eot}", "the section before this has no {text}"},
        {"[user]\n{text}", "want sections [user] and [assistant]"},
        {"[assistant]\n{target}{text}{eot}", "want sections [user] and [assistant]"},
        {"[user]\n{text}\n[user]\n{text}\n[assistant]\n{target}{text}{eot}", "': want each of the lines"},
        {"[user]\n{text}\n[tool]\n{text}\n[assistant]\n{target}{text}{eot}",
         "': want each of the lines"},
        {"[default]\n{text}\n[user]\n{text}\n[assistant]\n{target}{text}{eot}",
         "byte 10, '{text}': unknown here"},
        {"[user]\n{instruction}\n[assistant]\n{target}{text}{eot}", "byte 7, '{instruction}': unknown here"},
        {"[user]\n{text}\n[assistant]\n{target}{output}{eot}", "unknown here"},
        {"[user]\n{?text}{text}\n[assistant]\n{/}{target}{text}{eot}", "{?...} without {/}"},
        {"[users]\n{text}{target}{output}{eot}", "byte 8, '{text}{target}{output}{e': unknown: want"}};
    static const char all[] =
        "{{{?input}x{/}{?instruction}z{/}{target}{output} {input}{eot}{<|im_end|>}";
    char many[2000] = "";
    make_tokenizer();
    ck_assert_msg(template_check(all, &tok, &err) == 0, "%s", err.msg);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(template_check(bad[i][0], &tok, &err) == -1, "%s was taken", bad[i][0]);
        must_say(bad[i][1]);
    }
    for (size_t i = 0; i < sizeof bad_sections / sizeof *bad_sections; i++) {
        const char *template = bad_sections[i][0];
        ck_assert_msg(template_check(template, &tok, &err) == -1, "%s was taken", template);
        must_say(bad_sections[i][1]);
    }
    ck_assert(template_has_sections("[user]") && template_has_sections("[default]\n"));
    ck_assert(!template_has_sections("[users]\n") && !template_has_sections("[user] \n"));
    ck_assert(!template_has_sections("") && !template_has_sections("x\n[user]\n"));
    for (int i = 0; i < 300; i++) strcat(many, "{{");
    ck_assert_int_eq(template_check(many, &tok, &err), -1);
    must_say("more than 256 pieces");
    Tokenizer bare = tok;
    bare.eot = -1;
    ck_assert_int_eq(template_check(template_named("plain"), &bare, &err), -1);
    must_say("no such special token");
} END_TEST

// Chooses among a name or file, the checkpoint's own, and plain.
static int choose(const char *asked, const char *own, char **chosen) {
    static char none[] = "{input}{target}{output}{eot}";
    make_tokenizer();
    Checkpoint k = {.tok = tok, .template = own ? none : NULL};
    return template_choose(asked, &k, chosen, &err);
}

START_TEST(templates_come_by_name_from_a_file_or_the_checkpoint) {
    static const struct { const char *text; size_t n; const char *wrong; } bad[] = {
        {"{target}{output}\0{eot}", 23, "/file: byte 16 is not UTF-8 text"},
        {"{target}\xFF{output}{eot}", 22, "/file: byte 8 is not UTF-8 text"},
        {"{target}{output}{eot}\n\n", 23, "does not end with a special token: want {eot}"}, {"", 0, "no {target} and answer"}};
    char *chosen;
    ck_assert_int_eq(choose(NULL, NULL, &chosen), 0);
    ck_assert_str_eq(chosen, template_named("plain"));
    free(chosen);
    ck_assert_int_eq(choose(NULL, "own", &chosen), 0);
    ck_assert_str_eq(chosen, "{input}{target}{output}{eot}");
    free(chosen);
    ck_assert_int_eq(choose("chatml", "own", &chosen), 0);
    ck_assert_str_eq(chosen, template_named("chatml"));
    free(chosen);
    write_text(path, "{input}{target}{output}{eot}\n");                         // as an editor leaves it
    ck_assert_int_eq(choose(path, "own", &chosen), 0);
    ck_assert_str_eq(chosen, "{input}{target}{output}{eot}");
    free(chosen);
    write_text(path, "[user]\n{text}\n[assistant]\n{target}{text}{eot}\n\n");
    ck_assert_int_eq(choose(path, "own", &chosen), 0);
    ck_assert_str_eq(chosen, "[user]\n{text}\n[assistant]\n{target}{text}{eot}\n\n");
    free(chosen);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_file(path, bad[i].text, bad[i].n);
        ck_assert_int_eq(choose(path, NULL, &chosen), -1);
        must_say(bad[i].wrong);
        ck_assert_ptr_null(chosen);
    }
    size_t n = (1 << 16) + 1;
    char *big = calloc(n, 1);
    memset(big, 'x', n);
    write_file(path, big, n);
    free(big);
    ck_assert_int_eq(choose(path, NULL, &chosen), -1);
    must_say("more than 65536 bytes");
    ck_assert_int_eq(choose("gpt", NULL, &chosen), -1);
    must_say("--template: 'gpt', want alpaca, chatml, llama3, none, plain or a file");
    ck_assert_int_eq(choose(folder, NULL, &chosen), -1);
    must_say("is a folder");
} END_TEST

// peers 18
START_TEST(long_rows_are_refused_dropped_or_cut) {
    static const char long_rows[] =
        "{\"instruction\":\"12345678\",\"output\":\"abc\"}\n{\"instruction\":\"1\",\"output\":\"x\"}\n";
    const char *none = template_named("none");
    ck_assert_int_eq(make(long_rows, none, 13, TOO_LONG_ERROR, TEACH_ANSWERS), 0);
    ck_assert_uint_eq(made.longest, 13);
    examples_free(&made);
    ck_assert_int_eq(make(long_rows, none, 12, TOO_LONG_ERROR, TEACH_ANSWERS), -1);
    must_say("/file:1: the row has 13 tokens, want at most 12\nhint: --too-long cut or drop");
    ck_assert(!made.ex && !made.tok && !made.taught && !made.n);
    ck_assert_int_eq(make(long_rows, none, 12, TOO_LONG_DROP, TEACH_ANSWERS), 0);
    ck_assert(made.n == 1 && made.rows == 2 && made.dropped == 1 && made.cut == 0 && made.ex[0].row == 1);
    examples_free(&made);
    ck_assert_int_eq(make(long_rows, none, 7, TOO_LONG_CUT, TEACH_ANSWERS), 0);
    ck_assert(made.n == 2 && made.cut == 1 && made.dropped == 0 && made.tokens == 11 && made.targets == 6);
    ck_assert_str_eq(shown(&made.ex[0]), "78\n^abc|<|endoftext|>|");
    ck_assert_str_eq(shown(&made.ex[1]), "1\n^x|<|endoftext|>|");
    examples_free(&made);
    ck_assert_int_eq(make(long_rows, none, 5, TOO_LONG_CUT, TEACH_ANSWERS), 0);
    ck_assert_str_eq(shown(&made.ex[0]), "\n^abc|<|endoftext|>|");
    examples_free(&made);
    ck_assert_int_eq(make("{\"instruction\":\"1\",\"output\":\"x\"}\n{\"instruction\":\"12345678\",\"output\":\"abc\"}",
                          none, 7, TOO_LONG_CUT, TEACH_ANSWERS), 0);
    ck_assert_str_eq(shown(&made.ex[1]), "78\n^abc|<|endoftext|>|");       // the last one: nothing is behind it
    examples_free(&made);
    ck_assert_int_eq(make(long_rows, none, 12, TOO_LONG_REFUSE, TEACH_ANSWERS), -1);
    ck_assert_ptr_null(strstr(err.msg, "hint"));
    must_say("/file:1: the row has 13 tokens, want at most 12");
    ck_assert_int_eq(make(long_rows, none, 4, TOO_LONG_CUT, TEACH_ANSWERS), -1);
    must_say("/file:1: the answer alone has 4 tokens, want at most 3");
    ck_assert_int_eq(make(long_rows, none, 3, TOO_LONG_DROP, TEACH_ANSWERS), -1);
    must_say("every row has more than 3 tokens");
    ck_assert_int_eq(make(long_rows, none, 1, TOO_LONG_DROP, TEACH_ANSWERS), -1);
    must_say("= 1, want 2..");
} END_TEST

START_TEST(text_is_cut_into_windows_that_share_a_token) {
    const char *const files[] = {path, other};
    make_tokenizer();
    write_text(path, "hello all");                                 // he ll o _a ll, with end-of-text 6 tokens
    write_text(other, "xy");
    ck_assert_msg(examples_text(&made, files, 2, &tok, 3, 2, &err) == 0, "%s", err.msg);
    static const int32_t want[][3] = {{HE, LL, 'o'}, {'o', SPACE_A, LL}, {LL, EOT, 0}, {'x', 'y', EOT}};
    static const uint32_t len[] = {3, 3, 2, 3};
    ck_assert_uint_eq(made.n, 4);
    for (uint32_t i = 0; i < 4; i++) {
        ck_assert_uint_eq(made.ex[i].len, len[i]);
        ck_assert_mem_eq(made.ex[i].tok, want[i], len[i] * 4);
        ck_assert_uint_eq(made.ex[i].row, i);
        for (uint32_t t = 1; t < len[i]; t++) ck_assert_uint_eq(made.ex[i].taught[t], 1);
    }
    ck_assert_uint_eq(made.targets, 5 + 2);                        // each token but the first of a file, once
    examples_free(&made);
    write_text(other, "");
    ck_assert_int_eq(examples_text(&made, files, 2, &tok, 3, 2, &err), -1);
    must_say("/other: has no text");
    ck_assert(!made.ex && !made.tok && !made.taught && !made.n);
    Tokenizer none = {.kind = TOK_NONE, .eot = -1, .bos = -1};
    ck_assert_int_eq(examples_text(&made, files, 1, &none, 3, 2, &err), -1);
    must_say("no tokenizer");
} END_TEST

// Two files of n and 3 tokens in windows of `seq`: each token but a file's first is taught once, and sees
// seq - stride others or more, unless its file has fewer before it.
static void must_slide(uint32_t n, uint32_t seq, uint32_t stride) {
    const char *const files[] = {path, other};
    uint8_t times[64] = {0};
    ck_assert_msg(examples_text(&made, files, 2, &tok, seq, stride, &err) == 0, "%s", err.msg);
    for (size_t i = 0; i < made.n; i++) {
        const Example *w = &made.ex[i];
        ck_assert_uint_le(w->len, seq);
        for (uint32_t k = 1; k < w->len; k++) {
            size_t at = (size_t)(w->tok - made.tok) + k, in_file = at < n ? at : at - n;
            if (!w->taught[k]) continue;
            ck_assert(k == in_file || k >= seq - stride);
            times[at]++;
        }
    }
    for (size_t at = 0; at < n + 3; at++) ck_assert_uint_eq(times[at], at != 0 && at != n);
    ck_assert_uint_eq(made.targets, n + 1);
    examples_free(&made);
}

START_TEST(windows_teach_each_token_once) {
    char text[64] = "";
    make_tokenizer();
    write_text(other, "xy");                                       // each character a token, and end-of-text
    for (uint32_t n = 2; n < 60; n += 3) {
        memset(text, 'x', n - 1);
        write_text(path, text);
        for (uint32_t seq = 2; seq < 14; seq++)
            for (uint32_t stride = 1; stride < seq; stride++) must_slide(n, seq, stride);
    }
} END_TEST

START_TEST(a_row_has_one_added_space) {
    Fault f;
    static uint32_t index[1 << 17];
    make_tokenizer();
    memset(flags, TOKEN_BYTE, 256);
    tok.kind = TOK_SCORED;
    tok.add_space = true;
    ck_assert_int_eq(tokenizer_index(&tok, index, &f), 0);
    ck_assert_int_eq(load_rows("{\"input\":\"x\",\"output\":\"y\"}\n{\"input\":\"v\",\"output\":\"w\"}"), 0);
    ck_assert_int_eq(examples_make(&made, &rows, template_named("none"), &tok, 99, TOO_LONG_ERROR,
                                   TEACH_ANSWERS, &err), 0);
    ck_assert_str_eq(shown(&made.ex[0]), " x\n^y|<|endoftext|>|");
    ck_assert_str_eq(shown(&made.ex[1]), " v\n^w|<|endoftext|>|");
    examples_free(&made);
    rows_free(&rows);
} END_TEST

Suite *rows_suite(void) {
    Suite *s = suite_create("rows");
    TCase *t = tcase_create("rows");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, rows_are_loaded);
    tcase_add_test(t, rows_have_three_forms);
    tcase_add_test(t, prompts_need_no_answer);
    tcase_add_test(t, conversations_are_refused_with_their_reason);
    tcase_add_test(t, rows_are_refused);
    tcase_add_test(t, tables_become_rows_by_their_header);
    tcase_add_test(t, tables_are_refused);
    tcase_add_test(t, columns_are_named);
    tcase_add_test(t, a_system_member_is_a_system_turn);
    tcase_add_test(t, bad_rows_are_skipped_and_counted);
    tcase_add_test(t, hostile_rows_are_fast);
    tcase_add_test(t, named_templates_are_what_they_are_known_for);
    tcase_add_test(t, segments_are_encoded_as_one_and_user_text_is_never_special);
    tcase_add_test(t, sections_make_conversations);
    tcase_add_test(t, sections_are_joined_where_no_special_token_stands_between);
    tcase_add_test(t, llama3_is_what_it_is_known_for);
    tcase_add_test(t, rows_must_suit_their_template);
    tcase_add_test(t, cutting_leaves_out_the_oldest_exchanges);
    tcase_add_test(t, templates_come_by_name_from_a_file_or_the_checkpoint);
    tcase_add_test(t, begin_of_text_comes_first);
    tcase_add_test(t, a_row_has_one_added_space);
    tcase_add_test(t, templates_are_refused);
    tcase_add_test(t, long_rows_are_refused_dropped_or_cut);
    tcase_add_test(t, text_is_cut_into_windows_that_share_a_token);
    tcase_add_test(t, windows_teach_each_token_once);
    suite_add_tcase(s, t);
    return s;
}

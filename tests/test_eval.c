// test_eval.c -- eval.c from inside: texts as Python makes them, examples as Python draws them, rows in every form,
// likelihoods against their definition, statistics against scipy's numbers. The command line is tested by cli.sh and
// bench.sh.
#define _XOPEN_SOURCE 700
#define main eval_main
int main(int argc, char **argv);
#include "../eval.c"
#undef main
#include "run.h"
#include <check.h>
#include <unistd.h>

static Err err;
static char folder[256], path[300], model_path[300];

static void setup(void) {
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/test_eval_XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/rows.jsonl", folder);
    snprintf(model_path, sizeof model_path, "%s/model.bin", folder);
}
static void teardown(void) {
    unlink(path);
    unlink(model_path);
    rmdir(folder);
}

static void write_text(const char *name, const char *text, size_t n) {
    FILE *f = fopen(name, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(text, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
}

static void close_to(double got, double want, double off) {
    ck_assert_msg(fabs(got - want) <= off, "%.17g, want %.17g", got, want);
}

// ---- text -------------------------------------------------------------------------------------------------

START_TEST(texts_are_cleaned_as_in_python) {
    static const char *const pair[][2] = {
        {"  [header] How to whistle [title] Wet your lips. [step] Blow.\n ", " How to whistle. Wet your lips. Blow."},
        {"[substeps] Sit up straight.", " Sit up straight."},
        {"wages. [title] Count them", "wages.. Count them"}, {"[title] First", " First"},
        {"three   four    five", "three  four  five"}, {"a [b] [c] d", "a  d"}, {"a [b [c] d] e", "a d] e"},
        {"open [ end", "open [ end"}, {"two [\n] lines [x]", "two [\n] lines "}, {"[a\n[b]c", "[a\nc"}, {"[][]", ""},
        {"\xC2\xA0\xE2\x80\x83wide\xE3\x80\x80", "wide"}, {"", ""}, {"\x1F\x1C x \v\f", "x"}};
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        char s[100];
        snprintf(s, sizeof s, "%s", pair[i][0]);
        clean(s);
        ck_assert_str_eq(s, pair[i][1]);
    }
} END_TEST

START_TEST(text_is_capitalized_as_in_python) {
    static const char *const pair[][2] = {
        {"the NY man", "The ny man"}, {"Is peeling", "Is peeling"}, {"", ""}, {"\xC3\xA9T\xC3\x89", "\xC3\x89t\xC3\xA9"},
        {"1ST", "1st"}, {"\xC3\x97 B\xC3\x97", "\xC3\x97 b\xC3\x97"}, {"\xC3\xB7X", "\xC3\xB7x"}, {"z\xC3", "Z\xC3"}};
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        char s[32];
        snprintf(s, sizeof s, "%s", pair[i][0]);
        text_capitalize(s);
        ck_assert_str_eq(s, pair[i][1]);
    }
} END_TEST

START_TEST(many_brackets_take_linear_time) {
    size_t n = 1 << 22;                          // 2^44 steps if each [ looked for its ] anew
    char *s = calloc(n + 1, 1);
    memset(s, '[', n);
    clean(s);
    ck_assert_uint_eq(strlen(s), n);
    free(s);
} END_TEST

// ---- examples ---------------------------------------------------------------------------------------------

static void must_draw(Twister *t, uint32_t n, uint32_t k, const uint32_t *want, uint32_t wanted) {
    uint32_t out[SHOTS + 1];
    twister_sample(t, n, k, out);
    for (uint32_t i = 0; i < wanted; i++) ck_assert_uint_eq(out[i], want[i]);
    for (uint32_t i = 0; i < k; i++)
        for (uint32_t j = 0; j < i; j++) ck_assert_uint_ne(out[i], out[j]);
}

START_TEST(examples_are_drawn_as_in_python) {
    static const uint32_t first[] = {4150886329, 3342196574, 1892932127, 501869158, 32175636, 389311301},
        arc[] = {902, 239, 15, 185, 71, 171, 201, 726, 484, 35, 63, 32, 708, 991, 949, 304, 186, 374, 234, 29, 1030, 996,
                 511, 132, 1108}, arc2[] = {954, 140, 182, 1054, 94},
        easy[] = {1805, 478, 30, 371, 143}, easy2[] = {343, 403, 1452, 969, 71}, easy3[] = {126, 64, 1417, 1983, 1898},
        swag[] = {28883, 7657, 490, 5940, 38156, 2288, 5500, 6450, 23241, 15519, 1142}, swag2[] = {2019, 1038, 22681},
        listed[] = {49, 28, 7, 0, 5, 51, 37}, few[] = {12, 7, 1, 0, 14, 9, 11};
    Twister t;
    twister_seed(&t, 1234);
    for (size_t i = 0; i < 6; i++) ck_assert_uint_eq(twister_next(&t), first[i]);
    for (int i = 0; i < 10000; i++) twister_next(&t);
    ck_assert_uint_eq(twister_next(&t), 56140164);
    twister_seed(&t, 1234);
    must_draw(&t, 1119, 25, arc, 25);
    must_draw(&t, 1119, 25, arc2, 5);
    twister_seed(&t, 1234);
    must_draw(&t, 2251, 5, easy, 5);
    must_draw(&t, 2251, 5, easy2, 5);
    must_draw(&t, 2251, 5, easy3, 5);
    twister_seed(&t, 1234);
    must_draw(&t, 39905, 11, swag, 11);
    must_draw(&t, 39905, 11, swag2, 3);
    twister_seed(&t, 1234);
    must_draw(&t, 15, 7, few, 7);                // few enough that Python shuffles a list instead
    twister_seed(&t, 1234);
    must_draw(&t, 60, 7, listed, 7);
    must_draw(&t, 1045, SHOTS + 1, few, 0);
    must_draw(&t, 1, 1, (uint32_t[]){0}, 1);
} END_TEST

// ---- rows -------------------------------------------------------------------------------------------------

static const Task *task_named(const char *name) {
    const Task *t = TASK;
    while (strcmp(t->name, name)) t++;
    return t;
}

static int load_docs(Docs *d, const char *task, const char *name, const char *rows) {
    snprintf(path, sizeof path, "%s/%s", folder, name);
    write_text(path, rows, strlen(rows));
    memset(d, 0, sizeof *d);
    int rc = docs_load(d, task_named(task), path_join(folder, name, &err), 0, &err);
    unlink(path);
    return rc;
}

// All of a row in one text: group|query|choice|choice*|..., a * behind each right one
static void must_read(const char *task, const char *name, const char *rows, const char *want) {
    Docs d;
    Text t = {0};
    ck_assert_msg(load_docs(&d, task, name, rows) == 0, "%s: %s", task, err.msg);
    for (const Doc *q = d.doc; q < d.doc + d.n; q++) {
        text_add(&t, "%s|%s", q->group->name, q->query);
        for (uint32_t k = 0; k < q->choices; k++)
            text_add(&t, "|%s%s", q->choice[k].text, q->right >> k & 1 ? k == q->gold ? "*" : "+" : "");
        text_add(&t, "\n");
    }
    ck_assert_str_eq(t.s, want);
    free(t.s);
    free(d.doc);
}

START_TEST(rows_are_read_in_every_form) {
    const char *swag = "hellaswag|Cooking: A hen cooks. She stirs|in a pot.| with [ care*|a|b\n";
    must_read("hellaswag", "v.jsonl", "{\"activity_label\": \"Cooking\", \"ctx_a\": \"A hen cooks.\", \"ctx_b\": \"she STIRS\","
              " \"label\": 1, \"endings\": [\"in a pot.\", \"[step] with [ care\", \"a\", \"b\"]}", swag);
    must_read("hellaswag", "v.json", "[{\"activity_label\": \"Cooking\", \"ctx_a\": \"A hen cooks.\", \"ctx_b\": \"she STIRS\","
              " \"label\": \"1\", \"endings\": [\"in a pot.\", \"[step] with [ care\", \"a\", \"b\"]}]", swag);
    const char *arc = "arc_easy|Question:  Why?\nAnswer:|so|thus*|hence\narc_easy|Question: Who?\nAnswer:|he*|she\n";
    must_read("arc_easy", "v.jsonl", "{\"question\": {\"stem\": \" Why?\", \"choices\": [{\"text\": \"so\", \"label\": \"1\"},"
              "{\"label\": \"2\", \"text\": \"thus\"}, {\"text\": \"hence\", \"label\": \"3\"}]}, \"answerKey\": \"2\"}\n"
              "{\"question\": {\"stem\": \"Who?\", \"choices\": [{\"text\": \"he\", \"label\": \"A\"}, {\"text\": \"she\", "
              "\"label\": \"B\"}]}, \"answerKey\": \"A\"}", arc);
    must_read("arc_easy", "v.jsonl", "{\"question\": \" Why?\", \"choices\": {\"text\": [\"so\", \"thus\", \"hence\"], \"label\": "
              "[\"1\", \"2\", \"3\"]}, \"answerKey\": \"2\"}\n{\"question\": \"Who?\", \"choices\": {\"label\": [\"A\", \"B\"], "
              "\"text\": [\"he\", \"she\"]}, \"answerKey\": \"A\"}", arc);
    must_read("mmlu", "hen_care_test.csv", "\" What, is\r\n\"\"it\"\"? \",1,2.0,\"x, y\", ,C\r\n", "hen_care|What, is\r\n\"it\"?\n"
              "A. 1\nB. 2.0\nC. x, y\nD.  \nAnswer:|A|B|C*|D\n");
    must_read("mmlu", "x.jsonl", "{\"question\": \"What, is\\n\\\"it\\\"? \", \"subject\": \"hen_care\", \"choices\": [\"1\", \"2.0\", "
              "\"x, y\", \"z\"], \"answer\": 2}", "hen_care|What, is\n\"it\"?\nA. 1\nB. 2.0\nC. x, y\nD. z\nAnswer:|A|B|C*|D\n");
    must_read("mmlu_cloze", "hen_care_val.csv", "\xEF\xBB\xBFWhy?,p,q,r,s,D\n\nWho?,1,2,3,4,A", "hen_care|Question: Why?\n"
              "Answer:|p|q|r|s*\nhen_care|Question: Who?\nAnswer:|1*|2|3|4\n");
    const char *truth = "truthfulqa_mc2|Q: Is it?\nA:|No.|Yes.*|Maybe.+\n";
    must_read("truthfulqa_mc2", "mc.json", "[{\"question\": \"Is it?\", \"mc2_targets\": {\"No.\": 0, \"Yes.\": 1, \"Maybe.\": 1}}]", truth);
    must_read("truthfulqa_mc2", "mc.jsonl", "{\"question\": \"Is it?\", \"mc2_targets\": {\"choices\": [\"No.\", \"Yes.\", \"Maybe.\"], "
              "\"labels\": [0, 1, 1]}}", truth);
    must_read("choices", "c.jsonl", "{\"context\": \"  one \", \"choices\": [\"a\", \"b\"], \"gold\": 0}\n"
              "{\"context\": \"two\", \"choices\": [\"a\", \"b\"], \"gold\": \"B\"}", "choices|  one |a*|b\nchoices|two|a|b*\n");
} END_TEST

START_TEST(rows_are_refused_with_file_and_row) {
    static const struct { const char *task, *name, *rows, *say; } bad[] = {
        {"hellaswag", "v.jsonl", "{\"activity_label\": \"x\", \"ctx_a\": \"y\", \"label\": 1, \"endings\": [\"a\", \"b\"]}",
         "v.jsonl:1: row 1 has no column \"ctx_b\""},
        {"hellaswag", "v.jsonl", "{\"question\": \"x\", \"choices\": [\"a\", \"b\", \"c\", \"d\"], \"answer\": 1}",
         "has no column \"label\""},
        {"mmlu", "v.jsonl", "{\"context\": \"x\", \"choices\": [\"a\", \"b\"], \"gold\": 1}", "has no column \"answer\""},
        {"truthfulqa_mc2", "v.csv", "a,b,c,d,e,A\n", "v.csv:1: row 1 has no column \"mc2_targets\""},
        {"mmlu", "v_test.csv", "a,b,c,d,e,A\na,b,c,d,A\n", "v_test.csv:2: row 2 has no 6 fields"},
        {"mmlu", "v_test.csv", "a,b,c,d,e,E\n", "row 1 has the answer key E, which is none of its choices"},
        {"mmlu", "v_test.csv", "a,b,,d,e,A\n", "row 1 has an empty choice"},
        {"mmlu", "v.jsonl", "{\"question\": \"x\", \"choices\": [\"a\", \"b\"], \"answer\": 1}", "has not 4 choices"},
        {"choices", "c.jsonl", "{\"context\": \"x\", \"choices\": [\"a\", \"b\"], \"gold\": 0}\n\n"
         "{\"context\": \"x\", \"choices\": [\"a\", \"b\"], \"gold\": 2}", "c.jsonl:3: row 2 has the answer key 2, which is none"},
        {"choices", "c.jsonl", "{\"context\": \"x\", \"choices\": [\"a\", \"b\"], \"gold\": null}", "has the answer key null"},
        {"choices", "c.jsonl", "{\"context\": \"x\", \"choices\": [\"a\", \"b\"], \"gold\": 0.5}", "has the answer key 0.5"},
        {"choices", "c.jsonl", "{\"context\": \"x\", \"choices\": [\"a\", \"\"], \"gold\": 0}", "has an empty choice in \"choices\""},
        {"choices", "c.jsonl", "{\"context\": \"x\", \"choices\": [\"a\", 7], \"gold\": 0}", "has no text in \"choices\""},
        {"choices", "c.jsonl", "{\"context\": \"x\", \"choices\": [\"a\\u0000b\", \"c\"], \"gold\": 0}", "has no text in \"choices\""},
        {"choices", "c.jsonl", "{\"context\": \"x\", \"choices\": [\"a\"], \"gold\": 0}", "has not 2 to 26 choices"},
        {"choices", "c.jsonl", "{\"context\": \"x\", \"choices\": \"ab\", \"gold\": 0}", "has not 2 to 26 choices in \"choices\""},
        {"choices", "c.jsonl", "{\"context\": [], \"choices\": [\"a\", \"b\"], \"gold\": 0}", "has no text in \"context\""},
        {"choices", "c.jsonl", "[]", "c.jsonl: has no rows"}, {"choices", "c.jsonl", "[1]", "row 1 has no column \"gold\""},
        {"arc_easy", "a.jsonl", "{\"question\": \"x\", \"choices\": {\"text\": [\"a\", \"b\"], \"label\": [\"A\"]}, \"answerKey\": \"A\"}",
         "has not as many labels as choices"},
        {"arc_easy", "a.jsonl", "{\"question\": {\"stem\": \"x\", \"choices\": [{\"text\": \"a\", \"label\": \"A\"}, {\"label\": \"b\"}]}, "
         "\"answerKey\": \"A\"}", "has no text in \"choices\""},
        {"arc_easy", "a.jsonl", "{\"question\": \"x\", \"choices\": {\"text\": [\"a\", \"b\"], \"label\": [\"A\", \"B\"]}, "
         "\"answerKey\": \"1\"}", "has the answer key 1, which is none"},
        {"truthfulqa_mc1", "t.json", "[{\"question\": \"x\", \"mc1_targets\": {\"a\": 0, \"b\": 0}}]", "marks no choice as right"},
        {"hellaswag", "v.jsonl", "{\"activity_label\": \"x\", \"ctx_a\": \"y\", \"ctx_b\": \"\", \"label\": 0, \"endings\": "
         "[\"[x]\", \"b\"]}", "has an empty choice in \"endings\""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Docs d;
        ck_assert_msg(load_docs(&d, bad[i].task, bad[i].name, bad[i].rows) == -1, "read: %s", bad[i].rows);
        ck_assert_msg(strstr(err.msg, bad[i].say) != NULL, "\"%s\" lacks \"%s\"", err.msg, bad[i].say);
        free(d.doc);
    }
} END_TEST

// ---- prompts ----------------------------------------------------------------------------------------------

static void prompt_is(const char *task, const char *name, const char *rows, const char *pool, int shots, const char *want) {
    Set b = {.task = task_named(task), .shots = (uint32_t)shots};
    Text t = {0};
    ck_assert_msg(load_docs(&b.docs, task, name, rows) == 0, "%s", err.msg);
    if (shots) ck_assert_msg(load_docs(&b.pool, task, name, pool) == 0, "%s", err.msg);
    ck_assert_msg(shots_draw(&b, &err) == 0, "%s", err.msg);
    put_context(&t, &b, &b.docs.doc[b.docs.n - 1]);
    ck_assert_str_eq(t.s, want);
    free(t.s);
    free(b.docs.doc);
    free(b.pool.doc);
}

// Every text of 6 of these characters: what is read has no more nodes and text than there was room for.
START_TEST(csv_stays_in_its_memory) {
    static const char letter[] = {',', '"', '\n', '\r', 'a', 0};
    size_t read = 0;
    for (int v = 0; v < 46656; v++) {
        uint8_t *s = malloc(7);
        uint32_t first, fields = 0;
        Json j;
        for (int i = 0, rest = v; i < 6; i++, rest /= 6) s[i] = (uint8_t)letter[rest % 6];
        s[6] = 0;
        if (rows_parse(&j, &first, "x.csv", s, 6, NULL, &err) == 0) {
            for (uint32_t row = first; row < j.nodes; row = j.node[row].next) fields += j.node[row].count + 1;
            ck_assert_uint_eq(fields + first, j.nodes);
            json_free(&j);
            read++;
        }
        free(s);
    }
    ck_assert_uint_gt(read, 1000);
} END_TEST

START_TEST(prompts_are_put_together) {
    const char *dev = "a1,p,q,r,s,B\na2,t,u,v,w,D\na3,t,u,v,w,A\n";
    prompt_is("mmlu", "hen_care_test.csv", "q,1,2,3,4,A\n", NULL, 0, "The following are multiple choice questions (with answers) "
              "about hen care.\n\nq\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:");
    prompt_is("mmlu", "hen_care_test.csv", "q,1,2,3,4,A\n", dev, 2, "The following are multiple choice questions (with answers) "
              "about hen care.\n\na1\nA. p\nB. q\nC. r\nD. s\nAnswer: B\n\na2\nA. t\nB. u\nC. v\nD. w\nAnswer: D\n\n"
              "q\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:");
    prompt_is("mmlu_cloze", "hen_care_test.csv", "q,1,2,3,4,A\n", dev, 1, "The following are questions (with answers) about "
              "hen care.\n\nQuestion: a1\nAnswer: q\n\nQuestion: q\nAnswer:");
    char arc[2000] = "";                         // the tenth question's two of these ten, by random.Random(1234)
    for (int i = 0; i < 10; i++)
        sprintf(arc + strlen(arc), "{\"question\": \"e%d\", \"choices\": {\"text\": [\"x%d\", \"y%d\"], \"label\": [\"A\", \"B\"]}, "
                "\"answerKey\": \"%s\"}\n", i, i, i, i % 2 ? "A" : "B");
    prompt_is("arc_easy", "a.jsonl", arc, arc, 2, "Question: e2\nAnswer: y2\n\nQuestion: e1\nAnswer: x1\n\nQuestion: e9\nAnswer:");
    char swag[2000] = "";                        // here one more is drawn each time
    for (int i = 0; i < 10; i++)
        sprintf(swag + strlen(swag), "{\"activity_label\": \"l\", \"ctx_a\": \"e%d\", \"ctx_b\": \"\", \"label\": 0, "
                "\"endings\": [\"x%d\", \"y\"]}\n", i, i);
    prompt_is("hellaswag", "h.jsonl", swag, swag, 2, "l: e4 x4\n\nl: e8 x8\n\nl: e9");
} END_TEST

// The words that TruthfulQA's questions stand behind, by the hash of the harness's own
START_TEST(the_primer_is_the_harness_s) {
    Sha256 sum;
    char hex[65];
    sha256_init(&sum);
    sha256_add(&sum, PRIMER, strlen(PRIMER) - 2);
    sha256_end(&sum, hex);
    ck_assert(!strncmp(hex, "5c0da5f3", 8) && !strcmp(hex + 58, "bae543"));
} END_TEST

// ---- scores -----------------------------------------------------------------------------------------------

// Choices of these lengths in characters; two more bytes each than characters
static double score(Metric metric, const double *ll, const size_t *points, const bool *right, size_t n, size_t gold) {
    char text[4][128] = {""};
    Choice choice[4];
    Doc q = {.choice = choice, .choices = (uint32_t)n, .gold = (uint32_t)gold};
    for (size_t k = 0; k < n; k++) {
        q.right |= (uint32_t)right[k] << k;
        strcpy(text[k], "\xE2\x82\xAC");
        memset(text[k] + 3, 'x', points[k] - 1);
        choice[k] = (Choice){.text = text[k], .ll = {ll[k], 0}};
    }
    return doc_score(&q, 0, metric);
}

START_TEST(scores_are_the_protocol_s) {
    static const double swag[] = {-42, -40.5, -39.75, -41}, mass[] = {-10, -11, -12.5, -9}, tie[] = {-3, -2, -2, -5},
        deep[] = {-2000, -2001};
    static const size_t points[] = {37, 27, 26, 36}, one[] = {1, 1, 1, 1};
    static const bool right[] = {true, false, true, false};
    for (size_t gold = 0; gold < 4; gold++) {
        ck_assert_double_eq(score(ACC, swag, points, right, 4, gold), gold == 2);
        ck_assert_double_eq(score(ACC_NORM, swag, points, right, 4, gold), gold == 0);
        ck_assert_double_eq(score(ACC, tie, one, right, 4, gold), gold == 1);
    }
    static const double near[] = {-2.0, -2.9};
    static const size_t short_ones[] = {2, 3};   // -1 and -0.97 a character, -0.5 and -0.58 a byte
    ck_assert_double_eq(score(ACC_NORM, near, short_ones, right, 2, 1), 1);
    close_to(score(MASS, mass, points, right, 4, 0), 0.259601983420491, 1e-14);
    close_to(score(MASS, deep, points, right, 2, 0), 1 / (1 + exp(-1.0)), 1e-14);     // exp(-2000) alone is 0
} END_TEST

// ---- likelihoods ------------------------------------------------------------------------------------------

// A model of random weights with a tokenizer learned from a line: 24 positions, so that some questions are cut
static void model_make(Config *c, bool llama) {
    static const char text[] = "the hen and the cat and the dog and the hen and the cat see the other hen then the end";
    Tokenizer t;
    Fault f;
    uint32_t vocab = 270;
    void *memory = malloc(tokenizer_train_size(sizeof text - 1, vocab));
    ck_assert_int_eq(tokenizer_train(&t, (const uint8_t *)text, sizeof text - 1, vocab, memory, &f), 0);
    *c = (Config){.vocab = (int32_t)t.vocab, .context = 24, .layers = 2, .heads = 4, .kv_heads = llama ? 2 : 4, .head_size = 8,
                  .width = 32, .hidden = 48, .rms = llama, .rope = llama, .swiglu = llama, .bias = !llama, .qkv_bias = !llama,
                  .tied = !llama, .norm_eps = 1e-5f, .rope_theta = 10000.0f, .rope_factor = 1, .rope_low = 1, .rope_high = 4};
    Shape s = {.rows = 1, .seq = 1, .threads = 1};
    Plan p;
    Model m;
    ck_assert_msg(model_plan(&p, c, &s, &f) == 0, "%s %d", f.what, (int)f.value);
    void *block = block_alloc(p.bytes, &err);
    model_bind(&m, &p, block);
    model_init(&m, 7);
    for (int i = 0; i < TENSORS; i++) {          // far from uniform, so that a wrong token shows
        Tensor x = model_tensor(c, i);
        for (size_t k = 0; k < x.size && x.decay; k++) tensor_data(&m.w, &x)[k] *= 12.0f;
    }
    ck_assert_msg(checkpoint_save(model_path, c, &t, "", "", DTYPE_F32, &m.w, &err) == 0, "%s", err.msg);
    block_free(block);
    free(memory);
}

// Short and long questions, choices of one token and of many, shared beginnings, two groups; rows 2, 5 and 6 are cut,
// row 6 by a different length for each choice.
static const char QUESTIONS[] =
    "{\"context\": \"the hen and the cat\", \"choices\": [\"a\", \"b\", \"c\"], \"gold\": 0}\n"
    "{\"context\": \"the hen and the dog\", \"choices\": [\"see the hen\", \"b\"], \"gold\": 1}\n"
    "{\"context\": \"xyxyxyxyxyxyxyxyxyxyxyxyxyxy the hen\", \"choices\": [\"1\", \"2\"], \"gold\": 0}\n"
    "{\"context\": \"the hen and the \", \"choices\": [\"x y z\", \"end\", \"pqrst\", \"the hen\"], \"gold\": 3}\n"
    "{\"context\": \"t\", \"choices\": [\"the cat and the dog see\", \"q\"], \"gold\": 0}\n"
    "{\"context\": \"the hen and 12345678901234567890\", \"choices\": [\"a\", \"b\"], \"gold\": 0}\n"
    "{\"context\": \"the hen and the cat 12345678\", \"choices\": [\"abcdefgh\", \"b\", \"123456789012\"], \"gold\": 0}\n"
    "{\"context\": \"the hen and the other\", \"choices\": [\"hen\", \"the hen and the cat\"], \"gold\": 0}\n";

static void set_of(Set *s) {
    *s = (Set){.task = task_named("choices")};
    ck_assert_msg(docs_load(&s->docs, s->task, path, 0, &err) == 0, "%s", err.msg);
}

static void asked_of(Asked *a, const Set *s) {
    *a = (Asked){.set = s};
    ck_assert_msg(load(&a->x, model_path, &err) == 0 && ask(a, 0, &err) == 0, "%s", err.msg);
}

static void asked_free(Asked *a) {
    free(a->tok);
    free(a->scratch);
    unload(&a->x);
}

// log p(choice | question) as it is defined: question and choice as one row, of which the last P + 1 tokens count,
// without a cache and alone
static double defined(Asked *s, const Doc *doc, uint32_t k) {
    Span q = doc->tok, c = doc->choice[k].tok;
    int32_t row[512], target[512], len;
    size_t n = q.n + c.n, cut = n > s->P + 1 ? n - s->P - 1 : 0;
    double sum = 0, each = 0;
    Fault f;
    for (size_t i = 0; i < n; i++) row[i] = s->tok[i < q.n ? q.at + i : c.at + i - q.n];
    for (size_t i = cut; i + 1 < n; i++) target[i] = i + 1 >= q.n ? row[i + 1] : -1;
    len = (int32_t)(n - 1 - cut);
    Batch b = {row + cut, target + cut, &len, NULL, 1, (size_t)len};
    Shape shape = {.rows = 1, .seq = s->P, .threads = 1};
    Model m;
    void *block;
    ck_assert_msg(model_load(&m, &block, &s->x.k, &shape, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(model_forward(&m, &b, &f), 0);
    model_loss(&m, &b, 0, &sum, &each);
    block_free(block);
    return -sum;
}

START_TEST(likelihoods_are_their_definition) {
    Config c;
    model_make(&c, _i);
    write_text(path, QUESTIONS, strlen(QUESTIONS));
    static const struct { int64_t batch; int threads; } shape[] = {{1, 1}, {3, 1}, {3, 2}, {32, 3}};
    for (size_t v = 0; v < 4; v++) {
        Set b;
        Asked s;
        size_t cuts = 0, alone = 0;
        opt.batch = shape[v].batch, opt.threads = shape[v].threads, opt.bos = v ? "auto" : "on";
        set_of(&b);
        asked_of(&s, &b);
        ck_assert_msg(asked_prepare(&s, &err) == 0, "%s", err.msg);
        ck_assert_uint_eq(s.rows, (size_t)shape[v].batch);
        for (size_t at = 0; at < b.docs.n; at += s.rows)
            ck_assert_msg(batch_score(&s, &b.docs.doc[at], at_most(b.docs.n - at, s.rows), &err) == 0, "%s", err.msg);
        for (size_t i = 0; i < b.docs.n; i++) {
            const Doc *q = &b.docs.doc[i];
            cuts += q->choice[0].cut > 0;
            for (uint32_t k = 0; k < q->choices; k++) {
                double it = defined(&s, q, k), got = q->choice[k].ll[0];
                alone += q->choice[k].cut != q->choice[0].cut;
                ck_assert_msg(got == it, "question %zu, choice %d: %a, want %a", i, (int)k, got, it);
                ck_assert(it < -0.01);
            }
        }
        ck_assert(cuts >= 2 && alone >= 1);      // or the questions above no longer test what they are for
        asked_free(&s);
        free(b.docs.doc);
    }
} END_TEST

// More targets than the output head takes at once, of which there are 6 here
START_TEST(losses_come_in_any_number) {
    Config c;
    Checkpoint k;
    Fault f;
    Model m;
    void *block;
    int32_t tok[] = {1, 2, 3, 4, 5, 0}, len[] = {3, 2}, rows[40], target[40];
    double loss[40], one;
    model_make(&c, true);
    Shape s = {.rows = 2, .seq = 3, .threads = 2};
    ck_assert_int_eq(checkpoint_open(&k, model_path, NULL, &err) || model_load(&m, &block, &k, &s, &err), 0);
    ck_assert_int_eq(model_forward(&m, &(Batch){tok, NULL, len, NULL, 2, 3}, &f), 0);
    for (int i = 0; i < 40; i++) rows[i] = i * 7 % 5, target[i] = i * 5 % c.vocab;
    model_losses(&m, rows, target, 40, loss);
    for (int i = 0; i < 40; i++) {
        model_losses(&m, rows + i, target + i, 1, &one);
        ck_assert_msg(one == loss[i] && one > 0, "target %d: %a, alone %a", i, loss[i], one);
    }
    block_free(block);
    checkpoint_close(&k);
} END_TEST

static void must_decode(const Asked *a, const Tokenizer *t, Span tokens, const char *want) {
    char text[100] = "";
    size_t bytes = 0, n;
    for (size_t i = 0; i < tokens.n; i++, bytes += n) {
        const uint8_t *piece = tokenizer_decode(t, a->tok[tokens.at + i], &n);
        memcpy(text + bytes, piece, n);
    }
    ck_assert_str_eq(text, want);
}

START_TEST(white_space_goes_to_the_choices) {
    Config c;
    model_make(&c, false);
    const char *rows = "{\"context\": \"the hen \\n \\u00a0\", \"choices\": [\"cat\", \" dog\"], \"gold\": 0}\n";
    write_text(path, rows, strlen(rows));
    Set b;
    Asked a;
    opt.bos = "off";
    set_of(&b);
    asked_of(&a, &b);
    must_decode(&a, &a.x.k.tok, b.docs.doc->tok, "the hen");
    must_decode(&a, &a.x.k.tok, b.docs.doc->choice[0].tok, " \n \xC2\xA0 cat");
    must_decode(&a, &a.x.k.tok, b.docs.doc->choice[1].tok, " \n \xC2\xA0  dog");
    asked_free(&a);
    free(b.docs.doc);
} END_TEST

// What is found is what the cache has: row 0's question, then that of the row that has most
START_TEST(a_shared_beginning_is_found) {
    Config c;
    model_make(&c, false);
    const char *rows = "{\"context\": \"the hen and the cat\", \"choices\": [\"a\", \"b\"], \"gold\": 0}\n"
                       "{\"context\": \"the hen and the dog\", \"choices\": [\"a\", \"b\"], \"gold\": 0}\n"
                       "{\"context\": \"the hen and the do\", \"choices\": [\"a\", \"b\"], \"gold\": 0}\n";
    write_text(path, rows, strlen(rows));
    Set b;
    Asked a;
    size_t n = 0, more = 0;
    opt.bos = "off", opt.batch = 4, opt.threads = 1;
    set_of(&b);
    asked_of(&a, &b);
    ck_assert_int_eq(asked_prepare(&a, &err), 0);
    const Doc *q = b.docs.doc;
    while (a.tok[q[0].tok.at + n] == a.tok[q[1].tok.at + n]) n++;
    while (more + 1 < q[2].tok.n && a.tok[q[1].tok.at + more] == a.tok[q[2].tok.at + more]) more++;
    ck_assert(n >= 4 && more > n);               // or the questions no longer test what they are for
    ck_assert_int_eq(pass(&a, q, 0, 1, 0, &err), 0);
    ck_assert(a.packed == q[0].tok.n + q[0].choice[0].tok.n - 1 && a.held[0].n == q[0].tok.n);
    ck_assert_int_eq(pass(&a, q, 1, 2, 0, &err), 0);
    ck_assert(a.past[1] == (int32_t)n && a.packed == q[1].tok.n - n + q[1].choice[0].tok.n - 1);
    ck_assert_int_eq(pass(&a, q, 2, 3, 0, &err), 0);
    ck_assert(a.past[2] == (int32_t)more && a.packed == q[2].tok.n - more + q[2].choice[0].tok.n - 1);
    ck_assert_int_eq(pass(&a, q, 0, 3, 1, &err), 0);          // second choices of a token have nothing to compute
    ck_assert_uint_eq(a.packed, q[0].choice[1].tok.n + q[1].choice[1].tok.n + q[2].choice[1].tok.n - 3);
    asked_free(&a);
    free(b.docs.doc);
} END_TEST

// ---- statistics -------------------------------------------------------------------------------------------

// Golden numbers of this section: dev/golden_stats.py, scipy 1.17.1, numpy 2.4.6
START_TEST(standard_errors_are_scipy_s) {
    static const struct { size_t right, n; double error; } golden[] = {
        {2507, 10042, 0.0043192674324610495}, {2486, 10042, 0.0043071285732849485}, {588, 2376, 0.008855114414834721},
        {572, 2376, 0.008772796145221712}};
    double *x = calloc(10042, sizeof *x);
    for (size_t i = 0; i < 4; i++) {
        for (size_t k = 0; k < golden[i].n; k++) x[k] = k < golden[i].right;
        close_to(mean_of(x, golden[i].n).error, golden[i].error, 1e-12 * golden[i].error);
    }
    free(x);
    Mean m = mean_of((double[]){.25, .5, .125, .875}, 4);
    close_to(m.mean, 0.4375, 0);
    close_to(m.error, 0.16535945694153692, 1e-16);
    ck_assert(isnan(mean_of((double[]){1}, 1).error));
    m = pooled((Mean[]){{.5, .05, 100}, {.7, .03, 300}}, 2);      // the harness's formula and its value
    close_to(m.mean, .65, 1e-15);
    close_to(m.error, 0.0257402955, 5e-11);
    ck_assert_uint_eq(m.n, 400);
} END_TEST

START_TEST(mcnemar_is_scipy_s_binomtest) {
    static const struct { size_t b, c; double p; } golden[] = {
        {0, 0, 1}, {1, 0, 1}, {3, 9, 0.14599609375}, {10, 10, 1}, {0, 6, 0.03125}, {5, 0, 0.0625},
        {25, 44, 0.029493493531317295}, {400, 470, 0.019267052848609047}, {3000, 2800, 0.00896943600119357},
        {7000, 7300, 0.012403909154548443}};
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        close_to(mcnemar(golden[i].b, golden[i].c), golden[i].p, 1e-10 * golden[i].p);
        close_to(mcnemar(golden[i].c, golden[i].b), golden[i].p, 1e-10 * golden[i].p);
    }
} END_TEST

// numpy's percentiles of the means of the same resamples
START_TEST(the_bootstrap_is_numpy_s) {
    static const double zero[168] = {0}, two[] = {0, 1};
    double x[168], y[60], z[20], base[60];
    for (int i = 0; i < 20; i++) z[i] = sqrt(i + 1.0) - 3;    // hardly two means are equal
    for (int i = 0; i < 168; i++) x[i] = i < 30 ? 1 : i < 150 ? 0 : -1;
    for (int i = 0; i < 60; i++) {
        base[i] = i % 2 ? 0.25 : -8;             // the difference counts, whatever the scores
        y[i] = base[i] + (double)(i * 37 % 101) / 101 - .45;
    }
    const struct { const double *first, *second; size_t n; double low, high; } golden[] = {
        {zero, x, 168, -0.011904761904761904, 0.15476190476190477},
        {base, y, 60, -0.03316831683168318, 0.11353135313531353}, {zero, z, 20, -0.3639173766423059, 0.4984719594705636}, {zero, two, 2, 0, 1}};
    for (size_t i = 0; i < 4; i++) {
        Compared c = {.n = golden[i].n};
        bootstrap(&c, golden[i].first, golden[i].second);
        close_to(c.low, golden[i].low, 1e-14);   // sums of 168 numbers up to 1 in another order
        close_to(c.high, golden[i].high, 1e-14);
    }
} END_TEST

static const char *conclusion(size_t better, size_t worse, size_t n, bool lower) {
    static char said[400];
    double *x = calloc(n, sizeof *x), *y = calloc(n, sizeof *y);
    for (size_t i = 0; i < better; i++) y[i] = 1;
    for (size_t i = better; i < better + worse; i++) x[i] = 1;
    Compared c = compare(x, y, n, lower);
    ck_assert(c.only[lower] == worse && c.only[!lower] == better && isfinite(c.p));
    close_to(c.difference, ((double)better - (double)worse) / (double)n, 1e-12);
    conclude(said, sizeof said, "acc", &c);
    free(x);
    free(y);
    return said;
}

START_TEST(no_more_is_claimed_than_was_shown) {
    ck_assert_ptr_nonnull(strstr(conclusion(40, 10, 300, false), "the second model is better:\nits acc is 0.1000 higher"));
    ck_assert_ptr_nonnull(strstr(conclusion(10, 40, 300, false), "the second model is worse:\nits acc is 0.1000 lower"));
    ck_assert_ptr_nonnull(strstr(conclusion(40, 10, 300, true), "the second model is worse:\nits acc is 0.1000 higher"));
    ck_assert_ptr_nonnull(strstr(conclusion(30, 25, 300, false), "do not show which model is better"));
    ck_assert_ptr_nonnull(strstr(conclusion(5, 0, 300, false), "do not show which model is better"));    // interval > 0, p = 0.06
    ck_assert_ptr_nonnull(strstr(conclusion(0, 0, 300, false), "show no difference"));
    ck_assert_ptr_nonnull(strstr(conclusion(19, 0, 19, false), "too few"));
} END_TEST

int main(void) {
    TCase *t = tcase_create("eval");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, texts_are_cleaned_as_in_python);
    tcase_add_test(t, text_is_capitalized_as_in_python);
    tcase_add_test(t, many_brackets_take_linear_time);
    tcase_add_test(t, examples_are_drawn_as_in_python);
    tcase_add_test(t, rows_are_read_in_every_form);
    tcase_add_test(t, rows_are_refused_with_file_and_row);
    tcase_add_test(t, csv_stays_in_its_memory);
    tcase_add_test(t, prompts_are_put_together);
    tcase_add_test(t, the_primer_is_the_harness_s);
    tcase_add_test(t, scores_are_the_protocol_s);
    tcase_add_loop_test(t, likelihoods_are_their_definition, 0, 2);
    tcase_add_test(t, losses_come_in_any_number);
    tcase_add_test(t, white_space_goes_to_the_choices);
    tcase_add_test(t, a_shared_beginning_is_found);
    tcase_add_test(t, standard_errors_are_scipy_s);
    tcase_add_test(t, mcnemar_is_scipy_s_binomtest);
    tcase_add_test(t, the_bootstrap_is_numpy_s);
    tcase_add_test(t, no_more_is_claimed_than_was_shown);
    Suite *s = suite_create("eval");
    suite_add_tcase(s, t);
    return run_suite(s);
}

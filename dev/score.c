// score.c -- what an answer's text is worth, for ./errors: exact and normalised match, SQuAD's F1,
// ROUGE-L; and what is wrong with it. All of it follows from the bytes of texts; no model judges here.
//
// Read in this order: KIND[], the table of errors -> words_add -> answer_score -> the kinds -> answer_judge.
// Words are compared by their 64-bit hashes. Lower case is Python's for Latin, Greek and Cyrillic letters,
// but for a final sigma and dotted capital I; blocks of Unicode, not a table of each character, tell letters.
#include "score.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const SCORE[SCORES] = {"exact_match", "normalised", "f1", "rouge_l"};
const Kind KIND[KINDS] = {
    {"empty", "nothing but white space", 0},
    {"cut off", "by --max-tokens or a full context", 0},
    {"repeating", "loop at end, or 3-word runs again above", 0.3},           // share of the runs
    {"too short", "bytes per byte of the reference: below", 0.5},
    {"too long", "bytes per byte of the reference: above", 2},
    {"wrong format", "not as --format wants it", 0},
    {"wrong content", "right format, but other label or F1 below", 0.5},
    {"misspelt", "a word that no known text has", 0},
    {"unsupported", "a word neither asked nor ever taught", 0},
};
enum { LOOP_MIN = 16, LOOP_MAX = 256, LIST_MAX = 1 << 26 };      // bytes
enum { RUN = 3, RUNS_MIN = 6 };                                  // words; runs

// ---- words ------------------------------------------------------------------------------------------------

// Capitals lo, lo + step, ... up to hi; the small letter is `add` further.
static uint32_t lower(uint32_t c) {
    static const struct { uint16_t lo, hi, step; int16_t add; } CAPITAL[] = {
        {'A', 'Z', 1, 32}, {0xC0, 0xD6, 1, 32}, {0xD8, 0xDE, 1, 32}, {0x100, 0x12E, 2, 1},
        {0x132, 0x136, 2, 1}, {0x139, 0x147, 2, 1}, {0x14A, 0x176, 2, 1}, {0x178, 0x178, 1, -121},
        {0x179, 0x17D, 2, 1}, {0x1CD, 0x1DB, 2, 1}, {0x1DE, 0x1EE, 2, 1}, {0x1F8, 0x21E, 2, 1},
        {0x222, 0x232, 2, 1}, {0x386, 0x386, 1, 38}, {0x388, 0x38A, 1, 37}, {0x38C, 0x38C, 1, 64},
        {0x38E, 0x38F, 1, 63}, {0x391, 0x3A1, 1, 32}, {0x3A3, 0x3AB, 1, 32}, {0x400, 0x40F, 1, 80},
        {0x410, 0x42F, 1, 32}, {0x460, 0x480, 2, 1}, {0x48A, 0x4BE, 2, 1}, {0x4C1, 0x4CD, 2, 1},
        {0x4D0, 0x52E, 2, 1}, {0x1E00, 0x1E94, 2, 1}, {0x1EA0, 0x1EFE, 2, 1}};
    for (size_t i = 0; i < sizeof CAPITAL / sizeof *CAPITAL && c >= CAPITAL[i].lo; i++)
        if (c <= CAPITAL[i].hi && (c - CAPITAL[i].lo) % CAPITAL[i].step == 0)
            return (uint32_t)((int32_t)c + CAPITAL[i].add);
    return c;
}

// The character at s, in lower case; what is no UTF-8 is U+FFFD
static uint32_t character(const uint8_t *s, size_t n, size_t *length) {
    size_t k = utf8_length(s, n);
    uint32_t c = k == 1 ? *s : k ? *s & (0x7Fu >> k) : 0xFFFD;
    for (size_t i = 1; i < k; i++) c = c << 6 | (s[i] & 0x3Fu);
    *length = k ? k : 1;
    return lower(c);
}

// Neither letter nor digit nor space, from ASCII on: punctuation, currency, arrows, signs, pictures
static bool symbol(uint32_t c) {
    static const uint32_t RANGE[][2] = {
        {0, '/'}, {':', '^'}, {'`', '`'}, {'{', 0xA9}, {0xAB, 0xB1}, {0xB4, 0xB4}, {0xB6, 0xB8}, {0xBB, 0xBB},
        {0xBF, 0xBF}, {0xD7, 0xD7}, {0xF7, 0xF7}, {0x200B, 0x206F}, {0x20A0, 0x20CF}, {0x2190, 0x245F},
        {0x2500, 0x2775}, {0x2794, 0x2BFF}, {0x3001, 0x3004}, {0x3008, 0x3020}, {0xFF01, 0xFF0F},
        {0xFFF0, 0xFFFF}, {0x1F000, 0x1F0FF}, {0x1F10D, 0x1FAFF}};
    for (size_t i = 0; i < sizeof RANGE / sizeof *RANGE && c >= RANGE[i][0]; i++)
        if (c <= RANGE[i][1]) return true;
    return false;
}

static bool article(const uint8_t *s, size_t n) {
    return (n == 1 && *s == 'a') || (n == 2 && !memcmp(s, "an", 2)) || (n == 3 && !memcmp(s, "the", 3));
}

static int word_add(Words *w, const uint8_t *s, size_t n, Err *e) {
    if (grow(&w->word, &w->room, w->n + 1, sizeof *w->word, e)) return -1;
    w->word[w->n++] = hash64(s, n, 0);
    return 0;
}

// Adds the words of text (n). An article is one beside a symbol too, where it parts two words.
int words_add(Words *w, Split how, const char *text, size_t n, Err *e) {
    uint8_t *s = malloc(3 * n + 4);               // the word at hand; U+FFFD has 3 bytes
    size_t put = 0, from = 0, k = 1;              // from: where in it a possible article begins
    bool digit = false;
    int rc = s ? 0 : err_set(e, "no memory for a text of %zu bytes", n);
    for (size_t i = 0; i <= n && !rc; i += k) {
        uint32_t c = i < n ? character((const uint8_t *)text + i, n - i, &k) : ' ';
        bool mark = symbol(c), ascii = c > ' ' && c < 0x7F, apostrophe = c == '\'' || c == 0x2019;
        if (how == SQUAD ? ascii && (mark || c == '_') : apostrophe && how != ROUGE) continue;
        bool space = text_space(c), gone = how == SQUAD && (mark || space) && article(s + from, put - from);
        bool ends = gone || space || (how == ROUGE && c >= 0x80) || (how != SQUAD && (mark || c == '_'));
        if (gone) put = from;
        if (ends) {
            if (put && !(how == LETTERS && digit)) rc = word_add(w, s, put, e);
            put = from = 0, digit = false;
        }
        if (ends && (how != SQUAD || space)) continue;
        put += utf8_put(s + put, c);
        digit = digit || (c >= '0' && c <= '9');
        if (mark) from = put;
    }
    free(s);
    return rc;
}

static int by_hash(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void words_sort(Words *w) { if (w->n) qsort(w->word, w->n, sizeof *w->word, by_hash); }
static bool words_have(const Words *sorted, uint64_t word) {
    return sorted->n && bsearch(&word, sorted->word, sorted->n, sizeof word, by_hash);
}

// How many words stand in both, each as often as in the one that has it less often; both are sorted.
static size_t words_shared(const Words *a, const Words *b) {
    size_t same = 0;
    for (size_t i = 0, k = 0; i < a->n && k < b->n;) {
        uint64_t x = a->word[i], y = b->word[k];
        same += x == y;
        i += x <= y, k += y <= x;
    }
    return same;
}

// Words of the longest common subsequence. The time, a product, is less than generating the answer took.
static int words_common(const Words *a, const Words *b, size_t *common, Err *e) {
    size_t *best = calloc(b->n + 1, sizeof *best);
    if (!best) return err_set(e, "no memory for %zu words", b->n);
    for (size_t i = 0; i < a->n; i++)
        for (size_t k = 0, before = 0; k < b->n; k++) {          // before: best[k] of the row above
            size_t above = best[k + 1];
            best[k + 1] = a->word[i] == b->word[k] ? before + 1 : above > best[k] ? above : best[k];
            before = above;
        }
    *common = best[b->n];
    free(best);
    return 0;
}

// ---- scores -----------------------------------------------------------------------------------------------

int key_of(uint64_t *key, const char *text, Err *e) {
    Words w = {0};
    int rc = words_add(&w, SQUAD, text, strlen(text), e);
    *key = hash64(w.word, w.n * sizeof *w.word, w.n);
    free(w.word);
    return rc;
}

// SQuAD's F1 (two empty texts are equal), rouge-score's F-measure of rougeL without stemming
static int answer_score(Answer *a, const char *want, Err *e) {
    Words w[4] = {{0}, {0}, {0}, {0}};            // answer's, reference's; by SQUAD, by ROUGE
    uint64_t key = 0;
    size_t common = 0;
    int rc = key_of(&a->key, a->text, e) || key_of(&key, want, e) ? -1 : 0;
    for (int i = 0; i < 4 && !rc; i++) {
        const char *text = i % 2 ? want : a->text;
        rc = words_add(&w[i], i < 2 ? SQUAD : ROUGE, text, strlen(text), e);
    }
    if (!rc && !(rc = words_common(&w[2], &w[3], &common, e))) {
        size_t all = w[0].n + w[1].n;
        words_sort(&w[0]), words_sort(&w[1]);
        a->score[EXACT] = !strcmp(a->text, want);
        a->score[NORMALISED] = a->key == key;
        a->score[F1] = all ? 2 * (double)words_shared(&w[0], &w[1]) / (double)all : 1;
        a->score[ROUGE_L] = common ? 2 * (double)common / (double)(w[2].n + w[3].n) : 0;
    }
    for (int i = 0; i < 4; i++) free(w[i].word);
    return rc;
}

// ---- kinds of errors --------------------------------------------------------------------------------------

static bool is_of(char kind, char c) {
    unsigned char u = (unsigned char)c;
    return kind == '#' ? u >= '0' && u <= '9' : ((u | 32) >= 'a' && (u | 32) <= 'z') || u >= 0x80;
}

// A format: * any text, ? one character, # digits, @ letters (all beyond ASCII are), \ the next as it stands
static bool matches(const char *p, const char *s) {
    const char *star = NULL, *from = NULL;
    while (*p || *s) {
        bool run = *p == '#' || *p == '@', quoted = *p == '\\' && p[1];
        if (*p == '*') {
            star = ++p, from = s;
        } else if (*s && (run ? is_of(*p, *s) : quoted ? p[1] == *s : *p == '?' || *p == *s)) {
            char kind = *p;
            p += quoted ? 2 : 1;
            do s++; while (run ? is_of(kind, *s) : kind == '?' && ((unsigned char)*s & 0xC0) == 0x80);
        } else if (star && *from) {
            p = star, s = ++from;
        } else return false;
    }
    return true;
}

static bool is_json(const char *s) {
    Json j = {0};
    Err unused = {""};
    bool is = !json_parse(&j, "answer", 1, (const uint8_t *)s, strlen(s), &unused);
    if (is) json_free(&j);
    return is;
}

// Is the end, LOOP_MIN bytes or more, three times the same?
static bool loops(const char *s, size_t n) {
    for (size_t period = 1; period <= n / 3 && period <= LOOP_MAX; period++) {
        size_t same = 0;
        while (same < n - period && s[n - 1 - same] == s[n - 1 - same - period]) same++;
        if (same >= 2 * period && same + period >= LOOP_MIN) return true;
    }
    return false;
}

static int repeats(bool *so, const char *text, Err *e) {
    Words w = {0};
    size_t n = strlen(text), again = 0;
    int rc = words_add(&w, PLAIN, text, n, e);
    size_t runs = w.n < RUN ? 0 : w.n - RUN + 1;
    for (size_t i = 0; i < runs; i++) w.word[i] = hash64(w.word + i, RUN * sizeof *w.word, 0);
    w.n = runs;
    words_sort(&w);
    for (size_t i = 1; i < runs; i++) again += w.word[i] == w.word[i - 1];
    *so = loops(text, n) || (runs >= RUNS_MIN && (double)again > KIND[REPEATING].limit * (double)runs);
    free(w.word);
    return rc;
}

// Has the text a word that is in neither of two sorted lists?
static int strange(bool *so, Split how, const char *text, const Words *a, const Words *b, Err *e) {
    Words w = {0};
    int rc = words_add(&w, how, text, strlen(text), e);
    *so = false;
    for (size_t i = 0; i < w.n; i++) *so = *so || !(words_have(a, w.word[i]) || words_have(b, w.word[i]));
    free(w.word);
    return rc;
}

// ---- judging ----------------------------------------------------------------------------------------------

// The words of all turns, or of the assistant's alone
static int words_of(Words *w, Split how, const Row *r, size_t turns, bool answers, Err *e) {
    for (size_t k = 0; k < turns; k++) {
        const Turn *t = &r->turn[k];
        if (answers && t->role != ROLE_ASSISTANT) continue;
        if (words_add(w, how, t->text, strlen(t->text), e) ||
            words_add(w, how, t->input, strlen(t->input), e)) return -1;
    }
    return 0;
}

int judge_learn(Judge *j, const char *words, const char *trained_on, Err *e) {
    Rows r = {0};
    uint8_t *list = NULL;
    size_t n;
    int rc = 0;
    if (words)
        rc = file_read(words, LIST_MAX, &list, &n, e) || words_add(&j->spelt, LETTERS, (char *)list, n, e);
    if (words && !rc && !j->spelt.n) rc = err_set(e, "%s: has no word, want a list of known ones", words);
    if (trained_on && !rc) rc = rows_load(&r, trained_on, &(RowsHow){.answers = true}, e);
    for (size_t i = 0; i < r.n && !rc; i++)
        rc = words_of(&j->taught, PLAIN, &r.row[i], r.row[i].turns, true, e) ||
             (!words && words_of(&j->spelt, LETTERS, &r.row[i], r.row[i].turns, false, e));
    words_sort(&j->spelt), words_sort(&j->taught);
    free(list);
    rows_free(&r);
    return rc ? -1 : 0;
}

void judge_free(Judge *j) { free(j->spelt.word), free(j->taught.word); }

bool judge_finds(const Judge *j, int kind) {
    return kind == WRONG_FORMAT ? j->format || j->labels : kind == MISSPELT ? j->spelt.n > 0 :
           kind == UNSUPPORTED ? j->taught.n > 0 : true;
}

size_t judge_label(const Judge *j, const Answer *a) {
    size_t i = 0;
    while (i < j->labels && j->label[i] != a->key) i++;
    return i;
}

static bool format_right(const Judge *j, const Answer *a) {
    if (j->format && !strcmp(j->format, "json")) return is_json(a->text);
    if (j->format && strcmp(j->format, "labels")) return matches(j->format, a->text);
    return !j->labels || judge_label(j, a) < j->labels;
}

static int answer_kinds(Answer *a, const Judge *j, const Row *r, const char *want, Err *e) {
    bool is[KINDS] = {[EMPTY] = true}, wanted = false;
    Words asked = {0};
    double share = (double)strlen(a->text) / (double)(*want ? strlen(want) : 1);
    int rc = 0;
    if (*a->text) {
        rc = words_of(&asked, PLAIN, r, r->turns - 1, false, e);
        words_sort(&asked);
        rc = rc || repeats(&is[REPEATING], a->text, e) || repeats(&wanted, want, e) ||
             strange(&is[MISSPELT], LETTERS, a->text, &j->spelt, &asked, e) ||
             strange(&is[UNSUPPORTED], PLAIN, a->text, &j->taught, &asked, e) ? -1 : 0;
        is[EMPTY] = false;
        is[CUT_OFF] = a->cut;
        is[REPEATING] = is[REPEATING] && !wanted;
        is[TOO_SHORT] = share < KIND[TOO_SHORT].limit;
        is[TOO_LONG] = share > KIND[TOO_LONG].limit;
        is[WRONG_FORMAT] = !format_right(j, a);
        is[WRONG_CONTENT] = !is[WRONG_FORMAT] && (j->labels ? a->score[NORMALISED] < 1 :
                                                  a->score[F1] < KIND[WRONG_CONTENT].limit);
    }
    for (int i = 0; i < KINDS; i++) a->kinds |= (uint32_t)(is[i] && judge_finds(j, i)) << i;
    free(asked.word);
    return rc;
}

int answer_judge(Answer *a, const Judge *j, const Row *row, const char *want, Err *e) {
    a->kinds = 0;
    if (answer_score(a, want, e)) return -1;
    return a->score[EXACT] > 0 ? 0 : answer_kinds(a, j, row, want, e);
}

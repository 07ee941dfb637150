// clean.c -- main: proposes the fixes to rows of training data that an analysis of errors calls for: a copy
// of the file without near-duplicates, repeated sentences and boilerplate, and a list of every change for a
// person to read.
//
// Read in this order: Piece, Item -> row_read: what of a row is looked at -> Words: texts in normal form ->
// split: sentences -> the fixes: drop_repeats, drop_boilerplate, shorten, spell -> duplicates -> pass ->
// render, which writes the file -> main.
//
// Invariants. Every byte that is not of a text that changes, or of a row that goes, is copied as it is. Of a
// conversation only the assistant's texts change. The passes are repeated until one changes nothing, so the
// result, cleaned again, is the same file. Time and memory grow as the file does: each row is compared with
// at most CANDIDATES others.
// Not here on purpose: grammar, languages (but for a list of English words), a verdict: a person reads.
#include "../model.h"
#include "show.h"
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 1 << 30 };          // bytes of the input and of --words
enum { PASSES = 32 };                 // most repetitions; real files take two or three
enum { SENTENCE = 4, REPEAT = 5 };    // words that a closing, a repeated run of sentences has at least
enum { RUN = 4 };                     // sentences of the longest run that is seen to follow itself
enum { SHINGLE = 3 };                 // words that stand together are what two texts may share
// MinHash: texts that share X of their shingles meet with probability 1 - (1 - X^BAND)^BANDS: 0.992 at 0.6,
// 0.9999995 at 0.8.
enum { BANDS = 20, BAND = 3 };
enum { CANDIDATES = 64 };             // most earlier rows that a row is compared with
// A word that may be corrected occurs once and has so many letters; it becomes one that occurs so often:
// without --words, and with, where it also must not be there, and what it becomes must.
typedef struct { size_t letters; uint32_t common; } Trust;
static const Trust TRUST[2] = {{7, 20}, {6, 3}};
enum { WORD_MAX = 32 };
enum { STRANGE = 5 };                 // if --words lacks one word in 5, the answer is in another language

// ---- options ----------------------------------------------------------------------------------------------

static struct {
    const char *out, *changes, *repeats, *closings, *words;
    double near;
    int64_t often, max_words;
    bool keep_duplicates, any_answer, spelling, help, version;
} opt = {.repeats = "next", .closings = "address", .near = 0.8};

static Option OPTION[] = {
    GROUP("Where to"),
    TEXT("--out", &opt.out, "FILE", "the cleaned rows; otherwise standard output, unless that is a terminal"),
    TEXT("--changes", &opt.changes, "FILE", "the list of changes; otherwise standard error"),
    GROUP("Fixes that are made unless they are switched off"),
    FLAG("--keep-duplicates", &opt.keep_duplicates, "rows like an earlier one stay"),
    REAL("--near", &opt.near, 0.6, 1, "X",
         "rows are near-duplicates if their prompts, and their answers, share X of their runs of three words "
         "(Jaccard), and have the same numbers"),
    FLAG("--any-answer", &opt.any_answer, "prompts alone decide, whatever the answers"),
    TEXT("--repeats", &opt.repeats, "WHICH",
         "sentences that go because the answer has said them before: next, up to four that directly follow "
         "the same; any, also further apart, as in songs and lists; none"),
    TEXT("--closings", &opt.closings, "WHICH",
         "last sentences that go if many answers end so: address, those that speak to the reader (I, you, "
         "...); any; none"),
    INT("--often", &opt.often, 2, 1e9, "N",
        "many: behind N different sentences; otherwise one for 1,000 answers, and at least 5"),
    GROUP("Fixes that are made when asked for"),
    INT("--max-words", &opt.max_words, 1, 1e9, "N",
        "longer answers are cut behind the last sentence that ends within N words"),
    FLAG("--spelling", &opt.spelling,
         "a word that occurs once becomes the one that is a slip away and occurs 20 times"),
    TEXT("--words", &opt.words, "FILE",
         "the same by a list of words: one that is not there becomes one that is and occurs 3 times"),
    FLAG("--help", &opt.help, "print this"),
    FLAG("--version", &opt.version, "print the version"),
};
enum { OPTIONS = sizeof OPTION / sizeof OPTION[0] };

static void help(void) {
    printf("clean -- propose fixes to rows of training data (tune.c %s)\n\n"
           "  ./clean rows.json > clean.json                       changes are listed\n"
           "  ./clean rows.json --out clean.json --changes list.txt\n"
           "  ./clean rows.json --spelling --words words.txt --max-words 200 > clean.json\n\n",
           TUNE_VERSION);
    options_print(OPTION, OPTIONS);
    printf("\nRows are a JSON array or JSON Lines, as ./train reads them: instruction, input\n"
           "and output; prompt and completion; or messages, of which only the assistant's\n"
           "change. All that does not change is copied byte for byte. The list has, for\n"
           "each change, file:line, what it is, and the text before (-) and after (+); of\n"
           "a row that goes, its prompt (-) and the prompt it is like (=). Read it: these\n"
           "are proposals, and a program does not understand what it reads.\n\n"
"A slip is a letter that is doubled and should not be, or the reverse, or two\n"
           "that are swapped; with --words also one too many, one missing, or another vowel.\n"
           "Words with capitals or digits, in code, with fewer than seven letters (--words:\n"
           "six), or that are in the file twice, as in prompt and answer, are left alone.\n"
           "Sentences in code between ``` are neither dropped nor cut.\n");
}

// ---- what is being cleaned --------------------------------------------------------------------------------

typedef enum { DUPLICATE, REPEATED, BOILERPLATE, OVERLONG, SPELLING, KINDS } Kind;
static const char *const KIND[KINDS] = {"duplicate", "repeated sentence", "boilerplate", "over-long",
                                        "spelling"};

typedef struct {
    const char *text;
    char *own;                        // the same, allocated, once it has changed
    uint32_t node;
    bool answer;                      // may change
} Piece;

typedef struct {
    uint32_t node, line;
    size_t first, pieces;             // the last one is the answer, or in a conversation may be
    bool gone;
} Item;

typedef struct { uint32_t line; size_t order; char *said; } Change;

typedef struct { uint64_t *key; uint32_t *value; size_t room, n; } Map;

// Words in lower case with one space between, so that a run of words is a run of bytes.
typedef struct { Text t; size_t *at, n, room; } Words;  // at[i]: where word i begins

typedef struct {
    size_t from, end, next;           // bytes from..end, then white space up to next
    size_t words;
    uint64_t key;                     // of its words
    bool closed, code, again;         // ends with . ! or ?; stands between ```; is said once more
    size_t kept;                      // of sentence i: which one was kept as the i-th
} Sentence;

typedef struct { size_t at, n; uint64_t numbers; } Set; // shingles, sorted, in Cleaner.shingle; its numbers

typedef struct {
    const char *path;
    char *data;
    size_t bytes;
    Json j;
    uint32_t *from, *to;              // the bytes of each node
    Item *row;
    Piece *piece;
    size_t rows, pieces, row_room, piece_room;
    Change *change;
    size_t changes, change_room, texts[KINDS], places[KINDS];
    Words words;                      // scratch of all that follows
    Sentence *sentence;
    size_t sentences, sentence_room;
    Text made, list;                  // made: what a text is going to be; list: file of words
    Map count, listed;                // of each word: how often it occurs; is it in --words?
    uint64_t *shingle;
    size_t shingle_n, shingle_room;
} Cleaner;

// ---- memory -----------------------------------------------------------------------------------------------

static int append(Text *t, const char *s, size_t n, Err *e) {
    if (grow(&t->s, &t->room, t->n + n + 1, 1, e)) return -1;
    memcpy(t->s + t->n, s, n);
    t->s[t->n += n] = 0;
    return 0;
}

static int text_start(Text *t, Err *e) {
    t->n = 0;
    return append(t, "", 0, e);
}

// The place of a key, or the free one where it would be. Key 0 marks a free place.
static size_t map_place(const Map *m, uint64_t key) {
    size_t i = (size_t)key & (m->room - 1);
    while (m->key[i] && m->key[i] != key) i = (i + 1) & (m->room - 1);
    return i;
}

static uint32_t map_get(const Map *m, uint64_t key) {
    return m->room > 0 ? m->value[map_place(m, key | !key)] : 0;
}

static int map_grow(Map *m, Err *e) {
    Map old = *m;
    m->room = old.room ? 2 * old.room : 256;
    m->key = calloc(m->room, sizeof *m->key);
    m->value = calloc(m->room, sizeof *m->value);
    int rc = m->key && m->value ? 0 : err_set(e, "no memory for %zu entries", m->room);
    for (size_t i = 0; i < old.room && rc == 0; i++) {
        size_t at = old.key[i] ? map_place(m, old.key[i]) : 0;
        if (old.key[i]) m->key[at] = old.key[i], m->value[at] = old.value[i];
    }
    free(old.key), free(old.value);
    return rc;
}

// Where the value of a key is, 0 if it is new. NULL: no memory.
static uint32_t *map_at(Map *m, uint64_t key, Err *e) {
    if (2 * m->n >= m->room && map_grow(m, e)) return NULL;
    size_t at = map_place(m, key |= !key);
    m->n += !m->key[at];
    m->key[at] = key;
    return &m->value[at];
}

static void map_free(Map *m) {
    free(m->key), free(m->value);
    *m = (Map){NULL, NULL, 0, 0};
}

static void cleaner_free(Cleaner *c) {
    for (size_t i = 0; i < c->pieces; i++) free(c->piece[i].own);
    for (size_t i = 0; i < c->changes; i++) free(c->change[i].said);
    free(c->data), free(c->from), free(c->to), free(c->row), free(c->piece), free(c->change);
    free(c->words.t.s), free(c->words.at), free(c->sentence), free(c->made.s), free(c->list.s);
    free(c->shingle);
    map_free(&c->count), map_free(&c->listed);
    json_free(&c->j);
}

// ---- rows -------------------------------------------------------------------------------------------------

static int row_fail(const Cleaner *c, uint32_t node, const char *what, const char *wrong, Err *e) {
    return err_set(e, "%s:%" PRIu32 ": %s %s", c->path, c->j.node[node].line, what, wrong);
}

static int piece_add(Cleaner *c, uint32_t node, const char *name, bool answer, Err *e) {
    const JsonNode *v = &c->j.node[node];
    if (v->kind != JSON_STRING) return row_fail(c, node, name, "is not a string", e);
    if (strlen(v->text) != v->len) return row_fail(c, node, name, "holds \\u0000", e);
    if (grow(&c->piece, &c->piece_room, c->pieces + 1, sizeof *c->piece, e)) return -1;
    c->piece[c->pieces++] = (Piece){v->text, NULL, node, answer};
    return 0;
}

static int messages_read(Cleaner *c, uint32_t list, Err *e) {
    const Json *j = &c->j;
    if (j->node[list].kind != JSON_ARRAY || !j->node[list].count)
        return row_fail(c, list, "messages", "is not an array with turns in it", e);
    for (uint32_t at = list + 1; at < j->node[list].next; at = j->node[at].next) {
        uint32_t role = json_get(j, at, "role"), content = json_get(j, at, "content");
        if (!role || !content || j->node[role].kind != JSON_STRING)
            return row_fail(c, at, "a message", "is no object with role and content", e);
        if (piece_add(c, content, "content", !strcmp(j->node[role].text, "assistant"), e)) return -1;
    }
    return 0;
}

// The texts of a row, the answer last.
static int row_read(Cleaner *c, uint32_t object, Err *e) {
    static const char *const name[] = {"instruction", "input", "prompt", "output", "completion"};
    uint32_t messages = json_get(&c->j, object, "messages"), found;
    size_t first = c->pieces;
    if (c->j.node[object].kind != JSON_OBJECT) return row_fail(c, object, "the row", "is not an object", e);
    if (messages && c->j.node[messages].kind != JSON_NULL) {
        if (messages_read(c, messages, e)) return -1;
    } else {
        for (int i = 0; i < 5; i++)
            if ((found = json_get(&c->j, object, name[i])) && c->j.node[found].kind != JSON_NULL &&
                piece_add(c, found, name[i], i > 2, e)) return -1;
        if (c->pieces < first + 2 || !c->piece[c->pieces - 1].answer || c->piece[c->pieces - 2].answer)
            return row_fail(c, object, "the row", "has not one prompt and one answer, want instruction and "
                            "output, prompt and completion, or messages", e);
    }
    if (grow(&c->row, &c->row_room, c->rows + 1, sizeof *c->row, e)) return -1;
    c->row[c->rows++] = (Item){object, c->j.node[object].line, first, c->pieces - first, false};
    return 0;
}

// Where each node's bytes are. The text is known to be JSON, and its nodes stand in the order of the text.
static int spans(Cleaner *c, Err *e) {
    uint32_t open[80] = {0}, node = 0;
    size_t depth = 0, n = c->bytes;
    c->from = calloc(c->j.nodes + 1, sizeof *c->from);
    c->to = calloc(c->j.nodes + 1, sizeof *c->to);
    if (!c->from || !c->to) return err_set(e, "no memory for %" PRIu32 " values", c->j.nodes);
    for (size_t i = strncmp(c->data, "\xEF\xBB\xBF", 3) ? 0 : 3; i < n;) {
        size_t start = i;
        char ch = c->data[i++];
        if (strchr(" \t\r\n,:", ch)) continue;
        if (ch == ']' || ch == '}') {
            c->to[open[--depth]] = (uint32_t)i;
            continue;
        }
        c->from[node] = (uint32_t)start;
        if (ch == '[' || ch == '{') {
            open[depth++] = node++;
            continue;
        }
        if (ch == '"')
            for (; c->data[i++] != '"';) i += c->data[i - 1] == '\\';
        else
            while (i < n && !strchr(" \t\r\n,]}", c->data[i])) i++;
        c->to[node++] = (uint32_t)i;
    }
    return 0;
}

static int load(Cleaner *c, Err *e) {
    uint8_t *data;
    uint32_t at;
    size_t name = strlen(c->path);
    if (name >= 4 && (!strcmp(c->path + name - 4, ".csv") || !strcmp(c->path + name - 4, ".tsv")))
        return err_set(e, "%s: clean takes JSON, as an array or in lines", c->path);
    if (file_read(c->path, FILE_MAX, &data, &c->bytes, e)) return -1;
    c->data = (char *)data;
    if (rows_parse(&c->j, &at, c->path, data, c->bytes, NULL, e) || spans(c, e)) return -1;
    for (; at < c->j.nodes; at = c->j.node[at].next)
        if (row_read(c, at, e)) return -1;
    return c->rows > 0 ? 0 : err_set(e, "%s: has no rows", c->path);
}

// ---- words and sentences ----------------------------------------------------------------------------------

// Bytes of the character at s (n > 0) if it belongs to a word, else 0. *alone: it is a word by itself, as
// those of scripts without spaces are, and signs that change what a text says.
static size_t word_char(const char *s, size_t n, bool *alone) {
    uint8_t c = (uint8_t)s[0], next = n > 1 ? (uint8_t)s[1] : 0;
    *alone = c >= 0xE3 || (c < 0x80 && strchr("+=<>", c));
    if (c < 0x80) return isalnum(c) || *alone;
    if ((c == 0xE2 && next <= 0x81) || (c == 0xE3 && next == 0x80) || (c == 0xEF && next == 0xBC)) return 0;
    return utf8_length((const uint8_t *)s, n);
}

static void words_start(Words *w) { w->n = w->t.n = 0; }

// Adds the words of s (n bytes). Letters beyond ASCII keep their case.
static int words_add(Words *w, const char *s, size_t n, Err *e) {
    bool inside = false, alone;
    if (grow(&w->t.s, &w->t.room, w->t.n + 2 * n + 2, 1, e)) return -1;
    for (size_t i = 0, length; i < n; i += length) {
        if (!(length = word_char(s + i, n - i, &alone))) {
            bool joins = s[i] == '\'' && inside && i + 1 < n && isalnum((uint8_t)s[i + 1]);
            inside = inside && joins;
            length = 1;
            continue;
        }
        if (!inside || alone) {
            if (grow(&w->at, &w->room, w->n + 1, sizeof *w->at, e)) return -1;
            if (w->n > 0) w->t.s[w->t.n++] = ' ';
            w->at[w->n++] = w->t.n;
        }
        for (size_t k = 0; k < length; k++) {
            char ch = s[i + k];
            w->t.s[w->t.n++] = ch >= 'A' && ch <= 'Z' ? (char)(ch - 'A' + 'a') : ch;
        }
        inside = !alone;
    }
    w->t.s[w->t.n] = 0;
    return 0;
}

// Bytes of `count` words from word i on.
static size_t words_bytes(const Words *w, size_t i, size_t count) {
    return (i + count < w->n ? w->at[i + count] - 1 : w->t.n) - w->at[i];
}

static uint64_t word_key(const Words *w, size_t i) {
    return hash64(w->t.s + w->at[i], words_bytes(w, i, 1), 0);
}

static bool space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Bytes of a closing quote or bracket, or of a sign of emphasis.
static size_t closer(const char *s) {
    if (*s && strchr(")]\"'*_", *s)) return 1;
    bool quote = !strncmp(s, "\xE2\x80\x9D", 3) || !strncmp(s, "\xE2\x80\x99", 3);
    return quote || !strncmp(s, "\xE3\x80\x8D", 3) ? 3 : 0;
}

// Does the word before the full stop at text[i] have one of its own: Dr., e.g., 1., A.?
static bool abbreviated(const char *text, size_t from, size_t i) {
    size_t n = 0;
    while (n < 5 && i - n > from && !space(text[i - n - 1])) n++;
    const char *word = text + i - n;
    bool marked = isupper((uint8_t)*word) || isdigit((uint8_t)*word);
    return n < 2 || (n < 3 && marked) || memchr(word, '.', n);
}

// Bytes at text[i] with which a sentence ends that began at `from`, 0: it goes on, as before a small letter.
static size_t stop_at(const char *text, size_t from, size_t i) {
    if (i > from && strchr(".!?", text[i - 1])) return 0;
    size_t n = strspn(text + i, ".!?");
    const char *wide = n > 0 ? NULL : "\xE3\x80\x82\xEF\xBC\x81\xEF\xBC\x9F";
    if (wide && ((uint8_t)text[i] == 0xE3 || (uint8_t)text[i] == 0xEF))
        for (int k = 0; k < 9; k += 3) n += strncmp(text + i, wide + k, 3) ? 0 : 3;
    if (n == 0) return 0;
    bool full_stop = n == 1 && text[i] == '.';
    for (size_t more; (more = closer(text + i + n));) n += more;
    if (wide) return n;
    if (text[i + n] && !space(text[i + n])) return 0;
    if (!full_stop) return n;
    const char *next = text + i + n + strspn(text + i + n, " \t");
    return abbreviated(text, from, i) || (*next >= 'a' && *next <= 'z') ? 0 : n;
}

static int sentence_add(Cleaner *c, const char *text, Sentence s, Err *e) {
    words_start(&c->words);
    if (words_add(&c->words, text + s.from, s.end - s.from, e)) return -1;
    s.words = c->words.n;
    s.key = hash64(c->words.t.s, c->words.t.n, 0);
    s.next = s.end + strspn(text + s.end, " \t\r\n");
    if (grow(&c->sentence, &c->sentence_room, c->sentences + 1, sizeof s, e)) return -1;
    c->sentence[c->sentences++] = s;
    return 0;
}

// Text into sentences; a line break ends one too, and a line of code is one. White space at the beginning is
// left.
static int split(Cleaner *c, const char *text, Err *e) {
    Sentence s = {0};
    bool fence = false;
    c->sentences = 0;
    for (size_t i = s.from = strspn(text, " \t\r\n"); text[s.from]; i = s.from = s.next) {
        bool mark = (i == 0 || text[i - 1] == '\n') && !strncmp(text + i, "```", 3);
        size_t stop = 0;
        s.code = fence || mark;
        fence = fence != mark;
        while (text[i] && text[i] != '\n' && (s.code || !(stop = stop_at(text, s.from, i)))) i++;
        s.closed = stop > 0;
        s.end = i + stop;
        while (s.end > s.from && space(text[s.end - 1])) s.end--;
        if (sentence_add(c, text, s, e)) return -1;
        s = c->sentence[c->sentences - 1];
    }
    return 0;
}

// ---- changes ----------------------------------------------------------------------------------------------

enum { WIDTH = 80, LINE_BYTES = 4 * WIDTH + 16 };

static int change_add(Cleaner *c, Kind kind, uint32_t line, const char *what, const char *sign,
                      const char *const text[2], size_t at, Err *e) {
    char shown[2][LINE_BYTES];
    for (int i = 0; i < 2; i++) show_excerpt(shown[i], LINE_BYTES, text[i], strlen(text[i]), at, WIDTH - 4);
    size_t room = strlen(c->path) + strlen(what) + 2 * LINE_BYTES + 100;
    if (grow(&c->change, &c->change_room, c->changes + 1, sizeof *c->change, e)) return -1;
    char *said = malloc(room);
    if (!said) return err_set(e, "no memory for the list of changes");
    snprintf(said, room, "%s:%" PRIu32 ": %s%s\n  - %s\n  %c %s\n", c->path, line, KIND[kind], what, shown[0],
             *sign, shown[1]);
    c->change[c->changes] = (Change){line, c->changes, said};
    c->changes++;
    c->texts[kind]++;
    return 0;
}

// The first byte in which two texts differ.
static size_t differ(const char *a, const char *b) {
    size_t at = 0;
    while (a[at] && a[at] == b[at]) at++;
    return at;
}

// A text becomes what c->made is, in `places` places.
static int replace(Cleaner *c, const Item *r, Piece *p, Kind kind, size_t places, Err *e) {
    const char *text[2] = {p->text, c->made.s};
    char what[40] = "";
    if (places == 0) return 0;
    if (places > 1) snprintf(what, sizeof what, ", %zu times", places);
    if (change_add(c, kind, c->j.node[p->node].line, what, "+", text, differ(text[0], text[1]), e)) return -1;
    char *own = malloc(c->made.n + 1);
    if (!own) return err_set(e, "no memory for a text of row %zu", (size_t)(r - c->row));
    memcpy(own, c->made.s, c->made.n + 1);
    free(p->own);
    p->text = p->own = own;
    c->places[kind] += places;
    return 0;
}

static int by_line(const void *a, const void *b) {
    const Change *x = a, *y = b;
    if (x->line != y->line) return x->line < y->line ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

// ---- fixes of a text --------------------------------------------------------------------------------------

static void trim(Text *t) {
    while (t->n > 0 && space(t->s[t->n - 1])) t->n--;
    t->s[t->n] = 0;
}

static bool may_repeat(const Sentence *s) { return s->closed && !s->code; }

// Are the `run` sentences from s[i] on the same as those kept last?
static bool run_again(const Sentence *s, size_t i, size_t kept, size_t run) {
    size_t words = 0;
    for (size_t k = 0; k < run; k++) {
        const Sentence *a = &s[s[kept - run + k].kept], *b = &s[i + k];
        if (a->key != b->key || !may_repeat(a) || !may_repeat(b)) return false;
        words += b->words;
    }
    return words >= REPEAT;
}

// Marks the sentences that the answer has said before: just before, in a run, or anywhere. Returns how many.
static size_t mark_repeats(Cleaner *c, Map *seen, Err *e) {
    Sentence *s = c->sentence;
    size_t kept = 0, marked = 0, n = c->sentences;
    for (size_t i = 0, run; i < n; i += run) {
        bool again = false;
        for (run = 1; !again && run <= RUN && run <= kept && i + run <= n; run++)
            again = run_again(s, i, kept, run);
        run = again ? run - 1 : 1;
        if (!again && !strcmp(opt.repeats, "any") && may_repeat(&s[i]) && s[i].words >= REPEAT) {
            uint32_t *times = map_at(seen, s[i].key, e);
            if (!times) return SIZE_MAX;
            again = ++*times > 1;
        }
        for (size_t k = i; again && k < i + run; k++) s[k].again = true;
        marked += again ? run : 0;
        if (!again) s[kept++].kept = i;
    }
    return marked;
}

// Where a sentence that goes ended a paragraph or the text, this one still ends.
static int drop_repeats(Cleaner *c, const Item *r, Piece *p, Err *e) {
    Map seen = {0};
    if (text_start(&c->made, e) || split(c, p->text, e)) return -1;
    size_t dropped = mark_repeats(c, &seen, e);
    map_free(&seen);
    if (dropped == 0 || dropped == SIZE_MAX) return dropped ? -1 : 0;
    if (append(&c->made, p->text, c->sentence[0].from, e)) return -1;
    for (size_t i = 0; i < c->sentences; i++) {
        const Sentence *s = &c->sentence[i];
        if (s->again && i + 1 < c->sentences && !memchr(p->text + s->end, '\n', s->next - s->end)) continue;
        if (s->again) trim(&c->made);
        size_t from = s->again ? s->end : s->from;
        if (append(&c->made, p->text + from, s->next - from, e)) return -1;
    }
    return replace(c, r, p, REPEATED, dropped, e);
}

// Does a sentence, whose words are at hand, speak to its reader?
static bool speaks(const Words *w) {
    static const char WHO[] = " i im ill id ive me my we us our you your youre youve youd yours ";
    for (size_t i = 0; i < w->n; i++) {
        size_t n = words_bytes(w, i, 1);
        for (const char *p = WHO; n < 6 && (p = strchr(p, ' ')) && p[1]; p++)
            if (!strncmp(p + 1, w->t.s + w->at[i], n) && p[1 + n] == ' ') return true;
    }
    return false;
}

// Could the last of the first n sentences be boilerplate? Its key, or 0.
static uint64_t closing(Cleaner *c, const char *text, size_t n, Err *e) {
    const Sentence *s = &c->sentence[n - 1];
    if (n < 2 || !s->closed || s->code || s->words < SENTENCE) return 0;
    words_start(&c->words);
    if (words_add(&c->words, text + s->from, s->end - s->from, e)) return 0;
    return !strcmp(opt.closings, "any") || speaks(&c->words) ? s->key | !s->key : 0;
}

static int drop_boilerplate(Cleaner *c, const Item *r, Piece *p, const Map *closings, size_t often, Err *e) {
    size_t dropped = 0;
    uint64_t key;
    if (split(c, p->text, e) || text_start(&c->made, e)) return -1;
    for (size_t n = c->sentences; n > 1 && (key = closing(c, p->text, n, e)); n--, dropped++)
        if (map_get(closings, key) < often) break;
    if (dropped == 0) return 0;
    if (append(&c->made, p->text, c->sentence[c->sentences - dropped - 1].end, e)) return -1;
    return replace(c, r, p, BOILERPLATE, dropped, e);
}

// Sentences that stay are whole; where none ends in time, the answer stays.
static int shorten(Cleaner *c, const Item *r, Piece *p, Err *e) {
    size_t words = 0, end = 0;
    if (split(c, p->text, e) || text_start(&c->made, e)) return -1;
    for (size_t i = 0; i < c->sentences; i++) {
        const Sentence *s = &c->sentence[i];
        words += s->words;
        if (words <= (size_t)opt.max_words && s->closed && !s->code) end = s->end;
    }
    if (words <= (size_t)opt.max_words || end == 0) return 0;
    return append(&c->made, p->text, end, e) || replace(c, r, p, OVERLONG, 1, e) ? -1 : 0;
}

// ---- spelling ---------------------------------------------------------------------------------------------

typedef struct { char word[WORD_MAX + 2]; uint32_t count; bool several; } Best;

static const Trust *trust(void) { return &TRUST[opt.words != NULL]; }

// Is this neighbour of a suspicious word what was meant? The one that is twice as frequent as the others.
static void consider(const Cleaner *c, const char *word, size_t n, Best *best) {
    uint64_t key = hash64(word, n, 0);
    uint32_t count = map_get(&c->count, key);
    if (count < trust()->common || (opt.words && !map_get(&c->listed, key))) return;
    if (strlen(best->word) == n && !memcmp(best->word, word, n)) return;
    bool more = count > best->count;
    best->several = more ? best->count > count / 2 : best->several || count > best->count / 2;
    if (!more) return;
    memcpy(best->word, word, n);
    best->word[n] = 0;
    best->count = count;
}

// What w (n letters) may have been meant to be: a letter is doubled that should not be, or the reverse; two
// are swapped; with --words, one is too many, missing, or another vowel, too. But for doubled letters the
// slip is neither at the first letter nor in the last two, where the forms and spellings of a word differ.
static bool correction(const Cleaner *c, const char *w, size_t n, Best *best) {
    char s[WORD_MAX + 2];
    *best = (Best){"", 0, false};
    for (size_t i = 1; i < n; i++) {
        bool inside = i + 2 < n, any = inside && opt.words;
        memcpy(s, w, i), memcpy(s + i + 1, w + i, n - i);
        for (s[i] = 'a'; s[i] <= 'z'; s[i]++)
            if (any || s[i] == w[i]) consider(c, s, n + 1, best);
        memcpy(s + i, w + i + 1, n - i - 1);
        if (any || w[i] == w[i - 1]) consider(c, s, n - 1, best);
        memcpy(s, w, n);
        for (const char *v = "aeiou"; any && strchr("aeiou", w[i]) && *v; v++)
            if ((s[i] = *v) != w[i]) consider(c, s, n, best);
        s[i] = w[i - 1], s[i - 1] = w[i];
        if (inside && i > 1 && s[i] != w[i]) consider(c, s, n, best);
    }
    return best->word[0] && !best->several;
}

static bool suspicious(const Cleaner *c, const char *w, size_t n) {
    if (n < trust()->letters || n > WORD_MAX || strspn(w, "abcdefghijklmnopqrstuvwxyz") < n) return false;
    uint64_t key = hash64(w, n, 0);
    return map_get(&c->count, key) == 1 && !(opt.words && map_get(&c->listed, key));
}

// Is the word at text[i..i+n) in plain prose, with white space or punctuation around?
static bool in_prose(const char *text, size_t i, size_t n) {
    size_t after = i + n + strspn(text + i + n, ",.;:!?)\"");
    return (i == 0 || space(text[i - 1]) || text[i - 1] == '(' || text[i - 1] == '"') &&
           (!text[after] || space(text[after]));
}

// Words of a sentence, corrected, to c->made; *fixed counts them.
static int spell_sentence(Cleaner *c, const char *text, const Sentence *s, size_t *fixed, Err *e) {
    bool code = s->code;
    Best best;
    for (size_t i = s->from, n; i < s->next; i += n) {
        code = code != (text[i] == '`');
        n = 0;
        while (i + n < s->end && !space(text[i + n]) && !strchr("`,.;:!?()\"", text[i + n])) n++;
        if (n == 0) n = 1;
        if (!code && suspicious(c, text + i, n) && in_prose(text, i, n)) {
            if (correction(c, text + i, n, &best)) {
                if (append(&c->made, best.word, strlen(best.word), e)) return -1;
                ++*fixed;
                continue;
            }
        }
        if (append(&c->made, text + i, n, e)) return -1;
    }
    return 0;
}

// Is an answer in another language than --words?
static bool strange(const Cleaner *c) {
    const Words *w = &c->words;
    size_t unlisted = 0;
    for (size_t i = 0; i < w->n && opt.words; i++)
        unlisted += !map_get(&c->listed, word_key(w, i)) && !isdigit((uint8_t)w->t.s[w->at[i]]);
    return unlisted > 1 + w->n / STRANGE;
}

static int spell(Cleaner *c, const Item *r, Piece *p, Err *e) {
    size_t fixed = 0;
    words_start(&c->words);
    if (words_add(&c->words, p->text, strlen(p->text), e)) return -1;
    if (strange(c)) return 0;
    if (split(c, p->text, e) || text_start(&c->made, e)) return -1;
    if (c->sentences > 0 && append(&c->made, p->text, c->sentence[0].from, e)) return -1;
    for (size_t i = 0; i < c->sentences; i++)
        if (spell_sentence(c, p->text, &c->sentence[i], &fixed, e)) return -1;
    return replace(c, r, p, SPELLING, fixed, e);
}

// How often each word occurs in rows that stay.
static int count_words(Cleaner *c, Err *e) {
    map_free(&c->count);
    for (const Item *r = c->row; r < c->row + c->rows; r++)
        for (size_t i = r->first; i < r->first + r->pieces && !r->gone; i++) {
            words_start(&c->words);
            if (words_add(&c->words, c->piece[i].text, strlen(c->piece[i].text), e)) return -1;
            for (size_t k = 0; k < c->words.n; k++) {
                uint32_t *count = map_at(&c->count, word_key(&c->words, k), e);
                if (!count) return -1;
                *count += *count < UINT32_MAX;
            }
        }
    return 0;
}

// The list of words: what is between white space, in lower case.
static int list_read(Cleaner *c, Err *e) {
    uint8_t *data;
    size_t n;
    int rc = file_read(opt.words, FILE_MAX, &data, &n, e);
    if (rc == 0) rc = words_add(&c->words, (const char *)data, n, e);
    for (size_t i = 0; i < c->words.n && rc == 0; i++) {
        uint32_t *there = map_at(&c->listed, word_key(&c->words, i), e);
        if (!there) rc = -1;
        else *there = 1;
    }
    if (rc == 0 && c->listed.n < 1000)
        rc = err_set(e, "%s: %zu words, want at least 1000 to know what is none", opt.words, c->listed.n);
    free(data);
    return rc;
}

// ---- duplicates -------------------------------------------------------------------------------------------
// Two texts are alike as the sets of their shingles, runs of three words, are: |both| / |either|, Jaccard's
// coefficient. MinHash (Broder 1997): the smallest of all hashes of a set is the same in two sets with just
// that probability. A band is three such minima; rows that have one in common are compared.

typedef struct {
    Set prompt, answer;
    size_t row;
    uint32_t next[BANDS];             // the earlier kept row with the same band, + 1
    uint32_t seen;                    // by which row it was last looked at, + 1
} Kept;

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool has_digit(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (isdigit((uint8_t)s[i])) return true;
    return false;
}

// The shingles of the words at hand: c->shingle grows.
static int set_make(Cleaner *c, Set *s, Err *e) {
    const Words *w = &c->words;
    size_t n = w->n == 0 ? 0 : w->n < SHINGLE ? 1 : w->n - SHINGLE + 1, run = w->n < SHINGLE ? w->n : SHINGLE;
    *s = (Set){c->shingle_n, 0, 0};
    if (grow(&c->shingle, &c->shingle_room, s->at + n + 1, sizeof *c->shingle, e)) return -1;
    uint64_t *h = c->shingle + s->at;
    for (size_t i = 0; i < n; i++) h[i] = hash64(w->t.s + w->at[i], words_bytes(w, i, run), 0);
    qsort(h, n, sizeof *h, by_size);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || h[i] != h[s->n - 1]) h[s->n++] = h[i];
    for (size_t i = 0; i < w->n; i++)
        if (has_digit(w->t.s + w->at[i], words_bytes(w, i, 1)))
            s->numbers = hash_number(word_key(w, i), s->numbers);
    c->shingle_n += s->n;
    return 0;
}

static int row_sets(Cleaner *c, const Item *r, Kept *k, Err *e) {
    const Piece *p = c->piece + r->first, *last = p + r->pieces - 1;
    words_start(&c->words);
    for (; p < last || (p == last && !p->answer); p++)
        if (words_add(&c->words, p->text, strlen(p->text), e)) return -1;
    if (set_make(c, &k->prompt, e)) return -1;
    words_start(&c->words);
    if (last->answer && words_add(&c->words, last->text, strlen(last->text), e)) return -1;
    return set_make(c, &k->answer, e);
}

static double alike(const Cleaner *c, const Set *a, const Set *b) {
    const uint64_t *x = c->shingle + a->at, *y = c->shingle + b->at;
    size_t i = 0, k = 0, both = 0, less = a->n < b->n ? a->n : b->n, more = a->n + b->n - less;
    if (more == 0) return 1;
    if (a->numbers != b->numbers || (double)less < opt.near * (double)more) return 0;
    while (i < a->n && k < b->n) {
        both += x[i] == y[k];
        if (x[i] < y[k]) i++;
        else k++;
    }
    return (double)both / (double)(a->n + b->n - both);
}

// The bands of what two near-duplicates have in common: prompt and answer, or the prompt.
static void bands_make(const Cleaner *c, const Kept *k, uint64_t band[BANDS]) {
    size_t n = k->prompt.n + (opt.any_answer ? 0 : k->answer.n);
    for (size_t b = 0; b < BANDS; b++) {
        band[b] = hash_number(b, 0);
        for (size_t m = 0; m < BAND; m++) {
            uint64_t least = UINT64_MAX, salt = hash_number(b * BAND + m, 1) | 1;
            for (size_t i = 0; i < n; i++) {
                uint64_t h = c->shingle[k->prompt.at + i] * salt;     // salt is odd: a permutation
                h ^= h >> 32;
                if (h < least) least = h;
            }
            band[b] = hash_number(least, band[b]);
        }
    }
}

// The earlier row that k is a near-duplicate of, with how alike they are; or none. k's place is `at`.
static const Kept *twin(const Cleaner *c, Kept *kept, size_t at, double *prompts, double *answers) {
    const Kept *k = &kept[at];
    int left = CANDIDATES;
    for (size_t b = 0; b < BANDS; b++)
        for (uint32_t i = k->next[b]; i > 0 && left > 0; i = kept[i - 1].next[b]) {
            Kept *other = &kept[i - 1];
            left--;
            if (other->seen == k->row + 1) continue;
            other->seen = (uint32_t)k->row + 1;
            *prompts = alike(c, &k->prompt, &other->prompt);
            *answers = alike(c, &k->answer, &other->answer);
            if (*prompts >= opt.near && (opt.any_answer || *answers >= opt.near)) return other;
        }
    return NULL;
}

// What a row asks, as far as a line of the list may show it.
static int prompt_text(const Cleaner *c, const Item *r, Text *t, Err *e) {
    t->n = 0;
    for (const Piece *p = c->piece + r->first; p < c->piece + r->first + r->pieces; p++) {
        size_t n = 0;
        while (n < LINE_BYTES && p->text[n]) n++;
        if (n == 0 || t->n > LINE_BYTES || (p->answer && p + 1 == c->piece + r->first + r->pieces)) continue;
        if ((t->n > 0 && append(t, " | ", 3, e)) || append(t, p->text, n, e)) return -1;
    }
    return append(t, "", 0, e);
}

static int drop_row(Cleaner *c, Item *r, const Item *first, double prompts, double answers, Err *e) {
    Text same = {0};
    char what[100];
    snprintf(what, sizeof what, " of line %" PRIu32 ": prompts %.2f alike, answers %.2f", first->line,
             prompts, answers);
    r->gone = true;
    c->places[DUPLICATE]++;
    int rc = prompt_text(c, r, &c->made, e) || prompt_text(c, first, &same, e) ? -1 : 0;
    const char *text[2] = {c->made.s, same.s};
    size_t at = rc == 0 ? differ(text[0], text[1]) : 0;
    if (rc == 0 && !text[0][at] && !text[1][at]) at = 0;
    if (rc == 0) rc = change_add(c, DUPLICATE, r->line, what, "=", text, at, e);
    free(same.s);
    return rc;
}

static int duplicates(Cleaner *c, Err *e) {
    Kept *kept = NULL;
    size_t n = 0, room = 0;
    Map bucket = {0};
    int rc = 0;
    c->shingle_n = 0;
    for (size_t i = 0; i < c->rows && rc == 0; i++) {
        uint64_t band[BANDS];
        double prompts, answers;
        if (c->row[i].gone) continue;
        if ((rc = grow(&kept, &room, n + 1, sizeof *kept, e))) break;
        Kept *k = &kept[n];
        *k = (Kept){.row = i};
        if ((rc = row_sets(c, &c->row[i], k, e))) break;
        bands_make(c, k, band);
        for (size_t b = 0; b < BANDS; b++) k->next[b] = map_get(&bucket, band[b]);
        const Kept *first = twin(c, kept, n, &prompts, &answers);
        if (first) {
            c->shingle_n = k->prompt.at;
            rc = drop_row(c, &c->row[i], &c->row[first->row], prompts, answers, e);
            continue;
        }
        n++;
        for (size_t b = 0; b < BANDS && rc == 0; b++) {
            uint32_t *at = map_at(&bucket, band[b], e);
            if (at) *at = (uint32_t)n;
            else rc = -1;
        }
    }
    free(kept);
    map_free(&bucket);
    return rc;
}

// ---- passes -----------------------------------------------------------------------------------------------

static int count_closing(Cleaner *c, const char *text, Map *closings, Map *pairs, Err *e) {
    if (split(c, text, e)) return -1;
    uint64_t key = c->sentences > 0 ? closing(c, text, c->sentences, e) : 0;
    if (!key) return 0;
    uint32_t *pair = map_at(pairs, hash_number(c->sentence[c->sentences - 2].key, key), e);
    uint32_t *count = pair ? map_at(closings, key, e) : NULL;
    if (!count) return -1;
    *count += *pair == 0;
    *pair = 1;
    return 0;
}

// Behind how many different sentences each one that could be boilerplate ends an answer: a passage that many
// answers share, or an answer that many rows have, counts once. *answers: all of them.
static int count_closings(Cleaner *c, Map *closings, size_t *answers, Err *e) {
    Map pairs = {0};
    int rc = 0;
    *answers = 0;
    for (const Item *r = c->row; r < c->row + c->rows; r++)
        for (size_t i = r->first; i < r->first + r->pieces && !r->gone && rc == 0; i++) {
            *answers += c->piece[i].answer;
            if (c->piece[i].answer) rc = count_closing(c, c->piece[i].text, closings, &pairs, e);
        }
    map_free(&pairs);
    return rc;
}

// Every fix once. Duplicates come last: what the fixes made alike is one.
static int pass(Cleaner *c, Err *e) {
    Map closings = {0};
    size_t answers = 0;
    bool boilerplate = strcmp(opt.closings, "none") != 0;
    int rc = boilerplate ? count_closings(c, &closings, &answers, e) : 0;
    size_t often = opt.often ? (size_t)opt.often : answers / 1000 > 5 ? answers / 1000 : 5;
    if (rc == 0 && opt.spelling) rc = count_words(c, e);
    for (const Item *r = c->row; r < c->row + c->rows && rc == 0; r++)
        for (size_t i = r->first; i < r->first + r->pieces && !r->gone && rc == 0; i++) {
            Piece *p = &c->piece[i];
            if (!p->answer) continue;
            if (strcmp(opt.repeats, "none")) rc = drop_repeats(c, r, p, e);
            if (rc == 0 && boilerplate) rc = drop_boilerplate(c, r, p, &closings, often, e);
            if (rc == 0 && opt.max_words) rc = shorten(c, r, p, e);
            if (rc == 0 && opt.spelling) rc = spell(c, r, p, e);
        }
    map_free(&closings);
    return rc == 0 && !opt.keep_duplicates ? duplicates(c, e) : rc;
}

// ---- what is written --------------------------------------------------------------------------------------

// A text as a JSON string, with line breaks and tabs as people write them.
static int quote_add(Text *out, const char *text, Err *e) {
    static const char *const code[] = {"\\u000a", "\\u000d", "\\u0009"};
    static const char *const name[] = {"\\n", "\\r", "\\t"};
    char *quoted = json_quote(text, strlen(text));
    int rc = quoted ? 0 : err_set(e, "no memory for a text of %zu bytes", strlen(text));
    for (const char *p = quoted; rc == 0 && *p;) {
        size_t n = strcspn(p, "\\"), length = p[n] ? 2 : 0;           // what a backslash begins
        const char *escape = p + n;
        for (int i = 0; i < 3; i++)
            if (!strncmp(p + n, code[i], 6)) escape = name[i], length = 6;
        rc = append(out, p, n, e) || append(out, escape, length > 0 ? 2 : 0, e) ? -1 : 0;
        p += n + length;
    }
    free(quoted);
    return rc;
}

// The bytes of a row, with those of its texts that have changed.
static int row_render(Cleaner *c, const Item *r, Text *out, Err *e) {
    size_t at = c->from[r->node];
    for (const Piece *p = c->piece + r->first; p < c->piece + r->first + r->pieces; p++) {
        if (!p->own) continue;
        if (append(out, c->data + at, c->from[p->node] - at, e) || quote_add(out, p->text, e)) return -1;
        at = c->to[p->node];
    }
    return append(out, c->data + at, c->to[r->node] - at, e);
}

// The file, with what stood between rows between those that are left: the first one never goes.
static int render(Cleaner *c, Text *out, Err *e) {
    const Item *last = NULL;
    int rc = append(out, c->data, c->from[c->row[0].node], e);
    for (const Item *r = c->row; r < c->row + c->rows && rc == 0; r++) {
        if (r->gone) continue;
        if (last) {
            size_t end = c->to[last->node];
            rc = append(out, c->data + end, c->from[last[1].node] - end, e);
        }
        if (rc == 0) rc = row_render(c, r, out, e);
        last = r;
    }
    size_t end = c->to[c->row[c->rows - 1].node];
    return rc ? -1 : append(out, c->data + end, c->bytes - end, e);
}

static int put(const char *path, FILE *f, const Text *t, Err *e) {
    if (!path)
        return fwrite(t->s, 1, t->n, f) == t->n && fflush(f) == 0 ? 0 : err_set(e, "cannot write the result");
    Writer *w = writer_open(path, e);
    if (!w) return -1;
    int rc = writer_put(w, t->s, t->n, e);
    return writer_close(w, rc == 0, e) ? -1 : rc;
}

static int list_changes(const Cleaner *c, Text *list, Err *e) {
    if (c->changes > 0) qsort(c->change, c->changes, sizeof *c->change, by_line);
    if (text_start(list, e)) return -1;
    for (size_t i = 0; i < c->changes; i++)
        if (append(list, c->change[i].said, strlen(c->change[i].said), e)) return -1;
    return 0;
}

static void summary(const Cleaner *c, int passes) {
    static const char *const one[KINDS] = {"rows dropped", "sentences dropped", "closings dropped",
                                           "answers cut", "words corrected"};
    size_t left = 0;
    for (size_t i = 0; i < c->rows; i++) left += !c->row[i].gone;
    fprintf(stderr, "%s: %zu rows in, %zu out, %zu changes\n", c->path, c->rows, left, c->changes);
    for (int i = 0; i < KINDS; i++)
        if (c->texts[i] > 0) fprintf(stderr, "  %-18s %6zu %s\n", KIND[i], c->places[i], one[i]);
    if (passes == PASSES)
        fprintf(stderr, "note: still changing after %d passes: clean the result again\n", PASSES);
}

// ---- main -------------------------------------------------------------------------------------------------

static int check_options(const char *in, int words, Err *e) {
    const char *other[] = {opt.out, opt.changes, opt.words, in};
    if (words != 1) return err_set(e, "want one file of rows\nhint: clean --help");
    if (strcmp(opt.closings, "address") && strcmp(opt.closings, "any") && strcmp(opt.closings, "none"))
        return err_set(e, "--closings: '%s', want address, any or none", opt.closings);
    if (strcmp(opt.repeats, "next") && strcmp(opt.repeats, "any") && strcmp(opt.repeats, "none"))
        return err_set(e, "--repeats: '%s', want next, any or none", opt.repeats);
    for (int i = 0; i < 2; i++)
        for (int k = i + 1; k < 4; k++)
            if (other[i] && other[k] && same_file(other[i], other[k]))
                return err_set(e, "%s: would be written over, want another file for %s", other[i],
                               i == 0 ? "--out" : "--changes");
    if (!opt.out && same_file("/dev/stdout", in))
        return err_set(e, "%s: standard output goes into the file that is read", in);
    opt.spelling = opt.spelling || opt.words;
    return 0;
}

// Nothing is written before all is known.
static int clean(Cleaner *c, Err *e) {
    Text out = {0}, list = {0};
    size_t before = 1;
    int passes = 0, rc = load(c, e);
    if (rc == 0 && opt.words) rc = list_read(c, e);
    for (; rc == 0 && passes < PASSES && c->changes != before; passes++) {
        before = c->changes;
        rc = pass(c, e);
    }
    if (rc == 0) rc = render(c, &out, e) || list_changes(c, &list, e) ? -1 : 0;
    if (rc == 0) rc = put(opt.changes, stderr, &list, e);
    if (rc == 0 && (opt.out || !is_terminal(1))) rc = put(opt.out, stdout, &out, e);
    if (rc == 0) summary(c, passes);
    if (rc == 0 && !opt.out && is_terminal(1))
        fprintf(stderr, "note: the rows are not shown on a terminal: > FILE, or --out FILE\n");
    free(out.s), free(list.s);
    return rc;
}

int main(int argc, char **argv) {
    Cleaner c;
    Err e = {""};
    const char *word[1] = {NULL};
    int words = 0, rc = options_parse(OPTION, OPTIONS, argc, argv, word, 1, &words, &e);
    memset(&c, 0, sizeof c);
    c.path = word[0];
    if (!rc && (opt.help || opt.version)) {
        if (opt.help) help();
        else printf("tune.c %s\n", TUNE_VERSION);
        if (fflush(stdout)) rc = err_set(&e, "standard output cannot be written");
    } else if (!rc) {
        rc = check_options(c.path, words, &e) || clean(&c, &e) ? -1 : 0;
    }
    if (rc) fprintf(stderr, "clean: %s\n", e.msg);
    cleaner_free(&c);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

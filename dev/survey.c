// survey.c -- the data report: what a run is about to learn from. Which rows repeat, contradict or give away
// others; how long they are, how much alike, and what that makes them good for.
// Read in this order: survey.h -> word_next -> repeats, leaks -> variety, SIGN -> survey -> survey_print.
//
// Words are in small ASCII letters, and stand between white space and punctuation. Rows are compared by their
// hashes of 64 bits: of a million rows two that differ are taken for equal once in 30 million such files.
// Time is n log n, memory 50 bytes a row. Nothing here changes what is trained.
#include "../model.h"
#include "survey.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_BYTES = 64, SEGMENT = 1000, SLOTS = 4096, LISTED = 20 };

typedef struct Key {                  // a row as its hashes: the prompt's words, the prompt, the answer
    uint64_t hash[3];
    uint32_t row;
    bool held;
} Key;

// Signs of rows that came out of one mould. What the limits divide, measured on prompts | answers:
//                          different pairs   beginning        spread
//   OASST1                 0.91 | 0.85       0.3 % | 0.7 %    1.6  | 0.9   people, 15 languages
//   SMS spam               0.93              0.7 %            0.72         people
//   banking77              0.73              0.9 %            0.67         people, on one subject
//   Dolly, HH-RLHF         0.88 | 0.90       2.4 % | 0.2 %    1.8  | 1.4   people
//   Alpaca                 0.85 | 0.87       1.3 % | 1.7 %    0.75 | 0.9   a large model, on many subjects
//   Raschka's 1,100        0.64 | 0.80       4.9 % | 2.1 %    0.41 | 0.6   a large model, in a few forms
//   MLX's Super Bowl       0.20 | 0.76       8.0 % | 6.2 %    0.27 | 0.8   a large model, on one subject
//   dev/demo/train.jsonl   0.92              0.2 %            0.15         written to a length
static const struct { size_t where; double limit; bool above; const char *what; } SIGN[] = {
    {offsetof(Variety, twos), 0.7, false, "repeat phrases"},
    {offsetof(Variety, opening), 0.04, true, "begin alike"},
    {offsetof(Variety, spread), 0.2, false, "are of one length"},
};
enum { SIGNS = sizeof SIGN / sizeof *SIGN, FEW_ROWS = 50 };    // with fewer nothing can be said

// ---- words ------------------------------------------------------------------------------------------------

// So many bytes of white space or punctuation are at p. U+2000 to U+203F are typographers' dashes and quotes.
static size_t gap(const char *p) {
    return !strncmp(p, "\xE2\x80", 2) ? 3 : *p && strchr(" \t\r\n.,;:!?'\"()", *p);
}

// The next word of *at, of n bytes; 0: there is none. Characters of three bytes and more are words each: most
// of their scripts put no spaces between words.
static size_t word_next(const char **at, char *word) {
    const char *p = *at;
    size_t n = 0;
    while (gap(p)) p += gap(p);
    if ((uint8_t)*p >= 0xE0)
        do word[n++] = *p++;
        while (n < 4 && ((uint8_t)*p & 0xC0) == 0x80);
    else
        for (; *p && (uint8_t)*p < 0xE0 && !gap(p) && n < WORD_BYTES; p++)
            word[n++] = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
    *at = p;
    return n;
}

static uint64_t words_hash(const char *text, uint64_t h) {
    char word[WORD_BYTES];
    for (size_t n; (n = word_next(&text, word)) > 0;) h = hash64(word, n, h);
    return h;
}

// ---- rows like others -------------------------------------------------------------------------------------

// The keys of x, whose rows are r's; of raw text, which has none, a window's hash is all there is.
static Key *keys_add(Key *k, const Examples *x, const Rows *r, bool held) {
    for (const Example *ex = x->ex; ex < x->ex + x->n; ex++, k++) {
        *k = (Key){{ex->hash, ex->hash, 0}, ex->row, held};
        if (!r->n) continue;
        const Row *row = &r->row[ex->row];
        uint64_t words = 0;
        for (const Turn *t = row->turn; t < row->turn + row->turns - 1; t++)
            words = words_hash(t->input, words_hash(t->text, words));
        if (words) k->hash[0] = words;
        k->hash[2] = hash64(row->output, strlen(row->output), 0);
    }
    return k;
}

static int by_key(const void *a, const void *b) {
    const Key *k = a, *l = b;
    for (int i = 0; i < 3; i++)
        if (k->hash[i] != l->hash[i]) return k->hash[i] < l->hash[i] ? -1 : 1;
    return k->held != l->held ? k->held - l->held : (k->row > l->row) - (k->row < l->row);
}

static bool alike(const Key *a, const Key *b, size_t same) {
    return !memcmp(a->hash, b->hash, same * sizeof *a->hash);
}

// Where two rows are: held tells that the first may be of another file. Raw text has the number of a window.
static void print_pair(FILE *to, const Survey *s, const Twins *t, bool held) {
    const Rows *rows = held && s->other ? s->other : s->rows;
    if (!s->rows->n) fprintf(to, "windows %" PRIu32 " and %" PRIu32 "\n", t->row + 1, t->like + 1);
    else if (rows == s->rows)
        fprintf(to, "lines %" PRIu32 " and %" PRIu32 "\n", rows->row[t->row].line, rows->row[t->like].line);
    else
        fprintf(to, "%s:%" PRIu32 " and %s:%" PRIu32 "\n", rows->path, rows->row[t->row].line, s->rows->path,
                s->rows->row[t->like].line);
}

// Of sorted keys, those that are like the one before in exactly their first `same` hashes.
static Twins repeats(const Key *k, size_t n, size_t same) {
    Twins t = {0};
    for (size_t i = 1; i < n; i++) {
        if (!alike(&k[i], &k[i - 1], same) || (same < 3 && k[i].hash[same] == k[i - 1].hash[same])) continue;
        if (t.n++ == 0 || k[i].row < t.row) t.row = k[i].row, t.like = k[i - 1].row;
    }
    return t;
}

// Of sorted keys, those held out that are like one trained on in their first `same` hashes, or more; list:
// prints them
static Twins leaks(const Key *k, size_t n, size_t same, const Survey *list) {
    Twins t = {0};
    for (size_t i = 0, end; i < n; i = end) {
        const Key *trained = NULL;
        for (end = i; end < n && alike(&k[i], &k[end], same); end++)
            if (!k[end].held && (!trained || k[end].row < trained->row)) trained = &k[end];
        for (const Key *held = k + i; trained && held < k + end; held++) {
            if (!held->held) continue;
            if (t.n++ == 0 || held->row < t.row) t.row = held->row, t.like = trained->row;
            if (list) print_pair(stdout, list, &(Twins){1, held->row, trained->row}, true);
        }
    }
    return t;
}

// ---- variety ----------------------------------------------------------------------------------------------

static int by_hash(const void *a, const void *b) {
    const Tally *s = a, *t = b;
    if (s->hash != t->hash) return s->hash < t->hash ? -1 : 1;
    return (s->row > t->row) - (s->row < t->row);
}

static int by_number(const void *a, const void *b) {
    const Tally *s = a, *t = b;
    return s->n != t->n ? (s->n < t->n) - (s->n > t->n) : (s->row > t->row) - (s->row < t->row);
}

// n hashes to the different ones, the most frequent first; returns how many.
static size_t tally(Tally *t, size_t n) {
    size_t kinds = 0;
    qsort(t, n, sizeof *t, by_hash);
    for (size_t i = 0; i < n; i++) {
        if (kinds == 0 || t[kinds - 1].hash != t[i].hash) t[kinds++] = (Tally){t[i].hash, t[i].row, 0};
        t[kinds - 1].n++;
    }
    qsort(t, kinds, sizeof *t, by_number);
    return kinds;
}

// The texts of a row that are compared: an answer, or the last turn before it, without the first `shared`
// bytes, which an instruction given with every row would be.
static void row_texts(const Row *row, bool answers, size_t shared, const char *text[2]) {
    const Turn *asked = &row->turn[row->turns - 2];
    text[0] = answers ? row->output : asked->text + shared;
    text[1] = answers ? "" : asked->input;
}

// How many bytes the last turns of all rows begin with
static size_t shared_prefix(const Examples *x, const Rows *r) {
    const char *first[2], *text[2];
    size_t n = SIZE_MAX, k;
    row_texts(&r->row[x->ex->row], false, 0, first);
    for (size_t i = 0; i < x->n; i++, n = k) {
        row_texts(&r->row[x->ex[i].row], false, 0, text);
        for (k = 0; k < n && text[0][k] && text[0][k] == first[0][k];) k++;
    }
    return n;
}

typedef struct { uint64_t slot[SLOTS]; size_t n; } Seen;       // different hashes, far fewer than SLOTS
static void seen_add(Seen *s, uint64_t hash) {
    size_t i = (hash |= 1) % SLOTS;
    while (s->slot[i] && s->slot[i] != hash) i = (i + 1) % SLOTS;
    s->n += !s->slot[i];
    s->slot[i] = hash;
}

// Words are counted in segments of 1,000, since the share of different ones falls with their number: so files
// of any size compare. An unfinished segment counts only if there is no other. t (x->n): scratch.
static void variety(Variety *v, const Examples *x, const Rows *r, bool answers, Tally *t) {
    static Seen ones, twos;
    size_t in = 0, segments = 0;
    double sum = 0, squares = 0, n = (double)x->n;
    v->shared = answers ? 0 : shared_prefix(x, r);
    ones.n = twos.n = 0;
    for (uint32_t i = 0; i < x->n; i++) t[i] = (Tally){hash_number(i, 1), i, 0};
    qsort(t, x->n, sizeof *t, by_hash);           // a random order
    for (size_t i = 0; i < x->n; i++) {
        const char *text[2];
        char word[WORD_BYTES];
        uint64_t before = 0, opening = 0;
        double words = 0;
        uint32_t row = x->ex[t[i].row].row;
        row_texts(&r->row[row], answers, v->shared, text);
        for (size_t k = 0, bytes; k < 2;) {
            if ((bytes = word_next(&text[k], word)) == 0) { k++; continue; }
            uint64_t h = hash64(word, bytes, 0);
            if (words++ < 4) opening = hash_number(h, opening);
            if (in++ % SEGMENT == 0) memset(&ones, 0, sizeof ones), memset(&twos, 0, sizeof twos);
            seen_add(&ones, h);
            seen_add(&twos, hash_number(h, before));       // the first word's pair is with nothing
            before = h;
            if (in % SEGMENT) continue;
            v->ones += (double)ones.n, v->twos += (double)twos.n;
            segments++;
        }
        sum += words, squares += words * words;
        t[i] = (Tally){opening, row, 0};
    }
    if (segments == 0) v->ones = (double)ones.n, v->twos = (double)twos.n;
    double counted = segments ? (double)segments * SEGMENT : in ? (double)in : 1;
    v->ones /= counted, v->twos /= counted, v->words = sum / n;
    v->spread = sum > 0 ? sqrt(fmax(squares / n - v->words * v->words, 0)) / v->words : 0;
    tally(t, x->n);
    v->opening = (double)t->n / n;
    v->opens = t->row;
}

// ---- survey -----------------------------------------------------------------------------------------------

static void survey_twins(Survey *s) {
    size_t n = s->all->n + (s->other ? s->held->n : 0);
    Key *end = keys_add(s->key, s->train, s->rows, false);
    keys_add(end, s->held, s->other ? s->other : s->rows, true);
    qsort(s->key, s->all->n, sizeof *s->key, by_key);
    s->twice = repeats(s->key, s->all->n, 3), s->reply = repeats(s->key, s->all->n, 2);
    s->near = repeats(s->key, s->all->n, 1);
    qsort(s->key, n, sizeof *s->key, by_key);
    s->leaked = leaks(s->key, n, 2, NULL), s->leaked_near = leaks(s->key, n, 1, NULL);
    s->leaked_near.n -= s->leaked.n;
}

static void survey_answers(Survey *s) {
    size_t n = s->all->n;
    for (size_t i = 0; i < n; i++) {
        const Row *row = &s->rows->row[s->all->ex[i].row];
        const char *answer = row->output, *text[2];
        row_texts(row, false, 0, text);
        s->label[i] = (Tally){hash64(answer, strlen(answer), 0), s->all->ex[i].row, 0};
        s->blank += !answer[strspn(answer, " \t\r\n")];
        s->echo += !strcmp(answer, text[0]) || !strcmp(answer, text[1]);
    }
    s->answers = tally(s->label, n);
    s->few = s->answers <= MOST_LABELS && s->answers * 5 <= n;
}

int survey(Survey *s, const Examples *all, const Examples *train, const Examples *held, const Rows *rows,
           const Rows *other, Err *e) {
    *s = (Survey){.all = all, .train = train, .held = held, .rows = rows, .other = other, .width = 1};
    s->label = malloc(all->n * sizeof *s->label);
    s->key = malloc((train->n + held->n) * sizeof *s->key);
    if (!s->label || !s->key) return err_set(e, "no memory for the data report of %zu rows", all->n);
    for (int i = 0; all->longest / s->width >= BARS; i++) s->width = s->width * (i % 3 == 1 ? 5 : 4) / 2;
    for (const Example *ex = all->ex; ex < all->ex + all->n; ex++) s->bar[ex->len / s->width]++;
    survey_twins(s);
    if (!rows->n) return 0;
    for (int k = 0; k < 2; k++) variety(&s->variety[k], all, rows, k, s->label);
    survey_answers(s);
    return 0;
}

void survey_free(Survey *s) { free(s->label), free(s->key); }

int survey_stop(const Survey *s, int32_t bos, bool list, Err *e) {
    const Twins *t = &s->leaked;
    for (const Example *ex = s->all->ex; s->rows->n && bos >= 0 && ex < s->all->ex + s->all->n; ex++)
        if (ex->len > 1 && ex->tok[0] == bos && ex->tok[1] == bos)
            return err_set(e, "%s:%" PRIu32 ": the row begins with begin-of-text twice: it is put there "
                           "anyway\nhint: a --template without it", s->rows->path,
                           s->rows->row[ex->row].line);
    if (!t->n || !s->other || !s->rows->n) return 0;
    if (list) puts("\nheld out with the prompt of a row trained on:");
    if (list) leaks(s->key, s->all->n + s->held->n, 2, s);
    return err_set(e, "%s:%" PRIu32 ": has the prompt of %s:%" PRIu32 ", one of %zu such rows: what is "
                   "measured must not be trained on\nhint: take them out of one file; --check lists them",
                   s->other->path, s->other->row[t->row].line, s->rows->path, s->rows->row[t->like].line,
                   t->n);
}

// ---- printing ---------------------------------------------------------------------------------------------

int glyph(char to[8], const void *at, size_t n, size_t *len) {
    const uint8_t *c = at;
    *len = utf8_length(c, n);
    if (*c == '\n' || *c == '\t') return sprintf(to, *c == '\n' ? "\\n" : "\\t");
    bool hidden = *len == 3 && *c == 0xE2 && ((c[1] == 0x81 && c[2] >= 0xA0) ||
                  (c[1] == 0x80 && ((c[2] >= 0x8B && c[2] <= 0x8F) || (c[2] >= 0xA8 && c[2] <= 0xAE))));
    if (*len && *c >= ' ' && *c != 127 && (*c != 0xC2 || c[1] >= 0xA0) && !hidden) {
        memcpy(to, c, *len);
        to[*len] = 0;
        return *len > 2 ? 2 : 1;
    }
    *len = 1;
    return sprintf(to, "\\x%02X", *c);
}

int show(FILE *to, const void *s, size_t n, int most) {
    const char *c = s;
    char one[8];
    int all = 0, used = 0, wide;
    size_t i, len;
    for (i = 0; i < n && all <= most; i += len) all += glyph(one, c + i, n - i, &len);
    for (i = 0; i < n; i += len, used += wide) {
        wide = glyph(one, c + i, n - i, &len);
        if (all > most && used + wide > most - 2) return used + fprintf(to, "..");
        fputs(one, to);
    }
    return used;
}

static void print_twins(FILE *to, const Survey *s, const Twins *t, bool held, const char *what) {
    if (t->n == 0) return;
    fprintf(to, "  warning: %zu %s: ", t->n, what);
    print_pair(to, s, t, held);
}

static void print_tables(const Survey *s) {
    static const char bars[] = "##################################################";
    size_t most = 1, rest = s->all->n, listed = s->answers < LISTED ? s->answers : LISTED;
    double all = (double)s->all->n / 100;
    for (int i = 0; i < BARS; i++) most = s->bar[i] > most ? s->bar[i] : most;
    printf("\n%15s %9s\n", "tokens", s->rows->n ? "rows" : "windows");
    for (size_t i = 0; i <= s->all->longest / s->width; i++)
        printf("%6zu .. %5zu %9zu %.*s\n", i * s->width, (i + 1) * s->width - 1, s->bar[i],
               (int)((50 * s->bar[i] + most - 1) / most), bars);
    if (s->few) printf("\n%9s %7s  answer\n", "rows", "share");
    for (size_t i = 0; s->few && i < listed; rest -= s->label[i++].n) {
        const char *answer = s->rows->row[s->label[i].row].output;
        printf("%9" PRIu32 " %5.1f %%  ", s->label[i].n, s->label[i].n / all);
        show(stdout, answer, strlen(answer), 60);
        putchar('\n');
    }
    if (s->few && rest) printf("%9zu %5.1f %%  %zu others\n", rest, (double)rest / all, s->answers - listed);
    if (s->rows->n)
        printf("\n%7s  words in a row:  of 1,000 words  most frequent beginning\n"
               "%7s  mean, deviation  different, pairs\n", "", "");
    for (int k = 0; s->rows->n && k < 2; k++) {
        const Variety *v = &s->variety[k];
        const char *text[2];
        row_texts(&s->rows->row[v->opens], k, v->shared, text);
        printf("%7s %6.1f %9.1f %9.2f %6.2f  %5.1f %% ", k ? "answers" : "prompts", v->words,
               v->words * v->spread, v->ones, v->twos, 100 * v->opening);
        const char *begins = *text[0] ? text[0] : text[1];
        show(stdout, begins, strlen(begins), 26);
        putchar('\n');
    }
    putchar('\n');
}

static void print_verdict(FILE *to, const Survey *s) {
    size_t n = s->all->n;
    int signs = 0;
    if (s->few) {
        const char *answer = s->rows->row[s->label->row].output;
        fprintf(to, "  %zu different answers; always '", s->answers);
        show(to, answer, strlen(answer), 24);
        fprintf(to, "' would be right in %.1f %%\n", 100 * s->label->n / (double)n);
    }
    fputs("  verdict: ", to);
    for (int k = 0, named; n >= FEW_ROWS && k < (s->few ? 1 : 2); k++)
        for (int i = named = 0; i < SIGNS; i++) {
            double x;
            memcpy(&x, (const char *)&s->variety[k] + SIGN[i].where, sizeof x);
            if (SIGN[i].above ? x <= SIGN[i].limit : x >= SIGN[i].limit) continue;
            if (signs++ == 0) fputs("homogeneous, as if generated", to);
            if (named++ == 0) fprintf(to, "\n           %s: ", k ? "answers" : "prompts");
            fprintf(to, "%s%s", named > 1 ? ", " : "", SIGN[i].what);
        }
    if (n < FEW_ROWS) fprintf(to, "%zu rows are too few to judge, and soon learned by heart\n", n);
    else if (signs) fputs("\n           good for a form; test on real rows, as those held out flatter\n", to);
    else fputs("varied, as real rows are: what they teach should hold for more\n", to);
}

// What was read of a file, and what was not
static void print_left_out(FILE *to, const Rows *r) {
    if (r->bad) fprintf(to, "  warning: wrong rows of %s left out: %zu, e.g.\n", r->path, r->bad);
    for (const char *line = r->reason; r->bad && *line; line += strspn(line, "\n")) {
        int n = (int)strcspn(line, "\n");
        fprintf(to, "           %.*s\n", n, line);
        line += n;
    }
    if (*r->ignored) fprintf(to, "  not read: %s of %s\n", r->ignored, r->path);
}

void survey_print(const Survey *s, FILE *to, bool full) {
    uint32_t a = s->train->longest, b = s->held->longest;
    fprintf(to,
            "%zu rows: %zu to train on, %zu held out, %zu cut, %zu dropped;%s%zu tokens, %.1f %% of them "
            "taught, longest row %" PRIu32 "\n",
            s->all->rows, s->train->n, s->held->n, s->all->cut, s->all->dropped, full ? "\n  " : " ",
            s->train->tokens, 100.0 * (double)s->train->targets / (double)s->train->tokens, a > b ? a : b);
    if (full) print_tables(s);
    print_left_out(to, s->rows);
    if (s->other) print_left_out(to, s->other);
    print_twins(to, s, &s->twice, false, "with prompt and answer of another");
    print_twins(to, s, &s->reply, false, "with the prompt of another, not its answer");
    print_twins(to, s, &s->near, false, "with nearly the prompt of another");
    print_twins(to, s, &s->leaked, true, "held out with the prompt of a row trained on");
    print_twins(to, s, &s->leaked_near, true, "held out with nearly the prompt of a row trained on");
    if (s->blank) fprintf(to, "  warning: %zu with an answer of white space\n", s->blank);
    if (s->echo) fprintf(to, "  warning: %zu with an answer that repeats the prompt\n", s->echo);
    if (s->answers == 1) fputs("  warning: all rows have the same answer\n", to);
    if (s->rows->n) print_verdict(to, s);
}

void survey_log(const Survey *s, Log *l) {
    char bars[24 * BARS], variety[2][160];
    for (int i = 0, used = 0; i < BARS; i++) used += sprintf(bars + used, "%s%zu", i ? ", " : "", s->bar[i]);
    for (int k = 0; k < 2; k++) {
        const Variety *v = &s->variety[k];
        snprintf(variety[k], sizeof *variety, "{\"words\": %.2f, \"spread\": %.3f, \"different\": %.3f, "
                 "\"pairs\": %.3f, \"beginning\": %.4f}", v->words, v->spread, v->ones, v->twos, v->opening);
    }
    log_line(l, "{\"data\": {\"rows\": %zu, \"train\": %zu, \"held_out\": %zu, \"cut\": %zu, "
             "\"dropped\": %zu, \"bad\": %zu, \"tokens\": %zu, \"targets\": %zu, \"longest\": %" PRIu32 ", "
             "\"bar\": %zu, \"bars\": [%s], \"twice\": %zu, \"other_answer\": %zu, \"near\": %zu, "
             "\"leaked\": %zu, \"leaked_near\": %zu, \"blank\": %zu, \"echo\": %zu, "
             "\"answers\": %zu, \"majority\": %.4f, \"prompt\": %s, \"answer\": %s}}",
             s->all->rows, s->train->n, s->held->n, s->all->cut, s->all->dropped, s->rows->bad,
             s->train->tokens, s->train->targets, s->all->longest, s->width, bars, s->twice.n, s->reply.n,
             s->near.n, s->leaked.n, s->leaked_near.n, s->blank, s->echo, s->answers,
             s->answers ? s->label->n / (double)s->all->n : 0.0, variety[0], variety[1]);
}

// survey.c -- main: what are rows like? ./survey ROWS tells how long they are, which answers they have, how
// varied prompts and answers are, and in plain words what that makes them good for. No model is run.
//
// Read in this order: options -> Survey -> words and variety -> labels -> verdict -> printing -> main.
// Not here on purpose: rows that repeat, contradict or leak, which ./train --check looks for and names.
#include "../model.h"
#include "show.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- options ----------------------------------------------------------------------------------------------

static struct {
    const char *val, *columns, *bad_rows, *model, *template, *log;
    bool help, version;
} opt = {.bad_rows = "stop"};

static Option OPTION[] = {
    TEXT("--val", &opt.val, "FILE", "the held-out rows, to be seen beside them"),
    TEXT("--columns", &opt.columns, "LIST",
         "what the file calls them: \"prompt=question,completion=answer\""),
    TEXT("--bad-rows", &opt.bad_rows, "WHAT", "stop at the first wrong row, or skip them all"),
    TEXT("--model", &opt.model, "FILE", "lengths in its tokens, through its template; otherwise in words"),
    TEXT("--template", &opt.template, "NAME|FILE",
         "alpaca, chatml, llama3, none, plain, or a file; otherwise the checkpoint's own, or plain"),
    TEXT("--log", &opt.log, "FILE", "the same as a line of JSON, for ./report"),
    FLAG("--help", &opt.help, "print this"),
    FLAG("--version", &opt.version, "print the version"),
};
enum { OPTIONS = sizeof OPTION / sizeof OPTION[0] };

static void help(void) {
    printf("survey -- what are rows like? (tune.c %s)\n\n"
           "  ./survey pairs.json                      lengths, labels, variety, a verdict\n"
           "  ./survey pairs.json --model base.bin     lengths in the tokens of a model\n\n"
           "Rows that repeat, contradict or leak: ./train --data pairs.json --check\n\n", TUNE_VERSION);
    options_print(OPTION, OPTIONS);
}

// ---- what is known of a file ------------------------------------------------------------------------------

enum { BARS = 12, LISTED = 20, MOST_LABELS = 200, SHOWN = 60, SHOWN_BYTES = 4 * SHOWN + 9 };
typedef struct { uint64_t hash; uint32_t row, n; } Label;    // an answer; the first of n rows that have it
typedef struct {                      // of the prompts, or of the answers
    double words, spread;             // in a row, on average; their standard deviation, in such averages
    double pairs;                     // different pairs of neighbours among 1,000 words of random rows
} Variety;
typedef struct {
    Rows rows;
    size_t *length;                   // (n) words, or tokens
    size_t longest, tokens, targets;  // tokens, targets: of all rows, with --model
    size_t beyond;                    // rows that are longer than the model's context
    size_t bar[BARS], width;          // rows of up to width - 1, 2 width - 1, ...
    Label *label;                     // (n) the different answers, the most frequent first
    size_t answers;                   // how many these are
    bool few;                         // and they are labels
    Variety variety[2];               // of prompts, of answers
    char verdict[400];
} Survey;
static const char *const SIDE[] = {"prompts", "answers"};

// ---- words ------------------------------------------------------------------------------------------------

enum { WORD_BYTES = 64, SEGMENT = 1000, SLOTS = 4096 };

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

static size_t words_of(const Row *row) {
    char word[WORD_BYTES];
    size_t n = 0;
    for (size_t i = 0; i < row->turns; i++) {
        const char *text[] = {row->turn[i].text, row->turn[i].input};
        for (int k = 0; k < 2; k++)
            while (word_next(&text[k], word)) n++;
    }
    return n;
}

// ---- variety ----------------------------------------------------------------------------------------------

// The last turn before the answer
static const Turn *asked(const Row *row) { return &row->turn[row->turns - 2]; }

// How many bytes these turns of all rows begin with: an instruction given with every row, which is left out
static size_t shared_prefix(const Rows *r) {
    const char *first = asked(r->row)->text;
    size_t n = strlen(first);
    for (size_t i = 0; i < r->n; i++) {
        const char *text = asked(&r->row[i])->text;
        size_t k = 0;
        while (k < n && text[k] == first[k]) k++;
        n = k;
    }
    return n;
}

// Is the hash new among far fewer than SLOTS?
static bool seen_first(uint64_t *slot, uint64_t hash) {
    size_t i = (hash |= 1) % SLOTS;
    while (slot[i] && slot[i] != hash) i = (i + 1) % SLOTS;
    bool first = !slot[i];
    slot[i] = hash;
    return first;
}

static int by_hash(const void *a, const void *b) {
    const Label *k = a, *l = b;
    if (k->hash != l->hash) return k->hash < l->hash ? -1 : 1;
    return (k->row > l->row) - (k->row < l->row);
}

// Pairs are counted in segments of 1,000 words, since the share of different ones falls with their number: so
// files of any size compare. order (n): scratch.
static void variety(Variety *v, const Rows *r, bool answers, Label *order) {
    static uint64_t slot[SLOTS];
    size_t all = 0, shared = answers ? 0 : shared_prefix(r);
    double squares = 0.0, n = (double)r->n;
    for (size_t i = 0; i < r->n; i++) order[i] = (Label){hash_number(i, 1), (uint32_t)i, 1};
    qsort(order, r->n, sizeof *order, by_hash);   // a random one
    for (size_t i = 0; i < r->n; i++) {
        const Row *row = &r->row[order[i].row];
        const char *text[] = {answers ? row->output : asked(row)->text + shared,
                              answers ? "" : asked(row)->input};
        char word[WORD_BYTES];
        uint64_t before = 0;
        size_t first = all;
        for (int k = 0; k < 2; k++)
            for (size_t bytes; (bytes = word_next(&text[k], word)) > 0; all++) {
                uint64_t h = hash64(word, bytes, 0);
                if (all % SEGMENT == 0) memset(slot, 0, sizeof slot);
                v->pairs += seen_first(slot, hash_number(h, before));      // the first word's is with nothing
                before = h;
            }
        squares += (double)(all - first) * (double)(all - first);
    }
    if (all == 0) return;
    v->pairs /= (double)all;
    v->words = (double)all / n;
    v->spread = sqrt(fmax(squares / n - v->words * v->words, 0.0)) / v->words;
}

// ---- labels -----------------------------------------------------------------------------------------------

static int by_number(const void *a, const void *b) {
    const Label *k = a, *l = b;
    return k->n != l->n ? (k->n < l->n) - (k->n > l->n) : (k->row > l->row) - (k->row < l->row);
}

static void find_labels(Survey *s) {
    size_t n = s->rows.n;
    for (size_t i = 0; i < n; i++) {
        const char *answer = s->rows.row[i].output;
        s->label[i] = (Label){hash64(answer, strlen(answer), 0), (uint32_t)i, 1};
    }
    qsort(s->label, n, sizeof *s->label, by_hash);
    for (size_t i = 0; i < n; i++) {              // equal ones become one
        if (i > 0 && s->label[s->answers - 1].hash == s->label[i].hash) s->label[s->answers - 1].n++;
        else s->label[s->answers++] = s->label[i];
    }
    qsort(s->label, s->answers, sizeof *s->label, by_number);
    s->few = s->answers <= MOST_LABELS && s->answers * 5 <= n;
}

// The answer in one line of at most 60 columns
static void label_text(char out[SHOWN_BYTES], const Survey *s, const Label *l) {
    const char *answer = s->rows.row[l->row].output;
    show_excerpt(out, SHOWN_BYTES, answer, strlen(answer), 0, SHOWN);
}

// ---- verdict ----------------------------------------------------------------------------------------------

// Signs of rows that came out of one mould; what the limits divide is in dev/DESIGN.md, section 7.
static const char *signs_of(const Variety *v) {
    bool repeats = v->pairs < 0.7, even = v->spread < 0.2;
    return repeats && even ? "repeat phrases and are of one length" : repeats ? "repeat phrases"
           : even ? "are of one length" : NULL;
}

static void judge(Survey *s) {
    enum { FEW_ROWS = 50 };                       // of which nothing can be said
    const char *prompts = signs_of(&s->variety[0]), *answers = s->few ? NULL : signs_of(&s->variety[1]);
    if (s->rows.n < FEW_ROWS)
        snprintf(s->verdict, sizeof s->verdict, "%zu rows are too few to judge, and soon learned by heart.",
                 s->rows.n);
    else if (!prompts && !answers)
        snprintf(s->verdict, sizeof s->verdict,
                 "varied, as real rows are: what they teach should hold for more.");
    else
        snprintf(s->verdict, sizeof s->verdict, "homogeneous, as if generated: %s%s%s%s%s. Good for a form; "
                 "test on real rows, as those held out flatter.", prompts ? "the prompts " : "",
                 prompts ? prompts : "", prompts && answers ? ", " : "", answers ? "the answers " : "",
                 answers ? answers : "");
}

// ---- a file -----------------------------------------------------------------------------------------------

static int load(Survey *s, const char *path, Err *e) {
    const RowsHow how = {true, !strcmp(opt.bad_rows, "skip"), opt.columns};
    if (rows_load(&s->rows, path, &how, e)) return -1;
    s->length = calloc(s->rows.n, sizeof *s->length);
    s->label = calloc(s->rows.n, sizeof *s->label);
    return s->length && s->label ? 0 : err_set(e, "no memory for a survey of %zu rows", s->rows.n);
}

static int lengths_in_tokens(Survey *s, const Checkpoint *k, const char *template, Err *e) {
    Examples x;
    if (examples_make(&x, &s->rows, template, &k->tok, INT32_MAX, TOO_LONG_REFUSE, TEACH_ANSWERS, e))
        return -1;
    for (size_t i = 0; i < x.n; i++) {
        s->length[x.ex[i].row] = x.ex[i].len;
        s->beyond += x.ex[i].len > (uint32_t)k->cfg.context + 1;
    }
    s->tokens = x.tokens;
    s->targets = x.targets;
    examples_free(&x);
    return 0;
}

// The lengths are there already.
static void look(Survey *s) {
    size_t n = s->rows.n;
    for (size_t i = 0; i < n; i++)
        if (s->length[i] > s->longest) s->longest = s->length[i];
    s->width = 1;
    for (int i = 0; s->longest / s->width >= BARS; i++) s->width = s->width * (i % 3 == 1 ? 5 : 4) / 2;
    for (size_t i = 0; i < n; i++) s->bar[s->length[i] / s->width]++;
    for (int k = 0; k < 2; k++) variety(&s->variety[k], &s->rows, k, s->label);
    find_labels(s);
    judge(s);
}

static void survey_free(Survey *s) {
    free(s->length);
    free(s->label);
    rows_free(&s->rows);
}

// ---- printing ---------------------------------------------------------------------------------------------

static void print_lengths(const Survey *s) {
    static const char bars[] = "##################################################";
    size_t most = 1;
    for (int i = 0; i < BARS; i++) most = s->bar[i] > most ? s->bar[i] : most;
    printf("\n%15s %9s\n", opt.model ? "tokens" : "words", "rows");
    for (size_t i = 0; i <= s->longest / s->width; i++)
        printf("%6zu .. %5zu %9zu %.*s\n", i * s->width, (i + 1) * s->width - 1, s->bar[i],
               (int)((50 * s->bar[i] + most - 1) / most), bars);
    if (opt.model)
        printf("%zu tokens, %.1f %% of them taught; %zu rows are longer than the model's context\n",
               s->tokens, 100.0 * (double)s->targets / (double)s->tokens, s->beyond);
}

static void print_labels(const Survey *s) {
    size_t rest = s->rows.n, listed = s->answers < LISTED ? s->answers : LISTED;
    double percent = 100.0 / (double)s->rows.n;
    char text[SHOWN_BYTES];
    printf("\n%9s %7s  answer\n", "rows", "share");
    for (const Label *l = s->label; l < s->label + listed; l++) {
        label_text(text, s, l);
        printf("%9" PRIu32 " %5.1f %%  %s\n", l->n, l->n * percent, text);
        rest -= l->n;
    }
    if (rest) printf("%9zu %5.1f %%  %zu others\n", rest, (double)rest * percent, s->answers - listed);
}

static void print_survey(const Survey *s) {
    const Rows *r = &s->rows;
    printf("%s: %zu rows, %zu different answers\n", r->path, r->n, s->answers);
    if (r->bad) printf("wrong rows left out: %zu, e.g.\n%s\n", r->bad, r->reason);
    if (*r->ignored) printf("not read: %s\n", r->ignored);
    print_lengths(s);
    if (s->few) print_labels(s);
    putchar('\n');
    for (int k = 0; k < 2; k++)
        printf("%s: %.1f words a row, deviation %.1f; of 1,000 pairs of words %.0f differ\n", SIDE[k],
               s->variety[k].words, s->variety[k].words * s->variety[k].spread, 1000.0 * s->variety[k].pairs);
    printf("\nverdict\n");
    show_wrapped(stdout, s->verdict, strlen(s->verdict), 2, 80);
}

// Held-out labels that no row to train on has: no training could teach them.
static void print_unknown(const Survey *s, const Survey *held) {
    char text[SHOWN_BYTES];
    for (size_t i = 0; i < held->answers && s->few; i++) {
        size_t k = 0;
        while (k < s->answers && s->label[k].hash != held->label[i].hash) k++;
        if (k < s->answers) continue;
        label_text(text, held, &held->label[i]);
        printf("warning: %" PRIu32 " rows of %s have an answer that no row of %s has: %s\n", held->label[i].n,
               held->rows.path, s->rows.path, text);
    }
}

// ---- log --------------------------------------------------------------------------------------------------

// The labels as a list of [text, rows], 20 at most, into out; an excerpt doubles at most when it is quoted.
enum { LABELS_BYTES = LISTED * (2 * SHOWN_BYTES + 40) };
static int quote_labels(char out[LABELS_BYTES], const Survey *s, Err *e) {
    size_t at = 0;
    out[0] = 0;
    for (size_t i = 0; i < s->answers && i < LISTED && s->few; i++) {
        char text[SHOWN_BYTES];
        label_text(text, s, &s->label[i]);
        char *quoted = json_quote(text, strlen(text));
        if (!quoted) return err_set(e, "no memory for a label");
        at += (size_t)snprintf(out + at, LABELS_BYTES - at, "%s[%s, %" PRIu32 "]", i ? ", " : "", quoted,
                               s->label[i].n);
        free(quoted);
    }
    return 0;
}

static int write_log(const Survey *s, Err *e) {
    static char labels[LABELS_BYTES];
    const Variety *v = s->variety;
    char bars[BARS * 24];
    size_t at = 0;
    Log *log = NULL;
    char *path = json_quote(s->rows.path, strlen(s->rows.path));
    if (!path || quote_labels(labels, s, e) || log_open(&log, opt.log, false, e)) {
        free(path);
        return path ? -1 : err_set(e, "no memory for a path");
    }
    for (int i = 0; i < BARS; i++)
        at += (size_t)snprintf(bars + at, sizeof bars - at, "%s%zu", i ? ", " : "", s->bar[i]);
    log_line(log, "{\"survey\": %s, \"data\": {\"rows\": %zu, \"bad\": %zu, \"%s\": %zu, \"unit\": \"%s\", "
             "\"bar\": %zu, \"bars\": [%s], \"answers\": %zu, \"majority\": %.4f, \"labels\": [%s], "
             "\"prompt\": {\"words\": %.2f, \"spread\": %.3f, \"pairs\": %.3f}, "
             "\"answer\": {\"words\": %.2f, \"spread\": %.3f, \"pairs\": %.3f}, \"verdict\": \"%s\"}}", path,
             s->rows.n, s->rows.bad, opt.model ? "longest" : "longest_words", s->longest,
             opt.model ? "tokens" : "words", s->width, bars, s->answers,
             s->label->n / (double)s->rows.n, labels, v[0].words, v[0].spread, v[0].pairs, v[1].words,
             v[1].spread, v[1].pairs, s->verdict);
    free(path);
    return log_close(log, e);
}

// ---- the program ------------------------------------------------------------------------------------------

// Both files in words, or in the tokens of the model
static int load_all(Survey *s, int files, const char *const *path, Err *e) {
    Checkpoint k = {.path = NULL};
    char *template = NULL;
    int rc = opt.model && (checkpoint_open(&k, opt.model, NULL, e) ||
                           template_choose(opt.template, &k, &template, e)) ? -1 : 0;
    for (int i = 0; i < files && rc == 0; i++) {
        rc = load(&s[i], path[i], e);
        for (size_t r = 0; r < s[i].rows.n && rc == 0 && !opt.model; r++)
            s[i].length[r] = words_of(&s[i].rows.row[r]);
        if (rc == 0 && opt.model) rc = lengths_in_tokens(&s[i], &k, template, e);
        if (rc == 0) look(&s[i]);
    }
    free(template);
    if (opt.model) checkpoint_close(&k);
    return rc;
}

static int survey(const char *path, Err *e) {
    const char *paths[] = {path, opt.val};
    Survey s[2] = {{.width = 0}, {.width = 0}};
    int files = opt.val ? 2 : 1, rc = load_all(s, files, paths, e);
    for (int i = 0; i < files && rc == 0; i++) {
        if (i > 0) putchar('\n');
        print_survey(&s[i]);
    }
    if (rc == 0 && opt.val) print_unknown(&s[0], &s[1]);
    if (rc == 0) puts("\nrows that repeat, contradict or leak: ./train --check");
    if (rc == 0 && opt.log) rc = write_log(&s[0], e);
    for (int i = 0; i < 2; i++) survey_free(&s[i]);
    return rc;
}

static int check_options(int words, Err *e) {
    if (words != 1) return err_set(e, "want one file of rows\nhint: ./survey --help");
    if (strcmp(opt.bad_rows, "stop") && strcmp(opt.bad_rows, "skip"))
        return err_set(e, "--bad-rows: '%s', want stop or skip", opt.bad_rows);
    return opt.template && !opt.model ? err_set(e, "--template says how a --model's tokens come about") : 0;
}

int main(int argc, char **argv) {
    Err e;
    const char *path = NULL;
    int words = 0, rc = options_parse(OPTION, OPTIONS, argc, argv, &path, 1, &words, &e);
    if (!rc && (opt.help || opt.version)) {
        if (opt.help) help();
        else printf("tune.c %s\n", TUNE_VERSION);
        return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
    }
    if (!rc) rc = check_options(words, &e);
    if (!rc && opt.log && (same_file(opt.log, path) || (opt.val && same_file(opt.log, opt.val)) ||
                           (opt.model && same_file(opt.log, opt.model))))
        rc = err_set(&e, "%s: is read as well, want another file for --log", opt.log);
    if (!rc) rc = survey(path, &e);
    if (!rc && fflush(stdout)) rc = err_set(&e, "cannot write to stdout");
    if (rc) fprintf(stderr, "survey: %s\n", e.msg);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

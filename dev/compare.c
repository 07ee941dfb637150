// compare.c -- main: which of two models' answers does a person prefer? Blind: which model an answer is from,
// left or right, is drawn for each question, as is the order of questions, and said only at the end.
//
// Read in this order: Pair -> load: the two logs of ./eval answers --log -> judgements: what was decided
// before -> ask, session -> exact: the interval -> results -> main.
//
// Invariants. Each judgement is on disk before the next question. A file of judgements names the two logs by
// SHA-256 and the seed of the draw, so that it goes on exactly where it stopped, and with nothing else.
// Not here on purpose: raw key presses, which need more than C; a key and Return do in any terminal.
#include "../model.h"
#include "show.h"
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 1 << 30, WIDTH = 80 };
enum { FEW = 20 };                    // nothing is claimed from fewer judgements

// ---- options ----------------------------------------------------------------------------------------------

static struct {
    const char *log;
    int64_t seed;
    bool reference, results, help, version;
} opt = {.log = "judgements.jsonl", .seed = -1};

static Option OPTION[] = {
    TEXT("--log", &opt.log, "FILE", "judgements, each added as it is made; a second run goes on with them"),
    INT("--seed", &opt.seed, 0, 1e15, "N",
        "of the order of questions and of left and right; otherwise that of the judgements so far, or 1"),
    FLAG("--reference", &opt.reference, "show the reference answer as well"),
    FLAG("--results", &opt.results, "count what was judged so far, and ask nothing"),
    FLAG("--help", &opt.help, "print this"),
    FLAG("--version", &opt.version, "print the version"),
};
enum { OPTIONS = sizeof OPTION / sizeof OPTION[0] };

static const char KEYS[] = "1 left is better, 2 right, t tie, s skip, u undo, q quit";

static void help(void) {
    printf("compare -- which of two models' answers do you prefer? (tune.c %s)\n\n"
           "  ./compare a.jsonl b.jsonl            logs of ./eval answers --log, same rows\n"
           "  ./compare both.jsonl                 one log, of ./eval answers --vs\n"
           "  ./compare a.jsonl b.jsonl --results\n\n",
           TUNE_VERSION);
    options_print(OPTION, OPTIONS);
    printf("\nEach question is shown with both answers; which model is left and which right\n"
           "is drawn anew each time. A key and Return say what you think:\n  %s.\n"
           "Equal answers are not asked about. Which is which is told when all is judged,\n"
           "or by --results, after which you no longer judge blindly.\n\n"
           "The interval is Clopper and Pearson's (1934), 95 %%: from the share of wins at\n"
           "which so many or more have probability 0.025 to that at which so few or fewer\n"
           "have. Ties, skipped and equal answers are not in it.\n", KEYS);
}

// ---- questions --------------------------------------------------------------------------------------------

typedef enum { OPEN, FIRST, SECOND, TIE, SKIP, CHOICES } Choice;
static const char *const CHOICE[CHOICES] = {"undo", "a", "b", "tie", "skip"};

typedef struct {
    const char *ask, *input, *reference, *answer[2];
    uint32_t line;
    bool equal, swapped;              // swapped: the second file's answer is on the left
    Choice choice;
} Pair;

typedef struct {
    const char *name[2];              // of the two sides in messages
    const char *path[2];
    char sha[2][65];
    Json j[2];
    Pair *pair;
    size_t *order, *judged;           // (pairs) in which they are asked; those that were judged, oldest first
    size_t pairs, asked, done;        // asked: not equal; done: judged or skipped
    Log *log;
    int files;
} Compare;

// A 0 byte would end the text: it becomes another control character, and is shown as '?'.
static const char *text_of(const Json *j, uint32_t object, const char *key) {
    uint32_t at = json_get(j, object, key);
    if (!at || j->node[at].kind != JSON_STRING) return NULL;
    char *text = (char *)j->node[at].text;
    for (size_t i = 0; i < j->node[at].len; i++)
        if (!text[i]) text[i] = 1;
    return text;
}

// What a conversation asked last.
static const char *last_message(const Json *j, uint32_t object) {
    uint32_t list = json_get(j, object, "messages");
    const char *text = NULL, *said;
    if (!list || j->node[list].kind != JSON_ARRAY) return NULL;
    for (uint32_t at = list + 1; at < j->node[list].next; at = j->node[at].next)
        if ((said = text_of(j, at, "content"))) text = said;
    return text;
}

// A line of the log: the question and the answer `key`.
static int pair_read(const Compare *c, int file, uint32_t at, const char *key, Pair *p, const char **answer,
                     Err *e) {
    const Json *j = &c->j[file];
    const char *prompt = text_of(j, at, "prompt");
    p->line = j->node[at].line;
    p->ask = text_of(j, at, "instruction");
    if (!p->ask) p->ask = prompt ? prompt : last_message(j, at);
    p->input = text_of(j, at, "input");
    p->reference = text_of(j, at, "reference");
    *answer = text_of(j, at, key);
    if (!p->input) p->input = "";
    if (p->ask && *answer) return 0;
    return err_set(e, "%s:%" PRIu32 ": has no %s\nhint: want a log of ./eval answers --log%s", c->path[file],
                   p->line, p->ask ? key : "instruction", c->files == 1 ? " --vs, or two logs" : "");
}

static bool same_words(const char *a, const char *b) {        // but for white space around
    static const char SPACE[] = " \t\r\n";
    a += strspn(a, SPACE), b += strspn(b, SPACE);
    size_t n = strlen(a), m = strlen(b);
    while (n > 0 && strchr(SPACE, a[n - 1])) n--;
    while (m > 0 && strchr(SPACE, b[m - 1])) m--;
    return n == m && !memcmp(a, b, n);
}

static int file_load(Compare *c, int i, uint32_t *first, size_t *rows, Err *e) {
    uint8_t *data;
    size_t n;
    *rows = 0;
    if (sha256_file(c->path[i], c->sha[i], e) || file_read(c->path[i], FILE_MAX, &data, &n, e)) return -1;
    int rc = rows_parse(&c->j[i], first, c->path[i], data, n, NULL, e);
    free(data);
    const Json *j = &c->j[i];         // eval's log begins with a line on the run
    if (rc == 0 && *first < j->nodes && json_get(j, *first, "lines")) *first = j->node[*first].next;
    for (uint32_t at = *first; rc == 0 && at < j->nodes; at = j->node[at].next) ++*rows;
    return rc == 0 && *rows == 0 ? err_set(e, "%s: has no rows", c->path[i]) : rc;
}

static int pairs_read(Compare *c, uint32_t at, uint32_t other, Err *e) {
    int second = c->files - 1;
    for (size_t i = 0; i < c->pairs; i++) {
        Pair *p = &c->pair[i], q;
        if (pair_read(c, 0, at, "answer", p, &p->answer[0], e) ||
            pair_read(c, second, other, second ? "answer" : "vs", &q, &p->answer[1], e)) return -1;
        if (strcmp(p->ask, q.ask) || strcmp(p->input, q.input))
            return err_set(e, "%s:%" PRIu32 " and %s:%" PRIu32 ": ask different things", c->path[0], p->line,
                           c->path[second], q.line);
        p->equal = same_words(p->answer[0], p->answer[1]);
        at = c->j[0].node[at].next;
        other = c->j[second].node[other].next;
    }
    return 0;
}

// Sides and order: both depend on the seed and the place in the file alone.
static void draw(Compare *c) {
    Rng r = {(uint64_t)opt.seed};
    for (size_t i = 0; i < c->pairs; i++) {
        c->pair[i].swapped = rng_below(&r, 2) == 1;
        if (!c->pair[i].equal) c->order[c->asked++] = i;
    }
    for (size_t i = c->asked; i > 1; i--) {
        size_t k = (size_t)rng_below(&r, i), was = c->order[i - 1];
        c->order[i - 1] = c->order[k];
        c->order[k] = was;
    }
}

static int load(Compare *c, Err *e) {
    uint32_t first[2] = {0, 0};
    size_t rows[2] = {0, 0};
    for (int i = 0; i < c->files; i++)
        if (file_load(c, i, &first[i], &rows[i], e)) return -1;
    if (c->files == 1) first[1] = first[0], rows[1] = rows[0];
    if (rows[0] != rows[1])
        return err_set(e, "%s has %zu rows, %s %zu: want the same", c->path[0], rows[0], c->path[1], rows[1]);
    c->pairs = rows[0];
    c->pair = calloc(c->pairs + 1, sizeof *c->pair);
    c->order = calloc(c->pairs + 1, sizeof *c->order);
    c->judged = calloc(c->pairs + 1, sizeof *c->judged);
    if (!c->pair || !c->order || !c->judged) return err_set(e, "no memory for %zu rows", c->pairs);
    return pairs_read(c, first[0], first[1], e);
}

// ---- judgements -------------------------------------------------------------------------------------------
// The file's first line names what is compared. Each of the others is a row and a choice; undo takes the last
// choice back.

static int choose(Compare *c, size_t row, Choice choice, const char *where, uint32_t line, Err *e) {
    bool undo = choice == OPEN, fits = row < c->pairs && !c->pair[row].equal;
    if (fits) fits = undo ? c->done > 0 && c->judged[c->done - 1] == row : c->pair[row].choice == OPEN;
    if (!fits)
        return err_set(e, "%s:%" PRIu32 ": row %zu cannot be %s here", where, line, row,
                       undo ? "taken back" : "judged");
    c->pair[row].choice = choice;
    if (undo) c->done--;
    else c->judged[c->done++] = row;
    return 0;
}

static int judgement_read(Compare *c, const Json *j, uint32_t at, Err *e) {
    uint32_t row = json_get(j, at, "row"), line = j->node[at].line;
    const char *name = text_of(j, at, "choice");
    Choice choice = OPEN;
    while (name && choice < CHOICES && strcmp(name, CHOICE[choice])) choice++;
    double n = row && j->node[row].kind == JSON_NUMBER ? j->node[row].number : -1;
    if (!name || choice == CHOICES || !(n >= 0 && n < (double)c->pairs && n == floor(n)))
        return err_set(e, "%s:%" PRIu32 ": is no judgement, want a row from 0 to %zu and a choice", opt.log,
                       line, c->pairs - 1);
    return choose(c, (size_t)n, choice, opt.log, line, e);
}

static int header_check(const Compare *c, const Json *j, Err *e) {
    const char *a = text_of(j, 0, "a"), *b = text_of(j, 0, "b");
    uint32_t seed = json_get(j, 0, "seed");
    double n = seed && j->node[seed].kind == JSON_NUMBER ? j->node[seed].number : -1;
    if (!a || !b || !(n >= 0 && n <= 1e15 && n == floor(n)))
        return err_set(e, "%s:1: is no file of judgements", opt.log);
    if (strcmp(a, c->sha[0]) || strcmp(b, c->sha[1]))
        return err_set(e, "%s: is of other files than %s and %s\nhint: --log ANOTHER", opt.log, c->path[0],
                       c->path[1]);
    if (opt.seed >= 0 && (int64_t)n != opt.seed)
        return err_set(e, "%s: was begun with --seed %.0f", opt.log, n);
    opt.seed = (int64_t)n;
    return 0;
}

// What was judged before, if there is such a file; begun: it has its first line.
static int judgements_load(Compare *c, bool *begun, Err *e) {
    Json j = {0};
    uint8_t *data = NULL;
    size_t n = 0;
    FILE *f = fopen(opt.log, "rb");
    *begun = false;
    if (f) {
        fclose(f);
        if (file_read(opt.log, FILE_MAX, &data, &n, e)) return -1;
    }
    uint32_t at = 0;
    int rc = n > 0 ? rows_parse(&j, &at, opt.log, data, n, NULL, e) : 0;
    if (rc == 0 && j.nodes > 0) rc = at ? err_set(e, "%s:1: is no file of judgements", opt.log)
                                        : header_check(c, &j, e);
    if (opt.seed < 0) opt.seed = 1;
    if (rc == 0) draw(c);
    *begun = j.nodes > 0;
    for (at = j.nodes > 0 ? j.node[0].next : 0; rc == 0 && at < j.nodes; at = j.node[at].next)
        rc = judgement_read(c, &j, at, e);
    json_free(&j);
    free(data);
    return rc;
}

// ---- asking -----------------------------------------------------------------------------------------------

static void rule(const char *title) {
    int n = *title ? printf("-- %s ", title) : 0;
    while (n++ < WIDTH) putchar('-');
    putchar('\n');
}

static void show(const char *title, const char *text) {
    rule(title);
    if (!*text) printf("  (nothing)\n");
    else show_wrapped(stdout, text, strlen(text), 2, WIDTH);
}

static void question(const Compare *c, const Pair *p) {
    char title[64];
    snprintf(title, sizeof title, "question %zu of %zu", c->done + 1, c->asked);
    putchar('\n');
    show(title, *p->ask ? p->ask : p->input);
    if (*p->input && *p->ask) show("input", p->input);
    if (opt.reference && p->reference) show("reference", p->reference);
    show("1: left", p->answer[p->swapped]);
    show("2: right", p->answer[!p->swapped]);
    rule("");
}

// The one character of a line of standard input, in lower case; 0: none, '?': several, EOF: no line.
static int key_read(void) {
    int key = 0, ch;
    while ((ch = getchar()) != EOF && ch != '\n')
        if (!strchr(" \t\r", ch)) key = key ? '?' : tolower(ch);
    return ch == EOF && !key ? EOF : key;
}

static int judge(Compare *c, size_t row, Choice choice, Err *e) {
    if (choose(c, row, choice, opt.log, 0, e)) return -1;
    log_line(c->log, "{\"row\": %zu, \"choice\": \"%s\"}", row, CHOICE[choice]);
    return 0;
}

// One answer to one question; *ended: no more are wanted.
static int ask(Compare *c, size_t row, bool *ended, Err *e) {
    const Pair *p = &c->pair[row];
    for (;;) {
        printf("%s > ", KEYS);
        if (fflush(stdout)) return err_set(e, "standard output cannot be written");
        switch (key_read()) {
        case '1': return judge(c, row, p->swapped ? SECOND : FIRST, e);
        case '2': return judge(c, row, p->swapped ? FIRST : SECOND, e);
        case 't': return judge(c, row, TIE, e);
        case 's': return judge(c, row, SKIP, e);
        case 'u':
            if (c->done > 0) return judge(c, c->judged[c->done - 1], OPEN, e);
            printf("nothing to take back\n");
            break;
        case EOF:
        case 'q': *ended = true; return 0;
        default: printf("one of 1, 2, t, s, u, q and Return\n");
        }
    }
}

// Behind the last question: is its answer to be taken back?
static int last_chance(Compare *c, Err *e) {
    printf("all is judged: Return for the results, u takes the last one back > ");
    if (fflush(stdout)) return err_set(e, "standard output cannot be written");
    return key_read() == 'u' ? judge(c, c->judged[c->done - 1], OPEN, e) : 0;
}

// Asks until all is judged or q. Questions before c->order[next] are judged, but for those taken back.
static int session(Compare *c, bool begun, Err *e) {
    bool ended = false;
    int rc = 0;
    if (log_open(&c->log, opt.log, true, e)) return -1;
    if (!begun)
        log_line(c->log, "{\"compare\": 1, \"a\": \"%s\", \"b\": \"%s\", \"seed\": %" PRId64 "}", c->sha[0],
                 c->sha[1], opt.seed);
    for (size_t next = 0; rc == 0 && !ended && c->done < c->asked;) {
        size_t row = c->order[next], before = c->done;
        if (c->pair[row].choice != OPEN) { next++; continue; }
        question(c, &c->pair[row]);
        rc = ask(c, row, &ended, e);
        if (rc == 0 && c->done == c->asked) rc = last_chance(c, e);
        if (c->done <= before) next = 0;
    }
    Err late;
    if (log_close(c->log, rc ? &late : e)) rc = -1;
    return rc;
}

// ---- results ----------------------------------------------------------------------------------------------

// P(X >= k) of n throws of a coin that wins with probability p, 0 < p < 1. Each term from the one before, in
// logarithms, as (1 - p)^n may be 0.
static double tail(size_t k, size_t n, double p) {
    double term = (double)n * log1p(-p), odds = log(p) - log1p(-p), sum = 0;
    for (size_t i = 0; i <= n; i++) {
        if (i >= k) sum += exp(term);
        term += log((double)(n - i) / (double)(i + 1)) + odds;
    }
    return sum;
}

// The lower end of the exact 95 % interval of k wins in n (Clopper and Pearson, 1934): p with tail(k) =
// 0.025. The upper end is that of the losses, mirrored.
static double exact(size_t k, size_t n) {
    double low = 0.0, high = 1.0;
    if (k == 0) return 0;
    for (int i = 0; i < 60; i++) {
        double middle = 0.5 * (low + high);
        if (tail(k, n, middle) < 0.025) low = middle;
        else high = middle;
    }
    return low;
}

static void conclude(const Compare *c, size_t wins, size_t losses, double low, double high) {
    size_t n = wins + losses;
    if (n < FEW) {
        printf("%zu decided judgements are too few to tell the two apart: want at least %d.\n", n, FEW);
    } else if (low <= 0.5 && high >= 0.5) {
        printf("These %zu decided judgements do not show which of the two is preferred: the\n"
               "first's share of wins may be anything from %.3f to %.3f.\n", n, low, high);
    } else {
        printf("On questions like these this judge prefers the answers of\n  %s:\n"
               "of %zu decided judgements it won %zu; its share of wins is %.3f to %.3f.\n",
               c->name[wins < losses], n,
               wins > losses ? wins : losses, wins > losses ? low : 1 - high, wins > losses ? high : 1 - low);
    }
}

static void results(const Compare *c) {
    size_t n[CHOICES] = {0};
    for (size_t i = 0; i < c->pairs; i++) n[c->pair[i].choice] += !c->pair[i].equal;
    size_t won = n[FIRST] + n[SECOND];
    double low = exact(n[FIRST], won), high = 1 - exact(n[SECOND], won);
    printf("\n%zu rows: %zu with equal answers, not asked about, %zu judged, %zu skipped, %zu open\n",
           c->pairs, c->pairs - c->asked, won + n[TIE], n[SKIP], n[OPEN]);
    for (int i = 0; i < 2; i++) {
        double share = (double)n[FIRST + i] / (double)won, from = i ? 1 - high : low, to = i ? 1 - low : high;
        printf("%-40s %5zu wins", c->name[i], n[FIRST + i]);
        if (won > 0) printf("  %.4f  (%.4f to %.4f)", share, from, to);
        putchar('\n');
    }
    printf("%-40s %5zu\n", "ties", n[TIE]);
    if (won > 0) printf("In parentheses: the exact 95 %% interval of the share of wins, ties left out.\n");
    conclude(c, n[FIRST], n[SECOND], low, high);
}

// ---- main -------------------------------------------------------------------------------------------------

static int check_options(Compare *c, Err *e) {
    if (c->files < 1)
        return err_set(e, "want two logs of answers, or one of ./eval answers --vs\nhint: compare --help");
    for (int i = 0; i < c->files; i++)
        if (same_file(opt.log, c->path[i]))
            return err_set(e, "%s: would be written over, want another file for --log", c->path[i]);
    c->name[0] = c->files == 1 ? "answer" : c->path[0];
    c->name[1] = c->files == 1 ? "vs" : c->path[1];
    return 0;
}

static int compare(Compare *c, Err *e) {
    bool begun;
    if (load(c, e)) return -1;
    if (c->files == 1) c->path[1] = "its vs", strcpy(c->sha[1], c->sha[0]);    // NOLINT(*unix.Malloc): freed
    if (judgements_load(c, &begun, e)) return -1;
    if (opt.results && !begun) return err_set(e, "%s: has no judgements yet", opt.log);
    if (!opt.results && session(c, begun, e)) return -1;
    if (opt.results || c->done == c->asked) results(c);
    else
        printf("\n%zu of %zu judged; the same command goes on. --results tells which is which.\n", c->done,
               c->asked);
    return fflush(stdout) ? err_set(e, "standard output cannot be written") : 0;
}

int main(int argc, char **argv) {
    Compare c;
    Err e = {""};
    memset(&c, 0, sizeof c);
    int rc = options_parse(OPTION, OPTIONS, argc, argv, c.path, 2, &c.files, &e);
    if (!rc && (opt.help || opt.version)) {
        if (opt.help) help();
        else printf("tune.c %s\n", TUNE_VERSION);
        if (fflush(stdout)) rc = err_set(&e, "standard output cannot be written");
    } else if (!rc) {
        rc = check_options(&c, &e) || compare(&c, &e) ? -1 : 0;
    }
    if (rc) fprintf(stderr, "compare: %s\n", e.msg);
    free(c.pair), free(c.order), free(c.judged);
    json_free(&c.j[0]), json_free(&c.j[1]);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

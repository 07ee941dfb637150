// report_scores.c -- sections of ./report's page: answers, what is wrong with them, benchmarks, results.
//
// Read in this order: wilson, mcnemar, paired, what may be said of a share and of two -> tables of shares ->
// for each kind of log its loading, then its tables. Loading is linear in the file; tables' rows are limited.
#include "report.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- statistics -------------------------------------------------------------------------------------------

// Wilson's interval of a share k/n at 95 % (Wilson 1927): unlike the share +- 1.96 standard errors, it does
// not shrink to a point at 0 and 1.
static void wilson(double k, double n, double *low, double *high) {
    const double z = 1.959964;
    double share = k / n, centre = share + z * z / (2 * n), scale = 1 + z * z / n;
    double half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n));
    *low = fmax((centre - half) / scale, 0);
    *high = fmin((centre + half) / scale, 1);
}

// McNemar's exact test: twice the smaller tail of a fair coin thrown b + c times. The terms C(n,i) / 2^n come
// one from the other, in logarithms, as 2^-n alone is 0 from n = 1075 on.
static double mcnemar(size_t b, size_t c) {
    size_t n = b + c, few = b < c ? b : c;
    double term = -(double)n * log(2.0), sum = 0;
    for (size_t i = 0; i <= few; i++) {
        sum += exp(term);
        term += log((double)(n - i) / (double)(i + 1));
    }
    return fmin(2 * sum, 1);
}

// The mean difference of n items, of which b only the first has right and c only the second; half: 1.96 of
// its standard errors. The differences are -1, 0 or 1, so their squares sum to b + c.
static double paired(double b, double c, double n, double *half) {
    double difference = (c - b) / n, squares = b + c - n * difference * difference;
    *half = n > 1 ? 1.96 * sqrt(fmax(squares, 0) / (n - 1) / n) : 0;
    return difference;
}

// ---- tables of shares -------------------------------------------------------------------------------------

// k of n: the share, its interval, a bar
static void put_share(Page *p, size_t k, size_t n, int colour) {
    double low = 0, high = 0, share = n ? (double)k / (double)n : 0;
    if (n) wilson((double)k, (double)n, &low, &high);
    page_put(p, "<td>%.3f <small class=\"soft\">%.3f&ndash;%.3f</small>", share, low, high);
    page_bar(p, share, low, high, colour);
    page_put(p, "</td>");
}

enum { FEW = 20 };                    // nothing is claimed of fewer items

// Cells of a paired comparison, and in words what may be said
static void put_paired(Page *p, size_t b, size_t c, size_t n) {
    double half, difference = paired((double)b, (double)c, (double)n, &half), chance = mcnemar(b, c);
    const char *said = n < FEW ? "too few" : chance >= 0.05 ? "no difference shown"
                       : difference > 0 ? "the second is better" : "the first is better";
    page_put(p, "<td>%s</td><td class=\"n\">%+.3f</td><td class=\"n\">%+.3f to %+.3f</td>"
             "<td class=\"n\">%zu</td><td class=\"n\">%zu</td><td class=\"n\">%.2g</td>", said, difference,
             difference - half, difference + half, b, c, chance);
}

#define PAIRED "||#difference|#95 % interval|#only 1st right|#only 2nd right|#p"
static const char PAIRED_NOTE[] = "<p class=\"soft\">The difference is the second minus the first, with 1.96 "
    "standard errors of the paired items; p is McNemar&#39;s exact test. Intervals of single shares are "
    "Wilson&#39;s, 95&nbsp;%.</p>\n";

// ---- answers ----------------------------------------------------------------------------------------------

enum { LABELS_MAX = 20 };
static const char *const KEY[LINES][LINES] = {{"answer"}, {"answer", "vs"}, {"answer", "shots", "vs"}};

// Bytes of a text without white space at its ends, which begin at *from
static size_t trimmed(const JsonNode *text, const char **from) {
    const char *s = text->text;
    size_t n = text->len;
    while (n > 0 && strchr(" \t\r\n", *s) && *s) {
        s++;
        n--;
    }
    while (n > 0 && strchr(" \t\r\n", s[n - 1]) && s[n - 1]) n--;
    *from = s;
    return n;
}

static bool alike(const JsonNode *a, const JsonNode *b) {
    const char *x, *y;
    size_t n = trimmed(a, &x), m = trimmed(b, &y);
    return n == m && !memcmp(x, y, n);
}

static int answers_row(Answers *a, uint32_t at, size_t i, Err *e) {
    const JsonNode *want, *said, *asked;
    a->row[i] = at;
    if (text_of(a->in, at, "reference", &want, e) || text_of(a->in, at, "instruction", &asked, e) ||
        text_of(a->in, at, "input", &asked, e))
        return -1;
    for (size_t k = 0; k < a->lines; k++) {
        if (text_of(a->in, at, KEY[a->lines - 1][k], &said, e)) return -1;
        a->right[i * a->lines + k] = alike(said, want);
        a->count[k] += a->right[i * a->lines + k];
    }
    return 0;
}

int answers_load(Answers *a, const Input *in, Err *e) {
    size_t i = 0;
    *a = (Answers){.in = in, .n = in->lines - 1};
    const JsonNode *names = member(in, in->first, "lines", JSON_ARRAY);
    if (!names || names->count < 1 || names->count > LINES)
        return wrong(in, in->first, "the names of up to 3 lines", e);
    if (a->n < 1) return wrong(in, in->first, "rows after it", e);
    a->lines = names->count;
    for (size_t k = 0; k < a->lines; k++) {
        a->name[k] = &names[1 + k];
        if (a->name[k]->kind != JSON_STRING) return wrong(in, in->first, "names as texts", e);
    }
    if (count_of(in, in->first, "shots", 1000, &a->shots, e)) return -1;
    a->row = zeroed(a->n, sizeof *a->row, e);
    a->right = zeroed(a->n * a->lines, sizeof *a->right, e);
    if (!a->row || !a->right) return -1;
    for (uint32_t at = in->j.node[in->first].next; at < in->j.nodes; at = in->j.node[at].next)
        if (answers_row(a, at, i++, e)) return -1;
    return 0;
}

void answers_free(Answers *a) {
    free(a->row);
    free(a->right);
}

// "B tuned.bin", and how many examples its prompts have: of three lines the middle one, or the only one
static void put_line(Page *p, const Answers *a, size_t k) {
    page_put(p, "%c ", 'A' + (int)k);
    put_node(p, a->name[k], NAME_SHOWN);
    if (a->shots && ((a->lines == 3 && k == 1) || a->lines == 1))
        page_put(p, " <small class=\"soft\">%zu examples</small>", a->shots);
}

static void scores_table(Page *p, const Answers *a) {
    page_table(p, "full", "model|exact match");
    for (size_t k = 0; k < a->lines; k++) {
        page_put(p, "<tr><th>");
        put_line(p, a, k);
        page_put(p, "</th>");
        put_share(p, a->count[k], a->n, (int)k);
        page_put(p, "</tr>\n");
    }
    page_table_end(p);
}

static void pairs_table(Page *p, const Answers *a) {
    if (a->lines < 2) return;
    page_put(p, "<h3>A/B, paired</h3>");
    page_table(p, "", "1st,&nbsp;2nd" PAIRED);
    for (size_t i = 0; i < a->lines; i++)
        for (size_t k = i + 1; k < a->lines; k++) {
            size_t only[2] = {0, 0};
            for (size_t row = 0; row < a->n; row++) {
                const bool *right = &a->right[row * a->lines];
                if (right[i] != right[k]) only[right[k]]++;
            }
            page_put(p, "<tr><th>%c,&nbsp;%c</th>", 'A' + (int)i, 'A' + (int)k);
            put_paired(p, only[0], only[1], a->n);
            page_put(p, "</tr>\n");
        }
    page_table_end(p);
    page_put(p, "%s", PAIRED_NOTE);
}

// The references, if they are labels: at most LABELS_MAX, each of two rows on average. of (n): which one
static size_t labels_find(const Answers *a, const JsonNode **label, size_t *of) {
    size_t labels = 0;
    for (size_t i = 0; i < a->n; i++) {
        const JsonNode *want = member(a->in, a->row[i], "reference", JSON_STRING);
        size_t k = 0;
        while (k < labels && !alike(label[k], want)) k++;
        if (k == LABELS_MAX) return 0;
        if (k == labels) label[labels++] = want;
        of[i] = k;
    }
    return labels <= a->n / 2 ? labels : 0;
}

// The first and the last line, label by label
static int labels_table(Page *p, const Answers *a, Err *e) {
    const JsonNode *label[LABELS_MAX];
    size_t *of = zeroed(a->n, sizeof *of, e), labels = of ? labels_find(a, label, of) : 0;
    size_t each = a->lines > 1 ? a->lines - 1 : 1;
    if (labels) {
        page_put(p, "<h3>By label</h3>");
        page_table(p, "full", a->lines == 1 ? "reference|#rows|A" : a->lines == 2 ? "reference|#rows|A|B"
                   : "reference|#rows|A|C");
    }
    for (size_t l = 0; l < labels; l++) {
        size_t n = 0, right[LINES] = {0};
        for (size_t i = 0; i < a->n; i++) {
            if (of[i] != l) continue;
            n++;
            for (size_t k = 0; k < a->lines; k++) right[k] += a->right[i * a->lines + k];
        }
        put_head(p, label[l]);
        page_cell(p, (double)n);
        for (size_t k = 0; k < a->lines; k += each) put_share(p, right[k], n, (int)k);
        page_put(p, "</tr>\n");
    }
    if (labels) page_table_end(p);
    free(of);
    return of ? 0 : -1;
}

static void put_row(Page *p, const Answers *a, size_t i) {
    static const char *const ASKED[] = {"instruction", "input", "reference"};
    page_put(p, "<article class=\"row\"><dl>");
    for (int k = 0; k < 3; k++) {
        const JsonNode *text = member(a->in, a->row[i], ASKED[k], JSON_STRING);
        if (text->len == 0) continue;
        page_put(p, "<dt>%s</dt><dd dir=\"auto\">", ASKED[k]);
        put_node(p, text, TEXT_SHOWN);
        page_put(p, "</dd>");
    }
    for (size_t k = 0; k < a->lines; k++) {
        bool right = a->right[i * a->lines + k];
        page_put(p, "<dt><b class=\"%s\">%s</b> ", right ? "right" : "wrong", right ? "&check;" : "&cross;");
        put_line(p, a, k);
        page_put(p, "</dt><dd dir=\"auto\">");
        put_node(p, member(a->in, a->row[i], KEY[a->lines - 1][k], JSON_STRING), TEXT_SHOWN);
        page_put(p, "</dd>");
    }
    page_put(p, "</dl></article>\n");
}

// Rows side by side, by what became of them from the first line to the last: what was lost comes first, as
// means hide it. As many as the page has room for.
void rows_section(Page *p, const Answers *a, size_t end) {
    static const struct { bool first, last; size_t most; const char *says; } FATE[] = {
        {true, false, 12, "Lost: only the first is right"}, {false, true, 8, "Won: only the last is right"},
        {false, false, 12, "Wrong in both"}, {true, true, 4, "Right in both"}};
    static const char *const ALONE[] = {"Right", "Wrong"};
    page_put(p, "<section id=\"rows\"><h2>Answers side by side</h2>\n");
    for (int f = 0; f < 4; f++) {
        size_t all = 0, shown = 0;
        if (a->lines == 1 && FATE[f].first != FATE[f].last) continue;
        for (size_t i = 0; i < a->n; i++) {
            const bool *right = &a->right[i * a->lines];
            all += right[0] == FATE[f].first && right[a->lines - 1] == FATE[f].last;
        }
        page_put(p, "<h3>%s, %zu of %zu rows</h3>\n", a->lines == 1 ? ALONE[!FATE[f].last] : FATE[f].says,
                 all, a->n);
        for (size_t i = 0; i < a->n && shown < FATE[f].most && p->n < end; i++) {
            const bool *right = &a->right[i * a->lines];
            if (right[0] != FATE[f].first || right[a->lines - 1] != FATE[f].last) continue;
            put_row(p, a, i);
            shown++;
        }
        if (shown < all) page_put(p, "<p class=\"soft\">and %zu more, in the log</p>\n", all - shown);
    }
    page_put(p, "</section>\n");
}

int answers_section(Page *p, const Answers *a, Err *e) {
    page_put(p, "<section id=\"answers\"><h2>Answers</h2><p>%zu rows of ", a->n);
    put_string(p, a->in->path);
    page_put(p, "; an answer is right if it is the reference, but for white space at its ends.</p>\n");
    scores_table(p, a);
    pairs_table(p, a);
    if (labels_table(p, a, e)) return -1;
    page_put(p, "</section>\n");
    return 0;
}

// ---- errors -----------------------------------------------------------------------------------------------

enum { ERROR_LINES = 6, KINDS_MAX = 16, SCORES = 4 };
static const struct { const char *key, *error; } SCORE[SCORES] = {
    {"exact_match", "exact_match_error"}, {"normalised", "normalised_error"}, {"f1", "f1_error"},
    {"rouge_l", "rouge_l_error"}};

// Scores with 1.96 standard errors, of a line or of a difference; of a single row there is no error.
static int put_scores(Page *p, const Input *in, uint32_t at, bool sign, Err *e) {
    for (int s = 0; s < SCORES; s++) {
        double mean, error = 0;
        if (number_of(in, at, SCORE[s].key, &mean, e)) return -1;
        if (!member(in, at, SCORE[s].error, JSON_NULL) && number_of(in, at, SCORE[s].error, &error, e))
            return -1;
        page_put(p, "<td class=\"n\">%s%.3f &plusmn;%.3f</td>", sign && mean >= 0 ? "+" : "", mean,
                 1.96 * error);
    }
    return 0;
}

static int error_scores(Page *p, const Input *in, const uint32_t *line, size_t lines, Err *e) {
    page_table(p, "", "model|#exact match|#normalised|#F1|#ROUGE-L");
    for (uint32_t at = in->first, k = 0; at < in->j.nodes; at = in->j.node[at].next, k++) {
        size_t a = 0, b = 0;
        page_put(p, "<tr><th>");
        if (k < lines) {
            page_put(p, "%c ", 'A' + (int)k);
            put_node(p, member(in, line[k], "name", JSON_STRING), NAME_SHOWN);
        } else {
            if (count_of(in, at, "first", ERROR_LINES - 1, &a, e) ||
                count_of(in, at, "second", ERROR_LINES - 1, &b, e)) return -1;
            page_put(p, "%c &minus; %c", 'A' + (int)b, 'A' + (int)a);
        }
        page_put(p, "</th>");
        if (put_scores(p, in, at, k >= lines, e)) return -1;
        page_put(p, "</tr>\n");
    }
    page_table_end(p);
    page_put(p, "<p class=\"soft\">&plusmn;: 1.96 standard errors.</p>\n");
    return 0;
}

static int error_kinds(Page *p, const Input *in, const uint32_t *line, size_t lines, Err *e) {
    const JsonNode *kinds = member(in, line[0], "errors", JSON_OBJECT);
    uint32_t at = kinds ? index_of(in, kinds) + 1 : 0;
    if (!kinds || kinds->count > KINDS_MAX) return wrong(in, line[0], "errors of up to 16 kinds", e);
    static const char COLUMNS[] = "answers that are|A|B|C|D|E|F";
    char columns[sizeof COLUMNS];
    snprintf(columns, sizeof columns, "%.*s", (int)(sizeof COLUMNS - 1 - 2 * (ERROR_LINES - lines)), COLUMNS);
    page_table(p, "full", columns);
    for (uint32_t i = 0; i < kinds->count; i++, at = in->j.node[at + 1].next) {
        const JsonNode *name = &in->j.node[at];
        put_head(p, name);
        for (size_t k = 0; k < lines; k++) {
            const JsonNode *mine = member(in, line[k], "errors", JSON_OBJECT);
            size_t rows, n;
            if (!mine) return wrong(in, line[k], "errors", e);
            if (count_of(in, line[k], "rows", 1e9, &rows, e) ||
                count_of(in, index_of(in, mine), name->text, (double)rows, &n, e)) return -1;
            page_put(p, "<td>%zu", n);
            page_bar(p, rows ? (double)n / (double)rows : 0, 0, 0, (int)k);
            page_put(p, "</td>");
        }
        page_put(p, "</tr>\n");
    }
    page_table_end(p);
    return 0;
}

int errors_section(Page *p, const Input *in, Err *e) {
    uint32_t line[ERROR_LINES] = {0};
    size_t lines = 0;
    const JsonNode *name;
    for (uint32_t at = in->first; at < in->j.nodes && has(in, at, "line"); at = in->j.node[at].next) {
        if (lines == ERROR_LINES) return wrong(in, at, "no more than 6 models", e);
        if (text_of(in, at, "name", &name, e)) return -1;
        line[lines++] = at;
    }
    page_put(p, "<section id=\"errors\"><h2>Errors</h2><p>What is wrong with the answers, counted from their "
             "texts; an answer may be of several kinds.</p>\n");
    if (error_scores(p, in, line, lines, e) || error_kinds(p, in, line, lines, e)) return -1;
    page_put(p, "</section>\n");
    return 0;
}

// ---- benchmarks, question by question ---------------------------------------------------------------------

enum { TASKS_MAX = 32, GROUPS_MAX = 128, GROUPS_SHOWN = 80, FLIPS_SHOWN = 40 };
typedef struct { const char *name; size_t n[2], right[2]; } Group;
struct Task {
    const JsonNode *name;
    uint32_t at;                      // its line of conditions
    size_t n, next[2];                // questions; that the log has of each model
    bool *right;                      // (n) by the first model
    size_t *only[2];                  // (n) questions that just one has right, flips[k] of them
    size_t flips[2], all[2];          // all: right ones of each model
    Group group[GROUPS_MAX];
    size_t groups;
};

static int task_take(Items *b, uint32_t at, size_t *left, Err *e) {
    const Input *in = b->in;
    const JsonNode *vs;
    if (b->tasks == TASKS_MAX) return wrong(in, at, "no more than 32 tasks", e);
    Task *t = &b->task[b->tasks];
    // a task of more questions than the log has lines is cut short by what the log can hold
    if (text_of(in, at, "task", &t->name, e) || text_of(in, at, "vs", &vs, e) ||
        count_of(in, at, "n", 1e9, &t->n, e)) return -1;
    if (vs->len > 0) b->models = 2;
    if (t->n > *left) t->n = *left;
    *left -= t->n;
    t->at = at;
    t->right = zeroed(t->n, sizeof *t->right, e);
    t->only[0] = zeroed(t->n, sizeof **t->only, e);
    t->only[1] = zeroed(t->n, sizeof **t->only, e);
    b->tasks++;
    return t->right && t->only[0] && t->only[1] ? 0 : -1;
}

static Group *group_find(Task *t, const char *name) {
    size_t k = t->groups;
    while (k > 0 && strcmp(t->group[k - 1].name, name)) k--;         // questions come group by group
    if (k > 0) return &t->group[k - 1];
    if (t->groups == GROUPS_MAX) return NULL;
    t->group[t->groups].name = name;
    return &t->group[t->groups++];
}

static int item_take(Items *b, uint32_t at, Err *e) {
    const Input *in = b->in;
    const JsonNode *name, *group;
    size_t model, item, predicted, gold, k = 0;
    if (text_of(in, at, "task", &name, e) || text_of(in, at, "group", &group, e) ||
        count_of(in, at, "model", 1, &model, e) || count_of(in, at, "item", 1e9, &item, e) ||
        count_of(in, at, "pred", 1e6, &predicted, e) || count_of(in, at, "gold", 1e6, &gold, e)) return -1;
    while (k < b->tasks && strcmp(b->task[k].name->text, name->text)) k++;
    if (k == b->tasks) return wrong(in, at, "a task that the log begins with", e);
    Task *t = &b->task[k];
    if (item >= t->n || item != t->next[model] || model >= b->models)
        return wrong(in, at, "each model's questions in order", e);
    Group *g = group_find(t, group->text);
    if (!g) return wrong(in, at, "no more than 128 groups in a task", e);
    bool right = predicted == gold;
    t->next[model]++;
    t->all[model] += right;
    g->n[model]++;
    g->right[model] += right;
    if (model == 0) t->right[item] = right;
    else if (item >= t->next[0]) return wrong(in, at, "what the first model answers before", e);
    else if (right != t->right[item]) t->only[right][t->flips[right]++] = item;
    return 0;
}

int items_load(Items *b, const Input *in, Err *e) {
    size_t left = in->lines;
    *b = (Items){.in = in, .models = 1};
    b->task = zeroed(TASKS_MAX, sizeof *b->task, e);
    if (!b->task) return -1;
    for (uint32_t at = in->first; at < in->j.nodes; at = in->j.node[at].next) {
        if (has(in, at, "prompts") ? task_take(b, at, &left, e) :
            has(in, at, "flip") ? 0 : item_take(b, at, e)) return -1;
    }
    return 0;
}

void items_free(Items *b) {
    for (size_t k = 0; b->task && k < TASKS_MAX; k++) {
        free(b->task[k].right);
        free(b->task[k].only[0]);
        free(b->task[k].only[1]);
    }
    free(b->task);
}

// TruthfulQA's second form is scored by probabilities, of which a question has no right or wrong.
static bool by_mass(const Task *t) {
    return t->name->len > 3 && !strcmp(t->name->text + strlen(t->name->text) - 3, "mc2");
}

static void tasks_table(Page *p, const Items *b) {
    page_table(p, "full", b->models > 1 ? "task|#questions|A|B" : "task|#questions|A");
    for (const Task *t = b->task; t < b->task + b->tasks; t++) {
        if (by_mass(t)) continue;
        put_head(p, t->name);
        page_cell(p, (double)t->next[0]);
        for (size_t m = 0; m < b->models; m++) put_share(p, t->all[m], t->next[m], (int)m);
        page_put(p, "</tr>\n");
        for (size_t g = 0; g < t->groups && g < GROUPS_SHOWN && t->groups > 1; g++) {
            page_put(p, "<tr><th class=\"part\">");
            put_string(p, t->group[g].name);
            page_put(p, "</th>");
            page_cell(p, (double)t->group[g].n[0]);
            for (size_t m = 0; m < b->models; m++)
                put_share(p, t->group[g].right[m], t->group[g].n[m], (int)m);
            page_put(p, "</tr>\n");
        }
    }
    page_table_end(p);
}

static void tasks_paired(Page *p, const Items *b) {
    page_put(p, "<h3>A/B, paired</h3>");
    page_table(p, "", "task" PAIRED);
    for (const Task *t = b->task; t < b->task + b->tasks; t++) {
        if (by_mass(t) || t->next[1] == 0 || t->next[1] != t->next[0]) continue;
        put_head(p, t->name);
        put_paired(p, t->flips[0], t->flips[1], t->next[0]);
        page_put(p, "</tr>\n");
    }
    page_table_end(p);
    page_put(p, "%s", PAIRED_NOTE);
    page_put(p, "<details><summary>Flips: questions, counted from 0, that only one has right</summary>");
    page_table(p, "", "task|right|questions");
    for (const Task *t = b->task; t < b->task + b->tasks; t++)
        for (int m = 0; m < 2 && !by_mass(t); m++) {
            put_head(p, t->name);
            page_put(p, "<td>only %c</td><td>", 'A' + m);
            for (size_t i = 0; i < t->flips[m] && i < FLIPS_SHOWN; i++) page_put(p, "%zu ", t->only[m][i]);
            if (t->flips[m] > FLIPS_SHOWN) page_put(p, "and %zu more", t->flips[m] - FLIPS_SHOWN);
            page_put(p, "</td></tr>\n");
        }
    page_table_end(p);
    page_put(p, "</details>\n");
}

int items_section(Page *p, const Items *b, Err *e) {
    const Input *in = b->in;
    page_put(p, "<section id=\"benchmarks\"><h2>Benchmarks</h2><p>");
    put_string(p, in->path);
    page_put(p, ": A is --model, B is --vs. Accuracy: the likeliest choice is the right one. Scores by "
             "length or by probability need the results that eval prints with --json.</p>\n");
    tasks_table(p, b);
    if (b->models > 1) tasks_paired(p, b);
    page_put(p, "<details><summary>Conditions</summary>");
    page_table(p, "", "task|version|#shots|SHA-256 of the prompts, of the models");
    for (const Task *t = b->task; t < b->task + b->tasks; t++) {
        static const char *const SUM[] = {"prompts", "model", "vs"};
        const JsonNode *version, *sum;
        size_t shots;
        if (text_of(in, t->at, "version", &version, e) || count_of(in, t->at, "shots", 1e6, &shots, e))
            return -1;
        put_head(p, t->name);
        page_put(p, "<td>");
        put_node(p, version, NAME_SHOWN);
        page_put(p, "</td><td class=\"n\">%zu</td><td>", shots);
        for (int k = 0; k < 3; k++) {
            if (text_of(in, t->at, SUM[k], &sum, e)) return -1;
            page_put(p, "<code>");
            put_node(p, sum, NAME_SHOWN);
            page_put(p, "</code><br>");
        }
        page_put(p, "</td></tr>\n");
    }
    page_table_end(p);
    page_put(p, "</details></section>\n");
    return 0;
}

// ---- results as eval printed them -------------------------------------------------------------------------

enum { RESULTS_SHOWN = 400 };         // rows of each table
// What a line of results measures: the members that it has, and what they are called here
static const struct { const char *value, *error, *n, *says; } MEASURE[] = {
    {"value", "stderr", "n", NULL}, {"exact_match", "stderr", "rows", "exact match"},
    {"loss", NULL, "targets", "loss"}, {"bits_per_byte", NULL, "targets", "bits per byte"}};
enum { MEASURES = sizeof MEASURE / sizeof *MEASURE };

// What a line is about, and the part of it, unless that has the same name
static void put_name(Page *p, const Input *in, uint32_t at, const char *key) {
    const JsonNode *what = member(in, at, key, JSON_STRING), *part = member(in, at, "name", JSON_STRING);
    if (what) put_node(p, what, NAME_SHOWN);
    if (!part || (what && !strcmp(what->text, part->text))) return;
    page_put(p, " ");
    put_node(p, part, NAME_SHOWN);
}

// A row for each measure that this line has
static int result_rows(Page *p, const Input *in, uint32_t at, Err *e) {
    size_t model, n;
    double value, error = 0;
    if (count_of(in, at, "model", 1, &model, e)) return -1;
    for (int k = 0; k < MEASURES; k++) {
        const JsonNode *metric = member(in, at, "metric", JSON_STRING);
        if (!member(in, at, MEASURE[k].value, JSON_NUMBER)) continue;
        bool spread = MEASURE[k].error && !member(in, at, MEASURE[k].error, JSON_NULL);
        if (number_of(in, at, MEASURE[k].value, &value, e) || count_of(in, at, MEASURE[k].n, 1e12, &n, e) ||
            (spread && number_of(in, at, MEASURE[k].error, &error, e))) return -1;
        page_put(p, "<tr><td>%c</td><th>", 'A' + (int)model);
        put_name(p, in, at, "task");
        page_put(p, "</th><td>");
        if (MEASURE[k].says) page_put(p, "%s", MEASURE[k].says);
        else if (metric) put_node(p, metric, NAME_SHOWN);
        page_put(p, "</td>");
        page_cell(p, (double)n);
        page_put(p, "<td class=\"n\">%.4f</td>", value);
        if (spread) page_put(p, "<td class=\"n\">&plusmn;%.4f</td></tr>\n", 1.96 * error);
        else page_put(p, "<td></td></tr>\n");
    }
    return 0;
}

static int compared_row(Page *p, const Input *in, uint32_t at, Err *e) {
    static const char *const KEYS[] = {"difference", "low", "high"};
    const JsonNode *metric;
    size_t n, only[2];
    double x[3], chance;
    bool judged = !member(in, at, "p", JSON_NULL);
    for (int k = 0; k < 3; k++)
        if (number_of(in, at, KEYS[k], &x[k], e)) return -1;
    if (text_of(in, at, "metric", &metric, e) || count_of(in, at, "n", 1e12, &n, e) ||
        count_of(in, at, "only_first", 1e12, &only[0], e) ||
        count_of(in, at, "only_second", 1e12, &only[1], e) ||
        (judged && number_of(in, at, "p", &chance, e))) return -1;
    page_put(p, "<tr><th>");
    put_name(p, in, at, "compared");
    page_put(p, "</th><td>");
    put_node(p, metric, NAME_SHOWN);
    page_put(p, "</td>");
    page_cell(p, (double)n);
    page_put(p, "<td class=\"n\">%+.4f</td><td class=\"n\">%+.4f to %+.4f</td><td class=\"n\">%zu</td>"
             "<td class=\"n\">%zu</td>", x[0], x[1], x[2], only[0], only[1]);
    if (judged) page_put(p, "<td class=\"n\">%.2g</td></tr>\n", chance);
    else page_put(p, "<td></td></tr>\n");
    return 0;
}

enum { MEASURED, COMPARED, CONCLUDED, SHAPES };
static const struct { const char *key, *columns; } SHAPE[SHAPES] = {
    {"model", "|what|metric|#n|#value|#1.96 s.e."},
    {"compared", "what|metric|#n|#difference|#95 % interval|#only 1st|#only 2nd|#p"},
    {"conclusion", "what may be said"}};

// Lines of conditions have a "model" as well: its SHA-256.
static bool is_shape(const Input *in, uint32_t at, int shape) {
    return shape == MEASURED ? member(in, at, "model", JSON_NUMBER) != NULL : has(in, at, SHAPE[shape].key);
}

int results_section(Page *p, const Input *in, Err *e) {
    page_put(p, "<section id=\"results\"><h2>Results</h2><p>");
    put_string(p, in->path);
    page_put(p, "</p>\n");
    for (int shape = 0; shape < SHAPES; shape++) {
        size_t shown = 0;
        for (uint32_t at = in->first; at < in->j.nodes && shown < RESULTS_SHOWN; at = in->j.node[at].next) {
            const JsonNode *said = member(in, at, "conclusion", JSON_STRING);
            if (!is_shape(in, at, shape)) continue;
            if (shown++ == 0 && shape == COMPARED)
                page_put(p, "<h3>A/B, paired</h3><p class=\"soft\">The second minus the first; the interval "
                         "is a bootstrap of the items, p McNemar&#39;s exact test.</p>");
            if (shown == 1) page_table(p, "", SHAPE[shape].columns);
            if (shape == MEASURED && result_rows(p, in, at, e)) return -1;
            if (shape == COMPARED && compared_row(p, in, at, e)) return -1;
            if (shape != CONCLUDED) continue;
            if (!said) return wrong(in, at, "a conclusion in words", e);
            page_put(p, "<tr><td>");
            put_node(p, said, TEXT_SHOWN);
            page_put(p, "</td></tr>\n");
        }
        if (shown) page_table_end(p);
    }
    page_put(p, "</section>\n");
    return 0;
}

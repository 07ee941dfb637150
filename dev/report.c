// report.c -- main: what a run did, as one page to look at: ./report run.jsonl ... > report.html. It reads
// the logs that the other programs write and draws them; no model is run.
//
// Read in this order: report.h -> training_load, training_section -> data_section -> report_load, which sorts
// the files by kind -> report_write, the page from head to foot -> main.
// Limits: 16 files, a page of PAGE_MAX bytes, in which as many answers are shown as fit. A line that is not
// what its log should hold is an error, and then there is no page.
// Not here on purpose: models, scripts, addresses, dates: the same logs make the same bytes.
#include "report.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILES = 16, PAGE_MAX = 300000, FOOT = 12000, LINEAGE_SHOWN = 12000 };

static struct { const char *title; bool help, version; } opt = {.title = "A training run"};

static Option OPTION[] = {
    TEXT("--title", &opt.title, "TEXT", "of the page"),
    FLAG("--help", &opt.help, "print this"),
    FLAG("--version", &opt.version, "print the version"),
};
enum { OPTIONS = sizeof OPTION / sizeof OPTION[0] };

static void help(void) {
    printf("report -- a run as one page (tune.c %s)\n\n"
           "  ./report run.jsonl answers.jsonl errors.jsonl > report.html\n\n"
           "Files, in any order, of which each must be one of these:\n"
           "  ./train --log FILE                     loss, learning rate, gradients, lineage\n"
           "  ./survey ROWS --log FILE               lengths, labels, variety of the rows\n"
           "  ./eval answers ... --log FILE          exact match, A/B, answers side by side\n"
           "  ./errors answers.jsonl --json > FILE   what is wrong with the answers\n"
           "  ./eval bench ... --log FILE            benchmarks by question: accuracy, flips\n"
           "  ./eval bench|answers|loss ... --json > FILE   results as they were printed\n\n", TUNE_VERSION);
    options_print(OPTION, OPTIONS);
}

// ---- training ---------------------------------------------------------------------------------------------

enum { LAYERS_MAX = 1 << 12 };
typedef struct { double step, loss, norm, lr; } Step;
typedef struct { double step, loss; } Measured;
enum { STEP = sizeof(Step) / sizeof(double), HELD = sizeof(Measured) / sizeof(double) };
typedef struct {
    const Input *in;
    Step *step;                       // (steps)
    Measured *held;                   // (measured) held-out losses
    double *layer;                    // (steps, layers) norms; NULL: the log has none
    size_t steps, measured, layers, layer_room;
    uint32_t run, data, done;         // lines, 0: none
} Training;

// The norms of a step's layers, as many as the first step has
static int layers_take(Training *t, uint32_t at, Err *e) {
    const JsonNode *list = member(t->in, at, "layer_norms", JSON_ARRAY);
    if (!list && (t->steps == 0 || !t->layers)) return 0;
    if (t->steps == 0) t->layers = list->count;
    if (!list || list->count != t->layers || t->layers < 1 || t->layers > LAYERS_MAX)
        return wrong(t->in, at, "layer_norms of as many layers, up to 4096, as in the first step", e);
    size_t n = t->steps * t->layers;
    if (grow(&t->layer, &t->layer_room, n + t->layers, sizeof *t->layer, e)) return -1;
    for (size_t i = 0; i < t->layers; i++) {
        if (!sane(&list[1 + i])) return wrong(t->in, at, "numbers within 1e15 in layer_norms", e);
        t->layer[n + i] = list[1 + i].number;
    }
    return 0;
}

static int step_take(Training *t, uint32_t at, Err *e) {
    const Input *in = t->in;
    double step;
    if (number_of(in, at, "step", &step, e)) return -1;
    if (has(in, at, "val_loss")) {
        Measured *m = &t->held[t->measured];
        if (t->measured && step <= m[-1].step) return wrong(in, at, "steps in ascending order", e);
        m->step = step;
        t->measured++;
        return number_of(in, at, "val_loss", &m->loss, e);
    }
    Step *s = &t->step[t->steps];
    if (t->steps && step <= s[-1].step) return wrong(in, at, "steps in ascending order", e);
    s->step = step;
    if (number_of(in, at, "loss", &s->loss, e) || number_of(in, at, "norm", &s->norm, e) ||
        number_of(in, at, "lr", &s->lr, e) || layers_take(t, at, e))
        return -1;
    t->steps++;
    return 0;
}

static int training_load(Training *t, const Input *in, Err *e) {
    *t = (Training){.in = in};
    t->step = zeroed(in->lines, sizeof *t->step, e);
    t->held = zeroed(in->lines, sizeof *t->held, e);
    if (!t->step || !t->held) return -1;
    for (uint32_t at = in->first; at < in->j.nodes; at = in->j.node[at].next) {
        const JsonNode *run = member(in, at, "run", JSON_OBJECT), *data = member(in, at, "data", JSON_OBJECT);
        const JsonNode *done = member(in, at, "done", JSON_OBJECT);
        if (run) t->run = index_of(in, run);
        else if (data) t->data = index_of(in, data);
        else if (done) t->done = index_of(in, done);
        else if (!has(in, at, "step")) return wrong(in, at, "run, data, step or done", e);
        else if (step_take(t, at, e)) return -1;
    }
    return 0;
}

static void training_free(Training *t) {
    free(t->step);
    free(t->held);
    free(t->layer);
}

static void loss_chart(Page *p, const Training *t) {
    Chart c = {.title = "Loss", .x = "optimizer step", .y = "mean -log p of a taught token"};
    if (t->steps)
        c.series[c.count++] = (Series){"training", &t->step->step, &t->step->loss, t->steps, STEP, STEP,
                                       CURVE, 0};
    if (t->measured)
        c.series[c.count++] = (Series){"held-out rows", &t->held->step, &t->held->loss, t->measured,
                                       HELD, HELD, MARKS, 0};
    if (c.count) page_chart(p, &c);
}

static void curve_chart(Page *p, const Training *t, const char *title, const char *y, const double *of,
                        bool linear) {
    Chart c = {title, "optimizer step", y, {{"all weights", &t->step->step, of, t->steps, STEP, STEP,
                                             CURVE, 0}}, 1, linear};
    page_chart(p, &c);
}

// Up to SERIES_MAX curves: of a layer, or the root mean square of neighbouring layers
static int layers_chart(Page *p, const Training *t, Err *e) {
    size_t L = t->layers, groups = L < SERIES_MAX ? L : SERIES_MAX;
    Chart c = {.title = "Gradient norms by layer", .x = "optimizer step", .count = (int)groups,
               .y = L > groups ? "norm of a layer's gradient, root mean square of each group"
                    : "norm of a layer's gradient"};
    double *y = zeroed(t->steps * groups, sizeof *y, e);
    if (!y) return -1;
    for (size_t g = 0; g < groups; g++) {
        size_t from = g * L / groups, to = (g + 1) * L / groups;
        Series *s = &c.series[g];
        for (size_t i = 0; i < t->steps; i++) {
            double square = 0;
            for (size_t l = from; l < to; l++) square += t->layer[i * L + l] * t->layer[i * L + l];
            y[g * t->steps + i] = sqrt(square / (double)(to - from));
        }
        *s = (Series){"", &t->step->step, y + g * t->steps, t->steps, STEP, 1, CURVE, 0};
        snprintf(s->name, sizeof s->name, to > from + 1 ? "layers %zu to %zu" : "layer %zu", from + 1, to);
    }
    page_chart(p, &c);
    free(y);
    return 0;
}

// A bar for each layer, at most as many as the cell can show; the highest fills the cell.
static void put_layers(Page *p, const double *x, size_t n) {
    enum { MOST = 64 };
    double top = 0;
    size_t bars = n < MOST ? n : MOST;
    for (size_t i = 0; i < n; i++) top = fmax(top, x[i]);
    page_put(p, "<td><svg class=\"bar\" viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" "
             "aria-hidden=\"true\">");
    for (size_t i = 0; i < bars && top > 0; i++) {
        double height = 10 * x[i * n / bars] / top, width = 100.0 / (double)bars;
        page_put(p, "<rect class=\"s0\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>",
                 width * (double)i, 10 - height, width * 0.85, height);
    }
    page_put(p, "</svg></td>");
}

// How far each kind of tensor went from the base model: ||dW|| / ||W|| of its layers
static int change_table(Page *p, const Training *t, Err *e) {
    const Input *in = t->in;
    const JsonNode *all = t->done ? member(in, t->done, "change_percent", JSON_OBJECT) : NULL;
    if (!all || all->count == 0) return 0;
    page_put(p, "<h3>How far the weights went</h3><p>The change of each tensor, ||&Delta;W|| / ||W|| in %%, "
             "by layer from the first to the last.</p>");
    page_table(p, "layers", "tensor|#smallest|#largest|by layer");
    uint32_t at = index_of(in, all) + 1;
    for (uint32_t i = 0; i < all->count && i < TENSORS; i++) {
        const JsonNode *name = &in->j.node[at], *list = name + 1;
        double x[LAYERS_MAX], lo = HUGE_VAL, hi = -HUGE_VAL;
        if (list->kind != JSON_ARRAY || list->count < 1 || list->count > LAYERS_MAX)
            return wrong(in, t->done, "change_percent with a list for each tensor", e);
        for (uint32_t l = 0; l < list->count; l++) {
            if (!sane(&list[1 + l]) || list[1 + l].number < 0)
                return wrong(in, t->done, "numbers from 0 to 1e15 in change_percent", e);
            x[l] = list[1 + l].number;
            lo = fmin(lo, x[l]);
            hi = fmax(hi, x[l]);
        }
        put_head(p, name);
        page_cell(p, lo);
        page_cell(p, hi);
        put_layers(p, x, list->count);
        page_put(p, "</tr>\n");
        at = list->next;
    }
    page_table_end(p);
    return 0;
}

static int training_section(Page *p, const Training *t, Err *e) {
    if (!t->steps && !t->measured) return 0;
    page_put(p, "<section id=\"training\"><h2>Training</h2><p>Of many steps a curve shows the mean of "
             "neighbours, and a band around it their lowest and highest.</p><div class=\"charts\">\n");
    loss_chart(p, t);
    if (t->steps) {
        curve_chart(p, t, "Learning rate", "learning rate", &t->step->lr, true);
        curve_chart(p, t, "Gradient norm", "norm of all gradients, before clipping", &t->step->norm, false);
    }
    if (t->layers && layers_chart(p, t, e)) return -1;
    page_put(p, "</div>\n");
    if (change_table(p, t, e)) return -1;
    page_put(p, "</section>\n");
    return 0;
}

// ---- data -------------------------------------------------------------------------------------------------

// Figures on the rows: the line `data` of train's log, or of a survey's
typedef struct { const Input *in; uint32_t at; } Source;    // at 0: there is none
enum { SOURCES = 2 };

// What they are called; look: above 0 it is worth a look.
static const struct { const char *key, *says; bool look; } FIGURE[] = {
    {"rows", "rows in the file", false}, {"train", "rows to train on", false},
    {"held_out", "rows held out", false}, {"bad", "rows left out as wrong", true},
    {"cut", "rows shortened", true}, {"dropped", "rows too long, dropped", true},
    {"tokens", "tokens to train on", false}, {"targets", "of them taught", false},
    {"longest", "tokens of the longest row", false}, {"longest_words", "words of the longest row", false},
    {"twice", "rows with prompt and answer of another", true},
    {"other_answer", "rows with the prompt of another, not its answer", true},
    {"leaked", "held out with the prompt of a row trained on", true},
    {"blank", "rows with an answer of white space", true},
    {"answers", "different answers", false}, {"majority", "share of the most frequent answer", false}};
static const struct { const char *key, *says; } VARIETY[] = {
    {"words", "words, mean"}, {"spread", "spread of the length, as share of it"},
    {"pairs", "different pairs among 1,000"}};
enum { FIGURES = sizeof FIGURE / sizeof *FIGURE, VARIETIES = sizeof VARIETY / sizeof *VARIETY };

// The first of the sources that has it; at 0: none has
static Source with(const Source *s, const char *key) {
    for (int i = 0; i < SOURCES; i++)
        if (s[i].at && has(s[i].in, s[i].at, key)) return s[i];
    return (Source){NULL, 0};
}

static int figures_table(Page *p, const Source *all, Err *e) {
    page_table(p, "", "What was learned from|#");
    for (int i = 0; i < FIGURES; i++) {
        Source s = with(all, FIGURE[i].key);
        double x;
        if (!s.at) continue;
        if (number_of(s.in, s.at, FIGURE[i].key, &x, e)) return -1;
        bool look = FIGURE[i].look && x > 0;
        page_put(p, "<tr><th>%s%s</th>", FIGURE[i].says, look ? " <b class=\"look\">look</b>" : "");
        page_cell(p, x);
        page_put(p, "</tr>\n");
    }
    page_table_end(p);
    return 0;
}

static int lengths_chart(Page *p, Source s, Err *e) {
    enum { MOST = 64 };
    double x[MOST], y[MOST], width;
    const JsonNode *bars = member(s.in, s.at, "bars", JSON_ARRAY);
    const JsonNode *unit = member(s.in, s.at, "unit", JSON_STRING);
    if (!bars || bars->count == 0) return 0;
    if (number_of(s.in, s.at, "bar", &width, e)) return -1;
    uint32_t n = bars->count;
    if (n > MOST || width <= 0) return wrong(s.in, s.at, "up to 64 bars and a width above 0", e);
    for (uint32_t i = 0; i < n; i++) {
        if (!sane(&bars[1 + i]) || bars[1 + i].number < 0)
            return wrong(s.in, s.at, "numbers from 0 to 1e15 in bars", e);
        x[i] = width * i;
        y[i] = bars[1 + i].number;
    }
    const char *what = unit && !strcmp(unit->text, "words") ? "words" : "tokens";
    Chart c = {"Length of the rows", what, "rows", {{"rows", x, y, n, 1, 1, BARS, width}}, 1, true};
    page_chart(p, &c);
    return 0;
}

static int variety_table(Page *p, Source s, Err *e) {
    const JsonNode *side[2] = {member(s.in, s.at, "prompt", JSON_OBJECT),
                               member(s.in, s.at, "answer", JSON_OBJECT)};
    if (!side[0] || !side[1]) return 0;
    page_table(p, "", "Variety|#prompts|#answers");
    for (int i = 0; i < VARIETIES; i++) {
        if (!has(s.in, index_of(s.in, side[0]), VARIETY[i].key)) continue;
        page_put(p, "<tr><th>%s</th>", VARIETY[i].says);
        for (int k = 0; k < 2; k++) {
            double x;
            if (number_of(s.in, index_of(s.in, side[k]), VARIETY[i].key, &x, e)) return -1;
            page_cell(p, x);
        }
        page_put(p, "</tr>\n");
    }
    page_table_end(p);
    return 0;
}

// Pairs of a text and its number of rows
static int labels_table(Page *p, Source s, Err *e) {
    enum { MOST = 64 };
    const JsonNode *list = member(s.in, s.at, "labels", JSON_ARRAY);
    if (!list || list->count == 0) return 0;
    page_table(p, "", "answer|#rows");
    uint32_t at = index_of(s.in, list) + 1;
    for (uint32_t i = 0; i < list->count && i < MOST; i++) {
        const JsonNode *pair = &s.in->j.node[at];
        if (pair->kind != JSON_ARRAY || pair->count != 2 || pair[1].kind != JSON_STRING || !sane(&pair[2]))
            return wrong(s.in, s.at, "labels of a text and a number each", e);
        put_head(p, &pair[1]);
        page_cell(p, pair[2].number);
        page_put(p, "</tr>\n");
        at = pair->next;
    }
    page_table_end(p);
    return 0;
}

static int data_section(Page *p, const Source *all, Err *e) {
    if (!all[0].at && !all[1].at) return 0;
    page_put(p, "<section id=\"data\"><h2>Data</h2>");
    Source s = with(all, "verdict");
    const JsonNode *verdict = s.at ? member(s.in, s.at, "verdict", JSON_STRING) : NULL;
    if (verdict) {
        page_put(p, "<p>Verdict: ");
        put_node(p, verdict, TEXT_SHOWN);
        page_put(p, "</p>");
    }
    page_put(p, "<div class=\"charts\"><div>");
    if (figures_table(p, all, e)) return -1;
    page_put(p, "</div><div>\n");
    s = with(all, "bars");
    if (s.at && (lengths_chart(p, s, e) || variety_table(p, s, e) || labels_table(p, s, e))) return -1;
    page_put(p, "</div></div></section>\n");
    return 0;
}

static void lineage_section(Page *p, const Training *t) {
    const JsonNode *text = t->run ? member(t->in, t->run, "lineage", JSON_STRING) : NULL;
    if (!text || text->len == 0) return;
    page_put(p, "<section id=\"lineage\"><h2>Lineage</h2><p>What the model was made from, from the first "
             "training on: SHA-256 of every file, and every option that determines its bytes.</p><pre>");
    put_node(p, text, LINEAGE_SHOWN);
    page_put(p, "</pre></section>\n");
}

// ---- the page ---------------------------------------------------------------------------------------------

typedef struct {
    Input input[MAX_FILES];
    int inputs;
    Training training;
    Source data[SOURCES];             // train's, a survey's
    Answers answers[MAX_FILES];
    Items items[MAX_FILES];
    int of[KINDS];                    // files of each kind
} Report;

// The object `data` of a survey's only line
static int survey_load(Source *s, const Input *in, Err *e) {
    const JsonNode *data = member(in, in->first, "data", JSON_OBJECT);
    if (!data || in->lines > 1) return wrong(in, in->first, "a survey alone", e);
    *s = (Source){in, index_of(in, data)};
    return 0;
}

static int report_load(Report *r, const char *const *path, int paths, Err *e) {
    for (int i = 0; i < paths; i++) {
        Input *in = &r->input[i];
        r->inputs++;
        if (input_load(in, path[i], e)) return -1;
        int k = r->of[in->kind]++;
        if ((in->kind == TRAINING || in->kind == SURVEY) && k > 0)
            return err_set(e, "%s: is a second %s, want one\nhint: a page for each run", path[i],
                           in->kind == SURVEY ? "survey" : "training log");
        if (in->kind == TRAINING && training_load(&r->training, in, e)) return -1;
        if (in->kind == TRAINING) r->data[0] = (Source){in, r->training.data};
        if (in->kind == SURVEY && survey_load(&r->data[1], in, e)) return -1;
        if (in->kind == ANSWERS && answers_load(&r->answers[k], in, e)) return -1;
        if (in->kind == ITEMS && items_load(&r->items[k], in, e)) return -1;
    }
    return 0;
}

static void report_free(Report *r) {
    training_free(&r->training);
    for (int i = 0; i < MAX_FILES; i++) {
        answers_free(&r->answers[i]);
        items_free(&r->items[i]);
    }
    for (int i = 0; i < r->inputs; i++) json_free(&r->input[i].j);
}

static int training_tiles(Page *p, const Training *t, Err *e) {
    double before, after, all, trained, rows, steps, time;
    if (t->done && has(t->in, t->done, "val_before")) {
        if (number_of(t->in, t->done, "val_before", &before, e) ||
            number_of(t->in, t->done, "val_loss", &after, e)) return -1;
        page_put(p, "<li><b>%.3f &rarr; %.3f</b> held-out loss</li>\n", before, after);
    }
    if (t->run) {
        if (number_of(t->in, t->run, "parameters", &all, e) ||
            number_of(t->in, t->run, "trained", &trained, e) || number_of(t->in, t->run, "rows", &rows, e))
            return -1;
        page_put(p, "<li><b>");
        page_number(p, rows);
        page_put(p, "</b> rows to train on</li>\n<li><b>");
        page_number(p, trained);
        page_put(p, "</b> weights trained, of ");
        page_number(p, all);
        page_put(p, "</li>\n");
    }
    if (t->done) {
        if (number_of(t->in, t->done, "steps", &steps, e) ||
            number_of(t->in, t->done, "seconds", &time, e)) return -1;
        page_put(p, "<li><b>");
        page_number(p, steps);
        page_put(p, "</b> steps in ");
        page_number(p, ceil(time));
        page_put(p, " s</li>\n");
    }
    return 0;
}

static int head(Page *p, const Report *r, Err *e) {
    static const struct { Kind kind, also; const char *id, *says; } LINK[] = {
        {TRAINING, TRAINING, "training", "Training"}, {TRAINING, SURVEY, "data", "Data"},
        {ANSWERS, ANSWERS, "answers", "Answers"}, {ERRORS, ERRORS, "errors", "Errors"},
        {ITEMS, ITEMS, "benchmarks", "Benchmarks"}, {RESULTS, RESULTS, "results", "Results"},
        {TRAINING, TRAINING, "lineage", "Lineage"}, {ANSWERS, ANSWERS, "rows", "Side by side"}};
    page_put(p, "<header><h1>");
    put_string(p, opt.title);
    page_put(p, "</h1><nav>");
    for (size_t i = 0; i < sizeof LINK / sizeof *LINK; i++)
        if (r->of[LINK[i].kind] || r->of[LINK[i].also])
            page_put(p, "<a href=\"#%s\">%s</a>", LINK[i].id, LINK[i].says);
    page_put(p, "</nav><ul class=\"tiles\">\n");
    for (int i = 0; i < r->of[ANSWERS]; i++) {
        const Answers *a = &r->answers[i];
        page_put(p, "<li><b>");
        if (a->lines > 1) page_put(p, "%.3f &rarr; ", (double)a->count[0] / (double)a->n);
        double last = (double)a->count[a->lines - 1] / (double)a->n;
        page_put(p, "%.3f</b> exact match, %zu rows</li>\n", last, a->n);
    }
    if (r->of[TRAINING] && training_tiles(p, &r->training, e)) return -1;
    page_put(p, "</ul></header>\n<main>\n");
    return 0;
}

static void foot(Page *p, const Report *r) {
    page_put(p, "</main>\n<footer><h2>Made from</h2><p class=\"soft\">report, tune.c %s</p>", TUNE_VERSION);
    page_table(p, "", "file|SHA-256");
    for (int i = 0; i < r->inputs; i++) {
        page_put(p, "<tr><th>");
        put_string(p, r->input[i].path);
        page_put(p, "</th><td><code>%.16s&hellip;</code></td></tr>\n", r->input[i].sha);
    }
    page_table_end(p);
    page_put(p, "</footer>\n");
}

static int report_write(Page *p, const Report *r, Err *e) {
    const Training *t = r->of[TRAINING] ? &r->training : NULL;
    page_begin(p, opt.title);
    if (head(p, r, e) || (t && training_section(p, t, e)) || data_section(p, r->data, e)) return -1;
    for (int i = 0; i < r->of[ANSWERS]; i++)
        if (answers_section(p, &r->answers[i], e)) return -1;
    for (int i = 0; i < r->inputs; i++)
        if (r->input[i].kind == ERRORS && errors_section(p, &r->input[i], e)) return -1;
    for (int i = 0; i < r->of[ITEMS]; i++)
        if (items_section(p, &r->items[i], e)) return -1;
    for (int i = 0; i < r->inputs; i++)
        if (r->input[i].kind == RESULTS && results_section(p, &r->input[i], e)) return -1;
    if (t) lineage_section(p, t);
    for (int i = 0; i < r->of[ANSWERS]; i++) rows_section(p, &r->answers[i], PAGE_MAX - FOOT - ROW_BYTES);
    foot(p, r);
    page_end(p);
    if (p->failed) return err_set(e, "no memory for the page");
    if (p->n > PAGE_MAX)
        return err_set(e, "the page would have %zu bytes, want at most %d\nhint: fewer files", p->n,
                       PAGE_MAX);
    return 0;
}

static int report(const char *const *path, int paths, Err *e) {
    Page p = {.n = 0};
    Report *r = zeroed(1, sizeof *r, e);
    int rc = r && !report_load(r, path, paths, e) ? report_write(&p, r, e) : -1;
    if (!rc && fwrite(p.s, 1, p.n, stdout) != p.n) rc = err_set(e, "cannot write the page to stdout");
    if (r) report_free(r);
    free(r);
    free(p.s);
    return rc;
}

int main(int argc, char **argv) {
    Err e;
    const char *path[MAX_FILES];
    int n = 0, rc = options_parse(OPTION, OPTIONS, argc, argv, path, MAX_FILES, &n, &e);
    if (!rc && (opt.help || opt.version)) {
        if (opt.help) help();
        else printf("tune.c %s\n", TUNE_VERSION);
        return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
    }
    if (!rc && n == 0) rc = err_set(&e, "want logs of a run\nhint: ./report --help");
    if (!rc) rc = report(path, n, &e);
    if (!rc && fflush(stdout)) rc = err_set(&e, "cannot write the page to stdout");
    if (rc) fprintf(stderr, "report: %s\n", e.msg);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

// report.h -- what ./report is made of, in the order of reading:
//
//     report_page.c     the page: markup, text from outside, numbers, charts as SVG
//     report_log.c      the logs: which kind a file is, and the only way to a value in it
//     report_scores.c   sections on answers, errors, benchmarks, results
//     report.c          main: sections on the training and its data; the page from head to foot
#ifndef REPORT_H
#define REPORT_H
#include "../model.h"

// ---- report_page.c ----------------------------------------------------------------------------------------
typedef struct {
    char *s;                          // n bytes and a 0; free()
    size_t n, room;
    int charts;                       // so far, for the names of their descriptions
    bool failed;                      // no memory: sticks, and is asked for once, at the end
} Page;
// The document up to its body: a content policy that allows nothing but the one style sheet, by its hash.
void page_begin(Page *p, const char *title);
void page_end(Page *p);
void page_put(Page *p, const char *format, ...);         // own markup and numbers, never text from outside
// Text from outside, n bytes of which at most `most` characters: markup in it is text, what would control a
// display or turn the direction of what follows is '?', and line breaks stay.
void page_text(Page *p, const char *s, size_t n, size_t most);
void page_number(Page *p, double x);                     // 2,679,360 or 0.07181
void page_cell(Page *p, double x);                       // a table's, with a number
// A table of a class of the style sheet, from head to foot; columns: "name|#number|...", # for numbers
void page_table(Page *p, const char *kind, const char *columns);
void page_table_end(Page *p);
// A bar of a table's cell, lengths as shares of the cell; high > low: the interval is drawn as well.
void page_bar(Page *p, double share, double low, double high, int colour);

typedef enum { CURVE, MARKS, BARS } Drawn;    // CURVE: of many points the means, within a band of all
enum { SERIES_MAX = 8 };
typedef struct {
    char name[56];                    // ours
    const double *x, *y;              // n points, x ascending, none beyond 1e15
    size_t n, x_stride, y_stride;     // doubles from one point to the next
    Drawn how;                        // BARS: from x to x + width
    double width;
} Series;
typedef struct {
    const char *title, *x, *y;        // what the axes show
    Series series[SERIES_MAX];
    int count;                        // each has a point at least
    bool linear;                      // y is never drawn logarithmically
} Chart;
// A figure: the chart as SVG with a description in words, and its figures as a table.
void page_chart(Page *p, const Chart *c);

// ---- report_log.c -----------------------------------------------------------------------------------------
// Limits: files of 64 MiB, numbers up to 1e15. What goes wrong is told with the file and its line.
typedef enum { TRAINING, SURVEY, ANSWERS, ERRORS, ITEMS, RESULTS, KINDS } Kind;
typedef struct {
    const char *path;
    char sha[65];
    Json j;
    uint32_t first;                   // line, an object like all of them
    size_t lines;                     // 1 at least
    Kind kind;
} Input;
int    input_load(Input *in, const char *path, Err *e);  // json_free(&in->j)
// A member of an object, NULL if there is none of this kind; is there one of any kind?
const JsonNode *member(const Input *in, uint32_t object, const char *key, JsonKind kind);
bool   has(const Input *in, uint32_t object, const char *key);
uint32_t index_of(const Input *in, const JsonNode *node);
bool   sane(const JsonNode *node);                       // a number within 1e15?
int    wrong(const Input *in, uint32_t at, const char *want, Err *e);      // that the line at `at` is; -1
// A member that must be there: a number; a whole number from 0 to most; a text.
int    number_of(const Input *in, uint32_t object, const char *key, double *x, Err *e);
int    count_of(const Input *in, uint32_t object, const char *key, double most, size_t *n, Err *e);
int    text_of(const Input *in, uint32_t object, const char *key, const JsonNode **text, Err *e);
void  *zeroed(size_t n, size_t size, Err *e);            // NULL: no memory
// A text of a log; a name, at most NAME_SHOWN characters of it; a table's first cell with a name.
enum { NAME_SHOWN = 80, TEXT_SHOWN = 600 };
void   put_node(Page *p, const JsonNode *text, size_t most);
void   put_string(Page *p, const char *text);
void   put_head(Page *p, const JsonNode *name);

// ---- report_scores.c --------------------------------------------------------------------------------------
enum { LINES = 3 };
typedef struct {                      // a log of ./eval answers; lines: models, or models with examples
    const Input *in;
    const JsonNode *name[LINES];
    size_t lines, n, shots;
    uint32_t *row;                    // (n) lines of the log
    bool *right;                      // (n, lines)
    size_t count[LINES];              // right ones
} Answers;
int    answers_load(Answers *a, const Input *in, Err *e);
void   answers_free(Answers *a);      // legal on zeros and after a failure, like items_free
int    answers_section(Page *p, const Answers *a, Err *e);
// Rows side by side, while the page is shorter than `end` bytes; one takes at most ROW_BYTES.
enum { ROW_BYTES = 24000 };
void   rows_section(Page *p, const Answers *a, size_t end);
int    errors_section(Page *p, const Input *in, Err *e);
typedef struct Task Task;
typedef struct { const Input *in; Task *task; size_t tasks, models; } Items;      // a log of ./eval bench
int    items_load(Items *b, const Input *in, Err *e);
void   items_free(Items *b);
int    items_section(Page *p, const Items *b, Err *e);
int    results_section(Page *p, const Input *in, Err *e);
#endif

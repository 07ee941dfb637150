// report_log.c -- the logs that ./report reads: which kind a file is, and the only way to a value in it.
// Every file is taken for hostile: a value is what it should be, or an error with the file and its line.
#include "report.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 1 << 26 };

// ---- values -----------------------------------------------------------------------------------------------

const JsonNode *member(const Input *in, uint32_t object, const char *key, JsonKind kind) {
    if (in->j.node[object].kind != JSON_OBJECT) return NULL;
    uint32_t at = json_get(&in->j, object, key);
    return at && in->j.node[at].kind == kind ? &in->j.node[at] : NULL;
}

bool has(const Input *in, uint32_t object, const char *key) {
    return in->j.node[object].kind == JSON_OBJECT && json_get(&in->j, object, key) > 0;
}

uint32_t index_of(const Input *in, const JsonNode *node) { return (uint32_t)(node - in->j.node); }

int wrong(const Input *in, uint32_t at, const char *want, Err *e) {
    return err_set(e, "%s:%" PRIu32 ": is no such line of this log, want %s", in->path, in->j.node[at].line,
                   want);
}

// Axes and sums need such.
bool sane(const JsonNode *node) { return node->kind == JSON_NUMBER && fabs(node->number) <= 1e15; }

int number_of(const Input *in, uint32_t object, const char *key, double *x, Err *e) {
    const JsonNode *node = member(in, object, key, JSON_NUMBER);
    if (!node || !sane(node))
        return err_set(e, "%s:%" PRIu32 ": %s, want a number within 1e15", in->path,
                       in->j.node[object].line, key);
    *x = node->number;
    return 0;
}

int count_of(const Input *in, uint32_t object, const char *key, double most, size_t *n, Err *e) {
    double x = 0;
    if (number_of(in, object, key, &x, e)) return -1;
    if (x < 0 || x > most || x != floor(x))
        return err_set(e, "%s:%" PRIu32 ": %s = %g, want a whole number from 0 to %.0f", in->path,
                       in->j.node[object].line, key, x, most);
    *n = (size_t)x;
    return 0;
}

int text_of(const Input *in, uint32_t object, const char *key, const JsonNode **text, Err *e) {
    *text = member(in, object, key, JSON_STRING);
    if (*text) return 0;
    return err_set(e, "%s:%" PRIu32 ": %s, want a text", in->path, in->j.node[object].line, key);
}

void *zeroed(size_t n, size_t size, Err *e) {
    void *p = calloc(n ? n : 1, size);
    if (!p) err_memory(e, n * size);
    return p;
}

void put_node(Page *p, const JsonNode *text, size_t most) { page_text(p, text->text, text->len, most); }
void put_string(Page *p, const char *text) { page_text(p, text, strlen(text), NAME_SHOWN); }

void put_head(Page *p, const JsonNode *name) {
    page_put(p, "<tr><th>");
    put_node(p, name, NAME_SHOWN);
    page_put(p, "</th>");
}

// ---- files ------------------------------------------------------------------------------------------------

// What only the first line of a kind of log has; in this order, as some have others' members too
static const struct { const char *key; Kind kind; } SIGN[] = {
    {"run", TRAINING}, {"survey", SURVEY}, {"data", TRAINING}, {"lines", ANSWERS}, {"errors", ERRORS},
    {"prompts", ITEMS}, {"metric", RESULTS}, {"exact_match", RESULTS}, {"bits_per_byte", RESULTS}};
enum { SIGNS = sizeof SIGN / sizeof *SIGN };

static int input_parse(Input *in, const uint8_t *data, size_t n, Err *e) {
    int sign = 0;
    if (rows_parse(&in->j, &in->first, in->path, data, n, NULL, e)) return -1;
    for (uint32_t at = in->first; at < in->j.nodes; at = in->j.node[at].next) {
        if (in->j.node[at].kind != JSON_OBJECT) return wrong(in, at, "an object", e);
        in->lines++;
    }
    while (sign < SIGNS && in->lines > 0 && !has(in, in->first, SIGN[sign].key)) sign++;
    if (in->lines == 0 || sign == SIGNS)
        return err_set(e, "%s: is none of the logs that make a report\nhint: ./report --help lists them",
                       in->path);
    in->kind = SIGN[sign].kind;
    return 0;
}

int input_load(Input *in, const char *path, Err *e) {
    uint8_t *data;
    size_t n;
    Sha256 sum;
    *in = (Input){.path = path};
    if (file_read(path, FILE_MAX, &data, &n, e)) return -1;
    sha256_init(&sum);
    sha256_add(&sum, data, n);
    sha256_end(&sum, in->sha);
    int rc = input_parse(in, data, n, e);
    free(data);
    return rc;
}

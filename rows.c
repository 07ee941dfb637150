// rows.c -- from rows to what a model is fed with, and from what it says to text.
// Read in this order: rows_load -> render -> examples_make -> batch_fill; then generate.
//
// Contract and invariants are data.c's: a bad row is an error with its place or, if the user says so, left
// out and counted; memory is a small multiple of the file's size, time linear in it (encoding: n log n).
// Not here on purpose: decisions on training, printing.
#define _XOPEN_SOURCE 700             // strdup, access
#include "model.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- rows -------------------------------------------------------------------------------------------------
enum { DATA_MAX = 1 << 30, ROW_MAX = 1 << 22 };    // bytes of a file; of a row, which a template may repeat
// The members that are read, form after form: a row has those of one form, but SYSTEM goes with each.
enum { PAIR, PAIR_INPUT, PAIR_ANSWER, PROMPT, COMPLETION, MESSAGES, SYSTEM, MEMBERS, COLUMNS = 32 };
static const char *const MEMBER[MEMBERS] = {"instruction", "input", "output", "prompt", "completion",
                                            "messages", "system"};
static const char *const ROLE_NAME[ROLES] = {"system", "user", "assistant"};
typedef struct {                      // a name in the file; NULL: the user said that there is none
    const char *name;
    size_t length, rows;              // rows that hold something there
    bool named;                       // by the user
} Column;

typedef struct {                      // a file that is being read
    Rows *rows;
    const Json *j;
    uint32_t header;                  // a table's row of names; 0: the rows are objects
    Column column[COLUMNS];           // what the file calls each member, then names that are not read
    int columns;
    size_t turns, turn_room, row_room;    // turns of all rows so far
    Row row;                          // the row at hand
    uint32_t value[COLUMNS + 1];      // its nodes, 0: null, empty or not there
    size_t bytes;                     // of its text
    bool answers;
    Err *e;
} Reader;

static int row_fail(const Reader *s, uint32_t line, const char *what, const char *wrong) {
    return err_set(s->e, "%s:%" PRIu32 ": %s %s", s->rows->path, line, what, wrong);
}

// --columns "prompt=question,system=", whose separators become 0. A name that it gives to one member is no
// other's any more.
static int columns_parse(Reader *s, char *p) {
    for (; s->columns < MEMBERS; s->columns++) s->column[s->columns].name = MEMBER[s->columns];
    while (p && *p) {
        char *own = p, *name = strchr(p, '=');
        int i = 0;
        p += strcspn(p, ",");
        if (*p) *p++ = 0;
        if (name && name < p) *name++ = 0;
        while (i < MEMBERS && strcmp(MEMBER[i], own)) i++;
        if (i == MEMBERS || !name)
            return err_set(s->e, "--columns: '%.40s', want NAME=COLUMN, the name being one of instruction, "
                           "input, output, prompt, completion, messages, system", own);
        if (s->column[i].named) return err_set(s->e, "--columns: %s is there twice", own);
        s->column[i] = (Column){.name = *name ? name : NULL, .named = true};
    }
    for (Column *c = s->column; c < s->column + MEMBERS; c++)
        for (Column *d = s->column; c->named && c->name && d < s->column + MEMBERS; d++) {
            if (d == c || !d->name || strcmp(d->name, c->name)) continue;
            if (d->named) return err_set(s->e, "--columns: '%s' is there twice", c->name);
            d->name = NULL;
        }
    for (int i = 0; i < MEMBERS; i++) s->column[i].length = s->column[i].name ? strlen(s->column[i].name) : 0;
    return 0;
}

// The column of that name, a new one if need be. COLUMNS: there are too many to keep it.
static int column_find(Reader *s, const JsonNode *name) {
    int i = 0;
    while (i < s->columns && (!s->column[i].name || s->column[i].length != name->len ||
                              memcmp(s->column[i].name, name->text, name->len))) i++;
    if (i == s->columns && i < COLUMNS) s->column[s->columns++] = (Column){name->text, name->len, 0, false};
    return i;
}

// The values of a row: an object's members, or a table's fields in the order of the header.
static int row_values(Reader *s, uint32_t at) {
    const JsonNode *node = s->j->node, *row = &node[at];
    uint32_t name = at + 1, value = at + 2, fields = s->header ? node[s->header].count : 0;
    memset(s->value, 0, sizeof s->value);
    if (s->header && row->count != fields)
        return err_set(s->e, "%s:%" PRIu32 ": the row has %" PRIu32 " fields, want %" PRIu32 " as in line %"
                       PRIu32, s->rows->path, row->line, row->count, fields, node[s->header].line);
    if (!s->header && row->kind != JSON_OBJECT) return row_fail(s, row->line, "the row", "is not an object");
    for (uint32_t i = 0; i < row->count; i++, name = node[value].next, value = name + 1) {
        if (s->header) name = s->header + 1 + i, value = at + 1 + i;
        int c = column_find(s, &node[name]);
        const JsonNode *v = &node[value];
        if (c < MEMBERS && s->value[c]) return row_fail(s, v->line, s->column[c].name, "is there twice");
        if (v->kind == JSON_STRING ? v->len > 0 : v->kind != JSON_NULL) s->value[c] = value;
    }
    return 0;
}

// One more name of a list.
static void list_name(char *list, size_t room, const Column *c) {
    size_t used = strlen(list);
    snprintf(list + used, room - used, "%s%.40s (%zu row%s)", used > 0 ? ", " : "", c->name, c->rows,
             c->rows > 1 ? "s" : "");
}

// Have the rows from `at` on what is needed, under the names agreed on? Notes what else they have.
static int columns_check(Reader *s, uint32_t at) {
    const Column *c = s->column;
    const char *lacks = NULL;
    char *ignored = s->rows->ignored, list[300] = "";
    for (; at < s->j->nodes; at = s->j->node[at].next) {
        bool bad = row_values(s, at) != 0;        // which rows_get will say
        for (int i = 0; i < s->columns && !bad; i++) s->column[i].rows += s->value[i] > 0;
    }
    for (int i = 0; i < s->columns; i++, c++) {
        if (c->named && c->name && !c->rows) lacks = c->name;
        if (c->rows) list_name(list, sizeof list, c);
        if (c->rows && i >= MEMBERS) list_name(ignored, sizeof s->rows->ignored, c);
    }
    err_set(s->e, "%s", ignored);     // which tames it
    strcpy(ignored, s->e->msg);
    c = s->column;
    if (!lacks && s->answers && !c[PAIR_ANSWER].rows && !c[COMPLETION].rows && !c[MESSAGES].rows)
        lacks = "output, completion or messages";
    if (!lacks && !c[PAIR].rows && !c[PAIR_INPUT].rows && !c[PROMPT].rows && !c[MESSAGES].rows)
        lacks = "instruction, input, prompt or messages";
    return !lacks || !*list ? 0 : err_set(s->e, "%s: no row holds %s; there are: %s\nhint: --columns "
                                          "prompt=NAME,completion=NAME", s->rows->path, lacks, list);
}

// The text of a member that is there.
static int row_text(Reader *s, uint32_t at, const char *key, const char **text) {
    const JsonNode *v = &s->j->node[at];
    if (v->kind != JSON_STRING) return row_fail(s, v->line, key, "is not a string");
    if (strlen(*text = v->text) != v->len) return row_fail(s, v->line, key, "holds \\u0000");
    s->bytes += v->len;
    return s->bytes > ROW_MAX ? row_fail(s, s->row.line, "the row", "has more than 4 MiB of text") : 0;
}

static void turn_add(Reader *s, Role role, const char *text, const char *input) {
    s->rows->turn[s->turns++] = (Turn){role, text, input};
    s->row.output = role == ROLE_ASSISTANT ? text : "";
    s->row.turns++;
}

static int row_message(Reader *s, uint32_t at, Role next) {
    uint32_t line = s->j->node[at].line;
    uint32_t who = json_get(s->j, at, "role"), what = json_get(s->j, at, "content");
    const char *name, *text;
    Role role = ROLE_SYSTEM;
    if (!who || !what) return row_fail(s, line, "a message", "is no object with role and content");
    if (row_text(s, who, "role", &name) || row_text(s, what, "content", &text)) return -1;
    while (role < ROLES && strcmp(name, ROLE_NAME[role])) role++;
    if (role != next && (role != ROLE_SYSTEM || s->row.turns > 0))
        return err_set(s->e, "%s:%" PRIu32 ": message %zu has the role '%.20s', want %s%s", s->rows->path,
                       line, s->row.turns + !s->value[SYSTEM], name, s->row.turns > 0 ? "" : "system or ",
                       ROLE_NAME[next]);
    if (!*text) return row_fail(s, line, "content", "is empty");
    turn_add(s, role, text, "");
    return 0;
}

static int row_messages(Reader *s, uint32_t list) {
    Role next = ROLE_USER;
    if (s->j->node[list].kind != JSON_ARRAY) return row_fail(s, s->row.line, "messages", "is not an array");
    for (uint32_t at = list + 1; at < s->j->node[list].next; at = s->j->node[at].next) {
        if (row_message(s, at, next)) return -1;
        next = s->rows->turn[s->turns - 1].role == ROLE_USER ? ROLE_ASSISTANT : ROLE_USER;
    }
    if (*s->row.output || (next == ROLE_ASSISTANT && !s->answers)) return 0;
    return row_fail(s, s->row.line, "messages", next == ROLE_USER ? "ask nothing" : "end without an answer");
}

static int row_get(Reader *s, uint32_t at) {
    const char *text[MEMBERS] = {"", "", "", "", "", "", ""};
    uint32_t line = s->j->node[at].line;
    int form = PAIR, seen = -1;
    s->row = (Row){.line = line, .output = ""};
    s->bytes = 0;
    if (row_values(s, at)) return -1;
    for (int i = 0; i < MEMBERS; i++) {
        if (!s->value[i]) continue;
        if (i != MESSAGES && row_text(s, s->value[i], s->column[i].name, &text[i])) return -1;
        if (i == SYSTEM) continue;
        form = i < PROMPT ? PAIR : i < MESSAGES ? PROMPT : MESSAGES;
        if (seen >= 0 && seen < form)
            return err_set(s->e, "%s:%" PRIu32 ": the row has both %s and %s", s->rows->path, line,
                           s->column[seen].name, s->column[i].name);
        seen = i;
    }
    if (*text[SYSTEM]) turn_add(s, ROLE_SYSTEM, text[SYSTEM], "");
    if (form == MESSAGES) return row_messages(s, s->value[MESSAGES]);
    int last = form == PAIR ? PAIR_ANSWER : COMPLETION;
    if (!*text[last] && s->answers) return row_fail(s, line, s->column[last].name, "is missing or empty");
    if (!*text[form] && !*text[PAIR_INPUT])
        return row_fail(s, line, form == PAIR ? "instruction or input" : s->column[form].name,
                        "is missing or empty");
    turn_add(s, ROLE_USER, text[form], text[PAIR_INPUT]);
    if (*text[last]) turn_add(s, ROLE_ASSISTANT, text[last], "");
    return 0;
}

// All turns are there, and no longer move.
static void rows_end(Rows *r) {
    Turn *t = r->turn;
    for (Row *row = r->row; row < r->row + r->n; t += row->turns, row++) {
        row->turn = t;
        for (size_t i = 0; i < row->turns - (*row->output != 0); i++) {
            row->hash = hash64(t[i].text, strlen(t[i].text), row->hash);
            row->hash = hash64(t[i].input, strlen(t[i].input), row->hash);
        }
    }
}

// Every row from `at` on, or those that are right. Room for its turns comes first, as each has a node: then a
// row can fail for what is wrong with it alone.
static int rows_get(Reader *s, uint32_t at, bool skip_bad) {
    Rows *r = s->rows;
    for (uint32_t next; at < s->j->nodes; at = next) {
        next = s->j->node[at].next;
        if (grow(&r->turn, &s->turn_room, s->turns + (next - at), sizeof *r->turn, s->e) ||
            grow(&r->row, &s->row_room, r->n + 1, sizeof *r->row, s->e)) return -1;
        if (row_get(s, at) == 0) { r->row[r->n++] = s->row; continue; }
        if (!skip_bad) return -1;
        s->turns -= s->row.turns;
        row_skip(r, s->e);
    }
    if (r->n > 0) return 0;
    if (r->bad == 0) return err_set(s->e, "%s: has no rows%s", r->path, s->header ? " below its header" : "");
    return err_set(s->e, "%s: has no good rows: %.*s", r->path, (int)strcspn(r->reason, "\n"), r->reason);
}

// The rows' strings lie in the parsed JSON, which is kept as their memory.
int rows_load(Rows *r, const char *path, const RowsHow *how, Err *e) {
    uint8_t *data;
    size_t bytes;
    memset(r, 0, sizeof *r);
    if (file_read(path, DATA_MAX, &data, &bytes, e)) return -1;
    uint32_t at = 0;
    Json *j = r->memory = calloc(1, sizeof *j);
    Reader s = {.rows = r, .j = j, .answers = how->answers, .e = e};
    char *columns = strdup(how->columns ? how->columns : "");
    r->path = strdup(path);
    int rc = j && r->path && columns ? columns_parse(&s, columns) : err_memory(e, sizeof *j);
    if (rc == 0) rc = rows_read(j, &at, path, data, bytes, how->skip_bad ? r : NULL, e);
    free(data);
    if (rc == 0 && j->table && at < j->nodes) s.header = at, at = j->node[at].next;
    if (rc == 0) rc = columns_check(&s, at) || rows_get(&s, at, how->skip_bad) ? -1 : 0;
    if (rc == 0) rows_end(r);
    else rows_free(r);
    free(columns);
    return rc;
}

void rows_free(Rows *r) {
    if (r->memory) json_free(r->memory);
    free(r->memory), free(r->row), free(r->turn), free(r->path);
    memset(r, 0, sizeof *r);
}

// ---- templates --------------------------------------------------------------------------------------------
enum { TEMPLATE_MAX = 1 << 16 };      // bytes of a template's file

static bool has_field(const Template *tp, int field) {
    int i = 0;
    while (i < tp->pieces && (tp->piece[i].kind != PIECE_FIELD || tp->piece[i].field != field)) i++;
    return i < tp->pieces;
}

static int template_get(Template *tp, const char *template, const Tokenizer *t, Err *e) {
    Fault f;
    if (template_parse(tp, template, t, &f) == 0) {
        if (tp->begin[PART_WHOLE] < 0 || has_field(tp, INSTRUCTION) || tp->input) return 0;
        return err_set(e, "template: has no place for what is asked, want {instruction}, {input} or both");
    }
    const char *at = template + f.value;
    size_t line = strcspn(at, "\n");
    return err_set(e, "template: byte %" PRId64 ", '%.*s': %s", f.value, line < 24 ? (int)line : 24, at,
                   f.what);
}

int template_check(const char *template, const Tokenizer *t, Err *e) {
    Template tp;
    return template_get(&tp, template, t, e);
}

// A byte order mark and the carriage returns of other editors are none of a template's, nor is the line break
// that ends a file of a row form's.
static int template_read(const char *path, char **template, Err *e) {
    uint8_t *text;
    size_t n, length = 1, kept = 0;
    if (access(path, F_OK))
        return err_set(e, "--template: '%s', want alpaca, chatml, llama3, none, plain or a file", path);
    if (file_read(path, TEMPLATE_MAX, &text, &n, e)) return -1;
    *template = (char *)text;
    for (size_t at = !memcmp(text, "\xEF\xBB\xBF", n < 3 ? n + 1 : 3) ? 3 : 0; at < n; at++)
        if (text[at] != '\r' || text[at + 1] != '\n') text[kept++] = text[at];
    text[n = kept] = 0;
    for (size_t at = 0; at < n; at += length)
        if (!text[at] || !(length = utf8_length(text + at, n - at)))
            return err_set(e, "%s: byte %zu is not UTF-8 text", path, at);
    if (n > 0 && text[n - 1] == '\n' && !template_has_sections(*template)) text[n - 1] = 0;
    return 0;
}

int template_choose(const char *asked, const Checkpoint *k, char **template, Err *e) {
    bool own = !asked && k->template && *k->template;
    const char *named = own ? k->template : template_named(asked ? asked : "plain");
    int rc = 0;
    *template = NULL;
    if (!named) rc = template_read(asked, template, e);
    else if (!(*template = strdup(named))) rc = err_memory(e, strlen(named));
    if (rc == 0) rc = template_check(*template, &k->tok, e);
    if (rc) free(*template), *template = NULL;
    return rc;
}

// ---- encoding ---------------------------------------------------------------------------------------------
typedef struct {                      // rows on their way to examples, whose arrays grow
    Examples *x;
    Tokenizer tok;                    // a copy: add_space is for the first text of a row only
    size_t ids, row, prompt;          // ids in all; before the row at hand; in it before {target}
    uint8_t *text;                    // what the segment at hand has so far
    void *scratch;
    size_t bytes, text_room, scratch_room, tok_room, taught_room, ex_room;
    Teach teach;
    bool teaching;                    // are the ids that come now taught?
} Encoder;

static int encode_room(Encoder *c, size_t n, Err *e) {
    return grow(&c->x->tok, &c->tok_room, c->ids + n, sizeof *c->x->tok, e) ||
           grow(&c->x->taught, &c->taught_room, c->ids + n, 1, e) ? -1 : 0;
}

static int encode_id(Encoder *c, int32_t id, Err *e) {
    if (encode_room(c, 1, e)) return -1;
    c->x->taught[c->ids] = c->teaching;
    c->x->tok[c->ids++] = id;
    return 0;
}

static int encode_text(Encoder *c, const uint8_t *text, size_t n, Err *e) {
    c->bytes = 0;                     // what may be this text, a segment, has ended
    if (n == 0) return 0;
    if (encode_room(c, tokenizer_most(&c->tok, n), e) ||
        grow(&c->scratch, &c->scratch_room, tokenizer_encode_size(&c->tok, n), 1, e)) return -1;
    size_t more = tokenizer_encode(&c->tok, text, n, false, c->x->tok + c->ids, c->scratch);
    memset(c->x->taught + c->ids, c->teaching, more);
    c->ids += more;
    c->tok.add_space = false;
    return 0;
}

// A new row or file; or the one at hand once more.
static int encode_begin(Encoder *c, const Tokenizer *t, Err *e) {
    c->tok = *t;
    c->ids = c->row;
    c->bytes = c->prompt = 0;
    c->teaching = c->teach == TEACH_ALL;
    return encode_room(c, 1, e) || (t->bos >= 0 && encode_id(c, t->bos, e)) ? -1 : 0;
}

static int segment_add(Encoder *c, const char *text, size_t n, Err *e) {
    if (grow(&c->text, &c->text_room, c->bytes + n, 1, e)) return -1;
    memcpy(c->text + c->bytes, text, n);
    c->bytes += n;
    return 0;
}

// {target}: from here on it is taught, and with TEACH_LAST what came before no longer is.
static void target_begin(Encoder *c) {
    c->prompt = c->ids - c->row;
    if (c->teach == TEACH_LAST) memset(c->x->taught + c->row, 0, c->prompt);
    c->teaching = c->teach != TEACH_NONE;
}

// Pieces of a part, up to `end`. Text is collected, across parts too, until a special token or {target} ends
// its segment, which is then encoded as one.
static int render_part(Encoder *c, const Template *tp, int part, int end, const Turn *turn,
                       const char *output, Err *e) {
    const char *field[FIELDS] = {turn->text, output, turn->input, turn->text};
    const char *join = *turn->text ? "\n" : "", *more = tp->input ? "" : turn->input;
    int rc = 0, hidden = 0;           // hidden: the depth of the {?...} whose half is left out, 0: none
    for (int i = tp->begin[part]; i < end && rc == 0; i++) {
        const TemplatePiece *p = &tp->piece[i];
        if (p->kind == PIECE_IF && !hidden && !*field[p->field]) hidden = p->depth;
        else if (p->kind == PIECE_ELSE && (!hidden || hidden == p->depth)) hidden = hidden ? 0 : p->depth;
        else if (p->kind == PIECE_ENDIF && hidden == p->depth) hidden = 0;
        else if (hidden || p->kind >= PIECE_IF) continue;
        else if (p->kind == PIECE_TEXT) rc = segment_add(c, tp->text + p->at, p->n, e);
        else if (p->kind == PIECE_FIELD) rc = segment_add(c, field[p->field], strlen(field[p->field]), e);
        else if ((rc = encode_text(c, c->text, c->bytes, e)) == 0 && p->kind == PIECE_TARGET) target_begin(c);
        else if (rc == 0) rc = encode_id(c, p->token, e);
        if (p->kind == PIECE_FIELD && p->field == TURN && *more && rc == 0)
            rc = segment_add(c, join, strlen(join), e) || segment_add(c, more, strlen(more), e) ? -1 : 0;
        if (i + 1 == tp->turn_end) c->teaching = c->teach == TEACH_ALL;
    }
    return rc;
}

// A row to ids, without the first `skip` of its exchanges. Its last answer ends with the end of turn; where
// nothing is taught, the row ends before that answer.
static int render(Encoder *c, const Template *tp, const Row *row, const Tokenizer *t, size_t skip, Err *e) {
    static const Turn none = {ROLE_ASSISTANT, "", ""};
    size_t first = row->turn[0].role == ROLE_SYSTEM;
    int part = tp->begin[PART_WHOLE] < 0 ? ROLE_ASSISTANT : PART_WHOLE;
    int opening = first ? ROLE_SYSTEM : PART_DEFAULT, rc = encode_begin(c, t, e);
    if (rc == 0) rc = render_part(c, tp, opening, tp->end[opening], row->turn, "", e);
    for (size_t i = first + 2 * skip; i < row->turns && rc == 0; i += 2) {
        const Turn *user = &row->turn[i], *answer = i + 1 < row->turns ? user + 1 : &none;
        int end = i + 2 < row->turns ? tp->end[part] : c->teach == TEACH_NONE ? tp->target : tp->turn_end;
        rc = render_part(c, tp, ROLE_USER, tp->end[ROLE_USER], user, "", e) ||
             render_part(c, tp, part, end, part == PART_WHOLE ? user : answer, answer->text, e) ? -1 : 0;
    }
    return rc;
}

// ---- examples ---------------------------------------------------------------------------------------------
static int examples_begin(Examples *x, Encoder *c, const Tokenizer *t, size_t seq, Teach teach, Err *e) {
    *x = (Examples){0};
    *c = (Encoder){.x = x, .teach = teach};
    if (t->kind == TOK_NONE) return err_set(e, "the model has no tokenizer");
    return seq >= 2 && seq <= INT32_MAX ? 0 :
           err_set(e, "examples: most tokens of a row = %zu, want 2..%d", seq, INT32_MAX);
}

// An example of the ids from..from+len-1.
static int examples_add(Encoder *c, size_t from, size_t len, size_t row, uint64_t hash, Err *e) {
    Examples *x = c->x;
    if (grow(&x->ex, &c->ex_room, x->n + 1, sizeof *x->ex, e)) return -1;
    x->ex[x->n++] = (Example){.at = from, .len = (uint32_t)len, .prompt = (uint32_t)c->prompt,
                              .row = (uint32_t)row, .hash = hash};
    return 0;
}

void examples_count(Examples *x) {
    x->tokens = x->targets = x->longest = 0;
    for (const Example *ex = x->ex; ex < x->ex + x->n; ex++) {
        x->tokens += ex->len;
        for (uint32_t t = 1; t < ex->len; t++) x->targets += ex->taught[t];
        if (ex->len > x->longest) x->longest = ex->len;
    }
}

// The arrays have stopped growing, and the examples can point into them; or, on failure, nothing is left.
static int examples_end(Examples *x, Encoder *c, int rc) {
    free(c->text), free(c->scratch);
    if (rc) examples_free(x);
    for (Example *ex = x->ex; ex < x->ex + x->n; ex++)
        ex->tok = x->tok + ex->at, ex->taught = x->taught + ex->at;
    examples_count(x);
    return rc;
}

// Does the template have a place for all that the row has, and the row what is to be taught?
static int row_check(const Template *tp, const Row *row, Teach teach, const char *path, Err *e) {
    bool whole = tp->begin[PART_WHOLE] >= 0, begins = row->turn[0].role == ROLE_SYSTEM;
    const char *wrong = NULL;
    if (teach != TEACH_NONE && !*row->output) wrong = "has no answer to learn";
    else if (begins && (whole || tp->begin[ROLE_SYSTEM] < 0))
        wrong = "has a system turn, the template no [system]\nhint: --template chatml; or, if it is from a "
                "member of that name, --columns system=";
    else if (whole && row->turns > 2)
        wrong = "is a conversation, which the template is not for\nhint: --template chatml";
    else if (whole && *row->turn[0].input && !tp->input) wrong = "has an input, the template no {input}";
    else if (whole && *row->turn[0].text && !has_field(tp, INSTRUCTION))
        wrong = "has an instruction, the template no {instruction}";
    return wrong ? err_set(e, "%s:%" PRIu32 ": the row %s", path, row->line, wrong) : 0;
}

// A row longer than seq loses as many of its oldest exchanges as it takes to fit, never the last. Each try is
// a whole rendering, so the number is searched by halves.
static int row_shorten(Encoder *c, const Template *tp, const Row *row, const Tokenizer *t, size_t seq,
                       Err *e) {
    size_t few = 1, many = (row->turns - (row->turn[0].role == ROLE_SYSTEM) - 1) / 2;
    while (few < many) {
        size_t half = few + (many - few) / 2;
        if (render(c, tp, row, t, half, e)) return -1;
        if (c->ids - c->row <= seq) many = half;
        else few = half + 1;
    }
    return many > 0 ? render(c, tp, row, t, many, e) : 0;
}

// 1: the row is short enough, or is now; 0: drop it; -1: an error.
static int row_fit(Encoder *c, size_t seq, TooLong mode, const char *path, const Row *row, Err *e) {
    size_t len = c->ids - c->row, over = len > seq ? len - seq : 0, kept = c->row + (c->tok.bos >= 0);
    if (over == 0) return 1;
    if (mode == TOO_LONG_DROP) return 0;
    if (mode != TOO_LONG_CUT)
        return err_set(e, "%s:%" PRIu32 ": the row has %zu tokens, want at most %zu%s", path, row->line,
                       len, seq, mode == TOO_LONG_ERROR ? "\nhint: --too-long cut or drop" : "");
    if (over >= c->prompt)            // one token must stay for the answer to follow
        return err_set(e, "%s:%" PRIu32 ": the answer alone has %zu tokens, want at most %zu\nhint: "
                       "--too-long drop", path, row->line, len - c->prompt, seq - 1);
    c->ids -= over;
    c->prompt -= over;
    memmove(c->x->tok + kept, c->x->tok + kept + over, (c->ids - kept) * sizeof *c->x->tok);
    memmove(c->x->taught + kept, c->x->taught + kept + over, c->ids - kept);
    return 1;
}

// One row to an example, or to none.
static int row_make(Encoder *c, const Template *tp, const Rows *r, size_t i, const Tokenizer *t, size_t seq,
                    TooLong too_long, Err *e) {
    const Row *row = &r->row[i];
    bool prompt = c->teach == TEACH_NONE;
    if (row_check(tp, row, c->teach, r->path, e) || render(c, tp, row, t, 0, e)) return -1;
    bool longer = c->ids - c->row > seq;
    if (longer && too_long == TOO_LONG_CUT && row_shorten(c, tp, row, t, seq, e)) return -1;
    int fits = row_fit(c, seq, too_long, r->path, row, e);
    if (fits < 0) return -1;
    size_t len = c->ids - c->row;
    c->x->taught[c->row] = 0;         // nothing comes before the first id, so nothing can predict it
    if (prompt ? len == 0 : !memchr(c->x->taught + c->row, 1, len))
        return err_set(e, "%s:%" PRIu32 ": the row has no token to %s\nhint: another --template", r->path,
                       row->line, prompt ? "begin with" : "learn");
    c->x->cut += fits && longer;
    c->x->dropped += !fits;
    if (!fits) return 0;
    if (examples_add(c, c->row, len, i, row->hash, e)) return -1;
    c->row = c->ids;
    return 0;
}

int examples_make(Examples *x, const Rows *r, const char *template, const Tokenizer *t, size_t seq,
                  TooLong too_long, Teach teach, Err *e) {
    Template tp;
    Encoder c;
    int rc = examples_begin(x, &c, t, seq, teach, e);
    if (rc == 0) rc = template_get(&tp, template, t, e);
    for (size_t i = 0; i < r->n && rc == 0; i++) rc = row_make(&c, &tp, r, i, t, seq, too_long, e);
    x->rows = r->n;
    if (rc == 0 && x->n == 0)
        rc = err_set(e, "%s: every row has more than %zu tokens\nhint: --seq", r->path, seq);
    return examples_end(x, &c, rc);
}

// A file's ids in windows; the last token of one is the first of the next, which does not predict it.
static int windows_add(Encoder *c, size_t seq, Err *e) {
    c->prompt = 1;
    c->x->taught[c->row] = 0;
    for (; c->row + 1 < c->ids; c->row += seq - 1) {
        size_t len = c->ids - c->row < seq ? c->ids - c->row : seq;
        uint64_t hash = 0;
        for (size_t t = 0; t < len; t++) hash = hash_number((uint64_t)c->x->tok[c->row + t], hash);
        if (examples_add(c, c->row, len, c->x->n, hash, e)) return -1;
    }
    c->row = c->ids;
    return 0;
}

int examples_text(Examples *x, const char *const *path, int paths, const Tokenizer *t, size_t seq, Err *e) {
    Encoder c;
    uint8_t *data;
    size_t n;
    int rc = examples_begin(x, &c, t, seq, TEACH_ALL, e);
    for (int i = 0; i < paths && rc == 0; i++) {
        if ((rc = file_read(path[i], DATA_MAX, &data, &n, e))) break;
        rc = encode_begin(&c, t, e) || encode_text(&c, data, n, e) ||
             (t->eot >= 0 && encode_id(&c, t->eot, e)) ? -1 : 0;
        free(data);
        if (rc == 0 && (n == 0 || c.ids - c.row < 2))
            rc = err_set(e, "%s: has no text to learn from", path[i]);
        if (rc == 0) rc = windows_add(&c, seq, e);
    }
    x->rows = x->n;
    return examples_end(x, &c, rc);
}

void examples_free(Examples *x) {
    free(x->ex), free(x->tok), free(x->taught);
    *x = (Examples){0};
}

// ---- batch ------------------------------------------------------------------------------------------------
int batch_alloc(BatchMemory *b, size_t rows, size_t seq, Err *e) {
    size_t room = 0;
    memset(b, 0, sizeof *b);
    if (rows > PTRDIFF_MAX / 3 / (seq + 1)) return err_memory(e, SIZE_MAX);
    if (grow(&b->memory, &room, 2 * rows * seq + rows, sizeof *b->memory, e)) return -1;
    b->view = (Batch){b->memory, b->memory + rows * seq, b->memory + 2 * rows * seq, NULL, rows, seq};
    return 0;
}

// The last token of an example is a target only, no input. A batch may have fewer rows than there is room.
size_t batch_fill(BatchMemory *b, const Example *const *ex, size_t rows) {
    size_t T = b->view.T, cells = (size_t)(b->view.target - b->view.tok), targets = 0;
    int32_t *tok = b->memory, *target = tok + cells, *len = target + cells;
    assert(rows * T <= cells);
    for (size_t i = 0; i < rows; i++, tok += T, target += T) {
        size_t n = ex[i]->len - 1;
        assert(n <= T);
        for (size_t t = 0; t < T; t++) {
            bool asked = t < n && ex[i]->taught[t + 1];
            tok[t] = t < n ? ex[i]->tok[t] : 0;
            target[t] = asked ? ex[i]->tok[t + 1] : -1;
            targets += asked;
        }
        len[i] = (int32_t)n;
    }
    b->view.B = rows;
    return targets;
}

void batch_free(BatchMemory *b) {
    free(b->memory);
    memset(b, 0, sizeof *b);
}

// ---- answers ----------------------------------------------------------------------------------------------
// Takes the token that a row has got. Does it end the answer, and why?
static void answer_take(Generated *g, Stream *s, const Tokenizer *t, size_t max_tokens, size_t cached,
                        bool first_line) {
    size_t n;
    int32_t id = s->id[s->n - 1];
    const uint8_t *text = tokenizer_decode(t, id, &n);
    bool line = false, special = t->flag[id] == TOKEN_SPECIAL;
    for (size_t i = 0; i < n && !special; i++) {
        line = line || (first_line && g->words && text[i] == '\n');
        g->words = g->words || !strchr(" \t\r\n", text[i]);
    }
    if (!special) g->tokens++, g->bytes += n;
    g->stop = special ? STOP_END : line ? STOP_LINE : g->tokens >= max_tokens ? STOP_LENGTH : STOP_FULL;
    s->done = g->stop != STOP_FULL || s->n > cached;
}

static int answer_text(Generated *g, const Tokenizer *t, const int32_t *id, Err *e) {
    size_t at = 0, n;
    if (!(g->text = malloc(g->bytes + 1))) return err_memory(e, g->bytes);
    for (size_t i = 0; i < g->tokens; i++, at += n) {
        const uint8_t *text = tokenizer_decode(t, id[i], &n);
        memcpy(g->text + at, text, n);
    }
    g->text[at] = 0;
    return 0;
}

int generate(Model *m, const Tokenizer *t, const Prompt *p, size_t rows, const Sampling *how, uint64_t seed,
             size_t max_tokens, bool first_line, Generated *out, Err *e) {
    size_t room = m->shape.cached + 1, V = (size_t)m->cfg.vocab, live = rows;
    Stream *s = calloc(rows, sizeof *s);
    int32_t *id = malloc((rows * (room + m->shape.seq + 3) + V) * sizeof *id);
    Fault f;
    int rc = s && id ? 0 : err_memory(e, rows * room * sizeof *id);
    memset(out, 0, rows * sizeof *out);
    for (size_t i = 0; i < rows && rc == 0; i++) {
        assert(p[i].n > 0 && p[i].n < room);
        s[i] = (Stream){.id = id + i * room, .n = p[i].n, .prompt = p[i].n, .rng = {seed + i}};
        memcpy(s[i].id, p[i].tok, p[i].n * sizeof *id);
    }
    while (live > 0 && rc == 0) {
        if (model_extend(m, s, rows, how, V < t->vocab ? V : t->vocab, id + rows * room, &f))
            rc = err_fault(e, "answering", &f);
        for (size_t i = 0; i < rows && rc == 0; i++) {
            if (!s[i].fresh) continue;
            answer_take(&out[i], &s[i], t, max_tokens, m->shape.cached, first_line);
            live -= s[i].done;
        }
    }
    for (size_t i = 0; i < rows && rc == 0; i++) rc = answer_text(&out[i], t, s[i].id + p[i].n, e);
    for (size_t i = 0; i < rows && rc; i++) free(out[i].text), out[i].text = NULL;
    free(s), free(id);
    return rc;
}

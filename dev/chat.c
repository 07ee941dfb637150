// chat.c -- main: a checkpoint answers: in a conversation, once, or to many prompts of a file at once.
//
// Read in this order: Chat -> prompt_raw, render, prompt_fit: what the model is given -> screen_put: what is
// shown -> answer -> reply, obey: a conversation -> answer_file: many prompts -> main.
//
// Invariant: the cache holds the keys and values of c->row.id[0 .. c->row.fed). Each turn renders the whole
// conversation anew, as a row of training would be, and what it has in common with these tokens is not
// computed again. That changes no answer: a cached position has the same bits as a computed one.
// Not here on purpose: editing of typed lines (rlwrap does that), colours, saved conversations.
#include "../model.h"
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 128 };                 // tokens that go through the model at once, of all rows together
enum { CONTEXT = 4096 };              // most tokens of a conversation unless --context says more: memory
enum { LINE_BYTES = 1 << 16 };        // longest line of standard input
enum { LEAD = 32 };

// ---- options ----------------------------------------------------------------------------------------------

static struct {
    const char *model, *base, *prompt, *in, *template, *system, *columns;
    double temperature, top_p, penalty;
    int64_t context, max_tokens, top_k, seed, batch, threads;
    bool raw, help, version;
} opt = {.temperature = 0.8, .top_p = 0.95, .penalty = 1, .max_tokens = 256, .seed = 1, .batch = 8};

static Option OPTION[] = {
    TEXT("--model", &opt.model, "FILE", "the checkpoint"),
    TEXT("--base", &opt.base, "FILE", "if that is an adapter (train --lora): the model it was trained on"),
    TEXT("--prompt", &opt.prompt, "TEXT", "answer this and stop"),
    TEXT("--in", &opt.in, "FILE",
         "answer each row of JSON, JSON Lines, CSV or TSV: prompt; or instruction, input; or messages (an "
         "answer that it has is not looked at). Each answer is a line of JSON, in the rows' order"),
    TEXT("--columns", &opt.columns, "LIST", "of --in: what the file calls its columns, as train takes it"),
    TEXT("--system", &opt.system, "TEXT", "system turn of the conversation; of --in: of rows that have none"),
    TEXT("--template", &opt.template, "NAME",
         "alpaca, chatml, llama3, plain, none, or a file; otherwise the checkpoint's own"),
    FLAG("--raw", &opt.raw, "no template: the model goes on with the text as it is"),
    INT("--max-tokens", &opt.max_tokens, 1, 1 << 20, "N", "longest answer"),
    INT("--context", &opt.context, 8, 1 << 20, "N",
        "most tokens of a conversation; otherwise the model's context, at most 4096; costs memory"),
    GROUP("Sampling"),
    REAL("--temperature", &opt.temperature, 0, 100, "X",
         "below 1 likely tokens gain, above 1 they lose; 0: always the likeliest"),
    INT("--top-k", &opt.top_k, 0, 1 << 20, "N", "only the N likeliest tokens; 0: all"),
    REAL("--top-p", &opt.top_p, 0, 1, "X", "only the likeliest that share probability X"),
    REAL("--repeat-penalty", &opt.penalty, 0.1, 10, "X",
         "above 1, tokens that the answer already has become less likely"),
    INT("--seed", &opt.seed, 0, 1e15, "N",
        "same seed and prompt, same answer; row i of --in, from 0, is answered as with seed N + i"),
    GROUP("Running"),
    INT("--batch", &opt.batch, 1, 4096, "N", "rows of --in at once; changes no answer"),
    INT("--threads", &opt.threads, 1, 1024, "N", "otherwise all cores; changes no answer"),
    FLAG("--help", &opt.help, "print this"),
    FLAG("--version", &opt.version, "print the version"),
};
enum { OPTIONS = sizeof OPTION / sizeof OPTION[0] };

static const char COMMANDS[] =
    "  /reset                    begin a new conversation; the system turn stays\n"
    "  /system TEXT              set the system turn; without TEXT: none\n"
    "  /undo                     take the last exchange back\n"
    "  /help                     print this list\n"
    "  /quit                     end, as Ctrl-D does\n"
    "  //...                     say a line that begins with /\n"
    "  Ctrl-C                    stop the answer; when there is none: end\n";

static void help(void) {
    printf("chat -- talk with a model (tune.c %s)\n\n"
           "  ./chat --model m.bin                               a conversation\n"
           "  ./chat --model m.bin --prompt \"Who was Alice?\"     one answer\n"
           "  ./chat --model m.bin --in rows.jsonl > said.jsonl  an answer to each row\n\n",
           TUNE_VERSION);
    options_print(OPTION, OPTIONS);
    printf("\nIn a conversation, on a line of its own\n%s\n", COMMANDS);
    printf("Each line of standard input is a turn. A template with sections ([user] and\n"
           "[assistant]; chatml, llama3) makes a conversation of them: each answer depends\n"
           "on what was said before. With another template (alpaca, plain, none) or --raw\n"
           "each line stands on its own.\n\n"
           "A conversation that outgrows the context loses its oldest exchanges, until\n"
           "--max-tokens, or a quarter of the context if that is less, is free for the\n"
           "answer. The system turn stays. An answer ends at any special token.\n\n"
           "An answer of --in: {\"row\": 0, \"prompt\": \"...\", \"answer\": \"...\", \"tokens\": 7,\n"
           "\"stopped\": \"end\"}; stopped is end, length (--max-tokens reached) or context.\n");
}

// ---- a model and its conversation -------------------------------------------------------------------------

typedef struct {
    Checkpoint k;
    Model m;
    void *block;                      // the model's memory
    size_t context;                   // tokens that the cache can hold
    Stream row;                       // of the conversation; row.id (context + 1) is freed
    int32_t *scratch;                 // of model_extend; in the same memory, behind row.id
    char *template;                   // NULL: --raw
    bool turns_kept;                  // the template has sections, so there are conversations
    char lead[LEAD];                  // white space that begins an answer and is the template's
    Sampling sampling;
    Turn *turn;                       // the conversation; each text is freed with it
    size_t turns;
    bool interactive;
} Chat;

static volatile sig_atomic_t stopped; // Ctrl-C came during the answer at hand

// The second one ends the program, in case the answer at hand is slow to stop.
static void on_interrupt(int sig) {
    stopped = 1;
    signal(sig, SIG_DFL);
}

// A line on standard error, after what was shown.
static void note(const char *format, ...) {
    va_list list;
    fflush(stdout);
    fprintf(stderr, "note: ");
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
}

// ---- what the model is given ------------------------------------------------------------------------------

static void prompt_free(Prompt *p) {
    free((void *)p->tok);
    *p = (Prompt){NULL, 0};
}

// The text as it is, after begin-of-text if the tokenizer has one. Where that leaves nothing: end-of-text,
// after which, in training, a new text begins.
static int prompt_raw(Prompt *p, const Tokenizer *t, const char *text, Err *e) {
    size_t n = strlen(text);
    int32_t first = t->bos >= 0 ? t->bos : n == 0 ? t->eot : -1;
    int32_t *tok = malloc((tokenizer_most(t, n) + 1) * sizeof *tok);
    void *scratch = malloc(tokenizer_encode_size(t, n));
    *p = (Prompt){tok, 0};
    int rc = scratch && tok ? 0 : err_set(e, "out of memory for a prompt of %zu bytes", n);
    if (!rc && first >= 0) tok[p->n++] = first;
    if (!rc) p->n += tokenizer_encode(t, (const uint8_t *)text, n, false, tok + p->n, scratch);
    if (!rc && p->n == 0) rc = err_set(e, "empty prompt: this tokenizer has no token to begin with");
    free(scratch);
    if (rc) prompt_free(p);
    return rc;
}

// Turns, of which the last is the user's, as a row of training has them, up to where the answer begins.
static int render(const Chat *c, Turn *turn, size_t turns, const char *path, uint32_t line, Prompt *p,
                  Err *e) {
    Row row = {turn, turns, "", line, 0};
    Rows rows = {.row = &row, .n = 1, .path = (char *)path};
    const Tokenizer *t = &c->k.tok;
    Examples x;
    *p = (Prompt){NULL, 0};
    if (examples_make(&x, &rows, c->template, t, INT32_MAX, TOO_LONG_REFUSE, TEACH_NONE, e)) return -1;
    size_t n = x.ex[0].prompt;
    int32_t *tok = malloc((n + 1) * sizeof *tok);
    int rc = tok ? 0 : err_set(e, "out of memory for a prompt of %zu tokens", n);
    if (!rc && n == 0) rc = err_set(e, "the template has nothing before {target}");
    if (!rc) memcpy(tok, x.ex[0].tok, n * sizeof *tok);
    *p = (Prompt){tok, n};
    if (rc) prompt_free(p);
    examples_free(&x);
    return rc;
}

// The same without the k oldest exchanges: the system turn moves to where the rest begins, and back.
static int render_without(const Chat *c, size_t k, Turn *turn, size_t turns, const char *path, uint32_t line,
                          Prompt *p, Err *e) {
    Turn *first = turn + 2 * k, was = *first;
    if (turn->role == ROLE_SYSTEM) *first = *turn;
    int rc = render(c, first, turns - 2 * k, path, line, p, e);
    *first = was;
    return rc;
}

// Leaves out as few of the oldest exchanges as it takes (*left_out) for the answer to have room. Without any,
// the rest needs only leave room for one token.
static int prompt_fit(const Chat *c, Turn *turn, size_t turns, const char *path, uint32_t line, Prompt *p,
                      size_t *left_out, Err *e) {
    size_t answer = (size_t)opt.max_tokens < c->context / 4 ? (size_t)opt.max_tokens : c->context / 4;
    size_t room = c->context - answer, low = 0, high = (turns - (turn->role == ROLE_SYSTEM)) / 2;
    if (render(c, turn, turns, path, line, p, e)) return -1;
    while (p->n > room && low < high) {           // bisection, where the first guess was that 0 will do
        size_t k = low + (high - low) / 2;
        Prompt less;
        if (render_without(c, k, turn, turns, path, line, &less, e)) { prompt_free(p); return -1; }
        if (less.n <= room) high = k;
        else low = k + 1;
        prompt_free(&less);
    }
    *left_out = low;
    if (low > 0) prompt_free(p);
    return low > 0 ? render_without(c, low, turn, turns, path, line, p, e) : 0;
}

static int prompt_check(const Chat *c, Prompt *p, const char *path, uint32_t line, Err *e) {
    char where[300] = "";
    if (p->n <= c->context) return 0;
    if (path) snprintf(where, sizeof where, "%.250s:%" PRIu32 ": ", path, line);
    return err_set(e, "%sprompt: %zu tokens, want 1..%zu, what the model can see%s", where, p->n, c->context,
                   c->context < (size_t)c->k.cfg.context ? "\nhint: --context" : "");
}

// ---- what is shown ----------------------------------------------------------------------------------------
// A model's answer may hold any byte. A terminal gets whole characters, for which the bytes of several tokens
// may be needed, and '?' for what would control it or is no UTF-8. A file or pipe gets the bytes as they are.

typedef struct {
    uint8_t held[4];
    size_t n;
    bool terminal;
} Screen;

static bool printable(const uint8_t *s, size_t n) {
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t code = n == 1 ? s[0] : s[0] & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) code = code << 6 | (s[i] & 0x3Fu);
    if (n == 1 && (code == '\n' || code == '\t')) return true;
    bool control = code < ' ' || (code >= 0x7F && code < 0xA0), surrogate = code >= 0xD800 && code < 0xE000;
    return !control && !surrogate && code >= least[n] && code < 0x110000;
}

static void screen_end(Screen *s) {   // what is held will not be completed
    if (s->n > 0) putchar('?');
    s->n = 0;
}

static void screen_put(Screen *s, uint8_t byte) {
    if (!s->terminal) { putchar(byte); return; }
    bool goes_on = (byte & 0xC0) == 0x80;
    if (!goes_on) screen_end(s);
    s->held[s->n++] = byte;
    uint8_t lead = s->held[0];
    size_t wanted = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (s->n < wanted) return;
    if (lead < 0xF8 && (lead & 0xC0) != 0x80 && printable(s->held, s->n))
        (void)fwrite(s->held, 1, s->n, stdout);
    else putchar('?');
    s->n = 0;
}

static void screen_text(Screen *s, const char *text) {
    while (*text) screen_put(s, (uint8_t)*text++);
}

// ---- an answer --------------------------------------------------------------------------------------------

// The text of a token of the answer, to the screen and to `said`.
static int show(Chat *c, int32_t id, Screen *screen, const char **lead, Text *said, Err *e) {
    size_t bytes;
    const uint8_t *s = tokenizer_decode(&c->k.tok, id, &bytes);
    for (size_t i = 0; i < bytes; i++) {
        if (**lead && s[i] == (uint8_t)**lead) { ++*lead; continue; }
        *lead = "";
        screen_put(screen, s[i]);
        if (s[i]) text_add(said, "%c", s[i]);       // a turn is a C string; 0 is shown, not remembered
    }
    if (said->failed) return err_set(e, "out of memory for an answer of %zu bytes", said->n);
    if (fflush(stdout) == 0 || stopped) return 0;      // a signal may cut a write off
    return err_set(e, "standard output cannot be written");
}

// Shows the answer to a prompt as it comes, and adds it to `said`. It depends on prompt and seed alone, and
// is what generate makes of them for row 0.
static int answer(Chat *c, const Prompt *p, Text *said, Err *e) {
    Screen screen = {.terminal = is_terminal(1)};
    Stream *row = &c->row;
    const char *lead = c->lead;
    size_t made = 0, same = 0;
    bool ended = false;
    Fault f;
    while (same < row->fed && same + 1 < p->n && row->id[same] == p->tok[same]) same++;
    memcpy(row->id + same, p->tok + same, (p->n - same) * sizeof *row->id);
    *row = (Stream){.id = row->id, .n = p->n, .prompt = p->n, .fed = same, .rng = {(uint64_t)opt.seed}};
    while (!stopped && !ended && made < (size_t)opt.max_tokens && row->n <= c->context) {
        if (model_extend(&c->m, row, 1, &c->sampling, c->k.tok.vocab, c->scratch, &f))
            return err_fault(e, "answer", &f);
        if (!row->fresh) continue;                // the prompt is longer than what goes through at once
        int32_t id = row->id[row->n - 1];
        ended = c->k.tok.flag[id] == TOKEN_SPECIAL;
        if (!ended && show(c, id, &screen, &lead, said, e)) return -1;
        made += !ended;
    }
    screen_end(&screen);
    putchar('\n');
    if (stopped) note("stopped");
    else if (row->n > c->context && !ended) note("cut off: the context of %zu tokens is full", c->context);
    else if (!ended && c->interactive && c->template) note("cut off after %zu tokens: --max-tokens", made);
    return 0;
}

// ---- a conversation ---------------------------------------------------------------------------------------

static int turn_insert(Chat *c, size_t at, Role role, const char *text, Err *e) {
    size_t bytes = strlen(text) + 1;
    char *copy = malloc(bytes);
    Turn *grown = copy ? realloc(c->turn, (c->turns + 1) * sizeof *grown) : NULL;
    if (!grown) {
        free(copy);
        return err_set(e, "out of memory for a turn of %zu bytes", bytes);
    }
    memcpy(copy, text, bytes);
    c->turn = grown;
    memmove(c->turn + at + 1, c->turn + at, (c->turns++ - at) * sizeof *c->turn);
    c->turn[at].role = role;
    c->turn[at].text = copy;
    c->turn[at].input = "";
    return 0;
}

static void turns_remove(Chat *c, size_t at, size_t n) {
    for (size_t i = at; i < at + n; i++) free((void *)c->turn[i].text);
    c->turns -= n;
    if (n > 0) memmove(c->turn + at, c->turn + at + n, (c->turns - at) * sizeof *c->turn);
}

static bool has_system(const Chat *c) { return c->turns > 0 && c->turn->role == ROLE_SYSTEM; }

// A system turn in place of the one there was; "": none.
static int set_system(Chat *c, const char *text, Err *e) {
    Turn probe[2] = {{ROLE_SYSTEM, text, ""}, {ROLE_USER, "x", ""}};
    Prompt p = {NULL, 0};
    if (!c->turns_kept)
        return err_set(e, "a system turn wants a template with sections\nhint: --template chatml");
    if (*text && render(c, probe, 2, "system turn", 1, &p, e)) return -1;
    prompt_free(&p);
    turns_remove(c, 0, has_system(c));
    return *text ? turn_insert(c, 0, ROLE_SYSTEM, text, e) : 0;
}

// Answers text as the next turn. A turn that failed, or whose answer has no text, is not kept.
static int reply(Chat *c, const char *text, Err *e) {
    Prompt p = {NULL, 0};
    Text said = {0};
    size_t left_out = 0;
    if (!c->turns_kept) turns_remove(c, 0, c->turns);
    if (turn_insert(c, c->turns, ROLE_USER, text, e)) return -1;
    int rc = c->template ? prompt_fit(c, c->turn, c->turns, "prompt", 1, &p, &left_out, e)
                         : prompt_raw(&p, &c->k.tok, text, e);
    if (!rc) rc = prompt_check(c, &p, NULL, 0, e);
    if (!rc && left_out > 0) {
        note("the context is full: oldest exchanges left out from here on: %zu", left_out);
        turns_remove(c, has_system(c), 2 * left_out);
    }
    stopped = 0;
    if (c->interactive) signal(SIGINT, on_interrupt);
    if (!rc) rc = answer(c, &p, &said, e);
    if (c->interactive) signal(SIGINT, SIG_DFL);
    if (!rc && said.n == 0 && c->turns_kept) note("without an answer the turn is not kept");
    bool answered = !rc && said.n > 0;
    if (answered) rc = turn_insert(c, c->turns, ROLE_ASSISTANT, said.s, e);
    if (rc || !answered) turns_remove(c, c->turns - 1, 1);
    prompt_free(&p);
    free(said.s);
    return rc;
}

// A line that begins with one /. Returns 0, -1 and an error, or 1: the end is wanted.
static int obey(Chat *c, const char *line, Err *e) {
    size_t first = has_system(c);
    if (!strcmp(line, "/quit")) return 1;
    if (!strcmp(line, "/help")) {
        fflush(stdout);
        fputs(COMMANDS, stderr);
    } else if (!strcmp(line, "/reset")) {
        turns_remove(c, first, c->turns - first);
        note(first ? "a new conversation; the system turn stays" : "a new conversation");
    } else if (!strcmp(line, "/undo")) {
        if (!c->turns_kept || c->turns == first) return err_set(e, "/undo: there is nothing to take back");
        turns_remove(c, c->turns - 2, 2);
        note("the last exchange is taken back");
    } else if (!strcmp(line, "/system") || !strncmp(line, "/system ", 8)) {
        if (set_system(c, line[7] ? line + 8 : "", e)) return -1;
        note(has_system(c) ? "the system turn is set" : "there is no system turn now");
    } else {
        return err_set(e, "unknown command %.40s\nhint: /help lists them; //... says /...", line);
    }
    return 0;
}

// A line of standard input without its end, 0-terminated; false: there is none any more.
static bool line_read(char line[LINE_BYTES + 1], size_t *n) {
    int ch;
    *n = 0;
    while ((ch = getchar()) != EOF && ch != '\n') {
        if (*n < LINE_BYTES) line[*n] = (char)ch;
        ++*n;
    }
    if (*n > 0 && *n <= LINE_BYTES && line[*n - 1] == '\r') --*n;
    line[*n < LINE_BYTES ? *n : LINE_BYTES] = '\0';
    return ch != EOF || *n > 0;
}

// Answers each line. Returns how many could not be answered, which don't stop the others.
static int converse(Chat *c) {
    static char line[LINE_BYTES + 1];
    int failed = 0, rc = 0;
    Err e;
    for (size_t n; rc != 1;) {
        fflush(stdout);
        if (c->interactive) fprintf(stderr, "\n> ");
        if (!line_read(line, &n)) break;
        if (n == 0) continue;
        if (n > LINE_BYTES || strlen(line) < n)
            rc = err_set(&e, "a line of %zu bytes, want at most %d and no 0 among them", n, LINE_BYTES);
        else if (line[0] == '/' && line[1] != '/') rc = obey(c, line, &e);
        else rc = reply(c, line + (line[0] == '/'), &e);
        if (rc >= 0) continue;
        fflush(stdout);
        fprintf(stderr, "chat: %s\n", e.msg);
        failed++;
    }
    return failed;
}

// ---- many prompts -----------------------------------------------------------------------------------------

// The prompt of a row: its turns without its answer, if it has one, after --system if it has none of its own.
static int row_prompt(const Chat *c, const Row *row, const char *path, Prompt *p, Err *e) {
    size_t turns = row->turns - (row->turn[row->turns - 1].role == ROLE_ASSISTANT), left_out = 0;
    bool add = opt.system && *opt.system && row->turn->role != ROLE_SYSTEM;
    if (!c->template && (turns > 1 || *row->turn->input))
        return err_set(e, "%s:%" PRIu32 ": --raw takes rows with a prompt alone", path, row->line);
    Turn *turn = malloc((turns + 1) * sizeof *turn);
    if (!turn) return err_set(e, "out of memory for a row of %zu turns", turns);
    if (add) turn[0] = (Turn){ROLE_SYSTEM, opt.system, ""};
    memcpy(turn + add, row->turn, turns * sizeof *turn);
    int rc = c->template ? prompt_fit(c, turn, turns + add, path, row->line, p, &left_out, e)
                         : prompt_raw(p, &c->k.tok, row->turn->text, e);
    free(turn);
    if (!rc) rc = prompt_check(c, p, path, row->line, e);
    if (!rc && left_out > 0)
        note("%s:%" PRIu32 ": the context is full: oldest exchanges left out: %zu", path, row->line,
             left_out);
    return rc;
}

// A member of an object, after `comma`; name and text are quoted.
static int member(Screen *s, const char *comma, const char *name, const char *text, size_t n, Err *e) {
    char *quoted = json_quote(text, n);
    if (!quoted) return err_set(e, "out of memory for a text of %zu bytes", n);
    screen_text(s, comma);
    screen_put(s, '"');
    screen_text(s, name);
    screen_text(s, "\": ");
    screen_text(s, quoted);
    free(quoted);
    return 0;
}

// What the row asked, under the names that it would have in a file of rows.
static int asked(Screen *s, const Row *row, Err *e) {
    static const char *const role[ROLES] = {"system", "user", "assistant"};
    size_t turns = row->turns - (row->turn[row->turns - 1].role == ROLE_ASSISTANT);
    const Turn *t = row->turn;
    if (turns == 1 && *t->input)
        return member(s, ", ", "instruction", t->text, strlen(t->text), e) ||
               member(s, ", ", "input", t->input, strlen(t->input), e) ? -1 : 0;
    if (turns == 1) return member(s, ", ", "prompt", t->text, strlen(t->text), e);
    screen_text(s, ", \"messages\": [");
    for (size_t i = 0; i < turns; i++, t++) {
        if (member(s, i > 0 ? ", {" : "{", "role", role[t->role], strlen(role[t->role]), e) ||
            member(s, ", ", "content", t->text, strlen(t->text), e)) return -1;
        screen_put(s, '}');
    }
    screen_put(s, ']');
    return 0;
}

static int answer_print(const Chat *c, size_t i, const Row *row, const Generated *g, Err *e) {
    static const char *const why[] = {[STOP_END] = "end", [STOP_LINE] = "line", [STOP_LENGTH] = "length",
                                      [STOP_FULL] = "context"};
    Screen s = {.terminal = is_terminal(1)};
    size_t lead = 0;
    while (lead < g->bytes && c->lead[lead] && g->text[lead] == c->lead[lead]) lead++;
    printf("{\"row\": %zu", i);
    if (asked(&s, row, e) || member(&s, ", ", "answer", g->text + lead, g->bytes - lead, e)) return -1;
    printf(", \"tokens\": %zu, \"stopped\": \"%s\"}\n", g->tokens, why[g->stop]);
    return 0;
}

// Memory for `rows` conversations at once, of at most `cached` tokens each, and the weights in it.
static int weights_load(Chat *c, size_t rows, size_t cached, Err *e) {
    size_t chunk = CHUNK / rows > 0 ? CHUNK / rows : 1;
    Shape s = {.rows = rows, .seq = chunk < cached ? chunk : cached, .cached = cached,
               .threads = opt.threads ? (int)opt.threads : cores()};
    return model_load(&c->m, &c->block, &c->k, &s, e);
}

static int answer_batch(Chat *c, const Rows *rows, size_t first, const Prompt *p, size_t n, Err *e) {
    Generated *out = calloc(n, sizeof *out);
    if (!out) return err_set(e, "out of memory for %zu answers", n);
    int rc = generate(&c->m, &c->k.tok, p, n, &c->sampling, (uint64_t)opt.seed + first,
                      (size_t)opt.max_tokens, false, out, e);
    for (size_t i = 0; i < n; i++) {
        if (!rc) rc = answer_print(c, first + i, &rows->row[first + i], &out[i], e);
        free(out[i].text);
    }
    free(out);
    if (!rc && fflush(stdout)) rc = err_set(e, "standard output cannot be written");
    return rc;
}

// Prompts that cannot be answered are found before the first answer.
static int answer_file(Chat *c, const char *path, Err *e) {
    Rows rows;
    size_t longest = 0, most = (size_t)opt.max_tokens;
    bool progress = is_terminal(2) && !is_terminal(1);
    const RowsHow how = {.columns = opt.columns};
    if (rows_load(&rows, path, &how, e)) return -1;
    size_t batch = (size_t)opt.batch < rows.n ? (size_t)opt.batch : rows.n;
    Prompt *p = calloc(rows.n, sizeof *p);
    int rc = p ? 0 : err_set(e, "out of memory for %zu rows", rows.n);
    for (size_t i = 0; i < rows.n && !rc; i++) {
        rc = row_prompt(c, &rows.row[i], path, &p[i], e);
        if (p[i].n > longest) longest = p[i].n;
    }
    if (!rc) rc = weights_load(c, batch, most < c->context - longest ? longest + most : c->context, e);
    for (size_t i = 0, n; i < rows.n && !rc; i += n) {
        n = rows.n - i < batch ? rows.n - i : batch;
        rc = answer_batch(c, &rows, i, p + i, n, e);
        if (progress && !rc)
            fprintf(stderr, "\ranswers %zu/%zu%s", i + n, rows.n, i + n < rows.n ? "" : "\n");
    }
    for (size_t i = 0; p && i < rows.n; i++) prompt_free(&p[i]);
    free(p);
    rows_free(&rows);
    return rc;
}

// ---- main -------------------------------------------------------------------------------------------------

// White space between {target} and the answer's text, or add_space's space: a stand-in shows it.
static int find_lead(Chat *c, Err *e) {
    Turn turn[2] = {{ROLE_USER, "x", ""}, {ROLE_ASSISTANT, "x", ""}};
    Row row = {turn, 2, "x", 1, 0};
    Rows rows = {.row = &row, .n = 1, .path = c->k.path};
    const Tokenizer *t = &c->k.tok;
    Examples x;
    if (examples_make(&x, &rows, c->template, t, INT32_MAX, TOO_LONG_REFUSE, TEACH_LAST, e)) return -1;
    size_t n = 0, bytes;
    bool space = true;
    for (uint32_t at = x.ex[0].prompt; space && at < x.ex[0].len; at++) {
        const uint8_t *s = tokenizer_decode(t, x.ex[0].tok[at], &bytes);
        for (size_t i = 0; i < bytes && space; i++)
            if ((space = n + 1 < LEAD && s[i] && strchr(" \t\r\n", s[i]))) c->lead[n++] = (char)s[i];
    }
    examples_free(&x);
    return 0;
}

static int chat_open(Chat *c, Err *e) {
    if (checkpoint_open(&c->k, opt.model, opt.base, e)) return -1;
    if (c->k.tok.kind == TOK_NONE) return err_set(e, "%s: the checkpoint has no tokenizer", opt.model);
    size_t P = (size_t)c->k.cfg.context;
    c->context = opt.context ? (size_t)opt.context : P < CONTEXT ? P : CONTEXT;
    if (c->context > P) return err_set(e, "--context: %zu, want at most the model's %zu", c->context, P);
    if (!opt.raw && (opt.template || *c->k.template)) {
        if (template_choose(opt.template, &c->k, &c->template, e) || find_lead(c, e)) return -1;
        c->turns_kept = template_has_sections(c->template);
    } else if (c->k.tok.add_space) strcpy(c->lead, " ");
    c->sampling.temperature = (float)opt.temperature;
    c->sampling.top_k = (int32_t)opt.top_k;
    c->sampling.top_p = (float)opt.top_p;
    c->sampling.repeat_penalty = (float)opt.penalty;
    return opt.system ? set_system(c, opt.system, e) : 0;
}

static int talk(Chat *c, Err *e) {
    double start = seconds();
    if (weights_load(c, 1, c->context, e)) return -1;
    size_t numbers = c->context + 1 + c->m.shape.seq + 3 + (size_t)c->k.cfg.vocab;
    if (!(c->row.id = malloc(numbers * sizeof *c->row.id))) return err_set(e, "out of memory");
    c->scratch = c->row.id + c->context + 1;
    if (opt.prompt) return reply(c, opt.prompt, e);
    if ((c->interactive = is_terminal(0) && is_terminal(2)))
        fprintf(stderr, "%.1f million parameters, a context of %zu tokens, loaded in %.1f s\n%s\n"
                "/help lists the commands, Ctrl-C stops an answer, Ctrl-D ends\n",
                (double)model_params(&c->k.cfg) * 1e-6, c->context, seconds() - start,
                c->turns_kept ? "a conversation: answers depend on what was said before" :
                c->template ? "the template is for single exchanges: each line stands on its own" :
                "no template: the model goes on with each line, which stands on its own");
    int failed = converse(c);
    if (ferror(stdin)) return err_set(e, "standard input cannot be read");
    return failed > 0 && !c->interactive ? err_set(e, "not every line was answered") : 0;
}

static int check_options(Err *e) {
    if (!opt.model) return err_set(e, "no model, want --model FILE\nhint: chat --help");
    if (opt.prompt && opt.in) return err_set(e, "want either --prompt TEXT or --in FILE");
    if (opt.columns && !opt.in) return err_set(e, "--columns names those of --in FILE");
    if (opt.raw && opt.template) return err_set(e, "want either --raw or --template");
    return 0;
}

int main(int argc, char **argv) {
    Chat c;
    Err e = {""};
    const char *word[1];
    int words = 0, rc = options_parse(OPTION, OPTIONS, argc, argv, word, 0, &words, &e);
    memset(&c, 0, sizeof c);
    if (!rc && (opt.help || opt.version)) {
        if (opt.help) help();
        else printf("tune.c %s\n", TUNE_VERSION);
    } else if (!rc) {
        rc = check_options(&e) || chat_open(&c, &e) ? -1 : 0;
        if (!rc) rc = opt.in ? answer_file(&c, opt.in, &e) : talk(&c, &e);
    }
    if (rc == 0 && fflush(stdout) != 0) rc = err_set(&e, "standard output cannot be written");
    if (rc) fprintf(stderr, "chat: %s\n", e.msg);
    turns_remove(&c, 0, c.turns);
    free(c.turn);
    free(c.template);
    block_free(c.block);
    free(c.row.id);
    checkpoint_close(&c.k);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

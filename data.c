// data.c -- every byte in and out: options, files, JSON and CSV, checkpoint, rows, examples, batches.
// Read in this order: file_read and the Writer -> json_value, parse -> tensor_move, the Header of the
// checkpoint -> rows_load -> examples_make -> batch_fill; then generate.
//
// Contract. Whatever a file holds, a function returns 0, or -1 and says where what is wrong. It doesn't crash
// or hang, and frees what it had allocated when it fails.
// Invariants. No number of a file becomes a size before it was compared with a limit or the file's own size.
// Memory is a small multiple of the file's size, time linear in it. A file that was there stays whole until
// its successor is complete on disk.
// The one file that needs POSIX. No program calls setlocale, so strtod and printf spell numbers C's way.
// Not here on purpose: arithmetic on weights, decisions on training, printing (but for the table of --help).
#define _XOPEN_SOURCE 700             // POSIX.1-2008
#define _DEFAULT_SOURCE               // madvise, of Linux alone
#define _FILE_OFFSET_BITS 64          // checkpoints over 2 GiB on 32-bit hosts
#include "model.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/mman.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_num_procs() 1         // nothing would use more
#endif

// ---- errors -----------------------------------------------------------------------------------------------
// Bytes of hostile files end up in messages: the terminal that shows them must not be controlled by them.
static const char *tame(char *text) {
    for (uint8_t *p = (uint8_t *)text; *p; p++)
        if (*p < ' ' ? strncmp((char *)p, "\nhint:", 6) : *p == 127 || (*p == 0xC2 && p[1] < 0xA0)) *p = '?';
    return text;
}

int err_set(Err *e, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(e->msg, sizeof e->msg, format, list);
    va_end(list);
    tame(e->msg);
    return -1;
}

int err_fault(Err *e, const char *where, const Fault *f) {
    return err_set(e, "%s: %s = %" PRId64 ", want %" PRId64 "..%" PRId64, where, f->what, f->value, f->lo,
                   f->hi);
}

static int want(const char *where, const char *what, int64_t value, int64_t lo, int64_t hi, Err *e) {
    Fault f = {what, value, lo, hi};
    return value >= lo && value <= hi ? 0 : err_fault(e, where, &f);
}

static int err_errno(Err *e, const char *path, const char *doing) {
    return err_set(e, "%s: cannot %s: %s", path, doing, strerror(errno));
}

int err_memory(Err *e, size_t bytes) {
    return err_set(e, "cannot get %.1f MiB of memory", (double)bytes / (1 << 20));
}

// ---- options ----------------------------------------------------------------------------------------------
enum { HELP_AT = 28, HELP_WIDTH = 80 };

// The option of that name; NULL: there is none, and the error names the nearest: that with the fewest letters
// from the first to the last in which the two differ, 1 for most slips of the finger.
static Option *option_find(Option *o, int n, const char *name, size_t length, Err *e) {
    const char *nearest = "--help";
    size_t least = 4;                 // farther than that it is no slip
    for (int i = 0; i < n; i++) {
        if (!o[i].name) continue;     // a group's title
        size_t m = strlen(o[i].name), both = length < m ? length : m, head = 0, tail = 0;
        while (head < both && name[head] == o[i].name[head]) head++;
        if (head == length && head == m) return &o[i];
        while (head + tail < both && name[length - 1 - tail] == o[i].name[m - 1 - tail]) tail++;
        size_t apart = length + m - both - head - tail;
        if (apart >= least) continue;
        least = apart;
        nearest = o[i].name;
    }
    err_set(e, "unknown option %.*s\nhint: %s", (int)(length < 64 ? length : 64), name, nearest);
    return NULL;
}

static int option_set(Option *o, const char *text, Err *e) {
    char *end = NULL;
    intmax_t whole = 0;
    double x = 0;
    if (o->kind == OPT_INT) x = (double)(whole = strtoimax(text, &end, 10));       // saturates
    if (o->kind == OPT_REAL) x = strtod(text, &end);
    if (end && (end == text || *end))
        return err_set(e, "%s: '%s' is not a%s number", o->name, text, o->kind == OPT_INT ? " whole" : "");
    if (end && !(x >= o->lo && x <= o->hi))            // so written, NaN is refused too
        return err_set(e, "%s: %s is out of range, want %.15g..%.15g", o->name, text, o->lo, o->hi);
    if (o->kind == OPT_TEXT && !*text && !strcmp(o->arg, "FILE"))
        return err_set(e, "%s: the name of a file is empty", o->name);
    if (o->kind == OPT_FLAG) *(bool *)o->value = true;
    if (o->kind == OPT_INT) *(int64_t *)o->value = (int64_t)whole;
    if (o->kind == OPT_REAL) *(double *)o->value = x;
    if (o->kind == OPT_TEXT) *(const char **)o->value = text;
    o->given = true;
    return 0;
}

// One option at argv[*at]; *at moves on to its value if that is a word of its own.
static int option_take(Option *o, int n, int argc, char **argv, int *at, Err *e) {
    const char *name = argv[*at], *value = strchr(name, '=');
    size_t length = value ? (size_t)(value++ - name) : strlen(name);
    if (!(o = option_find(o, n, name, length, e))) return -1;
    if (o->given) return err_set(e, "%s is given twice", o->name);
    if (o->kind == OPT_FLAG && value) return err_set(e, "%s takes no value, got '%s'", o->name, value);
    if (o->kind != OPT_FLAG && !value) {
        if (*at + 1 == argc || !strncmp(argv[*at + 1], "--", 2))
            return err_set(e, "%s wants a value\nhint: %s=%s", o->name, o->name, o->arg);
        value = argv[++*at];
    }
    return option_set(o, value, e);
}

int options_parse(Option *o, int n, int argc, char **argv, const char **word, int max_words, int *words,
                  Err *e) {
    bool ended = false;               // "--" was seen
    for (int i = 0; i < 3; i++)       // what goes to a closed stream shall not end up in a file opened later
        if (!isatty(i) && errno == EBADF) (void)!open("/dev/null", O_RDONLY);
    *words = 0;
    for (int i = 1; i < argc; i++) {
        bool option = !ended && argv[i][0] == '-' && argv[i][1];
        if (option && !strcmp(argv[i], "--")) ended = true;
        else if (option && option_take(o, n, argc, argv, &i, e)) return -1;
        else if (!option && *words == max_words)
            return err_set(e, "'%s' is one word too many, want at most %d", argv[i], max_words);
        else if (!option) word[(*words)++] = argv[i];
    }
    return 0;
}

// Puts the words of text into the right-hand column of a line that has been printed up to column `at`.
static void print_wrapped(int at, const char *text) {
    if (at > HELP_AT - 2) at = HELP_WIDTH;
    while (*text) {
        int word = (int)strcspn(text, " ");
        if (at + 1 + word > HELP_WIDTH) {
            putchar('\n');
            at = 0;
        }
        at += printf("%*s%.*s", at < HELP_AT ? HELP_AT - at : 1, "", word, text);
        for (text += word; *text == ' ';) text++;
    }
    putchar('\n');
}

void options_print(const Option *o, int n) {
    for (int i = 0; i < n; i++, o++) {
        char text[512], value[64] = "";
        const char *shown = value;
        if (!o->name) {
            printf("%s%s\n", i > 0 ? "\n" : "", o->help);
            continue;
        }
        const int64_t *whole = o->kind == OPT_INT ? o->value : NULL;   // below lo: none, and help says more
        if (whole && (double)*whole >= o->lo) snprintf(value, sizeof value, "%" PRId64, *whole);
        if (o->kind == OPT_REAL) snprintf(value, sizeof value, "%g", *(const double *)o->value);
        if (o->kind == OPT_TEXT && *(const char **)o->value) shown = *(const char **)o->value;
        snprintf(text, sizeof text, *shown ? "%s (default %s)" : "%s%s", o->help, shown);
        print_wrapped(printf("  %s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : ""), text);
    }
}

// ---- machine ----------------------------------------------------------------------------------------------
double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int cores(void) { return omp_get_num_procs(); }
bool is_terminal(int descriptor) { return isatty(descriptor) == 1; }

// Zeroing touches every page now: a system that promises more memory than it has fails before the first step.
// Where Linux has large pages, weights that stream by cost fewer searches for pages.
void *block_alloc(size_t bytes, Err *e) {
    enum { LARGE_PAGE = 1 << 21 };
    void *p = NULL;
    if (posix_memalign(&p, bytes < LARGE_PAGE ? 64 : LARGE_PAGE, bytes > 0 ? bytes : 1)) {
        err_memory(e, bytes);
        return NULL;
    }
#ifdef MADV_HUGEPAGE
    if (bytes >= LARGE_PAGE) madvise(p, bytes, MADV_HUGEPAGE);
#endif
    return memset(p, 0, bytes);
}

void block_free(void *block) { free(block); }

int grow(void *where, size_t *room, size_t need, size_t size, Err *e) {
    void *p, *grown;
    memcpy(&p, where, sizeof p);
    if (p && need <= *room) return 0;
    if (need < SIZE_MAX / 2 && need < *room * 2) need = *room * 2;
    if (need > PTRDIFF_MAX / size) return err_memory(e, SIZE_MAX);
    if (!(grown = realloc(p, need * size))) return err_memory(e, need * size);
    memcpy(where, &grown, sizeof grown);
    *room = need;                     // analyzer: where has it
    return 0;
}

enum { DATA_MAX = 1 << 30 };          // bytes of a file of rows or text, and of a Text, which may be encoded
void text_add(Text *t, const char *format, ...) {
    va_list list;
    Err e;
    va_start(list, format);
    int n = vsnprintf(NULL, 0, format, list);
    va_end(list);
    t->failed = t->failed || n < 0 || (size_t)n > DATA_MAX - t->n ||
                grow(&t->s, &t->room, t->n + (size_t)n + 1, 1, &e);
    if (t->failed) return;
    va_start(list, format);
    t->n += (size_t)vsnprintf(t->s + t->n, (size_t)n + 1, format, list);
    va_end(list);
}

// ---- files: reading ---------------------------------------------------------------------------------------
enum { PATH_BYTES = 4096 };           // Linux's own limit
static int err_special(Err *e, const char *path, const struct stat *st) {
    const char *what = S_ISDIR(st->st_mode) ? "a folder" : "a device, a pipe or a link to nothing";
    return err_set(e, "%s: is %s, want a file", path, what);
}

// regular: neither device nor pipe will do, as the size must be known.
static FILE *file_open(const char *path, bool regular, struct stat *st, Err *e) {
    FILE *f = NULL;
    if (stat(path, st)) err_errno(e, path, "open");    // NOLINT(*branch-clone): in the order of what is tried
    else if (S_ISDIR(st->st_mode) || (regular && !S_ISREG(st->st_mode))) err_special(e, path, st);
    else if (!(f = fopen(path, "rb"))) err_errno(e, path, "open");
    return f;
}

// NOLINTNEXTLINE(*NonNullParamChecker): template_choose gives no NULL, as "plain" is always known
bool file_there(const char *path) { return access(path, F_OK) == 0 || (errno != ENOENT && errno != ENOTDIR); }

// fread that no signal cuts short. Fewer than n bytes: the file has ended, or ferror(f).
static size_t read_some(FILE *f, void *out, size_t n) {
    size_t got = 0;
    do {
        clearerr(f);
        got += fread((uint8_t *)out + got, 1, n - got, f);
    } while (got < n && ferror(f) && errno == EINTR);
    return got;
}

static int read_exactly(FILE *f, void *out, size_t n, const char *path, Err *e) {
    if (read_some(f, out, n) == n) return 0;
    return ferror(f) ? err_errno(e, path, "read") : err_set(e, "%s: ends too early", path);
}

// Room for a file's size, the 0 byte, and one more to see its end. A pipe's grows with what comes.
int file_read(const char *path, size_t limit, uint8_t **data, size_t *n, Err *e) {
    size_t room = 0;
    struct stat st;
    *data = NULL;
    *n = 0;
    FILE *f = file_open(path, false, &st, e);
    if (!f) return -1;
    size_t need = S_ISREG(st.st_mode) && (uint64_t)st.st_size <= limit ? (size_t)st.st_size + 2 : 1 << 16;
    int rc = grow(data, &room, need, 1, e);
    while (rc == 0 && (*n += read_some(f, *data + *n, room - 1 - *n)) == room - 1 && *n <= limit)
        rc = grow(data, &room, room + 1, 1, e);
    if (rc == 0 && *n > limit) rc = err_set(e, "%s: more than %zu bytes, which is the limit", path, limit);
    if (rc == 0 && ferror(f)) rc = err_errno(e, path, "read");
    else if (rc == 0 && S_ISREG(st.st_mode) && *n < (uint64_t)st.st_size)
        rc = err_set(e, "%s: ends too early", path);
    fclose(f);
    if (rc) {
        free(*data);
        *data = NULL;
    } else (*data)[*n] = 0;
    return rc;
}

static bool same_inode(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

// What stat says of a file, and ""; or, of one that is not there yet, of its folder, and its name in it.
static const char *file_place(const char *path, struct stat *st) {
    char parent[PATH_BYTES];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) + 1 : 0;
    snprintf(parent, sizeof parent, "%.*s.", n < PATH_BYTES - 2 ? (int)n : 0, path);
    return stat(path, st) == 0 ? "" : stat(parent, st) == 0 ? path + n : NULL;
}

bool same_file(const char *a, const char *b) {
    struct stat s, t;
    const char *name = file_place(a, &s), *other = file_place(b, &t);
    return !strcmp(a, b) || (name && other && same_inode(&s, &t) && !strcmp(name, other));
}

int sha256_file(const char *path, char hex[65], Err *e) {
    uint8_t piece[1 << 14];
    Sha256 s;
    struct stat st;
    FILE *f = file_open(path, true, &st, e);
    if (!f) return -1;
    int rc = 0;
    sha256_init(&s);
    for (uint64_t left = (uint64_t)st.st_size, n; left > 0 && rc == 0; left -= n) {
        n = left < sizeof piece ? left : sizeof piece;
        rc = read_exactly(f, piece, (size_t)n, path, e);
        sha256_add(&s, piece, (size_t)n);
    }
    sha256_end(&s, hex);
    fclose(f);
    return rc;
}

// ---- files: writing ---------------------------------------------------------------------------------------
struct Writer {
    FILE *file;
    int error;                        // errno of the first failure, after which nothing counts
    const char *path;                 // the caller's, which must outlive this
    char *real;                       // where the file shall be, links followed; NULL: it is there, a log
    char temp[PATH_BYTES + 8];        // where it grows until it is complete
};

static bool is_at(int fd, const char *path) {
    struct stat ours, there;
    return fstat(fd, &ours) == 0 && stat(path, &there) == 0 && same_inode(&ours, &there);
}

// No other process may be writing it, or have just moved it into place. Without locks nobody is refused.
static int file_lock(int fd, const char *at, const char *path, Err *e) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    signal(SIGXFSZ, SIG_IGN);         // a write beyond ulimit -f shall fail like any other, and not kill
    bool mine = fcntl(fd, F_SETLK, &lock) == 0 || (errno != EACCES && errno != EAGAIN);
    return mine && is_at(fd, at) ? 0 : err_set(e, "%s: another program is writing it", path);
}

// A link is followed: its target is replaced, if it may be written, which no renaming asks. What grows beside
// is this process's alone. A killed run's is used again: empty, or marked by S_ISVTX, of no use on a file.
Writer *writer_open(const char *path, Err *e) {
    struct stat st, now;
    bool there = stat(path, &st) == 0;
    char *real = there ? realpath(path, NULL) : strdup(path);
    Writer *w = malloc(sizeof *w);
    int fd = -1, rc = w && real && (!there || access(path, W_OK) == 0) ? 0 : err_errno(e, path, "open");
    if ((there || lstat(path, &st) == 0) && !S_ISREG(st.st_mode)) rc = err_special(e, path, &st);
    if (w) *w = (Writer){.path = path, .real = real};
    if (rc == 0 && snprintf(w->temp, sizeof w->temp, "%s.writing", real) >= (int)sizeof w->temp)
        rc = err_set(e, "%.99s...: more than %d bytes of path", path, PATH_BYTES - 1);
    if (rc == 0) {
        fd = open(w->temp, O_RDWR | O_CREAT | O_NOFOLLOW, S_ISVTX | (there ? st.st_mode & 0777 : 0666));
        rc = fd < 0 ? err_errno(e, w->temp, "create") : file_lock(fd, w->temp, path, e);
    }
    if (rc == 0 && (fstat(fd, &now) || !S_ISREG(now.st_mode) || (now.st_size && !(now.st_mode & S_ISVTX))))
        rc = err_set(e, "%s: is in the way\nhint: rename it; or remove it, if a killed run left it", w->temp);
    if (rc == 0) {
        const mode_t rights = (there ? st : now).st_mode & 0777;
        if (fchmod(fd, S_ISVTX | rights)) fchmod(fd, rights);      // some systems keep the mark from files
        if (ftruncate(fd, 0) == 0 && (w->file = fdopen(fd, "wb"))) return w;
        err_errno(e, w->temp, "create");
        unlink(w->temp);
    }
    if (fd >= 0) close(fd);
    free(real);
    free(w);
    return NULL;
}

int writer_put(Writer *w, const void *data, size_t n, Err *e) {
    if (n == 0 || fwrite(data, 1, n, w->file) == n) return 0;
    w->error = errno;
    return err_errno(e, w->path, "write");
}

// The new name is safe once the folder is on disk too. Not every file system can do that, so no error counts.
static void folder_sync(char *path) {
    char *slash = strrchr(path, '/');
    if (slash) *slash = 0;
    int fd = open(!slash ? "." : slash == path ? "/" : path, O_RDONLY);
    if (fd >= 0) fsync(fd);
    if (fd >= 0) close(fd);
}

// All is done before the file is closed, as that ends the lock. What is in its place loses the mark.
int writer_close(Writer *w, bool keep, Err *e) {
    struct stat st;
    if (!w) return 0;
    int fd = fileno(w->file);
    if (keep && !w->error && (fflush(w->file) || (w->real && (fsync(fd) || rename(w->temp, w->real)))))
        w->error = errno;
    if (w->real && is_at(fd, w->temp)) unlink(w->temp);
    else if (w->real && fstat(fd, &st) == 0) fchmod(fd, st.st_mode & 0777);
    if (fclose(w->file) && !w->error) w->error = errno;
    int rc = keep && w->error ? err_set(e, "%s: cannot write: %s", w->path, strerror(w->error)) : 0;
    if (w->real && keep && rc == 0) folder_sync(w->real);
    free(w->real);
    free(w);
    return rc;
}

// A log is there to be watched while the program runs; a disk that is full does not stop the program for it.
int log_open(Log **l, const char *path, bool append, Err *e) {
    *l = NULL;
    if (!path) return 0;
    FILE *f = fopen(path, "ab");
    int rc = f ? file_lock(fileno(f), path, path, e) : err_errno(e, path, "open");
    if (rc == 0 && !append) (void)!ftruncate(fileno(f), 0);    // a device has no length
    if (rc == 0 && !(*l = calloc(1, sizeof **l))) rc = err_memory(e, sizeof **l);
    if (rc == 0) **l = (Log){.file = f, .path = path};
    else if (f) fclose(f);
    return rc;
}

void log_line(Log *l, const char *format, ...) {
    va_list list;
    if (!l || l->error) return;
    va_start(list, format);
    if (vfprintf(l->file, format, list) < 0 || putc('\n', l->file) == EOF || fflush(l->file))
        l->error = errno;
    va_end(list);
}

int log_close(Log *l, Err *e) { return writer_close(l, true, e); }

// ---- JSON -------------------------------------------------------------------------------------------------
// RFC 8259 and nothing else: no comments, no trailing commas, no NaN. Of equal keys the last wins.
// Strings must be UTF-8 with surrogates in pairs. A byte order mark at the start is skipped.
enum { JSON_DEPTH = 64 };             // brackets open at once: how deep json_value calls itself
enum { ONE, LINES };                  // one value; some, each on a new line; else a table's separator

typedef struct {
    Json *j;
    int form;
    const char *where;
    const uint8_t *p, *end, *row;     // the next byte, the end of the text, the start of the line
    uint32_t line;
    char *text;                       // where the next decoded string goes
    Err *e;
} Parser;

static int peek(const Parser *s) { return s->p < s->end ? *s->p : -1; }

// Takes a byte. A line ends with \n, \r\n or \r.
static void step(Parser *s) {
    int c = *s->p++;
    if (c != '\n' && (c != '\r' || peek(s) == '\n')) return;
    s->line++;
    s->row = s->p;
}

static bool accept(Parser *s, const char *these) {
    bool found = peek(s) > 0 && strchr(these, peek(s));
    s->p += found;
    return found;
}

static int json_fail(const Parser *s, const char *wanted) {
    char found[16] = "the end";
    unsigned long column = 1;         // in characters, as editors count
    for (const uint8_t *q = s->row; q < s->p; q++) column += (*q & 0xC0) != 0x80;
    const char *format = peek(s) > ' ' && peek(s) < 127 ? "'%c'" : "byte 0x%02x";
    if (s->p < s->end) snprintf(found, sizeof found, format, *s->p);
    return err_set(s->e, "%s:%" PRIu32 ":%lu: found %s, want %s", s->where, s->line, column, found, wanted);
}

static int text_step(Parser *s) {
    size_t n = utf8_length(s->p, (size_t)(s->end - s->p));
    if (n == 0) return json_fail(s, "UTF-8\nhint: iconv -t UTF-8, after -f and what it is, perhaps LATIN1");
    memcpy(s->text, s->p, n);
    s->text += n;
    s->p += n - 1;                    // only a character of one byte ends a line
    step(s);
    return 0;
}

// What may stand between two values; tabs and spaces of a table are part of its fields.
static void space(Parser *s) {
    while (peek(s) > 0 && strchr(s->form > LINES ? "\r\n" : "\r\n\t ", peek(s))) step(s);
}

static JsonNode *json_node(Parser *s, JsonKind kind) {
    bool text = kind == JSON_STRING || kind == JSON_NUMBER;
    JsonNode *node = &s->j->node[s->j->nodes++];
    *node = (JsonNode){kind, s->line, 0, s->j->nodes, text ? s->text : NULL, 0, 0};
    return node;
}

static void node_end(Parser *s, JsonNode *node) {
    node->len = (size_t)(s->text - node->text);
    *s->text++ = 0;
}

static int json_hex(Parser *s, uint32_t *c) {
    char digits[5] = "";
    memcpy(digits, s->p, s->end - s->p < 4 ? (size_t)(s->end - s->p) : 4);
    size_t n = strspn(digits, "0123456789abcdefABCDEF");
    s->p += n;
    *c = (uint32_t)strtoul(digits, NULL, 16);
    return n == 4 ? 0 : json_fail(s, "four hexadecimal digits after \\u");
}

static int json_escape(Parser *s) {
    static const char letter[] = "\"\\/bfnrt", meaning[] = "\"\\/\b\f\n\r\t";
    uint32_t c, low;
    if (accept(s, letter)) {
        *s->text++ = meaning[strchr(letter, s->p[-1]) - letter];
        return 0;
    }
    if (!accept(s, "u")) return json_fail(s, "one of \"\\/bfnrtu after a backslash");
    if (json_hex(s, &c)) return -1;
    if (c >= 0xDC00 && c < 0xE000) return json_fail(s, "a high surrogate before the low one");
    if (c >= 0xD800 && c < 0xDC00) {
        if (!accept(s, "\\") || !accept(s, "u")) return json_fail(s, "\\u with a low surrogate");
        if (json_hex(s, &low)) return -1;
        if (low < 0xDC00 || low >= 0xE000) return json_fail(s, "a low surrogate before this");
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    s->text += utf8_put((uint8_t *)s->text, c);
    return 0;
}

static int json_string(Parser *s) {
    JsonNode *node = json_node(s, JSON_STRING);
    for (int c; (c = peek(s)) != '"';) {
        if (c < ' ') return json_fail(s, "'\"', or a control character as \\u00XX");
        if (accept(s, "\\") ? json_escape(s) : text_step(s)) return -1;
    }
    s->p++;
    node_end(s, node);
    return 0;
}

static int json_digits(Parser *s, const char *signs) {
    accept(s, signs);
    if (!accept(s, "0123456789")) return json_fail(s, "a digit");
    while (accept(s, "0123456789")) {}
    return 0;
}

static int json_number(Parser *s) {
    const uint8_t *start = s->p;
    JsonNode *node = json_node(s, JSON_NUMBER);
    accept(s, "-");
    if (!accept(s, "0") && json_digits(s, "")) return -1;
    if (accept(s, ".") && json_digits(s, "")) return -1;
    if (accept(s, "eE") && json_digits(s, "+-")) return -1;
    memcpy(s->text, start, (size_t)(s->p - start));
    s->text += s->p - start;
    node_end(s, node);
    node->number = strtod(node->text, NULL);
    return isfinite(node->number) ? 0 : json_fail(s, "a number below 1.8e308 before this");
}

static int json_value(Parser *s, int depth);

// What follows the opening bracket.
static int json_bracket(Parser *s, JsonKind kind, int depth) {
    JsonNode *node = json_node(s, kind);
    bool object = kind == JSON_OBJECT;
    if (depth == JSON_DEPTH) return json_fail(s, "no more than 64 open brackets");
    for (space(s); !accept(s, object ? "}" : "]"); space(s)) {
        if (node->count++ > 0 && !accept(s, ",")) return json_fail(s, object ? "',' or '}'" : "',' or ']'");
        if (object) {
            space(s);
            if (!accept(s, "\"")) return json_fail(s, "a key in quotes");
            if (json_string(s)) return -1;
            space(s);
            if (!accept(s, ":")) return json_fail(s, "':'");
        }
        if (json_value(s, depth + 1)) return -1;
    }
    node->next = s->j->nodes;
    return 0;
}

static int json_value(Parser *s, int depth) {
    static const char *const word[] = {"null", "false", "true"};
    space(s);
    if (accept(s, "\"")) return json_string(s);
    if (accept(s, "[")) return json_bracket(s, JSON_ARRAY, depth);
    if (accept(s, "{")) return json_bracket(s, JSON_OBJECT, depth);
    if (peek(s) == '-' || (peek(s) >= '0' && peek(s) <= '9')) return json_number(s);
    for (int kind = JSON_NULL; kind <= JSON_TRUE; kind++) {
        size_t n = strlen(word[kind]);
        if ((size_t)(s->end - s->p) < n || memcmp(s->p, word[kind], n)) continue;
        json_node(s, (JsonKind)kind);
        s->p += n;
        return 0;
    }
    return json_fail(s, "a value");
}

uint32_t json_get(const Json *j, uint32_t object, const char *key) {
    uint32_t found = 0, at = object + 1;
    size_t n = strlen(key);
    if (j->node[object].kind != JSON_OBJECT) return 0;
    for (uint32_t i = 0; i < j->node[object].count; i++, at = j->node[at + 1].next)
        if (j->node[at].len == n && !memcmp(j->node[at].text, key, n)) found = at + 1;
    return found;
}

void json_free(Json *j) {
    free(j->node);
    free(j->text);
    *j = (Json){0};
}

// What is not UTF-8 becomes U+FFFD.
char *json_quote(const char *text, size_t n) {
    const uint8_t *p = (const uint8_t *)text, *end = p + n;
    char *out = n < SIZE_MAX / 8 ? malloc(6 * n + 3) : NULL, *q = out;
    if (!out) return NULL;
    *q++ = '"';
    while (p < end) {
        size_t length = utf8_length(p, (size_t)(end - p));
        if (*p == '"' || *p == '\\') *q++ = '\\';
        if (length == 0 || *p < ' ') q += sprintf(q, "\\u%04x", length > 0 ? *p : 0xFFFDu);
        else q = (char *)memcpy(q, p, length) + length;
        p += length > 0 ? length : 1;
    }
    strcpy(q, "\"");
    return out;
}

// ---- rows of any kind -------------------------------------------------------------------------------------
// CSV as RFC 4180 has it: fields in quotes may hold commas, line breaks and doubled quotes. A quote elsewhere
// is a character like any other, and so are all in TSV. A line without a character is no row.
static bool field_ends(const Parser *s) {
    int c = peek(s);
    return c < 0 || c == s->form || c == '\r' || c == '\n';
}

static int csv_field(Parser *s) {
    JsonNode *node = json_node(s, JSON_STRING);
    bool quoted = s->form == ',' && accept(s, "\"");
    while (quoted || !field_ends(s)) {
        if (quoted && accept(s, "\"") && peek(s) != '"') break;
        if (peek(s) < 0) return json_fail(s, "'\"' at the end of a quoted field");
        if (text_step(s)) return -1;
    }
    node_end(s, node);
    return field_ends(s) ? 0 : json_fail(s, "',' or a new line after a quoted field");
}

static int csv_row(Parser *s) {
    JsonNode *row = json_node(s, JSON_ARRAY);
    do {
        if (csv_field(s)) return -1;
        row->count++;
    } while (peek(s) == s->form && s->p++);
    row->next = s->j->nodes;
    s->j->node[0].count++;
    return 0;
}

// A row that is left out, and why: the first line of the message.
static void row_skip(Rows *r, const Err *e) {
    enum { REASONS = 3, BYTES = 300 };
    size_t used = strlen(r->reason), n = strcspn(e->msg, "\n");
    if (r->bad++ < REASONS)
        snprintf(r->reason + used, sizeof r->reason - used, "%s%.*s", used > 0 ? "\n" : "",
                 n < BYTES ? (int)n : BYTES, e->msg);
}

// Of LINES, unless skip is NULL, a line that begins no value is counted there, and the next one tried. A byte
// is read at most 65 times, as a value that goes on in the next lines leaves one of 64 brackets open.
static int parse(Json *j, const char *where, uint32_t line, const uint8_t *data, size_t n, int form,
                 Rows *skip, Err *e) {
    const bool table = form > LINES;
    const char ends[] = {(char)form, '\r', '\n', 0}, *marks = table ? ends : "[{,:\r\n";
    Parser s = {j, form, where, data, data + n, data, line, NULL, e};
    size_t nodes = 3;                 // there are no more, as at most two come with each mark
    int rc = 0;
    memset(j, 0, sizeof *j);
    if (want(where, "bytes of text", (int64_t)n, 0, INT32_MAX, e)) return -1;
    for (size_t i = 0; i < n; i++) nodes += data[i] && strchr(marks, data[i]) ? 2 : 0;
    j->node = calloc(nodes, sizeof *j->node);
    j->text = s.text = malloc(n + 1); // decoding never lengthens: a 0 byte replaces what ends a string
    if (!j->node || !j->text) rc = err_memory(e, n);
    if (n >= 3 && !memcmp(data, "\xEF\xBB\xBF", 3)) s.row = s.p += 3;
    if (rc == 0 && (j->table = table)) json_node(&s, JSON_ARRAY);
    if (form != ONE) space(&s);       // of which none is one, too
    while (rc == 0 && (s.p < s.end || (form == ONE && j->nodes == 0))) {
        Parser begun = s;
        uint32_t before = j->nodes;
        rc = table ? csv_row(&s) : json_value(&s, 0);
        line = s.line;
        space(&s);
        if (rc == 0 && s.p < s.end && (form == ONE || s.line == line))
            rc = json_fail(&s, form == ONE ? "nothing after the value" : "a new line before the next value");
        if (rc == 0 || form != LINES || !skip) continue;
        row_skip(skip, e);
        s = begun;
        j->nodes = before;
        rc = 0;
        while (s.p < s.end && *s.p != '\r' && *s.p != '\n') s.p++;
        space(&s);
    }
    if (rc) json_free(j);
    else if (table) j->node[0].next = j->nodes;
    return rc;
}

int json_parse(Json *j, const char *where, uint32_t first_line, const uint8_t *data, size_t n, Err *e) {
    return parse(j, where, first_line, data, n, ONE, NULL, e);
}

int rows_parse(Json *j, uint32_t *first, const char *path, const uint8_t *data, size_t n, Rows *skip,
               Err *e) {
    const char *dot = strrchr(path, '.');
    int separator = !dot ? 0 : !strcmp(dot, ".csv") ? ',' : !strcmp(dot, ".tsv") ? '\t' : 0;
    bool array = data[strspn((const char *)data, "\xEF\xBB\xBF \t\r\n")] == '[';
    *first = separator || array;
    return parse(j, path, 1, data, n, separator ? separator : array ? ONE : LINES, skip, e);
}

// ---- tensors on disk --------------------------------------------------------------------------------------
// Tensor after tensor in the order of the table, each at a multiple of 64 bytes, the gap to the next is zero.
enum { ALIGN = 64, PIECE = 1 << 15 };          // PIECE: bytes moved at once
static const char BAD_SUM[] = "%s: wrong checksum of the %s\nhint: the file is damaged, want a new copy";
const char *const DTYPE_NAME[DTYPES] = {"f32", "bf16"};

static uint64_t aligned(uint64_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }
static size_t dtype_size(Dtype d) { return d == DTYPE_F32 ? 4 : 2; }

// Little-endian. bfloat16 is a float's upper half, to nearest, ties to even; NaN stays NaN whatever its bits.
static void numbers_put(uint8_t *p, const float *x, size_t n, Dtype d) {
    if (d == DTYPE_F32) words_turn(memcpy(p, x, 4 * n), n, 0);
    for (size_t i = 0; d == DTYPE_BF16 && i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        u = (u & 0x7fffffffu) > 0x7f800000u ? u | 0x400000u : u + 0x7fffu + (u >> 16 & 1u);
        p[2 * i] = (uint8_t)(u >> 16);
        p[2 * i + 1] = (uint8_t)(u >> 24);
    }
}

// To floats, or, if x is NULL, from bf16 to halves.
static void numbers_get(float *x, uint16_t *halves, const uint8_t *p, size_t n, Dtype d) {
    if (d == DTYPE_F32) words_turn(memcpy(x, p, 4 * n), n, 0);
    for (size_t i = 0; d == DTYPE_BF16 && i < n; i++) {
        uint32_t u = (uint32_t)p[2 * i] << 16 | (uint32_t)p[2 * i + 1] << 24;
        if (x) memcpy(&x[i], &u, sizeof u);
        else halves[i] = (uint16_t)(u >> 16);
    }
}

// Bytes of all tensors on disk, with LoRA of its own alone, if this machine can address them in memory.
static int tensors_bytes(uint64_t *bytes, const Config *c, Dtype d, const char *path, Err *e) {
    *bytes = 0;
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(c, i);
        if (t.size > SIZE_MAX / 8 / TENSORS) return err_set(e, "%s: too large for memory", path);
        if (t.trained) *bytes += aligned((uint64_t)t.size * dtype_size(d));
    }
    return 0;
}

// Where tensors come from (in) or go to (out), and the sum of all that did.
typedef struct {
    const char *path;
    FILE *in;
    Writer *out;
    Sum sum;
} Transfer;

// A piece of a tensor, n numbers, to or from x, or from the file to halves. The gap behind is moved too.
static int piece_move(Transfer *f, float *x, uint16_t *halves, size_t n, Dtype d, Err *e) {
    uint8_t piece[PIECE];
    size_t bytes = n * dtype_size(d), all = (size_t)aligned(bytes);
    if (f->in) {
        if (read_exactly(f->in, piece, all, f->path, e)) return -1;
        numbers_get(x, halves, piece, n, d);
    } else {
        numbers_put(piece, x, n, d);
        memset(piece + bytes, 0, all - bytes);
        if (writer_put(f->out, piece, all, e)) return -1;
    }
    sum_add(&f->sum, piece, all);
    return 0;
}

// All tensors of some sets. halves may be NULL if w has all that the file has.
static int sets_move(Transfer *f, const Config *c, const Params *const *w, int sets, const Halves *halves,
                     Dtype d, Err *e) {
    const size_t most = PIECE / dtype_size(d);
    for (int i = 0; i < sets * TENSORS; i++) {
        Tensor t = model_tensor(c, i % TENSORS);
        if (t.size == 0 || !t.trained) continue;
        float *x = tensor_data(w[i / TENSORS], &t);
        uint16_t *h = NULL;
        if (!x) memcpy(&h, (const char *)halves + t.half, sizeof h);  // NOLINT(*NonNullParamChecker): above
        assert(x || (h && d == DTYPE_BF16));
        for (size_t at = 0, n; at < t.size; at += n) {
            n = t.size - at < most ? t.size - at : most;
            if (piece_move(f, x ? x + at : NULL, x ? NULL : h + at, n, d, e)) return -1;
        }
    }
    return 0;
}

// ---- checkpoint -------------------------------------------------------------------------------------------
// The file: header, tokenizer, template, lineage, tensors, in this order and nothing else. Each section is at
// a multiple of 64 bytes, the gap before it zero; the last byte of the tensors is the last of the file.
// The tokenizer is as tokenizer_put makes it; template and lineage are text with a 0 byte at the end.
// The state of a run is such a file too: no tokenizer, no template, its key as lineage; tensors: w, m1, m2.
enum { MAGIC = 8, META_MAX = 1 << 28 };        // META_MAX: bytes before the tensors
enum { TOKENIZER, TEMPLATE, LINEAGE, WEIGHTS, SECTIONS };
static const char *const SECTION_NAME[SECTIONS] = {"tokenizer", "template", "lineage", "tensors"};
typedef enum { CHECKPOINT, STATE } Format;
static const struct { char magic[MAGIC]; int version, sets; const char *wrong; } FORMAT[] = {
    {"tune.c\n", 1, 1, "is no checkpoint\nhint: ./convert makes one"},
    {"tune.s\n", 2, 3, "is no state of a training run"}};

enum { CONFIG_WORDS = sizeof(Config) / 4, LORA_WORDS = 3 };
// The header behind its magic: words of 4 bytes, then words of 8, in the order of the file.
typedef struct {                      // byte
    int32_t version, dtype;           //   8    of the format; of the tensors
    uint32_t cfg[CONFIG_INTS + CONFIG_FLOATS];            //  16: a Config as far as rope_high
    uint32_t tok[5], add_space;       // 100: a Tokenizer as far as bos
    int32_t zero;                     // 124
    struct { uint64_t at, bytes; } section[SECTIONS];     // 128
    uint64_t sum;                     // 192    of the tensors
    uint64_t lora[LORA_WORDS];        // 200    an adapter's rank, layers, and alpha's bits as a float; else 0
    uint64_t extra[3];                // 224    an adapter: own_sum of its base, 0, 0; a state: see state_save
    uint64_t own_sum;                 // 248    of all that is before the tensors, this number taken as 0
} Header;
enum { FOURS = 30, EIGHTS = 16, HEADER = 256 };
typedef char header_as_documented[offsetof(Header, tok) == 100 - MAGIC && sizeof(Header) == HEADER - MAGIC &&
                                  offsetof(Header, section) == 4 * FOURS &&
                                  offsetof(Tokenizer, add_space) == sizeof ((Header *)0)->tok &&
                                  offsetof(State, key) == sizeof ((Header *)0)->extra &&
                                  CONFIG_WORDS == CONFIG_INTS + CONFIG_FLOATS + LORA_WORDS ? 1 : -1];

// Puts the header in front of what follows it, with the sum of both: n bytes in all. Returns that sum.
static uint64_t header_put(uint8_t *p, size_t n, Format format, Header *h) {
    Sum s = {{1, 2, 3, 4}};
    h->own_sum = 0;
    memcpy(p, FORMAT[format].magic, MAGIC);
    words_turn(memcpy(p + MAGIC, h, sizeof *h), FOURS, EIGHTS);
    sum_add(&s, p, n);
    h->own_sum = sum_end(&s);
    words_turn(memcpy(p + HEADER - sizeof h->own_sum, &h->own_sum, sizeof h->own_sum), 0, 1);
    return h->own_sum;
}

// The header of a model with sections of these bytes, but for sums and an adapter's or state's own numbers.
// A Config is words of 4 bytes, of which the last ones, for LoRA, came later. Returns the file's size.
static uint64_t header_fill(Header *h, Format format, const Config *c, const Tokenizer *t, uint64_t weights) {
    uint32_t word[CONFIG_WORDS];
    uint64_t end = HEADER;
    h->version = FORMAT[format].version;
    memcpy(word, c, sizeof word);
    memcpy(h->cfg, word, sizeof h->cfg);
    for (int i = 0; i < LORA_WORDS; i++) h->lora[i] = word[CONFIG_WORDS - LORA_WORDS + i];
    memcpy(h->tok, t, sizeof h->tok);
    h->add_space = t->add_space;
    h->zero = 0;
    if (format == CHECKPOINT) h->extra[1] = h->extra[2] = 0;
    h->section[WEIGHTS].bytes = weights * (uint64_t)FORMAT[format].sets;
    for (int i = 0; i < SECTIONS; i++) {
        h->section[i].at = end;
        end = aligned(end + h->section[i].bytes);
    }
    return end;
}

// Numbers within their limits, then the header that header_fill makes of them. The sums are compared later.
static int header_check(Checkpoint *k, Format format, const Header *h, uint64_t bytes, Err *e) {
    const char *path = k->path;
    int version = FORMAT[format].version;
    uint64_t weights;
    Fault f;
    Header good = *h;
    uint32_t word[CONFIG_WORDS];
    memcpy(word, h->cfg, sizeof h->cfg);
    for (int i = 0; i < LORA_WORDS; i++) word[CONFIG_WORDS - LORA_WORDS + i] = (uint32_t)h->lora[i];
    memcpy(&k->cfg, word, sizeof word);
    memcpy(&k->tok, h->tok, sizeof h->tok);
    k->tok.add_space = h->add_space;
    k->dtype = (Dtype)h->dtype;
    if (want(path, "version", h->version, version, version, e) ||
        want(path, "dtype", h->dtype, 0, DTYPES - 1, e)) return -1;
    if (model_check(&k->cfg, &f)) return err_fault(e, path, &f);
    if (want(path, "tokenizer vocab", (int32_t)k->tok.vocab, 0, k->cfg.vocab, e) ||
        want(path, "tokenizer merges", (int32_t)k->tok.merges, 0, META_MAX, e) ||
        tensors_bytes(&weights, &k->cfg, k->dtype, path, e)) return -1;
    uint64_t least[WEIGHTS] = {tokenizer_bytes(&k->tok), 1, 1};
    for (int i = 0; i < WEIGHTS; i++)
        if (h->section[i].bytes < least[i] || h->section[i].bytes > META_MAX)
            return err_set(e, "%s: the %s has %" PRIu64 " bytes, want %" PRIu64 "..%d", path, SECTION_NAME[i],
                           h->section[i].bytes, least[i], META_MAX);
    uint64_t end = header_fill(&good, format, &k->cfg, &k->tok, weights);
    for (size_t i = 0; i < sizeof good; i++)
        if (((const uint8_t *)h)[i] != ((const uint8_t *)&good)[i])
            return err_set(e, "%s: byte %zu does not follow from the rest of the header", path, MAGIC + i);
    if (want(path, "offset of the tensors", (int64_t)h->section[WEIGHTS].at, HEADER, META_MAX, e)) return -1;
    return bytes == end ? 0 : err_set(e, "%s: %" PRIu64 " bytes in the file, want %" PRIu64
                                      "\nhint: was it cut short?", path, bytes, end);
}

// Everything between the header and the tensors, in one allocation with the tokenizer's index.
static int metadata_get(Checkpoint *k, Format format, const Header *h, Err *e) {
    size_t meta = (size_t)h->section[WEIGHTS].at, index = tokenizer_index_size(k->tok.vocab, k->tok.merges);
    Fault f;
    Header own = *h;
    uint8_t *p = k->memory = index < SIZE_MAX - meta ? malloc(meta + index) : NULL;
    if (!p) return err_memory(e, index);
    if (read_exactly(k->file, p + HEADER, meta - HEADER, k->path, e)) return -1;
    if (h->own_sum != header_put(p, meta, format, &own)) return err_set(e, BAD_SUM, k->path, "header");
    for (int i = TEMPLATE; i <= LINEAGE; i++) {
        size_t at = (size_t)h->section[i].at, n = (size_t)h->section[i].bytes;
        if (memchr(p + at, 0, n) != p + at + n - 1)
            return err_set(e, "%s: the %s must end with its only 0 byte", k->path, SECTION_NAME[i]);
    }
    k->template = (char *)p + h->section[TEMPLATE].at;
    k->lineage = (char *)p + h->section[LINEAGE].at;
    return tokenizer_get(&k->tok, p + HEADER, h->section[TOKENIZER].bytes, p + meta, &f)
           ? err_fault(e, k->path, &f) : 0;
}

// Opens a file of this format: all but its tensors, and its header.
static int checkpoint_begin(Checkpoint *k, const char *path, Format format, Header *h, Err *e) {
    struct stat st;
    uint8_t head[HEADER];
    *k = (Checkpoint){.path = path, .file = file_open(path, true, &st, e)};
    if (!k->file || read_exactly(k->file, head, HEADER, path, e)) return -1;
    if (memcmp(head, FORMAT[format].magic, MAGIC)) return err_set(e, "%s: %s", path, FORMAT[format].wrong);
    words_turn(memcpy(h, head + MAGIC, sizeof *h), FOURS, EIGHTS);
    if (header_check(k, format, h, (uint64_t)st.st_size, e)) return -1;
    k->tensors_at = h->section[WEIGHTS].at;
    k->tensor_sum = h->sum;
    k->own_sum = h->own_sum;
    return metadata_get(k, format, h, e);
}

// An adapter is nothing without the model that it was trained on: that is opened with it.
static int adapter_begin(Checkpoint *k, uint64_t base_sum, const char *base, Err *e) {
    Header h;
    if (!base)
        return err_set(e, "%s: is an adapter, want the model it was trained on\nhint: eval, chat: --base "
                       "FILE; before anything else: convert --merge FILE", k->path);
    if (!(k->base = calloc(1, sizeof *k->base))) return err_memory(e, sizeof *k->base);
    if (checkpoint_begin(k->base, base, CHECKPOINT, &h, e)) return -1;
    if (h.own_sum != base_sum || k->base->cfg.lora_rank > 0 ||
        memcmp(&k->cfg, &k->base->cfg, offsetof(Config, lora_rank)))
        return err_set(e, "%s: was not trained on %s, want its own base", k->path, base);
    k->tok = k->base->tok;
    return 0;
}

int checkpoint_open(Checkpoint *k, const char *path, const char *base, Err *e) {
    Header h;
    if (checkpoint_begin(k, path, CHECKPOINT, &h, e) == 0 &&
        (k->cfg.lora_rank == 0 || adapter_begin(k, h.extra[0], base, e) == 0)) return 0;
    checkpoint_close(k);
    return -1;
}

static int sets_read(Checkpoint *k, const Params *const *set, int sets, const Halves *halves, Err *e) {
    Transfer f = {k->path, k->file, NULL, {{1, 2, 3, 4}}};
    if (fseeko(k->file, (off_t)k->tensors_at, SEEK_SET)) return err_errno(e, k->path, "seek in");
    if (sets_move(&f, &k->cfg, set, sets, halves, k->dtype, e)) return -1;
    return sum_end(&f.sum) == k->tensor_sum ? 0 : err_set(e, BAD_SUM, k->path, "tensors");
}

int checkpoint_read(Checkpoint *k, const Params *w, const Halves *halves, Err *e) {
    if (k->base && checkpoint_read(k->base, w, halves, e)) return -1;
    return sets_read(k, &w, 1, halves, e);
}

void checkpoint_close(Checkpoint *k) {
    if (k->base) checkpoint_close(k->base);
    if (k->file) fclose(k->file);
    free(k->base);
    free(k->memory);
    memset(k, 0, sizeof *k);
}

int model_load(Model *m, void **block, Checkpoint *k, const Shape *s, Err *e) {
    Shape shape = *s;
    Plan p;
    Fault f;
    *block = NULL;
    shape.halves = (k->base ? k->base : k)->dtype == DTYPE_BF16;
    if (model_plan(&p, &k->cfg, &shape, &f)) return err_fault(e, k->path, &f);
    if (!(*block = block_alloc(p.bytes, e))) return -1;
    model_bind(m, &p, *block);
    if (checkpoint_read(k, &m->w, &m->h, e) == 0) return 0;
    block_free(*block);
    *block = NULL;
    return -1;
}

// h has dtype and extra. t NULL: no tokenizer. What is before the tensors is written again, with its sums.
static int header_save(const char *path, Format format, Header *h, const Config *c, const Tokenizer *t,
                       const char *template, const char *lineage, const Params *const *set, Err *e) {
    const Tokenizer none = {.eot = -1, .bos = -1};
    uint64_t weights;
    Fault f;
    if (!t) t = &none;
    if (model_check(c, &f)) return err_fault(e, path, &f);
    if (tensors_bytes(&weights, c, (Dtype)h->dtype, path, e)) return -1;
    h->section[TOKENIZER].bytes = tokenizer_bytes(t);
    h->section[TEMPLATE].bytes = strlen(template) + 1;
    h->section[LINEAGE].bytes = strlen(lineage) + 1;
    header_fill(h, format, c, t, weights);
    size_t n = (size_t)h->section[WEIGHTS].at;
    uint8_t *p = n <= META_MAX ? calloc(1, n) : NULL;
    if (!p) return err_memory(e, n);
    tokenizer_put(t, p + HEADER);
    strcpy((char *)p + h->section[TEMPLATE].at, template);
    strcpy((char *)p + h->section[LINEAGE].at, lineage);
    Transfer to = {path, NULL, writer_open(path, e), {{1, 2, 3, 4}}};
    int rc = to.out ? writer_put(to.out, p, n, e) : -1;
    if (rc == 0) rc = sets_move(&to, c, set, FORMAT[format].sets, NULL, (Dtype)h->dtype, e);
    h->sum = sum_end(&to.sum);
    header_put(p, n, format, h);
    if (rc == 0 && fseeko(to.out->file, 0, SEEK_SET)) rc = err_errno(e, path, "write");
    if (rc == 0) rc = writer_put(to.out, p, n, e);
    free(p);
    return writer_close(to.out, rc == 0, e) ? -1 : rc;
}

int checkpoint_save(const char *path, const Config *c, const Tokenizer *t, const char *template,
                    const char *lineage, Dtype dtype, const Params *w, Err *e) {
    Header h = {.dtype = (int32_t)dtype};
    return header_save(path, CHECKPOINT, &h, c, t, template, lineage, &w, e);
}

int adapter_save(const char *path, const Checkpoint *base, const Config *c, const char *template,
                 const char *lineage, const Params *w, Err *e) {
    Header h = {.extra = {base->own_sum}};
    return header_save(path, CHECKPOINT, &h, c, NULL, template, lineage, &w, e);
}

// ---- state ------------------------------------------------------------------------------------------------
// The header's extra words are step, best (its bits) and best_step: a State as far as key.
int state_save(const char *path, const State *s, const Model *m, Err *e) {
    const Params *const set[] = {&m->w, &m->m1, &m->m2};
    Header h = {0};
    memcpy(h.extra, s, sizeof h.extra);
    return header_save(path, STATE, &h, &m->cfg, NULL, "", s->key, set, e);
}

int state_load(const char *path, State *s, Model *m, Err *e) {
    const Params *const set[] = {&m->w, &m->m1, &m->m2};
    Checkpoint k;
    Header h = {0};
    int rc = checkpoint_begin(&k, path, STATE, &h, e);
    memcpy(s, h.extra, sizeof h.extra);
    if (rc == 0 && strcmp(k.lineage, s->key))
        rc = err_set(e, "%s: was made with other options or data (%.8s..., want %.8s...)\nhint: use these, "
                     "or train without --resume", path, k.lineage, s->key);
    if (rc == 0 && memcmp(&k.cfg, &m->cfg, sizeof k.cfg))    // NOLINT(*): no padding
        rc = err_set(e, "%s: is of another model", path);
    if (rc == 0 && isnan(s->best)) rc = err_set(e, "%s: best is not a number", path);
    if (rc == 0) rc = want(path, "step", s->step, 0, INT64_MAX, e);
    if (rc == 0) rc = want(path, "best_step", s->best_step, 0, s->step, e);
    if (rc == 0) rc = sets_read(&k, set, FORMAT[STATE].sets, NULL, e);
    checkpoint_close(&k);
    return rc;
}

// ---- rows -------------------------------------------------------------------------------------------------
enum { ROW_MAX = 1 << 22 };           // bytes of a row, which a template may repeat
// The members that are read, form after form: a row has those of one form, but SYSTEM goes with each.
enum { PAIR, PAIR_INPUT, PAIR_ANSWER, PROMPT, COMPLETION, MESSAGES, SYSTEM, MEMBERS, COLUMNS = 32 };
static const char *const MEMBER[MEMBERS] = {"instruction", "input", "output", "prompt", "completion",
                                            "messages", "system"};
static const char *const ROLE_NAME[ROLES] = {"system", "user", "assistant"};
typedef struct {                      // a file that is being read
    Rows *rows;
    uint32_t header;                  // a table's row of names; 0: the rows are objects
    const char *name[COLUMNS + 1];    // what the file calls each member, NULL: nothing; then names not read
    size_t held[COLUMNS + 1];         // rows that hold something there
    int columns;
    Row row;                          // the row at hand
    uint32_t value[COLUMNS + 1];      // its nodes, 0: null, empty or not there
    size_t bytes;                     // of its text
    bool answers;
    Err *e;
} Reader;

static int row_fail(const Reader *s, uint32_t line, const char *what, const char *wrong) {
    return err_set(s->e, "%s:%" PRIu32 ": %s %s", s->rows->path, line, what, wrong);
}

static int column_find(const Reader *s, const char *name) {
    int i = 0;
    while (i < s->columns && (!s->name[i] || strcmp(s->name[i], name))) i++;
    return i;
}

// --columns "prompt=question,system=". A name that it gives to one member is no other's any more.
static int columns_parse(Reader *s, char *p) {
    memcpy(s->name, MEMBER, sizeof MEMBER);
    s->columns = MEMBERS;
    for (char *own = strtok(p, ","), *name; own; own = strtok(NULL, ",")) {
        int i = 0;
        if ((name = strchr(own, '='))) *name++ = 0;
        while (i < MEMBERS && strcmp(MEMBER[i], own)) i++;
        if (i == MEMBERS || !name)
            return err_set(s->e, "--columns: '%.40s', want NAME=COLUMN, the name being one of instruction, "
                           "input, output, prompt, completion, messages, system", own);
        s->name[column_find(s, name)] = NULL;    // if it is new, that is the place behind all, not yet used
        s->name[i] = *name ? name : NULL;
    }
    return 0;
}

// The values of a row, as an object or under a table's header. A new name is noted as far as there is room.
static int row_values(Reader *s, uint32_t at) {
    const JsonNode *node = s->rows->json.node, *row = &node[at];
    uint32_t next = at + 1, fields = s->header ? node[s->header].count : 0;
    memset(s->value, 0, sizeof s->value);
    if (s->header && row->count != fields)
        return err_set(s->e, "%s:%" PRIu32 ": the row has %" PRIu32 " fields, want %" PRIu32 " as in line %"
                       PRIu32, s->rows->path, row->line, row->count, fields, node[s->header].line);
    if (!s->header && row->kind != JSON_OBJECT) return row_fail(s, row->line, "the row", "is not an object");
    for (uint32_t i = 0; i < row->count; i++) {
        uint32_t key = s->header ? s->header + 1 + i : next, value = s->header ? next : next + 1;
        const JsonNode *v = &node[value];
        next = v->next;
        if (v->kind == JSON_STRING ? v->len == 0 : v->kind == JSON_NULL) continue;
        int c = column_find(s, node[key].text);
        if (c < MEMBERS && s->value[c]) return row_fail(s, v->line, s->name[c], "is there twice");
        if (c == s->columns && c < COLUMNS) s->name[s->columns++] = node[key].text;
        s->held[c] += s->value[c] == 0;
        s->value[c] = value;
    }
    return 0;
}

static const char *columns_ignored(Reader *s) {
    char *list = s->rows->ignored;
    size_t used = 0, room = sizeof s->rows->ignored;
    for (int c = MEMBERS; c < s->columns && used < room; c++)
        used += (size_t)snprintf(list + used, room - used, "%s%.40s (%zu row%s)", used > 0 ? ", " : "",
                                 s->name[c], s->held[c], s->held[c] > 1 ? "s" : "");
    return tame(list);
}

// Without a question or an answer: perhaps the file calls it otherwise.
static int row_lacks(Reader *s, int member) {
    const char *others = columns_ignored(s), *what = s->name[member] ? s->name[member] : MEMBER[member];
    return err_set(s->e, "%s:%" PRIu32 ": %s is missing or empty%s%s%s", s->rows->path, s->row.line,
                   member == PAIR ? "instruction or input" : what, *others ? "; not read: " : "", others,
                   *others ? "\nhint: --columns prompt=NAME,completion=NAME" : "");
}

static int row_text(Reader *s, uint32_t at, const char *key, const char **text) {
    const JsonNode *v = &s->rows->json.node[at];
    if (v->kind != JSON_STRING) return row_fail(s, v->line, key, "is not a string");
    if (strlen(*text = v->text) != v->len) return row_fail(s, v->line, key, "holds \\u0000");
    s->bytes += v->len;
    return s->bytes > ROW_MAX ? row_fail(s, s->row.line, "the row", "has more than 4 MiB of text") : 0;
}

static void turn_add(Row *row, Role role, const char *text, const char *input) {
    row->turn[row->turns++] = (Turn){role, text, input};
    row->output = role == ROLE_ASSISTANT ? text : "";
}

static int row_messages(Reader *s, uint32_t list) {
    const Json *j = &s->rows->json;
    const JsonNode *node = j->node;
    Role role, next = ROLE_USER;
    if (node[list].kind != JSON_ARRAY) return row_fail(s, s->row.line, "messages", "is not an array");
    for (uint32_t at = list + 1; at < node[list].next; at = node[at].next) {
        uint32_t who = json_get(j, at, "role"), what = json_get(j, at, "content"), line = node[at].line;
        const char *name, *text, *or = s->row.turns > 0 ? "" : "system or ";
        if (!who || !what) return row_fail(s, line, "a message", "is no object with role and content");
        if (row_text(s, who, "role", &name) || row_text(s, what, "content", &text)) return -1;
        for (role = ROLE_SYSTEM; role < ROLES && strcmp(name, ROLE_NAME[role]);) role++;
        if (role != next && (role != ROLE_SYSTEM || s->row.turns > 0))
            return err_set(s->e, "%s:%" PRIu32 ": message %zu has the role '%.20s', want %s%s", s->rows->path,
                           line, s->row.turns + !s->value[SYSTEM], name, or, ROLE_NAME[next]);
        if (!*text) return row_fail(s, line, "content", "is empty");
        turn_add(&s->row, role, text, "");
        next = role == ROLE_USER ? ROLE_ASSISTANT : ROLE_USER;
    }
    if (*s->row.output || (next == ROLE_ASSISTANT && !s->answers)) return 0;
    return row_fail(s, s->row.line, "messages", next == ROLE_USER ? "ask nothing" : "end without an answer");
}

static int row_get(Reader *s, uint32_t at) {
    const char *text[MEMBERS] = {"", "", "", "", "", "", ""};
    int form = PAIR, seen = -1;
    s->bytes = 0;
    if (row_values(s, at)) return -1;
    for (int i = 0; i < MEMBERS; i++) {
        if (!s->value[i]) continue;
        if (i != MESSAGES && row_text(s, s->value[i], s->name[i], &text[i])) return -1;
        if (i == SYSTEM) continue;
        form = i < PROMPT ? PAIR : i < MESSAGES ? PROMPT : MESSAGES;
        if (seen >= 0 && seen < form)
            return err_set(s->e, "%s:%" PRIu32 ": the row has both %s and %s", s->rows->path, s->row.line,
                           s->name[seen], s->name[i]);
        seen = i;
    }
    if (*text[SYSTEM]) turn_add(&s->row, ROLE_SYSTEM, text[SYSTEM], "");
    if (form == MESSAGES) return row_messages(s, s->value[MESSAGES]);
    int last = form == PAIR ? PAIR_ANSWER : COMPLETION;
    if (!*text[last] && s->answers) return row_lacks(s, last);
    if (!*text[form] && !*text[PAIR_INPUT]) return row_lacks(s, form);
    turn_add(&s->row, ROLE_USER, text[form], text[PAIR_INPUT]);
    if (*text[last]) turn_add(&s->row, ROLE_ASSISTANT, text[last], "");
    return 0;
}

// Every row from `at` on, or those that are right. Each turn has a node, and so has each row.
static int rows_get(Reader *s, uint32_t at, bool skip_bad) {
    Rows *r = s->rows;
    const Json *j = &r->json;
    size_t nodes = j->nodes - at + 1, rows = 1;
    for (uint32_t i = at; i < j->nodes; i = j->node[i].next) rows++;
    Turn *next = r->turn = malloc(nodes * sizeof *r->turn);
    r->row = malloc(rows * sizeof *r->row);
    if (!r->turn || !r->row) return err_memory(s->e, nodes * sizeof *r->turn);
    for (; at < j->nodes; at = j->node[at].next) {
        s->row = (Row){.turn = next, .output = "", .line = j->node[at].line};
        if (row_get(s, at)) {
            if (!skip_bad) return -1;
            row_skip(r, s->e);
            continue;
        }
        next += s->row.turns;
        for (const Turn *t = s->row.turn; t < next - (*s->row.output != 0); t++) {
            s->row.hash = hash64(t->text, strlen(t->text), s->row.hash);
            s->row.hash = hash64(t->input, strlen(t->input), s->row.hash);
        }
        r->row[r->n++] = s->row;
    }
    columns_ignored(s);
    for (int i = 0; i < MEMBERS && r->n > 0; i++)
        if (s->name[i] && s->name[i] != MEMBER[i] && !s->held[i])
            return err_set(s->e, "%s: no row holds %s; not read: %s", r->path, s->name[i], r->ignored);
    if (r->n > 0) return 0;
    if (r->bad == 0) return err_set(s->e, "%s: has no rows%s", r->path, s->header ? " below its header" : "");
    return err_set(s->e, "%s: has no good rows: %.*s", r->path, (int)strcspn(r->reason, "\n"), r->reason);
}

int rows_load(Rows *r, const char *path, const RowsHow *how, Err *e) {
    uint8_t *data;
    size_t bytes;
    uint32_t at = 0;
    *r = (Rows){.path = path};
    if (file_read(path, DATA_MAX, &data, &bytes, e)) return -1;
    Json *j = &r->json;
    Reader s = {.rows = r, .answers = how->answers, .e = e};
    char *columns = strdup(how->columns ? how->columns : "");
    int rc = columns ? columns_parse(&s, columns) : err_memory(e, 1);
    if (rc == 0) rc = rows_parse(j, &at, path, data, bytes, how->skip_bad ? r : NULL, e);
    free(data);
    if (rc == 0 && j->table && at < j->nodes) {
        s.header = at;
        at = j->node[at].next;
    }
    if (rc == 0) rc = rows_get(&s, at, how->skip_bad);
    if (rc) rows_free(r);
    free(columns);
    return rc;
}

void rows_free(Rows *r) {
    json_free(&r->json);
    free(r->row);
    free(r->turn);
    *r = (Rows){0};
}

// ---- templates --------------------------------------------------------------------------------------------
enum { TEMPLATE_MAX = 1 << 16 };      // bytes of a template's file

static int template_get(Template *tp, const char *template, const Tokenizer *t, Err *e) {
    Fault f;
    if (template_parse(tp, template, t, &f) == 0) return 0;
    const char *at = template + f.value;
    int line = (int)strcspn(at, "\n");
    return err_set(e, "template: byte %" PRId64 ", '%.*s': %s", f.value, line < 24 ? line : 24, at, f.what);
}

int template_check(const char *template, const Tokenizer *t, Err *e) {
    Template tp;
    return template_get(&tp, template, t, e);
}

// Left out: a byte order mark, other editors' carriage returns, the line break at the end of a row form's.
static int template_read(const char *path, char **template, Err *e) {
    uint8_t *text;
    size_t n, length = 1, kept = 0;
    if (!file_there(path))
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
    *template = named ? strdup(named) : NULL;
    int rc = !named ? template_read(asked, template, e) : *template ? 0 : err_memory(e, strlen(named));
    if (rc == 0 && template_check(*template, &k->tok, e) == 0) return 0;
    free(*template);
    *template = NULL;
    return -1;
}

// ---- examples ---------------------------------------------------------------------------------------------
typedef struct {                      // rows on their way to examples, whose arrays grow
    Examples *x;
    const Tokenizer *t;
    size_t seq;
    TooLong too_long;
    Teach teach;
    Err *e;
    Template tp;
    size_t ids, row, prompt;          // ids in all; before the row at hand; in it before {target}
    uint8_t *text;
    void *scratch;
    size_t text_room, scratch_room, tok_room, taught_room, ex_room;
} Encoder;

// For so many ids of the row at hand, no segment of which has more bytes
static int encode_room(Encoder *c, size_t ids, size_t bytes) {
    if (ids > SIZE_MAX / 2) return err_memory(c->e, ids);
    return grow(&c->x->tok, &c->tok_room, c->row + ids, sizeof *c->x->tok, c->e) ||
           grow(&c->text, &c->text_room, bytes + 1, 1, c->e) ||
           grow(&c->scratch, &c->scratch_room, tokenizer_encode_size(c->t, bytes), 1, c->e) ? -1 : 0;
}

// A row to ids, without the first `skip` of its exchanges: counted first, then done.
static int render(Encoder *c, const Row *row, size_t skip) {
    Rendering r = {0};
    template_render(&r, &c->tp, c->t, row->turn, row->turns, skip, c->teach);
    if (encode_room(c, r.ids, r.bytes) ||
        grow(&c->x->taught, &c->taught_room, c->row + r.ids, 1, c->e)) return -1;
    r = (Rendering){c->x->tok + c->row, c->x->taught + c->row, c->text, c->scratch, 0, 0, 0};
    template_render(&r, &c->tp, c->t, row->turn, row->turns, skip, c->teach);
    c->ids = c->row + r.ids;
    c->prompt = r.prompt;
    return 0;
}

// An example of the next len ids; taught NULL: as the array says that is as long as theirs.
static int examples_add(Encoder *c, size_t len, const uint8_t *taught, size_t row, uint64_t hash) {
    Examples *x = c->x;
    if (grow(&x->ex, &c->ex_room, x->n + 1, sizeof *x->ex, c->e)) return -1;
    x->ex[x->n++] = (Example){.at = c->row, .taught = taught, .len = (uint32_t)len,
                              .prompt = (uint32_t)c->prompt, .row = (uint32_t)row, .hash = hash};
    return 0;
}

void examples_count(Examples *x) {
    x->tokens = x->targets = x->longest = 0;
    for (size_t i = 0; i < x->n; i++) {
        const Example *ex = &x->ex[i];
        x->tokens += ex->len;
        for (uint32_t t = 1; t < ex->len; t++) x->targets += ex->taught[t];
        if (ex->len > x->longest) x->longest = ex->len;
    }
}

// The arrays have stopped growing, and the examples can point into them; or, on failure, nothing is left.
static int examples_end(Encoder *c, int rc) {
    Examples *x = c->x;
    free(c->text);
    free(c->scratch);
    if (rc) examples_free(x);
    for (size_t i = 0; i < x->n; i++) {
        x->ex[i].tok = x->tok + x->ex[i].at;
        if (!x->ex[i].taught) x->ex[i].taught = x->taught + x->ex[i].at;
    }
    examples_count(x);
    return rc;
}

// A row longer than seq loses as many of its oldest exchanges as it takes to fit, never the last, and then
// the beginning of its prompt. Each try is a whole rendering, so the number is searched by halves.
static int row_cut(Encoder *c, const char *path, const Row *row) {
    size_t few = 1, many = (row->turns - (row->turn[0].role == ROLE_SYSTEM) - 1) / 2;
    while (few < many) {
        size_t half = few + (many - few) / 2;
        if (render(c, row, half)) return -1;
        if (c->ids - c->row <= c->seq) many = half;
        else few = half + 1;
    }
    if (many > 0 && render(c, row, many)) return -1;
    size_t len = c->ids - c->row, over = len > c->seq ? len - c->seq : 0, kept = c->row + (c->t->bos >= 0);
    if (over > 0 && over >= c->prompt)    // one token must stay for the answer to follow
        return err_set(c->e, "%s:%" PRIu32 ": the answer alone has %zu tokens, want at most %zu\nhint: "
                       "--too-long drop", path, row->line, len - c->prompt, c->seq - 1);
    c->ids -= over;
    c->prompt -= over;
    memmove(c->x->tok + kept, c->x->tok + kept + over, (c->ids - kept) * sizeof *c->x->tok);
    memmove(c->x->taught + kept, c->x->taught + kept + over, c->ids - kept);
    return 0;
}

static int row_make(Encoder *c, const char *path, const Row *row, size_t number) {
    bool prompt = c->teach == TEACH_NONE;
    const char *wrong = !prompt && !*row->output ? "has no answer to learn"
                                                 : template_misfit(&c->tp, row->turn, row->turns);
    if (wrong) return err_set(c->e, "%s:%" PRIu32 ": the row %s", path, row->line, wrong);
    if (render(c, row, 0)) return -1;
    size_t len = c->ids - c->row;
    bool longer = len > c->seq;
    if (longer && c->too_long == TOO_LONG_DROP) {
        c->x->dropped++;
        return 0;
    }
    if (longer && c->too_long != TOO_LONG_CUT)
        return err_set(c->e, "%s:%" PRIu32 ": the row has %zu tokens, want at most %zu%s", path, row->line,
                       len, c->seq, c->too_long == TOO_LONG_ERROR ? "\nhint: --too-long cut or drop" : "");
    if (longer && row_cut(c, path, row)) return -1;
    c->x->cut += longer;
    len = c->ids - c->row;
    c->x->taught[c->row] = 0;         // nothing comes before the first id, so nothing can predict it
    if (prompt ? len == 0 : !memchr(c->x->taught + c->row, 1, len))
        return err_set(c->e, "%s:%" PRIu32 ": the row has no token to %s\nhint: another --template", path,
                       row->line, prompt ? "begin with" : "learn");
    if (examples_add(c, len, NULL, number, row->hash)) return -1;
    c->row = c->ids;
    return 0;
}

static int examples_begin(const Encoder *c) {
    *c->x = (Examples){0};
    if (c->t->kind == TOK_NONE) return err_set(c->e, "the model has no tokenizer");
    return want("examples", "most tokens of a row", (int64_t)c->seq, 2, INT32_MAX, c->e);
}

int examples_make(Examples *x, const Rows *r, const char *template, const Tokenizer *t, size_t seq,
                  TooLong too_long, Teach teach, Err *e) {
    Encoder c = {.x = x, .t = t, .seq = seq, .too_long = too_long, .teach = teach, .e = e};
    int rc = examples_begin(&c);
    if (rc == 0) rc = template_get(&c.tp, template, t, e);
    for (size_t i = 0; i < r->n && rc == 0; i++) rc = row_make(&c, r->path, &r->row[i], i);
    x->rows = r->n;
    if (rc == 0 && x->n == 0)
        rc = err_set(e, "%s: every row has more than %zu tokens\nhint: --seq", r->path, seq);
    return examples_end(&c, rc);
}

// A file to ids in windows, each `stride` further than the one before. Of its ids those are taught that no
// earlier window had, so that its `taught` is a piece of x->taught: seq zeros, then seq ones.
static int text_make(Encoder *c, const char *path, const uint8_t *data, size_t n, size_t stride) {
    const Tokenizer *t = c->t;
    size_t most = tokenizer_most(t, n), known = c->row + 1;
    if (encode_room(c, most < SIZE_MAX - 2 ? most + 2 : most, n)) return -1;
    int32_t *tok = c->x->tok + c->row, *at = tok;
    if (t->bos >= 0) *at++ = t->bos;
    at += tokenizer_encode(t, data, n, false, at, c->scratch);
    if (t->eot >= 0) *at++ = t->eot;
    if (n == 0 || at - tok < 2) return err_set(c->e, "%s: has no text to learn from", path);
    c->prompt = 1;
    for (c->ids = c->row + (size_t)(at - tok); known < c->ids; c->row += stride) {
        size_t len = c->ids - c->row < c->seq ? c->ids - c->row : c->seq;
        uint64_t hash = 0;
        for (size_t i = 0; i < len; i++) hash = hash_number((uint64_t)c->x->tok[c->row + i], hash);
        if (examples_add(c, len, c->x->taught + c->seq - (known - c->row), c->x->n, hash)) return -1;
        known = c->row + len;
    }
    c->row = c->ids;
    return 0;
}

int examples_text(Examples *x, const char *const *path, int paths, const Tokenizer *t, size_t seq,
                  size_t stride, Err *e) {
    Encoder c = {.x = x, .t = t, .seq = seq, .e = e};
    uint8_t *data;
    size_t n;
    int rc = examples_begin(&c);
    if (rc == 0) rc = grow(&x->taught, &c.taught_room, 2 * seq, 1, e);
    for (size_t i = 0; i < 2 * seq && rc == 0; i++) x->taught[i] = i >= seq;
    for (int i = 0; i < paths && rc == 0; i++) {
        rc = file_read(path[i], DATA_MAX, &data, &n, e);
        if (rc == 0) rc = text_make(&c, path[i], data, n, stride);
        free(data);
    }
    x->rows = x->n;
    return examples_end(&c, rc);
}

void examples_free(Examples *x) {
    free(x->ex);
    free(x->tok);
    free(x->taught);
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
// Takes the token that a row has got, and adds its text. Does it end the answer, and why?
static int answer_take(Generated *g, Stream *s, const Tokenizer *t, size_t max_tokens, size_t cached,
                       bool first_line, Err *e) {
    size_t n;
    int32_t id = s->id[s->n - 1];
    const uint8_t *text = tokenizer_decode(t, id, &n);
    bool line = false, special = t->flag[id] == TOKEN_SPECIAL;
    if (special) n = 0;
    if (grow(&g->text, &g->room, g->bytes + n + 1, 1, e)) return -1;
    for (size_t i = 0; i < n; i++) {
        line = line || (first_line && g->words && text[i] == '\n');
        g->words = g->words || !strchr(" \t\r\n", text[i]);
        g->text[g->bytes++] = (char)text[i];
    }
    g->text[g->bytes] = 0;
    g->tokens += !special;
    g->stop = special ? STOP_END : line ? STOP_LINE : g->tokens >= max_tokens ? STOP_LENGTH : STOP_FULL;
    s->done = g->stop != STOP_FULL || s->n > cached;
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
            rc = answer_take(&out[i], &s[i], t, max_tokens, m->shape.cached, first_line, e);
            live -= s[i].done;
        }
    }
    for (size_t i = 0; i < rows && rc; i++) {
        free(out[i].text);
        out[i].text = NULL;
    }
    free(s);
    free(id);
    return rc;
}

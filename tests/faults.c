// faults.c -- linked under train, eval and convert for faults.sh: calls of the C library that fail when they are told to.
// The environment's FAULT says which, as KIND:N, and at the end a line on stderr tells what was called and what is left.
//   error:N  the Nth call on files fails, as such a call can: no space, no descriptor, an error of the device
//   full:N   from the Nth on, all that write fail: the disk is full
//   short:N  the Nth read ends early, as of a file that another program cuts
//   eintr:N  the Nth read is interrupted by a signal
//   alloc:N  the Nth allocation finds no memory
//   kill:N   SIGKILL after N microseconds
//   none:0   nothing
// What libc allocates and opens for itself is not counted.
#define _XOPEN_SOURCE 700
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

static char kind[8];
static long at, calls, reads, allocations, blocks, files;
static const char *failed = "none";   // the last call that was made to fail
static FILE *broken;                  // its error indicator is ours

static void on_alarm(int number) {
    (void)number;
    kill(getpid(), SIGKILL);
}

static void tell(void) {
    fprintf(stderr, "faults: %ld calls, %ld reads, %ld allocations; failed: %s; left: %ld blocks, %ld files\n",
            calls, reads, allocations, failed, blocks, files);
    kind[0] = 0;                      // a profiler that writes after this is not what is tested
}

// At the first call, whichever it is. Threads do not call: the programs allocate and write from one alone.
static void begin(void) {
    static bool begun;
    if (begun) return;
    begun = true;
    const char *fault = getenv("FAULT");
    if (!fault || sscanf(fault, "%7[a-z]:%ld", kind, &at) != 2) return;
    atexit(tell);
    if (strcmp(kind, "kill")) return;
    signal(SIGALRM, on_alarm);
    struct itimerval when = {.it_value = {at / 1000000, at % 1000000}};
    setitimer(ITIMER_REAL, &when, NULL);
}

static bool fails(const char *name, bool writes, int number) {
    begin();
    calls++;
    bool fail = (calls == at && !strcmp(kind, "error")) || (writes && calls >= at && !strcmp(kind, "full"));
    if (fail) failed = name;
    if (fail) errno = number;
    return fail;
}

// ---- files ------------------------------------------------------------------------------------------------
// CALL(RESULT, NAME, PARAMETERS, ARGUMENTS, DOES IT WRITE, ERRNO, WHAT IT RETURNS THEN)
#define CALL(type, name, parameters, arguments, writes, number, bad) \
    type __real_##name parameters; \
    type __wrap_##name parameters; \
    type __wrap_##name parameters { return fails(#name, writes, number) ? bad : __real_##name arguments; }
CALL(int, stat, (const char *p, struct stat *s), (p, s), false, EACCES, -1)
CALL(int, fstat, (int d, struct stat *s), (d, s), false, EIO, -1)
CALL(int, fsync, (int d), (d), true, EIO, -1)
CALL(int, ftruncate, (int d, off_t n), (d, n), true, EIO, -1)
CALL(int, rename, (const char *a, const char *b), (a, b), true, ENOSPC, -1)
CALL(int, fseeko, (FILE *f, off_t n, int w), (f, n, w), false, EIO, -1)
CALL(int, fflush, (FILE *f), (f), true, ENOSPC, EOF)
CALL(size_t, fwrite, (const void *p, size_t s, size_t n, FILE *f), (p, s, n, f), true, ENOSPC, 0)
CALL(int, vfprintf, (FILE *f, const char *s, va_list l), (f, s, l), f != stderr, ENOSPC, -1)

FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode) {
    FILE *f = fails("fopen", false, EMFILE) ? NULL : __real_fopen(path, mode);
    files += f != NULL;
    return f;
}

FILE *__real_fdopen(int d, const char *mode);
FILE *__wrap_fdopen(int d, const char *mode);
FILE *__wrap_fdopen(int d, const char *mode) { return fails("fdopen", false, ENOMEM) ? NULL : __real_fdopen(d, mode); }

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    int d = fails("open", false, EMFILE) ? -1 : __real_open(path, flags, flags & O_CREAT ? va_arg(list, mode_t) : 0);
    va_end(list);
    files += d >= 0;
    return d;
}

// A lock that is not to be had refuses; that there are no locks does not.
int __real_fcntl(int d, int command, ...);
int __wrap_fcntl(int d, int command, ...);
int __wrap_fcntl(int d, int command, ...) {
    va_list list;
    va_start(list, command);
    struct flock *lock = va_arg(list, struct flock *);
    va_end(list);
    return fails("fcntl", false, at % 2 ? ENOLCK : EAGAIN) ? -1 : __real_fcntl(d, command, lock);
}

// Even if it says that it failed, the file is closed.
int __real_fclose(FILE *f);
int __wrap_fclose(FILE *f);
int __wrap_fclose(FILE *f) {
    bool fail = fails("fclose", true, EIO);
    files--;
    if (broken == f) broken = NULL;
    return __real_fclose(f) || fail ? (errno = EIO, EOF) : 0;
}

int __real_close(int d);
int __wrap_close(int d);
int __wrap_close(int d) {
    bool fail = fails("close", false, EIO);
    files--;
    return __real_close(d) || fail ? (errno = EIO, -1) : 0;
}

size_t __real_fread(void *p, size_t size, size_t n, FILE *f);
size_t __wrap_fread(void *p, size_t size, size_t n, FILE *f);
size_t __wrap_fread(void *p, size_t size, size_t n, FILE *f) {
    bool fail = fails("fread", false, EIO), now = ++reads == at;
    bool interrupted = now && !strcmp(kind, "eintr"), cut = now && !strcmp(kind, "short");
    if (interrupted) errno = EINTR;
    if (fail || interrupted) broken = f;
    if (fail) return 0;
    return __real_fread(p, size, interrupted || cut ? n / 2 : n, f);
}

int __real_ferror(FILE *f);
int __wrap_ferror(FILE *f);
int __wrap_ferror(FILE *f) { return broken == f || __real_ferror(f); }

void __real_clearerr(FILE *f);
void __wrap_clearerr(FILE *f);
void __wrap_clearerr(FILE *f) {
    if (broken == f) broken = NULL;
    __real_clearerr(f);
}

// What glibc calls these where data.c asks for files over 2 GiB; on machines of 64 bits they are the same.
#define ALSO(type, name, parameters, arguments) \
    type __wrap_##name##64 parameters; \
    type __wrap_##name##64 parameters { return __wrap_##name arguments; }
ALSO(int, stat, (const char *p, struct stat *s), (p, s))
ALSO(int, fstat, (int d, struct stat *s), (d, s))
ALSO(int, ftruncate, (int d, off_t n), (d, n))
ALSO(int, fseeko, (FILE *f, off_t n, int w), (f, n, w))
ALSO(FILE *, fopen, (const char *path, const char *mode), (path, mode))
ALSO(int, open, (const char *path, int flags, mode_t mode), (path, flags, mode))
ALSO(int, fcntl, (int d, int command, struct flock *lock), (d, command, lock))

// ---- memory -----------------------------------------------------------------------------------------------
static bool refused(void) {
    begin();
    allocations++;
    bool fail = allocations == at && !strcmp(kind, "alloc");
    if (fail) errno = ENOMEM;
    return fail;
}

static void *counted(void *p) {
    blocks += p != NULL;
    return p;
}

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n) { return refused() ? NULL : counted(__real_malloc(n)); }

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size) { return refused() ? NULL : counted(__real_calloc(n, size)); }

void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n) {
    if (refused()) return NULL;
    void *q = __real_realloc(p, n);
    return p ? q : counted(q);
}

int __real_posix_memalign(void **p, size_t alignment, size_t n);
int __wrap_posix_memalign(void **p, size_t alignment, size_t n);
int __wrap_posix_memalign(void **p, size_t alignment, size_t n) {
    int rc = refused() ? ENOMEM : __real_posix_memalign(p, alignment, n);
    blocks += rc == 0;
    return rc;
}

char *__real_strdup(const char *s);
char *__wrap_strdup(const char *s);
char *__wrap_strdup(const char *s) { return refused() ? NULL : counted(__real_strdup(s)); }

char *__real_realpath(const char *path, char *to);
char *__wrap_realpath(const char *path, char *to);
char *__wrap_realpath(const char *path, char *to) { return refused() ? NULL : counted(__real_realpath(path, to)); }

void __real_free(void *p);
void __wrap_free(void *p);
void __wrap_free(void *p) {
    blocks -= p != NULL;
    __real_free(p);
}

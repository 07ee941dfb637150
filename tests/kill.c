// kill.c -- linked into train for resume.sh: the program ends as by SIGKILL just before the KILL_AT-th of the calls
// that change what lies on the disk. So it dies wherever two files could disagree, and at the same places each time.
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int __real_rename(const char *from, const char *to);
int __real_remove(const char *path);
int __real_unlink(const char *path);
int __real_fsync(int fd);
int __real_fflush(FILE *f);
int __wrap_rename(const char *from, const char *to);
int __wrap_remove(const char *path);
int __wrap_unlink(const char *path);
int __wrap_fsync(int fd);
int __wrap_fflush(FILE *f);

static void count(void) {
    static long calls;
    const char *at = getenv("KILL_AT");
    if (at && ++calls == strtol(at, NULL, 10)) raise(SIGKILL);
}

int __wrap_rename(const char *from, const char *to) { count(); return __real_rename(from, to); }
int __wrap_remove(const char *path) { count(); return __real_remove(path); }
int __wrap_unlink(const char *path) { count(); return __real_unlink(path); }
int __wrap_fsync(int fd) { count(); return __real_fsync(fd); }
int __wrap_fflush(FILE *f) {
    if (f != stderr && f != stdout) count();
    return __real_fflush(f);
}

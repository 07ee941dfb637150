// lacking.h -- what WASI and Windows lack of the POSIX that data.c uses: included before every file, for the lines
// that platforms.sh only tries. Enough for its tiny run; not a port, which would keep data.c's promises.
#ifdef __wasi__
#define _XOPEN_SOURCE 700
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
enum { F_SETLK = 1000, F_WRLCK = 1 };             // no locks: two runs on one output do not refuse each other
#define fchmod(descriptor, mode) ((void)(mode), 0)
static inline char *realpath(const char *path, char *resolved) { return resolved ? NULL : strdup(path); }
#endif

#ifdef _WIN32
#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define SIGXFSZ SIGTERM                           // there is no limit to the size of a file
#define fsync _commit
#define fchmod(descriptor, mode) ((void)(mode), 0)
#define realpath(path, resolved) _fullpath(resolved, path, 0)
#define rename(from, to) (remove(to), rename(from, to))    // the system's own refuses if there is a `to`
#define O_NOFOLLOW 0
#define lstat stat
#define S_ISLNK(mode) 0
#define S_ISVTX 0                                 // no mark: what a killed run left is refused
enum { F_SETLK, F_WRLCK };                        // no locks here either
struct flock { short l_type, l_whence; };
#define fcntl(descriptor, command, lock) ((void)(lock), errno = ENOSYS, -1)
static inline int posix_memalign(void **p, size_t align, size_t n) { return (void)align, !(*p = malloc(n)); }
static __attribute__((constructor)) void binary(void) { _fmode = _O_BINARY; }    // line ends stay as they are
#endif

// pty.c -- runs a program on a terminal of its own and types to it, for tests of what a person sees.
//
//     pty COMMAND ARGUMENTS... < steps > shown
//
// Each line of steps either waits until the program has shown a text, after the one last waited for, or types:
//     wait note: stopped
//     type hello\n                   \n is Return; \003 Ctrl-C, and so on in octal
// What was shown goes to standard output. Exit status: the program's own, 128 + the signal that ended it, or 124 after
// 60 seconds of waiting in vain, which standard error explains.
#define _XOPEN_SOURCE 600
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE = 60, SHOWN_MAX = 1 << 24, STEP_MAX = 1000 };

static char shown[SHOWN_MAX + 1];
static size_t shown_bytes;
static pid_t child;

static void die(const char *what, const char *detail) {
    fprintf(stderr, "pty: %s%s\n", what, detail);
    if (child > 0) kill(child, SIGKILL);
    fwrite(shown, 1, shown_bytes, stdout);
    exit(124);
}

// The program, with a new terminal as its standard input, output and error. A Ctrl-C discards nothing there: otherwise
// what the program says on its account may be lost, or not, as the threads of the kernel happen to run.
static void start(char **argv, const char *terminal) {
    setsid();
    int fd = open(terminal, O_RDWR);
    if (fd < 0) _exit(127);
#ifdef TIOCSCTTY
    ioctl(fd, TIOCSCTTY, 0);
#endif
    struct termios how;
    if (tcgetattr(fd, &how)) _exit(127);
    how.c_lflag |= NOFLSH;
    if (tcsetattr(fd, TCSANOW, &how)) _exit(127);
    for (int i = 0; i < 3; i++) dup2(fd, i);
    if (fd > 2) close(fd);
    execvp(argv[0], argv);
    _exit(127);
}

// Reads what the program shows for up to a tenth of a second; false: it has closed its terminal.
static int more(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, 100) <= 0) return 1;
    if (shown_bytes == SHOWN_MAX) die("more than 16 MiB shown", "");
    ssize_t n = read(fd, shown + shown_bytes, SHOWN_MAX - shown_bytes);
    if (n < 0 && errno == EINTR) return 1;
    if (n <= 0) return 0;                         // EIO on Linux
    shown_bytes += (size_t)n;
    return 1;
}

static void wait_for(int fd, const char *text) {
    static size_t seen;                           // shown up to the last text waited for
    size_t n = strlen(text);
    for (time_t end = time(NULL) + PATIENCE;;) {
        for (size_t i = seen; i + n <= shown_bytes; i++)
            if (!memcmp(shown + i, text, n)) { seen = i + n; return; }
        if (!more(fd) || time(NULL) > end) die("waited in vain for: ", text);
    }
}

static void type(int fd, const char *s) {
    for (; *s; s++) {
        char c = *s;
        if (c == '\\' && s[1] == 'n') { c = '\n'; s++; }
        else if (c == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
            c = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 3;
        }
        if (write(fd, &c, 1) != 1) die("cannot type: ", s);
    }
}

int main(int argc, char **argv) {
    char step[STEP_MAX];
    int fd = posix_openpt(O_RDWR | O_NOCTTY), status;
    if (argc < 2) die("usage: pty COMMAND ARGUMENTS... < steps", "");
    if (fd < 0 || grantpt(fd) || unlockpt(fd)) die("no terminal: ", strerror(errno));
    const char *terminal = ptsname(fd);
    if (!terminal || (child = fork()) < 0) die("no terminal or process: ", strerror(errno));
    if (child == 0) start(argv + 1, terminal);
    while (fgets(step, sizeof step, stdin)) {
        step[strcspn(step, "\n")] = 0;
        if (!strncmp(step, "type ", 5)) type(fd, step + 5);
        else if (!strncmp(step, "wait ", 5)) wait_for(fd, step + 5);
        else die("a step that is neither wait nor type: ", step);
    }
    for (time_t end = time(NULL) + PATIENCE; more(fd);)
        if (time(NULL) > end) die("the program does not end", "");
    if (waitpid(child, &status, 0) != child) die("lost the program", "");
    fwrite(shown, 1, shown_bytes, stdout);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

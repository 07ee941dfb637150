// fuzz_eval.c -- hostile bytes as the files of a benchmark: the target `eval`, through eval's own main.
//
// The first byte says which benchmark the rest is given as. As fuzz.c, it wants SEEDS in the environment.
#define _POSIX_C_SOURCE 200809L
#define main eval_main
int main(int argc, char **argv);
#include "../../eval.c"
#undef main
#include <assert.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char input[64], other[64], options[sizeof OPTION], values[sizeof opt];

static void remove_input(void) {
    unlink(input);
    unlink(other);
}

static void put(const char *path, const uint8_t *data, size_t n) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char *const TASK[] = {"hellaswag", "arc", "mmlu", "mmlu_cloze", "truthfulqa", "choices", "arc_easy"};
    char model[1024], rows[128];
    const char *seeds = getenv("SEEDS");
    if (!seeds) exit(2);
    if (!input[0]) {
        snprintf(input, sizeof input, "%s/fuzz_eval_%ld", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm", (long)getpid());
        snprintf(other, sizeof other, "%.56s.csv", input);
        atexit(remove_input);
        memcpy(options, OPTION, sizeof OPTION);
        memcpy(values, &opt, sizeof opt);
    }
    if (n == 0) return 0;
    int task = (data[0] + 1) % 7;                 // of '0' the first, as dev/fuzz/seeds.sh writes it
    const char *path = task == 2 ? other : input;
    put(path, data + 1, n - 1);
    snprintf(model, sizeof model, "%s/base.bin", seeds);
    snprintf(rows, sizeof rows, "%s=%s", TASK[task], path);
    char *argv[] = {"eval", "bench", "--model", model, "--threads", "1", "--limit", "3", "--batch", "4", rows, NULL};
    int rc = eval_main(11, argv);
    kept = NULL;                                  // eval's main runs once in a process, and here again and again
    kept_room = 0;
    memcpy(OPTION, options, sizeof OPTION);
    memcpy(&opt, values, sizeof opt);
    assert(rc == 0 || rc == 1);
    return 0;
}

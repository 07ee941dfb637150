// encode.c -- tokenizer.c for other programs: texts on standard input, token ids on standard output. It is
// the C side of dev/parity_tokenizers.py. Its tokenizer is a file of 4-byte numbers in this machine's order:
//     kind, vocab, merges, eot, bos, add_space;  where each token's bytes end;  left, right, result, rank of
//     each merge
// then a byte of flags for each token, then all tokens' bytes. A text is a 4-byte length and its bytes; its
// ids come back as a 4-byte count and 4-byte ids. Not for hostile input.
#include "model.h"
#include <stdio.h>
#include <stdlib.h>

static void *must(void *p, const char *what) {
    if (p) return p;
    fprintf(stderr, "encode: %s\n", what);
    exit(1);
}

static void *get(FILE *f, size_t n) {
    void *p = must(malloc(n ? n : 1), "out of memory");
    if (fread(p, 1, n, f) != n) must(NULL, "the input is cut short");
    return p;
}

static Tokenizer tokenizer_read(const char *path) {
    Fault fault;
    FILE *f = must(fopen(path, "rb"), path);
    int32_t *h = get(f, 6 * sizeof *h);
    Tokenizer t = {.kind = (TokKind)h[0], .vocab = (uint32_t)h[1], .merges = (uint32_t)h[2],
                   .eot = h[3], .bos = h[4], .add_space = h[5] != 0};
    uint32_t *start = must(malloc(4 * ((size_t)t.vocab + 1)), "out of memory");
    start[0] = 0;
    if (fread(start + 1, 4, t.vocab, f) != t.vocab) must(NULL, "the tokenizer is cut short");
    t.start = start;
    t.merge = get(f, t.merges * sizeof(Merge));
    t.flag = get(f, t.vocab);
    t.bytes = get(f, start[t.vocab]);
    void *index = must(malloc(tokenizer_index_size(t.vocab, t.merges)), "out of memory");
    if (tokenizer_index(&t, index, &fault)) {
        fprintf(stderr, "encode: %s: %s = %lld, want %lld..%lld\n", path, fault.what, (long long)fault.value,
                (long long)fault.lo, (long long)fault.hi);
        exit(1);
    }
    free(h);
    fclose(f);
    return t;
}

int main(int argc, char **argv) {
    if (argc < 2) must(NULL, "usage: encode TOKENIZER [special] < texts > ids");
    Tokenizer t = tokenizer_read(argv[1]);
    uint32_t n;
    while (fread(&n, sizeof n, 1, stdin) == 1) {
        uint8_t *text = get(stdin, n);
        int32_t *id = must(malloc(tokenizer_most(&t, n) * sizeof *id), "out of memory");
        void *scratch = must(malloc(tokenizer_encode_size(&t, n)), "out of memory");
        uint32_t count = (uint32_t)tokenizer_encode(&t, text, n, argc > 2, id, scratch);
        bool written = fwrite(&count, sizeof count, 1, stdout) == 1 &&
                       fwrite(id, sizeof *id, count, stdout) == count;
        if (!written) must(NULL, "cannot write");
        free(text);
        free(id);
        free(scratch);
    }
    return 0;
}

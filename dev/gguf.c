// gguf.c -- GGUF files, in and out.
#include "convert.h"

int gguf_read(Import *m, const char *path, const Ask *ask, Err *e) {
    (void)m;
    (void)ask;
    return err_set(e, "%s: GGUF files are not read yet", path);
}

int gguf_write(const Import *m, const char *path, Stored as, Err *e) {
    (void)m;
    (void)as;
    return err_set(e, "%s: GGUF files are not written yet", path);
}

// hf.c -- Hugging Face folders, in and out.
#include "convert.h"

int hf_read(Import *m, const char *folder, const Ask *ask, Err *e) {
    (void)m, (void)ask;
    return err_set(e, "%s: folders are not read yet", folder);
}

int hf_write(const Import *m, const char *folder, Stored as, Err *e) {
    (void)m, (void)as;
    return err_set(e, "%s: folders are not written yet", folder);
}

// hf.h -- what hf.c (configuration, weights of a folder) and hf_tokenizer.c share: JSON with checks.
#ifndef HF_H
#define HF_H
#include "convert.h"

#define JSON_MAX ((size_t)1 << 25)    // bytes of one JSON file; Llama 3's tokenizer.json has 17 MB

typedef struct {
    char path[4096];
    size_t bytes;                     // of the file
    Json j;                           // an object
} Doc;

int  folder_path(char path[4096], const char *folder, const char *name, Err *e);
bool folder_has(const char *folder, const char *name);
// Reads a JSON file of the folder, whose root must be an object, and notes it in the lineage as `what`.
int  doc_open(Doc *d, Import *m, const char *folder, const char *name, const char *what, Err *e);
void doc_close(Doc *d);               // also of a zeroed one
// A member of an object (0: the root); NULL: not there, or null. d may be closed: then nothing is there.
const JsonNode *doc_get(const Doc *d, uint32_t object, const char *key);
uint32_t doc_index(const Doc *d, const JsonNode *v);         // of a node that doc_get gave
bool doc_is(const Doc *d, uint32_t object, const char *key, const char *text);    // is it this string?
// A whole number in lo..hi. if_absent < lo: it must be there.
int  doc_int(const Doc *d, uint32_t object, const char *key, int64_t lo, int64_t hi, int64_t if_absent,
             int64_t *out, Err *e);
int  doc_real(const Doc *d, uint32_t object, const char *key, float if_absent, float *out, Err *e);
int  doc_flag(const Doc *d, uint32_t object, const char *key, bool if_absent, bool *out, Err *e);
// A member that must be `want`: a string, or "true", "false" for these. It need not be there.
int  doc_want(const Doc *d, uint32_t object, const char *key, const char *want, Err *e);
bool json_whole(const JsonNode *v, uint64_t *out);           // a whole number from 0 to 2^53?
const char *json_shown(const JsonNode *v);                   // for messages: a number or text, else its kind

// Tokenizer and template of the folder into m. eos: the ids in generation_config.json, then config.json.
typedef struct { int64_t id[8]; int n; } EndIds;
int hf_tokenizer_read(Import *m, const char *folder, Family family, const EndIds *eos, const Ask *ask,
                      Err *e);
// tokenizer.json and tokenizer_config.json.
int hf_tokenizer_write(const Import *m, const char *folder, Err *e);
#endif

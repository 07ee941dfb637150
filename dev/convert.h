// convert.h -- what the parts of convert share: a model in memory, and the names that tensors have elsewhere.
//
//     convert.c      main; --info, --diff
//     import.c       the common part: numbers in files, families and names, vocabularies
//     jinja.c        chat templates that are known
//     hf.c           Hugging Face folders, in and out
//     gguf.c         GGUF files, in and out
//     llama2c.c      llama2.c's .bin files, in
#ifndef CONVERT_H
#define CONVERT_H
#include "../model.h"

// ---- what the user asked for besides IN and OUT -----------------------------------------------------------
typedef struct {
    const char *tokenizer;            // llama2.c's tokenizer file
    const char *template;             // --template NAME or FILE: instead of the model's own
    bool zero_bias;                   // a bias that IN has in no layer is zero
    const char *merge;                // --merge: the base of an adapter
} Ask;

// ---- a model on its way from one format to another --------------------------------------------------------
typedef struct {
    Config cfg;
    Params w;
    float *weights;                   // the tensors, one after the other; import_weights
    Dtype dtype;                      // bf16 if every tensor was stored so, else f32
    Tokenizer tok;                    // whose arrays are those that follow, or from's
    uint8_t *bytes, *flag;            // malloc; room for bytes_room and for tok.vocab
    uint32_t *start;
    Merge *merge;
    size_t bytes_room;
    uint32_t tokens_room, merges_room;
    void *words, *index;              // words: all normal tokens in the order of their bytes, for vocab_merge
    size_t word_count;
    char *template;                   // malloc; NULL: none
    char *lineage;                    // malloc; a line for each file that was read; NULL: none
    Checkpoint from;                  // if IN is a checkpoint of ours: keeps its tokenizer
} Import;

int  import_weights(Import *m, Err *e);                      // memory for all tensors of m->cfg, zeroed
int  import_check(const Import *m, const char *path, Err *e);    // every weight is finite
int  import_say(Import *m, const char *what, const char *text, Err *e);    // a line of the lineage
// Reads a file and notes its SHA-256 as the origin. what: a word for the file, never its path.
int  import_read(Import *m, const char *path, const char *what, size_t limit, uint8_t **data, size_t *n,
                 Err *e);
void import_free(Import *m);

// ---- numbers in files: little-endian ----------------------------------------------------------------------
bool     mul_ok(size_t a, size_t b, size_t *out);
uint32_t u32_at(const uint8_t *p);
uint64_t u64_at(const uint8_t *p);
float    f32_of(uint32_t bits);
uint32_t bits_of(float x);
float    f16_of(uint32_t half);
uint32_t f16_round(float x);                                 // to nearest, ties to even
uint32_t bf16_round(float x);

// ---- families and names -----------------------------------------------------------------------------------
typedef enum { FAMILY_GPT2, FAMILY_LLAMA, FAMILY_QWEN2, FAMILY_QWEN3, FAMILIES } Family;
extern const char *const FAMILY_NAME[FAMILIES];              // "gpt2", ... in config.json and in GGUF alike
Family family_find(const char *name);                        // FAMILIES: none of them
int    family_of(const Config *c, Family *f, Err *e);        // which family can hold this architecture

// One row for each tensor as other programs store it: ours puts q, k, v into one matrix, and gate and up.
// Theirs are (out, in), ours (in, out); only GPT-2 of Hugging Face is (in, out) too.
typedef enum { ALL_COLUMNS, Q_COLUMNS, K_COLUMNS, V_COLUMNS, GATE_COLUMNS, UP_COLUMNS } Part;
typedef struct {
    unsigned families;                // bit f: family f has it
    const char *hf, *gguf;            // # is the layer
    size_t where;                     // offset in Params
    Part part;                        // which columns of ours
} Named;
extern const Named NAMED[];
extern const int NAMED_ROWS;
bool   named_here(const Named *n, const Config *c);          // does this architecture have the tensor?
bool   named_vector(const Named *n);                         // a gain, a shift or a bias
bool   named_bias(const Named *n);                           // a shift or a bias
// Shape as the files have it: *out rows of *in floats; *out is 1 for a vector.
void   named_shape(const Named *n, const Config *c, size_t *out, size_t *in);
// Number of the row whose name this is, -1: none. gguf: by the GGUF name. *layer: the number at its #.
int    named_find(const char *name, bool gguf, Family f, size_t layers, size_t *layer);
bool   named_ignored(const char *name, Family f);            // a buffer in old folders, no weights
// Where a stored tensor lies in ours float by float as it is stored, unpaired; NULL: it is turned or a part.
bool   named_is_straight(const Named *n, bool input_major);
float *named_straight(const Named *n, const Config *c, const Params *w, size_t layer, bool input_major);
// From and to x, the floats of one stored tensor of shape (out, in), or (in, out) if input_major. paired: the
// rotary positions turn neighbours 2i and 2i+1 of a head (GGUF's llama), not i and i + HS/2 as ours and
// Hugging Face's.
void   named_put(const Named *n, const Config *c, const Params *w, size_t layer, const float *x,
                 bool input_major, bool paired);
void   named_get(const Named *n, const Config *c, const Params *w, size_t layer, float *x,
                 bool input_major, bool paired);

// ---- tokenizers in memory ---------------------------------------------------------------------------------
// What every reader of a tokenizer calls: tokens in order of their ids, then merges, then the end.
int  vocab_begin(Import *m, TokKind kind, uint32_t tokens, uint32_t merges, size_t bytes, Err *e);
int  vocab_token(Import *m, const uint8_t *bytes, size_t n, uint8_t flag, Err *e);
// Byte-level vocabularies spell each byte as a printable character (GPT-2's bytes_to_unicode): the bytes of
// such a spelling (UTF-8, n bytes) into out (n), -1 if it is none. And back: out (2n + 1), 0-terminated.
int64_t bytes_unspell(uint8_t *out, const char *text, size_t n);
void    bytes_spell(char *out, const uint8_t *bytes, size_t n);
// merges of byte-level and Hugging Face's lists: tokens by their bytes; the rank is the place in the list.
int  vocab_merge(Import *m, const uint8_t *left, size_t n, const uint8_t *right, size_t k, Err *e);
// merges of a vocabulary with scores: every way to join two tokens into a third, by falling score.
int  vocab_scores(Import *m, const float *score, const char *path, Err *e);
int  vocab_end(Import *m, const char *path, Err *e);         // tokenizer_index; eot, bos, add_space before

// ---- templates --------------------------------------------------------------------------------------------
// What readers call with the model's Jinja text (NULL: it has none): sets m->template, or refuses a text that
// is not known, unless --template named another.
int  import_template(Import *m, const Ask *ask, const char *jinja, size_t n, const char *path, Err *e);
// Our template for a Jinja text that is one of the known ones; NULL: unknown. It is never run.
const char *jinja_known(const char *text, size_t n);
// The Jinja text that says what our template says, for export; NULL: none is known.
const char *jinja_for(const char *template);

// ---- formats ----------------------------------------------------------------------------------------------
int hf_read(Import *m, const char *folder, const Ask *ask, Err *e);
int gguf_read(Import *m, const char *path, const Ask *ask, Err *e);
int llama2c_read(Import *m, const char *path, const Ask *ask, Err *e);
// Numbers as they are stored out there. BF16 and F16 and Q8_0 round to nearest.
typedef enum { AS_F32, AS_F16, AS_BF16, AS_Q8_0 } Stored;
int hf_write(const Import *m, const char *folder, Stored as, Err *e);    // AS_F32, AS_BF16, AS_F16
int gguf_write(const Import *m, const char *path, Stored as, Err *e);
#endif

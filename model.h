// model.h -- tune.c: fine-tune a GPT in plain C. The one header: letters, words, types and prototypes of the
// three rooms below the programs, in reading order: errors; model.c, the transformer; tokenizer.c, text to
// numbers and back; data.c, every byte in and out. train.c, eval.c, dev/*.c sit on top; nothing points back.
//
// The letters. A shape is written in parentheses, last index fastest; (N,C) is N rows of C floats.
//     B  rows (sequences) of a batch           L   layers (blocks)
//     T  positions of the longest row          NH  query heads         NKV  key/value heads, NH % NKV == 0
//     N  tokens really there, sum of lengths   HS  floats of one head  A = NH*HS   KV = NKV*HS   Q = A + 2*KV
//     C  channels, the width of the model      F   hidden width of MLP F1 = F (GELU), 2F (SwiGLU: gate, up)
//     V  vocabulary, how many tokens there are P   positions the model can see, its context
// Padding has no letter: a row has its length, and what lies behind it is neither read nor computed.
//
// The words, in the order of the computation, which the top of model.c has as formulas. A text is cut into
// tokens, numbers below V. Each begins as its embedding, C learned floats, and stays a row of C floats to the
// end: the residual stream, to which every layer (block) adds twice. Attention adds what a token finds in
// those before it, in NH independent heads; the MLP, two matrices and an activation function between, what it
// makes of itself. A norm brings rows to one scale before. The output head, no kin of the others, gives V
// logits; softmax makes them probabilities of the next token. Tied: the head is the embedding's matrix again.
// The loss, cross-entropy, is -log of the probability that the right token got. Its derivative by a weight is
// the weight's gradient, and values that this needs from the way there are activations. A step of AdamW, the
// optimizer, moves each weight against its gradient on a batch, computed at once or in micro-batches; moments
// are its means of gradients and their squares. Of text being generated a cache keeps what later tokens read.
#ifndef MODEL_H
#define MODEL_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TUNE_VERSION "0.1.0"

// ---- errors -----------------------------------------------------------------------------------------------
// Functions that can fail return 0, or -1 with the error filled in; only a main prints it and exits.
// What model.c and tokenizer.c say: no text is formatted there, so they need no stdio on a microcontroller.
typedef struct {
    const char *what;                 // static text: which number is wrong
    int64_t value, lo, hi;            // what it is, and the range wanted; lo > hi: a byte's position
} Fault;
// What data.c and the programs say: one line with file, position, value, what was wanted.
typedef struct { char msg[640]; } Err;

// ---- model.c: architecture --------------------------------------------------------------------------------
// One code path for two block shapes: GPT-2 (LayerNorm, learned positions, GELU, biases) and Llama (RMSNorm,
// rotary positions, SwiGLU, grouped queries), with Qwen2's biases on q, k, v and Qwen3's norm of each q and k
// head. The checkpoint's header holds the fields in this order.
typedef struct {
    int32_t vocab, context, layers, heads, kv_heads, head_size, width, hidden;    // V P L NH NKV HS C F
    int32_t rms;                      // 1 RMSNorm, 0 LayerNorm
    int32_t rope;                     // 1 rotary positions, 0 a learned vector per position
    int32_t swiglu;                   // 1 SwiGLU, 0 tanh-GELU
    int32_t bias;                     // 1 a bias on every linear layer
    int32_t qkv_bias;                 // 1 a bias on q, k, v (Qwen2); implied by bias
    int32_t qk_norm;                  // 1 RMSNorm over each head of q and k (Qwen3)
    int32_t tied;                     // 1 the output head is the token embedding
    int32_t rope_context;             // Llama-3 frequency scaling: the context before it, 0 none
    float norm_eps;                   // added to the variance in every norm
    float rope_theta;                 // base of the rotary wavelengths
    float rope_factor, rope_low, rope_high;    // Llama-3 frequency scaling; used when rope_context > 0
    // LoRA (Hu et al. 2021): with a rank, the tensors of a base are frozen, and each layer of lora_on has two
    // thin matrices beside its own, y = x W + b + (alpha / rank) (x down) up. Only these are trained.
    int32_t lora_rank;                // R: columns of down, rows of up; 0: no LoRA
    uint32_t lora_on;                 // LORA_*: which linear layers
    float lora_alpha;
} Config;
enum { LORA_QKV = 1, LORA_PROJ = 2, LORA_FC1 = 4, LORA_FC2 = 8, LORA_ALL = 15 };
// The one list of the Config's whole numbers with their limits; --init and the checks walk it.
typedef struct { const char *name; size_t where; int32_t lo, hi; } ConfigField;    // where: offset in Config
enum { CONFIG_INTS = 16, CONFIG_FLOATS = 5 };    // the floats follow in memory, from norm_eps on
extern const ConfigField CONFIG_FIELD[CONFIG_INTS];
int model_check(const Config *c, Fault *f);     // are the limits and the relations between the sizes kept?

// ---- model.c: tensors -------------------------------------------------------------------------------------
// Every trained tensor, in checkpoint order. Linear weights are input-major, (in, out): a row of activations
// times the matrix. wte and head are (V,C), a row per token.
typedef struct {
    float *wte;                       // (V,C)      token embedding
    float *wpe;                       // (P,C)      position embedding                     if !rope
    float *ln1w, *ln1b;               // (L,C)      norm before attention: gain, shift     shift if !rms
    float *qkvw, *qkvb;               // (L,C,Q)    columns: NH query heads, NKV keys, NKV values;  (L,Q)
    float *qnw, *knw;                 // (L,HS)     gain of the per-head norm of q and k   if qk_norm
    float *projw, *projb;             // (L,A,C)    attention's output projection;  (L,C)
    float *ln2w, *ln2b;               // (L,C)      norm before the MLP
    float *fc1w, *fc1b;               // (L,C,F1)   into the MLP; SwiGLU: F gate, then F up columns;  (L,F1)
    float *fc2w, *fc2b;               // (L,F,C)    out of the MLP;  (L,C)
    float *lnfw, *lnfb;               // (C)        norm before the head
    float *head;                      // (V,C)      output head                            if !tied
    float *qkv_down, *qkv_up;         // (L,C,R) (L,R,Q)    LoRA's A, B beside qkvw        lora_on & LORA_QKV
    float *proj_down, *proj_up;       // (L,A,R) (L,R,C)
    float *fc1_down, *fc1_up;         // (L,C,R) (L,R,F1)
    float *fc2_down, *fc2_up;         // (L,F,R) (L,R,C)
} Params;
enum { TENSORS = sizeof(Params) / sizeof(float *) };

// Matrices that are read but not trained may stay in memory as they are stored in a bf16 checkpoint: the
// upper 16 bits of their floats. What is here is NULL in Params.
typedef struct { uint16_t *wte, *wpe, *qkvw, *projw, *fc1w, *fc2w, *head; } Halves;
typedef struct {                      // tensor i of a configuration, made by model_tensor from the one table
    const char *name;
    size_t where;                     // offset of its pointer in Params
    size_t dim[3], size;              // shape (unused dims are 1), their product; 0: this model lacks it
    bool stacked;                     // dim[0] counts layers
    bool decay;                       // weight decay applies: matrices only
    bool trained;                     // has a gradient: all tensors, or with LoRA its matrices only
    size_t half;                      // offset of its pointer in Halves; NO_HALF: is never there
} Tensor;
#define NO_HALF SIZE_MAX
Tensor model_tensor(const Config *c, int i);
float *tensor_data(const Params *p, const Tensor *t);
size_t model_params(const Config *c);            // how many floats all tensors have

// ---- model.c: memory --------------------------------------------------------------------------------------
// The caller says how much is computed at once, model_plan says what that needs, the caller gives one block
// of that size, and nothing is allocated afterwards.
typedef struct {
    size_t rows, seq;                 // B rows of at most T tokens at once
    size_t step_tokens;               // tokens in one optimizer step, of all its micro-batches; training only
    size_t cached;                    // positions per row in the key/value cache; 0: no cache
    bool train;                       // gradients, optimizer moments and every layer's activations are kept
    bool halves;                      // matrices that are not trained are bf16 in memory
    bool recompute;                   // training: of activations only the residual stream is kept
    int threads;                      // 1 or more; changes no bit of any result
} Shape;
enum { HEAD_ROWS = 512, PLAN_MAX = 48 };    // rows at the output head at once; logits of a batch are too many
typedef struct {
    const char *name;
    size_t where, offset, bytes;      // of its pointer in Model; in the block, a multiple of 64
} PlanItem;
typedef struct { Config cfg; Shape shape; PlanItem item[PLAN_MAX]; int items; size_t bytes, scratch; } Plan;
int model_plan(Plan *p, const Config *c, const Shape *s, Fault *f);

// Buffers of one batch. "Kept" ones have a slot for each layer when training, and one shared slot otherwise.
typedef struct {
    float *res;                       // (L+1,N,C)  kept: residual stream into each block, and out of the last
    float *ln1stat, *ln2stat;         // (L,N,2)    kept: mean and 1/deviation of each row
    float *qkv;                       // (L,N,Q)    kept: q and k already normed and rotated
    float *qkraw;                     // (L,N,A+KV) kept if qk_norm: q, k before the norm
    float *qkstat;                    // (L,N,NH+NKV)  and 1/deviation of each head
    float *attstat;                   // (L,N,NH,2) kept: each softmax's largest score and sum of exponentials
    float *atty;                      // (L,N,A)    kept: attention output before the projection
    float *mid;                       // (L,N,C)    kept: residual stream between attention and MLP
    float *fc1;                       // (L,N,F1)   kept: before the activation function
    float *lnfstat;                   // (H,2)      of the rows at the head, H = min(N,HEAD_ROWS)
    float *norm;                      // (N,C)      output of the norm at hand; recomputed in backward
    float *act;                       // (N,F)      output of the activation function; recomputed in backward
    float *branch;                    // (N,C)      what attention or MLP adds to the residual stream
    float *dres, *dnorm, *datt, *dact;    // (N,C) (N,C) (N,A) (N,F)  gradients
    float *dbig;                      // (N,max(Q,F1))   of fc1, then of q, k, v
    float *low, *dlow;                // (N,R)      LoRA: x down, scaled, and its gradient; R its rank
    float *headin, *dheadin;          // (H,C)      rows of the chunk at the head, after the norm
    float *logits;                    // (H,V)
    float *rope;                      // (max(T,cached),HS)   of each position HS/2 cosines, then sines
    float *keys, *values;             // (L,B,cached,KV)  the cache
    float *slot;                      // (S,C)      lookup gradient of each token, S = min(V,step_tokens)
    int32_t *slotof, *slottok;        // (V) slot of a token or -1; (S) token of a slot
    int32_t *tok, *pos;               // (N)        id of each token, and its position in its row
    int32_t *hrow, *htarget;          // (N)        packed rows that go through the head, and their targets
    size_t *start;                    // (B+1)      first packed row of each row of the batch
    double *partial;                  //            losses of a chunk; partial sums of the gradient norm
    float *scratch;                   //            packed panels, attention: a piece for each thread
} Buffers;

typedef struct {
    Config cfg;
    Shape shape;
    Params w, g, m1, m2;              // weights; gradients; AdamW's first and second moments
    Halves h;                         // weights held as bf16
    Buffers x;
    size_t N;                         // tokens in the batch at hand
    size_t slots;                     // distinct tokens looked up so far in this step
    size_t scratch;                   // floats of x.scratch for each thread
} Model;
// Lays the tensors into block, 64-byte aligned, zeroed (AdamW's moments start at 0); it stays the caller's.
void model_bind(Model *m, const Plan *p, void *block);

// ---- model.c: run, train ----------------------------------------------------------------------------------
typedef struct {
    const int32_t *tok;               // (B,T) token ids
    const int32_t *target;            // (B,T) the next token, to be predicted here, -1: none; NULL: no loss
    const int32_t *len;               // (B)   tokens in each row, 0..T
    const int32_t *past;              // (B)   tokens of each row already in the cache; NULL: none
    size_t B, T;
} Batch;
void   model_init(Model *m, uint64_t seed);       // random weights as GPT-2's
int    model_forward(Model *m, const Batch *b, Fault *f);
// Row `to` of the cache gets the first n positions of row `from`: what rows begin with is computed once.
void   model_cache_copy(Model *m, size_t from, size_t to, size_t n);
// Logits (n,V) of n packed rows, at most HEAD_ROWS and rows * seq of the Shape, until the next call of the
// model: row i of the batch starts at packed row len[0] + ... + len[i-1].
const float *model_logits(Model *m, const int32_t *rows, size_t n);
// loss[i] = -log p(target[i]) at packed row rows[i], i < n; a row may stand there several times.
void   model_losses(Model *m, const int32_t *rows, const int32_t *target, size_t n, double *loss);
// Sum of -log p(target) over the batch's targets, after model_forward, added target by target to *sum; each
// row's sum goes to row_loss (B) unless that is NULL. With scale > 0 (1 / targets of the whole step) it also
// begins the backward pass of scale * that sum; model_backward ends it, adding to the gradients.
void   model_loss(Model *m, const Batch *b, float scale, double *sum, double *row_loss);
void   model_backward(Model *m, const Batch *b);
void   model_zero_grad(Model *m);                 // before the first micro-batch of a step
double model_grad_norm(Model *m);                 // after the last: joins the lookup gradients; norm of all
typedef struct { float lr, beta1, beta2, eps, decay, clip; } AdamW;    // clip: largest gradient norm, 0: any
void   model_update(Model *m, const AdamW *o, double norm, int64_t step);     // step counts from 1
// Learning rate of a step: rises to peak over the warmup steps, then stays, or falls to 0 one step after all.
typedef enum { COSINE, LINEAR, CONSTANT } Schedule;
float  model_schedule(Schedule kind, float peak, int64_t warmup, int64_t steps, int64_t step);

// ---- model.c: sampling ------------------------------------------------------------------------------------
typedef struct { uint64_t s; } Rng;    // the whole state: save it and the stream goes on
uint64_t rng_next(Rng *r);
double   rng_uniform(Rng *r);         // [0,1), 53 bits
uint64_t rng_below(Rng *r, uint64_t n);
double   rng_normal(Rng *r);

typedef struct {
    float temperature;                // 0: greedy, the likeliest
    int32_t top_k;                    // 0: all
    float top_p;                      // 1: all
    float repeat_penalty;             // 1: none; divides recent tokens' positive logits, multiplies negative
} Sampling;
// One token id from logits (V), which are changed. recent (n): ids to penalize; order (V): scratch.
int32_t model_sample(float *logits, size_t V, const Sampling *s, const int32_t *recent, size_t n,
                     int32_t *order, Rng *r);

// ---- model.c: decoding ------------------------------------------------------------------------------------
typedef struct {                      // a row that grows
    int32_t *id;                      // (cached + 1) prompt, then answer
    size_t n, prompt, fed;            // tokens in id, n - fed > 0; of the prompt; those already in the cache
    bool done, fresh;                 // done: leave it alone; fresh: the last call added id[n - 1]
    Rng rng;
} Stream;
// Feeds every row that is not done at most shape.seq of its tokens, and adds a token, one of the first V, to
// those that are through. rows <= shape.rows; scratch: rows * (shape.seq + 3) + cfg.vocab numbers.
int model_extend(Model *m, Stream *s, size_t rows, const Sampling *how, size_t V, int32_t *scratch, Fault *f);

// ---- tokenizer.c ------------------------------------------------------------------------------------------
typedef enum {
    TOK_NONE,                         // the model has no tokenizer
    TOK_GPT2,                         // byte-level BPE behind GPT-2's pre-tokenizer
    TOK_SCORED,                       // code points first, merged by score, bytes as a fallback (Llama 2)
    TOK_CL100K,                       // byte-level, cl100k_base's pre-tokenizer, whole pieces first (Llama 3)
    TOK_QWEN2,                        // byte-level, Qwen2's pre-tokenizer, text is put into form NFC first
    TOK_SMOLLM,                       // byte-level, GPT-2's pre-tokenizer with every digit by itself
    TOK_KINDS
} TokKind;
// Token ids: left followed by right becomes result. Smallest rank first; equal ranks: leftmost first.
typedef struct { int32_t left, right, result; uint32_t rank; } Merge;
enum { TOKEN_NORMAL = 0, TOKEN_SPECIAL = 1, TOKEN_BYTE = 2 };    // BYTE: the fallback tokens of TOK_SCORED
typedef struct {
    TokKind kind;
    uint32_t vocab, merges;           // how many
    int32_t eot, bos;                 // end-of-text and begin-of-text ids, -1: none
    bool add_space;                   // TOK_SCORED: a space is put before the text
    const uint8_t *bytes;             // every token's bytes, one after the other; the caller's, like the rest
    const uint32_t *start;            // (vocab+1) token i is bytes[start[i]] .. bytes[start[i+1]-1]
    const uint8_t *flag;              // (vocab)   TOKEN_*
    const Merge *merge;               // (merges)
    // The index, made by tokenizer_index in the caller's memory:
    const uint32_t *slot;             // open-addressing table over (left, right) -> merge + 1
    const uint32_t *word;             // another over the bytes of special and of short tokens -> id + 1
    uint32_t slotmask, wordmask;      // places - 1
    int32_t byte[256];                // the token of each byte, -1: none, encoding leaves it out
    uint8_t longest[256];             // bytes of the longest special token that begins with a byte
    const struct Unicode *unicode;    // byte-level: classes of characters and what form NFC needs
} Tokenizer;

size_t tokenizer_index_size(uint32_t vocab, uint32_t merges);   // bytes of memory, 4-byte aligned, for it
// Checks every number of the tokenizer and makes its index; the memory must live as long as the tokenizer. At
// most 2^24 tokens and merges, special tokens of at most 128 bytes; eot and bos must be special, since no
// text may become them; all kinds but TOK_SCORED may lack tokens for bytes.
int    tokenizer_index(Tokenizer *t, void *memory, Fault *f);
size_t tokenizer_most(const Tokenizer *t, size_t n);           // the most ids that n bytes of text can become
size_t tokenizer_encode_size(const Tokenizer *t, size_t n);    // of scratch, 8-byte aligned; SIZE_MAX: none
// Ids of n bytes of text into out, which has room for tokenizer_most; returns how many. n <= INT32_MAX, for
// TOK_QWEN2 a third of 2^32. Special tokens are recognised in the text only if special is true. O(n log n) on
// any input; decode gives back the same bytes, but for bytes without a token, which are left out, TOK_QWEN2's
// form NFC, and TOK_SCORED's spaces: add_space's, and U+2581 is one.
size_t tokenizer_encode(const Tokenizer *t, const uint8_t *text, size_t n, bool special, int32_t *out,
                        void *scratch);
const uint8_t *tokenizer_decode(const Tokenizer *t, int32_t id, size_t *n);   // the bytes of one token
int32_t tokenizer_find(const Tokenizer *t, const char *special);       // id of a special token, -1: none
// Learns a byte-level BPE of exactly `vocab` tokens from n bytes of text: 256 bytes, then merges, then
// end-of-text, which in the text, as "<|endoftext|>", only separates. Most frequent pair first; ties go to
// the pair whose bytes sort last. Stops early (smaller t->vocab) when no pair occurs twice. memory:
// tokenizer_train_size bytes, 8-byte aligned; t's arrays point into it; tokenizer_index next.
size_t tokenizer_train_size(size_t n, uint32_t vocab);
int    tokenizer_train(Tokenizer *t, const uint8_t *text, size_t n, uint32_t vocab, void *memory, Fault *f);

// A tokenizer as bytes, as a checkpoint holds it. Without t->start: those that no token's text changes.
uint64_t tokenizer_bytes(const Tokenizer *t);
void   tokenizer_put(const Tokenizer *t, uint8_t *p);
// p, 4-byte aligned, becomes the arrays of t, which has kind, vocab, merges and the special ids; the 4 bytes
// before p are overwritten. bytes: no fewer than do not depend on text. Then tokenizer_index.
int    tokenizer_get(Tokenizer *t, uint8_t *p, uint64_t bytes, void *index, Fault *f);
// Words of 4 bytes, then words of 8, from this machine's order to little-endian or back: the same swap.
void   words_turn(void *words, size_t fours, size_t eights);
size_t utf8_length(const uint8_t *s, size_t n);    // of the character at s, n > 0; 0: no UTF-8 (RFC 3629)
size_t utf8_put(uint8_t *out, uint32_t code);      // the bytes, at most 4, of a code up to 0x10FFFF

// ---- tokenizer.c: templates -------------------------------------------------------------------------------
typedef enum { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLES } Role;
// A template is text with fields. {eot} is the tokenizer's end-of-text, {<|name|>} a special token by name,
// {{ a brace; {?input} ... {/} is there if there is an input; {target} begins what is taught.
//   Row form, for one exchange: {instruction} {input} {output}. It ends with a special token, also taught.
//   Section form, for conversations: lines that are exactly [default], [system], [user] or [assistant], the
// first among them, begin that section's text, without its last line break. Its field is {text}, in [user]
// {input} too, without which a row's input follows {text} on a line of its own. [default] begins a row
// without a system turn; without [system] no row may have one. What [assistant] has before {target} asks for
// an answer; the first special token behind {text} is the end of turn, and taught; what follows only stands
// between turns.
const char *template_named(const char *name);              // alpaca, chatml, llama3, plain, none; or NULL
bool template_has_sections(const char *template);
enum { PART_DEFAULT = ROLES, PART_WHOLE, PARTS, PIECES_MAX = 256 };    // behind Roles; WHOLE: the row form
enum { INSTRUCTION, OUTPUT, INPUT, TURN, FIELDS };   // the row form has the first three, [user] the last two
typedef struct {
    enum { PIECE_TEXT, PIECE_FIELD, PIECE_SPECIAL, PIECE_TARGET, PIECE_IF, PIECE_ENDIF } kind;
    size_t at, n;                     // where it begins in the template; PIECE_TEXT: its bytes
    int32_t token;                    // PIECE_SPECIAL
    int field;                        // PIECE_FIELD, PIECE_IF
    bool inside;                      // of {?...}
} TemplatePiece;
typedef struct {
    const char *text;                 // the template, which must live as long
    TemplatePiece piece[PIECES_MAX];
    int pieces, begin[PARTS], end[PARTS];    // pieces of each part; begin -1: there is none
    int target, turn_end;             // the pieces after {target} and after the end of turn
    bool has[FIELDS];                 // a place of their own; without {input} it is part of {text}
} Template;
// A fault's value is the byte of the template, its range empty.
int template_parse(Template *tp, const char *template, const Tokenizer *t, Fault *f);

typedef struct { Role role; const char *text, *input; } Turn;    // 0-terminated; input: a user's, or ""
// Why a row of these turns does not fit the template, with a hint; NULL: it does.
const char *template_misfit(const Template *tp, const Turn *turn, size_t turns);
// What is taught: every answer of a row; the last; all but the first token (--mask none); nothing: then an
// example is a prompt, and ends where the last answer shall begin.
typedef enum { TEACH_ANSWERS, TEACH_LAST, TEACH_ALL, TEACH_NONE } Teach;
typedef struct {
    int32_t *tok;                     // (ids)   NULL, and the next three: only ids and bytes are counted
    uint8_t *taught;                  // (ids)   1: the model is asked to predict it
    uint8_t *text;                    // (bytes) scratch
    void *scratch;                    //         of tokenizer_encode_size(bytes), 8-byte aligned
    size_t ids, bytes, prompt;        // counted: at most; ids before the last {target}
} Rendering;
// Turns, at most one of the system, then user and assistant alternating, to ids; without the first `skip`
// exchanges. The last answer ends with the end of turn; with TEACH_NONE the row ends where it shall begin.
// Text between two special tokens, or one and {target}, is encoded as one, and never becomes a special token.
void template_render(Rendering *r, const Template *tp, const Tokenizer *t, const Turn *turn, size_t turns,
                     size_t skip, Teach teach);

// ---- tokenizer.c: texts and samples as Python has them ----------------------------------------------------
// For what must agree with programs in Python. Texts are UTF-8, 0-terminated, changed in place.
bool   text_space(uint32_t code);                          // is this character white space?
size_t text_end(const char *s);                            // bytes up to the last that is none
void   text_strip(char *s);                                // no white space at either end
void   text_capitalize(char *s);                           // first letter upper, others lower; to U+00FF
void   text_replace(char *s, const char *old, const char *new);    // once, left to right; new is no longer
void   text_unbracket(char *s);                            // takes out \[.*?\]: each [...] on one line
typedef struct { uint32_t s[624]; int at; } Twister;       // random.Random(key) of 32 bits
void   twister_seed(Twister *t, uint32_t key);
uint32_t twister_next(Twister *t);
// As .sample(range(n), k) does: k of 0..n-1 without repetition, k <= n, k <= 341, into out.
void   twister_sample(Twister *t, uint32_t n, uint32_t k, uint32_t *out);

// ---- tokenizer.c: hashes ----------------------------------------------------------------------------------
uint64_t hash64(const void *data, size_t n, uint64_t seed);
uint64_t hash_number(uint64_t v, uint64_t seed);
enum { SUM_LANES = 4 };
typedef struct { uint64_t lane[SUM_LANES]; } Sum;          // a checkpoint's; it begins as {1, 2, 3, 4}
void   sum_add(Sum *s, const uint8_t *p, size_t n);        // n: a multiple of 64
uint64_t sum_end(const Sum *s);
typedef struct { uint32_t h[8]; uint64_t n; uint8_t block[64]; } Sha256;
void   sha256_init(Sha256 *s);
void   sha256_add(Sha256 *s, const void *data, size_t n);
void   sha256_end(Sha256 *s, char hex[65]);

// ---- data.c: errors, options, files -----------------------------------------------------------------------
int    err_set(Err *e, const char *format, ...);                // formats the message; returns -1
int    err_fault(Err *e, const char *where, const Fault *f);    // "where: what = value, want lo..hi"; -1
int    err_memory(Err *e, size_t bytes);                        // that there are not so many; -1
typedef enum { OPT_FLAG, OPT_INT, OPT_REAL, OPT_TEXT } OptKind; // value: bool, int64_t, double, const char *
typedef struct {
    const char *name;                 // "--batch"; NULL begins a group, whose title is help
    OptKind kind;
    void *value;                      // holds the default before, the user's value after
    double lo, hi;                    // range of a number; a whole number stays exact up to 2^53
    const char *arg, *help;           // "N", "rows of one optimizer step"; a FILE must not be empty
    bool given;                       // set when the user named it
} Option;
#define GROUP(title)                       {NULL, OPT_FLAG, NULL, 0, 0, NULL, title, false}
#define FLAG(name, var, help)              {name, OPT_FLAG, var, 0, 0, "", help, false}
#define TEXT(name, var, arg, help)         {name, OPT_TEXT, var, 0, 0, arg, help, false}
#define INT(name, var, lo, hi, arg, help)  {name, OPT_INT, var, lo, hi, arg, help, false}
#define REAL(name, var, lo, hi, arg, help) {name, OPT_REAL, var, lo, hi, arg, help, false}
// Reads argv[1..]: "--name value", "--name=value". Other words go to word[0..words), at most max_words.
int    options_parse(Option *o, int n, int argc, char **argv, const char **word, int max_words, int *words,
                     Err *e);
void   options_print(const Option *o, int n);                   // the table for --help, 80 columns
double seconds(void);                                           // a steady clock
int    cores(void);                                             // that this program may use
bool   is_terminal(int descriptor);
void  *block_alloc(size_t bytes, Err *e);                       // 64-byte aligned, zeroed; NULL: refused
void   block_free(void *block);
// Makes room for `need` elements of `size` bytes in the array whose pointer, of any type, is at `where`. The
// room doubles, so that n appends cost O(n). On failure the array is as it was.
int    grow(void *where, size_t *room, size_t need, size_t size, Err *e);
// Text that grows as it is written: n bytes and a 0, {0} at first; free(s). failed: not all of it is there,
// for want of memory or as it is over 1 GiB. That is asked once, at the end.
typedef struct { char *s; size_t n, room; bool failed; } Text;
void   text_add(Text *t, const char *format, ...);
// A whole file, and a 0 byte after it; to be freed.
int    file_read(const char *path, size_t limit, uint8_t **data, size_t *n, Err *e);
int    sha256_file(const char *path, char hex[65], Err *e);
bool   same_file(const char *a, const char *b);                 // however the two paths are spelt
bool   file_there(const char *path);                            // true too if that cannot be found out
// A file that appears whole or not at all: written beside its place, flushed to disk, renamed.
typedef struct Writer Writer;
Writer *writer_open(const char *path, Err *e);                  // path: the caller's, which must outlive it
int    writer_put(Writer *w, const void *data, size_t n, Err *e);
int    writer_close(Writer *w, bool keep, Err *e);              // keep: into place, else it is gone; frees w
// Lines of JSON for later reading, each flushed as it is written; a null log swallows them.
typedef struct Writer Log;
int    log_open(Log **l, const char *path, bool append, Err *e);       // so here
void   log_line(Log *l, const char *format, ...);               // %s must be JSON already: json_quote
int    log_close(Log *l, Err *e);                               // -1: a line could not be written

// ---- data.c: JSON -----------------------------------------------------------------------------------------
typedef enum { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } JsonKind;
typedef struct {
    JsonKind kind;
    uint32_t line;                    // where it starts, from 1
    uint32_t count;                   // elements; members of an object, each a string node, then its value
    uint32_t next;                    // index of the node after this one with all that it holds
    const char *text;                 // a string in UTF-8, 0-terminated, \u0000 inside: see len; or a number
    size_t len;
    double number;
} JsonNode;
// Nodes stand depth first: [0] is the value; an array's first element is at its index + 1.
// A table, of CSV or TSV, is an array of arrays of strings, whose first one, if any, names the columns.
typedef struct { JsonNode *node; uint32_t nodes; char *text; bool table; } Json;
// Parses one value that fills data[0..n); errors name `where`, line (from first_line) and column. json_free.
int    json_parse(Json *j, const char *where, uint32_t first_line, const uint8_t *data, size_t n, Err *e);
uint32_t json_get(const Json *j, uint32_t object, const char *key);    // index of a member's value, 0: none
// A file's rows: of .csv (RFC 4180) and .tsv (tabs, no quotes) arrays of strings; else, what begins with [ is
// one JSON array, and anything else JSON Lines. A 0 byte follows data. The first row is node *first, the next
// one its .next, up to j->nodes. Unless skip is NULL, wrong lines of JSON Lines are only counted in it.
typedef struct Rows Rows;
int    rows_parse(Json *j, uint32_t *first, const char *path, const uint8_t *data, size_t n, Rows *skip,
                  Err *e);
void   json_free(Json *j);
char  *json_quote(const char *text, size_t n);                  // a JSON string; free(); NULL: no memory

// ---- data.c: checkpoint -----------------------------------------------------------------------------------
typedef enum { DTYPE_F32, DTYPE_BF16, DTYPES } Dtype;
extern const char *const DTYPE_NAME[DTYPES];     // f32, bf16
typedef struct Checkpoint {
    Config cfg;
    Dtype dtype;
    Tokenizer tok;
    const char *path;                 // the caller's, which must outlive this
    char *template, *lineage;         // 0-terminated; empty: none
    void *file, *memory;              // kept open until checkpoint_close; all that is before the tensors
    uint64_t tensors_at, tensor_sum, own_sum;    // offset of the first; checksum over all, and what is before
    struct Checkpoint *base;          // an adapter's base model, opened with it
} Checkpoint;
// Checks all but the tensors, which stay on disk. An adapter, the file of LoRA's matrices alone, needs the
// path of the model that it was trained on, and has that one's tokenizer; for a whole model base is ignored.
int    checkpoint_open(Checkpoint *k, const char *path, const char *base, Err *e);
// The tensors, those of an adapter's base too, into w, or as bf16 into halves where w is NULL; checks sums.
int    checkpoint_read(Checkpoint *k, const Params *w, const Halves *halves, Err *e);
void   checkpoint_close(Checkpoint *k);
// The model of an open checkpoint, ready to run: memory for the Shape at *block (block_free), bound to m,
// with the weights in it, which stay bf16 if they are stored so. If it fails, *block is NULL.
int    model_load(Model *m, void **block, Checkpoint *k, const Shape *s, Err *e);
int    checkpoint_save(const char *path, const Config *c, const Tokenizer *t, const char *template,
                       const char *lineage, Dtype dtype, const Params *w, Err *e);
// c: base's configuration with LoRA's numbers.
int    adapter_save(const char *path, const Checkpoint *base, const Config *c, const char *template,
                    const char *lineage, const Params *w, Err *e);
// What a run needs to go on as if it had never stopped; one file with weights and moments.
typedef struct {
    int64_t step;                     // optimizer steps done; order and position in the data follow from it
    double best;                      // lowest validation loss so far, and at which step
    int64_t best_step;
    char key[65];                     // SHA-256 of all that determines the bits: options, base, data
} State;
int    state_save(const char *path, const State *s, const Model *m, Err *e);
// Refuses a state whose key is not s->key. If it fails, weights, moments and *s may be half read.
int    state_load(const char *path, State *s, Model *m, Err *e);

// ---- data.c: from rows to batches -------------------------------------------------------------------------
// Texts are UTF-8, 0-terminated; input is "" but in rows of instruction and input.
typedef struct {
    Turn *turn;                       // at most one of the system, then user and assistant alternate
    size_t turns;
    const char *output;               // the last turn's text if it is the assistant's; "": it is a user's
    uint32_t line;                    // in the file
    uint64_t hash;                    // of what comes before the last answer: the split depends on it alone
} Row;
struct Rows {
    Row *row;
    size_t n;
    Turn *turn;                       // of all rows
    const char *path;                 // the caller's, which must outlive this
    Json json;                        // what all texts are in
    size_t bad;                       // rows that were left out as wrong
    char reason[1024];                // of three of them: a line each, as an error would say it
    char ignored[256];                // what else the rows have and was not read: "id (12 rows), x (1 row)"
};
typedef struct {
    bool answers;                     // the last turn is an answer; otherwise it may be a user's
    bool skip_bad;                    // wrong rows are left out and counted; otherwise the first is an error
    const char *columns;              // "prompt=question,system=": what the file calls a member; "": do not
} RowsHow;                            // read it. NULL: all by the names below
// A JSON array or JSON Lines of objects, or CSV or TSV whose first row names the columns; each row has up to
// 4 MiB of text in one of three forms: instruction or input or both, and output; prompt, completion;
// messages, an array of {"role", "content"} with the roles system (first only), user and assistant. In all of
// them, `system` is the text of a system turn. What is null or empty is as if it was not there.
int    rows_load(Rows *r, const char *path, const RowsHow *how, Err *e);
void   rows_free(Rows *r);
int    template_check(const char *template, const Tokenizer *t, Err *e);
// The template asked for, by name or a file of up to 64 KiB; NULL: the checkpoint's own, or plain. free().
int    template_choose(const char *asked, const Checkpoint *k, char **template, Err *e);

typedef struct {
    size_t at;                        // where it begins in the arrays of all
    const int32_t *tok;               // (len)
    const uint8_t *taught;            // (len) 1: the model is asked to predict this token; [0] is never asked
    uint32_t len, prompt;             // tokens; those before the last {target}
    uint32_t row;                     // index in Rows; of raw text: window number
    uint64_t hash;
} Example;
typedef struct {
    Example *ex;
    size_t n;
    size_t rows, cut, dropped;        // rows read, shortened, left out
    size_t tokens, targets;           // sums over all examples
    uint32_t longest;
    int32_t *tok;                     // the arrays; views have none
    uint8_t *taught;                  // of raw text: what its windows have pieces of
} Examples;
// CUT leaves out the oldest exchanges (but no system turn), then shortens the prompt, never the last answer.
// REFUSE is ERROR with a message that names no option of train.
typedef enum { TOO_LONG_ERROR, TOO_LONG_DROP, TOO_LONG_CUT, TOO_LONG_REFUSE } TooLong;
// Rows to tokens. Text between two special tokens, or one and {target}, is encoded as one; no text of a row
// becomes a special token. A row longer than seq tokens is an error, or as too_long says.
int    examples_make(Examples *x, const Rows *r, const char *template, const Tokenizer *t, size_t seq,
                     TooLong too_long, Teach teach, Err *e);
// Raw text: each file is encoded, begun with begin-of-text if the tokenizer has one, ended with end-of-text,
// and cut into windows of seq tokens, each stride < seq further than the one before: with seq - 1 they share
// one token. Every token is taught once, in the first window that can predict it, but the first of a file.
int    examples_text(Examples *x, const char *const *path, int paths, const Tokenizer *t, size_t seq,
                     size_t stride, Err *e);
void   examples_free(Examples *x);
void   examples_count(Examples *x);               // tokens, targets and longest of ex[0..n)
// A rectangle (B,T) in memory of its own. Padding is token 0 without a target; the model never reads it.
typedef struct { Batch view; int32_t *memory; } BatchMemory;
int    batch_alloc(BatchMemory *b, size_t rows, size_t seq, Err *e);
// Fills the first `rows` rows, at most those allocated, and sets view.B; returns the number of targets.
size_t batch_fill(BatchMemory *b, const Example *const *ex, size_t rows);
void   batch_free(BatchMemory *b);

// ---- data.c: answers --------------------------------------------------------------------------------------
typedef struct { int32_t *tok; size_t n; } Prompt;              // n: 1 .. m->shape.cached
// Why an answer ended: a special token, its first line, max_tokens, or the cache is full.
typedef enum { STOP_END, STOP_LINE, STOP_LENGTH, STOP_FULL } Stop;
typedef struct {
    char *text;                       // (bytes) and a 0; may hold 0 bytes and broken UTF-8; free()
    size_t bytes, tokens, room;       // tokens: without the special one that ended it; room: of text
    Stop stop;
    bool words;                       // something but white space came
} Generated;
// Answers to prompts p[0..rows), rows <= m->shape.rows, together, each as it would be alone: row i draws its
// random numbers from seed + i. Any special token ends an answer; with first_line a line break does so too,
// once something but white space came. On failure nothing is left in out.
int    generate(Model *m, const Tokenizer *t, const Prompt *p, size_t rows, const Sampling *how,
                uint64_t seed, size_t max_tokens, bool first_line, Generated *out, Err *e);
#endif

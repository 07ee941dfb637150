// device.c -- fine-tuning where there is no operating system: model.c and tokenizer.c, one static block of memory, and
// a bf16 checkpoint that stays in flash, where its matrices are used in place. The rows lie in flash too, as text,
// and are tokenized here. What is trained are LoRA's matrices, in ./train's order and with its arithmetic, so each
// loss, and the adapter at the end, have the bits that ./train gets on the same files: run.sh compares them.
//
// Read: memory -> printing -> the checkpoint in flash -> rows -> training -> fine_tune.
// It asks its surroundings for what port.h lists, and refuses what does not fit; it cannot be stopped or resumed.
#include "port.h"
#include "../../model.h"
#include <string.h>

// run.sh gives STEPS, BATCH (rows of a step), RANK, and ARENA, the bytes that the host found the run to need.
enum { SEED = 1, ROWS_MAX = 32, ROW_BYTES = 160 };         // ROW_BYTES: text of a row, template and all
static const double PEAK = 0.0005, WARMUP = 0.05;          // ./train's defaults, like alpha and AdamW's below

// ---- memory -----------------------------------------------------------------------------------------------
static uint8_t arena[ARENA] __attribute__((aligned(64)));
static size_t used;                             // a multiple of 64

// n zeroed bytes at a multiple of 64; NULL: there are not so many. Nothing is given back.
static void *take(size_t n) {
    if (n > ARENA - used) return NULL;
    void *p = arena + used;
    used += (n + 63) / 64 * 64;
    used = used < ARENA ? used : ARENA;
    return p;
}

// ---- printing ---------------------------------------------------------------------------------------------

static void print_number(const char *before, uint64_t v, const char *after) {
    char digit[24], *p = digit + sizeof digit - 1;
    *p = 0;
    do *--p = (char)('0' + v % 10);
    while (v /= 10);
    print_text(before);
    print_text(p);
    print_text(after);
}

// The bits of a loss, then its value to four places.
static void print_loss(uint64_t step, double loss) {
    uint64_t bits, places = (uint64_t)(loss * 10000.0 + 0.5);
    char text[] = "................  ";
    memcpy(&bits, &loss, sizeof bits);
    for (int i = 0; i < 16; i++) text[i] = "0123456789abcdef"[bits >> (60 - 4 * i) & 15];
    print_number("step ", step, "  loss ");
    print_text(text);
    print_number("", places / 10000, ".");
    for (uint64_t unit = 1000; unit; unit /= 10) print_number("", places / unit % 10, "");
    print_text("\n");
}

// ---- the checkpoint in flash ------------------------------------------------------------------------------
// dev/DESIGN.md has the table of the format. Its matrices can be used in place because this processor, too, is
// little-endian. Where in the file, in bytes:
enum { DTYPE = 12, CONFIG = 16, TOKENIZER = 100, SECTION = 128, SECTION_TENSORS = SECTION + 48, BF16 = 1 };

static uint32_t flash32(size_t at) {
    uint32_t v;
    memcpy(&v, flash_base + at, sizeof v);
    return v;
}

static const char *open_config(Config *c) {
    if (memcmp(flash_base, "tune.c\n", 8) || flash32(DTYPE) != BF16) return "want a bf16 checkpoint in flash";
    memcpy(c, flash_base + CONFIG, offsetof(Config, lora_rank));
    c->lora_rank = RANK;
    c->lora_on = LORA_ALL;
    c->lora_alpha = 16.0f;
    return NULL;
}

// The tokenizer is copied, as tokenizer_get writes before it.
static const char *open_tokenizer(Tokenizer *t) {
    const size_t at = TOKENIZER, bytes = flash32(SECTION + 8);
    Fault f;
    *t = (Tokenizer){.kind = (TokKind)flash32(at), .vocab = flash32(at + 4), .merges = flash32(at + 8),
                     .eot = (int32_t)flash32(at + 12), .bos = (int32_t)flash32(at + 16),
                     .add_space = flash32(at + 20) != 0};
    uint8_t *copy = take(4 + bytes);
    void *index = take(tokenizer_index_size(t->vocab, t->merges));
    if (!copy || !index) return "no memory for the tokenizer";
    memcpy(copy + 4, flash_base + flash32(SECTION), bytes);
    return tokenizer_get(t, copy + 4, bytes, index, &f) ? f.what : NULL;
}

// Takes the frozen matrices out of a plan, as they are in flash: what stands behind them moves up.
static void plan_without_matrices(Plan *p) {
    size_t gone = 0;
    int kept = 0;
    for (int i = 0; i < p->items; i++) {
        PlanItem item = p->item[i];
        item.offset -= gone;
        if (item.where == offsetof(Model, h)) gone = item.bytes;
        else p->item[kept++] = item;
    }
    p->items = kept;
    p->bytes -= gone;
}

// Frozen matrices are pointed at where they lie; gains and biases, which are few, become floats in memory.
static void use_flash(Model *m) {
    const uint8_t *p = flash_base + flash32(SECTION_TENSORS);
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&m->cfg, i);
        if (t.size == 0 || t.trained) continue;
        float *w = tensor_data(&m->w, &t);
        if (!w) memcpy((char *)&m->h + t.half, &p, sizeof p);
        for (size_t k = 0; w && k < t.size; k++) {
            uint32_t bits = (uint32_t)(p[2 * k] | p[2 * k + 1] << 8) << 16;
            memcpy(&w[k], &bits, sizeof bits);
        }
        p += (2 * t.size + 63) / 64 * 64;
    }
}

// ---- rows -------------------------------------------------------------------------------------------------
// In flash: prompt, 0, answer, 0, prompt, 0, ...
typedef struct { int32_t *tok, *target, n; size_t targets; } Row_;    // n predictions, `targets` of them taught
typedef struct { Row_ row[ROWS_MAX]; size_t rows, longest; uint8_t *text, *taught, *scratch; } Data;

static const char *add_row(Data *d, const char *prompt, const char *answer, const Template *tp,
                           const Tokenizer *t) {
    const Turn turn[2] = {{ROLE_USER, prompt, ""}, {ROLE_ASSISTANT, answer, ""}};
    Rendering r = {0};
    template_render(&r, tp, t, turn, 2, 0, TEACH_ANSWERS);
    if (d->rows == ROWS_MAX) return "more rows than ROWS_MAX";
    if (r.bytes > ROW_BYTES || r.ids > ROW_BYTES) return "a row has more than ROW_BYTES of text";
    Row_ x = {take(r.ids * sizeof *x.tok), take(r.ids * sizeof *x.target), 0, 0};
    if (!x.tok || !x.target) return "no memory for a row";
    r = (Rendering){x.tok, d->taught, d->text, d->scratch, 0, 0, 0};
    template_render(&r, tp, t, turn, 2, 0, TEACH_ANSWERS);
    x.n = (int32_t)r.ids - 1;
    for (size_t i = 1; i < r.ids; i++) {
        x.target[i - 1] = d->taught[i] ? x.tok[i] : -1;
        x.targets += d->taught[i];
    }
    d->longest = r.ids - 1 > d->longest ? r.ids - 1 : d->longest;
    d->row[d->rows++] = x;
    return NULL;
}

static const char *open_rows(Data *d, const Tokenizer *t) {
    static Template tp;
    Fault f;
    const char *wrong = NULL;
    const char *own = (const char *)flash_base + flash32(SECTION + 16);
    if (template_parse(&tp, *own ? own : template_named("plain"), t, &f)) return f.what;
    d->text = take(ROW_BYTES);
    d->taught = take(ROW_BYTES);
    d->scratch = take(tokenizer_encode_size(t, ROW_BYTES));
    if (!d->scratch) return "no memory for text";
    for (const char *s = flash_rows; s < flash_rows_end && !wrong;) {
        const char *answer = s + strlen(s) + 1;
        wrong = add_row(d, s, answer, &tp, t);
        s = answer + strlen(answer) + 1;
    }
    return wrong;
}

// ---- training ---------------------------------------------------------------------------------------------

// The order of an epoch, as train.c draws it.
static void order_make(size_t *order, size_t n, uint64_t epoch) {
    Rng r = {hash_number(epoch, SEED) | 1};
    for (size_t i = 0; i < n; i++) order[i] = i;
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)rng_below(&r, i), last = order[i - 1];
        order[i - 1] = order[j];
        order[j] = last;
    }
}

// One optimizer step on these rows, a row at a time. Returns the mean loss of a target, -1: a wrong row.
static double train_step(Model *m, const Data *d, const size_t *order, size_t rows, int64_t step) {
    size_t targets = 0;
    double loss = 0.0;
    Fault f;
    for (size_t i = 0; i < rows; i++) targets += d->row[order[i]].targets;
    model_zero_grad(m);
    for (size_t i = 0; i < rows; i++) {
        const Row_ *x = &d->row[order[i]];
        const Batch b = {x->tok, x->target, &x->n, NULL, 1, (size_t)x->n};
        if (model_forward(m, &b, &f)) return -1.0;
        model_loss(m, &b, 1.0f / (float)targets, &loss, NULL);
        model_backward(m, &b);
    }
    float lr = model_schedule(COSINE, (float)PEAK, (int64_t)(WARMUP * STEPS), STEPS, step);
    const AdamW adamw = {lr, 0.9f, 0.95f, 1e-8f, 0.1f, 1.0f};
    model_update(m, &adamw, model_grad_norm(m), step);
    return loss / (double)targets;
}

static const char *train(Model *m, const Data *d) {
    size_t order[ROWS_MAX], epoch = (d->rows + BATCH - 1) / BATCH;
    for (size_t step = 0; step < STEPS; step++) {
        size_t first = step % epoch * BATCH, rows = d->rows - first < BATCH ? d->rows - first : BATCH;
        if (first == 0) order_make(order, d->rows, step / epoch);
        double loss = train_step(m, d, order + first, rows, (int64_t)step + 1);
        if (!(loss >= 0.0)) return "the loss is not a number";
        print_loss(step + 1, loss);
    }
    return NULL;
}

// The SHA-256 of what was trained, as the tensors section of ./train's adapter has it.
static void print_adapter(const Model *m) {
    static const uint8_t zero[64] = {0};
    Sha256 sha;
    char hex[65];
    sha256_init(&sha);
    for (int i = 0; i < TENSORS; i++) {
        Tensor t = model_tensor(&m->cfg, i);
        if (t.size == 0 || !t.trained) continue;
        sha256_add(&sha, tensor_data(&m->w, &t), t.size * sizeof(float));
        sha256_add(&sha, zero, (size_t)-(t.size * sizeof(float)) % 64);
    }
    sha256_end(&sha, hex);
    print_text("adapter ");
    print_text(hex);
    print_text("\n");
}

// ---- all of it --------------------------------------------------------------------------------------------

const char *fine_tune(void) {
    static Plan plan;
    static Model model;
    static Data data;
    static Tokenizer tokenizer;
    Config c;
    Fault f;
    const char *wrong = open_config(&c);
    if (!wrong) wrong = open_tokenizer(&tokenizer);
    print_number("tokenizer ", used, " bytes\n");
    if (!wrong) wrong = open_rows(&data, &tokenizer);
    if (wrong) return wrong;
    const Shape shape = {.rows = 1, .seq = data.longest, .step_tokens = BATCH * data.longest, .train = true,
                         .halves = true, .threads = 1};
    if (model_plan(&plan, &c, &shape, &f)) return f.what;
    plan_without_matrices(&plan);
    void *block = take(plan.bytes);
    print_number("rows ", data.rows, "\n");
    print_number("plan ", plan.bytes, " bytes\n");
    if (!block) return "no memory for the plan";
    print_number("memory ", used, " bytes\n");
    model_bind(&model, &plan, block);
    model_init(&model, SEED);
    use_flash(&model);
    wrong = train(&model, &data);
    if (!wrong) print_adapter(&model);
    return wrong;
}

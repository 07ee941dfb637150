// hf_tokenizer.c -- the tokenizer of a folder of Hugging Face: tokenizer.json, or vocab.json and merges.txt,
// with tokenizer_config.json and the chat template; in and out.
//
// A tokenizer.json is a program in small: a normalizer, a pre-tokenizer, a model, a post-processor, each from
// a long list. Those of the families that are supported are recognised by their structure, member by member.
// Whatever else is found there is refused and shown, never guessed: a tokenizer that is nearly right spoils a
// model in silence.
//
// Read in this order: Slot, a token as it is written -> slots_* -> kind_of -> merges -> ends and begins ->
// hf_tokenizer_read -> the same outwards, hf_tokenizer_write.
#include "hf.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char END_OF_TEXT[] = "<|endoftext|>";
static const char UNDERLINE[] = "\xE2\x96\x81";        // U+2581, which is how SentencePiece spells a space

// ---- tokens -----------------------------------------------------------------------------------------------
// A token as it is written in the file, by its id. text NULL: no token has that id.
typedef struct {
    const char *text;
    size_t n;
    bool special;
} Slot;
typedef struct {
    const char *path;                 // of the file with the tokens, for messages
    Slot *slot;
    uint32_t room, count;             // every id is below room; count: the largest + 1
    size_t bytes;                     // of all texts
} Slots;

static int slot_set(Slots *s, const char *text, size_t n, const JsonNode *id, bool special, Err *e) {
    uint64_t i;
    if (!json_whole(id, &i) || i >= s->room)
        return err_set(e, "%s:%lu: token %.60s: id %.20s, want 0..%lu", s->path, (unsigned long)id->line,
                       text, json_shown(id), (unsigned long)s->room - 1);
    Slot *slot = &s->slot[i];
    if (slot->text && (!special || slot->n != n || memcmp(slot->text, text, n) != 0))
        return err_set(e, "%s:%lu: tokens %.60s and %.60s have the same id", s->path, (unsigned long)id->line,
                       slot->text, text);
    if (!slot->text) s->bytes += n;
    *slot = (Slot){text, n, special};
    if (i >= s->count) s->count = (uint32_t)i + 1;
    return 0;
}

// The members of an object, "text": id.
static int slots_vocab(Slots *s, const Doc *d, uint32_t object, Err *e) {
    const JsonNode *v = d->j.node;
    for (uint32_t i = 0, at = object + 1; i < v[object].count; i++, at = v[at + 1].next)
        if (slot_set(s, v[at].text, v[at].len, &v[at + 1], false, e)) return -1;
    return 0;
}

// One added token. What is cut off around it or found in words only would change other tokens: refused.
static int slots_added(Slots *s, const Doc *d, uint32_t object, const JsonNode *id, Err *e) {
    const JsonNode *text = doc_get(d, object, "content");
    if (!text || text->kind != JSON_STRING || text->len == 0 || !id)
        return err_set(e, "%s:%lu: added token: want its content and id", d->path,
                       (unsigned long)d->j.node[object].line);
    if (doc_want(d, object, "lstrip", "false", e) || doc_want(d, object, "rstrip", "false", e) ||
        doc_want(d, object, "single_word", "false", e)) return -1;
    return slot_set(s, text->text, text->len, id, true, e);
}

// A token that a file names as end, begin, ...: special, wherever it is listed. -1: there is none.
static int32_t slots_special(Slots *s, const char *text, size_t n) {
    for (uint32_t i = 0; i < s->count; i++) {
        if (!s->slot[i].text || s->slot[i].n != n || memcmp(s->slot[i].text, text, n) != 0) continue;
        s->slot[i].special = true;
        return (int32_t)i;
    }
    return -1;
}

static int slots_begin(Slots *s, const char *path, uint64_t room, Err *e) {
    s->path = path;
    s->room = room < INT32_MAX ? (uint32_t)room : INT32_MAX;
    if (room == 0) return err_set(e, "%s: no tokens", path);
    return (s->slot = calloc(s->room, sizeof *s->slot)) ? 0 : err_set(e, "%s: out of memory", path);
}

// The bytes that a token's text stands for, into out (n); -1: it is not spelt as this kind spells.
static int64_t unspell(TokKind kind, uint8_t *out, const char *text, size_t n) {
    size_t count = 0;
    if (kind != TOK_SCORED) return bytes_unspell(out, text, n);
    for (size_t i = 0; i < n; count++) {
        bool space = n - i >= 3 && memcmp(text + i, UNDERLINE, 3) == 0;
        out[count] = (uint8_t)(space ? ' ' : text[i]);
        i += space ? 3 : 1;
    }
    return (int64_t)count;
}

static bool is_byte(const Slot *s, uint8_t *byte) {    // <0x00> .. <0xFF>
    unsigned value;
    char again[8];
    // NOLINTNEXTLINE(cert-err34-c): two digits are always in range
    if (s->n != 6 || memcmp(s->text, "<0x", 3) != 0 || sscanf(s->text + 3, "%2X", &value) != 1) return false;
    snprintf(again, sizeof again, "<0x%02X>", value);
    *byte = (uint8_t)value;
    return memcmp(again, s->text, 6) == 0;
}

// All slots into the tokenizer of m, in order.
static int slots_put(const Slots *s, Import *m, TokKind kind, uint32_t merges, uint8_t *scratch, Err *e) {
    if (s->count > (uint32_t)m->cfg.vocab)
        return err_set(e, "%s: %lu tokens, want at most %ld, the rows of the model's embedding", s->path,
                       (unsigned long)s->count, (long)m->cfg.vocab);
    if (vocab_begin(m, kind, s->count, merges, s->bytes, e)) return -1;
    for (uint32_t i = 0; i < s->count; i++) {
        const Slot *t = &s->slot[i];
        uint8_t byte;
        int64_t n = -1;
        if (!t->text) return err_set(e, "%s: no token has the id %lu", s->path, (unsigned long)i);
        if (!t->special && kind == TOK_SCORED && is_byte(t, &byte)) {
            if (vocab_token(m, &byte, 1, TOKEN_BYTE, e)) return -1;
            continue;
        }
        if (!t->special && (n = unspell(kind, scratch, t->text, t->n)) < 0)
            return err_set(e, "%s: token %lu, %.60s, is not spelt in GPT-2's characters for bytes", s->path,
                           (unsigned long)i, t->text);
        const uint8_t *bytes = t->special ? (const uint8_t *)t->text : scratch;
        if (vocab_token(m, bytes, t->special ? t->n : (size_t)n, t->special ? TOKEN_SPECIAL : TOKEN_NORMAL,
                        e))
            return -1;
    }
    return 0;
}

// ---- what kind it is --------------------------------------------------------------------------------------
// Pre-tokenizers of the form Sequence(Split(Regex), ByteLevel), told by the regular expression.
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
#define REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
static const struct { TokKind kind; const char *regex; } SPLIT[] = {
    {TOK_CL100K, CONTRACTIONS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" REST},
    {TOK_QWEN2,  CONTRACTIONS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" REST},
    {TOK_GPT2,   "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
};
enum { SPLITS = sizeof SPLIT / sizeof *SPLIT };

// For messages: what a part of the tokenizer is, in short. Returns out.
static const char *shown(const Doc *d, const JsonNode *v, char out[400]) {
    const JsonNode *end = v ? d->j.node + v->next : NULL;
    size_t n = 0;
    out[0] = 0;
    if (!v) return memcpy(out, "none", 5);
    for (const JsonNode *p = v; p < end && n < 380; p++)       // strings and words in the order of the file
        if (p->kind != JSON_OBJECT && p->kind != JSON_ARRAY)
            n += (size_t)snprintf(out + n, 400 - n, "%.*s ", 390 - (int)n, json_shown(p));
    return out;
}

// A member that an object must have; want "" is: absent, null or "".
typedef struct { const char *key, *want; } Must;

static bool matches(const Doc *d, const JsonNode *v, const char *type, const Must *must, int musts) {
    if (!v || v->kind != JSON_OBJECT || !doc_is(d, doc_index(d, v), "type", type)) return false;
    for (int i = 0; i < musts; i++) {
        const JsonNode *x = doc_get(d, doc_index(d, v), must[i].key);
        if (strcmp(x ? json_shown(x) : "", must[i].want) != 0) return false;
    }
    return true;
}

// Element i of the array that is a member of v; NULL if it has not exactly `count`.
static const JsonNode *element(const Doc *d, const JsonNode *v, const char *key, uint32_t count, uint32_t i) {
    const JsonNode *list = v ? doc_get(d, doc_index(d, v), key) : NULL;
    if (!list || list->kind != JSON_ARRAY || list->count != count) return NULL;
    uint32_t at = doc_index(d, list) + 1;
    while (i-- > 0) at = d->j.node[at].next;
    return &d->j.node[at];
}

// ByteLevel without a space in front; regex: does it cut the text itself? That is so if it says nothing.
static bool byte_level(const Doc *d, const JsonNode *v, bool regex) {
    static const Must no[] = {{"add_prefix_space", "false"}, {"use_regex", "false"}};
    static const Must yes[] = {{"add_prefix_space", "false"}, {"use_regex", "true"}};
    static const Must old[] = {{"add_prefix_space", "false"}, {"use_regex", ""}};
    if (!regex) return matches(d, v, "ByteLevel", no, 2);
    return matches(d, v, "ByteLevel", yes, 2) || matches(d, v, "ByteLevel", old, 2);
}

static TokKind kind_split(const Doc *d, const JsonNode *v) {
    static const Must split[] = {{"behavior", "Isolated"}, {"invert", "false"}};
    const JsonNode *pattern = v ? doc_get(d, doc_index(d, v), "pattern") : NULL;
    if (!matches(d, v, "Split", split, 2) || !pattern || pattern->kind != JSON_OBJECT) return TOK_NONE;
    for (int i = 0; i < SPLITS; i++)
        if (doc_is(d, doc_index(d, pattern), "Regex", SPLIT[i].regex)) return SPLIT[i].kind;
    return TOK_NONE;
}

static TokKind kind_bytes(const Doc *d, const JsonNode *pre) {
    static const Must digits[] = {{"individual_digits", "true"}};
    const JsonNode *a = element(d, pre, "pretokenizers", 2, 0), *b = element(d, pre, "pretokenizers", 2, 1);
    if (byte_level(d, pre, true)) return TOK_GPT2;
    if (!matches(d, pre, "Sequence", NULL, 0)) return TOK_NONE;
    if (matches(d, a, "Digits", digits, 1) && byte_level(d, b, true)) return TOK_SMOLLM;
    return byte_level(d, b, false) ? kind_split(d, a) : TOK_NONE;
}

// Llama 2: spaces become U+2581, one is put before the text, and nothing else cuts it. Older files say so
// with a normalizer, newer ones with Metaspace.
static bool is_sentencepiece(const Doc *d, const JsonNode *normalizer, const JsonNode *pre, bool *add_space) {
    static const Must prepend[] = {{"prepend", UNDERLINE}}, replace[] = {{"content", UNDERLINE}};
    static const char *const scheme[] = {"first", "always", "never"};
    const JsonNode *a = element(d, normalizer, "normalizers", 2, 0),
                   *b = element(d, normalizer, "normalizers", 2, 1);
    const JsonNode *pattern = b ? doc_get(d, doc_index(d, b), "pattern") : NULL;
    *add_space = true;
    if (!pre && matches(d, normalizer, "Sequence", NULL, 0) && matches(d, a, "Prepend", prepend, 1) &&
        matches(d, b, "Replace", replace, 1) && pattern && pattern->kind == JSON_OBJECT)
        return doc_is(d, doc_index(d, pattern), "String", " ");
    if (normalizer) return false;
    for (int i = 0; i < 3; i++) {
        Must metaspace[] = {{"replacement", UNDERLINE}, {"prepend_scheme", scheme[i]}, {"split", "false"}};
        *add_space = i < 2;
        if (matches(d, pre, "Metaspace", metaspace, 3)) return true;
    }
    return false;
}

static int kind_of(TokKind *kind, bool *add_space, const Doc *d, uint32_t model, Err *e) {
    const JsonNode *normalizer = doc_get(d, 0, "normalizer"), *pre = doc_get(d, 0, "pre_tokenizer");
    char text[400];
    bool fallback, ignore;
    const JsonNode *type = doc_get(d, model, "type");
    *add_space = false;
    if (type && doc_want(d, model, "type", "BPE", e)) return -1;
    if (doc_flag(d, model, "byte_fallback", false, &fallback, e) ||
        doc_flag(d, model, "ignore_merges", false, &ignore, e)) return -1;
    const JsonNode *prefix = doc_get(d, model, "continuing_subword_prefix");
    const JsonNode *suffix = doc_get(d, model, "end_of_word_suffix"), *dropout = doc_get(d, model, "dropout");
    if ((prefix && strcmp(json_shown(prefix), "") != 0) || (suffix && strcmp(json_shown(suffix), "") != 0) ||
        (dropout && dropout->number > 0))
        return err_set(e, "%s: model: a prefix or suffix of words, or dropout, want none", d->path);

    *kind = fallback ? TOK_SCORED : kind_bytes(d, pre);
    if (fallback ? !is_sentencepiece(d, normalizer, pre, add_space) : *kind == TOK_NONE)
        return err_set(e, "%s: pre_tokenizer: %s\nhint: known are those of GPT-2, Llama 2, Llama 3, Qwen2, "
                       "SmolLM", d->path, shown(d, pre ? pre : normalizer, text));
    bool nfc = *kind == TOK_QWEN2;
    if (!fallback && (nfc ? !matches(d, normalizer, "NFC", NULL, 0) : normalizer != NULL))
        return err_set(e, "%s: normalizer: %s, want %s", d->path, shown(d, normalizer, text),
                       nfc ? "NFC" : "none");
    if (ignore != (*kind == TOK_CL100K))
        return err_set(e, "%s: ignore_merges: want %s with this pre_tokenizer", d->path,
                       ignore ? "false" : "true");
    return 0;
}

// ---- merges -----------------------------------------------------------------------------------------------

// left and right as they are written. scratch: room for both.
static int merge_put(Import *m, const char *path, const char *left, size_t n, const char *right, size_t k,
                     uint8_t *scratch, Err *e) {
    int64_t a = unspell(m->tok.kind, scratch, left, n), b = unspell(m->tok.kind, scratch + n, right, k);
    if (a < 1 || b < 1)
        return err_set(e, "%s: merge %lu: %.40s %.40s, want two tokens", path, (unsigned long)m->tok.merges,
                       left, right);
    return vocab_merge(m, scratch, (size_t)a, scratch + n, (size_t)b, e);
}

// "a b"
static int merge_line(Import *m, const char *path, const char *text, size_t n, uint8_t *scratch, Err *e) {
    const char *space = memchr(text, ' ', n);
    size_t left = space ? (size_t)(space - text) : n;
    if (!space || memchr(space + 1, ' ', n - left - 1))
        return err_set(e, "%s: merge %lu: %.80s, want two tokens with a space between", path,
                       (unsigned long)m->tok.merges, text);
    return merge_put(m, path, text, left, space + 1, n - left - 1, scratch, e);
}

// Either "a b" or ["a", "b"].
static int merges_json(Import *m, const Doc *d, const JsonNode *list, uint8_t *scratch, Err *e) {
    const JsonNode *v = d->j.node;
    uint32_t at = doc_index(d, list) + 1;
    for (uint32_t i = 0; i < list->count; i++, at = v[at].next) {
        const JsonNode *a = &v[at] + 1, *b = &v[at] + 2;
        bool pair =
            v[at].kind == JSON_ARRAY && v[at].count == 2 && a->kind == JSON_STRING && b->kind == JSON_STRING;
        if (!pair && v[at].kind != JSON_STRING)
            return err_set(e, "%s:%lu: merge: want \"a b\" or [\"a\", \"b\"]", d->path,
                           (unsigned long)v[at].line);
        if (pair ? merge_put(m, d->path, a->text, a->len, b->text, b->len, scratch, e) :
                   merge_line(m, d->path, v[at].text, v[at].len, scratch, e)) return -1;
    }
    return 0;
}

// ---- where a text ends and begins -------------------------------------------------------------------------
typedef struct {
    Doc config, map;                  // tokenizer_config.json, special_tokens_map.json; closed: not there
} Extras;

// The text of a member like eos_token: a string, or an object with its content. NULL: neither file has it.
static const JsonNode *token_named(const Extras *x, const char *key) {
    const Doc *const where[] = {&x->config, &x->map};
    for (int i = 0; i < 2; i++) {
        const JsonNode *v = doc_get(where[i], 0, key);
        if (v && v->kind == JSON_OBJECT) v = doc_get(where[i], doc_index(where[i], v), "content");
        if (v && v->kind == JSON_STRING) return v;
    }
    return NULL;
}

// end-of-text: eos_token, else the first special token among the configuration's ids, else <|endoftext|>. An
// id alone makes no token special: configurations carry defaults that belong to other tokenizers.
static int end_find(int32_t *eot, Slots *s, const Extras *x, const EndIds *ends, Err *e) {
    const JsonNode *named = token_named(x, "eos_token");
    *eot = -1;
    for (int i = ends->n; i-- > 0;)
        if (ends->id[i] < s->count && s->slot[ends->id[i]].special) *eot = (int32_t)ends->id[i];
    if (named && (*eot = slots_special(s, named->text, named->len)) < 0)
        return err_set(e, "%s: eos_token %.60s is no token", s->path, named->text);
    if (*eot < 0) *eot = slots_special(s, END_OF_TEXT, sizeof END_OF_TEXT - 1);
    return 0;
}

// The token that a TemplateProcessing puts before the text: its id, -1 for none.
static int begin_template(int32_t *bos, const Doc *d, const JsonNode *v, Err *e) {
    const JsonNode *only = element(d, v, "single", 1, 0), *first = element(d, v, "single", 2, 0);
    const JsonNode *second = element(d, v, "single", 2, 1), *special = NULL, *key = NULL, *ids = NULL;
    uint64_t id;
    if (only && only->kind == JSON_OBJECT && doc_get(d, doc_index(d, only), "Sequence")) return 0;
    if (first && first->kind == JSON_OBJECT && second && second->kind == JSON_OBJECT &&
        doc_get(d, doc_index(d, second), "Sequence"))
        special = doc_get(d, doc_index(d, first), "SpecialToken");
    if (special) key = doc_get(d, doc_index(d, special), "id");
    special = doc_get(d, doc_index(d, v), "special_tokens");
    if (key && key->kind == JSON_STRING && special) ids = doc_get(d, doc_index(d, special), key->text);
    if (ids) ids = element(d, ids, "ids", 1, 0);
    if (!ids || !json_whole(ids, &id) || id > INT32_MAX)
        return err_set(e, "%s:%lu: post_processor: want at most one token, before the text", d->path,
                       (unsigned long)v->line);    // NOLINT(clang-analyzer-core.NullDereference): found
    *bos = (int32_t)id;
    return 0;
}

static int begin_processor(int32_t *bos, const Doc *d, const JsonNode *v, Err *e) {
    const JsonNode *list = v ? doc_get(d, doc_index(d, v), "processors") : NULL;
    char text[400];
    if (!v || matches(d, v, "ByteLevel", NULL, 0)) return 0;
    if (matches(d, v, "TemplateProcessing", NULL, 0)) return begin_template(bos, d, v, e);
    if (!matches(d, v, "Sequence", NULL, 0) || !list || list->kind != JSON_ARRAY)
        return err_set(e, "%s: post_processor: %s, want ByteLevel or TemplateProcessing", d->path,
                       shown(d, v, text));
    uint32_t at = doc_index(d, list) + 1;
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): who has a list has nodes
    for (uint32_t i = 0; i < list->count; i++, at = d->j.node[at].next) {
        v = &d->j.node[at];
        bool template = matches(d, v, "TemplateProcessing", NULL, 0);
        if (!template && !matches(d, v, "ByteLevel", NULL, 0))
            return err_set(e, "%s: post_processor: %s, want ByteLevel or TemplateProcessing", d->path,
                           shown(d, v, text));
        if (template && begin_template(bos, d, v, e)) return -1;
    }
    return 0;
}

// begin-of-text, only if the tokenizer really adds it: its post-processor says so, unless add_bos_token says
// no; or add_bos_token says so. d: tokenizer.json, or closed.
static int begin_find(int32_t *bos, Slots *s, const Doc *d, const Extras *x, Err *e) {
    const JsonNode *named = token_named(x, "bos_token"), *add = doc_get(&x->config, 0, "add_bos_token");
    *bos = -1;
    if (doc_want(&x->config, 0, "add_eos_token", "false", e) ||
        begin_processor(bos, d, doc_get(d, 0, "post_processor"), e))
        return -1;
    if (add && add->kind == JSON_FALSE) *bos = -1;
    if (*bos < 0 && add && add->kind == JSON_TRUE && named) *bos = slots_special(s, named->text, named->len);
    if (*bos < 0) return 0;
    if ((uint32_t)*bos >= s->count || !s->slot[*bos].text)
        return err_set(e, "%s: begin-of-text is token %ld, want one of %lu", s->path, (long)*bos,
                       (unsigned long)s->count);
    s->slot[*bos].special = true;
    return 0;
}

// ---- tokenizer.json ---------------------------------------------------------------------------------------
static int read_json(Import *m, const char *folder, const Extras *x, const EndIds *ends, Err *e) {
    Doc d = {.path = ""};
    Slots s = {0};
    uint8_t *scratch = NULL;
    TokKind kind = TOK_NONE;
    int32_t eot, bos;
    bool add_space;
    int rc = -1;
    if (doc_open(&d, m, folder, "tokenizer.json", "tokenizer sha256 ", e)) goto out;
    const JsonNode *model = doc_get(&d, 0, "model"), *added = doc_get(&d, 0, "added_tokens");
    const JsonNode *vocab = model ? doc_get(&d, doc_index(&d, model), "vocab") : NULL;
    const JsonNode *merges = model ? doc_get(&d, doc_index(&d, model), "merges") : NULL;
    if (!vocab || vocab->kind != JSON_OBJECT || !merges || merges->kind != JSON_ARRAY ||
        (added && added->kind != JSON_ARRAY)) {
        err_set(e, "%s: want a model with vocab and merges", d.path);
        goto out;
    }
    if (kind_of(&kind, &add_space, &d, doc_index(&d, model), e)) goto out;
    if (slots_begin(&s, d.path, (uint64_t)vocab->count + (added ? added->count : 0), e) ||
        slots_vocab(&s, &d, doc_index(&d, vocab), e)) goto out;
    uint32_t at = added ? doc_index(&d, added) + 1 : 0;
    for (uint32_t i = 0; added && i < added->count; i++, at = d.j.node[at].next)
        if (slots_added(&s, &d, at, doc_get(&d, at, "id"), e)) goto out;
    if (end_find(&eot, &s, x, ends, e) || begin_find(&bos, &s, &d, x, e)) goto out;
    if (!(scratch = malloc(d.bytes + 1))) { err_set(e, "out of memory"); goto out; }    // no string is longer
    if (slots_put(&s, m, kind, merges->count, scratch, e) || merges_json(m, &d, merges, scratch, e)) goto out;
    m->tok.eot = eot;
    m->tok.bos = bos;
    m->tok.add_space = add_space;
    rc = vocab_end(m, d.path, e);
out:
    free(scratch);
    free(s.slot);
    doc_close(&d);
    return rc;
}

// ---- vocab.json and merges.txt ----------------------------------------------------------------------------

// Their kind is known only from the class, or, where that is not said, the family of the model.
static int kind_class(TokKind *kind, Family f, const Extras *x, const char *folder, Err *e) {
    const JsonNode *v = doc_get(&x->config, 0, "tokenizer_class");
    static const char *const of[FAMILIES] = {"GPT2Tokenizer", "", "Qwen2Tokenizer", "Qwen2Tokenizer"};
    const char *class = v ? json_shown(v) : of[f];
    bool gpt2 = strcmp(class, "GPT2Tokenizer") == 0 || strcmp(class, "GPT2TokenizerFast") == 0;
    bool qwen2 = strcmp(class, "Qwen2Tokenizer") == 0 || strcmp(class, "Qwen2TokenizerFast") == 0;
    *kind = gpt2 ? TOK_GPT2 : TOK_QWEN2;
    if (gpt2 || qwen2) return doc_want(&x->config, 0, "add_prefix_space", "false", e);
    return err_set(e, "%s: vocab.json of tokenizer_class %.40s, want GPT2Tokenizer or Qwen2Tokenizer\n"
                   "hint: a tokenizer.json tells more", folder, *class ? class : "unknown");
}

// added_tokens_decoder of tokenizer_config.json, {"151643": {"content": "text"}}, or added_tokens.json,
// {"text": 151643}.
static int slots_extras(Slots *s, const Extras *x, const Doc *more, Err *e) {
    const JsonNode *v = x->config.j.node, *list = doc_get(&x->config, 0, "added_tokens_decoder");
    uint32_t at = list && list->kind == JSON_OBJECT ? doc_index(&x->config, list) + 1 : 0;
    for (uint32_t i = 0; at && i < list->count; i++, at = v[at + 1].next) {
        // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): who has a list has nodes
        JsonNode id = v[at];                      // its digits are the member's name
        char *end;
        id.kind = JSON_NUMBER;
        id.number = strtod(id.text, &end);
        if (*end || v[at + 1].kind != JSON_OBJECT) id.number = -1;
        if (slots_added(s, &x->config, at + 1, &id, e)) return -1;
    }
    v = more->j.node;
    for (uint32_t i = 0, k = 1; v && i < v[0].count; i++, k = v[k + 1].next)
        if (slot_set(s, v[k].text, v[k].len, &v[k + 1], true, e)) return -1;
    return 0;
}

// Lines of "a b" behind a first line that begins with #version.
static int merges_text(Import *m, const char *path, const char *text, size_t n, uint8_t *scratch, Err *e) {
    for (size_t at = 0, len; at < n; at += len + 1) {
        const char *end = memchr(text + at, '\n', n - at);
        len = end ? (size_t)(end - (text + at)) : n - at;
        size_t shown_len = len > 0 && text[at + len - 1] == '\r' ? len - 1 : len;
        if (shown_len == 0 || (at == 0 && strncmp(text, "#version", 8) == 0)) continue;
        if (merge_line(m, path, text + at, shown_len, scratch, e)) return -1;
    }
    return 0;
}

static int read_pair(Import *m, const char *folder, Family f, const Extras *x, const EndIds *ends, Err *e) {
    Doc d = {.path = ""}, more = {.path = ""}, none = {.path = ""};
    Slots s = {0};
    uint8_t *text = NULL, *scratch = NULL;
    char path[4096];
    size_t n, lines = 1;
    TokKind kind;
    int32_t eot, bos;
    int rc = -1;
    if (kind_class(&kind, f, x, folder, e) || doc_open(&d, m, folder, "vocab.json", "vocab sha256 ", e))
        goto out;
    if (folder_has(folder, "added_tokens.json") &&
        doc_open(&more, m, folder, "added_tokens.json", "added tokens sha256 ", e)) goto out;
    if (folder_path(path, folder, "merges.txt", e) ||
        import_read(m, path, "merges sha256 ", JSON_MAX, &text, &n, e)) goto out;
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    const JsonNode *list = doc_get(&x->config, 0, "added_tokens_decoder");
    uint64_t room =
        (uint64_t)d.j.node[0].count + (list ? list->count : 0) + (more.j.node ? more.j.node[0].count : 0);
    if (slots_begin(&s, d.path, room, e) || slots_vocab(&s, &d, 0, e) || slots_extras(&s, x, &more, e))
        goto out;
    if (end_find(&eot, &s, x, ends, e) || begin_find(&bos, &s, &none, x, e)) goto out;
    if (!(scratch = malloc(d.bytes + n + 1))) { err_set(e, "out of memory"); goto out; }
    if (slots_put(&s, m, kind, (uint32_t)lines, scratch, e) ||
        merges_text(m, path, (const char *)text, n, scratch, e)) goto out;
    m->tok.eot = eot;
    m->tok.bos = bos;
    rc = vocab_end(m, d.path, e);
out:
    free(scratch);
    free(text);
    free(s.slot);
    doc_close(&more);
    doc_close(&d);
    return rc;
}

// ---- chat template ----------------------------------------------------------------------------------------
// The file chat_template.jinja, else chat_template of tokenizer_config.json: text, or a list with "default".
static int read_template(Import *m, const char *folder, const Doc *config, const Ask *ask, Err *e) {
    const JsonNode *v = doc_get(config, 0, "chat_template"), *text = v;
    char path[4096];
    uint8_t *file = NULL;
    size_t n;
    if (folder_has(folder, "chat_template.jinja")) {
        if (folder_path(path, folder, "chat_template.jinja", e) ||
            import_read(m, path, "chat template sha256 ", 1 << 20, &file, &n, e)) return -1;
        int rc = import_template(m, ask, (const char *)file, n, path, e);
        free(file);
        return rc;
    }
    uint32_t at = v ? doc_index(config, v) + 1 : 0;
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): who has a list has nodes
    for (uint32_t i = 0; v && v->kind == JSON_ARRAY && i < v->count; i++, at = config->j.node[at].next)
        if (doc_is(config, at, "name", "default")) text = doc_get(config, at, "template");
    if (!v) return 0;
    if (!text || text->kind != JSON_STRING)
        return err_set(e, "%s:%lu: chat_template: want text, or a list with \"default\"", config->path,
                       (unsigned long)v->line);
    return import_template(m, ask, text->text, text->len, config->path, e);
}

int hf_tokenizer_read(Import *m, const char *folder, Family family, const EndIds *ends, const Ask *ask,
                      Err *e) {
    Extras x = {.config = {.path = ""}, .map = {.path = ""}};
    int rc = -1;
    if (folder_has(folder, "tokenizer_config.json") &&
        doc_open(&x.config, m, folder, "tokenizer_config.json", "tokenizer config sha256 ", e)) goto out;
    if (folder_has(folder, "special_tokens_map.json") &&
        doc_open(&x.map, m, folder, "special_tokens_map.json", "special tokens sha256 ", e)) goto out;
    if (folder_has(folder, "tokenizer.json")) rc = read_json(m, folder, &x, ends, e);
    else if (folder_has(folder, "vocab.json") && folder_has(folder, "merges.txt"))
        rc = read_pair(m, folder, family, &x, ends, e);
    else if (folder_has(folder, "tokenizer.model"))
        err_set(e, "%s: has tokenizer.model only, want tokenizer.json\nhint: save_pretrained of "
                "transformers' tokenizer writes it", folder);
    else rc = 0;                                  // no tokenizer
    if (!rc) rc = read_template(m, folder, &x.config, ask, e);
out:
    doc_close(&x.config);
    doc_close(&x.map);
    return rc;
}

// ---- out --------------------------------------------------------------------------------------------------
// Pieces of JSON through a Writer. The first failure is remembered, so that the rest reads as it is written.
// In the formats ' stands for ".
typedef struct {
    Writer *w;
    Err *e;
    int rc;
} Out;

static void text(Out *o, const char *format, ...) {
    char line[1024];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    if (n < 0 || n >= (int)sizeof line) n = 0, o->rc = err_set(o->e, "tokenizer: a line is too long");
    for (int i = 0; i < n; i++)
        if (line[i] == '\'') line[i] = '"';
    if (!o->rc) o->rc = writer_put(o->w, line, (size_t)n, o->e);
}

// n bytes as a string of JSON, which must read back as they are: bytes of a checkpoint need not be UTF-8.
static void string(Out *o, const char *s, size_t n) {
    Json again = {0};
    char *quoted = json_quote(s, n);
    if (!quoted) o->rc = err_set(o->e, "out of memory");
    if (!o->rc)
        o->rc = json_parse(&again, "tokenizer: a token", 1, (const uint8_t *)quoted, strlen(quoted), o->e);
    if (!o->rc && (again.node[0].len != n || memcmp(again.node[0].text, s, n) != 0))
        o->rc = err_set(o->e, "tokenizer: a token of %zu bytes, %.40s, is not UTF-8", n, s);
    if (!o->rc) o->rc = writer_put(o->w, quoted, strlen(quoted), o->e);
    json_free(&again);
    free(quoted);
}

// A token as Hugging Face spells it, into out, with room for 3 times its bytes and a 0. Returns its length.
static size_t spelt(const Tokenizer *t, int32_t id, char *out) {
    size_t n, count = 0;
    const uint8_t *bytes = tokenizer_decode(t, id, &n);
    if (t->flag[id] == TOKEN_BYTE) return (size_t)snprintf(out, 8, "<0x%02X>", bytes[0]);
    if (t->flag[id] == TOKEN_NORMAL && t->kind != TOK_SCORED) {
        bytes_spell(out, bytes, n);
        return strlen(out);
    }
    for (size_t i = 0; i < n; i++) {
        bool space = bytes[i] == ' ' && t->flag[id] == TOKEN_NORMAL;
        memcpy(out + count, space ? UNDERLINE : (const char *)bytes + i, space ? 3 : 1);
        count += space ? 3 : 1;
    }
    out[count] = 0;
    return count;
}

static void token(Out *o, const Tokenizer *t, int32_t id, char *scratch) {
    size_t n = spelt(t, id, scratch);
    string(o, scratch, n);
}

static int by_rank(const void *a, const void *b) {
    const Merge *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    return x->result != y->result ? (x->result < y->result ? -1 : 1)
                                  : (x->left > y->left) - (x->left < y->left);
}

// Hugging Face ranks merges by their place in the list. TOK_SCORED has equal ranks, the leftmost first: these
// merges make one token from different halves, and are listed one after the other.
static void put_merges(Out *o, const Tokenizer *t, char *scratch) {
    Merge *sorted = malloc(((size_t)t->merges + 1) * sizeof *sorted);
    if (!sorted) { o->rc = err_set(o->e, "out of memory"); return; }
    if (t->merges > 0) memcpy(sorted, t->merge, t->merges * sizeof *sorted);
    qsort(sorted, t->merges, sizeof *sorted, by_rank);
    text(o, "    'merges': [");
    for (uint32_t i = 0; i < t->merges && !o->rc; i++) {
        size_t n = spelt(t, sorted[i].left, scratch);
        scratch[n] = ' ';
        n += 1 + spelt(t, sorted[i].right, scratch + n + 1);
        text(o, i ? ",\n      " : "\n      ");
        string(o, scratch, n);
    }
    text(o, "\n    ]\n  }\n");
    free(sorted);
}

static void put_added(Out *o, const Tokenizer *t, char *scratch) {
    bool first = true;
    text(o, "  'added_tokens': [");
    for (uint32_t i = 0; i < t->vocab && !o->rc; i++) {
        if (t->flag[i] != TOKEN_SPECIAL || t->start[i + 1] == t->start[i]) continue;
        text(o, "%s\n    {'id': %lu, 'content': ", first ? "" : ",", (unsigned long)i);
        token(o, t, (int32_t)i, scratch);
        text(o, ", 'single_word': false, 'lstrip': false, 'rstrip': false, 'normalized': false, "
             "'special': true}");
        first = false;
    }
    text(o, "\n  ],\n");
}

#define BYTE_LEVEL "{'type': 'ByteLevel', 'add_prefix_space': false, 'trim_offsets': true, 'use_regex': %s}"

// What cuts the text.
static void put_cutting(Out *o, const Tokenizer *t) {
    int split = 0;
    while (split < SPLITS && SPLIT[split].kind != t->kind) split++;
    text(o, "  'normalizer': %s,\n  'pre_tokenizer': ", t->kind == TOK_QWEN2 ? "{'type': 'NFC'}" : "null");
    if (t->kind == TOK_SCORED) {
        text(o, "{'type': 'Metaspace', 'replacement': '%s', 'prepend_scheme': '%s', 'split': false},\n",
             UNDERLINE, t->add_space ? "first" : "never");
    } else if (t->kind == TOK_GPT2) {
        text(o, BYTE_LEVEL ",\n", "true");
    } else if (t->kind == TOK_SMOLLM) {
        text(o, "{'type': 'Sequence', 'pretokenizers': [\n    {'type': 'Digits', 'individual_digits': true},"
             "\n    " BYTE_LEVEL "]},\n", "true");
    } else {
        text(o, "{'type': 'Sequence', 'pretokenizers': [\n    {'type': 'Split', 'pattern': {'Regex': ");
        string(o, SPLIT[split].regex, strlen(SPLIT[split].regex));
        text(o, "}, 'behavior': 'Isolated', 'invert': false},\n    " BYTE_LEVEL "]},\n", "false");
    }
}

// What puts begin-of-text before it.
static void put_beginning(Out *o, const Tokenizer *t, char *scratch) {
    text(o, "  'post_processor': ");
    if (t->bos < 0) {
        if (t->kind == TOK_SCORED) text(o, "null,\n");
        else text(o, BYTE_LEVEL ",\n", "true");
        return;
    }
    text(o, "{'type': 'TemplateProcessing',\n    'single': [{'SpecialToken': {'id': ");
    token(o, t, t->bos, scratch);
    text(o, ", 'type_id': 0}}, {'Sequence': {'id': 'A', 'type_id': 0}}],\n    'pair': [{'Sequence': {'id': "
         "'A', 'type_id': 0}}, {'Sequence': {'id': 'B', 'type_id': 1}}],\n    'special_tokens': {");
    token(o, t, t->bos, scratch);
    text(o, ": {'id': ");
    token(o, t, t->bos, scratch);
    text(o, ", 'ids': [%ld], 'tokens': [", (long)t->bos);
    token(o, t, t->bos, scratch);
    text(o, "]}}},\n");
}

// What makes text of tokens.
static void put_decoder(Out *o, const Tokenizer *t) {
    if (t->kind != TOK_SCORED) {
        text(o, "  'decoder': " BYTE_LEVEL ",\n", "true");
        return;
    }
    text(o, "  'decoder': {'type': 'Sequence', 'decoders': [\n    {'type': 'Replace', 'pattern': {'String': "
         "'%s'}, 'content': ' '},\n    {'type': 'ByteFallback'}, {'type': 'Fuse'}%s]},\n", UNDERLINE,
         t->add_space ? ", {'type': 'Strip', 'content': ' ', 'start': 1, 'stop': 0}" : "");
}

// Every token is in the vocabulary, the special ones too: else their ids would be given anew.
static void put_tokenizer(Out *o, const Tokenizer *t) {
    size_t longest = 0;
    for (uint32_t i = 0; i < t->vocab; i++)
        if (t->start[i + 1] - t->start[i] > longest) longest = t->start[i + 1] - t->start[i];
    char *scratch = malloc(6 * longest + 32);     // a merge: two tokens, each up to 3 times its bytes
    if (!scratch) { o->rc = err_set(o->e, "out of memory"); return; }
    bool scored = t->kind == TOK_SCORED, unknown = scored && tokenizer_find(t, "<unk>") >= 0;
    text(o, "{\n  'version': '1.0',\n  'truncation': null,\n  'padding': null,\n");
    put_added(o, t, scratch);
    put_cutting(o, t);
    put_beginning(o, t, scratch);
    put_decoder(o, t);
    text(o, "  'model': {\n    'type': 'BPE',\n    'dropout': null,\n    'unk_token': %s,\n"
         "    'continuing_subword_prefix': null,\n    'end_of_word_suffix': null,\n    'fuse_unk': %s,\n"
         "    'byte_fallback': %s,\n    'ignore_merges': %s,\n    'vocab': {", unknown ? "'<unk>'" : "null",
         scored ? "true" : "false", scored ? "true" : "false", t->kind == TOK_CL100K ? "true" : "false");
    for (uint32_t i = 0; i < t->vocab && !o->rc; i++) {
        text(o, i ? ",\n      " : "\n      ");
        token(o, t, (int32_t)i, scratch);
        text(o, ": %lu", (unsigned long)i);
    }
    text(o, "\n    },\n");
    put_merges(o, t, scratch);
    text(o, "}\n");
    free(scratch);
}

static void put_tokenizer_config(Out *o, const Import *m) {
    const Tokenizer *t = &m->tok;
    const char *jinja = m->template ? jinja_for(m->template) : NULL;
    size_t n;
    text(o, "{\n  'add_bos_token': %s,\n", t->bos >= 0 ? "true" : "false");
    if (t->bos >= 0) {
        const char *bytes = (const char *)tokenizer_decode(t, t->bos, &n);
        text(o, "  'bos_token': ");
        string(o, bytes, n);
        text(o, ",\n");
    }
    if (t->eot >= 0) {
        const char *bytes = (const char *)tokenizer_decode(t, t->eot, &n);
        text(o, "  'eos_token': ");
        string(o, bytes, n);
        text(o, ",\n");
    }
    if (jinja) {
        text(o, "  'chat_template': ");
        string(o, jinja, strlen(jinja));
        text(o, ",\n");
    }
    text(o, "  'clean_up_tokenization_spaces': false,\n  'model_max_length': %ld,\n"
         "  'tokenizer_class': 'PreTrainedTokenizerFast'\n}\n", (long)m->cfg.context);
}

int hf_tokenizer_write(const Import *m, const char *folder, Err *e) {
    static const char *const name[] = {"tokenizer.json", "tokenizer_config.json"};
    for (int i = 0; i < 2; i++) {
        char path[4096];
        Out o = {.e = e};
        if (folder_path(path, folder, name[i], e) || !(o.w = writer_open(path, e))) return -1;
        if (i == 0) put_tokenizer(&o, &m->tok);
        else put_tokenizer_config(&o, m);
        if (writer_close(o.w, o.rc == 0, e) || o.rc) return -1;
    }
    return 0;
}

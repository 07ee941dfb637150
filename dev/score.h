// score.h -- what an answer's text is worth: words, scores, and kinds of errors. Texts in, numbers out.
#ifndef SCORE_H
#define SCORE_H
#include "../model.h"

// How a text is split into words:
//     SQUAD    punctuation is left out, then the articles; what stands between white space is a word
//     ROUGE    runs of a-z and 0-9
//     PLAIN    runs of letters and digits of any script; an apostrophe is left out
//     LETTERS  those without a digit
typedef enum { SQUAD, ROUGE, PLAIN, LETTERS } Split;
typedef struct { uint64_t *word; size_t n, room; } Words;         // a hash each; word: free()
int    words_add(Words *w, Split how, const char *text, size_t n, Err *e);
// A text's words by SQUAD, in order, as one number: alike for texts that differ in case and punctuation alone
int    key_of(uint64_t *key, const char *text, Err *e);

enum { EXACT, NORMALISED, F1, ROUGE_L, SCORES };
extern const char *const SCORE[SCORES];
// An answer that is not exactly right is of each kind that applies; an empty one of no other.
enum { EMPTY, CUT_OFF, REPEATING, TOO_SHORT, TOO_LONG, WRONG_FORMAT, WRONG_CONTENT, MISSPELT, UNSUPPORTED,
       KINDS };
typedef struct { const char *name, *means; double limit; } Kind;  // limit: what `means` ends with; 0: nothing
extern const Kind KIND[KINDS];
enum { LABELS_MAX = 20 };

typedef struct {
    char *text;                       // 0-terminated, white space at both ends removed
    size_t tokens;
    bool cut;                         // by the most tokens allowed, or a full context
    uint64_t key;
    double score[SCORES];
    uint32_t kinds;                   // a bit for each
} Answer;
typedef struct {                      // what answers are judged by; zeroed: by the reference alone
    const char *format;               // "labels", "json" or a pattern; NULL: labels, if there are any
    uint64_t label[LABELS_MAX];       // keys of the references, if few
    size_t labels;
    Words spelt, taught;              // known words; those of taught answers; sorted; may be empty
} Judge;
// Known words are those of the text file `words`, or all of the rows trained on; either path may be NULL.
int    judge_learn(Judge *j, const char *words, const char *trained_on, Err *e);
bool   judge_finds(const Judge *j, int kind);                     // can it tell this kind?
size_t judge_label(const Judge *j, const Answer *a);              // which label it is, j->labels: none
// Fills key, score and kinds of an answer to a row, whose reference is `want`, trimmed too.
int    answer_judge(Answer *a, const Judge *j, const Row *row, const char *want, Err *e);
void   judge_free(Judge *j);
#endif

// survey.h -- what survey.c finds in the rows that a run is about to learn from. Include it after ../model.h.
#ifndef SURVEY_H
#define SURVEY_H
#include <stdio.h>

typedef struct { size_t n; uint32_t row, like; } Twins;    // rows like another one; the first of them, and it
typedef struct { uint64_t hash; uint32_t row, n; } Tally;  // what n rows have, row the first of them
typedef struct {                      // of the prompts, or of the answers
    double words, spread;             // in a row, on average; their standard deviation, in such averages
    double ones, twos;                // different words among 1,000, in random rows; different pairs of these
    double opening;                   // share of the rows that begin with the most frequent four words,
    uint32_t opens;                   // the first of them
    size_t shared;                    // bytes that all prompts begin with, which are left out here
} Variety;
enum { BARS = 12, MOST_LABELS = 200 };
typedef struct {
    const Examples *all, *train, *held;
    const Rows *rows, *other;         // rows of all; of held, if it is no part of all
    size_t bar[BARS], width;          // examples of up to width - 1 tokens, 2 width - 1, ...
    Twins twice, reply, near;         // same prompt and answer; same prompt; prompt of the same words
    Twins leaked, leaked_near;        // held out, with the prompt of a row trained on; with its words
    size_t blank, echo, answers;      // answers of white space, that repeat the prompt, that are different
    bool few;                         // the answers are labels
    Tally *label;                     // (answers) by their number
    struct Key *key;
    Variety variety[2];               // of prompts, of answers
} Survey;
// Looks at all examples, of which train are trained on; held are the rest, or those of another file with the
// rows `other`, else NULL. Raw text has no rows: rows->n is 0. All must outlive s. In any case: survey_free.
int  survey(Survey *s, const Examples *all, const Examples *train, const Examples *held, const Rows *rows,
            const Rows *other, Err *e);
void survey_print(const Survey *s, FILE *to, bool full);
void survey_log(const Survey *s, Log *l);
// -1: the run must not be. What is measured must not be trained on: list prints all rows of a held-out file
// that are. And no row may have begin-of-text twice, once from the template; bos -1: there is none.
int  survey_stop(const Survey *s, int32_t bos, bool list, Err *e);
void survey_free(Survey *s);

// The character at c, of n > 0 bytes that are left, as a terminal may show it, into to; returns its columns,
// or more. Escaped are what is no UTF-8, controls, and what is invisible or turns text around.
int  glyph(char to[8], const void *c, size_t n, size_t *len);
// Prints n bytes so, in at most `most` columns; returns how many.
int  show(FILE *to, const void *s, size_t n, int most);
#endif

// show.h -- text of unknown origin for a person's eyes: whole characters, none of which controls the
// terminal.
#ifndef SHOW_H
#define SHOW_H
#include <stddef.h>
#include <stdio.h>

// The character at s (n > 0 bytes): its bytes, 0-terminated, into out, '?' for what is no UTF-8, would
// control a terminal or turn its text around, ' ' for white space. Returns how many bytes of s it was;
// *columns are never fewer than the terminal will use.
size_t show_char(const char *s, size_t n, char out[5], int *columns);
// s (n bytes) in lines of at most `width` columns, each after `indent` spaces; the text's own line breaks
// stay.
void   show_wrapped(FILE *f, const char *s, size_t n, int indent, int width);
// One line of at most `width` columns from s (n bytes), which begins a little before byte `at` and shows by
// ... what is left out; room bytes at out, of which 4 for each column and 8 more are enough.
void   show_excerpt(char *out, size_t room, const char *s, size_t n, size_t at, int width);
#endif

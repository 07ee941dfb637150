// show.c -- the text of files on a terminal, for clean and compare. show_char decides what is safe; the other
// two lay characters out. Not here on purpose: colours, the exact width of each character, which needs a
// table.
#include "../model.h"
#include "show.h"
#include <string.h>

// Control characters of Latin-1, and those that turn the direction of text: U+200E, 200F, 202A-202E,
// 2066-2069.
static bool harmful(const uint8_t *s, size_t length) {
    if (length == 1) return s[0] < ' ' || s[0] == 127;
    if (s[0] == 0xC2) return s[1] < 0xA0;
    if (s[0] != 0xE2 || (s[1] != 0x80 && s[1] != 0x81)) return false;
    return s[1] == 0x81 ? s[2] >= 0xA6 && s[2] <= 0xA9 : (s[2] >= 0xAA && s[2] <= 0xAE) || (s[2] | 1) == 0x8F;
}

size_t show_char(const char *s, size_t n, char out[5], int *columns) {
    const uint8_t *p = (const uint8_t *)s;
    size_t length = utf8_length(p, n);
    bool space = *s == ' ' || *s == '\t' || *s == '\n' || *s == '\r';
    bool narrow = *p < 0xE1 || (*p == 0xE2 && p[1] <= 0x82);      // letters of alphabets, punctuation
    *columns = length == 0 || narrow ? 1 : 2;
    if (length == 0 || space || harmful(p, length)) {
        strcpy(out, space ? " " : "?");
        *columns = 1;
        return length > 0 ? length : 1;
    }
    memcpy(out, s, length);
    out[length] = 0;
    return length;
}

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

// Bytes of the word at s, of which at most `most` columns, and the columns that it takes.
static size_t word_of(const char *s, size_t n, int most, int *columns) {
    size_t at = 0;
    char c[5];
    *columns = 0;
    while (at < n && !blank(s[at]) && s[at] != '\n') {
        int more;
        size_t length = show_char(s + at, n - at, c, &more);
        if (*columns + more > most) break;
        *columns += more;
        at += length;
    }
    return at;
}

static void put(FILE *f, const char *s, size_t n) {
    char c[5];
    for (int columns; n > 0; fputs(c, f)) {
        size_t length = show_char(s, n, c, &columns);
        s += length;
        n -= length;
    }
}

void show_wrapped(FILE *f, const char *s, size_t n, int indent, int width) {
    const char *end = s + n;
    int most = width - indent;
    while (s < end) {                 // a line of the text
        fprintf(f, "%*s", indent, "");
        for (int used = 0, columns; s < end && *s != '\n'; used += columns) {
            int gap = 0;
            for (; s < end && blank(*s); s++) gap += gap < (used > 0 ? 1 : most / 4);
            size_t length = word_of(s, (size_t)(end - s), most, &columns);
            if (used > 0 && used + gap + columns > most) {
                fprintf(f, "\n%*s", indent, "");
                used = gap = 0;
            }
            if (gap + columns > most) gap = 0;
            fprintf(f, "%*s", gap, "");
            put(f, s, length);
            s += length;
            used += gap;
        }
        fputc('\n', f);
        s += s < end;
    }
}

void show_excerpt(char *out, size_t room, const char *s, size_t n, size_t at, int width) {
    enum { BEFORE = 30 };             // bytes that are shown before the place
    size_t from = at > BEFORE ? at - BEFORE : 0, used = 0;
    while (from > 0 && ((uint8_t)s[from] & 0xC0) == 0x80) from--;
    if (from > 0) used = (size_t)snprintf(out, room, "...");
    for (int left = width - (int)used - 3, columns; from < n; left -= columns) {
        char c[5];
        size_t length = show_char(s + from, n - from, c, &columns);
        bool last = from + length >= n && left + 3 >= columns;
        if ((left < columns && !last) || used + 8 > room) {
            strcpy(out + used, "...");
            return;
        }
        used += (size_t)snprintf(out + used, room - used, "%s", c);
        from += length;
    }
    out[used] = 0;
}

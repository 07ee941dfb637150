// tokenizer.c -- byte-pair encoding: text to token ids and back, and learning a vocabulary from text.
// Pure: memory in, memory out. It neither allocates nor prints and keeps no state; no text and no tokenizer,
// however hostile, makes it crash or hang.
//
//     encoding   Of all neighbours that form a known pair, the pair of the smallest rank becomes one token.
//     learning   The most frequent pair of neighbours becomes a new token.  Both again and again.
//
// Source: Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units" (2016).
// GPT-2's encoder (2019) added the alphabet of 256 bytes, to which no text is unknown, and the pre-tokens:
// pieces such as words, which no token crosses.
// Read in this order: characters -> pre-tokens -> tables -> merging -> special tokens -> index, where all
// that comes from a file is checked -> encode -> train, which needs only the first three.
// Tests: tests/test_tokenizer.c.
#include "model.h"
#include <string.h>

enum {
    VOCAB_MAX = 1 << 24, MERGES_MAX = 1 << 24,    // the largest tokenizer
    SPECIALS_MAX = 1 << 16, SPECIAL_BYTES = 128,  // special tokens; the longest bounds the search for them
    WORD_BYTES = 32,                              // the longest pre-token that is looked up whole
    LEARNED_BYTES = 128,                          // the longest token that training makes
    PROBES = 128,                                 // places tried in a hash table; GPT-2's need 21 at most
    TEXT_MAX = INT32_MAX                          // bytes of text at once
};
#define NONE UINT32_MAX                           // no position, no merge, no place
static const char END_OF_TEXT[] = "<|endoftext|>";

// 0 if value lies in lo..hi, else -1 with the fault filled in.
static int check(Fault *f, const char *what, int64_t value, int64_t lo, int64_t hi) {
    if (value >= lo && value <= hi) return 0;
    f->what = what;
    f->value = value;
    f->lo = lo;
    f->hi = hi;
    return -1;
}

// Bytes as a size_t; what this machine cannot address becomes a size that no allocation gives.
static size_t to_size(uint64_t bytes) {
    return bytes < SIZE_MAX ? (size_t)bytes : SIZE_MAX;
}

// ---- characters -------------------------------------------------------------------------------------------
// A character is of one of four classes, named by letters so that the tables can be read. ASCII has a table
// to itself, which holds 0 for bytes above it. RUN lists all other letters, numbers and spaces in ascending
// order: L(C0,23) says that 23 letters begin at code C0.
enum { OTHER = 'O', LETTER = 'L', NUMBER = 'N', SPACE = 'S' };
typedef struct {
    uint32_t from;
    uint16_t count;
    uint8_t class;
} Run;
#define L(from, count) {0x##from, count, LETTER},
#define N(from, count) {0x##from, count, NUMBER},
#define S(from, count) {0x##from, count, SPACE},
// ---- begin of what dev/unicode.py wrote: do not edit by hand
// Unicode 15.0.0: letters are the categories L*, numbers N*, spaces the property White_Space.
static const char ASCII_CLASS[256] =
    "OOOOOOOOOSSSSSOOOOOOOOOOOOOOOOOOSOOOOOOOOOOOOOOONNNNNNNNNNOOOOOO"
    "OLLLLLLLLLLLLLLLLLLLLLLLLLLOOOOOOLLLLLLLLLLLLLLLLLLLLLLLLLLOOOOO";
static const Run RUN[] = {
    S(85,1) S(A0,1) L(AA,1) N(B2,2) L(B5,1) N(B9,1) L(BA,1) N(BC,3) L(C0,23) L(D8,31) L(F8,458) L(2C6,12)
    L(2E0,5) L(2EC,1) L(2EE,1) L(370,5) L(376,2) L(37A,4) L(37F,1) L(386,1) L(388,3) L(38C,1) L(38E,20)
    L(3A3,83) L(3F7,139) L(48A,166) L(531,38) L(559,1) L(560,41) L(5D0,27) L(5EF,4) L(620,43) N(660,10)
    L(66E,2) L(671,99) L(6D5,1) L(6E5,2) L(6EE,2) N(6F0,10) L(6FA,3) L(6FF,1) L(710,1) L(712,30) L(74D,89)
    L(7B1,1) N(7C0,10) L(7CA,33) L(7F4,2) L(7FA,1) L(800,22) L(81A,1) L(824,1) L(828,1) L(840,25) L(860,11)
    L(870,24) L(889,6) L(8A0,42) L(904,54) L(93D,1) L(950,1) L(958,10) N(966,10) L(971,16) L(985,8) L(98F,2)
    L(993,22) L(9AA,7) L(9B2,1) L(9B6,4) L(9BD,1) L(9CE,1) L(9DC,2) L(9DF,3) N(9E6,10) L(9F0,2) N(9F4,6)
    L(9FC,1) L(A05,6) L(A0F,2) L(A13,22) L(A2A,7) L(A32,2) L(A35,2) L(A38,2) L(A59,4) L(A5E,1) N(A66,10)
    L(A72,3) L(A85,9) L(A8F,3) L(A93,22) L(AAA,7) L(AB2,2) L(AB5,5) L(ABD,1) L(AD0,1) L(AE0,2) N(AE6,10)
    L(AF9,1) L(B05,8) L(B0F,2) L(B13,22) L(B2A,7) L(B32,2) L(B35,5) L(B3D,1) L(B5C,2) L(B5F,3) N(B66,10)
    L(B71,1) N(B72,6) L(B83,1) L(B85,6) L(B8E,3) L(B92,4) L(B99,2) L(B9C,1) L(B9E,2) L(BA3,2) L(BA8,3)
    L(BAE,12) L(BD0,1) N(BE6,13) L(C05,8) L(C0E,3) L(C12,23) L(C2A,16) L(C3D,1) L(C58,3) L(C5D,1) L(C60,2)
    N(C66,10) N(C78,7) L(C80,1) L(C85,8) L(C8E,3) L(C92,23) L(CAA,10) L(CB5,5) L(CBD,1) L(CDD,2) L(CE0,2)
    N(CE6,10) L(CF1,2) L(D04,9) L(D0E,3) L(D12,41) L(D3D,1) L(D4E,1) L(D54,3) N(D58,7) L(D5F,3) N(D66,19)
    L(D7A,6) L(D85,18) L(D9A,24) L(DB3,9) L(DBD,1) L(DC0,7) N(DE6,10) L(E01,48) L(E32,2) L(E40,7) N(E50,10)
    L(E81,2) L(E84,1) L(E86,5) L(E8C,24) L(EA5,1) L(EA7,10) L(EB2,2) L(EBD,1) L(EC0,5) L(EC6,1) N(ED0,10)
    L(EDC,4) L(F00,1) N(F20,20) L(F40,8) L(F49,36) L(F88,5) L(1000,43) L(103F,1) N(1040,10) L(1050,6)
    L(105A,4) L(1061,1) L(1065,2) L(106E,3) L(1075,13) L(108E,1) N(1090,10) L(10A0,38) L(10C7,1) L(10CD,1)
    L(10D0,43) L(10FC,333) L(124A,4) L(1250,7) L(1258,1) L(125A,4) L(1260,41) L(128A,4) L(1290,33) L(12B2,4)
    L(12B8,7) L(12C0,1) L(12C2,4) L(12C8,15) L(12D8,57) L(1312,4) L(1318,67) N(1369,20) L(1380,16) L(13A0,86)
    L(13F8,6) L(1401,620) L(166F,17) S(1680,1) L(1681,26) L(16A0,75) N(16EE,3) L(16F1,8) L(1700,18) L(171F,19)
    L(1740,18) L(1760,13) L(176E,3) L(1780,52) L(17D7,1) L(17DC,1) N(17E0,10) N(17F0,10) N(1810,10) L(1820,89)
    L(1880,5) L(1887,34) L(18AA,1) L(18B0,70) L(1900,31) N(1946,10) L(1950,30) L(1970,5) L(1980,44) L(19B0,26)
    N(19D0,11) L(1A00,23) L(1A20,53) N(1A80,10) N(1A90,10) L(1AA7,1) L(1B05,47) L(1B45,8) N(1B50,10)
    L(1B83,30) L(1BAE,2) N(1BB0,10) L(1BBA,44) L(1C00,36) N(1C40,10) L(1C4D,3) N(1C50,10) L(1C5A,36) L(1C80,9)
    L(1C90,43) L(1CBD,3) L(1CE9,4) L(1CEE,6) L(1CF5,2) L(1CFA,1) L(1D00,192) L(1E00,278) L(1F18,6) L(1F20,38)
    L(1F48,6) L(1F50,8) L(1F59,1) L(1F5B,1) L(1F5D,1) L(1F5F,31) L(1F80,53) L(1FB6,7) L(1FBE,1) L(1FC2,3)
    L(1FC6,7) L(1FD0,4) L(1FD6,6) L(1FE0,13) L(1FF2,3) L(1FF6,7) S(2000,11) S(2028,2) S(202F,1) S(205F,1)
    N(2070,1) L(2071,1) N(2074,6) L(207F,1) N(2080,10) L(2090,13) L(2102,1) L(2107,1) L(210A,10) L(2115,1)
    L(2119,5) L(2124,1) L(2126,1) L(2128,1) L(212A,4) L(212F,11) L(213C,4) L(2145,5) L(214E,1) N(2150,51)
    L(2183,2) N(2185,5) N(2460,60) N(24EA,22) N(2776,30) L(2C00,229) L(2CEB,4) L(2CF2,2) N(2CFD,1) L(2D00,38)
    L(2D27,1) L(2D2D,1) L(2D30,56) L(2D6F,1) L(2D80,23) L(2DA0,7) L(2DA8,7) L(2DB0,7) L(2DB8,7) L(2DC0,7)
    L(2DC8,7) L(2DD0,7) L(2DD8,7) L(2E2F,1) S(3000,1) L(3005,2) N(3007,1) N(3021,9) L(3031,5) N(3038,3)
    L(303B,2) L(3041,86) L(309D,3) L(30A1,90) L(30FC,4) L(3105,43) L(3131,94) N(3192,4) L(31A0,32) L(31F0,16)
    N(3220,10) N(3248,8) N(3251,15) N(3280,10) N(32B1,15) L(3400,6592) L(4E00,22157) L(A4D0,46) L(A500,269)
    L(A610,16) N(A620,10) L(A62A,2) L(A640,47) L(A67F,31) L(A6A0,70) N(A6E6,10) L(A717,9) L(A722,103)
    L(A78B,64) L(A7D0,2) L(A7D3,1) L(A7D5,5) L(A7F2,16) L(A803,3) L(A807,4) L(A80C,23) N(A830,6) L(A840,52)
    L(A882,50) N(A8D0,10) L(A8F2,6) L(A8FB,1) L(A8FD,2) N(A900,10) L(A90A,28) L(A930,23) L(A960,29) L(A984,47)
    L(A9CF,1) N(A9D0,10) L(A9E0,5) L(A9E6,10) N(A9F0,10) L(A9FA,5) L(AA00,41) L(AA40,3) L(AA44,8) N(AA50,10)
    L(AA60,23) L(AA7A,1) L(AA7E,50) L(AAB1,1) L(AAB5,2) L(AAB9,5) L(AAC0,1) L(AAC2,1) L(AADB,3) L(AAE0,11)
    L(AAF2,3) L(AB01,6) L(AB09,6) L(AB11,6) L(AB20,7) L(AB28,7) L(AB30,43) L(AB5C,14) L(AB70,115) N(ABF0,10)
    L(AC00,11172) L(D7B0,23) L(D7CB,49) L(F900,366) L(FA70,106) L(FB00,7) L(FB13,5) L(FB1D,1) L(FB1F,10)
    L(FB2A,13) L(FB38,5) L(FB3E,1) L(FB40,2) L(FB43,2) L(FB46,108) L(FBD3,363) L(FD50,64) L(FD92,54)
    L(FDF0,12) L(FE70,5) L(FE76,135) N(FF10,10) L(FF21,26) L(FF41,26) L(FF66,89) L(FFC2,6) L(FFCA,6) L(FFD2,6)
    L(FFDA,3) L(10000,12) L(1000D,26) L(10028,19) L(1003C,2) L(1003F,15) L(10050,14) L(10080,123) N(10107,45)
    N(10140,57) N(1018A,2) L(10280,29) L(102A0,49) N(102E1,27) L(10300,32) N(10320,4) L(1032D,20) N(10341,1)
    L(10342,8) N(1034A,1) L(10350,38) L(10380,30) L(103A0,36) L(103C8,8) N(103D1,5) L(10400,158) N(104A0,10)
    L(104B0,36) L(104D8,36) L(10500,40) L(10530,52) L(10570,11) L(1057C,15) L(1058C,7) L(10594,2) L(10597,11)
    L(105A3,15) L(105B3,7) L(105BB,2) L(10600,311) L(10740,22) L(10760,8) L(10780,6) L(10787,42) L(107B2,9)
    L(10800,6) L(10808,1) L(1080A,44) L(10837,2) L(1083C,1) L(1083F,23) N(10858,8) L(10860,23) N(10879,7)
    L(10880,31) N(108A7,9) L(108E0,19) L(108F4,2) N(108FB,5) L(10900,22) N(10916,6) L(10920,26) L(10980,56)
    N(109BC,2) L(109BE,2) N(109C0,16) N(109D2,46) L(10A00,1) L(10A10,4) L(10A15,3) L(10A19,29) N(10A40,9)
    L(10A60,29) N(10A7D,2) L(10A80,29) N(10A9D,3) L(10AC0,8) L(10AC9,28) N(10AEB,5) L(10B00,54) L(10B40,22)
    N(10B58,8) L(10B60,19) N(10B78,8) L(10B80,18) N(10BA9,7) L(10C00,73) L(10C80,51) L(10CC0,51) N(10CFA,6)
    L(10D00,36) N(10D30,10) N(10E60,31) L(10E80,42) L(10EB0,2) L(10F00,29) N(10F1D,10) L(10F27,1) L(10F30,22)
    N(10F51,4) L(10F70,18) L(10FB0,21) N(10FC5,7) L(10FE0,23) L(11003,53) N(11052,30) L(11071,2) L(11075,1)
    L(11083,45) L(110D0,25) N(110F0,10) L(11103,36) N(11136,10) L(11144,1) L(11147,1) L(11150,35) L(11176,1)
    L(11183,48) L(111C1,4) N(111D0,10) L(111DA,1) L(111DC,1) N(111E1,20) L(11200,18) L(11213,25) L(1123F,2)
    L(11280,7) L(11288,1) L(1128A,4) L(1128F,15) L(1129F,10) L(112B0,47) N(112F0,10) L(11305,8) L(1130F,2)
    L(11313,22) L(1132A,7) L(11332,2) L(11335,5) L(1133D,1) L(11350,1) L(1135D,5) L(11400,53) L(11447,4)
    N(11450,10) L(1145F,3) L(11480,48) L(114C4,2) L(114C7,1) N(114D0,10) L(11580,47) L(115D8,4) L(11600,48)
    L(11644,1) N(11650,10) L(11680,43) L(116B8,1) N(116C0,10) L(11700,27) N(11730,12) L(11740,7) L(11800,44)
    L(118A0,64) N(118E0,19) L(118FF,8) L(11909,1) L(1190C,8) L(11915,2) L(11918,24) L(1193F,1) L(11941,1)
    N(11950,10) L(119A0,8) L(119AA,39) L(119E1,1) L(119E3,1) L(11A00,1) L(11A0B,40) L(11A3A,1) L(11A50,1)
    L(11A5C,46) L(11A9D,1) L(11AB0,73) L(11C00,9) L(11C0A,37) L(11C40,1) N(11C50,29) L(11C72,30) L(11D00,7)
    L(11D08,2) L(11D0B,38) L(11D46,1) N(11D50,10) L(11D60,6) L(11D67,2) L(11D6A,32) L(11D98,1) N(11DA0,10)
    L(11EE0,19) L(11F02,1) L(11F04,13) L(11F12,34) N(11F50,10) L(11FB0,1) N(11FC0,21) L(12000,922)
    N(12400,111) L(12480,196) L(12F90,97) L(13000,1072) L(13441,6) L(14400,583) L(16800,569) L(16A40,31)
    N(16A60,10) L(16A70,79) N(16AC0,10) L(16AD0,30) L(16B00,48) L(16B40,4) N(16B50,10) N(16B5B,7) L(16B63,21)
    L(16B7D,19) L(16E40,64) N(16E80,23) L(16F00,75) L(16F50,1) L(16F93,13) L(16FE0,2) L(16FE3,1) L(17000,6136)
    L(18800,1238) L(18D00,9) L(1AFF0,4) L(1AFF5,7) L(1AFFD,2) L(1B000,291) L(1B132,1) L(1B150,3) L(1B155,1)
    L(1B164,4) L(1B170,396) L(1BC00,107) L(1BC70,13) L(1BC80,9) L(1BC90,10) N(1D2C0,20) N(1D2E0,20)
    N(1D360,25) L(1D400,85) L(1D456,71) L(1D49E,2) L(1D4A2,1) L(1D4A5,2) L(1D4A9,4) L(1D4AE,12) L(1D4BB,1)
    L(1D4BD,7) L(1D4C5,65) L(1D507,4) L(1D50D,8) L(1D516,7) L(1D51E,28) L(1D53B,4) L(1D540,5) L(1D546,1)
    L(1D54A,7) L(1D552,340) L(1D6A8,25) L(1D6C2,25) L(1D6DC,31) L(1D6FC,25) L(1D716,31) L(1D736,25)
    L(1D750,31) L(1D770,25) L(1D78A,31) L(1D7AA,25) L(1D7C4,8) N(1D7CE,50) L(1DF00,31) L(1DF25,6) L(1E030,62)
    L(1E100,45) L(1E137,7) N(1E140,10) L(1E14E,1) L(1E290,30) L(1E2C0,44) N(1E2F0,10) L(1E4D0,28) N(1E4F0,10)
    L(1E7E0,7) L(1E7E8,4) L(1E7ED,2) L(1E7F0,15) L(1E800,197) N(1E8C7,9) L(1E900,68) L(1E94B,1) N(1E950,10)
    N(1EC71,59) N(1ECAD,3) N(1ECB1,4) N(1ED01,45) N(1ED2F,15) L(1EE00,4) L(1EE05,27) L(1EE21,2) L(1EE24,1)
    L(1EE27,1) L(1EE29,10) L(1EE34,4) L(1EE39,1) L(1EE3B,1) L(1EE42,1) L(1EE47,1) L(1EE49,1) L(1EE4B,1)
    L(1EE4D,3) L(1EE51,2) L(1EE54,1) L(1EE57,1) L(1EE59,1) L(1EE5B,1) L(1EE5D,1) L(1EE5F,1) L(1EE61,2)
    L(1EE64,1) L(1EE67,4) L(1EE6C,7) L(1EE74,4) L(1EE79,4) L(1EE7E,1) L(1EE80,10) L(1EE8B,17) L(1EEA1,3)
    L(1EEA5,5) L(1EEAB,17) N(1F100,13) N(1FBF0,10) L(20000,42720) L(2A700,4154) L(2B740,222) L(2B820,5762)
    L(2CEB0,7473) L(2F800,542) L(30000,4939) L(31350,4192)
};
// ---- end of what dev/unicode.py wrote
#undef L
#undef N
#undef S

// Length of the character at s (n > 0 bytes), and its code. A byte that begins no valid UTF-8 (RFC 3629) is a
// character by itself, of the code NONE: so any bytes at all are a string of characters.
static size_t utf8(const uint8_t *s, size_t n, uint32_t *code) {
    static const uint32_t LEAST[] = {0, 0, 0x80, 0x800, 0x10000};     // smaller codes have a shorter form
    uint32_t c = s[0];
    size_t len = c < 0xC0 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF8 ? 4 : 1;
    *code = c < 0x80 ? c : NONE;
    if (len == 1 || len > n) return 1;
    c &= 0x7Fu >> len;
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xC0) != 0x80) return 1;
        c = c << 6 | (s[i] & 0x3Fu);
    }
    if (c < LEAST[len] || (c >= 0xD800 && c <= 0xDFFF) || c > 0x10FFFF) return 1;
    *code = c;
    return len;
}

// Class of the character at s (n > 0 bytes), and its length.
static int class_of(const uint8_t *s, size_t n, size_t *len) {
    *len = 1;
    if (ASCII_CLASS[s[0]]) return ASCII_CLASS[s[0]];
    uint32_t code;
    *len = utf8(s, n, &code);
    size_t lo = 0, hi = sizeof RUN / sizeof RUN[0];    // run lo-1 begins at code or before, run hi behind
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (RUN[mid].from <= code) lo = mid + 1;
        else hi = mid;
    }
    return lo > 0 && code - RUN[lo - 1].from < RUN[lo - 1].count ? RUN[lo - 1].class : OTHER;
}

// ---- pre-tokens -------------------------------------------------------------------------------------------
// GPT-2 cuts text with the regular expression
//     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// that is: contractions; runs of letters, of numbers, of others, each with one space before it, if any; and
// runs of white space, which leave their last character to what follows unless it is their only one. SmolLM
// first cuts every number character off as a piece of its own. What came later is cl100k_base's
//     (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*
//     |\s*[\r\n]+|\s+(?!\S)|\s+
// which lets any other character before letters, few numbers together, and lines end with their line feeds;
// Qwen2's has \p{N} in place of \p{N}{1,3}.

// Length of the contraction at s (n > 0 bytes), 0: none. Of letters beyond ASCII only the long s, U+017F, is
// another letter's case.
static size_t contraction(const uint8_t *s, size_t n, bool any_case) {
    if (s[0] != '\'' || n < 2) return 0;
    uint8_t fold = any_case ? 0x20 : 0, a = s[1] | fold, b = n > 2 ? s[2] | fold : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (any_case && n > 2 && s[1] == 0xC5 && s[2] == 0xBF) return 3;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

// Bytes of the characters of a class that s begins with, of at most `most` of them.
static size_t run(const uint8_t *s, size_t n, int class, size_t most) {
    size_t i = 0, len;
    for (; i < n && most > 0 && class_of(s + i, n - i, &len) == class; most--) i += len;
    return i;
}

// White space at s (n bytes): with `lines`, up to the last line feed of the run, if it has one. Otherwise all
// of it but the last character if something follows; before SmolLM's numbers all of it.
static size_t spaces(TokKind kind, const uint8_t *s, size_t n) {
    size_t i = 0, last = 0, line = 0, len;
    int class = SPACE;
    while (i < n && (class = class_of(s + i, n - i, &len)) == SPACE) {
        last = i;
        i += len;
        if (s[last] == '\r' || s[last] == '\n') line = i;
    }
    if (line > 0 && (kind == TOK_CL100K || kind == TOK_QWEN2)) return line;
    return i < n && last > 0 && !(kind == TOK_SMOLLM && class == NUMBER) ? last : i;
}

// Length of the pre-token at s (n > 0 bytes): GPT-2's and SmolLM's.
static size_t pretoken_gpt2(TokKind kind, const uint8_t *s, size_t n) {
    size_t len = contraction(s, n, false), i = s[0] == ' ' && n > 1;
    if (len) return len;
    int class = class_of(s + i, n - i, &len);
    if (class == SPACE) return spaces(kind, s, n);
    if (class == NUMBER && kind == TOK_SMOLLM) return i ? i : len;
    return i + run(s + i, n - i, class, n);
}

// The same for cl100k_base and Qwen2.
static size_t pretoken_cl100k(TokKind kind, const uint8_t *s, size_t n) {
    size_t len = contraction(s, n, true), first, i, end;
    if (len) return len;
    int class = class_of(s, n, &first);
    if (class == NUMBER) return run(s, n, NUMBER, kind == TOK_CL100K ? 3 : 1);
    i = class == LETTER || s[0] == '\r' || s[0] == '\n' ? 0 : first;
    if ((end = run(s + i, n - i, LETTER, n)) > 0) return i + end;
    i = s[0] == ' ';
    if ((end = run(s + i, n - i, OTHER, n)) == 0) return spaces(kind, s, n);
    for (i += end; i < n && (s[i] == '\r' || s[i] == '\n'); i++) continue;
    return i;
}

static size_t pretoken(TokKind kind, const uint8_t *s, size_t n) {
    return kind == TOK_CL100K || kind == TOK_QWEN2 ? pretoken_cl100k(kind, s, n) : pretoken_gpt2(kind, s, n);
}

// ---- tables -----------------------------------------------------------------------------------------------
// Merging asks two hash tables with open addressing, which tokenizer_index makes:
//     t->slot          which merge joins left and right?        entries: its number + 1, 0: a free place
//     t->first + 256   which token has exactly these bytes?     entries: its id + 1, 0: a free place
// The second holds only tokens that can be told from their bytes alone. In front of it lie the ids (not + 1)
// of the tokens of the 256 single bytes. A search gives up after PROBES places: so no file can make it slow.

// The bytes of token id, which stay t's, and how many; none if there is no such token.
const uint8_t *tokenizer_decode(const Tokenizer *t, int32_t id, size_t *n) {
    bool known = id >= 0 && (uint32_t)id < t->vocab;
    *n = known ? t->start[id + 1] - t->start[id] : 0;
    return known ? t->bytes + t->start[id] : t->bytes;
}

static bool token_is(const Tokenizer *t, int32_t id, const uint8_t *s, size_t n) {
    size_t m;
    const uint8_t *bytes = tokenizer_decode(t, id, &m);
    return m == n && !memcmp(bytes, s, n);
}

// Order of two tokens by their bytes, as in a dictionary, and of equals by their ids: < 0, 0, > 0.
static int compare_tokens(const Tokenizer *t, int32_t a, int32_t b) {
    size_t n, m;
    const uint8_t *s = tokenizer_decode(t, a, &n), *r = tokenizer_decode(t, b, &m);
    int order = memcmp(s, r, n < m ? n : m);
    return order ? order : n != m ? (n > m) - (n < m) : (a > b) - (a < b);
}

// Places of a hash table for n entries: a power of two, at least twice as many.
static uint64_t places(uint64_t n) {
    uint64_t size = 2;
    while (size < 2 * n) size *= 2;
    return size;
}

static const uint64_t MIX = 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio: any bit changes the upper half

static uint32_t hash_pair(int32_t left, int32_t right) {
    uint64_t h = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    return (uint32_t)(h * MIX >> 32);
}

static uint32_t hash_bytes(const uint8_t *s, size_t n) {
    uint64_t h = n;
    for (size_t i = 0; i < n; i++) h = (h ^ s[i]) * MIX;
    return (uint32_t)(h >> 32);
}

// The place of a pair in t->slot, or the free one where it belongs, or NONE: too many others are in the way.
static uint32_t pair_place(const Tokenizer *t, int32_t left, int32_t right) {
    uint32_t h = hash_pair(left, right);
    for (uint32_t i = 0; i < PROBES; i++) {
        uint32_t at = (h + i) & t->slotmask, m = t->slot[at];
        if (m == 0 || (t->merge[m - 1].left == left && t->merge[m - 1].right == right)) return at;
    }
    return NONE;
}

// The same for bytes in t->first.
static uint32_t word_place(const Tokenizer *t, const uint8_t *s, size_t n) {
    uint32_t h = hash_bytes(s, n);
    for (uint32_t i = 0; i < PROBES; i++) {
        uint32_t at = 256 + ((h + i) & t->firstmask), m = t->first[at];
        if (m == 0 || token_is(t, (int32_t)m - 1, s, n)) return at;
    }
    return NONE;
}

// The token in t->first that has these bytes, -1: none.
static int32_t find_word(const Tokenizer *t, const uint8_t *s, size_t n) {
    uint32_t at = word_place(t, s, n);
    return at == NONE ? -1 : (int32_t)t->first[at] - 1;
}

// ---- merging ----------------------------------------------------------------------------------------------
// Symbols, each a token, are a doubly linked list. A binary heap has a key for each pair of neighbours that a
// merge joins: its rank and, below it, its position, so that the smallest key is the leftmost pair of the
// smallest rank. A merge makes the keys of neighbours stale; they stay and are recognised when they come up.
// Of n symbols there are at most n - 1 keys at first, and n - 1 merges that each take one key and add two:
// never more than 2n keys, and O(n log n) steps for any text.
typedef struct {
    int32_t id;
    uint32_t prev, next;                          // neighbours, NONE at the ends
    uint32_t merge;                               // the merge that joins it to the next, NONE: none
} Symbol;

typedef struct {
    const Tokenizer *t;
    Symbol *symbol;                               // (n)
    uint64_t *heap;                               // (2n) no key i is smaller than its parent, (i - 1) / 2
    size_t keys;
} Merging;

static void heap_push(Merging *w, uint64_t key) {
    size_t i = w->keys++;
    while (i > 0 && w->heap[(i - 1) / 2] > key) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = key;
}

static uint64_t heap_pop(Merging *w) {
    uint64_t top = w->heap[0], last = w->heap[--w->keys];
    size_t i = 0;
    for (size_t child = 1; child < w->keys; child = 2 * i + 1) {
        if (child + 1 < w->keys && w->heap[child + 1] < w->heap[child]) child++;
        if (w->heap[child] >= last) break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

// Symbol i or its next one is new: which merge joins them?
static void look_up(Merging *w, uint32_t i) {
    Symbol *s = &w->symbol[i];
    s->merge = NONE;
    if (s->next == NONE) return;
    uint32_t at = pair_place(w->t, s->id, w->symbol[s->next].id);
    if (at == NONE || w->t->slot[at] == 0) return;
    s->merge = w->t->slot[at] - 1;
    heap_push(w, (uint64_t)w->t->merge[s->merge].rank << 32 | i);
}

// Byte-level: the symbols that n bytes begin as. Bytes that are no tokens are left out.
static uint32_t byte_symbols(const Tokenizer *t, const uint8_t *s, size_t n, Symbol *symbol) {
    uint32_t count = 0;
    for (size_t k = 0; k < n; k++)
        if (t->first[s[k]] != NONE) symbol[count++].id = (int32_t)t->first[s[k]];
    return count;
}

// Merges n symbols, of which only the ids are set; writes those that remain to out and returns how many.
// Scratch: the symbols, and the heap (2n).
static size_t merge(const Tokenizer *t, Symbol *symbol, uint32_t n, uint64_t *heap, int32_t *out) {
    Merging w = {t, symbol, heap, 0};
    for (uint32_t i = 0; i < n; i++) {
        symbol[i].prev = i > 0 ? i - 1 : NONE;
        symbol[i].next = i < n - 1 ? i + 1 : NONE;
    }
    for (uint32_t i = 0; i < n; i++) look_up(&w, i);
    while (w.keys > 0) {
        uint64_t key = heap_pop(&w);
        uint32_t i = (uint32_t)key;
        Symbol *left = &symbol[i];
        if (left->merge == NONE || t->merge[left->merge].rank != key >> 32) continue;    // stale
        Symbol *right = &symbol[left->next];
        right->merge = NONE;                      // gone
        left->id = t->merge[left->merge].result;
        left->next = right->next;
        if (left->next != NONE) symbol[left->next].prev = i;
        look_up(&w, i);
        if (left->prev != NONE) look_up(&w, left->prev);
    }
    size_t count = 0;
    for (uint32_t i = n > 0 ? 0 : NONE; i != NONE; i = symbol[i].next) out[count++] = symbol[i].id;
    return count;
}

// ---- special tokens ---------------------------------------------------------------------------------------
// t->special is sorted by bytes, so that special tokens which begin alike are neighbours, and a binary search
// for each byte of the text narrows them down.

// Of t->special[lo..hi), which agree in their first i bytes, the first whose next byte is at least `byte`.
static uint32_t special_from(const Tokenizer *t, uint32_t lo, uint32_t hi, size_t i, int byte) {
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        size_t n;
        const uint8_t *s = tokenizer_decode(t, t->special[mid], &n);
        if (i < n && s[i] >= byte) hi = mid;
        else lo = mid + 1;
    }
    return lo;
}

// The longest special token at s (n bytes), -1: none.
static int32_t special_at(const Tokenizer *t, const uint8_t *s, size_t n) {
    int32_t longest = -1;
    uint32_t lo = 0, hi = t->specials;            // those that begin with the first i bytes of s
    for (size_t i = 0; i < n && lo < hi; i++) {
        lo = special_from(t, lo, hi, i, s[i]);
        hi = special_from(t, lo, hi, i, s[i] + 1);
        if (lo < hi && token_is(t, t->special[lo], s, i + 1)) longest = t->special[lo];
    }
    return longest;
}

// The special token that is this text, -1: none.
int32_t tokenizer_find(const Tokenizer *t, const char *special) {
    const uint8_t *s = (const uint8_t *)special;
    size_t n = strlen(special);
    int32_t id = special_at(t, s, n);
    return id >= 0 && token_is(t, id, s, n) ? id : -1;
}

// ---- index ------------------------------------------------------------------------------------------------

// Three arrays of 4-byte numbers: slot, first, special.
size_t tokenizer_index_size(uint32_t vocab, uint32_t merges) {
    return to_size(4 * (places(merges) + (256 + places(vocab)) + vocab));
}

// Counts, ids, starts and flags, in an order in which nothing is used before it is checked.
static int check_tokens(const Tokenizer *t, Fault *f) {
    bool none = t->kind == TOK_NONE;
    int64_t vocab = t->vocab;
    if (check(f, "tokenizer: kind", (int64_t)t->kind, TOK_NONE, TOK_KINDS - 1) ||
        check(f, "tokenizer: tokens", vocab, none ? 0 : 256, none ? 0 : VOCAB_MAX) ||
        check(f, "tokenizer: merges", t->merges, 0, none ? 0 : MERGES_MAX) ||
        check(f, "tokenizer: end-of-text id", t->eot, -1, vocab - 1) ||
        check(f, "tokenizer: begin-of-text id", t->bos, -1, vocab - 1) ||
        (!none && check(f, "tokenizer: start of the first token", t->start[0], 0, 0)))
        return -1;
    int flags = t->kind == TOK_SCORED ? TOKEN_BYTE : TOKEN_SPECIAL;
    const int64_t least[] = {1, 0, 1}, most[] = {UINT32_MAX, SPECIAL_BYTES, 1};    // bytes, by flag
    for (uint32_t i = 0; i < t->vocab; i++) {
        uint32_t from = t->start[i], to = t->start[i + 1];
        if (check(f, "tokenizer: flag of a token", t->flag[i], 0, flags) ||
            check(f, "tokenizer: end of a token", to, from, UINT32_MAX) ||
            check(f, "tokenizer: bytes of a token", to - from, least[t->flag[i]], most[t->flag[i]]))
            return -1;
    }
    return 0;
}

// Are merge m's tokens there, none of them special, and is its result left followed by right?
static bool is_sound(const Tokenizer *t, const Merge *m) {
    const int32_t id[3] = {m->left, m->right, m->result};
    const uint8_t *s[3];
    size_t n[3];
    for (int i = 0; i < 3; i++) {
        if (id[i] < 0 || (uint32_t)id[i] >= t->vocab || t->flag[id[i]] == TOKEN_SPECIAL) return false;
        s[i] = tokenizer_decode(t, id[i], &n[i]);
    }
    if (n[0] > n[2] || n[1] != n[2] - n[0]) return false;
    return !memcmp(s[2], s[0], n[0]) && !memcmp(s[2] + n[0], s[1], n[1]);
}

// t->slot: all merges. A fault tells how many were sound, the next one being wrong or there twice.
static int index_merges(const Tokenizer *t, uint32_t *slot, Fault *f) {
    for (uint32_t i = 0; i < t->merges; i++) {
        const Merge *m = &t->merge[i];
        uint32_t at = is_sound(t, m) ? pair_place(t, m->left, m->right) : NONE;
        if (at == NONE || slot[at]) return check(f, "tokenizer: sound merges", i, t->merges, t->merges);
        slot[at] = i + 1;
    }
    return 0;
}

// t->first[0..255]: the single bytes. Byte-level vocabularies may lack some, which t->missing counts.
static int index_bytes(Tokenizer *t, uint32_t *first, Fault *f) {
    uint32_t found = 0;
    int flag = t->kind == TOK_SCORED ? TOKEN_BYTE : TOKEN_NORMAL;
    for (uint32_t i = t->vocab; i-- > 0;) {       // downwards: of equal tokens the smallest id remains
        uint32_t at = t->start[i];
        if (t->flag[i] != flag || t->start[i + 1] - at != 1) continue;
        found += first[t->bytes[at]] == NONE;
        first[t->bytes[at]] = i;
    }
    t->missing = 256 - found;
    return check(f, "tokenizer: single bytes that are tokens", found, t->kind == TOK_SCORED ? 256 : 1, 256);
}

// Can token i be told from its bytes alone? TOK_SCORED: if they are one character, which then begins as it.
// TOK_CL100K: always. Else if they merge to it; so a common pre-token costs one search instead of several for
// each byte.
static bool is_word(const Tokenizer *t, int32_t i) {
    Symbol symbol[WORD_BYTES];
    uint64_t heap[2 * WORD_BYTES];
    int32_t out[WORD_BYTES];
    uint32_t code;
    size_t n;
    const uint8_t *s = tokenizer_decode(t, i, &n);
    if (t->flag[i] != TOKEN_NORMAL) return false;
    if (t->kind == TOK_CL100K) return true;
    if (t->kind == TOK_SCORED) return utf8(s, n, &code) == n && code != NONE;
    return n <= WORD_BYTES && merge(t, symbol, byte_symbols(t, s, n, symbol), heap, out) == 1 && out[0] == i;
}

// t->first[256..]: the tokens that can be told from their bytes; of equal ones the smallest id.
static int index_words(const Tokenizer *t, uint32_t *first, Fault *f) {
    for (int32_t i = 0; i < (int32_t)t->vocab; i++) {
        if (!is_word(t, i)) continue;
        size_t n;
        const uint8_t *s = tokenizer_decode(t, i, &n);
        uint32_t at = word_place(t, s, n);
        if (at == NONE) return check(f, "tokenizer: tokens whose hashes differ", i, t->vocab, t->vocab);
        if (first[at] == 0) first[at] = (uint32_t)i + 1;
    }
    return 0;
}

// t->special: all but empty ones, which only fill a vocabulary. Shell's sort with Knuth's gaps 1, 4, 13, ...
static int index_specials(Tokenizer *t, int32_t *special, Fault *f) {
    uint32_t n = 0, gap = 1;
    for (uint32_t i = 0; i < t->vocab; i++)
        if (t->flag[i] == TOKEN_SPECIAL && t->start[i + 1] > t->start[i]) special[n++] = (int32_t)i;
    while (gap < n / 3) gap = 3 * gap + 1;
    for (; gap > 0 && n <= SPECIALS_MAX; gap /= 3) {
        for (uint32_t i = gap; i < n; i++) {
            int32_t id = special[i];
            uint32_t at = i;
            for (; at >= gap && compare_tokens(t, special[at - gap], id) > 0; at -= gap)
                special[at] = special[at - gap];
            special[at] = id;
        }
    }
    t->specials = n;
    return check(f, "tokenizer: special tokens", n, 0, SPECIALS_MAX);
}

// memory: tokenizer_index_size bytes, 4-byte aligned, the caller's; t needs it from now on. The caller
// warrants that the arrays are as long as vocab, merges and start[vocab] say. Errors: any number in them.
int tokenizer_index(Tokenizer *t, void *memory, Fault *f) {
    if (check_tokens(t, f)) return -1;
    uint32_t *slot = memory, *first = slot + places(t->merges);
    int32_t *special = (int32_t *)(first + 256 + places(t->vocab));
    memset(memory, 0, tokenizer_index_size(t->vocab, t->merges));
    memset(first, 0xFF, 256 * sizeof *first);
    t->slot = slot;
    t->slotmask = (uint32_t)places(t->merges) - 1;
    t->first = first;
    t->firstmask = (uint32_t)places(t->vocab) - 1;
    t->special = special;
    t->specials = 0;
    if (t->kind == TOK_NONE) return 0;
    if (index_bytes(t, first, f) || index_merges(t, slot, f) || index_words(t, first, f)) return -1;
    return index_specials(t, special, f);
}

// ---- encode -----------------------------------------------------------------------------------------------

// An id for each byte and one for add_space. The longest that form NFC makes of a text is three times as long.
size_t tokenizer_most(const Tokenizer *t, size_t n) {
    return n > TEXT_MAX ? SIZE_MAX : to_size((t->kind == TOK_QWEN2 ? 3 : 1) * (uint64_t)n + 1);
}

// Scratch for the worst case, a text that is one pre-token; what short ones do not need is not touched.
size_t tokenizer_encode_size(const Tokenizer *t, size_t n) {
    uint64_t most = tokenizer_most(t, n);
    return most > NONE ? SIZE_MAX : to_size(most * (sizeof(Symbol) + 2 * sizeof(uint64_t)));
}

// Byte-level: each pre-token by itself, most of them found whole.
static size_t encode_words(const Tokenizer *t, const uint8_t *s, size_t n, int32_t *out, Symbol *symbol) {
    size_t count = 0, len;
    for (size_t i = 0; i < n; i += len) {
        len = pretoken(t->kind, s + i, n - i);
        int32_t id = len <= WORD_BYTES || t->kind == TOK_CL100K ? find_word(t, s + i, len) : -1;
        if (id >= 0) out[count++] = id;
        else count += merge(t, symbol, byte_symbols(t, s + i, len, symbol), (uint64_t *)(symbol + len), out + count);
    }
    return count;
}

// TOK_SCORED: the symbols that n bytes begin as: each character's token or, if there is none, its bytes'.
static uint32_t characters(const Tokenizer *t, const uint8_t *s, size_t n, Symbol *symbol) {
    uint32_t count = 0, code;
    size_t len;
    for (size_t i = 0; i < n; i += len) {
        len = utf8(s + i, n - i, &code);
        int32_t id = find_word(t, s + i, len);
        if (id >= 0) symbol[count++].id = id;
        else for (size_t k = 0; k < len; k++) symbol[count++].id = (int32_t)t->first[s[i + k]];
    }
    return count;
}

// n <= TEXT_MAX bytes of text; out (tokenizer_most); scratch: tokenizer_encode_size, 8-byte aligned; all of it
// the caller's. add_space puts its space before the first text that is not a special token.
size_t tokenizer_encode(const Tokenizer *t, const uint8_t *text, size_t n, bool special, int32_t *out,
                        void *scratch) {
    bool begins[256] = {false};                   // does a special token begin with this byte?
    for (uint32_t i = 0; special && i < t->specials; i++) begins[t->bytes[t->start[t->special[i]]]] = true;
    bool space = t->add_space;
    Symbol *symbol = scratch;
    size_t count = 0, stop, len;
    for (size_t i = 0; i < n; i = stop + len) {   // text[i..stop) is plain, then comes the special token id
        int32_t id = -1;
        for (stop = i; stop < n; stop++)
            if (begins[text[stop]] && (id = special_at(t, text + stop, n - stop)) >= 0) break;
        if (stop > i && t->kind != TOK_SCORED && t->kind != TOK_NONE)
            count += encode_words(t, text + i, stop - i, out + count, symbol);
        if (stop > i && t->kind == TOK_SCORED) {
            uint32_t m = space ? characters(t, (const uint8_t *)" ", 1, symbol) : 0;
            m += characters(t, text + i, stop - i, symbol + m);
            count += merge(t, symbol, m, (uint64_t *)(symbol + m), out + count);
            space = false;
        }
        tokenizer_decode(t, id, &len);
        if (id >= 0) out[count++] = id;
    }
    return count;
}

// ---- train ------------------------------------------------------------------------------------------------
// Only distinct pre-tokens are kept, as pieces in one array, at first a piece for each byte. A piece weighs
// as much as the text has copies of its pre-token. The places of a pair of neighbours form a ring, from left
// to right, which the pair's record enters at the leftmost: so a merge touches only its places and their
// neighbours.
//
// Two facts keep this small. All places of a pair arise in one merge, that of its newer token: so in that
// merge its other token tells it from all other pairs, and its ring, which grows from left to right, is in
// order. And no two pairs give the same bytes: where such bytes begin and end at borders of pieces, nothing
// outside was merged into them, so they are split alike everywhere, and the first pair to give them took all
// these places.
typedef struct {
    int32_t id;                                   // its token
    uint32_t prev, next;                          // neighbours in the pre-token, NONE at its ends
    uint32_t weight;
    uint32_t pair;                                // the pair that it forms with the next piece, NONE: none
    uint32_t before, after;                       // the places around this one in the pair's ring
} Piece;

typedef struct {
    uint32_t weight;                              // of all its places; 0: a spare record
    uint32_t place;                               // the leftmost piece; of a spare record: the next spare one
} Pair;

typedef struct {
    Tokenizer *t;                                 // what was learned so far; its arrays, for writing:
    uint32_t *start;
    uint8_t *bytes, *flag;
    Merge *merge;
    Piece *piece;                                 // (n)
    Pair *pair;                                   // (n) no more, since every pair has a place
    uint32_t *filed;                              // where a pair's record was last seen; see file_pair
    uint32_t *word, wordmask;                     // hash table: pre-token -> its first piece + 1, 0: free
    uint32_t pieces, pairs, spare;                // pieces, records in use; the first spare record or NONE
} Training;

// The next `bytes` of the caller's memory, or NULL while the size is only being counted.
static void *part(void *memory, uint64_t *size, uint64_t bytes) {
    void *at = memory ? (uint8_t *)memory + *size : NULL;
    *size += bytes;
    return at;
}

// n <= TEXT_MAX and vocab <= VOCAB_MAX: the size is below 2^38. What must be cleared comes first.
static uint64_t train_parts(Training *w, uint64_t n, uint64_t vocab, void *memory) {
    uint64_t size = 0;
    w->filed = part(memory, &size, 4 * (vocab < 32768 ? 65536 : 2 * vocab));
    w->word = part(memory, &size, 4 * places(n / 8));
    w->wordmask = (uint32_t)places(n / 8) - 1;
    w->start = part(memory, &size, 4 * (vocab + 1));
    w->merge = part(memory, &size, vocab * sizeof(Merge));
    w->piece = part(memory, &size, n * sizeof(Piece));
    w->pair = part(memory, &size, n * sizeof(Pair));
    w->bytes = part(memory, &size, vocab * LEARNED_BYTES);
    w->flag = part(memory, &size, vocab);
    return size;
}

// About 40 bytes for each byte of text, few of which are touched: text repeats itself.
size_t tokenizer_train_size(size_t n, uint32_t vocab) {
    Training w;
    return n > TEXT_MAX || vocab > VOCAB_MAX ? SIZE_MAX : to_size(train_parts(&w, n, vocab, NULL));
}

// Is the pre-token whose first piece is p these n bytes? Before any merge, when each piece is a byte.
static bool word_is(const Training *w, uint32_t p, const uint8_t *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (w->piece[p + i].id != s[i] || (w->piece[p + i].next == NONE) != (i == n - 1)) return false;
    return true;
}

// Counts one more pre-token. If too many others are in the way, it is listed twice, which changes no sum.
static void add_word(Training *w, const uint8_t *s, size_t n) {
    uint32_t h = hash_bytes(s, n), p = w->pieces;
    for (uint32_t i = 0; i < PROBES; i++) {
        uint32_t *place = &w->word[(h + i) & w->wordmask];
        if (*place == 0) {
            *place = p + 1;
            break;
        }
        if (word_is(w, *place - 1, s, n)) {
            w->piece[*place - 1].weight++;
            return;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        Piece new = {s[i], i > 0 ? p + i - 1 : NONE, i < n - 1 ? p + i + 1 : NONE, 1, NONE, NONE, NONE};
        w->piece[p + i] = new;
    }
    w->pieces += (uint32_t)n;
}

// Counts the pre-tokens of a text. An end-of-text in it separates, and is not learned from.
static void add_text(Training *w, const uint8_t *s, size_t n) {
    size_t end = sizeof END_OF_TEXT - 1, stop, len;
    for (size_t i = 0; i < n; i = stop + end) {
        for (stop = i; stop < n; stop++)
            if (n - stop >= end && !memcmp(s + stop, END_OF_TEXT, end)) break;
        for (; i < stop; i += len) {
            len = pretoken(TOK_GPT2, s + i, stop - i);
            add_word(w, s + i, len);
        }
    }
}

static bool pair_is(const Training *w, uint32_t q, int32_t left, int32_t right) {
    if (q >= w->pairs || w->pair[q].weight == 0) return false;
    const Piece *p = &w->piece[w->pair[q].place];
    return p->id == left && w->piece[p->next].id == right;
}

// Piece p and the next one are a pair from now on. If it has a record already, that was filed under this key;
// but nothing is ever taken out of the file: whether the record is this pair's shows in the record alone.
static void file_pair(Training *w, uint32_t p, size_t key) {
    Piece *left = &w->piece[p], *right = &w->piece[left->next];
    size_t n, m;
    tokenizer_decode(w->t, left->id, &n);
    tokenizer_decode(w->t, right->id, &m);
    if (n + m > LEARNED_BYTES) return;
    uint32_t q = w->filed[key];
    if (pair_is(w, q, left->id, right->id)) {
        left->after = w->pair[q].place;           // the ring: behind the last place is the leftmost
        left->before = w->piece[left->after].before;
        w->piece[left->before].after = w->piece[left->after].before = p;
    } else {
        q = w->spare;
        if (q == NONE) q = w->pairs++;
        else w->spare = w->pair[q].place;
        w->filed[key] = q;
        w->pair[q].weight = 0;
        w->pair[q].place = left->before = left->after = p;
    }
    w->pair[q].weight += left->weight;
    left->pair = q;
}

// Piece p no longer forms the pair that it formed, if any.
static void drop_pair(Training *w, uint32_t p) {
    Piece *piece = &w->piece[p];
    uint32_t q = piece->pair;
    if (q == NONE) return;
    piece->pair = NONE;
    w->piece[piece->before].after = piece->after;
    w->piece[piece->after].before = piece->before;
    if (w->pair[q].place == p) w->pair[q].place = piece->after;
    w->pair[q].weight -= piece->weight;
    if (w->pair[q].weight > 0) return;
    w->pair[q].place = w->spare;
    w->spare = q;
}

// The heaviest pair; of equals the one whose bytes, left's, then right's, sort last. NONE: none occurs twice.
static uint32_t best_pair(const Training *w) {
    uint32_t best = NONE, weight = 2;
    for (uint32_t q = 0; q < w->pairs; q++) {
        if (w->pair[q].weight < weight) continue;
        if (w->pair[q].weight == weight && best != NONE) {
            const Piece *a = &w->piece[w->pair[q].place], *b = &w->piece[w->pair[best].place];
            int order = compare_tokens(w->t, a->id, b->id);
            if (order == 0) order = compare_tokens(w->t, w->piece[a->next].id, w->piece[b->next].id);
            if (order < 0) continue;
        }
        best = q;
        weight = w->pair[q].weight;
    }
    return best;
}

// A new token: n bytes, then m more.
static int32_t add_token(Training *w, const uint8_t *s, size_t n, const uint8_t *r, size_t m, uint8_t flag) {
    uint32_t id = w->t->vocab++;
    memcpy(w->bytes + w->start[id], s, n);
    memcpy(w->bytes + w->start[id] + n, r, m);
    w->start[id + 1] = w->start[id] + (uint32_t)(n + m);
    w->flag[id] = flag;
    return (int32_t)id;
}

// Makes pair q a token and merges it wherever it is, from left to right: of "aaa" the first two. The pairs of
// the new token are filed by their other one: from 0 on if that comes before it, from vocab on if behind.
static void learn(Training *w, uint32_t q, uint32_t vocab) {
    Piece *piece = w->piece;
    uint32_t p = w->pair[q].place;
    int32_t left = piece[p].id, right = piece[piece[p].next].id;
    size_t n, m;
    const uint8_t *s = tokenizer_decode(w->t, left, &n), *r = tokenizer_decode(w->t, right, &m);
    Merge new = {left, right, add_token(w, s, n, r, m, TOKEN_NORMAL), w->t->merges};
    w->merge[w->t->merges++] = new;
    while (pair_is(w, q, left, right)) {          // when its last place is gone, the record may be another's
        p = w->pair[q].place;
        uint32_t gone = piece[p].next, prev = piece[p].prev, next = piece[gone].next;
        drop_pair(w, p);
        drop_pair(w, gone);
        if (prev != NONE) drop_pair(w, prev);
        piece[p].id = new.result;
        piece[p].next = next;
        if (next != NONE) piece[next].prev = p;
        if (next != NONE) file_pair(w, p, vocab + (size_t)piece[next].id);
        if (prev != NONE) file_pair(w, prev, (size_t)piece[prev].id);
    }
}

// memory: tokenizer_train_size(n, vocab) bytes, 8-byte aligned, the caller's; t's arrays lie in it. t is of
// kind TOK_GPT2; it decodes at once, and encodes after tokenizer_index. Errors: n, vocab.
int tokenizer_train(Tokenizer *t, const uint8_t *text, size_t n, uint32_t vocab, void *memory, Fault *f) {
    if (check(f, "tokenizer: bytes to learn from", n < INT64_MAX ? (int64_t)n : INT64_MAX, 0, TEXT_MAX) ||
        check(f, "tokenizer: tokens to learn", vocab, 257, VOCAB_MAX)) return -1;
    Training w = {.t = t, .spare = NONE};
    train_parts(&w, n, vocab, memory);
    memset(memory, 0, (size_t)((uint8_t *)w.start - (uint8_t *)memory));
    w.start[0] = 0;
    Tokenizer empty = {.kind = TOK_GPT2, .eot = -1, .bos = -1,
                       .bytes = w.bytes, .start = w.start, .flag = w.flag, .merge = w.merge};
    *t = empty;
    for (int i = 0; i < 256; i++) {
        uint8_t byte = (uint8_t)i;
        add_token(&w, &byte, 1, &byte, 0, TOKEN_NORMAL);
    }
    add_text(&w, text, n);
    for (uint32_t p = 0; p < w.pieces; p++) {     // a pre-token was counted at its first piece
        Piece *piece = &w.piece[p];
        if (piece->prev != NONE) piece->weight = w.piece[piece->prev].weight;
        if (piece->next != NONE) file_pair(&w, p, (size_t)(256 * piece->id + w.piece[piece->next].id));
    }
    for (uint32_t q; t->vocab < vocab - 1 && (q = best_pair(&w)) != NONE;) learn(&w, q, vocab);
    const uint8_t *end = (const uint8_t *)END_OF_TEXT;
    t->eot = add_token(&w, end, sizeof END_OF_TEXT - 1, end, 0, TOKEN_SPECIAL);
    return 0;
}

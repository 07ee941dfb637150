// report_page.c -- what the page of ./report is made of: one string in memory; nothing is printed here.
//
// Read in this order: page_put, page_text, the only ways into it -> STYLE, page_begin -> Axis -> page_chart.
// Invariants. Text from outside comes in by page_text alone. There is no script, no style attribute, no
// address: the content policy names the SHA-256 of the style sheet, and a browser refuses anything else.
#include "report.h"
#include "show.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- text -------------------------------------------------------------------------------------------------

static void add(Page *p, const char *s, size_t n) {
    Err e;
    p->failed = p->failed || grow(&p->s, &p->room, p->n + n + 1, 1, &e);
    if (p->failed) return;
    memcpy(p->s + p->n, s, n);
    p->n += n;
    p->s[p->n] = 0;
}

void page_put(Page *p, const char *format, ...) {
    char s[2048];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(s, sizeof s, format, list);
    va_end(list);
    if (n < 0 || (size_t)n >= sizeof s) p->failed = true;
    else add(p, s, (size_t)n);
}

void page_text(Page *p, const char *s, size_t n, size_t most) {
    static const struct { char c; const char *as; } MARKUP[] = {
        {'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&#39;"}, {'\n', "\n"}};
    for (size_t length; n > 0; s += length, n -= length) {
        char shown[5];
        const char *as = shown;
        int columns;
        if (most-- == 0) {
            page_put(p, "&hellip;");
            return;
        }
        length = show_char(s, n, shown, &columns);
        for (size_t i = 0; i < sizeof MARKUP / sizeof *MARKUP; i++)
            if (*s == MARKUP[i].c) as = MARKUP[i].as;
        add(p, as, strlen(as));
    }
}

// Digits of a whole number in groups of three
static void put_whole(Page *p, double x) {
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%.0f", fabs(x));
    if (x < 0) page_put(p, "&minus;");
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0) add(p, ",", 1);
        add(p, &digits[i], 1);
    }
}

void page_number(Page *p, double x) {
    if (fabs(x) < 1e15 && x == floor(x)) put_whole(p, x);
    else page_put(p, "%.4g", x);
}

void page_cell(Page *p, double x) {
    page_put(p, "<td class=\"n\">");
    page_number(p, x);
    page_put(p, "</td>");
}

void page_table(Page *p, const char *kind, const char *columns) {
    page_put(p, "<div class=\"wide\"><table class=\"%s\"><thead><tr>", kind);
    for (;;) {
        size_t n = strcspn(columns, "|");
        bool number = *columns == '#';
        page_put(p, "<th%s>%.*s</th>", number ? " class=\"n\"" : "", (int)n - number, columns + number);
        if (columns[n] == 0) break;
        columns += n + 1;
    }
    page_put(p, "</tr></thead><tbody>\n");
}

void page_table_end(Page *p) { page_put(p, "</tbody></table></div>\n"); }

void page_bar(Page *p, double share, double low, double high, int colour) {
    page_put(p, "<svg class=\"bar\" viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">"
             "<rect class=\"track\" width=\"100\" height=\"10\"/><rect class=\"s%d\" width=\"%.1f\" "
             "height=\"10\"/>", colour, 100 * share);
    if (high > low)
        page_put(p, "<rect class=\"whisker\" x=\"%.1f\" y=\"4\" width=\"%.1f\" height=\"2\"/>", 100 * low,
                 100 * (high - low));
    page_put(p, "</svg>");
}

// ---- the document -----------------------------------------------------------------------------------------
// Colours: text and curves have a contrast of at least 4.5 and 3 to their ground, in light and in dark; no
// meaning hangs on colour alone. Letters inside a chart grow where the chart shrinks, on phones.

static const char *const STYLE[] = {
    ":root{color-scheme:light dark;--ground:#fdfcfa;--text:#1d2125;--soft:#59616b;--line:#d9d6d0;\n"
    "--card:#f4f2ee;--good:#1a6e3c;--bad:#a8321f;--c0:#1f5fa8;--c1:#b8500a;--c2:#1a7a5a;--c3:#8a3f9e;\n"
    "--c4:#7a6300;--c5:#a32652;--c6:#3d6b73;--c7:#5b5fc7}\n"
    "@media screen and (prefers-color-scheme:dark){:root{--ground:#15181c;--text:#e7e5e0;--soft:#a3abb5;\n"
    "--line:#3a4048;--card:#1e2227;--good:#6fce94;--bad:#ff9580;--c0:#6cb0f5;--c1:#f5a254;--c2:#5fcba3;\n"
    "--c3:#d592e8;--c4:#d8bd4a;--c5:#f58ab0;--c6:#8cc3cc;--c7:#a9adff}}\n",
    // text
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;padding:1.5rem 1rem 4rem;max-width:72rem;background:var(--ground);\n"
    "color:var(--text);font:1rem/1.55 system-ui,-apple-system,\"Segoe UI\",Roboto,\"Noto Sans\",sans-serif;\n"
    "overflow-wrap:break-word}\n"
    "h1,h2,h3{font-family:Charter,\"Iowan Old Style\",\"Noto Serif\",Georgia,serif;font-weight:600;\n"
    "line-height:1.2;text-wrap:balance}\n"
    "h1{font-size:2rem;margin:.5rem 0}\n"
    "h2{font-size:1.45rem;margin:3rem 0 .75rem;padding-top:.75rem;border-top:1px solid var(--line)}\n"
    "h3{font-size:1.1rem;margin:2rem 0 .5rem}\n"
    "p{max-width:68ch;margin:.5rem 0 1rem}\n"
    "small,.soft,figcaption span,summary,.legend{font-size:.875rem}\n"
    ".soft,figcaption span,summary,thead th,.row dt{color:var(--soft)}\n"
    "a{color:var(--c0)}\n"
    "nav a{display:inline-block;margin-right:1rem;padding:.2rem 0}\n"
    "code,pre{font:.8125rem/1.55 ui-monospace,\"DejaVu Sans Mono\",Menlo,monospace}\n"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere}\n"
    "pre,.row,.tiles li{background:var(--card);border-radius:.5rem;padding:.75rem 1rem}\n"
    "summary{cursor:pointer}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(12.5rem,1fr));gap:.75rem;padding:0;\n"
    "list-style:none}\n"
    ".tiles b{display:block;font-size:1.25rem;white-space:nowrap;font-variant-numeric:tabular-nums}\n",
    // charts
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,30rem),1fr));gap:2rem}\n"
    "figure{margin:0;min-width:0;break-inside:avoid}\n"
    "figcaption{font-weight:600}\n"
    "figcaption span{display:block;font-weight:400}\n"
    ".legend{margin:.25rem 0;display:flex;flex-wrap:wrap;gap:0 1rem}\n"
    ".legend span::before{content:\"\";display:inline-block;width:1.1em;height:.28em;margin-right:.4em;\n"
    "vertical-align:.22em;background:var(--c)}\n"
    ".chart{display:block;width:100%;height:auto}\n"
    ".chart text{font-size:14px;fill:var(--soft);font-variant-numeric:tabular-nums}\n"
    ".grid{stroke:var(--line);stroke-width:1}\n"
    ".curve{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}\n"
    ".band{fill:var(--c);opacity:.22}\n"
    ".mark{fill:var(--ground);stroke:var(--c);stroke-width:2.5}\n"
    "rect[class^=s]{fill:var(--c)}\n"
    ".s0{--c:var(--c0)}.s1{--c:var(--c1)}.s2{--c:var(--c2)}.s3{--c:var(--c3)}\n"
    ".s4{--c:var(--c4)}.s5{--c:var(--c5)}.s6{--c:var(--c6)}.s7{--c:var(--c7)}\n"
    ".bar{display:block;width:100%;min-width:4rem;height:.55rem;margin-top:.2rem}\n"
    ".layers .bar{min-width:9rem;height:1.2rem;margin:0}\n"
    ".track{fill:var(--line);opacity:.6}\n"
    ".whisker{fill:var(--text)}\n",
    // tables, rows side by side
    ".wide{overflow-x:auto}\n"
    "table{border-collapse:collapse;margin:.5rem 0 1rem;font-size:.9375rem;\n"
    "font-variant-numeric:tabular-nums}\n"
    ".full{width:100%}\n"
    "th,td{text-align:left;vertical-align:top;padding:.3rem .9rem .3rem 0;\n"
    "border-bottom:1px solid var(--line)}\n"
    "thead th{font-weight:500;font-size:.875rem;vertical-align:bottom}\n"
    "tbody th{font-weight:400;max-width:24rem}\n"
    "th.part{padding-left:1rem}\n"
    "td small,td:nth-child(2):not(:last-child),.n{white-space:nowrap}\n"
    "td.n,th.n{text-align:right}\n"
    ".look,.wrong{color:var(--bad)}\n"
    ".right{color:var(--good)}\n"
    ".row{margin:0 0 1rem;break-inside:avoid}\n"
    ".row dl{display:grid;grid-template-columns:11rem 1fr;gap:.25rem 1rem;margin:0}\n"
    ".row dt{font-size:.875rem}\n"
    ".row dd{margin:0;min-width:0;white-space:pre-wrap;overflow-wrap:anywhere}\n",
    // phones, paper
    "@media screen and (max-width:40rem){.chart text{font-size:22px}\n"
    "h1{font-size:1.6rem}\n"
    "th,td{padding-right:.6rem}\n"
    ".row dl{display:block}\n"
    ".row dd{margin-bottom:.5rem}\n"
    ".tiles{grid-template-columns:1fr 1fr}\n"
    ".tiles li{padding:.6rem .7rem}\n"
    ".tiles b{font-size:1.1rem;white-space:normal}}\n"
    "@media print{:root{font-size:9.5pt;color-scheme:light;--ground:#fff;--text:#000}\n"
    "body{max-width:none;padding:0}\n"
    "nav{display:none}\n"
    ".charts{grid-template-columns:1fr 1fr;gap:1.5rem}\n"
    ".figures{font-size:.75rem}\n"
    ".figures th,.figures td{padding-right:.4rem}\n"
    "details::details-content{content-visibility:visible;display:block}\n"
    "summary{list-style:none}\n"
    "h2,h3{break-after:avoid}\n"
    "tr{break-inside:avoid}\n"
    "*{print-color-adjust:exact}}\n"};
enum { STYLES = sizeof STYLE / sizeof *STYLE };

static void base64(char *out, const uint8_t *in, size_t n) {
    static const char LETTER[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t three = 0;
        for (size_t k = 0; k < 3; k++) three = three << 8 | (i + k < n ? in[i + k] : 0u);
        for (size_t k = 0; k < 4; k++) *out++ = i + k > n ? '=' : LETTER[three >> (18 - 6 * k) & 63];
    }
    *out = 0;
}

// What a content policy calls the style sheet (CSP level 3): SHA-256 of its bytes, in base64
static void style_hash(char out[45]) {
    char hex[65];
    uint8_t sum[32];
    Sha256 s;
    sha256_init(&s);
    for (int i = 0; i < STYLES; i++) sha256_add(&s, STYLE[i], strlen(STYLE[i]));
    sha256_end(&s, hex);
    for (int i = 0; i < 32; i++) {
        const char pair[] = {hex[2 * i], hex[2 * i + 1], 0};
        sum[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    base64(out, sum, sizeof sum);
}

void page_begin(Page *p, const char *title) {
    char hash[45];
    style_hash(hash);
    page_put(p, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
             "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
             "style-src 'sha256-%s'; base-uri 'none'; form-action 'none'\">\n"
             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>", hash);
    page_text(p, title, strlen(title), 200);
    page_put(p, "</title>\n<style>");
    for (int i = 0; i < STYLES; i++) add(p, STYLE[i], strlen(STYLE[i]));
    page_put(p, "</style>\n</head>\n<body>\n");
}

void page_end(Page *p) { page_put(p, "</body>\n</html>\n"); }

// ---- axes -------------------------------------------------------------------------------------------------

enum { WIDTH = 640, HEIGHT = 330, LEFT = 96, RIGHT = 14, TOP = 14, BOTTOM = 62, TICKS = 10 };
typedef struct {
    double lo, hi;
    bool log;
    double tick[TICKS];
    int ticks;
} Axis;

// 1, 2 or 5 times a power of ten: the largest that is not above x, or the smallest that is not below
static double round_number(double x, bool up) {
    static const double STEP[] = {1, 2, 5, 10};
    double power = pow(10, floor(log10(x))), best = up ? 10 : 1;
    for (int i = 0; i < 4; i++) {
        double step = STEP[up ? 3 - i : i];
        if (up ? step * power >= x * (1 - 1e-9) : step * power <= x * (1 + 1e-9)) best = step;
    }
    return best * power;
}

static void tick_add(Axis *a, double at) {
    double slack = (a->hi - a->lo) * 1e-6;
    if (a->ticks < TICKS && at >= a->lo - slack && at <= a->hi + slack) a->tick[a->ticks++] = at;
}

// Round numbers between the ends; `wide` also moves the ends to round numbers.
static void axis_linear(Axis *a, bool wide) {
    double size = fmax(fabs(a->lo), fabs(a->hi));
    if (a->hi - a->lo <= 1e-9 * size || size == 0) {          // one value: a range around it
        a->lo -= size > 0 ? 0.5 * size : 0;
        a->hi += size > 0 ? 0.5 * size : 1;
    }
    double step = round_number((a->hi - a->lo) / 4, true);
    double first = wide ? floor(a->lo / step) : ceil(a->lo / step);
    if (wide) {
        a->lo = first * step;
        a->hi = ceil(a->hi / step) * step;
    }
    for (int i = 0; i < TICKS; i++) tick_add(a, (first + i) * step);
}

static void axis_log(Axis *a) {
    double decades = log10(a->hi) - log10(a->lo);
    int each = (int)ceil(decades / (TICKS - 3));
    a->lo = round_number(a->lo, false);
    a->hi = round_number(a->hi, true);
    for (int k = (int)floor(log10(a->lo)); k <= (int)ceil(log10(a->hi)); k += each) {
        tick_add(a, pow(10, k));
        if (decades < 2.5) tick_add(a, 2 * pow(10, k));
        if (decades < 2.5) tick_add(a, 5 * pow(10, k));
    }
}

// From 0 to 1 along the axis
static double along(const Axis *a, double v) {
    return a->log ? (log10(v) - log10(a->lo)) / (log10(a->hi) - log10(a->lo)) : (v - a->lo) / (a->hi - a->lo);
}

// ---- series -----------------------------------------------------------------------------------------------

typedef struct { double first, last, from, to, lo, hi, at_lo, at_hi; } Extent;    // from, to: of x

static double x_of(const Series *s, size_t i) { return s->x[i * s->x_stride]; }
static double y_of(const Series *s, size_t i) { return s->y[i * s->y_stride]; }

static Extent extent(const Series *s) {
    Extent e = {y_of(s, 0), y_of(s, s->n - 1), x_of(s, 0), x_of(s, s->n - 1), HUGE_VAL, -HUGE_VAL, 0, 0};
    for (size_t i = 0; i < s->n; i++) {
        double y = y_of(s, i);
        if (y < e.lo) {
            e.lo = y;
            e.at_lo = x_of(s, i);
        }
        if (y > e.hi) {
            e.hi = y;
            e.at_hi = x_of(s, i);
        }
    }
    return e;
}

// Axes that hold all series. y is logarithmic where values differ fifty-fold, unless it should not, and
// otherwise begins at 0 where that costs little.
static void axes(const Chart *c, Axis *x, Axis *y) {
    *x = *y = (Axis){.lo = HUGE_VAL, .hi = -HUGE_VAL};
    for (int i = 0; i < c->count; i++) {
        const Series *s = &c->series[i];
        Extent e = extent(s);
        x->lo = fmin(x->lo, e.from);
        x->hi = fmax(x->hi, e.to + (s->how == BARS ? s->width : 0));
        y->lo = fmin(y->lo, e.lo);
        y->hi = fmax(y->hi, e.hi);
    }
    y->log = !c->linear && y->lo > 0 && log10(y->hi) - log10(y->lo) > log10(50);
    if (y->lo > 0 && (c->linear || y->lo < y->hi / 2) && !y->log) y->lo = 0;
    axis_linear(x, false);
    if (y->log) axis_log(y);
    else axis_linear(y, true);
}

// ---- charts -----------------------------------------------------------------------------------------------

typedef struct { double x, y, lo, hi; } Point;       // on paper; of a curve the mean, and all between lo, hi
enum { POINTS = 160 };

static Point place(const Axis *x, const Axis *y, double vx, double vy, double lo, double hi) {
    double height = HEIGHT - TOP - BOTTOM, base = HEIGHT - BOTTOM;
    return (Point){LEFT + along(x, vx) * (WIDTH - LEFT - RIGHT), base - along(y, vy) * height,
                   base - along(y, lo) * height, base - along(y, hi) * height};
}

// At most POINTS points, each of as many neighbours as it takes
static size_t points_of(const Series *s, const Axis *x, const Axis *y, Point *out) {
    size_t n = s->n < POINTS ? s->n : POINTS;
    for (size_t k = 0; k < n; k++) {
        size_t from = k * s->n / n, to = (k + 1) * s->n / n;
        double sx = 0, sy = 0, lo = HUGE_VAL, hi = -HUGE_VAL, count = (double)(to - from);
        for (size_t i = from; i < to; i++) {
            double v = y_of(s, i);
            sx += x_of(s, i);
            sy += v;
            lo = fmin(lo, v);
            hi = fmax(hi, v);
        }
        out[k] = place(x, y, sx / count, sy / count, lo, hi);
    }
    return n;
}

static void put_series(Page *p, const Series *s, int colour, bool band, const Axis *x, const Axis *y) {
    Point at[POINTS];
    size_t n = points_of(s, x, y, at);
    if (band && n < s->n) {
        page_put(p, "<path class=\"band s%d\" d=\"", colour);
        for (size_t i = 0; i < n; i++) page_put(p, "%c%.1f %.1f", i ? 'L' : 'M', at[i].x, at[i].hi);
        for (size_t i = n; i-- > 0;) page_put(p, "L%.1f %.1f", at[i].x, at[i].lo);
        page_put(p, "Z\"/>");
    }
    page_put(p, "<path class=\"curve s%d\" d=\"", colour);
    for (size_t i = 0; i < n; i++) page_put(p, "%c%.1f %.1f", i ? 'L' : 'M', at[i].x, at[i].y);
    page_put(p, "\"/>");
    for (size_t i = 0; i < n && (s->how == MARKS || n == 1); i++)
        page_put(p, "<circle class=\"mark s%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>", colour, at[i].x, at[i].y);
}

static void put_bars(Page *p, const Series *s, int colour, const Axis *x, const Axis *y) {
    for (size_t i = 0; i < s->n; i++) {
        Point from = place(x, y, x_of(s, i), y_of(s, i), 0, 0);
        Point to = place(x, y, x_of(s, i) + s->width, 0, 0, 0);
        page_put(p, "<rect class=\"s%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", colour,
                 from.x + 1, from.y, fmax(to.x - from.x - 2, 0.5), to.y - from.y);
    }
}

static void put_axes(Page *p, const Axis *x, const Axis *y, const char *name) {
    int base = HEIGHT - BOTTOM, each = x->ticks > 6 ? 2 : 1;
    for (int i = 0; i < y->ticks; i++) {
        double at = place(x, y, x->lo, y->tick[i], y->lo, y->lo).y;
        page_put(p, "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">"
                 "%.4g</text>", LEFT, at, WIDTH - RIGHT, LEFT - 8, at + 6, y->tick[i]);
    }
    for (int i = 0; i < x->ticks; i += each) {
        double at = place(x, y, x->tick[i], y->lo, y->lo, y->lo).x;
        page_put(p, "<path class=\"grid\" d=\"M%.1f %dv6\"/><text x=\"%.1f\" y=\"%d\" "
                 "text-anchor=\"middle\">%.6g</text>", at, base, at, base + 26, x->tick[i]);
    }
    page_put(p, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>", WIDTH - RIGHT, HEIGHT - 8, name);
}

// What the chart shows, for those who do not see it
static void put_description(Page *p, const Chart *c) {
    page_put(p, "<title id=\"t%d\">%s</title><desc id=\"d%d\">", p->charts, c->title, p->charts);
    for (int i = 0; i < c->count; i++) {
        const Series *s = &c->series[i];
        Extent e = extent(s);
        page_put(p, "%s: %.4g at %.6g, lowest %.4g at %.6g, highest %.4g at %.6g, last %.4g at %.6g. ",
                 s->name, e.first, e.from, e.lo, e.at_lo, e.hi, e.at_hi, e.last, e.to);
    }
    page_put(p, "</desc>");
}

static void put_figures(Page *p, const Chart *c) {
    page_put(p, "<details><summary>Figures</summary>");
    page_table(p, "figures", "|#first|#lowest|#at|#highest|#at|#last");
    for (int i = 0; i < c->count; i++) {
        const Series *s = &c->series[i];
        Extent e = extent(s);
        page_put(p, "<tr><th>%s</th>", s->name);
        const double cell[] = {e.first, e.lo, e.at_lo, e.hi, e.at_hi, e.last};
        for (int k = 0; k < 6; k++) page_cell(p, cell[k]);
        page_put(p, "</tr>");
    }
    page_table_end(p);
    page_put(p, "</details>\n");
}

void page_chart(Page *p, const Chart *c) {
    Axis x, y;
    axes(c, &x, &y);
    p->charts++;
    page_put(p, "<figure><figcaption>%s<span>%s%s</span></figcaption>", c->title, c->y,
             y.log ? ", logarithmic" : "");
    if (c->count > 1) {
        page_put(p, "<div class=\"legend\">");
        for (int i = 0; i < c->count; i++)
            page_put(p, "<span class=\"s%d\">%s</span>", i, c->series[i].name);
        page_put(p, "</div>");
    }
    page_put(p, "<svg class=\"chart\" viewBox=\"0 0 %d %d\" role=\"img\" aria-labelledby=\"t%d d%d\">", WIDTH,
             HEIGHT, p->charts, p->charts);
    put_description(p, c);
    put_axes(p, &x, &y, c->x);
    for (int i = 0; i < c->count; i++) {
        const Series *s = &c->series[i];
        if (s->how == BARS) put_bars(p, s, i, &x, &y);
        else put_series(p, s, i, c->count < 3, &x, &y);
    }
    page_put(p, "</svg>");
    put_figures(p, c);
    page_put(p, "</figure>\n");
}

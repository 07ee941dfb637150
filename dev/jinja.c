// jinja.c -- chat templates that are known: a Jinja text is recognised, never run.
#include "convert.h"
#include <string.h>

const char *jinja_known(const char *text, size_t n) { (void)text, (void)n; return NULL; }
const char *jinja_for(const char *template) { (void)template; return NULL; }

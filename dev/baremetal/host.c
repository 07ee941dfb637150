// host.c -- device.c as a program of the host: what it prints is what the microcontroller must print.
#include "port.h"
#include <stdio.h>

void print_text(const char *s) { fputs(s, stdout); }

int main(void) {
    const char *wrong = fine_tune();
    puts(wrong ? wrong : "done");
    return wrong != NULL;
}

// port.h -- what device.c asks of its surroundings: cortex_m.c on the microcontroller, host.c on the host.
#ifndef PORT_H
#define PORT_H
#include <stdint.h>

void print_text(const char *s);                 // 0-terminated, to whoever watches

// flash.S puts them where they can only be read.
extern const uint8_t flash_base[];              // a checkpoint, at a multiple of 64 bytes
extern const char flash_rows[], flash_rows_end[];

const char *fine_tune(void);                    // device.c: trains and prints; what is wrong, or NULL
#endif

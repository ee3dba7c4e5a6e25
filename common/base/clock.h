/* Time. Lease time is CLOCK_BOOTTIME, which goes on while a host sleeps (DESIGN section 3); state machines are given the
 * time as an argument and never call this. */
#ifndef CANDOR_BASE_CLOCK_H
#define CANDOR_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_boot_ms(void);
double clock_seconds(void); /* monotonic, for measuring */
int64_t clock_unix_ms(void);

#endif


/*
 * TAP for the unit tests of src/core: one header, no dependencies.
 *
 * Purpose: tap_ok() and friends print one line each for prove; tap_done()
 * prints the plan last, so a test that dies early fails for want of it.
 *
 * Each test includes the C files that it tests, so that static functions can
 * be reached and nothing has to be linked.  The data live in this file: a
 * test is one translation unit.
 */


#ifndef _TAP_H_INCLUDED_
#define _TAP_H_INCLUDED_


#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define tap_ok(expr, ...)  tap_line(!!(expr), __FILE__, __LINE__, __VA_ARGS__)


static unsigned  tap_count;
static unsigned  tap_failed;


__attribute__((format(printf, 4, 5)))
static inline int
tap_line(int ok, const char *file, int line, const char *fmt, ...)
{
    va_list  args;

    printf("%s %u - ", ok ? "ok" : "not ok", ++tap_count);

    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);

    printf("\n");

    if (!ok) {
        tap_failed++;
        printf("# failed at %s line %d\n", file, line);
    }

    return ok;
}


static inline int
tap_done(void)
{
    printf("1..%u\n", tap_count);

    return tap_failed != 0;
}


/* xorshift64*, seeded by the test: the same run every time */

static inline uint64_t
tap_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;

    return *state * UINT64_C(2685821657736338717);
}


/* uniform in [0, 1) */

static inline double
tap_uniform(uint64_t *state)
{
    return (double) (tap_random(state) >> 11) * 0x1p-53;
}


/* a copy of exactly len bytes, so that the sanitizer sees one too many */

static inline unsigned char *
tap_copy(const void *s, size_t len)
{
    unsigned char  *p;

    p = malloc(len ? len : 1);

    if (p == NULL) {
        abort();
    }

    if (len != 0) {
        memcpy(p, s, len);
    }

    return p;
}


#endif /* _TAP_H_INCLUDED_ */

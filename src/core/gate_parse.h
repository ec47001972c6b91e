
/*
 * Strict parsers of numbers, times and names.
 *
 * Purpose: one reading of every value, wherever it comes from: directives,
 * the API, Redis, files.
 *
 * Invariants: the whole input must match; there is no leading or trailing
 * space, no sign, no exponent, no hexadecimal, and nothing depends on the
 * locale (so no strtod, no atoi).  Digits before and after a point are
 * required.  Numbers are computed in integers and converted once, so that
 * "5%" and "0.05" give the same double as a C literal.
 *
 * Ownership: nothing is allocated or kept; inputs are not NUL-terminated.
 *
 * Failure policy: what is not exactly right is refused with -1 and the
 * output is left untouched.  Overflow is an error, never a wrap or a clamp.
 */


#ifndef _GATE_PARSE_H_INCLUDED_
#define _GATE_PARSE_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>


#define GATE_NAME_MAX    64            /* bytes in a name */
#define GATE_WEIGHT_LEN  8             /* buffer of gate_format_weight() */

#define GATE_PARSE_TIME_MAX  INT64_C(253402300799)   /* the end of 9999 */


#pragma GCC visibility push(hidden)


/*
 * "5%", "0.01%", "12.5%", "100%" to basis points, 0 .. 10000.  The sign % is
 * required; decimals after the second must be zeros.  0 or -1.
 */
int gate_parse_weight(const unsigned char *s, size_t len, unsigned *bp);

/*
 * "5%" or "0.05" to a fraction, 0 .. 1.  Decimals after the sixth, of the
 * text as written, must be zeros.  0 or -1.
 */
int gate_parse_fraction(const unsigned char *s, size_t len, double *v);

/*
 * "1.5", "2" or "150%" to a ratio, greater than 0 and at most 1000.
 * Decimals as for fractions.  0 or -1.
 */
int gate_parse_ratio(const unsigned char *s, size_t len, double *v);

/*
 * Durations as in nginx: a bare number of seconds, or numbers with the units
 * w, d, h, m, s, ms in this order, each at most once, without spaces:
 * "500ms", "10m", "1m30s".  The result is in ms and at most INT64_MAX.
 * 0 or -1.
 */
int gate_parse_msec(const unsigned char *s, size_t len, uint64_t *ms);

/* Decimal digits to an integer of at most max.  0 or -1. */
int gate_parse_uint(const unsigned char *s, size_t len, uint64_t max,
    uint64_t *v);

/*
 * Unix seconds in decimal, or an RFC 3339 date-time with "Z" or a numeric
 * offset ("2026-11-21T10:00:00+02:00"); a fraction of a second is accepted
 * and dropped, the leap second ":60" is refused.  The result is between
 * 1970 and the end of 9999.  0 or -1.
 */
int gate_parse_time(const unsigned char *s, size_t len, int64_t *unix_sec);

/*
 * Writes basis points as the shortest percentage without the sign: "5",
 * "0.01", "12.5".  More than 10000 is written as "100".  Returns the length,
 * at most 5; buf is NUL-terminated as well.
 */
size_t gate_format_weight(unsigned bp, char buf[GATE_WEIGHT_LEN]);

/* 1 when s is 1 to GATE_NAME_MAX characters of [A-Za-z0-9_.-], else 0. */
int gate_name_valid(const unsigned char *s, size_t len);


#pragma GCC visibility pop


#endif /* _GATE_PARSE_H_INCLUDED_ */

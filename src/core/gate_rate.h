
/*
 * Rates as people write them.
 *
 * Purpose: one reading of "15r/10s" and of "rate=15r/10s burst=20", wherever
 * it comes from: directives, variables, Redis.
 *
 * Invariants: as in gate_parse.h; the whole input must match, there are no
 * signs, and overflow is an error.
 *
 * Failure policy: -1, the output is left untouched, and *why (static, may be
 * NULL) says what is wrong in a few words that fit behind "rate \"...\" ".
 */


#ifndef _GATE_RATE_H_INCLUDED_
#define _GATE_RATE_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>

#include "gate_gcra.h"


#define GATE_RATE_COUNT_MAX     10000000   /* units a period, and capacity */
#define GATE_RATE_INTERVAL_MIN  1000       /* ns: a million a second */

#define GATE_RATE_LEN           32         /* buffer of gate_rate_format() */


/* a rate, and the words that it was said in, for headers */

typedef struct {
    gate_rate_t  rate;
    uint64_t     count;                /* 15 of "15r/10s" */
    int64_t      period;               /* 10 s, in ns */
} gate_policy_t;


#pragma GCC visibility push(hidden)


/*
 * "100r/s", "60r/m", "5000r/h", "10r/d", or with a number of them as in
 * "15r/10s" and "100000r/30d".  0 or -1.
 */
int gate_rate_parse(const unsigned char *s, size_t len, uint64_t *count,
    int64_t *period, const char **why);

/*
 * A policy of so many units a period.  burst: beyond the first one, as in
 * nginx's limit_req; -1: the count less one where the period is longer than
 * a second, else 0.  The capacity is burst + 1.  0; -1 where the rate is
 * faster than a million a second, or capacity times interval is more than
 * GATE_GCRA_MAX.
 */
int gate_rate_policy(uint64_t count, int64_t period, int64_t burst,
    gate_policy_t *policy, const char **why);

/*
 * "rate=15r/10s burst=20", one of both or both, in any order, separated by
 * spaces or commas; or just "15r/10s".  What is not said is as in "base": a
 * burst without a rate is for base's rate, a rate without a burst gets the
 * burst that it gets by default.  0 or -1.
 */
int gate_rate_words(const unsigned char *s, size_t len,
    const gate_policy_t *base, gate_policy_t *policy, const char **why);

/* "15r/10s"; the period in the largest unit that divides it.  The length. */
size_t gate_rate_format(uint64_t count, int64_t period,
    char buf[GATE_RATE_LEN]);


#pragma GCC visibility pop


#endif /* _GATE_RATE_H_INCLUDED_ */

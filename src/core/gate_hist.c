
#include "gate_hist.h"

#include <math.h>


#define GATE_HIST_EXACT    16          /* buckets of one millisecond */
#define GATE_HIST_SHIFT    4           /* log2 of buckets per octave */
#define GATE_HIST_LIMIT    (UINT64_C(1) << 19)
#define GATE_HIST_LAST     (GATE_HIST_BUCKETS - 1)


static uint64_t gate_hist_nominal_high(unsigned i);


unsigned
gate_hist_index(uint64_t msec)
{
    unsigned  octave;

    if (msec < GATE_HIST_EXACT) {
        return (unsigned) msec;
    }

    if (msec >= GATE_HIST_LIMIT) {
        return GATE_HIST_LAST;
    }

    octave = 63 - (unsigned) __builtin_clzll(msec);

    return GATE_HIST_EXACT * (octave - GATE_HIST_SHIFT)
           + (unsigned) (msec >> (octave - GATE_HIST_SHIFT));
}


uint64_t
gate_hist_low(unsigned i)
{
    unsigned  shift;

    if (i > GATE_HIST_LAST) {
        i = GATE_HIST_LAST;
    }

    if (i < GATE_HIST_EXACT) {
        return i;
    }

    shift = i / GATE_HIST_EXACT - 1;

    return (uint64_t) (GATE_HIST_EXACT + i % GATE_HIST_EXACT) << shift;
}


uint64_t
gate_hist_high(unsigned i)
{
    if (i >= GATE_HIST_LAST) {
        return UINT64_MAX;
    }

    return gate_hist_nominal_high(i);
}


double
gate_hist_quantile(const uint32_t *counts, uint64_t total, double q)
{
    double    rank;
    uint64_t  sum;
    unsigned  i, found;

    if (total == 0 || isnan(q)) {
        return NAN;
    }

    q = (q < 0) ? 0 : (q > 1) ? 1 : q;

    /* 0.07 * 100 is 7.000000000000001, and is meant to be the rank 7 */

    rank = q * (double) total;
    rank = ceil(rank - rank * 1e-12);

    if (rank < 1) {
        rank = 1;
    }

    sum = 0;
    found = GATE_HIST_BUCKETS;

    for (i = 0; i < GATE_HIST_BUCKETS; i++) {

        if (counts[i] == 0) {
            continue;
        }

        found = i;
        sum += counts[i];

        if ((double) sum >= rank) {
            break;
        }
    }

    if (found == GATE_HIST_BUCKETS) {
        return NAN;
    }

    return ((double) gate_hist_low(found)
            + (double) gate_hist_nominal_high(found)) / 2;
}


uint64_t
gate_hist_above(const uint32_t *counts, double msec)
{
    uint64_t  sum;
    unsigned  i;

    if (isnan(msec)) {
        return 0;
    }

    sum = 0;

    for (i = GATE_HIST_BUCKETS; i != 0; i--) {

        if ((double) gate_hist_low(i - 1) <= msec) {
            break;
        }

        sum += counts[i - 1];
    }

    return sum;
}


static uint64_t
gate_hist_nominal_high(unsigned i)
{
    return (i >= GATE_HIST_LAST) ? GATE_HIST_LIMIT - 1
                                 : gate_hist_low(i + 1) - 1;
}


/*
 * A log-linear histogram of milliseconds in 256 counters.
 *
 * Purpose: latency percentiles and counts above a threshold per arm, cheap
 * enough for every attempt and small enough for shared memory and for Redis.
 *
 * Layout: buckets 0 .. 15 hold exactly 0 .. 15 ms; then every octave
 * [2^o, 2^(o+1)) for o = 4 .. 18 is cut into 16 equal buckets; the last one
 * also takes everything from 2^19 ms (8.7 minutes) up.
 *
 * Invariants: buckets partition 0 .. UINT64_MAX in ascending order; the
 * midpoint of a bucket is within 1/32 (3.125 %) of every value in it, except
 * for values of 2^19 ms and more.
 *
 * Ownership: this file knows the layout only.  Counters belong to the caller,
 * who passes a plain copy; the workers' atomics stay in src/node.
 *
 * Failure policy: a copy taken while others count may disagree with total;
 * a quantile then comes from the nearest bucket there is, and one over no
 * samples is NaN, which no comparison calls a breach.
 */


#ifndef _GATE_HIST_H_INCLUDED_
#define _GATE_HIST_H_INCLUDED_


#include <stdint.h>


#define GATE_HIST_BUCKETS  256


#pragma GCC visibility push(hidden)


/* The bucket, 0 .. GATE_HIST_BUCKETS - 1, that counts msec. */
unsigned gate_hist_index(uint64_t msec);

/*
 * The smallest value, in ms, that bucket i counts.  An i past the last bucket
 * means the last one.
 */
uint64_t gate_hist_low(unsigned i);

/*
 * The largest value, in ms, that bucket i counts: inclusive, and UINT64_MAX
 * for the last bucket or an i past it.
 */
uint64_t gate_hist_high(unsigned i);

/*
 * The q-quantile (0 <= q <= 1, clamped) of the total samples in counts, by
 * nearest rank: the midpoint in ms of the bucket that holds the sample of
 * rank max(1, ceil(q * total)).  The last bucket answers with the midpoint of
 * its part below 2^19 ms and so under-reports what is above.  NaN when total
 * is 0, when counts are all zero, or when q is NaN.
 */
double gate_hist_quantile(const uint32_t *counts, uint64_t total, double q);

/*
 * The number of samples certainly above msec (ms, any double): those of
 * buckets that begin above it.  0 for NaN.  Never counts a sample that is not
 * above; misses at most those in the bucket that contains msec.
 */
uint64_t gate_hist_above(const uint32_t *counts, double msec);


#pragma GCC visibility pop


#endif /* _GATE_HIST_H_INCLUDED_ */

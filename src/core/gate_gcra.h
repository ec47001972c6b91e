
/*
 * The generic cell rate algorithm, in integers.
 *
 * A caller may spend "capacity" units at once and gets one unit back every
 * "interval".  All that there is to remember is one time, the theoretical
 * arrival time (TAT): when the caller's debt will be paid.  ITU-T I.371,
 * annex A; it is the leaky bucket of nginx's limit_req, whose burst is
 * capacity - 1.
 *
 * Times are nanoseconds on any clock that the caller likes, also for
 * intervals: three requests in ten milliseconds would be 11 % off in
 * microseconds.  A unit is what a request costs, 1 most of the time.
 *
 * Ranges: 0 <= cost; 1 <= interval; 1 <= capacity; interval * capacity is at
 * most GATE_GCRA_MAX, which leaves room to add GATE_GCRA_CLAMP of them to any
 * time of the next two centuries.  Times may go back: a debt of more than
 * GATE_GCRA_CLAMP capacities is no debt but a clock that was set, or an entry
 * that is old beyond sense, and counts as so many.  So many, because each of
 * the nodes of a fleet may admit a capacity before it hears of the others.
 */


#ifndef _GATE_GCRA_H_INCLUDED_
#define _GATE_GCRA_H_INCLUDED_


#include <stdint.h>


#define GATE_GCRA_MAX     (INT64_C(60) * 86400 * 1000000000)  /* 60 days */
#define GATE_GCRA_CLAMP   66           /* capacities */


typedef struct {
    int64_t  interval;                 /* ns for one unit */
    int64_t  capacity;                 /* units, burst + 1 */
} gate_rate_t;


/* what a decision came to, and what its headers say */

typedef struct {
    int      limited;
    int64_t  remaining;                /* whole units that are left now */
    int64_t  reset_after;              /* ns until all of them are back */
    int64_t  retry_after;              /* ns; -1: admitted, or never will be */
} gate_gcra_t;


/* The debt at that time, in ns: 0 .. GATE_GCRA_CLAMP capacities. */

static inline int64_t
gate_gcra_debt(const gate_rate_t *rate, int64_t tat, int64_t now)
{
    uint64_t  debt, max;

    if (tat <= now) {
        return 0;
    }

    /* sentinels and times of another boot may be anything: no overflow */

    debt = (uint64_t) tat - (uint64_t) now;
    max = (uint64_t) (rate->interval * rate->capacity * GATE_GCRA_CLAMP);

    return (int64_t) (debt < max ? debt : max);
}


/*
 * Takes "cost" units if they are there.  0 when they were, and *tat is the
 * new time then; 1 when the caller is limited, and nothing changes.  A cost
 * of 0 asks how it stands, one above the capacity is never admitted.
 */

static inline int
gate_gcra_take(const gate_rate_t *rate, int64_t *tat, int64_t now,
    int64_t cost, gate_gcra_t *v)
{
    int64_t  debt, total, left;

    debt = gate_gcra_debt(rate, *tat, now);
    total = rate->interval * rate->capacity;
    left = total - debt;

    v->retry_after = -1;

    if (cost > rate->capacity) {
        v->limited = 1;

    } else if (rate->interval * cost > left) {
        v->limited = 1;
        v->retry_after = rate->interval * cost - left;

    } else {
        v->limited = 0;
        debt += rate->interval * cost;
        left -= rate->interval * cost;

        if (cost) {
            *tat = now + debt;
        }
    }

    v->remaining = left > 0 ? left / rate->interval : 0;
    v->reset_after = debt;

    return v->limited;
}


/*
 * Gives "cost" units back that were taken and not used.  Nobody gets more
 * than all of them.
 */

static inline void
gate_gcra_refund(const gate_rate_t *rate, int64_t *tat, int64_t now,
    int64_t cost)
{
    int64_t  debt;

    debt = gate_gcra_debt(rate, *tat, now);

    if (debt != 0) {
        *tat = (cost <= debt / rate->interval)
               ? now + debt - cost * rate->interval : now;
    }
}


/*
 * The same debt in units under another rate: who owes five requests owes five
 * requests, but nobody owes more than "to" allows at all.  Returns the TAT.
 */

static inline int64_t
gate_gcra_rescale(const gate_rate_t *from, const gate_rate_t *to, int64_t tat,
    int64_t now)
{
    int64_t  debt, units, rest, max;

    debt = gate_gcra_debt(from, tat, now);

    if (debt == 0) {
        return tat;
    }

    max = to->interval * to->capacity;
    units = debt / from->interval;
    rest = debt % from->interval;

    if (units >= to->capacity) {
        return now + max;
    }

    /* a fraction of a unit, rounded to the caller's favour */

    debt = units * to->interval
           + (int64_t) ((double) rest / (double) from->interval
                        * (double) to->interval);

    return now + (debt < max ? debt : max);
}


/*
 * What a node admits between two syncs, without loss: "a" units that were
 * admitted, and "b", the TAT that they alone would have led to.  Pairs that
 * follow one another add up to a pair.
 */

static inline int64_t
gate_gcra_merge(const gate_rate_t *rate, int64_t tat, int64_t a, int64_t b)
{
    tat += a * rate->interval;

    return tat > b ? tat : b;
}


#endif /* _GATE_GCRA_H_INCLUDED_ */


/*
 * Copyright (C) nginx-gate authors
 */

/*
 * A fleet in a box: nodes with the real table of callers, their agents, a
 * network that delays and loses, and a Redis, all in simulated time.
 *
 * Purpose: what the fleet admits can be held against what one counter would
 * have admitted that saw every request in order.
 *
 * The agents and the script are written again here, short, as they are in
 * src/fleet: one batch on its way, frozen until it is acknowledged; applied
 * once; sent early where the table asks for it.  Clocks differ, and drift.
 *
 * Ownership: one run at a time, its state is static.
 */


#ifndef _GCRA_MERGE_H_INCLUDED_
#define _GCRA_MERGE_H_INCLUDED_


#include "core/gate_limit.h"
#include "core/gate_rate.h"


#define MERGE_SEC       INT64_C(1000000000)
#define MERGE_MSEC      INT64_C(1000000)

#define MERGE_NODES     64
#define MERGE_KEYS      16
#define MERGE_MINUTES   1440

#define MERGE_EVEN      0
#define MERGE_POISSON   1
#define MERGE_BURST     2              /* several at one moment */


/* times are ns */

typedef struct {
    unsigned       nodes;
    unsigned       keys;
    gate_policy_t  policy;
    int64_t        cost;
    double         offered;            /* requests a second, by each node */
    int            pattern;            /* MERGE_* */
    unsigned       burst;              /* requests in one */
    int            one_node;           /* all of them come to the first */

    int64_t        sync;
    int64_t        space;              /* between batches sent early */
    int64_t        wake;               /* until an agent wakes, on average */
    int64_t        rtt;                /* on average; half of it varies */
    double         lost;               /* of the exchanges, 0 .. 1 */
    double         ppm;                /* clocks drift so much apart */

    gate_policy_t  other;              /* the rate that it becomes */
    int64_t        change;             /* then, 0: never */

    int64_t        time;
    int64_t        loss_from;          /* Redis is away */
    int64_t        loss_for;
    int            forget;             /* and comes back empty */

    uint64_t       seed;
} merge_conf_t;


typedef struct {
    uint64_t       arrivals;
    uint64_t       refused;
    uint64_t       truth_refused;
    uint64_t       displaced;          /* refused, the truth admitted it */
    uint64_t       share;              /* of refused, by the share rule */
    uint64_t       full;               /* no room: never here */

    int64_t        admitted;           /* units */
    int64_t        admitted_1s;        /* of them, after the first second */
    int64_t        admitted_change;    /* .. after the rate has changed */
    int64_t        truth;              /* units that one counter admits */
    int64_t        truth_change;
    int64_t        acked;              /* by Redis, each once */
    int64_t        settled;            /* paid by time while it was away */
    int64_t        unsent;             /* left over in the end */

    double         budget;
    double         overshoot;          /* units above it, at worst */
    double         window;             /* the same for any stretch of time */
    double         unacked[MERGE_NODES];   /* units at most */
    double         proved;             /* overshoot cannot be more */
    double         derived;            /* nor this, without knowing unacked */

    uint64_t       below;              /* Redis knew less than there was */
    int64_t        below_ns;           /* at worst, transit left out */
    uint64_t       clamped;

    uint64_t       batches;
    uint64_t       resent;
    int64_t        silence;            /* the longest without an admission,
                                          once Redis is back */
    unsigned       minutes;
    int64_t        minute[MERGE_MINUTES];
} merge_result_t;


void merge_run(const merge_conf_t *conf, merge_result_t *result);


#endif /* _GCRA_MERGE_H_INCLUDED_ */

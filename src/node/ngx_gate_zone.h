
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * The layout of a node's shared memory: what all workers of one nginx see.
 *
 * Everything here is reached from one structure, ngx_gate_zone_t, at
 * shpool->data.  Objects are found by name, so they survive a reload that
 * adds or removes others.  They are never freed: a worker of an old cycle
 * may still hold a pointer to one.
 *
 * Who may write what:
 *   - a slot: the process that owns it (ngx_process_slot), nobody else;
 *   - counters of evidence: everybody, by atomic addition;
 *   - a rollout's word: everybody, by compare-and-swap, and only
 *     ngx_gate_rollout.c;
 *   - everything else: whoever holds the slab mutex.  It is the only lock
 *     here, because it is the only one that nginx's master unlocks when the
 *     process that holds it dies.
 *
 * Nothing here points out of the zone, and no text is NUL-terminated by
 * luck: every char array is written by ngx_gate_text().
 */


#ifndef _NGX_GATE_ZONE_H_INCLUDED_
#define _NGX_GATE_ZONE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "core/gate_assign.h"
#include "core/gate_hist.h"
#include "core/gate_state.h"
#include "core/gate_switch.h"


#define NGX_GATE_ZONE_MAGIC      0x6e676174
#define NGX_GATE_ZONE_LAYOUT     1

#define NGX_GATE_ZONE_SIZE       (16 * 1024 * 1024)
#define NGX_GATE_ZONE_MIN_SIZE   (4 * 1024 * 1024)

#define NGX_GATE_SLOTS           NGX_MAX_PROCESSES
#define NGX_GATE_SWITCHES        64
#define NGX_GATE_RULES           8
#define NGX_GATE_RATIO_RULES     2
#define NGX_GATE_BLOCKS          4
#define NGX_GATE_SNAPSHOTS       8
#define NGX_GATE_EVENTS          64
#define NGX_GATE_FILES           64

#define NGX_GATE_NAME_LEN        65
#define NGX_GATE_ID_LEN          129
#define NGX_GATE_ACTOR_LEN       64
#define NGX_GATE_SOURCE_LEN      16
#define NGX_GATE_REASON_LEN      128
#define NGX_GATE_RECORD_LEN      2048

#define NGX_GATE_CACHE_LINE      64

#define NGX_GATE_STABLE          0
#define NGX_GATE_CANARY          1
#define NGX_GATE_ARMS            2

/* what an attempt is to the verdict: only the first kind is evidence */

#define NGX_GATE_KIND_NORMAL     0
#define NGX_GATE_KIND_FORCED     1
#define NGX_GATE_KIND_FALLBACK   2
#define NGX_GATE_KINDS           3

/* atomics on 64-bit words, which ngx_atomic_t is not on every platform */

#define ngx_gate_load(p)         __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define ngx_gate_peek(p)         __atomic_load_n(p, __ATOMIC_RELAXED)
#define ngx_gate_store(p, v)     __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define ngx_gate_add(p, n)       (void) __atomic_fetch_add(p, n,             \
                                                          __ATOMIC_RELAXED)
#define ngx_gate_sub(p, n)       (void) __atomic_fetch_sub(p, n,             \
                                                          __ATOMIC_RELAXED)
#define ngx_gate_cas(p, o, n)                                                 \
    __atomic_compare_exchange_n(p, o, n, 0, __ATOMIC_SEQ_CST,                 \
                                __ATOMIC_ACQUIRE)


/* requests of one process under one switch */

typedef struct {
    uint32_t                   admitted;    /* gauge */
    uint32_t                   bypassed;    /* gauge */
    uint32_t                   upgraded;    /* gauge: 101 was sent */
    uint32_t                   unused;
    uint64_t                   admitted_total;
    uint64_t                   bypassed_total;
} ngx_gate_inflight_t;


typedef struct {
    uint32_t                   pid;         /* 0: nobody's */
    uint32_t                   generation;
    uint64_t                   started;     /* unix ms */

    /* neighbours of another process must not share a cache line */
    u_char                     pad[NGX_GATE_CACHE_LINE - 16];

    ngx_gate_inflight_t        inflight[NGX_GATE_SWITCHES];
} ngx_gate_slot_t;


/*
 * A switch is closed when its files say so or its control value does.
 * "effective" is what the request path reads, one word; the agent and every
 * writer bring it up to date.  The rest is read under "seq" (odd while it is
 * being written).
 */

#define NGX_GATE_SWITCH_CLOSED      1
#define NGX_GATE_SWITCH_READ_ONLY   2

typedef struct {
    uint64_t                   effective;
    uint64_t                   refused_total;
    uint64_t                   seq;

    char                       name[NGX_GATE_NAME_LEN];

    gate_switch_value_t        control;
    int64_t                    control_since;          /* unix ms */
    char                       control_source[NGX_GATE_SOURCE_LEN];
    char                       control_actor[NGX_GATE_ACTOR_LEN];

    gate_switch_value_t        file;
    int64_t                    file_since;             /* unix ms */
    uint32_t                   file_generation;        /* 0: no file is on */

    int64_t                    since;                  /* of "effective" */
} ngx_gate_switch_t;


/*
 * The last good word of a maintenance file: whoever becomes the agent after
 * the file went bad goes on from it.
 */

typedef struct {
    uint64_t                   digest;      /* of path and switch, 0: free */
    uint32_t                   generation;  /* of who names it */
    uint32_t                   there;
    gate_switch_value_t        value;       /* off where it is not there */
} ngx_gate_file_t;


/* what happened on one arm since the step began */

typedef struct {
    uint64_t                   requests;    /* sent here by weight or key */
    uint64_t                   begun;       /* normal attempts, open ones too */
    uint64_t                   attempts[NGX_GATE_KINDS];
    uint64_t                   failures[NGX_GATE_KINDS];
    uint64_t                   unavailable; /* of failures: nobody to ask */
    uint64_t                   broken;      /* of failures: body cut short */
    uint64_t                   censored;    /* the client left first */
    uint32_t                   hist[GATE_HIST_BUCKETS];
} ngx_gate_arm_t;


/* of a latency rule: attempts that are decided, and of them slow ones */

typedef struct {
    uint64_t                   n;
    uint64_t                   k;
} ngx_gate_tally_t;


/*
 * One block of evidence for each (epoch, step, set of rules), never mixed
 * with another's.  A rollout has a few, used in turn, so that an attempt
 * that began under an earlier step finds that its block is gone ("tag") long
 * before the block is filled anew.
 */

typedef struct {
    uint64_t                   tag;         /* epoch << 32 | serial */
    uint64_t                   digest;      /* of the rules that it is for */
    uint64_t                   started;     /* unix ms */
    uint64_t                   started_msec;  /* monotonic, this host's */
    uint32_t                   step;
    uint32_t                   weight;      /* basis points */
    uint64_t                   saved;       /* failures no client saw */
    uint64_t                   fallbacks;
    ngx_gate_tally_t           tally[NGX_GATE_RULES];
    ngx_gate_arm_t             arm[NGX_GATE_ARMS];
} ngx_gate_block_t;


/* totals at one moment: a window is the difference of two such moments */

typedef struct {
    uint64_t                   seq;         /* odd while it is written */
    uint64_t                   tag;         /* the block's */
    uint64_t                   msec;
    ngx_gate_tally_t           arm[NGX_GATE_ARMS];
} ngx_gate_snapshot_t;


typedef struct {
    uint32_t                   hist[NGX_GATE_ARMS][GATE_HIST_BUCKETS];
} ngx_gate_hist_snapshot_t;


typedef struct {
    uint32_t                   failures;    /* connects refused in a row */
    uint32_t                   trips;       /* openings in a row */
    uint64_t                   opened;      /* monotonic ms */
    uint64_t                   open_until;
    uint64_t                   opened_total;
} ngx_gate_breaker_t;


typedef struct ngx_gate_rollout_s  ngx_gate_rollout_t;

struct ngx_gate_rollout_s {
    /*
     * All that a decision needs, in one word, so that one compare-and-swap
     * is a flip for every worker at once:
     *
     *     63..32  epoch
     *     31..29  state (gate_rollout_state_e)
     *     28..25  cause: 0 none, 1..8 rule + 1, 14 a rule before a restart,
     *             15 an operator
     *     24..23  block of evidence in use
     *         22  seed in use
     *     21..14  serial of the block, low bits
     *     13..0   weight, 1 is 0.01 %
     */
    uint64_t                   word;
    uint64_t                   seed[2][2];

    ngx_gate_breaker_t         breaker[NGX_GATE_ARMS];

    u_char                     pad[NGX_GATE_CACHE_LINE];

    ngx_gate_block_t           blocks[NGX_GATE_BLOCKS];
    ngx_gate_arm_t             retired[NGX_GATE_ARMS];
    uint64_t                   saved_retired;
    uint64_t                   fallbacks_retired;
    uint64_t                   hist_retired[NGX_GATE_ARMS][GATE_HIST_BUCKETS];

    uint64_t                   breach_since[NGX_GATE_RULES];  /* msec, 0 no */
    ngx_gate_snapshot_t        snapshots[NGX_GATE_RULES][NGX_GATE_SNAPSHOTS];
    ngx_gate_hist_snapshot_t   hists[NGX_GATE_RATIO_RULES]
                                    [NGX_GATE_SNAPSHOTS];

    /* under the slab mutex */

    ngx_gate_rollout_t        *next;
    uint32_t                   serial;
    uint32_t                   step;
    uint32_t                   generation;  /* of the configuration, 0 none */
    uint32_t                   conf_weight;
    uint64_t                   conf_digest;

    char                       name[NGX_GATE_NAME_LEN];
    char                       stable[NGX_GATE_NAME_LEN];
    char                       canary[NGX_GATE_NAME_LEN];
    char                       id[NGX_GATE_ID_LEN];

    int64_t                    since;       /* unix ms, of the state */
    int64_t                    epoch_since; /* unix ms */
    char                       reason[NGX_GATE_REASON_LEN];
    char                       source[NGX_GATE_SOURCE_LEN];
    char                       actor[NGX_GATE_ACTOR_LEN];

    uint64_t                   flips_total;
    uint32_t                   record_epoch;  /* whose flip was recorded */
    uint32_t                   record_pid;  /* who is at it */
    uint32_t                   record_len;
    char                       record[NGX_GATE_RECORD_LEN];
};


/* one line of what happened: a flip's record or an operator's write */

typedef struct {
    uint64_t                   number;      /* 1, 2, ..; 0 being written */
    uint32_t                   len;
    char                       text[NGX_GATE_RECORD_LEN];   /* JSON */
} ngx_gate_event_t;


/* how the state file fares; written by the agent, for the status page */

typedef struct {
    uint64_t                   saved_revision;
    int64_t                    saved_at;    /* unix ms, 0 never */
    uint64_t                   saves_total;
    uint64_t                   errors_total;
    uint64_t                   file_errors_total;   /* maintenance files */
    uint32_t                   locked;      /* the directory is ours */
    uint32_t                   keep;        /* the file is not ours to lose */
    uint64_t                   inode;       /* of the file we know, */
    int64_t                    mtime;       /* and its time in ns */
    char                       error[NGX_GATE_REASON_LEN];
} ngx_gate_store_t;


typedef struct {
    uint32_t                   magic;
    uint32_t                   layout;
    uint64_t                   size;        /* of this structure */
    uint64_t                   boot;        /* random, of this memory */
    int64_t                    created;     /* unix ms */

    uint32_t                   adopted;     /* a configuration was applied */
    uint32_t                   generation;  /* of the live configuration */
    uint64_t                   agent;       /* generation << 32 | pid */
    uint64_t                   agent_beat;  /* monotonic ms */
    uint64_t                   agents_total;

    uint64_t                   revision;    /* of what the state file holds */
    uint64_t                   secret[2];

    ngx_gate_store_t           store;

    uint64_t                   events_total;
    ngx_gate_event_t           events[NGX_GATE_EVENTS];

    uint32_t                   nswitches;
    ngx_gate_switch_t          switches[NGX_GATE_SWITCHES];
    ngx_gate_file_t            files[NGX_GATE_FILES];

    ngx_gate_rollout_t        *rollouts;

    uint32_t                   nslots;      /* that were ever taken */
    ngx_gate_slot_t            slots[NGX_GATE_SLOTS];
} ngx_gate_zone_t;


#endif /* _NGX_GATE_ZONE_H_INCLUDED_ */

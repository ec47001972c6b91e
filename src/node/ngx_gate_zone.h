
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
#define NGX_GATE_ZONE_LAYOUT     3

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

/* what "gate:mode:<gate>" says of each gate */

#define NGX_GATE_MODE_ENFORCE    0
#define NGX_GATE_MODE_OBSERVE    1
#define NGX_GATE_MODE_OFF        2

#define NGX_GATE_MODE_MAINTENANCE  0     /* indices of the gates */
#define NGX_GATE_MODE_CANARY       1
#define NGX_GATE_MODE_LIMIT        2
#define NGX_GATE_MODE_CURSOR       3
#define NGX_GATE_MODES             4

#define NGX_GATE_FLEET_NODES     64
#define NGX_GATE_FLEET_NODE_LEN  96      /* "host:boot" */
#define NGX_GATE_ADDR_LEN        128
#define NGX_GATE_ERROR_LEN       256
#define NGX_GATE_INC_LEN         41
#define NGX_GATE_RTT_BUCKETS     16
#define NGX_GATE_MAILS           32

#define NGX_GATE_STABLE          0
#define NGX_GATE_CANARY          1
#define NGX_GATE_ARMS            2

/* what an attempt is to the verdict: only the first kind is evidence */

#define NGX_GATE_KIND_NORMAL     0
#define NGX_GATE_KIND_FORCED     1
#define NGX_GATE_KIND_FALLBACK   2
#define NGX_GATE_KINDS           3

/* whose numbers a rule looks at: this node's, or those of all */

#define NGX_GATE_SCOPE_NODE      0
#define NGX_GATE_SCOPE_FLEET     1
#define NGX_GATE_SCOPES          2

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
 * What Redis knows of a value that is held here.  "rev" orders the changes of
 * all nodes and outlives a Redis that forgets them; "dirty" is a value that
 * was set here while Redis was away, and waits to be pushed.
 */

typedef struct {
    uint64_t                   rev;         /* 0: Redis never spoke of it */
    uint32_t                   there;       /* 0: the key is absent */
    uint32_t                   dirty;
} ngx_gate_known_t;


typedef struct {
    uint64_t                   value;       /* NGX_GATE_MODE_ENFORCE, .. */
    int64_t                    since;       /* unix ms */
    ngx_gate_known_t           known;
    char                       source[NGX_GATE_SOURCE_LEN];
    char                       actor[NGX_GATE_ACTOR_LEN];
} ngx_gate_mode_t;


/*
 * A switch is closed when its files say so or its control value does.
 * "effective" is what the request path reads, one word; the agent and every
 * writer bring it up to date.  The rest is read under "seq" (odd while it is
 * being written).
 */

#define NGX_GATE_SWITCH_CLOSED      1
#define NGX_GATE_SWITCH_READ_ONLY   2
#define NGX_GATE_SWITCH_OBSERVED    4   /* instead of CLOSED: it is open, but
                                           only because of the mode */

typedef struct {
    uint64_t                   effective;
    uint64_t                   refused_total;
    uint64_t                   observed_total;  /* would have been refused */
    int64_t                    observed_logged; /* the "since" it was said of */
    uint64_t                   seq;

    char                       name[NGX_GATE_NAME_LEN];

    gate_switch_value_t        control;
    ngx_gate_known_t           known;       /* of "control" */
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


/*
 * Totals as one array, for the way to Redis and back.  Their order is part
 * of what nodes of different versions exchange: it may only grow at its end.
 *
 *     0..10    stable: requests, begun, attempts[3], failures[3],
 *              unavailable, broken, censored
 *     11..21   canary: the same
 *     22, 23   saved, fallbacks
 *     24..39   tally[8], n and k in turn
 *     40..295  stable's histogram
 *     296..551 canary's histogram
 */

#define NGX_GATE_VECTOR_ARM        11
#define NGX_GATE_VECTOR_REQUESTS   0     /* within an arm */
#define NGX_GATE_VECTOR_BEGUN      1
#define NGX_GATE_VECTOR_ATTEMPTS   2
#define NGX_GATE_VECTOR_FAILURES   5
#define NGX_GATE_VECTOR_UNAVAILABLE  8
#define NGX_GATE_VECTOR_BROKEN     9
#define NGX_GATE_VECTOR_CENSORED   10
#define NGX_GATE_VECTOR_SAVED      22
#define NGX_GATE_VECTOR_FALLBACKS  23
#define NGX_GATE_VECTOR_LIFETIME   24    /* so many of all steps together */
#define NGX_GATE_VECTOR_TALLY      24
#define NGX_GATE_VECTOR_HIST       (NGX_GATE_VECTOR_TALLY + 2 * NGX_GATE_RULES)
#define NGX_GATE_VECTOR                                                       \
    (NGX_GATE_VECTOR_HIST + NGX_GATE_ARMS * GATE_HIST_BUCKETS)


/*
 * What the other nodes counted in the same step, as of the last sync: the
 * fleet's sum less our own share in it.  Within a tag no element goes back,
 * also when Redis lost some of it for a while.
 */

typedef struct {
    uint64_t                   seq;         /* odd while it is written */
    uint64_t                   tag;         /* of the block it belongs to */
    uint64_t                   synced;      /* monotonic ms */
    uint64_t                   since[NGX_GATE_RULES];  /* monotonic ms: what
                                               came before is no part of the
                                               rule's window; 0: all is */
    uint64_t                   v[NGX_GATE_VECTOR];
} ngx_gate_remote_t;


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

    uint64_t                   breach_since[NGX_GATE_SCOPES]
                                           [NGX_GATE_RULES];  /* msec, 0 no */
    ngx_gate_snapshot_t        snapshots[NGX_GATE_SCOPES][NGX_GATE_RULES]
                                        [NGX_GATE_SNAPSHOTS];
    ngx_gate_hist_snapshot_t   hists[NGX_GATE_SCOPES][NGX_GATE_RATIO_RULES]
                                    [NGX_GATE_SNAPSHOTS];
    uint64_t                   proved;      /* epoch << 32 | scope that
                                               proved its breach */
    uint32_t                   observed_epoch;  /* whose breach was told, and
                                               no more, in mode "observe" */

    /* the fleet's share; written by the agent */

    ngx_gate_remote_t          remote;
    uint64_t                   fleet_total[NGX_GATE_VECTOR_LIFETIME];
    uint64_t                   acked_total[NGX_GATE_VECTOR_LIFETIME];
    uint32_t                   fleet_members;  /* nodes in the sum */

    /* under the slab mutex */

    ngx_gate_rollout_t        *next;
    uint32_t                   serial;
    uint32_t                   step;
    uint32_t                   generation;  /* of the configuration, 0 none */
    uint32_t                   conf_weight;
    uint64_t                   conf_digest;

    ngx_gate_known_t           known;       /* of Redis's hash */
    uint32_t                   provisional; /* the epoch is not Redis's */
    uint32_t                   opening;     /* a changed release waits for
                                               Redis to open its epoch */
    uint32_t                   foreign;     /* the fleet is at another one */
    uint32_t                   flip_epoch;  /* whose flip Redis knows of */
    uint64_t                   opening_since;  /* monotonic ms */

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


/* Redis and the fleet, as the agent sees them; for the status page */

#define NGX_GATE_REDIS_AWAY        0
#define NGX_GATE_REDIS_CONNECTING  1
#define NGX_GATE_REDIS_READY       2

typedef enum {
    NGX_GATE_ERROR_CONNECT = 0,   /* refused, unreachable, closed, reset */
    NGX_GATE_ERROR_TIMEOUT,       /* no answer within the deadline */
    NGX_GATE_ERROR_RESOLVE,
    NGX_GATE_ERROR_TLS,
    NGX_GATE_ERROR_AUTH,          /* NOAUTH, WRONGPASS, NOPERM */
    NGX_GATE_ERROR_ROLE,          /* no master, READONLY, MASTERDOWN */
    NGX_GATE_ERROR_BUSY,          /* LOADING, BUSY, TRYAGAIN, NOREPLICAS */
    NGX_GATE_ERROR_MEMORY,        /* OOM, MISCONF */
    NGX_GATE_ERROR_CLUSTER,       /* MOVED, ASK, CLUSTERDOWN, CROSSSLOT */
    NGX_GATE_ERROR_LIMIT,         /* max number of clients reached */
    NGX_GATE_ERROR_PROTOCOL,      /* no RESP, or more of it than we take */
    NGX_GATE_ERROR_TYPE,          /* WRONGTYPE at a key of ours */
    NGX_GATE_ERROR_VALUE,         /* a control value that makes no sense */
    NGX_GATE_ERROR_SCRIPT,        /* any other error of a script */
    NGX_GATE_ERRORS
} ngx_gate_error_e;

typedef struct {
    char                       name[NGX_GATE_FLEET_NODE_LEN];
    char                       info[NGX_GATE_ERROR_LEN];   /* JSON */
    int64_t                    seen;        /* unix ms, our clock */
} ngx_gate_fleet_node_t;

typedef struct {
    uint32_t                   state;       /* NGX_GATE_REDIS_AWAY, .. */
    uint32_t                   joined;      /* read everything since then */
    uint32_t                   tracking;    /* pushes; 0: polling */
    uint32_t                   evictable;   /* its policy may evict ours */
    uint32_t                   password_live;  /* workers read the file */
    uint32_t                   nnodes;      /* of nodes[] */
    uint32_t                   total_nodes;
    uint32_t                   alive_nodes; /* seen within 3 s, us too */

    char                       address[NGX_GATE_ADDR_LEN];  /* in use */
    char                       role[NGX_GATE_SOURCE_LEN];
    char                       version[NGX_GATE_SOURCE_LEN];
    char                       error[NGX_GATE_ERROR_LEN];   /* the last one */
    int64_t                    error_at;    /* unix ms */
    int64_t                    connected_since;   /* unix ms, 0: it is not */
    int64_t                    last_success;      /* unix ms, of a reply */
    int64_t                    clock_offset;      /* its clock - ours, ms */

    uint64_t                   connects_total;
    uint64_t                   reconnects_total;
    uint64_t                   commands_total;
    uint64_t                   pushes_total;
    uint64_t                   polls_total;
    uint64_t                   poll_finds_total;  /* changes no push told */
    uint64_t                   syncs_total;
    uint64_t                   losses_total;      /* Redis had forgotten */
    uint64_t                   errors_total[NGX_GATE_ERRORS];

    uint64_t                   rtt_count[NGX_GATE_RTT_BUCKETS];  /* < 2^i *
                                                                    64 us */
    uint64_t                   rtt_sum;     /* us */

    uint64_t                   alone_said;  /* monotonic ms: that workers
                                               decide exact limits alone */

    /* what we know of Redis's memory */

    char                       inc[NGX_GATE_INC_LEN];
    uint64_t                   rev;
    uint64_t                   applied;     /* counts changes applied here */

    ngx_gate_fleet_node_t      nodes[NGX_GATE_FLEET_NODES];
} ngx_gate_fleet_t;


/*
 * A letter from a worker that serves the API to the agent.  The agent's
 * answer is in "result": NGX_OK; NGX_DECLINED, the state does not allow it;
 * NGX_BUSY, Redis is away and it takes Redis; NGX_ERROR, nobody knows.
 */

#define NGX_GATE_MAIL_FREE       0
#define NGX_GATE_MAIL_WRITING    1
#define NGX_GATE_MAIL_POSTED     2
#define NGX_GATE_MAIL_TAKEN      3
#define NGX_GATE_MAIL_DONE       4

#define NGX_GATE_MAIL_SWITCH     0
#define NGX_GATE_MAIL_ROLLOUT    1
#define NGX_GATE_MAIL_MODE       2   /* sw is the gate, weight its mode */

typedef struct {
    uint64_t                   id;          /* 1, 2, .. */
    uint32_t                   state;
    uint32_t                   poster;      /* pid */
    uint32_t                   taker;       /* pid */
    uint32_t                   generation;  /* of the poster */
    uint32_t                   kind;
    uint32_t                   sw;          /* index of the zone */
    uint32_t                   action;      /* ngx_gate_action_e */
    uint32_t                   weight;      /* basis points */
    int32_t                    result;
    char                       rollout[NGX_GATE_NAME_LEN];
    gate_switch_value_t        value;
    char                       actor[NGX_GATE_ACTOR_LEN];
    char                       reason[NGX_GATE_REASON_LEN];
    char                       why[NGX_GATE_ERROR_LEN];
} ngx_gate_mail_t;


/* ngx_gate_cursor.h */
typedef struct ngx_gate_cursor_head_s  ngx_gate_cursor_head_t;


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
    ngx_gate_cursor_head_t    *cursors;
    ngx_gate_cursor_head_t    *cursor_keys;

    ngx_gate_mode_t            modes[NGX_GATE_MODES];
    ngx_gate_fleet_t           fleet;
    uint64_t                   mails_total;
    ngx_gate_mail_t            mails[NGX_GATE_MAILS];

    uint32_t                   nslots;      /* that were ever taken */
    ngx_gate_slot_t            slots[NGX_GATE_SLOTS];
} ngx_gate_zone_t;


#endif /* _NGX_GATE_ZONE_H_INCLUDED_ */


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Limit zones: gate_limit_zone as configured, and the memory that the
 * workers of a node share for it.
 *
 * Each zone has shared memory of its own, so that its size is its own matter
 * and adding one disturbs nobody.  It holds the table of callers
 * (core/gate_limit.h), what is on its way to Redis, the overrides, and
 * counters by process.
 *
 * Who writes what: the table, everybody, as its header says; counters, the
 * process that owns the slot; everything else, the agent.
 */


#ifndef _NGX_GATE_LIMIT_H_INCLUDED_
#define _NGX_GATE_LIMIT_H_INCLUDED_


#include "ngx_gate_node.h"
#include "core/gate_limit.h"
#include "core/gate_rate.h"


#define NGX_GATE_LIMIT_MAGIC      0x6c696d69
#define NGX_GATE_LIMIT_LAYOUT     1

#define NGX_GATE_LIMIT_KEYS       100000   /* max_keys= by default */
#define NGX_GATE_LIMIT_BATCH      128      /* keys in one batch */
#define NGX_GATE_LIMIT_OVERRIDES  4096     /* of one zone */

#define NGX_GATE_LIMIT_SYNC_MSEC  100
#define NGX_GATE_LIMIT_SPACE_MSEC 2        /* between batches, flushed early */
#define NGX_GATE_LIMIT_STALE_MSEC 1000

/* slots; a table up to this size is looked through when somebody asks */

#define NGX_GATE_LIMIT_SCAN       (256 * 1024)

/* sync= */

#define NGX_GATE_SYNC_OFF         0        /* this node alone */
#define NGX_GATE_SYNC_ASYNC       1        /* "msec" between two syncs */
#define NGX_GATE_SYNC_EXACT       2        /* Redis is asked each time */

/* on_redis_loss= */

#define NGX_GATE_LOSS_SHARE       0
#define NGX_GATE_LOSS_LOCAL       1
#define NGX_GATE_LOSS_DENY        2
#define NGX_GATE_LOSS_ALLOW       3


/* of one process; plain additions by it alone */

typedef struct {
    uint64_t                   passed;
    uint64_t                   limited;
    uint64_t                   observed;   /* would have been limited */
    uint64_t                   unlimited;  /* no key, or mode "off" */
    uint64_t                   shared;     /* of limited: by the share rule */
    uint64_t                   fallback;   /* decisions without Redis */
    uint64_t                   full_passed;   /* no room, admitted uncounted */
    uint64_t                   full_limited;  /* no room, refused */
    uint64_t                   evicted;    /* slots of paid debts taken */
    uint64_t                   dropped;    /* of them, with unsent units */
    uint64_t                   asked;      /* sync=exact: commands to Redis */
    uint64_t                   timeouts;   /* of them, without an answer */
    uint64_t                   bad_rate;   /* values that are no rate */
    uint64_t                   bad_cost;   /* values that are no cost */
    uint64_t                   pad[2];     /* to two cache lines */
} ngx_gate_limit_count_t;


/* an override: what Redis's hash says of one key */

typedef struct {
    uint64_t                   hash;       /* 0: free */
    gate_policy_t              policy;
} ngx_gate_override_t;

/*
 * Two sets: one in use, one that the agent fills.  Open addressing by hash,
 * linear, half full at most.
 */

typedef struct {
    uint32_t                   n;
    ngx_gate_override_t        slots[NGX_GATE_LIMIT_OVERRIDES * 2];
} ngx_gate_overrides_t;


/* a batch is the same one, whatever happens, until Redis acknowledged it */

typedef struct {
    uint64_t                   seq;        /* 1, 2, .. */
    uint32_t                   n;          /* 0: nothing is on its way */
    uint32_t                   sent;       /* at least once */
    int64_t                    frozen;     /* ns, monotonic */
    gate_limit_debt_t          debts[NGX_GATE_LIMIT_BATCH];
} ngx_gate_limit_batch_t;


typedef struct {
    uint32_t                   magic;
    uint32_t                   layout;
    uint64_t                   size;       /* of this structure */
    uint64_t                   keys;       /* max_keys= */
    uint64_t                   boot;       /* random, of this memory: who
                                              sends its batches */

    uint64_t                   seed[2];    /* of the hash, as the agent last
                                              took it from the node */
    uint32_t                   online;     /* Redis answers, and what was
                                              owed meanwhile is settled */
    uint32_t                   nodes;      /* of the fleet, as last known */
    uint32_t                   urgent;     /* a mark for flush was set */
    uint32_t                   unused;

    /* the agent's */

    uint64_t                   settle_at;  /* gate_limit_settle() */
    uint64_t                   sweep_at;   /* gate_limit_sweep() */
    uint64_t                   sweep_msec; /* of the last look, monotonic */
    gate_limit_count_t         sweeping;
    gate_limit_count_t         swept;      /* the last whole pass */
    uint64_t                   acked_msec; /* monotonic, 0 never */
    uint64_t                   lost_msec;  /* since when not online */
    uint64_t                   batches_total;
    uint64_t                   debts_total;   /* keys in them */
    uint64_t                   resent_total;
    ngx_gate_limit_batch_t     batch;

    uint32_t                   override;   /* of the two, in use */
    uint32_t                   override_known;  /* Redis was read once */
    uint64_t                   override_errors;
    uint64_t                   override_fields; /* in Redis's hash */
    char                       override_digest[41];  /* SHA1, or empty */
    ngx_gate_overrides_t       overrides[2];

    ngx_gate_limit_count_t     counts[NGX_GATE_SLOTS];  /* by process slot */
} ngx_gate_limit_zone_t;


struct ngx_gate_limit_conf_s {
    ngx_str_t                  name;
    gate_policy_t              policy;     /* of keys without another one */
    uint8_t                    cls;        /* of its rate */
    ngx_uint_t                 sync;       /* NGX_GATE_SYNC_* */
    ngx_msec_t                 msec;       /* of SYNC_ASYNC */
    ngx_msec_t                 timeout;    /* of SYNC_EXACT */
    ngx_uint_t                 loss;       /* NGX_GATE_LOSS_* */
    ngx_uint_t                 refuse;     /* newcomers, when it is full */
    ngx_uint_t                 keys;       /* max_keys= */
    ngx_uint_t                 index;      /* in node->limits */

    ngx_gate_node_t           *node;
    ngx_shm_zone_t            *shm_zone;
    ngx_gate_limit_zone_t     *sh;
    gate_limit_table_t        *table;
    void                      *http;       /* what the request path adds */
};


#pragma GCC visibility push(hidden)


/*
 * Adds the shared memory of a zone to the cycle; tag: of its shm_zone.
 * NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_gate_limit_add(ngx_conf_t *cf, ngx_gate_limit_conf_t *lc,
    void *tag);

/* In the master, once the cycle is committed. */
void ngx_gate_limit_adopt(ngx_gate_node_t *node, ngx_log_t *log);

/* This process's counters. */
#define ngx_gate_limit_counts(lc)                                             \
    (&(lc)->sh->counts[ngx_process_slot])

/* Sum over all processes, also those that are gone. */
void ngx_gate_limit_sum(ngx_gate_limit_conf_t *lc,
    ngx_gate_limit_count_t *sum);

/* The hash that names a key, here and in Redis. */
uint64_t ngx_gate_limit_hash(ngx_gate_limit_conf_t *lc, u_char *key,
    size_t len);

/* Whether Redis says another policy of anybody. */
#define ngx_gate_limit_overridden(sh)                                         \
    (ngx_gate_peek(&(sh)->overrides[ngx_gate_peek(&(sh)->override) & 1].n))

/* The policy of that key if Redis says another one, else NULL. */
const gate_policy_t *ngx_gate_limit_override(ngx_gate_limit_conf_t *lc,
    uint64_t hash);

/* Whether that zone has something to do with Redis at all. */
#define ngx_gate_limit_fleet(lc)                                              \
    ((lc)->node->redis != NULL && (lc)->sync != NGX_GATE_SYNC_OFF)

/* A decision left something that Redis should hear of soon. */
void ngx_gate_limit_flush(ngx_gate_limit_conf_t *lc);

/* Of the agent: seed, sweep. */
void ngx_gate_limit_tick(ngx_gate_node_t *node);


/* ngx_gate_wake.c: how any worker wakes the agent */

/* In the master: makes the descriptor once, all its children inherit it. */
void ngx_gate_wake_init(ngx_log_t *log);

/* Of the agent: handler is called soon after somebody calls. */
ngx_int_t ngx_gate_wake_listen(void (*handler)(void *data), void *data,
    ngx_log_t *log);
void ngx_gate_wake_close(void);

/* Of anybody; never blocks. */
void ngx_gate_wake(void);


#pragma GCC visibility pop


/* Nanoseconds of the monotonic clock, read now: nginx's own is of ms. */

static ngx_inline int64_t
ngx_gate_nsec(void)
{
    struct timespec  ts;

    /* never fails, and is no system call where the vDSO has it */

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (int64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}


/* How things stand for a decision now. */

static ngx_inline void
ngx_gate_limit_env(ngx_gate_limit_conf_t *lc, gate_limit_env_t *env)
{
    env->now = ngx_gate_nsec();
    env->shared = ngx_gate_limit_fleet(lc);
    env->away = 0;

    if (!env->shared) {
        return;
    }

    env->nodes = 1;
    env->stale = (int64_t) NGX_GATE_LIMIT_STALE_MSEC * 1000000;
    env->asof = env->now;

    if (!ngx_gate_load(&lc->sh->online)) {
        env->away = (lc->loss == NGX_GATE_LOSS_SHARE) ? GATE_LIMIT_AWAY_SHARE
                                                      : GATE_LIMIT_AWAY_LOCAL;
        env->nodes = ngx_gate_peek(&lc->sh->nodes);
        env->asof = (int64_t) ngx_gate_peek(&lc->sh->lost_msec) * 1000000;
    }
}


#endif /* _NGX_GATE_LIMIT_H_INCLUDED_ */


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * A node: one nginx with its shared zone, seen from one process.
 *
 * Life of a configuration:
 *   1. the directives fill an ngx_gate_node_t of the new cycle's pool;
 *   2. ngx_gate_node_init_zone() maps or makes the zone and reserves an
 *      inert object for each new name: it may still fail, and a reload that
 *      fails afterwards has changed nothing that anybody could see;
 *   3. ngx_gate_node_adopt() runs in the master once the reload can no
 *      longer fail (init_module): it reads the state file if the zone is
 *      new, opens epochs, and makes this configuration the live one;
 *   4. ngx_gate_node_start() runs in each worker: it takes the slot and
 *      starts the tick; one worker of the live generation becomes the agent.
 */


#ifndef _NGX_GATE_NODE_H_INCLUDED_
#define _NGX_GATE_NODE_H_INCLUDED_


#include "ngx_gate_zone.h"
#include "core/gate_parse.h"
#include "core/gate_verdict.h"


#pragma GCC visibility push(hidden)


#define NGX_GATE_STEPS                16

/* false alarms per window length, and per start of a window */

#define NGX_GATE_ALPHA                0.001
#define NGX_GATE_START_ALPHA          (NGX_GATE_ALPHA / NGX_GATE_SNAPSHOTS)

#define NGX_GATE_RULE_ERROR_RATE      0
#define NGX_GATE_RULE_QUANTILE        1
#define NGX_GATE_RULE_ERROR_RATIO     2
#define NGX_GATE_RULE_LATENCY_RATIO   3


typedef struct {
    ngx_uint_t                 type;
    double                     bound;     /* rate or ratio; for a quantile
                                             the share that may be slower */
    double                     q;         /* 0.95 for p95 */
    ngx_msec_t                 threshold; /* of a quantile */
    ngx_msec_t                 window;
    ngx_msec_t                 hold;
    uint64_t                   min;
    ngx_uint_t                 hists;     /* index, of a latency ratio */
    unsigned                   exact:1;
    gate_test_t                test;
    ngx_str_t                  text;      /* as it was configured */
} ngx_gate_rule_t;


typedef struct {
    ngx_uint_t                 weight;    /* basis points */
    ngx_msec_t                 time;      /* 0: the last one, for good */
} ngx_gate_step_t;


typedef struct {
    ngx_str_t                  name;
    ngx_str_t                  stable;
    ngx_str_t                  canary;
    ngx_str_t                  id;
    ngx_str_t                  labels;    /* JSON object or empty */
    ngx_uint_t                 weight;    /* basis points */

    ngx_gate_rule_t            rules[NGX_GATE_RULES];
    ngx_uint_t                 nrules;
    ngx_uint_t                 nhists;
    ngx_uint_t                 nquantiles;
    uint64_t                   digest;    /* of the rules */

    ngx_gate_step_t            steps[NGX_GATE_STEPS];
    ngx_uint_t                 nsteps;

    ngx_gate_rollout_t        *sh;
    uint64_t                  *mode;      /* of all canaries, in the zone */
    ngx_uint_t                 index;
} ngx_gate_rollout_conf_t;


typedef struct {
    ngx_str_t                  path;      /* NUL-terminated */
    ngx_uint_t                 sw;        /* index of the switch */
} ngx_gate_file_conf_t;


typedef struct ngx_gate_node_s  ngx_gate_node_t;

/* ngx_gate_limit.h */
typedef struct ngx_gate_limit_conf_s  ngx_gate_limit_conf_t;


/*
 * The way to the fleet, which lies above us: set where gate_redis is
 * configured.  tick: of the agent, some fifty times a second.
 * stop: this process is not the agent (any more); called often, the first
 * time counts.
 */

typedef struct {
    void                     (*tick)(ngx_gate_node_t *node, ngx_log_t *log);
    void                     (*stop)(ngx_gate_node_t *node, ngx_log_t *log,
                                     ngx_uint_t last);
} ngx_gate_fleet_ops_t;


struct ngx_gate_node_s {
    size_t                     size;
    ngx_shm_zone_t            *shm_zone;
    ngx_path_t                *state;     /* NULL: nothing is kept */

    ngx_array_t                switches;  /* of ngx_str_t; 0 is the global */
    ngx_array_t                rollouts;  /* of ngx_gate_rollout_conf_t * */
    ngx_array_t                files;     /* of ngx_gate_file_conf_t */
    ngx_array_t                limits;    /* of ngx_gate_limit_conf_t * */
    ngx_array_t                cursors;   /* of ngx_gate_cursor_conf_t * */
    ngx_array_t                cursor_keys;  /* likewise */

    ngx_gate_zone_t           *sh;
    ngx_slab_pool_t           *shpool;
    ngx_uint_t                 sw_map[NGX_GATE_SWITCHES];  /* conf to zone */
    uint32_t                   generation;

    void                      *redis;     /* ngx_gate_redis_conf_t, or NULL */
    ngx_gate_fleet_ops_t      *fleet;     /* NULL: no gate_redis */
};


/* an attempt on an upstream server, in the memory of its request */

typedef struct {
    ngx_queue_t                queue;     /* of those that may become slow */
    ngx_msec_t                 start;
    ngx_msec_t                *header;    /* (ngx_msec_t) -1 until it came */
    uint64_t                   tag;
    ngx_gate_block_t          *block;
    uint8_t                    arm;
    uint8_t                    kind;
    uint8_t                    slow;      /* rules that counted it already */
    uint8_t                    active;
    uint8_t                    queued;
} ngx_gate_attempt_t;


#define NGX_GATE_OUTCOME_OK           0
#define NGX_GATE_OUTCOME_FAILED       1
#define NGX_GATE_OUTCOME_BROKEN       2   /* after the header */
#define NGX_GATE_OUTCOME_CENSORED     3   /* the client left first */
#define NGX_GATE_OUTCOME_UNAVAILABLE  4   /* there was nobody to ask */


/* ngx_gate_node.c */

/*
 * Index in node->switches of the switch with that name, made when it is new;
 * NGX_ERROR when there are NGX_GATE_SWITCHES already or memory is short.
 */
ngx_int_t ngx_gate_node_switch(ngx_gate_node_t *node, ngx_str_t *name);

/* For ngx_shm_zone_t.init; shm_zone->data is the ngx_gate_node_t. */
ngx_int_t ngx_gate_node_init_zone(ngx_shm_zone_t *shm_zone, void *data);

/* In the master, when the cycle is committed.  It cannot fail. */
void ngx_gate_node_adopt(ngx_cycle_t *cycle, ngx_gate_node_t *node);

/* In init_process of workers.  NGX_OK, or NGX_ERROR when memory is short. */
ngx_int_t ngx_gate_node_start(ngx_cycle_t *cycle, ngx_gate_node_t *node);

/* In exit_process. */
void ngx_gate_node_stop(ngx_cycle_t *cycle);

/* The slot of this process; never NULL after ngx_gate_node_start(). */
extern ngx_gate_slot_t  *ngx_gate_slot;

/* Whether the process that owns the slot lives (a system call). */
ngx_uint_t ngx_gate_slot_alive(ngx_gate_slot_t *slot);

/*
 * Slots of the dead become nobody's, before another process gets their pid.
 * What they counted stays: whoever takes the slot next clears the gauges.
 */
void ngx_gate_node_sweep(ngx_gate_zone_t *sh);

/* Whether that process is one of ours and lives. */
ngx_uint_t ngx_gate_node_alive(ngx_gate_zone_t *sh, uint32_t pid);

/* Copies text of any length and NUL-terminates it, cut to fit. */
void ngx_gate_text(char *dst, size_t size, u_char *src, size_t len);

/* Wall-clock milliseconds of this turn of the event loop. */
int64_t ngx_gate_now(void);

/* Marks what the state file holds as changed.  Under the slab mutex or not. */
void ngx_gate_changed(ngx_gate_zone_t *sh);

void ngx_gate_random(void *p, size_t len);


/* ngx_gate_agent.c */

ngx_int_t ngx_gate_agent_start(ngx_cycle_t *cycle, ngx_gate_node_t *node);
void ngx_gate_agent_stop(ngx_cycle_t *cycle);

/* The queue of attempts in flight of one rollout in this process. */
ngx_queue_t *ngx_gate_agent_flights(ngx_gate_rollout_conf_t *rc);


/* ngx_gate_switch.c */

/* The request path: NGX_GATE_SWITCH_* of the switch, one load. */
#define ngx_gate_switch_effective(s)  ngx_gate_peek(&(s)->effective)

/* Whether it refuses anybody: a switch that is observed does not. */
#define ngx_gate_switch_on(e)  (((e) & NGX_GATE_SWITCH_CLOSED) != 0)

/*
 * Sets the control value, at once for every worker.  Takes the slab mutex.
 * source and actor: NUL-terminated.
 */
void ngx_gate_switch_set(ngx_gate_node_t *node, ngx_gate_switch_t *s,
    gate_switch_value_t *v, const char *source, const char *actor);

/* What the files say: v is NULL when none of them says "on". */
void ngx_gate_switch_set_file(ngx_gate_node_t *node, ngx_gate_switch_t *s,
    gate_switch_value_t *v);

/* Time went on: windows begin and end.  Takes the slab mutex if need be. */
void ngx_gate_switch_tick(ngx_gate_node_t *node, ngx_gate_switch_t *s);

/* The mode, or something else that "effective" depends on, has changed. */
void ngx_gate_switch_refresh_locked(ngx_gate_node_t *node,
    ngx_gate_switch_t *s);

/*
 * A consistent copy of the switch.  It never waits: when a writer died in
 * the middle the copy is what there is, with the texts terminated.
 */
void ngx_gate_switch_read(ngx_gate_switch_t *s, ngx_gate_switch_t *copy);

/* The value that counts now: the file's where both close the switch alike. */
gate_switch_value_t *ngx_gate_switch_value(ngx_gate_switch_t *copy);

/* Sum over the living processes; sw is an index of the zone. */
void ngx_gate_switch_inflight(ngx_gate_zone_t *sh, ngx_uint_t sw,
    ngx_gate_inflight_t *sum);


/* ngx_gate_rollout.c */

#define ngx_gate_word_epoch(w)    ((uint32_t) ((w) >> 32))
#define ngx_gate_word_state(w)    ((ngx_uint_t) ((w) >> 29) & 7)
#define ngx_gate_word_cause(w)    ((ngx_uint_t) ((w) >> 25) & 15)
#define ngx_gate_word_block(w)    ((ngx_uint_t) ((w) >> 23) & 3)
#define ngx_gate_word_seed(w)     ((ngx_uint_t) ((w) >> 22) & 1)
#define ngx_gate_word_serial(w)   ((ngx_uint_t) ((w) >> 14) & 0xff)
#define ngx_gate_word_weight(w)   ((ngx_uint_t) (w) & 0x3fff)

#define NGX_GATE_WEIGHT_MASK      0x3fffULL
#define NGX_GATE_SEED_BIT         (1ULL << 22)
#define NGX_GATE_BLOCK_MASK       0x1bfc000ULL   /* block and serial */

#define NGX_GATE_CAUSE_RESTORED   14
#define NGX_GATE_CAUSE_OPERATOR   15

/* ro->opening: there is no epoch of Redis's for this release yet */

#define NGX_GATE_OPENING          1
#define NGX_GATE_OPENING_CHANGED  2    /* the configuration was changed */
#define NGX_GATE_OPENING_SERVED   4    /* meanwhile it is served alone */


/* rest: block, seed and serial as they stand in another word */

static ngx_inline uint64_t
ngx_gate_word(uint32_t epoch, ngx_uint_t state, ngx_uint_t cause,
    uint64_t rest, ngx_uint_t weight)
{
    return (uint64_t) epoch << 32
           | (uint64_t) state << 29
           | (uint64_t) cause << 25
           | (rest & (NGX_GATE_BLOCK_MASK|NGX_GATE_SEED_BIT))
           | (weight & NGX_GATE_WEIGHT_MASK);
}


typedef enum {
    NGX_GATE_DO_WEIGHT = 0,
    NGX_GATE_DO_PAUSE,
    NGX_GATE_DO_RESUME,
    NGX_GATE_DO_PROMOTE,
    NGX_GATE_DO_ABORT,
    NGX_GATE_DO_RETRY,
    NGX_GATE_DO_START
} ngx_gate_action_e;

/*
 * An operator's wish.  weight: basis points, of NGX_GATE_DO_WEIGHT.
 * NGX_OK; NGX_DECLINED when the state does not allow it, *why (static) says
 * why and what to do instead.  Takes the slab mutex.
 */
ngx_int_t ngx_gate_rollout_do(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_gate_action_e action, ngx_uint_t weight,
    const char *source, const char *actor, const char *reason,
    const char **why);

/*
 * The flip: progressing, paused or promoted becomes rolled_back at weight 0,
 * if the word still is w.  Lock-free.  NGX_OK for exactly one caller.
 */
ngx_int_t ngx_gate_rollout_flip(ngx_gate_rollout_conf_t *rc, uint64_t w,
    ngx_uint_t cause);

/*
 * The next step, if the word still is w: that weight, or promoted.  NGX_OK or
 * NGX_DECLINED.  Takes the slab mutex.
 */
ngx_int_t ngx_gate_rollout_advance(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, uint64_t w, ngx_uint_t weight,
    ngx_uint_t promote);

/* Applies a configuration to the object.  Under the slab mutex. */
void ngx_gate_rollout_adopt_locked(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_log_t *log);

/* Takes over what the state file says, if it is newer.  Under the mutex. */
void ngx_gate_rollout_import_locked(ngx_gate_node_t *node,
    ngx_gate_rollout_t *ro, gate_state_rollout_t *st);

void ngx_gate_rollout_export_locked(ngx_gate_rollout_t *ro,
    gate_state_rollout_t *st);

ngx_gate_rollout_t *ngx_gate_rollout_find(ngx_gate_zone_t *sh, u_char *name,
    size_t len);

/* Whether the object is of the configured arms and id=. */
ngx_uint_t ngx_gate_rollout_same(ngx_gate_rollout_t *ro,
    ngx_gate_rollout_conf_t *rc);

/*
 * Takes the next block for (epoch, weight), as step ro->step + 1, and returns
 * w with its index and serial: the caller swaps the word.
 */
uint64_t ngx_gate_rollout_block_locked(ngx_gate_rollout_t *ro, uint64_t w,
    uint32_t epoch, ngx_uint_t weight, uint64_t digest);

/* Who changed the state, and why. */
void ngx_gate_rollout_note_locked(ngx_gate_rollout_t *ro, const char *source,
    const char *actor, const char *reason);

/* Replaces the object's state by that one, whatever it was. */
void ngx_gate_rollout_take_locked(ngx_gate_rollout_t *ro,
    gate_state_rollout_t *st);

/* The cause in the word for a state that came from elsewhere. */
ngx_uint_t ngx_gate_rollout_cause(gate_state_rollout_t *st);

/* Its record came along, nobody has to write another. */
void ngx_gate_rollout_import_record(ngx_gate_rollout_t *ro,
    gate_state_rollout_t *st);


/* ngx_gate_rollout_told.c: what the fleet decided */

#define NGX_GATE_TOLD_NOTHING   0
#define NGX_GATE_TOLD_CHANGED   1
#define NGX_GATE_TOLD_FOREIGN   2     /* that is another release */
#define NGX_GATE_TOLD_OLDER     3     /* ours is the later epoch */

/*
 * Redis says that the rollout is at st, as of revision rev (times in st are
 * of this node's clock).  Within an epoch a rollback here stays; a rollback
 * under a provisional epoch is taken over into one that is not newer.
 * NGX_GATE_TOLD_*.  Takes the slab mutex.
 */
ngx_uint_t ngx_gate_rollout_told(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, gate_state_rollout_t *st, uint64_t rev);

/*
 * An operator deleted it from Redis: everybody to stable, until somebody
 * starts it anew.  1 if that changed something.  Takes the slab mutex.
 */
ngx_uint_t ngx_gate_rollout_deleted(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, uint64_t rev);

/*
 * Redis did not answer in time and there is no memory of this release: it is
 * served at its configured weight, under an epoch of our own.  Takes the slab
 * mutex.
 */
void ngx_gate_rollout_alone(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc);


/* ngx_gate_evidence.c */

/* A request was sent to an arm by weight, key or cookie. */
void ngx_gate_evidence_request(ngx_gate_rollout_conf_t *rc, uint64_t w,
    ngx_uint_t arm);

/* An attempt begins.  header: where its header time will appear. */
void ngx_gate_evidence_begin(ngx_gate_rollout_conf_t *rc, uint64_t w,
    ngx_gate_attempt_t *a, ngx_uint_t arm, ngx_uint_t kind,
    ngx_msec_t *header);

/*
 * It ended, exactly once for each begin.  Flips the rollout when this
 * attempt proves a breach.
 */
void ngx_gate_evidence_end(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_gate_attempt_t *a, ngx_uint_t outcome);

/* It was none: nginx takes it back and tries again for nothing. */
void ngx_gate_evidence_cancel(ngx_gate_rollout_conf_t *rc,
    ngx_gate_attempt_t *a);

/* A canary that failed was made good by stable. */
void ngx_gate_evidence_saved(ngx_gate_rollout_conf_t *rc,
    ngx_gate_attempt_t *a);
void ngx_gate_evidence_fallback(ngx_gate_rollout_conf_t *rc,
    ngx_gate_attempt_t *a);

/* Attempts of this process that are slow by now, though they still run. */
void ngx_gate_evidence_scan(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_queue_t *flights);

/* The block in use; it may be replaced at any moment. */
ngx_gate_block_t *ngx_gate_evidence_block(ngx_gate_rollout_t *ro, uint64_t w);


/* ngx_gate_window.c */

typedef struct {
    ngx_gate_rollout_conf_t   *rc;
    ngx_gate_block_t          *b;
    ngx_gate_remote_t         *remote;    /* NULL: our own numbers only */
    uint64_t                   seq;       /* of "remote" */
    ngx_uint_t                 rule;
    ngx_uint_t                 scope;
} ngx_gate_window_t;

/*
 * What the other nodes counted in the same step as block b, or NULL where
 * nobody told us.  What is read there holds if its seq is still *seq then.
 */
ngx_gate_remote_t *ngx_gate_remote(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_gate_block_t *b, uint64_t *seq);

/* NGX_OK; NGX_DECLINED: there are no such numbers. */
ngx_int_t ngx_gate_window_open(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_uint_t rule, ngx_gate_block_t *b,
    ngx_uint_t scope, ngx_gate_window_t *win);

/* Attempts for min=. */
uint64_t ngx_gate_window_eligible(ngx_gate_window_t *win);

/* What is in the window.  NGX_AGAIN: the agent is at work there. */
ngx_int_t ngx_gate_window_tallies(ngx_gate_window_t *win,
    ngx_gate_tally_t arm[]);
ngx_int_t ngx_gate_window_hists(ngx_gate_window_t *win,
    uint32_t h[][GATE_HIST_BUCKETS], uint64_t total[]);

/* Of the agent: notes down where windows begin. */
void ngx_gate_window_tick(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    ngx_gate_block_t *b);

/* Of the agent: the others' share came (the first n totals). */
void ngx_gate_window_remote(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_gate_block_t *b, uint64_t tag,
    uint64_t *v, ngx_uint_t n);


/* ngx_gate_verdict.c */

#define ngx_gate_rules_all(rc)  ((1u << (rc)->nrules) - 1)
#define NGX_GATE_SCOPES_ALL     ((1u << NGX_GATE_SCOPES) - 1)

/*
 * Flips the rollout if one of the rules (a bit each) is broken by the numbers
 * of one of the scopes (a bit each), and the block of that tag is still in
 * use.
 */
void ngx_gate_verdict_judge(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, uint64_t tag, ngx_uint_t rules,
    ngx_uint_t scopes);

/* The agent's look: takes snapshots and judges every rule. */
void ngx_gate_verdict_tick(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc);

/*
 * Of the agent, after a sync: takes over what the others counted, the first n
 * totals, and judges.
 */
void ngx_gate_verdict_remote(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, uint64_t tag, uint64_t *v, ngx_uint_t n);

/* What a rule looks at, for the status page and the record. */

typedef struct {
    uint64_t                   n;         /* eligible for min= */
    double                     value;     /* NaN: no data */
    double                     bound;
    ngx_uint_t                 scope;
    unsigned                   there:1;   /* there are such numbers */
    unsigned                   enough:1;  /* min= is reached */
    unsigned                   over:1;    /* proved */
} ngx_gate_look_t;

#define ngx_gate_scope_name(look)                                             \
    ((look)->scope == NGX_GATE_SCOPE_FLEET ? "fleet" : "node")

void ngx_gate_verdict_look(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_uint_t rule, ngx_gate_block_t *b,
    ngx_uint_t scope, ngx_gate_look_t *look);

/* The fleet's numbers where there are any; over: proved by either. */
void ngx_gate_verdict_show(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_uint_t rule, ngx_gate_block_t *b,
    ngx_gate_look_t *look);


/* ngx_gate_vector.c */

/* The NGX_GATE_VECTOR totals of one block. */
void ngx_gate_vector_block(ngx_gate_block_t *b, uint64_t *v);

/* Only those before the histograms, NGX_GATE_VECTOR_HIST. */
void ngx_gate_vector_counts(ngx_gate_block_t *b, uint64_t *v);

/*
 * The NGX_GATE_VECTOR_LIFETIME totals of all steps.  Under the slab mutex, so
 * that none goes back when a block is taken for another step.
 */
void ngx_gate_vector_lifetime(ngx_gate_rollout_t *ro, uint64_t *v);

/*
 * Both arms as the fleet sees them in the step of block b, ours of now and the
 * others' of the last sync.  NGX_OK; NGX_DECLINED: there are no such numbers.
 */
ngx_int_t ngx_gate_vector_fleet(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_gate_block_t *b, ngx_gate_arm_t arm[]);


/* ngx_gate_breaker.c */

/* Breaker of an arm: NGX_OK to try it, NGX_BUSY while it is open. */
ngx_int_t ngx_gate_breaker_check(ngx_gate_breaker_t *b);
void ngx_gate_breaker_connected(ngx_gate_breaker_t *b);
void ngx_gate_breaker_refused(ngx_gate_breaker_t *b, ngx_msec_t start);


/* ngx_gate_steps.c */

/* Of the agent: is it time for the next step?  Not where Redis decides it. */
void ngx_gate_steps_tick(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc);

typedef struct {
    uint64_t                   word;      /* that it follows from */
    ngx_uint_t                 from;      /* basis points */
    ngx_uint_t                 weight;
    ngx_uint_t                 promote;
    ngx_msec_t                 time;      /* of the step that is over */
} ngx_gate_next_step_t;

/* 1 when the next step is due, as far as this node can tell. */
ngx_uint_t ngx_gate_steps_due(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_gate_next_step_t *ns);


/* ngx_gate_event.c */

/* Adds one line of JSON (len < NGX_GATE_RECORD_LEN).  Takes the mutex. */
void ngx_gate_event_add(ngx_gate_node_t *node, const char *json, size_t len);

/* Copies event "number" if it is still there.  NGX_OK or NGX_DECLINED. */
ngx_int_t ngx_gate_event_get(ngx_gate_zone_t *sh, uint64_t number,
    char text[NGX_GATE_RECORD_LEN]);

/*
 * Writes the record of the rollout's last flip, if nobody did: event, log,
 * the rollout's own copy.  Any process may call it any number of times.
 */
void ngx_gate_event_record(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc);

/*
 * A breach that is only reported, in the mode "observe": one event an epoch.
 * cause: rule + 1.
 */
void ngx_gate_event_observed(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, uint64_t w, ngx_uint_t cause,
    ngx_uint_t scope);

/* An operator's write: who, what, on what, from, to. */
void ngx_gate_event_audit(ngx_gate_node_t *node, const char *what,
    ngx_str_t *object, const char *source, const char *actor,
    const char *before, const char *after, const char *reason);


/* ngx_gate_mail.c: letters from workers that serve the API to the agent */

/*
 * Posts a copy of the letter: kind, sw, action, weight, rollout, value, actor
 * and reason.  NGX_OK and its number; NGX_BUSY when the box is full.
 */
ngx_int_t ngx_gate_mail_post(ngx_gate_node_t *node, ngx_gate_mail_t *letter,
    uint64_t *id);

/*
 * Of the poster.  NGX_AGAIN; NGX_OK: result and why are in the copy, and the
 * letter is gone.  A letter whose taker died or is not the agent any more has
 * the result NGX_ERROR.
 */
ngx_int_t ngx_gate_mail_result(ngx_gate_node_t *node, uint64_t id,
    ngx_gate_mail_t *copy);

/*
 * The poster gives up.  NGX_OK: nobody had taken it, it will not be done;
 * NGX_DECLINED: it may be done, or is.
 */
ngx_int_t ngx_gate_mail_drop(ngx_gate_node_t *node, uint64_t id);

/*
 * Of the agent: the oldest letter, which is its own from here on, or NULL.
 * It stays as it is until this process says that it is done, unless another
 * one becomes the agent: an answer that comes by and by works on a copy.
 */
ngx_gate_mail_t *ngx_gate_mail_take(ngx_gate_node_t *node);

/* The answer; ignored when the letter is not there any more.  No lock. */
void ngx_gate_mail_done(ngx_gate_mail_t *m, uint64_t id, ngx_int_t result,
    const char *why);


/* ngx_gate_mode.c: "enforce", "observe" or "off" for each gate */

/* The names, and NULL for a number that has none. */
const char *ngx_gate_mode_gate_name(ngx_uint_t gate);
const char *ngx_gate_mode_name(uint64_t value);

/* The numbers, or NGX_ERROR. */
ngx_int_t ngx_gate_mode_gate(const u_char *name, size_t len);
ngx_int_t ngx_gate_mode_value(const u_char *name, size_t len);

/* The request path: one load. */
#define ngx_gate_mode(sh, gate)  ngx_gate_peek(&(sh)->modes[gate].value)

/*
 * Sets a mode, at once for every worker; switches are brought up to date.
 * Takes the slab mutex.  source and actor: NUL-terminated.
 */
void ngx_gate_mode_set(ngx_gate_node_t *node, ngx_uint_t gate, uint64_t value,
    const char *source, const char *actor);


/* ngx_gate_io.c: a process of its own for what a disk may hang on */

typedef void (*ngx_gate_io_pt)(void *data);

typedef struct {
    ngx_pid_t                  pid;       /* 0: no job */
    uint64_t                  *shared;    /* done, and the data behind it */
    void                      *data;
    size_t                     size;
} ngx_gate_io_t;

/* Memory that a job's process shares with us, zeroed; NULL if it is short. */
void *ngx_gate_io_alloc(size_t size);
void ngx_gate_io_free(void *p, size_t size);

/*
 * Runs the job in another process.  What it changes in the "size" bytes at
 * data is seen here when ngx_gate_io_idle() says so, what it changes elsewhere
 * is not; size must be the same each time.  keep: a descriptor that stays
 * open there, or -1.  NGX_OK; NGX_AGAIN while the last job runs; NGX_ERROR
 * with errno.
 */
ngx_int_t ngx_gate_io_post(ngx_gate_io_t *io, ngx_gate_io_pt job, void *data,
    size_t size, int keep);

/* 1 when no job runs.  A job whose process was killed changed nothing. */
ngx_uint_t ngx_gate_io_idle(ngx_gate_io_t *io);

/* Whether path is on a file system of this machine, or is not there. */
ngx_uint_t ngx_gate_io_local(const char *path);


/* ngx_gate_state.c: what is kept */

/* Takes over what is newer than what the zone has.  Under no lock. */
void ngx_gate_state_import(ngx_gate_node_t *node, gate_state_t *st,
    ngx_log_t *log);

/* Copies what an older zone of this master holds (the size changed). */
void ngx_gate_state_copy(ngx_gate_node_t *node, ngx_gate_zone_t *from,
    ngx_slab_pool_t *shpool, ngx_log_t *log);

/*
 * The state as text for gate_state_free_text(), and the revision that it has
 * at least.  NULL when memory is short.
 */
char *ngx_gate_state_encode(ngx_gate_node_t *node, size_t *len,
    uint64_t *revision);


/* ngx_gate_store.c: how that gets to the disk */

/* In the master: reads the state file into the zone, never fails. */
void ngx_gate_store_load(ngx_gate_node_t *node, ngx_log_t *log);

/* Of the agent: saves when something changed.  Never blocks. */
void ngx_gate_store_tick(ngx_gate_node_t *node, ngx_log_t *log);

/* Gives the directory to a successor, unless a write is under way. */
void ngx_gate_store_release(void);

/*
 * Of a process that goes: what no agent will save it writes itself, without
 * fsync.  wait: for up to half a second for its own writer.
 */
void ngx_gate_store_final(ngx_gate_node_t *node, ngx_log_t *log,
    ngx_uint_t wait);


/* ngx_gate_watch.c: maintenance files */

/* In the master, before there is traffic. */
void ngx_gate_watch_load(ngx_gate_node_t *node, ngx_log_t *log);

/* Of the agent: looks five times a second. */
void ngx_gate_watch_tick(ngx_gate_node_t *node, ngx_log_t *log);


#pragma GCC visibility pop


#endif /* _NGX_GATE_NODE_H_INCLUDED_ */

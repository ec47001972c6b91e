
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * This node as a member of its fleet.
 *
 *   ngx_gate_fleet.c     the agent's part: opens the session, runs the rest
 *   ngx_gate_control.c   control keys, switches and modes: from Redis
 *   ngx_gate_put.c       and to it
 *   ngx_gate_decide.c    rollouts: what Redis decided, what it is to be told
 *   ngx_gate_op.c        how it is told
 *   ngx_gate_wish.c      what operators want of them
 *   ngx_gate_told.c      a rollout's hash as a structure
 *   ngx_gate_sync.c      evidence, and who else is there
 *   ngx_gate_debt.c      limits: what was admitted, here and elsewhere
 *   ngx_gate_override.c  and the rates of single callers
 *   ngx_gate_redis.c     the session with Redis
 *   ngx_gate_link.c      one connection
 *   ngx_gate_resp.c      the protocol
 *   ngx_gate_script.c    *.lua, built in
 *
 * All of it runs in the agent, from timers and replies; requests never wait
 * for it.  What Redis says is checked like what a client says: it may change
 * a decision, but nothing of it is believed to be well-formed.
 */


#ifndef _NGX_GATE_FLEET_H_INCLUDED_
#define _NGX_GATE_FLEET_H_INCLUDED_


#include "ngx_gate_redis.h"


#define NGX_GATE_CONTROL_MAX    4096     /* bytes of a value that we take */
#define NGX_GATE_ODD_INTERVAL   60000    /* ms, between lines about a key */
#define NGX_GATE_GRACE_MSEC     1000     /* without Redis, before we go alone */


typedef struct ngx_gate_member_s  ngx_gate_member_t;

/* ngx_gate_override.c */
typedef struct ngx_gate_override_zone_s  ngx_gate_override_zone_t;


/* a key that makes no sense, which is said once */

typedef struct {
    ngx_msec_t                 at;       /* when it was said last */
    unsigned                   is:1;     /* and has been, since */
    unsigned                   said:1;
} ngx_gate_odd_t;


/* a command about one rollout that waits for its reply */

typedef struct {
    ngx_gate_member_t         *member;
    ngx_gate_rollout_conf_t   *rc;
    ngx_uint_t                 op;       /* NGX_GATE_OP_*, 0: none */
    uint32_t                   epoch;
    ngx_gate_mail_t           *mail;     /* who asked for it, or NULL */
    uint64_t                   letter;   /* its id */
    ngx_uint_t                 done;     /* what it wants is, on this node */
    ngx_uint_t                 waits;    /* NGX_GATE_OP_*, refused last */
    ngx_msec_t                 retry;    /* not before that, then */
    ngx_uint_t                 want;     /* Redis forgot it */
    ngx_uint_t                 foreign;  /* the fleet's release is another,
                                            and that was said */
    ngx_gate_odd_t             odd;      /* its hash makes no sense */
} ngx_gate_act_t;


struct ngx_gate_member_s {
    ngx_gate_node_t           *node;
    ngx_gate_redis_conf_t     *conf;
    ngx_gate_redis_t          *redis;
    ngx_log_t                 *log;
    ngx_pool_t                *pool;

    char                       name[NGX_GATE_FLEET_NODE_LEN];
    ngx_str_t                  id;       /* name, as an argument */

    /* control.c */
    ngx_uint_t                 nstrings; /* switches and modes */
    ngx_str_t                 *keys;     /* ledger, events, strings, hashes */
    ngx_uint_t                 nkeys;
    ngx_gate_odd_t            *odd;      /* by string */
    ngx_msec_t                 looked;
    unsigned                   looking:1;
    unsigned                   again:1;  /* a push came meanwhile */
    unsigned                   polled:1; /* this look, by the poll */
    unsigned                   restoring:1;
    unsigned                   putting:1;
    unsigned                   refused:1;   /* the last put */
    ngx_msec_t                 put_at;
    ngx_gate_mail_t           *mail;     /* of the put under way, or NULL */
    ngx_gate_mail_t            letter;   /* a copy of it */
    ngx_uint_t                 put;      /* index of its string */

    /* decide.c */
    ngx_gate_act_t            *acts;     /* by rollout */

    /* override.c */
    ngx_gate_override_zone_t  *overrides;  /* by limit zone */
};


#pragma GCC visibility push(hidden)


/* ngx_gate_fleet.c */

extern ngx_gate_fleet_ops_t  ngx_gate_fleet_ops;

/*
 * An error of a script that did not do what it was asked to.  what: a
 * literal.
 */
void ngx_gate_fleet_error(ngx_gate_member_t *m, const char *what,
    redisReply *reply);

/*
 * A key makes no sense.  It is counted and said when that begins, whatever
 * was said of other keys, but of each at most once a minute.
 */
void ngx_gate_fleet_odd(ngx_gate_member_t *m, ngx_gate_odd_t *odd,
    ngx_gate_error_e error, const char *what, const char *text, size_t len);

/* A number as an argument; the text is in the pool. */
ngx_int_t ngx_gate_fleet_number(ngx_pool_t *pool, ngx_str_t *s, uint64_t n);

/* A name behind one of the prefixes. */
ngx_int_t ngx_gate_fleet_key(ngx_pool_t *pool, ngx_str_t *key,
    ngx_str_t *prefix, const char *kind, ngx_str_t *name);

/* Text or integer of a reply as a number; -1 where it is none. */
int64_t ngx_gate_fleet_value(redisReply *reply);

/*
 * Whether this process still is the agent.  One that was stopped for a while
 * finds replies that are old, and another agent, before its own next tick.
 */
ngx_uint_t ngx_gate_fleet_mine(ngx_gate_member_t *m);

/* What the mailbox asks for, as far as it can be done at once. */
void ngx_gate_fleet_mails(ngx_gate_member_t *m);


/* ngx_gate_control.c */

ngx_int_t ngx_gate_control_init(ngx_gate_member_t *m);

/* Reads all control keys, now or right after the read under way. */
void ngx_gate_control_look(ngx_gate_member_t *m);
void ngx_gate_control_tick(ngx_gate_member_t *m);
void ngx_gate_control_lost(ngx_gate_member_t *m);

/* An operator's wish from the mailbox. */
void ngx_gate_put_mail(ngx_gate_member_t *m, ngx_gate_mail_t *mail);


/* ngx_gate_decide.c */

ngx_int_t ngx_gate_decide_init(ngx_gate_member_t *m);
void ngx_gate_decide_tick(ngx_gate_member_t *m);

/* Whether a command about some rollout is under way. */
ngx_uint_t ngx_gate_decide_busy(ngx_gate_member_t *m);
void ngx_gate_decide_lost(ngx_gate_member_t *m);
void ngx_gate_wish_mail(ngx_gate_member_t *m, ngx_gate_mail_t *mail);

/* What a look says of rollout i; returns 1 when that changed something. */
ngx_uint_t ngx_gate_decide_seen(ngx_gate_member_t *m, ngx_uint_t i,
    redisReply *item);


/* ngx_gate_override.c: rates of single callers, from "gate:limit:<zone>" */

ngx_int_t ngx_gate_override_init(ngx_gate_member_t *m);

/* Reads all of them, now or soon. */
void ngx_gate_override_look(ngx_gate_member_t *m);
void ngx_gate_override_tick(ngx_gate_member_t *m);
void ngx_gate_override_lost(ngx_gate_member_t *m);


/* ngx_gate_told.c */

#define NGX_GATE_RELEASE_LEN  33

/* The identity of a release: its arms and id=, 32 hexadecimal digits. */
void ngx_gate_told_release(ngx_gate_rollout_conf_t *rc,
    u_char text[NGX_GATE_RELEASE_LEN]);

/* Of what a node must share to advance it: rules, steps and weight. */
void ngx_gate_told_digest(ngx_gate_rollout_conf_t *rc, u_char text[17]);

/*
 * Reads the fields of a hash, an array of names and values.  Texts are cut
 * and cleaned; *record borrows from the reply.  NGX_OK; NGX_DECLINED when a
 * field makes no sense: *wrong (static) names it.
 */
ngx_int_t ngx_gate_told_read(redisReply *fields, gate_state_rollout_t *st,
    const char **wrong);


#pragma GCC visibility pop


#endif /* _NGX_GATE_FLEET_H_INCLUDED_ */

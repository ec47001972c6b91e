
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * What this node admitted, told to the fleet, and what the fleet says of it.
 *
 * Debts travel in batches, one of each zone at a time.  A batch is frozen in
 * the zone before it is sent, with a number, and stays the same one until
 * Redis has acknowledged it: it is sent again when the line was lost, by
 * whoever is the agent then, and Redis applies each number once.
 *
 * A zone is "online" while Redis takes its batches.  It is not after the line
 * was lost or a batch was refused, and is again once the batch that was under
 * way is acknowledged and what was admitted meanwhile is settled.
 *
 * Clocks: only debts travel, in ns from a moment.  That moment is the one of
 * sending, on Redis's clock as it was known then (what the last answer said,
 * and the time since), so that neither a slow network nor a Redis that hung
 * adds its delay to what anybody owes.
 */


#ifndef _NGX_GATE_DEBT_H_INCLUDED_
#define _NGX_GATE_DEBT_H_INCLUDED_


#include "ngx_gate_redis.h"
#include "node/ngx_gate_limit.h"


/* a batch as arguments of limit.lua */

#define NGX_GATE_DEBT_PREFIX  512     /* the longest one that we use */
#define NGX_GATE_DEBT_KEY                                                     \
    (NGX_GATE_DEBT_PREFIX + NGX_GATE_NAME_LEN + sizeof("limitseq::") + 16)

#define NGX_GATE_DEBT_HEAD    5       /* arguments after the keys */
#define NGX_GATE_DEBT_ARGV                                                    \
    (1 + NGX_GATE_LIMIT_BATCH + NGX_GATE_DEBT_HEAD)

/* of each key: units, interval, capacity, debt; and debt and nodes back */
#define NGX_GATE_DEBT_ITEM    4
#define NGX_GATE_DEBT_TOLD    2

/* ns: who has paid for so long is forgotten, KEEP in tat.lua */
#define NGX_GATE_DEBT_PAID    INT64_C(-10000000000)

/* bytes for what belongs to a key */
#define NGX_GATE_DEBT_TEXT                                                    \
    (NGX_GATE_DEBT_KEY + NGX_GATE_DEBT_ITEM * sizeof(double))


#pragma GCC visibility push(hidden)


/* Of the agent, whether Redis is ready or not: sends what is due. */
void ngx_gate_debt_tick(ngx_gate_redis_t *rs, ngx_gate_node_t *node,
    ngx_log_t *log);

/* The connection is lost. */
void ngx_gate_debt_lost(ngx_gate_node_t *node);

/* The whole nginx goes, with Redis ready: sends what it can, and waits for no
 * reply. */
void ngx_gate_debt_final(ngx_gate_redis_t *rs, ngx_gate_node_t *node);

/*
 * The zone's batch: so many keys and NGX_GATE_DEBT_HEAD arguments, their text
 * at p, which has room for n + 2 times NGX_GATE_DEBT_TEXT.  us: the time on
 * Redis's clock, 0 where it is not known.
 */
void ngx_gate_debt_args(ngx_gate_limit_conf_t *lc, int64_t now, int64_t us,
    ngx_str_t *argv, u_char *p);

/* The agent goes: nothing is under way any more. */
void ngx_gate_debt_leave(void);


#pragma GCC visibility pop


#endif /* _NGX_GATE_DEBT_H_INCLUDED_ */


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


#pragma GCC visibility push(hidden)


/* Of the agent, whether Redis is ready or not: sends what is due. */
void ngx_gate_debt_tick(ngx_gate_redis_t *rs, ngx_gate_node_t *node,
    ngx_log_t *log);

/* The connection is lost. */
void ngx_gate_debt_lost(ngx_gate_node_t *node);

/* The whole nginx goes, with Redis ready: sends what it can, and waits for no
 * reply. */
void ngx_gate_debt_final(ngx_gate_redis_t *rs, ngx_gate_node_t *node);

/* The agent goes: nothing is under way any more. */
void ngx_gate_debt_leave(void);


#pragma GCC visibility pop


#endif /* _NGX_GATE_DEBT_H_INCLUDED_ */

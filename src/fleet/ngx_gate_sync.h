
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Evidence and presence: what this node counted goes to Redis, what all
 * nodes counted comes back, and each knows who else is there.
 *
 * Totals are cumulative and merged by maximum.  So there is nothing to undo,
 * acknowledge or number: a call that was lost or carried out twice is mended
 * by the next one, and so is a Redis that forgot.  What goes over the wire
 * grows with the number of rollouts and not with traffic.
 */


#ifndef _NGX_GATE_SYNC_H_INCLUDED_
#define _NGX_GATE_SYNC_H_INCLUDED_


#include "ngx_gate_redis.h"


#pragma GCC visibility push(hidden)


/* Of the agent, while Redis is ready: sends what is due. */
void ngx_gate_sync_tick(ngx_gate_redis_t *rs, ngx_gate_node_t *node,
    ngx_log_t *log);

/* The connection is lost, or closed: nothing is under way any more. */
void ngx_gate_sync_reset(ngx_gate_node_t *node);

/* The agent goes: sends what has changed, and waits for no reply. */
void ngx_gate_sync_final(ngx_gate_redis_t *rs, ngx_gate_node_t *node);

/*
 * This node's name among the fields, "host:boot", at most
 * NGX_GATE_FLEET_NODE_LEN - 1 bytes; returns its end.
 */
u_char *ngx_gate_sync_name(ngx_gate_node_t *node, u_char *p);


/* ngx_gate_beat.c: "I am here", once a second */

void ngx_gate_beat_tick(ngx_gate_redis_t *rs, ngx_gate_node_t *node);
void ngx_gate_beat_reset(void);

/* Whether Redis has answered since then: the node has the fleet's seed. */
ngx_uint_t ngx_gate_beat_heard(ngx_gate_node_t *node);


#pragma GCC visibility pop


#endif /* _NGX_GATE_SYNC_H_INCLUDED_ */

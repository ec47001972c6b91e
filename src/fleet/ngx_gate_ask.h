
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * sync=exact: Redis decides about one request, and the request waits for it,
 * but not longer than the zone's timeout.
 *
 * Each worker has a connection of its own for this, opened with the first
 * configuration that has such a zone.  What becomes of a question whose
 * request did not wait for the answer is settled when the answer comes.
 */


#ifndef _NGX_GATE_ASK_H_INCLUDED_
#define _NGX_GATE_ASK_H_INCLUDED_


#include "ngx_gate_redis.h"
#include "node/ngx_gate_limit.h"


#define NGX_GATE_ASK_LIMITS    8       /* zones in one location */
#define NGX_GATE_ASK_TIMEOUT   20      /* ms, timeout= of a zone by default */


typedef struct {
    ngx_gate_limit_conf_t     *lc;
    gate_limit_take_t          take;   /* hash, rate, cls, cost; v is the
                                          answer */
} ngx_gate_ask_limit_t;

/*
 * NGX_OK: all of them admitted it, and it is counted there; NGX_BUSY: one
 * limits it, nothing is counted; NGX_DECLINED: there was no answer in time,
 * the request is to be decided here.
 */
typedef void (*ngx_gate_ask_pt)(void *data, ngx_int_t rc,
    ngx_gate_ask_limit_t *limits, ngx_uint_t n);

typedef struct ngx_gate_ask_s  ngx_gate_ask_t;


#pragma GCC visibility push(hidden)


/* In init_process; opens nothing where no zone asks.  NGX_OK or NGX_ERROR. */
ngx_int_t ngx_gate_ask_start(ngx_gate_node_t *node, ngx_log_t *log);

/* In exit_process. */
void ngx_gate_ask_stop(void);

/*
 * Asks about n limits at once, all or nothing; they are copied.  The question,
 * and handler will be called exactly once unless it is dropped before; NULL:
 * Redis cannot be asked, decide here.
 */
ngx_gate_ask_t *ngx_gate_ask(ngx_gate_ask_limit_t *limits, ngx_uint_t n,
    ngx_msec_t timeout, ngx_gate_ask_pt handler, void *data);

/*
 * After NGX_DECLINED: what was decided here, so that it is not counted twice
 * when the answer comes late.  limits: as given to the handler, with what
 * gate_limit_take() made of them where they were admitted ("charged" is 0 of
 * those that were, without being counted).  To be called by the handler.
 */
void ngx_gate_ask_decided(ngx_gate_ask_t *ask, ngx_uint_t admitted);

/* The request is gone before there was an answer. */
void ngx_gate_ask_drop(ngx_gate_ask_t *ask);


#pragma GCC visibility pop


#endif /* _NGX_GATE_ASK_H_INCLUDED_ */

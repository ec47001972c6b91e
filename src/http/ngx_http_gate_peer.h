
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * The composite peer, for the files that make it: the balancer itself and
 * what an attempt came to.
 */


#ifndef _NGX_HTTP_GATE_PEER_H_INCLUDED_
#define _NGX_HTTP_GATE_PEER_H_INCLUDED_


#include "ngx_http_gate.h"


struct ngx_http_gate_peer_s {
    ngx_http_request_t              *request;
    ngx_gate_node_t                 *node;
    ngx_http_gate_srv_conf_t        *composite;
    ngx_http_gate_ctx_t             *ctx;
    ngx_http_gate_pick_t            *pick;

    ngx_uint_t                       tries;    /* as the arm sees them */
    ngx_uint_t                       left;     /* as we left them to nginx */
    uint32_t                         used;     /* attempts */

    /* bytes, because most of them are looked at all the time */

    uint8_t                          arm;
    uint8_t                          may_switch;
    uint8_t                          reserve;  /* a try for stable */
    uint8_t                          failed;   /* the canary did */
    uint8_t                          stale;    /* "next" is in use */

    ngx_http_gate_peer_t            *next;         /* of ctx->pending */

    ngx_gate_attempt_t               attempt;

    /* the arm's own */

    void                            *data;
    ngx_event_get_peer_pt            get;
    ngx_event_free_peer_pt           free;
    ngx_event_notify_peer_pt         notify;
#if (NGX_SSL || NGX_COMPAT)
    ngx_event_set_peer_session_pt    set_session;
    ngx_event_save_peer_session_pt   save_session;
#endif
};


#pragma GCC visibility push(hidden)


/* ngx_http_gate_outcome.c */

/*
 * Whether the attempt may have been none: nginx is about to take a dead
 * connection back.  Before the arm's free(), as is the next one.
 */
ngx_uint_t ngx_http_gate_stale(ngx_peer_connection_t *pc,
    ngx_http_upstream_t *u, ngx_uint_t state);

/* NGX_GATE_OUTCOME_* of the attempt that free() was called for. */
ngx_uint_t ngx_http_gate_outcome(ngx_http_gate_peer_t *gp,
    ngx_http_upstream_t *u, ngx_uint_t state);


#pragma GCC visibility pop


#endif /* _NGX_HTTP_GATE_PEER_H_INCLUDED_ */

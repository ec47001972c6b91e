
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * What the endpoints share: answers, and the node's state as JSON.
 *
 * Memory that is short costs a member of the document, never the worker:
 * jansson's setters take NULL for "no value" and leave the member out.
 * Whoever gets a json_t owns one reference to it.
 */


#ifndef _NGX_HTTP_GATE_JSON_H_INCLUDED_
#define _NGX_HTTP_GATE_JSON_H_INCLUDED_


#include "ngx_http_gate.h"

#include <math.h>


#define NGX_HTTP_GATE_TIME_LEN  (sizeof("1970-01-01T00:00:00.000Z") - 1)


#pragma GCC visibility push(hidden)


/* a rollout at one moment */

typedef struct {
    uint64_t               word;
    ngx_gate_block_t       block;          /* of this step */
    ngx_gate_breaker_t     breaker[NGX_GATE_ARMS];

    /* over all steps; "hist" of total is not used */
    ngx_gate_arm_t         total[NGX_GATE_ARMS];
    uint64_t               hist[NGX_GATE_ARMS][GATE_HIST_BUCKETS];
    uint64_t               saved;
    uint64_t               fallbacks;
    uint64_t               flips;

    int64_t                since;          /* unix ms */
    int64_t                epoch_since;    /* unix ms */
    char                   id[NGX_GATE_ID_LEN];
    char                   reason[NGX_GATE_REASON_LEN];
    char                   source[NGX_GATE_SOURCE_LEN];
    char                   actor[NGX_GATE_ACTOR_LEN];
    uint32_t               record_len;
    char                   record[NGX_GATE_RECORD_LEN];

    /* what all nodes counted in this step, if somebody told us, and ever
       ("hist" is not used), and how much of this node's Redis has confirmed */
    ngx_uint_t             told;
    ngx_gate_arm_t         fleet[NGX_GATE_ARMS];
    ngx_gate_arm_t         fleet_total[NGX_GATE_ARMS];
    uint64_t               acked[NGX_GATE_ARMS];     /* requests */
    uint64_t               synced;         /* monotonic ms, 0 never */
    uint32_t               members;
    uint32_t               provisional;
    uint32_t               opening;
    uint32_t               foreign;
    ngx_gate_known_t       known;
} ngx_http_gate_view_t;


/* ngx_http_gate_json.c */

/* Takes the slab mutex: between two views no total goes back. */
void ngx_http_gate_view(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    ngx_http_gate_view_t *view);

/* Whether an agent lives and was at work within the last seconds. */
ngx_uint_t ngx_http_gate_agent_alive(ngx_gate_zone_t *sh);

/* Whether an arm is left alone at this moment. */
ngx_uint_t ngx_http_gate_breaker_open(ngx_gate_breaker_t *b);

json_t *ngx_http_gate_json_switches(ngx_gate_node_t *node);
json_t *ngx_http_gate_json_rollouts(ngx_gate_node_t *node);

/* i: index in node->switches. */
json_t *ngx_http_gate_json_switch(ngx_gate_node_t *node, ngx_uint_t i);
json_t *ngx_http_gate_json_rollout(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc);

/* Requests, attempts and failures of an arm as members of o. */
void ngx_http_gate_json_counts(json_t *o, ngx_gate_arm_t *a);

/* And its percentiles. */
void ngx_http_gate_json_quantiles(json_t *o, ngx_gate_arm_t *a);

/* A string of any bytes: what is not UTF-8 becomes question marks. */
json_t *ngx_http_gate_json_bytes(const u_char *p, size_t len);

/* NUL-terminated; null when it is empty. */
json_t *ngx_http_gate_json_text(const char *s);

/* unix ms; null when it is 0. */
json_t *ngx_http_gate_json_time(int64_t msec);

/* unix ms as RFC 3339 text, not NUL-terminated; returns its end. */
u_char *ngx_http_gate_time(u_char *p, int64_t msec);


/* ngx_http_gate_fleet.c */

#define NGX_HTTP_GATE_REDIS_MSEC  3000    /* without a reply: it is away */

/* by ngx_gate_error_e */
extern const char  *ngx_http_gate_errors[NGX_GATE_ERRORS];

json_t *ngx_http_gate_json_modes(ngx_gate_node_t *node);
json_t *ngx_http_gate_json_mode(ngx_gate_node_t *node, ngx_uint_t gate);

/* Redis and the fleet; null without gate_redis. */
json_t *ngx_http_gate_json_redis(ngx_gate_node_t *node);
json_t *ngx_http_gate_json_fleet(ngx_gate_node_t *node);
json_t *ngx_http_gate_json_members(ngx_gate_node_t *node,
    ngx_http_gate_view_t *view);

/* What Redis knows of a value, as members of o. */
void ngx_http_gate_json_known(json_t *o, ngx_gate_known_t *known);

/* Whether Redis answered within the last seconds; how long ago, -1 never. */
ngx_uint_t ngx_http_gate_redis_alive(ngx_gate_node_t *node);
int64_t ngx_http_gate_redis_age(ngx_gate_node_t *node);

/* Nodes of the fleet that were heard of just now, this one too. */
ngx_uint_t ngx_http_gate_fleet_alive(ngx_gate_node_t *node);

/* Requests counted here that Redis has not confirmed. */
uint64_t ngx_http_gate_unsent(ngx_http_gate_view_t *view);


/* ngx_http_gate_limits.c */

json_t *ngx_http_gate_json_limits(ngx_gate_node_t *node);


/* ngx_http_gate_cursors.c */

json_t *ngx_http_gate_json_cursors(ngx_gate_node_t *node);

/* As this worker has them. */
json_t *ngx_http_gate_json_cursor_keys(ngx_http_gate_main_conf_t *gmcf);


/* ngx_http_gate_status.c */

json_t *ngx_http_gate_json_status(ngx_http_gate_main_conf_t *gmcf);

/*
 * Sends a chain of len bytes (NULL: an empty body).  The bytes must live as
 * long as the request.
 */
ngx_int_t ngx_http_gate_send_chain(ngx_http_request_t *r, ngx_uint_t status,
    const char *type, ngx_chain_t *out, off_t len);

/* Sends a document and drops its reference; NULL is an answer 500. */
ngx_int_t ngx_http_gate_send_json(ngx_http_request_t *r, ngx_uint_t status,
    json_t *document);

ngx_int_t ngx_http_gate_add_retry_after(ngx_http_request_t *r,
    ngx_uint_t seconds);

/* An argument of the query, with or without a value.  NGX_DECLINED: none. */
ngx_int_t ngx_http_gate_arg(ngx_http_request_t *r, const char *name,
    ngx_str_t *value);

/* What the setters of all endpoints have in common. */
char *ngx_http_gate_endpoint(ngx_conf_t *cf, ngx_command_t *cmd, void *conf,
    ngx_http_handler_pt handler);


static ngx_inline void
ngx_http_gate_json_set(json_t *o, const char *key, json_t *v)
{
    (void) json_object_set_new(o, key, v);
}


static ngx_inline void
ngx_http_gate_json_int(json_t *o, const char *key, uint64_t n)
{
    (void) json_object_set_new(o, key, json_integer((json_int_t) n));
}


static ngx_inline void
ngx_http_gate_json_bool(json_t *o, const char *key, ngx_uint_t b)
{
    (void) json_object_set_new(o, key, json_boolean(b));
}


#pragma GCC visibility pop


#endif /* _NGX_HTTP_GATE_JSON_H_INCLUDED_ */

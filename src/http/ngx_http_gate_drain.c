
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * The call that waits until nobody is in flight any more.
 *
 * It looks again every few milliseconds, because the counts live in other
 * processes, which cannot wake us.
 */


#include "ngx_http_gate_api.h"

#include "core/gate_parse.h"


#define NGX_HTTP_GATE_DRAIN_POLL     20
#define NGX_HTTP_GATE_DRAIN_TIMEOUT  30000
#define NGX_HTTP_GATE_DRAIN_MAX      600000


static void ngx_http_gate_drain_handler(ngx_event_t *ev);
static ngx_uint_t ngx_http_gate_drain_over(ngx_http_gate_call_t *call,
    ngx_gate_inflight_t *sum);
static void ngx_http_gate_drain_sum(ngx_http_gate_call_t *call,
    ngx_gate_inflight_t *sum);
static ngx_int_t ngx_http_gate_drain_answer(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, ngx_gate_inflight_t *sum);


ngx_int_t
ngx_http_gate_call_drain(ngx_http_request_t *r, ngx_http_gate_call_t *call,
    json_t *body)
{
    uint64_t             msec;
    ngx_str_t            value;
    ngx_gate_inflight_t  sum;

    msec = NGX_HTTP_GATE_DRAIN_TIMEOUT;

    if (ngx_http_gate_arg(r, "timeout", &value) == NGX_OK
        && (gate_parse_msec(value.data, value.len, &msec) != 0
            || msec > NGX_HTTP_GATE_DRAIN_MAX))
    {
        return ngx_http_gate_api_error(r, NGX_HTTP_BAD_REQUEST,
                                       "timeout is a duration of at most 10m, "
                                       "such as 30s");
    }

    call->started = ngx_current_msec;
    call->timeout = (ngx_msec_t) msec;

    if (ngx_http_gate_drain_over(call, &sum)) {
        return ngx_http_gate_drain_answer(r, call, &sum);
    }

    return ngx_http_gate_call_wait(r, call, ngx_http_gate_drain_handler,
                                   NGX_HTTP_GATE_DRAIN_POLL);
}


static void
ngx_http_gate_drain_handler(ngx_event_t *ev)
{
    ngx_connection_t      *c;
    ngx_http_request_t    *r;
    ngx_gate_inflight_t    sum;
    ngx_http_gate_call_t  *call;

    call = ev->data;
    r = call->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (!ngx_http_gate_drain_over(call, &sum)) {
        ngx_add_timer(ev, NGX_HTTP_GATE_DRAIN_POLL);
        return;
    }

    ngx_http_finalize_request(r, ngx_http_gate_drain_answer(r, call, &sum));

    ngx_http_run_posted_requests(c);
}


/*
 * What ends the wait is what the answer tells: the next look may find
 * somebody who is refused, and for that moment counted.
 */

static ngx_uint_t
ngx_http_gate_drain_over(ngx_http_gate_call_t *call, ngx_gate_inflight_t *sum)
{
    ngx_http_gate_drain_sum(call, sum);

    return sum->admitted == 0
           || ngx_exiting || ngx_quit || ngx_terminate
           || ngx_current_msec - call->started >= call->timeout;
}


/*
 * The global switch stands for the node, also for what old workers are busy
 * with under switches that the configuration does not have any more.
 */

static void
ngx_http_gate_drain_sum(ngx_http_gate_call_t *call, ngx_gate_inflight_t *sum)
{
    ngx_uint_t            i;
    ngx_gate_node_t      *node;
    ngx_gate_inflight_t   one;

    node = call->node;

    if (call->sw != 0) {
        ngx_gate_switch_inflight(node->sh, node->sw_map[call->sw], sum);
        return;
    }

    ngx_memzero(sum, sizeof(ngx_gate_inflight_t));

    for (i = 0; i < node->sh->nswitches; i++) {
        ngx_gate_switch_inflight(node->sh, i, &one);

        sum->admitted += one.admitted;
        sum->bypassed += one.bypassed;
        sum->upgraded += one.upgraded;
    }
}


static ngx_int_t
ngx_http_gate_drain_answer(ngx_http_request_t *r, ngx_http_gate_call_t *call,
    ngx_gate_inflight_t *sum)
{
    json_t             *o;
    ngx_uint_t          drained;
    ngx_gate_node_t    *node;
    ngx_gate_switch_t  *global, *own;

    drained = (sum->admitted == 0);

    node = call->node;
    global = &node->sh->switches[node->sw_map[0]];
    own = &node->sh->switches[node->sw_map[call->sw]];

    if (!drained && ngx_http_gate_add_retry_after(r, 1) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    o = json_object();

    ngx_http_gate_json_bool(o, "drained", drained);
    ngx_http_gate_json_int(o, "in_flight", sum->admitted);
    ngx_http_gate_json_int(o, "bypassed", sum->bypassed);
    ngx_http_gate_json_int(o, "upgraded", sum->upgraded);
    ngx_http_gate_json_int(o, "waited_ms", ngx_current_msec - call->started);

    /* while it is open, zero is but a moment */

    ngx_http_gate_json_bool(o, "on",
                       ngx_gate_switch_on(ngx_gate_switch_effective(global)
                                          | ngx_gate_switch_effective(own)));

    return ngx_http_gate_send_json(r, drained ? NGX_HTTP_OK
                                              : NGX_HTTP_SERVICE_UNAVAILABLE,
                                   o);
}

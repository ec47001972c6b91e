
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * A breaker for each arm.  nginx marks no server of a one-server upstream as
 * down, so a dead one costs every request a connect timeout.  After three
 * connects in a row that failed, an arm is left alone for a second, then for
 * two, up to 32; one request at a time tries whether it is back.
 */


#include "ngx_gate_node.h"


#define NGX_GATE_BREAKER_FAILURES  3
#define NGX_GATE_BREAKER_MSEC      1000
#define NGX_GATE_BREAKER_DOUBLES   5


ngx_int_t
ngx_gate_breaker_check(ngx_gate_breaker_t *b)
{
    uint64_t  until, next;

    if (ngx_gate_peek(&b->failures) < NGX_GATE_BREAKER_FAILURES) {
        return NGX_OK;
    }

    until = ngx_gate_load(&b->open_until);

    if ((ngx_msec_int_t) (until - ngx_current_msec) > 0) {
        return NGX_BUSY;
    }

    /* the one that moves the time on is the one that tries */

    next = ngx_current_msec + NGX_GATE_BREAKER_MSEC;

    return ngx_gate_cas(&b->open_until, &until, next) ? NGX_OK : NGX_BUSY;
}


void
ngx_gate_breaker_connected(ngx_gate_breaker_t *b)
{
    if (ngx_gate_peek(&b->failures)) {
        ngx_gate_store(&b->failures, 0);
        ngx_gate_store(&b->trips, 0);
        ngx_gate_store(&b->open_until, 0);
    }
}


void
ngx_gate_breaker_refused(ngx_gate_breaker_t *b, ngx_msec_t start)
{
    uint32_t  n;

    n = __atomic_add_fetch(&b->failures, 1, __ATOMIC_ACQ_REL);

    if (n < NGX_GATE_BREAKER_FAILURES) {
        return;
    }

    n = ngx_gate_peek(&b->trips);

    if (n && (ngx_msec_int_t) (start - (ngx_msec_t) ngx_gate_peek(&b->opened))
             <= 0)
    {
        /* it was under way when the breaker opened, that is no news */
        return;
    }

    ngx_gate_store(&b->opened, ngx_current_msec);
    ngx_gate_store(&b->open_until,
                   ngx_current_msec
                   + ((uint64_t) NGX_GATE_BREAKER_MSEC << (n ? n - 1 : 0)));

    if (n <= NGX_GATE_BREAKER_DOUBLES) {
        ngx_gate_store(&b->trips, n + 1);
    }

    ngx_gate_add(&b->opened_total, 1);
}

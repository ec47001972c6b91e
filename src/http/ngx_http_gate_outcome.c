
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * What an attempt came to, told from what nginx has in its hands when it
 * calls free(): no answer, an answer, or half of one.
 */


#include "ngx_http_gate_peer.h"


/* nobody wants the rest of the answer */

#define ngx_http_gate_gone(r)                                                 \
    ((r)->connection->error || (r)->connection->timedout                      \
     || !(r)->header_sent || (r)->header_only)


static ngx_int_t ngx_http_gate_failure(ngx_http_gate_peer_t *gp);
static ngx_uint_t ngx_http_gate_broken(ngx_http_request_t *r,
    ngx_http_upstream_t *u);


/*
 * A kept connection that broke before a byte came back: if the server closed
 * it while it was idle nginx asks again for nothing, and we will know when it
 * calls get().
 */

ngx_uint_t
ngx_http_gate_stale(ngx_peer_connection_t *pc, ngx_http_upstream_t *u,
    ngx_uint_t state)
{
    ngx_connection_t  *c;

    c = pc->connection;

    return pc->cached
           && (state & NGX_PEER_FAILED)
           && c != NULL
           && u->state->status == 0
           && u->state->header_time == (ngx_msec_t) -1
           && !c->read->timedout
           && !c->write->timedout;
}


ngx_uint_t
ngx_http_gate_outcome(ngx_http_gate_peer_t *gp, ngx_http_upstream_t *u,
    ngx_uint_t state)
{
    ngx_int_t                   rc;
    ngx_http_upstream_state_t  *st;

    st = u->state;

    if (state & NGX_PEER_FAILED) {

        /* nginx asks another server for a 429 too: not that it is one */

        return (st->status == NGX_HTTP_TOO_MANY_REQUESTS)
               ? NGX_GATE_OUTCOME_OK : NGX_GATE_OUTCOME_FAILED;
    }

    if (state & NGX_PEER_NEXT) {
        return NGX_GATE_OUTCOME_OK;
    }

    if (st->header_time == (ngx_msec_t) -1) {
        return NGX_GATE_OUTCOME_CENSORED;
    }

    if (ngx_http_gate_broken(gp->request, u)) {
        return NGX_GATE_OUTCOME_BROKEN;
    }

    rc = ngx_http_gate_failure(gp);

    if (rc == NGX_DECLINED) {
        rc = (u->headers_in.status_n >= NGX_HTTP_INTERNAL_SERVER_ERROR
              || st->status >= NGX_HTTP_INTERNAL_SERVER_ERROR);
    }

    return rc ? NGX_GATE_OUTCOME_FAILED : NGX_GATE_OUTCOME_OK;
}


/* gate_failure: 1, 0, or NGX_DECLINED when it has no opinion */

static ngx_int_t
ngx_http_gate_failure(ngx_http_gate_peer_t *gp)
{
    ngx_str_t  value;

    if (gp->composite->failure == NULL
        || ngx_http_complex_value(gp->request, gp->composite->failure,
                                  &value)
           != NGX_OK
        || value.len == 0)
    {
        return NGX_DECLINED;
    }

    return !(value.len == 1 && value.data[0] == '0');
}


/*
 * The answer began and did not end: it was cut short, or what came made no
 * sense.  nginx then gives up without a word to us, and so it does when the
 * client has gone: that one is not the server's failure.
 */

static ngx_uint_t
ngx_http_gate_broken(ngx_http_request_t *r, ngx_http_upstream_t *u)
{
    ngx_event_t       *rev;
    ngx_event_pipe_t  *p;

    if (u->upgrade || u->peer.connection == NULL) {
        return 0;
    }

    if (u->buffering && u->pipe) {
        p = u->pipe;

        if (p->upstream_error) {
            return 1;
        }

        if (p->upstream_eof) {
            return !p->upstream_done && p->length != -1;
        }

        return !p->upstream_done && !p->downstream_error
               && !ngx_http_gate_gone(r);
    }

    rev = u->peer.connection->read;

    if (rev->error || rev->timedout || u->error) {
        return 1;
    }

    if (rev->eof) {
        return u->length != 0 && u->length != -1;
    }

    return u->length != 0 && !ngx_http_gate_gone(r);
}

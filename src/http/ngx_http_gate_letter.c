
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Writes on a node that belongs to a fleet: only the agent talks to Redis, so
 * it gets a letter, and the call waits for its answer.
 *
 * The timer is not cancelable: a worker that shuts down still answers.  The
 * wait is bounded, and what is said after it is honest: either nobody took
 * the letter, or nobody knows.
 */


#include "ngx_http_gate_api.h"


#define NGX_HTTP_GATE_LETTER_FAST     5       /* ms between two looks, */
#define NGX_HTTP_GATE_LETTER_SLOW     20      /* and after so many ms: */
#define NGX_HTTP_GATE_LETTER_PATIENT  100
#define NGX_HTTP_GATE_LETTER_TIMEOUT  2000


static void ngx_http_gate_letter_handler(ngx_event_t *ev);
static ngx_int_t ngx_http_gate_letter_late(ngx_http_request_t *r,
    ngx_http_gate_call_t *call);
static ngx_int_t ngx_http_gate_letter_answer(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, ngx_gate_mail_t *m);
static ngx_int_t ngx_http_gate_letter_done(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, const char *why);
static ngx_int_t ngx_http_gate_letter_again(ngx_http_request_t *r,
    const char *why);


ngx_int_t
ngx_http_gate_letter(ngx_http_request_t *r, ngx_http_gate_call_t *call,
    ngx_gate_mail_t *letter, const char *reason)
{
    ngx_int_t  rc;

    ngx_gate_text(letter->actor, sizeof(letter->actor),
                  (u_char *) call->actor, ngx_strlen(call->actor));
    ngx_gate_text(letter->reason, sizeof(letter->reason), (u_char *) reason,
                  ngx_strlen(reason));

    if (ngx_gate_mail_post(call->node, letter, &call->letter) != NGX_OK) {
        call->letter = 0;
        return ngx_http_gate_letter_again(r, "too many writes are under way, "
                                             "nothing was done");
    }

    call->kind = letter->kind;
    call->started = ngx_current_msec;

    rc = ngx_http_gate_call_wait(r, call, ngx_http_gate_letter_handler,
                                 NGX_HTTP_GATE_LETTER_FAST);

    /* otherwise the request ends here, and its cleanup takes the letter back */

    return rc;
}


ngx_int_t
ngx_http_gate_call_wait(ngx_http_request_t *r, ngx_http_gate_call_t *call,
    ngx_event_handler_pt handler, ngx_msec_t msec)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    c = r->connection;

    /* not cancelable: a worker that shuts down does not just hang up */

    call->event.handler = handler;
    call->event.data = call;
    call->event.log = c->log;

    if (!r->discard_body) {

        /* a client that hangs up ends the wait */

        if (c->read->ready) {
            ngx_post_event(c->read, &ngx_posted_events);

        } else if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        r->read_event_handler = ngx_http_test_reading;
    }

    r->write_event_handler = ngx_http_request_empty_handler;

    r->main->count++;

    ngx_add_timer(&call->event, msec);

    return NGX_DONE;
}


static void
ngx_http_gate_letter_handler(ngx_event_t *ev)
{
    ngx_int_t              rc;
    ngx_msec_t             waited;
    ngx_gate_mail_t        m;
    ngx_connection_t      *c;
    ngx_http_request_t    *r;
    ngx_http_gate_call_t  *call;

    call = ev->data;
    r = call->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    rc = ngx_gate_mail_result(call->node, call->letter, &m);
    waited = ngx_current_msec - call->started;

    if (rc == NGX_AGAIN && waited < NGX_HTTP_GATE_LETTER_TIMEOUT) {
        ngx_add_timer(ev, (waited < NGX_HTTP_GATE_LETTER_PATIENT)
                          ? NGX_HTTP_GATE_LETTER_FAST
                          : NGX_HTTP_GATE_LETTER_SLOW);
        return;
    }

    if (rc == NGX_AGAIN) {
        rc = ngx_http_gate_letter_late(r, call);

    } else {
        call->letter = 0;
        rc = ngx_http_gate_letter_answer(r, call, &m);
    }

    ngx_http_finalize_request(r, rc);

    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_gate_letter_late(ngx_http_request_t *r, ngx_http_gate_call_t *call)
{
    ngx_int_t        rc;
    ngx_gate_mail_t  m;

    rc = ngx_gate_mail_drop(call->node, call->letter);

    call->letter = 0;

    if (rc == NGX_OK) {
        return ngx_http_gate_letter_again(r, "the agent is busy, nothing was "
                                             "done");
    }

    ngx_memzero(&m, sizeof(ngx_gate_mail_t));

    m.result = NGX_ERROR;

    return ngx_http_gate_letter_answer(r, call, &m);
}


static ngx_int_t
ngx_http_gate_letter_answer(ngx_http_request_t *r, ngx_http_gate_call_t *call,
    ngx_gate_mail_t *m)
{
    char  detail[NGX_GATE_ERROR_LEN + 64];

    switch (m->result) {

    case NGX_OK:
        return ngx_http_gate_letter_done(r, call, m->why);

    case NGX_DECLINED:
        return ngx_http_gate_call_refuse(r, call, m->why);

    case NGX_BUSY:
        return ngx_http_gate_letter_again(r, m->why);

    default: /* NGX_ERROR */

        ngx_snprintf((u_char *) detail, sizeof(detail),
                     "the outcome is not known, look before you try "
                     "again%s%s%Z", m->why[0] ? ": " : "", m->why);
        detail[sizeof(detail) - 1] = '\0';

        return ngx_http_gate_api_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                       detail);
    }
}


/* why: what still has to happen, or nothing */

static ngx_int_t
ngx_http_gate_letter_done(ngx_http_request_t *r, ngx_http_gate_call_t *call,
    const char *why)
{
    json_t  *o;

    switch (call->kind) {

    case NGX_GATE_MAIL_SWITCH:
        o = ngx_http_gate_json_switch(call->node, call->sw);
        break;

    case NGX_GATE_MAIL_ROLLOUT:
        o = ngx_http_gate_json_rollout(call->node, call->rollout);
        break;

    default: /* NGX_GATE_MAIL_MODE */
        o = ngx_http_gate_json_mode(call->node, call->gate);
        break;
    }

    if (why[0]) {
        ngx_http_gate_json_bool(o, "pending", 1);
        ngx_http_gate_json_set(o, "detail", ngx_http_gate_json_text(why));
    }

    return ngx_http_gate_send_json(r, NGX_HTTP_OK, o);
}


ngx_int_t
ngx_http_gate_call_refuse(ngx_http_request_t *r, ngx_http_gate_call_t *call,
    const char *why)
{
    json_t    *o;
    uint64_t   w;

    o = json_object();

    ngx_http_gate_json_set(o, "detail", ngx_http_gate_json_text(why));

    if (call->rollout) {
        w = ngx_gate_load(&call->rollout->sh->word);

        ngx_http_gate_json_set(o, "state",
                json_string(gate_rollout_state_name(ngx_gate_word_state(w))));
    }

    return ngx_http_gate_send_json(r, NGX_HTTP_CONFLICT, o);
}


static ngx_int_t
ngx_http_gate_letter_again(ngx_http_request_t *r, const char *why)
{
    if (ngx_http_gate_add_retry_after(r, 1) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_gate_api_error(r, NGX_HTTP_SERVICE_UNAVAILABLE, why);
}

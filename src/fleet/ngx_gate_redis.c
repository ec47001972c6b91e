
/*
 * Copyright (C) nginx-gate authors
 */


#include "ngx_gate_session.h"
#include "ngx_gate_script.h"


/* a command of the owner's that waits for its reply */

typedef struct {
    ngx_gate_redis_t          *rs;
    ngx_gate_redis_reply_pt    handler;
    void                      *data;
    ngx_uint_t                 argc;     /* of a script; 0: not again */
    ngx_str_t                 *argv;     /* for EVAL, in this memory */
} ngx_gate_call_t;


static void ngx_gate_redis_timer(ngx_event_t *ev);
static void ngx_gate_redis_attempt(ngx_gate_redis_t *rs);
static void ngx_gate_redis_addressed(ngx_gate_redis_t *rs);
static void ngx_gate_redis_elsewhere(ngx_gate_redis_t *rs);
static void ngx_gate_redis_opened(ngx_gate_link_t *link);
static void ngx_gate_redis_broken(ngx_gate_link_t *link);
static void ngx_gate_redis_stray(ngx_gate_link_t *link, redisReply *reply);
static void ngx_gate_redis_replied(ngx_gate_link_t *link, uint64_t usec);
static void ngx_gate_redis_schedule(ngx_gate_redis_t *rs, ngx_msec_t delay);
static void ngx_gate_redis_free(ngx_event_t *ev);
static ngx_gate_call_t *ngx_gate_redis_call(ngx_gate_redis_t *rs,
    ngx_uint_t argc, ngx_str_t *argv, ngx_gate_redis_reply_pt handler,
    void *data);
static ngx_int_t ngx_gate_redis_send(ngx_gate_redis_t *rs, ngx_uint_t argc,
    ngx_str_t *argv, ngx_gate_call_t *call);
static void ngx_gate_redis_reply(void *data, redisReply *reply);


static ngx_gate_link_handlers_t  ngx_gate_redis_command_handlers = {
    ngx_gate_redis_opened,
    ngx_gate_redis_broken,
    ngx_gate_redis_stray,
    ngx_gate_redis_replied
};

static ngx_gate_link_handlers_t  ngx_gate_redis_push_handlers = {
    ngx_gate_redis_opened,
    ngx_gate_redis_broken,
    ngx_gate_redis_stray,
    NULL
};


ngx_gate_redis_t *
ngx_gate_redis_open(ngx_gate_redis_conf_t *conf,
    ngx_gate_redis_handlers_t *handlers, void *data,
    ngx_gate_fleet_t *status, ngx_log_t *log)
{
    ngx_uint_t         n;
    ngx_gate_redis_t  *rs;

    n = handlers->pending + NGX_GATE_LINK_RING;

    rs = ngx_calloc(sizeof(ngx_gate_redis_t)
                    + (n + 2 * NGX_GATE_LINK_RING)
                      * sizeof(ngx_gate_link_wait_t), log);
    if (rs == NULL) {
        return NULL;
    }

    rs->rings = (ngx_gate_link_wait_t *) (rs + 1);
    rs->conf = conf;
    rs->handlers = handlers;
    rs->data = data;
    rs->status = status;
    rs->log = log;
    rs->backoff = NGX_GATE_BACKOFF_MIN;

    rs->dummy.fd = (ngx_socket_t) -1;
    rs->dummy.data = rs;

    rs->timer.handler = ngx_gate_redis_timer;
    rs->timer.data = &rs->dummy;
    rs->timer.log = log;
    rs->timer.cancelable = 1;

    rs->end.handler = ngx_gate_redis_free;
    rs->end.data = &rs->dummy;
    rs->end.log = log;

    ngx_gate_link_init(&rs->command, rs->rings, n,
                       &ngx_gate_redis_command_handlers, rs, log);
    ngx_gate_link_init(&rs->push, rs->rings + n, NGX_GATE_LINK_RING,
                       &ngx_gate_redis_push_handlers, rs, log);
    ngx_gate_sentinel_init(rs);

    status->state = NGX_GATE_REDIS_AWAY;
    status->connected_since = 0;
    status->tracking = 0;
    status->evictable = 0;
    status->address[0] = '\0';
    status->role[0] = '\0';
    status->version[0] = '\0';

    ngx_gate_redis_schedule(rs, 1);

    return rs;
}


void
ngx_gate_redis_mute(ngx_gate_redis_t *rs)
{
    static ngx_gate_fleet_t  nobodys;

    rs->status = &nobodys;
}


void
ngx_gate_redis_close(ngx_gate_redis_t *rs)
{
    if (rs->closing) {
        return;
    }

    rs->closing = 1;
    rs->state = NGX_GATE_SESSION_IDLE;

    if (rs->timer.timer_set) {
        ngx_del_timer(&rs->timer);
    }

    ngx_gate_host_stop(rs);
    ngx_gate_link_flush(&rs->command);

    ngx_gate_link_close(&rs->watch);
    ngx_gate_link_close(&rs->push);
    ngx_gate_link_close(&rs->command);

    rs->status->state = NGX_GATE_REDIS_AWAY;
    rs->status->connected_since = 0;
    rs->status->tracking = 0;

    /* somebody further up the stack may be at it */

    ngx_post_event(&rs->end, &ngx_posted_events);
}


static void
ngx_gate_redis_free(ngx_event_t *ev)
{
    ngx_connection_t  *dummy;

    dummy = ev->data;

    ngx_free(dummy->data);
}


ngx_uint_t
ngx_gate_redis_ready(ngx_gate_redis_t *rs)
{
    return rs->state == NGX_GATE_SESSION_READY;
}


static void
ngx_gate_redis_schedule(ngx_gate_redis_t *rs, ngx_msec_t delay)
{
    if (rs->timer.timer_set) {
        ngx_del_timer(&rs->timer);
    }

    ngx_add_timer(&rs->timer, delay);
}


static void
ngx_gate_redis_timer(ngx_event_t *ev)
{
    ngx_connection_t  *dummy;
    ngx_gate_redis_t  *rs;

    dummy = ev->data;
    rs = dummy->data;

    if (rs->state == NGX_GATE_SESSION_READY) {
        ngx_gate_redis_schedule(rs, rs->conf->poll);
        ngx_gate_check(rs);
        return;
    }

    if (rs->state == NGX_GATE_SESSION_IDLE && !ngx_exiting
        && !ngx_terminate && !ngx_quit)
    {
        ngx_gate_redis_attempt(rs);
    }
}


static void
ngx_gate_redis_attempt(ngx_gate_redis_t *rs)
{
    gate_url_host_t  *h;

    rs->status->state = NGX_GATE_REDIS_CONNECTING;
    rs->status->password_live = (uint32_t) ngx_gate_login_live(rs);
    rs->address.len = 0;

    if (rs->conf->url.sentinel) {
        ngx_gate_sentinel_ask(rs);
        return;
    }

    if (rs->conf->url.local) {
        rs->name_len = 0;

    } else {
        h = &rs->conf->url.host[rs->host];

        ngx_memcpy(rs->name, h->name.s, h->name.len);
        rs->name_len = h->name.len;
        rs->master_port = (in_port_t) h->port;
    }

    ngx_gate_redis_found(rs);
}


void
ngx_gate_redis_found(ngx_gate_redis_t *rs)
{
    ngx_str_t                name;
    ngx_gate_redis_addrs_t  *fixed;

    rs->state = NGX_GATE_SESSION_RESOLVE;

    name.data = rs->name;
    name.len = rs->name_len;

    fixed = NULL;

    if (!rs->conf->url.sentinel) {
        fixed = rs->conf->addrs.elts;
        fixed += rs->host;
    }

    ngx_gate_host_find(rs, &name, rs->master_port, fixed,
                       ngx_gate_redis_addressed);
}


static void
ngx_gate_redis_addressed(ngx_gate_redis_t *rs)
{
    if (rs->naddrs == 0) {
        ngx_gate_redis_error(rs, NGX_GATE_ERROR_RESOLVE, "name", rs->why,
                             ngx_strlen(rs->why));
        ngx_gate_redis_drop(rs, NGX_GATE_DROP_BACKOFF);
        return;
    }

    rs->state = NGX_GATE_SESSION_CONNECT;

    ngx_gate_redis_connect(rs);
}


void
ngx_gate_redis_connect(ngx_gate_redis_t *rs)
{
    ngx_str_t              name;
    ngx_gate_link_t       *link;
    ngx_gate_host_addr_t  *addr;

    addr = &rs->addrs[rs->addr];
    link = &rs->push;

    if (rs->state == NGX_GATE_SESSION_CONNECT) {
        link = &rs->command;

        rs->address.data = rs->text;
        rs->address.len = ngx_sock_ntop(&addr->sockaddr.sockaddr, addr->len,
                                        rs->text, NGX_SOCKADDR_STRLEN, 1);

        ngx_gate_text(rs->status->address, sizeof(rs->status->address),
                      rs->address.data, rs->address.len);
    }

    name.data = rs->name;
    name.len = rs->name_len;

#if (NGX_SSL)
    if (rs->conf->server_name.len) {
        name = rs->conf->server_name;
    }
#endif

    if (ngx_gate_link_connect(link, &addr->sockaddr.sockaddr, addr->len,
                              &rs->address, ngx_gate_redis_ssl(rs), &name,
                              rs->conf->timeout)
        != NGX_OK)
    {
        ngx_gate_redis_broken(link);
    }
}


void *
ngx_gate_redis_ssl(ngx_gate_redis_t *rs)
{
#if (NGX_SSL)
    return rs->conf->ssl;
#else
    return NULL;
#endif
}


static void
ngx_gate_redis_opened(ngx_gate_link_t *link)
{
    ngx_gate_redis_t *rs = link->data;

    if (link == &rs->command) {
        ngx_gate_login_command(rs);
        return;
    }

    ngx_gate_login_push(rs);
}


static void
ngx_gate_redis_broken(ngx_gate_link_t *link)
{
    ngx_gate_redis_t *rs = link->data;

    ngx_uint_t   elsewhere;
    const char  *what;

    if (link->retired) {
        ngx_gate_redis_drop(rs, NGX_GATE_DROP_RETIRE);
        return;
    }

    what = (link == &rs->push) ? "connection for pushes" : "connection";
    elsewhere = (rs->state == NGX_GATE_SESSION_CONNECT);

    ngx_gate_redis_error(rs, link->error, what, link->text,
                         ngx_strlen(link->text));

    if (elsewhere) {
        ngx_gate_redis_elsewhere(rs);
        return;
    }

    ngx_gate_redis_drop(rs, NGX_GATE_DROP_BACKOFF);
}


/* A name may have several addresses: the next one, if there is one. */

static void
ngx_gate_redis_elsewhere(ngx_gate_redis_t *rs)
{
    if (rs->addr + 1 < rs->naddrs) {
        rs->addr++;
        ngx_gate_link_close(&rs->command);
        ngx_gate_redis_connect(rs);
        return;
    }

    ngx_gate_redis_drop(rs, NGX_GATE_DROP_BACKOFF);
}


static void
ngx_gate_redis_stray(ngx_gate_link_t *link, redisReply *reply)
{
    ngx_gate_redis_t *rs = link->data;

    if (reply->type == REDIS_REPLY_ERROR) {

        /* a server that is full says so before it is asked, and closes */

        ngx_gate_fault_login(rs, "connection", reply);
        return;
    }

    if (link != &rs->push || reply->type != REDIS_REPLY_ARRAY) {
        ngx_gate_fault_odd(rs, "connection");
        return;
    }

    /* a read of everything follows "ready" anyway */

    if (rs->state == NGX_GATE_SESSION_READY) {
        ngx_gate_add(&rs->status->pushes_total, 1);
        rs->handlers->push(rs->data);
    }
}


static void
ngx_gate_redis_replied(ngx_gate_link_t *link, uint64_t usec)
{
    ngx_uint_t         i;
    uint64_t           bound;
    ngx_gate_redis_t  *rs;

    rs = link->data;

    for (i = 0, bound = 64; i < NGX_GATE_RTT_BUCKETS - 1; i++, bound *= 2) {
        if (usec < bound) {
            break;
        }
    }

    ngx_gate_add(&rs->status->rtt_count[i], 1);
    ngx_gate_add(&rs->status->rtt_sum, usec);

    rs->status->last_success = ngx_gate_now();
}


void
ngx_gate_redis_done(ngx_gate_redis_t *rs)
{
    rs->state = NGX_GATE_SESSION_READY;
    rs->ready_at = ngx_current_msec;
    rs->tried = 0;
    rs->polls = 0;

    rs->status->state = NGX_GATE_REDIS_READY;
    rs->status->connected_since = ngx_gate_now();

    if (rs->status->connects_total) {
        ngx_gate_add(&rs->status->reconnects_total, 1);
    }

    ngx_gate_add(&rs->status->connects_total, 1);

    if (rs->told) {
        ngx_log_error(ngx_gate_session_level(rs, NGX_LOG_NOTICE), rs->log, 0,
                      "gate: connected to Redis %V again (%s %s)",
                      &rs->address, rs->status->role, rs->status->version);

    } else if (rs->status->connects_total == 1) {
        ngx_log_error(ngx_gate_session_level(rs, NGX_LOG_NOTICE), rs->log, 0,
                      "gate: connected to Redis %V (%s %s)",
                      &rs->address, rs->status->role, rs->status->version);
    }

    rs->told = 0;

    ngx_gate_redis_schedule(rs, rs->conf->poll);

    rs->handlers->ready(rs->data);
}


void
ngx_gate_redis_drop(ngx_gate_redis_t *rs, ngx_uint_t how)
{
    ngx_uint_t  was_ready, lived, hosts;
    ngx_msec_t  delay;

    if (rs->closing || rs->state == NGX_GATE_SESSION_IDLE) {
        return;
    }

    was_ready = (rs->state == NGX_GATE_SESSION_READY);
    lived = was_ready && (ngx_msec_int_t) (ngx_current_msec - rs->ready_at)
                         >= NGX_GATE_SESSION_LIVED;

    rs->state = NGX_GATE_SESSION_IDLE;
    rs->rewatch = 0;
    rs->watching = 0;

    rs->status->state = NGX_GATE_REDIS_AWAY;
    rs->status->connected_since = 0;
    rs->status->tracking = 0;

    ngx_gate_host_stop(rs);

    ngx_gate_link_close(&rs->watch);
    ngx_gate_link_close(&rs->push);
    ngx_gate_link_close(&rs->command);

    if (lived) {
        rs->backoff = NGX_GATE_BACKOFF_MIN;
    }

    if (how == NGX_GATE_DROP_SLOW) {
        rs->backoff = NGX_GATE_BACKOFF_MAX;
    }

    delay = rs->backoff * (75 + (ngx_msec_t) (ngx_random() % 51)) / 100;

    /* each host once before a pause; a session that lived asks its own */

    hosts = rs->conf->url.sentinel ? 1 : rs->conf->url.nhosts;

    if (how == NGX_GATE_DROP_AT_ONCE && lived) {
        delay = 1;

    } else if (how != NGX_GATE_DROP_AT_ONCE && !was_ready
               && ++rs->tried < hosts)
    {
        rs->host = (rs->host + 1) % hosts;
        delay = 1;

    } else {
        rs->backoff = ngx_min(rs->backoff * 2, NGX_GATE_BACKOFF_MAX);

        if (!was_ready && hosts > 1 && how != NGX_GATE_DROP_AT_ONCE) {
            rs->host = (rs->host + 1) % hosts;
            rs->tried = 0;
        }
    }

    if (how != NGX_GATE_DROP_RETIRE && !rs->closing) {
        ngx_gate_redis_schedule(rs, delay);
    }

    if (was_ready && !rs->closing) {
        rs->handlers->lost(rs->data);
    }
}


void
ngx_gate_redis_reset(ngx_gate_redis_t *rs, ngx_gate_error_e error,
    const char *why)
{
    if (rs->state == NGX_GATE_SESSION_IDLE) {
        return;
    }

    ngx_gate_redis_error(rs, error, "connection given up", why,
                         ngx_strlen(why));
    ngx_gate_redis_drop(rs, NGX_GATE_DROP_AT_ONCE);
}


ngx_int_t
ngx_gate_redis_script(ngx_gate_redis_t *rs, ngx_gate_script_e script,
    ngx_uint_t nkeys, ngx_uint_t argc, ngx_str_t *argv,
    ngx_gate_redis_reply_pt handler, void *data)
{
    u_char             number[NGX_INT_T_LEN];
    ngx_str_t         *args;
    ngx_int_t          rc;
    ngx_gate_call_t   *call;
    ngx_gate_script_t *s;

    if (rs->state != NGX_GATE_SESSION_READY
        || rs->command.waiting >= rs->handlers->pending)
    {
        return NGX_BUSY;
    }

    s = &ngx_gate_scripts[script];

    args = ngx_alloc((argc + 3) * sizeof(ngx_str_t), rs->log);
    if (args == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&args[0], "EVAL");
    args[1].data = (u_char *) s->text;
    args[1].len = s->len;
    args[2].data = number;
    args[2].len = ngx_sprintf(number, "%ui", nkeys) - number;
    ngx_memcpy(&args[3], argv, argc * sizeof(ngx_str_t));

    /* kept for a server that has to be told the text */

    call = ngx_gate_redis_call(rs, argc + 3, args, handler, data);

    rc = NGX_ERROR;

    if (call) {
        ngx_str_set(&args[0], "EVALSHA");
        args[1].data = (u_char *) s->sha1;
        args[1].len = 40;

        rc = ngx_gate_redis_send(rs, argc + 3, args, call);
    }

    ngx_free(args);

    return rc;
}


/* With a copy of the arguments; the text of a script stays where it is. */

static ngx_gate_call_t *
ngx_gate_redis_call(ngx_gate_redis_t *rs, ngx_uint_t argc, ngx_str_t *argv,
    ngx_gate_redis_reply_pt handler, void *data)
{
    size_t            size;
    u_char           *p;
    ngx_uint_t        i;
    ngx_gate_call_t  *call;

    size = sizeof(ngx_gate_call_t) + argc * sizeof(ngx_str_t);

    for (i = 2; i < argc; i++) {
        size += argv[i].len;
    }

    call = ngx_alloc(size, rs->log);
    if (call == NULL) {
        return NULL;
    }

    call->rs = rs;
    call->handler = handler;
    call->data = data;
    call->argc = argc;
    call->argv = (ngx_str_t *) (call + 1);

    p = (u_char *) (call->argv + argc);

    for (i = 0; i < argc; i++) {
        call->argv[i] = argv[i];

        if (i >= 2) {
            call->argv[i].data = p;
            p = ngx_cpymem(p, argv[i].data, argv[i].len);
        }
    }

    return call;
}


static ngx_int_t
ngx_gate_redis_send(ngx_gate_redis_t *rs, ngx_uint_t argc, ngx_str_t *argv,
    ngx_gate_call_t *call)
{
    ngx_int_t  rc;

    rc = ngx_gate_link_send(&rs->command, argc, argv, ngx_gate_redis_reply,
                            call);

    if (rc != NGX_OK) {
        ngx_free(call);
        return rc;
    }

    ngx_gate_add(&rs->status->commands_total, 1);

    return NGX_OK;
}


static void
ngx_gate_redis_reply(void *data, redisReply *reply)
{
    ngx_gate_call_t *call = data;

    ngx_gate_redis_t  *rs;

    rs = call->rs;

    if (reply && reply->type == REDIS_REPLY_ERROR) {

        if (call->argc && ngx_gate_fault_is(reply, "NOSCRIPT")) {

            if (ngx_gate_link_send(&rs->command, call->argc, call->argv,
                                   ngx_gate_redis_reply, call)
                == NGX_OK)
            {
                call->argc = 0;
                return;
            }
        }

        (void) ngx_gate_fault_reply(rs, call->argc ? "script" : "command",
                                    reply);
    }

    if (call->handler && !rs->closing) {
        call->handler(call->data, reply);
    }

    ngx_free(call);
}

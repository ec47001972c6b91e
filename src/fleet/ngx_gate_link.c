
/*
 * Copyright (C) nginx-gate authors
 */


#include "ngx_gate_link.h"


#define NGX_GATE_LINK_READ    16384
#define NGX_GATE_LINK_READS   32       /* at once: 512 KB, then others */
#define NGX_GATE_LINK_BUFFER  4096     /* the least that is allocated */


static void ngx_gate_link_log(ngx_log_t *log, ngx_uint_t level, u_char *buf,
    size_t len);
static void ngx_gate_link_connected(ngx_event_t *ev);
static ngx_int_t ngx_gate_link_test(ngx_connection_t *c);
static void ngx_gate_link_read(ngx_event_t *rev);
static ngx_int_t ngx_gate_link_replies(ngx_gate_link_t *link,
    ngx_connection_t *c);
static void ngx_gate_link_reply(ngx_gate_link_t *link, redisReply *reply);
static ngx_uint_t ngx_gate_link_message(ngx_gate_link_t *link,
    redisReply *reply);
static void ngx_gate_link_write(ngx_event_t *wev);
static ngx_int_t ngx_gate_link_push(ngx_gate_link_t *link);
static ngx_int_t ngx_gate_link_append(ngx_gate_link_t *link, char *data,
    size_t len);
static void ngx_gate_link_wipe(ngx_gate_link_t *link);
static void ngx_gate_link_deadline(ngx_event_t *ev);
static void ngx_gate_link_discard(ngx_gate_link_t *link);


void
ngx_gate_link_init(ngx_gate_link_t *link, ngx_gate_link_wait_t *ring,
    ngx_uint_t size, ngx_gate_link_handlers_t *handlers, void *data,
    ngx_log_t *log)
{
    link->ring = ring;
    link->size = size;
    link->handlers = handlers;
    link->data = data;

    link->dummy.fd = (ngx_socket_t) -1;
    link->dummy.data = link;

    link->timer.handler = ngx_gate_link_deadline;
    link->timer.data = &link->dummy;
    link->timer.log = log;
    link->timer.cancelable = 1;

    /*
     * A Redis that is away makes nginx say so at each attempt.  What it says
     * is kept, to be told once by whoever counts the errors.
     */

    link->log.log_level = NGX_LOG_INFO;
    link->log.writer = ngx_gate_link_log;
    link->log.wdata = link;
    link->log.file = log->file;
}


/* "2026/11/21 10:00:00 [error] 1#1: *1 text (111: why)" LF: only the text */

static void
ngx_gate_link_log(ngx_log_t *log, ngx_uint_t level, u_char *buf, size_t len)
{
    u_char           *p, *last, *text;
    ngx_gate_link_t  *link;

    link = log->wdata;
    last = buf + len;
    text = buf;

    p = ngx_strlchr(buf, last, ']');

    while (p && p + 1 < last) {

        if (*p == ':' && p[1] == ' ') {
            text = p + 2;
            break;
        }

        p++;
    }

    if (text < last && *text == '*') {
        p = ngx_strlchr(text, last, ' ');
        text = p ? p + 1 : text;
    }

    while (last > text && (*(last - 1) == LF || *(last - 1) == CR)) {
        last--;
    }

    link->said_len = ngx_min((size_t) (last - text), sizeof(link->said));
    ngx_memcpy(link->said, text, link->said_len);
}


ngx_int_t
ngx_gate_link_connect(ngx_gate_link_t *link, struct sockaddr *addr,
    socklen_t len, ngx_str_t *addr_text, void *ssl, ngx_str_t *name,
    ngx_msec_t timeout)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    ngx_gate_link_close(link);

    ngx_memzero(&link->peer, sizeof(ngx_peer_connection_t));

    link->peer.sockaddr = addr;
    link->peer.socklen = len;
    link->peer.name = addr_text;
    link->peer.get = ngx_event_get_peer;
    link->peer.log = &link->log;
    link->peer.log_error = NGX_ERROR_ERR;
    link->peer.so_keepalive = 1;

    link->timeout = timeout;
    link->failed = 0;
    link->retired = 0;
    link->said_len = 0;

#if (NGX_SSL)
    link->ssl = ssl;

    if (name) {
        link->name = *name;
    }
#endif

    rc = ngx_event_connect_peer(&link->peer);

    if (rc != NGX_OK && rc != NGX_AGAIN) {
        link->peer.connection = NULL;
        goto failed;
    }

    c = link->peer.connection;

    c->data = link;
    c->read->handler = ngx_gate_link_connected;
    c->write->handler = ngx_gate_link_connected;
    c->read->cancelable = 1;
    c->write->cancelable = 1;

    c->pool = ngx_create_pool(512, &link->log);
    if (c->pool == NULL) {
        ngx_gate_link_discard(link);
        goto failed;
    }

    link->began = ngx_current_msec;
    ngx_add_timer(&link->timer, timeout);

    if (rc == NGX_OK) {
        ngx_post_event(c->write, &ngx_posted_events);
    }

    return NGX_OK;

failed:

    link->error = NGX_GATE_ERROR_CONNECT;
    ngx_gate_text(link->text, sizeof(link->text), (u_char *) link->said,
                  link->said_len);

    return NGX_ERROR;
}


void
ngx_gate_link_fail(ngx_gate_link_t *link, ngx_gate_error_e error,
    const char *text, size_t len)
{
    if (link->failed) {
        return;
    }

    link->failed = 1;
    link->error = error;
    ngx_gate_text(link->text, sizeof(link->text), (u_char *) text, len);

    link->handlers->broken(link);
}


void
ngx_gate_link_fail_said(ngx_gate_link_t *link, ngx_gate_error_e error,
    const char *text)
{
    if (link->said_len) {
        ngx_gate_link_fail(link, error, link->said, link->said_len);
        return;
    }

    ngx_gate_link_fail(link, error, text, ngx_strlen(text));
}


static void
ngx_gate_link_connected(ngx_event_t *ev)
{
    ngx_connection_t  *c;
    ngx_gate_link_t   *link;

    c = ev->data;
    link = c->data;

    if (c->close) {
        link->retired = 1;
        ngx_gate_link_fail(link, NGX_GATE_ERROR_CONNECT,
                           ngx_gate_literal("this process retires"));
        return;
    }

    if (ngx_gate_link_test(c) != NGX_OK) {
        ngx_gate_link_fail_said(link, NGX_GATE_ERROR_CONNECT,
                                "cannot connect");
        return;
    }

    /* a command must not wait for the reply to another one */

    if (ngx_tcp_nodelay(c) != NGX_OK) {
        ngx_gate_link_fail_said(link, NGX_GATE_ERROR_CONNECT,
                                "cannot connect");
        return;
    }

#if (NGX_SSL)

    if (link->ssl) {
        ngx_gate_link_tls(link);
        return;
    }

#endif

    ngx_gate_link_opened(link);
}


static ngx_int_t
ngx_gate_link_test(ngx_connection_t *c)
{
    int        err;
    socklen_t  len;

    err = 0;
    len = sizeof(int);

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, (void *) &err, &len) == -1) {
        err = ngx_socket_errno;
    }

    if (err) {
        ngx_log_error(NGX_LOG_ERR, c->log, err, "connect() failed");
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_gate_link_opened(ngx_gate_link_t *link)
{
    ngx_connection_t  *c;

    c = link->peer.connection;

    c->read->handler = ngx_gate_link_read;
    c->write->handler = ngx_gate_link_write;

    /*
     * It is not marked as idle: a process that retires would close it before
     * its owner could say the last words.  Nothing here keeps the process.
     */

    link->open = 1;
    link->said_len = 0;

    if (link->timer.timer_set) {
        ngx_del_timer(&link->timer);
    }

    /*
     * A server that is full says so and closes before it is asked.  What it
     * said is lost as soon as something is sent to it.
     */

    ngx_gate_link_read(c->read);

    if (link->peer.connection == c && link->open) {
        link->handlers->opened(link);
    }
}


static void
ngx_gate_link_read(ngx_event_t *rev)
{
    ssize_t            n;
    ngx_uint_t         i;
    ngx_gate_link_t   *link;
    ngx_connection_t  *c;
    static u_char      buf[NGX_GATE_LINK_READ];

    c = rev->data;
    link = c->data;

    if (c->close) {
        link->retired = 1;
        ngx_gate_link_fail(link, NGX_GATE_ERROR_CONNECT,
                           ngx_gate_literal("this process retires"));
        return;
    }

    /* the event is edge-triggered: what is not read now is not told again */

    for (i = 0; rev->ready; i++) {

        if (i == NGX_GATE_LINK_READS) {
            ngx_post_event(rev, &ngx_posted_next_events);
            return;
        }

        n = c->recv(c, buf, sizeof(buf));

        if (n == NGX_AGAIN) {
            break;
        }

        if (n == 0) {
            ngx_gate_link_fail(link, NGX_GATE_ERROR_CONNECT,
                               ngx_gate_literal("the server closed the "
                                                "connection"));
            return;
        }

        if (n < 0) {
            ngx_gate_link_fail_said(link, NGX_GATE_ERROR_CONNECT,
                                    "the connection broke");
            return;
        }

        if (ngx_gate_resp_feed(&link->resp, (char *) buf, (size_t) n) != 0) {
            ngx_gate_link_fail(link, NGX_GATE_ERROR_PROTOCOL,
                               link->resp.error,
                               ngx_strlen(link->resp.error));
            return;
        }

        if (ngx_gate_link_replies(link, c) != NGX_OK) {
            return;
        }
    }

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_gate_link_fail_said(link, NGX_GATE_ERROR_CONNECT,
                                "cannot wait for events");
    }
}


/* NGX_DONE: the link is not the one any more that was read from. */

static ngx_int_t
ngx_gate_link_replies(ngx_gate_link_t *link, ngx_connection_t *c)
{
    int                 rc;
    redisReply         *reply;
    ngx_atomic_uint_t   number;

    number = c->number;

    for ( ;; ) {
        rc = ngx_gate_resp_next(&link->resp, &reply);

        if (rc == 0) {
            return NGX_OK;
        }

        if (rc == -1) {
            ngx_gate_link_fail(link, NGX_GATE_ERROR_PROTOCOL,
                               link->resp.error,
                               ngx_strlen(link->resp.error));
            return NGX_DONE;
        }

        ngx_gate_link_reply(link, reply);
        freeReplyObject(reply);

        if (link->peer.connection != c || c->number != number) {
            return NGX_DONE;
        }
    }
}


static void
ngx_gate_link_reply(ngx_gate_link_t *link, redisReply *reply)
{
    ngx_gate_link_wait_t  *w;

    if (link->waiting == 0 || ngx_gate_link_message(link, reply)) {
        link->handlers->stray(link, reply);
        return;
    }

    w = &link->ring[link->head];

    link->head = (link->head + 1) % link->size;
    link->waiting--;

    if (link->handlers->replied) {
        link->handlers->replied(link, ngx_gate_link_usec() - w->usec);
    }

    if (w->handler) {
        w->handler(w->data, reply);
    }
}


/* In RESP2 messages stand between the replies of a subscriber. */

static ngx_uint_t
ngx_gate_link_message(ngx_gate_link_t *link, redisReply *reply)
{
    redisReply  *kind;

    if (!link->pushes || reply->type != REDIS_REPLY_ARRAY
        || reply->elements == 0)
    {
        return 0;
    }

    kind = reply->element[0];

    return kind->type == REDIS_REPLY_STRING && kind->len == 7
           && ngx_memcmp(kind->str, "message", 7) == 0;
}


ngx_int_t
ngx_gate_link_send(ngx_gate_link_t *link, ngx_uint_t argc, ngx_str_t *argv,
    ngx_gate_link_reply_pt handler, void *data)
{
    char                  *command;
    size_t                *lens;
    ngx_int_t              rc;
    long long              len;
    ngx_uint_t             i;
    const char           **args;
    ngx_connection_t      *c;
    ngx_gate_link_wait_t  *w;

    if (!ngx_gate_link_room(link)) {
        return NGX_BUSY;
    }

    args = ngx_alloc(argc * (sizeof(char *) + sizeof(size_t)), &link->log);
    if (args == NULL) {
        return NGX_ERROR;
    }

    lens = (size_t *) (args + argc);

    for (i = 0; i < argc; i++) {
        args[i] = (const char *) argv[i].data;
        lens[i] = argv[i].len;
    }

    len = ngx_gate_resp_format(&command, (int) argc, args, lens);

    ngx_free(args);

    if (len < 0) {
        return NGX_ERROR;
    }

    rc = ngx_gate_link_append(link, command, (size_t) len);

    ngx_explicit_memzero(command, (size_t) len);
    free(command);

    if (rc != NGX_OK) {
        return rc;
    }

    w = &link->ring[(link->head + link->waiting) % link->size];

    w->handler = handler;
    w->data = data;
    w->given = ngx_current_msec;
    w->usec = ngx_gate_link_usec();

    link->waiting++;

    if (!link->timer.timer_set) {
        ngx_add_timer(&link->timer, link->timeout);
    }

    /* commands of one turn of the event loop leave together */

    c = link->peer.connection;
    ngx_post_event(c->write, &ngx_posted_events);

    return NGX_OK;
}


static ngx_int_t
ngx_gate_link_append(ngx_gate_link_t *link, char *data, size_t len)
{
    u_char  *p;
    size_t   size, rest;

    if (len > NGX_GATE_LINK_OUT) {
        return NGX_ERROR;
    }

    rest = link->out_last - link->out_pos;

    if (len > NGX_GATE_LINK_OUT - rest) {
        return NGX_BUSY;
    }

    if (len > link->out_size - link->out_last) {

        size = link->out_size ? link->out_size : NGX_GATE_LINK_BUFFER;

        while (size < rest + len) {
            size *= 2;
        }

        p = ngx_alloc(size, &link->log);
        if (p == NULL) {
            return NGX_ERROR;
        }

        if (link->out) {
            ngx_memcpy(p, link->out + link->out_pos, rest);
            ngx_gate_link_wipe(link);
            ngx_free(link->out);
        }

        link->out = p;
        link->out_size = size;
        link->out_pos = 0;
        link->out_last = rest;
    }

    ngx_memcpy(link->out + link->out_last, data, len);
    link->out_last += len;

    return NGX_OK;
}


static void
ngx_gate_link_wipe(ngx_gate_link_t *link)
{
    if (link->secret && link->out_last) {
        ngx_explicit_memzero(link->out, link->out_last);
    }
}


static void
ngx_gate_link_write(ngx_event_t *wev)
{
    ngx_connection_t  *c;
    ngx_gate_link_t   *link;

    c = wev->data;
    link = c->data;

    if (ngx_gate_link_push(link) == NGX_ERROR) {
        ngx_gate_link_fail_said(link, NGX_GATE_ERROR_CONNECT,
                                "the connection broke");
        return;
    }

    if (ngx_handle_write_event(wev, 0) != NGX_OK) {
        ngx_gate_link_fail_said(link, NGX_GATE_ERROR_CONNECT,
                                "cannot wait for events");
    }
}


/* NGX_OK: all was sent.  NGX_AGAIN, NGX_ERROR. */

static ngx_int_t
ngx_gate_link_push(ngx_gate_link_t *link)
{
    ssize_t            n;
    ngx_connection_t  *c;

    c = link->peer.connection;

    while (link->out_pos < link->out_last) {

        n = c->send(c, link->out + link->out_pos,
                    link->out_last - link->out_pos);

        if (n == NGX_AGAIN || n == 0) {
            return NGX_AGAIN;
        }

        if (n < 0) {
            return NGX_ERROR;
        }

        link->out_pos += (size_t) n;
    }

    ngx_gate_link_wipe(link);

    link->secret = 0;
    link->out_pos = 0;
    link->out_last = 0;

    return NGX_OK;
}


void
ngx_gate_link_flush(ngx_gate_link_t *link)
{
    if (link->open) {
        (void) ngx_gate_link_push(link);
    }
}


/*
 * The timer is not moved with each reply: when it goes off, the oldest
 * command may be younger, and it is set again for that one.
 */

static void
ngx_gate_link_deadline(ngx_event_t *ev)
{
    ngx_msec_t         since;
    ngx_connection_t  *dummy;
    ngx_gate_link_t   *link;
    ngx_msec_int_t     left;

    dummy = ev->data;
    link = dummy->data;

    if (link->peer.connection == NULL || (link->open && link->waiting == 0)) {
        return;
    }

    since = link->open ? link->ring[link->head].given : link->began;
    left = (ngx_msec_int_t) (since + link->timeout - ngx_current_msec);

    if (left > 0) {
        ngx_add_timer(&link->timer, (ngx_msec_t) left);
        return;
    }

    if (link->open) {
        ngx_gate_link_fail(link, NGX_GATE_ERROR_TIMEOUT,
                           ngx_gate_literal("no answer in time"));
        return;
    }

#if (NGX_SSL)

    if (link->peer.connection->ssl) {
        ngx_gate_link_fail(link, NGX_GATE_ERROR_TIMEOUT,
                           ngx_gate_literal("no TLS handshake in time"));
        return;
    }

#endif

    ngx_gate_link_fail(link, NGX_GATE_ERROR_TIMEOUT,
                       ngx_gate_literal("no connection in time"));
}


void
ngx_gate_link_close(ngx_gate_link_t *link)
{
    ngx_gate_link_wait_t  w;

    ngx_gate_link_discard(link);

    /* whoever is told cannot add to the ring: it is not open any more */

    while (link->waiting) {
        w = link->ring[link->head];

        link->head = (link->head + 1) % link->size;
        link->waiting--;

        if (w.handler) {
            w.handler(w.data, NULL);
        }
    }
}


static void
ngx_gate_link_discard(ngx_gate_link_t *link)
{
    ngx_pool_t        *pool;
    ngx_connection_t  *c;

    c = link->peer.connection;

    link->peer.connection = NULL;
    link->open = 0;

    if (link->timer.timer_set) {
        ngx_del_timer(&link->timer);
    }

    ngx_gate_resp_free(&link->resp);

    if (link->out) {
        ngx_gate_link_wipe(link);
        ngx_free(link->out);
        link->out = NULL;
    }

    link->out_size = 0;
    link->out_pos = 0;
    link->out_last = 0;
    link->secret = 0;
    link->pushes = 0;

    if (c == NULL) {
        return;
    }

#if (NGX_SSL)

    if (c->ssl) {
        ngx_gate_link_tls_close(link, c);
    }

#endif

    pool = c->pool;

    ngx_close_connection(c);

    if (pool) {
        ngx_destroy_pool(pool);
    }
}


uint64_t
ngx_gate_link_usec(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Who is the master?
 *
 * At the beginning of each attempt the sentinels are asked in turn, each for
 * a few hundred milliseconds; the first that answers is asked first the next
 * time, and its connection is kept, subscribed to "+switch-master".  When it
 * breaks during a session, the next sentinel takes its place; it is asked
 * first, and if it names another master, the session was with the wrong one.
 *
 * What sentinels say is not the last word: the login asks the server itself
 * for its role.
 */


#include "ngx_gate_session.h"


static void ngx_gate_sentinel_next(ngx_gate_redis_t *rs);
static void ngx_gate_sentinel_failed(ngx_gate_redis_t *rs,
    ngx_gate_error_e error, const char *text, size_t len);
static void ngx_gate_sentinel_found(ngx_gate_redis_t *rs);
static void ngx_gate_sentinel_opened(ngx_gate_link_t *link);
static void ngx_gate_sentinel_broken(ngx_gate_link_t *link);
static void ngx_gate_sentinel_stray(ngx_gate_link_t *link,
    redisReply *reply);
static void ngx_gate_sentinel_authorized(void *data, redisReply *reply);
static void ngx_gate_sentinel_question(ngx_gate_redis_t *rs);
static void ngx_gate_sentinel_master(void *data, redisReply *reply);
static void ngx_gate_sentinel_subscribed(void *data, redisReply *reply);
static ngx_uint_t ngx_gate_sentinel_word(u_char **p, u_char *last,
    ngx_str_t *word);


static ngx_gate_link_handlers_t  ngx_gate_sentinel_handlers = {
    ngx_gate_sentinel_opened,
    ngx_gate_sentinel_broken,
    ngx_gate_sentinel_stray,
    NULL
};


void
ngx_gate_sentinel_init(ngx_gate_redis_t *rs)
{
    ngx_gate_link_init(&rs->watch,
                       rs->rings + rs->handlers->pending
                       + 2 * NGX_GATE_LINK_RING,
                       NGX_GATE_LINK_RING, &ngx_gate_sentinel_handlers, rs,
                       rs->log);
}


void
ngx_gate_sentinel_ask(ngx_gate_redis_t *rs)
{
    rs->state = NGX_GATE_SESSION_ASK;
    rs->asked = 0;
    rs->rewatch = 0;

    ngx_gate_sentinel_next(rs);
}


/* rs->sentinel, unless all of them were asked. */

static void
ngx_gate_sentinel_next(ngx_gate_redis_t *rs)
{
    ngx_str_t                name;
    gate_url_host_t         *h;
    ngx_gate_redis_addrs_t  *addrs;

    h = &rs->conf->url.host[rs->sentinel];
    addrs = rs->conf->addrs.elts;

    name.data = (u_char *) h->name.s;
    name.len = h->name.len;

    rs->watching = 0;
    rs->asked++;

    ngx_gate_host_find(rs, &name, (in_port_t) h->port, &addrs[rs->sentinel],
                       ngx_gate_sentinel_found);
}


static void
ngx_gate_sentinel_failed(ngx_gate_redis_t *rs, ngx_gate_error_e error,
    const char *text, size_t len)
{
    u_char            buf[GATE_URL_HOST_MAX + sizeof("sentinel :65535")];
    gate_url_host_t  *h;

    h = &rs->conf->url.host[rs->sentinel];

    ngx_sprintf(buf, "sentinel %*s:%ui%Z", h->name.len, h->name.s,
                (ngx_uint_t) h->port);

    ngx_gate_redis_error(rs, error, (char *) buf, text, len);

    ngx_gate_link_close(&rs->watch);

    rs->sentinel = (rs->sentinel + 1) % rs->conf->url.nhosts;

    if (rs->rewatch) {

        /* the session goes on without; the next poll tries again */

        rs->rewatch = 0;
        return;
    }

    if (rs->asked < rs->conf->url.nhosts) {
        ngx_gate_sentinel_next(rs);
        return;
    }

    ngx_gate_redis_drop(rs, NGX_GATE_DROP_BACKOFF);
}


static void
ngx_gate_sentinel_found(ngx_gate_redis_t *rs)
{
    ngx_str_t              name;
    gate_url_host_t       *h;
    ngx_gate_host_addr_t  *addr;

    if (rs->naddrs == 0) {
        ngx_gate_sentinel_failed(rs, NGX_GATE_ERROR_RESOLVE, rs->why,
                                 ngx_strlen(rs->why));
        return;
    }

    /* of several addresses another one at each attempt */

    h = &rs->conf->url.host[rs->sentinel];
    addr = &rs->addrs[ngx_random() % rs->naddrs];

    name.data = (u_char *) h->name.s;
    name.len = h->name.len;

#if (NGX_SSL)
    if (rs->conf->server_name.len) {
        name = rs->conf->server_name;
    }
#endif

    rs->watch_address.data = rs->watch_text;
    rs->watch_address.len = ngx_sock_ntop(&addr->sockaddr.sockaddr, addr->len,
                                          rs->watch_text,
                                          NGX_SOCKADDR_STRLEN, 1);

    if (ngx_gate_link_connect(&rs->watch, &addr->sockaddr.sockaddr, addr->len,
                              &rs->watch_address, ngx_gate_redis_ssl(rs),
                              &name, ngx_min(rs->conf->timeout,
                                             NGX_GATE_SENTINEL_WAIT))
        != NGX_OK)
    {
        ngx_gate_sentinel_failed(rs, rs->watch.error, rs->watch.text,
                                 ngx_strlen(rs->watch.text));
    }
}


static void
ngx_gate_sentinel_opened(ngx_gate_link_t *link)
{
    ngx_gate_redis_t *rs = link->data;

    switch (ngx_gate_login_auth(rs, link, 1, ngx_gate_sentinel_authorized)) {

    case NGX_OK:
        break;

    case NGX_DECLINED:
        ngx_gate_sentinel_question(rs);
        break;

    default:
        ngx_gate_link_fail(link, NGX_GATE_ERROR_CONNECT,
                           ngx_gate_literal("AUTH cannot be sent"));
    }
}


static void
ngx_gate_sentinel_broken(ngx_gate_link_t *link)
{
    ngx_gate_redis_t *rs = link->data;

    if (link->retired) {
        ngx_gate_link_close(link);
        return;
    }

    if (rs->state == NGX_GATE_SESSION_ASK || rs->rewatch) {
        ngx_gate_sentinel_failed(rs, link->error, link->text,
                                 ngx_strlen(link->text));
        return;
    }

    /* beside a session or a login: the next poll looks for another one */

    rs->watching = 0;
    rs->sentinel = (rs->sentinel + 1) % rs->conf->url.nhosts;

    ngx_gate_link_close(link);
}


static void
ngx_gate_sentinel_authorized(void *data, redisReply *reply)
{
    ngx_gate_redis_t *rs = data;

    ngx_gate_error_e  error;

    if (reply == NULL) {
        return;
    }

    if (reply->type != REDIS_REPLY_ERROR) {
        ngx_gate_sentinel_question(rs);
        return;
    }

    if (ngx_gate_fault_is(reply, "ERR unknown")) {
        ngx_gate_sentinel_failed(rs, NGX_GATE_ERROR_AUTH,
                                 ngx_gate_literal("it does not know AUTH"));
        return;
    }

    (void) ngx_gate_fault(reply->str, reply->len, &error);

    ngx_gate_sentinel_failed(rs, error, reply->str, reply->len);
}


static void
ngx_gate_sentinel_question(ngx_gate_redis_t *rs)
{
    ngx_str_t  argv[3];

    ngx_str_set(&argv[0], "SENTINEL");
    ngx_str_set(&argv[1], "get-master-addr-by-name");
    argv[2].data = (u_char *) rs->conf->url.master.s;
    argv[2].len = rs->conf->url.master.len;

    if (ngx_gate_link_send(&rs->watch, 3, argv, ngx_gate_sentinel_master, rs)
        != NGX_OK)
    {
        ngx_gate_link_fail(&rs->watch, NGX_GATE_ERROR_CONNECT,
                           ngx_gate_literal("it cannot be asked"));
    }
}


static void
ngx_gate_sentinel_master(void *data, redisReply *reply)
{
    ngx_gate_redis_t *rs = data;

    uint64_t           port;
    ngx_str_t          argv[2];
    redisReply        *name, *number;
    ngx_gate_error_e   error;

    if (reply == NULL) {
        return;
    }

    if (reply->type == REDIS_REPLY_ERROR) {
        (void) ngx_gate_fault(reply->str, reply->len, &error);
        ngx_gate_sentinel_failed(rs, error, reply->str, reply->len);
        return;
    }

    if (reply->type == REDIS_REPLY_NIL) {
        ngx_gate_sentinel_failed(rs, NGX_GATE_ERROR_ROLE,
                                 ngx_gate_literal("it knows no master of that "
                                                  "name"));
        return;
    }

    name = reply->elements == 2 ? reply->element[0] : NULL;
    number = reply->elements == 2 ? reply->element[1] : NULL;

    if (reply->type != REDIS_REPLY_ARRAY || name == NULL
        || name->type != REDIS_REPLY_STRING || name->len == 0
        || name->len > GATE_URL_HOST_MAX
        || number->type != REDIS_REPLY_STRING
        || gate_parse_uint((u_char *) number->str, number->len, 65535, &port)
           != 0)
    {
        ngx_gate_sentinel_failed(rs, NGX_GATE_ERROR_PROTOCOL,
                                 ngx_gate_literal("its answer makes no "
                                                  "sense"));
        return;
    }

    ngx_str_set(&argv[0], "SUBSCRIBE");
    ngx_str_set(&argv[1], "+switch-master");

    rs->watch.pushes = 1;

    (void) ngx_gate_link_send(&rs->watch, 2, argv,
                              ngx_gate_sentinel_subscribed, rs);

    if (rs->rewatch) {
        rs->rewatch = 0;

        if (rs->master_port == port && rs->name_len == (size_t) name->len
            && ngx_memcmp(rs->name, name->str, name->len) == 0)
        {
            return;
        }

        ngx_gate_redis_reset(rs, NGX_GATE_ERROR_ROLE,
                             "the sentinels name another master");
        return;
    }

    ngx_memcpy(rs->name, name->str, name->len);
    rs->name_len = name->len;
    rs->master_port = (in_port_t) port;

    ngx_gate_redis_found(rs);
}


static void
ngx_gate_sentinel_subscribed(void *data, redisReply *reply)
{
    ngx_gate_redis_t *rs = data;

    if (reply && reply->type == REDIS_REPLY_ARRAY) {
        rs->watching = 1;
    }
}


/* "message", "+switch-master", "name old-host old-port new-host new-port" */

static void
ngx_gate_sentinel_stray(ngx_gate_link_t *link, redisReply *reply)
{
    ngx_gate_redis_t *rs = link->data;

    u_char      *p, *last;
    uint64_t     port;
    ngx_str_t    word[5];
    ngx_uint_t   n;

    if (reply->type == REDIS_REPLY_ERROR) {
        ngx_gate_link_fail(link, NGX_GATE_ERROR_CONNECT, reply->str,
                           reply->len);
        return;
    }

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3
        || reply->element[2]->type != REDIS_REPLY_STRING)
    {
        return;
    }

    p = (u_char *) reply->element[2]->str;
    last = p + reply->element[2]->len;

    for (n = 0; n < 5; n++) {
        if (!ngx_gate_sentinel_word(&p, last, &word[n])) {
            return;
        }
    }

    if (word[0].len != rs->conf->url.master.len
        || ngx_memcmp(word[0].data, rs->conf->url.master.s, word[0].len) != 0
        || rs->state == NGX_GATE_SESSION_IDLE
        || rs->state == NGX_GATE_SESSION_ASK)
    {
        return;
    }

    if (gate_parse_uint(word[4].data, word[4].len, 65535, &port) == 0
        && rs->master_port == port && rs->name_len == word[3].len
        && ngx_memcmp(rs->name, word[3].data, word[3].len) == 0)
    {
        return;
    }

    ngx_gate_redis_error(rs, NGX_GATE_ERROR_ROLE,
                         "the sentinels switched to another master",
                         (char *) word[3].data, last - word[3].data);
    ngx_gate_redis_drop(rs, NGX_GATE_DROP_AT_ONCE);
}


static ngx_uint_t
ngx_gate_sentinel_word(u_char **p, u_char *last, ngx_str_t *word)
{
    while (*p < last && **p == ' ') { (*p)++; }

    word->data = *p;

    while (*p < last && **p != ' ') { (*p)++; }

    word->len = *p - word->data;

    return word->len != 0;
}


void
ngx_gate_sentinel_poll(ngx_gate_redis_t *rs)
{
    ngx_str_t  argv[1];

    if (!rs->conf->url.sentinel || rs->rewatch) {
        return;
    }

    if (rs->watch.peer.connection == NULL) {
        rs->rewatch = 1;
        ngx_gate_sentinel_next(rs);
        return;
    }

    if (rs->watching && rs->watch.waiting == 0) {
        ngx_str_set(&argv[0], "PING");
        (void) ngx_gate_link_send(&rs->watch, 1, argv, NULL, NULL);
    }
}

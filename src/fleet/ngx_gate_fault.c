
/*
 * Copyright (C) nginx-gate authors
 */


#include "ngx_gate_session.h"

#include "core/gate_text.h"


typedef struct {
    const char                *word;
    size_t                     len;
    ngx_gate_error_e           error;
    ngx_gate_fault_e           fault;
} ngx_gate_fault_word_t;


static ngx_gate_fault_word_t *ngx_gate_fault_word(const char *text,
    size_t len);
static void ngx_gate_fault_moved(ngx_gate_redis_t *rs, redisReply *reply);
static ngx_uint_t ngx_gate_fault_host(ngx_gate_redis_t *rs, ngx_uint_t i,
    ngx_str_t *addr);


#define NGX_GATE_FAULT_WORD(word, error, fault)                               \
    { word, sizeof(word) - 1, NGX_GATE_ERROR_##error, NGX_GATE_FAULT_##fault }

/* the words that errors begin with */

static ngx_gate_fault_word_t  ngx_gate_fault_words[] = {
    NGX_GATE_FAULT_WORD("READONLY", ROLE, AGAIN),
    NGX_GATE_FAULT_WORD("MASTERDOWN", ROLE, AGAIN),
    NGX_GATE_FAULT_WORD("NOAUTH", AUTH, SLOW),
    NGX_GATE_FAULT_WORD("WRONGPASS", AUTH, SLOW),
    NGX_GATE_FAULT_WORD("NOPERM", AUTH, KEEP),
    NGX_GATE_FAULT_WORD("LOADING", BUSY, KEEP),
    NGX_GATE_FAULT_WORD("BUSY", BUSY, KEEP),
    NGX_GATE_FAULT_WORD("TRYAGAIN", BUSY, KEEP),
    NGX_GATE_FAULT_WORD("NOREPLICAS", BUSY, KEEP),
    NGX_GATE_FAULT_WORD("OOM", MEMORY, KEEP),
    NGX_GATE_FAULT_WORD("MISCONF", MEMORY, KEEP),
    NGX_GATE_FAULT_WORD("MOVED", CLUSTER, MOVED),
    NGX_GATE_FAULT_WORD("ASK", CLUSTER, KEEP),
    NGX_GATE_FAULT_WORD("CLUSTERDOWN", CLUSTER, KEEP),
    NGX_GATE_FAULT_WORD("CROSSSLOT", CLUSTER, KEEP),
    NGX_GATE_FAULT_WORD("WRONGTYPE", TYPE, KEEP),
    NGX_GATE_FAULT_WORD("GATEWRONGTYPE", TYPE, KEEP),
    NGX_GATE_FAULT_WORD("ERR max number of clients", LIMIT, AGAIN),
    NGX_GATE_FAULT_WORD("DENIED", AUTH, SLOW),
    NGX_GATE_FAULT_WORD("ERR invalid password", AUTH, SLOW),
    NGX_GATE_FAULT_WORD("ERR AUTH", AUTH, SLOW),
    NGX_GATE_FAULT_WORD("ERR Client sent AUTH", AUTH, SLOW),
    NGX_GATE_FAULT_WORD("ERR DB index is out of range", VALUE, KEEP),
    NGX_GATE_FAULT_WORD("ERR invalid DB index", VALUE, KEEP),
    NGX_GATE_FAULT_WORD("ERR SELECT is not allowed", CLUSTER, KEEP),
    { NULL, 0, 0, 0 }
};


ngx_gate_fault_e
ngx_gate_fault(const char *text, size_t len, ngx_gate_error_e *error)
{
    const char             *p, *last;
    ngx_gate_fault_word_t  *w;

    w = ngx_gate_fault_word(text, len);

    /*
     * Before version 7 Redis told the error of a command in a script as
     * "ERR Error running script (call to f_..): @user_script:1: -OOM ...".
     */

    if (w == NULL && len > 24
        && ngx_strncmp(text, "ERR Error running script", 24) == 0)
    {
        last = text + len;

        for (p = text; w == NULL && p + 2 < last; p++) {
            if (p[0] == ' ' && p[1] == '-') {
                w = ngx_gate_fault_word(p + 2, (size_t) (last - p - 2));
            }
        }
    }

    if (w == NULL) {
        *error = NGX_GATE_ERROR_SCRIPT;
        return NGX_GATE_FAULT_KEEP;
    }

    *error = w->error;

    return w->fault;
}


static ngx_gate_fault_word_t *
ngx_gate_fault_word(const char *text, size_t len)
{
    ngx_gate_fault_word_t  *w;

    for (w = ngx_gate_fault_words; w->word; w++) {

        if (len >= w->len && ngx_memcmp(text, w->word, w->len) == 0
            && (len == w->len || text[w->len] == ' '
                || text[w->len] == ',' || text[w->len] == ':'))
        {
            return w;
        }
    }

    return NULL;
}


ngx_uint_t
ngx_gate_fault_is(redisReply *reply, const char *word)
{
    size_t  len;

    len = ngx_strlen(word);

    return reply->type == REDIS_REPLY_ERROR
           && (size_t) reply->len >= len
           && ngx_memcmp(reply->str, word, len) == 0;
}


/*
 * "NOPERM ...", "ERR unknown command ..." (also renamed ones), "ERR Unknown
 * subcommand ...", "ERR unknown subcommand ...", "ERR Syntax error ..." of
 * a server that knows the command but not this form of it.
 */

ngx_uint_t
ngx_gate_fault_denied(redisReply *reply)
{
    return ngx_gate_fault_is(reply, "NOPERM")
           || ngx_gate_fault_is(reply, "ERR unknown")
           || ngx_gate_fault_is(reply, "ERR Unknown")
           || ngx_gate_fault_is(reply, "ERR syntax")
           || ngx_gate_fault_is(reply, "ERR Syntax");
}


ngx_int_t
ngx_gate_fault_reply(ngx_gate_redis_t *rs, const char *what,
    redisReply *reply)
{
    ngx_gate_error_e  error;
    ngx_gate_fault_e  fault;

    fault = ngx_gate_fault(reply->str, reply->len, &error);

    ngx_gate_redis_error(rs, error, what, reply->str, reply->len);

    switch (fault) {

    case NGX_GATE_FAULT_KEEP:
        return NGX_OK;

    case NGX_GATE_FAULT_MOVED:
        ngx_gate_fault_moved(rs, reply);
        return NGX_DONE;

    case NGX_GATE_FAULT_SLOW:
        ngx_gate_redis_drop(rs, NGX_GATE_DROP_SLOW);
        return NGX_DONE;

    default: /* NGX_GATE_FAULT_AGAIN */
        ngx_gate_redis_drop(rs, NGX_GATE_DROP_BACKOFF);
        return NGX_DONE;
    }
}


void
ngx_gate_fault_login(ngx_gate_redis_t *rs, const char *what,
    redisReply *reply)
{
    ngx_gate_error_e  error;
    ngx_gate_fault_e  fault;

    fault = ngx_gate_fault(reply->str, reply->len, &error);

    ngx_gate_redis_error(rs, error, what, reply->str, reply->len);

    if (fault == NGX_GATE_FAULT_SLOW
        || (fault == NGX_GATE_FAULT_KEEP && error != NGX_GATE_ERROR_BUSY))
    {
        ngx_gate_redis_drop(rs, NGX_GATE_DROP_SLOW);
        return;
    }

    ngx_gate_redis_drop(rs, NGX_GATE_DROP_BACKOFF);
}


void
ngx_gate_fault_odd(ngx_gate_redis_t *rs, const char *what)
{
    ngx_gate_redis_error(rs, NGX_GATE_ERROR_PROTOCOL, what,
                         ngx_gate_literal("the reply makes no sense"));
    ngx_gate_redis_drop(rs, NGX_GATE_DROP_SLOW);
}


/*
 * "MOVED 1234 host:port".  A server that answers in our Redis's place must
 * not send us, with our password, wherever it likes: only a host that the
 * configuration names is followed.
 */

static void
ngx_gate_fault_moved(ngx_gate_redis_t *rs, redisReply *reply)
{
    u_char      *p, *last;
    ngx_str_t    addr;
    ngx_uint_t   i, how;

    how = NGX_GATE_DROP_SLOW;

    p = (u_char *) reply->str;
    last = p + reply->len;

    while (last > p && *(last - 1) == ' ') { last--; }

    addr.data = last;

    while (addr.data > p && *(addr.data - 1) != ' ') { addr.data--; }

    addr.len = last - addr.data;

    for (i = 0; !rs->conf->url.sentinel && i < rs->conf->url.nhosts; i++) {

        if (ngx_gate_fault_host(rs, i, &addr)) {
            rs->host = i;
            rs->tried = 0;
            how = NGX_GATE_DROP_AT_ONCE;
            break;
        }
    }

    ngx_gate_redis_drop(rs, how);
}


static ngx_uint_t
ngx_gate_fault_host(ngx_gate_redis_t *rs, ngx_uint_t i, ngx_str_t *addr)
{
    u_char                   text[GATE_URL_HOST_MAX + sizeof("[]:65535")];
    size_t                   len;
    ngx_uint_t               n;
    gate_url_host_t         *h;
    ngx_gate_redis_addrs_t  *addrs;

    h = &rs->conf->url.host[i];

    /* Redis writes an IPv6 address without brackets */

    len = ngx_sprintf(text, "%*s:%ui", h->name.len, h->name.s,
                      (ngx_uint_t) h->port)
          - text;

    if (len == addr->len && ngx_strncasecmp(text, addr->data, len) == 0) {
        return 1;
    }

    addrs = rs->conf->addrs.elts;

    for (n = 0; n < addrs[i].naddrs; n++) {

        if (addrs[i].addr[n].name.len == addr->len
            && ngx_memcmp(addrs[i].addr[n].name.data, addr->data, addr->len)
               == 0)
        {
            return 1;
        }
    }

    return 0;
}


void
ngx_gate_redis_error(ngx_gate_redis_t *rs, ngx_gate_error_e error,
    const char *what, const char *text, size_t len)
{
    u_char      buf[NGX_GATE_ERROR_LEN];
    u_char      escaped[NGX_GATE_LINK_TEXT * GATE_ESCAPE_MAX];
    size_t      n;
    u_char     *p;
    ngx_uint_t  unsaid;

    n = gate_escape_log(escaped, (const unsigned char *) text,
                        ngx_min(len, NGX_GATE_LINK_TEXT));

    p = ngx_snprintf(buf, sizeof(buf), "%V: %s: %*s",
                     rs->address.len ? &rs->address : &rs->conf->text, what,
                     n, escaped);

    ngx_gate_text(rs->status->error, sizeof(rs->status->error), buf,
                  p - buf);

    rs->status->error_at = ngx_gate_now();
    ngx_gate_add(&rs->status->errors_total[error], 1);

    if (rs->said[error]
        && (ngx_msec_int_t) (ngx_current_msec - rs->said_at[error])
           < NGX_GATE_LOG_INTERVAL)
    {
        rs->unsaid[error]++;
        return;
    }

    unsaid = rs->unsaid[error];

    rs->said[error] = 1;
    rs->said_at[error] = ngx_current_msec;
    rs->unsaid[error] = 0;
    rs->told = 1;

    if (unsaid) {
        ngx_log_error(ngx_gate_session_level(rs, NGX_LOG_WARN), rs->log, 0,
                      "gate: Redis %*s (and %ui more like it since the last "
                      "such line)", (size_t) (p - buf), buf, unsaid);
        return;
    }

    ngx_log_error(ngx_gate_session_level(rs, NGX_LOG_WARN), rs->log, 0,
                  "gate: Redis %*s", (size_t) (p - buf), buf);
}


void
ngx_gate_redis_say(ngx_gate_redis_t *rs, ngx_gate_error_e error)
{
    rs->said[error] = 0;
}

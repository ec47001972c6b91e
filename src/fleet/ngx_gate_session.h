
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * The inside of a session, for the files that make one:
 *
 *   ngx_gate_redis.c      its life: attempts, ready, lost; commands
 *   ngx_gate_host.c       from a name to addresses
 *   ngx_gate_sentinel.c   who is the master?
 *   ngx_gate_login.c      from a connection to "ready"
 *   ngx_gate_check.c      is it still in order?
 *   ngx_gate_fault.c      what an error means, and who is told
 *
 * The way of an attempt:
 *
 *     IDLE -> (ASK a sentinel) -> RESOLVE -> CONNECT -> LOGIN -> SUBSCRIBE
 *          -> READY
 *
 * Every failure, from whatever state, goes through ngx_gate_redis_drop(),
 * which closes everything and sets the timer for the next attempt.
 *
 * The memory of a session is freed from an event of its own, so that any
 * handler may close the session it was called from.
 */


#ifndef _NGX_GATE_SESSION_H_INCLUDED_
#define _NGX_GATE_SESSION_H_INCLUDED_


#include "ngx_gate_redis.h"
#include "ngx_gate_link.h"


#define NGX_GATE_BACKOFF_MIN     100     /* ms */
#define NGX_GATE_BACKOFF_MAX     800     /* and up to a quarter more */
#define NGX_GATE_SESSION_LIVED   1000    /* ms: it was no failed attempt */
#define NGX_GATE_SENTINEL_WAIT   500     /* ms, at most, for a sentinel */
#define NGX_GATE_HOST_ADDRS      8
#define NGX_GATE_LOG_INTERVAL    60000   /* ms, between lines of a kind */

/* the agent's session tells; those of workers would say the same again */

#define ngx_gate_session_level(rs, level)                                     \
    ((rs)->handlers->push ? (level) : NGX_LOG_INFO)

/* how the next attempt is to come */

#define NGX_GATE_DROP_BACKOFF    0
#define NGX_GATE_DROP_AT_ONCE    1       /* unless it has just begun */
#define NGX_GATE_DROP_SLOW       2       /* somebody must do something */
#define NGX_GATE_DROP_RETIRE     3       /* none: this process ends */


typedef enum {
    NGX_GATE_SESSION_IDLE = 0,
    NGX_GATE_SESSION_ASK,
    NGX_GATE_SESSION_RESOLVE,
    NGX_GATE_SESSION_CONNECT,
    NGX_GATE_SESSION_LOGIN,
    NGX_GATE_SESSION_SUBSCRIBE,
    NGX_GATE_SESSION_READY
} ngx_gate_session_e;


/* what an error of Redis means for the connection */

typedef enum {
    NGX_GATE_FAULT_KEEP = 0,             /* nothing */
    NGX_GATE_FAULT_AGAIN,                /* this is not the server: look */
    NGX_GATE_FAULT_MOVED,                /* that one is */
    NGX_GATE_FAULT_SLOW                  /* somebody must do something */
} ngx_gate_fault_e;


typedef struct {
    ngx_sockaddr_t             sockaddr;
    socklen_t                  len;
} ngx_gate_host_addr_t;


typedef void (*ngx_gate_host_pt)(ngx_gate_redis_t *rs);


struct ngx_gate_redis_s {
    ngx_gate_redis_conf_t     *conf;
    ngx_gate_redis_handlers_t *handlers;
    void                      *data;
    ngx_gate_fleet_t          *status;
    ngx_log_t                 *log;

    ngx_gate_session_e         state;
    ngx_gate_link_t            command;
    ngx_gate_link_t            push;
    ngx_gate_link_t            watch;    /* a sentinel */
    ngx_gate_link_wait_t      *rings;    /* of the three, in this order */

    ngx_event_t                timer;    /* next attempt, or next poll */
    ngx_event_t                end;
    ngx_connection_t           dummy;
    ngx_msec_t                 backoff;
    ngx_msec_t                 ready_at;
    ngx_uint_t                 host;     /* of url.host, to be tried */
    ngx_uint_t                 tried;    /* hosts in this round */

    /* from a name to addresses */
    ngx_resolver_ctx_t        *resolve;
    ngx_gate_host_pt           found;
    ngx_gate_host_addr_t       addrs[NGX_GATE_HOST_ADDRS];
    ngx_uint_t                 naddrs;   /* 0: none was found */
    ngx_uint_t                 addr;     /* that is tried */
    in_port_t                  port;
    char                       why[NGX_GATE_LINK_TEXT];

    /* the server */
    u_char                     name[GATE_URL_HOST_MAX + 1];
    size_t                     name_len;
    in_port_t                  master_port;
    u_char                     text[NGX_SOCKADDR_STRLEN];
    ngx_str_t                  address;  /* in text[] */
    int64_t                    push_id;
    ngx_uint_t                 polls;    /* replies of a poll to come */

    /* sentinels */
    ngx_uint_t                 sentinel; /* of url.host, asked or watched */
    ngx_uint_t                 asked;    /* in this round */
    u_char                     watch_text[NGX_SOCKADDR_STRLEN];
    ngx_str_t                  watch_address;

    ngx_uint_t                 said[NGX_GATE_ERRORS];    /* a line, ever */
    ngx_msec_t                 said_at[NGX_GATE_ERRORS];
    ngx_uint_t                 unsaid[NGX_GATE_ERRORS];  /* since then */
    ngx_msec_t                 warned_at;

    unsigned                   role_unknown:1;
    unsigned                   no_info:1;        /* tracking: no such word */
    unsigned                   no_tracking:1;    /* of this server */
    unsigned                   watching:1;       /* +switch-master */
    unsigned                   rewatch:1;        /* a look beside a session */
    unsigned                   told:1;           /* an error was logged */
    unsigned                   warned:1;
    unsigned                   noticed:1;        /* that there is no push */
    unsigned                   closing:1;
};


#pragma GCC visibility push(hidden)


/* ngx_gate_redis.c */

/* Ends the attempt or the session; what is wrong has been counted. */
void ngx_gate_redis_drop(ngx_gate_redis_t *rs, ngx_uint_t how);

/* It is known which server to go to: rs->name, rs->master_port. */
void ngx_gate_redis_found(ngx_gate_redis_t *rs);

/* Connects to rs->addrs[rs->addr], for commands or for pushes. */
void ngx_gate_redis_connect(ngx_gate_redis_t *rs);

/* What TLS takes; NULL: none. */
void *ngx_gate_redis_ssl(ngx_gate_redis_t *rs);

/* The login is complete, with pushes or without. */
void ngx_gate_redis_done(ngx_gate_redis_t *rs);


/* ngx_gate_host.c */

/*
 * Finds the addresses of a name, in rs->addrs; then calls the handler, now
 * or later.  fixed: addresses that the configuration has, or NULL.
 */
void ngx_gate_host_find(ngx_gate_redis_t *rs, ngx_str_t *name,
    in_port_t port, ngx_gate_redis_addrs_t *fixed, ngx_gate_host_pt found);
void ngx_gate_host_stop(ngx_gate_redis_t *rs);


/* ngx_gate_sentinel.c */

void ngx_gate_sentinel_init(ngx_gate_redis_t *rs);

/* Asks all sentinels in turn, beginning with the one that answered last. */
void ngx_gate_sentinel_ask(ngx_gate_redis_t *rs);

/* Every conf->poll: is it still there? */
void ngx_gate_sentinel_poll(ngx_gate_redis_t *rs);


/* ngx_gate_login.c */

/* On the connection for commands; ends in ngx_gate_redis_done(). */
void ngx_gate_login_command(ngx_gate_redis_t *rs);

/* On the connection for pushes. */
void ngx_gate_login_push(ngx_gate_redis_t *rs);

/* Whether this process can read the file of the password. */
ngx_uint_t ngx_gate_login_live(ngx_gate_redis_t *rs);

/*
 * Sends AUTH, if there is a password.  NGX_OK; NGX_DECLINED: none is needed,
 * the handler will not be called; NGX_ERROR.
 */
ngx_int_t ngx_gate_login_auth(ngx_gate_redis_t *rs, ngx_gate_link_t *link,
    ngx_uint_t sentinel, ngx_gate_link_reply_pt handler);

/* Sends a command of one to three words; else the attempt has failed. */
ngx_int_t ngx_gate_login_send(ngx_gate_redis_t *rs, ngx_gate_link_t *link,
    ngx_gate_link_reply_pt handler, const char *one, const char *two,
    const char *three);

/*
 * The reply to AUTH: 1 when it was accepted; else the attempt has failed, or
 * the connection had by then.
 */
ngx_uint_t ngx_gate_login_authorizes(ngx_gate_redis_t *rs, redisReply *reply);


/* ngx_gate_check.c */

/* Every conf->poll while the session is ready. */
void ngx_gate_check(ngx_gate_redis_t *rs);


/* ngx_gate_fault.c */

/* What the text of an error means. */
ngx_gate_fault_e ngx_gate_fault(const char *text, size_t len,
    ngx_gate_error_e *error);

/* Whether it begins with that word. */
ngx_uint_t ngx_gate_fault_is(redisReply *reply, const char *word);

/* What was tried is not there, or not allowed to us. */
ngx_uint_t ngx_gate_fault_denied(redisReply *reply);

/*
 * An error reply: counts it, and draws the conclusions.  NGX_DONE: the
 * session was dropped.
 */
ngx_int_t ngx_gate_fault_reply(ngx_gate_redis_t *rs, const char *what,
    redisReply *reply);

/* The same in a login: whatever it is, the attempt has failed. */
void ngx_gate_fault_login(ngx_gate_redis_t *rs, const char *what,
    redisReply *reply);

/* A reply that makes no sense. */
void ngx_gate_fault_odd(ngx_gate_redis_t *rs, const char *what);


#pragma GCC visibility pop


#endif /* _NGX_GATE_SESSION_H_INCLUDED_ */

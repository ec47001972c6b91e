
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * A session with Redis: one connection for commands and one for pushes, which
 * live and die together; or one for commands alone.
 *
 * The session finds the master (directly or through sentinels), verifies its
 * role, logs in, and tells its owner "ready"; when anything is wrong with
 * either connection it closes both, fails what is pending, tells "lost", and
 * begins again after a pause with jitter.  Nothing here blocks: names are
 * resolved by nginx's resolver, every command has a deadline, queues and
 * replies are bounded.  All timers are cancelable and the connections idle,
 * so a process that retires is not kept.
 *
 * The session belongs to one process.  The agent has one with pushes, which
 * tells how Redis fares; a worker that asks Redis about requests has one for
 * commands only, and what there is to say about that is of level "info".
 */


#ifndef _NGX_GATE_REDIS_H_INCLUDED_
#define _NGX_GATE_REDIS_H_INCLUDED_


#include "node/ngx_gate_node.h"
#include "core/gate_url.h"
#include "ngx_gate_resp.h"


#define NGX_GATE_REDIS_TIMEOUT    1000     /* ms, of a command */
#define NGX_GATE_REDIS_POLL       1000     /* ms */
#define NGX_GATE_REDIS_PENDING    64       /* commands without a reply, of
                                              the agent */
#define NGX_GATE_REDIS_RESOLVE    5000     /* ms, without resolver_timeout */


typedef enum {
    NGX_GATE_SCRIPT_OBSERVE = 0,
    NGX_GATE_SCRIPT_RESTORE,
    NGX_GATE_SCRIPT_PUT,
    NGX_GATE_SCRIPT_ROLLOUT,
    NGX_GATE_SCRIPT_EVIDENCE,
    NGX_GATE_SCRIPT_BEAT,
    NGX_GATE_SCRIPT_LIMIT,
    NGX_GATE_SCRIPT_OVERRIDE,
    NGX_GATE_SCRIPT_TAKE,
    NGX_GATE_SCRIPTS
} ngx_gate_script_e;


/* the addresses of a host; none where its name is to be resolved */

typedef struct {
    ngx_addr_t                *addr;
    ngx_uint_t                 naddrs;
} ngx_gate_redis_addrs_t;


/* what gate_redis says; lives as long as its cycle */

typedef struct {
    gate_url_t                 url;
    ngx_str_t                  text;       /* the address, for people */
    ngx_str_t                  prefix;     /* "gate:" */
    ngx_str_t                  data;       /* "gate#" */
    ngx_str_t                  user;
    ngx_str_t                  password_file;   /* empty: no password */
    ngx_str_t                  sentinel_user;
    ngx_str_t                  sentinel_password_file;
    ngx_str_t                  password;   /* as of the last reload */
    ngx_str_t                  sentinel_password;
    ngx_gid_t                  gid;        /* of the workers */
    ngx_msec_t                 timeout;
    ngx_msec_t                 poll;
    ngx_resolver_t            *resolver;   /* NULL: addresses, not names */
    ngx_msec_t                 resolver_timeout;
    ngx_array_t                addrs;      /* ngx_gate_redis_addrs_t, by
                                              url.host, or of url.path */
#if (NGX_SSL)
    ngx_ssl_t                 *ssl;        /* NULL: no TLS */
    ngx_str_t                  server_name;  /* to verify, or the host's */
#endif
} ngx_gate_redis_conf_t;


typedef struct ngx_gate_redis_s  ngx_gate_redis_t;

/*
 * The reply to a command; it is freed after the call.  NULL: the connection
 * was lost, nobody knows whether the command was carried out.  An error reply
 * comes here too, after the session counted it and drew its conclusions: one
 * that means "wrong server" has closed the session by then.
 */
typedef void (*ngx_gate_redis_reply_pt)(void *data, redisReply *reply);

typedef struct {
    void                     (*ready)(void *data);
    void                     (*lost)(void *data);
    void                     (*push)(void *data);   /* a control key changed,
                                                       or all of them; NULL:
                                                       for commands only */
    ngx_uint_t                 pending;             /* commands that may be
                                                       without a reply */
} ngx_gate_redis_handlers_t;


#pragma GCC visibility push(hidden)


/*
 * Opens a session; the first attempt begins from a timer.  status: where to
 * tell how it goes.  NULL when memory is short.
 */
ngx_gate_redis_t *ngx_gate_redis_open(ngx_gate_redis_conf_t *conf,
    ngx_gate_redis_handlers_t *handlers, void *data,
    ngx_gate_fleet_t *status, ngx_log_t *log);

/*
 * Closes it and frees everything.  What is queued is offered to the socket
 * once more; replies are not waited for, and no handler is called.
 */
void ngx_gate_redis_close(ngx_gate_redis_t *rs);

/*
 * Somebody else is the agent by now: how this session ends is not to be told
 * as if it were his.
 */
void ngx_gate_redis_mute(ngx_gate_redis_t *rs);

/* Whether commands can be sent. */
ngx_uint_t ngx_gate_redis_ready(ngx_gate_redis_t *rs);

/*
 * Runs a script: argv are nkeys keys and then the arguments, all are copied.
 * EVALSHA, and EVAL once where the server does not have it.  NGX_OK; NGX_BUSY:
 * not ready, or too much is pending; NGX_ERROR: memory is short, or it is too
 * large.
 */
ngx_int_t ngx_gate_redis_script(ngx_gate_redis_t *rs,
    ngx_gate_script_e script, ngx_uint_t nkeys, ngx_uint_t argc,
    ngx_str_t *argv, ngx_gate_redis_reply_pt handler, void *data);

/*
 * Makes a password of what is in a file: one line, printable.  NGX_OK or
 * NGX_ERROR.
 */
ngx_int_t ngx_gate_redis_password(ngx_str_t *text);

/* The owner found something that only another connection can mend. */
void ngx_gate_redis_reset(ngx_gate_redis_t *rs, ngx_gate_error_e error,
    const char *why);

/*
 * Counts an error and logs it, at most one line per kind and minute; text is
 * escaped and cut.
 */
void ngx_gate_redis_error(ngx_gate_redis_t *rs, ngx_gate_error_e error,
    const char *what, const char *text, size_t len);

/* The next error of that kind is logged, whatever was in this minute. */
void ngx_gate_redis_say(ngx_gate_redis_t *rs, ngx_gate_error_e error);


#pragma GCC visibility pop


#endif /* _NGX_GATE_REDIS_H_INCLUDED_ */

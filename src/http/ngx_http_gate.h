
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * nginx's side of the gate: what its files share.
 *
 *   ngx_http_gate_module.c        directives, configurations, phases
 *   ngx_http_gate_ctx.c           what outlives a redirect: one per r->main
 *   ngx_http_gate_maintenance.c   is the site open?
 *   ngx_http_gate_canary.c        which arm serves this request?
 *   ngx_http_gate_key.c           gate_key, and other values by request
 *   ngx_http_gate_balancer.c      the composite peer
 *   ngx_http_gate_outcome.c       what an attempt came to
 *   ngx_http_gate_rules.c         gate_breach
 *   ngx_http_gate_steps.c         gate_steps
 *   ngx_http_gate_sticky.c        gate_sticky
 *   ngx_http_gate_limit_zone.c    gate_limit_zone
 *   ngx_http_gate_limit.c         gate_limit
 *   ngx_http_gate_limiter.c       has this caller budget left?
 *   ngx_http_gate_tier.c          what variables make of its limit
 *   ngx_http_gate_quota.c         what it says of that to the client
 *   ngx_http_gate_limits.c        what others are told of limits
 *   ngx_http_gate_reject.c        what the client of a refused request gets
 *   ngx_http_gate_cursor*.c       is this cursor genuine?
 *   ngx_http_gate_variables.c
 *   ngx_http_gate_secret.c        files that only we may read
 *   ngx_http_gate_redis.c         gate_redis
 *   ngx_http_gate_status.c, _metrics.c, _health.c           endpoints
 *   ngx_http_gate_api.c, _route.c, _actions.c, _mode.c, _letter.c,
 *   _drain.c                      gate_api
 *   ngx_http_gate_json.c, _fleet.c                          a node as JSON
 *   ngx_http_gate_out.c           text that grows
 */


#ifndef _NGX_HTTP_GATE_H_INCLUDED_
#define _NGX_HTTP_GATE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "node/ngx_gate_node.h"
#include "core/gate_cookie.h"
#include "core/gate_parse.h"


#define NGX_HTTP_GATE_VERSION    "0.1.0"

#define NGX_HTTP_GATE_GONE       410

#define NGX_HTTP_GATE_LABELS     512     /* bytes of JSON */

/* gate_maintenance: an index of node->switches, or one of these */

#define NGX_HTTP_GATE_OFF        -2      /* "off", said in so many words */


/*
 * What few requests need stays out of the way of the others: a compiler that
 * puts it in line makes all of them save registers for it.
 */

#define ngx_http_gate_aside      __attribute__((noinline))

/* and what all of them need is not to be called */

#define ngx_http_gate_inline     static ngx_inline                            \
                                 __attribute__((always_inline))


/* nginx finds it by name: it is the one symbol of ours that others see */

extern ngx_module_t  ngx_http_gate_module;


#pragma GCC visibility push(hidden)


/* a file of secrets, one per line, "secret" or "name secret" */

typedef struct {
    ngx_str_t                    name;
    u_char                       digest[32];  /* SHA-256 of the secret */
} ngx_http_gate_token_t;

typedef struct {
    ngx_str_t                    path;
    ngx_array_t                  tokens;      /* ngx_http_gate_token_t */
    ngx_pool_t                  *pool;        /* of a list read live, or 0 */
    time_t                       mtime;
    off_t                        size;
    time_t                       checked;
    ngx_uint_t                   live;        /* workers can read it */
} ngx_http_gate_tokens_t;


typedef struct {
    ngx_str_t                    name;        /* of the cookie */
    ngx_str_t                    path;
    ngx_str_t                    domain;
    time_t                       max_age;     /* s, 0: of the session */
    unsigned                     secure:1;    /* also where we see no TLS */
    gate_hmac_t                  hmac[2];     /* newest first */
    ngx_uint_t                   nkeys;
} ngx_http_gate_sticky_t;


/* a value of each request; the first two are ways to get it faster */

typedef struct {
    ngx_str_t                    header;      /* that the variable is */
    ngx_int_t                    index;       /* of a value that is nothing
                                                 but a variable, or UNSET */
    ngx_http_complex_value_t    *value;       /* NULL: there is none */
} ngx_http_gate_fetch_t;


typedef struct {
    ngx_gate_node_t              node;
    ngx_array_t                  composites;  /* ngx_http_gate_srv_conf_t * */
    ngx_uint_t                   enabled;     /* something needs the zone */
    ngx_uint_t                   maintenance; /* some location uses it */
    ngx_array_t                  limits;      /* ngx_http_gate_limit_t *,
                                                 none: there is no limit */
    ngx_uint_t                   told;        /* some limit has headers */
    ngx_uint_t                   cursors;     /* some location checks them */
    void                        *cursor;      /* ngx_http_gate_cursor_t, the
                                                 first of all, or NULL */
    ngx_array_t                  cursor_keys; /* all files of keys,
                                                 ngx_http_gate_cursor_key_t * */
    ngx_uint_t                   sized;       /* gate_zone was given */
    size_t                       spare;       /* sizes of what comes along */
    size_t                       quota;       /* with a context */
} ngx_http_gate_main_conf_t;


/* of upstream{} and of server{} */

typedef struct {
    ngx_gate_rollout_conf_t     *rollout;     /* NULL: no composite */
    ngx_http_upstream_srv_conf_t  *upstream;  /* the composite itself */
    ngx_http_upstream_srv_conf_t  *arm[NGX_GATE_ARMS];
    ngx_http_gate_fetch_t        key;
    ngx_http_complex_value_t    *failure;
    ngx_array_t                 *force;       /* ngx_http_complex_value_t */
    ngx_http_gate_sticky_t      *sticky;
    ngx_flag_t                   fallback;
    u_char                      *file;        /* of gate_canary */
    ngx_uint_t                   line;
    ngx_uint_t                   ready;       /* init_upstream was called */
    ngx_uint_t                   weighted;    /* weight= was given */

    void                        *server;      /* its location conf */
    ngx_uint_t                   mixed;       /* locations differ: no verdict
                                                 before one is known */
} ngx_http_gate_srv_conf_t;


typedef struct ngx_http_gate_api_conf_s  ngx_http_gate_api_conf_t;

typedef struct {
    ngx_int_t                    maintenance; /* index, OFF or UNSET */
    ngx_array_t                 *bypass;      /* ngx_http_complex_value_t */
    void                        *error_page;  /* the operator's, for 503 */
    ngx_uint_t                   endpoint;    /* one of ours: never closed */
    ngx_uint_t                   ready;       /* gate_health ready */
    ngx_http_gate_api_conf_t    *api;
    ngx_array_t                 *limits;      /* ngx_http_gate_limit_t, or
                                                 NULL */
    void                        *cursor;      /* ngx_http_gate_cursor_t, as it
                                                 is said here or above */
    ngx_array_t                 *cursor_keys;
    ngx_array_t                 *cursor_claims;
    void                        *cursor_loc;  /* ngx_http_gate_cursor_loc_t,
                                                 NULL: not checked here */
} ngx_http_gate_loc_conf_t;


/* the arm that a composite chose for this request */

typedef struct ngx_http_gate_pick_s  ngx_http_gate_pick_t;

struct ngx_http_gate_pick_s {
    ngx_http_gate_srv_conf_t    *composite;
    ngx_http_gate_pick_t        *next;
    uint64_t                     word;        /* that it was chosen by */
    unsigned                     arm:1;
    unsigned                     forced:1;
    unsigned                     counted:1;   /* as a request */
    unsigned                     cookie:1;    /* a new one is to be set */
    unsigned                     bucket:14;
};


/* one per main request, and only where the gate has something to do */

typedef struct ngx_http_gate_peer_s  ngx_http_gate_peer_t;
typedef struct ngx_http_gate_quota_s  ngx_http_gate_quota_t;
typedef struct ngx_http_gate_cursor_ctx_s  ngx_http_gate_cursor_ctx_t;

typedef struct {
    ngx_pool_cleanup_t           cleanup;
    ngx_gate_inflight_t         *inflight;    /* NULL: not counted */
    uint32_t                    *gauge;       /* of inflight */
    ngx_http_gate_pick_t        *picks;
    ngx_http_gate_pick_t        *current;     /* composite in use */
    ngx_http_gate_peer_t        *pending;     /* those whose outcome the
                                                 next step will tell */
    uint32_t                     served;      /* arms of attempts, a bit
                                                 each, the first one lowest */
    uint8_t                      nserved;
    uint8_t                      decided;     /* about maintenance */
    uint8_t                      cookies;     /* some pick needs one */
    uint8_t                      limited;     /* NGX_HTTP_GATE_LIMIT_* */
    uint8_t                      nquotas;
    uint8_t                      told;        /* the client, of its limits */
    ngx_http_gate_quota_t       *quotas;      /* what the limits came to */
    ngx_http_gate_cursor_ctx_t  *cursor;      /* NULL: not looked at yet */
    ngx_http_gate_pick_t         pick;        /* the first of the picks */
    ngx_http_gate_peer_t        *spare;       /* room for the first peer */
} ngx_http_gate_ctx_t;


/* ngx_http_gate_ctx.c */

/* Looks for the context of a main request in the pool. */
ngx_http_gate_ctx_t *ngx_http_gate_ctx_find(ngx_http_request_t *r);


/* The context of r->main; NULL when there is none or memory is short. */

static ngx_inline ngx_http_gate_ctx_t *
ngx_http_gate_ctx(ngx_http_request_t *r)
{
    ngx_http_gate_ctx_t  *ctx;

    r = r->main;

    ctx = ngx_http_get_module_ctx(r, ngx_http_gate_module);

    /* an internal redirect and a filter that gives up wipe it */

    if (ctx == NULL && (r->internal || r->filter_finalize)) {
        ctx = ngx_http_gate_ctx_find(r);
    }

    return ctx;
}


ngx_http_gate_ctx_t *ngx_http_gate_ctx_create(ngx_http_request_t *r);

/* The name is a literal; the value must live as long as the request. */
ngx_int_t ngx_http_gate_add_header(ngx_http_request_t *r, const char *name,
    size_t len, ngx_str_t *value);

/* ngx_http_gate_maintenance.c */

ngx_int_t ngx_http_gate_maintenance_server_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_gate_maintenance_handler(ngx_http_request_t *r);

/* The error_page for 503 of the location being merged, or NULL. */
void *ngx_http_gate_error_page(ngx_conf_t *cf);

ngx_int_t ngx_http_gate_switch_name(ngx_conf_t *cf, ngx_str_t *name);
char *ngx_http_gate_values(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_array_t **values);
char *ngx_http_gate_maintenance(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_gate_maintenance_bypass(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_gate_maintenance_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* ngx_http_gate_canary.c */

/*
 * The arm of that composite for this request, chosen when first asked for.
 * NULL when memory is short.
 */
ngx_http_gate_pick_t *ngx_http_gate_pick(ngx_http_request_t *r,
    ngx_http_gate_srv_conf_t *composite);

/* Mode "off": everybody goes to stable, forced and promoted or not. */
#define ngx_http_gate_canary_off(composite)                                   \
    (ngx_gate_peek((composite)->rollout->mode) == NGX_GATE_MODE_OFF)

/* In init_process: each process throws its own dice. */
void ngx_http_gate_dice_init(void);
ngx_gate_rollout_conf_t *ngx_http_gate_rollout(ngx_conf_t *cf,
    ngx_http_gate_srv_conf_t *gscf);
ngx_int_t ngx_http_gate_check_text(ngx_conf_t *cf, ngx_str_t *s, size_t max);
ngx_int_t ngx_http_gate_canary_header_filter(ngx_http_request_t *r,
    ngx_http_gate_ctx_t *ctx);
char *ngx_http_gate_canary(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_gate_force(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_gate_label(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
ngx_int_t ngx_http_gate_canary_check(ngx_conf_t *cf,
    ngx_http_gate_main_conf_t *gmcf);

/* ngx_http_gate_key.c */

char *ngx_http_gate_key(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* NGX_OK or NGX_ERROR, which has been logged. */
ngx_int_t ngx_http_gate_fetch_compile(ngx_conf_t *cf,
    ngx_http_gate_fetch_t *fetch, ngx_str_t *text);

/* In postconfiguration, when all variables are known. */
void ngx_http_gate_fetch_init(ngx_conf_t *cf, ngx_http_gate_fetch_t *fetch);

/* The value, empty for none.  NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_gate_fetch(ngx_http_request_t *r,
    ngx_http_gate_fetch_t *fetch, ngx_str_t *value);

/* ngx_http_gate_module.c */

char *ngx_http_gate_value(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* ngx_http_gate_balancer.c */

/* The request ends: attempts whose outcome was open have failed. */
void ngx_http_gate_settle(ngx_http_gate_ctx_t *ctx);

ngx_int_t ngx_http_gate_init_upstream(ngx_conf_t *cf,
    ngx_http_upstream_srv_conf_t *us);

/* ngx_http_gate_sticky.c */

char *ngx_http_gate_sticky(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* ngx_http_gate_steps.c */

char *ngx_http_gate_steps(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* Whether weight, steps and rules go together; gives the first weight. */
ngx_int_t ngx_http_gate_steps_check(ngx_conf_t *cf,
    ngx_http_gate_srv_conf_t *gscf);

/* ngx_http_gate_rules.c */

char *ngx_http_gate_breach(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
void ngx_http_gate_rules_digest(ngx_gate_rollout_conf_t *rc);

/* ngx_http_gate_variables.c */

ngx_int_t ngx_http_gate_add_variables(ngx_conf_t *cf);
ngx_int_t ngx_http_gate_add_arm_variable(ngx_conf_t *cf,
    ngx_http_gate_srv_conf_t *composite);

/* ngx_http_gate_secret.c */

/*
 * Checks a file's mode (a file that others can read is an error)
 * and reads up to "max" bytes.  NGX_OK, or NGX_ERROR after it was logged with
 * the configuration's file and line.
 */
ngx_int_t ngx_http_gate_secret_read(ngx_conf_t *cf, ngx_str_t *path,
    size_t max, ngx_str_t *text);

/*
 * The same without a configuration; gid is the workers' group.  On an error
 * *why goes on where "the file .." began, and ngx_errno is 0 unless the system
 * refused something.  The caller wipes the text.
 */
ngx_int_t ngx_http_gate_secret_load(ngx_str_t *path, ngx_gid_t gid,
    size_t max, ngx_pool_t *pool, ngx_str_t *text, ngx_file_info_t *fi,
    const char **why);

/* The group that workers will have. */
ngx_gid_t ngx_http_gate_secret_gid(ngx_conf_t *cf);

/* ngx_http_gate_redis.c */

char *ngx_http_gate_redis(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* In postconfiguration, when it is known whether there is a resolver. */
ngx_int_t ngx_http_gate_redis_init(ngx_conf_t *cf,
    ngx_http_gate_main_conf_t *gmcf);

/* Endpoints: setters of gate_status, gate_metrics, gate_health, gate_api. */

char *ngx_http_gate_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_gate_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_gate_health(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_gate_api(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* ngx_http_gate_reject.c */

/*
 * Answers a request that is refused, or leaves that to the error_page for the
 * status.  The detail is printable ASCII without quotes and backslashes.
 * Returns what the phase handler has to return.
 */
ngx_int_t ngx_http_gate_reject(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *detail);

/* ngx_http_gate_status.c */

/* Sends text made by the caller; body may be NULL for an empty one. */
ngx_int_t ngx_http_gate_send(ngx_http_request_t *r, ngx_uint_t status,
    const char *type, const char *body, size_t len);

/* Only GET and HEAD: NGX_OK, or the answer (405 with Allow). */
ngx_int_t ngx_http_gate_only_get(ngx_http_request_t *r);


#pragma GCC visibility pop


#endif /* _NGX_HTTP_GATE_H_INCLUDED_ */

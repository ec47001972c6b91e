
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Limits of requests: what gate_limit says, and what came of it.
 *
 * The memory of a zone and its numbers are node/ngx_gate_limit.h's; here is
 * what a request needs to find its key, rate and cost.  Each process has its
 * own copy of everything in here, so it may remember what it likes.
 */


#ifndef _NGX_HTTP_GATE_LIMIT_H_INCLUDED_
#define _NGX_HTTP_GATE_LIMIT_H_INCLUDED_


#include "ngx_http_gate.h"
#include "ngx_http_gate_out.h"
#include "fleet/ngx_gate_ask.h"


#define NGX_HTTP_GATE_LIMITS         NGX_GATE_ASK_LIMITS

/* ctx->limited */

#define NGX_HTTP_GATE_LIMIT_ASKED    1     /* Redis has not answered yet */
#define NGX_HTTP_GATE_LIMIT_KNOWN    2     /* it has, or need not */
#define NGX_HTTP_GATE_LIMIT_DONE     3     /* and the request goes its way */

/* on_empty= */

#define NGX_HTTP_GATE_EMPTY_SKIP     0
#define NGX_HTTP_GATE_EMPTY_LIMIT    1
#define NGX_HTTP_GATE_EMPTY_REFUSE   2

/* headers= */

#define NGX_HTTP_GATE_HEADERS_IETF   1
#define NGX_HTTP_GATE_HEADERS_LEGACY 2

/* quota->result; the higher one is what the request is said to be */

#define NGX_HTTP_GATE_UNLIMITED      0
#define NGX_HTTP_GATE_PASSED         1
#define NGX_HTTP_GATE_OBSERVED       2
#define NGX_HTTP_GATE_LIMITED        3


/* values of rate= that were met before */

#define NGX_HTTP_GATE_TIERS          16
#define NGX_HTTP_GATE_TIER_LEN       40

typedef struct {
    uint8_t                      len;         /* 0: there is none */
    uint8_t                      cls;
    uint8_t                      unlimited;
    u_char                       text[NGX_HTTP_GATE_TIER_LEN];
    gate_policy_t                policy;
} ngx_http_gate_tier_t;


/* lc->http */

typedef struct {
    ngx_http_gate_fetch_t        key;
    ngx_http_gate_fetch_t        rate;        /* value: NULL, it is fixed */
    int64_t                      burst;       /* as given, or -1 */
    ngx_uint_t                   on_empty;    /* NGX_HTTP_GATE_EMPTY_* */
    ngx_uint_t                   defined;     /* gate_limit_zone was seen */
    ngx_uint_t                   used;        /* by some gate_limit */
    u_char                      *file;        /* where it was seen first */
    ngx_uint_t                   line;

    ngx_http_gate_tier_t        *tiers;       /* NULL: rate is fixed */
    time_t                       logged;      /* a refusal */
    ngx_uint_t                   silent;      /* refusals since */
    time_t                       complained;  /* of a value */
} ngx_http_gate_limit_zone_t;


/* gate_limit */

typedef struct {
    ngx_gate_limit_conf_t       *lc;
    ngx_http_gate_fetch_t        cost;        /* value: NULL, it is fixed */
    int64_t                      units;
    ngx_uint_t                   status;
    ngx_uint_t                   headers;     /* NGX_HTTP_GATE_HEADERS_* */
    ngx_uint_t                   observe;
    ngx_uint_t                   simple;      /* all is known but the key */
    ngx_uint_t                   bare;        /* and nobody is told */
    ngx_int_t                    index;       /* of $gate_limit_status */
    u_char                      *file;        /* where it is said */
    ngx_uint_t                   line;
} ngx_http_gate_limit_t;


/* what became of one of them */

#define NGX_HTTP_GATE_QUOTA_OPEN     0x01  /* somebody has to decide */
#define NGX_HTTP_GATE_QUOTA_OBSERVE  0x02  /* but nobody is refused */
#define NGX_HTTP_GATE_QUOTA_EXACT    0x04  /* Redis decides */
#define NGX_HTTP_GATE_QUOTA_TAKEN    0x08  /* from the table */
#define NGX_HTTP_GATE_QUOTA_SHOWN    0x10  /* take.v says how it stands */
#define NGX_HTTP_GATE_QUOTA_ALONE    0x20  /* decided without Redis */
#define NGX_HTTP_GATE_QUOTA_FULL     0x40  /* there was no room */

#define ngx_http_gate_quota_is(q, flag)                                       \
    (((q)->flags & NGX_HTTP_GATE_QUOTA_##flag) != 0)

/* ns: of a refusal whose end nobody can know */

#define NGX_HTTP_GATE_RETRY          1000000000

struct ngx_http_gate_quota_s {
    ngx_http_gate_limit_t       *limit;
    const gate_policy_t         *policy;
    uint8_t                      result;      /* NGX_HTTP_GATE_PASSED, .. */
    uint8_t                      flags;       /* NGX_HTTP_GATE_QUOTA_* */
    ngx_str_t                    key;
    gate_limit_take_t            take;        /* hash 0: there is no key */
    gate_policy_t                own;         /* where policy points to if
                                                 it is not the zone's */
};


#pragma GCC visibility push(hidden)


/* ngx_http_gate_limit_zone.c */

char *ngx_http_gate_limit_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


/* ngx_http_gate_limit.c */

/* The zone of that name, made when nobody named it before. */
ngx_gate_limit_conf_t *ngx_http_gate_limit_get(ngx_conf_t *cf,
    ngx_str_t *name);

/* The number of that word in the list, or NGX_ERROR. */
ngx_int_t ngx_http_gate_limit_word(ngx_str_t *value, const char **words);

char *ngx_http_gate_limit(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
void ngx_http_gate_limit_merge(ngx_http_gate_loc_conf_t *prev,
    ngx_http_gate_loc_conf_t *conf);

/* In postconfiguration: checks that all zones are there, adds their memory. */
ngx_int_t ngx_http_gate_limit_init(ngx_conf_t *cf,
    ngx_http_gate_main_conf_t *gmcf);


/* ngx_http_gate_tier.c: what a request's values make of a limit */

/* The policy that counts for this request; NGX_DECLINED: it is not limited. */
ngx_int_t ngx_http_gate_limit_policy(ngx_http_request_t *r,
    ngx_http_gate_quota_t *q);

/* q->take.cost.  NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_gate_limit_cost(ngx_http_request_t *r,
    ngx_http_gate_quota_t *q);


/* ngx_http_gate_limiter.c */

ngx_int_t ngx_http_gate_limit_handler(ngx_http_request_t *r);


/* ngx_http_gate_quota.c */

/* The quota that speaks for the request; NULL where there is none. */
ngx_http_gate_quota_t *ngx_http_gate_quota(ngx_http_gate_ctx_t *ctx);

/* The answer to a request that is limited; NGX_DONE. */
ngx_int_t ngx_http_gate_limit_refuse(ngx_http_request_t *r,
    ngx_http_gate_ctx_t *ctx);

ngx_int_t ngx_http_gate_limit_header_filter(ngx_http_request_t *r,
    ngx_http_gate_ctx_t *ctx);


/* ngx_http_gate_limits.c */

void ngx_http_gate_metrics_limits(ngx_http_gate_out_t *out,
    ngx_gate_node_t *node);


#pragma GCC visibility pop


#endif /* _NGX_HTTP_GATE_LIMIT_H_INCLUDED_ */

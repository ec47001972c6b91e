
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * What a client is told of its limits: the answer to a request that was
 * refused, and the headers of this and every other answer.
 *
 *     RateLimit-Policy: "per_key";q=15;w=10
 *     RateLimit: "per_key";r=3;t=4
 *
 * draft-ietf-httpapi-ratelimit-headers-10, an item of a list for each limit.
 * X-RateLimit-Limit, -Remaining and -Reset have room for one: that with the
 * least left.  Limits that are only observed are not mentioned: nobody should
 * slow down for them.
 */


#include "ngx_http_gate_limit.h"


#define NGX_HTTP_GATE_SECOND  1000000000

/* , "name";q=10000000;w=5184000 */

#define NGX_HTTP_GATE_ITEM    (GATE_NAME_MAX + 2 * NGX_INT64_LEN              \
                               + sizeof(", \"\";q=;w="))


static ngx_int_t ngx_http_gate_quota_ietf(ngx_http_request_t *r,
    ngx_http_gate_ctx_t *ctx);
static ngx_int_t ngx_http_gate_quota_legacy(ngx_http_request_t *r,
    ngx_http_gate_ctx_t *ctx);
static ngx_int_t ngx_http_gate_quota_refused(ngx_http_request_t *r,
    ngx_http_gate_ctx_t *ctx);
static ngx_int_t ngx_http_gate_quota_number(ngx_http_request_t *r,
    const char *name, size_t len, int64_t n);
static int64_t ngx_http_gate_quota_seconds(int64_t ns);

#define ngx_http_gate_quota_told(q, style)                                    \
    (((q)->limit->headers & NGX_HTTP_GATE_HEADERS_##style)                    \
     && ngx_http_gate_quota_is(q, SHOWN)                                      \
     && !ngx_http_gate_quota_is(q, OBSERVE))


ngx_http_gate_quota_t *
ngx_http_gate_quota(ngx_http_gate_ctx_t *ctx)
{
    ngx_uint_t              i;
    ngx_http_gate_quota_t  *q, *said;

    if (ctx->nquotas == 0 || ctx->limited != NGX_HTTP_GATE_LIMIT_DONE) {
        return NULL;
    }

    /* the worst result, and among equals the least left */

    said = &ctx->quotas[0];

    for (i = 1; i < ctx->nquotas; i++) {
        q = &ctx->quotas[i];

        if (q->result > said->result
            || (q->result == said->result
                && ngx_http_gate_quota_is(q, SHOWN)
                && (!ngx_http_gate_quota_is(said, SHOWN)
                    || q->take.v.remaining < said->take.v.remaining)))
        {
            said = q;
        }
    }

    return said;
}


ngx_int_t
ngx_http_gate_limit_header_filter(ngx_http_request_t *r,
    ngx_http_gate_ctx_t *ctx)
{
    ngx_uint_t              i, ietf, refused;
    ngx_http_gate_quota_t  *q;

    if (ctx->limited != NGX_HTTP_GATE_LIMIT_DONE) {
        return NGX_OK;
    }

    ietf = 0;
    refused = 0;

    for (i = 0; i < ctx->nquotas; i++) {
        q = &ctx->quotas[i];

        ietf |= ngx_http_gate_quota_told(q, IETF);
        refused |= (q->result == NGX_HTTP_GATE_LIMITED);
    }

    if ((ietf && ngx_http_gate_quota_ietf(r, ctx) != NGX_OK)
        || ngx_http_gate_quota_legacy(r, ctx) != NGX_OK
        || (refused && ngx_http_gate_quota_refused(r, ctx) != NGX_OK))
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_quota_ietf(ngx_http_request_t *r, ngx_http_gate_ctx_t *ctx)
{
    u_char                 *p, *s;
    ngx_str_t               policy, limit;
    ngx_uint_t              i;
    ngx_http_gate_quota_t  *q;

    p = ngx_pnalloc(r->pool, 2 * NGX_HTTP_GATE_ITEM * ctx->nquotas);
    if (p == NULL) {
        return NGX_ERROR;
    }

    s = p + NGX_HTTP_GATE_ITEM * ctx->nquotas;

    policy.data = p;
    limit.data = s;

    for (i = 0; i < ctx->nquotas; i++) {
        q = &ctx->quotas[i];

        if (!ngx_http_gate_quota_told(q, IETF)) {
            continue;
        }

        if (p != policy.data) {
            p = ngx_cpymem(p, ", ", 2);
            s = ngx_cpymem(s, ", ", 2);
        }

        p = ngx_sprintf(p, "\"%V\";q=%uL;w=%L", &q->limit->lc->name,
                        q->policy->count,
                        q->policy->period / NGX_HTTP_GATE_SECOND);

        s = ngx_sprintf(s, "\"%V\";r=%L;t=%L", &q->limit->lc->name,
                        q->take.v.remaining,
                        ngx_http_gate_quota_seconds(q->take.v.reset_after));
    }

    policy.len = p - policy.data;
    limit.len = s - limit.data;

    if (ngx_http_gate_add_header(r, "RateLimit-Policy",
                                 sizeof("RateLimit-Policy") - 1, &policy)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_gate_add_header(r, "RateLimit", sizeof("RateLimit") - 1,
                                    &limit);
}


static ngx_int_t
ngx_http_gate_quota_legacy(ngx_http_request_t *r, ngx_http_gate_ctx_t *ctx)
{
    ngx_uint_t              i;
    gate_gcra_t            *v;
    ngx_http_gate_quota_t  *q, *least;

    least = NULL;

    for (i = 0; i < ctx->nquotas; i++) {
        q = &ctx->quotas[i];

        if (ngx_http_gate_quota_told(q, LEGACY)
            && (least == NULL || q->result > least->result
                || (q->result == least->result
                    && q->take.v.remaining < least->take.v.remaining)))
        {
            least = q;
        }
    }

    if (least == NULL) {
        return NGX_OK;
    }

    v = &least->take.v;

    if (ngx_http_gate_quota_number(r, "X-RateLimit-Limit",
                                   sizeof("X-RateLimit-Limit") - 1,
                                   least->policy->rate.capacity)
        != NGX_OK
        || ngx_http_gate_quota_number(r, "X-RateLimit-Remaining",
                                      sizeof("X-RateLimit-Remaining") - 1,
                                      v->remaining)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_gate_quota_number(r, "X-RateLimit-Reset",
                                 sizeof("X-RateLimit-Reset") - 1,
                                 ngx_http_gate_quota_seconds(v->reset_after));
}


/* When it is worth trying again: as soon as all that refused would admit. */

static ngx_int_t
ngx_http_gate_quota_refused(ngx_http_request_t *r, ngx_http_gate_ctx_t *ctx)
{
    int64_t                 retry;
    ngx_str_t               value;
    ngx_uint_t              i;
    ngx_http_gate_quota_t  *q;

    retry = 0;

    for (i = 0; i < ctx->nquotas; i++) {
        q = &ctx->quotas[i];

        if (q->result != NGX_HTTP_GATE_LIMITED) {
            continue;
        }

        if (q->take.v.retry_after < 0) {
            retry = -1;
            break;
        }

        retry = ngx_max(retry, q->take.v.retry_after);
    }

    if (retry >= 0
        && ngx_http_gate_quota_number(r, "Retry-After",
                               sizeof("Retry-After") - 1,
                               ngx_max(ngx_http_gate_quota_seconds(retry), 1))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* RFC 6585: responses with this status are not stored */

    ngx_str_set(&value, "no-store");

    return ngx_http_gate_add_header(r, "Cache-Control",
                                    sizeof("Cache-Control") - 1, &value);
}


static ngx_int_t
ngx_http_gate_quota_number(ngx_http_request_t *r, const char *name,
    size_t len, int64_t n)
{
    u_char     *p;
    ngx_str_t   value;

    p = ngx_pnalloc(r->pool, NGX_INT64_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    value.data = p;
    value.len = ngx_sprintf(p, "%L", n) - p;

    return ngx_http_gate_add_header(r, name, len, &value);
}


/* Rounded up: who waits that long has not come too early. */

static int64_t
ngx_http_gate_quota_seconds(int64_t ns)
{
    return (ns + NGX_HTTP_GATE_SECOND - 1) / NGX_HTTP_GATE_SECOND;
}


ngx_int_t
ngx_http_gate_limit_refuse(ngx_http_request_t *r, ngx_http_gate_ctx_t *ctx)
{
    ngx_str_t   detail;
    ngx_uint_t  i, status;

    status = NGX_HTTP_TOO_MANY_REQUESTS;

    for (i = 0; i < ctx->nquotas; i++) {

        if (ctx->quotas[i].result == NGX_HTTP_GATE_LIMITED) {
            status = ctx->quotas[i].limit->status;
            break;
        }
    }

    /* here, as there is no header filter where nobody else is told anything */

    if (ngx_http_gate_limit_header_filter(r, ctx) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return NGX_DONE;
    }

    ctx->told = 0;

    ngx_str_set(&detail, "Rate limit exceeded");

    return ngx_http_gate_reject(r, status, &detail);
}

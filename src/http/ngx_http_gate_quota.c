
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

#include "core/gate_accept.h"


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
static ngx_uint_t ngx_http_gate_quota_page(ngx_http_request_t *r,
    ngx_uint_t status);
static ngx_int_t ngx_http_gate_quota_answer(ngx_http_request_t *r,
    ngx_uint_t status);
static ngx_uint_t ngx_http_gate_quota_problem(ngx_http_request_t *r);

#define ngx_http_gate_quota_told(q, style)                                    \
    (((q)->limit->headers & NGX_HTTP_GATE_HEADERS_##style)                    \
     && ngx_http_gate_quota_is(q, SHOWN)                                      \
     && !ngx_http_gate_quota_is(q, OBSERVE))


static ngx_str_t  ngx_http_gate_quota_json = ngx_string("application/json");
static ngx_str_t  ngx_http_gate_quota_problem_json =
    ngx_string("application/problem+json");

static u_char  ngx_http_gate_quota_detail[] =
    "{\"detail\":\"Rate limit exceeded\"}";


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
    ngx_int_t   rc;
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

    /* nginx's own page where the operator has one, or no answer at all */

    rc = (ngx_int_t) status;

    if (status != NGX_HTTP_CLOSE && !ngx_http_gate_quota_page(r, status)) {

        /* the status of an error that brought the request here */

        r->err_status = 0;

        /* nobody is asked to send the body of a request that is refused */

        r->expect_tested = 1;

        rc = ngx_http_gate_quota_answer(r, status);
    }

    /*
     * Not for the phase to do: under "satisfy any" it takes a 401 or 403 for
     * the word of one who may be overruled.
     */

    ngx_http_finalize_request(r, rc);

    return NGX_DONE;
}


/* Is there an error_page for it, and would nginx use it? */

static ngx_uint_t
ngx_http_gate_quota_page(ngx_http_request_t *r, ngx_uint_t status)
{
    ngx_uint_t                 i;
    ngx_http_err_page_t       *page;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (clcf->error_pages == NULL || r->error_page) {
        return 0;
    }

    page = clcf->error_pages->elts;

    for (i = 0; i < clcf->error_pages->nelts; i++) {

        if (page[i].status == (ngx_int_t) status) {
            return 1;
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_gate_quota_answer(ngx_http_request_t *r, ngx_uint_t status)
{
    u_char                    *p;
    const char                *title;
    ngx_http_complex_value_t   cv;

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));

    if (!ngx_http_gate_quota_problem(r)) {
        cv.value.data = ngx_http_gate_quota_detail;
        cv.value.len = sizeof(ngx_http_gate_quota_detail) - 1;

        return ngx_http_send_response(r, status, &ngx_http_gate_quota_json,
                                      &cv);
    }

    /* RFC 9457: about:blank goes with the status' own phrase */

    switch (status) {

    case NGX_HTTP_TOO_MANY_REQUESTS:
        title = "\"title\":\"Too Many Requests\",";
        break;

    case NGX_HTTP_SERVICE_UNAVAILABLE:
        title = "\"title\":\"Service Unavailable\",";
        break;

    case NGX_HTTP_FORBIDDEN:
        title = "\"title\":\"Forbidden\",";
        break;

    default:
        title = "";
    }

    p = ngx_pnalloc(r->pool, 128);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cv.value.data = p;
    cv.value.len = ngx_sprintf(p, "{\"type\":\"about:blank\",%s\"status\":%ui,"
                               "\"detail\":\"Rate limit exceeded\"}",
                               title, status)
                   - p;

    return ngx_http_send_response(r, status,
                                  &ngx_http_gate_quota_problem_json, &cv);
}


static ngx_uint_t
ngx_http_gate_quota_problem(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &r->headers_in.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len == sizeof("Accept") - 1
                && ngx_strncasecmp(h[i].key.data, (u_char *) "Accept",
                                   sizeof("Accept") - 1)
                   == 0
                && gate_accept_problem(h[i].value.data, h[i].value.len))
            {
                return 1;
            }
        }
    }

    return 0;
}

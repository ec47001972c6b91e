
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Has this caller budget left?  Asked once for each main request, as the first
 * thing in the ACCESS phase: by then the location's set_real_ip_from has run,
 * and nobody else has spent time on the request.
 *
 * All limits of the location are looked at before the first one is taken
 * from, so that a request that one of them refuses costs nothing anywhere.
 * Between the look and the taking somebody else may be faster; then what was
 * taken is given back.
 *
 * The answer is never NGX_OK: under "satisfy any" that would let the caller
 * in.
 */


#include "ngx_http_gate_limit.h"


/* a question to Redis, in the memory of its request */

typedef struct {
    ngx_http_request_t          *request;
    ngx_gate_ask_t              *ask;         /* NULL: it was answered */
} ngx_http_gate_wait_t;


static ngx_http_gate_aside ngx_int_t ngx_http_gate_limit_simple(
    ngx_http_request_t *r, ngx_http_gate_limit_t *limit,
    ngx_http_gate_ctx_t *ctx);
static ngx_http_gate_aside ngx_int_t ngx_http_gate_limit_slowly(
    ngx_http_request_t *r, ngx_array_t *limits);
static ngx_http_gate_aside ngx_int_t ngx_http_gate_limit_look_up(
    ngx_http_request_t *r, ngx_array_t *limits, ngx_http_gate_ctx_t *ctx);
static ngx_int_t ngx_http_gate_limit_decide(ngx_http_request_t *r,
    ngx_array_t *limits, ngx_http_gate_ctx_t *ctx);
static ngx_int_t ngx_http_gate_limit_open(ngx_http_request_t *r,
    ngx_http_gate_limit_t *limit, ngx_http_gate_quota_t *q, uint64_t mode);
static void ngx_http_gate_limit_here(ngx_http_gate_quota_t *q, ngx_uint_t n);
static ngx_uint_t ngx_http_gate_limit_look(ngx_http_gate_quota_t *q,
    ngx_uint_t n);
static ngx_uint_t ngx_http_gate_limit_take(ngx_http_gate_quota_t *q,
    ngx_uint_t n);
static ngx_uint_t ngx_http_gate_limit_one(ngx_http_gate_quota_t *q,
    ngx_uint_t take);
static ngx_uint_t ngx_http_gate_limit_full(ngx_http_gate_quota_t *q);
static ngx_uint_t ngx_http_gate_limit_over(ngx_http_gate_quota_t *q);
static void ngx_http_gate_limit_spare(ngx_http_gate_quota_t *q,
    ngx_uint_t n);
static ngx_int_t ngx_http_gate_limit_finish(ngx_http_request_t *r,
    ngx_http_gate_ctx_t *ctx);
static ngx_uint_t ngx_http_gate_limit_count(ngx_http_request_t *r,
    ngx_http_gate_quota_t *q, ngx_uint_t n);
static void ngx_http_gate_limit_log(ngx_http_request_t *r,
    ngx_http_gate_quota_t *q);
static ngx_int_t ngx_http_gate_limit_ask(ngx_http_request_t *r,
    ngx_http_gate_ctx_t *ctx);
static void ngx_http_gate_limit_answer(void *data, ngx_int_t rc,
    ngx_gate_ask_limit_t *limits, ngx_uint_t n);
static void ngx_http_gate_limit_told(ngx_http_gate_ctx_t *ctx, ngx_int_t rc,
    ngx_gate_ask_limit_t *limits);
static void ngx_http_gate_limit_back(ngx_http_gate_quota_t *q);
static void ngx_http_gate_limit_resume(ngx_http_request_t *r);
static void ngx_http_gate_limit_cleanup(void *data);


/*
 * Most requests have one limit that has nothing special about it, and pass.
 * What is done for them is done here, without a detour.  NGX_OK; NGX_DECLINED:
 * nothing was taken, look again.
 */

ngx_http_gate_inline ngx_int_t
ngx_http_gate_limit_pass(ngx_http_request_t *r, ngx_http_gate_limit_t *limit,
    ngx_str_t *key, gate_limit_take_t *take)
{
    int                          rc;
    gate_limit_env_t             env;
    ngx_gate_limit_conf_t       *lc;
    ngx_gate_limit_zone_t       *sh;
    ngx_gate_limit_count_t      *count;
    ngx_http_gate_limit_zone_t  *zone;

    lc = limit->lc;
    zone = lc->http;
    sh = lc->sh;

    if (ngx_gate_limit_overridden(sh)
        || ngx_gate_mode(lc->node->sh, NGX_GATE_MODE_LIMIT)
           != NGX_GATE_MODE_ENFORCE
        || ngx_http_gate_fetch(r, &zone->key, key) != NGX_OK
        || key->len == 0)
    {
        return NGX_DECLINED;
    }

    take->hash = ngx_gate_limit_hash(lc, key->data, key->len);
    take->rate = lc->policy.rate;
    take->cls = lc->cls;
    take->cost = limit->units;
    take->firm = 0;

    ngx_gate_limit_env(lc, &env);

    if (env.away) {
        return NGX_DECLINED;
    }

    rc = gate_limit_take(lc->table, &env, take);

    /* also for who is refused: it is marked only once */

    if (take->flush && env.shared) {
        ngx_gate_limit_flush(lc);
    }

    if (rc != GATE_LIMIT_PASSED) {
        return NGX_DECLINED;
    }

    count = &sh->counts[ngx_process_slot];
    count->passed++;

    if (take->evicted) {
        count->evicted++;
        count->dropped += take->dropped;
    }

    return NGX_OK;
}


/*
 * Nobody is told how it stands.  That the request was counted is noted where
 * a redirect leaves it alone, in the variable that says so; a context would be
 * twice as much work as the decision.
 */

ngx_http_gate_inline ngx_int_t
ngx_http_gate_limit_bare(ngx_http_request_t *r, ngx_http_gate_limit_t *limit,
    ngx_http_variable_value_t *v)
{
    ngx_str_t          key;
    gate_limit_take_t  take;

    if (ngx_http_gate_limit_pass(r, limit, &key, &take) != NGX_OK) {
        return NGX_DECLINED;
    }

    v->len = sizeof("passed") - 1;
    v->data = (u_char *) "passed";
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


ngx_int_t
ngx_http_gate_limit_handler(ngx_http_request_t *r)
{
    ngx_http_gate_ctx_t        *ctx;
    ngx_http_gate_limit_t      *limit;
    ngx_http_gate_loc_conf_t   *glcf;
    ngx_http_variable_value_t  *v;

    glcf = ngx_http_get_module_loc_conf(r, ngx_http_gate_module);

    if (glcf->limits == NULL) {
        return NGX_DECLINED;
    }

    limit = glcf->limits->elts;

    if (limit->bare && glcf->limits->nelts == 1) {
        v = &r->variables[limit->index];

        if (v->valid) {
            return NGX_DECLINED;
        }

        ctx = ngx_http_gate_ctx(r);

        if ((ctx == NULL || ctx->limited == 0)
            && ngx_http_gate_limit_bare(r, limit, v) == NGX_OK)
        {
            return NGX_DECLINED;
        }
    }

    return ngx_http_gate_limit_slowly(r, glcf->limits);
}


static ngx_int_t
ngx_http_gate_limit_slowly(ngx_http_request_t *r, ngx_array_t *limits)
{
    ngx_http_gate_ctx_t    *ctx;
    ngx_http_gate_limit_t  *limit;

    limit = limits->elts;

    ctx = ngx_http_gate_ctx_create(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->limited == NGX_HTTP_GATE_LIMIT_DONE
        || r->variables[limit->index].valid
        || (limit->simple && limits->nelts == 1 && ctx->limited == 0
            && ngx_http_gate_limit_simple(r, limit, ctx) == NGX_OK))
    {
        return NGX_DECLINED;
    }

    return ngx_http_gate_limit_look_up(r, limits, ctx);
}


static ngx_int_t
ngx_http_gate_limit_simple(ngx_http_request_t *r,
    ngx_http_gate_limit_t *limit, ngx_http_gate_ctx_t *ctx)
{
    ngx_http_gate_quota_t  *q;

    q = ctx->quotas;

    if (ngx_http_gate_limit_pass(r, limit, &q->key, &q->take) != NGX_OK) {
        return NGX_DECLINED;
    }

    q->limit = limit;
    q->policy = &limit->lc->policy;
    q->result = NGX_HTTP_GATE_PASSED;
    q->flags = NGX_HTTP_GATE_QUOTA_SHOWN;

    ctx->nquotas = 1;
    ctx->limited = NGX_HTTP_GATE_LIMIT_DONE;
    ctx->told = (limit->headers != 0);

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_limit_look_up(ngx_http_request_t *r, ngx_array_t *limits,
    ngx_http_gate_ctx_t *ctx)
{
    ngx_int_t  rc;

    if (ctx->limited == 0) {
        rc = ngx_http_gate_limit_decide(r, limits, ctx);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (ctx->limited == NGX_HTTP_GATE_LIMIT_ASKED) {
        return NGX_AGAIN;
    }

    return ngx_http_gate_limit_finish(r, ctx);
}


static ngx_int_t
ngx_http_gate_limit_decide(ngx_http_request_t *r, ngx_array_t *limits,
    ngx_http_gate_ctx_t *ctx)
{
    uint64_t                    mode;
    ngx_uint_t                  i, n, exact;
    ngx_http_gate_limit_t      *limit;
    ngx_http_gate_quota_t      *q;
    ngx_http_gate_main_conf_t  *gmcf;

    gmcf = ngx_http_get_module_main_conf(r, ngx_http_gate_module);

    limit = limits->elts;
    n = limits->nelts;
    q = ctx->quotas;

    if (n > 1) {
        q = ngx_palloc(r->pool, n * sizeof(ngx_http_gate_quota_t));
        if (q == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    mode = ngx_gate_mode(gmcf->node.sh, NGX_GATE_MODE_LIMIT);
    exact = 0;

    for (i = 0; i < n; i++) {

        if (ngx_http_gate_limit_open(r, &limit[i], &q[i], mode) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        exact |= ngx_http_gate_quota_is(&q[i], EXACT);
    }

    ctx->quotas = q;
    ctx->nquotas = (uint8_t) n;
    ctx->limited = NGX_HTTP_GATE_LIMIT_KNOWN;

    if (exact) {
        return ngx_http_gate_limit_ask(r, ctx);
    }

    ngx_http_gate_limit_here(q, n);

    return NGX_OK;
}


/* Whom the limit is about and what it allows. */

static ngx_int_t
ngx_http_gate_limit_open(ngx_http_request_t *r, ngx_http_gate_limit_t *limit,
    ngx_http_gate_quota_t *q, uint64_t mode)
{
    ngx_int_t                    rc;
    ngx_gate_limit_conf_t       *lc;
    ngx_http_gate_limit_zone_t  *zone;

    lc = limit->lc;
    zone = lc->http;

    q->limit = limit;
    q->result = NGX_HTTP_GATE_UNLIMITED;
    q->flags = 0;
    q->take.hash = 0;

    if (mode == NGX_GATE_MODE_OFF) {
        return NGX_OK;
    }

    if (limit->observe || mode == NGX_GATE_MODE_OBSERVE) {
        q->flags = NGX_HTTP_GATE_QUOTA_OBSERVE;
    }

    if (ngx_http_gate_fetch(r, &zone->key, &q->key) != NGX_OK) {
        return NGX_ERROR;
    }

    if (q->key.len == 0 && zone->on_empty != NGX_HTTP_GATE_EMPTY_LIMIT) {

        if (zone->on_empty == NGX_HTTP_GATE_EMPTY_REFUSE) {
            q->take.v.retry_after = -1;
            (void) ngx_http_gate_limit_over(q);
        }

        return NGX_OK;
    }

    q->take.hash = ngx_gate_limit_hash(lc, q->key.data, q->key.len);

    rc = ngx_http_gate_limit_policy(r, q);

    if (rc != NGX_OK) {
        return (rc == NGX_DECLINED) ? NGX_OK : rc;
    }

    q->take.cost = limit->units;

    if (limit->cost.value && ngx_http_gate_limit_cost(r, q) != NGX_OK) {
        return NGX_ERROR;
    }

    q->flags |= NGX_HTTP_GATE_QUOTA_OPEN;

    /* nobody waits for an answer that will not count */

    if (lc->sync == NGX_GATE_SYNC_EXACT
        && (q->flags & NGX_HTTP_GATE_QUOTA_OBSERVE) == 0)
    {
        q->flags |= NGX_HTTP_GATE_QUOTA_EXACT;
    }

    return NGX_OK;
}


/* The decision of this node alone. */

static void
ngx_http_gate_limit_here(ngx_http_gate_quota_t *q, ngx_uint_t n)
{
    if (n > 1 && ngx_http_gate_limit_look(q, n)) {
        return;
    }

    (void) ngx_http_gate_limit_take(q, n);
}


/* 1 when one of them refuses. */

static ngx_uint_t
ngx_http_gate_limit_look(ngx_http_gate_quota_t *q, ngx_uint_t n)
{
    ngx_uint_t  i, refused;

    refused = 0;

    for (i = 0; i < n; i++) {

        if (ngx_http_gate_quota_is(&q[i], OPEN)) {
            refused |= ngx_http_gate_limit_one(&q[i], 0);

        } else if (q[i].result == NGX_HTTP_GATE_LIMITED) {
            refused = 1;
        }
    }

    if (refused) {
        ngx_http_gate_limit_spare(q, n);
    }

    return refused;
}


/* From all of them, or from none: 1 when one of them refuses. */

static ngx_uint_t
ngx_http_gate_limit_take(ngx_http_gate_quota_t *q, ngx_uint_t n)
{
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {

        if (ngx_http_gate_quota_is(&q[i], OPEN)
            && ngx_http_gate_limit_one(&q[i], 1))
        {
            if (n > 1) {
                ngx_http_gate_limit_spare(q, n);
            }

            return 1;
        }
    }

    return 0;
}


/* 1 when it refuses. */

static ngx_uint_t
ngx_http_gate_limit_one(ngx_http_gate_quota_t *q, ngx_uint_t take)
{
    int                     rc;
    gate_limit_env_t        env;
    ngx_gate_limit_conf_t  *lc;

    lc = q->limit->lc;

    ngx_gate_limit_env(lc, &env);

    q->result = NGX_HTTP_GATE_PASSED;

    if (env.away) {
        q->flags |= NGX_HTTP_GATE_QUOTA_ALONE;

        if (lc->loss == NGX_GATE_LOSS_ALLOW) {
            return 0;
        }

        if (lc->loss == NGX_GATE_LOSS_DENY) {
            q->take.v.retry_after = NGX_HTTP_GATE_RETRY;
            return ngx_http_gate_limit_over(q);
        }
    }

    rc = take ? gate_limit_take(lc->table, &env, &q->take)
              : gate_limit_peek(lc->table, &env, &q->take);

    if (rc == GATE_LIMIT_FULL) {
        return ngx_http_gate_limit_full(q);
    }

    q->flags |= NGX_HTTP_GATE_QUOTA_SHOWN;

    if (take && q->take.flush && env.shared) {
        ngx_gate_limit_flush(lc);
    }

    if (rc == GATE_LIMIT_LIMITED) {
        return ngx_http_gate_limit_over(q);
    }

    if (take) {
        q->flags |= NGX_HTTP_GATE_QUOTA_TAKEN;
    }

    return 0;
}


/* Everybody there is in debt, and this is somebody else. */

static ngx_uint_t
ngx_http_gate_limit_full(ngx_http_gate_quota_t *q)
{
    q->flags |= NGX_HTTP_GATE_QUOTA_FULL;

    if (q->limit->lc->refuse == 0) {
        return 0;
    }

    q->take.v.retry_after = NGX_HTTP_GATE_RETRY;

    return ngx_http_gate_limit_over(q);
}


static ngx_uint_t
ngx_http_gate_limit_over(ngx_http_gate_quota_t *q)
{
    if (ngx_http_gate_quota_is(q, OBSERVE)) {
        q->result = NGX_HTTP_GATE_OBSERVED;
        return 0;
    }

    q->result = NGX_HTTP_GATE_LIMITED;

    return 1;
}


/* One refused: the others get back what was taken, or is said to be. */

static void
ngx_http_gate_limit_spare(ngx_http_gate_quota_t *q, ngx_uint_t n)
{
    int64_t           cost;
    ngx_uint_t        i;
    gate_limit_env_t  env;

    for (i = 0; i < n; i++) {

        if (q[i].result != NGX_HTTP_GATE_PASSED) {
            continue;
        }

        ngx_gate_limit_env(q[i].limit->lc, &env);

        if (ngx_http_gate_quota_is(&q[i], TAKEN)) {
            gate_limit_refund(q[i].limit->lc->table, &env, &q[i].take);
            q[i].flags &= ~NGX_HTTP_GATE_QUOTA_TAKEN;
        }

        if (ngx_http_gate_quota_is(&q[i], SHOWN)) {
            cost = q[i].take.cost;
            q[i].take.cost = 0;

            (void) gate_limit_peek(q[i].limit->lc->table, &env, &q[i].take);

            q[i].take.cost = cost;
        }
    }
}


static ngx_int_t
ngx_http_gate_limit_finish(ngx_http_request_t *r, ngx_http_gate_ctx_t *ctx)
{
    ctx->limited = NGX_HTTP_GATE_LIMIT_DONE;
    ctx->told = 1;

    if (ngx_http_gate_limit_count(r, ctx->quotas, ctx->nquotas)) {
        return ngx_http_gate_limit_refuse(r, ctx);
    }

    return NGX_DECLINED;
}


/* 1 when the request is refused.  It passed nowhere then. */

static ngx_uint_t
ngx_http_gate_limit_count(ngx_http_request_t *r, ngx_http_gate_quota_t *q,
    ngx_uint_t n)
{
    ngx_uint_t               i, refused;
    ngx_gate_limit_count_t  *count;

    refused = 0;

    for (i = 0; i < n; i++) {
        refused |= (q[i].result == NGX_HTTP_GATE_LIMITED);
    }

    for (i = 0; i < n; i++) {
        count = ngx_gate_limit_counts(q[i].limit->lc);

        switch (q[i].result) {

        case NGX_HTTP_GATE_UNLIMITED:

            /* Redis was not asked, as another limit refuses anyway */

            count->unlimited += !ngx_http_gate_quota_is(&q[i], OPEN);
            continue;

        case NGX_HTTP_GATE_PASSED:

            if (refused) {
                continue;
            }

            count->passed++;
            count->full_passed += ngx_http_gate_quota_is(&q[i], FULL);
            break;

        case NGX_HTTP_GATE_OBSERVED:
            count->observed++;
            ngx_http_gate_limit_log(r, &q[i]);
            break;

        default:
            count->limited++;
            count->full_limited += ngx_http_gate_quota_is(&q[i], FULL);
            count->shared += ngx_http_gate_quota_is(&q[i], SHOWN)
                             && q[i].take.share;
            ngx_http_gate_limit_log(r, &q[i]);
        }

        if (ngx_http_gate_quota_is(&q[i], ALONE)) {
            count->fallback++;
        }

        if (ngx_http_gate_quota_is(&q[i], TAKEN) && q[i].take.evicted) {
            count->evicted++;
            count->dropped += q[i].take.dropped;
        }
    }

    return refused;
}


/* One line a second for each zone; the key itself may be a secret. */

static void
ngx_http_gate_limit_log(ngx_http_request_t *r, ngx_http_gate_quota_t *q)
{
    ngx_gate_limit_conf_t       *lc;
    ngx_http_gate_limit_zone_t  *zone;

    lc = q->limit->lc;
    zone = lc->http;

    if (zone->logged == ngx_time()) {
        zone->silent++;
        return;
    }

    ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                  "gate: %s, zone \"%V\", key %016xL, %ui more since",
                  q->result == NGX_HTTP_GATE_LIMITED ? "limiting"
                                                     : "would limit",
                  &lc->name, (int64_t) q->take.hash, zone->silent);

    zone->logged = ngx_time();
    zone->silent = 0;
}


/* One of the limits is Redis's to decide. */

static ngx_int_t
ngx_http_gate_limit_ask(ngx_http_request_t *r, ngx_http_gate_ctx_t *ctx)
{
    ngx_uint_t              i, n;
    ngx_msec_t              timeout;
    ngx_pool_cleanup_t     *cln;
    ngx_gate_limit_conf_t  *lc;
    ngx_gate_ask_limit_t    limits[NGX_HTTP_GATE_LIMITS];
    ngx_http_gate_wait_t   *wait;
    ngx_http_gate_quota_t  *q;

    timeout = NGX_MAX_INT32_VALUE;
    n = 0;

    for (i = 0; i < ctx->nquotas; i++) {
        q = &ctx->quotas[i];
        lc = q->limit->lc;

        if (ngx_http_gate_quota_is(q, EXACT)) {
            limits[n].lc = lc;
            limits[n++].take = q->take;
            timeout = ngx_min(timeout, lc->timeout);

        } else if (q->result == NGX_HTTP_GATE_LIMITED
                   || (ngx_http_gate_quota_is(q, OPEN)
                       && ngx_http_gate_limit_one(q, 0)))
        {
            /* it is refused anyway */

            return NGX_OK;
        }
    }

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_gate_wait_t));
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    wait = cln->data;
    wait->request = r;

    wait->ask = ngx_gate_ask(limits, n, timeout, ngx_http_gate_limit_answer,
                             wait);

    if (wait->ask == NULL) {
        ngx_http_gate_limit_told(ctx, NGX_DECLINED, limits);
        return NGX_OK;
    }

    cln->handler = ngx_http_gate_limit_cleanup;

    ctx->limited = NGX_HTTP_GATE_LIMIT_ASKED;

    /* as limit_req's delay: who leaves meanwhile is noticed */

    if (ngx_handle_read_event(r->connection->read, 0) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    return NGX_OK;
}


/* ngx_gate_ask_pt */

static void
ngx_http_gate_limit_answer(void *data, ngx_int_t rc,
    ngx_gate_ask_limit_t *limits, ngx_uint_t n)
{
    ngx_http_gate_wait_t *wait = data;

    ngx_uint_t            i, admitted;
    ngx_gate_ask_t       *ask;
    ngx_http_request_t   *r;
    ngx_http_gate_ctx_t  *ctx;

    r = wait->request;
    ask = wait->ask;
    wait->ask = NULL;

    ctx = ngx_http_gate_ctx(r);

    ngx_http_gate_limit_told(ctx, rc, limits);

    ctx->limited = NGX_HTTP_GATE_LIMIT_KNOWN;

    if (rc == NGX_DECLINED) {
        admitted = 1;

        for (i = 0; i < ctx->nquotas; i++) {
            admitted &= (ctx->quotas[i].result != NGX_HTTP_GATE_LIMITED);
        }

        ngx_gate_ask_decided(ask, admitted);
    }

    ngx_http_gate_limit_resume(r);
}


/* "limits" has those that Redis was asked about, in the same order. */

static void
ngx_http_gate_limit_told(ngx_http_gate_ctx_t *ctx, ngx_int_t rc,
    ngx_gate_ask_limit_t *limits)
{
    ngx_uint_t              i, n;
    ngx_http_gate_quota_t  *q;

    for (i = 0, n = 0; i < ctx->nquotas && rc != NGX_DECLINED; i++) {
        q = &ctx->quotas[i];

        if (!ngx_http_gate_quota_is(q, EXACT)) {
            continue;
        }

        q->take = limits[n++].take;
        q->result = NGX_HTTP_GATE_PASSED;
        q->flags &= ~NGX_HTTP_GATE_QUOTA_OPEN;
        q->flags |= NGX_HTTP_GATE_QUOTA_SHOWN;

        if (rc == NGX_BUSY && q->take.v.limited) {
            (void) ngx_http_gate_limit_over(q);
        }
    }

    if (rc == NGX_BUSY) {
        return;
    }

    if (rc == NGX_OK) {

        if (ngx_http_gate_limit_take(ctx->quotas, ctx->nquotas)) {

            for (i = 0; i < ctx->nquotas; i++) {

                if (ngx_http_gate_quota_is(&ctx->quotas[i], EXACT)) {
                    ngx_http_gate_limit_back(&ctx->quotas[i]);
                }
            }
        }

        return;
    }

    ngx_http_gate_limit_here(ctx->quotas, ctx->nquotas);

    for (i = 0, n = 0; i < ctx->nquotas; i++) {
        q = &ctx->quotas[i];

        if (ngx_http_gate_quota_is(q, EXACT)) {
            q->flags |= NGX_HTTP_GATE_QUOTA_ALONE;

            if (!ngx_http_gate_quota_is(q, TAKEN)) {
                q->take.charged = 0;
            }

            limits[n++].take = q->take;
        }
    }
}


/* Redis took from it, and then a limit of this node refused the request. */

static void
ngx_http_gate_limit_back(ngx_http_gate_quota_t *q)
{
    gate_limit_env_t        env;
    ngx_gate_limit_conf_t  *lc;

    lc = q->limit->lc;

    ngx_gate_limit_env(lc, &env);

    q->take.charged = q->take.cost * q->take.rate.interval;
    q->take.slot = GATE_LIMIT_NO_SLOT;

    gate_limit_refund(lc->table, &env, &q->take);
}


static void
ngx_http_gate_limit_resume(ngx_http_request_t *r)
{
    ngx_connection_t  *c;

    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_core_run_phases;

    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);

    } else {
        ngx_http_core_run_phases(r);
    }

    ngx_http_run_posted_requests(c);
}


/* The request is gone before there was an answer. */

static void
ngx_http_gate_limit_cleanup(void *data)
{
    ngx_http_gate_wait_t *wait = data;

    if (wait->ask) {
        ngx_gate_ask_drop(wait->ask);
        wait->ask = NULL;
    }
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * What the gate knows of a main request.  nginx wipes r->ctx on an internal
 * redirect, so the context hangs on a cleanup of the request's pool, where
 * its handler identifies it; r->ctx is only the short way there.
 */


#include "ngx_http_gate_peer.h"
#include "ngx_http_gate_limit.h"
#include "ngx_http_gate_compat.h"


static void ngx_http_gate_cleanup(void *data);


ngx_http_gate_ctx_t *
ngx_http_gate_ctx_find(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t   *cln;
    ngx_http_gate_ctx_t  *ctx;

    r = r->main;

    for (cln = r->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler == ngx_http_gate_cleanup) {
            ctx = cln->data;
            ngx_http_set_ctx(r, ctx, ngx_http_gate_module);
            return ctx;
        }
    }

    return NULL;
}


ngx_http_gate_ctx_t *
ngx_http_gate_ctx_create(ngx_http_request_t *r)
{
    ngx_http_gate_ctx_t        *ctx;
    ngx_http_gate_main_conf_t  *gmcf;

    ctx = ngx_http_gate_ctx(r);
    if (ctx) {
        return ctx;
    }

    r = r->main;

    gmcf = ngx_http_get_module_main_conf(r, ngx_http_gate_module);

    /* one allocation for cleanup, context, the first pick, peer and quota */

    ctx = ngx_palloc(r->pool, sizeof(ngx_http_gate_ctx_t)
                              + gmcf->spare + gmcf->quota);
    if (ctx == NULL) {
        return NULL;
    }

    ctx->cleanup.handler = ngx_http_gate_cleanup;
    ctx->cleanup.data = ctx;
    ctx->cleanup.next = r->pool->cleanup;
    r->pool->cleanup = &ctx->cleanup;

    ctx->inflight = NULL;
    ctx->gauge = NULL;
    ctx->picks = NULL;
    ctx->current = NULL;
    ctx->pending = NULL;
    ctx->served = 0;
    ctx->nserved = 0;
    ctx->decided = 0;
    ctx->cookies = 0;
    ctx->limited = 0;
    ctx->nquotas = 0;
    ctx->told = 0;
    ctx->cursor = NULL;
    ctx->pick.composite = NULL;
    ctx->spare = (ngx_http_gate_peer_t *) (ctx + 1);
    ctx->quotas = (ngx_http_gate_quota_t *) ((u_char *) (ctx + 1)
                                             + gmcf->spare);

    ngx_http_set_ctx(r, ctx, ngx_http_gate_module);

    return ctx;
}


static void
ngx_http_gate_cleanup(void *data)
{
    ngx_http_gate_ctx_t *ctx = data;

    if (ctx->pending) {
        ngx_http_gate_settle(ctx);
    }

    if (ctx->gauge) {
        ngx_gate_store(ctx->gauge, *ctx->gauge - 1);
    }
}


ngx_int_t
ngx_http_gate_add_header(ngx_http_request_t *r, const char *name, size_t len,
    ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    ngx_http_gate_last_header(h);
    h->key.data = (u_char *) name;
    h->key.len = len;
    h->value = *value;

    return NGX_OK;
}

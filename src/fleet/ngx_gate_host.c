
/*
 * Copyright (C) nginx-gate authors
 */


#include "ngx_gate_session.h"


static void ngx_gate_host_fixed(ngx_gate_redis_t *rs, ngx_addr_t *addr,
    ngx_uint_t n);
static ngx_uint_t ngx_gate_host_literal(ngx_gate_redis_t *rs,
    ngx_str_t *name);
static void ngx_gate_host_why(ngx_gate_redis_t *rs, ngx_str_t *name,
    const char *why);
static void ngx_gate_host_resolved(ngx_resolver_ctx_t *ctx);


void
ngx_gate_host_find(ngx_gate_redis_t *rs, ngx_str_t *name, in_port_t port,
    ngx_gate_redis_addrs_t *fixed, ngx_gate_host_pt found)
{
    ngx_resolver_ctx_t  *ctx;

    ngx_gate_host_stop(rs);

    rs->naddrs = 0;
    rs->addr = 0;
    rs->found = found;
    rs->port = port;

    if (fixed && fixed->naddrs) {
        ngx_gate_host_fixed(rs, fixed->addr, fixed->naddrs);
        found(rs);
        return;
    }

    if (ngx_gate_host_literal(rs, name)) {
        found(rs);
        return;
    }

    if (rs->conf->resolver == NULL) {
        ngx_gate_host_why(rs, name, "cannot be looked up, it takes "
                          "\"resolver\" in the http block");
        found(rs);
        return;
    }

    ctx = ngx_resolve_start(rs->conf->resolver, NULL);

    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        ngx_gate_host_why(rs, name, "cannot be looked up");
        found(rs);
        return;
    }

    ctx->name = *name;
    ctx->handler = ngx_gate_host_resolved;
    ctx->data = rs;
    ctx->timeout = rs->conf->resolver_timeout;
    ctx->cancelable = 1;

    rs->resolve = ctx;

    /* it may call the handler before it returns */

    if (ngx_resolve_name(ctx) != NGX_OK) {
        rs->resolve = NULL;
        ngx_gate_host_why(rs, name, "cannot be looked up");
        found(rs);
    }
}


void
ngx_gate_host_stop(ngx_gate_redis_t *rs)
{
    if (rs->resolve) {
        ngx_resolve_name_done(rs->resolve);
        rs->resolve = NULL;
    }
}


static void
ngx_gate_host_fixed(ngx_gate_redis_t *rs, ngx_addr_t *addr, ngx_uint_t n)
{
    ngx_uint_t  i;

    rs->naddrs = ngx_min(n, NGX_GATE_HOST_ADDRS);

    for (i = 0; i < rs->naddrs; i++) {
        rs->addrs[i].len = addr[i].socklen;
        ngx_memcpy(&rs->addrs[i].sockaddr, addr[i].sockaddr,
                   addr[i].socklen);
    }
}


static ngx_uint_t
ngx_gate_host_literal(ngx_gate_redis_t *rs, ngx_str_t *name)
{
    in_addr_t              inaddr;
    ngx_gate_host_addr_t  *addr;

    addr = &rs->addrs[0];

    ngx_memzero(addr, sizeof(ngx_gate_host_addr_t));

    inaddr = ngx_inet_addr(name->data, name->len);

    if (inaddr != INADDR_NONE) {
        addr->sockaddr.sockaddr_in.sin_family = AF_INET;
        addr->sockaddr.sockaddr_in.sin_addr.s_addr = inaddr;
        addr->len = sizeof(struct sockaddr_in);

#if (NGX_HAVE_INET6)
    } else if (ngx_inet6_addr(name->data, name->len,
                       addr->sockaddr.sockaddr_in6.sin6_addr.s6_addr)
               == NGX_OK)
    {
        addr->sockaddr.sockaddr_in6.sin6_family = AF_INET6;
        addr->len = sizeof(struct sockaddr_in6);
#endif

    } else {
        return 0;
    }

    ngx_inet_set_port(&addr->sockaddr.sockaddr, rs->port);
    rs->naddrs = 1;

    return 1;
}


static void
ngx_gate_host_why(ngx_gate_redis_t *rs, ngx_str_t *name, const char *why)
{
    u_char  *p, buf[NGX_GATE_LINK_TEXT];

    p = ngx_snprintf(buf, sizeof(buf), "%V %s", name, why);

    ngx_gate_text(rs->why, sizeof(rs->why), buf, p - buf);
}


static void
ngx_gate_host_resolved(ngx_resolver_ctx_t *ctx)
{
    ngx_uint_t         i;
    ngx_gate_redis_t  *rs;

    rs = ctx->data;

    if (ctx->state) {
        ngx_gate_host_why(rs, &ctx->name, ngx_resolver_strerror(ctx->state));

    } else {
        rs->naddrs = ngx_min(ctx->naddrs, NGX_GATE_HOST_ADDRS);

        for (i = 0; i < rs->naddrs; i++) {
            rs->addrs[i].len = ctx->addrs[i].socklen;
            ngx_memcpy(&rs->addrs[i].sockaddr, ctx->addrs[i].sockaddr,
                       ctx->addrs[i].socklen);
            ngx_inet_set_port(&rs->addrs[i].sockaddr.sockaddr, rs->port);
        }
    }

    ngx_gate_host_stop(rs);

    rs->found(rs);
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gate_redis ADDRESS [password_file=FILE] [sentinel_user=NAME]
 *            [sentinel_password_file=FILE] [prefix=gate:] [timeout=1s]
 *            [poll=1s] [ca_file=FILE] [cert=FILE key=FILE] [server_name=NAME]
 *
 * Everything about Redis that can be wrong in a configuration is found here,
 * while it is read.  Where there is a resolver, names are left to it; where
 * there is none, they are looked up once, now, because a worker must not
 * wait for that.
 *
 * No message here shows a password: not that of a file, and not the one that
 * somebody wrote into the address.
 */


#include "ngx_http_gate.h"

#include "fleet/ngx_gate_fleet.h"


#define NGX_HTTP_GATE_REDIS_PASSWORD  1024
#define NGX_HTTP_GATE_REDIS_PREFIX    64
#define NGX_HTTP_GATE_REDIS_DEPTH     9       /* of a chain of certificates */

/* what is said of an address that is not one, if it can be quoted at all */

#define NGX_HTTP_GATE_REDIS_QUOTED    "invalid address \"%V\": %s"
#define NGX_HTTP_GATE_REDIS_UNQUOTED  "invalid address: %s"


typedef struct {
    ngx_str_t                    password_file;
    ngx_str_t                    sentinel_user;
    ngx_str_t                    sentinel_password_file;
    ngx_str_t                    prefix;
    ngx_str_t                    timeout;
    ngx_str_t                    poll;
    ngx_str_t                    ca_file;
    ngx_str_t                    cert;
    ngx_str_t                    key;
    ngx_str_t                    server_name;
} ngx_http_gate_redis_args_t;


typedef struct {
    const char                  *name;
    size_t                       offset;
} ngx_http_gate_redis_param_t;


typedef struct {
    ngx_gate_redis_conf_t        redis;      /* must be first */
    u_char                      *file;       /* of gate_redis */
    ngx_uint_t                   line;
} ngx_http_gate_redis_conf_t;


static ngx_int_t ngx_http_gate_redis_url(ngx_conf_t *cf,
    ngx_gate_redis_conf_t *rcf, ngx_str_t *value);
static ngx_int_t ngx_http_gate_redis_args(ngx_conf_t *cf,
    ngx_http_gate_redis_args_t *args);
static ngx_int_t ngx_http_gate_redis_apply(ngx_conf_t *cf,
    ngx_gate_redis_conf_t *rcf, ngx_http_gate_redis_args_t *args);
static ngx_int_t ngx_http_gate_redis_prefix(ngx_conf_t *cf,
    ngx_gate_redis_conf_t *rcf, ngx_str_t *prefix);
static ngx_uint_t ngx_http_gate_redis_prefix_valid(ngx_str_t *s);
static ngx_int_t ngx_http_gate_redis_msec(ngx_conf_t *cf, const char *name,
    ngx_str_t *value, ngx_msec_t *msec);
static ngx_int_t ngx_http_gate_redis_login(ngx_conf_t *cf,
    ngx_gate_redis_conf_t *rcf, ngx_http_gate_redis_args_t *args);
static ngx_int_t ngx_http_gate_redis_password(ngx_conf_t *cf,
    ngx_str_t *path, ngx_str_t *password);
static void ngx_http_gate_redis_wipe(void *data);
static ngx_int_t ngx_http_gate_redis_tls(ngx_conf_t *cf,
    ngx_gate_redis_conf_t *rcf, ngx_http_gate_redis_args_t *args);
#if (NGX_SSL)
static ngx_int_t ngx_http_gate_redis_ssl(ngx_conf_t *cf,
    ngx_gate_redis_conf_t *rcf, ngx_http_gate_redis_args_t *args);
#endif
static ngx_int_t ngx_http_gate_redis_host(ngx_conf_t *cf,
    ngx_http_gate_redis_conf_t *conf, gate_url_host_t *host,
    ngx_gate_redis_addrs_t *addrs);


#define NGX_HTTP_GATE_REDIS_PARAM(name)                                       \
    { #name "=", offsetof(ngx_http_gate_redis_args_t, name) }

static ngx_http_gate_redis_param_t  ngx_http_gate_redis_params[] = {
    NGX_HTTP_GATE_REDIS_PARAM(password_file),
    NGX_HTTP_GATE_REDIS_PARAM(sentinel_user),
    NGX_HTTP_GATE_REDIS_PARAM(sentinel_password_file),
    NGX_HTTP_GATE_REDIS_PARAM(prefix),
    NGX_HTTP_GATE_REDIS_PARAM(timeout),
    NGX_HTTP_GATE_REDIS_PARAM(poll),
    NGX_HTTP_GATE_REDIS_PARAM(ca_file),
    NGX_HTTP_GATE_REDIS_PARAM(cert),
    NGX_HTTP_GATE_REDIS_PARAM(key),
    NGX_HTTP_GATE_REDIS_PARAM(server_name),
    { NULL, 0 }
};


char *
ngx_http_gate_redis(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_gate_main_conf_t *gmcf = conf;

    ngx_str_t                   *value;
    ngx_http_gate_redis_args_t   args;
    ngx_http_gate_redis_conf_t  *rcf;

    if (gmcf->node.redis) {
        return "is duplicate";
    }

    rcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_gate_redis_conf_t));
    if (rcf == NULL) {
        return NGX_CONF_ERROR;
    }

    rcf->file = cf->conf_file->file.name.data;
    rcf->line = cf->conf_file->line;

    value = cf->args->elts;

    ngx_memzero(&args, sizeof(ngx_http_gate_redis_args_t));

    if (ngx_http_gate_redis_url(cf, &rcf->redis, &value[1]) != NGX_OK
        || ngx_http_gate_redis_args(cf, &args) != NGX_OK
        || ngx_http_gate_redis_apply(cf, &rcf->redis, &args) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    gmcf->node.redis = &rcf->redis;
    gmcf->node.fleet = &ngx_gate_fleet_ops;
    gmcf->enabled = 1;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_gate_redis_url(ngx_conf_t *cf, ngx_gate_redis_conf_t *rcf,
    ngx_str_t *value)
{
    const char  *why;

    if (gate_url_parse(value->data, value->len, &rcf->url, &why) != 0) {

        /* what stands before an "@" may be a password */

        if (ngx_strlchr(value->data, value->data + value->len, '@')) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               NGX_HTTP_GATE_REDIS_UNQUOTED, why);
        } else {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               NGX_HTTP_GATE_REDIS_QUOTED, value, why);
        }

        return NGX_ERROR;
    }

    rcf->text = *value;
    rcf->user.data = (u_char *) rcf->url.user.s;
    rcf->user.len = rcf->url.user.len;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_redis_args(ngx_conf_t *cf, ngx_http_gate_redis_args_t *args)
{
    size_t                        n;
    ngx_str_t                    *value, *arg;
    ngx_uint_t                    i;
    ngx_http_gate_redis_param_t  *p;

    value = cf->args->elts;

    for (i = 2; i < cf->args->nelts; i++) {

        for (p = ngx_http_gate_redis_params; p->name; p++) {
            n = ngx_strlen(p->name);

            if (value[i].len > n
                && ngx_strncmp(value[i].data, p->name, n) == 0)
            {
                break;
            }
        }

        if (ngx_strncmp(value[i].data, "password=", 9) == 0
            || ngx_strncmp(value[i].data, "sentinel_password=", 18) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "a password does not belong into the "
                               "configuration, use \"password_file=\" or "
                               "\"sentinel_password_file=\"");
            return NGX_ERROR;
        }

        if (p->name == NULL) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter, number %ui; after the "
                               "address there can be \"password_file=\", "
                               "\"sentinel_user=\", "
                               "\"sentinel_password_file=\", \"prefix=\", "
                               "\"timeout=\", \"poll=\", \"ca_file=\", "
                               "\"cert=\", \"key=\" and \"server_name=\", "
                               "each with a value", i);
            return NGX_ERROR;
        }

        arg = (ngx_str_t *) ((u_char *) args + p->offset);

        if (arg->len) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "parameter \"%s\" is duplicate", p->name);
            return NGX_ERROR;
        }

        arg->data = value[i].data + n;
        arg->len = value[i].len - n;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_redis_apply(ngx_conf_t *cf, ngx_gate_redis_conf_t *rcf,
    ngx_http_gate_redis_args_t *args)
{
    rcf->timeout = NGX_GATE_REDIS_TIMEOUT;
    rcf->poll = NGX_GATE_REDIS_POLL;

    if (ngx_http_gate_redis_msec(cf, "timeout", &args->timeout,
                                 &rcf->timeout)
        != NGX_OK
        || ngx_http_gate_redis_msec(cf, "poll", &args->poll, &rcf->poll)
           != NGX_OK
        || ngx_http_gate_redis_prefix(cf, rcf, &args->prefix) != NGX_OK
        || ngx_http_gate_redis_login(cf, rcf, args) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_gate_redis_tls(cf, rcf, args);
}


static ngx_int_t
ngx_http_gate_redis_prefix(ngx_conf_t *cf, ngx_gate_redis_conf_t *rcf,
    ngx_str_t *prefix)
{
    if (prefix->len == 0) {
        ngx_str_set(prefix, "gate:");
    }

    if (!ngx_http_gate_redis_prefix_valid(prefix)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid prefix \"%V\", it must be up to 64 "
                           "characters of A-Z, a-z, 0-9 and \"_.:-\", may "
                           "have one \"{tag}\", and ends with \":\" as in "
                           "\"gate:\" or \"{gate}:\"", prefix);
        return NGX_ERROR;
    }

    rcf->prefix = *prefix;

    rcf->data.len = prefix->len;
    rcf->data.data = ngx_pstrdup(cf->pool, prefix);
    if (rcf->data.data == NULL) {
        return NGX_ERROR;
    }

    rcf->data.data[prefix->len - 1] = '#';

    return NGX_OK;
}


static ngx_uint_t
ngx_http_gate_redis_prefix_valid(ngx_str_t *s)
{
    size_t  i, open, close;
    u_char  c;

    if (s->len < 2 || s->len > NGX_HTTP_GATE_REDIS_PREFIX
        || s->data[s->len - 1] != ':')
    {
        return 0;
    }

    open = 0;
    close = 0;

    for (i = 0; i < s->len; i++) {
        c = s->data[i];

        if (c == '{' && open == 0) {
            open = i + 1;

        } else if (c == '}' && open && close == 0 && i > open) {
            close = i + 1;

        } else if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')
                     || (c >= '0' && c <= '9')
                     || c == '_' || c == '.' || c == ':' || c == '-'))
        {
            return 0;
        }
    }

    return !open == !close;
}


static ngx_int_t
ngx_http_gate_redis_msec(ngx_conf_t *cf, const char *name, ngx_str_t *value,
    ngx_msec_t *msec)
{
    uint64_t  ms;

    if (value->len == 0) {
        return NGX_OK;
    }

    if (gate_parse_msec(value->data, value->len, &ms) != 0
        || ms < 50 || ms > 60000)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid %s \"%V\", it must be a time from 50ms "
                           "to 60s", name, value);
        return NGX_ERROR;
    }

    *msec = (ngx_msec_t) ms;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_redis_login(ngx_conf_t *cf, ngx_gate_redis_conf_t *rcf,
    ngx_http_gate_redis_args_t *args)
{
    ngx_pool_cleanup_t  *cln;

    if (rcf->user.len && args->password_file.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "user \"%V\" needs \"password_file=\"",
                           &rcf->user);
        return NGX_ERROR;
    }

    if (!rcf->url.sentinel
        && (args->sentinel_user.len || args->sentinel_password_file.len))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"sentinel_user=\" and \"sentinel_password_file=\""
                           " need an address that begins with "
                           "\"redis+sentinel://\" or "
                           "\"rediss+sentinel://\"");
        return NGX_ERROR;
    }

    if (args->sentinel_user.len && args->sentinel_password_file.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"sentinel_user=\" needs "
                           "\"sentinel_password_file=\"");
        return NGX_ERROR;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_gate_redis_wipe;
    cln->data = rcf;

    rcf->sentinel_user = args->sentinel_user;
    rcf->password_file = args->password_file;
    rcf->sentinel_password_file = args->sentinel_password_file;
    rcf->gid = ngx_http_gate_secret_gid(cf);

    if (ngx_http_gate_redis_password(cf, &rcf->password_file, &rcf->password)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_gate_redis_password(cf, &rcf->sentinel_password_file,
                                        &rcf->sentinel_password);
}


static ngx_int_t
ngx_http_gate_redis_password(ngx_conf_t *cf, ngx_str_t *path,
    ngx_str_t *password)
{
    if (path->len == 0) {
        return NGX_OK;
    }

    if (ngx_http_gate_secret_read(cf, path, NGX_HTTP_GATE_REDIS_PASSWORD,
                                  password)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_gate_redis_password(password) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "password file \"%V\" must have one line, the "
                           "password, and nothing else", path);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* With the cycle goes what it knew. */

static void
ngx_http_gate_redis_wipe(void *data)
{
    ngx_gate_redis_conf_t *rcf = data;

    if (rcf->password.len) {
        ngx_explicit_memzero(rcf->password.data, rcf->password.len);
    }

    if (rcf->sentinel_password.len) {
        ngx_explicit_memzero(rcf->sentinel_password.data,
                             rcf->sentinel_password.len);
    }
}


static ngx_int_t
ngx_http_gate_redis_tls(ngx_conf_t *cf, ngx_gate_redis_conf_t *rcf,
    ngx_http_gate_redis_args_t *args)
{
    if (!rcf->url.tls) {

        if (args->ca_file.len || args->cert.len || args->key.len
            || args->server_name.len)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"ca_file=\", \"cert=\", \"key=\" and "
                               "\"server_name=\" need an address that begins "
                               "with \"rediss://\" or "
                               "\"rediss+sentinel://\"");
            return NGX_ERROR;
        }

        return NGX_OK;
    }

    if (!args->cert.len != !args->key.len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"cert=\" and \"key=\" need each other");
        return NGX_ERROR;
    }

#if (NGX_SSL)

    return ngx_http_gate_redis_ssl(cf, rcf, args);

#else

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "\"rediss\" needs an nginx that was built with TLS "
                       "(--with-http_ssl_module)");
    return NGX_ERROR;

#endif
}


#if (NGX_SSL)

static ngx_int_t
ngx_http_gate_redis_ssl(ngx_conf_t *cf, ngx_gate_redis_conf_t *rcf,
    ngx_http_gate_redis_args_t *args)
{
    ngx_ssl_t           *ssl;
    ngx_pool_cleanup_t  *cln;

    ssl = ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t));
    if (ssl == NULL) {
        return NGX_ERROR;
    }

    ssl->log = cf->log;

    if (ngx_ssl_create(ssl, NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3, NULL) != NGX_OK)
    {
        return NGX_ERROR;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        ngx_ssl_cleanup_ctx(ssl);
        return NGX_ERROR;
    }

    cln->handler = ngx_ssl_cleanup_ctx;
    cln->data = ssl;

    if (args->cert.len
        && ngx_ssl_certificate(cf, ssl, &args->cert, &args->key, NULL)
           != NGX_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "certificate \"%V\" with key \"%V\" cannot be "
                           "used", &args->cert, &args->key);
        return NGX_ERROR;
    }

    if (args->ca_file.len == 0
        && SSL_CTX_set_default_verify_paths(ssl->ctx) == 0)
    {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                      "SSL_CTX_set_default_verify_paths() failed");
        return NGX_ERROR;
    }

    if (args->ca_file.len
        && ngx_ssl_trusted_certificate(cf, ssl, &args->ca_file,
                                       NGX_HTTP_GATE_REDIS_DEPTH)
           != NGX_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "certificates of \"%V\" cannot be used",
                           &args->ca_file);
        return NGX_ERROR;
    }

    /* after nginx set a callback that lets everything pass */

    SSL_CTX_set_verify(ssl->ctx, SSL_VERIFY_PEER, NULL);

    rcf->ssl = ssl;
    rcf->server_name = args->server_name;

    return NGX_OK;
}

#endif


ngx_int_t
ngx_http_gate_redis_init(ngx_conf_t *cf, ngx_http_gate_main_conf_t *gmcf)
{
    ngx_uint_t                   i;
    ngx_gate_redis_addrs_t      *addrs;
    ngx_gate_redis_conf_t       *rcf;
    ngx_http_core_loc_conf_t    *clcf;
    ngx_http_gate_redis_conf_t  *conf;

    if (gmcf->node.redis == NULL) {
        return NGX_OK;
    }

    conf = gmcf->node.redis;
    rcf = &conf->redis;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    /* merging left an empty one where there is no "resolver" */

    if (clcf->resolver && clcf->resolver->connections.nelts) {
        rcf->resolver = clcf->resolver;
    }

    rcf->resolver_timeout = clcf->resolver_timeout;

    if (rcf->resolver_timeout == NGX_CONF_UNSET_MSEC) {
        rcf->resolver_timeout = NGX_GATE_REDIS_RESOLVE;
    }

    if (ngx_array_init(&rcf->addrs, cf->pool, 4,
                       sizeof(ngx_gate_redis_addrs_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < rcf->url.nhosts; i++) {
        addrs = ngx_array_push(&rcf->addrs);
        if (addrs == NULL) {
            return NGX_ERROR;
        }

        if (ngx_http_gate_redis_host(cf, conf, &rcf->url.host[i], addrs)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (rcf->url.local) {
        addrs = ngx_array_push(&rcf->addrs);
        if (addrs == NULL) {
            return NGX_ERROR;
        }

        return ngx_http_gate_redis_host(cf, conf, NULL, addrs);
    }

    return NGX_OK;
}


/* The addresses of a host, or none where it is left to the resolver. */

static ngx_int_t
ngx_http_gate_redis_host(ngx_conf_t *cf, ngx_http_gate_redis_conf_t *conf,
    gate_url_host_t *host, ngx_gate_redis_addrs_t *addrs)
{
    size_t      len;
    ngx_url_t   u;

    ngx_memzero(&u, sizeof(ngx_url_t));
    ngx_memzero(addrs, sizeof(ngx_gate_redis_addrs_t));

    len = host ? host->name.len + sizeof("[]:65535")
               : conf->redis.url.path.len + sizeof("unix:");

    u.url.data = ngx_pnalloc(cf->pool, len);
    if (u.url.data == NULL) {
        return NGX_ERROR;
    }

    if (host) {
        u.url.len = ngx_sprintf(u.url.data, "%s%*s%s:%ui",
                                host->ipv6 ? "[" : "", host->name.len,
                                host->name.s, host->ipv6 ? "]" : "",
                                (ngx_uint_t) host->port)
                    - u.url.data;

    } else {
        u.url.len = ngx_sprintf(u.url.data, "unix:%*s%Z",
                                conf->redis.url.path.len,
                                conf->redis.url.path.s)
                    - u.url.data - 1;
    }

    u.no_resolve = (conf->redis.resolver != NULL);

    if (ngx_parse_url(cf->pool, &u) != NGX_OK) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "%s in address \"%V\" of \"gate_redis\"%s in %s:%ui",
                      u.err ? u.err : "no memory", &u.url,
                      (host && !host->ipv6 && conf->redis.resolver == NULL)
                      ? "; with \"resolver\" in the http block names are "
                        "looked up while nginx runs" : "",
                      conf->file, conf->line);
        return NGX_ERROR;
    }

    addrs->addr = u.addrs;
    addrs->naddrs = u.naddrs;

    return NGX_OK;
}

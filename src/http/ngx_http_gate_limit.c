
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gate_limit zone=per_key cost=$cost
 *
 * A zone may be used in the file before it is defined: whoever comes first
 * makes it, and in the end all of them must have been defined.
 */


#include "ngx_http_gate_limit.h"


static ngx_int_t ngx_http_gate_limit_use(ngx_conf_t *cf,
    ngx_http_gate_limit_t *limit, ngx_str_t *arg);
static ngx_int_t ngx_http_gate_limit_use_cost(ngx_conf_t *cf,
    ngx_http_gate_limit_t *limit, ngx_str_t *value);
static ngx_int_t ngx_http_gate_limit_check(ngx_conf_t *cf,
    ngx_http_gate_main_conf_t *gmcf, ngx_gate_limit_conf_t *lc);
static ngx_uint_t ngx_http_gate_limit_asked(ngx_conf_t *cf);
static ngx_int_t ngx_http_gate_limit_check_uses(ngx_conf_t *cf,
    ngx_http_gate_main_conf_t *gmcf);
static ngx_int_t ngx_http_gate_limit_sync(ngx_conf_t *cf,
    ngx_http_gate_main_conf_t *gmcf, ngx_gate_limit_conf_t *lc);


ngx_gate_limit_conf_t *
ngx_http_gate_limit_get(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_uint_t                    i;
    ngx_gate_limit_conf_t        *lc, **lcp;
    ngx_http_gate_main_conf_t    *gmcf;
    ngx_http_gate_limit_zone_t   *zone;

    if (!gate_name_valid(name->data, name->len)
        || ngx_strcmp(name->data, "off") == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name of a limit zone \"%V\", it must be "
                           "of up to 64 letters, digits, \"_\", \".\" and "
                           "\"-\", other than \"off\"", name);
        return NULL;
    }

    gmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_gate_module);

    lcp = gmcf->node.limits.elts;

    for (i = 0; i < gmcf->node.limits.nelts; i++) {

        if (lcp[i]->name.len == name->len
            && ngx_strncmp(lcp[i]->name.data, name->data, name->len) == 0)
        {
            return lcp[i];
        }
    }

    lc = ngx_pcalloc(cf->pool, sizeof(ngx_gate_limit_conf_t));
    zone = ngx_pcalloc(cf->pool, sizeof(ngx_http_gate_limit_zone_t));
    lcp = ngx_array_push(&gmcf->node.limits);

    if (lc == NULL || zone == NULL || lcp == NULL) {
        return NULL;
    }

    *lcp = lc;

    zone->burst = -1;
    zone->file = cf->conf_file->file.name.data;
    zone->line = cf->conf_file->line;

    lc->name = *name;
    lc->sync = NGX_CONF_UNSET_UINT;
    lc->msec = NGX_GATE_LIMIT_SYNC_MSEC;
    lc->keys = NGX_GATE_LIMIT_KEYS;
    lc->index = i;
    lc->node = &gmcf->node;
    lc->http = zone;

    return lc;
}


ngx_int_t
ngx_http_gate_limit_word(ngx_str_t *value, const char **words)
{
    ngx_int_t  i;

    for (i = 0; words[i]; i++) {

        if (ngx_strcmp(value->data, words[i]) == 0) {
            return i;
        }
    }

    return NGX_ERROR;
}


char *
ngx_http_gate_limit(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_gate_loc_conf_t *glcf = conf;

    ngx_str_t                  *value;
    ngx_uint_t                  i, n;
    ngx_http_gate_limit_t      *limit, *limits, **use;
    ngx_http_gate_main_conf_t  *gmcf;

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {

        if (cf->args->nelts > 2 || glcf->limits != NGX_CONF_UNSET_PTR) {
            return "\"off\" must be the only \"gate_limit\" there";
        }

        glcf->limits = NULL;

        return NGX_CONF_OK;
    }

    if (glcf->limits == NULL) {
        return "\"off\" must be the only \"gate_limit\" there";
    }

    /* room for all of them: they never move */

    if (glcf->limits == NGX_CONF_UNSET_PTR) {
        glcf->limits = ngx_array_create(cf->pool, NGX_HTTP_GATE_LIMITS,
                                        sizeof(ngx_http_gate_limit_t));
        if (glcf->limits == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    n = glcf->limits->nelts;

    if (n == NGX_HTTP_GATE_LIMITS) {
        return "is one too many, there may be up to 8 at one place";
    }

    limit = ngx_array_push(glcf->limits);
    if (limit == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(limit, sizeof(ngx_http_gate_limit_t));

    limit->units = 1;
    limit->status = NGX_HTTP_TOO_MANY_REQUESTS;
    limit->headers = NGX_HTTP_GATE_HEADERS_IETF;
    limit->file = cf->conf_file->file.name.data;
    limit->line = cf->conf_file->line;

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_http_gate_limit_use(cf, limit, &value[i]) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    if (limit->lc == NULL) {
        return "needs \"zone=\", the name of a \"gate_limit_zone\"";
    }

    limits = glcf->limits->elts;

    for (i = 0; i < n; i++) {

        if (limits[i].lc == limit->lc) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "limit zone \"%V\" is used here already",
                               &limit->lc->name);
            return NGX_CONF_ERROR;
        }
    }

    gmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_gate_module);

    use = ngx_array_push(&gmcf->limits);
    if (use == NULL) {
        return NGX_CONF_ERROR;
    }

    *use = limit;

    gmcf->enabled = 1;

    return NGX_CONF_OK;
}


/* One parameter of gate_limit. */

static ngx_int_t
ngx_http_gate_limit_use(ngx_conf_t *cf, ngx_http_gate_limit_t *limit,
    ngx_str_t *arg)
{
    ngx_int_t                    n;
    ngx_str_t                    value;
    ngx_http_gate_limit_zone_t  *zone;

    /* by NGX_HTTP_GATE_HEADERS_*, a bit each */

    static const char  *words[] = { "off", "ietf", "legacy", "both", NULL };

    if (ngx_strncmp(arg->data, "zone=", 5) == 0) {
        value.data = arg->data + 5;
        value.len = arg->len - 5;

        limit->lc = ngx_http_gate_limit_get(cf, &value);

        if (limit->lc == NULL) {
            return NGX_ERROR;
        }

        zone = limit->lc->http;
        zone->used = 1;

        return NGX_OK;
    }

    if (ngx_strncmp(arg->data, "cost=", 5) == 0) {
        value.data = arg->data + 5;
        value.len = arg->len - 5;

        return ngx_http_gate_limit_use_cost(cf, limit, &value);
    }

    if (ngx_strncmp(arg->data, "status=", 7) == 0) {
        n = ngx_atoi(arg->data + 7, arg->len - 7);

        if (n < 400 || n > 599) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\", it must be a "
                               "status from 400 to 599", arg);
            return NGX_ERROR;
        }

        limit->status = n;

        return NGX_OK;
    }

    if (ngx_strncmp(arg->data, "headers=", 8) == 0) {
        value.data = arg->data + 8;
        value.len = arg->len - 8;

        n = ngx_http_gate_limit_word(&value, words);

        if (n == NGX_ERROR) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\", it must be "
                               "\"ietf\", \"legacy\", \"both\" or \"off\"",
                               arg);
            return NGX_ERROR;
        }

        limit->headers = n;

        return NGX_OK;
    }

    if (ngx_strcmp(arg->data, "observe") == 0) {
        limit->observe = 1;
        return NGX_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\", allowed are \"zone=\", "
                       "\"cost=\", \"status=\", \"headers=\" and "
                       "\"observe\", or \"off\" alone", arg);

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_gate_limit_use_cost(ngx_conf_t *cf, ngx_http_gate_limit_t *limit,
    ngx_str_t *value)
{
    uint64_t  n;

    if (value->len
        && ngx_http_gate_fetch_compile(cf, &limit->cost, value) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (limit->cost.value && limit->cost.value->lengths) {
        return NGX_OK;
    }

    limit->cost.value = NULL;

    if (gate_parse_uint(value->data, value->len, GATE_RATE_COUNT_MAX, &n) != 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"cost=%V\", it must be a "
                           "number from 0 to 10000000, or a value with "
                           "variables", value);
        return NGX_ERROR;
    }

    limit->units = (int64_t) n;

    return NGX_OK;
}


void
ngx_http_gate_limit_merge(ngx_http_gate_loc_conf_t *prev,
    ngx_http_gate_loc_conf_t *conf)
{
    if (conf->limits != NGX_CONF_UNSET_PTR) {
        return;
    }

    /* our own endpoints are limited only where it is said there */

    conf->limits = (conf->endpoint || prev->limits == NGX_CONF_UNSET_PTR)
                   ? NULL : prev->limits;
}


ngx_int_t
ngx_http_gate_limit_init(ngx_conf_t *cf, ngx_http_gate_main_conf_t *gmcf)
{
    ngx_uint_t                    i;
    ngx_gate_limit_conf_t       **lcp;
    ngx_http_gate_limit_zone_t   *zone;

    lcp = gmcf->node.limits.elts;

    for (i = 0; i < gmcf->node.limits.nelts; i++) {
        zone = lcp[i]->http;

        if (!zone->defined) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "limit zone \"%V\" is used, but no "
                          "\"gate_limit_zone\" defines it, in %s:%ui",
                          &lcp[i]->name, zone->file, zone->line);
            return NGX_ERROR;
        }

        if (ngx_http_gate_limit_check(cf, gmcf, lcp[i]) != NGX_OK) {
            return NGX_ERROR;
        }

        ngx_http_gate_fetch_init(cf, &zone->key);
        ngx_http_gate_fetch_init(cf, &zone->rate);

        if (ngx_gate_limit_add(cf, lcp[i], &ngx_http_gate_module) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return ngx_http_gate_limit_check_uses(cf, gmcf);
}


/* Whether some value has more of a limit than whether it passed. */

static ngx_uint_t
ngx_http_gate_limit_asked(ngx_conf_t *cf)
{
    ngx_str_t                  *name;
    ngx_uint_t                  i;
    ngx_http_variable_t        *v;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    v = cmcf->variables.elts;

    for (i = 0; i < cmcf->variables.nelts; i++) {
        name = &v[i].name;

        if ((name->len == sizeof("gate_limit_remaining") - 1
             && ngx_strncmp(name->data, "gate_limit_remaining", name->len)
                == 0)
            || (name->len == sizeof("gate_limit_key_hash") - 1
                && ngx_strncmp(name->data, "gate_limit_key_hash", name->len)
                   == 0))
        {
            return 1;
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_gate_limit_check_uses(ngx_conf_t *cf,
    ngx_http_gate_main_conf_t *gmcf)
{
    ngx_int_t                     index;
    ngx_str_t                     name;
    ngx_uint_t                    i, asked;
    ngx_http_gate_limit_t       **use;
    ngx_http_gate_limit_zone_t   *zone;

    if (gmcf->limits.nelts == 0) {
        return NGX_OK;
    }

    asked = ngx_http_gate_limit_asked(cf);

    ngx_str_set(&name, "gate_limit_status");

    index = ngx_http_get_variable_index(cf, &name);
    if (index == NGX_ERROR) {
        return NGX_ERROR;
    }

    use = gmcf->limits.elts;

    for (i = 0; i < gmcf->limits.nelts; i++) {
        zone = use[i]->lc->http;
        use[i]->index = index;
        gmcf->told |= (use[i]->headers != 0);

        if (zone->rate.value || use[i]->cost.value) {
            continue;
        }

        use[i]->simple = !use[i]->observe
                         && use[i]->lc->sync != NGX_GATE_SYNC_EXACT;

        use[i]->bare = use[i]->simple && use[i]->headers == 0 && !asked;

        /* with Redis somebody may have a higher limit than that here */

        if (gmcf->node.redis == NULL
            && use[i]->units > use[i]->lc->policy.rate.capacity)
        {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"cost=%L\" is more than all that limit zone "
                          "\"%V\" allows at once, %L (its burst and one), "
                          "in %s:%ui", use[i]->units, &use[i]->lc->name,
                          use[i]->lc->policy.rate.capacity, use[i]->file,
                          use[i]->line);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_limit_check(ngx_conf_t *cf, ngx_http_gate_main_conf_t *gmcf,
    ngx_gate_limit_conf_t *lc)
{
    ngx_http_gate_limit_zone_t  *zone;

    zone = lc->http;

#if !(GATE_LIMIT_SUPPORTED)

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "limit zone \"%V\": limits need a processor that swaps 16 "
                  "bytes at once, x86-64 or aarch64, in %s:%ui",
                  &lc->name, zone->file, zone->line);

    return NGX_ERROR;

#endif

    if (!zone->used) {
        ngx_log_error(NGX_LOG_NOTICE, cf->log, 0,
                      "limit zone \"%V\" is not used by any \"gate_limit\", "
                      "in %s:%ui", &lc->name, zone->file, zone->line);
    }

    return ngx_http_gate_limit_sync(cf, gmcf, lc);
}


/* It is only now that we know whether there is a Redis. */

static ngx_int_t
ngx_http_gate_limit_sync(ngx_conf_t *cf, ngx_http_gate_main_conf_t *gmcf,
    ngx_gate_limit_conf_t *lc)
{
    ngx_http_gate_limit_zone_t  *zone;

    zone = lc->http;

    if (lc->sync == NGX_CONF_UNSET_UINT) {
        lc->sync = gmcf->node.redis ? NGX_GATE_SYNC_ASYNC : NGX_GATE_SYNC_OFF;

    } else if (lc->sync != NGX_GATE_SYNC_OFF && gmcf->node.redis == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "limit zone \"%V\" has \"sync=\", but there is no "
                      "\"gate_redis\": without one only \"sync=off\" is "
                      "allowed, in %s:%ui",
                      &lc->name, zone->file, zone->line);
        return NGX_ERROR;
    }

    if (lc->timeout && lc->sync != NGX_GATE_SYNC_EXACT) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "limit zone \"%V\" has \"timeout=\", which is only for "
                      "\"sync=exact\", in %s:%ui",
                      &lc->name, zone->file, zone->line);
        return NGX_ERROR;
    }

    if (lc->timeout == 0) {
        lc->timeout = NGX_GATE_ASK_TIMEOUT;
    }

    return NGX_OK;
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gate_limit_zone per_key key=$http_x_api_key rate=15r/10s burst=20
 * gate_limit zone=per_key cost=$cost
 *
 * A zone may be used in the file before it is defined: whoever comes first
 * makes it, and in the end all of them must have been defined.
 */


#include "ngx_http_gate_limit.h"


#define NGX_HTTP_GATE_SYNC_MIN      10
#define NGX_HTTP_GATE_SYNC_MAX      10000
#define NGX_HTTP_GATE_TIMEOUT_MAX   10000


/* gate_limit_zone as far as it has been read */

typedef struct {
    ngx_gate_limit_conf_t       *lc;
    ngx_http_gate_limit_zone_t  *zone;
    ngx_str_t                    key;
    ngx_str_t                    rate;
    ngx_str_t                    fallback;    /* default= */
    ngx_uint_t                   seen;        /* parameters, a bit each */
} ngx_http_gate_limit_args_t;

typedef ngx_int_t (*ngx_http_gate_limit_param_pt)(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value);

typedef struct {
    ngx_str_t                     name;       /* "key=" */
    ngx_http_gate_limit_param_pt  handler;
    const char                   *allowed;
} ngx_http_gate_limit_param_t;


static ngx_gate_limit_conf_t *ngx_http_gate_limit_get(ngx_conf_t *cf,
    ngx_str_t *name);
static ngx_int_t ngx_http_gate_limit_param(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *arg);
static ngx_int_t ngx_http_gate_limit_rate(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args);
static ngx_int_t ngx_http_gate_limit_word(ngx_str_t *value,
    const char **words);

static ngx_int_t ngx_http_gate_limit_set_key(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value);
static ngx_int_t ngx_http_gate_limit_set_rate(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value);
static ngx_int_t ngx_http_gate_limit_set_default(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value);
static ngx_int_t ngx_http_gate_limit_set_burst(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value);
static ngx_int_t ngx_http_gate_limit_set_sync(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value);
static ngx_int_t ngx_http_gate_limit_set_timeout(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value);
static ngx_int_t ngx_http_gate_limit_set_loss(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value);
static ngx_int_t ngx_http_gate_limit_set_keys(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value);
static ngx_int_t ngx_http_gate_limit_set_full(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value);
static ngx_int_t ngx_http_gate_limit_set_empty(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value);

static ngx_int_t ngx_http_gate_limit_use(ngx_conf_t *cf,
    ngx_http_gate_limit_t *limit, ngx_str_t *arg);
static ngx_int_t ngx_http_gate_limit_use_cost(ngx_conf_t *cf,
    ngx_http_gate_limit_t *limit, ngx_str_t *value);
static ngx_int_t ngx_http_gate_limit_check(ngx_conf_t *cf,
    ngx_http_gate_main_conf_t *gmcf, ngx_gate_limit_conf_t *lc);
static ngx_int_t ngx_http_gate_limit_check_uses(ngx_conf_t *cf,
    ngx_http_gate_main_conf_t *gmcf);
static ngx_int_t ngx_http_gate_limit_sync(ngx_conf_t *cf,
    ngx_http_gate_main_conf_t *gmcf, ngx_gate_limit_conf_t *lc);


static ngx_http_gate_limit_param_t  ngx_http_gate_limit_params[] = {

    { ngx_string("key="), ngx_http_gate_limit_set_key,
      "a value with variables, as in \"key=$http_x_api_key\"" },

    { ngx_string("rate="), ngx_http_gate_limit_set_rate,
      "requests a period, as in \"rate=15r/10s\", \"100r/s\", \"60r/m\", "
      "\"5000r/h\" or \"10r/d\", or a variable" },

    { ngx_string("default="), ngx_http_gate_limit_set_default,
      "a rate, as in \"default=15r/10s\"" },

    { ngx_string("burst="), ngx_http_gate_limit_set_burst,
      "a number from 0 to 9999999" },

    { ngx_string("sync="), ngx_http_gate_limit_set_sync,
      "\"exact\", \"off\", or a time from 10ms to 10s" },

    { ngx_string("timeout="), ngx_http_gate_limit_set_timeout,
      "a time from 1ms to 10s" },

    { ngx_string("on_redis_loss="), ngx_http_gate_limit_set_loss,
      "\"share\", \"local\", \"deny\" or \"allow\"" },

    { ngx_string("max_keys="), ngx_http_gate_limit_set_keys,
      "a number from 64 to 268435456" },

    { ngx_string("on_full="), ngx_http_gate_limit_set_full,
      "\"admit\" or \"refuse\"" },

    { ngx_string("on_empty="), ngx_http_gate_limit_set_empty,
      "\"skip\", \"limit\" or \"refuse\"" },

    { ngx_null_string, NULL, NULL }
};


char *
ngx_http_gate_limit_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_gate_main_conf_t *gmcf = conf;

    ngx_str_t                   *value;
    ngx_uint_t                   i;
    ngx_http_gate_limit_args_t   args;

    value = cf->args->elts;

    ngx_memzero(&args, sizeof(ngx_http_gate_limit_args_t));

    args.lc = ngx_http_gate_limit_get(cf, &value[1]);
    if (args.lc == NULL) {
        return NGX_CONF_ERROR;
    }

    args.zone = args.lc->http;

    if (args.zone->defined) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "limit zone \"%V\" is defined already", &value[1]);
        return NGX_CONF_ERROR;
    }

    args.zone->defined = 1;
    args.zone->file = cf->conf_file->file.name.data;
    args.zone->line = cf->conf_file->line;

    gmcf->enabled = 1;

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_http_gate_limit_param(cf, &args, &value[i]) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    if (args.key.len == 0) {
        return "needs \"key=\", as in \"key=$http_x_api_key\"";
    }

    if (args.rate.len == 0) {
        return "needs \"rate=\", as in \"rate=15r/10s\"";
    }

    return (ngx_http_gate_limit_rate(cf, &args) == NGX_OK) ? NGX_CONF_OK
                                                           : NGX_CONF_ERROR;
}


/* The zone of that name, made when nobody named it before. */

static ngx_gate_limit_conf_t *
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


static ngx_int_t
ngx_http_gate_limit_param(ngx_conf_t *cf, ngx_http_gate_limit_args_t *args,
    ngx_str_t *arg)
{
    ngx_int_t                     rc;
    ngx_str_t                     value;
    ngx_uint_t                    i;
    ngx_http_gate_limit_param_t  *p;

    for (i = 0; ngx_http_gate_limit_params[i].name.len; i++) {
        p = &ngx_http_gate_limit_params[i];

        if (arg->len < p->name.len
            || ngx_strncmp(arg->data, p->name.data, p->name.len) != 0)
        {
            continue;
        }

        if (args->seen & (1 << i)) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate parameter \"%V\"", arg);
            return NGX_ERROR;
        }

        args->seen |= 1 << i;

        value.data = arg->data + p->name.len;
        value.len = arg->len - p->name.len;

        rc = value.len ? p->handler(cf, args, &value) : NGX_DECLINED;

        if (rc == NGX_DECLINED) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\", it must be %s",
                               arg, p->allowed);
            return NGX_ERROR;
        }

        return rc;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\", allowed are \"key=\", "
                       "\"rate=\", \"default=\", \"burst=\", \"sync=\", "
                       "\"timeout=\", \"on_redis_loss=\", \"max_keys=\", "
                       "\"on_full=\" and \"on_empty=\"", arg);

    return NGX_ERROR;
}


/* What follows from rate=, default= and burst= together. */

static ngx_int_t
ngx_http_gate_limit_rate(ngx_conf_t *cf, ngx_http_gate_limit_args_t *args)
{
    int64_t                      period;
    uint64_t                     count;
    ngx_str_t                   *rate;
    const char                  *why;
    ngx_http_gate_limit_zone_t  *zone;

    zone = args->zone;

    if (ngx_http_gate_fetch_compile(cf, &zone->rate, &args->rate) != NGX_OK) {
        return NGX_ERROR;
    }

    if (zone->rate.value->lengths == NULL) {

        if (args->fallback.len) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"default=\" is for a \"rate=\" with "
                               "variables, \"rate=%V\" has none",
                               &args->rate);
            return NGX_ERROR;
        }

        zone->rate.value = NULL;
        rate = &args->rate;

    } else if (args->fallback.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"rate=%V\" needs \"default=\", the rate of "
                           "requests for which the variable is empty, as in "
                           "\"default=15r/10s\"", &args->rate);
        return NGX_ERROR;

    } else {
        rate = &args->fallback;

        zone->tiers = ngx_pcalloc(cf->pool, NGX_HTTP_GATE_TIERS
                                            * sizeof(ngx_http_gate_tier_t));
        if (zone->tiers == NULL) {
            return NGX_ERROR;
        }
    }

    if (gate_rate_parse(rate->data, rate->len, &count, &period, &why) != 0
        || gate_rate_policy(count, period, zone->burst, &args->lc->policy,
                            &why)
           != 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "rate \"%V\" %s",
                           rate, why);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* The number of that word in the list, or NGX_ERROR. */

static ngx_int_t
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


static ngx_int_t
ngx_http_gate_limit_set_key(ngx_conf_t *cf, ngx_http_gate_limit_args_t *args,
    ngx_str_t *value)
{
    args->key = *value;

    return ngx_http_gate_fetch_compile(cf, &args->zone->key, value);
}


static ngx_int_t
ngx_http_gate_limit_set_rate(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value)
{
    args->rate = *value;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_limit_set_default(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value)
{
    args->fallback = *value;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_limit_set_burst(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value)
{
    uint64_t  n;

    if (gate_parse_uint(value->data, value->len, GATE_RATE_COUNT_MAX - 1, &n)
        != 0)
    {
        return NGX_DECLINED;
    }

    args->zone->burst = (int64_t) n;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_limit_set_sync(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value)
{
    uint64_t  ms;

    if (ngx_strcmp(value->data, "off") == 0) {
        args->lc->sync = NGX_GATE_SYNC_OFF;
        return NGX_OK;
    }

    if (ngx_strcmp(value->data, "exact") == 0) {
        args->lc->sync = NGX_GATE_SYNC_EXACT;
        return NGX_OK;
    }

    if (gate_parse_msec(value->data, value->len, &ms) != 0
        || ms < NGX_HTTP_GATE_SYNC_MIN || ms > NGX_HTTP_GATE_SYNC_MAX)
    {
        return NGX_DECLINED;
    }

    args->lc->sync = NGX_GATE_SYNC_ASYNC;
    args->lc->msec = (ngx_msec_t) ms;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_limit_set_timeout(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value)
{
    uint64_t  ms;

    if (gate_parse_msec(value->data, value->len, &ms) != 0
        || ms == 0 || ms > NGX_HTTP_GATE_TIMEOUT_MAX)
    {
        return NGX_DECLINED;
    }

    args->lc->timeout = (ngx_msec_t) ms;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_limit_set_loss(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value)
{
    ngx_int_t  n;

    /* by NGX_GATE_LOSS_* */

    static const char  *words[] = { "share", "local", "deny", "allow", NULL };

    n = ngx_http_gate_limit_word(value, words);

    if (n == NGX_ERROR) {
        return NGX_DECLINED;
    }

    args->lc->loss = n;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_limit_set_keys(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value)
{
    uint64_t  n;

    if (gate_parse_uint(value->data, value->len, GATE_LIMIT_KEYS_MAX, &n) != 0
        || n < GATE_LIMIT_KEYS_MIN)
    {
        return NGX_DECLINED;
    }

    args->lc->keys = n;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_limit_set_full(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value)
{
    ngx_int_t  n;

    static const char  *words[] = { "admit", "refuse", NULL };

    n = ngx_http_gate_limit_word(value, words);

    if (n == NGX_ERROR) {
        return NGX_DECLINED;
    }

    args->lc->refuse = n;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_limit_set_empty(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value)
{
    ngx_int_t  n;

    /* by NGX_HTTP_GATE_EMPTY_* */

    static const char  *words[] = { "skip", "limit", "refuse", NULL };

    n = ngx_http_gate_limit_word(value, words);

    if (n == NGX_ERROR) {
        return NGX_DECLINED;
    }

    args->zone->on_empty = n;

    return NGX_OK;
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


static ngx_int_t
ngx_http_gate_limit_check_uses(ngx_conf_t *cf,
    ngx_http_gate_main_conf_t *gmcf)
{
    ngx_uint_t                    i;
    ngx_http_gate_limit_t       **use;
    ngx_http_gate_limit_zone_t   *zone;

    use = gmcf->limits.elts;

    for (i = 0; i < gmcf->limits.nelts; i++) {
        zone = use[i]->lc->http;

        if (zone->rate.value || use[i]->cost.value) {
            continue;
        }

        use[i]->simple = !use[i]->observe
                         && use[i]->lc->sync != NGX_GATE_SYNC_EXACT;

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

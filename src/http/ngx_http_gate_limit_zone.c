
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gate_limit_zone per_key key=$http_x_api_key rate=15r/10s burst=20
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


static ngx_int_t ngx_http_gate_limit_param(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *arg);
static ngx_int_t ngx_http_gate_limit_rate(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args);

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
static ngx_int_t ngx_http_gate_limit_set_word(ngx_str_t *value,
    const char **words, ngx_uint_t *to);
static ngx_int_t ngx_http_gate_limit_set_loss(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value);
static ngx_int_t ngx_http_gate_limit_set_keys(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value);
static ngx_int_t ngx_http_gate_limit_set_full(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value);
static ngx_int_t ngx_http_gate_limit_set_empty(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value);


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


/* The number of one of these words. */

static ngx_int_t
ngx_http_gate_limit_set_word(ngx_str_t *value, const char **words,
    ngx_uint_t *to)
{
    ngx_int_t  n;

    n = ngx_http_gate_limit_word(value, words);

    if (n == NGX_ERROR) {
        return NGX_DECLINED;
    }

    *to = n;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_limit_set_loss(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value)
{
    /* by NGX_GATE_LOSS_* */

    static const char  *words[] = { "share", "local", "deny", "allow", NULL };

    return ngx_http_gate_limit_set_word(value, words, &args->lc->loss);
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
    static const char  *words[] = { "admit", "refuse", NULL };

    return ngx_http_gate_limit_set_word(value, words, &args->lc->refuse);
}


static ngx_int_t
ngx_http_gate_limit_set_empty(ngx_conf_t *cf,
    ngx_http_gate_limit_args_t *args, ngx_str_t *value)
{
    /* by NGX_HTTP_GATE_EMPTY_* */

    static const char  *words[] = { "skip", "limit", "refuse", NULL };

    return ngx_http_gate_limit_set_word(value, words, &args->zone->on_empty);
}

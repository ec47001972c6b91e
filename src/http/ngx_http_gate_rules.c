
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gate_breach error_rate=5%       [window=10m] [min=100] [hold=0s] [exact]
 *             p50=|p95=|p99=TIME
 *             error_ratio=N       against stable
 *             latency_ratio=N     against stable  [quantile=p95]
 */


#include "ngx_http_gate.h"

#include "core/gate_siphash.h"


#define NGX_HTTP_GATE_WINDOW      (10 * 60 * 1000)
#define NGX_HTTP_GATE_WINDOW_MIN  1000
#define NGX_HTTP_GATE_WINDOW_MAX  (24 * 60 * 60 * 1000)
#define NGX_HTTP_GATE_MIN         100
#define NGX_HTTP_GATE_MIN_MAX     1000000000


static char *ngx_http_gate_rule_kind(ngx_conf_t *cf, ngx_gate_rule_t *rule,
    ngx_str_t *value);
static char *ngx_http_gate_rule_param(ngx_conf_t *cf, ngx_gate_rule_t *rule,
    ngx_str_t *value);
static double ngx_http_gate_rule_quantile(ngx_str_t *name);
static ngx_int_t ngx_http_gate_rule_text(ngx_conf_t *cf,
    ngx_gate_rule_t *rule);


char *
ngx_http_gate_breach(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_gate_srv_conf_t *gscf = conf;

    char                     *rv;
    double                    bound;
    ngx_str_t                *value;
    ngx_uint_t                i;
    ngx_gate_rule_t          *rule;
    ngx_gate_rollout_conf_t  *rc;

    rc = ngx_http_gate_rollout(cf, gscf);
    if (rc == NULL) {
        return NGX_CONF_ERROR;
    }

    if (rc->nrules == NGX_GATE_RULES) {
        return "is one too many, an upstream has up to 8";
    }

    rule = &rc->rules[rc->nrules];

    rule->window = NGX_HTTP_GATE_WINDOW;
    rule->min = NGX_HTTP_GATE_MIN;
    rule->q = 0.95;

    value = cf->args->elts;

    rv = ngx_http_gate_rule_kind(cf, rule, &value[1]);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    for (i = 2; i < cf->args->nelts; i++) {
        rv = ngx_http_gate_rule_param(cf, rule, &value[i]);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    bound = rule->bound;

    if (rule->type == NGX_GATE_RULE_QUANTILE) {
        rule->bound = bound = 1.0 - rule->q;
        rc->nquantiles++;

    } else if (rule->type == NGX_GATE_RULE_LATENCY_RATIO) {
        bound = 1.0 - rule->q;

        if (rc->nhists == NGX_GATE_RATIO_RULES) {
            return "with latency_ratio is one too many, "
                   "an upstream has up to 2";
        }

        rule->hists = rc->nhists++;
    }

    if (rule->type != NGX_GATE_RULE_ERROR_RATIO
        && gate_test_init(&rule->test, bound, NGX_GATE_START_ALPHA) != 0)
    {
        return "has a bound that nothing can exceed";
    }

    if (ngx_http_gate_rule_text(cf, rule) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    rc->nrules++;

    return NGX_CONF_OK;
}


static char *
ngx_http_gate_rule_kind(ngx_conf_t *cf, ngx_gate_rule_t *rule,
    ngx_str_t *value)
{
    u_char     *eq;
    uint64_t    ms;
    ngx_str_t   name, v;

    eq = (u_char *) ngx_strchr(value->data, '=');

    if (eq == NULL) {
        goto invalid;
    }

    name.data = value->data;
    name.len = eq - value->data;
    v.data = eq + 1;
    v.len = value->len - name.len - 1;

    if (ngx_strncmp(name.data, "error_rate=", 11) == 0) {
        rule->type = NGX_GATE_RULE_ERROR_RATE;

        if (gate_parse_fraction(v.data, v.len, &rule->bound) != 0
            || rule->bound >= 1.0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid error rate \"%V\", it must be a "
                               "percentage below 100%%, as in \"5%%\"", &v);
            return NGX_CONF_ERROR;
        }

        /* "more than none" */

        rule->bound = ngx_max(rule->bound, GATE_TEST_FLOOR);

        return NGX_CONF_OK;
    }

    if (ngx_strncmp(name.data, "error_ratio=", 12) == 0
        || ngx_strncmp(name.data, "latency_ratio=", 14) == 0)
    {
        rule->type = (name.data[0] == 'e') ? NGX_GATE_RULE_ERROR_RATIO
                                           : NGX_GATE_RULE_LATENCY_RATIO;

        if (gate_parse_ratio(v.data, v.len, &rule->bound) != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid ratio \"%V\", it must be a number up "
                               "to 1000, as in \"1.5\"", &v);
            return NGX_CONF_ERROR;
        }

        return NGX_CONF_OK;
    }

    rule->q = ngx_http_gate_rule_quantile(&name);

    if (rule->q == 0) {
        goto invalid;
    }

    rule->type = NGX_GATE_RULE_QUANTILE;

    if (gate_parse_msec(v.data, v.len, &ms) != 0 || ms == 0
        || ms > NGX_HTTP_GATE_WINDOW_MAX)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid time \"%V\", it must be as in \"500ms\" "
                           "or \"2s\"", &v);
        return NGX_CONF_ERROR;
    }

    rule->threshold = (ngx_msec_t) ms;

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid rule \"%V\", it must begin with "
                       "\"error_rate=\", \"p50=\", \"p95=\", \"p99=\", "
                       "\"error_ratio=\" or \"latency_ratio=\"", value);

    return NGX_CONF_ERROR;
}


static double
ngx_http_gate_rule_quantile(ngx_str_t *name)
{
    if (name->len != 3 || name->data[0] != 'p') {
        return 0;
    }

    if (ngx_strncmp(name->data, "p50", 3) == 0) {
        return 0.50;
    }

    if (ngx_strncmp(name->data, "p95", 3) == 0) {
        return 0.95;
    }

    if (ngx_strncmp(name->data, "p99", 3) == 0) {
        return 0.99;
    }

    return 0;
}


static char *
ngx_http_gate_rule_param(ngx_conf_t *cf, ngx_gate_rule_t *rule,
    ngx_str_t *value)
{
    uint64_t   n;
    ngx_str_t  v;

    if (ngx_strncmp(value->data, "window=", 7) == 0) {

        if (gate_parse_msec(value->data + 7, value->len - 7, &n) != 0
            || n < NGX_HTTP_GATE_WINDOW_MIN || n > NGX_HTTP_GATE_WINDOW_MAX)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid \"%V\", a window is from 1s to 1d",
                               value);
            return NGX_CONF_ERROR;
        }

        rule->window = (ngx_msec_t) n;

    } else if (ngx_strncmp(value->data, "hold=", 5) == 0) {

        if (gate_parse_msec(value->data + 5, value->len - 5, &n) != 0
            || n > NGX_HTTP_GATE_WINDOW_MAX)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid \"%V\", a hold is a time up to 1d",
                               value);
            return NGX_CONF_ERROR;
        }

        rule->hold = (ngx_msec_t) n;

    } else if (ngx_strncmp(value->data, "min=", 4) == 0) {

        if (gate_parse_uint(value->data + 4, value->len - 4,
                            NGX_HTTP_GATE_MIN_MAX, &rule->min)
            != 0
            || rule->min == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid \"%V\", a minimum is a number of "
                               "attempts from 1", value);
            return NGX_CONF_ERROR;
        }

    } else if (ngx_strncmp(value->data, "quantile=", 9) == 0
               && rule->type == NGX_GATE_RULE_LATENCY_RATIO)
    {
        v.data = value->data + 9;
        v.len = value->len - 9;

        rule->q = ngx_http_gate_rule_quantile(&v);

        if (rule->q == 0) {
            return "has an invalid quantile, it must be p50, p95 or p99";
        }

    } else if (ngx_strcmp(value->data, "exact") == 0) {
        rule->exact = 1;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\", it must be \"window=\", "
                           "\"min=\", \"hold=\", \"exact\" or, of a "
                           "latency_ratio, \"quantile=\"", value);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* the rule as it was written, for records and the status page */

static ngx_int_t
ngx_http_gate_rule_text(ngx_conf_t *cf, ngx_gate_rule_t *rule)
{
    u_char      *p;
    size_t       len;
    ngx_str_t   *value;
    ngx_uint_t   i;

    value = cf->args->elts;
    len = 0;

    for (i = 1; i < cf->args->nelts; i++) {
        len += value[i].len + 1;
    }

    p = ngx_pnalloc(cf->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    rule->text.data = p;

    for (i = 1; i < cf->args->nelts; i++) {

        if (i > 1) {
            *p++ = ' ';
        }

        p = ngx_cpymem(p, value[i].data, value[i].len);
    }

    rule->text.len = p - rule->text.data;

    return NGX_OK;
}


void
ngx_http_gate_rules_digest(ngx_gate_rollout_conf_t *rc)
{
    uint64_t    key[2];
    ngx_uint_t  i;

    /* a chain: the order counts, for rules are known by their number */

    key[0] = rc->nrules;
    key[1] = 0;

    for (i = 0; i < rc->nrules; i++) {
        key[1] = gate_siphash(key, rc->rules[i].text.data,
                              rc->rules[i].text.len);
    }

    rc->digest = key[0] ^ key[1];
}

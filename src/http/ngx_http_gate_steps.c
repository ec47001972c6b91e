
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gate_steps 5%:10m 25%:10m 50%:30m 100%
 */


#include "ngx_http_gate.h"


#define NGX_HTTP_GATE_STEP_MAX  (30ULL * 24 * 60 * 60 * 1000)


static ngx_int_t ngx_http_gate_step(ngx_conf_t *cf, ngx_gate_step_t *step,
    ngx_str_t *value);


char *
ngx_http_gate_steps(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_gate_srv_conf_t *gscf = conf;

    ngx_str_t                *value;
    ngx_uint_t                i, n;
    ngx_gate_rollout_conf_t  *rc;

    rc = ngx_http_gate_rollout(cf, gscf);
    if (rc == NULL) {
        return NGX_CONF_ERROR;
    }

    if (rc->nsteps) {
        return "is duplicate";
    }

    value = cf->args->elts;
    n = cf->args->nelts - 1;

    if (n > NGX_GATE_STEPS) {
        return "has more than 16 steps";
    }

    for (i = 0; i < n; i++) {

        if (ngx_http_gate_step(cf, &rc->steps[i], &value[i + 1]) != NGX_OK) {
            return NGX_CONF_ERROR;
        }

        if (i && rc->steps[i].weight <= rc->steps[i - 1].weight) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "step \"%V\" must be higher than the one "
                               "before it", &value[i + 1]);
            return NGX_CONF_ERROR;
        }

        if (i + 1 < n && rc->steps[i].time == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "step \"%V\" needs a time, as in \"5%%:10m\", "
                               "only the last step goes without",
                               &value[i + 1]);
            return NGX_CONF_ERROR;
        }
    }

    rc->nsteps = n;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_gate_step(ngx_conf_t *cf, ngx_gate_step_t *step, ngx_str_t *value)
{
    u_char     *colon;
    unsigned    weight;
    uint64_t    ms;
    ngx_str_t   s;

    s = *value;
    colon = (u_char *) ngx_strchr(value->data, ':');

    if (colon) {
        s.len = colon - s.data;
    }

    if (gate_parse_weight(s.data, s.len, &weight) != 0 || weight == 0) {
        goto invalid;
    }

    step->weight = weight;
    step->time = 0;

    if (colon == NULL) {
        return NGX_OK;
    }

    s.data = colon + 1;
    s.len = value->data + value->len - s.data;

    if (gate_parse_msec(s.data, s.len, &ms) != 0 || ms == 0
        || ms > NGX_HTTP_GATE_STEP_MAX)
    {
        goto invalid;
    }

    step->time = (ngx_msec_t) ms;

    return NGX_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid step \"%V\", it must be a weight from 0.01%% "
                       "to 100%% and a time up to 30d, as in \"5%%:10m\"",
                       value);

    return NGX_ERROR;
}


ngx_int_t
ngx_http_gate_steps_check(ngx_conf_t *cf, ngx_http_gate_srv_conf_t *gscf)
{
    ngx_uint_t                i;
    const char               *why;
    ngx_gate_rollout_conf_t  *rc;

    rc = gscf->rollout;

    if (rc->nsteps == 0) {
        return NGX_OK;
    }

    if (rc->nrules == 0) {
        why = "needs a \"gate_breach\", there would be nothing to pass";
        goto invalid;
    }

    if (!gscf->weighted) {
        rc->weight = rc->steps[0].weight;
        return NGX_OK;
    }

    if (rc->weight == 0) {
        return NGX_OK;
    }

    for (i = 0; i < rc->nsteps; i++) {

        if (rc->steps[i].weight == rc->weight) {
            return NGX_OK;
        }
    }

    why = "must have the \"weight=\" of \"gate_canary\" among its steps";

invalid:

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "\"gate_steps\" of upstream \"%V\" %s in %s:%ui",
                  &rc->name, why, gscf->file, gscf->line);

    return NGX_ERROR;
}

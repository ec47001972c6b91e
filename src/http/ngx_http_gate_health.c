
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gate_health: "this nginx answers", for whoever restarts what is dead;
 * gate_health ready: "send it traffic", for whoever balances load.
 */


#include "ngx_http_gate_json.h"


/* seconds to come back in, where the switch does not say */
#define NGX_HTTP_GATE_READY_RETRY  60


static ngx_int_t ngx_http_gate_health_handler(ngx_http_request_t *r);
static void ngx_http_gate_health_redis(json_t *o, ngx_gate_node_t *node);
static ngx_uint_t ngx_http_gate_health_closed(ngx_gate_node_t *node,
    ngx_uint_t i, ngx_uint_t *retry_after);


static ngx_int_t
ngx_http_gate_health_handler(ngx_http_request_t *r)
{
    json_t                     *o;
    ngx_int_t                   rc;
    ngx_uint_t                  on, closed, retry_after;
    ngx_gate_node_t            *node;
    ngx_http_gate_loc_conf_t   *glcf;
    ngx_http_gate_main_conf_t  *gmcf;

    rc = ngx_http_gate_only_get(r);
    if (rc != NGX_OK) {
        return rc;
    }

    glcf = ngx_http_get_module_loc_conf(r, ngx_http_gate_module);
    gmcf = ngx_http_get_module_main_conf(r, ngx_http_gate_module);

    node = &gmcf->node;
    on = ngx_gate_switch_on(ngx_gate_switch_effective(
                                  &node->sh->switches[node->sw_map[0]]));
    closed = 0;

    if (glcf->ready) {

        /* the global switch closes them all */

        closed = ngx_http_gate_health_closed(node, 0, &retry_after)
                 || ngx_http_gate_health_closed(node, glcf->ready - 1,
                                                &retry_after);
        on |= closed;
    }

    if (closed && ngx_http_gate_add_retry_after(r, retry_after) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    o = json_object();

    ngx_http_gate_json_set(o, "status",
                           json_string(closed ? "maintenance" : "ok"));
    ngx_http_gate_json_set(o, "node",
                           ngx_http_gate_json_bytes(ngx_cycle->hostname.data,
                                                    ngx_cycle->hostname.len));
    ngx_http_gate_json_bool(o, "maintenance", on);
    ngx_http_gate_json_bool(o, "agent", ngx_http_gate_agent_alive(node->sh));
    ngx_http_gate_health_redis(o, node);

    return ngx_http_gate_send_json(r, closed ? NGX_HTTP_SERVICE_UNAVAILABLE
                                             : NGX_HTTP_OK,
                                   o);
}


/*
 * The agent asks Redis at least once a second.  Without it the gate works
 * alone, so it is no reason to send anybody elsewhere.
 */

static void
ngx_http_gate_health_redis(json_t *o, ngx_gate_node_t *node)
{
    int64_t  age;

    if (node->redis == NULL) {
        ngx_http_gate_json_set(o, "redis", json_null());
        return;
    }

    age = ngx_http_gate_redis_age(node);

    ngx_http_gate_json_set(o, "redis",
                           json_string(ngx_http_gate_redis_alive(node)
                                       ? "ok" : "away"));
    ngx_http_gate_json_set(o, "redis_age_ms", age < 0 ? json_null()
                                                      : json_integer(age));
}


/* A switch that refuses writes only is no reason to send nobody here. */

static ngx_uint_t
ngx_http_gate_health_closed(ngx_gate_node_t *node, ngx_uint_t i,
    ngx_uint_t *retry_after)
{
    ngx_gate_switch_t  s;

    ngx_gate_switch_read(&node->sh->switches[node->sw_map[i]], &s);

    if (!ngx_gate_switch_on(s.effective)
        || (s.effective & NGX_GATE_SWITCH_READ_ONLY))
    {
        return 0;
    }

    *retry_after = gate_switch_retry_after(ngx_gate_switch_value(&s),
                                           ngx_time(),
                                           NGX_HTTP_GATE_READY_RETRY);
    return 1;
}


char *
ngx_http_gate_health(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_gate_loc_conf_t *glcf = conf;

    char        *rv;
    ngx_int_t    n;
    ngx_str_t   *value;
    ngx_uint_t   i;

    rv = ngx_http_gate_endpoint(cf, cmd, conf, ngx_http_gate_health_handler);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    value = cf->args->elts;
    glcf->ready = 0;

    if (cf->args->nelts == 1) {
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(value[1].data, "ready") != 0 || cf->args->nelts > 3) {
        i = (cf->args->nelts > 3) ? 3 : 1;

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\" in \"%V\", it takes "
                           "\"ready\" and then the name of a switch",
                           &value[i], &cmd->name);
        return NGX_CONF_ERROR;
    }

    n = 0;

    if (cf->args->nelts == 3 && ngx_strcmp(value[2].data, "global") != 0) {
        n = ngx_http_gate_switch_name(cf, &value[2]);

        if (n == NGX_ERROR) {
            return NGX_CONF_ERROR;
        }
    }

    glcf->ready = (ngx_uint_t) n + 1;

    return NGX_CONF_OK;
}


/*
 * Copyright (C) nginx-gate authors
 */


#include "ngx_http_gate_cursor.h"
#include "ngx_http_gate_limit.h"
#include "ngx_http_gate_peer.h"


static void *ngx_http_gate_create_main_conf(ngx_conf_t *cf);
static char *ngx_http_gate_init_main_conf(ngx_conf_t *cf, void *conf);
static void *ngx_http_gate_create_srv_conf(ngx_conf_t *cf);
static char *ngx_http_gate_merge_srv_conf(ngx_conf_t *cf, void *parent,
    void *child);
static void *ngx_http_gate_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_gate_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static char *ngx_http_gate_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_gate_state(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_gate_fallback(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_gate_init(ngx_conf_t *cf);
static ngx_int_t ngx_http_gate_init_phases(ngx_conf_t *cf);
static ngx_uint_t ngx_http_gate_whole(ngx_http_core_main_conf_t *cmcf);
static ngx_int_t ngx_http_gate_header_filter(ngx_http_request_t *r);
static ngx_http_gate_aside ngx_int_t ngx_http_gate_header_filter_ctx(
    ngx_http_request_t *r, ngx_http_gate_ctx_t *ctx);
static ngx_int_t ngx_http_gate_init_module(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_gate_init_process(ngx_cycle_t *cycle);
static void ngx_http_gate_exit_process(ngx_cycle_t *cycle);


static ngx_command_t  ngx_http_gate_commands[] = {

    { ngx_string("gate_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_gate_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_state"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_gate_state,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_gate_main_conf_t, node.state),
      NULL },

    { ngx_string("gate_redis"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_gate_redis,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_maintenance"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_gate_maintenance,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_maintenance_bypass"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_gate_maintenance_bypass,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_maintenance_file"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_gate_maintenance_file,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_canary"),
      NGX_HTTP_UPS_CONF|NGX_CONF_2MORE,
      ngx_http_gate_canary,
      NGX_HTTP_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_key"),
      NGX_HTTP_UPS_CONF|NGX_CONF_TAKE1,
      ngx_http_gate_key,
      NGX_HTTP_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_sticky"),
      NGX_HTTP_UPS_CONF|NGX_CONF_2MORE,
      ngx_http_gate_sticky,
      NGX_HTTP_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_force"),
      NGX_HTTP_UPS_CONF|NGX_CONF_1MORE,
      ngx_http_gate_force,
      NGX_HTTP_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_fallback"),
      NGX_HTTP_UPS_CONF|NGX_CONF_FLAG,
      ngx_http_gate_fallback,
      NGX_HTTP_SRV_CONF_OFFSET,
      offsetof(ngx_http_gate_srv_conf_t, fallback),
      NULL },

    { ngx_string("gate_failure"),
      NGX_HTTP_UPS_CONF|NGX_CONF_TAKE1,
      ngx_http_gate_value,
      NGX_HTTP_SRV_CONF_OFFSET,
      offsetof(ngx_http_gate_srv_conf_t, failure),
      NULL },

    { ngx_string("gate_breach"),
      NGX_HTTP_UPS_CONF|NGX_CONF_1MORE,
      ngx_http_gate_breach,
      NGX_HTTP_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_steps"),
      NGX_HTTP_UPS_CONF|NGX_CONF_1MORE,
      ngx_http_gate_steps,
      NGX_HTTP_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_label"),
      NGX_HTTP_UPS_CONF|NGX_CONF_1MORE,
      ngx_http_gate_label,
      NGX_HTTP_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_limit_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_gate_limit_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_limit"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_gate_limit,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_cursor"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_gate_cursor,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_cursor_key"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_gate_cursor_key,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_cursor_claim"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE2,
      ngx_http_gate_cursor_claim,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_status"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_gate_status,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_metrics"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_gate_metrics,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_health"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE12,
      ngx_http_gate_health,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("gate_api"),
      NGX_HTTP_LOC_CONF|NGX_CONF_ANY,
      ngx_http_gate_api,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_gate_module_ctx = {
    ngx_http_gate_add_variables,           /* preconfiguration */
    ngx_http_gate_init,                    /* postconfiguration */

    ngx_http_gate_create_main_conf,        /* create main configuration */
    ngx_http_gate_init_main_conf,          /* init main configuration */

    ngx_http_gate_create_srv_conf,         /* create server configuration */
    ngx_http_gate_merge_srv_conf,          /* merge server configuration */

    ngx_http_gate_create_loc_conf,         /* create location configuration */
    ngx_http_gate_merge_loc_conf           /* merge location configuration */
};


ngx_module_t  ngx_http_gate_module = {
    NGX_MODULE_V1,
    &ngx_http_gate_module_ctx,             /* module context */
    ngx_http_gate_commands,                /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_http_gate_init_module,             /* init module */
    ngx_http_gate_init_process,            /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_gate_exit_process,            /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;


/*
 * Some things can only be known when the answer begins: that a caller needs a
 * cookie, which answer will tell it of its limits, and that a connection is
 * not a request any more.
 */

static ngx_int_t
ngx_http_gate_header_filter(ngx_http_request_t *r)
{
    ngx_http_gate_ctx_t  *ctx;

    if (r == r->main) {
        ctx = ngx_http_gate_ctx(r);

        if (ctx && (ctx->cookies || ctx->told
                    || r->headers_out.status == NGX_HTTP_SWITCHING_PROTOCOLS))
        {
            return ngx_http_gate_header_filter_ctx(r, ctx);
        }
    }

    return ngx_http_next_header_filter(r);
}


static ngx_int_t
ngx_http_gate_header_filter_ctx(ngx_http_request_t *r,
    ngx_http_gate_ctx_t *ctx)
{
    if (ctx->cookies && ngx_http_gate_canary_header_filter(r, ctx) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ctx->told && ngx_http_gate_limit_header_filter(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    if (r->headers_out.status == NGX_HTTP_SWITCHING_PROTOCOLS
        && ctx->gauge && ctx->gauge != &ctx->inflight->upgraded)
    {
        ngx_gate_store(&ctx->inflight->upgraded, ctx->inflight->upgraded + 1);
        ngx_gate_store(ctx->gauge, *ctx->gauge - 1);

        ctx->gauge = &ctx->inflight->upgraded;
    }

    return ngx_http_next_header_filter(r);
}


static void *
ngx_http_gate_create_main_conf(ngx_conf_t *cf)
{
    ngx_str_t                  *name;
    ngx_http_gate_main_conf_t  *gmcf;

    gmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_gate_main_conf_t));
    if (gmcf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&gmcf->composites, cf->pool, 4,
                       sizeof(ngx_http_gate_srv_conf_t *))
        != NGX_OK
        || ngx_array_init(&gmcf->node.rollouts, cf->pool, 4,
                          sizeof(ngx_gate_rollout_conf_t *))
           != NGX_OK
        || ngx_array_init(&gmcf->node.switches, cf->pool, 4,
                          sizeof(ngx_str_t))
           != NGX_OK
        || ngx_array_init(&gmcf->node.files, cf->pool, 2,
                          sizeof(ngx_gate_file_conf_t))
           != NGX_OK
        || ngx_array_init(&gmcf->limits, cf->pool, 4,
                          sizeof(ngx_http_gate_limit_t *))
           != NGX_OK
        || ngx_array_init(&gmcf->cursor_keys, cf->pool, 4,
                          sizeof(void *))
           != NGX_OK
        || ngx_array_init(&gmcf->node.cursors, cf->pool, 4,
                          sizeof(void *))
           != NGX_OK
        || ngx_array_init(&gmcf->node.cursor_keys, cf->pool, 4,
                          sizeof(void *))
           != NGX_OK
        || ngx_array_init(&gmcf->node.limits, cf->pool, 4,
                          sizeof(ngx_gate_limit_conf_t *))
           != NGX_OK)
    {
        return NULL;
    }

    /* the global switch has no name */

    name = ngx_array_push(&gmcf->node.switches);
    if (name == NULL) {
        return NULL;
    }

    ngx_str_set(name, "");

    return gmcf;
}


static char *
ngx_http_gate_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_gate_main_conf_t *gmcf = conf;

    if (gmcf->node.size == 0) {
        gmcf->node.size = NGX_GATE_ZONE_SIZE;
    }

    return NGX_CONF_OK;
}


static void *
ngx_http_gate_create_srv_conf(ngx_conf_t *cf)
{
    ngx_http_gate_srv_conf_t  *gscf;

    gscf = ngx_pcalloc(cf->pool, sizeof(ngx_http_gate_srv_conf_t));
    if (gscf == NULL) {
        return NULL;
    }

    gscf->force = NGX_CONF_UNSET_PTR;
    gscf->fallback = NGX_CONF_UNSET;

    return gscf;
}


static char *
ngx_http_gate_merge_srv_conf(ngx_conf_t *cf, void *parent, void *child)
{
    return NGX_CONF_OK;
}


static void *
ngx_http_gate_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_gate_loc_conf_t  *glcf;

    glcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_gate_loc_conf_t));
    if (glcf == NULL) {
        return NULL;
    }

    glcf->maintenance = NGX_CONF_UNSET;
    glcf->bypass = NGX_CONF_UNSET_PTR;
    glcf->limits = NGX_CONF_UNSET_PTR;
    glcf->cursor = NGX_CONF_UNSET_PTR;

    return glcf;
}


static char *
ngx_http_gate_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_gate_loc_conf_t *prev = parent;
    ngx_http_gate_loc_conf_t *conf = child;

    ngx_http_gate_srv_conf_t  *gscf;
    ngx_http_gate_loc_conf_t  *server;

    ngx_conf_merge_value(conf->maintenance, prev->maintenance,
                         NGX_CONF_UNSET);
    ngx_conf_merge_ptr_value(conf->bypass, prev->bypass, NULL);

    ngx_http_gate_limit_merge(prev, conf);

    if (ngx_http_gate_cursor_merge(cf, prev, conf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    /* the core's part of this location has been merged by now */

    conf->error_page = ngx_http_gate_error_page(cf);

    /* locations are merged after their server: do they say what it says? */

    gscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_gate_module);

    if (gscf->server == NULL) {
        gscf->server = conf;
        return NGX_CONF_OK;
    }

    server = gscf->server;

    if (conf->endpoint || conf->maintenance != server->maintenance
        || conf->bypass != server->bypass
        || conf->error_page != server->error_page)
    {
        gscf->mixed = 1;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_gate_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_gate_main_conf_t *gmcf = conf;

    ssize_t     size;
    ngx_str_t  *value;

    if (gmcf->sized) {
        return "is duplicate";
    }

    value = cf->args->elts;

    size = ngx_parse_size(&value[1]);

    if (size == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid size \"%V\", it must be as in \"16m\"",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    if (size < NGX_GATE_ZONE_MIN_SIZE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "size \"%V\" is too small, it must be 4m or more",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    gmcf->node.size = size;
    gmcf->sized = 1;
    gmcf->enabled = 1;

    return NGX_CONF_OK;
}


static char *
ngx_http_gate_state(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_gate_main_conf_t *gmcf = conf;

    char       *rv;
    ngx_str_t  *value;

    value = cf->args->elts;

    gmcf->enabled = 1;

    rv = ngx_conf_set_path_slot(cf, cmd, conf);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (gmcf->node.state->name.len > NGX_MAX_PATH - 64) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "directory name \"%V\" is too long", &value[1]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* gate_failure */

char *
ngx_http_gate_value(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    if (ngx_http_gate_rollout(cf, conf) == NULL) {
        return NGX_CONF_ERROR;
    }

    return ngx_http_set_complex_value_slot(cf, cmd, conf);
}


static char *
ngx_http_gate_fallback(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    if (ngx_http_gate_rollout(cf, conf) == NULL) {
        return NGX_CONF_ERROR;
    }

    return ngx_conf_set_flag_slot(cf, cmd, conf);
}


static ngx_int_t
ngx_http_gate_init(ngx_conf_t *cf)
{
    ngx_str_t                   name;
    ngx_shm_zone_t             *shm_zone;
    ngx_http_gate_main_conf_t  *gmcf;

    gmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_gate_module);

    if (ngx_http_gate_canary_check(cf, gmcf) != NGX_OK
        || ngx_http_gate_redis_init(cf, gmcf) != NGX_OK
        || ngx_http_gate_limit_init(cf, gmcf) != NGX_OK
        || ngx_http_gate_cursor_init(cf, gmcf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (!gmcf->enabled) {
        return NGX_OK;
    }

    ngx_str_set(&name, "gate");

    shm_zone = ngx_shared_memory_add(cf, &name, gmcf->node.size,
                                     &ngx_http_gate_module);
    if (shm_zone == NULL) {
        return NGX_ERROR;
    }

    shm_zone->init = ngx_gate_node_init_zone;
    shm_zone->data = &gmcf->node;

    return ngx_http_gate_init_phases(cf);
}


static ngx_int_t
ngx_http_gate_init_phases(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;
    ngx_http_gate_main_conf_t  *gmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    gmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_gate_module);

    if (gmcf->maintenance && ngx_http_gate_whole(cmcf)) {
        h = ngx_array_push(
                      &cmcf->phases[NGX_HTTP_SERVER_REWRITE_PHASE].handlers);
        if (h == NULL) {
            return NGX_ERROR;
        }

        *h = ngx_http_gate_maintenance_server_handler;
    }

    /*
     * Also where all servers are whole: an error before any phase may have a
     * named location for its page, and that one begins with this phase.
     */

    if (gmcf->maintenance) {
        h = ngx_array_push(&cmcf->phases[NGX_HTTP_REWRITE_PHASE].handlers);
        if (h == NULL) {
            return NGX_ERROR;
        }

        *h = ngx_http_gate_maintenance_handler;
    }

    gmcf->spare = gmcf->composites.nelts ? sizeof(ngx_http_gate_peer_t) : 0;
    gmcf->quota = gmcf->limits.nelts ? sizeof(ngx_http_gate_quota_t) : 0;

    if (gmcf->limits.nelts) {
        h = ngx_array_push(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers);
        if (h == NULL) {
            return NGX_ERROR;
        }

        *h = ngx_http_gate_limit_handler;
    }

    /* handlers of a phase run last to first: try_files and mirror wait */

    if (gmcf->cursors) {
        h = ngx_array_push(&cmcf->phases[NGX_HTTP_PRECONTENT_PHASE].handlers);
        if (h == NULL) {
            return NGX_ERROR;
        }

        *h = ngx_http_gate_cursor_handler;
    }

    if (gmcf->maintenance || gmcf->composites.nelts || gmcf->told) {
        ngx_http_next_header_filter = ngx_http_top_header_filter;
        ngx_http_top_header_filter = ngx_http_gate_header_filter;
    }

    return NGX_OK;
}


/* Is there a server with maintenance that can be asked as a whole? */

static ngx_uint_t
ngx_http_gate_whole(ngx_http_core_main_conf_t *cmcf)
{
    ngx_uint_t                   i;
    ngx_http_gate_srv_conf_t    *gscf;
    ngx_http_gate_loc_conf_t    *glcf;
    ngx_http_core_srv_conf_t   **cscfp;

    cscfp = cmcf->servers.elts;

    for (i = 0; i < cmcf->servers.nelts; i++) {
        gscf = cscfp[i]->ctx->srv_conf[ngx_http_gate_module.ctx_index];
        glcf = cscfp[i]->ctx->loc_conf[ngx_http_gate_module.ctx_index];

        if (!gscf->mixed && glcf->maintenance != NGX_CONF_UNSET) {
            return 1;
        }
    }

    return 0;
}


/* The configuration is committed: from here on nothing can fail. */

static ngx_int_t
ngx_http_gate_init_module(ngx_cycle_t *cycle)
{
    ngx_http_gate_main_conf_t  *gmcf;

    gmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_gate_module);

    if (gmcf && gmcf->enabled && !ngx_test_config) {
        ngx_gate_node_adopt(cycle, &gmcf->node);
        ngx_gate_limit_adopt(&gmcf->node, cycle->log);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_init_process(ngx_cycle_t *cycle)
{
    ngx_http_gate_main_conf_t  *gmcf;

    /* the cache manager and loader come here too */

    if (ngx_process != NGX_PROCESS_WORKER
        && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    gmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_gate_module);

    if (gmcf && gmcf->enabled) {
        ngx_http_gate_dice_init();

        if (ngx_gate_node_start(cycle, &gmcf->node) != NGX_OK) {
            return NGX_ERROR;
        }

        if (gmcf->cursors && ngx_http_gate_cursor_watch(cycle, gmcf) != NGX_OK)
        {
            return NGX_ERROR;
        }

        return ngx_gate_ask_start(&gmcf->node, cycle->log);
    }

    return NGX_OK;
}


static void
ngx_http_gate_exit_process(ngx_cycle_t *cycle)
{
    ngx_gate_ask_stop();
    ngx_gate_node_stop(cycle);
}

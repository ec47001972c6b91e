
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gate_status, and how every endpoint answers.
 */


#include "ngx_http_gate_json.h"


#define NGX_HTTP_GATE_LAST_EVENTS  20


static ngx_int_t ngx_http_gate_status_handler(ngx_http_request_t *r);
static json_t *ngx_http_gate_json_agent(ngx_gate_zone_t *sh);
static json_t *ngx_http_gate_json_zone(ngx_gate_node_t *node);
static json_t *ngx_http_gate_json_store(ngx_gate_node_t *node);
static json_t *ngx_http_gate_json_files(ngx_gate_node_t *node);
static json_t *ngx_http_gate_json_workers(ngx_gate_zone_t *sh);
static json_t *ngx_http_gate_json_events(ngx_gate_zone_t *sh);


static ngx_int_t
ngx_http_gate_status_handler(ngx_http_request_t *r)
{
    ngx_int_t                   rc;
    ngx_http_gate_main_conf_t  *gmcf;

    rc = ngx_http_gate_only_get(r);
    if (rc != NGX_OK) {
        return rc;
    }

    gmcf = ngx_http_get_module_main_conf(r, ngx_http_gate_module);

    return ngx_http_gate_send_json(r, NGX_HTTP_OK,
                                   ngx_http_gate_json_status(gmcf));
}


json_t *
ngx_http_gate_json_status(ngx_http_gate_main_conf_t *gmcf)
{
    char              boot[17];
    json_t           *o;
    ngx_gate_node_t  *node;
    ngx_gate_zone_t  *sh;

    node = &gmcf->node;
    sh = node->sh;

    ngx_sprintf((u_char *) boot, "%016xL%Z", sh->boot);

    o = json_object();

    ngx_http_gate_json_set(o, "version", json_string(NGX_HTTP_GATE_VERSION));
    ngx_http_gate_json_set(o, "nginx_version", json_string(NGINX_VERSION));
    ngx_http_gate_json_int(o, "pid", ngx_pid);
    ngx_http_gate_json_set(o, "node",
                           ngx_http_gate_json_bytes(ngx_cycle->hostname.data,
                                                    ngx_cycle->hostname.len));
    ngx_http_gate_json_set(o, "time",
                           ngx_http_gate_json_time(ngx_gate_now()));
    ngx_http_gate_json_set(o, "boot", json_string(boot));
    ngx_http_gate_json_int(o, "generation", sh->generation);
    ngx_http_gate_json_int(o, "uptime",
                           ngx_max(ngx_gate_now() - sh->created, 0) / 1000);

    ngx_http_gate_json_set(o, "agent", ngx_http_gate_json_agent(sh));
    ngx_http_gate_json_set(o, "zone", ngx_http_gate_json_zone(node));
    ngx_http_gate_json_set(o, "state_store", ngx_http_gate_json_store(node));
    ngx_http_gate_json_set(o, "files", ngx_http_gate_json_files(node));
    ngx_http_gate_json_set(o, "workers", ngx_http_gate_json_workers(sh));
    ngx_http_gate_json_set(o, "redis", ngx_http_gate_json_redis(node));
    ngx_http_gate_json_set(o, "fleet", ngx_http_gate_json_fleet(node));
    ngx_http_gate_json_set(o, "modes", ngx_http_gate_json_modes(node));
    ngx_http_gate_json_set(o, "maintenance",
                           ngx_http_gate_json_switches(node));
    ngx_http_gate_json_set(o, "rollouts", ngx_http_gate_json_rollouts(node));
    ngx_http_gate_json_set(o, "limits", ngx_http_gate_json_limits(node));
    ngx_http_gate_json_set(o, "cursors", ngx_http_gate_json_cursors(node));
    ngx_http_gate_json_set(o, "cursor_keys",
                           ngx_http_gate_json_cursor_keys(gmcf));
    ngx_http_gate_json_set(o, "events", ngx_http_gate_json_events(sh));

    return o;
}


static json_t *
ngx_http_gate_json_agent(ngx_gate_zone_t *sh)
{
    json_t    *o;
    uint64_t   beat;

    o = json_object();
    beat = ngx_gate_peek(&sh->agent_beat);

    ngx_http_gate_json_int(o, "pid", (uint32_t) ngx_gate_load(&sh->agent));
    ngx_http_gate_json_bool(o, "alive", ngx_http_gate_agent_alive(sh));
    ngx_http_gate_json_set(o, "beat_age_ms",
                           beat ? json_integer((ngx_msec_int_t)
                                     (ngx_current_msec - (ngx_msec_t) beat))
                                : json_null());
    ngx_http_gate_json_int(o, "elections", ngx_gate_peek(&sh->agents_total));

    return o;
}


static json_t *
ngx_http_gate_json_zone(ngx_gate_node_t *node)
{
    size_t               size, unused;
    json_t              *o, *objects;
    ngx_uint_t           n;
    ngx_gate_rollout_t  *ro;

    size = node->shm_zone->shm.size;
    unused = node->shpool->pfree * ngx_pagesize;
    n = 0;

    for (ro = ngx_gate_load(&node->sh->rollouts); ro; ro = ro->next) {
        n++;
    }

    objects = json_object();

    ngx_http_gate_json_int(objects, "switches", node->sh->nswitches);
    ngx_http_gate_json_int(objects, "rollouts", n);

    o = json_object();

    ngx_http_gate_json_int(o, "size", size);
    ngx_http_gate_json_int(o, "used", size - ngx_min(unused, size));
    ngx_http_gate_json_int(o, "free", unused);
    ngx_http_gate_json_int(o, "layout", node->sh->layout);
    ngx_http_gate_json_set(o, "objects", objects);

    return o;
}


static json_t *
ngx_http_gate_json_store(ngx_gate_node_t *node)
{
    char              error[NGX_GATE_REASON_LEN];
    json_t           *o;
    ngx_uint_t        pending;
    ngx_gate_store_t  *st;

    st = &node->sh->store;
    pending = ngx_gate_peek(&node->sh->revision)
              != ngx_gate_peek(&st->saved_revision);

    ngx_memcpy(error, st->error, sizeof(error));
    error[sizeof(error) - 1] = '\0';

    o = json_object();

    ngx_http_gate_json_set(o, "path", node->state
                           ? ngx_http_gate_json_bytes(node->state->name.data,
                                                      node->state->name.len)
                           : json_null());
    ngx_http_gate_json_bool(o, "locked", ngx_gate_peek(&st->locked));
    ngx_http_gate_json_bool(o, "pending", node->state && pending);
    ngx_http_gate_json_set(o, "saved_at",
                           ngx_http_gate_json_time(st->saved_at));
    ngx_http_gate_json_int(o, "saves", ngx_gate_peek(&st->saves_total));
    ngx_http_gate_json_int(o, "errors", ngx_gate_peek(&st->errors_total));
    ngx_http_gate_json_set(o, "error", ngx_http_gate_json_text(error));

    return o;
}


static json_t *
ngx_http_gate_json_files(ngx_gate_node_t *node)
{
    json_t                *list, *o;
    ngx_str_t             *name;
    ngx_uint_t             i;
    ngx_gate_file_conf_t  *file;

    list = json_array();
    file = node->files.elts;
    name = node->switches.elts;

    for (i = 0; i < node->files.nelts; i++) {
        o = json_object();

        ngx_http_gate_json_set(o, "path",
              ngx_http_gate_json_bytes(file[i].path.data, file[i].path.len));
        ngx_http_gate_json_set(o, "switch", name[file[i].sw].len
              ? ngx_http_gate_json_bytes(name[file[i].sw].data,
                                         name[file[i].sw].len)
              : json_string("global"));

        (void) json_array_append_new(list, o);
    }

    return list;
}


static json_t *
ngx_http_gate_json_workers(ngx_gate_zone_t *sh)
{
    json_t               *list, *o;
    ngx_uint_t            i, n;
    ngx_gate_slot_t      *slot;
    ngx_gate_inflight_t   sum;

    list = json_array();

    for (i = 0; i < NGX_GATE_SLOTS; i++) {
        slot = &sh->slots[i];

        if (!ngx_gate_slot_alive(slot)) {
            continue;
        }

        ngx_memzero(&sum, sizeof(ngx_gate_inflight_t));

        for (n = 0; n < NGX_GATE_SWITCHES; n++) {
            sum.admitted += ngx_gate_peek(&slot->inflight[n].admitted);
            sum.bypassed += ngx_gate_peek(&slot->inflight[n].bypassed);
            sum.upgraded += ngx_gate_peek(&slot->inflight[n].upgraded);
        }

        o = json_object();

        ngx_http_gate_json_int(o, "pid", ngx_gate_peek(&slot->pid));
        ngx_http_gate_json_int(o, "generation", slot->generation);
        ngx_http_gate_json_set(o, "started",
              ngx_http_gate_json_time((int64_t) slot->started));
        ngx_http_gate_json_int(o, "in_flight", sum.admitted);
        ngx_http_gate_json_int(o, "bypassed", sum.bypassed);
        ngx_http_gate_json_int(o, "upgraded", sum.upgraded);

        (void) json_array_append_new(list, o);
    }

    return list;
}


static json_t *
ngx_http_gate_json_events(ngx_gate_zone_t *sh)
{
    char         text[NGX_GATE_RECORD_LEN];
    json_t      *list, *o;
    uint64_t     number;
    ngx_uint_t   i;

    list = json_array();
    number = ngx_gate_load(&sh->events_total);

    for (i = 0; i < NGX_HTTP_GATE_LAST_EVENTS && number; i++, number--) {

        if (ngx_gate_event_get(sh, number, text) != NGX_OK) {
            continue;
        }

        o = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

        (void) json_array_append_new(list,
                                     o ? o : ngx_http_gate_json_text(text));
    }

    return list;
}


ngx_int_t
ngx_http_gate_only_get(ngx_http_request_t *r)
{
    ngx_str_t  allow = ngx_string("GET, HEAD");

    if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) {
        return NGX_OK;
    }

    if (ngx_http_gate_add_header(r, "Allow", sizeof("Allow") - 1, &allow)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_HTTP_NOT_ALLOWED;
}


ngx_int_t
ngx_http_gate_send_json(ngx_http_request_t *r, ngx_uint_t status,
    json_t *document)
{
    char         *text;
    size_t        len, flags;
    ngx_buf_t    *b;
    ngx_str_t     value;
    ngx_chain_t   out;

    if (document == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    flags = (ngx_http_gate_arg(r, "pretty", &value) == NGX_OK)
            ? JSON_INDENT(4) : JSON_COMPACT;

    text = json_dumps(document, flags|JSON_REAL_PRECISION(10));

    json_decref(document);

    if (text == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    len = ngx_strlen(text);

    b = ngx_create_temp_buf(r->pool, len + 1);

    if (b) {
        b->last = ngx_cpymem(b->last, text, len);
        *b->last++ = LF;
    }

    free(text);

    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    out.buf = b;
    out.next = NULL;

    return ngx_http_gate_send_chain(r, status, "application/json", &out,
                                    len + 1);
}


ngx_int_t
ngx_http_gate_send(ngx_http_request_t *r, ngx_uint_t status,
    const char *type, const char *body, size_t len)
{
    ngx_buf_t    *b;
    ngx_chain_t   out;

    if (body == NULL || len == 0) {
        return ngx_http_gate_send_chain(r, status, type, NULL, 0);
    }

    b = ngx_create_temp_buf(r->pool, len);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last = ngx_cpymem(b->last, body, len);

    out.buf = b;
    out.next = NULL;

    return ngx_http_gate_send_chain(r, status, type, &out, len);
}


ngx_int_t
ngx_http_gate_send_chain(ngx_http_request_t *r, ngx_uint_t status,
    const char *type, ngx_chain_t *out, off_t len)
{
    ngx_int_t     rc;
    ngx_str_t     no_store = ngx_string("no-store");
    ngx_chain_t  *cl;

    /* nobody is asked to send a body that is not read */

    r->expect_tested = 1;

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    r->headers_out.status = status;
    r->headers_out.content_length_n = len;
    r->headers_out.content_type.data = (u_char *) type;
    r->headers_out.content_type.len = ngx_strlen(type);
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;

    if (ngx_http_gate_add_header(r, "Cache-Control",
                                 sizeof("Cache-Control") - 1, &no_store)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (out == NULL) {
        r->header_only = 1;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only || out == NULL) {
        return rc;
    }

    for (cl = out; cl->next; cl = cl->next) { /* void */ }

    cl->buf->last_buf = (r == r->main);
    cl->buf->last_in_chain = 1;

    return ngx_http_output_filter(r, out);
}


ngx_int_t
ngx_http_gate_add_retry_after(ngx_http_request_t *r, ngx_uint_t seconds)
{
    ngx_str_t  value;

    value.data = ngx_pnalloc(r->pool, NGX_INT_T_LEN);
    if (value.data == NULL) {
        return NGX_ERROR;
    }

    value.len = ngx_sprintf(value.data, "%ui", seconds) - value.data;

    return ngx_http_gate_add_header(r, "Retry-After",
                                    sizeof("Retry-After") - 1, &value);
}


ngx_int_t
ngx_http_gate_arg(ngx_http_request_t *r, const char *name, ngx_str_t *value)
{
    size_t   len;
    u_char  *p, *end, *last, *eq;

    len = ngx_strlen(name);
    end = r->args.data + r->args.len;

    for (p = r->args.data; p < end; p = last + 1) {

        last = ngx_strlchr(p, end, '&');
        if (last == NULL) {
            last = end;
        }

        eq = ngx_strlchr(p, last, '=');
        if (eq == NULL) {
            eq = last;
        }

        if ((size_t) (eq - p) != len || ngx_strncmp(p, name, len) != 0) {
            continue;
        }

        value->data = (eq < last) ? eq + 1 : last;
        value->len = last - value->data;

        return NGX_OK;
    }

    return NGX_DECLINED;
}


char *
ngx_http_gate_endpoint(ngx_conf_t *cf, ngx_command_t *cmd, void *conf,
    ngx_http_handler_pt handler)
{
    ngx_http_gate_loc_conf_t *glcf = conf;

    ngx_http_core_loc_conf_t   *clcf;
    ngx_http_gate_main_conf_t  *gmcf;

    if (glcf->endpoint == 1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\": this location has one of the gate's "
                           "endpoints already", &cmd->name);
        return NGX_CONF_ERROR;
    }

    gmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_gate_module);
    gmcf->enabled = 1;

    glcf->endpoint = 1;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = handler;

    return NGX_CONF_OK;
}


char *
ngx_http_gate_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return ngx_http_gate_endpoint(cf, cmd, conf,
                                  ngx_http_gate_status_handler);
}

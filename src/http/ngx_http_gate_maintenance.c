
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Is the site open?  Asked once for each main request, in the REWRITE phase:
 * a "return" or "rewrite" there ends a request before any later phase.  In
 * SERVER_REWRITE, where the location is not known yet, it is asked only for
 * servers whose locations all say the same.
 *
 * A request counts itself in before it reads the switch, and out again when
 * it is refused.  Checked in the other order, a request could slip between
 * the switch and the count, and "nobody is in" would be a lie.
 */


#include "ngx_http_gate_limit.h"

#include "core/gate_accept.h"
#include "core/gate_text.h"


#define NGX_HTTP_GATE_RETRY_AFTER  60

#define ngx_http_gate_closed(e, closed)                                       \
    (((e) & ((closed)|NGX_GATE_SWITCH_READ_ONLY)) == (closed))

#define NGX_HTTP_GATE_READS                                                   \
    (NGX_HTTP_GET|NGX_HTTP_HEAD|NGX_HTTP_OPTIONS|NGX_HTTP_PROPFIND            \
     |NGX_HTTP_TRACE)


static ngx_int_t ngx_http_gate_admit(ngx_http_request_t *r,
    ngx_http_gate_loc_conf_t *glcf, ngx_http_gate_ctx_t *ctx);
static ngx_int_t ngx_http_gate_not_open(ngx_http_request_t *r,
    ngx_http_gate_loc_conf_t *glcf, ngx_gate_switch_t *global,
    ngx_gate_switch_t *own);
static ngx_gate_switch_t *ngx_http_gate_shut(ngx_http_request_t *r,
    ngx_gate_switch_t *global, ngx_gate_switch_t *own, uint64_t closed);
static void ngx_http_gate_observe(ngx_http_request_t *r,
    ngx_http_gate_loc_conf_t *glcf, ngx_gate_switch_t *global,
    ngx_gate_switch_t *own);
static ngx_int_t ngx_http_gate_bypassed(ngx_http_request_t *r,
    ngx_http_gate_loc_conf_t *glcf);
static ngx_int_t ngx_http_gate_refuse(ngx_http_request_t *r,
    ngx_gate_switch_t *s);
static ngx_int_t ngx_http_gate_answer(ngx_http_request_t *r, u_char *text,
    size_t len);
static ngx_uint_t ngx_http_gate_wants_html(ngx_http_request_t *r);


static ngx_str_t  ngx_http_gate_json_type = ngx_string("application/json");
static ngx_str_t  ngx_http_gate_html_type =
    ngx_string("text/html; charset=utf-8");

static u_char  ngx_http_gate_message[] = "Service under maintenance";

static u_char  ngx_http_gate_json_head[] = "{\"detail\": \"";
static u_char  ngx_http_gate_json_tail[] = "\"}" CRLF;

static u_char  ngx_http_gate_html_head[] =
    "<!DOCTYPE html>" CRLF
    "<html lang=\"en\"><head><meta charset=\"utf-8\">"
    "<title>Maintenance</title></head>" CRLF
    "<body><h1>Maintenance</h1><p>";

static u_char  ngx_http_gate_html_tail[] = "</p></body></html>" CRLF;


ngx_int_t
ngx_http_gate_maintenance_server_handler(ngx_http_request_t *r)
{
    ngx_http_gate_srv_conf_t  *gscf;

    gscf = ngx_http_get_module_srv_conf(r, ngx_http_gate_module);

    if (gscf->mixed) {
        return NGX_DECLINED;
    }

    return ngx_http_gate_maintenance_handler(r);
}


ngx_int_t
ngx_http_gate_maintenance_handler(ngx_http_request_t *r)
{
    ngx_http_gate_ctx_t       *ctx;
    ngx_http_gate_loc_conf_t  *glcf;

    /* most requests have been asked for their server already */

    ctx = ngx_http_get_module_ctx(r, ngx_http_gate_module);

    if (ctx && ctx->decided) {
        return NGX_DECLINED;
    }

    glcf = ngx_http_get_module_loc_conf(r, ngx_http_gate_module);

    if ((glcf->maintenance == NGX_CONF_UNSET && !glcf->endpoint)
        || r != r->main)
    {
        return NGX_DECLINED;
    }

    /*
     * An error page is asked only for a request that failed before anybody
     * could ask, as one whose body is too large: its page may be a backend.
     */

    ctx = ngx_http_gate_ctx_create(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->decided) {
        return NGX_DECLINED;
    }

    ctx->decided = 1;

    /* a request that began where the gate does not rule stays free of it */

    if (glcf->endpoint || glcf->maintenance == NGX_HTTP_GATE_OFF) {
        return NGX_DECLINED;
    }

    return ngx_http_gate_admit(r, glcf, ctx);
}


static ngx_int_t
ngx_http_gate_admit(ngx_http_request_t *r, ngx_http_gate_loc_conf_t *glcf,
    ngx_http_gate_ctx_t *ctx)
{
    ngx_uint_t                  sw;
    ngx_gate_node_t            *node;
    ngx_gate_switch_t          *global, *own;
    ngx_gate_inflight_t        *in;
    ngx_http_gate_main_conf_t  *gmcf;

    gmcf = ngx_http_get_module_main_conf(r, ngx_http_gate_module);

    node = &gmcf->node;
    sw = node->sw_map[glcf->maintenance];
    global = &node->sh->switches[node->sw_map[0]];
    own = &node->sh->switches[sw];

    in = &ngx_gate_slot->inflight[sw];

    (void) __atomic_fetch_add(&in->admitted, 1, __ATOMIC_SEQ_CST);

    ctx->inflight = in;
    ctx->gauge = &in->admitted;

    if ((__atomic_load_n(&global->effective, __ATOMIC_SEQ_CST)
         | __atomic_load_n(&own->effective, __ATOMIC_SEQ_CST))
        != 0)
    {
        return ngx_http_gate_not_open(r, glcf, global, own);
    }

    in->admitted_total++;

    return NGX_DECLINED;
}


/* Counted in, with one of its switches on. */

static ngx_int_t
ngx_http_gate_not_open(ngx_http_request_t *r, ngx_http_gate_loc_conf_t *glcf,
    ngx_gate_switch_t *global, ngx_gate_switch_t *own)
{
    ngx_int_t             rc;
    ngx_gate_switch_t    *shut;
    ngx_gate_inflight_t  *in;
    ngx_http_gate_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_gate_module);
    in = ctx->inflight;

    shut = ngx_http_gate_shut(r, global, own, NGX_GATE_SWITCH_CLOSED);

    if (shut == NULL) {
        ngx_http_gate_observe(r, glcf, global, own);
        in->admitted_total++;
        return NGX_DECLINED;
    }

    rc = ngx_http_gate_bypassed(r, glcf);

    ngx_gate_store(&in->admitted, in->admitted - 1);

    if (rc == NGX_OK) {
        ngx_gate_store(&in->bypassed, in->bypassed + 1);

        ctx->gauge = &in->bypassed;
        in->bypassed_total++;

        return NGX_DECLINED;
    }

    ctx->inflight = NULL;
    ctx->gauge = NULL;

    /* the page that says so costs nobody anything */

    ctx->limited = NGX_HTTP_GATE_LIMIT_DONE;

    ngx_gate_add(&shut->refused_total, 1);

    return ngx_http_gate_refuse(r, shut);
}


/*
 * The switch that stops this request, NULL if none does.  "closed" is the bit
 * that says so.
 */

static ngx_gate_switch_t *
ngx_http_gate_shut(ngx_http_request_t *r, ngx_gate_switch_t *global,
    ngx_gate_switch_t *own, uint64_t closed)
{
    uint64_t  g, o;

    g = ngx_gate_switch_effective(global);
    o = ngx_gate_switch_effective(own);

    if (ngx_http_gate_closed(g, closed)) {
        return global;
    }

    if (ngx_http_gate_closed(o, closed)) {
        return own;
    }

    if (((g | o) & closed) == 0 || (r->method & NGX_HTTP_GATE_READS)) {
        return NULL;
    }

    return (g & closed) ? global : own;
}


/*
 * The mode lets everybody in: whom would it not?  One line in the log for
 * each time that a switch is turned.
 */

static void
ngx_http_gate_observe(ngx_http_request_t *r, ngx_http_gate_loc_conf_t *glcf,
    ngx_gate_switch_t *global, ngx_gate_switch_t *own)
{
    int64_t             since, logged;
    ngx_gate_switch_t  *s;

    s = ngx_http_gate_shut(r, global, own, NGX_GATE_SWITCH_OBSERVED);

    if (s == NULL || ngx_http_gate_bypassed(r, glcf) == NGX_OK) {
        return;
    }

    ngx_gate_add(&s->observed_total, 1);

    since = ngx_gate_peek(&s->since);
    logged = ngx_gate_peek(&s->observed_logged);

    if (logged != since && ngx_gate_cas(&s->observed_logged, &logged, since)) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "gate: maintenance%s%s would refuse this request, its "
                      "mode is \"observe\"; the next ones are only counted",
                      s->name[0] ? " " : "", s->name);
    }
}


static ngx_int_t
ngx_http_gate_bypassed(ngx_http_request_t *r, ngx_http_gate_loc_conf_t *glcf)
{
    ngx_str_t                  value;
    ngx_uint_t                 i;
    ngx_http_complex_value_t  *cv;

    if (glcf->bypass == NULL) {
        return NGX_DECLINED;
    }

    cv = glcf->bypass->elts;

    for (i = 0; i < glcf->bypass->nelts; i++) {

        if (ngx_http_complex_value(r, &cv[i], &value) != NGX_OK) {
            return NGX_ERROR;
        }

        if (value.len && !(value.len == 1 && value.data[0] == '0')) {
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_gate_refuse(ngx_http_request_t *r, ngx_gate_switch_t *s)
{
    u_char                    *p;
    ngx_str_t                  value;
    ngx_gate_switch_t          copy;
    gate_switch_value_t       *v;
    ngx_http_gate_loc_conf_t  *glcf;

    ngx_gate_switch_read(s, &copy);

    v = ngx_gate_switch_value(&copy);

    p = ngx_pnalloc(r->pool, NGX_INT32_LEN);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    value.data = p;
    value.len = ngx_sprintf(p, "%uD",
                            gate_switch_retry_after(v, ngx_time(),
                                                  NGX_HTTP_GATE_RETRY_AFTER))
                - p;

    if (ngx_http_gate_add_header(r, "Retry-After", sizeof("Retry-After") - 1,
                                 &value)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_str_set(&value, "no-store");

    if (ngx_http_gate_add_header(r, "Cache-Control",
                                 sizeof("Cache-Control") - 1, &value)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    glcf = ngx_http_get_module_loc_conf(r, ngx_http_gate_module);

    if (glcf->error_page && !r->error_page) {
        return NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    /* the status of an error that brought the request here */

    r->err_status = 0;

    /* nobody is asked to send the body of a request that is refused */

    r->expect_tested = 1;

    if (v->message_len) {
        return ngx_http_gate_answer(r, v->message, v->message_len);
    }

    return ngx_http_gate_answer(r, ngx_http_gate_message,
                                sizeof(ngx_http_gate_message) - 1);
}


static ngx_int_t
ngx_http_gate_answer(ngx_http_request_t *r, u_char *text, size_t len)
{
    size_t                     head, tail, size;
    u_char                    *p, *body;
    size_t                   (*escape)(unsigned char *, const unsigned char *,
                                       size_t);
    ngx_str_t                 *type;
    const u_char              *before, *after;
    ngx_http_complex_value_t   cv;

    if (ngx_http_gate_wants_html(r)) {
        type = &ngx_http_gate_html_type;
        before = ngx_http_gate_html_head;
        head = sizeof(ngx_http_gate_html_head) - 1;
        after = ngx_http_gate_html_tail;
        tail = sizeof(ngx_http_gate_html_tail) - 1;
        escape = gate_escape_html;

    } else {
        type = &ngx_http_gate_json_type;
        before = ngx_http_gate_json_head;
        head = sizeof(ngx_http_gate_json_head) - 1;
        after = ngx_http_gate_json_tail;
        tail = sizeof(ngx_http_gate_json_tail) - 1;
        escape = gate_escape_json;
    }

    size = head + escape(NULL, text, len) + tail;

    body = ngx_pnalloc(r->pool, size);
    if (body == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p = ngx_cpymem(body, before, head);
    p += escape(p, text, len);
    ngx_memcpy(p, after, tail);

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));

    cv.value.data = body;
    cv.value.len = size;

    return ngx_http_send_response(r, NGX_HTTP_SERVICE_UNAVAILABLE, type, &cv);
}


static ngx_uint_t
ngx_http_gate_wants_html(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    /* headers_in.accept exists only where some other module needs it */

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {

            if (part->next == NULL) {
                return 0;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len == sizeof("Accept") - 1
            && ngx_strncasecmp(h[i].key.data, (u_char *) "Accept",
                               sizeof("Accept") - 1)
               == 0)
        {
            return gate_accept_html(h[i].value.data, h[i].value.len);
        }
    }
}


void *
ngx_http_gate_error_page(ngx_conf_t *cf)
{
    ngx_uint_t                 i;
    ngx_http_err_page_t       *page;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->error_pages == NULL) {
        return NULL;
    }

    page = clcf->error_pages->elts;

    for (i = 0; i < clcf->error_pages->nelts; i++) {

        if (page[i].status == NGX_HTTP_SERVICE_UNAVAILABLE) {
            return &page[i];
        }
    }

    return NULL;
}


char *
ngx_http_gate_maintenance(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_gate_loc_conf_t *glcf = conf;

    ngx_int_t                   n;
    ngx_str_t                  *value;
    ngx_http_gate_main_conf_t  *gmcf;

    if (glcf->maintenance != NGX_CONF_UNSET) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        glcf->maintenance = NGX_HTTP_GATE_OFF;
        return NGX_CONF_OK;
    }

    gmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_gate_module);

    gmcf->enabled = 1;
    gmcf->maintenance = 1;

    if (ngx_strcmp(value[1].data, "on") == 0) {
        glcf->maintenance = 0;
        return NGX_CONF_OK;
    }

    n = ngx_http_gate_switch_name(cf, &value[1]);

    if (n == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    glcf->maintenance = n;

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_gate_switch_name(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_int_t                   n;
    ngx_http_gate_main_conf_t  *gmcf;

    /* "global" is what the API calls the switch without a name */

    if (!gate_name_valid(name->data, name->len)
        || ngx_strcmp(name->data, "global") == 0
        || ngx_strcmp(name->data, "on") == 0
        || ngx_strcmp(name->data, "off") == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name of a switch \"%V\", it must be of "
                           "up to 64 letters, digits, \"_\", \".\" and "
                           "\"-\", other than \"global\", \"on\" and "
                           "\"off\"", name);
        return NGX_ERROR;
    }

    gmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_gate_module);

    n = ngx_gate_node_switch(&gmcf->node, name);

    if (n == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "switch \"%V\" is one too many, a node has up to "
                           "%d", name, NGX_GATE_SWITCHES - 1);
    }

    return n;
}


char *
ngx_http_gate_maintenance_bypass(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_gate_loc_conf_t *glcf = conf;

    return ngx_http_gate_values(cf, cmd, &glcf->bypass);
}


char *
ngx_http_gate_values(ngx_conf_t *cf, ngx_command_t *cmd, ngx_array_t **values)
{
    ngx_str_t                         *value;
    ngx_uint_t                         i;
    ngx_http_complex_value_t          *cv;
    ngx_http_compile_complex_value_t   ccv;

    if (*values != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    *values = ngx_array_create(cf->pool, cf->args->nelts - 1,
                               sizeof(ngx_http_complex_value_t));
    if (*values == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        cv = ngx_array_push(*values);
        if (cv == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

        ccv.cf = cf;
        ccv.value = &value[i];
        ccv.complex_value = cv;

        if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


char *
ngx_http_gate_maintenance_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_gate_main_conf_t *gmcf = conf;

    ngx_int_t              sw;
    ngx_str_t             *value, name;
    ngx_uint_t             i, n;
    ngx_gate_file_conf_t  *file;

    value = cf->args->elts;
    n = cf->args->nelts;
    sw = 0;

    gmcf->enabled = 1;

    if (ngx_strncmp(value[n - 1].data, "switch=", 7) == 0) {
        n--;

        name.data = value[n].data + 7;
        name.len = value[n].len - 7;

        sw = ngx_http_gate_switch_name(cf, &name);

        if (sw == NGX_ERROR) {
            return NGX_CONF_ERROR;
        }
    }

    if (n == 1) {
        return "needs a file";
    }

    for (i = 1; i < n; i++) {

        if (ngx_conf_full_name(cf->cycle, &value[i], 0) != NGX_OK) {
            return NGX_CONF_ERROR;
        }

        if (value[i].len >= NGX_MAX_PATH) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "file name \"%V\" is too long", &value[i]);
            return NGX_CONF_ERROR;
        }

        if (gmcf->node.files.nelts == NGX_GATE_FILES) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "file \"%V\" is one too many, a node watches "
                               "up to %d", &value[i], NGX_GATE_FILES);
            return NGX_CONF_ERROR;
        }

        file = ngx_array_push(&gmcf->node.files);
        if (file == NULL) {
            return NGX_CONF_ERROR;
        }

        file->path = value[i];
        file->sw = sw;
    }

    return NGX_CONF_OK;
}

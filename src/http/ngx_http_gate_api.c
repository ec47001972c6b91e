
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gate_api: who asks, for what, and with which body.
 *
 * The token is looked at before anything else, so that a stranger learns
 * neither names nor methods.  Only tokens in a header count, never cookies,
 * so no web page can make a browser write here.
 */


#include "ngx_http_gate_api.h"


#define NGX_HTTP_GATE_BODY_MAX  8192


static ngx_int_t ngx_http_gate_api_handler(ngx_http_request_t *r);
static ngx_http_gate_token_t *ngx_http_gate_api_token(ngx_http_request_t *r,
    ngx_http_gate_api_conf_t *acf);
static ngx_int_t ngx_http_gate_api_unauthorized(ngx_http_request_t *r);
static ngx_http_gate_call_t *ngx_http_gate_api_call(ngx_http_request_t *r,
    ngx_http_gate_token_t *token);
static void ngx_http_gate_api_cleanup(void *data);
static ngx_int_t ngx_http_gate_api_not_allowed(ngx_http_request_t *r,
    ngx_http_gate_call_t *call);
static ngx_int_t ngx_http_gate_api_post(ngx_http_request_t *r);
static ngx_uint_t ngx_http_gate_api_is_json(ngx_http_request_t *r);
static void ngx_http_gate_api_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_gate_api_do(ngx_http_request_t *r,
    ngx_http_gate_call_t *call);
static ngx_int_t ngx_http_gate_api_body(ngx_http_request_t *r,
    ngx_str_t *text);
static ngx_int_t ngx_http_gate_api_bad_json(ngx_http_request_t *r,
    json_error_t *err);
static ngx_int_t ngx_http_gate_api_location(ngx_conf_t *cf,
    ngx_command_t *cmd);


static ngx_int_t
ngx_http_gate_api_handler(ngx_http_request_t *r)
{
    json_t                    *missing;
    ngx_http_gate_call_t      *call;
    ngx_http_gate_token_t     *token;
    ngx_http_gate_loc_conf_t  *glcf;

    glcf = ngx_http_get_module_loc_conf(r, ngx_http_gate_module);

    if (glcf->api == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    token = ngx_http_gate_api_token(r, glcf->api);
    if (token == NULL) {
        return ngx_http_gate_api_unauthorized(r);
    }

    call = ngx_http_gate_api_call(r, token);
    if (call == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    missing = ngx_http_gate_route(r, call);
    if (missing) {
        return ngx_http_gate_send_json(r, NGX_HTTP_NOT_FOUND, missing);
    }

    if ((r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) && call->get) {
        return call->get(r, call, NULL);
    }

    if (r->method == NGX_HTTP_DELETE && call->del) {
        return call->del(r, call, NULL);
    }

    if (r->method == NGX_HTTP_POST && call->post) {
        return ngx_http_gate_api_post(r);
    }

    return ngx_http_gate_api_not_allowed(r, call);
}


static ngx_http_gate_token_t *
ngx_http_gate_api_token(ngx_http_request_t *r, ngx_http_gate_api_conf_t *acf)
{
    ngx_str_t               secret;
    ngx_table_elt_t        *h;
    ngx_http_gate_token_t  *token;

    h = r->headers_in.authorization;

    if (h == NULL
        || h->value.len < sizeof("Bearer ") - 1
        || ngx_strncasecmp(h->value.data, (u_char *) "Bearer ",
                           sizeof("Bearer ") - 1)
           != 0)
    {
        return NULL;
    }

    secret.data = h->value.data + sizeof("Bearer ") - 1;
    secret.len = h->value.len - (sizeof("Bearer ") - 1);

    while (secret.len && *secret.data == ' ') {
        secret.data++;
        secret.len--;
    }

    token = ngx_http_gate_tokens_find(acf, &secret, r->connection->log);

    if (token == NULL) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "gate: wrong token for the api");
    }

    return token;
}


static ngx_int_t
ngx_http_gate_api_unauthorized(ngx_http_request_t *r)
{
    ngx_str_t  plain = ngx_string("Bearer realm=\"nginx-gate\"");
    ngx_str_t  wrong = ngx_string("Bearer realm=\"nginx-gate\", "
                                  "error=\"invalid_token\"");

    if (ngx_http_gate_add_header(r, "WWW-Authenticate",
                                 sizeof("WWW-Authenticate") - 1,
                                 r->headers_in.authorization ? &wrong
                                                             : &plain)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_gate_api_error(r, NGX_HTTP_UNAUTHORIZED,
                                   "a valid \"Authorization: Bearer\" token "
                                   "is needed");
}


static ngx_http_gate_call_t *
ngx_http_gate_api_call(ngx_http_request_t *r, ngx_http_gate_token_t *token)
{
    ngx_pool_cleanup_t         *cln;
    ngx_http_gate_call_t       *call;
    ngx_http_gate_main_conf_t  *gmcf;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_gate_call_t));
    if (cln == NULL) {
        return NULL;
    }

    call = cln->data;
    ngx_memzero(call, sizeof(ngx_http_gate_call_t));

    cln->handler = ngx_http_gate_api_cleanup;

    gmcf = ngx_http_get_module_main_conf(r, ngx_http_gate_module);

    call->request = r;
    call->node = &gmcf->node;

    ngx_snprintf((u_char *) call->actor, sizeof(call->actor) - 1, "%V@%V",
                 &token->name, &r->connection->addr_text);

    return call;
}


static void
ngx_http_gate_api_cleanup(void *data)
{
    ngx_http_gate_call_t *call = data;

    if (call->event.timer_set) {
        ngx_del_timer(&call->event);
    }

    if (call->letter) {
        (void) ngx_gate_mail_drop(call->node, call->letter);
    }
}


static ngx_int_t
ngx_http_gate_api_not_allowed(ngx_http_request_t *r,
    ngx_http_gate_call_t *call)
{
    ngx_str_t  allow;

    if (call->get && call->post) {
        ngx_str_set(&allow, "GET, HEAD, POST, DELETE");

    } else if (call->get) {
        ngx_str_set(&allow, "GET, HEAD");

    } else {
        ngx_str_set(&allow, "POST");
    }

    if (ngx_http_gate_add_header(r, "Allow", sizeof("Allow") - 1, &allow)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_gate_api_error(r, NGX_HTTP_NOT_ALLOWED,
                                   "this method is not allowed here, "
                                   "see the \"Allow\" header");
}


ngx_int_t
ngx_http_gate_api_error(ngx_http_request_t *r, ngx_uint_t status,
    const char *detail)
{
    json_t  *o;

    o = json_object();

    ngx_http_gate_json_set(o, "detail",
                           ngx_http_gate_json_bytes((const u_char *) detail,
                                                    ngx_strlen(detail)));

    return ngx_http_gate_send_json(r, status, o);
}


static ngx_int_t
ngx_http_gate_api_post(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    if (!ngx_http_gate_api_is_json(r)) {
        return ngx_http_gate_api_error(r, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                                       "the \"Content-Type\" of a body is "
                                       "application/json");
    }

    if (r->headers_in.content_length_n > NGX_HTTP_GATE_BODY_MAX) {
        return ngx_http_gate_api_error(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                       "a body has at most 8192 bytes");
    }

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_gate_api_body_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


/* No body at all needs no type. */

static ngx_uint_t
ngx_http_gate_api_is_json(ngx_http_request_t *r)
{
    size_t            len;
    u_char           *p;
    ngx_table_elt_t  *h;

    h = r->headers_in.content_type;

    if (h == NULL) {
        return r->headers_in.content_length_n <= 0 && !r->headers_in.chunked;
    }

    p = ngx_strlchr(h->value.data, h->value.data + h->value.len, ';');

    len = p ? (size_t) (p - h->value.data) : h->value.len;

    while (len && (h->value.data[len - 1] == ' '
                   || h->value.data[len - 1] == '\t'))
    {
        len--;
    }

    return len == sizeof("application/json") - 1
           && ngx_strncasecmp(h->value.data, (u_char *) "application/json",
                              len)
              == 0;
}


static void
ngx_http_gate_api_body_handler(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t    *cln;
    ngx_http_gate_call_t  *call;

    /* subrequests share the pool, and the newest call comes first */

    for (cln = r->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler != ngx_http_gate_api_cleanup) {
            continue;
        }

        call = cln->data;

        if (call->request == r) {
            ngx_http_finalize_request(r, ngx_http_gate_api_do(r, call));
            return;
        }
    }

    ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
}


static ngx_int_t
ngx_http_gate_api_do(ngx_http_request_t *r, ngx_http_gate_call_t *call)
{
    json_t        *body;
    ngx_int_t      rc;
    ngx_str_t      text;
    json_error_t   err;

    rc = ngx_http_gate_api_body(r, &text);

    if (rc == NGX_DECLINED) {
        return ngx_http_gate_api_error(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                       "a body has at most 8192 bytes");
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (text.len == 0) {
        return call->post(r, call, NULL);
    }

    /* the parser takes it for the end, and what follows is nobody's */

    if (ngx_strlchr(text.data, text.data + text.len, '\0')) {
        return ngx_http_gate_api_error(r, NGX_HTTP_BAD_REQUEST,
                                       "the body is no valid JSON, there is "
                                       "a NUL byte in it");
    }

    /* before parsing, because the parser recurses */

    if (!gate_switch_depth_ok(text.data, text.len, GATE_SWITCH_DEPTH_MAX)) {
        return ngx_http_gate_api_error(r, NGX_HTTP_BAD_REQUEST,
                                       "the body is nested too deep");
    }

    body = json_loadb((char *) text.data, text.len,
                      JSON_DECODE_ANY|JSON_REJECT_DUPLICATES, &err);

    if (body == NULL) {
        return ngx_http_gate_api_bad_json(r, &err);
    }

    rc = call->post(r, call, body);

    json_decref(body);

    return rc;
}


/* NGX_DECLINED: it is too long */

static ngx_int_t
ngx_http_gate_api_body(ngx_http_request_t *r, ngx_str_t *text)
{
    off_t         len, size;
    u_char       *p;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    ngx_str_null(text);

    if (r->request_body == NULL) {
        return NGX_OK;
    }

    len = 0;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        len += ngx_buf_size(cl->buf);

        if (len > NGX_HTTP_GATE_BODY_MAX) {
            return NGX_DECLINED;
        }
    }

    if (len == 0) {
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, (size_t) len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    text->data = p;
    text->len = (size_t) len;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        b = cl->buf;
        size = ngx_buf_size(b);

        if (size == 0) {
            continue;
        }

        if (ngx_buf_in_memory(b)) {
            p = ngx_cpymem(p, b->pos, size);
            continue;
        }

        if (ngx_read_file(b->file, p, (size_t) size, b->file_pos) != size) {
            return NGX_ERROR;
        }

        p += size;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_api_bad_json(ngx_http_request_t *r, json_error_t *err)
{
    char  detail[sizeof(err->text) + 64];

    (void) ngx_snprintf((u_char *) detail, sizeof(detail),
                        "the body is no valid JSON, line %d: %s%Z",
                        err->line, err->text);

    return ngx_http_gate_api_error(r, NGX_HTTP_BAD_REQUEST, detail);
}


char *
ngx_http_gate_api(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_gate_loc_conf_t *glcf = conf;

    char        *rv;
    ngx_str_t   *value, path;
    ngx_uint_t   i;

    rv = ngx_http_gate_endpoint(cf, cmd, conf, ngx_http_gate_api_handler);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (ngx_http_gate_api_location(cf, cmd) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    ngx_str_null(&path);
    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "token_file=", 11) == 0
            && value[i].len > 11 && path.len == 0)
        {
            path.data = value[i].data + 11;
            path.len = value[i].len - 11;
            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\" in \"%V\", it takes one "
                           "\"token_file=path\"", &value[i], &cmd->name);
        return NGX_CONF_ERROR;
    }

    if (path.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" needs \"token_file=path\": nobody may "
                           "write here without a token", &cmd->name);
        return NGX_CONF_ERROR;
    }

    glcf->api = ngx_pcalloc(cf->pool, sizeof(ngx_http_gate_api_conf_t));
    if (glcf->api == NULL) {
        return NGX_CONF_ERROR;
    }

    return (ngx_http_gate_tokens_load(cf, glcf->api, &path) == NGX_OK)
           ? NGX_CONF_OK : NGX_CONF_ERROR;
}


/* What a path is relative to must be a prefix of it. */

static ngx_int_t
ngx_http_gate_api_location(ngx_conf_t *cf, ngx_command_t *cmd)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->exact_match || clcf->named || clcf->noname
#if (NGX_PCRE)
        || clcf->regex
#endif
       )
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" needs a location given by a prefix, such "
                           "as \"location /gate/api/\"", &cmd->name);
        return NGX_ERROR;
    }

    return NGX_OK;
}

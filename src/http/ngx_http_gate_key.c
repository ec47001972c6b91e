
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gate_key: who the caller is; and other values that each request has, as the
 * key of a limit.
 *
 * Anything will do, but most keys are one variable, and most of these are a
 * header of the request.  Those take a shorter way to the same bytes: a
 * variable is not copied, and a header is found by its length first, where
 * nginx compares letters with every header that there is.
 */


#include "ngx_http_gate.h"


static ngx_http_gate_aside ngx_int_t ngx_http_gate_fetch_variable(
    ngx_http_request_t *r, ngx_http_gate_fetch_t *fetch, ngx_str_t *value);
static ngx_http_gate_aside ngx_int_t ngx_http_gate_fetch_header(
    ngx_http_request_t *r, ngx_http_gate_fetch_t *fetch, ngx_str_t *value);
static ngx_http_gate_aside ngx_int_t ngx_http_gate_fetch_headers(
    ngx_http_request_t *r, ngx_http_gate_fetch_t *fetch, ngx_str_t *value);
static ngx_http_gate_aside ngx_uint_t ngx_http_gate_key_is(ngx_str_t *name,
    ngx_str_t *header);


char *
ngx_http_gate_key(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_gate_srv_conf_t *gscf = conf;

    ngx_str_t  *value;

    if (ngx_http_gate_rollout(cf, gscf) == NULL) {
        return NGX_CONF_ERROR;
    }

    if (gscf->key.value) {
        return "is duplicate";
    }

    value = cf->args->elts;

    return (ngx_http_gate_fetch_compile(cf, &gscf->key, &value[1]) == NGX_OK)
           ? NGX_CONF_OK : NGX_CONF_ERROR;
}


ngx_int_t
ngx_http_gate_fetch_compile(ngx_conf_t *cf, ngx_http_gate_fetch_t *fetch,
    ngx_str_t *text)
{
    u_char                             c;
    ngx_str_t                          name;
    ngx_uint_t                         i;
    ngx_http_compile_complex_value_t   ccv;

    fetch->index = NGX_CONF_UNSET;

    fetch->value = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (fetch->value == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = text;
    ccv.complex_value = fetch->value;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_ERROR;
    }

    /* a variable and nothing else ("$1" is a capture) */

    if (fetch->value->lengths == NULL || text->data[0] != '$') {
        return NGX_OK;
    }

    name.data = text->data + 1;
    name.len = text->len - 1;

    if (name.data[0] >= '0' && name.data[0] <= '9') {
        return NGX_OK;
    }

    for (i = 0; i < name.len; i++) {
        c = name.data[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
              || (c >= '0' && c <= '9') || c == '_'))
        {
            return NGX_OK;
        }
    }

    fetch->index = ngx_http_get_variable_index(cf, &name);

    return (fetch->index == NGX_ERROR) ? NGX_ERROR : NGX_OK;
}


void
ngx_http_gate_fetch_init(ngx_conf_t *cf, ngx_http_gate_fetch_t *fetch)
{
    u_char                      c;
    ngx_str_t                  *name;
    ngx_uint_t                  i;
    ngx_hash_key_t             *key;
    ngx_http_variable_t        *v;
    ngx_http_core_main_conf_t  *cmcf;

    if (fetch->value == NULL || fetch->index == NGX_CONF_UNSET) {
        return;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    v = cmcf->variables.elts;
    name = &v[fetch->index].name;

    if (name->len <= 5 || ngx_strncmp(name->data, "http_", 5) != 0) {
        return;
    }

    /* somebody's own: nginx's for well-known headers, or a "map", say */

    key = cmcf->variables_keys->keys.elts;

    for (i = 0; i < cmcf->variables_keys->keys.nelts; i++) {

        if (key[i].key.len == name->len
            && ngx_strncmp(key[i].key.data, name->data, name->len) == 0)
        {
            return;
        }
    }

    /* as the client most likely writes it */

    fetch->header.data = ngx_pnalloc(cf->pool, name->len - 5);

    if (fetch->header.data == NULL) {
        return;
    }

    fetch->header.len = name->len - 5;

    for (i = 0; i < fetch->header.len; i++) {
        c = name->data[5 + i];
        fetch->header.data[i] = (c == '_') ? '-' : c;
    }
}


ngx_int_t
ngx_http_gate_fetch(ngx_http_request_t *r, ngx_http_gate_fetch_t *fetch,
    ngx_str_t *value)
{
    if (fetch->header.len) {
        return ngx_http_gate_fetch_header(r, fetch, value);
    }

    if (fetch->index == NGX_CONF_UNSET) {
        return ngx_http_complex_value(r, fetch->value, value);
    }

    return ngx_http_gate_fetch_variable(r, fetch, value);
}


static ngx_int_t
ngx_http_gate_fetch_variable(ngx_http_request_t *r,
    ngx_http_gate_fetch_t *fetch, ngx_str_t *value)
{
    ngx_http_variable_value_t  *v;

    v = ngx_http_get_flushed_variable(r, fetch->index);

    if (v == NULL || v->not_found) {
        value->len = 0;
        return NGX_OK;
    }

    value->len = v->len;
    value->data = v->data;

    return NGX_OK;
}


/*
 * The usual request has few headers, in lower case already, and one of that
 * name; and most names have 8 to 16 bytes, which are two pairs of words.  All
 * else is looked at again.
 */

static ngx_int_t
ngx_http_gate_fetch_header(ngx_http_request_t *r,
    ngx_http_gate_fetch_t *fetch, ngx_str_t *value)
{
    size_t            len, last;
    u_char           *name;
    uint64_t          a, b, c, d;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *end, *found;

    part = &r->headers_in.headers.part;
    len = fetch->header.len;
    last = len - 8;
    found = NULL;

    if (part->next || last > 8) {
        return ngx_http_gate_fetch_headers(r, fetch, value);
    }

    h = part->elts;

    for (end = h + part->nelts; h < end; h++) {

        if (h->key.len != len) {
            continue;
        }

        name = h->lowcase_key;

        if (found || h->hash == 0 || name == NULL) {
            return ngx_http_gate_fetch_headers(r, fetch, value);
        }

        ngx_memcpy(&a, name, 8);
        ngx_memcpy(&b, fetch->header.data, 8);
        ngx_memcpy(&c, name + last, 8);
        ngx_memcpy(&d, fetch->header.data + last, 8);

        if (a != b || c != d) {
            return ngx_http_gate_fetch_headers(r, fetch, value);
        }

        found = h;
    }

    if (found == NULL) {
        value->len = 0;
        return NGX_OK;
    }

    *value = found->value;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_fetch_headers(ngx_http_request_t *r,
    ngx_http_gate_fetch_t *fetch, ngx_str_t *value)
{
    ngx_str_t        *name;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *found;

    name = &fetch->header;
    found = NULL;

    for (part = &r->headers_in.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len != name->len || h[i].hash == 0
                || !ngx_http_gate_key_is(name, &h[i].key))
            {
                continue;
            }

            /* it is up to nginx what several of them mean */

            if (found) {
                return ngx_http_gate_fetch_variable(r, fetch, value);
            }

            found = &h[i];
        }
    }

    value->len = 0;

    if (found) {
        *value = found->value;
    }

    return NGX_OK;
}


/* whether the header's name is that but for case and underscores */

static ngx_uint_t
ngx_http_gate_key_is(ngx_str_t *name, ngx_str_t *header)
{
    u_char      c;
    ngx_uint_t  i;

    for (i = 0; i < name->len; i++) {
        c = header->data[i];

        if (c >= 'A' && c <= 'Z') {
            c |= 0x20;

        } else if (c == '_') {
            c = '-';
        }

        if (c != name->data[i]) {
            return 0;
        }
    }

    return 1;
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gate_key: who the caller is.
 *
 * Any value will do, but most keys are one variable, and most of these are a
 * header of the request.  Those take a shorter way to the same bytes: a
 * variable is not copied, and a header is found by its length first, where
 * nginx compares letters with every header that there is.
 */


#include "ngx_http_gate.h"


static ngx_int_t ngx_http_gate_key_header(ngx_http_request_t *r,
    ngx_str_t *name, ngx_str_t *key);
static ngx_uint_t ngx_http_gate_key_is(ngx_str_t *name, ngx_str_t *header);


char *
ngx_http_gate_key(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_gate_srv_conf_t *gscf = conf;

    u_char      c;
    char       *rv;
    ngx_str_t  *value, name;
    ngx_uint_t  i;

    rv = ngx_http_gate_value(cf, cmd, conf);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    /* a variable and nothing else ("$1" is a capture) */

    value = cf->args->elts;

    name.data = value[1].data + 1;
    name.len = value[1].len - 1;

    if (gscf->key->lengths == NULL || value[1].data[0] != '$'
        || (name.data[0] >= '0' && name.data[0] <= '9'))
    {
        return NGX_CONF_OK;
    }

    for (i = 0; i < name.len; i++) {
        c = name.data[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
              || (c >= '0' && c <= '9') || c == '_'))
        {
            return NGX_CONF_OK;
        }
    }

    gscf->key_index = ngx_http_get_variable_index(cf, &name);

    return (gscf->key_index == NGX_ERROR) ? NGX_CONF_ERROR : NGX_CONF_OK;
}


void
ngx_http_gate_key_init(ngx_conf_t *cf, ngx_http_gate_srv_conf_t *gscf)
{
    u_char                      c;
    ngx_str_t                  *name;
    ngx_uint_t                  i;
    ngx_hash_key_t             *key;
    ngx_http_variable_t        *v;
    ngx_http_core_main_conf_t  *cmcf;

    if (gscf->key_index == NGX_CONF_UNSET) {
        return;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    v = cmcf->variables.elts;
    name = &v[gscf->key_index].name;

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

    gscf->key_header.data = ngx_pnalloc(cf->pool, name->len - 5);

    if (gscf->key_header.data == NULL) {
        return;
    }

    gscf->key_header.len = name->len - 5;

    for (i = 0; i < gscf->key_header.len; i++) {
        c = name->data[5 + i];
        gscf->key_header.data[i] = (c == '_') ? '-' : c;
    }
}


ngx_int_t
ngx_http_gate_key_value(ngx_http_request_t *r,
    ngx_http_gate_srv_conf_t *composite, ngx_str_t *key)
{
    ngx_http_variable_value_t  *v;

    if (composite->key_header.len
        && ngx_http_gate_key_header(r, &composite->key_header, key) == NGX_OK)
    {
        return NGX_OK;
    }

    if (composite->key_index == NGX_CONF_UNSET) {
        return ngx_http_complex_value(r, composite->key, key);
    }

    v = ngx_http_get_flushed_variable(r, composite->key_index);

    if (v == NULL || v->not_found) {
        key->len = 0;
        return NGX_OK;
    }

    key->len = v->len;
    key->data = v->data;

    return NGX_OK;
}


/* NGX_DECLINED if there are several: it is up to nginx what that means. */

static ngx_int_t
ngx_http_gate_key_header(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *key)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *found;

    found = NULL;

    for (part = &r->headers_in.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len != name->len || h[i].hash == 0) {
                continue;
            }

            if ((h[i].lowcase_key == NULL
                 || ngx_memcmp(h[i].lowcase_key, name->data, name->len) != 0)
                && !ngx_http_gate_key_is(name, &h[i].key))
            {
                continue;
            }

            if (found) {
                return NGX_DECLINED;
            }

            found = &h[i];
        }
    }

    key->len = 0;

    if (found) {
        *key = found->value;
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

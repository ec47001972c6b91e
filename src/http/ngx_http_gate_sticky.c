
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gate_sticky cookie=NAME key_file=FILE [max_age=] [path=] [domain=] [secure]
 */


#include "ngx_http_gate.h"


#define NGX_HTTP_GATE_KEY_MIN   32          /* bytes of a line */
#define NGX_HTTP_GATE_KEY_FILE  4096


static char *ngx_http_gate_sticky_param(ngx_conf_t *cf,
    ngx_http_gate_sticky_t *s, ngx_str_t *value, ngx_str_t *file);
static ngx_int_t ngx_http_gate_sticky_keys(ngx_conf_t *cf,
    ngx_http_gate_sticky_t *s, ngx_str_t *file);
static ngx_uint_t ngx_http_gate_token(ngx_str_t *s, ngx_uint_t attribute);


char *
ngx_http_gate_sticky(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_gate_srv_conf_t *gscf = conf;

    char                    *rv;
    ngx_str_t               *value, file;
    ngx_uint_t               i;
    ngx_http_gate_sticky_t  *s;

    if (gscf->sticky) {
        return "is duplicate";
    }

    s = ngx_pcalloc(cf->pool, sizeof(ngx_http_gate_sticky_t));

    if (s == NULL || ngx_http_gate_rollout(cf, gscf) == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_str_null(&file);
    ngx_str_set(&s->path, "/");

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        rv = ngx_http_gate_sticky_param(cf, s, &value[i], &file);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (s->name.len == 0 || file.len == 0) {
        return "needs \"cookie=\" and \"key_file=\"";
    }

    if (ngx_http_gate_sticky_keys(cf, s, &file) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    gscf->sticky = s;

    return NGX_CONF_OK;
}


static char *
ngx_http_gate_sticky_param(ngx_conf_t *cf, ngx_http_gate_sticky_t *s,
    ngx_str_t *value, ngx_str_t *file)
{
    u_char     *eq;
    uint64_t    ms;
    ngx_str_t   v;

    eq = (u_char *) ngx_strchr(value->data, '=');

    v.data = eq ? eq + 1 : value->data + value->len;
    v.len = value->data + value->len - v.data;

    if (ngx_strncmp(value->data, "cookie=", 7) == 0
        && ngx_http_gate_token(&v, 0))
    {
        s->name = v;

    } else if (ngx_strncmp(value->data, "key_file=", 9) == 0 && v.len) {
        *file = v;

    } else if (ngx_strncmp(value->data, "path=", 5) == 0
               && ngx_http_gate_token(&v, 1))
    {
        s->path = v;

    } else if (ngx_strncmp(value->data, "domain=", 7) == 0
               && ngx_http_gate_token(&v, 1))
    {
        s->domain = v;

    } else if (ngx_strncmp(value->data, "max_age=", 8) == 0
               && gate_parse_msec(v.data, v.len, &ms) == 0
               && ms >= 1000)
    {
        s->max_age = (time_t) (ms / 1000);

    } else if (ngx_strcmp(value->data, "secure") == 0) {
        s->secure = 1;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\", it must be \"cookie=\", "
                           "\"key_file=\", \"path=\", \"domain=\", "
                           "\"max_age=\" or \"secure\"", value);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* RFC 6265: a cookie's name is a token, an attribute has no ";" */

static ngx_uint_t
ngx_http_gate_token(ngx_str_t *s, ngx_uint_t attribute)
{
    size_t  i;

    for (i = 0; i < s->len; i++) {

        if (s->data[i] <= ' ' || s->data[i] >= 0x7f || s->data[i] == ';') {
            return 0;
        }

        if (!attribute && ngx_strchr("()<>@,:\\\"/[]?={}", s->data[i])) {
            return 0;
        }
    }

    return s->len != 0;
}


/* one key a line, newest first */

static ngx_int_t
ngx_http_gate_sticky_keys(ngx_conf_t *cf, ngx_http_gate_sticky_t *s,
    ngx_str_t *file)
{
    u_char     *p, *end, *line;
    size_t      len;
    ngx_str_t   text;

    if (ngx_http_gate_secret_read(cf, file, NGX_HTTP_GATE_KEY_FILE, &text)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    end = text.data + text.len;

    for (p = text.data; p < end; p++) {
        line = p;

        while (p < end && *p != '\n') {
            p++;
        }

        len = p - line;

        if (len && line[len - 1] == '\r') {
            len--;
        }

        if (len == 0) {
            continue;
        }

        if (len < NGX_HTTP_GATE_KEY_MIN
            || s->nkeys == sizeof(s->hmac) / sizeof(s->hmac[0]))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid keys in \"%V\", there must be one or "
                               "two lines of %d characters or more",
                               file, NGX_HTTP_GATE_KEY_MIN);
            goto failed;
        }

        if (gate_hmac_init(&s->hmac[s->nkeys], line, len) != 0) {
            goto failed;
        }

        s->nkeys++;
    }

    ngx_explicit_memzero(text.data, text.len);

    if (s->nkeys == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "no key in \"%V\"", file);
        return NGX_ERROR;
    }

    return NGX_OK;

failed:

    ngx_explicit_memzero(text.data, text.len);

    return NGX_ERROR;
}

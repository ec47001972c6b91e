
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Where a request has its cursor: as the service behind will read it, which is
 * not always as nginx does.
 */


#include "ngx_http_gate_cursor.h"

#include "core/gate_args.h"


/* as it was sent */

typedef struct {
    size_t       n;
    ngx_str_t    first;
    ngx_str_t    last;
} ngx_http_gate_cursor_seen_t;


static void ngx_http_gate_cursor_arg(ngx_str_t *args,
    ngx_http_gate_cursor_t *cursor, ngx_http_gate_cursor_seen_t *seen);
static void ngx_http_gate_cursor_header(ngx_http_request_t *r,
    ngx_http_gate_cursor_t *cursor, ngx_http_gate_cursor_seen_t *seen);
static void ngx_http_gate_cursor_cookie(ngx_str_t *field,
    ngx_http_gate_cursor_t *cursor, ngx_http_gate_cursor_seen_t *seen);
static void ngx_http_gate_cursor_add(ngx_http_gate_cursor_seen_t *seen,
    ngx_str_t *value);
static void ngx_http_gate_cursor_decode(ngx_http_gate_cursor_t *cursor,
    ngx_str_t *value);


/* Three characters for each byte is the most that an argument needs. */

static u_char  ngx_http_gate_cursor_decoded[3 * GATE_CURSOR_LENGTH];


ngx_int_t
ngx_http_gate_cursor_find(ngx_http_request_t *r,
    ngx_http_gate_cursor_t *cursor, ngx_str_t *args, ngx_str_t *value)
{
    ngx_http_gate_cursor_seen_t  seen;

    ngx_memzero(&seen, sizeof(ngx_http_gate_cursor_seen_t));

    if (cursor->source == NGX_HTTP_GATE_CURSOR_ARG) {
        ngx_http_gate_cursor_arg(args, cursor, &seen);

    } else {
        ngx_http_gate_cursor_header(r, cursor, &seen);
    }

    if (seen.n > 1 && cursor->duplicate == NGX_HTTP_GATE_CURSOR_REJECT) {
        return NGX_BUSY;
    }

    *value = (cursor->duplicate == NGX_HTTP_GATE_CURSOR_LAST) ? seen.last
                                                             : seen.first;

    if (seen.n == 0 || value->len == 0) {
        return NGX_DECLINED;
    }

    if (cursor->source == NGX_HTTP_GATE_CURSOR_ARG) {
        ngx_http_gate_cursor_decode(cursor, value);
    }

    return NGX_OK;
}


void
ngx_http_gate_cursor_args(ngx_http_request_t *r, ngx_str_t *args)
{
    u_char  *p, *last;

    *args = r->args;

    /*
     * nginx ends a query at a "#", which nobody sends by accident, and passes
     * on what came; there are services that read on.
     */

    if (!r->valid_unparsed_uri
        || ngx_strlchr(r->unparsed_uri.data,
                       r->unparsed_uri.data + r->unparsed_uri.len, '#')
           == NULL)
    {
        return;
    }

    last = r->unparsed_uri.data + r->unparsed_uri.len;
    p = ngx_strlchr(r->unparsed_uri.data, last, '?');

    args->data = p ? p + 1 : last;
    args->len = last - args->data;
}


static void
ngx_http_gate_cursor_arg(ngx_str_t *args, ngx_http_gate_cursor_t *cursor,
    ngx_http_gate_cursor_seen_t *seen)
{
    gate_args_t  a;

    gate_args_find(&a, args->data, args->len, cursor->name.data,
                   cursor->name.len);

    if (a.n == 0) {
        return;
    }

    seen->n = a.n;
    seen->first.data = (u_char *) a.first;
    seen->first.len = a.first_len;
    seen->last.data = (u_char *) a.last;
    seen->last.len = a.last_len;
}


static void
ngx_http_gate_cursor_header(ngx_http_request_t *r,
    ngx_http_gate_cursor_t *cursor, ngx_http_gate_cursor_seen_t *seen)
{
    ngx_str_t         name;
    ngx_uint_t        i, cookie;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    cookie = (cursor->source == NGX_HTTP_GATE_CURSOR_COOKIE);

    name = cursor->name;

    if (cookie) {
        ngx_str_set(&name, "Cookie");
    }

    for (part = &r->headers_in.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len != name.len || h[i].hash == 0
                || ngx_strncasecmp(h[i].key.data, name.data, name.len) != 0)
            {
                continue;
            }

            if (cookie) {
                ngx_http_gate_cursor_cookie(&h[i].value, cursor, seen);

            } else {
                ngx_http_gate_cursor_add(seen, &h[i].value);
            }
        }
    }
}


static void
ngx_http_gate_cursor_cookie(ngx_str_t *field, ngx_http_gate_cursor_t *cursor,
    ngx_http_gate_cursor_seen_t *seen)
{
    ngx_str_t          value;
    gate_cookie_all_t  c;

    ngx_memzero(&c, sizeof(gate_cookie_all_t));

    gate_cookie_all(&c, field->data, field->len, cursor->name.data,
                    cursor->name.len);

    if (c.n == 0) {
        return;
    }

    value.data = (u_char *) c.first;
    value.len = c.first_len;

    ngx_http_gate_cursor_add(seen, &value);

    value.data = (u_char *) c.last;
    value.len = c.last_len;

    if (c.n > 1) {
        ngx_http_gate_cursor_add(seen, &value);
    }
}


static void
ngx_http_gate_cursor_add(ngx_http_gate_cursor_seen_t *seen, ngx_str_t *value)
{
    if (seen->n++ == 0) {
        seen->first = *value;
    }

    seen->last = *value;
}


/* What is too long to be a cursor, however it is written, stays as it is. */

static void
ngx_http_gate_cursor_decode(ngx_http_gate_cursor_t *cursor, ngx_str_t *value)
{
    if (value->len > 3 * cursor->rules.length) {
        return;
    }

    value->len = gate_args_decode(ngx_http_gate_cursor_decoded, value->data,
                                  value->len);
    value->data = ngx_http_gate_cursor_decoded;
}


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


static ngx_uint_t ngx_http_gate_cursor_hidden(ngx_http_request_t *r,
    ngx_http_gate_cursor_t *cursor);
static void ngx_http_gate_cursor_arg(ngx_str_t *args,
    ngx_http_gate_cursor_t *cursor, ngx_http_gate_cursor_seen_t *seen);
static void ngx_http_gate_cursor_header(ngx_http_request_t *r,
    ngx_http_gate_cursor_t *cursor, ngx_http_gate_cursor_seen_t *seen);
static ngx_uint_t ngx_http_gate_cursor_called(ngx_str_t *header,
    ngx_str_t *name);
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

        if (ngx_http_gate_cursor_hidden(r, cursor)) {
            return NGX_ABORT;
        }

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


/*
 * nginx ends a query at a "#", which nobody sends by accident, but can pass on
 * the whole, and there are services that read on.  Whether it makes a
 * difference to them.
 */

static ngx_uint_t
ngx_http_gate_cursor_hidden(ngx_http_request_t *r,
    ngx_http_gate_cursor_t *cursor)
{
    u_char       *p, *last, *hash;
    gate_args_t   all, seen;

    p = r->unparsed_uri.data;
    last = p + r->unparsed_uri.len;

    hash = ngx_strlchr(p, last, '#');
    p = hash ? ngx_strlchr(p, last, '?') : NULL;

    if (p == NULL) {
        return 0;
    }

    p++;

    gate_args_find(&all, p, last - p, cursor->name.data, cursor->name.len);

    if (p > hash) {
        return all.n != 0;
    }

    gate_args_find(&seen, p, hash - p, cursor->name.data, cursor->name.len);

    return all.n != seen.n || (all.n && all.last_len != seen.last_len);
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
                || !ngx_http_gate_cursor_called(&h[i].key, &name))
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


/*
 * But for case, and for underscores: where nginx lets these pass, a service
 * behind CGI's variables takes them for dashes.
 */

static ngx_uint_t
ngx_http_gate_cursor_called(ngx_str_t *header, ngx_str_t *name)
{
    u_char  a, b;
    size_t  i;

    for (i = 0; i < name->len; i++) {
        a = ngx_tolower(header->data[i]);
        b = ngx_tolower(name->data[i]);

        if ((a == '_' ? '-' : a) != (b == '_' ? '-' : b)) {
            return 0;
        }
    }

    return 1;
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

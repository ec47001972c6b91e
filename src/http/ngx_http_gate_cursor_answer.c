
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * What the client is told of a cursor that is refused.
 *
 *     {"detail":"Invalid cursor: Cursor expired (age: 700.0s, TTL: 600s)"}
 */


#include "ngx_http_gate_cursor.h"


ngx_int_t
ngx_http_gate_cursor_refuse(ngx_http_request_t *r,
    ngx_http_gate_cursor_ctx_t *cx)
{
    ngx_str_t   value;
    ngx_uint_t  status;

    /* in a minute the same cursor may be another's business */

    ngx_str_set(&value, "no-store");

    if (ngx_http_gate_add_header(r, "Cache-Control",
                                 sizeof("Cache-Control") - 1, &value)
        != NGX_OK)
    {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return NGX_DONE;
    }

    status = (cx->status == GATE_CURSOR_EXPIRED) ? cx->loc->cursor->expired
                                                 : NGX_HTTP_BAD_REQUEST;

    return ngx_http_gate_reject(r, status, &cx->text);
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Text of any length for an answer.
 */


#include "ngx_http_gate_out.h"


#define NGX_HTTP_GATE_OUT_SIZE  16384


static ngx_buf_t *ngx_http_gate_out_grow(ngx_http_gate_out_t *out);


void
ngx_http_gate_print(ngx_http_gate_out_t *out, const char *fmt, ...)
{
    u_char     *p;
    va_list     args;
    ngx_buf_t  *b;

    b = out->last ? out->last->buf : NULL;

    if (b == NULL || b->end - b->last < NGX_HTTP_GATE_OUT_LINE) {
        b = ngx_http_gate_out_grow(out);

        if (b == NULL) {
            out->failed = 1;
            return;
        }
    }

    va_start(args, fmt);
    p = ngx_vslprintf(b->last, b->last + NGX_HTTP_GATE_OUT_LINE, fmt, args);
    va_end(args);

    out->size += p - b->last;
    b->last = p;
}


static ngx_buf_t *
ngx_http_gate_out_grow(ngx_http_gate_out_t *out)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    cl = ngx_alloc_chain_link(out->pool);
    if (cl == NULL) {
        return NULL;
    }

    b = ngx_create_temp_buf(out->pool, NGX_HTTP_GATE_OUT_SIZE);
    if (b == NULL) {
        return NULL;
    }

    cl->buf = b;
    cl->next = NULL;

    if (out->last) {
        out->last->next = cl;

    } else {
        out->first = cl;
    }

    out->last = cl;

    return b;
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Text of any length for an answer, printed line by line into a chain of
 * buffers of the request's pool.
 *
 * Set "pool", zero the rest.  When memory is short "failed" is set and the
 * text is worth nothing.
 */


#ifndef _NGX_HTTP_GATE_OUT_H_INCLUDED_
#define _NGX_HTTP_GATE_OUT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* more than this of one call is cut */
#define NGX_HTTP_GATE_OUT_LINE  1024


typedef struct {
    ngx_pool_t    *pool;
    ngx_chain_t   *first;
    ngx_chain_t   *last;
    off_t          size;
    ngx_uint_t     failed;
} ngx_http_gate_out_t;


#pragma GCC visibility push(hidden)


/* The format is that of ngx_sprintf(). */
void ngx_http_gate_print(ngx_http_gate_out_t *out, const char *fmt, ...);


/* ngx_http_gate_metrics.c */

/* The two lines before the numbers of a metric. */
void ngx_http_gate_family(ngx_http_gate_out_t *out, const char *name,
    const char *type, const char *help);


#pragma GCC visibility pop


#endif /* _NGX_HTTP_GATE_OUT_H_INCLUDED_ */

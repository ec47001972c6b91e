
/*
 * Copyright (C) nginx-gate authors
 */


/* What differs between the nginx versions that we build for. */


#ifndef _NGX_HTTP_GATE_COMPAT_H_INCLUDED_
#define _NGX_HTTP_GATE_COMPAT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* 1.23.0: headers of one name are a list, and Cookie is one of them */

#if (nginx_version >= 1023000)
#define ngx_http_gate_last_header(h)     (h)->next = NULL
#else
#define ngx_http_gate_last_header(h)
#endif


#endif /* _NGX_HTTP_GATE_COMPAT_H_INCLUDED_ */

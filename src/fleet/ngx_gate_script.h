
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * The scripts that run in Redis, *.lua, built in.
 *
 * The configure script makes C strings of them with scripts.sh.  A script is
 * known to Redis by its SHA1, which is reckoned once in each process.
 */


#ifndef _NGX_GATE_SCRIPT_H_INCLUDED_
#define _NGX_GATE_SCRIPT_H_INCLUDED_


#include "ngx_gate_redis.h"


#define NGX_GATE_SCRIPT_SHA1_LEN  41


typedef struct {
    const char                *name;
    const char                *text;
    size_t                     len;
    char                       sha1[NGX_GATE_SCRIPT_SHA1_LEN];
} ngx_gate_script_t;


#pragma GCC visibility push(hidden)


/* by ngx_gate_script_e */
extern ngx_gate_script_t  ngx_gate_scripts[NGX_GATE_SCRIPTS];

/* Fills sha1 in; may be called again. */
void ngx_gate_scripts_init(void);


#pragma GCC visibility pop


#endif /* _NGX_GATE_SCRIPT_H_INCLUDED_ */

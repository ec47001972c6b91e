
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Control keys: what the files that read and write them share.  A key has an
 * index: first the switches of the configuration, then the modes.
 */


#ifndef _NGX_GATE_CONTROL_H_INCLUDED_
#define _NGX_GATE_CONTROL_H_INCLUDED_


#include "ngx_gate_fleet.h"


#define NGX_GATE_SEEN_OK      0
#define NGX_GATE_SEEN_NONE    1
#define NGX_GATE_SEEN_WANT    2       /* Redis forgot it */
#define NGX_GATE_SEEN_TYPE    3
#define NGX_GATE_SEEN_BIG     4
#define NGX_GATE_SEEN_BAD     5       /* of hashes */

#define ngx_gate_control_gate(m, i)  ((i) - (m)->node->switches.nelts)


/* what a look says of one key */

typedef struct {
    ngx_uint_t     status;
    uint64_t       rev;
    u_char        *data;              /* of the reply */
    size_t         len;
    int64_t        pttl;              /* ms, -1: none */
    int64_t        age;               /* ms since somebody saw it first */
} ngx_gate_seen_t;


#pragma GCC visibility push(hidden)


/* ngx_gate_control.c */

const char *ngx_gate_control_word(gate_switch_value_t *v);
ngx_gate_switch_t *ngx_gate_control_sw(ngx_gate_member_t *m, ngx_uint_t i);
ngx_gate_known_t *ngx_gate_control_known(ngx_gate_member_t *m, ngx_uint_t i);
void ngx_gate_control_audit(ngx_gate_member_t *m, ngx_uint_t i,
    const char *source, const char *actor, const char *before,
    const char *after, const char *reason);
void ngx_gate_control_name(ngx_gate_member_t *m, ngx_uint_t i, ngx_str_t
    *name);

/* now: of Redis's clock, unix ms.  NGX_OK, or NGX_ERROR: no such item. */
ngx_int_t ngx_gate_control_item(redisReply *item, int64_t now, ngx_gate_seen_t
    *seen);


/* ngx_gate_put.c */

/* Sends what we hold of the keys that this look says are forgotten. */
void ngx_gate_put_restore(ngx_gate_member_t *m, redisReply *strings);

/*
 * Writes key i: with force what m->letter wants, whatever is there; else what
 * we hold, if nobody else was heard since.  m->putting tells whether it went
 * out.
 */
void ngx_gate_put_send(ngx_gate_member_t *m, ngx_uint_t i, ngx_uint_t force);

/* Nobody knows what became of the put under way. */
void ngx_gate_put_lost(ngx_gate_member_t *m);


#pragma GCC visibility pop


#endif /* _NGX_GATE_CONTROL_H_INCLUDED_ */

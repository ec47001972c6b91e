
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * What a node counts about cursors: by location, and by key.
 *
 * Objects live in the zone, are found by name and never freed.  There may be
 * many locations and few of them matter: beyond NGX_GATE_CURSORS names all
 * share one object called "(others)".  The same holds of keys.
 */


#ifndef _NGX_GATE_CURSOR_H_INCLUDED_
#define _NGX_GATE_CURSOR_H_INCLUDED_


#include "ngx_gate_node.h"
#include "core/gate_cursor.h"


#define NGX_GATE_CURSORS          512
#define NGX_GATE_CURSOR_NAME_LEN  129
#define NGX_GATE_CURSOR_HIST      10    /* the last one: more than 5 ms */


/* what the objects of both kinds begin with */

struct ngx_gate_cursor_head_s {
    ngx_gate_cursor_head_t    *next;
    char                       name[NGX_GATE_CURSOR_NAME_LEN];
};


typedef struct {
    ngx_gate_cursor_head_t     head;

    /* by gate_cursor_status_e; all of them together are the requests */
    uint64_t                   status_total[GATE_CURSOR_STATUSES];
    uint64_t                   refused_total;
    uint64_t                   observed_total;  /* would have been refused */
    uint64_t                   hist[NGX_GATE_CURSOR_HIST];
    uint64_t                   nsec_total;      /* of verifying */
} ngx_gate_cursor_t;


typedef struct {
    ngx_gate_cursor_head_t     head;
    uint64_t                   hits_total;
    int64_t                    last;            /* unix s, 0 never */
    uint64_t                   reads_total;     /* of a changed file */
    uint64_t                   errors_total;    /* of those */
} ngx_gate_cursor_key_t;


/* node->cursors and node->cursor_keys: what the configuration names */

typedef struct {
    ngx_str_t                  name;
    ngx_gate_cursor_head_t    *sh;
} ngx_gate_cursor_conf_t;

#define ngx_gate_cursor_of(conf)      ((ngx_gate_cursor_t *) (conf)->sh)
#define ngx_gate_cursor_key_of(conf)  ((ngx_gate_cursor_key_t *) (conf)->sh)


#pragma GCC visibility push(hidden)


/* Upper bounds in us of NGX_GATE_CURSOR_HIST - 1 buckets. */
extern const uint32_t  ngx_gate_cursor_bounds[NGX_GATE_CURSOR_HIST - 1];

/*
 * Finds or makes the objects that the configuration names, with the slab mutex
 * held.  NGX_OK, or NGX_ERROR when the zone is full.
 */
ngx_int_t ngx_gate_cursor_reserve_locked(ngx_gate_node_t *node);

/*
 * In the configuration: the conf of that name in node->cursors or in
 * node->cursor_keys, made when it is new.  Its name is cut to fit, and has
 * question marks where it is no text: names that look the same are one.  NULL
 * when memory is short.
 */
ngx_gate_cursor_conf_t *ngx_gate_cursor_add(ngx_pool_t *pool,
    ngx_array_t *confs, ngx_str_t *name);

/*
 * A request was looked at.  ns: what verifying took, 0 where there was nothing
 * to verify.
 */
void ngx_gate_cursor_count(ngx_gate_cursor_t *c, gate_cursor_status_e status,
    uint64_t ns, ngx_uint_t refused, ngx_uint_t observed);

/* A cursor of that key was valid. */
void ngx_gate_cursor_hit(ngx_gate_cursor_key_t *k);


#pragma GCC visibility pop


#endif /* _NGX_GATE_CURSOR_H_INCLUDED_ */

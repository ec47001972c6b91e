
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Cursors: what gate_cursor says, and what became of one.
 *
 *   ngx_http_gate_cursor_conf.c   gate_cursor, gate_cursor_claim
 *   ngx_http_gate_cursor_key.c    gate_cursor_key, and files that change
 *   ngx_http_gate_cursor.c        is this request's cursor genuine?
 *   ngx_http_gate_cursor_find.c   where is it?
 *   ngx_http_gate_cursor_answer.c what the client is told if it is not
 *   ngx_http_gate_cursors.c       what others are told of cursors
 *
 * What is verified, and how, is core/gate_cursor.h's.  No cursor and no
 * payload gets into a log: what we log goes to the cycle's log, because nginx
 * adds the request's line to what is logged for a connection.
 */


#ifndef _NGX_HTTP_GATE_CURSOR_H_INCLUDED_
#define _NGX_HTTP_GATE_CURSOR_H_INCLUDED_


#include "ngx_http_gate.h"
#include "ngx_http_gate_out.h"
#include "core/gate_cursor.h"
#include "node/ngx_gate_cursor.h"


/* where the cursor is */

#define NGX_HTTP_GATE_CURSOR_ARG     0
#define NGX_HTTP_GATE_CURSOR_HEADER  1
#define NGX_HTTP_GATE_CURSOR_COOKIE  2

/* duplicate= */

#define NGX_HTTP_GATE_CURSOR_REJECT  0
#define NGX_HTTP_GATE_CURSOR_LAST    1
#define NGX_HTTP_GATE_CURSOR_FIRST   2


/*
 * One file of a key, as gate_cursor_key names it; the same file, id and forms
 * named twice are one.  Each process has its own, so it may put another key
 * in the place of this one while nobody is verifying.
 */

typedef struct {
    ngx_str_t                    path;        /* NUL-terminated */
    ngx_str_t                    id;          /* or empty */
    gate_cursor_form_e           form;
    int                          alg;         /* or -1 */
    gate_cursor_key_t            key;
    u_char                       digest[32];  /* of the file it is made of */
    ngx_gid_t                    gid;         /* of the workers */

    /* the file as it was last seen */
    ngx_file_info_t              seen;
    ngx_uint_t                   fresh;       /* so new that it could change
                                                 without looking different */
    ngx_uint_t                   looked;      /* this worker looked once */
    ngx_uint_t                   live;        /* this worker can read it */
    ngx_uint_t                   bad;         /* what it has now is no key:
                                                 the last good one stays */
    ngx_gate_cursor_conf_t      *conf;
} ngx_http_gate_cursor_key_t;


typedef struct {
    ngx_str_t                    name;
    ngx_http_complex_value_t     value;
} ngx_http_gate_cursor_claim_t;


/* gate_cursor */

typedef struct ngx_http_gate_cursor_s  ngx_http_gate_cursor_t;

struct ngx_http_gate_cursor_s {
    ngx_http_gate_cursor_t      *next;        /* of all of them */
    ngx_str_t                    name;        /* of the argument, .. */
    ngx_uint_t                   source;      /* NGX_HTTP_GATE_CURSOR_ARG */
    ngx_uint_t                   duplicate;   /* NGX_HTTP_GATE_CURSOR_LAST */
    ngx_uint_t                   observe;
    ngx_uint_t                   expired;     /* status, 400 or 410 */
    ngx_http_gate_fetch_t        when;        /* value: NULL, always */
    gate_cursor_rules_t          rules;       /* but for the claims */
    u_char                      *file;
    ngx_uint_t                   line;
};


/*
 * What counts in one location, after merging: gate_cursor, gate_cursor_key
 * and gate_cursor_claim are each inherited on their own.
 */

typedef struct {
    ngx_http_gate_cursor_t      *cursor;
    gate_cursor_rules_t          rules;       /* with the claims */
    ngx_array_t                 *claims;      /* ngx_http_gate_cursor_claim_t,
                                                 or NULL */
    const gate_cursor_key_t     *key[GATE_CURSOR_KEYS];
    ngx_http_gate_cursor_key_t  *file[GATE_CURSOR_KEYS];
    ngx_uint_t                   nkeys;
    ngx_array_t                 *keys;        /* where they come from: what
                                                 two locations inherited from
                                                 one place is the same */
    ngx_gate_cursor_conf_t      *conf;        /* counters of the location, or
                                                 NULL where no request ends
                                                 up there */
    ngx_uint_t                   varies;      /* other variables may make
                                                 something else of it */
    time_t                       logged;
    ngx_uint_t                   silent;      /* refusals since */
} ngx_http_gate_cursor_loc_t;


/* ctx->cursor: what became of the request's */

struct ngx_http_gate_cursor_ctx_s {
    ngx_http_gate_cursor_loc_t  *loc;         /* by whose rules */
    ngx_http_gate_cursor_loc_t  *counted;     /* by whose as a request */
    ngx_str_t                    args;        /* in which query */
    double                       now;         /* unix s, of that moment */
    gate_cursor_status_e         status;
    int                          key;         /* of loc, or -1 */
    uint64_t                     ns;
    uint64_t                     serial;      /* of its verification */
    unsigned                     skipped:1;   /* by when= or mode "off" */
    unsigned                     busy:1;      /* values are being looked up */
    unsigned                     checked:1;   /* in PRECONTENT, and passed */
    unsigned                     refused:1;   /* and answered: the pages of
                                                 that answer are free */
    ngx_str_t                    text;        /* for the client */
};


#pragma GCC visibility push(hidden)


/* ngx_http_gate_cursor_conf.c */

char *ngx_http_gate_cursor(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_gate_cursor_claim(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* NGX_CONF_OK or NGX_CONF_ERROR, which has been logged. */
char *ngx_http_gate_cursor_merge(ngx_conf_t *cf,
    ngx_http_gate_loc_conf_t *prev, ngx_http_gate_loc_conf_t *conf);

/* In postconfiguration. */
ngx_int_t ngx_http_gate_cursor_init(ngx_conf_t *cf,
    ngx_http_gate_main_conf_t *gmcf);


/* ngx_http_gate_cursor_key.c */

/* Into glcf->cursor_keys, of ngx_http_gate_cursor_key_t *, newest first. */
char *ngx_http_gate_cursor_key(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* In init_process: begins to look at the files, once a second. */
ngx_int_t ngx_http_gate_cursor_watch(ngx_cycle_t *cycle,
    ngx_http_gate_main_conf_t *gmcf);


/* ngx_http_gate_cursor.c */

ngx_int_t ngx_http_gate_cursor_handler(ngx_http_request_t *r);

/*
 * What is known of the request's cursor; verified now if it was not before.
 * *cx is NULL where there is nothing to know: no gate_cursor, or it was
 * skipped.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_gate_cursor_get(ngx_http_request_t *r,
    ngx_http_gate_cursor_ctx_t **cx);

/*
 * The verified cursor itself, so that its claims can be read until somebody
 * else verifies one; NULL if it is not valid.
 */
const gate_cursor_t *ngx_http_gate_cursor_claims(ngx_http_request_t *r,
    ngx_http_gate_cursor_ctx_t *cx);


/* ngx_http_gate_cursor_find.c */

/*
 * The request's cursor, or that of another query.  NGX_DECLINED: there is none
 * or an empty one; NGX_BUSY: there are more than one may be; NGX_ABORT: not
 * all services would see the same one.  It is good until the next one is
 * looked for.
 */
ngx_int_t ngx_http_gate_cursor_find(ngx_http_request_t *r,
    ngx_http_gate_cursor_t *cursor, ngx_str_t *args, ngx_str_t *value);


/* ngx_http_gate_cursor_answer.c */

/* Sends the answer; returns what the phase handler has to return. */
ngx_int_t ngx_http_gate_cursor_refuse(ngx_http_request_t *r,
    ngx_http_gate_cursor_ctx_t *cx);


/* ngx_http_gate_cursors.c */

void ngx_http_gate_metrics_cursors(ngx_http_gate_out_t *out,
    ngx_http_gate_main_conf_t *gmcf);


#pragma GCC visibility pop


#endif /* _NGX_HTTP_GATE_CURSOR_H_INCLUDED_ */

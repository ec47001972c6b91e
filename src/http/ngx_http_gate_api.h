
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gate_api: what its files share.
 *
 *   ngx_http_gate_secret.c   the list of tokens
 *   ngx_http_gate_api.c      who asks, and with which body
 *   ngx_http_gate_route.c    for what
 *   ngx_http_gate_actions.c  what the calls do
 *   ngx_http_gate_mode.c     those on modes
 *   ngx_http_gate_letter.c   writes that the agent does, for the fleet
 *   ngx_http_gate_drain.c    the call that waits for others
 *
 * A call is found by its cleanup handler, because r->ctx is wiped by
 * redirects; it lives in r->pool, and its cleanup takes the timer down.
 */


#ifndef _NGX_HTTP_GATE_API_H_INCLUDED_
#define _NGX_HTTP_GATE_API_H_INCLUDED_


#include "ngx_http_gate_json.h"


struct ngx_http_gate_api_conf_s {
    ngx_http_gate_tokens_t     list;
    ngx_gid_t                  gid;        /* of the workers */
    ino_t                      inode;
    long                       nsec;       /* of list.mtime */
};


typedef struct ngx_http_gate_call_s  ngx_http_gate_call_t;

/* "body" is borrowed, and NULL where the call takes none */
typedef ngx_int_t (*ngx_http_gate_call_pt)(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body);

struct ngx_http_gate_call_s {
    ngx_http_request_t        *request;
    ngx_gate_node_t           *node;

    ngx_http_gate_call_pt      get;        /* NULL: not allowed */
    ngx_http_gate_call_pt      post;
    ngx_http_gate_call_pt      del;

    ngx_uint_t                 sw;         /* index in node->switches */
    ngx_uint_t                 gate;       /* whose mode it is */
    ngx_gate_rollout_conf_t   *rollout;
    ngx_gate_action_e          action;

    char                       actor[NGX_GATE_ACTOR_LEN];

    /* of a write that the agent does */
    uint64_t                   letter;     /* 0: none is under way */
    ngx_uint_t                 kind;       /* NGX_GATE_MAIL_* */

    /* of a call that waits */
    ngx_event_t                event;
    ngx_msec_t                 started;
    ngx_msec_t                 timeout;
};


#pragma GCC visibility push(hidden)


/* ngx_http_gate_secret.c */

/*
 * Reads the file of tokens: one a line, "token" or "name token".  NGX_OK, or
 * NGX_ERROR after it was logged with the configuration's file and line.
 */
ngx_int_t ngx_http_gate_tokens_load(ngx_conf_t *cf,
    ngx_http_gate_api_conf_t *acf, ngx_str_t *path);

/*
 * The token that is equal to secret, or NULL.  Takes the same time for every
 * token in the list.  It is valid for this turn of the event loop.
 */
ngx_http_gate_token_t *ngx_http_gate_tokens_find(
    ngx_http_gate_api_conf_t *acf, ngx_str_t *secret, ngx_log_t *log);


/* ngx_http_gate_api.c */

/* Answers {"detail": ...}. */
ngx_int_t ngx_http_gate_api_error(ngx_http_request_t *r, ngx_uint_t status,
    const char *detail);


/* ngx_http_gate_route.c */

/* Sets what the path allows; NULL, or the document of an answer 404. */
json_t *ngx_http_gate_route(ngx_http_request_t *r,
    ngx_http_gate_call_t *call);


/* ngx_http_gate_actions.c */

/* by ngx_gate_action_e, NULL is the last */
extern const char  *ngx_http_gate_actions[];

ngx_int_t ngx_http_gate_call_status(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body);
ngx_int_t ngx_http_gate_call_switches(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body);
ngx_int_t ngx_http_gate_call_switch(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body);
ngx_int_t ngx_http_gate_call_switch_set(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body);
ngx_int_t ngx_http_gate_call_switch_off(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body);
ngx_int_t ngx_http_gate_call_rollouts(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body);
ngx_int_t ngx_http_gate_call_rollout(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body);
ngx_int_t ngx_http_gate_call_rollout_do(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body);


/* NULL, or what is wrong with the members "reason" and "actor" of a body. */
const char *ngx_http_gate_call_who(ngx_http_gate_call_t *call, json_t *body,
    const char **reason);

/* Whether a body is an object of these members (the last is NULL) only. */
ngx_uint_t ngx_http_gate_call_known(json_t *body, const char *const *members);


/* ngx_http_gate_mode.c */

ngx_int_t ngx_http_gate_call_modes(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body);
ngx_int_t ngx_http_gate_call_mode(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body);
ngx_int_t ngx_http_gate_call_mode_set(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body);
ngx_int_t ngx_http_gate_call_mode_off(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body);


/* ngx_http_gate_letter.c */

/*
 * Hands a write to the agent: kind, what it is on, and the wish are in the
 * letter, the actor is the call's.  It answers by and by: NGX_DONE; or what
 * the handler returns at once.
 */
ngx_int_t ngx_http_gate_letter(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, ngx_gate_mail_t *letter, const char *reason);

/* The state does not allow it, and why (NULL-terminated): 409. */
ngx_int_t ngx_http_gate_call_refuse(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, const char *why);

/* Waits without keeping anybody: NGX_DONE, or what the handler returns. */
ngx_int_t ngx_http_gate_call_wait(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, ngx_event_handler_pt handler,
    ngx_msec_t msec);


/* ngx_http_gate_drain.c */

ngx_int_t ngx_http_gate_call_drain(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body);


#pragma GCC visibility pop


#endif /* _NGX_HTTP_GATE_API_H_INCLUDED_ */

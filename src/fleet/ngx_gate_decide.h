
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Rollouts in the fleet: what the files that decide about them share.
 */


#ifndef _NGX_GATE_DECIDE_H_INCLUDED_
#define _NGX_GATE_DECIDE_H_INCLUDED_


#include "ngx_gate_fleet.h"


/* what a command is about */

#define NGX_GATE_OP_OPEN     1
#define NGX_GATE_OP_RESTORE  2
#define NGX_GATE_OP_FLIP     3
#define NGX_GATE_OP_ADVANCE  4
#define NGX_GATE_OP_PUSH     5     /* done here while Redis was away */
#define NGX_GATE_OP_WISH     6     /* of a letter */

#define NGX_GATE_DIRTY_PAUSE 2     /* of known.dirty: only that is left */

#define NGX_GATE_WORDS_LEN   32


/* the arguments of the script, in its order, those that differ */

typedef struct {
    const char      *op;
    const char      *source;
    const char      *actor;
    const char      *reason;
    ngx_str_t        epoch;
    ngx_str_t        step;
    ngx_str_t        weight;
    ngx_str_t        seed;
    ngx_str_t        least;
    ngx_str_t        record;
    ngx_str_t        rev;
    ngx_str_t        state;
    ngx_str_t        since;
} ngx_gate_op_t;


#pragma GCC visibility push(hidden)


/* ngx_gate_decide.c */

/* Brings a hash as it was replied into the zone; 1: something changed. */
ngx_uint_t ngx_gate_decide_told(ngx_gate_act_t *act, redisReply *fields,
    uint64_t rev);

/* "progressing 5%" */
void ngx_gate_decide_words(char words[NGX_GATE_WORDS_LEN], uint64_t w);

/* A NUL-terminated text as an argument, not copied. */
void ngx_gate_decide_text(ngx_str_t *s, const char *text);


/* ngx_gate_op.c: one command each; act->op tells whether it went out */

void ngx_gate_op_open(ngx_gate_act_t *act);
void ngx_gate_op_restore(ngx_gate_act_t *act);
void ngx_gate_op_flip(ngx_gate_act_t *act);
void ngx_gate_op_advance(ngx_gate_act_t *act, ngx_gate_next_step_t *ns);
void ngx_gate_op_push(ngx_gate_act_t *act);

void ngx_gate_op_send(ngx_gate_act_t *act, ngx_uint_t kind, ngx_gate_op_t *op,
    ngx_pool_t *pool);

/* A seed as an argument; NULL: a new one. */
ngx_int_t ngx_gate_op_seed(ngx_pool_t *pool, ngx_str_t *s, uint64_t *seed);


/* ngx_gate_wish.c */

/* Answers the letter that the command under way is for, if there is one. */
void ngx_gate_wish_answer(ngx_gate_act_t *act, ngx_int_t result,
    const char *why);


#pragma GCC visibility pop


#endif /* _NGX_GATE_DECIDE_H_INCLUDED_ */

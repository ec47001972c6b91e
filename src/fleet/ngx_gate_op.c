
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * What Redis is asked about a rollout: the arguments of one script, and what
 * its answer means here.
 */


#include "ngx_gate_decide.h"


#define NGX_GATE_OP_KEYS     4
#define NGX_GATE_OP_ARGS     21
#define NGX_GATE_OP_RETRY    1000  /* ms after an error or a refusal */


static void ngx_gate_op_done(void *data, redisReply *reply);
static void ngx_gate_op_result(ngx_gate_act_t *act, ngx_uint_t kind,
    const char *result, redisReply *reply);


void
ngx_gate_op_open(ngx_gate_act_t *act)
{
    ngx_pool_t     *pool;
    ngx_gate_op_t   op;

    pool = ngx_create_pool(2048, act->member->log);
    if (pool == NULL) {
        return;
    }

    ngx_memzero(&op, sizeof(ngx_gate_op_t));

    op.op = "open";
    op.source = "config";
    op.actor = "nginx";
    op.reason = "new release";

    if (act->rc->sh->opening & NGX_GATE_OPENING_CHANGED) {
        ngx_str_set(&op.epoch, "force");
    }

    if (ngx_gate_fleet_number(pool, &op.weight, act->rc->weight) == NGX_OK
        && ngx_gate_op_seed(pool, &op.seed, NULL) == NGX_OK)
    {
        ngx_gate_op_send(act, NGX_GATE_OP_OPEN, &op, pool);
    }

    ngx_destroy_pool(pool);
}


void
ngx_gate_op_restore(ngx_gate_act_t *act)
{
    ngx_int_t              rc;
    ngx_pool_t            *pool;
    ngx_gate_op_t          op;
    ngx_gate_node_t       *node;
    ngx_gate_rollout_t    *ro;
    gate_state_rollout_t   st;

    pool = ngx_create_pool(4096, act->member->log);
    if (pool == NULL) {
        return;
    }

    node = act->member->node;
    ro = act->rc->sh;

    ngx_shmtx_lock(&node->shpool->mutex);
    ngx_gate_rollout_export_locked(ro, &st);
    ngx_shmtx_unlock(&node->shpool->mutex);

    ngx_memzero(&op, sizeof(ngx_gate_op_t));

    op.op = "restore";
    op.source = st.source;
    op.actor = st.actor;
    op.reason = st.reason;

    /* what an operator deleted stays deleted, "-" */

    ngx_gate_decide_text(&op.state, ro->known.rev && !ro->known.there
                                    ? "-"
                                    : gate_rollout_state_name(st.state));

    rc = ngx_gate_fleet_number(pool, &op.epoch, st.epoch);
    rc |= ngx_gate_fleet_number(pool, &op.step, st.step);
    rc |= ngx_gate_fleet_number(pool, &op.weight, st.weight);
    rc |= ngx_gate_fleet_number(pool, &op.rev, ngx_max(ro->known.rev, 1));
    rc |= ngx_gate_fleet_number(pool, &op.since,
                                (uint64_t) ngx_max(st.since, 0));
    rc |= ngx_gate_op_seed(pool, &op.seed, st.seed);

    if (st.state == GATE_ROLLED_BACK
        && ro->record_epoch == st.epoch && ro->record_len)
    {
        op.record.data = (u_char *) ro->record;
        op.record.len = ro->record_len;
    }

    if (rc == NGX_OK) {
        ngx_gate_op_send(act, NGX_GATE_OP_RESTORE, &op, pool);
    }

    ngx_destroy_pool(pool);
}


void
ngx_gate_op_flip(ngx_gate_act_t *act)
{
    uint64_t             w;
    ngx_pool_t          *pool;
    ngx_gate_op_t        op;
    ngx_gate_rollout_t  *ro;

    pool = ngx_create_pool(4096, act->member->log);
    if (pool == NULL) {
        return;
    }

    ro = act->rc->sh;
    w = ngx_gate_load(&ro->word);

    ngx_memzero(&op, sizeof(ngx_gate_op_t));

    op.op = "flip";
    op.source = ro->source;
    op.actor = ro->actor;
    op.reason = ro->reason;

    if (ro->record_len) {
        op.record.data = (u_char *) ro->record;
        op.record.len = ro->record_len;
    }

    if (ngx_gate_fleet_number(pool, &op.epoch, ngx_gate_word_epoch(w))
        == NGX_OK)
    {
        ngx_gate_op_send(act, NGX_GATE_OP_FLIP, &op, pool);
    }

    ngx_destroy_pool(pool);
}


void
ngx_gate_op_advance(ngx_gate_act_t *act, ngx_gate_next_step_t *ns)
{
    ngx_int_t            rc;
    ngx_pool_t          *pool;
    ngx_gate_op_t        op;
    ngx_gate_rollout_t  *ro;

    pool = ngx_create_pool(2048, act->member->log);
    if (pool == NULL) {
        return;
    }

    ro = act->rc->sh;

    ngx_memzero(&op, sizeof(ngx_gate_op_t));

    op.op = "advance";
    op.source = "steps";
    op.actor = "verdict";
    op.reason = "the step has passed";

    rc = ngx_gate_fleet_number(pool, &op.epoch,
                               ngx_gate_word_epoch(ns->word));
    rc |= ngx_gate_fleet_number(pool, &op.step,
                          ro->blocks[ngx_gate_word_block(ns->word)].step);
    rc |= ngx_gate_fleet_number(pool, &op.weight, ns->weight);
    rc |= ngx_gate_fleet_number(pool, &op.least, ns->time);

    if (ns->promote) {
        ngx_str_set(&op.state, "promoted");
    }

    if (rc == NGX_OK) {
        ngx_gate_op_send(act, NGX_GATE_OP_ADVANCE, &op, pool);
    }

    ngx_destroy_pool(pool);
}


/* A lower weight or a pause, set here while Redis was away: in this order. */

void
ngx_gate_op_push(ngx_gate_act_t *act)
{
    uint64_t             w;
    ngx_int_t            rc;
    ngx_pool_t          *pool;
    ngx_gate_op_t        op;
    ngx_gate_rollout_t  *ro;

    pool = ngx_create_pool(2048, act->member->log);
    if (pool == NULL) {
        return;
    }

    ro = act->rc->sh;
    w = ngx_gate_load(&ro->word);

    ngx_memzero(&op, sizeof(ngx_gate_op_t));

    op.op = (ro->known.dirty == NGX_GATE_DIRTY_PAUSE) ? "pause" : "weight";
    op.source = ro->source;
    op.actor = ro->actor;
    op.reason = ro->reason;

    rc = ngx_gate_fleet_number(pool, &op.epoch, ngx_gate_word_epoch(w));
    rc |= ngx_gate_fleet_number(pool, &op.weight, ngx_gate_word_weight(w));

    if (rc == NGX_OK) {
        ngx_gate_op_send(act, NGX_GATE_OP_PUSH, &op, pool);
    }

    ngx_destroy_pool(pool);
}


void
ngx_gate_op_send(ngx_gate_act_t *act, ngx_uint_t kind, ngx_gate_op_t *op,
    ngx_pool_t *pool)
{
    u_char              release[NGX_GATE_RELEASE_LEN], digest[17];
    ngx_str_t           argv[NGX_GATE_OP_KEYS + NGX_GATE_OP_ARGS], *arg;
    ngx_uint_t          i;
    ngx_gate_member_t  *m;

    m = act->member;

    ngx_gate_told_release(act->rc, release);
    ngx_gate_told_digest(act->rc, digest);

    arg = argv;

    *arg++ = m->keys[2 + m->nstrings + (act - m->acts)];
    *arg++ = m->keys[0];
    *arg++ = m->keys[1];

    if (ngx_gate_fleet_key(pool, arg++, &m->conf->data, "past:",
                           &act->rc->name)
        != NGX_OK)
    {
        return;
    }

    ngx_gate_decide_text(arg++, op->op);
    *arg++ = m->id;
    ngx_gate_decide_text(arg++, op->source);
    ngx_gate_decide_text(arg++, op->actor);
    ngx_gate_decide_text(arg++, op->reason);
    *arg++ = act->rc->name;
    ngx_gate_decide_text(arg++, (char *) release);
    *arg++ = act->rc->id;
    *arg++ = act->rc->stable;
    *arg++ = act->rc->canary;
    ngx_gate_decide_text(arg++, (char *) digest);
    *arg++ = op->epoch;
    *arg++ = op->step;
    *arg++ = op->weight;
    *arg++ = op->seed;
    *arg++ = op->least;
    *arg++ = op->record;
    ngx_gate_decide_text(arg++, m->node->sh->fleet.inc);

    if (op->rev.len) {
        *arg++ = op->rev;

    } else if (ngx_gate_fleet_number(pool, arg++, act->rc->sh->known.rev)
               != NGX_OK)
    {
        return;
    }

    *arg++ = op->state;
    *arg++ = op->since;

    for (i = 0; i < NGX_GATE_OP_KEYS + NGX_GATE_OP_ARGS; i++) {
        if (argv[i].data == NULL) {
            ngx_str_set(&argv[i], "");
        }
    }

    if (ngx_gate_redis_script(m->redis, NGX_GATE_SCRIPT_ROLLOUT,
                              NGX_GATE_OP_KEYS,
                              NGX_GATE_OP_KEYS + NGX_GATE_OP_ARGS, argv,
                              ngx_gate_op_done, act)
        == NGX_OK)
    {
        act->op = kind;
        act->epoch =
              ngx_gate_word_epoch(ngx_gate_load(&act->rc->sh->word));
    }
}


static void
ngx_gate_op_done(void *data, redisReply *reply)
{
    ngx_gate_act_t *act = data;

    ngx_uint_t  kind;

    kind = act->op;
    act->op = 0;

    if (reply == NULL || !ngx_gate_fleet_mine(act->member)) {
        ngx_gate_wish_answer(act, NGX_ERROR, NULL);
        return;
    }

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 5
        || reply->element[0]->type != REDIS_REPLY_STRING
        || reply->element[1]->type != REDIS_REPLY_STRING)
    {
        ngx_gate_fleet_error(act->member, "deciding about a rollout", reply);
        ngx_gate_wish_answer(act, NGX_BUSY,
                               "Redis refused it, see the error log");

        act->waits = kind;
        act->retry = ngx_current_msec + NGX_GATE_OP_RETRY;
        return;
    }

    ngx_gate_op_result(act, kind, reply->element[0]->str, reply);
}


static void
ngx_gate_op_result(ngx_gate_act_t *act, ngx_uint_t kind,
    const char *result, redisReply *reply)
{
    int64_t              rev;
    ngx_uint_t           refused;
    ngx_gate_rollout_t  *ro;

    ro = act->rc->sh;
    rev = ngx_gate_fleet_value(reply->element[3]);
    refused = ngx_strcmp(result, "refused") == 0;

    switch (kind) {

    case NGX_GATE_OP_FLIP:

        /* done, or over: in any case Redis knows */

        if (!refused) {
            ro->flip_epoch = act->epoch;
        }

        break;

    case NGX_GATE_OP_PUSH:

        if (ro->known.dirty != NGX_GATE_DIRTY_PAUSE && !refused && rev > 0
            && ngx_gate_word_state(ngx_gate_load(&ro->word)) == GATE_PAUSED)
        {
            ro->known.dirty = NGX_GATE_DIRTY_PAUSE;
            ro->known.rev = (uint64_t) rev;
            return;
        }

        ro->known.dirty = 0;
        break;

    case NGX_GATE_OP_RESTORE:
        act->want = 0;
        break;

    default:
        break;
    }

    if (reply->element[4]->type == REDIS_REPLY_ARRAY
        && reply->element[4]->elements)
    {
        (void) ngx_gate_decide_told(act, reply->element[4],
                                    (uint64_t) ngx_max(rev, 0));

    } else if (kind == NGX_GATE_OP_OPEN && ngx_strcmp(result, "same") == 0) {

        /* it was deleted, and a node that comes late does not revive it */

        (void) ngx_gate_rollout_deleted(act->member->node, act->rc,
                                        (uint64_t) ngx_max(rev, 0));
    }

    if (kind != NGX_GATE_OP_WISH && ngx_strcmp(result, "ok") != 0) {

        /* a node that differs asks again, but not all the time */

        act->waits = kind;
        act->retry = ngx_current_msec + NGX_GATE_OP_RETRY;
    }

    if (ngx_strcmp(result, "ok") == 0 || ngx_strcmp(result, "same") == 0) {
        ngx_gate_wish_answer(act, NGX_OK, NULL);

    } else if (refused) {
        ngx_gate_wish_answer(act, NGX_DECLINED, reply->element[1]->str);

    } else {
        ngx_gate_wish_answer(act, NGX_DECLINED,
                               "it has just changed, look again");
    }

    ngx_gate_control_look(act->member);
}


/* NULL: a new one */

ngx_int_t
ngx_gate_op_seed(ngx_pool_t *pool, ngx_str_t *s, uint64_t *seed)
{
    uint64_t  random[2];

    if (seed == NULL) {
        ngx_gate_random(random, sizeof(random));
        seed = random;
    }

    s->data = ngx_pnalloc(pool, 33);
    if (s->data == NULL) {
        return NGX_ERROR;
    }

    s->len = ngx_sprintf(s->data, "%016xL%016xL", seed[0], seed[1])
             - s->data;

    return NGX_OK;
}

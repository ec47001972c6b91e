
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * What operators want of rollouts, through the API of some worker: done in
 * Redis, where it then is for all; or here, where Redis is away and the wish
 * is on the safe side.
 */


#include "ngx_gate_decide.h"


static void ngx_gate_wish_ask(ngx_gate_act_t *act, ngx_gate_mail_t *mail);
static void ngx_gate_wish_alone(ngx_gate_act_t *act, ngx_gate_mail_t *mail);
static ngx_uint_t ngx_gate_wish_here(ngx_gate_act_t *act,
    ngx_gate_mail_t *mail);


static const char  *ngx_gate_wish_actions[] = {
    "weight", "pause", "resume", "promote", "abort", "retry", "start"
};


void
ngx_gate_wish_mail(ngx_gate_member_t *m, ngx_gate_mail_t *mail)
{
    ngx_uint_t       i;
    ngx_gate_act_t  *act;

    if (mail->generation != m->node->generation) {

        /* it may be about another release than the one that is live now */

        ngx_gate_mail_done(mail, mail->id, NGX_DECLINED,
                           "this worker has an old configuration, ask again");
        return;
    }

    for (i = 0; i < m->node->rollouts.nelts; i++) {
        act = &m->acts[i];

        if (ngx_strlen(mail->rollout) == act->rc->name.len
            && ngx_strncmp(mail->rollout, act->rc->name.data,
                           act->rc->name.len) == 0)
        {
            break;
        }
    }

    if (i == m->node->rollouts.nelts || mail->action > NGX_GATE_DO_START) {
        ngx_gate_mail_done(mail, mail->id, NGX_DECLINED,
                           "the configuration has just changed, ask again");
        return;
    }

    if (ngx_gate_redis_ready(m->redis) && m->node->sh->fleet.joined) {
        ngx_gate_wish_ask(act, mail);

    } else {
        ngx_gate_wish_alone(act, mail);
    }
}


static void
ngx_gate_wish_ask(ngx_gate_act_t *act, ngx_gate_mail_t *mail)
{
    uint64_t             w;
    ngx_int_t            rc;
    ngx_pool_t          *pool;
    ngx_gate_op_t        op;
    ngx_gate_rollout_t  *ro;

    ro = act->rc->sh;

    if (ro->foreign && mail->action != NGX_GATE_DO_START
        && mail->action != NGX_GATE_DO_ABORT)
    {
        ngx_gate_mail_done(mail, mail->id, NGX_DECLINED,
                           "the fleet is at another release than this node "
                           "is configured for");
        return;
    }

    /* nobody waits for Redis to get rid of a bad release */

    if (mail->action == NGX_GATE_DO_ABORT
        && !ngx_gate_wish_here(act, mail))
    {
        return;
    }

    if (ro->foreign && mail->action == NGX_GATE_DO_ABORT) {
        ngx_gate_mail_done(mail, mail->id, NGX_OK,
                           "the fleet is at another release: done on this "
                           "node only");
        return;
    }

    pool = ngx_create_pool(2048, act->member->log);
    if (pool == NULL) {
        ngx_gate_mail_done(mail, mail->id, NGX_ERROR, NULL);
        return;
    }

    w = ngx_gate_load(&ro->word);

    ngx_memzero(&op, sizeof(ngx_gate_op_t));

    op.op = ngx_gate_wish_actions[mail->action];
    op.source = "api";
    op.actor = mail->actor;
    op.reason = mail->reason;

    rc = ngx_gate_op_seed(pool, &op.seed, NULL);

    if (mail->action == NGX_GATE_DO_START
        || mail->action == NGX_GATE_DO_RETRY)
    {
        rc |= ngx_gate_fleet_number(pool, &op.weight, act->rc->weight);

    } else {
        rc |= ngx_gate_fleet_number(pool, &op.epoch,
                                    ngx_gate_word_epoch(w));
    }

    if (mail->action == NGX_GATE_DO_WEIGHT) {
        rc |= ngx_gate_fleet_number(pool, &op.weight, mail->weight);
    }

    if (mail->action == NGX_GATE_DO_ABORT && ro->record_len
        && ro->record_epoch == ngx_gate_word_epoch(w))
    {
        op.record.data = (u_char *) ro->record;
        op.record.len = ro->record_len;
    }

    act->mail = mail;
    act->letter = mail->id;
    act->done = (mail->action == NGX_GATE_DO_ABORT);

    if (rc == NGX_OK) {
        ngx_gate_op_send(act, NGX_GATE_OP_WISH, &op, pool);
    }

    if (!act->op) {
        ngx_gate_wish_answer(act, NGX_BUSY, "Redis cannot be asked now");
    }

    ngx_destroy_pool(pool);
}


/* What may be done without Redis: everything that is on the safe side. */

static void
ngx_gate_wish_alone(ngx_gate_act_t *act, ngx_gate_mail_t *mail)
{
    uint64_t    w;
    ngx_uint_t  safe;

    w = ngx_gate_load(&act->rc->sh->word);

    safe = mail->action == NGX_GATE_DO_ABORT
           || mail->action == NGX_GATE_DO_PAUSE
           || (mail->action == NGX_GATE_DO_WEIGHT
               && mail->weight <= ngx_gate_word_weight(w));

    if (!safe) {
        ngx_gate_mail_done(mail, mail->id, NGX_BUSY,
                           "Redis is away: until it is back a rollout can be "
                           "aborted, paused or lowered only");
        return;
    }

    if (!ngx_gate_wish_here(act, mail)) {
        return;
    }

    if (mail->action != NGX_GATE_DO_ABORT) {
        act->rc->sh->known.dirty = 1;
    }

    ngx_gate_mail_done(mail, mail->id, NGX_OK,
                       "Redis is away: done on this node, the others hear of "
                       "it when it is back");
}


/* Does it in the zone; 0: it is not allowed, and that is answered. */

static ngx_uint_t
ngx_gate_wish_here(ngx_gate_act_t *act, ngx_gate_mail_t *mail)
{
    char              before[NGX_GATE_WORDS_LEN], after[NGX_GATE_WORDS_LEN];
    const char       *why;
    ngx_gate_node_t  *node;

    node = act->member->node;
    why = "it cannot be done now";

    ngx_gate_decide_words(before, ngx_gate_load(&act->rc->sh->word));

    if (ngx_gate_rollout_do(node, act->rc, mail->action, mail->weight, "api",
                            mail->actor, mail->reason, &why)
        != NGX_OK)
    {
        ngx_gate_mail_done(mail, mail->id, NGX_DECLINED, why);
        return 0;
    }

    ngx_gate_decide_words(after, ngx_gate_load(&act->rc->sh->word));

    ngx_gate_event_audit(node, ngx_gate_wish_actions[mail->action],
                         &act->rc->name, "api", mail->actor, before, after,
                         mail->reason[0] ? mail->reason : NULL);

    if (mail->action == NGX_GATE_DO_ABORT) {
        ngx_gate_event_record(node, act->rc);
    }

    return 1;
}


void
ngx_gate_wish_answer(ngx_gate_act_t *act, ngx_int_t result,
    const char *why)
{
    if (act->mail == NULL) {
        return;
    }

    if (act->done && (result == NGX_BUSY || result == NGX_ERROR)) {
        result = NGX_OK;
        why = "done on this node, the others hear of it as soon as Redis "
              "takes it";
    }

    ngx_gate_mail_done(act->mail, act->letter, result, why);
    act->mail = NULL;
}

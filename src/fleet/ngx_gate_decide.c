
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Rollouts in the fleet: what Redis decided is brought into the zone, and what
 * happened here is brought to Redis, one command a rollout at a time.
 *
 * Every command is a compare-and-set on (epoch, state) in Redis and may be
 * repeated: when a reply is lost the next look tells how it went, and what is
 * still to be done is found again from the zone.  That is why nothing here is
 * queued.
 */


#include "ngx_gate_fleet.h"


#define NGX_GATE_OP_OPEN     1
#define NGX_GATE_OP_RESTORE  2
#define NGX_GATE_OP_FLIP     3
#define NGX_GATE_OP_ADVANCE  4
#define NGX_GATE_OP_PUSH     5     /* done here while Redis was away */
#define NGX_GATE_OP_WISH     6     /* of a letter */

#define NGX_GATE_OP_KEYS     4
#define NGX_GATE_OP_ARGS     21
#define NGX_GATE_OP_RETRY    1000  /* ms after an error or a refusal */

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


static ngx_uint_t ngx_gate_decide_due(ngx_gate_act_t *act);
static void ngx_gate_decide_open(ngx_gate_act_t *act);
static void ngx_gate_decide_restore(ngx_gate_act_t *act);
static void ngx_gate_decide_flip(ngx_gate_act_t *act);
static void ngx_gate_decide_advance(ngx_gate_act_t *act,
    ngx_gate_next_step_t *ns);
static void ngx_gate_decide_push(ngx_gate_act_t *act);
static void ngx_gate_decide_wish(ngx_gate_act_t *act, ngx_gate_mail_t *mail);
static void ngx_gate_decide_alone(ngx_gate_act_t *act,
    ngx_gate_mail_t *mail);
static ngx_uint_t ngx_gate_decide_here(ngx_gate_act_t *act,
    ngx_gate_mail_t *mail);
static void ngx_gate_decide_send(ngx_gate_act_t *act, ngx_uint_t kind,
    ngx_gate_op_t *op, ngx_pool_t *pool);
static void ngx_gate_decide_done(void *data, redisReply *reply);
static void ngx_gate_decide_result(ngx_gate_act_t *act, ngx_uint_t kind,
    const char *result, redisReply *reply);
static ngx_uint_t ngx_gate_decide_told(ngx_gate_act_t *act,
    redisReply *fields, uint64_t rev);
static void ngx_gate_decide_news(ngx_gate_act_t *act, uint64_t before,
    gate_state_rollout_t *st);
static void ngx_gate_decide_odd(ngx_gate_act_t *act, ngx_gate_error_e error,
    const char *what, const char *text, size_t len);
static void ngx_gate_decide_answer(ngx_gate_act_t *act, ngx_int_t result,
    const char *why);
static void ngx_gate_decide_words(char words[NGX_GATE_WORDS_LEN],
    uint64_t w);
static void ngx_gate_decide_text(ngx_str_t *s, const char *text);
static ngx_int_t ngx_gate_decide_seed(ngx_pool_t *pool, ngx_str_t *s,
    uint64_t *seed);


static const char  *ngx_gate_decide_actions[] = {
    "weight", "pause", "resume", "promote", "abort", "retry", "start"
};


ngx_int_t
ngx_gate_decide_init(ngx_gate_member_t *m)
{
    ngx_uint_t                 i;
    ngx_gate_rollout_conf_t  **rc;

    m->acts = ngx_pcalloc(m->pool, (m->node->rollouts.nelts + 1)
                                   * sizeof(ngx_gate_act_t));
    if (m->acts == NULL) {
        return NGX_ERROR;
    }

    rc = m->node->rollouts.elts;

    for (i = 0; i < m->node->rollouts.nelts; i++) {
        m->acts[i].member = m;
        m->acts[i].rc = rc[i];
    }

    return NGX_OK;
}


void
ngx_gate_decide_lost(ngx_gate_member_t *m)
{
    ngx_uint_t  i;

    for (i = 0; i < m->node->rollouts.nelts; i++) {
        m->acts[i].op = 0;
        m->acts[i].waits = 0;
        m->acts[i].want = 0;

        ngx_gate_decide_answer(&m->acts[i], NGX_ERROR, NULL);
    }
}


ngx_uint_t
ngx_gate_decide_busy(ngx_gate_member_t *m)
{
    ngx_uint_t  i;

    for (i = 0; i < m->node->rollouts.nelts; i++) {
        if (m->acts[i].op) {
            return 1;
        }
    }

    return 0;
}


void
ngx_gate_decide_tick(ngx_gate_member_t *m)
{
    ngx_uint_t           i;
    ngx_gate_act_t      *act;
    ngx_gate_rollout_t  *ro;

    for (i = 0; i < m->node->rollouts.nelts; i++) {
        act = &m->acts[i];
        ro = act->rc->sh;

        if (ngx_gate_redis_ready(m->redis) && m->node->sh->fleet.joined) {
            (void) ngx_gate_decide_due(act);
            continue;
        }

        if (ro->opening && !(ro->opening & NGX_GATE_OPENING_SERVED)
            && (ngx_msec_int_t) (ngx_current_msec
                                 - (ngx_msec_t) ro->opening_since)
               >= NGX_GATE_GRACE_MSEC)
        {
            ngx_gate_rollout_alone(m->node, act->rc);

            ngx_log_error(NGX_LOG_WARN, m->log, 0,
                          "gate: Redis is away and nothing is known of "
                          "rollout \"%V\": it is served at its configured "
                          "weight", &act->rc->name);
        }
    }
}


/* The most urgent thing that Redis is to be told; 1 when there was one. */

static ngx_uint_t
ngx_gate_decide_due(ngx_gate_act_t *act)
{
    uint64_t               w;
    ngx_gate_node_t       *node;
    ngx_gate_rollout_t    *ro;
    ngx_gate_next_step_t   ns;

    if (act->op) {
        return 0;
    }

    node = act->member->node;
    ro = act->rc->sh;
    w = ngx_gate_load(&ro->word);

    if (act->waits
        && (ngx_msec_int_t) (ngx_current_msec - act->retry) >= 0)
    {
        act->waits = 0;
    }

    /*
     * A rollback waits for nothing but its own last try.  The record is
     * written by whoever found it, right after the flip.
     */

    if (ngx_gate_word_state(w) == GATE_ROLLED_BACK
        && !ro->opening && !act->want && ro->known.rev
        && ro->flip_epoch != ngx_gate_word_epoch(w)
        && ngx_gate_load(&ro->record_epoch) == ngx_gate_word_epoch(w)
        && act->waits != NGX_GATE_OP_FLIP)
    {
        ngx_gate_decide_flip(act);
        return 1;
    }

    if (act->waits) {
        return 0;
    }

    if (ro->opening) {
        ngx_gate_decide_open(act);
        return 1;
    }

    if (act->want) {
        ngx_gate_decide_restore(act);
        return 1;
    }

    if (ro->foreign || ngx_gate_word_state(w) == GATE_ROLLED_BACK) {
        return 0;
    }

    if (ro->known.dirty) {
        ngx_gate_decide_push(act);
        return 1;
    }

    if (ngx_gate_steps_due(node, act->rc, &ns)) {
        ngx_gate_decide_advance(act, &ns);
        return 1;
    }

    return 0;
}


static void
ngx_gate_decide_open(ngx_gate_act_t *act)
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
        && ngx_gate_decide_seed(pool, &op.seed, NULL) == NGX_OK)
    {
        ngx_gate_decide_send(act, NGX_GATE_OP_OPEN, &op, pool);
    }

    ngx_destroy_pool(pool);
}


static void
ngx_gate_decide_restore(ngx_gate_act_t *act)
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
    rc |= ngx_gate_decide_seed(pool, &op.seed, st.seed);

    if (st.state == GATE_ROLLED_BACK
        && ro->record_epoch == st.epoch && ro->record_len)
    {
        op.record.data = (u_char *) ro->record;
        op.record.len = ro->record_len;
    }

    if (rc == NGX_OK) {
        ngx_gate_decide_send(act, NGX_GATE_OP_RESTORE, &op, pool);
    }

    ngx_destroy_pool(pool);
}


static void
ngx_gate_decide_flip(ngx_gate_act_t *act)
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
        ngx_gate_decide_send(act, NGX_GATE_OP_FLIP, &op, pool);
    }

    ngx_destroy_pool(pool);
}


static void
ngx_gate_decide_advance(ngx_gate_act_t *act, ngx_gate_next_step_t *ns)
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
        ngx_gate_decide_send(act, NGX_GATE_OP_ADVANCE, &op, pool);
    }

    ngx_destroy_pool(pool);
}


/* A lower weight or a pause, set here while Redis was away: in this order. */

static void
ngx_gate_decide_push(ngx_gate_act_t *act)
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
        ngx_gate_decide_send(act, NGX_GATE_OP_PUSH, &op, pool);
    }

    ngx_destroy_pool(pool);
}


void
ngx_gate_decide_mail(ngx_gate_member_t *m, ngx_gate_mail_t *mail)
{
    ngx_uint_t       i;
    ngx_gate_act_t  *act;

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
        ngx_gate_decide_wish(act, mail);

    } else {
        ngx_gate_decide_alone(act, mail);
    }
}


static void
ngx_gate_decide_wish(ngx_gate_act_t *act, ngx_gate_mail_t *mail)
{
    uint64_t             w;
    ngx_int_t            rc;
    ngx_pool_t          *pool;
    ngx_gate_op_t        op;
    ngx_gate_rollout_t  *ro;

    ro = act->rc->sh;

    if (ro->foreign && mail->action != NGX_GATE_DO_START) {
        ngx_gate_mail_done(mail, mail->id, NGX_DECLINED,
                           "the fleet is at another release than this node "
                           "is configured for");
        return;
    }

    /* nobody waits for Redis to get rid of a bad release */

    if (mail->action == NGX_GATE_DO_ABORT
        && !ngx_gate_decide_here(act, mail))
    {
        return;
    }

    pool = ngx_create_pool(2048, act->member->log);
    if (pool == NULL) {
        ngx_gate_mail_done(mail, mail->id, NGX_ERROR, NULL);
        return;
    }

    w = ngx_gate_load(&ro->word);

    ngx_memzero(&op, sizeof(ngx_gate_op_t));

    op.op = ngx_gate_decide_actions[mail->action];
    op.source = "api";
    op.actor = mail->actor;
    op.reason = mail->reason;

    rc = ngx_gate_decide_seed(pool, &op.seed, NULL);

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

    if (rc == NGX_OK) {
        ngx_gate_decide_send(act, NGX_GATE_OP_WISH, &op, pool);
    }

    if (!act->op) {

        if (mail->action == NGX_GATE_DO_ABORT) {
            ngx_gate_decide_answer(act, NGX_OK, "done on this node, the "
                                   "others hear of it shortly");
        } else {
            ngx_gate_decide_answer(act, NGX_BUSY, "Redis cannot be asked "
                                   "now");
        }
    }

    ngx_destroy_pool(pool);
}


/* What may be done without Redis: everything that is on the safe side. */

static void
ngx_gate_decide_alone(ngx_gate_act_t *act, ngx_gate_mail_t *mail)
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

    if (!ngx_gate_decide_here(act, mail)) {
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
ngx_gate_decide_here(ngx_gate_act_t *act, ngx_gate_mail_t *mail)
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

    ngx_gate_event_audit(node, ngx_gate_decide_actions[mail->action],
                         &act->rc->name, "api", mail->actor, before, after,
                         mail->reason[0] ? mail->reason : NULL);

    if (mail->action == NGX_GATE_DO_ABORT) {
        ngx_gate_event_record(node, act->rc);
    }

    return 1;
}


static void
ngx_gate_decide_send(ngx_gate_act_t *act, ngx_uint_t kind, ngx_gate_op_t *op,
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
                              ngx_gate_decide_done, act)
        == NGX_OK)
    {
        act->op = kind;
        act->epoch =
              ngx_gate_word_epoch(ngx_gate_load(&act->rc->sh->word));
    }
}


static void
ngx_gate_decide_done(void *data, redisReply *reply)
{
    ngx_gate_act_t *act = data;

    ngx_uint_t  kind;

    kind = act->op;
    act->op = 0;

    if (reply == NULL) {
        ngx_gate_decide_answer(act, NGX_ERROR, NULL);
        return;
    }

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 5
        || reply->element[0]->type != REDIS_REPLY_STRING
        || reply->element[1]->type != REDIS_REPLY_STRING)
    {
        ngx_gate_fleet_error(act->member, "deciding about a rollout", reply);
        ngx_gate_decide_answer(act, NGX_BUSY,
                               "Redis refused it, see the error log");

        act->waits = kind;
        act->retry = ngx_current_msec + NGX_GATE_OP_RETRY;
        return;
    }

    ngx_gate_decide_result(act, kind, reply->element[0]->str, reply);
}


static void
ngx_gate_decide_result(ngx_gate_act_t *act, ngx_uint_t kind,
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

    } else if (kind == NGX_GATE_OP_OPEN) {

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
        ngx_gate_decide_answer(act, NGX_OK, NULL);

    } else if (refused) {
        ngx_gate_decide_answer(act, NGX_DECLINED, reply->element[1]->str);

    } else {
        ngx_gate_decide_answer(act, NGX_DECLINED,
                               "it has just changed, look again");
    }

    ngx_gate_control_look(act->member);
}


ngx_uint_t
ngx_gate_decide_seen(ngx_gate_member_t *m, ngx_uint_t i, redisReply *item)
{
    int64_t              rev;
    const char          *status;
    redisReply          *value;
    ngx_gate_act_t      *act;
    ngx_gate_rollout_t  *ro;

    act = &m->acts[i];
    ro = act->rc->sh;

    if (item->type != REDIS_REPLY_ARRAY || item->elements < 3
        || item->element[0]->type != REDIS_REPLY_STRING)
    {
        ngx_gate_fleet_error(m, "looking at a rollout", item);
        return 0;
    }

    status = item->element[0]->str;
    rev = ngx_gate_fleet_value(item->element[1]);
    value = item->element[2];

    act->want = 0;

    if (ngx_strcmp(status, "ok") == 0 && rev >= 0) {

        /* 0: a Redis that takes no writes gives no revisions either */


        return ngx_gate_decide_told(act, value, (uint64_t) rev);
    }

    if (ngx_strcmp(status, "want") == 0
        || ngx_strcmp(status, "evicted") == 0)
    {
        act->want = 1;
        return 0;
    }

    if (ngx_strcmp(status, "none") == 0) {

        if (ro->opening) {
            return 0;
        }

        if (rev <= 0) {

            /* this fleet has never heard of it, but we know it */

            act->want = 1;
            return 0;
        }

        return ngx_gate_rollout_deleted(m->node, act->rc, (uint64_t) rev);
    }

    ngx_gate_decide_odd(act,
                        ngx_strcmp(status, "type") == 0
                        ? NGX_GATE_ERROR_TYPE : NGX_GATE_ERROR_VALUE,
                        status,
                        value->type == REDIS_REPLY_STRING ? value->str : "",
                        value->type == REDIS_REPLY_STRING ? value->len : 0);

    return 0;
}


static ngx_uint_t
ngx_gate_decide_told(ngx_gate_act_t *act, redisReply *fields, uint64_t rev)
{
    int64_t                offset;
    uint64_t               before;
    ngx_uint_t             rv, foreign;
    const char            *wrong;
    ngx_gate_node_t       *node;
    ngx_gate_rollout_t    *ro;
    gate_state_rollout_t   st;

    node = act->member->node;
    ro = act->rc->sh;

    if (ngx_gate_told_read(fields, &st, &wrong) != NGX_OK) {
        ngx_gate_decide_odd(act, NGX_GATE_ERROR_VALUE, "field", wrong,
                            ngx_strlen(wrong));
        return 0;
    }

    act->odd = 0;

    /* times on Redis's clock, as times on ours */

    offset = node->sh->fleet.clock_offset / 1000;
    st.since = ngx_max(st.since - offset, 0);

    before = ngx_gate_load(&ro->word);
    foreign = ro->foreign;

    rv = ngx_gate_rollout_told(node, act->rc, &st, rev);

    if (rv == NGX_GATE_TOLD_FOREIGN) {

        if (!foreign) {
            ngx_log_error(NGX_LOG_WARN, act->member->log, 0,
                          "gate: the fleet has rollout \"%V\" at another "
                          "release than this node's configuration: it stays "
                          "as it is here", &act->rc->name);
        }

        return !foreign;
    }

    if (rv == NGX_GATE_TOLD_CHANGED) {
        ngx_gate_decide_news(act, before, &st);
    }

    return rv == NGX_GATE_TOLD_CHANGED;
}


/* What an operator of this node is to know of it. */

static void
ngx_gate_decide_news(ngx_gate_act_t *act, uint64_t before,
    gate_state_rollout_t *st)
{
    char              from[NGX_GATE_WORDS_LEN], to[NGX_GATE_WORDS_LEN];
    uint64_t          w;
    ngx_gate_node_t  *node;

    node = act->member->node;
    w = ngx_gate_load(&act->rc->sh->word);

    ngx_gate_decide_words(from, before);
    ngx_gate_decide_words(to, w);

    if (ngx_gate_word_state(w) == GATE_ROLLED_BACK
        && ngx_gate_word_state(before) != GATE_ROLLED_BACK)
    {
        ngx_log_error(NGX_LOG_ERR, act->member->log, 0,
                      "gate: rollout \"%V\" was rolled back in the fleet by "
                      "%s (%s): %s", &act->rc->name, st->actor, st->source,
                      st->reason);

        if (st->record) {
            ngx_gate_event_add(node, st->record, ngx_strlen(st->record));
            return;
        }
    }

    ngx_gate_event_audit(node, ngx_gate_word_epoch(w)
                               != ngx_gate_word_epoch(before) ? "epoch"
                                                              : "rollout",
                         &act->rc->name, st->source, st->actor, from, to,
                         st->reason[0] ? st->reason : NULL);
}


static void
ngx_gate_decide_odd(ngx_gate_act_t *act, ngx_gate_error_e error,
    const char *what, const char *text, size_t len)
{
    char  line[NGX_GATE_REASON_LEN];

    if (act->odd) {
        return;
    }

    act->odd = 1;

    ngx_snprintf((u_char *) line, sizeof(line),
                 "the hash of rollout \"%V\" makes no sense (%s), the last "
                 "good state stays%Z", &act->rc->name, what);
    line[sizeof(line) - 1] = '\0';

    ngx_gate_redis_error(act->member->redis, error, line, text, len);
}


static void
ngx_gate_decide_answer(ngx_gate_act_t *act, ngx_int_t result,
    const char *why)
{
    if (act->mail) {
        ngx_gate_mail_done(act->mail, act->letter, result, why);
        act->mail = NULL;
    }
}


static void
ngx_gate_decide_words(char words[NGX_GATE_WORDS_LEN], uint64_t w)
{
    char  weight[GATE_WEIGHT_LEN];

    (void) gate_format_weight((unsigned) ngx_gate_word_weight(w), weight);

    ngx_sprintf((u_char *) words, "%s %s%%%Z",
                gate_rollout_state_name(ngx_gate_word_state(w)), weight);
}


static void
ngx_gate_decide_text(ngx_str_t *s, const char *text)
{
    s->data = (u_char *) text;
    s->len = ngx_strlen(text);
}


/* NULL: a new one */

static ngx_int_t
ngx_gate_decide_seed(ngx_pool_t *pool, ngx_str_t *s, uint64_t *seed)
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

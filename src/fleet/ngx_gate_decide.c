
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


#include "ngx_gate_decide.h"


static void ngx_gate_decide_due(ngx_gate_act_t *act);
static ngx_uint_t ngx_gate_decide_untold(ngx_gate_rollout_t *ro, uint64_t w);
static void ngx_gate_decide_news(ngx_gate_act_t *act, uint64_t before,
    gate_state_rollout_t *st);
static void ngx_gate_decide_odd(ngx_gate_act_t *act, ngx_gate_error_e error,
    const char *what, const char *text, size_t len);


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

        ngx_gate_wish_answer(&m->acts[i], NGX_ERROR, NULL);
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
            ngx_gate_decide_due(act);
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


/* The most urgent thing that Redis is to be told. */

static void
ngx_gate_decide_due(ngx_gate_act_t *act)
{
    uint64_t               w;
    ngx_gate_node_t       *node;
    ngx_gate_rollout_t    *ro;
    ngx_gate_next_step_t   ns;

    node = act->member->node;
    ro = act->rc->sh;

    /*
     * After a reload the rollout is that of the new configuration, while the
     * old agent is still there for a moment: it is not its to decide.
     */

    if (act->op || node->generation != node->sh->generation) {
        return;
    }

    w = ngx_gate_load(&ro->word);

    if (act->waits
        && (ngx_msec_int_t) (ngx_current_msec - act->retry) >= 0)
    {
        act->waits = 0;
    }

    /* a rollback waits for nothing but its own last try */

    if (ngx_gate_word_state(w) == GATE_ROLLED_BACK && !act->want
        && ngx_gate_decide_untold(ro, w) && act->waits != NGX_GATE_OP_FLIP)
    {
        ngx_gate_op_flip(act);
        return;
    }

    if (act->waits) {
        return;
    }

    if (ro->opening) {
        ngx_gate_op_open(act);
        return;
    }

    if (act->want) {
        ngx_gate_op_restore(act);
        return;
    }

    if (ro->foreign || ngx_gate_word_state(w) == GATE_ROLLED_BACK) {
        return;
    }

    if (ro->known.dirty) {
        ngx_gate_op_push(act);
        return;
    }

    if (ngx_gate_steps_due(node, act->rc, &ns)) {
        ngx_gate_op_advance(act, &ns);
    }
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

    if (item->type != REDIS_REPLY_ARRAY || item->elements < 4
        || item->element[0]->type != REDIS_REPLY_STRING
        || item->element[3]->type != REDIS_REPLY_STRING)
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
                        status, item->element[3]->str,
                        item->element[3]->len);

    return 0;
}


ngx_uint_t
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

    act->odd.is = 0;

    /* times on Redis's clock, as times on ours, and nothing is of tomorrow */

    offset = node->sh->fleet.clock_offset / 1000;
    st.since = ngx_max(ngx_min(st.since - offset, ngx_time()), 0);

    before = ngx_gate_load(&ro->word);
    foreign = ro->foreign;

    if (ngx_gate_word_state(before) == GATE_ROLLED_BACK
        && st.epoch > ngx_gate_word_epoch(before)
        && ngx_gate_decide_untold(ro, before) && !act->op)
    {
        /* too late to matter, but not to be told; it becomes an event */

        ngx_gate_op_flip(act);
    }

    rv = ngx_gate_rollout_told(node, act->rc, &st, rev);

    if (rv == NGX_GATE_TOLD_OLDER) {
        act->want = 1;
        return 0;
    }

    if (rv == NGX_GATE_TOLD_FOREIGN) {

        /* before Redis was asked to open ours, another one is no surprise */

        if (!act->foreign && (!ro->opening || act->waits)) {
            act->foreign = 1;

            ngx_log_error(NGX_LOG_WARN, act->member->log, 0,
                          "gate: the fleet has rollout \"%V\" at another "
                          "release than this node's configuration: it stays "
                          "as it is here", &act->rc->name);
        }

        return !foreign;
    }

    act->foreign = 0;

    if (rv == NGX_GATE_TOLD_CHANGED) {
        ngx_gate_decide_news(act, before, &st);

    } else if (!ro->provisional
               && st.epoch < ngx_gate_word_epoch(ngx_gate_load(&ro->word)))
    {
        /* ours was made where Redis could not know of it */

        act->want = 1;
    }

    return rv == NGX_GATE_TOLD_CHANGED;
}


/*
 * Whether Redis does not know of the rollback in w yet.  Its record is written
 * by whoever found it, right after the flip, and goes along.
 */

static ngx_uint_t
ngx_gate_decide_untold(ngx_gate_rollout_t *ro, uint64_t w)
{
    return !ro->opening && ro->known.rev
           && ro->flip_epoch != ngx_gate_word_epoch(w)
           && ngx_gate_load(&ro->record_epoch) == ngx_gate_word_epoch(w);
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

    ngx_snprintf((u_char *) line, sizeof(line),
                 "the hash of rollout \"%V\" makes no sense (%s), the last "
                 "good state stays%Z", &act->rc->name, what);
    line[sizeof(line) - 1] = '\0';

    ngx_gate_fleet_odd(act->member, &act->odd, error, line, text, len);
}


void
ngx_gate_decide_words(char words[NGX_GATE_WORDS_LEN], uint64_t w)
{
    char  weight[GATE_WEIGHT_LEN];

    (void) gate_format_weight((unsigned) ngx_gate_word_weight(w), weight);

    ngx_sprintf((u_char *) words, "%s %s%%%Z",
                gate_rollout_state_name(ngx_gate_word_state(w)), weight);
}


void
ngx_gate_decide_text(ngx_str_t *s, const char *text)
{
    s->data = (u_char *) text;
    s->len = ngx_strlen(text);
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * A rollout's state machine.
 *
 *     idle -> progressing <-> paused -> promoted
 *     any of them -> rolled_back, which only a new epoch ends
 *
 * The word is the state.  A flip swaps it without a lock and keeps the block
 * of evidence that it was decided on.  Everything that needs a new block or
 * a new seed prepares it first, under the slab mutex, and then swaps the
 * word; when a flip came between, it starts over from what the flip left.
 */


#include "ngx_gate_node.h"


static ngx_int_t ngx_gate_rollout_next(ngx_gate_rollout_conf_t *rc,
    ngx_gate_action_e action, uint64_t w, ngx_uint_t *state,
    ngx_uint_t *weight, const char **why);
static ngx_int_t ngx_gate_rollout_weight(ngx_uint_t *state,
    ngx_uint_t weight, const char **why);
static void ngx_gate_rollout_open_locked(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, const char *source, const char *actor,
    const char *reason);
static void ngx_gate_rollout_retire(ngx_gate_rollout_t *ro,
    ngx_gate_block_t *b);
static void ngx_gate_rollout_conf_locked(ngx_gate_rollout_t *ro,
    ngx_gate_rollout_conf_t *rc);
static void ngx_gate_rollout_wait_locked(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_uint_t changed);


ngx_gate_rollout_t *
ngx_gate_rollout_find(ngx_gate_zone_t *sh, u_char *name, size_t len)
{
    ngx_gate_rollout_t  *ro;

    for (ro = ngx_gate_load(&sh->rollouts); ro; ro = ro->next) {

        if (ngx_strlen(ro->name) == len
            && ngx_strncmp(ro->name, name, len) == 0)
        {
            return ro;
        }
    }

    return NULL;
}


ngx_int_t
ngx_gate_rollout_flip(ngx_gate_rollout_conf_t *rc, uint64_t w,
    ngx_uint_t cause)
{
    uint64_t             next;
    ngx_gate_rollout_t  *ro;

    ro = rc->sh;

    if (ngx_gate_word_state(w) == GATE_ROLLED_BACK
        || ngx_gate_word_state(w) == GATE_IDLE)
    {
        return NGX_DECLINED;
    }

    next = ngx_gate_word(ngx_gate_word_epoch(w), GATE_ROLLED_BACK, cause, w,
                         0);

    if (!ngx_gate_cas(&ro->word, &w, next)) {
        return NGX_DECLINED;
    }

    ngx_gate_add(&ro->flips_total, 1);

    return NGX_OK;
}


ngx_int_t
ngx_gate_rollout_do(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    ngx_gate_action_e action, ngx_uint_t weight, const char *source,
    const char *actor, const char *reason, const char **why)
{
    uint64_t             w, next;
    ngx_int_t            rv;
    ngx_uint_t           state, target;
    ngx_gate_rollout_t  *ro;

    ro = rc->sh;

    ngx_shmtx_lock(&node->shpool->mutex);

    if (node->generation != node->sh->generation) {
        ngx_shmtx_unlock(&node->shpool->mutex);

        *why = "this worker has an old configuration, ask again";
        return NGX_DECLINED;
    }

    for ( ;; ) {
        w = ngx_gate_load(&ro->word);
        target = weight;

        rv = ngx_gate_rollout_next(rc, action, w, &state, &target, why);

        if (rv == NGX_DECLINED) {
            break;
        }

        if (rv == NGX_DONE) {
            ngx_gate_rollout_open_locked(node, rc, source, actor, reason);
            rv = NGX_OK;
            break;
        }

        next = w;

        if (target != ngx_gate_word_weight(w) && state != GATE_ROLLED_BACK) {
            next = ngx_gate_rollout_block_locked(ro, w,
                                                 ngx_gate_word_epoch(w),
                                                 target, rc->digest);
        }

        next = ngx_gate_word(ngx_gate_word_epoch(w), state,
                             state == GATE_ROLLED_BACK
                             ? NGX_GATE_CAUSE_OPERATOR : 0,
                             next, target);

        /* who and why first: the record may be written at once */

        ngx_gate_rollout_note_locked(ro, source, actor, reason);

        if (ngx_gate_cas(&ro->word, &w, next)) {

            if (state == GATE_ROLLED_BACK) {
                ngx_gate_add(&ro->flips_total, 1);
            }

            break;
        }
    }

    ngx_gate_changed(node->sh);

    ngx_shmtx_unlock(&node->shpool->mutex);

    return rv;
}


ngx_int_t
ngx_gate_rollout_advance(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    uint64_t w, ngx_uint_t weight, ngx_uint_t promote)
{
    uint64_t             next;
    ngx_int_t            rv;
    ngx_gate_rollout_t  *ro;

    ro = rc->sh;
    rv = NGX_DECLINED;

    ngx_shmtx_lock(&node->shpool->mutex);

    if (node->generation == node->sh->generation
        && ngx_gate_load(&ro->word) == w)
    {
        next = ngx_gate_rollout_block_locked(ro, w, ngx_gate_word_epoch(w),
                                             weight, rc->digest);

        next = ngx_gate_word(ngx_gate_word_epoch(w),
                             promote ? GATE_PROMOTED : GATE_PROGRESSING, 0,
                             next, weight);

        if (ngx_gate_cas(&ro->word, &w, next)) {
            ngx_gate_rollout_note_locked(ro, "steps", "verdict",
                                         "the step has passed");
            ngx_gate_changed(node->sh);
            rv = NGX_OK;
        }
    }

    ngx_shmtx_unlock(&node->shpool->mutex);

    return rv;
}


/* NGX_OK: state and weight are set; NGX_DONE: a new epoch is wanted */

static ngx_int_t
ngx_gate_rollout_next(ngx_gate_rollout_conf_t *rc, ngx_gate_action_e action,
    uint64_t w, ngx_uint_t *state, ngx_uint_t *weight, const char **why)
{
    ngx_uint_t  now;

    now = ngx_gate_word_state(w);

    *state = now;

    if (action == NGX_GATE_DO_WEIGHT) {
        return ngx_gate_rollout_weight(state, *weight, why);
    }

    *weight = ngx_gate_word_weight(w);

    switch (action) {

    case NGX_GATE_DO_START:
        return NGX_DONE;

    case NGX_GATE_DO_RETRY:
        *why = "only a rollout that is rolled back can be retried, "
               "use \"start\" to begin anew";
        return (now == GATE_ROLLED_BACK) ? NGX_DONE : NGX_DECLINED;

    case NGX_GATE_DO_PAUSE:
        *why = "only a progressing rollout can be paused";
        *state = GATE_PAUSED;
        return (now == GATE_PROGRESSING) ? NGX_OK : NGX_DECLINED;

    case NGX_GATE_DO_RESUME:
        *why = "only a paused rollout can be resumed";
        *state = GATE_PROGRESSING;
        return (now == GATE_PAUSED) ? NGX_OK : NGX_DECLINED;

    case NGX_GATE_DO_PROMOTE:
        *why = "a rollout that is rolled back cannot be promoted, "
               "use \"retry\" or a new id= first";
        *state = GATE_PROMOTED;
        *weight = GATE_WEIGHT_MAX;
        return (now != GATE_ROLLED_BACK) ? NGX_OK : NGX_DECLINED;

    default: /* NGX_GATE_DO_ABORT */
        *why = "the rollout is rolled back already";
        *state = GATE_ROLLED_BACK;
        *weight = 0;
        return (now != GATE_ROLLED_BACK) ? NGX_OK : NGX_DECLINED;
    }
}


static ngx_int_t
ngx_gate_rollout_weight(ngx_uint_t *state, ngx_uint_t weight,
    const char **why)
{
    switch (*state) {

    case GATE_ROLLED_BACK:
        *why = "the rollout is rolled back, its weight stays 0: "
               "use \"retry\" or a new id=";
        return NGX_DECLINED;

    case GATE_PROMOTED:
        if (weight == GATE_WEIGHT_MAX) {
            return NGX_OK;
        }

        *why = "the rollout is promoted, its weight stays 100 %: "
               "use \"abort\", \"start\" or a new id=";
        return NGX_DECLINED;

    case GATE_PAUSED:
        return NGX_OK;

    default:
        *state = weight ? GATE_PROGRESSING : GATE_IDLE;
        return NGX_OK;
    }
}


void
ngx_gate_rollout_adopt_locked(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_log_t *log)
{
    uint64_t             w, next;
    ngx_gate_rollout_t  *ro;

    ro = rc->sh;
    w = ngx_gate_load(&ro->word);

    ro->generation = node->generation;

    if (node->redis == NULL) {

        /* there is no fleet any more that could be at another release */

        ro->foreign = 0;
    }

    if (ngx_gate_word_epoch(w) == 0 || !ngx_gate_rollout_same(ro, rc)) {

        if (node->redis) {
            ngx_gate_rollout_wait_locked(node, rc,
                                         ngx_gate_word_epoch(w) != 0);
            return;
        }

        ngx_gate_rollout_open_locked(node, rc, "config", "nginx",
                                     "new release");
        return;
    }

    if (ro->opening && node->redis == NULL) {

        /* Redis was taken out of the configuration: nobody else will */

        ngx_gate_rollout_open_locked(node, rc, "config", "nginx",
                                     "without Redis");
        return;
    }

    ro->conf_weight = rc->weight;

    if (rc->weight != ngx_gate_word_weight(w)) {
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "gate: \"%V\" is %s at %ui.%02ui%%, the configured "
                      "weight %ui.%02ui%% is for a new epoch: give another "
                      "id=, or set it through gate_api",
                      &rc->name,
                      gate_rollout_state_name(ngx_gate_word_state(w)),
                      ngx_gate_word_weight(w) / 100,
                      ngx_gate_word_weight(w) % 100,
                      rc->weight / 100, rc->weight % 100);
    }

    if (ngx_gate_load(&ro->conf_digest) == rc->digest
        || ngx_gate_word_state(w) == GATE_ROLLED_BACK)
    {
        /* the evidence of a rollback stays, nobody judges it any more */

        ngx_gate_store(&ro->conf_digest, rc->digest);
        return;
    }

    /* other rules: what was counted for the old ones says nothing of them */

    ngx_gate_store(&ro->conf_digest, rc->digest);

    do {
        next = ngx_gate_rollout_block_locked(ro, w, ngx_gate_word_epoch(w),
                                             ngx_gate_word_weight(w),
                                             rc->digest);
    } while (!ngx_gate_cas(&ro->word, &w, next));
}


ngx_uint_t
ngx_gate_rollout_same(ngx_gate_rollout_t *ro, ngx_gate_rollout_conf_t *rc)
{
    ngx_uint_t  i;

    struct {
        const char  *have;
        ngx_str_t   *want;
    } part[] = {
        { ro->stable, &rc->stable },
        { ro->canary, &rc->canary },
        { ro->id, &rc->id }
    };

    for (i = 0; i < 3; i++) {

        if (ngx_strlen(part[i].have) != part[i].want->len
            || ngx_strncmp(part[i].have, part[i].want->data,
                           part[i].want->len)
               != 0)
        {
            return 0;
        }
    }

    return 1;
}


static void
ngx_gate_rollout_open_locked(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, const char *source, const char *actor,
    const char *reason)
{
    uint32_t             epoch;
    uint64_t             w, next;
    ngx_uint_t           seed;
    ngx_gate_rollout_t  *ro;

    ro = rc->sh;

    ngx_gate_rollout_conf_locked(ro, rc);

    ro->opening = 0;
    ro->provisional = 0;

    do {
        w = ngx_gate_load(&ro->word);

        epoch = ngx_gate_word_epoch(w) + 1;
        epoch = ngx_max(epoch, (uint32_t) ngx_time());

        ro->step = 0;
        next = ngx_gate_rollout_block_locked(ro, w, epoch, rc->weight,
                                             rc->digest);

        /* the seed that no decision reads is the one to write */

        seed = !ngx_gate_word_seed(w);

        gate_assign_epoch_seed(node->sh->secret, ro->name,
                               ngx_strlen(ro->name), epoch, ro->seed[seed]);

        next = (next & ~NGX_GATE_SEED_BIT) | (uint64_t) seed << 22;
        next = ngx_gate_word(epoch,
                             rc->weight ? GATE_PROGRESSING : GATE_IDLE, 0,
                             next, rc->weight);

    } while (!ngx_gate_cas(&ro->word, &w, next));

    ngx_memzero(ro->breaker, sizeof(ro->breaker));

    ro->epoch_since = ngx_gate_now();

    ngx_gate_rollout_note_locked(ro, source, actor, reason);
    ngx_gate_changed(node->sh);
}


static void
ngx_gate_rollout_conf_locked(ngx_gate_rollout_t *ro,
    ngx_gate_rollout_conf_t *rc)
{
    ngx_gate_text(ro->stable, sizeof(ro->stable), rc->stable.data,
                  rc->stable.len);
    ngx_gate_text(ro->canary, sizeof(ro->canary), rc->canary.data,
                  rc->canary.len);
    ngx_gate_text(ro->id, sizeof(ro->id), rc->id.data, rc->id.len);

    ro->conf_weight = rc->weight;
    ngx_gate_store(&ro->conf_digest, rc->digest);
}


/*
 * Epochs are made in Redis.  Until it has made this one, which takes some
 * milliseconds, everybody goes to stable: the fleet may have rolled this
 * release back long ago.
 */

static void
ngx_gate_rollout_wait_locked(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_uint_t changed)
{
    uint32_t             epoch;
    uint64_t             w, next;
    ngx_uint_t           seed;
    ngx_gate_rollout_t  *ro;

    ro = rc->sh;

    ngx_gate_rollout_conf_locked(ro, rc);

    ro->opening = changed ? NGX_GATE_OPENING_CHANGED : NGX_GATE_OPENING;
    ro->opening_since = ngx_current_msec;
    ro->provisional = 1;
    ro->foreign = 0;
    ro->known.dirty = 0;

    do {
        w = ngx_gate_load(&ro->word);
        epoch = ngx_gate_word_epoch(w) + 1;

        ro->step = 0;
        next = ngx_gate_rollout_block_locked(ro, w, epoch, 0, rc->digest);

        seed = !ngx_gate_word_seed(w);

        gate_assign_epoch_seed(node->sh->secret, ro->name,
                               ngx_strlen(ro->name), epoch, ro->seed[seed]);

        next = (next & ~NGX_GATE_SEED_BIT) | (uint64_t) seed << 22;
        next = ngx_gate_word(epoch, GATE_IDLE, 0, next, 0);

    } while (!ngx_gate_cas(&ro->word, &w, next));

    ngx_memzero(ro->breaker, sizeof(ro->breaker));

    ro->epoch_since = ngx_gate_now();

    ngx_gate_rollout_note_locked(ro, "config", "nginx", "waits for Redis");
    ngx_gate_changed(node->sh);
}


/*
 * Takes the next block for (epoch, weight) and returns w with its index and
 * serial: the caller swaps the word.
 */

uint64_t
ngx_gate_rollout_block_locked(ngx_gate_rollout_t *ro, uint64_t w,
    uint32_t epoch, ngx_uint_t weight, uint64_t digest)
{
    ngx_uint_t         i;
    ngx_gate_block_t  *b;

    i = (ngx_gate_word_block(w) + 1) % NGX_GATE_BLOCKS;
    b = &ro->blocks[i];

    ro->serial++;
    ro->step++;

    /* latecomers see the tag go before the counters do */

    __atomic_store_n(&b->tag, 0, __ATOMIC_SEQ_CST);

    ngx_gate_rollout_retire(ro, b);

    ngx_memzero(b, sizeof(ngx_gate_block_t));
    ngx_memzero(ro->breach_since, sizeof(ro->breach_since));

    b->digest = digest;
    b->step = ro->step;
    b->weight = weight;
    b->started = (uint64_t) ngx_gate_now();
    b->started_msec = ngx_current_msec;

    ngx_gate_store(&b->tag, (uint64_t) epoch << 32 | ro->serial);

    return (w & ~NGX_GATE_BLOCK_MASK)
           | (uint64_t) i << 23
           | (uint64_t) (ro->serial & 0xff) << 14;
}


/* totals never go back: what a block counted moves on before it is reused */

static void
ngx_gate_rollout_retire(ngx_gate_rollout_t *ro, ngx_gate_block_t *b)
{
    ngx_uint_t       i, n;
    ngx_gate_arm_t  *from, *to;

    for (i = 0; i < NGX_GATE_ARMS; i++) {
        from = &b->arm[i];
        to = &ro->retired[i];

        /* latecomers add to the same totals, without a lock */

        ngx_gate_add(&to->requests, from->requests);
        ngx_gate_add(&to->begun, from->begun);
        ngx_gate_add(&to->unavailable, from->unavailable);
        ngx_gate_add(&to->broken, from->broken);
        ngx_gate_add(&to->censored, from->censored);

        for (n = 0; n < NGX_GATE_KINDS; n++) {
            ngx_gate_add(&to->attempts[n], from->attempts[n]);
            ngx_gate_add(&to->failures[n], from->failures[n]);
        }

        for (n = 0; n < GATE_HIST_BUCKETS; n++) {
            ro->hist_retired[i][n] += from->hist[n];
        }
    }

    ngx_gate_add(&ro->saved_retired, b->saved);
    ngx_gate_add(&ro->fallbacks_retired, b->fallbacks);
}


void
ngx_gate_rollout_note_locked(ngx_gate_rollout_t *ro, const char *source,
    const char *actor, const char *reason)
{
    ro->since = ngx_gate_now();

    ngx_gate_text(ro->source, sizeof(ro->source), (u_char *) source,
                  ngx_strlen(source));
    ngx_gate_text(ro->actor, sizeof(ro->actor), (u_char *) actor,
                  ngx_strlen(actor));
    ngx_gate_text(ro->reason, sizeof(ro->reason), (u_char *) reason,
                  ngx_strlen(reason));
}


void
ngx_gate_rollout_import_locked(ngx_gate_node_t *node, ngx_gate_rollout_t *ro,
    gate_state_rollout_t *st)
{
    uint64_t  w;

    w = ngx_gate_load(&ro->word);

    /*
     * A newer epoch wins; within one rolled_back is highest, and otherwise
     * an operator's latest word.
     */

    if (st->epoch < ngx_gate_word_epoch(w)
        || (st->epoch == ngx_gate_word_epoch(w)
            && (ngx_gate_word_state(w) == GATE_ROLLED_BACK
                || (st->state != GATE_ROLLED_BACK
                    && st->since <= ro->since / 1000))))
    {
        return;
    }

    ngx_gate_rollout_take_locked(ro, st);

    ro->known.rev = st->known.rev;
    ro->known.there = st->known.there;
    ro->known.dirty = st->known.dirty;
    ro->provisional = st->provisional;
    ro->opening = st->opening;
    ro->opening_since = ngx_current_msec;
    ro->flip_epoch = st->flip_epoch;
}


void
ngx_gate_rollout_take_locked(ngx_gate_rollout_t *ro, gate_state_rollout_t *st)
{
    uint64_t    w, next;
    ngx_uint_t  seed;

    w = ngx_gate_load(&ro->word);

#define ngx_gate_import(to, from)                                             \
    ngx_gate_text(to, sizeof(to), (u_char *) (from), ngx_strlen(from))

    ngx_gate_import(ro->stable, st->stable);
    ngx_gate_import(ro->canary, st->canary);
    ngx_gate_import(ro->id, st->id);
    ngx_gate_import(ro->reason, st->reason);
    ngx_gate_import(ro->source, st->source);
    ngx_gate_import(ro->actor, st->actor);

    ro->since = st->since * 1000;
    ro->epoch_since = (int64_t) st->epoch * 1000;
    ro->conf_weight = st->conf_weight;

    seed = !ngx_gate_word_seed(w);

    ngx_memcpy(ro->seed[seed], st->seed, sizeof(st->seed));

    next = ngx_gate_rollout_block_locked(ro, w, st->epoch, st->weight,
                                         ngx_gate_peek(&ro->conf_digest));

    ro->step = st->step;
    ro->blocks[ngx_gate_word_block(next)].step = st->step;

    next = (next & ~NGX_GATE_SEED_BIT) | (uint64_t) seed << 22;

    next = ngx_gate_word(st->epoch, st->state, ngx_gate_rollout_cause(st),
                         next, st->weight);

    ngx_gate_store(&ro->word, next);

    /* its record came along, nobody has to write another */

    ngx_gate_rollout_import_record(ro, st);
}


ngx_uint_t
ngx_gate_rollout_cause(gate_state_rollout_t *st)
{
    if (st->state != GATE_ROLLED_BACK) {
        return 0;
    }

    return ngx_strcmp(st->source, "verdict") == 0 ? NGX_GATE_CAUSE_RESTORED
                                                  : NGX_GATE_CAUSE_OPERATOR;
}


void
ngx_gate_rollout_import_record(ngx_gate_rollout_t *ro,
    gate_state_rollout_t *st)
{
    size_t  len;

    /* one that goes on has its flip, and the record of it, before it */

    ro->record_epoch = (st->state == GATE_ROLLED_BACK) ? st->epoch : 0;
    ro->record_len = 0;

    if (st->record == NULL) {
        return;
    }

    len = ngx_strlen(st->record);

    if (len < NGX_GATE_RECORD_LEN) {
        ngx_memcpy(ro->record, st->record, len + 1);
        ro->record_len = (uint32_t) len;
    }
}


void
ngx_gate_rollout_export_locked(ngx_gate_rollout_t *ro,
    gate_state_rollout_t *st)
{
    uint64_t  w;

    w = ngx_gate_load(&ro->word);

    ngx_memzero(st, sizeof(gate_state_rollout_t));

    ngx_gate_import(st->name, ro->name);
    ngx_gate_import(st->stable, ro->stable);
    ngx_gate_import(st->canary, ro->canary);
    ngx_gate_import(st->id, ro->id);
    ngx_gate_import(st->reason, ro->reason);
    ngx_gate_import(st->source, ro->source);
    ngx_gate_import(st->actor, ro->actor);

    st->epoch = ngx_gate_word_epoch(w);
    st->state = ngx_gate_word_state(w);
    st->weight = ngx_gate_word_weight(w);
    st->step = ngx_min(ro->step, GATE_STATE_STEP_MAX);
    st->conf_weight = ro->conf_weight;
    st->since = ro->since / 1000;

    st->known.rev = ngx_min(ro->known.rev, (uint64_t) GATE_STATE_REV_MAX);
    st->known.there = ro->known.there != 0;
    st->known.dirty = ro->known.dirty != 0;
    st->provisional = ro->provisional != 0;
    st->opening = ro->opening & GATE_STATE_OPENING_MAX;
    st->flip_epoch = ro->flip_epoch;

    ngx_memcpy(st->seed, ro->seed[ngx_gate_word_seed(w)], sizeof(st->seed));
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * What the fleet decided about a rollout, brought into the zone.
 *
 * Redis is the truth for epochs, weights and states, with one exception:
 * within an epoch rolled_back is highest.  So a rollback here outlives what
 * Redis still says, until the agent has told it; and an epoch that Redis made
 * replaces any that this node made up while it was alone.
 */


#include "ngx_gate_node.h"


static ngx_uint_t ngx_gate_told_foreign_locked(ngx_gate_rollout_t *ro,
    gate_state_rollout_t *st, ngx_gate_rollout_conf_t *rc);
static ngx_uint_t ngx_gate_told_epoch_locked(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, gate_state_rollout_t *st, uint64_t w);
static void ngx_gate_told_whose(ngx_gate_rollout_t *ro,
    gate_state_rollout_t *st);
static ngx_uint_t ngx_gate_told_state_locked(ngx_gate_rollout_conf_t *rc,
    gate_state_rollout_t *st);


ngx_uint_t
ngx_gate_rollout_told(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    gate_state_rollout_t *st, uint64_t rev)
{
    uint64_t             w;
    ngx_uint_t           rv, same;
    ngx_gate_rollout_t  *ro;

    ro = rc->sh;

    ngx_shmtx_lock(&node->shpool->mutex);

    if (node->generation != node->sh->generation) {

        /* a worker of an old configuration: others know better by now */

        ngx_shmtx_unlock(&node->shpool->mutex);
        return NGX_GATE_TOLD_NOTHING;
    }

    if (ngx_gate_told_foreign_locked(ro, st, rc)) {
        rv = NGX_GATE_TOLD_FOREIGN;
        goto done;
    }

    w = ngx_gate_load(&ro->word);

    same = st->epoch == ngx_gate_word_epoch(w)
           && ngx_memcmp(st->seed, ro->seed[ngx_gate_word_seed(w)],
                         sizeof(st->seed))
              == 0;

    if (ro->provisional
        || st->epoch > ngx_gate_word_epoch(w)
        || (ro->known.rev == 0 && !same))
    {
        /* without a revision ours was never Redis's, whatever its number */

        rv = ngx_gate_told_epoch_locked(node, rc, st, w);

    } else if (!same) {

        /*
         * Redis made that epoch, or another of the same number, when it had
         * forgotten ours: what we know has to be brought to it first.
         */

        ngx_shmtx_unlock(&node->shpool->mutex);
        return NGX_GATE_TOLD_OLDER;

    } else {

        if (ro->known.dirty && rev != ro->known.rev) {

            /* somebody else was heard while we were away */

            ro->known.dirty = 0;
        }

        rv = ro->known.dirty ? NGX_GATE_TOLD_NOTHING
                             : ngx_gate_told_state_locked(rc, st);
    }

    if (ro->known.rev != rev) {
        ngx_gate_changed(node->sh);
    }

    ro->known.rev = rev;
    ro->known.there = 1;

done:

    if (rv != NGX_GATE_TOLD_NOTHING) {
        ngx_gate_changed(node->sh);
    }

    ngx_shmtx_unlock(&node->shpool->mutex);

    return rv;
}


static ngx_uint_t
ngx_gate_told_foreign_locked(ngx_gate_rollout_t *ro,
    gate_state_rollout_t *st, ngx_gate_rollout_conf_t *rc)
{
    ro->foreign = ngx_strlen(st->stable) != rc->stable.len
                  || ngx_strncmp(st->stable, rc->stable.data, rc->stable.len)
                  || ngx_strlen(st->canary) != rc->canary.len
                  || ngx_strncmp(st->canary, rc->canary.data, rc->canary.len)
                  || ngx_strlen(st->id) != rc->id.len
                  || ngx_strncmp(st->id, rc->id.data, rc->id.len);

    return ro->foreign;
}


/* An epoch that is not ours. */

static ngx_uint_t
ngx_gate_told_epoch_locked(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, gate_state_rollout_t *st, uint64_t w)
{
    int64_t              since;
    uint64_t             own;
    ngx_uint_t           late, opened;
    ngx_gate_rollout_t  *ro;

    ro = rc->sh;

    /*
     * A rollback that Redis never heard of is the real epoch's too, unless
     * that one began after it: then somebody has started anew since.  That a
     * configuration opened it, our own maybe, is no such start.
     */

    since = (ro->since + node->sh->fleet.clock_offset) / 1000;
    opened = ngx_strcmp(st->source, "config") == 0;

    late = (ro->provisional || ro->known.rev == 0)
           && ngx_gate_word_state(w) == GATE_ROLLED_BACK
           && (opened || since >= (int64_t) st->epoch)
           && st->state != GATE_ROLLED_BACK;

    if (ro->provisional && ro->known.dirty && opened && !late
        && ngx_gate_word_weight(w) <= st->weight)
    {
        /* nor is it heard: what an operator lowered is still to be pushed */

        st->state = ngx_gate_word_state(w);
        st->weight = ngx_gate_word_weight(w);
        ngx_gate_told_whose(ro, st);

    } else {
        ro->known.dirty = 0;
    }

    ro->provisional = 0;
    ro->opening = 0;

    if (late) {
        own = ngx_gate_word_cause(w);

        /* who, why and the record stay: they are the rollback's */

        st->state = GATE_ROLLED_BACK;
        st->weight = 0;

        ngx_gate_told_whose(ro, st);

        st->record = ro->record_len ? ro->record : NULL;

        ngx_gate_rollout_take_locked(ro, st);

        st->record = NULL;

        w = ngx_gate_load(&ro->word);
        ngx_gate_store(&ro->word,
                       ngx_gate_word(st->epoch, GATE_ROLLED_BACK, own, w, 0));

        ro->flip_epoch = 0;

        return NGX_GATE_TOLD_CHANGED;
    }

    ngx_gate_rollout_take_locked(ro, st);

    ro->conf_weight = rc->weight;
    ro->flip_epoch = (st->state == GATE_ROLLED_BACK) ? st->epoch : 0;

    return NGX_GATE_TOLD_CHANGED;
}


/* Who changed it here, and why, is who did it. */

static void
ngx_gate_told_whose(ngx_gate_rollout_t *ro, gate_state_rollout_t *st)
{
    ngx_gate_text(st->source, sizeof(st->source), (u_char *) ro->source,
                  ngx_strlen(ro->source));
    ngx_gate_text(st->actor, sizeof(st->actor), (u_char *) ro->actor,
                  ngx_strlen(ro->actor));
    ngx_gate_text(st->reason, sizeof(st->reason), (u_char *) ro->reason,
                  ngx_strlen(ro->reason));

    st->since = ro->since / 1000;
}


/* The same epoch. */

static ngx_uint_t
ngx_gate_told_state_locked(ngx_gate_rollout_conf_t *rc,
    gate_state_rollout_t *st)
{
    uint32_t             step;
    uint64_t             w, next;
    ngx_uint_t           moved;
    ngx_gate_rollout_t  *ro;

    ro = rc->sh;

    for ( ;; ) {
        w = ngx_gate_load(&ro->word);

        if (ngx_gate_word_state(w) == GATE_ROLLED_BACK) {

            /* 0: Redis does not know of it, or does so no more */

            ro->flip_epoch = (st->state == GATE_ROLLED_BACK) ? st->epoch : 0;

            return NGX_GATE_TOLD_NOTHING;
        }

        if (st->state == GATE_ROLLED_BACK) {
            next = ngx_gate_word(st->epoch, GATE_ROLLED_BACK,
                                 ngx_gate_rollout_cause(st), w, 0);

            /*
             * Its record first: nobody must write another one of an event
             * that happened elsewhere.
             */

            ngx_gate_rollout_note_locked(ro, st->source, st->actor,
                                         st->reason);
            ro->since = st->since * 1000;
            ngx_gate_rollout_import_record(ro, st);

            if (ngx_gate_cas(&ro->word, &w, next)) {
                ngx_gate_add(&ro->flips_total, 1);
                ro->flip_epoch = st->epoch;
                return NGX_GATE_TOLD_CHANGED;
            }

            /* ours came first, and its record is to be written */

            ro->record_epoch = 0;
            continue;
        }

        step = ro->blocks[ngx_gate_word_block(w)].step;
        moved = (st->step != step
                 || st->weight != ngx_gate_word_weight(w));

        if (!moved && st->state == ngx_gate_word_state(w)) {
            return NGX_GATE_TOLD_NOTHING;
        }

        next = w;

        if (moved) {
            ro->step = st->step - 1;
            next = ngx_gate_rollout_block_locked(ro, w, st->epoch,
                                                 st->weight,
                                            ngx_gate_peek(&ro->conf_digest));
        }

        next = ngx_gate_word(st->epoch, st->state, 0, next, st->weight);

        ngx_gate_rollout_note_locked(ro, st->source, st->actor, st->reason);
        ro->since = st->since * 1000;

        if (ngx_gate_cas(&ro->word, &w, next)) {
            return NGX_GATE_TOLD_CHANGED;
        }
    }
}


ngx_uint_t
ngx_gate_rollout_deleted(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    uint64_t rev)
{
    uint64_t             w, next;
    ngx_uint_t           changed;
    ngx_gate_rollout_t  *ro;

    ro = rc->sh;
    changed = 0;

    ngx_shmtx_lock(&node->shpool->mutex);

    if (node->generation == node->sh->generation
        && (ro->known.there || ro->known.rev != rev || ro->provisional))
    {
        do {
            w = ngx_gate_load(&ro->word);
            changed = ngx_gate_word_weight(w) != 0;

            next = w;

            if (changed) {
                next = ngx_gate_rollout_block_locked(ro, w,
                                                     ngx_gate_word_epoch(w),
                                                     0,
                                            ngx_gate_peek(&ro->conf_digest));
            }

            if (ngx_gate_word_state(w) != GATE_ROLLED_BACK) {
                next = ngx_gate_word(ngx_gate_word_epoch(w), GATE_IDLE, 0,
                                     next, 0);
            }

        } while (!ngx_gate_cas(&ro->word, &w, next));

        ngx_gate_rollout_note_locked(ro, "redis", "operator",
                                     "deleted from Redis");

        ro->known.rev = rev;
        ro->known.there = 0;
        ro->known.dirty = 0;
        ro->opening = 0;
        ro->provisional = 0;
        ro->foreign = 0;

        ngx_gate_changed(node->sh);
    }

    ngx_shmtx_unlock(&node->shpool->mutex);

    return changed;
}


void
ngx_gate_rollout_alone(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc)
{
    uint64_t             w, next;
    ngx_gate_rollout_t  *ro;

    ro = rc->sh;

    ngx_shmtx_lock(&node->shpool->mutex);

    if (node->generation == node->sh->generation
        && ro->opening && !(ro->opening & NGX_GATE_OPENING_SERVED))
    {
        ro->opening |= NGX_GATE_OPENING_SERVED;

        do {
            w = ngx_gate_load(&ro->word);

            next = ngx_gate_rollout_block_locked(ro, w,
                                                 ngx_gate_word_epoch(w),
                                                 rc->weight, rc->digest);

            next = ngx_gate_word(ngx_gate_word_epoch(w),
                                 rc->weight ? GATE_PROGRESSING : GATE_IDLE,
                                 0, next, rc->weight);

        } while (!ngx_gate_cas(&ro->word, &w, next));

        ngx_gate_rollout_note_locked(ro, "config", "nginx",
                                     "Redis is away, served alone");
        ngx_gate_changed(node->sh);
    }

    ngx_shmtx_unlock(&node->shpool->mutex);
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Maintenance switches.  A request reads one word, "effective"; whoever
 * changes a value recomputes it under the slab mutex.  The store of the word
 * is sequentially consistent, as is a request's count before its load: so
 * either the request sees the switch closed, or whoever closed it and then
 * sums the counts sees the request.
 */


#include "ngx_gate_node.h"


#define NGX_GATE_READ_TRIES  1000


static void ngx_gate_switch_begin(ngx_gate_switch_t *s);
static void ngx_gate_switch_end(ngx_gate_node_t *node, ngx_gate_switch_t *s);
static uint64_t ngx_gate_switch_compute(ngx_gate_node_t *node,
    ngx_gate_switch_t *s);
static uint64_t ngx_gate_switch_values(ngx_gate_switch_t *s);


void
ngx_gate_switch_set(ngx_gate_node_t *node, ngx_gate_switch_t *s,
    gate_switch_value_t *v, const char *source, const char *actor)
{
    ngx_shmtx_lock(&node->shpool->mutex);

    ngx_gate_switch_begin(s);

    s->control = *v;
    s->control_since = ngx_gate_now();

    ngx_gate_text(s->control_source, sizeof(s->control_source),
                  (u_char *) source, ngx_strlen(source));
    ngx_gate_text(s->control_actor, sizeof(s->control_actor),
                  (u_char *) actor, ngx_strlen(actor));

    if (node->redis == NULL && s->known.rev) {

        /* a Redis that was taken out of the configuration may come back */

        s->known.dirty = 1;
    }

    ngx_gate_switch_end(node, s);

    ngx_gate_changed(node->sh);

    ngx_shmtx_unlock(&node->shpool->mutex);
}


void
ngx_gate_switch_set_file(ngx_gate_node_t *node, ngx_gate_switch_t *s,
    gate_switch_value_t *v)
{
    ngx_uint_t  same;

    same = v ? (s->file_generation != 0
                && ngx_memcmp(&s->file, v, sizeof(gate_switch_value_t)) == 0)
             : s->file_generation == 0;

    if (same) {
        return;
    }

    ngx_shmtx_lock(&node->shpool->mutex);

    if (node->generation != node->sh->generation) {

        /* a worker of an old configuration, which may name other files */

        ngx_shmtx_unlock(&node->shpool->mutex);
        return;
    }

    ngx_gate_switch_begin(s);

    s->file_since = ngx_gate_now();

    if (v) {
        s->file = *v;
        s->file_generation = node->generation;

    } else {
        s->file_generation = 0;
    }

    ngx_gate_switch_end(node, s);

    ngx_shmtx_unlock(&node->shpool->mutex);
}


void
ngx_gate_switch_tick(ngx_gate_node_t *node, ngx_gate_switch_t *s)
{
    if (ngx_gate_switch_compute(node, s) == ngx_gate_peek(&s->effective)) {
        return;
    }

    ngx_shmtx_lock(&node->shpool->mutex);

    ngx_gate_switch_refresh_locked(node, s);

    ngx_shmtx_unlock(&node->shpool->mutex);
}


void
ngx_gate_switch_refresh_locked(ngx_gate_node_t *node, ngx_gate_switch_t *s)
{
    ngx_gate_switch_begin(s);
    ngx_gate_switch_end(node, s);
}


static void
ngx_gate_switch_begin(ngx_gate_switch_t *s)
{
    /* a writer that died here left it odd: it stays odd until we are done */

    ngx_gate_store(&s->seq, s->seq | 1);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}


static void
ngx_gate_switch_end(ngx_gate_node_t *node, ngx_gate_switch_t *s)
{
    uint64_t  effective;

    effective = ngx_gate_switch_compute(node, s);

    if (effective != s->effective) {
        s->since = ngx_gate_now();
        __atomic_store_n(&s->effective, effective, __ATOMIC_SEQ_CST);
    }

    ngx_gate_store(&s->seq, s->seq + 1);
}


static uint64_t
ngx_gate_switch_compute(ngx_gate_node_t *node, ngx_gate_switch_t *s)
{
    uint64_t  values;

    values = ngx_gate_switch_values(s);

    if (values == 0) {
        return 0;
    }

    switch (ngx_gate_mode(node->sh, NGX_GATE_MODE_MAINTENANCE)) {

    case NGX_GATE_MODE_OFF:
        return 0;

    case NGX_GATE_MODE_OBSERVE:

        /* so that whoever asks for "closed" need not know of modes */

        return NGX_GATE_SWITCH_OBSERVED
               | (values & ~ (uint64_t) NGX_GATE_SWITCH_CLOSED);

    default: /* NGX_GATE_MODE_ENFORCE */
        return values;
    }
}


static uint64_t
ngx_gate_switch_values(ngx_gate_switch_t *s)
{
    int64_t   now;
    uint64_t  file, control;

    now = ngx_time();
    file = 0;
    control = 0;

    if (s->file_generation && gate_switch_active(&s->file, now)) {
        file = NGX_GATE_SWITCH_CLOSED;
        file |= s->file.read_only ? NGX_GATE_SWITCH_READ_ONLY : 0;
    }

    if (gate_switch_active(&s->control, now)) {
        control = NGX_GATE_SWITCH_CLOSED;
        control |= s->control.read_only ? NGX_GATE_SWITCH_READ_ONLY : 0;
    }

    /* closed for reading wins over closed for writing */

    if (file == NGX_GATE_SWITCH_CLOSED || control == NGX_GATE_SWITCH_CLOSED) {
        return NGX_GATE_SWITCH_CLOSED;
    }

    return file | control;
}


void
ngx_gate_switch_read(ngx_gate_switch_t *s, ngx_gate_switch_t *copy)
{
    uint64_t    seq;
    ngx_uint_t  i;

    for (i = 0; i < NGX_GATE_READ_TRIES; i++) {
        seq = ngx_gate_load(&s->seq);

        *copy = *s;

        __atomic_thread_fence(__ATOMIC_ACQUIRE);

        if (!(seq & 1) && seq == ngx_gate_peek(&s->seq)) {
            break;
        }

        ngx_cpu_pause();
    }

    /* a torn copy must not run over its arrays */

    copy->name[NGX_GATE_NAME_LEN - 1] = '\0';
    copy->control_source[NGX_GATE_SOURCE_LEN - 1] = '\0';
    copy->control_actor[NGX_GATE_ACTOR_LEN - 1] = '\0';

    copy->control.message_len = ngx_min(copy->control.message_len,
                                        sizeof(copy->control.message));
    copy->file.message_len = ngx_min(copy->file.message_len,
                                     sizeof(copy->file.message));
}


gate_switch_value_t *
ngx_gate_switch_value(ngx_gate_switch_t *copy)
{
    int64_t  now;

    now = ngx_time();

    if (copy->file_generation == 0 || !gate_switch_active(&copy->file, now)) {
        return &copy->control;
    }

    /* who closes it for reading closes it */

    if (copy->file.read_only && !copy->control.read_only
        && gate_switch_active(&copy->control, now))
    {
        return &copy->control;
    }

    return &copy->file;
}


void
ngx_gate_switch_inflight(ngx_gate_zone_t *sh, ngx_uint_t sw,
    ngx_gate_inflight_t *sum)
{
    ngx_uint_t            i;
    ngx_gate_slot_t      *slot;
    ngx_gate_inflight_t  *in;

    ngx_memzero(sum, sizeof(ngx_gate_inflight_t));

    for (i = 0; i < ngx_gate_load(&sh->nslots); i++) {
        slot = &sh->slots[i];
        in = &slot->inflight[sw];

        /* totals outlive the process that counted them */

        sum->admitted_total += ngx_gate_peek(&in->admitted_total);
        sum->bypassed_total += ngx_gate_peek(&in->bypassed_total);

        if ((in->admitted | in->bypassed | in->upgraded)
            && ngx_gate_slot_alive(slot))
        {
            sum->admitted += __atomic_load_n(&in->admitted, __ATOMIC_SEQ_CST);
            sum->bypassed += ngx_gate_peek(&in->bypassed);
            sum->upgraded += ngx_gate_peek(&in->upgraded);
        }
    }
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * The mailbox: letters from workers that serve the API to the agent.
 *
 * A letter goes from free to posted to taken to done, and the poster frees
 * it.  Posting, taking and giving up happen under the slab mutex; an answer
 * does not need it, because whoever answers first turns "taker" from a pid
 * into "pid answers" by compare-and-swap: only one can, and only while the
 * letter is still the one that was taken.
 *
 * Anybody may be killed at any point:
 *   - a poster: its letter is nobody's, and its room is used again as soon
 *     as no agent has it in hand.  What was not taken will not be done;
 *   - an agent: the poster sees that who took the letter is not the agent
 *     any more, and learns that nobody knows what became of it;
 *   - whoever held the mutex: "state" is always the last word written.
 */


#include "ngx_gate_node.h"


#define NGX_GATE_MAIL_ANSWERS  0x80000000   /* with the pid of who does */


static ngx_gate_mail_t *ngx_gate_mail_room_locked(ngx_gate_zone_t *sh);
static ngx_uint_t ngx_gate_mail_idle_locked(ngx_gate_zone_t *sh,
    ngx_gate_mail_t *m);
static ngx_uint_t ngx_gate_mail_nobodys(ngx_gate_zone_t *sh,
    ngx_gate_mail_t *m);
static ngx_uint_t ngx_gate_mail_close(ngx_gate_zone_t *sh,
    ngx_gate_mail_t *m);
static ngx_gate_mail_t *ngx_gate_mail_find(ngx_gate_zone_t *sh, uint64_t id);


ngx_int_t
ngx_gate_mail_post(ngx_gate_node_t *node, ngx_gate_mail_t *letter,
    uint64_t *id)
{
    ngx_gate_zone_t  *sh;
    ngx_gate_mail_t  *m;

    sh = node->sh;

    ngx_shmtx_lock(&node->shpool->mutex);

    m = ngx_gate_mail_room_locked(sh);

    if (m == NULL) {
        ngx_shmtx_unlock(&node->shpool->mutex);
        return NGX_BUSY;
    }

    ngx_gate_store(&m->state, NGX_GATE_MAIL_WRITING);

    m->id = ++sh->mails_total;
    m->poster = (uint32_t) ngx_pid;
    m->taker = 0;
    m->generation = node->generation;
    m->kind = letter->kind;
    m->sw = letter->sw;
    m->action = letter->action;
    m->weight = letter->weight;
    m->result = NGX_ERROR;
    m->value = letter->value;

    ngx_memcpy(m->rollout, letter->rollout, sizeof(m->rollout));
    ngx_memcpy(m->actor, letter->actor, sizeof(m->actor));
    ngx_memcpy(m->reason, letter->reason, sizeof(m->reason));

    m->rollout[sizeof(m->rollout) - 1] = '\0';
    m->actor[sizeof(m->actor) - 1] = '\0';
    m->reason[sizeof(m->reason) - 1] = '\0';
    m->why[0] = '\0';

    *id = m->id;

    ngx_gate_store(&m->state, NGX_GATE_MAIL_POSTED);

    ngx_shmtx_unlock(&node->shpool->mutex);

    return NGX_OK;
}


static ngx_gate_mail_t *
ngx_gate_mail_room_locked(ngx_gate_zone_t *sh)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_GATE_MAILS; i++) {
        if (ngx_gate_load(&sh->mails[i].state) == NGX_GATE_MAIL_FREE) {
            return &sh->mails[i];
        }
    }

    /* it is full: only now it is worth asking who is still there */

    for (i = 0; i < NGX_GATE_MAILS; i++) {
        if (ngx_gate_mail_idle_locked(sh, &sh->mails[i])) {
            return &sh->mails[i];
        }
    }

    return NULL;
}


static ngx_uint_t
ngx_gate_mail_idle_locked(ngx_gate_zone_t *sh, ngx_gate_mail_t *m)
{
    switch (ngx_gate_load(&m->state)) {

    case NGX_GATE_MAIL_FREE:
    case NGX_GATE_MAIL_WRITING:

        /* we have the mutex, so whoever was writing is dead */

        return 1;

    case NGX_GATE_MAIL_TAKEN:
        return ngx_gate_mail_nobodys(sh, m) && ngx_gate_mail_close(sh, m);

    default: /* NGX_GATE_MAIL_POSTED, NGX_GATE_MAIL_DONE */
        return ngx_gate_mail_nobodys(sh, m);
    }
}


static ngx_uint_t
ngx_gate_mail_nobodys(ngx_gate_zone_t *sh, ngx_gate_mail_t *m)
{
    uint32_t  pid;

    pid = ngx_gate_load(&m->poster);

    return pid == 0 || !ngx_gate_node_alive(sh, pid);
}


/*
 * Takes a letter out of the hands of one who is not the agent any more: from
 * here on its answer comes too late.  0: it is in good hands, or is being
 * answered right now.
 */

static ngx_uint_t
ngx_gate_mail_close(ngx_gate_zone_t *sh, ngx_gate_mail_t *m)
{
    uint32_t  taker;

    taker = ngx_gate_load(&m->taker);

    if (taker & NGX_GATE_MAIL_ANSWERS) {
        return ngx_gate_load(&m->state) == NGX_GATE_MAIL_TAKEN
               && !ngx_gate_node_alive(sh, taker & ~NGX_GATE_MAIL_ANSWERS);
    }

    if (taker == (uint32_t) ngx_gate_load(&sh->agent)
        && ngx_gate_node_alive(sh, taker))
    {
        return 0;
    }

    return ngx_gate_cas(&m->taker, &taker,
                        (uint32_t) ngx_pid | NGX_GATE_MAIL_ANSWERS);
}


static ngx_gate_mail_t *
ngx_gate_mail_find(ngx_gate_zone_t *sh, uint64_t id)
{
    uint32_t     state;
    ngx_uint_t   i;

    for (i = 0; i < NGX_GATE_MAILS; i++) {
        state = ngx_gate_load(&sh->mails[i].state);

        if (state != NGX_GATE_MAIL_FREE && state != NGX_GATE_MAIL_WRITING
            && sh->mails[i].id == id)
        {
            return &sh->mails[i];
        }
    }

    return NULL;
}


ngx_int_t
ngx_gate_mail_result(ngx_gate_node_t *node, uint64_t id,
    ngx_gate_mail_t *copy)
{
    uint32_t          state;
    ngx_gate_mail_t  *m;

    static const char  nobody[] = "the agent was replaced while it was at it";

    m = ngx_gate_mail_find(node->sh, id);

    if (m == NULL) {
        ngx_memzero(copy, sizeof(ngx_gate_mail_t));
        copy->result = NGX_ERROR;
        ngx_memcpy(copy->why, nobody, sizeof(nobody));
        return NGX_OK;
    }

    state = ngx_gate_load(&m->state);

    if (state == NGX_GATE_MAIL_POSTED
        || (state == NGX_GATE_MAIL_TAKEN
            && !ngx_gate_mail_close(node->sh, m)))
    {
        return NGX_AGAIN;
    }

    *copy = *m;

    copy->why[sizeof(copy->why) - 1] = '\0';

    if (state != NGX_GATE_MAIL_DONE) {
        copy->result = NGX_ERROR;
        ngx_memcpy(copy->why, nobody, sizeof(nobody));
    }

    ngx_gate_store(&m->state, NGX_GATE_MAIL_FREE);

    return NGX_OK;
}


ngx_int_t
ngx_gate_mail_drop(ngx_gate_node_t *node, uint64_t id)
{
    ngx_int_t         rc;
    ngx_gate_mail_t  *m;

    rc = NGX_DECLINED;

    ngx_shmtx_lock(&node->shpool->mutex);

    m = ngx_gate_mail_find(node->sh, id);

    if (m && ngx_gate_load(&m->state) == NGX_GATE_MAIL_POSTED) {
        ngx_gate_store(&m->state, NGX_GATE_MAIL_FREE);
        rc = NGX_OK;

    } else if (m) {

        /* in somebody's hands: its room is found again once it is done */

        ngx_gate_store(&m->poster, 0);
    }

    ngx_shmtx_unlock(&node->shpool->mutex);

    return rc;
}


ngx_gate_mail_t *
ngx_gate_mail_take(ngx_gate_node_t *node)
{
    ngx_uint_t        i;
    ngx_gate_zone_t  *sh;
    ngx_gate_mail_t  *m, *first;

    sh = node->sh;

    /* nearly always there is none, and that costs no lock */

    for (i = 0; i < NGX_GATE_MAILS; i++) {
        if (ngx_gate_load(&sh->mails[i].state) == NGX_GATE_MAIL_POSTED) {
            break;
        }
    }

    if (i == NGX_GATE_MAILS) {
        return NULL;
    }

    first = NULL;

    ngx_shmtx_lock(&node->shpool->mutex);

    for (i = 0; i < NGX_GATE_MAILS; i++) {
        m = &sh->mails[i];

        if (ngx_gate_load(&m->state) != NGX_GATE_MAIL_POSTED) {
            continue;
        }

        if (ngx_gate_mail_nobodys(sh, m)) {
            ngx_gate_store(&m->state, NGX_GATE_MAIL_FREE);
            continue;
        }

        if (first == NULL || m->id < first->id) {
            first = m;
        }
    }

    if (first) {
        ngx_gate_store(&first->taker, (uint32_t) ngx_pid);
        ngx_gate_store(&first->state, NGX_GATE_MAIL_TAKEN);
    }

    ngx_shmtx_unlock(&node->shpool->mutex);

    return first;
}


void
ngx_gate_mail_done(ngx_gate_mail_t *m, uint64_t id, ngx_int_t result,
    const char *why)
{
    uint32_t  taker;

    taker = (uint32_t) ngx_pid;

    /* nobody but this process can make it taken by this process */

    if (ngx_gate_load(&m->state) != NGX_GATE_MAIL_TAKEN
        || ngx_gate_load(&m->id) != id
        || !ngx_gate_cas(&m->taker, &taker,
                         (uint32_t) ngx_pid | NGX_GATE_MAIL_ANSWERS))
    {
        return;
    }

    m->result = (int32_t) result;

    ngx_gate_text(m->why, sizeof(m->why), (u_char *) (why ? why : ""),
                  why ? ngx_strlen(why) : 0);

    ngx_gate_store(&m->state, NGX_GATE_MAIL_DONE);
}

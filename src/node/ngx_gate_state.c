
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * What is kept of a node: the zone's rollouts, switches and modes as a
 * gate_state_t, and back.  How that gets to the disk is ngx_gate_store.c's
 * business.
 */


#include "ngx_gate_node.h"

#include "core/gate_text.h"


static ngx_gate_rollout_t *ngx_gate_state_rollout_locked(
    ngx_gate_node_t *node, const char *name);
static ngx_gate_switch_t *ngx_gate_state_switch_locked(ngx_gate_zone_t *sh,
    const char *name);
static ngx_int_t ngx_gate_state_export(ngx_gate_zone_t *sh,
    ngx_slab_pool_t *shpool, gate_state_t *st);
static size_t ngx_gate_state_rollouts_locked(ngx_gate_zone_t *sh,
    gate_state_t *st, size_t n);
static void ngx_gate_state_switches_locked(ngx_gate_zone_t *sh,
    gate_state_t *st);
static void ngx_gate_state_modes_locked(ngx_gate_zone_t *sh,
    gate_state_t *st);
static void ngx_gate_state_clean(char *s);

static void ngx_gate_state_import_switch(ngx_gate_node_t *node,
    gate_state_switch_t *from);
static void ngx_gate_state_import_mode(ngx_gate_node_t *node,
    gate_state_mode_t *from);
static ngx_uint_t ngx_gate_state_newer(gate_state_known_t *st, int64_t since,
    ngx_gate_known_t *known, int64_t known_since);
static void ngx_gate_state_known_in(ngx_gate_known_t *to,
    gate_state_known_t *from);
static void ngx_gate_state_known_out(gate_state_known_t *to,
    ngx_gate_known_t *from);


void
ngx_gate_state_import(ngx_gate_node_t *node, gate_state_t *st, ngx_log_t *log)
{
    size_t               i;
    ngx_gate_rollout_t  *ro;

    ngx_shmtx_lock(&node->shpool->mutex);

    if (!node->sh->adopted) {
        ngx_memcpy(node->sh->secret, st->secret, sizeof(st->secret));
    }

    if (node->sh->fleet.inc[0] == '\0') {
        ngx_memcpy(node->sh->fleet.inc, st->inc, sizeof(st->inc));
    }

    for (i = 0; i < st->nrollouts; i++) {
        ro = ngx_gate_state_rollout_locked(node, st->rollouts[i].name);

        if (ro) {
            ngx_gate_rollout_import_locked(node, ro, &st->rollouts[i]);
        }
    }

    ngx_shmtx_unlock(&node->shpool->mutex);

    for (i = 0; i < st->nswitches; i++) {
        ngx_gate_state_import_switch(node, &st->switches[i]);
    }

    for (i = 0; i < st->nmodes; i++) {
        ngx_gate_state_import_mode(node, &st->modes[i]);
    }

    ngx_log_error(NGX_LOG_NOTICE, log, 0,
                  "gate: state of %uz rollouts and %uz switches was restored",
                  st->nrollouts, st->nswitches);
}


static void
ngx_gate_state_import_switch(ngx_gate_node_t *node, gate_state_switch_t *from)
{
    ngx_gate_switch_t  *s;

    ngx_shmtx_lock(&node->shpool->mutex);

    s = ngx_gate_state_switch_locked(node->sh, from->name);

    ngx_shmtx_unlock(&node->shpool->mutex);

    if (s == NULL
        || !ngx_gate_state_newer(&from->known, from->since, &s->known,
                                 s->control_since))
    {
        return;
    }

    ngx_gate_switch_set(node, s, &from->value, from->source, from->actor);

    s->control_since = from->since * 1000;

    ngx_gate_state_known_in(&s->known, &from->known);
}


/* A gate or a mode that this version does not know is left alone. */

static void
ngx_gate_state_import_mode(ngx_gate_node_t *node, gate_state_mode_t *from)
{
    ngx_int_t         gate, value;
    ngx_gate_mode_t  *mode;

    gate = ngx_gate_mode_gate((u_char *) from->gate, ngx_strlen(from->gate));
    value = ngx_gate_mode_value((u_char *) from->mode, ngx_strlen(from->mode));

    if (gate == NGX_ERROR || value == NGX_ERROR) {
        return;
    }

    mode = &node->sh->modes[gate];

    if (!ngx_gate_state_newer(&from->known, from->since, &mode->known,
                              mode->since))
    {
        return;
    }

    ngx_gate_mode_set(node, gate, value, from->source, from->actor);

    mode->since = from->since * 1000;

    ngx_gate_state_known_in(&mode->known, &from->known);
}


/* Revisions are of one clock, Redis's; times decide where it never spoke. */

static ngx_uint_t
ngx_gate_state_newer(gate_state_known_t *st, int64_t since,
    ngx_gate_known_t *known, int64_t known_since)
{
    if (st->rev != known->rev) {
        return st->rev > known->rev;
    }

    return since * 1000 > known_since;
}


static void
ngx_gate_state_known_in(ngx_gate_known_t *to, gate_state_known_t *from)
{
    to->rev = from->rev;
    to->there = from->there;
    to->dirty = from->dirty;
}


static void
ngx_gate_state_known_out(gate_state_known_t *to, ngx_gate_known_t *from)
{
    to->rev = ngx_min(from->rev, (uint64_t) GATE_STATE_REV_MAX);
    to->there = from->there != 0;
    to->dirty = from->dirty != 0;
}


/*
 * A rollout that this configuration lacks keeps its state too: it may have
 * been taken out by mistake, and its latch must outlive that.
 */

static ngx_gate_rollout_t *
ngx_gate_state_rollout_locked(ngx_gate_node_t *node, const char *name)
{
    ngx_gate_rollout_t  *ro;

    ro = ngx_gate_rollout_find(node->sh, (u_char *) name, ngx_strlen(name));

    if (ro) {
        return ro;
    }

    ro = ngx_slab_calloc_locked(node->shpool, sizeof(ngx_gate_rollout_t));
    if (ro == NULL) {
        return NULL;
    }

    ngx_gate_text(ro->name, sizeof(ro->name), (u_char *) name,
                  ngx_strlen(name));

    ro->next = node->sh->rollouts;
    ngx_gate_store(&node->sh->rollouts, ro);

    return ro;
}


static ngx_gate_switch_t *
ngx_gate_state_switch_locked(ngx_gate_zone_t *sh, const char *name)
{
    ngx_uint_t          i;
    ngx_gate_switch_t  *s;

    for (i = 0; i < sh->nswitches; i++) {
        s = &sh->switches[i];

        if (ngx_strcmp(s->name, name) == 0) {
            return s;
        }
    }

    if (sh->nswitches == NGX_GATE_SWITCHES) {
        return NULL;
    }

    s = &sh->switches[sh->nswitches];

    ngx_gate_text(s->name, sizeof(s->name), (u_char *) name,
                  ngx_strlen(name));
    sh->nswitches++;

    return s;
}


void
ngx_gate_state_copy(ngx_gate_node_t *node, ngx_gate_zone_t *from,
    ngx_slab_pool_t *shpool, ngx_log_t *log)
{
    gate_state_t  st;

    if (ngx_gate_state_export(from, shpool, &st) == NGX_OK) {
        ngx_gate_state_import(node, &st, log);
        gate_state_free(&st);
    }
}


static ngx_int_t
ngx_gate_state_export(ngx_gate_zone_t *sh, ngx_slab_pool_t *shpool,
    gate_state_t *st)
{
    size_t               i, n;
    ngx_gate_rollout_t  *ro;

    ngx_memzero(st, sizeof(gate_state_t));

    /* memory first: objects are only ever added, and never before their place
       in the list is set */

    for (n = 0, ro = ngx_gate_load(&sh->rollouts); ro; ro = ro->next) {
        n++;
    }

    st->rollouts = calloc(n + 1, sizeof(gate_state_rollout_t));
    st->switches = calloc(NGX_GATE_SWITCHES, sizeof(gate_state_switch_t));
    st->modes = calloc(NGX_GATE_MODES, sizeof(gate_state_mode_t));

    for (i = 0; st->rollouts && i < n; i++) {
        st->rollouts[i].record = malloc(NGX_GATE_RECORD_LEN);

        if (st->rollouts[i].record == NULL) {
            break;
        }
    }

    st->nrollouts = i;

    if (st->rollouts == NULL || st->switches == NULL || st->modes == NULL
        || i < n)
    {
        gate_state_free(st);
        return NGX_ERROR;
    }

    ngx_shmtx_lock(&shpool->mutex);

    ngx_memcpy(st->secret, sh->secret, sizeof(st->secret));

    ngx_gate_text(st->inc, sizeof(st->inc), (u_char *) sh->fleet.inc,
                  ngx_strnlen((u_char *) sh->fleet.inc, NGX_GATE_INC_LEN - 1));
    ngx_gate_state_clean(st->inc);

    i = ngx_gate_state_rollouts_locked(sh, st, n);

    ngx_gate_state_switches_locked(sh, st);
    ngx_gate_state_modes_locked(sh, st);

    ngx_shmtx_unlock(&shpool->mutex);

    /* those without a record, and those that were not opened yet */

    for (n = st->nrollouts; n-- > 0; /* void */) {

        if (n >= i || st->rollouts[n].record[0] == '\0') {
            free(st->rollouts[n].record);
            st->rollouts[n].record = NULL;
        }
    }

    st->nrollouts = i;

    return NGX_OK;
}


/* Fills up to n of them, those that were opened; returns how many. */

static size_t
ngx_gate_state_rollouts_locked(ngx_gate_zone_t *sh, gate_state_t *st,
    size_t n)
{
    char                  *record;
    size_t                 i;
    ngx_gate_rollout_t    *ro;
    gate_state_rollout_t  *to;

    for (i = 0, ro = sh->rollouts; ro && i < n; ro = ro->next) {

        if (ngx_gate_word_epoch(ngx_gate_load(&ro->word)) == 0) {
            continue;
        }

        to = &st->rollouts[i++];
        record = to->record;

        ngx_gate_rollout_export_locked(ro, to);

        ngx_gate_state_clean(to->reason);
        ngx_gate_state_clean(to->actor);

        to->record = record;
        ngx_memcpy(record, ro->record, NGX_GATE_RECORD_LEN);

        if (ro->record_len == 0) {
            record[0] = '\0';
        }
    }

    return i;
}


static void
ngx_gate_state_switches_locked(ngx_gate_zone_t *sh, gate_state_t *st)
{
    ngx_uint_t            n;
    ngx_gate_switch_t    *s;
    gate_state_switch_t  *to;

    for (n = 0; n < sh->nswitches; n++) {
        s = &sh->switches[n];

        if (s->control_since == 0 && s->known.rev == 0) {
            continue;
        }

        to = &st->switches[st->nswitches++];

        ngx_gate_text(to->name, sizeof(to->name), (u_char *) s->name,
                      ngx_strlen(s->name));
        ngx_gate_text(to->source, sizeof(to->source),
                      (u_char *) s->control_source,
                      ngx_strlen(s->control_source));
        ngx_gate_text(to->actor, sizeof(to->actor),
                      (u_char *) s->control_actor,
                      ngx_strlen(s->control_actor));

        ngx_gate_state_clean(to->actor);

        to->value = s->control;
        to->since = s->control_since / 1000;

        ngx_gate_state_known_out(&to->known, &s->known);
    }
}


/* What was never changed needs no memory. */

static void
ngx_gate_state_modes_locked(ngx_gate_zone_t *sh, gate_state_t *st)
{
    ngx_uint_t          i;
    const char         *gate, *name;
    ngx_gate_mode_t    *mode;
    gate_state_mode_t  *to;

    for (i = 0; i < NGX_GATE_MODES; i++) {
        mode = &sh->modes[i];

        gate = ngx_gate_mode_gate_name(i);
        name = ngx_gate_mode_name(mode->value);

        if (name == NULL
            || (mode->value == NGX_GATE_MODE_ENFORCE && mode->known.rev == 0
                && !mode->known.dirty))
        {
            continue;
        }

        to = &st->modes[st->nmodes++];

        ngx_gate_text(to->gate, sizeof(to->gate), (u_char *) gate,
                      ngx_strlen(gate));
        ngx_gate_text(to->mode, sizeof(to->mode), (u_char *) name,
                      ngx_strlen(name));
        ngx_gate_text(to->source, sizeof(to->source), (u_char *) mode->source,
                      ngx_strlen(mode->source));
        ngx_gate_text(to->actor, sizeof(to->actor), (u_char *) mode->actor,
                      ngx_strlen(mode->actor));

        ngx_gate_state_clean(to->actor);

        to->since = mode->since / 1000;

        ngx_gate_state_known_out(&to->known, &mode->known);
    }
}


/* One odd byte, of a host's name say, must not cost the whole state. */

static void
ngx_gate_state_clean(char *s)
{
    if (gate_text_clean((unsigned char *) s, ngx_strlen(s))) {
        return;
    }

    for ( /* void */ ; *s; s++) {

        if ((u_char) *s < 0x20 || (u_char) *s >= 0x7f) {
            *s = '?';
        }
    }
}


char *
ngx_gate_state_encode(ngx_gate_node_t *node, size_t *len, uint64_t *revision)
{
    char          *text;
    gate_state_t   st;

    /* what changes from here on is for the next file */

    *revision = ngx_gate_load(&node->sh->revision);

    if (ngx_gate_state_export(node->sh, node->shpool, &st) != NGX_OK) {
        return NULL;
    }

    text = gate_state_encode(&st, len);

    gate_state_free(&st);

    return text;
}

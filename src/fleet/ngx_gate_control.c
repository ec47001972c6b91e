
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Control keys: switches and modes.
 *
 * A push, or the poll, is only ever a hint to look; a look reads all of them
 * in one round trip, and tells for each whether Redis has it, has it not, or
 * has forgotten it.  What it has is applied; what it forgot is restored from
 * here; what was set here while it was away is pushed, unless somebody else
 * was heard meanwhile.
 */


#include "ngx_gate_control.h"

#include <jansson.h>

#include "core/gate_text.h"


#define NGX_GATE_PUT_RETRY    1000    /* ms after Redis refused one */

#define NGX_GATE_TTL_SLACK    2       /* s, what a TTL may seem to move */


static void ngx_gate_control_looked(void *data, redisReply *reply);
static ngx_int_t ngx_gate_control_memory(ngx_gate_member_t *m,
    redisReply *reply);
static ngx_uint_t ngx_gate_control_apply(ngx_gate_member_t *m,
    redisReply *reply);
static ngx_uint_t ngx_gate_control_dirty(ngx_gate_member_t *m, ngx_uint_t i,
    ngx_gate_known_t *known, ngx_gate_seen_t *seen);
static ngx_uint_t ngx_gate_control_switch(ngx_gate_member_t *m, ngx_uint_t i,
    ngx_gate_seen_t *seen);
static ngx_int_t ngx_gate_control_value(ngx_gate_seen_t *seen,
    gate_switch_value_t *v, char *actor);
static ngx_uint_t ngx_gate_control_mode(ngx_gate_member_t *m, ngx_uint_t i,
    ngx_gate_seen_t *seen);
static void ngx_gate_control_odd(ngx_gate_member_t *m, ngx_uint_t i,
    ngx_gate_seen_t *seen);


const char *
ngx_gate_control_word(gate_switch_value_t *v)
{
    return !v->on ? "off" : v->read_only ? "read_only" : "on";
}


ngx_gate_switch_t *
ngx_gate_control_sw(ngx_gate_member_t *m, ngx_uint_t i)
{
    return &m->node->sh->switches[m->node->sw_map[i]];
}


ngx_gate_known_t *
ngx_gate_control_known(ngx_gate_member_t *m, ngx_uint_t i)
{
    return (i < m->node->switches.nelts)
           ? &ngx_gate_control_sw(m, i)->known
           : &m->node->sh->modes[ngx_gate_control_gate(m, i)].known;
}


/* The keys never change while a configuration lives. */

ngx_int_t
ngx_gate_control_init(ngx_gate_member_t *m)
{
    ngx_int_t                  rc;
    ngx_str_t                 *key, *name, none, gate;
    ngx_uint_t                 i;
    ngx_gate_node_t           *node;
    ngx_gate_rollout_conf_t  **rollout;

    node = m->node;

    m->nstrings = node->switches.nelts + NGX_GATE_MODES;
    m->nkeys = 2 + m->nstrings + node->rollouts.nelts;

    m->keys = ngx_palloc(m->pool, m->nkeys * sizeof(ngx_str_t));
    m->odd = ngx_pcalloc(m->pool, m->nstrings * sizeof(ngx_gate_odd_t));

    if (m->keys == NULL || m->odd == NULL) {
        return NGX_ERROR;
    }

    ngx_str_null(&none);

    key = m->keys;

    rc = ngx_gate_fleet_key(m->pool, key++, &m->conf->data, "epoch", &none);
    rc |= ngx_gate_fleet_key(m->pool, key++, &m->conf->data, "events",
                             &none);

    name = node->switches.elts;

    for (i = 0; i < node->switches.nelts; i++) {
        rc |= ngx_gate_fleet_key(m->pool, key++, &m->conf->prefix,
                                 name[i].len ? "maintenance:"
                                             : "maintenance",
                                 &name[i]);
    }

    for (i = 0; i < NGX_GATE_MODES; i++) {
        gate.data = (u_char *) ngx_gate_mode_gate_name(i);
        gate.len = ngx_strlen(gate.data);

        rc |= ngx_gate_fleet_key(m->pool, key++, &m->conf->prefix, "mode:",
                                 &gate);
    }

    rollout = node->rollouts.elts;

    for (i = 0; i < node->rollouts.nelts; i++) {
        rc |= ngx_gate_fleet_key(m->pool, key++, &m->conf->prefix, "canary:",
                                 &rollout[i]->name);
    }

    return (rc == NGX_OK) ? NGX_OK : NGX_ERROR;
}


void
ngx_gate_control_tick(ngx_gate_member_t *m)
{
    ngx_uint_t  i, n;

    if (!ngx_gate_redis_ready(m->redis)) {
        return;
    }

    if (!m->looking
        && (ngx_msec_int_t) (ngx_current_msec - m->looked)
           >= (ngx_msec_int_t) m->conf->poll)
    {
        ngx_gate_control_look(m);
        m->polled = m->looking;
    }

    if (!m->node->sh->fleet.joined || m->putting
        || (m->refused
            && (ngx_msec_int_t) (ngx_current_msec - m->put_at)
               < NGX_GATE_PUT_RETRY))
    {
        return;
    }

    /* in turn, for one that Redis refuses is no reason to keep the others */

    for (n = 1; n <= m->nstrings; n++) {
        i = (m->put + n) % m->nstrings;

        if (ngx_gate_control_known(m, i)->dirty) {
            ngx_gate_put_send(m, i, 0);
            return;
        }
    }
}


void
ngx_gate_control_lost(ngx_gate_member_t *m)
{
    m->looking = 0;
    m->again = 0;
    m->restoring = 0;

    if (m->putting) {
        m->putting = 0;
        ngx_gate_put_lost(m);
    }
}


void
ngx_gate_control_look(ngx_gate_member_t *m)
{
    ngx_int_t                  rc;
    ngx_str_t                 *argv, *arg;
    ngx_uint_t                 i, argc;
    ngx_pool_t                *pool;
    ngx_gate_node_t           *node;
    ngx_gate_rollout_conf_t  **rollout;

    if (m->looking) {
        m->again = 1;
        return;
    }

    node = m->node;
    rollout = node->rollouts.elts;

    pool = ngx_create_pool(4096, m->log);
    if (pool == NULL) {
        return;
    }

    argc = m->nkeys + 5 + m->nstrings + node->rollouts.nelts;

    argv = ngx_palloc(pool, argc * sizeof(ngx_str_t));
    if (argv == NULL) {
        goto done;
    }

    ngx_memcpy(argv, m->keys, m->nkeys * sizeof(ngx_str_t));
    arg = argv + m->nkeys;

    *arg++ = m->id;

    arg->data = (u_char *) node->sh->fleet.inc;
    arg->len = ngx_strlen(arg->data);
    arg++;

    rc = ngx_gate_fleet_number(pool, arg++, m->nstrings);
    rc |= ngx_gate_fleet_number(pool, arg++, node->rollouts.nelts);
    rc |= ngx_gate_fleet_number(pool, arg++, NGX_GATE_CONTROL_MAX);

    for (i = 0; i < m->nstrings; i++) {
        rc |= ngx_gate_fleet_number(pool, arg++,
                                    ngx_gate_control_known(m, i)->rev);
    }

    for (i = 0; i < node->rollouts.nelts; i++) {
        rc |= ngx_gate_fleet_number(pool, arg++, rollout[i]->sh->known.rev);
    }

    if (rc == NGX_OK
        && ngx_gate_redis_script(m->redis, NGX_GATE_SCRIPT_OBSERVE, m->nkeys,
                                 argc, argv, ngx_gate_control_looked, m)
           == NGX_OK)
    {
        m->looking = 1;
        m->looked = ngx_current_msec;
    }

done:

    ngx_destroy_pool(pool);
}


static void
ngx_gate_control_looked(void *data, redisReply *reply)
{
    ngx_gate_member_t *m = data;

    ngx_uint_t         changed, polled;
    ngx_gate_fleet_t  *fleet;

    m->looking = 0;
    polled = m->polled;
    m->polled = 0;

    if (reply == NULL || !ngx_gate_fleet_mine(m)) {
        return;
    }

    fleet = &m->node->sh->fleet;

    if (polled) {
        fleet->polls_total++;
    }

    if (ngx_gate_control_memory(m, reply) != NGX_OK) {
        ngx_gate_fleet_error(m, "looking at the control keys", reply);
        return;
    }

    changed = ngx_gate_control_apply(m, reply);

    if (changed) {
        fleet->applied++;

        if (polled && fleet->tracking && !m->again) {
            fleet->poll_finds_total++;
        }
    }

    fleet->joined = 1;

    ngx_gate_put_restore(m, reply->element[4]);

    /* what was decided while we read may be what the next step waits for */

    ngx_gate_decide_tick(m);

    if (m->again) {
        m->again = 0;
        ngx_gate_control_look(m);
    }
}


/* Checks the form of the whole and notes which memory it speaks from. */

static ngx_int_t
ngx_gate_control_memory(ngx_gate_member_t *m, redisReply *reply)
{
    int64_t            now, rev;
    redisReply        *inc;
    ngx_gate_fleet_t  *fleet;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 6
        || reply->element[1]->type != REDIS_REPLY_STRING
        || reply->element[4]->type != REDIS_REPLY_ARRAY
        || reply->element[4]->elements != m->nstrings
        || reply->element[5]->type != REDIS_REPLY_ARRAY
        || reply->element[5]->elements != m->node->rollouts.nelts)
    {
        return NGX_ERROR;
    }

    now = ngx_gate_fleet_value(reply->element[0]);
    rev = ngx_gate_fleet_value(reply->element[2]);
    inc = reply->element[1];

    if (now < 0 || rev < 0 || inc->len >= NGX_GATE_INC_LEN) {
        return NGX_ERROR;
    }

    fleet = &m->node->sh->fleet;

    if (inc->len == 0) {

        /* it can write nothing now: what we know is of the one before */

        fleet->clock_offset = now - ngx_gate_now();
        return NGX_OK;
    }

    if (fleet->inc[0] == '\0') {
        ngx_gate_changed(m->node->sh);

    } else if (ngx_strlen(fleet->inc) != inc->len
               || ngx_strncmp(fleet->inc, inc->str, inc->len) != 0)
    {
        ngx_log_error(NGX_LOG_WARN, m->log, 0,
                      "gate: Redis has lost its memory, what this node knows "
                      "is restored");
        fleet->losses_total++;
        ngx_gate_changed(m->node->sh);

    } else if ((uint64_t) rev < fleet->rev) {
        ngx_log_error(NGX_LOG_WARN, m->log, 0,
                      "gate: Redis has lost its last changes, what this node "
                      "knows of them is restored");
        fleet->losses_total++;
    }

    ngx_gate_text(fleet->inc, sizeof(fleet->inc), (u_char *) inc->str,
                  inc->len);
    fleet->rev = (uint64_t) rev;
    fleet->clock_offset = now - ngx_gate_now();

    return NGX_OK;
}


static ngx_uint_t
ngx_gate_control_apply(ngx_gate_member_t *m, redisReply *reply)
{
    int64_t          now;
    ngx_uint_t       i, changed;
    redisReply      *strings, *hashes;
    ngx_gate_seen_t  seen;

    now = ngx_gate_fleet_value(reply->element[0]);
    strings = reply->element[4];
    hashes = reply->element[5];
    changed = 0;

    for (i = 0; i < m->nstrings; i++) {

        if (ngx_gate_control_item(strings->element[i], now, &seen)
            != NGX_OK)
        {
            ngx_gate_fleet_error(m, "looking at a control key", reply);
            continue;
        }

        if (seen.status == NGX_GATE_SEEN_TYPE
            || seen.status == NGX_GATE_SEEN_BIG)
        {
            ngx_gate_control_odd(m, i, &seen);
            continue;
        }

        if (seen.status == NGX_GATE_SEEN_WANT) {
            continue;
        }

        if (ngx_gate_control_dirty(m, i, ngx_gate_control_known(m, i),
                                   &seen))
        {
            continue;
        }

        changed |= (i < m->node->switches.nelts)
                   ? ngx_gate_control_switch(m, i, &seen)
                   : ngx_gate_control_mode(m, i, &seen);
    }

    for (i = 0; i < m->node->rollouts.nelts; i++) {
        changed |= ngx_gate_decide_seen(m, i, hashes->element[i]);
    }

    return changed;
}


ngx_int_t
ngx_gate_control_item(redisReply *item, int64_t now, ngx_gate_seen_t *seen)
{
    int64_t      rev;
    ngx_uint_t   i;
    redisReply  *status, *value;

    static const char  *names[] = {
        "ok", "none", "want", "type", "big", "bad", "evicted", NULL
    };

    if (item->type != REDIS_REPLY_ARRAY || item->elements < 4) {
        return NGX_ERROR;
    }

    status = item->element[0];
    value = item->element[2];

    if (status->type != REDIS_REPLY_STRING
        || (value->type != REDIS_REPLY_STRING
            && value->type != REDIS_REPLY_NIL))
    {
        return NGX_ERROR;
    }

    for (i = 0; names[i]; i++) {
        if (ngx_strcmp(status->str, names[i]) == 0) {
            break;
        }
    }

    rev = ngx_gate_fleet_value(item->element[1]);

    if (names[i] == NULL || rev < 0) {
        return NGX_ERROR;
    }

    seen->status = (i > NGX_GATE_SEEN_BAD) ? NGX_GATE_SEEN_WANT : i;
    seen->rev = (uint64_t) rev;
    seen->data = (value->type == REDIS_REPLY_STRING)
                 ? (u_char *) value->str : (u_char *) "";
    seen->len = (value->type == REDIS_REPLY_STRING) ? value->len : 0;
    seen->pttl = (item->element[3]->type == REDIS_REPLY_INTEGER)
                 ? item->element[3]->integer : -1;

    if (seen->pttl > GATE_PARSE_TIME_MAX * 1000 - ngx_gate_now()) {

        /* an end that no clock of ours can tell */

        seen->pttl = -1;
    }

    /* a revision is the time it was first seen, on Redis's clock */

    seen->age = (rev && rev < now) ? now - rev : 0;

    return NGX_OK;
}


/* Whether what was set here while Redis was away is still to be pushed. */

static ngx_uint_t
ngx_gate_control_dirty(ngx_gate_member_t *m, ngx_uint_t i,
    ngx_gate_known_t *known, ngx_gate_seen_t *seen)
{
    ngx_gate_switch_t  *s;

    if (known->rev == 0 && seen->rev == 0 && !known->there && !known->dirty
        && seen->status == NGX_GATE_SEEN_NONE
        && i < m->node->switches.nelts)
    {
        /* nobody ever told Redis what was set here before there was one */

        s = ngx_gate_control_sw(m, i);

        if (gate_switch_active(&s->control, ngx_time())
            || (s->control.on && s->control.from > ngx_time()))
        {
            known->dirty = 1;
        }
    }

    if (!known->dirty) {
        return 0;
    }

    if (seen->rev == known->rev) {
        return 1;
    }

    known->dirty = 0;

    ngx_log_error(NGX_LOG_WARN, m->log, 0,
                  "gate: \"%V\" was changed in Redis while it was set here, "
                  "what Redis says counts", &m->keys[2 + i]);

    return 0;
}


static ngx_uint_t
ngx_gate_control_switch(ngx_gate_member_t *m, ngx_uint_t i,
    ngx_gate_seen_t *seen)
{
    char                 actor[NGX_GATE_ACTOR_LEN];
    ngx_uint_t           same;
    const char          *before;
    ngx_gate_known_t    *known;
    ngx_gate_switch_t   *s;
    gate_switch_value_t  v;

    s = ngx_gate_control_sw(m, i);
    known = &s->known;

    ngx_memzero(&v, sizeof(gate_switch_value_t));
    ngx_memcpy(actor, "operator", sizeof("operator"));

    if (known->there && known->rev == seen->rev) {

        /* a revision may be ahead of the clock, but not younger than that */

        seen->age = ngx_max(seen->age, ngx_gate_now() - s->control_since);
    }

    if (seen->status == NGX_GATE_SEEN_OK
        && ngx_gate_control_value(seen, &v, actor) != NGX_OK)
    {
        ngx_gate_control_odd(m, i, seen);
        return 0;
    }

    m->odd[i].is = 0;

    same = (v.until - s->control.until <= NGX_GATE_TTL_SLACK
            && s->control.until - v.until <= NGX_GATE_TTL_SLACK
            && (v.until == 0) == (s->control.until == 0));

    v.until = same ? s->control.until : v.until;
    before = ngx_gate_control_word(&s->control);

    /* the value too: who wrote it may have been killed before he was done */

    same = ngx_memcmp(&v, &s->control, sizeof(gate_switch_value_t)) == 0;

    if (known->rev != seen->rev
        || known->there != (seen->status == NGX_GATE_SEEN_OK))
    {
        known->rev = seen->rev;
        known->there = (seen->status == NGX_GATE_SEEN_OK);
        ngx_gate_changed(m->node->sh);
    }

    if (same) {
        return 0;
    }

    ngx_gate_switch_set(m->node, s, &v, "redis", actor);

    ngx_gate_control_audit(m, i, "redis", actor, before,
                           ngx_gate_control_word(&v), NULL);

    return 1;
}


/* The value, with the key's TTL in it, and who says that he wrote it. */

static ngx_int_t
ngx_gate_control_value(ngx_gate_seen_t *seen, gate_switch_value_t *v,
    char *actor)
{
    json_t   *root, *by;
    int64_t   until;

    if (gate_switch_parse(seen->data, seen->len,
                          ngx_time() - seen->age / 1000, v)
        != GATE_SWITCH_OK)
    {
        return NGX_ERROR;
    }

    if (seen->pttl >= 0) {
        until = (ngx_gate_now() + seen->pttl + 999) / 1000;
        v->until = v->until ? ngx_min(v->until, until) : until;
    }

    if (seen->len == 0 || seen->data[0] != '{') {
        return NGX_OK;
    }

    /* it has just been parsed, so depth and size are fine */

    root = json_loadb((char *) seen->data, seen->len, 0, NULL);
    by = json_object_get(root, "by");

    if (json_is_string(by)
        && gate_text_clean((u_char *) json_string_value(by),
                           json_string_length(by)))
    {
        ngx_gate_text(actor, NGX_GATE_ACTOR_LEN,
                      (u_char *) json_string_value(by),
                      json_string_length(by));
    }

    json_decref(root);

    return NGX_OK;
}


static ngx_uint_t
ngx_gate_control_mode(ngx_gate_member_t *m, ngx_uint_t i,
    ngx_gate_seen_t *seen)
{
    ngx_int_t         value;
    uint64_t          old;
    ngx_uint_t        gate;
    ngx_gate_mode_t  *mode;

    gate = ngx_gate_control_gate(m, i);
    mode = &m->node->sh->modes[gate];
    value = NGX_GATE_MODE_ENFORCE;

    if (seen->status == NGX_GATE_SEEN_OK) {
        value = ngx_gate_mode_value(seen->data, seen->len);

        if (value == NGX_ERROR) {
            ngx_gate_control_odd(m, i, seen);
            return 0;
        }
    }

    m->odd[i].is = 0;

    if (mode->known.rev == seen->rev && (uint64_t) value == mode->value) {
        mode->known.there = (seen->status == NGX_GATE_SEEN_OK);
        return 0;
    }

    mode->known.rev = seen->rev;
    mode->known.there = (seen->status == NGX_GATE_SEEN_OK);
    ngx_gate_changed(m->node->sh);

    old = mode->value;

    if (old == (uint64_t) value) {
        return 0;
    }

    ngx_gate_mode_set(m->node, gate, (uint64_t) value, "redis", "operator");

    ngx_gate_control_audit(m, i, "redis", "operator",
                           ngx_gate_mode_name(old),
                           ngx_gate_mode_name((uint64_t) value), NULL);

    return 1;
}


/* The last good value stays.  Said once, until there is a good one. */

static void
ngx_gate_control_odd(ngx_gate_member_t *m, ngx_uint_t i,
    ngx_gate_seen_t *seen)
{
    char               what[NGX_GATE_REASON_LEN];
    const char        *why;
    ngx_gate_error_e   error;

    error = NGX_GATE_ERROR_VALUE;
    why = "is no value that we know";

    if (seen->status == NGX_GATE_SEEN_TYPE) {
        error = NGX_GATE_ERROR_TYPE;
        why = "is no string";

    } else if (seen->status == NGX_GATE_SEEN_BIG) {
        why = "is too large, its bytes:";
    }

    ngx_snprintf((u_char *) what, sizeof(what),
                 "\"%*s\" %s (the last good value stays)%Z",
                 ngx_min(m->keys[2 + i].len, 64), m->keys[2 + i].data, why);
    what[sizeof(what) - 1] = '\0';

    ngx_gate_fleet_odd(m, &m->odd[i], error, what, (char *) seen->data,
                       seen->len);
}


void
ngx_gate_control_audit(ngx_gate_member_t *m, ngx_uint_t i,
    const char *source, const char *actor, const char *before,
    const char *after, const char *reason)
{
    ngx_str_t  name;

    ngx_gate_control_name(m, i, &name);

    ngx_gate_event_audit(m->node, i < m->node->switches.nelts ? "maintenance"
                                                              : "mode",
                         &name, source, actor, before, after,
                         (reason && *reason) ? reason : NULL);
}


void
ngx_gate_control_name(ngx_gate_member_t *m, ngx_uint_t i, ngx_str_t *name)
{
    if (i >= m->node->switches.nelts) {
        name->data = (u_char *)
                     ngx_gate_mode_gate_name(ngx_gate_control_gate(m, i));
        name->len = ngx_strlen(name->data);
        return;
    }

    *name = ((ngx_str_t *) m->node->switches.elts)[i];

    if (name->len == 0) {
        ngx_str_set(name, "global");
    }
}

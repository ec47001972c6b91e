
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Rates of single callers: the hash "gate:limit:<zone>", whose fields are
 * keys, or the hashes of keys as this module writes them, and whose values
 * are rates.
 *
 * The hash is read as a whole, in pages, and only when its digest has
 * changed.  It is read into the set that is not in use; a set that has just
 * gone out of use is left alone for a while, for a worker may still look at
 * it.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_gate_fleet.h"
#include "node/ngx_gate_limit.h"


#define NGX_GATE_OVERRIDE_SPACE   50     /* ms between two changes */
#define NGX_GATE_OVERRIDE_POLLS   10     /* of control keys, for one of these,
                                            where changes are pushed */
#define NGX_GATE_OVERRIDE_HEX     16
#define NGX_GATE_OVERRIDE_DIGEST  40
#define NGX_GATE_OVERRIDE_VALUE                                               \
    (sizeof("rate= burst=") + GATE_RATE_LEN + NGX_INT64_LEN)

#define ngx_gate_override_is(reply, word)                                     \
    ((reply)->type == REDIS_REPLY_STRING                                      \
     && ngx_strcmp((reply)->str, word) == 0)


struct ngx_gate_override_zone_s {
    ngx_gate_member_t         *member;
    ngx_gate_limit_conf_t     *lc;
    ngx_str_t                  keys[2];    /* the hash, the ledger */
    uint64_t                   seed[2];    /* that keys were hashed with */
    ngx_msec_t                 looked;
    ngx_msec_t                 changed;
    ngx_uint_t                 at;         /* fields that were read */
    ngx_uint_t                 bad;        /* of them, that make no sense */
    uint64_t                   bad_hash;   /* the first one's */
    const char                *bad_why;
    ngx_gate_odd_t             odd;
    char                       digest[NGX_GATE_OVERRIDE_DIGEST + 1];
    unsigned                   known:1;    /* by this process */
    unsigned                   flying:1;
    unsigned                   again:1;
};


static void ngx_gate_override_read(ngx_gate_override_zone_t *z,
    ngx_uint_t at);
static void ngx_gate_override_reply(void *data, redisReply *reply);
static ngx_int_t ngx_gate_override_status(ngx_gate_override_zone_t *z,
    redisReply *reply);
static ngx_int_t ngx_gate_override_page(ngx_gate_override_zone_t *z,
    redisReply *reply);
static ngx_int_t ngx_gate_override_shape(redisReply *reply);
static void ngx_gate_override_begin(ngx_gate_override_zone_t *z);
static void ngx_gate_override_add(ngx_gate_override_zone_t *z,
    redisReply *field, redisReply *value);
static uint64_t ngx_gate_override_hash(ngx_gate_override_zone_t *z,
    redisReply *field);
static ngx_gate_override_t *ngx_gate_override_slot(ngx_gate_overrides_t *set,
    uint64_t hash);
static void ngx_gate_override_use(ngx_gate_override_zone_t *z,
    const char *digest, int64_t fields);
static void ngx_gate_override_odd(ngx_gate_override_zone_t *z,
    ngx_gate_error_e error, const char *why, const char *text, size_t len);
static void ngx_gate_override_restore(ngx_gate_override_zone_t *z);
static void ngx_gate_override_restored(void *data, redisReply *reply);


/* the set that is not in use */

#define ngx_gate_override_next(sh)  (&(sh)->overrides[((sh)->override + 1) & 1])


ngx_int_t
ngx_gate_override_init(ngx_gate_member_t *m)
{
    ngx_str_t                  none;
    ngx_uint_t                 i;
    ngx_gate_limit_conf_t    **lcp;
    ngx_gate_override_zone_t  *z;

    z = ngx_pcalloc(m->pool, (m->node->limits.nelts + 1)
                             * sizeof(ngx_gate_override_zone_t));
    if (z == NULL) {
        return NGX_ERROR;
    }

    m->overrides = z;
    lcp = m->node->limits.elts;

    ngx_str_null(&none);

    for (i = 0; i < m->node->limits.nelts; i++) {
        z[i].member = m;
        z[i].lc = lcp[i];

        if (ngx_gate_fleet_key(m->pool, &z[i].keys[0], &m->conf->prefix,
                               "limit:", &lcp[i]->name)
            != NGX_OK
            || ngx_gate_fleet_key(m->pool, &z[i].keys[1], &m->conf->data,
                                  "epoch", &none)
               != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


void
ngx_gate_override_look(ngx_gate_member_t *m)
{
    ngx_uint_t                 i;
    ngx_gate_override_zone_t  *z;

    for (i = 0; i < m->node->limits.nelts; i++) {
        z = &m->overrides[i];

        z->again = z->flying;

        if (!z->flying) {
            ngx_gate_override_read(z, 0);
        }
    }
}


void
ngx_gate_override_tick(ngx_gate_member_t *m)
{
    ngx_uint_t                 i;
    ngx_msec_t                 poll;
    ngx_gate_limit_zone_t     *sh;
    ngx_gate_override_zone_t  *z;

    if (!ngx_gate_redis_ready(m->redis)) {
        return;
    }

    poll = m->conf->poll;

    if (m->node->sh->fleet.tracking) {
        poll *= NGX_GATE_OVERRIDE_POLLS;
    }

    for (i = 0; i < m->node->limits.nelts; i++) {
        z = &m->overrides[i];
        sh = z->lc->sh;

        if (z->seed[0] != sh->seed[0] || z->seed[1] != sh->seed[1]) {

            /* keys have other hashes */

            ngx_memcpy(z->seed, sh->seed, sizeof(z->seed));
            z->known = 0;
            z->again = 1;
        }

        if (!z->flying
            && (z->again || ngx_current_msec - z->looked >= poll))
        {
            ngx_gate_override_read(z, 0);
        }
    }
}


void
ngx_gate_override_lost(ngx_gate_member_t *m)
{
    ngx_uint_t  i;

    for (i = 0; i < m->node->limits.nelts; i++) {
        m->overrides[i].flying = 0;
        m->overrides[i].again = 0;
    }
}


static void
ngx_gate_override_read(ngx_gate_override_zone_t *z, ngx_uint_t at)
{
    u_char                  number[NGX_INT_T_LEN];
    ngx_str_t               argv[5];
    ngx_gate_limit_zone_t  *sh;

    sh = z->lc->sh;

    z->again = 1;

    if (at == 0 && z->changed
        && ngx_current_msec - z->changed < NGX_GATE_OVERRIDE_SPACE)
    {
        /* by the tick */

        return;
    }

    argv[0] = z->keys[0];
    argv[1] = z->keys[1];
    ngx_str_set(&argv[2], "read");
    ngx_str_null(&argv[3]);

    if (at == 0 && z->known) {
        argv[3].data = (u_char *) sh->override_digest;
        argv[3].len = ngx_strlen(sh->override_digest);
    }

    argv[4].data = number;
    argv[4].len = ngx_sprintf(number, "%ui", at) - number;

    if (ngx_gate_redis_script(z->member->redis, NGX_GATE_SCRIPT_OVERRIDE, 2,
                              5, argv, ngx_gate_override_reply, z)
        == NGX_OK)
    {
        z->at = at;
        z->looked = ngx_current_msec;
        z->flying = 1;
        z->again = 0;
    }
}


static void
ngx_gate_override_reply(void *data, redisReply *reply)
{
    ngx_gate_override_zone_t *z = data;

    ngx_gate_member_t  *m;

    m = z->member;
    z->flying = 0;

    if (reply == NULL || !ngx_gate_fleet_mine(m)) {
        return;
    }

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0
        || (ngx_gate_override_is(reply->element[0], "page")
            ? ngx_gate_override_page(z, reply)
            : ngx_gate_override_status(z, reply))
           != NGX_OK)
    {
        ngx_gate_fleet_error(m, "looking at the rates of callers", reply);
        return;
    }

    if (z->again && !z->flying) {
        ngx_gate_override_read(z, 0);
    }
}


static ngx_int_t
ngx_gate_override_status(ngx_gate_override_zone_t *z, redisReply *reply)
{
    redisReply             *status, *more;
    ngx_gate_limit_zone_t  *sh;

    sh = z->lc->sh;
    status = reply->element[0];
    more = reply->elements > 1 ? reply->element[1] : NULL;

    if (ngx_gate_override_is(status, "same")) {
        sh->override_known = 1;
        return NGX_OK;
    }

    if (ngx_gate_override_is(status, "none")
        || (ngx_gate_override_is(status, "gone")
            && sh->overrides[sh->override & 1].n == 0))
    {
        if (sh->overrides[sh->override & 1].n) {
            ngx_gate_override_begin(z);
            ngx_gate_override_use(z, "", 0);
        }

        sh->override_digest[0] = '\0';
        sh->override_fields = 0;
        sh->override_known = 1;
        z->odd.is = 0;

        return NGX_OK;
    }

    if (ngx_gate_override_is(status, "gone")) {
        ngx_gate_override_restore(z);
        return NGX_OK;
    }

    if (more == NULL) {
        return NGX_DECLINED;
    }

    if (ngx_gate_override_is(status, "type")
        && more->type == REDIS_REPLY_STRING)
    {
        ngx_gate_override_odd(z, NGX_GATE_ERROR_TYPE, "is no hash", more->str,
                              more->len);
        return NGX_OK;
    }

    if (ngx_gate_override_is(status, "big")
        && more->type == REDIS_REPLY_INTEGER)
    {
        ngx_gate_override_odd(z, NGX_GATE_ERROR_VALUE,
                              "has too many fields", "", 0);
        return NGX_OK;
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_gate_override_page(ngx_gate_override_zone_t *z, redisReply *reply)
{
    size_t        i;
    ngx_uint_t    next;
    redisReply  **e, *list;

    if (ngx_gate_override_shape(reply) != NGX_OK) {
        return NGX_DECLINED;
    }

    e = reply->element;
    list = e[4];
    next = (ngx_uint_t) e[3]->integer;

    if (z->at == 0) {
        ngx_gate_override_begin(z);
        ngx_memcpy(z->digest, e[1]->str, sizeof(z->digest));

    } else if (ngx_strcmp(z->digest, e[1]->str) != 0) {

        /* it changed between two pages */

        z->again = 1;
        return NGX_OK;
    }

    for (i = 0; i < list->elements; i += 2) {
        ngx_gate_override_add(z, list->element[i], list->element[i + 1]);
    }

    if (next) {

        /* pages go on, and come to an end */

        if (next <= z->at || next > NGX_GATE_LIMIT_OVERRIDES) {
            return NGX_DECLINED;
        }

        ngx_gate_override_read(z, next);
        return NGX_OK;
    }

    ngx_gate_override_use(z, z->digest, e[2]->integer);

    return NGX_OK;
}


/* "page", digest, number of fields, next, fields and values */

static ngx_int_t
ngx_gate_override_shape(redisReply *reply)
{
    size_t        i;
    redisReply  **e;

    e = reply->element;

    if (reply->elements != 5
        || e[1]->type != REDIS_REPLY_STRING
        || e[1]->len != NGX_GATE_OVERRIDE_DIGEST
        || ngx_strlen(e[1]->str) != NGX_GATE_OVERRIDE_DIGEST
        || e[2]->type != REDIS_REPLY_INTEGER || e[2]->integer < 0
        || e[3]->type != REDIS_REPLY_INTEGER || e[3]->integer < 0
        || e[4]->type != REDIS_REPLY_ARRAY || e[4]->elements % 2)
    {
        return NGX_DECLINED;
    }

    for (i = 0; i < e[4]->elements; i++) {
        if (e[4]->element[i]->type != REDIS_REPLY_STRING) {
            return NGX_DECLINED;
        }
    }

    return NGX_OK;
}


/*
 * An empty set.  Policies stay in the slots: a worker that was stopped while
 * it looked at this set finds an old one, but none that makes no sense.
 */

static void
ngx_gate_override_begin(ngx_gate_override_zone_t *z)
{
    ngx_uint_t             i;
    ngx_gate_overrides_t  *set;

    set = ngx_gate_override_next(z->lc->sh);

    ngx_gate_store(&set->n, 0);

    for (i = 0; i < NGX_GATE_LIMIT_OVERRIDES * 2; i++) {
        ngx_gate_store(&set->slots[i].hash, 0);
    }

    z->bad = 0;
}


static void
ngx_gate_override_add(ngx_gate_override_zone_t *z, redisReply *field,
    redisReply *value)
{
    uint64_t               hash;
    const char            *why;
    gate_policy_t          policy;
    const gate_policy_t   *last;
    ngx_gate_override_t   *slot;
    ngx_gate_overrides_t  *set;

    set = ngx_gate_override_next(z->lc->sh);
    hash = ngx_gate_override_hash(z, field);

    if (gate_rate_words((u_char *) value->str, (size_t) value->len,
                        &z->lc->policy, &policy, &why)
        != 0)
    {
        if (z->bad++ == 0) {
            z->bad_hash = hash;
            z->bad_why = why;
        }

        last = ngx_gate_limit_override(z->lc, hash);

        if (last == NULL) {
            return;
        }

        policy = *last;
    }

    slot = ngx_gate_override_slot(set, hash);

    if (slot->hash == hash || set->n >= NGX_GATE_LIMIT_OVERRIDES) {
        return;
    }

    slot->policy = policy;
    ngx_gate_store(&slot->hash, hash);
    ngx_gate_store(&set->n, set->n + 1);
}


/* A field of 16 hexadecimal digits is a hash, any other one is the key. */

static uint64_t
ngx_gate_override_hash(ngx_gate_override_zone_t *z, redisReply *field)
{
    u_char    *p, c;
    size_t     i;
    uint64_t   hash;

    p = (u_char *) field->str;
    hash = 0;

    for (i = 0; field->len == NGX_GATE_OVERRIDE_HEX && i < field->len; i++) {
        c = p[i] | 0x20;

        if (p[i] >= '0' && p[i] <= '9') {
            hash = hash << 4 | (uint64_t) (p[i] - '0');

        } else if (c >= 'a' && c <= 'f') {
            hash = hash << 4 | (uint64_t) (c - 'a' + 10);

        } else {
            hash = 0;
            break;
        }
    }

    return hash ? hash
                : ngx_gate_limit_hash(z->lc, p, (size_t) field->len);
}


/* The slot of that hash, or the free one where it belongs. */

static ngx_gate_override_t *
ngx_gate_override_slot(ngx_gate_overrides_t *set, uint64_t hash)
{
    uint32_t  i;

    i = (uint32_t) hash % (NGX_GATE_LIMIT_OVERRIDES * 2);

    while (set->slots[i].hash != 0 && set->slots[i].hash != hash) {
        i = (i + 1) % (NGX_GATE_LIMIT_OVERRIDES * 2);
    }

    return &set->slots[i];
}


/* The other set is what counts from here on. */

static void
ngx_gate_override_use(ngx_gate_override_zone_t *z, const char *digest,
    int64_t fields)
{
    u_char                  why[NGX_GATE_REASON_LEN], *p;
    ngx_gate_limit_zone_t  *sh;

    sh = z->lc->sh;

    ngx_gate_store(&sh->override, (sh->override + 1) & 1);

    ngx_cpystrn((u_char *) sh->override_digest, (u_char *) digest,
                sizeof(sh->override_digest));

    sh->override_fields = (uint64_t) fields;
    sh->override_errors += z->bad;
    sh->override_known = 1;

    z->known = 1;
    z->changed = ngx_current_msec;

    z->member->node->sh->fleet.applied++;

    ngx_log_error(NGX_LOG_INFO, z->member->log, 0,
                  "gate: limit zone \"%V\": %uD overrides", &z->lc->name,
                  sh->overrides[sh->override].n);

    if (z->bad) {

        /* a field may be somebody's key, and is not for the log */

        p = ngx_snprintf(why, sizeof(why), "%016xL, rate %s, %ui in all",
                         z->bad_hash, z->bad_why, z->bad);

        ngx_gate_override_odd(z, NGX_GATE_ERROR_VALUE,
                              "has fields that make no sense, the first of "
                              "the key", (char *) why, p - why);

    } else if (fields > NGX_GATE_LIMIT_OVERRIDES) {
        ngx_gate_override_odd(z, NGX_GATE_ERROR_VALUE,
                              "has more fields than are used", "", 0);

    } else {
        z->odd.is = 0;
    }
}


/* The last good value stays.  Said once, until all is good. */

static void
ngx_gate_override_odd(ngx_gate_override_zone_t *z, ngx_gate_error_e error,
    const char *why, const char *text, size_t len)
{
    char  what[NGX_GATE_ERROR_LEN];

    ngx_snprintf((u_char *) what, sizeof(what),
                 "\"%*s\" %s (last good values stay)%Z",
                 ngx_min(z->keys[0].len, 64), z->keys[0].data, why);
    what[sizeof(what) - 1] = '\0';

    ngx_gate_fleet_odd(z->member, &z->odd, error, what, text, len);
}


/* Redis has forgotten what we hold. */

static void
ngx_gate_override_restore(ngx_gate_override_zone_t *z)
{
    char                   rate[GATE_RATE_LEN];
    u_char                *text, *p;
    size_t                 len;
    ngx_int_t              rv;
    ngx_str_t             *argv, *arg;
    ngx_uint_t             i;
    ngx_gate_override_t   *o;
    ngx_gate_overrides_t  *set;

    set = &z->lc->sh->overrides[z->lc->sh->override & 1];

    argv = ngx_alloc((3 + 2 * set->n) * sizeof(ngx_str_t)
                     + set->n * (NGX_GATE_OVERRIDE_HEX
                                 + NGX_GATE_OVERRIDE_VALUE),
                     z->member->log);
    if (argv == NULL) {
        return;
    }

    argv[0] = z->keys[0];
    argv[1] = z->keys[1];
    ngx_str_set(&argv[2], "restore");

    arg = &argv[3];
    text = (u_char *) (argv + 3 + 2 * set->n);

    for (i = 0; i < NGX_GATE_LIMIT_OVERRIDES * 2; i++) {
        o = &set->slots[i];

        if (o->hash == 0) {
            continue;
        }

        p = ngx_sprintf(text, "%016xL", o->hash);
        arg->data = text;
        arg->len = p - text;
        arg++;
        text = p;

        len = gate_rate_format(o->policy.count, o->policy.period, rate);
        p = ngx_sprintf(text, "rate=%*s burst=%L", len, rate,
                        o->policy.rate.capacity - 1);
        arg->data = text;
        arg->len = p - text;
        arg++;
        text = p;
    }

    rv = ngx_gate_redis_script(z->member->redis, NGX_GATE_SCRIPT_OVERRIDE, 2,
                               arg - argv, argv, ngx_gate_override_restored,
                               z);

    ngx_free(argv);

    z->flying = (rv == NGX_OK);
    z->again = 1;
}


static void
ngx_gate_override_restored(void *data, redisReply *reply)
{
    ngx_gate_override_zone_t *z = data;

    z->flying = 0;

    if (reply == NULL) {
        return;
    }

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0) {

        /* Redis would not take them; the poll tries again */

        ngx_gate_fleet_error(z->member, "restoring the rates of callers",
                             reply);
        z->again = 0;
        return;
    }

    if (ngx_gate_override_is(reply->element[0], "done")) {
        ngx_log_error(NGX_LOG_WARN, z->member->log, 0,
                      "gate: Redis had forgotten \"%V\", it is restored",
                      &z->keys[0]);
    }
}

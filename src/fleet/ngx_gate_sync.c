
/*
 * Copyright (C) nginx-gate authors
 */


#include "ngx_gate_sync.h"

#include "core/gate_vector.h"


#define NGX_GATE_SYNC_MSEC      200     /* between two calls of a rollout */
#define NGX_GATE_SYNC_POLL      1000    /* where only others may have news */
#define NGX_GATE_SYNC_LATE      1000    /* a step's latecomers */
#define NGX_GATE_SYNC_TTL       604800  /* s, of a step's evidence */
#define NGX_GATE_SYNC_PREFIX    512     /* the longest one that we use */
#define NGX_GATE_SYNC_KEY                                                     \
    (NGX_GATE_SYNC_PREFIX + NGX_GATE_NAME_LEN + 64)


/* the totals of one moment */

typedef struct {
    uint64_t                   tag;
    uint64_t                   digest;
    uint32_t                   step;
    uint32_t                   block;
    ngx_uint_t                 n;         /* of v, that are of this moment */
    uint64_t                   v[NGX_GATE_VECTOR];
    uint64_t                   lifetime[NGX_GATE_VECTOR_LIFETIME];
} ngx_gate_sync_totals_t;


typedef struct {
    ngx_gate_rollout_conf_t   *rc;
    ngx_gate_sync_totals_t     sent;
    ngx_msec_t                 looked;
    ngx_msec_t                 called;
    ngx_msec_t                 whole;     /* called with the histograms */
    ngx_msec_t                 ended;     /* the step before this one, */
    uint64_t                   old_tag;   /* 0: nothing is left of it */
    uint32_t                   old_block;
    unsigned                   flying:1;  /* a call waits for its reply, */
    unsigned                   late:1;    /* and is of the step before */
    unsigned                   acked:1;   /* Redis has what was sent */
    unsigned                   failed:1;  /* it would not take it */
} ngx_gate_sync_t;


typedef struct {
    ngx_gate_node_t           *node;
    ngx_gate_redis_t          *redis;
    uint32_t                   generation;
    ngx_uint_t                 n;
    ngx_gate_sync_t           *rollouts;
    ngx_uint_t                 next;      /* whose turn it is first */
} ngx_gate_sync_all_t;


static ngx_int_t ngx_gate_sync_init(ngx_gate_node_t *node);
static ngx_int_t ngx_gate_sync_rollout(ngx_gate_sync_t *s);
static ngx_int_t ngx_gate_sync_late(ngx_gate_sync_t *s);
static void ngx_gate_sync_collect(ngx_gate_sync_t *s,
    ngx_gate_sync_totals_t *t, ngx_uint_t whole);
static ngx_uint_t ngx_gate_sync_same(ngx_gate_sync_t *s,
    ngx_gate_sync_totals_t *t);
static ngx_int_t ngx_gate_sync_send(ngx_gate_sync_t *s,
    ngx_gate_sync_totals_t *t, ngx_gate_redis_reply_pt handler);
static void ngx_gate_sync_reply(void *data, redisReply *reply);
static ngx_int_t ngx_gate_sync_sums(redisReply *reply, uint64_t *sum,
    uint64_t *lifetime);
static void ngx_gate_sync_totals(ngx_gate_sync_t *s, uint64_t *sum,
    int64_t members);
static void ngx_gate_sync_ignore(void *data, redisReply *reply);
static void ngx_gate_sync_wrong(const char *what);


/* of this process; it is the agent of one node at a time */
static ngx_gate_sync_all_t     ngx_gate_sync;

static ngx_gate_sync_totals_t  ngx_gate_sync_now;
static char  ngx_gate_sync_text[GATE_VECTOR_TEXT(NGX_GATE_VECTOR)];


void
ngx_gate_sync_tick(ngx_gate_redis_t *rs, ngx_gate_node_t *node,
    ngx_log_t *log)
{
    ngx_uint_t  i, n;

    (void) log;

    if (ngx_gate_sync_init(node) != NGX_OK) {
        return;
    }

    ngx_gate_sync.redis = rs;

    ngx_gate_beat_tick(rs, node);

    n = ngx_gate_sync.n;

    for (i = 0; i < n; i++) {

        if (ngx_gate_sync_rollout(&ngx_gate_sync.rollouts[
                                        (ngx_gate_sync.next + i) % n])
            == NGX_BUSY)
        {
            /* too much is pending: the rest comes first next time */

            ngx_gate_sync.next = (ngx_gate_sync.next + i) % n;
            return;
        }
    }
}


void
ngx_gate_sync_reset(ngx_gate_node_t *node)
{
    ngx_uint_t  i;

    (void) node;

    for (i = 0; i < ngx_gate_sync.n; i++) {
        ngx_gate_sync.rollouts[i].flying = 0;
        ngx_gate_sync.rollouts[i].failed = 0;
        ngx_gate_sync.rollouts[i].acked = 0;
    }

    ngx_gate_sync.redis = NULL;

    ngx_gate_beat_reset();
}


void
ngx_gate_sync_final(ngx_gate_redis_t *rs, ngx_gate_node_t *node)
{
    ngx_uint_t               i;
    ngx_gate_sync_t         *s;
    ngx_gate_sync_totals_t  *t;

    if (ngx_gate_sync_init(node) != NGX_OK) {
        return;
    }

    ngx_gate_sync.redis = rs;
    t = &ngx_gate_sync_now;

    for (i = 0; i < ngx_gate_sync.n; i++) {
        s = &ngx_gate_sync.rollouts[i];

        if (ngx_gate_peek(&s->rc->sh->foreign)
            || ngx_gate_peek(&s->rc->sh->provisional))
        {
            continue;
        }

        ngx_gate_sync_collect(s, t, 1);

        if (t->tag && !ngx_gate_sync_same(s, t)
            && ngx_gate_sync_send(s, t, ngx_gate_sync_ignore) == NGX_BUSY)
        {
            return;
        }
    }
}


static ngx_int_t
ngx_gate_sync_init(ngx_gate_node_t *node)
{
    ngx_uint_t                 i, n;
    ngx_gate_sync_t           *s;
    ngx_gate_redis_conf_t     *conf;
    ngx_gate_rollout_conf_t  **rc;

    if (ngx_gate_sync.node == node
        && ngx_gate_sync.generation == node->generation)
    {
        return NGX_OK;
    }

    conf = node->redis;
    n = node->rollouts.nelts;

    if (conf->data.len > NGX_GATE_SYNC_PREFIX) {
        return NGX_DECLINED;
    }

    s = ngx_alloc((n + 1) * sizeof(ngx_gate_sync_t), ngx_cycle->log);
    if (s == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(s, (n + 1) * sizeof(ngx_gate_sync_t));

    rc = node->rollouts.elts;

    for (i = 0; i < n; i++) {
        s[i].rc = rc[i];
    }

    /* the session that had calls of the old ones under way is closed */

    ngx_free(ngx_gate_sync.rollouts);

    ngx_memzero(&ngx_gate_sync, sizeof(ngx_gate_sync_all_t));

    ngx_gate_sync.node = node;
    ngx_gate_sync.generation = node->generation;
    ngx_gate_sync.rollouts = s;
    ngx_gate_sync.n = n;

    return NGX_OK;
}


/* NGX_OK; NGX_BUSY: there is no room for another command. */

static ngx_int_t
ngx_gate_sync_rollout(ngx_gate_sync_t *s)
{
    ngx_int_t                rv;
    ngx_uint_t               whole;
    ngx_gate_rollout_t      *ro;
    ngx_gate_sync_totals_t  *t;

    ro = s->rc->sh;

    if (s->flying
        || ngx_current_msec - s->looked
           < (s->failed ? NGX_GATE_SYNC_POLL : NGX_GATE_SYNC_MSEC)
        || ngx_gate_peek(&ro->foreign) || ngx_gate_peek(&ro->provisional))
    {
        return NGX_OK;
    }

    if (s->old_tag
        && ngx_current_msec - s->ended >= NGX_GATE_SYNC_LATE)
    {
        return ngx_gate_sync_late(s);
    }

    s->looked = ngx_current_msec;

    /*
     * Only a latency ratio is judged by the histograms, and they are most of
     * what there is to send.  To leave some totals out is to send them
     * unchanged.
     */

    whole = (!s->acked || s->rc->nhists
             || ngx_current_msec - s->whole >= NGX_GATE_SYNC_POLL);

    t = &ngx_gate_sync_now;
    ngx_gate_sync_collect(s, t, whole);

    if (t->tag == 0
        || (ngx_gate_sync_same(s, t)
            && ngx_current_msec - s->called < NGX_GATE_SYNC_POLL))
    {
        return NGX_OK;
    }

    rv = ngx_gate_sync_send(s, t, ngx_gate_sync_reply);

    if (rv != NGX_OK) {
        return rv;
    }

    if (s->sent.tag && s->sent.tag != t->tag) {

        /* what began under that step is still under way */

        s->old_tag = s->sent.tag;
        s->old_block = s->sent.block;
        s->ended = ngx_current_msec;
    }

    s->sent.tag = t->tag;
    s->sent.block = t->block;
    s->sent.n = t->n;

    ngx_memcpy(s->sent.v, t->v, t->n * sizeof(uint64_t));
    ngx_memcpy(s->sent.lifetime, t->lifetime, sizeof(t->lifetime));

    s->late = 0;

    return NGX_OK;
}


/* The last word on the step before, for who reads it later. */

static ngx_int_t
ngx_gate_sync_late(ngx_gate_sync_t *s)
{
    ngx_int_t                rv;
    ngx_gate_node_t         *node;
    ngx_gate_block_t        *b;
    ngx_gate_sync_totals_t  *t;

    node = ngx_gate_sync.node;
    t = &ngx_gate_sync_now;
    b = &s->rc->sh->blocks[s->old_block];

    ngx_shmtx_lock(&node->shpool->mutex);

    t->tag = b->tag;
    t->digest = b->digest;
    t->step = b->step;

    t->n = NGX_GATE_VECTOR;

    ngx_gate_vector_block(b, t->v);
    ngx_gate_vector_lifetime(s->rc->sh, t->lifetime);

    ngx_shmtx_unlock(&node->shpool->mutex);

    if (t->tag != s->old_tag) {
        s->old_tag = 0;
        return NGX_OK;
    }

    rv = ngx_gate_sync_send(s, t, ngx_gate_sync_reply);

    if (rv == NGX_OK) {
        ngx_memcpy(s->sent.lifetime, t->lifetime, sizeof(t->lifetime));
        s->old_tag = 0;
        s->late = 1;
    }

    return rv;
}


static void
ngx_gate_sync_collect(ngx_gate_sync_t *s, ngx_gate_sync_totals_t *t,
    ngx_uint_t whole)
{
    uint64_t             w;
    ngx_uint_t           i;
    ngx_gate_node_t     *node;
    ngx_gate_block_t    *b;
    ngx_gate_rollout_t  *ro;

    node = ngx_gate_sync.node;
    ro = s->rc->sh;

    ngx_shmtx_lock(&node->shpool->mutex);

    w = ngx_gate_load(&ro->word);
    b = ngx_gate_evidence_block(ro, w);

    t->tag = b->tag;
    t->digest = b->digest;
    t->step = b->step;
    t->block = (uint32_t) ngx_gate_word_block(w);

    if (whole || t->tag != s->sent.tag) {
        t->n = NGX_GATE_VECTOR;
        ngx_gate_vector_block(b, t->v);

    } else {
        t->n = NGX_GATE_VECTOR_HIST;
        ngx_gate_vector_counts(b, t->v);
    }

    ngx_gate_vector_lifetime(ro, t->lifetime);

    ngx_shmtx_unlock(&node->shpool->mutex);

    /*
     * An attempt that nginx takes back is no attempt any more, but Redis may
     * have heard of it, and keeps the maximum: so do we, or our share in the
     * sum would seem to be somebody else's.
     */

    if (t->tag == s->sent.tag) {

        for (i = 0; i < t->n; i++) {
            t->v[i] = ngx_max(t->v[i], s->sent.v[i]);
        }
    }

    for (i = 0; i < NGX_GATE_VECTOR_LIFETIME; i++) {
        t->lifetime[i] = ngx_max(t->lifetime[i], s->sent.lifetime[i]);
    }
}


/* Whether Redis has all that already. */

static ngx_uint_t
ngx_gate_sync_same(ngx_gate_sync_t *s, ngx_gate_sync_totals_t *t)
{
    return s->acked
           && t->tag == s->sent.tag
           && ngx_memcmp(t->v, s->sent.v, t->n * sizeof(uint64_t)) == 0
           && ngx_memcmp(t->lifetime, s->sent.lifetime, sizeof(t->lifetime))
              == 0;
}


static ngx_int_t
ngx_gate_sync_send(ngx_gate_sync_t *s, ngx_gate_sync_totals_t *t,
    ngx_gate_redis_reply_pt handler)
{
    char                    lifetime[
                                 GATE_VECTOR_TEXT(NGX_GATE_VECTOR_LIFETIME)];
    u_char                  evidence[NGX_GATE_SYNC_KEY],
                            totals[NGX_GATE_SYNC_KEY],
                            field[NGX_GATE_FLEET_NODE_LEN],
                            ttl[NGX_INT_T_LEN];
    ngx_int_t               rv;
    ngx_str_t               argv[6];
    ngx_gate_redis_conf_t  *conf;

    conf = ngx_gate_sync.node->redis;

    argv[0].data = evidence;
    argv[0].len = ngx_snprintf(evidence, sizeof(evidence),
                               "%Vevidence:%s:%uD:%uD:%016xL", &conf->data,
                               s->rc->sh->name, (uint32_t) (t->tag >> 32),
                               t->step, t->digest)
                  - evidence;

    argv[1].data = totals;
    argv[1].len = ngx_snprintf(totals, sizeof(totals), "%Vtotals:%s",
                               &conf->data, s->rc->sh->name)
                  - totals;

    argv[2].data = field;
    argv[2].len = ngx_gate_sync_name(ngx_gate_sync.node, field) - field;

    argv[3].data = (u_char *) ngx_gate_sync_text;
    argv[3].len = gate_vector_encode(t->v, t->n, ngx_gate_sync_text);

    argv[4].data = (u_char *) lifetime;
    argv[4].len = gate_vector_encode(t->lifetime, NGX_GATE_VECTOR_LIFETIME,
                                     lifetime);

    argv[5].data = ttl;
    argv[5].len = ngx_sprintf(ttl, "%d", NGX_GATE_SYNC_TTL) - ttl;

    rv = ngx_gate_redis_script(ngx_gate_sync.redis, NGX_GATE_SCRIPT_EVIDENCE,
                               2, 6, argv, handler, s);

    if (rv == NGX_OK) {
        s->called = ngx_current_msec;
        s->flying = 1;

        if (t->n == NGX_GATE_VECTOR) {
            s->whole = ngx_current_msec;
        }

        s->acked = 0;
    }

    return rv;
}


u_char *
ngx_gate_sync_name(ngx_gate_node_t *node, u_char *p)
{
    size_t  len;

    len = ngx_min(ngx_cycle->hostname.len,
                  NGX_GATE_FLEET_NODE_LEN - sizeof(":0123456789abcdef"));

    p = ngx_cpymem(p, ngx_cycle->hostname.data, len);

    return ngx_sprintf(p, ":%016xL", node->sh->boot);
}


static void
ngx_gate_sync_reply(void *data, redisReply *reply)
{
    ngx_gate_sync_t *s = data;

    uint64_t    sum[NGX_GATE_VECTOR], lifetime[NGX_GATE_VECTOR_LIFETIME];
    ngx_uint_t  i;

    s->flying = 0;

    if (reply == NULL) {
        return;
    }

    s->failed = 1;

    if (reply->type == REDIS_REPLY_ERROR) {
        return;
    }

    if (ngx_gate_sync_sums(reply, sum, lifetime) != NGX_OK) {
        ngx_gate_sync_wrong("evidence");
        return;
    }

    s->failed = 0;

    /* of a late call we do not know whether the step in use was heard of */

    s->acked = !s->late;

    ngx_gate_add(&ngx_gate_sync.node->sh->fleet.syncs_total, 1);

    ngx_gate_sync_totals(s, lifetime, reply->element[3]->integer);

    if (s->late) {
        return;
    }

    for (i = 0; i < s->sent.n; i++) {
        sum[i] -= ngx_min(s->sent.v[i], sum[i]);
    }

    ngx_gate_verdict_remote(ngx_gate_sync.node, s->rc, s->sent.tag, sum,
                            s->sent.n);
}


static ngx_int_t
ngx_gate_sync_sums(redisReply *reply, uint64_t *sum, uint64_t *lifetime)
{
    redisReply  **e;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 4) {
        return NGX_DECLINED;
    }

    e = reply->element;

    if (e[1]->type != REDIS_REPLY_STRING || e[2]->type != REDIS_REPLY_STRING
        || e[3]->type != REDIS_REPLY_INTEGER || e[3]->integer < 0
        || gate_vector_decode(e[1]->str, (size_t) e[1]->len, sum,
                              NGX_GATE_VECTOR)
           != 0
        || gate_vector_decode(e[2]->str, (size_t) e[2]->len, lifetime,
                              NGX_GATE_VECTOR_LIFETIME)
           != 0)
    {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


/*
 * What the others have is what is in the sum beyond our own.  It does not go
 * back when Redis forgot it for a while: they will send it again.
 */

static void
ngx_gate_sync_totals(ngx_gate_sync_t *s, uint64_t *sum, int64_t members)
{
    uint64_t             others, known;
    ngx_uint_t           i;
    ngx_gate_node_t     *node;
    ngx_gate_rollout_t  *ro;

    node = ngx_gate_sync.node;
    ro = s->rc->sh;

    ngx_shmtx_lock(&node->shpool->mutex);

    for (i = 0; i < NGX_GATE_VECTOR_LIFETIME; i++) {
        known = ro->fleet_total[i]
                - ngx_min(ro->acked_total[i], ro->fleet_total[i]);
        others = sum[i] - ngx_min(s->sent.lifetime[i], sum[i]);

        ngx_gate_store(&ro->acked_total[i], s->sent.lifetime[i]);
        ngx_gate_store(&ro->fleet_total[i],
                       s->sent.lifetime[i] + ngx_max(others, known));
    }

    ngx_gate_store(&ro->fleet_members,
                   (uint32_t) ngx_min(members, NGX_MAX_INT32_VALUE));

    ngx_shmtx_unlock(&node->shpool->mutex);
}


static void
ngx_gate_sync_ignore(void *data, redisReply *reply)
{
    (void) data;
    (void) reply;
}


static void
ngx_gate_sync_wrong(const char *what)
{
    ngx_gate_redis_error(ngx_gate_sync.redis, NGX_GATE_ERROR_PROTOCOL, what,
                         "a reply of another shape",
                         sizeof("a reply of another shape") - 1);
}

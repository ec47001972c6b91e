
/*
 * Copyright (C) nginx-gate authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_gate_debt.h"
#include "ngx_gate_sync.h"


#define NGX_GATE_DEBT_GRACE   1000    /* ms without Redis, before we say so */
#define NGX_GATE_DEBT_TICK    20      /* ms between the agent's ticks */
#define NGX_GATE_DEBT_WHOLE   500     /* ms that what is small may wait, half
                                         of NGX_GATE_LIMIT_STALE_MSEC */
#define NGX_GATE_DEBT_RETRY   1000    /* ms after Redis refused a batch */
#define NGX_GATE_DEBT_ALIVE   3000    /* ms, in which each node says so */
#define NGX_GATE_DEBT_LOOK    65536   /* slots that are looked at in a turn */
#define NGX_GATE_DEBT_LAST    16      /* batches of a zone, when nginx ends */
#define NGX_GATE_DEBT_SLOW    INT64_C(1000000000)    /* ns; in limit.lua too */

/* the year 2200, in us: what is later is no time */
#define NGX_GATE_DEBT_TIME_MAX  INT64_C(7258118400000000)

#define NGX_GATE_DEBT_REPLY   3       /* applied, time, what keys owe */


/* a zone, as this process knows it */

typedef struct {
    ngx_gate_limit_conf_t     *lc;
    uint64_t                   seq;        /* of the batch under way */
    int64_t                    sent;       /* ns, monotonic: when it went */
    ngx_msec_t                 sent_msec;
    ngx_msec_t                 begun;      /* of the last round */
    ngx_msec_t                 whole;      /* the last one of everything */
    int                        which;      /* marks, of this round */
    ngx_msec_t                 refused_at;
    unsigned                   flying:1;   /* it waits for its reply */
    unsigned                   round:1;    /* there is more to send at once */
    unsigned                   refused:1;  /* the last one */
} ngx_gate_debt_zone_t;


typedef struct {
    ngx_gate_node_t           *node;
    ngx_gate_redis_t          *redis;
    uint32_t                   generation;
    ngx_uint_t                 n;
    ngx_gate_debt_zone_t      *zones;
    ngx_msec_t                 up;         /* when Redis was there last */
    ngx_msec_t                 came;       /* and since when it is */
    int64_t                    off;        /* ns: Redis's clock less ours */
    unsigned                   known:1;    /* off is */
    unsigned                   listening:1;

    ngx_event_t                timer;
    ngx_connection_t           dummy;      /* what debug builds expect */
} ngx_gate_debt_all_t;


static void ngx_gate_debt_nodes(ngx_gate_node_t *node,
    ngx_gate_limit_zone_t *sh);
static ngx_int_t ngx_gate_debt_init(ngx_gate_node_t *node, ngx_log_t *log);
static ngx_uint_t ngx_gate_debt_mine(ngx_gate_node_t *node);
static ngx_uint_t ngx_gate_debt_up(ngx_gate_node_t *node);
static void ngx_gate_debt_called(void *data);
static void ngx_gate_debt_timer(ngx_event_t *ev);
static void ngx_gate_debt_later(ngx_msec_t delay);
static void ngx_gate_debt_run(ngx_gate_debt_zone_t *z);
static ngx_uint_t ngx_gate_debt_return(ngx_gate_debt_zone_t *z);
static void ngx_gate_debt_offline(ngx_gate_limit_conf_t *lc);
static ngx_uint_t ngx_gate_debt_due(ngx_gate_debt_zone_t *z,
    ngx_uint_t *flush);
static ngx_uint_t ngx_gate_debt_freeze(ngx_gate_debt_zone_t *z,
    ngx_uint_t flush, ngx_uint_t last);
static ngx_int_t ngx_gate_debt_send(ngx_gate_debt_zone_t *z,
    ngx_gate_redis_reply_pt handler);
static void ngx_gate_debt_reply(void *data, redisReply *reply);
static ngx_int_t ngx_gate_debt_shape(redisReply *reply, ngx_uint_t n);
static void ngx_gate_debt_refused(ngx_gate_debt_zone_t *z);
static int64_t ngx_gate_debt_clock(ngx_gate_debt_zone_t *z, int64_t us);
static void ngx_gate_debt_acked(ngx_gate_debt_zone_t *z, redisReply *reply);
static void ngx_gate_debt_told(ngx_gate_debt_zone_t *z,
    gate_limit_debt_t *d, int64_t now, double said, double nodes);
static ngx_int_t ngx_gate_debt_last(ngx_gate_debt_zone_t *z);
static void ngx_gate_debt_ignore(void *data, redisReply *reply);


/* of this process; it is the agent of one node at a time */
static ngx_gate_debt_all_t  ngx_gate_debts;


void
ngx_gate_debt_tick(ngx_gate_redis_t *rs, ngx_gate_node_t *node,
    ngx_log_t *log)
{
    ngx_uint_t             i;
    ngx_gate_debt_zone_t  *z;

    if (node->limits.nelts == 0
        || ngx_gate_debt_init(node, log) != NGX_OK)
    {
        return;
    }

    ngx_gate_debts.redis = rs;

    if (!ngx_gate_debt_up(node)) {
        ngx_gate_debts.came = ngx_current_msec;

    } else {
        ngx_gate_debts.up = ngx_current_msec;
    }

    for (i = 0; i < ngx_gate_debts.n; i++) {
        z = &ngx_gate_debts.zones[i];

        ngx_gate_debt_nodes(node, z->lc->sh);

        if (ngx_current_msec - ngx_gate_debts.up >= NGX_GATE_DEBT_GRACE) {
            ngx_gate_debt_offline(z->lc);
        }

        ngx_gate_debt_run(z);
    }
}


/*
 * How many nodes there are.  A Redis that was empty hears of them one by one:
 * that there are fewer is believed when they had the time to say something.
 */

static void
ngx_gate_debt_nodes(ngx_gate_node_t *node, ngx_gate_limit_zone_t *sh)
{
    uint32_t  nodes;

    nodes = ngx_gate_peek(&node->sh->fleet.alive_nodes);

    if (nodes == sh->nodes || !sh->online) {
        return;
    }

    if (nodes > sh->nodes
        || (nodes && ngx_current_msec - ngx_gate_debts.came
                     >= NGX_GATE_DEBT_ALIVE))
    {
        ngx_gate_store(&sh->nodes, nodes);
    }
}


static ngx_int_t
ngx_gate_debt_init(ngx_gate_node_t *node, ngx_log_t *log)
{
    ngx_uint_t               i, n;
    ngx_gate_debt_all_t     *all;
    ngx_gate_debt_zone_t    *z;
    ngx_gate_redis_conf_t   *conf;
    ngx_gate_limit_conf_t  **lcp;

    all = &ngx_gate_debts;

    if (all->node == node && all->generation == node->generation) {
        return NGX_OK;
    }

    conf = node->redis;

    if (conf->data.len > NGX_GATE_DEBT_PREFIX) {
        return NGX_DECLINED;
    }

    z = ngx_alloc(node->limits.nelts * sizeof(ngx_gate_debt_zone_t), log);
    if (z == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(z, node->limits.nelts * sizeof(ngx_gate_debt_zone_t));

    ngx_gate_debt_leave();

    lcp = node->limits.elts;
    n = 0;

    for (i = 0; i < node->limits.nelts; i++) {
        if (ngx_gate_limit_fleet(lcp[i])) {
            z[n++].lc = lcp[i];
        }
    }

    ngx_free(all->zones);

    all->node = node;
    all->generation = node->generation;
    all->zones = z;
    all->n = n;
    all->up = ngx_current_msec;
    all->came = ngx_current_msec;
    all->known = 0;

    all->dummy.fd = (ngx_socket_t) -1;
    all->timer.handler = ngx_gate_debt_timer;
    all->timer.data = &all->dummy;
    all->timer.log = ngx_cycle->log;
    all->timer.cancelable = 1;

    if (n) {

        /* without it the next tick finds what is urgent */

        all->listening = (ngx_gate_wake_listen(ngx_gate_debt_called, node,
                                               ngx_cycle->log)
                          == NGX_OK);
    }

    return NGX_OK;
}


/* Whether we are the agent, who may write to what the agent writes. */

static ngx_uint_t
ngx_gate_debt_mine(ngx_gate_node_t *node)
{
    return ngx_gate_debts.node == node
           && (uint32_t) ngx_gate_load(&node->sh->agent)
              == (uint32_t) ngx_pid;
}


/* Keys have the names that all nodes give them once the seed is known. */

static ngx_uint_t
ngx_gate_debt_up(ngx_gate_node_t *node)
{
    return ngx_gate_redis_ready(ngx_gate_debts.redis)
           && node->sh->fleet.joined && ngx_gate_beat_heard(node);
}


/* A worker has something that Redis should hear of now. */

static void
ngx_gate_debt_called(void *data)
{
    ngx_uint_t        i;
    ngx_gate_node_t  *node = data;

    if (ngx_gate_debts.redis == NULL || !ngx_gate_debt_mine(node)) {
        return;
    }

    for (i = 0; i < ngx_gate_debts.n; i++) {
        ngx_gate_debt_run(&ngx_gate_debts.zones[i]);
    }
}


static void
ngx_gate_debt_timer(ngx_event_t *ev)
{
    (void) ev;

    ngx_gate_debt_called(ngx_gate_debts.node);
}


static void
ngx_gate_debt_later(ngx_msec_t delay)
{
    ngx_event_t  *ev;

    ev = &ngx_gate_debts.timer;

    if (!ev->timer_set && !ngx_exiting && !ngx_terminate && !ngx_quit) {
        ngx_add_timer(ev, delay);
    }
}


/* Does for a zone what is to be done now. */

static void
ngx_gate_debt_run(ngx_gate_debt_zone_t *z)
{
    ngx_uint_t              flush;
    ngx_gate_node_t        *node;
    ngx_gate_limit_zone_t  *sh;

    if (z->flying) {
        return;
    }

    sh = z->lc->sh;
    flush = 0;

    if (sh->online && sh->batch.n == 0 && !ngx_gate_debt_due(z, &flush)) {

        /* most of the time */

        return;
    }

    node = ngx_gate_debts.node;

    if (!ngx_gate_debt_up(node)
        || (z->refused
            && ngx_current_msec - z->refused_at < NGX_GATE_DEBT_RETRY)
        || sh->seed[0] != node->sh->secret[0]
        || sh->seed[1] != node->sh->secret[1])
    {
        return;
    }

    if (!sh->online && !ngx_gate_debt_return(z)) {
        return;
    }

    if (sh->batch.n || ngx_gate_debt_freeze(z, flush, 0)) {
        (void) ngx_gate_debt_send(z, ngx_gate_debt_reply);
    }
}


/*
 * Redis is there again.  What was on its way comes first: to settle is to cut
 * what is unsent, and that may be in it.  1 when the zone is online.
 */

static ngx_uint_t
ngx_gate_debt_return(ngx_gate_debt_zone_t *z)
{
    gate_limit_env_t        env;
    ngx_gate_limit_zone_t  *sh;

    sh = z->lc->sh;

    if (sh->batch.n) {
        (void) ngx_gate_debt_send(z, ngx_gate_debt_reply);
        return 0;
    }

    ngx_gate_limit_env(z->lc, &env);

    if (!gate_limit_settle(z->lc->table, &env, &sh->settle_at,
                           NGX_GATE_DEBT_LOOK))
    {
        return 0;
    }

    z->round = 1;
    z->which = GATE_LIMIT_ALL;

    ngx_gate_store(&sh->online, 1);

    return 1;
}


static void
ngx_gate_debt_offline(ngx_gate_limit_conf_t *lc)
{
    ngx_gate_limit_zone_t  *sh;

    sh = lc->sh;

    if (sh->online) {
        sh->settle_at = 0;
        sh->lost_msec = ngx_current_msec;
        ngx_gate_store(&sh->online, 0);
    }
}


/* Whether there may be something to send; flush: only what is urgent. */

static ngx_uint_t
ngx_gate_debt_due(ngx_gate_debt_zone_t *z, ngx_uint_t *flush)
{
    ngx_msec_t  past, msec;

    past = ngx_current_msec - z->sent_msec;

    if (z->round || ngx_gate_peek(&z->lc->sh->urgent)) {

        if (past < NGX_GATE_LIMIT_SPACE_MSEC) {
            ngx_gate_debt_later(NGX_GATE_LIMIT_SPACE_MSEC - past);
            return 0;
        }
    }

    msec = z->lc->msec ? z->lc->msec : NGX_GATE_LIMIT_SYNC_MSEC;

    if (msec < NGX_GATE_DEBT_TICK) {
        ngx_gate_debt_later(msec);
    }

    if (z->round || ngx_current_msec - z->begun >= msec) {
        return 1;
    }

    *flush = 1;

    return ngx_gate_peek(&z->lc->sh->urgent);
}


/* Makes a batch of what is marked; 0: there is nothing.  last: of all. */

static ngx_uint_t
ngx_gate_debt_freeze(ngx_gate_debt_zone_t *z, ngx_uint_t flush,
    ngx_uint_t last)
{
    size_t                   n;
    int64_t                  now;
    ngx_gate_limit_zone_t   *sh;
    ngx_gate_limit_batch_t  *b;

    sh = z->lc->sh;
    b = &sh->batch;

    if (!flush && !z->round) {
        z->begun = ngx_current_msec;
        z->which = GATE_LIMIT_NOTABLE;

        if (last || ngx_current_msec - z->whole >= NGX_GATE_DEBT_WHOLE) {
            z->whole = ngx_current_msec;
            z->which = GATE_LIMIT_ALL;
        }
    }

    /* before we look: who marks something afterwards calls again */

    if (ngx_gate_peek(&sh->urgent)) {
        (void) __atomic_exchange_n(&sh->urgent, 0, __ATOMIC_SEQ_CST);
    }

    now = ngx_gate_nsec();

    n = gate_limit_collect(z->lc->table, now,
                           flush ? GATE_LIMIT_URGENT : z->which, b->debts,
                           NGX_GATE_LIMIT_BATCH, NGX_GATE_DEBT_LOOK);

    z->round = (n == NGX_GATE_LIMIT_BATCH);

    if (n == 0) {
        return 0;
    }

    b->seq++;
    b->sent = 0;
    b->frozen = now;

    /* it is one from here on, also if this process is killed */

    ngx_gate_store(&b->n, (uint32_t) n);

    return n;
}


static ngx_int_t
ngx_gate_debt_send(ngx_gate_debt_zone_t *z, ngx_gate_redis_reply_pt handler)
{
    u_char                  *text;
    int64_t                  now;
    ngx_int_t                rv;
    ngx_str_t                argv[NGX_GATE_DEBT_ARGV];
    ngx_uint_t               n;
    ngx_gate_limit_batch_t  *b;

    b = &z->lc->sh->batch;
    n = ngx_min(b->n, NGX_GATE_LIMIT_BATCH);

    text = ngx_alloc((n + 2) * NGX_GATE_DEBT_TEXT, ngx_cycle->log);
    if (text == NULL) {
        return NGX_ERROR;
    }

    now = ngx_gate_nsec();

    ngx_gate_debt_args(z->lc, now,
                       ngx_gate_debts.known ? (now + ngx_gate_debts.off) / 1000
                                            : 0,
                       argv, text);

    rv = ngx_gate_redis_script(ngx_gate_debts.redis, NGX_GATE_SCRIPT_LIMIT,
                               n + 1,
                               1 + n + NGX_GATE_DEBT_HEAD,
                               argv, handler, z);

    ngx_free(text);

    if (rv != NGX_OK) {
        return rv;
    }

    if (b->sent) {
        z->lc->sh->resent_total++;
    }

    b->sent = 1;

    z->seq = b->seq;
    z->sent = now;
    z->sent_msec = ngx_current_msec;
    z->flying = 1;

    return NGX_OK;
}


static void
ngx_gate_debt_reply(void *data, redisReply *reply)
{
    ngx_gate_debt_zone_t *z = data;

    ngx_gate_limit_zone_t  *sh;

    z->flying = 0;

    /* another agent may have sent it again, or the seed is another one */

    sh = z->lc->sh;

    if (reply == NULL || !ngx_gate_debt_mine(ngx_gate_debts.node)
        || sh->batch.n == 0 || sh->batch.seq != z->seq)
    {
        return;
    }

    if (reply->type == REDIS_REPLY_ERROR) {
        ngx_gate_debt_refused(z);
        return;
    }

    if (ngx_gate_debt_shape(reply, sh->batch.n) != NGX_OK) {
        ngx_gate_redis_error(ngx_gate_debts.redis, NGX_GATE_ERROR_PROTOCOL,
                             "limits", "a reply of another shape",
                             sizeof("a reply of another shape") - 1);
        ngx_gate_debt_refused(z);
        return;
    }

    z->refused = 0;

    ngx_gate_debt_acked(z, reply);
    ngx_gate_debt_run(z);
}


static ngx_int_t
ngx_gate_debt_shape(redisReply *reply, ngx_uint_t n)
{
    redisReply  **e;

    if (reply->type != REDIS_REPLY_ARRAY
        || reply->elements != NGX_GATE_DEBT_REPLY)
    {
        return NGX_DECLINED;
    }

    e = reply->element;

    if (e[0]->type != REDIS_REPLY_INTEGER
        || e[1]->type != REDIS_REPLY_INTEGER
        || e[2]->type != REDIS_REPLY_STRING
        || (size_t) e[2]->len != n * NGX_GATE_DEBT_TOLD * sizeof(double))
    {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


/* Redis is there, but does not take it: the node is on its own. */

static void
ngx_gate_debt_refused(ngx_gate_debt_zone_t *z)
{
    z->refused = 1;
    z->refused_at = ngx_current_msec;

    ngx_gate_debt_offline(z->lc);
}


/*
 * What time it was here when Redis answered.  That was after we sent it and
 * before we have the answer, and each answer says so again: how far its clock
 * is from ours changes only where it cannot be otherwise, so that no delay on
 * the way gets in.
 */

static int64_t
ngx_gate_debt_clock(ngx_gate_debt_zone_t *z, int64_t us)
{
    int64_t  now, lo, hi, *off;

    now = ngx_gate_nsec();
    off = &ngx_gate_debts.off;

    if (us <= 0 || us > NGX_GATE_DEBT_TIME_MAX) {
        return now;
    }

    lo = us * 1000 - now;
    hi = us * 1000 + 1000 - z->sent;

    if (!ngx_gate_debts.known) {
        ngx_gate_debts.known = 1;
        *off = lo + (hi - lo) / 2;
    }

    *off = ngx_max(*off, lo);
    *off = ngx_min(*off, hi);

    now = ngx_min(now, us * 1000 - *off);

    return ngx_max(now, z->sent);
}


static void
ngx_gate_debt_acked(ngx_gate_debt_zone_t *z, redisReply *reply)
{
    double                   told[NGX_GATE_DEBT_TOLD];
    int64_t                  now;
    ngx_uint_t               i, n, other;
    ngx_gate_limit_zone_t   *sh;
    ngx_gate_limit_batch_t  *b;

    sh = z->lc->sh;
    b = &sh->batch;
    now = ngx_gate_debt_clock(z, reply->element[1]->integer);
    n = b->n;
    other = 0;

    /* the last one first: what is done is not in the batch any more */

    for (i = n; i > 0; i--) {
        ngx_memcpy(told, reply->element[2]->str + (i - 1) * sizeof(told),
                   sizeof(told));

        other += (told[1] < 0);

        ngx_gate_debt_told(z, &b->debts[i - 1], now, told[0], told[1]);

        ngx_gate_store(&b->n, (uint32_t) (i - 1));
    }

    sh->acked_msec = ngx_current_msec;
    sh->batches_total++;
    sh->debts_total += n;

    if (other) {
        ngx_gate_redis_error(ngx_gate_debts.redis, NGX_GATE_ERROR_TYPE,
                             "limits", "a key is no string, it is left as it "
                             "is",
                             sizeof("a key is no string, it is left as it is")
                             - 1);
    }
}


/* said: the debt at that time, in ns; and how many spend from it. */

static void
ngx_gate_debt_told(ngx_gate_debt_zone_t *z, gate_limit_debt_t *d, int64_t now,
    double said, double nodes)
{
    int64_t      debt, max;
    gate_rate_t  rate;

    max = GATE_GCRA_MAX;

    if (gate_limit_class_rate(z->lc->table, d->cls, &rate) == 0) {
        max = rate.interval * rate.capacity
              * ngx_min(z->lc->sh->nodes + 2, GATE_GCRA_CLAMP)
              + NGX_GATE_DEBT_SLOW;
    }

    if (!(nodes >= 1) || said != said || !z->lc->sh->online) {

        /*
         * It could not be done, or we are coming back: then the debt that was
         * made while we were alone is to be settled before anything else, by
         * the number of nodes that it was made for.
         */

        debt = d->tat - now;
        debt = ngx_min(debt, max);
        nodes = 0;

    } else {

        /* no integer before it is known to be one */

        debt = (said >= (double) max) ? max
               : (said <= (double) NGX_GATE_DEBT_PAID) ? NGX_GATE_DEBT_PAID
               : (int64_t) said;
    }

    nodes = ngx_min(nodes, GATE_LIMIT_NODES_MAX);

    gate_limit_acked(z->lc->table, d, now, debt, (unsigned) nodes);
}


void
ngx_gate_debt_lost(ngx_gate_node_t *node)
{
    ngx_uint_t  i;

    for (i = 0; i < ngx_gate_debts.n; i++) {
        ngx_gate_debts.zones[i].flying = 0;
        ngx_gate_debts.zones[i].refused = 0;

        if (ngx_gate_debt_mine(node)) {
            ngx_gate_debt_offline(ngx_gate_debts.zones[i].lc);
        }
    }

    /* the next one may be another server */

    ngx_gate_debts.known = 0;
}


/*
 * It is believed that they arrive: what does not is made up for by the debt
 * itself, if somebody goes on with the zone.
 */

void
ngx_gate_debt_final(ngx_gate_redis_t *rs, ngx_gate_node_t *node)
{
    ngx_uint_t             i, n;
    ngx_gate_debt_zone_t  *z;

    if (ngx_gate_debts.node != node) {
        return;
    }

    ngx_gate_debts.redis = rs;

    if (!ngx_gate_debt_up(node) || !ngx_gate_debt_mine(node)) {
        return;
    }

    for (i = 0; i < ngx_gate_debts.n; i++) {
        z = &ngx_gate_debts.zones[i];

        for (n = 0; z->lc->sh->online && n < NGX_GATE_DEBT_LAST; n++) {

            if (ngx_gate_debt_last(z) != NGX_OK) {
                break;
            }
        }
    }
}


static ngx_int_t
ngx_gate_debt_last(ngx_gate_debt_zone_t *z)
{
    int64_t                  now;
    ngx_uint_t               i;
    gate_limit_debt_t       *d;
    ngx_gate_limit_batch_t  *b;

    b = &z->lc->sh->batch;

    if (b->n == 0 && ngx_gate_debt_freeze(z, 0, 1) == 0) {
        return NGX_DONE;
    }

    if (!z->flying
        && ngx_gate_debt_send(z, ngx_gate_debt_ignore) != NGX_OK)
    {
        return NGX_ERROR;
    }

    z->flying = 0;
    now = ngx_gate_nsec();

    for (i = b->n; i > 0; i--) {
        d = &b->debts[i - 1];

        gate_limit_acked(z->lc->table, d, now, d->tat - now, 1);
        ngx_gate_store(&b->n, (uint32_t) (i - 1));
    }

    return NGX_OK;
}


void
ngx_gate_debt_leave(void)
{
    ngx_uint_t  i;

    for (i = 0; i < ngx_gate_debts.n; i++) {
        ngx_gate_debts.zones[i].flying = 0;
    }

    if (ngx_gate_debts.listening) {
        ngx_gate_wake_close();
        ngx_gate_debts.listening = 0;
    }

    if (ngx_gate_debts.timer.timer_set) {
        ngx_del_timer(&ngx_gate_debts.timer);
    }

    ngx_gate_debts.redis = NULL;
    ngx_gate_debts.node = NULL;
    ngx_gate_debts.n = 0;
}


static void
ngx_gate_debt_ignore(void *data, redisReply *reply)
{
    (void) data;
    (void) reply;
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Questions to Redis about requests that wait for the answer.
 *
 * A question lives until its reply is there or the connection is gone, also
 * when nobody waits any more: replies come in the order of the commands, and
 * what Redis did must meet what was decided here.
 *
 *     Redis      here         then
 *     admitted   admitted     it was counted twice: taken out of what is yet
 *                             to be sent
 *     admitted   refused      given back: less than nothing is to be sent
 *     refused    admitted     stays counted here, and will be sent
 *     unknown    admitted     stays owed here, but is not sent: if Redis did
 *                             not count it, the debt that is restored does
 *     admitted   (gone)       stays counted, as a request that was admitted
 *                             and ended then
 *
 * A Redis that is too slow must not cost each request its timeout.  Three
 * timeouts, each of a question that was asked after the one before it, are
 * believed: nobody asks for a second then, and after that one request at a
 * time, with pauses that double up to eight seconds, until an answer comes in
 * time.  Questions that one short stall has caught together count once.  A
 * connection that is new is asked at once.
 */


#include "ngx_gate_ask.h"
#include "ngx_gate_script.h"
#include "ngx_gate_session.h"


#define NGX_GATE_ASK_PENDING    1024   /* questions without a reply */
#define NGX_GATE_ASK_ARGS       5      /* of each limit, in take.lua */
#define NGX_GATE_ASK_REPLY      3      /* of each limit, in its reply */
#define NGX_GATE_ASK_KEY        (512 + sizeof("limit::") + NGX_GATE_NAME_LEN  \
                                 + 16)
#define NGX_GATE_ASK_ID         8
#define NGX_GATE_ASK_NODES      34     /* where they are in a slot's word */

#define NGX_GATE_ASK_STRIKES    3
#define NGX_GATE_ASK_PAUSE      1000   /* ms */
#define NGX_GATE_ASK_PAUSE_MAX  8000
#define NGX_GATE_ASK_TRY        1000   /* ms, to be allowed to ask at all */
#define NGX_GATE_ASK_DOUBT      3000   /* ms without a connection, while the
                                          agent has one */
#define NGX_GATE_ASK_SAY        60000  /* ms, between lines of a node */

/* what a reply came to, beside NGX_OK, NGX_BUSY: nothing was done */

#define NGX_GATE_ASK_UNKNOWN    NGX_ERROR
#define NGX_GATE_ASK_REFUSED    NGX_DECLINED


struct ngx_gate_ask_s {
    ngx_queue_t                queue;
    ngx_event_t                timer;
    ngx_gate_ask_pt            handler;
    void                      *data;
    ngx_msec_t                 given;
    int64_t                    sent;       /* ns, monotonic */
    ngx_msec_t                 timeout;
    unsigned                   waits:1;    /* somebody */
    unsigned                   decided:1;  /* here */
    unsigned                   admitted:1;
    ngx_uint_t                 n;
    int64_t                    debts[NGX_GATE_ASK_LIMITS];
    unsigned                   nodes[NGX_GATE_ASK_LIMITS];
    ngx_gate_ask_limit_t       limits[1];
};


/* what this process has */

typedef struct {
    ngx_gate_node_t           *node;
    ngx_gate_redis_t          *redis;
    ngx_gate_fleet_t           status;     /* nobody else looks at it */
    ngx_log_t                 *log;
    uint32_t                   generation;
    ngx_queue_t                asks;
    ngx_connection_t           dummy;      /* what debug builds expect in an
                                              event */
    ngx_msec_t                 tried;      /* whether we may ask */
    unsigned                   trying:1;
    unsigned                   may:1;
    unsigned                   named:1;    /* keys have the fleet's names */
    unsigned                   probing:1;
    ngx_uint_t                 strikes;
    ngx_msec_t                 struck;     /* the last time */
    ngx_uint_t                 trips;      /* pauses in a row */
    ngx_msec_t                 until;
} ngx_gate_asker_t;


static ngx_uint_t ngx_gate_ask_wanted(ngx_gate_node_t *node);
static void ngx_gate_ask_ready(void *data);
static void ngx_gate_ask_lost(void *data);
static void ngx_gate_ask_try(ngx_gate_asker_t *a);
static void ngx_gate_ask_tried(void *data, redisReply *reply);
static ngx_int_t ngx_gate_ask_possible(ngx_gate_asker_t *a,
    ngx_gate_limit_conf_t *lc);
static ngx_int_t ngx_gate_ask_send(ngx_gate_asker_t *a, ngx_gate_ask_t *ask);
static int64_t ngx_gate_ask_debt(ngx_gate_ask_limit_t *l);
static ngx_int_t ngx_gate_ask_known(ngx_gate_ask_limit_t *l,
    gate_limit_env_t *env, int64_t *rest, unsigned *nodes);
static void ngx_gate_ask_timeout(ngx_event_t *ev);
static void ngx_gate_ask_reply(void *data, redisReply *reply);
static ngx_int_t ngx_gate_ask_read(ngx_gate_ask_t *ask, redisReply *reply);
static void ngx_gate_ask_answer(ngx_gate_ask_t *ask, ngx_int_t rc);
static void ngx_gate_ask_declined(ngx_gate_ask_t *ask);
static void ngx_gate_ask_settle(ngx_gate_ask_t *ask, ngx_int_t rc);
static void ngx_gate_ask_unknown(ngx_gate_ask_limit_t *l);
static void ngx_gate_ask_free(ngx_gate_ask_t *ask);
static void ngx_gate_ask_in_time(ngx_gate_asker_t *a);
static void ngx_gate_ask_late(ngx_gate_asker_t *a, ngx_gate_ask_t *ask);
static void ngx_gate_ask_say(ngx_gate_asker_t *a, const char *why);


static ngx_gate_redis_handlers_t  ngx_gate_ask_handlers = {
    ngx_gate_ask_ready,
    ngx_gate_ask_lost,
    NULL,
    NGX_GATE_ASK_PENDING
};

static ngx_gate_asker_t  ngx_gate_asker;


ngx_int_t
ngx_gate_ask_start(ngx_gate_node_t *node, ngx_log_t *log)
{
    ngx_gate_asker_t  *a;

    a = &ngx_gate_asker;

    /* a single process goes on with a new configuration */

    ngx_gate_ask_stop();

    a->node = node;
    a->generation = node->generation;

    if (!ngx_gate_ask_wanted(node)) {
        return NGX_OK;
    }

    ngx_memzero(a, sizeof(ngx_gate_asker_t));

    a->node = node;
    a->generation = node->generation;
    a->log = log;
    a->dummy.fd = (ngx_socket_t) -1;

    ngx_queue_init(&a->asks);
    ngx_gate_scripts_init();

    a->redis = ngx_gate_redis_open(node->redis, &ngx_gate_ask_handlers, a,
                                   &a->status, log);

    return a->redis ? NGX_OK : NGX_ERROR;
}


static ngx_uint_t
ngx_gate_ask_wanted(ngx_gate_node_t *node)
{
    ngx_uint_t               i;
    ngx_gate_limit_conf_t  **lcp;

    lcp = node->limits.elts;

    for (i = 0; node->redis && i < node->limits.nelts; i++) {
        if (lcp[i]->sync == NGX_GATE_SYNC_EXACT) {
            return 1;
        }
    }

    return 0;
}


void
ngx_gate_ask_stop(void)
{
    ngx_queue_t       *q;
    ngx_gate_ask_t    *ask;
    ngx_gate_asker_t  *a;

    a = &ngx_gate_asker;

    if (a->redis == NULL) {
        return;
    }

    ngx_gate_redis_close(a->redis);
    a->redis = NULL;

    /* the session tells nobody of them any more */

    while (!ngx_queue_empty(&a->asks)) {
        q = ngx_queue_head(&a->asks);
        ask = ngx_queue_data(q, ngx_gate_ask_t, queue);

        if (!ngx_exiting && !ngx_terminate && !ngx_quit) {
            ngx_gate_ask_declined(ask);
        }

        ngx_gate_ask_settle(ask, NGX_GATE_ASK_UNKNOWN);
        ngx_gate_ask_free(ask);
    }
}


static void
ngx_gate_ask_ready(void *data)
{
    ngx_gate_asker_t *a = data;

    ngx_gate_ask_in_time(a);
    ngx_gate_ask_try(a);
}


static void
ngx_gate_ask_lost(void *data)
{
    ngx_gate_asker_t *a = data;

    a->may = 0;
    a->trying = 0;
    a->probing = 0;
}


/*
 * The script without a key does nothing.  After that Redis knows it, so that
 * no thousand questions have to bring its text along, and we are allowed to
 * run it.
 */

static void
ngx_gate_ask_try(ngx_gate_asker_t *a)
{
    ngx_str_t  argv[1];

    if (a->trying) {
        return;
    }

    ngx_str_set(&argv[0], "-");

    a->tried = ngx_current_msec;

    if (ngx_gate_redis_script(a->redis, NGX_GATE_SCRIPT_TAKE, 0, 1, argv,
                              ngx_gate_ask_tried, a)
        == NGX_OK)
    {
        a->trying = 1;
    }
}


static void
ngx_gate_ask_tried(void *data, redisReply *reply)
{
    ngx_gate_asker_t *a = data;

    a->trying = 0;

    if (reply && reply->type == REDIS_REPLY_ARRAY) {
        a->may = 1;
    }
}


/* Whether a question makes sense now; NGX_AGAIN: one, to see if it does. */

static ngx_int_t
ngx_gate_ask_possible(ngx_gate_asker_t *a, ngx_gate_limit_conf_t *lc)
{
    ngx_gate_fleet_t  *fleet;

    if (a->node != lc->node || a->generation != lc->node->generation) {
        (void) ngx_gate_ask_start(lc->node, ngx_cycle->log);
    }

    if (a->redis == NULL) {
        return NGX_DECLINED;
    }

    if (!ngx_gate_redis_ready(a->redis)) {
        fleet = &a->node->sh->fleet;

        if (ngx_gate_peek(&fleet->joined) && a->status.error_at
            && ngx_gate_now() - ngx_gate_peek(&fleet->connected_since)
               > NGX_GATE_ASK_DOUBT)
        {
            /* the agent has a connection, and knows nothing of ours */

            ngx_gate_ask_say(a, a->status.error);
        }

        return NGX_DECLINED;
    }

    if (!a->may) {

        if (ngx_current_msec - a->tried >= NGX_GATE_ASK_TRY) {
            ngx_gate_ask_say(a, a->status.error);
            ngx_gate_ask_try(a);
        }

        return NGX_DECLINED;
    }

    /* before the fleet's seed is here, keys would have names of our own */

    if (!a->named) {

        if (!ngx_gate_load(&lc->sh->online)
            && !ngx_gate_peek(&lc->sh->acked_msec))
        {
            return NGX_DECLINED;
        }

        a->named = 1;
    }

    if (a->trips == 0) {
        return NGX_OK;
    }

    if (a->probing
        || (ngx_msec_int_t) (ngx_current_msec - a->until) < 0)
    {
        return NGX_DECLINED;
    }

    return NGX_AGAIN;
}


ngx_gate_ask_t *
ngx_gate_ask(ngx_gate_ask_limit_t *limits, ngx_uint_t n, ngx_msec_t timeout,
    ngx_gate_ask_pt handler, void *data)
{
    ngx_int_t          rc;
    ngx_uint_t         i;
    ngx_gate_ask_t    *ask;
    ngx_gate_asker_t  *a;

    a = &ngx_gate_asker;

    if (n == 0 || n > NGX_GATE_ASK_LIMITS) {
        return NULL;
    }

    rc = ngx_gate_ask_possible(a, limits[0].lc);

    if (rc == NGX_DECLINED) {
        return NULL;
    }

    ask = ngx_alloc(sizeof(ngx_gate_ask_t)
                    + (n - 1) * sizeof(ngx_gate_ask_limit_t), a->log);
    if (ask == NULL) {
        return NULL;
    }

    ngx_memzero(ask, sizeof(ngx_gate_ask_t));
    ngx_memcpy(ask->limits, limits, n * sizeof(ngx_gate_ask_limit_t));

    ask->n = n;
    ask->handler = handler;
    ask->data = data;
    ask->given = ngx_current_msec;
    ask->sent = ngx_gate_nsec();
    ask->timeout = timeout;
    ask->waits = 1;

    if (ngx_gate_ask_send(a, ask) != NGX_OK) {
        ngx_free(ask);
        return NULL;
    }

    a->probing = (rc == NGX_AGAIN);

    for (i = 0; i < n; i++) {
        ngx_gate_limit_counts(limits[i].lc)->asked++;
    }

    ngx_queue_insert_tail(&a->asks, &ask->queue);

    /*
     * Not cancelable: a worker that retires answers the request first, even
     * if Redis does not.
     */

    ask->timer.handler = ngx_gate_ask_timeout;
    ask->timer.data = &a->dummy;
    ask->timer.log = a->log;

    ngx_add_timer(&ask->timer, timeout);

    return ask;
}


static ngx_int_t
ngx_gate_ask_send(ngx_gate_asker_t *a, ngx_gate_ask_t *ask)
{
    u_char                  keys[NGX_GATE_ASK_LIMITS][NGX_GATE_ASK_KEY];
    u_char                  args[(NGX_GATE_ASK_LIMITS * NGX_GATE_ASK_ARGS + 1)
                                 * NGX_INT64_LEN],
                           *p;
    int64_t                 values[NGX_GATE_ASK_ARGS];
    ngx_str_t               argv[NGX_GATE_ASK_LIMITS * (1 + NGX_GATE_ASK_ARGS)
                                 + 1],
                           *arg;
    ngx_uint_t              i, k;
    ngx_gate_ask_limit_t   *l;
    ngx_gate_redis_conf_t  *conf;

    conf = a->node->redis;
    arg = argv;

    for (i = 0; i < ask->n; i++) {
        l = &ask->limits[i];

        arg->data = keys[i];
        arg->len = ngx_snprintf(keys[i], NGX_GATE_ASK_KEY,
                                "%Vlimit:%V:%016xL", &conf->data,
                                &l->lc->name, l->take.hash)
                   - keys[i];
        arg++;
    }

    arg->data = args;
    p = ngx_sprintf(args, "%uD",
                    ngx_max(ngx_gate_peek(&a->node->sh->fleet.alive_nodes),
                            1));
    arg->len = p - args;
    arg++;

    for (i = 0; i < ask->n; i++) {
        l = &ask->limits[i];

        arg->data = p;
        arg->len = NGX_GATE_ASK_ID;
        arg++;

        p = ngx_sprintf(p, "%016xL", l->lc->sh->boot);

        values[1] = l->take.cost;
        values[2] = l->take.rate.interval;
        values[3] = l->take.rate.capacity;
        values[4] = ngx_gate_ask_debt(l);

        for (k = 1; k < NGX_GATE_ASK_ARGS; k++) {
            arg->data = p;
            p = ngx_sprintf(p, "%L", values[k]);
            arg->len = p - arg->data;
            arg++;
        }
    }

    return ngx_gate_redis_script(a->redis, NGX_GATE_SCRIPT_TAKE, ask->n,
                                 (ngx_uint_t) (arg - argv), argv,
                                 ngx_gate_ask_reply, ask);
}


/*
 * What Redis is to restore if it has forgotten the key.  What is yet to be
 * sent will be added there anyway; and a debt that grew faster because Redis
 * was away is not what it is owed.
 */

static int64_t
ngx_gate_ask_debt(ngx_gate_ask_limit_t *l)
{
    int64_t           rest;
    unsigned          nodes;
    gate_limit_env_t  env;

    ngx_gate_limit_env(l->lc, &env);

    if (env.away || ngx_gate_ask_known(l, &env, &rest, &nodes) != NGX_OK) {
        return -1;
    }

    return rest > 0 ? rest : -1;
}


/*
 * What the key owes without what is yet to be sent, and who spends from it.
 * NGX_OK; NGX_DECLINED: nothing is known of it.
 */

static ngx_int_t
ngx_gate_ask_known(ngx_gate_ask_limit_t *l, gate_limit_env_t *env,
    int64_t *rest, unsigned *nodes)
{
    int64_t             unsent;
    uint64_t            word;
    gate_limit_take_t   take;
    gate_limit_slot_t  *slot;

    take = l->take;
    take.cost = 0;

    if (gate_limit_peek(l->lc->table, env, &take) == GATE_LIMIT_FULL
        || take.v.reset_after <= 0
        || take.slot >= gate_limit_slots(l->lc->table))
    {
        return NGX_DECLINED;
    }

    slot = gate_limit_slot(l->lc->table, take.slot);

    if (ngx_gate_load(&slot->hash) != take.hash) {
        return NGX_DECLINED;
    }

    word = ngx_gate_load(&slot->word);
    unsent = (int64_t) (word & (2 * (uint64_t) GATE_LIMIT_UNSENT_MAX + 1))
             - (GATE_LIMIT_UNSENT_MAX + 1);

    *rest = take.v.reset_after - unsent * take.rate.interval;
    *nodes = (unsigned) (word >> NGX_GATE_ASK_NODES) & GATE_LIMIT_NODES_MAX;

    return NGX_OK;
}


static void
ngx_gate_ask_timeout(ngx_event_t *ev)
{
    ngx_uint_t       i;
    ngx_gate_ask_t  *ask;

    ask = ngx_queue_data(ev, ngx_gate_ask_t, timer);

    for (i = 0; i < ask->n; i++) {
        ngx_gate_limit_counts(ask->limits[i].lc)->timeouts++;
    }

    ngx_gate_ask_late(&ngx_gate_asker, ask);
    ngx_gate_ask_declined(ask);
}


/* It waits no longer, and is decided here. */

static void
ngx_gate_ask_declined(ngx_gate_ask_t *ask)
{
    if (!ask->waits) {
        return;
    }

    ask->waits = 0;

    if (ask->timer.timer_set) {
        ngx_del_timer(&ask->timer);
    }

    ask->handler(ask->data, NGX_DECLINED, ask->limits, ask->n);
}


void
ngx_gate_ask_decided(ngx_gate_ask_t *ask, ngx_uint_t admitted)
{
    ask->decided = 1;
    ask->admitted = (admitted != 0);
}


void
ngx_gate_ask_drop(ngx_gate_ask_t *ask)
{
    ask->waits = 0;

    if (ask->timer.timer_set) {
        ngx_del_timer(&ask->timer);
    }
}


static void
ngx_gate_ask_reply(void *data, redisReply *reply)
{
    ngx_gate_ask_t *ask = data;

    ngx_int_t   rc;
    ngx_uint_t  i;

    rc = ngx_gate_ask_read(ask, reply);

    if (reply == NULL && ask->waits) {
        for (i = 0; i < ask->n; i++) {
            ngx_gate_limit_counts(ask->limits[i].lc)->timeouts++;
        }
    }

    if (reply && ngx_current_msec - ask->given <= ask->timeout) {
        ngx_gate_ask_in_time(&ngx_gate_asker);

    } else if (reply && !ask->decided) {
        ngx_gate_ask_late(&ngx_gate_asker, ask);
    }

    if (ask->waits && (rc == NGX_OK || rc == NGX_BUSY)) {
        ngx_gate_ask_settle(ask, rc);
        ngx_gate_ask_answer(ask, rc);

    } else {
        ngx_gate_ask_declined(ask);
        ngx_gate_ask_settle(ask, rc);
    }

    ngx_gate_ask_free(ask);
}


/* { admitted, limited, debt, nodes, ... } */

static ngx_int_t
ngx_gate_ask_read(ngx_gate_ask_t *ask, redisReply *reply)
{
    size_t         i;
    int64_t        most;
    redisReply   **e;
    gate_rate_t   *rate;

    if (reply == NULL) {
        return NGX_GATE_ASK_UNKNOWN;
    }

    if (reply->type == REDIS_REPLY_ERROR) {

        /* the session has counted it; nothing was written */

        return NGX_GATE_ASK_REFUSED;
    }

    if (reply->type != REDIS_REPLY_ARRAY
        || reply->elements != 1 + ask->n * NGX_GATE_ASK_REPLY)
    {
        goto odd;
    }

    for (i = 0; i < reply->elements; i++) {
        if (reply->element[i]->type != REDIS_REPLY_INTEGER) {
            goto odd;
        }
    }

    for (i = 0; i < ask->n; i++) {
        e = &reply->element[1 + i * NGX_GATE_ASK_REPLY];
        rate = &ask->limits[i].take.rate;
        most = rate->interval * rate->capacity * GATE_GCRA_CLAMP;

        ask->limits[i].take.v.limited = (e[0]->integer != 0);
        ask->debts[i] = ngx_min(ngx_max(e[1]->integer, 0), most);
        ask->nodes[i] = (unsigned) ngx_min(ngx_max(e[2]->integer, 1),
                                           GATE_LIMIT_NODES_MAX);
    }

    return reply->element[0]->integer == 1 ? NGX_OK : NGX_BUSY;

odd:

    ngx_gate_redis_error(ngx_gate_asker.redis, NGX_GATE_ERROR_PROTOCOL,
                         "take",
                         ngx_gate_literal("a reply of another shape"));

    return NGX_GATE_ASK_UNKNOWN;
}


/* To who waits: what Redis said, as if it had been decided here. */

static void
ngx_gate_ask_answer(ngx_gate_ask_t *ask, ngx_int_t rc)
{
    int                 limited;
    int64_t             tat;
    ngx_uint_t          i;
    gate_limit_take_t  *take;

    for (i = 0; i < ask->n; i++) {
        take = &ask->limits[i].take;

        tat = ask->debts[i];
        limited = take->v.limited;

        /* of those that admit it, the cost is in the debt or not taken */

        (void) gate_gcra_take(&take->rate, &tat, 0, limited ? take->cost : 0,
                              &take->v);

        take->v.limited = limited;
    }

    ask->waits = 0;

    if (ask->timer.timer_set) {
        ngx_del_timer(&ask->timer);
    }

    ask->handler(ask->data, rc, ask->limits, ask->n);
}


/* The table learns what became of it. */

static void
ngx_gate_ask_settle(ngx_gate_ask_t *ask, ngx_int_t rc)
{
    int64_t                unsent;
    ngx_uint_t             i, counted;
    gate_limit_env_t       env;
    gate_limit_take_t      take;
    ngx_gate_ask_limit_t  *l;

    for (i = 0; i < ask->n; i++) {
        l = &ask->limits[i];

        /* what was admitted uncounted is not to be taken out either */

        counted = ask->admitted && l->take.charged;

        if (rc == NGX_GATE_ASK_UNKNOWN && counted) {
            ngx_gate_ask_unknown(l);
        }

        if (rc != NGX_OK && rc != NGX_BUSY) {
            continue;
        }

        /* whatever was decided here, Redis's word is to be the only one */

        unsent = 0;

        if (rc == NGX_OK && ask->decided && (counted || !ask->admitted)) {
            unsent = -l->take.cost;
        }

        /* the way of the answer is nobody's debt */

        ngx_gate_limit_env(l->lc, &env);
        env.now = ask->sent;

        take = l->take;

        (void) gate_limit_set(l->lc->table, &env, &take, ask->debts[i],
                              ask->nodes[i], unsent);
    }
}


/* The debt stays, but is not sent. */

static void
ngx_gate_ask_unknown(ngx_gate_ask_limit_t *l)
{
    int64_t            rest;
    unsigned           nodes;
    gate_limit_env_t   env;
    gate_limit_take_t  take;

    ngx_gate_limit_env(l->lc, &env);

    if (ngx_gate_ask_known(l, &env, &rest, &nodes) != NGX_OK) {
        return;
    }

    take = l->take;

    (void) gate_limit_set(l->lc->table, &env, &take,
                          rest + take.cost * take.rate.interval, nodes,
                          -take.cost);
}


static void
ngx_gate_ask_free(ngx_gate_ask_t *ask)
{
    if (ask->timer.timer_set) {
        ngx_del_timer(&ask->timer);
    }

    ngx_queue_remove(&ask->queue);
    ngx_free(ask);
}


static void
ngx_gate_ask_in_time(ngx_gate_asker_t *a)
{
    a->strikes = 0;
    a->trips = 0;
    a->probing = 0;
}


static void
ngx_gate_ask_late(ngx_gate_asker_t *a, ngx_gate_ask_t *ask)
{
    ngx_msec_t  pause;

    if (a->strikes && (ngx_msec_int_t) (ask->given - a->struck) < 0) {
        return;
    }

    a->struck = ngx_current_msec;
    a->strikes++;

    if (a->strikes < NGX_GATE_ASK_STRIKES && a->trips == 0) {
        return;
    }

    pause = ngx_min((ngx_msec_t) NGX_GATE_ASK_PAUSE << ngx_min(a->trips, 8),
                    NGX_GATE_ASK_PAUSE_MAX);

    a->until = ngx_current_msec + pause;
    a->probing = 0;
    a->trips++;

    ngx_gate_ask_say(a, "no answer in time");
}


/* One line a minute, whichever worker it comes from. */

static void
ngx_gate_ask_say(ngx_gate_asker_t *a, const char *why)
{
    uint64_t  now, said, *shared;

    now = ngx_current_msec;
    shared = &a->node->sh->fleet.alone_said;
    said = ngx_gate_peek(shared);

    if ((said && now - said < NGX_GATE_ASK_SAY)
        || !ngx_gate_cas(shared, &said, now))
    {
        return;
    }

    ngx_log_error(NGX_LOG_WARN, a->log, 0,
                  "gate: exact limits are decided without Redis for a while: "
                  "%s", why);
}


/*
 * Copyright (C) nginx-gate authors
 */


/* The simulation itself, see gcra_merge.h; included by the driver. */


#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>


#define MERGE_NEVER     (INT64_MIN / 4)
#define MERGE_STALE     MERGE_SEC
#define MERGE_TIMEOUT   (MERGE_SEC / 2)
#define MERGE_DRAIN     (5 * MERGE_SEC)
#define MERGE_SPENT     (3 * MERGE_SEC)
#define MERGE_OLD       (10 * MERGE_SEC)
#define MERGE_EPOCH     (INT64_C(1763740000) * MERGE_SEC)   /* Redis's */

enum {
    MERGE_ARRIVE = 0,
    MERGE_TIMER,                       /* each sync= */
    MERGE_WAKE,                        /* something is to be sent early */
    MERGE_APPLY,                       /* a batch is at Redis */
    MERGE_REPLY,
    MERGE_LATE,                        /* there was no reply */
    MERGE_DOWN,
    MERGE_UP,
    MERGE_LEFT,                        /* a node notices */
    MERGE_BACK
};


typedef struct {
    int64_t             at;
    uint64_t            order;
    int                 kind;
    unsigned            node;
    uint64_t            seq;           /* of a batch, or of a node's wakes */
    uint64_t            try;           /* connection that it belongs to */
    int64_t             sent;
} merge_event_t;


typedef struct {
    gate_limit_table_t *table;
    uint8_t             cls;
    int64_t             clock;         /* its time is simulated time and so
                                          much, */
    double              rate;          /* and drifts */

    int                 online;
    int                 joining;       /* there, but not settled */
    int                 waking;
    int64_t             lost_at;
    int64_t             last;          /* batch was written */

    int                 known;         /* offset is */
    int64_t             offset;        /* of Redis's clock, to the node's */

    /* the batch, frozen while n is not 0 */

    size_t              n;
    int                 flying;
    uint64_t            seq;
    uint64_t            try;
    int64_t             written;
    int64_t             base;          /* that in Redis's clock, 0: not known */
    gate_limit_debt_t   debts[MERGE_KEYS];

    /* the reply that is on its way */

    int64_t             told_now;
    int64_t             told_debt[MERGE_KEYS];
    unsigned            told_nodes[MERGE_KEYS];
} merge_node_t;


/* a budget, as it is at Redis, and as it should be */

typedef struct {
    int                 known;
    int64_t             tat;           /* in Redis's clock */
    int64_t             spent[MERGE_NODES];

    int64_t             truth;         /* of one counter */
    int64_t             merged;        /* of all that was admitted */
    int64_t             admitted;      /* units, here .. */
    int64_t             applied;       /* .. and at Redis */
    int64_t             unacked[MERGE_NODES];
    int64_t             last;          /* admission */
} merge_key_t;


static struct {
    const merge_conf_t *conf;
    merge_result_t     *res;
    int64_t             now;
    int                 up;
    int64_t             up_at;
    int64_t             longest;       /* trip */
    uint64_t            random;
    uint64_t            applied[MERGE_NODES];   /* seq */
    merge_node_t        nodes[MERGE_NODES];
    merge_key_t         keys[MERGE_KEYS];

    merge_event_t      *heap;
    size_t              n;
    size_t              room;
    uint64_t            order;
} merge;


/* xorshift64*; in (0, 1] */

static double
merge_uniform(void)
{
    merge.random ^= merge.random >> 12;
    merge.random ^= merge.random << 25;
    merge.random ^= merge.random >> 27;

    return (double) (((merge.random * UINT64_C(2685821657736338717)) >> 11)
                     + 1) * 0x1p-53;
}


static int64_t
merge_exponential(double mean)
{
    return (int64_t) (-mean * log(merge_uniform()));
}


static int
merge_sooner(const merge_event_t *a, const merge_event_t *b)
{
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}


static void
merge_post(int64_t at, int kind, unsigned node, uint64_t seq, uint64_t try,
    int64_t sent)
{
    size_t         i;
    merge_event_t  e;

    e.at = at;
    e.order = merge.order++;
    e.kind = kind;
    e.node = node;
    e.seq = seq;
    e.try = try;
    e.sent = sent;

    if (merge.n == merge.room) {
        merge.room = merge.room ? merge.room * 2 : 256;
        merge.heap = realloc(merge.heap, merge.room * sizeof(merge_event_t));
        assert(merge.heap != NULL);
    }

    for (i = merge.n++; i != 0; i = (i - 1) / 2) {
        if (!merge_sooner(&e, &merge.heap[(i - 1) / 2])) {
            break;
        }

        merge.heap[i] = merge.heap[(i - 1) / 2];
    }

    merge.heap[i] = e;
}


static merge_event_t
merge_next(void)
{
    size_t         i, child;
    merge_event_t  first, last;

    first = merge.heap[0];
    last = merge.heap[--merge.n];

    for (i = 0; (child = 2 * i + 1) < merge.n; i = child) {

        if (child + 1 < merge.n
            && merge_sooner(&merge.heap[child + 1], &merge.heap[child]))
        {
            child++;
        }

        if (!merge_sooner(&merge.heap[child], &last)) {
            break;
        }

        merge.heap[i] = merge.heap[child];
    }

    merge.heap[i] = last;

    return first;
}


static int64_t
merge_trip(void)
{
    double   half;
    int64_t  t;

    half = (double) merge.conf->rtt / 2;
    t = (int64_t) (half / 2) + merge_exponential(half / 2);

    merge.longest = t > merge.longest ? t : merge.longest;

    return t;
}


static int64_t
merge_clock(const merge_node_t *node)
{
    return merge.now + node->clock
           + (int64_t) ((double) merge.now * node->rate);
}


/* whole us, as Redis tells it, in ns */

static int64_t
merge_redis_clock(void)
{
    return (merge.now + MERGE_EPOCH) / 1000 * 1000;
}


static void
merge_env(const merge_node_t *node, gate_limit_env_t *env)
{
    env->now = merge_clock(node);
    env->shared = 1;
    env->away = node->online ? 0 : GATE_LIMIT_AWAY_SHARE;
    env->nodes = merge.conf->nodes;
    env->stale = MERGE_STALE;
    env->asof = env->now - (node->online ? 0 : merge.now - node->lost_at);
}


static void
merge_write(unsigned i)
{
    merge_node_t  *node;

    node = &merge.nodes[i];

    node->written = merge_clock(node);
    node->base = node->known ? node->written + node->offset : 0;
    node->flying = 1;
    node->last = merge.now;

    merge_post(merge.now + merge_trip(), MERGE_APPLY, i, node->seq, node->try,
               node->written);
    merge_post(merge.now + MERGE_TIMEOUT, MERGE_LATE, i, node->seq,
               node->try, 0);
}


static void
merge_send(unsigned i, int flush)
{
    int64_t        at;
    merge_node_t  *node;

    node = &merge.nodes[i];

    if (node->flying || !(node->online || (node->joining && node->n))) {
        return;
    }

    if (node->n == 0) {
        at = node->last + merge.conf->space;

        if (flush && merge.now < at) {

            if (!node->waking) {
                node->waking = 1;
                merge_post(at, MERGE_WAKE, i, 0, 0, 0);
            }

            return;
        }

        node->n = gate_limit_collect(node->table, merge_clock(node), flush,
                                     node->debts, MERGE_KEYS, MERGE_KEYS * 4);
        if (node->n == 0) {
            return;
        }

        node->seq++;
    }

    merge_write(i);
}


/* what went before is all that there is: it is never less than the truth */

static void
merge_compare(const merge_key_t *key)
{
    int64_t  tat, units, slack;

    if (merge.conf->loss_for) {
        return;
    }

    units = key->admitted - key->applied;
    tat = key->tat - MERGE_EPOCH;
    tat = (tat > merge.now ? tat : merge.now)
          + units * merge.conf->policy.rate.interval;

    slack = 2 * merge.longest + 1000
            + (int64_t) (60e9 * merge.conf->ppm / 1e6);

    if (tat + slack < key->merged) {
        merge.res->below++;

        if (key->merged - tat > merge.res->below_ns) {
            merge.res->below_ns = key->merged - tat;
        }
    }
}


static void
merge_add(unsigned i, merge_key_t *key, const gate_limit_debt_t *d)
{
    int64_t        now, base, told, tat, most;
    merge_node_t  *node;

    node = &merge.nodes[i];
    now = merge_redis_clock();
    base = now;

    if (node->base) {
        base = node->base < now ? node->base : now;
    }

    /* also what has been paid: others may have spent at the same time */

    told = d->tat - node->written;
    told = base + (told > -MERGE_OLD ? told : -MERGE_OLD);
    tat = key->known ? key->tat + d->unsent * merge.conf->policy.rate.interval
                     : told;
    tat = tat > told ? tat : told;

    most = now + MERGE_SEC + (2 + (int64_t) merge.conf->nodes)
                             * merge.conf->policy.rate.interval
                             * merge.conf->policy.rate.capacity;

    if (tat > most) {
        merge.res->clamped++;
        tat = most;
    }

    key->tat = tat;
    key->known = 1;
    key->applied += d->unsent;
    merge.res->acked += d->unsent;

    if (d->unsent > 0) {
        key->spent[i] = merge.now;
    }

    merge_compare(key);
}


static void
merge_apply(const merge_event_t *e)
{
    size_t         k;
    unsigned       i, n;
    merge_key_t   *key;
    merge_node_t  *node;

    node = &merge.nodes[e->node];

    if (!merge.up || e->seq != node->seq || node->n == 0) {
        return;
    }

    if (merge_uniform() < merge.conf->lost / 2) {
        return;
    }

    for (k = 0; k < node->n; k++) {
        key = &merge.keys[node->debts[k].hash & 0xff];

        if (e->seq > merge.applied[e->node]) {
            merge_add(e->node, key, &node->debts[k]);
        }

        n = 0;

        for (i = 0; i < merge.conf->nodes; i++) {
            n += merge.now - key->spent[i] <= MERGE_SPENT;
        }

        node->told_debt[k] = key->tat - merge_redis_clock();
        node->told_nodes[k] = n;
    }

    merge.res->batches += e->seq > merge.applied[e->node];
    merge.applied[e->node] = e->seq;
    node->told_now = merge_redis_clock();

    if (merge_uniform() >= merge.conf->lost / 2) {
        merge_post(merge.now + merge_trip(), MERGE_REPLY, e->node, e->seq,
                   e->try, e->sent);
    }
}


/* What a reply proves of the clocks: Redis's time was told in between. */

static void
merge_set_clock(merge_node_t *node, int64_t sent)
{
    int64_t  low, high;

    low = node->told_now - merge_clock(node);
    high = node->told_now + 1000 - sent;

    if (!node->known) {
        node->known = 1;
        node->offset = low + (high - low) / 2;
    }

    if (node->offset < low) {
        node->offset = low;
    }

    if (node->offset > high) {
        node->offset = high;
    }
}


static void merge_join(unsigned i);


static void
merge_reply(const merge_event_t *e)
{
    size_t              k;
    int64_t             at;
    merge_node_t       *node;
    gate_limit_debt_t  *d;

    node = &merge.nodes[e->node];

    if (e->try != node->try || e->seq != node->seq || !node->flying) {
        return;
    }

    merge_set_clock(node, e->sent);

    at = node->told_now - node->offset;

    for (k = 0; k < node->n; k++) {
        d = &node->debts[k];

        /* coming back, it goes on from what it knows itself */

        gate_limit_acked(node->table, d, at,
                         node->joining ? d->tat - at : node->told_debt[k],
                         node->joining ? 0 : node->told_nodes[k]);

        merge.keys[d->hash & 0xff].unacked[e->node] -= d->unsent;
    }

    node->n = 0;
    node->flying = 0;

    if (node->joining) {
        merge_join(e->node);
        return;
    }

    merge_send(e->node, 1);
}


static void
merge_late(const merge_event_t *e)
{
    merge_node_t  *node;

    node = &merge.nodes[e->node];

    if (e->try != node->try || e->seq != node->seq || !node->flying) {
        return;
    }

    /* on a new connection, the same batch again */

    node->try++;
    node->flying = 0;
    merge.res->resent++;

    merge_send(e->node, 0);
}


/* Units that are unsent in a node, all keys. */

static int64_t
merge_unsent(merge_node_t *node)
{
    int64_t   sum;
    uint64_t  i, word;

    sum = 0;

    for (i = 0; i < gate_limit_slots(node->table); i++) {
        word = gate_limit_slot(node->table, i)->word;
        sum += word ? gate_limit_unsent_of(word) : 0;
    }

    return sum;
}


/* Redis is back: first what was on its way, then what is still owed. */

static void
merge_join(unsigned i)
{
    int64_t            before;
    uint64_t           at;
    merge_node_t      *node;
    gate_limit_env_t   env;

    node = &merge.nodes[i];

    if (!merge.up || node->online) {
        return;
    }

    node->joining = 1;

    if (node->n != 0) {
        merge_send(i, 0);
        return;
    }

    before = merge_unsent(node);
    merge_env(node, &env);
    at = 0;

    while (!gate_limit_settle(node->table, &env, &at, 16)) { /* void */ }

    merge.res->settled += before - merge_unsent(node);

    node->joining = 0;
    node->online = 1;

    merge_send(i, 0);
}


static void
merge_leave(unsigned i)
{
    merge_node_t  *node;

    node = &merge.nodes[i];

    node->online = 0;
    node->joining = 0;
    node->known = 0;
    node->flying = 0;
    node->lost_at = merge.now;
    node->try++;
}


static void
merge_down(int up)
{
    unsigned  i;

    merge.up = up;
    merge.up_at = merge.now;

    if (up && merge.conf->forget) {
        memset(merge.applied, 0, sizeof(merge.applied));

        for (i = 0; i < merge.conf->keys; i++) {
            merge.keys[i].known = 0;
        }
    }

    for (i = 0; i < merge.conf->nodes; i++) {
        merge_post(merge.now
                   + (int64_t) (up ? merge_uniform() * 1e9
                                   : 1e9 + merge_uniform() * 2e7),
                   up ? MERGE_BACK : MERGE_LEFT, i, 0, 0, 0);
    }
}


static void
merge_count(unsigned i, merge_key_t *key, const gate_limit_take_t *take)
{
    double              over, interval;
    int64_t             gap;
    unsigned            k;
    merge_result_t     *res;
    const gate_rate_t  *rate;

    res = merge.res;
    rate = &merge.conf->policy.rate;
    interval = (double) rate->interval;

    key->admitted += take->cost;
    key->unacked[i] += take->cost;
    key->merged = (key->merged > merge.now ? key->merged : merge.now)
                  + take->cost * rate->interval;

    res->admitted += take->cost;
    res->admitted_1s += merge.now >= MERGE_SEC ? take->cost : 0;
    res->minute[merge.now / (60 * MERGE_SEC)] += take->cost;

    if ((double) key->unacked[i] > res->unacked[i]) {
        res->unacked[i] = (double) key->unacked[i];
    }

    over = 0;

    for (k = 0; k < merge.conf->keys; k++) {
        over = fmax(over, (double) merge.keys[k].admitted
                          - (double) rate->capacity
                          - (double) merge.now / interval);
    }

    res->overshoot = fmax(res->overshoot, over);
    res->window = fmax(res->window, (double) (key->merged - merge.now)
                                    / interval - (double) rate->capacity);

    if (merge.up && key->last > merge.up_at) {
        gap = merge.now - key->last;
        res->silence = gap > res->silence ? gap : res->silence;
    }

    key->last = merge.now;
}


static void
merge_decide(unsigned i)
{
    int                 rc, truth;
    unsigned            k;
    gate_gcra_t         v;
    merge_key_t        *key;
    merge_node_t       *node;
    merge_result_t     *res;
    gate_limit_env_t    env;
    gate_limit_take_t   take;

    res = merge.res;
    node = &merge.nodes[i];
    k = (unsigned) (merge_uniform() * merge.conf->keys);
    k = k < merge.conf->keys ? k : 0;
    key = &merge.keys[k];

    take.hash = UINT64_C(0x9e3779b97f4a7c15) * (k + 1);
    take.hash = (take.hash & ~UINT64_C(0xff)) | k;
    take.rate = merge.conf->policy.rate;
    take.cls = node->cls;
    take.cost = merge.conf->cost;

    merge_env(node, &env);

    rc = gate_limit_take(node->table, &env, &take);
    truth = gate_gcra_take(&take.rate, &key->truth, merge.now, take.cost, &v);

    res->arrivals++;
    res->truth += truth ? 0 : take.cost;
    res->truth_refused += truth != 0;
    res->refused += rc != GATE_LIMIT_PASSED;
    res->displaced += rc != GATE_LIMIT_PASSED && !truth;
    res->full += rc == GATE_LIMIT_FULL;
    res->share += rc == GATE_LIMIT_LIMITED && take.share;

    if (rc == GATE_LIMIT_PASSED) {
        merge_count(i, key, &take);
    }

    if (take.flush && node->online && !node->waking && !node->flying) {
        node->waking = 1;
        merge_post(merge.now + merge_exponential((double) merge.conf->wake),
                   MERGE_WAKE, i, 0, 0, 0);
    }
}


static void
merge_arrive(unsigned i)
{
    double               period;
    unsigned             n;
    const merge_conf_t  *conf;

    conf = merge.conf;
    period = 1e9 / conf->offered;

    if (merge.now >= conf->time) {
        return;
    }

    switch (conf->pattern) {

    case MERGE_EVEN:
        merge_decide(i);
        break;

    case MERGE_POISSON:
        merge_decide(i);
        period = (double) merge_exponential(period);
        break;

    default:
        for (n = 0; n < conf->burst; n++) {
            merge_decide(i);
        }

        period = (double) merge_exponential(period * conf->burst);
    }

    merge_post(merge.now + (int64_t) period, MERGE_ARRIVE, i, 0, 0, 0);
}


static void
merge_event(const merge_event_t *e)
{
    switch (e->kind) {

    case MERGE_ARRIVE:
        merge_arrive(e->node);
        break;

    case MERGE_TIMER:
        merge_send(e->node, 0);
        merge_post(merge.now + merge.conf->sync, MERGE_TIMER, e->node, 0, 0,
                   0);
        break;

    case MERGE_WAKE:
        merge.nodes[e->node].waking = 0;
        merge_send(e->node, 1);
        break;

    case MERGE_APPLY:
        merge_apply(e);
        break;

    case MERGE_REPLY:
        merge_reply(e);
        break;

    case MERGE_LATE:
        merge_late(e);
        break;

    case MERGE_DOWN:
    case MERGE_UP:
        merge_down(e->kind == MERGE_UP);
        break;

    case MERGE_LEFT:
        merge_leave(e->node);
        break;

    default:
        merge_join(e->node);
    }
}


static void
merge_start(void)
{
    size_t               size;
    void                *mem;
    unsigned             i, k;
    merge_node_t        *node;
    const merge_conf_t  *conf;

    conf = merge.conf;

    for (k = 0; k < conf->keys; k++) {
        merge.keys[k].truth = MERGE_NEVER;
        merge.keys[k].merged = MERGE_NEVER;

        for (i = 0; i < conf->nodes; i++) {
            merge.keys[k].spent[i] = MERGE_NEVER;
        }
    }

    for (i = 0; i < conf->nodes; i++) {
        node = &merge.nodes[i];

        size = (gate_limit_size(0) + 63) / 64 * 64;
        mem = aligned_alloc(64, size);
        assert(mem != NULL);
        memset(mem, 0, size);

        node->table = gate_limit_init(mem, 0);
        assert(node->table != NULL);

        node->cls = gate_limit_class(node->table, &conf->policy.rate);
        node->clock = (int64_t) (merge_uniform() * 1e15);
        node->rate = (merge_uniform() - 0.5) * conf->ppm / 1e6;
        node->online = 1;
        node->last = MERGE_NEVER;

        merge_post((int64_t) (merge_uniform() * (double) conf->sync),
                   MERGE_TIMER, i, 0, 0, 0);

        if (i == 0 || !conf->one_node) {
            merge_post((int64_t) (merge_uniform() * 1e9 / conf->offered),
                       MERGE_ARRIVE, i, 0, 0, 0);
        }
    }

    merge.up = 1;

    if (conf->loss_for) {
        merge_post(conf->loss_from, MERGE_DOWN, 0, 0, 0, 0);
        merge_post(conf->loss_from + conf->loss_for, MERGE_UP, 0, 0, 0, 0);
    }
}


/*
 * Overshoot is at most what all nodes but one have unacknowledged at most,
 * see docs/limits.md; clocks are known to a round trip.
 */

static void
merge_bounds(void)
{
    double               wait, units, least, sum, capacity;
    unsigned             i;
    const merge_conf_t  *conf;

    conf = merge.conf;
    capacity = (double) conf->policy.rate.capacity;

    sum = 0;
    least = capacity;

    for (i = 0; i < conf->nodes; i++) {
        sum += merge.res->unacked[i];
        least = fmin(least, merge.res->unacked[i]);
    }

    units = 2 * (double) merge.longest
            / (double) conf->policy.rate.interval;

    merge.res->proved = sum - least + units;

    wait = (double) (conf->wake + conf->rtt
                     + (conf->rtt > conf->space ? conf->rtt : conf->space))
           / 1e9;

    units = capacity / 8 + (double) conf->cost
            * (1 + wait * conf->offered
               + (conf->pattern == MERGE_BURST ? conf->burst : 0));

    capacity += wait * 1e9 / (double) conf->policy.rate.interval;

    merge.res->derived = fmin(units, capacity)
                         * (conf->one_node ? 0 : conf->nodes - 1);
}


void
merge_run(const merge_conf_t *conf, merge_result_t *result)
{
    unsigned       i;
    merge_event_t  e;

    memset(result, 0, sizeof(merge_result_t));
    free(merge.heap);
    memset(&merge, 0, sizeof(merge));

    merge.conf = conf;
    merge.res = result;
    merge.random = (conf->seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
    result->overshoot = -INFINITY;
    result->window = -INFINITY;

    merge_start();

    while (merge.n != 0) {
        e = merge_next();
        merge.now = e.at;

        if (merge.now > conf->time + MERGE_DRAIN) {
            break;
        }

        merge_event(&e);
    }

    for (i = 0; i < conf->nodes; i++) {
        result->unsent += merge_unsent(&merge.nodes[i]);
        free(merge.nodes[i].table);
    }

    result->minutes = (unsigned) (conf->time / (60 * MERGE_SEC));
    result->budget = (double) conf->keys
                     * ((double) conf->policy.rate.capacity
                        + (double) conf->time
                          / (double) conf->policy.rate.interval);

    merge_bounds();
}

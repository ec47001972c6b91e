
/*
 * Copyright (C) nginx-gate authors
 */


/* The simulation itself, see gcra_merge.h; included by the driver. */


#include "gcra_merge_queue.h"

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

typedef struct {
    gate_limit_table_t *table;
    gate_rate_t         rate;
    uint8_t             cls;
    int64_t             clock;         /* its time is simulated time and so
                                          much, */
    double              drift;

    int                 online;
    int                 joining;       /* there, but not settled */
    int                 waking;
    int64_t             lost_at;
    int64_t             last;          /* batch was written */
    int64_t             whole;              /* the last batch of all */

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
    int64_t             tat;           /* in Redis's clock, */
    int64_t             interval;      /* reckoned in that rate */
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
    gate_rate_t         rate;          /* as it is now, or soon everywhere */
    int64_t             longest;       /* trip */
    uint64_t            applied[MERGE_NODES];   /* seq */
    merge_node_t        nodes[MERGE_NODES];
    merge_key_t         keys[MERGE_KEYS];
} merge;


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
           + (int64_t) ((double) merge.now * node->drift);
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


#define MERGE_WHOLE  INT64_C(500000000)


static void
merge_send(unsigned i, int flush)
{
    int            which;
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

        which = flush ? GATE_LIMIT_URGENT : GATE_LIMIT_NOTABLE;

        /* what is small waits for half a second at most */

        if (!flush && merge.now >= node->whole + MERGE_WHOLE) {
            node->whole = merge.now;
            which = GATE_LIMIT_ALL;
        }

        node->n = gate_limit_collect(node->table, merge_clock(node), which,
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

    if (merge.conf->loss_for || merge.conf->change) {
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
    gate_rate_t    rate;
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
    tat = told;

    rate = node->rate;
    (void) gate_limit_class_rate(node->table, d->cls, &rate);

    if (key->known) {

        /* the same units in another rate */

        if (key->interval != rate.interval && key->tat > now) {
            key->tat = now + (int64_t) ((double) (key->tat - now)
                                        / (double) key->interval
                                        * (double) rate.interval);
        }

        tat = key->tat + d->unsent * rate.interval;
        tat = tat > told ? tat : told;
    }

    most = now + MERGE_SEC
           + (2 + (int64_t) merge.conf->nodes) * rate.interval * rate.capacity;

    if (tat > most) {
        merge.res->clamped++;
        tat = most;
    }

    key->tat = tat;
    key->interval = rate.interval;
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


/* Units that come back from then on until the end. */

static double
merge_units(const merge_conf_t *conf, int64_t from)
{
    int64_t  change;

    change = conf->change ? conf->change : conf->time;
    change = change > from ? change : from;

    return (double) (change - from) / (double) conf->policy.rate.interval
           + (double) (conf->time - change)
             / (double) conf->other.rate.interval;
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
    rate = &merge.rate;
    interval = (double) rate->interval;

    key->admitted += take->cost;
    key->unacked[i] += take->cost;
    key->merged = (key->merged > merge.now ? key->merged : merge.now)
                  + take->cost * rate->interval;

    res->admitted += take->cost;
    res->admitted_1s += merge.now >= MERGE_SEC ? take->cost : 0;
    res->admitted_change += merge.now >= merge.conf->change ? take->cost : 0;
    res->minute[merge.now / (60 * MERGE_SEC)] += take->cost;

    if ((double) key->unacked[i] > res->unacked[i]) {
        res->unacked[i] = (double) key->unacked[i];
    }

    over = 0;

    for (k = 0; k < merge.conf->keys; k++) {
        over = fmax(over, (double) merge.keys[k].admitted
                          - (double) rate->capacity
                          - merge_units(merge.conf, 0)
                          + merge_units(merge.conf, merge.now));
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
    take.rate = node->rate;
    take.cls = node->cls;
    take.cost = merge.conf->cost;
    take.firm = 1;

    merge_env(node, &env);

    rc = gate_limit_take(node->table, &env, &take);
    truth = gate_gcra_take(&merge.rate, &key->truth, merge.now, take.cost, &v);

    res->arrivals++;
    res->truth += truth ? 0 : take.cost;
    res->truth_change += truth || merge.now < merge.conf->change ? 0
                         : take.cost;
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


/* It changes, and within a second all nodes know. */

static void
merge_change(unsigned i)
{
    unsigned      k;
    merge_key_t  *key;

    if (i < merge.conf->nodes) {
        merge.nodes[i].rate = merge.rate;
        merge.nodes[i].cls = gate_limit_class(merge.nodes[i].table,
                                              &merge.rate);
        return;
    }

    merge.rate = merge.conf->other.rate;

    for (k = 0; k < merge.conf->keys; k++) {
        key = &merge.keys[k];
        key->truth = gate_gcra_rescale(&merge.conf->policy.rate, &merge.rate,
                                       key->truth, merge.now);
        key->merged = gate_gcra_rescale(&merge.conf->policy.rate, &merge.rate,
                                        key->merged, merge.now);
    }

    for (i = 0; i < merge.conf->nodes; i++) {
        merge_post(merge.now + (int64_t) (merge_uniform() * 1e9),
                   MERGE_CHANGE, i, 0, 0, 0);
    }
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

    case MERGE_CHANGE:
        merge_change(e->node);
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

        node->rate = conf->policy.rate;
        node->cls = gate_limit_class(node->table, &node->rate);
        node->clock = (int64_t) (merge_uniform() * 1e15);
        node->drift = (merge_uniform() - 0.5) * conf->ppm / 1e6;
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
    merge.rate = conf->policy.rate;

    if (conf->change) {
        merge_post(conf->change, MERGE_CHANGE, conf->nodes, 0, 0, 0);
    }

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
    free(merge_queue.heap);
    memset(&merge_queue, 0, sizeof(merge_queue));
    memset(&merge, 0, sizeof(merge));

    merge.conf = conf;
    merge.res = result;
    merge_random = (conf->seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
    result->overshoot = -INFINITY;
    result->window = -INFINITY;

    merge_start();

    while (merge_queue.n != 0) {
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
                        + merge_units(conf, 0));

    merge_bounds();
}

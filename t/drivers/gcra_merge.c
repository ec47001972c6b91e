
/*
 * Copyright (C) nginx-gate authors
 */

/*
 * What a fleet admits, simulated, against one counter that sees every request
 * in order: see gcra_merge.h.
 */

#include "../../src/core/gate_limit.c"
#include "../../src/core/gate_limit_agent.c"
#include "../../src/core/gate_limit_table.c"
#include "../../src/core/gate_parse.c"
#include "../../src/core/gate_rate.c"

#include "gcra_merge.h"
#include "gcra_merge_run.h"

#include <getopt.h>


static const char  merge_usage[] =
    "usage: gcra_merge [options]\n"
    "       gcra_merge --check [--runs N] [--seed N]\n"
    "\n"
    "Simulates nodes that spend from the same budgets and tell Redis, and\n"
    "prints how far off they are.  The same seed gives the same run.\n"
    "\n"
    "  --nodes N          4\n"
    "  --rate RATE        100r/s, and as in gate_limit_zone\n"
    "  --capacity N       units at once, burst + 1; by default the rate's\n"
    "  --offered N        200; requests a second, at each node\n"
    "  --pattern P        even, poisson or burst (poisson)\n"
    "  --burst N          requests in a burst (10)\n"
    "  --cost N           1\n"
    "  --keys N           1, of each the budget above\n"
    "  --one-node         all requests come to the first node\n"
    "  --sync SECONDS     0.1, between two syncs\n"
    "  --space SECONDS    0.002, between batches that are sent early\n"
    "  --rtt SECONDS      0.0005, round trip on average; half of it varies\n"
    "  --lost FRACTION    0, of exchanges whose question or answer is lost\n"
    "  --drift PPM        100, between clocks\n"
    "  --seconds N        30\n"
    "  --loss-from N      Redis is away from that second on\n"
    "  --loss-for N       for so many\n"
    "  --forget           and comes back empty\n"
    "  --change-at N      in that second the rate changes, within another\n"
    "                     one for all nodes,\n"
    "  --change-to RATE   to this one\n"
    "  --seed N           1\n"
    "\n"
    "--check simulates a few hundred fleets of all kinds instead: nothing may\n"
    "be lost or counted twice, Redis must never know less than was admitted\n"
    "(what is on its way left out), nor may more be admitted than can be\n"
    "proved, nor more or less in the long run than one counter would.  Exit\n"
    "code 1 if one fails.\n";


enum {
    OPT_NODES = 256, OPT_RATE, OPT_CAPACITY, OPT_OFFERED, OPT_PATTERN,
    OPT_BURST, OPT_COST, OPT_KEYS, OPT_ONE_NODE, OPT_SYNC, OPT_SPACE, OPT_RTT,
    OPT_LOST, OPT_DRIFT, OPT_SECONDS, OPT_LOSS_FROM, OPT_LOSS_FOR, OPT_FORGET,
    OPT_SEED, OPT_CHECK, OPT_RUNS, OPT_CHANGE_AT, OPT_CHANGE_TO, OPT_HELP
};

static const struct option  merge_options[] = {
    { "nodes",     1, NULL, OPT_NODES },
    { "rate",      1, NULL, OPT_RATE },
    { "capacity",  1, NULL, OPT_CAPACITY },
    { "offered",   1, NULL, OPT_OFFERED },
    { "pattern",   1, NULL, OPT_PATTERN },
    { "burst",     1, NULL, OPT_BURST },
    { "cost",      1, NULL, OPT_COST },
    { "keys",      1, NULL, OPT_KEYS },
    { "one-node",  0, NULL, OPT_ONE_NODE },
    { "sync",      1, NULL, OPT_SYNC },
    { "space",     1, NULL, OPT_SPACE },
    { "rtt",       1, NULL, OPT_RTT },
    { "lost",      1, NULL, OPT_LOST },
    { "drift",     1, NULL, OPT_DRIFT },
    { "seconds",   1, NULL, OPT_SECONDS },
    { "loss-from", 1, NULL, OPT_LOSS_FROM },
    { "loss-for",  1, NULL, OPT_LOSS_FOR },
    { "forget",    0, NULL, OPT_FORGET },
    { "change-at", 1, NULL, OPT_CHANGE_AT },
    { "change-to", 1, NULL, OPT_CHANGE_TO },
    { "seed",      1, NULL, OPT_SEED },
    { "check",     0, NULL, OPT_CHECK },
    { "runs",      1, NULL, OPT_RUNS },
    { "help",      0, NULL, OPT_HELP },
    { NULL,        0, NULL, 0 }
};

static const char *const  merge_patterns[] = { "even", "poisson", "burst" };


static void
merge_defaults(merge_conf_t *conf)
{
    memset(conf, 0, sizeof(merge_conf_t));

    conf->nodes = 4;
    conf->keys = 1;
    conf->cost = 1;
    conf->offered = 200;
    conf->pattern = MERGE_POISSON;
    conf->burst = 10;
    conf->sync = 100 * MERGE_MSEC;
    conf->space = 2 * MERGE_MSEC;
    conf->wake = MERGE_MSEC / 10;
    conf->rtt = MERGE_MSEC / 2;
    conf->ppm = 100;
    conf->time = 30 * MERGE_SEC;
    conf->seed = 1;
}


static void
merge_die(const char *what, const char *value)
{
    fprintf(stderr, "gcra_merge: %s \"%s\", see --help\n", what, value);
    exit(2);
}


static double
merge_number(const char *name, const char *text, double min, double max)
{
    char   *end;
    double  v;

    v = strtod(text, &end);

    if (end == text || *end != '\0' || !(v >= min && v <= max)) {
        merge_die(name, text);
    }

    return v;
}


static int
merge_pattern(const char *text)
{
    int  i;

    for (i = 0; i < 3; i++) {
        if (strcmp(text, merge_patterns[i]) == 0) {
            return i;
        }
    }

    merge_die("--pattern", text);

    return -1;
}


static void
merge_option(merge_conf_t *conf, int opt, const char *name, const char *arg)
{
    switch (opt) {

    case OPT_NODES:
        conf->nodes = (unsigned) merge_number(name, arg, 1, MERGE_NODES);
        break;

    case OPT_OFFERED:
        conf->offered = merge_number(name, arg, 1e-6, 1e6);
        break;

    case OPT_PATTERN:
        conf->pattern = merge_pattern(arg);
        break;

    case OPT_BURST:
        conf->burst = (unsigned) merge_number(name, arg, 1, 1e6);
        break;

    case OPT_COST:
        conf->cost = (int64_t) merge_number(name, arg, 1, 1e6);
        break;

    case OPT_KEYS:
        conf->keys = (unsigned) merge_number(name, arg, 1, MERGE_KEYS);
        break;

    case OPT_ONE_NODE:
        conf->one_node = 1;
        break;

    case OPT_SYNC:
        conf->sync = (int64_t) (merge_number(name, arg, 1e-3, 100) * 1e9);
        break;

    case OPT_SPACE:
        conf->space = (int64_t) (merge_number(name, arg, 0, 10) * 1e9);
        break;

    case OPT_RTT:
        conf->rtt = (int64_t) (merge_number(name, arg, 0, 10) * 1e9);
        break;

    case OPT_LOST:
        conf->lost = merge_number(name, arg, 0, 0.9);
        break;

    case OPT_DRIFT:
        conf->ppm = merge_number(name, arg, 0, 10000);
        break;

    case OPT_SECONDS:
        conf->time = (int64_t) (merge_number(name, arg, 1,
                                             60 * (MERGE_MINUTES - 1)) * 1e9);
        break;

    case OPT_LOSS_FROM:
        conf->loss_from = (int64_t) (merge_number(name, arg, 0, 1e6) * 1e9);
        break;

    case OPT_LOSS_FOR:
        conf->loss_for = (int64_t) (merge_number(name, arg, 0, 1e6) * 1e9);
        break;

    case OPT_CHANGE_AT:
        conf->change = (int64_t) (merge_number(name, arg, 0, 1e6) * 1e9);
        break;

    case OPT_FORGET:
        conf->forget = 1;
        break;

    default:
        conf->seed = (uint64_t) merge_number(name, arg, 0, 1e15);
    }
}


static void
merge_print(const merge_conf_t *conf, const merge_result_t *r)
{
    double    n;
    unsigned  i;

    n = r->arrivals ? (double) r->arrivals : 1;

    printf("budget           %.0f = %u x (%lld + %.6g)\n", r->budget,
           conf->keys, (long long) conf->policy.rate.capacity,
           merge_units(conf, 0));
    printf("admitted         %lld, error %+.2f %%\n",
           (long long) r->admitted,
           100 * ((double) r->admitted - r->budget) / r->budget);

    if (conf->time > MERGE_SEC) {
        n = (double) conf->keys * merge_units(conf, MERGE_SEC);
        printf("after a second   %lld, error %+.2f %%\n",
               (long long) r->admitted_1s,
               100 * ((double) r->admitted_1s - n) / n);
        n = r->arrivals ? (double) r->arrivals : 1;
    }

    printf("one counter      %lld admitted\n", (long long) r->truth);

    if (conf->change) {
        printf("after the change %lld, one counter %lld\n",
               (long long) r->admitted_change, (long long) r->truth_change);
    }

    printf("overshoot        %.2f units, %.2f over any stretch of time\n",
           r->overshoot, r->window);
    printf("bound            %.2f by what was unacknowledged, %.2f derived\n",
           r->proved, r->derived);
    printf("refused          %.2f %%, one counter %.2f %%\n",
           100 * (double) r->refused / n,
           100 * (double) r->truth_refused / n);
    printf("false 429s       %.2f %% more than one counter, %.2f %% at other "
           "times\n",
           r->refused > r->truth_refused
           ? 100 * (double) (r->refused - r->truth_refused) / n : 0,
           100 * (double) r->displaced / n);
    printf("by the share     %llu of %llu refused\n",
           (unsigned long long) r->share, (unsigned long long) r->refused);
    printf("batches          %llu, %llu sent again, %llu debts cut\n",
           (unsigned long long) r->batches, (unsigned long long) r->resent,
           (unsigned long long) r->clamped);
    printf("acknowledged     %lld, %lld paid by time, %lld left\n",
           (long long) r->acked, (long long) r->settled,
           (long long) r->unsent);
    printf("longest silence  %.3f s\n", (double) r->silence / 1e9);

    for (i = 0; i < r->minutes; i++) {
        printf("minute %-9u %lld\n", i + 1, (long long) r->minute[i]);
    }
}


/* A fleet of any kind; of kind 0 to 3 of four one after the other. */

static void
merge_any(merge_conf_t *conf, unsigned kind, uint64_t seed)
{
    double  load;

    static const uint64_t  counts[] = { 1, 5, 10, 33, 100, 300, 1000 };

    merge_defaults(conf);

    merge_random = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
    (void) merge_uniform();

    conf->seed = seed;
    conf->nodes = 1 + (unsigned) (merge_uniform() * 11.99);
    conf->keys = merge_uniform() < 0.7 ? 1 : 3;
    conf->pattern = (int) (merge_uniform() * 2.99);
    conf->burst = 1 + (unsigned) (merge_uniform() * 20);
    conf->sync = (int64_t) (2e7 + merge_uniform() * 4e8);
    conf->rtt = (int64_t) (1e5 * pow(100, merge_uniform()));
    conf->one_node = merge_uniform() < 0.15;

    (void) gate_rate_policy(counts[(int) (merge_uniform() * 6.99)], MERGE_SEC,
                            (int64_t) pow(200, merge_uniform()) - 1,
                            &conf->policy, NULL);
    conf->other = conf->policy;

    if (merge_uniform() < 0.2) {
        conf->cost = 1 + (int64_t) (merge_uniform() * 3);
        conf->cost = conf->cost < conf->policy.rate.capacity
                     ? conf->cost : conf->policy.rate.capacity;
    }

    load = 0.3 * pow(30, merge_uniform());
    load *= 1e9 / (double) conf->policy.rate.interval / (double) conf->cost;
    conf->offered = load * conf->keys / (conf->one_node ? 1 : conf->nodes);
    conf->time = (int64_t) (fmin(60, fmax(5, 10000 / load)) * 1e9);

    if (kind == 2) {
        conf->lost = 0.05 * merge_uniform();
    }

    if (kind == 3) {
        conf->time = 60 * MERGE_SEC;
        conf->loss_from = 20 * MERGE_SEC;
        conf->loss_for = 20 * MERGE_SEC;
        conf->forget = merge_uniform() < 0.5;
    }
}


static int
merge_fails(const merge_conf_t *conf, const merge_result_t *r,
    const char *what, double value, double limit)
{
    static const char *const  kinds[] = { "even", "poisson", "burst" };

    printf("FAILED: %s: %.3f, limit %.3f\n", what, value, limit);
    printf("  seed %llu: %u nodes%s, %u keys, %s of %u, %.3f/s at each, cost "
           "%lld, %.3f/s, capacity %lld, sync %.3f, rtt %.5f, lost %.3f, "
           "away %.0f%s, %.0f s; admitted %lld of %.0f, one counter %lld\n",
           (unsigned long long) conf->seed, conf->nodes,
           conf->one_node ? " (one spends)" : "", conf->keys,
           kinds[conf->pattern], conf->burst, conf->offered,
           (long long) conf->cost,
           1e9 / (double) conf->policy.rate.interval,
           (long long) conf->policy.rate.capacity,
           (double) conf->sync / 1e9, (double) conf->rtt / 1e9, conf->lost,
           (double) conf->loss_for / 1e9, conf->forget ? ", forgets" : "",
           (double) conf->time / 1e9, (long long) r->admitted, r->budget,
           (long long) r->truth);

    return 1;
}


/* Redis is away: a node has its part of the rate, and cannot lend it. */

static int
merge_saturated(const merge_conf_t *conf)
{
    return conf->offered * (double) conf->cost
           > 3 * 1e9 * conf->keys / (double) conf->policy.rate.interval
             / (conf->one_node ? 1 : conf->nodes);
}


/* What must hold of any fleet; how often it did not. */

static int
merge_judge(const merge_conf_t *conf, const merge_result_t *r)
{
    int     bad;
    double  most, least, capacity, lockout;

    bad = 0;
    capacity = (double) conf->policy.rate.capacity;

    if (r->full || r->unsent) {
        bad += merge_fails(conf, r, "units left unsent, or not counted",
                           (double) r->unsent + (double) r->full, 0);
    }

    /* a Redis that forgets may get what it had already */

    if (r->acked + r->settled < r->admitted
        || (!conf->forget && r->acked + r->settled != r->admitted))
    {
        bad += merge_fails(conf, r, "units at Redis, each once",
                           (double) (r->acked + r->settled),
                           (double) r->admitted);
    }

    /* nobody owes so much as long as answers come */

    if (r->clamped && !(conf->lost > 0) && !conf->loss_for) {
        bad += merge_fails(conf, r, "debts cut", (double) r->clamped, 0);
    }

    if (r->below && !r->clamped) {
        bad += merge_fails(conf, r, "ms that Redis knew of less than was",
                           (double) r->below_ns / 1e6, 0);
    }

    if (!conf->loss_for && r->window > r->proved) {
        bad += merge_fails(conf, r, "units of overshoot", r->window,
                           r->proved);
    }

    /* in the long run: the budget, and what one counter finds of it */

    most = r->budget * (conf->loss_for ? 1.05 : 1.01)
           + conf->keys * (r->proved + 1);

    if ((double) r->admitted > most) {
        bad += merge_fails(conf, r, "units admitted at most",
                           (double) r->admitted, most);
    }

    least = (double) r->truth * (conf->loss_for ? 0.95 : 0.99)
            - conf->keys * (double) conf->cost * conf->nodes;

    /*
     * Bursts and lost answers cost what others might have spent; and where a
     * round trip is not short against a capacity, nodes cannot take turns.
     */

    if (conf->pattern != MERGE_BURST && !(conf->lost > 0)
        && (!conf->loss_for || merge_saturated(conf))
        && capacity * (double) conf->policy.rate.interval
           >= 6 * (double) (conf->rtt + conf->space)
        && (double) r->admitted < least)
    {
        bad += merge_fails(conf, r, "units admitted at least",
                           (double) r->admitted, least);
    }

    lockout = (2 * capacity * (double) conf->policy.rate.interval
               + 8 * 1e9 * conf->keys * conf->burst / conf->offered) / 1e9
              + 1;

    if (conf->loss_for && (double) r->silence / 1e9 > lockout) {
        bad += merge_fails(conf, r, "s of silence",
                           (double) r->silence / 1e9, lockout);
    }

    return bad != 0;
}


static int
merge_check(unsigned runs, uint64_t seed)
{
    double          over;
    unsigned        i, bad;
    merge_conf_t    conf;
    merge_result_t  r;

    over = 0;
    bad = 0;

    for (i = 0; i < runs; i++) {
        merge_any(&conf, (seed + i) % 4, seed + i);
        merge_run(&conf, &r);

        bad += (unsigned) merge_judge(&conf, &r);

        if (r.proved > 0 && !conf.loss_for) {
            over = fmax(over, r.window / r.proved);
        }
    }

    printf("%u fleets, %u failed; overshoot came to %.0f %% of its bound\n",
           runs, bad, 100 * over);

    return bad != 0;
}


static void
merge_rate(const char *text, int64_t capacity, gate_policy_t *policy)
{
    int64_t      period;
    uint64_t     count;
    const char  *why;

    if (gate_rate_parse((const unsigned char *) text, strlen(text), &count,
                        &period, &why) != 0
        || gate_rate_policy(count, period, capacity - 1, policy, &why) != 0)
    {
        fprintf(stderr, "gcra_merge: rate \"%s\" %s\n", text, why);
        exit(2);
    }
}


int
main(int argc, char **argv)
{
    int             opt, index, check;
    int64_t         capacity;
    unsigned        runs;
    const char     *rate, *other;
    merge_conf_t    conf;
    merge_result_t  result;

    check = 0;
    runs = 400;
    rate = "100r/s";
    other = NULL;
    capacity = 0;
    index = 0;

    merge_defaults(&conf);

    while ((opt = getopt_long(argc, argv, "", merge_options, &index)) != -1) {

        switch (opt) {

        case '?':
            fputs("see gcra_merge --help\n", stderr);
            return 2;

        case OPT_HELP:
            fputs(merge_usage, stdout);
            return 0;

        case OPT_CHECK:
            check = 1;
            break;

        case OPT_RUNS:
            runs = (unsigned) merge_number("--runs", optarg, 1, 1e6);
            break;

        case OPT_RATE:
            rate = optarg;
            break;

        case OPT_CHANGE_TO:
            other = optarg;
            break;

        case OPT_CAPACITY:
            capacity = (int64_t) merge_number("--capacity", optarg, 1, 1e7);
            break;

        default:
            merge_option(&conf, opt, merge_options[index].name, optarg);
        }
    }

    if (optind != argc) {
        merge_die("what is", argv[optind]);
    }

    if (check) {
        return merge_check(runs, conf.seed);
    }

    merge_rate(rate, capacity, &conf.policy);
    merge_rate(other ? other : rate, capacity, &conf.other);

    merge_run(&conf, &result);
    merge_print(&conf, &result);

    return 0;
}

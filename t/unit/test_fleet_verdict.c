
/*
 * The verdict of a fleet, in a model of it: nodes that count for themselves,
 * tell each other their totals now and then, and look at windows of their
 * own numbers and of everybody's, as ngx_gate_verdict.c and
 * ngx_gate_window.c do.
 */

#include "../../src/core/gate_hist.c"
#include "../../src/core/gate_verdict.c"

#include "tap.h"


#define TEST_NODES   16
#define TEST_STARTS  8


typedef struct {
    uint64_t  n;
    uint64_t  k;
} test_tally_t;

/* what one node knows; scope 0 is its own, 1 the fleet */

typedef struct {
    test_tally_t  own;
    test_tally_t  told;                /* its totals at its last sync */
    test_tally_t  remote;
    test_tally_t  start[2][TEST_STARTS];
    uint64_t      when[2][TEST_STARTS];
    unsigned      next[2];
} test_node_t;

typedef struct {
    unsigned     nodes;
    unsigned     window;               /* in attempts of all */
    unsigned     sync;
    uint64_t     now;
    uint64_t     began;
    test_node_t  node[TEST_NODES];
    gate_test_t  test;
} test_fleet_t;


static test_tally_t
test_totals(test_node_t *node, unsigned scope)
{
    test_tally_t  t;

    t = node->own;

    if (scope) {
        t.n += node->remote.n;
        t.k += node->remote.k;
    }

    return t;
}


static void
test_note(test_node_t *node, unsigned scope, uint64_t now)
{
    unsigned  i;

    i = node->next[scope]++ % TEST_STARTS;

    node->start[scope][i] = test_totals(node, scope);
    node->when[scope][i] = now;
}


/* the window begins at the oldest start in it, or with the step */

static int
test_look(test_fleet_t *f, test_node_t *node, unsigned scope)
{
    double        split;
    uint64_t      best;
    unsigned      i;
    test_tally_t  t, base;

    t = test_totals(node, scope);
    base.n = 0;
    base.k = 0;

    if (f->now - f->began > f->window) {
        best = UINT64_MAX;

        for (i = 0; i < TEST_STARTS && i < node->next[scope]; i++) {

            if (f->now - node->when[scope][i] <= f->window
                && node->when[scope][i] < best)
            {
                best = node->when[scope][i];
                base = node->start[scope][i];
            }
        }
    }

    split = scope ? 2 : 2.0 * f->nodes;

    return gate_test_over_split(&f->test, split, t.n - base.n, t.k - base.k);
}


static void
test_sync(test_fleet_t *f, unsigned i)
{
    unsigned      j;
    test_node_t  *node;

    node = &f->node[i];
    node->told = node->own;
    node->remote.n = 0;
    node->remote.k = 0;

    for (j = 0; j < f->nodes; j++) {

        if (j != i) {
            node->remote.n += f->node[j].told.n;
            node->remote.k += f->node[j].told.k;
        }
    }
}


/* 1 + scope when somebody has proved something, or 0 */

static unsigned
test_attempt(test_fleet_t *f, unsigned i, int failed)
{
    unsigned      j, every;
    test_node_t  *node;

    f->now++;
    every = f->window / TEST_STARTS;
    node = &f->node[i];

    node->own.n++;
    node->own.k += (failed != 0);

    for (j = 0; j < f->nodes; j++) {

        if ((f->now + j * f->sync / f->nodes) % f->sync == 0) {
            test_sync(f, j);

            if (test_look(f, &f->node[j], 1)) {
                return 2;
            }
        }

        /* own windows begin anywhere, the fleet's by Redis's clock */

        if ((f->now + j * every / f->nodes) % every == 0) {
            test_note(&f->node[j], 0, f->now);
        }

        if (f->now % every == 0) {
            test_note(&f->node[j], 1, f->now);
        }
    }

    if (!failed) {
        return 0;
    }

    if (test_look(f, node, 0)) {
        return 1;
    }

    return test_look(f, node, 1) ? 2 : 0;
}


static void
test_begin(test_fleet_t *f)
{
    memset(f->node, 0, sizeof(f->node));

    f->began = f->now;
}


static void
test_false_alarms(unsigned nodes, double bound, double alpha, unsigned window,
    unsigned sync, unsigned windows)
{
    double        most;
    uint64_t      i, state;
    unsigned      found, fired[3];
    test_fleet_t  f;

    memset(&f, 0, sizeof(f));
    memset(fired, 0, sizeof(fired));

    f.nodes = nodes;
    f.window = window;
    f.sync = sync;
    state = 20261121 + nodes;

    (void) gate_test_init(&f.test, bound, alpha / TEST_STARTS);

    for (i = 0; i < (uint64_t) windows * window; i++) {
        found = test_attempt(&f, (unsigned) (tap_random(&state) % nodes),
                             tap_uniform(&state) < bound);

        if (found) {
            fired[found]++;
            test_begin(&f);
        }
    }

    most = windows * alpha;

    tap_ok(fired[1] + fired[2] <= most + 3 * sqrt(most),
           "%u nodes exactly on %g, alpha %g: %u + %u alarms in %u windows",
           nodes, bound, alpha, fired[1], fired[2], windows);
}


/* The same from the beginning of a step on, where one start is all there is. */

static void
test_step_alarms(unsigned nodes, double bound, double alpha, unsigned steps,
    unsigned attempts)
{
    double        most;
    uint64_t      state;
    unsigned      i, run, found, fired[3];
    test_fleet_t  f;

    memset(&f, 0, sizeof(f));
    memset(fired, 0, sizeof(fired));

    f.nodes = nodes;
    f.window = 10000000;
    f.sync = 50;
    state = 5 + nodes;

    (void) gate_test_init(&f.test, bound, alpha);

    for (run = 0; run < steps; run++) {
        test_begin(&f);
        found = 0;

        for (i = 0; i < attempts && found == 0; i++) {
            found = test_attempt(&f, (unsigned) (tap_random(&state) % nodes),
                                 tap_uniform(&state) < bound);
        }

        fired[found]++;
    }

    most = steps * alpha;

    tap_ok(fired[1] + fired[2] <= most + 3 * sqrt(most)
           && fired[1] + fired[2] > 0,
           "%u nodes exactly on %g, alpha %g: %u + %u alarms in %u steps",
           nodes, bound, alpha, fired[1], fired[2], steps);
}


/* One node has a share of the traffic, and all that it sends fails. */

static void
test_one_node(unsigned nodes, double bound, double share, unsigned within)
{
    uint64_t      state;
    unsigned      found, i, failures;
    test_fleet_t  f;

    memset(&f, 0, sizeof(f));

    f.nodes = nodes;
    f.window = 10000000;
    f.sync = 50;
    state = 7;
    found = 0;
    failures = 0;

    (void) gate_test_init(&f.test, bound, 0.001 / TEST_STARTS);

    for (i = 0; i < 100000 && found == 0; i++) {

        if (tap_uniform(&state) < share) {
            failures++;
            found = test_attempt(&f, 0, 1);

        } else {
            found = test_attempt(&f, 1 + i % (nodes - 1), 0);
        }
    }

    tap_ok(found == 1 && failures <= within,
           "a node with %g of the traffic fails: found by %s after %u",
           share, found == 1 ? "its own numbers" : found ? "all" : "nobody",
           failures);
}


/* All nodes are a little worse than the bound: who finds it first? */

static void
test_spread(unsigned nodes, double bound, double rate)
{
    double        mean[3];
    uint64_t      state;
    unsigned      found, i, run, by[3];
    test_fleet_t  f;

    memset(&f, 0, sizeof(f));
    memset(by, 0, sizeof(by));

    f.nodes = nodes;
    f.window = 10000000;
    f.sync = 100;
    state = 11;
    mean[2] = 0;

    (void) gate_test_init(&f.test, bound, 0.001 / TEST_STARTS);

    for (run = 0; run < 200; run++) {
        test_begin(&f);
        found = 0;

        for (i = 0; i < 200000 && found == 0; i++) {
            found = test_attempt(&f, (unsigned) (tap_random(&state) % nodes),
                                 tap_uniform(&state) < rate);
        }

        by[found]++;
        mean[2] += i / 200.0;
    }

    /* the same, had each node only its own numbers */

    mean[1] = 0;

    for (run = 0; run < 200; run++) {
        test_begin(&f);
        found = 0;

        for (i = 0; i < 400000 && found == 0; i++) {
            test_node_t  *node = &f.node[tap_random(&state) % nodes];

            node->own.n++;

            if (tap_uniform(&state) < rate) {
                node->own.k++;
                found = (unsigned) test_look(&f, node, 0);
            }
        }

        mean[1] += i / 200.0;
    }

    tap_ok(by[2] >= 190 && by[0] == 0,
           "%g at bound %g on %u nodes: by all's numbers %u times, by one "
           "node's %u, by none %u", rate, bound, nodes, by[2], by[1], by[0]);
    tap_ok(mean[2] < 0.6 * mean[1],
           "after %.0f attempts, where nodes alone take %.0f",
           mean[2], mean[1]);
}


static void
test_split(void)
{
    unsigned     n, bad;
    gate_test_t  t, half;

    (void) gate_test_init(&t, 0.05, 1e-4);
    (void) gate_test_init(&half, 0.05, 1e-4 / 8);

    bad = 0;

    for (n = 1; n < 4000; n++) {
        bad += (gate_test_over_split(&t, 8, n, n / 12)
                != gate_test_over(&half, n, n / 12));
        bad += (gate_test_over_split(&t, 1, n, n / 12)
                != gate_test_over(&t, n, n / 12));
        bad += (gate_test_over_split(&t, 0, n, n / 12)
                != gate_test_over(&t, n, n / 12));
    }

    tap_ok(bad == 0, "a split of 8 is the test for an eighth of alpha");
    tap_ok(gate_test_over_split(&t, NAN, 100, 100) == 1
           && gate_test_over_split(&t, INFINITY, 100, 100) == 0,
           "a split that is no number counts as 1, an endless one never");
}


int
main(void)
{
    test_split();

    test_false_alarms(1, 0.05, 0.05, 2000, 20, 2000);
    test_false_alarms(4, 0.05, 0.05, 2000, 20, 2000);
    test_false_alarms(4, 0.05, 0.05, 2000, 200, 2000);
    test_false_alarms(16, 0.05, 0.05, 4000, 100, 1000);
    test_false_alarms(4, 0.01, 0.001, 2000, 50, 5000);

    test_step_alarms(1, 0.05, 0.05, 1000, 2000);
    test_step_alarms(4, 0.05, 0.05, 1000, 2000);
    test_step_alarms(16, 0.05, 0.05, 500, 8000);

    test_one_node(4, 0.05, 0.02, 6);
    test_one_node(4, 0.20, 0.02, 10);

    test_spread(4, 0.05, 0.07);

    return tap_done();
}

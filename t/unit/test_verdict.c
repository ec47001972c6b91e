
#include "../../src/core/gate_hist.c"
#include "../../src/core/gate_verdict.c"

#include "tap.h"


#define TEST_WINDOWS  20000


static void
test_init(void)
{
    double       sum;
    unsigned     j;
    gate_test_t  t;

    t.n = 77;
    tap_ok(gate_test_init(&t, 0, 0.1) == -1, "bound 0 is refused");
    tap_ok(gate_test_init(&t, 1, 0.1) == -1, "bound 1 is refused");
    tap_ok(gate_test_init(&t, -0.1, 0.1) == -1, "bound -0.1 is refused");
    tap_ok(gate_test_init(&t, NAN, 0.1) == -1, "bound NaN is refused");
    tap_ok(gate_test_init(&t, 0.1, 0) == -1, "alpha 0 is refused");
    tap_ok(gate_test_init(&t, 0.1, 1) == -1, "alpha 1 is refused");
    tap_ok(gate_test_init(&t, 0.1, NAN) == -1, "alpha NaN is refused");
    tap_ok(t.n == 77, "a refusal leaves the test untouched");
    tap_ok(gate_test_init(&t, 1e-9, 0.1) == 0 && t.bound == 1e-6,
           "a tiny bound is raised to 1e-6");
    tap_ok(gate_test_init(&t, 0.05, 1e-3) == 0, "an ordinary one");

    for (sum = 0, j = 0; j < t.n; j++) {
        sum += exp(t.lw[j]);
    }

    tap_ok(fabs(sum - 1) < 1e-12, "weights add up to 1");

    for (sum = 0, j = 0; j < t.n; j++) {

        /* E[LR] under p0 is 1 for every alternative */

        sum += fabs(0.05 * exp(t.la[j]) + 0.95 * exp(t.lb[j]) - 1);
    }

    tap_ok(sum < 1e-12, "every alternative is a likelihood ratio");
}


static void
test_martingale(double bound)
{
    double       p, q, sum;
    unsigned     n, k;
    gate_test_t  t;

    /* the expectation of the e-value over Binomial(n, p) at p <= bound */

    n = 40;

    if (gate_test_init(&t, bound, 1e-3) != 0) {
        tap_ok(0, "init");
        return;
    }

    for (p = bound; p > bound / 10; p /= 2) {
        sum = 0;
        q = n * log1p(-p);

        for (k = 0; k <= n; k++) {
            sum += exp(q + gate_test_log_evidence(&t, n, k));
            q += log((double) (n - k) / (k + 1)) + log(p) - log1p(-p);
        }

        tap_ok((p == bound) ? fabs(sum - 1) < 1e-9 : sum <= 1,
               "expected evidence at bound %g, p %g is %.4f", bound, p, sum);
    }
}


static void
test_false_alarms(double bound, double alpha, unsigned window)
{
    double       slack;
    unsigned     i, n, k, fired;
    uint64_t     state;
    gate_test_t  t;

    if (gate_test_init(&t, bound, alpha) != 0) {
        tap_ok(0, "init");
        return;
    }

    fired = 0;
    state = 20261121;

    for (i = 0; i < TEST_WINDOWS; i++) {
        k = 0;

        for (n = 1; n <= window; n++) {

            if (tap_uniform(&state) < bound) {
                k++;

                /* the evidence only grows at an event */

                if (gate_test_over(&t, n, k)) {
                    fired++;
                    break;
                }
            }
        }
    }

    slack = 4 * sqrt(TEST_WINDOWS * alpha);

    tap_ok(fired <= TEST_WINDOWS * alpha + slack,
           "exactly on bound %g, alpha %g, %u looks: %u of %u fired",
           bound, alpha, window, fired, TEST_WINDOWS);
}


static void
test_power(double bound, double p, double alpha, unsigned within,
    double share)
{
    unsigned     i, n, k, found;
    uint64_t     state, sum;
    gate_test_t  t;

    if (gate_test_init(&t, bound, alpha) != 0) {
        tap_ok(0, "init");
        return;
    }

    found = 0;
    sum = 0;
    state = 99;

    for (i = 0; i < 1000; i++) {
        k = 0;

        for (n = 1; n <= within; n++) {
            k += (tap_uniform(&state) < p);

            if (gate_test_over(&t, n, k)) {
                found++;
                sum += n;
                break;
            }
        }
    }

    tap_ok(found >= 1000 * share,
           "%g at bound %g, alpha %g: %u of 1000 within %u, mean %.0f",
           p, bound, alpha, found, within,
           found ? (double) sum / found : 0.0);
}


static void
test_all_failing(double bound, double alpha, unsigned within)
{
    unsigned     n;
    gate_test_t  t;

    (void) gate_test_init(&t, bound, alpha);

    for (n = 1; n < 100000 && !gate_test_over(&t, n, n); n++) { /* void */ }

    tap_ok(n <= within, "all failing at bound %g, alpha %g: %u attempts",
           bound, alpha, n);
}


static void
test_monotone(void)
{
    int          over, last;
    double       e, le;
    unsigned     i, bad;
    uint64_t     n, k, state;
    gate_test_t  t;

    static const double  bounds[] = {
        1e-6, 0.0001, 0.01, 0.05, 0.5, 0.95, 0.999999
    };

    bad = 0;
    state = 5;

    for (i = 0; i < 7; i++) {
        (void) gate_test_init(&t, bounds[i], 1e-3);

        for (n = 1; n < 3000; n += 1 + tap_random(&state) % 97) {
            last = 0;
            le = -INFINITY;

            for (k = 0; k <= n; k++) {
                over = gate_test_over(&t, n, k);
                e = gate_test_log_evidence(&t, n, k);
                bad += (over < last || e < le);
                bad += (over != (e >= t.log_threshold
                                 && (double) k > bounds[i] * (double) n));
                last = over;
                le = e;
            }
        }
    }

    tap_ok(bad == 0, "verdict and evidence are monotone in k, and agree");

    (void) gate_test_init(&t, 0.05, 1e-3);
    tap_ok(gate_test_over(&t, 100, 1000) == gate_test_over(&t, 100, 100)
           && gate_test_log_evidence(&t, 9, 11)
              == gate_test_log_evidence(&t, 9, 9),
           "k above n counts as n");
    tap_ok(gate_test_over(&t, 0, 0) == 0 && gate_test_over(&t, 0, 9) == 0,
           "no trials, no alarm");
    tap_ok(fabs(gate_test_log_evidence(&t, 0, 0)) < 1e-12,
           "no trials, no evidence");
}


static void
test_extremes(void)
{
    double       e;
    unsigned     i, j, l, bad;
    uint64_t     n, k;
    gate_test_t  t;

    static const double  bounds[] = { 1e-6, 1e-3, 0.05, 0.5, 0.999999 };

    static const uint64_t  ns[] = {
        1, 1000, 1000000, UINT64_C(1000000000), UINT64_C(1) << 53, UINT64_MAX
    };

    static const double  shares[] = { 0, 1e-9, 1e-6, 0.05, 0.5, 0.999999, 1 };

    bad = 0;

    for (i = 0; i < 5; i++) {
        (void) gate_test_init(&t, bounds[i], 1e-6);

        for (j = 0; j < 6; j++) {
            for (l = 0; l < 7; l++) {
                n = ns[j];
                k = (shares[l] == 1) ? n
                                     : (uint64_t) ((double) n * shares[l]);
                e = gate_test_log_evidence(&t, n, k);
                bad += !isfinite(e);

                if (shares[l] <= bounds[i]) {
                    bad += gate_test_over(&t, n, k);
                }
            }
        }
    }

    tap_ok(bad == 0, "evidence is finite up to n = 2^64 - 1");

    (void) gate_test_init(&t, 0.05, 1e-6);
    tap_ok(gate_test_over(&t, 1000000000, 50000000) == 0,
           "on the bound in 1e9");
    tap_ok(gate_test_over(&t, 1000000000, 51000000) == 1,
           "5.1 %% in 1e9 is found");
}


static void
test_point(void)
{
    tap_ok(gate_point_over(0.05, 0, 0) == 0, "point: no data");
    tap_ok(gate_point_over(0.05, 100, 5) == 0, "point: on the bound");
    tap_ok(gate_point_over(0.05, 100, 6) == 1, "point: over");
    tap_ok(gate_point_over(0, 1, 1) == 1, "point: bound 0");
    tap_ok(gate_point_over(NAN, 1, 1) == 0, "point: bound NaN");
}


/* how often a ratio rule fires on two arms whose rates stand exactly so */

static unsigned
test_ratio_run(double ratio, double alpha, double pi, double rate,
    unsigned attempts, unsigned windows)
{
    unsigned  i, n, fired, arm;
    uint64_t  state, count[2], events[2];

    fired = 0;
    state = 4711;

    for (i = 0; i < windows; i++) {
        memset(count, 0, sizeof(count));
        memset(events, 0, sizeof(events));

        for (n = 0; n < attempts; n++) {
            arm = (tap_uniform(&state) < pi);
            count[arm]++;

            if (tap_uniform(&state) < (arm ? rate * ratio : rate)) {
                events[arm]++;

                if (arm && gate_ratio_over(ratio, alpha, count[1], events[1],
                                           count[0], events[0]))
                {
                    fired++;
                    break;
                }
            }
        }
    }

    return fired;
}


static void
test_ratio(void)
{
    unsigned  fired;

    tap_ok(fabs(gate_ratio_null(1, 5, 95) - 0.05) < 1e-15, "theta0, R = 1");
    tap_ok(fabs(gate_ratio_null(2, 50, 50) - 2.0 / 3) < 1e-15,
           "theta0, R = 2");
    tap_ok(isnan(gate_ratio_null(1, 0, 0)), "theta0 of nothing");
    tap_ok(isnan(gate_ratio_null(0, 1, 1)) && isnan(gate_ratio_null(-1, 1, 1))
           && isnan(gate_ratio_null(NAN, 1, 1))
           && isnan(gate_ratio_null(INFINITY, 1, 1)), "theta0, bad ratio");
    tap_ok(gate_ratio_null(1000, UINT64_MAX, 1) <= 1, "theta0, extreme");

    tap_ok(gate_ratio_over(1.5, 1e-3, 0, 0, 100, 5) == 0, "no canary");
    tap_ok(gate_ratio_over(1.5, 1e-3, 100, 100, 0, 0) == 0, "no stable");
    tap_ok(gate_ratio_over(1.5, 1e-3, 100, 0, 100, 0) == 0, "no events");
    tap_ok(gate_ratio_over(1.5, 1e-3, 1000, 50, 19000, 950) == 0, "equal");
    tap_ok(gate_ratio_over(1.5, 1e-3, 1000, 300, 19000, 950) == 1,
           "six times as many");
    tap_ok(gate_ratio_over(1.5, 1e-3, 100, 20, 1900, 0) == 1,
           "stable without a failure");
    tap_ok(gate_ratio_over(NAN, 1e-3, 100, 20, 1900, 0) == 0, "ratio NaN");
    tap_ok(gate_ratio_over(1.5, 0, 100, 20, 1900, 0) == 0, "alpha 0");
    tap_ok(gate_ratio_over(1.5, 1e-3, UINT64_MAX, UINT64_MAX, UINT64_MAX,
                           UINT64_MAX) == 0, "counters at their limit");

    fired = test_ratio_run(1.5, 0.01, 0.05, 0.02, 5000, 2000);
    tap_ok(fired <= 20 + 4 * 4.5, "on ratio 1.5 at 5 %%: %u of 2000", fired);

    fired = test_ratio_run(1, 0.01, 0.5, 0.1, 3000, 2000);
    tap_ok(fired <= 20 + 4 * 4.5, "on ratio 1 at 50 %%: %u of 2000", fired);

    fired = test_ratio_run(2, 0.01, 0.01, 0.01, 20000, 1000);
    tap_ok(fired <= 10 + 4 * 3.2, "on ratio 2 at 1 %%: %u of 1000", fired);
}


static void
test_upper(void)
{
    double    u, truth;
    unsigned  i, j, below, infinite;
    uint32_t  counts[GATE_HIST_BUCKETS];
    uint64_t  state;

    memset(counts, 0, sizeof(counts));
    tap_ok(isinf(gate_quantile_upper(counts, 0, 0.95, 1e-3)), "no samples");

    counts[10] = 134;
    tap_ok(isinf(gate_quantile_upper(counts, 134, 0.95, 1e-3)),
           "134 samples are too few for p95 at 0.1 %%");
    counts[10] = 135;
    tap_ok(gate_quantile_upper(counts, 135, 0.95, 1e-3) == 10,
           "135 are enough");
    tap_ok(isinf(gate_quantile_upper(counts, 100000, 0.95, 1e-3)),
           "a total far ahead of the counts");

    counts[255] = 1000;
    tap_ok(isinf(gate_quantile_upper(counts, 1135, 0.95, 1e-3)),
           "the open bucket has no edge");
    counts[255] = 0;
    counts[200] = 100000;
    u = gate_quantile_upper(counts, 100135, 0.95, 1e-3);
    tap_ok(u == (double) gate_hist_high(200), "the high edge is reported");

    tap_ok(isinf(gate_quantile_upper(counts, 100135, 0, 1e-3))
           && isinf(gate_quantile_upper(counts, 100135, 1, 1e-3))
           && isinf(gate_quantile_upper(counts, 100135, NAN, 1e-3))
           && isinf(gate_quantile_upper(counts, 100135, 0.5, 0))
           && isinf(gate_quantile_upper(counts, 100135, 0.5, 1)),
           "q and alpha out of range");

    /* exponential latencies with mean 200 ms: p95 is 599.1 */

    state = 31;
    below = 0;
    infinite = 0;
    truth = -200 * log(0.05);

    for (i = 0; i < 4000; i++) {
        memset(counts, 0, sizeof(counts));

        for (j = 0; j < 500; j++) {
            u = -200 * log1p(-tap_uniform(&state));
            counts[gate_hist_index((uint64_t) u)]++;
        }

        u = gate_quantile_upper(counts, 500, 0.95, 0.01);
        below += (u < truth);
        infinite += isinf(u) ? 1 : 0;
    }

    tap_ok(below <= 40 && infinite == 0,
           "p95 of 500 samples: bound below the truth %u of 4000", below);
}


int
main(void)
{
    test_init();

    test_martingale(0.001);
    test_martingale(0.05);
    test_martingale(0.6);

    test_false_alarms(0.0005, 0.01, 5000);
    test_false_alarms(0.01, 0.01, 2000);
    test_false_alarms(0.05, 0.01, 2000);
    test_false_alarms(0.05, 0.001, 5000);
    test_false_alarms(0.5, 0.01, 1000);
    test_false_alarms(0.95, 0.01, 1000);

    test_power(0.05, 0.10, 1e-3, 1500, 0.99);
    test_power(0.05, 0.20, 1e-3, 250, 0.99);
    test_power(0.05, 0.50, 1e-3, 50, 0.99);
    test_power(0.01, 0.02, 1e-3, 8000, 0.99);
    test_power(0.05, 0.06, 1e-3, 30000, 0.99);
    test_power(0.001, 0.05, 1e-4, 300, 0.95);

    test_all_failing(0.05, 1e-4, 8);
    test_all_failing(0.01, 1e-4, 8);
    test_all_failing(0.20, 1e-4, 16);
    test_all_failing(1e-6, 1e-4, 8);
    test_all_failing(0.5, 1e-4, 32);

    test_monotone();
    test_extremes();
    test_point();
    test_ratio();
    test_upper();

    return tap_done();
}


#include "gate_verdict.h"
#include "gate_hist.h"

#include <math.h>


/* log odds ratios of the alternatives: GATE_TEST_MIX steps, geometric */
#define GATE_TEST_LOG_R_MIN  0.02
#define GATE_TEST_LOG_R_MAX  9.0


static double gate_test_term(const gate_test_t *t, unsigned j, double n,
    double k);
static double gate_verdict_log_chernoff(double n, double r, double q);


int
gate_test_init(gate_test_t *t, double bound, double alpha)
{
    double    log_r, step;
    unsigned  j;

    /* written so that a NaN fails */

    if (!(bound > 0 && bound < 1) || !(alpha > 0 && alpha < 1)) {
        return -1;
    }

    if (bound < GATE_TEST_FLOOR) {
        bound = GATE_TEST_FLOOR;
    }

    t->bound = bound;
    t->log_threshold = -log(alpha);
    t->n = GATE_TEST_MIX;

    step = log(GATE_TEST_LOG_R_MAX / GATE_TEST_LOG_R_MIN)
           / (GATE_TEST_MIX - 1);

    for (j = 0; j < GATE_TEST_MIX; j++) {
        log_r = GATE_TEST_LOG_R_MIN * exp(j * step);

        /*
         * With odds(p1) = r odds(p0):
         *     p1 / p0             = 1 / (1 + (1 - p0) (1/r - 1))
         *     (1 - p1) / (1 - p0) = 1 / (1 + p0 (r - 1))
         * and neither form cancels, however small p0 or log r is.
         */

        t->lw[j] = -log(GATE_TEST_MIX);
        t->la[j] = -log1p((1 - bound) * expm1(-log_r));
        t->lb[j] = -log1p(bound * expm1(log_r));
    }

    return 0;
}


double
gate_test_log_evidence(const gate_test_t *t, uint64_t n, uint64_t k)
{
    double    max, sum, term[GATE_TEST_MIX];
    unsigned  j;

    if (k > n) {
        k = n;
    }

    max = -INFINITY;

    for (j = 0; j < t->n; j++) {
        term[j] = gate_test_term(t, j, (double) n, (double) k);

        if (term[j] > max) {
            max = term[j];
        }
    }

    /* the largest term alone makes the sum 1 */

    sum = 0;

    for (j = 0; j < t->n; j++) {
        sum += exp(term[j] - max);
    }

    return (sum > 0) ? max + log(sum) : 0;
}


int
gate_test_over(const gate_test_t *t, uint64_t n, uint64_t k)
{
    return gate_test_over_split(t, 1, n, k);
}


int
gate_test_over_split(const gate_test_t *t, double split, uint64_t n,
    uint64_t k)
{
    double    excess, expected, threshold;

    if (k > n) {
        k = n;
    }

    expected = (double) n * t->bound;
    excess = (double) k - expected;

    if (!(excess > 0)) {
        return 0;
    }

    /*
     * No mixture of likelihood ratios exceeds exp(n KL(k/n || p0)), and KL is
     * at most chi-square: a small excess is refused without a logarithm.
     */

    threshold = t->log_threshold;

    if (excess * excess < threshold * expected * (1 - t->bound)) {
        return 0;
    }

    if (split > 1) {
        threshold += log(split);
    }

    return gate_test_log_evidence(t, n, k) >= threshold;
}


int
gate_point_over(double bound, uint64_t n, uint64_t k)
{
    return n > 0 && (double) k > bound * (double) n;
}


double
gate_ratio_null(double ratio, uint64_t canary_n, uint64_t stable_n)
{
    double  c;

    if (!(ratio > 0) || isinf(ratio) || (canary_n == 0 && stable_n == 0)) {
        return NAN;
    }

    c = ratio * (double) canary_n;

    return c / (c + (double) stable_n);
}


int
gate_ratio_over(double ratio, double alpha, uint64_t cn, uint64_t ck,
    uint64_t sn, uint64_t sk)
{
    double       theta;
    uint64_t     events;
    gate_test_t  t;

    if (cn == 0 || sn == 0) {
        return 0;
    }

    ck = (ck > cn) ? cn : ck;
    sk = (sk > sn) ? sn : sk;

    if (ck > UINT64_MAX - sk) {
        return 0;
    }

    events = ck + sk;
    theta = gate_ratio_null(ratio, cn, sn);

    /* building the test costs a hundred logarithms: most looks end here */

    if (!gate_point_over(theta, events, ck)) {
        return 0;
    }

    if (gate_test_init(&t, theta, alpha) != 0) {
        return 0;
    }

    return gate_test_over(&t, events, ck);
}


double
gate_quantile_upper(const uint32_t *counts, uint64_t total, double q,
    double alpha)
{
    double    need;
    uint64_t  low, high, mid, sum;
    unsigned  i;

    if (!(q > 0 && q < 1) || !(alpha > 0 && alpha < 1) || total == 0) {
        return INFINITY;
    }

    need = -log(alpha);

    if (gate_verdict_log_chernoff((double) total, (double) total, q) < need) {
        return INFINITY;
    }

    /* low never suffices, high does */

    low = (uint64_t) (q * (double) total);
    high = total;

    while (low + 1 < high) {
        mid = low + (high - low) / 2;

        if (gate_verdict_log_chernoff((double) total, (double) mid, q)
            >= need)
        {
            high = mid;

        } else {
            low = mid;
        }
    }

    sum = 0;

    for (i = 0; i < GATE_HIST_BUCKETS - 1; i++) {
        sum += counts[i];

        if (sum >= high) {
            return (double) gate_hist_high(i);
        }
    }

    return INFINITY;
}


static double
gate_test_term(const gate_test_t *t, unsigned j, double n, double k)
{
    return t->lw[j] + k * t->la[j] + (n - k) * t->lb[j];
}


/* -log of Chernoff's bound on P(Binomial(n, q) >= r), 0 where r <= n q */

static double
gate_verdict_log_chernoff(double n, double r, double q)
{
    double  p, kl;

    p = r / n;

    if (p <= q) {
        return 0;
    }

    kl = p * log(p / q);

    if (p < 1) {
        kl += (1 - p) * log((1 - p) / (1 - q));
    }

    return n * kl;
}

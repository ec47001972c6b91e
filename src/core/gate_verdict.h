
/*
 * Is the canary worse than its bound?  Tests that may be looked at always.
 *
 * Purpose: a rule such as "error_rate=5%" is evaluated after every attempt.
 * A fixed-sample test looked at again and again fires on noise sooner or
 * later; these tests do not, however often somebody looks.
 *
 * Method: for k events in n trials, the e-value is a weighted mean, over
 * GATE_TEST_MIX alternatives p1 > p0, of the likelihood ratios
 * (p1/p0)^k ((1-p1)/(1-p0))^(n-k), where p0 is the bound.  Under any event
 * probability of at most p0 (it may even change from trial to trial) it is a
 * nonnegative supermartingale that starts at 1, so by Ville's inequality the
 * probability that it ever reaches 1/alpha is at most alpha.  The method of
 * mixtures is from H. Robbins, "Statistical methods related to the law of the
 * iterated logarithm", Ann. Math. Statist. 41 (1970); the modern account is
 * S. R. Howard, A. Ramdas, J. McAuliffe and J. Sekhon, "Time-uniform,
 * nonparametric, nonasymptotic confidence sequences", Ann. Statist. 49
 * (2021).  The alternatives have odds r * odds(p0), log r geometric between
 * 0.02 and 9, with equal weights: an excess of any size is found with nearly
 * the sample size of the test that knew it beforehand.
 *
 * Invariants: evidence and verdicts are monotone in k for fixed n.  Counts up
 * to 1e9 and far beyond neither overflow nor give NaN.
 *
 * Ownership: a gate_test_t is plain data without pointers; it may be copied
 * and shared read-only.
 *
 * Failure policy: impossible or missing data is no evidence.  Nothing here
 * answers "over" without trials; a k greater than n, as in a copy torn by
 * concurrent counting, counts as n.
 */


#ifndef _GATE_VERDICT_H_INCLUDED_
#define _GATE_VERDICT_H_INCLUDED_


#include <stdint.h>


#define GATE_TEST_MIX    24
#define GATE_TEST_FLOOR  1e-6          /* the smallest bound tested */


typedef struct {
    double    bound;                   /* p0, a probability */
    double    log_threshold;           /* log(1 / alpha) */
    unsigned  n;                       /* alternatives in use */
    double    lw[GATE_TEST_MIX];       /* log weight */
    double    la[GATE_TEST_MIX];       /* log(p1 / p0) */
    double    lb[GATE_TEST_MIX];       /* log((1 - p1) / (1 - p0)) */
} gate_test_t;


#pragma GCC visibility push(hidden)


/*
 * Prepares t for the null "the event probability is at most bound" with at
 * most alpha false alarms over all looks.  A bound below GATE_TEST_FLOOR is
 * raised to it.  Returns 0, or -1 with t untouched when bound or alpha is not
 * strictly between 0 and 1.
 */
int gate_test_init(gate_test_t *t, double bound, double alpha);

/*
 * The natural logarithm of the mixture e-value of k events in n trials: 0 for
 * n = 0, negative when the data speak for the null.  Finite.
 */
double gate_test_log_evidence(const gate_test_t *t, uint64_t n, uint64_t k);

/*
 * 1 when k / n is above the bound and the evidence has reached 1 / alpha,
 * otherwise 0.  Most calls for a healthy service cost one multiplication.
 */
int gate_test_over(const gate_test_t *t, uint64_t n, uint64_t k);

/*
 * The same where several look at once and share what one alone may err: at
 * the evidence for alpha / split.  split >= 1; anything else counts as 1.
 */
int gate_test_over_split(const gate_test_t *t, double split, uint64_t n,
    uint64_t k);

/*
 * The bare point estimate of the "exact" rules: 1 when n > 0 and k / n is
 * above bound, otherwise 0.  No protection against noise.
 */
int gate_point_over(double bound, uint64_t n, uint64_t k);

/*
 * theta0 = ratio * pi / (ratio * pi + 1 - pi), where pi is the canary's share
 * canary_n / (canary_n + stable_n) of the attempts: the probability that an
 * event is the canary's if its event rate is ratio times that of stable.
 * So a ratio rule is a test on (all events, canary's events) at theta0: exact
 * for independent assignment with probability pi, conservative when events
 * are frequent.  NaN when there are no attempts or ratio is not positive.
 */
double gate_ratio_null(double ratio, uint64_t canary_n, uint64_t stable_n);

/*
 * 1 when the event rate of the canary (ck events in cn attempts) is above
 * ratio times that of stable (sk in sn) with the evidence that alpha asks
 * for; 0 otherwise, also when either arm has no attempts or an argument is
 * out of range.
 */
int gate_ratio_over(double ratio, double alpha, uint64_t cn, uint64_t ck,
    uint64_t sn, uint64_t sk);

/*
 * An upper confidence bound, in ms, for the q-quantile of the distribution
 * behind total samples in counts (gate_hist.h): with a probability of at
 * least 1 - alpha at this look (not over all looks) the true quantile is not
 * above it.  It is the high edge of the bucket of the smallest rank r with
 * total * KL(r/total || q) >= log(1/alpha), Chernoff's bound on a binomial
 * (H. Chernoff, Ann. Math. Statist. 23, 1952), which exceeds total * q by
 * about sqrt(2 log(1/alpha) total q (1-q)).  INFINITY when there are too few
 * samples, when the rank falls into the open last bucket, or when q or alpha
 * is not strictly between 0 and 1.
 */
double gate_quantile_upper(const uint32_t *counts, uint64_t total, double q,
    double alpha);


#pragma GCC visibility pop


#endif /* _GATE_VERDICT_H_INCLUDED_ */

#include "../../src/core/gate_gcra.h"

#include "tap.h"


#define TEST_SEC    INT64_C(1000000000)
#define TEST_NODES  8


/* a time as on a machine that has been up for a while */

static const int64_t      test_start = 123456 * TEST_SEC + 789;

static const gate_rate_t  test_five = { TEST_SEC, 5 };


static int
test_is(const gate_gcra_t *v, int limited, int64_t remaining, int64_t reset,
    int64_t retry)
{
    if (v->limited == limited && v->remaining == remaining
        && v->reset_after == reset && v->retry_after == retry)
    {
        return 1;
    }

    printf("# %d %lld %lld %lld\n", v->limited, (long long) v->remaining,
           (long long) v->reset_after, (long long) v->retry_after);

    return 0;
}


static void
test_decisions(void)
{
    int          i, ok;
    int64_t      tat, old, t;
    gate_gcra_t  v;

    t = test_start;
    tat = 0;
    ok = 1;

    for (i = 0; i < 5; i++) {
        ok &= gate_gcra_take(&test_five, &tat, t, 1, &v) == 0
              && test_is(&v, 0, 4 - i, (i + 1) * TEST_SEC, -1);
    }

    tap_ok(ok && tat == t + 5 * TEST_SEC, "a capacity may come at once");

    old = tat;

    tap_ok(gate_gcra_take(&test_five, &tat, t, 1, &v) == 1
           && test_is(&v, 1, 0, 5 * TEST_SEC, TEST_SEC) && tat == old,
           "the next one is refused, and costs nothing");

    tap_ok(gate_gcra_take(&test_five, &tat, t + TEST_SEC - 1, 1, &v) == 1
           && v.retry_after == 1, "still, a ns too early");

    tap_ok(gate_gcra_take(&test_five, &tat, t + TEST_SEC, 1, &v) == 0
           && test_is(&v, 0, 0, 5 * TEST_SEC, -1),
           "who waits as long as is said is admitted");

    tap_ok(gate_gcra_take(&test_five, &tat, t + 4 * TEST_SEC, 3, &v) == 0
           && test_is(&v, 0, 0, 5 * TEST_SEC, -1), "several units at once");

    tap_ok(gate_gcra_take(&test_five, &tat, t + 5 * TEST_SEC, 3, &v) == 1
           && test_is(&v, 1, 1, 4 * TEST_SEC, 2 * TEST_SEC),
           "all of them or none");

    tat = t + TEST_SEC / 2;

    tap_ok(gate_gcra_take(&test_five, &tat, t, 0, &v) == 0
           && test_is(&v, 0, 4, TEST_SEC / 2, -1),
           "a part of a unit is no unit");
}


static void
test_peeks(void)
{
    int64_t      tat;
    gate_gcra_t  v;

    tat = -5;

    tap_ok(gate_gcra_take(&test_five, &tat, test_start, 0, &v) == 0
           && test_is(&v, 0, 5, 0, -1) && tat == -5,
           "a cost of 0 asks, of a caller that nobody knows");

    tat = test_start + 5 * TEST_SEC;

    tap_ok(gate_gcra_take(&test_five, &tat, test_start, 0, &v) == 0
           && test_is(&v, 0, 0, 5 * TEST_SEC, -1)
           && tat == test_start + 5 * TEST_SEC,
           "a cost of 0 is admitted where nothing is left");

    tat = test_start + 7 * TEST_SEC;

    tap_ok(gate_gcra_take(&test_five, &tat, test_start, 0, &v) == 1
           && test_is(&v, 1, 0, 7 * TEST_SEC, 2 * TEST_SEC),
           "but not where more than all was taken elsewhere");
}


static void
test_oversize(void)
{
    int64_t      tat;
    gate_gcra_t  v;

    tat = 0;

    tap_ok(gate_gcra_take(&test_five, &tat, test_start, 6, &v) == 1
           && test_is(&v, 1, 5, 0, -1) && tat == 0,
           "a cost above the capacity is never admitted");

    tat = test_start + TEST_SEC;

    tap_ok(gate_gcra_take(&test_five, &tat, test_start, INT64_MAX, &v) == 1
           && test_is(&v, 1, 4, TEST_SEC, -1),
           "nor the largest there is, and nothing overflows");

    tap_ok(gate_gcra_take(&test_five, &tat, test_start + TEST_SEC, 5, &v) == 0
           && v.remaining == 0, "the capacity itself is");
}


static void
test_clocks(void)
{
    int64_t      tat;
    gate_gcra_t  v;

    tat = test_start + 2 * TEST_SEC;

    tap_ok(gate_gcra_take(&test_five, &tat, test_start + 999999 * TEST_SEC, 1,
                          &v) == 0
           && test_is(&v, 0, 4, TEST_SEC, -1),
           "an entry that is old is no credit");

    tap_ok(gate_gcra_take(&test_five, &tat, test_start + 999998 * TEST_SEC, 1,
                          &v) == 0
           && test_is(&v, 0, 2, 3 * TEST_SEC, -1),
           "a clock that went back a bit gives no units away");

    tap_ok(gate_gcra_take(&test_five, &tat, test_start, 1, &v) == 1
           && test_is(&v, 1, 0, GATE_GCRA_CLAMP * 5 * TEST_SEC,
                      (GATE_GCRA_CLAMP - 1) * 5 * TEST_SEC + TEST_SEC),
           "a clock that was set back by days locks nobody out for days");

    tat = test_start + 5 * TEST_SEC;

    tap_ok(gate_gcra_take(&test_five, &tat, test_start + 100 * TEST_SEC, 5,
                          &v) == 0
           && test_is(&v, 0, 0, 5 * TEST_SEC, -1),
           "a clock that went on pays all debts and not more");
}


/* UBSan is what looks on here */

static void
test_extremes(void)
{
    int          bad;
    size_t       i, j, k, l;
    int64_t      tat;
    gate_gcra_t  v;

    static const gate_rate_t  rates[] = {
        { 1, 1 }, { GATE_GCRA_MAX, 1 }, { 1, GATE_GCRA_MAX },
        { GATE_GCRA_MAX / 10000000, 10000000 }, { 1000, 10000000 },
    };

    static const int64_t  tats[] = {
        INT64_MIN, INT64_MIN + 1, INT64_MIN / 2, -1, 0, 1,
        INT64_C(4000000000) * TEST_SEC, INT64_MAX - 1, INT64_MAX,
    };

    static const int64_t  nows[] = {
        INT64_MIN, INT64_MIN + 1, INT64_MIN / 2, -1, 0, 1,
        INT64_C(6307200000) * TEST_SEC,   /* two centuries */
    };

    static const int64_t  costs[] = { 0, 1, 10000000, INT64_MAX };

    bad = 0;

    for (i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        for (j = 0; j < sizeof(tats) / sizeof(tats[0]); j++) {
            for (k = 0; k < sizeof(nows) / sizeof(nows[0]); k++) {
                for (l = 0; l < sizeof(costs) / sizeof(costs[0]); l++) {
                    tat = tats[j];

                    (void) gate_gcra_take(&rates[i], &tat, nows[k], costs[l],
                                          &v);

                    if (v.remaining < 0 || v.remaining > rates[i].capacity
                        || v.reset_after < 0 || v.retry_after < -1
                        || v.retry_after == 0 || (costs[l] == 0
                           && tats[j] <= nows[k] && v.limited))
                    {
                        bad++;
                    }

                    gate_gcra_refund(&rates[i], &tat, nows[k], costs[l]);

                    tat = gate_gcra_rescale(&rates[i], &rates[l], tats[j],
                                            nows[k]);

                    if (gate_gcra_debt(&rates[l], tat, nows[k])
                        > rates[l].interval * rates[l].capacity)
                    {
                        bad++;
                    }
                }
            }
        }
    }

    tap_ok(bad == 0, "no time, rate or cost leads out of the ranges");
}


static void
test_refunds(void)
{
    int64_t      tat, before;
    gate_gcra_t  v;

    tat = test_start + TEST_SEC / 4;
    before = tat;

    (void) gate_gcra_take(&test_five, &tat, test_start, 3, &v);
    gate_gcra_refund(&test_five, &tat, test_start, 3);

    tap_ok(tat == before, "what was taken and given back was never there");

    gate_gcra_refund(&test_five, &tat, test_start, INT64_MAX);
    tap_ok(tat == test_start, "who gives back more owes nothing");

    gate_gcra_refund(&test_five, &tat, test_start + TEST_SEC, 5);
    tap_ok(gate_gcra_take(&test_five, &tat, test_start + TEST_SEC, 6, &v) == 1
           && gate_gcra_take(&test_five, &tat, test_start + TEST_SEC, 5, &v)
              == 0
           && gate_gcra_take(&test_five, &tat, test_start + TEST_SEC, 1, &v)
              == 1,
           "and does not get more than a capacity");
}


static void
test_rescales(void)
{
    int64_t      t, tat;
    gate_rate_t  slow, small, odd, back;

    slow.interval = 60 * TEST_SEC;
    slow.capacity = 10;
    small.interval = TEST_SEC;
    small.capacity = 2;
    odd.interval = 333333333;
    odd.capacity = 100;

    t = test_start;
    tat = t + 3 * TEST_SEC;

    tap_ok(gate_gcra_rescale(&test_five, &slow, tat, t) == t + 180 * TEST_SEC,
           "who owes three requests owes three of the new rate");

    tap_ok(gate_gcra_rescale(&test_five, &small, tat, t) == t + 2 * TEST_SEC,
           "nobody owes more than the new rate's capacity");

    tap_ok(gate_gcra_rescale(&test_five, &slow, t + 3 * TEST_SEC / 2, t)
           == t + 90 * TEST_SEC, "half a request is half a request");

    tap_ok(gate_gcra_rescale(&test_five, &slow, t, t) == t
           && gate_gcra_rescale(&test_five, &slow, t - 7, t) == t - 7,
           "who owes nothing owes nothing");

    tap_ok(gate_gcra_rescale(&test_five, &test_five, tat, t) == tat,
           "the same rate changes nothing");

    tat = t + 4 * TEST_SEC + 123456789;
    back = test_five;
    tat = gate_gcra_rescale(&test_five, &odd, tat, t);
    tat = gate_gcra_rescale(&odd, &back, tat, t);

    tap_ok(tat <= t + 4 * TEST_SEC + 123456789
           && tat >= t + 4 * TEST_SEC + 123456789 - 10,
           "there and back loses some ns, to the caller's favour");

    slow.capacity = 3;

    tap_ok(gate_gcra_rescale(&test_five, &slow, INT64_MAX, t)
           == t + 3 * 60 * TEST_SEC, "what is beyond sense is one capacity");
}


/*
 * One node, synced now and then, against what one counter would say: "a" and
 * "b" carry all there is to know.
 */

static void
test_merge_one(void)
{
    int          i, bad, round;
    int64_t      now, tat, redis, a, b;
    uint64_t     seed;
    gate_rate_t  rate;
    gate_gcra_t  v;

    seed = 20261121;
    bad = 0;

    for (round = 0; round < 200; round++) {
        rate.interval = 1 + (int64_t) (tap_random(&seed) % 5000000000);
        rate.capacity = 1 + (int64_t) (tap_random(&seed) % 100);

        now = test_start;
        tat = redis = b = 0;
        a = 0;

        for (i = 0; i < 400; i++) {
            now += (int64_t) (tap_uniform(&seed) * 3
                              * (double) rate.interval);

            if (gate_gcra_take(&rate, &tat, now, 1, &v) == 0) {
                a++;
                b = (b > now ? b : now) + rate.interval;
            }

            if (tap_random(&seed) % 8 == 0) {
                redis = gate_gcra_merge(&rate, redis, a, b);
                a = 0;

                /* the pair begins anew, or goes on from what is known */

                b = tap_random(&seed) % 2 ? 0 : tat;

                if (redis != tat) {
                    bad++;
                }
            }
        }
    }

    tap_ok(bad == 0, "the merge of one node is what it counted itself");
}


/*
 * Several nodes that admit as they like, and tell in batches: the merged TAT
 * is never below what one counter says that saw it all in order, and above it
 * by no more than what was paid while it was not told yet.
 */

static void
test_merge_many(void)
{
    int          i, k, n, low, high, round;
    int64_t      now, last, longest, truth, redis;
    int64_t      a[TEST_NODES], b[TEST_NODES];
    uint64_t     seed;
    gate_rate_t  rate;

    seed = 4;
    low = high = 0;

    for (round = 0; round < 300; round++) {
        n = 2 + (int) (tap_random(&seed) % (TEST_NODES - 1));
        rate.interval = 1 + (int64_t) (tap_random(&seed) % 1000000000);
        rate.capacity = 1;

        now = last = test_start;
        longest = 0;
        truth = redis = 0;

        for (k = 0; k < n; k++) {
            a[k] = 0;
            b[k] = 0;
        }

        for (i = 0; i < 300; i++) {
            now += (int64_t) (tap_uniform(&seed) * 1.5
                              * (double) rate.interval);
            k = (int) (tap_random(&seed) % (uint64_t) n);

            truth = (truth > now ? truth : now) + rate.interval;
            b[k] = (b[k] > now ? b[k] : now) + rate.interval;
            a[k]++;

            if (tap_random(&seed) % 10 == 0) {

                for (k = 0; k < n; k++) {
                    redis = gate_gcra_merge(&rate, redis, a[k], b[k]);
                    a[k] = 0;
                    b[k] = 0;
                }

                longest = (now - last > longest) ? now - last : longest;
                last = now;

                low += redis < truth;
                high += redis > truth + longest;
            }
        }
    }

    tap_ok(low == 0, "the merge of several nodes never undercounts");
    tap_ok(high == 0, "and overcounts by no more than the longest time "
                      "between syncs");
}


int
main(void)
{
    test_decisions();
    test_peeks();
    test_oversize();
    test_clocks();
    test_extremes();
    test_refunds();
    test_rescales();
    test_merge_one();
    test_merge_many();

    return tap_done();
}

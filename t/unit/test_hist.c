
#include "../../src/core/gate_hist.c"

#include "tap.h"


static uint32_t  test_counts[GATE_HIST_BUCKETS];


static void
test_layout(void)
{
    double    mid, err, worst;
    unsigned  i, bad;
    uint64_t  v;

    for (bad = 0, i = 0; i < GATE_HIST_BUCKETS; i++) {
        bad += (gate_hist_index(gate_hist_low(i)) != i);
        bad += (gate_hist_index(gate_hist_high(i)) != i);
        bad += (i > 0 && gate_hist_low(i) != gate_hist_high(i - 1) + 1);
    }

    tap_ok(bad == 0, "buckets partition the line");
    tap_ok(gate_hist_low(0) == 0 && gate_hist_high(15) == 15,
           "milliseconds up to 15 are exact");
    tap_ok(gate_hist_low(255) == 507904 && gate_hist_high(254) == 507903,
           "the last bucket begins at 507904");
    tap_ok(gate_hist_high(255) == UINT64_MAX
           && gate_hist_high(1000) == UINT64_MAX
           && gate_hist_low(1000) == 507904,
           "the last bucket is open, and there is none past it");
    tap_ok(gate_hist_index(UINT64_MAX) == 255
           && gate_hist_index(UINT64_C(1) << 19) == 255,
           "all above is in the last bucket");

    worst = 0;
    bad = 0;

    for (v = 1; v < (UINT64_C(1) << 19); v++) {
        i = gate_hist_index(v);
        mid = ((double) gate_hist_low(i)
               + (double) gate_hist_nominal_high(i)) / 2;
        err = fabs(mid - (double) v) / (double) v;
        worst = (err > worst) ? err : worst;
        bad += (v < gate_hist_low(i) || v > gate_hist_high(i));
    }

    tap_ok(bad == 0, "every value is in its bucket");
    tap_ok(worst <= 0.032, "midpoints are within 3.2 %%: %.4f", worst);
}


static void
test_quantile(void)
{
    double    q;
    unsigned  i, bad;
    uint64_t  v, state, *sample;

    tap_ok(isnan(gate_hist_quantile(test_counts, 0, 0.5)), "no samples");
    tap_ok(isnan(gate_hist_quantile(test_counts, 5, 0.5)),
           "a total without counts");

    for (v = 1; v <= 10; v++) {
        test_counts[gate_hist_index(v)]++;
    }

    tap_ok(gate_hist_quantile(test_counts, 10, 0.5) == 5, "median of 1..10");
    tap_ok(gate_hist_quantile(test_counts, 10, 0.51) == 6, "rank goes up");
    tap_ok(gate_hist_quantile(test_counts, 10, 0.9) == 9, "p90 of 1..10");
    tap_ok(gate_hist_quantile(test_counts, 10, 0) == 1, "q = 0");
    tap_ok(gate_hist_quantile(test_counts, 10, 1) == 10, "q = 1");
    tap_ok(gate_hist_quantile(test_counts, 10, -3) == 1, "q below 0");
    tap_ok(gate_hist_quantile(test_counts, 10, 7) == 10, "q above 1");
    tap_ok(isnan(gate_hist_quantile(test_counts, 10, NAN)), "q is NaN");
    tap_ok(gate_hist_quantile(test_counts, 1000, 1) == 10,
           "a total that is ahead of the counts");

    memset(test_counts, 0, sizeof(test_counts));
    test_counts[7] = 100;
    test_counts[8] = 0;
    test_counts[6] = 7;
    tap_ok(gate_hist_quantile(test_counts, 100, 0.07) == 6,
           "0.07 of 100 is rank 7");

    /* against sorted samples, log-uniform over the range */

    memset(test_counts, 0, sizeof(test_counts));
    sample = calloc(524288, sizeof(uint64_t));

    if (sample == NULL) {
        abort();
    }

    state = 42;

    for (i = 0; i < 10000; i++) {
        v = (uint64_t) exp(tap_uniform(&state) * 13);
        sample[v]++;
        test_counts[gate_hist_index(v)]++;
    }

    bad = 0;

    for (i = 1; i < 100; i++) {
        uint64_t  sum, exact;

        for (sum = 0, exact = 0; exact < 524288; exact++) {
            sum += sample[exact];

            if (sum >= 100 * (uint64_t) i) {
                break;
            }
        }

        q = gate_hist_quantile(test_counts, 10000, i / 100.0);
        bad += (fabs(q - (double) exact) > 0.032 * (double) exact);
    }

    tap_ok(bad == 0, "every percentile is within 3.2 %% of the exact one");
    free(sample);

    memset(test_counts, 0, sizeof(test_counts));
    test_counts[255] = UINT32_MAX;
    test_counts[254] = UINT32_MAX;
    tap_ok(gate_hist_quantile(test_counts, 2 * (uint64_t) UINT32_MAX, 0.99)
           == (507904 + 524287) / 2.0, "counters at their limit");
}


static void
test_above(void)
{
    unsigned  i, bad;

    for (i = 0; i < GATE_HIST_BUCKETS; i++) {
        test_counts[i] = 1;
    }

    tap_ok(gate_hist_above(test_counts, -1) == 256, "above -1: all");
    tap_ok(gate_hist_above(test_counts, 0) == 255, "above 0");
    tap_ok(gate_hist_above(test_counts, 14.5) == 241, "above 14.5");
    tap_ok(gate_hist_above(test_counts, 15) == 240, "above 15");
    tap_ok(gate_hist_above(test_counts, INFINITY) == 0, "above infinity");
    tap_ok(gate_hist_above(test_counts, -INFINITY) == 256,
           "above minus infinity");
    tap_ok(gate_hist_above(test_counts, NAN) == 0, "above NaN");
    tap_ok(gate_hist_above(test_counts, 1e300) == 0, "above 1e300");
    tap_ok(gate_hist_above(test_counts, 2000)
           == 255 - gate_hist_index(2000), "2000 ms is inside a bucket");

    for (bad = 0, i = 1; i < GATE_HIST_BUCKETS; i++) {
        bad += (gate_hist_above(test_counts, (double) gate_hist_low(i))
                != 255 - i);
        bad += (gate_hist_above(test_counts, (double) gate_hist_low(i) - 0.5)
                != 256 - i);
    }

    tap_ok(bad == 0, "edges of all buckets");

    memset(test_counts, 0xff, sizeof(test_counts));
    tap_ok(gate_hist_above(test_counts, -1) == 256 * (uint64_t) UINT32_MAX,
           "sums do not wrap");
}


int
main(void)
{
    test_layout();
    test_quantile();
    test_above();

    return tap_done();
}

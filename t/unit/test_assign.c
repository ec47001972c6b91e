
#include "../../src/core/gate_siphash.c"
#include "../../src/core/gate_assign.c"

#include "tap.h"


#define TEST_CALLERS  200000


static const uint64_t  test_seed[2] = { 1, 2 };


static void
test_bucket(void)
{
    char      key[32];
    double    chi;
    size_t    len;
    unsigned  i, b, n, max;
    unsigned *count;

    count = calloc(GATE_WEIGHT_MAX, sizeof(unsigned));

    if (count == NULL) {
        abort();
    }

    max = 0;

    for (i = 0; i < TEST_CALLERS; i++) {
        len = (size_t) snprintf(key, sizeof(key), "caller-%u", i);
        b = gate_assign_bucket(test_seed, key, len);
        max = (b > max) ? b : max;
        count[b < GATE_WEIGHT_MAX ? b : 0]++;
    }

    tap_ok(max == GATE_WEIGHT_MAX - 1, "buckets end at 9999");

    chi = 0;

    for (i = 0; i < GATE_WEIGHT_MAX; i++) {
        chi += (count[i] - 20.0) * (count[i] - 20.0) / 20.0;
    }

    /* 9999 degrees of freedom: mean 9999, deviation 141 */

    tap_ok(fabs(chi - 9999) < 5 * 141.4, "buckets are uniform, chi2 %.0f",
           chi);

    for (n = 0, i = 0; i < 500; i++) {
        n += count[i];
    }

    tap_ok(fabs(n - 10000.0) < 5 * 97.5, "5 %% of callers: %u", n);

    free(count);

    tap_ok(gate_assign_bucket(test_seed, NULL, 0) < GATE_WEIGHT_MAX,
           "an empty key has a bucket");
}


static void
test_reduction(void)
{
    unsigned  i, bad;
    uint64_t  h, low, high, state;

    /* the 64-bit form against the 128-bit product */

    bad = 0;
    state = 7;

    for (i = 0; i < 100000; i++) {
        h = (i == 0) ? UINT64_MAX : (i == 1) ? 0 : tap_random(&state);
        low = ((h & 0xffffffff) * GATE_WEIGHT_MAX) >> 32;
        high = ((h >> 32) * GATE_WEIGHT_MAX + low) >> 32;

        bad += (high != (uint64_t)
                        (((__extension__ (unsigned __int128) h)
                          * GATE_WEIGHT_MAX) >> 64));
    }

    tap_ok(bad == 0, "the reduction is the high half of the product");
}


static void
test_epochs(void)
{
    char      key[32];
    size_t    len;
    unsigned  i, both;
    uint64_t  a[2], b[2], c[2], d[2], e[2], other[2];

    gate_assign_epoch_seed(test_seed, "shop", 4, 1, a);
    gate_assign_epoch_seed(test_seed, "shop", 4, 2, b);
    gate_assign_epoch_seed(test_seed, "shoq", 4, 1, c);
    gate_assign_epoch_seed(test_seed, "shop", 4, 1, d);

    other[0] = test_seed[0];
    other[1] = test_seed[1] + 1;
    gate_assign_epoch_seed(other, "shop", 4, 1, e);

    tap_ok(memcmp(a, d, sizeof(a)) == 0, "the same epoch, the same seed");
    tap_ok(a[0] != b[0] && a[1] != b[1], "another epoch, another seed");
    tap_ok(a[0] != c[0] && a[1] != c[1], "another name, another seed");
    tap_ok(a[0] != e[0] && a[1] != e[1], "another secret, another seed");
    tap_ok(a[0] != a[1], "the halves differ");

    /* 10 % in each of two epochs: 1 % in both, if they are independent */

    both = 0;

    for (i = 0; i < TEST_CALLERS; i++) {
        len = (size_t) snprintf(key, sizeof(key), "caller-%u", i);
        both += (gate_assign_bucket(a, key, len) < 1000
                 && gate_assign_bucket(b, key, len) < 1000);
    }

    tap_ok(fabs(both - 2000.0) < 5 * 44.5, "epochs are independent: %u",
           both);
}


static int
test_force(const char *s)
{
    int             rc;
    unsigned char  *p;

    p = tap_copy(s, strlen(s));
    rc = gate_assign_force(p, strlen(s));
    free(p);

    return rc;
}


int
main(void)
{
    test_bucket();
    test_reduction();
    test_epochs();

    tap_ok(test_force("always") == GATE_FORCE_ALWAYS, "always");
    tap_ok(test_force("AlWaYs") == GATE_FORCE_ALWAYS, "AlWaYs");
    tap_ok(test_force("never") == GATE_FORCE_NEVER, "never");
    tap_ok(test_force("NEVER") == GATE_FORCE_NEVER, "NEVER");
    tap_ok(test_force("") == GATE_FORCE_NONE, "nothing");
    tap_ok(test_force("1") == GATE_FORCE_NONE, "1");
    tap_ok(test_force("alway") == GATE_FORCE_NONE, "alway");
    tap_ok(test_force("always ") == GATE_FORCE_NONE, "always and a space");
    tap_ok(test_force("nevE\x12") == GATE_FORCE_NONE, "no loose case fold");
    tap_ok(gate_assign_force(NULL, 0) == GATE_FORCE_NONE, "no value");

    return tap_done();
}

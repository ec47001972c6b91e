#include "../../src/core/gate_parse.c"
#include "../../src/core/gate_rate.c"

#include "tap.h"


#define TEST_SEC   INT64_C(1000000000)
#define TEST_DAY   (86400 * TEST_SEC)


/* what is refused leaves everything as it was, and says why */

static int
test_parse(const char *s, uint64_t *count, int64_t *period)
{
    int             rc;
    uint64_t        n;
    int64_t         p;
    const char     *why;
    unsigned char  *copy;

    n = 4711;
    p = 4711;
    why = NULL;
    copy = tap_copy(s, strlen(s));

    rc = gate_rate_parse(copy, strlen(s), &n, &p, &why);

    if (rc != 0) {
        if (n != 4711 || p != 4711 || why == NULL || why[0] == '\0') {
            rc = -2;
        }

        if (gate_rate_parse(copy, strlen(s), &n, &p, NULL) != -1) {
            rc = -3;
        }
    }

    free(copy);

    *count = n;
    *period = p;

    return rc;
}


static void
test_rates(void)
{
    size_t    i;
    uint64_t  n;
    int64_t   p;

    static const struct {
        const char  *text;
        uint64_t     count;
        int64_t      period;
    } good[] = {
        { "1r/s",               1,        TEST_SEC },
        { "100r/s",             100,      TEST_SEC },
        { "100r/1s",            100,      TEST_SEC },
        { "60r/m",              60,       60 * TEST_SEC },
        { "5000r/h",            5000,     3600 * TEST_SEC },
        { "10r/d",              10,       TEST_DAY },
        { "15r/10s",            15,       10 * TEST_SEC },
        { "7r/90s",             7,        90 * TEST_SEC },
        { "100000r/30d",        100000,   30 * TEST_DAY },
        { "1r/60d",             1,        60 * TEST_DAY },
        { "0100r/s",            100,      TEST_SEC },
        { "10000000r/m",        10000000, 60 * TEST_SEC },
    };

    static const char  *bad[] = {
        "", "r/s", "1", "1r", "1r/", "1r/1", "1/s", "1r/x", "1r/S", "1R/s",
        " 1r/s", "1r/s ", "1r /s", "+1r/s", "-1r/s", "1.5r/s", "1r/1.5s",
        "1e3r/s", "0x1r/s", "1r//s", "1r/ms", "1r/-1s", "1r/+1s", "1r/1s1",
        "1r/1m30s", "1r/w", "1r/s\n", "1rr/s", "100r/sec", "0r/s", "1r/0s",
        "0r/0d", "10000001r/s", "99999999999999999999r/s",
        "18446744073709551617r/s", "1r/61d", "1r/1441h", "1r/5184001s",
        "1r/18446744073709551617s", "1r/99999999999999999999999d",
        "1r/213503982335d", "1r/1\xc2\xb2s",
    };

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        tap_ok(test_parse(good[i].text, &n, &p) == 0 && n == good[i].count
               && p == good[i].period, "rate %s", good[i].text);
    }

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        tap_ok(test_parse(bad[i], &n, &p) == -1, "no rate: \"%.*s\"",
               (int) strcspn(bad[i], "\n"), bad[i]);
    }

    tap_ok(gate_rate_parse((unsigned char *) "1r/s\0", 5, &n, &p, NULL) == -1,
           "a NUL is part of the text");
}


static void
test_policy(uint64_t count, int64_t period, int64_t burst, int64_t interval,
    int64_t capacity, const char *name)
{
    gate_policy_t  p;

    memset(&p, 0, sizeof(p));

    tap_ok(gate_rate_policy(count, period, burst, &p, NULL) == 0
           && p.rate.interval == interval && p.rate.capacity == capacity
           && p.count == count && p.period == period, "%s", name);
}


static void
test_policies(void)
{
    size_t         i;
    const char    *why;
    gate_policy_t  p, old;

    static const struct {
        uint64_t     count;
        int64_t      period, burst;
        const char  *name;
    } bad[] = {
        { 0, TEST_SEC, 0, "no units" },
        { 1, 0, 0, "no period" },
        { 1, -TEST_SEC, 0, "a period that is less than none" },
        { 1000001, TEST_SEC, 0, "more than a million a second" },
        { 10000001, TEST_DAY, 0, "more than ten million units" },
        { UINT64_MAX, INT64_MAX, 0, "units beyond all bounds" },
        { 1, TEST_DAY, 60, "61 days' worth at once" },
        { 1, 60 * TEST_DAY, 1, "two units of 60 days" },
        { 1, INT64_MAX, 0, "a period beyond all bounds" },
        { 1000000, TEST_SEC, 10000000, "a burst of ten million" },
        { 1, TEST_SEC, INT64_MAX, "a burst that would overflow" },
        { 100, TEST_SEC, INT64_MAX - 1, "a capacity that would overflow" },
    };

    test_policy(100, TEST_SEC, -1, 10000000, 1,
                "per second there is no burst by default");
    test_policy(100, TEST_SEC, 20, 10000000, 21,
                "the capacity is the burst and one");
    test_policy(15, 10 * TEST_SEC, -1, 666666666, 15,
                "over a longer period all of its units may come at once");
    test_policy(60, 60 * TEST_SEC, -1, TEST_SEC, 60, "a minute is longer");
    test_policy(60, 60 * TEST_SEC, 0, TEST_SEC, 1, "burst=0 is a burst");
    test_policy(1000000, TEST_SEC, -1, 1000, 1, "a million a second");
    test_policy(10000000, 10 * TEST_SEC, 9999999, 1000, 10000000,
                "the fastest with the largest burst");
    test_policy(1, 60 * TEST_DAY, -1, 60 * TEST_DAY, 1, "one in 60 days");
    test_policy(60, 60 * TEST_DAY, -1, TEST_DAY, 60, "60 in 60 days");
    test_policy(10000000, 60 * TEST_DAY, -1, 518400000, 10000000,
                "ten million in 60 days");
    test_policy(3000, TEST_SEC, -1, 333333, 1,
                "a third of a ms is as many ns as fit");

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memset(&p, 0x5a, sizeof(p));
        memset(&old, 0x5a, sizeof(old));
        why = NULL;

        tap_ok(gate_rate_policy(bad[i].count, bad[i].period, bad[i].burst,
                                &p, &why) == -1
               && memcmp(&p, &old, sizeof(p)) == 0 && why != NULL,
               "refused: %s", bad[i].name);
    }
}


/* whoever sends what the policy says never waits for a rounding error */

static void
test_promise(void)
{
    int            bad;
    int64_t        tat, now, period;
    uint64_t       i, n, seed;
    gate_gcra_t    v;
    gate_policy_t  p;

    seed = 4711;
    bad = 0;

    for (i = 0; i < 2000; i++) {
        n = 1 + tap_random(&seed) % (i % 2 ? 100 : 1000000);
        period = (int64_t) (1 + tap_random(&seed) % 5184000) * TEST_SEC;

        if (gate_rate_policy(n, period, -1, &p, NULL) != 0) {
            continue;
        }

        tat = 0;
        now = 86400 * TEST_SEC;

        /* all units of a period at once, again and again */

        bad += gate_gcra_take(&p.rate, &tat, now, p.rate.capacity, &v);

        if (v.reset_after > period) {
            bad++;
        }

        if (p.rate.capacity == (int64_t) n) {
            bad += gate_gcra_take(&p.rate, &tat, now + period,
                                  p.rate.capacity, &v);
        }

        if (p.rate.interval * (int64_t) n < period - (int64_t) n) {
            bad++;
        }
    }

    tap_ok(bad == 0, "a period gives all of its units back, and few ns early");
}


static int
test_words(const char *s, const gate_policy_t *base, gate_policy_t *p)
{
    int             rc;
    const char     *why;
    unsigned char  *copy;
    gate_policy_t   old;

    memset(p, 0x5a, sizeof(*p));
    memset(&old, 0x5a, sizeof(old));
    why = NULL;
    copy = tap_copy(s, strlen(s));

    rc = gate_rate_words(copy, strlen(s), base, p, &why);

    if (rc != 0 && (memcmp(p, &old, sizeof(old)) != 0 || why == NULL)) {
        rc = -2;
    }

    free(copy);

    return rc;
}


static void
test_sentences(void)
{
    size_t         i;
    gate_policy_t  base, p;

    static const struct {
        const char  *text;
        uint64_t     count;
        int64_t      period, capacity;
    } good[] = {
        { "rate=15r/10s burst=20",      15,  10 * TEST_SEC, 21 },
        { "burst=20 rate=15r/10s",      15,  10 * TEST_SEC, 21 },
        { "rate=15r/10s,burst=20",      15,  10 * TEST_SEC, 21 },
        { "rate=15r/10s, burst=20",     15,  10 * TEST_SEC, 21 },
        { "  rate=15r/10s   burst=20 ", 15,  10 * TEST_SEC, 21 },
        { "15r/10s",                    15,  10 * TEST_SEC, 15 },
        { "15r/10s burst=0",            15,  10 * TEST_SEC, 1 },
        { "rate=15r/10s",               15,  10 * TEST_SEC, 15 },
        { "rate=15r/s",                 15,  TEST_SEC, 1 },
        { "burst=4",                    100, TEST_SEC, 5 },
        { "burst=0",                    100, TEST_SEC, 1 },
    };

    static const char  *bad[] = {
        "", " ", ",", "rate=", "burst=", "rate", "burst", "burst=-1",
        "burst=1.0", "burst=x", "burst=10000000", "burst=1 burst=1",
        "rate=1r/s rate=1r/s", "1r/s rate=2r/s", "1r/s 2r/s", "rate=1r/s x",
        "x rate=1r/s", "rate=1r/s burst=1 x", "rate =1r/s", "Rate=1r/s",
        "rate=1r/s;burst=1", "rate=1r/s\nburst=1", "rate=1r/s\tburst=1",
        "rate=0r/s", "rate=1r/d burst=60", "rate=1r/s burst=99999999999999",
        "burst=18446744073709551617", "key=value", "unlimited", "\"1r/s\"",
        "15",
    };

    (void) gate_rate_policy(100, TEST_SEC, 7, &base, NULL);

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        tap_ok(test_words(good[i].text, &base, &p) == 0
               && p.count == good[i].count && p.period == good[i].period
               && p.rate.capacity == good[i].capacity
               && p.rate.interval == p.period / (int64_t) p.count,
               "words \"%s\"", good[i].text);
    }

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        tap_ok(test_words(bad[i], &base, &p) == -1, "no words, %u",
               (unsigned) i);
    }

    tap_ok(test_words("burst=1", NULL, &p) == -1,
           "a burst alone needs a rate to go with");
    tap_ok(test_words("1r/s", NULL, &p) == 0, "a rate needs nothing else");

    (void) gate_rate_policy(10, 10 * TEST_DAY, 0, &base, NULL);
    tap_ok(test_words("burst=60", &base, &p) == -1,
           "a burst may be too much for the rate that it is said of");
}


static void
test_formats(void)
{
    size_t    i, n;
    char      buf[GATE_RATE_LEN];
    uint64_t  count, back, seed, bad;
    int64_t   period, again;

    static const struct {
        uint64_t     count;
        int64_t      period;
        const char  *text;
    } table[] = {
        { 100,      TEST_SEC,       "100r/s" },
        { 15,       10 * TEST_SEC,  "15r/10s" },
        { 60,       60 * TEST_SEC,  "60r/m" },
        { 7,        90 * TEST_SEC,  "7r/90s" },
        { 7,        120 * TEST_SEC, "7r/2m" },
        { 5000,     3600 * TEST_SEC, "5000r/h" },
        { 1,        TEST_DAY,       "1r/d" },
        { 100000,   30 * TEST_DAY,  "100000r/30d" },
        { 10000000, 5183999 * TEST_SEC, "10000000r/5183999s" },
    };

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        n = gate_rate_format(table[i].count, table[i].period, buf);
        tap_ok(n == strlen(table[i].text)
               && memcmp(buf, table[i].text, n + 1) == 0, "prints %s",
               table[i].text);
    }

    seed = 99;
    bad = 0;

    for (i = 0; i < 5000; i++) {
        count = 1 + tap_random(&seed) % GATE_RATE_COUNT_MAX;
        period = (int64_t) (1 + tap_random(&seed) % 5184000) * TEST_SEC;

        n = gate_rate_format(count, period, buf);

        if (gate_rate_parse((unsigned char *) buf, n, &back, &again, NULL)
            != 0 || back != count || again != period)
        {
            bad++;
        }
    }

    tap_ok(bad == 0, "what is printed reads as what it was");

    memset(buf, 'x', sizeof(buf));
    n = gate_rate_format(UINT64_MAX, INT64_MAX / TEST_SEC * TEST_SEC, buf);
    tap_ok(n < GATE_RATE_LEN && buf[n] == '\0',
           "what is beyond all bounds does not leave the buffer");
}


int
main(void)
{
    test_rates();
    test_policies();
    test_promise();
    test_sentences();
    test_formats();

    return tap_done();
}

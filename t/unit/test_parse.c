
#include "../../src/core/gate_parse.c"

#include "tap.h"

#include <time.h>


#define TEST_BAD  (-77)


static double
test_weight(const char *s)
{
    int             rc;
    unsigned        bp;
    unsigned char  *p;

    bp = 4711;
    p = tap_copy(s, strlen(s));
    rc = gate_parse_weight(p, strlen(s), &bp);
    free(p);

    return (rc == 0) ? (double) bp : (bp == 4711) ? TEST_BAD : -1;
}


static double
test_double(int (*parse)(const unsigned char *, size_t, double *),
    const char *s)
{
    int             rc;
    double          v;
    unsigned char  *p;

    v = 4711;
    p = tap_copy(s, strlen(s));
    rc = parse(p, strlen(s), &v);
    free(p);

    return (rc == 0) ? v : (v == 4711) ? TEST_BAD : -1;
}


static int64_t
test_msec(const char *s)
{
    int             rc;
    uint64_t        v;
    unsigned char  *p;

    v = 4711;
    p = tap_copy(s, strlen(s));
    rc = gate_parse_msec(p, strlen(s), &v);
    free(p);

    return (rc == 0) ? (int64_t) v : (v == 4711) ? TEST_BAD : -1;
}


static int64_t
test_time(const char *s)
{
    int             rc;
    int64_t         v;
    unsigned char  *p;

    v = 4711;
    p = tap_copy(s, strlen(s));
    rc = gate_parse_time(p, strlen(s), &v);
    free(p);

    return (rc == 0) ? v : (v == 4711) ? TEST_BAD : -1;
}


static void
test_weights(void)
{
    size_t    i, len;
    char      buf[GATE_WEIGHT_LEN + 1];
    unsigned  bp, back, bad;

    static const struct {
        const char  *s;
        double       v;
    } tests[] = {
        { "0%", 0 }, { "5%", 500 }, { "0.01%", 1 }, { "12.5%", 1250 },
        { "100%", 10000 }, { "100.00%", 10000 }, { "5.1200%", 512 },
        { "005%", 500 }, { "99.99%", 9999 }, { "0.00000000000000000000%", 0 },
        { "", TEST_BAD }, { "%", TEST_BAD }, { "5", TEST_BAD },
        { "5.%", TEST_BAD }, { ".5%", TEST_BAD }, { "5.123%", TEST_BAD },
        { "0.001%", TEST_BAD }, { "100.01%", TEST_BAD },
        { "101%", TEST_BAD }, { "-5%", TEST_BAD }, { "+5%", TEST_BAD },
        { "5e1%", TEST_BAD }, { " 5%", TEST_BAD }, { "5 %", TEST_BAD },
        { "5%%", TEST_BAD }, { "5%x", TEST_BAD }, { "5,5%", TEST_BAD },
        { "0x5%", TEST_BAD }, { "1.2.3%", TEST_BAD },
        { "18446744073709551621%", TEST_BAD },
        { "184467440737095517%", TEST_BAD }, { "inf%", TEST_BAD },
    };

    for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        tap_ok(test_weight(tests[i].s) == tests[i].v, "weight \"%s\"",
               tests[i].s);
    }

    bad = 0;

    for (bp = 0; bp <= 10000; bp++) {
        len = gate_format_weight(bp, buf);
        bad += (len != strlen(buf) || len > 5);
        buf[len] = '%';
        bad += (gate_parse_weight((unsigned char *) buf, len + 1, &back) != 0
                || back != bp);
    }

    tap_ok(bad == 0, "every weight survives format and parse");

    (void) gate_format_weight(500, buf);
    tap_ok(strcmp(buf, "5") == 0, "format 5");
    (void) gate_format_weight(1, buf);
    tap_ok(strcmp(buf, "0.01") == 0, "format 0.01");
    (void) gate_format_weight(1250, buf);
    tap_ok(strcmp(buf, "12.5") == 0, "format 12.5");
    (void) gate_format_weight(99999, buf);
    tap_ok(strcmp(buf, "100") == 0, "format more than 100");
}


static void
test_fractions(void)
{
    size_t  i;

    static const struct {
        const char  *s;
        double       v;
    } fractions[] = {
        { "5%", 0.05 }, { "0.05", 0.05 }, { "0", 0 }, { "1", 1 },
        { "100%", 1 }, { "0%", 0 }, { "0.000001", 0.000001 },
        { "0.000001%", 0.00000001 }, { "0.0500000000", 0.05 },
        { "33.3%", 0.333 }, { "1.000000", 1 },
        { "5", TEST_BAD }, { "1.1", TEST_BAD }, { "100.1%", TEST_BAD },
        { "0.0000001", TEST_BAD }, { "", TEST_BAD }, { "%", TEST_BAD },
        { ".5", TEST_BAD }, { "5.", TEST_BAD }, { "1e-2", TEST_BAD },
        { "-0.1", TEST_BAD }, { "nan", TEST_BAD }, { "0.05 ", TEST_BAD },
    }, ratios[] = {
        { "1.5", 1.5 }, { "2", 2 }, { "150%", 1.5 }, { "0.1", 0.1 },
        { "1000", 1000 }, { "100000%", 1000 }, { "0.0001%", 0.000001 },
        { "1.500000000", 1.5 },
        { "0", TEST_BAD }, { "0%", TEST_BAD }, { "0.000", TEST_BAD },
        { "1000.1", TEST_BAD }, { "100001%", TEST_BAD }, { "", TEST_BAD },
        { "%", TEST_BAD }, { "x", TEST_BAD }, { "1.5x", TEST_BAD },
        { "-1", TEST_BAD }, { "99999999999999999999999", TEST_BAD },
    };

    for (i = 0; i < sizeof(fractions) / sizeof(fractions[0]); i++) {
        tap_ok(test_double(gate_parse_fraction, fractions[i].s)
               == fractions[i].v, "fraction \"%s\"", fractions[i].s);
    }

    for (i = 0; i < sizeof(ratios) / sizeof(ratios[0]); i++) {
        tap_ok(test_double(gate_parse_ratio, ratios[i].s) == ratios[i].v,
               "ratio \"%s\"", ratios[i].s);
    }
}


static void
test_msecs(void)
{
    size_t  i;

    static const struct {
        const char  *s;
        int64_t      v;
    } tests[] = {
        { "500ms", 500 }, { "2s", 2000 }, { "10m", 600000 },
        { "1h", 3600000 }, { "1d", 86400000 }, { "1w", 604800000 },
        { "1m30s", 90000 }, { "1d2h3m4s5ms", 93784005 }, { "30", 30000 },
        { "0", 0 }, { "0ms", 0 }, { "1s1ms", 1001 },
        { "9223372036854775807ms", INT64_MAX },
        { "9223372036854775", INT64_C(9223372036854775000) },
        { "9223372036854775808ms", TEST_BAD },
        { "9223372036854776", TEST_BAD },
        { "9223372036854775s808ms", TEST_BAD },
        { "15250284453w", TEST_BAD }, { "99999999999999999999d", TEST_BAD },
        { "", TEST_BAD }, { "s", TEST_BAD }, { "ms", TEST_BAD },
        { "1ms1s", TEST_BAD }, { "1s1s", TEST_BAD }, { "1m1m", TEST_BAD },
        { "1m30", TEST_BAD }, { "1.5s", TEST_BAD }, { "-1s", TEST_BAD },
        { "1 s", TEST_BAD }, { "1S", TEST_BAD }, { "1sec", TEST_BAD },
        { "1mss", TEST_BAD }, { "1y", TEST_BAD }, { "1s ", TEST_BAD },
        { "1m-3s", TEST_BAD }, { "1M", TEST_BAD },
    };

    for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        tap_ok(test_msec(tests[i].s) == tests[i].v, "msec \"%s\"",
               tests[i].s);
    }
}


static void
test_uints(void)
{
    size_t    i;
    uint64_t  v;

    static const struct {
        const char  *s;
        uint64_t     max;
        int          rc;
        uint64_t     v;
    } tests[] = {
        { "0", 0, 0, 0 }, { "5", 0, -1, 4711 }, { "1", 0, -1, 4711 },
        { "10", 10, 0, 10 }, { "11", 10, -1, 4711 },
        { "007", 7, 0, 7 }, { "8", 7, -1, 4711 },
        { "18446744073709551615", UINT64_MAX, 0, UINT64_MAX },
        { "18446744073709551616", UINT64_MAX, -1, 4711 },
        { "99999999999999999999999", UINT64_MAX, -1, 4711 },
        { "", 9, -1, 4711 }, { "-1", 9, -1, 4711 }, { "+1", 9, -1, 4711 },
        { "1.0", 9, -1, 4711 }, { "1.", 9, -1, 4711 }, { "1 ", 9, -1, 4711 },
        { "a", 99, -1, 4711 }, { "0x1", 99, -1, 4711 },
    };

    for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        v = 4711;
        tap_ok(gate_parse_uint((const unsigned char *) tests[i].s,
                               strlen(tests[i].s), tests[i].max, &v)
               == tests[i].rc && v == tests[i].v,
               "uint \"%s\" of at most %llu", tests[i].s,
               (unsigned long long) tests[i].max);
    }
}


static void
test_times(void)
{
    char       buf[64];
    size_t     i;
    time_t     t;
    int64_t    v;
    unsigned   bad;
    struct tm  tm;

    static const struct {
        const char  *s;
        int64_t      v;
    } tests[] = {
        { "0", 0 }, { "1795255200", 1795255200 },
        { "253402300799", INT64_C(253402300799) },
        { "253402300800", TEST_BAD },
        { "1970-01-01T00:00:00Z", 0 },
        { "2026-11-21T10:00:00Z", 1795255200 },
        { "2026-11-21T12:00:00+02:00", 1795255200 },
        { "2026-11-21T04:30:00-05:30", 1795255200 },
        { "2026-11-21t10:00:00z", 1795255200 },
        { "2026-11-21T10:00:00.25Z", 1795255200 },
        { "2024-02-29T00:00:00Z", 1709164800 },
        { "2000-02-29T00:00:00Z", 951782400 },
        { "9999-12-31T23:59:59Z", INT64_C(253402300799) },
        { "9999-12-31T23:59:59-00:01", TEST_BAD },
        { "1970-01-01T00:30:00+01:00", TEST_BAD },
        { "1970-01-01T01:00:00+01:00", 0 },
        { "1969-12-31T23:00:00-01:00", 0 },
        { "1969-12-31T23:59:59Z", TEST_BAD },
        { "0000-01-01T00:00:00Z", TEST_BAD },
        { "2026-02-29T00:00:00Z", TEST_BAD },
        { "2100-02-29T00:00:00Z", TEST_BAD },
        { "2200-02-29T00:00:00Z", TEST_BAD },
        { "2026-04-31T00:00:00Z", TEST_BAD },
        { "2026-00-10T00:00:00Z", TEST_BAD },
        { "2026-13-10T00:00:00Z", TEST_BAD },
        { "2026-11-00T00:00:00Z", TEST_BAD },
        { "2026-11-21T24:00:00Z", TEST_BAD },
        { "2026-11-21T10:60:00Z", TEST_BAD },
        { "2026-11-21T10:00:60Z", TEST_BAD },
        { "2026-11-21T10:00:00", TEST_BAD },
        { "2026-11-21 10:00:00Z", TEST_BAD },
        { "2026-11-21T10:00:00+0200", TEST_BAD },
        { "2026-11-21T10:00:00+24:00", TEST_BAD },
        { "2026-11-21T10:00:00+02:60", TEST_BAD },
        { "2026-11-21T10:00:00.Z", TEST_BAD },
        { "2026-11-21T10:00:00.5", TEST_BAD },
        { "2026-11-21T10:00:00ZZ", TEST_BAD },
        { "2026-1-21T10:00:00Z", TEST_BAD }, { "2026-11-21", TEST_BAD },
        { "", TEST_BAD }, { "-1", TEST_BAD }, { "tomorrow", TEST_BAD },
    };

    for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        tap_ok(test_time(tests[i].s) == tests[i].v, "time \"%s\"",
               tests[i].s);
    }

    /* against the C library, every 11 days and a bit */

    bad = 0;

    for (t = 0; t < (time_t) GATE_PARSE_TIME_MAX; t += 1000003) {
        if (gmtime_r(&t, &tm) == NULL) {
            break;
        }

        i = strftime(buf, sizeof(buf), "%Y-%m-%dT%H:%M:%SZ", &tm);
        bad += (gate_parse_time((unsigned char *) buf, i, &v) != 0 || v != t);
    }

    tap_ok(bad == 0, "dates agree with gmtime to the end of 9999");
}


static void
test_names(void)
{
    char  s[66];

    memset(s, 'a', sizeof(s));

    tap_ok(gate_name_valid((unsigned char *) s, 64), "a name of 64");
    tap_ok(!gate_name_valid((unsigned char *) s, 65), "a name of 65");
    tap_ok(!gate_name_valid((unsigned char *) "", 0), "an empty name");
    tap_ok(!gate_name_valid(NULL, 0), "no name");
    tap_ok(gate_name_valid((unsigned char *) "Az09_.-", 7), "all classes");
    tap_ok(!gate_name_valid((unsigned char *) "a b", 3), "a space");
    tap_ok(!gate_name_valid((unsigned char *) "a/b", 3), "a slash");
    tap_ok(!gate_name_valid((unsigned char *) "a\0b", 3), "a NUL");
    tap_ok(!gate_name_valid((unsigned char *) "\xc3\xa4", 2), "an umlaut");
    tap_ok(!gate_name_valid((unsigned char *) "a:b", 3), "a colon");
}


int
main(void)
{
    test_weights();
    test_fractions();
    test_msecs();
    test_uints();
    test_times();
    test_names();

    return tap_done();
}

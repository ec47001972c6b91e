
#include "../../src/core/gate_float.c"

#include "tap.h"


/*
 * Exact arithmetic of its own: natural numbers of 32-bit limbs.  Nothing of
 * what is tested, the table of powers least of all, is used to test it.
 */

#define TEST_LIMBS  200


typedef struct {
    int       n;
    uint32_t  limb[TEST_LIMBS];
} test_big_t;


static void
test_times(test_big_t *b, uint32_t factor, int n)
{
    int       i;
    uint64_t  x;

    while (n-- > 0) {

        x = 0;

        for (i = 0; i < b->n; i++) {
            x += (uint64_t) b->limb[i] * factor;
            b->limb[i] = (uint32_t) x;
            x >>= 32;
        }

        if (x != 0) {
            if (b->n == TEST_LIMBS) {
                abort();
            }

            b->limb[b->n++] = (uint32_t) x;
        }
    }
}


static void
test_power(test_big_t *b, int base, int n)
{
    if (base == 2) {
        test_times(b, 1U << 31, n / 31);
        test_times(b, 1U << n % 31, 1);

    } else {
        test_times(b, 1000000000, n / 9);
        test_times(b, 10, n % 9);
    }
}


static void
test_set(test_big_t *b, unsigned __int128 m)
{
    for (b->n = 0; m != 0; m >>= 32) {
        b->limb[b->n++] = (uint32_t) m;
    }
}


static int
test_compare(const test_big_t *a, const test_big_t *b)
{
    int  i;

    if (a->n != b->n) {
        return a->n < b->n ? -1 : 1;
    }

    for (i = a->n - 1; i >= 0; i--) {
        if (a->limb[i] != b->limb[i]) {
            return a->limb[i] < b->limb[i] ? -1 : 1;
        }
    }

    return 0;
}


/* m * 2^two against k * 10^ten */

static int
test_order(unsigned __int128 m, int two, unsigned __int128 k, int ten)
{
    test_big_t  a, b;

    test_set(&a, m);
    test_set(&b, k);
    test_power(two < 0 ? &b : &a, 2, two < 0 ? -two : two);
    test_power(ten < 0 ? &a : &b, 10, ten < 0 ? -ten : ten);

    return test_compare(&a, &b);
}


/* decimal digits; b is used up */

static size_t
test_decimal(char *s, test_big_t *b)
{
    int       i;
    char     *p, text[TEST_LIMBS * 10 + 1];
    size_t    n;
    uint64_t  x;

    p = text + sizeof(text);

    do {
        x = 0;

        for (i = b->n - 1; i >= 0; i--) {
            x = x << 32 | b->limb[i];
            b->limb[i] = (uint32_t) (x / 10);
            x %= 10;
        }

        while (b->n > 0 && b->limb[b->n - 1] == 0) {
            b->n--;
        }

        *--p = (char) ('0' + x);

    } while (b->n > 0);

    n = (size_t) (text + sizeof(text) - p);
    memcpy(s, p, n);
    s[n] = '\0';

    return n;
}


static uint64_t
test_bits(double v)
{
    uint64_t  bits;

    memcpy(&bits, &v, sizeof(bits));

    return bits;
}


static double
test_double(uint64_t bits)
{
    double  v;

    memcpy(&v, &bits, sizeof(v));

    return v;
}


static void
test_split(double v, uint64_t *m, int *two)
{
    uint64_t  bits;

    bits = test_bits(v);

    *m = bits & ((UINT64_C(1) << 52) - 1);
    *two = (int) (bits >> 52 & 0x7ff);

    if (*two != 0) {
        *m |= UINT64_C(1) << 52;
        --*two;
    }

    *two -= 1074;
}


static double
test_read(const char *s)
{
    double          v;
    size_t          len;
    unsigned char  *in;

    len = strlen(s);
    in = tap_copy(s, len);
    v = gate_float_read(in, len);
    free(in);

    return v;
}


static const char *
test_print(double v)
{
    size_t          n;
    static char     text[GATE_FLOAT_MAX + 1];
    unsigned char  *out;

    /* no more than it may have */

    out = malloc(GATE_FLOAT_MAX);

    if (out == NULL) {
        abort();
    }

    n = gate_float_print(out, v);
    memcpy(text, out, n);
    text[n] = '\0';
    free(out);

    return text;
}


static void
test_table(void)
{
    int                        q, s, bad;
    unsigned __int128          g;
    const gate_float_power_t  *p;

    bad = 0;

    for (q = GATE_FLOAT_QMIN; q <= GATE_FLOAT_QMAX; q++) {
        p = &gate_float_powers[q - GATE_FLOAT_QMIN];
        g = (unsigned __int128) p->hi << 64 | p->lo;
        s = gate_float_log2(q) - 127;

        /* 2^127 <= g, g * 2^s <= 10^q < (g + 1) * 2^s */

        if (!(p->hi >> 63)
            || test_order(g, s, 1, q) > 0
            || (g + 1 != 0 && test_order(g + 1, s, 1, q) <= 0)
            || (g + 1 == 0 && test_order(1, s + 128, 1, q) <= 0)
            || (test_order(g, s, 1, q) == 0)
               != (q >= 0 && q <= GATE_FLOAT_QEXACT))
        {
            printf("# 10^%d\n", q);
            bad++;
        }
    }

    tap_ok(sizeof(gate_float_powers) / sizeof(gate_float_powers[0])
           == GATE_FLOAT_QMAX - GATE_FLOAT_QMIN + 1,
           "the table has all powers of ten");
    tap_ok(bad == 0, "each has the 128 leading bits, cut off");
}


static void
test_logarithms(void)
{
    int  e, k, bad;

    bad = 0;

    for (e = -1074; e <= 971; e++) {
        k = gate_float_log10(e);
        bad += (test_order(1, e, 1, k) < 0 || test_order(1, e, 1, k + 1) >= 0
                || -k < GATE_FLOAT_QMIN || -k > GATE_FLOAT_QMAX);

        k = gate_float_log10_less(e);
        bad += (test_order(3, e - 2, 1, k) < 0
                || test_order(3, e - 2, 1, k + 1) >= 0
                || -k < GATE_FLOAT_QMIN || -k > GATE_FLOAT_QMAX);
    }

    tap_ok(bad == 0, "logarithms are exact for all exponents of doubles");
}


static void
test_known(void)
{
    double       v;
    size_t       i;
    const char  *got;

    static const struct {
        double       v;
        const char  *text;
    } known[] = {
        { 0.0, "0.0" },
        { -0.0, "-0.0" },
        { 1.0, "1.0" },
        { -1.0, "-1.0" },
        { 0.1, "0.1" },
        { 0.5, "0.5" },
        { 10.0, "10.0" },
        { 0.3, "0.3" },
        { 0x1.3333333333334p-2, "0.30000000000000004" },
        { 1760493069.75, "1760493069.75" },
        { 1760493069.7512345, "1760493069.7512345" },
        { 123456789012345680.0, "1.2345678901234568e+17" },
        { 1e15, "1000000000000000.0" },
        { 9999999999999998.0, "9999999999999998.0" },
        { 1e16, "1e+16" },
        { 10000000000000002.0, "1.0000000000000002e+16" },
        { 9007199254740992.0, "9007199254740992.0" },
        { 9007199254740994.0, "9007199254740994.0" },
        { 4503599627370495.5, "4503599627370495.5" },
        { 1e-4, "0.0001" },
        { 0.00012, "0.00012" },
        { 0x1.a36e2eb1c432cp-14, "9.999999999999999e-05" },
        { -1.2345678901234567e-4, "-0.00012345678901234567" },
        { 1e-5, "1e-05" },
        { 1.5e-5, "1.5e-05" },
        { 1e-7, "1e-07" },
        { 9.5367431640625e-07, "9.5367431640625e-07" },
        { 0x1p-44, "5.684341886080802e-14" },
        { 1e22, "1e+22" },
        { 1e23, "1e+23" },
        { 0x1.52d02c7e14af7p+76, "1.0000000000000001e+23" },
        { 9.5e99, "9.5e+99" },
        { 1e100, "1e+100" },
        { 5e-324, "5e-324" },
        { 1e-323, "1e-323" },
        { 2.2250738585072009e-308, "2.225073858507201e-308" },
        { 2.2250738585072014e-308, "2.2250738585072014e-308" },
        { -2.2250738585072014e-308, "-2.2250738585072014e-308" },
        { 1.7976931348623157e+308, "1.7976931348623157e+308" },
        { 0x1p+1023, "8.98846567431158e+307" },
        { 2e-44, "2e-44" },
        { 9.109e-31, "9.109e-31" },

        /* where doubles get denser, the nearest may not be the shortest */
        { 0x1p-1017, "7.120236347223045e-307" },
        { 0x1p-24, "5.960464477539063e-08" },
        { 0x1p+89, "6.189700196426902e+26" },

        /* scaled, these two come closest to an integer */
        { 0x1.3de005bd620dfp+215, "6.538311315939327e+64" },
        { 0x1.f92bacb3cb40cp+716, "6.802601037806062e+215" },
    };

    for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        got = test_print(known[i].v);

        if (!tap_ok(strcmp(got, known[i].text) == 0, "prints %s",
                    known[i].text))
        {
            printf("# %s\n", got);
        }

        v = test_read(known[i].text);
        tap_ok(test_bits(v) == test_bits(known[i].v), "reads %s",
               known[i].text);
    }

    tap_ok(strcmp(test_print(INFINITY), "Infinity") == 0, "infinity");
    tap_ok(strcmp(test_print(-INFINITY), "-Infinity") == 0,
           "negative infinity");
    tap_ok(strcmp(test_print(NAN), "NaN") == 0
           && strcmp(test_print(-NAN), "NaN") == 0,
           "what is not a number has no sign");
}


/* The form only: not a digit too many, an exponent where it must be. */

static int
test_formed(const char *s, double v)
{
    double       a;
    size_t       n;
    const char  *p;

    a = fabs(v);
    p = s;

    if (signbit(v) && *p++ != '-') {
        return 0;
    }

    if (a >= 1e-4 && a < 1e16) {
        n = strspn(p, "0123456789");

        if (n == 0 || (n > 1 && p[0] == '0') || p[n] != '.') {
            return 0;
        }

        p += n + 1;
        n = strspn(p, "0123456789");

        return n > 0 && p[n] == '\0' && (n == 1 || p[n - 1] != '0');
    }

    if (*p < '1' || *p > '9') {
        return 0;
    }

    p++;

    if (*p == '.') {
        n = strspn(++p, "0123456789");

        if (n == 0 || p[n - 1] == '0') {
            return 0;
        }

        p += n;
    }

    if (*p++ != 'e' || *p++ != (a < 1 ? '-' : '+')) {
        return 0;
    }

    n = strspn(p, "0123456789");

    return p[n] == '\0' && (n == 2 || (n == 3 && p[0] != '0'));
}


/* digits and exponent of what was printed: d * 10^ten */

static void
test_digits(const char *s, uint64_t *d, int *ten)
{
    int  point;

    *d = 0;
    *ten = 0;
    point = 0;

    for ( /* void */ ; *s != '\0' && *s != 'e'; s++) {
        if (*s == '.') {
            point = 1;

        } else if (*s != '-') {
            *d = *d * 10 + (uint64_t) (*s - '0');
            *ten -= point;
        }
    }

    if (*s == 'e') {
        *ten += atoi(s + 1);
    }

    while (*d % 10 == 0) {
        *d /= 10;
        ++*ten;
    }
}


static int
test_reads_as(uint64_t d, int ten, double v)
{
    char  text[40];

    snprintf(text, sizeof(text), "%llue%d", (unsigned long long) d, ten);

    return strtod(text, NULL) == v;
}


/*
 * Whether the text is as it must be for v, not 0.  Exact comparisons are slow
 * and are made only if asked for, or where a neighbour would do as well.
 */

static int
test_right(double v, int exact)
{
    int          ten, two, rc;
    double       a;
    uint64_t     d, m;
    const char  *s;

    s = test_print(v);
    a = fabs(v);

    if (!test_formed(s, v)
        || test_bits(strtod(s, NULL)) != test_bits(v)
        || test_bits(test_read(s)) != test_bits(v))
    {
        return 0;
    }

    test_digits(s, &d, &ten);
    test_split(a, &m, &two);

    /* not with a digit less; 1 has none to spare */

    if (d >= 10 && (test_reads_as(d / 10, ten + 1, a)
                    || test_reads_as(d / 10 + 1, ten + 1, a)))
    {
        return 0;
    }

    /* neither neighbour of as many digits is nearer, halfway the even one */

    if (exact || test_reads_as(d + 1, ten, a)) {
        rc = test_order(2 * (unsigned __int128) m, two, 2 * d + 1, ten);

        if (rc > 0 || (rc == 0 && (d & 1))) {
            return 0;
        }
    }

    if (test_reads_as(d - 1, ten, a)) {
        rc = test_order(2 * (unsigned __int128) m, two, 2 * d - 1, ten);

        if (rc < 0 || (rc == 0 && (d & 1))) {
            return 0;
        }
    }

    return 1;
}


static int
test_around(double v, int n)
{
    int       i, bad;
    uint64_t  bits;

    bad = 0;

    for (i = -n; i <= n; i++) {
        bits = test_bits(v) + (uint64_t) (int64_t) i;

        if (bits == 0 || bits >= GATE_FLOAT_INF) {
            continue;
        }

        if (!test_right(test_double(bits), i == 0)) {
            printf("# %a is %s\n", test_double(bits),
                   test_print(test_double(bits)));
            bad++;
        }
    }

    return bad;
}


static void
test_powers(void)
{
    int   i, bad;
    char  text[16];

    bad = 0;

    for (i = -1074; i <= 1023; i++) {
        bad += test_around(ldexp(1, i), 2);
    }

    tap_ok(bad == 0, "all powers of two and their neighbours are shortest "
           "and nearest");

    bad = 0;

    for (i = -323; i <= 308; i++) {
        snprintf(text, sizeof(text), "1e%d", i);
        bad += test_around(strtod(text, NULL), 2);

        snprintf(text, sizeof(text), "%d5e%d", i & 7, i - 1);
        bad += test_around(strtod(text, NULL), 1);
    }

    tap_ok(bad == 0, "all powers of ten and their neighbours, and halves");

    bad = 0;

    for (i = 1; i < 2000; i++) {
        bad += !test_right(test_double((uint64_t) i), 1);
        bad += !test_right(test_double(GATE_FLOAT_ONE - 1000
                                       + (uint64_t) i), i % 64 == 0);
        bad += !test_right(test_double(GATE_FLOAT_INF - (uint64_t) i),
                           i % 64 == 0);
    }

    tap_ok(bad == 0, "the least, the largest, and where normal ones begin");
}


static void
test_many(void)
{
    int       i, bad;
    double    v;
    uint64_t  seed, bits;

    seed = 20251015;
    bad = 0;

    for (i = 0; i < 60000; i++) {
        bits = tap_random(&seed);

        if ((bits & ~GATE_FLOAT_SIGN) < GATE_FLOAT_INF) {
            bad += !test_right(test_double(bits), i % 32 == 0);
        }
    }

    tap_ok(bad == 0, "any doubles");

    bad = 0;

    for (i = 0; i < 60000; i++) {
        v = 1.6e9 + tap_uniform(&seed) * 4e8;
        bad += !test_right(v, i % 32 == 0);

        v = (double) (tap_random(&seed) >> (tap_random(&seed) % 63 + 1));
        bad += !test_right(ldexp(v + 1, -(int) (tap_random(&seed) % 60)),
                           i % 32 == 0);
    }

    tap_ok(bad == 0, "times, and numbers with a few bits after the point");
}


/*
 * The decimal in full of what lies halfway between v and the double above,
 * as an integer with an exponent.
 */

static size_t
test_halfway(char *s, double v, int *ten)
{
    int         two;
    uint64_t    m;
    test_big_t  b;

    test_split(v, &m, &two);
    test_set(&b, 2 * m + 1);
    two--;

    /* 2^-n is 5^n / 10^n */

    *ten = two < 0 ? two : 0;

    if (two < 0) {
        test_times(&b, 5, -two);

    } else {
        test_power(&b, 2, two);
    }

    return test_decimal(s, &b);
}


static int
test_halves_of(double v, uint64_t *seed)
{
    int       ten, bad;
    char      digits[2500], text[3000];
    size_t    n, at;
    uint64_t  low, even;

    low = test_bits(v);
    even = low + (low & 1);
    n = test_halfway(digits, v, &ten);
    bad = 0;

    snprintf(text, sizeof(text), "%se%d", digits, ten);
    bad += (test_bits(test_read(text)) != even);

    /* its point anywhere */

    at = tap_random(seed) % (n + 1);

    if (at > 0 && at < n) {
        snprintf(text, sizeof(text), "%.*s.%se%d", (int) at, digits,
                 digits + at, ten + (int) (n - at));
        bad += (test_bits(test_read(text)) != even);

        /* a last digit more, far behind */

        snprintf(text, sizeof(text), "-%.*s.%s%0*d1e%d", (int) at, digits,
                 digits + at, (int) (tap_random(seed) % 300 + 1), 0,
                 ten + (int) (n - at));
        bad += (test_bits(test_read(text)) != ((low + 1) | GATE_FLOAT_SIGN));
    }

    snprintf(text, sizeof(text), "%s0001E%d", digits, ten - 4);
    bad += (test_bits(test_read(text)) != low + 1);

    for (at = n - 1; digits[at] == '0'; at--) {
        digits[at] = '9';
    }

    digits[at]--;

    snprintf(text, sizeof(text), "%s%se%d", digits,
             tap_random(seed) & 1 ? "999" : "000", ten - 3);
    bad += (test_bits(test_read(text)) != low);

    if (bad) {
        printf("# above %a\n", v);
    }

    return bad;
}


static void
test_halves(void)
{
    int       i, bad;
    uint64_t  seed, bits;

    seed = 4503599627370497;
    bad = 0;

    for (i = 0; i < 1500; i++) {
        bits = tap_random(&seed) & ~GATE_FLOAT_SIGN;

        if (bits < GATE_FLOAT_INF) {
            bad += test_halves_of(test_double(bits), &seed);
        }
    }

    for (i = -1074; i <= 1023; i += 3) {
        bad += test_halves_of(ldexp(1, i), &seed);
    }

    /* the one with the most digits, and what is infinite first */

    bad += test_halves_of(test_double(GATE_FLOAT_ONE * 2 - 1), &seed);
    bad += test_halves_of(test_double(GATE_FLOAT_INF - 1), &seed);
    bad += test_halves_of(0, &seed);

    tap_ok(bad == 0, "halfway the even one is read, next to that the nearest");
}


static int
test_agrees(const char *s)
{
    if (test_bits(test_read(s)) == test_bits(strtod(s, NULL))) {
        return 1;
    }

    printf("# %s: %a, not %a\n", s, test_read(s), strtod(s, NULL));

    return 0;
}


static void
test_tokens(void)
{
    int       i, n, bad;
    char      text[2048], *p;
    uint64_t  seed, r;

    seed = 31;
    bad = 0;

    for (i = 0; i < 100000; i++) {
        p = text;
        r = tap_random(&seed);

        if (r & 1) {
            *p++ = '-';
        }

        n = (int) (r >> 8 & 31) + 1;

        if (i % 64 == 0) {
            n += (int) (r >> 16 & 1023);
        }

        /* no zero leads, but for one alone */

        *p++ = (char) (r & 2 ? '0' : '1' + (r >> 1) % 9);

        if (!(r & 2)) {
            while (n-- > 1 && (tap_random(&seed) & 7) != 0) {
                *p++ = (char) ('0' + tap_random(&seed) % 10);
            }
        }

        if (n > 0 && r & 4) {
            *p++ = '.';

            do {
                *p++ = (char) ('0' + tap_random(&seed) % (r & 8 ? 10 : 2));
            } while (--n > 0);
        }

        if (r & 16) {
            p += sprintf(p, "%c%s%d", r & 32 ? 'e' : 'E',
                         r & 64 ? "-" : r & 128 ? "+" : "",
                         (int) ((r >> 32) % (r & 512 ? 330 : 30)));
        }

        *p = '\0';

        bad += !test_agrees(text);
    }

    tap_ok(bad == 0, "reads tokens of any form as strtod() does");
}


static void
test_far(void)
{
    size_t       i;
    static char  text[20000];

    static const struct {
        const char  *text;
        double       v;
    } far[] = {
        { "0", 0.0 },
        { "-0", -0.0 },
        { "-0.0", -0.0 },
        { "0e99999999999999999999", 0.0 },
        { "-0e-5", -0.0 },
        { "1e400", INFINITY },
        { "-1e400", -INFINITY },
        { "1e-400", 0.0 },
        { "-1e-400", -0.0 },
        { "1e99999999999999999999", INFINITY },
        { "1e-99999999999999999999", 0.0 },
        { "1E+2", 100.0 },
        { "9007199254740993", 9007199254740992.0 },
        { "9007199254740993.0000000000000000001", 9007199254740994.0 },
        { "18446744073709551615", 0x1p64 },
        { "18446744073709551616", 0x1p64 },
        { "9999999999999999999", 1e19 },
        { "10000000000000000000", 1e19 },
        { "1.7976931348623158e308", 1.7976931348623157e308 },
        { "1.7976931348623159e308", INFINITY },
        { "2.4703282292062327e-324", 0.0 },
        { "2.4703282292062328e-324", 5e-324 },
        { "4.9406564584124654e-324", 5e-324 },
        { "2.2250738585072011e-308", 0x0.fffffffffffffp-1022 },
        { "2.2250738585072012e-308", 0x1p-1022 },
        { "0.000001", 1e-6 },
        { "100000000000000000000000", 1e23 },
    };

    for (i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
        tap_ok(test_bits(test_read(far[i].text)) == test_bits(far[i].v),
               "reads %s", far[i].text);
    }

    snprintf(text, sizeof(text), "0.%0*d1e5001", 5000, 0);
    tap_ok(test_read(text) == 1.0, "zeros before it and an exponent cancel");

    snprintf(text, sizeof(text), "1%0*de-5000", 5000, 0);
    tap_ok(test_read(text) == 1.0, "so do zeros after it");

    memset(text, '9', 10000);
    text[10000] = '\0';
    tap_ok(test_read(text) == INFINITY, "ten thousand digits are infinite");

    snprintf(text + 10000, sizeof(text) - 10000, "e-10000");
    tap_ok(test_read(text) == 1.0, "with such an exponent they are 1");

    snprintf(text, sizeof(text), "9007199254740993.%0*d1", 9000, 0);
    tap_ok(test_read(text) == 9007199254740994.0,
           "the last of nine thousand digits decides");
}


int
main(void)
{
    test_table();
    test_logarithms();
    test_known();
    test_powers();
    test_many();
    test_halves();
    test_tokens();
    test_far();

    return tap_done();
}


#include "gate_float.h"

#include <stdint.h>
#include <string.h>


/*
 * Printing and reading share one table: the 128 leading bits g of the powers
 * of ten, truncated.  With G the exact value, 10^q = G * 2^(b - 127), where b
 * is the binary exponent of 10^q and 2^127 <= g <= G < g + 1; g = G for
 * q = 0 .. 55.
 */

#define GATE_FLOAT_QMIN    (-342)
#define GATE_FLOAT_QMAX    324
#define GATE_FLOAT_QEXACT  55

/*
 * floor(log10(2^e)), floor(log10(2^e * 3 / 4)), floor(log2(10^q)); only what
 * is not negative may be shifted
 */

#define gate_float_log10(e)                                                   \
    ((((e) * 315653 + (1024 << 20)) >> 20) - 1024)
#define gate_float_log10_less(e)                                              \
    ((((e) * 315653 - 131008 + (1024 << 20)) >> 20) - 1024)
#define gate_float_log2(q)                                                    \
    ((((q) * 108853 + (2048 << 15)) >> 15) - 2048)

#define GATE_FLOAT_ONE     (UINT64_C(1) << 52)
#define GATE_FLOAT_SIGN    (UINT64_C(1) << 63)
#define GATE_FLOAT_INF     (UINT64_C(0x7ff) << 52)

/* so many digits go into 64 bits: 10^19 does */
#define GATE_FLOAT_DIGITS  19
#define GATE_FLOAT_WORD    UINT64_C(10000000000000000000)

/* 5^27, the most that do */
#define GATE_FLOAT_FIVES   UINT64_C(7450580596923828125)

/*
 * A number halfway between two doubles has 768 significant digits at most:
 * of those that follow, only whether one is not 0 matters.
 */
#define GATE_FLOAT_SIGNIFICANT  800

/* limbs of 64 bits: 10^1124 times a significand has 3800 bits */
#define GATE_FLOAT_LIMBS        64


#ifndef __SIZEOF_INT128__
#error "numbers are read and printed with 128-bit integers: 64-bit targets only"
#endif

__extension__ typedef unsigned __int128  gate_float_u128_t;


typedef struct {
    uint64_t              hi;
    uint64_t              lo;
} gate_float_power_t;


typedef struct {
    const unsigned char  *digits;      /* from the first one that is not 0 */
    const unsigned char  *last;        /* of the significand, the "." may be
                                          in it */
    uint64_t              w;           /* 19 digits of it at most */
    int64_t               q;           /* w * 10^q */
    unsigned              minus:1;
    unsigned              more:1;      /* not only that: digits were cut off */
} gate_float_token_t;


typedef struct {
    unsigned              n;
    uint64_t              limb[GATE_FLOAT_LIMBS];
} gate_float_big_t;


static uint64_t gate_float_shortest(uint64_t bits, int *exp);
static uint64_t gate_float_odd(const gate_float_power_t *g, uint64_t c);
static size_t gate_float_format(unsigned char *dst, const unsigned char *s,
    int n, int point);

static void gate_float_scan(gate_float_token_t *t, const unsigned char *s,
    size_t len);
static uint64_t gate_float_nearest(const gate_float_token_t *t);
static uint64_t gate_float_round(gate_float_u128_t x, int exp,
    unsigned sticky);
static uint64_t gate_float_decide(const gate_float_token_t *t, uint64_t low);
static void gate_float_multiply(gate_float_big_t *b, uint64_t factor,
    uint64_t add);
static void gate_float_multiply_power(gate_float_big_t *b, unsigned n);
static void gate_float_shift(gate_float_big_t *b, unsigned n);
static int gate_float_compare(const gate_float_big_t *a,
    const gate_float_big_t *b);


static const gate_float_power_t  gate_float_powers[] = {
#include "gate_float_table.inc"
};

#define gate_float_power(q)  (&gate_float_powers[(q) - GATE_FLOAT_QMIN])


static const char  gate_float_pairs[] =
    "00010203040506070809" "10111213141516171819"
    "20212223242526272829" "30313233343536373839"
    "40414243444546474849" "50515253545556575859"
    "60616263646566676869" "70717273747576777879"
    "80818283848586878889" "90919293949596979899";


size_t
gate_float_print(unsigned char dst[GATE_FLOAT_MAX], double v)
{
    int             exp;
    size_t          minus;
    uint64_t        bits, d, r;
    unsigned char   text[20], *p;

    memcpy(&bits, &v, sizeof(bits));

    minus = (bits & GATE_FLOAT_SIGN) != 0;
    bits &= ~GATE_FLOAT_SIGN;

    if (bits > GATE_FLOAT_INF) {
        memcpy(dst, "NaN", 3);
        return 3;
    }

    dst[0] = '-';

    if (bits == GATE_FLOAT_INF) {
        memcpy(dst + minus, "Infinity", 8);
        return minus + 8;
    }

    if (bits == 0) {
        memcpy(dst + minus, "0.0", 3);
        return minus + 3;
    }

    d = gate_float_shortest(bits, &exp);

    p = text + sizeof(text);

    while (d >= 100) {
        r = d % 100;
        d /= 100;
        p -= 2;
        memcpy(p, gate_float_pairs + 2 * r, 2);
    }

    p -= 2;
    memcpy(p, gate_float_pairs + 2 * d, 2);
    p += (d < 10);

    exp += (int) (text + sizeof(text) - p);

    d = (uint64_t) (text + sizeof(text) - p);

    while (p[d - 1] == '0') {
        d--;
    }

    return minus + gate_float_format(dst + minus, p, (int) d, exp);
}


/*
 * Schubfach.  v = c * 2^q is scaled by a power of ten so that among the
 * multiples of 10 within its rounding interval there is one at most, and at
 * least one integer.  That multiple is the shortest then, once its zeros are
 * taken off; else the integers next to v are looked at.  All is done on
 * v * 4 / 10^k, where bounds of the interval are integers before the scaling.
 * After it they are rounded to odd, which keeps each comparison's outcome.
 */

static uint64_t
gate_float_shortest(uint64_t bits, int *exp)
{
    int                        q, k, h;
    uint64_t                   c, s, t, low, high, mid, odd, narrow;
    gate_float_power_t         g;
    const gate_float_power_t  *p;

    c = bits & (GATE_FLOAT_ONE - 1);
    q = (int) (bits >> 52);

    /* below a power of two the doubles are twice as dense */
    narrow = (c == 0 && q > 1);

    if (q != 0) {
        c |= GATE_FLOAT_ONE;
        q -= 1075;

    } else {
        q = -1074;
    }

    k = narrow ? gate_float_log10_less(q) : gate_float_log10(q);
    h = q + gate_float_log2(-k) + 1;

    /* the proof wants it rounded up, always */

    p = gate_float_power(-k);
    g.lo = p->lo + 1;
    g.hi = p->hi + (g.lo == 0);

    /* the bounds themselves belong to it where v is even */

    odd = c & 1;
    low = gate_float_odd(&g, (4 * c - 2 + narrow) << h) + odd;
    mid = gate_float_odd(&g, (4 * c) << h);
    high = gate_float_odd(&g, (4 * c + 2) << h) - odd;

    s = mid / 4;

    if (s >= 10) {
        t = s / 10;

        if ((low <= 40 * t) != (40 * t + 40 <= high)) {
            *exp = k + 1;
            return t + (40 * t + 40 <= high);
        }
    }

    *exp = k;

    if ((low <= 4 * s) != (4 * s + 4 <= high)) {
        return s + (4 * s + 4 <= high);
    }

    t = 4 * s + 2;

    return s + (mid > t || (mid == t && (s & 1)));
}


/*
 * c * g / 2^128, rounded to odd: cut off, the last bit set if inexact.
 *
 * c times what g is too large by is less than 1 in the middle word: an integer
 * is still seen to be one.  Can it be too much for what is just below one, or
 * be lost in what is just above?  The continued fractions of all 2046 scales
 * tell how near these come: from below never (2^-61.5 at least are missing),
 * from above once (by 2^-65.4), a number whose last bit is set anyway.
 */

static uint64_t
gate_float_odd(const gate_float_power_t *g, uint64_t c)
{
    gate_float_u128_t  x;

    x = (gate_float_u128_t) c * g->lo;
    x = (gate_float_u128_t) c * g->hi + (uint64_t) (x >> 64);

    return (uint64_t) (x >> 64) | ((uint64_t) x != 0);
}


/* n digits, the point after so many of them */

static size_t
gate_float_format(unsigned char *dst, const unsigned char *s, int n, int point)
{
    int             exp;
    unsigned char  *p;

    p = dst;

    if (point > -4 && point <= 0) {
        memcpy(p, "0.000", 5);
        p += 2 - point;
        memcpy(p, s, (size_t) n);

        return (size_t) (p - dst + n);
    }

    if (point > 0 && point <= 16) {

        if (point >= n) {
            memcpy(p, s, (size_t) n);
            memset(p + n, '0', (size_t) (point - n));
            memcpy(p + point, ".0", 2);

            return (size_t) point + 2;
        }

        memcpy(p, s, (size_t) point);
        p[point] = '.';
        memcpy(p + point + 1, s + point, (size_t) (n - point));

        return (size_t) n + 1;
    }

    *p++ = s[0];

    if (n > 1) {
        *p++ = '.';
        memcpy(p, s + 1, (size_t) n - 1);
        p += n - 1;
    }

    exp = point - 1;

    *p++ = 'e';
    *p++ = exp < 0 ? '-' : '+';

    exp = exp < 0 ? -exp : exp;

    if (exp >= 100) {
        *p++ = (unsigned char) ('0' + exp / 100);
        exp %= 100;
    }

    memcpy(p, gate_float_pairs + 2 * (size_t) exp, 2);

    return (size_t) (p - dst + 2);
}


double
gate_float_read(const unsigned char *s, size_t len)
{
    double              v;
    uint64_t            bits;
    gate_float_token_t  t;

    gate_float_scan(&t, s, len);

    bits = t.w != 0 ? gate_float_nearest(&t) : 0;

    if (t.minus) {
        bits |= GATE_FLOAT_SIGN;
    }

    memcpy(&v, &bits, sizeof(v));

    return v;
}


static void
gate_float_scan(gate_float_token_t *t, const unsigned char *s, size_t len)
{
    int                   minus;
    int64_t               exp;
    unsigned              n, point;
    const unsigned char  *p, *last;

    p = s;
    last = s + len;

    memset(t, 0, sizeof(*t));

    if (p < last && *p == '-') {
        t->minus = 1;
        p++;
    }

    n = 0;
    point = 0;
    t->digits = NULL;

    for ( /* void */ ; p < last; p++) {

        if (*p == '.') {
            point = 1;
            continue;
        }

        if (*p < '0' || *p > '9') {
            break;
        }

        if (n == 0 && *p == '0') {
            t->q -= point;
            continue;
        }

        if (n == 0) {
            t->digits = p;
        }

        if (n < GATE_FLOAT_DIGITS) {
            t->w = t->w * 10 + (*p - '0');
            t->q -= point;
            n++;

        } else {
            t->more |= (*p != '0');
            t->q += !point;
        }
    }

    t->last = p;

    if (p == last) {
        return;
    }

    /* "e" */

    p++;
    minus = (p < last && *p == '-');

    if (p < last && (*p == '-' || *p == '+')) {
        p++;
    }

    exp = 0;

    for ( /* void */ ; p < last && *p >= '0' && *p <= '9'; p++) {

        /* more than any number of zeros could make up for */

        if (exp < INT64_C(1000000000000000)) {
            exp = exp * 10 + (*p - '0');
        }
    }

    t->q += minus ? -exp : exp;
}


/*
 * The product of 64 bits of the number and 128 of the power of ten is less
 * than the value by so much at most.  If both ends of that round to one
 * double, it is the one.  This settles all but the numbers that are halfway
 * between two doubles or next to that.
 */

static uint64_t
gate_float_nearest(const gate_float_token_t *t)
{
    int                        q, z, exp;
    uint64_t                   w, low, high;
    gate_float_u128_t          x, y, error;
    const gate_float_power_t  *g;

    /* w < 10^19, the least double is 4.9e-324 and the largest 1.8e308 */

    if (t->q < GATE_FLOAT_QMIN) {
        return 0;
    }

    if (t->q > 308) {
        return GATE_FLOAT_INF;
    }

    w = t->w;
    q = (int) t->q;
    z = __builtin_clzll(w);
    w <<= z;

    g = gate_float_power(q);

    x = (gate_float_u128_t) w * g->lo;
    y = (gate_float_u128_t) w * g->hi + (uint64_t) (x >> 64);

    /* two bits less leave room to add what is missing */

    exp = gate_float_log2(q) - 127 + 64 + 2 - z;
    low = gate_float_round(y >> 2, exp,
                           (uint64_t) x != 0 || (y & 3) != 0 || t->more
                           || q < 0 || q > GATE_FLOAT_QEXACT);

    if (!t->more && q >= 0 && q <= GATE_FLOAT_QEXACT) {
        return low;
    }

    /* what the table lacks is less than 1 here, and then what w lacks */

    error = 1;

    if (t->more) {
        error += ((gate_float_u128_t) 1 << (62 + z)) + 1;
    }

    high = gate_float_round((y >> 2) + error, exp, 1);

    return low == high ? low : gate_float_decide(t, low);
}


/* x * 2^exp, or a bit more if sticky, as the nearest double's bits */

static uint64_t
gate_float_round(gate_float_u128_t x, int exp, unsigned sticky)
{
    int                lead, last, biased, shift;
    uint64_t           m;
    gate_float_u128_t  rest, half;

    lead = 127 - __builtin_clzll((uint64_t) (x >> 64)) + exp;
    last = lead - 52;
    biased = 0;

    if (last < -1074) {
        last = -1074;

    } else {
        biased = last + 1074;
    }

    shift = last - exp;

    if (shift > 127) {

        /* less than half of the least double */
        return 0;
    }

    m = (uint64_t) (x >> shift);
    half = (gate_float_u128_t) 1 << (shift - 1);
    rest = x & (2 * half - 1);

    if (rest > half || (rest == half && (sticky || (m & 1)))) {
        m++;
    }

    /* the leading bit of m, or a carry, adds 1 to the exponent */

    m += (uint64_t) biased << 52;

    return m < GATE_FLOAT_INF ? m : GATE_FLOAT_INF;
}


/*
 * Is it low or the double above?  The number and what is halfway between
 * these are compared exactly, both as integers: each power with a negative
 * exponent multiplies the other side.
 */

static uint64_t
gate_float_decide(const gate_float_token_t *t, uint64_t low)
{
    int                   rc, two;
    int64_t               ten;
    unsigned              n, sticky;
    uint64_t              m, word, scale;
    const unsigned char  *p;
    gate_float_big_t      a, b;

    a.n = 0;
    n = 0;
    word = 0;
    scale = 1;
    sticky = 0;

    for (p = t->digits; p < t->last; p++) {

        if (*p == '.') {
            continue;
        }

        if (n == GATE_FLOAT_SIGNIFICANT) {
            sticky |= (*p != '0');
            continue;
        }

        word = word * 10 + (*p - '0');
        scale *= 10;
        n++;

        if (scale == GATE_FLOAT_WORD) {
            gate_float_multiply(&a, scale, word);
            word = 0;
            scale = 1;
        }
    }

    gate_float_multiply(&a, scale, word);

    /* that of w counts for its first digits */

    ten = t->q;

    if (n > GATE_FLOAT_DIGITS) {
        ten -= (int64_t) n - GATE_FLOAT_DIGITS;
    }

    m = low & (GATE_FLOAT_ONE - 1);
    two = (int) (low >> 52);

    if (two != 0) {
        m |= GATE_FLOAT_ONE;
        two--;
    }

    two -= 1075;

    b.n = 0;
    gate_float_multiply(&b, 1, 2 * m + 1);

    gate_float_multiply_power(ten < 0 ? &b : &a,
                              (unsigned) (ten < 0 ? -ten : ten));

    /* 10^n is 5^n * 2^n, and the latter goes with the other powers of two */

    two -= (int) ten;

    gate_float_shift(two < 0 ? &a : &b, (unsigned) (two < 0 ? -two : two));

    rc = gate_float_compare(&a, &b);

    if (rc == 0) {
        return low + (sticky || (low & 1));
    }

    return low + (rc > 0);
}


static void
gate_float_multiply(gate_float_big_t *b, uint64_t factor, uint64_t add)
{
    unsigned           i;
    gate_float_u128_t  x;

    x = add;

    for (i = 0; i < b->n; i++) {
        x += (gate_float_u128_t) b->limb[i] * factor;
        b->limb[i] = (uint64_t) x;
        x >>= 64;
    }

    if (x != 0 && b->n < GATE_FLOAT_LIMBS) {
        b->limb[b->n++] = (uint64_t) x;
    }
}


/* times 5^n */

static void
gate_float_multiply_power(gate_float_big_t *b, unsigned n)
{
    uint64_t  factor;

    for ( /* void */ ; n >= 27; n -= 27) {
        gate_float_multiply(b, GATE_FLOAT_FIVES, 0);
    }

    for (factor = 1; n != 0; n--) {
        factor *= 5;
    }

    gate_float_multiply(b, factor, 0);
}


/* times 2^n */

static void
gate_float_shift(gate_float_big_t *b, unsigned n)
{
    unsigned  i, limbs;

    gate_float_multiply(b, UINT64_C(1) << (n % 64), 0);

    limbs = n / 64;

    if (b->n + limbs > GATE_FLOAT_LIMBS) {
        return;
    }

    for (i = b->n; i-- > 0; /* void */ ) {
        b->limb[i + limbs] = b->limb[i];
    }

    memset(b->limb, 0, limbs * sizeof(b->limb[0]));
    b->n += limbs;
}


static int
gate_float_compare(const gate_float_big_t *a, const gate_float_big_t *b)
{
    unsigned  i;

    if (a->n != b->n) {
        return a->n < b->n ? -1 : 1;
    }

    for (i = a->n; i-- > 0; /* void */ ) {
        if (a->limb[i] != b->limb[i]) {
            return a->limb[i] < b->limb[i] ? -1 : 1;
        }
    }

    return 0;
}

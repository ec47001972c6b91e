
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Does it show in the time where a MAC is wrong?
 *
 *     cc -std=c11 -D_GNU_SOURCE -O2 -Isrc -o cursor-timing \
 *         t/bench/cursor-timing.c -lcrypto -lm
 *     ./cursor-timing [MEASUREMENTS]
 *
 * After "dude, is my code constant time?" (Reparaz, Balasch, Verbauwhede,
 * 2017): one cursor whose MAC is wrong in its first byte and one that is wrong
 * in its last, verified in random order from the same memory, a million of
 * each pair by default; Welch's t of the two classes, of all measurements and
 * of those below a number of percentiles, because what the machine does
 * meanwhile hides small differences in the long tail.  |t| of 4.5 and more
 * anywhere is a difference.
 *
 * A comparison that stops at the first byte that differs is measured likewise,
 * and must be found out: it takes a few nanoseconds more for 31 bytes.
 *
 * The exit code is 1 if a format shows a difference, 2 if the one that must
 * does not.
 */


#include "core/gate_base64.c"
#include "core/gate_cursor.c"
#include "core/gate_cursor_detached.c"
#include "core/gate_cursor_envelope.c"
#include "core/gate_cursor_jws.c"
#include "core/gate_cursor_key.c"
#include "core/gate_cursor_sign.c"
#include "core/gate_float.c"
#include "core/gate_hmac.c"
#include "core/gate_json.c"
#include "core/gate_json_print.c"

#include <stdlib.h>

#include "ticks.h"


#define MEASUREMENTS  1000000
#define CROPS         20
#define BOUND         4.5

#define NOW           1760493130.25


typedef struct {
    double  n;
    double  mean;
    double  m2;
} moments_t;


static const char  secret[] = "test-cursor-secret-for-pagination-edge";

static gate_cursor_rules_t     rules;
static gate_cursor_key_t       key;
static gate_cursor_scratch_t   scratch;
static uint64_t               *samples, *sorted;
static unsigned char          *classes;
static size_t                  total;

static unsigned char           text[2][2 * GATE_CURSOR_LENGTH];
static size_t                  text_len;


static void
die(const char *what)
{
    fprintf(stderr, "cursor-timing: %s\n", what);
    exit(1);
}


static const gate_cursor_key_t  *ring = &key;


static int
verify(const unsigned char *s, size_t len)
{
    gate_cursor_t  c;

    return (int) gate_cursor_verify(&c, &rules, &ring, 1, s, len, NOW,
                                    &scratch);
}


/* What must not be done: the first byte that differs ends it. */

__attribute__((noinline))
static int
early(const unsigned char *s, size_t len)
{
    size_t                         i;
    volatile const unsigned char  *right = scratch.text;

    for (i = 0; i < len; i++) {
        if (right[i] != s[i]) {
            return (int) i;
        }
    }

    return -1;
}


static void
add(moments_t *m, double x)
{
    double  delta;

    m->n++;
    delta = x - m->mean;
    m->mean += delta / m->n;
    m->m2 += delta * (x - m->mean);
}


static double
welch(uint64_t crop)
{
    double     t;
    size_t     i;
    moments_t  m[2];

    memset(m, 0, sizeof(m));

    for (i = 0; i < total; i++) {
        if (samples[i] <= crop) {
            add(&m[classes[i]], (double) samples[i]);
        }
    }

    if (m[0].n < 1000 || m[1].n < 1000) {
        return 0;
    }

    t = sqrt(m[0].m2 / (m[0].n - 1) / m[0].n
             + m[1].m2 / (m[1].n - 1) / m[1].n);

    return t > 0 ? (m[0].mean - m[1].mean) / t : 0;
}


/* The worst t, with its sign. */

static double
measure(int (*one)(const unsigned char *s, size_t len))
{
    int            sum;
    double         t, worst;
    size_t         i;
    uint64_t       from;
    unsigned char  buf[2 * GATE_CURSOR_LENGTH];

    for (i = 0; i < total; i++) {
        classes[i] = ticks_next() >> 63;
    }

    sum = 0;

    for (i = 0; i < total; i++) {
        memcpy(buf, text[classes[i]], text_len);

        from = ticks();
        sum += one(buf, text_len);
        samples[i] = ticks() - from;
    }

    memcpy(sorted, samples, total * sizeof(uint64_t));
    qsort(sorted, total, sizeof(uint64_t), ticks_compare);

    worst = welch(UINT64_MAX);

    for (i = 1; i <= CROPS; i++) {

        /* as there: closer and closer to all of them */

        t = welch(sorted[(size_t) ((double) (total - 1)
                         * (1 - pow(0.5, 10.0 * (double) i / CROPS)))]);
        worst = fabs(t) > fabs(worst) ? t : worst;
    }

    return sum == 1 ? worst + 1e-12 : worst;
}


/*
 * Another hexadecimal digit.  A digit stays one and a letter a letter: how it
 * is written is not what is asked here.
 */

static unsigned char
other(unsigned char c)
{
    return (c <= '9') ? c ^ 1 : ((c - 1) ^ 1) + 1;
}


/* The cursor with its MAC's first and last byte wrong. */

static void
prepare(gate_cursor_format_e format, const char *payload)
{
    size_t                n, first, last;
    const char           *why;
    unsigned char         good[2 * GATE_CURSOR_LENGTH];
    static unsigned char  text2[2 * GATE_CURSOR_LENGTH];

    rules.format = format;

    text_len = gate_cursor_sign(good, format, &key,
                                (const unsigned char *) payload,
                                strlen(payload), &scratch, &why);
    if (text_len == 0) {
        die(why);
    }

    if (verify(good, text_len) != GATE_CURSOR_VALID) {
        die("a cursor is not valid");
    }

    if (format == GATE_CURSOR_ENVELOPE) {

        for (n = 0; n < 2; n++) {
            (void) gate_base64_decode(text2, &last, good, text_len,
                                      GATE_BASE64_PADDED);
            first = n ? last - 3 : last - 2 - 64;
            text2[first] = other(text2[first]);
            (void) gate_base64_encode(text[n], text2, last, 1);
        }

    } else {

        first = (size_t) ((unsigned char *) memrchr(good, '.', text_len)
                          - good) + 1;
        last = text_len - 1;

        memcpy(text[0], good, text_len);
        memcpy(text[1], good, text_len);

        if (last - first == 63) {
            text[0][first] = other(text[0][first]);
            text[1][last] = other(text[1][last]);

        } else {

            /* base64url: decoded, so that it stays canonical */

            (void) gate_base64_decode(text2, &n, good + first,
                                      last + 1 - first, GATE_BASE64_BARE);
            text2[0] ^= 4;
            (void) gate_base64_encode(text[0] + first, text2, n, 0);
            text2[0] ^= 4;
            text2[n - 1] ^= 4;
            (void) gate_base64_encode(text[1] + first, text2, n, 0);
        }
    }

    for (n = 0; n < 2; n++) {
        if (verify(text[n], text_len) != GATE_CURSOR_BAD_SIGNATURE) {
            die("a wrong MAC is taken");
        }
    }
}


/* 1 if there is a difference. */

static int
differs(const char *what, int (*one)(const unsigned char *s, size_t len))
{
    double  t;

    t = measure(one);

    printf("  %-44s |t| = %6.2f\n", what, fabs(t));
    fflush(stdout);

    return fabs(t) >= BOUND;
}


int
main(int argc, char **argv)
{
    int          found;
    size_t       i;
    const char  *why;

    static const struct {
        const char            *what;
        gate_cursor_format_e   format;
        const char            *payload;
    } tests[] = {
        { "envelope", GATE_CURSOR_ENVELOPE,
          "{\"offset\":50,\"ts\":1760493069.75}" },
        { "envelope, filters", GATE_CURSOR_ENVELOPE,
          "{\"offset\":50,\"ts\":1760493069.75,\"filters\":{\"b\":1}}" },
        { "detached", GATE_CURSOR_DETACHED,
          "{\"offset\":50,\"ts\":1760493069.75}" },
        { "jws, HS256", GATE_CURSOR_JWS,
          "{\"offset\":50,\"iat\":1760493069.75}" },
    };

    total = argc > 1 ? (size_t) strtoul(argv[1], NULL, 10) : MEASUREMENTS;

    if (total < 10000) {
        die("ten thousand measurements at least");
    }

    samples = malloc(total * sizeof(uint64_t));
    sorted = malloc(total * sizeof(uint64_t));
    classes = malloc(total);

    if (samples == NULL || sorted == NULL || classes == NULL) {
        die("no memory");
    }

    gate_cursor_rules_init(&rules);

    if (gate_cursor_key_init(&key, -1, GATE_CURSOR_KEY_RAW,
                             (const unsigned char *) secret,
                             sizeof(secret) - 1, &why)
        != 0)
    {
        die(why);
    }

    found = 0;

    for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        prepare(tests[i].format, tests[i].payload);
        (void) measure(verify);        /* warm */
        found |= differs(tests[i].what, verify);
    }

    memset(scratch.text, 7, 32);
    memset(text, 7, sizeof(text));
    text[0][0] = 8;
    text[1][31] = 8;
    text_len = 32;

    if (!differs("a comparison that stops early: must differ", early)) {
        printf("  FAILS: this measurement sees nothing\n");
        return 2;
    }

    printf("  %lu measurements each, |t| below %.1f: %s\n",
           (unsigned long) total, BOUND, found ? "FAILS" : "holds");

    return found;
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * What verifying a cursor costs.
 *
 *     cc -std=c11 -D_GNU_SOURCE -O2 -Isrc -o cursor t/bench/cursor.c -lcrypto
 *     ./cursor
 *
 * Each line is of some thousand cursors that differ, in random order: the
 * median and the 99th percentile of one verification between two readings of
 * the processor's counter, less what the readings cost around nothing.  A
 * million (less with BENCH_QUICK, or where one takes long) are timed.
 *
 * The floor is one MAC of a payload, made as we do it, from copies of two
 * states; below it the same MAC by other ways of the library.
 *
 * The exit code is 1 where the median of an issued envelope is not below 2 us,
 * or that of a detached cursor not below 1 us.
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

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>

#if OPENSSL_VERSION_NUMBER >= 0x30000000L
#include <openssl/core_names.h>
#endif

#include "ticks.h"


#define CURSORS   4096
#define SAMPLES   1000000
#define SLOW      20000                /* of what takes long */

#define ENVELOPE  2000.0               /* ns */
#define DETACHED  1000.0

#define NOW       1760493130.25


typedef struct {
    size_t         len;
    unsigned char  text[2 * GATE_CURSOR_LENGTH];
} text_t;


static const char  secret[] = "test-cursor-secret-for-pagination-edge";

static text_t                 *texts;
static uint64_t               *samples;
static size_t                  ntexts;
static double                  tick;   /* ns */
static double                  empty;  /* of the readings alone */
static gate_cursor_scratch_t   scratch;
static gate_cursor_rules_t     rules;
static gate_cursor_key_t       keys[GATE_CURSOR_ALGS];


static void
die(const char *what)
{
    fprintf(stderr, "cursor: %s\n", what);
    exit(1);
}


/* Two numbers that nobody has chosen, with members after them. */

static size_t
payload(char *dst, size_t size, const char *time_name, const char *more)
{
    int            n;
    size_t         len;
    double         ts;
    unsigned char  number[GATE_FLOAT_MAX + 1];

    ts = NOW - (double) (ticks_next() >> 11) / 0x1p53 * 500;

    len = gate_float_print(number, ts);
    number[len] = '\0';

    n = snprintf(dst, size, "{\"offset\":%u,\"%s\":%s%s}",
                 (unsigned) (ticks_next() >> 40) % 200 * 50, time_name,
                 (char *) number, more);

    return (size_t) n;
}


static void
sign(gate_cursor_format_e format, gate_cursor_alg_e alg, size_t n,
    const char *more)
{
    char         text[2048];
    size_t       i, len;
    const char  *why;

    rules.format = format;
    ntexts = n;

    for (i = 0; i < n; i++) {
        len = payload(text, sizeof(text),
                      format == GATE_CURSOR_JWS ? "iat" : "ts", more);

        texts[i].len = gate_cursor_sign(texts[i].text, format, &keys[alg],
                                        (unsigned char *) text, len,
                                        &scratch, &why);
        if (texts[i].len == 0) {
            die(why);
        }
    }
}


/* Envelopes with a signature that looks like one. */

static void
forge(size_t n, size_t (*fill)(char *dst, size_t size))
{
    char           text[GATE_CURSOR_BYTES], sig[65];
    size_t         i, k, len, room;
    static char    body[GATE_CURSOR_BYTES];

    rules.format = GATE_CURSOR_ENVELOPE;
    ntexts = n;
    room = GATE_CURSOR_LENGTH / 4 * 3 - 100;

    for (i = 0; i < n; i++) {

        for (k = 0; k < 64; k++) {
            sig[k] = "0123456789abcdef"[ticks_next() >> 60];
        }

        sig[64] = '\0';
        len = fill ? fill(body, room) : payload(body, room, "ts", "");
        body[len] = '\0';

        len = (size_t) snprintf(text, sizeof(text),
                                "{\"payload\":%s,\"sig\":\"%s\"}", body, sig);

        texts[i].len = gate_base64_encode(texts[i].text,
                                          (unsigned char *) text, len, 1);
    }
}


/* What is dear to read, to sort or to print. */

static size_t
repeated(char *dst, size_t size, const char *begin, const char *what,
    const char *end)
{
    size_t  n, len;

    len = strlen(what);
    n = strlen(begin);
    memcpy(dst, begin, n);

    while (n + len + strlen(end) < size) {
        memcpy(dst + n, what, len);
        n += len;
    }

    while (dst[n - 1] == ',') {
        n--;
    }

    memcpy(dst + n, end, strlen(end));

    return n + strlen(end);
}


static size_t
many_ints(char *dst, size_t size)
{
    return repeated(dst, size, "{\"offset\":1,\"ts\":1,\"filters\":[", "0,",
                    "]}");
}


static size_t
many_floats(char *dst, size_t size)
{
    return repeated(dst, size, "[", "1e9,", "]");
}


static size_t
long_floats(char *dst, size_t size)
{
    return repeated(dst, size, "[", "1.00000000000000011102230246251565,",
                    "]");
}


/* halfway between two doubles, as far as hundreds of digits say */

static size_t
half_floats(char *dst, size_t size)
{
    char  half[800];

    snprintf(half, sizeof(half), "1.00000000000000011102230246251565404236316"
             "680908203125%0700d,", 1);

    return repeated(dst, size, "[", half, "]");
}


static size_t
long_text(char *dst, size_t size)
{
    return repeated(dst, size, "\"", "\xc3\xa9", "\"");
}


static size_t
escapes(char *dst, size_t size)
{
    return repeated(dst, size, "\"", "\\n", "\"");
}


static size_t
many_names(char *dst, size_t size)
{
    size_t    n;
    unsigned  i;

    n = 0;

    while (n + 64 * 8 < size) {
        n += (size_t) sprintf(dst + n, n ? ",{" : "[{");

        for (i = 0; i < 64; i++) {
            n += (size_t) sprintf(dst + n, "%s\"%02x\":0", i ? "," : "",
                                  (unsigned) (ticks_next() >> 56));
        }

        dst[n++] = '}';
    }

    dst[n++] = ']';

    return n;
}


static size_t
deep(char *dst, size_t size)
{
    size_t    n;
    unsigned  i;

    n = 0;

    while (n + 240 < size) {
        n += (size_t) sprintf(dst + n, n ? "," : "[");

        for (i = 0; i < 29; i++) {
            n += (size_t) sprintf(dst + n, "{\"\":");
        }

        dst[n++] = '0';

        memset(dst + n, '}', 29);
        n += 29;
    }

    dst[n++] = ']';

    return n;
}


/* A token whose header is dear to read, and must be read first. */

static void
forge_jws(size_t n)
{
    char      head[2048];
    size_t    i, len;
    unsigned  k;

    rules.format = GATE_CURSOR_JWS;
    ntexts = n;

    for (i = 0; i < n; i++) {
        len = (size_t) sprintf(head, "{ \"alg\":\"HS256\"");

        for (k = 0; k < 63; k++) {
            len += (size_t) sprintf(head + len, ",\"\\n%.16s%02x\":0",
                                    "aaaaaaaaaaaaaaaa", (k + (unsigned) i)
                                                        % 256);
        }

        head[len++] = '}';

        len = gate_base64_encode(texts[i].text, (unsigned char *) head, len,
                                 0);
        memcpy(texts[i].text + len, ".e30.AAAA", 9);
        texts[i].len = len + 9;
    }
}


/* One of what is measured; its answer, for nobody to leave it out. */

typedef int (*measured_t)(size_t i);


static int
nothing(size_t i)
{
    return (int) i;
}


static const gate_cursor_key_t  *ring;


static int
verify(size_t i)
{
    gate_cursor_t  c;

    return (int) gate_cursor_verify(&c, &rules, &ring, 1, texts[i].text,
                                    texts[i].len, NOW, &scratch);
}


static int
by_states(size_t i)
{
    size_t         len;
    const void    *part;
    unsigned char  mac[GATE_HMAC_LEN];

    part = texts[i].text;
    len = texts[i].len;

    return gate_hmac_sign(&keys[0].hmac, &part, &len, 1, mac) | mac[0];
}


static EVP_MD_CTX  *inner, *outer, *work;


static int
by_md_ctx(size_t i)
{
    unsigned char  mac[GATE_HMAC_LEN];

    return EVP_MD_CTX_copy_ex(work, inner)
           + EVP_DigestUpdate(work, texts[i].text, texts[i].len)
           + EVP_DigestFinal_ex(work, mac, NULL)
           + EVP_MD_CTX_copy_ex(work, outer)
           + EVP_DigestUpdate(work, mac, sizeof(mac))
           + EVP_DigestFinal_ex(work, mac, NULL) + mac[0];
}


#if OPENSSL_VERSION_NUMBER >= 0x30000000L

static EVP_MAC_CTX  *mac_ctx;


static int
by_mac_ctx(size_t i)
{
    size_t         len;
    EVP_MAC_CTX   *ctx;
    unsigned char  mac[GATE_HMAC_LEN];

    ctx = EVP_MAC_CTX_dup(mac_ctx);

    if (ctx == NULL
        || !EVP_MAC_update(ctx, texts[i].text, texts[i].len)
        || !EVP_MAC_final(ctx, mac, &len, sizeof(mac)))
    {
        die("EVP_MAC");
    }

    EVP_MAC_CTX_free(ctx);

    return mac[0];
}

#endif


static int
by_hmac(size_t i)
{
    unsigned       len;
    unsigned char  mac[GATE_HMAC_LEN];

    HMAC(EVP_sha256(), secret, sizeof(secret) - 1, texts[i].text,
         texts[i].len, mac, &len);

    return mac[0];
}


static double
measure(const char *what, measured_t one, size_t n)
{
    int       sum;
    double    median;
    size_t    i, k;
    uint64_t  from;

    sum = 0;

    if (getenv("BENCH_QUICK")) {
        n /= 20;
    }

    for (i = 0; i < n + n / 10; i++) {
        k = (size_t) (ticks_next() >> 20) % ntexts;

        from = ticks();
        sum += one(k);
        from = ticks() - from;

        /* the first tenth warms up, and is overwritten */
        samples[i % n] = from;
    }

    qsort(samples, n, sizeof(uint64_t), ticks_compare);

    median = (double) samples[n / 2] * tick - empty;

    if (what) {
        printf("  %-46s %9.0f ns, p99 %8.0f%s\n", what, median,
               (double) samples[n / 100 * 99] * tick - empty,
               sum == 1 ? " " : "");
        fflush(stdout);
    }

    return median;
}


/* All cursors are what they should be. */

static void
all(gate_cursor_status_e status)
{
    size_t  i;

    for (i = 0; i < ntexts; i++) {
        if (verify(i) != (int) status) {
            die("a cursor is not what it should be");
        }
    }
}


static void
pair(gate_cursor_alg_e alg, int id)
{
    BIO           *bio;
    char          *text;
    long           len;
    EVP_PKEY      *pkey;
    const char    *why;
    EVP_PKEY_CTX  *ctx;

    pkey = NULL;
    ctx = EVP_PKEY_CTX_new_id(id, NULL);
    bio = BIO_new(BIO_s_mem());

    if (ctx == NULL || bio == NULL
        || EVP_PKEY_keygen_init(ctx) != 1
        || (id == EVP_PKEY_EC
            && EVP_PKEY_CTX_set_ec_paramgen_curve_nid(ctx,
                                                      NID_X9_62_prime256v1)
               != 1)
        || EVP_PKEY_keygen(ctx, &pkey) != 1
        || !PEM_write_bio_PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL))
    {
        die("no pair of keys");
    }

    len = BIO_get_mem_data(bio, &text);

    if (gate_cursor_key_init(&keys[alg], (int) alg, GATE_CURSOR_KEY_PEM,
                             (unsigned char *) text, (size_t) len, &why)
        != 0)
    {
        die(why);
    }

    BIO_free(bio);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(pkey);
}


static void
prepare(void)
{
    int          alg;
    const char  *why;

    texts = malloc(CURSORS * sizeof(text_t));
    samples = malloc(SAMPLES * sizeof(uint64_t));

    if (texts == NULL || samples == NULL) {
        die("no memory");
    }

    for (alg = GATE_CURSOR_HS256; alg <= GATE_CURSOR_HS512; alg++) {
        if (gate_cursor_key_init(&keys[alg], alg, GATE_CURSOR_KEY_RAW,
                                 (const unsigned char *) secret,
                                 sizeof(secret) - 1, &why)
            != 0)
        {
            die(why);
        }
    }

    pair(GATE_CURSOR_ES256, EVP_PKEY_EC);
    pair(GATE_CURSOR_EDDSA, EVP_PKEY_ED25519);

    gate_cursor_rules_init(&rules);
    ring = &keys[0];
    ntexts = CURSORS;
    tick = ticks_length();
    empty = measure(NULL, nothing, SAMPLES);
}


static void
floors(void)
{
    size_t         i;
    unsigned char  pad[64];

    for (i = 0; i < CURSORS; i++) {
        texts[i].len = payload((char *) texts[i].text, 100, "ts", "");
    }

    ntexts = CURSORS;

    inner = EVP_MD_CTX_new();
    outer = EVP_MD_CTX_new();
    work = EVP_MD_CTX_new();

    for (i = 0; i < 64; i++) {
        pad[i] = (unsigned char) ((i < sizeof(secret) - 1 ? secret[i] : 0)
                                  ^ 0x36);
    }

    EVP_DigestInit_ex(inner, EVP_sha256(), NULL);
    EVP_DigestUpdate(inner, pad, 64);

    for (i = 0; i < 64; i++) {
        pad[i] ^= 0x36 ^ 0x5c;
    }

    EVP_DigestInit_ex(outer, EVP_sha256(), NULL);
    EVP_DigestUpdate(outer, pad, 64);

    measure("floor: one MAC of a payload", by_states, SAMPLES);
    measure("the same, two copies of an EVP_MD_CTX", by_md_ctx, SAMPLES);

#if OPENSSL_VERSION_NUMBER >= 0x30000000L
    {
        EVP_MAC     *mac;
        OSSL_PARAM   params[2];
        char         digest[] = "SHA256";

        mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
        mac_ctx = EVP_MAC_CTX_new(mac);
        params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
                                                     digest, 0);
        params[1] = OSSL_PARAM_construct_end();

        if (!EVP_MAC_init(mac_ctx, (const unsigned char *) secret,
                          sizeof(secret) - 1, params))
        {
            die("EVP_MAC_init");
        }

        measure("the same, a copy of an EVP_MAC_CTX", by_mac_ctx, SAMPLES);
    }
#endif

    measure("the same, HMAC()", by_hmac, SAMPLES);
    printf("\n");
}


static const struct {
    const char  *what;
    size_t     (*fill)(char *dst, size_t size);
} odd[] = {
    { "a list of integers", many_ints },
    { "a list of floats", many_floats },
    { "a list of long floats", long_floats },
    { "floats halfway between two", half_floats },
    { "text that is not ASCII", long_text },
    { "text of escapes", escapes },
    { "objects of 64 members", many_names },
    { "objects in objects", deep }
};


int
main(void)
{
    int     failed;
    char    what[80];
    double  envelope, detached, worst, median;
    size_t  i;

    prepare();
    floors();

    sign(GATE_CURSOR_ENVELOPE, GATE_CURSOR_HS256, CURSORS, "");
    all(GATE_CURSOR_VALID);
    envelope = measure("envelope, issued", verify, SAMPLES);

    rules.mode = GATE_CURSOR_COMPAT;
    measure("envelope, issued, mode=compat", verify, SAMPLES);
    rules.mode = GATE_CURSOR_STRICT;

    sign(GATE_CURSOR_ENVELOPE, GATE_CURSOR_HS256, CURSORS,
         ",\"order_by\":\"created_at\",\"filters\":{\"city\":\"S\\u00e3o "
         "Paulo\",\"min_price\":149.99,\"status\":[\"active\",\"pending\"],"
         "\"guests\":4}");
    all(GATE_CURSOR_VALID);
    measure("envelope, issued, order_by and filters", verify, SAMPLES);

    forge(CURSORS, NULL);
    all(GATE_CURSOR_BAD_SIGNATURE);
    measure("envelope, forged", verify, SAMPLES);

    worst = 0;

    for (i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        forge(256, odd[i].fill);
        all(GATE_CURSOR_BAD_SIGNATURE);
        snprintf(what, sizeof(what), "forged, 4096 characters: %s",
                 odd[i].what);
        median = measure(what, verify, SLOW);
        worst = median > worst ? median : worst;
    }

    forge_jws(256);
    all(GATE_CURSOR_BAD_SIGNATURE);
    median = measure("forged, a JWS with a header of 64 members", verify,
                     SLOW);
    worst = median > worst ? median : worst;

    sign(GATE_CURSOR_DETACHED, GATE_CURSOR_HS256, CURSORS, "");
    all(GATE_CURSOR_VALID);
    detached = measure("detached", verify, SAMPLES);

    for (i = 0; i < GATE_CURSOR_ALGS; i++) {
        ring = &keys[i];
        sign(GATE_CURSOR_JWS, (gate_cursor_alg_e) i,
             i < GATE_CURSOR_ES256 ? CURSORS : 256, "");
        all(GATE_CURSOR_VALID);
        snprintf(what, sizeof(what), "jws, %s", gate_cursor_alg_name[i]);
        measure(what, verify, i < GATE_CURSOR_ES256 ? SAMPLES : SLOW);
    }

    failed = envelope >= ENVELOPE || detached >= DETACHED;

    printf("\n  envelope below %.0f ns, detached below %.0f ns: %s; the worst "
           "text: %.0f ns\n", ENVELOPE, DETACHED, failed ? "FAILS" : "holds",
           worst);

    return failed;
}

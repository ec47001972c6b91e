
#include "../../src/core/gate_hmac.c"
#include "../../src/core/gate_cookie.c"

#include "tap.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <time.h>


#define TEST_NAME      ((const unsigned char *) "gate")
#define TEST_NAME_LEN  4


static gate_hmac_t  test_key;


static void
test_hmac(void)
{
    int             rc;
    size_t          i, n, len[3], bad;
    unsigned        size;
    uint64_t        state;
    const void     *part[3];
    gate_hmac_t     h;
    unsigned char   key[200], data[300], mac[GATE_HMAC_LEN], ref[64];

    memset(key, 0, sizeof(key));
    tap_ok(gate_hmac_init(&h, key, 0) == -1, "an empty key is refused");

    /* RFC 4231, test case 2 */

    rc = gate_hmac_init(&h, (const unsigned char *) "Jefe", 4);
    part[0] = "what do ya ";
    len[0] = 11;
    part[1] = NULL;
    len[1] = 0;
    part[2] = "want for nothing?";
    len[2] = 17;

    tap_ok(rc == 0 && gate_hmac_sign(&h, part, len, 3, mac) == 0
           && memcmp(mac, "\x5b\xdc\xc1\x46\xbf\x60\x75\x4e"
                          "\x6a\x04\x24\x26\x08\x95\x75\xc7"
                          "\x5a\x00\x3f\x08\x9d\x27\x39\x83"
                          "\x9d\xec\x58\xb9\x64\xec\x38\x43", 32) == 0,
           "RFC 4231, case 2, in parts");

    bad = 0;
    state = 9;

    for (i = 0; i < sizeof(data); i++) {
        data[i] = (unsigned char) tap_random(&state);
    }

    for (i = 0; i < sizeof(key); i++) {
        key[i] = (unsigned char) tap_random(&state);
    }

    for (i = 1; i <= sizeof(key); i++) {
        n = tap_random(&state) % sizeof(data);
        part[0] = data;
        len[0] = n / 3;
        part[1] = data + n / 3;
        len[1] = n - n / 3;

        (void) HMAC(EVP_sha256(), key, (int) i, data, n, ref, &size);

        bad += (gate_hmac_init(&h, key, i) != 0
                || gate_hmac_sign(&h, part, len, 2, mac) != 0
                || memcmp(mac, ref, 32) != 0);
    }

    tap_ok(bad == 0, "equal to OpenSSL's HMAC for keys of 1 to 200 bytes");

    gate_hmac_wipe(&h);

    for (i = 0; i < sizeof(h); i++) {
        bad += ((unsigned char *) &h)[i];
    }

    tap_ok(bad == 0, "wiped");
}


static int
test_read(const void *v, size_t len, uint64_t *epoch, unsigned *bucket)
{
    int             rc;
    unsigned char  *p;

    p = tap_copy(v, len);
    rc = gate_cookie_read(p, len, &test_key, TEST_NAME, TEST_NAME_LEN, epoch,
                          bucket);
    free(p);

    return rc;
}


static void
test_round_trip(void)
{
    size_t          i, j, len, bad;
    uint64_t        epoch, e, state;
    unsigned        bucket, b;
    unsigned char   out[GATE_COOKIE_MAX];

    bad = 0;
    state = 11;

    for (i = 0; i < 20000; i++) {
        epoch = tap_random(&state) >> (tap_random(&state) % 64);
        bucket = (unsigned) (tap_random(&state) % 10000);
        epoch = (i == 0) ? 0 : (i == 1) ? UINT64_MAX : epoch;

        len = gate_cookie_make(out, &test_key, TEST_NAME, TEST_NAME_LEN,
                               epoch, bucket);
        bad += (len == 0 || len > 46);
        bad += (test_read(out, len, &e, &b) != 0 || e != epoch
                || b != bucket);
    }

    tap_ok(bad == 0, "20000 cookies are read back");

    len = gate_cookie_make(out, &test_key, TEST_NAME, TEST_NAME_LEN,
                           UINT64_MAX, 9999);
    tap_ok(len == 46, "the longest cookie has 46 bytes");

    e = 1;
    b = 2;
    bad = 0;

    for (i = 0; i < len; i++) {
        for (j = 1; j < 256; j++) {
            out[i] ^= (unsigned char) j;
            bad += (test_read(out, len, &e, &b) == 0);
            out[i] ^= (unsigned char) j;
        }
    }

    for (i = 0; i < len; i++) {
        bad += (test_read(out, i, &e, &b) == 0);
    }

    tap_ok(bad == 0, "no changed byte and no cut is accepted");
    tap_ok(e == 1 && b == 2, "a refusal leaves the outputs untouched");

    memmove(out + len, "A", 1);
    tap_ok(test_read(out, len + 1, &e, &b) == -1, "nor is one byte more");

    tap_ok(gate_cookie_make(out, &test_key, TEST_NAME, 4, 1, 10000) == 0,
           "bucket 10000 is refused");
    tap_ok(gate_cookie_make(out, &test_key, TEST_NAME, 0, 1, 1) == 0,
           "an empty name is refused");
    tap_ok(gate_cookie_make(out, &test_key, (const unsigned char *) "a\0b",
                            3, 1, 1) == 0, "a NUL in the name is refused");
}


static void
test_forms(void)
{
    size_t           i, len, n;
    uint64_t         e;
    unsigned         b;
    gate_hmac_t      other;
    unsigned char    out[GATE_COOKIE_MAX], mac[GATE_HMAC_LEN], text[64];
    const void      *part[2];
    size_t           plen[2];

    static const char  *forms[] = {
        "01.5", "1.05", "A.5", "1.", ".5", "1.10000", "g.5",
        "11111111111111111.5", "1.5.", "1", "",
    };

    static const char  label[] = "nginx-gate sticky v1\0gate";

    /* texts that are signed, but not in the one form that they have */

    for (i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        len = strlen(forms[i]);
        part[0] = label;
        plen[0] = sizeof(label);
        part[1] = forms[i];
        plen[1] = len;

        (void) gate_hmac_sign(&test_key, part, plen, 2, mac);

        n = (size_t) snprintf((char *) text, sizeof(text), "1.%s.",
                              forms[i]);

        (void) gate_cookie_mac(text + n, &test_key, TEST_NAME, TEST_NAME_LEN,
                               (const unsigned char *) forms[i], len);

        tap_ok(test_read(text, n + 22, &e, &b) == -1,
               "signed \"%s\" is refused", forms[i]);
    }

    len = gate_cookie_make(out, &test_key, TEST_NAME, TEST_NAME_LEN, 26, 7);
    part[0] = label;
    plen[0] = sizeof(label);
    part[1] = "1a.7";
    plen[1] = 4;
    (void) gate_hmac_sign(&test_key, part, plen, 2, mac);

    n = (size_t) EVP_EncodeBlock(text, mac, 16);

    for (i = 0; i < n; i++) {
        text[i] = (text[i] == '+') ? '-' : (text[i] == '/') ? '_' : text[i];
    }

    tap_ok(len == 29 && memcmp(out, "1.1a.7.", 7) == 0
           && memcmp(out + 7, text, 22) == 0,
           "the form is the documented one");

    tap_ok(gate_cookie_read(out, len, &test_key,
                            (const unsigned char *) "gata", 4, &e, &b) == -1,
           "another name is refused");

    (void) gate_hmac_init(&other, (const unsigned char *) "other", 5);
    tap_ok(gate_cookie_read(out, len, &other, TEST_NAME, 4, &e, &b) == -1,
           "another key is refused");
}


static void
test_find(void)
{
    size_t                i, len, v_len;
    unsigned char        *p;
    const unsigned char  *v;

    static const struct {
        const char  *hdr;
        const char  *v;
    } tests[] = {
        { "gate=1", "1" }, { "a=b; gate=1", "1" }, { "a=b;gate=1", "1" },
        { "gate=1; gate=2", "1" }, { "gate=", "" }, { "gate=; a=b", "" },
        { "  gate=1 \t; a=b", "1" }, { "a; gate=x=y", "x=y" },
        { "xgate=1; gate=2", "2" }, { "gate2=1; gate=2", "2" },
        { ";;; gate=1", "1" }, { "gate= 1", "1" }, { "gate=\"1\"", "\"1\"" },
        { "", NULL }, { "gate", NULL }, { "GATE=1", NULL },
        { "gate =1", NULL }, { "a=gate=1", NULL }, { "a=b", NULL },
        { "a=\"; gate=1\"", "1\"" }, { "gat", NULL }, { ";", NULL },
        { "a=b, gate=1", NULL },
    };

    for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        len = strlen(tests[i].hdr);
        p = tap_copy(tests[i].hdr, len);
        v = NULL;
        v_len = 0;

        if (gate_cookie_find(p, len, TEST_NAME, TEST_NAME_LEN, &v, &v_len)) {
            tap_ok(tests[i].v != NULL && v_len == strlen(tests[i].v)
                   && memcmp(v, tests[i].v, v_len) == 0,
                   "found in \"%s\"", tests[i].hdr);

        } else {
            tap_ok(tests[i].v == NULL && v == NULL, "not in \"%s\"",
                   tests[i].hdr);
        }

        free(p);
    }

    tap_ok(gate_cookie_find(NULL, 0, TEST_NAME, 4, &v, &v_len) == 0,
           "no field");
    tap_ok(gate_cookie_find(TEST_NAME, 4, TEST_NAME, 0, &v, &v_len) == 0,
           "no name");
}


/* Fields are joined with "|" here; what is expected is n:first:last. */

static void
test_all(void)
{
    size_t              i, len;
    char                got[128];
    const char         *s, *e;
    unsigned char      *p[4];
    unsigned            n, k;
    gate_cookie_all_t   c;

    static const struct {
        const char  *fields;
        const char  *all;
    } tests[] = {
        { "gate=1", "1:1:1" }, { "a=b; gate=1", "1:1:1" },
        { "gate=1; gate=2", "2:1:2" }, { "gate=1;gate=2;gate=3", "3:1:3" },
        { "gate=1|gate=2", "2:1:2" }, { "a=b|c=d; gate=2|", "1:2:2" },
        { "gate=1; a=b|gate=2; gate=3", "3:1:3" },
        { "gate=", "1::" }, { "gate=; gate=1", "2::1" },
        { "gate =1", "1:1:1" }, { "\tgate\t=\t1\t", "1:1:1" },
        { "\xa0gate\x85=\x1c" "1\x1f", "1:1:1" },
        { "\x0bgate\x0c=1", "1:1:1" }, { "gate\x21=1", "0" },
        { "gate\x1b=1", "0" }, { "gate\x86=1", "0" },
        { "gate=\"1\"", "1:1:1" }, { "gate=\"\"", "1::" },
        { "gate=\"", "1:\":\"" }, { "gate=\"1", "1:\"1:\"1" },
        { "gate=1\"", "1:1\":1\"" }, { "gate= \" 1\" ", "1: 1: 1" },
        { "gate=x=y", "1:x=y:x=y" }, { "a=gate=1", "0" },
        { "gate", "0" }, { "gate;", "0" }, { "GATE=1", "0" },
        { "xgate=1", "0" }, { "gate2=1", "0" }, { "", "0" }, { ";", "0" },
        { "=", "0" }, { ";;gate=1;;", "1:1:1" }, { "a=b, gate=1", "0" },
        { "gate=1; gate", "1:1:1" }, { "gate=a b", "1:a b:a b" },
    };

    for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        memset(&c, 0, sizeof(c));
        n = 0;

        for (s = tests[i].fields; ; s = e + 1) {
            e = strchr(s, '|');
            len = e ? (size_t) (e - s) : strlen(s);
            p[n] = tap_copy(s, len);
            gate_cookie_all(&c, p[n++], len, TEST_NAME, TEST_NAME_LEN);

            if (e == NULL) {
                break;
            }
        }

        if (c.n == 0) {
            snprintf(got, sizeof(got), "0");

        } else {
            snprintf(got, sizeof(got), "%zu:%.*s:%.*s", c.n,
                     (int) c.first_len, (const char *) c.first,
                     (int) c.last_len, (const char *) c.last);
        }

        tap_ok(strcmp(got, tests[i].all) == 0, "all of case %zu: %s", i, got);

        for (k = 0; k < n; k++) {
            free(p[k]);
        }
    }

    memset(&c, 0, sizeof(c));
    gate_cookie_all(&c, NULL, 0, TEST_NAME, TEST_NAME_LEN);
    gate_cookie_all(&c, TEST_NAME, TEST_NAME_LEN, TEST_NAME, 0);
    tap_ok(c.n == 0, "no field and no name");
}


int
main(void)
{
    int              rc;
    clock_t          start;
    uint64_t         e;
    unsigned         i, b, bad;
    unsigned char    out[GATE_COOKIE_MAX];
    size_t           len;

    rc = gate_hmac_init(&test_key, (const unsigned char *) "secret", 6);
    tap_ok(rc == 0, "a key");

    test_hmac();
    test_round_trip();
    test_forms();
    test_find();
    test_all();

    len = gate_cookie_make(out, &test_key, TEST_NAME, 4, 1795255200, 4711);
    bad = 0;
    start = clock();

    for (i = 0; i < 100000; i++) {
        bad += (gate_cookie_read(out, len, &test_key, TEST_NAME, 4, &e, &b)
                != 0);
    }

    tap_ok(bad == 0, "reading takes %.2f us in this build",
           (double) (clock() - start) / CLOCKS_PER_SEC * 10);

    return tap_done();
}

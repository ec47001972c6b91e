
#include "cursor.h"
#include "cursor_pem.h"

#include <limits.h>
#include <time.h>


#define FAILED   "bad_signature: Cursor signature verification failed"
#define NO_TIME  "malformed: Cursor missing timestamp"
#define OVER     "expired: Cursor expired"
#define FUTURE   "future: Cursor timestamp is in the future"
#define ODD      "malformed: Invalid cursor format: "

#define OLD_600  "expired: Cursor expired (age: 600.2s, TTL: 600s)"
#define OLD_60   "expired: Cursor expired (age: 60.2s, TTL: 60s)"

/* RFC 7515, appendix A.1 and A.3 */

#define A1_KEY      "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75" \
                    "aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
#define A1_HEADER   "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
#define A1_PAYLOAD  "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0d" \
                    "HA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
#define A1_MAC      "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
#define A3_HEADER   "eyJhbGciOiJFUzI1NiJ9"
#define A3_SIG      "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5d" \
                    "jxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"

/* RFC 8037, appendix A.4; its payload is a text and no JSON */

#define A4          "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25p" \
                    "bmc"
#define A4_SIG      "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4" \
                    "ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"


static void
test_rfc(void)
{
    const char         *why;
    gate_cursor_key_t  *k;

    /* A.1 and A.3 expired in 2011, and with more skew they have not */

    test_begin(GATE_CURSOR_JWS);
    k = &test_keys[test_nkeys++];
    tap_ok(gate_cursor_key_init(k, -1, GATE_CURSOR_KEY_BASE64,
                                (const unsigned char *) A1_KEY,
                                strlen(A1_KEY), &why) == 0, "A.1: the key");

    tap_ok(test_says(A1_HEADER "." A1_PAYLOAD "." A1_MAC, OVER),
           "RFC 7515, A.1, HS256: signed, and expired");
    test_rules.skew = 1000000000;
    tap_ok(test_says(A1_HEADER "." A1_PAYLOAD "." A1_MAC, "valid"),
           "RFC 7515, A.1, HS256: valid");
    tap_ok(test_says(A1_HEADER "." A1_PAYLOAD "." A3_SIG, FAILED),
           "RFC 7515, A.1, HS256: not with another signature");
    tap_ok(test_says(A3_HEADER "." A1_PAYLOAD "." A3_SIG, FAILED),
           "RFC 7515, A.3, ES256: not with this key");

    test_begin(GATE_CURSOR_JWS);
    test_key(PEM_P256, "", -1);
    test_rules.skew = 1000000000;
    tap_ok(test_says(A3_HEADER "." A1_PAYLOAD "." A3_SIG, "valid"),
           "RFC 7515, A.3, ES256: valid");
    tap_ok(test_says(A3_HEADER "." A1_PAYLOAD ".E" "tEhU3ljbEg8L38VWAfUAqOy"
                     "KAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3"
                     "-Kg6NU1Q", FAILED),
           "RFC 7515, A.3, ES256: not with another signature");
    tap_ok(test_says(A3_HEADER "." A1_PAYLOAD "." A3_SIG "AA",
                     FAILED), "RFC 7515, A.3, ES256: not with a longer one");

    test_begin(GATE_CURSOR_JWS);
    test_key(PEM_ED25519, "", -1);
    tap_ok(test_says(A4 "." A4_SIG, ODD "value expected") && test_c.key == 0,
           "RFC 8037, A.4, EdDSA: signed, but no JSON");
    tap_ok(test_says(A4 ".i" "gyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbh"
                     "ijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg", FAILED)
           && test_c.key == -1,
           "RFC 8037, A.4, EdDSA: not with another signature");
}


static char *
test_join(const char *a, const char *b, const char *c)
{
    static char      room[4][4 * GATE_CURSOR_LENGTH];
    static unsigned  i;

    i++;
    snprintf(room[i % 4], sizeof(room[0]), "%s%s%s%s%s", a, b ? "." : "",
             b ? b : "", c ? "." : "", c ? c : "");

    return room[i % 4];
}


/* A JWS with a MAC of SHA-256, by other code than that which verifies. */

static char *
test_jws(const char *header, const char *payload)
{
    char           text[4 * GATE_CURSOR_LENGTH];
    unsigned       n;
    unsigned char  mac[EVP_MAX_MD_SIZE];

    snprintf(text, sizeof(text), "%s.%s",
             test_base64(header, strlen(header), 0),
             test_base64(payload, strlen(payload), 0));

    HMAC(EVP_sha256(), TEST_SECRET, (int) strlen(TEST_SECRET),
         (unsigned char *) text, strlen(text), mac, &n);

    return test_join(text, test_base64((char *) mac, n, 0), NULL);
}


static void
test_jws_parts(void)
{
    size_t       i, n;
    char         good[1024];
    const char  *sig;

    unsigned char  mac[64], longer[128];

    static const char  head[] = "{\"alg\":\"HS256\"}";
    static const char  body[] = "{\"iat\":1760493069}";

    static const struct {
        const char  *header;
        const char  *want;
    } list[] = {
        { "{\"alg\":\"HS256\",\"typ\":\"JWT\",\"x\":[1,{}]}", "valid" },
        { " {\"\\u0061lg\": \"HS\\u003256\"}", "valid" },
        { "{\"alg\":\"HS256\",\"jwk\":{\"kty\":\"oct\",\"k\":\"AA\"},"
          "\"jku\":\"https://x\",\"x5u\":\"y\",\"x5c\":[\"z\"]}", "valid" },
        { "{\"alg\":\"HS256\",\"b64\":false}", "valid" },
        { "{\"alg\":\"none\"}", FAILED },
        { "{\"alg\":\"None\"}", FAILED },
        { "{\"alg\":\"\"}", FAILED },
        { "{\"alg\":\"hs256\"}", FAILED },
        { "{\"alg\":\"HS2560\"}", FAILED },
        { "{\"alg\":\"HS384\"}", FAILED },
        { "{\"alg\":\"RS256\"}", FAILED },
        { "{\"alg\":\"ES256\"}", FAILED },
        { "{\"alg\":\"EdDSA\"}", FAILED },
        { "{\"typ\":\"JWT\"}", ODD "its header names no algorithm" },
        { "{\"alg\":1}", ODD "its header names no algorithm" },
        { "{\"alg\":null}", ODD "its header names no algorithm" },
        { "{\"alg\":[\"HS256\"]}", ODD "its header names no algorithm" },
        { "{\"alg\":\"HS256\",\"crit\":[\"b64\"],\"b64\":false}",
          ODD "its header has a critical extension" },
        { "{\"alg\":\"HS256\",\"crit\":[]}",
          ODD "its header has a critical extension" },
        { "{\"alg\":\"HS256\",\"crit\":null}",
          ODD "its header has a critical extension" },
        { "{\"alg\":\"HS256\",\"alg\":\"HS256\"}",
          ODD "a name is in the header twice" },
        { "{\"alg\":\"none\",\"a\\u006cg\":\"HS256\"}",
          ODD "a name is in the header twice" },
        { "{\"alg\":\"HS256\",\"kid\":1}",
          ODD "its key id is no string" },
        { "{\"alg\":\"HS256\",\"kid\":\"x\"}", "valid" },
        { "[\"HS256\"]", ODD "the header is no object" },
        { "\"HS256\"", ODD "the header is no object" },
        { "{\"alg\":\"HS256\"", ODD "incomplete" },
        { "", ODD "incomplete" }
    };

    test_begin(GATE_CURSOR_JWS);
    test_key(TEST_SECRET, "", -1);
    test_key(TEST_SECRET, "", GATE_CURSOR_HS384);

    for (i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        tap_ok(test_says(test_jws(list[i].header, body), list[i].want),
               "the header %s", list[i].header);
    }

    snprintf(good, sizeof(good), "%s", test_jws(head, body));
    sig = strrchr(good, '.') + 1;

    tap_ok(test_says(good, "valid"), "the right one of three parts");
    tap_ok(test_says("abc", ODD "it has less than three parts")
           && test_says("abc.def", ODD "it has less than three parts")
           && test_says(test_join(good, "AAAA", NULL),
                        ODD "it has more than three parts")
           && test_says(test_join(good, "", NULL),
                        ODD "it has more than three parts"),
           "there must be three parts");
    /* where the whole one has been before */

    tap_ok(test_says(good, "valid")
           && test_says(test_join(good, NULL, NULL), "valid")
           && strncmp(test_verify(good, strlen(good) - 3), "bad_sig", 7) == 0
           && strncmp(test_verify(good, strlen(good) - 43), "bad_sig", 7)
              == 0, "a MAC that is cut off is none");

    (void) gate_base64_decode(mac, &n, (const unsigned char *) sig,
                              strlen(sig), GATE_BASE64_BARE);
    mac[32] = 0;
    n = gate_base64_encode(longer, mac, 33, 0);
    longer[n] = '\0';
    tap_ok(test_says(test_join(test_base64(head, strlen(head), 0),
                               test_base64(body, strlen(body), 0),
                               (char *) longer), FAILED),
           "neither is one with a byte more");

    tap_ok(test_says("..", ODD "incomplete")
           && test_says(test_join(test_base64(head, strlen(head), 0), "",
                                  ""), FAILED)
           && test_says(test_join(test_base64(head, strlen(head), 0),
                                  test_base64(body, strlen(body), 0), ""),
                        FAILED), "an empty signature is none");
    tap_ok(test_says(test_join("e30=", test_base64(body, strlen(body), 0),
                               sig), ODD "the header is not base64url")
           && test_says(test_join("e31", test_base64(body, strlen(body), 0),
                                  sig), ODD "the header is not base64url")
           && test_says(test_join(test_base64(head, strlen(head), 0),
                                  test_base64(body, strlen(body), 0), "A+A"),
                        ODD "its signature is not base64url"),
           "each part has one spelling");
}


/*
 * Equal names are looked for before anything is known of the signature: that
 * must not cost much more than reading the same object does.
 */

static void
test_jws_cost(void)
{
    char     header[4096], jws[2 * GATE_CURSOR_LENGTH], name[36];
    size_t   i, k, n;
    clock_t  start, best[2];

    /* alike for long, and not as they are printed */

    memset(name, 0x7f, sizeof(name));
    name[sizeof(name) - 1] = '\0';

    n = (size_t) sprintf(header, "{ ");

    for (i = 0; i < 63; i++) {
        n += (size_t) sprintf(header + n, "\"%s%02zu\":0,", name, i);
    }

    n += (size_t) sprintf(header + n, "\"alg\":\"HS256\"}");
    snprintf(jws, sizeof(jws), "%s.e30.AAAA", test_base64(header, n, 0));

    test_begin(GATE_CURSOR_JWS);
    test_key(TEST_SECRET, "", -1);
    tap_ok(test_says(jws, FAILED), "64 long names in a header");

    for (k = 0; k < 2; k++) {
        test_rules.format = k ? GATE_CURSOR_JWS : GATE_CURSOR_ENVELOPE;
        best[k] = LONG_MAX;

        for (i = 0; i < 20; i++) {
            start = clock();
            (void) test_verify(k ? jws : test_base64(header, n, 1),
                               k ? strlen(jws) : gate_base64_encoded(n));
            start = clock() - start;
            best[k] = start < best[k] ? start : best[k];
        }
    }

    printf("# read alone %ld us, as a header %ld us\n", (long) best[0],
           (long) best[1]);
    tap_ok(best[1] < 10 * best[0] + 100,
           "they cost little more than reading them");
}


static void
test_jws_times(void)
{
    size_t  i;

    static const struct {
        const char  *payload;
        int64_t      ttl;              /* given, if not 0 */
        const char  *want;
    } list[] = {
        { "{}", 0, NO_TIME },
        { "{\"nbf\":1,\"ts\":1760493069}", 0, NO_TIME },

        /* now is 1760493130.25, the skew 60 */

        { "{\"exp\":1760493070.5}", 0, "valid" },
        { "{\"exp\":1760493070.25}", 0, OVER },
        { "{\"exp\":1760493070}", 0, OVER },
        { "{\"exp\":1e400}", 0, ODD "a time in it is no number" },
        { "{\"exp\":NaN}", 0, ODD "a time in it is no number" },
        { "{\"exp\":\"1760493100\"}", 0, ODD "a time in it is no number" },
        { "{\"exp\":true}", 0, ODD "a time in it is no number" },
        { "{\"exp\":null}", 0, ODD "a time in it is no number" },
        { "{\"exp\":1760493500,\"iat\":null}", 0,
          ODD "a time in it is no number" },
        { "{\"exp\":1760493500,\"nbf\":[]}", 0,
          ODD "a time in it is no number" },
        { "{\"exp\":1,\"exp\":1760493500}", 0,
          ODD "a name is in the payload twice" },
        { "{\"exp\":1,\"\\u0065xp\":1760493500}", 0,
          ODD "a name is in the payload twice" },

        { "{\"exp\":1760493500,\"nbf\":1760493190.25}", 0, "valid" },
        { "{\"exp\":1760493500,\"nbf\":1760493190.5}", 0, FUTURE },
        { "{\"exp\":1760493500,\"iat\":1760493190.25}", 0, "valid" },
        { "{\"exp\":1760493500,\"iat\":1760493190.5}", 0, FUTURE },
        { "{\"exp\":1,\"iat\":1760493500}", 0, OVER },

        { "{\"iat\":1760492530.25}", 0, "valid" },
        { "{\"iat\":1760492530}", 0, OLD_600 },
        { "{\"iat\":1760493500}", 0, FUTURE },
        { "{\"exp\":1760493500,\"iat\":1760492530}", 0, "valid" },
        { "{\"exp\":1760493500,\"iat\":1760493070}", 60, OLD_60 },
        { "{\"exp\":1760493500,\"iat\":1760493071}", 60, "valid" },
        { "{\"exp\":1760493500}", 60, "valid" },
        { "[1]", 0, ODD "the payload is no object" },
        { "1", 0, ODD "the payload is no object" },
        { "", 0, ODD "incomplete" }
    };

    for (i = 0; i < 2 * sizeof(list) / sizeof(list[0]); i++) {
        test_begin(GATE_CURSOR_JWS);
        test_key(TEST_SECRET, "", -1);
        test_rules.mode = (i % 2) ? GATE_CURSOR_COMPAT : GATE_CURSOR_STRICT;

        if (list[i / 2].ttl != 0) {
            test_rules.ttl = list[i / 2].ttl;
            test_rules.ttl_given = 1;
        }

        tap_ok(test_says(test_jws("{\"alg\":\"HS256\"}", list[i / 2].payload),
                         list[i / 2].want), "%s with a ttl of %d, %s",
               list[i / 2].payload, (int) test_rules.ttl,
               i % 2 ? "compat" : "strict");
    }

    test_rules.ttl_given = 0;
    tap_ok(test_says(test_jws("{\"alg\":\"HS256\"}", "{\"exp\":1760493500,"
                              "\"offset\":7,\"aud\":\"me\"}"), "valid")
           && gate_cursor_claim_is(&test_c, "aud", 3,
                                   (const unsigned char *) "me", 2)
           && gate_cursor_claim_is(&test_c, "offset", 6,
                                   (const unsigned char *) "7", 1)
           && gate_cursor_claim(&test_c, "alg", 3) == GATE_JSON_NONE,
           "claims are those of the payload");
}


/* Keys "a", "b" and one without an id; b's are of two algorithms. */

static void
test_jws_kid(void)
{
    size_t  i;

    static const struct {
        const char  *kid;
        const char  *secret;           /* whose id is that, if any */
        const char  *id;
        const char  *want;
    } list[] = {
        { "\"a\"", TEST_SECRET, "a", "valid" },
        { "\"\\u0061\"", TEST_SECRET, "a", "valid" },
        { "\"a\"", TEST_SECRET, "b", FAILED },
        { "\"a\"", TEST_SECRET, "", FAILED },
        { "\"c\"", TEST_SECRET, "", "valid" },
        { "\"c\"", TEST_SECRET, "a", FAILED },
        { "\"\"", TEST_SECRET, "", "valid" },
        { "\"\"", TEST_SECRET, "a", FAILED },
        { "\"aa\"", TEST_SECRET, "a", FAILED },
        { "\"a\\u0000\"", TEST_SECRET, "a", FAILED }
    };

    char  header[256];

    for (i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        test_begin(GATE_CURSOR_JWS);
        test_key(*list[i].id == 'a' ? list[i].secret : "no", "a", -1);
        test_key(*list[i].id == 'b' ? list[i].secret : "no", "b", -1);
        test_key(*list[i].id == '\0' ? list[i].secret : "no", "", -1);

        snprintf(header, sizeof(header), "{\"alg\":\"HS256\",\"kid\":%s}",
                 list[i].kid);
        tap_ok(test_says(test_jws(header, "{\"iat\":1760493069}"),
                         list[i].want), "the key id %s and the key \"%s\"",
               list[i].kid, list[i].id);
    }

    test_begin(GATE_CURSOR_JWS);
    test_key("no", "a", -1);
    test_key(TEST_SECRET, "a", GATE_CURSOR_HS384);
    test_key(TEST_SECRET, "a", -1);
    tap_ok(test_says(test_jws("{\"alg\":\"HS256\",\"kid\":\"a\"}",
                              "{\"iat\":1760493069}"), "valid")
           && test_c.key == 2, "of keys with one id each is tried");

    test_begin(GATE_CURSOR_JWS);
    test_key(TEST_SECRET, "a", GATE_CURSOR_HS384);
    test_key(TEST_SECRET, "", -1);
    tap_ok(test_says(test_jws("{\"alg\":\"HS256\",\"kid\":\"a\"}",
                              "{\"iat\":1760493069}"), FAILED),
           "a key with that id counts alone, also of another algorithm");

    test_begin(GATE_CURSOR_JWS);
    test_key("no", "a", -1);
    test_key(TEST_SECRET, "b", -1);
    tap_ok(test_says(test_jws("{\"alg\":\"HS256\"}", "{\"iat\":1760493069}"),
                     "valid") && test_c.key == 1,
           "without a key id all keys count");

    /* the public key, which everybody has, taken for a secret */

    test_begin(GATE_CURSOR_JWS);
    test_key(PEM_P256, "", -1);
    tap_ok(test_says(test_jws("{\"alg\":\"HS256\"}", "{\"iat\":1760493069}"),
                     FAILED), "a public key is no secret");
}


static void
test_detached(void)
{
    char         text[1024], mac[65];
    char        *b;
    size_t       i;
    const char  *bare;
    const char  *body = "{\"ts\":1760493069.75,\"offset\":1}";

    unsigned char  raw[40] = { 0 };

    test_begin(GATE_CURSOR_DETACHED);
    test_key(TEST_SECRET, "", -1);

    b = test_base64(body, strlen(body), 1);
    tap_ok(strchr(b, '=') != NULL, "there is some padding");
    snprintf(mac, sizeof(mac), "%s", test_mac(TEST_SECRET, b));
    tap_ok(test_says(test_join(b, mac, NULL), "valid")
           && gate_cursor_claim_is(&test_c, "offset", 6,
                                   (const unsigned char *) "1", 1),
           "padded, with a MAC in hexadecimal");

    bare = test_base64(body, strlen(body), 0);
    tap_ok(test_says(test_join(bare, mac, NULL), FAILED),
           "the MAC is of the characters as they are");
    snprintf(mac, sizeof(mac), "%s", test_mac(TEST_SECRET, bare));
    tap_ok(test_says(test_join(bare, mac, NULL), "valid"), "bare");

    for (i = 0; i < 32; i++) {
        raw[i] = (unsigned char) strtoul((char[]) { mac[2 * i],
                                                    mac[2 * i + 1], 0 },
                                         NULL, 16);
    }

    tap_ok(test_says(test_join(bare, test_base64((char *) raw, 32, 0), NULL),
                     "valid")
           && test_says(test_join(bare, test_base64((char *) raw, 32, 1),
                                  NULL), "valid"),
           "a MAC in base64url, padded or not");

    raw[31] ^= 1;
    tap_ok(test_says(test_join(bare, test_base64((char *) raw, 32, 0), NULL),
                     FAILED), "another one");
    mac[63] ^= 1;
    tap_ok(test_says(test_join(bare, mac, NULL), FAILED),
           "another one in hexadecimal");

    tap_ok(test_says(test_join(bare, test_base64((char *) raw, 31, 0), NULL),
                     ODD "what follows the dot is no MAC")
           && test_says(test_join(bare, test_base64((char *) raw, 33, 0),
                                  NULL), ODD "what follows the dot is no MAC")
           && test_says(test_join(bare, "", NULL),
                        ODD "what follows the dot is no MAC"),
           "what is too long or short is no MAC");

    mac[63] = 'A';
    tap_ok(test_says(test_join(bare, mac, NULL),
                     ODD "what follows the dot is no MAC"),
           "neither is one in upper-case");

    tap_ok(test_says("abc", ODD "it has no dot")
           && test_says(test_join(bare, mac, ""),
                        ODD "it has more than one dot")
           && test_says(".", ODD "what follows the dot is no MAC"),
           "there must be one dot");

    for (i = 0; i < 4; i++) {
        static const char *const  odd[] = { "e30", "e31", "e30==", "+w" };

        snprintf(text, sizeof(text), "%s.%s", odd[i],
                 test_mac(TEST_SECRET, odd[i]));
        tap_ok(test_says(text, i == 0 ? NO_TIME
                                      : ODD "the payload is not base64url"),
               "the payload %s", odd[i]);
    }

    snprintf(text, sizeof(text), ".%s", test_mac(TEST_SECRET, ""));
    tap_ok(test_says(text, ODD "incomplete"), "the payload of nothing");
}


static void
test_detached_times(void)
{
    char         text[2048];
    size_t       i;
    const char  *b, *want;

    static const struct {
        const char  *payload;
        int64_t      ttl;
        const char  *want;
        const char  *compat;           /* if not that */
    } list[] = {
        { "{}", 0, NO_TIME, NULL },
        { "{\"iat\":1}", 0, NO_TIME, NULL },
        { "{\"ts\":1760492530.25}", 0, "valid", NULL },
        { "{\"ts\":1760492530}", 0, OLD_600, NULL },
        { "{\"ts\":1760493190.25}", 0, "valid", NULL },
        { "{\"ts\":1760493190.5}", 0, FUTURE, "valid" },
        { "{\"exp\":1760493070.5}", 0, "valid", NULL },
        { "{\"exp\":1760493070.25}", 0, OVER, NULL },
        { "{\"exp\":1760493500,\"ts\":1}", 0, "valid", NULL },
        { "{\"exp\":1760493500,\"ts\":1760493500}", 0, FUTURE, "valid" },
        { "{\"exp\":1760493500,\"ts\":1760493070}", 60, OLD_60, NULL },
        { "{\"exp\":1760493500,\"ts\":1760493071}", 60, "valid", NULL },
        { "{\"exp\":1760493500}", 60, "valid", NULL },
        { "{\"exp\":1,\"ts\":1760493130}", 0, OVER, NULL },
        { "{\"ts\":true}", 0, ODD "a time in it is no number", NULL },
        { "{\"ts\":null}", 0, ODD "a time in it is no number", NULL },
        { "{\"ts\":\"1760493130\"}", 0, ODD "a time in it is no number",
          NULL },
        { "{\"ts\":-Infinity}", 0, ODD "a time in it is no number", NULL },
        { "{\"ts\":1760493130,\"exp\":{}}", 0,
          ODD "a time in it is no number", NULL },
        { "{\"ts\":1760493130,\"a\":1,\"a\":1}", 0,
          ODD "a name is in the payload twice", NULL },
        { "{\"ts\": 1760493130, \"a\":{\"b\":1,\"b\":1}}", 0, "valid",
          NULL },
        { "[]", 0, ODD "the payload is no object", NULL },
        { "{\"ts\":1760493130}}", 0, ODD "data after the end", NULL }
    };

    for (i = 0; i < 2 * sizeof(list) / sizeof(list[0]); i++) {
        test_begin(GATE_CURSOR_DETACHED);
        test_key("another", "", -1);
        test_key(TEST_SECRET, "", -1);
        test_rules.mode = (i % 2) ? GATE_CURSOR_COMPAT : GATE_CURSOR_STRICT;

        if (list[i / 2].ttl != 0) {
            test_rules.ttl = list[i / 2].ttl;
            test_rules.ttl_given = 1;
        }

        b = test_base64(list[i / 2].payload, strlen(list[i / 2].payload), 0);
        snprintf(text, sizeof(text), "%s.%s", b, test_mac(TEST_SECRET, b));
        want = (i % 2 && list[i / 2].compat) ? list[i / 2].compat
                                             : list[i / 2].want;

        tap_ok(test_says(text, want) && test_c.key == 1,
               "%s detached, with a ttl of %d, %s", list[i / 2].payload,
               (int) test_rules.ttl, i % 2 ? "compat" : "strict");
    }
}


int
main(void)
{
    test_rfc();
    test_jws_parts();
    test_jws_cost();
    test_jws_times();
    test_jws_kid();
    test_detached();
    test_detached_times();
    test_begin(GATE_CURSOR_JWS);

    return tap_done();
}

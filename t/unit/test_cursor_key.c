
#include "cursor.h"
#include "cursor_pem.h"


/* What is signed with the key, for comparison. */

static void
test_sign(const gate_cursor_key_t *k, unsigned char sig[64])
{
    size_t       len[1];
    const void  *part[1];

    part[0] = "text";
    len[0] = 4;

    memset(sig, 0, 64);
    (void) gate_cursor_key_sign(k, part, len, 1, sig);
}


static const char *
test_init(gate_cursor_key_t *k, int alg, gate_cursor_form_e form,
    const char *s, size_t len)
{
    int             rc;
    const char     *why;
    unsigned char  *copy;

    why = "";
    copy = tap_copy(s, len);
    rc = gate_cursor_key_init(k, alg, form, copy, len, &why);
    free(copy);

    return rc == 0 ? NULL : why;
}


/* All of these are the key "secret\x01\xfe\xff" */

static void
test_forms(void)
{
    size_t             i;
    const char        *why;
    unsigned char      want[64], have[64];
    gate_cursor_key_t  k;

    static const struct {
        gate_cursor_form_e  form;
        const char         *text;
        const char         *why;
    } list[] = {
        { GATE_CURSOR_KEY_AUTO, "secret\x01\xfe\xff", NULL },
        { GATE_CURSOR_KEY_RAW, "secret\x01\xfe\xff\n", NULL },
        { GATE_CURSOR_KEY_RAW, "secret\x01\xfe\xff\r\n", NULL },
        { GATE_CURSOR_KEY_HEX, "73656372657401feff", NULL },
        { GATE_CURSOR_KEY_HEX, "73656372657401FEFF\n", NULL },
        { GATE_CURSOR_KEY_HEX, "7365\n637265\r\n7401fe\nff\n", NULL },
        { GATE_CURSOR_KEY_HEX, "73656372657401fef", "not hexadecimal" },
        { GATE_CURSOR_KEY_HEX, "73656372657401feff ", "not hexadecimal" },
        { GATE_CURSOR_KEY_HEX, "0x73656372657401feff", "not hexadecimal" },
        { GATE_CURSOR_KEY_BASE64, "c2VjcmV0Af7_", NULL },
        { GATE_CURSOR_KEY_BASE64, "c2VjcmV0Af7/\n", NULL },
        { GATE_CURSOR_KEY_BASE64, "c2Vjc\r\nmV0\nAf7/\n", NULL },
        { GATE_CURSOR_KEY_BASE64, "c2VjcmV0Af7/=", "not base64" },
        { GATE_CURSOR_KEY_BASE64, "c2VjcmV0-f7/", "not base64" },
        { GATE_CURSOR_KEY_BASE64, "c2VjcmV0 Af7/", "not base64" },
        { GATE_CURSOR_KEY_BASE64, "c2Vjc", "not base64" },
        { GATE_CURSOR_KEY_RAW, "", "empty" },
        { GATE_CURSOR_KEY_RAW, "\r\n", "empty" },
        { GATE_CURSOR_KEY_HEX, "\n", "empty" },
        { GATE_CURSOR_KEY_BASE64, "\n", "empty" },
        { GATE_CURSOR_KEY_PEM, "c2VjcmV0Af7/", "in PEM" }
    };

    (void) test_init(&k, -1, GATE_CURSOR_KEY_RAW, "secret\x01\xfe\xff", 9);
    test_sign(&k, want);
    gate_cursor_key_wipe(&k);

    for (i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        why = test_init(&k, -1, list[i].form, list[i].text,
                        strlen(list[i].text));

        if (list[i].why != NULL) {
            tap_ok(why != NULL && strstr(why, list[i].why) != NULL,
                   "text %zu is refused: %s", i, list[i].why);
            continue;
        }

        test_sign(&k, have);
        tap_ok(why == NULL && k.alg == GATE_CURSOR_HS256
               && memcmp(have, want, 64) == 0, "text %zu is the key", i);
        gate_cursor_key_wipe(&k);
    }

    tap_ok(test_init(&k, -1, GATE_CURSOR_KEY_BASE64, "c2Vj\ncg==\n", 10)
           == NULL, "padded base64");
    test_sign(&k, have);
    gate_cursor_key_wipe(&k);
    (void) test_init(&k, -1, GATE_CURSOR_KEY_BASE64, "c2Vjcg", 6);
    test_sign(&k, want);
    tap_ok(memcmp(have, want, 64) == 0, "and the same without");
    gate_cursor_key_wipe(&k);

    tap_ok(test_init(&k, -1, GATE_CURSOR_KEY_RAW, "a\0b\n\n", 5) == NULL,
           "a raw key may have any bytes");
    test_sign(&k, have);
    gate_cursor_key_wipe(&k);
    (void) test_init(&k, -1, GATE_CURSOR_KEY_HEX, "6100620a", 8);
    test_sign(&k, want);
    tap_ok(memcmp(have, want, 64) == 0, "of its line ends one is none of it");
    gate_cursor_key_wipe(&k);
}


static void
test_wiped(void)
{
    char              *text;
    const char        *why;
    unsigned char      zero[sizeof(gate_cursor_key_t)];
    gate_cursor_key_t  k;

    memset(zero, 0, sizeof(zero));

    (void) test_init(&k, -1, GATE_CURSOR_KEY_AUTO, PEM_P256,
                     strlen(PEM_P256));
    gate_cursor_key_wipe(&k);
    tap_ok(memcmp(&k, zero, sizeof(k)) == 0, "nothing is left of a key");

    memset(&k, 1, sizeof(k));
    tap_ok(test_init(&k, -1, GATE_CURSOR_KEY_HEX, "xx", 2) != NULL
           && memcmp(&k, zero, sizeof(k)) == 0,
           "nothing is left of one that is refused");

    memset(&k, 1, sizeof(k));
    tap_ok(test_init(&k, GATE_CURSOR_HS256, GATE_CURSOR_KEY_AUTO, PEM_RSA,
                     strlen(PEM_RSA)) != NULL
           && memcmp(&k, zero, sizeof(k)) == 0,
           "nor of one that is none of ours");

    text = calloc(1, 70000);
    why = test_init(&k, -1, GATE_CURSOR_KEY_RAW, text, 70000);
    tap_ok(why != NULL && strstr(why, "too long") != NULL,
           "a key of 70000 bytes is too long");
    free(text);
}


static void
test_algs(void)
{
    size_t             i;
    const char        *why;
    gate_cursor_key_t  k;

    static const struct {
        const char  *name;
        const char  *text;
        int          alg;
        int          is;
        int          secret;
        const char  *why;
    } list[] = {
        { "a text", "abc", -1, GATE_CURSOR_HS256, 0, NULL },
        { "a text", "abc", GATE_CURSOR_HS256, GATE_CURSOR_HS256, 0, NULL },
        { "a text", "abc", GATE_CURSOR_HS384, GATE_CURSOR_HS384, 0, NULL },
        { "a text", "abc", GATE_CURSOR_HS512, GATE_CURSOR_HS512, 0, NULL },
        { "a text", "abc", GATE_CURSOR_ES256, 0, 0, "need a key in PEM" },
        { "a text", "abc", GATE_CURSOR_EDDSA, 0, 0, "need a key in PEM" },
        { "P-256", PEM_P256, -1, GATE_CURSOR_ES256, 0, NULL },
        { "P-256", PEM_P256, GATE_CURSOR_ES256, GATE_CURSOR_ES256, 0, NULL },
        { "P-256", PEM_P256, GATE_CURSOR_HS256, 0, 0, "ES256 only" },
        { "P-256", PEM_P256, GATE_CURSOR_EDDSA, 0, 0, "ES256 only" },
        { "P-256, private", PEM_P256_PRIVATE, -1, GATE_CURSOR_ES256, 1,
          NULL },
        { "Ed25519", PEM_ED25519, -1, GATE_CURSOR_EDDSA, 0, NULL },
        { "Ed25519", PEM_ED25519, GATE_CURSOR_ES256, 0, 0, "EdDSA only" },
        { "Ed25519, private", PEM_ED25519_PRIVATE, -1, GATE_CURSOR_EDDSA, 1,
          NULL },
        { "P-384", PEM_P384, -1, 0, 0, "P-256 or Ed25519" },
        { "secp256k1", PEM_SECP256K1, -1, 0, 0, "P-256 or Ed25519" },
        { "RSA", PEM_RSA, -1, 0, 0, "P-256 or Ed25519" },
        { "X25519", PEM_X25519, -1, 0, 0, "P-256 or Ed25519" },
        { "an encrypted key", PEM_LOCKED, -1, 0, 0, "without a password" },
        { "PEM of nothing", "-----BEGIN PUBLIC KEY-----\nAAAA\n"
                            "-----END PUBLIC KEY-----\n", -1, 0, 0,
          "in PEM" },
        { "half of PEM", "-----BEGIN PUBLIC KEY-----\nAAAA", -1, 0, 0,
          "in PEM" }
    };

    for (i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        why = test_init(&k, list[i].alg, GATE_CURSOR_KEY_AUTO, list[i].text,
                        strlen(list[i].text));

        if (list[i].why != NULL) {
            tap_ok(why != NULL && strstr(why, list[i].why) != NULL,
                   "%s is refused: %s", list[i].name, list[i].why);
            continue;
        }

        tap_ok(why == NULL && (int) k.alg == list[i].is
               && k.secret == list[i].secret && k.id_len == 0,
               "%s is a key of %s", list[i].name,
               gate_cursor_alg_name[list[i].is]);

        gate_cursor_key_wipe(&k);
    }

    tap_ok(ERR_peek_error() == 0, "no error is left for others to find");

    tap_ok(test_init(&k, -1, GATE_CURSOR_KEY_RAW, PEM_ED25519_PRIVATE,
                     strlen(PEM_ED25519_PRIVATE)) == NULL
           && k.alg == GATE_CURSOR_HS256,
           "a private key in PEM may be a raw one");
    gate_cursor_key_wipe(&k);

    why = test_init(&k, -1, GATE_CURSOR_KEY_RAW, PEM_P256, strlen(PEM_P256));
    tap_ok(why != NULL && strstr(why, "is public") != NULL,
           "a public one may not");

    why = test_init(&k, GATE_CURSOR_HS512, GATE_CURSOR_KEY_RAW,
                    "x\n-----BEGIN CERTIFICATE-----\nAAAA\n", 35);
    tap_ok(why != NULL && strstr(why, "is public") != NULL,
           "neither may a certificate");

    why = test_init(&k, -1, GATE_CURSOR_KEY_AUTO,
                    "\xef\xbb\xbf" PEM_P256, 3 + strlen(PEM_P256));
    tap_ok(why != NULL || k.alg == GATE_CURSOR_ES256,
           "PEM after a mark of its byte order is no secret");
    gate_cursor_key_wipe(&k);

    why = test_init(&k, -1, GATE_CURSOR_KEY_AUTO, "# ours\r\n" PEM_P256,
                    8 + strlen(PEM_P256));
    tap_ok(why == NULL && k.alg == GATE_CURSOR_ES256,
           "PEM after a line of text is no secret");
    gate_cursor_key_wipe(&k);

    why = test_init(&k, -1, GATE_CURSOR_KEY_AUTO, "\n-----BEGIN", 11);
    tap_ok(why == NULL && k.alg == GATE_CURSOR_HS256,
           "what only ends like it is");
    gate_cursor_key_wipe(&k);
}


static void
test_weak(void)
{
    size_t             i;
    gate_cursor_key_t  k;

    static const struct {
        const char  *text;
        int          weak;
    } list[] = {
        { "Ahb6ohFi9ahquiiyoo7iephahpoo5Iez", GATE_CURSOR_KEY_GOOD },
        { "Ahb6ohFi9ahquiiyoo7iephahpoo5Ie", GATE_CURSOR_KEY_SHORT },
        { "Ahb6ohFi9ahquiiyoo7iephahpoo5Ie\n", GATE_CURSOR_KEY_SHORT },
        { "secret", GATE_CURSOR_KEY_KNOWN },
        { "ChangeMe\n", GATE_CURSOR_KEY_KNOWN },
        { "YOUR-256-BIT-SECRET", GATE_CURSOR_KEY_KNOWN },
        { "test-cursor-secret-for-pagination", GATE_CURSOR_KEY_KNOWN },
        { "test-cursor-secret-for-paginatioN", GATE_CURSOR_KEY_KNOWN },
        { "test-cursor-secret-for-paginatiox", GATE_CURSOR_KEY_GOOD },
        { "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
          GATE_CURSOR_KEY_KNOWN },
        { "x", GATE_CURSOR_KEY_KNOWN },
        { PEM_P256, GATE_CURSOR_KEY_GOOD }
    };

    for (i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        tap_ok(test_init(&k, -1, GATE_CURSOR_KEY_AUTO, list[i].text,
                         strlen(list[i].text)) == NULL
               && k.weak == list[i].weak, "%.6s.. is %s", list[i].text,
               list[i].weak == GATE_CURSOR_KEY_KNOWN ? "known"
               : list[i].weak == GATE_CURSOR_KEY_SHORT ? "short" : "good");
        gate_cursor_key_wipe(&k);
    }

    for (i = 0; i < GATE_CURSOR_KNOWN; i++) {
        if (test_init(&k, GATE_CURSOR_HS512, GATE_CURSOR_KEY_RAW,
                      gate_cursor_key_known[i],
                      strlen(gate_cursor_key_known[i])) != NULL
            || k.weak != GATE_CURSOR_KEY_KNOWN)
        {
            break;
        }

        gate_cursor_key_wipe(&k);
    }

    tap_ok(i == GATE_CURSOR_KNOWN, "each of the list is known");
}


static void
test_pairs(const char *pem, const char *public, const char *name)
{
    int                i, j, bad, ended;
    size_t             len[3];
    const void        *part[3];
    unsigned char      sig[64];
    gate_cursor_key_t  k, p;

    (void) test_init(&k, -1, GATE_CURSOR_KEY_AUTO, pem, strlen(pem));
    (void) test_init(&p, -1, GATE_CURSOR_KEY_AUTO, public, strlen(public));

    part[0] = "this is ";
    len[0] = 8;
    part[1] = NULL;
    len[1] = 0;
    part[2] = "the text";
    len[2] = 8;

    bad = 0;
    ended = 0;

    /* often enough that r or s begins with a byte of zeros */

    for (i = 0; i < 600; i++) {
        bad += gate_cursor_key_sign(&k, part, len, 3, sig) != 64;

        ended += (sig[0] == 0 || sig[32] == 0);

        if (i < 60 || sig[0] == 0 || sig[32] == 0) {
            bad += !gate_cursor_key_check(&p, (const unsigned char *)
                                          "this is the text", 16, sig, 64);
        }
    }

    tap_ok(bad == 0, "%s: what the private key signs the public one verifies",
           name);
    printf("# %d short ones\n", ended);

    for (j = 0; j < 64; j++) {
        sig[j] ^= 0x10;
        bad += gate_cursor_key_check(&p, (const unsigned char *)
                                     "this is the text", 16, sig, 64);
        sig[j] ^= 0x10;
    }

    tap_ok(bad == 0, "%s: no byte of the signature may be another", name);
    tap_ok(!gate_cursor_key_check(&p, (const unsigned char *)
                                  "this is the texT", 16, sig, 64)
           && !gate_cursor_key_check(&p, (const unsigned char *)
                                     "this is the text", 16, sig, 63),
           "%s: another text, or a short signature, is refused", name);

    memset(sig, 0, 32);
    bad = gate_cursor_key_check(&p, (const unsigned char *)
                                "this is the text", 16, sig, 64);
    memset(sig, 0, 64);
    bad += gate_cursor_key_check(&p, (const unsigned char *)
                                 "this is the text", 16, sig, 64);
    memset(sig, 255, 64);
    bad += gate_cursor_key_check(&p, (const unsigned char *)
                                 "this is the text", 16, sig, 64);
    tap_ok(bad == 0, "%s: zeros and what is out of range are refused", name);

    tap_ok(gate_cursor_key_sign(&p, part, len, 3, sig) == 0,
           "%s: a public key signs nothing", name);
    tap_ok(ERR_peek_error() == 0, "%s: no error is left for others", name);

    gate_cursor_key_wipe(&k);
    gate_cursor_key_wipe(&p);
}


static int
test_signs(gate_cursor_format_e format, const char *payload, const char *want)
{
    int          ok;
    size_t       n;
    char         out[2 * GATE_CURSOR_LENGTH];
    const char  *why;

    why = NULL;
    n = gate_cursor_sign((unsigned char *) out, format, &test_keys[0],
                         (const unsigned char *) payload, strlen(payload),
                         &test_scratch, &why);

    if (n == 0) {
        ok = (want != NULL && why != NULL && strstr(why, want) != NULL);

        if (!ok) {
            printf("# %s\n", why ? why : "(no reason)");
        }

        return ok;
    }

    out[n] = '\0';
    test_rules.format = format;

    return want == NULL && test_says(out, "valid");
}


static void
test_signing(void)
{
    char         text[4096];
    size_t       i, n;
    unsigned     f;
    const char  *good;

    good = "{\"offset\":50,\"ts\":1760493069.75,\"iat\":1760493069}";

    test_begin(GATE_CURSOR_ENVELOPE);
    test_key(TEST_SECRET, "k1", -1);

    for (f = 0; f < GATE_CURSOR_FORMATS; f++) {
        test_rules.mode = GATE_CURSOR_COMPAT;
        tap_ok(test_signs((gate_cursor_format_e) f, good, NULL),
               "what is signed as %s is valid", gate_cursor_format_name[f]);
    }

    test_rules.mode = GATE_CURSOR_STRICT;
    tap_ok(test_signs(GATE_CURSOR_ENVELOPE, " { \"offset\" : 50 ,"
                      "\"ts\":1760493069.750, \"order_by\": [ \"\\u00E9\","
                      "[], {}, 1e2, -0 ], \"filters\":"
                      "{\"b\":{\"\xc3\xa9\":\"\x7f/\\/\"},\"a\":[[0]]}}",
                      NULL),
           "an envelope is printed as the service prints it");

    tap_ok(test_signs(GATE_CURSOR_ENVELOPE, "[]", "no object")
           && test_signs(GATE_CURSOR_JWS, "[]", "no object")
           && test_signs(GATE_CURSOR_DETACHED, "1", "no object")
           && test_signs(GATE_CURSOR_ENVELOPE, "{", "incomplete"),
           "a payload must be an object");

    tap_ok(test_signs(GATE_CURSOR_ENVELOPE, "{\"a\":1,\"b\":2,\"\\u0061\":1}",
                      "twice")
           && test_signs(GATE_CURSOR_JWS, "{\"b\":{\"a\":1,\"a\":2}}",
                         "twice"), "a name must not be there twice");

    n = 0;
    n += (size_t) sprintf(text, "{\"offset\":1,\"ts\":1760493069.75,"
                          "\"order_by\":");

    for (i = 0; i < 30; i++) {
        n += (size_t) sprintf(text + n, "[");
    }

    for (i = 0; i < 30; i++) {
        n += (size_t) sprintf(text + n, "]");
    }

    memcpy(text + n, "}", 2);
    tap_ok(test_signs(GATE_CURSOR_ENVELOPE, text, NULL),
           "as deep as it may be");

    memmove(text + n - 30 + 2, text + n - 30, 32);
    memcpy(text + n - 30, "[]", 2);
    tap_ok(test_signs(GATE_CURSOR_ENVELOPE, text, "too deep"),
           "too deep once it is within the envelope");

    n = (size_t) snprintf(text, sizeof(text), "{\"offset\":50,"
                          "\"ts\":1760493069.75,\"iat\":1760493069,"
                          "\"order_by\":\"");

    for (i = n; i < 2046; i++) {
        text[i] = 'a';
    }

    memcpy(text + i, "\"}", 3);
    test_rules.mode = GATE_CURSOR_COMPAT;
    tap_ok(test_signs(GATE_CURSOR_ENVELOPE, text, NULL)
           && test_signs(GATE_CURSOR_DETACHED, text, NULL)
           && test_signs(GATE_CURSOR_JWS, text, NULL),
           "the longest payload of all");

    memcpy(text + i, "a\"}", 4);
    tap_ok(test_signs(GATE_CURSOR_ENVELOPE, text, "too long"),
           "one that is longer");

    for (i = n; i + 2 <= 2046; i += 2) {
        memcpy(text + i, "\xc3\xa9", 2);
    }

    memcpy(text + i, "\"}", 3);
    tap_ok(test_signs(GATE_CURSOR_ENVELOPE, text, "cursor is too long"),
           "one that is too long once it is printed");

    test_begin(GATE_CURSOR_ENVELOPE);
    test_key(PEM_ED25519, "", -1);
    tap_ok(test_signs(GATE_CURSOR_JWS, good, "public")
           && test_signs(GATE_CURSOR_ENVELOPE, good, "HS256"),
           "a public key signs nothing");

    test_begin(GATE_CURSOR_ENVELOPE);
    test_key(TEST_SECRET, "a\"b", GATE_CURSOR_HS512);
    tap_ok(test_signs(GATE_CURSOR_JWS, good, "id of the key")
           && test_signs(GATE_CURSOR_DETACHED, good, "HS256"),
           "a key's id must be plain, and its algorithm the format's");

    test_keys[0].id_len = 0;
    tap_ok(test_signs(GATE_CURSOR_JWS, good, NULL), "HS512 signs a JWS");

    test_begin(GATE_CURSOR_ENVELOPE);
    test_key(PEM_P256_PRIVATE, "2026a", -1);
    tap_ok(test_signs(GATE_CURSOR_JWS, good, NULL), "P-256 signs a JWS");

    test_begin(GATE_CURSOR_ENVELOPE);
    test_key(PEM_ED25519_PRIVATE, "2026a", -1);
    tap_ok(test_signs(GATE_CURSOR_JWS, good, NULL), "Ed25519 signs a JWS");
    test_begin(GATE_CURSOR_ENVELOPE);
}


int
main(void)
{
    test_forms();
    test_wiped();
    test_algs();
    test_weak();
    test_pairs(PEM_P256_PRIVATE, PEM_P256, "ES256");
    test_pairs(PEM_ED25519_PRIVATE, PEM_ED25519, "EdDSA");
    test_signing();

    return tap_done();
}

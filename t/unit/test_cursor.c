
#include "cursor.h"

#include <float.h>


#define VALID      "valid"
#define FAILED     "bad_signature: Cursor signature verification failed"
#define NO_TIME    "malformed: Cursor missing timestamp"
#define NO_OFFSET  "malformed: Invalid offset in cursor"
#define NO_NUMBER  "malformed: Invalid cursor format: its timestamp is no "   \
                   "number"
#define NOT_SO     "malformed: Invalid cursor format: it was not issued in "  \
                   "this form"
#define NO_BASE64  "malformed: Invalid cursor format: it is not base64url"
#define FUTURE     "future: Cursor timestamp is in the future"

#define ISSUED     "{\"offset\":50,\"ts\":1760493069.75}"


static void
test_both(const char *s, const char *compat, const char *strict,
    const char *what)
{
    test_rules.mode = GATE_CURSOR_COMPAT;
    tap_ok(test_says(s, compat), "%s: compat", what);

    test_rules.mode = GATE_CURSOR_STRICT;
    tap_ok(test_says(s, strict), "%s: strict", what);
}


static void
test_payloads(void)
{
    size_t  i;

    static const struct {
        const char  *payload;
        const char  *as;               /* what is signed, if not that */
        const char  *compat;
        const char  *strict;           /* if not that */
    } list[] = {

        { ISSUED, NULL, VALID, NULL },
        { "{\"offset\":0,\"ts\":1760493069}", NULL, VALID, NULL },
        { "{\"offset\":1000000000000000000000000000000,\"ts\":1760493069.0}",
          NULL, VALID, NULL },

        /* what the service may add, and in which order */

        { "{\"offset\":1,\"ts\":1760493069.5,\"order_by\":\"a\","
          "\"filters\":{\"b\":1,\"a\":NaN}}",
          "{\"filters\":{\"a\":NaN,\"b\":1},\"offset\":1,\"order_by\":\"a\","
          "\"ts\":1760493069.5}", VALID, NULL },
        { "{\"offset\":1,\"ts\":1760493069.5,\"filters\":{}}",
          "{\"filters\":{},\"offset\":1,\"ts\":1760493069.5}", VALID, NULL },
        { "{\"offset\":1,\"ts\":1760493069.5,\"filters\":{},"
          "\"order_by\":1}",
          "{\"filters\":{},\"offset\":1,\"order_by\":1,"
          "\"ts\":1760493069.5}", VALID, NOT_SO },
        { "{\"offset\":1,\"ts\":1760493069.5,\"order_by\":null}",
          "{\"offset\":1,\"order_by\":null,\"ts\":1760493069.5}", VALID,
          NOT_SO },
        { "{\"ts\":1760493069.75,\"offset\":50}", ISSUED, VALID, NOT_SO },
        { "{\"offset\":50,\"ts\":1760493069.75,\"x\":1}",
          "{\"offset\":50,\"ts\":1760493069.75,\"x\":1}", VALID, NOT_SO },
        { "{\"offset\":50,\"a\":1,\"ts\":1760493069.75}",
          "{\"a\":1,\"offset\":50,\"ts\":1760493069.75}", VALID, NOT_SO },

        /* another way to write the same */

        { "{\"offset\":50,\"ts\":1760493069.750}", ISSUED, VALID, NOT_SO },
        { "{\"offset\":50,\"ts\":176049306975e-2}", ISSUED, VALID, NOT_SO },
        { "{\"offset\":50, \"ts\":1760493069.75}", ISSUED, VALID, NOT_SO },
        { "{\"offset\":-0,\"ts\":1760493069.75}",
          "{\"offset\":0,\"ts\":1760493069.75}", VALID, NOT_SO },
        { "{\"o\\u0066fset\":50,\"ts\":1760493069.75}", ISSUED, VALID,
          NOT_SO },
        { "{\"offset\":1,\"ts\":1,\"offset\":50,\"ts\":1760493069.75}",
          ISSUED, VALID, NOT_SO },
        { "{\"offset\":050,\"ts\":1760493069.75}", ISSUED,
          "malformed: Invalid cursor format: comma expected", NULL },

        /* a signature of the bytes that came is none */

        { "{\"ts\":1760493069.75,\"offset\":50}", NULL, FAILED, NULL },
        { "{\"offset\":50,\"ts\":1760493069.750}", NULL, FAILED, NULL },
        { "{\"offset\":50,\"ts\":1.7604930697500e9}", NULL, FAILED, NULL },

        /* timestamps */

        { "{\"offset\":50}", NULL, NO_TIME, NULL },
        { "{}", NULL, NO_TIME, NULL },
        { "{\"offset\":50,\"ts\":null}", NULL, NO_TIME, NULL },
        { "{\"offset\":50,\"ts\":\"1760493069.75\"}", NULL, NO_NUMBER, NULL },
        { "{\"offset\":50,\"ts\":[]}", NULL, NO_NUMBER, NULL },
        { "{\"offset\":50,\"ts\":{}}", NULL, NO_NUMBER, NULL },
        { "{\"offset\":50,\"ts\":NaN}", NULL, NO_NUMBER, NULL },
        { "{\"offset\":50,\"ts\":Infinity}", NULL, NO_NUMBER, NULL },
        { "{\"offset\":50,\"ts\":1e999}",
          "{\"offset\":50,\"ts\":Infinity}", NO_NUMBER, NULL },
        { "{\"offset\":50,\"ts\":-Infinity}", NULL,
          "expired: Cursor expired (age: infs, TTL: 600s)", NULL },
        { "{\"offset\":50,\"ts\":true}", NULL,
          "expired: Cursor expired (age: 1760493129.2s, TTL: 600s)", NULL },
        { "{\"offset\":50,\"ts\":false}", NULL,
          "expired: Cursor expired (age: 1760493130.2s, TTL: 600s)", NULL },
        { "{\"offset\":50,\"ts\":1760492530.25}", NULL, VALID, NULL },
        { "{\"offset\":50,\"ts\":1760492530.0}", NULL,
          "expired: Cursor expired (age: 600.2s, TTL: 600s)", NULL },
        { "{\"offset\":50,\"ts\":1760492530}", NULL,
          "expired: Cursor expired (age: 600.2s, TTL: 600s)", NULL },
        { "{\"offset\":50,\"ts\":-1}", NULL,
          "expired: Cursor expired (age: 1760493131.2s, TTL: 600s)", NULL },
        { "{\"offset\":50,\"ts\":-1e+30}", NULL,
          "expired: Cursor expired (age: 1000000000000000019884624838656.0s, "
          "TTL: 600s)", NULL },
        { "{\"offset\":50,\"ts\":1760493190.25}", NULL, VALID, NULL },
        { "{\"offset\":50,\"ts\":1760493190.5}", NULL, VALID, FUTURE },
        { "{\"offset\":50,\"ts\":1e+308}", NULL, VALID, FUTURE },

        /* offsets; what is expired is that first */

        { "{\"offset\":-1,\"ts\":1760493069.75}", NULL, NO_OFFSET, NULL },
        { "{\"offset\":50.0,\"ts\":1760493069.75}", NULL, NO_OFFSET, NULL },
        { "{\"offset\":\"1\",\"ts\":1760493069.75}", NULL, NO_OFFSET, NULL },
        { "{\"offset\":null,\"ts\":1760493069.75}", NULL, NO_OFFSET, NULL },
        { "{\"ts\":1760493069.75}", NULL, NO_OFFSET, NULL },
        { "{\"offset\":true,\"ts\":1760493069.75}", NULL, VALID, NOT_SO },
        { "{\"offset\":false,\"ts\":1760493069.75}", NULL, VALID, NOT_SO },
        { "{\"offset\":-1,\"ts\":1760492430.25}", NULL,
          "expired: Cursor expired (age: 700.0s, TTL: 600s)", NULL },

        /* payloads that are none */

        { "[]", NULL, "malformed: Invalid cursor format: its payload is no "
                      "object", NULL },
        { "\"a\"", NULL, "malformed: Invalid cursor format: its payload is "
                         "no object", NULL },
        { "null", NULL, "malformed: Invalid cursor format: its payload is no "
                        "object", NULL },
        { "[]", "{}", FAILED, NULL }
    };

    for (i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        test_both(test_envelope(list[i].payload,
                                list[i].as ? list[i].as : list[i].payload),
                  list[i].compat,
                  list[i].strict ? list[i].strict : list[i].compat,
                  list[i].payload);
    }
}


/* What stands around the payload; %s is the MAC. */

static void
test_documents(void)
{
    int     n;
    char    text[1024];
    size_t  i;

    static const struct {
        const char  *text;
        const char  *compat;
        const char  *strict;
    } list[] = {

        { "{\"sig\":\"%s\",\"payload\":" ISSUED "}", VALID, NOT_SO },
        { " {\"payload\":" ISSUED ",\"sig\":\"%s\"}\t\t", VALID, NOT_SO },
        { "{\"payload\":" ISSUED ",\"sig\":\"%s\",\"x\":1}", VALID, NOT_SO },
        { "{\"payload\":1,\"payload\":" ISSUED ",\"sig\":\"%s\"}", VALID,
          NOT_SO },
        { "{\"payload\":" ISSUED ",\"sig\":1,\"sig\":\"%s\"}", VALID,
          NOT_SO },
        { "{\"payload\":" ISSUED ",\"payload\":1,\"sig\":\"%s\"}", FAILED,
          FAILED },
        { "{\"payload\":" ISSUED ",\"si\\u0067\":\"%s\"}", VALID, NOT_SO },
        { "{\"payload\":" ISSUED ",\"sig\":\"%s\"}x",
          "malformed: Invalid cursor format: data after the end", NULL },
        { "{\"payload\":" ISSUED ",\"sig\":\"%s\"",
          "malformed: Invalid cursor format: incomplete", NULL },
        { "[\"%s\"]", "malformed: Invalid cursor format: it is no object",
          NULL },
        { "\"%s\"", "malformed: Invalid cursor format: it is no object",
          NULL },
        { "{\"sig\":\"%s\"}",
          "malformed: Cursor missing required field: 'payload'", NULL },
        { "{\"payload\":" ISSUED "}",
          "malformed: Cursor missing required field: 'sig'", NULL },
        { "{}", "malformed: Cursor missing required field: 'payload'", NULL },
        { "{\"payload\":" ISSUED ",\"sig\":null}",
          "malformed: Invalid cursor format: its signature is no string",
          NULL },
        { "{\"payload\":" ISSUED ",\"sig\":[\"%s\"]}",
          "malformed: Invalid cursor format: its signature is no string",
          NULL },
        { "{\"payload\":" ISSUED ",\"sig\":\"%s\xc3\xa9\"}",
          "malformed: Invalid cursor format: its signature is not ASCII",
          NULL },
        { "{\"payload\":" ISSUED ",\"sig\":\"\\u00e9%s\"}",
          "malformed: Invalid cursor format: its signature is not ASCII",
          NULL },
        { "{\"payload\":" ISSUED ",\"sig\":\"\\ud800\"}",
          "malformed: Invalid cursor format: its signature is not ASCII",
          NULL },
        { "{\"payload\":" ISSUED ",\"sig\":\"\x7f%s\"}", FAILED, NULL },
        { "{\"payload\":" ISSUED ",\"sig\":\"%s0\"}", FAILED, NULL },
        { "{\"payload\":" ISSUED ",\"sig\":\"%.63s\"}", FAILED, NULL },
        { "{\"payload\":" ISSUED ",\"sig\":\"\"}", FAILED, NULL },
        { "\xef\xbb\xbf{\"payload\":" ISSUED ",\"sig\":\"%s\"}",
          "malformed: Invalid cursor format: value expected", NULL }
    };

    for (i = 0; i < sizeof(list) / sizeof(list[0]); i++) {

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"

        n = snprintf(text, sizeof(text), list[i].text,
                     test_mac(TEST_SECRET, ISSUED));

#pragma GCC diagnostic pop

        test_both(test_base64(text, (size_t) n, 1), list[i].compat,
                  list[i].strict ? list[i].strict : list[i].compat,
                  list[i].text);
    }
}


static void
test_signatures(void)
{
    int     n;
    char    text[1024], mac[2 * GATE_HMAC_LEN + 1];
    size_t  i, bad;

    unsigned char  raw[GATE_HMAC_LEN];

    snprintf(mac, sizeof(mac), "%s", test_mac(TEST_SECRET, ISSUED));

    /* the first digit of it as an escape */

    n = snprintf(text, sizeof(text), "{\"payload\":" ISSUED
                 ",\"sig\":\"\\u00%02x%s\"}", mac[0], mac + 1);
    test_both(test_base64(text, (size_t) n, 1), VALID, NOT_SO,
              "a digit of the signature is an escape");

    bad = 0;

    for (i = 0; i < 2 * GATE_HMAC_LEN; i++) {
        mac[i] ^= 1;
        n = snprintf(text, sizeof(text), "{\"payload\":" ISSUED
                     ",\"sig\":\"%s\"}", mac);
        bad += !test_says(test_base64(text, (size_t) n, 1), FAILED);
        mac[i] ^= 1;
    }

    tap_ok(bad == 0, "no digit of the signature may be another");

    bad = 0;

    for (i = 0; i < 2 * GATE_HMAC_LEN; i++) {

        if (mac[i] < 'a') {
            continue;
        }

        mac[i] ^= 0x20;
        n = snprintf(text, sizeof(text), "{\"payload\":" ISSUED
                     ",\"sig\":\"%s\"}", mac);
        bad += !test_says(test_base64(text, (size_t) n, 1), FAILED);
        mac[i] ^= 0x20;
    }

    tap_ok(bad == 0, "no digit of the signature may be in upper-case");

    memset(mac, '0', 2 * GATE_HMAC_LEN);
    bad = 0;

    for (i = 0; i < 256; i++) {
        mac[i % (2 * GATE_HMAC_LEN)] = (char) i;
        bad += (gate_cursor_hex(raw, (unsigned char *) mac,
                                2 * GATE_HMAC_LEN) == 0)
               != (i != 0 && strchr("0123456789abcdef", (int) i) != NULL);
        mac[i % (2 * GATE_HMAC_LEN)] = '0';
    }

    tap_ok(bad == 0, "no other byte is a digit of it");

    n = snprintf(text, sizeof(text), "{\"payload\":" ISSUED
                 ",\"sig\":\"%s\"}", test_mac(TEST_SECRET "x", ISSUED));
    test_both(test_base64(text, (size_t) n, 1), FAILED, FAILED,
              "signed with another secret");
}


static void
test_spellings(void)
{
    char    text[1024];
    char   *s;
    size_t  n;

    s = test_plain(ISSUED);
    n = strlen(s);

    snprintf(text, sizeof(text), "%s==", s);
    test_both(text, VALID, NOT_SO, "more \"=\" than are due");

    snprintf(text, sizeof(text), "%sA", s);
    test_both(text, NO_BASE64, NO_BASE64, "one character too many");

    snprintf(text, sizeof(text), "%.*s!%s", 20, s, s + 20);
    test_both(text, NO_BASE64, NO_BASE64, "a foreign byte");

    snprintf(text, sizeof(text), "%s=Zm9v", s);
    test_both(text, NO_BASE64, NO_BASE64, "data after a \"=\"");

    s = test_plain("{\"offset\":1000,\"ts\":1760493069.75}");
    n = strlen(s);

    snprintf(text, sizeof(text), "%s", s);
    tap_ok(s[n - 1] == '=' && s[n - 2] != '=', "one \"=\" is due here");
    test_both(text, VALID, VALID, "with the \"=\" that is due");

    text[n - 1] = '\0';
    test_both(text, NO_BASE64, NO_BASE64, "without it");

    snprintf(text, sizeof(text), "%s", s);
    text[n - 2]++;
    test_both(text, VALID, NOT_SO, "with a bit left over that is set");

    s = test_envelope("{\"offset\":1,\"ts\":1760493069.75,\"filters\":"
                      "\"~?~?~?\"}",
                      "{\"filters\":\"~?~?~?\",\"offset\":1,"
                      "\"ts\":1760493069.75}");
    snprintf(text, sizeof(text), "%s", s);
    test_both(text, VALID, VALID, "with - and _");

    for (n = 0; text[n] != '\0'; n++) {
        text[n] = (text[n] == '-') ? '+' : (text[n] == '_') ? '/' : text[n];
    }

    tap_ok(strcmp(text, s) != 0, "there are some of them");
    test_both(text, VALID, NOT_SO, "with + and /");

    test_both("", "absent", "absent", "nothing at all");
    tap_ok(strcmp(test_verify("eyJ\0", 4), NO_BASE64) == 0,
           "a NUL is a foreign byte");
}


static void
test_limits(void)
{
    char    text[2 * GATE_CURSOR_LENGTH], room[GATE_CURSOR_LENGTH + 1];
    char   *s;
    size_t  n;

    s = test_plain(ISSUED);
    n = strlen(s);

    test_rules.length = n;
    test_both(s, VALID, VALID, "as long as it may be");

    test_rules.length = n - 1;
    test_both(s, "malformed: Invalid cursor format: it is too long",
              "malformed: Invalid cursor format: it is too long",
              "longer than it may be");

    test_begin(GATE_CURSOR_ENVELOPE);
    test_key(TEST_SECRET, "", -1);

    memset(room, 'A', GATE_CURSOR_LENGTH);
    room[GATE_CURSOR_LENGTH] = '\0';
    test_rules.length = 2 * GATE_CURSOR_LENGTH;
    test_both(room, "malformed: Invalid cursor format: value expected",
              "malformed: Invalid cursor format: value expected",
              "the longest that is looked at");

    snprintf(text, sizeof(text), "%sAAAA", room);
    test_both(text, "malformed: Invalid cursor format: it is too long",
              "malformed: Invalid cursor format: it is too long",
              "longer, whatever the rules say");

    test_rules.json.depth = 1;
    test_both(s, "malformed: Invalid cursor format: nested too deep",
              "malformed: Invalid cursor format: nested too deep",
              "deeper than it may be");
    test_rules.json.depth = 2;
    test_both(s, VALID, VALID, "as deep as it may be");

    test_rules.json.members = 1;
    test_both(s, "malformed: Invalid cursor format: too many members",
              "malformed: Invalid cursor format: too many members",
              "more members than there may be");
    test_rules.json.members = 2;
    test_both(s, VALID, VALID, "as many members as there may be");

    test_rules.json.digits = 1;
    test_both(s, "malformed: Invalid cursor format: too many digits",
              "malformed: Invalid cursor format: too many digits",
              "more digits than there may be");
    test_rules.json.digits = 2;
    test_both(s, VALID, VALID, "as many digits as there may be; those of a "
                               "float do not count");
    test_both(test_plain("{\"offset\":50,\"ts\":1760493069}"),
              "malformed: Invalid cursor format: too many digits",
              "malformed: Invalid cursor format: too many digits",
              "more digits of a timestamp than there may be");
}


static void
test_huge(void)
{
    char    text[1024];
    size_t  n;

    n = (size_t) sprintf(text, "{\"offset\":1,\"ts\":1");
    memset(text + n, '0', 400);
    memcpy(text + n + 400, "}", 2);

    test_both(test_plain(text), NO_NUMBER, NO_NUMBER,
              "an integer that no double holds is no timestamp");
}


static void
test_ring(void)
{
    size_t  i;

    test_begin(GATE_CURSOR_ENVELOPE);
    tap_ok(test_says(test_plain(ISSUED), FAILED), "no key verifies nothing");

    test_key("another one", "a", -1);
    test_key(TEST_SECRET, "b", GATE_CURSOR_HS512);
    test_key("-----BEGIN PUBLIC KEY-----\n"
             "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
             "-----END PUBLIC KEY-----\n", "c", -1);
    tap_ok(test_says(test_plain(ISSUED), FAILED) && test_c.key == -1,
           "keys of other algorithms do not count");

    test_key(TEST_SECRET, "d", -1);
    tap_ok(test_says(test_plain(ISSUED), VALID) && test_c.key == 3,
           "the key that signed it is named");

    for (i = 4; i < GATE_CURSOR_KEYS; i++) {
        test_key("yet another one", "", -1);
    }

    tap_ok(test_says(test_plain(ISSUED), VALID) && test_c.key == 3,
           "one of eight verifies it");
}


static int
test_is(const char *name, const char *value)
{
    unsigned char  *copy;
    int             rc;

    copy = tap_copy(value, strlen(value));
    rc = gate_cursor_claim_is(&test_c, name, strlen(name), copy,
                              strlen(value));
    free(copy);

    return rc;
}


static void
test_claims(void)
{
    char        room[4 * GATE_CURSOR_LENGTH];
    uint32_t    i;
    const char *payload;

    payload = "{\"offset\":1,\"ts\":1760493069.5,\"aud\":\"/api\","
              "\"filters\":{},\"n\\u00e9\":1,\"o\":-0}";

    snprintf(room, sizeof(room), "%s",
             test_envelope(payload, "{\"aud\":\"/api\",\"filters\":{},"
                           "\"n\\u00e9\":1,\"o\":0,\"offset\":1,"
                           "\"ts\":1760493069.5}"));
    test_rules.claim[0] = "n\xc3\xa9";
    test_rules.claim_len[0] = 3;
    test_rules.claim[1] = "aud";
    test_rules.claim_len[1] = 3;
    test_rules.nclaims = 2;
    test_both(room, VALID, NOT_SO, "two claims that are allowed, one that is "
                                   "not as it is printed");

    payload = "{\"offset\":1,\"ts\":1760493069.5,\"aud\":\"/api\","
              "\"filters\":{},\"n\\u00e9\":null,\"order_by\":3}";
    test_both(test_envelope(payload, "{\"aud\":\"/api\",\"filters\":{},"
                            "\"n\\u00e9\":null,\"offset\":1,\"order_by\":3,"
                            "\"ts\":1760493069.5}"),
              VALID, NOT_SO, "allowed claims leave the order of the others");

    payload = "{\"offset\":1,\"ts\":1760493069.5,\"aud\":\"/api\","
              "\"order_by\":3,\"n\\u00e9\":null,\"filters\":{}}";
    test_both(test_envelope(payload, "{\"aud\":\"/api\",\"filters\":{},"
                            "\"n\\u00e9\":null,\"offset\":1,\"order_by\":3,"
                            "\"ts\":1760493069.5}"),
              VALID, VALID, "two claims that are allowed, wherever they are");

    payload = "{\"aud\":\"/api\",\"offset\":1,\"ts\":1760493069.5}";
    test_both(test_plain(payload), VALID, NOT_SO,
              "not before the timestamp, though");

    test_rules.mode = GATE_CURSOR_COMPAT;

    tap_ok(test_says(test_plain("{\"offset\":17,\"ts\":1760493069.5}"), VALID)
           && test_is("offset", "17") && !test_is("offset", "17.0")
           && !test_is("offset", "017") && !test_is("offset", "1")
           && !test_is("ts", "1760493069.5") && !test_is("sig", "x"),
           "an integer is its digits");

    i = gate_cursor_claim(&test_c, "ts", 2);
    tap_ok(i != GATE_JSON_NONE
           && gate_json_number(&test_c.json, i) == 1760493069.5
           && gate_cursor_claim(&test_c, "nope", 4) == GATE_JSON_NONE,
           "a claim is found by its name");

    tap_ok(test_says(room, VALID) && test_is("aud", "/api")
           && !test_is("aud", "/apj") && !test_is("aud", "/ap")
           && !test_is("aud", "") && !test_is("filters", "{}")
           && test_is("o", "0") && !test_is("o", "-0")
           && test_is("n\xc3\xa9", "1"),
           "a claim is what it means, not how it is written");

    tap_ok(test_says(test_plain(
               "{\"a\":\"\",\"b\":\"sha256:2c26b46b68ffc68ff99b453c1d304134"
               "13422d706483bfa0f98a5e886266e7ae\",\"c\":\"sha256:2C26B46B68"
               "FFC68FF99B453C1D30413413422D706483BFA0F98A5E886266E7AE\","
               "\"d\":\"sha256:foo\",\"e\":\"\\u0073ha256:2c26b46b68ffc68ff9"
               "9b453c1d30413413422d706483bfa0f98a5e886266e7a\",\"offset\":1,"
               "\"ts\":1760493069.5}"), FAILED), "escapes are signed away");

    tap_ok(test_says(test_plain(
               "{\"a\":\"\",\"b\":\"sha256:2c26b46b68ffc68ff99b453c1d304134"
               "13422d706483bfa0f98a5e886266e7ae\",\"c\":\"sha256:2C26B46B68"
               "FFC68FF99B453C1D30413413422D706483BFA0F98A5E886266E7AE\","
               "\"d\":\"sha256:foo\",\"e\":\"x\\ud800\",\"f\":true,"
               "\"offset\":1,\"ts\":1760493069.5}"), VALID)
           && test_is("b", "foo") && !test_is("b", "fop")
           && !test_is("b", "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706"
                            "483bfa0f98a5e886266e7ae")
           && !test_is("c", "foo") && !test_is("d", "foo")
           && !test_is("d", "sha256:foo"),
           "behind \"sha256:\" is a hash and nothing else");

    tap_ok(!test_is("a", "") && !test_is("a", "x") && !test_is("f", "true")
           && test_is("e", "x\xed\xa0\x80"),
           "what is empty or no text matches nothing");

    tap_ok(test_says(test_plain("{\"offset\":1,\"ts\":1}"),
                     "expired: Cursor expired (age: 1760493129.2s, "
                     "TTL: 600s)")
           && test_is("offset", "1"), "an expired one has claims, too");

    tap_ok(test_says(test_plain("{\"offset\":-1,\"ts\":1760493069.5}"),
                     NO_OFFSET)
           && !test_is("offset", "-1")
           && gate_cursor_claim(&test_c, "ts", 2) == GATE_JSON_NONE,
           "a refused one has none");
}


/* What the parser makes of it is what is made of it without. */

static void
test_quick(void)
{
    size_t                    i, n, len, bad;
    gate_json_t               j;
    unsigned char             bytes[1024];
    gate_json_node_t          node[gate_json_nodes(sizeof(bytes))];
    gate_cursor_t             c;
    gate_cursor_call_t        call;
    gate_cursor_envelope_t    e;
    const gate_json_node_t   *a, *b;

    static const struct {
        const char  *payload;
        int          quick;
    } list[] = {
        { ISSUED, 1 },
        { "{\"offset\":0,\"ts\":0}", 1 },
        { "{\"offset\":0,\"ts\":-5}", 1 },
        { "{\"offset\":0,\"ts\":-0.0}", 1 },
        { "{\"offset\":0,\"ts\":0.0}", 1 },
        { "{\"offset\":12,\"ts\":1e+16}", 1 },
        { "{\"offset\":12,\"ts\":-2.2250738585072014e-308}", 1 },
        { "{\"offset\":99999999999999999999,\"ts\":"
          "1111111111111111111111111111111111111111}", 1 },
        { "{\"offset\":0,\"ts\":-0}", 0 },
        { "{\"offset\":-0,\"ts\":0}", 0 },
        { "{\"offset\":-1,\"ts\":0}", 0 },
        { "{\"offset\":01,\"ts\":0}", 0 },
        { "{\"offset\":00,\"ts\":0}", 0 },
        { "{\"offset\":,\"ts\":0}", 0 },
        { "{\"offset\":1,\"ts\":}", 0 },
        { "{\"offset\":1,\"ts\":-}", 0 },
        { "{\"offset\":1,\"ts\":01}", 0 },
        { "{\"offset\":1,\"ts\":1.}", 0 },
        { "{\"offset\":1,\"ts\":.5}", 0 },
        { "{\"offset\":1,\"ts\":1e}", 0 },
        { "{\"offset\":1,\"ts\":1e+}", 0 },
        { "{\"offset\":1,\"ts\":1e5}", 0 },
        { "{\"offset\":1,\"ts\":1.0x}", 0 },
        { "{\"offset\":1,\"ts\":1.50}", 0 },
        { "{\"offset\":1,\"ts\":1e999}", 0 },
        { "{\"offset\":1,\"ts\":NaN}", 0 },
        { "{\"offset\":1,\"ts\":true}", 0 },
        { "{\"offset\":1,\"ts\":1,\"x\":1}", 0 },
        { "{\"offset\":1}", 0 },
        { "{\"offset\":123456789012345678901234567890}", 0 },
        { "{}", 0 }
    };

    memset(&call, 0, sizeof(call));
    call.rules = &test_rules;
    call.scratch = &test_scratch;
    e.call = &call;

    for (i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        len = (size_t) snprintf((char *) bytes, sizeof(bytes),
                                "{\"payload\":%s,\"sig\":\"%s\"}",
                                list[i].payload,
                                test_mac(TEST_SECRET, list[i].payload));
        memcpy(test_scratch.bytes, bytes, len);

        if (gate_cursor_quick(&c, &e, len) != list[i].quick) {
            tap_ok(0, "%s is %sseen at a glance", list[i].payload,
                   list[i].quick ? "" : "not ");
            continue;
        }

        bad = 0;

        if (list[i].quick) {
            bad += gate_json_parse(&j, bytes, len, node, &test_rules.json)
                   != 0 || j.n != c.json.n || j.exact != c.json.exact;

            for (n = 0; n < j.n; n++) {
                a = &j.node[n];
                b = &c.json.node[n];
                bad += a->start != b->start || a->end != b->end
                       || a->next != b->next || a->size != b->size
                       || a->type != b->type || a->plain != b->plain;
            }

            bad += e.ts != gate_json_member(&j, c.payload, "ts", 2)
                   || e.offset != gate_json_member(&j, c.payload, "offset",
                                                   6);
        }

        tap_ok(bad == 0, "%s is %sseen at a glance", list[i].payload,
               list[i].quick ? "" : "not ");
    }
}


static void
test_ages(void)
{
    char      ours[GATE_CURSOR_TEXT], libs[GATE_CURSOR_TEXT];
    double    age;
    size_t    i, n, bad;
    uint64_t  state;

    state = 3;
    bad = 0;

    for (i = 0; i < 200000; i++) {

        switch (i % 4) {
        case 0:
            age = (double) (tap_random(&state) % 1000000) / 20.0;
            break;
        case 1:
            age = tap_uniform(&state);
            break;
        case 2:
            age = ldexp(tap_uniform(&state),
                        (int) (tap_random(&state) % 1080) - 60);
            break;
        default:
            age = (double) (tap_random(&state) % 100000) / 8;
        }

        if (tap_random(&state) & 1) {
            age = -age;
        }

        n = gate_cursor_age(ours, sizeof(ours), age);
        snprintf(libs, sizeof(libs), "%.1f", age);

        if (n != strlen(libs) || memcmp(ours, libs, n) != 0) {
            bad++;
        }
    }

    tap_ok(bad == 0, "ages are rounded to a tenth as printf() does");

    test_c.text_len = 0;
    (void) gate_cursor_old(&test_c, DBL_MAX, INT64_MAX);
    tap_ok(test_c.text_len > 350
           && memcmp(test_c.text + test_c.text_len - 8, "775807s)", 8) == 0,
           "there is room for the longest text");
}


int
main(void)
{
    test_begin(GATE_CURSOR_ENVELOPE);
    test_key(TEST_SECRET, "", -1);

    test_payloads();
    test_documents();
    test_signatures();
    test_spellings();
    test_huge();
    test_limits();

    test_begin(GATE_CURSOR_ENVELOPE);
    test_key(TEST_SECRET, "", -1);
    test_claims();
    test_begin(GATE_CURSOR_ENVELOPE);
    test_quick();
    test_ages();
    test_ring();
    test_begin(GATE_CURSOR_ENVELOPE);

    return tap_done();
}

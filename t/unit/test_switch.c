
#include "../../src/core/gate_text.c"
#include "../../src/core/gate_parse.c"
#include "../../src/core/gate_switch.c"

#include "tap.h"


#define TEST_NOW  INT64_C(1795255200)


typedef int (*test_parse_pt)(const unsigned char *s, size_t len, int64_t now,
    gate_switch_value_t *v);


static int
test_run(test_parse_pt parse, const char *s, size_t len,
    gate_switch_value_t *v)
{
    int             rc;
    unsigned char  *p;

    p = tap_copy(s, len);
    rc = parse(p, len, TEST_NOW, v);
    free(p);

    return rc;
}


static void
test_words(void)
{
    int                  rc;
    size_t               i;
    gate_switch_value_t  v;

    /* results: 1 on, 0 off, -1 bad */

    static const struct {
        const char  *s;
        int          value;
        int          file;
    } tests[] = {
        { "on", 1, 1 }, { "off", 0, 0 }, { "1", 1, 1 }, { "0", 0, 0 },
        { "true", 1, 1 }, { "false", 0, 0 }, { "maintenance", 1, 1 },
        { "ON", 1, 1 }, { " Off\r\n", 0, 0 }, { "\t1\n", 1, 1 },
        { "", -1, 1 }, { " \n", -1, 1 }, { "ok", -1, 0 }, { "UP\n", -1, 0 },
        { "live", -1, 0 }, { "active", -1, 0 }, { "online", -1, 0 },
        { "normal", -1, 0 }, { "open", -1, 0 }, { "enabled", -1, 0 },
        { "production", -1, 0 }, { "none", -1, 0 }, { "no", -1, 0 },
        { "yes", -1, 1 }, { "ok then", -1, 1 }, { "off on", -1, 1 },
        { "offf", -1, 1 }, { "of", -1, 1 }, { "Back at noon", -1, 1 },
        { "\xff\xfe", -1, 1 }, { "2", -1, 1 }, { "[]", -1, 1 },
        { "\"on\"", -1, 1 }, { "null", -1, 1 },
        { "\xef\xbb\xbf" "off", -1, 0 },
        { "{}", 1, 1 }, { "{\"on\":false}", 0, 0 }, { "{", -1, -1 },
        { "{\"on\":1}", -1, -1 }, { " {oops}", -1, -1 },
        { "\xef\xbb\xbf{\"on\":false}", -1, 0 }, { "{} {}", -1, -1 },
    };

    for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        memset(&v, 0xa5, sizeof(v));
        rc = test_run(gate_switch_parse, tests[i].s, strlen(tests[i].s), &v);
        tap_ok((rc == 0 ? (int) v.on : rc) == tests[i].value,
               "value %zu: %d", i, tests[i].value);

        if (rc != 0) {
            tap_ok(v.message_len == 0xa5a5, "value %zu: untouched", i);
        }

        rc = test_run(gate_switch_file, tests[i].s, strlen(tests[i].s), &v);
        tap_ok((rc == 0 ? (int) v.on : rc) == tests[i].file,
               "file %zu: %d", i, tests[i].file);
    }

    tap_ok(test_run(gate_switch_parse, "on\0", 3, &v) == -1, "a NUL");
    tap_ok(test_run(gate_switch_file, "off\0", 4, &v) == 0 && v.on,
           "a NUL in a file is some text");
}


static void
test_objects(void)
{
    size_t               i;
    gate_switch_value_t  v;

    static const char  *bad[] = {
        "{\"on\":null}", "{\"on\":\"true\"}", "{\"on\":true,\"on\":true}",
        "{\"on\":true,\"on\":false}", "{\"message\":5}",
        "{\"message\":\"a\\nb\"}", "{\"message\":\"\\u007f\"}",
        "{\"message\":\"\\u0085\"}", "{\"message\":\"\\u0000\"}",
        "{\"message\":\"\xff\"}", "{\"retry_after\":-1}",
        "{\"retry_after\":2592001}", "{\"retry_after\":1.5}",
        "{\"retry_after\":\"5\"}", "{\"retry_after\":1e1}",
        "{\"from\":-1}", "{\"from\":253402300800}", "{\"from\":\"noon\"}",
        "{\"from\":1.0}", "{\"until\":true}", "{\"until\":[]}",
        "{\"from\":10,\"until\":10}", "{\"from\":10,\"until\":9}",
        "{\"ttl\":0}", "{\"ttl\":-1}", "{\"ttl\":315360001}",
        "{\"ttl\":\"10m\"}", "{\"ttl\":10,\"until\":20}",
        "{\"from\":\"2030-01-01T00:00:00Z\",\"ttl\":60}",
        "{\"read_only\":1}", "{\"x\":{\"x\":{\"x\":{\"x\":{}}}}}",
        "{\"x\":[[[[]]]]}", "{\"retry_after\":99999999999999999999}",
        "{\"x\":1,\"x\":1}", "{\"on\":true}x", "{'on':true}",
        "{\"on\":true,}", "{\"x\":1e999}",
    };

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        tap_ok(test_run(gate_switch_parse, bad[i], strlen(bad[i]), &v) == -1,
               "refused: %s", (i == 9) ? "invalid UTF-8" : bad[i]);
    }

#define P(s)  (test_run(gate_switch_parse, s, sizeof(s) - 1, &v) == 0)

    tap_ok(P("{}") && v.on && !v.read_only && v.from == 0 && v.until == 0
           && v.retry_after == 0 && v.message_len == 0, "defaults");

    tap_ok(P("{\"on\":true,\"read_only\":true,\"retry_after\":120,"
             "\"message\":\"Zur\\u00fcck \\u20ac\",\"from\":5,\"until\":6}")
           && v.on && v.read_only && v.retry_after == 120
           && v.from == 5 && v.until == 6 && v.message_len == 11
           && memcmp(v.message, "Zur\xc3\xbc" "ck \xe2\x82\xac", 11) == 0,
           "all members");

    tap_ok(P("{\"from\":\"2026-11-21T10:00:00Z\",\"until\":\"1795255201\"}")
           && v.from == TEST_NOW && v.until == TEST_NOW + 1,
           "times as strings");
    tap_ok(P("{\"ttl\":600}") && v.until == TEST_NOW + 600, "ttl");
    tap_ok(P("{\"on\":false,\"ttl\":600}") && !v.on, "ttl of an off");
    tap_ok(P("{\"from\":0,\"until\":0}") && v.from == 0 && v.until == 0,
           "0 is none");
    tap_ok(P("{\"who\":\"me\",\"list\":[1,2.5,null]}") && v.on,
           "unknown members are ignored");
    tap_ok(P("{\"x\":{\"x\":{\"x\":{}}},\"y\":\"{{{{{{[[\\\"[[\"}"),
           "four levels, and brackets in a string");
    tap_ok(P("{\"message\":\"\"}") && v.message_len == 0, "empty message");

    tap_ok(gate_switch_parse((unsigned char *) "{\"ttl\":9}", 9, -1, &v)
           == -1, "ttl without a sane now");
    tap_ok(gate_switch_parse((unsigned char *) "{\"ttl\":9}", 9, INT64_MAX,
                             &v) == -1, "ttl with a now at the limit");
}


static void
test_sizes(void)
{
    char                *s;
    size_t               len;
    gate_switch_value_t  v;

    s = malloc(70000);

    if (s == NULL) {
        abort();
    }

    len = (size_t) sprintf(s, "{\"message\":\"%512s\"}", "x");
    tap_ok(test_run(gate_switch_parse, s, len, &v) == 0
           && v.message_len == 512, "a message of 512 bytes");

    len = (size_t) sprintf(s, "{\"message\":\"%513s\"}", "x");
    tap_ok(test_run(gate_switch_parse, s, len, &v) == -1, "one of 513");

    memset(s, ' ', 70000);
    memcpy(s, "on", 2);
    tap_ok(test_run(gate_switch_parse, s, 65536, &v) == 0, "65536 bytes");
    tap_ok(test_run(gate_switch_parse, s, 65537, &v) == -1, "65537 bytes");

    memset(s, '[', 70000);
    s[0] = '{';
    tap_ok(test_run(gate_switch_parse, s, 65536, &v) == -1, "a bracket bomb");
    tap_ok(test_run(gate_switch_file, s, 70000, &v) == -1,
           "a large file that begins with a brace");
    s[0] = 'x';
    tap_ok(test_run(gate_switch_file, s, 70000, &v) == 0 && v.on,
           "a large file that does not");

    free(s);
}


static void
test_active(void)
{
    gate_switch_value_t  v;

    memset(&v, 0, sizeof(v));
    tap_ok(gate_switch_active(&v, 5) == 0, "off");

    v.on = 1;
    tap_ok(gate_switch_active(&v, 5) == 1, "on");

    v.from = 10;
    v.until = 20;
    tap_ok(gate_switch_active(&v, 9) == 0, "before from");
    tap_ok(gate_switch_active(&v, 10) == 1, "at from");
    tap_ok(gate_switch_active(&v, 19) == 1, "before until");
    tap_ok(gate_switch_active(&v, 20) == 0, "at until");

    tap_ok(gate_switch_retry_after(&v, 15, 60) == 5, "rest of the window");
    tap_ok(gate_switch_retry_after(&v, 25, 60) == 1, "window over");
    v.until = INT64_MAX;
    tap_ok(gate_switch_retry_after(&v, INT64_MIN, 60) == UINT32_MAX,
           "a long rest");
    v.until = 0;
    tap_ok(gate_switch_retry_after(&v, 15, 60) == 60, "default");
    v.retry_after = 7;
    tap_ok(gate_switch_retry_after(&v, 15, 60) == 7, "retry_after");
}


static void
test_json(void)
{
    char                 text[2048];
    size_t               len;
    json_t              *root;
    gate_switch_value_t  v, back;

    tap_ok(P("{\"on\":false,\"read_only\":true,\"retry_after\":120,"
             "\"message\":\"\\\"\\u20ac\",\"from\":5,\"until\":6}"), "a value");

    root = gate_switch_to_json(&v);
    len = json_dumpb(root, text, sizeof(text), JSON_COMPACT);
    json_decref(root);

    tap_ok(test_run(gate_switch_parse, text, len, &back) == 0
           && memcmp(&v, &back, sizeof(v)) == 0, "to JSON and back");

    memset(&v, 0, sizeof(v));
    root = gate_switch_to_json(&v);
    len = json_dumpb(root, text, sizeof(text), JSON_COMPACT);
    json_decref(root);
    text[len] = '\0';
    tap_ok(strcmp(text, "{\"on\":false,\"read_only\":false}") == 0,
           "the empty value: %s", text);

    v.message_len = 1;
    v.message[0] = 0xff;
    tap_ok(gate_switch_to_json(&v) == NULL, "a broken message");
    v.message_len = 513;
    tap_ok(gate_switch_to_json(&v) == NULL, "an impossible length");

    tap_ok(gate_switch_from_json(NULL, 0, &v) == -1, "no JSON");
    tap_ok(gate_switch_from_json(json_true(), 0, &v) == -1, "not an object");
}


int
main(void)
{
    test_words();
    test_objects();
    test_sizes();
    test_active();
    test_json();

    return tap_done();
}

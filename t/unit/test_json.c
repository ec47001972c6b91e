
#include "../../src/core/gate_base64.c"
#include "../../src/core/gate_float.c"
#include "../../src/core/gate_json.c"
#include "../../src/core/gate_json_print.c"

#include "tap.h"

#include <jansson.h>


typedef struct {
    gate_json_t        j;
    unsigned char     *text;
    gate_json_node_t  *node;
} test_t;


static const gate_json_limits_t  test_limits = {
    GATE_JSON_DEPTH, GATE_JSON_MEMBERS, GATE_JSON_DIGITS
};


static void *
test_alloc(size_t size)
{
    void  *p;

    p = malloc(size ? size : 1);

    if (p == NULL) {
        abort();
    }

    return p;
}


/* every buffer is as large as the header says, for the sanitizer to see */

static int
test_read(test_t *t, const char *s, size_t len,
    const gate_json_limits_t *limits)
{
    t->text = tap_copy(s, len);
    t->node = test_alloc(gate_json_nodes(len) * sizeof(gate_json_node_t));

    return gate_json_parse(&t->j, t->text, len, t->node, limits);
}


static void
test_free(test_t *t)
{
    free(t->text);
    free(t->node);
}


static int
test_prints(const test_t *t, uint32_t node, const char *expect, size_t len)
{
    int             same;
    size_t          n;
    unsigned char  *dst;

    dst = test_alloc(gate_json_printed(t->j.len));
    n = gate_json_print(&t->j, node, dst);
    same = (n == len && memcmp(dst, expect, n) == 0);

    if (!same) {
        printf("# printed: %.*s\n", (int) n, dst);
    }

    free(dst);

    return same;
}


static void
test_good(const char *s, size_t len, const char *printed, int exact)
{
    int     good;
    test_t  t;

    good = (test_read(&t, s, len, &test_limits) == 0);

    tap_ok(good && t.j.exact == exact
           && test_prints(&t, 0, printed, strlen(printed)),
           "%s as json.dumps() has it: %.60s", exact ? "is" : "is not",
           printed);

    test_free(&t);
}


static void
test_bad(const char *s, size_t len, const char *why)
{
    int     rc;
    test_t  t;

    t.j.why = NULL;
    rc = test_read(&t, s, len, &test_limits);

    tap_ok(rc == -1 && t.j.why != NULL && strcmp(t.j.why, why) == 0,
           "refused, %s: %s", why, t.j.why ? t.j.why : "(taken)");

    test_free(&t);
}


#define EXACT(s)     test_good(s, sizeof(s) - 1, s, 1)
#define SORTED(s, p) test_good(s, sizeof(s) - 1, p, 1)
#define OTHER(s, p)  test_good(s, sizeof(s) - 1, p, 0)
#define BAD(s, w)    test_bad(s, sizeof(s) - 1, w)


static void
test_scalars(void)
{
    EXACT("null");
    EXACT("true");
    EXACT("false");
    EXACT("NaN");
    EXACT("Infinity");
    EXACT("-Infinity");

    EXACT("0");
    EXACT("-1");
    EXACT("9007199254740993");
    EXACT("10000000000000000000000000000000000000000");
    OTHER("-0", "0");

    EXACT("0.0");
    EXACT("-0.0");
    EXACT("1760493069.75");
    EXACT("1e-05");
    EXACT("1e+16");
    EXACT("5e-324");
    EXACT("-2.2250738585072014e-308");
    OTHER("1e-5", "1e-05");
    OTHER("1E5", "100000.0");
    OTHER("1e16", "1e+16");
    OTHER("1.50", "1.5");
    OTHER("0e0", "0.0");
    OTHER("-0e9", "-0.0");
    OTHER("1e15", "1000000000000000.0");
    OTHER("9007199254740993.0", "9007199254740992.0");
    OTHER("0.1000000000000000055511151231257827", "0.1");
    OTHER("1e400", "Infinity");
    OTHER("-1.0e309", "-Infinity");
    OTHER("1e-400", "0.0");

    OTHER(" 1", "1");
    OTHER("1\n", "1");
    OTHER("\t\r\n true \t\r\n", "true");

    BAD("", "incomplete");
    BAD(" ", "incomplete");
    BAD("-", "value expected");
    BAD("+1", "value expected");
    BAD(".5", "value expected");
    BAD("1.", "digit expected");
    BAD("1.e5", "digit expected");
    BAD("1e", "digit expected");
    BAD("1e+", "digit expected");
    BAD("01", "data after the end");
    BAD("-01", "data after the end");
    BAD("1_0", "data after the end");
    BAD("0x1", "data after the end");
    BAD("1 2", "data after the end");
    BAD("1\0", "data after the end");
    BAD("1\v", "data after the end");
    BAD("tru", "value expected");
    BAD("True", "value expected");
    BAD("truex", "data after the end");
    BAD("nan", "value expected");
    BAD("-NaN", "value expected");
    BAD("-Infinit", "value expected");
    BAD("\xef\xbb\xbf" "1", "value expected");
    BAD("'a'", "value expected");
}


static void
test_strings(void)
{
    EXACT("\"\"");
    EXACT("\" !#~/'&<\"");
    EXACT("\"\\\"\\\\\\b\\f\\n\\r\\t\"");
    EXACT("\"\\u0000\\u0001\\u001f\\u007f\\u0080\\u00e9\\ufeff\\uffff\"");
    EXACT("\"\\ud83d\\ude00\"");

    /* surrogates without their other half stay what they are */

    EXACT("\"\\ud83d\"");
    EXACT("\"\\ude00\"");
    EXACT("\"\\ud83dx\"");
    EXACT("\"\\ud83d\\n\\ude00\"");
    EXACT("\"\\ud83d\\ndc00\"");
    EXACT("\"\\ude00\\ud83d\"");
    EXACT("\"\\ud83d\\ud83d\\ude00\"");

    OTHER("\"\\u0061\"", "\"a\"");
    OTHER("\"\\u0022\\u005c\"", "\"\\\"\\\\\"");
    OTHER("\"\\u0008\"", "\"\\b\"");
    OTHER("\"\\u0009\"", "\"\\t\"");
    OTHER("\"\\u000a\"", "\"\\n\"");
    OTHER("\"\\u000c\"", "\"\\f\"");
    OTHER("\"\\u000d\"", "\"\\r\"");
    OTHER("\"\\/\"", "\"/\"");
    OTHER("\"\\u00E9\"", "\"\\u00e9\"");
    OTHER("\"\\uD83D\\uDE00\"", "\"\\ud83d\\ude00\"");

    OTHER("\"\x7f\"", "\"\\u007f\"");
    OTHER("\"\xc2\x80\"", "\"\\u0080\"");
    OTHER("\"\xdf\xbf\"", "\"\\u07ff\"");
    OTHER("\"\xe0\xa0\x80\"", "\"\\u0800\"");
    OTHER("\"\xed\x9f\xbf\"", "\"\\ud7ff\"");
    OTHER("\"\xee\x80\x80\"", "\"\\ue000\"");
    OTHER("\"\xef\xbb\xbf\"", "\"\\ufeff\"");
    OTHER("\"\xef\xbf\xbf\"", "\"\\uffff\"");
    OTHER("\"\xf0\x90\x80\x80\"", "\"\\ud800\\udc00\"");
    OTHER("\"\xf4\x8f\xbf\xbf\"", "\"\\udbff\\udfff\"");

    BAD("\"", "incomplete");
    BAD("\"a", "incomplete");
    BAD("\"\\", "unknown escape");
    BAD("\"\\\"", "incomplete");
    BAD("\"\\x\"", "unknown escape");
    BAD("\"\\u\"", "unknown escape");
    BAD("\"\\u12\"", "unknown escape");
    BAD("\"\\u123g\"", "unknown escape");
    BAD("\"\\u 123\"", "unknown escape");
    BAD("\"\\u+123\"", "unknown escape");
    BAD("\"\\U0041\"", "unknown escape");
    BAD("\"\\ud83d\\u\"", "unknown escape");
    BAD("\"\0\"", "control character in a string");
    BAD("\"\n\"", "control character in a string");
    BAD("\"\x1f\"", "control character in a string");

    BAD("\"\x80\"", "not UTF-8");
    BAD("\"\xbf\"", "not UTF-8");
    BAD("\"\xc0\xaf\"", "not UTF-8");
    BAD("\"\xc1\xbf\"", "not UTF-8");
    BAD("\"\xc3\"", "not UTF-8");
    BAD("\"\xc3", "not UTF-8");
    BAD("\"\xe0\x9f\xbf\"", "not UTF-8");
    BAD("\"\xe2\x82\"", "not UTF-8");
    BAD("\"\xed\xa0\x80\"", "not UTF-8");
    BAD("\"\xed\xbf\xbf\"", "not UTF-8");
    BAD("\"\xf0\x8f\xbf\xbf\"", "not UTF-8");
    BAD("\"\xf0\x9f\x98\"", "not UTF-8");
    BAD("\"\xf4\x90\x80\x80\"", "not UTF-8");
    BAD("\"\xf5\x80\x80\x80\"", "not UTF-8");
    BAD("\"\xff\"", "not UTF-8");
}


static void
test_containers(void)
{
    EXACT("[]");
    EXACT("{}");
    EXACT("[[],{},[{}]]");
    EXACT("[1,\"a\",null,[2.5]]");
    EXACT("{\"a\":1,\"b\":{\"c\":[]},\"d\":\"\"}");

    SORTED("{\"b\":1,\"a\":2}", "{\"a\":2,\"b\":1}");
    SORTED("[{\"b\":{\"d\":1,\"c\":2},\"a\":{}}]",
           "[{\"a\":{},\"b\":{\"c\":2,\"d\":1}}]");
    SORTED("{\"ab\":1,\"a\":2,\"\":3,\"B\":4,\"_\":5}",
           "{\"\":3,\"B\":4,\"_\":5,\"a\":2,\"ab\":1}");

    /* by characters, not by how they are written or by UTF-16 */

    SORTED("{\"\\ud83d\\ude00\":1,\"\\uffff\":2,\"\\u00e9\":3,\"a\":4}",
           "{\"a\":4,\"\\u00e9\":3,\"\\uffff\":2,\"\\ud83d\\ude00\":1}");
    SORTED("{\"\\ue000\":1,\"\\udfff\":2,\"\\ud800\":3,\"\\ud7ff\":4}",
           "{\"\\ud7ff\":4,\"\\ud800\":3,\"\\udfff\":2,\"\\ue000\":1}");
    OTHER("{\"\xc3\xa9\":1,\"e\\u0301\":2,\"\\u007A\":3}",
          "{\"e\\u0301\":2,\"z\":3,\"\\u00e9\":1}");
    OTHER("{\"x\xc3\xaa\":1,\"x\xc3\xa9\":2}",
          "{\"x\\u00e9\":2,\"x\\u00ea\":1}");
    SORTED("{\"\\n\\t\":1,\"\\n\\n\":2,\"\\n\\b\":3}",
           "{\"\\n\\b\":3,\"\\n\\t\":1,\"\\n\\n\":2}");
    SORTED("{\"\\\\b\":1,\"\\\\\":2,\"\\\"\":3}",
           "{\"\\\"\":3,\"\\\\\":2,\"\\\\b\":1}");

    /* of equal names, the last */

    OTHER("{\"a\":1,\"a\":2}", "{\"a\":2}");
    OTHER("{\"b\":0,\"a\":1,\"a\":2,\"a\":[3]}", "{\"a\":[3],\"b\":0}");
    OTHER("{\"a\":1,\"\\u0061\":2}", "{\"a\":2}");
    OTHER("{\"\\u00e9\":1,\"\xc3\xa9\":2,\"\\u00E9\":3}",
          "{\"\\u00e9\":3}");
    OTHER("{\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\ude00\":2}",
          "{\"\\ud83d\\ude00\":2}");
    OTHER("{\"\":{\"x\":1,\"x\":2}}", "{\"\":{\"x\":2}}");

    OTHER("[ ]", "[]");
    OTHER("{ }", "{}");
    OTHER("[1, 2]", "[1,2]");
    OTHER("[1 ,2]", "[1,2]");
    OTHER("{\"a\" :1}", "{\"a\":1}");
    OTHER("{\"a\": 1}", "{\"a\":1}");
    OTHER("{ \"b\":1.0,\"a\":[1,-0]\r\n}", "{\"a\":[1,0],\"b\":1.0}");

    BAD("[", "incomplete");
    BAD("{", "incomplete");
    BAD("[1", "incomplete");
    BAD("[1,", "incomplete");
    BAD("{\"a\"", "incomplete");
    BAD("{\"a\":", "incomplete");
    BAD("{\"a\":1", "incomplete");
    BAD("{\"a\":1,", "incomplete");
    BAD("[[[[[[[[[[", "incomplete");
    BAD("[1,]", "value expected");
    BAD("[,1]", "value expected");
    BAD("[1 2]", "comma expected");
    BAD("[1}", "comma expected");
    BAD("{\"a\":1]", "comma expected");
    BAD("{\"a\":1,}", "name expected");
    BAD("{,}", "name expected");
    BAD("{1:1}", "name expected");
    BAD("{a:1}", "name expected");
    BAD("{\"a\"}", "colon expected");
    BAD("{\"a\",1}", "colon expected");
    BAD("{\"a\":}", "value expected");
    BAD("{\"a\"::1}", "value expected");
    BAD("]", "value expected");
    BAD("[]]", "data after the end");
    BAD("[1//\n]", "comma expected");
}


static void
test_limit(const char *what, char *s, size_t len, unsigned depth,
    unsigned members, unsigned digits, const char *why)
{
    int                 rc;
    test_t              t;
    gate_json_limits_t  limits;

    limits.depth = depth;
    limits.members = members;
    limits.digits = digits;

    rc = test_read(&t, s, len, &limits);

    tap_ok(why ? rc == -1 && strcmp(t.j.why, why) == 0 : rc == 0, "%s", what);

    test_free(&t);
}


static size_t
test_members(char *s, unsigned n)
{
    size_t    len;
    unsigned  i;

    len = 0;
    s[len++] = '{';

    for (i = 0; i < n; i++) {
        len += (size_t) sprintf(s + len, "%s\"%u\":0", i ? "," : "", i % 50);
    }

    s[len++] = '}';

    return len;
}


static void
test_limits_hold(void)
{
    char    s[200000];
    size_t  len;

    memset(s, '[', 100);
    memset(s + 32, ']', 32);

    test_limit("32 arrays within each other", s, 64, 32, 64, 1, NULL);
    test_limit("a limit above the most there can be is that", s, 64, 9999,
               9999, 9999, NULL);

    memset(s, '[', 100);
    memset(s + 33, ']', 33);

    test_limit("but not 33", s, 66, 9999, 64, 1, "nested too deep");

    memcpy(s, "[[],[[]]]", 9);

    test_limit("containers beside each other are not deep", s, 9, 3, 1, 1,
               NULL);
    test_limit("a smaller depth", s, 9, 2, 1, 1, "nested too deep");

    len = test_members(s, 64);
    test_limit("64 members", s, len, 1, 64, 1, NULL);

    len = test_members(s, 65);
    test_limit("but not 65", s, len, 1, 9999, 1, "too many members");

    len = test_members(s, 2);
    test_limit("a smaller number of members", s, len, 1, 1, 1,
               "too many members");

    memcpy(s, "{\"a\":1,\"a\":1}", 13);
    test_limit("equal names are members, too", s, 13, 1, 1, 1,
               "too many members");

    memset(s, '7', 5000);
    s[0] = '-';

    test_limit("4300 digits and a sign", s, 4301, 1, 1, 4300, NULL);
    test_limit("but not 4301", s, 4302, 1, 1, 4300, "too many digits");
    test_limit("a smaller number of digits", s, 3, 1, 1, 1,
               "too many digits");

    s[4400] = '.';
    test_limit("of a float any number", s, 5000, 1, 1, 4300, NULL);

    for (len = 1; len < 131067; len += 2) {
        memcpy(s + len, "0,", 2);
    }

    s[0] = '[';
    memcpy(s + len, "0]", 2);

    test_limit("65534 values in an array", s, 131069, 1, 1, 1, NULL);

    memcpy(s + len, "0,0]", 4);

    test_limit("but not 65535", s, 131071, 1, 1, 1, "too many values");
}


static void
test_nodes(void)
{
    int                 i, bad;
    test_t              t;
    static const char   s[] = "{\"a\\n\":[1,[true]],\"b\" : \"x\" }";
    gate_json_node_t   *n;

    static const struct {
        uint32_t  start, end, next;
        unsigned  size, type, plain;
    } want[] = {
        { 0, 29, 8, 2, GATE_JSON_OBJECT, 0 },
        { 2, 5, 2, 0, GATE_JSON_STRING, 0 },
        { 7, 17, 6, 2, GATE_JSON_ARRAY, 1 },
        { 8, 9, 4, 0, GATE_JSON_INT, 1 },
        { 10, 16, 6, 1, GATE_JSON_ARRAY, 1 },
        { 11, 15, 6, 0, GATE_JSON_TRUE, 1 },
        { 19, 20, 7, 0, GATE_JSON_STRING, 1 },
        { 25, 26, 8, 0, GATE_JSON_STRING, 1 },
    };

    bad = (test_read(&t, s, sizeof(s) - 1, &test_limits) != 0
           || t.j.n != 8);

    for (i = 0; !bad && i < 8; i++) {
        n = &t.node[i];

        if (n->start != want[i].start || n->end != want[i].end
            || n->next != want[i].next || n->size != want[i].size
            || n->type != want[i].type || n->plain != want[i].plain)
        {
            printf("# node %d: %u %u %u %u %u %u\n", i, n->start, n->end,
                   n->next, n->size, n->type, n->plain);
            bad = 1;
        }
    }

    tap_ok(!bad, "nodes are in the order of the text");
    tap_ok(!bad && test_prints(&t, 2, "[1,[true]]", 10)
           && test_prints(&t, 1, "\"a\\n\"", 5)
           && test_prints(&t, 7, "\"x\"", 3)
           && test_prints(&t, 5, "true", 4),
           "each of them can be printed alone");

    test_free(&t);
}


static void
test_plain(const char *s, int plain)
{
    int     rc;
    test_t  t;

    rc = test_read(&t, s, strlen(s), &test_limits);

    tap_ok(rc == 0 && t.node[0].plain == plain, "%s can%s be copied", s,
           plain ? "" : "not");

    test_free(&t);
}


static int
test_name(const test_t *t, uint32_t object, const char *name, size_t len,
    const char *value)
{
    uint32_t  i;

    i = gate_json_member(&t->j, object, name, len);

    if (value == NULL || i == GATE_JSON_NONE) {
        return value == NULL && i == GATE_JSON_NONE;
    }

    return test_prints(t, i, value, strlen(value));
}


static void
test_member(void)
{
    int                rc;
    test_t             t;
    static const char  s[] = "{\"a\":1,\"\\u0061\":2,\"ab\":[{\"x\":3}],"
                             "\"\\u00e4\\ud83d\\ude00\":4,\"\":5,"
                             "\"\\u0000\":6,\"\\ud800\":7,\"b\":8,\"b\":9}";

    rc = test_read(&t, s, sizeof(s) - 1, &test_limits);

    tap_ok(rc == 0 && test_name(&t, 0, "a", 1, "2"),
           "of equal names the last one is found, escaped or not");
    tap_ok(test_name(&t, 0, "b", 1, "9"), "and where both are plain");
    tap_ok(test_name(&t, 0, "ab", 2, "[{\"x\":3}]"), "a longer name");
    tap_ok(test_name(&t, 0, "\xc3\xa4\xf0\x9f\x98\x80", 6, "4"),
           "a name in UTF-8");
    tap_ok(test_name(&t, 0, "\xc3\xa4\xf0\x9f\x98", 5, NULL)
           && test_name(&t, 0, "\xc3\xa4", 2, NULL), "but not its beginning");
    tap_ok(test_name(&t, 0, "\xc3\xa4\xf0\x9f\x98\x80x", 7, NULL),
           "nor with more at its end");
    tap_ok(test_name(&t, 0, "", 0, "5"), "the empty name");
    tap_ok(test_name(&t, 0, "\0", 1, "6"), "a name with a zero byte");
    tap_ok(test_name(&t, 0, "\xed\xa0\x80", 3, "7"), "a lone surrogate");
    tap_ok(test_name(&t, 0, "x", 1, NULL), "no name of an inner object");
    tap_ok(test_name(&t, 7, "x", 1, "3"), "but of that itself");
    tap_ok(test_name(&t, 6, "x", 1, NULL)
           && test_name(&t, 1, "a", 1, NULL)
           && test_name(&t, GATE_JSON_NONE, "a", 1, NULL),
           "no object, no member");

    test_free(&t);
}


static void
test_means(const char *s, size_t len, const char *expect, size_t n)
{
    test_t          t;
    unsigned char  *dst;

    if (test_read(&t, s, len, &test_limits) != 0) {
        tap_ok(0, "refused: %s", t.j.why);
        test_free(&t);
        return;
    }

    dst = test_alloc(len - 2);

    tap_ok(gate_json_string(&t.j, 0, dst) == n && memcmp(dst, expect, n) == 0,
           "what a string means: %s", s);

    free(dst);
    test_free(&t);
}


#define MEANS(s, e)  test_means(s, sizeof(s) - 1, e, sizeof(e) - 1)


static void
test_number(const char *s, double expect)
{
    int     rc;
    double  v;
    test_t  t;

    rc = test_read(&t, s, strlen(s), &test_limits);
    v = (rc == 0) ? gate_json_number(&t.j, 0) : -1;

    tap_ok(rc == 0 && (isnan(expect) ? isnan(v) : v == expect
                                       && !signbit(v) == !signbit(expect)),
           "the number %s", s);

    test_free(&t);
}


static void
test_values(void)
{
    MEANS("\"\"", "");
    MEANS("\"abc\"", "abc");
    MEANS("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t");
    MEANS("\"\\u0000\\u007f\\u00e9\\u20AC\"", "\0\x7f\xc3\xa9\xe2\x82\xac");
    MEANS("\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
          "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    MEANS("\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80");
    MEANS("\"\\udbff\\udfff\"", "\xf4\x8f\xbf\xbf");
    MEANS("\"\\ud83dx\\ude00\"", "\xed\xa0\xbdx\xed\xb8\x80");
    MEANS("\"\\ud83d\\ud83d\\ude00\"", "\xed\xa0\xbd\xf0\x9f\x98\x80");

    test_number("0", 0);
    test_number("-0", 0);
    test_number("-0.0", -0.0);
    test_number("-17", -17);
    test_number("9007199254740993", 9007199254740992.0);
    test_number("1760493069.75", 1760493069.75);
    test_number("1e400", (double) INFINITY);
    test_number("Infinity", (double) INFINITY);
    test_number("-Infinity", (double) -INFINITY);
    test_number("NaN", (double) NAN);
}


/* what a service has signed in those of t/vectors that it would accept */

static void
test_vectors(void)
{
    size_t          i, n, len;
    json_t         *root, *list, *v;
    test_t          t;
    uint32_t        payload;
    const char     *cursor, *signed_form;
    unsigned char  *bytes;

    /* some numbers in it are too large for jansson's integers */

    root = json_load_file("t/vectors/cursor_envelope.json",
                          JSON_DECODE_INT_AS_REAL, NULL);
    list = json_object_get(root, "vectors");

    if (!tap_ok(json_array_size(list) > 0, "there are vectors")) {
        return;
    }

    json_array_foreach(list, i, v) {
        cursor = json_string_value(json_object_get(v, "cursor"));
        signed_form = json_string_value(json_object_get(v,
                                                        "canonical_payload"));

        if (cursor == NULL || signed_form == NULL) {
            continue;
        }

        len = strlen(cursor);
        bytes = test_alloc(gate_base64_decoded(len));

        if (gate_base64_decode(bytes, &n, (const unsigned char *) cursor, len,
                               GATE_BASE64_LAX) == 0)
        {
            if (test_read(&t, (char *) bytes, n, &test_limits) == 0) {
                payload = gate_json_member(&t.j, 0, "payload", 7);

                tap_ok(payload != GATE_JSON_NONE
                       && test_prints(&t, payload, signed_form,
                                      strlen(signed_form)),
                       "signed form of: %s",
                       json_string_value(json_object_get(v, "name")));

            } else {
                tap_ok(0, "refused: %s", t.j.why);
            }

            test_free(&t);
        }

        free(bytes);
    }

    json_decref(root);
}


int
main(void)
{
    test_scalars();
    test_strings();
    test_containers();
    test_limits_hold();
    test_nodes();

    test_plain("{\"a\":1,\"b\":[]}", 1);
    test_plain("[\"\\n\"]", 1);
    test_plain("{\"b\":1,\"a\":[]}", 0);
    test_plain("[{\"b\":1,\"a\":[]}]", 0);
    test_plain("[1, 2]", 0);
    test_plain("[\"\\/\"]", 0);
    test_plain("{\"a\":1,\"a\":1}", 0);

    test_member();
    test_values();
    test_vectors();

    return tap_done();
}


#include "../../src/core/gate_text.c"

#include "tap.h"

#include <jansson.h>


typedef size_t (*test_escape_pt)(unsigned char *dst, const unsigned char *s,
    size_t len);


static void
test_one(const char *what, test_escape_pt escape, const char *s, size_t len,
    const char *expect)
{
    size_t          n, m;
    unsigned char  *in, *out;

    in = tap_copy(s, len);
    n = escape(NULL, in, len);
    out = malloc(n ? n : 1);

    if (out == NULL) {
        abort();
    }

    m = escape(out, in, len);

    tap_ok(n == m && n == strlen(expect) && memcmp(out, expect, n) == 0,
           "%s", what);

    free(out);
    free(in);
}


/* a JSON reader has the last word on what is JSON */

static int
test_json(const unsigned char *s, size_t len)
{
    char     text[64 * GATE_ESCAPE_MAX + 2];
    json_t  *root;

    text[0] = '"';
    memcpy(text + 1, s, len);
    text[len + 1] = '"';

    root = json_loadb(text, len + 2, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    json_decref(root);

    return root != NULL;
}


static void
test_random(test_escape_pt escape, const char *what)
{
    size_t          i, n, len, bad;
    uint64_t        state;
    unsigned char   in[64], out[64 * GATE_ESCAPE_MAX], *p;

    bad = 0;
    state = 3;

    for (i = 0; i < 100000; i++) {
        len = tap_random(&state) % sizeof(in);

        for (n = 0; n < len; n++) {
            in[n] = (unsigned char) (tap_random(&state) >> 32);
        }

        p = tap_copy(in, len);
        n = escape(NULL, p, len);
        bad += (n > len * GATE_ESCAPE_MAX || escape(out, p, len) != n);
        free(p);

        if (escape == gate_escape_log) {
            bad += !gate_text_clean(out, n);
        }

        if (escape == gate_escape_json) {
            bad += !test_json(out, n);
        }
    }

    tap_ok(bad == 0, "%s of random bytes: counts agree, output is clean",
           what);
}


#define T(what, f, s, e)  test_one(what, f, s, sizeof(s) - 1, e)


int
main(void)
{
    T("html: empty", gate_escape_html, "", "");
    T("html: specials", gate_escape_html, "<a href=\"x\" b='y'>&amp;",
      "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;amp;");
    T("html: UTF-8 stays", gate_escape_html, "\xc3\xa4", "\xc3\xa4");

    T("json: empty", gate_escape_json, "", "");
    T("json: specials", gate_escape_json, "\"\\\b\f\n\r\t",
      "\\\"\\\\\\b\\f\\n\\r\\t");
    T("json: controls", gate_escape_json, "\0\x1f\x7f",
      "\\u0000\\u001f\\u007f");
    T("json: UTF-8 stays", gate_escape_json,
      "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
      "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");

    /* the example of table 3-8 of the Unicode standard, and its kin */

    T("json: maximal subparts", gate_escape_json,
      "\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64",
      "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" "b\xef\xbf\xbd"
      "c\xef\xbf\xbd\xef\xbf\xbd" "d");
    T("json: overlong", gate_escape_json, "\xc0\xaf",
      "\xef\xbf\xbd\xef\xbf\xbd");
    T("json: surrogate", gate_escape_json, "\xed\xa0\x80",
      "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    T("json: past U+10FFFF", gate_escape_json, "\xf4\x90\x80\x80",
      "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    T("json: cut off", gate_escape_json, "\xf0\x9f\x98", "\xef\xbf\xbd");
    T("json: cut off by a quote", gate_escape_json, "\xe2\"",
      "\xef\xbf\xbd\\\"");

    T("label: specials", gate_escape_label, "a\"b\\c\nd\te",
      "a\\\"b\\\\c\\nd\te");
    T("label: invalid", gate_escape_label, "\xff", "\xef\xbf\xbd");

    T("log: specials", gate_escape_log, "a \"\\~\x7f\xc3\n\0",
      "a \\x22\\x5C~\\x7F\\xC3\\x0A\\x00");

    test_random(gate_escape_html, "html");
    test_random(gate_escape_json, "json");
    test_random(gate_escape_label, "label");
    test_random(gate_escape_log, "log");

#define C(s)  gate_text_clean((const unsigned char *) s, sizeof(s) - 1)

    tap_ok(C(""), "empty is clean");
    tap_ok(C("Back at 12:00, \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"),
           "text is clean");
    tap_ok(C("\xc2\xa0"), "U+00A0 is clean");
    tap_ok(!C("\xc2\x9b"), "C1 is not");
    tap_ok(!C("a\tb") && !C("a\nb") && !C("a\0b") && !C("\x7f"),
           "C0 and DEL are not");
    tap_ok(!C("\xc2") && !C("\xff") && !C("\xe2\x82"), "invalid is not");

    return tap_done();
}

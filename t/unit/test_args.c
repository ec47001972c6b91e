
#include "../../src/core/gate_args.c"

#include "tap.h"


static gate_args_t     test_a;
static unsigned char  *test_query;


static size_t
test_find_n(const char *query, size_t len, const char *name, size_t name_len)
{
    unsigned char  *n;

    /* what is found points into the query */

    free(test_query);
    test_query = tap_copy(query, len);
    n = tap_copy(name, name_len);

    memset(&test_a, 0xa5, sizeof(test_a));
    gate_args_find(&test_a, test_query, len, n, name_len);
    free(n);

    return test_a.n;
}


static size_t
test_find(const char *query, const char *name)
{
    return test_find_n(query, strlen(query), name, strlen(name));
}


static int
test_first(const char *want)
{
    return test_a.first_len == strlen(want)
           && memcmp(test_a.first, want, test_a.first_len) == 0;
}


static int
test_last(const char *want)
{
    return test_a.last_len == strlen(want)
           && memcmp(test_a.last, want, test_a.last_len) == 0;
}


static void
test_finds(void)
{
    size_t  i, n;

    static const struct {
        const char  *query;
        size_t       n;
        const char  *first;
        const char  *last;
        const char  *what;
    } find[] = {
        { "cursor=abc", 1, "abc", "abc", "the only one" },
        { "a=1&cursor=abc", 1, "abc", "abc", "the last one" },
        { "cursor=abc&a=1", 1, "abc", "abc", "the first one" },
        { "a=1&cursor=abc&b=2", 1, "abc", "abc", "one in between" },
        { "cursor=1&cursor=2", 2, "1", "2", "both" },
        { "cursor=1&x=2&cursor=3&cursor=4", 3, "1", "4", "all three" },
        { "cursor=1&cursor=", 2, "1", "", "an empty one after another" },
        { "cursor=", 1, "", "", "an empty one" },
        { "cursor", 1, "", "", "one without \"=\"" },
        { "cursor&a=1", 1, "", "", "one without \"=\" before others" },
        { "cursor=a=b==", 1, "a=b==", "a=b==", "a value with \"=\"" },
        { "&&cursor=1&&", 1, "1", "1", "one among empty pieces" },
        { "c%75rsor=1", 1, "1", "1", "an encoded name" },
        { "%63%75%72%73%6f%72=1", 1, "1", "1", "a name encoded in full" },
        { "%63%75%72%73%6F%72", 1, "", "", "such a name without \"=\"" },
        { "cursor=%41+b", 1, "%41+b", "%41+b", "a value as it stands" },
        { "cursor=1;cursor=2", 1, "1;cursor=2", "1;cursor=2",
          "no \";\" as a separator" },
        { "Cursor=1", 0, "", "", "no other case" },
        { "CURSOR=1&cursor=2", 1, "2", "2", "only its own case" },
        { "cursors=1", 0, "", "", "no longer name" },
        { "curso=1", 0, "", "", "no shorter name" },
        { "xcursor=1", 0, "", "", "no name that ends so" },
        { "cursor%00=1", 0, "", "", "no name with NUL" },
        { "cursor+=1", 0, "", "", "no name with a space" },
        { "cursor%3D1", 0, "", "", "no \"=\" that is encoded" },
        { "a=1%26cursor=2", 0, "", "", "no \"&\" that is encoded" },
        { "a=cursor", 0, "", "", "no value" },
        { "=cursor=1", 0, "", "", "no value of a name that is empty" },
        { "%63ursor=1&cur%73or=2", 2, "1", "2", "two ways of one name" },
        { "%2563ursor=1", 0, "", "", "nothing decoded twice" },
        { "curso%7=1", 0, "", "", "no half of an escape" },
        { "curso%72", 1, "", "", "an escape at the end" },
        { "curso%7", 0, "", "", "no half of one at the end" },
        { "curso%", 0, "", "", "no \"%\" at the end" },
        { "", 0, "", "", "nothing in nothing" },
        { "&", 0, "", "", "nothing in \"&\"" },
        { "=", 0, "", "", "nothing in \"=\"" },
    };

    for (i = 0; i < sizeof(find) / sizeof(find[0]); i++) {
        n = test_find(find[i].query, "cursor");

        tap_ok(n == find[i].n
               && (n == 0 || (test_first(find[i].first)
                              && test_last(find[i].last))),
               "finds %s: %s", find[i].what, find[i].query);
    }

    tap_ok(test_find("=1&a=2&=3", "") == 2 && test_first("1")
           && test_last("3"), "a name may be empty");
    tap_ok(test_find("&&", "") == 0, "an empty piece has no name");
    tap_ok(test_find("a+b=1&a%20b=2&a b=3", "a b") == 3,
           "\"+\" in a name is a space");
    tap_ok(test_find("a+b=1&a%2bb=2", "a+b") == 1 && test_first("2"),
           "an encoded \"+\" is one");
    tap_ok(test_find("%zz=1", "%zz") == 1 && test_find("a%=1", "a%") == 1
           && test_find("%4=1", "%4") == 1,
           "\"%%\" without two digits is itself");
    tap_ok(test_find("\xc3\xa9=1&%C3%a9=2&%e9=3", "\xc3\xa9") == 2,
           "any bytes may be in a name");
    tap_ok(test_find("\xe3ursor=1&\x03ursor=1&#ursor=1", "cursor") == 0,
           "other bits of a byte count");
    tap_ok(test_find_n("a%00=1&a=2", 10, "a\0", 2) == 1 && test_first("1"),
           "NUL is a byte as others");
    tap_ok(test_find_n("a=1\0&a=2", 8, "a", 1) == 2 && test_a.first_len == 2,
           "NUL does not end the query");
}


static void
test_decodes(void)
{
    size_t          i, n, len;
    unsigned char  *in, *out;

    static const struct {
        const char  *from;
        const char  *to;
    } value[] = {
        { "", "" },
        { "abc", "abc" },
        { "a+b+", "a b " },
        { "%41%62%7e", "Ab~" },
        { "%e9%FF%Ab", "\xe9\xff\xab" },
        { "%2B%25%26", "+%&" },
        { "%2541", "%41" },
        { "%", "%" },
        { "%4", "%4" },
        { "%%41", "%A" },
        { "%4%41", "%4A" },
        { "%g1%1g%G1", "%g1%1g%G1" },
        { "%/0%:0%@0%`0", "%/0%:0%@0%`0" },
        { "% 41%+1", "% 41% 1" },
        { "%\x11" "1%1\x11", "%\x11" "1%1\x11" },
        { "\xc3\xa9", "\xc3\xa9" },
        { "a=b&c", "a=b&c" },
        { "100%", "100%" },
        { "ZXk==%3D%3d", "ZXk====" },
    };

    for (i = 0; i < sizeof(value) / sizeof(value[0]); i++) {
        len = strlen(value[i].from);
        in = tap_copy(value[i].from, len);
        out = tap_copy(value[i].from, len);

        n = gate_args_decode(out, in, len);

        tap_ok(n == strlen(value[i].to) && memcmp(out, value[i].to, n) == 0,
               "\"%s\" is decoded", value[i].from);

        free(in);
        free(out);
    }

    in = tap_copy("a%00b", 5);
    out = tap_copy("a%00b", 5);
    n = gate_args_decode(out, in, 5);
    tap_ok(n == 3 && memcmp(out, "a\0b", 3) == 0, "NUL is decoded");

    free(in);
    free(out);

    tap_ok(gate_args_decode(NULL, NULL, 0) == 0, "nothing is nothing");
}


int
main(void)
{
    test_finds();
    test_decodes();

    free(test_query);

    return tap_done();
}

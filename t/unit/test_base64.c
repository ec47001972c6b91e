
#include "../../src/core/gate_base64.c"

#include "tap.h"


#define TEST_FORMS  5


static const char *test_names[TEST_FORMS] = {
    "padded", "bare", "either", "standard", "lax"
};


/* the length, or -1; the bytes in out */

static int
test_decode(unsigned char *out, const char *s, size_t len, gate_base64_e form)
{
    int             rc;
    size_t          n;
    unsigned char  *in, *dst;

    in = tap_copy(s, len);
    dst = malloc(gate_base64_decoded(len));

    if (dst == NULL) {
        abort();
    }

    n = 4711;
    rc = gate_base64_decode(dst, &n, in, len, form);

    if (rc == 0) {
        memcpy(out, dst, n);
        rc = (int) n;

    } else if (rc != -1) {
        abort();
    }

    free(in);
    free(dst);

    return rc;
}


static size_t
test_encode(char *out, const void *s, size_t len, int padded)
{
    size_t          n;
    unsigned char  *in, *dst;

    in = tap_copy(s, len);
    dst = malloc(gate_base64_encoded(len) + 1);

    if (dst == NULL) {
        abort();
    }

    dst[gate_base64_encoded(len)] = '!';
    n = gate_base64_encode(dst, in, len, padded);

    if (n > gate_base64_encoded(len)
        || dst[gate_base64_encoded(len)] != '!')
    {
        abort();
    }

    memcpy(out, dst, n);
    out[n] = '\0';

    free(in);
    free(dst);

    return n;
}


static void
test_vectors(void)
{
    char           text[32];
    size_t         i, n;
    unsigned char  out[32];

    static const struct {
        const char  *bytes;
        const char  *padded;
        const char  *bare;
    } vector[] = {
        { "",       "",         "" },
        { "f",      "Zg==",     "Zg" },
        { "fo",     "Zm8=",     "Zm8" },
        { "foo",    "Zm9v",     "Zm9v" },
        { "foob",   "Zm9vYg==", "Zm9vYg" },
        { "fooba",  "Zm9vYmE=", "Zm9vYmE" },
        { "foobar", "Zm9vYmFy", "Zm9vYmFy" },
        { "\xfb\xff\xbf", "-_-_", "-_-_" },
    };

    for (i = 0; i < sizeof(vector) / sizeof(vector[0]); i++) {
        n = strlen(vector[i].bytes);

        test_encode(text, vector[i].bytes, n, 1);
        tap_ok(strcmp(text, vector[i].padded) == 0, "\"%s\" is written",
               vector[i].padded);
        tap_ok(test_decode(out, vector[i].padded, strlen(vector[i].padded),
                           GATE_BASE64_PADDED) == (int) n
               && memcmp(out, vector[i].bytes, n) == 0,
               "\"%s\" is read", vector[i].padded);

        test_encode(text, vector[i].bytes, n, 0);
        tap_ok(strcmp(text, vector[i].bare) == 0, "\"%s\" is written bare",
               vector[i].bare);
        tap_ok(test_decode(out, vector[i].bare, strlen(vector[i].bare),
                           GATE_BASE64_BARE) == (int) n
               && memcmp(out, vector[i].bytes, n) == 0,
               "\"%s\" is read bare", vector[i].bare);
    }
}


static void
test_forms(void)
{
    int            rc, want;
    size_t         i, f;
    unsigned char  out[64];

    /* "." is refused, "x" taken; in the order of the names */

    static const struct {
        const char  *text;
        const char  *taken;
        const char  *why;
    } form[] = {
        { "Zg==",      "x.xxx", "due padding" },
        { "Zg",        ".xx..", "none" },
        { "Zg=",       ".....", "one too few" },
        { "Zg===",     "....x", "one too many" },
        { "Zg========================", "....x", "many too many" },
        { "Zm8=",      "x.xxx", "due padding of one" },
        { "Zm8",       ".xx..", "none of one" },
        { "Zm8==",     "....x", "two for one" },
        { "Zm9v",      "xxxxx", "none due" },
        { "Zm9v=",     "....x", "one that is not due" },
        { "Zm9v====",  "....x", "four that are not due" },
        { "Zh==",      "....x", "four bits left over" },
        { "Zm9",       ".....", "two bits left over, bare" },
        { "Zm9=",      "....x", "two bits left over" },
        { "-_-_",      "xxx.x", "the alphabet of URLs" },
        { "+/+/",      "...xx", "the plain alphabet" },
        { "+/-_",      "....x", "both alphabets" },
        { "-w==",      "x.x.x", "\"-\" at the end" },
        { "+w==",      "...xx", "\"+\" at the end" },
        { "A-8=",      "x.x.x", "\"-\" near the end" },
        { "AA/=",      "....x", "\"/\" with bits left over" },
        { "AA8=",      "x.xxx", "no bits left over" },
        { "Z",         ".....", "one character" },
        { "Zm9vZ",     ".....", "one character too many" },
        { "Zm9vZ===",  ".....", "padded to four" },
        { "",          "xxxxx", "nothing" },
        { "=",         "....x", "\"=\" alone" },
        { "====",      "....x", "\"====\" alone" },
        { "Zg==Zg==",  ".....", "data after the padding" },
        { "Z=g=",      ".....", "padding in between" },
        { "Zg==\n",    ".....", "a line feed" },
        { "Zg ==",     ".....", "a space" },
        { "Zm 9v",     ".....", "a space in between" },
        { "Zm9v Zm9",  ".....", "a space in a group" },
        { "Zm9v\x80g==", ".....", "a byte of 0x80" },
        { "Zm9vZ\xff==", ".....", "a byte of 0xff" },
        { "Zm9vZg=\xff", ".....", "a byte of 0xff at the end" },
        { "Zm9.",      ".....", "a dot" },
        { "Zm9vZm,=",  ".....", "a comma" },
        { "@[`{",      ".....", "next to letters" },
        { ":/09",      ".....", "next to digits" },
    };

    for (i = 0; i < sizeof(form) / sizeof(form[0]); i++) {
        for (f = 0; f < TEST_FORMS; f++) {
            rc = test_decode(out, form[i].text, strlen(form[i].text),
                             (gate_base64_e) f);
            want = form[i].taken[f] == 'x';

            tap_ok((rc >= 0) == want, "%s %s %s", test_names[f],
                   want ? "takes" : "refuses", form[i].why);
        }
    }

    tap_ok(test_decode(out, "Zg=\0", 4, GATE_BASE64_LAX) == -1
           && test_decode(out, "Z\0==", 4, GATE_BASE64_LAX) == -1
           && test_decode(out, "\0\0\0\0", 4, GATE_BASE64_PADDED) == -1,
           "NUL is a foreign byte");
}


/* Every byte at each place, against the alphabet as one would write it. */

static void
test_alphabet(void)
{
    int            c, rc, bad, url, plain;
    char           text[9];
    size_t         f, at;
    unsigned char  out[16];

    static const char  *alphabet =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

    bad = 0;

    for (c = 0; c < 256; c++) {
        url = c != 0 && (strchr(alphabet, c) || c == '-' || c == '_');
        plain = c != 0 && (strchr(alphabet, c) || c == '+' || c == '/');

        for (at = 0; at < 8; at++) {
            for (f = 0; f < TEST_FORMS; f++) {
                memcpy(text, "AAAAAAAA", 9);
                text[at] = (char) c;

                if (c == '=' && at == 7) {
                    continue;
                }

                rc = test_decode(out, text, 8, (gate_base64_e) f);

                bad += (rc == 6)
                       != (f == GATE_BASE64_STANDARD ? plain
                           : f == GATE_BASE64_LAX ? url || plain : url);
            }
        }
    }

    tap_ok(bad == 0, "each byte counts as the alphabet says, at any place");

    bad = 0;

    for (c = 0; c < 64; c++) {
        snprintf(text, sizeof(text), "AAA%c",
                 c < 62 ? alphabet[c] : "-_"[c - 62]);
        bad += (test_decode(out, text, 4, GATE_BASE64_PADDED) != 3
                || out[2] != c || out[0] || out[1]);

        text[3] = c < 62 ? alphabet[c] : "+/"[c - 62];
        bad += (test_decode(out, text, 4, GATE_BASE64_STANDARD) != 3
                || out[2] != c || out[0] || out[1]);
    }

    tap_ok(bad == 0, "each character has its value");
}


static void
test_both_ways(void)
{
    int            i, bad;
    char           text[256];
    size_t         j, n, len;
    uint64_t       seed;
    unsigned char  bytes[150], out[256];

    seed = 5;
    bad = 0;

    for (i = 0; i < 20000; i++) {
        len = tap_random(&seed) % sizeof(bytes);

        for (j = 0; j < len; j++) {
            bytes[j] = (unsigned char) (tap_random(&seed) >> 32);
        }

        n = test_encode(text, bytes, len, i & 1);

        bad += (test_decode(out, text, n, GATE_BASE64_EITHER) != (int) len
                || memcmp(out, bytes, len) != 0);
        bad += (test_decode(out, text, n, i & 1 ? GATE_BASE64_PADDED
                                                : GATE_BASE64_BARE)
                != (int) len || memcmp(out, bytes, len) != 0);
    }

    tap_ok(bad == 0, "what is written is read again");
}


int
main(void)
{
    test_vectors();
    test_forms();
    test_alphabet();
    test_both_ways();

    return tap_done();
}

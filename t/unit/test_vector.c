
#include "../../src/core/gate_vector.c"

#include "tap.h"


#define TEST_N  552


static int
test_decode(const char *s, uint64_t *v, size_t n)
{
    int             rv;
    unsigned char  *copy;

    copy = tap_copy(s, strlen(s));
    rv = gate_vector_decode((char *) copy, strlen(s), v, n);
    free(copy);

    return rv;
}


static void
test_refused(const char *s, const char *why)
{
    uint64_t  v[4] = { 9, 9, 9, 9 };

    tap_ok(test_decode(s, v, 4) == -1
           && v[0] + v[1] + v[2] + v[3] == 0, "refused: %s", why);
}


static void
test_encode(void)
{
    char      text[GATE_VECTOR_TEXT(TEST_N)];
    size_t    n;
    uint64_t  v[TEST_N];

    memset(v, 0, sizeof(v));

    tap_ok(gate_vector_encode(v, TEST_N, text) == 0, "zeros are no text");

    v[0] = 1027;
    v[11] = 53;
    v[551] = 1;
    n = gate_vector_encode(v, TEST_N, text);
    tap_ok(n == 18 && memcmp(text, "0:1027 11:53 551:1", n) == 0,
           "zeros are left out");

    v[0] = UINT64_MAX;
    n = gate_vector_encode(v, 1, text);
    tap_ok(n == 18 && memcmp(text, "0:9007199254740992", n) == 0,
           "a value is capped at 2^53");
}


static void
test_accepted(void)
{
    uint64_t  v[4];

    tap_ok(test_decode("", v, 4) == 0 && v[0] + v[1] + v[2] + v[3] == 0,
           "no text is zeros");
    tap_ok(test_decode("0:7 3:12", v, 4) == 0 && v[0] == 7 && v[1] == 0
           && v[2] == 0 && v[3] == 12, "two values");
    tap_ok(test_decode("3:12 0:7", v, 4) == 0 && v[0] == 7 && v[3] == 12,
           "in any order");
    tap_ok(test_decode("1:0 2:5", v, 4) == 0 && v[1] == 0 && v[2] == 5,
           "an explicit zero");
    tap_ok(test_decode("2:9007199254740992", v, 4) == 0
           && v[2] == UINT64_C(1) << 53, "2^53");
    tap_ok(test_decode("2:5 4:9 9999:1", v, 4) == 0 && v[2] == 5,
           "what a newer node counts is left out");
}


static void
test_garbage(void)
{
    test_refused(" ", "a space");
    test_refused("0", "no colon");
    test_refused("0:", "no value");
    test_refused(":5", "no index");
    test_refused("0:5 ", "a space at the end");
    test_refused(" 0:5", "a space at the beginning");
    test_refused("0:5  1:5", "two spaces");
    test_refused("0:5,1:5", "a comma");
    test_refused("0:5 0:5", "the same index twice");
    test_refused("0:0 0:0", "the same index twice, zeros");
    test_refused("0:05", "a leading zero");
    test_refused("00:5", "a leading zero of an index");
    test_refused("0:-5", "a sign");
    test_refused("0:+5", "a plus");
    test_refused("0:5.0", "a fraction");
    test_refused("0:1e15", "an exponent");
    test_refused("0:nan", "no number");
    test_refused("0:9007199254740993", "more than 2^53");
    test_refused("0:99999999999999999999", "more than 64 bits");
    test_refused("10000:1", "an index of five digits");
    test_refused("18446744073709551616:1", "an index that wraps");
    test_refused("0:5\n", "a line feed");
    test_refused("0x1:5", "hexadecimal");
}


static void
test_nul(void)
{
    uint64_t  v[2];

    tap_ok(gate_vector_decode("0:5\0 1:5", 8, v, 2) == -1, "a NUL");
}


static void
test_round(void)
{
    char      *text;
    size_t     n;
    unsigned   i, k, bad;
    uint64_t   v[TEST_N], back[TEST_N], state;

    bad = 0;
    state = 20261121;

    for (i = 0; i < 2000; i++) {
        memset(v, 0, sizeof(v));

        for (k = 0; k < TEST_N; k++) {

            if (tap_random(&state) % 4 == 0) {
                v[k] = tap_random(&state) >> (11 + tap_random(&state) % 53);
            }
        }

        text = malloc(GATE_VECTOR_TEXT(TEST_N));
        n = gate_vector_encode(v, TEST_N, text);
        text = realloc(text, n ? n : 1);

        bad += (gate_vector_decode(text, n, back, TEST_N) != 0
                || memcmp(v, back, sizeof(v)) != 0);
        free(text);
    }

    tap_ok(bad == 0, "what is written is read");

    for (k = 0; k < TEST_N; k++) {
        v[k] = UINT64_MAX;
    }

    text = malloc(GATE_VECTOR_TEXT(TEST_N));
    n = gate_vector_encode(v, TEST_N, text);
    tap_ok(n <= GATE_VECTOR_TEXT(TEST_N)
           && gate_vector_decode(text, n, back, TEST_N) == 0
           && back[TEST_N - 1] == GATE_VECTOR_VALUE_MAX,
           "the longest text fits");
    free(text);
}


int
main(void)
{
    test_encode();
    test_accepted();
    test_garbage();
    test_nul();
    test_round();

    return tap_done();
}

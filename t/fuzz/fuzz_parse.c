
/*
 * The first byte chooses a parser, the rest is its input.  Properties: what
 * is accepted is in range and outputs of refusals are untouched; a weight
 * survives format and parse; "x%" and "x" agree where both are legal; a
 * comma, a sign or a space anywhere is never accepted.
 */

#include "../../src/core/gate_parse.c"

#include <math.h>


#define fuzz_check(expr)  do { if (!(expr)) { __builtin_trap(); } } while (0)


int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);


static void
fuzz_strict(const unsigned char *s, size_t len)
{
    size_t  i;

    fuzz_check(len != 0);

    for (i = 0; i < len; i++) {
        fuzz_check(strchr(" \t,eExX_\r\n", s[i]) == NULL || s[i] == '\0');
        fuzz_check(s[i] > 0x20 && s[i] < 0x7f);
    }
}


static void
fuzz_weight(const unsigned char *s, size_t len)
{
    char      buf[GATE_WEIGHT_LEN + 1];
    double    f;
    size_t    n;
    unsigned  bp, back;

    bp = 4711;

    if (gate_parse_weight(s, len, &bp) != 0) {
        fuzz_check(bp == 4711);
        return;
    }

    fuzz_strict(s, len);
    fuzz_check(bp <= 10000);

    n = gate_format_weight(bp, buf);
    buf[n] = '%';
    fuzz_check(gate_parse_weight((unsigned char *) buf, n + 1, &back) == 0
               && back == bp);

    fuzz_check(gate_parse_fraction(s, len, &f) == 0
               && fabs(f - bp / 10000.0) < 1e-15);
}


static void
fuzz_doubles(const unsigned char *s, size_t len)
{
    double  f, r;

    f = 4711;
    r = 4711;

    if (gate_parse_fraction(s, len, &f) == 0) {
        fuzz_strict(s, len);
        fuzz_check(f >= 0 && f <= 1);

    } else {
        fuzz_check(f == 4711);
    }

    if (gate_parse_ratio(s, len, &r) == 0) {
        fuzz_strict(s, len);
        fuzz_check(r > 0 && r <= 1000);
        fuzz_check(f == 4711 || fabs(f - r) < 1e-15);

    } else {
        fuzz_check(r == 4711 && (f == 4711 || f == 0));
    }
}


static void
fuzz_integers(const unsigned char *s, size_t len)
{
    uint64_t  u, ms;

    u = 4711;
    ms = 4711;

    if (gate_parse_uint(s, len, 1000, &u) == 0) {
        fuzz_strict(s, len);
        fuzz_check(u <= 1000);
        fuzz_check(gate_parse_msec(s, len, &ms) == 0 && ms == u * 1000);
        return;
    }

    fuzz_check(u == 4711);

    if (gate_parse_msec(s, len, &ms) == 0) {
        fuzz_strict(s, len);
        fuzz_check(ms <= INT64_MAX);

    } else {
        fuzz_check(ms == 4711);
    }
}


static void
fuzz_time(const unsigned char *s, size_t len)
{
    int64_t        t, back;
    unsigned char  copy[64];

    t = -4711;

    if (gate_parse_time(s, len, &t) != 0) {
        fuzz_check(t == -4711);
        return;
    }

    fuzz_check(t >= 0 && t <= GATE_PARSE_TIME_MAX);

    /* in UTC, a date is never less than the same date with one day less */

    if (len == 20 && s[4] == '-' && s[9] > '1' && s[9] <= '9') {
        memcpy(copy, s, len);
        copy[9]--;

        fuzz_check(gate_parse_time(copy, len, &back) != 0
                   || t - back == 86400);
    }
}


int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    if (size == 0) {
        return 0;
    }

    switch (data[0] % 5) {

    case 0:
        fuzz_weight(data + 1, size - 1);
        break;

    case 1:
        fuzz_doubles(data + 1, size - 1);
        break;

    case 2:
        fuzz_integers(data + 1, size - 1);
        break;

    case 3:
        fuzz_time(data + 1, size - 1);
        break;

    default:
        (void) gate_name_valid(data + 1, size - 1);
    }

    return 0;
}

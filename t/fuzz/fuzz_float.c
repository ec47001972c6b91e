
/*
 * The input is a number as text; its last 8 bytes are a double, too.
 * Properties: a number of JSON's grammar reads as strtod() reads it; what is
 * printed reads as the same bits by both, is of that grammar, has no digit
 * that could be spared, and no text of as many digits is nearer.
 */

#include "../../src/core/gate_float.c"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>


#define fuzz_check(expr)  do { if (!(expr)) { __builtin_trap(); } } while (0)


int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);


static size_t
fuzz_digits(const unsigned char *s, size_t len)
{
    size_t  n;

    for (n = 0; n < len && s[n] >= '0' && s[n] <= '9'; n++) {
        /* void */
    }

    return n;
}


static int
fuzz_number(const unsigned char *s, size_t len)
{
    size_t  i, n;

    i = len > 0 && s[0] == '-';
    n = fuzz_digits(s + i, len - i);

    if (n == 0 || (n > 1 && s[i] == '0')) {
        return 0;
    }

    i += n;

    if (i < len && s[i] == '.') {
        i++;
        n = fuzz_digits(s + i, len - i);
        i += n;

        if (n == 0) {
            return 0;
        }
    }

    if (i < len && (s[i] | 0x20) == 'e') {
        i++;
        i += i < len && (s[i] == '+' || s[i] == '-');
        n = fuzz_digits(s + i, len - i);
        i += n;

        if (n == 0) {
            return 0;
        }
    }

    return i == len;
}


static int
fuzz_same(double a, double b)
{
    return memcmp(&a, &b, sizeof(a)) == 0;
}


static double
fuzz_strtod(const unsigned char *s, size_t len)
{
    char    *text, *end;
    double   v;

    text = malloc(len + 1);
    fuzz_check(text != NULL);
    memcpy(text, s, len);
    text[len] = '\0';

    v = strtod(text, &end);
    fuzz_check(*end == '\0');
    free(text);

    return v;
}


/*
 * Fewer digits than glibc, which is exact, needs at least; and where that
 * many are enough for it, they are the nearest of all.
 */

static void
fuzz_shortest(const unsigned char *s, size_t len, double v)
{
    int     n, significant;
    char    text[40], *p;
    size_t  i;

    n = 0;
    significant = 0;

    for (i = 0; i < len && s[i] != 'e'; i++) {
        if (s[i] >= '0' && s[i] <= '9' && (n > 0 || s[i] != '0')) {
            n++;
            significant = s[i] == '0' ? significant : n;
        }
    }

    n = significant;
    fuzz_check(n >= 1 && n <= 17);

    if (n > 1) {
        snprintf(text, sizeof(text), "%.*e", n - 2, v);
        fuzz_check(strtod(text, NULL) != v);
    }

    snprintf(text, sizeof(text), "%.*e", n - 1, v);

    if (strtod(text, NULL) == v) {

        /* the same digits, in another form */

        p = text;

        for (i = 0; i < len && s[i] != 'e'; i++) {
            if (s[i] < '0' || s[i] > '9' || (p == text && s[i] == '0')) {
                continue;
            }

            while (*p == '-' || *p == '.') {
                p++;
            }

            if (n-- == 0) {
                break;
            }

            fuzz_check(*p == s[i]);
            p++;
        }
    }
}


static void
fuzz_double(double v)
{
    size_t          len;
    unsigned char  *s;

    s = malloc(GATE_FLOAT_MAX);
    fuzz_check(s != NULL);

    len = gate_float_print(s, v);
    fuzz_check(len >= 3 && len <= GATE_FLOAT_MAX);

    if (isnan(v)) {
        fuzz_check(len == 3 && memcmp(s, "NaN", 3) == 0);

    } else if (isinf(v)) {
        fuzz_check(len == 8 + (size_t) (v < 0)
                   && memcmp(s, v < 0 ? "-Infinity" : "Infinity", len) == 0);

    } else {
        fuzz_check(fuzz_number(s, len));
        fuzz_check(fuzz_same(gate_float_read(s, len), v));
        fuzz_check(fuzz_same(fuzz_strtod(s, len), v));

        if (v != 0) {
            fuzz_shortest(s, len, v);
        }
    }

    free(s);
}


int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    double          v;
    unsigned char  *in;

    if (size >= sizeof(v)) {
        memcpy(&v, data + size - sizeof(v), sizeof(v));
        fuzz_double(v);
    }

    if (size > 0 && fuzz_number(data, size)) {
        in = malloc(size);
        fuzz_check(in != NULL);
        memcpy(in, data, size);

        v = gate_float_read(in, size);
        fuzz_check(fuzz_same(v, fuzz_strtod(in, size)));
        fuzz_double(v);
        free(in);
    }

    return 0;
}

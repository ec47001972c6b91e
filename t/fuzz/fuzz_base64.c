
/*
 * The input is a text and, at once, bytes to be written as one.  Properties:
 * what is written is read again, in every form that fits; a text that a form
 * other than the lax one takes is written again as it was; the lax form takes
 * all that others take, as the same bytes, and "=" at the end of it change
 * nothing; no form takes a byte outside of its alphabet or data after a "=".
 */

#include "../../src/core/gate_base64.c"

#include <stdlib.h>
#include <string.h>


#define fuzz_check(expr)  do { if (!(expr)) { __builtin_trap(); } } while (0)


int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);


static unsigned char *
fuzz_alloc(size_t size)
{
    unsigned char  *p;

    p = malloc(size ? size : 1);
    fuzz_check(p != NULL);

    return p;
}


static int
fuzz_clean(const unsigned char *s, size_t len, const char *others)
{
    size_t  i, end;

    for (end = len; end > 0 && s[end - 1] == '='; end--) {
        /* void */
    }

    for (i = 0; i < end; i++) {
        if ((s[i] < 'A' || s[i] > 'Z') && (s[i] < 'a' || s[i] > 'z')
            && (s[i] < '0' || s[i] > '9')
            && (s[i] == '\0' || strchr(others, s[i]) == NULL))
        {
            return 0;
        }
    }

    return 1;
}


static void
fuzz_bytes(const unsigned char *data, size_t size)
{
    int             padded, rc;
    size_t          n, len;
    unsigned        f;
    unsigned char  *text, *bytes;

    text = fuzz_alloc(gate_base64_encoded(size));
    bytes = fuzz_alloc(gate_base64_decoded(gate_base64_encoded(size)));

    for (padded = 0; padded < 2; padded++) {
        len = gate_base64_encode(text, data, size, padded);
        fuzz_check(len <= gate_base64_encoded(size));
        fuzz_check(!padded || len == gate_base64_encoded(size));
        fuzz_check(fuzz_clean(text, len, "-_"));

        for (f = GATE_BASE64_PADDED; f <= GATE_BASE64_LAX; f++) {
            if (f == GATE_BASE64_STANDARD) {
                continue;
            }

            rc = gate_base64_decode(bytes, &n, text, len, (gate_base64_e) f);

            if (rc == 0) {
                fuzz_check(n == size && memcmp(bytes, data, n) == 0);

            } else {
                fuzz_check(size % 3 != 0
                           && (padded ? f == GATE_BASE64_BARE
                               : f == GATE_BASE64_PADDED
                                 || f == GATE_BASE64_LAX));
            }
        }
    }

    free(text);
    free(bytes);
}


static void
fuzz_again(const unsigned char *data, size_t size, const unsigned char *bytes,
    size_t n, gate_base64_e form)
{
    size_t          i, len;
    unsigned char  *text;

    text = fuzz_alloc(gate_base64_encoded(n));
    len = gate_base64_encode(text, bytes, n,
                             form != GATE_BASE64_BARE
                             && (form != GATE_BASE64_EITHER
                                 || size % 4 == 0));

    for (i = 0; form == GATE_BASE64_STANDARD && i < len; i++) {
        text[i] = text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i];
    }

    fuzz_check(len == size && memcmp(text, data, size) == 0);
    free(text);
}


static void
fuzz_text(const unsigned char *data, size_t size)
{
    int             taken[GATE_BASE64_LAX + 1];
    size_t          n, m;
    unsigned        f;
    unsigned char  *bytes, *lax, *more;

    bytes = fuzz_alloc(gate_base64_decoded(size));
    lax = fuzz_alloc(gate_base64_decoded(size + 3));
    more = fuzz_alloc(size + 3);

    memcpy(more, data, size);
    memcpy(more + size, "===", 3);

    for (f = GATE_BASE64_PADDED; f <= GATE_BASE64_LAX; f++) {
        taken[f] = gate_base64_decode(bytes, &n, data, size,
                                      (gate_base64_e) f) == 0;

        if (!taken[f]) {
            continue;
        }

        fuzz_check(n <= gate_base64_decoded(size));
        fuzz_check(fuzz_clean(data, size,
                              f == GATE_BASE64_LAX ? "+/-_"
                              : f == GATE_BASE64_STANDARD ? "+/" : "-_"));

        /* with due padding, as Python wants it even here */

        fuzz_check(gate_base64_decode(lax, &m, more, size + 3,
                                      GATE_BASE64_LAX) == 0
                   && m == n && memcmp(lax, bytes, n) == 0);

        if (f != GATE_BASE64_LAX) {
            fuzz_again(data, size, bytes, n, (gate_base64_e) f);
        }
    }

    fuzz_check(taken[GATE_BASE64_EITHER]
               == (taken[GATE_BASE64_PADDED] || taken[GATE_BASE64_BARE]));
    fuzz_check(taken[GATE_BASE64_LAX]
               || (!taken[GATE_BASE64_PADDED]
                   && !taken[GATE_BASE64_STANDARD]));

    free(bytes);
    free(lax);
    free(more);
}


int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    if (size == 0) {
        data = (const unsigned char *) "";
    }

    fuzz_bytes(data, size);
    fuzz_text(data, size);

    return 0;
}

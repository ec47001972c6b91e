
#include "gate_vector.h"

#include <string.h>


#define GATE_VECTOR_DIGITS  16         /* of GATE_VECTOR_VALUE_MAX */


static char *gate_vector_put(char *p, uint64_t v);
static inline const char *gate_vector_get(const char *p, const char *end,
    uint64_t max, uint64_t *v);
static int gate_vector_read(const char *p, const char *end, uint64_t *v,
    size_t n);


size_t
gate_vector_encode(const uint64_t *v, size_t n, char *text)
{
    char      *p, *q, buf[GATE_VECTOR_TEXT(1)];
    size_t     i;
    uint64_t   value;

    p = text;

    for (i = 0; i < n; i++) {
        value = v[i];

        if (value == 0) {
            continue;
        }

        if (value > GATE_VECTOR_VALUE_MAX) {
            value = GATE_VECTOR_VALUE_MAX;
        }

        q = gate_vector_put(buf + sizeof(buf), value);
        *--q = ':';
        q = gate_vector_put(q, i);

        if (p != text) {
            *--q = ' ';
        }

        memcpy(p, q, (size_t) (buf + sizeof(buf) - q));
        p += buf + sizeof(buf) - q;
    }

    return (size_t) (p - text);
}


/* from its last digit to its first, the way they come */

static char *
gate_vector_put(char *p, uint64_t v)
{
    do {
        *--p = (char) ('0' + v % 10);
        v /= 10;
    } while (v);

    return p;
}


int
gate_vector_decode(const char *text, size_t len, uint64_t *v, size_t n)
{
    memset(v, 0, n * sizeof(uint64_t));

    if (len == 0) {
        return 0;
    }

    if (gate_vector_read(text, text + len, v, n) != 0) {
        memset(v, 0, n * sizeof(uint64_t));
        return -1;
    }

    return 0;
}


static int
gate_vector_read(const char *p, const char *end, uint64_t *v, size_t n)
{
    uint64_t       i, value;
    unsigned char  seen[GATE_VECTOR_INDEX_MAX / 8];

    memset(seen, 0, (n + 7) / 8 < sizeof(seen) ? (n + 7) / 8 : sizeof(seen));

    for ( ;; ) {
        p = gate_vector_get(p, end, GATE_VECTOR_INDEX_MAX - 1, &i);

        if (p == NULL || p == end || *p != ':') {
            return -1;
        }

        p = gate_vector_get(p + 1, end, GATE_VECTOR_VALUE_MAX, &value);

        if (p == NULL) {
            return -1;
        }

        if (i < n) {

            if (seen[i / 8] & (1u << i % 8)) {
                return -1;
            }

            seen[i / 8] |= (unsigned char) (1u << i % 8);
            v[i] = value;
        }

        if (p == end) {
            return 0;
        }

        if (*p++ != ' ') {
            return -1;
        }
    }
}


/*
 * A number of at most max; returns where it ends, NULL if there is none.  One
 * of too many digits may wrap on the way, and is refused by their number.
 */

static inline const char *
gate_vector_get(const char *p, const char *end, uint64_t max, uint64_t *v)
{
    uint64_t     n;
    unsigned     digit;
    const char  *start;

    n = 0;

    for (start = p; p < end; p++) {
        digit = (unsigned char) *p - (unsigned) '0';

        if (digit > 9) {
            break;
        }

        n = n * 10 + digit;
    }

    if (p == start || p - start > GATE_VECTOR_DIGITS || n > max
        || (*start == '0' && p - start > 1))
    {
        return NULL;
    }

    *v = n;

    return p;
}

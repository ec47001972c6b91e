
#include "gate_base64.h"

#include <stdint.h>


/* what is not a value of 6 bits is not in all alphabets */

#define GATE_BASE64_URL       0x40     /* "-" and "_" */
#define GATE_BASE64_PLAIN     0x80     /* "+" and "/" */
#define GATE_BASE64_FOREIGN   0x100


static unsigned gate_base64_rejected(gate_base64_e form);
static int gate_base64_padding(const unsigned char *s, size_t len,
    size_t *data, gate_base64_e form);


#define X  GATE_BASE64_FOREIGN

static const uint16_t  gate_base64_values[256] = {
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, GATE_BASE64_PLAIN | 62,
    X, GATE_BASE64_URL | 62, X, GATE_BASE64_PLAIN | 63,
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61, X, X, X, X, X, X,
    X,  0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14,
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
    X, X, X, X, GATE_BASE64_URL | 63,
    X, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
    41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X
};

#undef X

static const unsigned char  gate_base64_chars[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";


int
gate_base64_decode(unsigned char *dst, size_t *n, const unsigned char *s,
    size_t len, gate_base64_e form)
{
    size_t                i, data;
    uint32_t              v;
    unsigned              bad, rejected;
    unsigned char        *p;
    const uint16_t       *value;

    if (gate_base64_padding(s, len, &data, form) != 0) {
        return -1;
    }

    value = gate_base64_values;
    rejected = gate_base64_rejected(form);
    bad = 0;
    p = dst;

    for (i = 0; i + 4 <= data; i += 4) {
        bad |= value[s[i]] | value[s[i + 1]] | value[s[i + 2]]
               | value[s[i + 3]];
        v = (value[s[i]] & 63U) << 18 | (value[s[i + 1]] & 63U) << 12
            | (value[s[i + 2]] & 63U) << 6 | (value[s[i + 3]] & 63U);

        *p++ = (unsigned char) (v >> 16);
        *p++ = (unsigned char) (v >> 8);
        *p++ = (unsigned char) v;
    }

    if (i < data) {

        /* two or three characters are left, with 4 or 2 bits too many */

        bad |= value[s[i]] | value[s[i + 1]];
        v = (value[s[i]] & 63U) << 18 | (value[s[i + 1]] & 63U) << 12;

        *p++ = (unsigned char) (v >> 16);

        if (i + 2 < data) {
            bad |= value[s[i + 2]];
            v |= (value[s[i + 2]] & 63U) << 6;
            *p++ = (unsigned char) (v >> 8);
            v <<= 8;
        }

        if (form != GATE_BASE64_LAX && (v & 0xffff) != 0) {
            return -1;
        }
    }

    if (bad & rejected) {
        return -1;
    }

    *n = (size_t) (p - dst);

    return 0;
}


static unsigned
gate_base64_rejected(gate_base64_e form)
{
    switch (form) {

    case GATE_BASE64_LAX:
        return GATE_BASE64_FOREIGN;

    case GATE_BASE64_STANDARD:
        return GATE_BASE64_FOREIGN | GATE_BASE64_URL;

    default:
        return GATE_BASE64_FOREIGN | GATE_BASE64_PLAIN;
    }
}


/* How many characters stand before the "=", if those are as they must be. */

static int
gate_base64_padding(const unsigned char *s, size_t len, size_t *data,
    gate_base64_e form)
{
    size_t  n, pads, due;

    n = len;

    /* more than two are for one form only: a long row of them costs nothing */

    while (n > 0 && s[n - 1] == '='
           && (form == GATE_BASE64_LAX || len - n < 3))
    {
        n--;
    }

    *data = n;
    pads = len - n;
    due = (4 - n % 4) % 4;

    if (due == 3) {
        return -1;
    }

    switch (form) {

    case GATE_BASE64_LAX:
        return pads >= due ? 0 : -1;

    case GATE_BASE64_BARE:
        return pads == 0 ? 0 : -1;

    case GATE_BASE64_EITHER:
        return pads == due || pads == 0 ? 0 : -1;

    default:
        return pads == due ? 0 : -1;
    }
}


size_t
gate_base64_encode(unsigned char *dst, const unsigned char *s, size_t len,
    int padded)
{
    size_t                i;
    uint32_t              v;
    unsigned char        *p;
    const unsigned char  *chars;

    p = dst;
    chars = gate_base64_chars;

    for (i = 0; i + 3 <= len; i += 3) {
        v = (uint32_t) s[i] << 16 | (uint32_t) s[i + 1] << 8 | s[i + 2];

        *p++ = chars[v >> 18];
        *p++ = chars[v >> 12 & 63];
        *p++ = chars[v >> 6 & 63];
        *p++ = chars[v & 63];
    }

    if (i < len) {
        v = (uint32_t) s[i] << 16;

        if (i + 1 < len) {
            v |= (uint32_t) s[i + 1] << 8;
        }

        *p++ = chars[v >> 18];
        *p++ = chars[v >> 12 & 63];

        if (i + 1 < len) {
            *p++ = chars[v >> 6 & 63];

        } else if (padded) {
            *p++ = '=';
        }

        if (padded) {
            *p++ = '=';
        }
    }

    return (size_t) (p - dst);
}

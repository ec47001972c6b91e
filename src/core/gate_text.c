
#include "gate_text.h"

#include <stdint.h>
#include <string.h>


static const unsigned char  gate_text_hex[] = "0123456789abcdef";
static const unsigned char  gate_text_upper[] = "0123456789ABCDEF";


static size_t gate_text_utf8(const unsigned char *s, size_t len,
    size_t *bad);
static size_t gate_text_put(unsigned char *dst, size_t n, const void *s,
    size_t len);
static size_t gate_text_put_utf8(unsigned char *dst, size_t n,
    const unsigned char *s, size_t len, size_t *used);


int
gate_text_clean(const unsigned char *s, size_t len)
{
    size_t  i, n, bad;

    for (i = 0; i < len; i += n) {
        n = gate_text_utf8(s + i, len - i, &bad);

        if (n == 0 || s[i] < 0x20 || s[i] == 0x7f
            || (s[i] == 0xc2 && s[i + 1] < 0xa0))
        {
            return 0;
        }
    }

    return 1;
}


size_t
gate_escape_html(unsigned char *dst, const unsigned char *s, size_t len)
{
    size_t  i, n;

    n = 0;

    for (i = 0; i < len; i++) {
        switch (s[i]) {

        case '&':
            n = gate_text_put(dst, n, "&amp;", 5);
            break;

        case '<':
            n = gate_text_put(dst, n, "&lt;", 4);
            break;

        case '>':
            n = gate_text_put(dst, n, "&gt;", 4);
            break;

        case '"':
            n = gate_text_put(dst, n, "&quot;", 6);
            break;

        case '\'':
            n = gate_text_put(dst, n, "&#39;", 5);
            break;

        default:
            n = gate_text_put(dst, n, s + i, 1);
        }
    }

    return n;
}


size_t
gate_escape_json(unsigned char *dst, const unsigned char *s, size_t len)
{
    size_t         i, n, used;
    unsigned char  esc[6];

    n = 0;

    for (i = 0; i < len; i += used) {
        used = 1;

        switch (s[i]) {

        case '"':
            n = gate_text_put(dst, n, "\\\"", 2);
            continue;

        case '\\':
            n = gate_text_put(dst, n, "\\\\", 2);
            continue;

        case '\b':
            n = gate_text_put(dst, n, "\\b", 2);
            continue;

        case '\f':
            n = gate_text_put(dst, n, "\\f", 2);
            continue;

        case '\n':
            n = gate_text_put(dst, n, "\\n", 2);
            continue;

        case '\r':
            n = gate_text_put(dst, n, "\\r", 2);
            continue;

        case '\t':
            n = gate_text_put(dst, n, "\\t", 2);
            continue;

        default:
            break;
        }

        if (s[i] < 0x20 || s[i] == 0x7f) {
            memcpy(esc, "\\u00", 4);
            esc[4] = gate_text_hex[s[i] >> 4];
            esc[5] = gate_text_hex[s[i] & 0xf];
            n = gate_text_put(dst, n, esc, 6);
            continue;
        }

        n = gate_text_put_utf8(dst, n, s + i, len - i, &used);
    }

    return n;
}


size_t
gate_escape_label(unsigned char *dst, const unsigned char *s, size_t len)
{
    size_t  i, n, used;

    n = 0;

    for (i = 0; i < len; i += used) {
        used = 1;

        switch (s[i]) {

        case '"':
            n = gate_text_put(dst, n, "\\\"", 2);
            break;

        case '\\':
            n = gate_text_put(dst, n, "\\\\", 2);
            break;

        case '\n':
            n = gate_text_put(dst, n, "\\n", 2);
            break;

        default:
            n = gate_text_put_utf8(dst, n, s + i, len - i, &used);
        }
    }

    return n;
}


size_t
gate_escape_log(unsigned char *dst, const unsigned char *s, size_t len)
{
    size_t         i, n;
    unsigned char  esc[4];

    n = 0;

    for (i = 0; i < len; i++) {

        if (s[i] >= 0x20 && s[i] < 0x7f && s[i] != '"' && s[i] != '\\') {
            n = gate_text_put(dst, n, s + i, 1);
            continue;
        }

        esc[0] = '\\';
        esc[1] = 'x';
        esc[2] = gate_text_upper[s[i] >> 4];
        esc[3] = gate_text_upper[s[i] & 0xf];
        n = gate_text_put(dst, n, esc, 4);
    }

    return n;
}


/*
 * The length, 1 .. 4, of the well-formed sequence that s (len > 0) begins
 * with, or 0 with the length of the maximal invalid subpart in *bad.  The
 * second byte's range depends on the first: Unicode 15, table 3-7.
 */

static size_t
gate_text_utf8(const unsigned char *s, size_t len, size_t *bad)
{
    size_t         i, need;
    unsigned char  c, min, max;

    c = s[0];

    if (c < 0x80) {
        return 1;
    }

    *bad = 1;

    if (c < 0xc2 || c > 0xf4) {
        return 0;
    }

    need = (c < 0xe0) ? 2 : (c < 0xf0) ? 3 : 4;
    min = (c == 0xe0) ? 0xa0 : (c == 0xf0) ? 0x90 : 0x80;
    max = (c == 0xed) ? 0x9f : (c == 0xf4) ? 0x8f : 0xbf;

    for (i = 1; i < need; i++) {

        if (i == len || s[i] < min || s[i] > max) {
            *bad = i;
            return 0;
        }

        min = 0x80;
        max = 0xbf;
    }

    return need;
}


static size_t
gate_text_put(unsigned char *dst, size_t n, const void *s, size_t len)
{
    if (dst != NULL) {
        memcpy(dst + n, s, len);
    }

    return n + len;
}


/* copies one character or replaces one invalid subpart */

static size_t
gate_text_put_utf8(unsigned char *dst, size_t n, const unsigned char *s,
    size_t len, size_t *used)
{
    size_t  valid;

    valid = gate_text_utf8(s, len, used);

    if (valid == 0) {
        return gate_text_put(dst, n, "\xef\xbf\xbd", 3);
    }

    *used = valid;

    return gate_text_put(dst, n, s, valid);
}

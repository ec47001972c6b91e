
#include "gate_args.h"

#include <string.h>


static const unsigned char *gate_args_end(const unsigned char *p,
    const unsigned char *last, unsigned char c);
static int gate_args_named(const unsigned char *p, const unsigned char *last,
    const unsigned char *name, size_t len);
static unsigned char gate_args_byte(const unsigned char **p,
    const unsigned char *last);
static int gate_args_hex(unsigned char c);


void
gate_args_find(gate_args_t *a, const unsigned char *query, size_t len,
    const unsigned char *name, size_t name_len)
{
    const unsigned char  *p, *last, *end, *equal;

    memset(a, 0, sizeof(*a));

    if (len == 0) {
        return;
    }

    last = query + len;

    for (p = query; p < last; p = end + 1) {

        end = gate_args_end(p, last, '&');

        if (end == p) {
            continue;
        }

        equal = gate_args_end(p, end, '=');

        if (!gate_args_named(p, equal, name, name_len)) {
            continue;
        }

        a->last = equal < end ? equal + 1 : end;
        a->last_len = (size_t) (end - a->last);

        if (a->n++ == 0) {
            a->first = a->last;
            a->first_len = a->last_len;
        }
    }
}


size_t
gate_args_decode(unsigned char *dst, const unsigned char *s, size_t len)
{
    unsigned char        *d;
    const unsigned char  *last;

    if (len == 0) {
        return 0;
    }

    /* most need no decoding */

    if (memchr(s, '%', len) == NULL && memchr(s, '+', len) == NULL) {
        memcpy(dst, s, len);
        return len;
    }

    d = dst;
    last = s + len;

    while (s < last) {
        *d++ = gate_args_byte(&s, last);
    }

    return (size_t) (d - dst);
}


static const unsigned char *
gate_args_end(const unsigned char *p, const unsigned char *last,
    unsigned char c)
{
    const unsigned char  *end;

    end = memchr(p, c, (size_t) (last - p));

    return end ? end : last;
}


static int
gate_args_named(const unsigned char *p, const unsigned char *last,
    const unsigned char *name, size_t len)
{
    size_t  i;

    /* a byte takes one to three characters */

    if ((size_t) (last - p) < len || (size_t) (last - p) / 3 > len) {
        return 0;
    }

    for (i = 0; i < len && p < last; i++) {
        if (gate_args_byte(&p, last) != name[i]) {
            return 0;
        }
    }

    return i == len && p == last;
}


/* The next byte, decoded. */

static unsigned char
gate_args_byte(const unsigned char **p, const unsigned char *last)
{
    int                   high, low;
    const unsigned char  *s;

    s = *p;
    *p = s + 1;

    if (*s == '+') {
        return ' ';
    }

    if (*s != '%' || last - s < 3) {
        return *s;
    }

    high = gate_args_hex(s[1]);
    low = gate_args_hex(s[2]);

    if (high < 0 || low < 0) {
        return '%';
    }

    *p = s + 3;

    return (unsigned char) (high << 4 | low);
}


static int
gate_args_hex(unsigned char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    c |= 0x20;

    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

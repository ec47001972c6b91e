
#include "gate_cookie.h"

#include <string.h>

#include <openssl/crypto.h>


#define GATE_COOKIE_LABEL    "nginx-gate sticky v1"
#define GATE_COOKIE_MAC      16        /* bytes of the HMAC that are kept */
#define GATE_COOKIE_MAC_LEN  22        /* their length in base64url */
#define GATE_COOKIE_BUCKETS  10000
#define GATE_COOKIE_LONGEST  (2 + 16 + 1 + 4 + 1 + GATE_COOKIE_MAC_LEN)


static int gate_cookie_mac(unsigned char out[GATE_COOKIE_MAC_LEN],
    const gate_hmac_t *h, const unsigned char *name, size_t name_len,
    const unsigned char *text, size_t text_len);
static void gate_cookie_trim(const unsigned char **p,
    const unsigned char **last);
static int gate_cookie_white(unsigned char c);
static size_t gate_cookie_put(unsigned char *out, uint64_t n, unsigned base);
static int gate_cookie_number(const unsigned char **p,
    const unsigned char *end, unsigned base, size_t max_len, uint64_t *n);


static const unsigned char  gate_cookie_digits[] = "0123456789abcdef";

static const unsigned char  gate_cookie_base64[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";


size_t
gate_cookie_make(unsigned char out[GATE_COOKIE_MAX], const gate_hmac_t *h,
    const unsigned char *name, size_t name_len, uint64_t epoch,
    unsigned bucket)
{
    unsigned char  *p;

    if (bucket >= GATE_COOKIE_BUCKETS) {
        return 0;
    }

    p = out;
    *p++ = '1';
    *p++ = '.';
    p += gate_cookie_put(p, epoch, 16);
    *p++ = '.';
    p += gate_cookie_put(p, bucket, 10);

    if (gate_cookie_mac(p + 1, h, name, name_len, out + 2,
                        (size_t) (p - out) - 2)
        != 0)
    {
        return 0;
    }

    *p++ = '.';

    return (size_t) (p - out) + GATE_COOKIE_MAC_LEN;
}


int
gate_cookie_read(const unsigned char *v, size_t len, const gate_hmac_t *h,
    const unsigned char *name, size_t name_len, uint64_t *epoch,
    unsigned *bucket)
{
    uint64_t              e, b;
    unsigned char         mac[GATE_COOKIE_MAC_LEN];
    const unsigned char  *p, *end;

    if (len > GATE_COOKIE_LONGEST || len < 2 || v[0] != '1' || v[1] != '.') {
        return -1;
    }

    p = v + 2;
    end = v + len;

    if (gate_cookie_number(&p, end, 16, 16, &e) != 0
        || p == end || *p++ != '.'
        || gate_cookie_number(&p, end, 10, 4, &b) != 0
        || p == end || *p != '.'
        || end - p != 1 + GATE_COOKIE_MAC_LEN)
    {
        return -1;
    }

    if (gate_cookie_mac(mac, h, name, name_len, v + 2,
                        (size_t) (p - v) - 2)
        != 0)
    {
        return -1;
    }

    if (CRYPTO_memcmp(mac, p + 1, GATE_COOKIE_MAC_LEN) != 0) {
        return -1;
    }

    *epoch = e;
    *bucket = (unsigned) b;

    return 0;
}


int
gate_cookie_find(const unsigned char *hdr, size_t hdr_len,
    const unsigned char *name, size_t name_len, const unsigned char **v,
    size_t *v_len)
{
    const unsigned char  *p, *end, *last, *next;

    if (name_len == 0 || hdr_len == 0) {
        return 0;
    }

    end = hdr + hdr_len;

    for (p = hdr; p < end; p = next + 1) {

        next = memchr(p, ';', (size_t) (end - p));

        if (next == NULL) {
            next = end;
        }

        while (p < next && (*p == ' ' || *p == '\t')) {
            p++;
        }

        if ((size_t) (next - p) > name_len && p[name_len] == '='
            && memcmp(p, name, name_len) == 0)
        {
            p += name_len + 1;
            last = next;

            while (p < last && (*p == ' ' || *p == '\t')) {
                p++;
            }

            while (p < last && (last[-1] == ' ' || last[-1] == '\t')) {
                last--;
            }

            *v = p;
            *v_len = (size_t) (last - p);

            return 1;
        }

        if (next == end) {
            break;
        }
    }

    return 0;
}


void
gate_cookie_all(gate_cookie_all_t *c, const unsigned char *hdr,
    size_t hdr_len, const unsigned char *name, size_t name_len)
{
    const unsigned char  *p, *end, *next, *eq, *last;

    if (name_len == 0 || hdr_len == 0) {
        return;
    }

    end = hdr + hdr_len;

    for (p = hdr; p < end; p = next + (next < end)) {

        next = memchr(p, ';', (size_t) (end - p));

        if (next == NULL) {
            next = end;
        }

        eq = memchr(p, '=', (size_t) (next - p));

        if (eq == NULL) {
            continue;
        }

        last = eq;
        gate_cookie_trim(&p, &last);

        if ((size_t) (last - p) != name_len || memcmp(p, name, name_len) != 0)
        {
            continue;
        }

        p = eq + 1;
        last = next;
        gate_cookie_trim(&p, &last);

        if (last - p >= 2 && *p == '"' && last[-1] == '"') {
            p++;
            last--;
        }

        if (c->n++ == 0) {
            c->first = p;
            c->first_len = (size_t) (last - p);
        }

        c->last = p;
        c->last_len = (size_t) (last - p);
    }
}


/* Without the white space at both ends. */

static void
gate_cookie_trim(const unsigned char **p, const unsigned char **last)
{
    while (*p < *last && gate_cookie_white(**p)) {
        (*p)++;
    }

    while (*p < *last && gate_cookie_white((*last)[-1])) {
        (*last)--;
    }
}


/* what CPython's str.strip() takes away, of bytes read as ISO 8859-1 */

static int
gate_cookie_white(unsigned char c)
{
    return (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= ' ') || c == 0x85
           || c == 0xa0;
}


static int
gate_cookie_mac(unsigned char out[GATE_COOKIE_MAC_LEN], const gate_hmac_t *h,
    const unsigned char *name, size_t name_len, const unsigned char *text,
    size_t text_len)
{
    size_t         i, n, len[4];
    unsigned       bits, acc;
    const void    *part[4];
    unsigned char  mac[GATE_HMAC_LEN];

    /* a NUL in the name would let two pairs of name and text sign alike */

    if (name_len == 0 || memchr(name, '\0', name_len) != NULL) {
        return -1;
    }

    part[0] = GATE_COOKIE_LABEL;
    len[0] = sizeof(GATE_COOKIE_LABEL);    /* with its NUL */
    part[1] = name;
    len[1] = name_len;
    part[2] = "";
    len[2] = 1;
    part[3] = text;
    len[3] = text_len;

    if (gate_hmac_sign(h, part, len, 4, mac) != 0) {
        return -1;
    }

    acc = 0;
    bits = 0;
    n = 0;

    for (i = 0; i < GATE_COOKIE_MAC; i++) {
        acc = (acc << 8 | mac[i]) & 0xffff;
        bits += 8;

        while (bits >= 6) {
            bits -= 6;
            out[n++] = gate_cookie_base64[(acc >> bits) & 0x3f];
        }
    }

    out[n] = gate_cookie_base64[(acc << (6 - bits)) & 0x3f];

    return 0;
}


static size_t
gate_cookie_put(unsigned char *out, uint64_t n, unsigned base)
{
    size_t         len, i;
    unsigned char  tmp[20];

    len = 0;

    do {
        tmp[len++] = gate_cookie_digits[n % base];
        n /= base;
    } while (n != 0);

    for (i = 0; i < len; i++) {
        out[i] = tmp[len - 1 - i];
    }

    return len;
}


/* the canonical form only: no leading zeros, no upper case */

static int
gate_cookie_number(const unsigned char **p, const unsigned char *end,
    unsigned base, size_t max_len, uint64_t *n)
{
    unsigned              d;
    uint64_t              v;
    const unsigned char  *s;

    v = 0;

    for (s = *p; s < end; s++) {

        if (*s >= '0' && *s <= '9') {
            d = *s - '0';

        } else if (base == 16 && *s >= 'a' && *s <= 'f') {
            d = *s - 'a' + 10;

        } else {
            break;
        }

        if ((size_t) (s - *p) == max_len) {
            return -1;
        }

        v = v * base + d;
    }

    if (s == *p || (**p == '0' && s - *p > 1)) {
        return -1;
    }

    *p = s;
    *n = v;

    return 0;
}


#include "gate_json.h"
#include "gate_float.h"
#include "gate_json_text.h"

#include <math.h>
#include <string.h>


#define gate_json_surrogate_high(c)  ((c) >= 0xd800 && (c) <= 0xdbff)
#define gate_json_surrogate_low(c)   ((c) >= 0xdc00 && (c) <= 0xdfff)


/* A container that is being printed. */

typedef struct {
    uint32_t             next;         /* the child that comes next */
    unsigned             i;            /* children so far */
    unsigned             n;            /* of how many */
    unsigned             object;
    uint16_t             order[GATE_JSON_MEMBERS];
} gate_json_level_t;


static unsigned char *gate_json_begin(const gate_json_t *j, uint32_t i,
    gate_json_level_t *level, unsigned char *dst);
static unsigned char *gate_json_put(const gate_json_t *j, uint32_t i,
    unsigned char *dst);
static unsigned char *gate_json_put_string(const gate_json_t *j,
    const gate_json_node_t *node, unsigned char *dst);
static unsigned char *gate_json_put_char(uint32_t c, unsigned char *dst);
static unsigned char *gate_json_put_code(uint32_t c, unsigned char *dst);
static unsigned gate_json_encode(uint32_t c, unsigned char dst[4]);
static unsigned gate_json_hex(const unsigned char *s);
static int gate_json_compare(const gate_json_t *j, uint32_t a, uint32_t b);
static int gate_json_is(const gate_json_t *j, const gate_json_node_t *node,
    const char *name, size_t len);


size_t
gate_json_print(const gate_json_t *j, uint32_t node, unsigned char *dst)
{
    uint32_t            child;
    unsigned char      *p;
    gate_json_level_t  *level;
    gate_json_level_t   stack[GATE_JSON_DEPTH + 1];

    p = dst;
    child = node;

    level = stack;
    level->i = 0;
    level->n = 0;

    for ( ;; ) {

        if (j->node[child].plain || j->node[child].type < GATE_JSON_ARRAY) {
            p = gate_json_put(j, child, p);

        } else {
            level++;
            p = gate_json_begin(j, child, level, p);
        }

        while (level != stack && level->i == level->n) {
            *p++ = level->object ? '}' : ']';
            level--;
        }

        if (level == stack) {
            return (size_t) (p - dst);
        }

        if (level->i != 0) {
            *p++ = ',';
        }

        if (level->object) {
            child = level->order[level->i];
            p = gate_json_put(j, child, p);
            *p++ = ':';
            child++;

        } else {
            child = level->next;
            level->next = j->node[child].next;
        }

        level->i++;
    }
}


static unsigned char *
gate_json_begin(const gate_json_t *j, uint32_t i, gate_json_level_t *level,
    unsigned char *dst)
{
    level->next = i + 1;
    level->i = 0;
    level->n = j->node[i].size;
    level->object = (j->node[i].type == GATE_JSON_OBJECT);

    if (level->object) {
        level->n = gate_json_order(j, i, level->order);
    }

    *dst = level->object ? '{' : '[';

    return dst + 1;
}


/* A scalar, or what can be copied. */

static unsigned char *
gate_json_put(const gate_json_t *j, uint32_t i, unsigned char *dst)
{
    size_t                   len;
    const gate_json_node_t  *node;

    node = &j->node[i];

    if (node->type == GATE_JSON_STRING) {
        return gate_json_put_string(j, node, dst);
    }

    if (node->plain) {
        len = node->end - node->start;
        memcpy(dst, j->text + node->start, len);

        return dst + len;
    }

    if (node->type == GATE_JSON_INT) {
        *dst = '0';

        return dst + 1;
    }

    return dst + gate_float_print(dst, gate_json_number(j, i));
}


static unsigned char *
gate_json_put_string(const gate_json_t *j, const gate_json_node_t *node,
    unsigned char *dst)
{
    size_t                len;
    const unsigned char  *s, *last;

    s = j->text + node->start;
    last = j->text + node->end;

    *dst++ = '"';

    if (node->plain) {
        len = node->end - node->start;
        memcpy(dst, s, len);
        dst += len;

    } else {
        while (s < last) {
            dst = gate_json_put_char(gate_json_char(&s), dst);
        }
    }

    *dst++ = '"';

    return dst;
}


static unsigned char *
gate_json_put_char(uint32_t c, unsigned char *dst)
{
    unsigned char  letter;

    switch (c) {

    case '"':
    case '\\':
        letter = (unsigned char) c;
        break;

    case '\n':
        letter = 'n';
        break;

    case '\r':
        letter = 'r';
        break;

    case '\t':
        letter = 't';
        break;

    case '\f':
        letter = 'f';
        break;

    case '\b':
        letter = 'b';
        break;

    default:

        if (c >= 0x20 && c < 0x7f) {
            *dst++ = (unsigned char) c;
            return dst;
        }

        if (c < 0x10000) {
            return gate_json_put_code(c, dst);
        }

        dst = gate_json_put_code(0xd7c0 + (c >> 10), dst);

        return gate_json_put_code(0xdc00 + (c & 0x3ff), dst);
    }

    *dst++ = '\\';
    *dst++ = letter;

    return dst;
}


static unsigned char *
gate_json_put_code(uint32_t c, unsigned char *dst)
{
    static const unsigned char  hex[] = "0123456789abcdef";

    *dst++ = '\\';
    *dst++ = 'u';
    *dst++ = hex[c >> 12];
    *dst++ = hex[c >> 8 & 0xf];
    *dst++ = hex[c >> 4 & 0xf];
    *dst++ = hex[c & 0xf];

    return dst;
}


size_t
gate_json_string(const gate_json_t *j, uint32_t node, unsigned char *dst)
{
    unsigned char        *p;
    const unsigned char  *s, *last;

    s = j->text + j->node[node].start;
    last = j->text + j->node[node].end;

    if (j->node[node].plain) {
        memcpy(dst, s, (size_t) (last - s));
        return (size_t) (last - s);
    }

    p = dst;

    while (s < last) {
        p += gate_json_encode(gate_json_char(&s), p);
    }

    return (size_t) (p - dst);
}


/* No byte behind the character: a string has no room for it. */

static unsigned
gate_json_encode(uint32_t c, unsigned char dst[4])
{
    if (c < 0x80) {
        dst[0] = (unsigned char) c;
        return 1;
    }

    if (c < 0x800) {
        dst[0] = (unsigned char) (0xc0 | c >> 6);
        dst[1] = (unsigned char) (0x80 | (c & 0x3f));
        return 2;
    }

    if (c < 0x10000) {
        dst[0] = (unsigned char) (0xe0 | c >> 12);
        dst[1] = (unsigned char) (0x80 | (c >> 6 & 0x3f));
        dst[2] = (unsigned char) (0x80 | (c & 0x3f));
        return 3;
    }

    dst[0] = (unsigned char) (0xf0 | c >> 18);
    dst[1] = (unsigned char) (0x80 | (c >> 12 & 0x3f));
    dst[2] = (unsigned char) (0x80 | (c >> 6 & 0x3f));
    dst[3] = (unsigned char) (0x80 | (c & 0x3f));
    return 4;
}


double
gate_json_number(const gate_json_t *j, uint32_t node)
{
    size_t                len;
    const unsigned char  *s;

    s = j->text + j->node[node].start;
    len = j->node[node].end - j->node[node].start;

    if (s[0] == 'N') {
        return (double) NAN;
    }

    if (s[0] == 'I') {
        return (double) INFINITY;
    }

    if (len > 1 && s[1] == 'I') {
        return (double) -INFINITY;
    }

    if (j->node[node].type == GATE_JSON_INT && !j->node[node].plain) {
        return 0;
    }

    return gate_float_read(s, len);
}


uint32_t
gate_json_member(const gate_json_t *j, uint32_t object, const char *name,
    size_t len)
{
    unsigned  n;
    uint32_t  i, found;

    found = GATE_JSON_NONE;

    if (object >= j->n || j->node[object].type != GATE_JSON_OBJECT) {
        return found;
    }

    i = object + 1;

    for (n = j->node[object].size; n != 0; n--) {
        if (gate_json_is(j, &j->node[i], name, len)) {
            found = i + 1;
        }

        i = j->node[i + 1].next;
    }

    return found;
}


static int
gate_json_is(const gate_json_t *j, const gate_json_node_t *node,
    const char *name, size_t len)
{
    size_t                n;
    unsigned char         c[4];
    const unsigned char  *s, *last;

    s = j->text + node->start;
    last = j->text + node->end;

    if (node->plain) {
        return len == (size_t) (last - s) && memcmp(s, name, len) == 0;
    }

    while (s < last) {
        n = gate_json_encode(gate_json_char(&s), c);

        if (len < n || memcmp(c, name, n) != 0) {
            return 0;
        }

        name += n;
        len -= n;
    }

    return len == 0;
}


unsigned
gate_json_order(const gate_json_t *j, uint32_t object,
    uint16_t order[GATE_JSON_MEMBERS])
{
    int       rc;
    unsigned  n, left, low, high, middle;
    uint32_t  i;

    n = 0;
    i = object + 1;

    for (left = j->node[object].size; left != 0; left--) {
        low = 0;
        high = n;
        rc = 1;

        /* most come in order, or nearly so: look at the last one first */

        middle = n ? n - 1 : 0;

        while (low < high) {
            rc = gate_json_compare(j, i, order[middle]);

            if (rc == 0) {
                order[middle] = (uint16_t) i;
                break;
            }

            if (rc < 0) {
                high = middle;

            } else {
                low = middle + 1;
            }

            middle = low + (high - low) / 2;
        }

        if (rc != 0) {
            memmove(&order[low + 1], &order[low],
                    (n - low) * sizeof(order[0]));
            order[low] = (uint16_t) i;
            n++;
        }

        i = j->node[i + 1].next;
    }

    return n;
}


static int
gate_json_compare(const gate_json_t *j, uint32_t a, uint32_t b)
{
    int                      rc;
    size_t                   n, m;
    uint32_t                 c, d;
    const unsigned char     *s, *t, *s_last, *t_last;
    const gate_json_node_t  *x, *y;

    x = &j->node[a];
    y = &j->node[b];

    s = j->text + x->start;
    t = j->text + y->start;

    n = x->end - x->start;
    m = y->end - y->start;

    if (x->plain && y->plain) {
        rc = memcmp(s, t, n < m ? n : m);

        return rc ? rc : (n > m) - (n < m);
    }

    s_last = s + n;
    t_last = t + m;

    /*
     * Where the bytes are alike there is nothing to decode: names with much
     * in common are what a hostile text consists of.
     */

    while (s < s_last && t < t_last) {

        if (*s == *t && *s != '\\') {
            s++;
            t++;
            continue;
        }

        if ((*s & 0xc0) == 0x80) {

            /* within characters that began alike */

            return *s < *t ? -1 : 1;
        }

        if (*s == *t && s[1] == t[1] && s[1] != 'u') {
            s += 2;
            t += 2;
            continue;
        }

        c = gate_json_char(&s);
        d = gate_json_char(&t);

        if (c != d) {
            return c < d ? -1 : 1;
        }
    }

    return (s < s_last) - (t < t_last);
}


uint32_t
gate_json_char(const unsigned char **s)
{
    uint32_t              c, d;
    const unsigned char  *p;

    p = *s;
    c = p[0];

    if (c < 0x80 && c != '\\') {
        *s = p + 1;
        return c;
    }

    if (c >= 0xf0) {
        *s = p + 4;
        return (c & 0x07) << 18 | (uint32_t) (p[1] & 0x3f) << 12
               | (uint32_t) (p[2] & 0x3f) << 6 | (p[3] & 0x3f);
    }

    if (c >= 0xe0) {
        *s = p + 3;
        return (c & 0x0f) << 12 | (uint32_t) (p[1] & 0x3f) << 6
               | (p[2] & 0x3f);
    }

    if (c >= 0x80) {
        *s = p + 2;
        return (c & 0x1f) << 6 | (p[1] & 0x3f);
    }

    *s = p + 2;

    switch (p[1]) {

    case 'b':
        return '\b';

    case 'f':
        return '\f';

    case 'n':
        return '\n';

    case 'r':
        return '\r';

    case 't':
        return '\t';

    case 'u':
        break;

    default:
        return p[1];
    }

    *s = p + 6;
    c = gate_json_hex(p + 2);

    /* a string ends with a quote: there is always a byte to look at */

    if (!gate_json_surrogate_high(c) || p[6] != '\\' || p[7] != 'u') {
        return c;
    }

    d = gate_json_hex(p + 8);

    if (!gate_json_surrogate_low(d)) {
        return c;
    }

    *s = p + 12;

    return 0x10000 + ((c & 0x3ff) << 10) + (d & 0x3ff);
}


static unsigned
gate_json_hex(const unsigned char *s)
{
    unsigned  i, code;

    code = 0;

    for (i = 0; i < 4; i++) {
        code = (code << 4) + (s[i] & 0xfu) + (s[i] > '9' ? 9 : 0);
    }

    return code;
}

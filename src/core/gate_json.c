
#include "gate_json.h"
#include "gate_float.h"
#include "gate_json_text.h"

#include <string.h>


#define GATE_JSON_NODES  65535         /* an order of names is uint16_t */
#define GATE_JSON_LEN    (UINT32_MAX / 8)


/* What one step of reading leads to. */

enum {
    GATE_JSON_BAD = -1,
    GATE_JSON_DONE,                    /* a whole value */
    GATE_JSON_MORE                     /* a value comes next */
};


typedef struct {
    uint32_t      node;
    uint32_t      odd;                 /* as it was before the container */
} gate_json_frame_t;


typedef struct {
    const unsigned char  *text;
    uint32_t              pos;
    uint32_t              len;
    uint32_t              n;
    uint32_t              max;         /* nodes */
    uint32_t              odd;         /* places that json.dumps() has not */
    uint32_t              mixed;       /* objects whose names have no order */
    unsigned              depth;
    gate_json_limits_t    limits;
    gate_json_t          *j;
    gate_json_frame_t     frame[GATE_JSON_DEPTH];
} gate_json_read_t;


static int gate_json_value(gate_json_read_t *r);
static int gate_json_after(gate_json_read_t *r);
static int gate_json_open(gate_json_read_t *r, int c);
static void gate_json_close(gate_json_read_t *r);
static int gate_json_name(gate_json_read_t *r);
static int gate_json_quoted(gate_json_read_t *r);
static int gate_json_escape(gate_json_read_t *r);
static int gate_json_utf8(gate_json_read_t *r);
static int gate_json_numeral(gate_json_read_t *r);
static uint32_t gate_json_digits(gate_json_read_t *r);
static int gate_json_word(gate_json_read_t *r, const char *word,
    gate_json_type_e type);
static gate_json_node_t *gate_json_add(gate_json_read_t *r,
    gate_json_type_e type);
static int gate_json_peek(gate_json_read_t *r);
static int gate_json_at(const gate_json_read_t *r);
static int gate_json_bad(gate_json_read_t *r, const char *why);


int
gate_json_parse(gate_json_t *j, const unsigned char *text, size_t len,
    gate_json_node_t *node, const gate_json_limits_t *limits)
{
    int               rc;
    gate_json_read_t  r;

    j->text = text;
    j->len = len;
    j->node = node;
    j->n = 0;
    j->exact = 0;
    j->why = NULL;

    r.text = text;
    r.pos = 0;
    r.len = (uint32_t) len;
    r.n = 0;
    r.odd = 0;
    r.mixed = 0;
    r.depth = 0;
    r.limits = *limits;
    r.j = j;

    if (len > GATE_JSON_LEN) {
        return gate_json_bad(&r, "too long");
    }

    r.max = (uint32_t) gate_json_nodes(len);

    if (r.max > GATE_JSON_NODES) {
        r.max = GATE_JSON_NODES;
    }

    if (r.limits.depth > GATE_JSON_DEPTH) {
        r.limits.depth = GATE_JSON_DEPTH;
    }

    if (r.limits.members > GATE_JSON_MEMBERS) {
        r.limits.members = GATE_JSON_MEMBERS;
    }

    do {
        rc = gate_json_value(&r);

        while (rc == GATE_JSON_DONE && r.depth != 0) {
            rc = gate_json_after(&r);
        }

    } while (rc == GATE_JSON_MORE);

    if (rc == GATE_JSON_BAD) {
        return -1;
    }

    if (gate_json_peek(&r) != -1) {
        return gate_json_bad(&r, "data after the end");
    }

    j->n = r.n;
    j->exact = (r.odd == 0);

    return 0;
}


static int
gate_json_value(gate_json_read_t *r)
{
    int  c;

    c = gate_json_peek(r);

    switch (c) {

    case '{':
    case '[':
        return gate_json_open(r, c);

    case '"':
        return gate_json_quoted(r);

    case 't':
        return gate_json_word(r, "true", GATE_JSON_TRUE);

    case 'f':
        return gate_json_word(r, "false", GATE_JSON_FALSE);

    case 'n':
        return gate_json_word(r, "null", GATE_JSON_NULL);

    case 'N':
        return gate_json_word(r, "NaN", GATE_JSON_FLOAT);

    case 'I':
        return gate_json_word(r, "Infinity", GATE_JSON_FLOAT);

    case '-':
        if (r->pos + 1 < r->len && r->text[r->pos + 1] == 'I') {
            return gate_json_word(r, "-Infinity", GATE_JSON_FLOAT);
        }

        return gate_json_numeral(r);

    case -1:
        return gate_json_bad(r, "incomplete");

    default:
        if (c >= '0' && c <= '9') {
            return gate_json_numeral(r);
        }

        return gate_json_bad(r, "value expected");
    }
}


/* What follows a value within the innermost container. */

static int
gate_json_after(gate_json_read_t *r)
{
    int                c;
    gate_json_node_t  *node;

    node = &r->j->node[r->frame[r->depth - 1].node];
    c = gate_json_peek(r);

    if (c == ',') {
        r->pos++;

        if (node->type == GATE_JSON_ARRAY) {
            node->size++;
            return GATE_JSON_MORE;
        }

        if (node->size >= r->limits.members) {
            return gate_json_bad(r, "too many members");
        }

        node->size++;

        return gate_json_name(r);
    }

    if (c == (node->type == GATE_JSON_ARRAY ? ']' : '}')) {
        r->pos++;
        gate_json_close(r);

        return GATE_JSON_DONE;
    }

    return gate_json_bad(r, c == -1 ? "incomplete" : "comma expected");
}


static int
gate_json_open(gate_json_read_t *r, int c)
{
    gate_json_node_t  *node;

    if (r->depth >= r->limits.depth) {
        return gate_json_bad(r, "nested too deep");
    }

    node = gate_json_add(r, c == '[' ? GATE_JSON_ARRAY : GATE_JSON_OBJECT);

    if (node == NULL) {
        return GATE_JSON_BAD;
    }

    r->frame[r->depth].node = r->n - 1;
    r->frame[r->depth].odd = r->odd + r->mixed;
    r->depth++;
    r->pos++;

    if (gate_json_peek(r) == (c == '[' ? ']' : '}')) {
        r->pos++;
        gate_json_close(r);

        return GATE_JSON_DONE;
    }

    node->size = 1;

    return c == '[' ? GATE_JSON_MORE : gate_json_name(r);
}


static void
gate_json_close(gate_json_read_t *r)
{
    unsigned            i, n;
    uint16_t            order[GATE_JSON_MEMBERS];
    gate_json_node_t   *node;
    gate_json_frame_t  *frame;

    frame = &r->frame[--r->depth];
    node = &r->j->node[frame->node];

    node->end = r->pos;
    node->next = r->n;

    if (node->type == GATE_JSON_OBJECT && node->size > 1) {
        n = gate_json_order(r->j, frame->node, order);

        if (n != node->size) {
            r->odd++;
        }

        for (i = 1; i < n; i++) {
            if (order[i - 1] > order[i]) {
                r->mixed++;
                break;
            }
        }
    }

    node->plain = (frame->odd == r->odd + r->mixed);
}


static int
gate_json_name(gate_json_read_t *r)
{
    int  c;

    c = gate_json_peek(r);

    if (c != '"') {
        return gate_json_bad(r, c == -1 ? "incomplete" : "name expected");
    }

    if (gate_json_quoted(r) == GATE_JSON_BAD) {
        return GATE_JSON_BAD;
    }

    c = gate_json_peek(r);

    if (c != ':') {
        return gate_json_bad(r, c == -1 ? "incomplete" : "colon expected");
    }

    r->pos++;

    return GATE_JSON_MORE;
}


static int
gate_json_quoted(gate_json_read_t *r)
{
    int                c;
    gate_json_node_t  *node;

    node = gate_json_add(r, GATE_JSON_STRING);

    if (node == NULL) {
        return GATE_JSON_BAD;
    }

    node->start = ++r->pos;

    for ( ;; ) {
        c = gate_json_at(r);

        if (c == '"') {
            break;
        }

        if (c >= 0x20 && c < 0x7f && c != '\\') {
            r->pos++;
            continue;
        }

        node->plain = 0;

        if (c == '\\') {
            if (gate_json_escape(r) != 0) {
                return GATE_JSON_BAD;
            }

            continue;
        }

        r->odd++;

        if (c == 0x7f) {
            r->pos++;

        } else if (c == -1) {
            return gate_json_bad(r, "incomplete");

        } else if (c < 0x20) {
            return gate_json_bad(r, "control character in a string");

        } else if (gate_json_utf8(r) != 0) {
            return GATE_JSON_BAD;
        }
    }

    node->end = r->pos++;

    return GATE_JSON_DONE;
}


static int
gate_json_escape(gate_json_read_t *r)
{
    int       c, upper;
    uint32_t  i, code;

    r->pos++;

    switch (gate_json_at(r)) {

    case '/':
        r->odd++;

        /* fall through */

    case '"':
    case '\\':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        r->pos++;
        return 0;

    case 'u':
        r->pos++;
        break;

    default:
        return gate_json_bad(r, "unknown escape");
    }

    code = 0;
    upper = 0;

    for (i = 0; i < 4; i++) {
        c = gate_json_at(r);

        if (c >= '0' && c <= '9') {
            c -= '0';

        } else if (c >= 'a' && c <= 'f') {
            c -= 'a' - 10;

        } else if (c >= 'A' && c <= 'F') {
            c -= 'A' - 10;
            upper = 1;

        } else {
            return gate_json_bad(r, "unknown escape");
        }

        code = code << 4 | (uint32_t) c;
        r->pos++;
    }

    /* json.dumps() prints as many as it can otherwise */

    if (upper || (code >= 0x20 && code < 0x7f) || code == '\b'
        || code == '\t' || code == '\n' || code == '\f' || code == '\r')
    {
        r->odd++;
    }

    return 0;
}


/* A character of more than one byte, by table 3-7 of the Unicode standard. */

static int
gate_json_utf8(gate_json_read_t *r)
{
    uint32_t              n, i;
    unsigned char         low, high;
    const unsigned char  *s;

    s = r->text + r->pos;

    low = 0x80;
    high = 0xbf;

    if (s[0] >= 0xc2 && s[0] <= 0xdf) {
        n = 2;

    } else if (s[0] >= 0xe0 && s[0] <= 0xef) {
        n = 3;
        low = (s[0] == 0xe0) ? 0xa0 : 0x80;
        high = (s[0] == 0xed) ? 0x9f : 0xbf;

    } else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        n = 4;
        low = (s[0] == 0xf0) ? 0x90 : 0x80;
        high = (s[0] == 0xf4) ? 0x8f : 0xbf;

    } else {
        return gate_json_bad(r, "not UTF-8");
    }

    if (r->len - r->pos < n) {
        return gate_json_bad(r, "not UTF-8");
    }

    for (i = 1; i < n; i++) {
        if (s[i] < low || s[i] > high) {
            return gate_json_bad(r, "not UTF-8");
        }

        low = 0x80;
        high = 0xbf;
    }

    r->pos += n;

    return 0;
}


static int
gate_json_numeral(gate_json_read_t *r)
{
    int                odd;
    size_t             len;
    uint32_t           digits;
    unsigned char      text[GATE_FLOAT_MAX];
    gate_json_node_t  *node;

    node = gate_json_add(r, GATE_JSON_INT);

    if (node == NULL) {
        return GATE_JSON_BAD;
    }

    odd = 0;

    if (gate_json_at(r) == '-') {
        r->pos++;
    }

    if (gate_json_at(r) == '0') {
        r->pos++;
        digits = 1;

    } else {
        digits = gate_json_digits(r);
    }

    if (digits == 0) {
        return gate_json_bad(r, "value expected");
    }

    if (gate_json_at(r) == '.') {
        r->pos++;
        node->type = GATE_JSON_FLOAT;

        if (gate_json_digits(r) == 0) {
            return gate_json_bad(r, "digit expected");
        }
    }

    if (gate_json_at(r) == 'e' || gate_json_at(r) == 'E') {
        odd = (gate_json_at(r) == 'E');
        r->pos++;
        node->type = GATE_JSON_FLOAT;

        if (gate_json_at(r) == '+' || gate_json_at(r) == '-') {
            r->pos++;

        } else {
            odd = 1;
        }

        if (gate_json_digits(r) == 0) {
            return gate_json_bad(r, "digit expected");
        }
    }

    node->end = r->pos;
    len = node->end - node->start;

    if (node->type == GATE_JSON_INT) {
        if (digits > r->limits.digits) {
            return gate_json_bad(r, "too many digits");
        }

        node->plain = !(len == 2 && memcmp(r->text + node->start, "-0", 2)
                                    == 0);

    } else {

        /* without a look at the value where no value is printed like that */

        node->plain = (!odd && len <= GATE_FLOAT_MAX
                       && gate_float_print(text,
                              gate_float_read(r->text + node->start, len))
                          == len
                       && memcmp(text, r->text + node->start, len) == 0);
    }

    r->odd += !node->plain;

    return GATE_JSON_DONE;
}


static uint32_t
gate_json_digits(gate_json_read_t *r)
{
    uint32_t  start;

    start = r->pos;

    while (r->pos < r->len
           && r->text[r->pos] >= '0' && r->text[r->pos] <= '9')
    {
        r->pos++;
    }

    return r->pos - start;
}


static int
gate_json_word(gate_json_read_t *r, const char *word, gate_json_type_e type)
{
    size_t             len;
    gate_json_node_t  *node;

    len = strlen(word);

    if (r->len - r->pos < len || memcmp(r->text + r->pos, word, len) != 0) {
        return gate_json_bad(r, "value expected");
    }

    node = gate_json_add(r, type);

    if (node == NULL) {
        return GATE_JSON_BAD;
    }

    r->pos += (uint32_t) len;
    node->end = r->pos;

    return GATE_JSON_DONE;
}


static gate_json_node_t *
gate_json_add(gate_json_read_t *r, gate_json_type_e type)
{
    gate_json_node_t  *node;

    /*
     * A whole text has a node for every second byte at most: with more, it is
     * one that opens and never closes.
     */

    if (r->n == r->max) {
        (void) gate_json_bad(r, r->max == GATE_JSON_NODES ? "too many values"
                                                          : "incomplete");
        return NULL;
    }

    node = &r->j->node[r->n++];

    node->start = r->pos;
    node->end = r->pos;
    node->next = r->n;
    node->size = 0;
    node->type = (uint8_t) type;
    node->plain = 1;

    return node;
}


/* The next byte that is no white space, or -1. */

static int
gate_json_peek(gate_json_read_t *r)
{
    int  c;

    for ( ;; ) {
        c = gate_json_at(r);

        if (c != ' ' && c != '\t' && c != '\n' && c != '\r') {
            return c;
        }

        r->pos++;
        r->odd++;
    }
}


static int
gate_json_at(const gate_json_read_t *r)
{
    return r->pos < r->len ? r->text[r->pos] : -1;
}


static int
gate_json_bad(gate_json_read_t *r, const char *why)
{
    r->j->why = why;

    return GATE_JSON_BAD;
}

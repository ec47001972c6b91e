
#include "gate_cursor_inner.h"
#include "gate_base64.h"
#include "gate_float.h"

#include <math.h>
#include <string.h>


/* What every route issues, but for its two numbers and the MAC. */

static const char  gate_cursor_begin[] = "{\"payload\":{\"offset\":";
static const char  gate_cursor_middle[] = ",\"ts\":";
static const char  gate_cursor_sig[] = "},\"sig\":\"";
static const char  gate_cursor_last[] = "\"}";

#define GATE_CURSOR_BEGIN   (sizeof(gate_cursor_begin) - 1)
#define GATE_CURSOR_MIDDLE  (sizeof(gate_cursor_middle) - 1)
#define GATE_CURSOR_SIG     (sizeof(gate_cursor_sig) - 1)
#define GATE_CURSOR_LAST    (sizeof(gate_cursor_last) - 1)

/* from the end of the payload's last number to the end of it all */
#define GATE_CURSOR_TAIL                                                      \
    (GATE_CURSOR_SIG + 2 * GATE_HMAC_LEN + GATE_CURSOR_LAST)


typedef struct {
    const gate_cursor_call_t  *call;
    const unsigned char       *text;       /* what is signed */
    size_t                     len;
    uint32_t                   ts;         /* nodes, or GATE_JSON_NONE */
    uint32_t                   offset;
    double                     number;     /* what ts is, if it was read */
    int                        read;
    unsigned char              mac[GATE_HMAC_LEN];
} gate_cursor_envelope_t;


static int gate_cursor_quick(gate_cursor_t *c, gate_cursor_envelope_t *e,
    size_t n);
static uint32_t gate_cursor_quick_node(gate_json_t *j,
    gate_json_type_e type, const unsigned char *start,
    const unsigned char *end);
static int gate_cursor_number(gate_cursor_envelope_t *e,
    const unsigned char *s, size_t len, gate_json_type_e *type);
static size_t gate_cursor_digits(const unsigned char *s, size_t len);
static int gate_cursor_slow(gate_cursor_t *c, gate_cursor_envelope_t *e,
    size_t n);
static int gate_cursor_slow_sig(gate_cursor_t *c, gate_cursor_envelope_t *e,
    uint32_t sig);
static void gate_cursor_signed(gate_cursor_t *c, gate_cursor_envelope_t *e,
    uint32_t payload);
static gate_cursor_status_e gate_cursor_judge(gate_cursor_t *c,
    gate_cursor_envelope_t *e, double *ts);
static int gate_cursor_ts(const gate_cursor_t *c, uint32_t i, double *ts);
static int gate_cursor_offset(const gate_cursor_t *c, uint32_t i);
static int gate_cursor_issued(const gate_cursor_t *c,
    const gate_cursor_call_t *call);
static int gate_cursor_issued_more(const gate_cursor_t *c,
    const gate_cursor_call_t *call, uint32_t i);
static int gate_cursor_named(const gate_json_t *j, uint32_t name,
    const char *s, size_t len, unsigned char *room);


/*
 * quick: what every route issues is seen at a glance and verified as it
 * stands.  Without, it takes the way of everything else, and the same comes
 * out of it: for tests.
 */

gate_cursor_status_e
gate_cursor_envelope(gate_cursor_t *c, const gate_cursor_call_t *call,
    const unsigned char *s, size_t len, int quick)
{
    int                     issued;
    double                  ts;
    size_t                  n;
    gate_cursor_envelope_t  e;

    e.call = call;
    e.read = 0;
    issued = 1;
    ts = 0;

    if (gate_base64_decode(call->scratch->bytes, &n, s, len,
                           GATE_BASE64_PADDED) != 0)
    {
        if (gate_base64_decode(call->scratch->bytes, &n, s, len,
                               GATE_BASE64_LAX) != 0)
        {
            return gate_cursor_odd(c, "it is not base64url");
        }

        issued = 0;
    }

    quick = quick && gate_cursor_quick(c, &e, n);
    e.read = quick && e.read;

    if (!quick && gate_cursor_slow(c, &e, n) != 0) {
        return c->status;
    }

    if (gate_cursor_ring(c, call, e.text, e.len, e.mac) != 0) {
        return gate_cursor_end(c, GATE_CURSOR_BAD_SIGNATURE,
                               GATE_CURSOR_FAILED);
    }

    if (gate_cursor_judge(c, &e, &ts) != GATE_CURSOR_VALID
        || call->rules->mode == GATE_CURSOR_COMPAT)
    {
        return c->status;
    }

    if (!issued || (!quick && !gate_cursor_issued(c, call))) {
        return gate_cursor_odd(c, "it was not issued in this form");
    }

    if (ts > call->now + (double) call->rules->skew) {
        return gate_cursor_end(c, GATE_CURSOR_FUTURE, GATE_CURSOR_LATER);
    }

    return GATE_CURSOR_VALID;
}


/*
 * 1 if it is {"payload":{"offset":D,"ts":T},"sig":"MAC"} with numbers that
 * print as they stand; c->json is then what the parser would make of it.
 */

static int
gate_cursor_quick(gate_cursor_t *c, gate_cursor_envelope_t *e, size_t n)
{
    size_t                     len;
    gate_json_t               *j;
    gate_json_type_e           type;
    const unsigned char       *p, *d, *t, *tail;
    const gate_json_limits_t  *limits;

    limits = &e->call->rules->json;
    p = e->call->scratch->bytes;

    if (n < GATE_CURSOR_BEGIN + 1 + GATE_CURSOR_MIDDLE + 1 + GATE_CURSOR_TAIL
        || limits->depth < 2 || limits->members < 2)
    {
        return 0;
    }

    tail = p + n - GATE_CURSOR_TAIL;

    if (memcmp(p, gate_cursor_begin, GATE_CURSOR_BEGIN) != 0
        || memcmp(tail, gate_cursor_sig, GATE_CURSOR_SIG) != 0
        || memcmp(p + n - GATE_CURSOR_LAST, gate_cursor_last,
                  GATE_CURSOR_LAST) != 0
        || gate_cursor_hex(e->mac, tail + GATE_CURSOR_SIG, 2 * GATE_HMAC_LEN)
           != 0)
    {
        return 0;
    }

    d = p + GATE_CURSOR_BEGIN;
    len = gate_cursor_digits(d, (size_t) (tail - d));
    t = d + len + GATE_CURSOR_MIDDLE;

    if (len == 0 || len > limits->digits || t >= tail
        || memcmp(d + len, gate_cursor_middle, GATE_CURSOR_MIDDLE) != 0
        || !gate_cursor_number(e, t, (size_t) (tail - t), &type))
    {
        return 0;
    }

    j = &c->json;
    j->text = p;
    j->len = n;
    j->node = e->call->scratch->node;
    j->n = 0;
    j->exact = 1;
    j->why = NULL;

    (void) gate_cursor_quick_node(j, GATE_JSON_OBJECT, p, p + n);
    (void) gate_cursor_quick_node(j, GATE_JSON_STRING, p + 2, p + 9);
    c->payload = gate_cursor_quick_node(j, GATE_JSON_OBJECT, p + 11,
                                        tail + 1);
    (void) gate_cursor_quick_node(j, GATE_JSON_STRING, p + 13, p + 19);
    e->offset = gate_cursor_quick_node(j, GATE_JSON_INT, d, d + len);
    (void) gate_cursor_quick_node(j, GATE_JSON_STRING, t - 4, t - 2);
    e->ts = gate_cursor_quick_node(j, type, t, tail);
    (void) gate_cursor_quick_node(j, GATE_JSON_STRING, tail + 3, tail + 6);
    (void) gate_cursor_quick_node(j, GATE_JSON_STRING, tail + GATE_CURSOR_SIG,
                                  p + n - GATE_CURSOR_LAST);

    j->node[0].size = 2;
    j->node[0].next = j->n;
    j->node[c->payload].size = 2;
    j->node[c->payload].next = e->ts + 1;

    e->text = p + 11;
    e->len = (size_t) (tail + 1 - e->text);

    return 1;
}


static uint32_t
gate_cursor_quick_node(gate_json_t *j, gate_json_type_e type,
    const unsigned char *start, const unsigned char *end)
{
    gate_json_node_t  *node;

    node = &j->node[j->n];

    node->start = (uint32_t) (start - j->text);
    node->end = (uint32_t) (end - j->text);
    node->next = j->n + 1;
    node->size = 0;
    node->type = (uint8_t) type;
    node->plain = 1;

    return j->n++;
}


/* 1 if all of s is a number that prints as it stands. */

static int
gate_cursor_number(gate_cursor_envelope_t *e, const unsigned char *s,
    size_t len, gate_json_type_e *type)
{
    size_t         i, n;
    unsigned char  text[GATE_FLOAT_MAX];

    i = (s[0] == '-');
    n = gate_cursor_digits(s + i, len - i);

    if (n == 0) {
        return 0;
    }

    i += n;

    if (i == len) {
        *type = GATE_JSON_INT;
        return n <= e->call->rules->json.digits
               && !(s[0] == '-' && s[1] == '0');
    }

    if (len > GATE_FLOAT_MAX) {
        return 0;
    }

    /* the grammar of a number, for those who read it */

    if (s[i] == '.') {
        for (n = ++i; i < len && s[i] >= '0' && s[i] <= '9'; i++) {
            /* void */
        }

        if (i == n) {
            return 0;
        }
    }

    if (i < len && s[i] == 'e') {
        i++;

        if (i < len && (s[i] == '+' || s[i] == '-')) {
            i++;
        }

        for (n = i; i < len && s[i] >= '0' && s[i] <= '9'; i++) {
            /* void */
        }

        if (i == n) {
            return 0;
        }
    }

    *type = GATE_JSON_FLOAT;

    if (i != len) {
        return 0;
    }

    e->number = gate_float_read(s, len);
    e->read = 1;

    return gate_float_print(text, e->number) == len
           && memcmp(text, s, len) == 0;
}


/* How many of them a number begins with, without leading zeros. */

static size_t
gate_cursor_digits(const unsigned char *s, size_t len)
{
    size_t  n;

    for (n = 0; n < len && s[n] >= '0' && s[n] <= '9'; n++) {
        if (n == 1 && s[0] == '0') {
            return 0;
        }
    }

    return n;
}


/* 0, or -1 with the status set. */

static int
gate_cursor_slow(gate_cursor_t *c, gate_cursor_envelope_t *e, size_t n)
{
    uint32_t                payload, sig;
    gate_json_t            *j;
    gate_cursor_scratch_t  *scratch;

    j = &c->json;
    scratch = e->call->scratch;

    if (gate_json_parse(j, scratch->bytes, n, scratch->node,
                        &e->call->rules->json) != 0)
    {
        (void) gate_cursor_odd(c, j->why);
        return -1;
    }

    if (j->node[0].type != GATE_JSON_OBJECT) {
        (void) gate_cursor_odd(c, "it is no object");
        return -1;
    }

    payload = gate_json_member(j, 0, gate_cursor_str("payload"));
    sig = gate_json_member(j, 0, gate_cursor_str("sig"));

    if (payload == GATE_JSON_NONE) {
        (void) gate_cursor_end(c, GATE_CURSOR_MALFORMED,
                               "Cursor missing required field: 'payload'");
        return -1;
    }

    if (sig == GATE_JSON_NONE) {
        (void) gate_cursor_end(c, GATE_CURSOR_MALFORMED,
                               "Cursor missing required field: 'sig'");
        return -1;
    }

    if (gate_cursor_slow_sig(c, e, sig) != 0) {
        return -1;
    }

    gate_cursor_signed(c, e, payload);

    c->payload = payload;
    e->ts = gate_json_member(j, payload, gate_cursor_str("ts"));
    e->offset = gate_json_member(j, payload, gate_cursor_str("offset"));

    return 0;
}


static int
gate_cursor_slow_sig(gate_cursor_t *c, gate_cursor_envelope_t *e,
    uint32_t sig)
{
    size_t                   i, n;
    gate_json_t             *j;
    const unsigned char     *s;
    const gate_json_node_t  *node;

    j = &c->json;
    node = &j->node[sig];

    if (node->type != GATE_JSON_STRING) {
        (void) gate_cursor_odd(c, "its signature is no string");
        return -1;
    }

    if (node->plain) {
        s = j->text + node->start;
        n = node->end - node->start;

    } else {
        s = e->call->scratch->text;
        n = gate_json_string(j, sig, e->call->scratch->text);

        for (i = 0; i < n; i++) {
            if (s[i] >= 0x80) {
                (void) gate_cursor_odd(c, "its signature is not ASCII");
                return -1;
            }
        }
    }

    /* no key says anything else */

    if (gate_cursor_hex(e->mac, s, n) != 0) {
        (void) gate_cursor_end(c, GATE_CURSOR_BAD_SIGNATURE,
                               GATE_CURSOR_FAILED);
        return -1;
    }

    return 0;
}


static void
gate_cursor_signed(gate_cursor_t *c, gate_cursor_envelope_t *e,
    uint32_t payload)
{
    const gate_json_node_t  *node;

    node = &c->json.node[payload];

    if (node->plain && node->type == GATE_JSON_OBJECT) {
        e->text = c->json.text + node->start;
        e->len = node->end - node->start;
        return;
    }

    e->text = e->call->scratch->text;
    e->len = gate_json_print(&c->json, payload, e->call->scratch->text);
}


/* A signed one, as the service sees it. */

static gate_cursor_status_e
gate_cursor_judge(gate_cursor_t *c, gate_cursor_envelope_t *e, double *ts)
{
    double             age;
    const gate_json_t *j;

    j = &c->json;

    if (j->node[c->payload].type != GATE_JSON_OBJECT) {
        return gate_cursor_odd(c, "its payload is no object");
    }

    if (e->ts == GATE_JSON_NONE || j->node[e->ts].type == GATE_JSON_NULL) {
        return gate_cursor_end(c, GATE_CURSOR_MALFORMED, GATE_CURSOR_NO_TIME);
    }

    if (e->read) {
        *ts = e->number;

    } else if (!gate_cursor_ts(c, e->ts, ts)) {
        return gate_cursor_odd(c, "its timestamp is no number");
    }

    age = e->call->now - *ts;

    if (age > (double) e->call->rules->ttl) {
        return gate_cursor_old(c, age, e->call->rules->ttl);
    }

    if (!gate_cursor_offset(c, e->offset)) {
        return gate_cursor_end(c, GATE_CURSOR_MALFORMED,
                               "Invalid offset in cursor");
    }

    return gate_cursor_end(c, GATE_CURSOR_VALID, "");
}


/*
 * True is 1 in Python.  An integer that no double holds is an error there;
 * NaN and Infinity are none, but would never expire.  -Infinity has.
 */

static int
gate_cursor_ts(const gate_cursor_t *c, uint32_t i, double *ts)
{
    switch (c->json.node[i].type) {

    case GATE_JSON_FALSE:
        *ts = 0;
        return 1;

    case GATE_JSON_TRUE:
        *ts = 1;
        return 1;

    case GATE_JSON_INT:
        *ts = gate_json_number(&c->json, i);
        return isfinite(*ts);

    case GATE_JSON_FLOAT:
        *ts = gate_json_number(&c->json, i);
        return *ts < INFINITY;

    default:
        return 0;
    }
}


static int
gate_cursor_offset(const gate_cursor_t *c, uint32_t i)
{
    const unsigned char     *s;
    const gate_json_node_t  *node;

    if (i == GATE_JSON_NONE) {
        return 0;
    }

    node = &c->json.node[i];

    switch (node->type) {

    case GATE_JSON_FALSE:
    case GATE_JSON_TRUE:
        return 1;

    case GATE_JSON_INT:
        s = c->json.text + node->start;
        return s[0] != '-' || s[1] == '0';

    default:
        return 0;
    }
}


/*
 * 1 if what compat accepts is what the service issues: {"payload":{"offset":..,
 * "ts":..,"order_by":..,"filters":..},"sig":".."}, the last two of the payload
 * if they are not null, and what the rules allow.
 */

static int
gate_cursor_issued(const gate_cursor_t *c, const gate_cursor_call_t *call)
{
    uint32_t           payload, offset, ts;
    const gate_json_t *j;

    j = &c->json;

    /* in that order, each name comes right before its value */

    payload = 2;
    offset = payload + 2;
    ts = offset + 2;

    if (!j->exact || j->node[0].size != 2 || c->payload != payload
        || j->node[payload].size < 2)
    {
        return 0;
    }

    if (gate_json_member(j, payload, gate_cursor_str("offset")) != offset
        || j->node[offset].type != GATE_JSON_INT
        || gate_json_member(j, payload, gate_cursor_str("ts")) != ts
        || (j->node[ts].type != GATE_JSON_INT
            && j->node[ts].type != GATE_JSON_FLOAT))
    {
        return 0;
    }

    return gate_cursor_issued_more(c, call, ts + 1);
}


/* The names from node i on: no two are equal. */

static int
gate_cursor_issued_more(const gate_cursor_t *c,
    const gate_cursor_call_t *call, uint32_t i)
{
    int                         filters, known;
    unsigned                    k;
    uint32_t                    end;
    unsigned char              *room;
    const gate_json_t          *j;
    const gate_cursor_rules_t  *rules;

    j = &c->json;
    rules = call->rules;
    room = call->scratch->text;
    end = j->node[c->payload].next;
    filters = 0;

    for ( /* void */ ; i < end; i = j->node[i + 1].next) {

        known = 0;

        for (k = 0; k < rules->nclaims && !known; k++) {
            known = gate_cursor_named(j, i, rules->claim[k],
                                      rules->claim_len[k], room);
        }

        if (known) {
            continue;
        }

        if (j->node[i + 1].type == GATE_JSON_NULL || filters) {
            return 0;
        }

        filters = gate_cursor_named(j, i, gate_cursor_str("filters"), room);

        if (!filters
            && !gate_cursor_named(j, i, gate_cursor_str("order_by"), room))
        {
            return 0;
        }
    }

    return 1;
}


static int
gate_cursor_named(const gate_json_t *j, uint32_t name, const char *s,
    size_t len, unsigned char *room)
{
    const unsigned char     *have;
    const gate_json_node_t  *node;

    node = &j->node[name];
    have = j->text + node->start;

    if (node->plain) {
        return node->end - node->start == len && memcmp(have, s, len) == 0;
    }

    return gate_json_string(j, name, room) == len
           && memcmp(room, s, len) == 0;
}

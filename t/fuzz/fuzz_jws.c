
/*
 * The first byte says what the rest is: a cursor of the format jws or
 * detached, or a header and a payload with a line feed between them that are
 * signed here, or a payload that gate_cursor_sign() is to sign.  Properties:
 * the result does not depend on what follows in memory, nor, but for a "ts" in
 * the future, on the mode; what is signed by a key that the header admits is
 * never told to be not; what says of itself another algorithm is; no flipped
 * bit is accepted, nor one character more or some less; what is signed has a
 * header with no name twice, and what is valid a payload with none, and it is
 * not expired.
 */

#include "cursor.h"


int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);


enum {
    FUZZ_RAW_JWS = 0,
    FUZZ_RAW_DETACHED,
    FUZZ_JWS,
    FUZZ_DETACHED,
    FUZZ_SIGN_JWS,
    FUZZ_SIGN_DETACHED
};


static void
fuzz_flip(const gate_cursor_rules_t *rules, const unsigned char *s,
    size_t len)
{
    size_t         i, bit;
    gate_cursor_t  c;
    unsigned char  flipped[GATE_CURSOR_LENGTH];

    for (i = 0; i < 8; i++) {
        memcpy(flipped, s, len);
        bit = fuzz_pick(s, len, i, 8 * len);
        flipped[bit / 8] ^= (unsigned char) (1 << bit % 8);

        fuzz_verify(&c, rules, flipped, len);
        fuzz_check(c.key == -1);
    }

    for (i = 1; i <= 4; i++) {
        fuzz_verify(&c, rules, s, len - i);
        fuzz_check(c.key == -1 || s[len - 1] == '=');
    }

    memcpy(flipped, s, len);

    for (i = len; i < len + 4 && i < GATE_CURSOR_LENGTH; i++) {
        flipped[i] = 'A';
        fuzz_verify(&c, rules, flipped, i + 1);
        fuzz_check(c.key == -1);
    }
}


/* Of a JWS that is signed: what others could read in another way. */

static void
fuzz_header(const unsigned char *s, size_t len)
{
    size_t                   n;
    gate_json_t              j;
    gate_cursor_rules_t      rules;
    const unsigned char     *dot;

    static gate_json_node_t  node[gate_json_nodes(GATE_CURSOR_BYTES)];
    static unsigned char     text[GATE_CURSOR_BYTES];

    gate_cursor_rules_init(&rules);
    dot = memchr(s, '.', len);

    fuzz_check(dot != NULL);
    fuzz_check(gate_base64_decode(text, &n, s, (size_t) (dot - s),
                                  GATE_BASE64_BARE) == 0);
    fuzz_check(gate_json_parse(&j, text, n, node, &rules.json) == 0);
    fuzz_check(!gate_cursor_twice(&j, 0));
    fuzz_check(gate_json_member(&j, 0, "crit", 4) == GATE_JSON_NONE);
}


static void
fuzz_valid(const gate_cursor_t *c, const gate_cursor_rules_t *rules)
{
    double    v;
    uint32_t  i;

    fuzz_check(c->payload == 0);
    fuzz_check(!gate_cursor_twice(&c->json, 0));

    i = gate_cursor_claim(c, "exp", 3);

    if (i != GATE_JSON_NONE) {
        v = gate_json_number(&c->json, i);
        fuzz_check(FUZZ_NOW < v + (double) rules->skew);
    }

    if (i == GATE_JSON_NONE || rules->ttl_given) {
        i = rules->format == GATE_CURSOR_JWS
            ? gate_cursor_claim(c, "iat", 3) : gate_cursor_claim(c, "ts", 2);

        if (i != GATE_JSON_NONE) {
            v = gate_json_number(&c->json, i);
            fuzz_check(FUZZ_NOW - v <= (double) rules->ttl);
        }
    }
}


static void
fuzz_cursor(gate_cursor_t *c, gate_cursor_rules_t *rules,
    const unsigned char *s, size_t len)
{
    gate_cursor_t  compat;

    rules->mode = GATE_CURSOR_COMPAT;
    fuzz_verify(&compat, rules, s, len);
    rules->mode = GATE_CURSOR_STRICT;
    fuzz_verify(c, rules, s, len);

    fuzz_check(c->key == compat.key);

    if (c->status != compat.status) {
        fuzz_check(rules->format == GATE_CURSOR_DETACHED
                   && c->status == GATE_CURSOR_FUTURE
                   && compat.status == GATE_CURSOR_VALID);
    }

    if (c->status == GATE_CURSOR_VALID) {
        fuzz_valid(c, rules);
    }

    if (c->key != -1) {
        if (rules->format == GATE_CURSOR_JWS) {
            fuzz_header(s, len);
        }

        fuzz_flip(rules, s, len);
        fuzz_verify(c, rules, s, len);
    }
}


static size_t
fuzz_mac(unsigned char *dst, size_t n)
{
    const void     *part[1];
    unsigned char   mac[64];

    part[0] = dst;
    fuzz_check(gate_cursor_key_sign(&fuzz_keys[0], part, &n, 1, mac) == 32);
    dst[n++] = '.';

    return n + gate_base64_encode(dst + n, mac, 32, 0);
}


/* 1 if the header is one that the first key verifies by. */

static int
fuzz_admits(const unsigned char *s, size_t len)
{
    int                      rc;
    uint32_t                 i;
    gate_json_t              j;
    gate_cursor_rules_t      rules;

    static gate_json_node_t  node[gate_json_nodes(GATE_CURSOR_BYTES)];
    static unsigned char     text[GATE_CURSOR_BYTES];

    gate_cursor_rules_init(&rules);

    if (len > GATE_CURSOR_BYTES
        || gate_json_parse(&j, s, len, node, &rules.json) != 0)
    {
        return 0;
    }

    i = gate_json_member(&j, 0, "alg", 3);

    if (i == GATE_JSON_NONE || j.node[i].type != GATE_JSON_STRING
        || gate_json_string(&j, i, text) != 5
        || memcmp(text, "HS256", 5) != 0)
    {
        return 0;
    }

    i = gate_json_member(&j, 0, "kid", 3);
    rc = 1;

    if (i != GATE_JSON_NONE) {
        rc = j.node[i].type == GATE_JSON_STRING
             && (gate_json_string(&j, i, text) != 1 || text[0] != 'e');
    }

    return rc;
}


static void
fuzz_jws(gate_cursor_rules_t *rules, const unsigned char *data, size_t size)
{
    int                   admits;
    size_t                n, header;
    gate_cursor_t         c;
    static unsigned char  s[4 * GATE_CURSOR_LENGTH];
    const unsigned char  *lf;

    lf = memchr(data, '\n', size);
    header = lf ? (size_t) (lf - data) : size;
    admits = fuzz_admits(data, header);

    n = gate_base64_encode(s, data, header, 0);
    s[n++] = '.';

    if (lf != NULL) {
        n += gate_base64_encode(s + n, lf + 1, size - header - 1, 0);
    }

    n = fuzz_mac(s, n);

    if (n > GATE_CURSOR_LENGTH) {
        return;
    }

    fuzz_cursor(&c, rules, s, n);

    fuzz_check(c.status != (admits ? GATE_CURSOR_BAD_SIGNATURE
                                   : GATE_CURSOR_VALID));
    fuzz_check(c.key == (admits ? 0 : -1)
               || c.status == GATE_CURSOR_MALFORMED);
}


static void
fuzz_detached(gate_cursor_rules_t *rules, const unsigned char *data,
    size_t size)
{
    size_t                n;
    gate_cursor_t         c;
    static unsigned char  s[4 * GATE_CURSOR_LENGTH];

    /* the bytes as the segment itself, where they can be one */

    if (size > 0 && data[0] == '=') {
        n = size - 1;
        memcpy(s, data + 1, n);

        if (memchr(s, '.', n) != NULL) {
            return;
        }

    } else {
        n = gate_base64_encode(s, data, size, (int) (size & 1));
    }

    n = fuzz_mac(s, n);

    if (n > GATE_CURSOR_LENGTH) {
        return;
    }

    fuzz_cursor(&c, rules, s, n);
    fuzz_check(c.key == 0);
}


static void
fuzz_sign(gate_cursor_rules_t *rules, const unsigned char *data, size_t size)
{
    size_t                n;
    const char           *why;
    gate_cursor_t         c;
    static unsigned char  s[FUZZ_CURSOR];

    why = NULL;
    n = gate_cursor_sign(s, rules->format, &fuzz_keys[0], data, size,
                         &fuzz_scratch, &why);

    if (n == 0) {
        fuzz_check(why != NULL && why[0] != '\0');
        return;
    }

    fuzz_check(n <= GATE_CURSOR_LENGTH);

    rules->json.depth = GATE_JSON_DEPTH;
    rules->json.members = GATE_JSON_MEMBERS;
    rules->json.digits = GATE_JSON_DIGITS;

    fuzz_cursor(&c, rules, s, n);
    fuzz_check(c.key == 0);
    fuzz_check(c.json.text != NULL && c.json.len == size
               && memcmp(c.json.text, data, size) == 0);
}


int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    unsigned             kind;
    gate_cursor_t        c;
    gate_cursor_rules_t  rules;

    fuzz_keys_init();

    if (size == 0 || size > GATE_CURSOR_LENGTH + 64) {
        return 0;
    }

    kind = (data[0] & 7) % 6;

    gate_cursor_rules_init(&rules);
    rules.format = (kind & 1) ? GATE_CURSOR_DETACHED : GATE_CURSOR_JWS;
    rules.ttl_given = (data[0] >> 3) & 1;

    if (data[0] & 0x10) {
        rules.json.depth = 1 + (data[0] >> 6);
        rules.json.members = 1 + (data[0] >> 5);
    }

    data++;
    size--;

    switch (kind) {

    case FUZZ_RAW_JWS:
    case FUZZ_RAW_DETACHED:
        fuzz_cursor(&c, &rules, data, size);
        break;

    case FUZZ_JWS:
        fuzz_jws(&rules, data, size);
        break;

    case FUZZ_DETACHED:
        fuzz_detached(&rules, data, size);
        break;

    default:
        fuzz_sign(&rules, data, size);
    }

    return 0;
}

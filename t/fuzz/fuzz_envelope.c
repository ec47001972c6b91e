
/*
 * The first byte says what the rest is: a cursor, the JSON in one, a payload
 * that is signed here as it stands, or one that gate_cursor_sign() is to sign;
 * and by which rules.  Properties: the result does not depend on what follows
 * in memory; what is seen at a glance and what is read in full come to the
 * same; what compat refuses strict refuses with the same words, what strict
 * accepts compat accepts with the same payload; what is signed is never told
 * to be not; what strict accepts is what signing its payload gives; no flipped
 * bit is accepted in strict, and in compat only one that leaves the payload
 * what it was.
 */

#include "cursor.h"


int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);


enum {
    FUZZ_RAW = 0,
    FUZZ_JSON,
    FUZZ_PAYLOAD,
    FUZZ_SIGN
};


static void
fuzz_rules(gate_cursor_rules_t *rules, unsigned char flags)
{
    gate_cursor_rules_init(rules);

    if (flags & 0x10) {
        rules->claim[0] = "aud";
        rules->claim_len[0] = 3;
        rules->claim[1] = "\xc3\xa9";
        rules->claim_len[1] = 2;
        rules->nclaims = 2;
    }

    if (flags & 0x20) {
        rules->json.depth = 1 + (flags >> 6);
        rules->json.members = 1 + (flags >> 5) % 4;
        rules->json.digits = 1 + flags % 20;
    }
}


/* The text of the payload's canonical form, or of nothing. */

static size_t
fuzz_canonical(const gate_cursor_t *c, unsigned char *dst)
{
    return gate_json_print(&c->json, c->payload, dst);
}


/* At a glance, and in full. */

static void
fuzz_quick(const gate_cursor_rules_t *rules, const unsigned char *s,
    size_t len)
{
    size_t                   i;
    gate_cursor_t            c[2];
    gate_cursor_call_t       call;
    const gate_json_node_t  *a, *b;

    for (i = 0; i < 2; i++) {
        c[i].key = -1;
        c[i].payload = GATE_JSON_NONE;
        c[i].room = NULL;

        call.rules = rules;
        call.key = fuzz_ring;
        call.nkeys = FUZZ_KEYS;
        call.now = FUZZ_NOW;
        call.scratch = i ? &fuzz_scratch : &fuzz_other;

        (void) gate_cursor_envelope(&c[i], &call, s, len, (int) i);
    }

    fuzz_check(c[0].status == c[1].status && c[0].key == c[1].key
               && c[0].text_len == c[1].text_len
               && memcmp(c[0].text, c[1].text, c[0].text_len) == 0);

    if (c[0].status != GATE_CURSOR_VALID
        && c[0].status != GATE_CURSOR_EXPIRED)
    {
        return;
    }

    fuzz_check(c[0].payload == c[1].payload && c[0].json.n == c[1].json.n
               && c[0].json.exact == c[1].json.exact);

    for (i = 0; i < c[0].json.n; i++) {
        a = &c[0].json.node[i];
        b = &c[1].json.node[i];

        fuzz_check(a->start == b->start && a->end == b->end
                   && a->next == b->next && a->size == b->size
                   && a->type == b->type && a->plain == b->plain);
    }
}


static void
fuzz_flip(gate_cursor_rules_t *rules, const unsigned char *s, size_t len,
    const unsigned char *payload, size_t n)
{
    size_t                i, bit;
    gate_cursor_t         c;
    static unsigned char  text[gate_json_printed(GATE_CURSOR_BYTES)];
    unsigned char         flipped[GATE_CURSOR_LENGTH];

    for (i = 0; i < 8; i++) {
        memcpy(flipped, s, len);
        bit = fuzz_pick(s, len, i, 8 * len);
        flipped[bit / 8] ^= (unsigned char) (1 << bit % 8);

        rules->mode = GATE_CURSOR_STRICT;
        fuzz_verify(&c, rules, flipped, len);
        fuzz_check(c.status != GATE_CURSOR_VALID);

        rules->mode = GATE_CURSOR_COMPAT;
        fuzz_verify(&c, rules, flipped, len);

        if (c.status == GATE_CURSOR_VALID) {
            fuzz_check(fuzz_canonical(&c, text) == n
                       && memcmp(text, payload, n) == 0);
        }
    }
}


/* A cursor that strict accepts is made of its payload in one way only. */

static void
fuzz_again(const gate_cursor_t *c, const unsigned char *s, size_t len)
{
    size_t                   n;
    const char              *why;
    const gate_json_node_t  *node;

    static unsigned char     text[GATE_CURSOR_BYTES];
    static unsigned char     again[FUZZ_CURSOR];

    node = &c->json.node[c->payload];
    n = node->end - node->start;

    if (n > 2048) {
        return;
    }

    memcpy(text, c->json.text + node->start, n);
    fuzz_check(gate_cursor_sign(again, GATE_CURSOR_ENVELOPE, &fuzz_keys[0],
                                text, n, &fuzz_other, &why) == len
               && memcmp(again, s, len) == 0);
}


/* How it fares in compat, in c, and whether the other properties hold. */

static void
fuzz_cursor(gate_cursor_t *c, gate_cursor_rules_t *rules,
    const unsigned char *s, size_t len)
{
    size_t                n;
    gate_cursor_t         strict;
    static unsigned char  text[2][gate_json_printed(GATE_CURSOR_BYTES)];

    n = 0;
    rules->mode = GATE_CURSOR_STRICT;
    fuzz_verify(&strict, rules, s, len);

    if (strict.status == GATE_CURSOR_VALID) {
        n = fuzz_canonical(&strict, text[0]);
        fuzz_again(&strict, s, len);
    }

    if (len <= GATE_CURSOR_LENGTH) {
        fuzz_quick(rules, s, len);
        rules->mode = GATE_CURSOR_COMPAT;
        fuzz_quick(rules, s, len);
    }

    rules->mode = GATE_CURSOR_COMPAT;
    fuzz_verify(c, rules, s, len);

    if (c->status != GATE_CURSOR_VALID) {
        fuzz_check(c->status == strict.status && c->key == strict.key
                   && c->text_len == strict.text_len
                   && memcmp(c->text, strict.text, c->text_len) == 0);
        fuzz_check(c->status != GATE_CURSOR_FUTURE);
        return;
    }

    if (strict.status == GATE_CURSOR_VALID) {
        fuzz_check(strict.key == c->key
                   && fuzz_canonical(c, text[1]) == n
                   && memcmp(text[0], text[1], n) == 0);

    } else {
        fuzz_check(strict.status == GATE_CURSOR_MALFORMED
                   || strict.status == GATE_CURSOR_FUTURE);
        n = fuzz_canonical(c, text[0]);
    }

    fuzz_flip(rules, s, len, text[0], n);

    rules->mode = GATE_CURSOR_COMPAT;
    fuzz_verify(c, rules, s, len);
}


/* Signed by the text that it is printed as; 0 if it is none. */

static size_t
fuzz_envelope(unsigned char *dst, const unsigned char *s, size_t len)
{
    size_t                   i, n;
    const void              *part[1];
    gate_json_t              j;
    unsigned char            mac[64];
    char                    *p;
    gate_cursor_rules_t      rules;

    static char              text[2 * GATE_CURSOR_BYTES];
    static unsigned char     printed[gate_json_printed(GATE_CURSOR_BYTES)];
    static gate_json_node_t  node[gate_json_nodes(GATE_CURSOR_BYTES)];

    gate_cursor_rules_init(&rules);

    if (len > GATE_CURSOR_BYTES
        || gate_json_parse(&j, s, len, node, &rules.json) != 0)
    {
        return 0;
    }

    part[0] = printed;
    n = gate_json_print(&j, 0, printed);
    fuzz_check(gate_cursor_key_sign(&fuzz_keys[0], part, &n, 1, mac) == 32);

    p = text + sprintf(text, "{\"payload\":");
    memcpy(p, s, len);
    p += len;
    p += sprintf(p, ",\"sig\":\"");

    for (i = 0; i < 32; i++) {
        p += sprintf(p, "%02x", mac[i]);
    }

    p += sprintf(p, "\"}");

    return gate_base64_encode(dst, (unsigned char *) text,
                              (size_t) (p - text), 1);
}


/* What is signed is printed as it must be, and is no other payload. */

static size_t
fuzz_sign(unsigned char *dst, const unsigned char *s, size_t len)
{
    size_t                   n, m, k;
    const char              *why;
    gate_json_t              a, b;
    gate_cursor_rules_t      rules;

    static unsigned char     bytes[GATE_CURSOR_BYTES];
    static gate_json_node_t  node[2][gate_json_nodes(GATE_CURSOR_BYTES)];
    static unsigned char     text[2][gate_json_printed(GATE_CURSOR_BYTES)];

    why = NULL;
    n = gate_cursor_sign(dst, GATE_CURSOR_ENVELOPE, &fuzz_keys[0], s, len,
                         &fuzz_scratch, &why);

    if (n == 0) {
        fuzz_check(why != NULL && why[0] != '\0');
        return 0;
    }

    gate_cursor_rules_init(&rules);

    fuzz_check(n <= GATE_CURSOR_LENGTH && why == NULL);
    fuzz_check(gate_base64_decode(bytes, &m, dst, n, GATE_BASE64_PADDED)
               == 0);
    fuzz_check(gate_json_parse(&a, s, len, node[0], &rules.json) == 0);
    fuzz_check(gate_json_parse(&b, bytes, m, node[1], &rules.json) == 0);
    fuzz_check(b.exact);

    k = gate_json_print(&a, 0, text[0]);
    fuzz_check(gate_json_print(&b, 2, text[1]) == k
               && memcmp(text[0], text[1], k) == 0);

    return n;
}


int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    size_t                len;
    unsigned              kind;
    gate_cursor_t         c;
    gate_cursor_rules_t   rules;
    static unsigned char  s[4 * GATE_CURSOR_LENGTH];

    fuzz_keys_init();

    if (size == 0 || size > GATE_CURSOR_LENGTH + 64) {
        return 0;
    }

    kind = data[0] & 3;
    fuzz_rules(&rules, data[0]);
    data++;
    size--;

    switch (kind) {

    case FUZZ_RAW:
        fuzz_cursor(&c, &rules, data, size);
        return 0;

    case FUZZ_JSON:
        len = gate_base64_encode(s, data, size, 1);
        fuzz_cursor(&c, &rules, s, len);
        return 0;

    case FUZZ_PAYLOAD:
        len = fuzz_envelope(s, data, size);
        break;

    default:
        len = fuzz_sign(s, data, size);
    }

    if (len != 0) {
        fuzz_cursor(&c, &rules, s, len);
        fuzz_check(c.status != GATE_CURSOR_BAD_SIGNATURE);
        fuzz_check(c.key == 0 || c.status == GATE_CURSOR_MALFORMED);
    }

    return 0;
}

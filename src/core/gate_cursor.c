
#include "gate_cursor_inner.h"
#include "gate_json_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/sha.h>


#define GATE_CURSOR_TTL   600
#define GATE_CURSOR_SKEW  60

#define GATE_CURSOR_HASHED      "sha256:"
#define GATE_CURSOR_HASHED_LEN  (sizeof(GATE_CURSOR_HASHED) - 1)


/* in what is no digit this bit is not set */

#define GATE_CURSOR_DIGIT       16


static size_t gate_cursor_age(char *dst, size_t size, double age);
static int gate_cursor_hashed(const unsigned char *claim, size_t len,
    const unsigned char *value, size_t value_len);


const char *const  gate_cursor_status_name[GATE_CURSOR_STATUSES] = {
    "valid", "expired", "bad_signature", "malformed", "future", "mismatch",
    "duplicate", "absent"
};

const char *const  gate_cursor_format_name[GATE_CURSOR_FORMATS] = {
    "envelope", "detached", "jws"
};

const char *const  gate_cursor_alg_name[GATE_CURSOR_ALGS] = {
    "HS256", "HS384", "HS512", "ES256", "EdDSA"
};


static const unsigned char  gate_cursor_digit[256] = {
    ['0'] = 16, ['1'] = 17, ['2'] = 18, ['3'] = 19, ['4'] = 20, ['5'] = 21,
    ['6'] = 22, ['7'] = 23, ['8'] = 24, ['9'] = 25, ['a'] = 26, ['b'] = 27,
    ['c'] = 28, ['d'] = 29, ['e'] = 30, ['f'] = 31
};


void
gate_cursor_rules_init(gate_cursor_rules_t *rules)
{
    memset(rules, 0, sizeof(gate_cursor_rules_t));

    rules->format = GATE_CURSOR_ENVELOPE;
    rules->mode = GATE_CURSOR_STRICT;
    rules->ttl = GATE_CURSOR_TTL;
    rules->skew = GATE_CURSOR_SKEW;
    rules->length = GATE_CURSOR_LENGTH;
    rules->json.depth = GATE_JSON_DEPTH;
    rules->json.members = GATE_JSON_MEMBERS;
    rules->json.digits = GATE_JSON_DIGITS;
}


gate_cursor_status_e
gate_cursor_verify(gate_cursor_t *c, const gate_cursor_rules_t *rules,
    const gate_cursor_key_t *const key[], unsigned nkeys,
    const unsigned char *s, size_t len, double now,
    gate_cursor_scratch_t *scratch)
{
    gate_cursor_call_t  call;

    c->key = -1;
    c->payload = GATE_JSON_NONE;
    c->room = scratch->text;

    if (len == 0) {
        return gate_cursor_end(c, GATE_CURSOR_ABSENT, "");
    }

    /* the second is what scratch has room for, whatever the rules say */

    if (len > rules->length || len > GATE_CURSOR_LENGTH) {
        return gate_cursor_odd(c, "it is too long");
    }

    call.rules = rules;
    call.key = key;
    call.nkeys = nkeys;
    call.now = now;
    call.scratch = scratch;

    switch (rules->format) {

    case GATE_CURSOR_DETACHED:
        return gate_cursor_detached(c, &call, s, len);

    case GATE_CURSOR_JWS:
        return gate_cursor_jws(c, &call, s, len);

    default:
        return gate_cursor_envelope(c, &call, s, len, 1);
    }
}


gate_cursor_status_e
gate_cursor_end(gate_cursor_t *c, gate_cursor_status_e status,
    const char *text)
{
    c->status = status;
    c->text_len = strnlen(text, sizeof(c->text));

    memcpy(c->text, text, c->text_len);

    return status;
}


gate_cursor_status_e
gate_cursor_odd(gate_cursor_t *c, const char *why)
{
    size_t  n, len;

    static const char  begin[] = "Invalid cursor format: ";

    n = sizeof(begin) - 1;
    len = strnlen(why, sizeof(c->text) - n);

    memcpy(c->text, begin, n);
    memcpy(c->text + n, why, len);

    c->text_len = n + len;
    c->status = GATE_CURSOR_MALFORMED;

    return GATE_CURSOR_MALFORMED;
}


gate_cursor_status_e
gate_cursor_old(gate_cursor_t *c, double age, int64_t ttl)
{
    char    number[GATE_CURSOR_TEXT];
    size_t  n;
    int     len;

    n = gate_cursor_age(number, sizeof(number), age);

    len = snprintf(c->text, sizeof(c->text),
                   "Cursor expired (age: %.*ss, TTL: %llds)", (int) n, number,
                   (long long) ttl);

    c->text_len = (size_t) len < sizeof(c->text) ? (size_t) len
                                                 : sizeof(c->text) - 1;
    c->status = GATE_CURSOR_EXPIRED;

    return GATE_CURSOR_EXPIRED;
}


/*
 * As f"{age:.1f}" in Python: rounded to even where two are as near.  Not with
 * printf's "%.1f", which writes a comma where somebody in this process has set
 * such a locale.
 */

static size_t
gate_cursor_age(char *dst, size_t size, double age)
{
    int          n;
    double       whole;
    uint64_t     part, rest, tenths;
    const char  *sign;

    sign = signbit(age) ? "-" : "";
    age = fabs(age);

    if (isinf(age)) {
        n = snprintf(dst, size, "%sinf", sign);

    } else if (age >= 0x1p53) {
        n = snprintf(dst, size, "%s%.0f.0", sign, age);

    } else {
        whole = floor(age);

        /* exact but for ages far below a tenth, and ten times it fits */

        part = (uint64_t) ((age - whole) * 0x1p60) * 10;
        tenths = part >> 60;
        rest = part & ((UINT64_C(1) << 60) - 1);

        if (rest > UINT64_C(1) << 59
            || (rest == UINT64_C(1) << 59 && (tenths & 1)))
        {
            tenths++;
        }

        n = snprintf(dst, size, "%s%llu.%u", sign,
                     (unsigned long long) whole + tenths / 10,
                     (unsigned) (tenths % 10));
    }

    return (size_t) n < size ? (size_t) n : size - 1;
}


int
gate_cursor_ring(gate_cursor_t *c, const gate_cursor_call_t *call,
    const unsigned char *s, size_t len,
    const unsigned char mac[GATE_HMAC_LEN])
{
    unsigned  i;

    for (i = 0; i < call->nkeys; i++) {
        if (call->key[i]->alg == GATE_CURSOR_HS256
            && gate_cursor_key_check(call->key[i], s, len, mac,
                                     GATE_HMAC_LEN))
        {
            c->key = (int) i;
            return 0;
        }
    }

    return -1;
}


int
gate_cursor_hex(unsigned char dst[GATE_HMAC_LEN], const unsigned char *s,
    size_t len)
{
    unsigned  i, high, low, digits;

    if (len != 2 * GATE_HMAC_LEN) {
        return -1;
    }

    digits = GATE_CURSOR_DIGIT;

    for (i = 0; i < GATE_HMAC_LEN; i++) {
        high = gate_cursor_digit[s[2 * i]];
        low = gate_cursor_digit[s[2 * i + 1]];
        digits &= high & low;

        dst[i] = (unsigned char) (high << 4 | (low & 15));
    }

    return digits ? 0 : -1;
}


int
gate_cursor_payload(gate_cursor_t *c, const gate_cursor_call_t *call,
    const unsigned char *text, size_t n)
{
    gate_json_t  *j;

    j = &c->json;

    if (gate_json_parse(j, text, n, call->scratch->node, &call->rules->json)
        != 0)
    {
        (void) gate_cursor_odd(c, j->why);
        return -1;
    }

    if (j->node[0].type != GATE_JSON_OBJECT) {
        (void) gate_cursor_odd(c, "the payload is no object");
        return -1;
    }

    if (!j->exact && gate_cursor_twice(j, 0)) {
        (void) gate_cursor_odd(c, "a name is in the payload twice");
        return -1;
    }

    c->payload = 0;

    return 0;
}


int
gate_cursor_twice(const gate_json_t *j, uint32_t object)
{
    uint16_t  order[GATE_JSON_MEMBERS];

    /* sorted: n squared long names would cost more than all the rest */

    return j->node[object].type == GATE_JSON_OBJECT
           && gate_json_order(j, object, order) != j->node[object].size;
}


int
gate_cursor_time(gate_cursor_t *c, const char *name, size_t len, double *v)
{
    uint32_t           i;
    const gate_json_t *j;

    j = &c->json;
    i = gate_json_member(j, c->payload, name, len);

    if (i == GATE_JSON_NONE) {
        return 0;
    }

    if (j->node[i].type == GATE_JSON_INT
        || j->node[i].type == GATE_JSON_FLOAT)
    {
        *v = gate_json_number(j, i);

        if (isfinite(*v)) {
            return 1;
        }
    }

    (void) gate_cursor_odd(c, "a time in it is no number");

    return -1;
}


uint32_t
gate_cursor_claim(const gate_cursor_t *c, const char *name, size_t len)
{
    if (c->status != GATE_CURSOR_VALID && c->status != GATE_CURSOR_EXPIRED) {
        return GATE_JSON_NONE;
    }

    return gate_json_member(&c->json, c->payload, name, len);
}


int
gate_cursor_claim_is(const gate_cursor_t *c, const char *name, size_t len,
    const unsigned char *value, size_t value_len)
{
    size_t                   n;
    uint32_t                 i;
    unsigned char           *claim;
    const gate_json_node_t  *node;

    i = gate_cursor_claim(c, name, len);

    if (i == GATE_JSON_NONE || value_len == 0) {
        return 0;
    }

    node = &c->json.node[i];

    claim = c->room;

    switch (node->type) {

    case GATE_JSON_STRING:
        n = gate_json_string(&c->json, i, claim);

        if (n >= GATE_CURSOR_HASHED_LEN
            && memcmp(claim, GATE_CURSOR_HASHED, GATE_CURSOR_HASHED_LEN) == 0)
        {
            return gate_cursor_hashed(claim + GATE_CURSOR_HASHED_LEN,
                                      n - GATE_CURSOR_HASHED_LEN, value,
                                      value_len);
        }

        break;

    case GATE_JSON_INT:
        n = gate_json_print(&c->json, i, claim);
        break;

    default:
        return 0;
    }

    return n == value_len && CRYPTO_memcmp(claim, value, n) == 0;
}


static int
gate_cursor_hashed(const unsigned char *claim, size_t len,
    const unsigned char *value, size_t value_len)
{
    unsigned char  want[GATE_HMAC_LEN], have[SHA256_DIGEST_LENGTH];

    if (gate_cursor_hex(want, claim, len) != 0
        || SHA256(value, value_len, have) == NULL)
    {
        return 0;
    }

    return CRYPTO_memcmp(want, have, sizeof(have)) == 0;
}

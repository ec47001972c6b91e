
#include "gate_cursor_inner.h"
#include "gate_base64.h"

#include <string.h>


static int gate_cursor_detached_mac(unsigned char mac[GATE_HMAC_LEN],
    const unsigned char *s, size_t len);
static gate_cursor_status_e gate_cursor_detached_times(gate_cursor_t *c,
    const gate_cursor_call_t *call);


gate_cursor_status_e
gate_cursor_detached(gate_cursor_t *c, const gate_cursor_call_t *call,
    const unsigned char *s, size_t len)
{
    size_t                n, seg;
    unsigned char         mac[GATE_HMAC_LEN];
    const unsigned char  *dot;

    dot = memchr(s, '.', len);

    if (dot == NULL) {
        return gate_cursor_odd(c, "it has no dot");
    }

    seg = (size_t) (dot - s);
    n = len - seg - 1;

    if (memchr(dot + 1, '.', n) != NULL) {
        return gate_cursor_odd(c, "it has more than one dot");
    }

    if (gate_cursor_detached_mac(mac, dot + 1, n) != 0) {
        return gate_cursor_odd(c, "what follows the dot is no MAC");
    }

    /* nothing of the payload is looked at before that is known */

    if (gate_cursor_ring(c, call, s, seg, mac) != 0) {
        return gate_cursor_end(c, GATE_CURSOR_BAD_SIGNATURE,
                               GATE_CURSOR_FAILED);
    }

    if (gate_base64_decode(call->scratch->bytes, &n, s, seg,
                           GATE_BASE64_EITHER) != 0)
    {
        return gate_cursor_odd(c, "the payload is not base64url");
    }

    if (gate_cursor_payload(c, call, call->scratch->bytes, n) != 0) {
        return c->status;
    }

    return gate_cursor_detached_times(c, call);
}


/* No text is both: 64 digits of base64 are 48 bytes. */

static int
gate_cursor_detached_mac(unsigned char mac[GATE_HMAC_LEN],
    const unsigned char *s, size_t len)
{
    size_t         n;
    unsigned char  room[gate_base64_decoded(2 * GATE_HMAC_LEN)];

    if (len == 2 * GATE_HMAC_LEN) {
        return gate_cursor_hex(mac, s, len);
    }

    if (len > 2 * GATE_HMAC_LEN
        || gate_base64_decode(room, &n, s, len, GATE_BASE64_EITHER) != 0
        || n != GATE_HMAC_LEN)
    {
        return -1;
    }

    memcpy(mac, room, GATE_HMAC_LEN);

    return 0;
}


static gate_cursor_status_e
gate_cursor_detached_times(gate_cursor_t *c, const gate_cursor_call_t *call)
{
    int                         has_ts, has_exp;
    double                      ts, exp, skew;
    const gate_cursor_rules_t  *rules;

    rules = call->rules;
    skew = (double) rules->skew;
    ts = 0;
    exp = 0;

    has_ts = gate_cursor_time(c, gate_cursor_str("ts"), &ts);

    if (has_ts == -1) {
        return c->status;
    }

    has_exp = gate_cursor_time(c, gate_cursor_str("exp"), &exp);

    if (has_exp == -1) {
        return c->status;
    }

    if (!has_ts && !has_exp) {
        return gate_cursor_end(c, GATE_CURSOR_MALFORMED, GATE_CURSOR_NO_TIME);
    }

    if (has_exp && call->now >= exp + skew) {
        return gate_cursor_end(c, GATE_CURSOR_EXPIRED, GATE_CURSOR_OVER);
    }

    if (has_ts && (!has_exp || rules->ttl_given)
        && call->now - ts > (double) rules->ttl)
    {
        return gate_cursor_old(c, call->now - ts, rules->ttl);
    }

    if (has_ts && rules->mode == GATE_CURSOR_STRICT && ts > call->now + skew) {
        return gate_cursor_end(c, GATE_CURSOR_FUTURE, GATE_CURSOR_LATER);
    }

    return gate_cursor_end(c, GATE_CURSOR_VALID, "");
}

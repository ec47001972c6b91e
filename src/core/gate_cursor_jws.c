
#include "gate_cursor_inner.h"
#include "gate_base64.h"

#include <string.h>


/* What the header says of the signature. */

typedef struct {
    int                   alg;         /* gate_cursor_alg_e, -1 none of them */
    int                   has_kid;
    const unsigned char  *kid;
    size_t                kid_len;
} gate_cursor_jws_t;


static int gate_cursor_jws_header(gate_cursor_t *c,
    const gate_cursor_call_t *call, const unsigned char *s, size_t len,
    gate_cursor_jws_t *h);
static int gate_cursor_jws_alg(const gate_json_t *j, uint32_t i,
    unsigned char *room);
static int gate_cursor_jws_ring(gate_cursor_t *c,
    const gate_cursor_call_t *call, const gate_cursor_jws_t *h,
    const unsigned char *s, size_t len, const unsigned char *sig,
    size_t sig_len);
static int gate_cursor_jws_id(const gate_cursor_key_t *k,
    const gate_cursor_jws_t *h);
static gate_cursor_status_e gate_cursor_jws_times(gate_cursor_t *c,
    const gate_cursor_call_t *call);


gate_cursor_status_e
gate_cursor_jws(gate_cursor_t *c, const gate_cursor_call_t *call,
    const unsigned char *s, size_t len)
{
    size_t                n, sig_len;
    gate_cursor_jws_t     h;
    const unsigned char  *payload, *sig, *last;

    memset(&h, 0, sizeof(h));

    last = s + len;
    payload = memchr(s, '.', len);
    sig = NULL;

    if (payload != NULL) {
        payload++;
        sig = memchr(payload, '.', (size_t) (last - payload));
    }

    if (sig == NULL) {
        return gate_cursor_odd(c, "it has less than three parts");
    }

    sig++;

    if (memchr(sig, '.', (size_t) (last - sig)) != NULL) {
        return gate_cursor_odd(c, "it has more than three parts");
    }

    if (gate_cursor_jws_header(c, call, s, (size_t) (payload - 1 - s), &h)
        != 0)
    {
        return c->status;
    }

    /* the payload gets its place once the signature is known to be good */

    if (gate_base64_decode(call->scratch->bytes, &sig_len, sig,
                           (size_t) (last - sig), GATE_BASE64_BARE) != 0)
    {
        return gate_cursor_odd(c, "its signature is not base64url");
    }

    if (gate_cursor_jws_ring(c, call, &h, s, (size_t) (sig - 1 - s),
                             call->scratch->bytes, sig_len) != 0)
    {
        return gate_cursor_end(c, GATE_CURSOR_BAD_SIGNATURE,
                               GATE_CURSOR_FAILED);
    }

    if (gate_base64_decode(call->scratch->bytes, &n, payload,
                           (size_t) (sig - 1 - payload), GATE_BASE64_BARE)
        != 0)
    {
        return gate_cursor_odd(c, "the payload is not base64url");
    }

    if (gate_cursor_payload(c, call, call->scratch->bytes, n) != 0) {
        return c->status;
    }

    return gate_cursor_jws_times(c, call);
}


/*
 * Keys that the header brings along or points to (jwk, jku, x5c, ..) are not
 * looked at, ever.  0, or -1 with the status set.
 */

static int
gate_cursor_jws_header(gate_cursor_t *c, const gate_cursor_call_t *call,
    const unsigned char *s, size_t len, gate_cursor_jws_t *h)
{
    size_t                  n;
    uint32_t                alg, kid;
    const char             *why;
    gate_json_t             j;
    gate_cursor_scratch_t  *scratch;

    scratch = call->scratch;

    if (gate_base64_decode(scratch->head, &n, s, len, GATE_BASE64_BARE) != 0) {
        why = "the header is not base64url";
        goto odd;
    }

    if (gate_json_parse(&j, scratch->head, n, scratch->node,
                        &call->rules->json) != 0)
    {
        why = j.why;
        goto odd;
    }

    if (j.node[0].type != GATE_JSON_OBJECT) {
        why = "the header is no object";
        goto odd;
    }

    if (!j.exact && gate_cursor_twice(&j, 0)) {
        why = "a name is in the header twice";
        goto odd;
    }

    /* all that it could list is what we do not know, and must */

    if (gate_json_member(&j, 0, gate_cursor_str("crit")) != GATE_JSON_NONE) {
        why = "its header has a critical extension";
        goto odd;
    }

    alg = gate_json_member(&j, 0, gate_cursor_str("alg"));

    if (alg == GATE_JSON_NONE || j.node[alg].type != GATE_JSON_STRING) {
        why = "its header names no algorithm";
        goto odd;
    }

    h->alg = gate_cursor_jws_alg(&j, alg, scratch->text);

    kid = gate_json_member(&j, 0, gate_cursor_str("kid"));
    h->has_kid = (kid != GATE_JSON_NONE);

    if (h->has_kid) {

        if (j.node[kid].type != GATE_JSON_STRING) {
            why = "its key id is no string";
            goto odd;
        }

        h->kid = scratch->text;
        h->kid_len = gate_json_string(&j, kid, scratch->text);
    }

    return 0;

odd:

    (void) gate_cursor_odd(c, why);

    return -1;
}


static int
gate_cursor_jws_alg(const gate_json_t *j, uint32_t i, unsigned char *room)
{
    int     alg;
    size_t  len;

    len = gate_json_string(j, i, room);

    for (alg = 0; alg < GATE_CURSOR_ALGS; alg++) {
        if (strlen(gate_cursor_alg_name[alg]) == len
            && memcmp(gate_cursor_alg_name[alg], room, len) == 0)
        {
            return alg;
        }
    }

    return -1;
}


/*
 * A key is tried with its own algorithm only; that the token must name the
 * same one keeps a public key from being taken for a secret.
 */

static int
gate_cursor_jws_ring(gate_cursor_t *c, const gate_cursor_call_t *call,
    const gate_cursor_jws_t *h, const unsigned char *s, size_t len,
    const unsigned char *sig, size_t sig_len)
{
    int                       named;
    unsigned                  i;
    const gate_cursor_key_t  *k;

    named = 0;

    for (i = 0; i < call->nkeys; i++) {
        named |= gate_cursor_jws_id(call->key[i], h);
    }

    for (i = 0; i < call->nkeys; i++) {
        k = call->key[i];

        if ((int) k->alg != h->alg) {
            continue;
        }

        if (h->has_kid
            && (named ? !gate_cursor_jws_id(k, h) : k->id_len != 0))
        {
            continue;
        }

        if (gate_cursor_key_check(k, s, len, sig, sig_len)) {
            c->key = (int) i;
            return 0;
        }
    }

    return -1;
}


static int
gate_cursor_jws_id(const gate_cursor_key_t *k, const gate_cursor_jws_t *h)
{
    return h->has_kid && k->id_len != 0 && k->id_len == h->kid_len
           && memcmp(k->id, h->kid, k->id_len) == 0;
}


static gate_cursor_status_e
gate_cursor_jws_times(gate_cursor_t *c, const gate_cursor_call_t *call)
{
    int                         has_exp, has_nbf, has_iat;
    double                      exp, nbf, iat, now, skew;
    const gate_cursor_rules_t  *rules;

    rules = call->rules;
    now = call->now;
    skew = (double) rules->skew;
    exp = 0;
    nbf = 0;
    iat = 0;

    if ((has_exp = gate_cursor_time(c, gate_cursor_str("exp"), &exp)) == -1
        || (has_nbf = gate_cursor_time(c, gate_cursor_str("nbf"), &nbf)) == -1
        || (has_iat = gate_cursor_time(c, gate_cursor_str("iat"), &iat)) == -1)
    {
        return c->status;
    }

    if (!has_exp && !has_iat) {
        return gate_cursor_end(c, GATE_CURSOR_MALFORMED, GATE_CURSOR_NO_TIME);
    }

    if (has_exp && now >= exp + skew) {
        return gate_cursor_end(c, GATE_CURSOR_EXPIRED, GATE_CURSOR_OVER);
    }

    if (has_iat && (!has_exp || rules->ttl_given)
        && now - iat > (double) rules->ttl)
    {
        return gate_cursor_old(c, now - iat, rules->ttl);
    }

    if ((has_nbf && now < nbf - skew) || (has_iat && now < iat - skew)) {
        return gate_cursor_end(c, GATE_CURSOR_FUTURE, GATE_CURSOR_LATER);
    }

    return gate_cursor_end(c, GATE_CURSOR_VALID, "");
}

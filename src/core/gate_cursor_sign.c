
#include "gate_cursor_inner.h"
#include "gate_base64.h"

#include <stdio.h>
#include <string.h>


#define GATE_CURSOR_PAYLOAD  2048


/* A container that is being printed. */

typedef struct {
    uint32_t  end;                     /* the node after its last one */
    uint32_t  n;                       /* nodes of its own so far */
    int       object;
} gate_cursor_open_t;


static const char *gate_cursor_sign_check(gate_json_t *j,
    gate_cursor_format_e format, const unsigned char *payload, size_t len,
    gate_cursor_scratch_t *scratch);
static size_t gate_cursor_sign_envelope(unsigned char *dst,
    const gate_cursor_key_t *key, const gate_json_t *j,
    gate_cursor_scratch_t *scratch, const char **why);
static unsigned char *gate_cursor_sign_print(unsigned char *p,
    const gate_json_t *j);
static size_t gate_cursor_sign_detached(unsigned char *dst,
    const gate_cursor_key_t *key, const unsigned char *payload, size_t len);
static size_t gate_cursor_sign_jws(unsigned char *dst,
    const gate_cursor_key_t *key, const unsigned char *payload, size_t len,
    const char **why);
static size_t gate_cursor_sign_header(char *dst, size_t size,
    const gate_cursor_key_t *key);
static unsigned char *gate_cursor_sign_hex(unsigned char *dst,
    const unsigned char *s, size_t len);


size_t
gate_cursor_sign(unsigned char *dst, gate_cursor_format_e format,
    const gate_cursor_key_t *key, const unsigned char *payload, size_t len,
    gate_cursor_scratch_t *scratch, const char **why)
{
    size_t       n;
    gate_json_t  j;

    *why = gate_cursor_sign_check(&j, format, payload, len, scratch);

    if (*why == NULL && format != GATE_CURSOR_JWS
        && key->alg != GATE_CURSOR_HS256)
    {
        *why = "the format needs a key of HS256";
    }

    if (*why == NULL && key->pkey != NULL && !key->secret) {
        *why = "a public key signs nothing";
    }

    if (*why != NULL) {
        return 0;
    }

    switch (format) {

    case GATE_CURSOR_DETACHED:
        n = gate_cursor_sign_detached(dst, key, payload, len);
        break;

    case GATE_CURSOR_JWS:
        n = gate_cursor_sign_jws(dst, key, payload, len, why);
        break;

    default:
        n = gate_cursor_sign_envelope(dst, key, &j, scratch, why);
    }

    if (n == 0 && *why == NULL) {
        *why = "the library cannot sign";
    }

    return n;
}


/* What is refused here would be refused, or read in two ways, by others. */

static const char *
gate_cursor_sign_check(gate_json_t *j, gate_cursor_format_e format,
    const unsigned char *payload, size_t len, gate_cursor_scratch_t *scratch)
{
    uint32_t             i;
    gate_cursor_rules_t  rules;

    if (len > GATE_CURSOR_PAYLOAD) {
        return "the payload is too long";
    }

    gate_cursor_rules_init(&rules);

    if (format == GATE_CURSOR_ENVELOPE) {
        rules.json.depth--;
    }

    if (gate_json_parse(j, payload, len, scratch->node, &rules.json) != 0) {
        return j->why;
    }

    if (j->node[0].type != GATE_JSON_OBJECT) {
        return "the payload is no object";
    }

    for (i = 0; i < j->n && !j->exact; i++) {
        if (gate_cursor_twice(j, i)) {
            return "a name is in the payload twice";
        }
    }

    return NULL;
}


static size_t
gate_cursor_sign_envelope(unsigned char *dst, const gate_cursor_key_t *key,
    const gate_json_t *j, gate_cursor_scratch_t *scratch, const char **why)
{
    size_t          n;
    const void     *part[1];
    unsigned char  *p, mac[GATE_HMAC_LONG_LEN];

    static const char  begin[] = "{\"payload\":";
    static const char  middle[] = ",\"sig\":\"";

    part[0] = scratch->text;
    n = gate_json_print(j, 0, scratch->text);

    if (gate_cursor_key_sign(key, part, &n, 1, mac) == 0) {
        return 0;
    }

    p = scratch->text;

    memcpy(p, begin, sizeof(begin) - 1);
    p = gate_cursor_sign_print(p + sizeof(begin) - 1, j);
    memcpy(p, middle, sizeof(middle) - 1);
    p = gate_cursor_sign_hex(p + sizeof(middle) - 1, mac, GATE_HMAC_LEN);
    *p++ = '"';
    *p++ = '}';

    n = (size_t) (p - scratch->text);

    if (gate_base64_encoded(n) > GATE_CURSOR_LENGTH) {
        *why = "the cursor is too long";
        return 0;
    }

    return gate_base64_encode(dst, scratch->text, n, 1);
}


/*
 * As json.dumps() does without sort_keys: all tokens anew, in their order.
 * Nodes are in the order of the text, so only what is open must be kept.
 */

static unsigned char *
gate_cursor_sign_print(unsigned char *p, const gate_json_t *j)
{
    unsigned                 depth;
    uint32_t                 i;
    gate_cursor_open_t      *top, open[GATE_JSON_DEPTH];
    const gate_json_node_t  *node;

    depth = 0;
    top = open;
    memset(top, 0, sizeof(gate_cursor_open_t));

    for (i = 0; /* void */ ; i++) {

        while (depth > 0 && top->end == i) {
            *p++ = top->object ? '}' : ']';
            top = &open[--depth];
        }

        if (i == j->n) {
            return p;
        }

        if (top->n++ > 0) {
            *p++ = (top->object && top->n % 2 == 0) ? ':' : ',';
        }

        node = &j->node[i];

        if (node->type != GATE_JSON_OBJECT && node->type != GATE_JSON_ARRAY) {
            p += gate_json_print(j, i, p);
            continue;
        }

        top = &open[++depth];
        top->end = node->next;
        top->n = 0;
        top->object = (node->type == GATE_JSON_OBJECT);

        *p++ = top->object ? '{' : '[';
    }
}


static size_t
gate_cursor_sign_detached(unsigned char *dst, const gate_cursor_key_t *key,
    const unsigned char *payload, size_t len)
{
    size_t          n;
    const void     *part[1];
    unsigned char  *p, mac[GATE_HMAC_LONG_LEN];

    part[0] = dst;
    n = gate_base64_encode(dst, payload, len, 0);

    if (gate_cursor_key_sign(key, part, &n, 1, mac) == 0) {
        return 0;
    }

    p = dst + n;
    *p++ = '.';
    p = gate_cursor_sign_hex(p, mac, GATE_HMAC_LEN);

    return (size_t) (p - dst);
}


static size_t
gate_cursor_sign_jws(unsigned char *dst, const gate_cursor_key_t *key,
    const unsigned char *payload, size_t len, const char **why)
{
    char            header[GATE_CURSOR_ID + 64];
    size_t          n;
    const void     *part[1];
    unsigned char  *p, sig[64];

    n = gate_cursor_sign_header(header, sizeof(header), key);

    if (n == 0) {
        *why = "the id of the key is not printable ASCII without quotes";
        return 0;
    }

    p = dst + gate_base64_encode(dst, (unsigned char *) header, n, 0);
    *p++ = '.';
    p += gate_base64_encode(p, payload, len, 0);

    part[0] = dst;
    n = (size_t) (p - dst);
    n = gate_cursor_key_sign(key, part, &n, 1, sig);

    if (n == 0) {
        return 0;
    }

    *p++ = '.';
    p += gate_base64_encode(p, sig, n, 0);

    return (size_t) (p - dst);
}


static size_t
gate_cursor_sign_header(char *dst, size_t size, const gate_cursor_key_t *key)
{
    int     n;
    size_t  i;

    for (i = 0; i < key->id_len; i++) {
        if (key->id[i] < 0x20 || key->id[i] > 0x7e || key->id[i] == '"'
            || key->id[i] == '\\')
        {
            return 0;
        }
    }

    if (key->id_len == 0) {
        n = snprintf(dst, size, "{\"alg\":\"%s\"}",
                     gate_cursor_alg_name[key->alg]);

    } else {
        n = snprintf(dst, size, "{\"alg\":\"%s\",\"kid\":\"%.*s\"}",
                     gate_cursor_alg_name[key->alg], (int) key->id_len,
                     key->id);
    }

    return (n > 0 && (size_t) n < size) ? (size_t) n : 0;
}


static unsigned char *
gate_cursor_sign_hex(unsigned char *dst, const unsigned char *s, size_t len)
{
    size_t  i;

    static const char  hex[] = "0123456789abcdef";

    for (i = 0; i < len; i++) {
        *dst++ = (unsigned char) hex[s[i] >> 4];
        *dst++ = (unsigned char) hex[s[i] & 15];
    }

    return dst;
}

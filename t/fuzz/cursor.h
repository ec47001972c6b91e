
/*
 * What the fuzzers of cursors share.
 */


#ifndef _FUZZ_CURSOR_H_INCLUDED_
#define _FUZZ_CURSOR_H_INCLUDED_


#include "../../src/core/gate_base64.c"
#include "../../src/core/gate_cursor.c"
#include "../../src/core/gate_cursor_detached.c"
#include "../../src/core/gate_cursor_envelope.c"
#include "../../src/core/gate_cursor_jws.c"
#include "../../src/core/gate_cursor_key.c"
#include "../../src/core/gate_cursor_sign.c"
#include "../../src/core/gate_float.c"
#include "../../src/core/gate_hmac.c"
#include "../../src/core/gate_json.c"
#include "../../src/core/gate_json_print.c"

#include <stdlib.h>


#define FUZZ_NOW     1760493130.25
#define FUZZ_KEYS    3
#define FUZZ_CURSOR  (2 * GATE_CURSOR_LENGTH)

#define fuzz_check(expr)  do { if (!(expr)) { __builtin_trap(); } } while (0)


/* one each: they stay what the result of the last verification refers to */

static gate_cursor_scratch_t  fuzz_scratch;
static gate_cursor_scratch_t  fuzz_other;

static gate_cursor_key_t         fuzz_keys[FUZZ_KEYS];
static const gate_cursor_key_t  *fuzz_ring[FUZZ_KEYS];


static inline void
fuzz_keys_init(void)
{
    size_t       i;
    const char  *why;

    static const char *const  text[FUZZ_KEYS] = {
        "test-cursor-secret-for-pagination",
        "-----BEGIN PUBLIC KEY-----\n"
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV7\n"
        "6e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\n"
        "-----END PUBLIC KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\n"
        "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
        "-----END PUBLIC KEY-----\n"
    };

    if (fuzz_ring[0] != NULL) {
        return;
    }

    for (i = 0; i < FUZZ_KEYS; i++) {
        fuzz_check(gate_cursor_key_init(&fuzz_keys[i], -1,
                                        GATE_CURSOR_KEY_AUTO,
                                        (const unsigned char *) text[i],
                                        strlen(text[i]), &why) == 0);
        fuzz_ring[i] = &fuzz_keys[i];
    }

    fuzz_keys[2].id_len = 1;
    fuzz_keys[2].id[0] = 'e';
}


/* Whatever the result, this is true of it. */

static inline void
fuzz_result(const gate_cursor_t *c)
{
    size_t  i;

    fuzz_check(c->status < GATE_CURSOR_STATUSES);
    fuzz_check(c->status != GATE_CURSOR_MISMATCH
               && c->status != GATE_CURSOR_DUPLICATE);
    fuzz_check(c->text_len <= GATE_CURSOR_TEXT);
    fuzz_check((c->text_len == 0) == (c->status == GATE_CURSOR_VALID
                                      || c->status == GATE_CURSOR_ABSENT));
    fuzz_check(c->key >= -1 && c->key < FUZZ_KEYS);

    for (i = 0; i < c->text_len; i++) {
        fuzz_check(c->text[i] >= 0x20 && c->text[i] < 0x7f
                   && c->text[i] != '"' && c->text[i] != '\\');
    }

    switch (c->status) {

    case GATE_CURSOR_VALID:
    case GATE_CURSOR_EXPIRED:
        fuzz_check(c->key != -1);
        fuzz_check(c->payload < c->json.n);
        fuzz_check(c->json.node[c->payload].type == GATE_JSON_OBJECT);
        break;

    case GATE_CURSOR_BAD_SIGNATURE:
        fuzz_check(c->key == -1);
        break;

    default:
        break;
    }
}


/*
 * Verifies it where its memory ends with it, and in the middle of some: the
 * same.  The first result is what c has.
 */

static inline void
fuzz_verify(gate_cursor_t *c, const gate_cursor_rules_t *rules,
    const unsigned char *s, size_t len)
{
    gate_cursor_t   d;
    unsigned char  *exact, *more;

    exact = malloc(len ? len : 1);
    more = malloc(len + 64);
    fuzz_check(exact != NULL && more != NULL);

    if (len != 0) {
        memcpy(exact, s, len);
        memcpy(more, s, len);
    }

    memset(more + len, '=', 64);
    memset(&fuzz_other, '=', sizeof(fuzz_other));

    gate_cursor_verify(&d, rules, fuzz_ring, FUZZ_KEYS, more, len, FUZZ_NOW,
                       &fuzz_other);
    gate_cursor_verify(c, rules, fuzz_ring, FUZZ_KEYS, exact, len, FUZZ_NOW,
                       &fuzz_scratch);

    fuzz_result(c);

    fuzz_check(c->status == d.status && c->key == d.key
               && c->text_len == d.text_len
               && memcmp(c->text, d.text, c->text_len) == 0);

    free(exact);
    free(more);
}


/* A number that depends on the input, and on which of them it is. */

static inline size_t
fuzz_pick(const unsigned char *data, size_t size, size_t i, size_t n)
{
    size_t    k;
    uint64_t  h;

    h = UINT64_C(14695981039346656037) + i;

    for (k = 0; k < size; k++) {
        h = (h ^ data[k]) * UINT64_C(1099511628211);
    }

    return (size_t) ((h >> 20) % n);
}


#endif /* _FUZZ_CURSOR_H_INCLUDED_ */

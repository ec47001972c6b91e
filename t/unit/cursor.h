
/*
 * What the tests of cursors share: the sources, two keys, and envelopes whose
 * signature is made by other code than that which verifies.
 */


#ifndef _CURSOR_H_INCLUDED_
#define _CURSOR_H_INCLUDED_


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

#include <openssl/hmac.h>

#include "tap.h"


#define TEST_SECRET  "a secret of thirty-two characters"
#define TEST_NOW     1760493130.25


static gate_cursor_scratch_t  test_scratch;
static gate_cursor_rules_t    test_rules;
static gate_cursor_key_t      test_keys[GATE_CURSOR_KEYS];
static unsigned               test_nkeys;
static gate_cursor_t          test_c;


static inline void
test_key(const char *text, const char *id, int alg)
{
    const char         *why;
    gate_cursor_key_t  *k;

    k = &test_keys[test_nkeys++];

    if (gate_cursor_key_init(k, alg, GATE_CURSOR_KEY_AUTO,
                             (const unsigned char *) text, strlen(text), &why)
        != 0)
    {
        printf("Bail out! %s\n", why);
        exit(1);
    }

    k->id_len = strlen(id);
    memcpy(k->id, id, k->id_len);
}


/* No keys, and the rules by default with that format. */

static inline void
test_begin(gate_cursor_format_e format)
{
    while (test_nkeys > 0) {
        gate_cursor_key_wipe(&test_keys[--test_nkeys]);
    }

    gate_cursor_rules_init(&test_rules);
    test_rules.format = format;
}


/* "status: text" of that cursor, which ends where its memory does. */

static inline const char *
test_verify(const char *s, size_t len)
{
    unsigned                  i;
    unsigned char            *copy;
    const gate_cursor_key_t  *ring[GATE_CURSOR_KEYS];

    static char  out[2 * GATE_CURSOR_TEXT];

    for (i = 0; i < test_nkeys; i++) {
        ring[i] = &test_keys[i];
    }

    copy = tap_copy(s, len);

    gate_cursor_verify(&test_c, &test_rules, ring, test_nkeys, copy, len,
                       TEST_NOW, &test_scratch);
    free(copy);

    snprintf(out, sizeof(out), "%s%s%.*s",
             gate_cursor_status_name[test_c.status],
             test_c.text_len ? ": " : "", (int) test_c.text_len, test_c.text);

    return out;
}


static inline int
test_says(const char *s, const char *want)
{
    const char  *have;

    have = test_verify(s, strlen(s));

    if (strcmp(have, want) != 0) {
        printf("# %s\n# is:  %s\n# not: %s\n", s, have, want);
        return 0;
    }

    return 1;
}


/* base64url, padded or not; into one of some buffers */

static inline char *
test_base64(const char *s, size_t len, int padded)
{
    size_t  n;
    char   *p;

    static char      room[8][4 * GATE_CURSOR_LENGTH];
    static unsigned  i;

    p = room[i++ % 8];

    if (gate_base64_encoded(len) >= sizeof(room[0])) {
        abort();
    }

    n = gate_base64_encode((unsigned char *) p, (const unsigned char *) s,
                           len, padded);
    p[n] = '\0';

    return p;
}


/* what the text is signed with, in hexadecimal */

static inline const char *
test_mac(const char *secret, const char *text)
{
    unsigned       i, n;
    unsigned char  mac[EVP_MAX_MD_SIZE];

    static char  hex[65];

    HMAC(EVP_sha256(), secret, (int) strlen(secret),
         (const unsigned char *) text, strlen(text), mac, &n);

    for (i = 0; i < n; i++) {
        sprintf(hex + 2 * i, "%02x", mac[i]);
    }

    return hex;
}


/* an envelope of that payload, signed as if it were the other text */

static inline char *
test_envelope(const char *payload, const char *as)
{
    int   n;
    char  text[2 * GATE_CURSOR_LENGTH];

    n = snprintf(text, sizeof(text), "{\"payload\":%s,\"sig\":\"%s\"}",
                 payload, test_mac(TEST_SECRET, as));

    return test_base64(text, (size_t) n, 1);
}


/* the same where the payload is printed as it stands */

static inline char *
test_plain(const char *payload)
{
    return test_envelope(payload, payload);
}


#endif /* _CURSOR_H_INCLUDED_ */

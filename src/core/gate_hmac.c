
#include "gate_hmac.h"

#include <string.h>

#include <openssl/crypto.h>


/*
 * OpenSSL 3 deprecates the low-level digest calls because they bypass its
 * providers.  That is what makes them fit here: no fetch, no allocation, no
 * lock, and a state that a plain assignment copies.
 */

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"


#define GATE_HMAC_BLOCK       64
#define GATE_HMAC_LONG_BLOCK  128


static int gate_hmac_pad(SHA256_CTX *ctx, const unsigned char *key,
    unsigned char pad);
static int gate_hmac_long_start(SHA512_CTX *ctx, size_t mac_len);
static int gate_hmac_long_pad(SHA512_CTX *ctx, size_t mac_len,
    const unsigned char *key, unsigned char pad);


int
gate_hmac_init(gate_hmac_t *h, const unsigned char *key, size_t len)
{
    int            rc;
    SHA256_CTX     ctx;
    unsigned char  block[GATE_HMAC_BLOCK];

    rc = -1;
    memset(block, 0, sizeof(block));

    if (len == 0) {
        goto done;
    }

    if (len <= sizeof(block)) {
        memcpy(block, key, len);

    } else if (!SHA256_Init(&ctx)
               || !SHA256_Update(&ctx, key, len)
               || !SHA256_Final(block, &ctx))
    {
        goto done;
    }

    if (gate_hmac_pad(&h->inner, block, 0x36) == 0
        && gate_hmac_pad(&h->outer, block, 0x5c) == 0)
    {
        rc = 0;
    }

done:

    OPENSSL_cleanse(block, sizeof(block));

    if (rc != 0) {
        gate_hmac_wipe(h);
    }

    return rc;
}


int
gate_hmac_sign(const gate_hmac_t *h, const void *const part[],
    const size_t len[], size_t n, unsigned char mac[GATE_HMAC_LEN])
{
    int         rc;
    size_t      i;
    SHA256_CTX  ctx;

    rc = -1;
    ctx = h->inner;

    for (i = 0; i < n; i++) {
        if (len[i] != 0 && !SHA256_Update(&ctx, part[i], len[i])) {
            goto done;
        }
    }

    if (!SHA256_Final(mac, &ctx)) {
        goto done;
    }

    ctx = h->outer;

    if (SHA256_Update(&ctx, mac, GATE_HMAC_LEN)
        && SHA256_Final(mac, &ctx))
    {
        rc = 0;
    }

done:

    OPENSSL_cleanse(&ctx, sizeof(ctx));

    if (rc != 0) {
        OPENSSL_cleanse(mac, GATE_HMAC_LEN);
    }

    return rc;
}


void
gate_hmac_wipe(gate_hmac_t *h)
{
    OPENSSL_cleanse(h, sizeof(gate_hmac_t));
}


static int
gate_hmac_pad(SHA256_CTX *ctx, const unsigned char *key, unsigned char pad)
{
    int            ok;
    size_t         i;
    unsigned char  block[GATE_HMAC_BLOCK];

    for (i = 0; i < sizeof(block); i++) {
        block[i] = key[i] ^ pad;
    }

    ok = SHA256_Init(ctx) && SHA256_Update(ctx, block, sizeof(block));

    OPENSSL_cleanse(block, sizeof(block));

    return ok ? 0 : -1;
}


int
gate_hmac_long_init(gate_hmac_long_t *h, size_t mac_len,
    const unsigned char *key, size_t len)
{
    int            rc;
    SHA512_CTX     ctx;
    unsigned char  block[GATE_HMAC_LONG_BLOCK];

    rc = -1;
    memset(block, 0, sizeof(block));

    if (len == 0 || (mac_len != 48 && mac_len != 64)) {
        goto done;
    }

    if (len <= sizeof(block)) {
        memcpy(block, key, len);

    } else if (gate_hmac_long_start(&ctx, mac_len) != 0
               || !SHA512_Update(&ctx, key, len)
               || !SHA512_Final(block, &ctx))
    {
        goto done;
    }

    if (gate_hmac_long_pad(&h->inner, mac_len, block, 0x36) == 0
        && gate_hmac_long_pad(&h->outer, mac_len, block, 0x5c) == 0)
    {
        h->len = mac_len;
        rc = 0;
    }

done:

    OPENSSL_cleanse(block, sizeof(block));

    if (rc != 0) {
        gate_hmac_long_wipe(h);
    }

    return rc;
}


int
gate_hmac_long_sign(const gate_hmac_long_t *h, const void *const part[],
    const size_t len[], size_t n, unsigned char mac[GATE_HMAC_LONG_LEN])
{
    int         rc;
    size_t      i;
    SHA512_CTX  ctx;

    rc = -1;
    ctx = h->inner;

    for (i = 0; i < n; i++) {
        if (len[i] != 0 && !SHA512_Update(&ctx, part[i], len[i])) {
            goto done;
        }
    }

    if (!SHA512_Final(mac, &ctx)) {
        goto done;
    }

    ctx = h->outer;

    if (SHA512_Update(&ctx, mac, h->len) && SHA512_Final(mac, &ctx)) {
        rc = 0;
    }

done:

    OPENSSL_cleanse(&ctx, sizeof(ctx));

    if (rc != 0) {
        OPENSSL_cleanse(mac, GATE_HMAC_LONG_LEN);
    }

    return rc;
}


void
gate_hmac_long_wipe(gate_hmac_long_t *h)
{
    OPENSSL_cleanse(h, sizeof(gate_hmac_long_t));
}


/* The state remembers which of the two it is. */

static int
gate_hmac_long_start(SHA512_CTX *ctx, size_t mac_len)
{
    return (mac_len == 48 ? SHA384_Init(ctx) : SHA512_Init(ctx)) ? 0 : -1;
}


static int
gate_hmac_long_pad(SHA512_CTX *ctx, size_t mac_len, const unsigned char *key,
    unsigned char pad)
{
    int            ok;
    size_t         i;
    unsigned char  block[GATE_HMAC_LONG_BLOCK];

    for (i = 0; i < sizeof(block); i++) {
        block[i] = key[i] ^ pad;
    }

    ok = gate_hmac_long_start(ctx, mac_len) == 0
         && SHA512_Update(ctx, block, sizeof(block));

    OPENSSL_cleanse(block, sizeof(block));

    return ok ? 0 : -1;
}

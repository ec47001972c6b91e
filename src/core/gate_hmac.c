
#include "gate_hmac.h"

#include <string.h>

#include <openssl/crypto.h>


/*
 * OpenSSL 3 deprecates the low-level digest calls because they bypass its
 * providers.  That is what makes them fit here: no fetch, no allocation, no
 * lock, and a state that a plain assignment copies.
 */

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"


#define GATE_HMAC_BLOCK  64


static int gate_hmac_pad(SHA256_CTX *ctx, const unsigned char *key,
    unsigned char pad);


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

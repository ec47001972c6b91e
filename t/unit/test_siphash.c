
#include "../../src/core/gate_siphash.c"

#include "tap.h"

#include <openssl/evp.h>
#include <openssl/params.h>


/* the first of vectors_sip64 of the reference implementation */

static const uint64_t  test_vectors[] = {
    UINT64_C(0x726fdb47dd0e0e31), UINT64_C(0x74f839c593dc67fd),
    UINT64_C(0x0d6c8009d9a94f5a), UINT64_C(0x85676696d7fb7e2d),
    UINT64_C(0xcf2794e0277187b7), UINT64_C(0x18765564cd99a68d),
    UINT64_C(0xcbc9466e58fee3ce), UINT64_C(0xab0200f58b01d137),
    UINT64_C(0x93f5f5799a932462), UINT64_C(0x9e0082df0ba9e4b0),
    UINT64_C(0x7a5dbbc594ddb9f3), UINT64_C(0xf4b32f46226bada7),
    UINT64_C(0x751e8fbc860ee5fb), UINT64_C(0x14ea5627c0843d90),
    UINT64_C(0xf723ca908e7af2ee), UINT64_C(0xa129ca6149be45e5),
};


static uint64_t
test_openssl(const unsigned char *in, size_t len, unsigned c, unsigned d)
{
    size_t         i, size, out;
    EVP_MAC       *mac;
    uint64_t       h;
    OSSL_PARAM     params[4];
    EVP_MAC_CTX   *ctx;
    unsigned char  key[16], md[8];

    for (i = 0; i < 16; i++) {
        key[i] = (unsigned char) i;
    }

    h = 0;
    size = sizeof(md);
    params[0] = OSSL_PARAM_construct_size_t("size", &size);
    params[1] = OSSL_PARAM_construct_uint("c-rounds", &c);
    params[2] = OSSL_PARAM_construct_uint("d-rounds", &d);
    params[3] = OSSL_PARAM_construct_end();

    mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
    ctx = EVP_MAC_CTX_new(mac);

    if (EVP_MAC_init(ctx, key, sizeof(key), params)
        && EVP_MAC_update(ctx, in, len)
        && EVP_MAC_final(ctx, md, &out, sizeof(md)))
    {
        for (i = 0; i < 8; i++) {
            h |= (uint64_t) md[i] << (8 * i);
        }
    }

    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);

    return h;
}


int
main(void)
{
    size_t          i, bad;
    uint64_t        key[2], h;
    unsigned char   in[65], *p;

    for (i = 0; i < sizeof(in); i++) {
        in[i] = (unsigned char) i;
    }

    key[0] = UINT64_C(0x0706050403020100);
    key[1] = UINT64_C(0x0f0e0d0c0b0a0908);

    for (i = 0; i < 16; i++) {
        p = tap_copy(in, i);
        h = gate_siphash(key, p, i);
        free(p);

        tap_ok(h == test_vectors[i], "reference vector of %zu bytes", i);
    }

    tap_ok(gate_siphash(key, NULL, 0) == test_vectors[0],
           "NULL is an empty input");

    bad = 0;

    for (i = 0; i < 64; i++) {
        p = tap_copy(in, i + 1);
        h = gate_siphash(key, p, i + 1);
        p[i] ^= 1;
        bad += (h == gate_siphash(key, p, i + 1));
        free(p);
    }

    tap_ok(bad == 0, "the last byte counts at every length");

    bad = 0;

    for (i = 0; i <= sizeof(in); i++) {
        bad += (gate_siphash(key, in, i) != test_openssl(in, i, 2, 4));
    }

    tap_ok(bad == 0, "equal to OpenSSL's up to 65 bytes");

    bad = 0;

    for (i = 0; i <= sizeof(in); i++) {
        bad += (gate_siphash_short(key, in, i) != test_openssl(in, i, 1, 3));
    }

    tap_ok(bad == 0, "the short one too, with its rounds");

    h = gate_siphash(key, in, 64);
    key[1] ^= 1;
    tap_ok(h != gate_siphash(key, in, 64), "the key counts");

    return tap_done();
}

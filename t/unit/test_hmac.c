
#include "../../src/core/gate_hmac.c"

#include "tap.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>


/* RFC 4231, section 4; case 5 is of a truncated one */

typedef struct {
    const char  *name;
    int          key;                  /* this byte, or -1: the text */
    size_t       key_len;
    const char  *key_text;
    int          data;
    size_t       data_len;
    const char  *data_text;
    const char  *mac[3];               /* SHA-256, -384, -512 */
} test_vector_t;


static const test_vector_t  test_vectors[] = {
    { "case 1", 0x0b, 20, NULL, -1, 8, "Hi There",
      { "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59c"
        "faea9ea9076ede7f4af152e8b2fa9cb6",
        "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"
        "daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854" } },

    { "case 2", -1, 4, "Jefe", -1, 28, "what do ya want for nothing?",
      { "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e"
        "8e2240ca5e69e2c78b3239ecfab21649",
        "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
        "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737" } },

    { "case 3", 0xaa, 20, NULL, 0xdd, 50, NULL,
      { "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        "88062608d3e6ad8a0aa2ace014c8a86f0aa635d947ac9febe83ef4e55966144b"
        "2a5ab39dc13814b94e3ab6e101a34f27",
        "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39"
        "bf3e848279a722c806b485a47e67c807b946a337bee8942674278859e13292fb" } },

    { "case 6", 0xaa, 131, NULL, -1, 54,
      "Test Using Larger Than Block-Size Key - Hash Key First",
      { "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c6"
        "0c2ef6ab4030fe8296248df163f44952",
        "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352"
        "6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598" } },

    { "case 7", 0xaa, 131, NULL, -1, 152,
      "This is a test using a larger than block-size key and a larger than "
      "block-size data. The key needs to be hashed before being used by the "
      "HMAC algorithm.",
      { "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        "6617178e941f020d351e2f254e8fd32c602420feb0b8fb9adccebb82461e99c5"
        "a678cc31e799176d3860e6110c46523e",
        "e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944"
        "b6022cac3c4982b10d5eeb55c3e4de15134676fb6de0446065c97440fa8c6a58" } }
};


static size_t
test_bytes(unsigned char *dst, int byte, size_t len, const char *text)
{
    if (byte == -1) {
        memcpy(dst, text, len);

    } else {
        memset(dst, byte, len);
    }

    return len;
}


static int
test_equal(const unsigned char *mac, size_t len, const char *hex)
{
    size_t    i;
    unsigned  v;

    for (i = 0; i < len; i++) {
        if (sscanf(hex + 2 * i, "%2x", &v) != 1 || v != mac[i]) {
            return 0;
        }
    }

    return hex[2 * len] == '\0';
}


static void
test_rfc(const test_vector_t *v)
{
    size_t            i, key_len, len[1];
    const void       *part[1];
    gate_hmac_t       h;
    unsigned char     key[200], data[200], mac[GATE_HMAC_LONG_LEN];
    gate_hmac_long_t  l;

    key_len = test_bytes(key, v->key, v->key_len, v->key_text);
    len[0] = test_bytes(data, v->data, v->data_len, v->data_text);
    part[0] = data;

    tap_ok(gate_hmac_init(&h, key, key_len) == 0
           && gate_hmac_sign(&h, part, len, 1, mac) == 0
           && test_equal(mac, 32, v->mac[0]), "RFC 4231, %s, SHA-256",
           v->name);

    for (i = 1; i < 3; i++) {
        tap_ok(gate_hmac_long_init(&l, 32 + 16 * i, key, key_len) == 0
               && gate_hmac_long_sign(&l, part, len, 1, mac) == 0
               && test_equal(mac, 32 + 16 * i, v->mac[i]),
               "RFC 4231, %s, SHA-%s", v->name, i == 1 ? "384" : "512");
    }
}


static void
test_parts(void)
{
    size_t            i, j, n, len[3], mac_len, bad;
    unsigned          size;
    uint64_t          state;
    const void       *part[3];
    unsigned char     key[300], data[400], mac[GATE_HMAC_LONG_LEN], ref[64];
    gate_hmac_long_t  h;

    state = 7;
    bad = 0;

    for (i = 0; i < sizeof(data); i++) {
        data[i] = (unsigned char) tap_random(&state);
        key[i % sizeof(key)] = (unsigned char) tap_random(&state);
    }

    for (i = 0; i < 2000; i++) {
        n = 1 + tap_random(&state) % sizeof(key);
        mac_len = (i & 1) ? 48 : 64;

        part[0] = data;
        len[0] = tap_random(&state) % 130;

        for (j = 1; j < 3; j++) {
            part[j] = (const unsigned char *) part[j - 1] + len[j - 1];
            len[j] = tap_random(&state) % 130;
        }

        HMAC((i & 1) ? EVP_sha384() : EVP_sha512(), key, (int) n, data,
             len[0] + len[1] + len[2], ref, &size);

        bad += gate_hmac_long_init(&h, mac_len, key, n) != 0
               || gate_hmac_long_sign(&h, part, len, 3, mac) != 0
               || size != mac_len || memcmp(mac, ref, mac_len) != 0;
    }

    tap_ok(bad == 0, "long ones of 2000 keys and texts in three parts are "
           "those of the library");
}


static void
test_refused(void)
{
    size_t            i;
    unsigned char     zero[sizeof(gate_hmac_long_t)];
    gate_hmac_long_t  h;

    static const size_t  lens[] = { 0, 32, 47, 49, 63, 65 };

    memset(zero, 0, sizeof(zero));
    memset(&h, 1, sizeof(h));

    tap_ok(gate_hmac_long_init(&h, 48, zero, 0) == -1
           && memcmp(&h, zero, sizeof(h)) == 0,
           "a long one of an empty key is refused and wiped");

    for (i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        tap_ok(gate_hmac_long_init(&h, lens[i], zero, 1) == -1,
               "a long one of %zu bytes is refused", lens[i]);
    }
}


int
main(void)
{
    size_t  i;

    for (i = 0; i < sizeof(test_vectors) / sizeof(test_vectors[0]); i++) {
        test_rfc(&test_vectors[i]);
    }

    test_parts();
    test_refused();

    return tap_done();
}


#include "gate_cursor_inner.h"
#include "gate_base64.h"

#include <string.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>


#define GATE_CURSOR_KEY_MAX   65536
#define GATE_CURSOR_KEY_LEAST 32       /* bytes of a strong one */

#define GATE_CURSOR_HALF      32       /* r or s of P-256 */
#define GATE_CURSOR_SIG_LEN   64       /* of ES256 and EdDSA */
#define GATE_CURSOR_DER       72       /* of ES256, at most */

#define GATE_CURSOR_ONLY                                                      \
    "it holds no key of P-256 or Ed25519, the only ones that are allowed "    \
    "in PEM"


static int gate_cursor_key_has(const unsigned char *s, size_t len,
    const char *word);
static const char *gate_cursor_key_text(gate_cursor_key_t *k, int alg,
    gate_cursor_form_e form, const unsigned char *s, size_t len);
static size_t gate_cursor_key_line(const unsigned char *s, size_t len);
static int gate_cursor_key_hex(unsigned char *dst, size_t *n);
static int gate_cursor_key_base64(unsigned char *dst, size_t *n);
static const char *gate_cursor_key_secret(gate_cursor_key_t *k, int alg,
    const unsigned char *s, size_t len);
static int gate_cursor_key_weak(const unsigned char *s, size_t len);
static const char *gate_cursor_key_pem(gate_cursor_key_t *k, int alg,
    const unsigned char *s, size_t len);
static EVP_PKEY *gate_cursor_key_read(const unsigned char *s, size_t len,
    int *secret);
static int gate_cursor_key_quiet(char *buf, int size, int rwflag, void *data);
static int gate_cursor_key_alg(EVP_PKEY *pkey);
static int gate_cursor_key_mac(const gate_cursor_key_t *k,
    const void *const part[], const size_t len[], size_t n,
    unsigned char mac[GATE_HMAC_LONG_LEN]);
static size_t gate_cursor_key_mac_len(const gate_cursor_key_t *k);
static size_t gate_cursor_key_pair(const gate_cursor_key_t *k,
    const void *const part[], const size_t len[], size_t n,
    unsigned char sig[GATE_CURSOR_SIG_LEN]);
static int gate_cursor_key_verify(const gate_cursor_key_t *k,
    const unsigned char *s, size_t len, const unsigned char *sig);
static size_t gate_cursor_key_der(unsigned char *dst,
    const unsigned char sig[GATE_CURSOR_SIG_LEN]);
static int gate_cursor_key_raw(unsigned char sig[GATE_CURSOR_SIG_LEN],
    const unsigned char *der, size_t len);


/* Of examples, tutorials and generators; in lower-case. */

static const char *const  gate_cursor_key_known[] = {
    "secret",
    "secretkey",
    "secret-key",
    "secret_key",
    "supersecret",
    "super-secret",
    "super_secret",
    "supersecretkey",
    "super-secret-key",
    "super_secret_key",
    "mysecret",
    "my-secret",
    "my_secret",
    "mysecretkey",
    "my-secret-key",
    "my_secret_key",
    "topsecret",
    "top-secret",
    "your-secret",
    "your_secret",
    "your-secret-key",
    "your_secret_key",
    "your-secret-key-here",
    "your_secret_key_here",
    "yoursecretkey",
    "your-256-bit-secret",
    "your-384-bit-secret",
    "your-512-bit-secret",
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    "jwt-secret",
    "jwt_secret",
    "jwtsecret",
    "cursor-secret",
    "cursor_secret",
    "cursor-secret-key",
    "cursor_secret_key",
    "test-cursor-secret-for-pagination",
    "changeme",
    "change-me",
    "change_me",
    "change-me-in-production",
    "change_me_in_production",
    "changeme-in-production",
    "changethis",
    "change-this",
    "replace-me",
    "replaceme",
    "password",
    "password1",
    "passw0rd",
    "p@ssw0rd",
    "letmein",
    "qwerty",
    "admin",
    "root",
    "default",
    "default-secret",
    "default_secret",
    "key",
    "mykey",
    "my-key",
    "apikey",
    "api-key",
    "dev",
    "dev-secret",
    "dev_secret",
    "dev-secret-key",
    "devsecret",
    "development",
    "development-secret",
    "test",
    "test-secret",
    "test_secret",
    "test-secret-key",
    "testsecret",
    "test-key",
    "testkey",
    "testing",
    "example",
    "example-secret",
    "insecure",
    "foobar",
    "foo",
    "bar",
    "none",
    "null",
    "undefined",
    "todo",
    "fixme",
    "keyboard cat",
    "shhhhh",
    "123456",
    "1234567",
    "12345678",
    "123456789",
    "1234567890",
    "0123456789",
    "0123456789abcdef",
    "0123456789abcdef0123456789abcdef",
    "12345678901234567890123456789012",
    "abcdefghijklmnopqrstuvwxyz",
    "abcdefghijklmnopqrstuvwxyz123456"
};

#define GATE_CURSOR_KNOWN                                                     \
    (sizeof(gate_cursor_key_known) / sizeof(gate_cursor_key_known[0]))


int
gate_cursor_key_init(gate_cursor_key_t *k, int alg, gate_cursor_form_e form,
    const unsigned char *s, size_t len, const char **why)
{
    memset(k, 0, sizeof(gate_cursor_key_t));

    /* also where tools have written something before it */

    if (form == GATE_CURSOR_KEY_AUTO) {
        form = gate_cursor_key_has(s, len, "-----BEGIN ")
               ? GATE_CURSOR_KEY_PEM : GATE_CURSOR_KEY_RAW;
    }

    if (len > GATE_CURSOR_KEY_MAX) {
        *why = "it is too long";

    } else if (form == GATE_CURSOR_KEY_PEM) {
        *why = gate_cursor_key_pem(k, alg, s, len);

    } else {
        *why = gate_cursor_key_text(k, alg, form, s, len);
    }

    if (*why == NULL) {
        return 0;
    }

    gate_cursor_key_wipe(k);

    return -1;
}


void
gate_cursor_key_wipe(gate_cursor_key_t *k)
{
    EVP_PKEY_free(k->pkey);
    OPENSSL_cleanse(k, sizeof(gate_cursor_key_t));
}


/* 1 if the word is anywhere in it. */

static int
gate_cursor_key_has(const unsigned char *s, size_t len, const char *word)
{
    size_t  i, n;

    n = strlen(word);

    for (i = 0; i + n <= len; i++) {
        if (memcmp(s + i, word, n) == 0) {
            return 1;
        }
    }

    return 0;
}


/* A shared secret, in one of its forms. */

static const char *
gate_cursor_key_text(gate_cursor_key_t *k, int alg, gate_cursor_form_e form,
    const unsigned char *s, size_t len)
{
    size_t          n;
    const char     *why;
    unsigned char  *room;

    if (alg == GATE_CURSOR_ES256 || alg == GATE_CURSOR_EDDSA) {
        return "ES256 and EdDSA need a key in PEM";
    }

    room = OPENSSL_malloc(len + 1);

    if (room == NULL) {
        return "memory is short";
    }

    n = len;

    if (len != 0) {
        memcpy(room, s, len);
    }

    switch (form) {

    case GATE_CURSOR_KEY_HEX:
        why = gate_cursor_key_hex(room, &n) == 0
              ? NULL : "it is not hexadecimal";
        break;

    case GATE_CURSOR_KEY_BASE64:
        why = gate_cursor_key_base64(room, &n) == 0
              ? NULL : "it is not base64";
        break;

    default:
        n = gate_cursor_key_line(room, n);
        why = NULL;
    }

    if (why == NULL) {
        why = gate_cursor_key_secret(k, alg, room, n);
    }

    OPENSSL_clear_free(room, len + 1);

    return why;
}


/* Without the line end that editors add. */

static size_t
gate_cursor_key_line(const unsigned char *s, size_t len)
{
    if (len > 0 && s[len - 1] == '\n') {
        len--;

        if (len > 0 && s[len - 1] == '\r') {
            len--;
        }
    }

    return len;
}


/* In place; tools break long ones into lines. */

static int
gate_cursor_key_hex(unsigned char *dst, size_t *n)
{
    size_t    i, digits;
    unsigned  c, v;

    v = 0;
    digits = 0;

    for (i = 0; i < *n; i++) {
        c = dst[i];

        if (c == '\n' || c == '\r') {
            continue;
        }

        if (c >= '0' && c <= '9') {
            v = (v << 4) | (c - '0');

        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            v = (v << 4) | ((c | 0x20) - 'a' + 10);

        } else {
            return -1;
        }

        dst[digits++ / 2] = (unsigned char) v;
    }

    *n = digits / 2;

    return (digits % 2) ? -1 : 0;
}


/* Likewise; either alphabet, but not both. */

static int
gate_cursor_key_base64(unsigned char *dst, size_t *n)
{
    int             rc;
    size_t          i, len;
    unsigned        standard, url;
    unsigned char  *room;

    len = 0;
    standard = 0;
    url = 0;

    for (i = 0; i < *n; i++) {

        switch (dst[i]) {

        case '\n':
        case '\r':
            continue;

        case '+':
        case '/':
            standard = 1;
            dst[len++] = (dst[i] == '+') ? '-' : '_';
            continue;

        case '-':
        case '_':
            url = 1;
            break;
        }

        dst[len++] = dst[i];
    }

    if (standard && url) {
        return -1;
    }

    room = OPENSSL_malloc(gate_base64_decoded(len));

    if (room == NULL) {
        return -1;
    }

    rc = gate_base64_decode(room, n, dst, len, GATE_BASE64_EITHER);

    if (rc == 0 && *n != 0) {
        memcpy(dst, room, *n);
    }

    OPENSSL_clear_free(room, gate_base64_decoded(len));

    return rc;
}


static const char *
gate_cursor_key_secret(gate_cursor_key_t *k, int alg, const unsigned char *s,
    size_t len)
{
    int  rc;

    if (len == 0) {
        return "it is empty";
    }

    /* whoever has it could sign whatever he likes */

    if (gate_cursor_key_has(s, len, "PUBLIC KEY-----")
        || gate_cursor_key_has(s, len, "-----BEGIN CERTIFICATE"))
    {
        return "it is public, and no secret";
    }

    switch (alg) {

    case GATE_CURSOR_HS384:
        rc = gate_hmac_long_init(&k->hmac_long, 48, s, len);
        break;

    case GATE_CURSOR_HS512:
        rc = gate_hmac_long_init(&k->hmac_long, 64, s, len);
        break;

    default:
        alg = GATE_CURSOR_HS256;
        rc = gate_hmac_init(&k->hmac, s, len);
    }

    if (rc != 0) {
        return "the library cannot take it";
    }

    k->alg = (gate_cursor_alg_e) alg;
    k->weak = gate_cursor_key_weak(s, len);

    return NULL;
}


static int
gate_cursor_key_weak(const unsigned char *s, size_t len)
{
    size_t       i, k;
    const char  *known;

    for (i = 1; i < len && s[i] == s[0]; i++) {
        /* void */
    }

    if (i == len) {
        return GATE_CURSOR_KEY_KNOWN;
    }

    for (k = 0; k < GATE_CURSOR_KNOWN; k++) {
        known = gate_cursor_key_known[k];

        if (strlen(known) != len) {
            continue;
        }

        for (i = 0; i < len; i++) {
            if ((s[i] >= 'A' && s[i] <= 'Z' ? s[i] | 0x20 : s[i])
                != (unsigned char) known[i])
            {
                break;
            }
        }

        if (i == len) {
            return GATE_CURSOR_KEY_KNOWN;
        }
    }

    return len < GATE_CURSOR_KEY_LEAST ? GATE_CURSOR_KEY_SHORT
                                       : GATE_CURSOR_KEY_GOOD;
}


static const char *
gate_cursor_key_pem(gate_cursor_key_t *k, int alg, const unsigned char *s,
    size_t len)
{
    int          own;
    const char  *why;

    /* what fails here is no matter of whoever looks at the errors later */

    (void) ERR_set_mark();

    k->pkey = gate_cursor_key_read(s, len, &k->secret);
    own = (k->pkey == NULL) ? -1 : gate_cursor_key_alg(k->pkey);

    (void) ERR_pop_to_mark();

    why = NULL;

    if (k->pkey == NULL) {
        why = "it holds no public or private key in PEM that can be read "
              "without a password";

    } else if (own == -1) {
        why = GATE_CURSOR_ONLY;

    } else if (alg != -1 && alg != own) {
        why = (own == GATE_CURSOR_ES256)
              ? "it is a key of P-256, which goes with ES256 only"
              : "it is a key of Ed25519, which goes with EdDSA only";
    }

    if (why == NULL) {
        k->alg = (gate_cursor_alg_e) own;
        k->weak = GATE_CURSOR_KEY_GOOD;
    }

    return why;
}


static EVP_PKEY *
gate_cursor_key_read(const unsigned char *s, size_t len, int *secret)
{
    BIO       *bio;
    EVP_PKEY  *pkey;

    bio = BIO_new_mem_buf(s, (int) len);

    if (bio == NULL) {
        return NULL;
    }

    pkey = PEM_read_bio_PrivateKey(bio, NULL, gate_cursor_key_quiet, NULL);
    *secret = (pkey != NULL);

    if (pkey == NULL) {
        (void) BIO_reset(bio);
        pkey = PEM_read_bio_PUBKEY(bio, NULL, gate_cursor_key_quiet, NULL);
    }

    BIO_free(bio);

    return pkey;
}


/* Nobody sits at a terminal to be asked for a password. */

static int
gate_cursor_key_quiet(char *buf, int size, int rwflag, void *data)
{
    (void) buf;
    (void) size;
    (void) rwflag;
    (void) data;

    return -1;
}


static int
gate_cursor_key_alg(EVP_PKEY *pkey)
{
    char    group[32];
    size_t  n;

    if (EVP_PKEY_is_a(pkey, "ED25519")) {
        return GATE_CURSOR_EDDSA;
    }

    if (EVP_PKEY_is_a(pkey, "EC")
        && EVP_PKEY_get_group_name(pkey, group, sizeof(group), &n)
        && strcmp(group, "prime256v1") == 0)
    {
        return GATE_CURSOR_ES256;
    }

    return -1;
}


size_t
gate_cursor_key_sign(const gate_cursor_key_t *k, const void *const part[],
    const size_t len[], size_t n, unsigned char sig[64])
{
    if (k->pkey == NULL) {
        return gate_cursor_key_mac(k, part, len, n, sig) == 0
               ? gate_cursor_key_mac_len(k) : 0;
    }

    return k->secret ? gate_cursor_key_pair(k, part, len, n, sig) : 0;
}


int
gate_cursor_key_check(const gate_cursor_key_t *k, const unsigned char *s,
    size_t len, const unsigned char *sig, size_t sig_len)
{
    int            ok;
    size_t         n;
    const void    *part[1];
    unsigned char  mac[GATE_HMAC_LONG_LEN];

    if (k->pkey != NULL) {
        return sig_len == GATE_CURSOR_SIG_LEN
               && gate_cursor_key_verify(k, s, len, sig);
    }

    n = gate_cursor_key_mac_len(k);
    part[0] = s;

    ok = sig_len == n && gate_cursor_key_mac(k, part, &len, 1, mac) == 0
         && CRYPTO_memcmp(mac, sig, n) == 0;

    OPENSSL_cleanse(mac, sizeof(mac));

    return ok;
}


static int
gate_cursor_key_mac(const gate_cursor_key_t *k, const void *const part[],
    const size_t len[], size_t n, unsigned char mac[GATE_HMAC_LONG_LEN])
{
    switch (k->alg) {

    case GATE_CURSOR_HS256:
        return gate_hmac_sign(&k->hmac, part, len, n, mac);

    case GATE_CURSOR_HS384:
    case GATE_CURSOR_HS512:
        return gate_hmac_long_sign(&k->hmac_long, part, len, n, mac);

    default:
        return -1;
    }
}


static size_t
gate_cursor_key_mac_len(const gate_cursor_key_t *k)
{
    return k->alg == GATE_CURSOR_HS256 ? GATE_HMAC_LEN : k->hmac_long.len;
}


/*
 * The key is begun with anew for each signature: it takes less than a
 * twentieth of the time of what follows, and not all libraries from 3.0 to 3.5
 * can copy a context of Ed25519 or use one twice.
 */

static size_t
gate_cursor_key_pair(const gate_cursor_key_t *k, const void *const part[],
    const size_t len[], size_t n, unsigned char sig[GATE_CURSOR_SIG_LEN])
{
    int             ok;
    size_t          i, size, total;
    EVP_MD_CTX     *md;
    const EVP_MD   *hash;
    unsigned char  *text, der[GATE_CURSOR_DER];

    total = 0;

    for (i = 0; i < n; i++) {
        total += len[i];
    }

    /* Ed25519 takes it in one piece */

    text = OPENSSL_malloc(total + 1);

    if (text == NULL) {
        return 0;
    }

    total = 0;

    for (i = 0; i < n; i++) {
        if (len[i] != 0) {
            memcpy(text + total, part[i], len[i]);
            total += len[i];
        }
    }

    hash = (k->alg == GATE_CURSOR_ES256) ? EVP_sha256() : NULL;
    size = sizeof(der);

    (void) ERR_set_mark();

    md = EVP_MD_CTX_new();

    ok = md != NULL
         && EVP_DigestSignInit(md, NULL, hash, NULL, k->pkey) == 1
         && EVP_DigestSign(md, der, &size, text, total) == 1;

    EVP_MD_CTX_free(md);

    (void) ERR_pop_to_mark();

    if (ok && hash != NULL) {
        ok = gate_cursor_key_raw(sig, der, size) == 0;

    } else if (ok) {
        ok = (size == GATE_CURSOR_SIG_LEN);
        memcpy(sig, der, GATE_CURSOR_SIG_LEN);
    }

    OPENSSL_clear_free(text, total + 1);

    return ok ? GATE_CURSOR_SIG_LEN : 0;
}


static int
gate_cursor_key_verify(const gate_cursor_key_t *k, const unsigned char *s,
    size_t len, const unsigned char *sig)
{
    int            ok;
    size_t         n;
    EVP_MD_CTX    *md;
    const EVP_MD  *hash;
    unsigned char  der[GATE_CURSOR_DER];

    hash = NULL;
    n = GATE_CURSOR_SIG_LEN;

    if (k->alg == GATE_CURSOR_ES256) {
        hash = EVP_sha256();
        n = gate_cursor_key_der(der, sig);
        sig = der;
    }

    /* a signature that is none leaves an error behind */

    (void) ERR_set_mark();

    md = EVP_MD_CTX_new();

    ok = md != NULL
         && EVP_DigestVerifyInit(md, NULL, hash, NULL, k->pkey) == 1
         && EVP_DigestVerify(md, sig, n, s, len) == 1;

    EVP_MD_CTX_free(md);

    (void) ERR_pop_to_mark();

    return ok;
}


/*
 * SEQUENCE { INTEGER r, INTEGER s }: as few bytes as there must be, the first
 * bit is the sign.  What numbers are none of P-256 is the library's to say.
 */

static size_t
gate_cursor_key_der(unsigned char *dst,
    const unsigned char sig[GATE_CURSOR_SIG_LEN])
{
    size_t                i, len;
    unsigned char        *p;
    const unsigned char  *s;

    p = dst + 2;

    for (i = 0; i < 2; i++) {
        s = sig + i * GATE_CURSOR_HALF;
        len = GATE_CURSOR_HALF;

        while (len > 1 && s[0] == 0) {
            s++;
            len--;
        }

        *p++ = 0x02;
        *p++ = (unsigned char) (len + (s[0] >> 7));

        if (s[0] & 0x80) {
            *p++ = 0;
        }

        memcpy(p, s, len);
        p += len;
    }

    dst[0] = 0x30;
    dst[1] = (unsigned char) (p - dst - 2);

    return (size_t) (p - dst);
}


/* And back. */

static int
gate_cursor_key_raw(unsigned char sig[GATE_CURSOR_SIG_LEN],
    const unsigned char *der, size_t len)
{
    size_t                i, n;
    const unsigned char  *p, *last;

    if (len < 2 || der[0] != 0x30 || der[1] != len - 2) {
        return -1;
    }

    p = der + 2;
    last = der + len;

    memset(sig, 0, GATE_CURSOR_SIG_LEN);

    for (i = 0; i < 2; i++) {

        if (last - p < 2 || p[0] != 0x02 || p[1] > last - p - 2) {
            return -1;
        }

        n = p[1];
        p += 2;

        if (n > GATE_CURSOR_HALF && *p == 0) {
            p++;
            n--;
        }

        if (n > GATE_CURSOR_HALF) {
            return -1;
        }

        memcpy(sig + (i + 1) * GATE_CURSOR_HALF - n, p, n);
        p += n;
    }

    return 0;
}

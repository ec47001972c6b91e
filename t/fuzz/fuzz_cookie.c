
/*
 * The input is a cookie value, a Cookie field, and numbers to sign.
 * Properties: only our own text is accepted, exactly as it is written for
 * the numbers in it; what is made is read back; what is found lies in the
 * field, after the name and a sign of equality; a changed bit is refused.
 */

#include "../../src/core/gate_hmac.c"
#include "../../src/core/gate_cookie.c"


#define fuzz_check(expr)  do { if (!(expr)) { __builtin_trap(); } } while (0)

#define FUZZ_NAME      ((const unsigned char *) "gate")
#define FUZZ_NAME_LEN  4


int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);


static gate_hmac_t  fuzz_key;


static void
fuzz_read(const unsigned char *v, size_t len)
{
    size_t         n;
    uint64_t       epoch;
    unsigned       bucket;
    unsigned char  out[GATE_COOKIE_MAX];

    epoch = 4711;
    bucket = 4711;

    if (gate_cookie_read(v, len, &fuzz_key, FUZZ_NAME, FUZZ_NAME_LEN, &epoch,
                         &bucket) != 0)
    {
        fuzz_check(epoch == 4711 && bucket == 4711);
        return;
    }

    n = gate_cookie_make(out, &fuzz_key, FUZZ_NAME, FUZZ_NAME_LEN, epoch,
                         bucket);

    fuzz_check(n == len && memcmp(out, v, n) == 0);
}


/*
 * A mac that the fuzzer cannot guess is put behind its text, so that the
 * checks behind the signature are reached too.
 */

static void
fuzz_signed(const unsigned char *data, size_t size)
{
    unsigned char  v[128];

    if (size < 2 || size > 100) {
        return;
    }

    memcpy(v, data, size);
    v[size] = '.';

    if (gate_cookie_mac(v + size + 1, &fuzz_key, FUZZ_NAME, FUZZ_NAME_LEN,
                        v + 2, size - 2) != 0)
    {
        __builtin_trap();
    }

    fuzz_read(v, size + 1 + GATE_COOKIE_MAC_LEN);
}


static void
fuzz_make(const unsigned char *data, size_t size)
{
    size_t         n;
    uint64_t       epoch, e;
    unsigned       bucket, b;
    unsigned char  out[GATE_COOKIE_MAX];

    if (size < 12) {
        return;
    }

    memcpy(&epoch, data, 8);
    epoch >>= data[10] % 64;
    bucket = ((unsigned) data[8] << 8 | data[9]) % 12000;

    n = gate_cookie_make(out, &fuzz_key, FUZZ_NAME, FUZZ_NAME_LEN, epoch,
                         bucket);

    fuzz_check((n == 0) == (bucket > 9999));

    if (n == 0) {
        return;
    }

    fuzz_check(gate_cookie_read(out, n, &fuzz_key, FUZZ_NAME, FUZZ_NAME_LEN,
                                &e, &b) == 0 && e == epoch && b == bucket);

    out[data[11] % n] ^= (unsigned char) (1 << (data[10] % 8));

    fuzz_check(gate_cookie_read(out, n, &fuzz_key, FUZZ_NAME, FUZZ_NAME_LEN,
                                &e, &b) == -1);
}


int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    size_t                len;
    static int            ready;
    const unsigned char  *v;

    if (!ready) {
        fuzz_check(gate_hmac_init(&fuzz_key, FUZZ_NAME, FUZZ_NAME_LEN) == 0);
        ready = 1;
    }

    fuzz_read(data, size);
    fuzz_signed(data, size);
    fuzz_make(data, size);

    if (gate_cookie_find(data, size, FUZZ_NAME, FUZZ_NAME_LEN, &v, &len)) {
        fuzz_check(v >= data + FUZZ_NAME_LEN + 1 && v + len <= data + size);
        fuzz_check(memchr(v, ';', len) == NULL);
        fuzz_read(v, len);
    }

    return 0;
}

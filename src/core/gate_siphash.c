
#include "gate_siphash.h"


#define gate_siphash_rotl(x, b)  (((x) << (b)) | ((x) >> (64 - (b))))


static uint64_t gate_siphash_load(const unsigned char *p);
static void gate_siphash_rounds(uint64_t v[4], unsigned n);


uint64_t
gate_siphash(const uint64_t key[2], const void *data, size_t len)
{
    size_t                i, tail;
    uint64_t              v[4], m;
    const unsigned char  *p;

    v[0] = key[0] ^ UINT64_C(0x736f6d6570736575);
    v[1] = key[1] ^ UINT64_C(0x646f72616e646f6d);
    v[2] = key[0] ^ UINT64_C(0x6c7967656e657261);
    v[3] = key[1] ^ UINT64_C(0x7465646279746573);

    p = data;

    for (i = len / 8; i != 0; i--) {
        m = gate_siphash_load(p);
        p += 8;

        v[3] ^= m;
        gate_siphash_rounds(v, 2);
        v[0] ^= m;
    }

    m = (uint64_t) len << 56;
    tail = len % 8;

    for (i = 0; i < tail; i++) {
        m |= (uint64_t) p[i] << (8 * i);
    }

    v[3] ^= m;
    gate_siphash_rounds(v, 2);
    v[0] ^= m;

    v[2] ^= 0xff;
    gate_siphash_rounds(v, 4);

    return v[0] ^ v[1] ^ v[2] ^ v[3];
}


static uint64_t
gate_siphash_load(const unsigned char *p)
{
    /* compilers turn this into one load where the byte order allows */

    return (uint64_t) p[0]
           | (uint64_t) p[1] << 8
           | (uint64_t) p[2] << 16
           | (uint64_t) p[3] << 24
           | (uint64_t) p[4] << 32
           | (uint64_t) p[5] << 40
           | (uint64_t) p[6] << 48
           | (uint64_t) p[7] << 56;
}


static void
gate_siphash_rounds(uint64_t v[4], unsigned n)
{
    while (n--) {
        v[0] += v[1];
        v[1] = gate_siphash_rotl(v[1], 13);
        v[1] ^= v[0];
        v[0] = gate_siphash_rotl(v[0], 32);

        v[2] += v[3];
        v[3] = gate_siphash_rotl(v[3], 16);
        v[3] ^= v[2];

        v[0] += v[3];
        v[3] = gate_siphash_rotl(v[3], 21);
        v[3] ^= v[0];

        v[2] += v[1];
        v[1] = gate_siphash_rotl(v[1], 17);
        v[1] ^= v[2];
        v[2] = gate_siphash_rotl(v[2], 32);
    }
}


#include "gate_siphash.h"


#define gate_siphash_rotl(x, b)  (((x) << (b)) | ((x) >> (64 - (b))))


/* a macro: a loop over an array costs half as much again */

#define gate_siphash_round()                                                  \
    do {                                                                      \
        v0 += v1;                                                             \
        v1 = gate_siphash_rotl(v1, 13);                                       \
        v1 ^= v0;                                                             \
        v0 = gate_siphash_rotl(v0, 32);                                       \
                                                                              \
        v2 += v3;                                                             \
        v3 = gate_siphash_rotl(v3, 16);                                       \
        v3 ^= v2;                                                             \
                                                                              \
        v0 += v3;                                                             \
        v3 = gate_siphash_rotl(v3, 21);                                       \
        v3 ^= v0;                                                             \
                                                                              \
        v2 += v1;                                                             \
        v1 = gate_siphash_rotl(v1, 17);                                       \
        v1 ^= v2;                                                             \
        v2 = gate_siphash_rotl(v2, 32);                                       \
    } while (0)


static uint64_t gate_siphash_load(const unsigned char *p);
static uint64_t gate_siphash_tail(const unsigned char *p, size_t len);


uint64_t
gate_siphash(const uint64_t key[2], const void *data, size_t len)
{
    size_t                i;
    uint64_t              v0, v1, v2, v3, m;
    const unsigned char  *p;

    v0 = key[0] ^ UINT64_C(0x736f6d6570736575);
    v1 = key[1] ^ UINT64_C(0x646f72616e646f6d);
    v2 = key[0] ^ UINT64_C(0x6c7967656e657261);
    v3 = key[1] ^ UINT64_C(0x7465646279746573);

    p = data;

    for (i = len / 8; i != 0; i--) {
        m = gate_siphash_load(p);
        p += 8;

        v3 ^= m;
        gate_siphash_round();
        gate_siphash_round();
        v0 ^= m;
    }

    m = (uint64_t) len << 56 | gate_siphash_tail(p, len % 8);

    v3 ^= m;
    gate_siphash_round();
    gate_siphash_round();
    v0 ^= m;

    v2 ^= 0xff;
    gate_siphash_round();
    gate_siphash_round();
    gate_siphash_round();
    gate_siphash_round();

    return v0 ^ v1 ^ v2 ^ v3;
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


static uint64_t
gate_siphash_tail(const unsigned char *p, size_t len)
{
    size_t    i;
    uint64_t  m;

    m = 0;
    i = 0;

    if (len & 4) {
        m = (uint64_t) p[0]
            | (uint64_t) p[1] << 8
            | (uint64_t) p[2] << 16
            | (uint64_t) p[3] << 24;
        i = 4;
    }

    for ( /* void */ ; i < len; i++) {
        m |= (uint64_t) p[i] << (8 * i);
    }

    return m;
}

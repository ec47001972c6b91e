
/*
 * SipHash-2-4: the keyed hash behind assignment and key fingerprints.
 *
 * Purpose: a short-input pseudorandom function whose 128-bit key is random
 * and stays inside the fleet, so that nobody outside can choose a caller key
 * that lands in a given bucket or collides with somebody else's slot.
 *
 * Invariants: the result depends only on key and bytes, never on the byte
 * order or the alignment of the machine; every node of a fleet computes the
 * same value.
 *
 * Ownership: nothing is allocated or kept.
 *
 * Failure policy: cannot fail.  Not a MAC for anything that leaves the fleet:
 * 64 bits are too few there; see gate_hmac.h.
 */


#ifndef _GATE_SIPHASH_H_INCLUDED_
#define _GATE_SIPHASH_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>


#pragma GCC visibility push(hidden)


/*
 * Hashes len bytes of data (NULL is allowed when len is 0) under key, where
 * key[0] holds the first eight key bytes of the paper in little-endian order
 * and key[1] the second eight.
 *
 * J.-P. Aumasson and D. J. Bernstein, "SipHash: a fast short-input PRF",
 * INDOCRYPT 2012.
 */
uint64_t gate_siphash(const uint64_t key[2], const void *data, size_t len);


#pragma GCC visibility pop


/* from here on for what is worth being inlined */

#define gate_siphash_inline  static inline __attribute__((always_inline))

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


static inline uint64_t
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


/*
 * The last len % 8 bytes, p is where they begin.  Where there are eight bytes
 * before the end, these are read at once, and those that belong to the word
 * before are shifted out.
 */

static inline uint64_t
gate_siphash_tail(const unsigned char *p, size_t len)
{
    size_t    i, n;
    uint64_t  m;

    n = len % 8;

    if (n == 0) {
        return 0;
    }

    if (len >= 8) {
        return gate_siphash_load(p + n - 8) >> (64 - 8 * n);
    }

    m = 0;

    for (i = 0; i < n; i++) {
        m |= (uint64_t) p[i] << (8 * i);
    }

    return m;
}


/*
 * With c rounds a block and d at the end: 2 and 4, or 1 and 3.  They are
 * constants where this is inlined, which compilers would not do by themselves.
 */

gate_siphash_inline uint64_t
gate_siphash_any(const uint64_t key[2], const void *data, size_t len,
    int c, int d)
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

        if (c == 2) {
            gate_siphash_round();
        }

        v0 ^= m;
    }

    m = (uint64_t) len << 56 | gate_siphash_tail(p, len);

    v3 ^= m;

    gate_siphash_round();

    if (c == 2) {
        gate_siphash_round();
    }

    v0 ^= m;

    v2 ^= 0xff;

    gate_siphash_round();
    gate_siphash_round();
    gate_siphash_round();

    if (d == 4) {
        gate_siphash_round();
    }

    return v0 ^ v1 ^ v2 ^ v3;
}


/*
 * The same with one round a block and three at the end, SipHash-1-3, in two
 * thirds of the time: for places in tables, where nothing is proved by it.
 */

gate_siphash_inline uint64_t
gate_siphash_short(const uint64_t key[2], const void *data, size_t len)
{
    return gate_siphash_any(key, data, len, 1, 3);
}


#endif /* _GATE_SIPHASH_H_INCLUDED_ */

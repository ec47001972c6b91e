
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

/*
 * The same with one round a block and three at the end, SipHash-1-3, in two
 * thirds of the time: for places in tables, where nothing is proved by it.
 */
uint64_t gate_siphash_short(const uint64_t key[2], const void *data,
    size_t len);


#pragma GCC visibility pop


#endif /* _GATE_SIPHASH_H_INCLUDED_ */


/*
 * Who gets the canary: monotone assignment of callers to arms.
 *
 * Purpose: a caller's key and the seed of the epoch give a bucket from 0 to
 * 9999; the caller is the canary's when bucket < weight, the weight counted
 * in steps of 0.01 %.
 *
 * Invariants: for one seed, raising the weight only adds callers to the
 * canary and lowering it only removes some; no caller swaps arms otherwise.
 * Different epochs and different rollouts have independent seeds, so the same
 * unlucky callers are not first every time.  All nodes agree, because the
 * bucket is a function of seed and key alone.
 *
 * Ownership: nothing is allocated or kept.
 *
 * Failure policy: cannot fail.  An unknown word in gate_force is no decision
 * and leaves the caller to the assignment.
 */


#ifndef _GATE_ASSIGN_H_INCLUDED_
#define _GATE_ASSIGN_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>


#define GATE_WEIGHT_MAX    10000u      /* 100 %; 1 is 0.01 % */

#define GATE_FORCE_NONE    0
#define GATE_FORCE_ALWAYS  1
#define GATE_FORCE_NEVER   2


#pragma GCC visibility push(hidden)


/*
 * The bucket of key, 0 .. GATE_WEIGHT_MAX - 1.  The caller is assigned to the
 * canary when the bucket is less than the weight: never at 0, always at
 * GATE_WEIGHT_MAX.  A bucket's probability is off by less than 2^-50
 * (multiply-shift reduction: D. Lemire, "Fast random integer generation in an
 * interval", ACM TOMACS 29(1), 2019).
 */
unsigned gate_assign_bucket(const uint64_t seed[2], const void *key,
    size_t len);

/*
 * Derives into seed the seed of epoch number epoch of the rollout called
 * name from the secret of the fleet.  Equal arguments give equal seeds on
 * every node; different names or epochs give unrelated ones.
 */
void gate_assign_epoch_seed(const uint64_t secret[2], const void *name,
    size_t len, uint64_t epoch, uint64_t seed[2]);

/*
 * Reads the value of gate_force: GATE_FORCE_ALWAYS or GATE_FORCE_NEVER if it
 * is exactly that word, ASCII case ignored, or GATE_FORCE_NONE.
 */
int gate_assign_force(const unsigned char *v, size_t len);


#pragma GCC visibility pop


#endif /* _GATE_ASSIGN_H_INCLUDED_ */

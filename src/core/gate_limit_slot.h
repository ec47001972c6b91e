
/*
 * What the gate_limit*.c know of the table and nobody else does: where things
 * are in it, the words, and how they are changed.
 *
 * A slot that was taken for a key is new until somebody charges the key in
 * it.  Its unsent bits are 0 then, which no other word has, and its TAT is
 * the time at which it was taken.  Nothing is owed in a new slot; after
 * GATE_LIMIT_LEASE nobody is expected to be at it any more, and it may be
 * taken for another key.
 */


#ifndef _GATE_LIMIT_SLOT_H_INCLUDED_
#define _GATE_LIMIT_SLOT_H_INCLUDED_


#include "gate_limit.h"


#define GATE_LIMIT_MAGIC      UINT64_C(0x314c494d54454147)

#define GATE_LIMIT_LEASE      INT64_C(1000000000)
#define GATE_LIMIT_NEVER      INT64_MIN

#define GATE_LIMIT_TAG        40       /* shifts */
#define GATE_LIMIT_NODES      34
#define GATE_LIMIT_CLS        26

#define GATE_LIMIT_RAW        ((UINT64_C(1) << GATE_LIMIT_CLS) - 1)
#define GATE_LIMIT_BIAS       (INT64_C(1) << 25)

#define GATE_LIMIT_PAGE       4096
#define GATE_LIMIT_GROUP      16       /* buckets */
#define GATE_LIMIT_LINES      (GATE_LIMIT_BUCKET * GATE_LIMIT_WAYS / 2)
#define GATE_LIMIT_PROBES     (GATE_LIMIT_BUCKET * GATE_LIMIT_WAYS)

/* marks: slots with something unsent, and of them those in a hurry */

#define GATE_LIMIT_DIRTY      0
#define GATE_LIMIT_FLUSH      1
#define GATE_LIMIT_MARKS      2


/* tests die here */

#ifndef GATE_LIMIT_POINT
#define GATE_LIMIT_POINT(name)
#endif


struct gate_limit_table_s {
    uint64_t     magic;
    uint64_t     size;                 /* bytes, all of it */
    uint64_t     slots;
    uint64_t     groups;

    /* offsets: slots, from a page's beginning on */
    uint64_t     first;

    /* a bit a slot, and above them a bit for each word of those */
    uint64_t     marks[GATE_LIMIT_MARKS];
    uint64_t     sums[GATE_LIMIT_MARKS];

    /* the agent's: where it went on looking for marks */
    uint64_t     at[GATE_LIMIT_MARKS];

    uint64_t     unused[5];

    gate_rate_t  classes[GATE_LIMIT_CLASSES];
};


#define gate_limit_words(n)  (((n) + 63) / 64)

#define gate_limit_slot_at(t, offset)                                         \
    ((gate_limit_slot_t *) (void *) ((unsigned char *) (t) + (t)->first       \
                                     + (offset)))

#define gate_limit_at(t, n)                                                   \
    (gate_limit_slot_at(t, (uint64_t) (n) * sizeof(gate_limit_slot_t)))

#define gate_limit_bits(t, offset)                                            \
    ((uint64_t *) (void *) ((unsigned char *) (t) + (offset)))

#define gate_limit_tag_of(hash)     ((hash) >> GATE_LIMIT_TAG)
#define gate_limit_nobody(word)     ((word) ^ UINT64_C(1) << GATE_LIMIT_TAG)
#define gate_limit_is_new(word)     (((word) & GATE_LIMIT_RAW) == 0)
#define gate_limit_nodes_of(word)                                             \
    ((unsigned) ((word) >> GATE_LIMIT_NODES) & GATE_LIMIT_NODES_MAX)
#define gate_limit_cls_of(word)     ((uint8_t) ((word) >> GATE_LIMIT_CLS))
#define gate_limit_unsent_of(word)                                            \
    ((int64_t) ((word) & GATE_LIMIT_RAW) - GATE_LIMIT_BIAS)

/* of the way of a request, where each call costs a tenth of all */

#define gate_limit_inline  static inline __attribute__((always_inline))

/* what somebody else may change meanwhile */

#define gate_limit_load(p)      __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define gate_limit_store(p, v)  __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define gate_limit_fence()      __atomic_thread_fence(__ATOMIC_SEQ_CST)


/*
 * Changes TAT and word together, if they are what they were; 1 if so.  A full
 * fence where it succeeds.  The compilers' own would be a call of libatomic,
 * which may use locks, and these are not shared between processes.
 */

static inline int
gate_limit_cas(int64_t *tat, uint64_t *word, int64_t old_tat,
    uint64_t old_word, int64_t new_tat, uint64_t new_word)
{
#if defined(__x86_64__)

    unsigned char  ok;

    __asm__ volatile ("lock cmpxchg16b %1\n\t"
                      "sete %0"
                      : "=q" (ok), "+m" (*tat), "+m" (*word),
                        "+a" (old_tat), "+d" (old_word)
                      : "b" (new_tat), "c" (new_word)
                      : "memory", "cc");

    return ok;

#elif defined(__aarch64__)

    int64_t   seen_tat;
    uint64_t  seen_word;
    uint32_t  failed;

    __asm__ volatile ("1:  ldaxp %0, %1, [%3]\n\t"
                      "cmp   %0, %4\n\t"
                      "ccmp  %1, %5, #0, eq\n\t"
                      "mov   %w2, #1\n\t"
                      "b.ne  2f\n\t"
                      "stlxp %w2, %6, %7, [%3]\n\t"
                      "cbnz  %w2, 1b\n\t"
                      "dmb   ish\n\t"
                      "b     3f\n"
                      "2:  clrex\n"
                      "3:"
                      : "=&r" (seen_tat), "=&r" (seen_word), "=&r" (failed)
                      : "r" (tat), "r" (old_tat), "r" (old_word),
                        "r" (new_tat), "r" (new_word)
                      : "memory", "cc");

    (void) word;

    return !failed;

#else

    /* there are no tables here */

    (void) tat;
    (void) word;
    (void) old_tat;
    (void) old_word;
    (void) new_tat;
    (void) new_word;

    return 0;

#endif
}


static inline uint64_t
gate_limit_word(uint64_t tag, unsigned nodes, unsigned cls, int64_t unsent)
{
    if (nodes > GATE_LIMIT_NODES_MAX) {
        nodes = GATE_LIMIT_NODES_MAX;
    }

    if (unsent > GATE_LIMIT_UNSENT_MAX) {
        unsent = GATE_LIMIT_UNSENT_MAX;

    } else if (unsent < -GATE_LIMIT_UNSENT_MAX) {
        unsent = -GATE_LIMIT_UNSENT_MAX;
    }

    return tag << GATE_LIMIT_TAG
           | (uint64_t) nodes << GATE_LIMIT_NODES
           | (uint64_t) cls << GATE_LIMIT_CLS
           | (uint64_t) (unsent + GATE_LIMIT_BIAS);
}


/* Whether the slot with that word is that key's, in whatever state. */

static inline int
gate_limit_same(const gate_limit_slot_t *s, uint64_t word, uint64_t hash)
{
    return word >> GATE_LIMIT_TAG == gate_limit_tag_of(hash)
           && gate_limit_load(&s->hash) == hash;
}


static inline int
gate_limit_is(const gate_limit_slot_t *s, uint64_t hash)
{
    return gate_limit_load(&s->hash) == hash
           && gate_limit_load(&s->word) >> GATE_LIMIT_TAG
              == gate_limit_tag_of(hash);
}


static inline uint64_t
gate_limit_number(gate_limit_table_t *t, const gate_limit_slot_t *s)
{
    return (uint64_t) (s - gate_limit_at(t, 0));
}


/*
 * How many nodes spend from the key, as far as it is known; 0 where it is
 * not.
 */

static inline unsigned
gate_limit_spenders(const gate_limit_env_t *env, uint64_t word, int64_t fleet)
{
    return fleet < env->asof - env->stale ? 0 : gate_limit_nodes_of(word);
}


/* What each unit is multiplied with while Redis is away. */

static inline unsigned
gate_limit_factor(const gate_limit_env_t *env, unsigned spenders)
{
    if (env->away != GATE_LIMIT_AWAY_SHARE) {
        return 1;
    }

    if (spenders == 0) {
        spenders = env->nodes;
    }

    return spenders == 0 ? 1
           : spenders > GATE_LIMIT_NODES_MAX ? GATE_LIMIT_NODES_MAX
           : spenders;
}


/* So many units in ns; more than can be owed count as so many. */

static inline int64_t
gate_limit_units(const gate_rate_t *rate, int64_t n)
{
    int64_t  max;

    max = rate->capacity * GATE_GCRA_CLAMP;

    return rate->interval * (n > max ? max : n < -max ? -max : n);
}


static inline int
gate_limit_marked_as(gate_limit_table_t *t, unsigned kind, uint64_t slot)
{
    return (gate_limit_load(&gate_limit_bits(t, t->marks[kind])[slot / 64])
            >> slot % 64) & 1;
}


#pragma GCC visibility push(hidden)


/* The slot of a key, in whatever state, or NULL. */
gate_limit_slot_t *gate_limit_find(gate_limit_table_t *t, uint64_t hash);

/*
 * A slot for a key that has none, as it was taken: new.  NULL where there is
 * no room.  evicted and dropped of "take" are set.
 */
gate_limit_slot_t *gate_limit_enter(gate_limit_table_t *t, int64_t now,
    gate_limit_take_t *take);

/* Whether there is room for another key of that hash. */
int gate_limit_room(gate_limit_table_t *t, int64_t now, uint64_t hash);

/*
 * Before a new slot, seen with that TAT and word, is charged: no other one of
 * the key may be charged, now or later.  Returns the slot, or another one
 * that is to be used instead, or NULL where to look again.
 */
gate_limit_slot_t *gate_limit_alone(gate_limit_table_t *t,
    gate_limit_slot_t *s, int64_t tat, uint64_t word, uint64_t hash);

/*
 * Marks a slot and says whether it was not marked before.  The summary is
 * set even where the mark was there: somebody may have died between both.
 */
int gate_limit_set_mark(gate_limit_table_t *t, unsigned kind, uint64_t slot);

/* The debt in a slot as a TAT of another class, at most one capacity. */
int64_t gate_limit_convert(gate_limit_table_t *t, unsigned from, unsigned to,
    const gate_rate_t *rate, int64_t tat, int64_t now);


#pragma GCC visibility pop


/*
 * Where a key may be: the home lines of its first two buckets, as offsets of
 * slots[0].  They are in one page of memory, so that looking in both costs
 * one miss of the processor's table of pages; the other lines of a bucket are
 * at the offset ^ 64, ^ 128 and ^ 192.  No division: the lower 32 bits of the
 * hash are a fraction of the table.
 */

#define gate_limit_line(t, hash)                                              \
    ((((hash) & 0xffffffff) * (t)->groups >> 20) & ~(uint64_t) 63)

#define gate_limit_other(line, hash)                                          \
    ((line) ^ (((hash) >> 24 & 0xe00) | 0x100))

#endif /* _GATE_LIMIT_SLOT_H_INCLUDED_ */


/*
 * The table of callers that a node's workers share: who owes how much.
 *
 * Purpose: find a key and take from its budget, without a lock, in memory
 * that several processes have mapped; any of them may be killed between any
 * two instructions.
 *
 * A slot is 32 bytes.  Its first 16, the TAT and a word that says whose it is
 * and what Redis does not know yet, change only together, by one
 * compare-and-swap: to admit, to give back, to take a slot over for another
 * key, to note that Redis knows.  So there is nothing half-done that anybody
 * would have to repair:
 *
 *     tat     ns, monotonic clock of this host: when the debt is paid, as far
 *             as this node knows
 *     word    63..40  tag: upper bits of the key's hash
 *             39..34  how many nodes were seen to spend from the key, 0: it is
 *                     not known; 63: so many or more
 *             33..26  class: of the rate that the debt was made under
 *             25..0   unsent: units taken and not yet acknowledged, biased by
 *                     2^25; less than none is what is to be given back
 *     hash    keyed SipHash of the key.  Written after the word: a slot whose
 *             tag is not its hash's belongs to nobody (somebody died there)
 *     fleet   TAT as Redis last told, 0: never; written by the agent only
 *
 * A word of 0 is a slot that was never used.  A slot whose debt is paid and
 * all sent is free for another key; so is, as a second choice, a paid one
 * that is not sent.  A slot in debt is never taken for another key.
 *
 * A key has GATE_LIMIT_WAYS buckets of GATE_LIMIT_BUCKET slots, at places
 * that its hash says, the first two in one page of memory; it goes to the
 * emptier one of these, to the others only where both are full.  A lookup
 * that finds nothing has to look at the others only if the first two have no
 * slot that was never used.
 *
 * Two processes that bring in the same key at the same time may take two
 * slots.  A slot is new until it is charged for the first time, and whoever
 * charges it first looks for others of the same key before (with a full fence
 * after the hash was written): one that was charged is used instead, of two
 * new ones the first in the order of lookup; a new one that comes later is
 * taken out of use by compare-and-swap, so that nobody can charge it any
 * more.  One of two processes sees the other, and a key never has debts in
 * two slots.
 *
 * Ownership: the caller's memory, zeroed, aligned to 64 bytes, no pointers
 * inside.  No clock, no allocation.
 *
 * M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing",
 * IEEE TPDS 2001.
 */


#ifndef _GATE_LIMIT_H_INCLUDED_
#define _GATE_LIMIT_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>

#include "gate_gcra.h"


/* two words at once: cmpxchg16b, or ldaxp and stlxp */

#if defined(__x86_64__) || defined(__aarch64__)
#define GATE_LIMIT_SUPPORTED   1
#else
#define GATE_LIMIT_SUPPORTED   0
#endif

#define GATE_LIMIT_BUCKET      8
#define GATE_LIMIT_WAYS        4
#define GATE_LIMIT_CLASSES     256
#define GATE_LIMIT_NODES_MAX   63
#define GATE_LIMIT_UNSENT_MAX  ((1 << 25) - 1)

#define GATE_LIMIT_KEYS_MIN    64
#define GATE_LIMIT_KEYS_MAX    (UINT64_C(1) << 28)


typedef struct {
    int64_t   tat;
    uint64_t  word;
    uint64_t  hash;
    int64_t   fleet;
} gate_limit_slot_t;


typedef struct gate_limit_table_s  gate_limit_table_t;


/* how things stand, the same for all keys of a zone */

typedef struct {
    int64_t   now;                     /* ns, monotonic */

    /*
     * The fleet.  shared: what is taken here is to be told to Redis.  away:
     * Redis cannot be asked, and a node has the whole rate (AWAY_LOCAL), or
     * its part of it (AWAY_SHARE): by the nodes that spend from the key, or
     * where that is not known by "nodes".
     */
    int       shared;
    int       away;                    /* GATE_LIMIT_AWAY_*, 0: it is there */
    unsigned  nodes;                   /* alive, 1 .. */
    int64_t   stale;                   /* ns: what Redis said of a key that
                                          was paid so long ago says nothing
                                          of who spends now */
    int64_t   asof;                    /* ns: that "now"; while Redis is away,
                                          when it went: what was known then
                                          stays known */
} gate_limit_env_t;


#define GATE_LIMIT_AWAY_SHARE  1
#define GATE_LIMIT_AWAY_LOCAL  2


#define GATE_LIMIT_NO_SLOT     UINT64_MAX


#define GATE_LIMIT_PASSED      0
#define GATE_LIMIT_LIMITED     1
#define GATE_LIMIT_FULL        2       /* there is no room for a new key */


typedef struct {
    uint64_t      hash;
    gate_rate_t   rate;
    uint8_t       cls;                 /* of that rate */
    int64_t       cost;
    unsigned      firm:1;              /* the rate is the key's own: another
                                          one that it was met under before is
                                          over, also if this is refused */

    /* what came of it */

    gate_gcra_t   v;
    uint64_t      slot;                /* number, after PASSED and LIMITED;
                                          GATE_LIMIT_NO_SLOT where the key
                                          did not need one */
    int64_t       charged;             /* ns added to the TAT */
    unsigned      share:1;             /* LIMITED, but only because other
                                          nodes may spend the rest */
    unsigned      evicted:1;           /* another key's slot was taken, */
    unsigned      dropped:1;           /* with something unsent in it */
    unsigned      flush:1;             /* it is better told to Redis now, and
                                          was not yet marked for that */
} gate_limit_take_t;


#pragma GCC visibility push(hidden)


/* Bytes for so many keys: at most 48 a key, below 6000 and 13 KiB. */
size_t gate_limit_size(uint64_t keys);

/* Makes a table of that memory (zeroed).  NULL: not for this processor. */
gate_limit_table_t *gate_limit_init(void *mem, uint64_t keys);

/* The table in memory that gate_limit_init() was called for; NULL: none. */
gate_limit_table_t *gate_limit_open(void *mem, size_t size);

uint64_t gate_limit_slots(gate_limit_table_t *t);
gate_limit_slot_t *gate_limit_slot(gate_limit_table_t *t, uint64_t number);

/*
 * The class of a rate, made when it is new.  Class 0 stands for all that do
 * not fit any more: debts made there are not rescaled, only cut to one
 * capacity where the rate allows less.
 */
uint8_t gate_limit_class(gate_limit_table_t *t, const gate_rate_t *rate);

/* The rate of a class.  0, or -1 where there is none. */
int gate_limit_class_rate(gate_limit_table_t *t, unsigned cls,
    gate_rate_t *rate);

/*
 * Takes take->cost from the key's budget if it is there.
 *
 * In a fleet (env->shared, not away) a key that others spend from as well is
 * limited to what is left as Redis told it (fleet), divided among them: with
 * nothing unacknowledged one request may take from all that is left; beyond
 * that the unacknowledged and the new ones together take at most 1/nodes of
 * it, but three such requests if so many are left.  Where Redis is away
 * (AWAY_SHARE), cost times nodes is charged and cost is noted as unsent; who
 * owes next to nothing may take once, even if the node's part is less.
 *
 * A slot is marked for flush where Redis does not know of the key (or its
 * word is older than env->stale), more than half of the capacity is used, an
 * eighth of it or half of the share is unacknowledged, or the key was limited
 * by its share.
 *
 * GATE_LIMIT_*.
 */
int gate_limit_take(gate_limit_table_t *t, const gate_limit_env_t *env,
    gate_limit_take_t *take);

/* How it stands, as if the cost had been taken; nothing changes. */
int gate_limit_peek(gate_limit_table_t *t, const gate_limit_env_t *env,
    gate_limit_take_t *take);

/*
 * Gives back what gate_limit_take() took just now (take->charged and cost),
 * if the key still is there.
 */
void gate_limit_refund(gate_limit_table_t *t, const gate_limit_env_t *env,
    gate_limit_take_t *take);

/*
 * The key's state is what Redis just said: "debt" ns, by "nodes" nodes, and
 * what Redis does not know yet.  "unsent" units are added to that (negative:
 * given back).  The key is brought in where it is not there; take->v stays as
 * it is.  GATE_LIMIT_PASSED or _FULL.
 */
int gate_limit_set(gate_limit_table_t *t, const gate_limit_env_t *env,
    gate_limit_take_t *take, int64_t debt, unsigned nodes, int64_t unsent);


/* What follows is for the agent: telling Redis. */

/* a key's admissions, as they stood at one moment */

typedef struct {
    uint64_t      hash;
    uint64_t      slot;
    int64_t       unsent;              /* "a" */
    int64_t       tat;                 /* "b" */
    uint8_t       cls;
} gate_limit_debt_t;


/* which marks */

#define GATE_LIMIT_ALL         0
#define GATE_LIMIT_URGENT      1       /* for flush only */
#define GATE_LIMIT_NOTABLE     2       /* all but what makes no difference:
                                          less than a 64th of a capacity, of
                                          which half is left */

/*
 * Marks of slots with something unsent are set by gate_limit_take().  Copies
 * up to n of the debts that are marked, all that are marked for flush first,
 * then, unless "flush" asks for those alone, the ones nearest to their limit,
 * and takes their marks away; looks at no more than "most" slots, going on
 * next time where it stopped.  A mark that a killed worker could not set is
 * found by gate_limit_sweep().
 */
size_t gate_limit_collect(gate_limit_table_t *t, int64_t now, int which,
    gate_limit_debt_t *debts, size_t n, size_t most);

/* Marks it again: it could not be sent. */
void gate_limit_mark(gate_limit_table_t *t, uint64_t slot, int flush);

/* Slots that are marked, more or less. */
uint64_t gate_limit_marked(gate_limit_table_t *t);

/*
 * Redis has added d->unsent and said, when it was "now" here, that the debt
 * was "debt" ns, spent by "nodes" nodes.  A key that was taken over meanwhile
 * is left alone.  The TAT becomes what Redis says and what was taken since,
 * and does not go back unless Redis says less than it was told.
 */
void gate_limit_acked(gate_limit_table_t *t, const gate_limit_debt_t *d,
    int64_t now, int64_t debt, unsigned nodes);

/*
 * Redis is back.  What was taken while it was away has been paid for by the
 * time since, apart from what is still owed: of each marked slot the debt is
 * divided by what it was multiplied with, and unsent cut to it.  Looks at up
 * to "most" slots from *at on, and returns 1 when it is through (*at is 0).
 * *at is where a successor goes on if this process is killed.
 *
 * What is on its way has to be acknowledged before: it would be cut here, and
 * given back when it is acknowledged.
 */
int gate_limit_settle(gate_limit_table_t *t, const gate_limit_env_t *env,
    uint64_t *at, uint64_t most);

/* counts of one pass over the table */

typedef struct {
    uint64_t      used;                /* slots that have a key */
    uint64_t      debtors;             /* of them, in debt */
    uint64_t      unsent;              /* of them, with something unsent */
} gate_limit_count_t;

/*
 * Looks at the next "most" slots from *at on, adds to *count, and marks what
 * is unsent and not marked.  1 when it is through (*at is 0 again).
 */
int gate_limit_sweep(gate_limit_table_t *t, int64_t now, uint64_t *at,
    uint64_t most, gate_limit_count_t *count);

/*
 * Copies the debtors of one table to another, empty one, that nobody uses
 * yet: zones that change their size keep who owes what.  Those that do not
 * fit are left out; returns how many.
 */
uint64_t gate_limit_copy(gate_limit_table_t *to, gate_limit_table_t *from,
    int64_t now);


#pragma GCC visibility pop


#endif /* _GATE_LIMIT_H_INCLUDED_ */

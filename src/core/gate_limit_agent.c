
#include "gate_limit_slot.h"

#include <string.h>


/* what is marked for flush is before everything else */

#define GATE_LIMIT_FIRST   (INT64_C(1) << 40)
#define GATE_LIMIT_FULLY   (INT64_C(1) << 20)  /* one capacity owed */

/* units of which less than one of so many of the capacity may wait */

#define GATE_LIMIT_SMALL   64

/* less than this is no less: Redis counts microseconds */

#define GATE_LIMIT_SLACK   INT64_C(1000000)


static uint64_t gate_limit_next_mark(gate_limit_table_t *t, unsigned kind,
    uint64_t from);
static uint64_t gate_limit_next_any(gate_limit_table_t *t, uint64_t from);
static int gate_limit_take_mark(gate_limit_table_t *t, unsigned kind,
    uint64_t slot);
static void gate_limit_clear_sum(gate_limit_table_t *t, unsigned kind,
    uint64_t word);
static size_t gate_limit_gather(gate_limit_table_t *t, int64_t now,
    unsigned kind, int notable, gate_limit_debt_t *debts, size_t n,
    size_t max, size_t *most);
static int gate_limit_small(gate_limit_table_t *t, uint64_t slot,
    int64_t weight);
static size_t gate_limit_offer(gate_limit_debt_t *debts, size_t n, size_t max,
    uint64_t slot, int64_t weight);
static void gate_limit_sink(gate_limit_debt_t *debts, size_t n, size_t i);
static int64_t gate_limit_weight(gate_limit_table_t *t, uint64_t slot,
    int64_t now);
static int gate_limit_freeze(gate_limit_table_t *t, uint64_t slot,
    gate_limit_debt_t *d);
static void gate_limit_settle_slot(gate_limit_table_t *t,
    const gate_limit_env_t *env, uint64_t slot);
static int gate_limit_copy_slot(gate_limit_table_t *to,
    gate_limit_table_t *from, const gate_limit_slot_t *s, int64_t now);


/*
 * Order: who marks changes the slot, then sets the bit, then its bit in the
 * summary, and leaves out what is set already; who takes a mark away clears
 * the bit, then reads the slot.  A bit of the summary is cleared before its
 * word is looked at again.
 */

int
gate_limit_set_mark(gate_limit_table_t *t, unsigned kind, uint64_t slot)
{
    uint64_t  bit, old, word, *bits, *sums;

    bits = gate_limit_bits(t, t->marks[kind]);
    sums = gate_limit_bits(t, t->sums[kind]);

    word = slot / 64;
    bit = UINT64_C(1) << slot % 64;

    old = __atomic_fetch_or(&bits[word], bit, __ATOMIC_SEQ_CST);

    GATE_LIMIT_POINT("marked");

    slot = word;
    word = slot / 64;

    if (((gate_limit_load(&sums[word]) >> slot % 64) & 1) == 0) {
        (void) __atomic_fetch_or(&sums[word], UINT64_C(1) << slot % 64,
                                 __ATOMIC_SEQ_CST);
    }

    return (old & bit) == 0;
}


void
gate_limit_mark(gate_limit_table_t *t, uint64_t slot, int flush)
{
    if (slot < t->slots) {
        (void) gate_limit_set_mark(t, flush ? GATE_LIMIT_FLUSH
                                            : GATE_LIMIT_DIRTY, slot);
    }
}


uint64_t
gate_limit_marked(gate_limit_table_t *t)
{
    uint64_t  n, slot, word, *dirty, *flush;

    dirty = gate_limit_bits(t, t->marks[GATE_LIMIT_DIRTY]);
    flush = gate_limit_bits(t, t->marks[GATE_LIMIT_FLUSH]);
    n = 0;

    for (slot = gate_limit_next_any(t, 0);
         slot < t->slots;
         slot = gate_limit_next_any(t, (slot / 64 + 1) * 64))
    {
        word = gate_limit_load(&dirty[slot / 64])
               | gate_limit_load(&flush[slot / 64]);
        n += (unsigned) __builtin_popcountll(word);
    }

    return n;
}


/* The first slot with a mark, from that one on; t->slots where none is. */

static uint64_t
gate_limit_next_mark(gate_limit_table_t *t, unsigned kind, uint64_t from)
{
    uint64_t  i, word, words, mask, *bits, *sums;

    bits = gate_limit_bits(t, t->marks[kind]);
    sums = gate_limit_bits(t, t->sums[kind]);
    words = gate_limit_words(t->slots);

    i = from / 64;
    mask = UINT64_MAX << from % 64;

    while (i < words) {
        word = gate_limit_load(&sums[i / 64]) & (UINT64_MAX << i % 64);

        if (word == 0) {
            i = (i / 64 + 1) * 64;
            mask = UINT64_MAX;
            continue;
        }

        if (((word >> i % 64) & 1) == 0) {
            i = i / 64 * 64 + (unsigned) __builtin_ctzll(word);
            mask = UINT64_MAX;
        }

        word = gate_limit_load(&bits[i]);

        if (word == 0) {
            gate_limit_clear_sum(t, kind, i);
        }

        if (word & mask) {
            return i * 64 + (unsigned) __builtin_ctzll(word & mask);
        }

        i++;
        mask = UINT64_MAX;
    }

    return t->slots;
}


static uint64_t
gate_limit_next_any(gate_limit_table_t *t, uint64_t from)
{
    uint64_t  dirty, flush;

    dirty = gate_limit_next_mark(t, GATE_LIMIT_DIRTY, from);
    flush = gate_limit_next_mark(t, GATE_LIMIT_FLUSH, from);

    return dirty < flush ? dirty : flush;
}


/* 1 where there was one. */

static int
gate_limit_take_mark(gate_limit_table_t *t, unsigned kind, uint64_t slot)
{
    uint64_t  bit, *bits;

    bits = gate_limit_bits(t, t->marks[kind]);
    bit = UINT64_C(1) << slot % 64;

    if ((gate_limit_load(&bits[slot / 64]) & bit) == 0) {
        return 0;
    }

    if (__atomic_and_fetch(&bits[slot / 64], ~bit, __ATOMIC_SEQ_CST) == 0) {
        gate_limit_clear_sum(t, kind, slot / 64);
    }

    return 1;
}


static void
gate_limit_clear_sum(gate_limit_table_t *t, unsigned kind, uint64_t word)
{
    uint64_t  bit, *bits, *sums;

    bits = gate_limit_bits(t, t->marks[kind]);
    sums = gate_limit_bits(t, t->sums[kind]);
    bit = UINT64_C(1) << word % 64;

    (void) __atomic_fetch_and(&sums[word / 64], ~bit, __ATOMIC_SEQ_CST);

    if (__atomic_load_n(&bits[word], __ATOMIC_SEQ_CST) != 0) {
        (void) __atomic_fetch_or(&sums[word / 64], bit, __ATOMIC_SEQ_CST);
    }
}


/*
 * Chosen first, then frozen: while it is chosen, debts[] is a heap with the
 * least important one on top, whose "unsent" is how important it is.
 */

size_t
gate_limit_collect(gate_limit_table_t *t, int64_t now, int which,
    gate_limit_debt_t *debts, size_t n, size_t most)
{
    size_t             i, found, got;
    gate_limit_debt_t  tmp;

    found = gate_limit_gather(t, now, GATE_LIMIT_FLUSH, 0, debts, 0, n, &most);

    if (which != GATE_LIMIT_URGENT) {
        found = gate_limit_gather(t, now, GATE_LIMIT_DIRTY,
                                  which == GATE_LIMIT_NOTABLE, debts, found,
                                  n, &most);
    }

    /* the most important one first */

    for (i = found; i > 1; i--) {
        tmp = debts[0];
        debts[0] = debts[i - 1];
        debts[i - 1] = tmp;

        gate_limit_sink(debts, i - 1, 0);
    }

    got = 0;

    for (i = 0; i < found; i++) {
        if (gate_limit_freeze(t, debts[i].slot, &debts[got])) {
            got++;
        }
    }

    return got;
}


/* Adds marked slots to the heap of n, from where it stopped last time. */

static size_t
gate_limit_gather(gate_limit_table_t *t, int64_t now, unsigned kind,
    int notable, gate_limit_debt_t *debts, size_t n, size_t max, size_t *most)
{
    int       wrapped;
    int64_t   weight;
    uint64_t  start, slot;

    start = t->at[kind] < t->slots ? t->at[kind] : 0;
    slot = start;
    wrapped = 0;

    while (*most != 0) {
        slot = gate_limit_next_mark(t, kind, slot);

        if (slot == t->slots) {

            if (wrapped || start == 0) {
                break;
            }

            wrapped = 1;
            slot = 0;
            continue;
        }

        if (wrapped && slot >= start) {
            break;
        }

        (*most)--;

        weight = gate_limit_weight(t, slot, now);

        if (weight < 0) {

            /* nothing to tell; unless a take came in between */

            (void) gate_limit_take_mark(t, kind, slot);

            weight = gate_limit_weight(t, slot, now);

            if (weight >= 0) {
                (void) gate_limit_set_mark(t, kind, slot);
            }
        }

        if (weight >= 0 && kind == GATE_LIMIT_FLUSH) {
            n = gate_limit_offer(debts, n, max, slot,
                                 weight + GATE_LIMIT_FIRST);

        } else if (weight >= 0
                   && !gate_limit_marked_as(t, GATE_LIMIT_FLUSH, slot)
                   && !(notable && gate_limit_small(t, slot, weight)))
        {
            n = gate_limit_offer(debts, n, max, slot, weight);
        }

        slot++;
    }

    t->at[kind] = slot;

    return n;
}


/*
 * How near a slot's key is to its limit, 0 .. GATE_GCRA_CLAMP times
 * GATE_LIMIT_FULLY; -1: there is nothing to tell.
 */

static int64_t
gate_limit_weight(gate_limit_table_t *t, uint64_t slot, int64_t now)
{
    int64_t             debt;
    uint64_t            word;
    gate_rate_t         rate;
    gate_limit_slot_t  *s;

    s = gate_limit_at(t, slot);
    word = gate_limit_load(&s->word);

    if (word == 0 || gate_limit_is_new(word)
        || gate_limit_unsent_of(word) == 0
        || gate_limit_tag_of(gate_limit_load(&s->hash))
           != word >> GATE_LIMIT_TAG)
    {
        return -1;
    }

    if (gate_limit_class_rate(t, gate_limit_cls_of(word), &rate) != 0) {
        return GATE_LIMIT_FULLY;
    }

    debt = gate_gcra_debt(&rate, gate_limit_load(&s->tat), now);

    return (int64_t) ((double) debt * (double) GATE_LIMIT_FULLY
                      / (double) (rate.interval * rate.capacity));
}


/* What nobody would decide otherwise for. */

static int
gate_limit_small(gate_limit_table_t *t, uint64_t slot, int64_t weight)
{
    uint64_t     word;
    gate_rate_t  rate;

    word = gate_limit_load(&gate_limit_at(t, slot)->word);

    return weight < GATE_LIMIT_FULLY / 2
           && gate_limit_unsent_of(word) > 0
           && gate_limit_class_rate(t, gate_limit_cls_of(word), &rate) == 0
           && gate_limit_unsent_of(word) * GATE_LIMIT_SMALL < rate.capacity;
}


/* Keeps the "max" most important ones. */

static size_t
gate_limit_offer(gate_limit_debt_t *debts, size_t n, size_t max,
    uint64_t slot, int64_t weight)
{
    size_t             i, up;
    gate_limit_debt_t  tmp;

    if (n == max) {

        if (max != 0 && weight > debts[0].unsent) {
            debts[0].slot = slot;
            debts[0].unsent = weight;
            gate_limit_sink(debts, n, 0);
        }

        return n;
    }

    debts[n].slot = slot;
    debts[n].unsent = weight;

    for (i = n; i != 0; i = up) {
        up = (i - 1) / 2;

        if (debts[up].unsent <= debts[i].unsent) {
            break;
        }

        tmp = debts[up];
        debts[up] = debts[i];
        debts[i] = tmp;
    }

    return n + 1;
}


static void
gate_limit_sink(gate_limit_debt_t *debts, size_t n, size_t i)
{
    size_t             next;
    gate_limit_debt_t  tmp;

    for ( ;; ) {
        next = 2 * i + 1;

        if (next >= n) {
            return;
        }

        if (next + 1 < n && debts[next + 1].unsent < debts[next].unsent) {
            next++;
        }

        if (debts[i].unsent <= debts[next].unsent) {
            return;
        }

        tmp = debts[next];
        debts[next] = debts[i];
        debts[i] = tmp;

        i = next;
    }
}


/*
 * One slot's debt, as it is at one moment, and no mark on it.  0 where it had
 * no mark or has nothing to tell.
 */

static int
gate_limit_freeze(gate_limit_table_t *t, uint64_t slot, gate_limit_debt_t *d)
{
    int                 marked;
    uint64_t            word;
    gate_limit_slot_t  *s;

    marked = gate_limit_take_mark(t, GATE_LIMIT_FLUSH, slot);
    marked |= gate_limit_take_mark(t, GATE_LIMIT_DIRTY, slot);

    if (!marked) {
        return 0;
    }

    GATE_LIMIT_POINT("unmarked");

    s = gate_limit_at(t, slot);

    do {
        d->tat = gate_limit_load(&s->tat);
        word = gate_limit_load(&s->word);
        d->hash = gate_limit_load(&s->hash);

        if (word == 0 || gate_limit_is_new(word)
            || gate_limit_tag_of(d->hash) != word >> GATE_LIMIT_TAG)
        {
            return 0;
        }

    } while (!gate_limit_cas(&s->tat, &s->word, d->tat, word, d->tat, word));

    d->slot = slot;
    d->cls = gate_limit_cls_of(word);
    d->unsent = gate_limit_unsent_of(word);

    return d->unsent != 0;
}


void
gate_limit_acked(gate_limit_table_t *t, const gate_limit_debt_t *d,
    int64_t now, int64_t debt, unsigned nodes)
{
    int64_t             tat, rest, fleet, next;
    uint64_t            word;
    unsigned            cls;
    gate_rate_t         rate, old;
    gate_limit_slot_t  *s;

    if (d->slot >= t->slots) {
        return;
    }

    s = gate_limit_at(t, d->slot);

    do {
        word = gate_limit_load(&s->word);
        tat = gate_limit_load(&s->tat);

        if (gate_limit_is_new(word) || !gate_limit_same(s, word, d->hash)) {
            return;
        }

        cls = gate_limit_cls_of(word);
        rest = gate_limit_unsent_of(word) - d->unsent;
        fleet = now + debt;
        next = 0;

        if (gate_limit_class_rate(t, cls, &rate) == 0) {

            if (cls != d->cls
                && gate_limit_class_rate(t, d->cls, &old) == 0)
            {
                fleet = gate_gcra_rescale(&old, &rate, fleet, now);
            }

            next = gate_limit_units(&rate, rest);
        }

        next += fleet;

        /* a fleet that is told less than it says has been given some back */

        if (next < tat && (cls != d->cls
                           || now + debt + GATE_LIMIT_SLACK >= d->tat))
        {
            next = tat;
        }

        gate_limit_store(&s->fleet, fleet);

    } while (!gate_limit_cas(&s->tat, &s->word, tat, word, next,
                             gate_limit_word(word >> GATE_LIMIT_TAG,
                                             nodes ? nodes
                                                   : gate_limit_nodes_of(word),
                                             cls, rest)));

    GATE_LIMIT_POINT("acked");

    if (rest != 0) {
        (void) gate_limit_set_mark(t, GATE_LIMIT_DIRTY, d->slot);
    }
}


int
gate_limit_settle(gate_limit_table_t *t, const gate_limit_env_t *env,
    uint64_t *at, uint64_t most)
{
    uint64_t  slot;

    for (slot = *at; most != 0; most--) {
        slot = gate_limit_next_any(t, slot);

        if (slot == t->slots) {
            *at = 0;
            return 1;
        }

        /* before, not after: rather not settled than settled twice */

        *at = ++slot;

        gate_limit_settle_slot(t, env, slot - 1);
    }

    return 0;
}


static void
gate_limit_settle_slot(gate_limit_table_t *t, const gate_limit_env_t *env,
    uint64_t slot)
{
    int64_t             tat, owed, unsent, units, fleet, least;
    uint64_t            word;
    unsigned            n;
    gate_rate_t         rate;
    gate_limit_slot_t  *s;

    s = gate_limit_at(t, slot);
    fleet = gate_limit_load(&s->fleet);

    do {
        word = gate_limit_load(&s->word);
        tat = gate_limit_load(&s->tat);

        if (word == 0 || gate_limit_is_new(word)) {
            return;
        }

        n = gate_limit_factor(env, gate_limit_spenders(env, word, fleet));

        owed = tat > env->now ? (tat - env->now) / n : 0;
        unsent = gate_limit_unsent_of(word);

        if (gate_limit_class_rate(t, gate_limit_cls_of(word), &rate) == 0) {
            units = owed / rate.interval + (owed % rate.interval != 0);
            unsent = unsent < units ? unsent : units;

            /* what Redis knew was not multiplied; it may have forgotten it */

            if (fleet > env->now) {
                least = fleet - env->now + gate_limit_units(&rate, unsent);
                least = least < tat - env->now ? least : tat - env->now;
                owed = owed > least ? owed : least;
            }
        }

    } while (!gate_limit_cas(&s->tat, &s->word, tat, word,
                             owed ? env->now + owed : tat,
                             gate_limit_word(word >> GATE_LIMIT_TAG,
                                             gate_limit_nodes_of(word),
                                             gate_limit_cls_of(word),
                                             unsent)));
}


int
gate_limit_sweep(gate_limit_table_t *t, int64_t now, uint64_t *at,
    uint64_t most, gate_limit_count_t *count)
{
    uint64_t            slot, end, word;
    gate_limit_slot_t  *s;

    slot = *at;
    end = most < t->slots - slot ? slot + most : t->slots;

    for ( /* void */ ; slot < end; slot++) {
        s = gate_limit_at(t, slot);
        word = gate_limit_load(&s->word);

        if (word == 0 || gate_limit_is_new(word)
            || gate_limit_tag_of(gate_limit_load(&s->hash))
               != word >> GATE_LIMIT_TAG)
        {
            continue;
        }

        count->used++;
        count->debtors += gate_limit_load(&s->tat) > now;

        if (gate_limit_unsent_of(word) != 0) {
            count->unsent++;

            /* also the summary of a mark that is there */

            (void) gate_limit_set_mark(t,
                       gate_limit_marked_as(t, GATE_LIMIT_FLUSH, slot)
                       ? GATE_LIMIT_FLUSH : GATE_LIMIT_DIRTY, slot);
        }
    }

    *at = slot < t->slots ? slot : 0;

    return *at == 0;
}


uint64_t
gate_limit_copy(gate_limit_table_t *to, gate_limit_table_t *from, int64_t now)
{
    uint64_t            i, left_out;
    gate_limit_slot_t  *s, seen;

    left_out = 0;

    for (i = 0; i < from->slots; i++) {
        s = gate_limit_at(from, i);

        /* workers that retire still take from the old one */

        do {
            seen.tat = gate_limit_load(&s->tat);
            seen.word = gate_limit_load(&s->word);
            seen.hash = gate_limit_load(&s->hash);
            seen.fleet = gate_limit_load(&s->fleet);

        } while (seen.word != 0
                 && !gate_limit_cas(&s->tat, &s->word, seen.tat, seen.word,
                                    seen.tat, seen.word));

        if (seen.word != 0 && !gate_limit_is_new(seen.word)
            && gate_limit_tag_of(seen.hash) == seen.word >> GATE_LIMIT_TAG
            && (seen.tat > now || gate_limit_unsent_of(seen.word) != 0))
        {
            left_out += gate_limit_copy_slot(to, from, &seen, now) != 0;
        }
    }

    return left_out;
}


static int
gate_limit_copy_slot(gate_limit_table_t *to, gate_limit_table_t *from,
    const gate_limit_slot_t *s, int64_t now)
{
    unsigned            cls;
    gate_rate_t         rate;
    gate_limit_slot_t  *new;
    gate_limit_take_t   take;

    cls = gate_limit_cls_of(s->word);

    if (gate_limit_class_rate(from, cls, &rate) == 0) {
        cls = gate_limit_class(to, &rate);
    }

    memset(&take, 0, sizeof(gate_limit_take_t));

    take.hash = s->hash;
    take.cls = (uint8_t) cls;

    new = gate_limit_enter(to, now, &take);

    if (new == NULL) {
        return -1;
    }

    new->tat = s->tat;
    new->fleet = s->fleet;
    new->word = gate_limit_word(gate_limit_tag_of(s->hash),
                                gate_limit_nodes_of(s->word), cls,
                                gate_limit_unsent_of(s->word));

    if (gate_limit_unsent_of(s->word) != 0) {
        gate_limit_mark(to, gate_limit_number(to, new), 0);
    }

    return 0;
}

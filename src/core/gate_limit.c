
#include "gate_limit_slot.h"


/* ns: until Redis has acknowledged, at the latest */

#define GATE_LIMIT_RETRY  INT64_C(1000000000)

/* units that a node may take before that, if so many are left */

#define GATE_LIMIT_LEAST  3


_Static_assert(sizeof(gate_limit_slot_t) == 32, "two slots a cache line");
_Static_assert(offsetof(gate_limit_table_t, slot) % 64 == 0, "alignment");


/* where a key may be: its buckets, and the line of a bucket to begin with */

typedef struct {
    gate_limit_slot_t  *bucket[GATE_LIMIT_WAYS];
    unsigned            home;
} gate_limit_place_t;


/* a slot that may be taken for a new key, as it was seen */

typedef struct {
    gate_limit_slot_t  *slot;
    int64_t             tat;
    uint64_t            word;
    uint64_t            hash;
} gate_limit_seen_t;


/* what a key owes before it and after it was charged */

typedef struct {
    int64_t             tat;
    uint64_t            word;
    int64_t             fleet;
    int64_t             seen_tat;      /* what is in the slot */
    uint64_t            seen_word;
    int64_t             next_tat;
    uint64_t            next_word;
    int                 flush;
} gate_limit_debtor_t;


static uint64_t gate_limit_buckets(uint64_t keys);
static uint64_t gate_limit_total(uint64_t buckets);
static gate_limit_slot_t *gate_limit_find_more(gate_limit_table_t *t,
    uint64_t hash);
static void gate_limit_place(gate_limit_table_t *t, uint64_t hash,
    gate_limit_place_t *place);
static int gate_limit_choose(const gate_limit_place_t *place, int64_t now,
    gate_limit_seen_t *seen);
static void gate_limit_look(gate_limit_slot_t *s, int64_t now,
    gate_limit_seen_t *seen, int *kind);
static int gate_limit_claim(const gate_limit_seen_t *seen, int64_t now,
    const gate_limit_take_t *take);
static gate_limit_slot_t *gate_limit_alone(gate_limit_table_t *t,
    gate_limit_slot_t *s, const gate_limit_debtor_t *d, uint64_t hash);
static int64_t gate_limit_share(const gate_limit_env_t *env,
    const gate_limit_take_t *take, int64_t fleet, unsigned spenders,
    int64_t *most);
static int gate_limit_refused(gate_limit_take_t *take, int64_t debt,
    int64_t remaining, int64_t retry);
static void gate_limit_nothing(const gate_limit_take_t *take,
    gate_limit_debtor_t *d);


/* where a bucket is that a hash of 32 bits says, of n: no division */

#define gate_limit_reduce(h, n)  ((((h) & 0xffffffff) * (n)) >> 32)

/*
 * Places are of all the hash's bits, or of others than the tag is of: the
 * tags of a bucket's slots have to differ.
 */

#define gate_limit_way0(t, hash)                                              \
    gate_limit_reduce(hash, (t)->buckets)

#define gate_limit_mix(hash, m)  (((hash) * UINT64_C(m)) >> 32)


static inline uint64_t
gate_limit_way1(const gate_limit_table_t *t, uint64_t hash, uint64_t way0)
{
    uint64_t  n;

    /* never the same one */

    n = way0 + 1 + gate_limit_reduce(gate_limit_mix(hash, 0x9e3779b97f4a7c15),
                                     t->buckets - 1);

    return n < t->buckets ? n : n - t->buckets;
}


#define gate_limit_way2(t, hash)                                              \
    gate_limit_reduce(gate_limit_mix(hash, 0xc2b2ae3d27d4eb4f), (t)->buckets)

#define gate_limit_way3(t, hash)                                              \
    gate_limit_reduce(gate_limit_mix(hash, 0x165667b19e3779f9), (t)->buckets)

#define gate_limit_home(hash)                                                 \
    ((unsigned) ((hash) >> 32) & (GATE_LIMIT_BUCKET / 2 - 1))

#define gate_limit_hit(s, h)                                                  \
    ((s)->hash == (h)                                                         \
     && (gate_limit_load(&(s)->word) ^ (h)) >> GATE_LIMIT_TAG == 0)


/*
 * The slot of a key, in whatever state, or NULL.  In the order of lookup:
 * the first line of the one bucket, the first line of the other, and so on;
 * most keys are found in the first two.
 */

static inline gate_limit_slot_t *
gate_limit_find(gate_limit_table_t *t, uint64_t hash)
{
    unsigned            i, line;
    uint64_t            way;
    gate_limit_slot_t  *a, *b;

    way = gate_limit_way0(t, hash);
    a = &t->slot[way * GATE_LIMIT_BUCKET];
    b = &t->slot[gate_limit_way1(t, hash, way) * GATE_LIMIT_BUCKET];

    line = gate_limit_home(hash) * 2;

    __builtin_prefetch(&a[line], 1);
    __builtin_prefetch(&b[line], 1);

    for (i = 0; i < GATE_LIMIT_BUCKET / 2; i++) {

        if (gate_limit_hit(&a[line], hash)) {
            return &a[line];
        }

        if (gate_limit_hit(&a[line + 1], hash)) {
            return &a[line + 1];
        }

        if (gate_limit_hit(&b[line], hash)) {
            return &b[line];
        }

        if (gate_limit_hit(&b[line + 1], hash)) {
            return &b[line + 1];
        }

        line = (line + 2) % GATE_LIMIT_BUCKET;
    }

    return gate_limit_find_more(t, hash);
}


/* The n-th slot in the order of lookup. */

static inline gate_limit_slot_t *
gate_limit_probe(const gate_limit_place_t *place, unsigned n)
{
    unsigned  way, line;

    way = n / (2 * GATE_LIMIT_BUCKET) * 2 + n / 2 % 2;
    line = (n / 4 + place->home) % (GATE_LIMIT_BUCKET / 2);

    return &place->bucket[way][line * 2 + n % 2];
}


size_t
gate_limit_size(uint64_t keys)
{
    return gate_limit_total(gate_limit_buckets(keys));
}


static uint64_t
gate_limit_buckets(uint64_t keys)
{
    if (keys < GATE_LIMIT_KEYS_MIN) {
        keys = GATE_LIMIT_KEYS_MIN;

    } else if (keys > GATE_LIMIT_KEYS_MAX) {
        keys = GATE_LIMIT_KEYS_MAX;
    }

    /* a bucket, its slots' marks, and their part of the summaries */

    return keys * 48
           / (GATE_LIMIT_BUCKET * sizeof(gate_limit_slot_t)
              + GATE_LIMIT_BUCKET * GATE_LIMIT_MARKS / 8 + 1);
}


static uint64_t
gate_limit_total(uint64_t buckets)
{
    uint64_t  slots, words;

    slots = buckets * GATE_LIMIT_BUCKET;
    words = gate_limit_words(slots);

    return sizeof(gate_limit_table_t) + slots * sizeof(gate_limit_slot_t)
           + (words + gate_limit_words(words)) * 8 * GATE_LIMIT_MARKS;
}


gate_limit_table_t *
gate_limit_init(void *mem, uint64_t keys)
{
    unsigned             i;
    uint64_t             offset, words;
    gate_limit_table_t  *t;

    if (!GATE_LIMIT_SUPPORTED) {
        return NULL;
    }

    t = mem;

    t->buckets = gate_limit_buckets(keys);
    t->slots = t->buckets * GATE_LIMIT_BUCKET;
    t->size = gate_limit_total(t->buckets);

    offset = sizeof(gate_limit_table_t)
             + t->slots * sizeof(gate_limit_slot_t);
    words = gate_limit_words(t->slots);

    for (i = 0; i < GATE_LIMIT_MARKS; i++) {
        t->marks[i] = offset;
        offset += words * 8;
        t->sums[i] = offset;
        offset += gate_limit_words(words) * 8;
    }

    gate_limit_store(&t->magic, GATE_LIMIT_MAGIC);

    return t;
}


gate_limit_table_t *
gate_limit_open(void *mem, size_t size)
{
    gate_limit_table_t  *t;

    t = mem;

    if (size < sizeof(gate_limit_table_t)
        || gate_limit_load(&t->magic) != GATE_LIMIT_MAGIC
        || t->size > size
        || t->slots != t->buckets * GATE_LIMIT_BUCKET
        || t->size != gate_limit_total(t->buckets))
    {
        return NULL;
    }

    return t;
}


uint64_t
gate_limit_slots(gate_limit_table_t *t)
{
    return t->slots;
}


gate_limit_slot_t *
gate_limit_slot(gate_limit_table_t *t, uint64_t number)
{
    return number < t->slots ? &t->slot[number] : NULL;
}


/* Each class is written once, whole. */

uint8_t
gate_limit_class(gate_limit_table_t *t, const gate_rate_t *rate)
{
    unsigned      i, n;
    uint64_t      h;
    gate_rate_t  *class;

    h = (uint64_t) rate->interval * UINT64_C(0x9e3779b97f4a7c15)
        + (uint64_t) rate->capacity * UINT64_C(0xc2b2ae3d27d4eb4f);
    n = (unsigned) (h >> 32) % (GATE_LIMIT_CLASSES - 1);

    for (i = 0; i < GATE_LIMIT_CLASSES - 1; i++) {
        class = &t->classes[1 + n];

        if (gate_limit_load(&class->interval) == 0) {
            (void) gate_limit_cas(&class->interval,
                                  (uint64_t *) &class->capacity, 0, 0,
                                  rate->interval, (uint64_t) rate->capacity);
        }

        if (gate_limit_load(&class->interval) == rate->interval
            && gate_limit_load(&class->capacity) == rate->capacity)
        {
            return (uint8_t) (1 + n);
        }

        n = (n + 1) % (GATE_LIMIT_CLASSES - 1);
    }

    return 0;
}


int
gate_limit_class_rate(gate_limit_table_t *t, unsigned cls, gate_rate_t *rate)
{
    if (cls == 0 || cls >= GATE_LIMIT_CLASSES
        || gate_limit_load(&t->classes[cls].interval) == 0)
    {
        return -1;
    }

    rate->interval = t->classes[cls].interval;
    rate->capacity = t->classes[cls].capacity;

    return 0;
}


int64_t
gate_limit_convert(gate_limit_table_t *t, unsigned from, unsigned to,
    const gate_rate_t *rate, int64_t tat, int64_t now)
{
    int64_t      max;
    gate_rate_t  old;

    if (tat <= now) {
        return tat;
    }

    if (to != 0 && gate_limit_class_rate(t, from, &old) == 0) {
        return gate_gcra_rescale(&old, rate, tat, now);
    }

    max = now + rate->interval * rate->capacity;

    return tat < max ? tat : max;
}


/* The rest of a lookup: the buckets of keys that found the others full. */

static gate_limit_slot_t *
gate_limit_find_more(gate_limit_table_t *t, uint64_t hash)
{
    unsigned             i;
    gate_limit_slot_t   *s;
    gate_limit_place_t   place;

    gate_limit_place(t, hash, &place);

    for (i = 0; i < GATE_LIMIT_PROBES / 2; i++) {
        if (gate_limit_load(&gate_limit_probe(&place, i)->word) == 0) {
            return NULL;
        }
    }

    for ( /* void */ ; i < GATE_LIMIT_PROBES; i++) {
        s = gate_limit_probe(&place, i);

        if (gate_limit_is(s, gate_limit_load(&s->word), hash)) {
            return s;
        }
    }

    return NULL;
}


static void
gate_limit_place(gate_limit_table_t *t, uint64_t hash,
    gate_limit_place_t *place)
{
    unsigned  i;
    uint64_t  way[GATE_LIMIT_WAYS];

    way[0] = gate_limit_way0(t, hash);
    way[1] = gate_limit_way1(t, hash, way[0]);
    way[2] = gate_limit_way2(t, hash);
    way[3] = gate_limit_way3(t, hash);

    for (i = 0; i < GATE_LIMIT_WAYS; i++) {
        place->bucket[i] = &t->slot[way[i] * GATE_LIMIT_BUCKET];
    }

    place->home = gate_limit_home(hash);
}


/* what a slot is to a key that looks for one, the better the higher */

enum {
    GATE_LIMIT_DEBTOR = 0,
    GATE_LIMIT_UNSENT,                 /* paid, but Redis does not know */
    GATE_LIMIT_PAID,
    GATE_LIMIT_UNUSED
};


/*
 * The best slot for a new key: one that was never used, else the one that is
 * paid for the longest time; in the emptier bucket of the first two, else of
 * the others; else one that is paid and not sent.  0 where all are in debt,
 * else GATE_LIMIT_*.
 */

static int
gate_limit_choose(const gate_limit_place_t *place, int64_t now,
    gate_limit_seen_t *seen)
{
    int                kind, best[2];
    unsigned           i, n, way, room[2];
    gate_limit_seen_t  s, good[2], unsent;

    unsent.slot = NULL;
    unsent.tat = 0;

    for (n = 0; n < GATE_LIMIT_PROBES; n += 2 * GATE_LIMIT_BUCKET) {

        best[0] = best[1] = 0;
        room[0] = room[1] = 0;

        for (i = 0; i < 2 * GATE_LIMIT_BUCKET; i++) {
            way = i / 2 % 2;

            gate_limit_look(gate_limit_probe(place, n + i), now, &s, &kind);

            if (kind == GATE_LIMIT_UNSENT
                && (unsent.slot == NULL || s.tat < unsent.tat))
            {
                unsent = s;
            }

            if (kind < GATE_LIMIT_PAID) {
                continue;
            }

            /* one unused slot weighs more than a bucket of paid ones */

            room[way] += kind == GATE_LIMIT_UNUSED ? GATE_LIMIT_BUCKET + 1 : 1;

            if (kind > best[way]
                || (kind == best[way] && s.tat < good[way].tat))
            {
                best[way] = kind;
                good[way] = s;
            }
        }

        if (room[0] || room[1]) {
            way = room[1] > room[0];
            *seen = good[way];
            return best[way];
        }
    }

    if (unsent.slot != NULL) {
        *seen = unsent;
        return GATE_LIMIT_UNSENT;
    }

    return GATE_LIMIT_DEBTOR;
}


static void
gate_limit_look(gate_limit_slot_t *s, int64_t now, gate_limit_seen_t *seen,
    int *kind)
{
    seen->slot = s;
    seen->hash = gate_limit_load(&s->hash);
    seen->word = gate_limit_load(&s->word);
    seen->tat = gate_limit_load(&s->tat);

    if (seen->word == 0) {
        *kind = GATE_LIMIT_UNUSED;

    } else if (gate_limit_is_new(seen->word)) {
        *kind = seen->tat + GATE_LIMIT_LEASE <= now ? GATE_LIMIT_PAID
                                                    : GATE_LIMIT_DEBTOR;

    } else if (seen->tat > now) {
        *kind = GATE_LIMIT_DEBTOR;

    } else {
        *kind = gate_limit_unsent_of(seen->word) ? GATE_LIMIT_UNSENT
                                                 : GATE_LIMIT_PAID;
    }
}


/*
 * Takes a slot over.  1, or 0 where somebody else was faster.  The hash too
 * is changed only if it is what it was: who is stopped in between, and goes
 * on when the slot is another one's, does no harm.
 */

static int
gate_limit_claim(const gate_limit_seen_t *seen, int64_t now,
    const gate_limit_take_t *take)
{
    uint64_t            hash, word;
    gate_limit_slot_t  *s;

    s = seen->slot;
    hash = seen->hash;

    /* the nodes keep it from being 0 */

    word = gate_limit_tag_of(take->hash) << GATE_LIMIT_TAG
           | (uint64_t) GATE_LIMIT_NODES_MAX << GATE_LIMIT_NODES
           | (uint64_t) take->cls << GATE_LIMIT_CLS;

    if (!gate_limit_cas(&s->tat, &s->word, seen->tat, seen->word, now, word)) {
        return 0;
    }

    GATE_LIMIT_POINT("claimed");

    gate_limit_store(&s->fleet, 0);

    GATE_LIMIT_POINT("cleared");

    return __atomic_compare_exchange_n(&s->hash, &hash, take->hash, 0,
                                       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}


gate_limit_slot_t *
gate_limit_enter(gate_limit_table_t *t, int64_t now, gate_limit_take_t *take)
{
    int                  kind, had;
    gate_limit_slot_t   *s;
    gate_limit_seen_t    seen;
    gate_limit_place_t   place;

    gate_limit_place(t, take->hash, &place);

    for ( ;; ) {
        kind = gate_limit_choose(&place, now, &seen);

        if (kind == GATE_LIMIT_DEBTOR) {
            return NULL;
        }

        if (gate_limit_claim(&seen, now, take)) {
            had = kind != GATE_LIMIT_UNUSED && !gate_limit_is_new(seen.word);
            take->evicted = had;
            take->dropped = kind == GATE_LIMIT_UNSENT;
            return seen.slot;
        }

        /* the one that was faster may have brought in the same key */

        s = gate_limit_find(t, take->hash);

        if (s != NULL) {
            return s;
        }
    }
}


/*
 * Before a new slot is charged: no other one of the key may be charged, now
 * or later.  Returns the slot, or another one that is to be used instead, or
 * NULL where to look again.
 */

static gate_limit_slot_t *
gate_limit_alone(gate_limit_table_t *t, gate_limit_slot_t *s,
    const gate_limit_debtor_t *d, uint64_t hash)
{
    int                  before;
    int64_t              tat;
    unsigned             i;
    uint64_t             word;
    gate_limit_slot_t   *q;
    gate_limit_place_t   place;

    gate_limit_place(t, hash, &place);
    gate_limit_fence();

    before = 1;

    for (i = 0; i < GATE_LIMIT_PROBES; i++) {
        q = gate_limit_probe(&place, i);

        if (q == s) {
            before = 0;
            continue;
        }

        word = gate_limit_load(&q->word);
        tat = gate_limit_load(&q->tat);

        if (!gate_limit_is(q, word, hash)) {
            continue;
        }

        if (!gate_limit_is_new(word)) {

            /* or it would be found first for ever */

            (void) gate_limit_cas(&s->tat, &s->word, d->seen_tat, d->seen_word,
                                  GATE_LIMIT_NEVER,
                                  gate_limit_nobody(d->seen_word));
            return q;
        }

        if (before) {
            return q;
        }

        GATE_LIMIT_POINT("twice");

        if (!gate_limit_cas(&q->tat, &q->word, tat, word, GATE_LIMIT_NEVER,
                            gate_limit_nobody(word)))
        {
            return NULL;
        }
    }

    return s;
}


/*
 * The decision.  *d has what the key owes, in a TAT of the rate that it is
 * about, and gets what it will owe.
 */

static inline int
gate_limit_decide(const gate_limit_env_t *env, gate_limit_take_t *take,
    gate_limit_debtor_t *d)
{
    int64_t   debt, total, left, unit, need, unsent, share, most;
    unsigned  spenders;

    debt = gate_gcra_debt(&take->rate, d->tat, env->now);
    unit = take->rate.interval;
    total = unit * take->rate.capacity;
    left = total - debt;
    spenders = 0;

    if (env->shared) {
        spenders = gate_limit_spenders(env, d->word, d->fleet);
        unit *= gate_limit_factor(env, spenders);
    }

    if (take->cost > take->rate.capacity) {
        return gate_limit_refused(take, debt, left / unit, -1);
    }

    /* who owes nothing has one, even if that is more than the node's part */

    need = unit * take->cost;

    if (need > left && debt != 0) {
        return gate_limit_refused(take, debt, left / unit,
                                  (need < total ? need : total) - left);
    }

    unsent = gate_limit_unsent_of(d->word);
    share = INT64_MAX;

    if (spenders > 1 && !env->away && take->cost != 0) {
        share = gate_limit_share(env, take, d->fleet, spenders, &most);

        if (unsent + take->cost > (unsent > 0 ? share : most)) {
            take->share = 1;
            return gate_limit_refused(take, debt, 0,
                                      unit < GATE_LIMIT_RETRY
                                      ? unit : GATE_LIMIT_RETRY);
        }
    }

    debt += need;
    left -= need;

    take->charged = need;
    take->v.limited = 0;
    take->v.retry_after = -1;
    take->v.reset_after = debt;
    take->v.remaining = left >= unit ? left / unit : debt == 0;

    d->next_tat = env->now + debt;
    /* soon: it is unknown, near its limit, or the next one has no share */

    d->flush = !env->away
               && (spenders == 0 || debt > left
                   || (unsent + take->cost) * 8 > take->rate.capacity
                   || unsent + 2 * take->cost > share);

    return GATE_LIMIT_PASSED;
}


/*
 * How many units may be unacknowledged at most: this node's part of what is
 * left of the key, as Redis told it.  "most" is all of that.
 */

static int64_t
gate_limit_share(const gate_limit_env_t *env, const gate_limit_take_t *take,
    int64_t fleet, unsigned spenders, int64_t *most)
{
    int64_t  left, part, least;

    left = take->rate.interval * take->rate.capacity;

    if (fleet > env->now) {
        left -= fleet - env->now;
    }

    left = left > 0 ? left / take->rate.interval : 0;
    part = left / spenders;
    least = left < GATE_LIMIT_LEAST ? left : GATE_LIMIT_LEAST;

    *most = left;

    return part > least ? part : least;
}


static int
gate_limit_refused(gate_limit_take_t *take, int64_t debt, int64_t remaining,
    int64_t retry)
{
    take->charged = 0;
    take->v.limited = 1;
    take->v.retry_after = retry;
    take->v.reset_after = debt;
    take->v.remaining = remaining > 0 ? remaining : 0;

    return GATE_LIMIT_LIMITED;
}


/* The word after a take: the same key's, of that class, with more unsent. */

static inline uint64_t
gate_limit_next(uint64_t word, unsigned cls, int64_t unsent)
{
    uint64_t  raw;

    raw = (word & GATE_LIMIT_RAW) + (uint64_t) unsent;

    if (raw > GATE_LIMIT_RAW) {
        raw = GATE_LIMIT_RAW;
    }

    return (word & ~((UINT64_C(1) << GATE_LIMIT_NODES) - 1))
           | (uint64_t) cls << GATE_LIMIT_CLS | raw;
}


/*
 * What a key owes in a slot.  1; 0 where that is not its slot any more, or
 * another one is to be used: *s is that then, or NULL.
 */

static inline int
gate_limit_read(gate_limit_table_t *t, gate_limit_slot_t **s, int64_t now,
    const gate_limit_take_t *take, gate_limit_debtor_t *d)
{
    gate_limit_slot_t  *q;

    d->word = gate_limit_load(&(*s)->word);
    d->tat = gate_limit_load(&(*s)->tat);
    d->fleet = gate_limit_load(&(*s)->fleet);
    d->seen_word = d->word;
    d->seen_tat = d->tat;

    if (!gate_limit_is(*s, d->word, take->hash)) {
        *s = gate_limit_find(t, take->hash);
        return 0;
    }

    if (gate_limit_is_new(d->word)) {
        q = gate_limit_alone(t, *s, d, take->hash);

        if (q != *s) {
            *s = q;
            return 0;
        }

        gate_limit_nothing(take, d);

        return 1;
    }

    if (gate_limit_cls_of(d->word) != take->cls || take->cls == 0) {
        d->tat = gate_limit_convert(t, gate_limit_cls_of(d->word), take->cls,
                                    &take->rate, d->tat, now);
    }

    return 1;
}


/* A key that has no debt. */

static void
gate_limit_nothing(const gate_limit_take_t *take, gate_limit_debtor_t *d)
{
    d->tat = GATE_LIMIT_NEVER;
    d->fleet = GATE_LIMIT_NEVER;
    d->word = gate_limit_word(gate_limit_tag_of(take->hash), 0, take->cls, 0);
}


static void
gate_limit_reset(gate_limit_take_t *take)
{
    take->slot = GATE_LIMIT_NO_SLOT;
    take->charged = 0;
    take->share = 0;
    take->evicted = 0;
    take->dropped = 0;
    take->flush = 0;
}


/* Marks what a take left to be told. */

static inline void
gate_limit_note(gate_limit_table_t *t, gate_limit_take_t *take, int rc,
    int flush)
{
    if (rc == GATE_LIMIT_LIMITED) {
        flush = take->share;
    }

    if (flush) {
        take->flush = gate_limit_marked_as(t, GATE_LIMIT_FLUSH, take->slot)
                      ? 0 : gate_limit_set_mark(t, GATE_LIMIT_FLUSH,
                                                take->slot);

    } else if (rc == GATE_LIMIT_PASSED && take->cost != 0
               && !gate_limit_marked_as(t, GATE_LIMIT_DIRTY, take->slot))
    {
        (void) gate_limit_set_mark(t, GATE_LIMIT_DIRTY, take->slot);
    }
}


int
gate_limit_take(gate_limit_table_t *t, const gate_limit_env_t *env,
    gate_limit_take_t *take)
{
    int                   rc;
    gate_limit_slot_t    *s;
    gate_limit_debtor_t   d;

    gate_limit_reset(take);

    s = gate_limit_find(t, take->hash);

    for ( ;; ) {

        if (s == NULL) {
            gate_limit_nothing(take, &d);
            rc = gate_limit_decide(env, take, &d);

            if (rc != GATE_LIMIT_PASSED || take->cost == 0) {
                return rc;
            }

            s = gate_limit_enter(t, env->now, take);

            if (s == NULL) {
                return GATE_LIMIT_FULL;
            }

            GATE_LIMIT_POINT("entered");
        }

        if (!gate_limit_read(t, &s, env->now, take, &d)) {
            continue;
        }

        rc = gate_limit_decide(env, take, &d);

        if (rc != GATE_LIMIT_PASSED || take->cost == 0) {

            /* TAT and word that are not of the same moment say nothing */

            if (gate_limit_load(&s->word) == d.seen_word) {
                break;
            }

            continue;
        }

        d.next_word = gate_limit_next(d.word, take->cls,
                                      env->shared ? take->cost : 0);

        if (gate_limit_cas(&s->tat, &s->word, d.seen_tat, d.seen_word,
                           d.next_tat, d.next_word))
        {
            break;
        }
    }

    GATE_LIMIT_POINT("taken");

    take->slot = gate_limit_number(t, s);

    if (env->shared) {
        gate_limit_note(t, take, rc, d.flush);
    }

    return rc;
}


int
gate_limit_peek(gate_limit_table_t *t, const gate_limit_env_t *env,
    gate_limit_take_t *take)
{
    int                   rc;
    gate_limit_slot_t    *s;
    gate_limit_seen_t     seen;
    gate_limit_place_t    place;
    gate_limit_debtor_t   d;

    gate_limit_reset(take);

    s = gate_limit_find(t, take->hash);

    for ( ;; ) {

        if (s == NULL) {
            gate_limit_nothing(take, &d);
            rc = gate_limit_decide(env, take, &d);

            if (rc != GATE_LIMIT_PASSED || take->cost == 0) {
                break;
            }

            gate_limit_place(t, take->hash, &place);

            if (gate_limit_choose(&place, env->now, &seen)
                == GATE_LIMIT_DEBTOR)
            {
                rc = GATE_LIMIT_FULL;
            }

            break;
        }

        if (!gate_limit_read(t, &s, env->now, take, &d)) {
            continue;
        }

        rc = gate_limit_decide(env, take, &d);

        if (gate_limit_load(&s->word) == d.seen_word) {
            take->slot = gate_limit_number(t, s);
            break;
        }
    }

    take->charged = 0;

    return rc;
}


void
gate_limit_refund(gate_limit_table_t *t, const gate_limit_env_t *env,
    gate_limit_take_t *take)
{
    int64_t               unsent;
    gate_limit_slot_t    *s;
    gate_limit_debtor_t   d;

    if (take->charged == 0) {
        return;
    }

    s = take->slot < t->slots ? &t->slot[take->slot]
                              : gate_limit_find(t, take->hash);

    do {

        if (s == NULL) {
            return;
        }

        if (!gate_limit_read(t, &s, env->now, take, &d)) {
            d.seen_word = 0;
            continue;
        }

        if (gate_limit_is_new(d.seen_word)) {
            return;
        }

        unsent = gate_limit_unsent_of(d.word) - (env->shared ? take->cost : 0);

        d.next_tat = d.tat - take->charged;
        d.next_word = gate_limit_word(gate_limit_tag_of(take->hash),
                                      gate_limit_nodes_of(d.word), take->cls,
                                      unsent);

    } while (d.seen_word == 0
             || !gate_limit_cas(&s->tat, &s->word, d.seen_tat, d.seen_word,
                                d.next_tat, d.next_word));

    GATE_LIMIT_POINT("refunded");

    if (env->shared) {
        (void) gate_limit_set_mark(t, GATE_LIMIT_DIRTY,
                                   gate_limit_number(t, s));
    }

    take->charged = 0;
}


int
gate_limit_set(gate_limit_table_t *t, const gate_limit_env_t *env,
    gate_limit_take_t *take, int64_t debt, unsigned nodes, int64_t unsent)
{
    int64_t               a;
    gate_limit_slot_t    *s;
    gate_limit_debtor_t   d;

    gate_limit_reset(take);

    s = gate_limit_find(t, take->hash);

    for ( ;; ) {

        if (s == NULL) {
            s = gate_limit_enter(t, env->now, take);

            if (s == NULL) {
                return GATE_LIMIT_FULL;
            }
        }

        if (!gate_limit_read(t, &s, env->now, take, &d)) {
            continue;
        }

        a = gate_limit_unsent_of(d.word) + unsent;

        d.next_tat = env->now + debt + gate_limit_units(&take->rate, a);
        d.next_word = gate_limit_word(gate_limit_tag_of(take->hash),
                                      nodes ? nodes : 1, take->cls, a);

        gate_limit_store(&s->fleet, env->now + debt);

        if (gate_limit_cas(&s->tat, &s->word, d.seen_tat, d.seen_word,
                           d.next_tat, d.next_word))
        {
            break;
        }
    }

    take->slot = gate_limit_number(t, s);

    if (gate_limit_unsent_of(d.next_word) != 0) {
        (void) gate_limit_set_mark(t, GATE_LIMIT_DIRTY, take->slot);
    }

    return GATE_LIMIT_PASSED;
}


#include "gate_limit_slot.h"

#include <string.h>


#define GATE_LIMIT_FEW  64             /* groups */


_Static_assert(sizeof(gate_limit_slot_t) == 32, "two slots a cache line");
_Static_assert(sizeof(gate_limit_table_t) % 64 == 0, "alignment");
_Static_assert(GATE_LIMIT_GROUP * GATE_LIMIT_BUCKET
               * sizeof(gate_limit_slot_t) == GATE_LIMIT_PAGE, "a page");


/* the home lines of all of a key's buckets, as offsets */

typedef struct {
    unsigned char  *first;
    uint64_t        line[GATE_LIMIT_WAYS];
} gate_limit_ways_t;


/* a slot that may be taken for a new key, as it was seen */

typedef struct {
    gate_limit_slot_t  *slot;
    int64_t             tat;
    uint64_t            word;
    uint64_t            hash;
} gate_limit_seen_t;


static uint64_t gate_limit_groups(uint64_t keys);
static uint64_t gate_limit_total(uint64_t groups);
static void gate_limit_ways(gate_limit_table_t *t, uint64_t hash,
    gate_limit_ways_t *ways);
static gate_limit_slot_t *gate_limit_choose(const gate_limit_ways_t *ways,
    int64_t now);
static int gate_limit_claim(const gate_limit_seen_t *seen, int64_t now,
    const gate_limit_take_t *take);


/*
 * The n-th line of two slots in the order of lookup: the home lines of the
 * first two buckets, the lines after those, and so on; then of the other two.
 */

static inline gate_limit_slot_t *
gate_limit_line_of(const gate_limit_ways_t *ways, unsigned n)
{
    uint64_t  line;

    line = ways->line[n / GATE_LIMIT_BUCKET * 2 + n % 2];
    line ^= n / 2 % (GATE_LIMIT_BUCKET / 2) * 64;

    return (gate_limit_slot_t *) (void *) (ways->first + line);
}


size_t
gate_limit_size(uint64_t keys)
{
    return gate_limit_total(gate_limit_groups(keys));
}


static uint64_t
gate_limit_groups(uint64_t keys)
{
    uint64_t  bytes, groups;

    if (keys < GATE_LIMIT_KEYS_MIN) {
        keys = GATE_LIMIT_KEYS_MIN;

    } else if (keys > GATE_LIMIT_KEYS_MAX) {
        keys = GATE_LIMIT_KEYS_MAX;
    }

    /* a group with its slots' marks, and their part of the summaries */

    bytes = GATE_LIMIT_PAGE
            + GATE_LIMIT_GROUP * GATE_LIMIT_BUCKET / 8 * GATE_LIMIT_MARKS + 1;

    groups = keys * 48 / bytes;

    /* what is not in groups is less than three; in small tables it adds up */

    return groups > GATE_LIMIT_FEW ? groups - 3 : groups + 1;
}


static uint64_t
gate_limit_total(uint64_t groups)
{
    uint64_t  words;

    words = gate_limit_words(groups * GATE_LIMIT_GROUP * GATE_LIMIT_BUCKET);

    return sizeof(gate_limit_table_t) + (groups + 1) * GATE_LIMIT_PAGE
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

    t->groups = gate_limit_groups(keys);
    t->slots = t->groups * GATE_LIMIT_GROUP * GATE_LIMIT_BUCKET;
    t->size = gate_limit_total(t->groups);

    /* where it is mapped at another address it is slower, no more */

    offset = sizeof(gate_limit_table_t);
    t->first = offset + (GATE_LIMIT_PAGE - ((uintptr_t) mem + offset)
                                           % GATE_LIMIT_PAGE)
                        % GATE_LIMIT_PAGE;

    offset = t->first + t->groups * GATE_LIMIT_PAGE;
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
        || t->slots != t->groups * GATE_LIMIT_GROUP * GATE_LIMIT_BUCKET
        || t->size != gate_limit_total(t->groups))
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
    return number < t->slots ? gate_limit_at(t, number) : NULL;
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


gate_limit_slot_t *
gate_limit_find(gate_limit_table_t *t, uint64_t hash)
{
    unsigned            i, unused;
    gate_limit_slot_t  *s;
    gate_limit_ways_t   ways;

    gate_limit_ways(t, hash, &ways);
    unused = 0;

    for (i = 0; i < GATE_LIMIT_LINES; i++) {

        /* then nobody has had to go to the others */

        if (i == GATE_LIMIT_LINES / 2 && unused) {
            break;
        }

        s = gate_limit_line_of(&ways, i);

        if (gate_limit_is(&s[0], hash)) {
            return &s[0];
        }

        if (gate_limit_is(&s[1], hash)) {
            return &s[1];
        }

        unused |= gate_limit_load(&s[0].word) == 0
                  || gate_limit_load(&s[1].word) == 0;
    }

    return NULL;
}


static void
gate_limit_ways(gate_limit_table_t *t, uint64_t hash, gate_limit_ways_t *ways)
{
    uint64_t  mixed;

    /* all bits count here: keys of one page go to different ones */

    mixed = hash * UINT64_C(0x9e3779b97f4a7c15);

    ways->first = (unsigned char *) t + t->first;
    ways->line[0] = gate_limit_line(t, hash);
    ways->line[1] = gate_limit_other(ways->line[0], hash);
    ways->line[2] = gate_limit_line(t, mixed >> 32);
    ways->line[3] = gate_limit_line(t, mixed ^ mixed >> 29);
}


/* what a slot is to a key that looks for one */

enum {
    GATE_LIMIT_DEBTOR = 0,
    GATE_LIMIT_UNSENT,                 /* paid, but Redis does not know */
    GATE_LIMIT_PAID,
    GATE_LIMIT_UNUSED
};


static inline int
gate_limit_kind(uint64_t word, int64_t tat, int64_t now)
{
    if (word == 0) {
        return GATE_LIMIT_UNUSED;
    }

    if (gate_limit_is_new(word)) {
        tat += GATE_LIMIT_LEASE;
        word = GATE_LIMIT_BIAS;
    }

    return tat > now ? GATE_LIMIT_DEBTOR
           : gate_limit_unsent_of(word) ? GATE_LIMIT_UNSENT
           : GATE_LIMIT_PAID;
}


/*
 * The best slot for a new key: one that was never used, else the one that is
 * paid for the longest time; in the emptier bucket of the first two, else of
 * the others; else one that is paid and not sent.  NULL where all are in debt.
 */

static gate_limit_slot_t *
gate_limit_choose(const gate_limit_ways_t *ways, int64_t now)
{
    int                 kind;
    int64_t             tat, best[GATE_LIMIT_WAYS + 1];
    unsigned            i, at, room[GATE_LIMIT_WAYS];
    uint64_t            word;
    gate_limit_slot_t  *s, *slot[GATE_LIMIT_WAYS + 1];

    memset(room, 0, sizeof(room));
    memset(slot, 0, sizeof(slot));

    for (i = 0; i < GATE_LIMIT_PROBES; i++) {

        if (i == GATE_LIMIT_PROBES / 2 && room[0] + room[1] != 0) {
            break;
        }

        s = gate_limit_line_of(ways, i / 2) + i % 2;
        word = gate_limit_load(&s->word);
        tat = gate_limit_load(&s->tat);
        kind = gate_limit_kind(word, tat, now);

        if (kind == GATE_LIMIT_DEBTOR) {
            continue;
        }

        at = i / (2 * GATE_LIMIT_BUCKET) * 2 + i / 2 % 2;

        if (kind == GATE_LIMIT_UNSENT) {
            at = GATE_LIMIT_WAYS;

        } else if (kind == GATE_LIMIT_UNUSED) {

            /* weighs more than a bucket of paid ones */

            room[at] += GATE_LIMIT_BUCKET + 1;
            tat = GATE_LIMIT_NEVER;

        } else {
            room[at]++;
        }

        if (slot[at] == NULL || tat < best[at]) {
            best[at] = tat;
            slot[at] = s;
        }
    }

    for (i = 0; i < GATE_LIMIT_WAYS; i += 2) {
        if (room[i] + room[i + 1] != 0) {
            return slot[room[i + 1] > room[i] ? i + 1 : i];
        }
    }

    return slot[GATE_LIMIT_WAYS];
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
    int                 kind;
    gate_limit_seen_t   seen;
    gate_limit_slot_t  *s;
    gate_limit_ways_t   ways;

    gate_limit_ways(t, take->hash, &ways);

    for ( ;; ) {
        s = gate_limit_choose(&ways, now);

        if (s == NULL) {
            return NULL;
        }

        seen.slot = s;
        seen.hash = gate_limit_load(&s->hash);
        seen.word = gate_limit_load(&s->word);
        seen.tat = gate_limit_load(&s->tat);

        kind = gate_limit_kind(seen.word, seen.tat, now);

        if (kind != GATE_LIMIT_DEBTOR && gate_limit_claim(&seen, now, take)) {
            take->evicted = kind != GATE_LIMIT_UNUSED
                            && !gate_limit_is_new(seen.word);
            take->dropped = kind == GATE_LIMIT_UNSENT;

            return s;
        }

        /* the one that was faster may have brought in the same key */

        s = gate_limit_find(t, take->hash);

        if (s != NULL) {
            return s;
        }
    }
}


int
gate_limit_room(gate_limit_table_t *t, int64_t now, uint64_t hash)
{
    gate_limit_ways_t  ways;

    gate_limit_ways(t, hash, &ways);

    return gate_limit_choose(&ways, now) != NULL;
}


gate_limit_slot_t *
gate_limit_alone(gate_limit_table_t *t, gate_limit_slot_t *s, int64_t tat,
    uint64_t word, uint64_t hash)
{
    int                 before;
    int64_t             other_tat;
    unsigned            i;
    uint64_t            other;
    gate_limit_slot_t  *q;
    gate_limit_ways_t   ways;

    gate_limit_ways(t, hash, &ways);
    gate_limit_fence();

    before = 1;

    for (i = 0; i < GATE_LIMIT_PROBES; i++) {
        q = gate_limit_line_of(&ways, i / 2);

        if (i % 2 == 0 && gate_limit_load(&q[0].hash) != hash
            && gate_limit_load(&q[1].hash) != hash)
        {
            i++;
            continue;
        }

        q += i % 2;

        if (q == s) {
            before = 0;
            continue;
        }

        other = gate_limit_load(&q->word);
        other_tat = gate_limit_load(&q->tat);

        if (!gate_limit_same(q, other, hash)) {
            continue;
        }

        if (before || !gate_limit_is_new(other)) {

            /* it would be found first for ever, or hold a slot for nobody */

            (void) gate_limit_cas(&s->tat, &s->word, tat, word,
                                  GATE_LIMIT_NEVER, gate_limit_nobody(word));
            return q;
        }

        GATE_LIMIT_POINT("twice");

        /* nobody's: the tag is not the hash's */

        if (!gate_limit_cas(&q->tat, &q->word, other_tat, other,
                            GATE_LIMIT_NEVER, gate_limit_nobody(other)))
        {
            return NULL;
        }
    }

    return s;
}

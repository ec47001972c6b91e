
#include "gate_limit_slot.h"


/* ns: until Redis has acknowledged, at the latest */

#define GATE_LIMIT_RETRY  INT64_C(1000000000)

/* requests that a node may take before that, if so many are left */

#define GATE_LIMIT_LEAST  3

/* ns of debt that count for nothing where a node has a part of the rate */

#define GATE_LIMIT_LATE   INT64_C(100000000)


/* what a key owes before it and after it was charged */

typedef struct {
    int64_t             tat;
    uint64_t            word;
    int64_t             fleet;
    int64_t             seen_tat;      /* what is in the slot */
    uint64_t            seen_word;
    int64_t             seen_fleet;
    int64_t             next_tat;
    int                 flush;
} gate_limit_debtor_t;


static int64_t gate_limit_share(const gate_limit_env_t *env,
    const gate_limit_take_t *take, int64_t fleet, unsigned spenders);
static int gate_limit_refused(gate_limit_take_t *take, int64_t debt,
    int64_t remaining, int64_t retry);
static int gate_limit_take_slowly(gate_limit_table_t *t,
    const gate_limit_env_t *env, gate_limit_take_t *take,
    gate_limit_slot_t *s);
static void gate_limit_nothing(const gate_limit_take_t *take,
    gate_limit_debtor_t *d);
static void gate_limit_move(gate_limit_slot_t *s,
    const gate_limit_take_t *take, const gate_limit_debtor_t *d);
static void gate_limit_moved(gate_limit_slot_t *s,
    const gate_limit_debtor_t *d);


/*
 * Whether the fleet leaves that to this node: what is unsent then, with this
 * cost in it.  *flush: Redis should know soon, because it does not know of the
 * key, the key is near its limit, or much is unsent.
 */

gate_limit_inline int
gate_limit_may(const gate_limit_env_t *env, const gate_limit_take_t *take,
    uint64_t word, int64_t fleet, int64_t unsent, int near, int *flush)
{
    int64_t   share;
    unsigned  spenders;

    spenders = gate_limit_spenders(env, word, fleet);

    *flush = near || spenders == 0 || unsent * 8 > take->rate.capacity;

    if (spenders > 1) {
        share = gate_limit_share(env, take, fleet, spenders);

        if (unsent > share) {
            return 0;
        }

        *flush |= unsent > share / 2;
    }

    return 1;
}


/*
 * The decision.  *d has what the key owes, in a TAT of the rate that it is
 * about, and gets what it will owe.
 */

static int
gate_limit_decide(const gate_limit_env_t *env, gate_limit_take_t *take,
    gate_limit_debtor_t *d)
{
    int64_t  debt, total, left, unit, need, spare, late;

    debt = gate_gcra_debt(&take->rate, d->tat, env->now);
    unit = take->rate.interval;
    total = unit * take->rate.capacity;
    left = total - debt;

    if (env->shared) {
        unit *= gate_limit_factor(env, gate_limit_spenders(env, d->word,
                                                           d->fleet));
    }

    if (take->cost > take->rate.capacity) {
        return gate_limit_refused(take, debt, left / unit, -1);
    }

    /*
     * What may be owed before.  A node that has a part of the rate admits one
     * request even if that is more than its part, and it need not come at the
     * right moment.
     */

    need = unit * take->cost;
    spare = total - need;

    if (unit != take->rate.interval) {
        late = need < GATE_LIMIT_LATE ? need : GATE_LIMIT_LATE;
        spare = spare > late ? spare : late;
    }

    if (debt > spare) {
        return gate_limit_refused(take, debt, left / unit, debt - spare);
    }

    debt += need;
    left -= need;
    d->flush = 0;

    if (env->shared && !env->away && take->cost != 0
        && !gate_limit_may(env, take, d->word, d->fleet,
                           gate_limit_unsent_of(d->word) + take->cost,
                           debt > left, &d->flush))
    {
        take->share = 1;
        return gate_limit_refused(take, debt - need, 0,
                                  unit < GATE_LIMIT_RETRY
                                  ? unit : GATE_LIMIT_RETRY);
    }

    take->charged = need;
    take->v.limited = 0;
    take->v.retry_after = -1;
    take->v.reset_after = debt;
    take->v.remaining = left >= unit ? left / unit : debt == 0;

    d->next_tat = env->now + debt;

    return GATE_LIMIT_PASSED;
}


/*
 * How many units may be unacknowledged at most: this node's part of what is
 * left of the key, as Redis told it; but some requests in any case, so that
 * one alone may always take from all of it.
 */

static int64_t
gate_limit_share(const gate_limit_env_t *env, const gate_limit_take_t *take,
    int64_t fleet, unsigned spenders)
{
    int64_t  left, part, least;

    left = take->rate.interval * take->rate.capacity;

    if (fleet > env->now) {
        left -= fleet - env->now;
    }

    left = left > 0 ? left / take->rate.interval : 0;
    part = left / spenders;
    least = left / GATE_LIMIT_LEAST < take->cost
            ? left : GATE_LIMIT_LEAST * take->cost;

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

gate_limit_inline uint64_t
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

static int
gate_limit_read(gate_limit_table_t *t, gate_limit_slot_t **s, int64_t now,
    const gate_limit_take_t *take, gate_limit_debtor_t *d)
{
    gate_limit_slot_t  *q;

    d->word = gate_limit_load(&(*s)->word);

    GATE_LIMIT_POINT("read");

    d->tat = gate_limit_load(&(*s)->tat);
    d->fleet = gate_limit_load(&(*s)->fleet);
    d->seen_word = d->word;
    d->seen_tat = d->tat;
    d->seen_fleet = d->fleet;

    if (!gate_limit_same(*s, d->word, take->hash)) {
        *s = gate_limit_find(t, take->hash);
        return 0;
    }

    if (gate_limit_is_new(d->word)) {
        q = gate_limit_alone(t, *s, d->tat, d->word, take->hash);

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
        d->fleet = gate_limit_convert(t, gate_limit_cls_of(d->word),
                                      take->cls, &take->rate, d->fleet, now);
    }

    return 1;
}


/*
 * What is owed goes on to be paid at the new rate, from now on.  Without this
 * who is refused would pay at the old one, and never be met under the new.
 * Not where a key has now this rate and now that: each change cuts what is
 * owed to a capacity, and who can choose would be given that each time.
 */

static void
gate_limit_move(gate_limit_slot_t *s, const gate_limit_take_t *take,
    const gate_limit_debtor_t *d)
{
    uint64_t  word;

    if (!take->firm || gate_limit_cls_of(d->seen_word) == take->cls
        || gate_limit_is_new(d->seen_word))
    {
        return;
    }

    word = gate_limit_next(d->seen_word, take->cls, 0);

    if (gate_limit_cas(&s->tat, &s->word, d->seen_tat, d->seen_word, d->tat,
                       word))
    {
        gate_limit_moved(s, d);
    }
}


/* What Redis said, too, is of the new rate now. */

static void
gate_limit_moved(gate_limit_slot_t *s, const gate_limit_debtor_t *d)
{
    int64_t  fleet;

    /* of two words of Redis the later one counts, which is the agent's */

    fleet = d->seen_fleet;

    if (fleet != d->fleet) {
        (void) __atomic_compare_exchange_n(&s->fleet, &fleet, d->fleet, 0,
                                           __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST);
    }
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

gate_limit_inline void
gate_limit_note(gate_limit_table_t *t, gate_limit_take_t *take, int flush)
{
    unsigned  kind;

    kind = flush ? GATE_LIMIT_FLUSH : GATE_LIMIT_DIRTY;

    if (!gate_limit_marked_as(t, kind, take->slot)) {
        take->flush = gate_limit_set_mark(t, kind, take->slot) && flush;
    }
}


/*
 * The first slot in the order of lookup that has that hash, and may be
 * somebody else's by now; NULL: it is not in the first two buckets.
 */

gate_limit_inline gate_limit_slot_t *
gate_limit_spot(gate_limit_table_t *t, uint64_t hash)
{
    unsigned            i;
    uint64_t            line, other;
    gate_limit_slot_t  *a, *b;

    line = gate_limit_line(t, hash);
    other = gate_limit_other(line, hash);

    for (i = 0; i < GATE_LIMIT_BUCKET / 2 * 64; i += 64) {
        a = gate_limit_slot_at(t, line ^ i);
        b = gate_limit_slot_at(t, other ^ i);

        __builtin_prefetch(b, 1);

        if (a[0].hash == hash) {
            return &a[0];
        }

        if (a[1].hash == hash) {
            return &a[1];
        }

        if (b[0].hash == hash) {
            return &b[0];
        }

        if (b[1].hash == hash) {
            return &b[1];
        }
    }

    return NULL;
}


/*
 * The way of nearly all requests: the key is there, its rate is what it was,
 * it is admitted, Redis is there or not needed, and nobody else takes from
 * the key at the same time.  Everything else is done slowly, and comes to the
 * same where both can.
 */

int
gate_limit_take(gate_limit_table_t *t, const gate_limit_env_t *env,
    gate_limit_take_t *take)
{
    int                 flush;
    int64_t             tat, debt, left, need, unsent;
    uint64_t            word;
    gate_limit_slot_t  *s;

    s = gate_limit_spot(t, take->hash);

    if (s == NULL) {
        return gate_limit_take_slowly(t, env, take, s);
    }

    word = gate_limit_load(&s->word);
    tat = gate_limit_load(&s->tat);

    if ((word ^ take->hash) >> GATE_LIMIT_TAG != 0
        || gate_limit_cls_of(word) != take->cls
        || take->cls == 0
        || gate_limit_is_new(word)
        || (uint64_t) take->cost - 1 >= (uint64_t) take->rate.capacity
        || env->away)
    {
        return gate_limit_take_slowly(t, env, take, s);
    }

    need = take->rate.interval * take->cost;
    debt = (tat > env->now ? tat - env->now : 0) + need;
    left = take->rate.interval * take->rate.capacity - debt;

    if (left < 0) {
        return gate_limit_take_slowly(t, env, take, s);
    }

    unsent = 0;
    flush = 0;

    if (env->shared) {
        unsent = gate_limit_unsent_of(word) + take->cost;

        if (unsent > GATE_LIMIT_UNSENT_MAX
            || !gate_limit_may(env, take, word, gate_limit_load(&s->fleet),
                               unsent, debt > left, &flush))
        {
            return gate_limit_take_slowly(t, env, take, s);
        }

        unsent = take->cost;
    }

    if (!gate_limit_cas(&s->tat, &s->word, tat, word, env->now + debt,
                        word + (uint64_t) unsent))
    {
        return gate_limit_take_slowly(t, env, take, s);
    }

    GATE_LIMIT_POINT("taken");

    take->v.limited = 0;
    take->v.remaining = left / take->rate.interval;
    take->v.reset_after = debt;
    take->v.retry_after = -1;
    take->slot = gate_limit_number(t, s);
    take->charged = need;
    take->share = 0;
    take->evicted = 0;
    take->dropped = 0;
    take->flush = 0;

    if (env->shared) {
        gate_limit_note(t, take, flush);
    }

    return GATE_LIMIT_PASSED;
}


/* The same, whatever happens. */

static int
gate_limit_take_slowly(gate_limit_table_t *t, const gate_limit_env_t *env,
    gate_limit_take_t *take, gate_limit_slot_t *s)
{
    int                   rc;
    uint64_t              word;
    gate_limit_debtor_t   d;

    gate_limit_reset(take);

    if (s == NULL) {
        s = gate_limit_find(t, take->hash);
    }

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

            if (gate_limit_load(&s->word) == d.seen_word) {
                gate_limit_move(s, take, &d);
                break;
            }

            continue;
        }

        word = gate_limit_next(d.word, take->cls,
                               env->shared ? take->cost : 0);

        if (gate_limit_cas(&s->tat, &s->word, d.seen_tat, d.seen_word,
                           d.next_tat, word))
        {
            if (!gate_limit_is_new(d.seen_word)) {
                gate_limit_moved(s, &d);
            }

            break;
        }
    }

    GATE_LIMIT_POINT("taken");

    take->slot = gate_limit_number(t, s);

    if (env->shared && (rc != GATE_LIMIT_PASSED || take->cost != 0)) {

        if (rc == GATE_LIMIT_PASSED || take->share) {
            gate_limit_note(t, take, d.flush || take->share);
        }
    }

    return rc;
}


int
gate_limit_peek(gate_limit_table_t *t, const gate_limit_env_t *env,
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
                break;
            }

            if (!gate_limit_room(t, env->now, take->hash)) {
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

            if (rc == GATE_LIMIT_LIMITED) {
                gate_limit_move(s, take, &d);
            }

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
    uint64_t              word;
    gate_limit_slot_t    *s;
    gate_limit_debtor_t   d;

    if (take->charged == 0) {
        return;
    }

    s = take->slot < t->slots ? gate_limit_at(t, take->slot)
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
        word = gate_limit_word(gate_limit_tag_of(take->hash),
                               gate_limit_nodes_of(d.word), take->cls,
                               unsent);

    } while (d.seen_word == 0
             || !gate_limit_cas(&s->tat, &s->word, d.seen_tat, d.seen_word,
                                d.next_tat, word));

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
    uint64_t              word;
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
        word = gate_limit_word(gate_limit_tag_of(take->hash),
                               nodes ? nodes : 1, take->cls, a);

        gate_limit_store(&s->fleet, env->now + debt);

        if (gate_limit_cas(&s->tat, &s->word, d.seen_tat, d.seen_word,
                           d.next_tat, word))
        {
            break;
        }
    }

    take->slot = gate_limit_number(t, s);

    if (gate_limit_unsent_of(word) != 0) {
        (void) gate_limit_set_mark(t, GATE_LIMIT_DIRTY, take->slot);
    }

    return GATE_LIMIT_PASSED;
}


/* gate_limit*.c: one process, what it decides */

#include "limit.h"


static void
test_size(void)
{
    void                *mem;
    uint64_t             n;
    gate_limit_table_t  *t;

    for (n = 64; n <= 10000000; n += n / 20 + 1) {
        if (gate_limit_size(n) > n * 48 + (n < 6000 ? 13 * 1024 : 0)) {
            break;
        }
    }

    tap_ok(n > 10000000, "48 bytes a key, and 13 KiB where they are few");
    tap_ok(gate_limit_size(1000000) <= 48 * 1048576,
           "a million keys in 48 MiB: %lu bytes",
           (unsigned long) gate_limit_size(1000000));

    mem = test_memory(1000);

    tap_ok(gate_limit_open(mem, gate_limit_size(1000)) == NULL,
           "memory that nobody made a table of is none");

    t = gate_limit_init(mem, 1000);

    tap_ok(gate_limit_open(mem, gate_limit_size(1000)) == t,
           "a table is found again");
    tap_ok(gate_limit_open(mem, gate_limit_size(1000) - 1) == NULL,
           "a part of one is none");
    tap_ok(gate_limit_slots(t) >= 1450, "about three slots for two keys");
    tap_ok(gate_limit_slot(t, gate_limit_slots(t)) == NULL
           && gate_limit_slot(t, gate_limit_slots(t) - 1) != NULL,
           "slots are numbered from 0");
    tap_ok((uintptr_t) gate_limit_slot(t, 0) % 4096 == 0,
           "groups are pages of memory");

    free(mem);
}


static void
test_classes(void)
{
    int                  ok;
    unsigned             i;
    uint8_t              cls, first;
    gate_rate_t          rate, got;
    gate_limit_table_t  *t;

    t = test_table(64);
    ok = 1;
    first = 0;

    tap_ok(gate_limit_class_rate(t, 0, &got) == -1
           && gate_limit_class_rate(t, 7, &got) == -1
           && gate_limit_class_rate(t, 256, &got) == -1,
           "a class that was not made has no rate");

    for (i = 0; i < 255; i++) {
        rate.interval = 1000 + i;
        rate.capacity = 10;

        cls = gate_limit_class(t, &rate);
        ok &= cls != 0 && gate_limit_class_rate(t, cls, &got) == 0
              && got.interval == rate.interval && got.capacity == 10;

        first = i ? first : cls;
    }

    tap_ok(ok, "255 rates have a class each");

    rate.interval = 999;
    tap_ok(gate_limit_class(t, &rate) == 0, "one more has class 0");

    rate.interval = 1000;
    tap_ok(gate_limit_class(t, &rate) == first, "the first one still has its");

    free(t);
}


/* The same as gate_gcra_take(), whatever happens. */

static void
test_gcra(void)
{
    int                  i, bad, rc;
    int64_t              tat;
    gate_gcra_t          v;
    gate_limit_env_t     env;
    gate_limit_take_t    take;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(0);
    take = test_key(t, test_hash(), 10 * MSEC, 21);
    tat = 0;
    bad = 0;

    for (i = 0; i < 20000; i++) {
        env.now += (int64_t) (test_hash() % 40) * MSEC;

        if (test_hash() % 100 == 0) {
            env.now += (int64_t) (test_hash() % 1000) * MSEC - 300 * MSEC;
        }

        take.cost = (int64_t) (test_hash() % 7);
        take.cost = take.cost == 6 ? 22 : take.cost;

        if (test_hash() % 10 == 0) {
            v = take.v;
            rc = gate_limit_peek(t, &env, &take);
            bad += rc == GATE_LIMIT_FULL || take.charged != 0;
        }

        rc = gate_limit_take(t, &env, &take);
        (void) gate_gcra_take(&take.rate, &tat, env.now, take.cost, &v);

        bad += rc != v.limited || v.limited != take.v.limited
               || v.remaining != take.v.remaining
               || v.reset_after != take.v.reset_after
               || v.retry_after != take.v.retry_after
               || take.charged != (rc ? 0 : take.cost * take.rate.interval);
    }

    tap_ok(bad == 0, "one node alone decides as the arithmetic says");
    tap_ok(test_count(t, env.now).used == 1, "in one slot");
    tap_ok(gate_limit_marked(t) == 0, "and there is nothing to tell");

    free(t);
}


static void
test_unknown(void)
{
    int                  rc;
    gate_limit_env_t     env;
    gate_limit_take_t    take;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(1);
    take = test_key(t, 77, SEC, 3);

    take.cost = 0;
    rc = gate_limit_take(t, &env, &take);
    tap_ok(rc == GATE_LIMIT_PASSED && take.v.remaining == 3
           && take.slot == GATE_LIMIT_NO_SLOT
           && test_count(t, env.now).used == 0,
           "to ask how an unknown key stands brings nothing in");

    take.cost = 4;
    rc = gate_limit_take(t, &env, &take);
    tap_ok(rc == GATE_LIMIT_LIMITED && take.v.retry_after == -1
           && test_count(t, env.now).used == 0,
           "neither does what can never be admitted");

    take.cost = 2;
    rc = gate_limit_peek(t, &env, &take);
    tap_ok(rc == GATE_LIMIT_PASSED && take.v.remaining == 1
           && test_count(t, env.now).used == 0,
           "a look at what would be takes nothing");

    (void) gate_limit_take(t, &env, &take);
    rc = gate_limit_peek(t, &env, &take);
    tap_ok(rc == GATE_LIMIT_LIMITED && take.v.retry_after == SEC
           && take.v.remaining == 1 && take.slot != GATE_LIMIT_NO_SLOT,
           "nor from a known key");

    take.cost = 1;
    rc = gate_limit_take(t, &env, &take);
    tap_ok(rc == GATE_LIMIT_PASSED && take.v.remaining == 0,
           "what was not taken is there");

    free(t);
}


/* Takes by the fast way and by the other one come to the same. */

static void
test_ways(void)
{
    int                  i, bad, rc, slow;
    size_t               size;
    gate_limit_env_t     env;
    gate_limit_slot_t   *s;
    gate_limit_take_t    take, other;
    gate_limit_table_t  *t, *u;

    t = test_table(64);
    u = test_table(64);
    size = gate_limit_size(64);
    env = test_env(1);
    env.stale = 3600 * SEC;
    bad = 0;

    take = test_key(t, 4242, 3 * MSEC, 40);
    other = take;
    (void) gate_limit_take(t, &env, &take);

    for (i = 0; i < 50000; i++) {
        s = gate_limit_slot(t, take.slot);

        s->tat = env.now + (int64_t) (test_hash() % 200) * MSEC - 40 * MSEC;
        s->fleet = env.now + (int64_t) (test_hash() % 200) * MSEC - 40 * MSEC;
        s->word = gate_limit_word(take.hash >> 40,
                                  (unsigned) (test_hash() % 4), take.cls,
                                  (int64_t) (test_hash() % 30) - 4);

        memcpy((void *) u, t, size);
        u->first = t->first;

        take.cost = (int64_t) (test_hash() % 4);
        take.flush = 0;
        env.shared = test_hash() % 4 != 0;
        other = take;

        rc = gate_limit_take(t, &env, &take);
        slow = gate_limit_take_slowly(u, &env, &other, NULL);

        bad += rc != slow || memcmp(&take.v, &other.v, sizeof(gate_gcra_t))
               || take.slot != other.slot || take.charged != other.charged
               || take.share != other.share || take.flush != other.flush
               || memcmp(t, u, size) != 0;
    }

    tap_ok(bad == 0, "the short way is no other one: %d differ", bad);

    free(t);
    free(u);
}


static void
test_refund(void)
{
    gate_limit_env_t     env;
    gate_limit_take_t    take, other;
    gate_limit_slot_t   *s;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(1);
    take = test_key(t, 99, SEC, 5);

    (void) test_many(t, &env, &take, 2);
    s = gate_limit_slot(t, take.slot);
    gate_limit_refund(t, &env, &take);

    tap_ok(s->tat == env.now + SEC && gate_limit_unsent_of(s->word) == 1,
           "what is given back is neither owed nor told");

    gate_limit_refund(t, &env, &take);
    tap_ok(s->tat == env.now + SEC, "once");

    env.shared = 0;
    other = test_key(t, 100, SEC, 5);
    gate_limit_refund(t, &env, &other);
    other.charged = SEC;
    gate_limit_refund(t, &env, &other);
    tap_ok(test_count(t, env.now).used == 1,
           "a key that is not there has nothing to get");

    env.shared = 1;
    (void) gate_limit_take(t, &env, &take);
    s->word = gate_limit_word(gate_limit_tag_of(take.hash), 1, take.cls, 0);
    gate_limit_refund(t, &env, &take);
    tap_ok(gate_limit_unsent_of(s->word) == -1 && gate_limit_marked(t) == 1,
           "what Redis has heard of is given back there");

    free(t);
}


static void
test_rescale(void)
{
    int                  n;
    gate_rate_t          rate;
    gate_limit_env_t     env;
    gate_limit_take_t    slow, fast, none;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(0);
    slow = test_key(t, 5, SEC, 10);
    fast = test_key(t, 5, 10 * MSEC, 20);

    n = test_many(t, &env, &slow, 4);
    (void) gate_limit_take(t, &env, &fast);
    tap_ok(n == 4 && fast.v.remaining == 15
           && fast.v.reset_after == 50 * MSEC,
           "who owes four units owes four under another rate");

    n = test_many(t, &env, &fast, 20);
    tap_ok(n == 15, "and has the rest of that one");

    (void) gate_limit_peek(t, &env, &slow);
    tap_ok(slow.v.limited && slow.v.reset_after == 10 * SEC,
           "nobody owes more than the new one allows");

    env.now += 10 * SEC;
    n = test_many(t, &env, &slow, 20);
    tap_ok(n == 10, "and all is there when that is paid");

    /* class 0 */

    for (rate.interval = 5000; rate.interval < 5300; rate.interval++) {
        rate.capacity = 1;
        (void) gate_limit_class(t, &rate);
    }

    none = test_key(t, 6, 20 * MSEC, 5);
    n = none.cls == 0 ? test_many(t, &env, &none, 9) : -1;
    tap_ok(n == 5, "a rate without a class limits as well");

    none.rate.interval = 10 * MSEC;
    none.rate.capacity = 4;
    (void) gate_limit_peek(t, &env, &none);
    tap_ok(none.v.limited && none.v.reset_after == 40 * MSEC,
           "its debts are cut to the capacity");

    free(t);
}


static void
test_full(void)
{
    int                  rc;
    uint64_t             i, debtor;
    gate_limit_env_t     env;
    gate_limit_take_t    take, last;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(0);
    debtor = 1;

    take = test_key(t, debtor, 10 * SEC, 2);
    (void) test_many(t, &env, &take, 2);

    /* until nobody finds room */

    for (i = 0; i < 5000; i++) {
        take.hash = test_hash();
        (void) gate_limit_take(t, &env, &take);
    }

    last = take;
    rc = gate_limit_take(t, &env, &last);
    tap_ok(rc == GATE_LIMIT_FULL, "a table full of debtors has no room");
    tap_ok(gate_limit_peek(t, &env, &last) == GATE_LIMIT_FULL,
           "and says so before");
    tap_ok(test_count(t, env.now).debtors == gate_limit_slots(t),
           "then all its slots are in debt");

    take.hash = debtor;
    tap_ok(gate_limit_take(t, &env, &take) == GATE_LIMIT_LIMITED,
           "who was in debt is limited as before");

    env.now += 10 * SEC;
    rc = gate_limit_take(t, &env, &last);
    tap_ok(rc == GATE_LIMIT_PASSED && last.evicted && !last.dropped,
           "a paid debt makes room");
    tap_ok(gate_limit_take(t, &env, &take) == GATE_LIMIT_PASSED
           && gate_limit_take(t, &env, &take) == GATE_LIMIT_LIMITED,
           "but not the debt of him who still owes");

    free(t);
}


/* What Redis does not know is the last to go. */

static void
test_evict(void)
{
    int                  i, dropped, sent;
    gate_limit_env_t     env;
    gate_limit_take_t    take;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(1);
    take = test_key(t, 0, SEC, 2);
    sent = dropped = 0;

    for (i = 0; i < 20000; i++) {
        take.hash = test_hash();
        env.shared = i % 2;
        (void) gate_limit_take(t, &env, &take);
    }

    env.now += 10 * SEC;
    env.shared = 0;
    take.cost = 1;

    for (i = 0; i < 40; i++) {
        take.hash = test_hash();
        (void) gate_limit_take(t, &env, &take);
        sent += take.evicted && !take.dropped;
        dropped += take.dropped;
    }

    tap_ok(sent == 40 && dropped == 0,
           "what is sent makes room first: %d, %d", sent, dropped);

    for (i = 0; i < 5000; i++) {
        take.hash = test_hash();
        (void) gate_limit_take(t, &env, &take);
        dropped += take.dropped;
    }

    tap_ok(dropped > 30, "then what is not: %d", dropped);

    free(t);
}


static void
test_flood(void)
{
    int                  i, bad, fulls, rc;
    gate_limit_env_t     env;
    gate_limit_take_t    take, debtor;
    gate_limit_table_t  *t;

    t = test_table(1000);
    env = test_env(1);
    bad = fulls = 0;

    take = test_key(t, 0, MSEC, 2);
    debtor = test_key(t, 12345, 3600 * SEC, 3);
    (void) test_many(t, &env, &debtor, 3);

    for (i = 0; i < 500000; i++) {
        env.now += 2000;
        take.hash = test_hash();
        rc = gate_limit_take(t, &env, &take);

        fulls += rc == GATE_LIMIT_FULL;
        bad += rc == GATE_LIMIT_LIMITED;
        bad += i % 1000 == 0
               && gate_limit_take(t, &env, &debtor) != GATE_LIMIT_LIMITED;
    }

    tap_ok(bad == 0 && fulls == 0,
           "a flood of keys frees no debtor, and finds room: %d", fulls);

    free(t);
}


static void
test_load(uint64_t keys)
{
    uint64_t             i, full;
    gate_limit_env_t     env;
    gate_limit_take_t    take;
    gate_limit_table_t  *t;

    t = test_table(keys);
    env = test_env(0);
    take = test_key(t, 0, SEC, 2);
    full = 0;

    for (i = 0; i < keys; i++) {
        take.hash = test_hash();
        full += gate_limit_take(t, &env, &take) != GATE_LIMIT_PASSED;
    }

    tap_ok(full == 0 && test_count(t, env.now).debtors == keys,
           "%lu debtors fit where so many keys should, but %lu",
           (unsigned long) keys, (unsigned long) full);

    free(t);
}


int
main(void)
{
    test_size();
    test_classes();
    test_gcra();
    test_unknown();
    test_ways();
    test_refund();
    test_rescale();
    test_full();
    test_evict();
    test_flood();

    test_load(64);
    test_load(100);
    test_load(1000);
    test_load(10000);
    test_load(100000);
    test_load(1000000);

    return tap_done();
}

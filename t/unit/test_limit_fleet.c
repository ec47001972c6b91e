
/* gate_limit*.c: what a node of a fleet decides, and what it tells Redis */

#include "limit.h"


/* The slot is as Redis said it: so much debt, so many spenders. */

static gate_limit_slot_t *
told(gate_limit_table_t *t, const gate_limit_env_t *env,
    gate_limit_take_t *take, int64_t debt, unsigned nodes, int64_t unsent)
{
    (void) gate_limit_set(t, env, take, debt, nodes, unsent);

    return gate_limit_slot(t, take->slot);
}


static int64_t
unsent_of(const gate_limit_slot_t *s)
{
    return gate_limit_unsent_of(s->word);
}


static void
test_share(void)
{
    int                  n;
    gate_limit_env_t     env;
    gate_limit_take_t    take;
    gate_limit_slot_t   *s;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(1);
    take = test_key(t, 1, SEC, 40);

    (void) told(t, &env, &take, 0, 1, 0);
    n = test_many(t, &env, &take, 100);
    tap_ok(n == 40 && !take.share, "a lone spender has all of it");

    take.hash = 2;
    n = test_many(t, &env, &take, 100);
    tap_ok(n == 40, "also who is not known yet");

    take.hash = 3;
    (void) told(t, &env, &take, 0, 4, 0);
    n = test_many(t, &env, &take, 100);
    tap_ok(n == 10 && take.share && take.v.limited && take.v.remaining == 0
           && take.v.retry_after == SEC,
           "one of four has a quarter before Redis hears of it: %d", n);

    s = gate_limit_slot(t, take.slot);
    s->word -= 10;
    s->fleet = env.now + 20 * SEC;
    s->tat = s->fleet;
    n = test_many(t, &env, &take, 100);
    tap_ok(n == 5, "then of what is left: %d", n);

    s->word -= 5;
    s->fleet = s->tat = env.now + 36 * SEC;
    n = test_many(t, &env, &take, 100);
    tap_ok(n == 3, "at least three requests: %d", n);

    s->word -= 3;
    s->fleet = s->tat = env.now + 38 * SEC;
    n = test_many(t, &env, &take, 100);
    tap_ok(n == 2 && !take.share, "if so many are left: %d", n);

    take.hash = 4;
    take.cost = 30;
    (void) told(t, &env, &take, 5 * SEC, 4, 0);
    n = test_many(t, &env, &take, 100);
    tap_ok(n == 1, "one request may take from all that is left");

    take.hash = 5;
    take.cost = 4;
    (void) told(t, &env, &take, 0, 10, 0);
    n = test_many(t, &env, &take, 100);
    tap_ok(n == 3, "three are three requests, not units: %d", n);

    take.hash = 6;
    take.cost = 1;
    (void) told(t, &env, &take, 0, 4, 0);
    env.asof = env.now += SEC + 1;
    n = test_many(t, &env, &take, 100);
    tap_ok(n == 40, "what Redis said long ago divides nothing: %d", n);

    free(t);
}


/* What is better told at once. */

static void
test_flush(void)
{
    int                  i, first;
    gate_limit_env_t     env;
    gate_limit_take_t    take;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(1);

    take = test_key(t, 1, SEC, 100);
    (void) gate_limit_take(t, &env, &take);
    tap_ok(take.flush, "a key that Redis does not know is told at once");

    (void) gate_limit_take(t, &env, &take);
    tap_ok(!take.flush, "once");

    take.hash = 2;
    (void) told(t, &env, &take, 0, 1, 0);
    (void) gate_limit_take(t, &env, &take);
    tap_ok(!take.flush && gate_limit_marked(t) == 2,
           "one that it knows is told by and by");

    first = 0;

    for (i = 2; i <= 20 && !first; i++) {
        (void) gate_limit_take(t, &env, &take);
        first = take.flush ? i : 0;
    }

    tap_ok(first == 13, "until an eighth of it is not told: %d", first);

    take.hash = 3;
    (void) told(t, &env, &take, 50 * SEC, 1, 0);
    (void) gate_limit_take(t, &env, &take);
    tap_ok(take.flush, "or half of it is used");

    take.hash = 4;
    (void) told(t, &env, &take, 0, 10, 0);
    first = 0;

    for (i = 1; i <= 20 && !first; i++) {
        (void) gate_limit_take(t, &env, &take);
        first = take.flush ? i : 0;
    }

    tap_ok(first == 6, "or half of the node's share: %d", first);

    take.hash = 5;
    (void) told(t, &env, &take, 0, 1, 0);
    env.asof = env.now += SEC + 1;
    (void) gate_limit_take(t, &env, &take);
    tap_ok(take.flush, "or Redis has not spoken of it for long");

    take.hash = 6;
    env.away = GATE_LIMIT_AWAY_SHARE;
    (void) gate_limit_take(t, &env, &take);
    tap_ok(!take.flush && gate_limit_marked(t) == 6,
           "nothing is in a hurry while Redis is away, but noted");

    free(t);
}


static void
test_away(void)
{
    int                  n;
    gate_limit_env_t     env;
    gate_limit_take_t    take;
    gate_limit_slot_t   *s;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(1);
    env.away = GATE_LIMIT_AWAY_SHARE;

    take = test_key(t, 1, SEC, 40);
    n = test_many(t, &env, &take, 100);
    s = gate_limit_slot(t, take.slot);
    tap_ok(n == 10 && unsent_of(s) == 10 && s->tat == env.now + 40 * SEC
           && take.v.retry_after == 4 * SEC,
           "away, four nodes have a quarter of the capacity each");

    env.now += 8 * SEC;
    n = test_many(t, &env, &take, 100);
    tap_ok(n == 2, "and of the rate: %d", n);

    take.hash = 2;
    env.away = 0;
    s = told(t, &env, &take, 0, 2, 0);
    env.asof = env.now;
    env.away = GATE_LIMIT_AWAY_SHARE;
    env.now += 100 * SEC;
    n = test_many(t, &env, &take, 100);
    tap_ok(n == 20, "or the half, if two were known to spend: %d", n);

    take.hash = 3;
    s = told(t, &env, &take, 0, 1, 0);
    s->fleet = env.asof;
    n = test_many(t, &env, &take, 100);
    tap_ok(n == 40, "a lone spender keeps the whole rate: %d", n);

    take = test_key(t, 4, SEC, 1);
    n = test_many(t, &env, &take, 100);
    env.now += 4 * SEC;
    n += test_many(t, &env, &take, 100);
    tap_ok(n == 2, "a capacity of one is had now and then: %d", n);

    env.now += 4 * SEC - 100 * MSEC;
    n = test_many(t, &env, &take, 100);
    tap_ok(n == 1, "a little early is not too early: %d", n);

    env.now += 4 * SEC - 1;
    n = test_many(t, &env, &take, 100);
    tap_ok(n == 0 && take.v.retry_after == 1,
           "and what comes early is not forgotten: %d", n);

    take = test_key(t, 5, SEC, 40);
    env.away = GATE_LIMIT_AWAY_LOCAL;
    n = test_many(t, &env, &take, 100);
    s = gate_limit_slot(t, take.slot);
    tap_ok(n == 40 && unsent_of(s) == 40, "\"local\" has all of it");

    take.hash = 6;
    s = told(t, &env, &take, 0, 4, 0);
    n = test_many(t, &env, &take, 100);
    tap_ok(n == 40, "also of a key that others spent from: %d", n);

    free(t);
}


/* Back again: who owes what, in how many units that Redis does not know. */

static void
settled(gate_limit_table_t *t, const gate_limit_env_t *env, uint64_t most)
{
    uint64_t  at;

    for (at = 0; !gate_limit_settle(t, env, &at, most); ) { /* void */ }
}


static void
test_settle(void)
{
    int                  i, bad;
    uint64_t             at;
    gate_limit_env_t     env;
    gate_limit_take_t    take;
    gate_limit_slot_t   *s;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(1);
    env.away = GATE_LIMIT_AWAY_SHARE;
    take = test_key(t, 1, SEC, 40);

    (void) test_many(t, &env, &take, 100);
    s = gate_limit_slot(t, take.slot);
    env.now += 30 * SEC - MSEC;
    settled(t, &env, 10);

    tap_ok(s->tat == env.now + (10 * SEC + MSEC) / 4 && unsent_of(s) == 3,
           "what time has paid is not told: %ld left", (long) unsent_of(s));

    env.now += 3 * SEC;
    settled(t, &env, 10);
    tap_ok(unsent_of(s) == 0, "nothing of a paid debt");

    s->word = gate_limit_word(0, 1, take.cls, -3);
    settled(t, &env, 10);
    tap_ok(unsent_of(s) == -3, "what is to be given back still is");

    take.hash = 2;
    s = told(t, &env, &take, 10 * SEC, 2, 0);
    take.cost = 3;
    (void) gate_limit_take(t, &env, &take);
    settled(t, &env, 10);
    tap_ok(s->tat == env.now + 13 * SEC && unsent_of(s) == 3,
           "what Redis knew before is not divided: %ld s",
           (long) ((s->tat - env.now) / SEC));

    env.now += 15 * SEC;
    settled(t, &env, 10);
    tap_ok(s->tat <= env.now && unsent_of(s) == 0, "but is paid by time");
    take.cost = 1;

    bad = 0;

    for (i = 0; i < 40; i++) {
        take.hash = test_hash();
        (void) gate_limit_take(t, &env, &take);
    }

    for (at = 0, i = 1; !gate_limit_settle(t, &env, &at, 5); i++) {
        bad += at == 0;
    }

    for (at = 0; at < gate_limit_slots(t); at++) {
        s = gate_limit_slot(t, at);
        bad += s->tat > env.now && s->tat != env.now + SEC;
    }

    tap_ok(i == 9 && bad == 0, "slice by slice, each slot once: %d slices", i);

    free(t);
}


static void
test_acked(void)
{
    size_t               n;
    gate_limit_env_t     env;
    gate_limit_take_t    take, other;
    gate_limit_slot_t   *s;
    gate_limit_debt_t    d;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(1);
    take = test_key(t, 1, SEC, 100);

    (void) test_many(t, &env, &take, 5);
    s = gate_limit_slot(t, take.slot);
    n = gate_limit_collect(t, env.now, 0, &d, 1, 100);

    tap_ok(n == 1 && d.hash == 1 && d.slot == take.slot && d.unsent == 5
           && d.tat == env.now + 5 * SEC && d.cls == take.cls
           && gate_limit_marked(t) == 0,
           "what is told is the units and the TAT");

    (void) test_many(t, &env, &take, 2);
    tap_ok(gate_limit_marked(t) == 1, "what comes then is marked again");

    /* Redis knows of another node's ten */

    gate_limit_acked(t, &d, env.now, 15 * SEC, 3);
    tap_ok(unsent_of(s) == 2 && s->tat == env.now + 17 * SEC
           && s->fleet == env.now + 15 * SEC
           && gate_limit_nodes_of(s->word) == 3,
           "the answer counts, and what was taken since");

    n = gate_limit_collect(t, env.now, 0, &d, 1, 100);
    gate_limit_acked(t, &d, env.now, 17 * SEC, 0);
    tap_ok(n == 1 && unsent_of(s) == 0 && s->tat == env.now + 17 * SEC
           && gate_limit_nodes_of(s->word) == 3,
           "no number of nodes leaves the one that is there");

    /* taken after an idle while: later than units alone would say */

    (void) test_many(t, &env, &take, 1);
    (void) gate_limit_collect(t, env.now, 0, &d, 1, 100);
    env.now += 30 * SEC;
    (void) test_many(t, &env, &take, 1);
    gate_limit_acked(t, &d, env.now - 30 * SEC, 18 * SEC, 1);
    tap_ok(s->tat == env.now + SEC && unsent_of(s) == 1,
           "the TAT does not go back");

    (void) test_many(t, &env, &take, 9);
    (void) gate_limit_collect(t, env.now, 0, &d, 1, 100);
    gate_limit_acked(t, &d, env.now, 4 * SEC, 1);
    tap_ok(s->tat == env.now + 4 * SEC && unsent_of(s) == 0,
           "unless Redis says less than it was told");

    /* the slot is another key's */

    (void) test_many(t, &env, &take, 3);
    (void) gate_limit_collect(t, env.now, 0, &d, 1, 100);
    other = test_key(t, 2, SEC, 100);
    s->hash = 2;
    s->word = gate_limit_word(0, 1, other.cls, 7);
    d.hash = UINT64_C(1) << 63;
    gate_limit_acked(t, &d, env.now, 50 * SEC, 1);
    tap_ok(unsent_of(s) == 7, "another key's slot is left alone");

    free(t);
}


static void
test_acked_class(void)
{
    gate_limit_env_t     env;
    gate_limit_take_t    slow, fast;
    gate_limit_slot_t   *s;
    gate_limit_debt_t    d;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(1);
    slow = test_key(t, 1, SEC, 10);
    fast = test_key(t, 1, 100 * MSEC, 20);

    (void) test_many(t, &env, &slow, 4);
    (void) gate_limit_collect(t, env.now, 0, &d, 1, 100);
    (void) test_many(t, &env, &fast, 1);
    gate_limit_acked(t, &d, env.now, 6 * SEC, 2);
    s = gate_limit_slot(t, fast.slot);

    tap_ok(s->tat == env.now + 700 * MSEC && unsent_of(s) == 1,
           "an answer about another rate counts in units");

    free(t);
}


/* A key whose rate is changed pays at the new one. */

static void
test_firm(void)
{
    int                  i, rc[2][2];
    gate_limit_env_t     env;
    gate_limit_take_t    slow, fast;
    gate_limit_slot_t   *s;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(1);

    for (i = 0; i < 2; i++) {
        slow = test_key(t, 10 + (uint64_t) i, SEC, 10);
        fast = test_key(t, 10 + (uint64_t) i, 10 * MSEC, 5);
        fast.firm = (unsigned) i;

        (void) test_many(t, &env, &slow, 10);
        rc[i][0] = gate_limit_take(t, &env, &fast);
        env.now += 10 * MSEC;
        rc[i][1] = gate_limit_take(t, &env, &fast);
    }

    tap_ok(rc[1][0] == GATE_LIMIT_LIMITED && rc[1][1] == GATE_LIMIT_PASSED,
           "who is refused at a new rate pays at that one");
    tap_ok(rc[0][0] == GATE_LIMIT_LIMITED && rc[0][1] == GATE_LIMIT_LIMITED,
           "but not where it may be another one each time");

    slow.hash = fast.hash = 12;
    (void) test_many(t, &env, &slow, 10);
    rc[0][0] = gate_limit_peek(t, &env, &fast);
    env.now += 10 * MSEC;
    rc[0][1] = gate_limit_peek(t, &env, &fast);
    tap_ok(rc[0][0] == GATE_LIMIT_LIMITED && rc[0][1] == GATE_LIMIT_PASSED,
           "a look is enough");

    slow = test_key(t, 13, SEC, 40);
    fast = test_key(t, 13, 100 * MSEC, 40);
    s = told(t, &env, &slow, 20 * SEC, 4, 0);
    rc[0][0] = gate_limit_take(t, &env, &fast);
    tap_ok(rc[0][0] == GATE_LIMIT_PASSED && s->fleet == env.now + 2 * SEC
           && s->tat == env.now + 2100 * MSEC,
           "what Redis said counts in units as well");

    free(t);
}


static void
test_set(void)
{
    int                  rc;
    gate_limit_env_t     env;
    gate_limit_take_t    take;
    gate_limit_slot_t   *s;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(1);
    take = test_key(t, 1, SEC, 10);

    rc = gate_limit_set(t, &env, &take, 7 * SEC, 2, 0);
    s = gate_limit_slot(t, take.slot);
    tap_ok(rc == GATE_LIMIT_PASSED && s->tat == env.now + 7 * SEC
           && s->fleet == s->tat && gate_limit_nodes_of(s->word) == 2
           && gate_limit_marked(t) == 0,
           "an unknown key is what Redis says");

    (void) gate_limit_take(t, &env, &take);
    (void) gate_limit_set(t, &env, &take, 3 * SEC, 200, 0);
    tap_ok(s->tat == env.now + 4 * SEC && unsent_of(s) == 1
           && gate_limit_nodes_of(s->word) == 63,
           "a known one too, and what Redis does not know");

    (void) gate_limit_set(t, &env, &take, 3 * SEC, 1, -3);
    tap_ok(s->tat == env.now + SEC && unsent_of(s) == -2,
           "units are given back");

    (void) gate_limit_set(t, &env, &take, 0, 1, INT64_C(1) << 40);
    tap_ok(unsent_of(s) == GATE_LIMIT_UNSENT_MAX, "there is a most");
    (void) gate_limit_set(t, &env, &take, 0, 1, -(INT64_C(1) << 40));
    tap_ok(unsent_of(s) == -GATE_LIMIT_UNSENT_MAX, "and a least");

    s->tat = env.now;
    s->word = gate_limit_word(0, 63, take.cls, GATE_LIMIT_UNSENT_MAX - 1);
    env.shared = 1;
    env.away = GATE_LIMIT_AWAY_LOCAL;
    rc = test_many(t, &env, &take, 3);
    env.away = 0;
    s->word &= ~((UINT64_C(63)) << 34);
    rc += test_many(t, &env, &take, 3);
    tap_ok(rc == 6 && unsent_of(s) == GATE_LIMIT_UNSENT_MAX
           && s->word >> 26 == take.cls,
           "taking more than that harms nothing");

    free(t);
}


/* The most indebted ones first; those in a hurry before all. */

static void
test_collect(void)
{
    int                  i, bad;
    size_t               n, total;
    int64_t              last, sum;
    gate_limit_env_t     env;
    gate_limit_take_t    take;
    gate_limit_debt_t    d[50];
    gate_limit_table_t  *t;

    t = test_table(1000);
    env = test_env(1);
    take = test_key(t, 0, SEC, 1000);
    sum = 0;

    for (i = 0; i < 600; i++) {
        take.hash = test_hash();
        take.cost = 1 + i % 100;

        (void) told(t, &env, &take, 0, 1, 0);
        (void) gate_limit_take(t, &env, &take);
        sum += take.cost;
    }

    take.cost = 1;
    take.hash = 77;
    (void) gate_limit_take(t, &env, &take);
    sum++;

    tap_ok(gate_limit_marked(t) == 601, "what was taken from is marked");

    n = gate_limit_collect(t, env.now, 1, d, 50, 10000);
    tap_ok(n == 1 && d[0].hash == 77, "those in a hurry alone, if asked");
    sum -= d[0].unsent;

    n = gate_limit_collect(t, env.now, 0, d, 50, 10000);
    bad = n != 50;
    last = INT64_MAX;

    for (i = 0; i < 50; i++) {
        bad += d[i].unsent > last || d[i].unsent < 92;
        last = d[i].unsent;
        sum -= d[i].unsent;
    }

    tap_ok(bad == 0, "else those nearest to their limit, in order");
    tap_ok(gate_limit_marked(t) == 550, "whose marks are gone");

    gate_limit_mark(t, d[0].slot, 1);
    sum += d[0].unsent;

    for (total = 0, i = 0; i < 1000 && gate_limit_marked(t) != 0; i++) {
        n = gate_limit_collect(t, env.now, 0, d, 50, 7);
        total += n;
        bad += n > 7;

        while (n--) {
            sum -= d[n].unsent;
        }
    }

    tap_ok(total == 551 && bad == 0 && sum == 0,
           "slices find each slot once: %lu", (unsigned long) total);

    tap_ok(gate_limit_collect(t, env.now, 0, d, 50, 10000) == 0,
           "and nothing is left");

    for (i = 0; i < (int) gate_limit_slots(t); i++) {
        gate_limit_mark(t, (uint64_t) i, i % 2);
    }

    gate_limit_mark(t, gate_limit_slots(t), 0);
    n = test_count(t, env.now).unsent;
    total = 0;

    while (gate_limit_marked(t) != 0) {
        total += gate_limit_collect(t, env.now, 0, d, 50, 100);
    }

    tap_ok(total == n, "a mark without anything to tell tells nothing");

    free(t);
}


/* What is little and far from its limit may wait. */

static void
test_small(void)
{
    uint64_t             keys[4];
    gate_limit_env_t     env;
    gate_limit_debt_t    d[8];
    gate_limit_take_t    take;
    gate_limit_table_t  *t;

    t = test_table(1000);
    env = test_env(1);
    take = test_key(t, 0, SEC / 1000, 6400);

    keys[0] = test_hash();
    take.hash = keys[0];
    take.cost = 99;
    (void) told(t, &env, &take, 0, 1, 0);
    (void) gate_limit_take(t, &env, &take);

    tap_ok(gate_limit_collect(t, env.now, GATE_LIMIT_NOTABLE, d, 8, 1000)
           == 0, "less than a 64th of a capacity may wait");

    take.cost = 1;
    (void) gate_limit_take(t, &env, &take);

    tap_ok(gate_limit_collect(t, env.now, GATE_LIMIT_NOTABLE, d, 8, 1000)
           == 1 && d[0].hash == keys[0] && d[0].unsent == 100,
           "a 64th may not");

    take.hash = keys[1] = test_hash();
    take.cost = 1;
    (void) told(t, &env, &take, 3300 * (SEC / 1000), 1, 0);
    (void) gate_limit_take(t, &env, &take);

    tap_ok(gate_limit_collect(t, env.now, GATE_LIMIT_NOTABLE, d, 8, 1000)
           == 1 && d[0].hash == keys[1],
           "nor may one whose half is used");

    take.hash = keys[2] = test_hash();
    (void) told(t, &env, &take, 0, 1, 0);
    (void) gate_limit_take(t, &env, &take);

    tap_ok(gate_limit_collect(t, env.now, GATE_LIMIT_NOTABLE, d, 8, 1000)
           == 0 && gate_limit_marked(t) == 1
           && gate_limit_collect(t, env.now, GATE_LIMIT_ALL, d, 8, 1000) == 1
           && d[0].hash == keys[2],
           "who waits stays marked, and is told of with all the others");

    free(t);
}


/* What a process could not mark before it died is found. */

static void
test_sweep(void)
{
    int                  i;
    uint64_t             at, steps;
    gate_limit_env_t     env;
    gate_limit_take_t    take;
    gate_limit_debt_t    d[50];
    gate_limit_count_t   count;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(1);
    take = test_key(t, 0, SEC, 10);

    for (i = 0; i < 30; i++) {
        take.hash = test_hash();
        (void) gate_limit_take(t, &env, &take);
    }

    memset(gate_limit_bits(t, t->marks[0]), 0,
           t->size - (t->marks[0] - 0));

    tap_ok(gate_limit_collect(t, env.now, 0, d, 50, 1000) == 0,
           "without marks nothing is found");

    memset(&count, 0, sizeof(gate_limit_count_t));

    for (at = 0, steps = 1; !gate_limit_sweep(t, env.now, &at, 10, &count);
         steps++)
    {
        /* void */
    }

    tap_ok(count.used == 30 && count.debtors == 30 && count.unsent == 30
           && steps == (gate_limit_slots(t) + 9) / 10,
           "a pass counts, slice by slice");
    tap_ok(gate_limit_collect(t, env.now, 0, d, 50, 1000) == 30,
           "and marks");

    count = test_count(t, env.now + 2 * SEC);
    tap_ok(count.used == 30 && count.debtors == 0, "paid is paid");

    /* a summary without its bit */

    gate_limit_mark(t, d[0].slot, 0);
    gate_limit_bits(t, t->sums[0])[0] = 0;
    (void) test_count(t, env.now);
    tap_ok(gate_limit_collect(t, env.now, 0, d, 50, 1000) == 30,
           "also where somebody died between a mark and its summary");

    free(t);
}


static void
test_copy(void)
{
    int                  i, bad;
    uint64_t             left, hashes[200];
    gate_limit_env_t     env;
    gate_limit_take_t    take;
    gate_limit_slot_t   *s;
    gate_limit_table_t  *t, *u, *small;

    t = test_table(400);
    u = test_table(1000);
    small = test_table(64);
    env = test_env(1);
    bad = 0;

    take = test_key(u, 0, 2 * SEC, 3);
    take = test_key(t, 0, SEC, 10);

    for (i = 0; i < 200; i++) {
        take.hash = hashes[i] = test_hash();
        (void) told(t, &env, &take, i % 2 ? 0 : 5 * SEC, 3, i % 4 == 1);
    }

    left = gate_limit_copy(u, t, env.now);
    take.cls = gate_limit_class(u, &take.rate);

    for (i = 0; i < 200; i++) {
        take.hash = hashes[i];
        s = gate_limit_find(u, take.hash);

        if (i % 4 == 3) {
            bad += s != NULL;
            continue;
        }

        bad += s == NULL || gate_limit_cls_of(s->word) != take.cls
               || gate_limit_nodes_of(s->word) != 3
               || unsent_of(s) != (i % 4 == 1)
               || s->tat != env.now + (i % 2 ? SEC : 5 * SEC);
    }

    tap_ok(left == 0 && bad == 0, "debts move to a larger table");
    tap_ok(test_count(u, env.now).used == 150 && gate_limit_marked(u) == 50,
           "what is paid and told does not, what is to be told is marked");

    left = gate_limit_copy(small, t, env.now);
    tap_ok(left >= 150 - gate_limit_slots(small) && left < 150
           && test_count(small, env.now).debtors == 150 - left,
           "of a smaller one as many as fit: %lu do not",
           (unsigned long) left);

    free(t);
    free(u);
    free(small);
}


int
main(void)
{
    test_share();
    test_flush();
    test_away();
    test_settle();
    test_acked();
    test_acked_class();
    test_firm();
    test_set();
    test_collect();
    test_small();
    test_sweep();
    test_copy();

    return tap_done();
}

/* A key that is met under another rate than the one that its debt is of. */

#include "limit.h"


#define KEY  UINT64_C(0x123456789abcdef0)


static gate_limit_take_t
test_as(gate_limit_table_t *t, int64_t interval, int64_t capacity, int firm)
{
    gate_limit_take_t  take;

    take = test_key(t, KEY, interval, capacity);
    take.firm = firm != 0;

    return take;
}


/* ten of ten at one a minute, then ten of ten at one a second */

static void
test_firm(void)
{
    gate_limit_env_t     env;
    gate_limit_take_t    slow, fast, look;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(0);
    slow = test_as(t, 60 * SEC, 10, 1);
    fast = test_as(t, SEC, 10, 1);

    tap_ok(test_many(t, &env, &slow, 12) == 10, "ten at the slow rate");

    tap_ok(gate_limit_take(t, &env, &fast) == GATE_LIMIT_LIMITED
           && fast.v.retry_after == SEC && fast.v.reset_after == 10 * SEC,
           "who owes ten owes ten at the fast one");

    env.now += 3 * SEC;
    look = fast;
    look.cost = 0;

    tap_ok(gate_limit_peek(t, &env, &look) == GATE_LIMIT_PASSED
           && look.v.remaining == 3,
           "and pays at the fast one, although he was refused");

    tap_ok(test_many(t, &env, &fast, 5) == 3, "three seconds are three");

    tap_ok(gate_limit_peek(t, &env, &slow) == GATE_LIMIT_LIMITED
           && slow.v.reset_after == 600 * SEC, "and back");

    free(t);
}


/* a look that is refused counts as well; one that is not changes nothing */

static void
test_looks(void)
{
    int64_t              tat;
    gate_limit_env_t     env;
    gate_limit_take_t    slow, fast;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(0);
    slow = test_as(t, 60 * SEC, 10, 1);
    fast = test_as(t, SEC, 10, 1);

    (void) test_many(t, &env, &slow, 4);
    tat = gate_limit_slot(t, slow.slot)->tat;

    tap_ok(gate_limit_peek(t, &env, &fast) == GATE_LIMIT_PASSED
           && gate_limit_slot(t, slow.slot)->tat == tat,
           "a look that finds something left changes nothing");

    (void) test_many(t, &env, &slow, 6);

    tap_ok(gate_limit_peek(t, &env, &fast) == GATE_LIMIT_LIMITED
           && gate_limit_slot(t, slow.slot)->tat == env.now + 10 * SEC,
           "one that finds nothing goes over to the new rate");

    free(t);
}


/* now this rate and now that: nobody is given a capacity for it */

static void
test_loose(void)
{
    int                  i, passed;
    gate_limit_env_t     env;
    gate_limit_take_t    big, small;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(0);
    big = test_as(t, 60 * SEC, 100, 0);
    small = test_as(t, SEC, 2, 0);

    (void) test_many(t, &env, &big, 100);
    passed = 0;

    for (i = 0; i < 50; i++) {
        passed += test_many(t, &env, &small, 1);
        passed += test_many(t, &env, &big, 1);
    }

    tap_ok(passed == 0, "who has many rates at a time gains nothing by it");

    free(t);
}


/* what Redis said is of the old rate as well */

static void
test_fleet(void)
{
    gate_limit_env_t     env;
    gate_limit_take_t    slow, fast;
    gate_limit_debt_t    debt;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(1);
    slow = test_as(t, 60 * SEC, 10, 1);
    fast = test_as(t, SEC, 10, 1);

    (void) test_many(t, &env, &slow, 1);
    (void) gate_limit_collect(t, env.now, 0, &debt, 1, 100);
    gate_limit_acked(t, &debt, env.now, 600 * SEC, 2);

    tap_ok(test_many(t, &env, &slow, 1) == 0, "others have spent it all");
    tap_ok(test_many(t, &env, &fast, 1) == 0, "also at another rate");

    env.now += 2 * SEC;

    tap_ok(test_many(t, &env, &fast, 1) == 1,
           "but it comes back as fast as that is");

    tap_ok(gate_limit_slot(t, fast.slot)->fleet == env.now + 8 * SEC,
           "what Redis said is of the new rate too");

    free(t);
}


/* units that are not acknowledged stay what they are */

static void
test_unsent(void)
{
    gate_limit_env_t     env;
    gate_limit_take_t    slow, fast;
    gate_limit_debt_t    debt;
    gate_limit_table_t  *t;

    t = test_table(64);
    env = test_env(1);
    slow = test_as(t, 60 * SEC, 10, 1);
    fast = test_as(t, SEC, 10, 1);

    (void) test_many(t, &env, &slow, 10);
    (void) test_many(t, &env, &fast, 1);

    tap_ok(gate_limit_collect(t, env.now, 0, &debt, 1, 100) == 1
           && debt.unsent == 10 && debt.cls == fast.cls
           && debt.tat == env.now + 10 * SEC,
           "ten are told as ten of the new rate");

    free(t);
}


int
main(void)
{
    test_firm();
    test_looks();
    test_loose();
    test_fleet();
    test_unsent();

    return tap_done();
}

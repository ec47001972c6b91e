
/*
 * What the tests of gate_limit*.c have in common.
 */


#ifndef _LIMIT_H_INCLUDED_
#define _LIMIT_H_INCLUDED_


#include "tap.h"

#define GATE_LIMIT_POINT(name)  test_point(name)

static void test_point(const char *name);

#include "core/gate_limit_table.c"
#include "core/gate_limit_agent.c"
#include "core/gate_limit.c"


#define SEC   INT64_C(1000000000)
#define MSEC  INT64_C(1000000)
#define START (1000 * SEC)


/* what is to happen at a point, once */

static const char  *point_name;
static void       (*point_call)(void);


static void
test_point(const char *name)
{
    if (point_name != NULL && strcmp(name, point_name) == 0) {
        point_name = NULL;
        point_call();
    }
}


static inline void *
test_memory(uint64_t keys)
{
    void    *p;
    size_t   size;

    size = (gate_limit_size(keys) + 63) / 64 * 64;
    p = aligned_alloc(64, size);

    if (p == NULL) {
        abort();
    }

    memset(p, 0, size);

    return p;
}


static inline gate_limit_table_t *
test_table(uint64_t keys)
{
    return gate_limit_init(test_memory(keys), keys);
}


/* a request of one unit */

static inline gate_limit_take_t
test_key(gate_limit_table_t *t, uint64_t hash, int64_t interval,
    int64_t capacity)
{
    gate_limit_take_t  take;

    memset(&take, 0, sizeof(gate_limit_take_t));

    take.hash = hash;
    take.rate.interval = interval;
    take.rate.capacity = capacity;
    take.cls = gate_limit_class(t, &take.rate);
    take.cost = 1;

    return take;
}


static inline gate_limit_env_t
test_env(int shared)
{
    gate_limit_env_t  env;

    memset(&env, 0, sizeof(gate_limit_env_t));

    env.now = START;
    env.shared = shared;
    env.nodes = 4;
    env.stale = SEC;
    env.asof = START;

    return env;
}


/* How many are admitted, of so many. */

static inline int
test_many(gate_limit_table_t *t, const gate_limit_env_t *env,
    gate_limit_take_t *take, int n)
{
    int  i, passed;

    passed = 0;

    for (i = 0; i < n; i++) {
        passed += gate_limit_take(t, env, take) == GATE_LIMIT_PASSED;
    }

    return passed;
}


static inline gate_limit_count_t
test_count(gate_limit_table_t *t, int64_t now)
{
    uint64_t            at;
    gate_limit_count_t  count;

    memset(&count, 0, sizeof(gate_limit_count_t));

    for (at = 0; !gate_limit_sweep(t, now, &at, 100, &count); ) { /* void */ }

    return count;
}


static uint64_t  test_seed = 88172645463325252;


static inline uint64_t
test_hash(void)
{
    return tap_random(&test_seed);
}


#endif /* _LIMIT_H_INCLUDED_ */


/*
 * gate_limit*.c: several processes at the same table, some of which die.
 *
 * First what one process does while another one is stopped at a point of its
 * work, or was killed there; then many at once.
 */

#include "limit.h"

#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/wait.h>


#define WORKERS  4
#define KEYS     3
#define HAMMER   250000


static gate_limit_table_t  *table;
static gate_limit_env_t     env;
static gate_limit_take_t    ours, others;


/* what the processes share */

typedef struct {
    int64_t             now;
    uint64_t            stop;
    uint64_t            passed[KEYS];
    uint64_t            rounds;
} shared_t;

static shared_t  *shared;


static gate_limit_table_t *
shared_table(uint64_t keys)
{
    void  *mem;

    mem = mmap(NULL, gate_limit_size(keys), PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (mem == MAP_FAILED) {
        abort();
    }

    return gate_limit_init(mem, keys);
}


static void
unmap(gate_limit_table_t *t)
{
    munmap((void *) t, t->size);
}


/* In how many slots a key can be charged. */

static unsigned
slots_of(gate_limit_table_t *t, uint64_t hash)
{
    uint64_t            i;
    unsigned            n;
    gate_limit_slot_t  *s;

    n = 0;

    for (i = 0; i < gate_limit_slots(t); i++) {
        s = gate_limit_slot(t, i);
        n += s->word != 0 && gate_limit_is(s, hash);
    }

    return n;
}


static int  met;


static void
take_other(void)
{
    met += gate_limit_take(table, &env, &others) == GATE_LIMIT_PASSED;
}


/* One process brings in a key while another one does at a point. */

static void
test_meet(const char *point, const char *what)
{
    int                 rc;
    gate_limit_slot_t  *s;

    table = test_table(64);
    env = test_env(1);
    ours = others = test_key(table, 1234, SEC, 5);

    met = 0;
    point_name = point;
    point_call = take_other;
    rc = gate_limit_take(table, &env, &ours);
    s = gate_limit_slot(table, ours.slot);

    tap_ok(rc == GATE_LIMIT_PASSED && met == 1
           && ours.slot == others.slot && s->tat == env.now + 2 * SEC
           && gate_limit_unsent_of(s->word) == 2
           && slots_of(table, 1234) == 1
           && test_many(table, &env, &ours, 10) == 3,
           "%s", what);

    free(table);
}


/* Three of them, one in the other. */

static void
take_third(void)
{
    gate_limit_take_t  third;

    third = others;
    point_name = "claimed";
    point_call = take_other;

    met += gate_limit_take(table, &env, &third) == GATE_LIMIT_PASSED;
}


static void
test_meet_three(void)
{
    int  rc;

    table = test_table(64);
    env = test_env(1);
    ours = others = test_key(table, 99, SEC, 5);

    met = 0;
    point_name = "claimed";
    point_call = take_third;
    rc = gate_limit_take(table, &env, &ours);

    tap_ok(rc == GATE_LIMIT_PASSED && met == 2
           && ours.slot == others.slot && slots_of(table, 99) == 1
           && test_many(table, &env, &ours, 10) == 2,
           "three who bring in a key find one slot");

    free(table);
}


/* A process that was killed at a point. */

static void
die(void)
{
    _exit(9);
}


static void
killed_at(const char *point)
{
    int    status;
    pid_t  pid;

    fflush(stdout);
    pid = fork();

    if (pid == 0) {
        point_name = point;
        point_call = die;
        (void) gate_limit_take(table, &env, &ours);
        _exit(0);
    }

    waitpid(pid, &status, 0);

    if (!WIFEXITED(status) || WEXITSTATUS(status) != 9) {
        tap_ok(0, "# nobody came to \"%s\"", point);
    }
}


/* A new slot that nobody comes back to, and ours. */

static void
leave_new(void)
{
    killed_at("entered");
}


static void
test_two_new(void)
{
    int  i, rc, bad;

    bad = 0;

    for (i = 0; i < 50; i++) {
        table = shared_table(64);
        env = test_env(0);
        ours = test_key(table, test_hash(), SEC, 5);

        point_name = "claimed";
        point_call = leave_new;
        rc = gate_limit_take(table, &env, &ours);

        bad += rc != GATE_LIMIT_PASSED || slots_of(table, ours.hash) != 1
               || test_many(table, &env, &ours, 10) != 4;

        unmap(table);
    }

    tap_ok(bad == 0, "of two new slots of a key one remains");
}


/* The TAT under another rate, with the class of before. */

static void
take_slower(void)
{
    gate_limit_take_t  take;

    take = test_key(table, ours.hash, 1000 * SEC, 5);
    met += gate_limit_take(table, &env, &take) == GATE_LIMIT_PASSED;
}


static void
test_torn(void)
{
    int  rc, looked;

    table = test_table(64);
    env = test_env(0);
    env.away = GATE_LIMIT_AWAY_LOCAL;
    ours = test_key(table, UINT64_C(0x123456789abcdef0), SEC, 5);
    met = 0;

    (void) gate_limit_take(table, &env, &ours);

    point_name = "read";
    point_call = take_slower;
    looked = gate_limit_peek(table, &env, &ours);

    (void) gate_limit_take(table, &env, &ours);

    point_name = "read";
    rc = gate_limit_take(table, &env, &ours);

    tap_ok(looked == GATE_LIMIT_PASSED && rc == GATE_LIMIT_PASSED && met == 2
           && test_many(table, &env, &ours, 5) == 0,
           "nobody is limited by a TAT of another moment than its word");

    free(table);
}


/* A slot that is new is not taken for another key. */

static void
fill(void)
{
    int  i;

    for (i = 0; i < 3000; i++) {
        others.hash = test_hash();
        (void) gate_limit_take(table, &env, &others);
    }
}


static void
test_lease(void)
{
    int  rc, last;

    table = test_table(64);
    env = test_env(0);
    ours = others = test_key(table, test_hash(), SEC, 5);

    point_name = "entered";
    point_call = fill;
    rc = gate_limit_take(table, &env, &ours);
    last = gate_limit_take(table, &env, &others);

    tap_ok(rc == GATE_LIMIT_PASSED && last == GATE_LIMIT_FULL,
           "who has a slot finds it when he comes to charge it");

    free(table);
}


/* Somebody else's slot by the time we go on. */

static void
take_over(void)
{
    uint64_t           i;
    gate_limit_env_t   later;
    gate_limit_take_t  take;

    later = env;
    later.now += 10 * SEC;
    take = others;

    /* until our slot, the only one that is not in debt, is somebody's */

    for (i = 0; i < 3000; i++) {
        take.hash = test_hash();
        (void) gate_limit_take(table, &later, &take);
    }
}


static void
test_stopped(const char *point)
{
    int       rc, bad;
    uint64_t  i, debtors;

    table = test_table(64);
    env = test_env(0);
    ours = others = test_key(table, 4321, 3600 * SEC, 1);

    point_name = point;
    point_call = take_over;
    rc = gate_limit_take(table, &env, &ours);
    bad = 0;

    for (i = 0, debtors = 0; i < gate_limit_slots(table); i++) {
        debtors += gate_limit_slot(table, i)->tat > env.now + 60 * SEC;
        bad += gate_limit_slot(table, i)->word == 0;
    }

    tap_ok(rc == GATE_LIMIT_FULL && bad == 0
           && test_count(table, env.now + 10 * SEC).used
              == gate_limit_slots(table)
           && debtors == gate_limit_slots(table),
           "who is stopped when it has \"%s\" a slot takes nobody's debt "
           "away: %lu of %lu", point, (unsigned long) debtors,
           (unsigned long) gate_limit_slots(table));

    free(table);
}


static void
test_killed(const char *point, int taken)
{
    int                  n;
    gate_limit_count_t   count;
    gate_limit_debt_t    d;

    table = shared_table(64);
    env = test_env(1);
    ours = test_key(table, 555, SEC, 5);

    killed_at(point);
    n = test_many(table, &env, &ours, 10);

    tap_ok(n == 5 - taken && slots_of(table, 555) == 1,
           "killed when it has \"%s\": the key has all but what was taken, %d",
           point, n);

    /* and again, with nobody after it */

    ours.hash = 556;
    killed_at(point);
    env.now += 4 * SEC;
    n = test_many(table, &env, &ours, 10);
    tap_ok(n == 5, "later all of it");

    ours.hash = 557;
    killed_at(point);
    count = test_count(table, env.now);
    n = 0;

    while (gate_limit_collect(table, env.now, 0, &d, 1, 1000)) {
        n += d.hash == 557;
        count.unsent--;
    }

    tap_ok(n == taken && count.unsent == 0, "and Redis is told what was");

    unmap(table);
}


/* Killed again and again in a table that is full: no slot is lost. */

static void
test_killed_full(const char *point)
{
    int       i, taken;
    unsigned  used;

    table = shared_table(64);
    env = test_env(0);
    ours = test_key(table, 0, SEC, 1);

    for (i = 0; i < 3000; i++) {
        ours.hash = test_hash();
        (void) gate_limit_take(table, &env, &ours);
    }

    env.now += 2 * SEC;

    for (i = 0; i < 40; i++) {
        ours.hash = test_hash();
        killed_at(point);
    }

    env.now += 2 * SEC;
    taken = 0;

    for (i = 0; i < 3000; i++) {
        ours.hash = test_hash();
        taken += gate_limit_take(table, &env, &ours) == GATE_LIMIT_PASSED;
    }

    used = (unsigned) test_count(table, env.now).debtors;

    tap_ok(used == gate_limit_slots(table) && (unsigned) taken == used,
           "killed when it has \"%s\", forty times: no slot is lost", point);

    unmap(table);
}


static void
no_call(void)
{
    /* void */
}


/* A worker: takes until it is told to stop, and counts what it got. */

static void
work(uint64_t seed, int fleet)
{
    int                i;
    gate_limit_env_t   e;
    gate_limit_take_t  take;

    test_seed = seed;
    e = env;
    e.shared = fleet;
    take = ours;
    point_name = NULL;

    while (!__atomic_load_n(&shared->stop, __ATOMIC_SEQ_CST)) {

        for (i = 0; i < 50; i++) {
            take.hash = 1 + test_hash() % KEYS;
            e.now = __atomic_load_n(&shared->now, __ATOMIC_SEQ_CST);
            e.asof = e.now;

            if (test_hash() % 20 == 0) {
                take.hash = test_hash();
                (void) gate_limit_take(table, &e, &take);
                continue;
            }

            if (gate_limit_take(table, &e, &take) == GATE_LIMIT_PASSED) {

                if (!fleet && test_hash() % 8 == 0) {
                    gate_limit_refund(table, &e, &take);
                    continue;
                }

                __atomic_fetch_add(&shared->passed[take.hash - 1], 1,
                                   __ATOMIC_SEQ_CST);
            }
        }

        __atomic_fetch_add(&shared->rounds, 1, __ATOMIC_SEQ_CST);
    }

    _exit(0);
}


static pid_t
start(unsigned i, int fleet)
{
    pid_t  pid;

    fflush(stdout);
    pid = fork();

    if (pid == 0) {
        work(UINT64_C(88172645463325252) + i * 77777, fleet);
    }

    return pid;
}


/* The clock of all goes on whenever the keys have nothing left. */

static void
tick(int64_t nsec)
{
    int                k;
    gate_limit_env_t   e;
    gate_limit_take_t  take;

    take = ours;
    e = env;
    e.shared = 0;
    e.now = e.asof = __atomic_load_n(&shared->now, __ATOMIC_SEQ_CST);

    for (k = 0; k < KEYS; k++) {
        take.hash = 1 + (uint64_t) k;

        while (gate_limit_peek(table, &e, &take) == GATE_LIMIT_PASSED) {
            usleep(100);
        }
    }

    __atomic_fetch_add(&shared->now, nsec, __ATOMIC_SEQ_CST);
}


/* What was counted of what the agent told: the units of a key. */

static void
tell(int64_t told[KEYS])
{
    size_t             n;
    int64_t            now;
    gate_limit_debt_t  d[8];

    now = __atomic_load_n(&shared->now, __ATOMIC_SEQ_CST);
    n = gate_limit_collect(table, now, 0, d, 8, 1000);

    while (n--) {

        if (d[n].hash >= 1 && d[n].hash <= KEYS) {
            told[d[n].hash - 1] += d[n].unsent;
        }

        gate_limit_acked(table, &d[n], now, d[n].tat - now, 1);
    }
}


static void
test_together(int fleet, int kills, const char *what)
{
    int        i, bad;
    pid_t      pid[WORKERS];
    int64_t    want, told[KEYS];
    unsigned   k;

    table = shared_table(1000);
    env = test_env(fleet);
    ours = test_key(table, 0, 10 * MSEC, 21);
    memset(told, 0, sizeof(told));
    memset(shared, 0, sizeof(shared_t));
    shared->now = env.now;

    for (k = 0; k < WORKERS; k++) {
        pid[k] = start(k, fleet);
    }

    for (i = 0; i < 60; i++) {
        tick(50 * MSEC);

        if (fleet) {
            tell(told);
        }

        if (i < kills) {
            k = (unsigned) i % WORKERS;
            kill(pid[k], SIGKILL);
            waitpid(pid[k], NULL, 0);
            pid[k] = start(100 + (unsigned) i, fleet);
        }
    }

    tick(0);
    __atomic_store_n(&shared->stop, 1, __ATOMIC_SEQ_CST);

    for (k = 0; k < WORKERS; k++) {
        waitpid(pid[k], NULL, 0);
    }

    bad = 0;
    want = 21 + (shared->now - START) / (10 * MSEC);
    env.now = env.asof = shared->now;

    /* what was given back last */

    for (k = 0; k < KEYS; k++) {
        ours.hash = 1 + k;
        shared->passed[k] += (uint64_t) test_many(table, &env, &ours, 21);
    }

    for (k = 0; fleet && k < 1000; k++) {
        (void) test_count(table, shared->now);
        tell(told);
    }

    for (k = 0; k < KEYS; k++) {
        bad += (int64_t) shared->passed[k] > want
               || (int64_t) shared->passed[k] < want - kills
               || (fleet && told[k] != want);
        printf("# key %u: %lu of %ld, told %ld\n", k,
               (unsigned long) shared->passed[k], (long) want,
               (long) told[k]);
        bad += slots_of(table, 1 + k) != 1;
    }

    tap_ok(bad == 0 && shared->rounds > 100, "%s", what);

    unmap(table);
}


/* All take from one key that has enough for all. */

static void
test_hammer(void)
{
    int                 i;
    pid_t               pid[WORKERS];
    unsigned            k;
    gate_limit_slot_t  *s;

    table = shared_table(64);
    env = test_env(1);
    ours = test_key(table, 8, 1000, 10000000);
    memset(shared, 0, sizeof(shared_t));
    fflush(stdout);

    for (k = 0; k < WORKERS; k++) {
        pid[k] = fork();

        if (pid[k] != 0) {
            continue;
        }

        __atomic_fetch_add(&shared->rounds, 1, __ATOMIC_SEQ_CST);

        while (__atomic_load_n(&shared->rounds, __ATOMIC_SEQ_CST) < WORKERS) {
            sched_yield();
        }

        for (i = 0; i < HAMMER; i++) {
            (void) gate_limit_take(table, &env, &ours);
        }

        _exit(0);
    }

    for (k = 0; k < WORKERS; k++) {
        waitpid(pid[k], NULL, 0);
    }

    s = gate_limit_find(table, 8);

    tap_ok(s != NULL && s->tat == env.now + INT64_C(1000) * HAMMER * WORKERS
           && gate_limit_unsent_of(s->word) == HAMMER * WORKERS,
           "of a million units none is lost");

    unmap(table);
}


/* A few keys that are brought in by all at the same time, over and over. */

static void
test_newcomers(void)
{
    int        bad;
    pid_t      pid[WORKERS];
    uint64_t   round, n;
    unsigned   k;

    table = shared_table(64);
    env = test_env(1);
    ours = test_key(table, 0, SEC, 2);
    memset(shared, 0, sizeof(shared_t));
    bad = 0;
    fflush(stdout);

    /* rounds: how many have come to the end of the round, of all rounds */

    for (k = 0; k < WORKERS; k++) {
        pid[k] = fork();

        if (pid[k] != 0) {
            continue;
        }

        for (round = 0; round < 3000; round++) {

            while (__atomic_load_n(&shared->stop, __ATOMIC_SEQ_CST) <= round) {
                sched_yield();
            }

            env.now = START + (int64_t) round * 10 * SEC;
            env.asof = env.now;
            ours.hash = (round + 1) * UINT64_C(0x9e3779b97f4a7c15);
            n = (uint64_t) test_many(table, &env, &ours, 2);
            __atomic_fetch_add(&shared->passed[0], n, __ATOMIC_SEQ_CST);
            __atomic_fetch_add(&shared->rounds, 1, __ATOMIC_SEQ_CST);
        }

        _exit(0);
    }

    for (round = 0; round < 3000; round++) {
        shared->passed[0] = 0;
        __atomic_store_n(&shared->stop, round + 1, __ATOMIC_SEQ_CST);

        while (__atomic_load_n(&shared->rounds, __ATOMIC_SEQ_CST)
               < (round + 1) * WORKERS)
        {
            sched_yield();
        }

        bad += shared->passed[0] != 2
               || slots_of(table, (round + 1)
                                  * UINT64_C(0x9e3779b97f4a7c15)) != 1;
    }

    for (k = 0; k < WORKERS; k++) {
        waitpid(pid[k], NULL, 0);
    }

    tap_ok(bad == 0, "all bring in the same key at once: it has one budget");

    unmap(table);
}


int
main(void)
{
    shared = mmap(NULL, sizeof(shared_t), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (shared == MAP_FAILED) {
        abort();
    }

    point_call = no_call;

    test_meet("claimed", "a key that another one brings in meanwhile");
    test_meet("cleared", "the same a step later");
    test_meet("entered", "one who finds the new slot may charge it first");
    test_meet_three();

    test_two_new();
    test_torn();
    test_lease();

    test_stopped("claimed");
    test_stopped("cleared");

    test_killed("claimed", 0);
    test_killed("cleared", 0);
    test_killed("entered", 0);
    test_killed("taken", 1);
    test_killed("marked", 1);

    test_killed_full("claimed");
    test_killed_full("cleared");
    test_killed_full("entered");

    test_hammer();
    test_newcomers();

    test_together(0, 0, "four processes admit what there is, not one more");
    test_together(1, 0, "and tell each unit once");
    test_together(0, 40, "forty of them killed: nothing is stuck, and no "
                  "budget is made");
    test_together(1, 40, "nor told twice or not at all");

    return tap_done();
}


/*
 * What one decision costs: the SipHash-1-3 of a key of 32 bytes, the lookup,
 * the arithmetic and the compare-and-swap, as a request pays for it, without
 * the reading of the clock.
 *
 *     cc -std=c11 -D_GNU_SOURCE -O2 -Isrc -o limit-table t/bench/limit-table.c
 *     ./limit-table
 *
 * Tables are for 1 thousand to 1 million keys and full: all of their keys are
 * in debt.  Requests come in random order, and each one's key is made right
 * before, as a request's is: what is cold is the table, not the key.
 *
 *     alone        one decision between two readings of the processor's
 *                  counter with nothing else under way, less what the same
 *                  readings cost around nothing; median and 99th percentile
 *     memory       the same of one addition somewhere in the table's memory:
 *                  what caches and page tables take of it
 *     in a row     the mean of many, where one may begin while another one
 *                  waits for its slot
 *     cold         alone, after something that takes all caches for itself
 *
 * Instructions are counted by the processor, or where that is not allowed by
 * callgrind.  The exit code is 1 where the median is above 150 ns, with a
 * million keys beyond what the memory takes, or a million keys do not fit into
 * 48 MiB.
 */


#include "core/gate_siphash.c"
#include "core/gate_limit_table.c"
#include "core/gate_limit_agent.c"
#include "core/gate_limit.c"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/mman.h>

#include "ticks.h"

#ifdef __linux__
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#endif


#define KEYS     1000000
#define COUNTED  100000
#define SAMPLES  400000
#define ROW      4000000
#define BATCH    64

#define MEDIAN   150.0                 /* ns */
#define BYTES    (48.0 * 1024 * 1024)


enum {
    MODE_ALONE,                        /* sync=off */
    MODE_LONE,                         /* a fleet, nobody else spends */
    MODE_SHARED,                       /* a fleet, two nodes spend */
    MODES
};


static const char  *modes[MODES] = { "one node", "fleet, lone", "fleet, two" };

static const uint64_t  seed[2] = {
    UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)
};

static gate_limit_table_t  *table;
static gate_limit_env_t     env;
static gate_rate_t          rate = { 100000, 1000000 };  /* nobody is limited */
static uint8_t              cls;
static double               tick;      /* ns */
static double               empty;     /* of the readings alone */


/* The n-th key, 32 bytes. */

static inline void
key_of(uint64_t n, uint64_t key[4])
{
    n = (n + 1) * UINT64_C(0x9e3779b97f4a7c15);

    key[0] = n;
    key[1] = n ^ n >> 29;
    key[2] = n * UINT64_C(0xbf58476d1ce4e5b9);
    key[3] = n + 1;
}


__attribute__((noinline))
static int
decide(const uint64_t key[4])
{
    gate_limit_take_t  take;

    take.hash = gate_siphash_short(seed, key, 32);
    take.rate = rate;
    take.cls = cls;
    take.cost = 1;

    return gate_limit_take(table, &env, &take);
}


static void
prepare(int mode, uint64_t keys)
{
    size_t             size;
    uint64_t           i, key[4];
    gate_limit_take_t  take;

    if (table != NULL) {
        munmap((void *) table, table->size);
    }

    size = gate_limit_size(keys);
    table = mmap(NULL, size, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (table == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }

    (void) gate_limit_init(table, keys);

    cls = gate_limit_class(table, &rate);

    env.now = INT64_C(1000000000000);
    env.nodes = 2;
    env.stale = INT64_C(3600) * 1000000000;
    env.asof = env.now;
    env.shared = mode != MODE_ALONE;
    env.away = 0;

    take.rate = rate;
    take.cls = cls;
    take.cost = 1;

    for (i = 0; i < keys; i++) {
        key_of(i, key);
        take.hash = gate_siphash_short(seed, key, 32);

        if (mode == MODE_ALONE) {
            (void) gate_limit_take(table, &env, &take);

        } else {
            (void) gate_limit_set(table, &env, &take, 1000000000,
                                  (unsigned) mode, 1);
        }
    }
}


static uint64_t  samples[SAMPLES];


static double
percentile(unsigned n, double p)
{
    return (double) samples[(size_t) (p * (n - 1))] * tick;
}


/* One thing, one by one; other: between them, something that fills caches. */

enum {
    NOTHING,
    MEMORY,
    DECISION
};


static void
alone(int what, uint64_t keys, unsigned n, unsigned char *other,
    double *median, double *p99)
{
    unsigned  i, j, sum;
    uint64_t  from, at, key[4];

    sum = 0;

    for (i = 0; i < n; i++) {
        key_of(ticks_next() % keys, key);
        at = (ticks_next() >> 16) % table->slots;
        env.now += 1000;

        for (j = 0; other != NULL && j < 4096; j++) {
            sum += other[(ticks_next() >> 38) & ~63u]++;
        }

        from = ticks();

        if (what == DECISION) {
            sum += (unsigned) decide(key);

        } else if (what == MEMORY) {
            __atomic_fetch_add(&gate_limit_at(table, at)->fleet, 0,
                               __ATOMIC_SEQ_CST);
        }

        samples[i] = ticks() - from;
    }

    qsort(samples, n, sizeof(uint64_t), ticks_compare);

    *median = percentile(n, 0.5) - empty;
    *p99 = percentile(n, 0.99) - empty;

    if (sum == 1) {
        printf(" ");                   /* nobody leaves the loop out */
    }
}


static double
in_a_row(uint64_t keys)
{
    double    from, total;
    unsigned  i, j;
    uint64_t  key[BATCH][4];

    total = 0;

    for (i = 0; i < ROW; i += BATCH) {

        for (j = 0; j < BATCH; j++) {
            key_of(ticks_next() % keys, key[j]);
        }

        from = ticks_nsec();

        for (j = 0; j < BATCH; j++) {
            env.now += 1000;
            (void) decide(key[j]);
        }

        total += ticks_nsec() - from;
    }

    return total / ROW;
}


/* instructions of so many decisions; -1: the processor does not say */

static double
instructions_counted(unsigned n)
{
#ifdef __linux__

    int                     fd;
    unsigned                i;
    uint64_t                value, key[4];
    struct perf_event_attr  attr;

    memset(&attr, 0, sizeof(struct perf_event_attr));

    attr.type = PERF_TYPE_HARDWARE;
    attr.size = sizeof(struct perf_event_attr);
    attr.config = PERF_COUNT_HW_INSTRUCTIONS;
    attr.disabled = 1;
    attr.exclude_kernel = 1;

    fd = (int) syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);

    if (fd < 0) {
        return -1;
    }

    key_of(7, key);

    ioctl(fd, PERF_EVENT_IOC_ENABLE, 0);

    for (i = 0; i < n; i++) {
        (void) decide(key);
    }

    ioctl(fd, PERF_EVENT_IOC_DISABLE, 0);

    value = 0;
    i = read(fd, &value, sizeof(value)) == (ssize_t) sizeof(value);
    close(fd);

    return i && value ? (double) value / n : -1;

#else

    (void) n;

    return -1;

#endif
}


/* The same by callgrind, of this program with "count MODE N". */

static double
instructions_simulated(const char *self, int mode, unsigned n)
{
    FILE    *f;
    char     line[512], command[4352];
    double   value;

    snprintf(command, sizeof(command), "valgrind --tool=callgrind "
             "--toggle-collect=decide --callgrind-out-file=/dev/null "
             "'%s' count %d %u 2>&1", self, mode, n);

    f = popen(command, "r");
    value = -1;

    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (strstr(line, "Collected : ") != NULL) {
            value = atof(strstr(line, "Collected : ") + 12) / n;
        }
    }

    if (f != NULL) {
        pclose(f);
    }

    return value;
}


static int
count(int mode, unsigned n)
{
    unsigned  i;
    uint64_t  key[4];

    prepare(mode, COUNTED);

    for (i = 0; i < n; i++) {
        key_of(ticks_next() % COUNTED, key);
        env.now += 1000;
        (void) decide(key);
    }

    return 0;
}


static const uint64_t  steps[] = { 1000, 10000, 100000, KEYS };


static int
measure(const char *self, int mode, unsigned char *other)
{
    int       failed, quick;
    double    median, p99, memory, cold, ignored, n;
    unsigned  i;

    failed = 0;
    quick = getenv("BENCH_QUICK") != NULL;

    for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        prepare(mode, steps[i]);

        alone(DECISION, steps[i], SAMPLES / 4, NULL, &median, &p99);
        alone(MEMORY, steps[i], SAMPLES, NULL, &memory, &ignored);
        alone(DECISION, steps[i], SAMPLES, NULL, &median, &p99);
        alone(DECISION, steps[i], quick ? 500 : 4000, other, &cold, &ignored);

        printf("  %-12s %8lu keys   alone %4.0f ns, p99 %4.0f   memory %4.0f"
               "   in a row %4.0f   cold %4.0f\n", modes[mode],
               (unsigned long) steps[i], median, p99, memory,
               in_a_row(steps[i]), cold);

        fflush(stdout);

        failed |= median - (steps[i] == KEYS ? memory : 0) > MEDIAN;
    }

    n = instructions_counted(1000000);

    if (n < 0) {
        n = instructions_simulated(self, mode, 20000);
    }

    if (n >= 0) {
        printf("  %-12s %.0f instructions\n", modes[mode], n);
    }

    return failed;
}


int
main(int argc, char **argv)
{
    int             i, failed;
    char            self[4096];
    double          bytes, ignored;
    unsigned char  *other;

    if (argc == 4 && strcmp(argv[1], "count") == 0) {
        return count(atoi(argv[2]), (unsigned) atoi(argv[3]));
    }

    i = (int) readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[i < 0 ? 0 : i] = '\0';

    other = malloc((UINT64_C(1) << 26) + 64);

    if (other == NULL) {
        return 1;
    }

    memset(other, 1, (UINT64_C(1) << 26) + 64);

    tick = ticks_length();
    prepare(MODE_ALONE, 1000);
    alone(NOTHING, 1000, SAMPLES, NULL, &empty, &ignored);

    bytes = (double) gate_limit_size(KEYS);
    failed = bytes > BYTES;

    printf("%d keys: %.0f bytes, %.2f MiB, %.2f a key\n\n", KEYS, bytes,
           bytes / 1048576, bytes / KEYS);

    for (i = 0; i < MODES; i++) {
        failed |= measure(self, i, other);
        printf("\n");
    }

    free(other);

    return failed;
}

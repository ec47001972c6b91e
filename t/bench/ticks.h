
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * The processor's counter, read so that nothing else is under way, and a
 * generator of random numbers, for programs that measure nanoseconds.
 */


#ifndef _GATE_BENCH_TICKS_H_INCLUDED_
#define _GATE_BENCH_TICKS_H_INCLUDED_


#include <stdint.h>
#include <time.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif


static uint64_t  ticks_random = 88172645463325252;


static inline uint64_t
ticks_next(void)
{
    ticks_random ^= ticks_random >> 12;
    ticks_random ^= ticks_random << 25;
    ticks_random ^= ticks_random >> 27;

    return ticks_random * UINT64_C(2685821657736338717);
}


static inline double
ticks_nsec(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (double) ts.tv_sec * 1e9 + (double) ts.tv_nsec;
}


static inline uint64_t
ticks(void)
{
#if defined(__x86_64__)

    uint64_t  n;

    _mm_lfence();
    n = __rdtsc();
    _mm_lfence();

    return n;

#elif defined(__aarch64__)

    uint64_t  n;

    __asm__ volatile ("isb; mrs %0, cntvct_el0; isb" : "=r" (n) :: "memory");

    return n;

#else

    return (uint64_t) ticks_nsec();

#endif
}


/* ns of one of them */

static inline double
ticks_length(void)
{
    double    from;
    uint64_t  n;

    from = ticks_nsec();
    n = ticks();

    while (ticks_nsec() - from < 50e6) { /* void */ }

    return (ticks_nsec() - from) / (double) (ticks() - n);
}


static inline int
ticks_compare(const void *a, const void *b)
{
    uint64_t  x, y;

    x = *(const uint64_t *) a;
    y = *(const uint64_t *) b;

    return x < y ? -1 : x > y;
}


#endif /* _GATE_BENCH_TICKS_H_INCLUDED_ */


/*
 * Copyright (C) nginx-gate authors
 */


/* What will happen, in the order of time, and chance. */


#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>


enum {
    MERGE_ARRIVE = 0,
    MERGE_TIMER,                       /* each sync= */
    MERGE_WAKE,                        /* something is to be sent early */
    MERGE_APPLY,                       /* a batch is at Redis */
    MERGE_REPLY,
    MERGE_LATE,                        /* there was no reply */
    MERGE_CHANGE,                      /* a node hears of another rate */
    MERGE_DOWN,
    MERGE_UP,
    MERGE_LEFT,                        /* a node notices */
    MERGE_BACK
};


typedef struct {
    int64_t             at;
    uint64_t            order;
    int                 kind;
    unsigned            node;
    uint64_t            seq;           /* of a batch, or of a node's wakes */
    uint64_t            try;           /* connection that it belongs to */
    int64_t             sent;
} merge_event_t;


static struct {
    merge_event_t      *heap;
    size_t              n;
    size_t              room;
    uint64_t            order;
} merge_queue;

static uint64_t  merge_random;


/* xorshift64*; in (0, 1] */

static double
merge_uniform(void)
{
    merge_random ^= merge_random >> 12;
    merge_random ^= merge_random << 25;
    merge_random ^= merge_random >> 27;

    return (double) (((merge_random * UINT64_C(2685821657736338717)) >> 11)
                     + 1) * 0x1p-53;
}


static int64_t
merge_exponential(double mean)
{
    return (int64_t) (-mean * log(merge_uniform()));
}


static int
merge_sooner(const merge_event_t *a, const merge_event_t *b)
{
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}


static void
merge_post(int64_t at, int kind, unsigned node, uint64_t seq, uint64_t try,
    int64_t sent)
{
    size_t         i;
    merge_event_t  e;

    e.at = at;
    e.order = merge_queue.order++;
    e.kind = kind;
    e.node = node;
    e.seq = seq;
    e.try = try;
    e.sent = sent;

    if (merge_queue.n == merge_queue.room) {
        merge_queue.room = merge_queue.room ? merge_queue.room * 2 : 256;
        merge_queue.heap = realloc(merge_queue.heap, merge_queue.room
                                                     * sizeof(merge_event_t));
        assert(merge_queue.heap != NULL);
    }

    for (i = merge_queue.n++; i != 0; i = (i - 1) / 2) {
        if (!merge_sooner(&e, &merge_queue.heap[(i - 1) / 2])) {
            break;
        }

        merge_queue.heap[i] = merge_queue.heap[(i - 1) / 2];
    }

    merge_queue.heap[i] = e;
}


static merge_event_t
merge_next(void)
{
    size_t         i, child;
    merge_event_t  first, last;

    first = merge_queue.heap[0];
    last = merge_queue.heap[--merge_queue.n];

    for (i = 0; (child = 2 * i + 1) < merge_queue.n; i = child) {

        if (child + 1 < merge_queue.n
            && merge_sooner(&merge_queue.heap[child + 1],
                            &merge_queue.heap[child]))
        {
            child++;
        }

        if (!merge_sooner(&merge_queue.heap[child], &last)) {
            break;
        }

        merge_queue.heap[i] = merge_queue.heap[child];
    }

    merge_queue.heap[i] = last;

    return first;
}

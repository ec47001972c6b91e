
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Totals as one array, in the order that ngx_gate_zone.h fixes.
 */


#include "ngx_gate_node.h"


static uint64_t *ngx_gate_vector_arm(uint64_t *v, ngx_gate_arm_t *arm);
static void ngx_gate_vector_sum(ngx_gate_arm_t *sum, ngx_gate_arm_t *own,
    uint64_t *v, uint64_t *hist);


void
ngx_gate_vector_block(ngx_gate_block_t *b, uint64_t *v)
{
    ngx_uint_t  i, n;

    ngx_gate_vector_counts(b, v);

    v += NGX_GATE_VECTOR_HIST;

    for (i = 0; i < NGX_GATE_ARMS; i++) {
        for (n = 0; n < GATE_HIST_BUCKETS; n++) {
            *v++ = ngx_gate_peek(&b->arm[i].hist[n]);
        }
    }
}


void
ngx_gate_vector_counts(ngx_gate_block_t *b, uint64_t *v)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_GATE_ARMS; i++) {
        v = ngx_gate_vector_arm(v, &b->arm[i]);
    }

    *v++ = ngx_gate_peek(&b->saved);
    *v++ = ngx_gate_peek(&b->fallbacks);

    for (i = 0; i < NGX_GATE_RULES; i++) {
        *v++ = ngx_gate_peek(&b->tally[i].n);
        *v++ = ngx_gate_peek(&b->tally[i].k);
    }
}


static uint64_t *
ngx_gate_vector_arm(uint64_t *v, ngx_gate_arm_t *arm)
{
    ngx_uint_t  n;

    *v++ = ngx_gate_peek(&arm->requests);
    *v++ = ngx_gate_peek(&arm->begun);

    for (n = 0; n < NGX_GATE_KINDS; n++) {
        *v++ = ngx_gate_peek(&arm->attempts[n]);
    }

    for (n = 0; n < NGX_GATE_KINDS; n++) {
        *v++ = ngx_gate_peek(&arm->failures[n]);
    }

    *v++ = ngx_gate_peek(&arm->unavailable);
    *v++ = ngx_gate_peek(&arm->broken);
    *v++ = ngx_gate_peek(&arm->censored);

    return v;
}


/*
 * A block moves its totals to the retired ones under the slab mutex: under
 * it, too, nothing is seen twice or not at all.
 */

void
ngx_gate_vector_lifetime(ngx_gate_rollout_t *ro, uint64_t *v)
{
    uint64_t           one[NGX_GATE_ARMS * NGX_GATE_VECTOR_ARM], *p;
    ngx_uint_t         i, k, n;
    ngx_gate_block_t  *b;

    ngx_memzero(v, NGX_GATE_VECTOR_LIFETIME * sizeof(uint64_t));

    for (i = 0; i <= NGX_GATE_BLOCKS; i++) {
        b = (i < NGX_GATE_BLOCKS) ? &ro->blocks[i] : NULL;
        p = one;

        for (k = 0; k < NGX_GATE_ARMS; k++) {
            p = ngx_gate_vector_arm(p, b ? &b->arm[k] : &ro->retired[k]);
        }

        for (n = 0; n < NGX_GATE_ARMS * NGX_GATE_VECTOR_ARM; n++) {
            v[n] += one[n];
        }

        v[NGX_GATE_VECTOR_SAVED] += ngx_gate_peek(b ? &b->saved
                                                    : &ro->saved_retired);
        v[NGX_GATE_VECTOR_FALLBACKS] += ngx_gate_peek(b ? &b->fallbacks
                                                  : &ro->fallbacks_retired);
    }
}


ngx_int_t
ngx_gate_vector_fleet(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    ngx_gate_block_t *b, ngx_gate_arm_t arm[])
{
    uint64_t            seq;
    ngx_uint_t          i;
    ngx_gate_remote_t  *remote;

    remote = ngx_gate_remote(node, rc, b, &seq);

    if (remote == NULL) {
        return NGX_DECLINED;
    }

    for (i = 0; i < NGX_GATE_ARMS; i++) {
        ngx_gate_vector_sum(&arm[i], &b->arm[i],
                            &remote->v[i * NGX_GATE_VECTOR_ARM],
                            &remote->v[NGX_GATE_VECTOR_HIST
                                       + i * GATE_HIST_BUCKETS]);
    }

    __atomic_thread_fence(__ATOMIC_ACQUIRE);

    return ngx_gate_peek(&remote->seq) == seq ? NGX_OK : NGX_DECLINED;
}


static void
ngx_gate_vector_sum(ngx_gate_arm_t *sum, ngx_gate_arm_t *own, uint64_t *v,
    uint64_t *hist)
{
    uint64_t    h, one[NGX_GATE_VECTOR_ARM];
    ngx_uint_t  n;

    (void) ngx_gate_vector_arm(one, own);

    for (n = 0; n < NGX_GATE_VECTOR_ARM; n++) {
        one[n] += ngx_gate_peek(&v[n]);
    }

    sum->requests = one[NGX_GATE_VECTOR_REQUESTS];
    sum->begun = one[NGX_GATE_VECTOR_BEGUN];
    sum->unavailable = one[NGX_GATE_VECTOR_UNAVAILABLE];
    sum->broken = one[NGX_GATE_VECTOR_BROKEN];
    sum->censored = one[NGX_GATE_VECTOR_CENSORED];

    for (n = 0; n < NGX_GATE_KINDS; n++) {
        sum->attempts[n] = one[NGX_GATE_VECTOR_ATTEMPTS + n];
        sum->failures[n] = one[NGX_GATE_VECTOR_FAILURES + n];
    }

    for (n = 0; n < GATE_HIST_BUCKETS; n++) {
        h = ngx_gate_peek(&own->hist[n]) + ngx_gate_peek(&hist[n]);
        sum->hist[n] = (uint32_t) ngx_min(h, NGX_MAX_UINT32_VALUE);
    }
}

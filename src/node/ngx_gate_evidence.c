
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Evidence: what happened on each arm since the step began.  The request path
 * only adds to totals; what they mean is for ngx_gate_verdict.c.
 */


#include "ngx_gate_node.h"


static uint64_t ngx_gate_evidence_tag(ngx_gate_block_t *b, uint64_t w);
static void ngx_gate_evidence_count(ngx_gate_arm_t *arm, ngx_uint_t kind,
    ngx_uint_t outcome);
static ngx_uint_t ngx_gate_evidence_latency(ngx_gate_rollout_conf_t *rc,
    ngx_gate_block_t *b, ngx_gate_attempt_t *a, ngx_uint_t outcome);
static ngx_uint_t ngx_gate_evidence_slow(ngx_gate_rollout_conf_t *rc,
    ngx_gate_attempt_t *a, ngx_msec_t elapsed);


/* the tag of no block: what began so long ago that its block is gone */
#define NGX_GATE_NO_TAG  ((uint64_t) -1)


ngx_gate_block_t *
ngx_gate_evidence_block(ngx_gate_rollout_t *ro, uint64_t w)
{
    return &ro->blocks[ngx_gate_word_block(w)];
}


void
ngx_gate_evidence_request(ngx_gate_rollout_conf_t *rc, uint64_t w,
    ngx_uint_t arm)
{
    ngx_gate_block_t  *b;

    b = ngx_gate_evidence_block(rc->sh, w);

    if (ngx_gate_evidence_tag(b, w) != NGX_GATE_NO_TAG) {
        ngx_gate_add(&b->arm[arm].requests, 1);

    } else {
        ngx_gate_add(&rc->sh->retired[arm].requests, 1);
    }
}


/*
 * The block's tag, if it still is the block of the decision w: a request may
 * choose its arm, for a header, say, many steps before it is sent there.
 */

static uint64_t
ngx_gate_evidence_tag(ngx_gate_block_t *b, uint64_t w)
{
    uint64_t  tag;

    tag = ngx_gate_load(&b->tag);

    if ((uint32_t) (tag >> 32) != ngx_gate_word_epoch(w)
        || (tag & 0xff) != ngx_gate_word_serial(w))
    {
        return NGX_GATE_NO_TAG;
    }

    return tag;
}


void
ngx_gate_evidence_begin(ngx_gate_rollout_conf_t *rc, uint64_t w,
    ngx_gate_attempt_t *a, ngx_uint_t arm, ngx_uint_t kind,
    ngx_msec_t *header)
{
    ngx_gate_block_t  *b;

    b = ngx_gate_evidence_block(rc->sh, w);

    a->block = b;
    a->tag = ngx_gate_evidence_tag(b, w);
    a->start = ngx_current_msec;
    a->header = header;
    a->arm = arm;
    a->kind = kind;
    a->slow = 0;
    a->active = 1;
    a->queued = 0;

    if (kind != NGX_GATE_KIND_NORMAL || a->tag == NGX_GATE_NO_TAG) {
        return;
    }

    ngx_gate_add(&b->arm[arm].begun, 1);

    if (arm == NGX_GATE_CANARY && rc->nquantiles) {
        a->queued = 1;
        ngx_queue_insert_tail(ngx_gate_agent_flights(rc), &a->queue);
    }
}


void
ngx_gate_evidence_end(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    ngx_gate_attempt_t *a, ngx_uint_t outcome)
{
    ngx_uint_t           rules;
    ngx_gate_arm_t      *arm;
    ngx_gate_block_t    *b;
    ngx_gate_rollout_t  *ro;

    ro = rc->sh;

    if (a->queued) {
        ngx_queue_remove(&a->queue);
        a->queued = 0;
    }

    a->active = 0;

    b = a->block;

    if (ngx_gate_load(&b->tag) != a->tag) {

        /* its step is over and gone: it counts, but proves nothing */

        ngx_gate_evidence_count(&ro->retired[a->arm], a->kind, outcome);
        return;
    }

    arm = &b->arm[a->arm];

    ngx_gate_evidence_count(arm, a->kind, outcome);

    if (a->kind != NGX_GATE_KIND_NORMAL) {
        return;
    }

    rules = ngx_gate_evidence_latency(rc, b, a, outcome);

    if (a->arm != NGX_GATE_CANARY) {
        return;
    }

    if (outcome != NGX_GATE_OUTCOME_OK
        && outcome != NGX_GATE_OUTCOME_CENSORED)
    {
        rules = ngx_gate_rules_all(rc);
    }

    if (rules) {
        ngx_gate_verdict_judge(node, rc, a->tag, rules, NGX_GATE_SCOPES_ALL);
    }
}


void
ngx_gate_evidence_cancel(ngx_gate_rollout_conf_t *rc, ngx_gate_attempt_t *a)
{
    ngx_gate_block_t  *b;

    if (a->queued) {
        ngx_queue_remove(&a->queue);
        a->queued = 0;
    }

    a->active = 0;

    b = a->block;

    if (a->kind == NGX_GATE_KIND_NORMAL
        && ngx_gate_load(&b->tag) == a->tag)
    {
        ngx_gate_sub(&b->arm[a->arm].begun, 1);
    }
}


static void
ngx_gate_evidence_count(ngx_gate_arm_t *arm, ngx_uint_t kind,
    ngx_uint_t outcome)
{
    ngx_gate_add(&arm->attempts[kind], 1);

    if (outcome == NGX_GATE_OUTCOME_OK) {
        return;
    }

    if (outcome == NGX_GATE_OUTCOME_CENSORED) {

        if (kind == NGX_GATE_KIND_NORMAL) {
            ngx_gate_add(&arm->censored, 1);
        }

        return;
    }

    ngx_gate_add(&arm->failures[kind], 1);

    if (outcome == NGX_GATE_OUTCOME_BROKEN) {
        ngx_gate_add(&arm->broken, 1);

    } else if (outcome == NGX_GATE_OUTCOME_UNAVAILABLE) {
        ngx_gate_add(&arm->unavailable, 1);
    }
}


/*
 * Adds the latency to the histogram and to the latency rules; returns the
 * rules that it made worse.
 *
 * An attempt without a header is known to have taken longer than it lasted:
 * that is a sample where it lasted past the threshold, and says nothing of a
 * rule where it did not.
 */

static ngx_uint_t
ngx_gate_evidence_latency(ngx_gate_rollout_conf_t *rc, ngx_gate_block_t *b,
    ngx_gate_attempt_t *a, ngx_uint_t outcome)
{
    ngx_uint_t  i, rules, answered;
    ngx_msec_t  msec;

    if (outcome == NGX_GATE_OUTCOME_UNAVAILABLE) {
        return 0;
    }

    answered = (*a->header != (ngx_msec_t) -1);
    msec = answered ? *a->header : ngx_current_msec - a->start;

    if (answered || outcome == NGX_GATE_OUTCOME_CENSORED || a->slow) {
        ngx_gate_add(&b->arm[a->arm].hist[gate_hist_index(msec)], 1);
    }

    if (a->arm != NGX_GATE_CANARY || rc->nquantiles == 0
        || b->digest != rc->digest)
    {
        return 0;
    }

    rules = ngx_gate_evidence_slow(rc, a, msec);

    for (i = 0; i < rc->nrules; i++) {

        if (rc->rules[i].type != NGX_GATE_RULE_QUANTILE
            || (a->slow & (1u << i)))
        {
            continue;
        }

        if (rules & (1u << i)) {
            ngx_gate_add(&b->tally[i].k, 1);

        } else if (!answered) {
            continue;
        }

        ngx_gate_add(&b->tally[i].n, 1);
    }

    return rules;
}


/* the rules to which that long is too long, less those that know already */

static ngx_uint_t
ngx_gate_evidence_slow(ngx_gate_rollout_conf_t *rc, ngx_gate_attempt_t *a,
    ngx_msec_t elapsed)
{
    ngx_uint_t  i, rules;

    rules = 0;

    for (i = 0; i < rc->nrules; i++) {

        if (rc->rules[i].type == NGX_GATE_RULE_QUANTILE
            && elapsed > rc->rules[i].threshold)
        {
            rules |= 1u << i;
        }
    }

    return rules & ~a->slow;
}


void
ngx_gate_evidence_scan(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    ngx_queue_t *flights)
{
    uint64_t             tag;
    ngx_uint_t           i, rules, all;
    ngx_queue_t         *q, *next;
    ngx_gate_block_t    *b;
    ngx_gate_attempt_t  *a;

    tag = 0;
    all = 0;

    for (q = ngx_queue_head(flights);
         q != ngx_queue_sentinel(flights);
         q = next)
    {
        next = ngx_queue_next(q);
        a = ngx_queue_data(q, ngx_gate_attempt_t, queue);

        if (*a->header != (ngx_msec_t) -1) {

            /* answered: a long body is no latency */

            ngx_queue_remove(q);
            a->queued = 0;
            continue;
        }

        rules = ngx_gate_evidence_slow(rc, a, ngx_current_msec - a->start);

        if (rules == 0) {

            /* they stand in the order they began: nobody is older, but this
               one may be slow to some rules already */

            if (a->slow == 0) {
                break;
            }

            continue;
        }

        b = a->block;

        a->slow |= rules;

        if (ngx_gate_load(&b->tag) != a->tag || b->digest != rc->digest) {
            continue;
        }

        for (i = 0; i < rc->nrules; i++) {

            if (rules & (1u << i)) {
                ngx_gate_add(&b->tally[i].n, 1);
                ngx_gate_add(&b->tally[i].k, 1);
            }
        }

        tag = a->tag;
        all |= rules;
    }

    if (all) {
        ngx_gate_verdict_judge(node, rc, tag, all, NGX_GATE_SCOPES_ALL);
    }
}


void
ngx_gate_evidence_saved(ngx_gate_rollout_conf_t *rc, ngx_gate_attempt_t *a)
{
    ngx_gate_block_t  *b;

    b = a->block;

    if (ngx_gate_load(&b->tag) == a->tag) {
        ngx_gate_add(&b->saved, 1);

    } else {
        ngx_gate_add(&rc->sh->saved_retired, 1);
    }
}


void
ngx_gate_evidence_fallback(ngx_gate_rollout_conf_t *rc,
    ngx_gate_attempt_t *a)
{
    ngx_gate_block_t  *b;

    b = a->block;

    if (ngx_gate_load(&b->tag) == a->tag) {
        ngx_gate_add(&b->fallbacks, 1);

    } else {
        ngx_gate_add(&rc->sh->fallbacks_retired, 1);
    }
}

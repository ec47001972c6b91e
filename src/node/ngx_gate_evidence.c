
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Evidence: what happened on each arm since the step began, and whether it
 * breaks a rule.
 *
 * The request path only adds to totals.  A window is the difference between
 * the totals now and those at its beginning, which the agent notes down
 * eight times a window.
 *
 * A rule that everybody looks at all the time would sooner or later fire on
 * noise if it compared the bare value.  So each window start has its own
 * test martingale (gate_verdict.h): eight of them begin in every window
 * length, each may err with a probability of 0.001 / 8 over its whole life,
 * and so a service that sits exactly on the bound is flipped at most once
 * in a thousand window lengths, however often anybody looked.
 */


#include "ngx_gate_node.h"

#include <math.h>


/* false alarms per window length, and per start of a window */

#define NGX_GATE_ALPHA        0.001
#define NGX_GATE_START_ALPHA  (NGX_GATE_ALPHA / NGX_GATE_SNAPSHOTS)

#define NGX_GATE_BREAKER_FAILURES  3
#define NGX_GATE_BREAKER_MSEC      1000
#define NGX_GATE_BREAKER_DOUBLES   5


static uint64_t ngx_gate_evidence_tag(ngx_gate_block_t *b, uint64_t w);
static void ngx_gate_evidence_count(ngx_gate_arm_t *arm, ngx_uint_t kind,
    ngx_uint_t outcome);
static ngx_uint_t ngx_gate_evidence_latency(ngx_gate_rollout_conf_t *rc,
    ngx_gate_block_t *b, ngx_gate_attempt_t *a, ngx_uint_t outcome);
static ngx_uint_t ngx_gate_evidence_slow(ngx_gate_rollout_conf_t *rc,
    ngx_gate_attempt_t *a, ngx_msec_t elapsed);
static void ngx_gate_evidence_judge(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, uint64_t tag, ngx_uint_t rules);
static ngx_uint_t ngx_gate_evidence_breach(ngx_gate_rollout_conf_t *rc,
    ngx_uint_t rule, ngx_gate_block_t *b);
static void ngx_gate_evidence_tallies(ngx_gate_rule_t *rule,
    ngx_uint_t n, ngx_gate_block_t *b, ngx_gate_tally_t arm[]);
static ngx_int_t ngx_gate_evidence_base(ngx_gate_rollout_conf_t *rc,
    ngx_uint_t rule, ngx_gate_block_t *b, ngx_gate_snapshot_t *base);
static ngx_int_t ngx_gate_snapshot_read(ngx_gate_snapshot_t *s,
    ngx_gate_snapshot_t *copy);
static ngx_uint_t ngx_gate_snapshot_same(ngx_gate_snapshot_t *s,
    ngx_gate_snapshot_t *copy);
static ngx_int_t ngx_gate_evidence_hists(ngx_gate_rollout_conf_t *rc,
    ngx_uint_t rule, ngx_gate_block_t *b, uint32_t h[][GATE_HIST_BUCKETS],
    uint64_t total[]);
static void ngx_gate_evidence_window(ngx_gate_rollout_conf_t *rc,
    ngx_uint_t rule, ngx_gate_block_t *b, ngx_gate_tally_t arm[]);
static void ngx_gate_evidence_look_latency(ngx_gate_rollout_conf_t *rc,
    ngx_uint_t rule, ngx_gate_block_t *b, ngx_gate_look_t *look);
static void ngx_gate_evidence_snapshot(ngx_gate_rollout_conf_t *rc,
    ngx_uint_t rule, ngx_gate_block_t *b);


#define ngx_gate_rules_all(rc)  ((1u << (rc)->nrules) - 1)

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

    a->block = ngx_gate_word_block(w);
    b = &rc->sh->blocks[a->block];

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

    b = &ro->blocks[a->block];

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
        ngx_gate_evidence_judge(node, rc, a->tag, rules);
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

    b = &rc->sh->blocks[a->block];

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

        b = &rc->sh->blocks[a->block];

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
        ngx_gate_evidence_judge(node, rc, tag, all);
    }
}


void
ngx_gate_evidence_saved(ngx_gate_rollout_conf_t *rc, ngx_gate_attempt_t *a)
{
    ngx_gate_block_t  *b;

    b = &rc->sh->blocks[a->block];

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

    b = &rc->sh->blocks[a->block];

    if (ngx_gate_load(&b->tag) == a->tag) {
        ngx_gate_add(&b->fallbacks, 1);

    } else {
        ngx_gate_add(&rc->sh->fallbacks_retired, 1);
    }
}


/* Flips the rollout if one of the rules (a bit each) is broken. */

static void
ngx_gate_evidence_judge(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    uint64_t tag, ngx_uint_t rules)
{
    uint64_t           w;
    ngx_uint_t         i, state;
    ngx_gate_block_t  *b;

    w = ngx_gate_load(&rc->sh->word);
    b = ngx_gate_evidence_block(rc->sh, w);
    state = ngx_gate_word_state(w);

    if (state == GATE_ROLLED_BACK || state == GATE_IDLE
        || ngx_gate_load(&b->tag) != tag
        || b->digest != rc->digest)
    {
        return;
    }

    for (i = 0; i < rc->nrules; i++) {

        if ((rules & (1u << i)) && ngx_gate_evidence_breach(rc, i, b)) {

            if (ngx_gate_rollout_flip(rc, w, i + 1) == NGX_OK) {
                ngx_gate_event_record(node, rc);
            }

            return;
        }
    }
}


/* Whether the rule is broken, and has been for as long as hold= asks. */

static ngx_uint_t
ngx_gate_evidence_breach(ngx_gate_rollout_conf_t *rc, ngx_uint_t rule,
    ngx_gate_block_t *b)
{
    uint64_t         *since;
    ngx_gate_look_t   look;

    ngx_gate_evidence_look(rc, rule, b, &look);

    if (rc->rules[rule].hold == 0) {
        return look.over;
    }

    since = &rc->sh->breach_since[rule];

    if (!look.over) {
        ngx_gate_store(since, 0);
        return 0;
    }

    if (ngx_gate_peek(since) == 0) {
        ngx_gate_store(since, ngx_max(ngx_current_msec, 1));
        return 0;
    }

    return (ngx_msec_int_t) (ngx_current_msec
                             - (ngx_msec_t) ngx_gate_peek(since))
           >= (ngx_msec_int_t) rc->rules[rule].hold;
}


void
ngx_gate_evidence_look(ngx_gate_rollout_conf_t *rc, ngx_uint_t i,
    ngx_gate_block_t *b, ngx_gate_look_t *look)
{
    ngx_gate_rule_t   *rule;
    ngx_gate_tally_t   arm[NGX_GATE_ARMS], *c, *s;

    rule = &rc->rules[i];

    look->bound = rule->bound;
    look->value = NAN;
    look->over = 0;

    look->n = ngx_gate_peek(
               &b->arm[NGX_GATE_CANARY].attempts[NGX_GATE_KIND_NORMAL]);

    if (rule->type == NGX_GATE_RULE_QUANTILE) {

        /* those that hang are in the tally long before they are over */

        look->n = ngx_max(look->n, ngx_gate_peek(&b->tally[i].n));
    }

    look->enough = (look->n >= rule->min);

    if (rule->type == NGX_GATE_RULE_LATENCY_RATIO) {
        ngx_gate_evidence_look_latency(rc, i, b, look);
        return;
    }

    ngx_gate_evidence_window(rc, i, b, arm);

    c = &arm[NGX_GATE_CANARY];
    s = &arm[NGX_GATE_STABLE];

    if (c->n == 0) {
        return;
    }

    look->value = (double) c->k / (double) c->n;

    if (rule->type == NGX_GATE_RULE_ERROR_RATIO) {

        if (s->n == 0) {
            look->value = NAN;
            return;
        }

        look->value = s->k ? look->value / ((double) s->k / (double) s->n)
                           : (c->k ? INFINITY : NAN);

        look->over = look->enough
                     && (rule->exact ? look->value > rule->bound
                                     : gate_ratio_over(rule->bound,
                                                       NGX_GATE_START_ALPHA,
                                                       c->n, c->k,
                                                       s->n, s->k));
        return;
    }

    look->over = look->enough
                 && (rule->exact ? gate_point_over(rule->bound, c->n, c->k)
                                 : gate_test_over(&rule->test, c->n, c->k));
}


/* what the rule counts, as totals of the step */

static void
ngx_gate_evidence_tallies(ngx_gate_rule_t *rule, ngx_uint_t n,
    ngx_gate_block_t *b, ngx_gate_tally_t arm[])
{
    ngx_uint_t       i;
    ngx_gate_arm_t  *a;

    if (rule->type == NGX_GATE_RULE_QUANTILE) {
        arm[NGX_GATE_STABLE].n = 0;
        arm[NGX_GATE_STABLE].k = 0;
        arm[NGX_GATE_CANARY].k = ngx_gate_peek(&b->tally[n].k);
        arm[NGX_GATE_CANARY].n = ngx_max(ngx_gate_peek(&b->tally[n].n),
                                         arm[NGX_GATE_CANARY].k);
        return;
    }

    for (i = 0; i < NGX_GATE_ARMS; i++) {
        a = &b->arm[i];

        /*
         * Failures tend to be quicker than answers.  An attempt therefore
         * counts from its beginning, and as no failure until it is one:
         * otherwise the first seconds of a step would show too many.  An
         * attempt that the client gave up says nothing of errors.
         */

        arm[i].k = ngx_gate_peek(&a->failures[NGX_GATE_KIND_NORMAL]);
        arm[i].n = ngx_gate_peek(&a->begun);
        arm[i].n -= ngx_min(ngx_gate_peek(&a->censored), arm[i].n);
        arm[i].n = ngx_max(arm[i].n, arm[i].k);
    }
}


/*
 * The snapshot at which the rule's window begins: the oldest one in it.  If
 * there is none, because there was no agent for a while, the one before the
 * window: what is long over must not come back.  Returns its index with a
 * copy, or NGX_DECLINED: the step is younger, the window begins with it.
 */

static ngx_int_t
ngx_gate_evidence_base(ngx_gate_rollout_conf_t *rc, ngx_uint_t rule,
    ngx_gate_block_t *b, ngx_gate_snapshot_t *base)
{
    uint64_t             tag;
    ngx_int_t            found;
    ngx_uint_t           i;
    ngx_msec_int_t       age, best, window;
    ngx_gate_snapshot_t  copy;

    tag = ngx_gate_load(&b->tag);
    window = (ngx_msec_int_t) rc->rules[rule].window;

    if ((ngx_msec_int_t) (ngx_current_msec - (ngx_msec_t) b->started_msec)
        <= window)
    {
        return NGX_DECLINED;
    }

    found = NGX_DECLINED;
    best = 0;

    for (i = 0; i < NGX_GATE_SNAPSHOTS; i++) {

        if (ngx_gate_snapshot_read(&rc->sh->snapshots[rule][i], &copy)
            != NGX_OK
            || copy.tag != tag)
        {
            continue;
        }

        age = (ngx_msec_int_t) (ngx_current_msec - (ngx_msec_t) copy.msec);

        if (found == NGX_DECLINED
            || (age <= window ? (best > window || age > best) : age < best))
        {
            found = (ngx_int_t) i;
            best = age;
            *base = copy;
        }
    }

    return found;
}


/*
 * NGX_AGAIN while the agent writes it: then it is the oldest, and the next
 * one serves as well.
 */

static ngx_int_t
ngx_gate_snapshot_read(ngx_gate_snapshot_t *s, ngx_gate_snapshot_t *copy)
{
    uint64_t  seq;

    seq = ngx_gate_load(&s->seq);

    if (seq & 1) {
        return NGX_AGAIN;
    }

    *copy = *s;
    copy->seq = seq;

    return ngx_gate_snapshot_same(s, copy) ? NGX_OK : NGX_AGAIN;
}


/* Whether what was read of the snapshot so far belongs together. */

static ngx_uint_t
ngx_gate_snapshot_same(ngx_gate_snapshot_t *s, ngx_gate_snapshot_t *copy)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);

    return ngx_gate_peek(&s->seq) == copy->seq;
}


static void
ngx_gate_evidence_window(ngx_gate_rollout_conf_t *rc, ngx_uint_t rule,
    ngx_gate_block_t *b, ngx_gate_tally_t arm[])
{
    ngx_int_t            found;
    ngx_uint_t           i;
    ngx_gate_snapshot_t  base;

    found = ngx_gate_evidence_base(rc, rule, b, &base);

    ngx_gate_evidence_tallies(&rc->rules[rule], rule, b, arm);

    if (found == NGX_DECLINED) {
        return;
    }

    for (i = 0; i < NGX_GATE_ARMS; i++) {
        arm[i].n -= ngx_min(base.arm[i].n, arm[i].n);
        arm[i].k -= ngx_min(base.arm[i].k, arm[i].k);
        arm[i].k = ngx_min(arm[i].k, arm[i].n);
    }
}


/* The same window as histograms.  NGX_AGAIN: the agent was at work there. */

static ngx_int_t
ngx_gate_evidence_hists(ngx_gate_rollout_conf_t *rc, ngx_uint_t rule,
    ngx_gate_block_t *b, uint32_t h[][GATE_HIST_BUCKETS], uint64_t total[])
{
    uint32_t                   v;
    ngx_int_t                  found;
    ngx_uint_t                 n, k;
    ngx_gate_snapshot_t        base;
    ngx_gate_hist_snapshot_t  *from;

    found = ngx_gate_evidence_base(rc, rule, b, &base);

    from = (found == NGX_DECLINED) ? NULL
           : &rc->sh->hists[rc->rules[rule].hists][found];

    for (n = 0; n < NGX_GATE_ARMS; n++) {
        total[n] = 0;

        for (k = 0; k < GATE_HIST_BUCKETS; k++) {
            v = ngx_gate_peek(&b->arm[n].hist[k]);
            v -= from ? ngx_min(ngx_gate_peek(&from->hist[n][k]), v) : 0;

            h[n][k] = v;
            total[n] += v;
        }
    }

    if (from
        && !ngx_gate_snapshot_same(&rc->sh->snapshots[rule][found], &base))
    {
        return NGX_AGAIN;
    }

    return NGX_OK;
}


/*
 * Is the canary's quantile more than "bound" times stable's?  Its samples
 * above bound * stable's quantile are events with a probability of at most
 * 1 - q if it is not.  Stable's quantile is itself an estimate: its upper
 * confidence limit is taken, so that stable's noise does not flip a canary.
 */

static void
ngx_gate_evidence_look_latency(ngx_gate_rollout_conf_t *rc, ngx_uint_t i,
    ngx_gate_block_t *b, ngx_gate_look_t *look)
{
    double            limit, qc, qs;
    uint32_t          h[NGX_GATE_ARMS][GATE_HIST_BUCKETS];
    uint64_t          total[NGX_GATE_ARMS];
    ngx_gate_rule_t  *rule;

    rule = &rc->rules[i];

    /* the agent writes eight times a window, so twice in a row is a miracle */

    if (ngx_gate_evidence_hists(rc, i, b, h, total) != NGX_OK
        && ngx_gate_evidence_hists(rc, i, b, h, total) != NGX_OK)
    {
        return;
    }

    qc = gate_hist_quantile(h[NGX_GATE_CANARY], total[NGX_GATE_CANARY],
                            rule->q);
    qs = gate_hist_quantile(h[NGX_GATE_STABLE], total[NGX_GATE_STABLE],
                            rule->q);

    if (isnan(qc) || isnan(qs)) {
        return;
    }

    /* a stable that answers within the clock's tick took half of one */

    look->value = qc / ngx_max(qs, 0.5);

    if (!look->enough) {
        return;
    }

    if (rule->exact) {
        look->over = (look->value > rule->bound);
        return;
    }

    limit = gate_quantile_upper(h[NGX_GATE_STABLE], total[NGX_GATE_STABLE],
                                rule->q, NGX_GATE_START_ALPHA);

    if (isinf(limit)) {
        return;
    }

    limit = ngx_max(limit, 0.5) * rule->bound;

    look->over = gate_test_over(&rule->test, total[NGX_GATE_CANARY],
                                gate_hist_above(h[NGX_GATE_CANARY], limit));
}


void
ngx_gate_evidence_tick(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc)
{
    uint64_t           w;
    ngx_uint_t         i;
    ngx_gate_block_t  *b;

    w = ngx_gate_load(&rc->sh->word);
    b = ngx_gate_evidence_block(rc->sh, w);

    if (ngx_gate_word_state(w) == GATE_ROLLED_BACK) {
        ngx_gate_event_record(node, rc);
        return;
    }

    if (ngx_gate_word_state(w) == GATE_IDLE || b->digest != rc->digest) {
        return;
    }

    for (i = 0; i < rc->nrules; i++) {
        ngx_gate_evidence_snapshot(rc, i, b);
    }

    ngx_gate_evidence_judge(node, rc, ngx_gate_load(&b->tag),
                            ngx_gate_rules_all(rc));
}


/* Eight a window, each over the oldest. */

static void
ngx_gate_evidence_snapshot(ngx_gate_rollout_conf_t *rc, ngx_uint_t rule,
    ngx_gate_block_t *b)
{
    uint64_t                   tag;
    ngx_uint_t                 i, k, n, slot;
    ngx_msec_int_t             age, oldest, newest;
    ngx_gate_snapshot_t       *s;
    ngx_gate_hist_snapshot_t  *h;

    tag = ngx_gate_load(&b->tag);
    slot = 0;
    oldest = -1;
    newest = (ngx_msec_int_t) (ngx_current_msec
                               - (ngx_msec_t) b->started_msec);

    for (i = 0; i < NGX_GATE_SNAPSHOTS; i++) {
        s = &rc->sh->snapshots[rule][i];

        if (s->tag != tag) {
            oldest = NGX_MAX_INT32_VALUE;
            slot = i;
            continue;
        }

        age = (ngx_msec_int_t) (ngx_current_msec - (ngx_msec_t) s->msec);

        newest = ngx_min(newest, age);

        if (age > oldest) {
            oldest = age;
            slot = i;
        }
    }

    if (newest < (ngx_msec_int_t) (rc->rules[rule].window
                                   / NGX_GATE_SNAPSHOTS))
    {
        return;
    }

    s = &rc->sh->snapshots[rule][slot];

    /* an agent that died here left it odd: it stays odd until we are done */

    ngx_gate_store(&s->seq, s->seq | 1);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);

    s->tag = tag;
    s->msec = ngx_current_msec;
    ngx_gate_evidence_tallies(&rc->rules[rule], rule, b, s->arm);

    if (rc->rules[rule].type == NGX_GATE_RULE_LATENCY_RATIO) {
        h = &rc->sh->hists[rc->rules[rule].hists][slot];

        for (n = 0; n < NGX_GATE_ARMS; n++) {
            for (k = 0; k < GATE_HIST_BUCKETS; k++) {
                h->hist[n][k] = ngx_gate_peek(&b->arm[n].hist[k]);
            }
        }
    }

    ngx_gate_store(&s->seq, s->seq + 1);
}


/*
 * nginx marks no server of a one-server upstream as down, so a dead one
 * costs every request a connect timeout.  After three connects in a row that
 * failed, an arm is left alone for a second, then for two, up to 32; one
 * request at a time tries whether it is back.
 */

ngx_int_t
ngx_gate_breaker_check(ngx_gate_breaker_t *b)
{
    uint64_t  until, next;

    if (ngx_gate_peek(&b->failures) < NGX_GATE_BREAKER_FAILURES) {
        return NGX_OK;
    }

    until = ngx_gate_load(&b->open_until);

    if ((ngx_msec_int_t) (until - ngx_current_msec) > 0) {
        return NGX_BUSY;
    }

    /* the one that moves the time on is the one that tries */

    next = ngx_current_msec + NGX_GATE_BREAKER_MSEC;

    return ngx_gate_cas(&b->open_until, &until, next) ? NGX_OK : NGX_BUSY;
}


void
ngx_gate_breaker_connected(ngx_gate_breaker_t *b)
{
    if (ngx_gate_peek(&b->failures)) {
        ngx_gate_store(&b->failures, 0);
        ngx_gate_store(&b->trips, 0);
        ngx_gate_store(&b->open_until, 0);
    }
}


void
ngx_gate_breaker_refused(ngx_gate_breaker_t *b, ngx_msec_t start)
{
    uint32_t  n;

    n = __atomic_add_fetch(&b->failures, 1, __ATOMIC_ACQ_REL);

    if (n < NGX_GATE_BREAKER_FAILURES) {
        return;
    }

    n = ngx_gate_peek(&b->trips);

    if (n && (ngx_msec_int_t) (start - (ngx_msec_t) ngx_gate_peek(&b->opened))
             <= 0)
    {
        /* it was under way when the breaker opened, that is no news */
        return;
    }

    ngx_gate_store(&b->opened, ngx_current_msec);
    ngx_gate_store(&b->open_until,
                   ngx_current_msec
                   + ((uint64_t) NGX_GATE_BREAKER_MSEC << (n ? n - 1 : 0)));

    if (n <= NGX_GATE_BREAKER_DOUBLES) {
        ngx_gate_store(&b->trips, n + 1);
    }

    ngx_gate_add(&b->opened_total, 1);
}

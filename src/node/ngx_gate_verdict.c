
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * The verdict: does the evidence break a rule?
 *
 * A window is the difference between the totals now and those at its
 * beginning, which the agent notes down eight times a window.
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


static ngx_uint_t ngx_gate_verdict_breach(ngx_gate_rollout_conf_t *rc,
    ngx_uint_t rule, ngx_gate_block_t *b);
static void ngx_gate_verdict_tallies(ngx_gate_rule_t *rule,
    ngx_uint_t n, ngx_gate_block_t *b, ngx_gate_tally_t arm[]);
static ngx_int_t ngx_gate_verdict_base(ngx_gate_rollout_conf_t *rc,
    ngx_uint_t rule, ngx_gate_block_t *b, ngx_gate_snapshot_t *base);
static ngx_int_t ngx_gate_snapshot_read(ngx_gate_snapshot_t *s,
    ngx_gate_snapshot_t *copy);
static ngx_uint_t ngx_gate_snapshot_same(ngx_gate_snapshot_t *s,
    ngx_gate_snapshot_t *copy);
static ngx_int_t ngx_gate_verdict_hists(ngx_gate_rollout_conf_t *rc,
    ngx_uint_t rule, ngx_gate_block_t *b, uint32_t h[][GATE_HIST_BUCKETS],
    uint64_t total[]);
static void ngx_gate_verdict_window(ngx_gate_rollout_conf_t *rc,
    ngx_uint_t rule, ngx_gate_block_t *b, ngx_gate_tally_t arm[]);
static void ngx_gate_verdict_look_latency(ngx_gate_rollout_conf_t *rc,
    ngx_uint_t rule, ngx_gate_block_t *b, ngx_gate_look_t *look);
static void ngx_gate_verdict_snapshot(ngx_gate_rollout_conf_t *rc,
    ngx_uint_t rule, ngx_gate_block_t *b);


void
ngx_gate_verdict_judge(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
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

        if ((rules & (1u << i)) && ngx_gate_verdict_breach(rc, i, b)) {

            if (ngx_gate_rollout_flip(rc, w, i + 1) == NGX_OK) {
                ngx_gate_event_record(node, rc);
            }

            return;
        }
    }
}


/* Whether the rule is broken, and has been for as long as hold= asks. */

static ngx_uint_t
ngx_gate_verdict_breach(ngx_gate_rollout_conf_t *rc, ngx_uint_t rule,
    ngx_gate_block_t *b)
{
    uint64_t         *since;
    ngx_gate_look_t   look;

    ngx_gate_verdict_look(rc, rule, b, &look);

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
ngx_gate_verdict_look(ngx_gate_rollout_conf_t *rc, ngx_uint_t i,
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
        ngx_gate_verdict_look_latency(rc, i, b, look);
        return;
    }

    ngx_gate_verdict_window(rc, i, b, arm);

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
ngx_gate_verdict_tallies(ngx_gate_rule_t *rule, ngx_uint_t n,
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
ngx_gate_verdict_base(ngx_gate_rollout_conf_t *rc, ngx_uint_t rule,
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
ngx_gate_verdict_window(ngx_gate_rollout_conf_t *rc, ngx_uint_t rule,
    ngx_gate_block_t *b, ngx_gate_tally_t arm[])
{
    ngx_int_t            found;
    ngx_uint_t           i;
    ngx_gate_snapshot_t  base;

    found = ngx_gate_verdict_base(rc, rule, b, &base);

    ngx_gate_verdict_tallies(&rc->rules[rule], rule, b, arm);

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
ngx_gate_verdict_hists(ngx_gate_rollout_conf_t *rc, ngx_uint_t rule,
    ngx_gate_block_t *b, uint32_t h[][GATE_HIST_BUCKETS], uint64_t total[])
{
    uint32_t                   v;
    ngx_int_t                  found;
    ngx_uint_t                 n, k;
    ngx_gate_snapshot_t        base;
    ngx_gate_hist_snapshot_t  *from;

    found = ngx_gate_verdict_base(rc, rule, b, &base);

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
ngx_gate_verdict_look_latency(ngx_gate_rollout_conf_t *rc, ngx_uint_t i,
    ngx_gate_block_t *b, ngx_gate_look_t *look)
{
    double            limit, qc, qs;
    uint32_t          h[NGX_GATE_ARMS][GATE_HIST_BUCKETS];
    uint64_t          total[NGX_GATE_ARMS];
    ngx_int_t         rv;
    ngx_gate_rule_t  *rule;

    rule = &rc->rules[i];

    /* the agent writes eight times a window, so twice in a row is a miracle */

    rv = ngx_gate_verdict_hists(rc, i, b, h, total);

    if (rv != NGX_OK) {
        rv = ngx_gate_verdict_hists(rc, i, b, h, total);
    }

    if (rv != NGX_OK) {
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
ngx_gate_verdict_tick(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc)
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
        ngx_gate_verdict_snapshot(rc, i, b);
    }

    ngx_gate_verdict_judge(node, rc, ngx_gate_load(&b->tag),
                            ngx_gate_rules_all(rc));
}


/* Eight a window, each over the oldest. */

static void
ngx_gate_verdict_snapshot(ngx_gate_rollout_conf_t *rc, ngx_uint_t rule,
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
    ngx_gate_verdict_tallies(&rc->rules[rule], rule, b, s->arm);

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

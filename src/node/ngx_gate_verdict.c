
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * The verdict: does the evidence break a rule?
 *
 * A rule that everybody looks at all the time would sooner or later fire on
 * noise if it compared the bare value.  So each window start has its own
 * test martingale (gate_verdict.h): eight of them begin in every window
 * length, each may err with a probability of 0.001 / 8 over its whole life,
 * and so a service that sits exactly on the bound is flipped at most once
 * in a thousand window lengths, however often anybody looked.
 *
 * In a fleet of N nodes, N + 1 look: each node at its own numbers, which
 * find a breach that only one of them has, and all at the numbers of all,
 * which find a small one soonest.  They share what one alone may err: half
 * of it is for the fleet's numbers, and each node's own get 1 / 2N.
 */


#include "ngx_gate_node.h"

#include <math.h>


static ngx_uint_t ngx_gate_verdict_breach(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_uint_t rule, ngx_gate_block_t *b,
    ngx_uint_t scope);
static void ngx_gate_verdict_flip(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, uint64_t w, ngx_uint_t rule,
    ngx_uint_t scope);
static double ngx_gate_verdict_split(ngx_gate_node_t *node,
    ngx_uint_t scope);
static ngx_int_t ngx_gate_verdict_look_tally(ngx_gate_window_t *win,
    double split, ngx_gate_look_t *look);
static ngx_int_t ngx_gate_verdict_look_latency(ngx_gate_window_t *win,
    double split, ngx_gate_look_t *look);


void
ngx_gate_verdict_judge(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    uint64_t tag, ngx_uint_t rules, ngx_uint_t scopes)
{
    uint64_t           w, mode;
    ngx_uint_t         i, state, scope;
    ngx_gate_block_t  *b;

    w = ngx_gate_load(&rc->sh->word);
    b = ngx_gate_evidence_block(rc->sh, w);
    state = ngx_gate_word_state(w);
    mode = ngx_gate_peek(&node->sh->modes[NGX_GATE_MODE_CANARY].value);

    if (state == GATE_ROLLED_BACK || state == GATE_IDLE
        || mode == NGX_GATE_MODE_OFF
        || ngx_gate_load(&b->tag) != tag
        || b->digest != rc->digest)
    {
        return;
    }

    for (scope = 0; scope < NGX_GATE_SCOPES; scope++) {

        if (!(scopes & (1u << scope))) {
            continue;
        }

        for (i = 0; i < rc->nrules; i++) {

            if ((rules & (1u << i))
                && ngx_gate_verdict_breach(node, rc, i, b, scope))
            {
                ngx_gate_verdict_flip(node, rc, w, i, scope);
                return;
            }
        }
    }
}


static void
ngx_gate_verdict_flip(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    uint64_t w, ngx_uint_t rule, ngx_uint_t scope)
{
    ngx_gate_rollout_t  *ro;

    ro = rc->sh;

    if (ngx_gate_peek(&node->sh->modes[NGX_GATE_MODE_CANARY].value)
        != NGX_GATE_MODE_ENFORCE)
    {
        ngx_gate_event_observed(node, rc, w, rule + 1, scope);
        return;
    }

    /*
     * Before the flip, for its record may be written at once.  Where another
     * process has just proved it by the other scope, both are true.
     */

    ngx_gate_store(&ro->proved,
                   (uint64_t) ngx_gate_word_epoch(w) << 32 | scope);

    if (ngx_gate_rollout_flip(rc, w, rule + 1) == NGX_OK) {
        ngx_gate_event_record(node, rc);
    }
}


/* Whether the rule is broken, and has been for as long as hold= asks. */

static ngx_uint_t
ngx_gate_verdict_breach(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    ngx_uint_t rule, ngx_gate_block_t *b, ngx_uint_t scope)
{
    uint64_t         *since;
    ngx_gate_look_t   look;

    ngx_gate_verdict_look(node, rc, rule, b, scope, &look);

    if (rc->rules[rule].hold == 0) {
        return look.over;
    }

    since = &rc->sh->breach_since[scope][rule];

    if (!look.over) {

        /* a moment in which nobody could look is no end of it */

        if (look.there) {
            ngx_gate_store(since, 0);
        }

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


/* by how much less one look may err than one that is alone */

static double
ngx_gate_verdict_split(ngx_gate_node_t *node, ngx_uint_t scope)
{
    uint32_t  n;

    if (node->redis == NULL) {
        return 1;
    }

    if (scope == NGX_GATE_SCOPE_FLEET) {
        return 2;
    }

    n = ngx_gate_peek(&node->sh->fleet.alive_nodes);

    return 2 * (double) ngx_max(n, 1);
}


void
ngx_gate_verdict_look(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    ngx_uint_t i, ngx_gate_block_t *b, ngx_uint_t scope,
    ngx_gate_look_t *look)
{
    double             split;
    ngx_int_t          rv;
    ngx_uint_t         try;
    ngx_gate_rule_t   *rule;
    ngx_gate_window_t  win;

    rule = &rc->rules[i];
    split = ngx_gate_verdict_split(node, scope);

    /* the agent writes a few times a second: twice in a row is a miracle */

    for (try = 0; try < 2; try++) {
        look->n = 0;
        look->bound = rule->bound;
        look->value = NAN;
        look->scope = scope;
        look->there = 0;
        look->enough = 0;
        look->over = 0;

        if (ngx_gate_window_open(node, rc, i, b, scope, &win) != NGX_OK) {
            return;
        }

        look->there = 1;
        look->n = ngx_gate_window_eligible(&win);
        look->enough = (look->n >= rule->min);

        rv = (rule->type == NGX_GATE_RULE_LATENCY_RATIO)
             ? ngx_gate_verdict_look_latency(&win, split, look)
             : ngx_gate_verdict_look_tally(&win, split, look);

        if (rv == NGX_OK) {
            return;
        }
    }

    /* this node's totals are there, though their window is not */

    look->there = (scope == NGX_GATE_SCOPE_NODE);
}


void
ngx_gate_verdict_show(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    ngx_uint_t rule, ngx_gate_block_t *b, ngx_gate_look_t *look)
{
    ngx_gate_look_t  own;

    ngx_gate_verdict_look(node, rc, rule, b, NGX_GATE_SCOPE_NODE, &own);
    ngx_gate_verdict_look(node, rc, rule, b, NGX_GATE_SCOPE_FLEET, look);

    if (!look->there) {
        *look = own;
        return;
    }

    look->over |= own.over;
}


static ngx_int_t
ngx_gate_verdict_look_tally(ngx_gate_window_t *win, double split,
    ngx_gate_look_t *look)
{
    ngx_gate_rule_t   *rule;
    ngx_gate_tally_t   arm[NGX_GATE_ARMS], *c, *s;

    rule = &win->rc->rules[win->rule];

    if (ngx_gate_window_tallies(win, arm) != NGX_OK) {
        return NGX_AGAIN;
    }

    c = &arm[NGX_GATE_CANARY];
    s = &arm[NGX_GATE_STABLE];

    if (c->n == 0) {
        return NGX_OK;
    }

    look->value = (double) c->k / (double) c->n;

    if (rule->type == NGX_GATE_RULE_ERROR_RATIO) {

        if (s->n == 0) {
            look->value = NAN;
            return NGX_OK;
        }

        look->value = s->k ? look->value / ((double) s->k / (double) s->n)
                           : (c->k ? INFINITY : NAN);

        look->over = look->enough
                     && (rule->exact ? look->value > rule->bound
                                     : gate_ratio_over(rule->bound,
                                                NGX_GATE_START_ALPHA / split,
                                                c->n, c->k, s->n, s->k));
        return NGX_OK;
    }

    look->over = look->enough
                 && (rule->exact ? gate_point_over(rule->bound, c->n, c->k)
                                 : gate_test_over_split(&rule->test, split,
                                                        c->n, c->k));

    return NGX_OK;
}


/*
 * Is the canary's quantile more than "bound" times stable's?  Its samples
 * above bound * stable's quantile are events with a probability of at most
 * 1 - q if it is not.  Stable's quantile is itself an estimate: its upper
 * confidence limit is taken, so that stable's noise does not flip a canary.
 */

static ngx_int_t
ngx_gate_verdict_look_latency(ngx_gate_window_t *win, double split,
    ngx_gate_look_t *look)
{
    double            limit, qc, qs;
    uint32_t          h[NGX_GATE_ARMS][GATE_HIST_BUCKETS];
    uint64_t          total[NGX_GATE_ARMS];
    ngx_gate_rule_t  *rule;

    rule = &win->rc->rules[win->rule];

    if (ngx_gate_window_hists(win, h, total) != NGX_OK) {
        return NGX_AGAIN;
    }

    qc = gate_hist_quantile(h[NGX_GATE_CANARY], total[NGX_GATE_CANARY],
                            rule->q);
    qs = gate_hist_quantile(h[NGX_GATE_STABLE], total[NGX_GATE_STABLE],
                            rule->q);

    if (isnan(qc) || isnan(qs)) {
        return NGX_OK;
    }

    /* a stable that answers within the clock's tick took half of one */

    look->value = qc / ngx_max(qs, 0.5);

    if (!look->enough) {
        return NGX_OK;
    }

    if (rule->exact) {
        look->over = (look->value > rule->bound);
        return NGX_OK;
    }

    limit = gate_quantile_upper(h[NGX_GATE_STABLE], total[NGX_GATE_STABLE],
                                rule->q, NGX_GATE_START_ALPHA / split);

    if (isinf(limit)) {
        return NGX_OK;
    }

    limit = ngx_max(limit, 0.5) * rule->bound;

    look->over = gate_test_over_split(&rule->test, split,
                                 total[NGX_GATE_CANARY],
                                 gate_hist_above(h[NGX_GATE_CANARY], limit));

    return NGX_OK;
}


void
ngx_gate_verdict_tick(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc)
{
    uint64_t           w;
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

    ngx_gate_window_tick(node, rc, b);

    /* the fleet's numbers are judged when they come */

    ngx_gate_verdict_judge(node, rc, ngx_gate_load(&b->tag),
                           ngx_gate_rules_all(rc),
                           1u << NGX_GATE_SCOPE_NODE);
}


void
ngx_gate_verdict_remote(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    uint64_t tag, uint64_t *v, ngx_uint_t n)
{
    uint64_t           w;
    ngx_gate_block_t  *b;

    w = ngx_gate_load(&rc->sh->word);
    b = ngx_gate_evidence_block(rc->sh, w);

    if (ngx_gate_load(&b->tag) != tag) {
        return;
    }

    ngx_gate_window_remote(node, rc, b, tag, v, n);

    ngx_gate_verdict_judge(node, rc, tag, ngx_gate_rules_all(rc),
                           1u << NGX_GATE_SCOPE_FLEET);
}

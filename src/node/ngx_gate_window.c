
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Windows: what a rule looks at.
 *
 * A window is the difference between the totals now and those at its
 * beginning, which the agent notes down eight times a window.  There are two
 * of them for each rule: one of this node's totals, and where Redis is in use
 * one of the fleet's, which are our own of this moment and those of the
 * others as of the last sync.
 *
 * The fleet's windows begin on all nodes at the same times of Redis's clock.
 * If each node had starts of its own, N nodes would look at N times as many
 * windows of the same data, and would err that much more often.
 *
 * What others counted while we did not look, because the link was down or we
 * just came, arrives in one piece that may be much older than the window.
 * Then the window begins anew: what is long over must not come back.
 */


#include "ngx_gate_node.h"


/* so long without a sync, and the others' share is of unknown age */
#define NGX_GATE_WINDOW_GAP    3000

/* a link older than this has told us of a step as soon as it began */
#define NGX_GATE_WINDOW_YOUNG  1500


static ngx_int_t ngx_gate_window_base(ngx_gate_window_t *win,
    ngx_gate_snapshot_t *base);
static ngx_int_t ngx_gate_snapshot_read(ngx_gate_snapshot_t *s,
    ngx_gate_snapshot_t *copy);
static ngx_uint_t ngx_gate_snapshot_same(ngx_gate_snapshot_t *s,
    ngx_gate_snapshot_t *copy);
static ngx_uint_t ngx_gate_window_same(ngx_gate_window_t *win);
static void ngx_gate_window_totals(ngx_gate_window_t *win,
    ngx_gate_tally_t arm[]);
static uint32_t ngx_gate_window_count(ngx_gate_window_t *win, ngx_uint_t arm,
    ngx_uint_t bucket);
static ngx_uint_t ngx_gate_window_slot(ngx_gate_window_t *win,
    ngx_msec_int_t *newest);
static ngx_uint_t ngx_gate_window_due(ngx_gate_node_t *node,
    ngx_gate_window_t *win, ngx_msec_int_t age);
static void ngx_gate_window_write(ngx_gate_window_t *win, ngx_uint_t slot);
static ngx_uint_t ngx_gate_window_live(ngx_gate_node_t *node,
    ngx_gate_block_t *b);


/* of the others: one number of an arm */

static ngx_inline uint64_t
ngx_gate_remote_arm(ngx_gate_remote_t *remote, ngx_uint_t arm, ngx_uint_t i)
{
    return remote ? ngx_gate_peek(&remote->v[arm * NGX_GATE_VECTOR_ARM + i])
                  : 0;
}


ngx_gate_remote_t *
ngx_gate_remote(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    ngx_gate_block_t *b, uint64_t *seq)
{
    ngx_gate_remote_t   *remote;
    ngx_gate_rollout_t  *ro;

    ro = rc->sh;

    if (node->redis == NULL
        || ngx_gate_peek(&ro->foreign) || ngx_gate_peek(&ro->provisional))
    {
        return NULL;
    }

    remote = &ro->remote;

    *seq = ngx_gate_load(&remote->seq);

    if ((*seq & 1)
        || ngx_gate_peek(&remote->synced) == 0
        || ngx_gate_peek(&remote->tag) != ngx_gate_load(&b->tag))
    {
        return NULL;
    }

    return remote;
}


ngx_int_t
ngx_gate_window_open(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    ngx_uint_t rule, ngx_gate_block_t *b, ngx_uint_t scope,
    ngx_gate_window_t *win)
{
    win->rc = rc;
    win->b = b;
    win->rule = rule;
    win->scope = scope;
    win->seq = 0;
    win->remote = NULL;

    if (scope == NGX_GATE_SCOPE_NODE) {
        return NGX_OK;
    }

    win->remote = ngx_gate_remote(node, rc, b, &win->seq);

    return win->remote ? NGX_OK : NGX_DECLINED;
}


/* Whether what was read of the others so far belongs together. */

static ngx_uint_t
ngx_gate_window_same(ngx_gate_window_t *win)
{
    if (win->remote == NULL) {
        return 1;
    }

    __atomic_thread_fence(__ATOMIC_ACQUIRE);

    return ngx_gate_peek(&win->remote->seq) == win->seq;
}


uint64_t
ngx_gate_window_eligible(ngx_gate_window_t *win)
{
    uint64_t           n, tally;
    ngx_gate_block_t  *b;

    b = win->b;

    n = ngx_gate_peek(
                &b->arm[NGX_GATE_CANARY].attempts[NGX_GATE_KIND_NORMAL])
        + ngx_gate_remote_arm(win->remote, NGX_GATE_CANARY,
                              NGX_GATE_VECTOR_ATTEMPTS);

    if (win->rc->rules[win->rule].type != NGX_GATE_RULE_QUANTILE) {
        return n;
    }

    /* those that hang are in the tally long before they are over */

    tally = ngx_gate_peek(&b->tally[win->rule].n);

    if (win->remote) {
        tally += ngx_gate_peek(&win->remote->v[NGX_GATE_VECTOR_TALLY
                                               + 2 * win->rule]);
    }

    return ngx_max(n, tally);
}


/* what the rule counts, as totals of the step */

static void
ngx_gate_window_totals(ngx_gate_window_t *win, ngx_gate_tally_t arm[])
{
    uint64_t            censored, *v;
    ngx_uint_t          i, n;
    ngx_gate_arm_t     *a;
    ngx_gate_tally_t   *t;
    ngx_gate_remote_t  *remote;

    n = win->rule;
    remote = win->remote;

    if (win->rc->rules[n].type == NGX_GATE_RULE_QUANTILE) {
        t = &arm[NGX_GATE_CANARY];

        arm[NGX_GATE_STABLE].n = 0;
        arm[NGX_GATE_STABLE].k = 0;
        t->k = ngx_gate_peek(&win->b->tally[n].k);
        t->n = ngx_gate_peek(&win->b->tally[n].n);

        if (remote) {
            v = &remote->v[NGX_GATE_VECTOR_TALLY + 2 * n];
            t->n += ngx_gate_peek(&v[0]);
            t->k += ngx_gate_peek(&v[1]);
        }

        t->n = ngx_max(t->n, t->k);
        return;
    }

    for (i = 0; i < NGX_GATE_ARMS; i++) {
        a = &win->b->arm[i];

        /*
         * Failures tend to be quicker than answers.  An attempt therefore
         * counts from its beginning, and as no failure until it is one:
         * otherwise the first seconds of a step would show too many.  An
         * attempt that the client gave up says nothing of errors.
         */

        arm[i].k = ngx_gate_peek(&a->failures[NGX_GATE_KIND_NORMAL])
                   + ngx_gate_remote_arm(remote, i, NGX_GATE_VECTOR_FAILURES);
        arm[i].n = ngx_gate_peek(&a->begun)
                   + ngx_gate_remote_arm(remote, i, NGX_GATE_VECTOR_BEGUN);
        censored = ngx_gate_peek(&a->censored)
                   + ngx_gate_remote_arm(remote, i, NGX_GATE_VECTOR_CENSORED);

        arm[i].n -= ngx_min(censored, arm[i].n);
        arm[i].n = ngx_max(arm[i].n, arm[i].k);
    }
}


static uint32_t
ngx_gate_window_count(ngx_gate_window_t *win, ngx_uint_t arm,
    ngx_uint_t bucket)
{
    uint64_t  v;

    v = ngx_gate_peek(&win->b->arm[arm].hist[bucket]);

    if (win->remote) {
        v += ngx_gate_peek(&win->remote->v[NGX_GATE_VECTOR_HIST
                                           + arm * GATE_HIST_BUCKETS
                                           + bucket]);
    }

    return (uint32_t) ngx_min(v, NGX_MAX_UINT32_VALUE);
}


/*
 * The snapshot at which the rule's window begins: the oldest one in it.  If
 * there is none, because there was no agent for a while, the one before the
 * window: what is long over must not come back.  Returns its index with a
 * copy; NGX_DECLINED: the step is younger, the window begins with it;
 * NGX_AGAIN: the agent is at work there.
 */

static ngx_int_t
ngx_gate_window_base(ngx_gate_window_t *win, ngx_gate_snapshot_t *base)
{
    uint64_t             tag, since;
    ngx_int_t            found;
    ngx_uint_t           i;
    ngx_msec_int_t       age, best, window;
    ngx_gate_snapshot_t  copy, *s;

    tag = ngx_gate_load(&win->b->tag);
    window = (ngx_msec_int_t) win->rc->rules[win->rule].window;
    since = win->remote ? ngx_gate_peek(&win->remote->since[win->rule]) : 0;

    if (since == 0
        && (ngx_msec_int_t) (ngx_current_msec
                             - (ngx_msec_t) win->b->started_msec)
           <= window)
    {
        return NGX_DECLINED;
    }

    found = NGX_DECLINED;
    best = 0;
    s = win->rc->sh->snapshots[win->scope][win->rule];

    for (i = 0; i < NGX_GATE_SNAPSHOTS; i++) {

        if (ngx_gate_snapshot_read(&s[i], &copy) != NGX_OK
            || copy.tag != tag
            || (since
                && (ngx_msec_int_t) ((ngx_msec_t) copy.msec
                                     - (ngx_msec_t) since) < 0))
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

    return (found == NGX_DECLINED && since) ? NGX_AGAIN : found;
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


ngx_int_t
ngx_gate_window_tallies(ngx_gate_window_t *win, ngx_gate_tally_t arm[])
{
    ngx_int_t            found;
    ngx_uint_t           i;
    ngx_gate_snapshot_t  base;

    found = ngx_gate_window_base(win, &base);

    if (found == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    ngx_gate_window_totals(win, arm);

    if (!ngx_gate_window_same(win)) {
        return NGX_AGAIN;
    }

    if (found == NGX_DECLINED) {
        return NGX_OK;
    }

    for (i = 0; i < NGX_GATE_ARMS; i++) {
        arm[i].n -= ngx_min(base.arm[i].n, arm[i].n);
        arm[i].k -= ngx_min(base.arm[i].k, arm[i].k);
        arm[i].k = ngx_min(arm[i].k, arm[i].n);
    }

    return NGX_OK;
}


ngx_int_t
ngx_gate_window_hists(ngx_gate_window_t *win,
    uint32_t h[][GATE_HIST_BUCKETS], uint64_t total[])
{
    uint32_t                   v;
    ngx_int_t                  found;
    ngx_uint_t                 n, k;
    ngx_gate_rollout_t        *ro;
    ngx_gate_snapshot_t        base;
    ngx_gate_hist_snapshot_t  *from;

    ro = win->rc->sh;
    found = ngx_gate_window_base(win, &base);

    if (found == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    from = (found == NGX_DECLINED) ? NULL
           : &ro->hists[win->scope][win->rc->rules[win->rule].hists][found];

    for (n = 0; n < NGX_GATE_ARMS; n++) {
        total[n] = 0;

        for (k = 0; k < GATE_HIST_BUCKETS; k++) {
            v = ngx_gate_window_count(win, n, k);
            v -= from ? ngx_min(ngx_gate_peek(&from->hist[n][k]), v) : 0;

            h[n][k] = v;
            total[n] += v;
        }
    }

    if (!ngx_gate_window_same(win)
        || (from
            && !ngx_gate_snapshot_same(
                        &ro->snapshots[win->scope][win->rule][found], &base)))
    {
        return NGX_AGAIN;
    }

    return NGX_OK;
}


/* Eight a window, each over the oldest. */

void
ngx_gate_window_tick(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    ngx_gate_block_t *b)
{
    ngx_uint_t         i, scope, slot;
    ngx_msec_int_t     newest;
    ngx_gate_window_t  win;

    for (scope = 0; scope < NGX_GATE_SCOPES; scope++) {
        for (i = 0; i < rc->nrules; i++) {

            if (ngx_gate_window_open(node, rc, i, b, scope, &win) != NGX_OK) {
                return;
            }

            slot = ngx_gate_window_slot(&win, &newest);

            if (ngx_gate_window_due(node, &win, newest)) {
                ngx_gate_window_write(&win, slot);
            }
        }
    }
}


/* The snapshot to write next, and the age of the newest one. */

static ngx_uint_t
ngx_gate_window_slot(ngx_gate_window_t *win, ngx_msec_int_t *newest)
{
    uint64_t              tag;
    ngx_uint_t            i, slot;
    ngx_msec_int_t        age, oldest;
    ngx_gate_snapshot_t  *s;

    tag = ngx_gate_load(&win->b->tag);
    slot = 0;
    oldest = -1;
    *newest = (ngx_msec_int_t) (ngx_current_msec
                                - (ngx_msec_t) win->b->started_msec);

    for (i = 0; i < NGX_GATE_SNAPSHOTS; i++) {
        s = &win->rc->sh->snapshots[win->scope][win->rule][i];

        if (s->tag != tag) {
            oldest = NGX_MAX_INT32_VALUE;
            slot = i;
            continue;
        }

        age = (ngx_msec_int_t) (ngx_current_msec - (ngx_msec_t) s->msec);

        *newest = ngx_min(*newest, age);

        if (age > oldest) {
            oldest = age;
            slot = i;
        }
    }

    return slot;
}


static ngx_uint_t
ngx_gate_window_due(ngx_gate_node_t *node, ngx_gate_window_t *win,
    ngx_msec_int_t age)
{
    int64_t         now;
    ngx_msec_int_t  every;

    every = (ngx_msec_int_t) (win->rc->rules[win->rule].window
                              / NGX_GATE_SNAPSHOTS);

    if (win->scope == NGX_GATE_SCOPE_NODE) {
        return age >= every;
    }

    if (age < every / 2) {
        return 0;
    }

    now = ngx_gate_now() + ngx_gate_peek(&node->sh->fleet.clock_offset);

    return age >= 2 * every || now / every != (now - age) / every;
}


static void
ngx_gate_window_write(ngx_gate_window_t *win, ngx_uint_t slot)
{
    ngx_uint_t                 k, n;
    ngx_gate_rule_t           *rule;
    ngx_gate_rollout_t        *ro;
    ngx_gate_snapshot_t       *s;
    ngx_gate_hist_snapshot_t  *h;

    ro = win->rc->sh;
    rule = &win->rc->rules[win->rule];
    s = &ro->snapshots[win->scope][win->rule][slot];

    /* an agent that died here left it odd: it stays odd until we are done */

    ngx_gate_store(&s->seq, s->seq | 1);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);

    s->tag = ngx_gate_load(&win->b->tag);
    s->msec = ngx_current_msec;
    ngx_gate_window_totals(win, s->arm);

    if (rule->type == NGX_GATE_RULE_LATENCY_RATIO) {
        h = &ro->hists[win->scope][rule->hists][slot];

        for (n = 0; n < NGX_GATE_ARMS; n++) {
            for (k = 0; k < GATE_HIST_BUCKETS; k++) {
                h->hist[n][k] = ngx_gate_window_count(win, n, k);
            }
        }
    }

    ngx_gate_store(&s->seq, s->seq + 1);
}


void
ngx_gate_window_remote(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    ngx_gate_block_t *b, uint64_t tag, uint64_t *v, ngx_uint_t n)
{
    ngx_uint_t           i, slot;
    ngx_msec_int_t       gap, newest;
    ngx_gate_window_t    win;
    ngx_gate_remote_t   *remote;

    remote = &rc->sh->remote;

    /* a reader in between sees neither the old share nor the new one */

    ngx_gate_store(&remote->seq, remote->seq | 1);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);

    if (remote->tag != tag) {
        ngx_memzero(remote->v, sizeof(remote->v));
        ngx_memzero(remote->since, sizeof(remote->since));

        remote->tag = tag;
        remote->synced = 0;
    }

    for (i = 0; i < n; i++) {

        if (v[i] > remote->v[i]) {
            ngx_gate_store(&remote->v[i], v[i]);
        }
    }

    if (remote->synced) {
        gap = (ngx_msec_int_t) (ngx_current_msec
                                - (ngx_msec_t) remote->synced);
    } else {
        gap = ngx_gate_window_live(node, b) ? 0 : NGX_MAX_INT32_VALUE;
    }

    for (i = 0; i < rc->nrules; i++) {

        if (gap <= NGX_GATE_WINDOW_GAP
            || gap <= (ngx_msec_int_t) rc->rules[i].window)
        {
            continue;
        }

        win.rc = rc;
        win.b = b;
        win.rule = i;
        win.scope = NGX_GATE_SCOPE_FLEET;
        win.seq = 0;
        win.remote = remote;

        slot = ngx_gate_window_slot(&win, &newest);
        ngx_gate_window_write(&win, slot);

        ngx_gate_store(&remote->since[i], ngx_max(ngx_current_msec, 1));
    }

    ngx_gate_store(&remote->synced, ngx_max(ngx_current_msec, 1));
    ngx_gate_store(&remote->seq, remote->seq + 1);
}


/* Whether we were there when the step began, and so missed nothing of it. */

static ngx_uint_t
ngx_gate_window_live(ngx_gate_node_t *node, ngx_gate_block_t *b)
{
    int64_t  since;

    since = ngx_gate_peek(&node->sh->fleet.connected_since);

    return since != 0
           && (int64_t) b->started >= since + NGX_GATE_WINDOW_YOUNG;
}

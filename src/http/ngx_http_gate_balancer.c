
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * The composite peer: it delegates to the peer of one arm, and when the
 * canary fails, to that of stable, in the same request.
 *
 * What nginx would surprise us with:
 *   - ngx_http_upstream_init_round_robin_peer() reuses what it finds in
 *     u->peer.data, so that is NULL before any arm's init is called;
 *   - u->peer.tries must be above 1 before a failure for nginx to ask again,
 *     and 0 afterwards for it to give up, while a one-server arm sets it to 0:
 *     so what nginx sees is ours, what an arm sees is the arm's ("tries");
 *   - for a connection from a keepalive cache that turned out to be dead,
 *     nginx adds a try after free(): more tries than we left mean that this
 *     attempt was no attempt;
 *   - a get() that succeeds is followed by exactly one free(), one that fails
 *     by none;
 *   - a balancer around ours (keepalive in the composite block) has put its
 *     own functions into u->peer: they stay.
 */


#include "ngx_http_gate_peer.h"


#if (nginx_version >= 1029007)
static void ngx_http_gate_keepalive_off(ngx_conf_t *cf,
    ngx_http_upstream_srv_conf_t *us);
#endif
static ngx_int_t ngx_http_gate_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);
static ngx_int_t ngx_http_gate_init_arm(ngx_http_gate_peer_t *gp,
    ngx_uint_t arm);
static ngx_int_t ngx_http_gate_get_peer(ngx_peer_connection_t *pc,
    void *data);
static ngx_int_t ngx_http_gate_get_canary(ngx_http_gate_peer_t *gp,
    ngx_peer_connection_t *pc);
static ngx_int_t ngx_http_gate_get_arm(ngx_http_gate_peer_t *gp,
    ngx_peer_connection_t *pc);
static ngx_int_t ngx_http_gate_switch(ngx_http_gate_peer_t *gp,
    ngx_peer_connection_t *pc, const char *why);
static void ngx_http_gate_begin(ngx_http_gate_peer_t *gp);
static void ngx_http_gate_first_stream(ngx_http_upstream_t *u);
static void ngx_http_gate_unavailable(ngx_http_gate_peer_t *gp);
static void ngx_http_gate_attempt(ngx_http_gate_peer_t *gp);
static void ngx_http_gate_free_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state);
static void ngx_http_gate_unlist(ngx_http_gate_peer_t *gp);
static void ngx_http_gate_end(ngx_http_gate_peer_t *gp, ngx_uint_t outcome);
static void ngx_http_gate_breaker(ngx_http_gate_peer_t *gp,
    ngx_http_upstream_t *u, ngx_uint_t outcome);
static void ngx_http_gate_notify_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t type);
#if (NGX_SSL || NGX_COMPAT)
static ngx_int_t ngx_http_gate_set_session(ngx_peer_connection_t *pc,
    void *data);
static void ngx_http_gate_save_session(ngx_peer_connection_t *pc,
    void *data);
#endif


ngx_int_t
ngx_http_gate_init_upstream(ngx_conf_t *cf, ngx_http_upstream_srv_conf_t *us)
{
    ngx_http_gate_srv_conf_t       *gscf;
    ngx_http_upstream_server_t     *server;
    ngx_http_upstream_rr_peers_t   *peers;

    gscf = ngx_http_conf_upstream_srv_conf(us, ngx_http_gate_module);

    /* some modules look into the peers of any upstream they find */

    peers = ngx_pcalloc(cf->pool, sizeof(ngx_http_upstream_rr_peers_t));
    if (peers == NULL) {
        return NGX_ERROR;
    }

    peers->name = &us->host;

    us->peer.data = peers;
    us->peer.init = ngx_http_gate_init_peer;

#if (nginx_version >= 1029007)
    ngx_http_gate_keepalive_off(cf, us);
#endif

    /* the server that was a stand-in until now is none to look at */

    server = us->servers->elts;
    server->naddrs = 0;

    gscf->ready = 1;

    return NGX_OK;
}


#if (nginx_version >= 1029007)

/*
 * Since 1.29.7 an upstream block keeps connections unless it says
 * "keepalive 0".  In a composite that would be a second cache, in front of
 * those of the arms and with limits that nobody chose: so we say it.  Where
 * the block has a "keepalive" of its own this is a duplicate, and that stays.
 */

static void
ngx_http_gate_keepalive_off(ngx_conf_t *cf, ngx_http_upstream_srv_conf_t *us)
{
    ngx_str_t       value[2];
    ngx_uint_t      i;
    ngx_array_t     args, *saved;
    ngx_module_t   *module;
    ngx_command_t  *cmd;

    ngx_str_set(&value[0], "keepalive");
    ngx_str_set(&value[1], "0");

    ngx_memzero(&args, sizeof(ngx_array_t));

    args.elts = value;
    args.nelts = 2;

    for (i = 0; cf->cycle->modules[i]; i++) {
        module = cf->cycle->modules[i];

        if (ngx_strcmp(module->name, "ngx_http_upstream_keepalive_module")
            != 0)
        {
            continue;
        }

        for (cmd = module->commands; cmd->name.len; cmd++) {

            if (ngx_strcmp(cmd->name.data, "keepalive") != 0) {
                continue;
            }

            saved = cf->args;
            cf->args = &args;

            (void) cmd->set(cf, cmd, us->srv_conf[module->ctx_index]);

            cf->args = saved;
        }
    }
}

#endif


static ngx_int_t
ngx_http_gate_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    uint64_t                    word;
    ngx_http_upstream_t        *u;
    ngx_http_gate_ctx_t        *ctx;
    ngx_http_gate_peer_t       *gp;
    ngx_http_gate_pick_t       *pick;
    ngx_http_gate_srv_conf_t   *composite;
    ngx_http_gate_main_conf_t  *gmcf;

    composite = ngx_http_conf_upstream_srv_conf(us, ngx_http_gate_module);

    pick = ngx_http_gate_pick(r, composite);
    if (pick == NULL) {
        return NGX_ERROR;
    }

    ctx = ngx_http_gate_ctx(r);

    gp = ctx->spare;
    ctx->spare = NULL;

    if (gp == NULL) {
        gp = ngx_palloc(r->pool, sizeof(ngx_http_gate_peer_t));
        if (gp == NULL) {
            return NGX_ERROR;
        }
    }

    gp->used = 0;
    gp->may_switch = 0;
    gp->reserve = 0;
    gp->failed = 0;
    gp->stale = 0;
    gp->attempt.active = 0;
    gp->attempt.queued = 0;

    gmcf = ngx_http_get_module_main_conf(r, ngx_http_gate_module);

    gp->request = r;
    gp->node = &gmcf->node;
    gp->composite = composite;
    gp->pick = pick;
    gp->ctx = ctx;

    if (r == r->main || ctx->current == NULL) {
        ctx->current = pick;
    }

    word = ngx_gate_load(&composite->rollout->sh->word);

    if (pick->arm == NGX_GATE_CANARY
        && ((!pick->forced && ngx_gate_word_state(word) == GATE_ROLLED_BACK)
            || ngx_http_gate_canary_off(composite)))
    {
        /* chosen before the flip, say for a header, and slow to get here */

        pick->arm = NGX_GATE_STABLE;
    }

    if (!pick->counted && !pick->forced) {
        pick->counted = 1;
        ngx_gate_evidence_request(composite->rollout, pick->word, pick->arm);
    }

    if (ngx_http_gate_init_arm(gp, pick->arm) != NGX_OK) {
        return NGX_ERROR;
    }

    u = r->upstream;

    if (gp->arm == NGX_GATE_CANARY && composite->fallback) {
        gp->may_switch = 1;
        gp->reserve = (u->conf->next_upstream_tries != 1);

        u->peer.tries = 1 + gp->reserve;
    }

    gp->left = u->peer.tries;

    u->peer.data = gp;
    u->peer.get = ngx_http_gate_get_peer;
    u->peer.free = ngx_http_gate_free_peer;
    u->peer.notify = ngx_http_gate_notify_peer;
#if (NGX_SSL || NGX_COMPAT)
    u->peer.set_session = ngx_http_gate_set_session;
    u->peer.save_session = ngx_http_gate_save_session;
#endif

    return NGX_OK;
}


/* Takes the arm's peer; u->peer.data and the functions are overwritten. */

static ngx_inline ngx_int_t
ngx_http_gate_init_arm(ngx_http_gate_peer_t *gp, ngx_uint_t arm)
{
    ngx_http_upstream_t           *u;
    ngx_http_upstream_srv_conf_t  *us;

    u = gp->request->upstream;
    us = gp->composite->arm[arm];

    u->peer.data = NULL;
    u->peer.notify = NULL;
#if (NGX_SSL || NGX_COMPAT)
    u->peer.set_session = NULL;
    u->peer.save_session = NULL;
#endif

    if (us->peer.init(gp->request, us) != NGX_OK) {
        return NGX_ERROR;
    }

    /* newer versions copy a peer's name out of the zone of this upstream */

    u->upstream = us;

    gp->arm = arm;
    gp->tries = u->peer.tries;

    gp->data = u->peer.data;
    gp->get = u->peer.get;
    gp->free = u->peer.free;
    gp->notify = u->peer.notify;
#if (NGX_SSL || NGX_COMPAT)
    gp->set_session = u->peer.set_session;
    gp->save_session = u->peer.save_session;
#endif

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_get_peer(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_gate_peer_t *gp = data;

    ngx_int_t  rc;

    if (gp->stale) {
        ngx_http_gate_unlist(gp);

        if (pc->tries > gp->left) {

            /* nginx takes the dead connection back: nothing happened */

            ngx_gate_evidence_cancel(gp->composite->rollout, &gp->attempt);
            gp->used--;

            if (gp->request == gp->request->main && gp->ctx->nserved) {
                gp->ctx->nserved--;
                gp->ctx->served &= (1u << gp->ctx->nserved) - 1;
            }

        } else {
            ngx_http_gate_end(gp, NGX_GATE_OUTCOME_FAILED);
        }
    }

    if (gp->arm == NGX_GATE_CANARY) {
        rc = ngx_http_gate_get_canary(gp, pc);

    } else {
        rc = ngx_http_gate_get_arm(gp, pc);
    }

    if (rc == NGX_OK || rc == NGX_DONE || rc == NGX_AGAIN) {
        gp->used++;
        ngx_http_gate_begin(gp);

        if (rc == NGX_OK && gp->request->upstream->request_sent) {
            ngx_http_gate_first_stream(gp->request->upstream);
        }

    } else if (rc == NGX_BUSY) {
        ngx_http_gate_unavailable(gp);
    }

    return rc;
}


static ngx_int_t
ngx_http_gate_get_canary(ngx_http_gate_peer_t *gp, ngx_peer_connection_t *pc)
{
    uint64_t                  word;
    ngx_int_t                 rc;
    ngx_gate_rollout_conf_t  *rollout;

    rollout = gp->composite->rollout;

    if (gp->may_switch) {

        if (gp->used) {
            return ngx_http_gate_switch(gp, pc, gp->failed ? "failed"
                                                           : "passed");
        }

        word = ngx_gate_load(&rollout->sh->word);

        if (ngx_gate_word_state(word) == GATE_ROLLED_BACK
            && !gp->pick->forced)
        {
            return ngx_http_gate_switch(gp, pc, "was rolled back");
        }

        rc = ngx_gate_breaker_check(&rollout->sh->breaker[NGX_GATE_CANARY]);

        if (rc == NGX_BUSY) {
            ngx_http_gate_unavailable(gp);
            return ngx_http_gate_switch(gp, pc, "refuses connections");
        }
    }

    rc = ngx_http_gate_get_arm(gp, pc);

    if (rc != NGX_BUSY || !gp->may_switch) {
        return rc;
    }

    ngx_http_gate_unavailable(gp);

    return ngx_http_gate_switch(gp, pc, "has no live server");
}


static ngx_int_t
ngx_http_gate_get_arm(ngx_http_gate_peer_t *gp, ngx_peer_connection_t *pc)
{
    void       *own;
    ngx_int_t   rc;
    ngx_uint_t  tries;

    own = pc->data;
    tries = pc->tries;

    pc->data = gp->data;

    if (gp->may_switch) {
        pc->tries = gp->tries;
    }

    rc = gp->get(pc, gp->data);

    gp->data = pc->data;
    pc->data = own;

    if (gp->may_switch) {
        gp->tries = pc->tries;
        pc->tries = tries;
    }

    return rc;
}


/*
 * From the canary to stable, within get(): what nginx or a balancer around
 * ours has in u->peer stays, only the arm's peer behind us is another.
 */

static ngx_int_t
ngx_http_gate_switch(ngx_http_gate_peer_t *gp, ngx_peer_connection_t *pc,
    const char *why)
{
    ngx_int_t               rc;
    ngx_uint_t              max;
    ngx_http_request_t     *r;
    ngx_peer_connection_t   saved;

    r = gp->request;

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "gate: canary \"%V\" %s, the request goes to \"%V\"",
                  &gp->composite->rollout->canary, why,
                  &gp->composite->rollout->stable);

    saved = *pc;

    rc = ngx_http_gate_init_arm(gp, NGX_GATE_STABLE);

    pc->data = saved.data;
    pc->get = saved.get;
    pc->free = saved.free;
    pc->notify = saved.notify;
#if (NGX_SSL || NGX_COMPAT)
    pc->set_session = saved.set_session;
    pc->save_session = saved.save_session;
#endif

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    gp->may_switch = 0;
    gp->reserve = 0;

    max = r->upstream->conf->next_upstream_tries;

    if (max) {
        max -= ngx_min(gp->used, max - 1);
        pc->tries = ngx_min(pc->tries, max);
    }

    if (gp->failed) {
        ngx_gate_evidence_fallback(gp->composite->rollout, &gp->attempt);
    }

    return ngx_http_gate_get_arm(gp, pc);
}


static void
ngx_http_gate_begin(ngx_http_gate_peer_t *gp)
{
    ngx_http_gate_ctx_t  *ctx;

    ngx_http_gate_attempt(gp);

    /* as of $upstream_addr: a subrequest's attempts are its own */

    ctx = gp->ctx;

    if (gp->request == gp->request->main && ctx->nserved < 32) {
        ctx->served |= (uint32_t) gp->arm << ctx->nserved;
        ctx->nserved++;
    }
}


/*
 * What was sent on a kept HTTP/2 connection (grpc_pass) has the number of its
 * stream there, and nginx leaves it so when it sends it again on a new one,
 * where it then waits for the answer on stream 1.
 */

static void
ngx_http_gate_first_stream(ngx_http_upstream_t *u)
{
    size_t      len;
    u_char     *p;
    ngx_buf_t  *b;

    static const char  preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    len = sizeof(preface) - 1;

    if (u->request_bufs == NULL) {
        return;
    }

    b = u->request_bufs->buf;

    if (b->last - b->start < (ssize_t) len
        || ngx_memcmp(b->start, preface, len) != 0)
    {
        return;
    }

    for (p = b->start + len; b->last - p >= 9; p += 9 + len) {
        len = (size_t) p[0] << 16 | p[1] << 8 | p[2];

        if (len > (size_t) (b->last - p - 9)) {
            return;
        }

        /* HEADERS, CONTINUATION */

        if (p[3] == 1 || p[3] == 9) {
            p[5] = 0;
            p[6] = 0;
            p[7] = 0;
            p[8] = 1;
        }
    }
}


/* The arm had nobody to ask: that is its failure too. */

static void
ngx_http_gate_unavailable(ngx_http_gate_peer_t *gp)
{
    ngx_http_gate_attempt(gp);

    if (gp->arm == NGX_GATE_CANARY) {
        gp->failed = 1;
    }

    ngx_gate_evidence_end(gp->node, gp->composite->rollout, &gp->attempt,
                          NGX_GATE_OUTCOME_UNAVAILABLE);
}


static void
ngx_http_gate_attempt(ngx_http_gate_peer_t *gp)
{
    ngx_uint_t  kind;

    kind = gp->pick->forced ? NGX_GATE_KIND_FORCED
           : (gp->arm != gp->pick->arm) ? NGX_GATE_KIND_FALLBACK
           : NGX_GATE_KIND_NORMAL;

    ngx_gate_evidence_begin(gp->composite->rollout, gp->pick->word,
                            &gp->attempt, gp->arm, kind,
                            &gp->request->upstream->state->header_time);
}


static void
ngx_http_gate_free_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state)
{
    ngx_http_gate_peer_t *gp = data;

    void                 *own;
    ngx_uint_t            stale, outcome;
    ngx_http_upstream_t  *u;

    u = gp->request->upstream;

    stale = ngx_http_gate_stale(pc, u, state);
    outcome = ngx_http_gate_outcome(gp, u, state);

    own = pc->data;
    pc->data = gp->data;

    if (gp->may_switch) {
        pc->tries = gp->tries;
    }

    gp->free(pc, gp->data, state);

    gp->data = pc->data;
    pc->data = own;

    if (gp->may_switch) {
        gp->tries = pc->tries;
        pc->tries = gp->reserve;
    }

    gp->left = pc->tries;

    if (!gp->attempt.active) {
        return;
    }

    if (stale) {
        gp->stale = 1;
        gp->next = gp->ctx->pending;
        gp->ctx->pending = gp;
        return;
    }

    ngx_http_gate_breaker(gp, u, outcome);
    ngx_http_gate_end(gp, outcome);
}


static void
ngx_http_gate_unlist(ngx_http_gate_peer_t *gp)
{
    ngx_http_gate_peer_t  **p;

    gp->stale = 0;

    for (p = &gp->ctx->pending; *p; p = &(*p)->next) {

        if (*p == gp) {
            *p = gp->next;
            return;
        }
    }
}


void
ngx_http_gate_settle(ngx_http_gate_ctx_t *ctx)
{
    ngx_http_gate_peer_t  *gp;

    for (gp = ctx->pending; gp; gp = gp->next) {
        gp->stale = 0;
        ngx_http_gate_end(gp, NGX_GATE_OUTCOME_FAILED);
    }

    ctx->pending = NULL;
}


static void
ngx_http_gate_end(ngx_http_gate_peer_t *gp, ngx_uint_t outcome)
{
    ngx_gate_rollout_conf_t  *rollout;

    rollout = gp->composite->rollout;

    if (gp->arm == NGX_GATE_CANARY) {

        if (outcome == NGX_GATE_OUTCOME_FAILED) {
            gp->failed = 1;
        }

    } else if (gp->failed && outcome == NGX_GATE_OUTCOME_OK) {
        ngx_gate_evidence_saved(rollout, &gp->attempt);
    }

    ngx_gate_evidence_end(gp->node, rollout, &gp->attempt, outcome);
}


static void
ngx_http_gate_breaker(ngx_http_gate_peer_t *gp, ngx_http_upstream_t *u,
    ngx_uint_t outcome)
{
    ngx_gate_breaker_t  *b;

    b = &gp->composite->rollout->sh->breaker[gp->arm];

    if (u->state->connect_time != (ngx_msec_t) -1) {
        ngx_gate_breaker_connected(b);

    } else if (outcome == NGX_GATE_OUTCOME_FAILED) {
        ngx_gate_breaker_refused(b, gp->attempt.start);
    }
}


static void
ngx_http_gate_notify_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t type)
{
    ngx_http_gate_peer_t *gp = data;

    void  *own;

    if (gp->notify == NULL) {
        return;
    }

    own = pc->data;
    pc->data = gp->data;

    gp->notify(pc, gp->data, type);

    pc->data = own;
}


#if (NGX_SSL || NGX_COMPAT)

static ngx_int_t
ngx_http_gate_set_session(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_gate_peer_t *gp = data;

    void       *own;
    ngx_int_t   rc;

    if (gp->set_session == NULL) {
        return NGX_OK;
    }

    own = pc->data;
    pc->data = gp->data;

    rc = gp->set_session(pc, gp->data);

    pc->data = own;

    return rc;
}


static void
ngx_http_gate_save_session(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_gate_peer_t *gp = data;

    void  *own;

    if (gp->save_session == NULL) {
        return;
    }

    own = pc->data;
    pc->data = gp->data;

    gp->save_session(pc, gp->data);

    pc->data = own;
}

#endif

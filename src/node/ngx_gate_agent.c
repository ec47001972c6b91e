
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * The tick of every worker, and the agent: the one worker that does for the
 * node what needs doing once.
 *
 * The agent is a word in the zone, (generation, pid).  A worker of a newer
 * configuration takes it at once; one of the same configuration takes it when
 * the agent is dead, or has not been heard of for two seconds.  An agent that
 * was stopped and comes back finds another pid there and is a worker like
 * any other.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_gate_limit.h"


#define NGX_GATE_TICK_MSEC        100
#define NGX_GATE_AGENT_TICK_MSEC  50
#define NGX_GATE_FLEET_TICK_MSEC  20       /* others wait for what we find */
#define NGX_GATE_SWEEP_MSEC       1000
#define NGX_GATE_AGENT_DOUBT      150      /* ms without a beat: is it dead? */
#define NGX_GATE_AGENT_LOST       2000     /* ms without a beat: it hangs */

#define ngx_gate_agent_word(g)                                                \
    ((uint64_t) (g) << 32 | (uint32_t) ngx_pid)


static void ngx_gate_agent_tick(ngx_event_t *ev);
static ngx_uint_t ngx_gate_agent_elect(ngx_gate_node_t *node);
static void ngx_gate_agent_work(ngx_gate_node_t *node, ngx_log_t *log);
static void ngx_gate_agent_retire(ngx_gate_node_t *node, ngx_log_t *log,
    ngx_uint_t last);
static ngx_int_t ngx_gate_agent_init_flights(ngx_gate_node_t *node,
    ngx_cycle_t *cycle);


static ngx_event_t        ngx_gate_agent_event;
static ngx_connection_t   ngx_gate_agent_dummy;
static ngx_gate_node_t   *ngx_gate_agent_node;
static ngx_queue_t       *ngx_gate_agent_queues;
static ngx_uint_t         ngx_gate_agent_mine;
static ngx_msec_t         ngx_gate_agent_swept;


ngx_int_t
ngx_gate_agent_start(ngx_cycle_t *cycle, ngx_gate_node_t *node)
{
    ngx_event_t  *ev;

    if (ngx_gate_agent_init_flights(node, cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_gate_agent_node = node;

    ev = &ngx_gate_agent_event;

    if (ev->timer_set) {
        ngx_del_timer(ev);
    }

    /* debug builds print the descriptor of whatever owns a timer */

    ngx_gate_agent_dummy.fd = (ngx_socket_t) -1;

    ev->handler = ngx_gate_agent_tick;
    ev->data = &ngx_gate_agent_dummy;
    ev->log = cycle->log;
    ev->cancelable = 1;

    ngx_add_timer(ev, 1);

    return NGX_OK;
}


static ngx_int_t
ngx_gate_agent_init_flights(ngx_gate_node_t *node, ngx_cycle_t *cycle)
{
    ngx_uint_t    i, n;
    ngx_queue_t  *q;

    n = node->rollouts.nelts;

    q = ngx_palloc(cycle->pool, (n + 1) * sizeof(ngx_queue_t));
    if (q == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < n; i++) {
        ngx_queue_init(&q[i]);
    }

    ngx_gate_agent_queues = q;

    return NGX_OK;
}


ngx_queue_t *
ngx_gate_agent_flights(ngx_gate_rollout_conf_t *rc)
{
    return &ngx_gate_agent_queues[rc->index];
}


static void
ngx_gate_agent_tick(ngx_event_t *ev)
{
    ngx_uint_t                 i;
    ngx_gate_node_t           *node;
    ngx_gate_rollout_conf_t  **rc;

    node = ngx_gate_agent_node;
    rc = node->rollouts.elts;

    for (i = 0; i < node->rollouts.nelts; i++) {
        ngx_gate_evidence_scan(node, rc[i], &ngx_gate_agent_queues[i]);
    }

    if (!ngx_exiting && ngx_gate_agent_elect(node)) {
        ngx_gate_agent_work(node, ev->log);

    } else {
        ngx_gate_agent_retire(node, ev->log, 0);
    }

    /* a retiring worker still has slow attempts to find; being cancelable,
       the timer does not keep it */

    ngx_add_timer(ev, !ngx_gate_agent_mine ? NGX_GATE_TICK_MSEC
                      : node->fleet ? NGX_GATE_FLEET_TICK_MSEC
                                    : NGX_GATE_AGENT_TICK_MSEC);
}


static ngx_uint_t
ngx_gate_agent_elect(ngx_gate_node_t *node)
{
    uint32_t          pid;
    uint64_t          word, mine;
    ngx_msec_int_t    silent;
    ngx_gate_zone_t  *sh;

    sh = node->sh;
    word = ngx_gate_load(&sh->agent);
    mine = ngx_gate_agent_word(node->generation);

    if (word == mine) {
        ngx_gate_agent_mine = 1;
        ngx_gate_store(&sh->agent_beat, ngx_current_msec);
        return 1;
    }

    ngx_gate_agent_mine = 0;

    if ((uint32_t) (word >> 32) > node->generation) {
        return 0;
    }

    if ((uint32_t) (word >> 32) == node->generation) {
        pid = (uint32_t) word;
        silent = (ngx_msec_int_t) (ngx_current_msec
                                   - (ngx_msec_t)
                                     ngx_gate_load(&sh->agent_beat));

        if (pid != 0
            && (silent < NGX_GATE_AGENT_DOUBT
                || (silent < NGX_GATE_AGENT_LOST
                    && ngx_gate_node_alive(sh, pid))))
        {
            return 0;
        }
    }

    if (!ngx_gate_cas(&sh->agent, &word, mine)) {
        return 0;
    }

    ngx_gate_store(&sh->agent_beat, ngx_current_msec);
    ngx_gate_add(&sh->agents_total, 1);
    ngx_gate_agent_mine = 1;

    return 1;
}


static void
ngx_gate_agent_work(ngx_gate_node_t *node, ngx_log_t *log)
{
    ngx_uint_t                 i;
    ngx_gate_rollout_conf_t  **rc;

    if ((ngx_msec_int_t) (ngx_current_msec - ngx_gate_agent_swept)
        >= NGX_GATE_SWEEP_MSEC)
    {
        ngx_gate_agent_swept = ngx_current_msec;
        ngx_gate_node_sweep(node->sh);
    }

    ngx_gate_watch_tick(node, log);

    for (i = 0; i < node->sh->nswitches; i++) {
        ngx_gate_switch_tick(node, &node->sh->switches[i]);
    }

    rc = node->rollouts.elts;

    for (i = 0; i < node->rollouts.nelts; i++) {
        ngx_gate_verdict_tick(node, rc[i]);
        ngx_gate_steps_tick(node, rc[i]);
    }

    ngx_gate_limit_tick(node);

    if (node->fleet) {
        node->fleet->tick(node, log);
    }

    ngx_gate_store_tick(node, log);
}


/* Not the agent, or not any more: what an agent holds is given back. */

static void
ngx_gate_agent_retire(ngx_gate_node_t *node, ngx_log_t *log, ngx_uint_t last)
{
    uint32_t  pid;
    uint64_t  word;

    word = ngx_gate_agent_word(node->generation);

    ngx_gate_agent_mine = 0;

    /*
     * A whole nginx that quits has no successor to tell the fleet what its
     * last requests came to: the line is held until the process ends.
     */

    pid = (uint32_t) ngx_gate_load(&node->sh->agent);

    if (node->fleet
        && (last || !ngx_exiting || (pid != 0 && pid != (uint32_t) ngx_pid)))
    {
        node->fleet->stop(node, log, last);
    }

    /*
     * The office first: whoever changes something from here on sees that
     * there is nobody else to save it.
     */

    if (ngx_gate_load(&node->sh->agent) == word) {
        (void) ngx_gate_cas(&node->sh->agent, &word,
                            (uint64_t) node->generation << 32);
    }

    if (ngx_exiting || last) {
        ngx_gate_store_final(node, log, last);
    }

    ngx_gate_store_release();
}


void
ngx_gate_agent_stop(ngx_cycle_t *cycle)
{
    if (ngx_gate_agent_node == NULL) {
        return;
    }

    if (ngx_gate_agent_event.timer_set) {
        ngx_del_timer(&ngx_gate_agent_event);
    }

    ngx_gate_agent_retire(ngx_gate_agent_node, cycle->log, 1);
}

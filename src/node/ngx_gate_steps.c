
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gate_steps: the agent raises the weight of a progressing rollout by
 * itself.  A step is left for the next one when its time is over and every
 * rule has its minimum and holds.  Where there is no proof there is no
 * progress: a rule without enough attempts keeps the rollout where it is, for
 * as long as it takes.
 *
 * A weight that is none of the steps was set by hand, and stays.
 */


#include "ngx_gate_node.h"


static ngx_uint_t ngx_gate_steps_pass(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_gate_block_t *b);
static ngx_int_t ngx_gate_steps_find(ngx_gate_rollout_conf_t *rc,
    ngx_uint_t weight);


void
ngx_gate_steps_tick(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc)
{
    char                  before[GATE_WEIGHT_LEN], after[GATE_WEIGHT_LEN];
    ngx_gate_next_step_t  ns;

    /* in a fleet the next step is Redis's to take */

    if (node->redis || !ngx_gate_steps_due(node, rc, &ns)) {
        return;
    }

    if (ngx_gate_rollout_advance(node, rc, ns.word, ns.weight, ns.promote)
        != NGX_OK)
    {
        return;
    }

    (void) gate_format_weight((unsigned) ns.from, before);
    (void) gate_format_weight((unsigned) ns.weight, after);

    ngx_gate_event_audit(node, ns.promote ? "promoted" : "step", &rc->name,
                         "steps", "verdict", before, after,
                         "the step has passed");
}


ngx_uint_t
ngx_gate_steps_due(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    ngx_gate_next_step_t *ns)
{
    uint64_t           w;
    ngx_int_t          i;
    ngx_gate_step_t   *step, *next;
    ngx_gate_block_t  *b;

    w = ngx_gate_load(&rc->sh->word);

    if (rc->nsteps == 0 || ngx_gate_word_state(w) != GATE_PROGRESSING
        || ngx_gate_peek(&node->sh->modes[NGX_GATE_MODE_CANARY].value)
           != NGX_GATE_MODE_ENFORCE)
    {
        return 0;
    }

    i = ngx_gate_steps_find(rc, ngx_gate_word_weight(w));

    if (i == NGX_ERROR) {
        return 0;
    }

    step = &rc->steps[i];
    next = (i + 1 < (ngx_int_t) rc->nsteps) ? step + 1 : step;

    ns->word = w;
    ns->from = step->weight;
    ns->weight = next->weight;
    ns->time = step->time;
    ns->promote = (next->weight == GATE_WEIGHT_MAX
                   && (next == step || next->time == 0));

    if (next == step && !ns->promote) {

        /* the last step is below 100 %: the rest is an operator's */
        return 0;
    }

    b = ngx_gate_evidence_block(rc->sh, w);

    return (ngx_msec_int_t) (ngx_current_msec - (ngx_msec_t) b->started_msec)
           >= (ngx_msec_int_t) step->time
           && ngx_gate_steps_pass(node, rc, b);
}


static ngx_uint_t
ngx_gate_steps_pass(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    ngx_gate_block_t *b)
{
    ngx_uint_t       i;
    ngx_gate_look_t  look;

    if (b->digest != rc->digest) {
        return 0;
    }

    for (i = 0; i < rc->nrules; i++) {
        ngx_gate_verdict_show(node, rc, i, b, &look);

        /* above the bound, though not yet proved: that is no pass either */

        if (!look.enough || look.over || look.value > look.bound) {
            return 0;
        }
    }

    return 1;
}


static ngx_int_t
ngx_gate_steps_find(ngx_gate_rollout_conf_t *rc, ngx_uint_t weight)
{
    ngx_uint_t  i;

    for (i = 0; i < rc->nsteps; i++) {

        if (rc->steps[i].weight == weight) {
            return i;
        }
    }

    return NGX_ERROR;
}

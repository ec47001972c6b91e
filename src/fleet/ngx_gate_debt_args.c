
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * A batch of debts, as limit.lua wants it.  There may be ten thousand keys in
 * a second, so texts are made by hand, and once where they are the same.
 */


#include "ngx_gate_debt.h"


static u_char *ngx_gate_debt_arg(ngx_str_t *arg, u_char *p, u_char *last);
static u_char *ngx_gate_debt_item(ngx_gate_limit_conf_t *lc, int64_t now,
    gate_limit_debt_t *d, u_char *p);
static u_char *ngx_gate_debt_hex(u_char *p, uint64_t v);


void
ngx_gate_debt_args(ngx_gate_limit_conf_t *lc, int64_t now, int64_t us,
    ngx_str_t *argv, u_char *p)
{
    size_t                   prefix;
    u_char                  *last;
    ngx_str_t               *key, *arg;
    ngx_uint_t               i, n;
    ngx_gate_redis_conf_t   *conf;
    ngx_gate_limit_batch_t  *b;

    conf = lc->node->redis;
    b = &lc->sh->batch;
    n = ngx_min(b->n, NGX_GATE_LIMIT_BATCH);

    key = argv;
    arg = argv + 1 + n;

    p = ngx_gate_debt_arg(key++, p,
                          ngx_sprintf(p, "%Vlimitseq:%V:%016xL", &conf->data,
                                      &lc->name, lc->sh->boot));
    p = ngx_gate_debt_arg(arg++, p, ngx_sprintf(p, "%uL", b->seq));
    p = ngx_gate_debt_arg(arg++, p,
                          ngx_sprintf(p, "%08xD",
                                      (uint32_t) (lc->sh->boot >> 32)));
    p = ngx_gate_debt_arg(arg++, p, ngx_sprintf(p, "%L", us));
    p = ngx_gate_debt_arg(arg++, p,
                          ngx_sprintf(p, "%uD", ngx_max(lc->sh->nodes, 1)));

    prefix = 0;

    for (i = 0; i < n; i++) {

        /* all keys of a zone begin alike */

        if (i == 0) {
            last = ngx_sprintf(p, "%Vlimit:%V:", &conf->data, &lc->name);
            prefix = last - p;

        } else {
            last = ngx_cpymem(p, key[-1].data, prefix);
        }

        p = ngx_gate_debt_arg(key++, p,
                              ngx_gate_debt_hex(last, b->debts[i].hash));
    }

    for (last = p, i = 0; i < n; i++) {
        last = ngx_gate_debt_item(lc, now, &b->debts[i], last);
    }

    (void) ngx_gate_debt_arg(arg, p, last);
}


/* The text of an argument, which ends at "last". */

static u_char *
ngx_gate_debt_arg(ngx_str_t *arg, u_char *p, u_char *last)
{
    arg->data = p;
    arg->len = last - p;

    return last;
}


/* Doubles as this processor has them: all that have limits are alike. */

static u_char *
ngx_gate_debt_item(ngx_gate_limit_conf_t *lc, int64_t now,
    gate_limit_debt_t *d, u_char *p)
{
    double       item[NGX_GATE_DEBT_ITEM];
    gate_rate_t  rate;

    if (gate_limit_class_rate(lc->table, d->cls, &rate) != 0) {

        /* rates that nobody remembers: only the sum of a node counts */

        rate.interval = 1;
        rate.capacity = GATE_GCRA_MAX;
    }

    item[0] = (double) d->unsent;
    item[1] = (double) rate.interval;
    item[2] = (double) rate.capacity;

    /* what was paid so long ago is not known there any more */

    item[3] = (double) ngx_max(d->tat - now, NGX_GATE_DEBT_PAID);

    return ngx_cpymem(p, item, sizeof(item));
}


/* ngx_sprintf() makes three hundred instructions of it. */

static u_char *
ngx_gate_debt_hex(u_char *p, uint64_t v)
{
    int  shift;

    for (shift = 60; shift >= 0; shift -= 4) {
        *p++ = (u_char) "0123456789abcdef"[(v >> shift) & 15];
    }

    return p;
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * A batch of debts, as limit.lua wants it.  There may be ten thousand keys in
 * a second, so texts are made by hand, and once where they are the same.
 */


#include "ngx_gate_debt.h"


#define NGX_GATE_DEBT_PAID    INT64_C(-10000000000)  /* ns; KEEP in tat.lua */


static u_char *ngx_gate_debt_arg(ngx_str_t *arg, u_char *p, u_char *last);
static u_char *ngx_gate_debt_rate(ngx_gate_limit_conf_t *lc, ngx_uint_t cls,
    ngx_str_t *arg, u_char *p);
static u_char *ngx_gate_debt_number(u_char *p, int64_t v);
static u_char *ngx_gate_debt_hex(u_char *p, uint64_t v);


void
ngx_gate_debt_args(ngx_gate_limit_conf_t *lc, int64_t now, int64_t us,
    ngx_str_t *argv, u_char *p)
{
    size_t                   prefix;
    u_char                  *last;
    int64_t                  owed;
    ngx_int_t                cls;
    ngx_str_t               *key, *arg, *rates;
    ngx_uint_t               i, n;
    gate_limit_debt_t       *d;
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

    cls = -1;
    rates = NULL;
    prefix = 0;

    for (i = 0; i < n; i++) {
        d = &b->debts[i];

        /* all keys of a zone begin alike */

        if (i == 0) {
            last = ngx_sprintf(p, "%Vlimit:%V:", &conf->data, &lc->name);
            prefix = last - p;

        } else {
            last = ngx_cpymem(p, key[-1].data, prefix);
        }

        p = ngx_gate_debt_arg(key++, p, ngx_gate_debt_hex(last, d->hash));

        p = ngx_gate_debt_arg(arg++, p, ngx_gate_debt_number(p, d->unsent));

        /* and most have the rate of the one before */

        if (d->cls != cls) {
            cls = d->cls;
            rates = arg;
            p = ngx_gate_debt_rate(lc, d->cls, arg, p);

        } else {
            arg[0] = rates[0];
            arg[1] = rates[1];
        }

        arg += 2;

        /* what was paid so long ago is not known there any more */

        owed = ngx_max(d->tat - now, NGX_GATE_DEBT_PAID);

        p = ngx_gate_debt_arg(arg++, p, ngx_gate_debt_number(p, owed));
    }
}


/* The text of an argument, which ends at "last". */

static u_char *
ngx_gate_debt_arg(ngx_str_t *arg, u_char *p, u_char *last)
{
    arg->data = p;
    arg->len = last - p;

    return last;
}


/* Interval and capacity of a class. */

static u_char *
ngx_gate_debt_rate(ngx_gate_limit_conf_t *lc, ngx_uint_t cls, ngx_str_t *arg,
    u_char *p)
{
    gate_rate_t  rate;

    if (gate_limit_class_rate(lc->table, (unsigned) cls, &rate) != 0) {

        /* rates that nobody remembers: only the sum of a node counts */

        rate.interval = 1;
        rate.capacity = GATE_GCRA_MAX;
    }

    p = ngx_gate_debt_arg(&arg[0], p, ngx_gate_debt_number(p, rate.interval));

    return ngx_gate_debt_arg(&arg[1], p,
                             ngx_gate_debt_number(p, rate.capacity));
}


/* ngx_sprintf() makes three hundred instructions of it. */

static u_char *
ngx_gate_debt_number(u_char *p, int64_t v)
{
    u_char    digits[NGX_INT64_LEN], *d;
    uint64_t  n;

    n = (v < 0) ? 0 - (uint64_t) v : (uint64_t) v;
    d = digits + sizeof(digits);

    do {
        *--d = (u_char) ('0' + n % 10);
        n /= 10;
    } while (n);

    if (v < 0) {
        *p++ = '-';
    }

    while (d < digits + sizeof(digits)) {
        *p++ = *d++;
    }

    return p;
}


static u_char *
ngx_gate_debt_hex(u_char *p, uint64_t v)
{
    int  shift;

    for (shift = 60; shift >= 0; shift -= 4) {
        *p++ = (u_char) "0123456789abcdef"[(v >> shift) & 15];
    }

    return p;
}

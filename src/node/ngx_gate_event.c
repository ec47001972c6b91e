
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * What happened, one line of JSON each: records of flips and operators'
 * writes.  The last ones stay in the zone for the status page; each also
 * goes to the error log, where it outlives us.
 */


#include "ngx_gate_node.h"

#include <jansson.h>
#include <math.h>


static char *ngx_gate_event_text(json_t *root, size_t *len);
static ngx_uint_t ngx_gate_event_scope(ngx_gate_rollout_t *ro, uint64_t w);
static json_t *ngx_gate_event_json(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, uint64_t w, const char *event,
    ngx_uint_t cause, ngx_uint_t scope);
static json_t *ngx_gate_event_arm(ngx_gate_arm_t *arm);
static void ngx_gate_event_rule(json_t *root, ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_gate_block_t *b, ngx_uint_t cause,
    ngx_uint_t scope);
static void ngx_gate_event_fleet(json_t *root, ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_gate_block_t *b);
static void ngx_gate_event_numbers(json_t *root, ngx_gate_block_t *b);
static char *ngx_gate_event_time(int64_t msec, char *buf);
static json_t *ngx_gate_event_percent(double v);


#define NGX_GATE_TIME_LEN  sizeof("1970-01-01T00:00:00.000Z")


void
ngx_gate_event_add(ngx_gate_node_t *node, const char *json, size_t len)
{
    uint64_t           n;
    ngx_gate_zone_t   *sh;
    ngx_gate_event_t  *e;

    sh = node->sh;

    ngx_shmtx_lock(&node->shpool->mutex);

    n = sh->events_total + 1;
    e = &sh->events[n % NGX_GATE_EVENTS];

    __atomic_store_n(&e->number, 0, __ATOMIC_SEQ_CST);

    e->len = (uint32_t) ngx_min(len, NGX_GATE_RECORD_LEN - 1);
    ngx_gate_text(e->text, sizeof(e->text), (u_char *) json, e->len);

    ngx_gate_store(&e->number, n);
    ngx_gate_store(&sh->events_total, n);

    ngx_shmtx_unlock(&node->shpool->mutex);
}


ngx_int_t
ngx_gate_event_get(ngx_gate_zone_t *sh, uint64_t number,
    char text[NGX_GATE_RECORD_LEN])
{
    ngx_gate_event_t  *e;

    e = &sh->events[number % NGX_GATE_EVENTS];

    if (ngx_gate_load(&e->number) != number) {
        return NGX_DECLINED;
    }

    ngx_memcpy(text, e->text, NGX_GATE_RECORD_LEN);
    text[NGX_GATE_RECORD_LEN - 1] = '\0';

    __atomic_thread_fence(__ATOMIC_ACQUIRE);

    return ngx_gate_peek(&e->number) == number ? NGX_OK : NGX_DECLINED;
}


void
ngx_gate_event_record(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc)
{
    char                *text;
    size_t               len;
    json_t              *root;
    uint32_t             pid;
    uint64_t             w;
    ngx_gate_rollout_t  *ro;

    ro = rc->sh;
    w = ngx_gate_load(&ro->word);

    if (ngx_gate_word_state(w) != GATE_ROLLED_BACK
        || ngx_gate_load(&ro->record_epoch) == ngx_gate_word_epoch(w))
    {
        return;
    }

    /* one writes it; if he died over it, another one does */

    pid = ngx_gate_load(&ro->record_pid);

    if (pid != 0 && pid != (uint32_t) ngx_pid
        && ngx_gate_node_alive(node->sh, pid))
    {
        return;
    }

    if (!ngx_gate_cas(&ro->record_pid, &pid, (uint32_t) ngx_pid)) {
        return;
    }

    if (ngx_gate_load(&ro->record_epoch) == ngx_gate_word_epoch(w)) {
        ngx_gate_store(&ro->record_pid, 0);
        return;
    }

    root = ngx_gate_event_json(node, rc, w, "rolled_back",
                               ngx_gate_word_cause(w),
                               ngx_gate_event_scope(ro, w));
    text = ngx_gate_event_text(root, &len);

    if (len >= NGX_GATE_RECORD_LEN) {

        /* a record without its labels is better than none */

        (void) json_object_del(root, "labels");

        free(text);
        text = ngx_gate_event_text(root, &len);
    }

    json_decref(root);

    if (len == 0 || len >= NGX_GATE_RECORD_LEN) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "gate: rollout \"%V\" was rolled back, its record "
                      "could not be written", &rc->name);

    } else {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "gate: rollout \"%V\" was rolled back: %s",
                      &rc->name, text);

        ngx_gate_event_add(node, text, len);
    }

    ngx_shmtx_lock(&node->shpool->mutex);

    if (len && len < NGX_GATE_RECORD_LEN) {
        ngx_gate_text(ro->record, sizeof(ro->record), (u_char *) text, len);
        ro->record_len = (uint32_t) len;
    }

    if (ngx_gate_word_cause(w) != NGX_GATE_CAUSE_OPERATOR) {
        ro->since = ngx_gate_now();
        ngx_gate_text(ro->source, sizeof(ro->source), (u_char *) "verdict",
                      sizeof("verdict") - 1);
        ngx_gate_text(ro->actor, sizeof(ro->actor),
                      ngx_cycle->hostname.data, ngx_cycle->hostname.len);

        if (ngx_gate_word_cause(w) <= rc->nrules) {
            ngx_gate_text(ro->reason, sizeof(ro->reason),
                          rc->rules[ngx_gate_word_cause(w) - 1].text.data,
                          rc->rules[ngx_gate_word_cause(w) - 1].text.len);
        }
    }

    ngx_gate_store(&ro->record_epoch, ngx_gate_word_epoch(w));
    ngx_gate_changed(node->sh);

    ngx_shmtx_unlock(&node->shpool->mutex);

    ngx_gate_store(&ro->record_pid, 0);

    free(text);
}


/* whose numbers proved the breach of this epoch */

static ngx_uint_t
ngx_gate_event_scope(ngx_gate_rollout_t *ro, uint64_t w)
{
    uint64_t  proved;

    proved = ngx_gate_load(&ro->proved);

    return ((uint32_t) (proved >> 32) == ngx_gate_word_epoch(w))
           ? (ngx_uint_t) (uint32_t) proved : NGX_GATE_SCOPE_NODE;
}


void
ngx_gate_event_observed(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    uint64_t w, ngx_uint_t cause, ngx_uint_t scope)
{
    char                *text;
    size_t               len;
    json_t              *root;
    uint32_t             told;
    ngx_gate_rollout_t  *ro;

    ro = rc->sh;
    told = ngx_gate_peek(&ro->observed_epoch);

    if (told == ngx_gate_word_epoch(w)
        || !ngx_gate_cas(&ro->observed_epoch, &told, ngx_gate_word_epoch(w)))
    {
        return;
    }

    root = ngx_gate_event_json(node, rc, w, "would_roll_back", cause, scope);

    /* it stays where it is */

    (void) json_object_set_new(root, "weight_after",
                               ngx_gate_event_percent(ngx_gate_word_weight(w)
                                                      / 100.0));
    text = ngx_gate_event_text(root, &len);

    json_decref(root);

    if (len) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "gate: rollout \"%V\" would be rolled back, but mode "
                      "\"observe\" keeps it: %s", &rc->name, text);
    }

    if (len && len < NGX_GATE_RECORD_LEN) {
        ngx_gate_event_add(node, text, len);
    }

    free(text);
}


/* NULL and no length: memory is short */

static char *
ngx_gate_event_text(json_t *root, size_t *len)
{
    char  *text;

    text = root ? json_dumps(root, JSON_COMPACT|JSON_ENSURE_ASCII
                                   |JSON_REAL_PRECISION(6))
                : NULL;

    *len = text ? ngx_strlen(text) : 0;

    return text;
}


static json_t *
ngx_gate_event_json(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    uint64_t w, const char *event, ngx_uint_t cause, ngx_uint_t scope)
{
    char                 now[NGX_GATE_TIME_LEN];
    const char          *by;
    json_t              *root, *labels;
    ngx_gate_block_t    *b;
    ngx_gate_rollout_t  *ro;

    ro = rc->sh;
    b = ngx_gate_evidence_block(ro, w);
    by = (cause == NGX_GATE_CAUSE_OPERATOR) ? ro->actor : "verdict";

    root = json_pack("{s:s, s:s, s:s%, s:s, s:s, s:s, s:s, s:I, s:i, s:s}",
                     "event", event,
                     "time", ngx_gate_event_time(ngx_gate_now(), now),
                     "node", (char *) ngx_cycle->hostname.data,
                             ngx_cycle->hostname.len,
                     "upstream", ro->name,
                     "id", ro->id,
                     "stable", ro->stable,
                     "canary", ro->canary,
                     "epoch", (json_int_t) ngx_gate_word_epoch(w),
                     "step", (int) b->step,
                     "by", by);
    if (root == NULL) {
        return NULL;
    }

    if (cause == NGX_GATE_CAUSE_OPERATOR) {
        (void) json_object_set_new(root, "reason", json_string(ro->reason));

    } else if (cause && cause <= rc->nrules) {
        ngx_gate_event_rule(root, node, rc, b, cause, scope);
    }

    ngx_gate_event_numbers(root, b);

    if (rc->labels.len) {
        labels = json_loadb((char *) rc->labels.data, rc->labels.len,
                            JSON_REJECT_DUPLICATES, NULL);
        (void) json_object_set_new(root, "labels", labels);
    }

    return root;
}


static void
ngx_gate_event_rule(json_t *root, ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_gate_block_t *b, ngx_uint_t cause,
    ngx_uint_t scope)
{
    ngx_gate_look_t   look;
    ngx_gate_rule_t  *rule;

    rule = &rc->rules[cause - 1];

    ngx_gate_verdict_look(node, rc, cause - 1, b, scope, &look);

    (void) json_object_set_new(root, "reason",
                               json_stringn((char *) rule->text.data,
                                            ngx_min(rule->text.len,
                                                    NGX_GATE_REASON_LEN
                                                    - 1)));
    (void) json_object_set_new(root, "bound", json_real(look.bound));

    /* a ratio to nothing is no JSON number */

    (void) json_object_set_new(root, "value",
                               isfinite(look.value) ? json_real(look.value)
                                                    : json_null());

    if (node->redis == NULL) {
        return;
    }

    (void) json_object_set_new(root, "scope",
                               json_string(ngx_gate_scope_name(&look)));

    if (scope == NGX_GATE_SCOPE_FLEET) {
        ngx_gate_event_fleet(root, node, rc, b);
    }
}


/* what all nodes counted, where that was the proof */

static void
ngx_gate_event_fleet(json_t *root, ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_gate_block_t *b)
{
    json_t          *fleet;
    ngx_gate_arm_t   arm[NGX_GATE_ARMS];

    if (ngx_gate_vector_fleet(node, rc, b, arm) != NGX_OK) {
        return;
    }

    fleet = json_pack("{s:i}", "nodes",
                      (int) ngx_gate_peek(&rc->sh->fleet_members));
    if (fleet == NULL) {
        return;
    }

    (void) json_object_set_new(fleet, "canary_arm",
                               ngx_gate_event_arm(&arm[NGX_GATE_CANARY]));
    (void) json_object_set_new(fleet, "stable_arm",
                               ngx_gate_event_arm(&arm[NGX_GATE_STABLE]));
    (void) json_object_set_new(root, "fleet", fleet);
}


static void
ngx_gate_event_numbers(json_t *root, ngx_gate_block_t *b)
{
    uint64_t  canary, stable;

    canary = ngx_gate_peek(&b->arm[NGX_GATE_CANARY].requests);
    stable = ngx_gate_peek(&b->arm[NGX_GATE_STABLE].requests);

    (void) json_object_set_new(root, "weight_before",
                               ngx_gate_event_percent(b->weight / 100.0));
    (void) json_object_set_new(root, "weight_after", json_integer(0));
    (void) json_object_set_new(root, "actual_share",
                               (canary + stable)
                               ? ngx_gate_event_percent(100.0 * canary
                                                        / (canary + stable))
                               : json_null());
    (void) json_object_set_new(root, "step_seconds",
                               json_real((ngx_msec_int_t)
                                         (ngx_current_msec
                                          - (ngx_msec_t) b->started_msec)
                                         / 1000.0));
    (void) json_object_set_new(root, "canary_arm",
                           ngx_gate_event_arm(&b->arm[NGX_GATE_CANARY]));
    (void) json_object_set_new(root, "stable_arm",
                           ngx_gate_event_arm(&b->arm[NGX_GATE_STABLE]));
    (void) json_object_set_new(root, "client_failures_prevented",
                               json_integer((json_int_t)
                                            ngx_gate_peek(&b->saved)));
}


static json_t *
ngx_gate_event_arm(ngx_gate_arm_t *arm)
{
    double       q;
    json_t      *root;
    uint32_t     h[GATE_HIST_BUCKETS];
    uint64_t     total;
    ngx_uint_t   i;

    static struct {
        const char  *name;
        double       q;
    } quantile[] = {
        { "p50_ms", 0.50 },
        { "p95_ms", 0.95 },
        { "p99_ms", 0.99 }
    };

    total = 0;

    for (i = 0; i < GATE_HIST_BUCKETS; i++) {
        h[i] = ngx_gate_peek(&arm->hist[i]);
        total += h[i];
    }

    root = json_pack("{s:I, s:I, s:I, s:I, s:I}",
                     "requests", (json_int_t) arm->requests,
                     "attempts",
                     (json_int_t) arm->attempts[NGX_GATE_KIND_NORMAL],
                     "failures",
                     (json_int_t) arm->failures[NGX_GATE_KIND_NORMAL],
                     "unavailable", (json_int_t) arm->unavailable,
                     "censored", (json_int_t) arm->censored);

    for (i = 0; root && i < 3; i++) {
        q = gate_hist_quantile(h, total, quantile[i].q);

        (void) json_object_set_new(root, quantile[i].name,
                                   isfinite(q) ? json_real(q) : json_null());
    }

    return root;
}


static json_t *
ngx_gate_event_percent(double v)
{
    /* to a hundredth, which is what a weight can be */

    v = (double) (int64_t) (v * 100.0 + 0.5) / 100.0;

    return (v == (double) (int64_t) v) ? json_integer((json_int_t) v)
                                       : json_real(v);
}


static char *
ngx_gate_event_time(int64_t msec, char *buf)
{
    ngx_tm_t  tm;

    ngx_gmtime((time_t) (msec / 1000), &tm);

    (void) ngx_snprintf((u_char *) buf, NGX_GATE_TIME_LEN,
                        "%4d-%02d-%02dT%02d:%02d:%02d.%03dZ%Z",
                        tm.ngx_tm_year, tm.ngx_tm_mon, tm.ngx_tm_mday,
                        tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec,
                        (int) (msec % 1000));

    return buf;
}


void
ngx_gate_event_audit(ngx_gate_node_t *node, const char *what,
    ngx_str_t *object, const char *source, const char *actor,
    const char *before, const char *after, const char *reason)
{
    char    *text, now[NGX_GATE_TIME_LEN];
    size_t   len;
    json_t  *root;

    root = json_pack("{s:s, s:s, s:s%, s:s%, s:s, s:s, s:s?, s:s?, s:s?}",
                     "event", what,
                     "time", ngx_gate_event_time(ngx_gate_now(), now),
                     "node", (char *) ngx_cycle->hostname.data,
                             ngx_cycle->hostname.len,
                     "object", (char *) object->data, object->len,
                     "source", source,
                     "by", actor,
                     "before", before,
                     "after", after,
                     "reason", reason);

    text = root ? json_dumps(root, JSON_COMPACT|JSON_ENSURE_ASCII) : NULL;
    json_decref(root);

    if (text == NULL) {
        return;
    }

    len = ngx_strlen(text);

    ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0, "gate: %s", text);

    if (len < NGX_GATE_RECORD_LEN) {
        ngx_gate_event_add(node, text, len);
    }

    free(text);
}

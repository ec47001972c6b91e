
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Switches and rollouts as JSON, for gate_status and gate_api.
 */


#include "ngx_http_gate_json.h"


#define NGX_HTTP_GATE_BEAT_MSEC  3000

/* longer text that is not UTF-8 is cut */
#define NGX_HTTP_GATE_BYTES_MAX  512


static void ngx_http_gate_view_add(ngx_gate_arm_t *to, ngx_gate_arm_t *from);
static void ngx_http_gate_view_fleet(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, ngx_http_gate_view_t *view);
static void ngx_http_gate_view_vector(ngx_gate_arm_t *to, uint64_t *v);
static json_t *ngx_http_gate_json_number(double v);
static json_t *ngx_http_gate_json_percent(ngx_uint_t weight);
static void ngx_http_gate_json_value(json_t *o, gate_switch_value_t *v);
static json_t *ngx_http_gate_json_kind(ngx_gate_arm_t *a, ngx_uint_t kind);
static json_t *ngx_http_gate_json_totals(ngx_http_gate_view_t *view);
static json_t *ngx_http_gate_json_arm(ngx_str_t *name,
    ngx_http_gate_view_t *view, ngx_uint_t arm);
static json_t *ngx_http_gate_json_share(ngx_http_gate_view_t *view);
static json_t *ngx_http_gate_json_rule(ngx_gate_rule_t *rule,
    ngx_gate_look_t *look);
static void ngx_http_gate_json_rules(json_t *o, ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, uint64_t w);
static json_t *ngx_http_gate_json_record(ngx_http_gate_view_t *view);
static void ngx_http_gate_json_state(json_t *o, ngx_gate_rollout_conf_t *rc,
    ngx_http_gate_view_t *view);


void
ngx_http_gate_view(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    ngx_http_gate_view_t *view)
{
    ngx_uint_t           i, n, k;
    ngx_gate_arm_t      *arm;
    ngx_gate_rollout_t  *ro;

    ro = rc->sh;

    ngx_memzero(view, sizeof(ngx_http_gate_view_t));

    ngx_shmtx_lock(&node->shpool->mutex);

    view->word = ngx_gate_load(&ro->word);
    view->block = *ngx_gate_evidence_block(ro, view->word);
    view->saved = ro->saved_retired;
    view->fallbacks = ro->fallbacks_retired;
    view->flips = ngx_gate_peek(&ro->flips_total);
    view->since = ro->since;
    view->epoch_since = ro->epoch_since;

    ngx_memcpy(view->breaker, ro->breaker, sizeof(view->breaker));
    ngx_memcpy(view->hist, ro->hist_retired, sizeof(view->hist));
    ngx_memcpy(view->id, ro->id, sizeof(view->id));
    ngx_memcpy(view->reason, ro->reason, sizeof(view->reason));
    ngx_memcpy(view->source, ro->source, sizeof(view->source));
    ngx_memcpy(view->actor, ro->actor, sizeof(view->actor));

    view->record_len = ngx_min(ro->record_len, sizeof(view->record));
    ngx_memcpy(view->record, ro->record, view->record_len);

    for (i = 0; i < NGX_GATE_ARMS; i++) {
        ngx_http_gate_view_add(&view->total[i], &ro->retired[i]);
    }

    for (n = 0; n < NGX_GATE_BLOCKS; n++) {
        view->saved += ngx_gate_peek(&ro->blocks[n].saved);
        view->fallbacks += ngx_gate_peek(&ro->blocks[n].fallbacks);

        for (i = 0; i < NGX_GATE_ARMS; i++) {
            arm = &ro->blocks[n].arm[i];

            ngx_http_gate_view_add(&view->total[i], arm);

            for (k = 0; k < GATE_HIST_BUCKETS; k++) {
                view->hist[i][k] += ngx_gate_peek(&arm->hist[k]);
            }
        }
    }

    ngx_http_gate_view_fleet(node, rc, view);

    ngx_shmtx_unlock(&node->shpool->mutex);
}


/* Under the mutex, for the block must not be taken for another step. */

static void
ngx_http_gate_view_fleet(ngx_gate_node_t *node, ngx_gate_rollout_conf_t *rc,
    ngx_http_gate_view_t *view)
{
    ngx_uint_t           i;
    ngx_gate_rollout_t  *ro;

    ro = rc->sh;

    view->known = ro->known;
    view->provisional = ro->provisional;
    view->opening = ro->opening;
    view->foreign = ro->foreign;
    view->members = ngx_gate_peek(&ro->fleet_members);
    view->synced = ngx_gate_peek(&ro->remote.synced);

    view->told = (ngx_gate_vector_fleet(node, rc,
                                    ngx_gate_evidence_block(ro, view->word),
                                    view->fleet)
                  == NGX_OK);

    for (i = 0; i < NGX_GATE_ARMS; i++) {
        view->acked[i] = ngx_gate_peek(&ro->acked_total[i
                                                   * NGX_GATE_VECTOR_ARM]);

        ngx_http_gate_view_vector(&view->fleet_total[i],
                                  &ro->fleet_total[i * NGX_GATE_VECTOR_ARM]);
    }
}


static void
ngx_http_gate_view_vector(ngx_gate_arm_t *to, uint64_t *v)
{
    ngx_uint_t  i;

    to->requests = ngx_gate_peek(&v[NGX_GATE_VECTOR_REQUESTS]);
    to->begun = ngx_gate_peek(&v[NGX_GATE_VECTOR_BEGUN]);
    to->unavailable = ngx_gate_peek(&v[NGX_GATE_VECTOR_UNAVAILABLE]);
    to->broken = ngx_gate_peek(&v[NGX_GATE_VECTOR_BROKEN]);
    to->censored = ngx_gate_peek(&v[NGX_GATE_VECTOR_CENSORED]);

    for (i = 0; i < NGX_GATE_KINDS; i++) {
        to->attempts[i] = ngx_gate_peek(&v[NGX_GATE_VECTOR_ATTEMPTS + i]);
        to->failures[i] = ngx_gate_peek(&v[NGX_GATE_VECTOR_FAILURES + i]);
    }
}


static void
ngx_http_gate_view_add(ngx_gate_arm_t *to, ngx_gate_arm_t *from)
{
    ngx_uint_t  i;

    to->requests += ngx_gate_peek(&from->requests);
    to->unavailable += ngx_gate_peek(&from->unavailable);
    to->broken += ngx_gate_peek(&from->broken);
    to->censored += ngx_gate_peek(&from->censored);

    for (i = 0; i < NGX_GATE_KINDS; i++) {
        to->attempts[i] += ngx_gate_peek(&from->attempts[i]);
        to->failures[i] += ngx_gate_peek(&from->failures[i]);
    }
}


ngx_uint_t
ngx_http_gate_breaker_open(ngx_gate_breaker_t *b)
{
    return b->failures
           && (ngx_msec_int_t) (b->open_until - ngx_current_msec) > 0;
}


ngx_uint_t
ngx_http_gate_agent_alive(ngx_gate_zone_t *sh)
{
    uint32_t        pid;
    ngx_uint_t      i;
    ngx_msec_int_t  age;

    pid = (uint32_t) ngx_gate_load(&sh->agent);
    age = (ngx_msec_int_t) (ngx_current_msec
                            - (ngx_msec_t) ngx_gate_peek(&sh->agent_beat));

    if (pid == 0 || age > NGX_HTTP_GATE_BEAT_MSEC) {
        return 0;
    }

    for (i = 0; i < NGX_GATE_SLOTS; i++) {

        if (ngx_gate_peek(&sh->slots[i].pid) == pid) {
            return ngx_gate_slot_alive(&sh->slots[i]);
        }
    }

    return 0;
}


u_char *
ngx_http_gate_time(u_char *p, int64_t msec)
{
    ngx_tm_t  tm;

    msec = ngx_max(msec, 0);

    ngx_gmtime((time_t) (msec / 1000), &tm);

    return ngx_sprintf(p, "%4d-%02d-%02dT%02d:%02d:%02d.%03dZ",
                       tm.ngx_tm_year, tm.ngx_tm_mon, tm.ngx_tm_mday,
                       tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec,
                       (int) (msec % 1000));
}


json_t *
ngx_http_gate_json_bytes(const u_char *p, size_t len)
{
    char     text[NGX_HTTP_GATE_BYTES_MAX];
    size_t   i;
    json_t  *s;

    s = json_stringn((const char *) p, len);
    if (s) {
        return s;
    }

    len = ngx_min(len, sizeof(text));

    for (i = 0; i < len; i++) {
        text[i] = (p[i] < 0x80) ? (char) p[i] : '?';
    }

    return json_stringn(text, len);
}


json_t *
ngx_http_gate_json_text(const char *s)
{
    if (*s == '\0') {
        return json_null();
    }

    return ngx_http_gate_json_bytes((const u_char *) s, ngx_strlen(s));
}


json_t *
ngx_http_gate_json_time(int64_t msec)
{
    u_char  buf[NGX_HTTP_GATE_TIME_LEN + NGX_INT64_LEN], *p;

    if (msec <= 0) {
        return json_null();
    }

    p = ngx_http_gate_time(buf, msec);

    return json_stringn((char *) buf, p - buf);
}


static json_t *
ngx_http_gate_json_number(double v)
{
    if (!isfinite(v)) {
        return json_null();
    }

    if (v == floor(v) && fabs(v) < 1e15) {
        return json_integer((json_int_t) v);
    }

    return json_real(v);
}


static json_t *
ngx_http_gate_json_percent(ngx_uint_t weight)
{
    return ngx_http_gate_json_number((double) weight / 100);
}


json_t *
ngx_http_gate_json_switch(ngx_gate_node_t *node, ngx_uint_t i)
{
    json_t               *o, *in;
    ngx_uint_t            file;
    ngx_gate_switch_t     s;
    gate_switch_value_t  *v;
    ngx_gate_inflight_t   sum;

    ngx_gate_switch_read(&node->sh->switches[node->sw_map[i]], &s);
    ngx_gate_switch_inflight(node->sh, node->sw_map[i], &sum);

    v = ngx_gate_switch_value(&s);
    file = (v == &s.file);

    o = json_object();

    ngx_http_gate_json_bool(o, "on", ngx_gate_switch_on(s.effective));
    ngx_http_gate_json_bool(o, "read_only",
                            (s.effective & NGX_GATE_SWITCH_READ_ONLY) != 0);
    ngx_http_gate_json_bool(o, "observed",
                            (s.effective & NGX_GATE_SWITCH_OBSERVED) != 0);
    ngx_http_gate_json_set(o, "source",
                ngx_http_gate_json_text(file ? "file" : s.control_source));
    ngx_http_gate_json_set(o, "since", ngx_http_gate_json_time(s.since));
    ngx_http_gate_json_set(o, "actor",
                ngx_http_gate_json_text(file ? "" : s.control_actor));
    ngx_http_gate_json_known(o, &s.known);
    ngx_http_gate_json_set(o, "control",
                s.control_since ? gate_switch_to_json(&s.control)
                                : json_null());
    ngx_http_gate_json_set(o, "file",
                s.file_generation ? gate_switch_to_json(&s.file)
                                  : json_null());

    ngx_http_gate_json_value(o, v);

    in = json_object();

    ngx_http_gate_json_int(in, "admitted", sum.admitted);
    ngx_http_gate_json_int(in, "bypassed", sum.bypassed);
    ngx_http_gate_json_int(in, "upgraded", sum.upgraded);

    ngx_http_gate_json_set(o, "in_flight", in);
    ngx_http_gate_json_int(o, "refused_total", s.refused_total);
    ngx_http_gate_json_int(o, "observed_total", s.observed_total);
    ngx_http_gate_json_int(o, "admitted_total", sum.admitted_total);
    ngx_http_gate_json_int(o, "bypassed_total", sum.bypassed_total);

    return o;
}


static void
ngx_http_gate_json_value(json_t *o, gate_switch_value_t *v)
{
    ngx_http_gate_json_set(o, "message", v->message_len
                ? ngx_http_gate_json_bytes(v->message, v->message_len)
                : json_null());
    ngx_http_gate_json_set(o, "retry_after", v->retry_after
                ? json_integer(v->retry_after) : json_null());
    ngx_http_gate_json_set(o, "from",
                ngx_http_gate_json_time(v->from * 1000));
    ngx_http_gate_json_set(o, "until",
                ngx_http_gate_json_time(v->until * 1000));
}


json_t *
ngx_http_gate_json_switches(ngx_gate_node_t *node)
{
    char         name[NGX_GATE_NAME_LEN];
    json_t      *o;
    ngx_str_t   *s;
    ngx_uint_t   i;

    o = json_object();
    s = node->switches.elts;

    for (i = 0; i < node->switches.nelts; i++) {
        ngx_gate_text(name, sizeof(name), s[i].data, s[i].len);

        ngx_http_gate_json_set(o, s[i].len ? name : "global",
                               ngx_http_gate_json_switch(node, i));
    }

    return o;
}


static json_t *
ngx_http_gate_json_kind(ngx_gate_arm_t *a, ngx_uint_t kind)
{
    json_t  *o;

    o = json_object();

    ngx_http_gate_json_int(o, "attempts", a->attempts[kind]);
    ngx_http_gate_json_int(o, "failures", a->failures[kind]);

    return o;
}


void
ngx_http_gate_json_counts(json_t *o, ngx_gate_arm_t *a)
{
    double  attempts, failures;

    attempts = (double) a->attempts[NGX_GATE_KIND_NORMAL];
    failures = (double) a->failures[NGX_GATE_KIND_NORMAL];

    ngx_http_gate_json_int(o, "requests", a->requests);
    ngx_http_gate_json_int(o, "attempts", a->attempts[NGX_GATE_KIND_NORMAL]);
    ngx_http_gate_json_int(o, "failures", a->failures[NGX_GATE_KIND_NORMAL]);
    ngx_http_gate_json_set(o, "error_rate", attempts > 0
                           ? ngx_http_gate_json_number(failures / attempts)
                           : json_null());
    ngx_http_gate_json_int(o, "unavailable", a->unavailable);
    ngx_http_gate_json_int(o, "broken", a->broken);
    ngx_http_gate_json_int(o, "censored", a->censored);
    ngx_http_gate_json_set(o, "forced",
                           ngx_http_gate_json_kind(a, NGX_GATE_KIND_FORCED));
    ngx_http_gate_json_set(o, "fallback",
                         ngx_http_gate_json_kind(a, NGX_GATE_KIND_FALLBACK));
}


static json_t *
ngx_http_gate_json_totals(ngx_http_gate_view_t *view)
{
    json_t  *o, *stable, *canary;

    o = json_object();
    stable = json_object();
    canary = json_object();

    ngx_http_gate_json_counts(stable, &view->total[NGX_GATE_STABLE]);
    ngx_http_gate_json_counts(canary, &view->total[NGX_GATE_CANARY]);

    ngx_http_gate_json_set(o, "stable", stable);
    ngx_http_gate_json_set(o, "canary", canary);

    return o;
}


void
ngx_http_gate_json_quantiles(json_t *o, ngx_gate_arm_t *a)
{
    double      v;
    uint64_t    total;
    ngx_uint_t  i;

    static const struct {
        const char  *key;
        double       q;
    } quantiles[] = {
        { "p50_ms", 0.5 },
        { "p95_ms", 0.95 },
        { "p99_ms", 0.99 }
    };

    total = 0;

    for (i = 0; i < GATE_HIST_BUCKETS; i++) {
        total += a->hist[i];
    }

    for (i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
        v = gate_hist_quantile(a->hist, total, quantiles[i].q);

        ngx_http_gate_json_set(o, quantiles[i].key,
                               ngx_http_gate_json_number(v));
    }
}


static json_t *
ngx_http_gate_json_arm(ngx_str_t *name, ngx_http_gate_view_t *view,
    ngx_uint_t arm)
{
    json_t              *o, *breaker;
    ngx_gate_arm_t      *a;
    ngx_gate_breaker_t  *b;

    a = &view->block.arm[arm];
    b = &view->breaker[arm];

    o = json_object();

    ngx_http_gate_json_set(o, "upstream",
                           ngx_http_gate_json_bytes(name->data, name->len));

    ngx_http_gate_json_counts(o, a);
    ngx_http_gate_json_quantiles(o, a);

    breaker = json_object();

    ngx_http_gate_json_bool(breaker, "open", ngx_http_gate_breaker_open(b));
    ngx_http_gate_json_int(breaker, "failures", b->failures);
    ngx_http_gate_json_int(breaker, "opened_total", b->opened_total);

    ngx_http_gate_json_set(o, "breaker", breaker);

    return o;
}


/* the canary's share of the requests of this step, in percent */

static json_t *
ngx_http_gate_json_share(ngx_http_gate_view_t *view)
{
    double  canary, stable;

    canary = (double) view->block.arm[NGX_GATE_CANARY].requests;
    stable = (double) view->block.arm[NGX_GATE_STABLE].requests;

    if (canary + stable == 0) {
        return json_null();
    }

    return ngx_http_gate_json_number(100 * canary / (canary + stable));
}


static json_t *
ngx_http_gate_json_rule(ngx_gate_rule_t *rule, ngx_gate_look_t *look)
{
    json_t  *o;

    o = json_object();

    ngx_http_gate_json_set(o, "rule",
                ngx_http_gate_json_bytes(rule->text.data, rule->text.len));
    ngx_http_gate_json_int(o, "n", look->n);
    ngx_http_gate_json_set(o, "value",
                           ngx_http_gate_json_number(look->value));
    ngx_http_gate_json_set(o, "bound",
                           ngx_http_gate_json_number(look->bound));

    if (rule->type == NGX_GATE_RULE_QUANTILE) {
        ngx_http_gate_json_int(o, "threshold_ms", rule->threshold);
    }

    ngx_http_gate_json_int(o, "min", rule->min);
    ngx_http_gate_json_set(o, "window_s",
                ngx_http_gate_json_number((double) rule->window / 1000));
    ngx_http_gate_json_set(o, "hold_s",
                ngx_http_gate_json_number((double) rule->hold / 1000));
    ngx_http_gate_json_bool(o, "enough", look->enough);
    ngx_http_gate_json_bool(o, "over", look->over);

    return o;
}


static void
ngx_http_gate_json_rules(json_t *o, ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc, uint64_t w)
{
    json_t            *list, *rule;
    ngx_uint_t         i, fail, enough, cause;
    ngx_gate_look_t    look;
    ngx_gate_block_t  *b;

    /* no copy of it: a window is found by the tag that its block has now */

    b = ngx_gate_evidence_block(rc->sh, w);

    cause = ngx_gate_word_cause(w);
    fail = (cause != 0 && cause != NGX_GATE_CAUSE_OPERATOR
            && ngx_gate_word_state(w) == GATE_ROLLED_BACK);

    /* nothing passes where nothing is asked for */

    enough = (rc->nrules != 0);

    list = json_array();

    for (i = 0; i < rc->nrules; i++) {
        ngx_gate_verdict_show(node, rc, i, b, &look);

        fail |= look.over;
        enough &= look.enough;

        rule = ngx_http_gate_json_rule(&rc->rules[i], &look);

        if (node->redis) {
            ngx_http_gate_json_set(rule, "scope",
                                   json_string(ngx_gate_scope_name(&look)));
        }

        (void) json_array_append_new(list, rule);
    }

    ngx_http_gate_json_set(o, "rules", list);
    ngx_http_gate_json_set(o, "verdict",
                           json_string(fail ? "fail" : enough ? "pass"
                                                     : "inconclusive"));
}


static json_t *
ngx_http_gate_json_record(ngx_http_gate_view_t *view)
{
    json_t  *o;

    if (view->record_len == 0) {
        return json_null();
    }

    o = json_loadb(view->record, view->record_len, JSON_REJECT_DUPLICATES,
                   NULL);

    return o ? o : json_null();
}


static void
ngx_http_gate_json_state(json_t *o, ngx_gate_rollout_conf_t *rc,
    ngx_http_gate_view_t *view)
{
    uint64_t  w;

    w = view->word;

    ngx_http_gate_json_set(o, "stable",
                ngx_http_gate_json_bytes(rc->stable.data, rc->stable.len));
    ngx_http_gate_json_set(o, "canary",
                ngx_http_gate_json_bytes(rc->canary.data, rc->canary.len));
    ngx_http_gate_json_set(o, "id", ngx_http_gate_json_text(view->id));
    ngx_http_gate_json_set(o, "state",
                json_string(gate_rollout_state_name(ngx_gate_word_state(w))));
    ngx_http_gate_json_int(o, "epoch", ngx_gate_word_epoch(w));
    ngx_http_gate_json_int(o, "step", view->block.step);
    ngx_http_gate_json_set(o, "since", ngx_http_gate_json_time(view->since));
    ngx_http_gate_json_set(o, "epoch_since",
                           ngx_http_gate_json_time(view->epoch_since));
    ngx_http_gate_json_set(o, "reason",
                           ngx_http_gate_json_text(view->reason));
    ngx_http_gate_json_set(o, "source",
                           ngx_http_gate_json_text(view->source));
    ngx_http_gate_json_set(o, "actor", ngx_http_gate_json_text(view->actor));
    ngx_http_gate_json_known(o, &view->known);
    ngx_http_gate_json_bool(o, "provisional", view->provisional);
    ngx_http_gate_json_bool(o, "opening", view->opening);
    ngx_http_gate_json_bool(o, "foreign", view->foreign);

    ngx_http_gate_json_set(o, "weight",
                ngx_http_gate_json_percent(ngx_gate_word_weight(w)));
    ngx_http_gate_json_set(o, "weight_configured",
                           ngx_http_gate_json_percent(rc->weight));
    ngx_http_gate_json_bool(o, "weight_differs",
                            ngx_gate_word_weight(w) != rc->weight);
    ngx_http_gate_json_set(o, "actual_share", ngx_http_gate_json_share(view));
}


json_t *
ngx_http_gate_json_rollout(ngx_gate_node_t *node,
    ngx_gate_rollout_conf_t *rc)
{
    json_t                *o, *arms;
    ngx_http_gate_view_t   view;

    ngx_http_gate_view(node, rc, &view);

    o = json_object();
    arms = json_object();

    ngx_http_gate_json_state(o, rc, &view);

    ngx_http_gate_json_set(arms, "stable",
             ngx_http_gate_json_arm(&rc->stable, &view, NGX_GATE_STABLE));
    ngx_http_gate_json_set(arms, "canary",
             ngx_http_gate_json_arm(&rc->canary, &view, NGX_GATE_CANARY));

    ngx_http_gate_json_set(o, "arms", arms);
    ngx_http_gate_json_int(o, "saved", view.block.saved);
    ngx_http_gate_json_int(o, "fallbacks", view.block.fallbacks);
    ngx_http_gate_json_set(o, "totals", ngx_http_gate_json_totals(&view));
    ngx_http_gate_json_int(o, "flips_total", view.flips);
    ngx_http_gate_json_set(o, "fleet",
                           ngx_http_gate_json_members(node, &view));

    ngx_http_gate_json_rules(o, node, rc, view.word);

    ngx_http_gate_json_set(o, "last_record", ngx_http_gate_json_record(&view));

    return o;
}


json_t *
ngx_http_gate_json_rollouts(ngx_gate_node_t *node)
{
    char                       name[NGX_GATE_NAME_LEN];
    json_t                    *o;
    ngx_uint_t                 i;
    ngx_gate_rollout_conf_t  **rc;

    o = json_object();
    rc = node->rollouts.elts;

    for (i = 0; i < node->rollouts.nelts; i++) {
        ngx_gate_text(name, sizeof(name), rc[i]->name.data, rc[i]->name.len);

        ngx_http_gate_json_set(o, name,
                               ngx_http_gate_json_rollout(node, rc[i]));
    }

    return o;
}

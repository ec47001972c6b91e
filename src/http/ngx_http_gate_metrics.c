
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gate_metrics: Prometheus text format 0.0.4.
 *
 * Everything that is a counter is taken over all steps and processes since
 * the zone was made, so that it never goes back.  Label values are names of
 * the configuration: no client can add a series.
 */


#include "ngx_http_gate_json.h"
#include "ngx_http_gate_cursor.h"
#include "ngx_http_gate_limit.h"
#include "ngx_http_gate_out.h"

#include "core/gate_text.h"


#define NGX_HTTP_GATE_BOUNDS  14


/* a switch or a rollout with its name as a label */

typedef struct {
    ngx_str_t                     label;
    ngx_gate_rollout_conf_t      *rc;
    ngx_http_gate_view_t          view;
} ngx_http_gate_rollout_row_t;


typedef struct {
    ngx_str_t                     label;
    ngx_gate_switch_t            *sh;
    ngx_gate_inflight_t           sum;
} ngx_http_gate_switch_row_t;


typedef struct {
    ngx_http_gate_out_t           out;
    ngx_gate_node_t              *node;
    ngx_http_gate_switch_row_t   *switches;
    ngx_uint_t                    nswitches;
    ngx_http_gate_rollout_row_t  *rollouts;
    ngx_uint_t                    nrollouts;
} ngx_http_gate_metrics_t;


static ngx_int_t ngx_http_gate_metrics_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_gate_metrics_collect(ngx_http_gate_metrics_t *m,
    ngx_pool_t *pool);
static ngx_int_t ngx_http_gate_metrics_label(ngx_pool_t *pool,
    ngx_str_t *name, ngx_str_t *label);
static void ngx_http_gate_metrics_node(ngx_http_gate_metrics_t *m);
static void ngx_http_gate_metrics_modes(ngx_http_gate_metrics_t *m);
static void ngx_http_gate_metrics_redis(ngx_http_gate_metrics_t *m);
static void ngx_http_gate_metrics_rtt(ngx_http_gate_metrics_t *m);
static void ngx_http_gate_metrics_switches(ngx_http_gate_metrics_t *m);
static void ngx_http_gate_metrics_switch(ngx_http_gate_out_t *out,
    const char *name, ngx_http_gate_switch_row_t *s, const char *what,
    uint64_t n);
static void ngx_http_gate_metrics_states(ngx_http_gate_metrics_t *m);
static void ngx_http_gate_metrics_attempts(ngx_http_gate_metrics_t *m);
static void ngx_http_gate_metrics_kinds(ngx_http_gate_out_t *out,
    const char *name, ngx_http_gate_rollout_row_t *row, ngx_uint_t arm,
    uint64_t *n);
static void ngx_http_gate_metrics_arms(ngx_http_gate_metrics_t *m);
static void ngx_http_gate_metrics_rollouts(ngx_http_gate_metrics_t *m);
static void ngx_http_gate_metrics_latency(ngx_http_gate_metrics_t *m);
static void ngx_http_gate_metrics_histogram(ngx_http_gate_out_t *out,
    ngx_http_gate_rollout_row_t *row, ngx_uint_t arm, ngx_uint_t *bound,
    ngx_uint_t nbounds);
static void ngx_http_gate_metrics_bucket(ngx_http_gate_out_t *out,
    ngx_http_gate_rollout_row_t *row, const char *arm, ngx_uint_t bound,
    uint64_t count);
static ngx_uint_t ngx_http_gate_metrics_bounds(ngx_gate_rollout_conf_t *rc,
    ngx_uint_t *bound);


static const char  *ngx_http_gate_arm_names[NGX_GATE_ARMS] = {
    "stable", "canary"
};

static const char  *ngx_http_gate_kind_names[NGX_GATE_KINDS] = {
    "normal", "forced", "fallback"
};

/* ms; those that OpenTelemetry recommends for durations */

static ngx_uint_t  ngx_http_gate_bounds[NGX_HTTP_GATE_BOUNDS] = {
    5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000
};


static ngx_int_t
ngx_http_gate_metrics_handler(ngx_http_request_t *r)
{
    ngx_int_t                   rc;
    ngx_http_gate_metrics_t     m;
    ngx_http_gate_main_conf_t  *gmcf;

    rc = ngx_http_gate_only_get(r);
    if (rc != NGX_OK) {
        return rc;
    }

    gmcf = ngx_http_get_module_main_conf(r, ngx_http_gate_module);

    ngx_memzero(&m, sizeof(ngx_http_gate_metrics_t));

    m.node = &gmcf->node;
    m.out.pool = r->pool;

    if (ngx_http_gate_metrics_collect(&m, r->pool) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_gate_metrics_node(&m);
    ngx_http_gate_metrics_modes(&m);

    if (m.node->redis) {
        ngx_http_gate_metrics_redis(&m);
        ngx_http_gate_metrics_rtt(&m);
    }

    ngx_http_gate_metrics_switches(&m);
    ngx_http_gate_metrics_states(&m);
    ngx_http_gate_metrics_attempts(&m);
    ngx_http_gate_metrics_arms(&m);
    ngx_http_gate_metrics_rollouts(&m);
    ngx_http_gate_metrics_latency(&m);
    ngx_http_gate_metrics_limits(&m.out, m.node);
    ngx_http_gate_metrics_cursors(&m.out, gmcf);

    if (m.out.failed) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_gate_send_chain(r, NGX_HTTP_OK,
                                    "text/plain; version=0.0.4",
                                    m.out.first, m.out.size);
}


static ngx_int_t
ngx_http_gate_metrics_collect(ngx_http_gate_metrics_t *m, ngx_pool_t *pool)
{
    ngx_str_t                    *name, global;
    ngx_uint_t                    i;
    ngx_gate_rollout_conf_t     **rc;
    ngx_http_gate_switch_row_t   *s;
    ngx_http_gate_rollout_row_t  *ro;

    m->nswitches = m->node->switches.nelts;
    m->nrollouts = m->node->rollouts.nelts;

    m->switches = ngx_palloc(pool, (m->nswitches + 1)
                                   * sizeof(ngx_http_gate_switch_row_t));
    m->rollouts = ngx_palloc(pool, (m->nrollouts + 1)
                                   * sizeof(ngx_http_gate_rollout_row_t));

    if (m->switches == NULL || m->rollouts == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&global, "global");

    name = m->node->switches.elts;

    for (i = 0; i < m->nswitches; i++) {
        s = &m->switches[i];

        s->sh = &m->node->sh->switches[m->node->sw_map[i]];

        ngx_gate_switch_inflight(m->node->sh, m->node->sw_map[i], &s->sum);

        if (ngx_http_gate_metrics_label(pool, name[i].len ? &name[i] : &global,
                                        &s->label)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    rc = m->node->rollouts.elts;

    for (i = 0; i < m->nrollouts; i++) {
        ro = &m->rollouts[i];

        ro->rc = rc[i];

        ngx_http_gate_view(m->node, rc[i], &ro->view);

        if (ngx_http_gate_metrics_label(pool, &rc[i]->name, &ro->label)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_metrics_label(ngx_pool_t *pool, ngx_str_t *name,
    ngx_str_t *label)
{
    label->len = gate_escape_label(NULL, name->data, name->len);

    label->data = ngx_pnalloc(pool, label->len);
    if (label->data == NULL) {
        return NGX_ERROR;
    }

    (void) gate_escape_label(label->data, name->data, name->len);

    return NGX_OK;
}


static void
ngx_http_gate_metrics_node(ngx_http_gate_metrics_t *m)
{
    ngx_gate_zone_t      *sh;
    ngx_http_gate_out_t  *out;

    sh = m->node->sh;
    out = &m->out;

    ngx_http_gate_family(out, "info", "gauge", "What runs here.");
    ngx_http_gate_print(out, "nginx_gate_info{version=\"%s\","
                        "nginx_version=\"%s\"} 1\n",
                        NGX_HTTP_GATE_VERSION, NGINX_VERSION);

    ngx_http_gate_family(out, "zone_bytes", "gauge",
                         "Shared memory of this node.");
    ngx_http_gate_print(out, "nginx_gate_zone_bytes{kind=\"size\"} %uz\n",
                        m->node->shm_zone->shm.size);
    ngx_http_gate_print(out, "nginx_gate_zone_bytes{kind=\"free\"} %uz\n",
                        (size_t) (m->node->shpool->pfree * ngx_pagesize));

    ngx_http_gate_family(out, "state_saves_total", "counter",
                         "Times the state file was written.");
    ngx_http_gate_print(out, "nginx_gate_state_saves_total %uL\n",
                        ngx_gate_peek(&sh->store.saves_total));

    ngx_http_gate_family(out, "state_errors_total", "counter",
                         "Times the state file could not be written.");
    ngx_http_gate_print(out, "nginx_gate_state_errors_total %uL\n",
                        ngx_gate_peek(&sh->store.errors_total));

    ngx_http_gate_family(out, "maintenance_file_errors_total", "counter",
                         "Times a maintenance file was not understood.");
    ngx_http_gate_print(out, "nginx_gate_maintenance_file_errors_total %uL\n",
                        ngx_gate_peek(&sh->store.file_errors_total));

    ngx_http_gate_family(out, "agent_up", "gauge",
                         "Whether one of the workers is at work as agent.");
    ngx_http_gate_print(out, "nginx_gate_agent_up %ui\n",
                        ngx_http_gate_agent_alive(sh));

    ngx_http_gate_family(out, "agent_elections_total", "counter",
                         "Times a worker became the agent.");
    ngx_http_gate_print(out, "nginx_gate_agent_elections_total %uL\n",
                        ngx_gate_peek(&sh->agents_total));

    ngx_http_gate_family(out, "events_total", "counter",
                         "Flips and operators' writes that were recorded.");
    ngx_http_gate_print(out, "nginx_gate_events_total %uL\n",
                        ngx_gate_peek(&sh->events_total));
}


static void
ngx_http_gate_metrics_modes(ngx_http_gate_metrics_t *m)
{
    uint64_t     value;
    ngx_uint_t   i, n;

    ngx_http_gate_family(&m->out, "mode", "gauge",
                         "1 for the mode that the gate is in.");

    for (i = 0; i < NGX_GATE_MODES; i++) {
        value = ngx_gate_mode(m->node->sh, i);

        for (n = NGX_GATE_MODE_ENFORCE; n <= NGX_GATE_MODE_OFF; n++) {
            ngx_http_gate_print(&m->out, "nginx_gate_mode{gate=\"%s\","
                                "mode=\"%s\"} %d\n",
                                ngx_gate_mode_gate_name(i),
                                ngx_gate_mode_name(n), n == value);
        }
    }
}


static void
ngx_http_gate_metrics_redis(ngx_http_gate_metrics_t *m)
{
    uint64_t              unsent, joined;
    ngx_uint_t            i;
    ngx_gate_fleet_t     *f;
    ngx_http_gate_out_t  *out;

    f = &m->node->sh->fleet;
    out = &m->out;

    joined = (ngx_gate_peek(&f->joined) != 0);
    unsent = 0;

    for (i = 0; i < m->nrollouts; i++) {
        unsent += ngx_http_gate_unsent(&m->rollouts[i].view);
    }

    const struct {
        const char  *name;
        const char  *type;
        const char  *help;
        uint64_t     n;
    } family[] = {
        { "redis_up", "gauge", "Whether Redis answered just now.",
          ngx_http_gate_redis_alive(m->node) },
        { "redis_joined", "gauge",
          "Whether all that Redis has was read since it is connected.",
          joined },
        { "redis_commands_total", "counter", "Commands sent to Redis.",
          ngx_gate_peek(&f->commands_total) },
        { "redis_connects_total", "counter",
          "Times a session with Redis came about.",
          ngx_gate_peek(&f->connects_total) },
        { "redis_reconnects_total", "counter",
          "Times it came about again.",
          ngx_gate_peek(&f->reconnects_total) },
        { "redis_pushes_total", "counter",
          "Times Redis told that a control key changed.",
          ngx_gate_peek(&f->pushes_total) },
        { "redis_polls_total", "counter",
          "Times the control keys were read without being told.",
          ngx_gate_peek(&f->polls_total) },
        { "redis_poll_finds_total", "counter",
          "Changes of control keys that only such a reading found.",
          ngx_gate_peek(&f->poll_finds_total) },
        { "redis_syncs_total", "counter",
          "Times counts were exchanged with the fleet.",
          ngx_gate_peek(&f->syncs_total) },
        { "redis_losses_total", "counter",
          "Times Redis was found to have forgotten something.",
          ngx_gate_peek(&f->losses_total) },
        { "redis_unsent_requests", "gauge",
          "Requests counted here that Redis has not confirmed.", unsent },
        { "fleet_nodes", "gauge",
          "Nodes of the fleet that were heard of just now, this one too.",
          ngx_http_gate_fleet_alive(m->node) }
    };

    for (i = 0; i < sizeof(family) / sizeof(family[0]); i++) {
        ngx_http_gate_family(out, family[i].name, family[i].type,
                             family[i].help);
        ngx_http_gate_print(out, "nginx_gate_%s %uL\n", family[i].name,
                            family[i].n);
    }

    ngx_http_gate_family(out, "redis_errors_total", "counter",
                         "What went wrong with Redis.");

    for (i = 0; i < NGX_GATE_ERRORS; i++) {
        ngx_http_gate_print(out, "nginx_gate_redis_errors_total"
                            "{kind=\"%s\"} %uL\n", ngx_http_gate_errors[i],
                            ngx_gate_peek(&f->errors_total[i]));
    }
}


static void
ngx_http_gate_metrics_rtt(ngx_http_gate_metrics_t *m)
{
    uint64_t              n;
    ngx_uint_t            i, bound;
    ngx_gate_fleet_t     *f;
    ngx_http_gate_out_t  *out;

    f = &m->node->sh->fleet;
    out = &m->out;
    n = 0;

    ngx_http_gate_family(out, "redis_rtt_seconds", "histogram",
                         "Time from a command to its reply.");

    for (i = 0; i < NGX_GATE_RTT_BUCKETS - 1; i++) {
        n += ngx_gate_peek(&f->rtt_count[i]);
        bound = (ngx_uint_t) 64 << i;

        ngx_http_gate_print(out, "nginx_gate_redis_rtt_seconds_bucket"
                            "{le=\"%ui.%06ui\"} %uL\n",
                            bound / 1000000, bound % 1000000, n);
    }

    n += ngx_gate_peek(&f->rtt_count[i]);

    ngx_http_gate_print(out, "nginx_gate_redis_rtt_seconds_bucket"
                        "{le=\"+Inf\"} %uL\n", n);
    ngx_http_gate_print(out, "nginx_gate_redis_rtt_seconds_sum %.6f\n",
                        (double) ngx_gate_peek(&f->rtt_sum) / 1000000);
    ngx_http_gate_print(out, "nginx_gate_redis_rtt_seconds_count %uL\n", n);
}


static void
ngx_http_gate_metrics_switches(ngx_http_gate_metrics_t *m)
{
    ngx_uint_t                   i;
    const char                  *name;
    ngx_http_gate_out_t         *out;
    ngx_http_gate_switch_row_t  *s;

    out = &m->out;

    ngx_http_gate_family(out, "maintenance", "gauge",
                         "Whether the switch is on, for all or for writes.");

    for (i = 0; i < m->nswitches; i++) {
        s = &m->switches[i];

        ngx_http_gate_print(out, "nginx_gate_maintenance{switch=\"%V\"} %d\n",
                            &s->label,
                            ngx_gate_switch_on(
                                     ngx_gate_switch_effective(s->sh)));
    }

    name = "maintenance_requests_total";

    ngx_http_gate_family(out, name, "counter",
                         "Requests to locations of the switch, refused ones "
                         "under the switch that refused them.");

    for (i = 0; i < m->nswitches; i++) {
        s = &m->switches[i];

        ngx_http_gate_metrics_switch(out, name, s, "decision=\"admitted\"",
                                     s->sum.admitted_total);
        ngx_http_gate_metrics_switch(out, name, s, "decision=\"bypassed\"",
                                     s->sum.bypassed_total);
        ngx_http_gate_metrics_switch(out, name, s, "decision=\"refused\"",
                                     ngx_gate_peek(&s->sh->refused_total));
    }

    ngx_http_gate_family(out, "maintenance_observed_total", "counter",
                         "Requests that got in only because of the mode.");

    for (i = 0; i < m->nswitches; i++) {
        s = &m->switches[i];

        ngx_http_gate_print(out, "nginx_gate_maintenance_observed_total"
                            "{switch=\"%V\"} %uL\n", &s->label,
                            ngx_gate_peek(&s->sh->observed_total));
    }

    name = "in_flight_requests";

    ngx_http_gate_family(out, name, "gauge",
                         "Requests that are under way at this moment.");

    for (i = 0; i < m->nswitches; i++) {
        s = &m->switches[i];

        ngx_http_gate_metrics_switch(out, name, s, "kind=\"admitted\"",
                                     s->sum.admitted);
        ngx_http_gate_metrics_switch(out, name, s, "kind=\"bypassed\"",
                                     s->sum.bypassed);
        ngx_http_gate_metrics_switch(out, name, s, "kind=\"upgraded\"",
                                     s->sum.upgraded);
    }
}


static void
ngx_http_gate_metrics_switch(ngx_http_gate_out_t *out,
    const char *name, ngx_http_gate_switch_row_t *s, const char *what,
    uint64_t n)
{
    ngx_http_gate_print(out, "nginx_gate_%s{switch=\"%V\",%s} %uL\n",
                        name, &s->label, what, n);
}


static void
ngx_http_gate_metrics_states(ngx_http_gate_metrics_t *m)
{
    uint64_t                      w;
    ngx_uint_t                    i, n;
    ngx_http_gate_out_t          *out;
    ngx_http_gate_rollout_row_t  *row;

    out = &m->out;

    ngx_http_gate_family(out, "rollout_state", "gauge",
                         "1 for the state that the rollout is in.");

    for (i = 0; i < m->nrollouts; i++) {
        row = &m->rollouts[i];
        w = row->view.word;

        for (n = GATE_IDLE; n <= GATE_ROLLED_BACK; n++) {
            ngx_http_gate_print(out, "nginx_gate_rollout_state"
                                "{upstream=\"%V\",state=\"%s\"} %d\n",
                                &row->label, gate_rollout_state_name(n),
                                n == ngx_gate_word_state(w));
        }
    }

    ngx_http_gate_family(out, "rollout_epoch", "gauge",
                         "Number of the epoch, another one for each release "
                         "or retry.");

    for (i = 0; i < m->nrollouts; i++) {
        row = &m->rollouts[i];

        ngx_http_gate_print(out, "nginx_gate_rollout_epoch"
                            "{upstream=\"%V\"} %uD\n",
                            &row->label, ngx_gate_word_epoch(row->view.word));
    }

    ngx_http_gate_family(out, "canary_weight_ratio", "gauge",
                         "The canary's weight, as in the file and as it is.");

    for (i = 0; i < m->nrollouts; i++) {
        row = &m->rollouts[i];

        ngx_http_gate_print(out, "nginx_gate_canary_weight_ratio"
                            "{upstream=\"%V\",kind=\"configured\"} %.4f\n",
                            &row->label,
                            (double) row->rc->weight / GATE_WEIGHT_MAX);
        ngx_http_gate_print(out, "nginx_gate_canary_weight_ratio"
                            "{upstream=\"%V\",kind=\"effective\"} %.4f\n",
                            &row->label,
                            (double) ngx_gate_word_weight(row->view.word)
                            / GATE_WEIGHT_MAX);
    }
}


static void
ngx_http_gate_metrics_attempts(ngx_http_gate_metrics_t *m)
{
    ngx_uint_t       f, i, arm;
    ngx_gate_arm_t  *a;

    static const struct {
        const char  *name;
        const char  *help;
    } family[] = {
        { "attempts_total",
          "Attempts on servers of an arm; only normal ones are evidence." },
        { "attempt_failures_total",
          "Attempts that failed, whether or not a client saw it." }
    };

    for (f = 0; f < sizeof(family) / sizeof(family[0]); f++) {

        ngx_http_gate_family(&m->out, family[f].name, "counter",
                             family[f].help);

        for (i = 0; i < m->nrollouts * NGX_GATE_ARMS; i++) {
            arm = i % NGX_GATE_ARMS;
            a = &m->rollouts[i / NGX_GATE_ARMS].view.total[arm];

            ngx_http_gate_metrics_kinds(&m->out, family[f].name,
                                        &m->rollouts[i / NGX_GATE_ARMS], arm,
                                        f == 0 ? a->attempts : a->failures);
        }
    }
}


static void
ngx_http_gate_metrics_kinds(ngx_http_gate_out_t *out, const char *name,
    ngx_http_gate_rollout_row_t *row, ngx_uint_t arm, uint64_t *n)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_GATE_KINDS; i++) {
        ngx_http_gate_print(out, "nginx_gate_%s{upstream=\"%V\",arm=\"%s\","
                            "kind=\"%s\"} %uL\n",
                            name, &row->label, ngx_http_gate_arm_names[arm],
                            ngx_http_gate_kind_names[i], n[i]);
    }
}


static void
ngx_http_gate_metrics_arms(ngx_http_gate_metrics_t *m)
{
    uint64_t               n;
    ngx_uint_t             f, i, arm;
    ngx_http_gate_view_t  *view;

    static const struct {
        const char  *name;
        const char  *type;
        const char  *help;
    } family[] = {
        { "requests_total", "counter",
          "Requests given to an arm by weight, key or cookie." },
        { "unavailable_total", "counter",
          "Failed attempts for which an arm had no server to ask." },
        { "breaker_open", "gauge",
          "Whether an arm is left alone because it refuses connections." }
    };

    for (f = 0; f < sizeof(family) / sizeof(family[0]); f++) {

        ngx_http_gate_family(&m->out, family[f].name, family[f].type,
                             family[f].help);

        for (i = 0; i < m->nrollouts * NGX_GATE_ARMS; i++) {
            arm = i % NGX_GATE_ARMS;
            view = &m->rollouts[i / NGX_GATE_ARMS].view;

            n = (f == 0) ? view->total[arm].requests
                : (f == 1) ? view->total[arm].unavailable
                           : ngx_http_gate_breaker_open(&view->breaker[arm]);

            ngx_http_gate_print(&m->out, "nginx_gate_%s{upstream=\"%V\","
                                "arm=\"%s\"} %uL\n", family[f].name,
                                &m->rollouts[i / NGX_GATE_ARMS].label,
                                ngx_http_gate_arm_names[arm], n);
        }
    }
}


static void
ngx_http_gate_metrics_rollouts(ngx_http_gate_metrics_t *m)
{
    uint64_t               n;
    ngx_uint_t             f, i;
    ngx_http_gate_out_t   *out;
    ngx_http_gate_view_t  *view;

    static const struct {
        const char  *name;
        const char  *help;
    } family[] = {
        { "saved_requests_total",
          "Failures of the canary that stable made good in the request." },
        { "fallbacks_total",
          "Requests that went on from the canary to stable." },
        { "flips_total",
          "Times the rollout was rolled back." }
    };

    out = &m->out;

    for (f = 0; f < sizeof(family) / sizeof(family[0]); f++) {

        ngx_http_gate_family(out, family[f].name, "counter", family[f].help);

        for (i = 0; i < m->nrollouts; i++) {
            view = &m->rollouts[i].view;

            n = (f == 0) ? view->saved
                         : (f == 1) ? view->fallbacks : view->flips;

            ngx_http_gate_print(out, "nginx_gate_%s{upstream=\"%V\"} %uL\n",
                                family[f].name, &m->rollouts[i].label, n);
        }
    }
}


static void
ngx_http_gate_metrics_latency(ngx_http_gate_metrics_t *m)
{
    ngx_uint_t  i, arm, n, bound[NGX_HTTP_GATE_BOUNDS + NGX_GATE_RULES];

    ngx_http_gate_family(&m->out, "response_header_seconds", "histogram",
                         "Time to the response header of the attempts that "
                         "are evidence; bounds are met within 3 %, the sum is "
                         "estimated from the middles of finer buckets.");

    for (i = 0; i < m->nrollouts; i++) {
        n = ngx_http_gate_metrics_bounds(m->rollouts[i].rc, bound);

        for (arm = 0; arm < NGX_GATE_ARMS; arm++) {
            ngx_http_gate_metrics_histogram(&m->out, &m->rollouts[i], arm,
                                            bound, n);
        }
    }
}


static void
ngx_http_gate_metrics_histogram(ngx_http_gate_out_t *out,
    ngx_http_gate_rollout_row_t *row, ngx_uint_t arm, ngx_uint_t *bound,
    ngx_uint_t nbounds)
{
    double       sum, middle;
    uint64_t     count;
    ngx_uint_t   i, b;
    const char  *name;

    b = 0;
    sum = 0;
    count = 0;
    name = ngx_http_gate_arm_names[arm];

    for (i = 0; i < GATE_HIST_BUCKETS; i++) {

        /* the last bucket has no end that would mean anything */

        middle = (i + 1 < GATE_HIST_BUCKETS)
                 ? (double) (gate_hist_low(i) + gate_hist_high(i)) / 2
                 : (double) gate_hist_low(i);

        /* a bucket is below the bound if the better part of it is */

        while (b < nbounds && (double) bound[b] < middle) {
            ngx_http_gate_metrics_bucket(out, row, name, bound[b++], count);
        }

        count += row->view.hist[arm][i];
        sum += (double) row->view.hist[arm][i] * middle / 1000;
    }

    while (b < nbounds) {
        ngx_http_gate_metrics_bucket(out, row, name, bound[b++], count);
    }

    ngx_http_gate_print(out, "nginx_gate_response_header_seconds_bucket"
                        "{upstream=\"%V\",arm=\"%s\",le=\"+Inf\"} %uL\n",
                        &row->label, name, count);
    ngx_http_gate_print(out, "nginx_gate_response_header_seconds_sum"
                        "{upstream=\"%V\",arm=\"%s\"} %.3f\n",
                        &row->label, name, sum);
    ngx_http_gate_print(out, "nginx_gate_response_header_seconds_count"
                        "{upstream=\"%V\",arm=\"%s\"} %uL\n",
                        &row->label, name, count);
}


static void
ngx_http_gate_metrics_bucket(ngx_http_gate_out_t *out,
    ngx_http_gate_rollout_row_t *row, const char *arm, ngx_uint_t bound,
    uint64_t count)
{
    u_char  le[NGX_INT_T_LEN + sizeof(".000")], *p;

    p = ngx_sprintf(le, "%ui.%03ui", bound / 1000, bound % 1000);

    while (*(p - 1) == '0') { p--; }

    if (*(p - 1) == '.') {
        p--;
    }

    ngx_http_gate_print(out, "nginx_gate_response_header_seconds_bucket"
                        "{upstream=\"%V\",arm=\"%s\",le=\"%*s\"} %uL\n",
                        &row->label, arm, (size_t) (p - le), le, count);
}


/* The usual bounds and the rules' own, ascending.  Returns their number. */

static ngx_uint_t
ngx_http_gate_metrics_bounds(ngx_gate_rollout_conf_t *rc, ngx_uint_t *bound)
{
    ngx_uint_t  i, k, n, v;

    n = NGX_HTTP_GATE_BOUNDS;

    ngx_memcpy(bound, ngx_http_gate_bounds, sizeof(ngx_http_gate_bounds));

    for (i = 0; i < rc->nrules; i++) {

        if (rc->rules[i].type != NGX_GATE_RULE_QUANTILE) {
            continue;
        }

        v = rc->rules[i].threshold;

        for (k = 0; k < n && bound[k] < v; k++) { /* void */ }

        if (k < n && bound[k] == v) {
            continue;
        }

        ngx_memmove(&bound[k + 1], &bound[k], (n - k) * sizeof(ngx_uint_t));
        bound[k] = v;
        n++;
    }

    return n;
}


void
ngx_http_gate_family(ngx_http_gate_out_t *out, const char *name,
    const char *type, const char *help)
{
    ngx_http_gate_print(out, "# HELP nginx_gate_%s %s\n", name, help);
    ngx_http_gate_print(out, "# TYPE nginx_gate_%s %s\n", name, type);
}


char *
ngx_http_gate_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return ngx_http_gate_endpoint(cf, cmd, conf,
                                  ngx_http_gate_metrics_handler);
}

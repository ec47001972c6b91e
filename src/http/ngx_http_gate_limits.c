
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Limit zones as others see them: in the status, and for Prometheus.  A key
 * is nowhere among it.
 */


#include "ngx_http_gate_json.h"
#include "ngx_http_gate_limit.h"
#include "ngx_http_gate_out.h"


typedef struct {
    const char                *name;
    size_t                     offset;    /* in ngx_gate_limit_count_t */
} ngx_http_gate_limits_count_t;


static json_t *ngx_http_gate_json_limit(ngx_gate_limit_conf_t *lc);
static json_t *ngx_http_gate_json_limit_keys(ngx_gate_limit_conf_t *lc,
    gate_limit_count_t *seen);
static json_t *ngx_http_gate_json_limit_sync(ngx_gate_limit_conf_t *lc,
    gate_limit_count_t *seen);
static json_t *ngx_http_gate_json_rate(gate_policy_t *policy);
static void ngx_http_gate_limits_seen(ngx_gate_limit_conf_t *lc,
    gate_limit_count_t *seen);
static int64_t ngx_http_gate_limits_age(ngx_gate_limit_conf_t *lc);
static void ngx_http_gate_metrics_limit_counts(ngx_http_gate_out_t *out,
    ngx_gate_node_t *node);
static void ngx_http_gate_metrics_limit_keys(ngx_http_gate_out_t *out,
    ngx_gate_node_t *node);
static void ngx_http_gate_metrics_limit_fleet(ngx_http_gate_out_t *out,
    ngx_gate_node_t *node);
static void ngx_http_gate_metrics_limit_age(ngx_http_gate_out_t *out,
    ngx_gate_node_t *node);


static ngx_http_gate_limits_count_t  ngx_http_gate_limits_counts[] = {
    { "passed", offsetof(ngx_gate_limit_count_t, passed) },
    { "limited", offsetof(ngx_gate_limit_count_t, limited) },
    { "observed", offsetof(ngx_gate_limit_count_t, observed) },
    { "unlimited", offsetof(ngx_gate_limit_count_t, unlimited) },
    { "shared", offsetof(ngx_gate_limit_count_t, shared) },
    { "fallback", offsetof(ngx_gate_limit_count_t, fallback) },
    { "full_passed", offsetof(ngx_gate_limit_count_t, full_passed) },
    { "full_limited", offsetof(ngx_gate_limit_count_t, full_limited) },
    { "evicted", offsetof(ngx_gate_limit_count_t, evicted) },
    { "dropped", offsetof(ngx_gate_limit_count_t, dropped) },
    { "bad_rate", offsetof(ngx_gate_limit_count_t, bad_rate) },
    { "bad_cost", offsetof(ngx_gate_limit_count_t, bad_cost) },
    { NULL, 0 }
};

/* by NGX_GATE_LOSS_* */

static const char  *ngx_http_gate_limits_loss[] = {
    "share", "local", "deny", "allow"
};

/* by NGX_HTTP_GATE_EMPTY_* */

static const char  *ngx_http_gate_limits_empty[] = {
    "skip", "limit", "refuse"
};

#define ngx_http_gate_limits_count(sum, offset)                               \
    (*(uint64_t *) ((u_char *) (sum) + (offset)))


json_t *
ngx_http_gate_json_limits(ngx_gate_node_t *node)
{
    json_t                  *o;
    char                     name[GATE_NAME_MAX + 1];
    ngx_uint_t               i;
    ngx_gate_limit_conf_t  **lcp;

    o = json_object();
    lcp = node->limits.elts;

    for (i = 0; i < node->limits.nelts; i++) {
        ngx_gate_text(name, sizeof(name), lcp[i]->name.data,
                      lcp[i]->name.len);
        ngx_http_gate_json_set(o, name, ngx_http_gate_json_limit(lcp[i]));
    }

    return o;
}


static json_t *
ngx_http_gate_json_limit(ngx_gate_limit_conf_t *lc)
{
    json_t                        *o, *m;
    ngx_uint_t                     i;
    gate_limit_count_t             seen;
    ngx_gate_limit_count_t         sum;
    ngx_http_gate_limit_zone_t    *zone;
    ngx_http_gate_limits_count_t  *c;

    zone = lc->http;

    ngx_http_gate_limits_seen(lc, &seen);
    ngx_gate_limit_sum(lc, &sum);

    o = json_object();

    ngx_http_gate_json_set(o, "rate", ngx_http_gate_json_rate(&lc->policy));
    ngx_http_gate_json_int(o, "capacity", lc->policy.rate.capacity);
    ngx_http_gate_json_bool(o, "variable", zone->rate.value != NULL);
    ngx_http_gate_json_set(o, "on_empty",
                     json_string(ngx_http_gate_limits_empty[zone->on_empty]));
    ngx_http_gate_json_set(o, "on_full",
                           json_string(lc->refuse ? "refuse" : "admit"));
    ngx_http_gate_json_set(o, "on_redis_loss",
                           json_string(ngx_http_gate_limits_loss[lc->loss]));
    ngx_http_gate_json_set(o, "keys",
                           ngx_http_gate_json_limit_keys(lc, &seen));

    for (i = 0; ngx_http_gate_limits_counts[i].name; i++) {
        c = &ngx_http_gate_limits_counts[i];

        ngx_http_gate_json_int(o, c->name,
                               ngx_http_gate_limits_count(&sum, c->offset));
    }

    ngx_http_gate_json_set(o, "sync",
                           ngx_http_gate_json_limit_sync(lc, &seen));

    m = json_object();
    ngx_http_gate_json_int(m, "n", ngx_gate_limit_overridden(lc->sh));
    ngx_http_gate_json_int(m, "fields",
                           ngx_gate_peek(&lc->sh->override_fields));
    ngx_http_gate_json_int(m, "errors",
                           ngx_gate_peek(&lc->sh->override_errors));
    ngx_http_gate_json_set(o, "overrides", m);

    m = json_object();
    ngx_http_gate_json_int(m, "asked", sum.asked);
    ngx_http_gate_json_int(m, "timeouts", sum.timeouts);
    ngx_http_gate_json_set(o, "exact", m);

    return o;
}


static json_t *
ngx_http_gate_json_limit_keys(ngx_gate_limit_conf_t *lc,
    gate_limit_count_t *seen)
{
    json_t  *o;

    o = json_object();

    ngx_http_gate_json_int(o, "max", lc->keys);
    ngx_http_gate_json_int(o, "used", seen->used);
    ngx_http_gate_json_int(o, "in_debt", seen->debtors);

    return o;
}


static json_t *
ngx_http_gate_json_limit_sync(ngx_gate_limit_conf_t *lc,
    gate_limit_count_t *seen)
{
    u_char                  text[NGX_INT64_LEN + sizeof("ms")], *p;
    json_t                 *o;
    int64_t                 age;
    ngx_gate_limit_zone_t  *sh;

    sh = lc->sh;
    o = json_object();

    if (!ngx_gate_limit_fleet(lc)) {
        ngx_http_gate_json_set(o, "mode", json_string("off"));
        return o;
    }

    p = (lc->sync == NGX_GATE_SYNC_EXACT)
        ? ngx_cpymem(text, "exact", 5) : ngx_sprintf(text, "%Mms", lc->msec);

    age = ngx_http_gate_limits_age(lc);

    ngx_http_gate_json_set(o, "mode",
                           json_stringn((char *) text, p - text));
    ngx_http_gate_json_bool(o, "online", ngx_gate_load(&sh->online));
    ngx_http_gate_json_int(o, "nodes", ngx_gate_peek(&sh->nodes));
    ngx_http_gate_json_set(o, "age_ms", age < 0 ? json_null()
                                                : json_integer(age));
    ngx_http_gate_json_int(o, "unsent", seen->unsent);
    ngx_http_gate_json_int(o, "batches", ngx_gate_peek(&sh->batches_total));
    ngx_http_gate_json_int(o, "keys", ngx_gate_peek(&sh->debts_total));
    ngx_http_gate_json_int(o, "resent", ngx_gate_peek(&sh->resent_total));

    return o;
}


static json_t *
ngx_http_gate_json_rate(gate_policy_t *policy)
{
    char    text[GATE_RATE_LEN];
    size_t  len;

    len = gate_rate_format(policy->count, policy->period, text);

    return json_stringn(text, len);
}


/* The agent looks at all slots once a minute; small tables we see as it is. */

static void
ngx_http_gate_limits_seen(ngx_gate_limit_conf_t *lc, gate_limit_count_t *seen)
{
    uint64_t  at, slots;

    slots = gate_limit_slots(lc->table);

    if (slots > NGX_GATE_LIMIT_SCAN) {
        *seen = lc->sh->swept;
        return;
    }

    at = 0;
    ngx_memzero(seen, sizeof(gate_limit_count_t));

    (void) gate_limit_sweep(lc->table, ngx_gate_nsec(), &at, slots, seen);
}


/* ms since Redis acknowledged something; -1: it never did. */

static int64_t
ngx_http_gate_limits_age(ngx_gate_limit_conf_t *lc)
{
    uint64_t  acked;

    acked = ngx_gate_peek(&lc->sh->acked_msec);

    return acked ? ngx_max((ngx_msec_int_t) (ngx_current_msec
                                             - (ngx_msec_t) acked), 0)
                 : -1;
}


void
ngx_http_gate_metrics_limits(ngx_http_gate_out_t *out, ngx_gate_node_t *node)
{
    if (node->limits.nelts == 0) {
        return;
    }

    ngx_http_gate_metrics_limit_counts(out, node);
    ngx_http_gate_metrics_limit_keys(out, node);

    if (node->redis) {
        ngx_http_gate_metrics_limit_fleet(out, node);
        ngx_http_gate_metrics_limit_age(out, node);
    }
}


static void
ngx_http_gate_metrics_limit_counts(ngx_http_gate_out_t *out,
    ngx_gate_node_t *node)
{
    ngx_uint_t               f, i;
    const char              *last;
    ngx_gate_limit_conf_t  **lcp;
    ngx_gate_limit_count_t   sum;

    static const struct {
        const char  *name;
        const char  *label;
        const char  *help;
        size_t       offset;
    } row[] = {
        { "limit_requests_total", ",decision=\"passed\"",
          "Requests that a limit was asked about.",
          offsetof(ngx_gate_limit_count_t, passed) },
        { "limit_requests_total", ",decision=\"limited\"", NULL,
          offsetof(ngx_gate_limit_count_t, limited) },
        { "limit_requests_total", ",decision=\"observed\"", NULL,
          offsetof(ngx_gate_limit_count_t, observed) },
        { "limit_requests_total", ",decision=\"unlimited\"", NULL,
          offsetof(ngx_gate_limit_count_t, unlimited) },
        { "limit_shared_total", "",
          "Requests that were limited because other nodes may spend the rest.",
          offsetof(ngx_gate_limit_count_t, shared) },
        { "limit_fallbacks_total", "",
          "Requests that were decided while Redis could not be asked.",
          offsetof(ngx_gate_limit_count_t, fallback) },
        { "limit_full_total", ",decision=\"passed\"",
          "Requests of new keys for which the table had no room.",
          offsetof(ngx_gate_limit_count_t, full_passed) },
        { "limit_full_total", ",decision=\"limited\"", NULL,
          offsetof(ngx_gate_limit_count_t, full_limited) },
        { "limit_evictions_total", "",
          "Keys that owed nothing and made room for others.",
          offsetof(ngx_gate_limit_count_t, evicted) },
        { "limit_dropped_total", "",
          "Such keys of which Redis had not heard yet.",
          offsetof(ngx_gate_limit_count_t, dropped) },
        { "limit_bad_values_total", ",parameter=\"rate\"",
          "Values of variables that are no rate or no cost.",
          offsetof(ngx_gate_limit_count_t, bad_rate) },
        { "limit_bad_values_total", ",parameter=\"cost\"", NULL,
          offsetof(ngx_gate_limit_count_t, bad_cost) },
        { "limit_redis_asked_total", "",
          "Requests for which Redis was asked, of sync=exact.",
          offsetof(ngx_gate_limit_count_t, asked) },
        { "limit_redis_timeouts_total", "",
          "Such requests that got no answer in time.",
          offsetof(ngx_gate_limit_count_t, timeouts) }
    };

    lcp = node->limits.elts;
    last = "";

    for (f = 0; f < sizeof(row) / sizeof(row[0]); f++) {

        if (ngx_strcmp(last, row[f].name) != 0) {
            last = row[f].name;
            ngx_http_gate_family(out, last, "counter", row[f].help);
        }

        for (i = 0; i < node->limits.nelts; i++) {
            ngx_gate_limit_sum(lcp[i], &sum);

            ngx_http_gate_print(out, "nginx_gate_%s{zone=\"%V\"%s} %uL\n",
                                last, &lcp[i]->name, row[f].label,
                                ngx_http_gate_limits_count(&sum,
                                                           row[f].offset));
        }
    }
}


static void
ngx_http_gate_metrics_limit_keys(ngx_http_gate_out_t *out,
    ngx_gate_node_t *node)
{
    ngx_uint_t               i;
    gate_limit_count_t       seen;
    ngx_gate_limit_conf_t  **lcp;

    lcp = node->limits.elts;

    ngx_http_gate_family(out, "limit_keys", "gauge",
                         "Keys in the table: for how many there is room, how "
                         "many there are, and how many of them owe "
                         "something.");

    for (i = 0; i < node->limits.nelts; i++) {
        ngx_http_gate_limits_seen(lcp[i], &seen);

        ngx_http_gate_print(out, "nginx_gate_limit_keys{zone=\"%V\","
                            "kind=\"max\"} %ui\n",
                            &lcp[i]->name, lcp[i]->keys);
        ngx_http_gate_print(out, "nginx_gate_limit_keys{zone=\"%V\","
                            "kind=\"used\"} %uL\n",
                            &lcp[i]->name, seen.used);
        ngx_http_gate_print(out, "nginx_gate_limit_keys{zone=\"%V\","
                            "kind=\"in_debt\"} %uL\n",
                            &lcp[i]->name, seen.debtors);

        if (ngx_gate_limit_fleet(lcp[i])) {
            ngx_http_gate_print(out, "nginx_gate_limit_keys{zone=\"%V\","
                                "kind=\"unsent\"} %uL\n",
                                &lcp[i]->name, seen.unsent);
        }
    }
}


static void
ngx_http_gate_metrics_limit_fleet(ngx_http_gate_out_t *out,
    ngx_gate_node_t *node)
{
    uint64_t                 n;
    ngx_uint_t               f, i;
    ngx_gate_limit_conf_t  **lcp;
    ngx_gate_limit_zone_t   *sh;

    static const struct {
        const char  *name;
        const char  *type;
        const char  *help;
    } family[] = {
        { "limit_online", "gauge",
          "Whether the zone shares its budgets with the fleet now." },
        { "limit_batches_total", "counter",
          "Batches that were made for Redis." },
        { "limit_batches_resent_total", "counter",
          "Times such a batch was sent again." },
        { "limit_batch_keys_total", "counter",
          "Keys in such batches." },
        { "limit_overrides", "gauge",
          "Keys for which Redis says another rate." },
        { "limit_override_errors_total", "counter",
          "Times that such a rate was not understood." }
    };

    lcp = node->limits.elts;

    for (f = 0; f < sizeof(family) / sizeof(family[0]); f++) {

        ngx_http_gate_family(out, family[f].name, family[f].type,
                             family[f].help);

        for (i = 0; i < node->limits.nelts; i++) {
            sh = lcp[i]->sh;

            if (!ngx_gate_limit_fleet(lcp[i])) {
                continue;
            }

            n = (f == 0) ? ngx_gate_load(&sh->online)
                : (f == 1) ? ngx_gate_peek(&sh->batches_total)
                : (f == 2) ? ngx_gate_peek(&sh->resent_total)
                : (f == 3) ? ngx_gate_peek(&sh->debts_total)
                : (f == 4) ? ngx_gate_limit_overridden(sh)
                           : ngx_gate_peek(&sh->override_errors);

            ngx_http_gate_print(out, "nginx_gate_%s{zone=\"%V\"} %uL\n",
                                family[f].name, &lcp[i]->name, n);
        }
    }
}


static void
ngx_http_gate_metrics_limit_age(ngx_http_gate_out_t *out,
    ngx_gate_node_t *node)
{
    int64_t                  age;
    ngx_uint_t               i;
    ngx_gate_limit_conf_t  **lcp;

    lcp = node->limits.elts;

    ngx_http_gate_family(out, "limit_sync_age_seconds", "gauge",
                         "Time since Redis acknowledged a batch.");

    for (i = 0; i < node->limits.nelts; i++) {
        age = ngx_http_gate_limits_age(lcp[i]);

        if (ngx_gate_limit_fleet(lcp[i]) && age >= 0) {
            ngx_http_gate_print(out, "nginx_gate_limit_sync_age_seconds"
                                "{zone=\"%V\"} %.3f\n",
                                &lcp[i]->name, (double) age / 1000);
        }
    }
}

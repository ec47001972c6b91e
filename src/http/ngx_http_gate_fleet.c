
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Redis, the fleet and the modes as JSON.
 *
 * Names, texts and JSON of other nodes come from Redis, where anybody may
 * have put them: they are bounded by the zone, parsed anew and escaped.  The
 * agent writes some of this without a lock, so a text may be half of an older
 * one, but never runs over its end.
 */


#include "ngx_http_gate_json.h"

#include "fleet/ngx_gate_redis.h"


#define NGX_HTTP_GATE_INFO_DEPTH  4

#define ngx_http_gate_json_array(o, key, text)                                \
    ngx_http_gate_json_set(o, key,                                            \
                           ngx_http_gate_json_chars(text, sizeof(text)))


static json_t *ngx_http_gate_json_chars(char *text, size_t size);
static json_t *ngx_http_gate_json_errors(ngx_gate_fleet_t *f);
static json_t *ngx_http_gate_json_rtt(ngx_gate_fleet_t *f);
static json_t *ngx_http_gate_json_last_error(ngx_gate_fleet_t *f);
static void ngx_http_gate_json_waiting(json_t *o, ngx_gate_node_t *node);
static json_t *ngx_http_gate_json_neighbour(ngx_gate_fleet_node_t *n);
static json_t *ngx_http_gate_json_info(char *text, size_t size);


static const char  *ngx_http_gate_redis_states[] = {
    "away", "connecting", "ready"
};


const char  *ngx_http_gate_errors[NGX_GATE_ERRORS] = {
    "connect",
    "timeout",
    "resolve",
    "tls",
    "auth",
    "role",
    "busy",
    "memory",
    "cluster",
    "limit",
    "protocol",
    "type",
    "value",
    "script"
};


json_t *
ngx_http_gate_json_mode(ngx_gate_node_t *node, ngx_uint_t gate)
{
    json_t           *o;
    const char       *name;
    ngx_gate_mode_t   mode;

    ngx_shmtx_lock(&node->shpool->mutex);

    mode = node->sh->modes[gate];

    ngx_shmtx_unlock(&node->shpool->mutex);

    name = ngx_gate_mode_name(mode.value);

    o = json_object();

    ngx_http_gate_json_set(o, "mode", json_string(name ? name : "unknown"));
    ngx_http_gate_json_array(o, "source", mode.source);
    ngx_http_gate_json_array(o, "actor", mode.actor);
    ngx_http_gate_json_set(o, "since", ngx_http_gate_json_time(mode.since));
    ngx_http_gate_json_known(o, &mode.known);

    return o;
}


json_t *
ngx_http_gate_json_modes(ngx_gate_node_t *node)
{
    json_t      *o;
    ngx_uint_t   i;

    o = json_object();

    for (i = 0; i < NGX_GATE_MODES; i++) {
        ngx_http_gate_json_set(o, ngx_gate_mode_gate_name(i),
                               ngx_http_gate_json_mode(node, i));
    }

    return o;
}


void
ngx_http_gate_json_known(json_t *o, ngx_gate_known_t *known)
{
    ngx_http_gate_json_set(o, "rev", known->rev ? json_integer(known->rev)
                                                : json_null());
    ngx_http_gate_json_bool(o, "dirty", known->dirty);
}


static json_t *
ngx_http_gate_json_chars(char *text, size_t size)
{
    size = ngx_strnlen((u_char *) text, size);

    return size ? ngx_http_gate_json_bytes((u_char *) text, size)
                : json_null();
}


json_t *
ngx_http_gate_json_redis(ngx_gate_node_t *node)
{
    json_t                 *o;
    uint32_t                state;
    ngx_gate_fleet_t       *f;
    ngx_gate_redis_conf_t  *conf;

    if (node->redis == NULL) {
        return json_null();
    }

    f = &node->sh->fleet;
    conf = node->redis;

    state = ngx_min(ngx_gate_peek(&f->state), NGX_GATE_REDIS_READY);

    o = json_object();

    ngx_http_gate_json_set(o, "configured",
              ngx_http_gate_json_bytes(conf->text.data, conf->text.len));
    ngx_http_gate_json_array(o, "address", f->address);
    ngx_http_gate_json_set(o, "state",
                           json_string(ngx_http_gate_redis_states[state]));
    ngx_http_gate_json_bool(o, "joined", f->joined);
    ngx_http_gate_json_array(o, "role", f->role);
    ngx_http_gate_json_array(o, "version", f->version);
    ngx_http_gate_json_set(o, "connected_since",
              ngx_http_gate_json_time(ngx_gate_peek(&f->connected_since)));
    ngx_http_gate_json_set(o, "last_success",
              ngx_http_gate_json_time(ngx_gate_peek(&f->last_success)));
    ngx_http_gate_json_set(o, "rtt_ms", ngx_http_gate_json_rtt(f));
    ngx_http_gate_json_set(o, "clock_offset_ms",
              json_integer(ngx_gate_peek(&f->clock_offset)));

    ngx_http_gate_json_int(o, "commands", ngx_gate_peek(&f->commands_total));
    ngx_http_gate_json_int(o, "connects", ngx_gate_peek(&f->connects_total));
    ngx_http_gate_json_int(o, "reconnects",
                           ngx_gate_peek(&f->reconnects_total));
    ngx_http_gate_json_set(o, "errors", ngx_http_gate_json_errors(f));
    ngx_http_gate_json_set(o, "last_error",
                           ngx_http_gate_json_last_error(f));

    ngx_http_gate_json_set(o, "tracking",
              state == NGX_GATE_REDIS_READY
              ? json_string(f->tracking ? "push" : "poll") : json_null());
    ngx_http_gate_json_int(o, "pushes", ngx_gate_peek(&f->pushes_total));
    ngx_http_gate_json_int(o, "polls", ngx_gate_peek(&f->polls_total));
    ngx_http_gate_json_int(o, "poll_finds",
                           ngx_gate_peek(&f->poll_finds_total));
    ngx_http_gate_json_int(o, "syncs", ngx_gate_peek(&f->syncs_total));
    ngx_http_gate_json_int(o, "losses", ngx_gate_peek(&f->losses_total));
    ngx_http_gate_json_bool(o, "evictable", f->evictable);
    ngx_http_gate_json_bool(o, "password_live", f->password_live);

    ngx_http_gate_json_waiting(o, node);

    return o;
}


static json_t *
ngx_http_gate_json_errors(ngx_gate_fleet_t *f)
{
    json_t      *o;
    uint64_t     n;
    ngx_uint_t   i;

    o = json_object();

    for (i = 0; i < NGX_GATE_ERRORS; i++) {
        n = ngx_gate_peek(&f->errors_total[i]);

        if (n) {
            ngx_http_gate_json_int(o, ngx_http_gate_errors[i], n);
        }
    }

    return o;
}


static json_t *
ngx_http_gate_json_last_error(ngx_gate_fleet_t *f)
{
    json_t  *o;

    if (f->error[0] == '\0') {
        return json_null();
    }

    o = json_object();

    ngx_http_gate_json_array(o, "text", f->error);
    ngx_http_gate_json_set(o, "time",
              ngx_http_gate_json_time(ngx_gate_peek(&f->error_at)));

    return o;
}


/* The bounds that so many replies stayed below. */

static json_t *
ngx_http_gate_json_rtt(ngx_gate_fleet_t *f)
{
    double       bound;
    json_t      *o;
    uint64_t     n[NGX_GATE_RTT_BUCKETS], total, sum;
    ngx_uint_t   i, k;

    static const struct {
        const char  *key;
        double       q;
    } quantiles[] = {
        { "p50", 0.5 },
        { "p95", 0.95 },
        { "p99", 0.99 },
        { "max", 1.0 }
    };

    total = 0;

    for (i = 0; i < NGX_GATE_RTT_BUCKETS; i++) {
        n[i] = ngx_gate_peek(&f->rtt_count[i]);
        total += n[i];
    }

    o = json_object();

    for (k = 0; k < sizeof(quantiles) / sizeof(quantiles[0]); k++) {
        sum = 0;

        for (i = 0; i < NGX_GATE_RTT_BUCKETS - 1; i++) {
            sum += n[i];

            if ((double) sum >= quantiles[k].q * (double) total) {
                break;
            }
        }

        bound = 0.064 * (double) (1u << i);

        ngx_http_gate_json_set(o, quantiles[k].key,
                               total ? json_real(bound) : json_null());
    }

    ngx_http_gate_json_int(o, "count", total);

    return o;
}


/* What Redis has yet to hear from here. */

static void
ngx_http_gate_json_waiting(json_t *o, ngx_gate_node_t *node)
{
    uint64_t                   unsent;
    ngx_uint_t                 i, dirty;
    ngx_gate_zone_t           *sh;
    ngx_http_gate_view_t       view;
    ngx_gate_rollout_conf_t  **rc;

    sh = node->sh;
    unsent = 0;
    dirty = 0;

    rc = node->rollouts.elts;

    for (i = 0; i < node->rollouts.nelts; i++) {
        ngx_http_gate_view(node, rc[i], &view);

        unsent += ngx_http_gate_unsent(&view);
        dirty += (view.known.dirty != 0);
    }

    for (i = 0; i < node->switches.nelts; i++) {
        dirty += (sh->switches[node->sw_map[i]].known.dirty != 0);
    }

    for (i = 0; i < NGX_GATE_MODES; i++) {
        dirty += (sh->modes[i].known.dirty != 0);
    }

    ngx_http_gate_json_int(o, "unsent", unsent);
    ngx_http_gate_json_int(o, "dirty", dirty);
}


uint64_t
ngx_http_gate_unsent(ngx_http_gate_view_t *view)
{
    uint64_t    n;
    ngx_uint_t  i;

    n = 0;

    for (i = 0; i < NGX_GATE_ARMS; i++) {

        if (view->total[i].requests > view->acked[i]) {
            n += view->total[i].requests - view->acked[i];
        }
    }

    return n;
}


int64_t
ngx_http_gate_redis_age(ngx_gate_node_t *node)
{
    int64_t  last;

    last = ngx_gate_peek(&node->sh->fleet.last_success);

    return last ? ngx_max(ngx_gate_now() - last, 0) : -1;
}


ngx_uint_t
ngx_http_gate_redis_alive(ngx_gate_node_t *node)
{
    int64_t  age;

    age = ngx_http_gate_redis_age(node);

    return ngx_gate_peek(&node->sh->fleet.state) == NGX_GATE_REDIS_READY
           && age >= 0 && age <= NGX_HTTP_GATE_REDIS_MSEC;
}


/* Without Redis nobody is heard of. */

ngx_uint_t
ngx_http_gate_fleet_alive(ngx_gate_node_t *node)
{
    return ngx_http_gate_redis_alive(node)
           ? ngx_max(ngx_gate_peek(&node->sh->fleet.alive_nodes), 1) : 1;
}


json_t *
ngx_http_gate_json_fleet(ngx_gate_node_t *node)
{
    json_t                 *o, *list;
    ngx_uint_t              i, n;
    ngx_gate_fleet_t       *f;
    ngx_gate_fleet_node_t   nodes[NGX_GATE_FLEET_NODES];

    if (node->redis == NULL) {
        return json_null();
    }

    f = &node->sh->fleet;

    ngx_shmtx_lock(&node->shpool->mutex);

    n = ngx_min(f->nnodes, NGX_GATE_FLEET_NODES);
    ngx_memcpy(nodes, f->nodes, n * sizeof(ngx_gate_fleet_node_t));

    ngx_shmtx_unlock(&node->shpool->mutex);

    list = json_array();

    for (i = 0; i < n; i++) {
        (void) json_array_append_new(list,
                                     ngx_http_gate_json_neighbour(&nodes[i]));
    }

    o = json_object();

    ngx_http_gate_json_int(o, "alive", ngx_http_gate_fleet_alive(node));
    ngx_http_gate_json_int(o, "total", ngx_gate_peek(&f->total_nodes));
    ngx_http_gate_json_set(o, "nodes", list);

    return o;
}


static json_t *
ngx_http_gate_json_neighbour(ngx_gate_fleet_node_t *n)
{
    json_t   *o;
    int64_t   seen;

    seen = ngx_gate_peek(&n->seen);

    o = json_object();

    ngx_http_gate_json_array(o, "name", n->name);
    ngx_http_gate_json_set(o, "seen", ngx_http_gate_json_time(seen));
    ngx_http_gate_json_set(o, "age_ms",
                    seen ? json_integer(ngx_max(ngx_gate_now() - seen, 0))
                         : json_null());
    ngx_http_gate_json_set(o, "info",
                    ngx_http_gate_json_info(n->info, sizeof(n->info)));

    return o;
}


/* What a node says of itself, if it is an object that we can read. */

static json_t *
ngx_http_gate_json_info(char *text, size_t size)
{
    json_t  *o;

    size = ngx_strnlen((u_char *) text, size);

    if (!gate_switch_depth_ok((u_char *) text, size,
                              NGX_HTTP_GATE_INFO_DEPTH))
    {
        return json_null();
    }

    o = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);

    if (json_is_object(o)) {
        return o;
    }

    json_decref(o);

    return json_null();
}


json_t *
ngx_http_gate_json_members(ngx_gate_node_t *node, ngx_http_gate_view_t *view)
{
    json_t      *o, *arm, *totals;
    ngx_uint_t   i;

    static const char  *names[NGX_GATE_ARMS] = { "stable", "canary" };

    if (node->redis == NULL) {
        return json_null();
    }

    o = json_object();
    totals = json_object();

    ngx_http_gate_json_int(o, "members", view->members);
    ngx_http_gate_json_set(o, "synced_ms_ago",
             view->synced ? json_integer(ngx_max((ngx_msec_int_t)
                      (ngx_current_msec - (ngx_msec_t) view->synced), 0))
                          : json_null());

    for (i = 0; i < NGX_GATE_ARMS; i++) {
        arm = json_null();

        if (view->told) {
            arm = json_object();
            ngx_http_gate_json_counts(arm, &view->fleet[i]);
            ngx_http_gate_json_quantiles(arm, &view->fleet[i]);
        }

        ngx_http_gate_json_set(o, names[i], arm);

        arm = json_object();
        ngx_http_gate_json_counts(arm, &view->fleet_total[i]);
        ngx_http_gate_json_set(totals, names[i], arm);
    }

    ngx_http_gate_json_set(o, "totals", totals);

    return o;
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Once a second each node says that it is there and how it fares, and hears
 * the same of the others, what time it is in Redis, and the fleet's seed.
 */


#include "ngx_gate_sync.h"

#include "core/gate_text.h"


#define NGX_GATE_BEAT_MSEC   1000
#define NGX_GATE_BEAT_ALIVE  3000
#define NGX_GATE_BEAT_SEED   32

/* the year 9999, in ms: what is later is no time */
#define NGX_GATE_BEAT_TIME_MAX  253402300799000LL
#define NGX_GATE_BEAT_KEY    (512 + 16)      /* the longest prefix, "nodes" */


static size_t ngx_gate_beat_info(ngx_gate_node_t *node, u_char *buf,
    size_t size);
static void ngx_gate_beat_reply(void *data, redisReply *reply);
static ngx_int_t ngx_gate_beat_shape(redisReply *reply);
static ngx_int_t ngx_gate_beat_entry(redisReply **e);
static void ngx_gate_beat_clock(ngx_gate_fleet_t *fleet, int64_t now);
static void ngx_gate_beat_nodes(ngx_gate_node_t *node, redisReply *list,
    int64_t total);
static ngx_int_t ngx_gate_beat_seed(redisReply *reply, uint64_t seed[2]);


/* of this process, while it is the agent */
static ngx_gate_node_t   *ngx_gate_beat_node;
static ngx_gate_redis_t  *ngx_gate_beat_redis;
static ngx_msec_t         ngx_gate_beat_sent;
static ngx_uint_t         ngx_gate_beat_flying;
static ngx_uint_t         ngx_gate_beat_answered;


void
ngx_gate_beat_tick(ngx_gate_redis_t *rs, ngx_gate_node_t *node)
{
    u_char                  nodes[NGX_GATE_BEAT_KEY], seed[NGX_GATE_BEAT_KEY],
                            field[NGX_GATE_FLEET_NODE_LEN],
                            info[NGX_GATE_ERROR_LEN],
                            mine[NGX_GATE_BEAT_SEED + 1],
                            most[NGX_INT_T_LEN];
    ngx_str_t               argv[6];
    ngx_gate_redis_conf_t  *conf;

    if (ngx_gate_beat_node == node
        && (ngx_gate_beat_flying
            || ngx_current_msec - ngx_gate_beat_sent < NGX_GATE_BEAT_MSEC))
    {
        return;
    }

    conf = node->redis;

    argv[0].data = nodes;
    argv[0].len = ngx_snprintf(nodes, sizeof(nodes), "%Vnodes", &conf->data)
                  - nodes;
    argv[1].data = seed;
    argv[1].len = ngx_snprintf(seed, sizeof(seed), "%Vseed", &conf->data)
                  - seed;
    argv[2].data = field;
    argv[2].len = ngx_gate_sync_name(node, field) - field;
    argv[3].data = info;
    argv[3].len = ngx_gate_beat_info(node, info, sizeof(info) - 1);
    argv[4].data = mine;
    argv[4].len = ngx_sprintf(mine, "%016xL%016xL", node->sh->secret[0],
                              node->sh->secret[1])
                  - mine;
    argv[5].data = most;
    argv[5].len = ngx_sprintf(most, "%d", NGX_GATE_FLEET_NODES) - most;

    if (ngx_gate_redis_script(rs, NGX_GATE_SCRIPT_BEAT, 2, 6, argv,
                              ngx_gate_beat_reply, NULL)
        != NGX_OK)
    {
        return;
    }

    ngx_gate_beat_node = node;
    ngx_gate_beat_redis = rs;
    ngx_gate_beat_flying = 1;
    ngx_gate_beat_sent = ngx_current_msec;
}


void
ngx_gate_beat_reset(void)
{
    ngx_gate_beat_node = NULL;
    ngx_gate_beat_flying = 0;
    ngx_gate_beat_answered = 0;
}


ngx_uint_t
ngx_gate_beat_heard(ngx_gate_node_t *node)
{
    return ngx_gate_beat_node == node && ngx_gate_beat_answered;
}


static size_t
ngx_gate_beat_info(ngx_gate_node_t *node, u_char *buf, size_t size)
{
    uint64_t                    in_flight;
    ngx_uint_t                  i, workers, foreign, provisional;
    ngx_gate_zone_t            *sh;
    ngx_gate_inflight_t         sum;
    ngx_gate_rollout_conf_t   **rc;

    sh = node->sh;
    rc = node->rollouts.elts;

    workers = 0;
    in_flight = 0;
    foreign = 0;
    provisional = 0;

    for (i = 0; i < ngx_gate_load(&sh->nslots); i++) {
        workers += (ngx_gate_peek(&sh->slots[i].pid) != 0);
    }

    for (i = 0; i < node->switches.nelts; i++) {
        ngx_gate_switch_inflight(sh, node->sw_map[i], &sum);
        in_flight += sum.admitted + sum.bypassed + sum.upgraded;
    }

    for (i = 0; i < node->rollouts.nelts; i++) {
        foreign += (ngx_gate_peek(&rc[i]->sh->foreign) != 0);
        provisional += (ngx_gate_peek(&rc[i]->sh->provisional) != 0);
    }

    return ngx_snprintf(buf, size,
                        "{\"nginx\":\"%s\",\"workers\":%ui,"
                        "\"generation\":%uD,\"in_flight\":%uL,"
                        "\"applied\":%uL,\"rev\":%uL,"
                        "\"foreign\":%ui,\"provisional\":%ui}",
                        NGINX_VERSION, workers, node->generation, in_flight,
                        ngx_gate_peek(&sh->fleet.applied),
                        ngx_gate_peek(&sh->fleet.rev), foreign, provisional)
           - buf;
}


static void
ngx_gate_beat_reply(void *data, redisReply *reply)
{
    uint64_t          seed[2];
    redisReply      **e;
    ngx_gate_node_t  *node;

    (void) data;

    node = ngx_gate_beat_node;
    ngx_gate_beat_flying = 0;

    if (reply == NULL || reply->type == REDIS_REPLY_ERROR || node == NULL) {
        return;
    }

    if (ngx_gate_beat_shape(reply) != NGX_OK
        || ngx_gate_beat_seed(reply->element[1], seed) != NGX_OK)
    {
        ngx_gate_redis_error(ngx_gate_beat_redis, NGX_GATE_ERROR_PROTOCOL,
                             "beat", "a reply of another shape",
                             sizeof("a reply of another shape") - 1);
        return;
    }

    e = reply->element;

    ngx_gate_beat_clock(&node->sh->fleet, e[0]->integer);
    ngx_gate_beat_nodes(node, e[3], e[2]->integer);

    ngx_gate_beat_answered = 1;

    if (seed[0] == node->sh->secret[0] && seed[1] == node->sh->secret[1]) {
        return;
    }

    ngx_shmtx_lock(&node->shpool->mutex);

    ngx_memcpy(node->sh->secret, seed, sizeof(seed));
    ngx_gate_changed(node->sh);

    ngx_shmtx_unlock(&node->shpool->mutex);
}


static ngx_int_t
ngx_gate_beat_shape(redisReply *reply)
{
    size_t        i;
    redisReply  **e, *list;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 4) {
        return NGX_DECLINED;
    }

    e = reply->element;
    list = e[3];

    if (e[0]->type != REDIS_REPLY_INTEGER || e[0]->integer <= 0
        || e[1]->type != REDIS_REPLY_STRING
        || e[2]->type != REDIS_REPLY_INTEGER || e[2]->integer < 0
        || list->type != REDIS_REPLY_ARRAY || list->elements % 3)
    {
        return NGX_DECLINED;
    }

    for (i = 0; i < list->elements; i += 3) {

        if (ngx_gate_beat_entry(&list->element[i]) != NGX_OK) {
            return NGX_DECLINED;
        }
    }

    return NGX_OK;
}


/* name, age, info */

static ngx_int_t
ngx_gate_beat_entry(redisReply **e)
{
    if (e[0]->type != REDIS_REPLY_STRING
        || e[1]->type != REDIS_REPLY_INTEGER
        || e[2]->type != REDIS_REPLY_STRING)
    {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


/* Redis's clock was read when half of the way was still before the reply. */

static void
ngx_gate_beat_clock(ngx_gate_fleet_t *fleet, int64_t now)
{
    int64_t  rtt;

    rtt = (int64_t) (ngx_current_msec - ngx_gate_beat_sent);

    if (now > NGX_GATE_BEAT_TIME_MAX) {
        return;
    }

    ngx_gate_store(&fleet->clock_offset, now + rtt / 2 - ngx_gate_now());
}


static void
ngx_gate_beat_nodes(ngx_gate_node_t *node, redisReply *list, int64_t total)
{
    size_t                   i;
    int64_t                  age, now;
    uint32_t                 n, alive;
    redisReply             **e;
    ngx_gate_fleet_t        *fleet;
    ngx_gate_fleet_node_t   *fn;

    fleet = &node->sh->fleet;
    now = ngx_gate_now();
    n = 0;
    alive = 0;

    ngx_shmtx_lock(&node->shpool->mutex);

    for (i = 0; i < list->elements; i += 3) {
        e = &list->element[i];
        age = ngx_max(e[1]->integer, 0);
        alive += (age <= NGX_GATE_BEAT_ALIVE);

        /* what is no text of ours is counted, but not shown */

        if (n == NGX_GATE_FLEET_NODES
            || (size_t) e[0]->len >= sizeof(fn->name)
            || (size_t) e[2]->len >= sizeof(fn->info)
            || !gate_text_clean((u_char *) e[0]->str, (size_t) e[0]->len)
            || !gate_text_clean((u_char *) e[2]->str, (size_t) e[2]->len))
        {
            continue;
        }

        fn = &fleet->nodes[n++];

        ngx_gate_text(fn->name, sizeof(fn->name), (u_char *) e[0]->str,
                      (size_t) e[0]->len);
        ngx_gate_text(fn->info, sizeof(fn->info), (u_char *) e[2]->str,
                      (size_t) e[2]->len);
        fn->seen = now - age;
    }

    ngx_gate_store(&fleet->nnodes, n);
    ngx_gate_store(&fleet->total_nodes,
                   (uint32_t) ngx_min(total, NGX_MAX_INT32_VALUE));
    ngx_gate_store(&fleet->alive_nodes, ngx_max(alive, 1));

    ngx_shmtx_unlock(&node->shpool->mutex);
}


static ngx_int_t
ngx_gate_beat_seed(redisReply *reply, uint64_t seed[2])
{
    u_char      c;
    ngx_uint_t  i;

    if (reply->len != NGX_GATE_BEAT_SEED) {
        return NGX_DECLINED;
    }

    seed[0] = 0;
    seed[1] = 0;

    for (i = 0; i < NGX_GATE_BEAT_SEED; i++) {
        c = (u_char) reply->str[i];

        if (c >= '0' && c <= '9') {
            c -= '0';

        } else if (c >= 'a' && c <= 'f') {
            c -= 'a' - 10;

        } else if (c >= 'A' && c <= 'F') {
            c -= 'A' - 10;

        } else {
            return NGX_DECLINED;
        }

        seed[i / 16] = seed[i / 16] << 4 | c;
    }

    /* nobody's random number, and one that everybody can guess */

    return (seed[0] || seed[1]) ? NGX_OK : NGX_DECLINED;
}

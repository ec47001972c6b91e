
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * The agent's part in the fleet: it opens the session with Redis when it
 * takes office, and closes it when it leaves.  Everything that a node must
 * remember across agents is in the zone.
 */


#include "ngx_gate_fleet.h"

#include "ngx_gate_debt.h"
#include "ngx_gate_script.h"
#include "ngx_gate_sync.h"


static void ngx_gate_fleet_tick(ngx_gate_node_t *node, ngx_log_t *log);
static void ngx_gate_fleet_stop(ngx_gate_node_t *node, ngx_log_t *log,
    ngx_uint_t last);
static ngx_int_t ngx_gate_fleet_join(ngx_gate_node_t *node, ngx_log_t *log);
static void ngx_gate_fleet_leave(void);
static void ngx_gate_fleet_ready(void *data);
static void ngx_gate_fleet_lost(void *data);
static void ngx_gate_fleet_push(void *data);


ngx_gate_fleet_ops_t  ngx_gate_fleet_ops = {
    ngx_gate_fleet_tick,
    ngx_gate_fleet_stop
};


static ngx_gate_redis_handlers_t  ngx_gate_fleet_handlers = {
    ngx_gate_fleet_ready,
    ngx_gate_fleet_lost,
    ngx_gate_fleet_push,
    NGX_GATE_REDIS_PENDING
};


/* of this process, while it is the agent */
static ngx_gate_member_t  *ngx_gate_member;


static void
ngx_gate_fleet_tick(ngx_gate_node_t *node, ngx_log_t *log)
{
    ngx_gate_member_t  *m;

    m = ngx_gate_member;

    if (m && m->node != node) {

        /* a single process goes on with a new configuration */

        ngx_gate_fleet_leave();
        m = NULL;
    }

    if (m == NULL) {

        if (ngx_gate_fleet_join(node, log) != NGX_OK) {
            return;
        }

        m = ngx_gate_member;
    }

    ngx_gate_fleet_mails(m);
    ngx_gate_control_tick(m);
    ngx_gate_decide_tick(m);
    ngx_gate_override_tick(m);

    if (ngx_gate_redis_ready(m->redis) && node->sh->fleet.joined) {
        ngx_gate_sync_tick(m->redis, node, log);
    }

    ngx_gate_debt_tick(m->redis, node, log);
}


static ngx_int_t
ngx_gate_fleet_join(ngx_gate_node_t *node, ngx_log_t *log)
{
    u_char             *p;
    size_t              len;
    ngx_pool_t         *pool;
    ngx_gate_member_t  *m;

    pool = ngx_create_pool(4096, ngx_cycle->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    m = ngx_pcalloc(pool, sizeof(ngx_gate_member_t));
    if (m == NULL) {
        goto failed;
    }

    m->node = node;
    m->conf = node->redis;
    m->log = ngx_cycle->log;
    m->pool = pool;

    len = ngx_min(ngx_cycle->hostname.len,
                  NGX_GATE_FLEET_NODE_LEN - sizeof(":0123456789abcdef"));

    p = ngx_cpymem(m->name, ngx_cycle->hostname.data, len);
    p = ngx_sprintf(p, ":%016xL", node->sh->boot);

    m->id.data = (u_char *) m->name;
    m->id.len = p - m->id.data;

    if (ngx_gate_control_init(m) != NGX_OK
        || ngx_gate_decide_init(m) != NGX_OK
        || ngx_gate_override_init(m) != NGX_OK)
    {
        goto failed;
    }

    ngx_gate_scripts_init();

    node->sh->fleet.joined = 0;

    m->redis = ngx_gate_redis_open(m->conf, &ngx_gate_fleet_handlers, m,
                                   &node->sh->fleet, m->log);
    if (m->redis == NULL) {
        goto failed;
    }

    ngx_gate_member = m;

    return NGX_OK;

failed:

    ngx_destroy_pool(pool);

    return NGX_ERROR;
}


static void
ngx_gate_fleet_stop(ngx_gate_node_t *node, ngx_log_t *log, ngx_uint_t last)
{
    uint32_t            pid;
    ngx_gate_member_t  *m;

    m = ngx_gate_member;

    if (m == NULL) {
        return;
    }

    pid = (uint32_t) ngx_gate_load(&node->sh->agent);

    if (pid != 0 && pid != (uint32_t) ngx_pid) {
        ngx_gate_redis_mute(m->redis);
    }

    if (ngx_gate_redis_ready(m->redis) && m->node->sh->fleet.joined) {

        /* what was counted since the last sync goes out without a wait */

        ngx_gate_sync_final(m->redis, m->node);

        if (last) {

            /* else another agent goes on with them */

            ngx_gate_debt_final(m->redis, m->node);
        }
    }

    ngx_gate_fleet_leave();
}


static void
ngx_gate_fleet_leave(void)
{
    ngx_gate_member_t  *m;

    m = ngx_gate_member;
    ngx_gate_member = NULL;

    ngx_gate_redis_close(m->redis);

    ngx_gate_control_lost(m);
    ngx_gate_decide_lost(m);
    ngx_gate_override_lost(m);
    ngx_gate_sync_reset(m->node);
    ngx_gate_debt_leave();

    ngx_destroy_pool(m->pool);
}


static void
ngx_gate_fleet_ready(void *data)
{
    ngx_gate_member_t  *m = data;

    ngx_gate_control_look(m);
    ngx_gate_override_look(m);
}


static void
ngx_gate_fleet_lost(void *data)
{
    ngx_gate_member_t  *m = data;

    if (ngx_gate_fleet_mine(m)) {
        m->node->sh->fleet.joined = 0;
    }

    ngx_gate_control_lost(m);
    ngx_gate_decide_lost(m);
    ngx_gate_override_lost(m);
    ngx_gate_sync_reset(m->node);
    ngx_gate_debt_lost(m->node);
}


static void
ngx_gate_fleet_push(void *data)
{
    ngx_gate_member_t  *m = data;

    ngx_gate_control_look(m);
    ngx_gate_override_look(m);
}


ngx_uint_t
ngx_gate_fleet_mine(ngx_gate_member_t *m)
{
    return (uint32_t) ngx_gate_load(&m->node->sh->agent)
           == (uint32_t) ngx_pid;
}


void
ngx_gate_fleet_mails(ngx_gate_member_t *m)
{
    ngx_gate_mail_t  *mail;

    /* a letter about a newer configuration is not for us */

    if (m->node->generation != m->node->sh->generation) {
        return;
    }

    for ( ;; ) {

        /* one at a time, so that they happen in the order they came */

        if (m->putting || ngx_gate_decide_busy(m)) {
            return;
        }

        mail = ngx_gate_mail_take(m->node);

        if (mail == NULL) {
            return;
        }

        if (mail->kind == NGX_GATE_MAIL_ROLLOUT) {
            ngx_gate_wish_mail(m, mail);

        } else {
            ngx_gate_put_mail(m, mail);
        }
    }
}


void
ngx_gate_fleet_error(ngx_gate_member_t *m, const char *what,
    redisReply *reply)
{
    static const char  odd[] = "an answer of an unexpected form";

    if (reply->type == REDIS_REPLY_ERROR) {

        /* the session counted it, and told what it makes of it */

        return;
    }

    ngx_gate_redis_error(m->redis, NGX_GATE_ERROR_PROTOCOL, what, odd,
                         sizeof(odd) - 1);
}


void
ngx_gate_fleet_odd(ngx_gate_member_t *m, ngx_gate_odd_t *odd,
    ngx_gate_error_e error, const char *what, const char *text, size_t len)
{
    if (odd->is) {
        return;
    }

    odd->is = 1;

    if (!odd->said
        || (ngx_msec_int_t) (ngx_current_msec - odd->at)
           >= NGX_GATE_ODD_INTERVAL)
    {
        odd->said = 1;
        odd->at = ngx_current_msec;
        ngx_gate_redis_say(m->redis, error);
    }

    ngx_gate_redis_error(m->redis, error, what, text, len);
}


ngx_int_t
ngx_gate_fleet_number(ngx_pool_t *pool, ngx_str_t *s, uint64_t n)
{
    s->data = ngx_pnalloc(pool, NGX_INT64_LEN + 1);
    if (s->data == NULL) {
        return NGX_ERROR;
    }

    s->len = ngx_sprintf(s->data, "%uL", n) - s->data;

    return NGX_OK;
}


ngx_int_t
ngx_gate_fleet_key(ngx_pool_t *pool, ngx_str_t *key, ngx_str_t *prefix,
    const char *kind, ngx_str_t *name)
{
    size_t  len;

    len = ngx_strlen(kind);

    key->data = ngx_pnalloc(pool, prefix->len + len + name->len);
    if (key->data == NULL) {
        return NGX_ERROR;
    }

    key->len = ngx_sprintf(key->data, "%V%s%V", prefix, kind, name)
               - key->data;

    return NGX_OK;
}


int64_t
ngx_gate_fleet_value(redisReply *reply)
{
    uint64_t  n;

    if (reply->type == REDIS_REPLY_INTEGER) {
        return reply->integer;
    }

    if (reply->type == REDIS_REPLY_STRING
        && gate_parse_uint((u_char *) reply->str, reply->len, INT64_MAX, &n)
           == 0)
    {
        return (int64_t) n;
    }

    return -1;
}

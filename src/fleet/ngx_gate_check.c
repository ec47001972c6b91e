
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Is everything still in place?  A command connection does not notice that
 * the subscriber has gone, and a subscriber does not that nobody is tracked
 * for it any more.
 */


#include "ngx_gate_session.h"


static void ngx_gate_check_ponged(void *data, redisReply *reply);
static void ngx_gate_check_info(void *data, redisReply *reply);
static ngx_uint_t ngx_gate_check_tracked(ngx_gate_redis_t *rs,
    redisReply *reply);
static void ngx_gate_check_redirect(void *data, redisReply *reply);


void
ngx_gate_check(ngx_gate_redis_t *rs)
{
    ngx_str_t  argv[2];

    ngx_gate_sentinel_poll(rs);

    if (rs->polls || rs->state != NGX_GATE_SESSION_READY) {
        return;
    }

    if (!rs->status->tracking) {
        ngx_str_set(&argv[0], "PING");

        if (ngx_gate_link_send(&rs->command, 1, argv, ngx_gate_check_ponged,
                               rs)
            == NGX_OK)
        {
            rs->polls++;
        }

        return;
    }

    ngx_str_set(&argv[0], "PING");

    if (ngx_gate_link_send(&rs->push, 1, argv, ngx_gate_check_ponged, rs)
        == NGX_OK)
    {
        rs->polls++;
    }

    ngx_str_set(&argv[0], "CLIENT");

    if (rs->no_info) {
        ngx_str_set(&argv[1], "GETREDIR");
    } else {
        ngx_str_set(&argv[1], "TRACKINGINFO");
    }

    if (ngx_gate_link_send(&rs->command, 2, argv,
                           rs->no_info ? ngx_gate_check_redirect
                                       : ngx_gate_check_info,
                           rs)
        == NGX_OK)
    {
        rs->polls++;
    }
}


static void
ngx_gate_check_ponged(void *data, redisReply *reply)
{
    ngx_gate_redis_t *rs = data;

    if (reply == NULL) {
        return;
    }

    rs->polls--;

    if (reply->type == REDIS_REPLY_ERROR
        && !ngx_gate_fault_denied(reply))
    {
        (void) ngx_gate_fault_reply(rs, "PING", reply);
    }
}


/* CLIENT TRACKINGINFO, since 6.2 */

static void
ngx_gate_check_info(void *data, redisReply *reply)
{
    ngx_gate_redis_t *rs = data;

    if (reply == NULL) {
        return;
    }

    rs->polls--;

    if (reply->type == REDIS_REPLY_ERROR) {

        if (ngx_gate_fault_denied(reply)) {
            rs->no_info = 1;
            return;
        }

        (void) ngx_gate_fault_reply(rs, "CLIENT TRACKINGINFO", reply);
        return;
    }

    if (!ngx_gate_check_tracked(rs, reply)) {
        ngx_gate_redis_reset(rs, NGX_GATE_ERROR_CONNECT,
                             "changes are not pushed any more");
    }
}


/* "flags", [ .. ], "redirect", id, ... */

static ngx_uint_t
ngx_gate_check_tracked(ngx_gate_redis_t *rs, redisReply *reply)
{
    size_t       i, n;
    redisReply  *name, *value, *flag;

    if (reply->type != REDIS_REPLY_ARRAY) {
        return 0;
    }

    for (i = 0; i + 1 < reply->elements; i += 2) {
        name = reply->element[i];
        value = reply->element[i + 1];

        if (name->type != REDIS_REPLY_STRING) {
            return 0;
        }

        if (ngx_strcmp(name->str, "redirect") == 0
            && (value->type != REDIS_REPLY_INTEGER
                || value->integer != rs->push_id))
        {
            return 0;
        }

        if (ngx_strcmp(name->str, "flags") != 0
            || value->type != REDIS_REPLY_ARRAY)
        {
            continue;
        }

        for (n = 0; n < value->elements; n++) {
            flag = value->element[n];

            if ((flag->type != REDIS_REPLY_STRING
                 && flag->type != REDIS_REPLY_STATUS)
                || ngx_strcmp(flag->str, "off") == 0
                || ngx_strcmp(flag->str, "broken_redirect") == 0)
            {
                return 0;
            }
        }
    }

    return 1;
}


/* CLIENT GETREDIR, since 6.0 */

static void
ngx_gate_check_redirect(void *data, redisReply *reply)
{
    ngx_gate_redis_t *rs = data;

    if (reply == NULL) {
        return;
    }

    rs->polls--;

    if (reply->type == REDIS_REPLY_ERROR) {

        /* PING must do then */

        if (!ngx_gate_fault_denied(reply)) {
            (void) ngx_gate_fault_reply(rs, "CLIENT GETREDIR", reply);
        }

        return;
    }

    if (reply->type != REDIS_REPLY_INTEGER || reply->integer != rs->push_id) {
        ngx_gate_redis_reset(rs, NGX_GATE_ERROR_CONNECT,
                             "changes are not pushed any more");
    }
}

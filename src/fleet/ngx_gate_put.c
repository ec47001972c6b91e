
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Control keys, the way to Redis: what an operator sets through the API, what
 * was set here while Redis was away, and what Redis forgot.
 *
 * An emergency does not wait: where Redis cannot be asked, or refuses, the
 * value holds on this node at once and is pushed when it can be.
 */


#include "ngx_gate_control.h"

#include <jansson.h>


#define NGX_GATE_PUT_ARGS  13


static ngx_int_t ngx_gate_put_find(ngx_gate_member_t *m,
    ngx_gate_mail_t *mail);
static ngx_int_t ngx_gate_put_wish(ngx_gate_member_t *m, ngx_uint_t i,
    ngx_pool_t *pool, ngx_str_t *text);
static void ngx_gate_put_keep(ngx_gate_member_t *m, const char *why);
static void ngx_gate_put_done(void *data, redisReply *reply);
static void ngx_gate_put_refused(ngx_gate_member_t *m, const char *why);
static void ngx_gate_put_set(ngx_gate_member_t *m, ngx_uint_t i,
    ngx_gate_mail_t *letter);
static void ngx_gate_put_answer(ngx_gate_member_t *m, ngx_int_t result,
    const char *why);
static void ngx_gate_put_restored(void *data, redisReply *reply);
static ngx_int_t ngx_gate_put_text(ngx_gate_member_t *m, ngx_uint_t i,
    ngx_pool_t *pool, ngx_str_t *text);
static ngx_int_t ngx_gate_put_json(ngx_pool_t *pool, gate_switch_value_t *v,
    const char *actor, ngx_str_t *text);


void
ngx_gate_put_mail(ngx_gate_member_t *m, ngx_gate_mail_t *mail)
{
    ngx_int_t  i;

    i = ngx_gate_put_find(m, mail);

    if (i == NGX_ERROR) {
        ngx_gate_mail_done(mail, mail->id, NGX_DECLINED,
                           "the configuration has just changed, ask again");
        return;
    }

    m->mail = mail;
    m->letter = *mail;

    if (ngx_gate_redis_ready(m->redis) && m->node->sh->fleet.joined) {
        ngx_gate_put_send(m, i, 1);

        if (m->putting) {
            return;
        }
    }

    m->put = i;

    ngx_gate_put_keep(m, "Redis is away: done on this node, the others hear "
                         "of it when it is back");
}


/*
 * An emergency does not wait for Redis: what the letter wants holds on this
 * node at once, and is pushed, unless somebody else is heard before.
 */

static void
ngx_gate_put_keep(ngx_gate_member_t *m, const char *why)
{
    ngx_gate_put_set(m, m->put, &m->letter);
    ngx_gate_control_known(m, m->put)->dirty = 1;

    ngx_gate_put_answer(m, NGX_OK, why);
}


void
ngx_gate_put_lost(ngx_gate_member_t *m)
{
    if (m->mail == NULL) {
        return;
    }

    if (!ngx_gate_fleet_mine(m)) {
        ngx_gate_put_answer(m, NGX_ERROR, NULL);
        return;
    }

    /* if Redis did it, it has a newer revision, and that one counts */

    ngx_gate_put_keep(m, "Redis did not answer: done on this node, the "
                         "others hear of it when it is back");
}


/* The string that a letter is about; NGX_ERROR: there is none any more. */

static ngx_int_t
ngx_gate_put_find(ngx_gate_member_t *m, ngx_gate_mail_t *mail)
{
    ngx_uint_t  i;

    if (mail->kind == NGX_GATE_MAIL_MODE) {
        return (mail->sw < NGX_GATE_MODES
                && mail->weight <= NGX_GATE_MODE_OFF)
               ? (ngx_int_t) (m->node->switches.nelts + mail->sw)
               : NGX_ERROR;
    }

    for (i = 0; i < m->node->switches.nelts; i++) {

        if (m->node->sw_map[i] == mail->sw) {
            return i;
        }
    }

    return NGX_ERROR;
}


/* What the letter wants to stand there; empty: nothing. */

static ngx_int_t
ngx_gate_put_wish(ngx_gate_member_t *m, ngx_uint_t i, ngx_pool_t *pool,
    ngx_str_t *text)
{
    ngx_str_null(text);

    if (i < m->node->switches.nelts) {
        return m->letter.value.on
               ? ngx_gate_put_json(pool, &m->letter.value,
                                       m->letter.actor, text)
               : NGX_OK;
    }

    if (m->letter.weight != NGX_GATE_MODE_ENFORCE) {
        text->data = (u_char *) ngx_gate_mode_name(m->letter.weight);
        text->len = ngx_strlen(text->data);
    }

    return NGX_OK;
}


/* force: m->letter, whatever is there; else what we hold, if nobody else
   was heard since */

void
ngx_gate_put_send(ngx_gate_member_t *m, ngx_uint_t i, ngx_uint_t force)
{
    ngx_int_t    rc;
    ngx_str_t    argv[NGX_GATE_PUT_ARGS], text;
    ngx_uint_t   mode;
    ngx_pool_t  *pool;

    pool = ngx_create_pool(2048, m->log);
    if (pool == NULL) {
        return;
    }

    mode = (i >= m->node->switches.nelts);

    rc = force ? ngx_gate_put_wish(m, i, pool, &text)
               : ngx_gate_put_text(m, i, pool, &text);

    argv[0] = m->keys[2 + i];
    argv[1] = m->keys[0];
    argv[2] = m->keys[1];
    argv[3] = m->id;

    argv[4].data = (u_char *) (force ? m->letter.actor
                               : mode
                               ? m->node->sh->modes[
                                           ngx_gate_control_gate(m, i)].actor
                               : ngx_gate_control_sw(m, i)->control_actor);
    argv[4].len = ngx_strlen(argv[4].data);

    argv[5].data = (u_char *) (force ? m->letter.reason
                                     : "set while Redis was away");
    argv[5].len = ngx_strlen(argv[5].data);

    ngx_gate_control_name(m, i, &argv[6]);

    argv[7].data = (u_char *) (mode ? "mode" : "maintenance");
    argv[7].len = ngx_strlen(argv[7].data);

    argv[8].data = (u_char *) (text.len ? "set" : "del");
    argv[8].len = sizeof("set") - 1;

    argv[9] = text;

    ngx_str_set(&argv[10], "-1");

    rc |= ngx_gate_fleet_number(pool, &argv[11],
                                ngx_gate_control_known(m, i)->rev);

    argv[12].data = (u_char *) (force ? "1" : "0");
    argv[12].len = 1;

    m->put_at = ngx_current_msec;

    if (rc == NGX_OK
        && ngx_gate_redis_script(m->redis, NGX_GATE_SCRIPT_PUT, 3,
                                 NGX_GATE_PUT_ARGS, argv,
                                 ngx_gate_put_done, m)
           == NGX_OK)
    {
        m->putting = 1;
        m->refused = 0;
        m->put = i;
        m->mail = force ? m->mail : NULL;
    }

    ngx_destroy_pool(pool);
}


static void
ngx_gate_put_done(void *data, redisReply *reply)
{
    ngx_gate_member_t *m = data;

    int64_t            rev;
    redisReply        *result;
    ngx_gate_known_t  *known;

    m->putting = 0;

    if (reply == NULL || !ngx_gate_fleet_mine(m)) {
        ngx_gate_put_lost(m);
        return;
    }

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 3
        || reply->element[0]->type != REDIS_REPLY_STRING)
    {
        ngx_gate_fleet_error(m, "writing a control key", reply);
        ngx_gate_put_refused(m, "Redis refused it: done on this node, tried "
                                "again");
        return;
    }

    result = reply->element[0];

    if (ngx_strcmp(result->str, "type") == 0) {
        ngx_gate_put_refused(m, "the key in Redis holds another type: done "
                                "on this node, tried again");
        return;
    }

    rev = ngx_gate_fleet_value(reply->element[2]);
    known = ngx_gate_control_known(m, m->put);

    known->dirty = 0;

    if (ngx_strcmp(result->str, "ok") == 0 && rev > 0) {

        if (m->mail) {
            ngx_gate_put_set(m, m->put, &m->letter);
        }

        known->rev = (uint64_t) rev;
        known->there = (m->put < m->node->switches.nelts)
                 ? ngx_gate_control_sw(m, m->put)->control.on
                 : m->node->sh->modes[ngx_gate_control_gate(m, m->put)].value
                   != NGX_GATE_MODE_ENFORCE;

        ngx_gate_changed(m->node->sh);
    }

    ngx_gate_put_answer(m, NGX_OK, NULL);

    ngx_gate_control_look(m);
}


/* What is dirty stays so, and is tried again in a while. */

static void
ngx_gate_put_refused(ngx_gate_member_t *m, const char *why)
{
    m->refused = 1;

    if (m->mail) {
        ngx_gate_put_keep(m, why);
    }
}


static void
ngx_gate_put_set(ngx_gate_member_t *m, ngx_uint_t i,
    ngx_gate_mail_t *letter)
{
    uint64_t             old;
    ngx_uint_t           gate;
    ngx_gate_switch_t   *s;
    gate_switch_value_t  before;

    if (i < m->node->switches.nelts) {
        s = ngx_gate_control_sw(m, i);
        before = s->control;

        ngx_gate_switch_set(m->node, s, &letter->value, "api",
                            letter->actor);
        ngx_gate_control_audit(m, i, "api", letter->actor,
                               ngx_gate_control_word(&before),
                               ngx_gate_control_word(&letter->value),
                               letter->reason);
        return;
    }

    gate = ngx_gate_control_gate(m, i);
    old = m->node->sh->modes[gate].value;

    ngx_gate_mode_set(m->node, gate, letter->weight, "api", letter->actor);
    ngx_gate_control_audit(m, i, "api", letter->actor,
                           ngx_gate_mode_name(old),
                           ngx_gate_mode_name(letter->weight),
                           letter->reason);
}


/* Answers the letter that the put under way is for, if there is one. */

static void
ngx_gate_put_answer(ngx_gate_member_t *m, ngx_int_t result,
    const char *why)
{
    if (m->mail) {
        ngx_gate_mail_done(m->mail, m->letter.id, result, why);
        m->mail = NULL;
    }
}


/* What we hold of keys that Redis forgot. */

void
ngx_gate_put_restore(ngx_gate_member_t *m, redisReply *strings)
{
    ngx_int_t          rc;
    ngx_str_t         *keys, *args, *argv;
    ngx_uint_t         i, n, argc;
    ngx_pool_t        *pool;
    ngx_gate_seen_t    seen;
    ngx_gate_known_t  *known;

    if (m->restoring) {
        return;
    }

    pool = ngx_create_pool(4096, m->log);
    if (pool == NULL) {
        return;
    }

    keys = ngx_palloc(pool, (2 + m->nstrings + 3 + 4 * m->nstrings)
                            * sizeof(ngx_str_t));
    args = ngx_palloc(pool, (3 + 4 * m->nstrings) * sizeof(ngx_str_t));

    if (keys == NULL || args == NULL) {
        goto done;
    }

    argv = keys;
    argc = 3;
    n = 0;
    rc = NGX_OK;

    keys[0] = m->keys[0];
    keys[1] = m->keys[1];

    for (i = 0; i < m->nstrings; i++) {

        if (ngx_gate_control_item(strings->element[i], 0, &seen) != NGX_OK
            || seen.status != NGX_GATE_SEEN_WANT)
        {
            continue;
        }

        known = ngx_gate_control_known(m, i);

        keys[2 + n++] = m->keys[2 + i];

        rc |= ngx_gate_fleet_number(pool, &args[argc++], known->rev);
        rc |= ngx_gate_put_text(m, i, pool, &args[argc + 1]);

        if (args[argc + 1].len) {
            ngx_str_set(&args[argc], "1");
        } else {
            ngx_str_set(&args[argc], "0");
        }

        argc += 2;

        /* the end of a value is in its text */

        ngx_str_set(&args[argc], "-1");
        argc++;
    }

    if (n == 0) {
        goto done;
    }

    args[0] = m->id;
    args[1].data = (u_char *) m->node->sh->fleet.inc;
    args[1].len = ngx_strlen(args[1].data);
    rc |= ngx_gate_fleet_number(pool, &args[2], n);

    ngx_memcpy(argv + 2 + n, args, argc * sizeof(ngx_str_t));

    if (rc == NGX_OK
        && ngx_gate_redis_script(m->redis, NGX_GATE_SCRIPT_RESTORE, 2 + n,
                                 2 + n + argc, argv,
                                 ngx_gate_put_restored, m)
           == NGX_OK)
    {
        m->restoring = 1;
    }

done:

    ngx_destroy_pool(pool);
}


static void
ngx_gate_put_restored(void *data, redisReply *reply)
{
    ngx_gate_member_t *m = data;

    size_t       i;
    redisReply  *done;

    m->restoring = 0;

    if (reply == NULL) {
        return;
    }

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2
        || reply->element[1]->type != REDIS_REPLY_ARRAY)
    {
        ngx_gate_fleet_error(m, "restoring control keys", reply);
        return;
    }

    done = reply->element[1];

    for (i = 0; i < done->elements; i++) {

        if (done->element[i]->type == REDIS_REPLY_STRING
            && ngx_strcmp(done->element[i]->str, "ok") == 0)
        {
            ngx_gate_control_look(m);
            return;
        }
    }

    /* what somebody else has to restore is not asked for again at once */
}


/* What we hold as it is written to Redis; empty: the key is absent. */

static ngx_int_t
ngx_gate_put_text(ngx_gate_member_t *m, ngx_uint_t i, ngx_pool_t *pool,
    ngx_str_t *text)
{
    ngx_gate_mode_t    *mode;
    ngx_gate_switch_t  *s;

    ngx_str_null(text);

    if (i >= m->node->switches.nelts) {
        mode = &m->node->sh->modes[ngx_gate_control_gate(m, i)];

        if (mode->value != NGX_GATE_MODE_ENFORCE) {
            text->data = (u_char *) ngx_gate_mode_name(mode->value);
            text->len = ngx_strlen(text->data);
        }

        return NGX_OK;
    }

    s = ngx_gate_control_sw(m, i);

    if (!s->control.on
        || (s->control.until && s->control.until <= ngx_time()))
    {
        return NGX_OK;
    }

    return ngx_gate_put_json(pool, &s->control, s->control_actor, text);
}


static ngx_int_t
ngx_gate_put_json(ngx_pool_t *pool, gate_switch_value_t *v,
    const char *actor, ngx_str_t *text)
{
    char    *dump;
    json_t  *root;

    root = gate_switch_to_json(v);

    if (root && *actor) {

        /* a name that is no text is left out, the switch matters more */

        (void) json_object_set_new(root, "by", json_string(actor));
    }

    dump = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);

    if (dump == NULL) {
        return NGX_ERROR;
    }

    text->len = ngx_strlen(dump);
    text->data = ngx_pnalloc(pool, text->len);

    if (text->data) {
        ngx_memcpy(text->data, dump, text->len);
    }

    free(dump);

    return text->data ? NGX_OK : NGX_ERROR;
}

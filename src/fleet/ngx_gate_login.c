
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * From a connection to "ready".
 *
 *     commands: AUTH; then at once SELECT, ROLE, INFO, CLIENT SETNAME
 *     pushes:   AUTH; then at once CLIENT SETNAME, CLIENT ID, SUBSCRIBE
 *     commands: CLIENT TRACKING OFF, then ON with a redirection to the other
 *
 * A session for commands only is ready after the first of these lines.
 *
 * A password is read from its file for each login, where this process can
 * read it, so that a corrected one works without a reload.  It is in memory
 * for as long as that takes, and in no message: not even in what Redis
 * answers, which may quote a command that it does not know.
 */


#include "ngx_gate_session.h"


#define NGX_GATE_LOGIN_WORDS     3
#define NGX_GATE_LOGIN_PASSWORD  1024


static ngx_int_t ngx_gate_login_read(ngx_gate_redis_conf_t *conf,
    ngx_str_t *path, u_char *buf, ngx_str_t *password);
static ngx_uint_t ngx_gate_login_ok(ngx_gate_redis_t *rs, const char *what,
    redisReply *reply);
static void ngx_gate_login_authorized(void *data, redisReply *reply);
static void ngx_gate_login_look(ngx_gate_redis_t *rs);
static void ngx_gate_login_select(void *data, redisReply *reply);
static void ngx_gate_login_role(void *data, redisReply *reply);
static void ngx_gate_login_info(void *data, redisReply *reply);
static ngx_int_t ngx_gate_login_judge(ngx_gate_redis_t *rs,
    redisReply *reply);
static void ngx_gate_login_evictable(ngx_gate_redis_t *rs, ngx_str_t *policy);
static ngx_uint_t ngx_gate_login_field(redisReply *reply, const char *name,
    ngx_str_t *value);
static void ngx_gate_login_named(void *data, redisReply *reply);
static void ngx_gate_login_push_authorized(void *data, redisReply *reply);
static void ngx_gate_login_subscribe(ngx_gate_redis_t *rs);
static void ngx_gate_login_push_named(void *data, redisReply *reply);
static void ngx_gate_login_id(void *data, redisReply *reply);
static void ngx_gate_login_subscribed(void *data, redisReply *reply);
static void ngx_gate_login_track(ngx_gate_redis_t *rs);
static void ngx_gate_login_tracking(void *data, redisReply *reply);
static void ngx_gate_login_poll_only(ngx_gate_redis_t *rs, const char *what);


ngx_int_t
ngx_gate_redis_password(ngx_str_t *text)
{
    size_t  i;

    while (text->len && (text->data[text->len - 1] == LF
                         || text->data[text->len - 1] == CR))
    {
        text->len--;
    }

    for (i = 0; i < text->len; i++) {
        if (text->data[i] < 0x20 || text->data[i] == 0x7f) {
            return NGX_ERROR;
        }
    }

    return text->len ? NGX_OK : NGX_ERROR;
}


/* The same rules as when the configuration was read. */

static ngx_int_t
ngx_gate_login_read(ngx_gate_redis_conf_t *conf, ngx_str_t *path,
    u_char *buf, ngx_str_t *password)
{
    ssize_t          n;
    ngx_fd_t         fd;
    ngx_file_info_t  fi;

    fd = ngx_open_file(path->data, NGX_FILE_RDONLY|NGX_FILE_NONBLOCK,
                       NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        return NGX_ERROR;
    }

    n = -1;

    if (ngx_fd_info(fd, &fi) != NGX_FILE_ERROR && ngx_is_file(&fi)
        && (fi.st_mode & 0007) == 0
        && ((fi.st_mode & 0070) == 0 || fi.st_gid == conf->gid)
        && ngx_file_size(&fi) <= NGX_GATE_LOGIN_PASSWORD)
    {
        n = ngx_read_fd(fd, buf, NGX_GATE_LOGIN_PASSWORD);
    }

    (void) ngx_close_file(fd);

    if (n <= 0) {
        return NGX_ERROR;
    }

    password->data = buf;
    password->len = (size_t) n;

    return ngx_gate_redis_password(password);
}


ngx_uint_t
ngx_gate_login_live(ngx_gate_redis_t *rs)
{
    ngx_int_t  rc;
    ngx_str_t  password;
    u_char     buf[NGX_GATE_LOGIN_PASSWORD];

    if (rs->conf->password_file.len == 0) {
        return 0;
    }

    rc = ngx_gate_login_read(rs->conf, &rs->conf->password_file, buf,
                             &password);

    ngx_explicit_memzero(buf, sizeof(buf));

    return rc == NGX_OK;
}


ngx_int_t
ngx_gate_login_auth(ngx_gate_redis_t *rs, ngx_gate_link_t *link,
    ngx_uint_t sentinel, ngx_gate_link_reply_pt handler)
{
    ngx_int_t               rc;
    ngx_str_t               argv[3], *path, *user, *known;
    ngx_uint_t              n;
    ngx_gate_redis_conf_t  *conf;
    u_char                  buf[NGX_GATE_LOGIN_PASSWORD];

    conf = rs->conf;

    path = sentinel ? &conf->sentinel_password_file : &conf->password_file;
    user = sentinel ? &conf->sentinel_user : &conf->user;
    known = sentinel ? &conf->sentinel_password : &conf->password;

    if (known->len == 0) {
        return NGX_DECLINED;
    }

    ngx_str_set(&argv[0], "AUTH");
    n = 1;

    if (user->len) {
        argv[n++] = *user;
    }

    if (ngx_gate_login_read(conf, path, buf, &argv[n]) != NGX_OK) {
        argv[n] = *known;
    }

    n++;

    link->secret = 1;

    rc = ngx_gate_link_send(link, n, argv, handler, rs);

    ngx_explicit_memzero(buf, sizeof(buf));

    return rc == NGX_OK ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_gate_login_send(ngx_gate_redis_t *rs, ngx_gate_link_t *link,
    ngx_gate_link_reply_pt handler, const char *one, const char *two,
    const char *three)
{
    ngx_str_t    argv[NGX_GATE_LOGIN_WORDS];
    ngx_uint_t   n;
    const char  *words[NGX_GATE_LOGIN_WORDS];

    words[0] = one;
    words[1] = two;
    words[2] = three;

    for (n = 0; n < NGX_GATE_LOGIN_WORDS && words[n]; n++) {
        argv[n].data = (u_char *) words[n];
        argv[n].len = ngx_strlen(words[n]);
    }

    if (ngx_gate_link_send(link, n, argv, handler, rs) == NGX_OK) {
        return NGX_OK;
    }

    ngx_gate_redis_error(rs, NGX_GATE_ERROR_CONNECT, one,
                         ngx_gate_literal("cannot be sent"));
    ngx_gate_redis_drop(rs, NGX_GATE_DROP_BACKOFF);

    return NGX_ERROR;
}


/* Of a reply that is to be "OK"; else the attempt has failed. */

static ngx_uint_t
ngx_gate_login_ok(ngx_gate_redis_t *rs, const char *what, redisReply *reply)
{
    if (reply == NULL) {
        return 0;
    }

    if (reply->type == REDIS_REPLY_ERROR) {
        ngx_gate_fault_login(rs, what, reply);
        return 0;
    }

    if (reply->type != REDIS_REPLY_STATUS) {
        ngx_gate_fault_odd(rs, what);
        return 0;
    }

    return 1;
}


void
ngx_gate_login_command(ngx_gate_redis_t *rs)
{
    rs->state = NGX_GATE_SESSION_LOGIN;

    switch (ngx_gate_login_auth(rs, &rs->command, 0,
                                ngx_gate_login_authorized))
    {
    case NGX_OK:
        break;

    case NGX_DECLINED:
        ngx_gate_login_look(rs);
        break;

    default:
        ngx_gate_redis_error(rs, NGX_GATE_ERROR_CONNECT, "AUTH",
                             ngx_gate_literal("cannot be sent"));
        ngx_gate_redis_drop(rs, NGX_GATE_DROP_BACKOFF);
    }
}


ngx_uint_t
ngx_gate_login_authorizes(ngx_gate_redis_t *rs, redisReply *reply)
{
    /* "unknown command `AUTH`, with args beginning with: ..." */

    if (reply && ngx_gate_fault_is(reply, "ERR unknown")) {
        ngx_gate_redis_error(rs, NGX_GATE_ERROR_AUTH, "AUTH",
                             ngx_gate_literal("the server does not know this "
                                              "command"));
        ngx_gate_redis_drop(rs, NGX_GATE_DROP_SLOW);
        return 0;
    }

    return ngx_gate_login_ok(rs, "AUTH", reply);
}


static void
ngx_gate_login_authorized(void *data, redisReply *reply)
{
    ngx_gate_redis_t *rs = data;

    if (ngx_gate_login_authorizes(rs, reply)) {
        ngx_gate_login_look(rs);
    }
}


static void
ngx_gate_login_look(ngx_gate_redis_t *rs)
{
    u_char            db[NGX_INT_T_LEN + 1];
    ngx_gate_link_t  *link;

    link = &rs->command;

    rs->role_unknown = 0;

    if (rs->conf->url.db) {
        ngx_sprintf(db, "%ui%Z", (ngx_uint_t) rs->conf->url.db);

        if (ngx_gate_login_send(rs, link, ngx_gate_login_select,
                                "SELECT", (char *) db, NULL)
            != NGX_OK)
        {
            return;
        }
    }

    if (ngx_gate_login_send(rs, link, ngx_gate_login_role, "ROLE", NULL,
                            NULL)
        != NGX_OK
        || ngx_gate_login_send(rs, link, ngx_gate_login_info, "INFO",
                               NULL, NULL)
           != NGX_OK)
    {
        return;
    }

    (void) ngx_gate_login_send(rs, link, ngx_gate_login_named,
                               "CLIENT", "SETNAME", "nginx-gate");
}


static void
ngx_gate_login_select(void *data, redisReply *reply)
{
    (void) ngx_gate_login_ok(data, "SELECT", reply);
}


/*
 * After a planned failover the old master goes on acknowledging writes for
 * seconds, and they are lost: only who says that he is the master is one.
 */

static void
ngx_gate_login_role(void *data, redisReply *reply)
{
    ngx_gate_redis_t *rs = data;

    redisReply  *role;

    if (reply == NULL) {
        return;
    }

    if (reply->type == REDIS_REPLY_ERROR) {

        if (ngx_gate_fault_denied(reply)) {
            rs->role_unknown = 1;
            return;
        }

        ngx_gate_fault_login(rs, "ROLE", reply);
        return;
    }

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0
        || reply->element[0]->type != REDIS_REPLY_STRING)
    {
        ngx_gate_fault_odd(rs, "ROLE");
        return;
    }

    role = reply->element[0];

    ngx_gate_text(rs->status->role, sizeof(rs->status->role),
                  (u_char *) role->str, role->len);

    if (role->len == 6 && ngx_memcmp(role->str, "master", 6) == 0) {
        return;
    }

    ngx_gate_redis_error(rs, NGX_GATE_ERROR_ROLE, "this is no master, but a",
                         role->str, role->len);
    ngx_gate_redis_drop(rs, NGX_GATE_DROP_BACKOFF);
}


static void
ngx_gate_login_info(void *data, redisReply *reply)
{
    ngx_gate_redis_t *rs = data;

    ngx_gate_fleet_t  *status;

    if (reply == NULL) {
        return;
    }

    status = rs->status;

    status->version[0] = '\0';
    status->evictable = 0;
    rs->no_tracking = 0;

    if (rs->role_unknown) {
        ngx_gate_text(status->role, sizeof(status->role),
                      (u_char *) "unknown", 7);
    }

    if (reply->type == REDIS_REPLY_ERROR) {

        if (!ngx_gate_fault_denied(reply)) {
            ngx_gate_fault_login(rs, "INFO", reply);
        }

        return;
    }

    if (reply->type != REDIS_REPLY_STRING) {
        ngx_gate_fault_odd(rs, "INFO");
        return;
    }

    (void) ngx_gate_login_judge(rs, reply);
}


static ngx_int_t
ngx_gate_login_judge(ngx_gate_redis_t *rs, redisReply *reply)
{
    ngx_str_t          v;
    ngx_gate_fleet_t  *status;

    status = rs->status;

    if (ngx_gate_login_field(reply, "redis_version", &v)) {
        ngx_gate_text(status->version, sizeof(status->version), v.data,
                      v.len);

        /* what came before 6 knows no tracking: 2.x .. 5.x */

        rs->no_tracking = (v.len > 1 && v.data[1] == '.' && v.data[0] < '6');
    }

    if (ngx_gate_login_field(reply, "loading", &v) && v.len == 1
        && v.data[0] == '1')
    {
        ngx_gate_redis_error(rs, NGX_GATE_ERROR_BUSY, "INFO",
                             ngx_gate_literal("the server is loading its "
                                              "data"));
        ngx_gate_redis_drop(rs, NGX_GATE_DROP_BACKOFF);
        return NGX_ERROR;
    }

    if (rs->role_unknown && ngx_gate_login_field(reply, "role", &v)) {
        ngx_gate_text(status->role, sizeof(status->role), v.data, v.len);

        if (v.len != 6 || ngx_memcmp(v.data, "master", 6) != 0) {
            ngx_gate_redis_error(rs, NGX_GATE_ERROR_ROLE,
                                 "this is no master, but a",
                                 (char *) v.data, v.len);
            ngx_gate_redis_drop(rs, NGX_GATE_DROP_BACKOFF);
            return NGX_ERROR;
        }
    }

    if (ngx_gate_login_field(reply, "cluster_enabled", &v) && v.len == 1
        && v.data[0] == '1'
        && ngx_strlchr(rs->conf->prefix.data,
                       rs->conf->prefix.data + rs->conf->prefix.len, '{')
           == NULL)
    {
        ngx_gate_redis_error(rs, NGX_GATE_ERROR_CLUSTER,
                             "this is a Redis Cluster",
                             ngx_gate_literal("all keys of a gate must be in "
                                              "one slot, use prefix={gate}: "
                                              "in quotes, or another tag"));
        ngx_gate_redis_drop(rs, NGX_GATE_DROP_SLOW);
        return NGX_ERROR;
    }

    if (ngx_gate_login_field(reply, "maxmemory_policy", &v)
        && v.len > 8 && ngx_memcmp(v.data, "allkeys-", 8) == 0)
    {
        ngx_gate_login_evictable(rs, &v);
    }

    return NGX_OK;
}


static void
ngx_gate_login_evictable(ngx_gate_redis_t *rs, ngx_str_t *policy)
{
    rs->status->evictable = 1;

    if (rs->warned && (ngx_msec_int_t) (ngx_current_msec - rs->warned_at)
                      < NGX_GATE_LOG_INTERVAL)
    {
        return;
    }

    rs->warned = 1;
    rs->warned_at = ngx_current_msec;

    ngx_log_error(ngx_gate_session_level(rs, NGX_LOG_WARN), rs->log, 0,
                  "gate: Redis %V evicts keys by its maxmemory-policy "
                  "\"%*s\", and may evict the gate's; use \"noeviction\" or "
                  "one of \"volatile-\"", &rs->address,
                  ngx_min(policy->len, 32), policy->data);
}


/* A line "name:value" CR LF of INFO. */

static ngx_uint_t
ngx_gate_login_field(redisReply *reply, const char *name, ngx_str_t *value)
{
    size_t   len;
    u_char  *p, *end, *last;

    len = ngx_strlen(name);
    p = (u_char *) reply->str;
    last = p + reply->len;

    while (p < last) {

        end = ngx_strlchr(p, last, LF);
        if (end == NULL) {
            end = last;
        }

        if ((size_t) (end - p) > len && p[len] == ':'
            && ngx_memcmp(p, name, len) == 0)
        {
            value->data = p + len + 1;
            value->len = end - value->data;

            if (value->len && value->data[value->len - 1] == CR) {
                value->len--;
            }

            return value->len != 0 && value->data[0] >= 0x20
                   && value->data[0] < 0x7f;
        }

        p = end + 1;
    }

    return 0;
}


/* Whether it has a name or not: this was the last one of its kind. */

static void
ngx_gate_login_named(void *data, redisReply *reply)
{
    ngx_gate_redis_t *rs = data;

    if (reply == NULL) {
        return;
    }

    if (rs->handlers->push == NULL) {
        ngx_gate_redis_done(rs);
        return;
    }

    if (rs->no_tracking) {
        ngx_gate_login_poll_only(rs, "its version knows no tracking");
        return;
    }

    rs->state = NGX_GATE_SESSION_SUBSCRIBE;

    ngx_gate_redis_connect(rs);
}


void
ngx_gate_login_push(ngx_gate_redis_t *rs)
{
    switch (ngx_gate_login_auth(rs, &rs->push, 0,
                                ngx_gate_login_push_authorized))
    {
    case NGX_OK:
        break;

    case NGX_DECLINED:
        ngx_gate_login_subscribe(rs);
        break;

    default:
        ngx_gate_redis_error(rs, NGX_GATE_ERROR_CONNECT, "AUTH",
                             ngx_gate_literal("cannot be sent"));
        ngx_gate_redis_drop(rs, NGX_GATE_DROP_BACKOFF);
    }
}


static void
ngx_gate_login_push_authorized(void *data, redisReply *reply)
{
    ngx_gate_redis_t *rs = data;

    if (ngx_gate_login_authorizes(rs, reply)) {
        ngx_gate_login_subscribe(rs);
    }
}


static void
ngx_gate_login_subscribe(ngx_gate_redis_t *rs)
{
    ngx_gate_link_t  *link;

    link = &rs->push;
    link->pushes = 1;

    rs->push_id = 0;

    if (ngx_gate_login_send(rs, link, ngx_gate_login_push_named,
                            "CLIENT", "SETNAME", "nginx-gate")
        != NGX_OK
        || ngx_gate_login_send(rs, link, ngx_gate_login_id,
                               "CLIENT", "ID", NULL)
           != NGX_OK)
    {
        return;
    }

    (void) ngx_gate_login_send(rs, link, ngx_gate_login_subscribed,
                               "SUBSCRIBE", "__redis__:invalidate",
                               NULL);
}


static void
ngx_gate_login_push_named(void *data, redisReply *reply)
{
    ngx_gate_redis_t *rs = data;

    ngx_gate_error_e  error;

    /* a name is nothing to insist on, but a first reply may be about more */

    if (reply && reply->type == REDIS_REPLY_ERROR
        && ngx_gate_fault(reply->str, reply->len, &error)
           != NGX_GATE_FAULT_KEEP)
    {
        ngx_gate_fault_login(rs, "connection for pushes", reply);
    }
}


static void
ngx_gate_login_id(void *data, redisReply *reply)
{
    ngx_gate_redis_t *rs = data;

    if (reply == NULL) {
        return;
    }

    if (reply->type == REDIS_REPLY_ERROR) {

        if (ngx_gate_fault_denied(reply)) {
            ngx_gate_login_poll_only(rs, "CLIENT ID is refused");
            return;
        }

        ngx_gate_fault_login(rs, "CLIENT ID", reply);
        return;
    }

    if (reply->type != REDIS_REPLY_INTEGER || reply->integer <= 0) {
        ngx_gate_fault_odd(rs, "CLIENT ID");
        return;
    }

    rs->push_id = reply->integer;
}


static void
ngx_gate_login_subscribed(void *data, redisReply *reply)
{
    ngx_gate_redis_t *rs = data;

    if (reply == NULL) {
        return;
    }

    if (reply->type == REDIS_REPLY_ERROR) {

        if (ngx_gate_fault_denied(reply)) {
            ngx_gate_login_poll_only(rs, "SUBSCRIBE is refused");
            return;
        }

        ngx_gate_fault_login(rs, "SUBSCRIBE", reply);
        return;
    }

    if (reply->type != REDIS_REPLY_ARRAY || rs->push_id == 0) {
        ngx_gate_fault_odd(rs, "SUBSCRIBE");
        return;
    }

    ngx_gate_login_track(rs);
}


static void
ngx_gate_login_track(ngx_gate_redis_t *rs)
{
    u_char            id[NGX_INT64_LEN + 1];
    ngx_str_t         argv[9];
    ngx_gate_link_t  *link;

    link = &rs->command;

    ngx_str_set(&argv[0], "CLIENT");
    ngx_str_set(&argv[1], "TRACKING");
    ngx_str_set(&argv[2], "OFF");

    if (ngx_gate_link_send(link, 3, argv, NULL, NULL) != NGX_OK) {
        goto failed;
    }

    /* NOLOOP would swallow the writes of others in the same turn of Redis */

    ngx_str_set(&argv[2], "ON");
    ngx_str_set(&argv[3], "REDIRECT");
    argv[4].data = id;
    argv[4].len = ngx_sprintf(id, "%L", rs->push_id) - id;
    ngx_str_set(&argv[5], "BCAST");
    ngx_str_set(&argv[6], "PREFIX");
    argv[7] = rs->conf->prefix;

    if (ngx_gate_link_send(link, 8, argv, ngx_gate_login_tracking, rs)
        == NGX_OK)
    {
        return;
    }

failed:

    ngx_gate_redis_error(rs, NGX_GATE_ERROR_CONNECT, "CLIENT TRACKING",
                         ngx_gate_literal("cannot be sent"));
    ngx_gate_redis_drop(rs, NGX_GATE_DROP_BACKOFF);
}


static void
ngx_gate_login_tracking(void *data, redisReply *reply)
{
    ngx_gate_redis_t *rs = data;

    if (reply == NULL) {
        return;
    }

    if (reply->type == REDIS_REPLY_ERROR && ngx_gate_fault_denied(reply)) {
        ngx_gate_login_poll_only(rs, "CLIENT TRACKING is refused");
        return;
    }

    if (ngx_gate_login_ok(rs, "CLIENT TRACKING", reply)) {
        rs->status->tracking = 1;
        rs->noticed = 0;
        ngx_gate_redis_done(rs);
    }
}


/* Better slowly than not at all: the owner polls. */

static void
ngx_gate_login_poll_only(ngx_gate_redis_t *rs, const char *what)
{
    rs->status->tracking = 0;

    if (!rs->noticed) {
        rs->noticed = 1;
        ngx_log_error(NGX_LOG_NOTICE, rs->log, 0,
                      "gate: Redis %V pushes no changes, %s; keys are "
                      "polled every %M ms", &rs->address, what,
                      rs->conf->poll);
    }

    ngx_gate_link_close(&rs->push);
    ngx_gate_redis_done(rs);
}

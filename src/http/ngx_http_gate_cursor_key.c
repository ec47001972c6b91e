
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gate_cursor_key file=FILE [id=ID] [format=FORM] [alg=ALG]
 *
 * The master reads the files with the configuration.  Each worker looks at
 * them once a second, and takes a key that changed where it may read the
 * file; what is no key, or cannot be read, leaves the last good one in use.
 * A worker verifies one cursor at a time, and none while its timer runs, so a
 * key is replaced in its place.
 *
 * No message here shows what is in a file.
 */


#include "ngx_http_gate_cursor.h"

#include "core/gate_parse.h"

#include <ngx_event.h>

#include <openssl/sha.h>


#define NGX_HTTP_GATE_CURSOR_KEY_FILE  65536
#define NGX_HTTP_GATE_CURSOR_KEY_MSEC  1000
#define NGX_HTTP_GATE_CURSOR_KEY_FRESH 2       /* s */


static ngx_http_gate_cursor_key_t *ngx_http_gate_cursor_key_parse(
    ngx_conf_t *cf);
static ngx_int_t ngx_http_gate_cursor_key_param(ngx_conf_t *cf,
    ngx_http_gate_cursor_key_t *k, ngx_str_t *value);
static ngx_int_t ngx_http_gate_cursor_key_word(const char *const *names,
    ngx_uint_t n, ngx_str_t *value);
static ngx_http_gate_cursor_key_t *ngx_http_gate_cursor_key_find(
    ngx_http_gate_main_conf_t *gmcf, ngx_http_gate_cursor_key_t *k);
static ngx_int_t ngx_http_gate_cursor_key_load(ngx_conf_t *cf,
    ngx_http_gate_main_conf_t *gmcf, ngx_http_gate_cursor_key_t *k);
static void ngx_http_gate_cursor_key_warn(ngx_conf_t *cf,
    ngx_http_gate_main_conf_t *gmcf, ngx_http_gate_cursor_key_t *k);
static const char *ngx_http_gate_cursor_key_make(
    ngx_http_gate_cursor_key_t *k, ngx_str_t *text, gate_cursor_key_t *key);
static void ngx_http_gate_cursor_key_cleanup(void *data);
static ngx_int_t ngx_http_gate_cursor_key_push(ngx_conf_t *cf,
    ngx_array_t *ring, ngx_http_gate_cursor_key_t *k);

static void ngx_http_gate_cursor_key_timer(ngx_event_t *ev);
static void ngx_http_gate_cursor_key_tick(ngx_http_gate_main_conf_t *gmcf,
    ngx_log_t *log);
static void ngx_http_gate_cursor_key_look(ngx_http_gate_cursor_key_t *k,
    ngx_log_t *log);
static void ngx_http_gate_cursor_key_reread(ngx_http_gate_cursor_key_t *k,
    ngx_pool_t *pool, ngx_log_t *log, ngx_uint_t changed);
static void ngx_http_gate_cursor_key_take(ngx_http_gate_cursor_key_t *k,
    ngx_str_t *text, ngx_log_t *log, ngx_uint_t changed);
static void ngx_http_gate_cursor_key_bad(ngx_http_gate_cursor_key_t *k,
    const char *it, const char *why, ngx_log_t *log, ngx_uint_t changed);
static void ngx_http_gate_cursor_key_gone(ngx_http_gate_cursor_key_t *k,
    ngx_err_t err, ngx_log_t *log, ngx_uint_t changed);
static void ngx_http_gate_cursor_key_seen(ngx_http_gate_cursor_key_t *k,
    ngx_file_info_t *fi);
static ngx_uint_t ngx_http_gate_cursor_key_same(ngx_file_info_t *a,
    ngx_file_info_t *b);


/* by gate_cursor_form_e; the first one is what it is without format= */

static const char *const  ngx_http_gate_cursor_key_forms[] = {
    "auto", "raw", "hex", "base64", "pem"
};

/* by gate_cursor_weak_e */

static const char *const  ngx_http_gate_cursor_key_weak[] = {
    "is good", "is shorter than 32 bytes: it may be guessed",
    "is a default that everybody knows"
};

static ngx_event_t       ngx_http_gate_cursor_key_event;
static ngx_connection_t  ngx_http_gate_cursor_key_dummy;


char *
ngx_http_gate_cursor_key(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_gate_loc_conf_t *glcf = conf;

    ngx_http_gate_main_conf_t   *gmcf;
    ngx_http_gate_cursor_key_t  *k, *known;

    gmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_gate_module);

    k = ngx_http_gate_cursor_key_parse(cf);
    if (k == NULL) {
        return NGX_CONF_ERROR;
    }

    known = ngx_http_gate_cursor_key_find(gmcf, k);

    if (known) {
        k = known;

    } else if (ngx_http_gate_cursor_key_load(cf, gmcf, k) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (glcf->cursor_keys == NULL) {
        glcf->cursor_keys = ngx_array_create(cf->pool, 2, sizeof(void *));
        if (glcf->cursor_keys == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    if (ngx_http_gate_cursor_key_push(cf, glcf->cursor_keys, k) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_http_gate_cursor_key_t *
ngx_http_gate_cursor_key_parse(ngx_conf_t *cf)
{
    ngx_str_t                   *value;
    ngx_uint_t                   i;
    ngx_http_gate_cursor_key_t  *k;

    k = ngx_pcalloc(cf->pool, sizeof(ngx_http_gate_cursor_key_t));
    if (k == NULL) {
        return NULL;
    }

    k->alg = -1;

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_http_gate_cursor_key_param(cf, k, &value[i]) != NGX_OK) {
            return NULL;
        }
    }

    if (k->path.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" needs \"file=\"",
                           &value[0]);
        return NULL;
    }

    if (ngx_conf_full_name(cf->cycle, &k->path, 1) != NGX_OK) {
        return NULL;
    }

    return k;
}


static ngx_int_t
ngx_http_gate_cursor_key_param(ngx_conf_t *cf, ngx_http_gate_cursor_key_t *k,
    ngx_str_t *value)
{
    u_char     *eq;
    ngx_int_t   n;
    ngx_str_t   v;

    eq = (u_char *) ngx_strchr(value->data, '=');

    v.data = eq ? eq + 1 : value->data + value->len;
    v.len = value->data + value->len - v.data;

    if (ngx_strncmp(value->data, "file=", 5) == 0 && v.len) {
        k->path = v;
        return NGX_OK;
    }

    if (ngx_strncmp(value->data, "id=", 3) == 0) {

        if (!gate_name_valid(v.data, v.len) || v.len > GATE_CURSOR_ID) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid id \"%V\", it must be 1 to 64 "
                               "characters of A-Z, a-z, 0-9 and \"_.-\"", &v);
            return NGX_ERROR;
        }

        k->id = v;
        return NGX_OK;
    }

    if (ngx_strncmp(value->data, "format=", 7) == 0) {
        n = ngx_http_gate_cursor_key_word(ngx_http_gate_cursor_key_forms,
                                          GATE_CURSOR_KEY_FORMS, &v);

        if (n <= GATE_CURSOR_KEY_AUTO) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid format \"%V\", it must be \"raw\", "
                               "\"hex\", \"base64\" or \"pem\"", &v);
            return NGX_ERROR;
        }

        k->form = (gate_cursor_form_e) n;
        return NGX_OK;
    }

    if (ngx_strncmp(value->data, "alg=", 4) == 0) {
        n = ngx_http_gate_cursor_key_word(gate_cursor_alg_name,
                                          GATE_CURSOR_ALGS, &v);

        if (n == NGX_ERROR) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid algorithm \"%V\", it must be "
                               "\"HS256\", \"HS384\", \"HS512\", \"ES256\" or "
                               "\"EdDSA\"", &v);
            return NGX_ERROR;
        }

        k->alg = (int) n;
        return NGX_OK;
    }

    /*
     * It may be the key itself, of somebody who thought that it belongs here:
     * base64 has a "=" at its end, too.
     */

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter, it must be \"file=\", \"id=\", "
                       "\"format=\" or \"alg=\"");

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_gate_cursor_key_word(const char *const *names, ngx_uint_t n,
    ngx_str_t *value)
{
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {

        if (ngx_strlen(names[i]) == value->len
            && ngx_strncmp(names[i], value->data, value->len) == 0)
        {
            return i;
        }
    }

    return NGX_ERROR;
}


static ngx_http_gate_cursor_key_t *
ngx_http_gate_cursor_key_find(ngx_http_gate_main_conf_t *gmcf,
    ngx_http_gate_cursor_key_t *k)
{
    ngx_uint_t                    i;
    ngx_http_gate_cursor_key_t  **known;

    known = gmcf->cursor_keys.elts;

    for (i = 0; i < gmcf->cursor_keys.nelts; i++) {

        if (known[i]->form == k->form
            && known[i]->alg == k->alg
            && known[i]->path.len == k->path.len
            && known[i]->id.len == k->id.len
            && ngx_strncmp(known[i]->path.data, k->path.data, k->path.len)
               == 0
            && ngx_strncmp(known[i]->id.data, k->id.data, k->id.len) == 0)
        {
            return known[i];
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_gate_cursor_key_load(ngx_conf_t *cf, ngx_http_gate_main_conf_t *gmcf,
    ngx_http_gate_cursor_key_t *k)
{
    ngx_str_t                     text;
    const char                   *why;
    ngx_file_info_t               fi;
    ngx_pool_cleanup_t           *cln;
    ngx_http_gate_cursor_key_t  **kp;

    kp = ngx_array_push(&gmcf->cursor_keys);
    cln = ngx_pool_cleanup_add(cf->pool, 0);

    if (kp == NULL || cln == NULL) {
        return NGX_ERROR;
    }

    *kp = k;

    k->conf = ngx_gate_cursor_add(cf->pool, &gmcf->node.cursor_keys,
                                  k->id.len ? &k->id : &k->path);
    if (k->conf == NULL) {
        return NGX_ERROR;
    }

    /* a file that becomes another one between these two is read once more */

    if (ngx_file_info(k->path.data, &fi) != NGX_FILE_ERROR) {
        ngx_http_gate_cursor_key_seen(k, &fi);
    }

    if (ngx_http_gate_secret_read(cf, &k->path, NGX_HTTP_GATE_CURSOR_KEY_FILE,
                                  &text)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    why = ngx_http_gate_cursor_key_make(k, &text, &k->key);

    SHA256(text.data, text.len, k->digest);
    ngx_explicit_memzero(text.data, text.len);

    if (why) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "cursor key file \"%V\": %s", &k->path, why);
        return NGX_ERROR;
    }

    cln->handler = ngx_http_gate_cursor_key_cleanup;
    cln->data = k;

    k->gid = ngx_http_gate_secret_gid(cf);
    k->live = 1;

    ngx_http_gate_cursor_key_warn(cf, gmcf, k);

    return NGX_OK;
}


static void
ngx_http_gate_cursor_key_warn(ngx_conf_t *cf, ngx_http_gate_main_conf_t *gmcf,
    ngx_http_gate_cursor_key_t *k)
{
    ngx_uint_t                    i;
    ngx_http_gate_cursor_key_t  **known;

    if (k->key.weak == GATE_CURSOR_KEY_GOOD) {
        return;
    }

    /* a file is said to be weak once, however often it is named */

    known = gmcf->cursor_keys.elts;

    for (i = 0; known[i] != k; i++) {

        if (known[i]->path.len == k->path.len
            && known[i]->key.weak == k->key.weak
            && ngx_strncmp(known[i]->path.data, k->path.data, k->path.len)
               == 0)
        {
            return;
        }
    }

    ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                       "the cursor key in \"%V\" %s", &k->path,
                       ngx_http_gate_cursor_key_weak[k->key.weak]);
}


/* NULL, or why the text is no such key. */

static const char *
ngx_http_gate_cursor_key_make(ngx_http_gate_cursor_key_t *k, ngx_str_t *text,
    gate_cursor_key_t *key)
{
    const char  *why;

    if (gate_cursor_key_init(key, k->alg, k->form, text->data, text->len,
                             &why)
        != 0)
    {
        return why;
    }

    key->id_len = k->id.len;
    ngx_memcpy(key->id, k->id.data, k->id.len);

    return NULL;
}


static void
ngx_http_gate_cursor_key_cleanup(void *data)
{
    ngx_http_gate_cursor_key_t *k = data;

    gate_cursor_key_wipe(&k->key);
    ngx_explicit_memzero(k->digest, sizeof(k->digest));
}


static ngx_int_t
ngx_http_gate_cursor_key_push(ngx_conf_t *cf, ngx_array_t *ring,
    ngx_http_gate_cursor_key_t *k)
{
    ngx_uint_t                    i;
    ngx_http_gate_cursor_key_t  **kp;

    kp = ring->elts;

    for (i = 0; i < ring->nelts; i++) {

        if (kp[i] == k) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "cursor key file \"%V\" is named twice here",
                               &k->path);
            return NGX_ERROR;
        }

        if (k->id.len && kp[i]->id.len == k->id.len
            && ngx_strncmp(kp[i]->id.data, k->id.data, k->id.len) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "two cursor keys have the id \"%V\" here, in "
                               "\"%V\" and \"%V\"",
                               &k->id, &kp[i]->path, &k->path);
            return NGX_ERROR;
        }
    }

    if (ring->nelts == GATE_CURSOR_KEYS) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "there are more than %d cursor keys here",
                           GATE_CURSOR_KEYS);
        return NGX_ERROR;
    }

    kp = ngx_array_push(ring);
    if (kp == NULL) {
        return NGX_ERROR;
    }

    *kp = k;

    return NGX_OK;
}


ngx_int_t
ngx_http_gate_cursor_watch(ngx_cycle_t *cycle, ngx_http_gate_main_conf_t *gmcf)
{
    ngx_event_t  *ev;

    /* the master may have read them long ago */

    ngx_http_gate_cursor_key_tick(gmcf, cycle->log);

    ev = &ngx_http_gate_cursor_key_event;

    if (ev->timer_set) {
        ngx_del_timer(ev);
    }

    /* debug builds print the descriptor of whatever owns a timer */

    ngx_http_gate_cursor_key_dummy.fd = (ngx_socket_t) -1;

    ev->handler = ngx_http_gate_cursor_key_timer;
    ev->data = &ngx_http_gate_cursor_key_dummy;
    ev->log = cycle->log;
    ev->cancelable = 1;

    ngx_add_timer(ev, NGX_HTTP_GATE_CURSOR_KEY_MSEC);

    return NGX_OK;
}


static void
ngx_http_gate_cursor_key_timer(ngx_event_t *ev)
{
    ngx_http_gate_main_conf_t  *gmcf;

    /* without a master there may be another cycle than when we began */

    gmcf = ngx_http_cycle_get_module_main_conf(ngx_cycle,
                                               ngx_http_gate_module);

    if (gmcf && gmcf->enabled) {
        ngx_http_gate_cursor_key_tick(gmcf, ngx_cycle->log);
    }

    ngx_add_timer(ev, NGX_HTTP_GATE_CURSOR_KEY_MSEC);
}


static void
ngx_http_gate_cursor_key_tick(ngx_http_gate_main_conf_t *gmcf, ngx_log_t *log)
{
    ngx_uint_t                    i;
    ngx_http_gate_cursor_key_t  **k;

    k = gmcf->cursor_keys.elts;

    for (i = 0; i < gmcf->cursor_keys.nelts; i++) {
        ngx_http_gate_cursor_key_look(k[i], log);
        k[i]->looked = 1;
    }
}


static void
ngx_http_gate_cursor_key_look(ngx_http_gate_cursor_key_t *k, ngx_log_t *log)
{
    ngx_uint_t        changed;
    ngx_pool_t       *pool;
    ngx_file_info_t   fi;

    if (ngx_file_info(k->path.data, &fi) == NGX_FILE_ERROR) {
        ngx_http_gate_cursor_key_gone(k, ngx_errno, log, 0);
        return;
    }

    changed = !ngx_http_gate_cursor_key_same(&k->seen, &fi);

    if (!changed && k->live && !k->fresh && k->looked) {
        return;
    }

    pool = ngx_create_pool(NGX_MIN_POOL_SIZE, log);
    if (pool == NULL) {
        return;
    }

    ngx_http_gate_cursor_key_seen(k, &fi);
    ngx_http_gate_cursor_key_reread(k, pool, log, changed);

    ngx_destroy_pool(pool);
}


static void
ngx_http_gate_cursor_key_reread(ngx_http_gate_cursor_key_t *k,
    ngx_pool_t *pool, ngx_log_t *log, ngx_uint_t changed)
{
    ngx_err_t         err;
    ngx_str_t         text;
    const char       *why;
    ngx_file_info_t   fi;

    if (ngx_http_gate_secret_load(&k->path, k->gid,
                                  NGX_HTTP_GATE_CURSOR_KEY_FILE, pool, &text,
                                  &fi, &why)
        == NGX_OK)
    {
        ngx_http_gate_cursor_key_take(k, &text, log, changed);
        ngx_explicit_memzero(text.data, text.len);
        return;
    }

    err = ngx_errno;

    if (err) {
        ngx_http_gate_cursor_key_gone(k, err, log, changed);

    } else {
        ngx_http_gate_cursor_key_bad(k, "it ", why, log, changed);
    }
}


static void
ngx_http_gate_cursor_key_take(ngx_http_gate_cursor_key_t *k, ngx_str_t *text,
    ngx_log_t *log, ngx_uint_t changed)
{
    u_char              digest[SHA256_DIGEST_LENGTH];
    ngx_uint_t          same;
    const char         *why;
    gate_cursor_key_t   key;

    SHA256(text->data, text->len, digest);

    same = (ngx_memcmp(digest, k->digest, sizeof(digest)) == 0);

    if (!same) {
        why = ngx_http_gate_cursor_key_make(k, text, &key);

        if (why == NULL && key.alg != k->key.alg) {
            gate_cursor_key_wipe(&key);
            why = "it is for another algorithm than the key before";
        }

        if (why) {
            ngx_explicit_memzero(digest, sizeof(digest));
            ngx_http_gate_cursor_key_bad(k, "", why, log, changed);
            return;
        }

        gate_cursor_key_wipe(&k->key);

        k->key = key;
        ngx_memcpy(k->digest, digest, sizeof(digest));

        /* what it points to is ours now */

        ngx_explicit_memzero(&key, sizeof(gate_cursor_key_t));
    }

    ngx_explicit_memzero(digest, sizeof(digest));

    if (changed || !same) {
        ngx_gate_add(&ngx_gate_cursor_key_of(k->conf)->reads_total, 1);
    }

    if (!same) {
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "gate: cursor key file \"%V\" has changed, its key is "
                      "in use now", &k->path);

        if (k->key.weak != GATE_CURSOR_KEY_GOOD) {
            ngx_log_error(NGX_LOG_WARN, log, 0,
                          "gate: the cursor key in \"%V\" %s", &k->path,
                          ngx_http_gate_cursor_key_weak[k->key.weak]);
        }

    } else if (k->bad || !k->live) {
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "gate: cursor key file \"%V\" has the key again that is "
                      "in use", &k->path);
    }

    k->bad = 0;
    k->live = 1;
}


static void
ngx_http_gate_cursor_key_bad(ngx_http_gate_cursor_key_t *k, const char *it,
    const char *why, ngx_log_t *log, ngx_uint_t changed)
{
    if (k->bad && k->live && !changed) {
        return;
    }

    k->bad = 1;
    k->live = 1;

    ngx_gate_add(&ngx_gate_cursor_key_of(k->conf)->reads_total, 1);
    ngx_gate_add(&ngx_gate_cursor_key_of(k->conf)->errors_total, 1);

    ngx_log_error(NGX_LOG_WARN, log, 0,
                  "gate: cursor key file \"%V\" has changed, but is not to be "
                  "used: %s%s; the last good key stays in use",
                  &k->path, it, why);
}


static void
ngx_http_gate_cursor_key_gone(ngx_http_gate_cursor_key_t *k, ngx_err_t err,
    ngx_log_t *log, ngx_uint_t changed)
{
    if (!k->live && !changed) {
        return;
    }

    k->bad = 0;
    k->live = 0;

    /* many let only root read them, and reload: no reason to worry */

    if (err == NGX_EACCES && !changed && !k->looked) {
        ngx_log_error(NGX_LOG_INFO, log, err,
                      "gate: cursor key file \"%V\" cannot be read by this "
                      "worker, another key in it takes a reload", &k->path);
        return;
    }

    ngx_log_error(NGX_LOG_WARN, log, err,
                  "gate: cursor key file \"%V\" %s, the last good key stays "
                  "in use%s", &k->path,
                  changed ? "has changed, but cannot be read"
                          : "cannot be read",
                  (err == NGX_EACCES) ? " until nginx is reloaded" : "");
}


static void
ngx_http_gate_cursor_key_seen(ngx_http_gate_cursor_key_t *k,
    ngx_file_info_t *fi)
{
    time_t  age;

    k->seen = *fi;

    /*
     * A file system's clock has ticks, of some milliseconds mostly: what is
     * written within one of them does not change the time of the file again.
     */

    age = ngx_time() - fi->st_ctime;

    k->fresh = (age > -NGX_HTTP_GATE_CURSOR_KEY_FRESH
                && age < NGX_HTTP_GATE_CURSOR_KEY_FRESH);
}


/* The time of the inode also tells of a new mode, and cannot be set. */

static ngx_uint_t
ngx_http_gate_cursor_key_same(ngx_file_info_t *a, ngx_file_info_t *b)
{
    return a->st_dev == b->st_dev
           && a->st_ino == b->st_ino
           && a->st_size == b->st_size
           && a->st_mtim.tv_sec == b->st_mtim.tv_sec
           && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec
           && a->st_ctim.tv_sec == b->st_ctim.tv_sec
           && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

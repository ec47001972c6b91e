
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Maintenance files.  The agent looks at them five times a second, and what
 * they say goes into the zone: no request ever stats a file.  Those on
 * another machine's file system are looked at by a process of its own, so
 * that one that hangs hangs nobody.
 */


#include "ngx_gate_node.h"

#include "core/gate_siphash.h"


#define NGX_GATE_WATCH_MSEC   200
#define NGX_GATE_WATCH_SIZE   65536

#define NGX_GATE_WATCH_ABSENT  0
#define NGX_GATE_WATCH_HERE    1
#define NGX_GATE_WATCH_ERROR   2
#define NGX_GATE_WATCH_DENIED  3


typedef struct {
    char              path[NGX_MAX_PATH];
    ngx_uint_t        found;
    ngx_err_t         err;
    int64_t           mtime;
    size_t            len;
    u_char            text[NGX_GATE_WATCH_SIZE + 1];

    /* the last good word, kept when the next one is none */

    ngx_uint_t        there;
    gate_switch_value_t  value;
    ngx_uint_t        bad;                 /* it was said */
    ngx_uint_t        full;                /* it had text a look ago */
    ngx_gate_file_t  *seen;                /* where it is remembered */
    ngx_uint_t        sw;                  /* index of the zone */
} ngx_gate_watch_file_t;


typedef struct {
    ngx_gate_watch_file_t  *file;          /* shared with the one that reads */
    ngx_uint_t              nfiles;
    ngx_uint_t              remote;        /* a look may hang */
} ngx_gate_watch_t;


static ngx_gate_watch_t *ngx_gate_watch_create(ngx_gate_node_t *node);
static ngx_uint_t ngx_gate_watch_remote(ngx_gate_watch_file_t *f);
static void ngx_gate_watch_find(ngx_gate_node_t *node,
    ngx_gate_watch_t *w);
static ngx_gate_file_t *ngx_gate_watch_find_locked(ngx_gate_node_t *node,
    uint64_t digest);
static void ngx_gate_watch_free(ngx_gate_watch_t *w);
static void ngx_gate_watch_job(void *data);
static void ngx_gate_watch_read(ngx_gate_watch_file_t *f);
static void ngx_gate_watch_apply(ngx_gate_node_t *node, ngx_gate_watch_t *w,
    ngx_log_t *log);
static void ngx_gate_watch_parse(ngx_gate_node_t *node,
    ngx_gate_watch_file_t *f, ngx_log_t *log);
static void ngx_gate_watch_good(ngx_gate_node_t *node,
    ngx_gate_watch_file_t *f, gate_switch_value_t *v);


static ngx_gate_io_t      ngx_gate_watch_io;
static ngx_gate_watch_t  *ngx_gate_watch;
static ngx_gate_node_t   *ngx_gate_watch_node;
static ngx_uint_t         ngx_gate_watch_posted;
static ngx_msec_t         ngx_gate_watch_next;


void
ngx_gate_watch_load(ngx_gate_node_t *node, ngx_log_t *log)
{
    ngx_gate_watch_t  *w;

    w = ngx_gate_watch_create(node);
    if (w == NULL) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "gate: no memory to look at maintenance files");
        return;
    }

    ngx_gate_watch_job(w);
    ngx_gate_watch_apply(node, w, log);
    ngx_gate_watch_free(w);
}


void
ngx_gate_watch_tick(ngx_gate_node_t *node, ngx_log_t *log)
{
    if (!ngx_gate_io_idle(&ngx_gate_watch_io)) {
        return;
    }

    if (ngx_gate_watch_posted) {
        ngx_gate_watch_posted = 0;

        if (ngx_gate_watch_node == node) {
            ngx_gate_watch_apply(node, ngx_gate_watch, log);
        }
    }

    if (node->files.nelts == 0
        || (ngx_msec_int_t) (ngx_gate_watch_next - ngx_current_msec) > 0)
    {
        return;
    }

    ngx_gate_watch_next = ngx_current_msec + NGX_GATE_WATCH_MSEC;

    if (ngx_gate_watch == NULL || ngx_gate_watch_node != node) {
        ngx_gate_watch_free(ngx_gate_watch);

        ngx_gate_watch = ngx_gate_watch_create(node);
        ngx_gate_watch_node = node;
    }

    if (ngx_gate_watch == NULL) {
        return;
    }

    if (!ngx_gate_watch->remote) {
        ngx_gate_watch_job(ngx_gate_watch);
        ngx_gate_watch_apply(node, ngx_gate_watch, log);
        return;
    }

    if (ngx_gate_io_post(&ngx_gate_watch_io, ngx_gate_watch_job,
                         ngx_gate_watch, 0, -1)
        == NGX_OK)
    {
        ngx_gate_watch_posted = 1;
    }
}


static ngx_gate_watch_t *
ngx_gate_watch_create(ngx_gate_node_t *node)
{
    ngx_uint_t              i;
    ngx_gate_watch_t       *w;
    ngx_gate_file_conf_t   *conf;
    ngx_gate_watch_file_t  *f;

    w = calloc(1, sizeof(ngx_gate_watch_t));
    if (w == NULL) {
        return NULL;
    }

    w->nfiles = node->files.nelts;

    if (w->nfiles == 0) {
        return w;
    }

    w->file = ngx_gate_io_alloc(w->nfiles * sizeof(ngx_gate_watch_file_t));

    if (w->file == NULL) {
        free(w);
        return NULL;
    }

    conf = node->files.elts;

    for (i = 0; i < w->nfiles; i++) {
        f = &w->file[i];

        ngx_gate_text(f->path, sizeof(f->path), conf[i].path.data,
                      conf[i].path.len);

        f->sw = node->sw_map[conf[i].sw];

        w->remote |= ngx_gate_watch_remote(f);
    }

    ngx_gate_watch_find(node, w);

    return w;
}


/* the file, or where it will be */

static ngx_uint_t
ngx_gate_watch_remote(ngx_gate_watch_file_t *f)
{
    char  *slash, dir[NGX_MAX_PATH];

    ngx_gate_text(dir, sizeof(dir), (u_char *) f->path, ngx_strlen(f->path));

    slash = strrchr(dir, '/');

    if (slash && slash != dir) {
        *slash = '\0';
    }

    return !ngx_gate_io_local(f->path) || !ngx_gate_io_local(dir);
}


/* a file that is bad by now said what the zone remembers */

static void
ngx_gate_watch_find(ngx_gate_node_t *node, ngx_gate_watch_t *w)
{
    uint64_t                key[2];
    ngx_uint_t              i, k;
    ngx_gate_watch_file_t  *f;

    key[0] = node->sh->boot;

    ngx_shmtx_lock(&node->shpool->mutex);

    /* first those that are known: what the others get is nobody's then */

    for (k = 0; k < 2; k++) {

        for (i = 0; i < w->nfiles; i++) {
            f = &w->file[i];

            if (f->seen) {
                continue;
            }

            key[1] = f->sw;

            f->seen = ngx_gate_watch_find_locked(node,
                             gate_siphash(key, f->path, ngx_strlen(f->path)));

            if (f->seen == NULL && k == 1) {
                f->seen = ngx_gate_watch_find_locked(node, 0);

                if (f->seen) {
                    ngx_memzero(f->seen, sizeof(ngx_gate_file_t));

                    f->seen->digest = gate_siphash(key, f->path,
                                                   ngx_strlen(f->path));
                }
            }

            if (f->seen) {
                f->seen->generation = node->generation;
                f->there = f->seen->there;
                f->value = f->seen->value;
            }
        }
    }

    ngx_shmtx_unlock(&node->shpool->mutex);
}


/* digest 0: an entry that this configuration does not use */

static ngx_gate_file_t *
ngx_gate_watch_find_locked(ngx_gate_node_t *node, uint64_t digest)
{
    ngx_uint_t        i;
    ngx_gate_file_t  *f;

    for (i = 0; i < NGX_GATE_FILES; i++) {
        f = &node->sh->files[i];

        if (digest ? f->digest == digest
                   : f->generation != node->generation)
        {
            return f;
        }
    }

    return NULL;
}


static void
ngx_gate_watch_free(ngx_gate_watch_t *w)
{
    if (w == NULL) {
        return;
    }

    ngx_gate_io_free(w->file, w->nfiles * sizeof(ngx_gate_watch_file_t));
    free(w);
}


/* In the agent, or in a process of its own where a look may hang. */

static void
ngx_gate_watch_job(void *data)
{
    ngx_gate_watch_t *w = data;

    ngx_uint_t  i;

    for (i = 0; i < w->nfiles; i++) {
        ngx_gate_watch_read(&w->file[i]);
    }
}


static void
ngx_gate_watch_read(ngx_gate_watch_file_t *f)
{
    int          fd;
    ssize_t      n;
    struct stat  sb;

    f->err = 0;
    f->len = 0;

    if (stat(f->path, &sb) == -1) {
        f->err = ngx_errno;
        f->found = (f->err == NGX_ENOENT || f->err == NGX_ENOTDIR)
                   ? NGX_GATE_WATCH_ABSENT : NGX_GATE_WATCH_ERROR;
        return;
    }

    f->found = NGX_GATE_WATCH_HERE;
    f->mtime = sb.st_mtime;

    /* what has no text says so by being there, also to whom it is closed */

    if (!S_ISREG(sb.st_mode) || sb.st_size == 0) {
        return;
    }

    fd = open(f->path, O_RDONLY|O_CLOEXEC|O_NONBLOCK);

    if (fd == -1) {
        f->err = ngx_errno;
        f->found = (f->err == NGX_ENOENT) ? NGX_GATE_WATCH_ABSENT
                   : (f->err == NGX_EACCES) ? NGX_GATE_WATCH_DENIED
                   : NGX_GATE_WATCH_ERROR;
        return;
    }

    while (f->len <= NGX_GATE_WATCH_SIZE) {
        n = read(fd, f->text + f->len, NGX_GATE_WATCH_SIZE + 1 - f->len);

        if (n == -1) {
            f->err = ngx_errno;
            f->found = NGX_GATE_WATCH_ERROR;
        }

        if (n <= 0) {
            break;
        }

        f->len += (size_t) n;
    }

    (void) close(fd);
}


static void
ngx_gate_watch_apply(ngx_gate_node_t *node, ngx_gate_watch_t *w,
    ngx_log_t *log)
{
    ngx_uint_t              i, n, sw;
    gate_switch_value_t    *on;
    ngx_gate_watch_file_t  *f;

    for (i = 0; i < w->nfiles; i++) {
        ngx_gate_watch_parse(node, &w->file[i], log);
    }

    /* several files may close one switch: the first that says so counts,
       one that stops reads before one that stops writes */

    for (n = 0; n < node->switches.nelts; n++) {
        sw = node->sw_map[n];
        on = NULL;

        for (i = 0; i < w->nfiles; i++) {
            f = &w->file[i];

            if (f->sw != sw || !gate_switch_active(&f->value, ngx_time())) {
                continue;
            }

            if (on == NULL || (on->read_only && !f->value.read_only)) {
                on = &f->value;
            }
        }

        ngx_gate_switch_set_file(node, &node->sh->switches[sw], on);
    }
}


static void
ngx_gate_watch_parse(ngx_gate_node_t *node, ngx_gate_watch_file_t *f,
    ngx_log_t *log)
{
    const char           *what;
    gate_switch_value_t   v;

    ngx_memzero(&v, sizeof(gate_switch_value_t));

    what = NULL;

    switch (f->found) {

    case NGX_GATE_WATCH_ABSENT:
        f->there = 0;
        f->full = 0;
        break;

    case NGX_GATE_WATCH_HERE:

        if (f->len == 0 && f->full) {

            /* who writes it anew may be about to: look once more */

            f->full = 0;
            return;
        }

        f->full = (f->len != 0);

        /* a "ttl" in it runs from when it was written, not from our look */

        if (f->len > NGX_GATE_WATCH_SIZE
            || gate_switch_file(f->text, f->len, f->mtime, &v) != 0)
        {
            what = "is neither a word, an object, nor empty";
            break;
        }

        f->there = 1;
        break;

    case NGX_GATE_WATCH_DENIED:
        what = "cannot be read";

        if (!f->there) {

            /* it appeared, and that much is a word already */

            f->there = 1;
            v.on = 1;
            ngx_gate_watch_good(node, f, &v);
        }

        break;

    default: /* NGX_GATE_WATCH_ERROR */
        what = "cannot be read";
        break;
    }

    if (what == NULL) {
        f->bad = 0;
        ngx_gate_watch_good(node, f, &v);
        return;
    }

    if (!f->bad) {
        f->bad = 1;

        ngx_gate_add(&node->sh->store.file_errors_total, 1);

        ngx_log_error(NGX_LOG_ERR, log, f->err,
                      "gate: maintenance file \"%s\" %s, its last good "
                      "value stays: %s", f->path, what,
                      f->value.on ? "on" : "off");
    }
}


static void
ngx_gate_watch_good(ngx_gate_node_t *node, ngx_gate_watch_file_t *f,
    gate_switch_value_t *v)
{
    f->value = *v;

    if (f->seen == NULL
        || (f->seen->there == f->there
            && ngx_memcmp(&f->seen->value, v, sizeof(gate_switch_value_t))
               == 0))
    {
        return;
    }

    ngx_shmtx_lock(&node->shpool->mutex);

    /* an agent of an old configuration has no say any more */

    if (node->generation == node->sh->generation) {
        f->seen->there = (uint32_t) f->there;
        f->seen->value = *v;
    }

    ngx_shmtx_unlock(&node->shpool->mutex);
}

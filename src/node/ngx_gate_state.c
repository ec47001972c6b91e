
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * The state directory: what must survive a restart, in one JSON file.
 *
 *     state.json                the last state
 *     state.json.PID            a state being written
 *     state.json.unreadable.T   what a start at time T could not read
 *     lock                      held by the agent that writes
 *
 * The master reads it once, before there is traffic.  The agent writes it,
 * in a thread: to a file of its own, fsync, rename, fsync of the directory.
 * A rename is the only thing that ever happens to state.json, so a reader
 * finds the old state or the new one.
 */


#include "ngx_gate_node.h"

#include <sys/file.h>


#define NGX_GATE_STATE_RETRY       1000     /* ms after an error */
#define NGX_GATE_STATE_LOCK_RETRY  100      /* ms while another has the lock */
#define NGX_GATE_STATE_PATIENCE    30       /* such tries before it is said */
#define NGX_GATE_STATE_EXIT_WAIT   500      /* ms for a write under way */

#define ngx_gate_state_mtime(sb)                                              \
    ((int64_t) (sb)->st_mtim.tv_sec * 1000000000 + (sb)->st_mtim.tv_nsec)


/* the thread's own: written by the agent before, by the thread during a job */

typedef struct {
    char             file[NGX_MAX_PATH];
    char             tmp[NGX_MAX_PATH];
    char             copy[NGX_MAX_PATH];
    char             lock[NGX_MAX_PATH];
    char             dir[NGX_MAX_PATH];
    char            *text;
    size_t           len;
    uint64_t         revision;
    int              lock_fd;
    ngx_uint_t       keep;                   /* a copy of the old file */
    uint64_t         inode;                  /* of the file as we know it */
    int64_t          mtime;

    char            *other;                  /* somebody else's state */
    size_t           other_len;

    ngx_err_t        err;
    const char      *what;                   /* that failed; NULL: nothing */
} ngx_gate_state_job_t;


static int ngx_gate_state_read(ngx_gate_state_job_t *job, char **text,
    size_t *len);
static void ngx_gate_state_import(ngx_gate_node_t *node, gate_state_t *st,
    ngx_log_t *log);
static ngx_gate_rollout_t *ngx_gate_state_rollout_locked(
    ngx_gate_node_t *node, const char *name);
static ngx_gate_switch_t *ngx_gate_state_switch_locked(ngx_gate_zone_t *sh,
    const char *name);
static ngx_int_t ngx_gate_state_export(ngx_gate_zone_t *sh,
    ngx_slab_pool_t *shpool, gate_state_t *st);
static char *ngx_gate_state_encode(ngx_gate_node_t *node, size_t *len,
    uint64_t *revision);
static void ngx_gate_state_paths(ngx_gate_node_t *node,
    ngx_gate_state_job_t *job);
static void ngx_gate_state_done(ngx_gate_node_t *node, ngx_log_t *log);
static void ngx_gate_state_job(void *data);
static int ngx_gate_state_lock(ngx_gate_state_job_t *job);
static int ngx_gate_state_other(ngx_gate_state_job_t *job);
static void ngx_gate_state_failed(ngx_gate_node_t *node, ngx_log_t *log);
static int ngx_gate_state_write(ngx_gate_state_job_t *job, ngx_uint_t sync);
static int ngx_gate_state_sync_dir(ngx_gate_state_job_t *job);


static ngx_gate_io_t         *ngx_gate_state_io;
static ngx_gate_state_job_t   ngx_gate_state_data = { .lock_fd = -1 };
static ngx_uint_t             ngx_gate_state_posted;
static ngx_msec_t             ngx_gate_state_next;
static ngx_uint_t             ngx_gate_state_waiting;


void
ngx_gate_state_load(ngx_gate_node_t *node, ngx_log_t *log)
{
    char                  *text;
    size_t                 len;
    const char            *err;
    gate_state_t           st;
    ngx_gate_store_t      *store;
    ngx_gate_state_job_t  *job;

    if (node->state == NULL) {
        return;
    }

    job = &ngx_gate_state_data;
    store = &node->sh->store;

    ngx_gate_state_paths(node, job);

    if (ngx_gate_state_read(job, &text, &len) == -1) {

        if (ngx_errno == NGX_ENOENT) {
            return;
        }

        err = "it cannot be read";

    } else if (gate_state_decode(text, len, &st, &err) == 0) {
        store->inode = job->inode;
        store->mtime = job->mtime;

        ngx_gate_state_import(node, &st, log);
        ngx_gate_store(&store->saved_revision, node->sh->revision);

        gate_state_free(&st);
        free(text);
        return;
    }

    free(text);

    ngx_log_error(NGX_LOG_ERR, log, 0,
                  "gate: state file \"%s\" is not used: %s; nginx goes on "
                  "without it, a copy of the file will be kept",
                  job->file, err);

    store->keep = 1;
    store->errors_total++;

    ngx_gate_text(store->error, sizeof(store->error), (u_char *) err,
                  ngx_strlen(err));
}


/*
 * Reads the file, in the master or in the thread.  0: text is malloc'ed;
 * -1 with errno and text NULL.
 */

static int
ngx_gate_state_read(ngx_gate_state_job_t *job, char **text, size_t *len)
{
    int          fd;
    ssize_t      n;
    ngx_err_t    err;
    struct stat  sb;

    *text = NULL;

    /* a pipe of that name must not hold us up */

    fd = open(job->file, O_RDONLY|O_CLOEXEC|O_NONBLOCK);

    if (fd == -1) {
        return -1;
    }

    err = NGX_EINVAL;

    if (fstat(fd, &sb) == -1 || !S_ISREG(sb.st_mode)
        || sb.st_size > GATE_STATE_TEXT_MAX)
    {
        goto failed;
    }

    job->inode = (uint64_t) sb.st_ino;
    job->mtime = ngx_gate_state_mtime(&sb);

    *text = malloc((size_t) sb.st_size + 1);
    if (*text == NULL) {
        err = NGX_ENOMEM;
        goto failed;
    }

    for (*len = 0; *len < (size_t) sb.st_size; *len += (size_t) n) {
        n = read(fd, *text + *len, (size_t) sb.st_size - *len);

        if (n == 0) {
            break;
        }

        if (n == -1) {
            err = ngx_errno;
            goto failed;
        }
    }

    (void) close(fd);

    return 0;

failed:

    free(*text);
    *text = NULL;
    (void) close(fd);
    ngx_set_errno(err);

    return -1;
}


static void
ngx_gate_state_import(ngx_gate_node_t *node, gate_state_t *st, ngx_log_t *log)
{
    size_t               i;
    ngx_gate_switch_t   *s;
    ngx_gate_rollout_t  *ro;

    ngx_shmtx_lock(&node->shpool->mutex);

    if (!node->sh->adopted) {
        ngx_memcpy(node->sh->secret, st->secret, sizeof(st->secret));
    }

    for (i = 0; i < st->nrollouts; i++) {
        ro = ngx_gate_state_rollout_locked(node, st->rollouts[i].name);

        if (ro) {
            ngx_gate_rollout_import_locked(node, ro, &st->rollouts[i]);
        }
    }

    ngx_shmtx_unlock(&node->shpool->mutex);

    for (i = 0; i < st->nswitches; i++) {
        s = ngx_gate_state_switch_locked(node->sh, st->switches[i].name);

        if (s && s->control_since < st->switches[i].since * 1000) {
            ngx_gate_switch_set(node, s, &st->switches[i].value,
                                st->switches[i].source,
                                st->switches[i].actor);
            s->control_since = st->switches[i].since * 1000;
        }
    }

    ngx_log_error(NGX_LOG_NOTICE, log, 0,
                  "gate: state of %uz rollouts and %uz switches was restored",
                  st->nrollouts, st->nswitches);
}


/*
 * A rollout that this configuration lacks keeps its state too: it may have
 * been taken out by mistake, and its latch must outlive that.
 */

static ngx_gate_rollout_t *
ngx_gate_state_rollout_locked(ngx_gate_node_t *node, const char *name)
{
    ngx_gate_rollout_t  *ro;

    ro = ngx_gate_rollout_find(node->sh, (u_char *) name, ngx_strlen(name));

    if (ro) {
        return ro;
    }

    ro = ngx_slab_calloc_locked(node->shpool, sizeof(ngx_gate_rollout_t));
    if (ro == NULL) {
        return NULL;
    }

    ngx_gate_text(ro->name, sizeof(ro->name), (u_char *) name,
                  ngx_strlen(name));

    ro->next = node->sh->rollouts;
    ngx_gate_store(&node->sh->rollouts, ro);

    return ro;
}


static ngx_gate_switch_t *
ngx_gate_state_switch_locked(ngx_gate_zone_t *sh, const char *name)
{
    ngx_uint_t          i;
    ngx_gate_switch_t  *s;

    for (i = 0; i < sh->nswitches; i++) {
        s = &sh->switches[i];

        if (ngx_strcmp(s->name, name) == 0) {
            return s;
        }
    }

    if (sh->nswitches == NGX_GATE_SWITCHES) {
        return NULL;
    }

    s = &sh->switches[sh->nswitches];

    ngx_gate_text(s->name, sizeof(s->name), (u_char *) name,
                  ngx_strlen(name));
    sh->nswitches++;

    return s;
}


void
ngx_gate_state_copy(ngx_gate_node_t *node, ngx_gate_zone_t *from,
    ngx_slab_pool_t *shpool, ngx_log_t *log)
{
    gate_state_t  st;

    if (ngx_gate_state_export(from, shpool, &st) == NGX_OK) {
        ngx_gate_state_import(node, &st, log);
        gate_state_free(&st);
    }
}


static ngx_int_t
ngx_gate_state_export(ngx_gate_zone_t *sh, ngx_slab_pool_t *shpool,
    gate_state_t *st)
{
    size_t                 i, n;
    ngx_gate_switch_t     *s;
    ngx_gate_rollout_t    *ro;
    gate_state_rollout_t  *to;

    ngx_memzero(st, sizeof(gate_state_t));

    /* memory first: objects are only ever added, and never before their place
       in the list is set */

    for (n = 0, ro = ngx_gate_load(&sh->rollouts); ro; ro = ro->next) {
        n++;
    }

    st->rollouts = calloc(n + 1, sizeof(gate_state_rollout_t));
    st->switches = calloc(NGX_GATE_SWITCHES, sizeof(gate_state_switch_t));

    for (i = 0; st->rollouts && i < n; i++) {
        st->rollouts[i].record = malloc(NGX_GATE_RECORD_LEN);

        if (st->rollouts[i].record == NULL) {
            break;
        }
    }

    st->nrollouts = i;

    if (st->rollouts == NULL || st->switches == NULL || i < n) {
        gate_state_free(st);
        return NGX_ERROR;
    }

    ngx_shmtx_lock(&shpool->mutex);

    ngx_memcpy(st->secret, sh->secret, sizeof(st->secret));

    for (i = 0, ro = sh->rollouts; ro && i < n; ro = ro->next) {
        char  *record;

        if (ngx_gate_word_epoch(ngx_gate_load(&ro->word)) == 0) {
            continue;
        }

        to = &st->rollouts[i++];
        record = to->record;

        ngx_gate_rollout_export_locked(ro, to);

        to->record = record;
        ngx_memcpy(record, ro->record, NGX_GATE_RECORD_LEN);

        if (ro->record_len == 0) {
            record[0] = '\0';
        }
    }

    for (n = 0; n < sh->nswitches; n++) {
        s = &sh->switches[n];

        if (s->control_since == 0) {
            continue;
        }

        ngx_gate_text(st->switches[st->nswitches].name,
                      sizeof(st->switches[0].name),
                      (u_char *) s->name, ngx_strlen(s->name));
        ngx_gate_text(st->switches[st->nswitches].source,
                      sizeof(st->switches[0].source),
                      (u_char *) s->control_source,
                      ngx_strlen(s->control_source));
        ngx_gate_text(st->switches[st->nswitches].actor,
                      sizeof(st->switches[0].actor),
                      (u_char *) s->control_actor,
                      ngx_strlen(s->control_actor));

        st->switches[st->nswitches].value = s->control;
        st->switches[st->nswitches].since = s->control_since / 1000;
        st->nswitches++;
    }

    ngx_shmtx_unlock(&shpool->mutex);

    /* those without a record, and those that were not opened yet */

    for (n = st->nrollouts; n-- > 0; /* void */) {

        if (n >= i || st->rollouts[n].record[0] == '\0') {
            free(st->rollouts[n].record);
            st->rollouts[n].record = NULL;
        }
    }

    st->nrollouts = i;

    return NGX_OK;
}


static char *
ngx_gate_state_encode(ngx_gate_node_t *node, size_t *len, uint64_t *revision)
{
    char          *text;
    gate_state_t   st;

    /* what changes from here on is for the next file */

    *revision = ngx_gate_load(&node->sh->revision);

    if (ngx_gate_state_export(node->sh, node->shpool, &st) != NGX_OK) {
        return NULL;
    }

    text = gate_state_encode(&st, len);

    gate_state_free(&st);

    return text;
}


void
ngx_gate_state_tick(ngx_gate_node_t *node, ngx_log_t *log)
{
    ngx_gate_state_job_t  *job;

    if (node->state == NULL || !ngx_gate_io_idle(ngx_gate_state_io)) {
        return;
    }

    job = &ngx_gate_state_data;

    if (ngx_gate_state_posted) {
        ngx_gate_state_done(node, log);
    }

    if (ngx_gate_load(&node->sh->revision)
        == ngx_gate_peek(&node->sh->store.saved_revision)
        && job->lock_fd != -1)
    {
        return;
    }

    if ((ngx_msec_int_t) (ngx_gate_state_next - ngx_current_msec) > 0) {
        return;
    }

    if (ngx_gate_state_io == NULL) {
        ngx_gate_state_io = ngx_gate_io_create();
        ngx_gate_state_next = ngx_current_msec + NGX_GATE_STATE_RETRY;
    }

    job->text = ngx_gate_state_encode(node, &job->len, &job->revision);

    if (job->text == NULL) {
        ngx_log_error(NGX_LOG_ERR, log, 0, "gate: no state could be made");
        ngx_gate_state_next = ngx_current_msec + NGX_GATE_STATE_RETRY;
        return;
    }

    ngx_gate_state_paths(node, job);

    job->keep = node->sh->store.keep;
    job->inode = node->sh->store.inode;
    job->mtime = node->sh->store.mtime;

    if (ngx_gate_io_post(ngx_gate_state_io, ngx_gate_state_job, job)
        == NGX_OK)
    {
        ngx_gate_state_posted = 1;
        return;
    }

    gate_state_free_text(job->text);
    job->text = NULL;
}


/* The thread has answered. */

static void
ngx_gate_state_done(ngx_gate_node_t *node, ngx_log_t *log)
{
    gate_state_t           st;
    ngx_gate_store_t      *store;
    ngx_gate_state_job_t  *job;

    job = &ngx_gate_state_data;
    store = &node->sh->store;

    ngx_gate_state_posted = 0;

    gate_state_free_text(job->text);
    job->text = NULL;

    ngx_gate_store(&store->locked, job->lock_fd != -1);

    store->inode = job->inode;
    store->mtime = job->mtime;

    if (job->other) {

        /* another nginx wrote since we read: what it knows is merged */

        if (gate_state_decode(job->other, job->other_len, &st, NULL) == 0) {
            ngx_gate_state_import(node, &st, log);
            gate_state_free(&st);

        } else {
            store->keep = 1;
        }

        free(job->other);
        job->other = NULL;

        ngx_gate_changed(node->sh);
        return;
    }

    if (job->what) {
        ngx_gate_state_failed(node, log);
        return;
    }

    ngx_gate_state_waiting = 0;

    store->saved_at = ngx_gate_now();
    store->keep = 0;
    store->error[0] = '\0';
    ngx_gate_store(&store->saved_revision, job->revision);
    ngx_gate_add(&store->saves_total, 1);
}


static void
ngx_gate_state_failed(ngx_gate_node_t *node, ngx_log_t *log)
{
    char                   text[NGX_GATE_REASON_LEN];
    u_char                *p, *last;
    ngx_gate_store_t      *store;
    ngx_gate_state_job_t  *job;

    job = &ngx_gate_state_data;
    store = &node->sh->store;

    if (job->err == NGX_EAGAIN
        && ++ngx_gate_state_waiting < NGX_GATE_STATE_PATIENCE)
    {
        /* the agent before us still holds the lock, as it should */

        ngx_gate_state_next = ngx_current_msec + NGX_GATE_STATE_LOCK_RETRY;
        return;
    }

    ngx_gate_add(&store->errors_total, 1);
    ngx_gate_state_next = ngx_current_msec + NGX_GATE_STATE_RETRY;

    last = (u_char *) text + sizeof(text) - 1;

    p = ngx_snprintf((u_char *) text, sizeof(text) - 1, "%s: ", job->what);
    p = ngx_strerror(job->err, p, last - p);
    *p = '\0';

    /* the same trouble is said once */

    if (ngx_strcmp(store->error, text) != 0) {
        ngx_log_error(NGX_LOG_ERR, log, job->err,
                      "gate: state in \"%V\" is not saved, %s failed",
                      &node->state->name, job->what);

        ngx_gate_text(store->error, sizeof(store->error), (u_char *) text,
                      ngx_strlen(text));
    }
}


static void
ngx_gate_state_paths(ngx_gate_node_t *node, ngx_gate_state_job_t *job)
{
    ngx_str_t  *dir;

    dir = &node->state->name;

#define ngx_gate_state_path(to, fmt, arg)                                     \
    (void) ngx_snprintf((u_char *) (to), NGX_MAX_PATH - 1, "%V" fmt "%Z",     \
                        dir, arg)

    ngx_gate_state_path(job->dir, "%s", "");
    ngx_gate_state_path(job->file, "%s", "/state.json");
    ngx_gate_state_path(job->lock, "%s", "/lock");
    ngx_gate_state_path(job->tmp, "/state.json.%P", ngx_pid);
    ngx_gate_state_path(job->copy, "/state.json.unreadable.%T", ngx_time());
}


/* In the thread. */

static void
ngx_gate_state_job(void *data)
{
    ngx_gate_state_job_t *job = data;

    job->err = 0;
    job->what = NULL;

    if (ngx_gate_state_lock(job) == -1) {
        job->err = ngx_errno;
        return;
    }

    if (ngx_gate_state_other(job)) {
        return;
    }

    if (ngx_gate_state_write(job, 1) == -1) {
        job->err = ngx_errno;
    }
}


/* 1 when the file is not the one we know: it is read, not written over. */

static int
ngx_gate_state_other(ngx_gate_state_job_t *job)
{
    struct stat  sb;

    if (job->keep
        || stat(job->file, &sb) == -1
        || ((uint64_t) sb.st_ino == job->inode
            && ngx_gate_state_mtime(&sb) == job->mtime))
    {
        return 0;
    }

    if (ngx_gate_state_read(job, &job->other, &job->other_len) == -1) {
        job->keep = 1;
        return 0;
    }

    return 1;
}


static int
ngx_gate_state_lock(ngx_gate_state_job_t *job)
{
    int  fd;

    if (job->lock_fd != -1) {
        return 0;
    }

    job->what = "open() of its lock";

    fd = open(job->lock, O_RDWR|O_CREAT|O_CLOEXEC|O_NONBLOCK, 0600);

    if (fd == -1) {
        return -1;
    }

    /* another nginx, or the agent before us with a write under way */

    job->what = "flock()";

    if (flock(fd, LOCK_EX|LOCK_NB) == -1) {
        (void) close(fd);
        return -1;
    }

    job->lock_fd = fd;

    return 0;
}


static int
ngx_gate_state_write(ngx_gate_state_job_t *job, ngx_uint_t sync)
{
    int          fd;
    size_t       done;
    ssize_t      n;
    struct stat  sb;

    job->what = "open()";

    fd = open(job->tmp, O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC|O_NOFOLLOW, 0600);

    if (fd == -1) {
        return -1;
    }

    job->what = "write()";

    for (done = 0; done < job->len; done += (size_t) n) {
        n = write(fd, job->text + done, job->len - done);

        if (n == -1) {
            goto failed;
        }
    }

    job->what = "fsync()";

    if ((sync && fsync(fd) == -1) || fstat(fd, &sb) == -1) {
        goto failed;
    }

    job->what = "close()";

    if (close(fd) == -1) {
        fd = -1;
        goto failed;
    }

    fd = -1;

    if (job->keep) {
        job->what = "rename() of the unreadable file";

        if (rename(job->file, job->copy) == -1 && ngx_errno != NGX_ENOENT) {
            goto failed;
        }

        job->keep = 0;
    }

    job->what = "rename()";

    if (rename(job->tmp, job->file) == -1) {
        goto failed;
    }

    /* a rename changes neither of them */

    job->inode = (uint64_t) sb.st_ino;
    job->mtime = ngx_gate_state_mtime(&sb);

    if (sync && ngx_gate_state_sync_dir(job) == -1) {
        return -1;
    }

    job->what = NULL;

    return 0;

failed:

    job->err = ngx_errno;

    if (fd != -1) {
        (void) close(fd);
    }

    (void) unlink(job->tmp);

    ngx_set_errno(job->err);

    return -1;
}


static int
ngx_gate_state_sync_dir(ngx_gate_state_job_t *job)
{
    int  fd, rc;

    job->what = "fsync() of the directory";

    fd = open(job->dir, O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (fd == -1) {
        return -1;
    }

    rc = fsync(fd);

    (void) close(fd);

    return rc;
}


ngx_int_t
ngx_gate_state_release(void)
{
    /* the successor must not write before our last write has ended */

    if (!ngx_gate_io_idle(ngx_gate_state_io)) {
        return NGX_AGAIN;
    }

    if (ngx_gate_state_data.lock_fd != -1) {
        (void) close(ngx_gate_state_data.lock_fd);
        ngx_gate_state_data.lock_fd = -1;
    }

    return NGX_OK;
}


void
ngx_gate_state_final(ngx_gate_node_t *node, ngx_log_t *log)
{
    ngx_uint_t             i;
    ngx_gate_store_t      *store;
    ngx_gate_state_job_t  *job;

    job = &ngx_gate_state_data;
    store = &node->sh->store;

    if (node->state == NULL) {
        return;
    }

    for (i = 0; !ngx_gate_io_idle(ngx_gate_state_io); i++) {

        if (i == NGX_GATE_STATE_EXIT_WAIT) {
            return;
        }

        ngx_msleep(1);
    }

    if (ngx_gate_state_posted) {
        ngx_gate_state_done(node, log);
    }

    if (ngx_gate_load(&store->saved_revision)
        == ngx_gate_peek(&node->sh->revision))
    {
        return;
    }

    ngx_gate_state_paths(node, job);

    /* an agent that lives on has the lock, and will write */

    if (ngx_gate_state_lock(job) == -1) {
        return;
    }

    job->text = ngx_gate_state_encode(node, &job->len, &job->revision);

    if (job->text == NULL) {
        return;
    }

    job->keep = store->keep;

    if (ngx_gate_state_write(job, 0) == 0) {
        store->inode = job->inode;
        store->mtime = job->mtime;
        store->keep = 0;
        ngx_gate_store(&store->saved_revision, job->revision);

    } else {
        ngx_log_error(NGX_LOG_ERR, log, ngx_errno,
                      "gate: state in \"%V\" is not saved, %s failed",
                      &node->state->name, job->what);
    }

    gate_state_free_text(job->text);
    job->text = NULL;
}

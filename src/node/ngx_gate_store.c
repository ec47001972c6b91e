
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * The state directory: what must survive a restart, in one JSON file.
 *
 *     state.json                the last state
 *     state.json.new            a state being written
 *     state.json.PID            a last word of an nginx that goes
 *     state.json.unreadable.T   what a start at time T could not read
 *     lock                      held by the agent that writes
 *
 * The master reads it once, before there is traffic.  The agent has it
 * written by a process of its own: to another file, fsync, rename, fsync of
 * the directory.  A rename is the only thing that ever happens to state.json,
 * so a reader finds the old state or the new one.
 *
 * The lock keeps a second nginx out.  In an upgrade in flight there are two
 * that know of each other's state: the old one gives the lock up when it is
 * told to quit, but workers that still drain may roll a rollout back.  They
 * write without the lock then, and the one that has it looks every second
 * whether the file is still its own, and merges what it finds.
 */


#include "ngx_gate_node.h"

#include <sys/file.h>


#define NGX_GATE_STORE_RETRY       1000     /* ms after an error */
#define NGX_GATE_STORE_LOOK        1000     /* ms between looks at the file */
#define NGX_GATE_STORE_LOCK_RETRY  100      /* ms while another has the lock */
#define NGX_GATE_STORE_PATIENCE    30       /* such tries before it is said */
#define NGX_GATE_STORE_EXIT_WAIT   500      /* ms for a write under way */
#define NGX_GATE_STORE_MERGES      3        /* of a last word */

#define ngx_gate_store_mtime(sb)                                              \
    ((int64_t) (sb)->st_mtim.tv_sec * 1000000000 + (sb)->st_mtim.tv_nsec)


/* of the process that writes: it gets a copy, and gives one back */

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
} ngx_gate_store_job_t;


static int ngx_gate_store_read(ngx_gate_store_job_t *job, char **text,
    size_t *len);
static ngx_uint_t ngx_gate_store_dirty(ngx_gate_node_t *node);
static void ngx_gate_store_start(ngx_gate_node_t *node, ngx_log_t *log);
static void ngx_gate_store_fine(ngx_gate_node_t *node);
static void ngx_gate_store_done(ngx_gate_node_t *node, ngx_log_t *log);
static void ngx_gate_store_merge(ngx_gate_node_t *node, ngx_log_t *log);
static void ngx_gate_store_failed(ngx_gate_node_t *node, ngx_log_t *log);
static void ngx_gate_store_prepare(ngx_gate_node_t *node,
    ngx_gate_store_job_t *job, ngx_uint_t locked);
static void ngx_gate_store_job(void *data);
static int ngx_gate_store_other(ngx_gate_store_job_t *job);
static int ngx_gate_store_lock(ngx_gate_store_job_t *job);
static int ngx_gate_store_write(ngx_gate_store_job_t *job, ngx_uint_t sync);
static int ngx_gate_store_put(ngx_gate_store_job_t *job, ngx_uint_t sync,
    struct stat *sb);
static int ngx_gate_store_sync_dir(ngx_gate_store_job_t *job);
static ngx_int_t ngx_gate_store_say(ngx_gate_node_t *node, ngx_log_t *log);
static ngx_uint_t ngx_gate_store_heir(ngx_gate_node_t *node);


static ngx_gate_io_t          ngx_gate_store_io;
static ngx_gate_store_job_t   ngx_gate_store_data = { .lock_fd = -1 };
static ngx_uint_t             ngx_gate_store_posted;
static ngx_msec_t             ngx_gate_store_next;    /* not before */
static ngx_msec_t             ngx_gate_store_look;    /* at the latest */
static ngx_uint_t             ngx_gate_store_waiting;


void
ngx_gate_store_load(ngx_gate_node_t *node, ngx_log_t *log)
{
    char                  *text;
    size_t                 len;
    const char            *err;
    gate_state_t           st;
    ngx_gate_store_t      *store;
    ngx_gate_store_job_t  *job;

    if (node->state == NULL) {
        return;
    }

    job = &ngx_gate_store_data;
    store = &node->sh->store;

    ngx_gate_store_prepare(node, job, 1);

    if (ngx_gate_store_read(job, &text, &len) == -1) {

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
 * Reads the file, in the master or in the agent.  0: text is malloc'ed;
 * -1 with errno and text NULL.
 */

static int
ngx_gate_store_read(ngx_gate_store_job_t *job, char **text, size_t *len)
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
    job->mtime = ngx_gate_store_mtime(&sb);

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


static ngx_uint_t
ngx_gate_store_dirty(ngx_gate_node_t *node)
{
    return ngx_gate_load(&node->sh->revision)
           != ngx_gate_load(&node->sh->store.saved_revision);
}


void
ngx_gate_store_tick(ngx_gate_node_t *node, ngx_log_t *log)
{
    ngx_gate_store_job_t  *job;

    if (node->state == NULL || !ngx_gate_io_idle(&ngx_gate_store_io)) {
        return;
    }

    job = &ngx_gate_store_data;

    if (ngx_gate_store_posted) {
        ngx_gate_store_done(node, log);
    }

    if ((ngx_msec_int_t) (ngx_gate_store_next - ngx_current_msec) > 0
        || (!ngx_gate_store_dirty(node) && job->lock_fd != -1
            && (ngx_msec_int_t) (ngx_gate_store_look - ngx_current_msec) > 0))
    {
        return;
    }

    ngx_gate_store_look = ngx_current_msec + NGX_GATE_STORE_LOOK;

    ngx_gate_store_prepare(node, job, 1);

    if (ngx_gate_store_lock(job) == -1) {
        job->err = ngx_errno;
        ngx_gate_store(&node->sh->store.locked, 0);
        ngx_gate_store_failed(node, log);
        return;
    }

    job->what = NULL;
    ngx_gate_store(&node->sh->store.locked, 1);

    if (ngx_gate_store_other(job)) {
        ngx_gate_store_merge(node, log);
        return;
    }

    if (!ngx_gate_store_dirty(node) && !job->keep) {
        ngx_gate_store_fine(node);
        return;
    }

    ngx_gate_store_start(node, log);
}


static void
ngx_gate_store_start(ngx_gate_node_t *node, ngx_log_t *log)
{
    ngx_gate_store_job_t  *job;

    job = &ngx_gate_store_data;

    job->text = ngx_gate_state_encode(node, &job->len, &job->revision);

    if (job->text == NULL) {
        job->what = "encoding";
        job->err = NGX_ENOMEM;
        ngx_gate_store_failed(node, log);
        return;
    }

    /* what counts if the process is killed */

    job->what = "the process for it";
    job->err = NGX_ECHILD;

    if (ngx_gate_io_post(&ngx_gate_store_io, ngx_gate_store_job, job,
                         sizeof(ngx_gate_store_job_t), job->lock_fd)
        == NGX_OK)
    {
        ngx_gate_store_posted = 1;
        return;
    }

    job->what = "fork()";
    job->err = ngx_errno;

    gate_state_free_text(job->text);
    job->text = NULL;

    ngx_gate_store_failed(node, log);
}


/* The process has ended. */

static void
ngx_gate_store_done(ngx_gate_node_t *node, ngx_log_t *log)
{
    ngx_gate_store_t      *store;
    ngx_gate_store_job_t  *job;

    job = &ngx_gate_store_data;
    store = &node->sh->store;

    ngx_gate_store_posted = 0;

    gate_state_free_text(job->text);
    job->text = NULL;

    if (job->other) {

        /* what it read is in its own memory, and gone with it */

        job->other = NULL;

        ngx_gate_store_prepare(node, job, 1);

        if (ngx_gate_store_other(job)) {
            ngx_gate_store_merge(node, log);
        }

        return;
    }

    store->inode = job->inode;
    store->mtime = job->mtime;
    store->keep = job->keep;

    if (job->what) {
        ngx_gate_store_failed(node, log);
        return;
    }

    ngx_gate_store_fine(node);

    store->saved_at = ngx_gate_now();
    ngx_gate_store(&store->saved_revision, job->revision);
    ngx_gate_add(&store->saves_total, 1);
}


static void
ngx_gate_store_fine(ngx_gate_node_t *node)
{
    ngx_gate_store_waiting = 0;
    node->sh->store.error[0] = '\0';
}


/* Another nginx wrote since we read: what it knows counts too. */

static void
ngx_gate_store_merge(ngx_gate_node_t *node, ngx_log_t *log)
{
    const char            *err;
    gate_state_t           st;
    ngx_gate_store_t      *store;
    ngx_gate_store_job_t  *job;

    job = &ngx_gate_store_data;
    store = &node->sh->store;

    if (gate_state_decode(job->other, job->other_len, &st, &err) == 0) {
        ngx_gate_state_import(node, &st, log);
        gate_state_free(&st);

    } else {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "gate: state file \"%s\" was replaced by one that is "
                      "not used: %s; a copy of it will be kept",
                      job->file, err);

        job->keep = 1;
    }

    store->inode = job->inode;
    store->mtime = job->mtime;
    store->keep = job->keep;

    free(job->other);
    job->other = NULL;

    ngx_gate_changed(node->sh);
}


static void
ngx_gate_store_failed(ngx_gate_node_t *node, ngx_log_t *log)
{
    char                   text[NGX_GATE_REASON_LEN];
    u_char                *p, *last;
    ngx_gate_store_t      *store;
    ngx_gate_store_job_t  *job;

    job = &ngx_gate_store_data;
    store = &node->sh->store;

    if (job->err == NGX_EAGAIN
        && ++ngx_gate_store_waiting < NGX_GATE_STORE_PATIENCE)
    {
        /* the agent before us still holds the lock, as it should */

        ngx_gate_store_next = ngx_current_msec + NGX_GATE_STORE_LOCK_RETRY;
        return;
    }

    ngx_gate_add(&store->errors_total, 1);
    ngx_gate_store_next = ngx_current_msec + NGX_GATE_STORE_RETRY;

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


/* What the process needs to know: it reads nothing of the zone. */

static void
ngx_gate_store_prepare(ngx_gate_node_t *node, ngx_gate_store_job_t *job,
    ngx_uint_t locked)
{
    ngx_str_t  *dir;

    dir = &node->state->name;

#define ngx_gate_store_path(to, fmt, arg)                                     \
    (void) ngx_snprintf((u_char *) (to), NGX_MAX_PATH - 1, "%V" fmt "%Z",     \
                        dir, arg)

    ngx_gate_store_path(job->dir, "%s", "");
    ngx_gate_store_path(job->file, "%s", "/state.json");
    ngx_gate_store_path(job->lock, "%s", "/lock");
    ngx_gate_store_path(job->copy, "/state.json.unreadable.%T", ngx_time());

    /* who has the lock takes the place of whatever a dead one left torn */

    if (locked) {
        ngx_gate_store_path(job->tmp, "%s", "/state.json.new");

    } else {
        ngx_gate_store_path(job->tmp, "/state.json.%P", ngx_pid);
    }

    job->keep = node->sh->store.keep;
    job->inode = node->sh->store.inode;
    job->mtime = node->sh->store.mtime;
    job->what = NULL;
}


/* In the process of its own: the agent has the lock. */

static void
ngx_gate_store_job(void *data)
{
    ngx_gate_store_job_t *job = data;

    if (ngx_gate_store_write(job, 1) == -1) {
        job->err = ngx_errno;
    }
}


/* 1 when the file is not the one we know: it is read, not written over. */

static int
ngx_gate_store_other(ngx_gate_store_job_t *job)
{
    struct stat  sb;

    if (job->keep
        || stat(job->file, &sb) == -1
        || ((uint64_t) sb.st_ino == job->inode
            && ngx_gate_store_mtime(&sb) == job->mtime))
    {
        return 0;
    }

    if (ngx_gate_store_read(job, &job->other, &job->other_len) == -1) {
        job->keep = (ngx_errno != NGX_ENOENT);
        return 0;
    }

    return 1;
}


static int
ngx_gate_store_lock(ngx_gate_store_job_t *job)
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


/* -1 with errno; 0 when it is written, or when job->other came between. */

static int
ngx_gate_store_write(ngx_gate_store_job_t *job, ngx_uint_t sync)
{
    struct stat  sb;

    if (ngx_gate_store_put(job, sync, &sb) == -1) {
        goto failed;
    }

    /* that took its time: somebody may have had a last word meanwhile */

    if (ngx_gate_store_other(job)) {
        (void) unlink(job->tmp);
        job->what = NULL;
        return 0;
    }

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
    job->mtime = ngx_gate_store_mtime(&sb);

    if (sync && ngx_gate_store_sync_dir(job) == -1) {
        return -1;
    }

    job->what = NULL;

    return 0;

failed:

    job->err = ngx_errno;

    (void) unlink(job->tmp);

    ngx_set_errno(job->err);

    return -1;
}


static int
ngx_gate_store_put(ngx_gate_store_job_t *job, ngx_uint_t sync,
    struct stat *sb)
{
    int        fd;
    size_t     done;
    ssize_t    n;
    ngx_err_t  err;

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

    if ((sync && fsync(fd) == -1) || fstat(fd, sb) == -1) {
        goto failed;
    }

    job->what = "close()";

    return close(fd);

failed:

    err = ngx_errno;

    (void) close(fd);

    ngx_set_errno(err);

    return -1;
}


static int
ngx_gate_store_sync_dir(ngx_gate_store_job_t *job)
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


void
ngx_gate_store_release(void)
{
    /* the successor must not write before our last write has ended */

    if (ngx_gate_store_data.lock_fd != -1
        && ngx_gate_io_idle(&ngx_gate_store_io))
    {
        (void) close(ngx_gate_store_data.lock_fd);
        ngx_gate_store_data.lock_fd = -1;
    }
}


void
ngx_gate_store_final(ngx_gate_node_t *node, ngx_log_t *log, ngx_uint_t wait)
{
    ngx_uint_t             i;
    ngx_gate_store_job_t  *job;

    job = &ngx_gate_store_data;

    if (node->state == NULL) {
        return;
    }

    for (i = 0; !ngx_gate_io_idle(&ngx_gate_store_io); i++) {

        if (!wait || i == NGX_GATE_STORE_EXIT_WAIT) {
            return;
        }

        ngx_msleep(1);
    }

    if (ngx_gate_store_posted) {
        ngx_gate_store_done(node, log);
    }

    if (!ngx_gate_store_dirty(node) || ngx_gate_store_heir(node)) {
        return;
    }

    ngx_gate_store_prepare(node, job, 1);

    if (ngx_gate_store_lock(job) == -1) {

        /* another nginx has it: did it come after us, or are we a guest? */

        if (!ngx_gate_load(&node->sh->store.locked)) {
            return;
        }

        ngx_gate_store_prepare(node, job, 0);
    }

    for (i = 0; i < NGX_GATE_STORE_MERGES; i++) {

        if (ngx_gate_store_other(job)) {
            ngx_gate_store_merge(node, log);
        }

        if (ngx_gate_store_say(node, log) != NGX_AGAIN) {
            return;
        }

        ngx_gate_store_merge(node, log);
    }
}


/* NGX_AGAIN: somebody else was faster, what he wrote is in job->other. */

static ngx_int_t
ngx_gate_store_say(ngx_gate_node_t *node, ngx_log_t *log)
{
    int                    rc;
    ngx_gate_store_t      *store;
    ngx_gate_store_job_t  *job;

    job = &ngx_gate_store_data;
    store = &node->sh->store;

    job->text = ngx_gate_state_encode(node, &job->len, &job->revision);

    if (job->text == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_gate_store_write(job, 0);

    gate_state_free_text(job->text);
    job->text = NULL;

    if (rc == -1) {
        ngx_log_error(NGX_LOG_ERR, log, job->err,
                      "gate: state in \"%V\" is not saved, %s failed",
                      &node->state->name, job->what);
        return NGX_ERROR;
    }

    if (job->other) {
        return NGX_AGAIN;
    }

    store->inode = job->inode;
    store->mtime = job->mtime;
    store->keep = job->keep;
    ngx_gate_store(&store->saved_revision, job->revision);

    return NGX_OK;
}


/* Whether there is an agent that will save what this process does not. */

static ngx_uint_t
ngx_gate_store_heir(ngx_gate_node_t *node)
{
    uint32_t  pid;

    pid = (uint32_t) ngx_gate_load(&node->sh->agent);

    return pid != 0 && pid != (uint32_t) ngx_pid
           && ngx_gate_node_alive(node->sh, pid);
}

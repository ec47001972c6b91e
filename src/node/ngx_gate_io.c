
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * One thread for file work that may hang: a disk that is full of other
 * people's writes, a network file system that went away.
 *
 * nginx's thread pools would do, but "default" starts 32 threads in every
 * worker, and its structure is private.  This one is made by the process
 * that needs it, has one job at a time, and is asked, not awaited: whoever
 * posted a job looks whether it is done when his timer fires.  The thread
 * touches nothing of nginx's: no pool, no log, no cached time.
 *
 * It ends with its process, at any instant: so a job's file is complete by
 * rename() or not there at all.
 */


#include "ngx_gate_node.h"

#include <pthread.h>
#include <signal.h>


#define NGX_GATE_IO_STACK  (256 * 1024)


struct ngx_gate_io_s {
    pthread_mutex_t  mutex;
    pthread_cond_t   cond;
    ngx_gate_io_pt   job;         /* under the mutex; NULL: nothing to do */
    void            *data;
    uint32_t         busy;        /* from post until the job is done */
};


static void *ngx_gate_io_thread(void *arg);


ngx_gate_io_t *
ngx_gate_io_create(void)
{
    int              rc;
    sigset_t         set, old;
    pthread_t        tid;
    ngx_gate_io_t   *io;
    pthread_attr_t   attr;

    io = calloc(1, sizeof(ngx_gate_io_t));
    if (io == NULL) {
        return NULL;
    }

    if (pthread_mutex_init(&io->mutex, NULL) != 0
        || pthread_cond_init(&io->cond, NULL) != 0
        || pthread_attr_init(&attr) != 0)
    {
        free(io);
        return NULL;
    }

    (void) pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    (void) pthread_attr_setstacksize(&attr, NGX_GATE_IO_STACK);

    /* nginx's signals are for nginx's thread */

    sigfillset(&set);
    (void) pthread_sigmask(SIG_SETMASK, &set, &old);

    rc = pthread_create(&tid, &attr, ngx_gate_io_thread, io);

    (void) pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void) pthread_attr_destroy(&attr);

    if (rc != 0) {
        free(io);
        return NULL;
    }

    return io;
}


static void *
ngx_gate_io_thread(void *arg)
{
    ngx_gate_io_t *io = arg;

    void            *data;
    ngx_gate_io_pt   job;

    for ( ;; ) {
        (void) pthread_mutex_lock(&io->mutex);

        while (io->job == NULL) {
            (void) pthread_cond_wait(&io->cond, &io->mutex);
        }

        job = io->job;
        data = io->data;
        io->job = NULL;

        (void) pthread_mutex_unlock(&io->mutex);

        job(data);

        __atomic_store_n(&io->busy, 0, __ATOMIC_RELEASE);
    }

    return NULL;
}


ngx_int_t
ngx_gate_io_post(ngx_gate_io_t *io, ngx_gate_io_pt job, void *data)
{
    if (io == NULL) {
        return NGX_ERROR;
    }

    if (!ngx_gate_io_idle(io)) {
        return NGX_AGAIN;
    }

    __atomic_store_n(&io->busy, 1, __ATOMIC_RELEASE);

    (void) pthread_mutex_lock(&io->mutex);

    io->job = job;
    io->data = data;

    (void) pthread_cond_signal(&io->cond);
    (void) pthread_mutex_unlock(&io->mutex);

    return NGX_OK;
}


ngx_uint_t
ngx_gate_io_idle(ngx_gate_io_t *io)
{
    return io == NULL || __atomic_load_n(&io->busy, __ATOMIC_ACQUIRE) == 0;
}

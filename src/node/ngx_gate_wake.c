
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * How a worker wakes the agent, whichever of the workers that is.
 *
 * The master makes one eventfd and every process that it forks inherits it,
 * also those of the next configuration, so that workers of two generations
 * reach the same agent.  The agent listens on a duplicate: nginx closes the
 * descriptor of a connection with it, and this process may have to call
 * somebody else later.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#if (NGX_HAVE_EVENTFD)
#if (NGX_HAVE_SYS_EVENTFD_H)
#include <sys/eventfd.h>
#endif
#include <fcntl.h>
#endif

#include "ngx_gate_limit.h"


#if (NGX_HAVE_EVENTFD)

static void ngx_gate_wake_handler(ngx_event_t *rev);


static ngx_fd_t           ngx_gate_wake_fd = NGX_INVALID_FILE;
static ngx_connection_t  *ngx_gate_wake_connection;
static void             (*ngx_gate_wake_called)(void *data);
static void              *ngx_gate_wake_data;


void
ngx_gate_wake_init(ngx_log_t *log)
{
    if (ngx_gate_wake_fd != NGX_INVALID_FILE) {
        return;
    }

    ngx_gate_wake_fd = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);

    if (ngx_gate_wake_fd == NGX_INVALID_FILE) {

        /* the agent looks by itself, a little later */

        ngx_log_error(NGX_LOG_WARN, log, ngx_errno,
                      "gate: eventfd() failed, limits are told to Redis at "
                      "the next tick");
    }
}


ngx_int_t
ngx_gate_wake_listen(void (*handler)(void *data), void *data, ngx_log_t *log)
{
    int                fd;
    ngx_connection_t  *c;

    ngx_gate_wake_close();

    if (ngx_gate_wake_fd == NGX_INVALID_FILE) {
        return NGX_DECLINED;
    }

    fd = fcntl(ngx_gate_wake_fd, F_DUPFD_CLOEXEC, 0);

    if (fd == -1) {
        ngx_log_error(NGX_LOG_ERR, log, ngx_errno,
                      "gate: fcntl(F_DUPFD_CLOEXEC) failed");
        return NGX_ERROR;
    }

    c = ngx_get_connection(fd, log);

    if (c == NULL) {
        (void) close(fd);
        return NGX_ERROR;
    }

    c->log = log;
    c->read->log = log;
    c->write->log = log;
    c->read->handler = ngx_gate_wake_handler;

    /* a worker that retires closes it, and is not kept by it */

    c->idle = 1;

    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        ngx_close_connection(c);
        return NGX_ERROR;
    }

    ngx_gate_wake_connection = c;
    ngx_gate_wake_called = handler;
    ngx_gate_wake_data = data;

    return NGX_OK;
}


void
ngx_gate_wake_close(void)
{
    ngx_connection_t  *c;

    c = ngx_gate_wake_connection;

    if (c) {
        ngx_gate_wake_connection = NULL;
        ngx_close_connection(c);
    }
}


static void
ngx_gate_wake_handler(ngx_event_t *rev)
{
    uint64_t           n;
    ngx_connection_t  *c;

    c = rev->data;

    if (c->close) {
        ngx_gate_wake_close();
        return;
    }

    /* one read takes all calls; who was here first took them */

    if (read(c->fd, &n, sizeof(n)) == -1 && ngx_errno != NGX_EAGAIN
        && ngx_errno != NGX_EINTR)
    {
        ngx_log_error(NGX_LOG_ERR, c->log, ngx_errno,
                      "gate: read() of an eventfd failed");
        ngx_gate_wake_close();
        return;
    }

    rev->ready = 0;

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_gate_wake_close();
        return;
    }

    ngx_gate_wake_called(ngx_gate_wake_data);
}


void
ngx_gate_wake(void)
{
    uint64_t  one;

    if (ngx_gate_wake_fd == NGX_INVALID_FILE) {
        return;
    }

    one = 1;

    /* EAGAIN: it has been called 2^64 times, that is enough */

    if (write(ngx_gate_wake_fd, &one, sizeof(one)) == -1) {
        return;
    }
}

#else

void
ngx_gate_wake_init(ngx_log_t *log)
{
}


ngx_int_t
ngx_gate_wake_listen(void (*handler)(void *data), void *data, ngx_log_t *log)
{
    return NGX_DECLINED;
}


void
ngx_gate_wake_close(void)
{
}


void
ngx_gate_wake(void)
{
}

#endif

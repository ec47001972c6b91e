
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * File work that may hang: an fsync on a disk that is full of other people's
 * writes, a stat on a network file system that went away.  A process of its
 * own does it, forked for the job and gone with it.  It is asked, not
 * awaited: whoever posted a job looks whether it is done when his timer
 * fires.
 *
 * Why not a thread?  The first thread makes a process one of several for
 * good: libc then brackets every read, write and wait for the sake of
 * pthread_cancel(), which was 280 instructions of every request of that
 * worker.  A fork is a millisecond on the rare occasion that there is
 * something to write.
 *
 * The child is made without SIGCHLD, because nginx would reap and report it;
 * it keeps no socket open, so that clients of the worker see a close when the
 * worker closes; it touches nothing of nginx's but the job's own data.  It
 * ends when its job does, also when the worker has died meanwhile.
 */


#include "ngx_gate_node.h"

#if (NGX_LINUX)
#include <sys/syscall.h>
#include <sys/vfs.h>
#endif


#define NGX_GATE_IO_FDS  65536      /* where the kernel cannot close all */


static void ngx_gate_io_child(ngx_gate_io_t *io, ngx_gate_io_pt job,
    int keep);
static void ngx_gate_io_close(int from, int to);


void *
ngx_gate_io_alloc(size_t size)
{
    void  *p;

    p = mmap(NULL, size, PROT_READ|PROT_WRITE, MAP_ANON|MAP_SHARED, -1, 0);

    return (p == MAP_FAILED) ? NULL : p;
}


void
ngx_gate_io_free(void *p, size_t size)
{
    if (p) {
        (void) munmap(p, size);
    }
}


ngx_int_t
ngx_gate_io_post(ngx_gate_io_t *io, ngx_gate_io_pt job, void *data,
    size_t size, int keep)
{
    long  pid;

    if (!ngx_gate_io_idle(io)) {
        return NGX_AGAIN;
    }

    if (io->shared == NULL) {
        io->shared = ngx_gate_io_alloc(sizeof(uint64_t) + size);

        if (io->shared == NULL) {
            return NGX_ERROR;
        }
    }

    io->data = data;
    io->size = size;
    *io->shared = 0;

#if (NGX_LINUX)

    /* a fork() whose end signals nobody: only we ask for it, by __WCLONE */

    pid = syscall(SYS_clone, 0UL, NULL, NULL, NULL, 0UL);

    if (pid == -1) {
        return NGX_ERROR;
    }

    if (pid == 0) {
        ngx_gate_io_child(io, job, keep);
    }

    io->pid = (ngx_pid_t) pid;

#else

    pid = 0;
    job(data);
    io->pid = (ngx_pid_t) pid;

#endif

    return NGX_OK;
}


static void
ngx_gate_io_child(ngx_gate_io_t *io, ngx_gate_io_pt job, int keep)
{
    if (keep > 2) {
        ngx_gate_io_close(3, keep - 1);
    }

    ngx_gate_io_close((keep > 2) ? keep + 1 : 3, -1);

    job(io->data);

    ngx_memcpy(io->shared + 1, io->data, io->size);
    ngx_gate_store(io->shared, 1);

    _exit(0);
}


/* to -1: all that there are */

static void
ngx_gate_io_close(int from, int to)
{
    int  fd;

    if (to != -1 && to < from) {
        return;
    }

#ifdef SYS_close_range
    if (syscall(SYS_close_range, (unsigned) from, (unsigned) to, 0U) == 0) {
        return;
    }
#endif

    for (fd = from; fd <= (to == -1 ? NGX_GATE_IO_FDS : to); fd++) {
        (void) close(fd);
    }
}


ngx_uint_t
ngx_gate_io_idle(ngx_gate_io_t *io)
{
    int  status;

    if (io->pid == 0) {
        return 1;
    }

#if (NGX_LINUX)

    if (waitpid(io->pid, &status, WNOHANG|__WCLONE) == 0) {
        return 0;
    }

    /* one that was killed has nothing to tell, and the data stays as it was */

    if (ngx_gate_load(io->shared)) {
        ngx_memcpy(io->data, io->shared + 1, io->size);
    }

#else
    (void) status;
#endif

    io->pid = 0;

    return 1;
}


ngx_uint_t
ngx_gate_io_local(const char *path)
{
#if (NGX_LINUX)

    ngx_uint_t     i;
    struct statfs  fs;

    /* nfs, smb, cifs, smb2, fuse, 9p, ceph, afs, coda, lustre, gfs2, ocfs2 */

    static const uint32_t  remote[] = {
        0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x65735546, 0x01021997,
        0x00c36400, 0x5346414f, 0x73757245, 0x0bd00bd0, 0x01161970,
        0x7461636f
    };

    if (statfs(path, &fs) == -1) {
        return ngx_errno == NGX_ENOENT || ngx_errno == NGX_ENOTDIR;
    }

    for (i = 0; i < sizeof(remote) / sizeof(remote[0]); i++) {

        if ((uint32_t) fs.f_type == remote[i]) {
            return 0;
        }
    }

#endif

    return 1;
}

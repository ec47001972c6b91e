
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * One connection to a Redis or a sentinel: connect, TLS, commands out,
 * replies in.
 *
 * Replies come in the order of the commands, so what waits for one is a ring.
 * Nobody leaves the ring without his reply: were one dropped, each later
 * reply would go to the wrong one.  Whatever goes wrong, a link therefore
 * does not repair itself: it tells its owner, who closes it, and closing
 * answers all who wait with NULL.
 *
 * Everything is bounded: the bytes to be sent, the replies waited for, a
 * reply (ngx_gate_resp.h), the time that the oldest command waits.
 *
 * Nothing is called back from ngx_gate_link_connect() or _send().  A handler
 * may close the link it is called from, but the memory of the link must stay
 * until the event is over.
 */


#ifndef _NGX_GATE_LINK_H_INCLUDED_
#define _NGX_GATE_LINK_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_event_connect.h>

#include "node/ngx_gate_node.h"
#include "ngx_gate_resp.h"


#define NGX_GATE_LINK_RING   64              /* replies waited for, beside the
                                                owner's */
#define NGX_GATE_LINK_OUT    (1024 * 1024)   /* bytes not sent yet */
#define NGX_GATE_LINK_TEXT   192

#define ngx_gate_literal(s)  (s), sizeof(s) - 1


typedef struct ngx_gate_link_s  ngx_gate_link_t;

typedef void (*ngx_gate_link_reply_pt)(void *data, redisReply *reply);


typedef struct {
    /* connected; over TLS, and the server is who it says it is */
    void                     (*opened)(ngx_gate_link_t *link);

    /* it is broken: close it.  error and text say why */
    void                     (*broken)(ngx_gate_link_t *link);

    /* a message, or a reply to nothing; freed after the call */
    void                     (*stray)(ngx_gate_link_t *link,
                                      redisReply *reply);

    /* a reply arrived, so many microseconds after its command was given */
    void                     (*replied)(ngx_gate_link_t *link, uint64_t usec);
} ngx_gate_link_handlers_t;


typedef struct {
    ngx_gate_link_reply_pt     handler;      /* NULL: nobody minds */
    void                      *data;
    ngx_msec_t                 given;
    uint64_t                   usec;
} ngx_gate_link_wait_t;


struct ngx_gate_link_s {
    ngx_gate_link_handlers_t  *handlers;
    void                      *data;         /* the owner's */

    ngx_peer_connection_t      peer;
    ngx_gate_resp_t            resp;
    ngx_msec_t                 timeout;

    u_char                    *out;
    size_t                     out_size;
    size_t                     out_pos;
    size_t                     out_last;

    ngx_gate_link_wait_t      *ring;
    ngx_uint_t                 size;         /* of the ring */
    ngx_uint_t                 head;
    ngx_uint_t                 waiting;

    ngx_event_t                timer;        /* of the oldest command */
    ngx_connection_t           dummy;        /* what debug builds expect in
                                                an event */
    ngx_msec_t                 began;

    ngx_log_t                  log;          /* what nginx says goes here, */
    char                       said[NGX_GATE_LINK_TEXT];
    size_t                     said_len;

    ngx_gate_error_e           error;
    char                       text[NGX_GATE_LINK_TEXT];

#if (NGX_SSL)
    ngx_ssl_t                 *ssl;
    ngx_str_t                  name;         /* the server must have */
#endif

    unsigned                   open:1;
    unsigned                   secret:1;     /* a password is to be sent */
    unsigned                   failed:1;
    unsigned                   retired:1;    /* nginx asked us to close */
    unsigned                   pushes:1;     /* messages may arrive */
};


#pragma GCC visibility push(hidden)


/*
 * Prepares a link of zeros; it may be connected and closed many times.  ring:
 * of that size, must live as long as the link.
 */
void ngx_gate_link_init(ngx_gate_link_t *link, ngx_gate_link_wait_t *ring,
    ngx_uint_t size, ngx_gate_link_handlers_t *handlers, void *data,
    ngx_log_t *log);

/*
 * Begins to connect.  addr must live until then; ssl: NULL for none; name:
 * to verify, must live as long as the link.  NGX_OK; NGX_ERROR, with error
 * and text in the link, which is closed then.
 */
ngx_int_t ngx_gate_link_connect(ngx_gate_link_t *link, struct sockaddr *addr,
    socklen_t len, ngx_str_t *addr_text, void *ssl, ngx_str_t *name,
    ngx_msec_t timeout);

/*
 * Gives a command; arguments are copied.  NGX_OK; NGX_BUSY: not open, or too
 * much waits; NGX_ERROR: memory is short, or the command is too large.
 */
ngx_int_t ngx_gate_link_send(ngx_gate_link_t *link, ngx_uint_t argc,
    ngx_str_t *argv, ngx_gate_link_reply_pt handler, void *data);

/* Offers what is to be sent to the socket, once. */
void ngx_gate_link_flush(ngx_gate_link_t *link);

/*
 * Something is wrong with it.  The text is cut.  Its owner is told, at once;
 * of several failures, of the first one.
 */
void ngx_gate_link_fail(ngx_gate_link_t *link, ngx_gate_error_e error,
    const char *text, size_t len);

/* Closes it, if need be, and answers all who wait with NULL. */
void ngx_gate_link_close(ngx_gate_link_t *link);

/* Of ngx_gate_link_send(): whether one more command has room. */
#define ngx_gate_link_room(link)                                              \
    ((link)->open && (link)->waiting < (link)->size)

/* Of ngx_gate_link_tls.c: to begin, and to end before c is closed. */

void ngx_gate_link_tls(ngx_gate_link_t *link);
void ngx_gate_link_tls_close(ngx_gate_link_t *link, ngx_connection_t *c);

/* For it: TLS is complete; or it failed, and nginx may have said why. */

void ngx_gate_link_opened(ngx_gate_link_t *link);
void ngx_gate_link_fail_said(ngx_gate_link_t *link, ngx_gate_error_e error,
    const char *text);

/* Microseconds of a clock that does not jump. */
uint64_t ngx_gate_link_usec(void);


#pragma GCC visibility pop


#endif /* _NGX_GATE_LINK_H_INCLUDED_ */

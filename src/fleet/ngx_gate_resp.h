
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * RESP2, Redis's protocol: hiredis's formatter and reader, and nothing else
 * of it, behind four functions.
 *
 * The reader believes nobody.  A reply larger, deeper or with more elements
 * than the bounds below is an error of the protocol, and so is a type that
 * only RESP3 has, or a line with a lone CR or LF in it: after any of them
 * nobody can tell where the next reply begins, and the connection is to be
 * closed.
 *
 * Nothing here needs nginx: it is tested and fuzzed alone.
 */


#ifndef _NGX_GATE_RESP_H_INCLUDED_
#define _NGX_GATE_RESP_H_INCLUDED_


#include <stddef.h>

#include <sys/time.h>
#include <hiredis/hiredis.h>


#define NGX_GATE_RESP_SIZE      (256 * 1024)   /* bytes of one reply */
#define NGX_GATE_RESP_FEED      (64 * 1024)    /* bytes to feed at once */
#define NGX_GATE_RESP_ELEMENTS  8192           /* of one reply, all levels */
#define NGX_GATE_RESP_DEPTH     7


typedef struct {
    redisReader                *reader;
    redisReplyObjectFunctions   functions;
    redisReplyObjectFunctions  *inner;         /* hiredis's own */
    size_t                      size;          /* bytes fed since the last
                                                  whole reply */
    size_t                      elements;      /* of the reply so far */
    const char                 *error;
} ngx_gate_resp_t;


#pragma GCC visibility push(hidden)


/*
 * A command as it is sent, to be freed with free(); arguments may hold any
 * byte.  Returns its length, or -1 when memory is short, there are no arguments
 * or one is of more than 256 MiB.
 */
long long ngx_gate_resp_format(char **command, int argc, const char **argv,
    const size_t *lens);

/*
 * Takes len bytes (NGX_GATE_RESP_FEED at most) from the wire.  0; -1: the
 * protocol is broken, r->error says how, and nothing can be read any more.
 * A structure of zeros is a new reader.
 */
int ngx_gate_resp_feed(ngx_gate_resp_t *r, const char *data, size_t len);

/*
 * The next whole reply: 1 and *reply, to be freed with freeReplyObject(); 0,
 * more bytes are needed; -1 as above.  Call it until it is not 1 before more
 * is fed.
 */
int ngx_gate_resp_next(ngx_gate_resp_t *r, redisReply **reply);

/* Makes it a structure of zeros again. */
void ngx_gate_resp_free(ngx_gate_resp_t *r);


#pragma GCC visibility pop


#endif /* _NGX_GATE_RESP_H_INCLUDED_ */


/*
 * The address of Redis.
 *
 * Grammar, with the defaults db 0, port 6379, port 26379 of a sentinel:
 *
 *     redis://[user@]host[:port][,host[:port]...][/db]
 *     rediss://...                                        the same over TLS
 *     redis+sentinel://[user@]host[:port][,...]/master[/db]
 *     rediss+sentinel://...            TLS to the sentinels and to Redis
 *     unix:[user@]/path[?db=N]
 *
 * An IPv6 address stands in brackets.  Several hosts of redis:// are tried
 * in turn.  A user is printable ASCII without any of  / : @ ? # [ ] % , " \
 *
 * Invariants: what is accepted has at least one host with a port (or a
 * path), and every text in it is clean ASCII.
 *
 * Ownership: all texts of the result point into the input.
 *
 * Failure policy: what is not exactly right is refused, with a text that
 * says what would be right.  That text never quotes the input: it may hold
 * a password that does not belong there.
 */


#ifndef _GATE_URL_H_INCLUDED_
#define _GATE_URL_H_INCLUDED_


#include <stddef.h>


#define GATE_URL_HOSTS       16
#define GATE_URL_HOST_MAX    255
#define GATE_URL_USER_MAX    128
#define GATE_URL_PATH_MAX    107       /* of a unix socket */
#define GATE_URL_DB_MAX      65535


typedef struct {
    const unsigned char  *s;
    size_t                len;
} gate_url_text_t;


typedef struct {
    gate_url_text_t       name;        /* of an IPv6 address without [] */
    unsigned              port;
    unsigned              ipv6;
} gate_url_host_t;


typedef struct {
    unsigned              tls;
    unsigned              sentinel;
    unsigned              local;       /* unix: */
    unsigned              db;
    gate_url_text_t       user;
    gate_url_text_t       master;      /* of sentinel */
    gate_url_text_t       path;        /* of local */
    unsigned              nhosts;      /* 0 if local */
    gate_url_host_t       host[GATE_URL_HOSTS];
} gate_url_t;


#pragma GCC visibility push(hidden)


/* 0; -1 with *why, a static text, and *u in no particular state. */
int gate_url_parse(const unsigned char *s, size_t len, gate_url_t *u,
    const char **why);


#pragma GCC visibility pop


#endif /* _GATE_URL_H_INCLUDED_ */

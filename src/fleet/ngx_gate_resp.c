
/*
 * Copyright (C) nginx-gate authors
 */


#include "ngx_gate_resp.h"

#include <stdlib.h>
#include <string.h>


/*
 * What an argument's head takes at most, and the longest argument.  hiredis
 * formats with sprintf(), which makes nine hundred instructions of each: the
 * debts of one second are ten thousand arguments.
 */

#define NGX_GATE_RESP_LENGTH    24
#define NGX_GATE_RESP_ARGUMENT  (1 << 28)


/* what creates an array, before and since hiredis 1.0 */

#if (HIREDIS_MAJOR < 1)
typedef int     ngx_gate_resp_count_t;
#else
typedef size_t  ngx_gate_resp_count_t;
#endif


static char *ngx_gate_resp_length(char *p, char mark, size_t n);
static int ngx_gate_resp_init(ngx_gate_resp_t *r);
static int ngx_gate_resp_failed(ngx_gate_resp_t *r, const char *error);
static void *ngx_gate_resp_string(const redisReadTask *task, char *str,
    size_t len);
static void *ngx_gate_resp_array(const redisReadTask *task,
    ngx_gate_resp_count_t n);
static void *ngx_gate_resp_integer(const redisReadTask *task, long long v);
static void *ngx_gate_resp_nil(const redisReadTask *task);
#if (HIREDIS_MAJOR >= 1)
static void *ngx_gate_resp_double(const redisReadTask *task, double v,
    char *str, size_t len);
static void *ngx_gate_resp_bool(const redisReadTask *task, int v);
#endif
static int ngx_gate_resp_resp2(const redisReadTask *task);


long long
ngx_gate_resp_format(char **command, int argc, const char **argv,
    const size_t *lens)
{
    int     i;
    char   *p;
    size_t  size;

    if (argc <= 0) {
        return -1;
    }

    /* at most so many digits, and the marks and ends of lines */

    size = NGX_GATE_RESP_LENGTH;

    for (i = 0; i < argc; i++) {

        if (lens[i] > NGX_GATE_RESP_ARGUMENT) {
            return -1;
        }

        size += NGX_GATE_RESP_LENGTH + lens[i] + 2;
    }

    *command = malloc(size);
    if (*command == NULL) {
        return -1;
    }

    p = ngx_gate_resp_length(*command, '*', (size_t) argc);

    for (i = 0; i < argc; i++) {
        p = ngx_gate_resp_length(p, '$', lens[i]);

        if (lens[i]) {
            memcpy(p, argv[i], lens[i]);
            p += lens[i];
        }

        *p++ = '\r';
        *p++ = '\n';
    }

    return p - *command;
}


static char *
ngx_gate_resp_length(char *p, char mark, size_t n)
{
    char  digits[NGX_GATE_RESP_LENGTH], *d;

    d = digits + sizeof(digits);

    do {
        *--d = (char) ('0' + n % 10);
        n /= 10;
    } while (n);

    *p++ = mark;

    while (d < digits + sizeof(digits)) {
        *p++ = *d++;
    }

    *p++ = '\r';
    *p++ = '\n';

    return p;
}


int
ngx_gate_resp_feed(ngx_gate_resp_t *r, const char *data, size_t len)
{
    if (r->error) {
        return -1;
    }

    if (r->reader == NULL && ngx_gate_resp_init(r) != 0) {
        return -1;
    }

    if (len > NGX_GATE_RESP_FEED) {
        return ngx_gate_resp_failed(r, "too many bytes at once");
    }

    /* what next() left is no more than NGX_GATE_RESP_SIZE */

    r->size += len;

    if (redisReaderFeed(r->reader, data, len) != REDIS_OK) {
        return ngx_gate_resp_failed(r, "no memory for a reply");
    }

    return 0;
}


int
ngx_gate_resp_next(ngx_gate_resp_t *r, redisReply **reply)
{
    void  *found;

    *reply = NULL;

    if (r->error) {
        return -1;
    }

    if (r->reader == NULL) {
        return 0;
    }

    found = NULL;

    if (redisReaderGetReply(r->reader, &found) != REDIS_OK) {
        return ngx_gate_resp_failed(r, "this is not RESP2");
    }

    if (found == NULL) {

        if (r->size > NGX_GATE_RESP_SIZE) {
            return ngx_gate_resp_failed(r, "a reply is too large");
        }

        return 0;
    }

    r->size = r->reader->len - r->reader->pos;
    r->elements = 0;

    *reply = found;

    return 1;
}


void
ngx_gate_resp_free(ngx_gate_resp_t *r)
{
    if (r->reader) {
        redisReaderFree(r->reader);
    }

    memset(r, 0, sizeof(*r));
}


/*
 * hiredis's functions make the replies; ours stand before them.  It shows its
 * own table only in a reader, so the reader is made with it.
 */

static int
ngx_gate_resp_init(ngx_gate_resp_t *r)
{
    r->reader = redisReaderCreate();

    if (r->reader == NULL) {
        return ngx_gate_resp_failed(r, "no memory for a reader");
    }

    r->inner = r->reader->fn;

    r->functions = *r->inner;
    r->functions.createString = ngx_gate_resp_string;
    r->functions.createArray = ngx_gate_resp_array;
    r->functions.createInteger = ngx_gate_resp_integer;
    r->functions.createNil = ngx_gate_resp_nil;

#if (HIREDIS_MAJOR >= 1)
    r->functions.createDouble = ngx_gate_resp_double;
    r->functions.createBool = ngx_gate_resp_bool;
#endif

    r->reader->fn = &r->functions;
    r->reader->privdata = r;

    return 0;
}


/* The first error is the one that says why. */

static int
ngx_gate_resp_failed(ngx_gate_resp_t *r, const char *error)
{
    if (r->error == NULL) {
        r->error = error;
    }

    return -1;
}


static void *
ngx_gate_resp_string(const redisReadTask *task, char *str, size_t len)
{
    ngx_gate_resp_t *r = task->privdata;

    if (!ngx_gate_resp_resp2(task)) {
        return NULL;
    }

    if (task->type != REDIS_REPLY_STRING) {

        if (memchr(str, '\r', len) || memchr(str, '\n', len)) {
            (void) ngx_gate_resp_failed(r, "a line with a line break in it");
            return NULL;
        }

    } else if (str[len] != '\r' || str[len + 1] != '\n') {

        /* hiredis waited for these two bytes, but did not look at them */

        (void) ngx_gate_resp_failed(r, "a string of another length");
        return NULL;
    }

    return r->inner->createString(task, str, len);
}


static void *
ngx_gate_resp_array(const redisReadTask *task, ngx_gate_resp_count_t n)
{
    unsigned              depth;
    ngx_gate_resp_t      *r;
    const redisReadTask  *parent;

    r = task->privdata;

    if (!ngx_gate_resp_resp2(task)) {
        return NULL;
    }

    depth = 1;

    for (parent = task->parent; parent; parent = parent->parent) {
        depth++;
    }

    if (depth > NGX_GATE_RESP_DEPTH) {
        (void) ngx_gate_resp_failed(r, "arrays are nested too deeply");
        return NULL;
    }

    if ((size_t) n > NGX_GATE_RESP_ELEMENTS - r->elements) {
        (void) ngx_gate_resp_failed(r, "a reply has too many elements");
        return NULL;
    }

    r->elements += (size_t) n;

    return r->inner->createArray(task, n);
}


static void *
ngx_gate_resp_integer(const redisReadTask *task, long long v)
{
    ngx_gate_resp_t *r = task->privdata;

    return ngx_gate_resp_resp2(task) ? r->inner->createInteger(task, v)
                                     : NULL;
}


/* A null is "$-1" or "*-1" here; "_" has a type of its own. */

static void *
ngx_gate_resp_nil(const redisReadTask *task)
{
    ngx_gate_resp_t *r = task->privdata;

    return ngx_gate_resp_resp2(task) ? r->inner->createNil(task) : NULL;
}


#if (HIREDIS_MAJOR >= 1)

/* without a function of ours hiredis would make a pointer out of a type */

static void *
ngx_gate_resp_double(const redisReadTask *task, double v, char *str,
    size_t len)
{
    (void) v;
    (void) str;
    (void) len;
    (void) ngx_gate_resp_resp2(task);

    return NULL;
}


static void *
ngx_gate_resp_bool(const redisReadTask *task, int v)
{
    (void) v;
    (void) ngx_gate_resp_resp2(task);

    return NULL;
}

#endif


static int
ngx_gate_resp_resp2(const redisReadTask *task)
{
    switch (task->type) {

    case REDIS_REPLY_STRING:
    case REDIS_REPLY_ARRAY:
    case REDIS_REPLY_INTEGER:
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_ERROR:
        return 1;

    default:
        (void) ngx_gate_resp_failed(task->privdata,
                                    "a type that only RESP3 has");
        return 0;
    }
}

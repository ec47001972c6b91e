
#include "../../src/fleet/ngx_gate_resp.c"

#include "tap.h"


/* 1 for a whole reply, 0 for none yet, -1 for a broken protocol */

static int
test_feed(ngx_gate_resp_t *r, const char *s, size_t len, size_t piece,
    redisReply **reply)
{
    int             rc;
    size_t          n;
    unsigned char  *p;

    rc = 0;
    *reply = NULL;

    while (len && rc == 0) {
        n = len < piece ? len : piece;
        p = tap_copy(s, n);
        rc = ngx_gate_resp_feed(r, (char *) p, n);
        free(p);

        if (rc == 0) {
            rc = ngx_gate_resp_next(r, reply);
        }

        s += n;
        len -= n;
    }

    return rc;
}


static void
test_bad(const char *what, const char *s, size_t len, const char *error)
{
    int              rc, again;
    size_t           piece;
    redisReply      *reply;
    ngx_gate_resp_t  r;

    for (piece = 1; piece <= NGX_GATE_RESP_FEED; piece *= 256) {
        memset(&r, 0, sizeof(r));

        rc = test_feed(&r, s, len, piece, &reply);
        again = ngx_gate_resp_next(&r, &reply);

        tap_ok(rc == -1 && again == -1 && reply == NULL && r.error
               && strstr(r.error, error)
               && ngx_gate_resp_feed(&r, "+OK\r\n", 5) == -1,
               "%s, %zu bytes at once: refused for good", what, piece);

        if (r.error) {
            printf("# %s\n", r.error);
        }

        ngx_gate_resp_free(&r);
    }
}


/* bytes that never become a reply must not be kept for ever */

static void
test_endless(const char *what, const char *head, const char *more)
{
    int               rc;
    size_t            fed;
    redisReply       *reply;
    ngx_gate_resp_t   r;
    static char       piece[16384];

    memset(&r, 0, sizeof(r));

    for (fed = 0; fed < sizeof(piece); fed++) {
        piece[fed] = more[fed % strlen(more)];
    }

    rc = test_feed(&r, head, strlen(head), 1000, &reply);

    for (fed = 0; rc == 0 && fed < 16 * 1024 * 1024; fed += sizeof(piece)) {
        rc = test_feed(&r, piece, sizeof(piece), sizeof(piece), &reply);
    }

    tap_ok(rc == -1 && fed <= NGX_GATE_RESP_SIZE + sizeof(piece),
           "%s: refused after %zu bytes", what, fed);
    printf("# %s\n", r.error ? r.error : "no error");

    ngx_gate_resp_free(&r);
}


static void
test_good(void)
{
    int               rc;
    size_t            piece;
    redisReply       *reply;
    ngx_gate_resp_t   r;
    static const char  s[] = "*6\r\n$5\r\na\0\r\nb\r\n:-7\r\n$-1\r\n*-1\r\n"
                             "*1\r\n+OK\r\n-ERR no\r\n";

    for (piece = 1; piece < sizeof(s); piece++) {
        memset(&r, 0, sizeof(r));
        rc = test_feed(&r, s, sizeof(s) - 1, piece, &reply);

        if (rc != 1 || reply->type != REDIS_REPLY_ARRAY
            || reply->elements != 6
            || reply->element[0]->len != 5
            || memcmp(reply->element[0]->str, "a\0\r\nb", 5) != 0
            || reply->element[1]->integer != -7
            || reply->element[2]->type != REDIS_REPLY_NIL
            || reply->element[3]->type != REDIS_REPLY_NIL
            || reply->element[4]->elements != 1
            || strcmp(reply->element[4]->element[0]->str, "OK") != 0
            || reply->element[5]->type != REDIS_REPLY_ERROR)
        {
            break;
        }

        freeReplyObject(reply);
        ngx_gate_resp_free(&r);
    }

    tap_ok(piece == sizeof(s), "a reply in pieces of every size");
}


static void
test_many(void)
{
    int               rc;
    size_t            i, n;
    redisReply       *reply;
    ngx_gate_resp_t   r;

    memset(&r, 0, sizeof(r));

    n = 0;

    for (i = 0; i < 100; i++) {
        if (ngx_gate_resp_feed(&r, "+OK\r\n:1\r\n$1\r\n", 13) != 0) {
            break;
        }

        while (ngx_gate_resp_next(&r, &reply) == 1) {
            n++;
            freeReplyObject(reply);
        }

        if (ngx_gate_resp_feed(&r, "x\r\n", 3) != 0
            || ngx_gate_resp_next(&r, &reply) != 1)
        {
            break;
        }

        n++;
        freeReplyObject(reply);
    }

    tap_ok(n == 300 && r.size == 0, "many replies, some cut in half");

    /* the bound is on one reply, not on what passes through */

    for (i = 0; i < 1000; i++) {
        if (ngx_gate_resp_feed(&r, "$4096\r\n", 7) != 0) {
            break;
        }

        for (n = 0; n < 64; n++) {
            rc = ngx_gate_resp_feed(&r, "0123456789abcdef0123456789abcdef"
                                    "0123456789abcdef0123456789abcdef", 64);
            if (rc != 0) {
                break;
            }
        }

        if (ngx_gate_resp_feed(&r, "\r\n", 2) != 0
            || ngx_gate_resp_next(&r, &reply) != 1)
        {
            break;
        }

        freeReplyObject(reply);
    }

    tap_ok(i == 1000, "4 MB in replies of 4 KB");

    ngx_gate_resp_free(&r);
}


static void
test_bounds(void)
{
    int              rc;
    char            *s;
    size_t           i, n;
    redisReply      *reply;
    ngx_gate_resp_t  r;

    s = malloc(NGX_GATE_RESP_SIZE + 64);

    if (s == NULL) {
        abort();
    }

    n = (size_t) sprintf(s, "$%d\r\n", NGX_GATE_RESP_SIZE - 16);
    memset(s + n, 'x', NGX_GATE_RESP_SIZE - 16);
    n += NGX_GATE_RESP_SIZE - 16;
    memcpy(s + n, "\r\n", 2);

    memset(&r, 0, sizeof(r));
    rc = test_feed(&r, s, n + 2, 16384, &reply);
    tap_ok(rc == 1 && reply->len == NGX_GATE_RESP_SIZE - 16,
           "the largest reply is taken");
    freeReplyObject(reply);
    ngx_gate_resp_free(&r);

    n = (size_t) sprintf(s, "*%d\r\n", NGX_GATE_RESP_ELEMENTS);

    for (i = 0; i < NGX_GATE_RESP_ELEMENTS; i++) {
        memcpy(s + n, ":1\r\n", 4);
        n += 4;
    }

    memset(&r, 0, sizeof(r));
    rc = test_feed(&r, s, n, 16384, &reply);
    tap_ok(rc == 1 && reply->elements == NGX_GATE_RESP_ELEMENTS,
           "the most elements are taken");
    freeReplyObject(reply);
    ngx_gate_resp_free(&r);

    n = 0;

    for (i = 0; i < NGX_GATE_RESP_DEPTH; i++) {
        n += (size_t) sprintf(s + n, "*1\r\n");
    }

    n += (size_t) sprintf(s + n, ":1\r\n");

    memset(&r, 0, sizeof(r));
    rc = test_feed(&r, s, n, 16384, &reply);
    tap_ok(rc == 1, "the deepest reply is taken");
    freeReplyObject(reply);
    ngx_gate_resp_free(&r);

    n = 0;

    for (i = 0; i < 100000 / 4; i++) {
        n += (size_t) sprintf(s + n, "*1\r\n");
    }

    test_bad("100,000 bytes of nested arrays", s, n, "nested");

    free(s);
}


static void
test_format(void)
{
    char         *command;
    long long     n;
    size_t        lens[3];
    const char   *argv[3];

    argv[0] = "SET";
    argv[1] = "a\0\r\n";
    argv[2] = "";
    lens[0] = 3;
    lens[1] = 4;
    lens[2] = 0;

    n = ngx_gate_resp_format(&command, 3, argv, lens);

    tap_ok(n == 29 && memcmp(command, "*3\r\n$3\r\nSET\r\n$4\r\na\0\r\n\r\n"
                                      "$0\r\n\r\n", 29) == 0,
           "arguments of any bytes are formatted by their lengths");

    free(command);

    tap_ok(ngx_gate_resp_format(&command, 0, argv, lens) == -1,
           "there is no command without arguments");
}


#define B(what, s, e)  test_bad(what, s, sizeof(s) - 1, e)


int
main(void)
{
    ngx_gate_resp_t   r;
    redisReply       *reply;

    memset(&r, 0, sizeof(r));
    tap_ok(ngx_gate_resp_next(&r, &reply) == 0 && reply == NULL,
           "a new reader has no reply");
    ngx_gate_resp_free(&r);

    test_good();
    test_many();
    test_format();
    test_bounds();

    B("HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n", "RESP2");
    B("TLS alert", "\x15\x03\x01\x00\x02\x02\x46\r\n", "RESP2");
    B("an integer out of range", ":99999999999999999999\r\n", "RESP2");
    B("no integer", ":1x\r\n", "RESP2");
    B("a negative length", "$-2\r\nxx\r\n", "RESP2");
    B("no length", "$x\r\nxx\r\n", "RESP2");
    B("a length out of range", "$99999999999999999999\r\nxx\r\n", "RESP2");
    B("an array of a negative length", "*-2\r\n", "RESP2");
    B("an array out of range", "*99999999999999999999\r\n", "RESP2");
    B("an array of 2147483647", "*2147483647\r\n", "elements");
    B("an array of 999999999", "*999999999\r\n", "elements");
    B("arrays that are too large together", "*2\r\n*8191\r\n", "elements");
    B("a string that is longer than it says", "$1\r\nxx\r\n", "length");
    B("a string without CR", "$1\r\nx\n\n", "length");
    B("a status with a CR", "+a\rb\r\n", "");
    B("an error with a LF", "-ERR a\nb\r\n", "");

    B("RESP3: null", "_\r\n", "");
    B("RESP3: double", ",1.5\r\n", "");
    B("RESP3: boolean", "#t\r\n", "");
    B("RESP3: big number", "(123\r\n", "");
    B("RESP3: verbatim", "=7\r\ntxt:abc\r\n", "");
    B("RESP3: map", "%1\r\n+a\r\n+b\r\n", "");
    B("RESP3: set", "~1\r\n+a\r\n", "");
    B("RESP3: push", ">2\r\n+invalidate\r\n*0\r\n", "");
    B("RESP3 in an array", "*1\r\n#t\r\n", "");

    test_endless("a string of 2147483647", "$2147483647\r\n", "x");
    test_endless("a status without CR", "+OK\n", "x\n");
    test_endless("a length without CR", "$1\nx", "\n1");
    test_endless("an array of strings", "*8192\r\n",
                 "$50\r\n01234567890123456789012345678901234567890123456789"
                 "\r\n");

    return tap_done();
}

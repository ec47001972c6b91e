
/*
 * The input is a stream from the wire, cut into pieces by its first byte.
 * Properties: the same replies come out however the stream is cut; a reply
 * stays within the bounds; after an error nothing comes any more.
 */

#include "../../src/fleet/ngx_gate_resp.c"

#include <stdint.h>


#define fuzz_check(expr)  do { if (!(expr)) { __builtin_trap(); } } while (0)


typedef struct {
    uint64_t  hash;
    size_t    replies;
    int       broken;
} fuzz_sum_t;


int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);


static void
fuzz_hash(fuzz_sum_t *sum, const void *p, size_t len)
{
    size_t                i;
    const unsigned char  *s = p;

    for (i = 0; i < len; i++) {
        sum->hash = (sum->hash ^ s[i]) * UINT64_C(1099511628211);
    }
}


static size_t
fuzz_walk(fuzz_sum_t *sum, const redisReply *reply, unsigned depth)
{
    size_t  i, n;

    fuzz_check(depth <= NGX_GATE_RESP_DEPTH + 1);

    fuzz_hash(sum, &reply->type, sizeof(reply->type));
    n = 0;

    switch (reply->type) {

    case REDIS_REPLY_ARRAY:
        n = reply->elements;

        for (i = 0; i < reply->elements; i++) {
            n += fuzz_walk(sum, reply->element[i], depth + 1);
        }

        break;

    case REDIS_REPLY_INTEGER:
        fuzz_hash(sum, &reply->integer, sizeof(reply->integer));
        break;

    case REDIS_REPLY_NIL:
        break;

    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_ERROR:
        fuzz_check(reply->str[reply->len] == '\0');
        fuzz_hash(sum, reply->str, reply->len);
        break;

    default:
        fuzz_check(0);
    }

    return n;
}


static void
fuzz_read(const unsigned char *data, size_t size, size_t piece,
    fuzz_sum_t *sum)
{
    int              rc;
    size_t           n;
    redisReply      *reply;
    ngx_gate_resp_t  r;

    memset(&r, 0, sizeof(r));
    memset(sum, 0, sizeof(*sum));

    while (size) {
        n = size < piece ? size : piece;

        rc = ngx_gate_resp_feed(&r, (const char *) data, n);

        while (rc == 0 && (rc = ngx_gate_resp_next(&r, &reply)) == 1) {
            sum->replies++;
            fuzz_check(fuzz_walk(sum, reply, 1) <= NGX_GATE_RESP_ELEMENTS);
            freeReplyObject(reply);
            rc = 0;
        }

        if (rc == -1) {
            sum->broken = 1;
            fuzz_check(r.error != NULL);
            fuzz_check(ngx_gate_resp_next(&r, &reply) == -1 && !reply);
            break;
        }

        fuzz_check(r.size <= NGX_GATE_RESP_SIZE);

        data += n;
        size -= n;
    }

    ngx_gate_resp_free(&r);
}


int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    fuzz_sum_t  whole, pieces;

    if (size == 0 || size > 65536) {
        return 0;
    }

    fuzz_read(data + 1, size - 1, NGX_GATE_RESP_FEED, &whole);
    fuzz_read(data + 1, size - 1, (size_t) data[0] + 1, &pieces);

    fuzz_check(whole.hash == pieces.hash);
    fuzz_check(whole.replies == pieces.replies);
    fuzz_check(whole.broken == pieces.broken);

    return 0;
}


/*
 * The signed sticky cookie of anonymous callers.
 *
 * Purpose: a caller without a key keeps the bucket that it once drew.  The
 * cookie carries the epoch, so that a new epoch or an abort evicts everybody
 * at once.
 *
 * Form: "1.<epoch>.<bucket>.<mac>", epoch in lower-case hexadecimal, bucket
 * in decimal, mac the first 16 bytes of
 *     HMAC-SHA256(key, "nginx-gate sticky v1" NUL name NUL epoch "." bucket)
 * in base64url without padding (RFC 4648, section 5); epoch and bucket are
 * signed as they are written.
 *
 * Invariants: a pair (epoch, bucket) has exactly one text under a key and a
 * name: numbers have no leading zeros, and the mac is compared as text, so
 * that a base64 variant of it is refused.  The comparison takes constant
 * time.
 *
 * Ownership: the key is prepared by the caller (gate_hmac.h) and borrowed.
 *
 * Failure policy: whatever is not ours is refused with -1 and treated as no
 * cookie at all; forging one would gain a bucket, nothing else.
 */


#ifndef _GATE_COOKIE_H_INCLUDED_
#define _GATE_COOKIE_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>

#include "gate_hmac.h"


#define GATE_COOKIE_MAX  64            /* bytes, more than any cookie has */


typedef struct {
    size_t                n;           /* cookies of that name */
    const unsigned char  *first;
    size_t                first_len;
    const unsigned char  *last;
    size_t                last_len;
} gate_cookie_all_t;


#pragma GCC visibility push(hidden)


/*
 * Writes the cookie value for epoch and bucket (0 .. 9999) of the cookie
 * called name.  Returns its length, at most 46, without a NUL; 0 for a bucket
 * out of range, an empty name or one with a NUL, or a failing library.
 */
size_t gate_cookie_make(unsigned char out[GATE_COOKIE_MAX],
    const gate_hmac_t *h, const unsigned char *name, size_t name_len,
    uint64_t epoch, unsigned bucket);

/*
 * Reads the cookie value v.  0 with epoch and bucket set, or -1 with both
 * untouched.  Whether the epoch is the current one is the caller's business.
 */
int gate_cookie_read(const unsigned char *v, size_t len,
    const gate_hmac_t *h, const unsigned char *name, size_t name_len,
    uint64_t *epoch, unsigned *bucket);

/*
 * Finds the cookie called name (exact case) in the value of one Cookie field
 * (RFC 6265, section 4.2.1); the first of that name counts.  1 with v and
 * v_len pointing into hdr, or 0 with both untouched.
 */
int gate_cookie_find(const unsigned char *hdr, size_t hdr_len,
    const unsigned char *name, size_t name_len, const unsigned char **v,
    size_t *v_len);

/*
 * Adds to c what one Cookie field has of that name, as generously as services
 * read it: white space around names and values, also what Unicode calls so
 * below U+0100, is none of them, nor are quotes around a value.  c is zeroed
 * by the caller, once for all fields.
 */
void gate_cookie_all(gate_cookie_all_t *c, const unsigned char *hdr,
    size_t hdr_len, const unsigned char *name, size_t name_len);


#pragma GCC visibility pop


#endif /* _GATE_COOKIE_H_INCLUDED_ */

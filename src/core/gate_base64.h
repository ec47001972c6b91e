
/*
 * Base64 with the alphabet of URLs (RFC 4648, section 5).
 *
 * Purpose: cursors, JWS segments and MACs come in it, and one value must
 * have one text: whoever can write the same bytes in two ways can walk
 * around what remembers or compares the text.
 *
 * Invariants: all forms but GATE_BASE64_LAX are bijective: no foreign byte,
 * no white space, no bit that is left over at the end other than 0.
 *
 * Ownership: dst belongs to the caller and must not overlap s.
 *
 * Failure policy: -1 for what is not of the form; dst is then of no use.
 */


#ifndef _GATE_BASE64_H_INCLUDED_
#define _GATE_BASE64_H_INCLUDED_


#include <stddef.h>


typedef enum {
    GATE_BASE64_PADDED = 0,     /* "=" where due: base64.urlsafe_b64encode() */
    GATE_BASE64_BARE,           /* without "=": RFC 7515 */
    GATE_BASE64_EITHER,         /* one of these two */
    GATE_BASE64_STANDARD,       /* "+" and "/", padded: files of keys */

    /*
     * What CPython's base64.urlsafe_b64decode() takes, as far as it makes
     * sense: "+" and "/" as well as "-" and "_", any bits left over, and more
     * "=" than are due.  Not: bytes outside of these alphabets, which it
     * skips, and data after a "=".
     */
    GATE_BASE64_LAX
} gate_base64_e;


/* Bytes that decoding len characters gives at most. */
#define gate_base64_decoded(len)  ((len) / 4 * 3 + 3)

/* Characters that encoding len bytes gives at most. */
#define gate_base64_encoded(len)  (((len) + 2) / 3 * 4)


#pragma GCC visibility push(hidden)


/*
 * Decodes s into dst, of gate_base64_decoded(len) bytes; 0 with *n set to
 * their number, or -1.  An empty s is empty.
 */
int gate_base64_decode(unsigned char *dst, size_t *n, const unsigned char *s,
    size_t len, gate_base64_e form);

/*
 * Encodes s with the alphabet of URLs, padded or not; dst has room for
 * gate_base64_encoded(len) characters.  Returns how many they are; no NUL.
 */
size_t gate_base64_encode(unsigned char *dst, const unsigned char *s,
    size_t len, int padded);


#pragma GCC visibility pop


#endif /* _GATE_BASE64_H_INCLUDED_ */

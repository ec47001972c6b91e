
/*
 * HMAC-SHA256, -SHA384 and -SHA512 with the key prepared once.
 *
 * Purpose: sign and verify on the path of a request.  The one-shot HMAC() of
 * OpenSSL 3 fetches the algorithm and allocates on every call, which costs
 * more than the hash; here the two key blocks are hashed once per key and a
 * signature starts from copies of those states.
 *
 * Invariants: equal to RFC 2104 with the hash of FIPS 180-4.  A prepared key
 * is read-only; workers share it after fork.
 *
 * Ownership: a gate_hmac_t is plain data; it is as secret as the key, and its
 * owner wipes it with gate_hmac_wipe().
 *
 * Failure policy: every step is checked; a failure gives no signature, and so
 * nothing verifies.
 */


#ifndef _GATE_HMAC_H_INCLUDED_
#define _GATE_HMAC_H_INCLUDED_


#include <stddef.h>

#include <openssl/sha.h>


#define GATE_HMAC_LEN       32         /* bytes in a signature */
#define GATE_HMAC_LONG_LEN  64         /* of a long one, at most */


typedef struct {
    SHA256_CTX  inner;                 /* state after key xor ipad */
    SHA256_CTX  outer;                 /* state after key xor opad */
} gate_hmac_t;

/* The same with SHA-384 or SHA-512. */

typedef struct {
    SHA512_CTX  inner;
    SHA512_CTX  outer;
    size_t      len;                   /* bytes in a signature, 48 or 64 */
} gate_hmac_long_t;


#pragma GCC visibility push(hidden)


/*
 * Prepares h for a key of len bytes.  0, or -1 for an empty key or a failing
 * library, with h wiped.
 */
int gate_hmac_init(gate_hmac_t *h, const unsigned char *key, size_t len);

/*
 * Signs the concatenation of n parts: part[i] has len[i] bytes.  0 with the
 * signature in mac, or -1 with mac wiped.
 */
int gate_hmac_sign(const gate_hmac_t *h, const void *const part[],
    const size_t len[], size_t n, unsigned char mac[GATE_HMAC_LEN]);

/* Overwrites h in a way that the compiler keeps. */
void gate_hmac_wipe(gate_hmac_t *h);

/* Likewise; mac_len is 48 for SHA-384 or 64 for SHA-512. */
int gate_hmac_long_init(gate_hmac_long_t *h, size_t mac_len,
    const unsigned char *key, size_t len);
int gate_hmac_long_sign(const gate_hmac_long_t *h, const void *const part[],
    const size_t len[], size_t n, unsigned char mac[GATE_HMAC_LONG_LEN]);
void gate_hmac_long_wipe(gate_hmac_long_t *h);


#pragma GCC visibility pop


#endif /* _GATE_HMAC_H_INCLUDED_ */


/*
 * Pagination cursors: is this one genuine?
 *
 * Purpose: a cursor that the service did not sign, or too long ago, is told
 * from one that it did, in about a microsecond and without asking it.
 *
 * Formats:
 *   envelope  base64url(JSON {"payload":{"offset":n,"ts":t,..},"sig":"hex"}),
 *             sig = HMAC-SHA256 over the payload as json.dumps(payload,
 *             separators=(",", ":"), sort_keys=True) prints it (gate_json.h):
 *             what is signed is not what was received but its re-rendering.
 *   detached  base64url(JSON payload) "." mac, mac = HMAC-SHA256 over the
 *             characters before the dot, in hexadecimal or base64url.  What
 *             follows the dot and is neither is malformed.
 *   jws       RFC 7515, compact; HS256, HS384, HS512, ES256, EdDSA (Ed25519).
 *             The key says which, never the token.
 *
 * Of the last two nothing of the payload is looked at before the signature is
 * known to be good: whatever is wrong with it, it is a bad signature first.
 * No name may be twice in their payload (nor in the header), at its top: that
 * is where claims are.
 *
 * Modes, which differ for envelopes, and for the "ts" of a detached one, which
 * strict refuses where it is in the future:
 *   compat    agrees with the service's verifier on every text, except that
 *             it refuses, as malformed: bytes outside of the base64 alphabets,
 *             data after a "=", a "ts" that is NaN or Infinity, and what is
 *             over the limits.
 *   strict    what compat accepts, if the service could have issued it byte
 *             for byte and its "ts" is not in the future.  What compat
 *             refuses is refused for the same reason.
 *
 * Time: now, ttl, skew, ts, iat, nbf and exp are seconds; now and ts since
 * 1970.  Expired is now - ts > ttl: exactly ttl is still valid.
 *
 * Invariants: MACs are compared in constant time, and for all keys alike.
 * Work is bounded by the limits: no recursion, no allocation (ES256 and EdDSA
 * allocate in OpenSSL, a constant amount).  No clock is read.
 *
 * Ownership: keys and scratch are the caller's; a result refers to the
 * scratch (and to nothing else), until the next call with it.
 *
 * Failure policy: whatever fails, also in the library, verifies nothing.
 */


#ifndef _GATE_CURSOR_H_INCLUDED_
#define _GATE_CURSOR_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>

#include "gate_hmac.h"
#include "gate_json.h"


#define GATE_CURSOR_LENGTH      4096   /* characters of a cursor, at most */
#define GATE_CURSOR_BYTES       (GATE_CURSOR_LENGTH / 4 * 3 + 3)
#define GATE_CURSOR_CLAIMS      8      /* names that rules may allow */
#define GATE_CURSOR_KEYS        8
#define GATE_CURSOR_TEXT        384    /* an age has up to 309 digits */
#define GATE_CURSOR_ID          64     /* bytes of a key's id, at most */


typedef enum {
    GATE_CURSOR_VALID = 0,
    GATE_CURSOR_EXPIRED,
    GATE_CURSOR_BAD_SIGNATURE,
    GATE_CURSOR_MALFORMED,
    GATE_CURSOR_FUTURE,
    GATE_CURSOR_MISMATCH,              /* of a claim; said by the caller */
    GATE_CURSOR_DUPLICATE,             /* likewise */
    GATE_CURSOR_ABSENT,                /* likewise, and of an empty cursor */
    GATE_CURSOR_STATUSES
} gate_cursor_status_e;

typedef enum {
    GATE_CURSOR_ENVELOPE = 0,
    GATE_CURSOR_DETACHED,
    GATE_CURSOR_JWS,
    GATE_CURSOR_FORMATS
} gate_cursor_format_e;

typedef enum {
    GATE_CURSOR_STRICT = 0,
    GATE_CURSOR_COMPAT
} gate_cursor_mode_e;

typedef enum {
    GATE_CURSOR_HS256 = 0,             /* also of envelope and detached */
    GATE_CURSOR_HS384,
    GATE_CURSOR_HS512,
    GATE_CURSOR_ES256,
    GATE_CURSOR_EDDSA,
    GATE_CURSOR_ALGS
} gate_cursor_alg_e;


typedef struct {
    gate_cursor_format_e   format;
    gate_cursor_mode_e     mode;
    int64_t                ttl;        /* s */
    int                    ttl_given;  /* else of detached and jws an "exp"
                                          counts instead of it */
    int64_t                skew;       /* s */
    size_t                 length;     /* 1 .. GATE_CURSOR_LENGTH */
    gate_json_limits_t     json;

    /* members of an envelope's payload that a service of that kind may have
       added, after "ts"; for mode strict */
    const char            *claim[GATE_CURSOR_CLAIMS];
    size_t                 claim_len[GATE_CURSOR_CLAIMS];
    unsigned               nclaims;
} gate_cursor_rules_t;


/* A prepared key, as secret as what it was made of. */

typedef struct {
    gate_cursor_alg_e      alg;
    int                    weak;       /* gate_cursor_weak_e */
    size_t                 id_len;     /* 0: it has none */
    char                   id[GATE_CURSOR_ID];
    gate_hmac_t            hmac;       /* HS256 */
    gate_hmac_long_t       hmac_long;  /* HS384, HS512 */
    void                  *pkey;       /* EVP_PKEY *, ES256 and EdDSA */
    int                    secret;     /* of pkey: it can sign */
} gate_cursor_key_t;

typedef enum {
    GATE_CURSOR_KEY_GOOD = 0,
    GATE_CURSOR_KEY_SHORT,             /* below 32 bytes */
    GATE_CURSOR_KEY_KNOWN              /* a default that everybody knows */
} gate_cursor_weak_e;

/* How the bytes of a key's file are to be taken. */

typedef enum {
    GATE_CURSOR_KEY_AUTO = 0,          /* PEM if it has that inside, or RAW */
    GATE_CURSOR_KEY_RAW,               /* but for one line end at the end */
    GATE_CURSOR_KEY_HEX,               /* in lines or not, and so is: */
    GATE_CURSOR_KEY_BASE64,            /* either alphabet, padded or not */
    GATE_CURSOR_KEY_PEM,               /* P-256 or Ed25519, public or private */
    GATE_CURSOR_KEY_FORMS
} gate_cursor_form_e;


/* Room for one verification at a time; some 50 KB. */

typedef struct {
    unsigned char      bytes[GATE_CURSOR_BYTES];
    unsigned char      head[GATE_CURSOR_BYTES];          /* of a JWS */
    gate_json_node_t   node[gate_json_nodes(GATE_CURSOR_BYTES)];
    unsigned char      text[gate_json_printed(GATE_CURSOR_BYTES)];
} gate_cursor_scratch_t;


typedef struct {
    gate_cursor_status_e   status;
    int                    key;        /* whose signature it is, whatever
                                          the status, or -1 */
    size_t                 text_len;
    char                   text[GATE_CURSOR_TEXT];  /* what to tell the
                                          client, printable ASCII without
                                          quotes, none of it the client's;
                                          empty where it is valid */

    /* of a cursor that is valid or expired */
    gate_json_t            json;       /* of the envelope or the payload */
    uint32_t               payload;    /* the payload's node */
    unsigned char         *room;       /* what a claim means is read there */
} gate_cursor_t;


#pragma GCC visibility push(hidden)


/* "valid", "bad_signature", ..; by gate_cursor_status_e. */
extern const char *const  gate_cursor_status_name[GATE_CURSOR_STATUSES];

/* "envelope", "detached", "jws"; by gate_cursor_format_e. */
extern const char *const  gate_cursor_format_name[GATE_CURSOR_FORMATS];

/* "HS256", ..; by gate_cursor_alg_e. */
extern const char *const  gate_cursor_alg_name[GATE_CURSOR_ALGS];


/* gate_cursor_key.c */

/*
 * Prepares a key from the len bytes of its file.  alg: -1 for what goes with
 * the key (HS256, ES256, EdDSA), or a gate_cursor_alg_e, which must go with
 * it.  It has no id then.  0, or -1 with *why in plain words (no byte of the
 * key), and k wiped.
 */
int gate_cursor_key_init(gate_cursor_key_t *k, int alg,
    gate_cursor_form_e form, const unsigned char *s, size_t len,
    const char **why);

/* Wipes and frees what it holds. */
void gate_cursor_key_wipe(gate_cursor_key_t *k);

/*
 * Signs the concatenation of n parts.  The length of the signature in sig (at
 * most 64 bytes), or 0.  A public key signs nothing.
 */
size_t gate_cursor_key_sign(const gate_cursor_key_t *k,
    const void *const part[], const size_t len[], size_t n,
    unsigned char sig[64]);

/* 1 if sig is the signature of s by k, else 0.  Constant time for MACs. */
int gate_cursor_key_check(const gate_cursor_key_t *k, const unsigned char *s,
    size_t len, const unsigned char *sig, size_t sig_len);


/* gate_cursor.c */

/* Defaults: envelope, strict, ttl 600, skew 60, all limits at their most. */
void gate_cursor_rules_init(gate_cursor_rules_t *rules);

/*
 * Verifies the cursor s with nkeys keys, the newest first; 0 is none at all.
 * Keys of another algorithm than the format needs do not count.  Of a JWS
 * that names a "kid", a key with that id counts alone, whatever its algorithm;
 * if there is none, those without an id.  The status is also in c->status.
 */
gate_cursor_status_e gate_cursor_verify(gate_cursor_t *c,
    const gate_cursor_rules_t *rules, const gate_cursor_key_t *const key[],
    unsigned nkeys, const unsigned char *s, size_t len, double now,
    gate_cursor_scratch_t *scratch);

/*
 * The claim of that name of a verified cursor: the node of its value in
 * c->json, or GATE_JSON_NONE.
 */
uint32_t gate_cursor_claim(const gate_cursor_t *c, const char *name,
    size_t len);

/*
 * Whether the claim says that value: it is a string that equals it, or
 * "sha256:" and the 64 lower-case hexadecimal digits of its SHA-256 (a claim
 * with that prefix is nothing else), or an integer whose digits it is.  An
 * empty value and a missing claim never match.  Constant time for equal
 * lengths.
 */
int gate_cursor_claim_is(const gate_cursor_t *c, const char *name,
    size_t len, const unsigned char *value, size_t value_len);


/* gate_cursor_sign.c */

/*
 * Makes a cursor of that format with the payload (JSON, an object, at most
 * 2048 bytes): as it stands in a JWS or a detached one, and as json.dumps()
 * would print it in its own order in an envelope.  dst has room for
 * 2 * GATE_CURSOR_LENGTH bytes.  Returns the length, or 0 with *why.
 */
size_t gate_cursor_sign(unsigned char *dst, gate_cursor_format_e format,
    const gate_cursor_key_t *key, const unsigned char *payload, size_t len,
    gate_cursor_scratch_t *scratch, const char **why);


#pragma GCC visibility pop


#endif /* _GATE_CURSOR_H_INCLUDED_ */

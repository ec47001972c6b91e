
/*
 * What the files of gate_cursor.h share.
 *
 *   gate_cursor.c           rules, dispatch, keys of a ring, claims
 *   gate_cursor_envelope.c  one format each
 *   gate_cursor_detached.c
 *   gate_cursor_jws.c
 *   gate_cursor_key.c       what the bytes of a file are as a key
 *   gate_cursor_sign.c      the other direction
 */


#ifndef _GATE_CURSOR_INNER_H_INCLUDED_
#define _GATE_CURSOR_INNER_H_INCLUDED_


#include "gate_cursor.h"


/* A text that is known when this is compiled, and its length. */
#define gate_cursor_str(s)  s, sizeof(s) - 1

/*
 * The texts of more than one format.  A reason of "malformed" begins with
 * "Invalid cursor format: ".
 */
#define GATE_CURSOR_FAILED   "Cursor signature verification failed"
#define GATE_CURSOR_NO_TIME  "Cursor missing timestamp"
#define GATE_CURSOR_LATER    "Cursor timestamp is in the future"
#define GATE_CURSOR_OVER     "Cursor expired"


/* One call of gate_cursor_verify(). */

typedef struct {
    const gate_cursor_rules_t       *rules;
    const gate_cursor_key_t *const  *key;
    unsigned                         nkeys;
    double                           now;
    gate_cursor_scratch_t           *scratch;
} gate_cursor_call_t;


#pragma GCC visibility push(hidden)


/* One format each; c is empty, status and text are set. */
gate_cursor_status_e gate_cursor_envelope(gate_cursor_t *c,
    const gate_cursor_call_t *call, const unsigned char *s, size_t len,
    int quick);
gate_cursor_status_e gate_cursor_detached(gate_cursor_t *c,
    const gate_cursor_call_t *call, const unsigned char *s, size_t len);
gate_cursor_status_e gate_cursor_jws(gate_cursor_t *c,
    const gate_cursor_call_t *call, const unsigned char *s, size_t len);

/* The end of it: that status with that text, which is cut to fit. */
gate_cursor_status_e gate_cursor_end(gate_cursor_t *c,
    gate_cursor_status_e status, const char *text);

/* Malformed, and why. */
gate_cursor_status_e gate_cursor_odd(gate_cursor_t *c, const char *why);

/* Expired by so many seconds' age, which is more than ttl. */
gate_cursor_status_e gate_cursor_old(gate_cursor_t *c, double age,
    int64_t ttl);

/*
 * Which HS256 key of the ring made this MAC of s, in c->key; 0, or -1 if none
 * did.
 */
int gate_cursor_ring(gate_cursor_t *c, const gate_cursor_call_t *call,
    const unsigned char *s, size_t len,
    const unsigned char mac[GATE_HMAC_LEN]);

/* 32 bytes from exactly 64 lower-case hexadecimal digits; 0 or -1. */
int gate_cursor_hex(unsigned char dst[GATE_HMAC_LEN], const unsigned char *s,
    size_t len);

/*
 * A payload whose signature is good: parses c->json from n bytes of text,
 * which must be an object without equal names.  0, or -1 with the status set.
 */
int gate_cursor_payload(gate_cursor_t *c, const gate_cursor_call_t *call,
    const unsigned char *text, size_t n);

/* 1 if it is an object, and two of its members have the same name. */
int gate_cursor_twice(const gate_json_t *j, uint32_t object);

/*
 * A time of the payload: 1 with *v set, 0 if there is none, -1 with the status
 * set where it is no finite number.
 */
int gate_cursor_time(gate_cursor_t *c, const char *name, size_t len,
    double *v);


#pragma GCC visibility pop


#endif /* _GATE_CURSOR_INNER_H_INCLUDED_ */

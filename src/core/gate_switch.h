
/*
 * Values of a maintenance switch: a word, a JSON object, or a file's text.
 *
 * Purpose: what an operator types into redis-cli, sends to the API or writes
 * to a file becomes one structure, and that structure with the time gives
 * the answer "is it on".
 *
 * A JSON object may have the members
 *     on           boolean; true when absent
 *     message      string for the visitor, at most 512 bytes
 *     retry_after  integer seconds, 0 .. 30 days
 *     from, until  time: unix seconds or a string gate_parse_time() reads
 *     ttl          integer seconds, 1 .. 10 years; sets until = now + ttl
 *     read_only    boolean: only unsafe methods are refused
 * and others, which are ignored so that a newer writer does no harm.
 *
 * Invariants: a value that was parsed is valid: message is UTF-8 without
 * control characters, from < until where both are set.  "ttl" is resolved
 * against the now of the parse, so a text is parsed once, when it arrives.
 *
 * Ownership: a value is plain data without pointers.  gate_switch_to_json()
 * gives the caller a reference to drop.
 *
 * Failure policy: GATE_SWITCH_BAD leaves the value untouched; the caller
 * keeps the last good one.  A file is different: its existence means on, so
 * only a clear word turns it off, and only a broken object is an error.
 */


#ifndef _GATE_SWITCH_H_INCLUDED_
#define _GATE_SWITCH_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>

#include <jansson.h>


#define GATE_SWITCH_OK           0
#define GATE_SWITCH_BAD          (-1)

#define GATE_SWITCH_TEXT_MAX     65536     /* bytes */
#define GATE_SWITCH_DEPTH_MAX    4         /* nested arrays and objects */
#define GATE_SWITCH_MESSAGE_MAX  512       /* bytes */
#define GATE_SWITCH_RETRY_MAX    2592000   /* seconds, 30 days */
#define GATE_SWITCH_TTL_MAX      315360000 /* seconds, 10 years */


typedef struct {
    unsigned       on:1;
    unsigned       read_only:1;
    int64_t        from;               /* unix s, 0 = none */
    int64_t        until;              /* unix s, 0 = none; exclusive */
    uint32_t       retry_after;        /* s, 0 = none */
    uint16_t       message_len;        /* 0 = none */
    unsigned char  message[GATE_SWITCH_MESSAGE_MAX];
} gate_switch_value_t;


#pragma GCC visibility push(hidden)


/*
 * Parses a word (on, off, 1, 0, true, false, maintenance; ASCII case ignored)
 * or a JSON object, with white space around it.  now is in unix seconds.
 * GATE_SWITCH_OK, or GATE_SWITCH_BAD for anything else: empty text, other
 * JSON, duplicate members, wrong types, values out of range, "ttl" together
 * with "until", an until that is not after from, depth over 4, a text over
 * 65536 bytes.
 */
int gate_switch_parse(const unsigned char *s, size_t len, int64_t now,
    gate_switch_value_t *v);

/*
 * Parses the text of a maintenance file that exists.  Blank text is on; a
 * word or an object as above; one of the words ok, up, live, active, online,
 * normal, open, enabled, production, none, no, alone, is off; any other text
 * is on.  GATE_SWITCH_BAD only for a text that begins with "{" and is no
 * valid object.
 */
int gate_switch_file(const unsigned char *s, size_t len, int64_t now,
    gate_switch_value_t *v);

/* 1 when v is on and now (unix seconds) is within [from, until), else 0. */
int gate_switch_active(const gate_switch_value_t *v, int64_t now);

/*
 * Seconds for Retry-After: what is left until the end if until is set (at
 * least 1), else retry_after if set, else dflt.
 */
uint32_t gate_switch_retry_after(const gate_switch_value_t *v, int64_t now,
    uint32_t dflt);

/*
 * v as an object: on and read_only always, the rest where set.  A new
 * reference, or NULL if memory is short or the message is not UTF-8.
 */
json_t *gate_switch_to_json(const gate_switch_value_t *v);

/*
 * The reverse: as gate_switch_parse() for an object that is parsed already.
 * root is borrowed.
 */
int gate_switch_from_json(const json_t *root, int64_t now,
    gate_switch_value_t *v);

/*
 * 1 when the brackets of the JSON text s nest at most max levels deep, else
 * 0.  Checked before parsing, because the parser recurses.
 */
int gate_switch_depth_ok(const unsigned char *s, size_t len, unsigned max);


#pragma GCC visibility pop


#endif /* _GATE_SWITCH_H_INCLUDED_ */


/*
 * What the state file holds: rollouts and switches, as JSON.
 *
 * Purpose: a node that restarts without Redis goes on where it was: a rolled
 * back canary stays rolled back, a maintenance stays on.
 *
 * Form: {"format": "nginx-gate-state", "version": 1, "secret": [hex, hex],
 * "rollouts": [...], "switches": [...]}, indented for people.  Numbers of 64
 * unsigned bits are strings of 16 lower-case hexadecimal digits, because JSON
 * readers round.  The record of a rollout is a JSON object kept as a string,
 * byte for byte.
 *
 * Invariants: what encode writes, decode reads back equal; encode refuses
 * what decode would refuse, so no unreadable file is ever written.  Names are
 * unique per kind.  Members that version 1 does not know are ignored; those
 * that it knows are required, except "record" and what is there only because
 * of Redis or a mode: "inc", "modes", "rev", "there", "dirty", "provisional",
 * "opening", "flip_epoch".
 *
 * Ownership: decode allocates with malloc() what gate_state_free() frees;
 * encode returns text for gate_state_free_text().  Reading, fsync and rename
 * are src/node's.
 *
 * Failure policy: all or nothing.  A torn, foreign, newer, oversized or
 * contradictory text gives an error and an empty state, never half a state.
 */


#ifndef _GATE_STATE_H_INCLUDED_
#define _GATE_STATE_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>

#include "gate_switch.h"


#define GATE_STATE_TEXT_MAX     (4 * 1024 * 1024)    /* bytes */
#define GATE_STATE_RECORD_MAX   65536                /* bytes */
#define GATE_STATE_ITEMS_MAX    4096                 /* of each kind */
#define GATE_STATE_STEP_MAX     65535
#define GATE_STATE_REV_MAX      9007199254740992LL   /* Redis counts so far */
#define GATE_STATE_OPENING_MAX  7


typedef enum {
    GATE_IDLE = 0,
    GATE_PROGRESSING,
    GATE_PAUSED,
    GATE_PROMOTED,
    GATE_ROLLED_BACK
} gate_rollout_state_e;


/*
 * What Redis knows of a value: the state is a cache that never overrides a
 * living Redis, and this is what tells which of the two is newer.
 */

typedef struct {
    uint64_t    rev;                   /* 0 .. GATE_STATE_REV_MAX */
    unsigned    there;                 /* 0 or 1 */
    unsigned    dirty;                 /* 0 or 1: waits to be pushed */
} gate_state_known_t;


typedef struct {
    char        name[65];              /* gate_name_valid() */
    char        stable[65];
    char        canary[65];
    char        id[129];
    uint32_t    epoch;
    unsigned    state;                 /* gate_rollout_state_e */
    unsigned    step;                  /* 0 .. GATE_STATE_STEP_MAX */
    unsigned    weight;                /* basis points */
    unsigned    conf_weight;           /* basis points */
    uint64_t    seed[2];
    int64_t     since;                 /* unix s, >= 0 */
    char        reason[128];
    char        source[16];
    char        actor[64];
    char       *record;                /* JSON object, or NULL */

    gate_state_known_t  known;
    unsigned    provisional;           /* 0 or 1: no epoch of Redis's */
    unsigned    opening;               /* 0 .. GATE_STATE_OPENING_MAX */
    uint32_t    flip_epoch;            /* whose flip Redis knows of */
} gate_state_rollout_t;


typedef struct {
    char                 name[65];     /* gate_name_valid(), or empty */
    gate_switch_value_t  value;
    int64_t              since;        /* unix s, >= 0 */
    char                 source[16];
    char                 actor[64];
    gate_state_known_t   known;
} gate_state_switch_t;


typedef struct {
    char                 gate[16];     /* gate_name_valid() */
    char                 mode[16];     /* the same */
    int64_t              since;        /* unix s, >= 0 */
    char                 source[16];
    char                 actor[64];
    gate_state_known_t   known;
} gate_state_mode_t;


typedef struct {
    uint64_t               secret[2];
    gate_state_rollout_t  *rollouts;
    size_t                 nrollouts;
    gate_state_switch_t   *switches;
    size_t                 nswitches;
    gate_state_mode_t     *modes;
    size_t                 nmodes;
    char                   inc[41];    /* of Redis's memory, or empty */
} gate_state_t;


#pragma GCC visibility push(hidden)


/*
 * The name of a state: "idle", "progressing", "paused", "promoted",
 * "rolled_back"; "unknown" for any other number.  Static.
 */
const char *gate_rollout_state_name(unsigned s);

/* The state that is called s (exact case), or -1. */
int gate_rollout_state_parse(const unsigned char *s, size_t len);

/*
 * The text of s: NUL-terminated, its length in *len if len is not NULL.
 * Texts in s must be UTF-8 without control characters.  NULL if memory is
 * short or s breaks a rule that decode enforces.  A record that is too long
 * or no JSON object is left out instead: the state matters more than its
 * explanation.  Free with gate_state_free_text().
 */
char *gate_state_encode(const gate_state_t *s, size_t *len);

/* Frees what gate_state_encode() returned; NULL is allowed. */
void gate_state_free_text(char *text);

/*
 * Reads len bytes of text into s, which is overwritten without being freed.
 * 0, or -1 with s empty and *err, if err is not NULL, a static reason.
 * Release with gate_state_free().
 */
int gate_state_decode(const char *text, size_t len, gate_state_t *s,
    const char **err);

/* Frees what decode allocated and empties s; harmless on an empty s. */
void gate_state_free(gate_state_t *s);


#pragma GCC visibility pop


#endif /* _GATE_STATE_H_INCLUDED_ */

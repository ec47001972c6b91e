
/*
 * The reading half of gate_state.c; see gate_state.h.
 *
 * Purpose: from a JSON document to a gate_state_t.
 *
 * Invariants: every member is looked at; nothing is taken over that breaks a
 * rule.
 *
 * Ownership: what it allocates is the state's, also after an error.
 *
 * Failure policy: the first thing that is wrong is named, the caller frees.
 */


#ifndef _GATE_STATE_READ_H_INCLUDED_
#define _GATE_STATE_READ_H_INCLUDED_


#include "gate_state.h"


#define GATE_STATE_FORMAT   "nginx-gate-state"
#define GATE_STATE_VERSION  1
#define GATE_STATE_HEX_LEN  16


#pragma GCC visibility push(hidden)


/* Fills s, which is empty; NULL, or a static reason. */
const char *gate_state_read(const json_t *root, gate_state_t *s);

/* Whether a record is a JSON object that is not too long or too deep. */
int gate_state_record_ok(const char *s, size_t len);


#pragma GCC visibility pop


#endif /* _GATE_STATE_READ_H_INCLUDED_ */

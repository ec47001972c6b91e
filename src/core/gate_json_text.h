
/*
 * What reading and printing of JSON share: the characters that a string
 * means, and the order of an object's names.
 *
 * Invariants: both work on text that gate_json_parse() has found good, and
 * on a container only once it has been read to its end.
 *
 * Failure policy: cannot fail.
 */


#ifndef _GATE_JSON_TEXT_H_INCLUDED_
#define _GATE_JSON_TEXT_H_INCLUDED_


#include "gate_json.h"


#pragma GCC visibility push(hidden)


/*
 * The character at *s, which is moved past it: an escape is what it stands
 * for, two for the surrogates of one character are that character, one alone
 * is itself.
 */
uint32_t gate_json_char(const unsigned char **s);

/*
 * The names of an object in the order of their code points, each once: of
 * equals the last one.  Returns how many there are.
 */
unsigned gate_json_order(const gate_json_t *j, uint32_t object,
    uint16_t order[GATE_JSON_MEMBERS]);


#pragma GCC visibility pop


#endif /* _GATE_JSON_TEXT_H_INCLUDED_ */

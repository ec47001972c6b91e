
/*
 * Does this client want a page or JSON, and which JSON?
 *
 * Purpose: the gate's own answers (503, 429, 400) come as JSON, unless the
 * client clearly prefers HTML.
 *
 * Invariants: proactive negotiation by RFC 9110, section 12.5.1, between
 * exactly text/html and application/json; the most specific range that
 * matches a type decides its quality, and HTML must win strictly.
 *
 * Ownership: nothing is allocated or kept; one pass over the value.
 *
 * Failure policy: what is malformed counts as no preference, that is JSON.
 */


#ifndef _GATE_ACCEPT_H_INCLUDED_
#define _GATE_ACCEPT_H_INCLUDED_


#include <stddef.h>


#pragma GCC visibility push(hidden)


/*
 * v is the value of the Accept field (several fields joined by commas).
 * Returns 1 when text/html has a strictly higher quality than
 * application/json; 0 for a tie, an empty or absent value, or one that does
 * not match the grammar.  A range with a parameter other than charset before
 * its weight asks for a variant that the gate does not have and matches
 * neither type.
 */
int gate_accept_html(const unsigned char *v, size_t len);

/*
 * Returns 1 when application/problem+json (RFC 9457) is named, not only
 * matched by a wildcard, and wanted no less than application/json.
 */
int gate_accept_problem(const unsigned char *v, size_t len);


#pragma GCC visibility pop


#endif /* _GATE_ACCEPT_H_INCLUDED_ */

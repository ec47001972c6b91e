
/*
 * Arguments of a query, as services read them.
 *
 * Purpose: what is checked here must be what the service behind will read:
 * application/x-www-form-urlencoded by the WHATWG URL standard, section 5.1,
 * as CPython's parse_qsl(keep_blank_values=True) does it.  nginx's $arg_x
 * takes the first match, ignores case and decodes nothing.
 *
 * Rules: split at "&"; empty pieces do not count; a name ends at the first
 * "="; without one the value is empty; in names and values "+" is a space and
 * %XX a byte, "%" without two hexadecimal digits is itself.  Names differ by
 * case.
 *
 * Ownership: nothing is allocated or kept; results point into the query.
 *
 * Failure policy: cannot fail.
 */


#ifndef _GATE_ARGS_H_INCLUDED_
#define _GATE_ARGS_H_INCLUDED_


#include <stddef.h>


typedef struct {
    size_t                n;           /* arguments of that name */
    const unsigned char  *first;       /* values, not decoded */
    size_t                first_len;
    const unsigned char  *last;
    size_t                last_len;
} gate_args_t;


#pragma GCC visibility push(hidden)


/* Finds all arguments of that (decoded) name.  n is 0 where there is none. */
void gate_args_find(gate_args_t *a, const unsigned char *query, size_t len,
    const unsigned char *name, size_t name_len);

/*
 * Decodes a value; dst has room for len bytes.  Returns the number of bytes.
 */
size_t gate_args_decode(unsigned char *dst, const unsigned char *s,
    size_t len);


#pragma GCC visibility pop


#endif /* _GATE_ARGS_H_INCLUDED_ */

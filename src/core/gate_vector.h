
/*
 * An array of counters as text, the way nodes exchange their totals:
 *
 *     "0:1027 11:53 16:2 140:31"
 *
 * Purpose: cumulative totals of a few hundred counters, of which most are 0,
 * in a field of a Redis hash; scripts merge such texts index by index.
 *
 * Form: "index:value", decimal, without leading zeros, separated by exactly
 * one space; no index twice, in any order; what is missing is 0.  The empty
 * text is an array of zeros.
 *
 * Versions: the meaning of an index never changes, and newer nodes know more
 * of them.  So an index past the end of the reader's array is checked like
 * any other and left out.
 *
 * Ownership: text and array belong to the caller.
 *
 * Failure policy: text comes from the network.  Anything that gate_vector_
 * encode() could not have written, apart from an explicit 0 and the order, is
 * refused as a whole.
 */


#ifndef _GATE_VECTOR_H_INCLUDED_
#define _GATE_VECTOR_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>


/* an index is less than this */
#define GATE_VECTOR_INDEX_MAX  10000

/* a value is at most this: what a script can count to in a double */
#define GATE_VECTOR_VALUE_MAX  (UINT64_C(1) << 53)

/* the longest text of an array of n */
#define GATE_VECTOR_TEXT(n)                                                   \
    ((n) * (sizeof("9999:9007199254740992 ") - 1))


#pragma GCC visibility push(hidden)


/*
 * Writes the n counters at v, n <= GATE_VECTOR_INDEX_MAX, to text, which has
 * room for GATE_VECTOR_TEXT(n) bytes; no NUL is added.  A value that is too
 * large is written as GATE_VECTOR_VALUE_MAX.  Returns the length.
 */
size_t gate_vector_encode(const uint64_t *v, size_t n, char *text);

/*
 * Reads len bytes of text into the n counters at v.  Returns 0, or -1 with v
 * all zeros when the text is none of ours.
 */
int gate_vector_decode(const char *text, size_t len, uint64_t *v, size_t n);


#pragma GCC visibility pop


#endif /* _GATE_VECTOR_H_INCLUDED_ */

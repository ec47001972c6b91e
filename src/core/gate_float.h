
/*
 * Floating-point numbers as text, in the form of CPython's repr().
 *
 * Purpose: what a service signs is its own rendering of a number, the
 * shortest decimal that reads back as the same double, and of those the one
 * nearest to it.  Another rendering is another signature.
 *
 * Invariants: IEEE 754 binary64, round half to even.  Printing is exact for
 * every finite double (Schubfach: R. Giulietti, "The Schubfach way to render
 * doubles", 2020); reading is correctly rounded.  No locale is looked at.
 *
 * Ownership: no allocation; the constants are read-only.
 *
 * Failure policy: cannot fail for valid input.
 */


#ifndef _GATE_FLOAT_H_INCLUDED_
#define _GATE_FLOAT_H_INCLUDED_


#include <stddef.h>


#define GATE_FLOAT_MAX  24             /* "-2.2250738585072014e-308" */


#pragma GCC visibility push(hidden)


/*
 * Prints v as json.dumps() does: "1.0", "1760493069.75", "1e-07", "1e+16",
 * "-0.0", "NaN", "Infinity", "-Infinity".  An exponent is used where the
 * first digit stands for less than 1e-4 or for 1e16 and more.  Returns the
 * length, 3 .. GATE_FLOAT_MAX; no NUL.
 */
size_t gate_float_print(unsigned char dst[GATE_FLOAT_MAX], double v);

/*
 * Reads a number of JSON's grammar (RFC 8259, section 6), an integer or not,
 * of any length.  The nearest double; infinite where it is too large.
 */
double gate_float_read(const unsigned char *s, size_t len);


#pragma GCC visibility pop


#endif /* _GATE_FLOAT_H_INCLUDED_ */


/*
 * JSON of foreign origin: read in bounded space, and printed anew in the one
 * form that is signed.
 *
 * Purpose: a service signs json.dumps(payload, sort_keys=True, separators=
 * (",", ":")), not the bytes that came.  Whoever verifies must read what
 * CPython's json.loads() reads and print what json.dumps() prints.
 *
 * Reading: as json.loads() of a str.  RFC 8259, and "NaN", "Infinity" and
 * "-Infinity" as numbers; of equal names the last one counts; "\ud800" alone
 * is a character.  The text must be UTF-8 (RFC 3629).  An integer is unbounded
 * and keeps its digits; a number with a fraction or an exponent is a double,
 * also where that is infinite.
 *
 * Printing: names in the order of their code points, everything outside
 * printable ASCII as \uXXXX in lower-case (as surrogates above U+FFFF), \"
 * \\ \n \r \t \f \b; doubles by gate_float.h; "-0" is "0".
 *
 * Invariants: one pass, no recursion, no allocation; the caller's memory
 * bounds everything.  print(parse(print(x))) = print(x).
 *
 * Ownership: nodes and text are the caller's; nodes refer to the text.
 *
 * Failure policy: -1 with a reason in plain words, without a byte of the text.
 */


#ifndef _GATE_JSON_H_INCLUDED_
#define _GATE_JSON_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>


#define GATE_JSON_DEPTH    32          /* containers within each other */
#define GATE_JSON_MEMBERS  64          /* of one object */
#define GATE_JSON_DIGITS   4300        /* of one integer */

/* Nodes that a text of len bytes can have; at most 65535 of them are read. */
#define gate_json_nodes(len)  ((len) / 2 + 2)

/* Bytes that printing a text of len bytes takes at most. */
#define gate_json_printed(len)  (6 * (len) + 24)

#define GATE_JSON_NONE     UINT32_MAX


typedef enum {
    GATE_JSON_NULL = 0,
    GATE_JSON_FALSE,
    GATE_JSON_TRUE,
    GATE_JSON_INT,
    GATE_JSON_FLOAT,                   /* NaN and the infinite ones, too */
    GATE_JSON_STRING,
    GATE_JSON_ARRAY,
    GATE_JSON_OBJECT
} gate_json_type_e;


/*
 * In the order of the text.  The children of an object are name, value,
 * name, value, ..; a child is followed by its own children.
 */

typedef struct {
    uint32_t      start;               /* in the text; of a string, after its */
    uint32_t      end;                 /* quote; up to here, exclusive */
    uint32_t      next;                /* the node after this one's children */
    uint16_t      size;                /* members or elements */
    uint8_t       type;                /* gate_json_type_e */
    uint8_t       plain;               /* text[start .. end) is what is
                                          printed, and of a string also what
                                          it means: no escapes in it */
} gate_json_node_t;


typedef struct {
    unsigned      depth;               /* 1 .. GATE_JSON_DEPTH */
    unsigned      members;             /* 1 .. GATE_JSON_MEMBERS */
    unsigned      digits;              /* 1 .. GATE_JSON_DIGITS */
} gate_json_limits_t;


typedef struct {
    const unsigned char  *text;
    size_t                len;
    gate_json_node_t     *node;        /* node[0] is the document */
    uint32_t              n;
    int                   exact;       /* json.dumps() with separators and
                                          without sort_keys prints just this
                                          text: no white space, no other way
                                          to write a token, no equal names */
    const char           *why;         /* of -1 */
} gate_json_t;


#pragma GCC visibility push(hidden)


/*
 * Reads text into node[], which has gate_json_nodes(len) elements.  0, or -1
 * with j->why set.
 */
int gate_json_parse(gate_json_t *j, const unsigned char *text, size_t len,
    gate_json_node_t *node, const gate_json_limits_t *limits);

/*
 * The value of that name in the object, the last one of equals: its index, or
 * GATE_JSON_NONE, also where "object" is none.  The name is compared with
 * what the member's name means, as UTF-8.
 */
uint32_t gate_json_member(const gate_json_t *j, uint32_t object,
    const char *name, size_t len);

/*
 * Prints the node in signed form into dst, of gate_json_printed(bytes of the
 * node) bytes.  Returns the length; no NUL.
 */
size_t gate_json_print(const gate_json_t *j, uint32_t node,
    unsigned char *dst);

/*
 * What a string means, as UTF-8 with lone surrogates as three bytes each
 * (WTF-8); dst has room for the bytes of the node.  Returns the length.
 */
size_t gate_json_string(const gate_json_t *j, uint32_t node,
    unsigned char *dst);

/* The number as a double, of INT and FLOAT. */
double gate_json_number(const gate_json_t *j, uint32_t node);


#pragma GCC visibility pop


#endif /* _GATE_JSON_H_INCLUDED_ */

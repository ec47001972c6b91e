
/*
 * Escaping of text for the four places where the gate prints foreign bytes,
 * and the check for text that is safe to keep.
 *
 * Purpose: an operator's message in HTML and JSON, names in Prometheus
 * labels, client bytes in the log; nothing gets out of its quotes.
 *
 * Invariants: with dst NULL the functions count exactly the bytes that they
 * would write; with dst they write that many and no NUL.  JSON and label
 * output is always valid UTF-8, because one bad byte there makes a whole
 * document or scrape unreadable: every maximal invalid subpart becomes one
 * U+FFFD (Unicode 15, section 3.9, table 3-8).
 *
 * Ownership: dst belongs to the caller and must not overlap s.
 *
 * Failure policy: cannot fail; every input has an output.
 */


#ifndef _GATE_TEXT_H_INCLUDED_
#define _GATE_TEXT_H_INCLUDED_


#include <stddef.h>


/* No function here writes more than this many bytes per byte of input. */
#define GATE_ESCAPE_MAX  6


#pragma GCC visibility push(hidden)


/*
 * 1 when s is UTF-8 (RFC 3629) without control characters: neither C0, DEL
 * nor C1 (U+0080 .. U+009F, which terminals obey); else 0.
 */
int gate_text_clean(const unsigned char *s, size_t len);

/*
 * Text or a quoted attribute value of HTML: & < > " ' become character
 * references, all else is copied.  Returns the number of bytes.
 */
size_t gate_escape_html(unsigned char *dst, const unsigned char *s,
    size_t len);

/*
 * The contents of a JSON string (RFC 8259, section 7), without the quotes.
 * Returns the number of bytes.
 */
size_t gate_escape_json(unsigned char *dst, const unsigned char *s,
    size_t len);

/*
 * A Prometheus label value (text exposition format 0.0.4), without the
 * quotes: backslash, quote and line feed are escaped.  Returns the number of
 * bytes.
 */
size_t gate_escape_label(unsigned char *dst, const unsigned char *s,
    size_t len);

/*
 * For a log line: everything outside printable ASCII, and quote and
 * backslash, becomes \xHH.  Returns the number of bytes.
 */
size_t gate_escape_log(unsigned char *dst, const unsigned char *s,
    size_t len);


#pragma GCC visibility pop


#endif /* _GATE_TEXT_H_INCLUDED_ */

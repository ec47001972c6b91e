
/*
 * The input is a name and, behind its first line feed, a query.  Properties:
 * a slow reading that decodes all of the query first, character by character,
 * finds the same arguments with the same values; results point into the query;
 * nothing gets longer by decoding, and what is encoded in full is decoded as
 * it was.
 */

#include "../../src/core/gate_args.c"

#include <stdio.h>
#include <stdlib.h>


#define fuzz_check(expr)  do { if (!(expr)) { __builtin_trap(); } } while (0)


int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);


typedef struct {
    size_t          n;
    size_t          len;
    unsigned char  *s;
} fuzz_text_t;


static void
fuzz_add(fuzz_text_t *t, unsigned c)
{
    fuzz_check(t->len < t->n);
    t->s[t->len++] = (unsigned char) c;
}


static void
fuzz_new(fuzz_text_t *t, size_t n)
{
    t->n = n;
    t->len = 0;
    t->s = malloc(n ? n : 1);
    fuzz_check(t->s != NULL);
}


/* a value as it stands against what its plain reading gave */

static void
fuzz_value(const unsigned char *s, size_t len, const unsigned char *query,
    size_t size, const fuzz_text_t *want)
{
    size_t          n;
    unsigned char  *out;

    fuzz_check(s >= query && s + len <= query + size);

    out = malloc(len ? len : 1);
    fuzz_check(out != NULL);

    n = gate_args_decode(out, s, len);
    fuzz_check(n <= len);
    fuzz_check(n == want->len && memcmp(out, want->s, n) == 0);

    free(out);
}


/* One character of a query: a byte, or 256 for "&", 257 for "=". */

static unsigned
fuzz_next(const unsigned char *query, size_t size, size_t *i)
{
    int          c;
    unsigned     byte;
    static char  text[3];

    c = query[(*i)++];

    if (c == '&') {
        return 256;
    }

    if (c == '=') {
        return 257;
    }

    if (c == '+') {
        return ' ';
    }

    if (c == '%' && size - *i >= 2) {
        memcpy(text, query + *i, 2);

        if (strspn(text, "0123456789abcdefABCDEF") == 2
            && sscanf(text, "%2x", &byte) == 1)
        {
            *i += 2;
            return byte;
        }
    }

    return (unsigned) c;
}


static void
fuzz_find(const unsigned char *query, size_t size, const unsigned char *name,
    size_t name_len)
{
    int          empty, in_value;
    size_t       i, n;
    unsigned     c;
    gate_args_t  a;
    fuzz_text_t  key, value, first, last, swap;

    gate_args_find(&a, query, size, name, name_len);

    fuzz_new(&key, size);
    fuzz_new(&value, size);
    fuzz_new(&first, size);
    fuzz_new(&last, size);

    n = 0;
    i = 0;
    empty = 1;
    in_value = 0;

    for ( ;; ) {
        c = i < size ? fuzz_next(query, size, &i) : 258;

        if (c == 257 && !in_value) {
            in_value = 1;
            empty = 0;

        } else if (c < 256 || c == 257) {
            fuzz_add(in_value ? &value : &key, c == 257 ? '=' : c);
            empty = 0;

        } else {

            if (!empty && key.len == name_len
                && memcmp(key.s, name, name_len) == 0)
            {
                swap = last;
                last = value;
                value = swap;

                if (n++ == 0) {
                    memcpy(first.s, last.s, last.len);
                    first.len = last.len;
                }
            }

            key.len = 0;
            value.len = 0;
            empty = 1;
            in_value = 0;

            if (c == 258) {
                break;
            }
        }
    }

    fuzz_check(a.n == n);

    if (n != 0) {
        fuzz_value(a.first, a.first_len, query, size, &first);
        fuzz_value(a.last, a.last_len, query, size, &last);
        fuzz_check(n > 1 || a.first == a.last);
    }

    free(key.s);
    free(value.s);
    free(first.s);
    free(last.s);
}


/* the name in full as an argument, and what it is found as */

static void
fuzz_encoded(const unsigned char *name, size_t len)
{
    size_t       i;
    gate_args_t  a;
    fuzz_text_t  text;

    static const char  hex[] = "0123456789aBcDEf";

    fuzz_new(&text, 3 * len + 2);
    fuzz_add(&text, '&');

    for (i = 0; i < len; i++) {
        fuzz_add(&text, '%');
        fuzz_add(&text, (unsigned char) hex[name[i] >> 4]);
        fuzz_add(&text, (unsigned char) hex[name[i] & 15]);
    }

    fuzz_add(&text, '=');

    gate_args_find(&a, text.s, text.len, name, len);
    fuzz_check(a.n == 1 && a.first_len == 0 && a.last == text.s + text.len);

    i = gate_args_decode(text.s, text.s + 1, text.len - 2);
    fuzz_check(i == len && memcmp(text.s, name, len) == 0);

    free(text.s);
}


int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    size_t                n;
    unsigned char        *name, *query;
    const unsigned char  *end;

    end = size ? memchr(data, '\n', size) : NULL;
    n = end ? (size_t) (end - data) : 0;

    name = malloc(n + 1);
    query = malloc(size + 1);
    fuzz_check(name != NULL && query != NULL);

    if (n != 0) {
        memcpy(name, data, n);
    }

    size -= end ? n + 1 : 0;

    if (size != 0) {
        memcpy(query, end ? end + 1 : data, size);
    }

    fuzz_find(query, size, name, n);
    fuzz_encoded(name, n);

    free(name);
    free(query);

    return 0;
}

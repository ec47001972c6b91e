
#include "gate_accept.h"

#include <string.h>


#define GATE_ACCEPT_EXACT  2           /* rank of a type that is named */


typedef struct {
    const unsigned char  *p;
    const unsigned char  *end;
} gate_accept_input_t;


/* what the ranges seen so far say about one type */

typedef struct {
    int  rank;                         /* specificity, -1 = no match */
    int  q;                            /* permille */
} gate_accept_best_t;


typedef struct {
    const unsigned char  *type;
    size_t                type_len;
    const unsigned char  *sub;
    size_t                sub_len;
    int                   variant;     /* has a parameter that we do not */
    int                   q;
} gate_accept_range_t;


static int gate_accept_pair(const unsigned char *v, size_t len,
    const char *type, const char *sub, gate_accept_best_t *best,
    gate_accept_best_t *json);
static void gate_accept_ows(gate_accept_input_t *in);
static size_t gate_accept_token(gate_accept_input_t *in);
static int gate_accept_value(gate_accept_input_t *in,
    const unsigned char **v, size_t *len);
static int gate_accept_weight(const unsigned char *s, size_t len);
static int gate_accept_params(gate_accept_input_t *in,
    gate_accept_range_t *r);
static int gate_accept_range(gate_accept_input_t *in,
    gate_accept_range_t *r);
static int gate_accept_is(const unsigned char *s, size_t len,
    const char *word);
static void gate_accept_match(const gate_accept_range_t *r, const char *type,
    const char *sub, gate_accept_best_t *best);


int
gate_accept_html(const unsigned char *v, size_t len)
{
    gate_accept_best_t  html, json;

    if (gate_accept_pair(v, len, "text", "html", &html, &json) != 0) {
        return 0;
    }

    return html.q > json.q;
}


int
gate_accept_problem(const unsigned char *v, size_t len)
{
    gate_accept_best_t  problem, json;

    if (gate_accept_pair(v, len, "application", "problem+json", &problem,
                         &json)
        != 0)
    {
        return 0;
    }

    return problem.rank == GATE_ACCEPT_EXACT && problem.q != 0
           && problem.q >= json.q;
}


/* What the value says of that type, and of application/json.  0 or -1. */

static int
gate_accept_pair(const unsigned char *v, size_t len, const char *type,
    const char *sub, gate_accept_best_t *best, gate_accept_best_t *json)
{
    gate_accept_input_t  in;
    gate_accept_range_t  r;

    best->rank = -1;
    best->q = 0;
    *json = *best;

    if (len == 0) {
        return 0;
    }

    in.p = v;
    in.end = v + len;

    for ( ;; ) {
        gate_accept_ows(&in);

        if (in.p == in.end) {
            return 0;
        }

        /* RFC 9110, 5.6.1.2: a recipient ignores empty list elements */

        if (*in.p == ',') {
            in.p++;
            continue;
        }

        if (gate_accept_range(&in, &r) != 0) {
            return -1;
        }

        if (in.p != in.end && *in.p != ',') {
            return -1;
        }

        gate_accept_match(&r, type, sub, best);
        gate_accept_match(&r, "application", "json", json);
    }
}


static void
gate_accept_ows(gate_accept_input_t *in)
{
    while (in->p < in->end && (*in->p == ' ' || *in->p == '\t')) {
        in->p++;
    }
}


static size_t
gate_accept_token(gate_accept_input_t *in)
{
    unsigned char         c;
    const unsigned char  *start;

    for (start = in->p; in->p < in->end; in->p++) {
        c = *in->p;

        if ((c >= '0' && c <= '9')
            || (c >= 'A' && c <= 'Z')
            || (c >= 'a' && c <= 'z')
            || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL))
        {
            continue;
        }

        break;
    }

    return (size_t) (in->p - start);
}


/* token / quoted-string; v is the text as written */

static int
gate_accept_value(gate_accept_input_t *in, const unsigned char **v,
    size_t *len)
{
    unsigned char  c;

    *v = in->p;

    if (in->p == in->end || *in->p != '"') {
        *len = gate_accept_token(in);
        return (*len == 0) ? -1 : 0;
    }

    for (in->p++; in->p < in->end; in->p++) {
        c = *in->p;

        if (c == '"') {
            in->p++;
            *len = (size_t) (in->p - *v);
            return 0;
        }

        if (c == '\\' && ++in->p == in->end) {
            return -1;
        }

        c = *in->p;

        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return -1;
        }
    }

    return -1;
}


/* qvalue of RFC 9110, 12.4.2, in permille, or -1 */

static int
gate_accept_weight(const unsigned char *s, size_t len)
{
    int     q, unit;
    size_t  i;

    if (len == 0 || len > 5 || (s[0] != '0' && s[0] != '1')
        || (len > 1 && s[1] != '.'))
    {
        return -1;
    }

    q = (s[0] - '0') * 1000;
    unit = 100;

    for (i = 2; i < len; i++) {
        if (s[i] < '0' || s[i] > '9') {
            return -1;
        }

        q += (s[i] - '0') * unit;
        unit /= 10;
    }

    return (q > 1000) ? -1 : q;
}


static int
gate_accept_params(gate_accept_input_t *in, gate_accept_range_t *r)
{
    int                   weighed;
    size_t                name_len, len;
    const unsigned char  *name, *v;

    weighed = 0;

    for ( ;; ) {
        gate_accept_ows(in);

        if (in->p == in->end || *in->p != ';') {
            return 0;
        }

        in->p++;
        gate_accept_ows(in);

        name = in->p;
        name_len = gate_accept_token(in);

        if (name_len == 0) {
            continue;
        }

        if (in->p == in->end || *in->p != '=') {

            /* RFC 7231 let extensions without a value follow the weight */

            if (!weighed) {
                return -1;
            }

            continue;
        }

        in->p++;

        if (gate_accept_value(in, &v, &len) != 0) {
            return -1;
        }

        if (weighed) {
            continue;
        }

        if (gate_accept_is(name, name_len, "q")) {
            weighed = 1;
            r->q = gate_accept_weight(v, len);

            if (r->q == -1) {
                return -1;
            }

        } else if (!gate_accept_is(name, name_len, "charset")) {
            r->variant = 1;
        }
    }
}


static int
gate_accept_range(gate_accept_input_t *in, gate_accept_range_t *r)
{
    r->q = 1000;
    r->variant = 0;

    r->type = in->p;
    r->type_len = gate_accept_token(in);

    if (r->type_len == 0 || in->p == in->end || *in->p != '/') {
        return -1;
    }

    in->p++;

    r->sub = in->p;
    r->sub_len = gate_accept_token(in);

    if (r->sub_len == 0) {
        return -1;
    }

    if (gate_accept_is(r->type, r->type_len, "*")
        && !gate_accept_is(r->sub, r->sub_len, "*"))
    {
        return -1;
    }

    return gate_accept_params(in, r);
}


/* word is in lower case */

static int
gate_accept_is(const unsigned char *s, size_t len, const char *word)
{
    size_t         i;
    unsigned char  c;

    if (len != strlen(word)) {
        return 0;
    }

    for (i = 0; i < len; i++) {
        c = s[i];

        if (c >= 'A' && c <= 'Z') {
            c |= 0x20;
        }

        if (c != (unsigned char) word[i]) {
            return 0;
        }
    }

    return 1;
}


static void
gate_accept_match(const gate_accept_range_t *r, const char *type,
    const char *sub, gate_accept_best_t *best)
{
    int  rank;

    if (r->variant) {
        return;
    }

    if (gate_accept_is(r->type, r->type_len, "*")) {
        rank = 0;

    } else if (!gate_accept_is(r->type, r->type_len, type)) {
        return;

    } else if (gate_accept_is(r->sub, r->sub_len, "*")) {
        rank = 1;

    } else if (gate_accept_is(r->sub, r->sub_len, sub)) {
        rank = GATE_ACCEPT_EXACT;

    } else {
        return;
    }

    if (rank > best->rank || (rank == best->rank && r->q > best->q)) {
        best->rank = rank;
        best->q = r->q;
    }
}


/*
 * The input is a text; its first byte says by which limits it is read.
 * Properties: reading stays within the text and the nodes, printing within
 * its bound; what follows the text in memory does not matter; what is taken
 * keeps the limits; nodes are in order; what is printed is printable ASCII,
 * prints as itself and has its names in order, each once; a text that is said
 * to be as json.dumps() has it, and whose names are in order, is what is
 * printed; names are found by what they mean; refusals say why.
 */

#include "../../src/core/gate_float.c"
#include "../../src/core/gate_json.c"
#include "../../src/core/gate_json_print.c"

#include <stdlib.h>


#define fuzz_check(expr)  do { if (!(expr)) { __builtin_trap(); } } while (0)


int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);


static const gate_json_limits_t  fuzz_limits[] = {
    { GATE_JSON_DEPTH, GATE_JSON_MEMBERS, GATE_JSON_DIGITS },
    { 1, 1, 1 },
    { 2, 3, 20 },
    { 1000, 1000, 10000 }
};


static void *
fuzz_alloc(size_t size)
{
    void  *p;

    p = malloc(size ? size : 1);
    fuzz_check(p != NULL);

    return p;
}


/* every buffer of just the size that the header asks for */

static int
fuzz_read(gate_json_t *j, const unsigned char *s, size_t len,
    const gate_json_limits_t *limits)
{
    int                rc;
    unsigned char     *text;
    gate_json_node_t  *node;

    text = fuzz_alloc(len);

    if (len) {
        memcpy(text, s, len);
    }

    node = fuzz_alloc(gate_json_nodes(len) * sizeof(gate_json_node_t));

    rc = gate_json_parse(j, text, len, node, limits);

    if (rc != 0) {
        fuzz_check(rc == -1 && j->why != NULL && j->why[0] != '\0');
    }

    return rc;
}


static void
fuzz_free(gate_json_t *j)
{
    free((void *) j->text);
    free(j->node);
}


static unsigned char *
fuzz_print(const gate_json_t *j, uint32_t node, size_t *n)
{
    size_t          size;
    unsigned char  *dst;

    size = gate_json_printed((size_t) (j->node[node].end
                                       - j->node[node].start));
    dst = fuzz_alloc(size);
    *n = gate_json_print(j, node, dst);

    fuzz_check(*n <= size);

    return dst;
}


/* -1, 0, 1 */

static int
fuzz_order(const unsigned char *a, size_t n, const unsigned char *b, size_t m)
{
    int  rc;

    rc = memcmp(a, b, n < m ? n : m);

    return rc ? (rc > 0) - (rc < 0) : (n > m) - (n < m);
}


static unsigned char *
fuzz_meaning(const gate_json_t *j, uint32_t node, size_t *n)
{
    size_t          size;
    unsigned char  *dst;

    fuzz_check(j->node[node].type == GATE_JSON_STRING);

    size = j->node[node].end - j->node[node].start;
    dst = fuzz_alloc(size);
    *n = gate_json_string(j, node, dst);

    fuzz_check(*n <= size);

    return dst;
}


/*
 * Each name is found, and what is found is the last of equal names.  sorted:
 * names must be in order; the return value is whether they are.
 */

static int
fuzz_object(const gate_json_t *j, uint32_t object, int sorted)
{
    int             in_order;
    size_t          n, m;
    unsigned        k;
    uint32_t        i, found;
    unsigned char  *name, *former;

    in_order = 1;
    former = NULL;
    m = 0;
    i = object + 1;

    for (k = 0; k < j->node[object].size; k++) {
        name = fuzz_meaning(j, i, &n);
        found = gate_json_member(j, object, (char *) name, n);

        fuzz_check(found != GATE_JSON_NONE && found >= i + 1
                   && found < j->node[object].next);

        if (found > i + 1) {
            fuzz_check(!sorted && !j->exact);
        }

        if (former != NULL && fuzz_order(former, m, name, n) >= 0) {
            in_order = 0;
        }

        free(former);
        former = name;
        m = n;
        i = j->node[i + 1].next;
    }

    fuzz_check(i == j->node[object].next);
    fuzz_check(in_order || !sorted);
    free(former);

    return in_order;
}


static int
fuzz_nodes(const gate_json_t *j, const gate_json_limits_t *limits, int sorted)
{
    int                in_order;
    double             v;
    unsigned           depth, k;
    uint32_t           i, c, end[GATE_JSON_DEPTH + 1];
    gate_json_node_t  *node;

    in_order = 1;
    depth = 0;

    for (i = 0; i < j->n; i++) {
        node = &j->node[i];

        while (depth && end[depth - 1] == i) {
            depth--;
        }

        fuzz_check(node->start <= node->end && node->end <= j->len);
        fuzz_check(node->next > i && node->next <= j->n);
        fuzz_check(i == 0 || depth > 0);
        fuzz_check(depth == 0 || node->next <= end[depth - 1]);

        switch (node->type) {

        case GATE_JSON_OBJECT:
        case GATE_JSON_ARRAY:
            fuzz_check(depth < GATE_JSON_DEPTH && depth < limits->depth);
            end[depth++] = node->next;

            if (node->type == GATE_JSON_OBJECT) {
                fuzz_check(node->size <= limits->members
                           && node->size <= GATE_JSON_MEMBERS);
                in_order &= fuzz_object(j, i, sorted);
                break;
            }

            for (k = 0, c = i + 1; k < node->size; k++) {
                c = j->node[c].next;
            }

            fuzz_check(c == node->next);
            break;

        case GATE_JSON_INT:
        case GATE_JSON_FLOAT:
            v = gate_json_number(j, i);
            fuzz_check(node->next == i + 1);
            fuzz_check(node->type == GATE_JSON_FLOAT || v == v);
            fuzz_check(node->type == GATE_JSON_FLOAT
                       || node->end - node->start <= limits->digits + 1);
            break;

        default:
            fuzz_check(node->next == i + 1);
        }
    }

    return in_order;
}


static void
fuzz_good(const gate_json_t *j, const gate_json_limits_t *limits)
{
    int             in_order;
    size_t          i, n, m;
    uint32_t        k;
    gate_json_t     again;
    unsigned char  *text, *same;

    in_order = fuzz_nodes(j, limits, 0);
    text = fuzz_print(j, 0, &n);

    for (i = 0; i < n; i++) {
        fuzz_check(text[i] >= 0x20 && text[i] < 0x7f);
    }

    fuzz_check((j->exact && in_order)
               == (n == j->len && memcmp(text, j->text, n) == 0));
    fuzz_check(j->node[0].plain || !j->exact || !in_order
               || j->node[0].type == GATE_JSON_STRING);

    fuzz_check(fuzz_read(&again, text, n, &fuzz_limits[3]) == 0);
    fuzz_check(again.exact && fuzz_nodes(&again, &fuzz_limits[3], 1));

    same = fuzz_print(&again, 0, &m);

    fuzz_check(n == m && memcmp(text, same, n) == 0);

    fuzz_free(&again);
    free(same);
    free(text);

    for (k = 1; k < j->n && k < 64; k++) {
        free(fuzz_print(j, k, &n));
    }
}


/* the text within a larger one: the same is read */

static void
fuzz_within(const gate_json_t *j, int rc, const gate_json_limits_t *limits)
{
    size_t             i;
    gate_json_t        other;
    unsigned char     *text;
    gate_json_node_t  *node;
    static const char  more[] = "\\u0030\"00.1e1]}},\xbf\xbf\xbf";

    text = fuzz_alloc(j->len + sizeof(more));
    node = fuzz_alloc(gate_json_nodes(j->len) * sizeof(gate_json_node_t));

    memcpy(text, j->text, j->len);

    for (i = 0; i + 1 < sizeof(more); i += 3) {
        memcpy(text + j->len, more + i, sizeof(more) - i);

        fuzz_check(gate_json_parse(&other, text, j->len, node, limits) == rc);

        if (rc != 0) {
            fuzz_check(other.why == j->why);
            continue;
        }

        fuzz_check(other.n == j->n && other.exact == j->exact
                   && memcmp(node, j->node, j->n * sizeof(node[0])) == 0);
    }

    free(node);
    free(text);
}


int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    int                        rc;
    gate_json_t                j;
    const gate_json_limits_t  *limits;

    if (size == 0) {
        return 0;
    }

    limits = &fuzz_limits[data[0] & 3];

    rc = fuzz_read(&j, data + 1, size - 1, limits);

    fuzz_within(&j, rc, limits);

    if (rc == 0) {
        fuzz_good(&j, limits);
    }

    fuzz_free(&j);

    return 0;
}

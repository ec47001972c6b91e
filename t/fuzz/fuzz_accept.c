
/*
 * The input is the value of Accept.  Properties: the answer is 0 or 1; a
 * value that yields HTML names text in some case or refuses JSON; adding a
 * range that prefers JSON as much as can be always turns it to JSON, and
 * empty list elements around it change nothing.  One that yields problem
 * details names a type with a plus.
 */

#include "../../src/core/gate_accept.c"

#include <stdlib.h>


#define fuzz_check(expr)  do { if (!(expr)) { __builtin_trap(); } } while (0)


int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);


int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    int             html, problem;
    unsigned char  *copy;

    static const char  json[] = ",application/json";

    html = gate_accept_html(data, size);
    fuzz_check(html == 0 || html == 1);
    fuzz_check(html == 0 || memchr(data, '/', size) != NULL);

    problem = gate_accept_problem(data, size);
    fuzz_check(problem == 0 || problem == 1);
    fuzz_check(problem == 0 || memchr(data, '+', size) != NULL);

    copy = malloc(size + sizeof(json));

    if (copy == NULL) {
        return 0;
    }

    if (size != 0) {
        memcpy(copy, data, size);
    }

    memcpy(copy + size, json, sizeof(json) - 1);
    fuzz_check(gate_accept_html(copy, size + sizeof(json) - 1) == 0);

    copy[0] = ',';
    copy[1] = ' ';

    if (size != 0) {
        memcpy(copy + 2, data, size);
    }

    copy[size + 2] = '\t';
    copy[size + 3] = ',';

    fuzz_check(gate_accept_html(copy, size + 4) == html);
    fuzz_check(gate_accept_problem(copy, size + 4) == problem);

    free(copy);

    return 0;
}

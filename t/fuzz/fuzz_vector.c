
/*
 * Properties: a refusal leaves zeros; what is accepted is in range, and
 * survives being written and read again; a longer array reads the same
 * values at the indices that both have.
 */

#include "../../src/core/gate_vector.c"


#define fuzz_check(expr)  do { if (!(expr)) { __builtin_trap(); } } while (0)

#define FUZZ_N  24
#define FUZZ_M  552


int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);


int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    int       rv;
    char      text[GATE_VECTOR_TEXT(FUZZ_M)];
    size_t    i, n;
    uint64_t  v[FUZZ_N], w[FUZZ_M], back[FUZZ_M];

    rv = gate_vector_decode((const char *) data, size, w, FUZZ_M);

    for (i = 0; i < FUZZ_M; i++) {
        fuzz_check(rv == 0 || w[i] == 0);
        fuzz_check(w[i] <= GATE_VECTOR_VALUE_MAX);
    }

    n = gate_vector_encode(w, FUZZ_M, text);

    fuzz_check(n <= sizeof(text));
    fuzz_check(gate_vector_decode(text, n, back, FUZZ_M) == 0);
    fuzz_check(memcmp(w, back, sizeof(w)) == 0);

    /* an index may stand twice where nobody looks */

    if (rv == 0) {
        fuzz_check(gate_vector_decode((const char *) data, size, v, FUZZ_N)
                   == 0);
        fuzz_check(memcmp(v, w, sizeof(v)) == 0);
    }

    return 0;
}

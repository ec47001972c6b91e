
#include "gate_siphash.h"


uint64_t
gate_siphash(const uint64_t key[2], const void *data, size_t len)
{
    return gate_siphash_any(key, data, len, 2, 4);
}

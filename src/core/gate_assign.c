
#include "gate_assign.h"
#include "gate_siphash.h"


static int gate_assign_word(const unsigned char *v, size_t len,
    const char *word, size_t word_len);
static void gate_assign_store(unsigned char *p, uint64_t v);


unsigned
gate_assign_bucket(const uint64_t seed[2], const void *key, size_t len)
{
    uint64_t  h, low;

    h = gate_siphash(seed, key, len);

    /* the high half of a 64 x 64 -> 128 product, in 64-bit arithmetic */

    low = ((h & 0xffffffff) * GATE_WEIGHT_MAX) >> 32;

    return (unsigned) (((h >> 32) * GATE_WEIGHT_MAX + low) >> 32);
}


void
gate_assign_epoch_seed(const uint64_t secret[2], const void *name,
    size_t len, uint64_t epoch, uint64_t seed[2])
{
    uint64_t       key[2];
    unsigned char  msg[25];

    /*
     * The same secret also names rate limit keys; a key of its own keeps a
     * caller's key, which is hashed there as it is, from meaning a seed here.
     */

    key[0] = secret[0] ^ UINT64_C(0x676174652d736565);
    key[1] = secret[1] ^ UINT64_C(0x642d65706f636831);

    msg[0] = 0;
    gate_assign_store(msg + 1, gate_siphash(key, name, len));
    gate_assign_store(msg + 9, (uint64_t) len);
    gate_assign_store(msg + 17, epoch);

    msg[0] = 1;
    seed[0] = gate_siphash(key, msg, sizeof(msg));

    msg[0] = 2;
    seed[1] = gate_siphash(key, msg, sizeof(msg));
}


int
gate_assign_force(const unsigned char *v, size_t len)
{
    if (gate_assign_word(v, len, "always", 6)) {
        return GATE_FORCE_ALWAYS;
    }

    if (gate_assign_word(v, len, "never", 5)) {
        return GATE_FORCE_NEVER;
    }

    return GATE_FORCE_NONE;
}


static int
gate_assign_word(const unsigned char *v, size_t len, const char *word,
    size_t word_len)
{
    size_t         i;
    unsigned char  c;

    if (len != word_len) {
        return 0;
    }

    for (i = 0; i < len; i++) {
        c = v[i];

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
gate_assign_store(unsigned char *p, uint64_t v)
{
    unsigned  i;

    for (i = 0; i < 8; i++) {
        p[i] = (unsigned char) (v >> (8 * i));
    }
}

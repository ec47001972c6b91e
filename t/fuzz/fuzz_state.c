
/*
 * The input is the text of a state file.  Properties: what is decoded can be
 * encoded, decodes again, and encodes to the same text; a refusal gives a
 * reason and an empty state; nothing leaks (the leak check of libFuzzer).
 */

#include "../../src/core/gate_text.c"
#include "../../src/core/gate_parse.c"
#include "../../src/core/gate_switch.c"
#include "../../src/core/gate_state.c"
#include "../../src/core/gate_state_read.c"


#define fuzz_check(expr)  do { if (!(expr)) { __builtin_trap(); } } while (0)


int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);


static void
fuzz_valid(const gate_state_t *s)
{
    size_t                       i;
    const gate_state_rollout_t  *r;

    for (i = 0; i < s->nrollouts; i++) {
        r = &s->rollouts[i];

        fuzz_check(gate_name_valid((const unsigned char *) r->name,
                                   strlen(r->name)));
        fuzz_check(r->state <= GATE_ROLLED_BACK);
        fuzz_check(r->weight <= 10000 && r->conf_weight <= 10000);
        fuzz_check(r->step <= GATE_STATE_STEP_MAX && r->since >= 0);
        fuzz_check(r->known.rev <= GATE_STATE_REV_MAX);
        fuzz_check(r->known.there <= 1 && r->known.dirty <= 1);
        fuzz_check(r->opening <= GATE_STATE_OPENING_MAX);
        fuzz_check(i == 0 || strcmp(r->name, r[-1].name) != 0);
    }

    for (i = 0; i < s->nmodes; i++) {
        fuzz_check(gate_name_valid((const unsigned char *) s->modes[i].gate,
                                   strlen(s->modes[i].gate)));
        fuzz_check(s->modes[i].known.rev <= GATE_STATE_REV_MAX);
        fuzz_check(s->modes[i].since >= 0);
    }

    fuzz_check(memchr(s->inc, '\0', sizeof(s->inc)) != NULL);
}


int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    char          *text, *again;
    size_t         len, n;
    const char    *err;
    gate_state_t   s;

    err = NULL;

    if (gate_state_decode((const char *) data, size, &s, &err) != 0) {
        fuzz_check(err != NULL && s.rollouts == NULL && s.switches == NULL
                   && s.nrollouts == 0 && s.nswitches == 0
                   && s.modes == NULL && s.nmodes == 0);
        return 0;
    }

    fuzz_valid(&s);

    text = gate_state_encode(&s, &len);
    gate_state_free(&s);

    /* indenting may carry a text past the limit */

    if (text == NULL) {
        fuzz_check(size > GATE_STATE_TEXT_MAX / 64);
        return 0;
    }

    fuzz_check(gate_state_decode(text, len, &s, &err) == 0);

    again = gate_state_encode(&s, &n);
    fuzz_check(again != NULL && n == len && memcmp(text, again, n) == 0);

    gate_state_free(&s);
    gate_state_free_text(text);
    gate_state_free_text(again);

    return 0;
}


/*
 * The input is a switch value and a maintenance file.  Properties: a value
 * that is accepted is valid and survives the way to JSON and back; the file
 * reader accepts all that the value reader does, alike, and refuses only
 * what begins with a brace; refusals leave the value untouched.
 */

#include "../../src/core/gate_text.c"
#include "../../src/core/gate_parse.c"
#include "../../src/core/gate_switch.c"


#define fuzz_check(expr)  do { if (!(expr)) { __builtin_trap(); } } while (0)

#define FUZZ_NOW  INT64_C(1795255200)


int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);


static void
fuzz_valid(const gate_switch_value_t *v)
{
    json_t               *root;
    gate_switch_value_t   back;

    fuzz_check(v->message_len <= GATE_SWITCH_MESSAGE_MAX);
    fuzz_check(gate_text_clean(v->message, v->message_len));
    fuzz_check(v->from >= 0 && v->from <= GATE_PARSE_TIME_MAX);
    fuzz_check(v->until >= 0 && v->until <= GATE_PARSE_TIME_MAX);
    fuzz_check(v->from == 0 || v->until == 0 || v->from < v->until);
    fuzz_check(v->retry_after <= GATE_SWITCH_RETRY_MAX);
    fuzz_check(v->until == 0
               || gate_switch_retry_after(v, FUZZ_NOW, 60) >= 1);
    fuzz_check(v->on || !gate_switch_active(v, FUZZ_NOW));

    memset(&back, 0, sizeof(back));
    root = gate_switch_to_json(v);
    fuzz_check(root != NULL);
    fuzz_check(gate_switch_from_json(root, 0, &back) == GATE_SWITCH_OK);
    fuzz_check(memcmp(v, &back, sizeof(back)) == 0);
    json_decref(root);
}


int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    int                  rc, file;
    gate_switch_value_t  v, f, untouched;

    memset(&v, 0xa5, sizeof(v));
    memset(&f, 0xa5, sizeof(f));
    memset(&untouched, 0xa5, sizeof(untouched));

    rc = gate_switch_parse(data, size, FUZZ_NOW, &v);
    file = gate_switch_file(data, size, FUZZ_NOW, &f);

    if (rc == GATE_SWITCH_OK) {
        fuzz_valid(&v);
        fuzz_check(file == GATE_SWITCH_OK && memcmp(&v, &f, sizeof(v)) == 0);

    } else {
        fuzz_check(rc == GATE_SWITCH_BAD);
        fuzz_check(memcmp(&v, &untouched, sizeof(v)) == 0);
    }

    if (file == GATE_SWITCH_OK) {
        fuzz_valid(&f);

    } else {
        fuzz_check(memchr(data, '{', size) != NULL);
        fuzz_check(memcmp(&f, &untouched, sizeof(f)) == 0);
    }

    return 0;
}

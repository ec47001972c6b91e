
#include "../../src/core/gate_text.c"
#include "../../src/core/gate_parse.c"
#include "../../src/core/gate_switch.c"
#include "../../src/core/gate_state.c"
#include "../../src/core/gate_state_read.c"

#include "tap.h"


static char  test_record[] = "{\"rule\": \"error_rate\", \"value\": 0.07}";


static void
test_fill(gate_state_t *s)
{
    static gate_state_switch_t   switches[2];
    static gate_state_rollout_t  rollouts[2];
    static gate_state_mode_t     modes[2];

    memset(s, 0, sizeof(gate_state_t));
    memset(rollouts, 0, sizeof(rollouts));
    memset(switches, 0, sizeof(switches));
    memset(modes, 0, sizeof(modes));

    s->secret[0] = UINT64_MAX;
    s->secret[1] = 1;
    s->rollouts = rollouts;
    s->nrollouts = 2;
    s->switches = switches;
    s->nswitches = 2;
    s->modes = modes;
    s->nmodes = 2;
    strcpy(s->inc, "fedcba98765432100123456789abcde001234567");

    strcpy(rollouts[0].name, "shop");
    strcpy(rollouts[0].stable, "shop_v1");
    strcpy(rollouts[0].canary, "shop_v2");
    strcpy(rollouts[0].id, "2026.11.2 \xe2\x82\xac");
    rollouts[0].epoch = UINT32_MAX;
    rollouts[0].state = GATE_ROLLED_BACK;
    rollouts[0].step = 3;
    rollouts[0].weight = 10000;
    rollouts[0].conf_weight = 500;
    rollouts[0].seed[0] = UINT64_C(0x8000000000000000);
    rollouts[0].seed[1] = UINT64_C(0x0123456789abcdef);
    rollouts[0].since = 1795255200;
    strcpy(rollouts[0].reason, "error_rate 7% > 5%");
    strcpy(rollouts[0].source, "breach");
    strcpy(rollouts[0].actor, "node-1");
    rollouts[0].record = test_record;
    rollouts[0].known.rev = GATE_STATE_REV_MAX;
    rollouts[0].known.there = 1;
    rollouts[0].known.dirty = 1;
    rollouts[0].provisional = 1;
    rollouts[0].opening = GATE_STATE_OPENING_MAX;
    rollouts[0].flip_epoch = UINT32_MAX - 1;

    memset(rollouts[1].name, 'n', 64);

    strcpy(switches[0].name, "main");
    switches[0].value.on = 1;
    switches[0].value.until = 1795255300;
    switches[0].value.retry_after = 60;
    switches[0].value.message_len = 5;
    memcpy(switches[0].value.message, "hello", 5);
    switches[0].since = 1795255200;
    strcpy(switches[0].source, "api");
    strcpy(switches[0].actor, "alice");
    switches[0].known.rev = 1795255200123;
    switches[0].known.there = 1;

    strcpy(modes[0].gate, "maintenance");
    strcpy(modes[0].mode, "observe");
    modes[0].since = 1795255201;
    strcpy(modes[0].source, "redis");
    strcpy(modes[0].actor, "operator");
    modes[0].known.rev = 1795255201456;
    modes[0].known.dirty = 1;

    strcpy(modes[1].gate, "canary");
    strcpy(modes[1].mode, "off");
}


static int
test_same(const gate_state_t *a, const gate_state_t *b)
{
    size_t                i;
    gate_state_rollout_t  x, y;

    if (memcmp(a->secret, b->secret, sizeof(a->secret)) != 0
        || strcmp(a->inc, b->inc) != 0 || a->nmodes != b->nmodes
        || a->nrollouts != b->nrollouts || a->nswitches != b->nswitches)
    {
        return 0;
    }

    if (a->nmodes != 0
        && memcmp(a->modes, b->modes, a->nmodes * sizeof(a->modes[0])) != 0)
    {
        return 0;
    }

    for (i = 0; i < a->nrollouts; i++) {
        x = a->rollouts[i];
        y = b->rollouts[i];

        if ((x.record == NULL) != (y.record == NULL)
            || (x.record != NULL && strcmp(x.record, y.record) != 0))
        {
            return 0;
        }

        x.record = NULL;
        y.record = NULL;

        if (memcmp(&x, &y, sizeof(x)) != 0) {
            return 0;
        }
    }

    return a->nswitches == 0
           || memcmp(a->switches, b->switches,
                     a->nswitches * sizeof(a->switches[0])) == 0;
}


static void
test_round_trip(void)
{
    char          *text, *again;
    size_t         i, len, n, bad;
    const char    *err;
    gate_state_t   s, back;

    test_fill(&s);
    text = gate_state_encode(&s, &len);
    tap_ok(text != NULL && strlen(text) == len, "encoded");

    if (text == NULL) {
        return;
    }

    tap_ok(gate_state_decode(text, len, &back, &err) == 0
           && test_same(&s, &back), "decoded, and equal");

    again = gate_state_encode(&back, &n);
    tap_ok(again != NULL && n == len && memcmp(text, again, n) == 0,
           "encoded again, and equal");
    gate_state_free_text(again);
    gate_state_free(&back);
    tap_ok(back.rollouts == NULL && back.nrollouts == 0, "freed is empty");
    gate_state_free(&back);

    bad = 0;

    /* the last byte is a line feed, that may be missing */

    for (i = 0; i < len - 1; i++) {
        again = (char *) tap_copy(text, i);
        bad += (gate_state_decode(again, i, &back, &err) == 0
                || back.rollouts != NULL || back.switches != NULL);
        free(again);
    }

    tap_ok(bad == 0, "torn after any byte: refused");
    gate_state_free_text(text);

    memset(&s, 0, sizeof(s));
    text = gate_state_encode(&s, NULL);
    tap_ok(text != NULL
           && gate_state_decode(text, strlen(text), &back, NULL) == 0
           && test_same(&s, &back), "the empty state");
    tap_ok(text != NULL && strstr(text, "modes") == NULL
           && strstr(text, "inc") == NULL,
           "of modes and Redis there is nothing without them");
    gate_state_free(&back);
    gate_state_free_text(text);
    gate_state_free_text(NULL);
}


static void
test_encode_refusals(void)
{
    char          *text, *big;
    gate_state_t   s, back;

#define REFUSED(what, change)                                                 \
    test_fill(&s);                                                            \
    change;                                                                   \
    text = gate_state_encode(&s, NULL);                                       \
    tap_ok(text == NULL, "not encoded: %s", what);                            \
    gate_state_free_text(text)

    REFUSED("no name", s.rollouts[0].name[0] = '\0');
    REFUSED("a name with a space", s.rollouts[0].name[0] = ' ');
    REFUSED("a name without an end", s.rollouts[1].name[64] = 'n');
    REFUSED("invalid UTF-8", s.rollouts[0].actor[0] = (char) 0xff);
    REFUSED("a control character", s.rollouts[0].reason[0] = '\n');
    REFUSED("an unknown state", s.rollouts[0].state = 5);
    REFUSED("a weight over 100 %", s.rollouts[0].weight = 10001);
    REFUSED("a configured weight over 100 %",
            s.rollouts[0].conf_weight = 10001);
    REFUSED("a step out of range", s.rollouts[0].step = 65536);
    REFUSED("a time before 1970", s.rollouts[0].since = -1);
    REFUSED("two rollouts of one name",
            strcpy(s.rollouts[0].name, s.rollouts[1].name));
    REFUSED("two switches of one name", s.switches[0].name[0] = '\0');
    REFUSED("an impossible message", s.switches[0].value.message_len = 513);
    REFUSED("an empty window", s.switches[0].value.from = 1795255300);
    REFUSED("a negative end", s.switches[0].value.until = -1);
    REFUSED("a revision out of range", s.switches[0].known.rev
                                       = GATE_STATE_REV_MAX + 1);
    REFUSED("an opening out of range", s.rollouts[0].opening
                                       = GATE_STATE_OPENING_MAX + 1);
    REFUSED("an incarnation without an end", s.inc[40] = 'x');
    REFUSED("a mode of no gate", s.modes[1].gate[0] = '\0');
    REFUSED("two modes of one gate", strcpy(s.modes[1].gate, "maintenance"));
    REFUSED("a gate without a mode", s.modes[1].mode[0] = '\0');

    test_fill(&s);
    strcpy(test_record, "[]");
    text = gate_state_encode(&s, NULL);
    tap_ok(text != NULL
           && gate_state_decode(text, strlen(text), &back, NULL) == 0
           && back.rollouts[0].record == NULL
           && back.nrollouts == 2, "a record that is no object is left out");
    gate_state_free_text(text);
    gate_state_free(&back);

    big = malloc(GATE_STATE_RECORD_MAX + 2);

    if (big == NULL) {
        abort();
    }

    memset(big, ' ', GATE_STATE_RECORD_MAX + 1);
    memcpy(big, "{}", 2);
    big[GATE_STATE_RECORD_MAX + 1] = '\0';
    s.rollouts[0].record = big;
    text = gate_state_encode(&s, NULL);
    tap_ok(text != NULL && strstr(text, "record") == NULL,
           "so is one that is too long");
    gate_state_free_text(text);
    free(big);
}


/* decodes the good text with one piece replaced */

static void
test_replace(const char *from, const char *to, const char *reason)
{
    int            rc;
    char          *text, *p, *copy;
    size_t         len;
    const char    *err;
    gate_state_t   s, back;

    test_fill(&s);
    s.rollouts[0].record = NULL;
    text = gate_state_encode(&s, &len);
    p = (text == NULL) ? NULL : strstr(text, from);

    if (p == NULL) {
        tap_ok(0, "\"%s\" is in the text", from);
        gate_state_free_text(text);
        return;
    }

    copy = malloc(len + strlen(to) + 1);

    if (copy == NULL) {
        abort();
    }

    len = (size_t) sprintf(copy, "%.*s%s%s", (int) (p - text), text, to,
                           p + strlen(from));
    err = "none";
    rc = gate_state_decode(copy, len, &back, &err);

    tap_ok((reason == NULL) ? rc == 0
                            : rc == -1 && strstr(err, reason) != NULL
                              && back.rollouts == NULL,
           "%s instead of %s: %s", to, from, err);

    gate_state_free(&back);
    gate_state_free_text(text);
    free(copy);
}


static void
test_decode_refusals(void)
{
    char          *big;
    size_t         i;
    const char    *err;
    gate_state_t   s;

    static const char  *bad[] = {
        "", "{}", "[]", "null", "x", "{\"format\":\"nginx-gate-state\"}",
        "{\"format\":\"other\",\"version\":1}",
        "{\"format\":\"nginx-gate-state\",\"version\":1}",
        "{\"format\":\"nginx-gate-state\",\"version\":1,"
        "\"secret\":[\"0000000000000000\",\"0000000000000000\"]}",
        "{\"format\":\"nginx-gate-state\",\"version\":1,\"rollouts\":[],"
        "\"switches\":[],\"secret\":[\"0000000000000000\"]}",
        "{\"format\":\"nginx-gate-state\",\"version\":1,\"rollouts\":[5],"
        "\"switches\":[],\"secret\":[\"0000000000000000\","
        "\"0000000000000000\"]}",
    };

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        err = "none";
        tap_ok(gate_state_decode(bad[i], strlen(bad[i]), &s, &err) == -1
               && s.nrollouts == 0, "refused %zu: %s", i, err);
    }

    tap_ok(gate_state_decode("", 0, &s, NULL) == -1, "without err");

    test_replace("nginx-gate-state", "nginx-gate-other", "not a state");
    test_replace("\"version\": 1", "\"version\": 2", "newer");
    test_replace("\"version\": 1", "\"version\": 0", "version");
    test_replace("\"version\": 1", "\"version\": 1.0", "version");
    test_replace("\"version\": 1", "\"version\": 1, \"x\": [1]", NULL);
    test_replace("\"version\": 1", "\"version\": 1, \"version\": 1", "torn");
    test_replace("ffffffffffffffff", "fffffffffffffffF", "secret");
    test_replace("ffffffffffffffff", "fffffffffffffff", "secret");
    test_replace("ffffffffffffffff", "fffffffffffffffff", "secret");
    test_replace("0123456789abcdef", "0123456789abcdeg", "range");
    test_replace("4294967295", "4294967296", "range");
    test_replace("4294967295", "-1", "range");
    test_replace("4294967295", "\"1\"", "range");
    test_replace("10000", "10001", "range");
    test_replace("\"rolled_back\"", "\"rolled\"", "unknown state");
    test_replace("\"rolled_back\"", "4", "without a state");
    test_replace("\"shop_v1\"", "\"a\\nb\"", "name");
    test_replace("\"shop\"", "\"sh op\"", "name");
    test_replace("\"shop\"", "\"" "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
                 "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn" "\"", "two of one");
    test_replace("\"main\"", "\"\"", "two of one");
    test_replace("\"main\"", "\"a/b\"", "name");
    test_replace("\"hello\"", "\"\\u0007\"", "value");
    test_replace("\"until\": 1795255300", "\"ttl\": 5", "value");
    test_replace("\"alice\"", "null", "origin");
    test_replace("1795255200", "-5", "origin");
    test_replace("\"reason\"", "\"raison\"", "reason");
    test_replace("\"reason\"", "\"record\": \"{}\", \"reason\"", NULL);
    test_replace("\"reason\"", "\"record\": \"[]\", \"reason\"", "record");
    test_replace("\"reason\"", "\"record\": \"{\", \"reason\"", "record");
    test_replace("\"reason\"", "\"record\": null, \"reason\"", "record");
    test_replace("\"rollouts\"", "\"rollout\"", "complete");

    test_replace("\"inc\": \"fedc", "\"inc\": \"", NULL);
    test_replace("\"inc\": \"f", "\"inc\": \"00", "incarnation");
    test_replace("\"inc\": \"f", "\"inc\": \"\\n", "incarnation");
    test_replace("9007199254740992", "9007199254740993", "fleet");
    test_replace("9007199254740992", "-1", "fleet");
    test_replace("\"provisional\": true", "\"provisional\": false", NULL);
    test_replace("\"provisional\": true", "\"provisional\": 1", "fleet");
    test_replace("\"opening\": 7", "\"opening\": 8", "fleet");
    test_replace("4294967294", "4294967296", "fleet");
    test_replace("1795255200123", "\"1\"", "fleet");
    test_replace("\"rev\": 1795255200123,", "", NULL);
    test_replace("\"maintenance\"", "\"canary\"", "two of one");
    test_replace("\"maintenance\"", "\"limits-of-tomorrow\"", "mode");
    test_replace("\"maintenance\"", "\"other\"", NULL);
    test_replace("\"observe\"", "\"some_day\"", NULL);
    test_replace("\"observe\"", "\"some day\"", "mode");
    test_replace("\"operator\"", "5", "mode");
    test_replace("1795255201456", "0.5", "mode");

    /* "modes" is not asked for, and is an array where it is there */

    test_replace("\"modes\"", "\"fashions\"", NULL);
    test_replace("\"modes\": [", "\"modes\": 1, \"x\": [", "complete");

    /* what a record before the error allocated must not leak */

    test_replace("\"state\": \"idle\"", "\"state\": \"idel\"", "unknown");

    big = malloc(GATE_STATE_TEXT_MAX + 1);

    if (big == NULL) {
        abort();
    }

    memset(big, ' ', GATE_STATE_TEXT_MAX + 1);
    tap_ok(gate_state_decode(big, GATE_STATE_TEXT_MAX + 1, &s, &err) == -1
           && strcmp(err, "too large") == 0, "over 4 MB");

    memset(big, '[', GATE_STATE_TEXT_MAX);
    tap_ok(gate_state_decode(big, GATE_STATE_TEXT_MAX, &s, &err) == -1
           && strcmp(err, "nested too deeply") == 0, "4 MB of brackets");
    free(big);
}


static void
test_names(void)
{
    unsigned     i, bad;
    const char  *name;

    bad = 0;

    for (i = GATE_IDLE; i <= GATE_ROLLED_BACK; i++) {
        name = gate_rollout_state_name(i);
        bad += (gate_rollout_state_parse((const unsigned char *) name,
                                         strlen(name)) != (int) i);
    }

    tap_ok(bad == 0, "states have names");
    tap_ok(strcmp(gate_rollout_state_name(5), "unknown") == 0, "state 5");
    tap_ok(gate_rollout_state_parse((const unsigned char *) "Idle", 4) == -1,
           "the case counts");
    tap_ok(gate_rollout_state_parse((const unsigned char *) "", 0) == -1,
           "no state");
}


static void
test_many(void)
{
    char          *text;
    size_t         i, len;
    gate_state_t   s, back;

    memset(&s, 0, sizeof(s));
    s.nswitches = GATE_STATE_ITEMS_MAX;
    s.switches = calloc(s.nswitches + 1, sizeof(gate_state_switch_t));

    if (s.switches == NULL) {
        abort();
    }

    for (i = 0; i <= s.nswitches; i++) {
        (void) snprintf(s.switches[i].name, 65, "switch-%zu", i);
    }

    text = gate_state_encode(&s, &len);
    tap_ok(text != NULL && gate_state_decode(text, len, &back, NULL) == 0
           && test_same(&s, &back), "4096 switches");
    gate_state_free(&back);
    gate_state_free_text(text);

    s.nswitches++;
    tap_ok(gate_state_encode(&s, NULL) == NULL, "4097 are too many");
    gate_state_free(&s);
}


int
main(void)
{
    test_names();
    test_round_trip();
    test_decode_refusals();
    test_encode_refusals();
    test_many();

    return tap_done();
}

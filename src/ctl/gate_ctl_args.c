
/*
 * Copyright (C) nginx-gate authors
 */


#include "gate_ctl.h"

#include <string.h>
#include <time.h>

#include "core/gate_float.h"
#include "core/gate_parse.h"


typedef struct {
    const char  *name;
    unsigned     commands;             /* that know it */
    int          value;                /* it takes one */
    int        (*set)(gate_ctl_args_t *a, const char *value);
} gate_ctl_option_t;


static int gate_ctl_key(gate_ctl_args_t *a, const char *value);
static int gate_ctl_id(gate_ctl_args_t *a, const char *value);
static int gate_ctl_key_format(gate_ctl_args_t *a, const char *value);
static int gate_ctl_alg(gate_ctl_args_t *a, const char *value);
static int gate_ctl_format(gate_ctl_args_t *a, const char *value);
static int gate_ctl_mode(gate_ctl_args_t *a, const char *value);
static int gate_ctl_ttl(gate_ctl_args_t *a, const char *value);
static int gate_ctl_skew(gate_ctl_args_t *a, const char *value);
static int gate_ctl_now(gate_ctl_args_t *a, const char *value);
static int gate_ctl_claim(gate_ctl_args_t *a, const char *value);
static int gate_ctl_show(gate_ctl_args_t *a, const char *value);
static int gate_ctl_offset(gate_ctl_args_t *a, const char *value);
static int gate_ctl_ts(gate_ctl_args_t *a, const char *value);
static int gate_ctl_payload(gate_ctl_args_t *a, const char *value);
static int gate_ctl_complete(const gate_ctl_args_t *a, unsigned command);
static int gate_ctl_find(const char *const *names, unsigned n,
    const char *value);
static int gate_ctl_seconds(const char *value, int64_t *s);


#define GATE_CTL_BOTH  (GATE_CTL_SIGN|GATE_CTL_VERIFY)


static const gate_ctl_option_t  gate_ctl_options[] = {
    { "--key",        GATE_CTL_BOTH,   1, gate_ctl_key },
    { "--id",         GATE_CTL_BOTH,   1, gate_ctl_id },
    { "--key-format", GATE_CTL_BOTH,   1, gate_ctl_key_format },
    { "--alg",        GATE_CTL_BOTH,   1, gate_ctl_alg },
    { "--format",     GATE_CTL_BOTH,   1, gate_ctl_format },
    { "--offset",     GATE_CTL_SIGN,   1, gate_ctl_offset },
    { "--ts",         GATE_CTL_SIGN,   1, gate_ctl_ts },
    { "--payload",    GATE_CTL_SIGN,   1, gate_ctl_payload },
    { "--mode",       GATE_CTL_VERIFY, 1, gate_ctl_mode },
    { "--ttl",        GATE_CTL_VERIFY, 1, gate_ctl_ttl },
    { "--skew",       GATE_CTL_VERIFY, 1, gate_ctl_skew },
    { "--now",        GATE_CTL_VERIFY, 1, gate_ctl_now },
    { "--claim",      GATE_CTL_VERIFY, 1, gate_ctl_claim },
    { "--show",       GATE_CTL_VERIFY, 0, gate_ctl_show }
};

#define GATE_CTL_OPTIONS                                                      \
    (sizeof(gate_ctl_options) / sizeof(gate_ctl_options[0]))


const char *const  gate_ctl_usage =
    "usage: gatectl cursor sign --key FILE [OPTION]..\n"
    "           --offset N [--ts T] | --payload JSON | --payload -\n"
    "       gatectl cursor verify --key FILE.. [OPTION].. [CURSOR]\n"
    "\n"
    "sign prints a cursor; verify prints \"valid\", or why not, for the one\n"
    "that is given or that comes on stdin.\n"
    "\n"
    "  --key FILE         whose secret to use; verify takes up to 8\n"
    "  --id ID            of the key before it\n"
    "  --key-format F     of its file: auto, raw, hex, base64, pem\n"
    "  --alg A            of it: HS256, HS384, HS512, ES256, EdDSA\n"
    "  --format F         envelope (default), detached, jws\n"
    "\n"
    "  --offset N         signs {\"offset\":N,\"ts\":T}, in a JWS \"iat\"\n"
    "  --ts T             seconds since 1970, default: now\n"
    "  --payload JSON     signs that object; \"-\": from stdin\n"
    "\n"
    "  --mode M           strict (default), compat\n"
    "  --ttl TIME         default 10m; and --skew, default 60s\n"
    "  --now T            seconds since 1970, default: now\n"
    "  --claim NAME       a member that the payload may have, up to 8\n"
    "  --show             the payload, too, where it is valid\n"
    "\n"
    "Exit code: 0 valid, 1 refused, 2 wrong usage.\n";


static const char *const  gate_ctl_forms[GATE_CURSOR_KEY_FORMS] = {
    "auto", "raw", "hex", "base64", "pem"
};

static const char *const  gate_ctl_modes[] = { "strict", "compat" };


int
gate_ctl_args(gate_ctl_args_t *a, unsigned command, int argc, char **argv)
{
    int                       i, more;
    size_t                    n;
    struct timespec           ts;
    const gate_ctl_option_t  *o;

    memset(a, 0, sizeof(gate_ctl_args_t));

    gate_cursor_rules_init(&a->rules);

    clock_gettime(CLOCK_REALTIME, &ts);
    a->now = (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;

    more = 1;

    for (i = 0; i < argc; i++) {

        if (!more || argv[i][0] != '-') {

            if (command != GATE_CTL_VERIFY || a->cursor) {
                gate_ctl_say("one argument too many");
                return -1;
            }

            a->cursor = argv[i];
            continue;
        }

        if (strcmp(argv[i], "--") == 0) {
            more = 0;
            continue;
        }

        for (n = 0; n < GATE_CTL_OPTIONS; n++) {
            if (strcmp(argv[i], gate_ctl_options[n].name) == 0
                && (gate_ctl_options[n].commands & command))
            {
                break;
            }
        }

        if (n == GATE_CTL_OPTIONS) {
            /* it may be a cursor that somebody mangled: not shown */
            gate_ctl_say("no such option; \"gatectl --help\" has a list");
            return -1;
        }

        o = &gate_ctl_options[n];

        if (o->value && i + 1 == argc) {
            gate_ctl_say("%s needs a value", o->name);
            return -1;
        }

        if (o->set(a, o->value ? argv[++i] : NULL) != 0) {
            gate_ctl_say("invalid value of %s, or one too many", o->name);
            return -1;
        }
    }

    return gate_ctl_complete(a, command);
}


static int
gate_ctl_complete(const gate_ctl_args_t *a, unsigned command)
{
    if (a->nkeys == 0) {
        gate_ctl_say("no --key");
        return -1;
    }

    if (command == GATE_CTL_VERIFY) {
        return 0;
    }

    if (a->nkeys > 1) {
        gate_ctl_say("one --key signs");
        return -1;
    }

    if ((a->offset == NULL) == (a->payload == NULL)) {
        gate_ctl_say("either --offset or --payload");
        return -1;
    }

    if (a->ts && a->payload) {
        gate_ctl_say("--ts goes with --offset");
        return -1;
    }

    return 0;
}


static int
gate_ctl_key(gate_ctl_args_t *a, const char *value)
{
    if (a->nkeys == GATE_CURSOR_KEYS || *value == '\0') {
        return -1;
    }

    a->key[a->nkeys].file = value;
    a->key[a->nkeys].alg = -1;
    a->nkeys++;

    return 0;
}


static int
gate_ctl_id(gate_ctl_args_t *a, const char *value)
{
    size_t  len;

    len = strlen(value);

    if (a->nkeys == 0 || len > GATE_CURSOR_ID
        || !gate_name_valid((const unsigned char *) value, len))
    {
        return -1;
    }

    a->key[a->nkeys - 1].id = value;

    return 0;
}


static int
gate_ctl_key_format(gate_ctl_args_t *a, const char *value)
{
    int  n;

    n = gate_ctl_find(gate_ctl_forms, GATE_CURSOR_KEY_FORMS, value);

    if (a->nkeys == 0 || n < 0) {
        return -1;
    }

    a->key[a->nkeys - 1].form = (gate_cursor_form_e) n;

    return 0;
}


static int
gate_ctl_alg(gate_ctl_args_t *a, const char *value)
{
    int  n;

    n = gate_ctl_find(gate_cursor_alg_name, GATE_CURSOR_ALGS, value);

    if (a->nkeys == 0 || n < 0) {
        return -1;
    }

    a->key[a->nkeys - 1].alg = n;

    return 0;
}


static int
gate_ctl_format(gate_ctl_args_t *a, const char *value)
{
    int  n;

    n = gate_ctl_find(gate_cursor_format_name, GATE_CURSOR_FORMATS, value);

    if (n < 0) {
        return -1;
    }

    a->rules.format = (gate_cursor_format_e) n;

    return 0;
}


static int
gate_ctl_mode(gate_ctl_args_t *a, const char *value)
{
    int  n;

    n = gate_ctl_find(gate_ctl_modes, 2, value);

    if (n < 0) {
        return -1;
    }

    a->rules.mode = n ? GATE_CURSOR_COMPAT : GATE_CURSOR_STRICT;

    return 0;
}


static int
gate_ctl_ttl(gate_ctl_args_t *a, const char *value)
{
    if (gate_ctl_seconds(value, &a->rules.ttl) != 0 || a->rules.ttl == 0) {
        return -1;
    }

    a->rules.ttl_given = 1;

    return 0;
}


static int
gate_ctl_skew(gate_ctl_args_t *a, const char *value)
{
    return gate_ctl_seconds(value, &a->rules.skew);
}


/* As in the configuration: whole seconds. */

static int
gate_ctl_seconds(const char *value, int64_t *s)
{
    uint64_t  ms;

    if (gate_parse_msec((const unsigned char *) value, strlen(value), &ms)
        != 0
        || ms % 1000 || ms / 1000 > GATE_PARSE_TIME_MAX)
    {
        return -1;
    }

    *s = (int64_t) (ms / 1000);

    return 0;
}


/* Digits, and perhaps a point with more of them. */

static int
gate_ctl_decimal(const char *value)
{
    size_t  whole, part;

    whole = strspn(value, "0123456789");

    if (whole == 0 || whole > 12 || (value[0] == '0' && whole > 1)) {
        return -1;
    }

    if (value[whole] == '\0') {
        return 0;
    }

    part = strspn(value + whole + 1, "0123456789");

    return (value[whole] == '.' && part && part <= 20
            && value[whole + 1 + part] == '\0') ? 0 : -1;
}


static int
gate_ctl_now(gate_ctl_args_t *a, const char *value)
{
    if (gate_ctl_decimal(value) != 0) {
        return -1;
    }

    a->now = gate_float_read((const unsigned char *) value, strlen(value));

    return 0;
}


static int
gate_ctl_ts(gate_ctl_args_t *a, const char *value)
{
    a->ts = value;

    return gate_ctl_decimal(value);
}


static int
gate_ctl_claim(gate_ctl_args_t *a, const char *value)
{
    gate_cursor_rules_t  *rules;

    rules = &a->rules;

    if (rules->nclaims == GATE_CURSOR_CLAIMS || *value == '\0') {
        return -1;
    }

    rules->claim[rules->nclaims] = value;
    rules->claim_len[rules->nclaims] = strlen(value);
    rules->nclaims++;

    return 0;
}


static int
gate_ctl_show(gate_ctl_args_t *a, const char *value)
{
    (void) value;

    a->show = 1;

    return 0;
}


static int
gate_ctl_offset(gate_ctl_args_t *a, const char *value)
{
    size_t  len;

    len = strlen(value);
    a->offset = value;

    return (len == 0 || len > 1000 || len != strspn(value, "0123456789")
            || (value[0] == '0' && len > 1)) ? -1 : 0;
}


static int
gate_ctl_payload(gate_ctl_args_t *a, const char *value)
{
    a->payload = value;

    return 0;
}


static int
gate_ctl_find(const char *const *names, unsigned n, const char *value)
{
    unsigned  i;

    for (i = 0; i < n; i++) {
        if (strcmp(names[i], value) == 0) {
            return (int) i;
        }
    }

    return -1;
}


/*
 * Copyright (C) nginx-gate authors
 */


#include "gate_ctl.h"

#include <stdio.h>
#include <string.h>

#include "core/gate_float.h"


static size_t gate_ctl_position(const gate_ctl_args_t *a, unsigned char *dst,
    size_t size);
static int gate_ctl_judge(const gate_ctl_args_t *a,
    const gate_cursor_key_t *const key[], const unsigned char *s, size_t len);


/* so much is not for the stack */
static gate_cursor_scratch_t  gate_ctl_scratch;
static unsigned char          gate_ctl_shown[sizeof(gate_ctl_scratch.text)];


int
gate_ctl_cursor_sign(const gate_ctl_args_t *a)
{
    size_t             len;
    const char        *why;
    unsigned char      payload[GATE_CTL_INPUT], cursor[GATE_CTL_INPUT];
    gate_cursor_key_t  key;

    if (a->payload == NULL) {
        len = gate_ctl_position(a, payload, sizeof(payload));

    } else if (strcmp(a->payload, "-") == 0) {

        if (gate_ctl_stdin(payload, sizeof(payload), &len) != 0) {
            gate_ctl_say("the payload is too long");
            return GATE_CTL_WRONG;
        }

    } else {
        len = strlen(a->payload);

        if (len > sizeof(payload)) {
            gate_ctl_say("the payload is too long");
            return GATE_CTL_WRONG;
        }

        memcpy(payload, a->payload, len);
    }

    if (gate_ctl_key_load(&key, &a->key[0]) != 0) {
        return GATE_CTL_WRONG;
    }

    why = "cannot sign";
    len = gate_cursor_sign(cursor, a->rules.format, &key, payload, len,
                           &gate_ctl_scratch, &why);

    gate_cursor_key_wipe(&key);

    if (len == 0) {
        gate_ctl_say("%s", why);
        return GATE_CTL_WRONG;
    }

    fwrite(cursor, 1, len, stdout);
    fputc('\n', stdout);

    return GATE_CTL_DONE;
}


/* {"offset":N,"ts":T}: what a route of a service issues. */

static size_t
gate_ctl_position(const gate_ctl_args_t *a, unsigned char *dst, size_t size)
{
    int            n;
    size_t         len;
    unsigned char  ts[GATE_FLOAT_MAX + 1];

    len = gate_float_print(ts, a->now);
    ts[len] = '\0';

    n = snprintf((char *) dst, size, "{\"offset\":%s,\"%s\":%s}", a->offset,
                 a->rules.format == GATE_CURSOR_JWS ? "iat" : "ts",
                 a->ts ? a->ts : (const char *) ts);

    return (n > 0) ? (size_t) n : 0;
}


int
gate_ctl_cursor_verify(const gate_ctl_args_t *a)
{
    int                       rc;
    size_t                    len;
    unsigned                  i, n;
    unsigned char             buf[GATE_CTL_INPUT];
    gate_cursor_key_t         keys[GATE_CURSOR_KEYS];
    const unsigned char      *s;
    const gate_cursor_key_t  *key[GATE_CURSOR_KEYS];

    s = (const unsigned char *) a->cursor;

    if (s) {
        len = strlen(a->cursor);

    } else {
        s = buf;

        /* what does not fit in here is longer than any cursor */

        if (gate_ctl_stdin(buf, sizeof(buf), &len) != 0) {
            len = sizeof(buf);
        }
    }

    rc = GATE_CTL_DONE;

    for (n = 0; n < a->nkeys; n++) {

        if (gate_ctl_key_load(&keys[n], &a->key[n]) != 0) {
            rc = GATE_CTL_WRONG;
            break;
        }

        key[n] = &keys[n];
    }

    if (rc == GATE_CTL_DONE) {
        rc = gate_ctl_judge(a, key, s, len);
    }

    for (i = 0; i < n; i++) {
        gate_cursor_key_wipe(&keys[i]);
    }

    return rc;
}


static int
gate_ctl_judge(const gate_ctl_args_t *a, const gate_cursor_key_t *const key[],
    const unsigned char *s, size_t len)
{
    gate_cursor_t         c;
    gate_cursor_status_e  status;

    memset(&c, 0, sizeof(gate_cursor_t));

    status = gate_cursor_verify(&c, &a->rules, key, a->nkeys, s, len, a->now,
                                &gate_ctl_scratch);

    if (status != GATE_CURSOR_VALID) {
        printf("%s%s%.*s\n", gate_cursor_status_name[status],
               c.text_len ? ": " : "", (int) c.text_len, c.text);

        return GATE_CTL_REFUSED;
    }

    if (a->nkeys > 1 && c.key >= 0) {
        printf("valid, key \"%s\"\n", a->key[c.key].id ? a->key[c.key].id
                                                       : a->key[c.key].file);
    } else {
        puts("valid");
    }

    if (a->show) {

        /* printable, whatever is in it */

        len = gate_json_print(&c.json, c.payload, gate_ctl_shown);
        fwrite(gate_ctl_shown, 1, len, stdout);
        fputc('\n', stdout);
    }

    return GATE_CTL_DONE;
}

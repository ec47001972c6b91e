
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gatectl, the command-line tool.
 *
 *   gatectl.c          which command
 *   gate_ctl_args.c    options
 *   gate_ctl_key.c     files of keys
 *   gate_ctl_cursor.c  "cursor sign" and "cursor verify"
 *
 * Secrets come from files alone, never from the command line, which everybody
 * on the machine can read; and none is ever printed.
 *
 * Exit codes: 0 done, or valid; 1 refused; 2 what was asked is wrong, or the
 * machine does not let it be done.
 */


#ifndef _GATE_CTL_H_INCLUDED_
#define _GATE_CTL_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>

#include "core/gate_cursor.h"


#define GATE_CTL_DONE     0
#define GATE_CTL_REFUSED  1
#define GATE_CTL_WRONG    2

#define GATE_CTL_INPUT    (2 * GATE_CURSOR_LENGTH)


/* One --key, with the --id, --key-format and --alg that follow it. */

typedef struct {
    const char            *file;
    const char            *id;
    gate_cursor_form_e     form;
    int                    alg;
} gate_ctl_key_t;


typedef struct {
    gate_ctl_key_t         key[GATE_CURSOR_KEYS];
    unsigned               nkeys;
    gate_cursor_rules_t    rules;      /* with --format, --mode, --ttl, .. */
    const char            *offset;
    const char            *ts;
    const char            *payload;
    const char            *cursor;
    double                 now;        /* --now, or the clock's */
    int                    show;
} gate_ctl_args_t;

#define GATE_CTL_SIGN    1u
#define GATE_CTL_VERIFY  2u


/*
 * Reads the options of a command, GATE_CTL_SIGN or _VERIFY.  0, or -1 with
 * the reason on stderr.
 */
int gate_ctl_args(gate_ctl_args_t *a, unsigned command, int argc,
    char **argv);

/* What the usage says of the options. */
extern const char *const  gate_ctl_usage;

/* Reads and prepares the key of a file.  0, or -1 with the reason on stderr. */
int gate_ctl_key_load(gate_cursor_key_t *key, const gate_ctl_key_t *k);

/* All of stdin but one line end at its end; -1 where it is more than size. */
int gate_ctl_stdin(unsigned char *buf, size_t size, size_t *len);

/* One line on stderr; no secret ever gets in here. */
__attribute__((format(printf, 1, 2)))
void gate_ctl_say(const char *format, ...);

int gate_ctl_cursor_sign(const gate_ctl_args_t *a);
int gate_ctl_cursor_verify(const gate_ctl_args_t *a);


#endif /* _GATE_CTL_H_INCLUDED_ */

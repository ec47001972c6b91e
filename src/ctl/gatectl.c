
/*
 * Copyright (C) nginx-gate authors
 */


#include "gate_ctl.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>


void
gate_ctl_say(const char *format, ...)
{
    va_list  args;

    fputs("gatectl: ", stderr);

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);

    fputc('\n', stderr);
}


int
main(int argc, char **argv)
{
    int              rc;
    unsigned         command;
    gate_ctl_args_t  a;

    if (argc == 2 && (strcmp(argv[1], "--help") == 0
                      || strcmp(argv[1], "-h") == 0))
    {
        fputs(gate_ctl_usage, stdout);
        return GATE_CTL_DONE;
    }

    command = 0;

    if (argc > 2 && strcmp(argv[1], "cursor") == 0) {

        if (strcmp(argv[2], "sign") == 0) {
            command = GATE_CTL_SIGN;

        } else if (strcmp(argv[2], "verify") == 0) {
            command = GATE_CTL_VERIFY;
        }
    }

    if (command == 0) {
        fputs(gate_ctl_usage, stderr);
        return GATE_CTL_WRONG;
    }

    if (gate_ctl_args(&a, command, argc - 3, argv + 3) != 0) {
        return GATE_CTL_WRONG;
    }

    rc = (command == GATE_CTL_SIGN) ? gate_ctl_cursor_sign(&a)
                                    : gate_ctl_cursor_verify(&a);

    /* a full disk must not look like an answer */

    if (fflush(stdout) != 0) {
        gate_ctl_say("the answer could not be written");
        return GATE_CTL_WRONG;
    }

    return rc;
}

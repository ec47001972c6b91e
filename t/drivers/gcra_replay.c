
/*
 * Copyright (C) nginx-gate authors
 */

/*
 * Replays decisions of other rate limiters with ours: JSON lines in, one line
 * "limited remaining reset_after_ns retry_after_ns" per step out.
 */

#include "core/gate_gcra.h"

#include <jansson.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


/* what the arithmetic has room for: 800 days of debt, times until 2116 */

#define REPLAY_TIME   (INT64_MAX / 2)
#define REPLAY_TOTAL  (REPLAY_TIME / GATE_GCRA_CLAMP)


typedef struct {
    int64_t  at;
    int64_t  cost;
} replay_step_t;


static int replay_line(const char *line, size_t len, char *why, size_t size);
static int replay_vector(json_t *root, char *why, size_t size);
static int replay_steps(json_t *steps, size_t n, replay_step_t *out,
    char *why, size_t size);
static size_t replay_omitted(json_t *root, size_t n);
static int replay_integer(json_t *object, const char *name, int64_t min,
    int64_t max, int64_t *v, char *why, size_t size);
static void replay_run(const gate_rate_t *rate, const replay_step_t *steps,
    size_t n, size_t omitted);


static const char  replay_usage[] =
    "usage: gcra_replay < vectors.jsonl\n"
    "\n"
    "Each line of the input is a JSON object: \"capacity\" (units at once),\n"
    "\"emission_interval_ns\" (until one is back) and \"steps\", a list of\n"
    "objects with \"at_ns\", a time on any clock, and \"cost\": 1 where it is\n"
    "not there, 0 to ask, less than 0 to give back.  Each line begins with a\n"
    "caller that owes nothing.  All other fields are ignored, but for a\n"
    "\"note\" of \"only last 3 of n identical steps stored\": n is then what\n"
    "stands at the end of \"name\", as in \"... x137\", and the steps that\n"
    "are not stored are replayed without being printed.\n"
    "\n"
    "For each step there is one line of output:\n"
    "\n"
    "    limited remaining reset_after_ns retry_after_ns\n"
    "\n"
    "with \"true\" or \"false\" first, as in JSON, and -1 last where the step\n"
    "was admitted or never will be.  A line that is none of these is told on\n"
    "stderr with its number and left out; the exit code is 2 then.\n";


int
main(int argc, char **argv)
{
    int       rc;
    char     *line, why[256];
    size_t    room, number;
    ssize_t   len;

    (void) argv;

    if (argc != 1) {
        fputs(replay_usage, stderr);
        return 2;
    }

    rc = 0;
    room = 0;
    line = NULL;

    for (number = 1; (len = getline(&line, &room, stdin)) >= 0; number++) {

        if (strspn(line, " \t\r\n") == (size_t) len) {
            continue;
        }

        if (replay_line(line, (size_t) len, why, sizeof(why)) != 0) {
            fflush(stdout);
            fprintf(stderr, "gcra_replay: line %zu: %s\n", number, why);
            rc = 2;
        }
    }

    free(line);

    if (ferror(stdin) || fflush(stdout) != 0) {
        perror("gcra_replay");
        return 2;
    }

    return rc;
}


static int
replay_line(const char *line, size_t len, char *why, size_t size)
{
    int           rc;
    json_t       *root;
    json_error_t  error;

    root = json_loadb(line, len, JSON_REJECT_DUPLICATES, &error);

    if (root == NULL) {
        snprintf(why, size, "no JSON: %s", error.text);
        return -1;
    }

    rc = replay_vector(root, why, size);

    json_decref(root);

    return rc;
}


/* All of a line is looked at before anything of it is printed. */

static int
replay_vector(json_t *root, char *why, size_t size)
{
    size_t          n;
    json_t         *steps;
    gate_rate_t     rate;
    replay_step_t  *list;

    if (!json_is_object(root)) {
        snprintf(why, size, "not an object");
        return -1;
    }

    if (replay_integer(root, "capacity", 1, REPLAY_TOTAL, &rate.capacity, why,
                       size) != 0
        || replay_integer(root, "emission_interval_ns", 1, REPLAY_TOTAL,
                          &rate.interval, why, size) != 0)
    {
        return -1;
    }

    if (rate.interval > REPLAY_TOTAL / rate.capacity) {
        snprintf(why, size, "capacity times emission_interval_ns is more "
                            "than %" PRId64, REPLAY_TOTAL);
        return -1;
    }

    steps = json_object_get(root, "steps");

    if (!json_is_array(steps)) {
        snprintf(why, size, "\"steps\" is not a list");
        return -1;
    }

    n = json_array_size(steps);
    list = calloc(n ? n : 1, sizeof(replay_step_t));

    if (list == NULL) {
        snprintf(why, size, "no memory");
        return -1;
    }

    if (replay_steps(steps, n, list, why, size) != 0) {
        free(list);
        return -1;
    }

    replay_run(&rate, list, n, replay_omitted(root, n));

    free(list);

    return 0;
}


static int
replay_steps(json_t *steps, size_t n, replay_step_t *out, char *why,
    size_t size)
{
    size_t   i, used;
    json_t  *step;

    for (i = 0; i < n; i++) {
        used = (size_t) snprintf(why, size, "step %zu: ", i + 1);
        step = json_array_get(steps, i);

        if (!json_is_object(step)) {
            snprintf(why + used, size - used, "not an object");
            return -1;
        }

        out[i].cost = 1;

        if (replay_integer(step, "at_ns", -REPLAY_TIME, REPLAY_TIME,
                           &out[i].at, why + used, size - used) != 0)
        {
            return -1;
        }

        if (json_object_get(step, "cost") != NULL
            && replay_integer(step, "cost", -INT64_MAX, INT64_MAX,
                              &out[i].cost, why + used, size - used) != 0)
        {
            return -1;
        }
    }

    return 0;
}


/* Steps like the first one that were left out of the file. */

static size_t
replay_omitted(json_t *root, size_t n)
{
    int          end;
    size_t       stored, total;
    const char  *note, *name;

    note = json_string_value(json_object_get(root, "note"));
    name = json_string_value(json_object_get(root, "name"));

    if (note == NULL || name == NULL) {
        return 0;
    }

    end = 0;

    if (sscanf(note, "only last %zu of n identical steps stored%n", &stored,
               &end) != 1
        || end == 0 || stored != n || n == 0)
    {
        return 0;
    }

    name = strrchr(name, ' ');

    if (name == NULL || sscanf(name, " x%6zu", &total) != 1 || total < n) {
        return 0;
    }

    return total - n;
}


static int
replay_integer(json_t *object, const char *name, int64_t min, int64_t max,
    int64_t *v, char *why, size_t size)
{
    double   real;
    json_t  *value;

    value = json_object_get(object, name);

    if (value == NULL) {
        snprintf(why, size, "no \"%s\"", name);
        return -1;
    }

    if (json_is_integer(value)) {
        *v = json_integer_value(value);

    } else if (json_is_real(value)) {

        /* some write 1e9; what a double does not hold is not guessed */

        real = json_real_value(value);

        if (!(real >= -0x1p53 && real <= 0x1p53)
            || real != (double) (int64_t) real)
        {
            snprintf(why, size, "\"%s\" is not a whole number", name);
            return -1;
        }

        *v = (int64_t) real;

    } else {
        snprintf(why, size, "\"%s\" is not a number", name);
        return -1;
    }

    if (*v < min || *v > max) {
        snprintf(why, size, "\"%s\" is not in %" PRId64 " .. %" PRId64, name,
                 min, max);
        return -1;
    }

    return 0;
}


static void
replay_run(const gate_rate_t *rate, const replay_step_t *steps, size_t n,
    size_t omitted)
{
    size_t       i, at;
    int64_t      tat;
    gate_gcra_t  v;

    tat = INT64_MIN;

    for (i = 0; i < omitted + n; i++) {
        at = (i < omitted) ? 0 : i - omitted;

        if (steps[at].cost < 0) {
            gate_gcra_refund(rate, &tat, steps[at].at, -steps[at].cost);
            (void) gate_gcra_take(rate, &tat, steps[at].at, 0, &v);

        } else {
            (void) gate_gcra_take(rate, &tat, steps[at].at, steps[at].cost,
                                  &v);
        }

        if (i >= omitted) {
            printf("%s %" PRId64 " %" PRId64 " %" PRId64 "\n",
                   v.limited ? "true" : "false", v.remaining, v.reset_after,
                   v.retry_after);
        }
    }
}

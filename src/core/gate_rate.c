
#include "gate_rate.h"
#include "gate_parse.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>


#define GATE_RATE_SECOND  INT64_C(1000000000)

#define GATE_RATE_SYNTAX  "is not like \"100r/s\" or \"15r/10s\""


typedef struct {
    unsigned char  name;
    int64_t        period;             /* ns */
} gate_rate_unit_t;


static int gate_rate_fail(const char **why, const char *text);
static int gate_rate_word(const unsigned char *s, size_t len,
    gate_policy_t *said, int64_t *burst, const char **why);


/* the longest one first */

static const gate_rate_unit_t  gate_rate_units[] = {
    { 'd', 86400 * GATE_RATE_SECOND },
    { 'h', 3600 * GATE_RATE_SECOND },
    { 'm', 60 * GATE_RATE_SECOND },
    { 's', GATE_RATE_SECOND },
};

#define GATE_RATE_UNITS                                                       \
    (sizeof(gate_rate_units) / sizeof(gate_rate_units[0]))


int
gate_rate_parse(const unsigned char *s, size_t len, uint64_t *count,
    int64_t *period, const char **why)
{
    size_t                   digits;
    uint64_t                 n, units;
    const gate_rate_unit_t  *u, *end;

    for (digits = 0; digits < len; digits++) {
        if (s[digits] < '0' || s[digits] > '9') {
            break;
        }
    }

    /* at least "r/s" has to follow */

    if (digits == 0 || len - digits < 3 || s[digits] != 'r'
        || s[digits + 1] != '/')
    {
        return gate_rate_fail(why, GATE_RATE_SYNTAX);
    }

    end = gate_rate_units + GATE_RATE_UNITS;

    for (u = gate_rate_units; u < end && u->name != s[len - 1]; u++) {
        /* void */
    }

    if (u == end) {
        return gate_rate_fail(why, "has a unit other than s, m, h and d");
    }

    if (gate_parse_uint(s, digits, GATE_RATE_COUNT_MAX, &n) != 0) {
        return gate_rate_fail(why, "is of more than ten million a period");
    }

    units = 1;
    s += digits + 2;
    len -= digits + 3;

    if (len != 0 && gate_parse_uint(s, len, UINT64_MAX, &units) != 0) {

        while (len != 0 && *s >= '0' && *s <= '9') {
            s++;
            len--;
        }

        return gate_rate_fail(why, len != 0 ? GATE_RATE_SYNTAX
                                   : "has a period of more than 60 days");
    }

    if (n == 0 || units == 0) {
        return gate_rate_fail(why, "is zero");
    }

    if (units > (uint64_t) (GATE_GCRA_MAX / u->period)) {
        return gate_rate_fail(why, "has a period of more than 60 days");
    }

    *count = n;
    *period = (int64_t) units * u->period;

    return 0;
}


int
gate_rate_policy(uint64_t count, int64_t period, int64_t burst,
    gate_policy_t *policy, const char **why)
{
    int64_t  interval;

    if (count == 0 || period <= 0) {
        return gate_rate_fail(why, "is zero");
    }

    if (count > GATE_RATE_COUNT_MAX) {
        return gate_rate_fail(why, "is of more than ten million a period");
    }

    /*
     * Rounded down: who is told 15 in 10 s and sends just that is not to be
     * refused for a third of a nanosecond, and 15 of them are 10 s, not 11,
     * where seconds are rounded up.
     */

    interval = period / (int64_t) count;

    if (interval < GATE_RATE_INTERVAL_MIN) {
        return gate_rate_fail(why, "is of more than a million a second");
    }

    if (burst < 0) {
        burst = (period > GATE_RATE_SECOND) ? (int64_t) count - 1 : 0;
    }

    if (burst >= GATE_RATE_COUNT_MAX) {
        return gate_rate_fail(why, "has a burst of more than ten million");
    }

    if (interval > GATE_GCRA_MAX / (burst + 1)) {
        return gate_rate_fail(why, "gives a burst back only in more than "
                                   "60 days");
    }

    policy->rate.interval = interval;
    policy->rate.capacity = burst + 1;
    policy->count = count;
    policy->period = period;

    return 0;
}


int
gate_rate_words(const unsigned char *s, size_t len,
    const gate_policy_t *base, gate_policy_t *policy, const char **why)
{
    size_t         n;
    int64_t        burst;
    gate_policy_t  said;

    said.count = 0;
    said.period = 0;
    burst = -1;

    while (len != 0) {

        if (*s == ' ' || *s == ',') {
            s++;
            len--;
            continue;
        }

        for (n = 0; n < len && s[n] != ' ' && s[n] != ','; n++) {
            /* void */
        }

        if (gate_rate_word(s, n, &said, &burst, why) != 0) {
            return -1;
        }

        s += n;
        len -= n;
    }

    if (said.count == 0 && burst < 0) {
        return gate_rate_fail(why, "is empty");
    }

    if (said.count == 0) {

        if (base == NULL) {
            return gate_rate_fail(why, "has a burst, but no rate");
        }

        said.count = base->count;
        said.period = base->period;
    }

    return gate_rate_policy(said.count, said.period, burst, policy, why);
}


/* One word; each may be said once. */

static int
gate_rate_word(const unsigned char *s, size_t len, gate_policy_t *said,
    int64_t *burst, const char **why)
{
    uint64_t  n;

    if (len >= 6 && memcmp(s, "burst=", 6) == 0) {

        if (*burst >= 0) {
            return gate_rate_fail(why, "has two bursts");
        }

        if (gate_parse_uint(s + 6, len - 6, GATE_RATE_COUNT_MAX - 1, &n)
            != 0)
        {
            return gate_rate_fail(why, "has a burst that is no number below "
                                       "ten million");
        }

        *burst = (int64_t) n;

        return 0;
    }

    if (said->count != 0) {
        return gate_rate_fail(why, "has two rates, or a word that is neither "
                                   "rate nor burst");
    }

    if (len >= 5 && memcmp(s, "rate=", 5) == 0) {
        s += 5;
        len -= 5;
    }

    return gate_rate_parse(s, len, &said->count, &said->period, why);
}


size_t
gate_rate_format(uint64_t count, int64_t period, char buf[GATE_RATE_LEN])
{
    int                      n;
    int64_t                  units;
    const gate_rate_unit_t  *u, *last;

    u = gate_rate_units;
    last = gate_rate_units + GATE_RATE_UNITS - 1;

    while (u < last && period % u->period != 0) {
        u++;
    }

    units = period / u->period;

    if (units == 1) {
        n = snprintf(buf, GATE_RATE_LEN, "%" PRIu64 "r/%c", count, u->name);

    } else {
        n = snprintf(buf, GATE_RATE_LEN, "%" PRIu64 "r/%" PRId64 "%c", count,
                     units, u->name);
    }

    /* more than a policy can say is cut */

    return (n < 0) ? 0 : (n < GATE_RATE_LEN) ? (size_t) n : GATE_RATE_LEN - 1;
}


static int
gate_rate_fail(const char **why, const char *text)
{
    if (why != NULL) {
        *why = text;
    }

    return -1;
}

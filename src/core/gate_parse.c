
#include "gate_parse.h"

#include <string.h>


#define GATE_PARSE_MICRO  UINT64_C(1000000)


typedef struct {
    const char  *name;
    size_t       len;
    uint64_t     msec;
} gate_parse_unit_t;


static int gate_parse_digit(unsigned char c);
static int gate_parse_decimal(const unsigned char *s, size_t len,
    unsigned decimals, uint64_t max, uint64_t *v);
static int gate_parse_field(const unsigned char *s, size_t n, unsigned min,
    unsigned max, unsigned *v);
static int gate_parse_date(const unsigned char *s, int64_t *days);
static int gate_parse_offset(const unsigned char *s, size_t len,
    int64_t *sec);
static int gate_parse_rfc3339(const unsigned char *s, size_t len,
    int64_t *sec);


/* in the order in which they may follow each other */

static const gate_parse_unit_t  gate_parse_units[] = {
    { "w",  1, UINT64_C(604800000) },
    { "d",  1, UINT64_C(86400000) },
    { "h",  1, UINT64_C(3600000) },
    { "m",  1, UINT64_C(60000) },
    { "s",  1, UINT64_C(1000) },
    { "ms", 2, UINT64_C(1) },
};

#define GATE_PARSE_UNITS                                                      \
    (sizeof(gate_parse_units) / sizeof(gate_parse_units[0]))


int
gate_parse_weight(const unsigned char *s, size_t len, unsigned *bp)
{
    uint64_t  n;

    if (len == 0 || s[len - 1] != '%') {
        return -1;
    }

    if (gate_parse_decimal(s, len - 1, 2, 10000, &n) != 0) {
        return -1;
    }

    *bp = (unsigned) n;

    return 0;
}


int
gate_parse_fraction(const unsigned char *s, size_t len, double *v)
{
    uint64_t  n;

    if (len != 0 && s[len - 1] == '%') {

        if (gate_parse_decimal(s, len - 1, 6, 100 * GATE_PARSE_MICRO, &n)
            != 0)
        {
            return -1;
        }

        *v = (double) n / (100 * GATE_PARSE_MICRO);
        return 0;
    }

    if (gate_parse_decimal(s, len, 6, GATE_PARSE_MICRO, &n) != 0) {
        return -1;
    }

    *v = (double) n / GATE_PARSE_MICRO;

    return 0;
}


int
gate_parse_ratio(const unsigned char *s, size_t len, double *v)
{
    uint64_t  n, unit;

    unit = GATE_PARSE_MICRO;

    if (len != 0 && s[len - 1] == '%') {
        unit *= 100;
        len--;
    }

    if (gate_parse_decimal(s, len, 6, 1000 * unit, &n) != 0 || n == 0) {
        return -1;
    }

    *v = (double) n / (double) unit;

    return 0;
}


int
gate_parse_msec(const unsigned char *s, size_t len, uint64_t *ms)
{
    size_t                    i, start;
    uint64_t                  n, total;
    const gate_parse_unit_t  *u, *next, *last;

    if (gate_parse_uint(s, len, INT64_MAX / 1000, &n) == 0) {
        *ms = n * 1000;
        return 0;
    }

    if (len == 0) {
        return -1;
    }

    total = 0;
    next = gate_parse_units;
    last = gate_parse_units + GATE_PARSE_UNITS;

    for (i = 0; i < len; /* void */ ) {

        for (start = i; i < len && gate_parse_digit(s[i]); i++) { /* void */ }

        /* the longest unit is "ms", which "m" must not cut short */

        for (u = next; u < last; u++) {
            if (len - i >= u->len && memcmp(s + i, u->name, u->len) == 0
                && (len - i == u->len || gate_parse_digit(s[i + u->len])))
            {
                break;
            }
        }

        if (u == last
            || gate_parse_uint(s + start, i - start, INT64_MAX / u->msec, &n)
               != 0
            || n * u->msec > INT64_MAX - total)
        {
            return -1;
        }

        total += n * u->msec;
        i += u->len;
        next = u + 1;
    }

    *ms = total;

    return 0;
}


int
gate_parse_uint(const unsigned char *s, size_t len, uint64_t max,
    uint64_t *v)
{
    return gate_parse_decimal(s, len, 0, max, v);
}


int
gate_parse_time(const unsigned char *s, size_t len, int64_t *unix_sec)
{
    int64_t   t;
    uint64_t  n;

    if (gate_parse_uint(s, len, GATE_PARSE_TIME_MAX, &n) == 0) {
        *unix_sec = (int64_t) n;
        return 0;
    }

    if (gate_parse_rfc3339(s, len, &t) != 0
        || t < 0 || t > GATE_PARSE_TIME_MAX)
    {
        return -1;
    }

    *unix_sec = t;

    return 0;
}


size_t
gate_format_weight(unsigned bp, char buf[GATE_WEIGHT_LEN])
{
    char      *p;
    unsigned   whole, rest;

    if (bp > 10000) {
        bp = 10000;
    }

    p = buf;
    whole = bp / 100;
    rest = bp % 100;

    if (whole >= 100) {
        *p++ = '1';
        *p++ = '0';

    } else if (whole >= 10) {
        *p++ = (char) ('0' + whole / 10);
    }

    *p++ = (char) ('0' + whole % 10);

    if (rest != 0) {
        *p++ = '.';
        *p++ = (char) ('0' + rest / 10);

        if (rest % 10 != 0) {
            *p++ = (char) ('0' + rest % 10);
        }
    }

    *p = '\0';

    return (size_t) (p - buf);
}


int
gate_name_valid(const unsigned char *s, size_t len)
{
    size_t         i;
    unsigned char  c;

    if (len == 0 || len > GATE_NAME_MAX) {
        return 0;
    }

    for (i = 0; i < len; i++) {
        c = s[i];

        if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')
            || gate_parse_digit(c) || c == '_' || c == '.' || c == '-')
        {
            continue;
        }

        return 0;
    }

    return 1;
}


static int
gate_parse_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}


/*
 * DIGIT+ [ "." DIGIT+ ] as an integer scaled by 10^decimals, at most max; a
 * point is refused when decimals is 0, and digits past the last decimal must
 * be zeros.
 */

static int
gate_parse_decimal(const unsigned char *s, size_t len, unsigned decimals,
    uint64_t max, uint64_t *v)
{
    size_t    i;
    uint64_t  n, d;

    n = 0;

    for (i = 0; i < len && gate_parse_digit(s[i]); i++) {
        d = s[i] - '0';

        if (n > max / 10 || d > max - n * 10) {
            return -1;
        }

        n = n * 10 + d;
    }

    if (i == 0) {
        return -1;
    }

    if (i < len && (s[i] != '.' || decimals == 0 || ++i == len)) {
        return -1;
    }

    for ( /* void */ ; i < len; i++) {

        if (!gate_parse_digit(s[i])) {
            return -1;
        }

        d = s[i] - '0';

        if (decimals == 0) {
            if (d != 0) {
                return -1;
            }

            continue;
        }

        decimals--;

        if (n > max / 10 || d > max - n * 10) {
            return -1;
        }

        n = n * 10 + d;
    }

    for ( /* void */ ; decimals != 0; decimals--) {
        if (n > max / 10) {
            return -1;
        }

        n *= 10;
    }

    *v = n;

    return 0;
}


/* exactly n digits, n <= 4, with a value of min .. max */

static int
gate_parse_field(const unsigned char *s, size_t n, unsigned min, unsigned max,
    unsigned *v)
{
    size_t    i;
    unsigned  x;

    x = 0;

    for (i = 0; i < n; i++) {
        if (!gate_parse_digit(s[i])) {
            return -1;
        }

        x = x * 10 + (s[i] - '0');
    }

    if (x < min || x > max) {
        return -1;
    }

    *v = x;

    return 0;
}


/* ten bytes "YYYY-MM-DD" to days since 1970-01-01 */

static int
gate_parse_date(const unsigned char *s, int64_t *days)
{
    int64_t   y;
    unsigned  year, month, day, max;

    if (gate_parse_field(s, 4, 0, 9999, &year) != 0
        || s[4] != '-'
        || gate_parse_field(s + 5, 2, 1, 12, &month) != 0
        || s[7] != '-')
    {
        return -1;
    }

    if (month == 2) {
        max = (year % 4 == 0 && (year % 100 != 0 || year % 400 == 0))
              ? 29 : 28;

    } else {
        max = (month == 4 || month == 6 || month == 9 || month == 11)
              ? 30 : 31;
    }

    if (gate_parse_field(s + 8, 2, 1, max, &day) != 0) {
        return -1;
    }

    /* years that begin in March put the leap day at the end */

    y = (month > 2) ? (int64_t) year : (int64_t) year - 1;
    month = (month > 2) ? month - 3 : month + 9;

    /* the year 0 gives y = -1, which division rounds the wrong way */

    y += 400;

    *days = 365 * y + y / 4 - y / 100 + y / 400
            + (153 * month + 2) / 5 + day - 1
            - 719468 - 146097;

    return 0;
}


/* "Z" or "+hh:mm" to the seconds to subtract */

static int
gate_parse_offset(const unsigned char *s, size_t len, int64_t *sec)
{
    unsigned  hour, min;

    if (len == 1 && (s[0] == 'Z' || s[0] == 'z')) {
        *sec = 0;
        return 0;
    }

    if (len != 6 || (s[0] != '+' && s[0] != '-')
        || gate_parse_field(s + 1, 2, 0, 23, &hour) != 0
        || s[3] != ':'
        || gate_parse_field(s + 4, 2, 0, 59, &min) != 0)
    {
        return -1;
    }

    *sec = (int64_t) hour * 3600 + min * 60;

    if (s[0] == '-') {
        *sec = -*sec;
    }

    return 0;
}


static int
gate_parse_rfc3339(const unsigned char *s, size_t len, int64_t *sec)
{
    size_t    i;
    int64_t   days, offset;
    unsigned  hour, min, second;

    if (len < sizeof("YYYY-MM-DDThh:mm:ssZ") - 1
        || gate_parse_date(s, &days) != 0
        || (s[10] != 'T' && s[10] != 't')
        || gate_parse_field(s + 11, 2, 0, 23, &hour) != 0
        || s[13] != ':'
        || gate_parse_field(s + 14, 2, 0, 59, &min) != 0
        || s[16] != ':'
        || gate_parse_field(s + 17, 2, 0, 59, &second) != 0)
    {
        return -1;
    }

    i = 19;

    if (s[i] == '.') {
        for (i++; i < len && gate_parse_digit(s[i]); i++) { /* void */ }

        if (i == 20) {
            return -1;
        }
    }

    if (gate_parse_offset(s + i, len - i, &offset) != 0) {
        return -1;
    }

    *sec = days * 86400 + hour * 3600 + min * 60 + second - offset;

    return 0;
}

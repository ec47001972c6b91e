
#include "gate_url.h"
#include "gate_parse.h"

#include <string.h>


#define GATE_URL_PORT       6379
#define GATE_URL_SENTINEL   26379


typedef struct {
    const char  *name;
    unsigned     tls;
    unsigned     sentinel;
    unsigned     local;
} gate_url_scheme_t;


static const char *gate_url_user(const unsigned char **p,
    const unsigned char *last, gate_url_t *u);
static const char *gate_url_local(const unsigned char *p,
    const unsigned char *last, gate_url_t *u);
static const char *gate_url_hosts(const unsigned char *p,
    const unsigned char *last, gate_url_t *u);
static const char *gate_url_host(const unsigned char *p,
    const unsigned char *last, gate_url_t *u);
static const char *gate_url_name(const unsigned char *p, size_t len,
    gate_url_host_t *h);
static const char *gate_url_rest(const unsigned char *p,
    const unsigned char *last, gate_url_t *u);
static const char *gate_url_db(const unsigned char *p,
    const unsigned char *last, gate_url_t *u);
static const unsigned char *gate_url_find(const unsigned char *p,
    const unsigned char *last, unsigned char c);
static int gate_url_one_of(unsigned char c, const char *set);


static const gate_url_scheme_t  gate_url_schemes[] = {
    { "redis://",           0, 0, 0 },
    { "rediss://",          1, 0, 0 },
    { "redis+sentinel://",  0, 1, 0 },
    { "rediss+sentinel://", 1, 1, 0 },
    { "unix:",              0, 0, 1 },
};

#define GATE_URL_SCHEMES                                                      \
    (sizeof(gate_url_schemes) / sizeof(gate_url_schemes[0]))


int
gate_url_parse(const unsigned char *s, size_t len, gate_url_t *u,
    const char **why)
{
    size_t                    i, n;
    const unsigned char      *p, *last;
    const gate_url_scheme_t  *scheme;

    memset(u, 0, sizeof(*u));

    scheme = NULL;
    n = 0;

    for (i = 0; i < GATE_URL_SCHEMES; i++) {
        n = strlen(gate_url_schemes[i].name);

        if (len >= n && memcmp(s, gate_url_schemes[i].name, n) == 0) {
            scheme = &gate_url_schemes[i];
            break;
        }
    }

    if (scheme == NULL) {
        *why = "it must begin with \"redis://\", \"rediss://\", "
               "\"redis+sentinel://\", \"rediss+sentinel://\" or \"unix:\"";
        return -1;
    }

    u->tls = scheme->tls;
    u->sentinel = scheme->sentinel;
    u->local = scheme->local;

    p = s + n;
    last = s + len;

    for (i = n; i < len; i++) {
        if (s[i] <= 0x20 || s[i] >= 0x7f || gate_url_one_of(s[i], "\"\\#%")) {
            *why = "it must be printable ASCII without space, \", \\, # "
                   "and %";
            return -1;
        }
    }

    *why = gate_url_user(&p, last, u);

    if (*why == NULL) {
        *why = u->local ? gate_url_local(p, last, u)
                        : gate_url_hosts(p, last, u);
    }

    return *why ? -1 : 0;
}


/*
 * Whoever writes a password here may write any byte into it, "/" and "@" too:
 * hence the last "@" of all, except of a socket, whose path may have some.
 */

static const char *
gate_url_user(const unsigned char **p, const unsigned char *last,
    gate_url_t *u)
{
    const unsigned char  *at, *s, *end;

    end = u->local ? gate_url_find(*p, last, '/') : last;
    at = NULL;

    for (s = *p; s < end; s++) {
        if (*s == '@') {
            at = s;
        }
    }

    if (at == NULL) {
        return NULL;
    }

    if (gate_url_find(*p, at, ':') < at) {
        return "a password does not belong into the configuration, use "
               "password_file=";
    }

    for (s = *p; s < at; s++) {
        if (gate_url_one_of(*s, "/@?[],")) {
            return "the name of the user must not have any of / : @ ? # [ ] "
                   "% , in it";
        }
    }

    u->user.s = *p;
    u->user.len = (size_t) (at - *p);

    if (u->user.len == 0 || u->user.len > GATE_URL_USER_MAX) {
        return "the name of the user must have 1 to 128 characters";
    }

    *p = at + 1;

    return NULL;
}


static const char *
gate_url_local(const unsigned char *p, const unsigned char *last,
    gate_url_t *u)
{
    const unsigned char  *end;

    end = gate_url_find(p, last, '?');

    if (p == end || *p != '/') {
        return "the path of a socket must begin with \"/\", as in "
               "\"unix:/run/redis.sock\"";
    }

    u->path.s = p;
    u->path.len = (size_t) (end - p);

    if (u->path.len > GATE_URL_PATH_MAX) {
        return "the path of a socket must not have more than 107 characters";
    }

    if (end == last) {
        return NULL;
    }

    if (last - end < 4 || memcmp(end, "?db=", 4) != 0) {
        return "after the path only \"?db=N\" is allowed";
    }

    return gate_url_db(end + 4, last, u);
}


static const char *
gate_url_hosts(const unsigned char *p, const unsigned char *last,
    gate_url_t *u)
{
    const char           *why;
    const unsigned char  *end, *comma;

    end = gate_url_find(p, last, '/');

    for ( ;; ) {
        comma = gate_url_find(p, end, ',');

        why = gate_url_host(p, comma, u);
        if (why) {
            return why;
        }

        if (comma == end) {
            break;
        }

        p = comma + 1;
    }

    return gate_url_rest(end, last, u);
}


static const char *
gate_url_host(const unsigned char *p, const unsigned char *last,
    gate_url_t *u)
{
    uint64_t              port;
    gate_url_host_t      *h;
    const unsigned char  *end;

    if (u->nhosts == GATE_URL_HOSTS) {
        return "there must not be more than 16 hosts";
    }

    h = &u->host[u->nhosts++];

    h->port = u->sentinel ? GATE_URL_SENTINEL : GATE_URL_PORT;

    if (p < last && *p == '[') {
        p++;
        end = gate_url_find(p, last, ']');

        if (end == last) {
            return "the bracket of an IPv6 address is not closed";
        }

        h->ipv6 = 1;
        h->name.s = p;
        h->name.len = (size_t) (end - p);
        end++;

    } else {
        end = gate_url_find(p, last, ':');
        h->name.s = p;
        h->name.len = (size_t) (end - p);

        if (end < last && gate_url_find(end + 1, last, ':') < last) {
            return "an IPv6 address must stand in brackets, as in "
                   "\"[::1]:6379\"";
        }
    }

    if (end < last) {
        if (*end != ':' || gate_parse_uint(end + 1, (size_t) (last - end - 1),
                                           65535, &port) != 0
            || port == 0)
        {
            return "a port must be a number from 1 to 65535";
        }

        h->port = (unsigned) port;
    }

    return gate_url_name(h->name.s, h->name.len, h);
}


static const char *
gate_url_name(const unsigned char *p, size_t len, gate_url_host_t *h)
{
    size_t  i;

    if (len == 0) {
        return "a host must not be empty";
    }

    if (len > GATE_URL_HOST_MAX) {
        return "a host must not have more than 255 characters";
    }

    for (i = 0; i < len; i++) {

        if ((p[i] >= 'a' && p[i] <= 'f') || (p[i] >= 'A' && p[i] <= 'F')
            || (p[i] >= '0' && p[i] <= '9') || p[i] == '.')
        {
            continue;
        }

        if (h->ipv6) {
            if (p[i] == ':') {
                continue;
            }

            return "in brackets there must be an IPv6 address";
        }

        if ((p[i] >= 'g' && p[i] <= 'z') || (p[i] >= 'G' && p[i] <= 'Z')
            || p[i] == '-' || p[i] == '_')
        {
            continue;
        }

        return "a host must be of letters, digits and \"-._\"";
    }

    return NULL;
}


/* "/master/db" of sentinel, else "/db" */

static const char *
gate_url_rest(const unsigned char *p, const unsigned char *last,
    gate_url_t *u)
{
    const unsigned char  *end;

    if (u->sentinel) {

        if (p == last) {
            return "the name of the master is missing, as in "
                   "\"redis+sentinel://host:26379/mymaster\"";
        }

        p++;
        end = gate_url_find(p, last, '/');

        u->master.s = p;
        u->master.len = (size_t) (end - p);

        if (!gate_name_valid(u->master.s, u->master.len)) {
            return "the name of the master must be 1 to 64 characters of "
                   "A-Z, a-z, 0-9 and \"_.-\"";
        }

        p = end;
    }

    if (last - p <= 1) {
        return NULL;
    }

    return gate_url_db(p + 1, last, u);
}


static const char *
gate_url_db(const unsigned char *p, const unsigned char *last, gate_url_t *u)
{
    uint64_t  db;

    if (gate_parse_uint(p, (size_t) (last - p), GATE_URL_DB_MAX, &db) != 0) {
        return "the database must be a number from 0 to 65535";
    }

    u->db = (unsigned) db;

    return NULL;
}


/* the first such character, or last */

static const unsigned char *
gate_url_find(const unsigned char *p, const unsigned char *last,
    unsigned char c)
{
    const unsigned char  *found;

    found = (p < last) ? memchr(p, c, (size_t) (last - p)) : NULL;

    return found ? found : last;
}


static int
gate_url_one_of(unsigned char c, const char *set)
{
    return c != 0 && strchr(set, c) != NULL;
}


/*
 * The input is an address.  Properties: what is accepted has what its scheme
 * needs, points into the input, and written down in full reads the same; a
 * colon before the last "@" is never accepted; refusals say why.
 */

#include "../../src/core/gate_parse.c"
#include "../../src/core/gate_url.c"

#include <stdio.h>


#define fuzz_check(expr)  do { if (!(expr)) { __builtin_trap(); } } while (0)


int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);


static void
fuzz_text(const gate_url_text_t *t, const unsigned char *data, size_t size)
{
    size_t  i;

    if (t->len == 0) {
        return;
    }

    fuzz_check(t->s >= data && t->s + t->len <= data + size);

    for (i = 0; i < t->len; i++) {
        fuzz_check(t->s[i] > 0x20 && t->s[i] < 0x7f);
    }
}


static size_t
fuzz_write(const gate_url_t *u, char *s, size_t size)
{
    size_t    n;
    unsigned  i;

    n = (size_t) snprintf(s, size, "%s%s%.*s%s",
                          u->local ? "unix:" : u->tls ? "rediss" : "redis",
                          u->local ? "" : u->sentinel ? "+sentinel://"
                                                      : "://",
                          (int) u->user.len, u->user.s,
                          u->user.len ? "@" : "");

    if (u->local) {
        return n + (size_t) snprintf(s + n, size - n, "%.*s?db=%u",
                                     (int) u->path.len, u->path.s, u->db);
    }

    for (i = 0; i < u->nhosts; i++) {
        n += (size_t) snprintf(s + n, size - n, "%s%s%.*s%s:%u",
                               i ? "," : "", u->host[i].ipv6 ? "[" : "",
                               (int) u->host[i].name.len,
                               u->host[i].name.s,
                               u->host[i].ipv6 ? "]" : "", u->host[i].port);
    }

    if (u->sentinel) {
        n += (size_t) snprintf(s + n, size - n, "/%.*s",
                               (int) u->master.len, u->master.s);
    }

    return n + (size_t) snprintf(s + n, size - n, "/%u", u->db);
}


static int
fuzz_same(const gate_url_text_t *a, const gate_url_text_t *b)
{
    return a->len == b->len
           && (a->len == 0 || memcmp(a->s, b->s, a->len) == 0);
}


static void
fuzz_valid(const gate_url_t *u, const unsigned char *data, size_t size)
{
    char         text[8192];
    size_t       n;
    unsigned     i;
    const char  *why;
    gate_url_t   v;

    fuzz_text(&u->user, data, size);
    fuzz_text(&u->master, data, size);
    fuzz_text(&u->path, data, size);

    fuzz_check(u->local ? u->path.len > 0 && u->nhosts == 0
                        : u->nhosts > 0 && u->nhosts <= GATE_URL_HOSTS);
    fuzz_check(!u->sentinel == (u->master.len == 0));
    fuzz_check(u->db <= GATE_URL_DB_MAX);

    for (i = 0; i < u->nhosts; i++) {
        fuzz_text(&u->host[i].name, data, size);
        fuzz_check(u->host[i].name.len > 0);
        fuzz_check(u->host[i].port >= 1 && u->host[i].port <= 65535);
    }

    n = fuzz_write(u, text, sizeof(text));
    fuzz_check(n < sizeof(text));
    fuzz_check(gate_url_parse((unsigned char *) text, n, &v, &why) == 0);
    fuzz_check(v.tls == u->tls && v.sentinel == u->sentinel
               && v.local == u->local && v.db == u->db
               && v.nhosts == u->nhosts);
    fuzz_check(fuzz_same(&u->user, &v.user));
    fuzz_check(fuzz_same(&u->master, &v.master));
    fuzz_check(fuzz_same(&u->path, &v.path));

    for (i = 0; i < u->nhosts; i++) {
        fuzz_check(fuzz_same(&u->host[i].name, &v.host[i].name));
        fuzz_check(u->host[i].port == v.host[i].port);
    }
}


int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    int          rc;
    size_t       i, at, colon;
    const char  *why;
    gate_url_t   u;

    why = NULL;
    rc = gate_url_parse(data, size, &u, &why);

    if (rc != 0) {
        fuzz_check(rc == -1 && why != NULL && why[0] != '\0');
        return 0;
    }

    fuzz_valid(&u, data, size);

    if (!u.local) {
        at = 0;
        colon = 0;

        for (i = 0; i < size; i++) {
            if (data[i] == '@') {
                at = i;
                colon = 0;
            }
        }

        for (i = 0; i < at; i++) {
            colon += (data[i] == ':');
        }

        /* that of the scheme */

        fuzz_check(colon <= 1);
    }

    return 0;
}

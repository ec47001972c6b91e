
#include "../../src/core/gate_parse.c"
#include "../../src/core/gate_url.c"

#include "tap.h"


static int
test_parse(const char *s, gate_url_t *u, const char **why)
{
    int             rc;
    static unsigned char  *in;

    /* what the result points to lives until the next call */

    free(in);
    in = tap_copy(s, strlen(s));

    *why = NULL;
    rc = gate_url_parse(in, strlen(s), u, why);

    return rc;
}


static int
test_text(gate_url_text_t *t, const char *s)
{
    return t->len == strlen(s)
           && (t->len == 0 || memcmp(t->s, s, t->len) == 0);
}


/* scheme: tls, sentinel, local */

static void
test_good(const char *s, const char *scheme, const char *user,
    const char *hosts, const char *rest, unsigned db)
{
    char              text[1024];
    size_t            n;
    unsigned          i;
    const char       *why;
    gate_url_t        u;
    gate_url_host_t  *h;

    if (test_parse(s, &u, &why) != 0) {
        tap_ok(0, "%s is accepted", s);
        printf("# %s\n", why);
        return;
    }

    n = 0;
    text[0] = '\0';

    for (i = 0; i < u.nhosts; i++) {
        h = &u.host[i];
        n += (size_t) snprintf(text + n, sizeof(text) - n, "%s%.*s%s %u",
                               i ? "," : "", (int) h->name.len, h->name.s,
                               h->ipv6 ? " 6" : "", h->port);
    }

    tap_ok(u.tls == (scheme[0] == '1') && u.sentinel == (scheme[1] == '1')
           && u.local == (scheme[2] == '1') && test_text(&u.user, user)
           && strcmp(text, hosts) == 0 && u.db == db
           && test_text(u.local ? &u.path : &u.master, rest),
           "%s", s);
}


static void
test_bad(const char *s, const char *part)
{
    int          rc;
    const char  *why;
    gate_url_t   u;

    rc = test_parse(s, &u, &why);

    tap_ok(rc == -1 && why && strstr(why, part), "%s is refused", s);

    if (rc == -1 && why) {
        printf("# %s\n", why);
    }
}


static void
test_hosts(void)
{
    size_t       n;
    unsigned     i;
    const char  *why;
    gate_url_t   u;
    char         s[1024];

    n = (size_t) snprintf(s, sizeof(s), "redis://h");

    for (i = 1; i < GATE_URL_HOSTS; i++) {
        n += (size_t) snprintf(s + n, sizeof(s) - n, ",h%u", i);
    }

    tap_ok(test_parse(s, &u, &why) == 0 && u.nhosts == GATE_URL_HOSTS,
           "16 hosts are accepted");

    snprintf(s + n, sizeof(s) - n, ",x");
    test_bad(s, "16 hosts");

    memset(s, 'a', sizeof(s));
    memcpy(s, "redis://", 8);
    s[8 + 256] = '\0';
    test_bad(s, "255 characters");
    s[8 + 255] = '\0';
    tap_ok(test_parse(s, &u, &why) == 0, "a host of 255 characters");

    memset(s, 'a', sizeof(s));
    memcpy(s, "unix:/", 6);
    s[5 + 108] = '\0';
    test_bad(s, "107 characters");
    s[5 + 107] = '\0';
    tap_ok(test_parse(s, &u, &why) == 0 && u.path.len == 107,
           "a path of 107 characters");
}


int
main(void)
{
    test_good("redis://localhost", "000", "", "localhost 6379", "", 0);
    test_good("redis://localhost/", "000", "", "localhost 6379", "", 0);
    test_good("redis://127.0.0.1:7000/3", "000", "", "127.0.0.1 7000", "", 3);
    test_good("redis://gate@h/0", "000", "gate", "h 6379", "", 0);
    test_good("rediss://gate-1.x@redis.internal:6380/15", "100", "gate-1.x",
              "redis.internal 6380", "", 15);
    test_good("redis://[::1]:7000,[2001:db8::2],h:1", "000", "",
              "::1 6 7000,2001:db8::2 6 6379,h 1", "", 0);
    test_good("redis+sentinel://h1:26379,h2/mymaster/2", "010", "",
              "h1 26379,h2 26379", "mymaster", 2);
    test_good("redis+sentinel://h1/mymaster", "010", "", "h1 26379",
              "mymaster", 0);
    test_good("rediss+sentinel://u@h1:1/m.y-m_1/", "110", "u", "h1 1",
              "m.y-m_1", 0);
    test_good("unix:/run/redis.sock", "001", "", "", "/run/redis.sock", 0);
    test_good("unix:/run/redis.sock?db=2", "001", "", "", "/run/redis.sock",
              2);
    test_good("unix:gate@/run/r@1:x.sock", "001", "gate", "",
              "/run/r@1:x.sock", 0);
    test_good("unix:/run/r@1:x.sock", "001", "", "", "/run/r@1:x.sock", 0);
    test_good("unix:/run/redis.sock/2", "001", "", "",
              "/run/redis.sock/2", 0);

    /* a password is never taken, and never quoted */

    test_bad("redis://user:secret@h", "password_file=");
    test_bad("redis://:secret@h", "password_file=");
    test_bad("redis://:se/cr@et@h/0", "password_file=");
    test_bad("rediss+sentinel://user:secret@h/m", "password_file=");
    test_bad("unix:user:secret@/run/redis.sock", "password_file=");
    test_bad("redis://:@h", "password_file=");

    test_bad("", "must begin with");
    test_bad("localhost:6379", "must begin with");
    test_bad("REDIS://localhost", "must begin with");
    test_bad("http://localhost", "must begin with");
    test_bad("redis:/localhost", "must begin with");

    test_bad("redis://", "must not be empty");
    test_bad("redis://h,", "must not be empty");
    test_bad("redis://,h", "must not be empty");
    test_bad("redis:///0", "must not be empty");
    test_bad("redis://:6379", "must not be empty");
    test_bad("redis://[]", "must not be empty");
    test_bad("redis://h:0", "from 1 to 65535");
    test_bad("redis://h:65536", "from 1 to 65535");
    test_bad("redis://h:", "from 1 to 65535");
    test_bad("redis://h:+1", "from 1 to 65535");
    test_bad("redis://h:99999999999999999999", "from 1 to 65535");
    test_bad("redis://[::1]6379", "from 1 to 65535");
    test_bad("redis://::1", "brackets");
    test_bad("redis://[::1", "not closed");
    test_bad("redis://[localhost]", "IPv6");
    test_bad("redis://h!x", "letters, digits");
    test_bad("redis://h?db=2", "letters, digits");

    test_bad("redis://h/x", "from 0 to 65535");
    test_bad("redis://h/-1", "from 0 to 65535");
    test_bad("redis://h/65536", "from 0 to 65535");
    test_bad("redis://h/0/", "from 0 to 65535");

    test_bad("redis+sentinel://h1", "master is missing");
    test_bad("redis+sentinel://h1/", "name of the master");
    test_bad("redis+sentinel://h1//0", "name of the master");
    test_bad("redis+sentinel://h1/my+master", "name of the master");
    test_bad("redis+sentinel://h1/m/x", "from 0 to 65535");

    test_bad("redis://@h", "1 to 128 characters");
    test_bad("redis://a,b@h", "the name of the user");
    test_bad("redis://a@b@h", "the name of the user");

    test_bad("unix:", "begin with \"/\"");
    test_bad("unix:run/redis.sock", "begin with \"/\"");
    test_bad("unix:?db=1", "begin with \"/\"");
    test_bad("unix:/s?db=", "from 0 to 65535");
    test_bad("unix:/s?db=x", "from 0 to 65535");
    test_bad("unix:/s?", "only \"?db=N\"");
    test_bad("unix:/s?x=1", "only \"?db=N\"");

    test_bad("redis://h\n", "printable");
    test_bad("redis://h /0", "printable");
    test_bad("redis://h%20", "printable");
    test_bad("redis://\xc3\xa4", "printable");
    test_bad("unix:/a\"b", "printable");

    test_hosts();

    return tap_done();
}


/*
 * fleet-probe: how long it takes until every worker of every node has heard.
 *
 * It keeps one connection to each worker (told apart by the X-Pid header of
 * their answers), sends SET and DEL to Redis itself, and asks all workers
 * again and again, from the moment the command goes out until each has
 * answered accordingly.  What counts is the time from Redis's reply to the
 * last of these answers.  Between toggles it keeps asking, less often:
 * an answer that is not what it should be by then is a flap.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>


#define CONNS_MAX   256
#define TRIES_MAX   2000
#define BURST       8
#define IDLE_US     5000
#define SLOW_US     100000


struct conn {
    int       fd;
    int       node;
    long      pid;
    int       waiting;        /* for an answer */
    int       done;           /* it has answered accordingly */
    uint64_t  at;             /* when it did */
    uint64_t  sent;
    size_t    len;
    char      buf[16384];
};


static const char   *path, *password;
static const char   *key = "gate:maintenance";
static const char   *value = "on";
static const char   *uri = "/";
static int           toggles = 100;
static int           status_on = 503, status_off = 200;
static uint64_t      interval = 500;
static uint64_t      pause_us = 20000;
static uint64_t      timeout_us = 5000000;

static struct conn   conns[CONNS_MAX];
static int           nconns;
static char          request[4096];
static int           redis;

static uint64_t      answers, strange, flaps, timeouts, slow;
static uint64_t     *latency;
static int           nlatency;


static void __attribute__((format(printf, 1, 2), noreturn))
fatal(const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);
    fprintf(stderr, "fleet-probe: ");
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "\n");
    va_end(args);

    exit(2);
}


static uint64_t
clock_us(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}


static void
write_all(int fd, const char *p, size_t len)
{
    ssize_t  n;

    while (len) {
        n = write(fd, p, len);

        if (n < 0 && errno != EINTR && errno != EAGAIN) {
            fatal("write: %s", strerror(errno));
        }

        if (n > 0) {
            p += n;
            len -= (size_t) n;
        }
    }
}


/* Redis: one command at a time. */

static void
redis_open(void)
{
    struct sockaddr_un  sun;

    memset(&sun, 0, sizeof(sun));
    sun.sun_family = AF_UNIX;

    if (strlen(path) >= sizeof(sun.sun_path)) {
        fatal("the path is too long: %s", path);
    }

    strcpy(sun.sun_path, path);
    redis = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (redis < 0
        || connect(redis, (struct sockaddr *) &sun, sizeof(sun)) != 0)
    {
        fatal("connect %s: %s", path, strerror(errno));
    }
}


static void
redis_send(int n, const char **arg)
{
    int     i;
    char    buf[8192];
    size_t  len;

    len = (size_t) sprintf(buf, "*%d\r\n", n);

    for (i = 0; i < n; i++) {
        if (len + strlen(arg[i]) + 64 > sizeof(buf)) {
            fatal("the command is too long");
        }

        len += (size_t) sprintf(buf + len, "$%zu\r\n%s\r\n", strlen(arg[i]),
                                arg[i]);
    }

    write_all(redis, buf, len);
}


/* The reply is one short line; an error ends the program. */

static void
redis_reply(void)
{
    char     buf[512];
    size_t   len;
    ssize_t  n;

    for (len = 0; len < 2 || buf[len - 1] != '\n'; len += (size_t) n) {
        n = read(redis, buf + len, sizeof(buf) - 1 - len);

        if (n <= 0) {
            fatal("redis: no reply");
        }
    }

    buf[len] = '\0';

    if (buf[0] != '+' && buf[0] != ':') {
        fatal("redis: %s", buf);
    }
}


/* A connection to a worker. */

static void
conn_open(struct conn *c, int node, int port)
{
    int                 one = 1;
    struct sockaddr_in  sin;

    memset(c, 0, sizeof(*c));
    memset(&sin, 0, sizeof(sin));
    sin.sin_family = AF_INET;
    sin.sin_port = htons((uint16_t) port);
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    c->node = node;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (c->fd < 0
        || connect(c->fd, (struct sockaddr *) &sin, sizeof(sin)) != 0)
    {
        fatal("connect to port %d: %s", port, strerror(errno));
    }

    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
}


static void
conn_ask(struct conn *c, uint64_t now)
{
    c->waiting = 1;
    c->sent = now;
    c->len = 0;
    write_all(c->fd, request, strlen(request));
}


static const char *
header(struct conn *c, const char *name)
{
    char  *p;

    for (p = strstr(c->buf, "\r\n"); p; p = strstr(p, "\r\n")) {
        p += 2;

        if (strncasecmp(p, name, strlen(name)) == 0
            && p[strlen(name)] == ':')
        {
            p += strlen(name) + 1;
            return p + strspn(p, " ");
        }

        if (*p == '\r') {
            break;
        }
    }

    return NULL;
}


/* Reads what there is: the status of a complete answer, or 0. */

static int
conn_read(struct conn *c)
{
    char        *end;
    ssize_t      n;
    size_t       length;
    const char  *h;

    n = read(c->fd, c->buf + c->len, sizeof(c->buf) - 1 - c->len);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }

    if (n <= 0) {
        fatal("a worker of node %d closed: %s", c->node,
              n ? strerror(errno) : "end of file");
    }

    c->len += (size_t) n;
    c->buf[c->len] = '\0';

    end = strstr(c->buf, "\r\n\r\n");
    if (end == NULL) {
        return 0;
    }

    h = header(c, "content-length");
    if (h == NULL) {
        fatal("node %d: an answer without a length", c->node);
    }

    length = strtoul(h, NULL, 10);
    if ((size_t) (end + 4 - c->buf) + length > sizeof(c->buf) - 1) {
        fatal("node %d: the answer is too long", c->node);
    }

    if (c->len < (size_t) (end + 4 - c->buf) + length) {
        return 0;
    }

    c->waiting = 0;
    answers++;

    return atoi(c->buf + 9);
}


/* One connection to each worker of the node; the kernel picks who accepts. */

static void
pin(int node, int port, int workers)
{
    int            i, k, found, tries, spare;
    long           pid;
    struct pollfd  pfd;
    struct conn   *c, *burst;

    burst = malloc(BURST * sizeof(struct conn));
    if (burst == NULL) {
        fatal("out of memory");
    }

    found = 0;

    for (tries = 0; found < workers; tries += BURST) {
        if (tries >= TRIES_MAX) {
            fatal("node %d: found %d of %d workers", node, found, workers);
        }

        for (i = 0; i < BURST; i++) {
            conn_open(&burst[i], node, port);
            conn_ask(&burst[i], clock_us());
        }

        for (i = 0; i < BURST; i++) {
            c = &burst[i];
            pfd.fd = c->fd;
            pfd.events = POLLIN;

            while (conn_read(c) == 0) {
                if (poll(&pfd, 1, (int) (timeout_us / 1000)) == 0) {
                    fatal("node %d does not answer", node);
                }
            }

            if (header(c, "x-pid") == NULL) {
                fatal("node %d: no X-Pid", node);
            }

            pid = strtol(header(c, "x-pid"), NULL, 10);
            spare = found == workers;

            for (k = 0; k < nconns; k++) {
                spare |= conns[k].node == node && conns[k].pid == pid;
            }

            if (spare) {
                close(c->fd);
                continue;
            }

            if (nconns == CONNS_MAX) {
                fatal("too many workers");
            }

            c->pid = pid;
            conns[nconns++] = *c;
            found++;
        }
    }

    free(burst);
}


/*
 * Asks everybody once per "every" us, and not at all who is done when that
 * is wanted; returns at the first event or when the next question is due.
 */

static int
turn(uint64_t every, int all, int want, int with_redis, uint64_t limit)
{
    int              i, n, status;
    uint64_t         now, due, next;
    struct pollfd    pfd[CONNS_MAX + 1];
    struct conn     *c;
    struct timespec  ts;

    now = clock_us();
    next = limit;

    for (i = 0; i < nconns; i++) {
        c = &conns[i];
        pfd[i].fd = c->fd;
        pfd[i].events = POLLIN;

        if (c->waiting || (c->done && !all)) {
            continue;
        }

        due = c->sent + every;

        if (due <= now) {
            conn_ask(c, now);

        } else if (due < next) {
            next = due;
        }
    }

    pfd[nconns].fd = with_redis ? redis : -1;
    pfd[nconns].events = POLLIN;
    pfd[nconns].revents = 0;

    due = next > now ? next - now : 0;
    ts.tv_sec = (time_t) (due / 1000000);
    ts.tv_nsec = (long) (due % 1000000) * 1000;

    n = ppoll(pfd, (nfds_t) nconns + 1, &ts, NULL);
    if (n < 0 && errno != EINTR) {
        fatal("ppoll: %s", strerror(errno));
    }

    for (i = 0; n > 0 && i < nconns; i++) {
        if (!pfd[i].revents) {
            continue;
        }

        c = &conns[i];
        status = conn_read(c);

        if (status == 0) {
            continue;
        }

        strange += status != status_on && status != status_off;

        if (status == want && !c->done) {
            c->done = 1;
            c->at = clock_us();

        } else if (status != want && c->done) {
            flaps++;
        }
    }

    return n > 0 && pfd[nconns].revents;
}


static void
toggle(int on)
{
    int          i, left, want;
    uint64_t     replied, start, last, end;
    const char  *set[] = { "SET", key, value };
    const char  *del[] = { "DEL", key };

    want = on ? status_on : status_off;

    for (i = 0; i < nconns; i++) {
        conns[i].done = 0;
        conns[i].sent = 0;
    }

    start = clock_us();
    end = start + timeout_us;
    replied = 0;
    redis_send(on ? 3 : 2, on ? set : del);

    do {
        if (turn(interval, 0, want, replied == 0, end)) {
            redis_reply();
            replied = clock_us();
        }

        left = 0;
        last = 0;

        for (i = 0; i < nconns; i++) {
            left += !conns[i].done;

            if (conns[i].at > last) {
                last = conns[i].at;
            }
        }

        if (clock_us() > end) {
            timeouts++;
            last = end;
            break;
        }

    } while (left || replied == 0);

    /* the workers may be faster than the reply */

    latency[nlatency] = last > replied ? last - replied : 0;
    slow += latency[nlatency++] > SLOW_US;

    /* answers that were asked for before are none to this */

    end = clock_us() + pause_us;

    while (clock_us() < end) {
        turn(IDLE_US, 1, want, 0, end);
    }

    for (i = 0; i < nconns; i++) {
        while (conns[i].waiting) {
            turn(UINT32_MAX, 1, want, 0, clock_us() + timeout_us);
        }
    }
}


static int
by_value(const void *one, const void *two)
{
    uint64_t  a = *(const uint64_t *) one, b = *(const uint64_t *) two;

    return a < b ? -1 : a > b;
}


static unsigned long long
percentile(double p)
{
    int  i = (int) (p * nlatency + 0.999999) - 1;

    return latency[i < 0 ? 0 : i >= nlatency ? nlatency - 1 : i];
}


static void
options(int argc, char **argv)
{
    int  opt;

    while ((opt = getopt(argc, argv, "s:a:k:v:u:n:o:f:i:p:t:")) != -1) {
        switch (opt) {
        case 's': path = optarg; break;
        case 'a': password = optarg; break;
        case 'k': key = optarg; break;
        case 'v': value = optarg; break;
        case 'u': uri = optarg; break;
        case 'n': toggles = atoi(optarg); break;
        case 'o': status_on = atoi(optarg); break;
        case 'f': status_off = atoi(optarg); break;
        case 'i': interval = (uint64_t) atol(optarg); break;
        case 'p': pause_us = (uint64_t) (atof(optarg) * 1000); break;
        case 't': timeout_us = (uint64_t) (atof(optarg) * 1000); break;
        default: exit(2);
        }
    }

    if (path == NULL || optind == argc || toggles < 1) {
        fatal("usage: fleet-probe -s socket of redis [-a password] [-k key] "
              "[-v value] [-u uri] [-n toggles] [-o status when on] "
              "[-f status when off] [-i us] [-p ms] [-t ms] "
              "port:workers ...");
    }
}


int
main(int argc, char **argv)
{
    int          i, port, workers;
    const char  *auth[2];

    options(argc, argv);

    snprintf(request, sizeof(request),
             "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", uri);
    latency = calloc((size_t) toggles, sizeof(uint64_t));
    if (latency == NULL) {
        fatal("out of memory");
    }

    redis_open();

    if (password) {
        auth[0] = "AUTH";
        auth[1] = password;
        redis_send(2, auth);
        redis_reply();
    }

    for (i = optind; i < argc; i++) {
        if (sscanf(argv[i], "%d:%d", &port, &workers) != 2) {
            fatal("not port:workers: %s", argv[i]);
        }

        pin(i - optind, port, workers);
    }

    for (i = 0; i < toggles; i++) {
        toggle(i % 2 == 0);
    }

    qsort(latency, (size_t) nlatency, sizeof(uint64_t), by_value);

    printf("{\"n\": %d, \"workers\": %d, \"p50\": %llu, \"p99\": %llu, "
           "\"max\": %llu, \"slow\": %llu, \"timeouts\": %llu, "
           "\"flaps\": %llu, \"strange\": %llu, \"answers\": %llu}\n",
           nlatency, nconns, percentile(0.5), percentile(0.99),
           percentile(1), (unsigned long long) slow,
           (unsigned long long) timeouts, (unsigned long long) flaps,
           (unsigned long long) strange, (unsigned long long) answers);

    return 0;
}

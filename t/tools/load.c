
/*
 * load: an open-loop HTTP load generator for the tests.
 *
 * Requests become due at a fixed rate, whether or not the earlier ones have
 * been answered.  A due request opens a new connection while there are fewer
 * than -c, otherwise it goes to the connection that has been idle longest,
 * otherwise it waits.  Latency counts from the moment a request was due.
 * With -P they become due at random, at that rate on average, as they do where
 * many callers do not know of one another.
 *
 * Every request sent ends up in exactly one of "answered" and "errors".
 */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>


#define HEAD_MAX    65536
#define VALUE_MAX   64
#define NAMES_MAX   4
#define COUNTS_MAX  256
#define TICK_US     5000


enum error {
    ERR_NONE = 0,
    ERR_CONNECT_REFUSED,
    ERR_CONNECT_OTHER,
    ERR_RESET,
    ERR_EOF_BEFORE_ANSWER,
    ERR_EOF_MID_BODY,
    ERR_TIMEOUT,
    ERR_BAD_RESPONSE,
    ERR_LAST
};

static const char  *error_name[] = {
    "-", "connect_refused", "connect_other", "reset", "eof_before_answer",
    "eof_mid_body", "timeout", "bad_response"
};


enum state { CLOSED = 0, CONNECTING, IDLE, WRITING, READING };

enum part { HEAD, BODY_LENGTH, BODY_EOF, CHUNK_SIZE, CHUNK_DATA, CHUNK_END,
            TRAILER, COMPLETE };


struct conn {
    int            fd;
    enum state     state;
    unsigned long  serial;       /* counts connections, from 1 */
    int            lport;
    int            used;         /* it has answered before */
    struct conn   *prev, *next;  /* in the list of idle connections */

    /* the request */

    uint64_t       n;
    uint64_t       due, start;
    int            retried;
    char          *out;
    size_t         out_len, out_sent;

    /* the answer */

    enum part      part;
    char          *head;
    size_t         head_len;
    int            status;
    int            close;
    uint64_t       left;         /* of the body or the chunk */
    size_t         line_len;     /* of a chunk size or trailer line */
    char           line[32];
    char           value[NAMES_MAX][VALUE_MAX];
};


struct count {
    char           value[VALUE_MAX];
    uint64_t       n;
};


/* what was asked for */

static double        rate = 1000;
static double        duration;
static uint64_t      number = UINT64_MAX;
static int           poisson;
static int           max_conns = 50;
static int           keepalive = 1;
static int           retry = 1;
static uint64_t      timeout_us = 10000000;
static const char   *method = "GET";
static const char   *body = "";
static const char   *uri;
static char          host[256];
static const char   *header[64];
static int           nheaders;
static const char   *name[NAMES_MAX];
static int           nnames;
static FILE         *logfile;

static struct sockaddr_storage  addr;
static socklen_t                addr_len;

/* what happened */

static uint64_t      sent, answered, retried, opened, delayed;
static uint64_t      errors[ERR_LAST];
static uint64_t      by_status[600];
static struct count  counts[NAMES_MAX][COUNTS_MAX];
static uint32_t     *latency;
static size_t        nlatency, latency_size;

static struct conn  *conns;
static struct conn   idle;       /* the head of the list */
static int           nopen, nbusy;
static int           ep;
static uint64_t      now;

static volatile sig_atomic_t  stopping;


static void drive(struct conn *c);


static void __attribute__((format(printf, 1, 2)))
fatal(const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);
    fprintf(stderr, "load: ");
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "\n");
    va_end(args);

    exit(2);
}


static void *
alloc(void *p, size_t size)
{
    p = realloc(p, size);
    if (p == NULL) {
        fatal("out of memory");
    }

    return p;
}


static uint64_t
clock_us(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}


static void
on_signal(int signo)
{
    (void) signo;

    if (stopping++) {
        _exit(3);
    }
}


/* Appends the text with the running number in place of each %d. */

static void
append(struct conn *c, const char *text)
{
    size_t       len;
    const char  *p;

    for ( ;; ) {
        p = strstr(text, "%d");
        len = p ? (size_t) (p - text) : strlen(text);

        c->out = alloc(c->out, c->out_len + len + 32);
        memcpy(c->out + c->out_len, text, len);
        c->out_len += len;

        if (p == NULL) {
            return;
        }

        c->out_len += (size_t) sprintf(c->out + c->out_len, "%llu",
                                       (unsigned long long) c->n);
        text = p + 2;
    }
}


static void
append_raw(struct conn *c, const char *text, size_t len)
{
    c->out = alloc(c->out, c->out_len + len + 1);
    memcpy(c->out + c->out_len, text, len);
    c->out_len += len;
}


static void
build_request(struct conn *c)
{
    int   i, have_host;
    char  line[64];

    c->out_len = 0;
    have_host = 0;

    append(c, method);
    append(c, " ");
    append(c, uri);
    append(c, " HTTP/1.1\r\n");

    for (i = 0; i < nheaders; i++) {
        have_host |= strncasecmp(header[i], "host:", 5) == 0;
        append(c, header[i]);
        append(c, "\r\n");
    }

    if (!have_host) {
        append(c, "Host: ");
        append(c, host);
        append(c, "\r\n");
    }

    if (!keepalive) {
        append(c, "Connection: close\r\n");
    }

    if (*body) {
        sprintf(line, "Content-Length: %zu\r\n", strlen(body));
        append(c, line);
    }

    append(c, "\r\n");
    append_raw(c, body, strlen(body));
}


static void
idle_remove(struct conn *c)
{
    c->prev->next = c->next;
    c->next->prev = c->prev;
}


static void
idle_add(struct conn *c)
{
    c->state = IDLE;
    c->prev = idle.prev;
    c->next = &idle;
    idle.prev->next = c;
    idle.prev = c;
}


static void
close_conn(struct conn *c)
{
    if (c->state == IDLE) {
        idle_remove(c);
    }

    if (c->fd >= 0) {
        close(c->fd);
    }

    c->fd = -1;
    c->state = CLOSED;
    nopen--;
}


static void
count_value(int i, const char *value)
{
    int            k;
    struct count  *e;

    for (k = 0; k < COUNTS_MAX; k++) {
        e = &counts[i][k];

        if (e->n == 0) {
            strcpy(e->value, k == COUNTS_MAX - 1 ? "(other)" : value);
        }

        if (k == COUNTS_MAX - 1 || strcmp(e->value, value) == 0) {
            e->n++;
            return;
        }
    }
}


/* The request is over, for better or worse. */

static void
finish(struct conn *c, enum error err)
{
    int  i;

    nbusy--;

    if (err == ERR_NONE) {
        answered++;
        by_status[c->status]++;

        if (nlatency == latency_size) {
            latency_size = latency_size ? 2 * latency_size : 4096;
            latency = alloc(latency, latency_size * sizeof(uint32_t));
        }

        latency[nlatency++] = (uint32_t) (now - c->due);

        for (i = 0; i < nnames; i++) {
            count_value(i, c->value[i][0] ? c->value[i] : "(none)");
        }

    } else {
        errors[err]++;
    }

    if (logfile) {
        fprintf(logfile, "%llu %llu %d %s ", (unsigned long long) c->start,
                (unsigned long long) now, c->status, error_name[err]);

        for (i = 0; i < nnames; i++) {
            fprintf(logfile, "%s%s", i ? "," : "",
                    c->value[i][0] ? c->value[i] : "-");
        }

        fprintf(logfile, "%s %lu %d %llu\n", nnames ? "" : "-", c->serial,
                c->lport, (unsigned long long) c->n);
    }

    if (err == ERR_NONE && keepalive && !c->close) {
        c->used = 1;
        idle_add(c);

    } else {
        close_conn(c);
    }
}


static void
connect_failed(struct conn *c, int err)
{
    finish(c, err == ECONNREFUSED ? ERR_CONNECT_REFUSED : ERR_CONNECT_OTHER);
}


static void
open_conn(struct conn *c)
{
    int                 one = 1;
    socklen_t           len;
    struct epoll_event  ev;
    struct sockaddr_in  sin;

    opened++;
    nopen++;
    c->serial = opened;
    c->used = 0;
    c->lport = 0;
    c->state = CONNECTING;

    c->fd = socket(addr.ss_family,
                   SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        connect_failed(c, errno);
        return;
    }

    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));

    if (connect(c->fd, (struct sockaddr *) &addr, addr_len) != 0
        && errno != EINPROGRESS)
    {
        connect_failed(c, errno);
        return;
    }

    len = sizeof(sin);
    if (getsockname(c->fd, (struct sockaddr *) &sin, &len) == 0) {
        c->lport = ntohs(sin.sin_port);
    }

    ev.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    ev.data.ptr = c;

    if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) != 0) {
        fatal("epoll_ctl: %s", strerror(errno));
    }
}


static void
reset_answer(struct conn *c)
{
    c->part = HEAD;
    c->head_len = 0;
    c->status = 0;
    c->close = 0;
    c->out_sent = 0;
    memset(c->value, 0, sizeof(c->value));
}


/*
 * The server may close a kept connection just when we reuse it; a request
 * that got no byte of an answer is then sent again, once, on a new one.
 */

static void
broken(struct conn *c, enum error err)
{
    if (retry && c->used && !c->retried && c->part == HEAD
        && c->head_len == 0 && c->status == 0)
    {
        retried++;
        c->retried = 1;
        close_conn(c);
        reset_answer(c);
        open_conn(c);
        return;
    }

    finish(c, err);
}


/* Starts a request on the connection, which is idle or closed. */

static void
start_request(struct conn *c, uint64_t due)
{
    c->n = ++sent;
    c->due = due;
    c->start = now;
    c->retried = 0;
    nbusy++;

    build_request(c);
    reset_answer(c);

    if (c->state == CLOSED) {
        open_conn(c);
        return;
    }

    idle_remove(c);
    c->state = WRITING;
    drive(c);
}


/* Finds a connection for a new request; NULL if all are busy. */

static struct conn *
take_conn(void)
{
    int         i;
    static int  last;

    if (nopen < max_conns) {
        for (i = 0; i < max_conns; i++) {
            last = (last + 1) % max_conns;
            if (conns[last].state == CLOSED) {
                return &conns[last];
            }
        }
    }

    return idle.next == &idle ? NULL : idle.next;
}


static void
keep_value(struct conn *c, const char *line, const char *colon)
{
    int          i;
    char        *dst;
    size_t       k;
    const char  *p;

    for (i = 0; i < nnames; i++) {
        if (strlen(name[i]) != (size_t) (colon - line)
            || strncasecmp(name[i], line, (size_t) (colon - line)) != 0)
        {
            continue;
        }

        dst = c->value[i];
        p = colon + 1;
        p += strspn(p, " \t");

        /* keeps log lines and JSON strings in one piece */

        for (k = 0; p[k] && k < VALUE_MAX - 1; k++) {
            dst[k] = p[k];
            if (p[k] <= ' ' || p[k] > '~' || strchr("\"\\,", p[k])) {
                dst[k] = '_';
            }
        }

        dst[k] = '\0';
    }
}


/* Parses the head; it ends with an empty line.  False if it is nonsense. */

static int
parse_head(struct conn *c)
{
    int        chunked, has_length;
    char      *p, *end, *eol, *colon, *value;
    uint64_t   length;

    p = c->head;
    end = p + c->head_len - 2;
    c->head[c->head_len] = '\0';

    if (strlen(p) != c->head_len || strncmp(p, "HTTP/1.", 7) != 0
        || p[8] != ' ' || strspn(p + 9, "0123456789") != 3)
    {
        return 0;
    }

    c->status = atoi(p + 9);
    c->close = p[7] == '0';

    if (c->status < 100 || c->status > 599) {
        c->status = 0;
        return 0;
    }

    chunked = 0;
    has_length = 0;
    length = 0;

    for (p = strstr(p, "\r\n") + 2; p < end; p = eol + 2) {
        eol = strstr(p, "\r\n");
        *eol = '\0';

        colon = strchr(p, ':');
        if (colon == NULL || colon == p) {
            return 0;
        }

        value = colon + 1 + strspn(colon + 1, " \t");
        keep_value(c, p, colon);

        if (strncasecmp(p, "content-length:", 15) == 0) {
            if (strspn(value, "0123456789") != strlen(value)) {
                return 0;
            }

            has_length = 1;
            length = strtoull(value, NULL, 10);

        } else if (strncasecmp(p, "transfer-encoding:", 18) == 0) {
            chunked = strcasecmp(value, "chunked") == 0;

        } else if (strncasecmp(p, "connection:", 11) == 0) {
            if (strcasecmp(value, "close") == 0) {
                c->close = 1;

            } else if (strcasecmp(value, "keep-alive") == 0) {
                c->close = 0;
            }
        }
    }

    if (c->status == 101) {
        c->close = 1;
        c->part = COMPLETE;

    } else if (c->status < 200) {
        c->part = HEAD;

    } else if (c->status == 204 || c->status == 304
               || strcmp(method, "HEAD") == 0)
    {
        c->part = COMPLETE;

    } else if (chunked) {
        c->part = CHUNK_SIZE;
        c->line_len = 0;

    } else if (has_length) {
        c->left = length;
        c->part = length ? BODY_LENGTH : COMPLETE;

    } else {
        c->close = 1;
        c->part = BODY_EOF;
    }

    return 1;
}


/* Takes bytes up to a line feed; true when the line is complete. */

static int
take_line(struct conn *c, const char **p, const char *end)
{
    while (*p < end) {
        char  ch = *(*p)++;

        if (ch == '\n') {
            c->line[c->line_len] = '\0';
            return 1;
        }

        /* the rest of a long line does not matter */

        if (ch != '\r' && c->line_len < sizeof(c->line) - 1) {
            c->line[c->line_len++] = ch;
        }
    }

    return 0;
}


static size_t
take_left(struct conn *c, const char *p, const char *end)
{
    size_t  n = (size_t) (end - p);

    if (n > c->left) {
        n = (size_t) c->left;
    }

    c->left -= n;
    return n;
}


/* Feeds bytes of the answer; false if they are no valid answer. */

static int
feed(struct conn *c, const char *p, const char *end)
{
    char  *stop;

    while (p < end && c->part != COMPLETE) {

        switch (c->part) {

        case HEAD:
            if (c->head_len >= HEAD_MAX - 1) {
                return 0;
            }

            c->head[c->head_len++] = *p++;

            if (c->head_len >= 4
                && memcmp(c->head + c->head_len - 4, "\r\n\r\n", 4) == 0)
            {
                if (!parse_head(c)) {
                    return 0;
                }

                c->head_len = 0;
            }

            break;

        case BODY_EOF:
            p = end;
            break;

        case BODY_LENGTH:
            p += take_left(c, p, end);
            if (c->left == 0) {
                c->part = COMPLETE;
            }

            break;

        case CHUNK_SIZE:
            if (!take_line(c, &p, end)) {
                break;
            }

            c->left = strtoull(c->line, &stop, 16);
            if (stop == c->line || (*stop && !strchr("; \t", *stop))) {
                return 0;
            }

            c->line_len = 0;
            c->part = c->left ? CHUNK_DATA : TRAILER;
            break;

        case CHUNK_DATA:
            p += take_left(c, p, end);
            if (c->left == 0) {
                c->part = CHUNK_END;
            }

            break;

        case CHUNK_END:
        case TRAILER:
            if (!take_line(c, &p, end)) {
                break;
            }

            if (c->part == CHUNK_END) {
                if (c->line_len) {
                    return 0;
                }

                c->part = CHUNK_SIZE;

            } else if (c->line_len == 0) {
                c->part = COMPLETE;
            }

            c->line_len = 0;
            break;

        case COMPLETE:
            break;
        }
    }

    /* an answer that goes on after its end */

    if (p < end) {
        c->close = 1;
    }

    return 1;
}


/* An idle connection has something to say: usually that it is closed. */

static void
check_idle(struct conn *c)
{
    char     ch;
    ssize_t  n;

    n = recv(c->fd, &ch, 1, 0);

    if (n >= 0 || (errno != EAGAIN && errno != EINTR)) {
        close_conn(c);
    }
}


static enum error
eof_error(struct conn *c)
{
    if (c->part != HEAD) {
        return ERR_EOF_MID_BODY;
    }

    if (c->head_len >= 5 && memcmp(c->head, "HTTP/", 5) != 0) {
        return ERR_BAD_RESPONSE;
    }

    return ERR_EOF_BEFORE_ANSWER;
}


static void
read_answer(struct conn *c)
{
    ssize_t      n;
    static char  buf[65536];

    for ( ;; ) {
        n = recv(c->fd, buf, sizeof(buf), 0);

        if (n < 0 && errno == EINTR) {
            continue;
        }

        if (n < 0 && errno == EAGAIN) {
            return;
        }

        /* it may have come while others were dealt with */

        now = clock_us();

        if (n < 0) {
            broken(c, ERR_RESET);
            return;
        }

        if (n == 0 && c->part == BODY_EOF) {
            finish(c, ERR_NONE);
            return;
        }

        if (n == 0) {
            broken(c, eof_error(c));
            return;
        }

        if (!feed(c, buf, buf + n)) {
            finish(c, ERR_BAD_RESPONSE);
            return;
        }

        if (c->part == COMPLETE) {
            c->close |= c->out_sent < c->out_len;
            finish(c, ERR_NONE);

            /* events are edge-triggered: the end may be there already */

            if (c->state == IDLE) {
                check_idle(c);
            }

            return;
        }
    }
}


static void
drive(struct conn *c)
{
    int        err;
    ssize_t    n;
    socklen_t  len;

    if (c->state == CONNECTING) {
        len = sizeof(err);
        err = 0;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);

        if (err) {
            connect_failed(c, err);
            return;
        }

        c->state = WRITING;
    }

    if (c->state == IDLE) {
        check_idle(c);
        return;
    }

    while (c->state == WRITING) {
        n = send(c->fd, c->out + c->out_sent, c->out_len - c->out_sent,
                 MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR) {
            continue;
        }

        if (n < 0 && errno == EAGAIN) {
            break;
        }

        if (n < 0) {
            /* there may be an answer nevertheless, or else an error */
            c->state = READING;
            break;
        }

        c->out_sent += (size_t) n;
        if (c->out_sent == c->out_len) {
            c->state = READING;
        }
    }

    read_answer(c);
}


static void
check_timeouts(uint64_t limit)
{
    int  i;

    for (i = 0; i < max_conns; i++) {
        if (conns[i].state != CLOSED && conns[i].state != IDLE
            && now - conns[i].start >= limit)
        {
            finish(&conns[i], ERR_TIMEOUT);
        }
    }
}


static void
set_timer(int fd, uint64_t when)
{
    struct itimerspec  its;

    memset(&its, 0, sizeof(its));
    its.it_value.tv_sec = (time_t) (when / 1000000);
    its.it_value.tv_nsec = (long) (when % 1000000) * 1000;

    timerfd_settime(fd, TFD_TIMER_ABSTIME, &its, NULL);
}


/* When the next request is due, us after the one before. */

static double
gap(void)
{
    double  mean = 1e6 / rate;

    return poisson ? -log(1 - drand48()) * mean : mean;
}


static double
run(void)
{
    int                 i, n, tfd;
    double              seconds, at;
    uint64_t            begin, due, end, stop, tick, next, ticks;
    struct conn        *c;
    struct epoll_event  ev, evs[256];

    ep = epoll_create1(EPOLL_CLOEXEC);
    tfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (ep < 0 || tfd < 0) {
        fatal("epoll: %s", strerror(errno));
    }

    ev.events = EPOLLIN;
    ev.data.ptr = NULL;
    epoll_ctl(ep, EPOLL_CTL_ADD, tfd, &ev);

    begin = now = clock_us();
    end = duration > 0 ? begin + (uint64_t) (duration * 1e6) : UINT64_MAX;
    at = 0;
    stop = 0;
    tick = now;

    for ( ;; ) {
        now = clock_us();

        if (now - tick >= TICK_US) {
            tick = now;
            check_timeouts(timeout_us);
        }

        if (!stop && (stopping || now >= end || sent >= number)) {
            stop = now;
        }

        due = begin + (uint64_t) at;

        while (!stop && due <= now && sent < number) {
            c = take_conn();
            if (c == NULL) {
                break;
            }

            if (now - due > 2 * TICK_US) {
                delayed++;
            }

            start_request(c, due);
            at += gap();
            due = begin + (uint64_t) at;
        }

        if (stop && nbusy == 0) {
            break;
        }

        /* when all connections are busy, only the tick matters */

        next = now + TICK_US;
        if (!stop && due > now && due < next) {
            next = due;
        }

        set_timer(tfd, next);

        n = epoll_wait(ep, evs, 256, -1);
        now = clock_us();

        for (i = 0; i < n; i++) {
            c = evs[i].data.ptr;

            if (c == NULL) {
                if (read(tfd, &ticks, sizeof(ticks)) < 0) {
                    continue;
                }

            } else if (c->state != CLOSED) {
                drive(c);
            }
        }
    }

    seconds = (double) (stop - begin) / 1e6;

    return seconds > 0 ? seconds : 1e-6;
}


static int
compare(const void *a, const void *b)
{
    uint32_t  x = *(const uint32_t *) a;
    uint32_t  y = *(const uint32_t *) b;

    return (x > y) - (x < y);
}


static unsigned
percentile(double p)
{
    size_t  i;

    if (nlatency == 0) {
        return 0;
    }

    i = (size_t) (p * (double) nlatency);

    return latency[i < nlatency ? i : nlatency - 1];
}


static void
report(double seconds)
{
    int          i, k;
    const char  *sep;

    if (nlatency) {
        qsort(latency, nlatency, sizeof(uint32_t), compare);
    }

    printf("{\"sent\":%llu,\"answered\":%llu,\"retried\":%llu,"
           "\"connections\":%llu,\"delayed\":%llu,\"seconds\":%.3f,"
           "\"rate\":%.1f,\"status\":{",
           (unsigned long long) sent, (unsigned long long) answered,
           (unsigned long long) retried, (unsigned long long) opened,
           (unsigned long long) delayed, seconds, (double) sent / seconds);

    sep = "";
    for (i = 0; i < 600; i++) {
        if (by_status[i]) {
            printf("%s\"%d\":%llu", sep, i,
                   (unsigned long long) by_status[i]);
            sep = ",";
        }
    }

    printf("},\"errors\":{");

    for (i = 1; i < ERR_LAST; i++) {
        printf("%s\"%s\":%llu", i > 1 ? "," : "", error_name[i],
               (unsigned long long) errors[i]);
    }

    printf("},\"latency\":{\"min\":%u,\"p50\":%u,\"p90\":%u,\"p99\":%u,"
           "\"p999\":%u,\"max\":%u},\"values\":{",
           percentile(0), percentile(0.5), percentile(0.9), percentile(0.99),
           percentile(0.999), percentile(1));

    for (i = 0; i < nnames; i++) {
        printf("%s\"%s\":{", i ? "," : "", name[i]);

        for (k = 0; k < COUNTS_MAX && counts[i][k].n; k++) {
            printf("%s\"%s\":%llu", k ? "," : "", counts[i][k].value,
                   (unsigned long long) counts[i][k].n);
        }

        printf("}");
    }

    printf("}}\n");
}


static void
parse_target(const char *target)
{
    int               rc;
    char             *port;
    size_t            len;
    struct addrinfo   hints, *ai;

    len = strcspn(target, "/");
    if (len == 0 || len >= sizeof(host)) {
        fatal("bad target '%s'", target);
    }

    uri = target[len] ? target + len : "/";
    memcpy(host, target, len);

    port = strrchr(host, ':');
    if (port == NULL) {
        fatal("no port in '%s'", target);
    }

    *port = '\0';
    memset(&hints, 0, sizeof(hints));
    hints.ai_socktype = SOCK_STREAM;

    rc = getaddrinfo(host, port + 1, &hints, &ai);
    if (rc != 0) {
        fatal("%s: %s", host, gai_strerror(rc));
    }

    *port = ':';
    memcpy(&addr, ai->ai_addr, ai->ai_addrlen);
    addr_len = ai->ai_addrlen;
    freeaddrinfo(ai);
}


static void
parse_options(int argc, char **argv)
{
    int  opt;

    while ((opt = getopt(argc, argv, "r:d:c:n:KPH:m:b:t:V:l:N")) != -1) {
        switch (opt) {

        case 'r':
            rate = atof(optarg);
            break;

        case 'd':
            duration = atof(optarg);
            break;

        case 'c':
            max_conns = atoi(optarg);
            break;

        case 'n':
            number = strtoull(optarg, NULL, 10);
            break;

        case 'K':
            keepalive = 0;
            break;

        case 'P':
            poisson = 1;
            break;

        case 'H':
            if (nheaders == (int) (sizeof(header) / sizeof(header[0]))) {
                fatal("too many headers");
            }

            header[nheaders++] = optarg;
            break;

        case 'm':
            method = optarg;
            break;

        case 'b':
            body = optarg;
            break;

        case 't':
            timeout_us = (uint64_t) (atof(optarg) * 1000);
            break;

        case 'V':
            if (nnames == NAMES_MAX) {
                fatal("too many -V");
            }

            name[nnames++] = optarg;
            break;

        case 'l':
            logfile = fopen(optarg, "we");
            if (logfile == NULL) {
                fatal("%s: %s", optarg, strerror(errno));
            }

            break;

        case 'N':
            retry = 0;
            break;

        default:
            exit(2);
        }
    }

    if (optind != argc - 1) {
        fatal("usage: load [-r rate] [-P] [-d seconds] [-n number]"
              " [-c connections] [-K] [-N]\n            [-m method] [-b body]"
              " [-H 'Name: value']... [-t ms] [-V name]...\n"
              "            [-l file] host:port/uri\n"
              "  -P  at random, with that rate\n"
              "  -n  no more than so many requests\n"
              "  -K  one connection per request\n"
              "  -N  do not resend a request that met a closing connection\n"
              "  -t  give up a request after so many milliseconds\n"
              "  -V  count the values of a response header\n"
              "  -l  log: start_us end_us status error value conn lport n\n"
              "  %%d in the uri or a header is the number of the request");
    }

    if (rate <= 0 || max_conns <= 0 || timeout_us == 0) {
        fatal("rate, connections and timeout must be positive");
    }

    parse_target(argv[optind]);
}


int
main(int argc, char **argv)
{
    int               i;
    double            seconds;
    struct rlimit     rl;
    struct sigaction  sa;

    parse_options(argc, argv);

    srand48((long) clock_us() ^ getpid());

    memset(&sa, 0, sizeof(sa));
    sa.sa_handler = on_signal;
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);

    if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
        rl.rlim_cur = rl.rlim_max;
        setrlimit(RLIMIT_NOFILE, &rl);
    }

    idle.prev = idle.next = &idle;
    conns = alloc(NULL, (size_t) max_conns * sizeof(struct conn));
    memset(conns, 0, (size_t) max_conns * sizeof(struct conn));

    for (i = 0; i < max_conns; i++) {
        conns[i].fd = -1;
        conns[i].head = alloc(NULL, HEAD_MAX);
    }

    seconds = run();
    report(seconds);

    if (fflush(stdout) != 0 || (logfile && fclose(logfile) != 0)) {
        fatal("write: %s", strerror(errno));
    }

    return 0;
}


/*
 * The mailbox without nginx: posters and agents are pids that live or do not,
 * and each may die between any two steps.  What src/node's headers say of it
 * is said here again, in so far as the mailbox needs it.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/core/gate_switch.h"
#include "tap.h"


#define _NGX_GATE_NODE_H_INCLUDED_

#define NGX_OK         0
#define NGX_ERROR     -1
#define NGX_AGAIN     -2
#define NGX_BUSY      -3
#define NGX_DECLINED  -5

#define NGX_GATE_MAIL_FREE       0
#define NGX_GATE_MAIL_WRITING    1
#define NGX_GATE_MAIL_POSTED     2
#define NGX_GATE_MAIL_TAKEN      3
#define NGX_GATE_MAIL_DONE       4

#define NGX_GATE_MAILS           32

#define ngx_gate_load(p)      __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define ngx_gate_store(p, v)  __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define ngx_gate_cas(p, o, n)                                                 \
    __atomic_compare_exchange_n(p, o, n, 0, __ATOMIC_SEQ_CST,                 \
                                __ATOMIC_ACQUIRE)

#define ngx_memzero(p, n)     (void) memset(p, 0, n)
#define ngx_memcpy            memcpy
#define ngx_strlen(s)         strlen((const char *) (s))
#define ngx_min(a, b)         ((a) < (b) ? (a) : (b))

#define ngx_shmtx_lock(m)     (*(m))++
#define ngx_shmtx_unlock(m)   (*(m))--

typedef intptr_t       ngx_int_t;
typedef uintptr_t      ngx_uint_t;
typedef unsigned char  u_char;

typedef struct {
    uint64_t             id;
    uint32_t             state;
    uint32_t             poster;
    uint32_t             taker;
    uint32_t             generation;
    uint32_t             kind;
    uint32_t             sw;
    uint32_t             action;
    uint32_t             weight;
    int32_t              result;
    char                 rollout[65];
    gate_switch_value_t  value;
    char                 actor[64];
    char                 reason[128];
    char                 why[256];
} ngx_gate_mail_t;

typedef struct {
    uint64_t             agent;
    uint64_t             mails_total;
    ngx_gate_mail_t      mails[NGX_GATE_MAILS];
} ngx_gate_zone_t;

typedef struct {
    int                  mutex;
} ngx_slab_pool_t;

typedef struct {
    ngx_gate_zone_t     *sh;
    ngx_slab_pool_t     *shpool;
    uint32_t             generation;
} ngx_gate_node_t;


static int       ngx_pid;
static uint32_t  test_dead[4];


static ngx_uint_t
ngx_gate_node_alive(ngx_gate_zone_t *sh, uint32_t pid)
{
    size_t  i;

    (void) sh;

    for (i = 0; i < sizeof(test_dead) / sizeof(test_dead[0]); i++) {
        if (test_dead[i] == pid) {
            return 0;
        }
    }

    return 1;
}


static void
ngx_gate_text(char *dst, size_t size, u_char *src, size_t len)
{
    len = ngx_min(len, size - 1);

    memcpy(dst, src, len);
    dst[len] = '\0';
}


ngx_int_t ngx_gate_mail_post(ngx_gate_node_t *node, ngx_gate_mail_t *letter,
    uint64_t *id);
ngx_int_t ngx_gate_mail_result(ngx_gate_node_t *node, uint64_t id,
    ngx_gate_mail_t *copy);
ngx_int_t ngx_gate_mail_drop(ngx_gate_node_t *node, uint64_t id);
ngx_gate_mail_t *ngx_gate_mail_take(ngx_gate_node_t *node);
void ngx_gate_mail_done(ngx_gate_mail_t *m, uint64_t id, ngx_int_t result,
    const char *why);


#include "../../src/node/ngx_gate_mail.c"


#define POSTER  10
#define OTHER   11
#define AGENT   20
#define HEIR    21


static ngx_gate_zone_t   zone;
static ngx_slab_pool_t   pool;
static ngx_gate_node_t   node = { &zone, &pool, 1 };
static ngx_gate_mail_t   copy;


static void
test_reset(void)
{
    memset(&zone, 0, sizeof(zone));
    memset(test_dead, 0, sizeof(test_dead));
    memset(&copy, 0, sizeof(copy));

    zone.agent = (uint64_t) 1 << 32 | AGENT;
}


static void
test_dies(uint32_t pid)
{
    size_t  i;

    for (i = 0; test_dead[i] != 0; i++) { /* void */ }

    test_dead[i] = pid;
}


static uint64_t
test_post(int pid, uint32_t kind)
{
    uint64_t         id;
    ngx_gate_mail_t  letter;

    memset(&letter, 0, sizeof(letter));

    letter.kind = kind;
    strcpy(letter.actor, "alice");
    strcpy(letter.why, "not to be copied");

    ngx_pid = pid;
    id = 0;

    return ngx_gate_mail_post(&node, &letter, &id) == NGX_OK ? id : 0;
}


static ngx_gate_mail_t *
test_take(int pid)
{
    ngx_pid = pid;

    return ngx_gate_mail_take(&node);
}


static void
test_done(int pid, ngx_gate_mail_t *m, uint64_t id, ngx_int_t result,
    const char *why)
{
    ngx_pid = pid;

    ngx_gate_mail_done(m, id, result, why);
}


static ngx_int_t
test_result(int pid, uint64_t id)
{
    ngx_pid = pid;

    return ngx_gate_mail_result(&node, id, &copy);
}


static int
test_all_free(void)
{
    size_t  i;

    for (i = 0; i < NGX_GATE_MAILS; i++) {
        if (zone.mails[i].state != NGX_GATE_MAIL_FREE) {
            return 0;
        }
    }

    return pool.mutex == 0;
}


static void
test_way(void)
{
    uint64_t          a, b;
    ngx_gate_mail_t  *m;

    test_reset();

    tap_ok(test_take(AGENT) == NULL, "an empty box");

    a = test_post(POSTER, 7);
    b = test_post(OTHER, 8);
    tap_ok(a != 0 && b != 0 && a != b, "letters have numbers");
    tap_ok(test_result(POSTER, a) == NGX_AGAIN, "nobody took it yet");

    m = test_take(AGENT);
    tap_ok(m != NULL && m->id == a && m->kind == 7
           && strcmp(m->actor, "alice") == 0 && m->why[0] == '\0',
           "the oldest comes first, as it was written");
    tap_ok(test_result(POSTER, a) == NGX_AGAIN, "taken is not done");

    test_done(AGENT, m, a, NGX_DECLINED, "because");
    tap_ok(test_result(POSTER, a) == NGX_OK && copy.result == NGX_DECLINED
           && strcmp(copy.why, "because") == 0, "the answer");

    test_done(AGENT, m, a, NGX_OK, "twice");
    m = test_take(AGENT);
    tap_ok(m != NULL && m->id == b, "the next one");
    test_done(AGENT, m, b, NGX_OK, NULL);
    tap_ok(test_result(OTHER, b) == NGX_OK && copy.result == NGX_OK
           && copy.why[0] == '\0', "an answer without a word");
    tap_ok(test_all_free(), "the box is empty again");
    tap_ok(test_result(OTHER, b) == NGX_OK && copy.result == NGX_ERROR,
           "of a letter that is gone nobody knows");
}


static void
test_full(void)
{
    size_t           i;
    uint64_t         id[NGX_GATE_MAILS], late;
    ngx_gate_mail_t  *m;

    test_reset();

    for (i = 0; i < NGX_GATE_MAILS; i++) {
        id[i] = test_post(POSTER, 0);
    }

    tap_ok(test_post(OTHER, 0) == 0, "a full box");

    ngx_pid = POSTER;
    tap_ok(ngx_gate_mail_drop(&node, id[3]) == NGX_OK,
           "given up before it was taken: it is not done");
    late = test_post(OTHER, 0);
    tap_ok(late != 0 && test_post(OTHER, 0) == 0, "its room is used");

    m = test_take(AGENT);
    ngx_pid = POSTER;
    tap_ok(m->id == id[0] && ngx_gate_mail_drop(&node, id[0]) == NGX_DECLINED,
           "given up after it was taken: who knows");
    tap_ok(test_post(OTHER, 0) == 0, "the agent still has it in hand");
    test_done(AGENT, m, id[0], NGX_OK, "");
    tap_ok(test_post(OTHER, 0) != 0, "done for nobody is room");

    test_dies(POSTER);
    tap_ok(test_post(OTHER, 0) != 0, "letters of the dead are room");
    m = test_take(AGENT);
    tap_ok(m != NULL && m->id == late,
           "and are not done, if nobody began");
}


static void
test_agent_dies(void)
{
    uint64_t          a, b;
    ngx_gate_mail_t  *m;

    test_reset();

    a = test_post(POSTER, 0);
    m = test_take(AGENT);
    test_dies(AGENT);
    tap_ok(test_result(POSTER, a) == NGX_OK && copy.result == NGX_ERROR
           && copy.why[0] != '\0', "a dead agent leaves nobody who knows");
    tap_ok(test_all_free(), "and no letter");

    /* replaced, but alive: its answer comes too late */

    test_reset();

    a = test_post(POSTER, 0);
    m = test_take(AGENT);
    zone.agent = (uint64_t) 2 << 32 | HEIR;
    tap_ok(test_result(POSTER, a) == NGX_OK && copy.result == NGX_ERROR,
           "nor does one that is the agent no more");

    b = test_post(POSTER, 0);
    tap_ok(test_take(HEIR) == m, "its room is another letter's");
    test_done(AGENT, m, a, NGX_OK, "late");
    tap_ok(test_result(POSTER, b) == NGX_AGAIN, "a late answer is nobody's");
    test_done(AGENT, m, b, NGX_OK, "wrong");
    tap_ok(test_result(POSTER, b) == NGX_AGAIN, "nor is one of a stranger");
    test_done(HEIR, m, b, NGX_BUSY, "right");
    tap_ok(test_result(POSTER, b) == NGX_OK && copy.result == NGX_BUSY,
           "only who took it answers");

    /* killed while it answers */

    test_reset();

    a = test_post(POSTER, 0);
    m = test_take(AGENT);
    m->taker = AGENT | NGX_GATE_MAIL_ANSWERS;
    tap_ok(test_result(POSTER, a) == NGX_AGAIN, "an answer is being written");
    zone.agent = (uint64_t) 2 << 32 | HEIR;
    tap_ok(test_result(POSTER, a) == NGX_AGAIN, "and is let finish");
    test_dies(AGENT);
    tap_ok(test_result(POSTER, a) == NGX_OK && copy.result == NGX_ERROR,
           "but not for ever");

    /* killed between two words of taking it */

    test_reset();

    a = test_post(POSTER, 0);
    zone.mails[0].taker = AGENT;
    test_dies(AGENT);
    zone.agent = (uint64_t) 2 << 32 | HEIR;
    m = test_take(HEIR);
    tap_ok(m != NULL && m->id == a, "a letter half taken is taken anew");
    test_done(HEIR, m, a, NGX_OK, "");
    tap_ok(test_result(POSTER, a) == NGX_OK && copy.result == NGX_OK,
           "and done once");
}


static void
test_poster_dies(void)
{
    size_t            i;
    uint64_t          a;
    ngx_gate_mail_t  *m;

    /* while it writes: the master unlocks the mutex, the letter stays */

    test_reset();

    for (i = 0; i < NGX_GATE_MAILS; i++) {
        zone.mails[i].state = NGX_GATE_MAIL_WRITING;
        zone.mails[i].id = i + 1;
    }

    zone.mails_total = NGX_GATE_MAILS;

    tap_ok(test_take(AGENT) == NULL, "half a letter is none");
    tap_ok(test_result(POSTER, 1) == NGX_OK && copy.result == NGX_ERROR,
           "nor has it an answer");
    a = test_post(POSTER, 0);
    tap_ok(a == NGX_GATE_MAILS + 1, "its room is used");
    m = test_take(AGENT);
    tap_ok(m != NULL && m->id == a, "by another one");

    /* while the agent has it: nobody waits for the answer */

    test_dies(POSTER);
    test_done(AGENT, m, a, NGX_OK, "");

    for (i = 0; i < NGX_GATE_MAILS; i++) {
        if (test_post(OTHER, 0) == 0) {
            break;
        }
    }

    tap_ok(i == NGX_GATE_MAILS, "all of the box is usable");
    tap_ok(pool.mutex == 0, "the mutex is free");
}


static void
test_orphans(void)
{
    size_t            i, n;
    uint64_t          id[NGX_GATE_MAILS];
    ngx_gate_mail_t  *m[NGX_GATE_MAILS];

    /* nobody waits, and who took them is the agent no more, and lives */

    test_reset();

    for (i = 0; i < NGX_GATE_MAILS; i++) {
        id[i] = test_post(POSTER, 0);
        m[i] = test_take(AGENT);
    }

    tap_ok(test_post(OTHER, 0) == 0, "full of letters in good hands");

    test_dies(POSTER);
    tap_ok(test_post(OTHER, 0) == 0,
           "the agent may still work on those of the dead");

    zone.agent = (uint64_t) 2 << 32 | HEIR;

    for (n = 0; n < NGX_GATE_MAILS && test_post(OTHER, 0) != 0; n++) {
        /* void */
    }

    tap_ok(n == NGX_GATE_MAILS, "a new agent has all of the box");

    for (i = 0; i < NGX_GATE_MAILS; i++) {
        test_done(AGENT, m[i], id[i], NGX_OK, "late");
    }

    for (i = 0, n = 0; i < NGX_GATE_MAILS; i++) {
        n += (zone.mails[i].state == NGX_GATE_MAIL_POSTED
              && zone.mails[i].why[0] == '\0');
    }

    tap_ok(n == NGX_GATE_MAILS, "and the old one spoils none");
}


int
main(void)
{
    test_way();
    test_full();
    test_agent_dies();
    test_poster_dies();
    test_orphans();

    return tap_done();
}

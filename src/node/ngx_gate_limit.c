
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Limit zones: their memory, and what a decision needs to know beside the
 * table.
 *
 * A zone keeps its memory across reloads as long as max_keys= stays the same.
 * Where that changes nginx gives us other memory: debts, overrides and
 * counters are copied from the old one, which is still there when the new
 * configuration is adopted.  What old workers, which go on with the old
 * memory, admit after that is not seen any more.
 */


#include "ngx_gate_limit.h"

#include "core/gate_siphash.h"


#define NGX_GATE_LIMIT_SWEEP_MSEC  60000   /* of one pass over the table */


/* a zone as the last configuration had it; only the master looks */

typedef struct ngx_gate_limit_adopted_s  ngx_gate_limit_adopted_t;

struct ngx_gate_limit_adopted_s {
    ngx_gate_limit_adopted_t  *next;
    ngx_gate_limit_zone_t     *sh;
    size_t                     len;
    u_char                     name[1];
};


static ngx_int_t ngx_gate_limit_init_zone(ngx_shm_zone_t *shm_zone,
    void *data);
static ngx_int_t ngx_gate_limit_create(ngx_gate_limit_conf_t *lc);
static size_t ngx_gate_limit_bytes(ngx_gate_limit_conf_t *lc);
static ngx_gate_limit_zone_t *ngx_gate_limit_before(
    ngx_gate_limit_conf_t *lc);
static void ngx_gate_limit_carry(ngx_gate_limit_conf_t *lc,
    ngx_gate_limit_zone_t *from, ngx_log_t *log);
static void ngx_gate_limit_remember(ngx_gate_node_t *node);
static void ngx_gate_limit_sweep(ngx_gate_limit_conf_t *lc);

/* the table begins at a cache line */

#define NGX_GATE_LIMIT_HEAD                                                   \
    ngx_align(sizeof(ngx_gate_limit_zone_t), 64)

#define ngx_gate_limit_table(sh)                                              \
    ((void *) ((u_char *) (sh) + NGX_GATE_LIMIT_HEAD))


static ngx_gate_limit_adopted_t  *ngx_gate_limit_adopted;


ngx_int_t
ngx_gate_limit_add(ngx_conf_t *cf, ngx_gate_limit_conf_t *lc, void *tag)
{
    size_t      size, pages;
    ngx_str_t   name;

    /*
     * The slab allocator gives it out in one piece: so many pages, what it
     * notes down for each of them, and its own head.
     */

    size = ngx_gate_limit_bytes(lc);
    pages = (size + ngx_pagesize - 1) / ngx_pagesize + 4;
    size = pages * (ngx_pagesize + sizeof(ngx_slab_page_t))
           + sizeof(ngx_slab_pool_t) + 2 * ngx_pagesize;

    name.len = sizeof("gate_limit_") - 1 + lc->name.len;

    name.data = ngx_pnalloc(cf->pool, name.len);
    if (name.data == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(name.data, "gate_limit_%V", &lc->name);

    lc->shm_zone = ngx_shared_memory_add(cf, &name,
                                         ngx_align(size, ngx_pagesize), tag);
    if (lc->shm_zone == NULL) {
        return NGX_ERROR;
    }

    lc->shm_zone->init = ngx_gate_limit_init_zone;
    lc->shm_zone->data = lc;

    return NGX_OK;
}


static size_t
ngx_gate_limit_bytes(ngx_gate_limit_conf_t *lc)
{
    return NGX_GATE_LIMIT_HEAD + gate_limit_size(lc->keys);
}


static ngx_int_t
ngx_gate_limit_init_zone(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_gate_limit_conf_t *olc = data;

    ngx_slab_pool_t        *shpool;
    ngx_gate_limit_conf_t  *lc;
    ngx_gate_limit_zone_t  *sh;

    lc = shm_zone->data;
    shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (olc == NULL && !shm_zone->shm.exists) {
        return ngx_gate_limit_create(lc);
    }

    sh = shpool->data;

    if (sh == NULL || sh->magic != NGX_GATE_LIMIT_MAGIC
        || sh->layout != NGX_GATE_LIMIT_LAYOUT
        || sh->size != sizeof(ngx_gate_limit_zone_t)
        || sh->keys != lc->keys)
    {
        goto failed;
    }

    lc->sh = sh;
    lc->table = gate_limit_open(ngx_gate_limit_table(sh),
                                gate_limit_size(lc->keys));

    if (lc->table) {
        return NGX_OK;
    }

failed:

    ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                  "limit zone \"%V\" was made by another version of the "
                  "module, restart nginx instead of reloading it", &lc->name);

    return NGX_ERROR;
}


static ngx_int_t
ngx_gate_limit_create(ngx_gate_limit_conf_t *lc)
{
    size_t                  len;
    ngx_slab_pool_t        *shpool;
    ngx_gate_limit_zone_t  *sh;

    shpool = (ngx_slab_pool_t *) lc->shm_zone->shm.addr;

    len = sizeof(" in limit zone \"\"") + lc->name.len;

    shpool->log_ctx = ngx_slab_alloc(shpool, len);
    if (shpool->log_ctx == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(shpool->log_ctx, " in limit zone \"%V\"%Z", &lc->name);

    /*
     * New memory is zero, and stays unmapped until somebody writes there:
     * a large zone costs what is used of it.
     */

    sh = ngx_slab_alloc(shpool, ngx_gate_limit_bytes(lc));
    if (sh == NULL) {
        return NGX_ERROR;
    }

#ifdef NGX_DEBUG_MALLOC
    ngx_memzero(sh, ngx_gate_limit_bytes(lc));
#endif

    sh->magic = NGX_GATE_LIMIT_MAGIC;
    sh->layout = NGX_GATE_LIMIT_LAYOUT;
    sh->size = sizeof(ngx_gate_limit_zone_t);
    sh->keys = lc->keys;
    sh->nodes = 1;

    ngx_gate_random(&sh->boot, sizeof(sh->boot));

    lc->sh = sh;
    lc->table = gate_limit_init(ngx_gate_limit_table(sh), lc->keys);

    if (lc->table == NULL) {
        ngx_log_error(NGX_LOG_EMERG, lc->shm_zone->shm.log, 0,
                      "limit zone \"%V\": limits need a processor that swaps "
                      "16 bytes at once, x86-64 or aarch64", &lc->name);
        return NGX_ERROR;
    }

    shpool->data = sh;

    return NGX_OK;
}


void
ngx_gate_limit_adopt(ngx_gate_node_t *node, ngx_log_t *log)
{
    ngx_uint_t               i;
    ngx_gate_limit_conf_t   *lc, **lcp;
    ngx_gate_limit_zone_t   *before;

    lcp = node->limits.elts;

    for (i = 0; i < node->limits.nelts; i++) {
        lc = lcp[i];
        lc->node = node;
        lc->index = i;

        before = ngx_gate_limit_before(lc);

        if (before && before != lc->sh) {
            ngx_gate_limit_carry(lc, before, log);

        } else if (before == NULL) {
            ngx_memcpy(lc->sh->seed, node->sh->secret,
                       sizeof(lc->sh->seed));
        }

        lc->cls = gate_limit_class(lc->table, &lc->policy.rate);
    }

    ngx_gate_limit_remember(node);

    if (node->limits.nelts && node->redis) {
        ngx_gate_wake_init(log);
    }
}


/* The memory that the last configuration had for a zone of that name. */

static ngx_gate_limit_zone_t *
ngx_gate_limit_before(ngx_gate_limit_conf_t *lc)
{
    ngx_gate_limit_adopted_t  *a;

    for (a = ngx_gate_limit_adopted; a; a = a->next) {

        if (a->len == lc->name.len
            && ngx_memcmp(a->name, lc->name.data, a->len) == 0)
        {
            return a->sh;
        }
    }

    return NULL;
}


static void
ngx_gate_limit_carry(ngx_gate_limit_conf_t *lc, ngx_gate_limit_zone_t *from,
    ngx_log_t *log)
{
    uint64_t                left;
    ngx_uint_t              level;
    gate_limit_table_t     *table;
    ngx_gate_limit_zone_t  *sh;

    table = gate_limit_open(ngx_gate_limit_table(from),
                            gate_limit_size(from->keys));

    if (table == NULL) {
        return;
    }

    sh = lc->sh;

    left = gate_limit_copy(lc->table, table, ngx_gate_nsec());

    ngx_memcpy(sh->seed, from->seed, sizeof(sh->seed));
    ngx_memcpy(sh->overrides, from->overrides, sizeof(sh->overrides));
    ngx_memcpy(sh->override_digest, from->override_digest,
               sizeof(sh->override_digest));
    ngx_memcpy(sh->counts, from->counts, sizeof(sh->counts));

    sh->override = from->override;
    sh->override_known = from->override_known;
    sh->override_fields = from->override_fields;
    sh->nodes = from->nodes;
    sh->online = from->online;
    sh->lost_msec = from->lost_msec;
    sh->settle_at = 0;
    sh->batches_total = from->batches_total;
    sh->debts_total = from->debts_total;
    sh->resent_total = from->resent_total;

    /* a batch that is on its way is lost: its debts are unsent once more */

    level = left ? NGX_LOG_WARN : NGX_LOG_NOTICE;

    ngx_log_error(level, log, 0,
                  "limit zone \"%V\" has a new size: %uL keys in debt did "
                  "not fit, all others are carried over", &lc->name, left);
}


/* What will be "before" for the next configuration. */

static void
ngx_gate_limit_remember(ngx_gate_node_t *node)
{
    ngx_uint_t                 i;
    ngx_gate_limit_conf_t    **lcp;
    ngx_gate_limit_adopted_t  *a, *next;

    for (a = ngx_gate_limit_adopted; a; a = next) {
        next = a->next;
        ngx_free(a);
    }

    ngx_gate_limit_adopted = NULL;

    lcp = node->limits.elts;

    for (i = 0; i < node->limits.nelts; i++) {
        a = ngx_alloc(sizeof(ngx_gate_limit_adopted_t) + lcp[i]->name.len,
                      ngx_cycle->log);
        if (a == NULL) {
            continue;
        }

        a->sh = lcp[i]->sh;
        a->len = lcp[i]->name.len;
        ngx_memcpy(a->name, lcp[i]->name.data, a->len);

        a->next = ngx_gate_limit_adopted;
        ngx_gate_limit_adopted = a;
    }
}


void
ngx_gate_limit_sum(ngx_gate_limit_conf_t *lc, ngx_gate_limit_count_t *sum)
{
    uint64_t    *from, *to;
    ngx_uint_t   i, n;

    ngx_memzero(sum, sizeof(ngx_gate_limit_count_t));

    to = (uint64_t *) sum;

    for (i = 0; i < NGX_GATE_SLOTS; i++) {
        from = (uint64_t *) &lc->sh->counts[i];

        for (n = 0; n < sizeof(ngx_gate_limit_count_t) / 8; n++) {
            to[n] += ngx_gate_peek(&from[n]);
        }
    }
}


uint64_t
ngx_gate_limit_hash(ngx_gate_limit_conf_t *lc, u_char *key, size_t len)
{
    uint64_t  hash;

    hash = gate_siphash_short(lc->sh->seed, key, len);

    /* 0 is no key in the table */

    return hash ? hash : 1;
}


const gate_policy_t *
ngx_gate_limit_override(ngx_gate_limit_conf_t *lc, uint64_t hash)
{
    uint32_t               i, n;
    ngx_gate_overrides_t  *set;

    set = &lc->sh->overrides[ngx_gate_load(&lc->sh->override) & 1];

    if (ngx_gate_peek(&set->n) == 0) {
        return NULL;
    }

    i = (uint32_t) hash;

    for (n = 0; n < NGX_GATE_LIMIT_OVERRIDES * 2; n++, i++) {
        i %= NGX_GATE_LIMIT_OVERRIDES * 2;

        if (set->slots[i].hash == hash) {
            return &set->slots[i].policy;
        }

        if (set->slots[i].hash == 0) {
            return NULL;
        }
    }

    return NULL;
}


void
ngx_gate_limit_flush(ngx_gate_limit_conf_t *lc)
{
    /* whoever is first calls; the agent clears it before it looks */

    if (ngx_gate_peek(&lc->sh->urgent) == 0
        && __atomic_exchange_n(&lc->sh->urgent, 1, __ATOMIC_SEQ_CST) == 0)
    {
        ngx_gate_wake();
    }
}


void
ngx_gate_limit_tick(ngx_gate_node_t *node)
{
    ngx_uint_t               i;
    ngx_gate_limit_conf_t  **lcp;
    ngx_gate_limit_zone_t   *sh;

    lcp = node->limits.elts;

    for (i = 0; i < node->limits.nelts; i++) {
        sh = lcp[i]->sh;

        if (sh->seed[0] != node->sh->secret[0]
            || sh->seed[1] != node->sh->secret[1])
        {
            /*
             * This node has joined a fleet that names keys in its own way.
             * All entries are of nobody from here on, also those that are on
             * their way.
             */

            ngx_memcpy(sh->seed, node->sh->secret, sizeof(sh->seed));
            sh->batch.n = 0;
        }

        ngx_gate_limit_sweep(lcp[i]);
    }
}


/* Some slots each time: the pages of status want to know how many there are. */

static void
ngx_gate_limit_sweep(ngx_gate_limit_conf_t *lc)
{
    uint64_t                most, past;
    ngx_gate_limit_zone_t  *sh;

    sh = lc->sh;

    /* in a fleet, it also finds what was not marked */

    if (!ngx_gate_limit_fleet(lc)
        && gate_limit_slots(lc->table) <= NGX_GATE_LIMIT_SCAN)
    {
        return;
    }

    past = ngx_current_msec - sh->sweep_msec;
    most = ngx_min(past, 1000) * gate_limit_slots(lc->table)
           / NGX_GATE_LIMIT_SWEEP_MSEC;

    if (most < 64) {
        return;
    }

    sh->sweep_msec = ngx_current_msec;

    if (!gate_limit_sweep(lc->table, ngx_gate_nsec(), &sh->sweep_at, most,
                          &sh->sweeping))
    {
        return;
    }

    sh->swept = sh->sweeping;
    ngx_memzero(&sh->sweeping, sizeof(sh->sweeping));
}

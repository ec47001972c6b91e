
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * The zone's life: made, found again, adopted, and one slot for each process.
 */


#include "ngx_gate_cursor.h"


static ngx_int_t ngx_gate_node_create(ngx_gate_node_t *node);
static ngx_int_t ngx_gate_node_reserve(ngx_gate_node_t *node);
static ngx_int_t ngx_gate_node_reserve_switches_locked(ngx_gate_node_t *node);
static ngx_int_t ngx_gate_node_reserve_rollouts_locked(ngx_gate_node_t *node);
static void ngx_gate_node_take_slot(ngx_gate_node_t *node);


ngx_gate_slot_t         *ngx_gate_slot;

/* the zone of the configuration before this one; only the master looks */
static ngx_gate_zone_t  *ngx_gate_adopted;
static ngx_slab_pool_t  *ngx_gate_adopted_pool;


int64_t
ngx_gate_now(void)
{
    ngx_time_t  *tp;

    tp = ngx_timeofday();

    return (int64_t) tp->sec * 1000 + tp->msec;
}


void
ngx_gate_text(char *dst, size_t size, u_char *src, size_t len)
{
    len = ngx_min(len, size - 1);

    ngx_memcpy(dst, src, len);
    dst[len] = '\0';
}


void
ngx_gate_changed(ngx_gate_zone_t *sh)
{
    ngx_gate_add(&sh->revision, 1);
}


void
ngx_gate_random(void *p, size_t len)
{
    int      fd;
    u_char  *b;
    size_t   i;
    ssize_t  n;

    /* /dev/urandom never blocks once the system is up */

    fd = open("/dev/urandom", O_RDONLY|O_CLOEXEC);

    n = (fd == -1) ? -1 : read(fd, p, len);

    if (fd != -1) {
        (void) close(fd);
    }

    if (n == (ssize_t) len) {
        return;
    }

    b = p;

    for (i = 0; i < len; i++) {
        b[i] = (u_char) (ngx_random() >> 8);
    }
}


ngx_int_t
ngx_gate_node_switch(ngx_gate_node_t *node, ngx_str_t *name)
{
    ngx_str_t   *s;
    ngx_uint_t   i;

    s = node->switches.elts;

    for (i = 0; i < node->switches.nelts; i++) {

        if (s[i].len == name->len
            && ngx_strncmp(s[i].data, name->data, name->len) == 0)
        {
            return i;
        }
    }

    if (node->switches.nelts == NGX_GATE_SWITCHES) {
        return NGX_ERROR;
    }

    s = ngx_array_push(&node->switches);
    if (s == NULL) {
        return NGX_ERROR;
    }

    *s = *name;

    return i;
}


ngx_int_t
ngx_gate_node_init_zone(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_gate_node_t  *onode = data;

    ngx_gate_node_t  *node;

    node = shm_zone->data;

    node->shm_zone = shm_zone;
    node->shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (onode || shm_zone->shm.exists) {
        node->sh = node->shpool->data;

        if (node->sh == NULL
            || node->sh->magic != NGX_GATE_ZONE_MAGIC
            || node->sh->layout != NGX_GATE_ZONE_LAYOUT
            || node->sh->size != sizeof(ngx_gate_zone_t))
        {
            ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                          "gate zone \"%V\" was made by another version of "
                          "the module, restart nginx instead of reloading it",
                          &shm_zone->shm.name);
            return NGX_ERROR;
        }

    } else if (ngx_gate_node_create(node) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_gate_node_reserve(node);
}


static ngx_int_t
ngx_gate_node_create(ngx_gate_node_t *node)
{
    size_t            len;
    ngx_str_t        *name;
    ngx_gate_zone_t  *sh;

    name = &node->shm_zone->shm.name;

    sh = ngx_slab_calloc(node->shpool, sizeof(ngx_gate_zone_t));
    if (sh == NULL) {
        return NGX_ERROR;
    }

    len = sizeof(" in gate zone \"\"") + name->len;

    node->shpool->log_ctx = ngx_slab_alloc(node->shpool, len);
    if (node->shpool->log_ctx == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(node->shpool->log_ctx, " in gate zone \"%V\"%Z", name);

    sh->magic = NGX_GATE_ZONE_MAGIC;
    sh->layout = NGX_GATE_ZONE_LAYOUT;
    sh->size = sizeof(ngx_gate_zone_t);
    sh->created = ngx_gate_now();

    ngx_gate_random(&sh->boot, sizeof(sh->boot));
    ngx_gate_random(sh->secret, sizeof(sh->secret));

    node->sh = sh;
    node->shpool->data = sh;

    return NGX_OK;
}


static ngx_int_t
ngx_gate_node_reserve(ngx_gate_node_t *node)
{
    ngx_int_t  rc;

    ngx_shmtx_lock(&node->shpool->mutex);

    rc = ngx_gate_node_reserve_switches_locked(node);

    if (rc == NGX_OK) {
        rc = ngx_gate_node_reserve_rollouts_locked(node);
    }

    if (rc == NGX_OK) {
        rc = ngx_gate_cursor_reserve_locked(node);
    }

    ngx_shmtx_unlock(&node->shpool->mutex);

    if (rc == NGX_OK) {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_EMERG, node->shm_zone->shm.log, 0,
                  (rc == NGX_DECLINED)
                  ? "gate zone \"%V\" has seen more than %d switches, "
                    "restart nginx to forget those no longer configured"
                  : "gate zone \"%V\" is too small for this configuration, "
                    "give \"gate_zone\" a larger size",
                  &node->shm_zone->shm.name, NGX_GATE_SWITCHES);

    return NGX_ERROR;
}


static ngx_int_t
ngx_gate_node_reserve_switches_locked(ngx_gate_node_t *node)
{
    ngx_str_t          *name;
    ngx_uint_t          i, n;
    ngx_gate_zone_t    *sh;
    ngx_gate_switch_t  *s;

    sh = node->sh;
    name = node->switches.elts;

    for (i = 0; i < node->switches.nelts; i++) {

        for (n = 0; n < sh->nswitches; n++) {
            s = &sh->switches[n];

            if (ngx_strlen(s->name) == name[i].len
                && ngx_strncmp(s->name, name[i].data, name[i].len) == 0)
            {
                break;
            }
        }

        if (n == NGX_GATE_SWITCHES) {
            return NGX_DECLINED;
        }

        node->sw_map[i] = n;

        if (n < sh->nswitches) {
            continue;
        }

        s = &sh->switches[n];

        ngx_gate_text(s->name, sizeof(s->name), name[i].data, name[i].len);
        sh->nswitches++;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_gate_node_reserve_rollouts_locked(ngx_gate_node_t *node)
{
    ngx_uint_t                 i;
    ngx_gate_rollout_t        *ro;
    ngx_gate_rollout_conf_t  **rc;

    rc = node->rollouts.elts;

    for (i = 0; i < node->rollouts.nelts; i++) {

        ro = ngx_gate_rollout_find(node->sh, rc[i]->name.data,
                                   rc[i]->name.len);

        if (ro == NULL) {
            ro = ngx_slab_calloc_locked(node->shpool,
                                        sizeof(ngx_gate_rollout_t));
            if (ro == NULL) {
                return NGX_ERROR;
            }

            ngx_gate_text(ro->name, sizeof(ro->name), rc[i]->name.data,
                          rc[i]->name.len);

            ro->next = node->sh->rollouts;
            ngx_gate_store(&node->sh->rollouts, ro);
        }

        rc[i]->sh = ro;
        rc[i]->mode = &node->sh->modes[NGX_GATE_MODE_CANARY].value;
        rc[i]->index = i;
    }

    return NGX_OK;
}


void
ngx_gate_node_adopt(ngx_cycle_t *cycle, ngx_gate_node_t *node)
{
    ngx_uint_t                 i;
    ngx_gate_zone_t           *sh;
    ngx_gate_rollout_conf_t  **rc;

    sh = node->sh;

    if (!sh->adopted) {

        if (ngx_gate_adopted && ngx_gate_adopted != sh) {
            ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                          "gate zone has a new size: switches and rollouts "
                          "are carried over, counters begin again");

            ngx_gate_state_copy(node, ngx_gate_adopted,
                                ngx_gate_adopted_pool, cycle->log);
        }

        ngx_gate_store_load(node, cycle->log);
    }

    ngx_shmtx_lock(&node->shpool->mutex);

    node->generation = ++sh->generation;

    rc = node->rollouts.elts;

    for (i = 0; i < node->rollouts.nelts; i++) {
        ngx_gate_rollout_adopt_locked(node, rc[i], cycle->log);
    }

    sh->adopted = 1;

    ngx_shmtx_unlock(&node->shpool->mutex);

    ngx_gate_watch_load(node, cycle->log);

    for (i = 0; i < sh->nswitches; i++) {
        ngx_gate_switch_tick(node, &sh->switches[i]);
    }

    ngx_gate_adopted = sh;
    ngx_gate_adopted_pool = node->shpool;

    /* without a master nobody calls init_process after a reload */

    if (ngx_process == NGX_PROCESS_SINGLE && ngx_gate_slot) {
        (void) ngx_gate_node_start(cycle, node);
    }
}


ngx_int_t
ngx_gate_node_start(ngx_cycle_t *cycle, ngx_gate_node_t *node)
{
    ngx_gate_node_take_slot(node);

    return ngx_gate_agent_start(cycle, node);
}


void
ngx_gate_node_stop(ngx_cycle_t *cycle)
{
    if (ngx_gate_slot == NULL) {
        return;
    }

    ngx_gate_agent_stop(cycle);

    ngx_gate_store(&ngx_gate_slot->pid, 0);
}


static void
ngx_gate_node_take_slot(ngx_gate_node_t *node)
{
    ngx_uint_t        i;
    ngx_gate_slot_t  *slot;

    /*
     * ngx_worker repeats across generations; the process slot does not, and
     * a respawned worker gets its predecessor's: what that one left behind
     * when it died is not in flight any more.  Totals are kept.
     */

    slot = &node->sh->slots[ngx_process_slot];

    if (slot != ngx_gate_slot) {
        ngx_gate_store(&slot->pid, 0);

        for (i = 0; i < NGX_GATE_SWITCHES; i++) {
            slot->inflight[i].admitted = 0;
            slot->inflight[i].bypassed = 0;
            slot->inflight[i].upgraded = 0;
        }
    }

    ngx_shmtx_lock(&node->shpool->mutex);

    if (node->sh->nslots <= (uint32_t) ngx_process_slot) {
        ngx_gate_store(&node->sh->nslots, (uint32_t) ngx_process_slot + 1);
    }

    ngx_shmtx_unlock(&node->shpool->mutex);

    slot->generation = node->generation;
    slot->started = (uint64_t) ngx_gate_now();

    ngx_gate_store(&slot->pid, (uint32_t) ngx_pid);

    ngx_gate_slot = slot;
}


ngx_uint_t
ngx_gate_slot_alive(ngx_gate_slot_t *slot)
{
    uint32_t  pid;

    pid = ngx_gate_load(&slot->pid);

    if (pid == 0) {
        return 0;
    }

    return pid == (uint32_t) ngx_pid
           || kill((ngx_pid_t) pid, 0) == 0
           || ngx_errno != NGX_ESRCH;
}


void
ngx_gate_node_sweep(ngx_gate_zone_t *sh)
{
    uint32_t          pid;
    ngx_uint_t        i;
    ngx_gate_slot_t  *slot;

    for (i = 0; i < ngx_gate_load(&sh->nslots); i++) {
        slot = &sh->slots[i];
        pid = ngx_gate_load(&slot->pid);

        if (pid != 0 && !ngx_gate_slot_alive(slot)) {
            (void) ngx_gate_cas(&slot->pid, &pid, 0);
        }
    }
}


/* A pid alone proves nothing: the system gives it to others later. */

ngx_uint_t
ngx_gate_node_alive(ngx_gate_zone_t *sh, uint32_t pid)
{
    ngx_uint_t  i;

    for (i = 0; i < ngx_gate_load(&sh->nslots); i++) {

        if (ngx_gate_load(&sh->slots[i].pid) == pid) {
            return ngx_gate_slot_alive(&sh->slots[i]);
        }
    }

    return 0;
}

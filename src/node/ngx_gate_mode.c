
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Modes: a gate can be told to only observe, or to stand aside, without a
 * reload.
 */


#include "ngx_gate_node.h"


static ngx_int_t ngx_gate_mode_find(const char *const *names, ngx_uint_t n,
    const u_char *name, size_t len);


/* by NGX_GATE_MODE_MAINTENANCE, .. */

static const char  *ngx_gate_mode_gates[NGX_GATE_MODES] = {
    "maintenance", "canary", "limit", "cursor"
};

/* by NGX_GATE_MODE_ENFORCE, .. */

static const char  *ngx_gate_mode_names[] = {
    "enforce", "observe", "off"
};

#define NGX_GATE_MODE_VALUES                                                  \
    (sizeof(ngx_gate_mode_names) / sizeof(ngx_gate_mode_names[0]))


const char *
ngx_gate_mode_gate_name(ngx_uint_t gate)
{
    return (gate < NGX_GATE_MODES) ? ngx_gate_mode_gates[gate] : NULL;
}


const char *
ngx_gate_mode_name(uint64_t value)
{
    return (value < NGX_GATE_MODE_VALUES) ? ngx_gate_mode_names[value] : NULL;
}


ngx_int_t
ngx_gate_mode_gate(const u_char *name, size_t len)
{
    return ngx_gate_mode_find(ngx_gate_mode_gates, NGX_GATE_MODES, name, len);
}


ngx_int_t
ngx_gate_mode_value(const u_char *name, size_t len)
{
    return ngx_gate_mode_find(ngx_gate_mode_names, NGX_GATE_MODE_VALUES, name,
                              len);
}


static ngx_int_t
ngx_gate_mode_find(const char *const *names, ngx_uint_t n,
    const u_char *name, size_t len)
{
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {

        if (ngx_strlen(names[i]) == len
            && ngx_strncmp(names[i], name, len) == 0)
        {
            return i;
        }
    }

    return NGX_ERROR;
}


void
ngx_gate_mode_set(ngx_gate_node_t *node, ngx_uint_t gate, uint64_t value,
    const char *source, const char *actor)
{
    ngx_uint_t        i;
    ngx_gate_mode_t  *mode;
    ngx_gate_zone_t  *sh;

    if (gate >= NGX_GATE_MODES || value >= NGX_GATE_MODE_VALUES) {
        return;
    }

    sh = node->sh;
    mode = &sh->modes[gate];

    ngx_shmtx_lock(&node->shpool->mutex);

    if (mode->value != value) {
        mode->since = ngx_gate_now();
    }

    ngx_gate_text(mode->source, sizeof(mode->source), (u_char *) source,
                  ngx_strlen(source));
    ngx_gate_text(mode->actor, sizeof(mode->actor), (u_char *) actor,
                  ngx_strlen(actor));

    ngx_gate_store(&mode->value, value);

    if (node->redis == NULL && mode->known.rev) {

        /* a Redis that was taken out of the configuration may come back */

        mode->known.dirty = 1;
    }

    if (gate == NGX_GATE_MODE_MAINTENANCE) {

        for (i = 0; i < sh->nswitches; i++) {
            ngx_gate_switch_refresh_locked(node, &sh->switches[i]);
        }
    }

    ngx_gate_changed(sh);

    ngx_shmtx_unlock(&node->shpool->mutex);
}

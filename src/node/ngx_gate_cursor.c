
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Counters of cursors, by location and by key.
 *
 * Locations and keys come and go with reloads, their counters stay: names
 * that nobody configures any more keep their object, so that they go on
 * where they stopped when they come back.  There is a bound on how many may
 * come together that way, and what comes later shares one object.
 */


#include "ngx_gate_cursor.h"
#include "core/gate_text.h"


static ngx_int_t ngx_gate_cursor_reserve_all(ngx_gate_node_t *node,
    ngx_array_t *confs, ngx_gate_cursor_head_t **list, size_t size);
static ngx_gate_cursor_head_t *ngx_gate_cursor_reserve_one(
    ngx_gate_node_t *node, ngx_gate_cursor_head_t **list, ngx_str_t *name,
    size_t size);
static ngx_uint_t ngx_gate_cursor_named(const char *have, ngx_str_t *name);
static ngx_int_t ngx_gate_cursor_label(ngx_pool_t *pool, ngx_str_t *label,
    ngx_str_t *name);


/* What has no object of its own: no location and no file has such a name. */

static ngx_str_t  ngx_gate_cursor_others = ngx_string("(others)");

const uint32_t  ngx_gate_cursor_bounds[NGX_GATE_CURSOR_HIST - 1] = {
    10, 25, 50, 100, 250, 500, 1000, 2500, 5000
};


ngx_int_t
ngx_gate_cursor_reserve_locked(ngx_gate_node_t *node)
{
    if (ngx_gate_cursor_reserve_all(node, &node->cursors, &node->sh->cursors,
                                    sizeof(ngx_gate_cursor_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_gate_cursor_reserve_all(node, &node->cursor_keys,
                                       &node->sh->cursor_keys,
                                       sizeof(ngx_gate_cursor_key_t));
}


/* size: of an object of that list. */

static ngx_int_t
ngx_gate_cursor_reserve_all(ngx_gate_node_t *node, ngx_array_t *confs,
    ngx_gate_cursor_head_t **list, size_t size)
{
    ngx_uint_t                i;
    ngx_gate_cursor_conf_t  **cc;

    cc = confs->elts;

    for (i = 0; i < confs->nelts; i++) {
        cc[i]->sh = ngx_gate_cursor_reserve_one(node, list, &cc[i]->name,
                                                size);
        if (cc[i]->sh == NULL) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_gate_cursor_head_t *
ngx_gate_cursor_reserve_one(ngx_gate_node_t *node,
    ngx_gate_cursor_head_t **list, ngx_str_t *name, size_t size)
{
    ngx_uint_t               n;
    ngx_gate_cursor_head_t  *head, *others;

    n = 0;
    others = NULL;

    for (head = *list; head; head = head->next) {

        if (ngx_gate_cursor_named(head->name, name)) {
            return head;
        }

        if (ngx_gate_cursor_named(head->name, &ngx_gate_cursor_others)) {
            others = head;
        }

        n++;
    }

    if (n >= NGX_GATE_CURSORS) {

        if (others) {
            return others;
        }

        name = &ngx_gate_cursor_others;
    }

    head = ngx_slab_calloc_locked(node->shpool, size);
    if (head == NULL) {
        return NULL;
    }

    ngx_gate_text(head->name, sizeof(head->name), name->data, name->len);

    head->next = *list;
    ngx_gate_store(list, head);

    return head;
}


static ngx_uint_t
ngx_gate_cursor_named(const char *have, ngx_str_t *name)
{
    return ngx_strlen(have) == name->len
           && ngx_memcmp(have, name->data, name->len) == 0;
}


/*
 * The name as all who show it can: cut, and with question marks where it is no
 * text.  Names that would look the same there are one.
 */

static ngx_int_t
ngx_gate_cursor_label(ngx_pool_t *pool, ngx_str_t *label, ngx_str_t *name)
{
    size_t  i;

    *label = *name;

    if (label->len > NGX_GATE_CURSOR_NAME_LEN - 1) {
        label->len = NGX_GATE_CURSOR_NAME_LEN - 1;

        /* not within a character */

        while (label->len && (name->data[label->len] & 0xc0) == 0x80) {
            label->len--;
        }
    }

    if (gate_text_clean(label->data, label->len)) {
        return NGX_OK;
    }

    label->data = ngx_pnalloc(pool, label->len);
    if (label->data == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < label->len; i++) {
        label->data[i] = (name->data[i] >= 0x20 && name->data[i] < 0x7f)
                         ? name->data[i] : '?';
    }

    return NGX_OK;
}


ngx_gate_cursor_conf_t *
ngx_gate_cursor_add(ngx_pool_t *pool, ngx_array_t *confs, ngx_str_t *name)
{
    ngx_str_t                 label;
    ngx_uint_t                i;
    ngx_gate_cursor_conf_t   *c, **cc;

    if (ngx_gate_cursor_label(pool, &label, name) != NGX_OK) {
        return NULL;
    }

    cc = confs->elts;

    for (i = 0; i < confs->nelts; i++) {

        if (cc[i]->name.len == label.len
            && ngx_memcmp(cc[i]->name.data, label.data, label.len) == 0)
        {
            return cc[i];
        }
    }

    c = ngx_pcalloc(pool, sizeof(ngx_gate_cursor_conf_t));
    cc = ngx_array_push(confs);

    if (c == NULL || cc == NULL) {
        return NULL;
    }

    c->name = label;

    *cc = c;

    return c;
}


void
ngx_gate_cursor_count(ngx_gate_cursor_t *c, gate_cursor_status_e status,
    uint64_t ns, ngx_uint_t refused, ngx_uint_t observed)
{
    ngx_uint_t  i;

    ngx_gate_add(&c->status_total[status], 1);

    if (refused) {
        ngx_gate_add(&c->refused_total, 1);
    }

    if (observed) {
        ngx_gate_add(&c->observed_total, 1);
    }

    if (ns == 0) {
        return;
    }

    for (i = 0; i < NGX_GATE_CURSOR_HIST - 1; i++) {

        if (ns <= (uint64_t) ngx_gate_cursor_bounds[i] * 1000) {
            break;
        }
    }

    ngx_gate_add(&c->hist[i], 1);
    ngx_gate_add(&c->nsec_total, ns);
}


void
ngx_gate_cursor_hit(ngx_gate_cursor_key_t *k)
{
    ngx_gate_add(&k->hits_total, 1);
    ngx_gate_store(&k->last, (int64_t) ngx_time());
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 *     $gate_arm             of the composite in use, else of the only one
 *     $gate_arm_NAME        that composite NAME chose or would choose
 *     $gate_arm_served      the arms of the attempts, as $upstream_addr
 *     $gate_rollout_state   idle, progressing, paused, promoted, rolled_back
 *     $gate_weight          in percent, without the sign
 *     $gate_limit_status    passed, limited, observed or unlimited
 *     $gate_limit_remaining of the limit that has the least left
 *     $gate_limit_key_hash  what status and log call the caller's key
 *     $gate_cursor_status   valid, expired, bad_signature, ..
 *     $gate_cursor_key_id   of the key that signed it
 *     $gate_cursor_claim_NAME
 */


#include "ngx_http_gate_cursor.h"
#include "ngx_http_gate_limit.h"

#include "core/gate_text.h"


static ngx_int_t ngx_http_gate_variable_arm(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_gate_variable_served(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_gate_variable_state(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_gate_variable_weight(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_gate_variable_limit(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_gate_variable_remaining(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_gate_variable_hash(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_gate_variable_cursor(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_gate_variable_key_id(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_gate_variable_claim(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static uint32_t ngx_http_gate_variable_member(const gate_cursor_t *c,
    ngx_str_t *name);
static ngx_uint_t ngx_http_gate_variable_called(const u_char *claim,
    ngx_str_t *name);
static ngx_int_t ngx_http_gate_variable_value(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, const gate_cursor_t *c, uint32_t node);
static ngx_http_gate_quota_t *ngx_http_gate_variable_quota(
    ngx_http_request_t *r);
static ngx_http_gate_srv_conf_t *ngx_http_gate_variable_composite(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_gate_variable_text(ngx_http_variable_value_t *v,
    const char *text);


static ngx_http_variable_t  ngx_http_gate_vars[] = {

    { ngx_string("gate_arm"), NULL, ngx_http_gate_variable_arm, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("gate_arm_served"), NULL, ngx_http_gate_variable_served, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("gate_rollout_state"), NULL, ngx_http_gate_variable_state, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("gate_weight"), NULL, ngx_http_gate_variable_weight, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("gate_limit_status"), NULL, ngx_http_gate_variable_limit, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("gate_limit_remaining"), NULL,
      ngx_http_gate_variable_remaining, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("gate_limit_key_hash"), NULL, ngx_http_gate_variable_hash, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("gate_cursor_status"), NULL, ngx_http_gate_variable_cursor,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("gate_cursor_key_id"), NULL, ngx_http_gate_variable_key_id,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("gate_cursor_claim_"), NULL, ngx_http_gate_variable_claim,
      0, NGX_HTTP_VAR_NOCACHEABLE|NGX_HTTP_VAR_PREFIX, 0 },

      ngx_http_null_variable
};


static const char  *ngx_http_gate_arm_names[] = { "stable", "canary" };

/* by NGX_HTTP_GATE_UNLIMITED, .. */

static const char  *ngx_http_gate_limit_names[] = {
    "unlimited", "passed", "observed", "limited"
};


ngx_int_t
ngx_http_gate_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_gate_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_gate_add_arm_variable(ngx_conf_t *cf,
    ngx_http_gate_srv_conf_t *composite)
{
    u_char               *p;
    ngx_str_t             name;
    ngx_uint_t            i;
    ngx_http_variable_t  *var;

    static ngx_str_t  prefix = ngx_string("gate_arm_");

    name.len = prefix.len + composite->rollout->name.len;

    name.data = ngx_pnalloc(cf->pool, name.len);
    if (name.data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(name.data, prefix.data, prefix.len);
    ngx_strlow(p, composite->rollout->name.data,
               composite->rollout->name.len);

    /* a variable's name has no dots and dashes: the name is "_" there */

    for (i = 0; i < composite->rollout->name.len; i++) {

        if (p[i] == '.' || p[i] == '-') {
            p[i] = '_';
        }
    }

    /* another composite, we ourselves, or a "set" or "map" may have it */

    var = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);

    if (var == NULL || var->get_handler) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "variable \"$%V\" of upstream \"%V\" exists "
                           "already, give the upstream another name",
                           &name, &composite->rollout->name);
        return NGX_ERROR;
    }

    var->get_handler = ngx_http_gate_variable_arm;
    var->data = (uintptr_t) composite;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_variable_arm(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_gate_pick_t      *pick;
    ngx_http_gate_srv_conf_t  *composite;

    composite = (ngx_http_gate_srv_conf_t *) data;

    if (composite == NULL) {
        composite = ngx_http_gate_variable_composite(r);
    }

    if (composite == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    pick = ngx_http_gate_pick(r, composite);
    if (pick == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_gate_variable_text(v, ngx_http_gate_arm_names[pick->arm]);
}


static ngx_int_t
ngx_http_gate_variable_served(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char               *p;
    ngx_uint_t            i;
    ngx_http_gate_ctx_t  *ctx;

    ctx = ngx_http_gate_ctx(r);

    if (ctx == NULL || ctx->nserved == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    /* both names have six letters */

    p = ngx_pnalloc(r->pool, ctx->nserved * (sizeof("stable, ") - 1));
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->data = p;

    for (i = 0; i < ctx->nserved; i++) {

        if (i) {
            p = ngx_cpymem(p, ", ", 2);
        }

        p = ngx_cpymem(p, ngx_http_gate_arm_names[(ctx->served >> i) & 1], 6);
    }

    v->len = p - v->data;
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_variable_state(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    uint64_t                   word;
    ngx_http_gate_srv_conf_t  *composite;

    composite = ngx_http_gate_variable_composite(r);

    if (composite == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    word = ngx_gate_load(&composite->rollout->sh->word);

    return ngx_http_gate_variable_text(v,
                          gate_rollout_state_name(ngx_gate_word_state(word)));
}


static ngx_int_t
ngx_http_gate_variable_weight(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                    *p;
    uint64_t                   word;
    ngx_http_gate_srv_conf_t  *composite;

    composite = ngx_http_gate_variable_composite(r);

    if (composite == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, 8);
    if (p == NULL) {
        return NGX_ERROR;
    }

    word = ngx_gate_load(&composite->rollout->sh->word);

    v->len = gate_format_weight(ngx_gate_word_weight(word), (char *) p);
    v->data = p;
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_variable_limit(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_gate_quota_t  *q;

    q = ngx_http_gate_variable_quota(r);

    if (q == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    return ngx_http_gate_variable_text(v,
                                       ngx_http_gate_limit_names[q->result]);
}


static ngx_int_t
ngx_http_gate_variable_remaining(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                 *p;
    ngx_http_gate_quota_t  *q;

    q = ngx_http_gate_variable_quota(r);

    if (q == NULL || !ngx_http_gate_quota_is(q, SHOWN)) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_INT64_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->len = ngx_sprintf(p, "%L", q->take.v.remaining) - p;
    v->data = p;
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_variable_hash(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                 *p;
    ngx_http_gate_quota_t  *q;

    q = ngx_http_gate_variable_quota(r);

    if (q && q->result != NGX_HTTP_GATE_LIMITED) {
        q = ngx_http_gate_ctx(r)->quotas;
    }

    if (q == NULL || q->take.hash == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, 16);
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->len = ngx_sprintf(p, "%016xL", (int64_t) q->take.hash) - p;
    v->data = p;
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_variable_cursor(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_gate_cursor_ctx_t  *cx;

    if (ngx_http_gate_cursor_get(r, &cx) != NGX_OK) {
        return NGX_ERROR;
    }

    if (cx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    return ngx_http_gate_variable_text(v,
                                       gate_cursor_status_name[cx->status]);
}


static ngx_int_t
ngx_http_gate_variable_key_id(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                   *id;
    ngx_http_gate_cursor_ctx_t  *cx;

    if (ngx_http_gate_cursor_get(r, &cx) != NGX_OK) {
        return NGX_ERROR;
    }

    if (cx == NULL || cx->status != GATE_CURSOR_VALID) {
        v->not_found = 1;
        return NGX_OK;
    }

    id = &cx->loc->file[cx->key]->id;

    if (id->len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->data = id->data;
    v->len = id->len;
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_variable_claim(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    uint32_t                     node;
    ngx_str_t                    name, *whole;
    const gate_cursor_t         *c;
    ngx_http_gate_cursor_ctx_t  *cx;

    whole = (ngx_str_t *) data;

    name.data = whole->data + sizeof("gate_cursor_claim_") - 1;
    name.len = whole->len - (sizeof("gate_cursor_claim_") - 1);

    if (ngx_http_gate_cursor_get(r, &cx) != NGX_OK) {
        return NGX_ERROR;
    }

    c = cx ? ngx_http_gate_cursor_claims(r, cx) : NULL;

    node = c ? ngx_http_gate_variable_member(c, &name) : GATE_JSON_NONE;

    if (node == GATE_JSON_NONE) {
        v->not_found = 1;
        return NGX_OK;
    }

    return ngx_http_gate_variable_value(r, v, c, node);
}


/*
 * nginx knows variables in lower case only, without dots and dashes.  A claim
 * that is not called just so is meant if it is the only one.
 */

static uint32_t
ngx_http_gate_variable_member(const gate_cursor_t *c, ngx_str_t *name)
{
    uint32_t                 i, found;
    ngx_uint_t               k;
    const gate_json_node_t  *node;

    found = gate_cursor_claim(c, (char *) name->data, name->len);

    if (found != GATE_JSON_NONE) {
        return found;
    }

    i = c->payload + 1;

    for (k = 0; k < c->json.node[c->payload].size; k++) {
        node = &c->json.node[i];

        if (node->plain && node->end - node->start == name->len
            && ngx_http_gate_variable_called(c->json.text + node->start, name))
        {
            if (found != GATE_JSON_NONE) {
                return GATE_JSON_NONE;
            }

            found = i + 1;
        }

        i = c->json.node[i + 1].next;
    }

    return found;
}


static ngx_uint_t
ngx_http_gate_variable_called(const u_char *claim, ngx_str_t *name)
{
    u_char      ch;
    ngx_uint_t  i;

    for (i = 0; i < name->len; i++) {
        ch = ngx_tolower(claim[i]);

        if (ch == '-' || ch == '.') {
            ch = '_';
        }

        if (ch != name->data[i]) {
            return 0;
        }
    }

    return 1;
}


/* What a claim says in one clean piece of text; not so null and containers. */

static ngx_int_t
ngx_http_gate_variable_value(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, const gate_cursor_t *c, uint32_t node)
{
    u_char                  *p;
    size_t                   size;
    const gate_json_node_t  *n;

    n = &c->json.node[node];
    size = n->end - n->start;

    switch (n->type) {

    case GATE_JSON_TRUE:
        return ngx_http_gate_variable_text(v, "true");

    case GATE_JSON_FALSE:
        return ngx_http_gate_variable_text(v, "false");

    case GATE_JSON_INT:
    case GATE_JSON_FLOAT:
        size = n->plain ? size : gate_json_printed(size);
        break;

    case GATE_JSON_STRING:
        break;

    default:
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, ngx_max(size, 1));
    if (p == NULL) {
        return NGX_ERROR;
    }

    if (n->type == GATE_JSON_STRING) {
        size = gate_json_string(&c->json, node, p);

        if (!gate_text_clean(p, size)) {
            v->not_found = 1;
            return NGX_OK;
        }

    } else if (n->plain) {
        ngx_memcpy(p, c->json.text + n->start, size);

    } else {
        size = gate_json_print(&c->json, node, p);
    }

    v->data = p;
    v->len = (unsigned) size;
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;

    return NGX_OK;
}


static ngx_http_gate_quota_t *
ngx_http_gate_variable_quota(ngx_http_request_t *r)
{
    ngx_http_gate_ctx_t  *ctx;

    ctx = ngx_http_gate_ctx(r);

    return ctx ? ngx_http_gate_quota(ctx) : NULL;
}


static ngx_http_gate_srv_conf_t *
ngx_http_gate_variable_composite(ngx_http_request_t *r)
{
    ngx_http_gate_ctx_t         *ctx;
    ngx_http_gate_srv_conf_t   **composite;
    ngx_http_gate_main_conf_t   *gmcf;

    ctx = ngx_http_gate_ctx(r);

    if (ctx && ctx->current) {
        return ctx->current->composite;
    }

    gmcf = ngx_http_get_module_main_conf(r, ngx_http_gate_module);
    composite = gmcf->composites.elts;

    return (gmcf->composites.nelts == 1) ? composite[0] : NULL;
}


static ngx_int_t
ngx_http_gate_variable_text(ngx_http_variable_value_t *v, const char *text)
{
    v->data = (u_char *) text;
    v->len = ngx_strlen(text);
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;

    return NGX_OK;
}

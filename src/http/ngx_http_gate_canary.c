
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Which arm serves this request?  Chosen once, when a variable or the
 * balancer first asks, and pinned to the main request.
 *
 *     mode "off"  >  gate_force  >  gate_key  >  gate_sticky  >  the dice
 *
 * Key, cookie and dice give a bucket of 10000; the canary has the buckets
 * below its weight.  So a higher weight only adds callers and a lower one
 * only removes them.
 */


#include "ngx_http_gate.h"


#define NGX_HTTP_GATE_COOKIES  8      /* of our name, that are looked at */


static ngx_uint_t ngx_http_gate_choose(ngx_http_request_t *r,
    ngx_http_gate_srv_conf_t *composite, ngx_http_gate_pick_t *pick);
static ngx_uint_t ngx_http_gate_dice(void);
static ngx_uint_t ngx_http_gate_forced(ngx_http_request_t *r,
    ngx_http_gate_srv_conf_t *composite);
static ngx_int_t ngx_http_gate_cookie_bucket(ngx_http_request_t *r,
    ngx_http_gate_srv_conf_t *composite, ngx_http_gate_pick_t *pick);
static ngx_int_t ngx_http_gate_cookie_field(ngx_str_t *field,
    ngx_http_gate_srv_conf_t *composite, ngx_http_gate_pick_t *pick,
    ngx_uint_t *n, ngx_int_t *bucket);
static ngx_int_t ngx_http_gate_set_cookie(ngx_http_request_t *r,
    ngx_http_gate_pick_t *pick);
static ngx_int_t ngx_http_gate_canary_param(ngx_conf_t *cf,
    ngx_http_gate_srv_conf_t *gscf, ngx_str_t *value);
static char *ngx_http_gate_canary_register(ngx_conf_t *cf,
    ngx_http_gate_srv_conf_t *gscf);
static ngx_int_t ngx_http_gate_canary_arms(ngx_conf_t *cf,
    ngx_http_gate_srv_conf_t *gscf);
static ngx_http_upstream_srv_conf_t *ngx_http_gate_find_upstream(
    ngx_conf_t *cf, ngx_str_t *name);


static uint64_t  ngx_http_gate_dice_state;


ngx_http_gate_pick_t *
ngx_http_gate_pick(ngx_http_request_t *r, ngx_http_gate_srv_conf_t *composite)
{
    ngx_http_gate_ctx_t   *ctx;
    ngx_http_gate_pick_t  *pick;

    ctx = ngx_http_gate_ctx_create(r);
    if (ctx == NULL) {
        return NULL;
    }

    for (pick = ctx->picks; pick; pick = pick->next) {

        if (pick->composite == composite) {
            return pick;
        }
    }

    pick = &ctx->pick;

    if (pick->composite) {
        pick = ngx_palloc(r->main->pool, sizeof(ngx_http_gate_pick_t));
        if (pick == NULL) {
            return NULL;
        }
    }

    pick->composite = composite;
    pick->word = ngx_gate_load(&composite->rollout->sh->word);
    pick->forced = 0;
    pick->counted = 0;
    pick->cookie = 0;
    pick->arm = ngx_http_gate_choose(r, composite, pick);

    pick->next = ctx->picks;
    ctx->picks = pick;

    return pick;
}


static ngx_uint_t
ngx_http_gate_choose(ngx_http_request_t *r,
    ngx_http_gate_srv_conf_t *composite, ngx_http_gate_pick_t *pick)
{
    ngx_int_t            bucket;
    ngx_str_t            key;
    ngx_uint_t           force, weight;
    ngx_gate_rollout_t  *ro;

    if (ngx_http_gate_canary_off(composite)) {
        return NGX_GATE_STABLE;
    }

    if (composite->force) {
        force = ngx_http_gate_forced(r, composite);

        if (force != GATE_FORCE_NONE) {
            pick->forced = 1;
            return (force == GATE_FORCE_ALWAYS) ? NGX_GATE_CANARY
                                                : NGX_GATE_STABLE;
        }
    }

    weight = ngx_gate_word_weight(pick->word);

    if (weight == 0) {
        return NGX_GATE_STABLE;
    }

    if (weight >= GATE_WEIGHT_MAX) {
        return NGX_GATE_CANARY;
    }

    ro = composite->rollout->sh;

    if (composite->key.value
        && ngx_http_gate_fetch(r, &composite->key, &key) == NGX_OK
        && key.len)
    {
        bucket = gate_assign_bucket(ro->seed[ngx_gate_word_seed(pick->word)],
                                    key.data, key.len);

    } else if (composite->sticky) {
        bucket = ngx_http_gate_cookie_bucket(r, composite, pick);

    } else {
        bucket = ngx_http_gate_dice();
    }

    return ((ngx_uint_t) bucket < weight) ? NGX_GATE_CANARY : NGX_GATE_STABLE;
}


void
ngx_http_gate_dice_init(void)
{
    ngx_gate_random(&ngx_http_gate_dice_state,
                    sizeof(ngx_http_gate_dice_state));
}


/*
 * A bucket by chance.  SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a
 * tenth of what random() takes, which also locks.
 */

static ngx_uint_t
ngx_http_gate_dice(void)
{
    uint64_t  z;

    z = (ngx_http_gate_dice_state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    z ^= z >> 31;

    return (ngx_uint_t) ((z >> 32) * GATE_WEIGHT_MAX >> 32);
}


static ngx_uint_t
ngx_http_gate_forced(ngx_http_request_t *r,
    ngx_http_gate_srv_conf_t *composite)
{
    ngx_str_t                  value;
    ngx_uint_t                 i, force;
    ngx_http_complex_value_t  *cv;

    cv = composite->force->elts;

    for (i = 0; i < composite->force->nelts; i++) {

        if (ngx_http_complex_value(r, &cv[i], &value) != NGX_OK) {
            continue;
        }

        force = gate_assign_force(value.data, value.len);

        if (force != GATE_FORCE_NONE) {
            return force;
        }
    }

    return GATE_FORCE_NONE;
}


/*
 * The bucket in the caller's cookie.  A cookie of an epoch that is over is
 * as good as none; one of an epoch that this node does not know yet goes to
 * stable (the last bucket) and is left as it is.
 */

static ngx_int_t
ngx_http_gate_cookie_bucket(ngx_http_request_t *r,
    ngx_http_gate_srv_conf_t *composite, ngx_http_gate_pick_t *pick)
{
    ngx_int_t         bucket;
    ngx_uint_t        i, n;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    n = 0;
    bucket = NGX_DECLINED;

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {

            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len == sizeof("Cookie") - 1
            && ngx_strncasecmp(h[i].key.data, (u_char *) "Cookie",
                               sizeof("Cookie") - 1)
               == 0
            && ngx_http_gate_cookie_field(&h[i].value, composite, pick, &n,
                                          &bucket)
               == NGX_OK)
        {
            return bucket;
        }
    }

    if (bucket != NGX_DECLINED) {
        return bucket;
    }

    pick->cookie = 1;
    ngx_http_gate_ctx(r)->cookies = 1;

    pick->bucket = ngx_http_gate_dice();

    return pick->bucket;
}


/*
 * A browser may send several cookies of one name, one for each path and
 * domain, and anybody may have set the others: the first that is ours and of
 * this epoch counts.  NGX_OK for that one.
 */

static ngx_int_t
ngx_http_gate_cookie_field(ngx_str_t *field,
    ngx_http_gate_srv_conf_t *composite, ngx_http_gate_pick_t *pick,
    ngx_uint_t *n, ngx_int_t *bucket)
{
    size_t                   len;
    u_char                  *end;
    uint64_t                 epoch;
    unsigned                 b;
    ngx_uint_t               k;
    const u_char            *p, *value;
    ngx_http_gate_sticky_t  *s;

    s = composite->sticky;

    end = field->data + field->len;

    for (p = field->data;
         gate_cookie_find(p, end - p, s->name.data, s->name.len, &value,
                          &len);
         p = value + len)
    {
        if ((*n)++ == NGX_HTTP_GATE_COOKIES) {
            break;
        }

        for (k = 0; k < s->nkeys; k++) {

            if (gate_cookie_read(value, len, &s->hmac[k],
                                 composite->rollout->name.data,
                                 composite->rollout->name.len, &epoch, &b)
                != 0)
            {
                continue;
            }

            if (epoch == ngx_gate_word_epoch(pick->word)) {
                *bucket = b;
                return NGX_OK;
            }

            if (epoch > ngx_gate_word_epoch(pick->word)) {
                *bucket = GATE_WEIGHT_MAX;
            }

            break;
        }
    }

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_gate_canary_header_filter(ngx_http_request_t *r,
    ngx_http_gate_ctx_t *ctx)
{
    ngx_http_gate_pick_t  *pick;

    for (pick = ctx->picks; pick; pick = pick->next) {

        if (pick->cookie) {
            pick->cookie = 0;

            if (ngx_http_gate_set_cookie(r, pick) != NGX_OK) {
                return NGX_ERROR;
            }
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_set_cookie(ngx_http_request_t *r, ngx_http_gate_pick_t *pick)
{
    u_char                  *p, mac[GATE_COOKIE_MAX];
    size_t                   len;
    ngx_str_t                value;
    ngx_uint_t               secure;
    ngx_http_gate_sticky_t  *s;

    s = pick->composite->sticky;

    len = gate_cookie_make(mac, &s->hmac[0],
                           pick->composite->rollout->name.data,
                           pick->composite->rollout->name.len,
                           ngx_gate_word_epoch(pick->word), pick->bucket);
    if (len == 0) {
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, s->name.len + len + s->path.len + s->domain.len
                             + NGX_TIME_T_LEN
                             + sizeof("=; Path=; Domain=; Max-Age=; Secure"
                                      "; HttpOnly; SameSite=Lax"));
    if (p == NULL) {
        return NGX_ERROR;
    }

    secure = s->secure;

#if (NGX_HTTP_SSL)
    secure |= (r->connection->ssl != NULL);
#endif

    value.data = p;

    p = ngx_sprintf(p, "%V=%*s; Path=%V", &s->name, len, mac, &s->path);

    if (s->domain.len) {
        p = ngx_sprintf(p, "; Domain=%V", &s->domain);
    }

    if (s->max_age) {
        p = ngx_sprintf(p, "; Max-Age=%T", s->max_age);
    }

    if (secure) {
        p = ngx_sprintf(p, "; Secure");
    }

    p = ngx_sprintf(p, "; HttpOnly; SameSite=Lax");

    value.len = p - value.data;

    return ngx_http_gate_add_header(r, "Set-Cookie", sizeof("Set-Cookie") - 1,
                                    &value);
}


/* Directives of the upstream block. */


ngx_gate_rollout_conf_t *
ngx_http_gate_rollout(ngx_conf_t *cf, ngx_http_gate_srv_conf_t *gscf)
{
    if (gscf->rollout) {
        return gscf->rollout;
    }

    /* whichever directive came first: its place is named if gate_canary never
       comes */

    gscf->file = cf->conf_file->file.name.data;
    gscf->line = cf->conf_file->line;
    gscf->upstream = ngx_http_conf_get_module_srv_conf(cf,
                                                    ngx_http_upstream_module);

    gscf->rollout = ngx_pcalloc(cf->pool, sizeof(ngx_gate_rollout_conf_t));

    return gscf->rollout;
}


char *
ngx_http_gate_canary(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_gate_srv_conf_t *gscf = conf;

    ngx_str_t                     *value;
    ngx_uint_t                     i;
    ngx_gate_rollout_conf_t       *rc;
    ngx_http_upstream_srv_conf_t  *uscf;

    rc = ngx_http_gate_rollout(cf, gscf);
    if (rc == NULL) {
        return NGX_CONF_ERROR;
    }

    if (rc->stable.len) {
        return "is duplicate";
    }

    uscf = gscf->upstream;
    value = cf->args->elts;

    gscf->file = cf->conf_file->file.name.data;
    gscf->line = cf->conf_file->line;

    if (uscf->peer.init_upstream) {
        return "must come before \"keepalive\" and be the only load balancing "
               "method of its upstream, give the method to the arms";
    }

    if (uscf->servers->nelts) {
        return "cannot share its upstream with \"server\", "
               "move the servers into the arms";
    }

    rc->name = uscf->host;
    rc->stable = value[1];
    rc->canary = value[2];

    for (i = 3; i < cf->args->nelts; i++) {

        if (ngx_http_gate_canary_param(cf, gscf, &value[i]) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    if (!gate_name_valid(rc->name.data, rc->name.len)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "upstream name \"%V\" cannot be a composite, it "
                           "must be of up to 64 letters, digits, \"_\", "
                           "\".\" and \"-\"", &rc->name);
        return NGX_CONF_ERROR;
    }

    return ngx_http_gate_canary_register(cf, gscf);
}


static ngx_int_t
ngx_http_gate_canary_param(ngx_conf_t *cf, ngx_http_gate_srv_conf_t *gscf,
    ngx_str_t *value)
{
    unsigned                  weight;
    ngx_str_t                 s;
    ngx_gate_rollout_conf_t  *rc;

    rc = gscf->rollout;

    if (ngx_strncmp(value->data, "weight=", 7) == 0) {
        s.data = value->data + 7;
        s.len = value->len - 7;

        if (gate_parse_weight(s.data, s.len, &weight) != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid weight \"%V\", it must be from "
                               "0%% to 100%% in steps of 0.01%%", &s);
            return NGX_ERROR;
        }

        rc->weight = weight;
        gscf->weighted = 1;

        return NGX_OK;
    }

    if (ngx_strncmp(value->data, "id=", 3) == 0) {
        rc->id.data = value->data + 3;
        rc->id.len = value->len - 3;

        return ngx_http_gate_check_text(cf, &rc->id, NGX_GATE_ID_LEN - 1);
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\", it must be \"weight=\" "
                       "or \"id=\"", value);

    return NGX_ERROR;
}


static char *
ngx_http_gate_canary_register(ngx_conf_t *cf, ngx_http_gate_srv_conf_t *gscf)
{
    ngx_addr_t                    *addr;
    ngx_gate_rollout_conf_t      **rcp;
    ngx_http_gate_srv_conf_t     **gscfp;
    ngx_http_gate_main_conf_t     *gmcf;
    ngx_http_upstream_server_t    *server;
    ngx_http_upstream_srv_conf_t  *uscf;

    uscf = gscf->upstream;

    /*
     * nginx refuses an upstream without servers, and a load balancing method
     * that took our place one without addresses: we know a better reason
     */

    server = ngx_array_push(uscf->servers);
    addr = ngx_pcalloc(cf->pool, sizeof(ngx_addr_t));

    if (server == NULL || addr == NULL) {
        return NGX_CONF_ERROR;
    }

    addr->name = uscf->host;

    ngx_memzero(server, sizeof(ngx_http_upstream_server_t));

    server->name = uscf->host;
    server->addrs = addr;
    server->naddrs = 1;
    server->weight = 1;
    server->down = 1;

    uscf->peer.init_upstream = ngx_http_gate_init_upstream;
    uscf->flags = NGX_HTTP_UPSTREAM_CREATE;

    gmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_gate_module);

    gmcf->enabled = 1;

    gscfp = ngx_array_push(&gmcf->composites);
    rcp = ngx_array_push(&gmcf->node.rollouts);

    if (gscfp == NULL || rcp == NULL) {
        return NGX_CONF_ERROR;
    }

    *gscfp = gscf;
    *rcp = gscf->rollout;

    if (ngx_http_gate_add_arm_variable(cf, gscf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_gate_check_text(ngx_conf_t *cf, ngx_str_t *s, size_t max)
{
    size_t  i;

    if (s->len == 0 || s->len > max) {
        goto invalid;
    }

    for (i = 0; i < s->len; i++) {

        if (s->data[i] <= ' ' || s->data[i] >= 0x7f) {
            goto invalid;
        }
    }

    return NGX_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid value \"%V\", it must be of 1 to %uz "
                       "printable ASCII characters without space", s, max);

    return NGX_ERROR;
}


char *
ngx_http_gate_force(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_gate_srv_conf_t *gscf = conf;

    if (ngx_http_gate_rollout(cf, gscf) == NULL) {
        return NGX_CONF_ERROR;
    }

    return ngx_http_gate_values(cf, cmd, &gscf->force);
}


/* gate_label name=value ...: what a deployment wants to find in its record */

char *
ngx_http_gate_label(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_gate_srv_conf_t *gscf = conf;

    u_char                   *p, *eq;
    ngx_str_t                *value, name, text;
    ngx_uint_t                i;
    ngx_gate_rollout_conf_t  *rc;

    rc = ngx_http_gate_rollout(cf, gscf);
    if (rc == NULL) {
        return NGX_CONF_ERROR;
    }

    if (rc->labels.len) {
        return "is duplicate, give all labels in one";
    }

    p = ngx_pnalloc(cf->pool, NGX_HTTP_GATE_LABELS);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    rc->labels.data = p;
    *p++ = '{';

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        eq = (u_char *) ngx_strchr(value[i].data, '=');

        name.data = value[i].data;
        name.len = eq ? (size_t) (eq - name.data) : 0;

        if (eq == NULL || !gate_name_valid(name.data, name.len)) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid label \"%V\", it must be name=value",
                               &value[i]);
            return NGX_CONF_ERROR;
        }

        text.data = eq + 1;
        text.len = value[i].len - name.len - 1;

        if (ngx_http_gate_check_text(cf, &text, NGX_GATE_ID_LEN - 1)
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }

        /* each character may become two, ASCII has no longer escapes */

        if ((size_t) (p - rc->labels.data) + name.len + 2 * text.len + 8
            > NGX_HTTP_GATE_LABELS)
        {
            return "is too long";
        }

        if (i > 1) {
            *p++ = ',';
        }

        p = ngx_sprintf(p, "\"%V\":\"", &name);
        p = (u_char *) ngx_escape_json(p, text.data, text.len);
        *p++ = '"';
    }

    *p++ = '}';

    rc->labels.len = p - rc->labels.data;

    return NGX_CONF_OK;
}


/* Of all composites, when every upstream block has been read. */

ngx_int_t
ngx_http_gate_canary_check(ngx_conf_t *cf, ngx_http_gate_main_conf_t *gmcf)
{
    ngx_uint_t                       i;
    ngx_http_gate_srv_conf_t        *gscf;
    ngx_http_upstream_srv_conf_t   **uscfp;
    ngx_http_upstream_main_conf_t   *umcf;

    umcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_upstream_module);
    uscfp = umcf->upstreams.elts;

    for (i = 0; i < umcf->upstreams.nelts; i++) {

        if (uscfp[i]->srv_conf == NULL) {
            continue;
        }

        gscf = ngx_http_conf_upstream_srv_conf(uscfp[i],
                                               ngx_http_gate_module);

        if (gscf->rollout == NULL) {
            continue;
        }

        if (gscf->rollout->stable.len == 0) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "upstream \"%V\" has gate directives but no "
                          "\"gate_canary\" in %s:%ui",
                          &uscfp[i]->host, gscf->file, gscf->line);
            return NGX_ERROR;
        }

        if (ngx_http_gate_canary_arms(cf, gscf) != NGX_OK
            || ngx_http_gate_steps_check(cf, gscf) != NGX_OK)
        {
            return NGX_ERROR;
        }

        ngx_http_gate_fetch_init(cf, &gscf->key);

        if (gscf->fallback == NGX_CONF_UNSET) {
            gscf->fallback = 1;
        }

        if (gscf->force == NGX_CONF_UNSET_PTR) {
            gscf->force = NULL;
        }

        ngx_http_gate_rules_digest(gscf->rollout);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_canary_arms(ngx_conf_t *cf, ngx_http_gate_srv_conf_t *gscf)
{
    ngx_uint_t                     i;
    const char                    *why;
    ngx_str_t                     *name[NGX_GATE_ARMS];
    ngx_http_gate_srv_conf_t      *child;
    ngx_http_upstream_srv_conf_t  *uscf;

    uscf = gscf->upstream;

    name[NGX_GATE_STABLE] = &gscf->rollout->stable;
    name[NGX_GATE_CANARY] = &gscf->rollout->canary;

    if (uscf->servers->nelts > 1) {
        why = "has a \"server\" beside it, move it into one of the arms";
        goto invalid;
    }

#if (NGX_HTTP_UPSTREAM_ZONE)
    if (uscf->shm_zone) {
        why = "has a \"zone\" beside it, give it to the arms";
        goto invalid;
    }
#endif

    if (!gscf->ready) {
        why = "has another load balancing method beside it, give it to the "
              "arms";
        goto invalid;
    }

    for (i = 0; i < NGX_GATE_ARMS; i++) {
        gscf->arm[i] = ngx_http_gate_find_upstream(cf, name[i]);

        if (gscf->arm[i] == NULL) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "unknown upstream \"%V\" in \"gate_canary\", it "
                          "needs an \"upstream %V { ... }\" block in %s:%ui",
                          name[i], name[i], gscf->file, gscf->line);
            return NGX_ERROR;
        }

        child = ngx_http_conf_upstream_srv_conf(gscf->arm[i],
                                                ngx_http_gate_module);

        if (child->rollout) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "upstream \"%V\" in \"gate_canary\" has a "
                          "\"gate_canary\" of its own, they cannot be nested "
                          "in %s:%ui", name[i], gscf->file, gscf->line);
            return NGX_ERROR;
        }
    }

    if (gscf->arm[NGX_GATE_STABLE] == gscf->arm[NGX_GATE_CANARY]) {
        why = "names one upstream twice, stable and canary must differ";
        goto invalid;
    }

    return NGX_OK;

invalid:

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "\"gate_canary\" of upstream \"%V\" %s in %s:%ui",
                  &uscf->host, why, gscf->file, gscf->line);

    return NGX_ERROR;
}


static ngx_http_upstream_srv_conf_t *
ngx_http_gate_find_upstream(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_uint_t                       i;
    ngx_http_upstream_srv_conf_t   **uscfp;
    ngx_http_upstream_main_conf_t   *umcf;

    umcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_upstream_module);
    uscfp = umcf->upstreams.elts;

    for (i = 0; i < umcf->upstreams.nelts; i++) {

        /* a proxy_pass to that name made one too, only a block is meant */

        if ((uscfp[i]->flags & NGX_HTTP_UPSTREAM_CREATE)
            && uscfp[i]->srv_conf
            && uscfp[i]->host.len == name->len
            && ngx_strncasecmp(uscfp[i]->host.data, name->data, name->len)
               == 0)
        {
            return uscfp[i];
        }
    }

    return NULL;
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Is this request's cursor genuine?  Asked in the PRECONTENT phase, after
 * everybody who may say 401 or 403, and before try_files and mirror.
 *
 * A request that goes on elsewhere, to an error page or what try_files found,
 * is asked again where other rules hold or the query has changed: what reaches
 * the service is what was verified.  It is counted once for each gate_cursor.
 *
 * Variables may want to know earlier; what they are told is kept.
 */


#include "ngx_http_gate_cursor.h"


#define NGX_HTTP_GATE_CURSOR_INVALID  "Invalid cursor: "


static ngx_int_t ngx_http_gate_cursor_check(ngx_http_request_t *r,
    ngx_http_gate_cursor_loc_t *loc);
static ngx_int_t ngx_http_gate_cursor_judge(ngx_http_request_t *r,
    ngx_http_gate_cursor_ctx_t *cx, ngx_http_gate_cursor_ctx_t *now);
static ngx_uint_t ngx_http_gate_cursor_exempt(ngx_http_request_t *r);
static ngx_http_gate_cursor_ctx_t *ngx_http_gate_cursor_open(
    ngx_http_request_t *r, ngx_http_gate_ctx_t *ctx);
static ngx_uint_t ngx_http_gate_cursor_same(ngx_http_gate_cursor_loc_t *a,
    ngx_http_gate_cursor_loc_t *b);
static ngx_uint_t ngx_http_gate_cursor_settled(ngx_http_request_t *r,
    ngx_http_gate_cursor_ctx_t *cx, ngx_http_gate_cursor_loc_t *loc);
static ngx_uint_t ngx_http_gate_cursor_there(ngx_http_request_t *r,
    ngx_http_gate_cursor_ctx_t *cx, ngx_http_gate_cursor_loc_t *loc);
static ngx_int_t ngx_http_gate_cursor_look(ngx_http_request_t *r,
    ngx_http_gate_cursor_loc_t *loc, ngx_http_gate_cursor_ctx_t *cx,
    ngx_http_gate_cursor_ctx_t *now);
static ngx_int_t ngx_http_gate_cursor_wanted(ngx_http_request_t *r,
    ngx_http_gate_cursor_t *cursor);
static ngx_int_t ngx_http_gate_cursor_values(ngx_http_request_t *r,
    ngx_http_gate_cursor_loc_t *loc, ngx_str_t *values);
static void ngx_http_gate_cursor_verify(ngx_http_gate_cursor_ctx_t *cx,
    ngx_str_t *cursor);
static void ngx_http_gate_cursor_bind(ngx_http_gate_cursor_ctx_t *cx,
    ngx_str_t *values);
static ngx_int_t ngx_http_gate_cursor_say(ngx_http_request_t *r,
    ngx_http_gate_cursor_ctx_t *cx, const char *text, size_t len);
static void ngx_http_gate_cursor_count(ngx_http_gate_cursor_ctx_t *cx,
    ngx_uint_t refused, ngx_uint_t observed);
static void ngx_http_gate_cursor_log(ngx_http_request_t *r,
    ngx_http_gate_cursor_ctx_t *cx, ngx_uint_t refused);


/* One at a time is verified in a process; this is where. */

static gate_cursor_t          ngx_http_gate_cursor_last;
static gate_cursor_scratch_t  ngx_http_gate_cursor_scratch;

/* Which one that was. */

static uint64_t               ngx_http_gate_cursor_serial;

static const char  ngx_http_gate_cursor_twice[] =
    "Cursor given more than once";
static const char  ngx_http_gate_cursor_behind[] =
    "Invalid cursor format: there is a fragment";
static const char  ngx_http_gate_cursor_other[] =
    "Cursor is not valid for this request";


ngx_int_t
ngx_http_gate_cursor_handler(ngx_http_request_t *r)
{
    ngx_http_gate_loc_conf_t  *glcf;

    glcf = ngx_http_get_module_loc_conf(r, ngx_http_gate_module);

    if (glcf->cursor_loc == NULL || r != r->main
        || ngx_http_gate_cursor_exempt(r))
    {
        return NGX_DECLINED;
    }

    return ngx_http_gate_cursor_check(r, glcf->cursor_loc);
}


/*
 * Whoever was refused before he came here gets the page that says so: it would
 * not do to answer a missing key with what is wrong about the cursor.  Another
 * error, and one whose error_page has a "=", may hand the request on to those
 * who serve it.
 */

static ngx_uint_t
ngx_http_gate_cursor_exempt(ngx_http_request_t *r)
{
    if (!r->internal) {
        return 0;
    }

    /* the client has its answer */

    if (r->post_action) {
        return 1;
    }

    switch (r->err_status) {

    case NGX_HTTP_UNAUTHORIZED:
    case NGX_HTTP_FORBIDDEN:
    case NGX_HTTP_TOO_MANY_REQUESTS:
    case NGX_HTTP_SERVICE_UNAVAILABLE:
        return 1;

    default:
        return 0;
    }
}


static ngx_int_t
ngx_http_gate_cursor_check(ngx_http_request_t *r,
    ngx_http_gate_cursor_loc_t *loc)
{
    ngx_http_gate_ctx_t         *ctx;
    ngx_http_gate_cursor_ctx_t  *cx, now;

    ctx = ngx_http_gate_ctx_create(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cx = ngx_http_gate_cursor_open(r, ctx);
    if (cx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_gate_cursor_settled(r, cx, loc)) {

        if (cx->checked || cx->refused) {
            return NGX_DECLINED;
        }

        now = *cx;
        now.loc = loc;

    } else if (ngx_http_gate_cursor_look(r, loc, cx, &now) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (now.skipped) {
        return NGX_DECLINED;
    }

    return ngx_http_gate_cursor_judge(r, cx, &now);
}


static ngx_int_t
ngx_http_gate_cursor_judge(ngx_http_request_t *r,
    ngx_http_gate_cursor_ctx_t *cx, ngx_http_gate_cursor_ctx_t *now)
{
    ngx_uint_t                  bad, refused;
    ngx_http_gate_main_conf_t  *gmcf;

    gmcf = ngx_http_get_module_main_conf(r, ngx_http_gate_module);

    bad = (now->status != GATE_CURSOR_VALID
           && now->status != GATE_CURSOR_ABSENT);

    refused = bad && !now->loc->cursor->observe
              && ngx_gate_mode(gmcf->node.sh, NGX_GATE_MODE_CURSOR)
                 != NGX_GATE_MODE_OBSERVE;

    if (refused || !ngx_http_gate_cursor_same(now->counted, now->loc)) {
        ngx_http_gate_cursor_count(now, refused, bad && !refused);
    }

    if (bad) {
        ngx_http_gate_cursor_log(r, now, refused);
    }

    now->counted = now->loc;
    now->checked = 1;
    now->refused = refused;

    /* an error page has no query: what was known of the cursor is still so */

    if (cx->checked && now->status == GATE_CURSOR_ABSENT) {
        cx->counted = now->loc;
        return NGX_DECLINED;
    }

    *cx = *now;

    return refused ? ngx_http_gate_cursor_refuse(r, cx) : NGX_DECLINED;
}


ngx_int_t
ngx_http_gate_cursor_get(ngx_http_request_t *r,
    ngx_http_gate_cursor_ctx_t **cxp)
{
    ngx_http_gate_ctx_t         *ctx;
    ngx_http_gate_loc_conf_t    *glcf;
    ngx_http_gate_cursor_ctx_t  *cx, now;

    r = r->main;
    *cxp = NULL;

    glcf = ngx_http_get_module_loc_conf(r, ngx_http_gate_module);

    if (glcf->cursor_loc == NULL) {

        /* what was found out on the way here */

        ctx = ngx_http_gate_ctx(r);

        if (ctx && ctx->cursor && ctx->cursor->checked) {
            *cxp = ctx->cursor;
        }

        return NGX_OK;
    }

    ctx = ngx_http_gate_ctx_create(r);
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    cx = ngx_http_gate_cursor_open(r, ctx);
    if (cx == NULL) {
        return NGX_ERROR;
    }

    /* a value that the decision depends on cannot depend on the decision */

    if (cx->busy) {
        return NGX_OK;
    }

    if (!ngx_http_gate_cursor_settled(r, cx, glcf->cursor_loc)) {

        if (ngx_http_gate_cursor_look(r, glcf->cursor_loc, cx, &now)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (!cx->checked
            || !(now.skipped || now.status == GATE_CURSOR_ABSENT))
        {
            *cx = now;
        }
    }

    if (!cx->skipped) {
        *cxp = cx;
    }

    return NGX_OK;
}


const gate_cursor_t *
ngx_http_gate_cursor_claims(ngx_http_request_t *r,
    ngx_http_gate_cursor_ctx_t *cx)
{
    ngx_str_t  cursor;

    if (cx->status != GATE_CURSOR_VALID) {
        return NULL;
    }

    if (cx->serial != ngx_http_gate_cursor_serial) {

        /* others were verified meanwhile; the clock of then is kept */

        if (ngx_http_gate_cursor_find(r->main, cx->loc->cursor, &cx->args,
                                      &cursor)
            != NGX_OK)
        {
            return NULL;
        }

        ngx_http_gate_cursor_verify(cx, &cursor);
    }

    return (ngx_http_gate_cursor_last.status == GATE_CURSOR_VALID)
           ? &ngx_http_gate_cursor_last : NULL;
}


static ngx_http_gate_cursor_ctx_t *
ngx_http_gate_cursor_open(ngx_http_request_t *r, ngx_http_gate_ctx_t *ctx)
{
    if (ctx->cursor == NULL) {
        ctx->cursor = ngx_pcalloc(r->pool,
                                  sizeof(ngx_http_gate_cursor_ctx_t));
    }

    return ctx->cursor;
}


/* Whether these are the same rules; the first ones may be none. */

static ngx_uint_t
ngx_http_gate_cursor_same(ngx_http_gate_cursor_loc_t *a,
    ngx_http_gate_cursor_loc_t *b)
{
    return a == b
           || (a && a->cursor == b->cursor && a->keys == b->keys
               && a->claims == b->claims);
}


/* Whether looking again would find the same. */

static ngx_uint_t
ngx_http_gate_cursor_settled(ngx_http_request_t *r,
    ngx_http_gate_cursor_ctx_t *cx, ngx_http_gate_cursor_loc_t *loc)
{
    if (cx->refused) {
        return 1;
    }

    if (cx->skipped || !ngx_http_gate_cursor_same(cx->loc, loc)
        || (loc->varies && !cx->checked))
    {
        return 0;
    }

    return ngx_http_gate_cursor_there(r, cx, loc);
}


/* Whether it is the same cursor. */

static ngx_uint_t
ngx_http_gate_cursor_there(ngx_http_request_t *r,
    ngx_http_gate_cursor_ctx_t *cx, ngx_http_gate_cursor_loc_t *loc)
{
    if (loc->cursor->source != NGX_HTTP_GATE_CURSOR_ARG) {
        return 1;
    }

    return cx->args.len == r->args.len
           && (cx->args.data == r->args.data
               || ngx_memcmp(cx->args.data, r->args.data, r->args.len) == 0);
}


/*
 * What these rules make of the request as it is now; cx is what is known of it
 * so far, and stays as it is.
 */

static ngx_int_t
ngx_http_gate_cursor_look(ngx_http_request_t *r,
    ngx_http_gate_cursor_loc_t *loc, ngx_http_gate_cursor_ctx_t *cx,
    ngx_http_gate_cursor_ctx_t *now)
{
    ngx_int_t    rc;
    ngx_str_t    cursor, values[GATE_CURSOR_CLAIMS];
    ngx_time_t  *tp;

    ngx_memzero(now, sizeof(ngx_http_gate_cursor_ctx_t));

    now->loc = loc;
    now->args = r->args;
    now->status = GATE_CURSOR_ABSENT;
    now->key = -1;
    now->counted = cx->counted;

    /* values first: one of them may want to know of another cursor */

    cx->busy = 1;
    rc = ngx_http_gate_cursor_wanted(r, loc->cursor);

    if (rc == NGX_OK) {
        rc = ngx_http_gate_cursor_values(r, loc, values);
    }

    cx->busy = 0;

    if (rc != NGX_OK) {
        now->skipped = 1;
        return (rc == NGX_DECLINED) ? NGX_OK : NGX_ERROR;
    }

    rc = ngx_http_gate_cursor_find(r, loc->cursor, &now->args, &cursor);

    switch (rc) {

    case NGX_OK:
        break;

    case NGX_DECLINED:
        return NGX_OK;

    case NGX_BUSY:
        now->status = GATE_CURSOR_DUPLICATE;

        return ngx_http_gate_cursor_say(r, now,
                                        ngx_http_gate_cursor_twice,
                                    sizeof(ngx_http_gate_cursor_twice) - 1);

    default:
        now->status = GATE_CURSOR_MALFORMED;

        return ngx_http_gate_cursor_say(r, now,
                                        ngx_http_gate_cursor_behind,
                                   sizeof(ngx_http_gate_cursor_behind) - 1);
    }

    if (cx->serial && cx->serial == ngx_http_gate_cursor_serial
        && ngx_http_gate_cursor_same(cx->loc, loc)
        && ngx_http_gate_cursor_there(r, cx, loc))
    {
        /* it is only the values that may be others now */

        now->now = cx->now;
        now->ns = cx->ns;
        now->serial = cx->serial;

    } else {
        tp = ngx_timeofday();
        now->now = (double) tp->sec + (double) tp->msec / 1000;

        ngx_http_gate_cursor_verify(now, &cursor);
    }

    now->status = ngx_http_gate_cursor_last.status;
    now->key = ngx_http_gate_cursor_last.key;

    if (now->status == GATE_CURSOR_VALID) {
        ngx_http_gate_cursor_bind(now, values);
    }

    if (now->status == GATE_CURSOR_VALID) {
        return NGX_OK;
    }

    if (now->status == GATE_CURSOR_MISMATCH) {
        return ngx_http_gate_cursor_say(r, now,
                                        ngx_http_gate_cursor_other,
                                    sizeof(ngx_http_gate_cursor_other) - 1);
    }

    return ngx_http_gate_cursor_say(r, now, ngx_http_gate_cursor_last.text,
                                    ngx_http_gate_cursor_last.text_len);
}


/* NGX_DECLINED: it is not to be checked. */

static ngx_int_t
ngx_http_gate_cursor_wanted(ngx_http_request_t *r,
    ngx_http_gate_cursor_t *cursor)
{
    ngx_str_t                   value;
    ngx_http_gate_main_conf_t  *gmcf;

    gmcf = ngx_http_get_module_main_conf(r, ngx_http_gate_module);

    if (ngx_gate_mode(gmcf->node.sh, NGX_GATE_MODE_CURSOR)
        == NGX_GATE_MODE_OFF)
    {
        return NGX_DECLINED;
    }

    if (cursor->when.value == NULL) {
        return NGX_OK;
    }

    if (ngx_http_gate_fetch(r, &cursor->when, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    return (value.len == 0 || (value.len == 1 && value.data[0] == '0'))
           ? NGX_DECLINED : NGX_OK;
}


static ngx_int_t
ngx_http_gate_cursor_values(ngx_http_request_t *r,
    ngx_http_gate_cursor_loc_t *loc, ngx_str_t *values)
{
    ngx_uint_t                     i;
    ngx_http_gate_cursor_claim_t  *claim;

    ngx_memzero(values, GATE_CURSOR_CLAIMS * sizeof(ngx_str_t));

    if (loc->claims == NULL) {
        return NGX_OK;
    }

    claim = loc->claims->elts;

    for (i = 0; i < loc->claims->nelts; i++) {

        if (ngx_http_complex_value(r, &claim[i].value, &values[i]) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static void
ngx_http_gate_cursor_verify(ngx_http_gate_cursor_ctx_t *cx, ngx_str_t *cursor)
{
    struct timespec              from, to;
    ngx_http_gate_cursor_loc_t  *loc;

    loc = cx->loc;

    (void) clock_gettime(CLOCK_MONOTONIC, &from);

    (void) gate_cursor_verify(&ngx_http_gate_cursor_last, &loc->rules,
                              loc->key, (unsigned) loc->nkeys, cursor->data,
                              cursor->len, cx->now,
                              &ngx_http_gate_cursor_scratch);

    (void) clock_gettime(CLOCK_MONOTONIC, &to);

    cx->ns = (uint64_t) (to.tv_sec - from.tv_sec) * 1000000000
             + (uint64_t) to.tv_nsec - (uint64_t) from.tv_nsec;

    /* a clock may stand still so long, and 0 is "nothing was verified" */

    if (cx->ns == 0) {
        cx->ns = 1;
    }

    cx->serial = ++ngx_http_gate_cursor_serial;
}


static void
ngx_http_gate_cursor_bind(ngx_http_gate_cursor_ctx_t *cx, ngx_str_t *values)
{
    ngx_uint_t                     i;
    ngx_http_gate_cursor_claim_t  *claim;

    if (cx->loc->claims == NULL) {
        return;
    }

    claim = cx->loc->claims->elts;

    for (i = 0; i < cx->loc->claims->nelts; i++) {

        if (!gate_cursor_claim_is(&ngx_http_gate_cursor_last,
                                  (char *) claim[i].name.data,
                                  claim[i].name.len, values[i].data,
                                  values[i].len))
        {
            cx->status = GATE_CURSOR_MISMATCH;
        }
    }
}


static ngx_int_t
ngx_http_gate_cursor_say(ngx_http_request_t *r,
    ngx_http_gate_cursor_ctx_t *cx, const char *text, size_t len)
{
    u_char  *p;

    p = ngx_pnalloc(r->pool, sizeof(NGX_HTTP_GATE_CURSOR_INVALID) - 1 + len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    cx->text.data = p;

    p = ngx_cpymem(p, NGX_HTTP_GATE_CURSOR_INVALID,
                   sizeof(NGX_HTTP_GATE_CURSOR_INVALID) - 1);

    cx->text.len = ngx_cpymem(p, text, len) - cx->text.data;

    return NGX_OK;
}


static void
ngx_http_gate_cursor_count(ngx_http_gate_cursor_ctx_t *cx,
    ngx_uint_t refused, ngx_uint_t observed)
{
    ngx_http_gate_cursor_loc_t  *loc;

    loc = cx->loc;

    if (loc->conf) {
        ngx_gate_cursor_count(ngx_gate_cursor_of(loc->conf), cx->status,
                              cx->ns, refused, observed);
    }

    if (cx->status == GATE_CURSOR_VALID) {
        ngx_gate_cursor_hit(ngx_gate_cursor_key_of(loc->file[cx->key]->conf));
    }
}


/*
 * One line a second for each location, and not to the connection's log: nginx
 * would add the request's line to it, with the cursor.
 */

static void
ngx_http_gate_cursor_log(ngx_http_request_t *r,
    ngx_http_gate_cursor_ctx_t *cx, ngx_uint_t refused)
{
    ngx_http_core_loc_conf_t    *clcf;
    ngx_http_core_srv_conf_t    *cscf;
    ngx_http_gate_cursor_loc_t  *loc;

    loc = cx->loc;

    if (loc->logged == ngx_time()) {
        loc->silent++;
        return;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    cscf = ngx_http_get_module_srv_conf(r, ngx_http_core_module);

    ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                  "gate: cursor %s, %s, in location \"%V\" of \"%V\", "
                  "%ui more since",
                  refused ? "refused" : "would be refused",
                  gate_cursor_status_name[cx->status], &clcf->name,
                  &cscf->server_name, loc->silent);

    loc->logged = ngx_time();
    loc->silent = 0;
}

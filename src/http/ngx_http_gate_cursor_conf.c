
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gate_cursor cursor ttl=10m when=$http_x_api_key
 * gate_cursor_claim route $route
 *
 * What counts in a location is put together when it is merged, out of three
 * directives that may come from three levels.
 */


#include "ngx_http_gate_cursor.h"
#include "ngx_http_gate_limit.h"


typedef struct {
    ngx_str_t    name;
    ngx_int_t  (*handler)(ngx_conf_t *cf, ngx_http_gate_cursor_t *cursor,
                          ngx_str_t *value);
    const char  *allowed;
} ngx_http_gate_cursor_param_t;


static ngx_int_t ngx_http_gate_cursor_source(ngx_conf_t *cf,
    ngx_http_gate_cursor_t *cursor, ngx_str_t *arg);
static ngx_int_t ngx_http_gate_cursor_source_check(ngx_conf_t *cf,
    ngx_http_gate_cursor_t *cursor, ngx_str_t *arg);
static ngx_int_t ngx_http_gate_cursor_param(ngx_conf_t *cf,
    ngx_http_gate_cursor_t *cursor, ngx_str_t *arg, ngx_uint_t *seen);
static ngx_int_t ngx_http_gate_cursor_format(ngx_conf_t *cf,
    ngx_http_gate_cursor_t *cursor, ngx_str_t *value);
static ngx_int_t ngx_http_gate_cursor_mode(ngx_conf_t *cf,
    ngx_http_gate_cursor_t *cursor, ngx_str_t *value);
static ngx_int_t ngx_http_gate_cursor_ttl(ngx_conf_t *cf,
    ngx_http_gate_cursor_t *cursor, ngx_str_t *value);
static ngx_int_t ngx_http_gate_cursor_skew(ngx_conf_t *cf,
    ngx_http_gate_cursor_t *cursor, ngx_str_t *value);
static ngx_int_t ngx_http_gate_cursor_when(ngx_conf_t *cf,
    ngx_http_gate_cursor_t *cursor, ngx_str_t *value);
static ngx_int_t ngx_http_gate_cursor_duplicate(ngx_conf_t *cf,
    ngx_http_gate_cursor_t *cursor, ngx_str_t *value);
static ngx_int_t ngx_http_gate_cursor_expired(ngx_conf_t *cf,
    ngx_http_gate_cursor_t *cursor, ngx_str_t *value);
static ngx_int_t ngx_http_gate_cursor_length(ngx_conf_t *cf,
    ngx_http_gate_cursor_t *cursor, ngx_str_t *value);
static ngx_int_t ngx_http_gate_cursor_depth(ngx_conf_t *cf,
    ngx_http_gate_cursor_t *cursor, ngx_str_t *value);
static ngx_int_t ngx_http_gate_cursor_members(ngx_conf_t *cf,
    ngx_http_gate_cursor_t *cursor, ngx_str_t *value);
static ngx_int_t ngx_http_gate_cursor_digits(ngx_conf_t *cf,
    ngx_http_gate_cursor_t *cursor, ngx_str_t *value);
static ngx_int_t ngx_http_gate_cursor_number(ngx_str_t *value, ngx_int_t min,
    ngx_int_t max);
static ngx_int_t ngx_http_gate_cursor_seconds(ngx_str_t *value,
    ngx_int_t min, int64_t *seconds);
static ngx_uint_t ngx_http_gate_cursor_reached(ngx_http_core_loc_conf_t *clcf);
static ngx_http_gate_cursor_loc_t *ngx_http_gate_cursor_loc(ngx_conf_t *cf,
    ngx_http_gate_loc_conf_t *conf);
static ngx_int_t ngx_http_gate_cursor_loc_keys(
    ngx_http_gate_cursor_loc_t *loc, ngx_array_t *keys);
static void ngx_http_gate_cursor_loc_claims(ngx_http_gate_cursor_loc_t *loc);
static ngx_int_t ngx_http_gate_cursor_loc_counters(ngx_conf_t *cf,
    ngx_http_gate_cursor_loc_t *loc, ngx_http_core_loc_conf_t *clcf);


static ngx_http_gate_cursor_param_t  ngx_http_gate_cursor_params[] = {

    { ngx_string("format="), ngx_http_gate_cursor_format,
      "\"envelope\", \"detached\" or \"jws\"" },

    { ngx_string("mode="), ngx_http_gate_cursor_mode,
      "\"strict\", \"compat\" or \"observe\"" },

    { ngx_string("ttl="), ngx_http_gate_cursor_ttl,
      "a time in whole seconds of at least 1s, as in \"10m\"" },

    { ngx_string("skew="), ngx_http_gate_cursor_skew,
      "a time in whole seconds, as in \"60s\"" },

    { ngx_string("when="), ngx_http_gate_cursor_when,
      "a value, as in \"when=$http_x_api_key\"" },

    { ngx_string("duplicate="), ngx_http_gate_cursor_duplicate,
      "\"reject\", \"last\" or \"first\"" },

    { ngx_string("expired_status="), ngx_http_gate_cursor_expired,
      "400 or 410" },

    { ngx_string("max_length="), ngx_http_gate_cursor_length,
      "a number from 1 to 4096" },

    { ngx_string("max_depth="), ngx_http_gate_cursor_depth,
      "a number from 2 to 32" },

    { ngx_string("max_members="), ngx_http_gate_cursor_members,
      "a number from 2 to 64" },

    { ngx_string("max_digits="), ngx_http_gate_cursor_digits,
      "a number from 1 to 4300" },

    { ngx_null_string, NULL, NULL }
};


char *
ngx_http_gate_cursor(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_gate_loc_conf_t *glcf = conf;

    ngx_str_t                  *value;
    ngx_uint_t                  i, seen;
    ngx_http_gate_cursor_t     *cursor;
    ngx_http_gate_main_conf_t  *gmcf;

    if (glcf->cursor != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {

        if (cf->args->nelts > 2) {
            return "has parameters after \"off\"";
        }

        glcf->cursor = NULL;

        return NGX_CONF_OK;
    }

    cursor = ngx_pcalloc(cf->pool, sizeof(ngx_http_gate_cursor_t));
    if (cursor == NULL) {
        return NGX_CONF_ERROR;
    }

    cursor->expired = NGX_HTTP_BAD_REQUEST;
    cursor->file = cf->conf_file->file.name.data;
    cursor->line = cf->conf_file->line;

    gate_cursor_rules_init(&cursor->rules);

    if (ngx_http_gate_cursor_source(cf, cursor, &value[1]) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    seen = 0;

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_http_gate_cursor_param(cf, cursor, &value[i], &seen)
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    gmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_gate_module);

    cursor->next = gmcf->cursor;
    gmcf->cursor = cursor;

    glcf->cursor = cursor;

    return NGX_CONF_OK;
}


/* "cursor", "arg:cursor", "header:X-Cursor", "cookie:cursor" */

static ngx_int_t
ngx_http_gate_cursor_source(ngx_conf_t *cf, ngx_http_gate_cursor_t *cursor,
    ngx_str_t *arg)
{
    ngx_uint_t  i;

    /* by NGX_HTTP_GATE_CURSOR_ARG, .. */

    static ngx_str_t  sources[] = {
        ngx_string("arg:"), ngx_string("header:"), ngx_string("cookie:")
    };

    for (i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {

        if (arg->len >= sources[i].len
            && ngx_strncmp(arg->data, sources[i].data, sources[i].len) == 0)
        {
            cursor->source = i;
            cursor->name.data = arg->data + sources[i].len;
            cursor->name.len = arg->len - sources[i].len;

            return ngx_http_gate_cursor_source_check(cf, cursor, arg);
        }
    }

    /* one that has none of these words is most likely a mistake */

    for (i = 0; i < arg->len; i++) {

        if (ngx_strchr("$=:&", arg->data[i]) != NULL) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid place of the cursor \"%V\", allowed "
                               "are the name of an argument, \"arg:NAME\", "
                               "\"header:NAME\" and \"cookie:NAME\", or "
                               "\"off\" alone", arg);
            return NGX_ERROR;
        }
    }

    cursor->source = NGX_HTTP_GATE_CURSOR_ARG;
    cursor->name = *arg;

    return ngx_http_gate_cursor_source_check(cf, cursor, arg);
}


static ngx_int_t
ngx_http_gate_cursor_source_check(ngx_conf_t *cf,
    ngx_http_gate_cursor_t *cursor, ngx_str_t *arg)
{
    u_char      c;
    ngx_uint_t  i, bad;

    bad = (cursor->name.len == 0);

    /* an argument's name can have anything in it, the others are tokens */

    if (cursor->source != NGX_HTTP_GATE_CURSOR_ARG) {

        for (i = 0; i < cursor->name.len; i++) {
            c = cursor->name.data[i];

            bad |= (c <= ' ' || c >= 0x7f
                    || ngx_strchr("()<>@,;:\\\"/[]?={}", c) != NULL);
        }
    }

    if (bad) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name in \"%V\", it must be %s", arg,
                           (cursor->source == NGX_HTTP_GATE_CURSOR_ARG)
                           ? "of one character at least"
                           : "of letters, digits, \"-\", \"_\" and the like");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_cursor_param(ngx_conf_t *cf, ngx_http_gate_cursor_t *cursor,
    ngx_str_t *arg, ngx_uint_t *seen)
{
    ngx_int_t                      rc;
    ngx_str_t                      value;
    ngx_uint_t                     i;
    ngx_http_gate_cursor_param_t  *p;

    for (i = 0; ngx_http_gate_cursor_params[i].name.len; i++) {
        p = &ngx_http_gate_cursor_params[i];

        if (arg->len < p->name.len
            || ngx_strncmp(arg->data, p->name.data, p->name.len) != 0)
        {
            continue;
        }

        if (*seen & (1 << i)) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate parameter \"%V\"", arg);
            return NGX_ERROR;
        }

        *seen |= 1 << i;

        value.data = arg->data + p->name.len;
        value.len = arg->len - p->name.len;

        rc = value.len ? p->handler(cf, cursor, &value) : NGX_DECLINED;

        if (rc == NGX_DECLINED) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\", it must be %s",
                               arg, p->allowed);
            return NGX_ERROR;
        }

        return rc;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\", allowed are \"format=\", "
                       "\"mode=\", \"ttl=\", \"skew=\", \"when=\", "
                       "\"duplicate=\", \"expired_status=\", "
                       "\"max_length=\", \"max_depth=\", \"max_members=\" "
                       "and \"max_digits=\"", arg);

    return NGX_ERROR;
}


/* Parameters: NGX_OK, NGX_ERROR, or NGX_DECLINED for "it must be". */

static ngx_int_t
ngx_http_gate_cursor_format(ngx_conf_t *cf, ngx_http_gate_cursor_t *cursor,
    ngx_str_t *value)
{
    ngx_int_t  n;

    /* by gate_cursor_format_e */

    static const char  *words[] = { "envelope", "detached", "jws", NULL };

    n = ngx_http_gate_limit_word(value, words);

    if (n == NGX_ERROR) {
        return NGX_DECLINED;
    }

    cursor->rules.format = (gate_cursor_format_e) n;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_cursor_mode(ngx_conf_t *cf, ngx_http_gate_cursor_t *cursor,
    ngx_str_t *value)
{
    ngx_int_t  n;

    static const char  *words[] = { "strict", "compat", "observe", NULL };

    n = ngx_http_gate_limit_word(value, words);

    if (n == NGX_ERROR) {
        return NGX_DECLINED;
    }

    cursor->rules.mode = (n == 1) ? GATE_CURSOR_COMPAT : GATE_CURSOR_STRICT;
    cursor->observe = (n == 2);

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_cursor_ttl(ngx_conf_t *cf, ngx_http_gate_cursor_t *cursor,
    ngx_str_t *value)
{
    cursor->rules.ttl_given = 1;

    return ngx_http_gate_cursor_seconds(value, 1, &cursor->rules.ttl);
}


static ngx_int_t
ngx_http_gate_cursor_skew(ngx_conf_t *cf, ngx_http_gate_cursor_t *cursor,
    ngx_str_t *value)
{
    return ngx_http_gate_cursor_seconds(value, 0, &cursor->rules.skew);
}


static ngx_int_t
ngx_http_gate_cursor_when(ngx_conf_t *cf, ngx_http_gate_cursor_t *cursor,
    ngx_str_t *value)
{
    return ngx_http_gate_fetch_compile(cf, &cursor->when, value);
}


static ngx_int_t
ngx_http_gate_cursor_duplicate(ngx_conf_t *cf, ngx_http_gate_cursor_t *cursor,
    ngx_str_t *value)
{
    ngx_int_t  n;

    /* by NGX_HTTP_GATE_CURSOR_REJECT, .. */

    static const char  *words[] = { "reject", "last", "first", NULL };

    n = ngx_http_gate_limit_word(value, words);

    if (n == NGX_ERROR) {
        return NGX_DECLINED;
    }

    cursor->duplicate = n;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_cursor_expired(ngx_conf_t *cf, ngx_http_gate_cursor_t *cursor,
    ngx_str_t *value)
{
    cursor->expired = (ngx_uint_t) ngx_atoi(value->data, value->len);

    return (cursor->expired == NGX_HTTP_BAD_REQUEST
            || cursor->expired == NGX_HTTP_GATE_GONE)
           ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_http_gate_cursor_length(ngx_conf_t *cf, ngx_http_gate_cursor_t *cursor,
    ngx_str_t *value)
{
    cursor->rules.length = ngx_http_gate_cursor_number(value, 1,
                                                       GATE_CURSOR_LENGTH);

    return cursor->rules.length ? NGX_OK : NGX_DECLINED;
}


/* With less than two an envelope could not hold anything. */

static ngx_int_t
ngx_http_gate_cursor_depth(ngx_conf_t *cf, ngx_http_gate_cursor_t *cursor,
    ngx_str_t *value)
{
    cursor->rules.json.depth = (unsigned)
                     ngx_http_gate_cursor_number(value, 2, GATE_JSON_DEPTH);

    return cursor->rules.json.depth ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_http_gate_cursor_members(ngx_conf_t *cf, ngx_http_gate_cursor_t *cursor,
    ngx_str_t *value)
{
    cursor->rules.json.members = (unsigned)
                   ngx_http_gate_cursor_number(value, 2, GATE_JSON_MEMBERS);

    return cursor->rules.json.members ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_http_gate_cursor_digits(ngx_conf_t *cf, ngx_http_gate_cursor_t *cursor,
    ngx_str_t *value)
{
    cursor->rules.json.digits = (unsigned)
                    ngx_http_gate_cursor_number(value, 1, GATE_JSON_DIGITS);

    return cursor->rules.json.digits ? NGX_OK : NGX_DECLINED;
}


/* 0 for what is no number or out of bounds. */

static ngx_int_t
ngx_http_gate_cursor_number(ngx_str_t *value, ngx_int_t min, ngx_int_t max)
{
    ngx_int_t  n;

    n = ngx_atoi(value->data, value->len);

    return (n >= min && n <= max) ? n : 0;
}


static ngx_int_t
ngx_http_gate_cursor_seconds(ngx_str_t *value, ngx_int_t min,
    int64_t *seconds)
{
    ngx_int_t  n;

    n = ngx_parse_time(value, 1);

    if (n == (ngx_int_t) NGX_ERROR || n < min) {
        return NGX_DECLINED;
    }

    *seconds = n;

    return NGX_OK;
}


char *
ngx_http_gate_cursor_claim(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_gate_loc_conf_t *glcf = conf;

    ngx_str_t                         *value;
    ngx_uint_t                         i;
    ngx_http_gate_cursor_claim_t      *claim;
    ngx_http_compile_complex_value_t   ccv;

    value = cf->args->elts;

    if (value[1].len == 0 || value[2].len == 0) {
        return "needs the name of a claim and a value";
    }

    /* room for all of them: they never move */

    if (glcf->cursor_claims == NULL) {
        glcf->cursor_claims = ngx_array_create(cf->pool, GATE_CURSOR_CLAIMS,
                                        sizeof(ngx_http_gate_cursor_claim_t));
        if (glcf->cursor_claims == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    if (glcf->cursor_claims->nelts == GATE_CURSOR_CLAIMS) {
        return "is one too many, there may be up to 8 at one place";
    }

    claim = glcf->cursor_claims->elts;

    for (i = 0; i < glcf->cursor_claims->nelts; i++) {

        if (claim[i].name.len == value[1].len
            && ngx_strncmp(claim[i].name.data, value[1].data, value[1].len)
               == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "claim \"%V\" is named here already",
                               &value[1]);
            return NGX_CONF_ERROR;
        }
    }

    claim = ngx_array_push(glcf->cursor_claims);
    if (claim == NULL) {
        return NGX_CONF_ERROR;
    }

    claim->name = value[1];

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[2];
    ccv.complex_value = &claim->value;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_gate_cursor_merge(ngx_conf_t *cf, ngx_http_gate_loc_conf_t *prev,
    ngx_http_gate_loc_conf_t *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    if (conf->cursor_keys == NULL) {
        conf->cursor_keys = prev->cursor_keys;
    }

    if (conf->cursor_claims == NULL) {
        conf->cursor_claims = prev->cursor_claims;
    }

    if (conf->cursor == NGX_CONF_UNSET_PTR) {

        /* our own endpoints check only where it is said there */

        conf->cursor = (conf->endpoint || prev->cursor == NGX_CONF_UNSET_PTR)
                       ? NULL : prev->cursor;
    }

    if (conf->cursor == NULL) {
        return NGX_CONF_OK;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    /* an "if" and a "limit_except" can say nothing of their own */

    if (clcf->noname) {
        conf->cursor_loc = prev->cursor_loc;
        return NGX_CONF_OK;
    }

    conf->cursor_loc = ngx_http_gate_cursor_loc(cf, conf);

    return (conf->cursor_loc || !ngx_http_gate_cursor_reached(clcf))
           ? NGX_CONF_OK : NGX_CONF_ERROR;
}


/*
 * Whether a request can end up in this very place: not in a server's where a
 * "location /" takes all.
 */

static ngx_uint_t
ngx_http_gate_cursor_reached(ngx_http_core_loc_conf_t *clcf)
{
    ngx_queue_t                *q;
    ngx_http_location_queue_t  *lq;

    if (clcf->name.len || clcf->locations == NULL) {
        return 1;
    }

    for (q = ngx_queue_head(clcf->locations);
         q != ngx_queue_sentinel(clcf->locations);
         q = ngx_queue_next(q))
    {
        lq = (ngx_http_location_queue_t *) q;

        if (lq->inclusive && lq->inclusive->name.len == 1
            && lq->inclusive->name.data[0] == '/')
        {
            return 0;
        }
    }

    return 1;
}


/* NULL when it was logged why, or where nobody would notice. */

static ngx_http_gate_cursor_loc_t *
ngx_http_gate_cursor_loc(ngx_conf_t *cf, ngx_http_gate_loc_conf_t *conf)
{
    ngx_uint_t                   reached;
    ngx_http_gate_cursor_t      *cursor;
    ngx_http_core_loc_conf_t    *clcf;
    ngx_http_gate_main_conf_t   *gmcf;
    ngx_http_gate_cursor_loc_t  *loc;

    cursor = conf->cursor;
    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    reached = ngx_http_gate_cursor_reached(clcf);

    loc = ngx_pcalloc(cf->pool, sizeof(ngx_http_gate_cursor_loc_t));
    if (loc == NULL) {
        return NULL;
    }

    loc->cursor = cursor;
    loc->rules = cursor->rules;
    loc->claims = conf->cursor_claims;
    loc->varies = (cursor->when.value != NULL);

    if (ngx_http_gate_cursor_loc_keys(loc, conf->cursor_keys) != NGX_OK) {

        if (reached) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"gate_cursor\" has no \"gate_cursor_key\" that "
                          "fits \"format=%s\", in %s:%ui",
                          gate_cursor_format_name[cursor->rules.format],
                          cursor->file, cursor->line);
        }

        return NULL;
    }

    ngx_http_gate_cursor_loc_claims(loc);

    gmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_gate_module);

    gmcf->cursors = 1;
    gmcf->enabled = 1;

    if (reached && ngx_http_gate_cursor_loc_counters(cf, loc, clcf) != NGX_OK)
    {
        return NULL;
    }

    return loc;
}


/* NGX_DECLINED: none of them fits. */

static ngx_int_t
ngx_http_gate_cursor_loc_keys(ngx_http_gate_cursor_loc_t *loc,
    ngx_array_t *keys)
{
    ngx_uint_t                    i, fit;
    ngx_http_gate_cursor_key_t  **file;

    loc->keys = keys;

    if (keys == NULL) {
        return NGX_DECLINED;
    }

    fit = 0;
    file = keys->elts;

    for (i = 0; i < keys->nelts && i < GATE_CURSOR_KEYS; i++) {
        loc->key[i] = &file[i]->key;
        loc->file[i] = file[i];

        fit |= (loc->rules.format == GATE_CURSOR_JWS
                || file[i]->key.alg == GATE_CURSOR_HS256);
    }

    loc->nkeys = i;

    return fit ? NGX_OK : NGX_DECLINED;
}


static void
ngx_http_gate_cursor_loc_claims(ngx_http_gate_cursor_loc_t *loc)
{
    ngx_uint_t                     i;
    ngx_http_gate_cursor_claim_t  *claim;

    if (loc->claims == NULL) {
        return;
    }

    claim = loc->claims->elts;

    for (i = 0; i < loc->claims->nelts; i++) {
        loc->rules.claim[i] = (char *) claim[i].name.data;
        loc->rules.claim_len[i] = claim[i].name.len;

        loc->varies |= (claim[i].value.lengths != NULL);
    }

    loc->rules.nclaims = (unsigned) i;
}


/* "shop.example/api/", "_~ \.php$", "shop.example@pages" */

static ngx_int_t
ngx_http_gate_cursor_loc_counters(ngx_conf_t *cf,
    ngx_http_gate_cursor_loc_t *loc, ngx_http_core_loc_conf_t *clcf)
{
    u_char                     *p;
    ngx_str_t                   name, server;
    const char                 *sign;
    ngx_http_core_srv_conf_t   *cscf;
    ngx_http_gate_main_conf_t  *gmcf;

    cscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_core_module);
    gmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_gate_module);

    server = cscf->server_name;

    if (server.len == 0) {
        ngx_str_set(&server, "_");
    }

    sign = "";

#if (NGX_PCRE)
    if (clcf->regex) {
        sign = "~ ";
    }
#endif

    p = ngx_pnalloc(cf->pool, server.len + 2 + clcf->name.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    name.data = p;
    name.len = ngx_sprintf(p, "%V%s%V", &server, sign, &clcf->name) - p;

    loc->conf = ngx_gate_cursor_add(cf->pool, &gmcf->node.cursors, &name);

    return loc->conf ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_gate_cursor_init(ngx_conf_t *cf, ngx_http_gate_main_conf_t *gmcf)
{
    ngx_http_gate_cursor_t  *cursor;

    for (cursor = gmcf->cursor; cursor; cursor = cursor->next) {
        ngx_http_gate_fetch_init(cf, &cursor->when);
    }

    return NGX_OK;
}

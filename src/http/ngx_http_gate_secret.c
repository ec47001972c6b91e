
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Files that only we may read: keys, and the API's tokens.
 *
 * A secret that everybody on the host can read is none, so such a file is an
 * error of the configuration.  The master, often root, reads them all; the
 * tokens are looked at again by the workers, where they can read the file,
 * so that a token can be taken away without a reload.
 *
 * No message here shows what is in a file.
 */


#include "ngx_http_gate_api.h"

#include "core/gate_parse.h"

#include <grp.h>

#include <openssl/crypto.h>
#include <openssl/sha.h>


#define NGX_HTTP_GATE_TOKENS_SIZE     65536
#define NGX_HTTP_GATE_TOKEN_MIN       16
#define NGX_HTTP_GATE_TOKEN_MAX       1024
#define NGX_HTTP_GATE_TOKEN_NAME_MAX  32


static const char *ngx_http_gate_secret_check(ngx_file_info_t *fi,
    ngx_gid_t gid, size_t max);
static void ngx_http_gate_tokens_cleanup(void *data);
static void ngx_http_gate_tokens_refresh(ngx_http_gate_api_conf_t *acf,
    ngx_log_t *log);
static ngx_uint_t ngx_http_gate_tokens_changed(ngx_http_gate_api_conf_t *acf,
    ngx_log_t *log);
static ngx_int_t ngx_http_gate_tokens_reread(ngx_http_gate_api_conf_t *acf,
    ngx_pool_t *pool, const char **why);
static void ngx_http_gate_tokens_seen(ngx_http_gate_api_conf_t *acf,
    ngx_file_info_t *fi);
static ngx_int_t ngx_http_gate_tokens_parse(ngx_pool_t *pool,
    ngx_str_t *text, ngx_array_t *tokens, ngx_uint_t *line,
    const char **why);
static const char *ngx_http_gate_tokens_line(ngx_pool_t *pool, u_char *p,
    u_char *last, ngx_array_t *tokens);
static const char *ngx_http_gate_tokens_add(ngx_pool_t *pool, ngx_str_t *name,
    ngx_str_t *secret, ngx_array_t *tokens);
static ngx_uint_t ngx_http_gate_token_valid(u_char *p, size_t len);


ngx_int_t
ngx_http_gate_secret_read(ngx_conf_t *cf, ngx_str_t *path, size_t max,
    ngx_str_t *text)
{
    ngx_err_t         err;
    const char       *why;
    ngx_file_info_t   fi;

    if (ngx_conf_full_name(cf->cycle, path, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_gate_secret_load(path, ngx_http_gate_secret_gid(cf), max,
                                  cf->pool, text, &fi, &why)
        == NGX_OK)
    {
        return NGX_OK;
    }

    err = ngx_errno;

    ngx_conf_log_error(NGX_LOG_EMERG, cf, err, "secret file \"%V\" %s",
                       path, why);

    return NGX_ERROR;
}


ngx_gid_t
ngx_http_gate_secret_gid(ngx_conf_t *cf)
{
    struct group     *grp;
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cf->cycle->conf_ctx,
                                           ngx_core_module);

    if (geteuid() != 0) {
        return getegid();
    }

    if (ccf->group != (ngx_gid_t) NGX_CONF_UNSET_UINT) {
        return ccf->group;
    }

    /* without "user" the core takes its default, but only later */

    grp = getgrnam(NGX_GROUP);

    return grp ? grp->gr_gid : getegid();
}


ngx_int_t
ngx_http_gate_secret_load(ngx_str_t *path, ngx_gid_t gid, size_t max,
    ngx_pool_t *pool, ngx_str_t *text, ngx_file_info_t *fi,
    const char **why)
{
    ssize_t    n;
    ngx_fd_t   fd;
    ngx_err_t  err;

    /* a FIFO must not hang nginx */

    fd = ngx_open_file(path->data, NGX_FILE_RDONLY|NGX_FILE_NONBLOCK,
                       NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        *why = "cannot be opened";
        return NGX_ERROR;
    }

    err = 0;

    if (ngx_fd_info(fd, fi) == NGX_FILE_ERROR) {
        err = ngx_errno;
        *why = "cannot be looked at";
        goto failed;
    }

    *why = ngx_http_gate_secret_check(fi, gid, max);

    if (*why) {
        goto failed;
    }

    text->len = (size_t) ngx_file_size(fi);

    text->data = ngx_pnalloc(pool, text->len);
    if (text->data == NULL) {
        err = NGX_ENOMEM;
        *why = "found no memory";
        goto failed;
    }

    n = ngx_read_fd(fd, text->data, text->len);

    if (n != (ssize_t) text->len) {
        err = (n == -1) ? ngx_errno : 0;
        ngx_explicit_memzero(text->data, text->len);
        *why = "could not be read as a whole";
        goto failed;
    }

    (void) ngx_close_file(fd);

    return NGX_OK;

failed:

    (void) ngx_close_file(fd);

    ngx_set_errno(err);

    return NGX_ERROR;
}


static const char *
ngx_http_gate_secret_check(ngx_file_info_t *fi, ngx_gid_t gid, size_t max)
{
    if (!ngx_is_file(fi)) {
        return "is not a regular file";
    }

    if (fi->st_mode & 0007) {
        return "can be read or written by everybody, use \"chmod 600\"";
    }

    if ((fi->st_mode & 0070) && fi->st_gid != gid) {
        return "can be read or written by a group that is not the workers', "
               "use \"chmod 600\", or \"chgrp\" and \"chmod 640\"";
    }

    if (ngx_file_size(fi) == 0) {
        return "is empty";
    }

    if (ngx_file_size(fi) > (off_t) max) {
        return "is too long";
    }

    return NULL;
}


ngx_int_t
ngx_http_gate_tokens_load(ngx_conf_t *cf, ngx_http_gate_api_conf_t *acf,
    ngx_str_t *path)
{
    ngx_int_t            rc;
    ngx_str_t            text;
    ngx_uint_t           line;
    const char          *why;
    ngx_file_info_t      fi;
    ngx_pool_cleanup_t  *cln;

    if (ngx_http_gate_secret_read(cf, path, NGX_HTTP_GATE_TOKENS_SIZE, &text)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    acf->list.path = *path;
    acf->list.live = 1;
    acf->gid = ngx_http_gate_secret_gid(cf);

    if (ngx_file_info(path->data, &fi) != NGX_FILE_ERROR) {
        ngx_http_gate_tokens_seen(acf, &fi);
    }

    rc = NGX_ERROR;
    line = 0;
    why = "no memory";

    if (ngx_array_init(&acf->list.tokens, cf->pool, 4,
                       sizeof(ngx_http_gate_token_t))
        == NGX_OK)
    {
        rc = ngx_http_gate_tokens_parse(cf->pool, &text, &acf->list.tokens,
                                        &line, &why);
    }

    ngx_explicit_memzero(text.data, text.len);

    if (rc != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "token file \"%V\", line %ui: %s",
                           path, line, why);
        return NGX_ERROR;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_gate_tokens_cleanup;
    cln->data = acf;

    return NGX_OK;
}


static void
ngx_http_gate_tokens_cleanup(void *data)
{
    ngx_http_gate_api_conf_t *acf = data;

    if (acf->list.pool) {
        ngx_destroy_pool(acf->list.pool);
        acf->list.pool = NULL;
    }
}


ngx_http_gate_token_t *
ngx_http_gate_tokens_find(ngx_http_gate_api_conf_t *acf, ngx_str_t *secret,
    ngx_log_t *log)
{
    u_char                  digest[SHA256_DIGEST_LENGTH];
    ngx_uint_t              i;
    ngx_http_gate_token_t  *token, *found;

    ngx_http_gate_tokens_refresh(acf, log);

    SHA256(secret->data, secret->len, digest);

    found = NULL;
    token = acf->list.tokens.elts;

    for (i = 0; i < acf->list.tokens.nelts; i++) {

        if (CRYPTO_memcmp(token[i].digest, digest, sizeof(digest)) == 0) {
            found = &token[i];
        }
    }

    return found;
}


static void
ngx_http_gate_tokens_refresh(ngx_http_gate_api_conf_t *acf, ngx_log_t *log)
{
    ngx_err_t    err;
    ngx_pool_t  *pool;
    const char  *why;

    if (acf->list.checked == ngx_time()) {
        return;
    }

    acf->list.checked = ngx_time();

    /* what is wrong with this version of the file is said once */

    if (!ngx_http_gate_tokens_changed(acf, log)) {
        return;
    }

    pool = ngx_create_pool(NGX_MIN_POOL_SIZE * 4, ngx_cycle->log);
    if (pool == NULL) {
        return;
    }

    if (ngx_http_gate_tokens_reread(acf, pool, &why) == NGX_OK) {
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "gate: token file \"%V\" has changed, %ui tokens are "
                      "valid now", &acf->list.path, acf->list.tokens.nelts);
        return;
    }

    err = ngx_errno;

    ngx_destroy_pool(pool);

    ngx_log_error(NGX_LOG_WARN, log, err,
                  "gate: token file \"%V\" has changed, but it %s; the "
                  "tokens known so far stay valid",
                  &acf->list.path, why);
}


/* Whether the file is another one than last time, which it then is not. */

static ngx_uint_t
ngx_http_gate_tokens_changed(ngx_http_gate_api_conf_t *acf, ngx_log_t *log)
{
    ngx_file_info_t  fi;

    if (ngx_file_info(acf->list.path.data, &fi) == NGX_FILE_ERROR) {

        if (acf->list.live) {
            acf->list.live = 0;
            ngx_log_error(NGX_LOG_WARN, log, ngx_errno,
                          "gate: token file \"%V\" cannot be looked at, the "
                          "tokens known so far stay valid",
                          &acf->list.path);
        }

        return 0;
    }

    acf->list.live = 1;

    if (ngx_file_mtime(&fi) == acf->list.mtime
        && fi.st_mtim.tv_nsec == acf->nsec
        && ngx_file_size(&fi) == acf->list.size
        && fi.st_ino == acf->inode)
    {
        return 0;
    }

    ngx_http_gate_tokens_seen(acf, &fi);

    return 1;
}


static ngx_int_t
ngx_http_gate_tokens_reread(ngx_http_gate_api_conf_t *acf, ngx_pool_t *pool,
    const char **why)
{
    ngx_int_t         rc;
    ngx_str_t         text;
    ngx_uint_t        line;
    ngx_array_t       tokens;
    const char       *detail;
    ngx_file_info_t   fi;

    if (ngx_http_gate_secret_load(&acf->list.path, acf->gid,
                                  NGX_HTTP_GATE_TOKENS_SIZE, pool, &text,
                                  &fi, why)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    *why = "is not valid, see what \"nginx -t\" says";
    rc = NGX_ERROR;

    if (ngx_array_init(&tokens, pool, 4, sizeof(ngx_http_gate_token_t))
        == NGX_OK)
    {
        rc = ngx_http_gate_tokens_parse(pool, &text, &tokens, &line, &detail);
    }

    ngx_explicit_memzero(text.data, text.len);

    if (rc != NGX_OK) {
        ngx_set_errno(0);
        return NGX_ERROR;
    }

    ngx_http_gate_tokens_cleanup(acf);

    acf->list.tokens = tokens;
    acf->list.pool = pool;

    return NGX_OK;
}


static void
ngx_http_gate_tokens_seen(ngx_http_gate_api_conf_t *acf, ngx_file_info_t *fi)
{
    acf->list.mtime = ngx_file_mtime(fi);
    acf->list.size = ngx_file_size(fi);
    acf->nsec = fi->st_mtim.tv_nsec;
    acf->inode = fi->st_ino;
}


static ngx_int_t
ngx_http_gate_tokens_parse(ngx_pool_t *pool, ngx_str_t *text,
    ngx_array_t *tokens, ngx_uint_t *line, const char **why)
{
    u_char  *p, *end, *last;

    end = text->data + text->len;
    *line = 0;

    for (p = text->data; p < end; p = last + 1) {
        (*line)++;

        last = ngx_strlchr(p, end, LF);
        if (last == NULL) {
            last = end;
        }

        *why = ngx_http_gate_tokens_line(pool, p, last, tokens);
        if (*why) {
            return NGX_ERROR;
        }
    }

    if (tokens->nelts == 0) {
        *why = "there is no token in it";
        return NGX_ERROR;
    }

    return NGX_OK;
}


static const char *
ngx_http_gate_tokens_line(ngx_pool_t *pool, u_char *p, u_char *last,
    ngx_array_t *tokens)
{
    ngx_str_t   word[3];
    ngx_uint_t  n;

    for (n = 0; n < 3; n++) {

        while (p < last && (*p == ' ' || *p == '\t' || *p == CR)) { p++; }

        if (p == last || (n == 0 && *p == '#')) {
            break;
        }

        word[n].data = p;

        while (p < last && *p != ' ' && *p != '\t' && *p != CR) { p++; }

        word[n].len = p - word[n].data;
    }

    switch (n) {

    case 0:
        return NULL;

    case 1:
        return ngx_http_gate_tokens_add(pool, NULL, &word[0], tokens);

    case 2:
        return ngx_http_gate_tokens_add(pool, &word[0], &word[1], tokens);

    default:
        return "a line is \"token\" or \"name token\"";
    }
}


static const char *
ngx_http_gate_tokens_add(ngx_pool_t *pool, ngx_str_t *name,
    ngx_str_t *secret, ngx_array_t *tokens)
{
    ngx_str_t               number;
    ngx_http_gate_token_t  *token;
    u_char                  buf[sizeof("token ") + NGX_INT_T_LEN];

    if (!ngx_http_gate_token_valid(secret->data, secret->len)) {
        return "a token is 16 to 1024 characters of A-Z, a-z, 0-9 and "
               "\"-._~+/\", with \"=\" at its end only";
    }

    if (name && (!gate_name_valid(name->data, name->len)
                 || name->len > NGX_HTTP_GATE_TOKEN_NAME_MAX))
    {
        return "a name is 1 to 32 characters of A-Z, a-z, 0-9 and \"_.-\"";
    }

    token = ngx_array_push(tokens);
    if (token == NULL) {
        return "no memory";
    }

    SHA256(secret->data, secret->len, token->digest);

    if (name == NULL) {
        number.data = buf;
        number.len = ngx_sprintf(buf, "token %ui", tokens->nelts) - buf;
        name = &number;
    }

    token->name.len = name->len;
    token->name.data = ngx_pstrdup(pool, name);

    return token->name.data ? NULL : "no memory";
}


/* b64token of RFC 6750, section 2.1 */

static ngx_uint_t
ngx_http_gate_token_valid(u_char *p, size_t len)
{
    u_char  *last;

    if (len < NGX_HTTP_GATE_TOKEN_MIN || len > NGX_HTTP_GATE_TOKEN_MAX) {
        return 0;
    }

    last = p + len;

    while (last > p && *(last - 1) == '=') { last--; }

    if (last == p) {
        return 0;
    }

    for ( /* void */ ; p < last; p++) {

        if (!((*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z')
              || (*p >= '0' && *p <= '9')
              || (*p && ngx_strchr("-._~+/", *p))))
        {
            return 0;
        }
    }

    return 1;
}

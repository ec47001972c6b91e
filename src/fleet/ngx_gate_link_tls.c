
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * TLS of a connection to Redis.  A server whose certificate is not trusted,
 * or is not for the name or address that was configured, is none of ours:
 * nothing is sent to it.
 */


#include "ngx_gate_link.h"


#if (NGX_SSL)


static void ngx_gate_link_tls_done(ngx_connection_t *c);
static ngx_uint_t ngx_gate_link_literal(ngx_str_t *name);
static ngx_int_t ngx_gate_link_tls_name(ngx_connection_t *c,
    ngx_str_t *name);


void
ngx_gate_link_tls(ngx_gate_link_t *link)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;
    char               name[256];

    c = link->peer.connection;

    if (ngx_ssl_create_connection(link->ssl, c,
                                  NGX_SSL_BUFFER|NGX_SSL_CLIENT)
        != NGX_OK)
    {
        ngx_gate_link_fail_said(link, NGX_GATE_ERROR_TLS, "no TLS");
        return;
    }

    /* what waits to be sent may move when more is added to it */

    SSL_set_mode(c->ssl->connection, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);

    if (link->name.len && link->name.len < sizeof(name)
        && !ngx_gate_link_literal(&link->name))
    {
        ngx_memcpy(name, link->name.data, link->name.len);
        name[link->name.len] = '\0';

        if (SSL_set_tlsext_host_name(c->ssl->connection, name) == 0) {
            ngx_gate_link_fail(link, NGX_GATE_ERROR_TLS,
                               ngx_gate_literal("cannot send the name of "
                                                "the server"));
            return;
        }
    }

    rc = ngx_ssl_handshake(c);

    if (rc == NGX_AGAIN) {
        c->ssl->handler = ngx_gate_link_tls_done;
        return;
    }

    ngx_gate_link_tls_done(c);
}


static void
ngx_gate_link_tls_done(ngx_connection_t *c)
{
    long              rc;
    const char       *text;
    ngx_gate_link_t  *link;

    link = c->data;

    rc = SSL_get_verify_result(c->ssl->connection);

    if (rc != X509_V_OK) {
        text = X509_verify_cert_error_string(rc);

        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "the certificate of the server is not trusted: %s",
                      text);
        ngx_gate_link_fail_said(link, NGX_GATE_ERROR_TLS, text);
        return;
    }

    if (!c->ssl->handshaked) {
        ngx_gate_link_fail_said(link, NGX_GATE_ERROR_TLS,
                                "the TLS handshake failed");
        return;
    }

    if (ngx_gate_link_tls_name(c, &link->name) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "the certificate of the server is not for %V",
                      &link->name);
        ngx_gate_link_fail_said(link, NGX_GATE_ERROR_TLS, "wrong name");
        return;
    }

    ngx_gate_link_opened(link);
}


static ngx_uint_t
ngx_gate_link_literal(ngx_str_t *name)
{
    if (ngx_inet_addr(name->data, name->len) != INADDR_NONE) {
        return 1;
    }

    return ngx_strlchr(name->data, name->data + name->len, ':') != NULL;
}


/* nginx's check knows names only; an address is another kind of entry. */

static ngx_int_t
ngx_gate_link_tls_name(ngx_connection_t *c, ngx_str_t *name)
{
    int    rc;
    X509  *cert;
    char   text[64];

    if (name->len == 0) {
        return NGX_ERROR;
    }

    if (!ngx_gate_link_literal(name)) {
        return ngx_ssl_check_host(c, name);
    }

    if (name->len >= sizeof(text)) {
        return NGX_ERROR;
    }

    ngx_memcpy(text, name->data, name->len);
    text[name->len] = '\0';

    cert = SSL_get_peer_certificate(c->ssl->connection);
    if (cert == NULL) {
        return NGX_ERROR;
    }

    rc = X509_check_ip_asc(cert, text, 0);

    X509_free(cert);

    return rc == 1 ? NGX_OK : NGX_ERROR;
}


void
ngx_gate_link_tls_close(ngx_gate_link_t *link, ngx_connection_t *c)
{
    c->ssl->no_wait_shutdown = 1;
    c->timedout |= link->failed;

    (void) ngx_ssl_shutdown(c);

    if (c->ssl) {

        /* the alert did not fit into the socket: without it then */

        c->timedout = 1;
        (void) ngx_ssl_shutdown(c);
    }
}


#endif


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * The answer to a request that a gate refused.
 *
 *     {"detail":"Rate limit exceeded"}
 *
 * or RFC 9457's where Accept names that, or the operator's page.
 */


#include "ngx_http_gate.h"

#include "core/gate_accept.h"


static ngx_uint_t ngx_http_gate_reject_page(ngx_http_request_t *r,
    ngx_uint_t status);
static ngx_int_t ngx_http_gate_reject_send(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *detail);
static const char *ngx_http_gate_reject_title(ngx_uint_t status);
static ngx_uint_t ngx_http_gate_reject_problem(ngx_http_request_t *r);


static ngx_str_t  ngx_http_gate_reject_json = ngx_string("application/json");
static ngx_str_t  ngx_http_gate_reject_problem_json =
    ngx_string("application/problem+json");


ngx_int_t
ngx_http_gate_reject(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *detail)
{
    ngx_int_t  rc;

    /* nginx's own page where the operator has one, or no answer at all */

    rc = (ngx_int_t) status;

    if (status != NGX_HTTP_CLOSE && !ngx_http_gate_reject_page(r, status)) {

        /* the status of an error that brought the request here */

        r->err_status = 0;

        /* nobody is asked to send the body of a request that is refused */

        r->expect_tested = 1;

        rc = ngx_http_gate_reject_send(r, status, detail);
    }

    /*
     * Not for the phase to do: under "satisfy any" it takes a 401 or 403 for
     * the word of one who may be overruled, and an NGX_OK for a way out.
     */

    ngx_http_finalize_request(r, rc);

    return NGX_DONE;
}


/* Is there an error_page for it, and would nginx use it? */

static ngx_uint_t
ngx_http_gate_reject_page(ngx_http_request_t *r, ngx_uint_t status)
{
    ngx_uint_t                 i;
    ngx_http_err_page_t       *page;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (clcf->error_pages == NULL || r->error_page) {
        return 0;
    }

    page = clcf->error_pages->elts;

    for (i = 0; i < clcf->error_pages->nelts; i++) {

        if (page[i].status == (ngx_int_t) status) {
            return 1;
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_gate_reject_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *detail)
{
    u_char                    *p;
    ngx_str_t                 *type;
    ngx_http_complex_value_t   cv;

    p = ngx_pnalloc(r->pool, 128 + detail->len);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));

    cv.value.data = p;

    if (ngx_http_gate_reject_problem(r)) {
        type = &ngx_http_gate_reject_problem_json;

        p = ngx_sprintf(p, "{\"type\":\"about:blank\",%s\"status\":%ui,"
                        "\"detail\":\"%V\"}",
                        ngx_http_gate_reject_title(status), status, detail);

    } else {
        type = &ngx_http_gate_reject_json;

        p = ngx_sprintf(p, "{\"detail\":\"%V\"}", detail);
    }

    cv.value.len = p - cv.value.data;

    return ngx_http_send_response(r, status, type, &cv);
}


/* RFC 9457: about:blank goes with the status' own phrase */

static const char *
ngx_http_gate_reject_title(ngx_uint_t status)
{
    switch (status) {

    case NGX_HTTP_BAD_REQUEST:
        return "\"title\":\"Bad Request\",";

    case NGX_HTTP_FORBIDDEN:
        return "\"title\":\"Forbidden\",";

    case NGX_HTTP_GATE_GONE:
        return "\"title\":\"Gone\",";

    case NGX_HTTP_TOO_MANY_REQUESTS:
        return "\"title\":\"Too Many Requests\",";

    case NGX_HTTP_SERVICE_UNAVAILABLE:
        return "\"title\":\"Service Unavailable\",";

    default:
        return "";
    }
}


static ngx_uint_t
ngx_http_gate_reject_problem(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &r->headers_in.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len == sizeof("Accept") - 1
                && ngx_strncasecmp(h[i].key.data, (u_char *) "Accept",
                                   sizeof("Accept") - 1)
                   == 0
                && gate_accept_problem(h[i].value.data, h[i].value.len))
            {
                return 1;
            }
        }
    }

    return 0;
}

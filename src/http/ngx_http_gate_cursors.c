
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * Cursors, for gate_status and gate_metrics: by location and by key.
 *
 * Names are the configuration's, and nothing here is made of a cursor or of
 * what is in a key's file.
 */


#include "ngx_http_gate_json.h"
#include "ngx_http_gate_cursor.h"

#include "core/gate_text.h"


/* an object of the zone with its name as a label */

typedef struct {
    ngx_str_t                     label;
    ngx_gate_cursor_head_t       *sh;
} ngx_http_gate_cursor_row_t;


static json_t *ngx_http_gate_json_cursor(ngx_gate_cursor_t *c);
static json_t *ngx_http_gate_json_cursor_time(ngx_gate_cursor_t *c);
static json_t *ngx_http_gate_json_cursor_key(ngx_http_gate_cursor_key_t *k);
static ngx_http_gate_cursor_row_t *ngx_http_gate_cursor_rows(
    ngx_http_gate_out_t *out, ngx_array_t *confs, ngx_uint_t *n);
static void ngx_http_gate_metrics_cursor_counts(ngx_http_gate_out_t *out,
    ngx_http_gate_cursor_row_t *row, ngx_uint_t n);
static void ngx_http_gate_metrics_cursor_times(ngx_http_gate_out_t *out,
    ngx_http_gate_cursor_row_t *row, ngx_uint_t n);
static void ngx_http_gate_metrics_cursor_keys(ngx_http_gate_out_t *out,
    ngx_http_gate_cursor_row_t *row, ngx_uint_t n);


/* by gate_cursor_weak_e */

static const char *const  ngx_http_gate_cursor_weak[] = {
    "", "short", "known"
};


json_t *
ngx_http_gate_json_cursors(ngx_gate_node_t *node)
{
    json_t                   *o;
    ngx_uint_t                i;
    ngx_gate_cursor_conf_t  **cc;

    o = json_object();
    cc = node->cursors.elts;

    for (i = 0; i < node->cursors.nelts; i++) {

        /* several may share one object: it has the name, and is set again */

        ngx_http_gate_json_set(o, cc[i]->sh->name,
                       ngx_http_gate_json_cursor(ngx_gate_cursor_of(cc[i])));
    }

    return o;
}


static json_t *
ngx_http_gate_json_cursor(ngx_gate_cursor_t *c)
{
    json_t      *o, *statuses;
    uint64_t     n, requests, absent;
    ngx_uint_t   i;

    absent = 0;
    requests = 0;
    statuses = json_object();

    for (i = 0; i < GATE_CURSOR_STATUSES; i++) {
        n = ngx_gate_peek(&c->status_total[i]);

        requests += n;

        if (i == GATE_CURSOR_ABSENT) {
            absent = n;
        }

        ngx_http_gate_json_int(statuses, gate_cursor_status_name[i], n);
    }

    o = json_object();

    ngx_http_gate_json_int(o, "requests", requests);
    ngx_http_gate_json_int(o, "with_cursor", requests - absent);
    ngx_http_gate_json_set(o, "adoption", requests
                           ? json_real((double) (requests - absent)
                                       / (double) requests)
                           : json_null());
    ngx_http_gate_json_set(o, "status", statuses);
    ngx_http_gate_json_int(o, "refused", ngx_gate_peek(&c->refused_total));
    ngx_http_gate_json_int(o, "observed", ngx_gate_peek(&c->observed_total));
    ngx_http_gate_json_set(o, "verify_us", ngx_http_gate_json_cursor_time(c));

    return o;
}


static json_t *
ngx_http_gate_json_cursor_time(ngx_gate_cursor_t *c)
{
    char         bound[NGX_INT_T_LEN + 1];
    json_t      *o, *le;
    uint64_t     count;
    ngx_uint_t   i;

    count = 0;
    le = json_object();

    for (i = 0; i < NGX_GATE_CURSOR_HIST; i++) {

        if (i < NGX_GATE_CURSOR_HIST - 1) {
            ngx_sprintf((u_char *) bound, "%uD%Z", ngx_gate_cursor_bounds[i]);

        } else {
            ngx_memcpy(bound, "+Inf", sizeof("+Inf"));
        }

        count += ngx_gate_peek(&c->hist[i]);

        ngx_http_gate_json_int(le, bound, count);
    }

    o = json_object();

    ngx_http_gate_json_int(o, "count", count);
    ngx_http_gate_json_int(o, "sum", ngx_gate_peek(&c->nsec_total) / 1000);
    ngx_http_gate_json_set(o, "le", le);

    return o;
}


json_t *
ngx_http_gate_json_cursor_keys(ngx_http_gate_main_conf_t *gmcf)
{
    json_t                       *list;
    ngx_uint_t                    i;
    ngx_http_gate_cursor_key_t  **k;

    list = json_array();
    k = gmcf->cursor_keys.elts;

    for (i = 0; i < gmcf->cursor_keys.nelts; i++) {
        (void) json_array_append_new(list,
                                     ngx_http_gate_json_cursor_key(k[i]));
    }

    return list;
}


static json_t *
ngx_http_gate_json_cursor_key(ngx_http_gate_cursor_key_t *k)
{
    json_t                 *o;
    ngx_gate_cursor_key_t  *sh;

    sh = ngx_gate_cursor_key_of(k->conf);
    o = json_object();

    ngx_http_gate_json_set(o, "id", k->id.len
                           ? ngx_http_gate_json_bytes(k->id.data, k->id.len)
                           : json_null());
    ngx_http_gate_json_set(o, "file",
                           ngx_http_gate_json_bytes(k->path.data,
                                                    k->path.len));
    ngx_http_gate_json_set(o, "alg",
                           json_string(gate_cursor_alg_name[k->key.alg]));
    ngx_http_gate_json_bool(o, "live", k->live);
    ngx_http_gate_json_bool(o, "bad", k->bad);
    ngx_http_gate_json_set(o, "weak",
          ngx_http_gate_json_text(ngx_http_gate_cursor_weak[k->key.weak]));
    ngx_http_gate_json_int(o, "hits", ngx_gate_peek(&sh->hits_total));
    ngx_http_gate_json_set(o, "last_hit",
          ngx_http_gate_json_time(ngx_gate_peek(&sh->last) * 1000));
    ngx_http_gate_json_int(o, "reads", ngx_gate_peek(&sh->reads_total));
    ngx_http_gate_json_int(o, "errors", ngx_gate_peek(&sh->errors_total));

    return o;
}


void
ngx_http_gate_metrics_cursors(ngx_http_gate_out_t *out,
    ngx_http_gate_main_conf_t *gmcf)
{
    ngx_uint_t                   n;
    ngx_http_gate_cursor_row_t  *row;

    row = ngx_http_gate_cursor_rows(out, &gmcf->node.cursors, &n);

    if (row && n) {
        ngx_http_gate_metrics_cursor_counts(out, row, n);
        ngx_http_gate_metrics_cursor_times(out, row, n);
    }

    row = ngx_http_gate_cursor_rows(out, &gmcf->node.cursor_keys, &n);

    if (row && n) {
        ngx_http_gate_metrics_cursor_keys(out, row, n);
    }
}


/* Of objects that several names share there must be one series only. */

static ngx_http_gate_cursor_row_t *
ngx_http_gate_cursor_rows(ngx_http_gate_out_t *out, ngx_array_t *confs,
    ngx_uint_t *n)
{
    u_char                       *name;
    size_t                        len;
    ngx_str_t                    *label;
    ngx_uint_t                    i, k;
    ngx_gate_cursor_conf_t      **cc;
    ngx_http_gate_cursor_row_t   *row;

    *n = 0;

    row = ngx_palloc(out->pool, (confs->nelts + 1)
                                * sizeof(ngx_http_gate_cursor_row_t));
    if (row == NULL) {
        out->failed = 1;
        return NULL;
    }

    cc = confs->elts;

    for (i = 0; i < confs->nelts; i++) {

        for (k = 0; k < *n && row[k].sh != cc[i]->sh; k++) { /* void */ }

        if (k < *n) {
            continue;
        }

        row[k].sh = cc[i]->sh;

        name = (u_char *) cc[i]->sh->name;
        len = ngx_strlen(name);
        label = &row[k].label;

        label->len = gate_escape_label(NULL, name, len);

        label->data = ngx_pnalloc(out->pool, label->len);
        if (label->data == NULL) {
            out->failed = 1;
            return NULL;
        }

        (void) gate_escape_label(label->data, name, len);

        (*n)++;
    }

    return row;
}


static void
ngx_http_gate_metrics_cursor_counts(ngx_http_gate_out_t *out,
    ngx_http_gate_cursor_row_t *row, ngx_uint_t n)
{
    ngx_uint_t          i, s;
    ngx_gate_cursor_t  *c;

    ngx_http_gate_family(out, "cursor_requests_total", "counter",
                         "Requests whose cursor was looked at, and what it "
                         "was.");

    for (i = 0; i < n; i++) {
        c = ngx_gate_cursor_of(&row[i]);

        for (s = 0; s < GATE_CURSOR_STATUSES; s++) {
            ngx_http_gate_print(out, "nginx_gate_cursor_requests_total"
                                "{location=\"%V\",status=\"%s\"} %uL\n",
                                &row[i].label, gate_cursor_status_name[s],
                                ngx_gate_peek(&c->status_total[s]));
        }
    }

    ngx_http_gate_family(out, "cursor_refused_total", "counter",
                         "Requests that were refused for their cursor.");

    for (i = 0; i < n; i++) {
        c = ngx_gate_cursor_of(&row[i]);

        ngx_http_gate_print(out, "nginx_gate_cursor_refused_total"
                            "{location=\"%V\"} %uL\n", &row[i].label,
                            ngx_gate_peek(&c->refused_total));
    }

    ngx_http_gate_family(out, "cursor_observed_total", "counter",
                         "Requests that would have been refused, but only "
                         "were observed.");

    for (i = 0; i < n; i++) {
        c = ngx_gate_cursor_of(&row[i]);

        ngx_http_gate_print(out, "nginx_gate_cursor_observed_total"
                            "{location=\"%V\"} %uL\n", &row[i].label,
                            ngx_gate_peek(&c->observed_total));
    }
}


static void
ngx_http_gate_metrics_cursor_times(ngx_http_gate_out_t *out,
    ngx_http_gate_cursor_row_t *row, ngx_uint_t n)
{
    u_char              le[sizeof("0.000000") + NGX_INT32_LEN], *p;
    uint64_t            count;
    ngx_uint_t          i, b;
    ngx_gate_cursor_t  *c;

    ngx_http_gate_family(out, "cursor_verify_seconds", "histogram",
                         "Time that verifying a cursor took.");

    for (i = 0; i < n; i++) {
        c = ngx_gate_cursor_of(&row[i]);
        count = 0;

        for (b = 0; b < NGX_GATE_CURSOR_HIST - 1; b++) {
            count += ngx_gate_peek(&c->hist[b]);

            p = ngx_sprintf(le, "0.%06uD", ngx_gate_cursor_bounds[b]);

            while (*(p - 1) == '0') { p--; }

            ngx_http_gate_print(out, "nginx_gate_cursor_verify_seconds_bucket"
                                "{location=\"%V\",le=\"%*s\"} %uL\n",
                                &row[i].label, (size_t) (p - le), le, count);
        }

        count += ngx_gate_peek(&c->hist[b]);

        ngx_http_gate_print(out, "nginx_gate_cursor_verify_seconds_bucket"
                            "{location=\"%V\",le=\"+Inf\"} %uL\n",
                            &row[i].label, count);
        ngx_http_gate_print(out, "nginx_gate_cursor_verify_seconds_sum"
                            "{location=\"%V\"} %.9f\n", &row[i].label,
                            (double) ngx_gate_peek(&c->nsec_total)
                            / 1e9);
        ngx_http_gate_print(out, "nginx_gate_cursor_verify_seconds_count"
                            "{location=\"%V\"} %uL\n",
                            &row[i].label, count);
    }
}


static void
ngx_http_gate_metrics_cursor_keys(ngx_http_gate_out_t *out,
    ngx_http_gate_cursor_row_t *row, ngx_uint_t n)
{
    ngx_uint_t              i;
    ngx_gate_cursor_key_t  *k;

    ngx_http_gate_family(out, "cursor_key_hits_total", "counter",
                         "Valid cursors that were made with this key.");

    for (i = 0; i < n; i++) {
        k = ngx_gate_cursor_key_of(&row[i]);

        ngx_http_gate_print(out, "nginx_gate_cursor_key_hits_total"
                            "{key=\"%V\"} %uL\n", &row[i].label,
                            ngx_gate_peek(&k->hits_total));
    }

    ngx_http_gate_family(out, "cursor_key_errors_total", "counter",
                         "Times a worker found something in the key's file "
                         "that is not to be used.");

    for (i = 0; i < n; i++) {
        k = ngx_gate_cursor_key_of(&row[i]);

        ngx_http_gate_print(out, "nginx_gate_cursor_key_errors_total"
                            "{key=\"%V\"} %uL\n", &row[i].label,
                            ngx_gate_peek(&k->errors_total));
    }
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gate_api: from a path to the call that it means.
 *
 *     status
 *     maintenance[/<switch>[/drain]]
 *     drain
 *     canary[/<upstream>[/<action>]]       "rollouts" is the same
 *     modes[/<gate>]
 *
 * Whoever mistypes a name is told the names that there are.
 */


#include "ngx_http_gate_api.h"


#define NGX_HTTP_GATE_SEGMENTS  3


static ngx_uint_t ngx_http_gate_route_split(ngx_http_request_t *r,
    ngx_str_t *segment);
static json_t *ngx_http_gate_route_switch(ngx_http_gate_call_t *call,
    ngx_str_t *segment, ngx_uint_t n);
static json_t *ngx_http_gate_route_rollout(ngx_http_gate_call_t *call,
    ngx_str_t *segment, ngx_uint_t n);
static json_t *ngx_http_gate_route_action(ngx_http_gate_call_t *call,
    ngx_str_t *name);
static json_t *ngx_http_gate_route_mode(ngx_http_gate_call_t *call,
    ngx_str_t *segment, ngx_uint_t n);
static ngx_uint_t ngx_http_gate_route_is(ngx_str_t *segment, const char *word);
static json_t *ngx_http_gate_route_missing(const char *what, ngx_str_t *name,
    const char *key, json_t *list);


json_t *
ngx_http_gate_route(ngx_http_request_t *r, ngx_http_gate_call_t *call)
{
    ngx_str_t   segment[NGX_HTTP_GATE_SEGMENTS + 1];
    ngx_uint_t  n;

    n = ngx_http_gate_route_split(r, segment);

    if (n == 0 || (n == 1 && ngx_http_gate_route_is(segment, "status"))) {
        call->get = ngx_http_gate_call_status;
        return NULL;
    }

    if (n == 1 && ngx_http_gate_route_is(segment, "drain")) {
        call->get = ngx_http_gate_call_drain;
        return NULL;
    }

    if (n <= NGX_HTTP_GATE_SEGMENTS) {

        if (ngx_http_gate_route_is(segment, "maintenance")) {
            return ngx_http_gate_route_switch(call, segment, n);
        }

        if (ngx_http_gate_route_is(segment, "canary")
            || ngx_http_gate_route_is(segment, "rollouts"))
        {
            return ngx_http_gate_route_rollout(call, segment, n);
        }

        if (n < 3 && ngx_http_gate_route_is(segment, "modes")) {
            return ngx_http_gate_route_mode(call, segment, n);
        }
    }

    return ngx_http_gate_route_missing("path", &r->uri, "paths",
                json_pack("[s, s, s, s, s, s, s, s]", "status", "maintenance",
                          "maintenance/<switch>", "drain",
                          "maintenance/<switch>/drain", "canary/<upstream>",
                          "canary/<upstream>/<action>", "modes/<gate>"));
}


/*
 * The path below that of the location, cut at slashes.  Returns the number of
 * segments, and more than there may be for whatever is too deep.
 */

static ngx_uint_t
ngx_http_gate_route_split(ngx_http_request_t *r, ngx_str_t *segment)
{
    u_char                    *p, *last, *end;
    ngx_uint_t                 n;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (r->uri.len < clcf->name.len
        || ngx_strncmp(r->uri.data, clcf->name.data, clcf->name.len) != 0)
    {
        return NGX_HTTP_GATE_SEGMENTS + 1;
    }

    p = r->uri.data + clcf->name.len;
    end = r->uri.data + r->uri.len;

    if (p > r->uri.data && p < end && *(p - 1) != '/' && *p != '/') {
        return NGX_HTTP_GATE_SEGMENTS + 1;
    }

    n = 0;

    while (p < end) {

        if (*p == '/') {
            p++;
            continue;
        }

        if (n == NGX_HTTP_GATE_SEGMENTS) {
            return n + 1;
        }

        last = ngx_strlchr(p, end, '/');
        if (last == NULL) {
            last = end;
        }

        segment[n].data = p;
        segment[n].len = last - p;
        n++;

        p = last;
    }

    return n;
}


static json_t *
ngx_http_gate_route_switch(ngx_http_gate_call_t *call,
    ngx_str_t *segment, ngx_uint_t n)
{
    json_t      *list;
    ngx_str_t   *name, *s;
    ngx_uint_t   i;

    name = &segment[1];
    s = call->node->switches.elts;

    if (n > 1 && !ngx_http_gate_route_is(name, "global")) {

        for (i = 1; i < call->node->switches.nelts; i++) {

            if (s[i].len == name->len
                && ngx_strncmp(s[i].data, name->data, name->len) == 0)
            {
                break;
            }
        }

        call->sw = i;
    }

    if (call->sw == call->node->switches.nelts) {
        list = json_pack("[s]", "global");

        for (i = 1; i < call->node->switches.nelts; i++) {
            (void) json_array_append_new(list,
                            ngx_http_gate_json_bytes(s[i].data, s[i].len));
        }

        return ngx_http_gate_route_missing("switch", name, "switches", list);
    }

    if (n < 3) {
        call->get = (n == 1) ? ngx_http_gate_call_switches
                             : ngx_http_gate_call_switch;
        call->post = ngx_http_gate_call_switch_set;
        call->del = ngx_http_gate_call_switch_off;
        return NULL;
    }

    if (ngx_http_gate_route_is(&segment[2], "drain")) {
        call->get = ngx_http_gate_call_drain;
        return NULL;
    }

    return ngx_http_gate_route_missing("action", &segment[2], "actions",
                                     json_pack("[s]", "drain"));
}


static json_t *
ngx_http_gate_route_rollout(ngx_http_gate_call_t *call,
    ngx_str_t *segment, ngx_uint_t n)
{
    json_t                    *list;
    ngx_str_t                 *name;
    ngx_uint_t                 i;
    ngx_gate_rollout_conf_t  **rc;

    if (n == 1) {
        call->get = ngx_http_gate_call_rollouts;
        return NULL;
    }

    name = &segment[1];
    rc = call->node->rollouts.elts;
    list = json_array();

    for (i = 0; i < call->node->rollouts.nelts; i++) {

        if (rc[i]->name.len == name->len
            && ngx_strncmp(rc[i]->name.data, name->data, name->len) == 0)
        {
            call->rollout = rc[i];
        }

        (void) json_array_append_new(list,
            ngx_http_gate_json_bytes(rc[i]->name.data, rc[i]->name.len));
    }

    if (call->rollout == NULL) {
        return ngx_http_gate_route_missing("rollout", name, "rollouts", list);
    }

    json_decref(list);

    if (n == 2) {
        call->get = ngx_http_gate_call_rollout;
        return NULL;
    }

    return ngx_http_gate_route_action(call, &segment[2]);
}


static json_t *
ngx_http_gate_route_action(ngx_http_gate_call_t *call, ngx_str_t *name)
{
    json_t      *list;
    ngx_uint_t   i;

    list = json_array();

    for (i = 0; ngx_http_gate_actions[i]; i++) {

        if (ngx_http_gate_route_is(name, ngx_http_gate_actions[i])) {
            call->action = i;
            call->post = ngx_http_gate_call_rollout_do;
        }

        (void) json_array_append_new(list,
                                     json_string(ngx_http_gate_actions[i]));
    }

    if (call->post == NULL) {
        return ngx_http_gate_route_missing("action", name, "actions", list);
    }

    json_decref(list);

    return NULL;
}


static json_t *
ngx_http_gate_route_mode(ngx_http_gate_call_t *call, ngx_str_t *segment,
    ngx_uint_t n)
{
    json_t      *list;
    ngx_int_t    gate;
    ngx_uint_t   i;

    if (n == 1) {
        call->get = ngx_http_gate_call_modes;
        return NULL;
    }

    gate = ngx_gate_mode_gate(segment[1].data, segment[1].len);

    if (gate == NGX_ERROR) {
        list = json_array();

        for (i = 0; i < NGX_GATE_MODES; i++) {
            (void) json_array_append_new(list,
                                   json_string(ngx_gate_mode_gate_name(i)));
        }

        return ngx_http_gate_route_missing("gate", &segment[1], "gates",
                                           list);
    }

    call->gate = gate;
    call->get = ngx_http_gate_call_mode;
    call->post = ngx_http_gate_call_mode_set;
    call->del = ngx_http_gate_call_mode_off;

    return NULL;
}


static ngx_uint_t
ngx_http_gate_route_is(ngx_str_t *segment, const char *word)
{
    return segment->len == ngx_strlen(word)
           && ngx_strncmp(segment->data, word, segment->len) == 0;
}


/* What was asked for, and what there is; takes over the list. */

static json_t *
ngx_http_gate_route_missing(const char *what, ngx_str_t *name,
    const char *key, json_t *list)
{
    u_char   detail[256], *p;
    json_t  *o;

    p = ngx_snprintf(detail, sizeof(detail), "there is no %s \"%V\"", what,
                     name);

    o = json_object();

    ngx_http_gate_json_set(o, "detail",
                           ngx_http_gate_json_bytes(detail, p - detail));
    ngx_http_gate_json_set(o, key, list);

    return o;
}

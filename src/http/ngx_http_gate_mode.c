
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * gate_api: modes of the gates.
 */


#include "ngx_http_gate_api.h"


static ngx_int_t ngx_http_gate_mode_apply(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, ngx_uint_t value, const char *reason);


static const char  *ngx_http_gate_mode_members[] = {
    "mode", "reason", "actor", NULL
};


ngx_int_t
ngx_http_gate_call_modes(ngx_http_request_t *r, ngx_http_gate_call_t *call,
    json_t *body)
{
    return ngx_http_gate_send_json(r, NGX_HTTP_OK,
                                   ngx_http_gate_json_modes(call->node));
}


ngx_int_t
ngx_http_gate_call_mode(ngx_http_request_t *r, ngx_http_gate_call_t *call,
    json_t *body)
{
    return ngx_http_gate_send_json(r, NGX_HTTP_OK,
                                   ngx_http_gate_json_mode(call->node,
                                                           call->gate));
}


ngx_int_t
ngx_http_gate_call_mode_set(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body)
{
    json_t      *name;
    ngx_int_t    value;
    const char  *wrong, *reason;

    name = body;

    if (ngx_http_gate_call_known(body, ngx_http_gate_mode_members)) {
        name = json_object_get(body, "mode");
    }

    value = json_is_string(name)
            ? ngx_gate_mode_value((u_char *) json_string_value(name),
                                  json_string_length(name))
            : NGX_ERROR;

    if (value == NGX_ERROR) {
        return ngx_http_gate_api_error(r, NGX_HTTP_BAD_REQUEST,
                                       "the mode is \"enforce\", \"observe\" "
                                       "or \"off\", or an object with it as "
                                       "\"mode\" and with \"reason\" and "
                                       "\"actor\" or without");
    }

    wrong = ngx_http_gate_call_who(call, body, &reason);
    if (wrong) {
        return ngx_http_gate_api_error(r, NGX_HTTP_BAD_REQUEST, wrong);
    }

    return ngx_http_gate_mode_apply(r, call, value, reason);
}


ngx_int_t
ngx_http_gate_call_mode_off(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body)
{
    return ngx_http_gate_mode_apply(r, call, NGX_GATE_MODE_ENFORCE, "");
}


static ngx_int_t
ngx_http_gate_mode_apply(ngx_http_request_t *r, ngx_http_gate_call_t *call,
    ngx_uint_t value, const char *reason)
{
    ngx_str_t         gate;
    const char       *before;
    ngx_gate_node_t  *node;
    ngx_gate_mail_t   letter;

    node = call->node;

    if (node->redis) {
        ngx_memzero(&letter, sizeof(ngx_gate_mail_t));

        letter.kind = NGX_GATE_MAIL_MODE;
        letter.sw = call->gate;
        letter.weight = value;

        return ngx_http_gate_letter(r, call, &letter, reason);
    }

    before = ngx_gate_mode_name(ngx_gate_mode(node->sh, call->gate));

    ngx_gate_mode_set(node, call->gate, value, "api", call->actor);

    gate.data = (u_char *) ngx_gate_mode_gate_name(call->gate);
    gate.len = ngx_strlen(gate.data);

    ngx_gate_event_audit(node, "mode", &gate, "api", call->actor, before,
                         ngx_gate_mode_name(value), *reason ? reason : NULL);

    return ngx_http_gate_call_mode(r, call, NULL);
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * What the calls of gate_api do.  Every write leaves an event that says who
 * did it: the name of the token and the address of the client stand first,
 * because a name that the client gives itself proves nothing.
 */


#include "ngx_http_gate_api.h"

#include "core/gate_parse.h"


#define NGX_HTTP_GATE_WORDS_LEN  160

#define NGX_HTTP_GATE_VALUE_HINT                                              \
    "the value is \"on\", \"off\", \"maintenance\", true, false, 1, 0, or an " \
    "object with any of \"on\": boolean, \"message\": up to 512 bytes, "      \
    "\"retry_after\": 0 to 2592000 seconds, \"from\" and \"until\": unix "    \
    "seconds or RFC 3339 text, \"ttl\": seconds (without \"until\"), "        \
    "\"read_only\": boolean, \"reason\", \"actor\""


static const char *ngx_http_gate_call_text(json_t *body, const char *key,
    size_t max, const char **text);
static ngx_int_t ngx_http_gate_switch_parse(json_t *body,
    gate_switch_value_t *v);
static ngx_int_t ngx_http_gate_switch_apply(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, gate_switch_value_t *v, const char *reason);
static void ngx_http_gate_switch_words(char *words, gate_switch_value_t *v);
static const char *ngx_http_gate_weight_parse(json_t *body,
    ngx_uint_t *weight);
static void ngx_http_gate_rollout_words(char *words, uint64_t w);
static ngx_int_t ngx_http_gate_rollout_apply(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, ngx_uint_t weight, const char *reason);


static const char  *ngx_http_gate_switch_members[] = {
    "on", "message", "retry_after", "from", "until", "ttl", "read_only",
    "reason", "actor", NULL
};

static const char  *ngx_http_gate_weight_members[] = {
    "weight", "reason", "actor", NULL
};


const char  *ngx_http_gate_actions[] = {
    "weight",
    "pause",
    "resume",
    "promote",
    "abort",
    "retry",
    "start",
    NULL
};


ngx_int_t
ngx_http_gate_call_status(ngx_http_request_t *r, ngx_http_gate_call_t *call,
    json_t *body)
{
    ngx_http_gate_main_conf_t  *gmcf;

    gmcf = ngx_http_get_module_main_conf(r, ngx_http_gate_module);

    return ngx_http_gate_send_json(r, NGX_HTTP_OK,
                                   ngx_http_gate_json_status(gmcf));
}


ngx_int_t
ngx_http_gate_call_switches(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body)
{
    return ngx_http_gate_send_json(r, NGX_HTTP_OK,
                                   ngx_http_gate_json_switches(call->node));
}


ngx_int_t
ngx_http_gate_call_switch(ngx_http_request_t *r, ngx_http_gate_call_t *call,
    json_t *body)
{
    return ngx_http_gate_send_json(r, NGX_HTTP_OK,
                                   ngx_http_gate_json_switch(call->node,
                                                             call->sw));
}


ngx_int_t
ngx_http_gate_call_rollouts(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body)
{
    return ngx_http_gate_send_json(r, NGX_HTTP_OK,
                                   ngx_http_gate_json_rollouts(call->node));
}


ngx_int_t
ngx_http_gate_call_rollout(ngx_http_request_t *r, ngx_http_gate_call_t *call,
    json_t *body)
{
    return ngx_http_gate_send_json(r, NGX_HTTP_OK,
                                   ngx_http_gate_json_rollout(call->node,
                                                              call->rollout));
}


ngx_int_t
ngx_http_gate_call_switch_set(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body)
{
    const char           *wrong, *reason;
    gate_switch_value_t   v;

    if (ngx_http_gate_switch_parse(body, &v) != NGX_OK) {
        return ngx_http_gate_api_error(r, NGX_HTTP_BAD_REQUEST,
                                       NGX_HTTP_GATE_VALUE_HINT);
    }

    wrong = ngx_http_gate_call_who(call, body, &reason);
    if (wrong) {
        return ngx_http_gate_api_error(r, NGX_HTTP_BAD_REQUEST, wrong);
    }

    return ngx_http_gate_switch_apply(r, call, &v, reason);
}


ngx_int_t
ngx_http_gate_call_switch_off(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body)
{
    gate_switch_value_t  v;

    ngx_memzero(&v, sizeof(gate_switch_value_t));

    return ngx_http_gate_switch_apply(r, call, &v, "");
}


static ngx_int_t
ngx_http_gate_switch_parse(json_t *body, gate_switch_value_t *v)
{
    int  rc;

    ngx_memzero(v, sizeof(gate_switch_value_t));

    if (json_is_boolean(body)) {
        v->on = json_is_true(body);
        return NGX_OK;
    }

    if (json_is_integer(body)) {
        v->on = (json_integer_value(body) == 1);
        return (v->on || json_integer_value(body) == 0) ? NGX_OK : NGX_ERROR;
    }

    if (json_is_string(body)) {
        rc = gate_switch_parse((u_char *) json_string_value(body),
                               json_string_length(body), ngx_time(), v);

    } else if (ngx_http_gate_call_known(body, ngx_http_gate_switch_members)) {
        rc = gate_switch_from_json(body, ngx_time(), v);

    } else {
        return NGX_ERROR;
    }

    return (rc == GATE_SWITCH_OK) ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_gate_switch_apply(ngx_http_request_t *r, ngx_http_gate_call_t *call,
    gate_switch_value_t *v, const char *reason)
{
    char                before[NGX_HTTP_GATE_WORDS_LEN];
    char                after[NGX_HTTP_GATE_WORDS_LEN];
    ngx_str_t           name;
    ngx_gate_node_t    *node;
    ngx_gate_mail_t     letter;
    ngx_gate_switch_t  *s, copy;

    node = call->node;

    if (node->redis) {
        ngx_memzero(&letter, sizeof(ngx_gate_mail_t));

        letter.kind = NGX_GATE_MAIL_SWITCH;
        letter.sw = node->sw_map[call->sw];
        letter.value = *v;

        return ngx_http_gate_letter(r, call, &letter, reason);
    }

    s = &node->sh->switches[node->sw_map[call->sw]];

    ngx_gate_switch_read(s, &copy);

    ngx_http_gate_switch_words(before, &copy.control);
    ngx_http_gate_switch_words(after, v);

    ngx_gate_switch_set(node, s, v, "api", call->actor);

    name = ((ngx_str_t *) node->switches.elts)[call->sw];

    if (name.len == 0) {
        ngx_str_set(&name, "global");
    }

    ngx_gate_event_audit(node, "maintenance", &name, "api", call->actor,
                         before, after, *reason ? reason : NULL);

    return ngx_http_gate_call_switch(r, call, NULL);
}


static void
ngx_http_gate_switch_words(char *words, gate_switch_value_t *v)
{
    u_char  *p;

    p = (u_char *) words;

    p = ngx_sprintf(p, "%s", !v->on ? "off"
                             : v->read_only ? "read_only" : "on");

    if (v->on && v->from) {
        p = ngx_cpymem(p, " from ", sizeof(" from ") - 1);
        p = ngx_http_gate_time(p, v->from * 1000);
    }

    if (v->on && v->until) {
        p = ngx_cpymem(p, " until ", sizeof(" until ") - 1);
        p = ngx_http_gate_time(p, v->until * 1000);
    }

    *p = '\0';
}


ngx_int_t
ngx_http_gate_call_rollout_do(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, json_t *body)
{
    ngx_uint_t                weight;
    const char               *wrong, *reason;
    ngx_gate_mail_t           letter;
    ngx_gate_rollout_conf_t  *rc;

    rc = call->rollout;
    weight = 0;

    if (body && !json_is_object(body)) {
        return ngx_http_gate_api_error(r, NGX_HTTP_BAD_REQUEST,
                                       "the body is a JSON object");
    }

    if (call->action == NGX_GATE_DO_WEIGHT) {
        wrong = ngx_http_gate_weight_parse(body, &weight);

    } else {
        wrong = (body == NULL
                 || ngx_http_gate_call_known(body,
                                           &ngx_http_gate_weight_members[1]))
                ? NULL : "the body may have \"reason\" and \"actor\" only";
    }

    if (wrong == NULL) {
        wrong = ngx_http_gate_call_who(call, body, &reason);
    }

    if (wrong) {
        return ngx_http_gate_api_error(r, NGX_HTTP_BAD_REQUEST, wrong);
    }

    if (call->node->redis == NULL) {
        return ngx_http_gate_rollout_apply(r, call, weight, reason);
    }

    ngx_memzero(&letter, sizeof(ngx_gate_mail_t));

    letter.kind = NGX_GATE_MAIL_ROLLOUT;
    letter.action = call->action;
    letter.weight = weight;

    ngx_gate_text(letter.rollout, sizeof(letter.rollout), rc->name.data,
                  rc->name.len);

    return ngx_http_gate_letter(r, call, &letter, reason);
}


static ngx_int_t
ngx_http_gate_rollout_apply(ngx_http_request_t *r,
    ngx_http_gate_call_t *call, ngx_uint_t weight, const char *reason)
{
    char                      before[NGX_HTTP_GATE_WORDS_LEN];
    char                      after[NGX_HTTP_GATE_WORDS_LEN];
    uint64_t                  w;
    ngx_int_t                 rv;
    const char               *why;
    ngx_gate_node_t          *node;
    ngx_gate_rollout_conf_t  *rc;

    node = call->node;
    rc = call->rollout;

    ngx_http_gate_rollout_words(before, ngx_gate_load(&rc->sh->word));

    why = "it cannot be done now";

    rv = ngx_gate_rollout_do(node, rc, call->action, weight, "api",
                             call->actor, reason, &why);

    if (rv == NGX_DECLINED) {
        return ngx_http_gate_call_refuse(r, call, why);
    }

    if (rv != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    w = ngx_gate_load(&rc->sh->word);

    ngx_http_gate_rollout_words(after, w);

    ngx_gate_event_audit(node, ngx_http_gate_actions[call->action],
                         &rc->name, "api", call->actor, before, after,
                         *reason ? reason : NULL);

    if (ngx_gate_word_state(w) == GATE_ROLLED_BACK) {
        ngx_gate_event_record(node, rc);
    }

    return ngx_http_gate_call_rollout(r, call, NULL);
}


static const char *
ngx_http_gate_weight_parse(json_t *body, ngx_uint_t *weight)
{
    double       v;
    json_t      *value;
    unsigned     bp;

    static const char  hint[] = "\"weight\" is a percentage from 0 to 100 with "
                                "at most two decimals, as a number (5, 0.5) or "
                                "with its sign (\"5%\"); beside it there may "
                                "be \"reason\" and \"actor\"";

    if (!ngx_http_gate_call_known(body, ngx_http_gate_weight_members)) {
        return hint;
    }

    value = json_object_get(body, "weight");

    if (json_is_string(value)) {

        if (gate_parse_weight((u_char *) json_string_value(value),
                              json_string_length(value), &bp)
            != 0)
        {
            return hint;
        }

        *weight = bp;

        return NULL;
    }

    if (!json_is_number(value)) {
        return hint;
    }

    v = json_number_value(value) * 100;

    if (!(v >= 0 && v <= GATE_WEIGHT_MAX)
        || fabs(v - floor(v + 0.5)) > 1e-6)
    {
        return hint;
    }

    *weight = (ngx_uint_t) floor(v + 0.5);

    return NULL;
}


static void
ngx_http_gate_rollout_words(char *words, uint64_t w)
{
    char  weight[GATE_WEIGHT_LEN];

    (void) gate_format_weight((unsigned) ngx_gate_word_weight(w), weight);

    ngx_sprintf((u_char *) words, "%s %s%%%Z",
                gate_rollout_state_name(ngx_gate_word_state(w)), weight);
}


/*
 * Whether it is an object of these members and no others: a misspelt "on"
 * must not close a site.
 */

ngx_uint_t
ngx_http_gate_call_known(json_t *body, const char *const *members)
{
    json_t             *value;
    const char         *key;
    const char *const  *m;

    if (!json_is_object(body)) {
        return 0;
    }

    json_object_foreach(body, key, value) {

        for (m = members; *m; m++) {
            if (ngx_strcmp(*m, key) == 0) {
                break;
            }
        }

        if (*m == NULL) {
            return 0;
        }
    }

    return 1;
}


/* Reads "reason" and "actor"; NULL, or what is wrong with them. */

const char *
ngx_http_gate_call_who(ngx_http_gate_call_t *call, json_t *body,
    const char **reason)
{
    size_t       len, size;
    const char  *wrong, *actor;

    wrong = ngx_http_gate_call_text(body, "reason", NGX_GATE_REASON_LEN - 1,
                                    reason);
    if (wrong) {
        return "\"reason\" is a string of up to 127 bytes without control "
               "characters";
    }

    wrong = ngx_http_gate_call_text(body, "actor", NGX_GATE_ACTOR_LEN - 1,
                                    &actor);
    if (wrong) {
        return "\"actor\" is a string of up to 63 bytes without control "
               "characters";
    }

    if (*actor == '\0') {
        return NULL;
    }

    /* " (actor)", cut to fit between two characters */

    len = ngx_strlen(call->actor);
    size = ngx_strlen(actor);

    if (len + sizeof(" ()") > sizeof(call->actor)) {
        return NULL;
    }

    size = ngx_min(size, sizeof(call->actor) - len - sizeof(" ()"));

    while (size && ((u_char) actor[size] & 0xc0) == 0x80) { size--; }

    ngx_sprintf((u_char *) call->actor + len, " (%*s)%Z", size, actor);

    return NULL;
}


static const char *
ngx_http_gate_call_text(json_t *body, const char *key, size_t max,
    const char **text)
{
    size_t         i, len;
    json_t        *value;
    const u_char  *p;

    *text = "";

    value = json_object_get(body, key);
    if (value == NULL) {
        return NULL;
    }

    if (!json_is_string(value) || json_string_length(value) > max) {
        return key;
    }

    p = (const u_char *) json_string_value(value);
    len = json_string_length(value);

    for (i = 0; i < len; i++) {

        /* jansson lets nothing in but UTF-8: C2 80..9F are the C1 controls */

        if (p[i] < 0x20 || p[i] == 0x7f
            || (p[i] == 0xc2 && p[i + 1] < 0xa0))
        {
            return key;
        }
    }

    *text = (const char *) p;

    return NULL;
}


/*
 * Copyright (C) nginx-gate authors
 */


/*
 * What variables make of a limit: rate=$tier, cost=$cost, and an override of
 * Redis's.
 *
 * There are few tiers and many requests, so a process keeps what it made of a
 * text, by a hash of it.  Text that is no rate must not let anybody in for
 * free, nor lock anybody out: the default counts then, and somebody is told.
 */


#include "ngx_http_gate_limit.h"


#define NGX_HTTP_GATE_COMPLAIN   60    /* seconds between two complaints */

/* more than any capacity: what asks for it is never admitted */

#define NGX_HTTP_GATE_COST_MAX   (GATE_RATE_COUNT_MAX + 1)


static ngx_int_t ngx_http_gate_tier(ngx_http_request_t *r,
    ngx_http_gate_quota_t *q);
static ngx_int_t ngx_http_gate_tier_parse(ngx_gate_limit_conf_t *lc,
    ngx_str_t *text, gate_policy_t *policy, const char **why);
static void ngx_http_gate_tier_bad(ngx_http_request_t *r,
    ngx_gate_limit_conf_t *lc, const char *what, const char *why);


ngx_int_t
ngx_http_gate_limit_policy(ngx_http_request_t *r, ngx_http_gate_quota_t *q)
{
    ngx_int_t                    rc;
    const gate_policy_t         *other;
    ngx_gate_limit_conf_t       *lc;
    ngx_http_gate_limit_zone_t  *zone;

    lc = q->limit->lc;
    zone = lc->http;

    q->policy = &lc->policy;
    q->take.cls = lc->cls;
    q->take.firm = (zone->rate.value == NULL);

    other = ngx_gate_limit_override(lc, q->take.hash);

    if (other) {

        /* the agent may fill that place anew */

        q->own = *other;
        q->policy = &q->own;
        q->take.cls = gate_limit_class(lc->table, &q->own.rate);
        q->take.firm = 1;

    } else if (zone->rate.value) {
        rc = ngx_http_gate_tier(r, q);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    q->take.rate = q->policy->rate;

    return NGX_OK;
}


static ngx_int_t
ngx_http_gate_tier(ngx_http_request_t *r, ngx_http_gate_quota_t *q)
{
    ngx_int_t                    rc;
    ngx_str_t                    text;
    const char                  *why;
    ngx_http_gate_tier_t        *tier;
    ngx_gate_limit_conf_t       *lc;
    ngx_http_gate_limit_zone_t  *zone;

    lc = q->limit->lc;
    zone = lc->http;

    if (ngx_http_gate_fetch(r, &zone->rate, &text) != NGX_OK) {
        return NGX_ERROR;
    }

    if (text.len == 0 || (text.len == 1 && text.data[0] == '-')) {
        return NGX_OK;
    }

    if (text.len > NGX_HTTP_GATE_TIER_LEN) {
        ngx_http_gate_tier_bad(r, lc, "rate", "is too long");
        return NGX_OK;
    }

    tier = &zone->tiers[ngx_crc32_short(text.data, text.len)
                        % NGX_HTTP_GATE_TIERS];

    if (tier->len != text.len
        || ngx_memcmp(tier->text, text.data, text.len) != 0)
    {
        tier->len = 0;
        tier->unlimited = 0;

        rc = ngx_http_gate_tier_parse(lc, &text, &tier->policy, &why);

        if (rc == NGX_ERROR) {
            ngx_http_gate_tier_bad(r, lc, "rate", why);
            return NGX_OK;
        }

        if (rc == NGX_DECLINED) {
            tier->unlimited = 1;

        } else {
            tier->cls = gate_limit_class(lc->table, &tier->policy.rate);
        }

        ngx_memcpy(tier->text, text.data, text.len);
        tier->len = (uint8_t) text.len;
    }

    if (tier->unlimited) {
        return NGX_DECLINED;
    }

    q->own = tier->policy;
    q->policy = &q->own;
    q->take.cls = tier->cls;

    return NGX_OK;
}


/* NGX_OK; NGX_DECLINED: there is no limit; NGX_ERROR: it is no rate. */

static ngx_int_t
ngx_http_gate_tier_parse(ngx_gate_limit_conf_t *lc, ngx_str_t *text,
    gate_policy_t *policy, const char **why)
{
    gate_policy_t                said;
    ngx_http_gate_limit_zone_t  *zone;

    if ((text->len == 9 && ngx_strncmp(text->data, "unlimited", 9) == 0)
        || (text->len == 3 && ngx_strncmp(text->data, "off", 3) == 0))
    {
        return NGX_DECLINED;
    }

    if (gate_rate_words(text->data, text->len, &lc->policy, &said, why) != 0) {
        return NGX_ERROR;
    }

    /* burst= of the zone is for all rates that do not name one themselves */

    zone = lc->http;

    if (zone->burst != -1
        && ngx_strlcasestrn(text->data, text->data + text->len,
                            (u_char *) "burst=", 6 - 1)
           == NULL
        && gate_rate_policy(said.count, said.period, zone->burst, &said, why)
           != 0)
    {
        return NGX_ERROR;
    }

    *policy = said;

    return NGX_OK;
}


ngx_int_t
ngx_http_gate_limit_cost(ngx_http_request_t *r, ngx_http_gate_quota_t *q)
{
    uint64_t    n;
    ngx_str_t   text;
    ngx_uint_t  i;

    q->take.cost = q->limit->units;

    if (q->limit->cost.value == NULL) {
        return NGX_OK;
    }

    if (ngx_http_gate_fetch(r, &q->limit->cost, &text) != NGX_OK) {
        return NGX_ERROR;
    }

    /* a number that is large beyond sense is not one that costs 1 */

    n = 0;

    for (i = 0; i < text.len; i++) {

        if (text.data[i] < '0' || text.data[i] > '9') {
            break;
        }

        n = ngx_min(n * 10 + (text.data[i] - '0'), NGX_HTTP_GATE_COST_MAX);
    }

    if (text.len == 0 || i < text.len) {
        ngx_http_gate_tier_bad(r, q->limit->lc, "cost", "is no number");
        q->take.cost = 1;
        return NGX_OK;
    }

    q->take.cost = (int64_t) n;

    return NGX_OK;
}


/* The value itself may be anything, also a secret: it is not shown. */

static void
ngx_http_gate_tier_bad(ngx_http_request_t *r, ngx_gate_limit_conf_t *lc,
    const char *what, const char *why)
{
    ngx_http_gate_limit_zone_t  *zone;

    zone = lc->http;

    if (*what == 'r') {
        ngx_gate_limit_counts(lc)->bad_rate++;

    } else {
        ngx_gate_limit_counts(lc)->bad_cost++;
    }

    if (zone->complained && ngx_time() - zone->complained
                            < NGX_HTTP_GATE_COMPLAIN)
    {
        return;
    }

    zone->complained = ngx_time();

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "gate: limit zone \"%V\": the value of \"%s=\" %s, %s "
                  "counts instead", &lc->name, what, why,
                  *what == 'r' ? "\"default=\"" : "1");
}

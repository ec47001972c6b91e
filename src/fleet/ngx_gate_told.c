
/*
 * Copyright (C) nginx-gate authors
 */


/*
 * A rollout's hash as a structure.  The hash is typed into by people, so
 * every field is checked; a hash in which one makes no sense is not believed
 * as a whole.
 */


#include "ngx_gate_fleet.h"

#include <ngx_md5.h>

#include "core/gate_text.h"


static ngx_int_t ngx_gate_told_field(const char *name, redisReply *value,
    gate_state_rollout_t *st);
static ngx_int_t ngx_gate_told_number(redisReply *value, uint64_t max,
    uint64_t *n);
static ngx_int_t ngx_gate_told_weight(redisReply *value, unsigned *weight);
static ngx_int_t ngx_gate_told_seed(redisReply *value, uint64_t seed[2]);
static ngx_int_t ngx_gate_told_text(redisReply *value, char *text,
    size_t size);
static ngx_int_t ngx_gate_told_name(redisReply *value, char *text,
    size_t size);


void
ngx_gate_told_release(ngx_gate_rollout_conf_t *rc,
    u_char text[NGX_GATE_RELEASE_LEN])
{
    u_char     digest[16];
    ngx_md5_t  md5;

    /* none of the three can hold a NUL */

    ngx_md5_init(&md5);
    ngx_md5_update(&md5, rc->stable.data, rc->stable.len);
    ngx_md5_update(&md5, "", 1);
    ngx_md5_update(&md5, rc->canary.data, rc->canary.len);
    ngx_md5_update(&md5, "", 1);
    ngx_md5_update(&md5, rc->id.data, rc->id.len);
    ngx_md5_final(digest, &md5);

    *ngx_hex_dump(text, digest, sizeof(digest)) = '\0';
}


void
ngx_gate_told_digest(ngx_gate_rollout_conf_t *rc, u_char text[17])
{
    u_char      digest[16];
    uint64_t    n[2];
    ngx_md5_t   md5;
    ngx_uint_t  i;

    ngx_md5_init(&md5);

    n[0] = rc->digest;
    n[1] = rc->weight;
    ngx_md5_update(&md5, n, sizeof(n));

    for (i = 0; i < rc->nsteps; i++) {
        n[0] = rc->steps[i].weight;
        n[1] = rc->steps[i].time;
        ngx_md5_update(&md5, n, sizeof(n));
    }

    ngx_md5_final(digest, &md5);

    *ngx_hex_dump(text, digest, 8) = '\0';
}


ngx_int_t
ngx_gate_told_read(redisReply *fields, gate_state_rollout_t *st,
    const char **wrong)
{
    size_t       i;
    redisReply  *name, *value;

    *wrong = "hash";

    ngx_memzero(st, sizeof(gate_state_rollout_t));

    st->state = GATE_ROLLED_BACK + 1;

    if (fields->type != REDIS_REPLY_ARRAY || fields->elements % 2) {
        return NGX_DECLINED;
    }

    for (i = 0; i < fields->elements; i += 2) {
        name = fields->element[i];
        value = fields->element[i + 1];

        if (name->type != REDIS_REPLY_STRING
            || value->type != REDIS_REPLY_STRING)
        {
            continue;
        }

        if (ngx_gate_told_field(name->str, value, st) != NGX_OK) {
            *wrong = name->str;
            return NGX_DECLINED;
        }
    }

    if (st->epoch == 0) {
        *wrong = "epoch";
        return NGX_DECLINED;
    }

    if (st->state > GATE_ROLLED_BACK) {
        *wrong = "state";
        return NGX_DECLINED;
    }

    /* the weight goes with the state, whatever stands beside it */

    if (st->state == GATE_ROLLED_BACK || st->state == GATE_IDLE) {
        st->weight = 0;

    } else if (st->state == GATE_PROMOTED) {
        st->weight = GATE_WEIGHT_MAX;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_gate_told_field(const char *name, redisReply *value,
    gate_state_rollout_t *st)
{
    int       state;
    uint64_t  n;

    if (ngx_strcmp(name, "state") == 0) {
        state = gate_rollout_state_parse((u_char *) value->str, value->len);
        st->state = (unsigned) state;
        return (state == -1) ? NGX_DECLINED : NGX_OK;
    }

    if (ngx_strcmp(name, "weight") == 0) {
        return ngx_gate_told_weight(value, &st->weight);
    }

    if (ngx_strcmp(name, "epoch") == 0) {

        if (ngx_gate_told_number(value, UINT32_MAX, &n) != NGX_OK) {
            return NGX_DECLINED;
        }

        st->epoch = (uint32_t) n;
        return NGX_OK;
    }

    if (ngx_strcmp(name, "step") == 0) {

        if (ngx_gate_told_number(value, GATE_STATE_STEP_MAX, &n) != NGX_OK) {
            return NGX_DECLINED;
        }

        st->step = (unsigned) n;
        return NGX_OK;
    }

    if (ngx_strcmp(name, "since") == 0) {

        if (ngx_gate_told_number(value, GATE_PARSE_TIME_MAX, &n) != NGX_OK) {
            return NGX_DECLINED;
        }

        st->since = (int64_t) n;
        return NGX_OK;
    }

    if (ngx_strcmp(name, "seed") == 0) {
        return ngx_gate_told_seed(value, st->seed);
    }

    if (ngx_strcmp(name, "stable") == 0) {
        return ngx_gate_told_name(value, st->stable, sizeof(st->stable));
    }

    if (ngx_strcmp(name, "canary") == 0) {
        return ngx_gate_told_name(value, st->canary, sizeof(st->canary));
    }

    if (ngx_strcmp(name, "version") == 0) {
        return ngx_gate_told_name(value, st->id, sizeof(st->id));
    }

    if (ngx_strcmp(name, "reason") == 0) {
        return ngx_gate_told_text(value, st->reason, sizeof(st->reason));
    }

    if (ngx_strcmp(name, "source") == 0) {
        return ngx_gate_told_text(value, st->source, sizeof(st->source));
    }

    if (ngx_strcmp(name, "actor") == 0) {
        return ngx_gate_told_text(value, st->actor, sizeof(st->actor));
    }

    if (ngx_strcmp(name, "record") == 0
        && value->len < NGX_GATE_RECORD_LEN
        && gate_text_clean((u_char *) value->str, value->len))
    {
        st->record = value->len ? value->str : NULL;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_gate_told_number(redisReply *value, uint64_t max, uint64_t *n)
{
    return gate_parse_uint((u_char *) value->str, value->len, max, n) == 0
           ? NGX_OK : NGX_DECLINED;
}


/* "5", or "5%" as people type it */

static ngx_int_t
ngx_gate_told_weight(redisReply *value, unsigned *weight)
{
    size_t  len;
    u_char  text[16];

    len = value->len;

    if (len == 0 || len > sizeof(text) - 1) {
        return NGX_DECLINED;
    }

    ngx_memcpy(text, value->str, len);

    if (text[len - 1] != '%') {
        text[len++] = '%';
    }

    return gate_parse_weight(text, len, weight) == 0 ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_gate_told_seed(redisReply *value, uint64_t seed[2])
{
    ngx_uint_t  i, k;
    ngx_int_t   n;

    if (value->len != 32) {
        return NGX_DECLINED;
    }

    for (i = 0; i < 2; i++) {
        seed[i] = 0;

        for (k = 0; k < 16; k += 2) {
            n = ngx_hextoi((u_char *) value->str + i * 16 + k, 2);

            if (n == NGX_ERROR) {
                return NGX_DECLINED;
            }

            seed[i] = seed[i] << 8 | (uint64_t) n;
        }
    }

    return NGX_OK;
}


/* for people only: what is odd in it is replaced, what is too long cut */

static ngx_int_t
ngx_gate_told_text(redisReply *value, char *text, size_t size)
{
    size_t  i, len;

    len = ngx_min(value->len, size - 1);

    /* not in the middle of a character */

    while (len < value->len && len
           && ((u_char) value->str[len] & 0xc0) == 0x80)
    {
        len--;
    }

    ngx_gate_text(text, size, (u_char *) value->str, len);

    if (gate_text_clean((u_char *) text, len)) {
        return NGX_OK;
    }

    for (i = 0; i < len; i++) {

        if ((u_char) text[i] < 0x20 || (u_char) text[i] >= 0x7f) {
            text[i] = '?';
        }
    }

    return NGX_OK;
}


/* compared with the configuration, so taken whole or not at all */

static ngx_int_t
ngx_gate_told_name(redisReply *value, char *text, size_t size)
{
    if (value->len >= size
        || !gate_text_clean((u_char *) value->str, value->len))
    {
        return NGX_DECLINED;
    }

    ngx_gate_text(text, size, (u_char *) value->str, value->len);

    return NGX_OK;
}

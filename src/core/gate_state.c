
#include "gate_state.h"
#include "gate_state_read.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define GATE_STATE_DEPTH_MAX     16
#define GATE_STATE_RECORD_DEPTH  16

/* takes the reference to the value; fails for one that could not be made */
#define gate_state_put           json_object_set_new


typedef json_t *(*gate_state_write_pt)(const void *item);


static const char  *gate_state_names[] = {
    "idle", "progressing", "paused", "promoted", "rolled_back"
};

#define GATE_STATE_NAMES                                                      \
    (sizeof(gate_state_names) / sizeof(gate_state_names[0]))


static json_t *gate_state_text(const char *s, size_t size);
static json_t *gate_state_pair(const uint64_t v[2]);
static int gate_state_put_origin(json_t *o, int64_t since,
    const char source[16], const char actor[64]);
static int gate_state_put_known(json_t *o, const gate_state_known_t *known);
static int gate_state_put_fleet(json_t *o, const gate_state_rollout_t *r);
static json_t *gate_state_from_rollout(const void *item);
static json_t *gate_state_from_switch(const void *item);
static json_t *gate_state_from_mode(const void *item);
static int gate_state_put_items(json_t *root, const char *key,
    gate_state_write_pt write, const void *items, size_t size, size_t n);
static json_t *gate_state_from(const gate_state_t *s);
static char *gate_state_dump(const json_t *root, size_t *len);


const char *
gate_rollout_state_name(unsigned s)
{
    return (s < GATE_STATE_NAMES) ? gate_state_names[s] : "unknown";
}


int
gate_rollout_state_parse(const unsigned char *s, size_t len)
{
    unsigned  i;

    for (i = 0; i < GATE_STATE_NAMES; i++) {
        if (len == strlen(gate_state_names[i])
            && memcmp(s, gate_state_names[i], len) == 0)
        {
            return (int) i;
        }
    }

    return -1;
}


char *
gate_state_encode(const gate_state_t *s, size_t *len)
{
    char          *text;
    size_t         n;
    json_t        *root;
    gate_state_t   check;

    root = gate_state_from(s);

    if (root == NULL) {
        return NULL;
    }

    text = gate_state_dump(root, &n);

    json_decref(root);

    if (text == NULL) {
        return NULL;
    }

    /* the only proof that it can be read back is to read it back */

    if (gate_state_decode(text, n, &check, NULL) != 0) {
        free(text);
        return NULL;
    }

    gate_state_free(&check);

    if (len != NULL) {
        *len = n;
    }

    return text;
}


void
gate_state_free_text(char *text)
{
    free(text);
}


int
gate_state_decode(const char *text, size_t len, gate_state_t *s,
    const char **err)
{
    json_t      *root;
    const char  *reason;

    memset(s, 0, sizeof(gate_state_t));
    root = NULL;

    if (len == 0) {
        reason = "empty";

    } else if (len > GATE_STATE_TEXT_MAX) {
        reason = "too large";

    } else if (!gate_switch_depth_ok((const unsigned char *) text, len,
                                     GATE_STATE_DEPTH_MAX))
    {
        reason = "nested too deeply";

    } else {
        root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
        reason = (root == NULL) ? "torn or not JSON"
                                : gate_state_read(root, s);
    }

    json_decref(root);

    if (reason == NULL) {
        return 0;
    }

    gate_state_free(s);

    if (err != NULL) {
        *err = reason;
    }

    return -1;
}


void
gate_state_free(gate_state_t *s)
{
    size_t  i;

    for (i = 0; i < s->nrollouts; i++) {
        free(s->rollouts[i].record);
    }

    free(s->rollouts);
    free(s->switches);
    free(s->modes);

    memset(s, 0, sizeof(gate_state_t));
}


/* size is that of the array, which ought to have a NUL in it */

static json_t *
gate_state_text(const char *s, size_t size)
{
    const char  *end;

    end = memchr(s, '\0', size);

    return (end == NULL) ? NULL : json_stringn(s, (size_t) (end - s));
}


static json_t *
gate_state_pair(const uint64_t v[2])
{
    char      hex[GATE_STATE_HEX_LEN + 1];
    json_t   *array;
    unsigned  i;

    array = json_array();

    if (array == NULL) {
        return NULL;
    }

    for (i = 0; i < 2; i++) {
        (void) snprintf(hex, sizeof(hex), "%016" PRIx64, v[i]);

        if (json_array_append_new(array, json_string(hex)) != 0) {
            json_decref(array);
            return NULL;
        }
    }

    return array;
}


int
gate_state_record_ok(const char *s, size_t len)
{
    int      ok;
    json_t  *root;

    if (len > GATE_STATE_RECORD_MAX
        || !gate_switch_depth_ok((const unsigned char *) s, len,
                                 GATE_STATE_RECORD_DEPTH))
    {
        return 0;
    }

    root = json_loadb(s, len, JSON_REJECT_DUPLICATES, NULL);
    ok = json_is_object(root);

    json_decref(root);

    return ok;
}


static int
gate_state_put_origin(json_t *o, int64_t since, const char source[16],
    const char actor[64])
{
    if (gate_state_put(o, "since", json_integer(since)) != 0
        || gate_state_put(o, "source", gate_state_text(source, 16)) != 0
        || gate_state_put(o, "actor", gate_state_text(actor, 64)) != 0)
    {
        return -1;
    }

    return 0;
}


/* What is not so is left out: without Redis nothing of it is. */

static int
gate_state_put_known(json_t *o, const gate_state_known_t *known)
{
    if (known->rev != 0
        && gate_state_put(o, "rev", json_integer((json_int_t) known->rev))
           != 0)
    {
        return -1;
    }

    if (known->there && gate_state_put(o, "there", json_true()) != 0) {
        return -1;
    }

    if (known->dirty && gate_state_put(o, "dirty", json_true()) != 0) {
        return -1;
    }

    return 0;
}


static int
gate_state_put_fleet(json_t *o, const gate_state_rollout_t *r)
{
    if (gate_state_put_known(o, &r->known) != 0) {
        return -1;
    }

    if (r->provisional
        && gate_state_put(o, "provisional", json_true()) != 0)
    {
        return -1;
    }

    if (r->opening != 0
        && gate_state_put(o, "opening", json_integer(r->opening)) != 0)
    {
        return -1;
    }

    if (r->flip_epoch != 0
        && gate_state_put(o, "flip_epoch", json_integer(r->flip_epoch)) != 0)
    {
        return -1;
    }

    return 0;
}


static json_t *
gate_state_from_rollout(const void *item)
{
    json_t                      *o;
    const gate_state_rollout_t  *r;

    r = item;
    o = json_object();

    if (o == NULL) {
        return NULL;
    }

    if (gate_state_put(o, "name", gate_state_text(r->name, 65)) != 0
        || gate_state_put(o, "stable", gate_state_text(r->stable, 65)) != 0
        || gate_state_put(o, "canary", gate_state_text(r->canary, 65)) != 0
        || gate_state_put(o, "id", gate_state_text(r->id, 129)) != 0
        || gate_state_put(o, "epoch", json_integer(r->epoch)) != 0
        || gate_state_put(o, "state",
                          json_string(gate_rollout_state_name(r->state))) != 0
        || gate_state_put(o, "step", json_integer(r->step)) != 0
        || gate_state_put(o, "weight", json_integer(r->weight)) != 0
        || gate_state_put(o, "conf_weight", json_integer(r->conf_weight)) != 0
        || gate_state_put(o, "seed", gate_state_pair(r->seed)) != 0
        || gate_state_put(o, "reason", gate_state_text(r->reason, 128)) != 0
        || gate_state_put_origin(o, r->since, r->source, r->actor) != 0
        || gate_state_put_fleet(o, r) != 0)
    {
        goto failed;
    }

    if (r->record != NULL
        && gate_state_record_ok(r->record, strlen(r->record))
        && gate_state_put(o, "record", json_string(r->record)) != 0)
    {
        goto failed;
    }

    return o;

failed:

    json_decref(o);

    return NULL;
}


static json_t *
gate_state_from_switch(const void *item)
{
    json_t                     *o;
    const gate_state_switch_t  *w;

    w = item;
    o = json_object();

    if (o == NULL) {
        return NULL;
    }

    if (gate_state_put(o, "name", gate_state_text(w->name, 65)) != 0
        || gate_state_put(o, "value", gate_switch_to_json(&w->value)) != 0
        || gate_state_put_origin(o, w->since, w->source, w->actor) != 0
        || gate_state_put_known(o, &w->known) != 0)
    {
        json_decref(o);
        return NULL;
    }

    return o;
}


static json_t *
gate_state_from_mode(const void *item)
{
    json_t                   *o;
    const gate_state_mode_t  *m;

    m = item;
    o = json_object();

    if (o == NULL) {
        return NULL;
    }

    if (gate_state_put(o, "gate", gate_state_text(m->gate, 16)) != 0
        || gate_state_put(o, "mode", gate_state_text(m->mode, 16)) != 0
        || gate_state_put_origin(o, m->since, m->source, m->actor) != 0
        || gate_state_put_known(o, &m->known) != 0)
    {
        json_decref(o);
        return NULL;
    }

    return o;
}


static int
gate_state_put_items(json_t *root, const char *key,
    gate_state_write_pt write, const void *items, size_t size, size_t n)
{
    size_t       i;
    json_t      *array;
    const char  *item;

    array = json_array();
    item = items;

    for (i = 0; i < n; i++, item += size) {

        /* which fails for an array that could not be made as well */

        if (json_array_append_new(array, write(item)) != 0) {
            json_decref(array);
            return -1;
        }
    }

    return gate_state_put(root, key, array);
}


static json_t *
gate_state_from(const gate_state_t *s)
{
    json_t  *root;

    root = json_object();

    if (root == NULL) {
        return NULL;
    }

    if (gate_state_put(root, "format", json_string(GATE_STATE_FORMAT)) != 0
        || gate_state_put(root, "version", json_integer(GATE_STATE_VERSION))
           != 0
        || gate_state_put(root, "secret", gate_state_pair(s->secret)) != 0)
    {
        goto failed;
    }

    if (s->inc[0] != '\0'
        && gate_state_put(root, "inc", gate_state_text(s->inc, 41)) != 0)
    {
        goto failed;
    }

    if (gate_state_put_items(root, "rollouts", gate_state_from_rollout,
                             s->rollouts, sizeof(gate_state_rollout_t),
                             s->nrollouts)
        != 0
        || gate_state_put_items(root, "switches", gate_state_from_switch,
                                s->switches, sizeof(gate_state_switch_t),
                                s->nswitches)
           != 0)
    {
        goto failed;
    }

    if (s->nmodes != 0
        && gate_state_put_items(root, "modes", gate_state_from_mode, s->modes,
                                sizeof(gate_state_mode_t), s->nmodes)
           != 0)
    {
        goto failed;
    }

    return root;

failed:

    json_decref(root);

    return NULL;
}


/*
 * Into memory of malloc(): what jansson returns is freed by its allocator,
 * which another module of the process may have replaced.
 */

static char *
gate_state_dump(const json_t *root, size_t *len)
{
    char    *text;
    size_t   n;

    n = json_dumpb(root, NULL, 0, JSON_INDENT(2));

    if (n == 0 || n > GATE_STATE_TEXT_MAX - 1) {
        return NULL;
    }

    text = malloc(n + 2);

    if (text == NULL) {
        return NULL;
    }

    if (json_dumpb(root, text, n, JSON_INDENT(2)) != n) {
        free(text);
        return NULL;
    }

    text[n] = '\n';
    text[n + 1] = '\0';
    *len = n + 1;

    return text;
}

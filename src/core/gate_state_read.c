
#include "gate_state_read.h"
#include "gate_assign.h"
#include "gate_parse.h"
#include "gate_text.h"

#include <stdlib.h>
#include <string.h>


/* NULL, or a static reason */

typedef const char *(*gate_state_read_pt)(const json_t *o, void *item);


static int gate_state_get_text(const json_t *o, const char *key, char *dst,
    size_t size);
static int gate_state_get_int(const json_t *o, const char *key,
    json_int_t max, json_int_t *n);
static int gate_state_get_uint(const json_t *o, const char *key,
    unsigned max, unsigned *n);
static int gate_state_get_pair(const json_t *o, const char *key,
    uint64_t v[2]);
static int gate_state_get_origin(const json_t *o, int64_t *since,
    char source[16], char actor[64]);
static int gate_state_get_bool(const json_t *o, const char *key, unsigned *b);
static int gate_state_get_known(const json_t *o, gate_state_known_t *known);
static int gate_state_get_fleet(const json_t *o, gate_state_rollout_t *r);
static int gate_state_get_record(const json_t *o, char **record);
static const char *gate_state_to_rollout(const json_t *o, void *item);
static const char *gate_state_to_switch(const json_t *o, void *item);
static const char *gate_state_to_mode(const json_t *o, void *item);
static const char *gate_state_items(const json_t *root, const char *key,
    size_t size, gate_state_read_pt read, void **items, size_t *n);


static int
gate_state_get_text(const json_t *o, const char *key, char *dst, size_t size)
{
    size_t         len;
    const char    *s;
    const json_t  *value;

    value = json_object_get(o, key);

    if (!json_is_string(value)) {
        return -1;
    }

    s = json_string_value(value);
    len = json_string_length(value);

    if (len >= size || !gate_text_clean((const unsigned char *) s, len)) {
        return -1;
    }

    memcpy(dst, s, len);
    dst[len] = '\0';

    return 0;
}


static int
gate_state_get_int(const json_t *o, const char *key, json_int_t max,
    json_int_t *n)
{
    json_int_t     x;
    const json_t  *value;

    value = json_object_get(o, key);

    if (!json_is_integer(value)) {
        return -1;
    }

    x = json_integer_value(value);

    if (x < 0 || x > max) {
        return -1;
    }

    *n = x;

    return 0;
}


static int
gate_state_get_uint(const json_t *o, const char *key, unsigned max,
    unsigned *n)
{
    json_int_t  x;

    if (gate_state_get_int(o, key, (json_int_t) max, &x) != 0) {
        return -1;
    }

    *n = (unsigned) x;

    return 0;
}


static int
gate_state_get_pair(const json_t *o, const char *key, uint64_t v[2])
{
    char           c;
    size_t         i, j;
    const char    *s;
    const json_t  *array, *item;

    array = json_object_get(o, key);

    if (!json_is_array(array) || json_array_size(array) != 2) {
        return -1;
    }

    for (i = 0; i < 2; i++) {
        item = json_array_get(array, i);

        if (!json_is_string(item)
            || json_string_length(item) != GATE_STATE_HEX_LEN)
        {
            return -1;
        }

        s = json_string_value(item);
        v[i] = 0;

        for (j = 0; j < GATE_STATE_HEX_LEN; j++) {
            c = s[j];

            if (c >= '0' && c <= '9') {
                c = (char) (c - '0');

            } else if (c >= 'a' && c <= 'f') {
                c = (char) (c - 'a' + 10);

            } else {
                return -1;
            }

            v[i] = v[i] << 4 | (uint64_t) c;
        }
    }

    return 0;
}


static int
gate_state_get_origin(const json_t *o, int64_t *since, char source[16],
    char actor[64])
{
    json_int_t  n;

    if (gate_state_get_int(o, "since", GATE_PARSE_TIME_MAX, &n) != 0
        || gate_state_get_text(o, "source", source, 16) != 0
        || gate_state_get_text(o, "actor", actor, 64) != 0)
    {
        return -1;
    }

    *since = (int64_t) n;

    return 0;
}


/* Members that older versions did not write: none of them is "no", or 0. */

static int
gate_state_get_bool(const json_t *o, const char *key, unsigned *b)
{
    const json_t  *value;

    value = json_object_get(o, key);

    if (value == NULL) {
        return 0;
    }

    *b = json_is_true(value);

    return json_is_boolean(value) ? 0 : -1;
}


static int
gate_state_get_known(const json_t *o, gate_state_known_t *known)
{
    json_int_t  rev;

    rev = 0;

    if (json_object_get(o, "rev") != NULL
        && gate_state_get_int(o, "rev", GATE_STATE_REV_MAX, &rev) != 0)
    {
        return -1;
    }

    known->rev = (uint64_t) rev;

    if (gate_state_get_bool(o, "there", &known->there) != 0
        || gate_state_get_bool(o, "dirty", &known->dirty) != 0)
    {
        return -1;
    }

    return 0;
}


static int
gate_state_get_fleet(const json_t *o, gate_state_rollout_t *r)
{
    json_int_t  epoch;

    epoch = 0;

    if (gate_state_get_known(o, &r->known) != 0
        || gate_state_get_bool(o, "provisional", &r->provisional) != 0)
    {
        return -1;
    }

    if (json_object_get(o, "opening") != NULL
        && gate_state_get_uint(o, "opening", GATE_STATE_OPENING_MAX,
                               &r->opening) != 0)
    {
        return -1;
    }

    if (json_object_get(o, "flip_epoch") != NULL
        && gate_state_get_int(o, "flip_epoch", UINT32_MAX, &epoch) != 0)
    {
        return -1;
    }

    r->flip_epoch = (uint32_t) epoch;

    return 0;
}


static int
gate_state_get_record(const json_t *o, char **record)
{
    size_t         len;
    const char    *s;
    const json_t  *value;

    value = json_object_get(o, "record");

    if (value == NULL) {
        *record = NULL;
        return 0;
    }

    if (!json_is_string(value)) {
        return -1;
    }

    s = json_string_value(value);
    len = json_string_length(value);

    if (!gate_state_record_ok(s, len)) {
        return -1;
    }

    *record = strdup(s);

    return (*record == NULL) ? -1 : 0;
}


static const char *
gate_state_to_rollout(const json_t *o, void *item)
{
    int                    state;
    char                   name[16];
    json_int_t             epoch;
    gate_state_rollout_t  *r;

    r = item;

    if (gate_state_get_text(o, "name", r->name, 65) != 0
        || !gate_name_valid((unsigned char *) r->name, strlen(r->name))
        || gate_state_get_text(o, "stable", r->stable, 65) != 0
        || gate_state_get_text(o, "canary", r->canary, 65) != 0
        || gate_state_get_text(o, "id", r->id, 129) != 0)
    {
        return "a rollout without a valid name, arms or id";
    }

    if (gate_state_get_text(o, "state", name, sizeof(name)) != 0) {
        return "a rollout without a state";
    }

    state = gate_rollout_state_parse((unsigned char *) name, strlen(name));

    if (state == -1) {
        return "a rollout in an unknown state";
    }

    r->state = (unsigned) state;

    if (gate_state_get_int(o, "epoch", UINT32_MAX, &epoch) != 0
        || gate_state_get_uint(o, "step", GATE_STATE_STEP_MAX, &r->step) != 0
        || gate_state_get_uint(o, "weight", GATE_WEIGHT_MAX, &r->weight) != 0
        || gate_state_get_uint(o, "conf_weight", GATE_WEIGHT_MAX,
                               &r->conf_weight) != 0
        || gate_state_get_pair(o, "seed", r->seed) != 0)
    {
        return "a rollout with a number that is missing or out of range";
    }

    r->epoch = (uint32_t) epoch;

    if (gate_state_get_text(o, "reason", r->reason, 128) != 0
        || gate_state_get_origin(o, &r->since, r->source, r->actor) != 0)
    {
        return "a rollout without a valid reason or origin";
    }

    if (gate_state_get_fleet(o, r) != 0) {
        return "a rollout with an invalid note about the fleet";
    }

    /* last, because it allocates */

    if (gate_state_get_record(o, &r->record) != 0) {
        return "a rollout with an invalid record";
    }

    return NULL;
}


static const char *
gate_state_to_switch(const json_t *o, void *item)
{
    const json_t         *value;
    gate_state_switch_t  *w;

    w = item;

    if (gate_state_get_text(o, "name", w->name, 65) != 0
        || (w->name[0] != '\0'
            && !gate_name_valid((unsigned char *) w->name, strlen(w->name))))
    {
        return "a switch without a valid name";
    }

    value = json_object_get(o, "value");

    /* a stored end is absolute: "ttl" would begin anew with every restart */

    if (json_object_get(value, "ttl") != NULL
        || gate_switch_from_json(value, 0, &w->value) != GATE_SWITCH_OK)
    {
        return "a switch without a valid value";
    }

    if (gate_state_get_origin(o, &w->since, w->source, w->actor) != 0) {
        return "a switch without a valid origin";
    }

    if (gate_state_get_known(o, &w->known) != 0) {
        return "a switch with an invalid note about the fleet";
    }

    return NULL;
}


/* Which gates and modes there are is not asked here: versions differ. */

static const char *
gate_state_to_mode(const json_t *o, void *item)
{
    gate_state_mode_t  *m;

    m = item;

    if (gate_state_get_text(o, "gate", m->gate, 16) != 0
        || !gate_name_valid((unsigned char *) m->gate, strlen(m->gate))
        || gate_state_get_text(o, "mode", m->mode, 16) != 0
        || !gate_name_valid((unsigned char *) m->mode, strlen(m->mode)))
    {
        return "a mode without a valid gate or name";
    }

    if (gate_state_get_origin(o, &m->since, m->source, m->actor) != 0
        || gate_state_get_known(o, &m->known) != 0)
    {
        return "a mode without a valid origin";
    }

    return NULL;
}


/*
 * Reads the member key into *n items of size bytes each, allocated here and,
 * also after an error, freed by gate_state_free().  An item begins with its
 * name, whatever its kind.
 */

static const char *
gate_state_items(const json_t *root, const char *key, size_t size,
    gate_state_read_pt read, void **items, size_t *n)
{
    char          *item;
    size_t         i, count;
    json_t        *seen;
    const char    *err;
    const json_t  *array;

    array = json_object_get(root, key);

    if (!json_is_array(array)) {
        return "not a complete state";
    }

    count = json_array_size(array);

    if (count > GATE_STATE_ITEMS_MAX) {
        return "too many rollouts or switches";
    }

    /* one at least, so that NULL means no memory and nothing else */

    item = calloc(count + 1, size);
    seen = json_object();
    err = (item == NULL || seen == NULL) ? "out of memory" : NULL;

    *items = item;

    for (i = 0; i < count && err == NULL; i++, item += size) {

        /* counted first, so that a failure frees what this one allocates */

        *n = i + 1;

        err = read(json_array_get(array, i), item);

        if (err != NULL) {
            break;
        }

        if (json_object_get(seen, item) != NULL) {
            err = "two of one name";

        } else if (json_object_set_new(seen, item, json_true()) != 0) {
            err = "out of memory";
        }
    }

    json_decref(seen);

    return err;
}


const char *
gate_state_read(const json_t *root, gate_state_t *s)
{
    void          *rollouts, *switches, *modes;
    json_int_t     version;
    const char    *err;
    const json_t  *format;

    rollouts = NULL;
    switches = NULL;
    modes = NULL;

    format = json_object_get(root, "format");

    if (!json_is_string(format)
        || strcmp(json_string_value(format), GATE_STATE_FORMAT) != 0)
    {
        return "not a state of nginx-gate";
    }

    if (gate_state_get_int(root, "version", INT64_MAX, &version) != 0
        || version == 0)
    {
        return "no valid version";
    }

    if (version > GATE_STATE_VERSION) {
        return "written by a newer version";
    }

    if (gate_state_get_pair(root, "secret", s->secret) != 0) {
        return "no valid secret";
    }

    if (json_object_get(root, "inc") != NULL
        && gate_state_get_text(root, "inc", s->inc, 41) != 0)
    {
        return "no valid incarnation";
    }

    err = gate_state_items(root, "rollouts", sizeof(gate_state_rollout_t),
                           gate_state_to_rollout, &rollouts, &s->nrollouts);

    s->rollouts = rollouts;

    if (err != NULL) {
        return err;
    }

    err = gate_state_items(root, "switches", sizeof(gate_state_switch_t),
                           gate_state_to_switch, &switches, &s->nswitches);

    s->switches = switches;

    if (err != NULL || json_object_get(root, "modes") == NULL) {
        return err;
    }

    err = gate_state_items(root, "modes", sizeof(gate_state_mode_t),
                           gate_state_to_mode, &modes, &s->nmodes);

    s->modes = modes;

    return err;
}


#include "gate_state.h"
#include "gate_assign.h"
#include "gate_parse.h"
#include "gate_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define GATE_STATE_FORMAT        "nginx-gate-state"
#define GATE_STATE_VERSION       1
#define GATE_STATE_DEPTH_MAX     16
#define GATE_STATE_RECORD_DEPTH  16
#define GATE_STATE_HEX_LEN       16

/* takes the reference to the value; fails for one that could not be made */
#define gate_state_put           json_object_set_new


/* NULL, or a static reason */

typedef const char *(*gate_state_read_pt)(const json_t *o, void *item);


static const char  *gate_state_names[] = {
    "idle", "progressing", "paused", "promoted", "rolled_back"
};

#define GATE_STATE_NAMES                                                      \
    (sizeof(gate_state_names) / sizeof(gate_state_names[0]))


static json_t *gate_state_text(const char *s, size_t size);
static json_t *gate_state_pair(const uint64_t v[2]);
static int gate_state_record_ok(const char *s, size_t len);
static int gate_state_put_origin(json_t *o, int64_t since,
    const char source[16], const char actor[64]);
static json_t *gate_state_from_rollout(const gate_state_rollout_t *r);
static json_t *gate_state_from_switch(const gate_state_switch_t *w);
static json_t *gate_state_from(const gate_state_t *s);
static char *gate_state_dump(const json_t *root, size_t *len);

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
static int gate_state_get_record(const json_t *o, char **record);
static const char *gate_state_to_rollout(const json_t *o, void *item);
static const char *gate_state_to_switch(const json_t *o, void *item);
static const char *gate_state_items(const json_t *root, const char *key,
    size_t size, gate_state_read_pt read, void **items, size_t *n);
static const char *gate_state_to(const json_t *root, gate_state_t *s);


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
        reason = (root == NULL) ? "torn or not JSON" : gate_state_to(root, s);
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


static int
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


static json_t *
gate_state_from_rollout(const gate_state_rollout_t *r)
{
    json_t  *o;

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
        || gate_state_put_origin(o, r->since, r->source, r->actor) != 0)
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
gate_state_from_switch(const gate_state_switch_t *w)
{
    json_t  *o;

    o = json_object();

    if (o == NULL) {
        return NULL;
    }

    if (gate_state_put(o, "name", gate_state_text(w->name, 65)) != 0
        || gate_state_put(o, "value", gate_switch_to_json(&w->value)) != 0
        || gate_state_put_origin(o, w->since, w->source, w->actor) != 0)
    {
        json_decref(o);
        return NULL;
    }

    return o;
}


static json_t *
gate_state_from(const gate_state_t *s)
{
    size_t   i;
    json_t  *root, *rollouts, *switches;

    root = json_object();
    rollouts = json_array();
    switches = json_array();

    if (root == NULL || rollouts == NULL || switches == NULL) {
        goto failed;
    }

    if (gate_state_put(root, "format", json_string(GATE_STATE_FORMAT)) != 0
        || gate_state_put(root, "version", json_integer(GATE_STATE_VERSION))
           != 0
        || gate_state_put(root, "secret", gate_state_pair(s->secret)) != 0)
    {
        goto failed;
    }

    for (i = 0; i < s->nrollouts; i++) {
        if (json_array_append_new(rollouts,
                                  gate_state_from_rollout(&s->rollouts[i]))
            != 0)
        {
            goto failed;
        }
    }

    for (i = 0; i < s->nswitches; i++) {
        if (json_array_append_new(switches,
                                  gate_state_from_switch(&s->switches[i]))
            != 0)
        {
            goto failed;
        }
    }

    if (json_object_set(root, "rollouts", rollouts) != 0
        || json_object_set(root, "switches", switches) != 0)
    {
        goto failed;
    }

    json_decref(rollouts);
    json_decref(switches);

    return root;

failed:

    json_decref(root);
    json_decref(rollouts);
    json_decref(switches);

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


static const char *
gate_state_to(const json_t *root, gate_state_t *s)
{
    void          *rollouts, *switches;
    json_int_t     version;
    const char    *err;
    const json_t  *format;

    rollouts = NULL;
    switches = NULL;

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

    err = gate_state_items(root, "rollouts", sizeof(gate_state_rollout_t),
                           gate_state_to_rollout, &rollouts, &s->nrollouts);

    s->rollouts = rollouts;

    if (err != NULL) {
        return err;
    }

    err = gate_state_items(root, "switches", sizeof(gate_state_switch_t),
                           gate_state_to_switch, &switches, &s->nswitches);

    s->switches = switches;

    return err;
}

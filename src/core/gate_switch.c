
#include "gate_switch.h"
#include "gate_parse.h"
#include "gate_text.h"

#include <string.h>


/* takes the reference to the value; fails for one that could not be made */
#define gate_switch_add  json_object_set_new


static const char  *gate_switch_on_words[] = {
    "on", "1", "true", "maintenance", NULL
};

static const char  *gate_switch_off_words[] = {
    "off", "0", "false", NULL
};

/* what status pages write into the file while the site is up */

static const char  *gate_switch_file_words[] = {
    "ok", "up", "live", "active", "online", "normal", "open", "enabled",
    "production", "none", "no", NULL
};


static void gate_switch_trim(const unsigned char **s, size_t *len);
static int gate_switch_word(const unsigned char *s, size_t len,
    const char *const *words);
static void gate_switch_set(gate_switch_value_t *v, unsigned on);
static int gate_switch_bool(const json_t *root, const char *key, int dflt);
static int gate_switch_int(const json_t *root, const char *key,
    json_int_t min, json_int_t max, json_int_t *n);
static int gate_switch_time(const json_t *root, const char *key,
    int64_t *sec);
static int gate_switch_until(const json_t *root, int64_t now,
    gate_switch_value_t *v);
static int gate_switch_message(const json_t *root, gate_switch_value_t *v);


int
gate_switch_parse(const unsigned char *s, size_t len, int64_t now,
    gate_switch_value_t *v)
{
    int      rc;
    json_t  *root;

    if (len > GATE_SWITCH_TEXT_MAX) {
        return GATE_SWITCH_BAD;
    }

    gate_switch_trim(&s, &len);

    if (gate_switch_word(s, len, gate_switch_on_words)) {
        gate_switch_set(v, 1);
        return GATE_SWITCH_OK;
    }

    if (gate_switch_word(s, len, gate_switch_off_words)) {
        gate_switch_set(v, 0);
        return GATE_SWITCH_OK;
    }

    if (len == 0 || s[0] != '{'
        || !gate_switch_depth_ok(s, len, GATE_SWITCH_DEPTH_MAX))
    {
        return GATE_SWITCH_BAD;
    }

    root = json_loadb((const char *) s, len, JSON_REJECT_DUPLICATES, NULL);

    if (root == NULL) {
        return GATE_SWITCH_BAD;
    }

    rc = gate_switch_from_json(root, now, v);

    json_decref(root);

    return rc;
}


int
gate_switch_file(const unsigned char *s, size_t len, int64_t now,
    gate_switch_value_t *v)
{
    /* editors of some systems begin a file with a byte order mark */

    if (len >= 3 && memcmp(s, "\xef\xbb\xbf", 3) == 0) {
        s += 3;
        len -= 3;
    }

    gate_switch_trim(&s, &len);

    if (gate_switch_parse(s, len, now, v) == GATE_SWITCH_OK) {
        return GATE_SWITCH_OK;
    }

    if (len != 0 && s[0] == '{') {
        return GATE_SWITCH_BAD;
    }

    gate_switch_set(v, !gate_switch_word(s, len, gate_switch_file_words));

    return GATE_SWITCH_OK;
}


int
gate_switch_active(const gate_switch_value_t *v, int64_t now)
{
    if (!v->on) {
        return 0;
    }

    if (v->from != 0 && now < v->from) {
        return 0;
    }

    if (v->until != 0 && now >= v->until) {
        return 0;
    }

    return 1;
}


uint32_t
gate_switch_retry_after(const gate_switch_value_t *v, int64_t now,
    uint32_t dflt)
{
    uint64_t  left;

    if (v->until != 0) {

        if (now >= v->until) {
            return 1;
        }

        left = (uint64_t) v->until - (uint64_t) now;

        return (left > UINT32_MAX) ? UINT32_MAX : (uint32_t) left;
    }

    return (v->retry_after != 0) ? v->retry_after : dflt;
}


json_t *
gate_switch_to_json(const gate_switch_value_t *v)
{
    json_t  *root;

    root = json_object();

    if (root == NULL) {
        return NULL;
    }

    if (v->message_len > GATE_SWITCH_MESSAGE_MAX
        || gate_switch_add(root, "on", json_boolean(v->on)) != 0
        || gate_switch_add(root, "read_only", json_boolean(v->read_only)) != 0
        || (v->from != 0
            && gate_switch_add(root, "from", json_integer(v->from)) != 0)
        || (v->until != 0
            && gate_switch_add(root, "until", json_integer(v->until)) != 0)
        || (v->retry_after != 0
            && gate_switch_add(root, "retry_after",
                               json_integer(v->retry_after)) != 0)
        || (v->message_len != 0
            && gate_switch_add(root, "message",
                               json_stringn((const char *) v->message,
                                            v->message_len)) != 0))
    {
        json_decref(root);
        return NULL;
    }

    return root;
}


int
gate_switch_from_json(const json_t *root, int64_t now,
    gate_switch_value_t *v)
{
    int                  on, read_only;
    json_int_t           n;
    gate_switch_value_t  value;

    if (!json_is_object(root)) {
        return GATE_SWITCH_BAD;
    }

    on = gate_switch_bool(root, "on", 1);
    read_only = gate_switch_bool(root, "read_only", 0);

    if (on == -1 || read_only == -1) {
        return GATE_SWITCH_BAD;
    }

    gate_switch_set(&value, (unsigned) on);
    value.read_only = (unsigned) read_only & 1;

    n = 0;

    if (gate_switch_int(root, "retry_after", 0, GATE_SWITCH_RETRY_MAX, &n) < 0
        || gate_switch_time(root, "from", &value.from) != 0
        || gate_switch_until(root, now, &value) != 0
        || gate_switch_message(root, &value) != 0)
    {
        return GATE_SWITCH_BAD;
    }

    value.retry_after = (uint32_t) n;

    if (value.from != 0 && value.until != 0 && value.until <= value.from) {
        return GATE_SWITCH_BAD;
    }

    *v = value;

    return GATE_SWITCH_OK;
}


int
gate_switch_depth_ok(const unsigned char *s, size_t len, unsigned max)
{
    int       quoted;
    size_t    i;
    unsigned  depth;

    depth = 0;
    quoted = 0;

    for (i = 0; i < len; i++) {

        if (quoted) {
            if (s[i] == '\\') {
                i++;

            } else if (s[i] == '"') {
                quoted = 0;
            }

            continue;
        }

        switch (s[i]) {

        case '"':
            quoted = 1;
            break;

        case '{':
        case '[':
            if (depth++ == max) {
                return 0;
            }

            break;

        case '}':
        case ']':

            /* the parser refuses the text at this byte at the latest */

            if (depth-- == 0) {
                return 1;
            }

            break;
        }
    }

    return 1;
}


static void
gate_switch_trim(const unsigned char **s, size_t *len)
{
    size_t                n;
    const unsigned char  *p;

    p = *s;
    n = *len;

    while (n != 0 && (p[0] == ' ' || (p[0] >= '\t' && p[0] <= '\r'))) {
        p++;
        n--;
    }

    while (n != 0
           && (p[n - 1] == ' ' || (p[n - 1] >= '\t' && p[n - 1] <= '\r')))
    {
        n--;
    }

    *s = p;
    *len = n;
}


static int
gate_switch_word(const unsigned char *s, size_t len, const char *const *words)
{
    size_t         i;
    unsigned char  c;

    for ( /* void */ ; *words != NULL; words++) {

        if (strlen(*words) != len) {
            continue;
        }

        for (i = 0; i < len; i++) {
            c = s[i];

            if (c >= 'A' && c <= 'Z') {
                c |= 0x20;
            }

            if (c != (unsigned char) (*words)[i]) {
                break;
            }
        }

        if (i == len) {
            return 1;
        }
    }

    return 0;
}


static void
gate_switch_set(gate_switch_value_t *v, unsigned on)
{
    /* the whole value is copied about: no garbage past the message */

    memset(v, 0, sizeof(gate_switch_value_t));

    v->on = on & 1;
}


static int
gate_switch_bool(const json_t *root, const char *key, int dflt)
{
    const json_t  *value;

    value = json_object_get(root, key);

    if (value == NULL) {
        return dflt;
    }

    if (!json_is_boolean(value)) {
        return -1;
    }

    return json_is_true(value);
}


/* 1 with *n set, 0 when there is no such member, -1 when it is bad */

static int
gate_switch_int(const json_t *root, const char *key, json_int_t min,
    json_int_t max, json_int_t *n)
{
    json_int_t     x;
    const json_t  *value;

    value = json_object_get(root, key);

    if (value == NULL) {
        return 0;
    }

    if (!json_is_integer(value)) {
        return -1;
    }

    x = json_integer_value(value);

    if (x < min || x > max) {
        return -1;
    }

    *n = x;

    return 1;
}


static int
gate_switch_time(const json_t *root, const char *key, int64_t *sec)
{
    json_int_t     n;
    const json_t  *value;

    value = json_object_get(root, key);

    if (value == NULL) {
        return 0;
    }

    if (json_is_string(value)) {
        return gate_parse_time((const unsigned char *)
                               json_string_value(value),
                               json_string_length(value), sec);
    }

    if (gate_switch_int(root, key, 0, GATE_PARSE_TIME_MAX, &n) != 1) {
        return -1;
    }

    *sec = (int64_t) n;

    return 0;
}


static int
gate_switch_until(const json_t *root, int64_t now, gate_switch_value_t *v)
{
    json_int_t  ttl;

    if (json_object_get(root, "ttl") == NULL) {
        return gate_switch_time(root, "until", &v->until);
    }

    /* two ends that disagree leave nothing to choose by */

    if (json_object_get(root, "until") != NULL
        || gate_switch_int(root, "ttl", 1, GATE_SWITCH_TTL_MAX, &ttl) != 1
        || now < 0 || now > GATE_PARSE_TIME_MAX - ttl)
    {
        return -1;
    }

    v->until = now + (int64_t) ttl;

    return 0;
}


static int
gate_switch_message(const json_t *root, gate_switch_value_t *v)
{
    size_t                len;
    const json_t         *value;
    const unsigned char  *s;

    value = json_object_get(root, "message");

    if (value == NULL) {
        return 0;
    }

    if (!json_is_string(value)) {
        return -1;
    }

    s = (const unsigned char *) json_string_value(value);
    len = json_string_length(value);

    if (len > GATE_SWITCH_MESSAGE_MAX || !gate_text_clean(s, len)) {
        return -1;
    }

    memcpy(v->message, s, len);
    v->message_len = (uint16_t) len;

    return 0;
}

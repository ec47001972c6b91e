/*
 * Copyright (C) nginx-gate authors
 */

/*
 * Verifies cursors as nginx does: one JSON string per line in, one line
 * "status reason" out.
 */

#include "core/gate_base64.c"
#include "core/gate_cursor.c"
#include "core/gate_cursor_detached.c"
#include "core/gate_cursor_envelope.c"
#include "core/gate_cursor_jws.c"
#include "core/gate_cursor_key.c"
#include "core/gate_float.c"
#include "core/gate_hmac.c"
#include "core/gate_json.c"
#include "core/gate_json_print.c"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>


#define CHECK_FILE  65536


typedef struct {
    gate_cursor_rules_t       rules;
    gate_cursor_key_t         keys[GATE_CURSOR_KEYS];
    const gate_cursor_key_t  *key[GATE_CURSOR_KEYS];
    const char               *source[GATE_CURSOR_KEYS];
    int                       file[GATE_CURSOR_KEYS];
    unsigned                  nkeys;
    int                       alg;
    int                       detail;
    int                       has_now;
    double                    now;
} check_t;

/* What lines of any length need; grows. */

typedef struct {
    gate_json_node_t  *node;
    unsigned char     *text;
    size_t             size;
} check_room_t;


static int check_options(check_t *ck, int argc, char **argv);
static int check_option(check_t *ck, int name, char *value);
static int check_name(const char *value, const char *const *names, int n);
static int check_number(const char *value, unsigned long max,
    unsigned long *v);
static int check_limit(const char *value, unsigned max, unsigned *v);
static int check_seconds(const char *value, int64_t *v);
static int check_keys(check_t *ck);
static int check_secret(check_t *ck, unsigned i);
static int check_key(check_t *ck, unsigned i);
static int check_lines(check_t *ck);
static int check_line(check_t *ck, check_room_t *room, const char *line,
    size_t len, gate_cursor_scratch_t *scratch);
static int check_grow(check_room_t *room, size_t len);
static size_t check_bytes(unsigned char *s, size_t len);


enum {
    CHECK_SECRET = 1,
    CHECK_KEY,
    CHECK_NOW,
    CHECK_TTL,
    CHECK_MODE,
    CHECK_FORMAT,
    CHECK_ALG,
    CHECK_SKEW,
    CHECK_CLAIM,
    CHECK_LENGTH,
    CHECK_DEPTH,
    CHECK_MEMBERS,
    CHECK_DIGITS,
    CHECK_DETAIL
};


static const struct option  check_long[] = {
    { "secret",      required_argument, NULL, CHECK_SECRET },
    { "key",         required_argument, NULL, CHECK_KEY },
    { "now",         required_argument, NULL, CHECK_NOW },
    { "ttl",         required_argument, NULL, CHECK_TTL },
    { "mode",        required_argument, NULL, CHECK_MODE },
    { "format",      required_argument, NULL, CHECK_FORMAT },
    { "alg",         required_argument, NULL, CHECK_ALG },
    { "skew",        required_argument, NULL, CHECK_SKEW },
    { "claim",       required_argument, NULL, CHECK_CLAIM },
    { "max-length",  required_argument, NULL, CHECK_LENGTH },
    { "max-depth",   required_argument, NULL, CHECK_DEPTH },
    { "max-members", required_argument, NULL, CHECK_MEMBERS },
    { "max-digits",  required_argument, NULL, CHECK_DIGITS },
    { "detail",      no_argument,       NULL, CHECK_DETAIL },
    { NULL,          0,                 NULL, 0 }
};


static const char *const  check_modes[] = { "strict", "compat" };


static const char  check_usage[] =
    "usage: cursor_check --secret S | --key FILE [..] --now T [--ttl N]\n"
    "                    [--mode strict|compat]\n"
    "                    [--format envelope|detached|jws]\n"
    "                    [--alg HS256|HS384|HS512|ES256|EdDSA] [--skew N]\n"
    "                    [--claim NAME ..] [--max-length N] [--max-depth N]\n"
    "                    [--max-members N] [--max-digits N] [--detail]\n"
    "                    < cursors\n"
    "\n"
    "Each line of the input is a JSON string, a cursor: its characters up to\n"
    "\\u00ff are bytes, others the bytes of their UTF-8.  For each there is\n"
    "one line of output,\n"
    "\n"
    "    status reason\n"
    "\n"
    "200 or 400, and valid, expired, bad_signature, malformed, future or, of\n"
    "an empty one, absent; with --detail a tab and what a client is told.\n"
    "\n"
    "    --secret S      a secret, its bytes as they are; up to 8 of these\n"
    "    --key FILE      and of files with a key (raw or PEM), newest first\n"
    "    --now T         the time, in seconds since 1970, with or without a\n"
    "                    fraction\n"
    "    --ttl N         how old a cursor may be, in seconds (600; if given,\n"
    "                    an \"exp\" of the formats detached and jws does not\n"
    "                    replace it)\n"
    "    --skew N        how far ahead its clock may be, in seconds (60)\n"
    "    --claim NAME    a member that strict envelopes may have, too\n"
    "    --max-..        lower than 4096 characters, 32 containers in each\n"
    "                    other, 64 members of an object, 4300 digits\n";


int
main(int argc, char **argv)
{
    int       rc;
    unsigned  i;
    check_t  *ck;

    ck = calloc(1, sizeof(check_t));

    if (ck == NULL) {
        fputs("cursor_check: memory is short\n", stderr);
        return 2;
    }

    rc = 2;
    ck->alg = -1;
    gate_cursor_rules_init(&ck->rules);

    if (check_options(ck, argc, argv) != 0) {
        fputs(check_usage, stderr);

    } else if (check_keys(ck) == 0) {
        rc = check_lines(ck);
    }

    for (i = 0; i < GATE_CURSOR_KEYS; i++) {
        gate_cursor_key_wipe(&ck->keys[i]);
    }

    free(ck);

    if (fflush(stdout) != 0) {
        fprintf(stderr, "cursor_check: %s\n", strerror(errno));
        rc = 2;
    }

    return rc;
}


static int
check_options(check_t *ck, int argc, char **argv)
{
    int  c;

    while ((c = getopt_long(argc, argv, "", check_long, NULL)) != -1) {

        if (c == '?') {
            return -1;
        }

        if (check_option(ck, c, optarg) != 0) {
            fprintf(stderr, "cursor_check: bad value of %s\n",
                    argv[optind - 1]);
            return -1;
        }
    }

    if (optind < argc) {
        fprintf(stderr, "cursor_check: too many words\n");
        return -1;
    }

    if (ck->nkeys == 0 || !ck->has_now) {
        fprintf(stderr, "cursor_check: there must be %s\n",
                ck->nkeys == 0 ? "a --secret or a --key" : "a --now");
        return -1;
    }

    return 0;
}


static int
check_option(check_t *ck, int name, char *value)
{
    int                   n;
    char                 *end;
    unsigned long         v;
    gate_cursor_rules_t  *rules;

    rules = &ck->rules;

    switch (name) {

    case CHECK_SECRET:
    case CHECK_KEY:
        if (ck->nkeys == GATE_CURSOR_KEYS) {
            return -1;
        }

        ck->file[ck->nkeys] = (name == CHECK_KEY);
        ck->source[ck->nkeys++] = value;
        return 0;

    case CHECK_NOW:
        ck->now = strtod(value, &end);
        ck->has_now = 1;
        return (*end == '\0' && end != value && isfinite(ck->now)) ? 0 : -1;

    case CHECK_TTL:
        rules->ttl_given = 1;
        return check_seconds(value, &rules->ttl);

    case CHECK_SKEW:
        return check_seconds(value, &rules->skew);

    case CHECK_MODE:
        n = check_name(value, check_modes, 2);
        rules->mode = (gate_cursor_mode_e) n;
        return n == -1 ? -1 : 0;

    case CHECK_FORMAT:
        n = check_name(value, gate_cursor_format_name, GATE_CURSOR_FORMATS);
        rules->format = (gate_cursor_format_e) n;
        return n == -1 ? -1 : 0;

    case CHECK_ALG:
        ck->alg = check_name(value, gate_cursor_alg_name, GATE_CURSOR_ALGS);
        return ck->alg == -1 ? -1 : 0;

    case CHECK_CLAIM:
        if (rules->nclaims == GATE_CURSOR_CLAIMS) {
            return -1;
        }

        rules->claim[rules->nclaims] = value;
        rules->claim_len[rules->nclaims++] = strlen(value);
        return 0;

    case CHECK_LENGTH:
        if (check_number(value, GATE_CURSOR_LENGTH, &v) != 0 || v == 0) {
            return -1;
        }

        rules->length = v;
        return 0;

    case CHECK_DEPTH:
        return check_limit(value, GATE_JSON_DEPTH, &rules->json.depth);

    case CHECK_MEMBERS:
        return check_limit(value, GATE_JSON_MEMBERS, &rules->json.members);

    case CHECK_DIGITS:
        return check_limit(value, GATE_JSON_DIGITS, &rules->json.digits);

    default:
        ck->detail = 1;
        return 0;
    }
}


static int
check_name(const char *value, const char *const *names, int n)
{
    int  i;

    for (i = 0; i < n; i++) {
        if (strcmp(value, names[i]) == 0) {
            return i;
        }
    }

    return -1;
}


static int
check_number(const char *value, unsigned long max, unsigned long *v)
{
    char  *end;

    if (value[0] < '0' || value[0] > '9') {
        return -1;
    }

    errno = 0;
    *v = strtoul(value, &end, 10);

    return (errno == 0 && *end == '\0' && *v <= max) ? 0 : -1;
}


static int
check_limit(const char *value, unsigned max, unsigned *v)
{
    unsigned long  n;

    if (check_number(value, max, &n) != 0 || n == 0) {
        return -1;
    }

    *v = (unsigned) n;

    return 0;
}


static int
check_seconds(const char *value, int64_t *v)
{
    unsigned long  n;

    /* what a double holds exactly */

    if (check_number(value, 1UL << 53, &n) != 0) {
        return -1;
    }

    *v = (int64_t) n;

    return 0;
}


static int
check_keys(check_t *ck)
{
    unsigned  i;

    for (i = 0; i < ck->nkeys; i++) {
        if (check_key(ck, i) != 0) {
            return -1;
        }

        ck->key[i] = &ck->keys[i];
    }

    return 0;
}


/* What a file could have at its end, a secret means. */

static int
check_secret(check_t *ck, unsigned i)
{
    int             rc;
    size_t          n;
    const char     *why;
    unsigned char  *text;

    n = strlen(ck->source[i]);
    text = malloc(n + 1);

    if (text == NULL) {
        return -1;
    }

    memcpy(text, ck->source[i], n);

    if (n > 0 && text[n - 1] == '\n') {
        text[n++] = '\n';
    }

    rc = gate_cursor_key_init(&ck->keys[i], ck->alg, GATE_CURSOR_KEY_RAW,
                              text, n, &why);

    if (rc != 0) {
        fprintf(stderr, "cursor_check: secret %u: %s\n", i + 1, why);
    }

    free(text);

    return rc;
}


static int
check_key(check_t *ck, unsigned i)
{
    int             rc;
    FILE           *f;
    size_t          n;
    const char     *why;
    unsigned char  *text;

    if (!ck->file[i]) {
        return check_secret(ck, i);
    }

    rc = -1;
    f = fopen(ck->source[i], "rb");
    text = malloc(CHECK_FILE + 1);

    if (f == NULL || text == NULL) {
        fprintf(stderr, "cursor_check: %s: %s\n", ck->source[i],
                strerror(errno));

    } else {
        n = fread(text, 1, CHECK_FILE + 1, f);

        rc = gate_cursor_key_init(&ck->keys[i], ck->alg,
                                  GATE_CURSOR_KEY_AUTO, text, n, &why);

        if (rc != 0) {
            fprintf(stderr, "cursor_check: %s: %s\n", ck->source[i], why);
        }
    }

    if (f != NULL) {
        fclose(f);
    }

    free(text);

    return rc;
}


static int
check_lines(check_t *ck)
{
    int                     rc;
    char                   *line;
    size_t                  size;
    ssize_t                 len;
    check_room_t            room;
    unsigned long           n;
    gate_cursor_scratch_t  *scratch;

    rc = 0;
    n = 0;
    line = NULL;
    size = 0;
    memset(&room, 0, sizeof(room));
    scratch = malloc(sizeof(gate_cursor_scratch_t));

    while (rc == 0 && scratch != NULL
           && (len = getline(&line, &size, stdin)) != -1)
    {
        n++;
        rc = check_line(ck, &room, line, (size_t) len, scratch);

        if (rc != 0) {
            fprintf(stderr, "cursor_check: line %lu is no JSON string\n", n);
        }
    }

    if (scratch == NULL || ferror(stdin)) {
        fputs("cursor_check: cannot read the cursors\n", stderr);
        rc = 2;
    }

    free(scratch);
    free(line);
    free(room.node);
    free(room.text);

    return rc ? 2 : 0;
}


static int
check_line(check_t *ck, check_room_t *room, const char *line, size_t len,
    gate_cursor_scratch_t *scratch)
{
    int            good;
    size_t         n;
    gate_json_t    j;
    gate_cursor_t  c;

    if (check_grow(room, len) != 0
        || gate_json_parse(&j, (const unsigned char *) line, len, room->node,
                           &ck->rules.json) != 0
        || j.node[0].type != GATE_JSON_STRING)
    {
        return -1;
    }

    n = check_bytes(room->text, gate_json_string(&j, 0, room->text));

    gate_cursor_verify(&c, &ck->rules, ck->key, ck->nkeys, room->text, n,
                       ck->now, scratch);

    good = c.status == GATE_CURSOR_VALID || c.status == GATE_CURSOR_ABSENT;

    fputs(good ? "200 " : "400 ", stdout);
    fputs(gate_cursor_status_name[c.status], stdout);

    if (ck->detail) {
        putchar('\t');
        fwrite(c.text, 1, c.text_len, stdout);
    }

    putchar('\n');

    return 0;
}


static int
check_grow(check_room_t *room, size_t len)
{
    size_t  size;

    if (len < room->size) {
        return 0;
    }

    free(room->node);
    free(room->text);

    size = 2 * len + 4096;

    room->node = malloc(gate_json_nodes(size) * sizeof(gate_json_node_t));
    room->text = malloc(size);
    room->size = size;

    if (room->node == NULL || room->text == NULL) {
        room->size = 0;
        return -1;
    }

    return 0;
}


/* U+0080 .. U+00FF, two bytes of UTF-8, are one byte each. */

static size_t
check_bytes(unsigned char *s, size_t len)
{
    size_t  i, n;

    n = 0;

    for (i = 0; i < len; i++) {

        if ((s[i] & 0xfe) == 0xc2 && i + 1 < len) {
            s[n++] = (unsigned char) (s[i] << 6 | (s[i + 1] & 0x3f));
            i++;
            continue;
        }

        s[n++] = s[i];
    }

    return n;
}

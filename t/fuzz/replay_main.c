/*
 * Copyright (C) nginx-gate authors
 *
 * Runs a fuzz driver over its corpus without libFuzzer and prints TAP: what
 * was found once stays found, with any compiler.  The corpus is the files
 * given, or those in the directory CORPUS.  The empty input comes first
 * always.
 */

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static int
replay_file(const char *name)
{
    FILE     *f;
    size_t    size, room, n;
    uint8_t  *data, *p;

    f = fopen(name, "rb");
    if (f == NULL) {
        return -1;
    }

    size = 0;
    room = 4096;
    data = malloc(room);

    while (data != NULL) {
        n = fread(data + size, 1, room - size, f);
        if (n == 0) {
            break;
        }

        size += n;

        if (size == room) {
            room *= 2;

            p = realloc(data, room);
            if (p == NULL) {
                free(data);
            }

            data = p;
        }
    }

    if (data == NULL || ferror(f)) {
        free(data);
        fclose(f);
        return -1;
    }

    fclose(f);

    /* an exact copy, so that ASan sees a read past the end */

    p = malloc(size ? size : 1);
    if (p == NULL) {
        free(data);
        return -1;
    }

    memcpy(p, data, size);
    free(data);

    (void) LLVMFuzzerTestOneInput(p, size);

    free(p);

    return 0;
}


static void
replay_report(int *n, const char *name)
{
    const char  *base;

    /* before the run: a crash then shows the input it happened on */

    printf("# %s\n", name);
    fflush(stdout);

    base = strrchr(name, '/');
    base = (base == NULL) ? name : base + 1;

    (*n)++;

    printf("%s %d - %s\n", replay_file(name) == 0 ? "ok" : "not ok", *n, base);
    fflush(stdout);
}


int
main(int argc, char **argv)
{
    int              i, n, count;
    char             path[4096];
    struct dirent  **names;

    n = 1;

    (void) LLVMFuzzerTestOneInput((const uint8_t *) "", 0);
    printf("ok 1 - the empty input\n");

    for (i = 1; i < argc; i++) {
        replay_report(&n, argv[i]);
    }

#ifdef CORPUS

    if (argc == 1) {

        count = scandir(CORPUS, &names, NULL, alphasort);

        for (i = 0; i < count; i++) {
            if (names[i]->d_name[0] != '.') {
                snprintf(path, sizeof(path), "%s/%s", CORPUS,
                         names[i]->d_name);
                replay_report(&n, path);
            }

            free(names[i]);
        }

        if (count >= 0) {
            free(names);
        }
    }

#else
    (void) path;
    (void) names;
    (void) count;
#endif

    printf("1..%d\n", n);

    return 0;
}


/*
 * Copyright (C) nginx-gate authors
 */


#include "gate_ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <sys/stat.h>


#define GATE_CTL_KEY_FILE  65536       /* bytes of a file, at most */


static int gate_ctl_key_read(const char *file, unsigned char *buf,
    size_t *len);
static int gate_ctl_read(int fd, unsigned char *buf, size_t size,
    size_t *len);


int
gate_ctl_key_load(gate_cursor_key_t *key, const gate_ctl_key_t *k)
{
    int            rc;
    size_t         len;
    const char    *why;

    static unsigned char  buf[GATE_CTL_KEY_FILE];

    len = 0;

    if (gate_ctl_key_read(k->file, buf, &len) != 0) {
        OPENSSL_cleanse(buf, sizeof(buf));
        return -1;
    }

    rc = gate_cursor_key_init(key, k->alg, k->form, buf, len, &why);

    OPENSSL_cleanse(buf, sizeof(buf));

    if (rc != 0) {
        gate_ctl_say("key \"%s\": %s", k->file, why);
        return -1;
    }

    if (k->id) {
        key->id_len = strlen(k->id);
        memcpy(key->id, k->id, key->id_len);
    }

    if (key->weak == GATE_CURSOR_KEY_SHORT) {
        gate_ctl_say("warning: key \"%s\" is shorter than 32 bytes",
                     k->file);

    } else if (key->weak == GATE_CURSOR_KEY_KNOWN) {
        gate_ctl_say("warning: key \"%s\" is a default that everybody knows",
                     k->file);
    }

    return 0;
}


/* By the rules of the module, but that any group may read it that is ours. */

static int
gate_ctl_key_read(const char *file, unsigned char *buf, size_t *len)
{
    int          fd;
    struct stat  st;
    const char  *why;

    /* a FIFO must not hang us */

    fd = open(file, O_RDONLY|O_NONBLOCK|O_CLOEXEC);

    if (fd < 0) {
        gate_ctl_say("key \"%s\": %s", file, strerror(errno));
        return -1;
    }

    why = NULL;

    if (fstat(fd, &st) != 0) {
        why = strerror(errno);

    } else if (!S_ISREG(st.st_mode)) {
        why = "is not a regular file";

    } else if (st.st_mode & 0007) {
        why = "can be read or written by everybody, use \"chmod 600\"";

    } else if (st.st_size == 0) {
        why = "is empty";

    } else if (st.st_size > GATE_CTL_KEY_FILE) {
        why = "is too long";

    } else if (gate_ctl_read(fd, buf, GATE_CTL_KEY_FILE, len) != 0) {
        why = "could not be read as a whole";
    }

    close(fd);

    if (why) {
        gate_ctl_say("key \"%s\" %s", file, why);
        return -1;
    }

    return 0;
}


static int
gate_ctl_read(int fd, unsigned char *buf, size_t size, size_t *len)
{
    ssize_t        n;
    unsigned char  more;

    *len = 0;

    for ( ;; ) {

        n = (*len < size) ? read(fd, buf + *len, size - *len)
                          : read(fd, &more, 1);

        if (n == 0) {
            return 0;
        }

        if (n < 0 && errno == EINTR) {
            continue;
        }

        if (n < 0 || *len == size) {
            return -1;
        }

        *len += (size_t) n;
    }
}


int
gate_ctl_stdin(unsigned char *buf, size_t size, size_t *len)
{
    if (gate_ctl_read(STDIN_FILENO, buf, size, len) != 0) {
        return -1;
    }

    if (*len && buf[*len - 1] == '\n') {
        (*len)--;

        if (*len && buf[*len - 1] == '\r') {
            (*len)--;
        }
    }

    return 0;
}

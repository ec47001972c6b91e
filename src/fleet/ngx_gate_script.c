
/*
 * Copyright (C) nginx-gate authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_sha1.h>

#include "ngx_gate_script.h"

/* made of the *.lua here, by scripts.sh as it is configured */
#include <ngx_gate_scripts.inc>


#define ngx_gate_script(name)                                                 \
    { #name, ngx_gate_script_ ## name, sizeof(ngx_gate_script_ ## name) - 1,  \
      "" }


/* in the order of ngx_gate_script_e */

ngx_gate_script_t  ngx_gate_scripts[NGX_GATE_SCRIPTS] = {
    ngx_gate_script(observe),
    ngx_gate_script(restore),
    ngx_gate_script(put),
    ngx_gate_script(rollout),
    ngx_gate_script(evidence),
    ngx_gate_script(beat),
    ngx_gate_script(limit),
    ngx_gate_script(override),
    ngx_gate_script(take)
};


void
ngx_gate_scripts_init(void)
{
    u_char              digest[20], *last;
    ngx_sha1_t          sha1;
    ngx_uint_t          i;
    ngx_gate_script_t  *script;

    for (i = 0; i < NGX_GATE_SCRIPTS; i++) {
        script = &ngx_gate_scripts[i];

        /* nginx's own: OpenSSL may be configured to refuse SHA1 */

        ngx_sha1_init(&sha1);
        ngx_sha1_update(&sha1, script->text, script->len);
        ngx_sha1_final(digest, &sha1);

        last = ngx_hex_dump((u_char *) script->sha1, digest, sizeof(digest));
        *last = '\0';
    }
}

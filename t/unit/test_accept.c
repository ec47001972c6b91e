
#include "../../src/core/gate_accept.c"

#include "tap.h"


static const struct {
    int          html;
    const char  *v;
} tests[] = {
    { 0, "" }, { 0, "*/*" }, { 1, "text/html" }, { 0, "application/json" },
    { 1, "text/html,application/xhtml+xml,application/xml;q=0.9,"
         "image/avif,image/webp,*/*;q=0.8" },
    { 0, "application/json, text/plain, */*" },
    { 0, "text/html, application/json" },
    { 1, "text/html, application/json;q=0.9" },
    { 0, "text/html;q=0.5, application/json" },
    { 1, "text/html;q=0.501, application/json;q=0.5" },
    { 1, "text/*" }, { 0, "application/*" }, { 1, "text/*, */*;q=0.1" },
    { 0, "text/*;q=0.1, */*" },
    { 0, "text/html;q=0" }, { 0, "text/html;q=0, */*" },
    { 1, "application/json;q=0, */*;q=0.001" },
    { 0, "text/html;q=0, text/*" },
    { 1, "text/html, text/*;q=0.1, application/json;q=0.5" },
    { 1, "TEXT/HTML;Q=1.000" }, { 1, "text/html ; q=0.5" },
    { 1, "text/html;charset=utf-8" }, { 1, "text/html;charset=\"utf-8\"" },
    { 0, "text/html;level=1" }, { 1, "text/html;level=1, text/html;q=0.2" },
    { 1, "application/json;version=2, text/html;q=0.1" },
    { 1, ", ,text/html,," }, { 1, "\ttext/html\t" },
    { 1, "text/html;q=1;ext;foo=\"a,b\"" }, { 1, "text/html;;q=1" },
    { 1, "text/html;" },
    { 0, "text/html;q=1.001" }, { 0, "text/html;q=2" },
    { 0, "text/html;q=0.0001" }, { 0, "text/html;q=" },
    { 0, "text/html;q=.5" }, { 0, "text/html;q=-1" },
    { 0, "text/html;q=1e0" }, { 0, "text/html;q=\"1\"" },
    { 0, "text/html;ext" }, { 0, "text/html;a=" }, { 0, "text/html;a=\"x" },
    { 0, "text/html;a=\"x\\" }, { 0, "text/html;a=\"\x01\"" },
    { 0, "*/html" }, { 0, "*" }, { 0, "text" }, { 0, "text/" },
    { 0, "/html" }, { 0, "text/html text/html" }, { 0, "text / html" },
    { 0, "text/html, @" }, { 0, "text/html\n" }, { 0, "text/html;q=1 x" },
    { 0, "text/htmlx" }, { 0, "text/html, image/gif, *; q=.2, */*; q=.2" },
    { 1, "text/html;q=0.3, application/json;q=0.2, */*;q=1" },
    { 1, "text/html;q=0., text/html" }, { 0, "text/html;q=0." },
};


/* application/problem+json, where it is named and no less wanted than JSON */

static const struct {
    int          problem;
    const char  *v;
} problems[] = {
    { 0, "" }, { 0, "*/*" }, { 0, "application/*" }, { 0, "application/json" },
    { 1, "application/problem+json" }, { 1, "Application/Problem+JSON" },
    { 1, "application/problem+json, application/json" },
    { 1, "application/json, application/problem+json" },
    { 0, "application/json, application/problem+json;q=0.999" },
    { 1, "application/json;q=0.5, application/problem+json;q=0.5" },
    { 1, "text/html, application/problem+json;q=0.1, */*;q=0.05" },
    { 0, "application/problem+json;q=0.1, */*" },
    { 0, "application/problem+json;q=0" },
    { 0, "application/problem+json;q=0, */*;q=0" },
    { 0, "application/problem+xml" }, { 0, "application/problem" },
    { 0, "application/problem+jsonx" }, { 0, "text/problem+json" },
    { 0, "application/problem+json;version=2" },
    { 1, "application/problem+json;charset=utf-8" },
    { 0, "application/problem+json, @" },
    { 0, "application/problem+json;q=x" },
};


int
main(void)
{
    size_t          i, len;
    unsigned char  *p;

    for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        len = strlen(tests[i].v);
        p = tap_copy(tests[i].v, len);

        tap_ok(gate_accept_html(p, len) == tests[i].html, "%zu: %d", i,
               tests[i].html);

        free(p);
    }

    for (i = 0; i < sizeof(problems) / sizeof(problems[0]); i++) {
        len = strlen(problems[i].v);
        p = tap_copy(problems[i].v, len);

        tap_ok(gate_accept_problem(p, len) == problems[i].problem,
               "%zu: problem %d", i, problems[i].problem);

        free(p);
    }

    tap_ok(gate_accept_problem(NULL, 0) == 0, "no field, no problem");
    tap_ok(gate_accept_html(NULL, 0) == 0, "no field");
    tap_ok(gate_accept_html((unsigned char *) "text/html\0", 10) == 0,
           "a NUL");

    return tap_done();
}

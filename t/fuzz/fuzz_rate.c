/*
 * The first byte chooses: a rate, words, or decisions.  Properties: what is
 * accepted is in range, and prints as something that reads the same; what is
 * refused leaves its output alone and says why; words mean the same in any
 * order; decisions stay in their ranges whatever the times, costs and rates
 * are, and who waits as long as is said is admitted.
 */

#include "../../src/core/gate_parse.c"
#include "../../src/core/gate_rate.c"


#define fuzz_check(expr)  do { if (!(expr)) { __builtin_trap(); } } while (0)

#define FUZZ_LATE  (INT64_C(6307200000) * 1000000000)   /* two centuries */


int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);


static void
fuzz_policy(const gate_policy_t *p)
{
    fuzz_check(p->count >= 1 && p->count <= GATE_RATE_COUNT_MAX);
    fuzz_check(p->period >= 1000000000 && p->period <= GATE_GCRA_MAX);
    fuzz_check(p->rate.interval >= GATE_RATE_INTERVAL_MIN);
    fuzz_check(p->rate.capacity >= 1
               && p->rate.capacity <= GATE_RATE_COUNT_MAX);
    fuzz_check(p->rate.interval <= GATE_GCRA_MAX / p->rate.capacity);
    fuzz_check(p->rate.interval == p->period / (int64_t) p->count);
}


static void
fuzz_parse(const unsigned char *s, size_t len)
{
    char         buf[GATE_RATE_LEN];
    size_t       i, n;
    int64_t      period, again;
    uint64_t     count, back;
    const char  *why;

    count = 4711;
    period = 4711;
    why = NULL;

    if (gate_rate_parse(s, len, &count, &period, &why) != 0) {
        fuzz_check(count == 4711 && period == 4711 && why && why[0]);
        return;
    }

    for (i = 0; i < len; i++) {
        fuzz_check(strchr("0123456789r/smhd", s[i]) != NULL && s[i]);
    }

    fuzz_check(why == NULL && count >= 1 && count <= GATE_RATE_COUNT_MAX
               && period >= 1000000000 && period <= GATE_GCRA_MAX);

    n = gate_rate_format(count, period, buf);

    fuzz_check(n < GATE_RATE_LEN && buf[n] == '\0');
    fuzz_check(gate_rate_parse((unsigned char *) buf, n, &back, &again, NULL)
               == 0 && back == count && again == period);
}


static void
fuzz_words(const unsigned char *s, size_t len)
{
    int             rc;
    char            buf[GATE_RATE_LEN], text[GATE_RATE_LEN + 64];
    size_t          n;
    const char     *why;
    gate_policy_t   base, p, q, old;

    (void) gate_rate_policy(60, INT64_C(60000000000), 9, &base, NULL);

    memset(&p, 0x5a, sizeof(p));
    old = p;
    why = NULL;

    rc = gate_rate_words(s, len, &base, &p, &why);

    if (rc != 0) {
        fuzz_check(rc == -1 && memcmp(&p, &old, sizeof(p)) == 0 && why);
        return;
    }

    fuzz_policy(&p);

    /* said again, the other way round */

    (void) gate_rate_format(p.count, p.period, buf);
    n = (size_t) snprintf(text, sizeof(text), "burst=%lld,rate=%s",
                          (long long) p.rate.capacity - 1, buf);

    fuzz_check(gate_rate_words((unsigned char *) text, n, NULL, &q, NULL) == 0
               && q.count == p.count && q.period == p.period
               && q.rate.interval == p.rate.interval
               && q.rate.capacity == p.rate.capacity);
}


static int64_t
fuzz_int64(const unsigned char **p, const unsigned char *end)
{
    size_t    n;
    uint64_t  v;

    v = 0;
    n = (size_t) (end - *p) < 8 ? (size_t) (end - *p) : 8;
    memcpy(&v, *p, n);
    *p += n;

    return (int64_t) v;
}


static void
fuzz_rates(gate_rate_t *rate, const unsigned char **p,
    const unsigned char *end)
{
    rate->interval = 1 + (fuzz_int64(p, end) & INT64_MAX) % GATE_GCRA_MAX;
    rate->capacity = 1 + (fuzz_int64(p, end) & INT64_MAX)
                         % (GATE_GCRA_MAX / rate->interval);
}


static void
fuzz_decide(const unsigned char *p, const unsigned char *end)
{
    int64_t      tat, now, cost, old;
    gate_gcra_t  v, next;
    gate_rate_t  rate, other;

    fuzz_rates(&rate, &p, end);
    fuzz_rates(&other, &p, end);
    tat = fuzz_int64(&p, end);

    while (p < end) {
        now = fuzz_int64(&p, end) % FUZZ_LATE;
        cost = fuzz_int64(&p, end) & INT64_MAX;
        cost = (cost & 1) ? cost >> 1 : (cost >> 1) % (rate.capacity + 1);
        old = tat;

        fuzz_check(gate_gcra_take(&rate, &tat, now, cost, &v) == v.limited);
        fuzz_check(v.remaining >= 0 && v.remaining <= rate.capacity);
        fuzz_check(v.reset_after >= 0);
        fuzz_check(!v.limited || tat == old);
        fuzz_check((v.retry_after == -1)
                   == (!v.limited || cost > rate.capacity));
        fuzz_check(v.retry_after == -1 || v.retry_after > 0);

        if (!v.limited) {
            fuzz_check(gate_gcra_debt(&rate, tat, now) == v.reset_after);
            fuzz_check(v.reset_after <= rate.interval * rate.capacity);

        } else if (v.retry_after != -1
                   && v.reset_after < GATE_GCRA_CLAMP * rate.interval
                                      * rate.capacity)
        {
            old = tat;
            fuzz_check(gate_gcra_take(&rate, &old, now + v.retry_after - 1,
                                      cost, &next) == 1);
            fuzz_check(gate_gcra_take(&rate, &old, now + v.retry_after,
                                      cost, &next) == 0);
        }

        if (cost % 3 == 0) {
            gate_gcra_refund(&rate, &tat, now, cost);
        }

        if (cost % 5 == 0) {
            tat = gate_gcra_rescale(&rate, &other, tat, now);
            rate = other;
            fuzz_check(gate_gcra_debt(&rate, tat, now)
                       <= rate.interval * rate.capacity);
        }
    }
}


int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    if (size == 0) {
        return 0;
    }

    switch (data[0] % 3) {

    case 0:
        fuzz_parse(data + 1, size - 1);
        break;

    case 1:
        fuzz_words(data + 1, size - 1);
        break;

    default:
        fuzz_decide(data + 1, data + size);
    }

    return 0;
}

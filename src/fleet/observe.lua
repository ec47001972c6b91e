-- include: common hash
--
-- Reads all control keys, tells operators' changes from losses and gives the
-- former a revision.  A look at an unchanged world writes nothing.
--
-- KEYS  ledger, events, S strings, R hashes
-- ARGV  node, inc known ('' none), S, R, largest value,
--       S known revisions, R known revisions
-- -> { now, inc, rev, evicted, { { status, rev, value, pttl } ... },
--      { { status, rev, { field, value, ... }, text } ... } }
--
-- status  ok, none (absent: obeyed), want (forgotten: restore it), evicted
--         (the same), type (value, text: the type), big (value: its length),
--         bad (text: the field that makes no sense)
-- pttl    in ms, or -1
-- inc     '' while Redis lets us write nothing and has none yet
--

local KEY_STRINGS, ARG_REVS = 2, 5

local strings, hashes = number(ARGV[3], 4096), number(ARGV[4], 4096)
local max = number(ARGV[5])

local wrong = wrong_type(KEYS[1], 'hash', KEYS[2], 'stream')

if wrong then
    return wrong
end

local names, revs, top = {}, {}, 0

for i = 1, strings + hashes do
    names[i] = (i <= strings and 'k:' or 'c:') .. KEYS[KEY_STRINGS + i]
    revs[i] = number(ARGV[ARG_REVS + i]) or 0
    top = math.max(top, revs[i])
end

local ledger = ledger_open(KEYS[1], KEYS[2], ARGV[1], ARGV[2], top, names,
                           run_id())
local inc, rev_before, born = ledger.inc, ledger.rev, ledger.changed
local texts, tables, settled = {}, {}, {}

for i = 1, strings do
    local seen = string_settle(ledger, KEYS[KEY_STRINGS + i], revs[i], max)
    local there = seen.value and seen.status ~= 'want'

    texts[i] = { seen.status, seen.rev, there and seen.value or '',
                 there and seen.ttl or -1 }
    settled[#settled + 1] = { texts[i], seen.old }
end

for i = 1, hashes do
    local seen = hash_settle(ledger, KEYS[KEY_STRINGS + strings + i],
                             revs[strings + i])

    tables[i] = { seen.status, seen.rev,
                  hash_fields(seen.status == 'ok' and seen.hash),
                  seen.value or '' }
    settled[#settled + 1] = { tables[i], seen.old }
end

evicted_now(ledger)

local err = commit(ledger)

if err then

    -- Redis that takes no more data can still be read: what is there counts,
    -- under the revisions that it has

    if not (err.err:find('OOM', 1, true) or err.err:find('MISCONF', 1, true)
            or err.err:find('NOREPLICAS', 1, true))
    then
        return err
    end

    for _, item in ipairs(settled) do
        item[1][2] = item[2]
    end

    ledger.rev = rev_before
    inc = born and '' or inc
end

return { now, inc, ledger.rev, ledger.evicted, texts, tables }

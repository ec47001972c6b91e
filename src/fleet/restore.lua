-- include: common
--
-- Writes strings that Redis forgot and a node remembers, unless somebody said
-- otherwise since, or brought what is newer.
--
-- KEYS  ledger, events, keys...
-- ARGV  node, inc (under which it was known), count,
--       then for each key: its revision, 1 if it is there, value, pttl or -1
-- -> { now, { "ok" or "no", ... } }
--

local KEY_FIRST, ARG_FIRST, ARGS = 2, 3, 4

local count = number(ARGV[3], 4096)

local wrong = wrong_type(KEYS[1], 'hash', KEYS[2], 'stream')

if wrong then
    return wrong
end

local names, top = {}, 0

for i = 1, count do
    names[i] = 'k:' .. KEYS[KEY_FIRST + i]
    top = math.max(top, number(ARGV[ARG_FIRST + (i - 1) * ARGS + 1]) or 0)
end

local ledger = ledger_open(KEYS[1], KEYS[2], ARGV[1], ARGV[2], top, names)
local done = {}

for i = 1, count do
    local key = KEYS[KEY_FIRST + i]
    local arg = ARG_FIRST + (i - 1) * ARGS
    local rev = number(ARGV[arg + 1]) or 0
    local ttl = tonumber(ARGV[arg + 4]) or -1
    local value = nil

    if ARGV[arg + 2] == '1' and (ttl == -1 or ttl > 0) then
        value = ARGV[arg + 3]
    end

    -- the value itself is of no interest, its size neither

    local seen = string_settle(ledger, key, rev, NUMBER_MAX)
    local entry = seen.entry
    local mine = value and redis.sha1hex(value) or '-'

    -- an evicted value is known to those who have its revision

    if rev > 0 and (seen.status == 'want'
                    or seen.status == 'evicted'
                       and (rev >= entry.rev or mine == entry.digest))
    then
        local kind, object = key_names(ledger, key)

        rev = math.max(rev, seen.rev)
        ledger.rev = math.max(ledger.rev, rev)

        event(ledger, 'event', 'restored', 'object', object,
              'node', ARGV[1], 'source', kind, 'by', ARGV[1],
              'before', seen.value and clip(seen.value, TEXT_MAX) or '',
              'after', value and clip(value, TEXT_MAX) or '',
              'reason', seen.status == 'evicted' and 'Redis had evicted it'
                        or 'Redis had forgotten it')
        string_set(ledger, key, rev, 'r', value, ttl)
        done[i] = 'ok'

    else
        done[i] = 'no'
    end
end

return commit(ledger) or { now, done }

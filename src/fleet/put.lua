-- include: common
--
-- An operator's word that came through a node's API.
--
-- KEYS  key, ledger, events
-- ARGV  node, actor, reason, object, kind (maintenance or mode), "set" or
--       "del", value, pttl or -1, known revision, force (1: whatever is
--       there; 0: only if nobody said anything since that revision)
-- -> { "ok", "changed" or "type" (it holds another type), now, rev }
--

local key = KEYS[1]
local node, actor, reason = ARGV[1], ARGV[2], ARGV[3]
local object, kind = ARGV[4], ARGV[5]
local ttl = tonumber(ARGV[8]) or -1
local known, force = number(ARGV[9]) or 0, ARGV[10] == '1'
local value = nil

local wrong = wrong_type(KEYS[2], 'hash', KEYS[3], 'stream')

if wrong then
    return wrong
end

if ARGV[6] == 'set' and (ttl == -1 or ttl > 0) then
    value = ARGV[7]
end

local ledger = ledger_open(KEYS[2], KEYS[3], node, '', known,
                           { 'k:' .. key })
local seen = string_settle(ledger, key, known, TEXT_MAX * 256)
local entry = seen.entry
local result = 'ok'

if seen.status == 'type' then
    result = 'type'

elseif not force and seen.rev ~= known then
    result = 'changed'

elseif (seen.status == 'ok' or seen.status == 'none')
       and entry and entry.flag == 'f'
       and entry.digest == (value and redis.sha1hex(value) or '-')
       and math.abs((ttl > 0 and now + ttl or 0) - entry.expires) < 2000
then
    -- said already: a repeated call makes no second event

else
    event(ledger, 'event', kind, 'object', object, 'node', node,
          'source', 'api', 'by', actor,
          'before', entry and entry.text or '',
          'after', value and clip(value, TEXT_MAX) or '', 'reason', reason)

    seen.rev = next_rev(ledger)
    string_set(ledger, key, seen.rev, 'f', value, ttl)
end

return commit(ledger) or { result, now, seen.rev }

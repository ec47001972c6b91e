--
-- Copyright (C) nginx-gate authors
--
-- What the scripts have in common; the build puts it in front of them.
--
-- "gate#epoch", the ledger, is Redis's memory of what it was told:
--
--   inc        its incarnation, "<us of its birth>-<random>": another one
--              when all of it was lost; of two the later one is newer
--   rev        the highest revision given out; never below the clock in ms,
--              so what was said later has the higher one, also across losses
--   run        the run_id of the server
--   life       the first revision of the present life: another one begins
--              when the ledger was lost or the server is another process
--   k:<key>    of a string: "<rev> <flag> <digest> <expires> <evicted> <text>"
--   c:<key>    of a hash: "<rev> <flag> <epoch> <state> <bp> <step> <origin>
--              <evicted>"; "<rev> <flag> - <origin> <evicted>" is a deleted one
--
-- digest is the SHA1 of the value, or "-" for a key known to be absent;
-- expires in unix ms of Redis's clock, or 0; evicted is evicted_keys at the
-- last look; text is the beginning of the value, for the next event.  flag
-- says where a word comes from: "f" somebody said it in this life, "r" it is
-- remembered, by a node or from an earlier life, "o" (of a hash) a
-- configuration opened it by itself.  origin is the highest revision of
-- earlier lives that it goes back to.
--
-- A node says which revision it knows.  Where it knows more than the ledger,
-- Redis has forgotten, and the node is asked to restore it; what was said in
-- this life is not undone by what is known from an earlier one.
-- Absence with a ledger that remembers the key is an operator's DEL, and
-- obeyed.
--
-- Nothing is written before commit(): one HSET of the ledger comes first, and
-- when that is refused nothing has happened.
--

local call, try = redis.call, redis.pcall

local TEXT_MAX = 256            -- bytes of a value in an event
local FIELD_MAX = 4096          -- bytes of a hash's field
local EVENTS_MAX = 10000
local INC_MAX = 40
local NUMBER_MAX = 9007199254740991

local clock = call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)


-- Lua would print 1e+14.
local function text_of(n)
    return string.format('%.0f', n)
end


-- A number from a text that may be anything; nil where it is none.
local function number(s, max)
    if type(s) ~= 'string' or #s > 16 or not s:find('^%d+$') then
        return nil
    end

    local n = tonumber(s)

    return n <= (max or NUMBER_MAX) and n or nil
end


-- At most max bytes, and no part of a character of UTF-8 at the end.
local function clip(s, max)
    if #s <= max then
        return s
    end

    while max > 0 and s:byte(max + 1) >= 128 and s:byte(max + 1) < 192 do
        max = max - 1
    end

    return s:sub(1, max)
end


-- Keys of ours that hold something else are told, never repaired.
local function wrong_type(...)
    local want = { ... }

    for i = 1, #want, 2 do
        local found = call('TYPE', want[i]).ok

        if found ~= 'none' and found ~= want[i + 1] then
            return redis.error_reply('GATEWRONGTYPE ' .. want[i])
        end
    end
end


-- Something of INFO; nil where we may not ask.
local function info(section, pattern)
    local text = try('INFO', section)

    return type(text) == 'string' and text:match(pattern) or nil
end


local function run_id()
    return info('server', 'run_id:(%x+)') or '-'
end


local function birth(inc)
    return number(inc:match('^(%d+)%-')) or 0
end


-- names: fields of the ledger that will be asked for; top: the highest
-- revision that the node knows of anything; run: the server's run_id, where
-- it is to be compared.
local function ledger_open(key, events, node, known, top, names, run)
    local values = call('HMGET', key, 'inc', 'rev', 'life', 'run',
                        unpack(names))
    local entries = {}

    for i, name in ipairs(names) do
        entries[name] = values[i + 4] or nil
    end

    local ledger = {
        key = key, stream = events, prefix = #key - #'epoch',
        node = node, top = top,
        inc = values[1] or '', rev = number(values[2]) or 0,
        life = number(values[3]) or 0, run = values[4],
        entries = entries, fresh = {}, writes = {}, events = {},
        changed = false
    }

    local lost = birth(ledger.inc) == 0

    if lost then
        local us = text_of(math.max(now_us, birth(known) + 1))

        ledger.inc = us .. '-' .. redis.sha1hex(node .. us .. known)
                                      :sub(1, INC_MAX - 1 - #us)
    end

    if lost or run and run ~= '-' and run ~= ledger.run then
        ledger.run = run or run_id()
        ledger.life = math.max(ledger.rev, now - 1, top) + 1
        ledger.changed = true
    end

    ledger.other = known ~= ledger.inc
    ledger.later = birth(ledger.inc) > birth(known)

    return ledger
end


-- Whether a node's revision is from an earlier life.
local function is_earlier(ledger, rev)
    return ledger.later or rev < ledger.life
end


-- What was said in an earlier life is a memory.
local function remembered(ledger, entry)
    if entry.rev < ledger.life then
        entry.flag, entry.origin = 'r', entry.rev
    end

    return entry
end


local function ledger_put(ledger, name, text)
    ledger.entries[name] = text
    ledger.fresh[name] = text
    ledger.changed = true
end


local function next_rev(ledger)
    ledger.rev = math.max(ledger.rev, ledger.top, ledger.life - 1, now - 1)
                 + 1

    return ledger.rev
end


local function evicted_now(ledger)
    if not ledger.evicted then
        ledger.evicted = number(info('stats', 'evicted_keys:(%d+)')) or -1
    end

    return ledger.evicted
end


-- Whether something was evicted since the entry was last looked at.  After a
-- restart the counter begins anew.
local function maybe_evicted(ledger, entry)
    local n = evicted_now(ledger)

    return n > 0 and entry.evicted >= 0 and n ~= entry.evicted
end


-- Whether the node knows better than the ledger.
local function wanted(ledger, entry, rev)
    local earlier = is_earlier(ledger, rev)

    if entry.flag == 'f' or not (earlier or ledger.other) then
        return rev > entry.rev and not (earlier and entry.flag == 'f')
    end

    return rev > entry.origin
end


local function write(ledger, ...)
    ledger.writes[#ledger.writes + 1] = { ... }
end


-- An event; pairs of names and values, empty ones are left out.
local function event(ledger, ...)
    local list = {}
    local given = { ... }

    for i = 1, #given, 2 do
        if given[i + 1] ~= '' then
            list[#list + 1] = given[i]
            list[#list + 1] = given[i + 1]
        end
    end

    ledger.events[#ledger.events + 1] = list
end


-- Writes everything; an error reply of Redis if it refuses.
local function commit(ledger)
    if not ledger.changed then
        return nil
    end

    local list = { 'inc', ledger.inc, 'rev', text_of(ledger.rev),
                   'life', text_of(ledger.life), 'run', ledger.run or '-' }

    for name, text in pairs(ledger.fresh) do
        list[#list + 1] = name
        list[#list + 1] = text
    end

    local reply = try('HSET', ledger.key, unpack(list))

    if type(reply) == 'table' and reply.err then
        return reply
    end

    for _, command in ipairs(ledger.writes) do
        call(unpack(command))
    end

    for _, fields in ipairs(ledger.events) do
        fields[#fields + 1] = 'time'
        fields[#fields + 1] = text_of(now)
        call('XADD', ledger.stream, 'MAXLEN', '~', EVENTS_MAX, '*',
             unpack(fields))
    end

    return nil
end


-- "maintenance" and "shop" of "gate:maintenance:shop"
local function key_names(ledger, key)
    local kind, object = key:sub(ledger.prefix + 1):match('^(%w+):?(.*)$')

    return kind or 'key', object ~= '' and object or 'global'
end


-- A control string -------------------------------------------------------

local function string_entry(ledger, key)
    local text = ledger.entries['k:' .. key]

    if not text then
        return nil
    end

    local rev, flag, digest, expires, evicted, shown =
        text:match('^(%d+) (%a) (%S+) (%d+) (%-?%d+) ?(.*)$')

    if not rev or not number(rev) then
        return nil
    end

    return remembered(ledger, {
        rev = tonumber(rev), origin = tonumber(rev), flag = flag,
        digest = digest, expires = number(expires) or 0,
        evicted = tonumber(evicted), text = shown
    })
end


local function string_note(ledger, key, rev, flag, value, expires)
    ledger_put(ledger, 'k:' .. key, table.concat({
        text_of(rev), flag, value and redis.sha1hex(value) or '-',
        text_of(expires), text_of(evicted_now(ledger)),
        value and clip(value, TEXT_MAX) or ''
    }, ' '))
end


-- What is there: wrong type, or value (nil: absent) and its end; max bounds
-- what is read.
local function string_read(key, max)
    local len = try('STRLEN', key)

    if type(len) == 'table' then
        return { status = 'type', value = call('TYPE', key).ok, ttl = -1 }
    end

    if len > max then
        return { status = 'big', value = text_of(len), ttl = -1 }
    end

    local value = call('GET', key) or nil
    local ttl = value and call('PTTL', key) or -1

    return { value = value, ttl = ttl,
             expires = ttl >= 0 and now + ttl or 0 }
end


-- Brings the ledger up to what the string is and returns what was found:
-- status, revision, the entry.  rev: what the node knows.
local function string_settle(ledger, key, rev, max)
    local seen = string_read(key, max)
    local entry = string_entry(ledger, key)
    local value = seen.value

    seen.entry = entry
    seen.rev = entry and entry.rev or 0
    seen.old = seen.rev

    if seen.status then
        return seen
    end

    seen.status = value and 'ok' or 'none'

    if not entry and not value then
        seen.status = rev > 0 and 'want' or 'none'
        return seen
    end

    local reason = ''
    local digest = value and redis.sha1hex(value) or '-'

    if entry and digest == entry.digest
       and math.abs(seen.expires - entry.expires) < 2000
    then
        -- TTL and clock are read one after the other: some ms are no change

        if wanted(ledger, entry, rev) then
            seen.status = 'want'

        elseif value and entry.evicted ~= evicted_now(ledger) then
            string_note(ledger, key, entry.rev, entry.flag, value,
                        entry.expires)
        end

        return seen
    end

    if not value then

        if entry.expires > 0 and now >= entry.expires - 1000 then

            if wanted(ledger, entry, rev) then
                seen.status = 'want'
                return seen
            end

            reason = 'expired'

        elseif maybe_evicted(ledger, entry) then
            seen.status = 'evicted'
            return seen
        end

    elseif entry and digest == entry.digest then
        reason = 'ttl'
    end

    local kind, object = key_names(ledger, key)

    seen.rev = next_rev(ledger)
    string_note(ledger, key, seen.rev, 'f', value, seen.expires)
    seen.entry = string_entry(ledger, key)

    event(ledger, 'event', kind, 'object', object, 'node', ledger.node,
          'source', 'redis', 'by', reason == 'expired' and 'ttl' or 'operator',
          'before', entry and entry.text or '',
          'after', value and clip(value, TEXT_MAX) or '', 'reason', reason)

    return seen
end


-- Sets or deletes it; the caller writes the event.
local function string_set(ledger, key, rev, flag, value, ttl)
    if not value then
        write(ledger, 'DEL', key)

    elseif ttl > 0 then
        write(ledger, 'SET', key, value, 'PX', text_of(ttl))

    else
        write(ledger, 'SET', key, value)
    end

    string_note(ledger, key, rev, flag, value,
                value and ttl > 0 and now + ttl or 0)
end

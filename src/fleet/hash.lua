

-- A rollout's hash -------------------------------------------------------

local FIELDS = { 'state', 'weight', 'epoch', 'step', 'seed', 'version',
                 'release', 'stable', 'canary', 'digest', 'reason', 'source',
                 'actor', 'since', 'record' }

local STATES = { idle = true, progressing = true, paused = true,
                 promoted = true, rolled_back = true }

local WEIGHT_MAX = 10000
local EPOCH_MAX = 4294967295
local STEP_MAX = 65535


-- "5", "0.5", "100%" in basis points
local function weight_parse(s)
    if not s or #s > 8 then
        return nil
    end

    local whole, part = s:match('^(%d+)%.(%d+)%%?$')

    if not whole then
        whole, part = s:match('^(%d+)%%?$'), ''
    end

    if not whole or part:find('[^0]', 3) then
        return nil
    end

    local bp = whole * 100 + (part .. '00'):sub(1, 2)

    return bp <= WEIGHT_MAX and bp or nil
end


local function weight_text(bp)
    if bp % 100 == 0 then
        return text_of(bp / 100)
    end

    local s = string.format('%d.%02d', math.floor(bp / 100), bp % 100)

    return (s:gsub('0$', ''))
end


local function words(content)
    return content.state .. ' ' .. weight_text(content.bp) .. '%'
end


local function hash_entry(ledger, key)
    local text = ledger.entries['c:' .. key]

    if not text then
        return nil
    end

    local rev, flag, origin, evicted =
        text:match('^(%d+) (%a) %- (%d+) (%-?%d+)$')

    if number(rev) and number(origin) then
        return remembered(ledger, {
            rev = tonumber(rev), flag = flag, origin = tonumber(origin),
            evicted = tonumber(evicted)
        })
    end

    local epoch, state, bp, step

    rev, flag, epoch, state, bp, step, origin, evicted =
        text:match('^(%d+) (%a) (%d+) (%a[%a_]+) (%d+) (%d+) (%d+) (%-?%d+)$')

    if not number(rev) or not number(origin) or not STATES[state] then
        return nil
    end

    return remembered(ledger, {
        rev = tonumber(rev), flag = flag, origin = tonumber(origin),
        evicted = tonumber(evicted), epoch = tonumber(epoch), state = state,
        bp = tonumber(bp), step = tonumber(step)
    })
end


-- content nil: it is gone
local function hash_note(ledger, key, rev, flag, origin, content)
    local list = { text_of(rev), flag }

    if content then
        list[3] = text_of(content.epoch)
        list[4] = content.state
        list[5] = text_of(content.bp)
        list[6] = text_of(content.step)
    else
        list[3] = '-'
    end

    list[#list + 1] = text_of(origin)
    list[#list + 1] = text_of(evicted_now(ledger))

    ledger_put(ledger, 'c:' .. key, table.concat(list, ' '))
end


-- nil where there is none; only fields that we know and that are not huge
local function hash_read(key)
    local len = try('HLEN', key)

    if type(len) == 'table' then
        return nil, call('TYPE', key).ok
    end

    if len == 0 then
        return nil
    end

    local ask, huge = {}, nil

    for _, name in ipairs(FIELDS) do
        if call('HSTRLEN', key, name) <= FIELD_MAX then
            ask[#ask + 1] = name
        else
            huge = name
        end
    end

    local values = call('HMGET', key, unpack(ask))
    local hash = { huge = huge }

    for i, name in ipairs(ask) do
        hash[name] = values[i] or nil
    end

    return hash
end


local function hash_content(hash)
    return { epoch = number(hash.epoch, EPOCH_MAX),
             state = STATES[hash.state] and hash.state,
             bp = weight_parse(hash.weight),
             step = number(hash.step, STEP_MAX) }
end


local function is_seed(s)
    return s ~= nil and #s == 32 and s:find('^%x+$') ~= nil
end


-- The first field of the content that makes no sense.
local function hash_invalid(content)
    return not content.epoch and 'epoch' or not content.state and 'state'
           or not content.bp and 'weight' or not content.step and 'step'
           or nil
end


local function hash_fields(hash)
    local list = {}

    for _, name in ipairs(FIELDS) do
        if hash and hash[name] then
            list[#list + 1] = name
            list[#list + 1] = hash[name]
        end
    end

    return list
end


local function hash_event(ledger, key, name, source, by, before, after,
    reason, epoch, record)

    local _, object = key_names(ledger, key)

    event(ledger, 'event', name, 'object', object, 'node', ledger.node,
          'source', source, 'by', by,
          'before', before and words(before) or '',
          'after', after and words(after) or '', 'reason', clip(reason, 256),
          'epoch', epoch and text_of(epoch) or '', 'record', record or '')
end


-- Writes a content and who made it; hash is what is replied.
local function hash_write(ledger, key, hash, content, source, actor, reason,
    since)

    hash.state = content.state
    hash.weight = weight_text(content.bp)
    hash.epoch = text_of(content.epoch)
    hash.step = text_of(content.step)

    if source then
        hash.source, hash.actor, hash.reason = source, actor, reason
        hash.since = since or clock[1]
    end

    write(ledger, 'HSET', key, unpack(hash_fields(hash)))
end


-- Somebody has typed into it.  State and weight are an operator's to set,
-- except after a rollback; epoch and step are ours.  Returns the content
-- that holds from now on, or the field that makes no sense.
local function hash_typed(ledger, key, hash, typed, last)
    local state, bp = last.state, last.bp

    if last.state ~= 'rolled_back' then

        if hash.state then
            state = typed.state
        end

        if hash.weight then
            bp = typed.bp
        end

        if not state or not bp then
            return nil, not state and 'state' or 'weight'
        end
    end

    if state ~= last.state then
        bp = (state == 'idle' or state == 'rolled_back') and 0
             or state == 'promoted' and WEIGHT_MAX or bp

    elseif bp ~= last.bp and state ~= 'paused'
           and not (state == 'promoted' and bp == WEIGHT_MAX)
    then
        state = bp == 0 and 'idle' or 'progressing'
    end

    local next = { epoch = last.epoch, state = state, bp = bp,
                   step = last.step }

    if bp ~= last.bp and state ~= 'rolled_back' then
        next.step = math.min(last.step + 1, STEP_MAX)
    end

    if next.state ~= last.state or next.bp ~= last.bp then
        hash_write(ledger, key, hash, next, 'redis', 'operator', 'typed')
        hash_event(ledger, key,
                   next.state == 'rolled_back' and 'rolled_back' or 'typed',
                   'redis', 'operator', last, next, '', next.epoch)
        return next
    end

    hash_write(ledger, key, hash, next)
    hash_event(ledger, key, 'refused', 'redis', 'operator', last, next,
               last.state == 'rolled_back'
               and 'it is rolled back: use "retry" or a new id='
               or 'epoch and step are not to be typed', next.epoch)

    return next, nil, true
end


-- Brings the ledger up to what the hash is; what was found: status, revision,
-- hash (nil: absent), content (the last good one), entry.
local function hash_settle(ledger, key, rev)
    local hash, other = hash_read(key)
    local entry = hash_entry(ledger, key)
    local seen = { hash = hash, entry = entry, content = nil,
                   rev = entry and entry.rev or 0,
                   old = entry and entry.rev or 0 }

    if entry and entry.epoch then
        seen.content = { epoch = entry.epoch, state = entry.state,
                         bp = entry.bp, step = entry.step }
    end

    local function note(content)
        seen.rev = next_rev(ledger)
        hash_note(ledger, key, seen.rev, 'f', 0, content)
        seen.entry = hash_entry(ledger, key)
        seen.content = content
    end

    if other then
        seen.status, seen.value = 'type', other
        return seen
    end

    if not hash then

        if not entry then
            seen.status = rev > 0 and 'want' or 'none'

        elseif not entry.epoch then
            seen.status = wanted(ledger, entry, rev) and 'want' or 'none'

        elseif maybe_evicted(ledger, entry) then
            seen.status = 'evicted'

        else
            seen.status = 'none'
            hash_event(ledger, key, 'deleted', 'redis', 'operator',
                       seen.content, nil, '', entry.epoch)
            note(nil)
        end

        return seen
    end

    -- what nobody can mend here: nodes that know it may restore a seed

    if hash.huge then
        seen.status, seen.value = 'bad', hash.huge
        return seen
    end

    local typed = hash_content(hash)
    local deleted = entry and not entry.epoch
    local invalid = not is_seed(hash.seed) and 'seed'
                    or not seen.content and hash_invalid(typed)

    if invalid then
        seen.status = (rev > 0 and not deleted) and 'want' or 'bad'
        seen.value = invalid
        return seen
    end

    seen.status = 'ok'

    if not seen.content then

        -- the ledger knows nothing of it, and all of it is there

        hash_event(ledger, key, 'typed', 'redis', 'operator', nil, typed,
                   '', typed.epoch)
        note(typed)
        return seen
    end

    local last = seen.content

    if typed.epoch == last.epoch and typed.state == last.state
       and typed.bp == last.bp and typed.step == last.step
    then
        if wanted(ledger, entry, rev) then
            seen.status = 'want'

        elseif entry.evicted ~= evicted_now(ledger) then
            hash_note(ledger, key, entry.rev, entry.flag, entry.origin, last)
        end

        return seen
    end

    local next, wrong, refused = hash_typed(ledger, key, hash, typed, last)

    if not next then
        seen.status, seen.value = 'bad', wrong

    elseif refused then

        -- as it was: no new revision, but written

        hash_note(ledger, key, entry.rev, entry.flag, entry.origin, last)

    else
        note(next)
    end

    return seen
end

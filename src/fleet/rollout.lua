-- include: common hash
--
-- Everything that is decided about a rollout: compare and swap, on Redis's
-- clock.  Epochs are made here and nowhere else.
--
-- KEYS  hash, ledger, events, past ("last" and release -> epoch)
-- ARGV  as in the table below, in this order
-- -> { result, why, now, rev, { field, value, ... } }
--
-- result  ok; same (it is so already); stale (another epoch or step, or a
--         node that is to restore first); foreign (another release); refused
--

local key, past = KEYS[1], KEYS[4]

local arg = {}

for i, name in ipairs({
    'op', 'node', 'source', 'actor', 'reason', 'name', 'release', 'version',
    'stable', 'canary', 'digest',
    'epoch',                    -- expected, '' any; open: "force"
    'step',                     -- expected, '' any
    'weight',                   -- basis points, '' none
    'seed',                     -- for a new epoch
    'least',                    -- advance: ms that the step must have lasted
    'record',                   -- JSON of a rollback, or ''
    'inc',                      -- under which the node knows what it knows
    'rev',                      -- the revision of that
    'state',                    -- restore: "-" it is known to be deleted
    'since'                     -- restore: unix s
}) do
    arg[name] = ARGV[i] or ''
end

local wrong = wrong_type(KEYS[2], 'hash', KEYS[3], 'stream', past, 'hash')

if wrong then
    return wrong
end

local FOREIGN = 'the fleet is at another release of this rollout'

local known = number(arg.rev) or 0
local weight = number(arg.weight, WEIGHT_MAX)
local ledger = ledger_open(KEYS[2], KEYS[3], arg.node, arg.inc, known,
                           { 'c:' .. key })
local seen = hash_settle(ledger, key, known)
local hash, content, entry = seen.hash, seen.content, seen.entry
local rev = seen.rev


local function past_of(release)
    return number(call('HGET', past, release), EPOCH_MAX)
end


-- Remembers that a release had an epoch; the oldest of 32 is forgotten.
local function past_note(release, epoch)
    local excess = call('HLEN', past) - 32

    if call('HEXISTS', past, release) == 0 then
        excess = excess + 1
    end

    if excess > 0 then
        local list = {}
        local all = call('HSCAN', past, 0, 'COUNT', 64)[2]

        for i = 1, #all, 2 do
            if all[i] ~= 'last' and all[i] ~= release then
                list[#list + 1] = { all[i], number(all[i + 1]) or 0 }
            end
        end

        table.sort(list, function(a, b) return a[2] < b[2] end)

        for i = 1, math.min(excess, #list) do
            write(ledger, 'HDEL', past, list[i][1])
        end
    end

    write(ledger, 'HSET', past, release, text_of(epoch), 'last',
          text_of(math.max(epoch, past_of('last') or 0)))
end


-- Gives the rollout another content.  An automatic change does not make it
-- more than the memory of a node, an operator's does.
local function change(name, to, automatic)
    rev = next_rev(ledger)

    if automatic then
        hash_note(ledger, key, rev, entry.flag, entry.origin, to)
    else
        hash_note(ledger, key, rev, 'f', 0, to)
    end

    hash_event(ledger, key, name, arg.source, arg.actor, content, to,
               arg.reason, to.epoch, arg.record)
    hash_write(ledger, key, hash, to, arg.source, arg.actor, arg.reason)

    return 'ok', ''
end


local function with(state, bp)
    local to = { epoch = content.epoch, state = state, bp = bp,
                 step = content.step }

    -- evidence of two weights is never mixed

    if bp ~= content.bp and state ~= 'rolled_back' then
        to.step = math.min(to.step + 1, STEP_MAX)
    end

    return to
end


-- Everything in the hash is to be as the node says.
local function replace(to)
    if hash then
        write(ledger, 'DEL', key)
    end

    hash = { seed = arg.seed, version = arg.version, release = arg.release,
             stable = arg.stable, canary = arg.canary, digest = arg.digest }

    if arg.record ~= '' then
        hash.record = arg.record
    end

    past_note(arg.release, to.epoch)
end


local function new_epoch(flag)
    local epoch = math.max(past_of('last') or 0,
                           content and content.epoch or 0,
                           number(arg.epoch, EPOCH_MAX) or 0,
                           tonumber(clock[1]) - 1) + 1

    if epoch > EPOCH_MAX then
        return 'refused', 'there is no higher epoch'
    end

    if not weight or not is_seed(arg.seed) then
        return 'refused', 'weight or seed make no sense'
    end

    local to = { epoch = epoch, state = weight > 0 and 'progressing' or 'idle',
                 bp = weight, step = 1 }

    arg.record = ''
    replace(to)
    rev = next_rev(ledger)
    hash_note(ledger, key, rev, flag, 0, to)
    hash_event(ledger, key, arg.op, arg.source, arg.actor, content, to,
               arg.reason, epoch)
    hash_write(ledger, key, hash, to, arg.source, arg.actor, arg.reason)

    return 'ok', ''
end


local function foreign()
    return hash.release and hash.release ~= arg.release
end


-- What an operator may do, by state; the texts are those of a node alone.

local OPERATOR = {

    pause = function ()
        if content.state ~= 'progressing' then
            return 'refused', 'only a progressing rollout can be paused'
        end

        return change('pause', with('paused', content.bp))
    end,

    resume = function ()
        if content.state ~= 'paused' then
            return 'refused', 'only a paused rollout can be resumed'
        end

        return change('resume', with('progressing', content.bp))
    end,

    promote = function ()
        if content.state == 'rolled_back' then
            return 'refused', 'a rollout that is rolled back cannot be '
                   .. 'promoted, use "retry" or a new id= first'
        end

        if content.state == 'promoted' then
            return 'same', ''
        end

        return change('promote', with('promoted', WEIGHT_MAX))
    end,

    abort = function ()
        if content.state == 'rolled_back' then
            return 'refused', 'the rollout is rolled back already'
        end

        hash.record = arg.record ~= '' and arg.record or nil

        return change('rolled_back', with('rolled_back', 0))
    end,

    weight = function ()
        local state = content.state

        if not weight then
            return 'refused', 'the weight makes no sense'
        end

        if state == 'rolled_back' then
            return 'refused', 'the rollout is rolled back, its weight stays '
                   .. '0: use "retry" or a new id='
        end

        if state == 'promoted' and weight ~= WEIGHT_MAX then
            return 'refused', 'the rollout is promoted, its weight stays '
                   .. '100 %: use "abort", "start" or a new id='
        end

        if state == 'idle' or state == 'progressing' then
            state = weight > 0 and 'progressing' or 'idle'
        end

        if state == content.state and weight == content.bp then
            return 'same', ''
        end

        return change('weight', with(state, weight))
    end
}


-- The node does not speak of what is there.
local function stale()
    if foreign() then
        return 'foreign', FOREIGN
    end

    if arg.epoch ~= '' and number(arg.epoch) ~= content.epoch
       or arg.step ~= '' and number(arg.step) ~= content.step
    then
        return 'stale', 'it has changed meanwhile'
    end
end


-- A node that comes for the first time, or with another configuration.
local function open()
    local forced = arg.epoch == 'force'
    local was = past_of(arg.release)

    -- with nothing from this life to go by, the epoch is only good until
    -- somebody comes who remembers this release

    local flag = (was or entry and entry.flag ~= 'r') and 'f' or 'o'

    if not hash or not content then

        if seen.status == 'evicted' then
            return 'stale', 'it was evicted, a node has to restore it'
        end

        if was and not forced then
            return 'same', ''
        end

        -- somebody typed a weight before there was a rollout

        weight = hash and weight_parse(hash.weight) or weight

        return new_epoch(flag)
    end

    if not foreign() then
        return 'same', ''
    end

    if was and not forced then
        return 'foreign', FOREIGN
    end

    return new_epoch(flag)
end


local function start()
    if arg.epoch ~= '' and content
       and number(arg.epoch) ~= content.epoch
    then
        return 'stale', 'it has changed meanwhile'
    end

    return new_epoch('f')
end


local function retry()
    if hash and content then
        local result, why = stale()

        if result then
            return result, why
        end

        if content.state ~= 'rolled_back' then
            return 'refused', 'only a rollout that is rolled back can be '
                   .. 'retried, use "start" to begin anew'
        end
    end

    return new_epoch('f')
end


-- A breach was proved.  Who comes late tells it, and that is all.
local function flip()
    local epoch = number(arg.epoch)

    if hash and not foreign() and (not epoch or epoch == content.epoch) then

        if content.state == 'rolled_back' then
            return 'same', ''
        end

        hash.record = arg.record ~= '' and arg.record or nil

        return change('rolled_back', with('rolled_back', 0), true)
    end

    if hash and not foreign() and epoch > content.epoch then
        return 'stale', 'Redis has forgotten that epoch'
    end

    ledger.changed = true
    hash_event(ledger, key, 'rolled_back_late', arg.source, arg.actor,
               nil, nil, arg.reason, epoch, arg.record)

    return 'stale', 'that epoch is over'
end


local function advance()
    local result, why = stale()

    if result then
        return result, why
    end

    if content.state ~= 'progressing' then
        return 'refused', 'only a progressing rollout advances'
    end

    if hash.digest ~= arg.digest then
        return 'refused', 'the configuration differs from that of the fleet'
    end

    if now < (number(hash.since) or 0) * 1000 + (number(arg.least) or 0) then
        return 'refused', 'the step has not lasted long enough'
    end

    if not weight then
        return 'refused', 'the weight makes no sense'
    end

    local promote = weight == WEIGHT_MAX and arg.state == 'promoted'

    return change(promote and 'promoted' or 'step',
                  with(promote and 'promoted' or 'progressing', weight), true)
end


-- What was decided since Redis lost its memory holds, but under an epoch
-- that no node takes for an older one, or for one that it knows.
local function renumber(epoch)
    if epoch >= EPOCH_MAX then
        return 'refused', 'there is no higher epoch'
    end

    local to = { epoch = epoch + 1, state = content.state, bp = content.bp,
                 step = content.step }

    rev = next_rev(ledger)
    hash_note(ledger, key, rev, entry.flag, entry.origin, to)
    hash_event(ledger, key, 'renumbered', 'redis', arg.node, content, to,
               'a node knew that epoch', to.epoch)
    hash_write(ledger, key, hash, to)
    past_note(hash.release or arg.release, to.epoch)

    return 'stale', 'it was decided anew'
end


-- Takes over what the node remembers; it may be newer than all we know.
local function take(to, all, name, twin)
    local opened = entry and entry.flag == 'o'
                   and (twin or to.epoch == content.epoch)

    rev = known > seen.rev and known or next_rev(ledger)
    ledger.rev = math.max(ledger.rev, rev)

    if all then
        replace(to)

    elseif arg.record ~= '' then
        hash.record = arg.record
    end

    -- an epoch that a configuration opened remains one: others may remember
    -- more of the same release

    hash_note(ledger, key, rev, opened and 'o' or 'r',
              math.max(known, entry and entry.origin or 0), to)
    hash_event(ledger, key, name or 'restored', arg.source, arg.actor,
               content, to, arg.reason, to.epoch, arg.record)
    hash_write(ledger, key, hash, to, arg.source, arg.actor, arg.reason,
               number(arg.since) and arg.since)

    return 'ok', ''
end


-- The same epoch, or one that a configuration opened before anybody who
-- remembered came: the state is the node's, the epoch the hash's.
local function merge(mine)
    local to = { epoch = content.epoch, state = mine.state, bp = mine.bp,
                 step = content.step }

    if mine.epoch == content.epoch then
        to.step = math.max(mine.step, content.step)
    end

    if to.step == content.step and to.state ~= 'rolled_back'
       and to.bp ~= content.bp
    then
        to.step = math.min(to.step + 1, STEP_MAX)
    end

    return to
end


local function restore_deleted()
    if known == 0 or (entry and not wanted(ledger, entry, known))
       or (hash and not entry)
    then
        return 'stale', 'it was decided anew'
    end

    rev = math.max(known, seen.rev)
    ledger.rev = math.max(ledger.rev, rev)
    hash_note(ledger, key, rev, 'r',
              math.max(known, entry and entry.origin or 0), nil)
    hash_event(ledger, key, 'restored', arg.source, arg.actor, content, nil,
               arg.reason)

    if hash then
        write(ledger, 'DEL', key)
        hash = nil
    end

    return 'ok', ''
end


-- A hash of which something is missing: typed into nothing, or broken.
local function restore_broken(mine)
    if entry and not wanted(ledger, entry, known)
       and not (content and mine.epoch >= content.epoch)
    then
        return 'stale', 'it was decided anew'
    end

    local typed = hash

    if content and mine.epoch == content.epoch then
        mine.state, mine.bp = content.state, content.bp
        mine.step = content.step
    end

    local result, why = take(mine, true)

    -- what an operator typed meanwhile still counts

    hash.state, hash.weight = typed.state, typed.weight

    local was = hash_content(hash)

    if (was.state or not typed.state) and (was.bp or not typed.weight)
       and ((was.state or mine.state) ~= mine.state
            or (was.bp or mine.bp) ~= mine.bp)
    then
        local to, _, refused = hash_typed(ledger, key, hash, was, mine)

        if not refused then
            rev = next_rev(ledger)
            hash_note(ledger, key, rev, 'f', 0, to)
        end

    else
        hash.state, hash.weight = mine.state, weight_text(mine.bp)
    end

    return result, why
end


local function restore_same(mine)
    local better = wanted(ledger, entry, known)

    if mine.state == 'rolled_back' and content.state ~= 'rolled_back' then

        if mine.epoch == content.epoch then
            return take(with('rolled_back', 0), false,
                        not better and 'rolled_back' or nil)
        end

    elseif content.state == 'rolled_back' then
        return mine.state == 'rolled_back' and 'same' or 'stale', ''
    end

    if not better then
        return 'stale', 'it was decided anew'
    end

    return take(merge(mine), false)
end


-- A rollback that was proved by this very release, under whatever number.
local function keep_rollback(mine)
    if content.state == 'rolled_back' then
        mine.state, mine.bp = 'rolled_back', 0
        arg.record = hash.record or arg.record
    end
end


-- Two epochs of one number: one was made when the other had been forgotten.
-- A third number keeps them apart.
local function restore_twin(mine, better)
    if not better or foreign() or mine.epoch >= EPOCH_MAX then
        return renumber(mine.epoch)
    end

    keep_rollback(mine)
    mine.epoch = mine.epoch + 1

    return take(mine, true, nil, true)
end


local function restore_any()
    if arg.state == '-' then
        return restore_deleted()
    end

    local mine = { epoch = number(arg.epoch, EPOCH_MAX), state = arg.state,
                   bp = weight, step = number(arg.step, STEP_MAX) }

    if known == 0 or not is_seed(arg.seed) or not STATES[mine.state]
       or hash_invalid(mine)
    then
        return 'refused', 'what was to be restored makes no sense'
    end

    if not hash then

        if seen.status == 'want' then
            return take(mine, true)
        end

        if seen.status == 'evicted' and known >= entry.rev
           and mine.epoch >= content.epoch
        then
            return take(mine, true)
        end

        if seen.status == 'evicted' and mine.epoch == content.epoch then
            return take(content, true)
        end

        return 'stale', 'it was decided anew'
    end

    if not content or not is_seed(hash.seed) then
        return restore_broken(mine)
    end

    local earlier = is_earlier(ledger, known)
    local better = wanted(ledger, entry, known)
    local decided = entry.flag == 'f' and not better

    if mine.epoch == content.epoch and hash.seed ~= arg.seed then
        return restore_twin(mine, better)
    end

    if mine.epoch > content.epoch then

        if decided then
            return renumber(mine.epoch)
        end

        if not foreign() and entry.flag == 'o' and earlier then
            keep_rollback(mine)
        end

        return take(mine, true)
    end

    if foreign() then
        return 'foreign', FOREIGN
    end

    if mine.epoch < content.epoch
       and not (entry.flag == 'o' and earlier)
    then
        return 'stale', 'that epoch is over'
    end

    return restore_same(mine)
end


-- Who knew more and still is not followed must not be asked again.
local function restore()
    local result, why = restore_any()

    if result ~= 'ok' and entry and rev == seen.rev
       and wanted(ledger, entry, known)
    then
        rev = math.max(rev, known)
        ledger.rev = math.max(ledger.rev, rev)
        hash_note(ledger, key, rev, entry.flag, math.max(entry.origin, known),
                  content)
    end

    return result, why
end


local ALWAYS = { open = open, start = start, retry = retry, flip = flip,
                 restore = restore }

local function decide()
    if seen.status == 'type' or seen.status == 'bad' and hash.huge then
        return 'refused', 'the key in Redis holds something else'
    end

    if arg.op == 'flip' and (not hash and (not entry or entry.epoch)) then
        return 'stale', 'Redis has forgotten it'
    end

    if ALWAYS[arg.op] and (arg.op ~= 'flip' or content or not hash) then
        return ALWAYS[arg.op]()
    end

    if not hash then
        return 'refused', 'there is no rollout in Redis, use "start"'
    end

    if not content then
        return 'refused', 'the hash in Redis makes no sense, use "start"'
    end

    if seen.status == 'want' and arg.op ~= 'abort' then
        return 'stale', 'Redis has forgotten it'
    end

    if arg.op == 'advance' then
        return advance()
    end

    local result, why = stale()

    if result then
        return result, why
    end

    if not OPERATOR[arg.op] then
        return 'refused', 'there is no such action'
    end

    return OPERATOR[arg.op]()
end


local result, why = decide()

return commit(ledger) or { result, why, now, rev, hash_fields(hash) }

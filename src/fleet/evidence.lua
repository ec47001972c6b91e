-- Adds a node's totals to the fleet's and returns the sums.
--
-- Each node's totals stand in a field of its own and only grow, so a call
-- that is repeated, late or out of order changes nothing; "sum" follows by
-- the difference, and is added up anew where it is missing.
--
-- KEYS  evidence of one step, totals of the rollout
-- ARGV  field ("<node>:<boot>"), vector, lifetime vector, TTL of the first
--       in s
-- -> { now, sum, lifetime sum, number of nodes in the first }
--
-- A vector is "i:v i:v ...", index and value in decimal, without the zeros.
--

local VECTOR_MAX = 65536
local FIELDS_MAX = 4096

local call = redis.call
local clock = call('TIME')
local field = ARGV[1]

-- not there in the Redis of Debian 11
local json = rawget(_G, 'cjson')


-- An error or nil where it is no vector.  The detour through JSON takes a
-- third of the time of the loop.
local function numbers(s)
    if json then
        return json.decode('[' .. s:gsub('[ :]', ',') .. ']')
    end

    local list, length = {}, 0

    for i, v in s:gmatch('(%d+):(%d+)') do
        list[#list + 1] = tonumber(i)
        list[#list + 1] = tonumber(v)
        length = length + #i + #v + 2
    end

    if s:find('[^%d: ]') or s ~= '' and length ~= #s + 1 then
        return nil
    end

    return list
end


-- { i, v, i, v, ... }; nil where it is no vector.
local function parse(s)
    if type(s) ~= 'string' or #s > VECTOR_MAX then
        return nil
    end

    local ok, list = pcall(numbers, s)

    if not ok or not list or #list % 2 ~= 0 then
        return nil
    end

    for n = 1, #list do
        local v = list[n]

        if type(v) ~= 'number' or v < 0 or v % 1 ~= 0 then
            return nil
        end
    end

    return list
end


-- Not with "..", which would print 1e+14.
local function format(list)
    local pairs_ = {}

    for n = 1, #list, 2 do
        pairs_[(n + 1) / 2] = string.format('%d:%d', list[n], list[n + 1])
    end

    return table.concat(pairs_, ' ')
end


-- where the value of an index is
local function places(list)
    local at = {}

    for n = 1, #list, 2 do
        at[list[n]] = n + 1
    end

    return at
end


-- Adds what b has more than a to sum.  Whether b has everything that a has.
local function add(sum, b, a)
    local at, had = places(sum), places(a)
    local missed = #a / 2

    for n = 1, #b, 2 do
        local i, v = b[n], b[n + 1]
        local before = 0

        if had[i] then
            before = a[had[i]]
            missed = missed - 1
        end

        if v < before then
            missed = missed + 1

        elseif at[i] then
            sum[at[i]] = sum[at[i]] + v - before

        else
            sum[#sum + 1] = i
            sum[#sum + 1] = v - before
            at[i] = #sum
        end
    end

    return missed == 0
end


-- The greater of both, by index.
local function greater(a, b)
    local at = places(b)

    for n = 1, #a, 2 do
        local place = at[a[n]]

        if place then
            b[place] = math.max(b[place], a[n + 1])
        else
            b[#b + 1] = a[n]
            b[#b + 1] = a[n + 1]
        end
    end

    return b
end


-- The sum of all fields as they are.
local function recount(key)
    local sum = {}
    local all = call('HLEN', key) <= FIELDS_MAX and call('HGETALL', key) or {}

    for n = 1, #all, 2 do
        local list = all[n] ~= 'sum' and parse(all[n + 1])

        if list then
            add(sum, list, {})
        end
    end

    return sum
end


-- What is there, and what is new of the vector (nil: nothing, it is known).
local function look(key, vector)
    local have = call('HMGET', key, field, 'sum')
    local known = vector == '' or vector == have[1]

    return { key = key, vector = vector, text = have[1], sum = have[2],
             known = known, new = not known and parse(vector) }
end


local function merge(seen)
    local text, sum, vector = seen.text, seen.sum, seen.vector

    if seen.known then

        if not sum and call('HLEN', seen.key) > 0 then
            sum = format(recount(seen.key))
            call('HSET', seen.key, 'sum', sum)
        end

        return sum or ''
    end

    local old = parse(text)
    local total = (old or not text) and parse(sum) or recount(seen.key)

    -- a call that comes late takes nothing back

    if not add(total, seen.new, old or {}) then
        vector = format(greater(old, seen.new))
    end

    sum = format(total)
    call('HSET', seen.key, field, vector, 'sum', sum)

    return sum
end


local seen = {}

for i = 1, 2 do
    local kind = call('TYPE', KEYS[i]).ok

    if kind ~= 'none' and kind ~= 'hash' then
        return redis.error_reply('GATEWRONGTYPE ' .. KEYS[i])
    end

    seen[i] = look(KEYS[i], ARGV[i + 1])

    if not seen[i].known and not seen[i].new then
        return redis.error_reply('GATEVECTOR it is no vector')
    end
end

local sum, lifetime = merge(seen[1]), merge(seen[2])

-- a step that nobody adds to any more goes

if call('TTL', KEYS[1]) < ARGV[4] * 0.9 then
    call('EXPIRE', KEYS[1], ARGV[4])
end

return { clock[1] * 1000 + math.floor(clock[2] / 1000), sum, lifetime,
         math.max(call('HLEN', KEYS[1]) - 1, 0) }

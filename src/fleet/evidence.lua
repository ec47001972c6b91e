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


-- values by index, the indices in order; nil where it is no vector
local function parse(s)
    local values, order, len = {}, {}, 0

    for i, v in s:gmatch('(%d+):(%d+)') do
        if not values[i] then
            order[#order + 1] = i
        end

        values[i] = tonumber(v)
        len = len + #i + #v + 2
    end

    if len ~= (#s > 0 and #s + 1 or 0) then
        return nil
    end

    return values, order
end


local function format(values, order)
    local list = {}

    for n, i in ipairs(order) do
        list[n] = i .. ':' .. string.format('%.0f', values[i])
    end

    return table.concat(list, ' ')
end


-- Adds b, or what b has more than a; order is that of sum and grows.
local function add(sum, order, b, a)
    for i, v in pairs(b) do
        local more = v - (a and a[i] or 0)

        if not sum[i] then
            sum[i] = 0
            order[#order + 1] = i
        end

        sum[i] = sum[i] + more
    end
end


-- The sum of all fields as they are.
local function recount(key)
    local sum, order = {}, {}
    local all = {}

    if call('HLEN', key) <= FIELDS_MAX then
        all = call('HGETALL', key)
    end

    for n = 1, #all, 2 do
        local values = all[n] ~= 'sum' and parse(all[n + 1])

        if values then
            add(sum, order, values)
        end
    end

    return sum, order
end


local function merge(key, vector)
    local have = call('HMGET', key, field, 'sum')
    local old, sum = have[1], have[2]

    if vector == '' or vector == old then

        if sum then
            return sum
        end

        if not old and call('HLEN', key) == 0 then
            return ''
        end

        sum = format(recount(key))
        call('HSET', key, 'sum', sum)

        return sum
    end

    local new, order = parse(vector)
    local before = old and parse(old)

    for i, v in pairs(before or {}) do

        if not new[i] then
            order[#order + 1] = i
        end

        new[i] = math.max(new[i] or 0, v)
    end

    local total, indices = nil, nil

    if sum and (before or not old) then
        total, indices = parse(sum)
    end

    if total then
        add(total, indices, new, before)

    else
        -- ours as it is to be, instead of what is there

        total, indices = recount(key)

        if before then
            add(total, indices, new, before)
        else
            add(total, indices, new)
        end
    end

    sum = format(total, indices)
    call('HSET', key, field, format(new, order), 'sum', sum)

    return sum
end


for i = 1, 2 do
    local kind = call('TYPE', KEYS[i]).ok

    if kind ~= 'none' and kind ~= 'hash' then
        return redis.error_reply('GATEWRONGTYPE ' .. KEYS[i])
    end

    if #ARGV[i + 1] > VECTOR_MAX or not parse(ARGV[i + 1]) then
        return redis.error_reply('GATEVECTOR no vector')
    end
end

local sum = merge(KEYS[1], ARGV[2])
local lifetime = merge(KEYS[2], ARGV[3])

-- a step that nobody adds to any more goes

if call('TTL', KEYS[1]) < ARGV[4] * 0.9 then
    call('EXPIRE', KEYS[1], ARGV[4])
end

return { clock[1] * 1000 + math.floor(clock[2] / 1000), sum, lifetime,
         math.max(call('HLEN', KEYS[1]) - 1, 0) }

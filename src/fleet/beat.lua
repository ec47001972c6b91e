-- A sign of life, and who else gave one.
--
-- KEYS  nodes, seed
-- ARGV  field ("<node>:<boot>"), info (JSON), a seed in case there is none,
--       most nodes to return
-- -> { now, seed, number of nodes, { field, age in ms, info, ... } }, those
--    seen last first
--
-- A node is kept for an hour.
--

local KEEP = 3600 * 1000
local INFO_MAX = 512
local FIELDS_MAX = 1024         -- looked at in one call
local DROP_MAX = 64             -- forgotten in one call

local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local nodes, field = KEYS[1], ARGV[1]
local most = tonumber(ARGV[4])

for i, want in ipairs({ 'hash', 'string' }) do
    local kind = call('TYPE', KEYS[i]).ok

    if kind ~= 'none' and kind ~= want then
        return redis.error_reply('GATEWRONGTYPE ' .. KEYS[i])
    end
end

-- a seed that makes no sense would never be taken by anybody

local seed = call('STRLEN', KEYS[2]) == 32 and call('GET', KEYS[2])

if not seed or not seed:find('^%x+$') then
    seed = ARGV[3]
    call('SET', KEYS[2], seed)
end

call('HSET', nodes, field,
     string.format('%.0f ', now) .. ARGV[2]:sub(1, INFO_MAX))

local total = call('HLEN', nodes)
local all

if total <= FIELDS_MAX then
    all = call('HGETALL', nodes)
else
    all = call('HSCAN', nodes, 0, 'COUNT', FIELDS_MAX)[2]
end

local found, list, drop = {}, {}, {}

for i = 1, #all, 2 do
    local name, text = all[i], all[i + 1]
    local seen, info = text:match('^(%d+) (.*)$')

    seen = seen and #seen < 16 and tonumber(seen)

    -- a clock that went back makes no node a thing of the future for ever

    if not seen or #info > INFO_MAX or #name > INFO_MAX
       or math.abs(now - seen) > KEEP
    then
        if #drop < DROP_MAX then
            drop[#drop + 1] = name
        end

    else
        found[#found + 1] = { name, math.max(now - seen, 0), info }
    end
end

-- the living first: each restart of a node leaves a dead one for an hour

table.sort(found, function (a, b)
    return a[2] < b[2] or a[2] == b[2] and a[1] < b[1]
end)

for i = 1, math.min(#found, most) do
    for k = 1, 3 do
        list[#list + 1] = found[i][k]
    end
end

if #drop > 0 then
    call('HDEL', nodes, unpack(drop))
    total = total - #drop
end

return { now, seed, total, list }

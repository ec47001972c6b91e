--
-- Copyright (C) nginx-gate authors
--
-- The rates of single callers, as an operator keeps them in a hash.
--
-- KEYS  the hash, the ledger
-- ARGV  "read", the digest that the node knows, and where to go on; or
--       "restore" and all fields and values that the node holds
-- -> { "same", digest, number of fields }
--    { "page", digest, number of fields, where to go on or 0,
--      { field, value, .. } }
--    { "none" }, an operator has deleted it; { "gone" }, this Redis knows of
--    none: it may have been forgotten
--    { "type", what it is instead }, { "big", number of fields }
--    { "done" } or { "kept" }, restored, or there is no need to
--
-- The ledger's field "l:<key>" says that there was such a hash in the life of
-- this ledger: where both are gone, Redis has lost its memory; where only the
-- hash is, somebody deleted it.
--
-- A value that is longer than any that makes sense comes as an empty one,
-- which makes no sense either.
--

local MOST = 4096               -- fields, the first ones by name
local LOOK = 16384              -- beyond that nobody looks
local NAME_MAX = 1024
local VALUE_MAX = 128
local PAGE_FIELDS = 512
local PAGE_BYTES = 131072
local CHUNK = 1000              -- arguments of one command

local call, try = redis.call, redis.pcall
local hash, ledger, note = KEYS[1], KEYS[2], 'l:' .. KEYS[1]
local total = try('HLEN', hash)

if type(total) == 'table' then
    return { 'type', call('TYPE', hash).ok }
end

local noted = call('HGET', ledger, note)


if ARGV[1] == 'restore' then

    if total > 0 or noted then
        return { 'kept' }
    end

    for i = 2, #ARGV, CHUNK do
        call('HSET', hash, unpack(ARGV, i, math.min(i + CHUNK - 1, #ARGV)))
    end

    call('HSET', ledger, note, '-')

    return { 'done' }
end


if total == 0 then
    return { noted and 'none' or 'gone' }
end

if total > LOOK then
    return { 'big', total }
end

local names, values, asked = call('HKEYS', hash), {}, {}

if total > MOST then
    table.sort(names)
end

for i = 1, math.min(total, MOST) do
    local name = names[i]

    if #name > NAME_MAX or call('HSTRLEN', hash, name) > VALUE_MAX then
        values[name] = ''
        names[i] = name:sub(1, NAME_MAX)
    else
        asked[#asked + 1] = name
    end
end

for i = 1, #asked, CHUNK do
    local last = math.min(i + CHUNK - 1, #asked)
    local got = call('HMGET', hash, unpack(asked, i, last))

    for k = i, last do
        values[asked[k]] = got[k - i + 1]
    end
end

local list = {}

for i = 1, math.min(total, MOST) do
    list[i * 2 - 1] = names[i]
    list[i * 2] = values[names[i]] or ''
end

local digest = redis.sha1hex(total .. '\n' .. table.concat(list, '\n'))

if noted ~= digest then
    try('HSET', ledger, note, digest)
end

if digest == ARGV[2] then
    return { 'same', digest, total }
end

local at, bytes, page = tonumber(ARGV[3]), 0, {}

while at * 2 < #list and #page < PAGE_FIELDS * 2 and bytes < PAGE_BYTES do
    for k = 1, 2 do
        page[#page + 1] = list[at * 2 + k]
        bytes = bytes + #page[#page]
    end

    at = at + 1
end

return { 'page', digest, total, at * 2 < #list and at or 0, page }

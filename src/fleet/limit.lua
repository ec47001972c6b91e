-- include: tat
--
-- What a node has admitted since the last time, of many callers at once.
--
-- KEYS  number of the last batch of the node that was applied, budgets, each
--       another one
-- ARGV  number of this batch, id of the node, us of this clock when it was
--       sent as far as the node can tell (0: it cannot), number of nodes that
--       are alive, then one text with for each budget: units that were taken
--       (less than none: given back), interval in ns, capacity, and the debt
--       in ns as the node reckons it, less than none where it has been paid
--       for a while
-- -> { 1 if it was applied, 0 if it had been already, us of this clock, a text
--    with for each budget: debt in ns, less than none where it has been paid
--    for a while, and number of nodes that spend from it, 0 where there is
--    nothing (any more), -1 where the key holds something else }
--
-- The numbers in these texts are doubles, lowest byte first: arguments of
-- their own would be most of the work at both ends.
--
-- Debts merge without loss: the TAT becomes what is here and what was taken,
-- but at least what the node reckons, which restores it where it was lost.
-- It is only ever what it was at the sender: a batch that was on its way for
-- long, because Redis hung, makes nobody owe more.
--
-- Nobody owes more than two capacities and one for each node, which may have
-- admitted that before it heard of the others.
--
-- The number is written first.  Where that is refused nothing has happened,
-- and once something is written Redis lets the rest follow.
--

local ITEM, BYTES = '<dddd', 32
local SEQ_TTL = 86400           -- s
local SLOW = 1000000000         -- ns: an answer may take so long
local WAY_MAX = 60000000        -- us: more is a clock that was set

local keys, argv, items = KEYS, ARGV, ARGV[5]
local unpack_item, pack = struct.unpack, struct.pack
local seq, id = tonumber(argv[1]), argv[2]
local values = call('MGET', unpack(keys))
local other = {}
local there = 0

for i = 1, #keys do
    there = values[i] and there + 1 or there
end

-- MGET does not tell apart what is no string and what is not there

if there ~= call('EXISTS', unpack(keys)) then
    for i = 1, #keys do
        other[i] = not values[i] and call('TYPE', keys[i]).ok ~= 'none'
    end
end

if other[1] then
    return redis.error_reply('GATEWRONGTYPE ' .. keys[1])
end

local last = values[1] and values[1]:match('^%d+$')
local new = not last or seq > tonumber(last)

if new then
    call('SET', keys[1], argv[1], 'EX', SEQ_TTL)
end

local now_us = clock[1] * 1000000 + clock[2]
local way = now_us - argv[3]    -- that it took here at most

way = way > 0 and way <= WAY_MAX and way * 1000 or 0

local capacities = 2 + argv[4]
local owed = {}
local me = tat_spender(id)

for i = 2, #keys do
    local debt, nodes = 0, -1

    if not other[i] then
        local units, interval, capacity, reckoned =
            unpack_item(ITEM, items, (i - 2) * BYTES + 1)
        local others, mine

        debt, others, nodes, mine = tat_read(values[i], id, interval)

        if new then
            local most = capacities * interval * capacity + SLOW
            local told = reckoned - way

            debt = debt and debt + units * interval or told
            debt = debt > told and debt or told
            debt = debt < most and debt or most

            mine = units > 0 and me or mine

            tat_write(keys[i], debt, interval, mine .. others)
        end

        nodes = mine == '' and nodes or nodes + 1
        debt = debt or 0
    end

    owed[i - 1] = pack('<dd', debt, nodes)
end

return { new and 1 or 0, now_us, table.concat(owed) }

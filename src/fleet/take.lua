-- include: tat
--
-- A request asks for its part of several budgets at once: it gets all of
-- them, or none.
--
-- KEYS  budgets, each another one
-- ARGV  number of nodes that are alive, then for each key: id of the node
--       there, cost (0 asks how it stands), interval in ns, capacity, and the
--       debt in ns that the node remembers, or -1; it counts where Redis has
--       none
-- -> { 1 if it gets them, then for each key: 1 if it limits, debt in ns,
--    number of nodes that spend from it }
--
-- Nothing is written before everything has been read, and nothing at all
-- where it is refused.
--

local ARGS = 5

local argv, max, min = ARGV, math.max, math.min
local budgets = {}
local admitted = 1

for i = 1, #KEYS do
    local arg = i * ARGS - 3
    local id, cost = argv[arg], tonumber(argv[arg + 1])
    local interval, capacity = tonumber(argv[arg + 2]), tonumber(argv[arg + 3])
    local total = interval * capacity
    local text = try('GET', KEYS[i])

    if type(text) == 'table' then
        return redis.error_reply('GATEWRONGTYPE ' .. KEYS[i])
    end

    local debt, others, n = tat_read(text, id, interval)

    -- each node may have admitted a capacity before it heard of the others

    debt = max(debt or tonumber(argv[arg + 4]), 0)
    debt = min(debt, (2 + argv[1]) * total)

    local limited = cost > capacity or interval * cost > total - debt

    if limited then
        admitted = 0
    end

    budgets[i] = { limited = limited and 1 or 0, debt = debt, nodes = n + 1,
                   price = interval * cost, interval = interval,
                   spenders = tat_spender(id) .. others }
end

local reply = { admitted }

for i, b in ipairs(budgets) do

    if admitted == 1 and b.price > 0 then
        b.debt = b.debt + b.price
        tat_write(KEYS[i], b.debt, b.interval, b.spenders)
    end

    reply[#reply + 1] = b.limited
    reply[#reply + 1] = b.debt
    reply[#reply + 1] = b.nodes
end

return reply

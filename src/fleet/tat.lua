--
-- Copyright (C) nginx-gate authors
--
-- What the scripts for limits have in common; the build puts it in front of
-- them.
--
-- A caller's debt is a string: "<tat> <interval> <id>:<sec> <id>:<sec> ..".
-- tat is when it will be paid, in us of Redis's clock, with three decimals (a
-- third of a ms in whole us would be 0.1 % off); interval, in ns, is of the
-- rate that it was made at: who owes five requests owes five requests of
-- another rate.  Then who spent from it and when, nodes by the first eight
-- digits of their boot, in seconds of Redis's clock.  All parts have the same
-- length, as long as seconds have ten digits.  It goes KEEP after the debt is
-- paid.
--
-- Debts are ns, less than none where they have been paid for a while.  Of
-- them a double holds a hundred days without loss, and of times neither all
-- ns nor, where Redis has 32 bits, all us in an integer: they are taken apart.
--

local call, try = redis.call, redis.pcall
local sub, format, floor = string.sub, string.format, math.floor

local SPENT = 3                 -- s: who spent since then counts
local SPENDERS = 63
local PART = 20                 -- bytes of a spender
local TAT = 20                  -- bytes
local HEAD = TAT + 17           -- and of the interval
local INTERVAL = 1000           -- ns
local KEEP = 10000              -- ms

local clock = call('TIME')
local now_s, now_ns = tonumber(clock[1]), clock[2] * 1000

-- A clock that went back makes nobody a spender for ever.
local recent = setmetatable({}, { __index = function (known, sec)
    local s = tonumber(sec)

    known[sec] = s and s >= now_s - SPENT and s <= now_s + SPENT or false

    return known[sec]
end })


-- Of the spenders in a text: all but that node, and how many they are; and
-- that node, or nothing.
local function tat_spenders(rest, node)
    local others, n, mine, from = '', 0, '', 1

    for at = 1, PART * SPENDERS, PART do
        local sec = sub(rest, at + 10, at + PART - 1)

        if sec == '' then
            break
        end

        if not recent[sec] or sub(rest, at + 1, at + 8) == node then
            others = others .. sub(rest, from, at - 1)
            from = at + PART

            if recent[sec] then
                mine = sub(rest, at, from - 1)
            end

        else
            n = n + 1
        end
    end

    return others .. sub(rest, from, PART * SPENDERS), n, mine
end


-- Of a value, which may be any text or false: the debt at that interval, nil
-- where there is none, and the spenders, as above.
local function tat_read(text, node, interval)
    local s, us, made

    if text and sub(text, 17, 17) == '.' then
        s, us = tonumber(sub(text, 1, 10)), tonumber(sub(text, 11, TAT))
        made = tonumber(sub(text, TAT + 2, HEAD))
    end

    -- a text that is none of ours is written anew

    if not s or not us or not made or not (made >= 1) then
        return nil, '', 0, ''
    end

    local debt = (s - now_s) * 1000000000 + floor(us * 1000 + 0.5) - now_ns
    local rest = sub(text, HEAD + 1)

    -- the whole of it: nodes that hear of a rate one after the other must not
    -- lose something each time; less than INTERVAL is said where a node does
    -- not know its rate

    if made ~= interval and debt > 0 and made >= INTERVAL
       and interval >= INTERVAL
    then
        debt = floor(debt / made * interval)
    end

    -- a lone spender is most of what there is

    if #rest == PART and sub(rest, 2, 9) == node then
        return debt, '', 0, recent[sub(rest, 11)] and rest or ''
    end

    return debt, tat_spenders(rest, node)
end


-- This is the debt now, at that interval, and these are the spenders.
local function tat_write(key, debt, interval, spenders)
    local ns = debt + now_ns
    local s = floor(ns / 1000000000)

    ns = ns - s * 1000000000

    local us = floor(ns / 1000)

    call('SET', key, format('%d%06d.%03d %016.0f%s', now_s + s, us,
                            ns - us * 1000, interval, spenders),
         'PX', debt < 1000000 and KEEP or floor(debt / 1000000) + KEEP)
end


-- That node, spending now.
local function tat_spender(node)
    return ' ' .. node .. ':' .. clock[1]
end

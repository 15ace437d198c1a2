-- Takes slots that all processes share, keeps them, and gives them back. One atomic step. The rule is that of store/slots.rs.
--
-- KEYS[1] slots   hash   by the names of processes: "<held>:<wanted>:<milliseconds since 1970 of its end>"
-- ARGV[1] the asker   ARGV[2] how many it could use   ARGV[3] how many it takes at most   ARGV[4] how many there are
-- ARGV[5] for how many milliseconds   ARGV[6] the channel for the news
-- Returns {held, how many are free after this, share, how many processes want some, 1 if others want}.

local time = redis.call('TIME')
local clock = time[1] * 1000 + math.floor(time[2] / 1000)

-- Nothing of another kind, and no more than processes write.
local there = redis.call('TYPE', KEYS[1]).ok
if there ~= 'none' and (there ~= 'hash' or redis.call('HLEN', KEYS[1]) > 4096) then
  redis.call('UNLINK', KEYS[1])
end

local all = redis.call('HGETALL', KEYS[1])
local before, taken = 0, 0
local others = {}
for at = 1, #all, 2 do
  local text = #all[at + 1] <= 64 and all[at + 1] or ''
  local held, wanted, ends = string.match(text, '^(%d+):(%d+):(%d+)$')
  -- Past, unreadable, or longer than any process holds a slot: taken away.
  if not ends or #ends > 15 or tonumber(ends) <= clock or tonumber(ends) > clock + 61000 then
    redis.call('HDEL', KEYS[1], all[at])
  elseif all[at] == ARGV[1] then
    before = tonumber(held)
  else
    taken = taken + tonumber(held)
    others[#others + 1] = {tonumber(held), tonumber(wanted)}
  end
end

local wanted = tonumber(ARGV[2])
local slots = tonumber(ARGV[4])
local owners = #others + (wanted > 0 and 1 or 0)
local share = math.floor(slots / math.max(owners, 1))
local others_want = 0
for _, other in ipairs(others) do
  if other[1] < other[2] and other[1] < math.max(share, 1) then
    others_want = 1
  end
end

local left = math.max(slots - taken, 0)
local held = math.min(wanted, tonumber(ARGV[3]), left)
if wanted > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f:%.0f:%.0f', held, wanted, clock + ARGV[5]))
  redis.call('PEXPIRE', KEYS[1], math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[5])))
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end

-- Last: whoever hears it finds the slots free.
if held < before and others_want == 1 then
  redis.call('PUBLISH', ARGV[6], 'slots')
end
return {held, left - held, share, owners, others_want}

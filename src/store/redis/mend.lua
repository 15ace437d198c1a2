-- What each script begins with: the keys, the clock, and what no process can have written is taken away. Whoever may
-- write to Redis may have put anything in the place of anything.
--
-- KEYS[1] token   hash    id, fence, value; expires with the token
-- KEYS[2] lease   string  "<owner>:<fence>:<value>"; expires with the lease
-- KEYS[3] pause   string  a value; expires some time after the pause
-- KEYS[4] state   hash    fence: the greatest one that was given
-- KEYS[5] marks   hash    by the names of credentials: "<milliseconds since 1970>:<value>", at most 8
-- The values are sealed by the processes. Nothing here reads them.

local time = redis.call('TIME')
-- Milliseconds stay exact in Lua's numbers for 280,000 years.
local clock = time[1] * 1000 + math.floor(time[2] / 1000)
local mended = 0

local function take_away(key)
  redis.call('UNLINK', key)
  mended = mended + 1
end

-- Nothing of another kind, and nothing larger than a process writes: `size` of it is at most `most`.
local function expect(key, kind, size, most)
  local there = redis.call('TYPE', key).ok
  if there ~= 'none' and (there ~= kind or redis.call(size, key) > most) then
    take_away(key)
  end
end

expect(KEYS[1], 'hash', 'HLEN', 3)
expect(KEYS[2], 'string', 'STRLEN', 1024)
expect(KEYS[3], 'string', 'STRLEN', 1024)
expect(KEYS[4], 'hash', 'HLEN', 1)
expect(KEYS[5], 'hash', 'HLEN', 8)
if redis.call('HSTRLEN', KEYS[1], 'value') > 131072 or redis.call('HSTRLEN', KEYS[1], 'id') > 64 then
  take_away(KEYS[1])
end

-- The fence that a hash holds, or 0. One that is no whole number, or more than an hour ahead of the clock, would stop
-- all who come after it: it is taken away, and what it stands with.
local function fence_in(key)
  local length = redis.call('HSTRLEN', key, 'fence')
  if length == 0 then
    return 0
  end
  local fence = length <= 15 and redis.call('HGET', key, 'fence') or 'too long'
  if not string.find(fence, '^%d+$') or tonumber(fence) > clock + 3600000 then
    take_away(key)
    return 0
  end
  return tonumber(fence)
end

local newest = fence_in(KEYS[1])
local last = fence_in(KEYS[4])

-- Whether the lease is the one that begins with this, "<owner>:<fence>:".
local function is_held_by(name)
  local held = redis.call('GET', KEYS[2])
  return held and string.sub(held, 1, #name) == name
end

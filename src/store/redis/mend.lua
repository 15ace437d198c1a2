-- The beginning of each script: the keys, the clock, and the deletion of values that no process can have written. A writer
-- to Redis may have replaced any value by any other.
--
-- KEYS[1] token   hash    id, fence, value; expires with the token
-- KEYS[2] lease   string  "<owner>:<fence>:<value>"; expires with the lease
-- KEYS[3] pause   string  a value; expires some time after the pause
-- KEYS[4] state   hash    fence: the greatest one that was given out
-- KEYS[5] marks   hash    by the names of credentials: "<milliseconds since 1970>:<value>", at most 8
-- KEYS[6] waiting hash    by the names of processes that wait for the lease's end: "<milliseconds since 1970>:<the name of its
--                         credential>". At this time the process looks again, or is gone. At most 64
-- The processes seal the values. The scripts do not read them.

local time = redis.call('TIME')
-- Milliseconds stay exact in Lua's numbers for 280,000 years.
local clock = time[1] * 1000 + math.floor(time[2] / 1000)
local mended = 0

local function take_away(key)
  redis.call('UNLINK', key)
  mended = mended + 1
end

-- Deletes a value of another kind, or one that is larger than a process writes: its `size` is at most `most`.
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
expect(KEYS[6], 'hash', 'HLEN', 64)
if redis.call('HSTRLEN', KEYS[1], 'value') > 131072 or redis.call('HSTRLEN', KEYS[1], 'id') > 64 then
  take_away(KEYS[1])
end

-- The fence in a hash, or 0. A fence that is not a whole number, or more than an hour ahead of the clock, would block
-- all later processes: it is deleted, together with its hash.
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

-- Whether the lease begins with this, "<owner>:<fence>:".
local function is_held_by(name)
  local held = redis.call('GET', KEYS[2])
  return held and string.sub(held, 1, #name) == name
end

-- The processes that still wait, each {name, credential}. The others are deleted.
local function still_waiting()
  local all = redis.call('HGETALL', KEYS[6])
  local waiting = {}
  for at = 1, #all, 2 do
    local ends, mark = string.match(all[at + 1], '^(%d+):(.*)$')
    local is_near = ends and #ends <= 15 and tonumber(ends) > clock and tonumber(ends) <= clock + 61000
    if is_near and #all[at] <= 32 then
      waiting[#waiting + 1] = {all[at], mark}
    else
      redis.call('HDEL', KEYS[6], all[at])
    end
  end
  return waiting
end

-- The lease has ended without a token. Only one of the waiting processes can get it, so not all of them are woken: four,
-- and first those with another credential than the failed one. The others look when the lease that they saw has run out.
-- If no process has stored its name, all listeners are woken.
local function wake_some(channel, mark)
  local waiting = still_waiting()
  local names = {}
  for _, has_another in ipairs({true, false}) do
    for _, one in ipairs(waiting) do
      if #names < 4 and (one[2] ~= mark) == has_another then
        names[#names + 1] = one[1]
      end
    end
  end
  if #names > 0 then
    redis.call('HDEL', KEYS[6], unpack(names))
  end
  redis.call('PUBLISH', channel, 'failed ' .. table.concat(names, ' '))
end

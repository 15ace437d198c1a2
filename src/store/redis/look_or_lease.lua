-- Looks for a token, and takes the lease if there is none. One atomic step: no token can come in between.
--
-- KEYS[1] token   hash  id, fence, value; expires with the token
-- KEYS[2] lease   string  "<owner>:<fence>"; expires with the lease
-- KEYS[3] pause   string  "t" (terminal) or "r" (transient); expires with the pause after a failed refresh
-- KEYS[4] state   hash  fence (the last one given), streak (failures in a row)
-- ARGV[1] owner   ARGV[2] the lease's milliseconds   ARGV[3] the id of the refused token, or ""
-- ARGV[4] "1": the refused token is no good for anybody
-- ARGV[5] the channel for the news, where ARGV[2] is "0"
--
-- Returns {"found", id, value, ms} or {"paused", kind, ms} or {"taken", ms} or {"leased", fence} or {"free"}.

-- The fence of the lease, if the asker has it.
local function fence_of_mine()
  local held = redis.call('GET', KEYS[2]) or ''
  local fence = string.match(held, '%d+$')
  return fence and held == ARGV[1] .. ':' .. fence and fence
end

-- "0" for the lease's time: the owner did not hear what became of an earlier ask, and gives back what it got.
if ARGV[2] == '0' then
  if fence_of_mine() then
    redis.call('DEL', KEYS[2])
    redis.call('PUBLISH', ARGV[5], 'free')
  end
  return {'free'}
end

-- What is there? A token without an end (somebody's PERSIST) has an unknown one, so it counts as ended.
local token = redis.call('HMGET', KEYS[1], 'id', 'value')
if token[1] and token[1] ~= ARGV[3] then
  return {'found', token[1], token[2], math.max(redis.call('PTTL', KEYS[1]), 0)}
end

-- It is the refused one, and the API rejected it: nobody else shall find it.
if token[1] and ARGV[4] == '1' then
  redis.call('DEL', KEYS[1])
end

-- A refresh has just failed: the whole fleet leaves the auth server alone. A pause without an end is none.
local left = redis.call('PTTL', KEYS[3])
if left > 0 then
  return {'paused', redis.call('GET', KEYS[3]), left}
end

-- Somebody is at it. A lease without an end would block everybody for ever, so it counts as free.
left = redis.call('PTTL', KEYS[2])
if left >= 0 then
  -- The asker itself: the answer to its first try was lost on the way. The lease begins anew, under the same fence.
  local fence = fence_of_mine()
  if fence then
    redis.call('PEXPIRE', KEYS[2], ARGV[2])
    return {'leased', fence}
  end
  return {'taken', left}
elseif left == -1 then
  redis.call('DEL', KEYS[2])
end

-- The fence: greater than the last one, and not below the server's clock, so that it goes on growing when the
-- state was lost. Milliseconds stay exact in Lua's numbers for 280,000 years.
local time = redis.call('TIME')
local clock = time[1] * 1000 + math.floor(time[2] / 1000)
local fence = math.max(tonumber(redis.call('HGET', KEYS[4], 'fence') or 0) + 1, clock)
local written = string.format('%.0f', fence)
redis.call('HSET', KEYS[4], 'fence', written)

-- What is left behind by a configuration that nobody uses any more goes away after a day.
redis.call('PEXPIRE', KEYS[4], 86400000)

-- The lease is free, as seen above in this same step. NX says so a second time.
redis.call('SET', KEYS[2], ARGV[1] .. ':' .. written, 'NX', 'PX', ARGV[2])
return {'leased', written}

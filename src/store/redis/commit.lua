-- Puts a token in place, if the lease is still the caller's, or was lost and nobody has had one since.
-- KEYS: see mend.lua.
--
-- ARGV[1] the lease's name   ARGV[2] owner, the token's id from now on   ARGV[3] fence
-- ARGV[4] the value   ARGV[5] how many milliseconds it lasts   ARGV[6] the channel for the news
-- ARGV[7] the name of the caller's credential
-- Returns 1, or 0: refused.

-- This very commit has been carried out, and its answer was lost on the way: it is asked for a second time.
local there = redis.call('HMGET', KEYS[1], 'id', 'fence')
if there[1] == ARGV[2] and there[2] == ARGV[3] then
  return 1
end

-- Whoever comes late has lost the lease to another owner.
local fence = tonumber(ARGV[3])
local is_free = not redis.call('GET', KEYS[2]) and (last == 0 or last == fence)
if not is_free and not is_held_by(ARGV[1]) then
  return 0
end

-- A failover can bring a lease back that had been replaced. The fence tells: nothing older than what is there.
if newest >= fence then
  return 0
end

-- The new token instead of the old one, with an end, always.
redis.call('UNLINK', KEYS[1])
redis.call('HSET', KEYS[1], 'id', ARGV[2], 'fence', ARGV[3], 'value', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])

-- The refresh is over, and so is the trouble, if there was any.
redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[6])
redis.call('HDEL', KEYS[5], ARGV[7])

-- Last, so that whoever hears it finds all of the above done.
redis.call('PUBLISH', ARGV[6], 'token')
return 1

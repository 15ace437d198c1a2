-- Stores a token, if the lease is still the caller's, or was lost and no other lease was given out since.
-- KEYS: see mend.lua.
--
-- ARGV[1] the lease's name   ARGV[2] owner, the token's id from now on   ARGV[3] fence
-- ARGV[4] the value   ARGV[5] how many milliseconds it lasts   ARGV[6] the channel for the news
-- ARGV[7] the name of the caller's credential
-- Returns 1, or 0: refused.

-- This very commit has been carried out, and its answer was lost: this is the second request.
local there = redis.call('HMGET', KEYS[1], 'id', 'fence')
if there[1] == ARGV[2] and there[2] == ARGV[3] then
  return 1
end

-- A late caller has lost the lease to another owner.
local fence = tonumber(ARGV[3])
local is_free = not redis.call('GET', KEYS[2]) and (last == 0 or last == fence)
if not is_free and not is_held_by(ARGV[1]) then
  return 0
end

-- A failover can bring back a lease that had been replaced. The fence shows it: no token older than the present one.
if newest >= fence then
  return 0
end

-- The new token replaces the old one. It always has an expiry.
redis.call('UNLINK', KEYS[1])
redis.call('HSET', KEYS[1], 'id', ARGV[2], 'fence', ARGV[3], 'value', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])

-- The refresh is over, and with it any earlier pause or mark.
redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[6])
redis.call('HDEL', KEYS[5], ARGV[7])

-- Last, so that a process that gets the news finds all of the above done.
redis.call('PUBLISH', ARGV[6], 'token')
return 1

-- Puts a token in place, if the lease is still the caller's.
--
-- KEYS[1] token   KEYS[2] lease   KEYS[3] pause   KEYS[4] state
-- ARGV[1] "<owner>:<fence>"   ARGV[2] owner, the token's id from now on   ARGV[3] fence
-- ARGV[4] the value   ARGV[5] how many milliseconds it lasts   ARGV[6] the channel for the news
-- Returns 1, or 0: refused.

-- This very commit has been carried out, and its answer was lost on the way: it is asked for a second time.
local there = redis.call('HMGET', KEYS[1], 'id', 'fence')
if there[1] == ARGV[2] and there[2] == ARGV[3] then
  return 1
end

-- Whoever comes late has lost the lease, to its end or to another owner.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end

-- A failover can bring a lease back that had been replaced. The fence tells: nothing older than what is there.
if there[2] and tonumber(there[2]) > tonumber(ARGV[3]) then
  return 0
end

-- The new token instead of the old one, with an end, always.
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'id', ARGV[2], 'fence', ARGV[3], 'value', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])

-- The refresh is over, and so is the trouble, if there was any.
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('HDEL', KEYS[4], 'streak')

-- Last, so that whoever hears it finds all of the above done.
redis.call('PUBLISH', ARGV[6], 'token')
return 1

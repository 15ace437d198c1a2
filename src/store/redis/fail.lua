-- Ends a refresh that failed, and begins a pause for the whole fleet, if the lease is still the caller's.
--
-- KEYS[1] lease   KEYS[2] pause   KEYS[3] state
-- ARGV[1] "<owner>:<fence>"   ARGV[2] "t" (terminal) or "r" (transient)
-- ARGV[3] the least pause (Retry-After)   ARGV[4] the first pause   ARGV[5] the longest: all in milliseconds
-- ARGV[6] the channel for the news
-- Returns 1, or 0: the lease is not the caller's, and nothing was done.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])

-- The pause doubles with each failure in a row, up to the longest; the server's own Retry-After counts if it is longer.
local streak = redis.call('HINCRBY', KEYS[3], 'streak', 1)
redis.call('PEXPIRE', KEYS[3], 86400000)
local pause = math.min(ARGV[4] * 2 ^ math.min(streak - 1, 31), tonumber(ARGV[5]))
pause = math.max(pause, tonumber(ARGV[3]))
if pause >= 1 then
  redis.call('SET', KEYS[2], ARGV[2], 'PX', string.format('%.0f', pause))
end

-- Last: those who wait hear of the failure at once, instead of waiting for a lease that has ended.
redis.call('PUBLISH', ARGV[6], 'failed')
return 1

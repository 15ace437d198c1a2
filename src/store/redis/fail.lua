-- Ends a refresh that failed, if the lease is still the caller's, and stores the record of the failure.
-- KEYS: see mend.lua.
--
-- ARGV[1] the lease's name   ARGV[2] the pause for all processes   ARGV[3] how many milliseconds it is kept; 0: none
-- ARGV[4] the name of the caller's credential   ARGV[5] its mark   ARGV[6] how many milliseconds it is kept; 0: none
-- ARGV[7] the channel for the news
-- Returns 1, or 0: the lease is not the caller's, and nothing was done.

if not is_held_by(ARGV[1]) then
  return 0
end
redis.call('UNLINK', KEYS[2])

if ARGV[3] ~= '0' then
  redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
end

if ARGV[6] ~= '0' then
  -- The mark that ends first is dropped.
  local names = redis.call('HKEYS', KEYS[5])
  if #names >= 8 and not redis.call('HGET', KEYS[5], ARGV[4]) then
    local first, earliest
    for _, name in ipairs(names) do
      local mark = redis.call('HSTRLEN', KEYS[5], name) <= 1024 and redis.call('HGET', KEYS[5], name) or ''
      local ends = tonumber(string.match(mark, '^%d+') or 0)
      if not first or ends < earliest then
        first, earliest = name, ends
      end
    end
    redis.call('HDEL', KEYS[5], first)
  end
  redis.call('HSET', KEYS[5], ARGV[4], string.format('%.0f:', clock + ARGV[6]) .. ARGV[5])
  redis.call('PEXPIRE', KEYS[5], math.max(redis.call('PTTL', KEYS[5]), tonumber(ARGV[6])))
end

-- Last: a process that gets the news finds all of the above done. A pause is news for all processes: they need not
-- wait for a lease that has ended.
if ARGV[3] ~= '0' then
  redis.call('PUBLISH', ARGV[7], 'failed')
else
  wake_some(ARGV[7], ARGV[4])
end
return 1

-- Makes the lease last longer, if it is still the caller's. A lease that ran out stays lost: another process
-- may have had it in between. KEYS: see mend.lua.
--
-- ARGV[1] the lease's name   ARGV[2] its value from now on   ARGV[3] milliseconds from now
-- Returns 1, or 0: the lease is not the caller's.

if is_held_by(ARGV[1]) then
  redis.call('SET', KEYS[2], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
  return 1
end
return 0

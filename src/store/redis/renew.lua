-- Makes the lease last longer, if it is still the caller's. A lease that ran out stays lost: somebody else may
-- have had it in between.
--
-- KEYS[1] lease   ARGV[1] "<owner>:<fence>"   ARGV[2] milliseconds from now
-- Returns 1, or 0: it is not the caller's.

if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0

-- Takes a lock, renews it, or gives it back.
--
-- KEYS[1]: the lock. ARGV[1]: the owner. ARGV[2]: its time in milliseconds; 0 gives it back.
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'table' then
  -- A value that no process of this crate has written.
  redis.call('UNLINK', KEYS[1])
  held = false
end
if held and held ~= ARGV[1] then
  -- A lock without an expiry, or with one that no process has set, would be held for ever.
  local left = redis.call('PTTL', KEYS[1])
  if ARGV[2] == '0' or (left >= 0 and left <= 60000) then
    return 0
  end
end
if ARGV[2] == '0' then
  redis.call('UNLINK', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1

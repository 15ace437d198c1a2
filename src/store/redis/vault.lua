-- Replaces the expected value of a vault by a new one, in one step. The value has no expiry.
--
-- KEYS[1] vault   string  a record, sealed by a process
-- ARGV[1] the SHA-1 of the expected value, or '' for none   ARGV[2] the new value
-- Returns {1}, or {0} and the present value. Two values are never the same bytes, because each is sealed with a random nonce.

local there = redis.call('GET', KEYS[1])
-- The answer to an earlier try was lost.
if there == ARGV[2] then
  return {1}
end
if (there and redis.sha1hex(there) or '') ~= ARGV[1] then
  return {0, there}
end
redis.call('SET', KEYS[1], ARGV[2])
return {1}

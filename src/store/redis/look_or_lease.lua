-- Looks for the present state, and takes the lease if nothing prevents it. One atomic step: no token can come in between.
-- KEYS: see mend.lua.
--
-- ARGV[1] the lease's name, "<owner>:<fence>:", or ""   ARGV[2] its value   ARGV[3] its fence   ARGV[4] its milliseconds
-- ARGV[5] the id of the refused token, or ""   ARGV[6] "1": the refused token is useless for all processes
-- ARGV[7] the name of the caller's credential   ARGV[8] the channel for the news   ARGV[9] the caller's process
-- ARGV[10] the number of following values that are ignored; after them come those that are deleted
--
-- Returns {"mended", number} or {"found", id, fence, value, ms} or {"paused", value, ms, clock} or
-- {"taken", value, ms, clock} or {"leased"} or {"free", clock, fence}.

-- "0" for the lease's time: the caller got no answer to an earlier request, and gives back the lease that it may have.
if ARGV[4] == '0' then
  if ARGV[1] ~= '' and is_held_by(ARGV[1]) then
    redis.call('UNLINK', KEYS[2])
    wake_some(ARGV[8], '')
  end
  return {'leased'}
end

if mended > 0 then
  return {'mended', mended}
end

local passed = {}
local void = {}
for at = 11, #ARGV do
  if at < 11 + ARGV[10] then
    passed[ARGV[at]] = true
  else
    void[ARGV[at]] = true
  end
end

-- Milliseconds as a whole number: Lua would write a large number in another form.
local function whole(number)
  return string.format('%.0f', number)
end

-- How long a key is kept. A key without an expiry is kept for ever. The sealed value in it has its own end.
local function left(key)
  local time = redis.call('PTTL', key)
  return time == -1 and '4503599627370496' or whole(math.max(time, 0))
end

-- The present state. A token without an expiry (after a PERSIST) has an unknown end, so it counts as ended.
local token = redis.call('HMGET', KEYS[1], 'id', 'fence', 'value')
if token[1] and token[2] and token[3] and token[1] ~= ARGV[5] then
  return {'found', token[1], token[2], token[3], whole(math.max(redis.call('PTTL', KEYS[1]), 0))}
end

-- It is the refused token, and compromised: no other process must find it.
if token[1] and ARGV[6] == '1' then
  redis.call('UNLINK', KEYS[1])
end

-- A refresh has just failed: the whole fleet does not call the auth server.
local pause = redis.call('GET', KEYS[3])
if pause and void[pause] then
  redis.call('UNLINK', KEYS[3])
elseif pause and not passed[pause] then
  return {'paused', pause, left(KEYS[3]), whole(clock)}
end

-- Or only the processes with the refused credential do not call it.
local mark = redis.call('HSTRLEN', KEYS[5], ARGV[7]) <= 1024 and redis.call('HGET', KEYS[5], ARGV[7]) or ''
if mark ~= '' then
  local ends, value = string.match(mark, '^(%d+):(.*)$')
  local time = ends and #ends <= 15 and tonumber(ends) - clock or 0
  if not value or time <= 0 or void[value] then
    redis.call('HDEL', KEYS[5], ARGV[7])
  elseif not passed[value] then
    return {'paused', value, whole(time), whole(clock)}
  end
end

-- Another process has the lease.
local held = redis.call('GET', KEYS[2])
if held then
  -- The caller itself: the answer to its first try was lost. The lease begins anew.
  if ARGV[1] ~= '' and is_held_by(ARGV[1]) then
    redis.call('PEXPIRE', KEYS[2], ARGV[4])
    return {'leased'}
  end
  local value = string.match(held, '^[^:]*:%d*:(.*)$') or held
  if void[value] then
    redis.call('UNLINK', KEYS[2])
  elseif not passed[value] then
    local time = left(KEYS[2])
    if redis.call('HLEN', KEYS[6]) < 64 or redis.call('HGET', KEYS[6], ARGV[9]) or #still_waiting() < 64 then
      -- The process looks again at the lease's end. The second is for its way.
      redis.call('HSET', KEYS[6], ARGV[9], whole(clock + math.min(time, 60000) + 1000) .. ':' .. ARGV[7])
      redis.call('PEXPIRE', KEYS[6], 61000)
    end
    return {'taken', value, time, whole(clock)}
  end
end

-- The lease is free, and the caller may have it if its fence is greater than all earlier ones.
local greatest = math.max(last, newest)
if ARGV[1] == '' or tonumber(ARGV[3]) <= greatest or tonumber(ARGV[3]) > clock + 3600000 then
  return {'free', whole(clock), whole(greatest)}
end
redis.call('SET', KEYS[2], ARGV[1] .. ARGV[2], 'PX', ARGV[4])
redis.call('HSET', KEYS[4], 'fence', ARGV[3])
-- The values of an unused configuration expire after a day.
redis.call('PEXPIRE', KEYS[4], 86400000)
return {'leased'}

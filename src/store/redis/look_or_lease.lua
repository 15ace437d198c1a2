-- Looks what is there, and takes the lease if nothing stands against it. One atomic step: no token can come in between.
-- KEYS: see mend.lua.
--
-- ARGV[1] the lease's name, "<owner>:<fence>:", or ""   ARGV[2] its value   ARGV[3] its fence   ARGV[4] its milliseconds
-- ARGV[5] the id of the refused token, or ""   ARGV[6] "1": the refused token is no good for anybody
-- ARGV[7] the name of the asker's credential   ARGV[8] the channel for the news   ARGV[9] the asker's process
-- ARGV[10] so many values follow that are not minded, and after them those that are taken away
--
-- Returns {"mended", number} or {"found", id, fence, value, ms} or {"paused", value, ms, clock} or
-- {"taken", value, ms, clock} or {"leased"} or {"free", clock, fence}.

-- "0" for the lease's time: the asker did not hear what became of an earlier ask, and gives back what it got.
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

-- Milliseconds as a whole number: Lua would write a large one in another way.
local function whole(number)
  return string.format('%.0f', number)
end

-- How long a key is kept. One without an end is kept for ever; what is sealed in it says when it is over.
local function left(key)
  local time = redis.call('PTTL', key)
  return time == -1 and '4503599627370496' or whole(math.max(time, 0))
end

-- What is there? A token without an end (somebody's PERSIST) has an unknown one, so it counts as ended.
local token = redis.call('HMGET', KEYS[1], 'id', 'fence', 'value')
if token[1] and token[2] and token[3] and token[1] ~= ARGV[5] then
  return {'found', token[1], token[2], token[3], whole(math.max(redis.call('PTTL', KEYS[1]), 0))}
end

-- It is the refused one, and compromised: nobody else shall find it.
if token[1] and ARGV[6] == '1' then
  redis.call('UNLINK', KEYS[1])
end

-- A refresh has just failed: the whole fleet leaves the auth server alone.
local pause = redis.call('GET', KEYS[3])
if pause and void[pause] then
  redis.call('UNLINK', KEYS[3])
elseif pause and not passed[pause] then
  return {'paused', pause, left(KEYS[3]), whole(clock)}
end

-- Or those leave it alone whose credential was refused.
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

-- Somebody is at it.
local held = redis.call('GET', KEYS[2])
if held then
  -- The asker itself: the answer to its first try was lost on the way. The lease begins anew.
  if ARGV[1] ~= '' and is_held_by(ARGV[1]) then
    redis.call('PEXPIRE', KEYS[2], ARGV[4])
    return {'leased'}
  end
  local value = string.match(held, '^[^:]*:%d*:(.*)$') or held
  if void[value] then
    redis.call('UNLINK', KEYS[2])
  elseif not passed[value] then
    if redis.call('HLEN', KEYS[6]) < 64 then
      redis.call('HSET', KEYS[6], ARGV[9], ARGV[7])
      redis.call('PEXPIRE', KEYS[6], 60000)
    end
    return {'taken', value, left(KEYS[2]), whole(clock)}
  end
end

-- The lease is free, and the asker may have it if its fence is greater than all before.
local greatest = math.max(last, newest)
if ARGV[1] == '' or tonumber(ARGV[3]) <= greatest or tonumber(ARGV[3]) > clock + 3600000 then
  return {'free', whole(clock), whole(greatest)}
end
redis.call('SET', KEYS[2], ARGV[1] .. ARGV[2], 'PX', ARGV[4])
redis.call('HSET', KEYS[4], 'fence', ARGV[3])
-- What is left behind by a configuration that nobody uses any more goes away after a day.
redis.call('PEXPIRE', KEYS[4], 86400000)
return {'leased'}

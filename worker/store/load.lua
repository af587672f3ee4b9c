#!lua flags=no-writes
-- KEYS: one a user. Returns position and state of each in turn, nil where there is none.
-- A script, because the client packs one command faster than one a user.
local out = {}
for i = 1, #KEYS do
  local user = redis.call('HMGET', KEYS[i], 'p', 's')
  out[2 * i - 1], out[2 * i] = user[1], user[2]
end
return out

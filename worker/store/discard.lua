#!lua
-- Removes users of a space that nobody has served for long, in one shard.
-- KEYS: the shard's watermarks, then one a user. Where watermarks stand again somebody is filling the space anew, and
-- they say that what was applied is there: nothing is removed then. Returns how many users were removed, or -1.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return -1
end
return redis.call('UNLINK', unpack(KEYS, 2))

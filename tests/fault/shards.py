"""Copies of what Redis holds, to be put back later: a shard, or a whole server, that lost its last writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import redis

ONE_SHARD: Final = "kindred:*{s02}*"
EVERYTHING: Final = "kindred:*"

_COPY: Final = """
local out = {}
for i, key in ipairs(redis.call('KEYS', ARGV[1])) do
  out[2 * i - 1], out[2 * i] = key, redis.call('DUMP', key)
end
return out
"""
_PUT_BACK: Final = """
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end
for i = 2, #ARGV, 2 do redis.call('RESTORE', ARGV[i], 0, ARGV[i + 1]) end
"""


@dataclass(frozen=True, slots=True)
class Copy:
    """All keys that match a pattern, as they were at one moment (without their time to live)."""

    pattern: str
    keys_and_dumps: list[bytes]

    @classmethod
    def of(cls, client: redis.Redis, pattern: str) -> Copy:
        found: Any = client.eval(_COPY, 0, pattern)
        return cls(pattern, found)

    def put_back(self, client: redis.Redis) -> None:
        """In one step, as a server that comes back with older data."""
        client.eval(_PUT_BACK, 0, self.pattern, *self.keys_and_dumps)

"""What a Redis server is asked for in one step each: Lua scripts on the hash of a platform."""

from __future__ import annotations

import hashlib
from typing import Final

import attrs


@attrs.frozen
class Script:
    """The text of a script, and the name the server has for it."""

    source: str
    sha1: str


def _create_script(source: str) -> Script:
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


_READ_VERSION_LUA: Final = """
local version = redis.call('HGET', KEYS[1], 'version')
if not version and redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.error_reply('WRONGTYPE a hash of somebody else')
end
version = version or ''
"""
GET_VERSION: Final = _create_script(f"{_READ_VERSION_LUA} return version")
LOAD: Final = _create_script(
    f"""{_READ_VERSION_LUA}
local now = redis.call('TIME')
return {{redis.call('HGET', KEYS[1], 'document'), version, now[1], now[2]}}
"""
)
# A client that got no answer may ask again: what has the new version already was kept the first time.
COMPARE_AND_SET: Final = _create_script(
    f"""{_READ_VERSION_LUA}
if version == ARGV[2] then return 1 end
if version ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'document', ARGV[3], 'version', ARGV[2])
redis.pcall('PUBLISH', KEYS[1], ARGV[2])
return 1
"""
)

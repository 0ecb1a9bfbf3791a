"""How much a key may ask for: so many pictures, queries or items a second, counted by all processes together.

The generic cell rate algorithm (ITU-T I.371): of each key only the moment is kept until which it has used up its share, in
eight bytes of a file that the processes lock in turn.
"""

from __future__ import annotations

import fcntl
import math
import os
import struct
import time
from contextlib import suppress
from pathlib import Path

from server.api.errors import RATE_LIMITED, RequestError
from server.gateway.api_keys import ApiKey

BURST_SECONDS = 1.0  # of its rate that a key may use at once
ROUNDING = 1e-6
MOMENT = struct.Struct("<d")


class RateLimiter:
    """What keys have used up, in files in ``folder``, which the processes of one service share."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder

    def charge(self, key: ApiKey, count: int, *, refuse: bool) -> None:
        """Charge a key for ``count`` things. With ``refuse``, raises RequestError (429) when its share is used up already.

        What is found out only later, as how many pictures a request has, is charged without, and delays the next request.
        """
        if key.rate is None or not count:
            return
        with self._file_of(key).open("r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            now = time.monotonic()  # one clock for all processes, which no one can set
            used_until = max(now, MOMENT.unpack(file.read(MOMENT.size))[0])
            burst = max(BURST_SECONDS, 1 / key.rate)
            if refuse and (wait := used_until + 1 / key.rate - now - burst) > ROUNDING:
                told = f"the key {key.name} has asked for more than {key.rate:g} pictures a second"
                raise RequestError(RATE_LIMITED, told, retry_after=math.ceil(wait))
            file.seek(0)
            file.write(MOMENT.pack(used_until + count / key.rate))  # in place: it needs no room on a disk that is full

    def _file_of(self, key: ApiKey) -> Path:
        path = self._folder / key.digest.hex()[:32]
        if not path.exists():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Whole when it appears, whichever process makes it.
            made = path.with_suffix(f".{os.getpid()}")
            made.write_bytes(MOMENT.pack(0))
            with suppress(FileExistsError):
                path.hardlink_to(made)
            made.unlink()
        return path

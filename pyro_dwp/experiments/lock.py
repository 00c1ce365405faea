"""One runner per experiment: a lock that the operating system drops when its holder ends, however it ends."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyro_dwp.errors import ConfigError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder during the block; the processes that the block starts do not inherit it.

    Args:
        folder: is made if it is missing.

    Raises:
        ConfigError: if another process holds the lock; it names the process.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error.strerror}). Choose another --name.") from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(file, 300).decode(errors="replace") or "another process"
            raise ConfigError(
                f"{folder} is being run by {holder}. Wait for it, stop it, or choose another --name."
            ) from error
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        with suppress(OSError):  # on a full disk the lock holds, but does not say whose it is
            os.ftruncate(file, 0)
            os.write(file, f"process {os.getpid()} on {socket.gethostname()}, since {since}".encode())
        yield
    finally:
        os.close(file)

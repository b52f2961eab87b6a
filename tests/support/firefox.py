"""Firefox, driven by its own protocol, Marionette: Playwright does not drive the system's Firefox.

See https://firefox-source-docs.mozilla.org/testing/marionette/Protocol.html: a message is its length, a colon and JSON.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SECONDS = 60.0


def firefox() -> str | None:
    """Return the path of the system's Firefox, or None."""
    return next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)


class Marionette:
    """A session of a running Firefox."""

    def __init__(self, connection: socket.socket) -> None:
        self._stream, self._count = connection.makefile("rwb"), 0
        self._read()  # a greeting
        self.command("WebDriver:NewSession")

    def _read(self) -> Any:
        digits = b""
        while (character := self._stream.read(1)) != b":":
            assert character, "Firefox has ended"
            digits += character
        return json.loads(self._stream.read(int(digits)))

    def command(self, name: str, **parameters: Any) -> Any:
        """Send a command, and return its result."""
        self._count += 1
        message = json.dumps([0, self._count, name, parameters]).encode()
        self._stream.write(b"%d:%b" % (len(message), message))
        self._stream.flush()
        _, _, error, result = self._read()
        assert error is None, error
        return result

    def open(self, url: str) -> None:
        """Open an address."""
        self.command("WebDriver:Navigate", url=url)

    def run(self, script: str) -> Any:
        """Run the body of a function on the page, and return what it returns."""
        return self.command("WebDriver:ExecuteScript", script=script, args=[])["value"]


@contextmanager
def session(profile: Path) -> Iterator[Marionette]:
    """Start Firefox with a new profile, and drive it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    profile.mkdir()
    (profile / "user.js").write_text(f'user_pref("marionette.port", {port});\n', encoding="utf-8")
    command = [str(firefox()), "--headless", "--marionette", "--no-remote", "--profile", str(profile)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            with _connected(port) as connection:
                yield Marionette(connection)
        finally:
            process.terminate()


def _connected(port: int) -> socket.socket:
    end = time.monotonic() + _SECONDS
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=_SECONDS)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)

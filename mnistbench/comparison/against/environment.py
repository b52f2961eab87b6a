"""Environments of other revisions of this package, kept in the user's cache folder.

An environment has the revision's package and those of its requirements that the versions installed here do not meet;
all else comes from here, so that versions differ only where the revision asks for it. It belongs to one state of what
is installed here: after an upgrade another one is built.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path

from mnistbench import files, machine, words
from mnistbench.comparison.against.sides import Side
from mnistbench.exceptions import MnistbenchError, OptionError


def prepare(revision: str, announce: Callable[[str], None] = lambda what: None) -> Side:
    """Return a revision or a wheel in an environment of its own, which is built unless it is there.

    Args:
        revision: Tag, branch or commit of the checkout that this package runs from, or path of a wheel.
        announce: Called with a line before something is built.

    Raises:
        OptionError: If there is no such revision or wheel.
        MnistbenchError: If it cannot be installed.
    """
    wheel = Path(revision) if revision.endswith(".whl") else None
    exact = _commit(revision) if wheel is None else _digest_of(wheel)
    name = wheel.name if wheel is not None else exact[:7] if exact.startswith(revision) else revision
    folder = files.cache_folder().absolute() / "revisions" / _folder_name(name, exact)
    if not folder.exists():
        announce(f"installing {name} ({exact[:7]}) into {folder}")
        try:
            _build(name, exact, wheel, folder)
        except OSError as error:
            raise MnistbenchError(
                f"{folder}: cannot be written: {error.strerror or error}; MNISTBENCH_CACHE_DIR names another folder"
            ) from error
    return Side(name, exact, _python(folder), folder)


def _digest_of(wheel: Path) -> str:
    try:
        return hashlib.sha256(wheel.read_bytes()).hexdigest()
    except OSError as error:
        raise OptionError(f"--against {wheel}: cannot be read: {error.strerror}") from error


def _commit(revision: str) -> str:
    """Return the commit that a revision names in the checkout that this package runs from."""
    if machine.commit()["id"] == "unversioned":
        raise OptionError(
            f"--against {revision}: {_checkout()} is no git checkout, or git is missing; run in a checkout, or give a "
            "wheel (.whl)"
        )
    found = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if found.returncode:
        raise OptionError(f"--against {revision}: no such tag, branch or commit in {_checkout()}, nor a wheel (.whl)")
    return found.stdout.strip()


def _checkout() -> Path:
    return Path(__file__).resolve().parents[3]


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=_checkout(), capture_output=True, text=True, check=False)


def _folder_name(name: str, exact: str) -> str:
    """Name the environment after the revision and a digest of all that its content depends on."""
    here = sorted(f"{found.name}=={found.version}" for found in importlib.metadata.distributions())
    key = "\n".join([exact, platform.python_version(), sys.prefix, *_libraries(), *here])
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", name.removesuffix(".whl"))[:40].strip("-")
    return f"{readable}-{exact[:7]}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _libraries() -> list[str]:
    """Return the folders that libraries are installed in here."""
    return [folder for folder in sys.path if Path(folder).name in ("site-packages", "dist-packages")]


def _build(name: str, exact: str, wheel: Path | None, folder: Path) -> None:
    """Build the environment elsewhere and move it to ``folder``, which therefore is whole or not there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=folder.parent, ignore_cleanup_errors=True) as building:
        place = Path(building) / "environment"
        venv.EnvBuilder(with_pip=importlib.util.find_spec("pip") is None, symlinks=True).create(place)
        own = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(place), "platbase": str(place)}))
        (own / "libraries.pth").write_text("".join(f"{library}\n" for library in _libraries()), encoding="utf-8")
        source = wheel and wheel.absolute()
        if source is None:
            source = Path(building) / "revision.zip"
            archived = _git("archive", "--format=zip", "--prefix=revision/", f"--output={source}", exact)
            if archived.returncode:
                raise MnistbenchError(f"--against {name}: git archive failed: {words.one_line(archived.stderr)}")
        # Without --no-build-isolation, pip would download what builds the package.
        isolation = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
        # pip would leave out a package whose version is installed here, which all revisions share.
        _pip(name, place, "--no-deps", "--force-reinstall", *isolation, str(source))
        _pip(name, place, "mnistbench")  # what it requires and is not here
        try:
            place.rename(folder)
        except OSError:
            if not folder.exists():  # otherwise another process was faster
                raise


def _python(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _pip(name: str, place: Path, *arguments: str) -> None:
    """Install into the environment at ``place``."""
    side = Side(name, "", _python(place), place)
    command = [str(side.python), "-P", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=side.environment())
    if found.returncode:
        told = re.findall(r"^ *(?:ERROR|\w+Error): .*$", found.stderr, re.MULTILINE)  # the last is the cause
        cause = told[-1] if told else found.stderr[-200:] or f"pip ended with {found.returncode}"
        raise MnistbenchError(f"--against {name}: it cannot be installed: {words.one_line(cause)}")

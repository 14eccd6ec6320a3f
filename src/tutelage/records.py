"""Files that survive: atomic writes, locks, digests, step logs, and what a record says of its surroundings.

Imports no torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from .errors import ModelError, RunError

PACKAGES = ("tutelage", "torch", "transformers", "accelerate", "tokenizers", "safetensors", "numpy", "scikit-learn")
SEAL = "sha256 of the rest"
"""The key under which a sealed file keeps the digest of all its other keys."""


@contextlib.contextmanager
def saving(what: str | Path) -> Iterator[None]:
    """Turn a full disk, a size limit or a missing permission into one sentence."""
    try:
        yield
    except Exception as fault:
        inside = re.search(r"\(os error (\d+)\)", str(fault))
        code = fault.errno if isinstance(fault, OSError) else int(inside[1]) if inside else None
        if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            mend = "free some space and start the same command again; the last good checkpoint is kept"
        elif code in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOENT):
            mend = "choose another place"
        else:
            raise
        raise RunError(f"{what}: cannot be written, {os.strerror(code).lower()}; {mend}") from fault


def sync(path: Path) -> None:
    """Force a file's or a folder's content to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: a temporary neighbour, fsync, then a rename."""
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
            sync(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write plain data as indented JSON, atomically."""
    write(path, json.dumps(value, indent=1, ensure_ascii=False, default=_plain) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def student_facts(folder: Path) -> dict[str, Any]:
    """What a student's folder says of its training: task, labels, record; empty where it says nothing. Raises ModelError for a
    damaged file."""
    path = folder / "tutelage.json"
    if not path.is_file():
        return {}
    try:
        known = read_json(path)
        if isinstance(known, dict) and isinstance(known.get("task"), dict):
            return known
    except ValueError:
        pass
    raise ModelError(f"{path}: does not say what the student was trained for; copy the folder again from its run")


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends well, replacing what was there."""
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    sync(file)
            shutil.rmtree(path, ignore_errors=True)
            os.replace(temporary, path)
            sync(path.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


@contextlib.contextmanager
def locked(folder: Path, wait: bool | float = False) -> Iterator[None]:
    """Hold a folder for this process; the kernel frees it however the process ends.

    Raises RunError when another process holds it, unless `wait` says to stand in line, or for so many seconds.
    """
    until = time.monotonic() + wait
    with saving(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = open(folder / ".lock", "a+")  # noqa: SIM115  (held for the whole block)
    try:
        try:
            while not _hold(handle, block=wait is True):
                if time.monotonic() >= until:
                    raise BlockingIOError
                time.sleep(0.1)
        except BlockingIOError:
            handle.seek(0)
            who = handle.read().strip() or "unknown"
            raise RunError(f"{folder}: in use by process {who}; wait for it to end, or name another folder with --out") from None
        with saving(folder):
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
        yield
    finally:
        handle.close()


@contextlib.contextmanager
def room(folder: Path, patience: float | None) -> Iterator[Path]:
    """Hold a folder, waiting for it; where that takes longer than so many seconds of `patience`, hold another one beside it."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder, True if patience is None else patience))
        except RunError:
            folder = folder.with_name(f"{folder.name}-{os.getpid()}")
            stack.enter_context(locked(folder, wait=True))
        yield folder


def _hold(handle: Any, block: bool) -> bool:
    """Lock an open file; False where another process has it and `block` does not say to wait."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if block else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def digest(*parts: Any) -> str:
    """A hex SHA-256 over bytes, text, or plain data (as canonical JSON)."""
    out = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes | bytearray | memoryview):
            out.update(part)
        else:
            out.update(json.dumps(part, sort_keys=True, default=_plain).encode())
        out.update(b"\x00")
    return out.hexdigest()


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def begins(path: Path, sha256: str, length: int | None = None) -> bool:
    """Whether a file has this SHA-256, or its first `length` bytes have; False where it is missing or too short."""
    try:
        with open(path, "rb") as handle:
            if length is None:
                return hashlib.file_digest(handle, "sha256").hexdigest() == sha256
            start = handle.read(length)
    except OSError:
        return False
    return len(start) == length and hashlib.sha256(start).hexdigest() == sha256


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder and below it, by its path from there."""
    return {str(file.relative_to(folder)): file_digest(file) for file in sorted(folder.rglob("*")) if file.is_file()}


def harmed(folder: Path, files: Mapping[str, str]) -> str:
    """The first file that is no longer what its digest says, '' where all are."""
    return next((name for name, sha256 in files.items() if not begins(folder / name, sha256)), "")


def seal(path: Path, facts: Mapping[str, Any]) -> None:
    """Write facts as JSON together with their digest, atomically."""
    write_json(path, {**facts, SEAL: digest(facts)})


def sealed(path: Path) -> dict[str, Any] | None:
    """What `seal` wrote; None where it is missing or no longer that."""
    try:
        facts = read_json(path)
        return facts if facts.pop(SEAL) == digest(facts) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


class Log:
    """A JSON-lines file that can be cut back to the length a checkpoint remembers."""

    def __init__(self, path: Path, keep: int = 0):
        self.path = path
        with saving(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = open(path, "a+b")  # noqa: SIM115  (closed by close)
            self._handle.truncate(keep)
            self._handle.seek(0)
            self._sha256 = hashlib.sha256(self._handle.read())

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all that was added."""
        return self._sha256.hexdigest()

    def add(self, row: dict[str, Any]) -> None:
        """Append one row."""
        line = (json.dumps(row, default=_plain) + "\n").encode()
        self._sha256.update(line)
        with saving(self.path):
            self._handle.write(line)

    def mark(self) -> int:
        """Force all to the disk, and return the length in bytes to come back to."""
        with saving(self.path):
            self._handle.flush()
            os.fsync(self._handle.fileno())
        return os.fstat(self._handle.fileno()).st_size

    def close(self) -> None:
        """Flush and close."""
        with saving(self.path):
            self._handle.close()


def rows(path: Path, say: Callable[[str], None] | None = None) -> list[dict[str, Any]]:
    """Read a JSON-lines file; an absent file has no rows, a last line cut short is left out.

    Other damaged lines are left out too where `say` tells the user of them; else RunError.
    """
    out: list[dict[str, Any]] = []
    if not path.exists():
        return out
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            row = json.loads(line) if line else None
        except ValueError:
            if say is None:
                raise RunError(f"{path}, line {number}: is damaged; remove the file, what it holds is made anew") from None
            say(f"{path}, line {number}: is damaged; it is left out and made anew")
            continue
        out += [row] if row is not None else []
    return out


def write_rows(path: Path, many: Iterable[dict[str, Any]]) -> None:
    """Write a whole JSON-lines file, atomically."""
    write(path, "".join(json.dumps(row, ensure_ascii=False, default=_plain) + "\n" for row in many))


def surroundings() -> dict[str, Any]:
    """Versions and machine facts that figures depend on; no host name, no path, no user."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "versions": versions,
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or sys.platform


def _plain(value: Any) -> Any:
    """JSON's fallback: numpy scalars and arrays, paths, dataclasses."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)

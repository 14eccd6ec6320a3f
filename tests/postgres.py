"""A PostgreSQL server for tests: started from Debian's programs, as a user of its own where tests run as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def programs() -> Path | None:
    """The folder of initdb and pg_ctl."""
    known = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    found = str(known[-1]) if known else shutil.which("initdb")
    return Path(found).parent if found else None


class Server:
    """A running server; `fresh` makes an empty database and gives its URL."""

    def __init__(self, folder: Path):
        self.folder, self.made = folder, 0
        self.bin = programs()
        if self.bin is None:
            pytest.skip("PostgreSQL's programs are not installed (Debian: postgresql)")
        self.user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self.user:
            shutil.chown(folder, "postgres")
        self.data = folder / "data"
        self.run("initdb", "-D", self.data, "-U", "tutelage", "-A", "trust", "--no-sync")
        self.start()

    def run(self, program: str, *words: object) -> None:
        assert self.bin is not None
        done = subprocess.run([*self.user, self.bin / program, *map(str, words)], cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + done.stdout

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c max_connections=120"
        self.run("pg_ctl", "-D", self.data, "-w", "-l", self.folder / "log", "-o", options, "start")

    def stop(self, how: str = "fast") -> None:
        self.run("pg_ctl", "-D", self.data, "-w", "-m", how, "stop")

    def fresh(self) -> str:
        self.made += 1
        self.run("createdb", "-h", self.folder, "-U", "tutelage", f"test{self.made}")
        return f"postgresql+psycopg://tutelage@/test{self.made}?host={self.folder}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:  # a short path: sockets have names of at most 107 letters
        os.chmod(folder, 0o755)
        server = Server(Path(folder))
        yield server
        server.stop("immediate")

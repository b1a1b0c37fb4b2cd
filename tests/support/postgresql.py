"""A PostgreSQL server for the length of a block, as Debian's package installs it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from tests.support.programs import free_port, missing

_VERSIONS = Path("/usr/lib/postgresql")
# The superuser; where the tests run as root, the user of this machine too: PostgreSQL does not run as root.
_USER = "postgres"
PASSWORD = "pass:w@rd/4711%"
QUOTED_PASSWORD = "pass%3Aw%40rd%2F4711%25"
# As fast as it can be; what a crash of the machine would leave is not tested.
_FAST = (
    "fsync=off",
    "full_page_writes=off",
    "max_connections=100",
    "log_min_messages=fatal",
    "client_min_messages=warning",
)
_ACCESS = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"


class Postgresql:
    """A running server. Its databases are reached through a socket in its folder, or with a password on a port."""

    def __init__(self, folder: Path, options: Sequence[str]) -> None:
        self.folder = folder
        self._options = options
        self.port = free_port()
        self._programs = _find_programs()
        self._numbers = count(1)
        self._shared = ""
        self._run("initdb", "--pgdata=data", "--encoding=UTF8", "--locale=C", f"--username={_USER}", "--no-sync")
        (folder / "data" / "pg_hba.conf").write_text(_ACCESS)
        self.start()

    def start(self) -> None:
        options = ["-c listen_addresses=127.0.0.1", f"-p {self.port}", f"-k {self.folder}"]
        options += [f"-c {option}" for option in self._options]
        self._run("pg_ctl", "start", "--wait", "--pgdata=data", "--log=log", f"--options={' '.join(options)}")

    def stop(self) -> None:
        """Stop it at once, as a crash would."""
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate", "--pgdata=data")

    def empty_database(self) -> str:
        """Return the URL of a database without a store, the same one each time: to create one takes longer."""
        url = self._shared = self._shared or self.create_database()
        self.execute("DROP SCHEMA IF EXISTS brockman CASCADE", url)
        return url

    def create_database(self, options: str = "") -> str:
        """Create a database, and return its URL."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} {options}")
        return f"postgresql://{_USER}@/{name}?host={self.folder}&port={self.port}"

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Run SQL as the superuser, and return what `psql` prints: rows, with `|` between the values.

        `database` is a name or a URL.
        """
        arguments = ["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement]
        if "://" not in database:
            arguments += ["-h", str(self.folder), "-p", str(self.port), "-U", _USER]
        return self._run("psql", *arguments, database).strip()

    def processes(self) -> list[int]:
        """Return the ids of its processes."""
        first = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def _run(self, program: str, *arguments: str) -> str:
        command = [str(self._programs / program), *arguments]
        if os.geteuid() == 0:
            command = ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups", "--", *command]
        # To a file: the server inherits the descriptors, and would keep a pipe open.
        with (self.folder / "output").open("w+") as output:
            status = subprocess.run(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=120,
            ).returncode
            output.seek(0)
            text = output.read()
        assert status == 0, text
        return text


@contextlib.contextmanager
def postgresql_server(options: Sequence[str] = _FAST) -> Iterator[Postgresql]:
    """Run a server in a temporary directory of its own, with options; it is stopped after the block."""
    _find_programs()
    folder = Path(tempfile.mkdtemp(prefix="brockman-postgresql-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, _USER, _USER)
        server = Postgresql(folder, options)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _find_programs() -> Path:
    """Return the folder with the programs of the newest version; Debian has them not in PATH."""
    found = [path.parent for path in _VERSIONS.glob("*/bin/initdb")]
    if not found:
        on_path = shutil.which("initdb")
        found = [Path(on_path).resolve().parent] if on_path else missing("PostgreSQL's initdb is not installed")
    return max(found, key=lambda folder: [int(part) for part in folder.parts if part.isdigit()])

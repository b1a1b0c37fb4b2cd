"""Files that the spool does not touch, permissions of its own, and what the log says about both."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from brockman.client import FocusLabClient
from tests.spool.disks import NOBODY, away, files_in, log_lines, run_child
from tests.support.client import KEY, record
from tests.support.endpoint import Endpoint
from tests.support.server import RecordingServer
from tests.support.waiting import eventually

Make = Callable[..., FocusLabClient]


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "brockman")


def _link(folder: Path) -> Path:
    (folder / "link").symlink_to(_real(folder))
    return folder / "link"


def _real(folder: Path) -> Path:
    (folder / "real").mkdir(0o700)
    return folder / "real"


def _dangling(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "nowhere")
    return folder / "link"


def _writable(folder: Path, mode: int) -> Path:
    real = _real(folder)
    real.chmod(mode)
    return real


def _writable_for_another_group(folder: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("only root may give a folder away")
    real = _writable(folder, 0o770)
    os.chown(real, -1, NOBODY)
    return real


def _of_another_user(folder: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("only root may give a folder away")
    real = _real(folder)
    os.chown(real, NOBODY, NOBODY)
    return real


REFUSED: dict[str, tuple[Callable[[Path], Path | str], str]] = {
    "a link": (_link, "it is a symbolic link; name the directory itself"),
    "a link and a slash": (lambda folder: f"{_link(folder)}/", "it is a symbolic link; name the directory itself"),
    "a link to nowhere": (_dangling, "it is a symbolic link; name the directory itself"),
    "another group may write": (_writable_for_another_group, "others may write into it (mode 770)"),
    "anybody may write": (lambda folder: _writable(folder, 0o1777), "others may write into it (mode 1777)"),
    "another user's": (_of_another_user, f"it belongs to user {NOBODY}, not to 0"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_spool_that_others_could_read_or_change_is_refused(
    what: str, tmp_path: Path, server: RecordingServer, make_client: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder that is a link, or that others own or may write into.

    One line says so, and memory takes its place.
    """
    prepare, reason = REFUSED[what]
    path = prepare(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    client = make_client(spool_dir=str(path))
    record(client, 10)
    assert client.flush(20)
    assert client.stats().delivered == len(server.triggers) == 10
    assert eventually(lambda: log_lines(caplog, reason) != [])
    assert len(log_lines(caplog, "")) == 1
    assert log_lines(caplog, str(path), logging.ERROR) == log_lines(caplog, "buffering in memory")
    assert reason in str(client.stats().spool_error)
    client.close()
    assert sorted(tmp_path.rglob("*")) == before


def _left(make_client: Make, spool: Path, count: int = 10) -> Path:
    """Leave triggers in a spool, as of a process that is gone; return its folder."""
    client = make_client(spool_dir=str(spool), max_batch_size=4, transport=away())
    record(client, count)
    assert eventually(lambda: client.stats().in_flight > 0)
    client.close(0)
    return next(spool.glob("*-*"))


def _replace_by_link(path: Path) -> Path:
    """Replace a file or directory by a link; return where it is now, outside of the spool."""
    outside = (
        path.parents[1] / f"outside-{path.name}" if path.parent.name == "spool" else path.parents[2] / "outside"
    )
    if path.exists():
        path.rename(outside)
    else:
        outside.write_bytes(b"precious")
    path.symlink_to(outside)
    return outside


@pytest.mark.parametrize("name", ["", "00000001", "lock"], ids=["folder", "segment", "lock"])
def test_links_in_a_spool_are_not_followed(
    name: str, tmp_path: Path, server: RecordingServer, make_client: Make
) -> None:
    """A link that replaces a process's directory, a segment or a lock.

    Nothing beyond it is sent, changed or removed.
    """
    endpoint = Endpoint(server, 503)
    folder = _left(make_client, tmp_path / "spool")
    outside = _replace_by_link(folder / name if name else folder)
    content = outside.read_bytes() if outside.is_file() else sorted(outside.iterdir())
    endpoint.answer = 201
    client = make_client(spool_dir=str(tmp_path / "spool"))
    record(client, 5, start=100)
    assert client.flush(20)
    assert sorted(endpoint.numbers()) == list(range(100, 105))
    assert client.stats().recovered == 0
    client.close()
    assert content == (outside.read_bytes() if outside.is_file() else sorted(outside.iterdir()))


@pytest.mark.parametrize("change", ["mode", "owner"])
def test_folders_of_other_users_in_a_spool_are_ignored_and_logged(
    change: str, tmp_path: Path, server: RecordingServer, make_client: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder in the spool that somebody else made, or may write into.

    Is not sent; one line names it and says why.
    """
    endpoint = Endpoint(server, 503)
    folder = _left(make_client, tmp_path / "spool")
    if change == "owner":
        if os.geteuid() != 0:
            pytest.skip("only root may give a folder away")
        os.chown(folder, NOBODY, NOBODY)
    else:
        folder.chmod(0o777)
    caplog.clear()
    endpoint.answer = 201
    client = make_client(spool_dir=str(tmp_path / "spool"))
    record(client, 5, start=100)
    assert client.flush(20)
    client.close()
    assert sorted(endpoint.numbers()) == list(range(100, 105))
    assert (folder / "00000001").exists()
    lines = log_lines(caplog, folder.name, logging.WARNING)
    assert len(lines) == 1
    assert ("it belongs to user" if change == "owner" else "others may write into it") in lines[0]


def test_a_link_in_the_place_of_an_acknowledgement_is_not_written_to(
    tmp_path: Path, server: RecordingServer, make_client: Make
) -> None:
    """It counts as no acknowledgement: in doubt triggers are sent again, and what it points to stays as it is."""
    endpoint = Endpoint(server, 503)
    folder = _left(make_client, tmp_path / "spool")
    (folder / "00000001.ack").unlink(missing_ok=True)
    outside = _replace_by_link(folder / "00000001.ack")
    endpoint.answer = 201
    client = make_client(spool_dir=str(tmp_path / "spool"), max_batch_size=3)
    record(client, 1, start=100)
    assert eventually(lambda: len(endpoint.triggers) == 11)
    client.close()
    assert sorted(endpoint.numbers()) == [*range(10), 100]
    assert outside.read_bytes() == b"precious"
    assert files_in(tmp_path / "spool") == []


def test_a_link_in_the_place_of_the_damaged_is_not_followed(
    tmp_path: Path, server: RecordingServer, make_client: Make
) -> None:
    """Damage is kept nowhere rather than outside of the spool; it is counted, and the rest is delivered."""
    endpoint = Endpoint(server, 503)
    folder = _left(make_client, tmp_path / "spool")
    (tmp_path / "outside").mkdir()
    (tmp_path / "spool" / "damaged").symlink_to(tmp_path / "outside")
    segment = folder / "00000001"
    segment.write_bytes(segment.read_bytes().replace(b'"n":5', b'"n":6', 1))
    endpoint.answer = 201
    client = make_client(spool_dir=str(tmp_path / "spool"))
    record(client, 1, start=100)
    assert eventually(lambda: len(endpoint.triggers) == 10)
    client.close()
    assert client.stats().dropped == {"damaged": 1}
    assert sorted(endpoint.numbers()) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 100]
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nobody_else_can_read_a_spool_and_the_key_is_not_in_it(umask: int, tmp_path: Path) -> None:
    """Whatever the umask.

    Folders have mode 0700, files 0600, also what is kept of damage; no file holds the key.
    """
    code = """
        os.umask(int(sys.argv[2]))
        client = make(sys.argv[1])
        record(client, 10)
        until(lambda: client.stats().in_flight)
        client.close(0)
        segment = glob.glob(sys.argv[1] + "/*/00000001")[0]
        with open(segment, "r+b") as file:
            file.seek(60)
            file.write(b"????")
        from brockman.transport import Answer
        from brockman.transport.memory import MemoryTransport
        accepts = [Answer(201)] * 3
        client = make(sys.argv[1], max_batch_size=3, transport=MemoryTransport(
            lambda body: accepts.pop() if accepts else Answer(503)))
        record(client, 1)
        until(lambda: client.stats().delivered >= 7)
        client.close(0)
    """
    run_child(code, tmp_path / "spool", umask)
    found = {path: path.lstat() for path in [tmp_path / "spool", *(tmp_path / "spool").rglob("*")]}
    assert any(path.parent.name == "damaged" for path in found)
    assert any(path.suffix == ".ack" for path in found)
    for path, status in found.items():
        assert stat.S_IMODE(status.st_mode) == (0o700 if path.is_dir() else 0o600), path
        assert path.is_dir() or KEY.encode() not in path.read_bytes()

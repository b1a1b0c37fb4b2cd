"""A spool on a Kubernetes volume, whose files are given to `fsGroup` whenever a pod starts."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.spool.disks import NOBODY, facts, logged, run_child

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become other users")

USER, GROUP, OTHER = 4711, 4712, 4713
WIDENED = "its group could write to it"

# As in a pod: a user without root, and the volume's group beside its own.
POD = """
import brockman.buffer.spool.buffer
make(None).close()  # imports what this user may not read
uid, groups = int(sys.argv[2]), [int(group) for group in sys.argv[3].split()]
os.umask(0o022)
os.setgroups(groups)
os.setgid(uid)
os.setuid(uid)
"""
LEAVE = (
    POD
    + """
client = make(sys.argv[1], max_batch_size=4)
record(client, 10)
until(lambda: client.stats().in_flight)
client.close(0)
"""
)
RESTART = (
    POD
    + """
from brockman.transport.memory import MemoryTransport
sent = []
def accept(body):
    found = json.loads(body)
    sent.extend(one["variables"]["n"] for one in (found if isinstance(found, list) else [found]))
    return Answer(201)
from brockman.transport import Answer
client = make(sys.argv[1], max_batch_size=4, transport=MemoryTransport(accept))
record(client, 2, start=100)
client.flush(20)
stats = client.stats()
say(sent=sorted(sent), dropped=stats.dropped, error=stats.spool_error)
client.close()
"""
)


@pytest.fixture
def volume(quick_path: Path) -> Path:
    """The root of a volume, as a pod finds it: of root, and of `fsGroup`."""
    quick_path.chmod(0o711)
    volume = quick_path / "volume"
    volume.mkdir()
    widen(volume)
    return volume


def widen(path: Path, group: int = GROUP) -> None:
    """Do as Kubernetes does when a pod starts: chown to the group, and let it read and write."""
    for one in (path, *path.rglob("*")):
        os.chown(one, -1, group)
        one.chmod(one.stat().st_mode | (0o2770 if one.is_dir() else 0o660))


def left_in(spool: Path) -> Path:
    """Leave ten triggers in a spool; return the folder of their process."""
    run_child(LEAVE, spool, USER, f"{USER} {GROUP}")
    return next(spool.glob("*-*"))


def restart(spool: Path, groups: str = f"{USER} {GROUP}") -> tuple[dict[str, object], list[str]]:
    """Start the next pod; return what it sent, and its warnings."""
    lines = run_child(RESTART, spool, USER, groups)
    return facts(lines), logged(lines, "WARNING")


def modes(spool: Path) -> set[str]:
    return {f"{path.stat().st_mode & 0o777:o}" for path in (spool, *spool.rglob("*")) if path.name != "volume"}


def test_triggers_in_a_widened_spool_are_delivered_and_its_modes_narrowed(volume: Path) -> None:
    """Folders of mode 2770 and files of 0660 are its own if their user and group are; one line says so."""
    spool = volume / "spool"
    left_in(spool)
    widen(volume)

    found, warnings = restart(spool)

    assert found == {"sent": [*range(10), 100, 101], "dropped": {}, "error": None}
    assert [WIDENED in line for line in warnings] == [True]
    assert stat.S_IMODE(spool.stat().st_mode) == 0o700
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize("name", ["", "*-*", "*-*/00000001", "*-*/00000001.ack", "*-*/lock"])
def test_a_spool_of_which_a_part_is_widened_is_delivered(name: str, volume: Path) -> None:
    """Only the spool's folder, a process's, a segment, an acknowledgement or a lock."""
    spool = volume / "spool"
    folder = left_in(spool)
    (folder / "00000001.ack").touch(0o600)
    os.chown(folder / "00000001.ack", USER, USER)
    one = next(spool.glob(name)) if name else spool
    os.chown(one, -1, GROUP)
    one.chmod(0o2770 if one.is_dir() else 0o660)

    found, warnings = restart(spool)

    assert found == {"sent": [*range(10), 100, 101], "dropped": {}, "error": None}
    assert [WIDENED in line for line in warnings] == [True]
    assert list(spool.iterdir()) == []


def test_what_stays_in_a_widened_spool_is_narrowed(volume: Path) -> None:
    """Damage that is kept, and triggers of a server that is away, can be read by this user only."""
    spool = volume / "spool"
    segment = left_in(spool) / "00000001"
    segment.write_bytes(segment.read_bytes().replace(b'"n": 5', b'"n": 6').replace(b'"n":5', b'"n":6'))
    widen(volume)
    found, _ = restart(spool)
    assert found["dropped"] == {"damaged": 1}
    widen(volume)

    run_child(LEAVE, spool, USER, f"{USER} {GROUP}")

    assert {path.name for path in spool.rglob("*")} > {"damaged", "lock", "00000001"}
    assert modes(spool) - {"770", "660"} == {"700", "600"}
    assert stat.S_IMODE(spool.stat().st_mode) == 0o700


def test_a_widened_spool_of_another_group_is_refused(volume: Path) -> None:
    """A group that this process is not in may hold anybody."""
    spool = volume / "spool"
    folder = left_in(spool)
    widen(spool, OTHER)
    found, warnings = restart(spool)
    assert found["sent"] == [100, 101]
    assert "others may write into it (mode 2770)" in str(found["error"])
    assert (folder / "00000001").exists()
    assert not [line for line in warnings if WIDENED in line]


def test_files_that_another_member_of_the_group_put_there_are_ignored(volume: Path) -> None:
    """Neither a segment nor an acknowledgement of another user counts, nor a folder; one line says so."""
    spool = volume / "spool"
    folder = left_in(spool)
    (spool / f"1-{'0' * 16}").mkdir()
    (spool / f"1-{'0' * 16}" / "00000001").write_bytes((folder / "00000001").read_bytes())
    (folder / "00000002").write_bytes((folder / "00000001").read_bytes())
    (folder / "00000001.ack").write_bytes(b"x" * 64)
    planted = [spool / f"1-{'0' * 16}", folder / "00000002", folder / "00000001.ack"]
    for path in planted:
        os.chown(path, NOBODY, GROUP)
    widen(volume)

    found, warnings = restart(spool)

    assert found["sent"] == [*range(10), 100, 101]
    (line,) = [line for line in warnings if f"it belongs to user {NOBODY}, not to {USER}; ignored" in line]
    assert line.endswith("(and 1 more)")
    assert planted[0].exists()
    assert planted[1].exists()


def test_a_segment_that_anybody_may_write_to_is_ignored(volume: Path) -> None:
    """`fsGroup` gives nothing to others, and what anybody wrote would be sent with this key."""
    spool = volume / "spool"
    folder = left_in(spool)
    widen(volume)
    (folder / "00000001").chmod(0o666)
    found, warnings = restart(spool)
    assert found["sent"] == [100, 101]
    assert [line for line in warnings if "anybody may write to it (mode 666); chmod 600; ignored" in line]


def test_a_link_in_a_widened_spool_is_not_followed(volume: Path) -> None:
    """Nor is the mode of a file changed that has a name elsewhere."""
    spool = volume / "spool"
    folder = left_in(spool)
    own = volume / "own"
    own.write_bytes(b"precious")
    os.chown(own, USER, GROUP)
    own.chmod(0o660)
    (folder / "00000002").symlink_to(own)
    os.link(own, folder / "00000001.ack")
    widen(spool)
    found, _ = restart(spool)
    assert found["sent"] == [*range(10), 100, 101]
    assert stat.S_IMODE(own.stat().st_mode) == 0o660


def test_the_root_of_a_volume_is_refused_with_advice(volume: Path) -> None:
    """It is root's, so others may move what is in it; a folder in it is created and used."""
    found, _ = restart(volume)
    assert str(found["error"]).startswith(f"it belongs to user 0, not to {USER}; name a folder in it")
    volume.chmod(0o2777)  # an emptyDir
    assert restart(volume / "spool")[0] == {"sent": [100, 101], "dropped": {}, "error": None}
    assert (volume / "spool").stat().st_uid == USER

"""The folders of the spool: whose they are, and which are refused."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from brockman.buffer.spool.directory import SpoolDir, why_unusable
from brockman.buffer.spool.process_dir import (
    adopt_process_dir,
    make_process_dir,
    process_dir_names,
    remove_abandoned,
)
from brockman.buffer.spool.quota import measure
from brockman.buffer.spool.segment import Segment


@pytest.fixture
def spool(tmp_path):
    spool = SpoolDir(str(tmp_path / "spool"))
    spool.open()
    yield spool
    spool.close()


def bad_folder(kind: str, tmp_path: Path) -> str:
    """Return the path of a folder that triggers must not be left in."""
    path = tmp_path / "spool"
    if kind == "a file":
        path.write_text("")
    elif kind == "a link":
        (tmp_path / "there").mkdir(mode=0o700)
        path.symlink_to(tmp_path / "there")
    elif kind == "others may write":
        path.mkdir()
        path.chmod(0o777)
    elif kind == "another user's":
        path.mkdir(mode=0o700)
        os.chown(path, 12345, -1)
    return str(path / "deeper" if kind == "below a file" and not path.write_text("") else path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("a file", "Not a directory"),
        ("below a file", "is not a directory"),
        ("a link", "symbolic link"),
        ("others may write", "others may write into it (mode 777); chmod 700"),
        pytest.param(
            "another user's",
            "belongs to user 12345",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away"),
        ),
    ],
)
def test_a_folder_that_is_not_safe_is_refused_in_words(kind, words, tmp_path):
    """Both when it is asked for beforehand, as by Django's checks, and when it is used."""
    path = bad_folder(kind, tmp_path)
    assert words in (why_unusable(path) or "")
    with pytest.raises(OSError, match=r"irectory|symbolic link|others may write|belongs to user"):
        SpoolDir(path).open()


def test_looking_makes_nothing(tmp_path):
    """A folder that could be made is fine, and is not made by the question."""
    assert why_unusable(str(tmp_path / "a" / "b")) is None
    assert why_unusable(str(tmp_path)) is None
    assert list(tmp_path.iterdir()) == []


def test_folders_and_files_are_for_this_user_only(tmp_path):
    """0700 and 0600, whatever the umask."""
    before = os.umask(0)
    try:
        spool = SpoolDir(str(tmp_path / "spool"))
        spool.open()
        folder = make_process_dir(spool, os.urandom)
        os.close(folder.create("1"))
        folder.close()
        spool.close()
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"spool": 0o700, folder.name: 0o700, "lock": 0o600, "1": 0o600}


def test_a_folder_has_one_owner(spool):
    """Nobody else can lock it while its owner lives, not even in the same process; then exactly one can."""
    mine = make_process_dir(spool, os.urandom)
    assert adopt_process_dir(spool, mine.name) is None
    mine.close()
    adopted = adopt_process_dir(spool, mine.name)
    assert adopted is not None
    assert adopt_process_dir(spool, mine.name) is None
    adopted.remove_if_empty()
    assert process_dir_names(spool) == []


def test_a_killed_owner_leaves_its_folder_to_others(spool):
    """The lock goes with the process, however that ends."""
    script = (
        "import os, sys; from brockman.buffer.spool.process_dir import *; spool = SpoolDir(sys.argv[1]);"
        " spool.open();"
        "print(make_process_dir(spool, os.urandom).name, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, spool.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        name = owner.stdout.readline().strip()
        assert adopt_process_dir(spool, name) is None
        owner.kill()
        owner.wait()
        adopted = adopt_process_dir(spool, name)
        assert adopted is not None
        adopted.remove_if_empty()


def test_the_oldest_folder_comes_first(spool):
    """By the time at which each was made."""
    names = []
    for age in range(3):
        folder = make_process_dir(spool, os.urandom)
        names.append(folder.name)
        os.utime(f"{spool.path}/{folder.name}/lock", (1e9 - age, 1e9 - age))
        folder.close()
    assert process_dir_names(spool) == names[::-1]


def test_what_a_process_left_that_died_while_it_made_a_folder_is_swept(spool):
    """But not at once: another process may be about to give it its name."""
    for name, age in ((".1-00000000000000aa", 1e9), (".2-00000000000000bb", None)):
        os.mkdir(f"{spool.path}/{name}")
        Path(spool.path, name, "lock").touch()
        if age:
            os.utime(f"{spool.path}/{name}", (age, age))
    remove_abandoned(spool)
    assert os.listdir(spool.path) == [".2-00000000000000bb"]


def test_a_folder_that_is_not_empty_is_not_dissolved(spool):
    """Somebody has put something into it, which is not ours to remove."""
    folder = make_process_dir(spool, os.urandom)
    Path(spool.path, folder.name, "note").touch()
    folder.remove_if_empty()
    assert sorted(os.listdir(Path(spool.path, folder.name))) == ["lock", "note"]


def test_a_segment_that_is_sealed_is_closed_by_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the program's is never cut short, if it gets the number of a segment that was closed just then."""
    spool = SpoolDir(str(tmp_path / "spool"))
    spool.open()
    folder = make_process_dir(spool, os.urandom)
    segment = Segment(folder, "00000001")
    segment.create(65536, mapped=spool.may_map)
    number, real = segment.descriptor, os.ftruncate
    other = tmp_path / "other"
    other.write_bytes(b"x" * 1000)
    opened = []

    def ftruncate(descriptor: int, length: int) -> None:
        segment.remove()  # the worker, that has read all of it
        opened.append(os.open(other, os.O_RDWR))
        real(descriptor, length)

    monkeypatch.setattr(os, "ftruncate", ftruncate)
    segment.seal()
    assert opened == [number]
    os.close(number)
    folder.remove_if_empty()
    spool.close()
    assert other.stat().st_size == 1000


def test_threads_that_look_into_the_spool_at_once_see_each_folder_once(tmp_path: Path) -> None:
    """A spool seems never to be fuller than it is, and no orphan is overlooked, while another thread looks too."""
    spool = SpoolDir(str(tmp_path / "spool"))
    spool.open()
    folders = [make_process_dir(spool, os.urandom) for _ in range(50)]
    expected = sorted(folder.name for folder in folders)
    found: list[list[str]] = []

    def look() -> None:
        for _ in range(200):
            found.append(sorted(name for name, _ in measure(spool)))
            found.append(sorted(process_dir_names(spool)))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for folder in folders:
        folder.remove_if_empty()
    spool.close()
    assert len(found) == 1200
    assert all(names == expected for names in found)

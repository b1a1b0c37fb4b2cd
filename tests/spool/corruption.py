"""Corruptions of the files of a spool, chosen at random."""

from __future__ import annotations

import os
import random
import shutil
import stat
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from brockman.buffer.spool.frame import HEADER
from brockman.buffer.spool.segment import is_segment

LATER = b"brockman-spool 2 %d\n" % zlib.crc32(b"brockman-spool 2")
_JUNK = (b"\x1e", b"\n", b"\0", b"\x1e\n", b"\x1e1 {}\n", b"\0" * 500, HEADER, b"\xff" * 50)


class Corruption:
    """Corrupts the files of a spool."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self.path = path
        self.chance = chance
        self.done: list[str] = []
        self._number = 100

    def corrupt(self, count: int, changes: Iterable[Change]) -> None:
        """Make `count` of these changes; skip one whose file is gone."""
        for change in self.chance.choices(list(changes), k=count):
            self.done.append(change.__name__)
            with suppress(OSError, IndexError, ValueError):
                change(self)

    def _files(self, *, acks: bool = False) -> list[Path]:
        files = sorted(self.path.glob("*-*/*.ack" if acks else "*-*/*[0-9]"))
        return [file for file in files if stat.S_ISREG(file.lstat().st_mode) and file.lstat().st_size < 1 << 20]

    def _file(self, *, acks: bool = False) -> Path:
        return self.chance.choice(self._files(acks=acks))

    def _folder(self) -> Path:
        return self.chance.choice(sorted(self.path.glob("*-*")))

    def _replace(self, file: Path, content: bytes) -> None:
        new = file.with_name("new")
        new.write_bytes(content)
        new.rename(file)  # never truncated while a process has it mapped

    def _junk(self) -> bytes:
        if self.chance.random() < 0.5:
            return self.chance.choice(_JUNK)
        return self.chance.randbytes(self.chance.randrange(1, 300))

    def _other_place(self) -> Path:
        """Return the path of no file: with the next number, which the owner wants, or with one far off."""
        folder = self._folder()
        self._number += 1
        last = max((int(file.name) for file in folder.glob("*[0-9]")), default=0)
        return folder / f"{self.chance.choice([self._number, last + 1]):08d}"

    def flip(self) -> None:
        file = self._file()
        with file.open("r+b") as opened:  # in place
            for _ in range(self.chance.randrange(1, 4)):
                place = self.chance.randrange(file.stat().st_size)
                opened.seek(place)
                value = opened.read(1)[0] ^ 1 << self.chance.randrange(8)
                opened.seek(place)
                opened.write(bytes([value]))

    def overwrite(self) -> None:
        file, junk = self._file(), self._junk()
        with file.open("r+b") as opened:
            opened.seek(self.chance.randrange(max(1, file.stat().st_size - len(junk))))
            opened.write(junk)

    def cut(self) -> None:
        file = self._file()
        content = file.read_bytes()
        self._replace(file, content[: self.chance.randrange(len(content))])

    def behead(self) -> None:
        file = self._file()
        content = file.read_bytes()
        self._replace(file, content[self.chance.randrange(len(content)) :])

    def insert(self) -> None:
        file = self._file()
        content = file.read_bytes()
        place = self.chance.randrange(len(content) + 1)
        self._replace(file, content[:place] + self._junk() + content[place:])

    def empty(self) -> None:
        self._replace(self._file(), b"")

    def zero(self) -> None:
        file = self._file()
        self._replace(file, bytes(file.stat().st_size))

    def swap(self) -> None:
        one, other = self._file(), self._file()
        spare = one.with_name("spare")
        one.rename(spare)
        other.rename(one)
        spare.rename(other)

    def copy(self) -> None:
        shutil.copy(self._file(), self._other_place())

    def append(self) -> None:
        file = self._file()
        self._replace(file, file.read_bytes() + self._file().read_bytes())

    def remove(self) -> None:
        self._file().unlink()

    def move(self) -> None:
        self._file().rename(self._other_place())

    def later(self) -> None:
        file = self._file()
        self._replace(file, LATER + file.read_bytes()[len(HEADER) :])

    def special(self) -> None:
        file = self._file() if self.chance.random() < 0.5 else self._other_place()
        file.unlink(missing_ok=True)
        kind = self.chance.randrange(5)
        if kind == 0:
            file.mkdir()
        elif kind == 1:
            os.mkfifo(file)
        elif kind == 2:
            file.symlink_to(self._file())
        elif kind == 3:
            with file.open("wb") as opened:
                opened.truncate(1 << 30)
        else:
            file.with_name("unknown").write_bytes(self._junk())

    def corrupt_ack(self) -> None:
        file = self._file(acks=True)
        kind = self.chance.randrange(4)
        if kind == 0:
            file.unlink()
        elif kind == 1:
            self._replace(file, self._junk())
        elif kind == 2:
            content = bytearray(file.read_bytes())
            content[self.chance.randrange(len(content))] ^= 1 << self.chance.randrange(8)
            self._replace(file, bytes(content))
        else:
            shutil.copy(file, f"{self._file()}.ack")

    def copy_folder(self) -> None:
        shutil.copytree(self._folder(), self.path / f"{self._number}-{self.chance.randbytes(8).hex()}")

    def remove_folder(self) -> None:
        shutil.rmtree(self._folder())

    def rename_folder(self) -> None:
        self._folder().rename(self.path / f"{self._number}-{self.chance.randbytes(8).hex()}")

    def hide_folder(self) -> None:
        folder = self._folder()
        folder.rename(folder.with_name(f"{folder.name}~"))

    def unlock(self) -> None:
        (self._folder() / "lock").unlink()

    def block_lock(self) -> None:
        lock = self._folder() / "lock"
        lock.unlink()
        lock.mkdir()


Change = Callable[[Corruption], None]
IN_PLACE: tuple[Change, ...] = (*[Corruption.flip] * 2, *[Corruption.overwrite] * 2)
FILES: tuple[Change, ...] = (
    *IN_PLACE,
    *(Corruption.cut, Corruption.behead, Corruption.insert, Corruption.empty, Corruption.zero, Corruption.swap),
    *(Corruption.copy, Corruption.append, Corruption.remove, Corruption.move, Corruption.later),
    *(Corruption.special, *[Corruption.corrupt_ack] * 2),
)
FOLDERS: tuple[Change, ...] = (
    *(Corruption.copy_folder, Corruption.remove_folder, Corruption.rename_folder, Corruption.hide_folder),
    Corruption.unlock,
)
ALL: tuple[Change, ...] = (*FILES, *FILES, *FOLDERS, Corruption.block_lock)


def readable(path: Path) -> list[bytes]:
    """Return the contents of the segments that a reader is to find, at their start in the format of today."""
    found = []
    for folder in path.iterdir():
        if folder.name.startswith(".") or folder.name.endswith("~") or (folder / "lock").is_dir():
            continue
        for file in sorted(folder.iterdir()):
            if is_segment(file.name) and stat.S_ISREG(file.lstat().st_mode) and file.stat().st_size < 1 << 26:
                content = file.read_bytes()
                if not content.startswith(LATER):
                    found.append(content)
    return found

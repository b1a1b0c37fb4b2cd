"""The source distribution holds what its tests need."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.docs.blocks import ROOT

NOT_SOURCE = (ROOT / ".gitignore").read_text(encoding="utf-8").split()


def test_it_holds_every_file_of_the_checkout(tmp_path: Path) -> None:
    """Package, tests, examples and documentation: unpacked, it can be tested and built again."""
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".git", *(pattern.rstrip("/") for pattern in NOT_SOURCE), "_build")
    shutil.copytree(ROOT, source, ignore=ignored)
    expected = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        found = {name.partition("/")[2] for name in opened.getnames()}
    assert expected - found == set()

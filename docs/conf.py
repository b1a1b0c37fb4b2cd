"""How Sphinx builds the documentation: `sphinx-build -W -n docs docs/_build`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import brockman  # noqa: E402 - from this checkout

project = "brockman"
author = "the brockman authors"
version = release = brockman.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "A Python client for the FocusLab API"}
default_role = "code"  # docstrings write names in single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say what each argument is
napoleon_use_rtype = False  # a sentence under "Returns:" may have a colon
nitpick_ignore_regex = [
    ("py:.*", r"(collections|datetime|typing|requests|types)\..*")
]  # no inventories: builds offline


def mark_examples(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Turn what a docstring indents after a blank line into a literal block."""
    result: list[str] = []
    is_example = False
    for index, line in enumerate(lines):
        is_indented = line.startswith("    ")
        follows_text = index > 1 and not lines[index - 1].strip() and not lines[index - 2].startswith(" ")
        if is_indented and follows_text and not is_example and not lines[index - 2].endswith("::"):
            result += ["::", ""]
        is_example = is_indented or (is_example and not line.strip())
        result.append(line)
    lines[:] = result


def setup(app: Any) -> None:
    """Mark examples before napoleon reads the sections of a docstring."""
    app.connect("autodoc-process-docstring", mark_examples, priority=400)

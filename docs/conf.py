"""The site: `make docs`."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from rlgen import __version__
from rlgen.__main__ import COMMANDS

project = "rlgen"
author = "the rlgen authors"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.apidoc"]
html_theme = "furo"
html_title = f"rlgen {release}"
exclude_patterns = ["_build"]

# Single backticks in docstrings are code.
default_role = "code"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

apidoc_modules = [
    {
        "path": "../rlgen",
        "destination": "api",
        "exclude_patterns": ["**/__main__.py"],
        "separate_modules": True,
        "module_first": True,
        "max_depth": 1,
    }
]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True
autodoc_mock_imports = [name for name in ("warp", "mujoco_warp") if find_spec(name) is None]  # an extra, 150 MB
napoleon_use_ivar = True
nitpicky = False


def write_commands() -> None:
    """The page of the commands, as their parsers tell of them."""
    page = ["# Commands", "", "Each is also a script, `python scripts/gail.py` and so on."]
    plain = os.environ | {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    for name in COMMANDS:
        told = subprocess.run(
            [sys.executable, "-m", "rlgen", name, "--help"], env=plain, capture_output=True, text=True, check=True
        ).stdout
        page += ["", f"## rlgen {name}", "", "```text", told.rstrip(), "```"]
    Path(__file__).with_name("commands.md").write_text("\n".join(page) + "\n", encoding="utf-8")


write_commands()

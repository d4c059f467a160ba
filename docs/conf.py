"""The site: `make docs`."""

from rlgen import __version__

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
napoleon_use_ivar = True
nitpicky = False

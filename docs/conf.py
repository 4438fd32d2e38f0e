"""Configuration of the Sphinx site, which docs/build.sh builds."""

from importlib.metadata import version as installed_version

project = "aiorbd"
author = "The aiorbd authors"
copyright = author  # noqa: A001 - Sphinx's name
version = release = installed_version("aiorbd")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
# A name in single backticks becomes a link if the name exists.
default_role = "py:obj"

autodoc_class_signature = "separated"  # pages show a constructor only when they ask for it
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_default_options = {"members": True, "inherited-members": "tuple,dict,int,Exception", "show-inheritance": False}
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Implements", "params_style")]

html_theme = "furo"
html_title = f"aiorbd {release}"

"""How do the rooms of the package become pages? Two directives, and plain docstrings made legible.

`.. room:: boundary` documents every module of a room, with the question that each one answers;
`.. public-face::` lists what the package exports, in the order of use. Docstrings are written as
prose to be read in an editor; what prose means otherwise in reStructuredText is put right here.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import shutil
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger
from sphinx.util.nodes import make_refnode
from sphinx.util.parsing import nested_parse_to_nodes

import aistat_jax

LOG = getLogger(__name__)
MATHJAX = ("tex-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions")
LISTED = re.compile(r"\s*(\* |- |\d+\. )?")
QUOTED = re.compile(r"(``.+?``|`[^`]+`)")
MARKS = re.compile(r"([*|\\]|(?<=\w)_(?!\w))")


# --------------------------------------------------------------------------------- pages


def modules_of(room: str) -> list[str]:
    """The public modules of a room, or the room itself where it is a single file."""
    name = f"{aistat_jax.__name__}.{room}"
    module = importlib.import_module(name)
    if not hasattr(module, "__path__"):
        return [name]
    return [
        f"{name}.{found.name}"
        for found in pkgutil.iter_modules(module.__path__)
        if not found.name.startswith("_")
    ]


def question(module: ModuleType) -> str:
    """The first sentence of a module's docstring, which says what question the module answers."""
    first = " ".join((module.__doc__ or "").split("\n\n")[0].split())
    return re.split(r"(?<=[?.]) ", first)[0]


class Generated(SphinxDirective):
    """A directive whose content is made up rather than given."""

    def parse(self, lines: list[str]) -> list[nodes.Node]:
        content = StringList(lines, source=self.get_source_info()[0])
        return nested_parse_to_nodes(self.state, content, allow_section_headings=True)


class Room(Generated):
    """Every module of the rooms named: a table of their questions, then their docstrings."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        names = [name for room in self.arguments[0].split() for name in modules_of(room)]
        table, body = [".. list-table::", "   :widths: auto", ""], []
        for name in names:
            short = name.split(".")[-1]
            asked = prose([question(importlib.import_module(name))])[0]
            table += [f"   * - :py:mod:`{short} <{name}>`", f"     - {asked}"]
            body += ["", short, "-" * len(short), "", f".. automodule:: {name}", ""]
        return self.parse(table + body)


def public_names() -> list[tuple[str, str]]:
    """Every public name with the room that it lives in, in the order of the package's stub."""
    stub = ast.parse(Path(str(aistat_jax.__file__)).with_suffix(".pyi").read_text("utf-8"))
    imports = [line for line in stub.body if isinstance(line, ast.ImportFrom)]
    return [(f"aistat_jax.{line.module}", each.name) for line in imports for each in line.names]


class PublicFace(Generated):
    """What `import aistat_jax as aj` offers: each name with its first sentence."""

    def run(self) -> list[nodes.Node]:
        homes = [f"   ~{room}.{name}" for room, name in public_names()]
        return self.parse([".. autosummary::", "   :nosignatures:", "", *homes])


# ---------------------------------------------------------------------------- docstrings


def prose(lines: list[str]) -> list[str]:
    """Prose as reStructuredText: outside `quotes` and examples nothing is markup but lists.

    A block that stands four spaces in is code, as in Markdown.
    """
    out: list[str] = []
    example = code = False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>> "))
        code = code and (indent >= 4 or not line.strip())
        if indent >= 4 and not (code or example) and out and not out[-1].strip():
            out += ["::", ""]
            code = True
        out.append(line if code or example else _escaped(line))
    return out


def _escaped(line: str) -> str:
    start = LISTED.match(line)
    assert start is not None
    parts = QUOTED.split(line[start.end() :])
    text = (part if n % 2 else MARKS.sub(r"\\\1", part) for n, part in enumerate(parts))
    return start[0] + "".join(text)


def make_legible(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """A docstring's lines, changed in place to what they look like in an editor."""
    lines[:] = prose(lines)


def short_types(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, given: str | None, back: str | None
) -> tuple[str | None, str | None]:
    """Annotations as they stand in the code: `Float[Array, 'ray']`, without JAX's private rooms."""

    def tidy(text: str | None) -> str | None:
        for old, new in (("jaxlib._jax.", ""), ("<factory>", "...")):
            text = text and text.replace(old, new)
        return text and re.sub(r"'\s*([^']*?)\s*'\]", r"'\1']", text)

    return tidy(given), tidy(back)


def is_field(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Fields of a record are in its signature, with their types, and need no entry each."""
    kept = callable(obj) or isinstance(obj, property | cached_property | classmethod | staticmethod)
    return True if what == "class" and not kept else None


def follow(app: Sphinx, env: Any, node: nodes.Element, content: nodes.Element) -> Any:
    """Where a `room.name` or `Record.field` of a docstring lies; a module without that name fails.

    A word without a dot may be an argument, so that it is a link only where its own module or
    class has it.
    """
    target = node.get("reftarget", "").removesuffix("()")
    first, _, last = target.partition(".")
    if node.get("refdomain") != "py" or node.get("reftype") != "obj" or not last.isidentifier():
        return None
    python = env.get_domain("py")
    found = python.find_obj(env, None, None, target, "obj", 1)
    if len(found) == 1:
        page, anchor = found[0][1].docname, found[0][1].node_id
        return make_refnode(app.builder, node["refdoc"], page, anchor, content, found[0][0])
    if not found and any(name.endswith(f".{first}") for name in python.modules):
        LOG.warning("nothing is called %s", target, location=node)
    return None


def check_public_face(app: Sphinx, env: Any) -> None:
    """Every name that the package exports has an entry to be led to."""
    for room, name in public_names():
        if f"{room}.{name}" not in env.get_domain("py").objects:
            LOG.warning("%s is exported by the package but not documented in %s", name, room)


# ------------------------------------------------------------------------ the site itself


def choose_source(app: Sphinx, docname: str, source: list[str]) -> None:
    """The home page gets the table of contents; a notebook its executed copy, if one is named."""
    if docname == app.config.root_doc:
        source[0] += (Path(app.confdir) / "contents.md").read_text(encoding="utf-8")
    executed = Path(app.config.executed_notebooks) / f"{Path(docname).name}.ipynb"
    if app.config.executed_notebooks and docname.startswith("notebooks/"):
        source[0] = executed.read_text(encoding="utf-8")


def finish(app: Sphinx, error: Exception | None) -> None:
    """The home page also answers to index.html, and MathJax lies beside the pages."""
    if error is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    shutil.copy(out / f"{app.config.root_doc}.html", out / "index.html")
    package = importlib.import_module("sphinx-mathjax-offline")
    source, target = Path(package.__file__).parent / "static/mathjax", out / "_static/mathjax"
    for part in MATHJAX:
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, dirs_exist_ok=True)
        else:
            shutil.copy(source / part, target / part)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("executed_notebooks", "", "env", str)
    app.add_directive("room", Room)
    app.add_directive("public-face", PublicFace)
    app.connect("autodoc-process-docstring", make_legible)
    app.connect("autodoc-process-signature", short_types)
    app.connect("autodoc-skip-member", is_field)
    app.connect("missing-reference", follow)
    app.connect("env-check-consistency", check_public_face)
    app.connect("source-read", choose_source)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True}

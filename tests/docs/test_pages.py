"""Run the examples of the README and the site on a real cluster, and check that the reference is complete."""

import ast
import hashlib
import inspect
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, chdir
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from helpers import new_name
from sybil import Sybil
from sybil.parsers.myst import CodeBlockParser

import aiorbd
from aiorbd.testing import DevCluster

ROOT = Path(__file__).parents[2]
PAGES = [
    path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if "```python" in path.read_text()
]

#: The examples' name for the reader's cluster. The tests replace it with the test cluster's configuration file.
CONFFILE = '"/etc/ceph/ceph.conf"'


class Page:
    """Run the examples of one page in order, in one namespace.

    Async examples run on one event loop in a separate thread.
    """

    def __init__(self, conffile: str, portal: Any, names: Any) -> None:
        self.conffile, self.portal, self.names = conffile, portal, names
        self.count = 0

    def evaluate(self, example: Any) -> None:
        self.count += 1
        source = "\n" * (example.line) + example.parsed.replace(CONFFILE, repr(self.conffile))
        code = compile(source, example.path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if "\nanyio.run(main)" in example.parsed:  # a whole program
            exec(code, self.names)  # noqa: S102 - a page of ours
        else:
            self.portal.call(self.run, code)

    async def run(self, code: Any) -> None:
        with anyio.fail_after(60):
            if code.co_flags & inspect.CO_COROUTINE:
                await eval(code, self.names)  # noqa: S307
            else:
                exec(code, self.names)  # noqa: S102


@pytest.fixture(scope="module")
def ceph() -> Iterator[Any]:
    """Start a cluster. Only the pages use its pool `rbd`."""
    with DevCluster() as cluster:
        yield cluster


async def open_image(stack: Any, conffile: str) -> Any:
    """Create the objects that the pages assume: an I/O context, and an image of 16 MiB."""
    name = new_name()
    cluster = await stack.enter_async_context(aiorbd.connect(conffile))
    ioctx = await stack.enter_async_context(cluster.open_ioctx("rbd"))
    await ioctx.create_image(name, 16 << 20)
    image = await stack.enter_async_context(ioctx.open_image(name))
    return {"cluster": cluster, "ioctx": ioctx, "image": image, "name": name}


async def clean_up(stack: Any, conffile: str) -> None:
    """Close the page's objects and remove all images, so that the next page can create its "vm-1"."""
    await stack.aclose()
    async with aiorbd.connect(conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        for name in await ioctx.list_images():
            async with ioctx.open_image(name) as image:
                async for snapshot in image.snapshots():
                    await snapshot.remove()
            await ioctx.remove_image(name)


async def serve(image: aiorbd.Image) -> None:
    """Act as a service that does some work and ends."""
    await image.write(b"served", 0)


@pytest.mark.parametrize(
    "path", [path for path in PAGES if "```python" in path.read_text()], ids=lambda path: path.stem
)
def test_examples_of_a_page_run(
    ceph: Any, path: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = AsyncExitStack()
    monkeypatch.setenv("CEPH_CONF", ceph.conffile)
    backup = os.open(tmp_path / "backup", os.O_CREAT | os.O_RDWR)
    names: dict[str, Any] = {
        module.__name__: module for module in (aiorbd, anyio, hashlib, os, pytest, shutil, threading)
    }
    names |= {"conffile": ceph.conffile, "mon_host": ceph.mon_host, "directory": tmp_path, "backup": backup}
    names |= {"serve": serve}
    with start_blocking_portal("asyncio") as portal, chdir(tmp_path):
        names |= portal.call(open_image, stack, ceph.conffile)
        ioctx = names["ioctx"]
        page = Page(ceph.conffile, portal, names)
        try:
            for example in Sybil([CodeBlockParser("python", page.evaluate)]).parse(path):
                example.evaluate()
            for test in [function for name, function in names.items() if name.startswith("test_")]:
                portal.call(test, ioctx)  # the argument that a reader's pytest would pass
        finally:
            portal.call(clean_up, stack, ceph.conffile)
            os.close(backup)
    assert page.count == path.read_text().count("```python\n")
    if path.stem == "observability":
        check_recipes(capsys.readouterr().out)


def check_recipes(shown: str) -> None:
    """Check what Prometheus would scrape, and the spans of OpenTelemetry with their parents."""
    assert 'rbd_operation_seconds_count{operation="rbd_aio_write2"} 1.0' in shown
    spans = [json.loads(text) for text in re.findall(r"^\{$.*?^\}$", shown, re.MULTILINE | re.DOTALL)]
    parents = {span["name"]: span["parent_id"] for span in spans}
    (request,) = [span["context"]["span_id"] for span in spans if span["name"] == "request"]
    assert parents["rbd_aio_read2"] == request


TEXTS = [
    path
    for pattern in ("*.md", "docs/*.md", "docs/reference/*.md", "tests/*.md", "ffi/*.md", "examples/*.md")
    for path in ROOT.glob(pattern)
]


def test_names_in_the_texts_exist() -> None:
    """Sphinx does not report missing names."""
    names = [name for path in TEXTS for name in re.findall(r"\{py:obj\}`(?:[^`]*<)?([\w.]+)>?`", path.read_text())]
    assert len(names) > 10
    for name in names:
        place, *attributes = name.split(".")
        assert place == "aiorbd", name
        found = aiorbd
        for attribute in attributes:
            found = getattr(found, attribute)


def test_links_in_the_texts_lead_to_files() -> None:
    """Check all texts, including those outside the site. Sphinx checks only the links of the site's pages."""
    links = [
        (path, target)
        for path in TEXTS
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text())
        if not target.startswith(("https://", "#"))
    ]
    assert len(links) > 20
    for path, target in links:
        assert (path.parent / target.partition("#")[0]).exists(), (path, target)


def test_reference_has_every_public_name() -> None:
    pages = "".join(path.read_text() for path in (ROOT / "docs/reference").glob("*.md"))
    shown = re.findall(r"^\.\. (?:auto\w+|py:data):: (?:aiorbd\.)?([\w.]+)$", pages, re.MULTILINE)
    assert len(shown) == len(set(shown))
    assert set(aiorbd.__all__) - {"__version__"} <= set(shown)
    for name in shown:
        module, _, attribute = name.rpartition(".")
        assert hasattr(aiorbd.testing if module == "testing" else aiorbd, attribute), name

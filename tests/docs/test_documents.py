"""Every Python block of the README and of the documents runs as printed, block after block, against the emulator."""

import asyncio
import re
import sys
import types
import warnings
from pathlib import Path

import pytest

from lm_deluge.errors import ModelWarning

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if "```python" in path.read_text()
]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


class _Awaitable:
    """A method with a twin to be awaited, in Modal's manner."""

    def __init__(self, function):
        self._function = function

    def __call__(self, *args):
        raise AssertionError("the blocking method was called where there is an asynchronous one")

    async def aio(self, *args):
        await asyncio.sleep(0)
        return self._function(*args)


class _ModalDict:
    def __init__(self):
        self.entries = {}
        self.get = _Awaitable(self.entries.get)
        self.put = _Awaitable(self.entries.__setitem__)

    @classmethod
    def from_name(cls, name, *, create_if_missing):
        return cls()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_runs_as_printed(document, emulator, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    modal = types.ModuleType("modal")
    modal.Dict = _ModalDict  # Modal itself needs an account; this has the same shape
    monkeypatch.setitem(sys.modules, "modal", modal)
    text = document.read_text()
    names: dict[str, object] = {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        code = compile("\n" * line + block.group(1), str(document), "exec")
        with warnings.catch_warnings():
            # One document names a server of one's own, whose prices nobody knows.
            warnings.simplefilter("ignore", ModelWarning)
            exec(code, names)
        main = names.pop("main", None)
        if main is not None:
            asyncio.run(main())


def test_links_between_documents_lead_somewhere():
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", path.read_text()):
            place = path.parent / target if target else path
            assert place.exists(), f"{path.name} links to {target}"
            assert not anchor or anchor in anchors(place), f"{path.name} links to {target}#{anchor}"


def test_tests_and_benchmarks_that_documents_name_are_there():
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for named in re.findall(r"`((?:tests|benchmarks|docs|\.ci)/[\w/-]+\.\w+)", path.read_text()):
            assert (ROOT / named).exists(), f"{path.name} names {named}"


def test_the_index_has_every_page():
    index = (ROOT / "docs" / "README.md").read_text()
    for path in (ROOT / "docs").rglob("*.md"):
        name = path.relative_to(ROOT / "docs").as_posix()
        assert name == "README.md" or f"({name})" in index, name


def anchors(page):
    """What a link may name after ``#``: the headings of a page, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}

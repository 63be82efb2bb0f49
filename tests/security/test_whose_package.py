"""Nothing advises to install a package of this project's name: it is on no index, and what is there is others' code."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lm_deluge._optional import PACKAGES, require

ROOT = Path(__file__).parents[2]
INSTALL = re.compile(
    r"\b(?:pipx?|uvx?|poetry|conda|pdm|hatch)\b[^\n]{0,40}\b(?:install|add|run|sync)\b[^\n]*", re.IGNORECASE
)
OURS = re.compile(r"lm[-_.]deluge", re.IGNORECASE)
TEXTS = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / "pyproject.toml"]


def advice(text: str) -> list[str]:
    """What a text tells to install under our name, from an index. Lines of source are joined as Python does it."""
    joined = re.sub(r"[\"']\s*\n\s*[fr]?[\"']", "", text)
    return [found for found in INSTALL.findall(joined) if OURS.search(re.sub(r"#egg=\S+", "", found))]


@pytest.mark.parametrize(
    "text",
    [
        "pip install lm_deluge",
        "Upgrade with: pip install -U lm-deluge==2",
        "uv add 'LM.Deluge[redis]'",
        "uv pip install lm_deluge",
        "pipx run lm-deluge",
        "poetry add --group dev lm_deluge",
        '"Install it with: pip "\n    f"install \'lm_deluge[{extra}]\'"',
    ],
)
def test_advice_is_recognized(text: str) -> None:
    assert advice(text)


def test_no_text_of_ours_gives_it() -> None:
    assert len(TEXTS) > 250
    # A decision may name what it was measured against, at its version.
    found = {str(path.relative_to(ROOT)): advice(path.read_text()) for path in TEXTS if "decisions" not in path.parts}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_each_extra_is_told_by_its_packages() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {
        name: " ".join(re.split("[>=~<; ]", each)[0] for each in needed)
        for name, needed in project["optional-dependencies"].items()
        if name not in ("bench", "dev")
    }
    assert extras == PACKAGES


@pytest.mark.parametrize("extra", PACKAGES)
def test_a_missing_package_is_told_by_its_own_name(extra: str) -> None:
    with pytest.raises(ImportError, match=rf"^a test needs 'not_there', .*pip install {PACKAGES[extra]}$"):
        require("not_there.part", extra=extra, purpose="a test")

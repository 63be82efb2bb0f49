"""What ``docs/security.md`` claims is tested under the names that it gives."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tests_that_the_document_names_exist() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    files = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    existing = {
        name for content in files for name in re.findall(r"^ *(?:async )?def (test_\w+)", content, re.MULTILINE)
    }
    assert len(named) > 20
    assert named <= existing
    for path in re.findall(r"`(tests/\S+?)`", text):
        assert (ROOT / path).is_file()

"""What ``docs/security.md`` promises is tested under the names that it gives."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "security.md").read_text()
HEAD = "| promise | attack | test |\n| --- | --- | --- |\n"


def rows() -> list[list[str]]:
    """The rows of the tables of promises, by cells."""
    tables = [part.partition("\n\n")[0] for part in DOCUMENT.split(HEAD)[1:]]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for table in tables for row in table.splitlines()]


def existing() -> set[str]:
    suites = (ROOT / "src" / "lm_deluge" / "testing").glob("_*.py")  # which tests subclass
    files = [path.read_text() for path in [*(ROOT / "tests").rglob("test_*.py"), *suites]]
    return {name for content in files for name in re.findall(r"^ *(?:async )?def (test_\w+)", content, re.MULTILINE)}


def test_every_promise_has_an_attack_and_a_test() -> None:
    assert len(rows()) > 30
    for row in rows():
        assert len(row) == 3, row
        promise, attack, tests = row
        assert promise, row
        assert attack, row
        assert re.fullmatch(r"`test_\w+`(, `test_\w+`)*", tests), row
    promises = [row[0] for row in rows()]
    assert len(set(promises)) == len(promises)


def test_the_tests_that_the_document_names_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", DOCUMENT))
    assert named - existing() == set()
    for path in re.findall(r"`(tests/\S+?)`", DOCUMENT):
        assert (ROOT / path).is_file()


def test_the_policy_leads_to_it_and_names_no_address() -> None:
    policy = (ROOT / "SECURITY.md").read_text()
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", policy + DOCUMENT):
        assert any((place / link).exists() for place in (ROOT, ROOT / "docs")), link
    assert "@" not in policy
    assert "## What is not protected" in DOCUMENT

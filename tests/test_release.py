"""What makes releases and proposes a newer lock: all that it runs is pinned, and what may write runs nothing else."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def jobs(workflow: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(workflow.read_text())["jobs"]
    return found


def test_actions_are_pinned_by_commit_and_name_their_version(workflow: Path) -> None:
    uses = re.findall(r"uses: (.*)", workflow.read_text())
    assert uses
    for each in uses:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each), each


def test_an_action_has_one_version_everywhere() -> None:
    pins = {pin for path in WORKFLOWS for pin in re.findall(r"uses: (\S+)", path.read_text())}
    assert len(pins) == len({pin.partition("@")[0] for pin in pins})


def test_nothing_that_was_installed_runs_where_something_may_be_written(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text())["permissions"] == {}
    for name, job in jobs(workflow).items():
        runs = "\n".join(step.get("run", "") for step in job["steps"])
        installs = re.search(r"\bmake\b|pip|python|\.ci/run", runs)
        writes = "write" in job["permissions"].values()
        assert not (installs and writes), name
        if installs:
            (checkout,) = [step for step in job["steps"] if "actions/checkout" in step.get("uses", "")]
            assert checkout["with"] == {"persist-credentials": False}


def test_what_an_event_says_is_data_in_every_script(workflow: Path) -> None:
    """A name of a branch or a tag that was pasted into a script would be run by it."""
    for job in jobs(workflow).values():
        assert not any("${{" in step.get("run", "") for step in job["steps"])


def test_targets_and_files_that_the_workflows_use_exist(workflow: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)$", workflow.read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"(\.ci/\w+)", workflow.read_text()):
        assert (ROOT / path).exists()

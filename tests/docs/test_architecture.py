"""The page on the architecture: what it names is there."""

import importlib
import re
from operator import attrgetter
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
WALK = PAGE.partition("## The walk of a prompt")[2].partition("\n## ")[0]


def test_the_walk_of_a_prompt_names_functions_that_are_there():
    named = re.findall(r"`([\w/]+)\.py:([\w.]+)`", WALK)
    assert len(named) >= 20
    for module, function in named:
        attrgetter(function)(importlib.import_module("lm_deluge." + module.replace("/", ".")))


def test_the_walk_of_a_prompt_has_at_most_twenty_steps_each_with_its_function():
    steps = re.split(r"^\d+\. ", WALK, flags=re.MULTILINE)[1:]
    assert len(steps) <= 20
    assert [step for step in steps if ".py:" not in step] == []

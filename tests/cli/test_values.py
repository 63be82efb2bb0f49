"""Durations and sizes as they are typed, where options go, and what is printed."""

from pathlib import Path

import pytest
import typer

from lm_deluge.cli.settings import RunSettings
from lm_deluge.cli.table import Column, print_table
from lm_deluge.cli.terminal import shown
from lm_deluge.cli.values import parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000), ("2w", 1_209_600), ("1.5 H", 5_400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("800kB", 800_000),
        ("500MB", 500_000_000),
        ("2gb", 2 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("1TB", 10**12),
        ("7B", 7),
    ],
)
def test_sizes(text: str, number: int) -> None:
    assert parse_size(text) == number


@pytest.mark.parametrize("text", ["", "5", "d", "0s", "0.0d", "-1d", "1e9d", "1y", "1d2h", "²d", "1" * 40 + "d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="such as 90s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "5", "MB", "-1MB", "1PB", "1 M B", "1kiloB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="such as 800kB"):
        parse_size(text)


# Options


def test_options_go_where_they_belong_and_those_that_were_not_given_nowhere() -> None:
    options = {
        "prompts": Path("-"),
        "out": None,
        "model": ["m"],
        "temperature": 0.0,
        "top_p": None,
        "json_mode": False,
        "max_attempts": 3,
        "cache": "my.db",
        "scope": "request",
        "ttl": None,
        "tag": [],
        "max_age": 7.0,
        "with_prompt": True,
    }
    settings = RunSettings.of(options)
    assert settings.source is None
    assert settings.with_prompt
    assert settings.client == {"model_names": ["m"], "temperature": 0.0, "max_attempts": 3}
    assert (settings.cache, settings.cache_options) == ("my.db", {"scope": "request"})
    assert settings.call == {"max_age": 7.0}


# Printing


def test_what_could_deceive_is_spelled_out() -> None:
    hostile = "a\x1b[31mred\x07 \x9b1m \u202eevil\u2066 \u200bhidden\r\ud800 \ue000"
    told = shown(hostile)
    assert told == r"a\x1b[31mred\x07 \x9b1m \u202eevil\u2066 \u200bhidden \ud800 \ue000"
    assert shown("one\n\ttwo", lines=True) == "one\n\\ttwo"
    assert shown("naïve 日本語\u3000👩\u200d🚀 ــ") == "naïve 日本語 👩\u200d🚀 ــ"


def test_a_table_keeps_numbers_whole_and_leaves_out_what_matters_least() -> None:
    from rich.console import Console

    columns = [
        Column(name="name", cells=["long " * 40, "[bold]short[/]"], share=1),
        Column(name="number", cells=["1,234,567", "1"], right=True),
        Column(name="extra", cells=["some more detail", ""], rank=1),
        Column(name="least", cells=["the least of all", ""], rank=2),
    ]
    printed = {}
    for width in (40, 60, 120):
        console = Console(width=width)
        with console.capture() as captured:
            print_table(columns, console=console)
        lines = captured.get().splitlines()
        assert max(map(len, lines)) <= width
        assert any(line.rstrip().endswith("1,234,567") for line in lines) or width > 40
        printed[width] = captured.get()
        assert "1,234,567" in printed[width]
        assert "[bold]short[/]" in printed[width]
    assert "extra" not in printed[40]
    assert "extra" in printed[60]
    assert "least" not in printed[60]
    assert "least" in printed[120]

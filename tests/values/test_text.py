"""Amounts as people read them: examples, and what holds for every number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_deluge.text import age, ago, counted, date, day, duration, moment, money, rate, size


@pytest.mark.parametrize(
    ("dollars", "text"),
    [
        (0.0, "$0"),
        (1e-12, "$0"),
        (0.000000042, "$0.000000042"),
        (0.00042, "$0.00042"),
        (0.000999, "$0.0010"),
        (0.0123, "$0.0123"),
        (0.28126, "$0.2813"),
        (0.99996, "$1.00"),
        (1.234, "$1.23"),
        (999.99, "$999.99"),
        (999.996, "$1,000"),
        (1234.4, "$1,234"),
        (1_234_567.0, "$1,234,567"),
        (-0.0041, "-$0.0041"),
    ],
)
def test_money_shows_the_digits_that_matter(dollars: float, text: str) -> None:
    assert money(dollars) == text


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        ((6.558, 0.6944, 13.1), ["$6.5580", "$0.6944", "$13.1000"]),
        ((1234.4, 65.6), ["$1,234.40", "$65.60"]),
        ((0.0042, 0.00042, 0.0), ["$0.00420", "$0.00042", "$0"]),
        ((1234.4, -2345.6), ["$1,234", "-$2,346"]),
    ],
)
def test_money_in_a_column_lines_up(column: tuple[float, ...], texts: list[str]) -> None:
    assert [money(dollars, beside=column) for dollars in column] == texts


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0001, "under 1 ms"),
        (0.0479, "0.048 s"),
        (0.951, "1.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.7, "1 min 0 s"),
        (185, "3 min 5 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_never_read_60_seconds(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("per_second", "text"), [(26_380.4, "26,380/s"), (9.96, "10/s"), (4.21, "4.2/s"), (0.051, "0.05/s")]
)
def test_rates(per_second: float, text: str) -> None:
    assert rate(per_second) == text


def test_counts_have_a_plural() -> None:
    assert [counted(1, "retry", "retries"), counted(0, "error"), counted(1319, "prompt")] == [
        "1 retry",
        "0 errors",
        "1,319 prompts",
    ]


@pytest.mark.parametrize(
    ("number", "told"), [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1_000, "1.0 kB"), (12_345_678, "12 MB")]
)
def test_sizes_are_told(number: int, told: str) -> None:
    assert size(number) == told


@pytest.mark.parametrize("when", [None, 0, float("nan"), float("inf"), -1e300, 1e300])
def test_no_time_breaks_a_table(when: float | None) -> None:
    assert date(when) == "–"
    assert ago(when or 0.0, now=1.0)


def test_times_are_told_from_now() -> None:
    assert [ago(100, now=now) for now in (100, 101, 220, 86_500 * 3, 40)] == [
        "just now",
        "1 second ago",
        "2 minutes ago",
        "3 days ago",
        "in 1 minute",
    ]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (89, "89 seconds"),
        (60, "1 minute"),
        (90, "1.5 minutes"),
        (3_600, "1 hour"),
        (5_000, "83.3 minutes"),
        (86_400, "1 day"),
        (9.5 * 86_400, "9.5 days"),
        (float("inf"), "an unknown time"),
    ],
)
def test_ages_are_told_in_the_unit_with_the_shortest_number(seconds: float, told: str) -> None:
    assert age(seconds) == told


def test_a_moment_names_its_time_zone() -> None:
    assert moment(1_793_628_180) == "2026-11-02 14:03 UTC"
    assert moment(1_793_628_200, seconds=True) == "2026-11-02 14:03:20 UTC"
    assert day(1_793_628_180) == "2026-11-02"
    assert moment(None) == moment(float("nan")) == "an unknown time"


_AMOUNTS = st.floats(min_value=1e-8, max_value=1e12)


@given(_AMOUNTS)
def test_money_is_right_to_two_digits_and_never_a_power_of_ten(dollars: float) -> None:
    told = money(dollars)
    assert "e" not in told
    assert float(told.removeprefix("$").replace(",", "")) == pytest.approx(dollars, rel=0.051)
    assert money(-dollars) == f"-{told}"


@given(st.lists(_AMOUNTS, min_size=1, max_size=5))
def test_a_column_of_money_has_the_same_decimals(column: list[float]) -> None:
    assert len({len(money(dollars, beside=column).partition(".")[2]) for dollars in column}) == 1


@given(st.floats(min_value=0, max_value=1e12))
def test_durations_never_have_60_of_a_unit(seconds: float) -> None:
    told = duration(seconds)
    assert "60 s" not in told.split(" min ")[-1]
    assert not told.endswith(" 60 min")


@given(st.integers(min_value=0, max_value=10**15))
def test_a_size_is_right_to_two_digits(number: int) -> None:
    amount, unit = size(number).replace(",", "").split()
    power = {"byte": 1, "bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert float(amount) * power == pytest.approx(number, rel=0.051)
    assert float(amount) < 1_000 or unit == "TB"


@given(st.integers(min_value=-(10**12), max_value=10**12))
def test_counts_say_one_of_a_single_thing_alone(number: int) -> None:
    told, noun = counted(number, "entry", "entries").split()
    assert int(told.replace(",", "")) == number
    assert (noun == "entry") == (number == 1)


@given(st.floats(), st.floats())
def test_every_number_is_told(first: float, second: float) -> None:
    assert date(first)
    assert moment(first)
    assert ago(first, now=second)
    assert age(first)


@given(st.floats(min_value=0, max_value=1e9))
def test_a_rate_is_a_number_for_each_second(per_second: float) -> None:
    told = rate(per_second)
    assert float(told.removesuffix("/s").replace(",", "")) == pytest.approx(per_second, abs=0.06, rel=0.051)

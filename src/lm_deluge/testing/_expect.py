"""How the conformance suites say what is wrong."""

__all__ = ["expect"]


def expect(found: object, wanted: object, what: str) -> None:
    """Fail with what was expected and what was found."""
    if found != wanted:
        raise AssertionError(f"{what}: expected {_short(wanted)}, found {_short(found)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 500 else f"{text[:480]}… ({len(text)} characters)"

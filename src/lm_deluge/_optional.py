"""Import of optional dependencies, late and with the command that installs them."""

import importlib
from typing import Any

__all__ = ["require"]


def require(module: str, *, extra: str, purpose: str) -> Any:
    """Import and return ``module``, or say how to install it.

    Raises:
        ImportError: the module is missing; the message holds the ``pip`` command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs {module.partition('.')[0]!r}, which is not installed. "
            f"Install it with: pip install 'lm_deluge[{extra}]'"
        ) from error

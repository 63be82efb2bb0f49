"""Who is measured. A contender is one file here, imported in that contender's own interpreter, and a row of this table.

The file defines ``Adapter``, which does the common work with the contender's library (see ``benchmarks.worker``).
"""

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from benchmarks.workload import ROOT

__all__ = ["CONTENDERS", "PEERS", "SDKS", "Contender"]

_SETTINGS = (("OPENAI_API_KEY", "none"), ("ANTHROPIC_API_KEY", "none"), ("NO_COLOR", "1"))


@dataclass(frozen=True)
class Contender:
    """A library and how to get an interpreter that has it.

    Attributes:
        name: its file in this package, its column in tables.
        module: what its users import.
        entry: the class that they import from it.
        requirement: what pip installs into an environment of its own; None for this library, as it lies here.
        variables: environment variables that it needs to work without the network, and within this directory.
    """

    name: str
    module: str
    entry: str
    requirement: str | None = None
    variables: tuple[tuple[str, str], ...] = ()

    def interpreter(self) -> Path:
        """Its Python. The environment is made when it is first needed, and kept."""
        if self.requirement is None:
            return Path(sys.executable)
        place = ROOT / "benchmarks" / ".venvs" / self.name
        python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
        installed = place / "installed"
        if not installed.exists() or installed.read_text() != self.requirement:
            venv.create(place, clear=True, with_pip=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *self.requirement.split()], check=True)
            installed.write_text(self.requirement)
        return python

    def environment(self) -> dict[str, str]:
        """Environment variables for its processes: nothing of the user's that could change how it works."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "SYSTEMROOT") if name in os.environ}
        own = {"PYTHONPATH": str(ROOT / "src")} if self.requirement is None else {}
        return kept | own | dict(self.variables) | dict(_SETTINGS)


def _by_name(*contenders: Contender) -> dict[str, Contender]:
    return {contender.name: contender for contender in contenders}


CONTENDERS = _by_name(
    Contender("ours", "lm_deluge", "LLMClient"),
    Contender("reference", "lm_deluge", "LLMClient", requirement="lm-deluge==0.0.138 plyvel==1.5.1"),
)

# Libraries of which only the caches are measured (see ``benchmarks.caches``).
_OFFLINE = (("LITELLM_LOCAL_MODEL_COST_MAP", "True"), ("DSPY_CACHEDIR", str(ROOT / "benchmarks" / ".work" / "dspy")))
PEERS = _by_name(
    Contender("langchain", "langchain_core", "caches", requirement="langchain-community==0.4.2 redis==8.1.0"),
    Contender("dspy", "dspy", "LM", requirement="dspy==3.4.1", variables=_OFFLINE),
    Contender("litellm", "litellm", "Cache", requirement="litellm[caching]==1.106.2 redis==8.1.0", variables=_OFFLINE),
)

# What people use where prompts are sent without a batch client (see ``benchmarks.fan_out``).
SDKS = _by_name(Contender("anthropic", "anthropic", "AsyncAnthropic", requirement="anthropic==2.12.0"))

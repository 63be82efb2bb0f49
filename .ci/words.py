"""Words that have a better one in this project: ends with status 1 where names, comments or documents use them.

    python .ci/words.py

The table is the glossary's other half (docs/architecture.md). Names on disk stay as they are: files have them.
"""

import re
import subprocess
import sys
from pathlib import Path

SAY = {
    r"warmth|warm turn|warm_turn|WarmTurn": "prefix scheduler, leader, follower, ticket",
    r"rehears\w*": "simulate, simulator",
    r"set[ _]aside|asides?": "quarantine",
    r"lost_to_writes|lost to (avoidable )?writes": "wasted write cost",
    r"sharding|Sharding": "routing keys",
    r"under way": "in flight",
    r"anew": "from scratch, again",
    r"who(so)?ever|nobody": "name who it is",
    r"whatever": "any, all",
    r"where there is such a one": "if supported",
}
ON_DISK = re.compile(
    r'"set_aside"|`set_aside`|(TABLE|INTO|FROM) set_aside|b"aside"|lm_deluge:aside|name="lost_to_writes"|-- set_aside'
)


def main() -> int:
    names = subprocess.run(
        ["git", "ls-files", "src/*.py", "docs/*.md", "README.md"], capture_output=True, text=True, check=True
    )
    found = 0
    for name in names.stdout.split():
        for number, line in enumerate(Path(name).read_text(encoding="utf-8").splitlines(), 1):
            text = ON_DISK.sub("", line)
            for words, better in SAY.items():
                if match := re.search(rf"\b(?:{words})\b", text, re.IGNORECASE):
                    print(f"{name}:{number}: {match[0]!r}; say: {better}")
                    found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

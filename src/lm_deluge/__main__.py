"""``python -m lm_deluge``: the command line, the same as ``deluge``."""

from lm_deluge.cli import main

if __name__ == "__main__":
    main()

"""``python -m lm_deluge.testing``: the provider emulator as a process of its own."""

import argparse
import sys

from lm_deluge.testing.emulator import serve

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Serve until interrupted. The URL is the first line of standard output."""
    parser = argparse.ArgumentParser(prog="python -m lm_deluge.testing", description="Serve the provider emulator.")
    parser.add_argument("--host", default="127.0.0.1", help="interface to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port; 0 picks a free one (default: %(default)s)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds until an answer begins (default: none)")
    options = parser.parse_args(arguments)
    serve(host=options.host, port=options.port, latency=options.latency, started=_announce)


def _announce(url: str) -> None:
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

"""``deluge emulate``: a provider to develop against, without a key, a bill or a network."""

from typing import Annotated

from lm_deluge.cli.options import option

__all__ = ["emulate"]


def emulate(
    port: Annotated[int, option("PORT", "Port to listen on; 0 picks a free one.", min=0, max=65535)] = 8000,
    host: Annotated[
        str, option("ADDRESS", "Interface to listen on. Anyone who can reach it can use the emulator.")
    ] = "127.0.0.1",
    latency: Annotated[float, option("SECONDS", "Time until an answer begins.", min=0)] = 0.0,
) -> None:
    """Serve an emulator of the OpenAI and Anthropic APIs until Ctrl-C.

    It checks requests as strictly as the providers do, simulates their
    prompt caches, and answers with made-up text.

    Needs two more packages: pip install uvicorn httptools
    """
    from lm_deluge.testing import serve

    serve(host=host, port=port, latency=latency, started=_announce)


def _announce(url: str) -> None:
    print(
        f"# Emulating the OpenAI and Anthropic APIs; stop with Ctrl-C. In another terminal:\n"
        f"export OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY=emulator\n"
        f"export ANTHROPIC_BASE_URL={url} ANTHROPIC_API_KEY=emulator\n"
        f"# What was asked, and what it would have cost: curl {url}/_emulator/stats",
        flush=True,
    )
    if not url.startswith(("http://127.", "http://[::1]", "http://localhost")):
        from lm_deluge.cli.terminal import say

        say("deluge: warning: other machines may be able to reach this address.")

"""The checks of images and documents in an Anthropic request."""

from typing import Any

from lm_deluge.testing.anthropic_messages import shapes
from lm_deluge.testing.anthropic_messages.errors import dotted
from lm_deluge.testing.anthropic_messages.prompt import Position
from lm_deluge.testing.decoding import Path, Rejection
from lm_deluge.testing.media import decode_base64, sniff, url_problem

__all__ = ["check_media", "download_failed"]


def check_media(sequence: list[Position]) -> tuple[str, ...]:
    """Check inline data and return the URLs to download.

    Raises:
        Rejection: data that is no base64, bytes of another type than declared, or a URL that cannot work.
    """
    urls: list[str] = []
    for position in sequence:
        for path, block in _with_inner(position.path, position.block):
            source = block.source if isinstance(block, shapes.Image | shapes.Document) else None
            place = dotted((*path, "source"))
            if isinstance(source, shapes.Base64Image | shapes.Base64Pdf):
                _check_data(source, place)
            elif isinstance(source, shapes.Url):
                if (problem := url_problem(source.url)) is not None:
                    raise Rejection(f"{place}.url: {problem}")
                urls.append(source.url)
            elif isinstance(source, shapes.PlainText) and not source.data:
                raise Rejection(f"{place}.data: document text must be non-empty")
    return tuple(urls)


def download_failed(url: str, problem: str) -> Rejection:
    """The API's 400 for a URL that it could not download."""
    return Rejection(f"Unable to download the file. Please verify the URL and try again. ({problem})")


def _check_data(source: shapes.Base64Image | shapes.Base64Pdf, place: str) -> None:
    data = decode_base64(source.data)
    if data is None:
        raise Rejection(f"{place}.base64.data: invalid base64 data")
    if isinstance(source, shapes.Base64Pdf):
        if sniff(data) != "application/pdf":
            raise Rejection(f"{place}.base64.data: The PDF specified was not valid.")
        return
    actual = sniff(data)
    if actual is None or not actual.startswith("image/"):
        raise Rejection(f"{place}.base64: Could not process image")
    if actual != source.media_type:
        raise Rejection(
            f"{place}.base64.data: The image was specified using the {source.media_type} media type, but the image "
            f"appears to be a {actual} image"
        )


def _with_inner(path: Path, block: Any) -> list[tuple[Path, Any]]:
    """A block and the blocks inside it (tool results, documents made of content)."""
    found: list[tuple[Path, Any]] = [(path, block)]
    content: Any = None
    if isinstance(block, shapes.ToolResult):
        content = block.content
    elif isinstance(block, shapes.Document) and isinstance(block.source, shapes.ContentSource):
        content, path = block.source.content, (*path, "source")
    if isinstance(content, list):
        for index, inner in enumerate(content):
            found.extend(_with_inner((*path, "content", index), inner))
    return found

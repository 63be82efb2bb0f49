"""Images and files from every source, and what goes wrong with them."""

import base64
import io
import os
import sys
import tempfile
from pathlib import Path

import pytest

from lm_deluge.errors import MediaError
from lm_deluge.prompt import Conversation, File, Image, Message

from . import samples

BASE64 = base64.b64encode(samples.png()).decode()


class TestSources:
    def test_a_path_is_read_when_it_is_used(self, tmp_path):
        path = tmp_path / "later.png"
        image = Image.of(path)
        assert not image.is_loaded
        path.write_bytes(samples.png())
        loaded = image.load()
        assert (loaded.data, loaded.path, loaded.media_type) == (samples.png(), None, "image/png")
        assert loaded.load() is loaded
        assert not image.is_loaded, "the value itself did not change"

    def test_a_path_may_be_any_path_object(self, tmp_path):
        class Custom:
            def __fspath__(self):
                return str(tmp_path / "a.png")

        assert Image.of(Custom()).path == Image.of(tmp_path / "a.png").path == Image.of(str(tmp_path / "a.png")).path

    def test_a_url_stays_a_url_and_nothing_is_fetched(self):
        for url in ("http://127.0.0.1:1/a.png", "https://host.invalid/a.png", "HTTPS://host.invalid/a.png"):
            image = Image.of(url)
            assert (image.url, image.is_loaded, image.load()) == (url, True, image)
            assert len(Conversation.user(image=image).digest) == 32

    @pytest.mark.parametrize(
        "url",
        [
            f"data:image/png;base64,{BASE64}",
            f"data:image/png;charset=utf-8;base64,{BASE64}",
            f"data:;base64,{BASE64}",
            f"data:image/png; BASE64,{BASE64}",
            f"data:image/jpeg;base64,{BASE64}",  # the content knows better
            "data:image/png," + "".join(f"%{byte:02x}" for byte in samples.png()),
            f"data:image/png;base64,{BASE64[:40]}\r\n {BASE64[40:]}\n",
        ],
    )
    def test_data_urls(self, url):
        assert Image.of(url) == Image(data=samples.png(), media_type="image/png")

    def test_text_in_a_data_url(self):
        file = File.of("data:text/plain;charset=utf-8,Gr%C3%BC%C3%9Fe%20you")
        assert (file.data, file.media_type) == ("Grüße you".encode(), "text/plain")
        assert File.of("data:,plain").media_type == "text/plain"
        assert File.of("data:text/markdown;base64,IyBIaQ==").media_type == "text/markdown"

    @pytest.mark.parametrize(
        "url", ["data:", "data:image/png;base64", "data:image/png;base64,a", "data:image/png;base64,é"]
    )
    def test_data_urls_that_do_not_decode(self, url):
        with pytest.raises(MediaError, match="does not decode"):
            Image.of(url)

    def test_an_error_about_a_data_url_does_not_hold_its_content(self):
        with pytest.raises(MediaError) as caught:
            Image.of("data:image/png;base64," + "ä" * 10_000)
        assert len(str(caught.value)) < 300

    def test_open_files(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_bytes(samples.png())
        with path.open("rb") as file:
            assert Image.of(file).data == samples.png()
        with tempfile.NamedTemporaryFile() as file:
            file.write(samples.png())
            file.seek(0)
            assert Image.of(file).data == samples.png()
        with path.open("rb") as file:
            file.seek(0, io.SEEK_END)
            with pytest.raises(MediaError, match="empty"):
                Image.of(file).load()

    @pytest.mark.parametrize("source", [5, None, ["a.png"], io.StringIO("text"), File.of(b"text"), 1.5])
    def test_other_types(self, source):
        with pytest.raises(TypeError, match="'rb'"):
            Image.of(source)

    def test_an_image_is_taken_as_it_is_or_with_fields_replaced(self):
        image = Image.of(samples.png())
        assert Image.of(image) is image
        assert Image.of(image, detail="low") == Image.of(samples.png(), detail="low")

    def test_exactly_one_source(self):
        for fields in ({}, {"media_type": "image/png"}, {"data": b"a", "url": "https://a/"}, {"path": "a", "url": "b"}):
            for kind in (Image, File):
                with pytest.raises(MediaError, match="just one of them"):
                    kind(**fields)

    def test_base64_and_data_url_are_of_the_content(self, tmp_path):
        path = tmp_path / "a"
        path.write_bytes(samples.png())
        for image in (Image.of(path), Image.of(samples.png())):
            assert image.base64() == BASE64
            assert image.data_url() == f"data:image/png;base64,{BASE64}"


class TestKinds:
    @pytest.mark.parametrize(
        ("content", "media_type"),
        [
            (samples.png(), "image/png"),
            (samples.JPEG, "image/jpeg"),
            (samples.GIF, "image/gif"),
            (b"GIF87a" + bytes(20), "image/gif"),
            (samples.WEBP, "image/webp"),
        ],
    )
    def test_images_are_told_by_their_content(self, tmp_path, content, media_type):
        path = tmp_path / "wrong.tiff"
        path.write_bytes(content)
        assert Image.of(content).media_type == media_type
        assert Image.of(path).load().media_type == media_type
        assert File.of(content).media_type == media_type

    @pytest.mark.parametrize(
        "content", [b"not an image", samples.PDF, b"RIFF\x00\x00\x00\x00WAVE", b"\x89PNG", b"\x00"]
    )
    def test_what_is_no_image(self, tmp_path, content):
        path = tmp_path / "a.png"
        path.write_bytes(content)
        for source in (content, path):
            image = Image.of(source)
            assert not image.is_loaded
            with pytest.raises(MediaError, match="not a PNG, JPEG, GIF or WebP"):
                image.load()

    def test_other_kinds_of_images_are_sent_when_named(self, tmp_path):
        path = tmp_path / "a.heic"
        path.write_bytes(b"\x00\x00\x00\x18ftypheic")
        assert Image.of(path, media_type="image/heic").load().media_type == "image/heic"
        assert Message.user().with_image(path, media_type="image/heic").load().is_loaded

    @pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/gif", "image/webp"])
    def test_a_type_that_contradicts_the_content(self, tmp_path, media_type):
        wrong = samples.JPEG if media_type != "image/jpeg" else samples.png()
        path = tmp_path / "a"
        path.write_bytes(wrong)
        with pytest.raises(MediaError, match=f"not {media_type} as given"):
            Image.of(wrong, media_type=media_type)
        with pytest.raises(MediaError, match=f"not {media_type} as given"):
            Image.of(path, media_type=media_type).load()

    @pytest.mark.parametrize("media_type", ["application/pdf", "text/plain", "png", ""])
    def test_a_type_that_no_image_has(self, media_type):
        with pytest.raises(MediaError, match="cannot have the type"):
            Image.of(b"data", media_type=media_type)
        with pytest.raises(MediaError, match="cannot have the type"):
            Image(url="https://a/", media_type=media_type)

    def test_parameters_and_case_are_no_part_of_the_type(self):
        assert File.of(b"a", media_type="Text/Plain; charset=UTF-8").media_type == "text/plain"

    def test_details(self):
        assert Message.user().with_image(samples.png(), detail="high").images[0].detail == "high"
        with pytest.raises(MediaError, match="low, high, auto"):
            Message.user().with_image(samples.png(), detail="medium")

    def test_documents_are_told_by_content_then_by_name(self, tmp_path):
        binary = b"\x00\x01\x02"
        path = tmp_path / "a.docx"
        path.write_bytes(binary)
        docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
        assert File.of(samples.PDF).media_type == "application/pdf"
        assert File.of("Grüße".encode()).media_type == "text/plain"
        assert File.of(path).load().media_type == docx
        assert File.of(binary, filename="a.docx").load().media_type == docx
        with pytest.raises(MediaError, match="cannot be told"):
            File.of(binary).load()
        assert File.of(binary, media_type="application/x-own").load().media_type == "application/x-own"


class TestFailures:
    """Each is one clear error for one prompt, when the prompt is used."""

    def check(self, source, said):
        conversation = Conversation.user("?", image=source)
        assert conversation.count_tokens() > 85
        for use in (conversation.load, lambda: conversation.digest, lambda: hash(conversation)):
            with pytest.raises(MediaError, match=said):
                use()
        with pytest.raises(MediaError, match=said):
            Image.of(source).base64()

    def test_missing(self, tmp_path):
        self.check(tmp_path / "missing.png", r"missing\.png' does not exist")
        self.check(tmp_path / "no" / "folder.png", "does not exist")

    def test_a_directory(self, tmp_path):
        self.check(tmp_path, "directory")

    @pytest.mark.parametrize("content", [b"", io.BytesIO(), "data:image/png;base64,", memoryview(b"")])
    def test_empty(self, tmp_path, content):
        self.check(content, "is empty")
        path = tmp_path / "empty.png"
        path.touch()
        self.check(path, "is empty")

    def test_empty_with_a_type(self):
        with pytest.raises(MediaError, match="is empty"):
            Conversation().add(Message.user().with_image(b"", media_type="image/png")).load()

    def test_unreadable(self, tmp_path):
        loop = tmp_path / "loop.png"
        loop.symlink_to(loop)
        self.check(loop, "cannot be read")

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
    def test_without_permission(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_bytes(samples.png())
        path.chmod(0)
        self.check(path, "Permission denied")

    def test_a_name_that_no_file_has(self):
        self.check("a\x00b.png", "cannot be read")
        long = "x" * 100_000  # base64 of an unknown kind looks like this
        self.check(long, "cannot be read")
        with pytest.raises(MediaError) as caught:
            Image.of(long).load()
        assert len(str(caught.value)) < 500

    @pytest.mark.skipif(sys.platform == "win32", reason="POSIX devices and pipes")
    def test_devices_and_pipes_are_not_read(self, tmp_path):
        pipe = tmp_path / "pipe.png"
        os.mkfifo(pipe)
        self.check(pipe, "not a file")  # reading would wait for a writer
        self.check(Path("/dev/zero"), "not a file")  # reading would never end

    def test_too_large(self, tmp_path):
        path = tmp_path / "large.png"
        with path.open("wb") as file:
            file.write(samples.png())
            file.truncate(500 * 1024 * 1024 + 1)  # sparse: nothing is written
        self.check(path, r"^Image '[^']*' has 524,288,001 bytes; the most that is sent is 524,288,000\.$")

    def test_changed_into_something_else_on_disk(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_bytes(samples.png())
        image = Image.of(path)
        loaded = image.load()
        path.write_bytes(b"no image any more")
        assert loaded.data == samples.png()
        with pytest.raises(MediaError, match="not a PNG"):
            image.load()


def test_the_repr_shows_neither_content_nor_signatures():
    assert repr(Image.of(samples.png())) == f"Image({len(samples.png())} bytes, media_type='image/png')"
    signed = "https://bucket.example.com/a.pdf?X-Amz-Signature=secret"
    assert repr(File.of(signed)) == "File(https://bucket.example.com/a.pdf, media_type=None)"
    assert "secret" not in repr(Conversation.user(file=signed))

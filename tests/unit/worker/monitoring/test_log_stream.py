"""The stream of the log."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from streamer_worker.events import Events, WorkerStopped
from streamer_worker.monitoring.log_stream import LogStream, TextStream, stream_over
from streamer_worker.monitoring.logs import LogListener, configure_logging
from streamer_worker.settings import LogSettings

F_SETPIPE_SZ = 1031
SIZE = 4 * 4096


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Give a small pipe, whose ends may be closed by the test."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, F_SETPIPE_SZ, SIZE)
    os.set_blocking(reader, False)
    yield reader, writer
    for descriptor in (reader, writer):
        with suppress(OSError):
            os.close(descriptor)


def test_lines_arrive_whole(pipe: tuple[int, int]) -> None:
    """Lines arrive in the order of the writes. After `close` no line is written."""
    stream = LogStream(pipe[1])
    assert stream.write("one\n")
    assert stream.write("tw\u00f6\n")
    assert os.read(pipe[0], SIZE).decode() == "one\ntw\u00f6\n"
    stream.close()
    assert not stream.write("three\n")


def test_closing_the_original_does_not_close_the_log(pipe: tuple[int, int]) -> None:
    """A handler may close stderr or its descriptor."""
    stream = LogStream(pipe[1])
    os.close(pipe[1])
    assert stream.write("still here\n")
    assert os.read(pipe[0], SIZE) == b"still here\n"
    stream.close()


def test_a_descriptor_that_was_closed_is_opened_again(pipe: tuple[int, int]) -> None:
    """A library may call os.closerange(). The number may stand for another file then."""
    stream = LogStream(pipe[1])
    other, theirs = os.pipe()
    os.dup2(theirs, stream.descriptor)
    assert stream.write("not for others\n")
    assert os.read(pipe[0], SIZE) == b"not for others\n"
    os.set_blocking(other, False)
    with pytest.raises(BlockingIOError):
        os.read(other, SIZE)
    os.close(stream.descriptor)
    os.close(pipe[1])
    assert not stream.write("nowhere\n")
    for descriptor in (other, theirs):
        os.close(descriptor)


def test_a_reader_that_stops_reading_does_not_block_the_worker(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines are dropped. When the reader continues, a line has their number."""
    monkeypatch.setattr("streamer_worker.monitoring.log_stream._BLOCKS_FOR", 0.01)
    stream = LogStream(pipe[1])
    assert not stream.write("x" * 2 * SIZE + "\n")
    assert not stream.write("dropped\n")
    assert os.read(pipe[0], 2 * SIZE) == b"x" * SIZE
    assert stream.write("again\n")
    assert os.read(pipe[0], SIZE) == b"\nagain\n"
    assert (stream.take_lost(), stream.take_lost()) == (2, 0)
    os.close(pipe[0])
    assert not stream.write("nobody\n")
    stream.close()


def test_the_processes_of_handlers_wait_for_each_other(pipe: tuple[int, int]) -> None:
    """A line is written when another process has released the lock, or after 0.2 s without it.

    Only the first line is delayed if a stopped process holds the lock.
    """
    stream = LogStream(pipe[1])
    locked, has_locked = os.pipe()
    may_end, end = os.pipe()
    child = os.fork()
    if child == 0:
        fcntl.lockf(pipe[1], fcntl.LOCK_EX)
        os.write(has_locked, b"x")
        os.read(may_end, 1)
        os._exit(0)
    os.read(locked, 1)
    assert stream.write("one\n")  # after a fifth of a second
    assert stream.write("two\n")  # at once
    os.write(end, b"x")
    os.waitpid(child, 0)
    assert stream.write("three\n")
    assert os.read(pipe[0], SIZE) == b"one\ntwo\nthree\n"
    stream.close()


def test_lines_of_processes_do_not_mix_in_a_file(tmp_path: Path) -> None:
    """Two processes write long lines to one file that they share. Each line is whole."""
    with (tmp_path / "log").open("wb") as file:
        stream = LogStream(file.fileno())
    lines = [letter * 100_000 for letter in "ab"]
    child = os.fork()
    own = lines[bool(child)]
    written = sum(stream.write(f"{own}\n") for _ in range(50))
    if child == 0:
        os._exit(50 - written)
    assert os.waitpid(child, 0)[1] == 0
    assert written == 50
    stream.close()
    found = (tmp_path / "log").read_text().splitlines()
    assert sorted(found) == [lines[0]] * 50 + [lines[1]] * 50


@pytest.mark.usefixtures("logging_restored")
def test_lost_lines_are_reported(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line has the number of the lost ones when the reader reads again."""
    monkeypatch.setattr("streamer_worker.monitoring.log_stream._BLOCKS_FOR", 0.01)
    with open(pipe[1], "w", closefd=False) as stream:
        log = configure_logging(LogSettings(), stream=stream)
    logger = logging.getLogger("some.library")
    for _ in range(30):
        logger.warning("x" * 2000)
    os.read(pipe[0], SIZE)
    logger.warning("back")
    last, notice = os.read(pipe[0], SIZE).splitlines()[-2:]
    assert json.loads(last)["event"] == "back"
    assert json.loads(notice)["event"] == "log_lines_lost"
    assert json.loads(notice)["count"] > 10
    log.close()


@pytest.mark.usefixtures("logging_restored")
def test_events_never_raise(capsys: pytest.CaptureFixture[str]) -> None:
    """Emitting succeeds if the stream is broken, and if that cannot be logged either."""
    stream = io.StringIO()
    log = configure_logging(LogSettings(), stream=stream)
    stream.close()

    def broken(_event: object) -> None:
        raise KeyboardInterrupt

    Events(broken, LogListener(log)).emit(WorkerStopped(worker_id="me"))
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("logging_restored")
def test_arguments_that_do_not_fit_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """The standard library would print them to stderr."""
    stream = io.StringIO()
    configure_logging(LogSettings(), stream=stream)
    logging.getLogger("some.library").warning("read %d rows", "secret")
    line = json.loads(stream.getvalue())
    assert (line["event"], line["log_error"]) == ("read %d rows", "TypeError")
    assert "secret" not in stream.getvalue()
    assert capsys.readouterr() == ("", "")


def test_streams_without_a_descriptor() -> None:
    """stderr may be missing, closed, or without a descriptor."""
    assert stream_over(None) is None
    closed = io.StringIO()
    closed.close()
    assert stream_over(closed) is None
    text = stream_over(io.StringIO())
    assert isinstance(text, TextStream)
    assert text.write("x")
    text.close()

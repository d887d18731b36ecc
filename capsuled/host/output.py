"""What the code of an app prints, sorted by the task that prints it, and what it returns.

Owns: sys.stdout and sys.stderr of the host. Must not know: the loop, how attempts end.
Invariant: memory stays bounded: what the daemon does not take in time is counted and dropped, and
who prints too fast is slowed down first.
"""

import contextvars
import io
import json
import os
import sys
import threading
import time

from capsule_host.trace import clipped

# Characters of one task after which they are sent.
CHUNK = 32 << 10
# Bytes that wait for the daemon: above the first a writer waits, above the second output is dropped.
SLOW_BYTES, DROP_BYTES = 1 << 20, 4 << 20
# How long a writer waits for room: the loop has others to serve.
WAIT_ON_LOOP, WAIT_IN_THREAD = 0.005, 1.0
QUIET_SECONDS = 0.01
# Characters of a result as JSON; the daemon's own limit is lower and names the task.
RESULT_MAX = 8 << 20

# The sink of the running task, None for the host itself.
CURRENT = contextvars.ContextVar("capsule_attempt", default=None)
encode_text = json.encoder.encode_basestring
encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Sink:
    """Collects the output of one attempt; task 0 is the host."""

    __slots__ = ("attempt", "closed", "dropped", "outlet", "parts", "since_us", "size", "stream", "task")

    def __init__(self, outlet, task, attempt):
        self.outlet, self.task, self.attempt = outlet, task, attempt
        self.stream, self.parts, self.size, self.since_us = "out", [], 0, 0
        self.dropped, self.closed = 0, False

    def write(self, stream, text):
        outlet = self.outlet
        with outlet.lock:
            if self.closed:
                return outlet.host.write(stream, text)
            if self.parts and self.stream != stream:
                self.cut()
            if not self.parts:
                self.stream, self.since_us = stream, now_us()
                outlet.waiting.add(self)
            self.parts.append(text)
            self.size += len(text)
            full = self.size >= CHUNK
            now = time.monotonic()
            quiet = text.endswith("\n") and now - outlet.last > QUIET_SECONDS
            if full or quiet:
                outlet.last = now
                self.cut()
        if full or quiet:
            outlet.link.flush()
            if outlet.link.backlog > SLOW_BYTES:
                outlet.slow_down()
        else:
            outlet.link.nudge()
        return None

    def cut(self):
        """Hands over what has been collected. The lock is held."""
        if not self.parts:
            return
        text, self.parts, self.size = "".join(self.parts), [], 0
        self.outlet.waiting.discard(self)
        link = self.outlet.link
        for at in range(0, len(text), CHUNK * 8):
            piece = text[at : at + CHUNK * 8]
            if link.backlog > DROP_BYTES:
                self.dropped += len(piece.encode("utf-8", "replace"))
                continue
            attempt = f'"attempt":{self.attempt},' if self.task else ""
            frame = (
                f'{{"t":"log","task":{self.task},{attempt}"stream":"{self.stream}",'
                f'"at_us":{self.since_us},"text":{encode_text(piece)}}}\n'
            )
            link.post(frame.encode("utf-8", "replace"))

    def close(self):
        """Hands over the rest; later output is the host's."""
        with self.outlet.lock:
            self.cut()
            self.closed = True


class Outlet:
    """All sinks of a process, and the streams that write into them."""

    def __init__(self, link):
        self.link = link
        # The same lock: collecting garbage may print while a frame is posted.
        self.lock = link.lock
        self.waiting, self.last = set(), 0.0
        self.host = Sink(self, 0, 0)
        link.on_nudge = self.hand_over

    def install(self):
        sys.stdout = Stream(self, "out", sys.__stdout__)
        sys.stderr = Stream(self, "err", sys.__stderr__)

    def write(self, stream, text):
        sink = CURRENT.get()
        # What outlives its task is the host's.
        (self.host if sink is None or sink.closed else sink).write(stream, text)

    def hand_over(self):
        """Sends what waits for more."""
        with self.lock:
            self.last = time.monotonic()
            for sink in list(self.waiting):
                sink.cut()
        self.link.flush()

    def slow_down(self):
        on_loop = threading.get_ident() == self.link.loop_thread
        self.link.wait_for_room(SLOW_BYTES, WAIT_ON_LOOP if on_loop else WAIT_IN_THREAD)


class Stream(io.TextIOBase):
    """A text stream that never fails and knows no file of its own."""

    encoding, errors, newlines = "utf-8", "replace", None

    def __init__(self, outlet, name, real):
        self._outlet, self._name, self._real = outlet, name, real
        self.buffer = Bytes(self)

    @property
    def name(self):
        return "<stdout>" if self._name == "out" else "<stderr>"

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text:
            self._outlet.write(self._name, text)
        return len(text)

    def flush(self):
        pass

    def fileno(self):
        return self._real.fileno()

    def isatty(self):
        return False

    def writable(self):
        return True

    def reconfigure(self, **_):
        pass

    def close(self):
        pass


class Bytes(io.RawIOBase):
    """`sys.stdout.buffer`: bytes are text that may be broken."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, data):
        data = bytes(data)
        self._stream.write(data.decode("utf-8", "replace"))
        return len(data)

    def writable(self):
        return True

    def fileno(self):
        return self._stream.fileno()

    def close(self):
        pass


def now_us():
    return time.time_ns() // 1000


def encoded(value):
    """A return value as JSON; what is none is kept as its text, with a warning on stderr."""
    try:
        text = encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        print(f"capsule: the result is no JSON ({error}), its text is kept", file=sys.stderr)
        return encode({"repr": clipped(shown(value))})
    if len(text) > RESULT_MAX:
        print(f"capsule: the result has {len(text)} characters, its beginning is kept", file=sys.stderr)
        return encode({"repr": clipped(text)})
    return text


def shown(value):
    try:
        return repr(value)
    except Exception as broken:
        return f"<{type(value).__name__}, whose text cannot be had: {type(broken).__name__}>"


def keep(value):
    """Writes the result, all of it or nothing. One that the task itself wrote stands for None."""
    path = os.environ.get("CAPSULE_RESULT_FILE")
    if not path or (value == "null" and os.path.exists(path)):
        return
    with open(path + ".part", "w", encoding="utf-8", errors="replace") as file:
        file.write(value)
    os.replace(path + ".part", path)

"""The connection to the daemon: newline-delimited JSON over a Unix socket, opened again when lost.

Owns: the socket, what waits to be written, and calls that wait for their reply.
Must not know: what a task or an app is.
Invariant: one thread reads; whoever has something to say writes it, never waiting; frames leave in
the order in which they were posted, and one that was cut by a lost connection is sent again whole.
"""

import asyncio
import base64
import collections
import contextlib
import contextvars
import json
import os
import select
import socket
import threading
import time
import warnings

# Calls that must not be carried out twice when they come again.
ONCE = ("TaskService/SubmitTask",)
PAUSE_FIRST, PAUSE_MOST = 0.05, 1.0
HELLO_SECONDS = 10.0
READ_BYTES = 1 << 18
WRITE_BYTES = 1 << 18
# Calls in flight; the daemon refuses more than 1,024.
CALLS_MAX = 512
# The SDK's own bound of a message.
BODY_BYTES = 16 << 20
# How long frames and output may wait for more of them.
NUDGE_MS = 10


class Refused(Exception):
    """The daemon does not want this host."""


class Call:
    """A request that waits for its reply, in a thread or on the loop."""

    __slots__ = ("body", "code", "done", "frame", "future", "message", "sequence")

    def __init__(self, frame, future=None):
        self.frame, self.future, self.sequence = frame, future, 0
        self.body, self.code, self.message = b"", 0, ""
        self.done = None if future is not None else threading.Event()


class Link:
    """`hello` makes the first line of each connection; `deliver` takes frames, in the reading thread."""

    def __init__(self, path, hello, deliver):
        self.path, self.hello, self.deliver = path, hello, deliver
        # Called in the reading thread.
        self.on_nudge, self.on_refused = self.flush, lambda message: None
        self.loop, self.loop_thread = None, 0
        self.connected = False
        self.backlog = 0
        self.sent = 0
        self._posted = 0
        self._outbox = collections.deque()
        self._offset = 0
        self._flushing = self._scheduled = self._nudged = self._wants_room = False
        # Entered again when collecting garbage prints something.
        self.lock = threading.RLock()
        self._socket = None
        # By number; those beyond what the daemon takes at once are held.
        self.calls, self._held = {}, collections.deque()
        self._next = 0
        self.key = os.urandom(8).hex()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = None

    def start(self):
        with self.lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="capsule-link", daemon=True)
                self._thread.start()

    # -- writing

    def post(self, frame, now=False):
        """Queues one frame (bytes that end in a newline) and returns its number."""
        with self.lock:
            self._outbox.append(frame)
            self.backlog += len(frame)
            self._posted += 1
            number = self._posted
        if self._wants_room and not now:
            return number
        if now or self.loop_thread != threading.get_ident():
            self.flush()
        elif not self._scheduled:
            # One write for all that a turn of the loop has to say.
            self._scheduled = True
            self.loop.call_soon(self._flush_scheduled)
        return number

    def use_loop(self, loop):
        """Frames posted by this thread from now on are written once per turn of the loop."""
        self.loop, self.loop_thread = loop, threading.get_ident()

    def _flush_scheduled(self):
        self._scheduled = False
        self.flush()

    def flush(self):
        """Writes what the socket takes; the reading thread writes the rest."""
        with self.lock:
            if self._flushing or self._socket is None:
                return
            self._flushing = True
            try:
                self._write()
            finally:
                self._flushing = False

    def _write(self):
        while self._outbox:
            batch, size = [], 0
            for frame in self._outbox:
                batch.append(frame)
                size += len(frame)
                if size >= WRITE_BYTES:
                    break
            data = b"".join(batch) if len(batch) > 1 else batch[0]
            try:
                count = self._socket.send(memoryview(data)[self._offset :], socket.MSG_DONTWAIT)
            except BlockingIOError:
                if not self._wants_room:
                    self._wants_room = True
                    self._ring()
                return
            except OSError:
                # The reading thread sees it too and connects again.
                return
            self._written(self._offset + count)

    def _written(self, count):
        while self._outbox and count >= len(self._outbox[0]):
            size = len(self._outbox.popleft())
            count -= size
            self.backlog -= size
            self.sent += 1
        self._offset = count

    def nudge(self):
        """Asks the reading thread to call `on_nudge` within some milliseconds."""
        if not self._nudged:
            self._nudged = True
            self._ring()

    def wait_for_room(self, limit, seconds):
        """Waits until less than `limit` bytes wait, or for so long; the caller produces too fast."""
        end = time.monotonic() + seconds
        while self.backlog > limit and (left := end - time.monotonic()) > 0:
            with self.lock:
                out = self._socket
            if out is None:
                return
            poller = select.poll()
            try:
                poller.register(out, select.POLLOUT)
            except (OSError, ValueError):
                # Just closed.
                return
            poller.poll(min(left, 0.05) * 1000)
            self.flush()

    def _ring(self):
        os.eventfd_write(self._wake, 1)

    # -- calls

    def call(self, method, body, context, loop=None):
        """Sends a request. With a loop the answer is a future, else the wait is here."""
        if len(body) > BODY_BYTES:
            return refused(loop, 8, f"{method}: {len(body)} bytes, more than {BODY_BYTES} in one call")
        if self._thread is None and not self.path:
            return refused(loop, 14, "there is no daemon to ask")
        self.start()
        text = base64.b64encode(body).decode()
        frame = {"t": "call", "id": 0, "method": method, "body": text, **context}
        call = Call(frame, loop.create_future() if loop else None)
        with self.lock:
            self._next += 1
            frame["id"] = self._next
            if method in ONCE:
                frame["key"] = f"{self.key}-{self._next}"
            self.calls[self._next] = call
            if len(self.calls) - len(self._held) > CALLS_MAX:
                self._held.append(call)
            else:
                call.sequence = self.post(line(frame), now=loop is None)
        if not loop:
            call.done.wait()
        return call

    def _replied(self, frame):
        with self.lock:
            call = self.calls.pop(frame.get("id"), None)
            if self._held:
                following = self._held.popleft()
                following.sequence = self.post(line(following.frame))
        if call is None:
            return
        call.code, call.message = frame.get("code", 0), frame.get("message", "")
        call.body = base64.b64decode(frame["body"]) if frame.get("body") else b""
        self._finish(call)

    def _finish(self, call):
        if call.done is not None:
            call.done.set()
            return
        with contextlib.suppress(RuntimeError):
            # Unless the loop that asked is closed.
            call.future.get_loop().call_soon_threadsafe(settle, call.future)

    def fail_calls(self, code, message):
        """Ends all calls that wait, for good."""
        self._held.clear()
        for number in list(self.calls):
            call = self.calls.pop(number, None)
            if call is not None:
                call.code, call.message = code, message
                self._finish(call)

    # -- the reading thread

    def _run(self):
        pause = PAUSE_FIRST
        while True:
            try:
                opened, rest = self._open()
            except Refused as error:
                self.fail_calls(7, str(error))
                self.on_refused(str(error))
                return
            except (OSError, ValueError):
                select.select((self._wake,), (), (), pause)
                self._unring()
                pause = min(PAUSE_MOST, pause * 2)
                continue
            pause = PAUSE_FIRST
            with contextlib.suppress(OSError):
                self._converse(opened, rest)
            with self.lock:
                self._socket, self.connected, self._offset = None, False, 0
            opened.close()

    def _open(self):
        """Connects and says hello; what came after the welcome is returned with the socket."""
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            opened.settimeout(HELLO_SECONDS)
            opened.connect(self.path)
            opened.sendall(self.hello())
            data = b""
            while b"\n" not in data:
                more = opened.recv(READ_BYTES)
                if not more:
                    raise OSError("the daemon closed the connection")
                data += more
            first, _, rest = data.partition(b"\n")
            answer = json.loads(first)
            if answer.get("t") == "refused":
                raise Refused(answer.get("message", "the daemon refuses this host"))
            if answer.get("t") != "welcome":
                raise ValueError("no welcome")
            opened.settimeout(None)
        except BaseException:
            opened.close()
            raise
        with self.lock:
            self._socket, self.connected, self._offset = opened, True, 0
            # Whether these were carried out is not known; the daemon sees that they come again.
            for call in list(self.calls.values()):
                if call.sequence and call.sequence <= self.sent:
                    call.sequence = self.post(line({**call.frame, "again": True}))
        self.flush()
        return opened, rest

    def _converse(self, opened, rest):
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        poller.register(opened, select.POLLIN)
        parts = self._received(rest, [])
        # When to look whether a blocked loop or a task left something unsaid.
        due = 0.0
        while True:
            mask = select.POLLIN | (select.POLLOUT if self._wants_room else 0)
            poller.modify(opened, mask)
            ready = dict(poller.poll(NUDGE_MS if due else None))
            now = time.monotonic()
            if due and now >= due:
                due = 0.0
                self.on_nudge()
            if self._wake in ready:
                self._unring()
                due, self._nudged = due or (now + NUDGE_MS / 1000 if self._nudged else 0.0), False
            events = ready.get(opened.fileno(), 0)
            if events & select.POLLOUT:
                self._wants_room = False
                self.flush()
            if events & ~select.POLLOUT:
                data = opened.recv(READ_BYTES)
                if not data:
                    return
                parts, due = self._received(data, parts), due or now + NUDGE_MS / 1000

    def _received(self, data, parts):
        """Delivers the whole lines; the beginning of the next one is returned in parts."""
        if b"\n" not in data:
            parts.append(data)
            return parts
        lines = b"".join([*parts, data]).split(b"\n")
        rest = lines.pop()
        frames = []
        for frame in decoded(lines):
            if frame.get("t") == "reply":
                self._replied(frame)
            else:
                frames.append(frame)
        if frames:
            self.deliver(frames)
        return [rest] if rest else []

    def _unring(self):
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)


def decoded(lines):
    """The objects in some lines; at once, for that is faster."""
    try:
        return json.loads(b"[%s]" % b",".join(lines))
    except ValueError:
        frames = []
        for text in lines:
            try:
                frames.append(json.loads(text))
            except ValueError:
                # A newer daemon may know better; one line is no reason to stop.
                pass
        return frames


def refused(loop, code, message):
    """A call that ends before it is made."""
    call = Call({}, loop.create_future() if loop else None)
    call.code, call.message = code, message
    if loop:
        call.future.set_result(None)
    return call


def settle(future):
    if not future.done():
        future.set_result(None)


def line(frame):
    """One frame as a line; text that is no Unicode is replaced."""
    text = json.dumps(frame, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace") + b"\n"


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose executors know the task, and that needs none for calls to the daemon."""

    # Marks the stubs of such calls, see sdk.Channel; the same for all loops of the process.
    channel = None

    @classmethod
    def first(cls):
        """A loop for this thread; those that the app makes are of the same kind."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            policy = asyncio.get_event_loop_policy()
            # The app may have set one of its own.
            if type(policy) is asyncio.DefaultEventLoopPolicy:
                policy._loop_factory = cls
        loop = cls()
        asyncio.set_event_loop(loop)
        return loop

    def run_in_executor(self, executor, func, *args):
        channel = self.channel
        if channel is not None and getattr(getattr(func, "__self__", None), "channel", None) is channel:
            thread = threading.get_ident()
            channel.awaited.add(thread)
            try:
                return func(*args)
            finally:
                channel.awaited.discard(thread)
        run = contextvars.copy_context().run
        return super().run_in_executor(executor, run, func, *args)

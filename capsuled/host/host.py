"""Role `host`: keeps an app warm and runs its async tasks, ticks and chat turns on one loop.

Owns: the attempts of this process and their verdicts until the daemon has them.
Must not know: retries, locks, the queue.
Invariant: each attempt that was begun gets exactly one verdict, said until it is acknowledged.
"""

import asyncio
import base64
import collections
import concurrent.futures
import faulthandler
import gc
import inspect
import json
import os
import signal
import sys
import threading
import time

from capsule_host import trace
from capsule_host.entry import Refusal, import_refusal, load, sdk_version
from capsule_host.link import Link, Loop, line
from capsule_host.output import CURRENT, Outlet, Sink, encode, encoded, now_us

PROTOCOL = 1
READY = line({"t": "ready"})
# Verdicts in a hello; a line has at most 32 MiB.
HELLO_BYTES = 4 << 20
# The daemon bounds how many run; these only keep a thread each from waiting for another.
TASK_THREADS, OTHER_THREADS = 256, 32
TERM_GRACE_MS = 5000
WIND_DOWN_SECONDS, ACK_SECONDS, EXIT_SECONDS = 5.0, 2.0, 2.0


class Attempt(Sink):
    """One run of a task or a tick; also where its output goes."""

    __slots__ = ("asked", "begun", "ended", "frame", "handle", "sequence", "started_us", "thread", "timer")

    def __init__(self, outlet, frame):
        super().__init__(outlet, frame["task"], frame["attempt"])
        self.frame, self.started_us = frame, now_us()
        # Why it is to stop: "cancelled", "timeout" or "quit".
        self.asked, self.begun = "", False
        self.ended, self.sequence = None, 0
        self.handle = self.timer = self.thread = None

    def context(self):
        return {"task": self.task, "attempt": self.attempt}


class Host:
    """Everything of one connection's far end; `main` is its life."""

    def __init__(self):
        self.token = os.environ["CAPSULE_HOST_TOKEN"]
        self.link = Link(os.environ["CAPSULE_HOST_SOCKET"], self.hello, self.deliver)
        self.link.on_refused = refused
        self.outlet = Outlet(self.link)
        self.attempts, self.turns, self.works, self.unarmed = {}, set(), {}, []
        self.inbox, self.woken, self.waiting_since = collections.deque(), False, 0.0
        self.loop = self.runner = self.stop = self.sdk = None
        self.ready = self.quitting = False
        self.threads = os.environ.get("CAPSULE_SYNC_TASKS") == "thread"
        self.pool = concurrent.futures.ThreadPoolExecutor(TASK_THREADS, "capsule-task")
        self.thread_lock = threading.Lock()
        names = ("start", "cancel", "refresh", "ack", "message", "quit")
        self.on = {name: getattr(self, name) for name in names}

    # -- in the reading thread, also while the loop is blocked

    def hello(self):
        """The first line of a connection, with all attempts whose verdict is not acknowledged."""
        attempts, room = [], HELLO_BYTES
        for attempt in list(self.attempts.values()):
            ended = None
            # A verdict that still waits to be written follows the output that waits before it.
            if attempt.ended and attempt.sequence <= self.link.sent:
                room -= len(attempt.ended)
                if room >= 0:
                    ended = json.loads(attempt.ended)
                else:
                    self.say_ended(attempt)
            attempts.append({**attempt.context(), "started_us": attempt.started_us, "ended": ended})
        if self.ready:
            self.link.post(READY)
        frame = {"t": "hello", "protocol": PROTOCOL, "role": "host", "token": self.token}
        frame |= {"pid": os.getpid(), "sdk": sdk_version(), "ready": self.ready}
        return line(frame | {"attempts": attempts})

    def deliver(self, frames):
        """Answers what must not wait for the loop and hands it the rest."""
        for frame in frames:
            kind = frame.get("t")
            if kind == "ping":
                blocked = time.monotonic() - self.waiting_since if self.woken else 0.0
                pong = {"t": "pong", "id": frame.get("id"), "blocked_ms": int(blocked * 1000)}
                self.link.post(line(pong), now=True)
                # The next ping tells whether the loop came to this one.
                self.inbox.append(frame)
            elif kind == "stacks":
                self.stacks(frame)
            elif kind in self.on:
                self.inbox.append(frame)
        self.wake()

    def wake(self):
        if self.inbox and self.ready and not self.woken:
            self.woken, self.waiting_since = True, time.monotonic()
            try:
                self.loop.call_soon_threadsafe(self.drain)
            except RuntimeError:
                # The loop has ended.
                pass

    def stacks(self, frame):
        attempt = self.attempts.get((frame.get("task"), frame.get("attempt")))
        text = trace.everything(self.loop, attempt and attempt.handle)
        (attempt or self.outlet.host).write("err", text)
        self.outlet.hand_over()

    # -- on the loop

    def drain(self):
        self.woken = False
        while self.inbox:
            frame = self.inbox.popleft()
            act = self.on.get(frame["t"])
            try:
                if act is not None:
                    act(frame)
            except Exception as error:
                print(f"capsule host: {frame['t']}: {error!r}", file=sys.stderr)

    def attempt_of(self, frame):
        return self.attempts.get((frame["task"], frame["attempt"]))

    def start(self, frame):
        key = frame["task"], frame["attempt"]
        if key not in self.attempts and not self.quitting:
            attempt = self.attempts[key] = Attempt(self.outlet, frame)
            attempt.handle = self.loop.create_task(self.run(attempt), name=f"task {key[0]}")

    def ack(self, frame):
        attempt = self.attempt_of(frame)
        if attempt is not None and attempt.ended is not None:
            del self.attempts[frame["task"], frame["attempt"]]

    def cancel(self, frame):
        attempt = self.attempt_of(frame)
        if attempt is not None:
            self.ask(attempt, "cancelled")

    def ask(self, attempt, why):
        """Stops an attempt as far as Python can."""
        if attempt.ended is not None:
            return
        attempt.asked = attempt.asked or why
        with self.thread_lock:
            if attempt.thread is not None:
                trace.interrupt(attempt.thread)
                return
        if attempt.begun:
            attempt.handle.cancel(f"capsule: {why}")

    def arm(self, attempt):
        """Sets the time limit, at the end of this turn of the loop: many tasks have ended by then."""
        if (attempt.frame.get("timeout_ms") or 0) > 0:
            if not self.unarmed:
                self.loop.call_soon(self.arm_all)
            self.unarmed.append((attempt, self.loop.time()))

    def arm_all(self):
        waiting, self.unarmed = self.unarmed, []
        for attempt, began in waiting:
            if attempt.ended is None:
                end = began + attempt.frame["timeout_ms"] / 1000
                attempt.timer = self.loop.call_at(end, self.timed_out, attempt)

    def refresh(self, frame):
        attempt = self.attempt_of(frame)
        if attempt is not None and attempt.timer is not None:
            attempt.timer.cancel()
            self.arm(attempt)

    def timed_out(self, attempt):
        seconds = attempt.frame["timeout_ms"] / 1000
        where = trace.of_task(attempt.handle) if attempt.thread is None else ""
        attempt.write("err", f"capsule: timed out after {seconds:g} s\n{where}")
        self.ask(attempt, "timeout")

    async def run(self, attempt):
        """From the start of an attempt to its verdict."""
        CURRENT.set(attempt)
        attempt.begun, attempt.started_us = True, now_us()
        started = attempt.task, attempt.attempt, attempt.started_us
        self.link.post(b'{"t":"started","task":%d,"attempt":%d,"at_us":%d}\n' % started)
        work, verdict, value, error, cpu = None, "completed", "null", None, None
        try:
            if attempt.asked:
                raise asyncio.CancelledError
            self.arm(attempt)
            frame = attempt.frame
            work = self.work(frame)
            if work.is_async and not frame.get("session_id"):
                arguments = self.sdk.unbound(self.runner, work, frame.get("kwargs"), frame.get("user_id"))
                value = encoded(await work.call(**arguments))
            else:
                value, cpu = await self.carry_out(attempt, work, frame)
        except BaseException as caught:
            verdict = "failed"
            if not (attempt.asked and isinstance(caught, (asyncio.CancelledError, trace.Interrupted))):
                attempt.write("err", trace.user_traceback(caught))
                error = trace.error_record(caught, work.retry_for if work else ())
        if attempt.timer is not None:
            attempt.timer.cancel()
        if attempt.asked:
            verdict = "timeout" if attempt.asked == "timeout" else "cancelled"
        self.finish(attempt, verdict, value, error, cpu)

    def work(self, frame):
        """What the name stands for, looked up once."""
        key = frame.get("kind", "task"), frame["name"]
        if key not in self.works:
            self.works[key] = self.sdk.find_work(self.runner, *key)
        return self.works[key]

    async def carry_out(self, attempt, work, frame):
        """Calls what needs a chat session or a thread; its value as JSON, the CPU time of the thread."""
        given, session_id, user_id = frame.get("kwargs"), frame.get("session_id"), frame.get("user_id")
        arguments, data = await self.sdk.equipped(self.runner, work, given, session_id, user_id)
        cpu = None
        try:
            if work.is_async:
                value = await work.call(**arguments)
            elif self.threads or frame.get("kind") == "tick":
                value, cpu = await self.in_thread(attempt, work, arguments)
            else:
                text = f"{frame['name']} is a plain function: it needs a process of its own"
                raise trace.Unrunnable("TypeError", text)
        finally:
            if data is not None:
                await data.close()
        return encoded(value), cpu

    async def in_thread(self, attempt, work, arguments):
        def call():
            attempt.thread = threading.get_ident()
            try:
                if attempt.asked:
                    raise trace.Interrupted
                began = time.thread_time_ns()
                value = work.call(**arguments)
                return value, (time.thread_time_ns() - began) // 1000
            finally:
                with self.thread_lock:
                    attempt.thread = None

        # A thread cannot be left behind: the verdict is said when it has ended.
        value, cpu = await self.loop.run_in_executor(self.pool, call)
        return (await value if inspect.isawaitable(value) else value), cpu

    def finish(self, attempt, verdict, value, error, cpu):
        attempt.close()
        attempt.ended = (
            f'{{"t":"ended","task":{attempt.task},"attempt":{attempt.attempt},'
            f'"started_us":{attempt.started_us},"at_us":{now_us()},"verdict":"{verdict}",'
            f'"result":{value},"error":{encode(error) if error else "null"},'
            f'"cpu_us":{"null" if cpu is None else cpu},"dropped":{attempt.dropped},'
            f'"quit":{"true" if attempt.asked == "quit" else "false"}}}'
        )
        self.say_ended(attempt)

    def say_ended(self, attempt):
        attempt.sequence = self.link.post(attempt.ended.encode("utf-8", "replace") + b"\n")

    # -- chat

    def message(self, frame):
        if not self.quitting:
            turn = self.loop.create_task(self.turn(frame["body"]), name="chat")
            self.turns.add(turn)
            turn.add_done_callback(self.turns.discard)

    async def turn(self, body):
        message = self.sdk.inbound(base64.b64decode(body))
        try:
            error = await self.runner.turn(message)
        except asyncio.CancelledError:
            error = "the app was stopped"
        frame = {"t": "turn", "request_id": message.request_id, "ok": error is None, "error": error}
        self.outlet.hand_over()
        self.link.post(line(frame))

    # -- life

    async def main(self):
        """Boots the app, serves until it is told to quit; the exit code."""
        self.loop, self.stop = asyncio.get_running_loop(), asyncio.Event()
        self.link.use_loop(self.loop)
        self.loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(OTHER_THREADS, "app"))
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self.terminate)
        try:
            entry = load(os.environ["CAPSULE_ENTRY"])
            from capsule_host import sdk

            self.sdk, channel = sdk, sdk.Channel(self.link, context)
            Loop.channel = channel
            self.runner = sdk.AppRunner(entry, self.loop, channel)
            await self.runner.boot()
        except BaseException as error:
            return await self.failed(error)
        gc.collect()
        gc.freeze()
        self.link.post(READY)
        self.ready = True
        self.wake()
        await self.stop.wait()
        return 0

    async def failed(self, error):
        """Says why the app cannot be served."""
        if not isinstance(error, Refusal):
            sys.stderr.write(trace.user_traceback(error))
            error = import_refusal(error, os.environ["CAPSULE_ENTRY"].rpartition(":")[0], "boot")
        self.outlet.hand_over()
        self.link.post(line({"t": "failed", "error": error.record()}), now=True)
        await self.written()
        return 1

    async def written(self):
        end = time.monotonic() + ACK_SECONDS
        while self.link.backlog and time.monotonic() < end:
            await asyncio.sleep(0.005)

    def terminate(self):
        if self.ready:
            self.quit({"grace_ms": TERM_GRACE_MS})
        else:
            os._exit(0)

    def quit(self, frame):
        if not self.quitting:
            self.quitting = True
            self.winding = self.loop.create_task(self.wind_down(frame.get("grace_ms", 0)))

    async def wind_down(self, grace_ms):
        """Lets what runs end, stops what does not, then ends the app."""
        await self.idle(grace_ms / 1000)
        for attempt in list(self.attempts.values()):
            self.ask(attempt, "quit")
        for turn in list(self.turns):
            turn.cancel()
        await self.idle(WIND_DOWN_SECONDS)
        try:
            await asyncio.wait_for(self.runner.shutdown(), WIND_DOWN_SECONDS)
        except BaseException as error:
            sys.stderr.write(trace.user_traceback(error))
        self.outlet.hand_over()
        end = time.monotonic() + ACK_SECONDS
        while self.attempts and self.link.connected and time.monotonic() < end:
            await asyncio.sleep(0.005)
        await self.written()
        self.stop.set()

    async def idle(self, seconds):
        running = [attempt.handle for attempt in self.attempts.values() if attempt.ended is None]
        if running := [*running, *self.turns]:
            await asyncio.wait(running, timeout=seconds)


def context():
    """Of whom a call is."""
    attempt = CURRENT.get()
    return {"task": 0} if attempt is None else attempt.context()


def refused(message):
    os.write(2, f"capsule host: {message}\n".encode())
    os._exit(1)


def serve():
    faulthandler.register(signal.SIGQUIT, file=sys.__stderr__, all_threads=True)
    host = Host()
    host.outlet.install()
    host.link.start()
    code = Loop.first().run_until_complete(host.main())
    # Threads of the app may never end.
    end = threading.Timer(EXIT_SECONDS, os._exit, (code,))
    end.daemon = True
    end.start()
    return code

"""Roles `attempt` and `forks`: one run of a task in a process of its own, fresh or forked warm.

Owns: what happens between the start of such a process and its exit code.
Must not know: who started it, or how its end is judged.
Invariant: the server of forks has one thread and runs no hook of the app; nothing of the app runs
in a child before its gate opens.
"""

import asyncio
import atexit
import collections
import contextlib
import contextvars
import faulthandler
import fcntl
import gc
import inspect
import itertools
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback

from capsule_host import trace
from capsule_host.entry import Refusal, adopt, load
from capsule_host.link import Link, Loop, line
from capsule_host.output import encoded, keep

PROTOCOL = 1
EVENT_BYTES = 16000
REPLIES_SECONDS, TASKS_SECONDS = 5.0, 5.0
REQUEST_BYTES = 1 << 20
NO_GATE, BROKEN = 125, 126
# The least descriptor of a child's gate: out of the way of those that a task is given.
GATE = 10
# Children forked ahead, while requests come as quickly as this; else one.
AHEAD, BUSY_SECONDS = 4, 0.05


class Run:
    """One task or tick of this process, as its environment names it."""

    def __init__(self, entry):
        from capsule_host import sdk

        self.sdk, self.loop, self.link = sdk, None, None
        Loop.channel = sdk.Channel(None, self.context)
        self.runner = sdk.AppRunner(entry, None, Loop.channel)
        self.name, self.task, self.number = "", 0, 1
        self.work = self.main = None
        self.terminated = False

    def begin(self):
        """Makes what no two processes may share."""
        self.loop = self.runner._loop = Loop.first()
        self.link = Loop.channel.link = Link("", self.hello, lambda frames: None)
        return self

    def identify(self):
        """Takes from the environment which attempt this is."""
        environment = os.environ.get
        self.name = environment("CAPSULE_TASK", "")
        self.task = int(environment("CAPSULE_TASK_ID") or 0)
        self.number = int(environment("CAPSULE_ATTEMPT") or 1)
        self.link.path = environment("CAPSULE_HOST_SOCKET", "")
        self.runner.identify()

    def context(self):
        return {"task": self.task, "attempt": self.number}

    def hello(self):
        token = os.environ.get("CAPSULE_HOST_TOKEN", "")
        frame = {"t": "hello", "protocol": PROTOCOL, "role": "attempt", "token": token}
        return line(frame | self.context())

    def rehearse(self):
        """Goes the way of a run without the app: the pages that this touches are copied ahead."""
        adopt({**os.environ})
        if self.runner.boots_alone():
            self.until_done(self.runner.boot())
        self.until_done(asyncio.sleep(0), contextvars.copy_context())
        encoded(json.loads("{}"))

    def carry_out(self):
        """Boots the app and runs the task; the exit code, below zero for a signal."""
        code, value = 0, "null"
        try:
            self.identify()
            value = encoded(self.value())
        except BaseException as error:
            if self.terminated and isinstance(error, asyncio.CancelledError):
                code = -signal.SIGTERM
            else:
                code = report(error, self.work.retry_for if self.work else ())
        try:
            self.loop.run_until_complete(self.settle())
        except Exception:
            traceback.print_exc()
        if code == 0:
            keep(value)
        return code

    def value(self):
        arguments, data, current = self.until_done(self.prepared())
        try:
            if self.work.is_async:
                return self.until_done(self.work.call(**arguments), current)
            value = current.run(self.work.call, **arguments)
            return self.until_done(value, current) if inspect.isawaitable(value) else value
        finally:
            if data is not None:
                self.until_done(data.close())

    async def prepared(self):
        """Boots the app; the arguments, what saves session.data, and the context with the session."""
        await self.runner.boot()
        kind = "tick" if self.name not in self.runner._tasks and self.name in self.runner._schedules else "task"
        self.work = self.sdk.find_work(self.runner, os.environ.get("CAPSULE_KIND") or kind, self.name)
        environment = os.environ.get
        session_id, user_id = environment("CAPSULE_SESSION_ID", ""), environment("CAPSULE_TASK_USER_ID", "")
        found = await self.sdk.equipped(self.runner, self.work, arguments_given(), session_id, user_id)
        return *found, contextvars.copy_context()

    def until_done(self, awaitable, current=None):
        """Runs something on the loop; SIGTERM cancels it, also while it blocks the loop."""

        async def whole():
            return await awaitable

        make = self.loop.create_task
        self.main = current.run(make, whole()) if current else make(whole())
        signal.signal(signal.SIGTERM, self.terminate)
        try:
            return self.loop.run_until_complete(self.main)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def terminate(self, number, frame):
        first, self.terminated = not self.terminated, True
        if first and asyncio.current_task(self.loop) is self.main:
            raise asyncio.CancelledError("capsule: cancelled")
        self.loop.call_soon_threadsafe(self.main.cancel, "capsule: cancelled")

    async def settle(self):
        """Waits for what was said but not answered, then ends what still runs on the loop."""
        await asyncio.sleep(0)
        await self.runner._drain_submit_results()
        end = time.monotonic() + REPLIES_SECONDS
        while self.link.calls and time.monotonic() < end:
            await asyncio.sleep(0.002)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=TASKS_SECONDS)
        await self.loop.shutdown_asyncgens()


def arguments_given():
    path = os.environ.get("CAPSULE_PAYLOAD_FILE")
    if not path:
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def report(error, retry_for=()):
    """Says why the attempt failed: traceback on stderr, event for the daemon; the exit code."""
    sys.stderr.write(trace.user_traceback(error))
    record = trace.error_record(error, retry_for)
    event = {"error": record}
    if "retry_after" in record:
        event["retry_after"] = record["retry_after"]
    if len(line(event)) > EVENT_BYTES:
        record["message"] = trace.clipped(record["message"], EVENT_BYTES // 16)
        record["frames"] = record["frames"][-2:]
    try:
        os.write(int(os.environ["CAPSULE_EVENT_FD"]), line(event))
    except (KeyError, ValueError, OSError) as broken:
        sys.stderr.write(f"capsule: the error cannot be told: {broken!r}\n")
    return 1


def main():
    faulthandler.register(signal.SIGQUIT, file=sys.stderr, all_threads=True)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        run = Run(load(os.environ.get("CAPSULE_ENTRY", ""))).begin()
    except BaseException as error:
        cause = error.__cause__ if isinstance(error, Refusal) and error.__cause__ else error
        leave(report(cause))
    leave(run.carry_out())


def leave(code):
    """Ends the process as an interpreter would, but for taking its memory to pieces."""
    try:
        if code >= 0:
            # Threads of a cancelled task may never end.
            threading._shutdown()
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


# -- role `forks`


def serve():
    """Imports the app once and forks a child for each request until the socket is closed."""
    given = int(os.environ["CAPSULE_FORK_FD"])
    control = socket.socket(fileno=fcntl.fcntl(given, fcntl.F_DUPFD_CLOEXEC, GATE))
    os.close(given)
    # The descriptor of events in children must not be one that the app opens now.
    if not os.path.exists("/proc/self/fd/3"):
        os.dup2(os.open(os.devnull, os.O_RDONLY), 3)
    try:
        run = Run(load(os.environ.get("CAPSULE_ENTRY", "")))
    except Exception as error:
        record = error.record() if isinstance(error, Refusal) else trace.error_record(error)
        control.send(line({"ready": False, "why": str(error), "error": record}))
        return 1
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        why = "importing the app starts threads"
        control.send(line({"ready": False, "why": why, "threads": threads}))
        return 0
    opened = {int(n) for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")}
    kept = opened - {control.fileno()} | {0, 1, 2, 3}
    # Python itself ignores SIGPIPE.
    handled = [n for n in signal.valid_signals() - {signal.SIGPIPE} if callable(signal.getsignal(n))]
    gc.collect()
    gc.freeze()
    control.send(line({"ready": True, "threads": threads}))
    try:
        return fork_all(control, run, kept, handled)
    except (BrokenPipeError, ConnectionResetError):
        # Nobody asks any more.
        return 0


def fork_all(control, run, kept, handled):
    """Forks a child for each request, and some ahead when nobody waits."""
    spares, asked = collections.deque(), 0.0

    def more():
        count = AHEAD if time.monotonic() - asked < BUSY_SECONDS else 1
        spares.extend(forked(run, kept, handled, count))

    while True:
        if not spares and not select.select((control,), (), (), 0)[0]:
            # Nobody waits: fork ahead. If that fails, the request tries again.
            with contextlib.suppress(OSError):
                more()
                for spare in spares:
                    control.send(line({"spare": spare.pid}))
        data, given, _, _ = socket.recv_fds(control, REQUEST_BYTES, 5)
        if not data:
            return 0
        asked = time.monotonic()
        answer = {"id": None}
        try:
            answer["id"] = json.loads(data).get("id")
            if len(given) != 5:
                raise ValueError(f"{len(given)} descriptors instead of 5")
            if not any(take(spares, data, given, answer) for _ in range(len(spares))):
                more()
                if not take(spares, data, given, answer):
                    raise OSError("the forked process died")
        except (OSError, ValueError) as error:
            answer["error"] = f"{type(error).__name__}: {error}"
        finally:
            for descriptor in given:
                os.close(descriptor)
        control.send(line(answer))


Spare = collections.namedtuple("Spare", "pid line")


def take(spares, data, given, answer):
    """Hands a request to the child that waits longest; false when that has died meanwhile."""
    spare = spares.popleft()
    try:
        socket.send_fds(spare.line, [data], given)
    except (BrokenPipeError, ConnectionResetError):
        return False
    finally:
        spare.line.close()
    answer["pid"] = spare.pid
    return True


def forked(run, kept, handled, count):
    """Children that wait for what they are to become.

    They are forked by a process in the middle that ends, so that they belong to the subreaper above.
    """
    lines = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(count)]
    reading, writing = os.pipe()
    try:
        middle = os.fork()
    except OSError:
        close(reading), close(writing)
        raise
    if middle == 0:
        try:
            for _, theirs in lines:
                child = os.fork()
                if child == 0:
                    become(run, theirs, kept, handled)
                os.write(writing, b"%d " % child)
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(writing)
    for _, theirs in lines:
        theirs.close()
    try:
        os.waitpid(middle, 0)
        answer = os.read(reading, 4096).decode()
    finally:
        os.close(reading)
    # Behind those that were forked may stand why no more were.
    pids = [int(word) for word in itertools.takewhile(str.isdigit, answer.split())]
    if not pids:
        raise OSError(answer or "the forked process died")
    return [Spare(pid, mine) for pid, (mine, _) in zip(pids, lines)]


def become(run, requests, kept, handled):
    """Turns a fork into a process of its own that waits for a request, then at its gate."""
    try:
        os.setsid()
        for number in handled:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for name in os.listdir("/proc/self/fd"):
            if int(name) not in kept and int(name) != requests.fileno():
                close(int(name))
        run.begin().rehearse()
        data, given, _, _ = socket.recv_fds(requests, REQUEST_BYTES, 5)
        if len(given) != 5:
            os._exit(0)
        requests.close()
        gate = enter(json.loads(data), given)
        if not os.read(gate, 1):
            os._exit(NO_GATE)
        os.close(gate)
        leave(run.carry_out())
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(BROKEN)


def enter(request, given):
    """Takes the descriptors, folder and environment of a request; the gate's descriptor."""
    gate = fcntl.fcntl(given[4], fcntl.F_DUPFD_CLOEXEC, GATE)
    for at, descriptor in enumerate(given[:4]):
        os.dup2(descriptor, at)
    for descriptor in given:
        close(descriptor)
    os.chdir(request["cwd"])
    adopt({**request["env"], "CAPSULE_EVENT_FD": "3"})
    title(request.get("argv0", ""))
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    faulthandler.register(signal.SIGQUIT, file=sys.stderr, all_threads=True)
    return gate


def close(descriptor):
    try:
        os.close(descriptor)
    except OSError:
        pass


def title(text):
    """What ps shows for the process."""
    try:
        with open("/proc/self/comm", "w", encoding="utf-8") as file:
            file.write(text[:15])
    except OSError:
        pass

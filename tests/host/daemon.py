"""A small daemon for the tests of the host: it listens, records and answers.

The tests need the package cpsl 0.3.181 and run with `python -m unittest discover -s tests/host`.
"""

import base64
import itertools
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from cpsl.clients import capsule as wire

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOST = ROOT / "capsuled" / "host"
SECONDS = 20.0
HEAD = """
import asyncio, os, sys, threading, time
import cpsl
app = cpsl.App("leads", image=cpsl.Image())
"""
SEED = (ROOT / "tests" / "host" / "seed_app.py").read_text(encoding="utf-8")
NUMBERS = itertools.count(1)


class Daemon:
    """Listens on a socket of its own; `frames` is what came, in order."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="capsule-host-")
        self.path = os.path.join(self.folder, "hosts.sock")
        self.frames, self.hellos = [], []
        self.changed = threading.Condition()
        self.answers = {}
        self.refuse = ""
        # Reads no more than the first lines of what comes.
        self.deaf = False
        self.acknowledge = True
        self.connections = []
        self.listen()

    def listen(self):
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.server.bind(self.path)
        self.server.listen()
        threading.Thread(target=self.accept, args=(self.server,), daemon=True).start()

    def accept(self, server):
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=self.converse, args=(connection,), daemon=True).start()

    def converse(self, connection):
        file = connection.makefile("rb")
        hello = json.loads(file.readline())
        with self.changed:
            self.hellos.append(hello)
            if self.refuse:
                connection.sendall(line({"t": "refused", "message": self.refuse}))
                connection.close()
                return
            connection.sendall(line({"t": "welcome", "protocol": 1}))
            self.connections.append(connection)
            self.changed.notify_all()
        try:
            for text in file:
                self.received(connection, json.loads(text))
                while self.deaf and connection.fileno() >= 0:
                    time.sleep(0.01)
        except (OSError, ValueError):
            pass

    def received(self, connection, frame):
        if frame["t"] == "call":
            self.reply(connection, frame)
        with self.changed:
            self.frames.append(frame)
            self.changed.notify_all()
        if frame["t"] == "ended" and self.acknowledge:
            self.send({"t": "ack", "task": frame["task"], "attempt": frame["attempt"]}, connection)

    def reply(self, connection, frame):
        service, method = frame["method"].split("/")
        request = getattr(wire, f"{method}Request")().parse(base64.b64decode(frame["body"]))
        frame["request"] = request
        answer = self.answers.get(method)
        answer = answer(request) if callable(answer) else answer
        if answer is False:
            return
        if isinstance(answer, tuple):
            reply = {"code": answer[0], "message": answer[1]}
        else:
            body = bytes(answer if answer is not None else getattr(wire, f"{method}Response")())
            reply = {"body": base64.b64encode(body).decode()}
        self.send({"t": "reply", "id": frame["id"], **reply}, connection)

    def send(self, frame, connection=None):
        (connection or self.connections[-1]).sendall(line(frame))

    def wait(self, found, seconds=SECONDS):
        """The first frame that fits, once it is there."""
        end = time.monotonic() + seconds
        with self.changed:
            while True:
                for frame in self.frames:
                    if found(frame):
                        return frame
                left = end - time.monotonic()
                if left <= 0 or not self.changed.wait(left):
                    raise AssertionError(f"nothing fits, there is {self.shown()}")

    def wait_until(self, holds, seconds=SECONDS):
        end = time.monotonic() + seconds
        with self.changed:
            while not holds():
                left = end - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"it never came true, there is {self.shown()}")
                self.changed.wait(min(left, 0.1))

    def shown(self):
        return "\n".join(str(frame)[:300] for frame in [*self.hellos, *self.frames[-20:]])

    def ended(self, task, attempt=1):
        def fits(frame):
            return frame["t"] == "ended" and (frame["task"], frame["attempt"]) == (task, attempt)

        return self.wait(fits)

    def log(self, task, stream=None):
        with self.changed:
            return "".join(
                frame["text"]
                for frame in self.frames
                if frame["t"] == "log" and frame["task"] == task and stream in (None, frame["stream"])
            )

    def calls(self, method):
        with self.changed:
            return [f for f in self.frames if f["t"] == "call" and f["method"].endswith("/" + method)]

    def hang_up(self):
        """Loses all connections and stops listening."""
        self.server.close()
        os.unlink(self.path)
        for connection in self.connections:
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self.connections.clear()

    def close(self):
        self.server.close()
        for connection in self.connections:
            connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Started:
    """A process of the host with an app of its own."""

    def __init__(self, role, source, entry="app.py:app", env=None, daemon=None, flags=(), **options):
        self.folder = tempfile.mkdtemp(prefix="capsule-app-")
        for name, text in (source if isinstance(source, dict) else {"app.py": source}).items():
            pathlib.Path(self.folder, name).write_text(text, encoding="utf-8")
        self.result = os.path.join(self.folder, "result.json")
        environment = {**os.environ, "CAPSULE_ENTRY": entry, "CAPSULE_RESULT_FILE": self.result}
        environment |= {"CAPSULE_APP_ID": "leads", "CAPSULE_USER_ID": "ada", "CAPSULE_VERSION_ID": "r7"}
        environment |= {"CAPSULE_VERSION_TYPE": "deploy", "CAPSULE_ENV_TYPE": "deploy"}
        if daemon is not None:
            environment |= {"CAPSULE_HOST_SOCKET": daemon.path, "CAPSULE_HOST_TOKEN": "secret"}
        self.env = environment | (env or {})
        command = [sys.executable, *flags, "-u", str(HOST), role]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        self.process = subprocess.Popen(command, cwd=self.folder, env=self.env, **options)

    def wait(self):
        out, err = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, out, err

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)


def line(frame):
    return json.dumps(frame).encode() + b"\n"


class Forks:
    """The fork server of an app, spoken to as the keeper does."""

    def __init__(self, source, daemon=None, **options):
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.settimeout(SECONDS)
        env = {"CAPSULE_FORK_FD": str(theirs.fileno())}
        options = {"pass_fds": [theirs.fileno()], "stdout": None, "stderr": None} | options
        self.started = Started("forks", source, env=env, daemon=daemon, **options)
        theirs.close()
        self.ready = self.hear()
        self.count = 0

    def hear(self):
        """The next word, but for those about children that were forked ahead."""
        while True:
            word = json.loads(self.ours.recv(1 << 20))
            if "spare" not in word:
                return word

    def fork(self, task, kwargs=None, env=None, gate=True):
        return Child(self, task, kwargs or {}, env or {}, gate)

    def close(self):
        self.ours.close()
        self.started.close()


class Child:
    """One forked attempt."""

    def __init__(self, forks, task, kwargs, env, gate):
        forks.count += 1
        folder = tempfile.mkdtemp(dir=forks.started.folder)
        payload, self.result = os.path.join(folder, "payload"), os.path.join(folder, "result")
        pathlib.Path(payload).write_text(json.dumps(kwargs), encoding="utf-8")
        environment = {k: v for k, v in forks.started.env.items() if k != "CAPSULE_FORK_FD"}
        environment |= {"CAPSULE_TASK": task, "CAPSULE_TASK_ID": "9", "CAPSULE_ATTEMPT": "2"}
        environment |= {"CAPSULE_PAYLOAD_FILE": payload, "CAPSULE_RESULT_FILE": self.result} | env
        pipes = [os.pipe() for _ in range(4)]
        null = os.open(os.devnull, os.O_RDONLY)
        request = {"id": forks.count, "env": environment, "cwd": forks.started.folder, "argv0": task}
        theirs = [null, pipes[0][1], pipes[1][1], pipes[2][1], pipes[3][0]]
        self.began = time.monotonic()
        socket.send_fds(forks.ours, [json.dumps(request).encode()], theirs)
        self.answer = forks.hear()
        for descriptor in theirs:
            os.close(descriptor)
        self.out, self.err, self.event, self.gate = pipes[0][0], pipes[1][0], pipes[2][0], pipes[3][1]
        self.pid = self.answer.get("pid")
        if gate:
            self.open()

    def open(self):
        os.write(self.gate, b"g")
        os.close(self.gate)

    def wait(self):
        """What it wrote to stdout, stderr and as events."""
        texts = []
        for descriptor in (self.out, self.err, self.event):
            with os.fdopen(descriptor, encoding="utf-8") as file:
                texts.append(file.read())
        return texts


class Case(unittest.TestCase):
    """An app in a host, spoken to as the daemon does."""

    def boot(self, source, env=None, ready=True, answers=None):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)
        self.daemon.answers |= answers or {}
        self.host = Started("host", source, env=env, daemon=self.daemon)
        self.addCleanup(self.host.close)
        wanted = "ready" if ready else "failed"
        return self.daemon.wait(lambda frame: frame["t"] == wanted)

    def start(self, name, /, kind="task", timeout_ms=0, session_id="", attempt=1, **kwargs):
        task = next(NUMBERS)
        frame = {"t": "start", "kind": kind, "task": task, "attempt": attempt, "name": name}
        frame |= {"kwargs": kwargs, "session_id": session_id, "timeout_ms": timeout_ms, "user_id": ""}
        self.daemon.send(frame)
        return task

    def tell(self, what, task, **more):
        self.daemon.send({"t": what, "task": task, "attempt": 1, **more})

    def run_task(self, name, /, **more):
        return self.daemon.ended(self.start(name, **more))

    def printed(self, task, text):
        self.daemon.wait_until(lambda: text in self.daemon.log(task))

    def chat(self, text, session_id="s1", request_id="q1", **more):
        message = wire.InboundMessage(
            request_id=request_id, session_id=session_id, text=text, channel_type="chat", user_id="ada", **more
        )
        self.daemon.send({"t": "message", "body": base64.b64encode(bytes(message)).decode()})
        return self.daemon.wait(lambda frame: frame["t"] == "turn" and frame["request_id"] == request_id)

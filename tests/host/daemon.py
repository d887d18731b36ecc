"""A small daemon for the tests of the host: it listens, records and answers."""

import base64
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

from cpsl.clients import capsule as wire

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOST = ROOT / "capsuled" / "host"
SECONDS = 20.0


class Daemon:
    """Listens on a socket of its own; `frames` is what came, in order."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="capsule-host-")
        self.path = os.path.join(self.folder, "hosts.sock")
        self.frames, self.hellos = [], []
        self.changed = threading.Condition()
        self.answers = {}
        self.refuse = ""
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
                    raise AssertionError(f"nothing fits, there is {self.frames[-20:]} {self.hellos}")

    def wait_until(self, holds, seconds=SECONDS):
        end = time.monotonic() + seconds
        with self.changed:
            while not holds():
                left = end - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"it never came true, there is {self.frames[-20:]}")
                self.changed.wait(min(left, 0.1))

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

    def __init__(self, role, source, entry="app.py:app", env=None, daemon=None, **options):
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
        command = [sys.executable, "-u", str(HOST), role]
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

#!/usr/bin/env python3
"""Plays an app host, or one attempt, for tests of the daemon's side: one thread, no SDK.

Tasks: quick ends at once; wait ends when its file is there, or when it is cancelled; stuck does
neither; raise fails. Whatever is asked of it stands in the file `heard` in its folder.
"""

import json
import os
import pathlib
import select
import socket
import sys
import time


def now():
    return time.time_ns() // 1000


def attempt():
    event = {"error": {"type": "ValueError", "message": "no such owner", "retry": False}}
    os.write(int(os.environ["CAPSULE_EVENT_FD"]), json.dumps(event).encode() + b"\n")
    print("given", pathlib.Path(os.environ["CAPSULE_PAYLOAD_FILE"]).read_text(), flush=True)
    return 1


class Host:
    def __init__(self):
        self.running, self.verdicts, self.out, self.data = {}, {}, b"", b""
        self.heard = open("heard", "a", buffering=1)
        self.socket = None

    def connect(self):
        while True:
            try:
                self.socket = socket.socket(socket.AF_UNIX)
                self.socket.connect(os.environ["CAPSULE_HOST_SOCKET"])
                break
            except OSError:
                time.sleep(0.02)
        known = [self.known(key) for key in {*self.running, *self.verdicts}]
        self.data = b""
        self.say({"t": "hello", "protocol": 1, "role": "host", "pid": os.getpid(),
                  "token": os.environ["CAPSULE_HOST_TOKEN"], "attempts": known})
        if os.path.exists("broken"):
            self.say({"t": "failed", "error": {"kind": "boot", "message": "no database"}})
            sys.exit(1)
        self.say({"t": "ready"})

    def known(self, key):
        frame = self.running.get(key, {})
        return {"task": key[0], "attempt": key[1], "started_us": frame.get("started_us", now()),
                "ended": self.verdicts.get(key)}

    def say(self, frame):
        try:
            self.socket.sendall(json.dumps(frame).encode() + b"\n")
        except OSError:
            pass

    def end(self, key, verdict, **more):
        frame = self.running.pop(key)
        self.verdicts[key] = {"t": "ended", "task": key[0], "attempt": key[1], "at_us": now(),
                              "started_us": frame["started_us"], "verdict": verdict, **more}
        self.say(self.verdicts[key])

    def obey(self, frame):
        key = frame.get("task"), frame.get("attempt")
        print(frame["t"], *key, file=self.heard)
        if frame["t"] == "start":
            frame["started_us"] = now()
            self.running[key] = frame
            self.say({"t": "started", "task": key[0], "attempt": key[1], "at_us": frame["started_us"]})
            text = f"{frame['name']} begins\n"
            self.say({"t": "log", "task": key[0], "attempt": key[1], "stream": "out", "at_us": now(),
                      "text": text})
            if frame["name"] == "quick":
                self.end(key, "completed", result={"given": frame["kwargs"]})
            elif frame["name"] == "raise":
                self.end(key, "failed", error={"type": "KeyError", "message": "'x'", "retry": True})
        elif frame["t"] == "cancel" and self.running.get(key, {}).get("name") == "wait":
            self.end(key, "cancelled")
        elif frame["t"] == "ack":
            self.verdicts.pop(key, None)
        elif frame["t"] == "quit":
            sys.exit(0)

    def serve(self):
        while True:
            if not select.select([self.socket], [], [], 0.02)[0]:
                for key, frame in list(self.running.items()):
                    if frame["name"] == "wait" and os.path.exists(frame["kwargs"].get("file", "-")):
                        self.end(key, "completed", result=None)
                continue
            try:
                data = self.socket.recv(65536)
            except OSError:
                data = b""
            if not data:
                self.connect()
                continue
            *lines, self.data = (self.data + data).split(b"\n")
            for line in lines:
                self.obey(json.loads(line))


if sys.argv[-1] == "attempt":
    sys.exit(attempt())
host = Host()
host.connect()
host.serve()

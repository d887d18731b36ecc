"""A fork server that knows no app: each child becomes the shell script in its SCRIPT."""

import json
import os
import socket
import sys

control = socket.socket(fileno=int(os.environ["CAPSULE_FORK_FD"]))
control.send(b'{"ready": true, "threads": 1}')
while True:
    data, given, _, _ = socket.recv_fds(control, 1 << 20, 5)
    if not data:
        sys.exit(0)
    request = json.loads(data)
    mode = request["env"].get("MODE")
    if mode == "refuse":
        control.send(json.dumps({"id": request["id"], "error": "not today"}).encode())
    elif mode == "lie":
        control.send(json.dumps({"id": request["id"], "pid": os.getppid()}).encode())
    elif mode == "die":
        os.kill(os.getpid(), 9)
    elif mode != "silent":
        reading, writing = os.pipe()
        middle = os.fork()
        if middle == 0:
            child = os.fork()
            if child == 0:
                os.setsid()
                if os.read(given[4], 1):
                    for at, descriptor in enumerate(given[:4]):
                        os.dup2(descriptor, at)
                    os.closerange(4, 64)
                    env = request["env"] | {"FORKED": "1"}
                    os.execve("/bin/sh", ["sh", "-c", env["SCRIPT"]], env)
                os._exit(125)
            os.write(writing, b"%d" % child)
            os._exit(0)
        os.waitpid(middle, 0)
        pid = int(os.read(reading, 32))
        os.close(reading)
        os.close(writing)
        control.send(json.dumps({"id": request["id"], "pid": pid}).encode())
    for descriptor in given:
        os.close(descriptor)

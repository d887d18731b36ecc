"""Figures of the host beside their limits, measured in the same run: `python tests/host/bench.py`.

Async no-ops per second with 64 in flight, against a bare loop over a socket pair that runs the same
handler; and a forked attempt's first line, against a bare fork of the same process.
"""

import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time

import daemon

IN_FLIGHT, TASKS = 64, 20000
FORKS = 60
APP = """
import cpsl
app = cpsl.App("bench", image=cpsl.Image())

@app.task()
async def noop(owner_id: str):
    return {"synced": 10, "owner_id": owner_id}
"""
FORKED = """
import os, time
import cpsl
app = cpsl.App("bench", image=cpsl.Image())

@app.task(process=True)
async def noop(owner_id: str):
    print(time.monotonic())

@app.task(process=True)
async def bare(count: int):
    times = []
    for _ in range(count):
        read, write = os.pipe()
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os.write(write, str(time.monotonic()).encode())
            os._exit(0)
        times.append(float(os.read(read, 64)) - began)
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)
    return times
"""
ENDED = re.compile(rb'"t":"ended","task":(\d+)')


def starting(task):
    kind = '"kind":"task","name":"noop","kwargs":{"owner_id":"acme"},"session_id":""'
    return b'{"t":"start",%s,"task":%d,"attempt":1,"timeout_ms":300000,"user_id":""}\n' % (
        kind.encode(),
        task,
    )


def drive(connection, acknowledge):
    """Keeps so many tasks in flight; the seconds that all took."""
    connection.sendall(b"".join(starting(task) for task in range(1, IN_FLIGHT + 1)))
    began, started, done, rest = time.monotonic(), IN_FLIGHT, 0, b""
    while done < TASKS:
        data = rest + connection.recv(1 << 20)
        cut = data.rfind(b"\n") + 1
        data, rest = data[:cut], data[cut:]
        out = []
        for found in ENDED.findall(data):
            done += 1
            if acknowledge:
                out.append(b'{"t":"ack","task":%s,"attempt":1}\n' % found)
            if started < TASKS:
                started += 1
                out.append(starting(started))
        if out:
            connection.sendall(b"".join(out))
    return time.monotonic() - began


def cpu_of(pid):
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def host_figures():
    server = socket.socket(socket.AF_UNIX)
    folder = daemon.tempfile.mkdtemp()
    server.bind(folder + "/s")
    server.listen()

    class Place:
        path = folder + "/s"

    host = daemon.Started("host", APP, daemon=Place)
    try:
        connection, _ = server.accept()
        connection.recv(1 << 16)
        connection.sendall(b'{"t":"welcome","protocol":1}\n')
        while b'"ready"' not in connection.recv(1 << 16):
            pass
        before = cpu_of(host.process.pid)
        seconds = drive(connection, True)
        return seconds, cpu_of(host.process.pid) - before
    finally:
        host.close()


def bare_loop(descriptor):
    """The limit: read, run the same handler, write once per turn."""
    connection = socket.socket(fileno=descriptor)
    loop, out, rest = asyncio.new_event_loop(), [], b""

    async def noop(owner_id):
        return {"synced": 10, "owner_id": owner_id}

    async def run(frame):
        result = await noop(**frame["kwargs"])
        if not out:
            loop.call_soon(flush)
        out.append(json.dumps({"t": "ended", "task": frame["task"], "result": result}, separators=(",", ":")))

    def flush():
        connection.sendall("\n".join(out).encode() + b"\n")
        out.clear()

    def read():
        nonlocal rest
        data = connection.recv(1 << 18)
        if not data:
            loop.stop()
        lines = (rest + data).split(b"\n")
        rest = lines.pop()
        for text in lines:
            loop.create_task(run(json.loads(text)))

    loop.add_reader(connection, read)
    loop.run_forever()


def bare_figures():
    ours, theirs = socket.socketpair()
    command = [sys.executable, __file__, "bare", str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    theirs.close()
    ours.sendall(starting(0))
    ours.recv(1 << 16)
    before = cpu_of(process.pid)
    seconds = drive(ours, False)
    figures = seconds, cpu_of(process.pid) - before
    ours.close()
    process.wait()
    return figures


def fork_figures():
    forks = daemon.Forks(FORKED)
    try:
        child = forks.fork("bare", {"count": FORKS})
        child.wait()
        bare = json.load(open(child.result))
        figures = []
        for pause in (0.02, 0.0):
            ours = []
            for _ in range(FORKS):
                time.sleep(pause)
                child = forks.fork("noop", {"owner_id": "acme"})
                ours.append(float(child.wait()[0]) - child.began)
            figures.append(statistics.median(ours))
        return statistics.median(bare), *figures
    finally:
        forks.close()


def main():
    for name, (seconds, cpu) in (("host", host_figures()), ("bare loop", bare_figures())):
        rate, own = TASKS / seconds, TASKS / cpu
        print(f"{name:10} {rate:8.0f} tasks/s by the clock, {own:8.0f} per second of its own CPU")
    bare, *ours = fork_figures()
    for name, seconds in zip(("at rest", "in a row"), ours):
        ratio = f"bare fork {bare * 1e3:.2f} ms: {seconds / bare:.1f} x"
        print(f"fork to first line {name}: {seconds * 1e3:.2f} ms p50, {ratio}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        bare_loop(int(sys.argv[2]))
    else:
        main()

"""What limits a host, without a daemon: `loop N` prints handlers a second that a bare loop over a
socket pair runs with 64 in flight, `fork N` the median of forks of a process with the SDK, in µs."""

import asyncio
import os
import socket
import statistics
import sys
import time

what, count = sys.argv[1], int(sys.argv[2])


async def noop():
    pass


def serve(line):
    async def main():
        loop = asyncio.get_running_loop()
        line.setblocking(False)
        left = count
        while left:
            data = await loop.sock_recv(line, 1 << 16)
            done = [await loop.create_task(noop()) for _ in data.split(b"\n")[:-1]]
            left -= len(done)
            await loop.sock_sendall(line, b"done\n" * len(done))

    asyncio.run(main())


if what == "loop":
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        serve(theirs)
        os._exit(0)
    began = time.monotonic()
    ours.sendall(b"go\n" * min(64, count))
    sent, ended = min(64, count), 0
    while ended < count:
        back = ours.recv(1 << 16).count(b"\n")
        ended += back
        more = min(back, count - sent)
        if more:
            ours.sendall(b"go\n" * more)
            sent += more
    took = time.monotonic() - began
    os.waitpid(pid, 0)
    print(count / took)
else:
    import cpsl  # noqa: F401

    times = []
    for _ in range(count):
        read, write = os.pipe()
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os.write(write, repr(time.monotonic()).encode())
            os._exit(0)
        times.append(float(os.read(read, 64)) - began)
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)
    print(statistics.median(times) * 1e6)

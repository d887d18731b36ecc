"""What tasks print, who it belongs to, and what is seen while a task blocks the loop."""

import os
import pathlib
import signal
import unittest

from daemon import HEAD, Case, line


class Attribution(Case):
    def test_each_task_has_its_own_output(self):
        self.boot(
            HEAD
            + """
import logging, warnings
logging.basicConfig(level=logging.INFO)
@app.task()
async def work(name: str):
    for step in range(20):
        print(name, step)
        await asyncio.sleep(0)
    print(name, "warned", file=sys.stderr)
    logging.getLogger("x").info("logged by %s", name)
    warnings.warn(f"beware of {name}")
    await asyncio.to_thread(print, name, "in a thread")
    await asyncio.get_running_loop().run_in_executor(None, print, name, "in an executor")
    sys.stdout.buffer.write(f"{name} as bytes\\n".encode())
    child = asyncio.create_task(asyncio.sleep(0, print(name, "in a child")))
    await child
"""
        )
        tasks = {name: self.start("work", name=name) for name in ("ann", "bob", "cid")}
        for name, task in tasks.items():
            self.daemon.ended(task)
            out, err = self.daemon.log(task, "out"), self.daemon.log(task, "err")
            lines = [f"{name} {step}" for step in range(20)]
            lines += [f"{name} in a thread", f"{name} in an executor", f"{name} as bytes", f"{name} in a child"]
            self.assertEqual(out.splitlines(), lines)
            for text in (f"{name} warned", f"logged by {name}", f"beware of {name}"):
                self.assertIn(text, err)
            for other in tasks:
                if other != name:
                    self.assertNotIn(other, out + err)

    def test_output_comes_before_the_end_and_what_outlives_a_task_is_the_hosts(self):
        self.boot(
            HEAD
            + """
async def after():
    await asyncio.sleep(0.1)
    print("after the end")
@app.task()
async def work():
    asyncio.create_task(after())
    print("last words", end="")
"""
        )
        task = self.start("work")
        self.daemon.ended(task)
        kinds = [f["t"] for f in self.daemon.frames if f.get("task") == task]
        self.assertEqual(kinds, ["started", "log", "ended"])
        self.printed(0, "after the end")
        self.assertEqual(self.daemon.log(task), "last words")

    def test_text_that_is_no_unicode(self):
        self.boot(HEAD + "@app.task()\nasync def work():\n    print('a\\ud800b \\x00 \\u20ac \\U0001f600')\n")
        self.assertEqual(self.daemon.log(self.run_task("work")["task"]), "a?b \x00 \u20ac \U0001f600\n")


class Flood(Case):
    def test_a_flood_is_slowed_down_while_others_go_on(self):
        self.boot(
            HEAD
            + """
@app.task()
async def flood(lines: int):
    for number in range(lines):
        print(number, "x" * 1000)
        if number % 100 == 0:
            await asyncio.sleep(0)
@app.task()
async def quick(): return 1
"""
        )
        flood = self.start("flood", lines=20_000)
        self.printed(flood, "x")
        self.assertEqual(self.run_task("quick")["result"], 1)
        ended = self.daemon.ended(flood)
        printed = self.daemon.log(flood)
        expected = sum(len(str(n)) + 1002 for n in range(20_000))
        self.assertEqual(len(printed) + ended["dropped"], expected)

    def test_output_that_nobody_takes_is_dropped_with_a_count(self):
        self.boot(
            HEAD
            + """
@app.task()
async def flood(size: int):
    for _ in range(size // 10_000):
        print("x" * 9_999)
        await asyncio.sleep(0)
    if size > 10_000:
        open("done", "w").close()
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
"""
        )
        before = self.run_task("flood", size=10_000)["result"]
        self.daemon.deaf = True
        task = self.start("flood", size=40_000_000)
        done = pathlib.Path(self.host.folder, "done")
        self.daemon.wait_until(done.exists)
        self.daemon.deaf = False
        ended = self.daemon.ended(task)
        self.assertEqual(len(self.daemon.log(task)) + ended["dropped"], 40_000_000)
        self.assertGreater(ended["dropped"], 30_000_000)
        self.assertLess(ended["result"] - before, 24 << 20)


class Blocked(Case):
    source = (
        HEAD
        + """
@app.task()
async def block():
    print("about to block")
    stuck()
def stuck():
    print("stuck")
    time.sleep(60)
@app.task()
async def waits():
    print("waits")
    await inner()
async def inner():
    await asyncio.Event().wait()
"""
    )

    def test_output_pings_and_stacks_while_the_loop_is_blocked(self):
        self.boot(self.source)
        waiting = self.start("waits")
        self.printed(waiting, "waits")
        task = self.start("block")
        self.printed(task, "stuck")
        self.daemon.send({"t": "ping", "id": 1})
        self.daemon.wait(lambda f: f["t"] == "pong" and f["id"] == 1)
        self.daemon.send({"t": "ping", "id": 2})
        self.daemon.wait(lambda f: f["t"] == "pong" and f["id"] == 2)
        self.tell("stacks", task)
        self.printed(task, "time.sleep(60)")
        text = self.daemon.log(task, "err")
        self.assertIn("in stuck", text)
        self.assertIn("MainThread", text)
        self.assertIn("await asyncio.Event().wait()", text)
        self.tell("stacks", 0)
        self.printed(0, "in stuck")

        def blocked():
            self.daemon.send({"t": "ping", "id": 3})
            return any(f["t"] == "pong" and f["blocked_ms"] > 100 for f in self.daemon.frames)

        self.daemon.wait_until(blocked)
        self.host.process.send_signal(signal.SIGQUIT)
        line = self.host.process.stderr.readline()
        self.assertIn("most recent call first", line)

    def test_a_loop_that_blocks_at_once_has_said_what_came_before(self):
        both = "@app.task()\nasync def quick(): return 1\n@app.task()\nasync def dumb(): time.sleep(60)\n"
        self.boot(self.source + both)
        tasks = [1001, 1002]
        frames = [
            {"t": "start", "name": name, "kwargs": {}, "task": task, "attempt": 1}
            for name, task in zip(("quick", "dumb"), tasks)
        ]
        self.daemon.connections[-1].sendall(b"".join(line(frame) for frame in frames))
        self.daemon.wait(lambda f: f["t"] == "started" and f["task"] == tasks[1])
        self.assertEqual(self.daemon.ended(tasks[0])["verdict"], "completed")

    def test_a_loop_that_runs_is_not_blocked(self):
        self.boot(self.source)
        for number in range(3):
            self.daemon.send({"t": "ping", "id": number})
            self.daemon.wait(lambda f, n=number: f["t"] == "pong" and f["id"] == n and f["blocked_ms"] < 1000)


class Children(Case):
    def test_a_child_process_writes_to_the_output_of_the_host_process(self):
        task = "@app.task()\nasync def work():\n    return subprocess.run(['echo', 'hi']).returncode\n"
        self.boot(HEAD + "import subprocess\n" + task)
        self.assertEqual(self.run_task("work")["result"], 0)
        self.assertEqual(os.read(self.host.process.stdout.fileno(), 100), b"hi\n")


if __name__ == "__main__":
    unittest.main()

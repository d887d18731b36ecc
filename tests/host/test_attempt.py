"""Roles `attempt` and `forks`: one run in a process of its own."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import unittest

from cpsl.clients import capsule as wire
from daemon import SECONDS, Daemon, Forks, Started

HEAD = """
import asyncio, os, sys, threading, time
import cpsl
app = cpsl.App("leads", image=cpsl.Image())
"""
TASKS = (
    HEAD
    + """
@app.boot()
async def boot():
    print("booted")

@app.task(process=True, retry_for=[OSError])
async def work(owner_id: str, fail: str = ""):
    print("working for", owner_id)
    if fail:
        raise {"os": FileNotFoundError, "value": ValueError}[fail]("x")
    return {"owner": owner_id, "pid": os.getpid()}

@app.task()
def plain(seconds: float = 0):
    print("plain", threading.current_thread() is threading.main_thread(), flush=True)
    time.sleep(seconds)
    return "done"

@app.task(process=True)
async def waits():
    try:
        print("waits")
        await asyncio.sleep(60)
    finally:
        print("cleaned up")

@app.task(process=True)
async def busy():
    try:
        print("busy")
        while True:
            pass
    finally:
        print("cleaned up")

@app.task(process=True)
async def fans_out(session: cpsl.Session = None):
    handle = await work.submit(owner_id="x")
    if session.id:
        session.data["n"] = 1
        async with session.stream_reply() as reply:
            reply.write("streamed")
    return handle.task_id

@app.schedule("* * * * *")
def tick():
    print("tick", asyncio.run(work.submit(owner_id="y")).task_id)
"""
)
SUBMITTED = wire.SubmitTaskResponse(ok=True, task_id="88")


class Case(unittest.TestCase):
    def listen(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)
        self.daemon.answers["SubmitTask"] = SUBMITTED
        return self.daemon


class Fresh(Case):
    def begin(self, task, source=TASKS, env=None, daemon=None, **kwargs):
        self.events, events = os.pipe()
        self.addCleanup(os.close, self.events)
        environment = {"CAPSULE_TASK": task, "CAPSULE_TASK_ID": "9", "CAPSULE_ATTEMPT": "2"}
        environment |= {"CAPSULE_EVENT_FD": str(events), "CAPSULE_PAYLOAD_FILE": "payload"} | (env or {})
        source = {"app.py": source, "payload": json.dumps(kwargs)}
        started = Started("attempt", source, env=environment, daemon=daemon, pass_fds=[events])
        os.close(events)
        self.addCleanup(started.close)
        return started

    def end(self, started):
        code, out, err = started.wait()
        event = os.read(self.events, 1 << 16).decode()
        path = pathlib.Path(started.result)
        result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        return code, out, err, json.loads(event) if event else None, result

    def run_task(self, task, **more):
        return self.end(self.begin(task, **more))

    def test_a_result(self):
        code, out, err, event, result = self.run_task("work", owner_id="acme")
        self.assertEqual((code, out, err, event), (0, "booted\nworking for acme\n", "", None))
        self.assertEqual(result["owner"], "acme")
        code, out, _, _, result = self.run_task("plain")
        self.assertEqual((code, out, result), (0, "booted\nplain True\n", "done"))

    def test_an_error(self):
        code, _, err, event, result = self.run_task("work", owner_id="a", fail="os")
        error = event["error"]
        self.assertEqual((code, result, error["type"], error["retry"]), (1, None, "FileNotFoundError", True))
        self.assertEqual([f["function"] for f in error["frames"]], ["work"])
        self.assertIn("Traceback", err)
        self.assertNotIn("capsuled/host", err)
        self.assertFalse(self.run_task("work", owner_id="a", fail="value")[3]["error"]["retry"])
        code, _, _, event, _ = self.run_task("work", owner="a")
        self.assertEqual((code, event["error"]["type"], event["error"]["retry"]), (1, "TypeError", False))
        self.assertEqual(self.run_task("nobody")[3]["error"]["type"], "LookupError")
        code, _, err, event, _ = self.run_task("work", source="import nothing_like_it\n")
        self.assertEqual((code, event["error"]["type"]), (1, "ModuleNotFoundError"))

    def test_a_large_error_stays_a_small_event(self):
        source = HEAD + "@app.task()\nasync def work():\n    raise ValueError('\\x01' * 1_000_000)\n"
        _, _, _, event, _ = self.run_task("work", source=source)
        self.assertLess(len(json.dumps(event)), 16 << 10)

    def test_a_result_of_its_own_stands(self):
        source = HEAD + (
            "@app.task()\nasync def work():\n    open(os.environ['CAPSULE_RESULT_FILE'], 'w').write('7')\n"
            "@app.task()\nasync def odd():\n    return {1, 2}\n"
        )
        self.assertEqual(self.run_task("work", source=source)[4], 7)
        _, _, err, _, result = self.run_task("odd", source=source)
        self.assertEqual(result, {"repr": "{1, 2}"})
        self.assertIn("no JSON", err)

    def stopped(self, task):
        started = self.begin(task)
        # The first lines tell that it runs.
        self.assertEqual(started.process.stdout.readline(), "booted\n")
        self.assertIn(task, started.process.stdout.readline())
        started.process.send_signal(signal.SIGTERM)
        return self.end(started)

    def test_sigterm_cancels(self):
        for task in ("waits", "busy"):
            code, out, err, event, result = self.stopped(task)
            self.assertEqual((code, out, event, result), (-signal.SIGTERM, "cleaned up\n", None, None), err)

    def test_sigterm_ends_a_plain_function(self):
        started = self.begin("plain", seconds=60)
        started.process.stdout.readline()
        started.process.stdout.readline()
        started.process.send_signal(signal.SIGTERM)
        code, _, err, event, _ = self.end(started)
        self.assertEqual((code, err, event), (-signal.SIGTERM, "", None))

    def test_sigquit_prints_stacks_and_the_task_goes_on(self):
        started = self.begin("waits")
        started.process.stdout.readline()
        started.process.stdout.readline()
        started.process.send_signal(signal.SIGQUIT)
        self.assertIn("most recent call first", started.process.stderr.readline())
        self.assertIsNone(started.process.poll())

    def test_submit_session_and_plain_ticks(self):
        daemon = self.listen()
        daemon.answers["GetSession"] = wire.GetSessionResponse(user_id="bob", data_json="{}")
        daemon.answers["SaveSessionData"] = wire.SaveSessionDataResponse(ok=True, data_json='{"n":1}')
        env = {"CAPSULE_SESSION_ID": "s1"}
        code, _, err, _, result = self.run_task("fans_out", daemon=daemon, env=env)
        self.assertEqual((code, result), (0, "88"), err)
        hello = daemon.hellos[0]
        self.assertEqual((hello["role"], hello["task"], hello["attempt"], hello["token"]), ("attempt", 9, 2, "secret"))
        call = daemon.calls("SubmitTask")[0]
        self.assertEqual((call["task"], call["attempt"]), (9, 2))
        self.assertEqual(daemon.calls("SaveSessionData")[0]["request"].data_json, '{"n":1}')
        # Nobody awaits this one.
        self.assertEqual(daemon.calls("NotifySession")[0]["request"].text, "streamed")
        code, out, err, _, _ = self.run_task("tick", daemon=daemon)
        self.assertEqual((code, out), (0, "booted\ntick 88\n"), err)

    def test_without_a_call_there_is_no_connection(self):
        daemon = self.listen()
        self.run_task("work", daemon=daemon, owner_id="a")
        self.assertEqual(daemon.hellos, [])


class Forked(Case):
    def serve(self, source=TASKS, daemon=None, **options):
        forks = Forks(source, daemon=daemon, **options)
        self.addCleanup(forks.close)
        return forks

    def test_a_result_in_a_session_of_its_own(self):
        forks = self.serve()
        self.assertEqual(forks.ready, {"ready": True, "threads": 1})
        child = forks.fork("work", {"owner_id": "acme"})
        self.assertEqual(child.answer, {"id": 1, "pid": child.pid})
        out, err, event = child.wait()
        self.assertEqual((out, err, event), ("booted\nworking for acme\n", "", ""))
        result = json.loads(pathlib.Path(child.result).read_text(encoding="utf-8"))
        self.assertEqual(result, {"owner": "acme", "pid": child.pid})
        error = json.loads(forks.fork("work", {"owner_id": "a", "fail": "value"}).wait()[2])["error"]
        self.assertEqual((error["type"], error["retry"]), ("ValueError", False))

    def test_a_closed_gate(self):
        forks = self.serve()
        child = forks.fork("work", {"owner_id": "a"}, gate=False)
        self.assertTrue(pathlib.Path(f"/proc/{child.pid}").exists())
        os.close(child.gate)
        self.assertEqual(child.wait(), ["", "", ""])

    def test_what_a_child_has(self):
        source = HEAD + (
            "import random, signal\nlog = open('import.log', 'w')\nsignal.signal(signal.SIGUSR1, print)\n"
            "@app.task(process=True)\nasync def look():\n"
            "    log.write('x'); log.flush()\n"
            "    here = '/proc/self/fd'\n"
            "    open_ones = [n for n in os.listdir(here) if os.path.exists(f'{here}/{n}')]\n"
            "    names = {n: os.readlink(f'{here}/{n}') for n in open_ones}\n"
            "    return {'fds': names, 'sid': os.getsid(0), 'pid': os.getpid(), 'random': random.random(),\n"
            "        'usr1': signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL, 'env': dict(os.environ),\n"
            "        'comm': open('/proc/self/comm').read().strip(), 'cwd': os.getcwd(), 'ppid': os.getppid()}\n"
        )
        forks = self.serve(source)
        seen = []
        for number in range(3):
            child = forks.fork("look", env={"ONLY": str(number)})
            self.assertEqual(child.wait()[1:], ["", ""])
            seen.append(json.loads(pathlib.Path(child.result).read_text(encoding="utf-8")))
        self.assertEqual(len({look["random"] for look in seen}), 3)
        for number, look in enumerate(seen):
            self.assertEqual((look["sid"], look["usr1"], look["comm"]), (look["pid"], True, "look"))
            self.assertNotEqual(look["ppid"], forks.started.process.pid)
            self.assertEqual((look["env"]["ONLY"], look["env"]["CAPSULE_EVENT_FD"]), (str(number), "3"))
            self.assertNotIn("CAPSULE_FORK_FD", look["env"])
            self.assertEqual(look["cwd"], forks.started.folder)
            kinds = sorted(target.split(":")[0] for target in look["fds"].values())
            sockets = [kind for kind in kinds if kind == "socket"]
            # The loop's own pair and nothing of the server's.
            self.assertEqual(len(sockets), 2, look["fds"])
        self.assertEqual(pathlib.Path(forks.started.folder, "import.log").read_text(), "xxx")

    def test_submit_from_a_fork(self):
        daemon = self.listen()
        child = self.serve(daemon=daemon).fork("fans_out")
        out, err, _ = child.wait()
        self.assertEqual(err, "")
        self.assertEqual(json.loads(pathlib.Path(child.result).read_text()), "88")
        self.assertEqual((daemon.hellos[0]["role"], daemon.hellos[0]["task"]), ("attempt", 9))

    def test_many_at_once_and_a_spare_that_died(self):
        forks = self.serve()
        children = [forks.fork("work", {"owner_id": str(n)}) for n in range(8)]
        for number, child in enumerate(children):
            self.assertIn(f"working for {number}", child.wait()[0])
        spares = self.spares_of(forks, {child.pid for child in children})
        for spare in spares:
            os.kill(spare, signal.SIGKILL)
        self.until(lambda: all(map(self.gone, spares)))
        self.assertIn("working for z", forks.fork("work", {"owner_id": "z"}).wait()[0])

    def test_a_batch_that_cannot_be_forked_whole_gives_those_that_were(self):
        script = """
import os, sys, types
sys.path.insert(0, os.path.dirname(sys.argv[1]))
package = types.ModuleType("capsule_host")
package.__path__ = [sys.argv[1]]
sys.modules["capsule_host"] = package
from capsule_host import attempt
attempt.become = lambda *given: os._exit(0)
fork, middle, left = os.fork, os.getpid(), int(sys.argv[2])
def scarce():
    global left
    if os.getpid() != middle:
        left -= 1
        if left < 0:
            raise BlockingIOError(11, "no room for 1 more")
    return fork()
os.fork = scarce
try:
    print(len(attempt.forked(None, set(), [], 4)))
except OSError as error:
    print(error)
"""
        host = pathlib.Path(__file__).parents[2] / "capsuled" / "host"
        for room, said in ((4, "4"), (2, "2"), (0, "BlockingIOError: [Errno 11] no room for 1 more")):
            ran = subprocess.run([sys.executable, "-c", script, host, str(room)], capture_output=True, text=True)
            self.assertEqual((ran.stdout.strip(), ran.stderr), (said, ""))

    def spares_of(self, forks, others):
        """The processes that were forked ahead, once no more come."""
        found = []

        def look():
            before = found.copy()
            found.clear()
            for name in os.listdir("/proc"):
                if not name.isdigit() or int(name) in others | {forks.started.process.pid}:
                    continue
                try:
                    if os.readlink(f"/proc/{name}/cwd") == forks.started.folder and not self.gone(int(name)):
                        found.append(int(name))
                except OSError:
                    pass
            return found and found == before

        self.until(look)
        return found

    def gone(self, pid):
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return True

    def until(self, holds):
        end = time.monotonic() + SECONDS
        while not holds():
            self.assertLess(time.monotonic(), end)
            threading.Event().wait(0.01)

    def test_the_server_and_its_spare_end_with_the_socket(self):
        forks = self.serve()
        (spare,) = self.spares_of(forks, set())
        forks.ours.close()
        self.assertEqual(forks.started.process.wait(SECONDS), 0)
        self.until(lambda: self.gone(spare))

    def test_an_import_that_starts_threads(self):
        source = HEAD + "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        ready = self.serve(source).ready
        self.assertEqual((ready["ready"], ready["why"]), (False, "importing the app starts threads"))

    def test_an_import_that_fails(self):
        ready = self.serve("import cpsl\n1 / 0\n").ready
        self.assertEqual((ready["ready"], ready["error"]["line"]), (False, 2))

    def test_a_broken_request(self):
        forks = self.serve()
        forks.ours.send(b'{"id": 5}')
        answer = forks.hear()
        self.assertEqual(answer["id"], 5)
        self.assertIn("descriptors", answer["error"])
        forks.ours.send(b"no json")
        self.assertIn("error", forks.hear())
        self.assertIn("working", forks.fork("work", {"owner_id": "a"}).wait()[0])


if __name__ == "__main__":
    unittest.main()

"""Role `host`: tasks and ticks on the warm loop, as the daemon sees them."""

import unittest

from cpsl.clients import capsule as wire
from daemon import HEAD, NUMBERS, SEED, Case, line


class Tasks(Case):
    def test_hello_and_result(self):
        self.boot(SEED)
        hello = self.daemon.hellos[0]
        self.assertEqual((hello["role"], hello["token"], hello["protocol"]), ("host", "secret", 1))
        self.assertEqual((hello["pid"], hello["attempts"]), (self.host.process.pid, []))
        ended = self.run_task("sync_leads", owner_id="acme")
        self.assertEqual(ended["verdict"], "completed")
        self.assertEqual(ended["result"], {"synced": 10, "owner_id": "acme"})
        self.assertIsNone(ended["error"])
        self.assertLessEqual(ended["started_us"], ended["at_us"])
        started = self.daemon.wait(lambda f: f["t"] == "started" and f["task"] == ended["task"])
        self.assertEqual(started["at_us"], ended["started_us"])

    def test_results_that_are_no_json(self):
        self.boot(
            HEAD
            + "@app.task()\nasync def odd(): return object\n"
            + "@app.task()\nasync def nan(): return {'x': float('nan')}\n"
            + "@app.task()\nasync def nothing(): pass\n"
            + "@app.task()\nasync def half(): return 'a\\ud800b\\u2028\\n'\n"
            + "@app.task()\nasync def much(): return 'x' * 9_000_000\n"
        )
        ended = self.run_task("odd")
        self.assertEqual((ended["verdict"], ended["result"]), ("completed", {"repr": "<class 'object'>"}))
        self.assertIn("no JSON", self.daemon.log(ended["task"], "err"))
        self.assertEqual(self.run_task("nan")["result"], {"repr": "{'x': nan}"})
        self.assertIsNone(self.run_task("nothing")["result"])
        self.assertEqual(self.run_task("half")["result"], "a?b\u2028\n")
        self.assertLess(len(self.run_task("much")["result"]["repr"]), 10_000)

    def test_an_error_has_type_message_and_frames_of_the_user(self):
        self.boot(
            HEAD
            + """
import json
class Busy(ValueError): pass
def inner():
    raise Busy("later")
@app.task()
async def work():
    inner()
@app.task()
async def parse():
    json.loads("{")
"""
        )
        ended = self.run_task("work")
        error = ended["error"]
        self.assertEqual((ended["verdict"], error["type"], error["message"]), ("failed", "Busy", "later"))
        self.assertEqual([f["function"] for f in error["frames"]], ["work", "inner"])
        last = error["frames"][-1]
        self.assertEqual((last["file"], last["line"], last["code"]), ("app.py", 9, 'raise Busy("later")'))
        self.assertTrue(error["retry"])
        log = self.daemon.log(ended["task"], "err")
        self.assertIn("Traceback (most recent call last)", log)
        self.assertNotIn("capsuled/host", log)
        frames = self.run_task("parse")["error"]["frames"]
        self.assertEqual([f["function"] for f in frames], ["parse"])

    def test_what_is_worth_another_attempt(self):
        self.boot(
            HEAD
            + """
@app.task(retry_for=[OSError])
async def work(how: str):
    raise {"sub": ConnectionResetError, "other": ValueError, "exit": SystemExit}[how]("x")
@app.task()
async def later():
    error = RuntimeError("slow down")
    error.retry_after = 2.5
    raise error
"""
        )
        self.assertTrue(self.run_task("work", how="sub")["error"]["retry"])
        self.assertFalse(self.run_task("work", how="other")["error"]["retry"])
        self.assertEqual(self.run_task("work", how="exit")["error"]["type"], "SystemExit")
        self.assertEqual(self.run_task("later")["error"]["retry_after"], "3s")
        for kwargs, text in (({}, "missing"), ({"how": "sub", "x": 1}, "unexpected")):
            error = self.run_task("work", **kwargs)["error"]
            self.assertEqual((error["type"], error["retry"]), ("TypeError", False))
            self.assertIn(text, error["message"])
        error = self.run_task("nobody")["error"]
        self.assertEqual((error["type"], error["retry"]), ("LookupError", False))

    def test_a_timeout_and_its_refresh(self):
        self.boot(HEAD + "@app.task()\nasync def sleep(seconds: float):\n    await asyncio.sleep(seconds)\n")
        ended = self.run_task("sleep", timeout_ms=200, seconds=60)
        self.assertEqual((ended["verdict"], ended["error"]), ("timeout", None))
        self.assertLess(ended["at_us"] - ended["started_us"], 5_000_000)
        log = self.daemon.log(ended["task"], "err")
        self.assertIn("timed out after 0.2 s", log)
        self.assertIn("await asyncio.sleep(seconds)", log)
        self.assertEqual(self.run_task("sleep", timeout_ms=60_000, seconds=0.01)["verdict"], "completed")

        task = self.start("sleep", timeout_ms=1000, seconds=60)
        self.daemon.wait(lambda f: f["t"] == "started" and f["task"] == task)
        other = self.run_task("sleep", seconds=0.5)
        self.tell("refresh", task)
        ended = self.daemon.ended(task)
        self.assertGreaterEqual(ended["at_us"] - ended["started_us"], 1_450_000)
        self.assertEqual(other["verdict"], "completed")

    def test_a_timeout_error_of_the_app_is_a_failure(self):
        self.boot(HEAD + "@app.task()\nasync def work():\n    await asyncio.wait_for(asyncio.sleep(9), 0.01)\n")
        ended = self.run_task("work", timeout_ms=60_000)
        self.assertEqual((ended["verdict"], ended["error"]["type"]), ("failed", "TimeoutError"))

    def test_cancel(self):
        self.boot(
            HEAD
            + """
@app.task()
async def work(how: str):
    print("begun")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        print("cleaned up")
        if how == "swallow":
            return "kept"
        if how == "fault":
            raise ValueError("broken")
        raise
    finally:
        await asyncio.sleep(0)
@app.task()
async def itself():
    raise asyncio.CancelledError
"""
        )
        for how in ("plain", "swallow", "fault"):
            task = self.start("work", how=how)
            self.printed(task, "begun")
            self.tell("cancel", task, grace_ms=1000)
            ended = self.daemon.ended(task)
            self.assertEqual(ended["verdict"], "cancelled", how)
            self.assertIn("cleaned up", self.daemon.log(task))
            self.assertEqual(ended["result"], "kept" if how == "swallow" else None)
            self.assertEqual((ended["error"] or {}).get("type"), "ValueError" if how == "fault" else None)
        self.assertEqual(self.run_task("itself")["error"]["type"], "CancelledError")

    def test_cancel_before_it_began(self):
        self.boot(HEAD + "@app.task()\nasync def work():\n    await asyncio.sleep(60)\n")
        task = next(NUMBERS)
        # Both in one write: the loop sees the cancel before the coroutine has begun.
        frames = [{"t": "start", "name": "work", "kwargs": {}, "task": task, "attempt": 1}]
        frames.append({"t": "cancel", "task": task, "attempt": 1, "grace_ms": 0})
        self.daemon.connections[-1].sendall(b"".join(line(frame) for frame in frames))
        self.assertEqual(self.daemon.ended(task)["verdict"], "cancelled")

    def test_the_same_start_twice_is_one_attempt(self):
        self.boot(HEAD + "@app.task()\nasync def work():\n    print('once')\n    await asyncio.sleep(0.2)\n")
        task = self.start("work")
        self.daemon.send({"t": "start", "name": "work", "kwargs": {}, "task": task, "attempt": 1})
        self.daemon.ended(task)
        self.run_task("work")
        self.assertEqual(self.daemon.log(task), "once\n")
        ends = [f for f in self.daemon.frames if f["t"] == "ended" and f["task"] == task]
        self.assertEqual(len(ends), 1)

    def test_submit_carries_the_task(self):
        submitted = wire.SubmitTaskResponse(ok=True, task_id="77")
        self.boot(SEED, answers={"SubmitTask": submitted})
        ended = self.run_task("hourly_sync", kind="tick")
        self.assertEqual(ended["verdict"], "completed")
        call = self.daemon.calls("SubmitTask")[0]
        self.assertEqual((call["task"], call["attempt"]), (ended["task"], 1))
        self.assertEqual(call["request"].kwargs_json, b'{"owner_id": "system"}')
        self.assertEqual((call["request"].max_retries, call["request"].timeout), (2, 300))
        # No round trip for the identity.
        self.assertEqual(self.daemon.calls("GetUserIntegrations"), [])

    def test_the_tasks_of_a_handle(self):
        record = wire.TaskRecord(task_id="5", task_name="sub", status=wire.TaskStatus.RUNNING, kwargs_json=b"{}")
        self.boot(
            HEAD
            + """
@app.task()
async def sub(x: int): ...
@app.task()
async def work():
    handle = await sub.submit(x=1)
    later = await sub.schedule("every 5m", x=2)
    await handle.refresh()
    found = await sub.find(status="running", x=1)
    return [handle.task_id, later.task_id, await handle.status(), found[0].task_id,
            await sub.count(), await handle.cancel(), await app.tasks.count()]
""",
            answers={
                "SubmitTask": wire.SubmitTaskResponse(ok=True, task_id="5"),
                "GetTask": wire.GetTaskResponse(task=record),
                "FindTasks": wire.FindTasksResponse(tasks=[record]),
                "CountTasks": wire.CountTasksResponse(count=3),
                "CancelTasks": wire.CancelTasksResponse(cancelled=1),
            },
        )
        ended = self.run_task("work")
        self.assertEqual(ended["result"], ["5", "5", "running", "5", 3, True, 3])
        self.assertEqual(self.daemon.calls("SubmitTask")[1]["request"].recurrence_seconds, 300)
        self.assertEqual(self.daemon.calls("RefreshTaskTimeout")[0]["request"].task_id, "5")

    def test_a_refused_call_raises(self):
        self.boot(SEED, answers={"SubmitTask": (6, "a task holds the lock")})
        error = self.run_task("hourly_sync", kind="tick")["error"]
        self.assertEqual((error["type"], error["message"]), ("CallError", "ALREADY_EXISTS: a task holds the lock"))
        self.assertEqual(error["frames"][-1]["function"], "hourly_sync")

    def test_more_calls_than_the_daemon_takes_at_once(self):
        self.boot(
            HEAD
            + """
@app.task()
async def sub(x: int): ...
@app.task()
async def work():
    handles = await asyncio.gather(*(sub.submit(x=x) for x in range(2000)))
    return len({handle.task_id for handle in handles})
""",
            answers={"SubmitTask": lambda request: wire.SubmitTaskResponse(ok=True, task_id=str(request.kwargs_json))},
        )
        self.assertEqual(self.run_task("work")["result"], 2000)

    def test_calls_from_threads_and_plain_ticks(self):
        self.boot(
            HEAD
            + """
@app.task()
async def sub(): ...
@app.task()
async def work():
    def call():
        return asyncio.run(sub.submit()).task_id
    await asyncio.to_thread(call)
    await asyncio.get_running_loop().run_in_executor(None, call)
    return cpsl.Secret.from_name("TOKEN").value
@app.schedule("* * * * *")
def plain():
    print(threading.current_thread() is threading.main_thread())
""",
            answers={"GetSecret": wire.GetSecretResponse(ok=True, value="s3cret")},
        )
        ended = self.run_task("work")
        self.assertEqual(ended["result"], "s3cret")
        self.assertEqual([call["task"] for call in self.daemon.calls("SubmitTask")], [ended["task"]] * 2)
        ended = self.run_task("plain", kind="tick")
        self.assertEqual((ended["verdict"], self.daemon.log(ended["task"])), ("completed", "False\n"))

    def test_a_session_collections_and_settings(self):
        session = wire.GetSessionResponse(session_id="s9", user_id="bob", data_json='{"n": 1}')
        saved = wire.SaveSessionDataResponse(ok=True, revision=2, data_json='{"n": 2}')
        self.boot(
            HEAD
            + """
leads = app.collection("leads", scope="user")
app.setting("region", default="eu")
@app.task()
async def work(session: cpsl.Session):
    session.data["n"] += 1
    await session.reply("done")
    await session.set("k", 5)
    await leads.insert_one({"a": 1})
    await app.set("last", 3)
    return [session.user.id, await app.settings.get("region"), cpsl.current_session().id]
@app.task()
async def unbound(session: cpsl.Session):
    return [session.user.id, session.id, session.user.owner_id]
""",
            answers={"GetSession": session, "SaveSessionData": saved, "InsertOne": wire.InsertOneResponse(id="1")},
        )
        ended = self.run_task("work", session_id="s9")
        self.assertEqual((ended["result"], ended["error"]), (["bob", "eu", "s9"], None))
        order = [f.get("method", f["t"]) for f in self.daemon.frames if f["t"] in ("call", "ended")]
        self.assertLess(order.index("SessionService/SaveSessionData"), order.index("ended"))
        self.assertEqual(self.daemon.calls("SaveSessionData")[0]["request"].data_json, '{"n":2}')
        self.assertEqual(self.daemon.calls("NotifySession")[0]["request"].text, "done")
        self.assertIn(b'"a": 1', self.daemon.calls("InsertOne")[0]["request"].document_json)
        self.assertEqual(self.run_task("unbound")["result"], ["ada", "", "ada"])


class Threads(Case):
    env = {"CAPSULE_SYNC_TASKS": "thread"}
    source = (
        HEAD
        + """
@app.task()
def work(seconds: float, session: cpsl.Session = None):
    print("in", threading.current_thread().name)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.005)
    return session.user.id
"""
    )

    def test_plain_functions(self):
        self.boot(self.source, env=self.env)
        ended = self.run_task("work", seconds=0)
        self.assertEqual((ended["verdict"], ended["result"]), ("completed", "ada"))
        self.assertIsInstance(ended["cpu_us"], int)
        self.assertIn("in capsule-task", self.daemon.log(ended["task"]))
        self.assertEqual(self.run_task("work", nothing=1)["error"]["retry"], False)

    def test_a_thread_is_stopped_before_its_verdict(self):
        self.boot(self.source, env=self.env)
        task = self.start("work", seconds=60)
        self.printed(task, "in")
        self.tell("cancel", task, grace_ms=1000)
        self.assertEqual(self.daemon.ended(task)["verdict"], "cancelled")
        self.assertEqual(self.run_task("work", seconds=60, timeout_ms=100)["verdict"], "timeout")

    def test_without_the_setting_they_do_not_run_here(self):
        self.boot(self.source)
        error = self.run_task("work", seconds=0)["error"]
        self.assertEqual(error["retry"], False)
        self.assertIn("process", error["message"])


if __name__ == "__main__":
    unittest.main()

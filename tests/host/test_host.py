"""Role `host`: chat turns, boot and end of the process, as the daemon sees them."""

import base64
import os
import pathlib
import signal
import unittest

from cpsl.clients import capsule as wire
from daemon import HEAD, SECONDS, SEED, Case


class Chat(Case):
    def test_the_seed(self):
        self.boot(SEED, answers={"SubmitTask": wire.SubmitTaskResponse(ok=True, task_id="42")})
        turn = self.chat("go", owner_id="org:acme")
        self.assertEqual((turn["ok"], turn["error"]), (True, None))
        submit = self.daemon.calls("SubmitTask")[0]
        self.assertEqual((submit["task"], submit["request"].kwargs_json), (0, b'{"owner_id": "org:acme"}'))
        card, end = (call["request"] for call in self.daemon.calls("SubmitResult"))
        self.assertIn('"task_id": "42"', card.block_json)
        self.assertEqual((end.request_id, end.done), ("q1", True))

    def test_streams_actions_and_data(self):
        saved = wire.SaveSessionDataResponse(ok=True, revision=1, data_json='{"n": 1}')
        self.boot(
            HEAD
            + """
@app.message()
async def handle(session, msg):
    async with session.stream_reply() as stream:
        for word in msg.text.split():
            stream.write(word)
    session.data["n"] = 1
    if msg.text == "fail":
        raise ValueError("after the stream")
@app.action("approve")
async def approve(session, event):
    await session.reply(f"approved {event.payload['id']}")
""",
            answers={"SaveSessionData": saved, "GetSession": wire.GetSessionResponse(data_json="{}")},
        )
        self.assertTrue(self.chat("a b c")["ok"])
        texts = [call["request"].text for call in self.daemon.calls("SubmitResult") if call["request"].text]
        self.assertEqual("".join(texts), "abc")
        self.assertEqual(len(self.daemon.calls("SaveSessionData")), 1)
        turn = self.chat("fail", request_id="q3")
        self.assertEqual((turn["ok"], turn["error"]), (False, "ValueError: after the stream"))
        action = {"action_name": "approve", "action_payload_json": '{"id": 7}'}
        self.assertTrue(self.chat("", request_id="q2", **action)["ok"])
        self.assertEqual([c["request"].text for c in self.daemon.calls("SubmitResult")].count("approved 7"), 1)

    def test_an_error_of_a_handler(self):
        self.boot(HEAD + "@app.message()\nasync def handle(session, msg):\n    raise ValueError('no')\n")
        turn = self.chat("x")
        self.assertEqual((turn["ok"], turn["error"]), (False, "ValueError: no"))
        self.assertIn("ValueError: no", self.daemon.log(0))
        self.assertIn("app.py", self.daemon.log(0))
        last = self.daemon.calls("SubmitResult")[-1]["request"]
        self.assertEqual((last.text, last.done), ("Runner error: no", True))

    def test_turns_of_a_session_follow_each_other_and_others_do_not_wait(self):
        self.boot(
            HEAD
            + """
@app.message()
async def handle(session, msg):
    print("begin", msg.text)
    await asyncio.sleep(float(msg.text))
    print("end", msg.text)
"""
        )
        for number, (session, text) in enumerate((("a", "0.3"), ("a", "0"), ("b", "0.01"))):
            message = wire.InboundMessage(request_id=f"r{number}", session_id=session, text=text, user_id="ada")
            self.daemon.send({"t": "message", "body": base64.b64encode(bytes(message)).decode()})
        for number in range(3):
            self.daemon.wait(lambda f, n=number: f["t"] == "turn" and f["request_id"] == f"r{n}")
        log = self.daemon.log(0)
        order = [line for line in log.splitlines() if line.startswith(("begin", "end"))]
        self.assertLess(order.index("end 0.3"), order.index("begin 0"))
        self.assertLess(order.index("end 0.01"), order.index("end 0.3"))


class Life(Case):
    def test_faults_of_importing_and_booting(self):
        error = self.boot("import cpsl\n\nx = 1 / 0\n", ready=False)["error"]
        self.assertEqual((error["kind"], error["file"], error["line"]), ("import", "app.py", 3))
        self.assertEqual(self.host.process.wait(SECONDS), 1)
        source = HEAD + "@app.boot()\nasync def boot():\n    raise RuntimeError('no database')\n"
        error = self.boot(source, ready=False)["error"]
        self.assertEqual((error["kind"], error["line"]), ("boot", 7))
        self.assertIn("no database", error["message"])
        self.assertEqual(self.host.process.wait(SECONDS), 1)

    def test_boot_may_use_the_app_and_early_starts_wait(self):
        source = HEAD + "@app.boot()\nasync def boot():\n    await app.set('x', 1)\n    print('up')\n"
        source += "@app.task()\nasync def work(): return 1\n"
        self.boot(source)
        self.assertEqual(len(self.daemon.calls("UpdateOne")), 1)
        self.printed(0, "up")
        self.assertEqual(self.run_task("work")["result"], 1)

    def test_quit_lets_what_runs_end(self):
        source = HEAD + "@app.shutdown()\nasync def bye(): print('bye')\n"
        source += "@app.task()\nasync def work(seconds: float):\n    print('in')\n    await asyncio.sleep(seconds)\n"
        self.boot(source)
        short, long = self.start("work", seconds=0.2), self.start("work", seconds=60)
        self.printed(long, "in")
        self.daemon.send({"t": "quit", "grace_ms": 1000})
        self.assertEqual(self.daemon.ended(short)["verdict"], "completed")
        ended = self.daemon.ended(long)
        self.assertEqual((ended["verdict"], ended["quit"]), ("cancelled", True))
        self.assertEqual(self.host.process.wait(SECONDS), 0)
        self.printed(0, "bye")

    def test_sigterm_is_a_quit(self):
        self.boot(HEAD + "@app.shutdown()\ndef bye(): print('bye')\n")
        self.host.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.host.process.wait(SECONDS), 0)
        self.printed(0, "bye")

    def test_threads_of_the_app_do_not_hold_the_exit(self):
        self.boot(HEAD + "threading.Thread(target=time.sleep, args=(60,)).start()\n")
        self.daemon.send({"t": "quit", "grace_ms": 0})
        self.assertEqual(self.host.process.wait(SECONDS), 0)

    def test_a_class_of_an_app(self):
        self.boot(
            """
import cpsl
app = cpsl.App("c")
@app.cls(image=cpsl.Image())
class app:
    @cpsl.boot()
    async def boot(self): self.greeting = "hi"
    @cpsl.task()
    async def work(self, name: str, session: cpsl.Session): return f"{self.greeting} {name}"
    @cpsl.message()
    async def handle(self, session, msg): await self.work.submit(name=msg.text)
    @cpsl.schedule("* * * * *")
    async def often(self): print(self.greeting)
"""
        )
        self.assertEqual(self.run_task("work", name="bob")["result"], "hi bob")
        self.assertEqual(self.run_task("work")["error"]["retry"], False)
        self.assertTrue(self.chat("bob")["ok"])
        self.assertEqual(len(self.daemon.calls("SubmitTask")), 1)
        ended = self.run_task("often", kind="tick")
        self.assertEqual(self.daemon.log(ended["task"]), "hi\n")

    def test_nothing_listens_and_no_grpc_is_spoken(self):
        self.boot(SEED)
        self.run_task("sync_leads", owner_id="x")
        inodes = set()
        for name in os.listdir(f"/proc/{self.host.process.pid}/fd"):
            try:
                target = os.readlink(f"/proc/{self.host.process.pid}/fd/{name}")
            except OSError:
                continue
            inodes.add(target.removeprefix("socket:[").removesuffix("]"))
        for table in ("tcp", "tcp6"):
            for text in pathlib.Path(f"/proc/{self.host.process.pid}/net/{table}").read_text().splitlines()[1:]:
                self.assertNotIn(text.split()[9], inodes)


if __name__ == "__main__":
    unittest.main()

"""The connection: lost, refused, opened again, with nothing forgotten and nothing said twice."""

import json
import unittest

from cpsl.clients import capsule as wire
from daemon import HEAD, SECONDS, SEED, Case

WORK = (
    HEAD
    + """
@app.task()
async def work(seconds: float):
    print("in")
    await asyncio.sleep(seconds)
    print("out")
    return seconds
"""
)


class Lost(Case):
    def again(self, count):
        self.daemon.listen()
        self.daemon.wait_until(lambda: len(self.daemon.hellos) == count)
        return self.daemon.hellos[-1]

    def test_verdicts_are_said_until_they_are_acknowledged(self):
        self.boot(WORK)
        self.daemon.acknowledge = False
        task = self.start("work", seconds=0)
        first = self.daemon.ended(task)
        self.daemon.hang_up()
        attempt = self.again(2)["attempts"][0]
        self.assertEqual((attempt["task"], attempt["attempt"]), (task, 1))
        self.assertEqual(attempt["ended"], first)
        self.daemon.wait_until(lambda: self.daemon.connections)
        self.tell("ack", task)
        self.daemon.acknowledge = True
        self.run_task("work", seconds=0)
        self.daemon.wait_until(lambda: True)
        self.daemon.hang_up()
        self.assertNotIn(task, [a["task"] for a in self.again(3)["attempts"]])

    def test_work_goes_on_and_its_output_and_verdict_follow(self):
        self.boot(WORK)
        running, ending = self.start("work", seconds=60), self.start("work", seconds=0.3)
        self.printed(ending, "in")
        self.printed(running, "in")
        self.daemon.hang_up()
        self.assertIsNone(self.host.process.poll())
        import time

        # Down until the second task has ended by itself.
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            self.assertIsNone(self.host.process.poll())
            time.sleep(0.05)
        hello = self.again(2)
        self.assertEqual({a["task"] for a in hello["attempts"]}, {running, ending})
        self.assertEqual([a["ended"] for a in hello["attempts"]], [None, None])
        self.assertEqual(self.daemon.ended(ending)["result"], 0.3)
        self.assertEqual(self.daemon.log(ending), "in\nout\n")
        self.daemon.wait_until(lambda: self.daemon.connections)
        self.tell("cancel", running, grace_ms=0)
        self.assertEqual(self.daemon.ended(running)["verdict"], "cancelled")

    def test_calls_without_an_answer_are_made_again(self):
        self.boot(SEED, answers={"SubmitTask": False})
        task = self.start("hourly_sync", kind="tick")
        self.daemon.wait(lambda f: f["t"] == "call")
        self.daemon.hang_up()
        self.daemon.answers["SubmitTask"] = wire.SubmitTaskResponse(ok=True, task_id="3")
        self.again(2)
        self.assertEqual(self.daemon.ended(task)["verdict"], "completed")
        first, second = self.daemon.calls("SubmitTask")
        self.assertEqual((first["id"], first["body"]), (second["id"], second["body"]))
        self.assertEqual((first.get("again"), second["again"]), (None, True))
        self.assertEqual(first["key"], second["key"])

    def test_a_large_frame_that_was_cut_is_sent_whole(self):
        self.boot(HEAD + "@app.task()\nasync def work(): return 'x' * 4_000_000\n")
        self.daemon.deaf = True
        task = self.start("work")
        self.daemon.wait(lambda f: f["t"] == "started" and f["task"] == task)
        self.daemon.hang_up()
        self.daemon.deaf = False
        self.again(2)
        self.assertEqual(len(self.daemon.ended(task)["result"]), 4_000_000)

    def test_a_refused_host_ends(self):
        self.boot(WORK)
        self.daemon.refuse = "no such revision"
        self.daemon.hang_up()
        self.daemon.listen()
        self.assertEqual(self.host.process.wait(SECONDS), 1)
        self.assertIn("no such revision", self.host.process.stderr.read())

    def test_frames_nobody_knows_are_passed_over(self):
        self.boot(WORK)
        self.daemon.send({"t": "later", "x": 1})
        self.daemon.connections[-1].sendall(b"no json\n" + json.dumps({"t": "ack"}).encode() + b"\n")
        self.assertEqual(self.run_task("work", seconds=0)["result"], 0)


if __name__ == "__main__":
    unittest.main()

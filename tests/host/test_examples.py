"""The example app and the seed's blocks, as their reader would run them."""

import json
import pathlib
import re
import unittest

from cpsl.clients import capsule as wire
from daemon import ROOT, Case, Forks
from test_introspect import described

APP = (ROOT / "examples" / "leads_app" / "app.py").read_text(encoding="utf-8")
CSV = (ROOT / "examples" / "leads_app" / "leads.csv").read_text(encoding="utf-8")


class Leads(Case):
    def app(self):
        answers = {"UpdateOne": wire.UpdateOneResponse(matched=0)}
        answers["InsertOne"] = wire.InsertOneResponse(id="1")
        answers["SubmitTask"] = wire.SubmitTaskResponse(ok=True, task_id="4")
        answers["Count"] = wire.CountResponse(count=9)
        self.boot({"app.py": APP, "leads.csv": CSV}, answers=answers)

    def test_its_leads_are_the_first_of_the_other_example(self):
        whole = (ROOT / "examples" / "leads" / "leads.csv").read_text(encoding="utf-8")
        self.assertTrue(whole.startswith(CSV))

    def test_its_description(self):
        record = described({"app.py": APP, "leads.csv": CSV})
        tasks = {task["name"]: task for task in record["tasks"]}
        self.assertEqual(list(tasks), ["sync_leads", "rebuild_index"])
        rebuild, helps = tasks["rebuild_index"], [p["help"] for p in tasks["sync_leads"]["params"]]
        self.assertEqual((rebuild["lock"], rebuild["process"]), ("owner:{owner_id}", True))
        self.assertEqual(helps, ["whose leads", "leads at most, 0 for all"])
        self.assertEqual([s["cron"] for s in record["schedules"]], ["0 * * * *"])
        self.assertEqual([p["name"] for p in record["pages"]], ["Tasks"])

    def test_a_sync(self):
        self.app()
        ended = self.run_task("sync_leads", owner_id="acme", limit=150)
        self.assertEqual(ended["result"], {"synced": 150, "owner_id": "acme"}, ended["error"])
        self.assertIn("150 of 150 leads of acme", self.daemon.log(ended["task"]))
        inserts = self.daemon.calls("InsertOne")
        self.assertEqual(len(inserts), 150)
        document = json.loads(inserts[0]["request"].document_json)
        self.assertEqual((document["owner_id"], document["domain"]), ("acme", "example.com"))
        self.assertEqual(self.run_task("sync_leads", owner_id="nobody")["error"]["type"], "LookupError")

    def test_chat_and_schedule(self):
        self.app()
        self.assertTrue(self.chat("sync acme")["ok"])
        self.assertTrue(self.chat("how many?", request_id="q2")["ok"])
        replies = [call["request"].text for call in self.daemon.calls("SubmitResult")]
        self.assertIn("9 leads. Say: sync OWNER, index OWNER", replies)
        self.assertEqual(self.run_task("hourly_sync", kind="tick")["verdict"], "completed")
        self.assertEqual(len(self.daemon.calls("SubmitTask")), 5)

    def test_an_index_in_a_process(self):
        forks = Forks({"app.py": APP, "leads.csv": CSV})
        self.addCleanup(forks.close)
        child = forks.fork("rebuild_index", {"owner_id": "acme"}, env={"CAPSULE_DATA_DIR": forks.started.folder})
        out, err, event = child.wait()
        self.assertEqual((err, event), ("", ""), out)
        result = json.loads(pathlib.Path(child.result).read_text(encoding="utf-8"))
        index = json.loads(pathlib.Path(result["file"]).read_text(encoding="utf-8"))
        self.assertEqual(len(index), result["words"])
        self.assertGreater(len(index["hopper"]), 10)


class Seed(unittest.TestCase):
    def test_the_blocks_are_those_of_the_document(self):
        """Where the document is not at hand, what it must hold is written here."""
        source = (ROOT / "tests" / "host" / "seed_app.py").read_text(encoding="utf-8")
        blocks = ["task", "message", "page", "schedule", "task"]
        self.assertEqual(re.findall(r"^@app\.(\w+)", source, re.M), blocks)
        self.assertIn("    # Talk to an API, update collections, write files, or run a model call.\n", source)


if __name__ == "__main__":
    unittest.main()

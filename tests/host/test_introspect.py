"""What role `introspect` writes about apps, good and bad."""

import json
import pathlib
import textwrap
import unittest

from daemon import SEED, Started

HEAD = "import cpsl\napp = cpsl.App('leads', image=cpsl.Image())\n"


def introspect(source, entry="app.py:app", env=None, flags=()):
    """The description, what was printed and the exit code."""
    if isinstance(source, str):
        source = {"app.py": source}
    source = {name: textwrap.dedent(text) for name, text in source.items()}
    started = Started("introspect", source, entry, env, flags=flags)
    try:
        code, out, err = started.wait()
        record = json.loads(pathlib.Path(started.result).read_text(encoding="utf-8"))
        return record, out + err, code
    finally:
        started.close()


def described(source, entry="app.py:app", **more):
    record, printed, code = introspect(source, entry, **more)
    assert "error" not in record, (record, printed)
    assert code == 0, printed
    return record


def params_of(signature, head=""):
    record = described(f"{head}\n{HEAD}\n@app.task()\nasync def work({signature}): ...\n")
    return {param["name"]: param for param in record["tasks"][0]["params"]}


class Good(unittest.TestCase):
    def test_the_seed(self):
        record = described(SEED)
        self.assertEqual((record["format"], record["kind"], record["app"]), (1, "python", "seed"))
        self.assertEqual((record["module"], record["symbol"], record["style"]), ("app", "app", "functional"))
        sync, rebuild = record["tasks"]
        self.assertEqual((sync["name"], sync["retries"], sync["timeout"]), ("sync_leads", 2, 300))
        self.assertEqual((sync["async"], sync["process"], sync["lock"]), (True, False, None))
        self.assertEqual((rebuild["process"], rebuild["lock"]), (True, "owner:{owner_id}"))
        self.assertEqual(rebuild["params"][0]["name"], "owner_id")
        self.assertEqual(record["schedules"][0]["cron"], "0 * * * *")
        page = record["pages"][0]
        self.assertEqual((page["name"], page["icon"]), ("Tasks", "list-check"))
        self.assertEqual(page["tree"]["children"][0]["type"], "task_board")
        self.assertEqual(record["handlers"]["message"], [""])
        self.assertFalse(record["handlers"]["boot"])
        self.assertFalse(record["threads_at_import"])
        self.assertEqual(record["uses"], ["message", "pages", "schedules", "task_cards", "tasks"])

    def test_types(self):
        params = params_of(
            "a: str, b: int, c: float, d: bool, e: list, f: list[str], g: dict, h: typing.Any, i,"
            "j: pathlib.Path, k: datetime.datetime, l: datetime.timedelta,"
            "m: typing.Optional[int], n: int | None, o: str | int, p: typing.Literal['x', 'y'],"
            "q: Color, r: typing.Annotated[int, 'how many'], s: 'str', t: Path",
            "import datetime, enum, pathlib, typing\nfrom pathlib import Path\n"
            "class Color(enum.Enum):\n    RED = 'red'\n    BLUE = 'blue'\n",
        )
        kinds = "".join(f"{name}={params[name]['type']} " for name in params)
        self.assertEqual(
            kinds,
            "a=str b=int c=float d=bool e=list f=list g=json h=json i=json j=path k=datetime l=duration "
            "m=int n=int o=json p=str q=str r=int s=str t=path ",
        )
        self.assertEqual(params["p"]["choices"], ["x", "y"])
        self.assertEqual(params["q"]["choices"], ["red", "blue"])
        self.assertEqual(params["r"]["help"], "how many")
        self.assertEqual((params["i"]["annotated"], params["h"]["annotated"]), (False, True))

    def test_annotations_as_text(self):
        head = "from __future__ import annotations\nfrom typing import Optional"
        params = params_of("a: int, b: Optional[str] = None", head)
        self.assertEqual((params["a"]["type"], params["b"]["type"]), ("int", "str"))

    def test_defaults(self):
        params = params_of(
            "a: int = 3, b: str = None, *, c: list = ['x'], d: Path = Path('out'), e: timedelta = timedelta(minutes=2)",
            "from pathlib import Path\nfrom datetime import timedelta",
        )
        self.assertEqual([params[n]["default"] for n in "abcde"], [3, None, ["x"], None, None])
        self.assertTrue(all(p["has_default"] and not p["required"] for p in params.values()))
        self.assertEqual((params["d"]["default_text"], params["e"]["default_text"]), ("out", "120s"))

    def test_documentation_and_options(self):
        record = described(
            HEAD
            + """
@app.task(retry_for=[ValueError, KeyError], callback_url="http://x/y", retries=1)
def work(session: cpsl.Session, owner: str, **rest):
    \"\"\"Brings leads.

    Args:
        owner: whose leads,
            all of them
    \"\"\"
"""
        )
        task = record["tasks"][0]
        self.assertEqual(task["doc"], "Brings leads.")
        self.assertEqual(task["params"][0]["help"], "whose leads, all of them")
        self.assertEqual(task["retry_for"], ["builtins.ValueError", "builtins.KeyError"])
        self.assertEqual((task["session_param"], task["var_kwargs"], task["async"]), ("session", True, False))
        self.assertEqual((task["callback_url"], task["file"], task["line"]), ("http://x/y", "app.py", 4))

    def test_a_class(self):
        source = """
        import cpsl
        app = cpsl.App("support")

        @app.cls(image=cpsl.Image(python_packages=["requests"]), secrets=["API_KEY"], memory=1024)
        class Support:
            @cpsl.boot()
            def boot(self): ...

            @cpsl.message()
            async def handle(self, session, msg): ...

            @cpsl.task(lock="o:{owner}")
            async def sync(self, owner: str, session: cpsl.Session = None): ...

            @cpsl.schedule("*/5 * * * *")
            async def often(self): ...

            @cpsl.endpoint("GET", "/x")
            async def x(self): ...
        """
        for entry in ("app.py:Support", "app.py:app", "app:Support"):
            record = described(source, entry)
            self.assertEqual((record["style"], record["symbol"], record["app"]), ("class", "Support", "support"))
            self.assertEqual([p["name"] for p in record["tasks"][0]["params"]], ["owner"])
            self.assertEqual(record["schedules"][0]["name"], "often")
            self.assertEqual(record["handlers"]["message"], [""])
            self.assertTrue(record["handlers"]["boot"])
            self.assertEqual(record["secrets"], ["API_KEY"])
            self.assertEqual((record["image"]["memory"], record["image"]["cpu"]), (1024, None))
            for use in ("endpoints", "image_packages", "resources", "secrets", "boot"):
                self.assertIn(use, record["uses"])

    def test_what_is_used(self):
        record = described(
            HEAD
            + """
venues = app.collection("venues")
app.setting("region", default="eu")
app.add_page("Map", component="pages/map.tsx")

@app.message()
async def handle(session, msg):
    await session.reply("x")
    await session.set("k", 1)
    await session.show_table(venues)
    cpsl.Secret.from_name("A").value

@app.page("All")
def all_page():
    return cpsl.ui.Page([cpsl.ui.Text("x")])

@app.shutdown()
async def bye(): ...
"""
        )
        for use in ("collections", "settings", "react_pages", "sessions", "kv", "widgets", "secrets", "shutdown"):
            self.assertIn(use, record["uses"])

    def test_what_it_prints_disturbs_nothing(self):
        record, printed, code = introspect(HEAD + "import sys\nprint('{')\nprint('x', file=sys.stderr)\n")
        self.assertEqual((record["app"], code), ("leads", 0))
        self.assertIn("{", printed)

    def test_names_of_our_own_modules_are_free(self):
        for name in ("host", "entry", "link", "output"):
            record = described({f"{name}.py": HEAD, "trace.py": ""}, f"{name}.py:app")
            self.assertEqual(record["module"], name)

    def test_threads_at_import(self):
        source = HEAD + "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\n"
        self.assertTrue(described(source)["threads_at_import"])

    def test_dot_env(self):
        env = "# x\nexport A=1\nB='two words' # c\nC=over\nD=x # y\n"
        source = HEAD + "import os\nfor n in 'ABCD': print(n, os.environ[n])\n"
        _, printed, _ = introspect({"app.py": source, ".env": env}, env={"C": "real"})
        self.assertEqual(printed, "A 1\nB two words\nC real\nD x\n")


class Bad(unittest.TestCase):
    def refused(self, source, entry="app.py:app"):
        record, printed, code = introspect(source, entry)
        self.assertEqual(code, 0, printed)
        error = record["error"]
        return error["kind"], error["file"], error["line"], error["message"]

    def test_import_errors(self):
        kind, file, line, message = self.refused("import cpsl\n\nimport pandas_of_nobody\n")
        self.assertEqual((kind, file, line), ("import", "app.py", 3))
        self.assertIn("pandas_of_nobody", message)
        files = {"app.py": "import helper\n", "helper.py": "\n\nint('x')\n"}
        self.assertEqual(self.refused(files)[:3], ("import", "helper.py", 3))
        kind, file, line, message = self.refused("import cpsl\ndef f(:\n    pass\n")
        self.assertEqual((kind, file, line), ("import", "app.py", 2))
        self.assertIn("SyntaxError", message)
        self.assertEqual(self.refused("import sys\nsys.exit(3)\n")[:3], ("import", "app.py", 2))

    def test_the_fault_of_a_decorator_is_at_its_line(self):
        kind, file, line, message = self.refused("import cpsl\napp = cpsl.App('x')\n@app.task()\ndef f(): ...\n")
        self.assertEqual((kind, file, line), ("import", "app.py", 3))
        self.assertIn("image", message)

    def test_no_such_file_or_symbol(self):
        self.assertEqual(self.refused(HEAD, "nope.py:app")[0], "import")
        kind, file, line, message = self.refused(HEAD, "app.py:nope")
        self.assertEqual((kind, file), ("no_symbol", "app.py"))
        self.assertIn("it has app", message)
        self.assertEqual(self.refused(HEAD, "app.py")[0], "other")

    def test_not_an_app(self):
        self.assertEqual(self.refused("app = 3\n")[:2], ("not_an_app", "app.py"))
        self.assertEqual(self.refused("class app: ...\n")[0], "not_an_app")
        self.assertEqual(self.refused("import cpsl\napp = cpsl.App('x')\n")[0], "not_an_app")

    def test_a_file_named_as_a_module_of_python(self):
        kind, file, _, message = self.refused({"json.py": HEAD}, "json.py:app")
        self.assertEqual((kind, file), ("import", "json.py"))
        self.assertIn("rename", message)

    def test_a_lock_that_names_no_parameter(self):
        kind, file, line, message = self.refused(
            HEAD + "@app.task(\n    retries=1,\n    lock='owner:{owner}',\n)\nasync def work(owner_id: str): ...\n"
        )
        self.assertEqual((kind, file, line), ("lock", "app.py", 5))
        self.assertIn("owner_id", message)
        source = HEAD + "@app.task(lock='o:{x}')\nasync def work(x: list): ...\n"
        self.assertEqual(self.refused(source)[:3], ("lock", "app.py", 3))

    def test_a_default_that_is_no_json(self):
        source = HEAD + "@app.task()\nasync def work(x=object()): ...\n"
        self.assertEqual(self.refused(source)[:3], ("default", "app.py", 3))

    def test_names_given_twice(self):
        twice = "@app.task()\nasync def work(): ...\n"
        self.assertEqual(self.refused(HEAD + twice + "\n" + twice)[:3], ("duplicate", "app.py", 6))
        twice = "@app.schedule('0 * * * *')\nasync def work(): ...\n"
        self.assertEqual(self.refused(HEAD + twice + "\n" + twice)[:3], ("duplicate", "app.py", 6))
        source = HEAD + "@app.task()\nasync def tasks(): ...\n"
        self.assertEqual(self.refused(source)[:3], ("duplicate", "app.py", 3))
        method = "    @cpsl.task()\n    async def work(self): ...\n"
        source = "import cpsl\napp = cpsl.App('x')\n@app.cls(image=cpsl.Image())\nclass A:\n" + method * 2
        self.assertEqual(self.refused(source, "app.py:A")[:3], ("duplicate", "app.py", 7))

    def test_no_sdk(self):
        # Without the packages of the interpreter.
        record, _, code = introspect(HEAD, flags=("-S",))
        self.assertEqual((record["error"]["kind"], code), ("no_sdk", 0))


if __name__ == "__main__":
    unittest.main()

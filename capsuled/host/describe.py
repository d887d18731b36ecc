"""Role `introspect`: imports an app once and writes down what it consists of."""

import inspect
import json
import os
import platform
import re
import sys
import threading
import traceback

from capsule_host.entry import Refusal, import_refusal, load, sdk_version
from capsule_host.source import Trees, parameters, uses
from capsule_host.trace import relative

DOC_MAX = 2000
# Attributes of the App that the SDK itself sets when the app boots.
TAKEN = ("collections", "db", "name", "settings", "tasks")
HOOKS = ("boot", "enter", "exit", "shutdown")
DEFAULT_CPU, DEFAULT_MEMORY = 0.25, 512


def introspect():
    """Writes the description, or why there is none, to CAPSULE_RESULT_FILE."""
    text = os.environ.get("CAPSULE_ENTRY", "")
    try:
        watch = Watch()
        record = described(text, watch)
    except Refusal as refusal:
        record = {"error": refusal.record()}
    except BaseException as error:
        record = {"error": import_refusal(error, text.rpartition(":")[0]).record()}
        record["error"]["kind"] = "other"
        traceback.print_exc()
    write(os.environ["CAPSULE_RESULT_FILE"], record)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    # Threads that importing the app began may never end.
    os._exit(0)


def write(path, record):
    with open(path + ".part", "w", encoding="utf-8", errors="replace") as file:
        json.dump(record, file, ensure_ascii=False, allow_nan=False, default=repr)
    os.replace(path + ".part", path)


class Watch:
    """Sees each name of an App that is given twice, which the SDK lets pass."""

    def __init__(self):
        self.twice = []
        try:
            from cpsl import task_types
            from cpsl.app import App
        except ImportError:
            return
        descriptor, watch = task_types.TaskDescriptor, self
        seen, original = {}, descriptor.__init__

        def record(made, fn, *args, **kwargs):
            key = (fn.__module__, fn.__qualname__)
            first = seen.setdefault(key, fn)
            # A class body forgets the first of two methods; a function that makes tasks does not.
            if first is not fn and "." in fn.__qualname__ and "<locals>" not in fn.__qualname__:
                watch.twice.append(("task", fn.__name__, place_of(fn)))
            original(made, fn, *args, **kwargs)

        def assign(app, name, value):
            old = vars(app).get(name)
            handlers = (descriptor, type(record))
            if isinstance(value, descriptor) and name in TAKEN:
                watch.twice.append(("task", name, place_of(value._fn)))
            elif isinstance(old, handlers) and isinstance(value, handlers) and old is not value:
                fn = getattr(value, "_fn", value)
                what = "task" if isinstance(value, descriptor) else "handler"
                watch.twice.append((what, fn.__name__, place_of(fn)))
            object.__setattr__(app, name, value)

        descriptor.__init__ = record
        App.__setattr__ = assign

    def check(self):
        for what, name, place in self.twice:
            if name in TAKEN:
                text = f"a task cannot be called {name}: the SDK uses that name of the App"
            else:
                text = f"two {what}s of the app are called {name}"
            raise Refusal("duplicate", text, *place)


def described(text, watch):
    entry = load(text)
    watch.check()
    if entry.functional:
        entry.target._finalize_config()
    config = getattr(entry.target, "_cpsl_config", None) or {}
    trees, image = Trees(), image_record(config)
    records = {
        "tasks": task_records(entry, trees),
        "schedules": schedule_records(entry, config),
        "pages": [page_record(page) for page in config.get("pages", [])],
        "handlers": handler_records(entry, config),
    }
    return {
        "format": 1,
        "kind": "python",
        "app": config.get("app_name") or entry.symbol,
        "entry": text,
        "module": entry.module,
        "symbol": entry.symbol,
        "style": "functional" if entry.functional else "class",
        "sdk": sdk_version(),
        "python": platform.python_version(),
        **records,
        "secrets": list(config.get("secrets") or []),
        "image": image,
        "uses": uses(config, records, image, entry.symbol, trees),
        "threads_at_import": threads() > 1,
    }


def threads():
    """How many threads this process has, those of libraries too."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def task_records(entry, trees):
    from cpsl.task_types import TaskDescriptor

    records = []
    for name in dir(entry.target):
        task = getattr(entry.target, name, None)
        if isinstance(task, TaskDescriptor):
            records.append(task_record(name, task, entry.functional, trees))
    return sorted(records, key=lambda record: (record["file"], record["line"]))


def task_record(name, task, functional, trees):
    fn = inspect.unwrap(task._fn)
    place = place_of(fn)
    params, others = parameters(task._fn, not functional, task._session_param_name, place)
    lock = task._lock_template or None
    if lock:
        check_lock(name, lock, params, others, (place[0], trees.line_of(fn, "lock") or place[1]))
    return {
        "name": name,
        "doc": doc_of(fn),
        "file": place[0],
        "line": place[1],
        "async": bool(task._is_async),
        "process": bool(task._process),
        "retries": int(task._retries),
        "timeout": int(task._timeout),
        "lock": lock,
        "retry_for": [f"{kind.__module__}.{kind.__qualname__}" for kind in task._retry_for],
        "callback_url": task._callback_url or "",
        "session_param": task._session_param_name,
        "params": params,
        "var_kwargs": others,
    }


def check_lock(name, lock, params, others, place):
    known = {param["name"]: param for param in params}
    for word in re.findall(r"\{(\w+)\}", lock):
        if word not in known and not others:
            has = ", ".join(known) or "none"
            text = f"the lock {lock!r} of {name} names {word}, which is no parameter (it has {has})"
            raise Refusal("lock", text, *place)
        if word in known and known[word]["type"] == "list":
            text = f"the lock {lock!r} of {name} names {word}, which is a list; it needs one value"
            raise Refusal("lock", text, *place)


def schedule_records(entry, config):
    records = []
    for spec in config.get("schedules") or loose_schedules(entry):
        handler = getattr(entry.target, spec["name"], None)
        fn = inspect.unwrap(getattr(handler, "_fn", handler))
        file, line = place_of(fn)
        record = {"name": spec["name"], "cron": spec["cron"], "doc": doc_of(fn)}
        record |= {"file": file, "line": line, "async": inspect.iscoroutinefunction(fn)}
        if any(other["name"] == spec["name"] for other in records):
            raise Refusal("duplicate", f"two schedules are called {spec['name']}", file, line)
        records.append(record)
    return records


def loose_schedules(entry):
    """Those of a class without @app.cls."""
    for name in dir(entry.target):
        cron = getattr(getattr(entry.target, name, None), "_cpsl_schedule", None)
        if isinstance(cron, str):
            yield {"name": name, "cron": cron}


def page_record(page):
    record = {"name": page["name"], "icon": page.get("icon", ""), "order": page.get("order", 0)}
    return record | {"route": page.get("route", ""), "tree": page.get("widget_tree") or {}}


def handler_records(entry, config):
    target = entry.target
    if entry.functional:
        messages = list(target._message_handlers)
        actions, sessions = list(target._action_handlers), list(target._session_handlers)
    else:
        members = [getattr(target, name, None) for name in dir(target)]
        messages = [m._cpsl_message_name for m in members if hasattr(m, "_cpsl_message_name")]
        actions = [m._cpsl_action_name for m in members if hasattr(m, "_cpsl_action_name")]
        sessions = []
        for name in messages:
            if messages.count(name) > 1:
                fn = [m for m in members if getattr(m, "_cpsl_message_name", None) == name][-1]
                text = f"two message handlers for the chat {name or 'default'!r}"
                raise Refusal("duplicate", text, *place_of(fn))
    record = {"message": messages, "action": actions, "session": sessions}
    for hook in HOOKS:
        mark = f"_cpsl_{hook}"
        record[hook] = any(getattr(getattr(target, n, None), mark, False) for n in dir(target))
    return record


def image_record(config):
    image = config.get("image") or {}
    record = {key: list(image.get(key) or []) for key in ("python_packages", "apt_packages", "commands")}
    cpu, memory = config.get("cpu"), config.get("memory")
    record["cpu"] = None if cpu == DEFAULT_CPU else cpu
    record["memory"] = None if memory == DEFAULT_MEMORY else memory
    record["gpu"] = config.get("gpu")
    return record


def place_of(fn):
    code = getattr(inspect.unwrap(fn), "__code__", None)
    return (relative(code.co_filename), code.co_firstlineno) if code else ("", 0)


def doc_of(fn):
    """The docstring without what it says about single arguments."""
    doc = inspect.getdoc(fn) or ""
    return re.split(r"\n\s*(?:Args|Arguments|Parameters):\n|\n:param ", doc)[0].strip()[:DOC_MAX]

"""From CAPSULE_ENTRY to the app's object, or to the reason why there is none."""

import importlib
import importlib.metadata
import importlib.util
import os
import shlex
import sys

from capsule_host.trace import clipped, frames_of, is_user, message_of, relative, user_traceback


class Refusal(Exception):
    """Why an app cannot be used: what kind of fault, where."""

    def __init__(self, kind, message, file="", line=0, trace=""):
        super().__init__(message)
        self.kind, self.file, self.line, self.trace = kind, file, line, trace

    def record(self):
        return {
            "kind": self.kind,
            "message": clipped(str(self)),
            "file": self.file,
            "line": self.line,
            "traceback": self.trace,
        }


class Entry:
    """An imported app: `target` is a functional App or a class."""

    def __init__(self, text, module, symbol, target, functional):
        self.text, self.module, self.symbol = text, module, symbol
        self.target, self.functional = target, functional


def load(text):
    """Imports the app that `FILE.py:SYMBOL` or `MODULE:SYMBOL` names. Raises Refusal."""
    place, colon, symbol = text.rpartition(":")
    if not colon or not place or not symbol:
        raise Refusal("other", f"{text!r} is not FILE.py:SYMBOL")
    sys.argv = [place]
    sys.path.insert(0, os.getcwd())
    load_environment(os.path.join(os.getcwd(), ".env"))
    file, name = module_of(place)
    try:
        if importlib.util.find_spec("cpsl") is None:
            raise Refusal("no_sdk", "the package cpsl is not installed for this interpreter")
        module = importlib.import_module(name)
    except Refusal:
        raise
    except BaseException as error:
        raise import_refusal(error, place) from error
    found = getattr(module, "__file__", None)
    if file and found and os.path.realpath(found) != os.path.realpath(file):
        text = f"{place} has the name of another module, {found}: rename it"
        raise Refusal("import", text, place, 1)
    return Entry(text, name, *chosen(module, symbol, file or found or place))


def module_of(place):
    """The file, if the place is one, and the name under which it is imported."""
    if not place.endswith(".py"):
        return None, place
    file = os.path.abspath(place)
    if not os.path.isfile(file):
        raise Refusal("import", f"{place}: no such file in {os.getcwd()}", place, 0)
    folder, name = os.path.split(file[: -len(".py")])
    if folder != os.getcwd():
        sys.path.insert(0, folder)
    return file, name


def chosen(module, symbol, file):
    """The symbol, what it stands for and whether that is a functional App."""
    shown = relative(file)
    if not hasattr(module, symbol):
        known = ", ".join(sorted(apps_in(module)))
        hint = f"; it has {known}" if known else ""
        raise Refusal("no_symbol", f"{shown} has no {symbol}{hint}", shown, 1)
    target = getattr(module, symbol)
    from cpsl.app import _REGISTERED_CLASSES, App

    if isinstance(target, App):
        if target._functional:
            return symbol, target, True
        # The classes of an App without an image are what runs.
        classes = [c for c in _REGISTERED_CLASSES if c["app_name"] == target.name and c["class_name"]]
        if len(classes) != 1:
            text = f"{symbol} is an App without image= and has {len(classes)} classes"
            raise Refusal("not_an_app", f"{text}: pass image= or name the class", shown, 1)
        symbol = classes[0]["class_name"]
        target = getattr(sys.modules[classes[0]["module"]], symbol)
        return symbol, target, False
    if isinstance(target, type) and (hasattr(target, "_cpsl_config") or has_handlers(target)):
        return symbol, target, False
    text = f"{symbol} is {type(target).__name__}, neither an App nor a class of one"
    raise Refusal("not_an_app", text, shown, 1)


def apps_in(module):
    from cpsl.app import App

    for name, value in vars(module).items():
        if isinstance(value, App) or (isinstance(value, type) and "_cpsl_config" in vars(value)):
            yield name


def has_handlers(target):
    from cpsl.task_types import TaskDescriptor

    members = [getattr(target, name, None) for name in dir(target)]
    return any(isinstance(m, TaskDescriptor) or hasattr(m, "_cpsl_message") for m in members)


def import_refusal(error, place, kind="import"):
    """What stopped the import, at the innermost line of the app."""
    text = f"{type(error).__name__}: {message_of(error)}"
    trace = user_traceback(error)
    if isinstance(error, SyntaxError) and error.filename and is_user(error.filename):
        shown = f"SyntaxError: {error.msg}"
        return Refusal(kind, shown, relative(error.filename), error.lineno or 0, trace)
    if isinstance(error, ImportError) and (error.name or "").split(".")[0] == "cpsl":
        return Refusal("old_sdk", f"the installed cpsl is too old: {text}", place, 0, trace)
    frames = [frame for frame in frames_of(error.__traceback__) if is_user(frame[0])]
    file, line = (relative(frames[-1][0]), frames[-1][1]) if frames else (place, 0)
    return Refusal(kind, text, file, line, trace)


def adopt(wanted):
    """Makes this the environment."""
    for name in [name for name in os.environ if name not in wanted]:
        del os.environ[name]
    os.environ.update({name: value for name, value in wanted.items() if os.environ.get(name) != value})
    load_environment(os.path.join(os.getcwd(), ".env"))


def load_environment(path):
    """Sets what .env gives and the environment lacks."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            continue
        value = value.strip()
        if value[:1] in ("'", '"'):
            try:
                value = "".join(shlex.split(value, comments=True)[:1])
            except ValueError:
                continue
        else:
            value = value.split(" #", 1)[0].rstrip()
        os.environ.setdefault(name, value)


def sdk_version():
    """That of the installed SDK, empty when there is none."""
    try:
        return importlib.metadata.version("cpsl")
    except importlib.metadata.PackageNotFoundError:
        return ""

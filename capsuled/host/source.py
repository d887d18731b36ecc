"""What the source of an app tells: parameters, the lines of arguments, the parts of the SDK it uses."""

import ast
import datetime
import enum
import inspect
import json
import os
import pathlib
import re
import sys
import types
import typing

from capsule_host.entry import Refusal
from capsule_host.trace import is_user, relative

SCALARS = {
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    pathlib.Path: "path",
    pathlib.PurePath: "path",
    pathlib.PosixPath: "path",
    datetime.datetime: "datetime",
    datetime.timedelta: "duration",
    list: "list",
    tuple: "list",
    set: "list",
    frozenset: "list",
}
WORDS = {kind.__name__: kind for kind in SCALARS}
# A default of these is no JSON: the function's own default stands, the text is for people.
TEXTUAL = {"path": str, "datetime": lambda at: at.isoformat(), "duration": lambda span: span_text(span)}
ARGUMENT = re.compile(r"^\s*(?::param\s+)?\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.+)$")
# A board shows tasks; other widgets are drawn as a line.
TASK_WIDGETS = ("page", "task_board")
# What an attribute of a name says about the use of the SDK.
OF_SESSION = {
    "sessions": ("reply", "notify", "stream", "stream_reply", "stream_reply_from", "data", "history"),
    "kv": ("get", "set", "delete"),
    "collections": ("db", "collections"),
    "task_cards": ("show_task",),
    "integrations": ("get_integration", "require_integration", "show_integration", "pipedream"),
    "prompts": ("prompt_approval", "prompt_file", "prompt_integration"),
    "workflows": ("trigger_action",),
}
OF_APP = {
    "kv": ("get", "set", "delete"),
    "settings": ("settings", "setting"),
    "collections": ("collection", "collections", "db"),
    "integrations": ("add_integration",),
    "react_pages": ("add_page", "add_onboarding"),
    "widgets": ("home_body", "chat_page", "onboarding"),
}
OF_SDK = {
    "sessions": ("current_session",),
    "secrets": ("Secret",),
    "filesystems": ("FileSystem", "file"),
    "integrations": ("pipedream", "Pipedream"),
    "channels": ("Slack", "Telegram", "WhatsApp", "API"),
}
DECORATORS = {"endpoint": "endpoints", "asgi": "asgi", "data": "data_sources"}


def parameters(function, bound, session_param, place):
    """What can be given, and whether any other name is taken. Raises Refusal at `place`.

    `bound`: the first parameter is the instance of a class.
    """
    found, others = [], False
    signature = list(inspect.signature(function).parameters.values())
    hints = hints_of(function)
    helps = argument_helps(inspect.getdoc(function) or "")
    for at, param in enumerate(signature):
        if (bound and at == 0) or (session_param and param.name == session_param):
            continue
        if param.kind is param.VAR_KEYWORD:
            others = True
        elif param.kind is param.POSITIONAL_ONLY and param.default is param.empty:
            text = f"the parameter {param.name} can only be given by position"
            raise Refusal("other", text, *place)
        elif param.kind in (param.POSITIONAL_OR_KEYWORD, param.KEYWORD_ONLY):
            found.append(described(param, hints.get(param.name, param.annotation), helps, place))
    return found, others


def described(param, annotation, helps, place):
    kind, choices, said = kind_of(annotation)
    given = param.default is not param.empty
    record = {
        "name": param.name,
        "type": kind,
        "required": not given,
        "default": None,
        "has_default": given,
        "help": said or helps.get(param.name, ""),
        "annotated": annotation is not param.empty,
    }
    if choices:
        record["choices"] = choices
    if given:
        default, text = default_of(param, kind, place)
        record["default"] = default
        if text:
            record["default_text"] = text
    return record


def kind_of(annotation):
    """The type's word, the choices of a Literal or Enum, and the help of an Annotated."""
    if isinstance(annotation, str):
        annotation = WORDS.get(annotation.strip(), typing.Any)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        kind, choices, said = kind_of(typing.get_args(annotation)[0])
        texts = [extra for extra in annotation.__metadata__ if isinstance(extra, str)]
        return kind, choices, said or "".join(texts[:1])
    if origin is typing.Literal:
        return literal(typing.get_args(annotation))
    if origin is typing.Union or origin is types.UnionType:
        some = [part for part in typing.get_args(annotation) if part is not type(None)]
        if len(some) == 1:
            return kind_of(some[0])
        kinds = {kind_of(part)[0] for part in some}
        return (kinds.pop() if len(kinds) == 1 else "json"), [], ""
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return literal([member.value for member in annotation])
    if origin in SCALARS:
        return "list", [], ""
    try:
        return SCALARS.get(annotation, "json"), [], ""
    except TypeError:
        return "json", [], ""


def literal(values):
    values = [value for value in values if value is not None]
    kinds = {type(value) for value in values}
    kind = SCALARS.get(kinds.pop(), "json") if len(kinds) == 1 else "json"
    return kind, list(values) if kind != "json" else [], ""


def default_of(param, kind, place):
    """The default as JSON, or nothing and its text."""
    value = param.default
    try:
        if kind in TEXTUAL and not isinstance(value, (str, type(None))):
            return None, TEXTUAL[kind](value)
        if isinstance(value, enum.Enum):
            json.dumps(value.value, allow_nan=False)
            return None, str(value.value)
        return json.loads(json.dumps(value, allow_nan=False)), ""
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        text = f"the default of {param.name} is no JSON: {type(value).__name__}"
        raise Refusal("default", text, *place) from error


def span_text(span):
    seconds = span.total_seconds()
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{round(seconds * 1000)}ms"


def hints_of(function):
    """The annotations as types; those that cannot be read stay text."""
    try:
        return typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    except Exception:
        return {}


def argument_helps(doc):
    """What a docstring says about each argument: an `Args:` block or `:param name:` lines."""
    helps, inside, name = {}, False, ""
    for line in doc.splitlines():
        if line.strip() in ("Args:", "Arguments:", "Parameters:"):
            inside = True
            continue
        if inside and line.strip() and not line[0].isspace():
            inside = False
        found = ARGUMENT.match(line) if inside or line.lstrip().startswith(":param") else None
        if found:
            name = found.group(1)
            helps[name] = found.group(2).strip()
        elif inside and name and line.strip():
            helps[name] += " " + line.strip()
    return helps


def checked(function, bound, session_param):
    """A test of keyword arguments that says what is wrong with them, cheap when nothing is."""
    signature = inspect.signature(function)
    params = list(signature.parameters.values())[1 if bound else 0 :]
    params = [param for param in params if param.name != session_param or not session_param]
    by_name = [p for p in params if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    known = {param.name for param in by_name}
    needed = {param.name for param in by_name if param.default is param.empty}
    if any(param.kind is param.VAR_KEYWORD for param in params):
        known = None
    bare = signature.replace(parameters=params)

    def wrong(arguments):
        keys = arguments.keys()
        if needed <= keys and (known is None or keys <= known):
            return ""
        try:
            bare.bind(**arguments)
        except TypeError as error:
            return str(error)
        return ""

    return wrong


class Trees:
    """The syntax trees of the app's own modules."""

    def __init__(self):
        self.trees = {}
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and file.endswith(".py") and is_user(file):
                if not os.path.isabs(relative(file)):
                    self._read(file)

    def _read(self, file):
        try:
            with open(file, "rb") as source:
                self.trees[os.path.abspath(file)] = ast.parse(source.read())
        except (OSError, SyntaxError, ValueError):
            pass

    def nodes(self):
        for tree in self.trees.values():
            yield from ast.walk(tree)

    def line_of(self, fn, keyword):
        """The line of an argument of a function's decorators, 0 when it is not found."""
        tree = self.trees.get(os.path.abspath(fn.__code__.co_filename))
        for node in ast.walk(tree) if tree else ():
            decorators = getattr(node, "decorator_list", None)
            if not decorators or decorators[0].lineno != fn.__code__.co_firstlineno:
                continue
            for call in decorators:
                for given in getattr(call, "keywords", ()):
                    if given.arg == keyword:
                        return given.value.lineno
        return 0


def uses(config, records, image, symbol, trees):
    """Which parts of the SDK an app uses, by its registrations and by its source."""
    handlers, pages = records["handlers"], config.get("pages") or []
    signs = {
        "tasks": records["tasks"],
        "schedules": records["schedules"],
        "pages": pages,
        "message": handlers["message"],
        "action": handlers["action"],
        "session_handlers": handlers["session"],
        "widgets": set(widgets(page.get("widget_tree") for page in pages)) - set(TASK_WIDGETS),
        "react_pages": [page for page in pages if page.get("type") == "react"],
        "channels": [c for c in config.get("channels") or [] if c.get("type") not in ("chat", None)],
        "image_packages": image["python_packages"],
        "image_apt": image["apt_packages"],
        "image_commands": image["commands"],
        "resources": image["cpu"] or image["memory"] or image["gpu"],
    }
    declared = ("settings", "collections", "secrets", "filesystems", "data_sources", "workflows", "integrations")
    signs |= {name: config.get(name) for name in declared}
    signs |= {hook: handlers[hook] for hook in ("boot", "enter", "exit", "shutdown")}
    found = {name for name, sign in signs.items() if sign}
    return sorted(found | set(in_source(trees.nodes(), symbol)))


def widgets(nodes):
    """The types of all widgets of some trees."""
    for node in nodes:
        if isinstance(node, dict):
            if "type" in node:
                yield str(node["type"])
            yield from widgets(node.values())
        elif isinstance(node, list):
            yield from widgets(node)


def in_source(nodes, symbol):
    """The parts that only the source shows, by the names that things usually have."""
    for node in nodes:
        for call in getattr(node, "decorator_list", ()):
            name = getattr(getattr(call, "func", None), "attr", "")
            if name in DECORATORS:
                yield DECORATORS[name]
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
            continue
        owner = node.value.id
        tables = {"session": OF_SESSION, "cpsl": OF_SDK, symbol: OF_APP, "app": OF_APP, "self": OF_APP}
        for part, names in tables.get(owner, {}).items():
            if node.attr in names:
                yield part
        if owner == "session" and node.attr.startswith(("show", "hide", "emit", "terminal")):
            if node.attr != "show_task":
                yield "widgets"

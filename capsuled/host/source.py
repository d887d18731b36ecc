"""What the source of an app tells that its objects do not: lines of arguments, parts of the SDK."""

import ast
import os
import sys

from capsule_host.entry import is_user, relative

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

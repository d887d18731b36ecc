"""From exceptions, tasks and threads to what a person wants to read."""

import asyncio
import ctypes
import datetime
import linecache
import os
import sys
import sysconfig
import threading
import traceback

FRAMES_MAX = 8
MESSAGE_MAX = 4096
CODE_MAX = 200
STACKS_MAX = 256 << 10
HERE = os.path.dirname(os.path.abspath(__file__))
# Where no code of the user stands.
OTHERS = tuple({os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib")})
PACKAGES = ("/site-packages/", "/dist-packages/")


class Unrunnable(Exception):
    """A call that no other attempt could make good: no such task, wrong arguments."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind


class Interrupted(BaseException):
    """Raised inside a plain function that runs in a thread and is to stop."""


def error_record(error, retry_for=()):
    """The type, message and user frames of an exception, and whether another attempt may help."""
    if isinstance(error, Unrunnable):
        return {"type": error.kind, "message": message_of(error), "frames": [], "retry": False}
    frames = frames_of(error.__traceback__)
    shown = [frame for frame in frames if is_user(frame[0])] or frames[-1:]
    record = {
        "type": type(error).__qualname__,
        "message": message_of(error),
        "frames": [
            {"file": relative(file), "line": line, "function": function, "code": code_at(file, line)}
            for file, line, function in shown[-FRAMES_MAX:]
        ],
        "retry": not retry_for or isinstance(error, tuple(retry_for)),
    }
    after = seconds_of(getattr(error, "retry_after", None))
    if after is not None:
        record["retry_after"] = f"{after}s"
    return record


def seconds_of(value):
    """What an exception asks to wait, in whole seconds, if it asks."""
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 86400 * 30:
        return None
    return int(-(-value // 1))


def user_traceback(error):
    """The traceback as Python prints it, without our own frames at its top."""
    if isinstance(error, Unrunnable):
        return f"{error.kind}: {error}\n"
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(HERE):
        trace = trace.tb_next
    # A fault before any other code ran, as of a wrong call, has no frame to show.
    lines = traceback.format_exception(type(error), error, trace)
    return "".join(line for line in lines if f'File "{HERE}{os.sep}' not in line)


def frames_of(trace):
    return [
        (frame.f_code.co_filename, line, frame.f_code.co_name)
        for frame, line in traceback.walk_tb(trace)
    ]


def is_user(file):
    """Whether a file is the app's or a library of its own, neither installed nor of Python."""
    if file.startswith("<") or file.startswith(HERE + os.sep):
        return False
    path = os.path.abspath(file)
    return not any(part in path for part in PACKAGES) and not path.startswith(OTHERS)


def relative(file):
    """The path within the app's folder, else as it is."""
    path = os.path.abspath(file)
    root = os.path.join(os.getcwd(), "")
    return path[len(root) :] if path.startswith(root) else path


def code_at(file, line):
    return linecache.getline(file, line).strip()[:CODE_MAX]


def message_of(error):
    try:
        return clipped(str(error))
    except Exception as broken:
        return f"<its text cannot be had: {type(broken).__name__}>"


def clipped(text, limit=MESSAGE_MAX):
    return text if len(text) <= limit else text[:limit] + " ..."


def interrupt(thread):
    """Raises Interrupted in a thread, at its next step in Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Interrupted))


def everything(loop, first=None):
    """The stacks of all threads and of the tasks of a loop, also while the loop is blocked."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        if ident != threading.get_ident():
            parts.append(f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}")
    tasks = list(asyncio.all_tasks(loop)) if loop else []
    tasks.sort(key=lambda task: (task is not first, task.get_name()))
    for task in tasks:
        parts.append(f"{task.get_name()}:\n{of_task(task)}")
    return clipped("".join(parts), STACKS_MAX) + "\n"


def of_task(task):
    """Where an asyncio task waits, from its outermost coroutine to the innermost."""
    lines, waits = [], task.get_coro()
    while waits is not None and len(lines) < 64:
        frame = None
        for kind in ("cr", "gi", "ag"):
            frame = frame or getattr(waits, f"{kind}_frame", None)
        if frame is not None and not frame.f_code.co_filename.startswith(HERE):
            entry = traceback.FrameSummary(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
            lines += traceback.format_list([entry])
        following = None
        for kind in ("cr_await", "gi_yieldfrom", "ag_await"):
            following = following or getattr(waits, kind, None)
        waits = following
    return "".join(lines)

"""The SDK's own runner over our connection instead of gRPC.

Owns: everything that touches names of the SDK that are not public. Must not know: attempts, verdicts.
Invariant: a call of the SDK made on the loop never takes a thread.
"""

import asyncio
import contextvars
import functools
import inspect
import os
import sys
import threading

import grpc
from cpsl.clients.capsule import (
    DataServiceStub,
    GetSecretRequest,
    InboundMessage,
    RunnerServiceStub,
    SecretServiceStub,
    SessionServiceStub,
    TaskServiceStub,
)
from cpsl.constants import DEFAULT_CHANNEL_TYPE
from cpsl.db import set_active_identity
from cpsl.decorators import _BOOT_ATTR
from cpsl.runner.core import Runner
from cpsl.runner.shared import _find_hook, _maybe_await
from cpsl.secret import _set_resolver
from cpsl.session import Session, SessionChannel, UserInfo
from cpsl.session_state import session_data_snapshot
from cpsl.task_types import TaskDescriptor

from capsule_host.source import checked
from capsule_host.trace import Unrunnable, message_of, user_traceback

CODES = {code.value[0]: code for code in grpc.StatusCode}
SESSIONS_KEPT = 1000
ERROR_MARK = "Runner error: "
# The errors of the running chat turn.
FAULTS = contextvars.ContextVar("capsule_faults")


class CallError(grpc.RpcError):
    """What the daemon refused, as the SDK and apps know it from gRPC."""

    def __init__(self, code, message):
        super().__init__(message)
        self._code, self._message = CODES.get(code, grpc.StatusCode.UNKNOWN), message

    def code(self):
        return self._code

    def details(self):
        return self._message

    def __str__(self):
        return f"{self._code.name}: {self._message}"


class Channel:
    """Stands for a gRPC channel below the SDK's own stubs."""

    def __init__(self, link, context):
        self.link, self.context = link, context
        # The threads whose next call is answered by a future.
        self.awaited = set()

    def unary_unary(self, route, serialize, parse):
        method = route.removeprefix("/capsule.")

        def invoke(request):
            if threading.get_ident() in self.awaited:
                loop = asyncio.get_running_loop()
                call = self.link.call(method, serialize(request), self.context(), loop)
                return loop.create_task(answered(call, parse))
            return parsed(self.link.call(method, serialize(request), self.context()), parse)

        return invoke

    def unary_stream(self, route, serialize, parse):
        raise CallError(12, f"{route} is the daemon's business")

    stream_unary = stream_stream = unary_stream


async def answered(call, parse):
    await call.future
    return parsed(call, parse)


def parsed(call, parse):
    if call.code:
        raise CallError(call.code, call.message)
    return parse(call.body)


class AppRunner(Runner):
    """The SDK's runner without its server, its gRPC and its loops of claims and heartbeats."""

    def __init__(self, entry, loop, channel):
        super().__init__(entry.module, entry.symbol)
        self._loop, self._channel = loop, channel
        self._runner_stub, self._session_stub = RunnerServiceStub(channel), SessionServiceStub(channel)
        self._task_stub, self._data_stub = TaskServiceStub(channel), DataServiceStub(channel)
        self._faults = {}
        self.identify()
        _set_resolver(self._fetch_secret)

    def identify(self):
        """Takes from the environment who this is."""
        environment = os.environ.get
        self._app_id = environment("CAPSULE_APP_ID", "")
        self._user_id = environment("CAPSULE_USER_ID", "")
        self._version_id = environment("CAPSULE_VERSION_ID", "")
        kind = environment("CAPSULE_ENV_TYPE", "") or environment("CAPSULE_VERSION_TYPE", "")
        self._version_type = self._runner_version_type = self._canonical_env_type(kind)
        self._data_app_id = f"{self._app_id}_dev" if self._version_type == "serve" else self._app_id

    def boots_alone(self):
        """Booting runs nothing of the app."""
        return self._app_obj is not None and _find_hook(self._app_obj, _BOOT_ATTR) is None

    async def boot(self):
        await super().boot()
        for name, handler in self._tasks.items():
            # A function that is both runs as a schedule too.
            if name not in self._schedules and isinstance(getattr(handler._fn, "_cpsl_schedule", None), str):
                self._schedules[name] = handler
        for handlers in (self._message_handlers, self._action_handlers, self._session_handlers):
            for name in handlers:
                handlers[name] = self._told(handlers[name])
        self._hooks["_cpsl_message"] = self._message_handlers.get("")

    def _told(self, handler):
        """The SDK keeps at most the text of a handler's error; here it is printed with its frames."""

        @functools.wraps(handler)
        async def run(*args):
            try:
                return await _maybe_await(handler(*args))
            except Exception as error:
                told(error)
                raise

        return run

    async def _try_workflow_dispatch(self, *args):
        try:
            return await super()._try_workflow_dispatch(*args)
        except Exception as error:
            told(error)
            raise

    def _fetch_secret(self, name):
        answer = SecretServiceStub(self._channel).get_secret(GetSecretRequest(name=name))
        if not answer.ok:
            raise ValueError(f"the secret {name!r} is not set: {answer.err_msg}")
        return answer.value

    def _submit(self, request_id, text, done=False, session_id="", block_json=""):
        if done and text.startswith(ERROR_MARK):
            self._faults[request_id] = text.removeprefix(ERROR_MARK)
        super()._submit(request_id, text, done, session_id, block_json)

    async def turn(self, message):
        """Runs the handler of one chat message; the text of its error, if it failed."""
        FAULTS.set(faults := [])
        try:
            await self._handle(message)
        except Exception as error:
            told(error)
        self._forget_sessions()
        # What no handler raised the SDK tells to the user alone.
        unseen = self._faults.pop(message.request_id, None)
        return faults[0] if faults else unseen

    def _forget_sessions(self):
        """The SDK keeps each session for ever; the oldest idle ones are read again when they come."""
        for session_id in list(self._sessions)[:-SESSIONS_KEPT]:
            lock = self._session_locks.get(session_id)
            if lock is None or not lock.locked():
                self._sessions.pop(session_id)
                self._session_locks.pop(session_id, None)

    async def bound_session(self, session_id):
        """A session of its own for a task: a chat turn at the same time keeps its callbacks."""
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._sessions = {}
        session = await view._get_task_session(session_id)
        keeper = SessionData(view, session)
        session._data_change_callback = keeper.changed
        session._data_flush_callback = keeper.save
        return session, keeper


def inbound(body):
    """The chat message in the bytes of a frame."""
    return InboundMessage().parse(body)


def told(error):
    """Prints an error of a handler and keeps its text for the end of the turn."""
    sys.stderr.write(user_traceback(error))
    FAULTS.get([]).append(f"{type(error).__name__}: {message_of(error)}")


class UnboundSession(Session):
    """The identity of a task without a chat, as the SDK makes it, but without a round trip.

    Few tasks look at it, so it is made at the first look.
    """

    __slots__ = ("_origin",)

    def __init__(self, runner, user_id):
        object.__setattr__(self, "_origin", (runner, user_id))

    def __getattr__(self, name):
        # Only of what is not there yet.
        if self._origin is None or name not in Session.__slots__:
            raise AttributeError(name)
        self._make()
        return getattr(self, name)

    def __setattr__(self, name, value):
        if self._origin is not None:
            self._make()
        object.__setattr__(self, name, value)

    def _make(self):
        runner, user_id = self._origin
        object.__setattr__(self, "_origin", None)
        owner = user_id or runner._user_id
        user = UserInfo(id=owner, email=None, org_id=UserInfo.org_id_from_owner_id(owner))
        channel = SessionChannel(type=DEFAULT_CHANNEL_TYPE)
        super().__init__(id="", user=user, channel=channel, history=[], data={})
        runner._bind_session_db(self)
        self._runner, self._app_id = runner, runner._app_id
        self._runner_stub, self._session_stub = runner._runner_stub, runner._session_stub


class SessionData:
    """Saves what a task changes in session.data, against what it found there."""

    def __init__(self, runner, session):
        self.runner, self.session = runner, session
        self.base, self.dirty = session_data_snapshot(session.data), False

    def changed(self):
        self.dirty = True

    async def save(self):
        if self.dirty:
            commit = await self.runner._persist(self.session, base_data=self.base)
            self.base, self.dirty = commit.data, False

    async def close(self):
        """Saves at the end of a task; a failure is printed, the task has ended as it has."""
        try:
            await self.save()
        except Exception as error:
            print(f"capsule: session.data is not saved: {message_of(error)}", file=sys.stderr)


class Work:
    """What runs for a name: a task, or the handler of a schedule."""

    __slots__ = ("call", "is_async", "retry_for", "session_param", "wrong")

    def __init__(self, call, is_async, retry_for=(), session_param="", wrong=None):
        self.call, self.is_async = call, is_async
        self.retry_for, self.session_param = tuple(retry_for), session_param
        self.wrong = wrong


def find_work(runner, kind, name):
    """The task or schedule of that name. Raises Unrunnable."""
    if kind == "tick":
        handler = runner._schedules.get(name)
        if handler is not None:
            is_async = inspect.iscoroutinefunction(handler) or isinstance(handler, TaskDescriptor)
            return Work(handler, is_async)
        raise Unrunnable("LookupError", f"the app has no schedule {name}")
    task = runner._tasks.get(name)
    if task is None:
        raise Unrunnable("LookupError", f"the app has no task {name}")
    call = task._fn if task._functional else functools.partial(task._fn, task._instance)
    wrong = checked(task._fn, not task._functional, task._session_param_name)
    return Work(call, task._is_async, task._retry_for, task._session_param_name, wrong)


def unbound(runner, work, arguments, user_id):
    """The arguments of a call without a chat; its identity becomes the current one."""
    return joined(work, arguments or {}, UnboundSession(runner, user_id))


async def equipped(runner, work, arguments, session_id, user_id):
    """The arguments with the session, which becomes the current one, and what saves its data."""
    if not session_id:
        return unbound(runner, work, arguments, user_id), None
    session, data = await runner.bound_session(session_id)
    return joined(work, arguments or {}, session), data


def joined(work, arguments, session):
    if work.wrong and (wrong := work.wrong(arguments)):
        raise Unrunnable("TypeError", wrong)
    set_active_identity(session)
    if work.session_param and work.session_param not in arguments:
        return {**arguments, work.session_param: session}
    return arguments

"""The Python side of Capsule, started as `python -u THIS_FOLDER ROLE` in the app's folder.

Owns: what runs code of an app. Must not know: the queue, the store, retries.
Invariant: nothing but the standard library and the app's own SDK is imported here, and no module
of ours stands where a module of the app would be looked for.
"""

import os
import sys
import types

ROLES = ("introspect", "host", "attempt", "forks")


def adopt() -> None:
    """Makes this folder a package of its own name, out of the way of the app's modules."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != here]
    package = types.ModuleType("capsule_host")
    package.__path__ = [here]
    sys.modules["capsule_host"] = package


def main() -> int:
    role = sys.argv[1] if len(sys.argv) == 2 else ""
    if role not in ROLES:
        print(f"usage: python -u {sys.argv[0]} {'|'.join(ROLES)}", file=sys.stderr)
        return 2
    if sys.version_info < (3, 10):
        print(f"apps need Python 3.10 or later, this is {sys.version.split()[0]}", file=sys.stderr)
        return 2
    adopt()
    if role == "introspect":
        from capsule_host.describe import introspect as run
    elif role == "host":
        from capsule_host.host import serve as run
    elif role == "attempt":
        from capsule_host.attempt import main as run
    else:
        from capsule_host.attempt import serve as run
    return run()


if __name__ == "__main__":
    sys.exit(main())

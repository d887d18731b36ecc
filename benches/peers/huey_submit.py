"""huey: `huey_submit.py FILE PAYLOAD`. SQLite has one writer, for which the threads wait in turn."""

import sqlite3
import sys

import huey
import rounds

where, payload = sys.argv[1:3]
queue = huey.SqliteHuey(filename=where, fsync=True)


@queue.task()
def noop(_):
    pass


version = f"{huey.__version__}, SQLite {sqlite3.sqlite_version}"
rounds.serve(version, rounds.from_threads(rounds.IN_FLIGHT, lambda: noop(payload)))

#!/usr/bin/env python3
"""Brings the leads of one owner from leads.csv into a SQLite file of that owner.

Runs by hand (sync_leads.py --owner-id acme) and as a task of Capsule, which gives it its arguments
as a JSON file, takes progress on a descriptor and the result from a file. See docs/programs.md.
"""

import argparse
import csv
import datetime
import json
import os
import pathlib
import re
import sqlite3
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
# Broken lines that are named one by one.
SHOWN = 5
TABLE = """create table if not exists leads (
    email text primary key, name text, company text, stage text, updated text)"""


def arguments():
    """What Capsule put into the payload file, else the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--owner-id", required=True)
    parser.add_argument("--csv", default=str(HERE / "leads.csv"))
    parser.add_argument("--db-dir", default=str(HERE / "out"))
    parser.add_argument("--limit", type=int, default=0, help="leads at most, 0 for all")
    parser.add_argument("--rate", type=float, default=0, help="leads a second, 0 for no limit")
    payload = os.environ.get("CAPSULE_PAYLOAD_FILE")
    if not payload:
        return parser.parse_args()
    given = json.loads(pathlib.Path(payload).read_text(encoding="utf-8"))
    words = []
    for name, value in given.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return parser.parse_args(words)


def tell(**event):
    """One line of progress, if anybody wants it."""
    descriptor = os.environ.get("CAPSULE_EVENT_FD")
    if descriptor:
        os.write(int(descriptor), (json.dumps(event) + "\n").encode())


def check(fields):
    """The lead in a line of the file, or the reason why there is none."""
    if len(fields) != 6:
        raise ValueError(f"{len(fields)} fields instead of 6")
    email, name, company, owner, stage, updated = (field.strip() for field in fields)
    if not ADDRESS.fullmatch(email):
        raise ValueError(f"{email!r} is no e-mail address")
    if not owner:
        raise ValueError("nobody owns it")
    datetime.date.fromisoformat(updated)
    return owner, (email.lower(), name, company, stage, updated)


def read(path, owner_id):
    """The owner's leads in the order of the file, and how many lines were broken."""
    leads, broken = [], 0
    with open(path, newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        next(rows)
        for fields in rows:
            try:
                owner, lead = check(fields)
            except ValueError as error:
                broken += 1
                if broken <= SHOWN:
                    print(f"line {rows.line_num}: {error}, left out", file=sys.stderr)
                continue
            if owner == owner_id:
                leads.append(lead)
    if broken > SHOWN:
        print(f"{broken - SHOWN} more lines left out", file=sys.stderr)
    return leads, broken


def upsert(database, lead):
    """Writes a lead unless the database has it as new or newer."""
    found = database.execute("select * from leads where email = ?", lead[:1]).fetchone()
    if found is None:
        database.execute("insert into leads values (?, ?, ?, ?, ?)", lead)
        return "inserted"
    if found[4] >= lead[4]:
        return "unchanged"
    database.execute("replace into leads values (?, ?, ?, ?, ?)", lead)
    return "updated"


def main():
    given = arguments()
    began = time.monotonic()
    leads, broken = read(given.csv, given.owner_id)
    if not leads:
        sys.exit(f"{given.owner_id!r} owns no lead in {given.csv}")
    leads = leads[: given.limit or None]
    path = pathlib.Path(given.db_dir) / f"{given.owner_id}.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    counts = {"inserted": 0, "updated": 0, "unchanged": 0}
    database = sqlite3.connect(path)
    with database:
        database.execute(TABLE)
        for done, lead in enumerate(leads, 1):
            counts[upsert(database, lead)] += 1
            if done % 50 == 0 or done == len(leads):
                tell(progress={"done": done, "total": len(leads), "text": given.owner_id})
            if given.rate:
                time.sleep(max(0.0, began + done / given.rate - time.monotonic()))
    stored = database.execute("select count(*) from leads").fetchone()[0]
    database.close()
    print(f"{stored} leads of {given.owner_id} in {path.name}, {broken} broken lines in the file")
    result = {"owner_id": given.owner_id, "read": len(leads), **counts, "broken": broken}
    result |= {"stored": stored, "database": str(path)}
    target = os.environ.get("CAPSULE_RESULT_FILE")
    if target:
        pathlib.Path(target).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()

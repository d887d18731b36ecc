"""Keeps the leads of several owners: bring them in from chat, every hour, and search them.

    capsule deploy examples/leads_app/app.py:app
    capsule chat crm
    capsule board --page Tasks
"""

import asyncio
import collections
import csv
import json
import os
import pathlib
import re

import cpsl

HERE = pathlib.Path(__file__).resolve().parent
STAGES = {"new": 10, "called": 25, "offer": 60, "won": 100, "lost": 0}
WORD = re.compile(r"[a-z]{3,}")

app = cpsl.App("crm", image=cpsl.Image())
leads = app.collection("leads", columns=["email", "name", "company", "stage", cpsl.Column("score", type="score")])


def read(owner_id):
    """The newest line of each lead of an owner, by address; broken lines are left out."""
    found = {}
    with open(HERE / "leads.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            known = found.get(row["email"])
            if row["owner_id"] != owner_id or "@" not in row["email"] or row["stage"] not in STAGES:
                continue
            if known is None or known["updated"] <= (row["updated"] or ""):
                found[row["email"]] = row
    return found


def enriched(row):
    """A lead with what its line only implies."""
    score = STAGES[row["stage"]] + (15 if row["updated"] >= "2026-10" else 0)
    domain = row["email"].partition("@")[2]
    return {**row, "domain": domain, "score": min(score, 100)}


@app.task(retries=2, timeout=300)
async def sync_leads(owner_id: str, limit: int = 0):
    """Brings the leads of one owner into the collection.

    Args:
        owner_id: whose leads
        limit: leads at most, 0 for all
    """
    rows = await asyncio.to_thread(read, owner_id)
    chosen = list(rows.values())[: limit or None]
    if not chosen:
        raise LookupError(f"{owner_id} owns no leads")
    for done, row in enumerate(chosen, 1):
        changed = await leads.update_one({"email": row["email"]}, enriched(row))
        if not changed["matched"]:
            await leads.insert_one(enriched(row))
        if done % 100 == 0 or done == len(chosen):
            print(f"{done} of {len(chosen)} leads of {owner_id}")
    return {"synced": len(chosen), "owner_id": owner_id}


@app.task(retries=3, timeout=600, lock="owner:{owner_id}", process=True)
async def rebuild_index(owner_id: str):
    """Writes which words stand in which leads of an owner."""
    index = collections.defaultdict(set)
    for email, row in read(owner_id).items():
        for word in WORD.findall(f"{row['name']} {row['company']} {row['stage']}".lower()):
            index[word].add(email)
    place = pathlib.Path(os.environ.get("CAPSULE_DATA_DIR", HERE)) / f"index-{owner_id}.json"
    place.write_text(json.dumps({word: sorted(emails) for word, emails in index.items()}), encoding="utf-8")
    print(f"{len(index)} words in {place.name}")
    return {"owner_id": owner_id, "words": len(index), "file": str(place)}


@app.message()
async def handle(session: cpsl.Session, msg: cpsl.Message):
    """`sync acme`, `index acme`, `how many`."""
    words = msg.text.split()
    if words[:1] == ["sync"]:
        handle = await sync_leads.submit(owner_id=words[1] if words[1:] else session.user.owner_id)
        await session.show_task(handle, message="Lead sync started")
    elif words[:1] == ["index"]:
        handle = await rebuild_index.submit(owner_id=words[1] if words[1:] else session.user.owner_id)
        await session.show_task(handle, message="Index is being built")
    else:
        await session.reply(f"{await leads.count()} leads. Say: sync OWNER, index OWNER")


@app.page("Tasks", icon="list-check")
def tasks_page():
    return cpsl.ui.Page([cpsl.ui.TaskBoard(title="Background work")])


@app.schedule("0 * * * *")
async def hourly_sync():
    for owner_id in ("acme", "globex", "initech", "umbrella"):
        await sync_leads.submit(owner_id=owner_id)

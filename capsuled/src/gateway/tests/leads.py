"""An app of the SDK for the tests of the gateway: a chat that submits, keeps and shows."""

import cpsl

app = cpsl.App("leads", image=cpsl.Image())
things = app.collection("things")


@app.task(retries=2, timeout=300)
async def sync_leads(owner_id: str):
    if owner_id == "nobody":
        raise ValueError("no such owner")
    await things.insert_one({"owner_id": owner_id})
    return {"synced": 10}


@app.task(lock="owner:{owner_id}")
async def rebuild_index(owner_id: str):
    pass


@app.message()
async def handle(session: cpsl.Session, msg: cpsl.Message):
    session.data["asked"] = session.data.get("asked", 0) + 1
    await session.set("last", msg.text)
    handle = await sync_leads.submit(session=session, owner_id=session.user.owner_id)
    await session.show_task(handle, message="Lead sync started")
    found = await sync_leads.find(owner_id=session.user.owner_id)
    count = await sync_leads.count(status="pending")
    await session.reply(f"{len(found)} found, last {await session.get('last')}, {count >= 0}")

import asyncio
import os
import time

import cpsl

app = cpsl.App("bench", image=cpsl.Image())


@app.task()
async def noop():
    pass


@app.task()
async def nap():
    await asyncio.sleep(600)


@app.task(process=True)
async def isolated():
    pass


@app.task(process=True)
async def first(file: str):
    now = time.time()
    with open(file, "w", encoding="utf-8") as out:
        out.write(repr(now))


@app.task(process=True)
async def spin():
    while True:
        pass


@app.task(process=True)
async def abort():
    os.abort()


@app.message()
async def hello(session: cpsl.Session, msg: cpsl.Message):
    await session.reply("hello " + msg.text)

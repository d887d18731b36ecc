"""procrastinate: `procrastinate_submit.py FOLDER PAYLOAD`, the folder with the socket of PostgreSQL.
A coroutine for each submit in flight; they share some connections."""

import asyncio
import sys
import time

import procrastinate
import rounds

# With 64 the server was no faster, rather slower.
CONNECTIONS = 16

where, payload = sys.argv[1:3]
app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(
        conninfo=f"host={where} user=bench dbname=postgres",
        min_size=CONNECTIONS,
        max_size=CONNECTIONS,
    )
)


@app.task(queue="still")
async def noop(work):
    pass


async def submits(end):
    done = 0
    while time.monotonic() < end:
        await noop.defer_async(work=payload)
        done += 1
    return done


async def flood(seconds):
    end = time.monotonic() + seconds
    return sum(await asyncio.gather(*(submits(end) for _ in range(rounds.IN_FLIGHT))))


async def prepare():
    await app.open_async()
    await app.schema_manager.apply_schema_async()


loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
loop.run_until_complete(prepare())
rounds.serve(procrastinate.__version__, lambda seconds: loop.run_until_complete(flood(seconds)))

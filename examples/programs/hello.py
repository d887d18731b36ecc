"""Greets people: the parameters come as JSON in a file."""

import json
import os

with open(os.environ["CAPSULE_PAYLOAD_FILE"], encoding="utf-8") as file:
    payload = json.load(file)

names = payload["names"]
with os.fdopen(int(os.environ["CAPSULE_EVENT_FD"]), "w", buffering=1) as events:
    for done, name in enumerate(names, start=1):
        print(f"{payload['greeting']}, {name}", flush=True)
        print(json.dumps({"done": done, "total": len(names), "text": "people"}), file=events)

with open(os.environ["CAPSULE_RESULT_FILE"], "w", encoding="utf-8") as file:
    json.dump({"greeted": len(names), "attempt": int(os.environ["CAPSULE_ATTEMPT"])}, file)

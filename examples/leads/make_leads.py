#!/usr/bin/env python3
"""Writes leads.csv: the leads of four owners, with duplicates and broken lines. Always the same."""

import pathlib
import random

OWNERS = ["acme", "globex", "initech", "umbrella"]
FIRST = ["Ada", "Alan", "Barbara", "Dennis", "Edsger", "Frances", "Grace", "Jean", "Ken", "Margaret"]
LAST = ["Allen", "Bartik", "Dijkstra", "Hamilton", "Hopper", "Liskov", "Lovelace", "Ritchie", "Thompson"]
FIRMS = ["Brown & Sons", "Delta, Inc.", "Hill Works", "North Sea Foods", "Old Mill", "Quarry Lane"]
STAGES = ["new", "called", "offer", "won", "lost"]
ROWS = 4000


def lead(chance, number):
    first, last = chance.choice(FIRST), chance.choice(LAST)
    firm = chance.choice(FIRMS)
    firm = f'"{firm}"' if "," in firm else firm
    email = f"{first}.{last}.{number}@example.com".lower()
    day = f"2026-{chance.randrange(1, 11):02}-{chance.randrange(1, 29):02}"
    return [email, f"{first} {last}", firm, chance.choice(OWNERS), chance.choice(STAGES), day]


def broken(chance, fields):
    kind = chance.randrange(4)
    if kind == 0:
        return fields[:3]
    if kind == 1:
        return ["no address", *fields[1:]]
    if kind == 2:
        return [*fields[:3], "", *fields[4:]]
    return [*fields[:5], "31st of May"]


def main():
    chance = random.Random(1842)
    lines = ["email,name,company,owner_id,stage,updated"]
    known = []
    for number in range(ROWS):
        dice = chance.random()
        if known and dice < 0.06:
            # The same lead again: some as it was, some with another stage and a later day.
            fields = list(chance.choice(known))
            if dice < 0.04:
                fields[4] = chance.choice(STAGES)
                fields[5] = f"2026-11-{chance.randrange(1, 21):02}"
        else:
            fields = lead(chance, number)
            known.append(fields)
        if dice > 0.98:
            known.remove(fields)
            fields = broken(chance, fields)
        lines.append(",".join(fields))
    target = pathlib.Path(__file__).with_name("leads.csv")
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

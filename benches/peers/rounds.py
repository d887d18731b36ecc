"""What all drivers of peers in Python share. A driver says "ready VERSION", then for each line with a number
of seconds measures that long and answers `DONE SECONDS CPU`: submits, how long they took in all, and
the CPU time that this process used meanwhile."""

import sys
import threading
import time

# As many submits wait for their answer at any time.
IN_FLIGHT = 64


def serve(version, measure):
    """Answers rounds until nobody asks; `measure(seconds)` gives how many were submitted."""
    print("ready", version, flush=True)
    for line in sys.stdin:
        cpu, began = time.process_time(), time.monotonic()
        done = measure(float(line))
        took = time.monotonic() - began
        print(done, took, time.process_time() - cpu, flush=True)


def from_threads(count, submit):
    """A measure of a call that blocks, made by so many threads."""

    def measure(seconds):
        end, done, errors = time.monotonic() + seconds, [], []

        def work():
            mine = 0
            try:
                while time.monotonic() < end:
                    submit()
                    mine += 1
            except Exception as error:
                errors.append(error)
            done.append(mine)

        threads = [threading.Thread(target=work) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return sum(done)

    return measure

"""RQ: `rq_submit.py SOCKET PAYLOAD`. Each thread has a connection of its own from the pool."""

import sys

import redis
import rounds
import rq

where, payload = sys.argv[1:3]
queue = rq.Queue("still", connection=redis.Redis(unix_socket_path=where))
measure = rounds.from_threads(rounds.IN_FLIGHT, lambda: queue.enqueue("work.noop", payload))
rounds.serve(rq.__version__, measure)

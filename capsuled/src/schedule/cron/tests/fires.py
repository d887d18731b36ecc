"""Says for each line of stdin, EXPRESSION<tab>SECONDS, the next fires in UTC by croniter."""
import datetime
import sys

from croniter import croniter

for line in sys.stdin:
    text, start, count = line.rstrip("\n").split("\t")
    start = datetime.datetime.fromtimestamp(int(start), datetime.timezone.utc)
    try:
        fires = croniter(text, start)
        found = [int(fires.get_next(float)) for _ in range(int(count))]
    except Exception as error:
        found = [type(error).__name__]
    print(*found)

"""A process that answers until it is killed, and prints the id and key of each answer once the call has returned.

Arguments: the store, a prefix of the keys, threads, answers a thread.
"""

import os
import sys
from threading import Thread

from audiorep.label.answer import Answer
from audiorep.label.clips import get_clips
from audiorep.label.journal import add_answer
from audiorep.label.store import open_store

address, prefix, threads, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
store = open_store(address)
clips = list(get_clips(store))


def write(thread: int) -> None:
    for i in range(count):
        key = f"{prefix}-{thread}-{i}"
        answer = add_answer(store, Answer(key, clips[i % len(clips)], f"ann{thread}", labels={"owl": i % 2 == 0}))
        os.write(1, f"{answer.id} {key}\n".encode())  # one call a line: threads do not mix within it


for thread in [Thread(target=write, args=(i,)) for i in range(threads)]:
    thread.start()

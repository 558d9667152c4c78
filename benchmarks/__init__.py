"""Speed and memory beside named peers: `make bench`, or `python -m benchmarks`; see README.md."""

import os

os.environ.setdefault("TQDM_DISABLE", "1")  # progress bars of peers; tqdm reads it when it is imported

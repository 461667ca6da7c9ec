"""One numeric thread a test process: the suite runs several processes at a time, and results repeat."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

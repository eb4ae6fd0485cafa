"""Benches: every claim of speed as a ratio to a peer measured in the same run."""

import os

# figures are per core: a BLAS that spreads one product over all of them would be counted wrongly
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

"""One thread for BLAS and torch, figures without a display, Ctrl-C as on a terminal."""

import os
import signal

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["MPLBACKEND"] = "Agg"
# a shell starts what runs in the background with SIGINT ignored, and children would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)

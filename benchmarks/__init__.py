"""Measurements of speed and quality; ``python -m benchmarks.run --data DIR`` runs them all."""

import os

# As `doorman serve` does (proxy/commands/output.py), and before numpy is imported: threads that the
# linear algebra library keeps awake would be measured instead of the product.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

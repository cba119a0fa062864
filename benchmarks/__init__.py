"""Measurements of speed and quality; ``python -m benchmarks.run --data DIR`` runs them all."""

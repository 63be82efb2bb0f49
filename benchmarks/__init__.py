"""Speed, memory and disk of this library and of others, measured on the same work: ``python -m benchmarks``."""

"""Benches: every claim of speed as a ratio to a peer measured in the same run."""

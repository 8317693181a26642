"""Hostile and damaged files, and what builds them.

Tests say that each is refused, and `scripts/fuzz_readers.py` begins with them. Attacks stand in
tables by title; where an entry is a pair, the second is a pattern that the error must match.
"""

MIB = 1 << 20
TERA = 10**12

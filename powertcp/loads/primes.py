"""A small real workload: `python -m powertcp.loads.primes` counts primes for as long as it runs.

It uses one core entirely and prints a line each second of processor time, so that throttling
shows as lines that come more slowly, and a pause as none at all.
"""

import sys
import time
from collections.abc import Iterator

STEP = 1 << 16


def small_primes(below: int) -> list[int]:
    """Return the primes below a bound, by the sieve of Eratosthenes."""
    is_prime = bytearray([1]) * below
    is_prime[:2] = b"\0" * min(2, below)
    for number in range(2, int(below**0.5) + 1):
        if is_prime[number]:
            is_prime[number * number :: number] = bytes(len(range(number * number, below, number)))
    return [number for number in range(below) if is_prime[number]]


def count_primes(step: int = STEP) -> Iterator[tuple[int, int]]:
    """Yield (bound, primes below it) for ever, the bound growing by `step`."""
    found = 0
    low = 0
    while True:
        high = low + step
        is_prime = bytearray([1]) * step
        if low == 0:
            is_prime[:2] = b"\0\0"
        for prime in small_primes(int(high**0.5) + 1):
            first = max(prime * prime, -(-low // prime) * prime)
            is_prime[first - low :: prime] = bytes(len(range(first - low, step, prime)))
        found += sum(is_prime)
        low = high
        yield high, found


def main() -> int:
    """Print a line per second of processor time until something ends it."""
    said = time.process_time()
    try:
        for bound, found in count_primes():
            if time.process_time() - said >= 1.0:
                said += 1.0
                sys.stdout.write(f"{found:,} primes below {bound:,}\n")
                sys.stdout.flush()
    except (KeyboardInterrupt, BrokenPipeError):
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())

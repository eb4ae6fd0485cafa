from itertools import islice

from powertcp.loads.primes import count_primes, small_primes


def test_primes_are_counted() -> None:
    assert small_primes(20) == [2, 3, 5, 7, 11, 13, 17, 19]
    assert small_primes(0) == []
    assert dict(islice(count_primes(1000), 10)) == {
        1000: 168,
        2000: 303,
        3000: 430,
        4000: 550,
        5000: 669,
        6000: 783,
        7000: 900,
        8000: 1007,
        9000: 1117,
        10_000: 1229,
    }

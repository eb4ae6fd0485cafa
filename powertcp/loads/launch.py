"""Start the small processes that clean up after a consumer: the guard and the keeper.

Their command lines name neither this package nor what they were told: whoever kills all that
names it, as `pkill -9 -f` does, must leave those alive that end what was powered.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import trio


def command_line(script: str, descriptors: Sequence[int]) -> list[str]:
    """Return the words that run the script held by the first of `descriptors`."""
    python = os.path.realpath(sys.executable)
    code = f"/proc/self/fd/{descriptors[0]}"
    return [python, "-I", "-S", code, os.path.basename(script), *map(str, descriptors)]


@contextmanager
def handed(script: str, words: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Open the code of `script`, and a file in memory with `words`, a NUL after each."""
    code = os.open(script, os.O_RDONLY | os.O_CLOEXEC)
    try:
        told = os.memfd_create("words")
        try:
            with os.fdopen(told, "wb", closefd=False) as file:
                file.write(b"".join(os.fsencode(word) + b"\0" for word in words))
            os.lseek(told, 0, os.SEEK_SET)
            yield code, told
        finally:
            os.close(told)
    finally:
        os.close(code)


async def launch(
    script: str,
    words: Sequence[str],
    *,
    pass_fds: Sequence[int] = (),
    pipe: int | None = None,
    env: Mapping[str, str] | None = None,
    out: int | None = None,
) -> trio.Process:
    """Run `script`, which needs the standard library only, in a session of its own.

    Its arguments are the name of its file, two descriptors that it closes (its code, and `words`
    with a NUL after each), and `pass_fds`. pipe: subprocess.PIPE for its input and output. out:
    descriptor of its output instead.
    Raises OSError when it cannot be started.
    """
    with handed(script, words) as descriptors:
        return await trio.lowlevel.open_process(
            command_line(script, (*descriptors, *pass_fds)),
            pass_fds=(*descriptors, *pass_fds),
            start_new_session=True,
            stdin=pipe,
            stdout=pipe if out is None else out,
            env=env,
        )

import os
import sys

from powertcp.loads.launch import command_line


def test_a_command_line_names_the_file_without_its_folder() -> None:
    assert command_line("/home/me/powertcp/loads/guard.py", [9, 10, 7]) == [
        os.path.realpath(sys.executable),
        "-I",
        "-S",
        "/proc/self/fd/9",
        "guard.py",
        "9",
        "10",
        "7",
    ]

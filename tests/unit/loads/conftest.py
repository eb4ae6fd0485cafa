"""The loads need trio: where it is not installed, none of these files is collected."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("trio") else ["test_*.py"]

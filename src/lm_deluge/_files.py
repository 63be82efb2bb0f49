"""Making directories that are their owner's alone."""

from pathlib import Path

__all__ = ["make_private_directories"]


def make_private_directories(path: Path) -> None:
    """Make a directory and the parents that are missing, each 0700 under any umask.

    Those that are there already stay as they are.

    Raises:
        OSError: one cannot be made.
    """
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    # Path.mkdir(parents=True) would make the parents as the umask says, and anyone who can write a parent can put a
    # directory of their own in the place of ours.
    for directory in reversed(missing):
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            continue  # another process was faster
        if directory.stat().st_mode & 0o777 != 0o700:
            directory.chmod(0o700)  # a umask that takes away what the owner needs

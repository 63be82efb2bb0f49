"""Whether a path is on a network file system, where SQLite's WAL does not work.

The WAL's index is memory that all users of the file share. Two machines share none, so each would overlook what the
other has written (SQLite, "Write-Ahead Logging"). Linux says what is mounted where; elsewhere nothing is checked.
"""

import re
from pathlib import Path

__all__ = ["file_system", "network_file_system"]

_MOUNTS = Path("/proc/self/mountinfo")

_NETWORK = re.compile(
    r"9p|acfs|afs|beegfs|ceph|cifs|coda|gfs|gfs2|glusterfs|gpfs|lustre|ncp|ncpfs|nfs|nfs3|nfs4|ocfs2|orangefs|panfs|"
    r"prl_fs|pvfs2|smb|smb2|smb3|smbfs|vboxsf|vmhgfs|wekafs|"
    r"fuse\.(?:beegfs|blobfuse|blobfuse2|ceph|ceph-fuse|cephfs|davfs|davfs2|gcsfuse|gfs|glusterfs|goofys|juicefs|lustre|"
    r"mfs|moosefs|mount-s3|mountpoint-s3|nfs|quobyte|rclone|s3fs|seaweedfs|smbnetfs|sshfs|vmhgfs-fuse)"
)
_ANY_NETWORK = re.compile(rf" - (?:{_NETWORK.pattern}) ")
_ESCAPED = re.compile(r"\\([0-7]{3})")


def network_file_system(path: Path) -> str | None:
    """The type of the network file system that holds ``path``; None if it is a local one, or that is not known."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None  # not Linux, or /proc is not there
    if not _ANY_NETWORK.search(mounts):
        return None  # the usual case
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError, ValueError):  # opening the file says what is wrong with such a path
        return None
    mount_point, kind = file_system(mounts, str(resolved))
    # gVisor shows the root of its sandboxes as 9p, although all users of a file there share memory. Anywhere else, 9p
    # is another system's disk: that of Windows under WSL, or a virtual machine's host.
    if kind == "9p" and mount_point == "/":
        return None
    return kind if _NETWORK.fullmatch(kind) else None


def file_system(mounts: str, path: str) -> tuple[str, str]:
    """Mount point and type of the file system that holds a path; both empty if none does.

    Args:
        mounts: the text of ``/proc/self/mountinfo``.
        path: absolute, without symbolic links.
    """
    found = ("", "")
    for line in mounts.splitlines():
        # 36 35 98:0 /root /mount/point rw,noatime master:1 - ext3 /dev/root rw,errors=continue
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        mount_point = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[4])
        holds = path == mount_point or path.startswith(mount_point.rstrip("/") + "/")
        if holds and len(mount_point) >= len(found[0]):  # of two at the same place, the later one hides the other
            found = (mount_point, after.split(" ", 1)[0])
    return found

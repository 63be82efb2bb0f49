"""Network file systems are told from what is mounted, and refused before anything is made there."""

from contextlib import closing
from pathlib import Path

import pytest

from lm_deluge.cache import SqliteCache
from lm_deluge.cache.stores.sqlite import SqliteStore, mounts
from lm_deluge.errors import CacheFileError

from .helpers import answer, entry, key, prompt

LAPTOP = r"""
22 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
23 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
28 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro
30 28 0:25 / /run rw,nosuid,nodev shared:5 - tmpfs tmpfs rw,size=1600000k,mode=755
90 28 0:60 / /home/me/team rw,relatime shared:300 - nfs4 files:/export/team rw,vers=4.2,rsize=1048576,proto=tcp
91 90 259:3 / /home/me/team/scratch rw,relatime shared:301 - xfs /dev/nvme1n1 rw,attr2
92 28 0:61 / /mnt/with\040space\134s rw,relatime shared:302 - cifs //server/share rw,vers=3.1.1
93 28 0:62 / /mnt/remote rw,nosuid,nodev - fuse.sshfs me@host:/ rw,user_id=1000,group_id=1000
94 28 8:17 / /media/stick rw,nosuid,nodev shared:400 - fuseblk /dev/sdb1 rw,user_id=0
95 28 0:63 / /mnt/auto rw shared:401 - autofs systemd-1 rw,fd=51
96 95 0:64 / /mnt/auto rw shared:402 - nfs old:/export rw,vers=3
97 28 0:65 / /mnt/covered rw shared:403 - nfs old:/export rw,vers=3
98 97 259:4 / /mnt/covered rw shared:404 - btrfs /dev/sda1 rw,ssd
99 28 0:66 / /srv/nfs-notes rw - tmpfs nfs rw
"""

CONTAINER = """
600 500 0:50 / / rw,relatime master:200 - overlay overlay rw,lowerdir=/l/A:/l/B,upperdir=/u,workdir=/w
601 600 0:51 / /shared rw,relatime - virtiofs shared rw
602 600 0:52 / /team rw,relatime - lustre 10.0.0.1@tcp:/team rw,flock
603 600 0:53 / /s3 rw - fuse.mountpoint-s3 mountpoint-s3 rw,user_id=0
"""

WSL = r"""
50 1 8:32 / / rw,relatime - ext4 /dev/sdc rw,discard,errors=remount-ro
60 50 0:55 / /mnt/c rw,noatime - 9p C:\134 rw,aname=drvfs;path=C:\;uid=1000,access=client,trans=fd,rfd=8,wfd=8
"""

SANDBOX = """
1 0 0:1 / / rw - 9p none rw,trans=fd,rfdno=4,wfdno=4,aname=/,dfltuid=4294967294,directfs
2 1 0:2 / /dev rw - tmpfs none rw,mode=0755
3 1 0:3 / /data rw - 9p none rw,trans=fd,rfdno=5,wfdno=5
"""


@pytest.mark.parametrize(
    ("sample", "path", "expected"),
    [
        (LAPTOP, "/home/me/cache.db", None),
        (LAPTOP, "/home/me/team", "nfs4"),
        (LAPTOP, "/home/me/team/deep/cache.db", "nfs4"),
        (LAPTOP, "/home/me/teamwork/cache.db", None),
        (LAPTOP, "/home/me/team/scratch/cache.db", None),
        (LAPTOP, "/mnt/with space\\s/cache.db", "cifs"),
        (LAPTOP, "/mnt/remote/cache.db", "fuse.sshfs"),
        (LAPTOP, "/media/stick/cache.db", None),
        (LAPTOP, "/mnt/auto/cache.db", "nfs"),
        (LAPTOP, "/mnt/covered/cache.db", None),
        (LAPTOP, "/srv/nfs-notes/cache.db", None),
        (CONTAINER, "/cache.db", None),
        (CONTAINER, "/shared/cache.db", None),
        (CONTAINER, "/team/cache.db", "lustre"),
        (CONTAINER, "/s3/cache.db", "fuse.mountpoint-s3"),
        (WSL, "/home/me/cache.db", None),
        (WSL, "/mnt/c/Users/me/cache.db", "9p"),
        (SANDBOX, "/app/cache.db", None),
        (SANDBOX, "/dev/shm/cache.db", None),
        (SANDBOX, "/data/cache.db", "9p"),
        ("", "/cache.db", None),
        ("not a line of this file\n1 2 3 - nfs\n", "/cache.db", None),
    ],
)
def test_what_is_a_network_file_system(
    sample: str, path: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mountinfo").write_text(sample.lstrip())
    monkeypatch.setattr(mounts, "_MOUNTS", tmp_path / "mountinfo")
    assert mounts.network_file_system(Path(path)) == expected


def test_the_longest_mount_point_counts() -> None:
    assert mounts.file_system(LAPTOP, "/home/me/team/scratch/x") == ("/home/me/team/scratch", "xfs")
    assert mounts.file_system(LAPTOP, "/mnt/covered/x") == ("/mnt/covered", "btrfs")
    assert mounts.file_system(LAPTOP, "/") == ("/", "ext4")
    assert mounts.file_system("", "/") == ("", "")


def test_where_nobody_says_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "_MOUNTS", tmp_path / "missing")
    assert mounts.network_file_system(tmp_path) is None


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is said to be on NFS, by way of a symbolic link."""
    target = tmp_path / "target"
    target.mkdir()
    link = tmp_path / "link"
    link.symlink_to(target)
    line = f"90 28 0:60 / {target} rw,relatime shared:300 - nfs4 files:/export/team rw,vers=4.2\n"
    (tmp_path / "mountinfo").write_text(LAPTOP.lstrip() + line)
    monkeypatch.setattr(mounts, "_MOUNTS", tmp_path / "mountinfo")
    return link


def test_a_cache_on_a_network_file_system_is_refused_and_not_made(network: Path) -> None:
    with pytest.raises(CacheFileError, match=r"network file system \(nfs4\).*local disk.*RedisCache"):
        SqliteCache(network / "deep" / "cache.db")
    assert list(network.iterdir()) == []


def test_one_that_nobody_writes_may_be_read_there(network: Path, tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "cache.db")) as store:
        store.put_many([entry("p")])
    (tmp_path / "cache.db").rename(network / "cache.db")
    with closing(SqliteStore(network / "cache.db", read_only=True)) as store:
        assert store.get_many([key("p")]) == [b"value"]
    (network / "cache.db-wal").write_bytes(b"somebody writes on another machine")
    with pytest.raises(CacheFileError, match="network file system"):
        SqliteStore(network / "cache.db", read_only=True)


def test_here_caches_can_be_made(tmp_path: Path) -> None:
    with SqliteCache(tmp_path / "cache.db") as cache:
        cache.put(prompt("p"), answer("x"))

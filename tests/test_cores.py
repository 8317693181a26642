"""Cores that a process may use: by its affinity, and by the quotas of its control groups."""

import pytest

from fastbp._support import cores

V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/cpu"


@pytest.fixture
def machine(monkeypatch):
    """machine(n): one of n cores, without a quota."""

    def with_cores(n):
        monkeypatch.setattr(cores, "_quota", lambda root: cores.sys.maxsize)
        monkeypatch.delattr(cores.os, "process_cpu_count", raising=False)
        monkeypatch.setattr(cores.os, "sched_getaffinity", lambda pid: set(range(n)), raising=False)
        monkeypatch.setattr(cores.os, "cpu_count", lambda: 64)

    return with_cores


@pytest.fixture
def quota(tmp_path):
    """quota(groups, files): the quota where /proc/self/cgroup and the files hold these texts."""

    def of(groups, files):
        for name, text in {"proc/self/cgroup": groups, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return cores._quota(tmp_path)

    return of


def test_there_is_a_core():
    assert cores.available_cores() >= 1


def test_cores_of_other_processes_do_not_count(machine):
    machine(2)
    assert cores.available_cores() == 2


def test_python_may_say_how_many(machine, monkeypatch):
    """Python 3.13 has a count of its own, and a switch for it."""
    machine(8)
    monkeypatch.setattr(cores.os, "process_cpu_count", lambda: 3, raising=False)
    assert cores.available_cores() == 3


def test_cores_are_counted_where_affinity_is_unknown(machine, monkeypatch):
    machine(8)
    monkeypatch.delattr(cores.os, "sched_getaffinity")
    for found, expected in ((3, 3), (None, 1)):
        monkeypatch.setattr(cores.os, "cpu_count", lambda found=found: found)
        assert cores.available_cores() == expected


@pytest.mark.parametrize(("allowed", "expected"), [(3, 3), (0, 1), (100, 8)])
def test_a_quota_makes_them_fewer(allowed, expected, machine, monkeypatch):
    machine(8)
    monkeypatch.setattr(cores, "_quota", lambda root: allowed)
    assert cores.available_cores() == expected


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {f"{V2}/cpu.max": "200000 100000\n"}, 2),  # a container's own view
        ("0::/\n", {f"{V2}/cpu.max": "max 100000\n"}, None),
        ("0::/\n", {f"{V2}/cpu.max": "150000 100000\n"}, 1),
        ("0::/\n", {f"{V2}/cpu.max": "50000 100000\n"}, 0),
        ("0::/a/b\n", {f"{V2}/a/b/cpu.max": "max 1000\n", f"{V2}/a/cpu.max": "3000 1000\n"}, 3),
        ("0::/a/b\n", {f"{V2}/a/b/cpu.max": "2000 1000\n", f"{V2}/a/cpu.max": "3000 1000\n"}, 2),
        ("0::/a\n", {f"{V2}/other/cpu.max": "1000 1000\n"}, None),
        # The host's path in a container whose own files lie at the top.
        ("0::/docker/17\n", {f"{V2}/cpu.max": "400000 100000\n"}, 4),
        ("0::/../x\n", {f"{V2}/cpu.max": "100000 100000\n"}, 1),
        (
            "4:memory:/m\n3:cpu,cpuacct:/a\n0::/\n",
            {f"{V1}/a/cpu.cfs_quota_us": "250000\n", f"{V1}/a/cpu.cfs_period_us": "100000\n"},
            2,
        ),
        (
            "3:cpuacct,cpu:/docker/17\n",
            {
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        (
            "1:cpu:/\n",
            {f"{V1}/cpu.cfs_quota_us": "-1\n", f"{V1}/cpu.cfs_period_us": "100000\n"},
            None,
        ),
        ("2:cpu:/\n0::/a\n", {f"{V2}/unified/a/cpu.max": "2000 1000\n"}, 2),
        ("no control groups\n", {}, None),
        ("0::/\n", {f"{V2}/cpu.max": "damaged"}, None),
    ],
)
def test_the_quota_is_the_least_of_the_groups_that_hold_the_process(groups, files, expected, quota):
    assert quota(groups, files) == (cores.sys.maxsize if expected is None else expected)


def test_a_system_without_control_groups_has_no_quota(tmp_path):
    assert cores._quota(tmp_path) == cores.sys.maxsize

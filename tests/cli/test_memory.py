"""Huge pages: when a command restarts with them, and when it leaves the environment alone."""

import platform
import subprocess
import sys

import pytest

from pairjax.cli.memory import OFFERED, TUNABLES, with_huge_pages

ASKED = "always [madvise] never"
LIBC = ("glibc", "2.36")


def test_huge_pages_are_requested_if_the_system_offers_them() -> None:
    assert with_huge_pages({"A": "1"}, offered=ASKED, libc=LIBC) == {"A": "1", TUNABLES: "glibc.malloc.hugetlb=1"}


def test_other_settings_of_glibc_are_kept() -> None:
    environ = with_huge_pages({TUNABLES: "glibc.malloc.check=1"}, offered=ASKED, libc=LIBC)
    assert environ == {TUNABLES: "glibc.malloc.check=1:glibc.malloc.hugetlb=1"}


@pytest.mark.parametrize(
    ("environ", "offered", "libc"),
    [
        ({TUNABLES: "glibc.malloc.hugetlb=0"}, ASKED, LIBC),
        ({}, "[always] madvise never", LIBC),
        ({}, "always madvise [never]", LIBC),
        ({}, ASKED, ("glibc", "2.31")),
        ({}, ASKED, ("", "")),
    ],
    ids=["refused by the user", "always on", "never on", "old glibc", "no glibc"],
)
def test_the_environment_is_left_alone_if_nothing_would_change(
    environ: dict[str, str], offered: str, libc: tuple[str, str]
) -> None:
    assert with_huge_pages(environ, offered=offered, libc=libc) is None


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not OFFERED.is_file() or "[madvise]" not in OFFERED.read_text(),
    reason="this system does not offer huge pages on request",
)
def test_a_command_restarts_once_with_its_own_arguments() -> None:
    code = (
        "import os, sys; sys.argv[0] = 'pairjax'; from pairjax.cli import main; "
        "main._dispatch = lambda args: print(os.environ['GLIBC_TUNABLES'], args) or 0; sys.exit(main.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "a b", "--x"],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    assert done.stdout.split(maxsplit=1) == ["glibc.malloc.hugetlb=1", "['train', 'a b', '--x']\n"]

"""Transparent mode, in a network namespace that the test makes itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.e2e.programs import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SYSTEM_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may make a network namespace")
def test_the_address_a_redirected_client_named_is_never_dialled(tmp_path: Path) -> None:
    for program in ("unshare", "ip", "iptables"):
        if shutil.which(program, path=SYSTEM_PATH) is None:
            pytest.skip(f"{program} is not installed")
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "tests.e2e.transparent_inside", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:{SYSTEM_PATH}"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    saw = json.loads(done.stdout)
    assert [body for body, _ in saw["answers"]] == ["the origin's"] * 2
    assert saw["answers"][1][1].startswith("fwdproxy; hit")
    assert saw["origin"] == ["/page"]
    assert saw["decoy"] == []

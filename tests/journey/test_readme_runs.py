"""The README's walk from data to report, run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MARK = "<!-- executed by tests/journey/test_readme_runs.py -->\n"


@pytest.mark.slow
def test_the_readme_walk_runs_as_written(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8").split(MARK)[1]
    block = re.match(r"```bash\n(.*?)```", text, re.DOTALL)
    assert block is not None
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block[1]],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Not for clinical use" in (tmp_path / "reports" / "train_1_a_1.md").read_text()
    for name in ("raw.png", "scores/scorecard.md", "masks/train_1_a_1_mask.nii.gz"):
        assert (tmp_path / name).stat().st_size > 0
    assert "liver" in done.stdout

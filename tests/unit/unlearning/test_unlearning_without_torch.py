import subprocess
import sys

import pytest

EVIDENCE = [
    "agreement", "backdoor", "canaries", "equivalence", "finding", "forgetting", "gap",
    "ledger_replay", "low_false_positives", "membership", "relearning", "resurfacing", "utility",
]  # fmt: skip
MODULES = [
    "method", "script", "removal", "afu_ic", "afu_ic_rebased", "evidence", "gate",
    "statement", "ascent", "calibration", "augmentations", "leave", "retrain", "pga",
    "removal_distilled", "weight_negation", "server_rules", "distillation", "negation",
    "orthogonal_descent", "fedosd", "batches", "federaser", "patient_swap",
    "recombination", "removal_recombined",
    *(f"evidence.{name}" for name in EVIDENCE),
]  # fmt: skip


@pytest.mark.parametrize(
    "imports",
    [
        [f"letheon.unlearning.{name}" for name in MODULES if name != "ascent"],
        ["calibrator.bootstrap", "calibrator.__main__"],
    ],
)
def test_importing_needs_no_torch(imports):
    code = f"import sys; import {', '.join(imports)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_evidence_needs_no_scipy_before_it_is_used():
    modules = ", ".join(f"letheon.unlearning.evidence.{name}" for name in EVIDENCE)
    code = f"import sys; import {modules}; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_ascent_itself_brings_no_torch():
    code = "import sys; import letheon.unlearning.ascent; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

"""Every file of the zoo gets exactly its verdicts, line by line, and its exit code."""

import json

import pytest
import zoo_extremes  # noqa: F401  (registers its specimens)
from zoo import SPECIMENS
from zoo_findings import FINDINGS
from zoo_specimens import GOOD

from verification.__main__ import main
from verification.report import Verdict

LETTERS = {
    Verdict.PASSED: "P",
    Verdict.FAILED: "F",
    Verdict.INCONCLUSIVE: "I",
    Verdict.NOT_APPLICABLE: "n",
    Verdict.NOT_CHECKED: "-",
    Verdict.PROVED: "T",
    Verdict.VACUOUS: "V",
    Verdict.OBSERVED: "O",
}
DECIDING = tuple(GOOD)
INFORMING = ("dissipativity", "turnpike", "depth")


def letters_of(checks: list[dict]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in checks:
        check = entry["name"].partition(".")[0]
        found[check] = found.get(check, "") + LETTERS[Verdict(entry["verdict"])]
    return found


def test_the_zoo_is_large_and_no_two_are_named_alike():
    assert len(SPECIMENS) >= 55
    assert len({specimen.name for specimen in SPECIMENS}) == len(SPECIMENS)


@pytest.mark.parametrize("specimen", SPECIMENS, ids=lambda specimen: specimen.name)
def test_verdicts(specimen, tmp_path, capsys):
    path, out = tmp_path / "file.safetensors", tmp_path / "report.json"
    specimen.write(path)
    code = main([str(path), "--json", str(out), "--only", *DECIDING, *INFORMING, "diagnosis"])
    text = "".join(capsys.readouterr())
    assert specimen.says in text
    assert code == specimen.exit_code
    if code == 2:
        assert not out.exists()
        assert text.count("\n") == 1 and "Traceback" not in text
        return
    report = json.loads(out.read_text())
    assert report["exit_code"] == code
    *findings, signatures = FINDINGS[specimen.name]
    found = letters_of(report["checks"])
    del found["diagnosis"]
    assert found == specimen.letters | dict(zip(INFORMING, findings, strict=True))
    names = [entry["name"].partition(".")[2] for entry in report["checks"]]
    assert tuple(names[-len(signatures) :]) == signatures

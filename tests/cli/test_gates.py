"""The verbs `verify` and `reproduce` as a person meets them: a table, a verdict, an exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Run

from pocketvision.errors import MissingExtraError
from pocketvision.fitting.checks import Check, Verification

PASSED = Check(name="files", passed=True, recorded="2 files", found="unchanged")
FAILED = Check(name="seal", passed=False, recorded="4 files", found="altered: [b]x[/b].json")
GAP = Check(name="accuracy", passed=None, recorded="97%", found="not checked", note="needs images")


@pytest.fixture
def finding(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[object, ...]]]:
    """What both verbs find from now on; the list takes what they were asked."""

    def use(*checks: Check, same_machine: bool = True) -> list[tuple[object, ...]]:
        asked: list[tuple[object, ...]] = []

        def answer(*words: object, **options: object) -> Verification:
            asked.append((*words, options.get("data"), options.get("command")))
            return Verification(checks=checks, same_machine=same_machine)

        monkeypatch.setattr("pocketvision.fitting.verify.verify", answer)
        monkeypatch.setattr("pocketvision.fitting.reproduce.reproduce", answer)
        return asked

    return use


Finding = Callable[..., list[tuple[object, ...]]]


def test_verdict_names_what_was_not_checked(run: Run, finding: Finding, tmp_path: Path) -> None:
    finding(PASSED, GAP)
    code, out, _ = run("verify", tmp_path)
    assert code == 0
    assert out.splitlines()[-1] == "pass (on the recorded machine); not checked: accuracy"
    line = next(line for line in out.splitlines() if line.startswith("accuracy"))
    assert line.split()[:2] == ["accuracy", "-"]


@pytest.mark.parametrize("words", [["verify"], ["reproduce", "--out", "again"]])
def test_failure_is_exit_code_1_and_markup_is_text(
    run: Run, finding: Finding, tmp_path: Path, words: list[str]
) -> None:
    finding(PASSED, FAILED, same_machine=False)
    code, out, _ = run(*words, tmp_path)
    assert code == 1
    assert "altered: [b]x[/b].json" in out
    assert out.splitlines()[-1] == "FAIL (on another machine than the recorded one)"


def test_json_holds_every_line_and_the_verdict(run: Run, finding: Finding, tmp_path: Path) -> None:
    finding(PASSED, GAP)
    code, out, _ = run("verify", tmp_path, "--json")
    said = json.loads(out)
    assert code == 0
    assert (said["passed"], said["same_machine"]) == (True, True)
    assert said["not_checked"] == ["accuracy"]
    assert said["checks"][0]["found"] == "unchanged"


def test_replay_is_told_where_the_images_lie_and_how_it_was_asked_for(
    run: Run, finding: Finding, tmp_path: Path
) -> None:
    asked = finding(PASSED)
    assert run("reproduce", tmp_path, "--out", tmp_path / "again", "--data", "here")[0] == 0
    ((folder, out, data, command),) = asked
    assert (folder, out, data) == (tmp_path, tmp_path / "again", Path("here"))
    assert str(command).startswith(f"pocketvision reproduce {tmp_path} --out ")


def test_list_of_photos_is_refused_for_scenes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text('{"schema_version": 1, "task": "hyperspectral"}')
    code, _, err = run("verify", tmp_path, "--only", "clean.txt")
    assert code == 2
    assert "holds a network for a scene; --only is for photos." in err


def test_interrupted_replay_says_how_to_go_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pocketvision.fitting.reproduce.reproduce", interrupt)
    code, _, err = run("reproduce", tmp_path, "--out", tmp_path / "again")
    assert code == 130
    assert "Run the same command again to go on." in err


def test_absent_runtime_is_exit_code_2(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object, **__: object) -> None:
        raise MissingExtraError("install it with: pip install 'pocketvision[openvino]'")

    monkeypatch.setattr("pocketvision.fitting.verify.verify", absent)
    code, _, err = run("verify", tmp_path)
    assert code == 2
    assert "pip install 'pocketvision[openvino]'" in err


def test_scene_is_not_replayed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text('{"schema_version": 1, "task": "hyperspectral"}')
    code, _, err = run("reproduce", tmp_path, "--out", tmp_path / "again")
    assert code == 2
    assert "holds a network for a scene, and only photos are replayed; run the command" in err

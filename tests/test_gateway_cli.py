"""The command line: what it prints, and with what status it ends."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from classifiers.pii_detectors import LABELS
from proxy.cli import COMMANDS, main
from proxy.commands.check import _render, words

CONFIG = """
policies: [policy.yaml]
classifiers:
  shipped: [pii]
  patterns:
    - name: words
      patterns: [{label: ATTACK, keywords: [attack]}, {label: GREETING, keywords: [hello]}]
"""
POLICY = """
name: front
version: 7
rules:
  - {name: no-attacks, when: {words: ATTACK}, check: [input, output], do: {block: "Not here."}}
  - {name: hide, when: {pii: EMAIL}, do: {redact: {as: "<{label}_{n}>"}}}
  - {name: watch, mode: shadow, when: {words: GREETING}, do: {block: "Never shown."}}
tests:
  - {user: "attack now", expect: block, rule: no-attacks}
  - {user: "fine", expect: forward}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "config.yaml").write_text(CONFIG)
    return str(tmp_path / "config.yaml")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(arguments)
    out, err = capsys.readouterr()
    return status, out, err


def test_check_prints_json_when_piped(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "check", "hello, attack ann@example.com", "-c", config)
    assert status == 0
    value: Any = json.loads(out)
    found = {(p["classifier"], p["label"]) for p in value["predictions"] if p["match"]}
    assert found == {("words", "ATTACK"), ("words", "GREETING"), ("pii", "EMAIL")}
    assert value["policies"] == ["front@7"]
    assert value["decision"]["outcome"] == "block"
    assert value["decision"]["reply"]["content"] == "Not here."
    assert value["decision"]["cause"]["rule"] == "no-attacks"
    assert [cause["rule"] for cause in value["decision"]["shadow"]] == ["watch"]


def test_check_of_a_reply(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["check", "attack ann@example.com", "-c", config, "--role", "assistant"]
    decision = json.loads(run(capsys, *arguments)[1])["decision"]
    assert (decision["outcome"], decision["redactions"]) == ("block", [])


def test_check_draws_a_table_on_a_terminal(
    config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "dumb")
    out = run(capsys, "check", "attack [bold]now[/bold]", "-c", config)[1]
    assert "decision: block by front@7 no-attacks: words@" in out
    assert "ATTACK" in out
    assert "{" not in out


WORDS = [
    # text, tokens as (start, end, share), words
    ("killing them", [(0, 0, 9.0), (0, 4, 1.0), (4, 7, 0.5), (8, 12, -1.0)], [("killing", 1.5)]),
    ("a b", [(0, 1, 0.2), (1, 2, 5.0), (2, 3, 0.7)], [("b", 0.7), ("a", 0.2)]),
    ("don't", [(0, 3, 1.0), (3, 4, 0.5), (4, 5, 0.25)], [("don", 1.0), ("'", 0.5), ("t", 0.25)]),
    ("炸弹", [(0, 1, 1.0), (1, 2, 2.0)], [("弹", 2.0), ("炸", 1.0)]),
    ("k1ll", [(0, 3, 1.0), (1, 4, 1.0)], [("k1ll", 2.0)]),
    ("", [], []),
]


@pytest.mark.parametrize(("text", "tokens", "expected"), WORDS)
def test_words_that_speak_for_a_label(
    text: str, tokens: list[tuple[int, int, float]], expected: list[tuple[str, float]]
) -> None:
    shares = [{"start": start, "end": end, "share": share} for start, end, share in tokens]
    assert words(text, shares) == expected


def test_check_explains_what_a_rule_used(capsys: pytest.CaptureFixture[str]) -> None:
    def row(label: str) -> dict[str, Any]:
        tokens = [{"token": "", "start": 0, "end": 0, "share": 7.0}]
        tokens += [{"token": "at", "start": 0, "end": 2, "share": 1.0}]
        tokens += [{"token": "tack", "start": 2, "end": 6, "share": 0.5}]
        return {"classifier": "guard", "label": label, "tokens": tokens}

    cause = {"classifier": "guard@1", "label": "attack", "score": 0.9, "threshold": 0.5}
    value: dict[str, Any] = {
        "predictions": [],
        "errors": {},
        "explanations": [row("attack"), row("rude")],
        "decision": {
            "outcome": "forward",
            "cause": None,
            "reply": None,
            "redactions": [],
            "fired": [],
            "shadow": [{**cause, "rule": "watch", "action": "block"}],
        },
    }
    _render(Console(width=160), value, "attack")
    (explained,) = [line for line in capsys.readouterr().out.splitlines() if "because of" in line]
    assert explained == "guard: attack because of  'attack' +1.50"


def test_check_with_another_policy(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("name: other\nrules: [{name: r, when: {words: GREETING}, do: {block: 'No.'}}]")
    out = run(capsys, "check", "attack", "-c", config, "--policy", str(other))[1]
    assert json.loads(out)["decision"]["outcome"] == "forward"


def test_policy_test(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "policy.yaml")
    status, out, _ = run(capsys, "policy", "test", file, "-c", config)
    assert status == 0
    assert json.loads(out) == {
        "ok": True,
        "files": [
            {
                "file": file,
                "policy": "front@7",
                "rules": 3,
                "tests": 2,
                "tested": True,
                "faults": [],
                "failures": [],
            }
        ],
    }


def test_failing_policy_test(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY.replace('"fine"', '"attack"'))
    status, out, _ = run(capsys, "policy", "test", str(file), "-c", config)
    assert status == 1
    (failure,) = json.loads(out)["files"][0]["failures"]
    assert f"{file}:10: 'attack': expected forward, got block" in failure
    # Lint counts the tests and does not run them.
    status, out, _ = run(capsys, "policy", "lint", str(file), "-c", config)
    linted = json.loads(out)["files"][0]
    assert (status, linted["tests"], linted["tested"]) == (0, 2, False)


@pytest.mark.parametrize("what", ["lint", "test"])
def test_a_route_to_a_model_that_is_not_there(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    file = tmp_path / "routing.yaml"
    file.write_text(
        "name: routing\nrules:\n- name: cheap\n  when: {words: GREETING}\n  do: {route: smal-model}\n"
    )
    status, out, _ = run(capsys, "policy", what, str(file), "-c", config)
    assert status == 1
    (fault,) = json.loads(out)["files"][0]["faults"]
    assert fault.startswith(f"{file}:5: rule 'cheap' routes to 'smal-model'")
    assert "did you mean 'small-model'?" in fault
    file.write_text(file.read_text().replace("smal-model", "small-model"))
    assert run(capsys, "policy", what, str(file), "-c", config)[0] == 0


@pytest.mark.parametrize(
    "arguments", [["policy", "lint"], ["policy", "test"], ["check", "--policy"]]
)
def test_secrets_are_needed_for_serving_only(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    Path(config).write_text(
        CONFIG + "keys: [{name: app, key: '${NO_KEY}'}, {name: b, key: os.environ/NO_OTHER_KEY}]\n"
        "record: {hash_key: os.environ/NO_HASH_KEY}\n"
        "model_list:\n- model_name: gpt\n"
        "  litellm_params: {model: openai/gpt-4o, api_key: os.environ/NO_UP_KEY}\n"
    )
    more = [str(tmp_path / "policy.yaml"), "-c", config]
    status, _, err = run(capsys, *arguments, *more, *(["hello"] if arguments[0] == "check" else []))
    assert (status, err) == (0, "")
    status, _, err = run(capsys, "serve", "-c", config)
    assert status == 2
    assert "NO_UP_KEY" in err


def test_policy_lint_names_every_fault(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("name: x\nrules:\n- {name: r, when: {word: ATTACK}, do: {block: 'No.'}}\n")
    status, out, _ = run(capsys, "policy", "lint", str(file), "-c", config)
    assert status == 1
    (fault,) = json.loads(out)["files"][0]["faults"]
    assert fault.startswith(f"{file}:3: ")
    assert "did you mean 'words'?" in fault


def test_packs(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "packs", "list")
    assert status == 0
    packs = {pack["name"]: pack for pack in json.loads(out)}
    assert packs["jailbreak"]["labels"] == ["jailbreak"]
    status, out, _ = run(capsys, "packs", "show", "jailbreak")
    assert json.loads(out)["licence"] == "Apache-2.0"


def test_packs_knows_the_patterns_for_personal_data(capsys: pytest.CaptureFixture[str]) -> None:
    packs = {pack["name"]: pack for pack in json.loads(run(capsys, "packs", "list")[1])}
    assert packs["pii"]["kind"] == "patterns"
    assert packs["pii"]["labels"] == list(LABELS)
    status, out, _ = run(capsys, "packs", "show", "pii")
    shown = json.loads(out)
    assert (status, list(shown["finds"])) == (0, list(LABELS))
    assert all(label in shown["card"] for label in LABELS)
    assert "built of patterns" in shown["card"]


ERRORS: dict[str, tuple[list[str], str]] = {
    "no config": (["serve", "-c", "none.yaml"], "none.yaml: cannot be read"),
    "exposed": (["serve", "--host", "0.0.0.0"], "without client keys"),
    "no such port": (["serve", "--port", "70000"], "--port 70000"),
    "no policy": (["check", "x", "--policy", "none.yaml"], "none.yaml"),
    "no text": (["check", ""], "the text is empty"),
    "no such role": (
        ["check", "x", "--role", "bot"],
        "--role 'bot' is no role; there are: system, developer, user, assistant, tool, function",
    ),
    "no such pack": (["packs", "show", "nope"], "no pack 'nope'"),
    "which pack": (["packs", "show"], "which pack?"),
}


@pytest.mark.parametrize(("arguments", "message"), ERRORS.values(), ids=ERRORS)
def test_errors_are_one_line_with_status_two(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("doorman: ")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_bad_policy_stops_serve_before_the_port_opens(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY.replace('"fine"', '"attack"'))
    status, _, err = run(capsys, "serve", "-c", config, "--port", "0")
    assert status == 2
    assert "expected forward, got block" in err
    assert len(err.splitlines()) == 1


def test_a_taken_port_is_said_at_once(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        status, _, err = run(capsys, "serve", "-c", config, "--port", port)
    assert status == 2
    assert f"port {port}" in err
    assert "use another --port" in err


@pytest.mark.parametrize("arguments", [["--help"], ["frobnicate"], ["check"], ["policy", "x", "y"]])
def test_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    out, err = capsys.readouterr()
    assert caught.value.code == (0 if arguments == ["--help"] else 2)
    assert "usage: doorman" in out + err


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    script = "import sys\nfrom proxy.cli import main\ntry:\n  main(['--help'])\nfinally:\n  "
    script += "print(sorted({m.partition('.')[0] for m in sys.modules}))"
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    for name in COMMANDS:
        assert f"  {name} " in result.stdout
    loaded = result.stdout.splitlines()[-1]
    for heavy in ("pydantic", "numpy", "onnxruntime", "fastapi", "aiohttp", "litellm", "rich"):
        assert f"'{heavy}'" not in loaded

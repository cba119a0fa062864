"""``doorman ledger``: what it prints, and with what status it ends."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pyarrow.parquet
import pytest
from gateway_kit import StartGateway
from ledger_kit import ASK, RULES, ended, ledger, rows

from proxy.cli import main
from proxy.commands.ledger import since_of
from proxy.commands.output import CommandError

TEXTS = ("hello", "attack", ASK, "attack again")


@pytest.fixture
def filled(tmp_path: Path, gateway: StartGateway) -> str:
    """A config whose ledger has four decisions; returns its path."""
    door = gateway(RULES, ledger(tmp_path))
    for text in TEXTS:
        body = {"model": "default", "messages": [{"role": "user", "content": text}]}
        assert httpx.post(f"{door.url}/v1/chat/completions", json=body).status_code == 200
    ended(tmp_path, len(TEXTS))
    (tmp_path / "config.yaml").write_text(ledger(tmp_path))
    return str(tmp_path / "config.yaml")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["ledger", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


def change(folder: Path, sql: str) -> None:
    with closing(sqlite3.connect(folder / "data" / "doorman.db")) as connection:
        connection.execute(sql)
        connection.commit()


def test_show_lists_the_newest_first(filled: str, capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(run(capsys, "show", "-c", filled)[1])
    assert [row["action"] for row in listed] == ["block", "forward", "block", "answer"]
    listed = json.loads(run(capsys, "show", "-c", filled, "--limit", "1", "--action", "block")[1])
    assert [row["rule"] for row in listed] == ["no-attacks"]
    assert json.loads(run(capsys, "show", "-c", filled, "--rule", "none")[1]) == []


def test_show_draws_a_table_on_a_terminal(
    filled: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "180")
    out = run(capsys, "show", "-c", filled)[1]
    assert out.count("no-attacks") == 2
    assert out.count("dec_") == 4


def test_show_one(filled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = rows(tmp_path)[1]
    status, out, _ = run(capsys, "show", wanted["decision_id"], "-c", filled)
    assert (status, json.loads(out)) == (0, {"state": "done", **wanted["record"]})
    status, _, err = run(capsys, "show", "dec_none", "-c", filled)
    assert status == 1
    assert "no decision dec_none" in err


def test_export_as_json_lines(
    filled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out.jsonl"
    status, _, err = run(capsys, "export", "-c", filled, "-o", str(file))
    assert (status, err) == (0, "4 decisions\n")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines == [row["record"] for row in rows(tmp_path)]
    assert run(capsys, "export", "-c", filled, "--since", "2999-01-01", "-o", str(file))[0] == 0
    assert file.read_text() == ""


def test_export_as_parquet(filled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out.parquet"
    assert run(capsys, "export", "-c", filled, "--format", "parquet", "-o", str(file))[0] == 0
    told = pyarrow.parquet.read_table(file).to_pylist()
    kept = [
        {**row, "shadow": bool(row["shadow"]), "record": json.dumps(row["record"])}
        for row in rows(tmp_path)
    ]
    same = [{**row, "record": json.dumps(json.loads(row["record"]))} for row in told]
    assert same == kept
    status, _, err = run(capsys, "export", "-c", filled, "--format", "parquet")
    assert (status, "name a file with -o" in err) == (2, True)


FAULTS: dict[str, tuple[str, str]] = {
    "a total": (
        "UPDATE doorman_daily SET count = count + 1 WHERE action = 'block'",
        "1 totals are",
    ),
    "a row is gone": ("DELETE FROM doorman_decisions WHERE action = 'answer'", "1 totals are"),
    "a cost": (
        "UPDATE doorman_decisions SET cost_usd = 7 WHERE action = 'forward'",
        "1 totals are",
    ),
    "another word": (
        "UPDATE doorman_decisions SET model = 'x' WHERE action = 'answer'",
        "1 rows do",
    ),
    "no JSON": (
        "UPDATE doorman_decisions SET record = '{' WHERE action = 'answer'",
        "1 rows do not",
    ),
    "a hash": (
        "UPDATE doorman_decisions SET record = json_set(record, '$.content[0].hmac_sha256', 'plain')",
        "4 records hold a hash",
    ),
}


def test_what_does_not_fit_is_left_out_whole(
    filled: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for columns in (80, 100, 110, 140):
        monkeypatch.setenv("COLUMNS", str(columns))
        out = re.sub(r"\x1b\[[0-9;]*m", "", run(capsys, "show", "-c", filled)[1])
        assert "…" not in out
        assert all(len(line) <= columns for line in out.splitlines())
        head, *lines = out.splitlines()
        for word in ("action", "status", "saved $"):
            assert word in head
        assert sum("block" in line and "200" in line for line in lines) == 2
        left = "Left out for want of room" in out
        assert left == (columns < 140)
        assert ("label" in head) != left
    assert run(capsys, "show", "-c", filled, "--rule", "none")[0] == 0


def test_verify_says_what_it_found(
    filled: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "180")
    out = run(capsys, "verify", "-c", filled)[1]
    assert re.sub(r"\x1b\[[0-9;]*m", "", out).splitlines() == [
        "the file is whole: SQLite finds no fault: ok",
        "one row per decision, as its record: 4 rows: ok",
        "totals are the sums of the rows: 3 totals: ok",
        "requests under way: 0 open: ok",
    ]


@pytest.mark.parametrize("name", FAULTS)
def test_verify_finds(
    name: str, filled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, "verify", "-c", filled)
    assert (status, {check["fault"] for check in json.loads(out)}) == (0, {""})
    sql, wanted = FAULTS[name]
    change(tmp_path, sql)
    status, out, _ = run(capsys, "verify", "-c", filled)
    assert status == 1
    assert wanted in " ".join(check["fault"] for check in json.loads(out))


def test_migrate_is_idempotent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text(ledger(tmp_path))
    config = str(tmp_path / "config.yaml")
    status, _, err = run(capsys, "show", "-c", config)
    assert status == 2
    assert "doorman ledger migrate" in err
    for _ in range(2):
        assert run(capsys, "migrate", "-c", config)[0] == 0
    assert rows(tmp_path) == []
    assert json.loads(run(capsys, "show", "-c", config)[1]) == []
    change(tmp_path, "UPDATE doorman_version SET version_num = '9999'")
    status, _, err = run(capsys, "migrate", "-c", config)
    assert (status, "newer version of doorman" in err) == (2, True)


def test_without_a_ledger_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("ledger: {url: none}")
    status, _, err = run(capsys, "show", "-c", str(tmp_path / "config.yaml"))
    assert (status, "there is no ledger" in err) == (2, True)


def test_only_the_ledgers_secret_is_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "ledger: {url: os.environ/LEDGER_URL}\nkeys: [{name: a, key: os.environ/NOT_SET_HERE}]\n"
    (tmp_path / "config.yaml").write_text(text)
    config = str(tmp_path / "config.yaml")
    assert "LEDGER_URL" in run(capsys, "migrate", "-c", config)[2]
    monkeypatch.setenv("LEDGER_URL", f"sqlite:///{tmp_path}/own.db")
    assert run(capsys, "migrate", "-c", config)[0] == 0
    assert (tmp_path / "own.db").is_file()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, 0.0), ("7d", 1e9 - 7 * 86_400), ("90m", 1e9 - 5400), ("2h", 1e9 - 7200),
        ("1970-01-02", 86_400.0), ("1970-01-01T01:00", 3600.0), ("1970-01-01T01:00+01:00", 0.0),
    ],
)  # fmt: skip
def test_times(text: str | None, wanted: float) -> None:
    assert since_of(text, 1e9) == wanted


def test_a_time_that_is_none() -> None:
    with pytest.raises(CommandError, match="write 2026-01-31"):
        since_of("yesterday", 1e9)

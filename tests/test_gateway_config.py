"""What operators write: strict, with file and line, secrets masked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from proxy.config import Config, ConfigError, defaults, is_loopback, load, loads

FILE = Path("/etc/doorman/config.yaml")
SECRET = "sk-very-secret-value"

FAULTS = {
    "unknown key": (
        "polices: []",
        "config.yaml:1: unknown key 'polices'; did you mean 'policies'?",
    ),
    "unknown key below": (
        "\nserver:\n  hots: x",
        "config.yaml:3: unknown key 'server.hots'; did you mean 'host'?",
    ),
    "unknown key in a list": (
        "keys:\n- name: a\n  kee: abcdefgh\n  key: abcdefgh",
        "config.yaml:3: unknown key 'keys.0.kee'; did you mean 'key'?",
    ),
    "litellm's other sections": ("general_settings: {}", "unknown key 'general_settings'"),
    "not yaml": ("a: [", "config.yaml:1: "),
    "not a mapping": ("- a", "must be a mapping"),
    "key twice": ("server: {}\nserver: {}", "config.yaml:2: the key 'server' is written twice"),
    "wrong type": ("server:\n  port: many", "config.yaml:2: server.port: "),
    "out of range": ("server: {port: 70000}", "server.port: "),
    "no model": ("model_list:\n- model_name: a\n  litellm_params: {}", "config.yaml:3: "),
    "no models": ("model_list: []", "model_list: is an empty list; write at least 1"),
    "alias twice": (
        "model_list:" + "\n- {model_name: a, litellm_params: {model: x}}" * 2,
        "model_name 'a' stands twice with the same",
    ),
    "our own names": (
        "model_list: [{model_name: doorman/x, litellm_params: {model: x}}]",
        "rename it",
    ),
    "short key": (
        "keys: [{name: a, key: abc}]",
        "config.yaml:1: keys.0.key: is too short; use at least 8 characters",
    ),
    "no list": ("policies: 3", "config.yaml:1: policies: must be a list; write it as [a, b]"),
    "same key twice": (
        "keys: [{name: a, key: abcdefgh}, {name: b, key: abcdefgh}]",
        "two keys have the same value",
    ),
    "missing variables": (
        "server:\n  host: ${NO_HOST}\nkeys:\n- {name: a, key: os.environ/NO_KEY}",
        "config.yaml:4: keys.0.key needs the environment variable NO_KEY",
    ),
}


@pytest.mark.parametrize(("text", "message"), FAULTS.values(), ids=FAULTS)
def test_faults_say_where_what_and_how_to_mend(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(text, FILE)
    assert message in str(caught.value)


def test_a_list_with_a_faulty_item_is_not_called_empty() -> None:
    with pytest.raises(ConfigError) as caught:
        loads("model_list: [{model_name: a}]", FILE)
    assert str(caught.value) == f"{FILE}:1: model_list.0.litellm_params: is missing; add it"


def test_all_missing_variables_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"NO_HOST(.|\n)*NO_KEY"):
        loads(FAULTS["missing variables"][0], FILE)


def test_variables_are_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    monkeypatch.setenv("MY_PORT", "9000")
    config = loads(
        """
server: {port: "${MY_PORT}", host: "${MY_HOST:-::1}"}
keys: [{name: app, key: os.environ/MY_KEY}]
model_list:
  - model_name: a
    litellm_params:
      model: x-$${literal}
      api_key: os.environ/MY_KEY
      aws_secret_access_key: ${MY_KEY}
      rpm: 5
""",
        FILE,
    )
    assert (config.server.port, config.server.host) == (9000, "::1")
    assert config.model_list[0].litellm_params.model == "x-${literal}"
    assert config.model_list[0].litellm_params.options() == {
        "api_key": SECRET,
        "aws_secret_access_key": SECRET,
        "rpm": 5,
    }
    assert SECRET not in repr(config)
    assert SECRET not in str(config)


def test_secrets_stay_out_of_fault_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    with pytest.raises(ConfigError) as caught:
        loads("server: {port: os.environ/MY_KEY}\nkeys: os.environ/MY_KEY", FILE)
    assert SECRET not in str(caught.value)


def test_paths_are_relative_to_the_file() -> None:
    written = "policies: [a.yaml, ../b.yaml, /c.yaml]\nclassifiers: {packs: [mine]}"
    config = loads(f"{written}\nfeedback: {{cache: texts}}", FILE)
    folder = FILE.parent
    assert config.policies == (folder / "a.yaml", folder / "../b.yaml", Path("/c.yaml"))
    assert config.classifiers.packs == (folder / "mine",)
    assert config.feedback.cache == folder / "texts"


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_is_the_defaults(text: str) -> None:
    without = defaults()
    classifiers = without.classifiers
    corrected = FILE.parent / classifiers.corrected
    expected = without.model_copy(
        update={
            "ledger": without.ledger.placed(FILE.parent),
            "classifiers": classifiers.model_copy(update={"corrected": corrected}),
        }
    )
    assert loads(text, FILE) == expected


def test_defaults() -> None:
    config = defaults()
    assert [entry.model_name for entry in config.model_list] == ["default", "small-model"]
    assert {entry.litellm_params.model for entry in config.model_list} == {"doorman/echo"}
    assert [path.name for path in config.policies] == ["front-line.yaml"]
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8080)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.yaml")


def test_example_file_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    example = Path(__file__).parent.parent / "config.example.yaml"
    config = load(example)
    config.check_exposure()
    assert all(path.is_file() for path in config.policies)


def settings(model: type[BaseModel]) -> Iterator[str]:
    """The names of all settings, those of sections too."""
    for name, field in model.model_fields.items():
        yield name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings(field.annotation)


def test_example_file_names_every_setting() -> None:
    text = (Path(__file__).parent.parent / "config.example.yaml").read_text()
    assert [name for name in settings(Config) if f"{name}:" not in text] == []


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("[::1]", True), ("localhost", True),
        ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("example.com", False), ("", False),
    ],
)  # fmt: skip
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_without_keys_only_this_machine_is_served() -> None:
    open_to_all = loads("server: {host: 0.0.0.0}", FILE)
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0 without client keys.*add `keys:`"):
        open_to_all.check_exposure()
    loads("server: {host: 0.0.0.0}\nkeys: [{name: a, key: abcdefgh}]", FILE).check_exposure()

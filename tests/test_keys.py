"""Client keys through the real clients: what they may call, how much, and who may read what."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from gateway_kit import (
    WAIT,
    Door,
    ScriptedUpstream,
    StartGateway,
    chunk,
    completion,
    events,
    reply_body,
    respond,
    sleeping,
)

from proxy.cli import main

HELLO: Any = [{"role": "user", "content": "hello"}]
KEY = "dm-client-0123456789"
BLOCKING = """
attach: {keys: [nobody]}
rules: [{name: no-attacks, when: {guard: attack}, do: {block: "No."}}]
"""


def keys(*terms: str) -> str:
    """A config with one key per argument: its terms in YAML."""
    listed = "\n".join(
        f"- {{name: k{number}, key: {KEY}{number}{', ' + own if own else ''}}}"
        for number, own in enumerate(terms)
    )
    return f"keys:\n{listed}\n"


def ask(door: Door, number: int = 0, **options: Any) -> Any:
    client = door.client(api_key=f"{KEY}{number}", max_retries=0)
    return client.chat.completions.with_raw_response.create(
        **{"model": "default", "messages": HELLO, **options}
    )


def eventually(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not check():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def test_requests_per_minute(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    door = gateway("", keys("rpm: 2, tpm: 100000", ""))
    first = ask(door)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-reset-requests"].endswith("s")
    assert first.headers["x-ratelimit-limit-tokens"] == "100000"
    assert "x-ratelimit-reset-tokens" in first.headers
    ask(door)
    with pytest.raises(openai.RateLimitError) as caught:
        ask(door)
    answer = caught.value
    assert answer.code == "rate_limit_exceeded"
    assert "2 requests per minute" in answer.message
    assert 1 <= int(answer.response.headers["retry-after"]) <= 61
    assert answer.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert len(upstream.seen) == 2
    records = [door.records.next() for _ in range(3)]
    assert [(r.action, r.status, r.ended, r.key) for r in records[1:]] == [
        ("forward", 200, "complete", "k0"),
        ("error", 429, "rate_limit_exceeded", "k0"),
    ]
    assert "x-ratelimit-limit-requests" not in ask(door, 1).headers
    metrics = httpx.get(f"{door.url}/metrics", headers={"x-api-key": f"{KEY}1"}).text
    assert 'doorman_limited_total{key="k0",reason="requests"} 1.0' in metrics


def test_anthropics_client_reads_the_refusal(gateway: StartGateway) -> None:
    door = gateway("", keys("rpm: 1"))
    client = anthropic.Anthropic(base_url=door.url, api_key=f"{KEY}0", max_retries=0)
    asked: Any = {"model": "default", "max_tokens": 9, "messages": HELLO}
    client.messages.create(**asked)
    with pytest.raises(anthropic.RateLimitError) as caught:
        client.messages.create(**asked)
    assert caught.value.body["error"]["type"] == "rate_limit_error"  # type: ignore[index]
    with pytest.raises(anthropic.AuthenticationError):
        client.with_options(api_key="wrong").messages.create(**asked)


def test_the_upstreams_own_limits_are_passed_on_only_without_limits_here(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = respond(200, reply_body("ok"), {"x-ratelimit-remaining-tokens": "77"})
    door = gateway("", keys("rpm: 5", ""))
    assert "x-ratelimit-remaining-tokens" not in ask(door, 0).headers
    assert ask(door, 1).headers["x-ratelimit-remaining-tokens"] == "77"


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_count_as_they_were_really_used(
    gateway: StartGateway, upstream: ScriptedUpstream, stream: bool
) -> None:
    usage = {"prompt_tokens": 900, "completion_tokens": 200, "total_tokens": 1100}
    if stream:
        last = {**chunk({}), "choices": [], "usage": usage}
        upstream.script = events(chunk({"content": "ok"}), chunk({}, finish="stop"), last)
    door = gateway("", keys("tpm: 1000"))
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    first = ask(door, **options)
    assert (
        first.headers["x-ratelimit-remaining-tokens"] == "998"
    )  # "hello" is two tokens, estimated
    if stream:
        list(first.parse())
    with pytest.raises(openai.RateLimitError, match="1000 tokens per minute"):
        ask(door)
    assert len(upstream.seen) == 1


def test_a_request_over_the_limit_by_itself_is_not_tried_again(gateway: StartGateway) -> None:
    door = gateway("", keys("tpm: 10"))
    with pytest.raises(openai.RateLimitError, match="too large for this key") as caught:
        ask(door, messages=[{"role": "user", "content": "a" * 400}])
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in caught.value.response.headers
    record = door.records.next()
    assert (record.action, record.ended) == ("error", "rate_limit_exceeded")
    assert ask(door).headers["x-ratelimit-remaining-tokens"] == "8"  # nothing of it was counted


def test_a_place_is_given_back_by_whoever_leaves(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = sleeping(WAIT)
    door = gateway("", keys("max_parallel: 1"))
    impatient = door.client(api_key=f"{KEY}0", max_retries=0, timeout=0.5)
    with pytest.raises(openai.APITimeoutError):
        impatient.chat.completions.create(model="default", messages=HELLO)
    eventually(lambda: not upstream.gone.empty())
    upstream.script = completion("ok")
    for _ in range(5):  # one after the other is never too many
        ask(door)


def test_a_second_request_at_once_is_refused(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = events(chunk({"content": "a" * 50}), WAIT)
    door = gateway("", keys("max_parallel: 1"))
    client = door.client(api_key=f"{KEY}0", max_retries=0)
    stream = client.chat.completions.create(model="default", messages=HELLO, stream=True)
    with pytest.raises(openai.RateLimitError, match="1 requests at once"):
        ask(door)
    stream.close()
    upstream.script = completion("ok")

    def again() -> bool:
        try:
            return bool(ask(door))
        except openai.RateLimitError:
            return False

    eventually(again)


def test_a_budget_is_spent_by_the_model_that_answered(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    # gpt-4o: 1000 prompt and 100 completion tokens are 0.0035 dollars.
    door = gateway("", keys("budget_usd: 0.005/day"))
    ask(door)
    ask(door)
    with pytest.raises(openai.RateLimitError) as caught:
        ask(door)
    assert caught.value.code == "insufficient_quota"
    assert "renewed at 20" in caught.value.message
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert int(caught.value.response.headers["retry-after"]) <= 86_400
    assert len(upstream.seen) == 2


def test_models_that_a_key_may_not_call_do_not_exist(gateway: StartGateway) -> None:
    door = gateway("", keys("models: [sm*]", "models: []"))
    client = door.client(api_key=f"{KEY}0", max_retries=0)
    listed = {model.id for model in client.models.list()}
    assert "small" in listed
    assert "default" not in listed
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("default")
    ask(door, 0, model="small")
    with pytest.raises(openai.NotFoundError, match="there are: small") as caught:
        ask(door, 0)
    with pytest.raises(openai.NotFoundError) as unknown:
        ask(door, 0, model="no-such")
    assert caught.value.body == unknown.value.body
    ask(door, 1)


def test_a_key_adds_policies_and_takes_none_away(gateway: StartGateway) -> None:
    attack = [{"role": "user", "content": "an attack"}]
    door = gateway(BLOCKING, keys("policies: [test]", "policies: [missing]", ""))
    assert ask(door, 0, messages=attack).parse().choices[0].message.content == "No."
    assert ask(door, 2, messages=attack).parse().choices[0].message.content == "ok"
    with pytest.raises(openai.InternalServerError) as caught:
        ask(door, 1)
    assert caught.value.code == "policy_missing"
    everybody = gateway(BLOCKING.replace("nobody", "'*'"), keys("policies: []"))
    assert ask(everybody, messages=attack).parse().choices[0].message.content == "No."


def test_expired_and_unknown_keys(gateway: StartGateway) -> None:
    door = gateway("", keys("expires: 2020-01-01", "expires: 2999-01-01"))
    with pytest.raises(openai.AuthenticationError, match="has expired") as caught:
        ask(door, 0)
    assert caught.value.code == "expired_api_key"
    with pytest.raises(openai.AuthenticationError, match="Unknown client key") as unknown:
        ask(door, 7)
    assert unknown.value.code == "invalid_api_key"
    ask(door, 1)


def status(door: Door, path: str, number: int) -> int:
    return httpx.get(f"{door.url}{path}", headers={"x-api-key": f"{KEY}{number}"}).status_code


def test_metrics_are_the_admins_where_there_is_one(gateway: StartGateway) -> None:
    door = gateway("", keys("admin: true", "", "admin: true, models: [default]"))
    assert [status(door, "/metrics", number) for number in range(3)] == [200, 403, 200]
    with pytest.raises(openai.PermissionDeniedError) as caught:
        ask(door, 0)
    assert caught.value.code == "forbidden"
    ask(door, 1)
    ask(door, 2)
    assert status(gateway("", keys("")), "/metrics", 0) == 200


def test_a_flood_is_counted_in_full_and_recorded_in_part(gateway: StartGateway) -> None:
    door = gateway("", keys("rpm: 1", ""))
    body = b"not even JSON"
    headers = {"x-api-key": f"{KEY}0", "content-type": "application/json"}
    with httpx.Client() as client:
        codes = [
            client.post(
                f"{door.url}/v1/chat/completions", content=body, headers=headers
            ).status_code
            for _ in range(100)
        ]
    assert codes == [400] + [429] * 99
    assert 'reason="requests"} 99.0' in door.app.state.gateway.metrics.text().decode()
    recorded = []
    ask(door, 1)
    while (record := door.records.next()).key != "k1":
        recorded.append(record)
    assert len(recorded) == 60


Cli = Callable[..., Any]


@pytest.fixture
def stored(ledger_url: str) -> str:
    """Settings of a new database."""
    return f"ledger: {{url: '{ledger_url}'}}\n"


@pytest.fixture
def cli(stored: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """What a command prints, as JSON; its config names the same database as the gateway's."""
    config = tmp_path / "keys.yaml"
    config.write_text(
        f"{stored}model_list:\n- model_name: default\n"
        "  litellm_params: {model: openai/gpt-4o, api_key: os.environ/NOT_SET}\n"
    )

    def run(*arguments: str) -> Any:
        assert main(["keys", *arguments, "-c", str(config)]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_a_running_gateway_follows_the_command_line(
    gateway: StartGateway, tmp_path: Path, stored: str, cli: Cli
) -> None:
    door = gateway("", stored)

    def works(key: str) -> bool:
        try:
            client = door.client(api_key=key, max_retries=0)
            client.chat.completions.create(model="default", messages=HELLO)
        except openai.AuthenticationError:
            return False
        return True

    assert works("anything")  # no key yet: nobody needs one
    key = cli("create", "app", "--rpm", "1000")["key"]
    assert key.startswith("dm-")
    assert len(key) == 46
    eventually(lambda: works(key) and not works("anything"))
    for file in (tmp_path / "data").glob("doorman.db*"):
        assert key.encode() not in file.read_bytes()
    new = cli("rotate", "app", "--grace", "600")["key"]
    eventually(lambda: works(new))
    assert works(key)
    last = cli("rotate", "app")["key"]
    eventually(lambda: works(last) and not works(new))
    shown = cli("show", "app")
    assert [row["status"].split()[0] for row in shown] == ["counts", "rotated", "active"]
    assert [row["terms"] for row in shown] == [{"rpm": 1000}] * 3
    assert last.startswith(shown[2]["key"].removesuffix("..."))
    cli("revoke", "app")
    eventually(lambda: not works(last) and not works(key))
    assert not works("anything")  # with the last key gone the door stays shut
    with pytest.raises(openai.AuthenticationError) as revoked:
        door.client(api_key=last).models.list()
    with pytest.raises(openai.AuthenticationError) as unknown:
        door.client(api_key="dm-unknown").models.list()
    assert revoked.value.body == unknown.value.body
    audit = cli("audit")
    assert [row["action"] for row in audit] == ["revoke", "rotate", "rotate", "create"]
    assert all(row["actor"] and row["name"] == "app" for row in audit)
    assert not any(secret in str(audit) for secret in (key, new, last))


def test_a_budget_outlives_the_gateway(stored: str, gateway: StartGateway, cli: Cli) -> None:
    key = cli("create", "app", "--budget-usd", "0.005/month")["key"]
    door = gateway("", stored)
    client = door.client(api_key=key, max_retries=0)
    client.chat.completions.create(model="default", messages=HELLO)
    client.chat.completions.create(model="default", messages=HELLO)
    door.server.should_exit = True
    spent = "spent_usd"
    eventually(lambda: sum(cli("show", "app")[0][spent].values()) > 0.006)
    again = gateway("", stored).client(api_key=key, max_retries=0)
    with pytest.raises(openai.RateLimitError) as caught:
        again.chat.completions.create(model="default", messages=HELLO)
    assert caught.value.code == "insufficient_quota"


REFUSED: list[tuple[tuple[str, ...], str]] = [
    (("create", "a b"), "the name 'a b' must be"),
    (("create", "a", "--rpm", "0"), "--rpm"),
    (("create", "a", "--budget-usd", "5"), "5/day or 100/month"),
    (
        ("create", "a", "--expires", "tomorrow"),
        "--expires: 'tomorrow' is no day; write one such as 2",
    ),
    (("create", "a", "--expires", "2027-13-01"), "--expires: '2027-13-01' is no day"),
    (("create", "a", "--expires", "1234"), "--expires: '1234' is no day"),
    (("create", "a", "--policies", "none"), "no policy 'none'"),
    (("rotate", "a", "--grace", "-1"), "--grace"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED)
def test_mistakes_are_told(
    arguments: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("ledger: {url: 'sqlite:///keys.db'}\n")
    assert main(["keys", *arguments, "-c", str(config)]) == 2
    assert said in capsys.readouterr().err


def test_a_name_counts_once_and_none_is_made_up(
    stored: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(stored)
    run = ["-c", str(config)]
    assert main(["keys", "create", "a", *run]) == 0
    assert main(["keys", "create", "a", *run]) == 2
    assert main(["keys", "revoke", "b", *run]) == 1
    assert main(["keys", "show", "b", *run]) == 1
    assert main(["keys", "revoke", "a", *run]) == 0
    assert main(["keys", "create", "a", *run]) == 0  # the name is free again
    config.write_text("ledger: {url: none}\n")
    assert main(["keys", "list", *run]) == 2
    assert "ledger.url" in capsys.readouterr().err

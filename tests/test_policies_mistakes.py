"""What is said about every mistake in a policy file: its line, the fault and the fix."""

from __future__ import annotations

import pytest
from policies_fakes import HEAD, INFOS, Info, policy

from policies.schema import PolicyError, bind, loads

RULE = "name: p\nrules:\n  - name: a\n    when: {spam: spam}\n"
DO = RULE + "    do: "
TESTS = DO + "flag\ntests:\n"


def when(condition: str) -> str:
    return f"name: p\nrules:\n  - {{name: a, when: {condition}, do: flag}}"


MISTAKES = [
    # (text, line, words of the message)
    ("", 1, ["empty", "needs at least 'name' and 'rules'"]),
    ("- a", 1, ["['a'] is no policy", "begin with name: and rules:"]),
    ("just words", 1, ["'just words' is no policy"]),
    ("name: p", 1, ["no 'rules'; add it"]),
    ("name: p\nrules: []", 2, ["the list of rules is empty"]),
    ("name: p\nrules: {}", 2, ["rules must be a list, not {}"]),
    ("name: p\nrules:\n  - 3", 3, ["is 3 and must be a mapping"]),
    ("name: p\nrules: [", 2, ["not valid YAML", "check indentation"]),
    ("name: p\n\tx: y", 2, ["not valid YAML"]),
    ("name: p\nname: q", 2, ["'name' is written twice; remove one"]),
    ("name: p\n3: q", 2, ["the key 3 is no text; put it in quotes"]),
    ("name: p\n? [a]\n: q", 2, ["is no text"]),
    ("name: !!python/name:os.system p", 1, ["the tag", "is not allowed; remove it"]),
    ("name: !x p", 1, ["the tag '!x' is not allowed"]),
    ("a: &a {b: c}\n<<: *a", 2, ["'<<' merges are not read"]),
    ("name: a\n---\nname: b", 2, ["not valid YAML", "another document"]),
    ("name: a\nversion: \x00", 2, ["control character stands here; remove it"]),
    ('name: a\nrules: [{do: {block: "\\ud800"}}]', 2, ["surrogates", "no character; remove it"]),
    ("a: " + "[" * 60 + "]" * 60, 1, ["nested too deeply"]),
    ("a: &a [*a]", 1, ["nested too deeply"]),
    (
        "a: &a [x, x, x, x]\n"
        + "".join(
            f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n"
            for a, b in zip("abcdefg", "bcdefgh", strict=True)
        ),
        1,
        ["more than 50000 values; split the policy"],
    ),
    ("nmae: p\nrules: []", 1, ["unknown key 'nmae'; did you mean 'name'? Keys are: name, version"]),
    (DO + "flag\n    foo: 1", 6, ["unknown key 'foo'", "Keys are: name, description"]),
    ("name: 3\nrules: []", 1, ["name of a policy must be text, not 3; put it in quotes"]),
    ("name: 'a b'\nrules: []", 1, ["'a b'", "use up to 64 letters"]),
    ("name: p\nversion: 1.10\nrules: []", 2, ["version 1.1 is neither", "put it in quotes"]),
    ("name: p\nversion: true\nrules: []", 2, ["version True is neither"]),
    ("name: p\nversion: a@b\nrules: []", 2, ["version 'a@b' must be"]),
    ("name: p\non_error: alow\nrules: []", 2, ["'alow' is none of", "did you mean 'allow'?"]),
    ("name: p\nattach: {model: x}\nrules: []", 2, ["'model'; did you mean 'models'?"]),
    ("name: p\nattach: {models: []}\nrules: []", 2, ["the list of patterns is empty"]),
    (DO + "flag\n    mode: shadw", 6, ["'shadw' is none of the modes; did you mean 'shadow'?"]),
    (
        DO + "flag\n    check: [inputs]",
        6,
        ["'inputs' is none of the stages; did you mean 'input'?"],
    ),
    (DO + "flag\n    check: []", 6, ["the list of stages is empty"]),
    (DO + "flag\n    roles: [users]", 6, ["did you mean 'user'? Roles are: system, developer"]),
    (DO + "flag\n    turns: first", 6, ["'first' is none of the turns"]),
    (DO + "{blok: x}", 5, ["unknown action 'blok'; did you mean 'block'? Actions are: allow"]),
    (DO + "drop", 5, ["unknown action 'drop'"]),
    (DO + "[block]", 5, ["['block'] is no action"]),
    (DO + "block", 5, ["block says nothing", "block: text"]),
    (DO + "{block: ''}", 5, ["the message of a block is empty"]),
    (DO + "{block: 3}", 5, ["must be text, not 3"]),
    (
        RULE + "    do:\n      block: x\n      flag: y",
        7,
        ["a rule has one action, here: block, flag"],
    ),
    (
        RULE + "    do:\n      block:\n        message: x\n        as: eror",
        8,
        ["'eror'", "did you mean 'error'?"],
    ),
    (DO + "{block: {as: error}}", 5, ["has no 'message'; add it"]),
    (DO + "{block: {mesage: x}}", 5, ["unknown key 'mesage'; did you mean 'message'?"]),
    (DO + "{allow: x}", 5, ["allow takes no value, not 'x'; write do: allow"]),
    (DO + "{route: [a]}", 5, ["the model alias must be text"]),
    (DO + "{flag: 'a b'}", 5, ["a tag is 'a b'"]),
    (DO + "{answer: {}}", 5, ["answer has no text"]),
    (DO + "{answer: 3}", 5, ["an answer must be text, not 3"]),
    (DO + "{answer: {spam: ''}}", 5, ["an answer is empty"]),
    (DO + "{answer: {spma: x}}", 5, ["'spma' is never given; did you mean 'spam'?"]),
    (DO + "{redact: ''}", 5, ["the placeholder is empty"]),
    (DO + "{redact: '<{lable}>'}", 5, ["{lable} in '<{lable}>' means nothing; use {label}"]),
    (DO + "{redact: {as: '<x>', restore: true}}", 5, ["two values would look the same; add {n}"]),
    (DO + "{redact: '{n}{n}'}", 5, ["has {n} more than once; keep one"]),
    (DO + "{redact: {as: 'x{n}', restore: true}}", 5, ["could run into the text around it"]),
    (DO + "{redact: {as: '<a>{n}>', restore: true}}", 5, ["one pair of brackets"]),
    (DO + "{redact: {restore: 7}}", 5, ["is 7 and must be true or false"]),
    (DO + "{route: m}\n    check: [output]", 6, ["cannot route on output", "check input only"]),
    (DO + "{answer: m}\n    check: [input, output]", 6, ["cannot answer on output"]),
    (DO + "{answer: m}\n    turns: all", 6, ["cannot answer for old turns; leave turns out"]),
    (DO + "{answer: m}\n    roles: [tool]", 6, ["can only answer the user; add user to roles"]),
    (DO + "flag\n    check: [output]\n    roles: [user]", 7, ["output is always the assistant's"]),
    (when("spam"), 3, ["'spam' is no condition"]),
    (when("{}"), 3, ["exactly one classifier, here: none"]),
    (
        "name: p\nrules:\n  - name: a\n    when:\n      spam: spam\n      pii: EMAIL\n    do: flag",
        6,
        ["exactly one classifier, here: spam, pii; combine several with all or any"],
    ),
    (
        when("{spam: spam, at: 0.5, min_recall: 0.5}"),
        3,
        ["at most one operating point, here: at, min_recall"],
    ),
    (when("{spam: []}"), 3, ["the list of labels is empty"]),
    (when("{spam: [spam, spam]}"), 3, ["'spam' stands twice"]),
    (when("{spam: yes}"), 3, ["a label must be text, not True; put it in quotes"]),
    (
        when("{spam: spam, at: 5}"),
        3,
        ["5 is not over 0 and up to 1; write a percentage such as 5%"],
    ),
    (when("{spam: spam, at: 0}"), 3, ["0 is not over 0"]),
    (when("{spam: spam, at: .nan}"), 3, ["nan is not over 0"]),
    (when("{spam: spam, at: high}"), 3, ["'high' is no share"]),
    (when("{spam: spam, at: true}"), 3, ["True is no share"]),
    (when("{spam: spam, max_false_positive_rate: 100%}"), 3, ["would allow every text"]),
    (when("{spam: spam, att: 1}"), 3, ["exactly one classifier, here: spam, att"]),
    (when("{all: []}"), 3, ["the list of conditions is empty"]),
    (when("{any: {spam: spam}}"), 3, ["conditions must be a list"]),
    (when("{not: [x]}"), 3, ["['x'] is no condition"]),
    (when("{not: {spam: spam}, at: 0.5}"), 3, ["unknown key 'at'"]),
    (
        "name: p\nrules:\n  - name: a\n    when:\n      all:\n        - spam: spam\n"
        "        - any:\n          - pii: [3]\n    do: flag",
        8,
        ["a label must be text, not 3"],
    ),
    (
        "name: p\nrules:\n  - {name: a, when: {not: {spam: spam}}, do: {answer: {spam: x}}}",
        3,
        ["is never given", "there are no labels"],
    ),
    (
        "name: p\nrules:\n  - {name: a, when: {intent: [greeting, farewell]}, do: {answer: {greeting: x}}}",
        3,
        ["there is no answer for farewell; add one for each label"],
    ),
    (
        DO + "flag\n  - {name: a, when: {spam: spam}, do: flag}",
        6,
        ["two rules are named 'a'; rename one"],
    ),
    (DO + "flag\ntests: []", 6, ["the list of tests is empty"]),
    (TESTS + "  - {user: x, expect: blocked}", 7, ["did you mean 'block'?"]),
    (TESTS + "  - {user: x}", 7, ["has no 'expect'; add it"]),
    (TESTS + "  - {expect: block}", 7, ["a test has no text; add user"]),
    (TESTS + "  - {user: 7, expect: block}", 7, ["is 7 and must be text; put it in quotes"]),
    (
        TESTS + "  - {user: x, expect: block}\n  - {user: x, expect: block, rule: b}",
        8,
        ["unknown rule 'b'; Rules are: a"],
    ),
    (
        TESTS + "  - {user: x, messages: [{role: user, content: x}], expect: block}",
        7,
        ["either messages or single texts"],
    ),
    (
        TESTS + "  - {messages: [{role: usr, content: x}], expect: block}",
        7,
        ["did you mean 'user'?"],
    ),
    (TESTS + "  - {messages: [{role: user, content: []}], expect: block}", 7, ["content is empty"]),
]


@pytest.mark.parametrize(
    ("text", "optional"),
    [
        ("name: p\nrules: []", False),
        (when("{all: []}"), False),
        (when("{spam: []}"), False),
        (DO + "flag\n    check: []", True),
        (DO + "flag\ntests: []", True),
    ],
)
def test_an_empty_list_can_be_left_out_where_its_key_can(text: str, optional: bool) -> None:
    with pytest.raises(PolicyError) as caught:
        loads(text)
    assert str(caught.value).endswith("leave the key out") is optional


@pytest.mark.parametrize(("text", "line", "words"), MISTAKES)
def test_every_mistake_is_told_with_its_line(text: str, line: int, words: list[str]) -> None:
    with pytest.raises(PolicyError) as caught:
        loads(text, "dir/p.yaml")
    message = next((p for p in caught.value.problems if words[0] in p), str(caught.value))
    assert message.startswith(f"dir/p.yaml:{line}: ")
    for word in words:
        assert word in message


def test_all_mistakes_are_told_at_once_in_file_order() -> None:
    text = DO + "blok\n    mode: on\n    turns: x\nversion: 1.5\n"
    with pytest.raises(PolicyError) as caught:
        loads(text, "p")
    assert [p.split(":")[1] for p in caught.value.problems] == ["5", "6", "7", "8"]


def test_very_many_mistakes_are_counted() -> None:
    rules = "".join(f"  - {{name: r{i}, when: x, do: flag}}\n" for i in range(30))
    with pytest.raises(PolicyError) as caught:
        loads("name: p\nrules:\n" + rules, "p")
    assert len(caught.value.problems) == 21
    assert caught.value.problems[-1] == "p: 10 more"


@pytest.mark.parametrize(
    ("rule", "line", "words"),
    [
        (
            "when: {jailbrake: jailbreak}, do: flag",
            4,
            ["unknown classifier 'jailbrake'; did you mean 'jailbreak'?"],
        ),
        (
            "when: {safety: violense}, do: flag",
            4,
            ["no label 'violense'; did you mean 'violence'?", "Labels of safety are: harassment"],
        ),
        ("when: {intent: goodbye}, do: flag", 4, ["no label 'goodbye'", "greeting, farewell"]),
        (
            "when: {safety: hate, max_false_positive_rate: 0.1%}, do: flag",
            4,
            ["classifier 'safety': 0.10% needs 1234 more benign texts"],
        ),
        (
            "when: {safety: hate}, do: redact",
            4,
            ["cannot redact: safety finds no stretches of text"],
        ),
        ("when: {not: {pii: EMAIL}}, do: redact", 4, ["cannot redact: pii finds no stretches"]),
        (
            "when: {any: [{pii: EMAIL}, {spam: spam}]}, do: redact",
            4,
            ["could fire with nothing to redact", "a part of all"],
        ),
        (
            "when: {not: {all: [{pii: EMAIL}, {not: {pii: PHONE}}]}}, do: redact",
            4,
            ["could fire with nothing"],
        ),
    ],
)
def test_binding_refuses(rule: str, line: int, words: list[str]) -> None:
    with pytest.raises(PolicyError) as caught:
        policy(f"  - {{name: a, {rule}}}")
    for word in words:
        assert word in str(caught.value)
    assert str(caught.value).startswith(f"p.yaml:{line}: ")


@pytest.mark.parametrize(
    "when",
    [
        "{pii: EMAIL}",
        "{all: [{pii: EMAIL}, {spam: spam}]}",
        "{any: [{pii: EMAIL}, {all: [{spam: spam}, {pii: PHONE}]}]}",
        "{not: {not: {pii: EMAIL}}}",
        "{not: {all: [{not: {pii: EMAIL}}, {not: {pii: PHONE}}]}}",
        "{not: {any: [{not: {pii: EMAIL}}, {spam: spam}]}}",
    ],
)
def test_binding_accepts_redaction_where_a_stretch_is_certain(when: str) -> None:
    bound = policy(f"  - {{name: a, when: {when}, do: redact}}")
    assert "pii@v1" in bound.classifiers


def test_binding_tells_every_mistake_with_its_own_line() -> None:
    rules = """
  - name: a
    when:
      any:
        - {safety: hat}
        - not: {topc: math}
    do: flag
  - {name: b, when: {spam: spam}, do: redact}
"""
    with pytest.raises(PolicyError) as caught:
        policy(rules)
    assert [p.split(":")[1] for p in caught.value.problems] == ["8", "9", "11"]


def test_binding_refuses_reserved_names_and_bracketed_labels() -> None:
    loaded = loads(
        HEAD + "rules:\n  - {name: a, when: {pii: EMAIL}, do: {redact: {restore: true}}}"
    )
    with pytest.raises(PolicyError, match="a classifier is named 'any', a word of the policy"):
        bind(loaded, {**INFOS, "any": Info("any", ("x",))})
    odd = loads(HEAD + "rules:\n  - {name: a, when: {tags: '<b>'}, do: {redact: {restore: true}}}")
    with pytest.raises(PolicyError, match="cannot restore the label '<b>'"):
        bind(odd, {"tags": Info("tags", ("<b>",), kind="spans")})

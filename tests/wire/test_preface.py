"""What nodes say before TLS, and first inside it: who fits, and what the others are told."""

from __future__ import annotations

import pytest

from leoronic.core.view import About
from leoronic.errors import ProtocolError
from leoronic.wire.hello import COPIED, OTHER, OWN, Hello, codec, is_copy_of, judge, refused_copy
from leoronic.wire.preface import (
    LINE_BYTES_MAX,
    Agreed,
    Mismatch,
    Preface,
    agree,
    decode_preface,
)

OLD, NEW, ELSE = "0a0a0a0a", "1b1b1b1b", "2c2c2c2c"


def both(one: Preface, two: Preface) -> Agreed | Mismatch:
    """What follows, if both sides conclude the same; through the real lines."""
    first = agree(one, decode_preface(two.encode().rstrip(b"\n")))
    second = agree(two, decode_preface(one.encode().rstrip(b"\n")))
    if isinstance(first, Agreed):
        assert first == second
    else:
        assert isinstance(second, Mismatch)
    return first


@pytest.mark.parametrize(
    ("one", "two", "protocol"),
    [((1, 1), (1, 1), 1), ((1, 2), (1, 1), 1), ((1, 3), (2, 5), 3), ((2, 2), (1, 2), 2)],
)
def test_the_highest_common_version(
    one: tuple[int, int], two: tuple[int, int], protocol: int
) -> None:
    """Both find the same."""
    found = both(Preface((OLD,), "0.3", *one), Preface((OLD,), "0.4", *two))
    assert Agreed(protocol, OLD) == found


def test_which_node_is_to_be_updated() -> None:
    """The older of the two, as seen from either side."""
    old, new = Preface((OLD,), "0.3", 1, 1), Preface((OLD,), "0.9", 2, 3)
    assert Mismatch(
        "it runs leoronic 0.9 and speaks protocol 2 to 3, this node runs 0.3 and speaks 1: "
        "update leoronic on this node"
    ) == agree(old, new)
    assert Mismatch(
        "it runs leoronic 0.3 and speaks protocol 1, this node runs 0.9 and speaks 2 to 3: "
        "update leoronic on that node"
    ) == agree(new, old)


def test_another_cluster() -> None:
    """It is named, with what to do, even if the version would not fit either."""
    found = both(Preface((OLD,), "0.3", 1, 1), Preface((ELSE, NEW), "0.9", 2, 3))
    assert (
        Mismatch(
            "it belongs to another cluster (its cookie is 2c2c2c2c or 1b1b1b1b, ours 0a0a0a0a): to "
            "make them one, run `leoronic join` on a node of the cluster that stays, and paste the "
            "line that it prints on the other"
        )
        == found
    )


@pytest.mark.parametrize(
    ("one", "two", "cluster"),
    [
        ((OLD,), (NEW, OLD), OLD),
        ((NEW, OLD), (NEW, OLD), NEW),
        ((NEW, OLD), (OLD, NEW), OLD),
        ((ELSE, NEW), (OLD, NEW), NEW),
    ],
)
def test_a_common_cookie(one: tuple[str, ...], two: tuple[str, ...], cluster: str) -> None:
    """Both choose the same, a current one first."""
    assert Agreed(1, cluster) == both(Preface(one, "0.3"), Preface(two, "0.3"))


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1",
        b"",
        b"\xff\xfe",
        b"leoronic",
        b"leoronic protocol=1 clusters=0a0a0a0a version=1",
        b"leoronic protocol=2-1 clusters=0a0a0a0a version=1",
        b"leoronic protocol=0-1 clusters=0a0a0a0a version=1",
        b"leoronic protocol=1-1 clusters= version=1",
        b"leoronic protocol=1-1 clusters=0A0A0A0A version=1",
        b"leoronic protocol=1-1 clusters=0a0a0a0a version=\x1b[31m",
        b"leoronic protocol=1-1 clusters=0a0a0a0a version=1 x=" + b"x" * LINE_BYTES_MAX,
    ],
)
def test_what_is_no_preface(line: bytes) -> None:
    """Strangers are told apart from nodes that do not fit."""
    with pytest.raises(ProtocolError, match=r"what speaks there|which cannot be"):
        decode_preface(line)


def test_whom_a_connection_is_for() -> None:
    """A process of that node, by its id."""
    ours = Preface((OLD,), "1", purpose="call", party="Qk3vT0pXw2Lm.7.1")
    assert ours == decode_preface(ours.encode().rstrip(b"\n"))


@pytest.mark.parametrize("party", ["../x", ".x", "x" * 81, "a/b", "a\0"])
def test_what_is_no_id_of_a_party(party: str) -> None:
    """It becomes the name of a file."""
    with pytest.raises(ProtocolError, match="damaged greeting"):
        decode_preface(f"leoronic protocol=1-1 clusters={OLD} version=1 party={party}".encode())


def test_what_a_newer_version_adds() -> None:
    """Unknown words are ignored."""
    line = b"leoronic colour=red protocol=1-2 clusters=0a0a0a0a flag version=9\r"
    assert Preface((OLD,), "9", 1, 2) == decode_preface(line)


def hello(node: str = "aaa", life: int = 1, protocol: int = 1, highest: int = 1) -> Hello:
    about = About(name=f"name-{node}", version="0.3", life=life)
    return Hello(node, about, protocol, 1, highest)


def test_a_hello_that_is_fine() -> None:
    """Nothing to say; it survives the journey."""
    theirs = codec.decode(codec.encode(hello("bbb")))
    assert hello("bbb") == theirs
    assert judge(theirs, hello(), "bbb") is None


def test_a_name_that_the_certificate_does_not_bear_out() -> None:
    """The connection is refused."""
    refused = judge(hello("bbb"), hello(), "ccc")
    assert refused is not None
    assert ("you say that you are bbb, your certificate says ccc", OTHER) == (
        refused.reason,
        refused.code,
    )
    assert judge(hello("B/b"), hello(), "B/b") is not None


@pytest.mark.parametrize("theirs", [hello("bbb", protocol=2), hello("bbb", highest=2)])
def test_a_version_that_was_tampered_with(theirs: Hello) -> None:
    """What was said in the clear must agree with what is said in TLS."""
    refused = judge(theirs, hello(highest=2), "bbb")
    assert (refused is None) == (theirs.protocol == 1 and theirs.highest == 1)


def test_both_could_speak_a_higher_version() -> None:
    """Then somebody between them has lowered it."""
    refused = judge(hello("bbb", highest=2), hello(highest=2), "bbb")
    assert refused is not None
    assert "somebody on the way" in refused.reason


def test_this_node_itself_and_its_copies() -> None:
    """The same life is ours; of two lives, the later one is the copy."""
    refused = judge(hello(life=1), hello(life=1), "aaa")
    assert refused is not None
    assert OWN == refused.code
    assert not is_copy_of(hello(life=1), hello(life=1))
    refused = judge(hello(life=2), hello(life=1), "aaa")
    assert refused_copy(hello()) == refused
    assert refused is not None
    assert COPIED == refused.code
    assert is_copy_of(hello(life=2), hello(life=1))
    assert not is_copy_of(hello(life=2), hello("bbb", life=1))


def test_what_a_connection_is_for() -> None:
    """The word comes last, is left out where there is none, and must look like one."""
    ours = Preface((OLD,), "0.3", purpose="serve-files")
    assert ours.encode().endswith(b" version=0.3 for=serve-files\n")
    assert ours == decode_preface(ours.encode())
    assert b"for=" not in Preface((OLD,), "0.3").encode()
    with pytest.raises(ProtocolError, match="damaged"):
        decode_preface(b"leoronic protocol=1-1 clusters=0a0a0a0a version=1 for=A!")

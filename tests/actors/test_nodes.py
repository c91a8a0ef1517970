"""Names to nodes, and nodes to names."""

from __future__ import annotations

import pytest

from leoronic.actors import nodes as nodes_module
from leoronic.actors.nodes import Nodes
from leoronic.core.view import DOWN, LEFT, SUSPECT, Member
from leoronic.errors import Ambiguous, LeoronicError, NotFound, Unavailable
from tests.actors.peered import member, view


def seeing(*members: Member) -> Nodes:
    """What node `me` knows, which is called `here`."""
    nodes = Nodes(lambda: "me", "here")
    nodes.see(view("me", member("me", "here"), *members))
    return nodes


def test_before_membership_has_told() -> None:
    """There is this node alone."""
    nodes = Nodes(lambda: "me", "here")
    assert ({"me": "here"}, {"me": None}, ["me"], []) == (
        nodes.names(),
        nodes.members(),
        nodes.alive(),
        nodes.others(),
    )
    assert ("me", "me") == (nodes.find(""), nodes.owner_of("gone"))


@pytest.mark.parametrize("ref", ["attic", "abcdefghij", "abc", "a"])
def test_a_node_is_found(ref: str) -> None:
    """By its name, its id, or a beginning of that."""
    nodes = seeing(member("abcdefghij", "attic"), member("xyzxyzxyzx", "cellar"))
    assert "abcdefghij" == nodes.find(ref)


@pytest.mark.parametrize("ref", ["", "me", "here", "m"])
def test_this_node_is_found(ref: str) -> None:
    """Nothing said means the node that is asked."""
    assert "me" == seeing(member("other")).find(ref)


def test_a_name_comes_before_a_beginning() -> None:
    """A node may be called as another's id begins."""
    nodes = seeing(member("abc", "x"), member("xyz", "ab"))
    assert ("xyz", "abc") == (nodes.find("ab"), nodes.find("abc"))


@pytest.mark.parametrize(
    ("ref", "error", "words"),
    [
        ("nobody", NotFound, "there is no node 'nobody'; there are: attic, here"),
        ("twin", Ambiguous, r"twin fits several nodes \(t1, t2\): say which by its id"),
        ("t", Ambiguous, "fits several nodes"),
    ],
)
def test_a_node_is_not_found(ref: str, error: type[LeoronicError], words: str) -> None:
    """What there is, or which there are, is said."""
    twins = member("t1", "twin", DOWN), member("t2", "twin", DOWN)
    with pytest.raises(error, match=words):
        seeing(member("abc", "attic"), *twins).find(ref)


def test_a_node_that_came_back_as_another() -> None:
    """Its name means the one that is there; the past one has its id beside the name."""
    nodes = seeing(member("old", "attic", LEFT), member("new", "attic"))
    assert ("new", "old", "old") == (
        nodes.find("attic"),
        nodes.find("attic (old)"),
        nodes.find("old"),
    )
    assert ("attic", "attic (old)") == (nodes.name("new"), nodes.name("old"))


def test_two_of_one_name() -> None:
    """No two are shown alike."""
    nodes = seeing(member("a", "twin"), member("b", "twin", SUSPECT))
    assert {"a": "twin (a)", "b": "twin (b)", "me": "here"} == nodes.names()


def test_names_outlive_their_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ran on a node that is long gone is still told by its name; the newest so many."""
    monkeypatch.setattr(nodes_module, "NAMES_MAX", 3)
    nodes = seeing(member("a"), member("b"))
    nodes.see(view("me", member("me", "here")))
    assert "A" == nodes.name("a")
    nodes.see(view("me", member("me", "here"), member("c")))
    assert ("a", "B", "C") == (nodes.name("a"), nodes.name("b"), nodes.name("c"))


@pytest.mark.parametrize(
    ("state", "words"), [(DOWN, r"^A is down \(why\)$"), (LEFT, r"^A has left \(why\): start it")]
)
def test_why_a_node_is_gone(state: str, words: str) -> None:
    """With the reason that membership gives."""
    with pytest.raises(Unavailable, match=words):
        seeing(member("a", state=state, reason="why")).check_there("a")


def test_who_counts_as_there() -> None:
    """Who is suspected does; who is not known does not."""
    nodes = seeing(member("a", state=SUSPECT), member("b", state=DOWN))
    assert ("", "", ["a", "me"]) == (nodes.why_gone("a"), nodes.why_gone("me"), nodes.alive())
    assert "is not known here" in nodes.why_gone("zzz")


def test_the_heir_of_a_node() -> None:
    """The next that is there and has caught up."""
    nodes = seeing(member("a", state=DOWN), member("b", ready=False), member("c"))
    assert ("c", "c", "me") == (nodes.owner_of("a"), nodes.owner_of("b"), nodes.owner_of("me"))

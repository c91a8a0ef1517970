"""Whom a node asks for what it lacks, where some of the others are no help."""

from __future__ import annotations

import pytest

from leoronic.core.bodies import Malformed, check_page
from leoronic.core.peer import Entries
from tests.core.mesh import Mesh


def test_several_that_never_answer_do_not_keep_others_from_being_asked() -> None:
    """Each is asked in vain once, for 3 s; then comes the one that answers."""
    mesh = Mesh("abce")
    mesh.run(3.3)
    mesh.nodes["e"].write(100)
    mesh.run(1)
    mesh.kill("e", told=True)
    newcomer = mesh.start("d")
    mesh.run(0.0005)
    for node in "ab":
        mesh.nodes[node].paused_until = mesh.now + 60
    mesh.run(5.9)
    assert {} == newcomer.journal.have
    mesh.run(4)
    assert {"e": 100} == newcomer.journal.have


def test_a_page_without_entries_is_the_last() -> None:
    """Else one could go on for ever, and nobody else would be asked meanwhile."""
    check_page(Entries("b", last=True), {}, {})
    with pytest.raises(Malformed):
        check_page(Entries("b"), {}, {})

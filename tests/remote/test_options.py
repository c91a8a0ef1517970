"""Options of remote functions and classes: what they mean, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import leoronic
from leoronic.remote import options
from leoronic.remote.remote_call import STREAM


def test_a_shape_is_the_same_for_the_same_needs() -> None:
    """Whatever the order in which they are given."""
    one = options.shape_of({"resources": {"a": 1, "b": 2}, "num_gpus": 1, "memory": "1GiB"}, 1.0)
    two = options.shape_of({"resources": {"gpu": 1, "b": 2, "a": 1}, "memory": 1 << 30}, 1.0)
    assert one == two
    assert (1.0, 1 << 30) == (one.cpus, one.memory)


def test_conditions_as_tasks_have_them() -> None:
    """A list, or a text with all of them."""
    wanted = ("worker:tag far", "worker:not_tag slow")
    for given in (list(wanted), "worker:tag far; worker:not_tag slow"):
        assert wanted == options.shape_of({"conditions": given}, 1.0).conditions


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"num_cpu": 1}, "did you mean num_cpus"),
        ({"num_cpus": -1}, "num_cpus=-1"),
        ({"num_cpus": "many"}, "many"),
        ({"max_retries": -2}, "max_retries"),
        ({"max_retries": True}, "max_retries"),
        ({"num_returns": "all"}, "num_returns"),
        ({"runtime_env": {"conda": "x"}}, "conda"),
        ({"resources": {"a": -1}}, "a=-1"),
        ({"runtime_env": {"env_vars": {"HERE": Path("x")}}}, "HERE"),
        ({"retry_exceptions": "all"}, "retry_exceptions"),
        ({"retry_exceptions": [ValueError, 3]}, "retry_exceptions"),
    ],
)
def test_functions_refuse_what_they_cannot_have(given: dict[str, Any], match: str) -> None:
    """At the decorator, not at the call."""
    with pytest.raises(ValueError, match=match):
        leoronic.remote(**given)(lambda: None)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"max_retries": 1}, "max_re"),
        ({"lifetime": "for ever"}, "lifetime"),
        ({"max_restarts": "no"}, "max_restarts"),
    ],
)
def test_classes_refuse_what_they_cannot_have(given: dict[str, Any], match: str) -> None:
    """At the decorator, too."""
    with pytest.raises(ValueError, match=match):
        leoronic.remote(**given)(dict)


def test_which_exceptions_are_retried() -> None:
    """All, some, or one that is given alone, as with `except`."""
    assert options.retried_exceptions({}) is False
    assert options.retried_exceptions({"retry_exceptions": True}) is True
    assert (OSError,) == options.retried_exceptions({"retry_exceptions": OSError})
    assert (OSError, ValueError) == options.retried_exceptions(
        {"retry_exceptions": [OSError, ValueError]}
    )


def test_how_many_values_a_call_returns() -> None:
    """A generator counts as one that streams, unless something else is said."""
    assert STREAM == options.n_returns("streaming")
    assert 0 == options.n_returns(0)

    def items() -> Any:
        yield 1

    assert STREAM == leoronic.remote(items)._n_returns
    assert 2 == leoronic.remote(num_returns=2)(items)._n_returns


def test_options_make_another_of_the_same() -> None:
    """The first is as it was."""

    @leoronic.remote(max_retries=1)
    def one() -> None:
        pass

    two = one.options(max_retries=5, name="two")
    assert (1, 5) == (one._retries, two._retries)
    assert ("one()", "two()") == (one._label.rpartition(".")[2], two._label)


def test_methods_have_options_of_their_own() -> None:
    """By the decorator `method`."""

    class Some:
        @leoronic.method(num_returns=2, concurrency_group="io")
        def pair(self) -> tuple[int, int]:
            return 1, 2

        def stream(self) -> Any:
            yield 1

        @staticmethod
        def helper() -> None:
            pass

    methods = leoronic.remote(Some)._methods
    assert (2, "io", None, None) == methods["pair"]
    assert STREAM == methods["stream"][0]
    assert {"pair", "stream", "helper"} == set(methods)
    with pytest.raises(ValueError, match="num_return"):
        leoronic.method(num_return=1)


def test_remote_things_are_not_called_directly() -> None:
    """The error says what to do."""
    with pytest.raises(TypeError, match=r"\.remote\(\.\.\.\)"):
        leoronic.remote(lambda: None)()
    with pytest.raises(TypeError, match=r"dict\.remote"):
        leoronic.remote(dict)()
    with pytest.raises(TypeError, match="already"):
        leoronic.remote(leoronic.remote(dict))
    with pytest.raises(TypeError, match="by name"):
        leoronic.remote(1, 2)
    with pytest.raises(TypeError, match="neither"):
        leoronic.remote(num_cpus=1)(7)


def test_importing_leoronic_loads_nothing_of_remote() -> None:
    """Every command of the shell passes through the package."""
    import subprocess
    import sys

    program = "import leoronic, sys; print([m for m in sys.modules if m.startswith('leoronic.')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert b"[]" == done.stdout.strip()


def test_all_names_of_the_package_can_be_had() -> None:
    """None of its lazy names is misspelt."""
    for names in leoronic._PLACES.values():
        for name in names:
            assert getattr(leoronic, name) is not None
    assert set(leoronic._MODULES) <= set(dir(leoronic))
    with pytest.raises(AttributeError):
        leoronic.no_such_thing  # noqa: B018

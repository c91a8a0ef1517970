from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leoronic.core import quantity

MIB = 1024**2


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (12, 12),
        ("12", 12),
        ("12B", 12),
        ("512M", 512 * MIB),
        ("512MB", 512 * MIB),
        ("512 mib", 512 * MIB),
        ("1.5G", 1536 * MIB),
        ("2GiB", 2048 * MIB),
        (" 1T ", 1024**4),
        (".5k", 512),
        (10.2, 11),
        ("1e", 1024**6),
    ],
)
def test_sizes_as_people_write_them(written: object, expected: int) -> None:
    """A size is bytes or a text, prefixes are powers of 1024, and fractions are rounded up."""
    assert expected == quantity.size(written)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "M",
        "12Q",
        "1 2",
        "-1",
        -1,
        True,
        None,
        [],
        "iB",
        "1iB",
        "1e3",
        "9" * 70,
        "٣",
        2**61,
        "2E",
        float("nan"),
        float("inf"),
    ],
)
def test_what_is_no_size(written: object) -> None:
    """What is no size, or is out of range, is refused with a ValueError."""
    with pytest.raises(ValueError, match="size"):
        quantity.size(written)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (90, 90.0),
        (0.25, 0.25),
        ("90", 90.0),
        ("90s", 90.0),
        ("5m", 300.0),
        ("5 min", 300.0),
        ("2h", 7200.0),
        ("1d", 86_400.0),
        ("1h30m", 5400.0),
        ("1H 30M", 5400.0),
        ("250ms", 0.25),
        ("1w", 604_800.0),
        ("1.5h", 5400.0),
    ],
)
def test_durations_as_people_write_them(written: object, expected: float) -> None:
    """A duration is seconds, or a text of amounts with units."""
    assert expected == quantity.duration(written)


@pytest.mark.parametrize(
    "written", ["", "s", "5x", "1h30", "-5s", -1, True, None, {}, float("inf"), "11111w", "5mins"]
)
def test_what_is_no_duration(written: object) -> None:
    """What is no duration, or is out of range, is refused with a ValueError."""
    with pytest.raises(ValueError, match="duration"):
        quantity.duration(written)


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (512 * MIB, "512 MiB"),
        (1536 * MIB, "1.5 GiB"),
        (1300 * MIB, "1.27 GiB"),
    ],
)
def test_sizes_for_people(size_bytes: int, expected: str) -> None:
    """A size is shown in the largest unit it reaches."""
    assert expected == quantity.format_size(size_bytes)


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [
        (0, "0 s"),
        (0.25, "250 ms"),
        (1.5, "1.5 s"),
        (90, "1 min 30 s"),
        (5400, "1 h 30 min"),
        (90_061, "1 d 1 h 1 min 1 s"),
    ],
)
def test_durations_for_people(duration_s: float, expected: str) -> None:
    """A duration is shown in all the units it takes, empty ones left out."""
    assert expected == quantity.format_duration(duration_s)


@given(st.integers(0, quantity.SIZE_MAX))
def test_a_formatted_size_reads_back(size_bytes: int) -> None:
    """What format_size shows is a size again, within a percent."""
    back = quantity.size(quantity.format_size(size_bytes))
    assert abs(back - size_bytes) <= size_bytes / 100 + 1


@given(st.integers(0, int(quantity.DURATION_S_MAX)))
def test_a_formatted_duration_reads_back(duration_s: int) -> None:
    """What format_duration shows of whole seconds reads back as exactly these."""
    assert duration_s == quantity.duration(quantity.format_duration(duration_s))


@given(st.text())
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    """No text does anything but parse or raise ValueError."""
    for parse in (quantity.size, quantity.duration):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0

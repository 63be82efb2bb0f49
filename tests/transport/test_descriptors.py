"""Calls that are given up leave no descriptor. ``python -m tests.stress.descriptors`` is the long form."""

import asyncio

import pytest

from ..stress import descriptors


@pytest.mark.parametrize("end", descriptors.END)
@pytest.mark.parametrize("how", descriptors.HOW)
@pytest.mark.parametrize("transport", descriptors.TRANSPORTS)
def test_calls_that_are_given_up_leave_no_descriptor(transport, how, end):
    with descriptors.silent_server() as url:
        row = asyncio.run(descriptors.measure(url, transport, how, end, rounds=2, calls=40))
    assert row.most > 0
    assert row.left <= 0

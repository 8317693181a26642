"""Four tests, three of them marked: which are run, and what is said of the others?"""

import pytest


def test_short():
    pass


@pytest.mark.timing
def test_timing():
    pass


@pytest.mark.long
def test_long():
    pass


@pytest.mark.long
def test_long_too():
    pass

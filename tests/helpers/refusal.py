"""A refusal that helps: of the right class, in one line, and naming what is wrong and the cure."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pyro_dwp.errors import DataError, PyroDwpError


@contextmanager
def refuses(*tokens: str, error: type[PyroDwpError] = DataError) -> Iterator[None]:
    """Check that the block raises an error of this class whose one line holds every token."""
    with pytest.raises(error) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    assert [token for token in tokens if token not in message] == [], message

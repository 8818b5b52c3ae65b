"""Which tests pytest-xdist may send to different workers.

Tests of a file that share an expensive beginning, as a start of torchrun, go to one worker, so that it is paid once;
all others are sent one by one.
"""

from typing import Any

import pytest

TOGETHER = ("tests/distributed/", "tests/recipes/nano/")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return pytest-xdist's own scheduler of groups, told what a group is."""
    from xdist.scheduler import LoadScopeScheduling

    class ByCost(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:  # the method that pytest-xdist documents for this
            return nodeid.partition("::")[0] if nodeid.startswith(TOGETHER) else nodeid

    return ByCost(config, log)

"""Work on many items in threads, in order, with few of them in memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

#: Items in flight for each thread: a slow one does not make the others wait.
_AHEAD = 8


def ordered(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Calls `function` on every item and returns the results in the order of the items.

    What is in flight at any time is bounded, so that memory does not grow with the items.

    Args:
        function: Called in threads.
        items: Taken one by one, as results are asked for.
        threads: How many there are.

    Raises:
        Exception: What `function` raised first, in the order of the items.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="prepare") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= _AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

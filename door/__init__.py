"""What stands between the network and the routes: who may ask, how much at once, which URLs, and what is said of it all."""

from door.admission import Admission, Held
from door.beside import beside
from door.connections import bound_heads
from door.entrance import Entrance, Rules
from door.fetching import Fetcher
from door.keys import Access
from door.page_rules import PageRules
from door.rates import Rates
from door.recall import RecallWatch
from door.typed import Typed

__all__ = [
    "Access",
    "Admission",
    "Entrance",
    "Fetcher",
    "Held",
    "PageRules",
    "Rates",
    "RecallWatch",
    "Rules",
    "Typed",
    "beside",
    "bound_heads",
]

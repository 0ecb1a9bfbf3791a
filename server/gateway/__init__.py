"""What stands between the network and the routes: who may ask, how much at once, which URLs, and what is said of it all."""

from server.api.responses import Typed
from server.api.system_routes import beside
from server.gateway.admission import Admission, Held
from server.gateway.auth import Access
from server.gateway.demo_access import PageRules
from server.gateway.middleware import Entrance, Rules
from server.gateway.rate_limit import Rates
from server.gateway.url_fetcher import Fetcher
from server.runtime.patches.uvicorn import bound_heads
from server.telemetry.recall_monitor import RecallWatch

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

"""The request gateway: who may ask, how much at once, which URLs are fetched, and how errors leave."""

from server.gateway.admission import QueueAdmission
from server.gateway.auth import Authenticator
from server.gateway.body_budget import BodyBudget
from server.gateway.demo_access import DemoAccess
from server.gateway.middleware import Gateway, GatewayConfig
from server.gateway.rate_limit import RateLimiter
from server.gateway.url_fetcher import UrlFetcher

__all__ = [
    "Authenticator",
    "BodyBudget",
    "DemoAccess",
    "Gateway",
    "GatewayConfig",
    "QueueAdmission",
    "RateLimiter",
    "UrlFetcher",
]

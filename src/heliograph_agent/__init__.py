"""The reference device agent; imports only the protocol."""

from heliograph_agent.agent import Agent
from heliograph_agent.config import AgentConfig, Broker, LineKind
from heliograph_agent.effector import Effector, Result, SimulatedEffector
from heliograph_agent.journal import JournalError, JournalInUse
from heliograph_agent.lines import http_client

__all__ = [
    "Agent",
    "AgentConfig",
    "Broker",
    "Effector",
    "JournalError",
    "JournalInUse",
    "LineKind",
    "Result",
    "SimulatedEffector",
    "http_client",
]

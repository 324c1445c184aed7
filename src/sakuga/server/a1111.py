"""The routes of A1111's web UI, /sdapi/v1."""

from __future__ import annotations

from fastapi import APIRouter

from sakuga.server.service import Service


def router(service: Service) -> APIRouter:
    """The routes."""
    return APIRouter(prefix="/sdapi/v1", tags=[f"A1111, for {service.name}"])

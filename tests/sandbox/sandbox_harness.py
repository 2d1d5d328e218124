"""Harness of the sandbox tests: a manual clock, and a client that speaks plain HTTP."""

from __future__ import annotations

from typing import Any

import aiohttp
from attrs import define, frozen

from wxtcb.sandbox import Sandbox

TOKEN = "/cgi-bin/component/api_component_token"
PUSH = "/cgi-bin/component/api_start_push_ticket"
CREATE = "/componenttcb/createenv"
LIST = "/componenttcb/describeenvs"
SHARE = "/componenttcb/batchshareenv"
RELATIONS = "/componenttcb/batchgetenvid"
SERVICES = "/componenttcb/getcslist"
ESTABLISH = "/componenttcb/establishcloudbaserunserver"


@define
class Clock:
    """A clock that advances only when a test advances it."""

    now: float = 1_200_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@frozen
class Harness:
    """A sandbox, its clock and a client."""

    sandbox: Sandbox
    clock: Clock
    http: aiohttp.ClientSession

    async def post(self, path: str, body: object, **query: str) -> dict[str, Any]:
        """Post JSON and return the JSON reply, error or not."""
        async with self.http.post(path, json=body, params=query) as reply:
            assert reply.status == 200
            content: dict[str, Any] = await reply.json(content_type=None)
            return content

    async def call(self, path: str, body: object) -> dict[str, Any]:
        """Post JSON with a freshly issued token."""
        return await self.post(path, body, access_token=self.sandbox.world.issue_token())

    def account(self) -> dict[str, str]:
        """Return the body of a token request."""
        return {
            "component_appid": self.sandbox.component_appid,
            "component_appsecret": self.sandbox.component_appsecret,
            "component_verify_ticket": self.sandbox.ticket,
        }

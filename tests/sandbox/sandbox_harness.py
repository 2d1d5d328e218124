"""What the tests of the sandbox share: a clock moved by hand, and a client that speaks plain HTTP."""

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
    """Seconds that pass only when a test says so."""

    now: float = 1_200_000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@frozen
class Rig:
    """A sandbox, its clock and a client."""

    box: Sandbox
    clock: Clock
    http: aiohttp.ClientSession

    async def post(self, path: str, body: object, **query: str) -> dict[str, Any]:
        """Post JSON and return the JSON answered, whatever it says."""
        async with self.http.post(path, json=body, params=query) as reply:
            assert reply.status == 200
            answer: dict[str, Any] = await reply.json(content_type=None)
            return answer

    async def call(self, path: str, body: object) -> dict[str, Any]:
        """Post JSON with a token that was just minted."""
        return await self.post(path, body, access_token=self.box.world.issue_token())

    def account(self) -> dict[str, str]:
        """Return the body that buys a token."""
        box = self.box
        return {
            "component_appid": box.component_appid,
            "component_appsecret": box.component_appsecret,
            "component_verify_ticket": box.ticket,
        }

"""Handlers of the environment calls: createenv, describeenvs, modifyenv, usecloudaccesstoken, and sharing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.request import Body
from wxtcb.sandbox.world import Handler, World

_ALIAS: Final = re.compile(r"[a-z][a-zA-Z0-9-]*")


def create_env(world: World, body: Body) -> Mapping[str, object]:
    """Create an environment; a second one with the same alias is created, and billed, too."""
    alias = body.string("alias")
    if _ALIAS.fullmatch(alias) is None:
        raise platform_error(40097, "alias must start with a-z and contain only a-zA-Z0-9-")
    tranid, env = world.create(alias, body.optional_string("EnvType"))
    return {"tranid": tranid, "env": env}


def describe_envs(world: World, _body: Body) -> bytes:
    """List every visible environment; the first listing starts the initialisation of a new one."""
    # The registry caches the encoded rows, so the reply is joined and not encoded again.
    return b'{"errcode":0,"errmsg":"ok","info_list":' + world.poll_environments() + b"}"


def share_envs(world: World, body: Body) -> Mapping[str, object]:
    """Offer environments to mini programs; pairs that fail are listed in `err_list`, with errcode 0."""
    failed: list[dict[str, str]] = []
    links: list[dict[str, str]] = []
    for item in body.objects("data"):
        env = item.string("env")
        for appid in item.strings("appids"):
            if env not in world.environments or not world.is_authorised(appid):
                error = "invalid appid" if env in world.environments else "invalid env"
                failed.append({"env": env, "appid": appid, "errmsg": error})
            else:
                share = world.share(env, appid, body.fields.get("source_type"))
                links.append({"appid": appid, "url": share.url})
    return {"err_list": failed, "msg_info_list": links}


def unshare_envs(world: World, body: Body) -> Mapping[str, object]:
    """Withdraw environments from mini programs; pairs that were not shared are listed in `err_list`."""
    source_type = body.fields.get("source_type")
    pairs = [(item.string("env"), appid) for item in body.objects("data") for appid in item.strings("appids")]
    failed = [(env, appid) for env, appid in pairs if not world.unshare(env, appid, source_type)]
    return {"err_list": [{"env": env, "appid": appid, "errmsg": "not shared"} for env, appid in failed]}


def get_shares(world: World, body: Body) -> Mapping[str, object]:
    """List the environments that each mini program may use: those whose share its administrator has confirmed."""
    source_type = body.fields.get("source_type")
    # A repeated appid has one row in the reply.
    known = [appid for appid in dict.fromkeys(body.strings("appids")) if world.is_authorised(appid)]
    failed = [{"appid": appid, "errmsg": "invalid appid"} for appid in body.strings("appids") if appid not in known]
    relations: dict[str, list[str]] = {appid: [] for appid in known}
    for share in world.confirmed_shares():
        if share.appid in relations and source_type in (None, share.source_type):
            relations[share.appid].append(share.env)
    rows = [{"appid": appid, "env_list": envs} for appid, envs in relations.items()]
    return {"relation_data": rows, "err_list": failed}


HANDLERS: Final[dict[str, Handler]] = {
    "/componenttcb/createenv": create_env,
    "/componenttcb/describeenvs": describe_envs,
    "/componenttcb/batchshareenv": share_envs,
    "/componenttcb/batchunshareenv": unshare_envs,
    "/componenttcb/batchgetenvid": get_shares,
    "/tcb/modifyenv": lambda world, body: world.access_token_policies.enable_for_mini_programs(body.string("env")),
    "/tcb/usecloudaccesstoken": lambda world, body: world.access_token_policies.get_or_set(body),
}

"""Types of cloud functions; checked by type checkers, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, assert_type

from wxtcb import Done, Secret, Session
from wxtcb.api import functions
from wxtcb.api.functions import (
    Code,
    EnvFailure,
    Function,
    FunctionConfig,
    InvocationResult,
    MultiEnvResult,
    PublicNet,
    Trigger,
)


async def code() -> None:
    """Package code."""
    assert_type(await functions.pack("site"), Code)
    assert_type(await functions.pack(Path("site"), exclude={".git", "node_modules"}), Code)
    assert_type(await Code.from_zip(b"PK"), Code)
    assert_type(await Code.from_zip(Path("x.zip")), Code)
    assert_type(Code(b"PK").base64, str)
    await functions.pack(b"site")  # type: ignore[arg-type]
    Code("x.zip")  # type: ignore[arg-type]
    Code(b"PK", base64="UEsD")  # type: ignore[call-arg]
    Code(b"PK").data = b""  # type: ignore[misc]


async def deploying(session: Session, made: Code) -> None:
    """Create, change and delete functions."""
    rollout = await functions.batch_upload_scf(session, ["e"], "f", made, vpc_id="v", subnet_id="s")
    assert_type(rollout, MultiEnvResult)
    assert_type(rollout.failed, Sequence[EnvFailure])
    assert_type(rollout.err_list[0].errmsg, str)
    assert_type(await functions.batch_upload_scf_code(session, iter(["e"]), "f", made), MultiEnvResult)
    net = PublicNet(public_net_status="ENABLE", eip_status="DISABLE")
    config = FunctionConfig(memory_size=256, environment_variables={"a": "b", "c": Secret("d")}, public_net=net)
    assert_type(config.environment_variables, Mapping[str, Secret] | None)
    assert_type(await functions.update_scf_config(session, "e", "f", config), Done)
    assert_type(await functions.delete_scf(session, "e", "f"), Done)
    await functions.batch_upload_scf(session, ["e"], "f", b"PK")  # type: ignore[arg-type]
    await functions.batch_upload_scf(session, ["e"], "f", made, "v")  # type: ignore[call-arg]
    await functions.batch_upload_scf_code(session, ["e"], "f", b"PK")  # type: ignore[arg-type]
    await functions.delete_scf(session, ["e"], "f")  # type: ignore[arg-type]
    await functions.update_scf_config(session, "e", "f", {"timeout": 5})  # type: ignore[arg-type]
    FunctionConfig(256)  # type: ignore[call-arg]
    FunctionConfig(memory_size="256")  # type: ignore[arg-type]
    FunctionConfig(environment_variables={"a": 1})  # type: ignore[dict-item]
    PublicNet(public_net_status="on", eip_status="DISABLE")  # type: ignore[arg-type]


async def listing(session: Session) -> None:
    """List and wait."""
    listed = await functions.get_scf_list(session, "e", offset=0, limit=20, search_key="f")
    assert_type(listed, functions.FunctionList)
    assert_type(listed.total_count, int)
    assert_type(listed.functions, tuple[Function, ...])
    assert_type(functions.iter_functions(session, "e"), AsyncIterator[Function])
    found = await functions.wait_until_active(session, "e", "f", timeout=60, interval=1)
    assert_type(found, Function)
    assert_type(found.status_reason[0].errcode, str)
    await functions.get_scf_list(session, "e", 0)  # type: ignore[call-arg]
    await functions.wait_until_active(session, "e")  # type: ignore[call-arg]


async def triggers(session: Session) -> None:
    """Set and read triggers."""
    timer = Trigger(trigger_name="nightly", config="0 0 2 * * * *")
    assert_type(await functions.batch_update_triggers(session, ["e"], "f", [timer]), MultiEnvResult)
    found = await functions.get_triggers(session, "e", "f")
    assert_type(found, functions.Triggers)
    assert_type(found.triggers[0].is_timer, bool)
    await functions.get_triggers(session, "e")  # type: ignore[call-arg]
    Trigger(trigger_name="a", config="0", type="Timer")  # type: ignore[call-arg]
    await functions.batch_update_triggers(session, ["e"], "f", found.triggers)  # type: ignore[arg-type]


async def invoking(session: Session) -> None:
    """Invoke a function."""
    invoked = await functions.invoke_cloud_function(session, "e", "f", {"a": None}, token=Secret("t"))
    assert_type(invoked, InvocationResult)
    assert_type(invoked.resp_data, str | None)
    assert_type(invoked.result, Any)
    assert_type(invoked.is_json, bool)
    for event in (None, b"raw", "text", [1, 2], {"a": 1}):
        await functions.invoke_cloud_function(session, "e", "f", event)
    await functions.invoke_cloud_function(session, "e", "f", 5)  # type: ignore[arg-type]
    await functions.invoke_cloud_function(session, "e", "f", None, "t")  # type: ignore[call-arg]

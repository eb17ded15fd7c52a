"""
The straight line of a request: name -> catalog entry -> policy -> provider -> raw result.

    gateway ── target() ──> who is meant, and what it is called there      (memory only)
            ── send()   ──> policy ──> limits ──> provider ──> session ──> downstream
                                                     └────> audit

Nothing here waits for anything but the provider, the cache for a tool whose results are kept, and a
person where one has to approve the call.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, Final, Protocol

from trunkline.catalog.catalog import Catalog
from trunkline.catalog.offer import Entry
from trunkline.catalog.view import View
from trunkline.errors import InvalidArguments, TrunklineError
from trunkline.kept_results import KeptResults
from trunkline.models import Caller, Client, Json, Principal
from trunkline.providers.provider import Provider
from trunkline.security.approvals.questions import RiskyCall
from trunkline.security.audit.entries import Event
from trunkline.security.gate import Gate, Record
from trunkline.security.policy.failures import PolicyDenied
from trunkline.security.policy.policy import Action, Decision

OURS: Final = "trunkline"
"""The server that the audit and the limits know the gateway's own tools by."""


class OnCall(Protocol):
    """Hears of a call: whose, of what, how many seconds it took, and whether it failed."""

    def __call__(self, org: str | None, entry: Entry, seconds: float, *, failed: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes, and how it reads there."""

    provider: Provider
    method: str
    params: Json
    entry: Entry
    repeatable: bool
    """Whether running it twice does no harm."""


class Dispatch:
    """Finds the provider a request means and carries the request there."""

    def __init__(
        self, catalog: Catalog, *, gate: Gate | None = None, on_call: OnCall | None = None
    ) -> None:
        """
        *gate* is what every request has to pass; with None there is none.

        *on_call* hears of every call of a tool that has ended.
        """
        self._catalog, self.gate, self._on_call = catalog, gate, on_call
        self.results: KeptResults | None = None
        """Where results of tools are kept; None keeps none."""

    def target(self, method: str, params: Json, client: Client) -> Target:
        """
        Find out what a request means, as this client sees the catalog.

        Raises `NotFound` with similar names, or `InvalidArguments`.
        """
        try:
            view = self._catalog.snapshot.seen_by(client.principal)
            entry, theirs = _RESOLVE[method](view, params)
        except TrunklineError as error:
            self.enter_refused(method, params, client, error)
            raise
        repeatable = method != "tools/call" or entry.is_safe_to_repeat
        return Target(self._catalog.provider_of(entry), method, theirs, entry, repeatable)

    async def send(self, target: Target, caller: Caller) -> Json:
        """
        Carry a request to its provider, if it passes.

        Raises `RpcError` or `DownstreamError`, and what the gate refuses with: `CallRefused`,
        `LimitReached`, `AuditFull`, ...
        """
        return await self._passed(target, caller, self._answer)

    async def subscribe(self, target: Target, caller: Caller) -> str:
        """
        Have changes of a resource reported, if it may be read. Raises like `send`.

        Returns the audience whose reports the caller is to hear.
        """
        audience: list[str] = []

        async def run(target: Target, caller: Caller) -> Json:
            audience.append(await target.provider.subscribe(target.params["uri"], caller))
            return {}

        await self._passed(target, caller, run)
        return audience[0]

    async def _passed(
        self, target: Target, caller: Caller, run: Callable[[Target, Caller], Awaitable[Json]]
    ) -> Json:
        if (gate := self.gate) is None:
            return await run(target, caller)
        principal, entry = caller.client.principal, target.entry
        await gate.audit.room(principal)
        with self._record(gate, target, principal) as record:
            decision = self._decide(gate, target, principal)
            with gate.limits.admit(principal, entry.provider, entry.own, target.params) as admitted:
                if decision.action is Action.ASK:
                    await gate.approvals.require(_risky(target, decision), caller)
                result = record.result = await run(target, caller)
                return gate.results.fit(target.method, result, principal, admitted.result_bytes)

    def may_ask(self, target: Target, client: Client) -> bool:
        """Whether a request of a modern client can end in a question, so has to be held open."""
        if target.provider.may_ask(client):
            return True
        gate = self.gate
        if gate is None or target.method != "tools/call" or not gate.approvals.asks(client):
            return False
        try:
            return self._decide(gate, target, client.principal).action is Action.ASK
        except PolicyDenied:
            return False

    async def _answer(self, target: Target, caller: Caller) -> Json:
        if target.method == "tools/call" and self._on_call is not None:
            return await self._counted(target, caller, self._on_call)
        result = await self._ask(target, caller)
        if target.method == "resources/read" and target.entry.name != target.entry.own:
            return _rename_contents(result, target)
        return result

    async def _counted(self, target: Target, caller: Caller, on_call: OnCall) -> Json:
        began, failed = perf_counter(), True
        try:
            result = await self._ask(target, caller)
            failed = result.get("isError") is True
            return result
        finally:
            org = caller.client.org
            on_call(org, target.entry, perf_counter() - began, failed=failed)

    async def _ask(self, target: Target, caller: Caller) -> Json:
        send = target.provider.request
        results = self.results
        if results is not None and target.method == "tools/call" and results.may_keep(target.entry):
            ask = partial(send, target.method, target.params, repeatable=target.repeatable)
            return await results.call(target.entry, target.provider, target.params, caller, ask)
        return await send(target.method, target.params, caller, repeatable=target.repeatable)

    def kept(self, params: Json, client: Client) -> Json | None:
        """The rest of a result that was too large to be sent; None if none is asked for."""
        uri, gate = params.get("uri"), self.gate
        if gate is None or not gate.results.owns(uri):
            return None
        values = {"server": OURS, "own_name": uri, "name": uri}
        with Record(gate.audit, "resources/read", client.principal, **values) as record:
            record.result = gate.results.read(str(uri), client.principal)
            return record.result

    # -- the gate -----------------------------------------------------------------------------

    def _decide(self, gate: Gate, target: Target, principal: Principal) -> Decision:
        """What the policy says. Raises `PolicyDenied`."""
        entry, provider = target.entry, target.provider
        if target.method != "tools/call":
            return gate.decide_reading(principal, entry.provider, entry.own)
        return gate.decide(
            principal,
            entry.provider,
            entry.own,
            entry.definition,
            is_plugin=provider.is_plugin,
            configured=provider.rules.risk,
        )

    def _record(self, gate: Gate, target: Target, principal: Principal) -> Record:
        entry = target.entry
        return Record(
            gate.audit,
            target.method,
            principal,
            server=entry.provider,
            own_name=entry.own,
            name=entry.name,
            arguments=target.params.get("arguments"),
        )

    def enter_refused(
        self, method: str, params: Json, client: Client, error: TrunklineError
    ) -> None:
        """Somebody asked for what is not there, is not theirs, or cannot be understood."""
        if self.gate is not None:
            asked = params.get("name", params.get("uri"))
            name = asked if isinstance(asked, str) else None
            event = Event.ended(method, client.principal, error=error, name=name)
            self.gate.audit.record(event)

    async def own(
        self, name: str, arguments: Any, caller: Caller, run: Callable[[], Awaitable[Json]]
    ) -> Json:
        """Run a tool of the gateway's own: within the limits, and entered. Raises like `send`."""
        if (gate := self.gate) is None:
            return await run()
        principal = caller.client.principal
        await gate.audit.room(principal)
        entered = arguments if isinstance(arguments, dict) else None
        with (
            Record(
                gate.audit,
                "tools/call",
                principal,
                server=OURS,
                own_name=name,
                name=name,
                arguments=entered,
            ) as record,
            gate.limits.admit(principal, OURS, name, arguments),
        ):
            record.result = await run()
            return record.result

    async def request(self, method: str, params: Json, caller: Caller) -> Json:
        """`target` and `send` in one. Raises what they raise."""
        return await self.send(self.target(method, params, caller.client), caller)


def _risky(target: Target, decision: Decision) -> RiskyCall:
    entry = target.entry
    return RiskyCall(
        server=entry.provider,
        tool=entry.own,
        arguments=_asked_with(target),
        definition=entry.definition,
        risk=decision.risk,
        method=target.method,
    )


def _asked_with(target: Target) -> Json:
    """What a person is shown of a request beside its target."""
    if target.method in ("resources/read", "resources/subscribe"):
        return {"uri": target.params["uri"]}
    return target.params.get("arguments") or {}


def _text(params: Mapping[str, Any], key: str, method: str) -> str:
    value = params.get(key)
    if not isinstance(value, str):
        raise InvalidArguments(f"{method} needs {key!r}, a string; it got {_kind_of(value)}.")
    return value


def _named(params: Json, method: str, find: Callable[[str], Entry]) -> tuple[Entry, Json]:
    """A tool or a prompt: found by its name, with arguments that have to be an object."""
    name = _text(params, "name", method)
    arguments = params.get("arguments")
    entry = find(name)
    if arguments is not None and not isinstance(arguments, dict):
        raise InvalidArguments(
            f"The arguments of {name!r} must be an object; they are {_kind_of(arguments)}."
        )
    return entry, {**params, "name": entry.own}


def _tool(view: View, params: Json) -> tuple[Entry, Json]:
    return _named(params, "tools/call", view.tool)


def _prompt(view: View, params: Json) -> tuple[Entry, Json]:
    return _named(params, "prompts/get", view.prompt)


def _resource(view: View, params: Json) -> tuple[Entry, Json]:
    entry, uri = view.resource(_text(params, "uri", "resources/read"))
    return entry, {**params, "uri": uri}


def _completion(view: View, params: Json) -> tuple[Entry, Json]:
    ref = params.get("ref")
    if not isinstance(ref, dict):
        raise InvalidArguments("completion/complete needs 'ref', an object.")
    if ref.get("type") == "ref/prompt":
        entry = view.prompt(_text(ref, "name", "completion/complete"))
        return entry, {**params, "ref": {**ref, "name": entry.own}}
    if ref.get("type") == "ref/resource":
        entry = view.template(_text(ref, "uri", "completion/complete"))
        return entry, {**params, "ref": {**ref, "uri": entry.own}}
    raise InvalidArguments(
        f"completion/complete knows ref/prompt and ref/resource, not {ref.get('type')!r}."
    )


_RESOLVE: Final[Mapping[str, Callable[[View, Json], tuple[Entry, Json]]]] = {
    "tools/call": _tool,
    "prompts/get": _prompt,
    "resources/read": _resource,
    "resources/subscribe": _resource,
    "resources/unsubscribe": _resource,
    "completion/complete": _completion,
}


def _kind_of(value: Any) -> str:
    """How a person calls the type of a JSON value."""
    if value is None:
        return "missing"
    names = {str: "a string", list: "a list", dict: "an object", bool: "true or false"}
    return names.get(type(value), "a number")


def _rename_contents(result: Json, target: Target) -> Json:
    """Give the contents of a resource the URI under which the client asked for it."""
    sent, contents = target.params["uri"], result.get("contents")
    if not isinstance(contents, list) or sent != target.entry.own:
        return result
    shown = target.entry.name
    renamed = [
        {**item, "uri": shown} if isinstance(item, dict) and item.get("uri") == sent else item
        for item in contents
    ]
    return {**result, "contents": renamed}

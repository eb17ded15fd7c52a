"""
The straight line of a request: name -> catalog entry -> provider -> raw result.

    gateway ── target() ──> who is meant, and what it is called there      (memory only)
            ── send()   ──> provider ──> session ──> downstream

Nothing here waits for anything but the provider, or the cache for a tool whose results are kept.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, Final, Protocol

from trunkline.catalog.catalog import Catalog
from trunkline.catalog.offer import Entry
from trunkline.catalog.view import View
from trunkline.errors import InvalidArguments
from trunkline.kept_results import KeptResults
from trunkline.models import Caller, Client, Json
from trunkline.providers.provider import Provider


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

    def __init__(self, catalog: Catalog, *, on_call: OnCall | None = None) -> None:
        """*on_call* hears of every call of a tool that has ended."""
        self._catalog, self._on_call = catalog, on_call
        self.results: KeptResults | None = None
        """Where results of tools are kept; None keeps none."""

    def target(self, method: str, params: Json, client: Client) -> Target:
        """
        Find out what a request means, as this client sees the catalog.

        Raises `NotFound` with similar names, or `InvalidArguments`.
        """
        entry, theirs = _RESOLVE[method](self._catalog.snapshot.view(client.org), params)
        repeatable = method != "tools/call" or entry.is_safe_to_repeat
        return Target(self._catalog.provider_of(entry), method, theirs, entry, repeatable)

    async def send(self, target: Target, caller: Caller) -> Json:
        """Carry a request to its provider. Raises `RpcError` or `DownstreamError`."""
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

    async def request(self, method: str, params: Json, caller: Caller) -> Json:
        """`target` and `send` in one. Raises what they raise."""
        return await self.send(self.target(method, params, caller.client), caller)


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

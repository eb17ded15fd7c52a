"""The arguments of the gateway's own tools, checked before anything is done with them."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from trunkline.errors import InvalidArguments

M = TypeVar("M", bound=BaseModel)


def checked(model: type[M], tool: str, arguments: Any) -> M:
    """*arguments* as *model* has them. Raises `InvalidArguments` with the first that is wrong."""
    try:
        return model.model_validate(arguments)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "arguments"
        raise InvalidArguments(f"{tool}: {where}: {first['msg']}.") from None
